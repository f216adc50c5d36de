//! What the command line changes in a plan.
//!
//! Decides only whether a plan has the field at all; whether the value can be carried out is
//! `validate`'s to say. Invariant: what is not given changes nothing.

mod cause;
mod conflict;
mod lag;
mod load;
mod nodes;
mod place;
mod struck;
mod value;

use chaos::disk::{DiskFault, DiskKind};
use chaos::fault::{Fault, Target};
use chaos::plan::{self, Expect, Plan, PlanError, RandomFaults, Step, StorageKind, WorldKind};
use chaos::seed::Seed;
use clap::Args;
use runtime::ConsensusProfile;

pub(crate) use lag::LagOverrides;
use place::out_of_place;
pub(crate) use place::{FaultsIn, faults_in, out_of_place_in};
pub(crate) use struck::Struck;
pub(crate) use value::{count, duration_ms, within};

/// Fields of a plan that can be set on the command line.
#[derive(Args, Debug, Default, Clone, PartialEq)]
pub(crate) struct Overrides {
    /// Nodes of the group, 1 to 9
    #[arg(long, value_name = "N", value_parser = within::<1, 9>)]
    pub(crate) nodes: Option<u64>,
    /// Groups that the nodes are members of, 1 to 16: the load is divided among them, and faults
    /// are aimed at the leader of the first
    #[arg(long, value_name = "N", value_parser = within::<1, 16>)]
    pub(crate) groups: Option<u64>,
    /// How often it is done
    #[arg(long, value_name = "N", value_parser = within::<1, 100_000>)]
    pub(crate) trials: Option<u64>,
    /// Operations due each second, whether answers come or not
    #[arg(long, value_name = "PER_SECOND", value_parser = within::<1, 100_000>)]
    pub(crate) rate: Option<u64>,
    /// Clients, each with a connection of its own
    #[arg(long, value_name = "N", value_parser = within::<1, 256>)]
    pub(crate) clients: Option<u64>,
    /// How the nodes keep time: lan, wan or loopback
    #[arg(long, value_name = "PROFILE", value_parser = plan::parse_profile)]
    pub(crate) profile: Option<ConsensusProfile>,
    /// Where the nodes remember: disk, or memory, where a node that ends returns as a new server
    #[arg(long, value_name = "STORAGE")]
    pub(crate) storage: Option<StorageKind>,
    /// Leaders answer strong reads without asking the others while they hold a lease
    #[arg(long)]
    pub(crate) lease_reads: bool,
    /// What is done to the node: disk, isolate, kill, leave, pause, restart, transfer or wipe; or
    /// random, one of isolate, kill, pause, restart and transfer for each trial, by the seed
    #[arg(long, value_name = "FAULT")]
    pub(crate) fault: Option<Struck>,
    /// How its disk fails: sync-error, write-error, no-space, torn-write, stall or flip (a bit,
    /// while it is down)
    #[arg(long, value_name = "KIND")]
    pub(crate) disk: Option<DiskKind>,
    /// Hit a follower as well in each trial, at a moment of its own: the two mostly overlap
    #[arg(long)]
    pub(crate) overlap: bool,
    /// Draw the faults from the seed, in place of those of the plan; nodes leave or lose their
    /// stores only where they do so in the plan
    #[arg(long)]
    pub(crate) random_faults: bool,
    /// Which variant of the plan, where it has several
    #[arg(long, value_name = "VARIANT")]
    pub(crate) kind: Option<String>,
    /// How long the load lasts, for each trial, from 1s to 24h: 1500ms, 5s, 10m, 1h
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    pub(crate) duration: Option<u64>,
    /// Busy loops that run beside the nodes
    #[arg(long, value_name = "N", value_parser = within::<0, 1_024>)]
    pub(crate) background_load: Option<u64>,
    /// What decides every draw, decimal or 0x…; drawn and printed if absent
    #[arg(long, value_name = "SEED")]
    pub(crate) seed: Option<Seed>,
    /// Of a follower that lags.
    #[command(flatten)]
    pub(crate) lag: LagOverrides,
}

