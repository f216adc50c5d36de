//! Which plans can be carried out: each refusal names the field and what is allowed.
//!
//! Looks at nothing but the plan. Invariant: a plan that passes asks for nothing that the lab
//! knows to be impossible, such as a quorum of dead nodes or a voter without a memory.

use crate::{
    fault::{CrashPoint, Fault, NodeNumber, Target},
    plan::{
        At, Kind, Mix, Plan, PlanError, Step, StorageKind, WorkloadPlan, all, consensus, disks,
        field, forgets, lag, packets, random, variant, within,
    },
};

/// Checks that a plan can be carried out.
///
/// # Errors
/// The first field, or combination of fields, that cannot.
pub fn validate(plan: &Plan) -> Result<(), PlanError> {
    if !plan.variants.is_empty() {
        return variant::check(plan, validate);
    }
    name(&plan.scenario)?;
    within("nodes", plan.nodes, 1, NODES_MAX)?;
    groups(plan)?;
    within("trials", plan.trials, 1, TRIALS_MAX)?;
    planted(plan)?;
    eviction(plan)?;
    within("background_load", plan.background_load, 0, BACKGROUND_LOAD_MAX)?;
    if let Some(entries) = plan.snapshot_log_entries {
        let (min, max) = SNAPSHOT_LOG_ENTRIES;
        within("snapshot_log_entries", entries.into(), min, max)?;
    }
    match plan.kind {
        Kind::Lagging => lag::check(plan),
        _ => lag::check(plan).and_then(|()| shape(plan)),
    }?;
    plan.random.iter().try_for_each(|random| random::check(plan, random))?;
    if let Some(load) = &plan.workload {
        workload(load)?;
        for (number, step) in plan.steps.iter().enumerate() {
            random::among(number, step)?;
            step.each().iter().try_for_each(|drawn| self::step(plan, load, number, drawn))?;
        }
        overlapping(plan, load)?;
    }
    expect(plan)
}

/// What is broken on purpose must not be by accident.
fn planted(plan: &Plan) -> Result<(), PlanError> {
    match plan.planted {
        Some(rule) if cfg!(not(feature = "planted-faults")) => {
            let allowed = "rules are broken on purpose only in a build with \
                           --features planted-faults";
            Err(field("planted", rule, allowed))
        }
        _ => Ok(()),
    }
}

/// What the group would refuse, or never do, is refused before there is a group.
fn eviction(plan: &Plan) -> Result<(), PlanError> {
    let Some(evict_after_ms) = plan.evict_after_ms else { return Ok(()) };
    let consensus = consensus(plan);
    if plan.nodes <= u64::from(consensus.voters_min) {
        let allowed = format!(
            "of {} nodes none is ever evicted, since {} voters are kept (voters_min): give the \
             plan more nodes",
            plan.nodes, consensus.voters_min
        );
        return Err(field("evict_after_ms", evict_after_ms, allowed));
    }
    let refused = consensus.validate().err();
    refused.map_or(Ok(()), |error| Err(field("evict_after_ms", evict_after_ms, error.rule)))
}

/// Several groups need a load to divide, and clients that any node may serve.
fn groups(plan: &Plan) -> Result<(), PlanError> {
    within("groups", plan.groups, 1, GROUPS_MAX)?;
    let pinned = plan.workload.as_ref().is_some_and(|load| load.pinned);
    match plan.groups {
        1 => Ok(()),
        groups if plan.kind == Kind::Formation => {
            Err(field("groups", groups, "formation has no load to divide: use failover or steady"))
        }
        groups if pinned => {
            let allowed = "with workload.pinned = true each client stays with a node and not with \
                           a group: use 1";
            Err(field("groups", groups, allowed))
        }
        groups if changes_members(plan) => {
            let allowed = "of several groups none may lose or gain members: use 1, without leave, \
                           wipe, flipped bits and evict_after_ms";
            Err(field("groups", groups, allowed))
        }
        _ => Ok(()),
    }
}

/// Whether anybody may be a member no longer while it runs.
fn changes_members(plan: &Plan) -> bool {
    let changes = |step: &Step| step.each().iter().any(Step::changes_members);
    plan.evict_after_ms.is_some() || plan.steps.iter().any(changes)
}

