//! Rules of the core that can be broken on purpose, to see whether the checks notice.
//!
//! Each fault changes one rule, wherever that rule stands; those places ask [`Plant::breaks`].
//! Without the feature `planted-faults`, which only tests turn on, faults have names, but nothing
//! can be planted and the answer is a constant `false`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A rule that is broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Planted {
    /// A leader's quorum is a majority of the voters that it hears (against thesis §4.1: of the
    /// configuration).
    LiveQuorum,
    /// A leader counts learners as if they voted (against thesis §4.2.1).
    LearnerCounts,
    /// A follower whose entry at `prev` is another one takes what follows it all the same
    /// (against Raft §5.3).
    NoBackOff,
    /// A voter votes for whoever asks, as often as they ask (against Raft §5.2).
    SecondVote,
    /// A voter that hears a leader votes for another all the same (against thesis §4.2.3).
    VoteBesideLeader,
    /// A vote is not written with its term (against Raft figure 2).
    VoteNotWritten,
    /// A leader counts replicas of older terms' entries as well (against Raft §5.4.2).
    CommitOlderTermByCount,
    /// A leader answers strong reads without asking whether it still leads (against Raft §8).
    ReadWithoutRound,
    /// A leader takes the answers to a round for answers to the next one as well (against thesis
    /// §6.4).
    RoundTooFar,
    /// A lease counts from the answers to a round, not from its sending (against thesis §6.4.1).
    LeaseFromAnswers,
    /// A leader keeps its lease while it hands over (against thesis §6.4.1).
    LeaseWhileHandingOver,
    /// A voter that does not know a leader votes at once, though it may just have forgotten one
    /// that holds a lease (against thesis §6.4.1).
    LeaseForgottenAtStart,
    /// A leader of an old term is not told so, and does not step down for want of a quorum
    /// (against Raft §5.1 and thesis §6.2).
    StaleLeaderUntold,
    /// A leader does not look for a repeated request in what it has not applied yet (against
    /// thesis §6.3).
    DedupUnknown,
    /// A leader changes the configuration before it has committed an entry of its term (against
    /// Ongaro's correction of 2015).
    ChangeBeforeOwnCommit,
    /// A leader changes the configuration while the last change is not committed (against thesis
    /// §4.1).
    TwoChanges,
    /// Messages leave before what they promise is on disk (against Raft figure 2).
    AcknowledgeBeforeSync,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::LiveQuorum,
        Self::LearnerCounts,
        Self::NoBackOff,
        Self::SecondVote,
        Self::VoteBesideLeader,
        Self::VoteNotWritten,
        Self::CommitOlderTermByCount,
        Self::ReadWithoutRound,
        Self::RoundTooFar,
        Self::LeaseFromAnswers,
        Self::LeaseWhileHandingOver,
        Self::LeaseForgottenAtStart,
        Self::StaleLeaderUntold,
        Self::DedupUnknown,
        Self::ChangeBeforeOwnCommit,
        Self::TwoChanges,
        Self::AcknowledgeBeforeSync,
    ];

    /// What plans and command lines call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::LiveQuorum => "live-quorum",
            Self::LearnerCounts => "learner-counts",
            Self::NoBackOff => "no-back-off",
            Self::SecondVote => "second-vote",
            Self::VoteBesideLeader => "vote-beside-leader",
            Self::VoteNotWritten => "vote-not-written",
            Self::CommitOlderTermByCount => "commit-older-term-by-count",
            Self::ReadWithoutRound => "read-without-round",
            Self::RoundTooFar => "round-too-far",
            Self::LeaseFromAnswers => "lease-from-answers",
            Self::LeaseWhileHandingOver => "lease-while-handing-over",
            Self::LeaseForgottenAtStart => "lease-forgotten-at-start",
            Self::StaleLeaderUntold => "stale-leader-untold",
            Self::DedupUnknown => "dedup-unknown",
            Self::ChangeBeforeOwnCommit => "change-before-own-commit",
            Self::TwoChanges => "two-changes",
            Self::AcknowledgeBeforeSync => "acknowledge-before-sync",
        }
    }
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Planted {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|planted| planted.name() == word);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            format!("expected one of {}", names.join(", "))
        })
    }
}

/// What is planted in one server.
#[derive(Debug, Default)]
pub(crate) struct Plant {
    #[cfg(feature = "planted-faults")]
    pub(crate) fault: Option<Planted>,
}

impl Plant {
    /// Whether this rule is broken here.
    #[cfg(feature = "planted-faults")]
    pub(crate) fn breaks(&self, rule: Planted) -> bool {
        self.fault == Some(rule)
    }

    /// Whether this rule is broken here: it is not.
    #[cfg(not(feature = "planted-faults"))]
    #[allow(clippy::unused_self, reason = "with the feature it looks")]
    pub(crate) const fn breaks(&self, _: Planted) -> bool {
        false
    }
}