impl Overrides {
    /// Changes the plan, which is to be carried out in that world.
    ///
    /// # Errors
    /// What the plan has no place for, with the reason. Values are not judged here, but where they
    /// are to be whatever can be carried out, and where steps or bounds would not be what they
    /// were.
    pub(crate) fn apply(&self, plan: &mut Plan, world: WorldKind) -> Result<(), PlanError> {
        let Self { nodes, trials, profile, storage, background_load, seed, .. } = *self;
        conflict::check(self, plan)?;
        // Later fields change what was chosen.
        plan::choose(plan, self.kind.as_deref()).map_err(|error| as_argument("--kind", error))?;
        let own_nodes = plan.nodes;
        // Of steps that are not carried out none must fit.
        if let Some(nodes) = nodes.filter(|_| !self.random_faults) {
            nodes::fit(plan, nodes)?;
        }
        plan.nodes = nodes.unwrap_or(plan.nodes);
        self.lag.apply(plan, nodes)?;
        plan.groups = self.groups.unwrap_or(plan.groups);
        plan.trials = trials.unwrap_or(plan.trials);
        plan.profile = profile.unwrap_or(plan.profile);
        plan.storage = storage.unwrap_or(plan.storage);
        plan.lease_reads |= self.lease_reads;
        plan.background_load = background_load.unwrap_or(plan.background_load);
        plan.seed = seed.or(plan.seed);
        load::apply(self, plan)?;
        if self.random_faults {
            // What the plan expected, it expected of its own steps.
            let own = std::mem::take(&mut plan.steps);
            (plan.random, plan.expect) = (Some(random_in_place_of(&own)), Expect::default());
        }
        // With fewer than three nodes there is no fault that a majority outlives.
        let is_meant = plan.expect.majority_may_be_lost;
        plan.expect.majority_may_be_lost |= plan.nodes < 3 && !plan.steps.is_empty();
        self.apply_faults(plan, world)?;
        load::lasts(self, plan)?;
        if nodes.is_some() {
            nodes::are_enough(plan, is_meant)?;
        }
        match plan.nodes < 3 && own_nodes >= 3 && !is_meant {
            true => nodes::keeps_bounds(plan),
            false => Ok(()),
        }
    }

    fn apply_faults(&self, plan: &mut Plan, world: WorldKind) -> Result<(), PlanError> {
        if let (Some(lag), Some(fault)) = (&mut plan.lag, self.fault) {
            lag.fault = lag::follower_fault(fault)?;
            return Ok(());
        }
        if let Some(Struck::By(fault)) = self.struck()? {
            plan.steps.iter_mut().for_each(|step| {
                (step.fault, step.among) = (fault, Vec::new());
                step.disk = self.disk.map(DiskFault::of);
            });
        }
        if self.overlap {
            let others = plan.steps.clone().into_iter();
            plan.steps.extend(others.map(|step| Step { target: Target::Follower, ..step }));
        }
        if self.fault == Some(Struck::AtRandom) {
            *plan = plan::any_fault(plan, world)?;
        }
        Ok(())
    }

    /// What is done to the node, as far as that is said.
    fn struck(&self) -> Result<Option<Struck>, PlanError> {
        match (self.fault, self.disk) {
            (None, Some(_)) => Ok(Some(Struck::By(Fault::Disk))),
            (Some(fault), Some(kind)) if fault != Struck::By(Fault::Disk) => {
                Err(PlanError::Field {
                    field: "--disk".to_owned(),
                    value: kind.to_string(),
                    allowed: format!("only --fault disk has a use for it, and this is {fault}"),
                })
            }
            (fault, _) => Ok(fault),
        }
    }
}

/// The refusal in the words of the command line.
fn as_argument(name: &str, error: PlanError) -> PlanError {
    match error {
        PlanError::Field { value, allowed, .. } => {
            PlanError::Field { field: name.to_owned(), value, allowed }
        }
        other => other,
    }
}

/// Faults of all kinds; those that change who is a member where the plan's own steps do.
fn random_in_place_of(own: &[Step]) -> RandomFaults {
    let mut random = RandomFaults::default();
    let is_own = |fault: &Fault| own.iter().any(|step| step.fault == *fault);
    random.faults.extend([Fault::Leave, Fault::Wipe].into_iter().filter(is_own));
    random
}

#[cfg(test)]
pub(crate) mod tests {
    use chaos::plan::MsByProfile;

    use super::value::DURATION;
    use super::*;
    use crate::catalogue;

