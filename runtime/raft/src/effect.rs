//! What the core is told and what it wants done.
//!
//! The order of effects is durability: a `Persist` stands before the `Send` that promises it.
//! [`Barrier`] keeps that order for every caller of `step`, so the rule exists once.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    Change, Entries, Index, Message, NodeId, Position, RequestId, Role, Sessions, Snapshot, Term,
    Time,
    planted::{Plant, Planted},
};

/// What a core is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// The deadline has come.
    Timeout,
    /// A message; `from` is what the connection proved.
    Message {
        /// The sender.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// A client wants something appended.
    Propose {
        /// Returns in the answer.
        id: ProposalId,
        /// What to append.
        proposal: Proposal,
    },
    /// A client wants a linearizable read.
    Read {
        /// Returns in the answer.
        id: ReadId,
    },
    /// This write, and all before it, are on stable storage.
    Persisted(WriteId),
    /// The leader shall hand over to this voter.
    Transfer {
        /// The successor.
        to: NodeId,
    },
    /// The runtime has a durable snapshot; the log up to it may be dropped.
    SnapshotTaken(Snapshot),
    /// A snapshot that [`Effect::Install`] asked for is durable and in the machine.
    SnapshotInstalled {
        /// What it covers.
        snapshot: Snapshot,
        /// The session table that came with it: where each kept reply's entry stands.
        sessions: Sessions<Index>,
    },
    /// A connection to this node exists (again); what was sent on the old one may be lost.
    Connected(NodeId),
    /// Committed entries that a leader vouches for, whoever carried them here. Heeded like an
    /// append of that leader, while it leads that term; but they are no word from it, and move
    /// no timer.
    Fetched {
        /// Who vouches for them.
        leader: NodeId,
        /// The term that it leads.
        term: Term,
        /// The entry just before the first of `entries`, in the log of that leader.
        prev: Position,
        /// Consecutive entries after `prev`.
        entries: Entries,
    },
    /// This member fetches what it lacks from others: until then a leader sends it no entries.
    Fetching {
        /// The member.
        node: NodeId,
        /// When it is sent entries again, unless it is said once more. A moment that has passed
        /// ends it.
        until: Time,
    },
}

/// Names a proposal within one process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProposalId(pub u64);

/// Names a read within one process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadId(pub u64);

/// Names a write to stable storage; they count up by one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WriteId(pub u64);

/// What a client or an operator wants appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Proposal {
    /// A session to be opened.
    OpenSession {
        /// See [`crate::Payload::OpenSession`].
        nonce: u64,
    },
    /// A command under a session.
    Command {
        /// Session and sequence.
        request: RequestId,
        /// The client's lowest unanswered sequence.
        floor: u64,
        /// The command.
        command: Bytes,
    },
    /// One change of membership.
    Change(Change),
}

/// What a core wants done, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Write, and say [`Input::Persisted`] when it is durable. Writes become durable in order.
    Persist {
        /// Returns in [`Input::Persisted`].
        id: WriteId,
        /// What to write.
        write: Write,
    },
    /// Send, after [`Barrier`] lets it pass. May be lost.
    Send {
        /// The receiver.
        to: NodeId,
        /// What to say.
        message: Message,
    },
    /// Entries up to here are committed and persisted: apply them in order. Never goes back.
    Apply {
        /// The last index to apply.
        through: Index,
    },
    /// Fetch this snapshot from its leader, make it durable, restore the machine from it, then
    /// say [`Input::SnapshotInstalled`]. A later `Install` replaces an earlier one; one that
    /// names what is being fetched already changes nothing. Meanwhile the log may have caught
    /// up by itself: a snapshot at or below [`crate::Raft::applied`] must not be restored.
    Install {
        /// Who offered it.
        from: NodeId,
        /// What it covers.
        snapshot: Snapshot,
    },
    /// Tell a client.
    Answer(Answer),
    /// Tell an observer; nothing depends on it.
    Note(Note),
    /// A safety rule would be broken by going on. The core does nothing any more.
    Halt(Halt),
}

/// What goes to stable storage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// Term and vote.
    HardState(HardState),
    /// The log after `after` is replaced by `entries`.
    Entries {
        /// The index before the first of `entries`.
        after: Index,
        /// Consecutive entries.
        entries: Entries,
    },
}

/// What a server must never forget (Raft figure 2, persistent state).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct HardState {
    /// The latest term it has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
}

/// An answer to a client's input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// What became of a proposal: where it stands in the log, or why it was not appended.
    /// Standing in the log is not being committed.
    Proposed {
        /// From [`Input::Propose`].
        id: ProposalId,
        /// Its place; the same place again when the request stood in the log already.
        outcome: Result<Position, Refusal>,
    },
    /// The read may be answered once everything up to the index is applied.
    Read {
        /// From [`Input::Read`].
        id: ReadId,
        /// The read index.
        outcome: Result<Index, Refusal>,
    },
    /// What became of a wish to hand over: `Ok` when the successor was told to campaign.
    Transfer {
        /// The successor.
        to: NodeId,
        /// Why not.
        outcome: Result<(), Refusal>,
    },
}

