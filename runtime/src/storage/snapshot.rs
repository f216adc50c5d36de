//! A snapshot as a file: what a machine was when everything up to a position was applied.
//!
//! The same bytes on every disk and on the wire: a lead of fixed size with lengths and digest, a
//! head that says whose state it is and what it covers, and the state itself in chunks with a
//! checksum each, the last of them empty. Knows nothing of the log. Invariant: a file that is
//! taken for a snapshot equals, byte by byte, what its writer finished.

mod draft;
mod file;
mod writer;

use raft::{Position, Snapshot};
use serde::{Deserialize, Serialize};

use super::{
    StorageError,
    format::{VERSION, u32_at, u64_at},
};
use crate::{GroupId, Lineage};

pub use draft::{Draft, Written};
pub use file::{SnapshotBody, SnapshotFile};
pub use writer::SnapshotWriter;

/// Which snapshot: two with the same id are the same bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnapshotId {
    /// The last entry that it includes.
    pub position: Position,
    /// The length of the file.
    pub bytes: u64,
    /// The hash of everything behind the lead.
    pub digest: [u8; 32],
}

/// Whose state a snapshot is, and what it covers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnapshotHead {
    /// The group.
    pub group: GroupId,
    /// Which founding of it.
    pub lineage: Lineage,
    /// The signature of the machine.
    pub machine: String,
    /// The last entry that it includes, and the configuration there.
    pub covers: Snapshot,
}

/// What stands at the very beginning, once all the rest is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lead {
    pub(crate) head_bytes: u32,
    /// Of the whole file.
    pub(crate) bytes: u64,
    pub(crate) digest: [u8; 32],
}

impl Lead {
    fn encode(&self) -> [u8; LEAD_BYTES] {
        let mut bytes = [0; LEAD_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.head_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[24..56].copy_from_slice(&self.digest);
        let checksum = crc32fast::hash(&bytes[..56]);
        bytes[56..60].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(path: &std::path::Path, bytes: &[u8; LEAD_BYTES]) -> Result<Self, StorageError> {
        let corrupt = |what: &str| StorageError::corrupt(path, 0, what);
        if bytes[..8] != MAGIC {
            return Err(corrupt("not a snapshot"));
        }
        let found = u32_at(bytes, 8).unwrap_or_default();
        if found != VERSION {
            return Err(StorageError::Version { path: path.into(), found, supported: VERSION });
        }
        let (head_bytes, length) = (u32_at(bytes, 12), u64_at(bytes, 16));
        let (Some(head_bytes), Some(length)) = (head_bytes, length) else {
            return Err(corrupt("the lead is too short"));
        };
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[24..56]);
        let lead = Self { head_bytes, bytes: length, digest };
        if *bytes != lead.encode() {
            return Err(corrupt("the lead contradicts its checksum"));
        }
        if head_bytes > HEAD_BYTES_MAX {
            let what = format!("a head of {head_bytes} bytes; allowed are {HEAD_BYTES_MAX}");
            return Err(StorageError::corrupt(path, 12, what));
        }
        Ok(lead)
    }
}

/// The name of the snapshot that ends at the position.
pub(crate) fn name(position: Position) -> String {
    format!("{:016x}{SUFFIX}", position.index.0)
}

/// The name of a draft: that of an unfinished file.
pub(crate) fn draft_name(number: u64) -> String {
    format!("draft-{number:x}{SUFFIX}{}", super::segment::TEMPORARY)
}

/// Whether a file of that name is a snapshot, or the beginning of one.
pub(crate) fn is_snapshot(name: &str) -> bool {
    name.ends_with(SUFFIX)
}

/// Stands before the head.
pub(crate) const LEAD_BYTES: usize = 64;
/// A configuration of the largest group, and a long signature.
pub(crate) const HEAD_BYTES_MAX: u32 = 64 << 10;
/// The state is cut into pieces of this size.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
/// Length and checksum before each piece.
pub(crate) const CHUNK_HEAD_BYTES: usize = 8;

const MAGIC: [u8; 8] = *b"TsSnpsht";
const SUFFIX: &str = ".snapshot";

#[cfg(test)]
pub(super) mod tests;
