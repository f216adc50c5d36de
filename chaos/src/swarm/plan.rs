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
mod witness;

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
    let held = || check("invariants", Verdict::Valid, format!("all held after {steps} steps"));
    let found = &mut conductor.found;
    let invariants = match ran {
        Ok(()) => held(),
        Err(Broken::Rule(violation)) => {
            check("invariants", Verdict::Invalid, format!("step {steps}: {violation}"))
        }
        // No guarantee broke. What there is until then is judged, and of several reasons to give
        // up the first is told.
        Err(Broken::Run(error @ RunError::Lab(_))) => {
            found.failure.get_or_insert_with(|| error.to_string());
            held()
        }
        Err(Broken::Run(error)) => return Err(error),
    };
    found.checks.push(invariants);
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
    use std::{collections::BTreeSet, io, time::Duration};

    use raft::Planted;

    use super::*;
    use crate::{
        history::Operation,
        outage::Trial,
        plan::parse,
        run::Mark,
        schedule::Schedule,
        swarm::{
            Options,
            event::Event,
            planted::{DriverFault, Plant},
            queue::EVENTS_MAX,
        },
    };

    /// Clients stay with a leader that is cut off.
    const ISOLATED: &str = "scenario = \"x\"\nkind = \"failover\"\ntrials = 5\n[workload]\n\
        pinned = true\nclients = 10\n[[steps]]\nat = \"random\"\nfault = \"isolate\"\n\
        return_after_ms = 1500\n";

    /// While nobody leads clients ask again and again, and they are many.
    const RUSH: &str = "scenario = \"x\"\nkind = \"failover\"\n[workload]\nrate_per_s = 12000\n\
        duration_ms = 3000\n[[steps]]\nat = 600\nfault = \"kill\"\nreturn_after_ms = 1000\n";

    /// Of five nodes two do not reach each other.
    const APART: &str = "scenario = \"x\"\nkind = \"failover\"\n[workload]\n[[steps]]\n\
        at = \"random\"\nfault = \"partition\"\ncut = [[1, 2]]\nreturn_after_ms = 1500\n";

    const ALONE: &str = "scenario = \"x\"\nkind = \"failover\"\nnodes = 1\n[workload]\n[[steps]]\n\
        at = \"random\"\nfault = \"isolate\"\nreturn_after_ms = 1500\n[expect]\n\
        majority_may_be_lost = true\n";

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

    fn outcome(plan: &str, seed: u64, plant: Option<Plant>, invariants: Invariants) -> Outcome {
        let (plan, seed) = (parse(plan).expect("a plan"), Seed(seed));
        let mut world = world(&plan, seed, invariants);
        world.plant = plant;
        let (_stopper, stop) = Stop::new();
        conduct((&plan, seed), world, Box::new(Deaf), &stop).expect("it can be done")
    }

    /// What comes of a run in which no rule is broken.
    fn sound(plan: &str, seed: u64) -> Outcome {
        outcome(plan, seed, None, Invariants::default())
    }

    /// A leader that answers reads without asking whether it leads still.
    fn stale() -> Option<Plant> {
        Some(Plant::Core(|raft| raft.plant(Planted::ReadWithoutRound)))
    }

    /// The checks that a run with a broken rule does not pass.
    fn broken(plant: Option<Plant>, invariants: Invariants) -> Vec<String> {
        let checks = outcome(ISOLATED, 1, plant, invariants).checks.into_iter();
        let failed = checks.filter(|check| check.verdict == Verdict::Invalid);
        failed.map(|check| check.name).collect()
    }

    /// The numbers of operations that were asked and are not in the history.
    fn forgotten(outcome: &Outcome) -> Vec<u64> {
        let operations = outcome.frozen.history.operations();
        let known: BTreeSet<u64> = operations.iter().map(|operation| operation.id).collect();
        let last = known.last().copied().unwrap_or(0);
        (1..=last).filter(|id| !known.contains(id)).collect()
    }

    #[test]
    fn what_breaks_a_rule_is_seen_by_the_invariants_and_by_the_checkers_alone() {
        assert_eq!(broken(None, Invariants::default()), Vec::<String>::new());
        assert!(broken(stale(), Invariants::default()).contains(&"invariants".to_owned()));
        let seen = broken(stale(), Invariants::blind());
        assert!(seen.contains(&"linearizable".to_owned()), "{seen:?}");
        let hasty = Some(Plant::Driver(DriverFault::AcknowledgeBeforeSync));
        assert!(broken(hasty, Invariants::default()).contains(&"invariants".to_owned()));
    }

    #[test]
    fn what_was_asked_before_a_rule_was_broken_is_in_the_history() {
        let outcome = outcome(ISOLATED, 1, stale(), Invariants::default());
        assert!(outcome.counts.get("unknown_unanswered") > Some(&0), "{:?}", outcome.counts);
        assert_eq!(forgotten(&outcome), Vec::<u64>::new());
    }

    #[test]
    fn more_than_the_model_carries_is_a_failure_of_the_laboratory() {
        let outcome = sound(RUSH, 1);
        let failure = outcome.failure.as_deref().unwrap_or_default();
        for words in ["the lab failed", "things are under way at once", "--rate"] {
            assert!(failure.contains(words), "{words}: {failure}");
        }
        let checks = &outcome.checks;
        assert_eq!((outcome.exit_code(), outcome.verdict()), (3, Verdict::Unknown), "{checks:?}");
        assert!(outcome.counts.get("unknown_unanswered") > Some(&0), "{:?}", outcome.counts);
        assert_eq!(forgotten(&outcome), Vec::<u64>::new());
    }

    /// There clients ask for no more than is served: it is the servers that talk without end.
    #[test]
    fn more_than_the_model_carries_is_a_finding_in_a_random_world() {
        let options = Options { seed: Seed(1), steps: 10, nodes: Some(3), plant: None };
        let mut world = World::new(&options, Invariants::default(), None);
        let later = Time(Duration::from_secs(3_600));
        (0..=EVENTS_MAX).for_each(|_| world.queue.put(later, Event::Operator));
        let failure = world.run().expect_err("it is too much");
        assert_eq!(failure.violation.invariant, "storm");
    }

    #[test]
    fn a_cut_between_followers_takes_place_in_silence() {
        // With the first seed neither of the two leads, with the second one does.
        let (silent, struck) = (sound(APART, 0), sound(APART, 1));
        for outcome in [&silent, &struck] {
            let (failure, checks) = (&outcome.failure, &outcome.checks);
            assert_eq!(outcome.exit_code(), 0, "{failure:?} {checks:?}");
        }
        assert_eq!(silent.counts.get("messages_blocked"), None);
        assert!(struck.counts.get("messages_blocked") > Some(&0));
    }

    #[test]
    fn a_cut_that_crosses_no_link_does_not_take_place() {
        let failure = sound(ALONE, 1).failure.unwrap_or_default();
        assert!(failure.ends_with("did not take place: it crosses no link"), "{failure}");
    }
}
