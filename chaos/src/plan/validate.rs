//! Which plans can be carried out: each refusal names the field and what is allowed.
//!
//! Looks at nothing but the plan. Invariant: a plan that passes asks for nothing that the lab
//! knows to be impossible, such as a quorum of dead nodes or a voter without a memory.

mod steps;

use runtime::ConsensusProfile;

use crate::plan::{
    ByProfile, Kind, Mix, MsByProfile, PROFILES, Plan, PlanError, Step, WorkloadPlan, consensus,
    field, lag, profile_name, random, variant, within,
};

pub use steps::away;
pub(crate) use steps::drawn_window_ns;
pub(super) use steps::lasts;
use steps::{overlapping, step};

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
    trials(plan)?;
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
    under_load(plan)?;
    // Times may differ by profile, and `--profile` may choose any of them.
    for profile in PROFILES.into_iter().filter(|profile| *profile != plan.profile) {
        let other = Plan { profile, ..plan.clone() };
        let evicts = if evicts_by_profile(plan) { eviction(&other) } else { Ok(()) };
        evicts.and_then(|()| under_load(&other)).map_err(|error| of(profile, error))?;
    }
    expect(plan)
}

/// How often it is done, by what a trial of the kind is.
fn trials(plan: &Plan) -> Result<(), PlanError> {
    match (plan.kind, &plan.lag) {
        (Kind::Lagging, Some(lag)) => lag::trials(plan, lag),
        // It has one, and `shape` says why.
        (Kind::Steady, _) => Ok(()),
        _ => within("trials", plan.trials, 1, TRIALS_MAX),
    }
}

/// What is done meanwhile, and to whom, as the profile of the plan has it.
fn under_load(plan: &Plan) -> Result<(), PlanError> {
    let Some(load) = &plan.workload else { return Ok(()) };
    workload(load, plan.profile)?;
    for (number, step) in plan.steps.iter().enumerate() {
        random::among(number, step)?;
        step.each().iter().try_for_each(|drawn| self::step(plan, load, number, drawn))?;
    }
    overlapping(plan, load)
}