    /// Something in every field.
    pub(crate) fn all_given() -> Overrides {
        Overrides {
            nodes: Some(3),
            groups: Some(2),
            trials: Some(2),
            rate: Some(700),
            clients: Some(4),
            profile: Some(ConsensusProfile::Wan),
            storage: Some(StorageKind::Memory),
            lease_reads: true,
            fault: Some(Struck::By(Fault::Pause)),
            disk: None,
            kind: None,
            overlap: false,
            random_faults: false,
            duration: Some(9_000),
            background_load: Some(1),
            seed: Some(Seed(0xabc)),
            lag: LagOverrides::default(),
        }
    }

    const PROCESS: WorldKind = WorldKind::Process;

    fn builtin(name: &str) -> Plan {
        let all = catalogue::all().unwrap();
        all.into_iter().find(|builtin| builtin.plan.scenario == name).unwrap().plan
    }

    #[test]
    fn every_override_lands_in_the_plan() {
        let mut plan = builtin("leader-failover");
        all_given().apply(&mut plan, PROCESS).unwrap();
        assert_eq!((plan.nodes, plan.trials, plan.background_load), (3, 2, 1));
        assert_eq!(plan.groups, 2);
        assert_eq!(plan.profile, ConsensusProfile::Wan);
        assert_eq!(plan.storage, StorageKind::Memory);
        assert!(plan.lease_reads);
        assert_eq!(plan.seed, Some(Seed(0xabc)));
        assert!(plan.steps.iter().all(|step| step.fault == Fault::Pause));
        let load = plan.workload.as_ref().unwrap();
        let duration_ms = MsByProfile::all(9_000);
        assert_eq!((load.rate_per_s, load.clients, load.duration_ms), (700, 4, duration_ms));
        assert_eq!(plan::validate(&plan), Ok(()));
    }

    #[test]
    fn a_duration_takes_the_place_of_those_of_all_profiles() {
        for profile in plan::PROFILES {
            let mut plan = builtin("leader-failover");
            let (profile, duration) = (Some(profile), Some(20_000));
            let given = Overrides { profile, duration, ..Overrides::default() };
            given.apply(&mut plan, PROCESS).unwrap();
            let load = plan.workload.as_ref().unwrap();
            assert_eq!(load.duration_ms, MsByProfile::all(20_000));
            plan::keep_times(&mut plan);
            assert_eq!(plan::validate(&plan), Ok(()));
        }
        // What another profile has no room for is no matter once this one is chosen.
        let mut plan = builtin("leader-failover");
        let given = Overrides { duration: Some(4_000), ..Overrides::default() };
        given.apply(&mut plan, PROCESS).unwrap();
        let error = plan::validate(&plan).unwrap_err().to_string();
        assert!(error.starts_with("steps[0].return_after_ms is 5500 for wan, but"), "{error}");
        plan::keep_times(&mut plan);
        assert_eq!(plan::validate(&plan), Ok(()));
        let mut plan = builtin("leader-failover");
        let fault = Some(Struck::AtRandom);
        Overrides { fault, ..given }.apply(&mut plan, PROCESS).unwrap();
        assert!(plan.steps[0].among.len() > 3, "{:?}", plan.steps);
    }

    #[test]
    fn nothing_given_changes_nothing() {
        for name in ["leader-failover", "formation", "steady"] {
            let mut plan = builtin(name);
            Overrides::default().apply(&mut plan, PROCESS).unwrap();
            assert_eq!(plan, builtin(name));
        }
    }

    #[test]
    fn what_a_plan_has_no_place_for_is_refused_by_name() {
        let refused = |name: &str, overrides: Overrides| {
            overrides.apply(&mut builtin(name), PROCESS).unwrap_err().to_string()
        };
        let text = refused("formation", Overrides { rate: Some(5), ..Overrides::default() });
        assert_eq!(text, "--rate is 5, but formation has no clients: its kind is formation");
        let fault = Overrides { fault: Some(Struck::By(Fault::Kill)), ..Overrides::default() };
        let text = refused("steady", fault);
        assert_eq!(text, "--fault is kill, but steady has no faults: its kind is steady");
        let disk = Overrides { disk: Some(DiskKind::Flip), ..Overrides::default() };
        let text = refused("steady", disk);
        assert_eq!(text, "--disk is flip, but steady has no faults: its kind is steady");
    }

