//! The three worlds by name, and what which of them cannot do.
//!
//! Pure functions of a plan; no world is known here but by its name. Invariant: what a world
//! cannot do is refused by field, what it cannot measure is taken out and told, never skipped.

use std::{fmt, str::FromStr};

use crate::{
    fault::{CrashPoint, Fault},
    link::LinkFaults,
    plan::{Kind, Plan, PlanError, Step, WorkloadPlan, field, forgets, validate::lasts},
};

/// Where a plan is carried out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum WorldKind {
    /// Real processes, real QUIC, wall time.
    #[default]
    Process,
    /// The whole runtime in virtual time.
    Sim,
    /// Cores only, over a model of network and disk.
    Swarm,
}

impl WorldKind {
    /// All of them, the most honest first.
    pub const ALL: [Self; 3] = [Self::Process, Self::Sim, Self::Swarm];

    /// The name in commands and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Sim => "sim",
            Self::Swarm => "swarm",
        }
    }

    /// Whether its time is made up. Then a seed repeats bit by bit, and no figure says how fast
    /// anything is.
    pub fn is_virtual(self) -> bool {
        self != Self::Process
    }
}

/// Checks that a world can do what the plan asks for.
///
/// # Errors
/// The first field that it cannot, and which world can.
pub fn fits(plan: &Plan, world: WorldKind) -> Result<(), PlanError> {
    if world.is_virtual() && plan.background_load > 0 {
        let allowed = format!("world {world} has no host to be kept busy: use world process");
        return Err(field("background_load", plan.background_load, allowed));
    }
    // In virtual time no two runs would be alike: iroh goes through the connections that two nodes
    // have with each other, one for each group, by where they are in memory.
    if world != WorldKind::Process && plan.groups > 1 {
        let allowed =
            format!("world {world} has one group on its nodes: use world process, or groups = 1");
        return Err(field("groups", plan.groups, allowed));
    }
    let skewed = plan.steps.iter().position(|step| may_be(step, |fault| fault == Fault::Clock));
    if let Some(number) = skewed.filter(|_| world == WorldKind::Swarm) {
        let allowed = "in world swarm clocks differ by the seed: use world process or sim";
        return Err(field(&format!("steps[{number}].fault"), Fault::Clock, allowed));
    }
    if let Some(evict_after_ms) = plan.evict_after_ms.filter(|_| world == WorldKind::Swarm) {
        let allowed = format!("world swarm has no {STEWARD}: use world process or sim");
        return Err(field("evict_after_ms", evict_after_ms.of(plan.profile), allowed));
    }
    if world != WorldKind::Sim
        && let Some(number) = plan.steps.iter().position(|step| step.point != CrashPoint::Any)
    {
        let allowed = format!("world {world} does not see what a node is about: use world sim");
        return Err(field(&format!("steps[{number}].point"), plan.steps[number].point, allowed));
    }
    if world == WorldKind::Process {
        return plan.workload.iter().try_for_each(|load| can_be_told(plan, load));
    }
    if world == WorldKind::Sim {
        return Ok(());
    }
    if plan.kind == Kind::Formation {
        let allowed = "world swarm has no processes to start and no bonds to wait for: \
                       use world process or sim";
        return Err(field("kind", plan.kind, allowed));
    }
    if plan.kind == Kind::Lagging {
        let allowed = "world swarm has no bonds, and its nodes fetch nothing in bulk: use world \
                       process or sim";
        return Err(field("kind", plan.kind, allowed));
    }
    if let Some(entries) = plan.snapshot_log_entries {
        let allowed = "in world swarm random worlds take snapshots, and plans none: use world \
                       process or sim";
        return Err(field("snapshot_log_entries", entries, allowed));
    }
    let forgets = |step: &Step| may_be(step, |fault| forgets(plan, fault));
    if let Some(number) = plan.steps.iter().position(forgets) {
        let allowed = "in world swarm no server joins in the place of one that lost its memory: \
                       use world process or sim, or storage = \"disk\"";
        let value = format!("{} with storage = \"memory\"", plan.steps[number].fault);
        return Err(field(&format!("steps[{number}].fault"), value, allowed));
    }
    let drawn = plan
        .steps
        .iter()
        .enumerate()
        .flat_map(|(number, step)| step.each().into_iter().map(move |drawn| (number, drawn)));
    drawn.into_iter().try_for_each(|(number, step)| in_swarm(number, &step))
}

