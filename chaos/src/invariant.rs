//! What must hold in every state of a group: white box, checked after every step.
//!
//! An invariant sees plain views of servers and can cause no effect. Each keeps just enough to
//! look only at what changed in the step, so that checking costs no more than stepping. One
//! invariant per file; [`Invariants`] is all of them.

mod applied_prefix;
mod at_most_once;
mod configuration_safety;
mod durability;
mod election_safety;
mod fail_is_final;
mod leader_completeness;
mod leader_hears_quorum;
mod lease_exclusive;
mod linearizable_read;
mod log_matching;
mod monotonic;
mod no_truncation_below_commit;
mod sampled;
mod shadow;
mod state_machine_safety;
mod undisturbed_leader;
mod vote_once;

use std::{fmt, time::Duration};

use raft::{
    Configuration, HardState, Index, Log, Message, NodeId, Position, RequestId, Role, Term, Time,
};

pub use applied_prefix::AppliedPrefix;
pub use at_most_once::AtMostOnce;
pub use configuration_safety::ConfigurationSafety;
pub use durability::Durability;
pub use election_safety::ElectionSafety;
pub use fail_is_final::FailIsFinal;
pub use leader_completeness::LeaderCompleteness;
pub use leader_hears_quorum::LeaderHearsQuorum;
pub use lease_exclusive::LeaseExclusive;
pub use linearizable_read::{LinearizableRead, ReadFloor};
pub use log_matching::{LogMatching, digest};
pub use monotonic::Monotonic;
pub use no_truncation_below_commit::NoTruncationBelowCommit;
pub use sampled::{Sample, Sampled};
pub use shadow::{Opened, Shadow};
pub use state_machine_safety::StateMachineSafety;
pub use undisturbed_leader::UndisturbedLeader;
pub use vote_once::VoteOnce;

/// Which of all servers that ever existed, counted from 0. A new store is a new server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Server(pub usize);

/// A server after a step, as plain data.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Which server.
    pub server: Server,
    /// Its name in the group.
    pub node: NodeId,
    /// How often it has started.
    pub incarnation: u64,
    /// Its role.
    pub role: Role,
    /// Whom it believes to lead its term.
    pub leader: Option<NodeId>,
    /// Its term and vote, in memory.
    pub hard_state: HardState,
    /// Its commit index.
    pub commit: Index,
    /// How far it has moved the commit index while it led, if it did since the last view. Of a
    /// server that is not seen after every step the role may have changed meanwhile.
    pub led_commit: Option<Index>,
    /// Through where it was told to apply.
    pub applied: Index,
    /// Its log, in memory.
    pub log: &'a Log,
    /// The configuration in force for it.
    pub configuration: &'a Configuration,
    /// Its term and vote, on its disk.
    pub durable_state: HardState,
    /// The last entry on its disk.
    pub durable: Position,
    /// The log after this index was replaced or extended since the last view.
    pub written: Option<Index>,
    /// What it took in this step.
    pub cause: Cause,
    /// What its own clock showed.
    pub now: Time,
    /// Its lease, by a clock that all servers share.
    pub lease: Lease,
    /// For so long after it heard a leader it wants no other.
    pub election_timeout_min: Duration,
    /// The longest it waits for a leader, and the longest that it leads in silence.
    pub election_timeout_max: Duration,
}

/// A server's lease, by a clock that all servers share. Where its own clock is another, nothing is
/// known of it.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// The moment of the step.
    pub now: Time,
    /// Until when the server may answer reads without asking anyone.
    pub until: Option<Time>,
}

/// What a server took in a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Its timer.
    Timer,
    /// What only the leader of this term says.
    Led(NodeId, Term),
    /// A request for its vote, or for a pre-vote.
    Asked {
        /// Who asked.
        from: NodeId,
        /// The term of the campaign.
        term: Term,
        /// The last entry of the candidate's log.
        last: Position,
        /// Whether the leader wanted the campaign.
        transfer: bool,
    },
    /// An answer, of this sender and this term.
    Answered(NodeId, Term),
    /// Anything else: a client, a disk, its own start.
    Other,
}

impl Cause {
    /// A message of this sender.
    pub fn message(from: NodeId, message: &Message) -> Self {
        let term = message.term();
        match *message {
            Message::RequestVote { last, transfer, .. } => {
                Self::Asked { from, term, last, transfer }
            }
            Message::Append { .. }
            | Message::Heartbeat { .. }
            | Message::InstallSnapshot { .. }
            | Message::TimeoutNow { .. } => Self::Led(from, term),
            Message::Vote { .. } | Message::AppendReply { .. } | Message::HeartbeatReply { .. } => {
                Self::Answered(from, term)
            }
        }
    }

    /// The sender of a message, and its term.
    pub fn heard(&self) -> Option<(NodeId, Term)> {
        match *self {
            Self::Led(from, term) | Self::Asked { from, term, .. } | Self::Answered(from, term) => {
                Some((from, term))
            }
            Self::Timer | Self::Other => None,
        }
    }
}

/// A message at the moment it leaves its server for the network.
#[derive(Clone, Copy, Debug)]
pub struct Departure<'a> {
    /// The sender.
    pub server: Server,
    /// The sender's name.
    pub node: NodeId,
    /// The receiver's name.
    pub to: NodeId,
    /// What is said.
    pub message: &'a Message,
    /// The sender's term and vote, on its disk.
    pub hard_state: HardState,
    /// The last entry on the sender's disk.
    pub durable: Position,
}

/// An entry at the moment a machine has applied it.
#[derive(Clone, Copy, Debug)]
pub struct Application {
    /// Whose machine.
    pub server: Server,
    /// Its name in the group.
    pub node: NodeId,
    /// The entry.
    pub position: Position,
    /// The request that took effect by it, if one did.
    pub effective: Option<RequestId>,
    /// The machine's state after it.
    pub state: u64,
}