/// The refusal of what stands only under another profile than the plan's own.
fn of(profile: ConsensusProfile, error: PlanError) -> PlanError {
    match error {
        PlanError::Field { field, value, allowed } => {
            let value = format!("{value} for {}", profile_name(profile));
            PlanError::Field { field, value, allowed }
        }
        other => other,
    }
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
    let evict_after_ms = evict_after_ms.of(plan.profile);
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

/// Whether it says of each profile how much silence is borne. One number is of the plan's own: a
/// group of `wan` must bear more than is of any use in `lan`.
fn evicts_by_profile(plan: &Plan) -> bool {
    let differs = |times: MsByProfile| times != MsByProfile::all(times.of(plan.profile));
    plan.evict_after_ms.is_some_and(differs)
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

fn workload(load: &WorkloadPlan, profile: ConsensusProfile) -> Result<(), PlanError> {
    within("workload.rate_per_s", load.rate_per_s, 1, RATE_PER_S_MAX)?;
    within("workload.clients", load.clients, 1, CLIENTS_MAX)?;
    within("workload.burst", load.burst, 1, BURST_MAX)?;
    within("workload.keys_live", load.keys_live, 1, KEYS_LIVE_MAX)?;
    within("workload.operations_per_key", load.operations_per_key, 1, OPERATIONS_PER_KEY_MAX)?;
    within("workload.inflight_max", load.inflight_max, load.burst, INFLIGHT_MAX)?;
    within("workload.duration_ms", load.duration_ms.of(profile), 1_000, DURATION_MS_MAX)?;
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

fn expect(plan: &Plan) -> Result<(), PlanError> {
    let expect = &plan.expect;
    let one = |bound: Option<f64>| bound.map(ByProfile::all);
    let terms = expect.term_changes_max.map(|ByProfile { lan, wan, loopback }| {
        let number = |count: Option<u64>| count.map(|count| count as f64);
        ByProfile { lan: number(lan), wan: number(wan), loopback: number(loopback) }
    });
    let bounds = [
        ("outage_ms_p50_max", expect.outage_ms_p50_max, Kind::Failover),
        ("outage_ms_max", expect.outage_ms_max, Kind::Failover),
        ("forming_ms_p50_max", one(expect.forming_ms_p50_max), Kind::Formation),
        ("forming_ms_max", one(expect.forming_ms_max), Kind::Formation),
        ("memory_growth_kb_per_min_max", one(expect.memory_growth_kb_per_min_max), Kind::Steady),
        ("term_changes_max", terms, Kind::Steady),
    ];
    for (name, bounds, kind) in bounds {
        let Some(bounds) = bounds else { continue };
        let name = format!("expect.{name}");
        if bounds.each().next().is_none() {
            let allowed = "must be a number, or one for each of some of lan, wan, loopback";
            return Err(field(&name, "{}", allowed));
        }
        // Of every profile: `--profile` may choose any of them.
        if let Some(bound) = bounds.each().find(|bound| !bound.is_finite() || *bound < 0.0) {
            return Err(field(&name, bound, "must be a number that is not negative"));
        }
        if kind != plan.kind {
            let bound = bounds.of(plan.profile).or(bounds.each().next()).unwrap_or_default();
            let allowed = format!("only {kind} measures that, and this is {}", plan.kind);
            return Err(field(&name, bound, allowed));
        }
    }
    Ok(())
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
const NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::parse;

    pub(super) const GOOD: &str = "scenario = \"x\"\nkind = \"failover\"\n[workload]\n\
        [[steps]]\nat = \"random\"\nfault = \"kill\"\nreturn_after_ms = 1000\n";

    /// The field that is refused, of the good plan with some words replaced.
    pub(super) fn refused(changes: &[(&str, &str)]) -> String {
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
    fn of_one_node_none_follows() {
        let alone = ("kind = \"failover\"", "kind = \"failover\"\nnodes = 1");
        let paused = ("\"kill\"", "\"pause\"\ntarget = \"follower\"");
        let is_meant = ("[[steps]]", "[expect]\nmajority_may_be_lost = true\n[[steps]]");
        assert_eq!(refused(&[alone, is_meant, paused]), "steps[0].target");
    }

    #[test]
    fn shares_add_up_to_a_hundred() {
        let mix = |mix: &str| refused(&[("[workload]", &format!("[workload]\nmix = {{ {mix} }}"))]);
        assert_eq!(mix("read = 50, write = 40, cas = 11"), "workload.mix");
        assert_eq!(mix("read = 101, write = 0, cas = 0"), "workload.mix.read");
        assert_eq!(mix("read = 0, write = 0, cas = 0"), "workload.mix");
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
        for trials in [0, 2, 200_000] {
            let steady = format!("kind = \"steady\"\ntrials = {trials}\n[workload]\n");
            assert_eq!(bare(&format!("scenario = \"x\"\n{steady}")), "trials");
        }
    }

    #[test]
    fn what_is_expected_is_measured() {
        let expect =
            |line: &str| refused(&[("[workload]", &format!("[expect]\n{line}\n[workload]"))]);
        assert_eq!(expect("forming_ms_max = 1.0"), "expect.forming_ms_max");
        assert_eq!(expect("term_changes_max = 1"), "expect.term_changes_max");
        assert_eq!(expect("outage_ms_max = -1.0"), "expect.outage_ms_max");
        assert_eq!(expect("outage_ms_max = nan"), "expect.outage_ms_max");
        // Also of a profile that is not the plan's own.
        assert_eq!(expect("outage_ms_max = { lan = 1, wan = -1 }"), "expect.outage_ms_max");
        assert_eq!(expect("outage_ms_p50_max = { loopback = inf }"), "expect.outage_ms_p50_max");
        // A bound for nobody bounds nothing.
        assert_eq!(expect("outage_ms_max = {}"), "expect.outage_ms_max");
        assert_eq!(expect("outage_ms_p50_max = {}"), "expect.outage_ms_p50_max");
    }
}
