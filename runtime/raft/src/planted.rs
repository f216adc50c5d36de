//! Rules of the core that can be broken on purpose, to see whether the checks notice.
//!
//! Each fault changes one rule, at the place where the rule stands; that place asks
//! [`Plant::breaks`]. Without the feature `planted-faults`, which only tests turn on, nothing
//! can be planted and the answer is a constant `false`.

/// A rule that is broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(
    not(feature = "planted-faults"),
    allow(dead_code, unreachable_pub, reason = "it leaves the crate only with the feature")
)]
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
