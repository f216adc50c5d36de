//! What can be seen of a group from outside: status, events, and futures that wait for them.
//!
//! Looks, never acts. Invariants: a future of [`When`] always resolves, with an error once the
//! group is gone; and nobody is told that a member that has stopped is anything any more.

use std::{fmt, sync::Arc};

use raft::{Change, Configuration, Index, NodeId, PeerId, Position, Role, Term, Time};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    group::{
        GroupError, Lineage,
        replay::{ReplayEnded, Replayed},
        steward::Cause,
    },
    storage::SnapshotId,
};

/// A member's own view of its group.
///
/// Once the member has [stopped](Self::stopped) it is nothing any more: a follower of nobody,
/// without bonds and with nothing under way or in memory. All else stays as it was last: what it
/// had come to (the term, what is committed and applied, its log and its snapshot), and whom it
/// knew (its lineage, others, the configuration).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// This member: its peer and its store.
    pub node: NodeId,
    /// Which founding of the group it belongs to; `None` while the founders have not all met, or
    /// a newcomer has not found the group.
    pub lineage: Option<Lineage>,
    /// Peers that belong to other foundings of this group, the last that were met, with their
    /// lineages: they and this member refuse each other.
    pub foreign: Vec<(PeerId, Lineage)>,
    /// Its role; follower once it has stopped.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Whom it believes to lead; nobody once it has stopped.
    pub leader: Option<NodeId>,
    /// What it knows to be committed.
    pub commit: Index,
    /// What its machine has applied.
    pub applied: Index,
    /// The last entry of its log.
    pub last: Position,
    /// What its log takes up in memory, entries with their commands.
    pub log_bytes: usize,
    /// Where that log starts: the entries up to here are in a snapshot only.
    pub log_start: Index,
    /// The last entry of its snapshot; 0.0 as long as it has none.
    pub snapshot: Position,
    /// The length of the snapshot.
    pub snapshot_bytes: u64,
    /// The configuration in force; the last it knew once it has stopped, which may count it in.
    pub configuration: Configuration,
    /// Members that it holds bonds to; none once it has stopped.
    pub bonded: Vec<NodeId>,
    /// Calls under way for its users, its clients and its peers.
    pub calls: usize,
    /// Bytes submitted to its store and not yet durable.
    pub storage_backlog_bytes: usize,
    /// Messages held back until what they promise is durable.
    pub held_messages: usize,
    /// Calls that wait for its own task.
    pub mailbox_calls: usize,
    /// Bonds and lanes that came or went, and its own task has not heard of yet.
    pub bond_events: usize,
    /// Batches that wait for its machine.
    pub applier_batches: usize,
    /// What waits in front of the lanes of all its bonds.
    pub lane_bytes: LaneBytes,
    /// What it has fetched in bulk of what it lacked.
    pub replayed: Replayed,
    /// Why the member stopped, once it has. By then its calls are answered, its machine is at rest,
    /// its bonds and its store are closed, and the group can be joined again. A machine or a disk
    /// that takes longer than ten seconds is not waited for: then this says so.
    pub stopped: Option<String>,
}

/// Bytes that wait in front of lanes, by what a lane carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LaneBytes {
    /// Votes, heartbeats and acknowledgements.
    pub control: usize,
    /// Entries, from a leader to its followers.
    pub append: usize,
    /// Calls that are passed on, and their answers.
    pub client: usize,
    /// Entries and snapshots for those who are far behind.
    pub bulk: usize,
}

/// Something that happened in a group, as told to an observer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The core noted something.
    Raft(raft::Note),
    /// A bond came up.
    Bonded(NodeId),
    /// A bond went down.
    Unbonded(NodeId),
    /// All founders have met, or this member has been told that they have.
    Founded(Lineage),
    /// A peer was met that belongs to another founding of this group. Said once for each.
    Foreign {
        /// The peer.
        peer: PeerId,
        /// Its lineage.
        theirs: Lineage,
        /// This member's.
        ours: Lineage,
    },
    /// This member, which was alone and had promised nothing, has given its lineage up and goes
    /// on as another server that looks for a group to join.
    Dissolved(Lineage),
    /// A newcomer is a learner, in the configuration in force here. As with the next two, the
    /// entry that says so may not be committed yet, and may be lost.
    Added(NodeId),
    /// A learner is a voter.
    Promoted(NodeId),
    /// A voter or a learner is a member no longer.
    Removed(NodeId),
    /// This member leads and had a change of membership appended.
    Changing {
        /// The change.
        change: Change,
        /// Why.
        cause: Cause,
    },
    /// This member was asked to leave, and its removal is committed: it stops next.
    Left,
    /// This member has put its state into a snapshot, durably; the log before it may go.
    SnapshotTaken(SnapshotId),
    /// This member goes on from another's snapshot.
    SnapshotInstalled(SnapshotId),
    /// This member is far behind and fetches what it lacks from all others.
    ReplayBegan {
        /// Who vouches for what they send.
        leader: NodeId,
        /// Entries that it lacks.
        behind: u64,
    },
    /// It fetches no more.
    ReplayEnded(ReplayEnded),
    /// A member sent entries that the leader does not vouch for; it is asked for none any more.
    Distrusted(NodeId),
    /// The member stops, for this reason: its calls are answered, its machine is at rest and its
    /// store is closed, unless the reason says otherwise. An observer that has panicked is not
    /// told.
    Stopped(String),
}

