//! What fetching came to: for status pages, metrics and tests.
//!
//! Invariant: counts only grow while the member lives; nothing is decided by them.

use std::time::Duration;

use raft::NodeId;
use serde::{Deserialize, Serialize};

/// What a member has fetched of what it lacked, since it started.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Replayed {
    /// Whether it fetches now.
    pub active: bool,
    /// Entries between what it holds and what its leader had committed, as last heard while it
    /// fetched.
    pub behind: u64,
    /// How often it began to fetch.
    pub begun: u64,
    /// Entries that were taken.
    pub entries: u64,
    /// From whom chunks were taken, in the order of their ids.
    pub sources: Vec<SourceTally>,
    /// Answers that were not what the leader vouches for; who gave them is asked no more.
    pub wrong: u64,
    /// Answers that came after their time; if the chunk was still wanted it was taken.
    pub late: u64,
    /// Answers with a chunk that was there already.
    pub duplicate: u64,
    /// Answers to what was not asked, or of another than was asked.
    pub unasked: u64,
    /// Answers without entries: who gave them does not hold what it said.
    pub empty: u64,
    /// Answers that put this member off.
    pub busy: u64,
    /// Requests that were not answered in time.
    pub overdue: u64,
}

/// What was taken of one other member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SourceTally {
    /// The member.
    pub node: NodeId,
    /// Chunks.
    pub chunks: u64,
    /// The entries in them.
    pub entries: u64,
    /// Their bytes, encoded.
    pub bytes: u64,
}

/// How fetching ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplayEnded {
    /// Why.
    pub why: ReplayEnd,
    /// Entries that were taken.
    pub entries: u64,
    /// Their bytes, encoded.
    pub bytes: u64,
    /// How many others they came from.
    pub sources: usize,
    /// How long it took.
    pub took: Duration,
}

/// Why fetching ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplayEnd {
    /// So near to the leader that its own appends do the rest.
    CaughtUp,
    /// The leader or the term is another one.
    LeaderChanged,
    /// Nothing came for too long; the leader's own appends go on.
    Stalled,
    /// What comes next is compacted away at the leader: only a snapshot has it.
    Compacted,
    /// The core did not take what its leader vouches for.
    NotTaken,
}

impl Replayed {
    /// A chunk of so many entries was taken from this member.
    pub(crate) fn took(&mut self, node: NodeId, entries: u64, bytes: u64) {
        self.entries += entries;
        let place = self.sources.binary_search_by_key(&node, |source| source.node);
        let place = place.unwrap_or_else(|place| {
            self.sources.insert(place, SourceTally { node, chunks: 0, entries: 0, bytes: 0 });
            place
        });
        let source = &mut self.sources[place];
        source.chunks += 1;
        source.entries += entries;
        source.bytes += bytes;
        if self.sources.len() > SOURCES_MAX {
            let least = (0..self.sources.len()).min_by_key(|at| self.sources[*at].bytes);
            self.sources.remove(least.unwrap_or(0));
        }
    }

    /// Bytes from everyone together.
    pub(crate) fn bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.bytes).sum()
    }
}

/// Members that come and go under ever new names fill no memory.
const SOURCES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_counted_by_whom_it_came_from() {
        let mut replayed = Replayed::default();
        for (node, bytes) in [(3, 10), (2, 5), (3, 1)] {
            replayed.took(NodeId::small(node), 7, bytes);
        }
        let seen: Vec<_> =
            replayed.sources.iter().map(|source| (source.chunks, source.bytes)).collect();
        assert_eq!((seen, replayed.entries, replayed.bytes()), (vec![(1, 5), (2, 11)], 21, 16));
        let entries: Vec<_> = replayed.sources.iter().map(|source| source.entries).collect();
        assert_eq!(entries, [7, 14], "as many as came from each");
        for store in 0..1_000 {
            let node = NodeId { store: raft::StoreId(store), ..NodeId::small(9) };
            replayed.took(node, 1, 1);
        }
        assert!(replayed.sources.len() <= SOURCES_MAX);
        assert_eq!(replayed.sources.iter().map(|source| source.bytes).max(), Some(11));
    }
}
