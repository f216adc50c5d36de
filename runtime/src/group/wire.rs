//! What members and clients of a group say to each other, above the bond.
//!
//! Identity is never in a frame. Invariant: every frame decodes within the frame limit, and what
//! does not decode closes the connection that brought it.

mod coding;

use bytes::Bytes;
pub(crate) use coding::{decode, encode};
use raft::{Index, PeerId, Position, RequestId, SessionId};
use serde::{Deserialize, Serialize};

use crate::group::{introduction::Introduction, replay::ReplayFrame, transfer::SnapshotFrame};

/// Between two members.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum MemberFrame {
    /// For the core.
    Raft(raft::Message),
    /// A call passed on to the leader.
    Forward {
        /// Returns in the answer; counted by the caller per bond.
        id: u64,
        /// What is asked.
        call: Call,
    },
    /// What became of a forwarded call.
    Answer {
        /// From the call.
        id: u64,
        /// See [`Outcome`].
        outcome: Outcome,
    },
    /// Nothing to say, but alive.
    Ping,
    /// Who the sender is, and where it and others are reached. Said when the bond comes up, and
    /// again when it changes.
    Introduction(Introduction),
    /// The sender wants to be a member no longer. Said to everyone; the leader sees to it.
    Leave,
    /// The leader's answer to that: the removal is committed.
    Left,
    /// About a snapshot.
    Snapshot(SnapshotFrame),
    /// Entries in bulk.
    Replay(ReplayFrame),
}

/// Between a client and a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum ClientFrame {
    /// The client asks.
    Call {
        /// Returns in the answer; counted by the client.
        id: u64,
        /// What is asked.
        call: Call,
        /// How long the client will wait, in milliseconds.
        patience_ms: u32,
    },
    /// The node answers.
    Answer {
        /// From the call.
        id: u64,
        /// See [`Outcome`].
        outcome: Outcome,
    },
    /// Nothing to say, but alive. The node's says where the leader is.
    Ping {
        /// The leader that the node knows.
        leader: Option<PeerId>,
    },
}

/// What can be asked of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    /// A session.
    OpenSession {
        /// Drawn by the caller.
        nonce: u64,
    },
    /// A command under a session.
    Command {
        /// Its name.
        request: RequestId,
        /// With which its session was opened. An index alone names another caller's session in
        /// another lineage, and could be guessed.
        nonce: u64,
        /// The caller's lowest unanswered sequence.
        floor: u64,
        /// The command, encoded.
        command: Bytes,
        /// What the caller waits for.
        until: Until,
    },
    /// A linearizable query.
    Query {
        /// The query, encoded.
        query: Bytes,
    },
    /// A query of whatever state the asked node has.
    WeakQuery {
        /// The query, encoded.
        query: Bytes,
    },
}

impl Call {
    /// What its content weighs; the rest of it is small and of one size.
    pub(crate) fn content_bytes(&self) -> usize {
        match self {
            Self::OpenSession { .. } => 0,
            Self::Command { command, .. } => command.len(),
            Self::Query { query } | Self::WeakQuery { query } => query.len(),
        }
    }
}

/// How far a command must have come for its call to be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Until {
    /// It stands in the leader's log; it may yet be lost.
    Proposed,
    /// It is committed and applied.
    Applied,
}

/// What became of a call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The session is open.
    Opened(SessionId),
    /// The command is committed and applied at this position.
    Applied {
        /// Where.
        position: Position,
        /// What the machine returned, encoded; `None` if the machine could not decode the command.
        output: Option<Bytes>,
    },
    /// The command stands in the leader's log at this position.
    Proposed(Position),
    /// The query is answered.
    Queried {
        /// The last index applied before.
        applied: Index,
        /// The answer, encoded; `None` if the machine could not decode the query.
        answer: Option<Bytes>,
    },
    /// Nothing that was appended for this call can take effect.
    Refused(Reason),
    /// The command may or may not take effect.
    Unknown(Reason),
}

impl Outcome {
    /// What its content weighs.
    pub(crate) fn content_bytes(&self) -> usize {
        match self {
            Self::Applied { output: content, .. } | Self::Queried { answer: content, .. } => {
                content.as_ref().map_or(0, Bytes::len)
            }
            Self::Opened(_) | Self::Proposed(_) | Self::Refused(_) | Self::Unknown(_) => 0,
        }
    }
}

/// Why a call was refused, or its outcome is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reason {
    /// Queues or the log are as full as they may be.
    Busy,
    /// The node takes no calls from who asked, who is no member. Told to nodes only, which then
    /// try again: a call that finds no leader ends as [`Reason::Timeout`].
    Unavailable,
    /// Leadership moved while the call was under way.
    LeaderChanged,
    /// The deadline passed.
    Timeout,
    /// The session is closed, or the request is below its floor; it may have been applied before.
    SessionExpired,
    /// The command or query is larger than `command_bytes_max`, or what came of it is.
    TooLarge,
    /// The machine could not decode the command or query.
    Undecodable,
    /// The node or the group is shut down.
    Stopped,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Busy => "too much is under way already",
            Self::Unavailable => "the node takes no calls of who is no member",
            Self::LeaderChanged => "leadership moved while the call was under way",
            Self::Timeout => "the deadline passed",
            Self::SessionExpired => "the session has expired",
            Self::TooLarge => "it, or what came of it, is larger than command_bytes_max",
            Self::Undecodable => "the machine cannot decode it",
            Self::Stopped => "the group is shut down",
        })
    }
}