/// Told of every event, by the member's own task: it must be quick.
pub(crate) type Observer = Arc<dyn Fn(Time, &Event) + Send + Sync>;

impl Status {
    pub(crate) fn new(node: NodeId) -> Self {
        Self {
            node,
            lineage: None,
            foreign: Vec::new(),
            role: Role::Follower,
            term: Term(0),
            leader: None,
            commit: Index(0),
            applied: Index(0),
            last: Position::default(),
            log_bytes: 0,
            log_start: Index(0),
            snapshot: Position::default(),
            snapshot_bytes: 0,
            configuration: Configuration::default(),
            bonded: Vec::new(),
            calls: 0,
            storage_backlog_bytes: 0,
            held_messages: 0,
            mailbox_calls: 0,
            bond_events: 0,
            applier_batches: 0,
            lane_bytes: LaneBytes::default(),
            replayed: Replayed::default(),
            stopped: None,
        }
    }

    /// The member is gone: nothing is true of it any more but what was.
    pub(crate) fn stop(&mut self, reason: String) {
        (self.role, self.leader) = (Role::Follower, None);
        self.bonded.clear();
        (self.calls, self.held_messages) = (0, 0);
        (self.mailbox_calls, self.bond_events, self.applier_batches) = (0, 0, 0);
        self.lane_bytes = LaneBytes::default();
        (self.log_bytes, self.storage_backlog_bytes) = (0, 0);
        self.stopped = Some(reason);
    }

    /// Whether this member leads; one that has stopped does not.
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    /// Which of its queues have anything in them.
    pub(crate) fn waits(&self) -> [bool; 10] {
        let LaneBytes { control, append, client, bulk } = self.lane_bytes;
        [
            self.calls,
            self.storage_backlog_bytes,
            self.held_messages,
            self.mailbox_calls,
            self.bond_events,
            self.applier_batches,
            control,
            append,
            client,
            bulk,
        ]
        .map(|depth| depth > 0)
    }
}

/// Futures that resolve when something holds of this member's view.
///
/// Some ask what the member has come to: [`founded`](Self::founded),
/// [`committed`](Self::committed) and [`applied`](Self::applied). That stays true of one that has
/// stopped. The others ask what it is at present, and of one that has stopped they never hold.
#[derive(Clone)]
pub struct When {
    status: watch::Receiver<Status>,
}

impl When {
    pub(crate) fn new(status: watch::Receiver<Status>) -> Self {
        Self { status }
    }

    /// Resolves once `holds` is true of the status, also if the member has stopped by then: what
    /// its status says then, see [`Status`]. Whoever means a member that lives asks for that too.
    ///
    /// # Errors
    /// [`GroupError::Stopped`] once the member has stopped without it.
    pub async fn status(
        &mut self,
        mut holds: impl FnMut(&Status) -> bool,
    ) -> Result<Status, GroupError> {
        let seen = self.status.wait_for(|status| status.stopped.is_some() || holds(status)).await;
        let gone = |_| GroupError::Stopped("its task ended without a word".into());
        let status = seen.map_err(gone)?.clone();
        match &status.stopped {
            Some(reason) if !holds(&status) => Err(GroupError::Stopped(reason.clone())),
            _ => Ok(status),
        }
    }

    /// What a member is only as long as it lives.
    async fn at_present(
        &mut self,
        mut holds: impl FnMut(&Status) -> bool,
    ) -> Result<Status, GroupError> {
        self.status(|status| status.stopped.is_none() && holds(status)).await
    }

    /// Resolves once this member knows how its group began: all founders have met, or it was told
    /// that they have.
    ///
    /// # Errors
    /// As [`When::status`].
    pub async fn founded(mut self) -> Result<(), GroupError> {
        self.status(|status| status.lineage.is_some()).await.map(drop)
    }

    /// Resolves once a leader is known.
    ///
    /// # Errors
    /// As [`When::status`].
    pub async fn leader_elected(mut self) -> Result<PeerId, GroupError> {
        let status = self.at_present(|status| status.leader.is_some()).await?;
        status.leader.map(|leader| leader.peer).ok_or(GroupError::Stopped("no leader".into()))
    }

    /// Resolves once this peer leads.
    ///
    /// # Errors
    /// As [`When::status`].
    pub async fn leader_is(mut self, peer: PeerId) -> Result<(), GroupError> {
        self.at_present(|status| status.leader.is_some_and(|leader| leader.peer == peer))
            .await
            .map(drop)
    }

    /// Resolves once this member leads.
    ///
    /// # Errors
    /// As [`When::status`].
    pub async fn is_leader(mut self) -> Result<(), GroupError> {
        self.at_present(Status::is_leader).await.map(drop)
    }

