//! Which parts of a file are there, which are under way, and which are to be asked for.
//!
//! Knows neither disk nor network. Invariant: every part is in one of the three states, and a
//! part is there only once it came as it was asked for.

use std::collections::{BTreeMap, BTreeSet};

use raft::Index;

use super::{Ask, Part};
use crate::storage::SnapshotId;

/// The parts of one file.
#[derive(Debug)]
pub(crate) struct Parts {
    snapshot: SnapshotId,
    part_bytes: u32,
    /// Nothing from here on was asked for yet.
    next: u64,
    /// Was asked for, and did not come.
    again: BTreeSet<u64>,
    /// By the question's id, the offset.
    under_way: BTreeMap<u64, u64>,
    received_bytes: u64,
}

impl Parts {
    pub(crate) fn new(snapshot: SnapshotId, part_bytes: u32) -> Self {
        let (again, under_way) = (BTreeSet::new(), BTreeMap::new());
        Self { snapshot, part_bytes, next: 0, again, under_way, received_bytes: 0 }
    }

    /// Of which snapshot.
    pub(super) fn snapshot(&self) -> SnapshotId {
        self.snapshot
    }

    /// Whether what came is gone on with where a snapshot is wanted that ends there or later. Others
    /// offer newer ones all the time: to begin anew for each would be to come to no end.
    pub(super) fn serves(&self, least: Index) -> bool {
        self.snapshot.position.index >= least
    }

    /// The next question, with this id, if anything is left to be asked.
    pub(crate) fn ask(&mut self, id: u64) -> Option<Ask> {
        let offset = match self.again.pop_first() {
            Some(offset) => offset,
            None if self.next < self.snapshot.bytes => {
                let offset = self.next;
                self.next += u64::from(self.length(offset));
                offset
            }
            None => return None,
        };
        self.under_way.insert(id, offset);
        let SnapshotId { position, digest, .. } = self.snapshot;
        let (digest, bytes_max) = (Some(digest), self.length(offset));
        Some(Ask { id, least: position.index, digest, offset, bytes_max })
    }

    /// Where a part belongs that came as the answer to that question; `None` for one that was
    /// not asked for, or not so.
    pub(crate) fn take(&mut self, id: u64, part: &Part) -> Option<u64> {
        let offset = *self.under_way.get(&id)?;
        let fits = part.bytes.len() as u64 == u64::from(self.length(offset));
        if part.snapshot != self.snapshot || !fits {
            return None;
        }
        self.under_way.remove(&id);
        self.received_bytes += part.bytes.len() as u64;
        Some(offset)
    }

    /// Whether the question is under way.
    pub(super) fn is_under_way(&self, id: u64) -> bool {
        self.under_way.contains_key(&id)
    }

    /// How many questions are.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// What is under way will not come: it is to be asked for again.
    pub(super) fn give_up(&mut self) {
        self.again.extend(std::mem::take(&mut self.under_way).into_values());
    }

    /// Whether all of it is there.
    pub(super) fn is_whole(&self) -> bool {
        self.received_bytes == self.snapshot.bytes
    }

    fn length(&self, offset: u64) -> u32 {
        let left = self.snapshot.bytes.saturating_sub(offset);
        u32::try_from(left).unwrap_or(u32::MAX).min(self.part_bytes)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raft::Position;

    use super::*;

    const FILE: SnapshotId = SnapshotId {
        position: Position { term: raft::Term(1), index: Index(5) },
        bytes: 25,
        digest: [7; 32],
    };

    fn part(bytes: usize) -> Part {
        Part { snapshot: FILE, bytes: Bytes::from(vec![1; bytes]) }
    }

    #[test]
    fn parts_are_asked_for_in_order_and_those_that_did_not_come_once_more() {
        let mut parts = Parts::new(FILE, 10);
        let asked: Vec<_> =
            (1..=4).filter_map(|id| parts.ask(id)).map(|ask| (ask.offset, ask.bytes_max)).collect();
        assert_eq!(asked, [(0, 10), (10, 10), (20, 5)]);
        assert_eq!(parts.take(2, &part(10)), Some(10));
        parts.give_up();
        assert_eq!(parts.take(1, &part(10)), None, "it comes too late: it is asked for again");
        let again: Vec<_> = (5..=7).filter_map(|id| parts.ask(id)).map(|ask| ask.offset).collect();
        assert_eq!(again, [0, 20]);
        assert_eq!((parts.take(6, &part(5)), parts.is_whole()), (Some(20), false));
        assert_eq!((parts.take(5, &part(10)), parts.is_whole()), (Some(0), true));
    }

    #[test]
    fn a_newer_offer_keeps_what_came_and_another_is_asked_only_for_the_rest() {
        let mut parts = Parts::new(FILE, 10);
        parts.ask(1).expect("nothing is there");
        parts.ask(2).expect("more is missing");
        assert_eq!(parts.take(1, &part(10)), Some(0));
        // Another offers one that ends later; what is wanted is what this one has still.
        assert!(parts.serves(Index(4)) && parts.serves(Index(5)));
        assert!(!parts.serves(Index(6)), "the log before that is gone");
        // Who was asked is left, and the other one has the same file.
        parts.give_up();
        let rest: Vec<_> = (3..=6).filter_map(|id| parts.ask(id)).collect();
        assert_eq!(rest.iter().map(|ask| ask.offset).collect::<Vec<_>>(), [10, 20]);
        assert!(rest.iter().all(|ask| ask.digest == Some(FILE.digest)));
        assert_eq!((parts.take(3, &part(10)), parts.take(4, &part(5))), (Some(10), Some(20)));
        assert!(parts.is_whole());
    }

    #[test]
    fn what_was_not_asked_for_or_not_so_is_not_taken() {
        let mut parts = Parts::new(FILE, 10);
        let ask = parts.ask(1).expect("nothing is there");
        assert_eq!((ask.least, ask.digest), (FILE.position.index, Some(FILE.digest)));
        assert_eq!(parts.take(2, &part(10)), None, "nobody asked");
        assert_eq!(parts.take(1, &part(9)), None, "too short");
        assert_eq!(parts.take(1, &part(11)), None, "too long");
        let other = Part { snapshot: SnapshotId { digest: [8; 32], ..FILE }, ..part(10) };
        assert_eq!(parts.take(1, &other), None, "of another snapshot");
        assert_eq!(parts.take(1, &part(10)), Some(0));
        assert_eq!(parts.take(1, &part(10)), None, "once is enough");
    }
}
