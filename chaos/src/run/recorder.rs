//! Writes down what happens: one task, one order, one owner.
//!
//! Everything else of the run only sends to it, and looks at the [`View`] that it keeps of the
//! cluster. Invariant: a node's events are taken in before a later word about that node, so that
//! nothing a killed node said is taken for what its successor says.

mod view;

use std::io;

use runtime::{Role, Time};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    cluster::{NodeEvent, What},
    fault::NodeNumber,
    history::{Operation, Outcome},
    outage::{Strike, Success, Trial, measure},
    run::{Listener, Mark, Phase, RunError},
    schedule::Schedule,
};

pub(crate) use view::View;

/// The way to the recorder's task. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder {
    facts: mpsc::Sender<Fact>,
    operations: mpsc::Sender<Operation>,
    view: watch::Receiver<View>,
}

/// All that was written down.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// In the order of their answers.
    pub(crate) operations: Vec<Operation>,
    /// In order of time.
    pub(crate) events: Vec<NodeEvent>,
    /// In order of time.
    pub(crate) marks: Vec<Mark>,
    /// In the order of their faults.
    pub(crate) trials: Vec<Trial>,
    /// The last that was shown.
    pub(crate) schedule: Schedule,
    /// In the order of their answers.
    pub(crate) successes: Vec<Success>,
    /// Marks beyond those that are kept.
    pub(crate) marks_dropped: u64,
}

enum Fact {
    Phase(Phase),
    Progress { trial: u64, trials: u64 },
    Away { node: NodeNumber },
    Back { node: NodeNumber, forgot: bool },
    Fresh,
    Mark(Mark),
    Schedule(Schedule),
    Measure { strike: Strike, rate_per_s: u64, reply: oneshot::Sender<Trial> },
    Successes { from_ns: u64, reply: oneshot::Sender<Vec<u64>> },
    Freeze { reply: oneshot::Sender<Records> },
}

struct Task {
    listener: Box<dyn Listener>,
    origin: Time,
    view: watch::Sender<View>,
    records: Records,
}

