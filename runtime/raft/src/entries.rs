//! Consecutive entries that are held in several places at once.
//!
//! The log, a write under way, a message and whoever applies may hold the same entries: to hand
//! them on copies none. They stand singly, or packed where they are many small commands.
//! Invariant: what is shared never changes; whoever holds a part of it keeps all of it in memory,
//! so a part is held no longer than its work takes, or by a log, which lets go of neighbours
//! together.

mod packed;

use std::{fmt, ops::Range, slice, sync::Arc};

use packed::Packed;
pub use packed::PackedBuilder;
pub(crate) use packed::SLOT_BYTES;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Entry, EntryRef, Payload, message::ENTRY_OVERHEAD_BYTES};

/// See the module. To clone it costs one count, however many there are.
#[derive(Clone)]
pub struct Entries {
    shared: Shared,
    place: Range<usize>,
}

#[derive(Clone)]
enum Shared {
    Single(Arc<Vec<Entry>>),
    Packed(Arc<Packed>),
}

/// Consecutive entries where they are held.
#[derive(Clone, Copy)]
pub struct EntriesRef<'a>(Held<'a>);

#[derive(Clone, Copy)]
enum Held<'a> {
    Single(&'a [Entry]),
    Packed(&'a Packed, usize, usize),
}

/// One entry after the other.
#[derive(Clone)]
pub struct Iter<'a>(Left<'a>);

#[derive(Clone)]
enum Left<'a> {
    Single(slice::Iter<'a, Entry>),
    Packed(packed::Iter<'a>),
}

impl Entries {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.place.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.place.is_empty()
    }

    /// The entry at this place among them, counted from 0.
    pub fn get(&self, place: usize) -> Option<EntryRef<'_>> {
        self.view().get(place)
    }

    /// The first.
    pub fn first(&self) -> Option<EntryRef<'_>> {
        self.view().first()
    }

    /// The last.
    pub fn last(&self) -> Option<EntryRef<'_>> {
        self.view().last()
    }

    /// One after the other.
    pub fn iter(&self) -> Iter<'_> {
        self.view().iter()
    }

    /// Them where they are held.
    pub fn view(&self) -> EntriesRef<'_> {
        let Range { start, end } = self.place;
        EntriesRef(match &self.shared {
            Shared::Single(entries) => Held::Single(&entries[start..end]),
            Shared::Packed(packed) => Held::Packed(packed, start, end),
        })
    }

    /// Copies of them; of a command it is none.
    pub fn to_vec(&self) -> Vec<Entry> {
        self.view().owned().collect()
    }

    /// Those at `first` and behind, as many as `count`; fewer where there are not that many.
    pub fn part(&self, first: usize, count: usize) -> Self {
        let start = self.place.start.saturating_add(first).min(self.place.end);
        let end = start.saturating_add(count).min(self.place.end);
        match start < end {
            true => Self { shared: self.shared.clone(), place: start..end },
            false => Self::default(),
        }
    }

    /// The same in less memory, if they are what can be packed: commands of one term, and small.
    pub(crate) fn packed(&self) -> Self {
        let Held::Single(entries) = self.view().0 else { return self.clone() };
        packed::pack(entries).unwrap_or_else(|| self.clone())
    }
}

impl Default for Entries {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(entries: Vec<Entry>) -> Self {
        Self { place: 0..entries.len(), shared: Shared::Single(Arc::new(entries)) }
    }
}

impl From<Packed> for Entries {
    fn from(packed: Packed) -> Self {
        Self { place: 0..packed.len(), shared: Shared::Packed(Arc::new(packed)) }
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        Vec::from_iter(entries).into()
    }
}

impl<'a> IntoIterator for &'a Entries {
    type Item = EntryRef<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// However they are held.
impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other)
    }
}

impl Eq for Entries {}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.view().owned()).finish()
    }
}

/// Encoded like any sequence of entries.
impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(whole))
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Entry>::deserialize(deserializer).map(Self::from)
    }
}

impl<'a> EntriesRef<'a> {
    /// How many there are.
    pub fn len(self) -> usize {
        match self.0 {
            Held::Single(entries) => entries.len(),
            Held::Packed(_, start, end) => end - start,
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The entry at this place among them, counted from 0.
    pub fn get(self, place: usize) -> Option<EntryRef<'a>> {
        (place < self.len()).then(|| self.at(place))
    }

    /// The first.
    pub fn first(self) -> Option<EntryRef<'a>> {
        self.get(0)
    }

