//! Consecutive entries that are held in several places at once.
//!
//! The log, a write under way, a message and whoever applies may hold the same entries: to hand
//! them on copies none. Invariant: what is shared never changes; whoever holds a part of it keeps
//! all of it in memory, so a part is held no longer than its work takes, or by a log, which lets
//! go of neighbours together.

use std::{fmt, ops::Deref, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Entry;

/// See the module. Reads like a slice; to clone it costs one count, however many there are.
#[derive(Clone, Default)]
pub struct Entries {
    all: Arc<Vec<Entry>>,
    first: usize,
    end: usize,
}

impl Entries {
    /// Those at `first` and behind, as many as `count`; fewer where there are not that many.
    pub fn part(&self, first: usize, count: usize) -> Self {
        let first = self.first.saturating_add(first).min(self.end);
        let end = first.saturating_add(count).min(self.end);
        match first < end {
            true => Self { all: Arc::clone(&self.all), first, end },
            false => Self::default(),
        }
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.all[self.first..self.end]
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(entries: Vec<Entry>) -> Self {
        Self { first: 0, end: entries.len(), all: Arc::new(entries) }
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        Vec::from_iter(entries).into()
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Entries {}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Encoded like any sequence of entries.
impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self[..].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Index, Payload, Position, Term};

    fn entries(count: u64) -> Entries {
        let entry = |index| Entry {
            position: Position { term: Term(1), index: Index(index) },
            payload: Payload::Noop,
        };
        (1..=count).map(entry).collect()
    }

    #[test]
    fn a_part_is_a_part_of_a_part_and_never_more() {
        let all = entries(5);
        let indexes = |entries: &Entries| {
            entries.iter().map(|entry| entry.position.index.0).collect::<Vec<_>>()
        };
        let part = all.part(1, 3);
        assert_eq!(indexes(&part), [2, 3, 4]);
        assert_eq!(indexes(&part.part(1, usize::MAX)), [3, 4], "not what lies behind the part");
        assert!(part.part(3, 1).is_empty() && part.part(usize::MAX, 1).is_empty());
        let (held, none) = (all.clone(), all.part(5, 1));
        assert_eq!((none, Arc::strong_count(&held.all)), (Entries::default(), 3), "it holds none");
    }
}