fn name(scenario: &str) -> Result<(), PlanError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let fits = (1..=NAME_BYTES_MAX).contains(&scenario.len());
    if fits && scenario.bytes().all(plain) && !scenario.starts_with('-') && scenario != "latest" {
        return Ok(());
    }
    let allowed = "must be 1 to 64 letters, digits or '-', not '-' first, and not 'latest'";
    Err(field("scenario", format!("{scenario:?}"), allowed))
}

/// What each kind needs and has no use for.
fn shape(plan: &Plan) -> Result<(), PlanError> {
    let kind = plan.kind;
    match (kind, plan.workload.is_some(), plan.steps.is_empty()) {
        (Kind::Formation, true, _) => {
            Err(field("workload", "present", "a formation has no clients"))
        }
        (Kind::Failover | Kind::Steady, false, _) => {
            Err(field("workload", "absent", format!("{kind} needs one")))
        }
        (Kind::Formation | Kind::Steady, _, false) => {
            let allowed = format!("{kind} has no faults: use kind = \"failover\"");
            Err(field("steps", "not empty", allowed))
        }
        (Kind::Formation | Kind::Steady, _, true) if plan.random.is_some() => {
            let allowed = format!("{kind} has no faults: use kind = \"failover\"");
            Err(field("random", "present", allowed))
        }
        (Kind::Failover, _, true) if plan.random.is_none() => {
            Err(field("steps", "empty", "failover needs at least one"))
        }
        _ if plan.steps.len() > STEPS_MAX => {
            let steps = format!("a list of {}", plan.steps.len());
            Err(field("steps", steps, format!("there may be at most {STEPS_MAX}")))
        }
        (Kind::Steady, ..) if plan.trials != 1 => Err(field(
            "trials",
            plan.trials,
            "steady has one: its length is workload.duration_ms (--duration)",
        )),
        _ => Ok(()),
    }
}

fn workload(load: &WorkloadPlan) -> Result<(), PlanError> {
    within("workload.rate_per_s", load.rate_per_s, 1, RATE_PER_S_MAX)?;
    within("workload.clients", load.clients, 1, CLIENTS_MAX)?;
    within("workload.burst", load.burst, 1, BURST_MAX)?;
    within("workload.keys_live", load.keys_live, 1, KEYS_LIVE_MAX)?;
    within("workload.operations_per_key", load.operations_per_key, 1, OPERATIONS_PER_KEY_MAX)?;
    within("workload.inflight_max", load.inflight_max, load.burst, INFLIGHT_MAX)?;
    within("workload.duration_ms", load.duration_ms, 1_000, DURATION_MS_MAX)?;
    mix(load.mix)
}

fn mix(mix: Mix) -> Result<(), PlanError> {
    let Mix { read, write, cas } = mix;
    for (name, share) in [("read", read), ("write", write), ("cas", cas)] {
        within(&format!("workload.mix.{name}"), share, 0, 100)?;
    }
    let sum = read + write + cas;
    if sum == 100 {
        return Ok(());
    }
    let value = format!("{read} + {write} + {cas} = {sum}");
    Err(field("workload.mix", value, "the shares must add up to 100"))
}

