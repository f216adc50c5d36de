//! Disks that fail: what may befall one, and the medium below a store that it befalls.
//!
//! The same in every world that has whole runtimes on disks; knows neither plan nor node.
//! Invariant: what a medium did to its store is counted and named, so that whoever asked for it
//! can see that it took place.

mod cold;
mod harm;
mod medium;

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use cold::written_bytes;
pub use cold::{ColdBit, cold_bit};
pub use harm::{DiskReport, Harm};
pub use medium::FaultyMedium;

/// What befalls a node's disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskFault {
    /// What.
    pub kind: DiskKind,
    /// For `stall`: how long each sync takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_ms: Option<u64>,
}

/// In which way a disk fails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskKind {
    /// Every sync fails, and of what was written since the last one a part is lost.
    SyncError,
    /// Every write fails, and nothing of it arrives.
    WriteError,
    /// There is no room: no file can be made, and of a write the beginning arrives at most.
    NoSpace,
    /// Every write fails, and some of its sectors arrive.
    TornWrite,
    /// Every sync takes its time.
    Stall,
    /// The node is killed, and while it is down a bit changes of what was proven durable.
    Flip,
}

/// The name of no kind.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0:?}: expected sync-error, write-error, no-space, torn-write, stall or flip")]
pub struct NotAKind(pub String);

impl DiskFault {
    /// Of this kind; a stall long enough to be felt.
    pub fn of(kind: DiskKind) -> Self {
        Self { kind, sync_ms: (kind == DiskKind::Stall).then_some(STALL_MS) }
    }

    /// How long each sync takes, if they take their time.
    pub(crate) fn stall(&self) -> Option<Duration> {
        let sync_ms = self.sync_ms.filter(|_| self.kind == DiskKind::Stall);
        sync_ms.map(Duration::from_millis)
    }
}

impl DiskKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::SyncError,
        Self::WriteError,
        Self::NoSpace,
        Self::TornWrite,
        Self::Stall,
        Self::Flip,
    ];

    /// The word for it in plans, marks and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::SyncError => "sync-error",
            Self::WriteError => "write-error",
            Self::NoSpace => "no-space",
            Self::TornWrite => "torn-write",
            Self::Stall => "stall",
            Self::Flip => "flip",
        }
    }

    /// Whether a node cannot go on with such a disk: it stops by itself, or is killed first.
    pub fn ends_node(self) -> bool {
        self != Self::Stall
    }

    /// Whether the store is lost.
    pub fn costs_store(self) -> bool {
        self == Self::Flip
    }
}

impl FromStr for DiskKind {
    type Err = NotAKind;

    fn from_str(word: &str) -> Result<Self, NotAKind> {
        let named = Self::ALL.into_iter().find(|kind| kind.word() == word);
        named.ok_or_else(|| NotAKind(word.chars().take(40).collect()))
    }
}

impl fmt::Display for DiskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stall() {
            Some(stall) => write!(f, "{}, {} ms for each sync", self.kind, stall.as_millis()),
            None => self.kind.fmt(f),
        }
    }
}

/// Longer than the longest election timeout of `lan`.
const STALL_MS: u64 = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_by_its_word_in_plans_and_commands() {
        for kind in DiskKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            let read: DiskKind = serde_json::from_value(kind.word().into()).expect("its word");
            assert_eq!(read, kind);
        }
        let error = "rust".parse::<DiskKind>().expect_err("no kind").to_string();
        assert!(error.starts_with("\"rust\": expected sync-error, write-error"), "{error}");
    }

    #[test]
    fn only_a_stall_takes_time() {
        for kind in DiskKind::ALL {
            let takes_time = DiskFault::of(kind).stall().is_some();
            assert_eq!(takes_time, kind == DiskKind::Stall);
        }
        assert_eq!(DiskFault::of(DiskKind::Stall).to_string(), "stall, 400 ms for each sync");
        assert_eq!(DiskFault::of(DiskKind::Flip).to_string(), "flip");
    }
}
