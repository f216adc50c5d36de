//! What servers say to each other, in the words of the paper.
//!
//! A message never names its sender: identity comes from the connection. Knows no role.
//! Invariant: every message carries its sender's term, so that a stale one can be answered.

use std::borrow::Borrow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Configuration, Entries, EntriesRef, Index, Position, RequestId, SessionId, Term};

/// One entry of the log. `C` is a command and `F` a configuration: they themselves, or, in an
/// [`EntryRef`], where they stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry<C = Bytes, F = Configuration> {
    /// The term and index that name it.
    pub position: Position,
    /// What it holds.
    pub payload: Payload<C, F>,
}

/// An entry whose command, or configuration, stands elsewhere: as it is read where it is held.
pub type EntryRef<'a> = Entry<&'a [u8], &'a Configuration>;

/// What an entry holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Payload<C = Bytes, F = Configuration> {
    /// Opens a term, so that the leader learns what is committed (Raft §8).
    Noop,
    /// Opens a client session (thesis §6.3). The session's id is the index of this entry.
    OpenSession {
        /// Tells the opener which of several open sessions is the one it asked for.
        nonce: u64,
    },
    /// A command for the state machine.
    Command {
        /// Session and sequence: applied at most once under this name.
        request: RequestId,
        /// The client's lowest unanswered sequence; replies below it may be forgotten.
        floor: u64,
        /// The command itself; the core never looks inside.
        command: C,
    },
    /// A new configuration, in force from the moment it is appended (thesis §4.1).
    Configuration(F),
}

impl<C: AsRef<[u8]>, F: Borrow<Configuration>> Entry<C, F> {
    /// What the entry weighs in the byte windows: its content and a fixed part for the rest.
    #[inline]
    pub fn weight_bytes(&self) -> usize {
        let content = match &self.payload {
            Payload::Command { command, .. } => command.as_ref().len(),
            Payload::Configuration(configuration) => 48 * configuration.borrow().len(),
            Payload::Noop | Payload::OpenSession { .. } => 0,
        };
        content + ENTRY_OVERHEAD_BYTES
    }

    /// The request that the entry carries, if it carries one.
    pub fn request(&self) -> Option<RequestId> {
        match &self.payload {
            Payload::Command { request, .. } => Some(*request),
            Payload::Noop | Payload::OpenSession { .. } | Payload::Configuration(_) => None,
        }
    }

    /// The session that the entry opens, if it opens one.
    pub fn opens(&self) -> Option<SessionId> {
        let Payload::OpenSession { .. } = self.payload else { return None };
        Some(SessionId(self.position.index))
    }

    /// The entry as it is read.
    #[inline]
    pub fn view(&self) -> EntryRef<'_> {
        let payload = match &self.payload {
            Payload::Noop => Payload::Noop,
            Payload::OpenSession { nonce } => Payload::OpenSession { nonce: *nonce },
            Payload::Command { request, floor, command } => {
                Payload::Command { request: *request, floor: *floor, command: command.as_ref() }
            }
            Payload::Configuration(configuration) => Payload::Configuration(configuration.borrow()),
        };
        Entry { position: self.position, payload }
    }
}

impl<'a> EntryRef<'a> {
    /// The entry itself; `own` makes a command of the bytes of one.
    pub fn own(self, own: impl FnOnce(&'a [u8]) -> Bytes) -> Entry {
        let payload = match self.payload {
            Payload::Noop => Payload::Noop,
            Payload::OpenSession { nonce } => Payload::OpenSession { nonce },
            Payload::Command { request, floor, command } => {
                Payload::Command { request, floor, command: own(command) }
            }
            Payload::Configuration(configuration) => Payload::Configuration(configuration.clone()),
        };
        Entry { position: self.position, payload }
    }
}

/// Before a server raises its term it asks whether it could win (thesis §9.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Phase {
    /// "Would you vote for me?" Binds nobody and changes no term.
    PreVote,
    /// "Vote for me."
    Vote,
}

