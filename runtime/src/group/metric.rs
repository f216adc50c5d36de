//! The group's metrics, through the `metrics` facade.
//!
//! Handles are made once: nothing is allocated where a message or a command passes.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};
use raft::{Configuration, Dropped, Note, Phase, Time};

pub(crate) use crate::metric::{ANSWERS_DROPPED, CLIENT_SWITCHES, CLIENTS_TURNED_AWAY};
use crate::metric::{
    APPLIER, BOND_EVENTS, CALLER_REFUSED, CALLS, COMMIT, COMMIT_SECONDS, ELECTION_SECONDS,
    ELECTIONS, LEADER_CHANGES, LEARNERS, MAILBOX, MEMBER_CHANGES, MESSAGES_DROPPED, MESSAGES_HELD,
    QUORUMS_LOST, REFUSED_BUSY, REPLAY_BEHIND, REPLAY_BYTES_FETCHED, REPLAY_BYTES_SERVED,
    REPLAY_ENTRIES, REPLAY_FAULTS, REPLAY_REFUSED, ROLE, SNAPSHOT_BYTES, SNAPSHOT_INDEX,
    SNAPSHOT_PARTS_DROPPED, SNAPSHOT_SECONDS, SNAPSHOTS_FAILED, SNAPSHOTS_IGNORED,
    SNAPSHOTS_INSTALLED, SNAPSHOTS_OUTRUN, SNAPSHOTS_TAKEN, STORAGE_BACKLOG_BYTES, STORAGE_HANGS,
    TERM, TIMERS_LATE, TRUNCATIONS, VOTERS,
};
use crate::{
    group::{replay::Replayed, steward::Cause},
    storage::SnapshotId,
};

/// Why a call was refused before it came to a driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// The member's mailbox is full.
    Mailbox,
    /// The calls under way weigh as much as they may.
    Bytes,
    /// As many of the session's requests are unanswered as may be.
    Session,
    /// The client has as many calls under way as it may, by its own count.
    Agent,
    /// The same by the count of its node.
    Client,
    /// The client's node does not read as fast as it is asked.
    Link,
}

/// How a member comes by a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// It takes it of its own state.
    Take,
    /// It fetches it from another.
    Fetch,
}

/// What waits in a member's queues.
pub(crate) struct Depths {
    pub(crate) calls: usize,
    pub(crate) storage_bytes: usize,
    pub(crate) held: usize,
    pub(crate) mailbox: usize,
    pub(crate) bond_events: usize,
    pub(crate) applier: usize,
}

/// One member's metrics.
pub(crate) struct GroupMetrics {
    commit_latency: Histogram,
    elections: Counter,
    election_duration: Histogram,
    leader_changes: Counter,
    quorums_lost: Counter,
    timers_late: Counter,
    truncations: Counter,
    term: Gauge,
    role: Gauge,
    commit: Gauge,
    calls: Gauge,
    storage_backlog: Gauge,
    storage_hangs: Counter,
    held: Gauge,
    mailbox: Gauge,
    bond_events: Gauge,
    applier: Gauge,
    snapshots_ignored: Counter,
    snapshot_parts_dropped: Counter,
    snapshots_outrun: Counter,
    /// By the way: how many, how many not, and how long it took.
    snapshots: [Counter; WAYS.len()],
    snapshots_failed: [Counter; WAYS.len()],
    snapshot_duration: [Histogram; WAYS.len()],
    snapshot_index: Gauge,
    snapshot_bytes: Gauge,
    dropped: [Counter; DROPPED.len()],
    voters: Gauge,
    learners: Gauge,
    changes: [Counter; CHANGES.len()],
    refused_busy: Counter,
    replay: ReplayMetrics,
    campaigning_since: Option<Time>,
}

