//! The log in memory, after a snapshot (Raft §5.3, §7).
//!
//! Knows no role and not what is committed. Invariant: entries are consecutive after `start`
//! and their terms never fall, so places can be found by term in logarithmic time; `bytes` is
//! what they take up together.

mod runs;

use std::ops::RangeInclusive;

use runs::Runs;

use crate::{
    Entries, EntriesRef, Entry, EntryRef, Index, Position, Term, entries::SLOT_BYTES,
    message::ENTRY_OVERHEAD_BYTES,
};

/// The log of one server.
#[derive(Debug)]
pub struct Log {
    start: Position,
    entries: Runs,
    last: Position,
    bytes: usize,
}

impl Log {
    /// A log without entries that goes on after `start`.
    pub fn new(start: Position) -> Self {
        Self { start, entries: Runs::default(), last: start, bytes: 0 }
    }

    /// The position just before the first entry: the snapshot's, or 0.0.
    pub fn start(&self) -> Position {
        self.start
    }

    /// The position of the last entry, or `start` when there is none.
    pub fn last(&self) -> Position {
        self.last
    }

    /// What the entries take up in memory: each itself, and what it weighs; packed, a slot and its
    /// command.
    pub fn bytes(&self) -> usize {
        self.bytes - self.entries.packed() * PACKED_SAVES_BYTES
    }

    /// The entry; `None` for what is compacted away or not there yet.
    pub fn get(&self, index: Index) -> Option<EntryRef<'_>> {
        self.entries.get(index)
    }

    /// The term of the entry, also of the one that `start` names.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        for known in [self.last, self.start] {
            if index == known.index {
                return Some(known.term);
            }
        }
        self.get(index).map(|entry| entry.position.term)
    }

    /// The entries of the range that exist, in order, as many as weigh no more than `bytes_max`
    /// together; the first always comes, or a heavy entry would never be sent.
    pub fn slice(&self, range: RangeInclusive<Index>, bytes_max: usize) -> Entries {
        let first = *range.start();
        let count = count(&(first..=self.last.index.min(*range.end())));
        if let Some(shared) = self.entries.share(first, count) {
            let fitting = fitting(shared.view(), &mut 0, bytes_max).len();
            // What follows lies elsewhere, unless nothing does.
            if fitting < shared.len() || fitting == count {
                return shared.part(0, fitting);
            }
        }
        self.walk(range, bytes_max).flat_map(EntriesRef::owned).collect()
    }

    /// The first of the entries that [`Log::slice`] gives: where they can be had without a copy
    /// only as many as lie together.
    pub fn share(&self, range: RangeInclusive<Index>, bytes_max: usize) -> Entries {
        match self.entries.share(*range.start(), count(&range)) {
            Some(shared) => {
                let fitting = fitting(shared.view(), &mut 0, bytes_max).len();
                shared.part(0, fitting)
            }
            None => self.slice(range, bytes_max),
        }
    }

    /// The entries that [`Log::slice`] gives, where they stand: some lie together.
    pub fn walk(
        &self,
        range: RangeInclusive<Index>,
        bytes_max: usize,
    ) -> impl Iterator<Item = EntriesRef<'_>> {
        let (mut weight_bytes, mut is_full) = (0, false);
        self.entries.walk(*range.start(), count(&range)).map_while(move |entries| {
            if is_full {
                return None;
            }
            let fitting = fitting(entries, &mut weight_bytes, bytes_max);
            is_full = fitting.len() < entries.len();
            (!fitting.is_empty()).then_some(fitting)
        })
    }

    /// Whether the entry at the position is here, which is to say: whether this log equals any
    /// other log with that entry up to it (log matching, Raft §5.3).
    pub(crate) fn contains(&self, position: Position) -> bool {
        self.term_at(position.index) == Some(position.term)
    }

    /// The last position at or before `bound` whose term is at most `term`; `None` when that
    /// would lie before `start`.
    ///
    /// Both sides of a conflict use it to skip whole terms instead of single entries (Raft §5.3,
    /// end): nothing of a later term than the other side has can be equal there.
    pub(crate) fn last_at_most(&self, bound: Index, term: Term) -> Option<Position> {
        if bound < self.start.index || self.start.term > term {
            return None;
        }
        let last = self.entries.last_at_most(term).unwrap_or(self.start);
        if last.index <= bound {
            return Some(last);
        }
        // Terms never fall: what stands before the last of those fits as well.
        self.term_at(bound).map(|term| Position { term, index: bound })
    }

    /// Appends the next entry.
    ///
    /// # Panics
    /// If it is not the next, or of an earlier term than the last.
    pub fn append(&mut self, entry: Entry) {
        self.admit(entry.view());
        self.entries.push(entry);
    }

    /// Appends the next entries, which others may hold as well.
    ///
    /// # Panics
    /// As [`Log::append`], of each of them.
    pub fn extend(&mut self, entries: &Entries) {
        match entries.first().zip(entries.last()) {
            Some((first, last)) if entries.view().is_packed() => {
                self.admit(first);
                self.bytes += entries.view().weight_bytes() - first.weight_bytes();
                self.bytes += (entries.len() - 1) * size_of::<Entry>();
                self.last = last.position;
            }
            _ => entries.iter().for_each(|entry| self.admit(entry)),
        }
        self.entries.extend(entries);
    }

    fn admit(&mut self, entry: EntryRef<'_>) {
        let (last, next) = (self.last, entry.position);
        assert!(next.index == last.index.next(), "{next} after {last}");
        assert!(next.term >= last.term, "{next} after {last}");
        self.bytes += memory_bytes(entry);
        self.last = next;
    }

    /// Removes all entries after `after`.
    ///
    /// # Panics
    /// If that is before the start.
    pub fn truncate(&mut self, after: Index) {
        assert!(after >= self.start.index, "truncate after {after} before {}", self.start);
        let bytes = &mut self.bytes;
        self.entries.truncate(after, |entry| *bytes -= memory_bytes(entry));
        self.last = self.entries.last().map_or(self.start, |entry| entry.position);
    }

    /// A snapshot covers the log up to the position: what it covers is dropped. What follows
    /// stays if the log has that entry; else the whole log gives way (Raft §7).
    ///
    /// Returns whether the rest stayed.
    pub(crate) fn install(&mut self, position: Position) -> bool {
        let kept = self.contains(position);
        if !kept {
            *self = Self::new(position);
            return false;
        }
        let bytes = &mut self.bytes;
        self.entries.compact(position.index, |entry| *bytes -= memory_bytes(entry));
        self.start = position;
        true
    }
}