/// Why the core did not take a proposal, a read or a transfer. Nothing was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Another server leads, or nobody.
    NotLeader {
        /// Whom this server believes to lead.
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over. To a wish to hand over: another one is under way, or
    /// the successor did not catch up within an election timeout.
    Transferring,
    /// Too much stands in the log uncommitted, or unapplied.
    Full,
    /// The request was applied already, at this index.
    Applied(Index),
    /// The session is closed or never existed, or the sequence is below its floor.
    Expired,
    /// The session has as many unanswered requests as it may have.
    SessionFull,
    /// A change of membership is under way, or no entry of this term is committed yet.
    ChangePending,
    /// The change names a node that is not in the fitting part of the configuration, or would
    /// leave the group without voters.
    ChangeInvalid,
    /// The successor is not a voter other than the leader.
    NotVoter,
}

/// Something worth counting or drawing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    /// The role or the term changed.
    Became {
        /// The role now.
        role: Role,
        /// The term now.
        term: Term,
    },
    /// It is known who leads, this server included; `None`: nobody.
    Leader {
        /// The leader, if any.
        leader: Option<NodeId>,
        /// Its term.
        term: Term,
    },
    /// A campaign began.
    Campaign {
        /// The term of the campaign.
        term: Term,
        /// Pre-vote or vote.
        phase: crate::Phase,
    },
    /// The leader heard no quorum for an election timeout and stepped down (thesis §6.2).
    QuorumLost {
        /// The term it led.
        term: Term,
    },
    /// The timer came so late that messages may wait unread; the core waits for them first.
    TimerLate {
        /// How late.
        by: std::time::Duration,
    },
    /// A suffix of the log was replaced.
    Truncated {
        /// The last index that stayed.
        after: Index,
        /// The last index before.
        last: Index,
    },
    /// The commit index moved.
    Committed {
        /// To here.
        index: Index,
    },
    /// A configuration is in force.
    Configured {
        /// The entry that brought it.
        index: Index,
    },
    /// A follower needs entries that are compacted away.
    SnapshotOffered {
        /// The follower.
        to: NodeId,
    },
    /// A message was not heeded.
    Dropped {
        /// Its sender.
        from: NodeId,
        /// Why.
        reason: Dropped,
    },
}

/// Why a message was not heeded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Dropped {
    /// Its term is over; where it helps, the sender was told the new one.
    Stale,
    /// Its sender is not in the configuration and may not speak in this matter.
    NotMember,
    /// It says what no correct server says.
    Invalid,
    /// A leader was heard too recently for an election (thesis §4.2.3, §9.6).
    LeaderAlive,
}

/// Why a core stopped. Each is a broken invariant, never a fault of the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Halt {
    /// A leader asked to replace an entry at or below the commit index.
    TruncateCommitted {
        /// Where.
        index: Index,
        /// The commit index.
        commit: Index,
    },
    /// Two leaders spoke in one term.
    TwoLeaders {
        /// The term.
        term: Term,
    },
}

/// Holds messages back until what they promise is durable.
///
/// A caller of `step` tells it of each write and passes each message through it.
#[derive(Debug, Default)]
pub struct Barrier {
    submitted: WriteId,
    durable: WriteId,
    held: VecDeque<(WriteId, NodeId, Message)>,
    plant: Plant,
}

impl Barrier {
    /// A write was handed to storage.
    pub fn submitted(&mut self, id: WriteId) {
        assert!(id > self.submitted, "write {id:?} after {:?}", self.submitted);
        self.submitted = id;
    }

    /// Passes a message on at once, or holds it back behind the writes it may depend on.
    pub fn pass(&mut self, to: NodeId, message: Message) -> Option<(NodeId, Message)> {
        let is_free = self.durable == self.submitted || !message.promises();
        if is_free || self.plant.breaks(Planted::AcknowledgeBeforeSync) {
            return Some((to, message));
        }
        self.held.push_back((self.submitted, to, message));
        None
    }

    /// A write became durable: yields the messages that waited for nothing else.
    pub fn persisted(&mut self, id: WriteId) -> impl Iterator<Item = (NodeId, Message)> + '_ {
        self.durable = self.durable.max(id);
        let durable = self.durable;
        let ready = self.held.iter().take_while(|(wait, _, _)| *wait <= durable).count();
        self.held.drain(..ready).map(|(_, to, message)| (to, message))
    }

    /// Breaks a rule from now on.
    #[cfg(feature = "planted-faults")]
    pub fn plant(&mut self, fault: Planted) {
        self.plant.fault = Some(fault);
    }

    /// How many messages wait.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The write that the last of them waits for: once it is durable, none of them waits.
    pub fn last_held(&self) -> Option<WriteId> {
        self.held.back().map(|(wait, _, _)| *wait)
    }
}
