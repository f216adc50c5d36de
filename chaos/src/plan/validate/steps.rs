//! Which steps can be carried out, each by itself and beside the others.
//!
//! Invariant: no more nodes are away at once than a quorum can spare, unless the plan says that a
//! majority may be lost, and no majority ever loses its memory.

use super::DURATION_MS_MAX;
use crate::{
    fault::{CrashPoint, Fault, NodeNumber, Target},
    plan::{
        At, Plan, PlanError, Step, StorageKind, WorkloadPlan, all, consensus, disks, field,
        forgets, packets, within,
    },
};

pub(super) fn step(
    plan: &Plan,
    load: &WorkloadPlan,
    number: usize,
    step: &Step,
) -> Result<(), PlanError> {
    let name = |part: &str| format!("steps[{number}].{part}");
    all::check(plan, step, name)?;
    if step.fault.hits_links() && plan.nodes < 2 {
        let allowed = "of one node there is no link to cut or to hurt: nodes must be at least 2";
        return Err(field(&name("fault"), step.fault, allowed));
    }
    if step.target == Target::Follower && plan.nodes < 2 {
        let allowed = "of one node none follows: use \"leader\", or nodes must be at least 2";
        return Err(field(&name("target"), step.target, allowed));
    }
    let voters_min = u64::from(consensus(plan).voters_min);
    if step.changes_members() && plan.nodes < voters_min {
        let allowed = format!(
            "of {} nodes none can be spared for good: who is a member changes among {voters_min} \
             or more (voters_min)",
            plan.nodes
        );
        return Err(field(&name("fault"), step.fault, allowed));
    }
    let tolerated = tolerated(plan);
    let takes_away = packets::away(plan, step) > 0;
    if tolerated == 0 && takes_away && !plan.expect.majority_may_be_lost {
        let allowed = format!(
            "1 of {} nodes is no minority: faults need at least 3 nodes, or a plan that says \
                 expect.majority_may_be_lost = true",
            plan.nodes
        );
        return Err(field(&name("fault"), step.fault, allowed));
    }
    let needs_store = step.fault.changes_members() || step.fault == Fault::Disk;
    if plan.storage == StorageKind::Memory && needs_store {
        let allowed = "it is for nodes that keep a store: use storage = \"disk\"";
        let value = format!("{} with storage = \"memory\"", step.fault);
        return Err(field(&name("fault"), value, allowed));
    }
    if forgets(plan, step.fault) {
        let remembered = Remembered { tolerated, forget: 1 };
        remembered.check(plan, step.fault, &name("fault"))?;
        if step.point != CrashPoint::Any {
            let allowed = "in memory nothing is on its way to a disk: use storage = \"disk\"";
            return Err(field(&name("point"), step.point, allowed));
        }
    }
    if let Target::Node(NodeNumber(node)) = step.target {
        within(&name("target.node"), node, 1, plan.nodes)?;
    }
    packets::check(plan, step, name)?;
    disks::check(step, name)?;
    let return_after_ms = step.return_after_ms.of(plan.profile);
    within(&name("return_after_ms"), return_after_ms, 1, DURATION_MS_MAX)?;
    let (_, latest) = window(plan, load, step.at);
    let end = latest.saturating_add(return_after_ms).saturating_add(RETURN_MARGIN_MS);
    let load_ms = load.duration_ms.of(plan.profile);
    if end > load_ms {
        let allowed = format!(
            "the fault may come as late as {latest} ms, and the node must be back \
             {RETURN_MARGIN_MS} ms before the trial ends at {load_ms} ms (workload.duration_ms, \
             --duration)"
        );
        return Err(field(&name("return_after_ms"), return_after_ms, allowed));
    }
    Ok(())
}

/// How many nodes of a group may lose what they know before one of them is a voter again.
struct Remembered {
    tolerated: u64,
    forget: u64,
}

impl Remembered {
    /// What a majority alone knew is gone with its memory, and no return brings it back.
    fn check(&self, plan: &Plan, fault: Fault, name: &str) -> Result<(), PlanError> {
        let Self { tolerated, forget } = self;
        if forget <= tolerated {
            return Ok(());
        }
        let allowed = format!(
            "of {} nodes {tolerated} may lose their memory in one trial, and {forget} would: the \
             others must know all that was acknowledged until the new servers vote. Use \
             storage = \"disk\", more nodes, or fault = \"pause\"",
            plan.nodes
        );
        Err(field(name, format!("{fault} with storage = \"memory\""), allowed))
    }
}