fn step(plan: &Plan, load: &WorkloadPlan, number: usize, step: &Step) -> Result<(), PlanError> {
    let name = |part: &str| format!("steps[{number}].{part}");
    all::check(plan, step, name)?;
    if step.fault.hits_links() && plan.nodes < 2 {
        let allowed = "of one node there is no link to cut or to hurt: nodes must be at least 2";
        return Err(field(&name("fault"), step.fault, allowed));
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
    within(&name("return_after_ms"), step.return_after_ms, 1, DURATION_MS_MAX)?;
    let (_, latest) = window(load, step.at);
    let end = latest.saturating_add(step.return_after_ms).saturating_add(RETURN_MARGIN_MS);
    if end > load.duration_ms {
        let allowed = format!(
            "the fault may come as late as {latest} ms, and the node must be back \
             {RETURN_MARGIN_MS} ms before the trial ends at {} ms (workload.duration_ms, --duration)",
            load.duration_ms
        );
        return Err(field(&name("return_after_ms"), step.return_after_ms, allowed));
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
fn overlapping(plan: &Plan, load: &WorkloadPlan) -> Result<(), PlanError> {
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
        Some(_) => (lasts(load, step).0, load.duration_ms),
        None => lasts(load, step),
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

/// How many nodes the step takes away, whatever is drawn for it.
fn away(plan: &Plan, step: &Step) -> u64 {
    step.each().iter().map(|drawn| packets::away(plan, drawn)).max().unwrap_or(0)
}

/// The earliest moment at which the step may strike, and the latest at which it may be over.
pub(super) fn lasts(load: &WorkloadPlan, step: &Step) -> (u64, u64) {
    let (earliest, latest) = window(load, step.at);
    (earliest, latest.saturating_add(step.return_after_ms))
}

fn expect(plan: &Plan) -> Result<(), PlanError> {
    let expect = &plan.expect;
    let terms = expect.term_changes_max.map(|max| max.of(plan.profile).unwrap_or_default() as f64);
    let bounds = [
        ("outage_ms_p50_max", expect.outage_ms_p50_max, Kind::Failover),
        ("outage_ms_max", expect.outage_ms_max, Kind::Failover),
        ("forming_ms_p50_max", expect.forming_ms_p50_max, Kind::Formation),
        ("forming_ms_max", expect.forming_ms_max, Kind::Formation),
        ("memory_growth_kb_per_min_max", expect.memory_growth_kb_per_min_max, Kind::Steady),
        ("term_changes_max", terms, Kind::Steady),
    ];
    for (name, bound, kind) in bounds {
        let Some(bound) = bound else { continue };
        let name = format!("expect.{name}");
        if !bound.is_finite() || bound < 0.0 {
            return Err(field(&name, bound, "must be a number that is not negative"));
        }
        if kind != plan.kind {
            let allowed = format!("only {kind} measures that, and this is {}", plan.kind);
            return Err(field(&name, bound, allowed));
        }
    }
    Ok(())
}

/// The earliest and the latest moment that `at` may mean, in milliseconds.
fn window(load: &WorkloadPlan, at: At) -> (u64, u64) {
    match at {
        At::Random => (load.duration_ms / 10, load.duration_ms / 10 * 3),
        At::Ms(ms) => (ms, ms),
    }
}

/// The same in nanoseconds: a random phase must not sit on whole milliseconds.
pub(crate) fn drawn_window_ns(load: &WorkloadPlan, at: At) -> (u64, u64) {
    let (earliest_ms, latest_ms) = window(load, at);
    (earliest_ms.saturating_mul(1_000_000), latest_ms.saturating_mul(1_000_000))
}

/// How many nodes a quorum can spare.
fn tolerated(plan: &Plan) -> u64 {
    plan.nodes.saturating_sub(1) / 2
}

const NODES_MAX: u64 = 9;
const GROUPS_MAX: u64 = 16;
const TRIALS_MAX: u64 = 100_000;
/// So that a tail stays behind a snapshot, and one that is never due is not asked for.
const SNAPSHOT_LOG_ENTRIES: (u64, u64) = (4, 1_000_000);
const BACKGROUND_LOAD_MAX: u64 = 1_024;
const STEPS_MAX: usize = 64;
const RATE_PER_S_MAX: u64 = 100_000;
const CLIENTS_MAX: u64 = 256;
const BURST_MAX: u64 = 64;
const KEYS_LIVE_MAX: u64 = 10_000;
const OPERATIONS_PER_KEY_MAX: u64 = 100_000;
const INFLIGHT_MAX: u64 = 65_536;
/// A day.
const DURATION_MS_MAX: u64 = 86_400_000;
/// For the node to catch up while load still runs.
const RETURN_MARGIN_MS: u64 = 500;
const NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::parse;

    const GOOD: &str = "scenario = \"x\"\nkind = \"failover\"\n[workload]\n\
        [[steps]]\nat = \"random\"\nfault = \"kill\"\nreturn_after_ms = 1000\n";

    /// The field that is refused, of the good plan with some words replaced.
    fn refused(changes: &[(&str, &str)]) -> String {
        let mut text = GOOD.to_owned();
        for (from, to) in changes {
            assert!(text.contains(from), "{from:?} is not in the plan");
            text = text.replacen(from, to, 1);
        }
        let plan = parse(&text).expect("well formed");
        match validate(&plan).expect_err("cannot be carried out") {
            PlanError::Field { field, allowed, .. } => {
                assert!(!allowed.is_empty());
                field
            }
            PlanError::Malformed(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn a_node_alone_has_no_links_to_hurt() {
        let alone = "nodes = 1\n[expect]\nmajority_may_be_lost = true\n[workload]";
        for fault in ["isolate", "partition", "link"] {
            assert_eq!(refused(&[("[workload]", alone), ("kill", fault)]), "steps[0].fault");
        }
    }

    #[test]
    fn a_good_plan_passes() {
        validate(&parse(GOOD).expect("well formed")).expect("can be carried out");
        let formation = "scenario = \"f\"\nkind = \"formation\"\n[expect]\nforming_ms_max = 1.5\n";
        validate(&parse(formation).expect("well formed")).expect("can be carried out");
        let pause =
            GOOD.replace("kill", "pause").replace("[workload]", "storage = \"memory\"\n[workload]");
        validate(&parse(&pause).expect("well formed")).expect("a paused node forgets nothing");
    }

    #[test]
    fn numbers_have_bounds() {
        let top = "kind = \"failover\"";
        let table = "[workload]";
        let cases = [
            ("nodes", top, "kind = \"failover\"\nnodes = 0"),
            ("nodes", top, "kind = \"failover\"\nnodes = 10"),
            ("groups", top, "kind = \"failover\"\ngroups = 0"),
            ("groups", top, "kind = \"failover\"\ngroups = 17"),
            ("groups", table, "groups = 2\n[workload]\npinned = true"),
            ("groups", top, "kind = \"formation\"\ngroups = 2"),
            ("trials", top, "kind = \"failover\"\ntrials = 0"),
            ("evict_after_ms", top, "kind = \"failover\"\nevict_after_ms = 1199"),
            ("evict_after_ms", top, "kind = \"failover\"\nnodes = 3\nevict_after_ms = 3000"),
            ("background_load", top, "kind = \"failover\"\nbackground_load = 5000"),
            ("snapshot_log_entries", top, "kind = \"failover\"\nsnapshot_log_entries = 3"),
            ("workload.rate_per_s", table, "[workload]\nrate_per_s = 0"),
            ("workload.clients", table, "[workload]\nclients = 0"),
            ("workload.burst", table, "[workload]\nburst = 0"),
            ("workload.keys_live", table, "[workload]\nkeys_live = 0"),
            ("workload.operations_per_key", table, "[workload]\noperations_per_key = 0"),
            ("workload.inflight_max", table, "[workload]\ninflight_max = 4"),
            ("workload.duration_ms", table, "[workload]\nduration_ms = 10"),
            ("steps[0].return_after_ms", "= 1000", "= 0"),
            ("scenario", "\"x\"", "\"\""),
            ("scenario", "\"x\"", "\"../x\""),
            ("scenario", "\"x\"", "\"latest\""),
        ];
        for (field, from, to) in cases {
            assert_eq!(refused(&[(from, to)]), field, "{to}");
        }
    }

    #[test]
    fn shares_add_up_to_a_hundred() {
        let mix = |mix: &str| refused(&[("[workload]", &format!("[workload]\nmix = {{ {mix} }}"))]);
        assert_eq!(mix("read = 50, write = 40, cas = 11"), "workload.mix");
        assert_eq!(mix("read = 101, write = 0, cas = 0"), "workload.mix.read");
        assert_eq!(mix("read = 0, write = 0, cas = 0"), "workload.mix");
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

    #[test]
    fn each_kind_has_what_it_needs_and_no_more() {
        assert_eq!(refused(&[("failover", "steady")]), "steps");
        assert_eq!(refused(&[("failover", "formation")]), "workload");
        assert_eq!(refused(&[("failover", "formation"), ("[workload]\n", "")]), "steps");
        assert_eq!(refused(&[("[workload]\n", "")]), "workload");
        let bare = |text: &str| match validate(&parse(text).expect("well formed")) {
            Err(PlanError::Field { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(bare("scenario = \"x\"\nkind = \"failover\"\n[workload]\n"), "steps");
        assert_eq!(bare("scenario = \"x\"\nkind = \"steady\"\ntrials = 2\n[workload]\n"), "trials");
    }

    #[test]
    fn what_is_expected_is_measured() {
        let expect =
            |line: &str| refused(&[("[workload]", &format!("[expect]\n{line}\n[workload]"))]);
        assert_eq!(expect("forming_ms_max = 1.0"), "expect.forming_ms_max");
        assert_eq!(expect("term_changes_max = 1"), "expect.term_changes_max");
        assert_eq!(expect("outage_ms_max = -1.0"), "expect.outage_ms_max");
        assert_eq!(expect("outage_ms_max = nan"), "expect.outage_ms_max");
    }
}