impl GroupMetrics {
    pub(crate) fn new(group: String, peer: String) -> Self {
        let labels = vec![Label::new("group", group), Label::new("peer", peer)];
        let dropped = DROPPED.map(|reason| {
            let mut labels = labels.clone();
            labels.push(Label::new("reason", reason));
            counter!(MESSAGES_DROPPED, labels)
        });
        let changes = CHANGES.map(|(_, cause)| {
            let mut labels = labels.clone();
            labels.push(Label::new("cause", cause));
            counter!(MEMBER_CHANGES, labels)
        });
        let by_way = |way| {
            let mut labels = labels.clone();
            labels.push(Label::new("way", way));
            labels
        };
        Self {
            commit_latency: histogram!(COMMIT_SECONDS, labels.clone()),
            elections: counter!(ELECTIONS, labels.clone()),
            election_duration: histogram!(ELECTION_SECONDS, labels.clone()),
            leader_changes: counter!(LEADER_CHANGES, labels.clone()),
            quorums_lost: counter!(QUORUMS_LOST, labels.clone()),
            timers_late: counter!(TIMERS_LATE, labels.clone()),
            truncations: counter!(TRUNCATIONS, labels.clone()),
            term: gauge!(TERM, labels.clone()),
            role: gauge!(ROLE, labels.clone()),
            commit: gauge!(COMMIT, labels.clone()),
            calls: gauge!(CALLS, labels.clone()),
            storage_backlog: gauge!(STORAGE_BACKLOG_BYTES, labels.clone()),
            storage_hangs: counter!(STORAGE_HANGS, labels.clone()),
            held: gauge!(MESSAGES_HELD, labels.clone()),
            mailbox: gauge!(MAILBOX, labels.clone()),
            bond_events: gauge!(BOND_EVENTS, labels.clone()),
            applier: gauge!(APPLIER, labels.clone()),
            snapshots_ignored: counter!(SNAPSHOTS_IGNORED, labels.clone()),
            snapshot_parts_dropped: counter!(SNAPSHOT_PARTS_DROPPED, labels.clone()),
            snapshots_outrun: counter!(SNAPSHOTS_OUTRUN, labels.clone()),
            snapshots: [
                counter!(SNAPSHOTS_TAKEN, labels.clone()),
                counter!(SNAPSHOTS_INSTALLED, labels.clone()),
            ],
            snapshots_failed: WAYS.map(|way| counter!(SNAPSHOTS_FAILED, by_way(way))),
            snapshot_duration: WAYS.map(|way| histogram!(SNAPSHOT_SECONDS, by_way(way))),
            snapshot_index: gauge!(SNAPSHOT_INDEX, labels.clone()),
            snapshot_bytes: gauge!(SNAPSHOT_BYTES, labels.clone()),
            dropped,
            voters: gauge!(VOTERS, labels.clone()),
            learners: gauge!(LEARNERS, labels.clone()),
            changes,
            refused_busy: counter!(REFUSED_BUSY, labels.clone()),
            replay: ReplayMetrics::new(&labels),
            campaigning_since: None,
        }
    }

    pub(crate) fn note(&mut self, now: Time, note: &Note) {
        match note {
            Note::Became { role, term } => {
                self.term.set(term.0 as f64);
                self.role.set(f64::from(*role as u8));
            }
            // Said of every new leader, also of this member itself.
            Note::Leader { leader: Some(_), .. } => self.elected(now),
            Note::Leader { leader: None, .. } => {}
            Note::Campaign { phase, .. } => {
                self.campaigning_since.get_or_insert(now);
                if *phase == Phase::Vote {
                    self.elections.increment(1);
                }
            }
            Note::QuorumLost { .. } => self.quorums_lost.increment(1),
            Note::TimerLate { .. } => self.timers_late.increment(1),
            Note::Truncated { .. } => self.truncations.increment(1),
            Note::Committed { index } => self.commit.set(index.0 as f64),
            Note::Dropped { reason, .. } => self.dropped(*reason),
            Note::Configured { .. } | Note::SnapshotOffered { .. } => {}
        }
    }