/// Takes out what is expected of figures that the world does not have; says of each why.
pub fn drop_unmeasured(plan: &mut Plan, world: WorldKind) -> Vec<String> {
    if !world.is_virtual() {
        return Vec::new();
    }
    let growth = plan.expect.memory_growth_kb_per_min_max.take();
    let told = |_| {
        format!(
            "expect.memory_growth_kb_per_min_max is not looked at: in world {world} no node has \
             a memory of its own"
        )
    };
    growth.map(told).into_iter().collect()
}

/// Links are hurt by the processes at their ends, and clocks by the processes themselves, which
/// must be running to hear of it.
fn can_be_told(plan: &Plan, load: &WorkloadPlan) -> Result<(), PlanError> {
    let pauses = |step: &Step| may_be(step, |fault| fault == Fault::Pause);
    let paused = plan.steps.iter().enumerate().filter(|(_, step)| pauses(step));
    for (number, step) in paused {
        let (from, until) = lasts(plan, load, step);
        let mut meanwhile = plan.steps.iter().enumerate().filter(|(other, candidate)| {
            let (start, end) = lasts(plan, load, candidate);
            *other != number && start <= until && from <= end
        });
        let told = meanwhile.find_map(|(other, step)| {
            Some((other, step.each().into_iter().find(|drawn| drawn.fault.is_told())?.fault))
        });
        if let Some((other, fault)) = told {
            let allowed = format!(
                "step {other}, {fault}, may not be over, and a process that stands still cannot \
                 be told of it: use world sim or swarm"
            );
            return Err(field(&format!("steps[{number}].fault"), Fault::Pause, allowed));
        }
    }
    Ok(())
}

/// Whether such a fault may be what the step comes to.
fn may_be(step: &Step, is_such: impl Fn(Fault) -> bool) -> bool {
    step.each().iter().any(|drawn| is_such(drawn.fault))
}

/// The swarm carries whole messages: nothing below them can be hurt.
fn in_swarm(number: usize, step: &Step) -> Result<(), PlanError> {
    let lacking = match step.fault {
        Fault::Restart => Some("processes that end in good order"),
        Fault::Leave | Fault::Wipe => Some(STEWARD),
        Fault::Disk => Some("disk that could fail, only a model of what a crash loses"),
        _ => None,
    };
    if let Some(lacking) = lacking {
        let allowed = format!("world swarm has no {lacking}: use world process or sim");
        return Err(field(&format!("steps[{number}].fault"), step.fault, allowed));
    }
    let Some(faults) = &step.faults else { return Ok(()) };
    let LinkFaults { hold, corrupt, bandwidth_bytes_per_s, .. } = faults;
    let refused = |name: &str, value: String| {
        let allowed = "world swarm carries messages and no datagrams: use world process or sim";
        Err(field(&format!("steps[{number}].faults.{name}"), value, allowed))
    };
    if *hold {
        return refused("hold", "true".into());
    }
    if *corrupt != LinkFaults::default().corrupt {
        return refused("corrupt", corrupt.to_string());
    }
    match bandwidth_bytes_per_s {
        Some(bytes_per_s) => refused("bandwidth_bytes_per_s", bytes_per_s.to_string()),
        None => Ok(()),
    }
}

impl fmt::Display for WorldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for WorldKind {
    type Err = PlanError;

    fn from_str(name: &str) -> Result<Self, PlanError> {
        let named = Self::ALL.into_iter().find(|world| world.name() == name);
        named.ok_or_else(|| field("world", name, "must be process, sim or swarm"))
    }
}