    /// Resolves once this member follows a known leader.
    ///
    /// # Errors
    /// As [`When::status`].
    pub async fn is_follower(mut self) -> Result<(), GroupError> {
        self.at_present(|status| status.role == Role::Follower && status.leader.is_some())
            .await
            .map(drop)
    }

    /// Resolves once this member knows everything up to the index to be committed.
    ///
    /// # Errors
    /// As [`When::status`].
    pub async fn committed(mut self, index: Index) -> Result<(), GroupError> {
        self.status(|status| status.commit >= index).await.map(drop)
    }

    /// Resolves once this member's machine has applied everything up to the index.
    ///
    /// # Errors
    /// As [`When::status`].
    pub async fn applied(mut self, index: Index) -> Result<(), GroupError> {
        self.status(|status| status.applied >= index).await.map(drop)
    }

    /// Resolves once this member holds bonds to at least `count` others.
    ///
    /// # Errors
    /// As [`When::status`].
    pub async fn bonded(mut self, count: usize) -> Result<(), GroupError> {
        self.at_present(|status| status.bonded.len() >= count).await.map(drop)
    }

    /// Resolves once this member is a voter, in the configuration that it knows.
    ///
    /// # Errors
    /// As [`When::status`].
    pub async fn is_voter(mut self) -> Result<(), GroupError> {
        self.at_present(|status| status.configuration.voters.contains(&status.node)).await.map(drop)
    }

    /// Resolves once this member has stopped, with the reason: [`Status::stopped`].
    pub async fn stopped(mut self) -> String {
        match self.status(|status| status.stopped.is_some()).await {
            Ok(status) => status.stopped.unwrap_or_default(),
            Err(error) => error.to_string(),
        }
    }
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("When")
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// A member that leads and is all else that can be waited for.
    fn alive() -> Status {
        let node = NodeId::small(1);
        let lineage = postcard::from_bytes(&[7; 32]).expect("32 bytes are a lineage");
        Status {
            lineage: Some(lineage),
            role: Role::Leader,
            leader: Some(node),
            commit: Index(5),
            applied: Index(4),
            configuration: Configuration::of([node]),
            bonded: vec![NodeId::small(2)],
            calls: 3,
            log_bytes: 100,
            storage_backlog_bytes: 10,
            held_messages: 1,
            mailbox_calls: 2,
            bond_events: 1,
            applier_batches: 4,
            lane_bytes: LaneBytes { control: 1, append: 2, client: 3, bulk: 4 },
            ..Status::new(node)
        }
    }

    /// What is true of it at once, in the order of what is asked below.
    fn seen(status: Status) -> [Option<bool>; 8] {
        let peer = status.node.peer;
        let (_shown, seen) = watch::channel(status);
        let when = || When::new(seen.clone());
        let is_ok =
            |outcome: Option<Result<(), GroupError>>| outcome.map(|outcome| outcome.is_ok());
        [
            is_ok(when().is_leader().now_or_never()),
            is_ok(when().leader_elected().now_or_never().map(|leader| leader.map(drop))),
            is_ok(when().leader_is(peer).now_or_never()),
            is_ok(when().bonded(1).now_or_never()),
            is_ok(when().is_voter().now_or_never()),
            is_ok(when().founded().now_or_never()),
            is_ok(when().committed(Index(5)).now_or_never()),
            is_ok(when().applied(Index(4)).now_or_never()),
        ]
    }

    #[test]
    fn of_a_member_that_has_stopped_only_what_was_is_true() {
        let mut status = alive();
        assert_eq!(seen(status.clone()), [Some(true); 8]);
        assert_eq!(status.waits(), [true; 10]);
        status.stop("it was time".into());
        assert_eq!(status.waits(), [false; 10]);
        let [present @ .., founded, committed, applied] = seen(status.clone());
        assert_eq!(present, [Some(false); 5]);
        assert_eq!([founded, committed, applied], [Some(true); 3]);
        let (_shown, seen) = watch::channel(status.clone());
        let when = || When::new(seen.clone());
        let follows = when().is_follower().now_or_never().expect("it resolves");
        assert!(matches!(follows, Err(GroupError::Stopped(reason)) if reason == "it was time"));
        let beyond = when().applied(Index(6)).now_or_never().expect("it resolves");
        assert!(beyond.is_err(), "it never came to that");
        assert_eq!(when().stopped().now_or_never().as_deref(), Some("it was time"));
        assert_eq!(
            status,
            Status {
                lineage: status.lineage,
                commit: Index(5),
                applied: Index(4),
                configuration: status.configuration.clone(),
                stopped: Some("it was time".into()),
                ..Status::new(status.node)
            }
        );
    }

    #[test]
    fn a_bond_that_was_seen_before_the_end_is_none_afterwards() {
        let (shown, seen) = watch::channel(Status::new(NodeId::small(1)));
        let mut waits = Box::pin(When::new(seen).bonded(1));
        assert!(waits.as_mut().now_or_never().is_none(), "there is none yet");
        shown.send_modify(|status| {
            status.bonded.push(NodeId::small(2));
            status.stop("both at once".into());
        });
        let outcome = waits.as_mut().now_or_never().expect("it resolves");
        assert!(outcome.is_err(), "{outcome:?}");
    }
}
