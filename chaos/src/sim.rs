//! The second world: the whole runtime, with its real QUIC endpoint, in virtual time.
//!
//! Nodes are hosts of a turmoil simulation on one thread; what runs on them is the production
//! code, on a clock, a socket and a disk of ours. One seed decides everything: the same seed
//! repeats every packet, byte by byte, in every process and on every machine, and the rolling
//! hash over all of it says so. Needs Linux with glibc, and tokio built with `tokio_unstable`.
//!
//! Time goes in ticks: within one, each host in turn runs to its end, and what hosts send each
//! other is delivered at a later one.

mod clock;
mod cluster;
mod disk;
mod host;
mod panics;
mod quiesce;
mod relay;
mod shim;
mod socket;
mod stage;
mod store;
mod trace;
mod trap;
mod witness;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use turmoil::Sim;

use crate::{
    checker::{Check, Verdict},
    plan::{Plan, validate},
    run::{self, Listener, Outcome, RunError, Stop},
    seed::{Seed, Stream},
};

use cluster::{HARNESS, SimWorld};
use disk::Losses;
use host::Host;
use relay::Relay;
use shim::Simulated;
use stage::{Order, Stage};
use trace::Trace;

/// Where a simulated run leaves things.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Places {
    /// Gets a line for every packet and every event, if given: what to compare where two runs of
    /// one seed differ.
    pub trace: Option<PathBuf>,
}

/// What carries the datagrams of simulated nodes, in words.
pub const TRANSPORT: &str = cluster::TRANSPORT;

/// Carries a plan out, on a thread of its own, and waits for it.
///
/// # Errors
/// A plan that cannot be carried out, a listener that fails, and a simulation that cannot go on.
pub fn run(
    plan: &Plan,
    seed: Seed,
    mut listener: Box<dyn Listener>,
    stop: &Stop,
    places: &Places,
) -> Result<Outcome, RunError> {
    validate(plan)?;
    let trace = Arc::new(Trace::new(places.trace.as_deref())?);
    let (relay, told) = relay::new();
    let (plan, stop) = (plan.clone(), stop.clone());
    let simulating = thread::Builder::new()
        .name("simulation".into())
        .spawn(move || Simulation::new(&plan, seed, trace).run(&plan, seed, relay, stop))
        .map_err(|error| RunError::Lab(format!("no thread to simulate on: {error}")))?;
    // When the listener fails, the simulation is told at its next word, and ends.
    let kept = told.pass_on(&mut *listener);
    let ran = simulating.join();
    kept?;
    ran.unwrap_or_else(|_| Err(RunError::Lab("the simulation panicked".into())))
}

/// One simulation, on the thread that made it.
struct Simulation {
    sim: Sim<'static>,
    stage: Arc<Stage>,
    /// What crashes found on its way to the disks.
    losses: Losses,
    /// Last, so that all else is dropped within the simulation.
    _simulated: Simulated,
}

impl Simulation {
    fn new(plan: &Plan, seed: Seed, trace: Arc<Trace>) -> Self {
        panics::tell_apart();
        let simulated = Simulated::new(Stream::named(seed, "entropy").draw());
        let tick = tick(plan);
        let mut sim = turmoil::Builder::new()
            .epoch(SystemTime::UNIX_EPOCH)
            .simulation_duration(ENDLESS)
            .tick_duration(tick)
            .min_message_latency(LATENCY_MIN)
            .max_message_latency(tick)
            .udp_capacity(DATAGRAMS_MAX)
            .rng_seed(Stream::named(seed, "network").draw())
            .build();
        let stage = Arc::new(Stage::new(plan.nodes, trace));
        for (number, host) in &stage.hosts {
            let host = Arc::clone(host);
            shim::show_next(sim.elapsed());
            sim.host(Host::name(*number), move || {
                let host = Arc::clone(&host);
                async move {
                    host.run().await;
                    Ok(())
                }
            });
        }
        Self { sim, stage, losses: Losses::default(), _simulated: simulated }
    }

