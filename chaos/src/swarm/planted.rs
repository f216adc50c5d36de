//! Rules that are broken on purpose, to see whether the invariants notice.
//!
//! The core's own are planted in the core, behind its feature. What a driver or a disk has to
//! keep is broken here, in the model of it; each fault changes one rule, where it stands.

use raft::Raft;

/// What to break.
#[derive(Clone, Copy, Debug)]
pub enum Plant {
    /// A rule of the core, broken in each core as it starts.
    Core(fn(&mut Raft)),
    /// The same by name, as a plan wants it.
    #[cfg(feature = "planted-faults")]
    Rule(raft::Planted),
    /// A rule of the model's driver or disk.
    Driver(DriverFault),
}

/// A rule of the driver or the disk that is broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DriverFault {
    /// Whoever waits for an index is told `Ok` when anything is applied there (against "Three
    /// answers" among the invariants of ARCHITECTURE.md: `Ok` is said of that very command).
    AcknowledgeByIndex,
    /// Messages leave before what they promise is on disk (against Raft figure 2).
    AcknowledgeBeforeSync,
    /// The machine applies what is on disk, committed or not (against Raft §5.3).
    ApplyBeforeCommit,
    /// A voter whose disk is gone comes back under its old name (against Raft figure 2: term,
    /// vote and log are kept).
    WipedVoterVotes,
    /// Whoever waits for an entry that gives way is told `Fail` at once: another log may still
    /// hold it, and win.
    FailOnTruncation,
}
