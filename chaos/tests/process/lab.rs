//! What the stories share: a world in a folder of its own, a listener that keeps everything, and
//! waiting with a bound.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use chaos::{
    checker::{Check, Verdict},
    cluster::{Settings, World},
    fault::NodeNumber,
    history::Operation,
    outage::Trial,
    plan::{Plan, StorageKind, parse},
    process::{HostClock, Places, ProcessCluster, ProcessWorld},
    run::{Listener, Mark, Outcome, Phase, RunError, Stop, run},
    schedule::Schedule,
    seed::Seed,
};
use runtime::{Clock, ConsensusProfile};
use tokio::sync::mpsc;

pub(crate) fn places(folder: &Path) -> Places {
    Places {
        program: std::env::current_exe().expect("this program has a path"),
        logs: folder.join("nodes"),
        stores: folder.join("stores"),
    }
}

pub(crate) fn world(folder: &Path) -> ProcessWorld {
    ProcessWorld::new(places(folder))
}

pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a place for files")
}

pub(crate) fn settings(nodes: u64) -> Settings {
    Settings {
        nodes,
        groups: 1,
        consensus: ConsensusProfile::Lan.config(),
        planted: None,
        storage: StorageKind::Disk,
        packet_faults: false,
        seed: Seed(7),
        number: 1,
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("threads for a runtime").block_on(future)
}

/// A started cluster; its events are let go.
pub(crate) async fn cluster(world: &ProcessWorld, nodes: u64) -> ProcessCluster {
    let (events, mut noted) = mpsc::channel(1_024);
    tokio::spawn(async move { while noted.recv().await.is_some() {} });
    world.start(settings(nodes), events).await.expect("it starts")
}

/// Looks again and again, no longer than the bound.
pub(crate) async fn eventually<F>(what: &str, bound: Duration, mut holds: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let deadline = HostClock.now().plus(bound);
    while !holds().await {
        assert!(HostClock.now() < deadline, "not within {bound:?}: {what}");
        HostClock.sleep_until(HostClock.now().plus(Duration::from_millis(2))).await;
    }
}

pub(crate) fn all(nodes: u64) -> Vec<NodeNumber> {
    (1..=nodes).map(NodeNumber).collect()
}

/// Everything that a listener was told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) phases: Vec<Phase>,
    pub(crate) operations: u64,
    /// Of the entries that followers were to miss, how many were done.
    pub(crate) filling: Vec<(u64, u64)>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) trials: Vec<Trial>,
    pub(crate) schedule: Option<Schedule>,
}

#[derive(Clone, Default)]
pub(crate) struct Keeper {
    pub(crate) told: Arc<Mutex<Told>>,
    /// Makes the wish to stop when this trial begins.
    pub(crate) stop_at: Option<(u64, chaos::run::Stopper)>,
}

impl Keeper {
    fn with(&self, tell: impl FnOnce(&mut Told)) -> io::Result<()> {
        tell(&mut self.told.lock().expect("nobody panics while holding it"));
        Ok(())
    }
}

impl Listener for Keeper {
    fn phase(&mut self, phase: Phase) -> io::Result<()> {
        self.with(|told| told.phases.push(phase))
    }

    fn progress(&mut self, trial: u64, _trials: u64) -> io::Result<()> {
        if let Some((at, stopper)) = &self.stop_at
            && trial == *at
        {
            stopper.stop();
        }
        Ok(())
    }

    fn filling(&mut self, done: u64, entries: u64) -> io::Result<()> {
        self.with(|told| told.filling.push((done, entries)))
    }

    fn operation(&mut self, _operation: &Operation) -> io::Result<()> {
        self.with(|told| told.operations += 1)
    }

    fn marks(&mut self, marks: &[Mark]) -> io::Result<()> {
        self.with(|told| told.marks = marks.to_vec())
    }

    fn trials(&mut self, trials: &[Trial]) -> io::Result<()> {
        self.with(|told| told.trials = trials.to_vec())
    }

    fn schedule(&mut self, schedule: &Schedule) -> io::Result<()> {
        self.with(|told| told.schedule = Some(schedule.clone()))
    }
}

pub(crate) fn plan(text: &str) -> Plan {
    parse(text).expect("a plan")
}

/// Runs a plan in a folder of its own.
pub(crate) async fn run_plan(
    plan: &Plan,
    seed: u64,
    keeper: &Keeper,
    stop: Stop,
) -> Result<Outcome, RunError> {
    let folder = folder();
    let world = world(folder.path());
    run(&world, plan, Seed(seed), Box::new(keeper.clone()), stop).await
}

/// Runs a plan to its end; where the host stumbled, once or twice more. That it stood still for a
/// fifth of a second just before a fault, or after a return, leaves too few answers for a verdict
/// and says nothing of the nodes. A verdict `invalid` is never asked again.
pub(crate) fn judged(plan: &Plan, seed: u64) -> (Outcome, Keeper) {
    let mut runs = 0;
    loop {
        let (keeper, (_stopper, stop)) = (Keeper::default(), Stop::new());
        let outcome = block_on(run_plan(plan, seed, &keeper, stop)).expect("the lab works");
        runs += 1;
        if runs == RUNS_MAX || !stumbled(&outcome) {
            return (outcome, keeper);
        }
        eprintln!("the host stumbled, and the plan is run once more: {:?}", outcome.checks);
    }
}

/// Whether nothing broke, and for want of load not all could be judged.
fn stumbled(outcome: &Outcome) -> bool {
    let is_wanting =
        |check: &Check| check.verdict == Verdict::Unknown && OF_LOAD.contains(&check.name.as_str());
    outcome.verdict() != Verdict::Invalid && outcome.checks.iter().any(is_wanting)
}

/// What cannot be judged without enough load.
const OF_LOAD: [&str; 3] = ["rate", "assumptions", "availability"];
const RUNS_MAX: usize = 3;