    fn run(
        mut self,
        plan: &Plan,
        seed: Seed,
        relay: Relay,
        stop: Stop,
    ) -> Result<Outcome, RunError> {
        let ran: Arc<Mutex<Option<Result<Outcome, RunError>>>> = Arc::default();
        let (world, plan) = (SimWorld { stage: Arc::clone(&self.stage) }, plan.clone());
        let outcome = Arc::clone(&ran);
        shim::show_next(self.sim.elapsed());
        self.sim.client(HARNESS, async move {
            let done = run::run(&world, &plan, seed, Box::new(relay), stop).await;
            *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
            Ok(())
        });
        let stepped = self.step_to_the_end();
        let simulated_ms = u64::try_from(self.sim.elapsed().as_millis()).unwrap_or(u64::MAX);
        let ran = ran.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut outcome = match (stepped, ran) {
            (Ok(()), Some(ran)) => ran?,
            (Ok(()), None) => return Err(RunError::Lab("the run ended without a word".into())),
            (Err(fallen), _) => self.fell(fallen)?,
        };
        outcome.counts.insert("simulated_ms".into(), simulated_ms);
        outcome.counts.insert("disk_changes_open".into(), self.losses.open);
        outcome.counts.insert("disk_changes_lost".into(), self.losses.lost);
        let invariants = self.stage.invariants();
        if invariants.verdict == Verdict::Invalid {
            outcome.verdict = Some(Verdict::Invalid);
        }
        outcome.checks.push(invariants);
        outcome.trace_hash = Some(self.stage.trace.finish()?);
        Ok(outcome)
    }

    /// Tick by tick, and between them what the harness wants done to hosts.
    fn step_to_the_end(&mut self) -> Result<(), String> {
        loop {
            while let Some((order, done)) = self.stage.next_order() {
                self.carry_out(order);
                // Whoever gave the order may have given up.
                let _ = done.send(());
            }
            let stepped = catch_unwind(AssertUnwindSafe(|| Sim::step(&mut self.sim)));
            // Also one that was caught: its member closes its store before it panics with it, which
            // takes as long as the disk does. By then it may be crashed, or the run be over.
            if let Some(panic) = panics::first() {
                return Err(panic.told);
            }
            match stepped {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => return Ok(()),
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err("a task panicked".into()),
            }
        }
    }

    fn carry_out(&mut self, order: Order) {
        // Whoever ends gets a new runtime as well as whoever starts.
        shim::show_next(self.sim.elapsed());
        match order {
            Order::Start(node) => self.sim.bounce(Host::name(node)),
            Order::Crash(node, at) => {
                self.sim.crash(Host::name(node));
                if let Some(host) = self.stage.hosts.get(&node) {
                    host.went();
                    let losses = host.part().map(|part| part.disk.crash(at)).unwrap_or_default();
                    self.losses.open += losses.open;
                    self.losses.lost += losses.lost;
                }
            }
        }
    }

    /// A node that fell broke its promise not to; anything else is the laboratory's own fault. What
    /// had happened until then was told: no more than this is added.
    fn fell(&self, fallen: String) -> Result<Outcome, RunError> {
        let Some(panic) = panics::first() else { return Err(RunError::Lab(fallen)) };
        let node = self
            .stage
            .hosts
            .values()
            .find(|host| panic.runtime.is_some_and(|runtime| host.runs_in(runtime)));
        let Some(node) = node else { return Err(RunError::Lab(panic.told)) };
        let detail = format!("node {} panicked: {}", node.number, panic.told);
        let nodes = Check { name: "nodes".into(), verdict: Verdict::Invalid, detail };
        let verdict = Some(Verdict::Invalid);
        Ok(Outcome { verdict, checks: vec![nodes], ..Outcome::default() })
    }
}

/// At most a tenth of a heartbeat, and no finer than timers are.
fn tick(plan: &Plan) -> Duration {
    let heartbeat = plan.profile.config().heartbeat_interval;
    (heartbeat / TICKS_PER_HEARTBEAT).clamp(TICK_MIN, TICK_MAX)
}

const TICKS_PER_HEARTBEAT: u32 = 10;
const TICK_MIN: Duration = Duration::from_millis(1);
const TICK_MAX: Duration = Duration::from_millis(5);
const LATENCY_MIN: Duration = Duration::from_micros(100);
/// Every wait of a run has a bound of its own.
const ENDLESS: Duration = Duration::from_secs(u32::MAX as u64);
/// What a socket holds that nobody reads.
const DATAGRAMS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;

    #[test]
    fn no_run_in_which_something_panicked_ends_well_also_if_that_was_caught() {
        let simulating = thread::spawn(|| {
            let plan = plan::parse("scenario = \"caught\"\nkind = \"formation\"\nnodes = 3\n");
            let mut simulation = Simulation::new(&plan.expect("a plan"), Seed(1), Arc::default());
            simulation.sim.client(HARNESS, async {
                assert!(catch_unwind::<_, ()>(|| panic!("a brick fell")).is_err());
                Ok(())
            });
            simulation.step_to_the_end()
        });
        let stepped = simulating.join().expect("the panic was caught");
        let told = stepped.expect_err("something panicked");
        assert!(told.contains("a brick fell"), "{told}");
    }
}