/// A message between two servers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Asks for a vote. In the pre-vote phase `term` is the term the sender would campaign in.
    RequestVote {
        /// The term of the campaign.
        term: Term,
        /// Pre-vote or vote.
        phase: Phase,
        /// The last entry of the candidate's log.
        last: Position,
        /// The leader asked for this campaign (thesis §4.2.3): lease and recent contact do not
        /// stand against it.
        transfer: bool,
    },
    /// Answers a request for a vote. A granted pre-vote repeats the term it was asked for; a
    /// refusal carries the refuser's own term.
    Vote {
        /// See above.
        term: Term,
        /// Pre-vote or vote.
        phase: Phase,
        /// Whether the vote was given.
        granted: bool,
    },
    /// Replicates entries; without entries it probes, or asks behind what was sent ahead whether
    /// that has come. A commit that no entry is left to carry goes
    /// as a [`Message::Heartbeat`] with [`NO_ROUND`].
    Append {
        /// The leader's term.
        term: Term,
        /// The entry just before the first of `entries`.
        prev: Position,
        /// Consecutive entries after `prev`.
        entries: Entries,
        /// The leader's commit index.
        commit: Index,
    },
    /// Answers an [`Message::Append`], and an installed snapshot.
    AppendReply {
        /// The follower's term.
        term: Term,
        /// What came of it.
        outcome: Appended,
    },
    /// Keeps followers calm, and confirms leadership for reads (Raft §8).
    Heartbeat {
        /// The leader's term.
        term: Term,
        /// Counts the leader's rounds; the answer repeats it. [`NO_ROUND`] wants no answer: it
        /// only makes the commit index known, once per commit, and the next round repeats it.
        round: u64,
        /// The commit index, no further than what the follower is known to hold.
        commit: Index,
    },
    /// Answers a [`Message::Heartbeat`]. Says nothing of the log.
    HeartbeatReply {
        /// The follower's term.
        term: Term,
        /// The round it answers.
        round: u64,
    },
    /// Asks a caught-up follower to campaign at once (thesis §3.10).
    TimeoutNow {
        /// The leader's term.
        term: Term,
    },
    /// Offers a snapshot to a follower whose next entry is compacted away (Raft §7). The state
    /// itself travels outside the core.
    InstallSnapshot {
        /// The leader's term.
        term: Term,
        /// What the snapshot covers.
        snapshot: Snapshot,
    },
}

/// The round of a heartbeat that belongs to none; rounds count from 1.
pub const NO_ROUND: u64 = 0;

/// What came of an append.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Appended {
    /// The follower's log equals the leader's up to here, durably.
    Matched(Index),
    /// The entry at `prev` is missing or of another term.
    Rejected {
        /// The `prev` that was refused, so that the leader can drop stale refusals.
        prev: Index,
        /// The furthest place where the logs may still agree: the follower's last entry at or
        /// before `prev` whose term is not later than that of `prev` (Raft §5.3, end).
        hint: Position,
    },
}

/// What a snapshot covers: everything but the machine's state, which the core never sees.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last entry that the snapshot includes.
    pub position: Position,
    /// The configuration at that entry.
    pub configuration: Configuration,
}

impl Message {
    /// The term in the message.
    pub fn term(&self) -> Term {
        match self {
            Self::RequestVote { term, .. }
            | Self::Vote { term, .. }
            | Self::Append { term, .. }
            | Self::AppendReply { term, .. }
            | Self::Heartbeat { term, .. }
            | Self::HeartbeatReply { term, .. }
            | Self::TimeoutNow { term }
            | Self::InstallSnapshot { term, .. } => *term,
        }
    }

    /// Whether servers heed it from a sender that their own configuration does not have.
    ///
    /// Votes are asked for and logs are sent by servers that count us while we may not know
    /// them yet: a newcomer has no configuration at all (thesis §4.2).
    pub(crate) fn is_request(&self) -> bool {
        match self {
            Self::RequestVote { .. }
            | Self::Append { .. }
            | Self::Heartbeat { .. }
            | Self::InstallSnapshot { .. } => true,
            Self::Vote { .. }
            | Self::AppendReply { .. }
            | Self::HeartbeatReply { .. }
            | Self::TimeoutNow { .. } => false,
        }
    }

    /// Whether only the leader of its term sends such a message.
    pub(crate) fn is_of_leader(&self) -> bool {
        match self {
            Self::Append { .. }
            | Self::Heartbeat { .. }
            | Self::InstallSnapshot { .. }
            | Self::TimeoutNow { .. } => true,
            Self::RequestVote { .. }
            | Self::Vote { .. }
            | Self::AppendReply { .. }
            | Self::HeartbeatReply { .. } => false,
        }
    }

