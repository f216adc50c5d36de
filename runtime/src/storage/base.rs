//! The file `base`: from where on a compacted log is to be read.
//!
//! It names the snapshot that the log starts after, the first segment that is needed, and what
//! the segments before it had said. Put in place as a whole, by one change of a name, so that a
//! crash finds the old snapshot with the old log or the new with the new. Invariant: whatever it
//! names is durable before it is.

use raft::{HardState, Position, StoreId};
use serde::{Deserialize, Serialize};

use super::{Founding, StorageError, medium::Medium, segment, slip::Slip, snapshot::SnapshotId};

/// The base's file name.
pub(crate) const NAME: &str = "base";

/// See above.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Base {
    /// What the log starts after.
    pub(crate) snapshot: SnapshotId,
    /// The names on the segments.
    pub(crate) store: StoreId,
    /// From where to read.
    pub(crate) from: Milestone,
    /// All records through this one were durable when the base was written.
    pub(crate) durable: u64,
}

/// What the stream had said when a segment began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Milestone {
    /// The segment.
    pub(crate) segment: u64,
    /// The last record before it.
    pub(crate) sequence: u64,
    /// The checksum of that record's header.
    pub(crate) previous: u32,
    /// Which store it was.
    pub(crate) id: StoreId,
    /// Term and vote.
    pub(crate) hard_state: HardState,
    /// How the group began.
    pub(crate) founding: Option<Founding>,
    /// The end of the log. It may name entries that only the segment itself holds.
    pub(crate) last: Position,
}

impl Milestone {
    /// The first segment of a store, when nothing is said yet.
    pub(crate) fn first(store: StoreId) -> Self {
        let (hard_state, last) = (HardState::default(), Position::default());
        Self { segment: 0, sequence: 0, previous: 0, id: store, hard_state, founding: None, last }
    }
}

/// Puts the base in place, durably.
pub(crate) fn write(medium: &dyn Medium, base: &Base) -> Result<(), StorageError> {
    let path = || medium.path().join(NAME);
    let refused = |what| StorageError::Refused { path: path(), what };
    let bytes = BASE.encode(base).map_err(refused)?;
    segment::replace(medium, NAME, bytes.len() as u64, &bytes).map(drop)
}

/// Reads the base of this store.
pub(crate) fn read(medium: &dyn Medium, store: StoreId) -> Result<Base, StorageError> {
    let base: Base = BASE.read(medium, NAME)?;
    if base.store == store {
        return Ok(base);
    }
    let (path, what) = (medium.path().join(NAME), "store");
    let (found, expected) = (base.store.to_string(), store.to_string());
    Err(StorageError::Foreign { path, what, found, expected })
}

const BASE: Slip = Slip { magic: *b"TsLgBase", noun: "the base of a log", bytes_max: 64 << 10 };