    #[test]
    fn a_kind_of_disk_fault_is_a_disk_fault() {
        let disk = |fault: Option<Fault>, disk: Option<DiskKind>| {
            let overrides =
                Overrides { fault: fault.map(Struck::By), disk, ..Overrides::default() };
            let mut plan = builtin("leader-failover");
            overrides.apply(&mut plan, PROCESS).map(|()| plan).map_err(|error| error.to_string())
        };
        for fault in [None, Some(Fault::Disk)] {
            for kind in DiskKind::ALL {
                let plan = disk(fault, Some(kind)).unwrap();
                let step = &plan.steps[0];
                assert_eq!((step.fault, step.disk), (Fault::Disk, Some(DiskFault::of(kind))));
                assert_eq!(plan::validate(&plan).and_then(|()| plan::fits(&plan, PROCESS)), Ok(()));
            }
        }
        let error = disk(Some(Fault::Kill), Some(DiskKind::Stall)).unwrap_err();
        assert_eq!(
            error,
            "--disk is stall, but only --fault disk has a use for it, and this is kill"
        );
        let silent = disk(Some(Fault::Disk), None).unwrap();
        let error = plan::validate(&silent).unwrap_err().to_string();
        assert!(error.contains("(--disk sync-error); the kinds are sync-error, write"), "{error}");
    }

    #[test]
    fn a_second_fault_hits_a_follower_meanwhile() {
        let overlap = Overrides { overlap: true, ..Overrides::default() };
        let mut plan = builtin("leader-failover");
        overlap.apply(&mut plan, PROCESS).unwrap();
        let targets: Vec<Target> = plan.steps.iter().map(|step| step.target).collect();
        assert_eq!(targets, [Target::Leader, Target::Follower]);
        assert_eq!(plan::validate(&plan), Ok(()));
        let text = overlap.apply(&mut builtin("steady"), PROCESS).unwrap_err().to_string();
        assert_eq!(text, "--overlap is given, but steady has no faults: its kind is steady");
    }

    #[test]
    fn with_fewer_than_three_nodes_a_majority_may_be_lost() {
        for nodes in [1, 2] {
            let mut plan = builtin("leader-failover");
            let fewer = Overrides { nodes: Some(nodes), ..Overrides::default() };
            fewer.apply(&mut plan, PROCESS).unwrap();
            assert_eq!(plan::validate(&plan), Ok(()));
        }
    }

    #[test]
    fn random_faults_take_the_place_of_a_plans_own() {
        let random = |name: &str| {
            let mut plan = builtin(name);
            let overrides = Overrides { random_faults: true, ..Overrides::default() };
            overrides.apply(&mut plan, PROCESS).map(|()| plan).map_err(|error| error.to_string())
        };
        let plan = random("leader-failover").unwrap();
        assert_eq!((plan.steps.len(), plan.random.clone()), (0, Some(RandomFaults::default())));
        assert_eq!(plan::validate(&plan), Ok(()));
        let drawn = plan::draw_faults(&plan, PROCESS, Seed(7)).unwrap();
        assert!(!drawn.steps.is_empty() && drawn.random.is_none());
        let churn = random("membership-churn").unwrap();
        let drawn = churn.random.clone().unwrap();
        assert_eq!(drawn.faults.len(), RandomFaults::default().faults.len() + 2, "{drawn:?}");
        assert_eq!(plan::validate(&churn), Ok(()));
        let error = random("steady").unwrap_err();
        assert!(error.starts_with("--random-faults is given, but steady has no faults"), "{error}");
    }

