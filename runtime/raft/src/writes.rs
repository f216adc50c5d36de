//! Which of the writes handed to storage are durable, and how far that makes the log durable.
//!
//! Knows no role and nothing of the entries. Invariant: `index` never counts an entry that was
//! truncated meanwhile; writes become durable in the order in which they were issued.

use std::collections::VecDeque;

use crate::{Index, WriteId};

/// The writes of one server.
#[derive(Debug)]
pub(crate) struct Writes {
    issued: WriteId,
    durable: WriteId,
    index: Index,
    /// Writes of entries that are under way, with the last index of each that still holds.
    entries: VecDeque<(WriteId, Index)>,
}

impl Writes {
    /// Nothing is under way; the log is durable up to `index`.
    pub(crate) fn new(index: Index) -> Self {
        Self { issued: WriteId(0), durable: WriteId(0), index, entries: VecDeque::new() }
    }

    /// The last index of the present log that is durable with all before it.
    pub(crate) fn index(&self) -> Index {
        self.index
    }

    /// Whether the write is durable.
    pub(crate) fn is_durable(&self, id: WriteId) -> bool {
        id <= self.durable
    }

    /// A write of term and vote is to be issued.
    pub(crate) fn hard_state(&mut self) -> WriteId {
        self.issued = WriteId(self.issued.0.saturating_add(1));
        self.issued
    }

    /// A write of the entries in `(after, last]` is to be issued.
    pub(crate) fn entries(&mut self, after: Index, last: Index) -> WriteId {
        self.truncated(after);
        let id = self.hard_state();
        self.entries.push_back((id, last));
        id
    }

    /// Entries after `after` are no longer of the log: no earlier write vouches for them.
    pub(crate) fn truncated(&mut self, after: Index) {
        self.index = self.index.min(after);
        self.entries.iter_mut().for_each(|(_, last)| *last = (*last).min(after));
    }

    /// The write, and all before it, are durable.
    pub(crate) fn persisted(&mut self, id: WriteId) {
        assert!(id <= self.issued, "{id:?} was never issued, the last was {:?}", self.issued);
        self.durable = self.durable.max(id);
        while let Some((_, last)) = self.entries.front().copied().filter(|(entry, _)| *entry <= id)
        {
            self.index = self.index.max(last);
            self.entries.pop_front();
        }
    }

    /// A durable snapshot covers everything up to `index`.
    pub(crate) fn installed(&mut self, index: Index) {
        self.index = self.index.max(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncation_caps_the_writes_under_way() {
        let mut writes = Writes::new(Index(4));
        let first = writes.entries(Index(4), Index(10));
        let second = writes.entries(Index(5), Index(8));
        writes.persisted(first);
        assert_eq!(writes.index(), Index(5), "6 to 10 were replaced before they were durable");
        writes.persisted(second);
        assert_eq!(writes.index(), Index(8));
    }

    #[test]
    fn what_was_durable_and_is_replaced_is_durable_no_more() {
        let mut writes = Writes::new(Index(9));
        let replaced = writes.entries(Index(3), Index(4));
        assert_eq!(writes.index(), Index(3));
        writes.persisted(replaced);
        assert_eq!(writes.index(), Index(4));
    }

    #[test]
    fn one_report_stands_for_all_writes_before_it() {
        let mut writes = Writes::new(Index(0));
        writes.entries(Index(0), Index(1));
        let vote = writes.hard_state();
        let last = writes.entries(Index(1), Index(2));
        assert!(!writes.is_durable(vote));
        writes.persisted(last);
        assert!(writes.is_durable(vote));
        assert_eq!(writes.index(), Index(2));
        writes.persisted(vote);
        assert_eq!(writes.index(), Index(2), "an older report takes nothing back");
    }
}