/// No more nodes may be away at once than a quorum can spare, and none twice.
pub(super) fn overlapping(plan: &Plan, load: &WorkloadPlan) -> Result<(), PlanError> {
    let mut remembered = Remembered { tolerated: tolerated(plan), forget: 0 };
    for (number, step) in plan.steps.iter().enumerate() {
        if let Some(fault) = forgetting(plan, step) {
            remembered.forget += 1;
            remembered.check(plan, fault, &format!("steps[{number}].fault"))?;
        }
    }
    let lasts = |step: &Step| match forgetting(plan, step) {
        // The node is back then, but votes only once its new server was promoted: when that is,
        // nobody knows, but the next trial waits for it.
        Some(_) => (lasts(plan, load, step).0, load.duration_ms.of(plan.profile)),
        None => lasts(plan, load, step),
    };
    for (number, step) in plan.steps.iter().enumerate() {
        let (from, _) = lasts(step);
        let mut away = away(plan, step);
        let takes_nobody = away == 0;
        // The number that is away at once is greatest where one begins.
        let others = plan.steps.iter().enumerate().filter(|(other, candidate)| {
            let (start, end) = lasts(candidate);
            *other != number && start <= from && from <= end
        });
        for (other, candidate) in others {
            let also_away = self::away(plan, candidate);
            away += also_away;
            let is_given = matches!(step.target, Target::Node(_) | Target::All);
            let same = is_given && step.target == candidate.target;
            if same && !takes_nobody && also_away > 0 {
                let held = if step.target == Target::All { "them" } else { "that node" };
                let allowed = format!("step {other} may still hold {held} down");
                return Err(field(&format!("steps[{number}].target"), step.target, allowed));
            }
        }
        let may_be_lost = plan.expect.majority_may_be_lost;
        if away > tolerated(plan) && !takes_nobody && !may_be_lost {
            let value = format!("the beginning of the fault on {away} nodes at once");
            let allowed = format!(
                "{} nodes can spare {}: let one return before the next is hit",
                plan.nodes,
                tolerated(plan)
            );
            return Err(field(&format!("steps[{number}].at"), value, allowed));
        }
    }
    Ok(())
}

/// A fault that the step may come to and that costs a node what it knows.
fn forgetting(plan: &Plan, step: &Step) -> Option<Fault> {
    step.each().iter().map(|drawn| drawn.fault).find(|fault| forgets(plan, *fault))
}

/// How many nodes the step takes away from the majority, whomever it hits and whatever is drawn.
pub fn away(plan: &Plan, step: &Step) -> u64 {
    step.each().iter().map(|drawn| packets::away(plan, drawn)).max().unwrap_or(0)
}

/// The earliest moment at which the step may strike, and the latest at which it may be over.
pub(in crate::plan) fn lasts(plan: &Plan, load: &WorkloadPlan, step: &Step) -> (u64, u64) {
    let (earliest, latest) = window(plan, load, step.at);
    (earliest, latest.saturating_add(step.return_after_ms.of(plan.profile)))
}

/// The earliest and the latest moment that `at` may mean, in milliseconds.
fn window(plan: &Plan, load: &WorkloadPlan, at: At) -> (u64, u64) {
    let tenth_ms = load.duration_ms.of(plan.profile) / 10;
    match at {
        At::Random => (tenth_ms, tenth_ms * 3),
        At::Ms(ms) => (ms.of(plan.profile), ms.of(plan.profile)),
    }
}

/// The same in nanoseconds: a random phase must not sit on whole milliseconds.
pub(crate) fn drawn_window_ns(plan: &Plan, load: &WorkloadPlan, at: At) -> (u64, u64) {
    let (earliest_ms, latest_ms) = window(plan, load, at);
    (earliest_ms.saturating_mul(1_000_000), latest_ms.saturating_mul(1_000_000))
}

/// How many nodes a quorum can spare.
fn tolerated(plan: &Plan) -> u64 {
    plan.nodes.saturating_sub(1) / 2
}

/// For the node to catch up while load still runs.
const RETURN_MARGIN_MS: u64 = 500;

#[cfg(test)]
mod tests {
    use crate::plan::{
        parse, validate,
        validate::tests::{GOOD, refused},
    };

    #[test]
    fn a_node_alone_has_no_links_to_hurt() {
        let alone = "nodes = 1\n[expect]\nmajority_may_be_lost = true\n[workload]";
        for fault in ["isolate", "partition", "link"] {
            assert_eq!(refused(&[("[workload]", alone), ("kill", fault)]), "steps[0].fault");
        }
    }

