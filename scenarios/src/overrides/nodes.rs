//! What `--nodes` means for steps that were written for a number of nodes.
//!
//! Steps that hit each node in turn are made anew for the other number; any others must still mean
//! what they meant. Invariant: no step is left that names a node which is not there.

use chaos::fault::{NodeNumber, Target};
use chaos::plan::{At, Plan, PlanError, Step};

/// Makes the steps of a plan fit another number of nodes.
///
/// # Errors
/// A number for which they would be other steps, with those that are allowed.
pub(super) fn fit(plan: &mut Plan, nodes: u64) -> Result<(), PlanError> {
    // What no plan may have, `validate` refuses.
    if nodes == plan.nodes || !(1..=NODES_MAX).contains(&nodes) {
        return Ok(());
    }
    match Turns::of(plan) {
        Some(turns) => turns.change(plan, nodes),
        None => check(plan, nodes)?,
    }
    Ok(())
}

/// Steps that hit each node of a plan in turn, at equal distances, and are alike otherwise.
struct Turns {
    first: Step,
    first_ms: u64,
    gap_ms: u64,
}

impl Turns {
    fn of(plan: &Plan) -> Option<Self> {
        let [first, second, ..] = plan.steps.as_slice() else { return None };
        let (At::Ms(first_ms), At::Ms(second_ms)) = (first.at, second.at) else { return None };
        let gap_ms = second_ms.checked_sub(first_ms).filter(|gap_ms| *gap_ms > 0)?;
        let turns = Self { first: first.clone(), first_ms, gap_ms };
        // The count first: nobody has looked yet at how many nodes a file asks for.
        let is_each =
            plan.steps.len() as u64 == plan.nodes && turns.steps(plan.nodes) == plan.steps;
        is_each.then_some(turns)
    }

    fn steps(&self, nodes: u64) -> Vec<Step> {
        let step = |number: u64| Step {
            at: At::Ms(self.gap_ms.saturating_mul(number - 1).saturating_add(self.first_ms)),
            target: Target::Node(NodeNumber(number)),
            ..self.first.clone()
        };
        (1..=nodes).map(step).collect()
    }

    /// After the last one the load goes on for as long as it did.
    fn change(&self, plan: &mut Plan, nodes: u64) {
        if let Some(load) = &mut plan.workload {
            let (before_ms, now_ms) =
                (self.gap_ms.saturating_mul(plan.nodes), self.gap_ms.saturating_mul(nodes));
            load.duration_ms = load.duration_ms.saturating_add(now_ms).saturating_sub(before_ms);
        }
        plan.steps = self.steps(nodes);
    }
}

/// Refuses a number of nodes that the steps were not written for.
fn check(plan: &Plan, nodes: u64) -> Result<(), PlanError> {
    let own = plan.nodes;
    let whose = match &plan.variant {
        Some(name) => format!("--kind {name}"),
        None => plan.scenario.clone(),
    };
    let refusal = |allowed: String| {
        Err(PlanError::Field { field: "--nodes".to_owned(), value: nodes.to_string(), allowed })
    };
    // Which links are left decides who can lead: with other nodes it would be another picture.
    if plan.steps.iter().any(|step| !step.cut.is_empty()) {
        return refusal(format!(
            "{whose} cuts links among {own} nodes by their numbers: use {own}"
        ));
    }
    let needed = plan.steps.iter().flat_map(|step| needs(step, own)).max_by_key(|(min, _)| *min);
    match needed {
        Some((min, why)) if nodes < min => {
            refusal(format!("{whose} {why}: must lie between {min} and {NODES_MAX}"))
        }
        _ => Ok(()),
    }
}

/// How many nodes a step needs at least to mean what it meant among so many, and why.
fn needs(step: &Step, own: u64) -> Vec<(u64, String)> {
    let targets = step.side.iter().chain([&step.target]).filter_map(Target::number);
    let named = targets.chain(step.to).map(|NodeNumber(number)| number);
    let mut needs: Vec<(u64, String)> =
        named.map(|number| (number, format!("names node {number}"))).collect();
    let side = step.side.len() as u64;
    if side > 0 && 2 * side < own {
        needs.push((2 * side + 1, format!("cuts {side} nodes off, which must be a minority")));
    }
    needs
}

/// As many as a plan may have.
const NODES_MAX: u64 = 9;

#[cfg(test)]
mod tests {
    use chaos::plan::{self, WorldKind};

