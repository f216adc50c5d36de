//! How nodes stand, asked a few times a second while load runs, and judged afterwards.
//!
//! Where nodes are whole processes no step can be watched. Asking costs one line each way on the
//! control channel. Invariant: of each node one question is open at a time, and a node that was
//! started anew is never taken for what it was before.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use runtime::{Index, Position, Role, Term, Time};
use tokio::task::JoinSet;

use crate::{
    checker::{Check, Verdict},
    cluster::{Cluster, NodeEvent, What},
    fault::NodeNumber,
    history::{LogLine, NodeLog},
    invariant::{Sample, Sampled, Violation},
    plan::StorageKind,
    run::{Lab, RunError, Stop, Stopper, lab::check, recorder::nanos},
    schedule::{Schedule, Scheduled},
    seed::mix,
};

/// What a node said when it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Status {
    node: NodeNumber,
    asked_ns: u64,
    role: Role,
    term: u64,
    commit: u64,
    applied: u64,
    last: u64,
}

/// Asks all nodes, until it is told to end.
pub(crate) struct Sampling {
    stopper: Stopper,
    asking: JoinSet<Vec<Status>>,
}

impl Sampling {
    /// Begins to ask.
    pub(crate) fn start<C: Cluster>(lab: &Lab<C>) -> Self {
        let (stopper, over) = Stop::new();
        let mut asking = JoinSet::new();
        for node in lab.nodes() {
            let (cluster, origin) = (Arc::clone(&lab.cluster), lab.origin);
            let over = over.clone();
            asking.spawn(async move { ask(&*cluster, node, origin, &over).await });
        }
        Self { stopper, asking }
    }

    /// What each node said, in order.
    pub(crate) async fn finish(mut self) -> Result<Vec<Status>, RunError> {
        self.stopper.stop();
        let mut statuses = Vec::new();
        while let Some(said) = self.asking.join_next().await {
            let said = said.map_err(|error| RunError::Lab(format!("who asks nodes: {error}")))?;
            statuses.extend(said);
        }
        Ok(statuses)
    }
}

async fn ask<C: Cluster>(cluster: &C, node: NodeNumber, origin: Time, over: &Stop) -> Vec<Status> {
    let mut said = Vec::new();
    while said.len() < STATUSES_MAX {
        let due = cluster.now().plus(INTERVAL);
        if over.or(cluster.advance(due)).await.is_none() {
            break;
        }
        let asked_ns = nanos(Time(cluster.now().since(origin)));
        // One that is down says so; one that stands still answers later.
        let Some(Ok(status)) = over.or(cluster.status(node)).await else { continue };
        said.push(Status {
            node,
            asked_ns,
            role: status.role,
            term: status.term,
            commit: status.commit,
            applied: status.applied,
            last: status.last,
        });
    }
    said
}

/// Judges what nodes said when they were asked, what they told unasked, and what their logs hold.
/// Of several groups nodes are asked about the first alone, and of each there are logs.
pub(crate) fn invariants(
    statuses: &[Status],
    events: &[NodeEvent],
    schedule: &Schedule,
    logs: &[NodeLog],
    storage: StorageKind,
) -> Check {
    // Not from what was measured: of a trial that came to no end nothing was.
    let ends = |fault: &&Scheduled| {
        let step = usize::try_from(fault.step).ok().and_then(|step| schedule.steps.get(step));
        fault.fault.ends_process()
            || step.is_some_and(|step| step.drawn(fault.fault).ends_process())
    };
    let ended = schedule.faults.iter().filter(ends);
    let returns: Vec<(NodeNumber, u64)> = ended
        .flat_map(|fault| fault.hit().into_iter().zip(std::iter::repeat(fault.returned_ns)))
        .filter_map(|(node, returned_ns)| Some((node, returned_ns?)))
        .collect();
    let starts = |node: NodeNumber, at_ns: u64| {
        let earlier =
            returns.iter().filter(|(other, returned)| *other == node && *returned <= at_ns);
        earlier.count() as u64
    };
    let asked = || {
        // In term 0 a member has not yet read its store, or there is none: it says nothing.
        statuses.iter().filter(|status| status.term > 0).map(|status| Sample {
            node: status.node.0,
            start: starts(status.node, status.asked_ns),
            role: Some((status.role, Term(status.term))),
            commit: Some(Index(status.commit)),
            applied: Some((Index(status.applied), Index(status.last))),
        })
    };
    let told = || events.iter().filter_map(|event| told(event, starts(event.node, event.at_ns)));
    // Answers and events come by different ways, so each are in order only among themselves; who
    // led when is asked of both together.
    let judge = || -> Result<usize, Violation> {
        let sampled = || match storage {
            StorageKind::Memory => Sampled::of_forgetful(),
            StorageKind::Disk => Sampled::default(),
        };
        let (mut by_answers, mut by_events) = (sampled(), sampled());
        asked().try_for_each(|sample| by_answers.observe(&sample))?;
        told().try_for_each(|sample| by_events.observe(&sample))?;
        for sample in asked() {
            if let Some((Role::Leader, term)) = sample.role {
                by_events.leads(sample.node, sample.start, term)?;
            }
        }
        Ok(told().count())
    };
    let groups: BTreeSet<u64> = logs.iter().map(|log| log.group).collect();
    let of_logs = groups.iter().try_for_each(|group| log_matching(logs, *group, groups.len()));
    let told = judge().and_then(|told| of_logs.map(|()| told));
    let asked = statuses.len();
    match told {
        Err(violation) => check(NAME, Verdict::Invalid, violation.to_string()),
        Ok(_) if asked == 0 => check(NAME, Verdict::Unknown, "no node was asked".into()),
        Ok(told) => {
            let entries = logs.iter().map(|log| log.lines.len()).sum();
            check(NAME, Verdict::Valid, agreed((asked, told), entries, groups.len()))
        }
    }
}

