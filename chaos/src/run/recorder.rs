//! Writes down what happens: one task, one order, one owner.
//!
//! Everything else of the run only sends to it, and looks at the [`View`] that it keeps of the
//! cluster. Invariant: a node's events are taken in before a later word about that node, so that
//! nothing a killed node said is taken for what its successor says.

mod journal;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use runtime::Time;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    checker::Check,
    cluster::NodeEvent,
    fault::NodeNumber,
    history::Operation,
    outage::{Demand, Strike},
    run::{Listener, Mark, Phase, RunError},
    schedule::Schedule,
};

pub(crate) use journal::{Journal, Records};
pub(crate) use view::View;

/// The way to the recorder's task. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder {
    facts: mpsc::Sender<Fact>,
    operations: mpsc::Sender<Operation>,
    view: watch::Receiver<View>,
}

enum Fact {
    Phase(Phase),
    Progress { trial: u64, trials: u64 },
    Filling { done: u64, entries: u64 },
    Doomed { node: NodeNumber, reply: oneshot::Sender<()> },
    Away { node: NodeNumber },
    Back { node: NodeNumber, forgot: bool },
    Fresh,
    Mark(Mark),
    Schedule(Schedule),
    Measure { strikes: Vec<Strike>, demand: Box<DemandOf>, reply: oneshot::Sender<()> },
    MeasureBeside { strikes: Vec<Strike>, led: BTreeMap<u64, BTreeSet<u64>>, demand: Demand },
    Successes { group: u64, from_ns: u64, reply: oneshot::Sender<Vec<u64>> },
    Freeze { reply: oneshot::Sender<Records> },
}

/// What clients ask while these strikes are on.
type DemandOf = dyn Fn(&[Strike]) -> Demand + Send;

impl Recorder {
    /// Starts to record a run with so many groups: times count from `origin`.
    pub(crate) fn start(
        listener: Box<dyn Listener>,
        (origin, groups): (Time, u64),
        mut events: mpsc::Receiver<NodeEvent>,
    ) -> (Self, JoinHandle<Result<(), RunError>>) {
        let (facts, mut told) = mpsc::channel(FACTS_MAX);
        let (operations, mut done) = mpsc::channel(OPERATIONS_MAX);
        let mut journal = Journal::new(listener, origin, groups);
        let view = journal.watch();
        let handle = tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    Some(event) = events.recv() => journal.event(event)?,
                    Some(operation) = done.recv() => journal.operation(operation)?,
                    fact = told.recv() => match fact {
                        Some(fact) => take(&mut journal, fact)?,
                        None => return Ok(()),
                    },
                }
            }
        });
        (Self { facts, operations, view }, handle)
    }

    /// What is known of the cluster.
    pub(crate) fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Resolves once something holds of the cluster; an error once the recorder is gone.
    pub(crate) async fn until(&self, holds: impl FnMut(&View) -> bool) -> Result<View, RunError> {
        let mut view = self.view.clone();
        let seen = view.wait_for(holds).await.map_err(|_| gone())?;
        Ok(seen.clone())
    }

    /// That nodes ended or stopped unasked, where any did. What fails because of one is felt
    /// before its end is told: for that it waits a moment.
    pub(crate) async fn fallen(&self) -> Result<Option<Check>, RunError> {
        match timeout(FALLEN_BOUND, self.until(|view| !view.failed.is_empty())).await {
            Ok(view) => Ok(view?.fallen()),
            Err(_) => Ok(None),
        }
    }

    pub(crate) async fn phase(&self, phase: Phase) -> Result<(), RunError> {
        self.tell(Fact::Phase(phase)).await
    }

    pub(crate) async fn progress(&self, trial: u64, trials: u64) -> Result<(), RunError> {
        self.tell(Fact::Progress { trial, trials }).await
    }

    pub(crate) async fn filling(&self, done: u64, entries: u64) -> Result<(), RunError> {
        self.tell(Fact::Filling { done, entries }).await
    }

    /// Takes operations that were answered or given up.
    pub(crate) fn operations(&self) -> mpsc::Sender<Operation> {
        self.operations.clone()
    }

    pub(crate) async fn operation(&self, operation: Operation) -> Result<(), RunError> {
        self.operations.send(operation).await.map_err(|_| gone())
    }

    /// The node is about to be hit in a way that makes it stop by itself. Resolves once that is
    /// known, so that it is when the node says so.
    pub(crate) async fn doomed(&self, node: NodeNumber) -> Result<(), RunError> {
        let (reply, taken_in) = oneshot::channel();
        self.tell(Fact::Doomed { node, reply }).await?;
        taken_in.await.map_err(|_| gone())
    }

    /// The node was hit: what it said no longer holds.
    pub(crate) async fn away(&self, node: NodeNumber) -> Result<(), RunError> {
        self.tell(Fact::Away { node }).await
    }

    /// The node is about to return. One that forgot says everything anew.
    pub(crate) async fn back(&self, node: NodeNumber, forgot: bool) -> Result<(), RunError> {
        self.tell(Fact::Back { node, forgot }).await
    }

    /// Another cluster begins: nothing that was known holds.
    pub(crate) async fn fresh(&self) -> Result<(), RunError> {
        self.tell(Fact::Fresh).await
    }

    pub(crate) async fn mark(&self, mark: Mark) -> Result<(), RunError> {
        self.tell(Fact::Mark(mark)).await
    }

    pub(crate) async fn schedule(&self, schedule: &Schedule) -> Result<(), RunError> {
        self.tell(Fact::Schedule(schedule.clone())).await
    }

    /// Measures what the strikes of a trial cost, from what was recorded so far.
    pub(crate) async fn measure(
        &self,
        strikes: Vec<Strike>,
        demand: impl Fn(&[Strike]) -> Demand + Send + 'static,
    ) -> Result<(), RunError> {
        let (reply, measured) = oneshot::channel();
        let demand = Box::new(demand);
        self.tell(Fact::Measure { strikes, demand, reply }).await?;
        measured.await.map_err(|_| gone())
    }

    /// Measures what they cost the other groups, of which nodes that were hit led these.
    pub(crate) async fn measure_beside(
        &self,
        strikes: Vec<Strike>,
        led: BTreeMap<u64, BTreeSet<u64>>,
        demand: Demand,
    ) -> Result<(), RunError> {
        self.tell(Fact::MeasureBeside { strikes, led, demand }).await
    }

    /// The moments of a group's successes of what was due since then, in order.
    pub(crate) async fn successes(&self, group: u64, from_ns: u64) -> Result<Vec<u64>, RunError> {
        let (reply, successes) = oneshot::channel();
        self.tell(Fact::Successes { group, from_ns, reply }).await?;
        successes.await.map_err(|_| gone())
    }

    /// Hands over all that was recorded.
    pub(crate) async fn freeze(&self) -> Result<Records, RunError> {
        let (reply, records) = oneshot::channel();
        self.tell(Fact::Freeze { reply }).await?;
        records.await.map_err(|_| gone())
    }

    async fn tell(&self, fact: Fact) -> Result<(), RunError> {
        self.facts.send(fact).await.map_err(|_| gone())
    }
}

