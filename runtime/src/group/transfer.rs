//! Snapshots from member to member: what is said, and the two ends.
//!
//! Whoever needs one asks for the parts of a file, whoever has it answers each question by
//! itself; the file is checked as a whole before anything rests on it. Knows no core. Invariant:
//! what a member may have under way here is bounded by its own questions.

mod fetch;
mod lend;
pub(crate) mod parts;

use bytes::Bytes;
use raft::Index;
use serde::{Deserialize, Serialize};

pub(crate) use fetch::{Fetch, Fetched, Fetching, Kin};
pub(crate) use lend::Lender;
#[cfg(test)]
pub(crate) use lend::{
    Lending,
    tests::{Library, PART_BYTES, lineage},
};

use crate::{ConsensusConfig, storage::SnapshotId};

/// Between two members, about snapshots.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum SnapshotFrame {
    /// Asks for a part.
    Ask(Ask),
    /// Answers.
    Answer {
        /// From the question.
        id: u64,
        /// See [`Part`]; `None` if there is no such snapshot here.
        part: Option<Part>,
    },
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    /// Returns in the answer; counted by who asks.
    pub(crate) id: u64,
    /// A snapshot that ends here, or later.
    pub(crate) least: Index,
    /// The very one that has this digest, once a part of it is there.
    pub(crate) digest: Option<[u8; 32]>,
    /// From where in the file.
    pub(crate) offset: u64,
    /// How much of it, at most.
    pub(crate) bytes_max: u32,
}

/// A part of the file of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Of which.
    pub(crate) snapshot: SnapshotId,
    /// The bytes from the offset on that was asked for.
    pub(crate) bytes: Bytes,
}

/// How large a part may be: whatever the group allows, it goes into one frame.
pub(crate) fn part_bytes_max(consensus: &ConsensusConfig) -> u32 {
    let room = consensus.frame_bytes_max().saturating_sub(FRAME_HEAD_BYTES);
    u32::try_from(room).unwrap_or(u32::MAX).min(PART_BYTES_MAX)
}

/// A question or an answer without its part.
const FRAME_HEAD_BYTES: usize = 1 << 10;
/// So that a commit's append waits for no more than this on a lane of a lower priority.
const PART_BYTES_MAX: u32 = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::wire::MemberFrame;

    #[test]
    fn a_part_fits_into_a_frame_whatever_the_group_has_agreed_on() {
        let narrow = ConsensusConfig {
            message_bytes_max: 1 << 10,
            command_bytes_max: 64,
            ..ConsensusConfig::default()
        };
        for consensus in [narrow, ConsensusConfig::default()] {
            consensus.validate().expect("a lawful group");
            let bytes = vec![7; part_bytes_max(&consensus) as usize].into();
            let position = raft::Position { term: raft::Term(u64::MAX), index: Index(u64::MAX) };
            let snapshot = SnapshotId { position, bytes: u64::MAX, digest: [255; 32] };
            let part = Some(Part { snapshot, bytes });
            let frame = MemberFrame::Snapshot(SnapshotFrame::Answer { id: u64::MAX, part });
            let encoded = postcard::to_stdvec(&frame).expect("plain values always encode");
            assert!(encoded.len() <= consensus.frame_bytes_max(), "{}", encoded.len());
        }
    }
}
