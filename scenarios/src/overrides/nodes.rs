//! What `--nodes` means for steps that were written for a number of nodes.
//!
//! Steps that hit each node in turn are made anew for the other number; any others must still mean
//! what they meant. Invariant: no step is left that names a node which is not there.

use chaos::fault::{NodeNumber, Target};
use chaos::plan::{self, At, MsByProfile, PROFILES, Plan, PlanError, Step};

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

/// Refuses fewer than three nodes, of which none may be away, where the plan takes one and bounds
/// outages. Its bound is for a majority that goes on: here it would be broken with nothing wrong,
/// and a wider one, or none, would be another promise than the plan's.
pub(super) fn keeps_bounds(plan: &Plan) -> Result<(), PlanError> {
    let named = [
        ("outage_ms_max", plan.expect.outage_ms_max),
        ("outage_ms_p50_max", plan.expect.outage_ms_p50_max),
    ];
    let bound = named.into_iter().find_map(|(name, max)| Some((name, max?.of(plan.profile)?)));
    let Some((name, max)) = bound else { return Ok(()) };
    if plan.steps.iter().all(|step| plan::away(plan, step) == 0) {
        return Ok(());
    }
    let allowed = format!(
        "{} leaves no majority of so few, and its expect.{name} = {max} is for one that goes on: \
         must lie between {MAJORITY_MIN} and {NODES_MAX}",
        whose(plan)
    );
    let (field, value) = ("--nodes".to_owned(), plan.nodes.to_string());
    Err(PlanError::Field { field, value, allowed })
}

/// Refuses fewer nodes than the plan can be carried out with, where more would do.
///
/// # Errors
/// With the numbers that are allowed, and what stands against this one.
pub(super) fn are_enough(plan: &Plan, may_be_lost: bool) -> Result<(), PlanError> {
    let of = |nodes: u64| {
        let mut tried = Plan { nodes, ..plan.clone() };
        tried.expect.majority_may_be_lost = may_be_lost;
        // Of the profile that was chosen.
        plan::keep_times(&mut tried);
        plan::validate(&tried)
    };
    let Err(PlanError::Field { field, value, allowed }) = of(plan.nodes) else { return Ok(()) };
    // Who is evicted, and how many are away at once: no other field is about their number alone.
    if field != "evict_after_ms" && !field.ends_with("].at") {
        return Ok(());
    }
    let Some(least) = (plan.nodes + 1..=NODES_MAX).find(|nodes| of(*nodes).is_ok()) else {
        return Ok(());
    };
    let why = allowed.split_once(": ").map_or(allowed.as_str(), |(why, _)| why);
    let allowed = format!(
        "{} asks too much of so few ({field} is {value}, but {why}): must lie between {least} and \
         {NODES_MAX}",
        whose(plan)
    );
    let (field, value) = ("--nodes".to_owned(), plan.nodes.to_string());
    Err(PlanError::Field { field, value, allowed })
}

/// What the steps are of, in the words of the command line.
fn whose(plan: &Plan) -> String {
    match &plan.variant {
        Some(name) => format!("--kind {name}"),
        None => plan.scenario.clone(),
    }
}

/// Steps that hit each node of a plan in turn, at equal distances, and are alike otherwise.
struct Turns {
    first: Step,
    first_ms: MsByProfile,
    gap_ms: MsByProfile,
}

impl Turns {
    fn of(plan: &Plan) -> Option<Self> {
        let [first, second, ..] = plan.steps.as_slice() else { return None };
        let (At::Ms(first_ms), At::Ms(second_ms)) = (first.at, second.at) else { return None };
        let gap_ms = second_ms.with(first_ms, u64::saturating_sub);
        if PROFILES.into_iter().any(|profile| gap_ms.of(profile) == 0) {
            return None;
        }
        let turns = Self { first: first.clone(), first_ms, gap_ms };
        // The count first: nobody has looked yet at how many nodes a file asks for.
        let is_each =
            plan.steps.len() as u64 == plan.nodes && turns.steps(plan.nodes) == plan.steps;
        is_each.then_some(turns)
    }

    fn steps(&self, nodes: u64) -> Vec<Step> {
        let step = |number: u64| Step {
            at: At::Ms(self.gaps_ms(number - 1).with(self.first_ms, u64::saturating_add)),
            target: Target::Node(NodeNumber(number)),
            ..self.first.clone()
        };
        (1..=nodes).map(step).collect()
    }

    /// After the last one the load goes on for as long as it did.
    fn change(&self, plan: &mut Plan, nodes: u64) {
        if let Some(load) = &mut plan.workload {
            let (before_ms, now_ms) = (self.gaps_ms(plan.nodes), self.gaps_ms(nodes));
            let with_ms = load.duration_ms.with(now_ms, u64::saturating_add);
            load.duration_ms = with_ms.with(before_ms, u64::saturating_sub);
        }
        plan.steps = self.steps(nodes);
    }