    /// The last.
    pub fn last(self) -> Option<EntryRef<'a>> {
        self.get(self.len().checked_sub(1)?)
    }

    /// One after the other.
    pub fn iter(self) -> Iter<'a> {
        Iter(match self.0 {
            Held::Single(entries) => Left::Single(entries.iter()),
            Held::Packed(packed, start, end) => Left::Packed(packed.iter(start..end)),
        })
    }

    /// Copies of them, one after the other; of a command it is none.
    pub fn owned(self) -> impl Iterator<Item = Entry> + 'a {
        (0..self.len()).map(move |place| match self.0 {
            Held::Single(entries) => entries[place].clone(),
            Held::Packed(packed, start, _) => packed.own(start + place),
        })
    }

    /// What they weigh together; see [`Entry::weight_bytes`].
    pub fn weight_bytes(self) -> usize {
        match self.0 {
            Held::Single(entries) => entries.iter().map(Entry::weight_bytes).sum(),
            Held::Packed(packed, start, end) => {
                packed.commands_bytes(start..end) + (end - start) * ENTRY_OVERHEAD_BYTES
            }
        }
    }

    /// Whether they are packed, and so commands of one term: nothing else has to be looked for.
    pub(crate) fn is_packed(self) -> bool {
        matches!(self.0, Held::Packed(..))
    }

    /// Those before `place`, and the others.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn split_at(self, place: usize) -> (Self, Self) {
        match self.0 {
            Held::Single(entries) => {
                let (before, behind) = entries.split_at(place);
                (Self(Held::Single(before)), Self(Held::Single(behind)))
            }
            Held::Packed(packed, start, end) => {
                assert!(place <= end - start, "{place} of {}", end - start);
                let middle = start + place;
                let part = |start, end| Self(Held::Packed(packed, start, end));
                (part(start, middle), part(middle, end))
            }
        }
    }

    /// How many of the first of them are so, where none is that follows one that is not.
    pub(crate) fn partition_point(self, mut is_so: impl FnMut(EntryRef<'a>) -> bool) -> usize {
        let (mut so, mut end) = (0, self.len());
        while so < end {
            let middle = so + (end - so) / 2;
            match is_so(self.at(middle)) {
                true => so = middle + 1,
                false => end = middle,
            }
        }
        so
    }

    fn at(self, place: usize) -> EntryRef<'a> {
        match self.0 {
            Held::Single(entries) => entries[place].view(),
            Held::Packed(packed, start, _) => packed.at(start + place),
        }
    }
}

impl<'a> From<&'a [Entry]> for EntriesRef<'a> {
    fn from(entries: &'a [Entry]) -> Self {
        Self(Held::Single(entries))
    }
}

impl<'a> IntoIterator for EntriesRef<'a> {
    type Item = EntryRef<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Encoded like any sequence of entries.
impl Serialize for EntriesRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(whole))
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = EntryRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<EntryRef<'a>> {
        match &mut self.0 {
            Left::Single(entries) => entries.next().map(Entry::view),
            Left::Packed(commands) => commands.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Left::Single(entries) => entries.size_hint(),
            Left::Packed(commands) => commands.size_hint(),
        }
    }

    /// Whatever goes through all of them asks once how they are held.
    #[inline]
    fn fold<T, F: FnMut(T, EntryRef<'a>) -> T>(self, first: T, mut with: F) -> T {
        match self.0 {
            Left::Single(entries) => {
                entries.fold(first, |folded, entry| with(folded, entry.view()))
            }
            Left::Packed(commands) => commands.fold(first, with),
        }
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Left::Single(entries) => entries.next_back().map(Entry::view),
            Left::Packed(commands) => commands.next_back(),
        }
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// A command that is encoded in one piece, as `Bytes` are.
struct Whole<'a>(&'a [u8]);

impl Serialize for Whole<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

fn whole(entry: EntryRef<'_>) -> impl Serialize {
    let payload = match entry.payload {
        Payload::Noop => Payload::Noop,
        Payload::OpenSession { nonce } => Payload::OpenSession { nonce },
        Payload::Command { request, floor, command } => {
            Payload::Command { request, floor, command: Whole(command) }
        }
        Payload::Configuration(configuration) => Payload::Configuration(configuration),
    };
    Entry { position: entry.position, payload }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Index, Position, Term};

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
        assert!(all.part(5, 1).is_empty());
        let Shared::Single(run) = &all.shared else { panic!("these cannot be packed") };
        let held = all.clone();
        let none = all.part(5, 1);
        assert_eq!((none.len(), Arc::strong_count(run)), (0, 3), "all, the part and what is held");
        drop(held);
    }

    #[test]
    fn what_is_seen_can_be_parted_and_searched() {
        let all = entries(9);
        let (before, behind) = all.view().split_at(4);
        assert_eq!((before.len(), behind.len()), (4, 5));
        assert_eq!(behind.first().map(|entry| entry.position.index), Some(Index(5)));
        for count in 0..=9 {
            let fits = |entry: EntryRef<'_>| entry.position.index <= Index(count);
            assert_eq!(all.view().partition_point(fits), count as usize);
        }
        assert_eq!(all.iter().rev().map(|entry| entry.position.index.0).sum::<u64>(), 45);
    }
}
