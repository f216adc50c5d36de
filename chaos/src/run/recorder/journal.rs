//! What happens, in the order in which it is told: kept, shown, and handed on to the listener.
//!
//! Knows no task and no cluster; whoever owns it decides the order. Invariant: the listener hears
//! of everything before it is kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use runtime::{Role, Time};
use tokio::sync::watch;

use super::{View, nanos};
use crate::{
    cluster::{NodeEvent, What},
    fault::NodeNumber,
    groups::{Beside, group_of},
    history::{Operation, Outcome},
    outage::{Demand, Strike, Success, Trial, measure_all},
    run::{Listener, Mark, Phase},
    schedule::Schedule,
};

/// See the module.
pub(crate) struct Journal {
    listener: Box<dyn Listener>,
    origin: Time,
    view: watch::Sender<View>,
    records: Records,
    groups: u64,
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
    /// Of the first group, in the order of their answers.
    pub(crate) successes: Vec<Success>,
    /// Of the other groups.
    pub(crate) others: BTreeMap<u64, Vec<Success>>,
    /// What faults cost those.
    pub(crate) beside: Beside,
    /// Marks beyond those that are kept.
    pub(crate) marks_dropped: u64,
}

impl Journal {
    /// An empty one, about so many groups: times count from `origin`.
    pub(crate) fn new(listener: Box<dyn Listener>, origin: Time, groups: u64) -> Self {
        let (view, _) = watch::channel(View::default());
        Self { listener, origin, view, records: Records::default(), groups }
    }

    /// What is known of the cluster.
    pub(crate) fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Shows what is known of the cluster whenever that changes.
    pub(super) fn watch(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    pub(crate) fn phase(&mut self, phase: Phase) -> io::Result<()> {
        self.listener.phase(phase)
    }

    pub(crate) fn progress(&mut self, trial: u64, trials: u64) -> io::Result<()> {
        self.listener.progress(trial, trials)
    }

    pub(super) fn filling(&mut self, done: u64, entries: u64) -> io::Result<()> {
        self.listener.filling(done, entries)
    }

    /// The node will stop by itself, and is meant to.
    pub(super) fn doomed(&self, node: NodeNumber) {
        self.view.send_modify(|view| view.doomed(node));
    }

    /// The node was hit: what it said no longer holds.
    pub(crate) fn away(&self, node: NodeNumber) {
        self.view.send_modify(|view| view.away(node));
    }

    /// The node is about to return. One that forgot says everything anew.
    pub(crate) fn back(&self, node: NodeNumber, forgot: bool) {
        self.view.send_modify(|view| view.back(node, forgot));
    }

    /// Another cluster begins: nothing that was known holds.
    pub(super) fn fresh(&self) {
        self.view.send_replace(View::default());
    }

    pub(crate) fn schedule(&mut self, schedule: &Schedule) -> io::Result<()> {
        self.listener.schedule(schedule)?;
        self.records.schedule = schedule.clone();
        Ok(())
    }

    /// The moments of a group's successes of what was due since then, in order.
    pub(crate) fn successes(&mut self, group: u64, from_ns: u64) -> Vec<u64> {
        let successes = self.of_group(group);
        successes.sort_unstable();
        let first = successes.partition_point(|success| success.completed_ns < from_ns);
        // What had piled up before says nothing of the rate.
        let due = successes[first..].iter().filter(|success| success.due_ns >= from_ns);
        due.map(|success| success.completed_ns).collect()
    }

    fn of_group(&mut self, group: u64) -> &mut Vec<Success> {
        match group {
            1 => &mut self.records.successes,
            other => self.records.others.entry(other).or_default(),
        }
    }

    /// A node, or the world of a node, tells something.
    pub(crate) fn event(&mut self, mut event: NodeEvent) -> io::Result<()> {
        event.at_ns = self.relative(event.at_ns);
        if let What::Stall { from_ns } = &mut event.what {
            *from_ns = from_ns.saturating_sub(nanos(self.origin));
        }
        self.listener.event(&event)?;
        self.view.send_modify(|view| view.take(&event));
        let mark = mark_of(&event);
        self.records.events.push(event);
        mark.map_or(Ok(()), |mark| self.mark(mark))
    }

    /// An operation was answered or given up.
    pub(crate) fn operation(&mut self, operation: Operation) -> io::Result<()> {
        self.listener.operation(&operation)?;
        if let (Outcome::Ok, Some(completed_ns)) = (operation.outcome, operation.completed_ns) {
            let (due_ns, client) = (operation.intended_ns, operation.client);
            let group = group_of(&operation, self.groups);
            self.of_group(group).push(Success { completed_ns, due_ns, client });
        }
        self.records.operations.push(operation);
        Ok(())
    }

    pub(crate) fn mark(&mut self, mark: Mark) -> io::Result<()> {
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

    /// Measures what the strikes of a trial cost, from what was recorded so far; the load depends
    /// on which of them struck.
    pub(crate) fn measure(
        &mut self,
        strikes: &[Strike],
        demand: impl Fn(&[Strike]) -> Demand,
    ) -> io::Result<()> {
        let records = &mut self.records;
        records.successes.sort_unstable();
        // Events of different nodes come by different ways.
        records.events.sort_by_key(|event| event.at_ns);
        let first_ns = first_fault_ns(&records.trials, strikes);
        let (events, successes) = (&records.events, &records.successes);
        let measured = measure_all(strikes, demand, events, successes, first_ns);
        if measured.is_empty() {
            return Ok(());
        }
        records.trials.extend(measured.into_iter().map(|(_, trial)| trial));
        self.listener.trials(&self.records.trials)
    }

    /// Measures what they cost the other groups, some of which were led by nodes that were hit: by
    /// the moment of the strike.
    pub(crate) fn measure_beside(
        &mut self,
        strikes: &[Strike],
        led: &BTreeMap<u64, BTreeSet<u64>>,
        demand: Demand,
    ) {
        let Records { others, beside, trials, .. } = &mut self.records;
        let first_ns = first_fault_ns(trials, strikes);
        for (group, successes) in others {
            successes.sort_unstable();
            for (set, trial) in measure_all(strikes, |_| demand, &[], successes, first_ns) {
                let mut led = set.iter().filter_map(|strike| led.get(&strike.at_ns));
                beside.add(led.any(|groups| groups.contains(group)), trial.outage_ms);
            }
        }
    }

    /// Hands over all that was recorded.
    pub(crate) fn freeze(&mut self) -> Records {
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

/// When the first fault of the run struck: what was before it was calm.
fn first_fault_ns(trials: &[Trial], strikes: &[Strike]) -> u64 {
    let now_ns = strikes.first().map_or(0, |strike| strike.at_ns);
    trials.first().map_or(now_ns, |trial| trial.fault_at_ns)
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
        nodes: Vec::new(),
        detail,
        until_ns: from_ns.map(|_| event.at_ns),
    })
}

const MARKS_MAX: usize = 20_000;
/// How far back the first mark of a fault is looked for.
const MARKS_LOOKED_AT: usize = 256;