/// What to say of answers and events, and of entries of logs of so many groups.
fn agreed((asked, told): (usize, usize), entries: usize, groups: usize) -> String {
    match groups {
        0 | 1 => format!(
            "{asked} answers and {told} events of nodes, and {entries} entries of their logs, \
             agree with each other"
        ),
        _ => format!(
            "{asked} answers and {told} events of nodes in group 1 agree with each other, and so \
             do {entries} entries of the logs of {groups} groups; who led the others when nobody \
             was asked"
        ),
    }
}

/// Whether the logs of one group, of so many, hold the same.
fn log_matching(logs: &[NodeLog], group: u64, groups: usize) -> Result<(), Violation> {
    let mut sampled = Sampled::default();
    let of_group = logs.iter().filter(|log| log.group == group);
    for (node, line) in of_group.flat_map(|log| log.lines.iter().map(|line| (log.node, line))) {
        let position = Position { term: Term(line.term), index: Index(line.index) };
        sampled.committed(node, position, digest(line)).map_err(|violation| match groups {
            0 | 1 => violation,
            _ => {
                Violation { message: format!("group {group}: {}", violation.message), ..violation }
            }
        })?;
    }
    Ok(())
}

/// What an event says of its node.
fn told(event: &NodeEvent, start: u64) -> Option<Sample> {
    let blank = Sample { node: event.node.0, start, role: None, commit: None, applied: None };
    match event.what {
        What::Became { role, term } if term > 0 => {
            Some(Sample { role: Some((role, Term(term))), ..blank })
        }
        What::Committed { index, .. } => Some(Sample { commit: Some(Index(index)), ..blank }),
        _ => None,
    }
}

/// Of all that an entry carries, as far as its line tells.
fn digest(line: &LogLine) -> u64 {
    let request = line.request.map_or([0, 0, 0], |request| [1, request.session, request.sequence]);
    let value = line.value.map_or([0, 0], |value| [1, value]);
    request.into_iter().chain(value).fold(0, mix)
}

