//! What a leader has hashed before, so that whoever else asks for it costs it no more.
//!
//! Knows no log. Invariant: what is kept is committed and will not grow, so it stays true for as
//! long as the process lives, whoever leads; and it is no more than `KEPT_MAX`.

use std::collections::BTreeMap;

use raft::Index;

use crate::group::replay::frame::Mark;

/// Marks by the index before their chunks.
#[derive(Default, Debug)]
pub(crate) struct Vouched(BTreeMap<Index, Mark>);

impl Vouched {
    /// Of the chunk after this entry.
    pub(crate) fn get(&self, after: Index) -> Option<Mark> {
        self.0.get(&after).copied()
    }

    /// Keeps it, if the chunk has an end of its own before what is not committed.
    ///
    /// Nothing gives way for another: members fetch from front to back, and would each find just
    /// what they need gone.
    pub(crate) fn keep(&mut self, after: Index, mark: Mark, commit: Index) {
        if mark.last.index < commit && self.0.len() < KEPT_MAX {
            self.0.insert(after, mark);
        }
    }

    /// The log begins after this entry.
    pub(crate) fn compacted(&mut self, start: Index) {
        while self.0.first_key_value().is_some_and(|(after, _)| *after < start) {
            self.0.pop_first();
        }
    }
}

/// A mebibyte and a half of them, and thirty million entries in chunks of 2,000.
const KEPT_MAX: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use raft::{Position, Term};

    use super::*;

    fn mark(last: u64) -> Mark {
        let last = Position { term: Term(1), index: Index(last) };
        Mark { last, bytes: 9, digest: [last.index.0 as u8; 32] }
    }

    #[test]
    fn what_may_grow_is_not_kept_and_what_is_compacted_goes() {
        let (mut vouched, commit) = (Vouched::default(), Index(25));
        for (after, last) in [(0, 10), (10, 20), (20, 25)] {
            vouched.keep(Index(after), mark(last), commit);
        }
        let held = |vouched: &Vouched| [0, 10, 20].map(|after| vouched.get(Index(after)));
        assert_eq!(held(&vouched), [Some(mark(10)), Some(mark(20)), None]);
        assert_eq!(vouched.get(Index(5)), None, "another chunk, though it ends at the same");
        vouched.compacted(Index(10));
        assert_eq!(held(&vouched), [None, Some(mark(20)), None]);
    }

    #[test]
    fn it_is_bounded() {
        let mut vouched = Vouched::default();
        let all = KEPT_MAX as u64 + 10;
        (0..all).for_each(|after| vouched.keep(Index(after), mark(after + 1), Index(all + 1)));
        assert_eq!(vouched.0.len(), KEPT_MAX);
        assert_eq!(vouched.get(Index(0)), Some(mark(1)));
    }
}