    #[test]
    fn memory_is_lost_by_a_minority_alone_and_by_none_while_another_is_away() {
        let memory = |nodes: u64, more: &str| {
            let head = format!("nodes = {nodes}\nstorage = \"memory\"\n[workload]\n{more}");
            validate(&parse(&GOOD.replace("[workload]\n", &head)).expect("well formed"))
                .map_err(|error| error.to_string())
        };
        let also = |at: u64, fault: &str| {
            let fault = format!("fault = \"{fault}\"\nreturn_after_ms = 1000\n");
            format!("[[steps]]\nat = {at}\ntarget = \"follower\"\n{fault}")
        };
        assert_eq!(memory(3, ""), Ok(()));
        assert_eq!(memory(5, &also(3_000, "restart")), Ok(()));
        let lost = "[expect]\nmajority_may_be_lost = true\n";
        for (nodes, more) in [(2, lost.to_owned()), (3, also(3_000, "restart") + lost)] {
            let error = memory(nodes, &more).expect_err("a majority would forget");
            assert!(error.contains("with storage = \"memory\", but of"), "{error}");
            assert!(error.contains("may lose their memory in one trial"), "{error}");
        }
        // It may not vote again when the next one is hit.
        let error = memory(3, &also(3_500, "pause")).expect_err("two of three");
        assert!(error.starts_with("steps[0].at is"), "{error}");
        assert_eq!(memory(3, &(also(3_500, "pause") + lost)), Ok(()));
        let points = GOOD.replace("[workload]", "storage = \"memory\"\n[workload]");
        let points = points.replace("\"kill\"", "\"kill\"\npoint = \"sync\"");
        let error = validate(&parse(&points).expect("well formed")).expect_err("no disk");
        assert!(error.to_string().starts_with("steps[0].point is sync, but in memory"), "{error}");
    }

    #[test]
    fn a_majority_is_never_hit() {
        for nodes in ["1", "2"] {
            let nodes = format!("nodes = {nodes}\n[workload]");
            assert_eq!(refused(&[("[workload]", &nodes)]), "steps[0].fault");
        }
        let step = "[[steps]]\nat = \"random\"\nfault = \"pause\"\nreturn_after_ms = 1000\n";
        let two_of_three = format!("nodes = 3\n[workload]\n{step}");
        assert_eq!(refused(&[("[workload]\n", &two_of_three)]), "steps[0].at");
        let three_of_five = format!("[workload]\n{step}{step}");
        assert_eq!(refused(&[("[workload]\n", &three_of_five)]), "steps[0].at");
        // One after the other is no majority at once.
        let later = "[[steps]]\nat = 3000\nfault = \"pause\"\nreturn_after_ms = 1000\n";
        let text = GOOD.replace("[workload]\n", &format!("nodes = 3\n[workload]\n{later}"));
        validate(&parse(&text).expect("well formed")).expect("can be carried out");
    }

    #[test]
    fn members_come_and_go_where_a_group_is_left() {
        for fault in ["leave", "wipe"] {
            // Not even where a majority may be lost: this one would be for ever.
            let two = "nodes = 2\n[expect]\nmajority_may_be_lost = true\n[workload]";
            assert_eq!(refused(&[("[workload]", two), ("kill", fault)]), "steps[0].fault");
            let three = GOOD.replace("kill", fault).replace("[workload]", "nodes = 3\n[workload]");
            validate(&parse(&three).expect("well formed")).expect("two are left, or three");
        }
    }

    #[test]
    fn a_node_is_not_hit_while_it_is_down_nor_one_that_is_not_there() {
        let target = |node: u64| format!("target = {{ node = {node} }}\nreturn_after_ms");
        assert_eq!(refused(&[("return_after_ms", &target(6))]), "steps[0].target.node");
        let again = "[[steps]]\nat = 1000\nfault = \"kill\"\ntarget = { node = 2 }\n\
                     return_after_ms = 1000\n";
        let changes = [
            ("[workload]\n", format!("[workload]\n{again}")),
            ("at = \"random\"", { "at = \"random\"\ntarget = { node = 2 }".to_owned() }),
        ];
        let changes: Vec<(&str, &str)> =
            changes.iter().map(|(from, to)| (*from, to.as_str())).collect();
        assert_eq!(refused(&changes), "steps[0].target");
    }

    #[test]
    fn a_node_is_back_before_its_trial_ends() {
        assert_eq!(refused(&[("= 1000", "= 3100")]), "steps[0].return_after_ms");
        assert_eq!(refused(&[("\"random\"", "4600")]), "steps[0].return_after_ms");
    }
}