/// What a group without it lacks.
const STEWARD: &str = "steward, who decides who is a member";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{StorageKind, parse};

    const STEP: &str = "[[steps]]\nat = 500\nfault = \"link\"\nreturn_after_ms = 900\n";

    fn failover(head: &str, faults: &str) -> Plan {
        let plan = format!("scenario = \"x\"\nkind = \"failover\"\n{head}\n[workload]\n{STEP}");
        parse(&format!("{plan}faults = {{ {faults} }}\n")).expect("a plan")
    }

    fn refused(plan: &Plan, world: WorldKind) -> String {
        fits(plan, world).expect_err("the world cannot do it").to_string()
    }

    #[test]
    fn names_are_read_back() {
        for world in WorldKind::ALL {
            assert_eq!(world.to_string().parse(), Ok(world));
        }
        let error = "moon".parse::<WorldKind>().expect_err("there is no such world").to_string();
        assert_eq!(error, "world is moon, but must be process, sim or swarm");
        assert_eq!(WorldKind::default(), WorldKind::Process);
    }

    #[test]
    fn each_world_refuses_what_it_cannot_do_by_field() {
        let busy = failover("background_load = 2", "loss = 0.1");
        for world in [WorldKind::Sim, WorldKind::Swarm] {
            let text = refused(&busy, world);
            assert!(text.starts_with("background_load is 2, but world s"), "{text}");
        }
        let several = Plan { groups: 3, ..failover("", "loss = 0.1") };
        for world in [WorldKind::Sim, WorldKind::Swarm] {
            let text = refused(&several, world);
            assert!(text.starts_with("groups is 3, but world s"), "{text}");
        }
        assert_eq!(fits(&several, WorldKind::Process), Ok(()));
        let mut killed = failover("", "loss = 0.1");
        (killed.steps[0].fault, killed.steps[0].point) = (Fault::Kill, CrashPoint::AfterVote);
        for world in [WorldKind::Process, WorldKind::Swarm] {
            let text = refused(&killed, world);
            assert!(text.starts_with("steps[0].point is after-vote, but world"), "{text}");
        }
        assert_eq!(fits(&killed, WorldKind::Sim), Ok(()));
        let mut forgetful = Plan { storage: StorageKind::Memory, ..killed.clone() };
        forgetful.steps[0].point = CrashPoint::Any;
        let text = refused(&forgetful, WorldKind::Swarm);
        assert!(text.starts_with("steps[0].fault is kill with storage = \"memory\""), "{text}");
        assert_eq!(fits(&forgetful, WorldKind::Process), Ok(()));
        let formation = parse("scenario = \"x\"\nkind = \"formation\"\n").expect("a plan");
        assert!(refused(&formation, WorldKind::Swarm).starts_with("kind is formation"));
        let compacting = failover("snapshot_log_entries = 40", "loss = 0.1");
        assert_eq!(fits(&compacting, WorldKind::Sim), Ok(()));
        let text = refused(&compacting, WorldKind::Swarm);
        assert!(text.starts_with("snapshot_log_entries is 40, but in world swarm"), "{text}");
        let corrupt = refused(&failover("", "corrupt = 0.5"), WorldKind::Swarm);
        assert!(corrupt.starts_with("steps[0].faults.corrupt is 0.5"), "{corrupt}");
        let narrow = refused(&failover("", "bandwidth_bytes_per_s = 9000"), WorldKind::Swarm);
        assert!(narrow.starts_with("steps[0].faults.bandwidth_bytes_per_s is 9000"), "{narrow}");
    }

    #[test]
    fn what_a_world_can_do_passes() {
        let all = failover("background_load = 2", "corrupt = 0.5");
        assert_eq!(fits(&all, WorldKind::Process), Ok(()));
        let lossy = failover("", "loss = 0.1, delay_ms = 3, duplicate = 0.1");
        let formation = parse("scenario = \"x\"\nkind = \"formation\"\n").expect("a plan");
        assert_eq!(fits(&formation, WorldKind::Sim), Ok(()));
        for world in WorldKind::ALL {
            assert_eq!(fits(&lossy, world), Ok(()));
        }
    }

    #[test]
    fn what_is_not_measured_is_taken_out_and_told() {
        let text = "scenario = \"x\"\nkind = \"steady\"\n[workload]\n[expect]\n\
                    memory_growth_kb_per_min_max = 9\nterm_changes_max = 0\n";
        let plan = parse(text).expect("a plan");
        let mut taken = plan.clone();
        assert!(drop_unmeasured(&mut taken, WorldKind::Process).is_empty());
        assert_eq!(taken, plan);
        let told = drop_unmeasured(&mut taken, WorldKind::Sim);
        assert!(told[0].contains("memory_growth_kb_per_min_max is not looked at"), "{told:?}");
        assert_eq!(taken.expect.memory_growth_kb_per_min_max, None);
        assert_eq!(taken.expect.term_changes_max, plan.expect.term_changes_max);
        assert!(drop_unmeasured(&mut taken, WorldKind::Sim).is_empty(), "once");
    }
}