/// A guarantee that was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which invariant.
    pub invariant: &'static str,
    /// What happened: which servers, term and index.
    pub message: String,
}

impl Violation {
    /// A violation of the named invariant.
    pub fn of(invariant: &'static str, message: String) -> Self {
        Self { invariant, message }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.message)
    }
}

impl std::error::Error for Violation {}

/// All invariants of one group.
#[derive(Debug, Default)]
pub struct Invariants {
    blind: bool,
    /// Messages are not seen, nor what clients are told.
    deaf: bool,
    election_safety: ElectionSafety,
    log_matching: LogMatching,
    leader_completeness: LeaderCompleteness,
    state_machine_safety: StateMachineSafety,
    vote_once: VoteOnce,
    no_truncation_below_commit: NoTruncationBelowCommit,
    monotonic: Monotonic,
    applied_prefix: AppliedPrefix,
    at_most_once: AtMostOnce,
    fail_is_final: FailIsFinal,
    leader_hears_quorum: LeaderHearsQuorum,
    configuration_safety: ConfigurationSafety,
    durability: Durability,
    undisturbed_leader: UndisturbedLeader,
    lease_exclusive: LeaseExclusive,
    linearizable_read: LinearizableRead,
}

impl Invariants {
    /// Invariants that look at nothing, to measure what looking costs.
    pub fn blind() -> Self {
        Self { blind: true, ..Self::default() }
    }

    /// Invariants of whole runtimes, of which a [`Shadow`] is all that is seen.
    pub fn of_shadows() -> Self {
        Self { deaf: true, ..Self::default() }
    }

    /// A server has stepped, or started.
    pub fn stepped(&mut self, view: &View<'_>) -> Result<(), Violation> {
        if self.blind {
            return Ok(());
        }
        self.no_truncation_below_commit.observe(view)?;
        self.monotonic.observe(view)?;
        self.vote_once.observe(view)?;
        self.election_safety.observe(view)?;
        // Log matching comes before all that compare terms alone: it makes a position name one
        // entry and all before it.
        self.log_matching.observe(view)?;
        self.at_most_once.observe(view)?;
        self.configuration_safety.observe(view)?;
        self.leader_completeness.observe(view)?;
        self.state_machine_safety.observe(view)?;
        self.applied_prefix.observe(view);
        self.durability.observe(view)?;
        if self.deaf {
            // A vote that is on disk binds for ever; whether anyone heard of it is not seen.
            return self.vote_once.kept(view);
        }
        self.leader_hears_quorum.observe(view)?;
        self.undisturbed_leader.observe(view)?;
        self.lease_exclusive.observe(view)?;
        self.linearizable_read.observe(view);
        Ok(())
    }

    /// A message leaves a server.
    pub fn left(&mut self, departure: &Departure<'_>) -> Result<(), Violation> {
        if self.blind {
            return Ok(());
        }
        self.vote_once.left(departure)?;
        self.configuration_safety.left(departure)?;
        self.durability.left(departure)
    }

    /// A machine has applied an entry.
    pub fn applied(&mut self, application: &Application) -> Result<(), Violation> {
        if self.blind {
            return Ok(());
        }
        self.applied_prefix.applied(application)?;
        self.state_machine_safety.applied(application)?;
        self.fail_is_final.applied(application)?;
        self.at_most_once.applied(application)
    }

    /// How far a server has committed, as it was last seen.
    pub(crate) fn commit(&mut self, server: Server) -> Index {
        self.applied_prefix.commit(server)
    }

    /// A machine has taken over the state of a snapshot.
    pub fn restored(
        &mut self,
        server: Server,
        node: NodeId,
        at: Position,
        state: u64,
    ) -> Result<(), Violation> {
        if self.blind {
            return Ok(());
        }
        self.applied_prefix.restored(server, at);
        self.state_machine_safety.restored(node, at, state)
    }

    /// The state of machines that have applied the index, once one has.
    pub fn state_at(&self, index: Index) -> Option<u64> {
        self.state_machine_safety.state_at(index)
    }

    /// A client was told that its request has taken effect at the index.
    pub fn acknowledged(&mut self, request: RequestId, index: Index) -> Result<(), Violation> {
        if self.blind {
            return Ok(());
        }
        self.at_most_once.acknowledged(request, index)
    }

    /// A client was told that its request, which was proposed there and nowhere else, will never
    /// take effect.
    pub fn failed(&mut self, request: RequestId, proposed: Position) -> Result<(), Violation> {
        if self.blind {
            return Ok(());
        }
        let committed = self.state_machine_safety.term_at(proposed.index);
        self.fail_is_final.told(request, proposed, committed)?;
        let effective = self.at_most_once.effective(request);
        effective.map_or(Ok(()), |index| self.fail_is_final.took_effect(request, index))
    }

    /// A client asks for a strong read now.
    pub fn read_asked(&self) -> ReadFloor {
        self.linearizable_read.asked()
    }

    /// A strong read that was asked for then is answered at this index.
    pub fn read_answered(
        &self,
        node: NodeId,
        floor: ReadFloor,
        index: Index,
    ) -> Result<(), Violation> {
        self.linearizable_read.answered(node, floor, index)
    }
}

/// State per server, grown as servers appear.
#[derive(Debug)]
struct PerServer<T>(Vec<T>);

impl<T> Default for PerServer<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Default> PerServer<T> {
    fn of(&mut self, server: Server) -> &mut T {
        if self.0.len() <= server.0 {
            self.0.resize_with(server.0 + 1, T::default);
        }
        &mut self.0[server.0]
    }
}