/// Takes one word of the run in.
fn take(journal: &mut Journal, fact: Fact) -> io::Result<()> {
    match fact {
        Fact::Phase(phase) => journal.phase(phase)?,
        Fact::Progress { trial, trials } => journal.progress(trial, trials)?,
        Fact::Filling { done, entries } => journal.filling(done, entries)?,
        Fact::Doomed { node, reply } => {
            journal.doomed(node);
            // Whoever asked may have been stopped meanwhile.
            let _ = reply.send(());
        }
        Fact::Away { node } => journal.away(node),
        Fact::Back { node, forgot } => journal.back(node, forgot),
        Fact::Fresh => journal.fresh(),
        Fact::Mark(mark) => journal.mark(mark)?,
        Fact::Schedule(schedule) => journal.schedule(&schedule)?,
        // Whoever asked may have been stopped meanwhile.
        Fact::Measure { strikes, demand, reply } => {
            journal.measure(&strikes, demand)?;
            let _ = reply.send(());
        }
        Fact::MeasureBeside { strikes, led, demand } => {
            journal.measure_beside(&strikes, &led, demand);
        }
        Fact::Successes { group, from_ns, reply } => {
            drop(reply.send(journal.successes(group, from_ns)));
        }
        Fact::Freeze { reply } => drop(reply.send(journal.freeze())),
    }
    Ok(())
}

/// A moment as a number. The host's clock starts with the host: 2^64 ns are 584 years.
pub(crate) fn nanos(time: Time) -> u64 {
    u64::try_from(time.0.as_nanos()).unwrap_or(u64::MAX)
}

fn gone() -> RunError {
    RunError::Lab("the recorder ended".into())
}

const FALLEN_BOUND: Duration = Duration::from_secs(1);
const FACTS_MAX: usize = 1_024;
const OPERATIONS_MAX: usize = 65_536;
