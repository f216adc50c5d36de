//! The group's metrics, through the `metrics` facade.
//!
//! Handles are made once: nothing is allocated where a message or a command passes.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};
use raft::{Dropped, Note, Phase, Time};

/// Answers that a client's link had no room for.
pub(crate) const ANSWERS_DROPPED: &str = "tessera.group.answers.dropped";

/// Calls refused before they reached the driver or the agent, because its queue was full.
pub(crate) const QUEUE_FULL: &str = "tessera.group.refused.queue";

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
    held: Gauge,
    mailbox: Gauge,
    bond_events: Gauge,
    applier: Gauge,
    snapshots_ignored: Counter,
    dropped: [Counter; 4],
    refused_busy: Counter,
    campaigning_since: Option<Time>,
}

impl GroupMetrics {
    pub(crate) fn new(group: String, peer: String) -> Self {
        let labels = vec![Label::new("group", group), Label::new("peer", peer)];
        let dropped = ["stale", "not_member", "invalid", "leader_alive"].map(|reason| {
            let mut labels = labels.clone();
            labels.push(Label::new("reason", reason));
            counter!("tessera.raft.messages.dropped", labels)
        });
        Self {
            commit_latency: histogram!("tessera.group.commit.seconds", labels.clone()),
            elections: counter!("tessera.raft.elections", labels.clone()),
            election_duration: histogram!("tessera.raft.election.seconds", labels.clone()),
            leader_changes: counter!("tessera.raft.leader.changes", labels.clone()),
            quorums_lost: counter!("tessera.raft.quorums.lost", labels.clone()),
            timers_late: counter!("tessera.raft.timers.late", labels.clone()),
            truncations: counter!("tessera.raft.truncations", labels.clone()),
            term: gauge!("tessera.raft.term", labels.clone()),
            role: gauge!("tessera.raft.role", labels.clone()),
            commit: gauge!("tessera.raft.commit", labels.clone()),
            calls: gauge!("tessera.group.calls", labels.clone()),
            storage_backlog: gauge!("tessera.storage.backlog.bytes", labels.clone()),
            held: gauge!("tessera.raft.messages.held", labels.clone()),
            mailbox: gauge!("tessera.group.mailbox", labels.clone()),
            bond_events: gauge!("tessera.group.bond.events", labels.clone()),
            applier: gauge!("tessera.group.applier", labels.clone()),
            snapshots_ignored: counter!("tessera.raft.snapshots.ignored", labels.clone()),
            dropped,
            refused_busy: counter!("tessera.group.refused.busy", labels),
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

    pub(crate) fn snapshot_ignored(&self) {
        self.snapshots_ignored.increment(1);
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
