//! Faults that are drawn from the seed: which kinds, on whom, when and for how long; and steps of
//! which the kind alone is drawn, for each trial anew.
//!
//! Each seed has some kinds enabled and the others not: what only shows where one kind is absent
//! is found as well. Draws from the stream "random faults" alone; a step's kind is drawn with the
//! schedule. Invariant: what is drawn can be
//! carried out in the world that it is drawn for, and stands in the plan as plain steps.

use serde::{Deserialize, Serialize};

use crate::{
    disk::{DiskFault, DiskKind},
    fault::{CrashPoint, Fault, NodeNumber, Target},
    link::{LinkFaults, Share},
    plan::{
        At, Flap, MsByProfile, Plan, PlanError, Step, StorageKind, Way, WorkloadPlan, WorldKind,
        consensus, field, fits, forgets, keep_times, validate,
    },
    seed::{Seed, Stream},
    skew::ClockFault,
};

/// What may be drawn.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandomFaults {
    /// The kinds; a seed enables some of them.
    pub faults: Vec<Fault>,
    /// How many steps a trial has at most; at least one.
    pub steps_max: u64,
}

impl Default for RandomFaults {
    fn default() -> Self {
        let faults = vec![
            Fault::Kill,
            Fault::Pause,
            Fault::Restart,
            Fault::Transfer,
            Fault::Isolate,
            Fault::Partition,
            Fault::Link,
            Fault::Clock,
            Fault::Disk,
        ];
        Self { faults, steps_max: 6 }
    }
}

/// The plan with its faults drawn; as it is where none are to be. Drawn faults may leave no
/// majority for a while.
///
/// # Errors
/// A plan that could not be carried out whatever is drawn.
pub fn draw_faults(plan: &Plan, world: WorldKind, seed: Seed) -> Result<Plan, PlanError> {
    let (Some(random), Some(load)) = (&plan.random, &plan.workload) else {
        return Ok(plan.clone());
    };
    let mut stream = Stream::named(seed, "random faults");
    let mut drawn = Plan { random: None, steps: Vec::new(), ..plan.clone() };
    drawn.expect.majority_may_be_lost = true;
    // What is drawn fits into the load of this profile alone.
    keep_times(&mut drawn);
    let possible = possible(random, plan, world);
    if possible.is_empty() {
        let allowed = format!(
            "none of them can be carried out in world {world} on this storage by {} nodes",
            plan.nodes
        );
        return Err(field("random.faults", shown(&random.faults), allowed));
    }
    let enabled = enabled(&possible, world, &mut stream);
    let count = usize::try_from(stream.between(1, random.steps_max)).unwrap_or(1);
    for _ in 0..ATTEMPTS {
        if drawn.steps.len() >= count {
            break;
        }
        let fault = stream.pick(&enabled).copied();
        drawn.steps.extend(fault.map(|fault| step(fault, plan, load, &mut stream)));
        if validate(&drawn).and_then(|()| fits(&drawn, world)).is_err() {
            drawn.steps.pop();
        }
    }
    drawn.steps.sort_by_key(|step| match step.at {
        At::Random => 0,
        At::Ms(ms) => ms.of(plan.profile),
    });
    validate(&drawn)?;
    fits(&drawn, world)?;
    Ok(drawn)
}