    pub(crate) fn committed(&self, took: Duration) {
        self.commit_latency.record(took.as_secs_f64());
    }

    pub(crate) fn refused_busy(&self) {
        self.refused_busy.increment(1);
    }

    /// This member leads with a disk that hangs, and asks another to lead.
    pub(crate) fn disk_hangs(&self) {
        self.storage_hangs.increment(1);
    }

    pub(crate) fn snapshot_ignored(&self) {
        self.snapshots_ignored.increment(1);
    }

    /// The log starts after this snapshot now, which this member came by in that time.
    pub(crate) fn snapshot(&self, way: Way, id: &SnapshotId, took: Duration) {
        self.snapshots[way as usize].increment(1);
        self.snapshot_duration[way as usize].record(took.as_secs_f64());
        self.snapshot_shown(id);
    }

    /// The log starts after this snapshot.
    pub(crate) fn snapshot_shown(&self, id: &SnapshotId) {
        self.snapshot_index.set(id.position.index.0 as f64);
        self.snapshot_bytes.set(id.bytes as f64);
    }

    /// A question for a part of a snapshot, or an answer to one, found no room.
    pub(crate) fn snapshot_part_dropped(&self) {
        self.snapshot_parts_dropped.increment(1);
    }

    /// The log could not wait for a member that reads a snapshot of this one.
    pub(crate) fn snapshot_outrun(&self) {
        self.snapshots_outrun.increment(1);
    }

    /// Counts snapshots that came to nothing.
    pub(crate) fn snapshots_failed(&self, way: Way) -> &Counter {
        &self.snapshots_failed[way as usize]
    }

    /// What this member has fetched so far.
    pub(crate) fn replayed(&self, tally: Option<&Replayed>) {
        if let Some(tally) = tally {
            self.replay.show(tally);
        }
    }

    /// A chunk of so many bytes was sent to another member.
    pub(crate) fn replay_served(&self, bytes: usize) {
        self.replay.served.increment(bytes as u64);
    }

    /// Another member asked for more than it may or waited for too long, or is none.
    pub(crate) fn replay_refused(&self) {
        self.replay.refused.increment(1);
    }

    /// This leader had a change of membership appended.
    pub(crate) fn changing(&self, cause: Cause) {
        if let Some(slot) = CHANGES.iter().position(|(known, _)| *known == cause) {
            self.changes[slot].increment(1);
        }
    }

    /// Another configuration is in force.
    pub(crate) fn configured(&self, configuration: &Configuration) {
        self.voters.set(configuration.voters.len() as f64);
        self.learners.set(configuration.learners.len() as f64);
    }

    pub(crate) fn queues(&self, depths: &Depths) {
        self.calls.set(depths.calls as f64);
        self.storage_backlog.set(depths.storage_bytes as f64);
        self.held.set(depths.held as f64);
        self.mailbox.set(depths.mailbox as f64);
        self.bond_events.set(depths.bond_events as f64);
        self.applier.set(depths.applier as f64);
    }

    fn elected(&mut self, now: Time) {
        self.leader_changes.increment(1);
        if let Some(since) = self.campaigning_since.take() {
            self.election_duration.record(now.since(since).as_secs_f64());
        }
    }

    /// A frame came while there is no core yet to heed it.
    pub(crate) fn dropped_while_founding(&self) {
        self.dropped[FOUNDING].increment(1);
    }

    /// A message for the core came from a node that is not known to be of its lineage.
    pub(crate) fn dropped_of_no_kin(&self) {
        self.dropped[NO_KIN].increment(1);
    }

    /// A message was to wait for the disk, and there was no place to wait.
    pub(crate) fn dropped_unheld(&self) {
        self.dropped[HELD].increment(1);
    }

    fn dropped(&self, reason: Dropped) {
        let slot = match reason {
            Dropped::Stale => 0,
            Dropped::NotMember => 1,
            Dropped::Invalid => 2,
            Dropped::LeaderAlive => 3,
        };
        self.dropped[slot].increment(1);
    }
}

