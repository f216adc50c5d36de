//! A plan in this world: cores only, in virtual time, exact, and judged like anywhere else.
//!
//! The plan's load, faults and expectations are those of the other worlds, and so are the
//! journal, the figures and the checkers; besides, every invariant looks after every step. There
//! are no processes, no bonds to wait for, no host that stalls and no memory to grow: what a plan
//! wants of these is refused before, or not looked at. Same plan and seed, same outcome, bit by
//! bit.

mod asking;
mod callers;
mod conductor;
mod ending;
mod planned;
mod strikes;

use std::panic::{self, AssertUnwindSafe};

use raft::Time;

use super::{
    profile::{Profile, Span},
    world::{World, said},
};
use crate::{
    checker::Verdict,
    fault::NodeNumber,
    invariant::{Invariants, Violation},
    plan::{Plan, WorldKind, consensus, fits, validate},
    run::{
        Journal, Listener, Outcome, Phase, RunError, Stop, check, chosen, pinned_to, probe_client,
    },
    seed::Seed,
};

pub(super) use asking::CallerEvent;
use callers::{Callers, Patience};
use conductor::{Broken, Conductor};
pub(super) use planned::Planned;

/// Carries a plan out. Returns when all of it is over and judged; nothing waits for the clock.
///
/// # Errors
/// A plan that this world cannot carry out, and a listener that fails. Whatever goes wrong later
/// is in the [`Outcome`].
pub fn carry_out(
    plan: &Plan,
    seed: Seed,
    listener: Box<dyn Listener>,
    stop: &Stop,
) -> Result<Outcome, RunError> {
    validate(plan)?;
    chosen(plan)?;
    fits(plan, WorldKind::Swarm)?;
    let world = world(plan, seed, Invariants::default());
    conduct((plan, seed), world, listener, stop)
}

fn conduct(
    (plan, seed): (&Plan, Seed),
    world: World,
    listener: Box<dyn Listener>,
    stop: &Stop,
) -> Result<Outcome, RunError> {
    let mut journal = Journal::new(listener, Time::default(), plan.groups);
    journal.phase(Phase::Start)?;
    let mut conductor = Conductor::new(plan, seed, world, journal, stop);
    // A core that finds itself in an impossible state panics. That is a finding like any other.
    let run = panic::catch_unwind(AssertUnwindSafe(|| conductor.conduct()));
    let ran = run.unwrap_or_else(|panic| Err(Broken::Rule(Violation::of("panic", said(&*panic)))));
    let steps = conductor.world.counts.steps;
    let found = &mut conductor.found;
    found.checks.push(match ran {
        Ok(()) => check("invariants", Verdict::Valid, format!("all held after {steps} steps")),
        Err(Broken::Rule(violation)) => {
            check("invariants", Verdict::Invalid, format!("step {steps}: {violation}"))
        }
        Err(Broken::Run(error)) => return Err(error),
    });
    conductor.conclude()
}

fn world(plan: &Plan, seed: Seed, invariants: Invariants) -> World {
    let consensus = consensus(plan);
    let profile = Profile::of(plan, seed);
    let Span(min, max) = profile.network.delay;
    let patience = Patience {
        latency: Span(min, max),
        silence: consensus.client_silence_max,
        pause: consensus.heartbeat_interval / 5,
        in_all: consensus.forward_timeout,
    };
    let (count, is_pinned) =
        plan.workload.as_ref().map_or((0, false), |load| (load.clients, load.pinned));
    let clients = (0..count).map(|name| (name, planned::seat(pinned_to(plan, name)), is_pinned));
    // Behind the clients of the load, one for each node, to prove at the end that it lives.
    let probes = (1..=plan.nodes).map(|node| (probe_client(node), node));
    let probes = probes.map(|(name, node)| (name, planned::seat(NodeNumber(node)), true));
    let seats = profile.founders;
    let callers = Callers::new(seed, patience, clients.chain(probes));
    let mut world = World::of(seed, profile, invariants);
    world.planned = Some(Box::new(Planned::new(seats, seed, callers)));
    #[cfg(feature = "planted-faults")]
    {
        world.plant = plan.planted.map(super::planted::Plant::Rule);
    }
    world
}

#[cfg(test)]
mod tests {
    use std::io;

    use raft::Planted;

    use super::*;
    use crate::{
        history::Operation,
        outage::Trial,
        plan::parse,
        run::Mark,
        schedule::Schedule,
        swarm::planted::{DriverFault, Plant},
    };

    struct Deaf;

    impl Listener for Deaf {
        fn phase(&mut self, _: Phase) -> io::Result<()> {
            Ok(())
        }

        fn progress(&mut self, _: u64, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn operation(&mut self, _: &Operation) -> io::Result<()> {
            Ok(())
        }

        fn marks(&mut self, _: &[Mark]) -> io::Result<()> {
            Ok(())
        }

        fn trials(&mut self, _: &[Trial]) -> io::Result<()> {
            Ok(())
        }

        fn schedule(&mut self, _: &Schedule) -> io::Result<()> {
            Ok(())
        }
    }

    /// The checks that a run with a broken rule does not pass.
    fn broken(plant: Option<Plant>, invariants: Invariants) -> Vec<String> {
        let plan = parse(
            "scenario = \"x\"\nkind = \"failover\"\ntrials = 5\n[workload]\npinned = true\n\
             clients = 10\n[[steps]]\nat = \"random\"\nfault = \"isolate\"\n\
             return_after_ms = 1500\n",
        );
        let (plan, seed) = (plan.expect("a plan"), Seed(1));
        let mut world = world(&plan, seed, invariants);
        world.plant = plant;
        let (_stopper, stop) = Stop::new();
        let outcome = conduct((&plan, seed), world, Box::new(Deaf), &stop).expect("it can be done");
        let failed = outcome.checks.into_iter().filter(|check| check.verdict == Verdict::Invalid);
        failed.map(|check| check.name).collect()
    }

    #[test]
    fn what_breaks_a_rule_is_seen_by_the_invariants_and_by_the_checkers_alone() {
        let stale = || Some(Plant::Core(|raft| raft.plant(Planted::ReadWithoutRound)));
        assert_eq!(broken(None, Invariants::default()), Vec::<String>::new());
        assert!(broken(stale(), Invariants::default()).contains(&"invariants".to_owned()));
        let seen = broken(stale(), Invariants::blind());
        assert!(seen.contains(&"linearizable".to_owned()), "{seen:?}");
        let hasty = Some(Plant::Driver(DriverFault::AcknowledgeBeforeSync));
        assert!(broken(hasty, Invariants::default()).contains(&"invariants".to_owned()));
    }
}