const NAME: &str = "invariants (sampled)";
const INTERVAL: Duration = Duration::from_millis(250);
/// Of one node: three and a half hours.
const STATUSES_MAX: usize = 50_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, Target};

    fn status(node: u64, asked_ns: u64, role: Role, term: u64) -> Status {
        let node = NodeNumber(node);
        Status { node, asked_ns, role, term, commit: 5, applied: 5, last: 5 }
    }

    fn became(at_ns: u64, node: u64, role: Role, term: u64) -> NodeEvent {
        NodeEvent { at_ns, node: NodeNumber(node), what: What::Became { role, term } }
    }

    /// A node was killed, and came back at that moment.
    fn killed(node: u64, returned_ns: u64) -> Schedule {
        let fault = Scheduled {
            trial: 1,
            step: 0,
            due_ns: 0,
            fault: Fault::Kill,
            target: Target::Leader,
            return_after_ms: 1,
            draw: 0,
            node: Some(NodeNumber(node)),
            nodes: Vec::new(),
            struck_ns: Some(0),
            returned_ns: Some(returned_ns),
        };
        Schedule { faults: vec![fault], ..Schedule::default() }
    }

    #[test]
    fn a_leader_that_was_asked_and_one_that_told_may_not_share_a_term() {
        use Role::{Follower, Leader};
        let statuses = [status(1, 10, Leader, 3), status(2, 20, Follower, 3)];
        let events = [became(5, 1, Leader, 3), became(30, 2, Leader, 4)];
        let none = Schedule::default();
        let sound = invariants(&statuses, &events, &none, &[], StorageKind::Disk);
        assert_eq!(sound.verdict, Verdict::Valid, "{}", sound.detail);
        assert!(sound.detail.starts_with("2 answers and 2 events"), "{}", sound.detail);
        let two = invariants(&statuses, &[became(30, 2, Leader, 3)], &none, &[], StorageKind::Disk);
        assert_eq!(two.verdict, Verdict::Invalid);
        assert!(two.detail.contains("both lead term 3"), "{}", two.detail);
    }

    #[test]
    fn a_restart_forgets_and_nothing_else_does() {
        let statuses = [status(1, 10, Role::Follower, 3), status(1, 40, Role::Follower, 2)];
        let judged = |schedule: &Schedule| {
            invariants(&statuses, &[], schedule, &[], StorageKind::Disk).verdict
        };
        assert_eq!(judged(&killed(1, 30)), Verdict::Valid);
        assert_eq!(judged(&Schedule::default()), Verdict::Invalid);
        assert_eq!(judged(&killed(2, 30)), Verdict::Invalid, "another was restarted");
        assert_eq!(judged(&killed(1, 50)), Verdict::Invalid, "it was restarted later");
        // It led, and has not read its store yet.
        let unread = [became(5, 1, Role::Leader, 3), became(35, 1, Role::Follower, 0)];
        let back = invariants(&statuses[..1], &unread, &killed(1, 30), &[], StorageKind::Disk);
        assert_eq!(back.verdict, Verdict::Valid, "{}", back.detail);
    }

    #[test]
    fn of_all_that_were_hit_at_once_each_was_started_anew() {
        let before = |node| status(node, 10, Role::Follower, 3);
        let after = |node| status(node, 40, Role::Follower, 2);
        let statuses = [before(1), before(2), after(1), after(2)];
        let hit = |nodes: &[u64]| {
            let mut schedule = killed(1, 30);
            schedule.faults[0].nodes = nodes.iter().copied().map(NodeNumber).collect();
            invariants(&statuses, &[], &schedule, &[], StorageKind::Disk).verdict
        };
        assert_eq!(hit(&[1, 2]), Verdict::Valid);
        assert_eq!(hit(&[1]), Verdict::Invalid, "the other one went back by itself");
    }

    #[test]
    fn of_several_groups_each_has_logs_and_who_led_is_known_of_the_first() {
        let log = |group, node, value| {
            let line = LogLine { term: 1, index: 1, request: None, value: Some(value) };
            NodeLog { node, group, lines: vec![line] }
        };
        let (statuses, none) = ([status(1, 10, Role::Follower, 3)], Schedule::default());
        let judged = |of_second| {
            let logs = [log(1, 1, 4), log(2, 1, 5), log(1, 2, 4), log(2, 2, of_second)];
            invariants(&statuses, &[], &none, &logs, StorageKind::Disk)
        };
        let sound = judged(5);
        assert_eq!(sound.verdict, Verdict::Valid, "{}", sound.detail);
        let told = "1 answers and 0 events of nodes in group 1 agree with each other, and so do 4 \
                    entries of the logs of 2 groups";
        assert!(sound.detail.starts_with(told), "{}", sound.detail);
        let broken = judged(6);
        assert_eq!(broken.verdict, Verdict::Invalid, "{}", broken.detail);
        assert!(broken.detail.contains("group 2: nodes 1 and 2 hold"), "{}", broken.detail);
    }

    #[test]
    fn logs_that_differ_are_found_and_nothing_asked_is_no_pass() {
        let log = |node, value| {
            let line = LogLine { term: 1, index: 1, request: None, value: Some(value) };
            NodeLog { node, group: 1, lines: vec![line] }
        };
        let statuses = [status(1, 10, Role::Follower, 3)];
        let none = Schedule::default();
        let differ = invariants(&statuses, &[], &none, &[log(1, 4), log(2, 5)], StorageKind::Disk);
        assert_eq!(differ.verdict, Verdict::Invalid);
        assert!(differ.detail.contains("different entries at 1.1"), "{}", differ.detail);
        assert_eq!(
            invariants(&[], &[], &none, &[log(1, 4)], StorageKind::Disk).verdict,
            Verdict::Unknown
        );
    }
}