/// What is fetched and served in bulk.
struct ReplayMetrics {
    behind: Gauge,
    entries: Counter,
    fetched: Counter,
    served: Counter,
    refused: Counter,
    faults: [Counter; FAULTS.len()],
}

impl ReplayMetrics {
    fn new(labels: &[Label]) -> Self {
        let faults = FAULTS.map(|fault| {
            let mut labels = labels.to_vec();
            labels.push(Label::new("fault", fault));
            counter!(REPLAY_FAULTS, labels)
        });
        Self {
            behind: gauge!(REPLAY_BEHIND, labels.to_vec()),
            entries: counter!(REPLAY_ENTRIES, labels.to_vec()),
            fetched: counter!(REPLAY_BYTES_FETCHED, labels.to_vec()),
            served: counter!(REPLAY_BYTES_SERVED, labels.to_vec()),
            refused: counter!(REPLAY_REFUSED, labels.to_vec()),
            faults,
        }
    }

    fn show(&self, tally: &Replayed) {
        self.behind.set(tally.behind as f64);
        self.entries.absolute(tally.entries);
        self.fetched.absolute(tally.bytes());
        let Replayed { wrong, late, duplicate, unasked, empty, busy, overdue, .. } = *tally;
        for (counter, count) in
            self.faults.iter().zip([wrong, late, duplicate, unasked, empty, busy, overdue])
        {
            counter.absolute(count);
        }
    }
}

/// Counts a call that was refused before it came to a driver.
pub(crate) fn refused(reason: Refused) {
    let reason = match reason {
        Refused::Mailbox => "mailbox",
        Refused::Bytes => "bytes",
        Refused::Session => "session",
        Refused::Agent => "agent",
        Refused::Client => "client",
        Refused::Link => "link",
    };
    counter!(CALLER_REFUSED, "reason" => reason).increment(1);
}

/// Why membership changes, and the label.
const CHANGES: [(Cause, &str); 5] = [
    (Cause::Came, "came"),
    (Cause::CaughtUp, "caught_up"),
    (Cause::Left, "left"),
    (Cause::Replaced, "replaced"),
    (Cause::Silent, "silent"),
];
/// In the order of [`Way`].
const WAYS: [&str; 2] = ["take", "fetch"];
/// What may be wrong with an answer.
const FAULTS: [&str; 7] = ["wrong", "late", "duplicate", "unasked", "empty", "busy", "overdue"];
const DROPPED: [&str; 7] =
    ["stale", "not_member", "invalid", "leader_alive", "founding", "held", "no_kin"];
const FOUNDING: usize = 4;
const HELD: usize = 5;
const NO_KIN: usize = 6;

#[cfg(test)]
mod tests {
    use raft::{NodeId, Role, Term};

    use super::*;
    use crate::metric::recorder::Record;

    fn counted(notes: impl IntoIterator<Item = (u64, Note)>) -> Record {
        let record = Record::default();
        metrics::with_local_recorder(&record, || {
            let mut metrics = GroupMetrics::new("g".into(), "p".into());
            for (ms, note) in notes {
                metrics.note(Time(Duration::from_millis(ms)), &note);
            }
        });
        record
    }

    #[test]
    fn every_message_that_is_not_heeded_is_counted_by_its_reason() {
        let from = NodeId::small(2);
        let dropped = |reason| (0, Note::Dropped { from, reason });
        let reasons = [Dropped::Stale, Dropped::NotMember, Dropped::Invalid, Dropped::LeaderAlive];
        let record = counted(reasons.map(dropped));
        for reason in ["stale", "not_member", "invalid", "leader_alive"] {
            let labels = [("reason", reason), ("group", "g"), ("peer", "p")];
            assert_eq!(record.counter(MESSAGES_DROPPED, &labels), 1, "{reason}");
        }
        assert_eq!(record.counter(MESSAGES_DROPPED, &[]), 4);
    }