    #[test]
    fn a_random_fault_is_any_that_the_world_can_do() {
        let random = |overrides: Overrides, world: WorldKind| {
            let mut plan = builtin("leader-failover");
            let overrides = Overrides { fault: Some(Struck::AtRandom), ..overrides };
            overrides.apply(&mut plan, world).map(|()| plan)
        };
        let among = |plan: &Plan, step: usize| -> Vec<&'static str> {
            plan.steps[step].among.iter().map(|fault| fault.word()).collect()
        };
        let plan = random(Overrides::default(), PROCESS).unwrap();
        assert_eq!(among(&plan, 0), ["kill", "isolate", "transfer", "restart", "pause"]);
        assert_eq!(plan::validate(&plan).and_then(|()| plan::fits(&plan, PROCESS)), Ok(()));
        let swarm = random(Overrides::default(), WorldKind::Swarm).unwrap();
        assert_eq!(among(&swarm, 0), ["kill", "isolate", "transfer", "pause"]);
        let alone = random(Overrides { nodes: Some(1), ..Overrides::default() }, PROCESS).unwrap();
        assert_eq!(among(&alone, 0), ["kill", "restart", "pause"]);
        // Whoever stands still cannot be told, and a follower does not hand over.
        let overlap = Overrides { overlap: true, ..Overrides::default() };
        let both = random(overlap.clone(), PROCESS).unwrap();
        assert_eq!((both.steps[1].fault, among(&both, 1)), (Fault::Kill, vec![]));
        assert_eq!(plan::validate(&both).and_then(|()| plan::fits(&both, PROCESS)), Ok(()));
        let both = random(overlap, WorldKind::Sim).unwrap();
        assert_eq!(among(&both, 1), ["kill", "isolate", "restart", "pause"]);
        let mut steady = builtin("steady");
        let fault = Overrides { fault: Some(Struck::AtRandom), ..Overrides::default() };
        let text = fault.apply(&mut steady, PROCESS).unwrap_err().to_string();
        assert_eq!(text, "--fault is random, but steady has no faults: its kind is steady");
    }

    #[test]
    fn a_kind_makes_a_plan_into_one_of_its_variants() {
        let kind = |name: &str, kind: Option<&str>| {
            let mut plan = builtin(name);
            let kind = kind.map(str::to_owned);
            let applied = Overrides { kind, ..Overrides::default() }.apply(&mut plan, PROCESS);
            applied.map(|()| plan).map_err(|error| error.to_string())
        };
        let first = kind("partition", None).unwrap();
        assert_eq!(first.variant.as_deref(), Some("isolate-leader"));
        for variant in builtin("partition").variants {
            let plan = kind("partition", Some(&variant.name)).unwrap();
            assert_eq!(
                (plan.variant.as_deref(), plan.steps),
                (Some(&*variant.name), variant.steps)
            );
            assert_eq!((plan.variants, plan.about), (Vec::new(), variant.about));
        }
        let error = kind("partition", Some("quarrel")).unwrap_err();
        assert!(error.starts_with("--kind is quarrel, but the variants of partition are isolate"));
        let error = kind("steady", Some("bridge")).unwrap_err();
        assert_eq!(error, "--kind is bridge, but steady has no variants");
    }

    #[test]
    fn values_out_of_range_are_refused_with_the_range() {
        for (overrides, expected) in [
            (Overrides { nodes: Some(10), ..Overrides::default() }, "between 1 and 9"),
            (Overrides { groups: Some(17), ..Overrides::default() }, "between 1 and 16"),
            (Overrides { trials: Some(0), ..Overrides::default() }, "between 1 and"),
            (Overrides { rate: Some(0), ..Overrides::default() }, "between 1 and"),
            (Overrides { clients: Some(0), ..Overrides::default() }, "between 1 and"),
            (Overrides { duration: Some(1), ..Overrides::default() }, "between 1000 and"),
            (
                Overrides {
                    storage: Some(StorageKind::Memory),
                    nodes: Some(2),
                    ..Overrides::default()
                },
                "fault = \"pause\"",
            ),
        ] {
            let mut plan = builtin("leader-failover");
            overrides.apply(&mut plan, PROCESS).unwrap();
            let text = plan::validate(&plan).unwrap_err().to_string();
            assert!(text.contains(expected), "{overrides:?}: {text}");
        }
    }

    #[test]
    fn the_duration_that_is_offered_can_be_carried_out() {
        let offered = DURATION.split_once(": ").unwrap().1;
        for text in offered.split(", ").chain(["1s", "24h"]) {
            let mut plan = builtin("leader-failover");
            // As short a trial as may be has room for a short fault alone.
            plan.steps[0].return_after_ms = MsByProfile::all(100);
            let duration = Some(duration_ms(text).unwrap());
            Overrides { duration, ..Overrides::default() }.apply(&mut plan, PROCESS).unwrap();
            assert_eq!(plan::validate(&plan), Ok(()), "{text}");
        }
    }
}