    fn gaps_ms(&self, count: u64) -> MsByProfile {
        self.gap_ms.with(MsByProfile::all(count), u64::saturating_mul)
    }
}

/// Refuses a number of nodes that the steps were not written for.
fn check(plan: &Plan, nodes: u64) -> Result<(), PlanError> {
    let own = plan.nodes;
    let whose = whose(plan);
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
/// Of so many one may be away.
const MAJORITY_MIN: u64 = 3;

#[cfg(test)]
mod tests {
    use chaos::plan::WorldKind;
    use runtime::ConsensusProfile;

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
                let At::Ms(last) = plan.steps.last().unwrap().at else { panic!("it is given") };
                let load = plan.workload.unwrap().duration_ms;
                for (profile, gap_ms, rest_ms) in [
                    (ConsensusProfile::Lan, 2_500, 2_500),
                    (ConsensusProfile::Wan, 10_000, 25_500),
                    (ConsensusProfile::Loopback, 2_500, 2_500),
                ] {
                    let last_ms = 500 + gap_ms * (nodes - 1);
                    assert_eq!(last.of(profile), last_ms);
                    let load_ms = load.of(profile);
                    assert_eq!(load_ms, last_ms + rest_ms, "as long after the last one as before");
                }
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
        plan.variants[0].steps[2].return_after_ms.lan += 1;
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
    fn fewer_nodes_than_the_steps_can_be_carried_out_with_are_refused_with_what_is_allowed() {
        for (nodes, why) in [
            (3, "(evict_after_ms is 3000, but of 3 nodes none is ever evicted, since 3 voters"),
            (4, "(steps[6].at is the beginning of the fault on 2 nodes at once, but 4 nodes can"),
        ] {
            let error = applied(builtin("membership-churn"), None, nodes).unwrap_err();
            let said = format!("--nodes is {nodes}, but membership-churn asks too much of so few ");
            assert!(error.starts_with(&(said + why)), "{error}");
            assert!(error.ends_with("): must lie between 5 and 9"), "{error}");
        }
        for nodes in [5, 9] {
            let plan = applied(builtin("membership-churn"), None, nodes);
            assert_eq!(plan.map(|plan| plan.nodes), Ok(nodes));
        }
    }

    #[test]
    fn a_bound_on_outages_is_for_a_majority_that_goes_on() {
        for kind in ["isolate-leader", "one-way", "flapping"] {
            let error = applied(builtin("partition"), Some(kind), 2).unwrap_err();
            let expected = format!(
                "--nodes is 2, but --kind {kind} leaves no majority of so few, and its \
                 expect.outage_ms_max = 2000 is for one that goes on: must lie between 3 and 9"
            );
            assert_eq!(error, expected);
            let three = applied(builtin("partition"), Some(kind), 3).unwrap();
            let bound = three.expect.outage_ms_max.and_then(|max| max.of(three.profile));
            assert_eq!(bound, Some(2_000.0), "it stands");
        }
        let bounded = |step: &str, expect: &str| {
            let text = format!(
                "scenario = \"mine\"\nkind = \"failover\"\n[workload]\n[[steps]]\nat = 500\n\
                 return_after_ms = 900\n{step}\n[expect]\n{expect}"
            );
            let plan = applied(plan::parse(&text).unwrap(), None, 2);
            plan.map(|plan| plan.expect.outage_ms_p50_max.and_then(|max| max.of(plan.profile)))
        };
        let pause = "fault = \"pause\"";
        let error = bounded(pause, "outage_ms_p50_max = 700").unwrap_err();
        assert!(error.starts_with("--nodes is 2, but mine leaves no majority"), "{error}");
        // Whoever hands over is not away; who says that a majority may be lost means its bound so.
        let hand_over = "fault = \"transfer\"";
        assert_eq!(bounded(hand_over, "outage_ms_p50_max = 700"), Ok(Some(700.0)));
        let meant = "outage_ms_p50_max = 2000\nmajority_may_be_lost = true";
        assert_eq!(bounded(pause, meant), Ok(Some(2_000.0)));
        assert_eq!(bounded(pause, "outage_ms_p50_max = { wan = 9000 }"), Ok(None), "not of lan");
    }

    #[test]
    fn drawn_faults_take_the_place_of_steps_whatever_their_number() {
        let mut plan = builtin("rolling-restart");
        let overrides = Overrides { nodes: Some(3), random_faults: true, ..Overrides::default() };
        overrides.apply(&mut plan, WorldKind::Process).unwrap();
        assert_eq!((plan.nodes, plan.steps.len(), plan::validate(&plan)), (3, 0, Ok(())));
    }
}