    #[test]
    fn an_election_lasts_from_the_first_campaign_until_a_leader_is_known() {
        let term = Term(2);
        let campaign = |phase| Note::Campaign { term, phase };
        let leader = |leader| Note::Leader { leader, term };
        let record = counted([
            (100, campaign(Phase::PreVote)),
            (200, campaign(Phase::PreVote)),
            (210, campaign(Phase::Vote)),
            (210, Note::Became { role: Role::Candidate, term }),
            (350, Note::Became { role: Role::Leader, term }),
            (350, leader(Some(NodeId::small(1)))),
            // Another's election, in which this member did not stand.
            (900, leader(None)),
            (950, leader(Some(NodeId::small(2)))),
        ]);
        assert_eq!(record.samples(ELECTION_SECONDS, &[]), [0.25]);
        assert_eq!(record.counter(ELECTIONS, &[]), 1, "a pre-vote is no election yet");
        assert_eq!(record.counter(LEADER_CHANGES, &[]), 2);
        let shown = [TERM, ROLE].map(|name| record.gauge(name, &[("peer", "p")]));
        assert_eq!(shown, [2.0, 2.0]);
    }

    #[test]
    fn each_queue_shows_its_depth() {
        let record = Record::default();
        metrics::with_local_recorder(&record, || {
            GroupMetrics::new("g".into(), "p".into()).queues(&Depths {
                calls: 1,
                storage_bytes: 2,
                held: 3,
                mailbox: 4,
                bond_events: 5,
                applier: 6,
            });
        });
        let names = [CALLS, STORAGE_BACKLOG_BYTES, MESSAGES_HELD, MAILBOX, BOND_EVENTS, APPLIER];
        let shown = names.map(|name| record.gauge(name, &[("group", "g"), ("peer", "p")]));
        assert_eq!(shown, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn snapshots_are_counted_by_how_a_member_came_by_them() {
        let record = Record::default();
        metrics::with_local_recorder(&record, || {
            let metrics = GroupMetrics::new("g".into(), "p".into());
            let position = raft::Position { term: Term(2), index: raft::Index(9) };
            let id = SnapshotId { position, bytes: 70, digest: [0; 32] };
            metrics.snapshot(Way::Take, &id, Duration::from_secs(1));
            metrics.snapshot(Way::Fetch, &id, Duration::from_secs(2));
            metrics.snapshot(Way::Fetch, &id, Duration::from_secs(3));
            metrics.snapshots_failed(Way::Take).increment(1);
        });
        let counted = [SNAPSHOTS_TAKEN, SNAPSHOTS_INSTALLED, SNAPSHOTS_FAILED];
        assert_eq!(counted.map(|name| record.counter(name, &[])), [1, 2, 1]);
        assert_eq!(record.counter(SNAPSHOTS_FAILED, &[("way", "take")]), 1);
        assert_eq!(record.samples(SNAPSHOT_SECONDS, &[("way", "fetch")]), [2.0, 3.0]);
        let shown = [SNAPSHOT_INDEX, SNAPSHOT_BYTES].map(|name| record.gauge(name, &[]));
        assert_eq!(shown, [9.0, 70.0]);
    }

    #[test]
    fn what_a_member_goes_through_is_counted() {
        let index = raft::Index(7);
        let record = counted([
            (0, Note::QuorumLost { term: Term(1) }),
            (0, Note::TimerLate { by: Duration::from_secs(1) }),
            (0, Note::Truncated { after: index, last: index.next() }),
            (0, Note::Committed { index }),
        ]);
        let counted =
            [QUORUMS_LOST, TIMERS_LATE, TRUNCATIONS].map(|name| record.counter(name, &[]));
        assert_eq!(counted, [1, 1, 1]);
        assert_eq!(record.gauge(COMMIT, &[]), 7.0);
    }
}