    /// Whether a correct server could have said it, judged by the message alone.
    pub(crate) fn is_sound(&self) -> bool {
        // Nobody leads or campaigns in term 0, and after the last term there is no next one.
        let in_terms = self.term() < Term(u64::MAX);
        let in_term = in_terms && self.term() > Term(0);
        match self {
            Self::RequestVote { term, last, .. } => in_term && last.is_sound(*term),
            Self::Append { term, prev, entries, .. } => {
                in_term && prev.is_sound(*term) && are_consecutive(*prev, entries.view(), *term)
            }
            Self::InstallSnapshot { term, snapshot } => {
                in_term
                    && snapshot.position.index > Index(0)
                    && snapshot.position.is_sound(*term)
                    && snapshot.configuration.is_sound()
            }
            Self::Heartbeat { .. } | Self::TimeoutNow { .. } => in_term,
            Self::Vote { .. } | Self::AppendReply { .. } | Self::HeartbeatReply { .. } => in_terms,
        }
    }

    /// Whether the sender must remember something after a crash for the message to be true.
    ///
    /// A vote and a candidacy promise "not another one in this term" (Raft §5.2); an
    /// acknowledgement promises the entries (§5.3). A leader's own messages promise nothing of
    /// its disk, since it counts itself only once persisted (thesis §10.2.1); heartbeat replies
    /// and pre-votes bind nobody.
    pub fn promises(&self) -> bool {
        match self {
            Self::RequestVote { phase, .. } | Self::Vote { phase, .. } => *phase == Phase::Vote,
            Self::AppendReply { .. } => true,
            Self::Append { .. }
            | Self::Heartbeat { .. }
            | Self::HeartbeatReply { .. }
            | Self::TimeoutNow { .. }
            | Self::InstallSnapshot { .. } => false,
        }
    }
}

/// Whether the entries follow `prev` one by one, in terms that never fall and end by `last`, and
/// hold nothing that cannot be put in force.
pub(crate) fn are_consecutive(prev: Position, entries: EntriesRef<'_>, last: Term) -> bool {
    let mut before = prev;
    let mut follows = |position: Position| {
        let follows = before.index.0.checked_add(1) == Some(position.index.0)
            && position.term >= before.term.max(Term(1))
            && position.term <= last;
        before = position;
        follows
    };
    if entries.is_packed() {
        // They are of one term and count on from the first, as far as there are indexes.
        let counts_on =
            |first: Position| first.index.0.checked_add(entries.len() as u64 - 1).is_some();
        let first = entries.first().map(|entry| entry.position);
        return first.is_none_or(|first| follows(first) && counts_on(first));
    }
    entries.iter().all(|entry| {
        follows(entry.position)
            && match entry.payload {
                Payload::Configuration(configuration) => configuration.is_sound(),
                Payload::Noop | Payload::OpenSession { .. } | Payload::Command { .. } => true,
            }
    })
}

pub(crate) const ENTRY_OVERHEAD_BYTES: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(term: u64, first: u64, count: u64) -> Entries {
        let command = |index| Entry {
            position: Position { term: Term(term), index: Index(index) },
            payload: Payload::Command {
                request: RequestId::default(),
                floor: 0,
                command: Bytes::from_static(b"c"),
            },
        };
        (0..count).map(|place| command(first + place)).collect()
    }

    #[test]
    fn packed_entries_follow_where_single_ones_do() {
        let at = |term, index| Position { term: Term(term), index: Index(index) };
        let last = u64::MAX;
        let mut counts = [0, 0];
        for entries in [commands(3, 5, 4), commands(1, 1, 1), commands(3, last - 3, 4)] {
            assert!(entries.packed().view().is_packed());
            for prev in [at(0, 0), at(2, 4), at(3, 4), at(4, 4), at(3, 5), at(1, last - 4)] {
                for term in [1, 2, 3, 4].map(Term) {
                    let single = are_consecutive(prev, entries.view(), term);
                    assert_eq!(are_consecutive(prev, entries.packed().view(), term), single);
                    counts[usize::from(single)] += 1;
                }
            }
        }
        assert!(counts.iter().all(|count| *count > 5), "{counts:?}");
    }
}