    use super::*;
    use crate::{catalogue, overrides::Overrides};

    fn builtin(name: &str) -> Plan {
        let all = catalogue::all().unwrap();
        all.into_iter().find(|builtin| builtin.plan.scenario == name).unwrap().plan
    }

    fn applied(mut plan: Plan, kind: Option<&str>, nodes: u64) -> Result<Plan, String> {
        let kind = kind.map(str::to_owned);
        let overrides = Overrides { kind, nodes: Some(nodes), ..Overrides::default() };
        let applied = overrides.apply(&mut plan, WorldKind::Process);
        let fits = applied.and_then(|()| plan::validate(&plan));
        fits.map(|()| plan).map_err(|error| error.to_string())
    }

    #[test]
    fn what_hits_each_node_in_turn_follows_their_number() {
        for kind in ["transfer", "abrupt"] {
            for nodes in 1..=9 {
                let plan = applied(builtin("rolling-restart"), Some(kind), nodes).unwrap();
                let targets: Vec<Target> = plan.steps.iter().map(|step| step.target).collect();
                let each: Vec<Target> =
                    (1..=nodes).map(|node| Target::Node(NodeNumber(node))).collect();
                assert_eq!((plan.nodes, targets), (nodes, each), "{kind}");
                let last_ms = 500 + 2_500 * (nodes - 1);
                assert_eq!(plan.steps.last().unwrap().at, At::Ms(last_ms));
                let load_ms = plan.workload.unwrap().duration_ms;
                assert_eq!(load_ms, last_ms + 2_500, "as long after the last one as before");
                let is_handed_over = kind == "transfer";
                assert!(plan.steps.iter().all(|step| step.hand_over == is_handed_over));
            }
        }
        let error = applied(builtin("rolling-restart"), None, 10).unwrap_err();
        assert_eq!(error, "nodes is 10, but must lie between 1 and 9");
    }

    #[test]
    fn steps_that_differ_in_more_than_node_and_time_follow_nothing() {
        let mut plan = builtin("rolling-restart");
        plan.variants[0].steps[2].return_after_ms += 1;
        let error = applied(plan, None, 3).unwrap_err();
        let expected = "--nodes is 3, but --kind transfer names node 5: must lie between 5 and 9";
        assert_eq!(error, expected);
    }

    #[test]
    fn a_number_that_the_steps_were_not_written_for_is_refused_with_what_is_allowed() {
        let partition = |kind: &str, nodes| applied(builtin("partition"), Some(kind), nodes);
        for kind in ["bridge", "majority-ring"] {
            for nodes in [3, 7] {
                let error = partition(kind, nodes).unwrap_err();
                let cut = format!("--kind {kind} cuts links among 5 nodes by their numbers: use 5");
                assert_eq!(error, format!("--nodes is {nodes}, but {cut}"));
            }
            assert_eq!(partition(kind, 5).map(|plan| plan.nodes), Ok(5));
        }
        let error = partition("minority", 4).unwrap_err();
        let expected = "--nodes is 4, but --kind minority cuts 2 nodes off, which must be a \
                        minority: must lie between 5 and 9";
        assert_eq!(error, expected);
        assert_eq!(partition("minority", 7).map(|plan| plan.nodes), Ok(7));
        assert_eq!(partition("isolate-leader", 3).map(|plan| plan.nodes), Ok(3));
        let text = "scenario = \"mine\"\nkind = \"failover\"\n[workload]\n[[steps]]\nat = 500\n\
                    fault = \"pause\"\ntarget = { node = 4 }\nreturn_after_ms = 900\n";
        let mine = |nodes| applied(plan::parse(text).unwrap(), None, nodes);
        let expected = "--nodes is 3, but mine names node 4: must lie between 4 and 9";
        assert_eq!(mine(3).unwrap_err(), expected);
        assert_eq!(mine(4).map(|plan| plan.nodes), Ok(4));
    }

    #[test]
    fn drawn_faults_take_the_place_of_steps_whatever_their_number() {
        let mut plan = builtin("rolling-restart");
        let overrides = Overrides { nodes: Some(3), random_faults: true, ..Overrides::default() };
        overrides.apply(&mut plan, WorldKind::Process).unwrap();
        assert_eq!((plan.nodes, plan.steps.len(), plan::validate(&plan)), (3, 0, Ok(())));
    }
}