/// The plan with a step's kind left to be drawn for each trial: any of those that need no more
/// words, as far as the plan can be carried out with them in that world.
///
/// # Errors
/// Where none can, the reason against the first.
pub fn any_fault(plan: &Plan, world: WorldKind) -> Result<Plan, PlanError> {
    let fit = |plan: &Plan| {
        let mut own = plan.clone();
        // What another profile has no room for is no matter.
        keep_times(&mut own);
        validate(&own).and_then(|()| fits(&own, world))
    };
    let mut open = plan.clone();
    for number in 0..open.steps.len() {
        let mut possible: Vec<Fault> = Vec::new();
        let mut refused = None;
        for fault in ONE_WORD {
            let among: Vec<Fault> = possible.iter().copied().chain([fault]).collect();
            // Beside the steps before it, which are open already.
            let mut tried = Plan { steps: open.steps[..=number].to_vec(), ..open.clone() };
            let step = &mut tried.steps[number];
            (step.fault, step.among) = (among[0], among.clone());
            match fit(&tried) {
                Ok(()) => possible = among,
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        let step = &mut open.steps[number];
        match (possible.first(), refused) {
            (None, Some(error)) => return Err(error),
            (first, _) => step.fault = first.copied().unwrap_or(step.fault),
        }
        step.among = if possible.len() > 1 { possible } else { Vec::new() };
    }
    Ok(open)
}

/// Checks what a step's kind may be drawn of.
pub(super) fn among(number: usize, step: &Step) -> Result<(), PlanError> {
    let Step { fault, among, .. } = step;
    let name = format!("steps[{number}].among");
    if among.is_empty() {
        return Ok(());
    }
    let twice = |(place, fault): (usize, &Fault)| among[..place].contains(fault);
    if among.iter().enumerate().any(twice) {
        return Err(field(&name, shown(among), "must name none twice"));
    }
    if !among.contains(fault) {
        let allowed = format!("must name the step's own fault, {fault}, as well");
        return Err(field(&name, shown(among), allowed));
    }
    Ok(())
}

/// Checks what may be drawn.
pub(super) fn check(plan: &Plan, random: &RandomFaults) -> Result<(), PlanError> {
    let RandomFaults { faults, steps_max } = random;
    if !plan.steps.is_empty() {
        return Err(field("random", "present", "there are steps as well: give one of them"));
    }
    if !(1..=STEPS_MAX).contains(steps_max) {
        let allowed = format!("must lie between 1 and {STEPS_MAX}");
        return Err(field("random.steps_max", steps_max, allowed));
    }
    let twice = |(place, fault): (usize, &Fault)| faults[..place].contains(fault);
    if faults.is_empty() || faults.iter().enumerate().any(twice) {
        return Err(field("random.faults", shown(faults), "must name some kinds, none twice"));
    }
    if plan.nodes < 3 && faults.iter().all(|fault| forgets(plan, *fault)) {
        let allowed = "of fewer than 3 nodes none may lose its memory: name others too, or use \
                       storage = \"disk\"";
        return Err(field("random.faults", shown(faults), allowed));
    }
    Ok(())
}

fn shown(faults: &[Fault]) -> String {
    faults.iter().map(|fault| fault.word()).collect::<Vec<_>>().join(", ")
}

fn possible(random: &RandomFaults, plan: &Plan, world: WorldKind) -> Vec<Fault> {
    let remembers = plan.storage == StorageKind::Disk;
    let mut possible = random.faults.clone();
    possible.retain(|fault| match fault {
        Fault::Kill => remembers || world != WorldKind::Swarm,
        Fault::Restart => world != WorldKind::Swarm,
        Fault::Leave | Fault::Wipe => {
            let is_group = plan.nodes >= u64::from(consensus(plan).voters_min);
            remembers && is_group && world != WorldKind::Swarm
        }
        Fault::Clock => world != WorldKind::Swarm,
        Fault::Disk => remembers && world != WorldKind::Swarm,
        Fault::Isolate | Fault::Partition | Fault::Link => plan.nodes > 1,
        _ => true,
    });
    possible
}

/// Each kind with an even chance, and at least one.
fn enabled(possible: &[Fault], world: WorldKind, stream: &mut Stream) -> Vec<Fault> {
    let mut enabled = possible.to_vec();
    enabled.retain(|_| stream.chance(500));
    let one = stream.pick(possible).copied();
    if enabled.is_empty() {
        enabled.extend(one);
    }
    // A process that stands still cannot be told of links and clocks, and a fault that waits for
    // a leader may come later than it was drawn.
    let told = |fault: &Fault| fault.is_told();
    let pauses = stream.chance(500);
    let is_told = world == WorldKind::Process && enabled.iter().any(told);
    if enabled.contains(&Fault::Pause) && is_told {
        enabled.retain(|fault| if pauses { !told(fault) } else { *fault != Fault::Pause });
    }
    enabled
}

fn step(fault: Fault, plan: &Plan, load: &WorkloadPlan, stream: &mut Stream) -> Step {
    let duration_ms = load.duration_ms.of(plan.profile);
    let return_after_ms = stream.between(LASTS_MS_MIN, duration_ms * 3 / 10);
    // It must be over some time before the trial is.
    let latest_ms = (duration_ms * 9 / 10).saturating_sub(return_after_ms);
    let at = At::Ms(MsByProfile::all(stream.between(duration_ms / 10, latest_ms)));
    let target = [Target::Leader, Target::Follower, Target::Random];
    let target = *stream.pick(&target).unwrap_or(&Target::Random);
    let way = match stream.below(5) {
        0 => Way::Out,
        1 => Way::In,
        _ => Way::Both,
    };
    let (on_ms, off_ms) = (stream.between(50, 400), stream.between(50, 400));
    let flap = stream.chance(200).then_some(Flap { on_ms, off_ms });
    let mut step = Step {
        at,
        fault,
        among: Vec::new(),
        target,
        to: None,
        way: Way::Both,
        side: Vec::new(),
        cut: Vec::new(),
        return_after_ms: MsByProfile::all(return_after_ms),
        faults: None,
        point: CrashPoint::Any,
        hand_over: false,
        clock: None,
        disk: None,
        flap: None,
    };
    if fault.hits_links() {
        (step.way, step.flap) = (way, flap);
    }
    match fault {
        Fault::Partition => partition(&mut step, plan.nodes, stream),
        Fault::Link => step.faults = Some(link(stream)),
        Fault::Clock => step.clock = Some(clock(stream)),
        Fault::Disk => step.disk = Some(disk(plan, stream)),
        Fault::Restart => step.hand_over = stream.chance(500),
        Fault::Transfer => step.target = Target::Leader,
        Fault::Kill | Fault::Pause | Fault::Isolate | Fault::Leave | Fault::Wipe => {}
    }
    step
}

/// A side of any size, or any pairs.
fn partition(step: &mut Step, nodes: u64, stream: &mut Stream) {
    step.target = Target::default();
    let all: Vec<NodeNumber> = (1..=nodes).map(NodeNumber).collect();
    if stream.chance(300) {
        let pairs = all.iter().flat_map(|one| all.iter().map(move |other| (*one, *other)));
        let pairs = pairs.filter(|(one, other)| one < other);
        step.cut = pairs.filter(|_| stream.chance(400)).collect();
        return;
    }
    let mut side = all;
    let size = stream.between(1, nodes.saturating_sub(1));
    while side.len() as u64 > size.max(1) {
        let out = stream.below(side.len() as u64);
        side.remove(usize::try_from(out).unwrap_or(0));
    }
    step.side = side.into_iter().map(Target::Node).collect();
}

/// Enough of each to be felt within the shortest time.
fn link(stream: &mut Stream) -> LinkFaults {
    let alone = stream.below(8);
    let mut share = |max_permille: u64| {
        let (given, permille) = (stream.chance(400), stream.between(20, max_permille));
        let share = Share::new(permille as f64 / 1_000.0).ok().filter(|_| given);
        share.unwrap_or(Share::NONE)
    };
    let (loss, reorder) = (share(300), share(300));
    let (duplicate, corrupt) = (share(300), share(50));
    let delay_ms = stream.between(1, 60);
    let jitter_ms = if stream.chance(500) { stream.between(1, 60) } else { 0 };
    let bandwidth = stream.between(50_000, 2_000_000);
    let bandwidth_bytes_per_s = stream.chance(200).then_some(bandwidth);
    match alone {
        0 => LinkFaults { hold: true, ..LinkFaults::default() },
        1 => LinkFaults::blocked(),
        _ => LinkFaults {
            loss,
            reorder,
            duplicate,
            corrupt,
            delay_ms,
            jitter_ms,
            bandwidth_bytes_per_s,
            ..LinkFaults::default()
        },
    }
}

/// Within what a lease would be given for drift, and far beyond it.
fn clock(stream: &mut Stream) -> ClockFault {
    let mut signed = |max: u64| {
        let (size, is_negative) = (stream.between(1, max), stream.chance(500));
        let size = i64::try_from(size).unwrap_or(0);
        if is_negative { -size } else { size }
    };
    let (rate_ppm, offset, jump) = (signed(100_000), signed(3_600_000), signed(3_600_000));
    match stream.below(4) {
        0 => ClockFault { wall_offset_ms: offset, ..ClockFault::default() },
        1 => ClockFault { wall_jump_ms: jump, ..ClockFault::default() },
        2 => ClockFault { rate_ppm, ..ClockFault::default() },
        _ => ClockFault { wall_offset_ms: offset, wall_jump_ms: jump, rate_ppm },
    }
}

/// A bit is flipped only where stores may be lost: the node returns as another server.
fn disk(plan: &Plan, stream: &mut Stream) -> DiskFault {
    let may_wipe = plan.random.as_ref().is_some_and(|random| random.faults.contains(&Fault::Wipe));
    let mut kinds = DiskKind::ALL.to_vec();
    kinds.retain(|kind| may_wipe || !kind.costs_store());
    let (drawn, sync_ms) = (stream.pick(&kinds).copied(), stream.between(20, 600));
    let kind = drawn.unwrap_or(DiskKind::Stall);
    DiskFault { kind, sync_ms: (kind == DiskKind::Stall).then_some(sync_ms) }
}

/// The kinds that say all there is to say by themselves.
const ONE_WORD: [Fault; 5] =
    [Fault::Kill, Fault::Isolate, Fault::Transfer, Fault::Restart, Fault::Pause];
const STEPS_MAX: u64 = 32;
/// What cannot be carried out beside the rest is drawn anew, so often in all.
const ATTEMPTS: usize = 256;
/// Longer than the longest wait of `lan` for a heartbeat.
const LASTS_MS_MIN: u64 = 300;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::plan::parse;

    fn plan(head: &str, random: &str) -> Plan {
        let text = format!(
            "scenario = \"x\"\nkind = \"failover\"\n{head}\n[workload]\n[random]\n{random}\n"
        );
        let plan = parse(&text).expect("well formed");
        validate(&plan).expect("some of it can be carried out");
        plan
    }

    fn draw(plan: &Plan, seed: u64) -> Plan {
        draw_faults(plan, WorldKind::Process, Seed(seed)).expect("there is always something")
    }

    #[test]
    fn every_seed_gives_a_plan_that_can_be_carried_out_and_reads_back() {
        let plan = plan("", "");
        let mut kinds = BTreeSet::new();
        let mut sets = BTreeSet::new();
        for seed in 0..300 {
            let drawn = draw(&plan, seed);
            assert_eq!(drawn, draw(&plan, seed));
            validate(&drawn).expect("it was looked at");
            assert!((1..=6).contains(&drawn.steps.len()));
            assert!(drawn.random.is_none() && drawn.expect.majority_may_be_lost);
            let set: BTreeSet<_> = drawn.steps.iter().map(|step| step.fault).collect();
            kinds.extend(set.iter().copied());
            sets.insert(set);
            let text = toml::to_string(&drawn).expect("plain data");
            assert_eq!(parse(&text).expect("its own text"), drawn);
        }
        assert_eq!(kinds.len(), 9, "each kind is drawn now and then");
        assert!(sets.len() > 20, "seeds differ in what they enable: {}", sets.len());
        assert_ne!(draw(&plan, 1).steps, draw(&plan, 2).steps);
    }

    #[test]
    fn majorities_are_lost_now_and_then() {
        let plan = plan("nodes = 3", "faults = [\"partition\", \"isolate\"]");
        let severed = |plan: &Plan| {
            let away = |step| crate::plan::reach(plan, step, &hit(step)).away.len();
            plan.steps.iter().any(|step| away(step) == 3)
        };
        let lost = (0..200).filter(|seed| severed(&draw(&plan, *seed))).count();
        assert!((1..200).contains(&lost), "{lost} of 200");
    }

    fn hit(step: &Step) -> Vec<NodeNumber> {
        let node = |target: &Target| match target {
            Target::Node(node) => *node,
            _ => NodeNumber(1),
        };
        step.side.iter().map(node).collect()
    }

    #[test]
    fn what_cannot_be_carried_out_is_never_drawn() {
        let memory = plan("storage = \"memory\"", "faults = [\"kill\", \"pause\"]");
        let swarm = plan("", "");
        for seed in 0..100 {
            let drawn = draw(&memory, seed);
            let kills = drawn.steps.iter().filter(|step| step.fault == Fault::Kill).count();
            assert!(kills <= 2, "of five nodes three must remember");
            let drawn = draw_faults(&memory, WorldKind::Swarm, Seed(seed)).expect("pauses");
            assert!(drawn.steps.iter().all(|step| step.fault == Fault::Pause));
            let drawn = draw_faults(&swarm, WorldKind::Swarm, Seed(seed)).expect("most of it");
            assert_eq!(fits(&drawn, WorldKind::Swarm), Ok(()));
        }
        let clocks = plan("", "faults = [\"clock\"]");
        let error = draw_faults(&clocks, WorldKind::Swarm, Seed(1)).expect_err("no clocks there");
        assert!(error.to_string().contains("none of them can be carried out in world swarm"));
    }

    #[test]
    fn members_come_and_go_only_where_they_are_named_and_can() {
        let plan = plan("evict_after_ms = 2000", "faults = [\"leave\", \"wipe\"]");
        let kinds: BTreeSet<_> =
            (0..50).flat_map(|seed| draw(&plan, seed).steps).map(|step| step.fault).collect();
        assert_eq!(kinds, BTreeSet::from([Fault::Leave, Fault::Wipe]));
        let two = Plan { nodes: 2, evict_after_ms: None, ..plan };
        let error = draw_faults(&two, WorldKind::Sim, Seed(1)).expect_err("none can be spared");
        assert!(error.to_string().contains("by 2 nodes"), "{error}");
    }

    #[test]
    fn what_a_step_may_be_drawn_of_is_checked_kind_by_kind() {
        let refused = |step: &str, world: WorldKind| {
            let text = format!(
                "scenario = \"x\"\nkind = \"failover\"\n[workload]\n[[steps]]\nat = 500\n\
                 fault = \"kill\"\nreturn_after_ms = 900\n{step}\n"
            );
            let plan = parse(&text).expect("well formed");
            validate(&plan).and_then(|()| fits(&plan, world)).expect_err(step).to_string()
        };
        for (step, world, expected) in [
            ("among = [\"kill\", \"kill\"]", WorldKind::Sim, "steps[0].among is kill, kill, but"),
            ("among = [\"pause\"]", WorldKind::Sim, "steps[0].among is pause, but must name the"),
            ("among = [\"kill\", \"clock\"]", WorldKind::Sim, "steps[0].clock is absent, but"),
            ("among = [\"kill\", \"link\"]", WorldKind::Sim, "steps[0].faults is absent, but"),
            (
                "target = \"follower\"\namong = [\"kill\", \"transfer\"]",
                WorldKind::Sim,
                "steps[0].target is a follower, but only a leader can hand over",
            ),
            (
                "among = [\"kill\", \"restart\"]",
                WorldKind::Swarm,
                "steps[0].fault is restart, but world swarm",
            ),
            (
                "among = [\"kill\", \"pause\"]\n[[steps]]\nat = 600\nfault = \"kill\"\n\
                 target = \"follower\"\nreturn_after_ms = 900\namong = [\"kill\", \"isolate\"]",
                WorldKind::Process,
                "steps[0].fault is pause, but step 1, isolate, may not be over",
            ),
        ] {
            let error = refused(step, world);
            assert!(error.starts_with(expected), "{error}");
        }
        let isolate = "[[steps]]\nat = 1\nfault = \"kill\"\nreturn_after_ms = 1\n\
                       among = [\"kill\", \"isolate\"]\n";
        let text = format!("scenario = \"x\"\nkind = \"failover\"\n{isolate}");
        assert!(crate::plan::packet_faults(&parse(&text).expect("well formed")), "in some trials");
    }

    #[test]
    fn a_plan_without_random_faults_stays_as_it_is() {
        let mut fixed = plan("", "");
        fixed.random = None;
        assert_eq!(draw(&fixed, 1), fixed);
    }

    #[test]
    fn what_may_not_be_asked_for_is_refused_by_name() {
        let refused = |random: &str, steps: &str| {
            let text = format!(
                "scenario = \"x\"\nkind = \"failover\"\nstorage = \"memory\"\nnodes = 2\n\
                 [workload]\n[random]\n{random}\n{steps}"
            );
            validate(&parse(&text).expect("well formed")).expect_err(random).to_string()
        };
        for (random, expected) in [
            ("faults = []", "random.faults is , but must name some kinds"),
            ("faults = [\"link\", \"link\"]", "random.faults is link, link, but must name"),
            ("faults = [\"kill\"]", "random.faults is kill, but of fewer than 3 nodes none"),
            ("steps_max = 0", "random.steps_max is 0, but must lie between 1 and 32"),
        ] {
            let error = refused(random, "");
            assert!(error.starts_with(expected), "{error}");
        }
        let step = "[[steps]]\nat = 1\nfault = \"pause\"\nreturn_after_ms = 1\n";
        let error = refused("", step);
        assert!(error.starts_with("random is present, but there are steps as well"), "{error}");
        let steady = "scenario = \"x\"\nkind = \"steady\"\n[workload]\n[random]\n";
        let error = validate(&parse(steady).expect("well formed")).expect_err("steady").to_string();
        assert!(error.starts_with("random is present, but steady has no faults"), "{error}");
    }
}