/// How many indexes the range has.
fn count(range: &RangeInclusive<Index>) -> usize {
    usize::try_from(range.end().next().since(*range.start())).unwrap_or(usize::MAX)
}

/// The first of the entries, as many as fit beside what weighs that much already.
fn fitting<'a>(
    entries: EntriesRef<'a>,
    weight_bytes: &mut usize,
    bytes_max: usize,
) -> EntriesRef<'a> {
    // Nearly always they all fit.
    let all_bytes = weight_bytes.saturating_add(entries.weight_bytes());
    if all_bytes <= bytes_max {
        *weight_bytes = all_bytes;
        return entries;
    }
    let fits = |entry: &EntryRef<'_>| {
        let is_first = *weight_bytes == 0;
        *weight_bytes = weight_bytes.saturating_add(entry.weight_bytes());
        is_first || *weight_bytes <= bytes_max
    };
    entries.split_at(entries.iter().take_while(fits).count()).0
}

/// Of an entry that stands singly.
fn memory_bytes(entry: EntryRef<'_>) -> usize {
    size_of::<Entry>() + entry.weight_bytes()
}

/// What a packed entry takes less than one that stands singly.
const PACKED_SAVES_BYTES: usize = size_of::<Entry>() + ENTRY_OVERHEAD_BYTES - SLOT_BYTES;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Payload, RequestId, SessionId};

    /// A log with one entry of each of these terms.
    fn log(terms: &[u64]) -> Log {
        let mut log = Log::new(Position::default());
        for term in terms {
            let position = Position { term: Term(*term), index: log.last().index.next() };
            log.append(Entry { position, payload: Payload::Noop });
        }
        log
    }

    fn command(term: u64, index: u64, sequence: u64) -> Entry {
        let request = RequestId { session: SessionId(Index(1)), sequence };
        let command = Bytes::from_static(b"0123456789");
        Entry {
            position: Position { term: Term(term), index: Index(index) },
            payload: Payload::Command { request, floor: 0, command },
        }
    }

    fn all(log: &Log) -> Vec<Entry> {
        log.walk(log.start.index.next()..=Index(u64::MAX), usize::MAX)
            .flat_map(EntriesRef::owned)
            .collect()
    }

    fn at(term: u64, index: u64) -> Position {
        Position { term: Term(term), index: Index(index) }
    }

    #[test]
    fn the_bytes_are_those_of_the_entries_that_are_here() {
        let mut log = log(&[1]);
        let (empty, one) = (Log::new(Position::default()).bytes(), log.bytes());
        assert_eq!(empty, 0);
        (2..=6).for_each(|index| log.append(command(1, index, index)));
        assert!(log.bytes() > one + 5 * 10, "{}", log.bytes());
        let counted = |log: &Log| {
            let single: usize = all(log).iter().map(|entry| memory_bytes(entry.view())).sum();
            single - log.entries.packed() * PACKED_SAVES_BYTES
        };
        assert_eq!(log.bytes(), counted(&log));
        let run: Entries = (7..=99).map(|index| command(1, index, index)).collect();
        log.extend(&run.packed());
        assert_eq!((log.last(), log.bytes()), (at(1, 99), counted(&log)));
        assert_eq!(log.entries.packed(), 93);
        log.truncate(Index(50));
        assert_eq!((log.bytes(), log.entries.packed()), (counted(&log), 44));
        log.truncate(Index(5));
        assert_eq!(log.bytes(), counted(&log));
        assert!(log.install(at(1, 3)));
        assert_eq!(log.bytes(), counted(&log));
        assert!(!log.install(at(2, 9)));
        assert_eq!(log.bytes(), 0);
    }

    #[test]
    fn places_are_found_by_term() {
        let log = log(&[1, 1, 4, 4, 6]);
        assert_eq!(log.last_at_most(Index(5), Term(5)), Some(at(4, 4)));
        assert_eq!(log.last_at_most(Index(3), Term(5)), Some(at(4, 3)));
        assert_eq!(log.last_at_most(Index(9), Term(9)), Some(at(6, 5)));
        assert_eq!(log.last_at_most(Index(5), Term(0)), Some(at(0, 0)));
    }

    #[test]
    fn nothing_is_found_before_the_start() {
        let mut log = log(&[1, 1, 4, 4, 6]);
        assert!(log.install(at(4, 3)));
        assert_eq!(log.last_at_most(Index(3), Term(4)), Some(at(4, 3)));
        assert_eq!(log.last_at_most(Index(2), Term(4)), None);
        assert_eq!(log.last_at_most(Index(5), Term(3)), None);
        assert_eq!(log.term_at(Index(2)), None);
        assert_eq!(log.term_at(Index(3)), Some(Term(4)));
    }

    #[test]
    fn a_snapshot_keeps_the_suffix_only_if_the_log_has_its_last_entry() {
        let mut same = log(&[1, 1, 4]);
        assert!(same.install(at(1, 2)));
        assert_eq!(same.last(), at(4, 3));
        let mut other = log(&[1, 1, 4]);
        assert!(!other.install(at(2, 2)));
        assert_eq!(other.last(), at(2, 2));
        let mut behind = log(&[1]);
        assert!(!behind.install(at(3, 9)));
        assert_eq!(behind.start(), at(3, 9));
    }

    #[test]
    fn a_slice_keeps_to_its_bytes_but_yields_at_least_one_entry() {
        let mut log = log(&[1]);
        (2..=6).for_each(|index| log.append(command(1, index, index)));
        let weight = log.get(Index(2)).map_or(0, |entry| entry.weight_bytes());
        let slice = |from: u64, to: u64, bytes| log.slice(Index(from)..=Index(to), bytes).len();
        assert_eq!(slice(2, 6, 2 * weight), 2);
        assert_eq!(slice(2, 6, 1), 1);
        assert_eq!(slice(2, 3, usize::MAX), 2);
        assert_eq!(slice(5, 99, usize::MAX), 2);
        assert_eq!(slice(7, 9, usize::MAX), 0);
        assert_eq!(slice(0, u64::MAX, usize::MAX), 0, "what is before the log is not there");
    }

    #[test]
    fn what_lies_together_is_given_without_a_copy_also_where_more_is_asked_for() {
        let mut log = log(&[1]);
        let together: Entries = (2..=300).map(|index| command(1, index, index)).collect();
        log.extend(&together);
        let weight = command(1, 2, 2).weight_bytes();
        let asked = |from: u64, to: u64, bytes| log.slice(Index(from)..=Index(to), bytes);
        for (given, count) in [
            (asked(2, u64::MAX, usize::MAX), 299),
            (asked(101, 250, usize::MAX), 150),
            (asked(101, u64::MAX, 70 * weight), 70),
        ] {
            assert_eq!(given.len(), count);
            let first = given.first().expect("some").position.index;
            assert_eq!(given, together.part(first.0 as usize - 2, count));
            assert!(given.view().is_packed(), "a copy would stand singly");
        }
        assert_eq!(asked(1, 300, usize::MAX).len(), 300, "the first lies elsewhere");
    }

    #[test]
    fn what_came_singly_is_let_go_of_once_its_run_is_compacted() {
        // So long that its run is not packed.
        let (mut log, held) = (log(&[]), Bytes::from(vec![7; 200_000]));
        let mut first = command(1, 1, 1);
        if let Payload::Command { command, .. } = &mut first.payload {
            *command = held.clone();
        }
        log.append(first);
        (2..=10_000).for_each(|index| log.append(command(1, index, index)));
        assert!(log.install(at(1, 9_000)));
        assert!(held.is_unique(), "what follows lies in other runs");
        assert_eq!(all(&log).len(), 1_000);
    }
}