impl Recorder {
    /// Starts to record: times count from `origin`.
    pub(crate) fn start(
        listener: Box<dyn Listener>,
        origin: Time,
        mut events: mpsc::Receiver<NodeEvent>,
    ) -> (Self, JoinHandle<Result<(), RunError>>) {
        let (facts, mut told) = mpsc::channel(FACTS_MAX);
        let (operations, mut done) = mpsc::channel(OPERATIONS_MAX);
        let (view_sender, view) = watch::channel(View::default());
        let mut task = Task { listener, origin, view: view_sender, records: Records::default() };
        let handle = tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    Some(event) = events.recv() => task.event(event)?,
                    Some(operation) = done.recv() => task.operation(operation)?,
                    fact = told.recv() => match fact {
                        Some(fact) => task.fact(fact)?,
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

    pub(crate) async fn phase(&self, phase: Phase) -> Result<(), RunError> {
        self.tell(Fact::Phase(phase)).await
    }

    pub(crate) async fn progress(&self, trial: u64, trials: u64) -> Result<(), RunError> {
        self.tell(Fact::Progress { trial, trials }).await
    }

    /// Takes operations that were answered or given up.
    pub(crate) fn operations(&self) -> mpsc::Sender<Operation> {
        self.operations.clone()
    }

    pub(crate) async fn operation(&self, operation: Operation) -> Result<(), RunError> {
        self.operations.send(operation).await.map_err(|_| gone())
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

    /// Measures what a strike cost, from what was recorded so far.
    pub(crate) async fn measure(&self, strike: Strike, rate_per_s: u64) -> Result<Trial, RunError> {
        let (reply, trial) = oneshot::channel();
        self.tell(Fact::Measure { strike, rate_per_s, reply }).await?;
        trial.await.map_err(|_| gone())
    }

    /// The moments of success since then, in order.
    pub(crate) async fn successes(&self, from_ns: u64) -> Result<Vec<u64>, RunError> {
        let (reply, successes) = oneshot::channel();
        self.tell(Fact::Successes { from_ns, reply }).await?;
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

impl Task {
    fn event(&mut self, mut event: NodeEvent) -> io::Result<()> {
        event.at_ns = self.relative(event.at_ns);
        if let What::Stall { from_ns } = &mut event.what {
            *from_ns = from_ns.saturating_sub(nanos(self.origin));
        }
        self.view.send_modify(|view| view.take(&event));
        let mark = mark_of(&event);
        self.records.events.push(event);
        mark.map_or(Ok(()), |mark| self.mark(mark))
    }

    fn fact(&mut self, fact: Fact) -> io::Result<()> {
        match fact {
            Fact::Phase(phase) => self.listener.phase(phase)?,
            Fact::Progress { trial, trials } => self.listener.progress(trial, trials)?,
            Fact::Away { node } => self.view.send_modify(|view| view.away(node)),
            Fact::Back { node, forgot } => self.view.send_modify(|view| view.back(node, forgot)),
            Fact::Fresh => {
                self.view.send_replace(View::default());
            }
            Fact::Mark(mark) => self.mark(mark)?,
            Fact::Schedule(schedule) => {
                self.listener.schedule(&schedule)?;
                self.records.schedule = schedule;
            }
            Fact::Measure { strike, rate_per_s, reply } => {
                let trial = self.measure(&strike, rate_per_s);
                self.listener.trials(&self.records.trials)?;
                // Whoever asked may have been stopped meanwhile.
                drop(reply.send(trial));
            }
            Fact::Successes { from_ns, reply } => {
                self.records.successes.sort_unstable();
                let successes = &self.records.successes;
                let first = successes.partition_point(|success| success.completed_ns < from_ns);
                let later = successes[first..].iter().map(|success| success.completed_ns);
                drop(reply.send(later.collect()));
            }
            Fact::Freeze { reply } => drop(reply.send(self.take_records())),
        }
        Ok(())
    }

    fn operation(&mut self, operation: Operation) -> io::Result<()> {
        self.listener.operation(&operation)?;
        if let (Outcome::Ok, Some(completed_ns)) = (operation.outcome, operation.completed_ns) {
            let invoked_ns = operation.invoked_ns;
            self.records.successes.push(Success { completed_ns, invoked_ns });
        }
        self.records.operations.push(operation);
        Ok(())
    }

    fn mark(&mut self, mark: Mark) -> io::Result<()> {
        // A fault is marked when it strikes and again when it is over.
        let marks = &mut self.records.marks;
        let looked_at = marks.len().saturating_sub(MARKS_LOOKED_AT);
        let earlier = marks[looked_at..].iter_mut().find(|other| {
            other.at_ns == mark.at_ns && other.kind == mark.kind && other.node == mark.node
        });
        if let Some(earlier) = earlier {
            *earlier = mark;
        } else if marks.len() < MARKS_MAX {
            marks.push(mark);
        } else {
            self.records.marks_dropped += 1;
            return Ok(());
        }
        self.listener.marks(&self.records.marks)
    }

    fn measure(&mut self, strike: &Strike, rate_per_s: u64) -> Trial {
        let records = &mut self.records;
        records.successes.sort_unstable();
        // Events of different nodes come by different ways.
        records.events.sort_by_key(|event| event.at_ns);
        let trial = measure(strike, &records.events, &records.successes, rate_per_s);
        records.trials.push(trial.clone());
        trial
    }

    fn take_records(&mut self) -> Records {
        let mut records = std::mem::take(&mut self.records);
        records.successes.sort_unstable();
        records.events.sort_by_key(|event| event.at_ns);
        records.marks.sort_by_key(|mark| mark.at_ns);
        records
    }

    fn relative(&self, at_ns: u64) -> u64 {
        at_ns.saturating_sub(nanos(self.origin))
    }
}

/// What of a node's events is worth a mark.
fn mark_of(event: &NodeEvent) -> Option<Mark> {
    let (kind, detail, from_ns) = match &event.what {
        What::Became { role: Role::Leader, term } => ("leader", format!("term {term}"), None),
        What::Stall { from_ns } => {
            let late_ms = event.at_ns.saturating_sub(*from_ns) / 1_000_000;
            ("stall", format!("{late_ms} ms"), Some(*from_ns))
        }
        What::Stopped { reason } => ("stopped", reason.clone(), None),
        What::Died { reason } => ("died", reason.clone(), None),
        _ => return None,
    };
    Some(Mark {
        at_ns: from_ns.unwrap_or(event.at_ns),
        kind: kind.into(),
        node: Some(event.node),
        detail,
        until_ns: from_ns.map(|_| event.at_ns),
    })
}

/// A moment as a number. The host's clock starts with the host: 2^64 ns are 584 years.
pub(crate) fn nanos(time: Time) -> u64 {
    u64::try_from(time.0.as_nanos()).unwrap_or(u64::MAX)
}

fn gone() -> RunError {
    RunError::Lab("the recorder ended".into())
}

const FACTS_MAX: usize = 1_024;
const OPERATIONS_MAX: usize = 65_536;
const MARKS_MAX: usize = 20_000;
/// How far back the first mark of a fault is looked for.
const MARKS_LOOKED_AT: usize = 256;
