//! The faults that can be planted, and within how many seeds each must be caught.
//!
//! A seed is a world of a few thousand steps. The numbers allow several times what was seen
//! over ten different beginnings.

use chaos::swarm::{DriverFault, Plant};
use raft::Planted;

/// A fault that the invariants must notice.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    /// What `--planted` calls it.
    pub(crate) name: &'static str,
    /// The rule that it breaks.
    pub(crate) plant: Plant,
    /// It must be caught within so many seeds.
    pub(crate) seeds_max: u64,
}

macro_rules! core {
    ($name:literal, $rule:ident, $seeds_max:literal) => {
        Fault {
            name: $name,
            plant: Plant::Core(|raft| raft.plant(Planted::$rule)),
            seeds_max: $seeds_max,
        }
    };
}

const fn driver(name: &'static str, rule: DriverFault, seeds_max: u64) -> Fault {
    Fault { name, plant: Plant::Driver(rule), seeds_max }
}

/// All of them.
pub(crate) const FAULTS: [Fault; 21] = [
    core!("live-quorum", LiveQuorum, 100),
    core!("learner-counts", LearnerCounts, 500),
    core!("no-back-off", NoBackOff, 100),
    core!("second-vote", SecondVote, 50),
    core!("vote-beside-leader", VoteBesideLeader, 50),
    core!("vote-not-written", VoteNotWritten, 50),
    core!("commit-older-term-by-count", CommitOlderTermByCount, 500),
    core!("read-without-round", ReadWithoutRound, 1000),
    core!("round-too-far", RoundTooFar, 5000),
    core!("lease-from-answers", LeaseFromAnswers, 500),
    core!("lease-while-handing-over", LeaseWhileHandingOver, 500),
    core!("lease-forgotten-at-start", LeaseForgottenAtStart, 40000),
    core!("stale-leader-untold", StaleLeaderUntold, 50),
    core!("dedup-unknown", DedupUnknown, 50),
    core!("change-before-own-commit", ChangeBeforeOwnCommit, 200),
    core!("two-changes", TwoChanges, 200),
    driver("acknowledge-by-index", DriverFault::AcknowledgeByIndex, 200),
    driver("acknowledge-before-sync", DriverFault::AcknowledgeBeforeSync, 50),
    driver("apply-before-commit", DriverFault::ApplyBeforeCommit, 50),
    driver("wiped-voter-votes", DriverFault::WipedVoterVotes, 100),
    driver("fail-on-truncation", DriverFault::FailOnTruncation, 200),
];

/// What takes more seeds to catch is left to `--mutants`, and to the stories of the core.
pub(crate) const ORDINARY_SEEDS_MAX: u64 = 5_000;

/// The fault of this name.
pub(crate) fn named(word: Option<&str>) -> Result<Fault, String> {
    let known: Vec<&str> = FAULTS.iter().map(|fault| fault.name).collect();
    let named = FAULTS.into_iter().find(|fault| word == Some(fault.name));
    named.ok_or_else(|| format!("--planted {}: expected {}", word.unwrap_or("?"), known.join(", ")))
}
