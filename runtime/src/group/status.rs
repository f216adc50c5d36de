//! What can be seen of a group from outside: status, events, and futures that wait for them.
//!
//! Looks, never acts. Invariant: a future of [`When`] always resolves, with an error once the
//! group is gone.

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
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Whom it believes to lead.
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
    /// The configuration in force.
    pub configuration: Configuration,
    /// Members that it holds bonds to.
    pub bonded: Vec<NodeId>,
    /// Calls under way for its users, its clients and its peers.
    pub calls: usize,
    /// Bytes submitted to its store and not yet durable.
    pub storage_backlog_bytes: usize,
    /// Messages held back until what they promise is durable.
    pub held_messages: usize,
    /// What it has fetched in bulk of what it lacked.
    pub replayed: Replayed,
    /// Why the member stopped, once it has.
    pub stopped: Option<String>,
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
    /// The member stopped.
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
            replayed: Replayed::default(),
            stopped: None,
        }
    }

    /// Whether this member leads.
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }
}

/// Futures that resolve when something holds of this member's view.
#[derive(Clone)]
pub struct When {
    status: watch::Receiver<Status>,
}

impl When {
    pub(crate) fn new(status: watch::Receiver<Status>) -> Self {
        Self { status }
    }

    /// Resolves once `holds` is true of the status.
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
        let status = self.status(|status| status.leader.is_some()).await?;
        status.leader.map(|leader| leader.peer).ok_or(GroupError::Stopped("no leader".into()))
    }

    /// Resolves once this peer leads.
    ///
    /// # Errors
    /// As [`When::status`].
    pub async fn leader_is(mut self, peer: PeerId) -> Result<(), GroupError> {
        self.status(|status| status.leader.is_some_and(|leader| leader.peer == peer))
            .await
            .map(drop)
    }

    /// Resolves once this member leads.
    ///
    /// # Errors
    /// As [`When::status`].
    pub async fn is_leader(mut self) -> Result<(), GroupError> {
        self.status(Status::is_leader).await.map(drop)
    }

    /// Resolves once this member follows a known leader.
    ///
    /// # Errors
    /// As [`When::status`].
    pub async fn is_follower(mut self) -> Result<(), GroupError> {
        self.status(|status| status.role == Role::Follower && status.leader.is_some())
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
        self.status(|status| status.bonded.len() >= count).await.map(drop)
    }

    /// Resolves once this member is a voter, in the configuration that it knows.
    ///
    /// # Errors
    /// As [`When::status`].
    pub async fn is_voter(mut self) -> Result<(), GroupError> {
        self.status(|status| status.configuration.voters.contains(&status.node)).await.map(drop)
    }

    /// Resolves once this member has stopped, with the reason.
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
