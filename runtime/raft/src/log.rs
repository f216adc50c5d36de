//! The log in memory, after a snapshot (Raft §5.3, §7).
//!
//! Knows no role and not what is committed. Invariant: entries are consecutive after `start`
//! and their terms never fall, so places can be found by term in logarithmic time; `bytes` is
//! what they take up together.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
};

use crate::{Entry, Index, Position, RequestId, SessionId, Term, sequenced::Sequenced};

/// The log of one server.
#[derive(Debug)]
pub struct Log {
    start: Position,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Requests of entries that are not applied yet, by session and sequence, and where they
    /// stand. No session is here without one.
    requests: BTreeMap<SessionId, Sequenced<Index>>,
}

impl Log {
    /// A log without entries that goes on after `start`.
    pub fn new(start: Position) -> Self {
        Self { start, entries: VecDeque::new(), bytes: 0, requests: BTreeMap::new() }
    }

    /// The position just before the first entry: the snapshot's, or 0.0.
    pub fn start(&self) -> Position {
        self.start
    }

    /// The position of the last entry, or `start` when there is none.
    pub fn last(&self) -> Position {
        self.entries.back().map_or(self.start, |entry| entry.position)
    }

    /// What the entries take up in memory: each itself, and what it weighs.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The entry; `None` for what is compacted away or not there yet.
    pub fn get(&self, index: Index) -> Option<&Entry> {
        self.entries.get(self.offset(index)?)
    }

    /// The term of the entry, also of the one that `start` names.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        self.get(index).map(|entry| entry.position.term)
    }

    /// The entries of the range that exist, in order, as many as weigh no more than `bytes_max`
    /// together; the first always comes, or a heavy entry would never be sent.
    pub fn slice(&self, range: RangeInclusive<Index>, bytes_max: usize) -> Vec<Entry> {
        self.walk(range, bytes_max).cloned().collect()
    }

    /// The entries that [`Log::slice`] gives, where they stand.
    pub fn walk(
        &self,
        range: RangeInclusive<Index>,
        bytes_max: usize,
    ) -> impl Iterator<Item = &Entry> {
        let count = range.end().next().since(*range.start());
        // What is before the log is not there, and nothing follows what is not there.
        let first = self.offset(*range.start());
        let count = usize::try_from(count).ok().filter(|_| first.is_some()).unwrap_or(0);
        let mut weight_bytes = 0usize;
        let fits = move |entry: &&Entry| {
            let is_first = weight_bytes == 0;
            weight_bytes = weight_bytes.saturating_add(entry.weight_bytes());
            is_first || weight_bytes <= bytes_max
        };
        let first = first.unwrap_or(0).min(self.entries.len());
        let last = first.saturating_add(count).min(self.entries.len());
        self.entries.range(first..last).take_while(fits)
    }

    /// Where an unapplied request stands.
    pub fn request(&self, request: RequestId) -> Option<Index> {
        self.requests.get(&request.session)?.get(request.sequence).copied()
    }

    /// How many unapplied requests of the session stand here with a sequence of at least `floor`.
    pub(crate) fn requests_from(&self, session: SessionId, floor: u64) -> usize {
        self.requests.get(&session).map_or(0, |own| own.count_from(floor))
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
        let within = usize::try_from(bound.since(self.start.index)).unwrap_or(usize::MAX);
        let fitting = self.entries.partition_point(|entry| entry.position.term <= term);
        let count = fitting.min(within);
        let entry = count.checked_sub(1).and_then(|offset| self.entries.get(offset));
        Some(entry.map_or(self.start, |entry| entry.position))
    }

    /// Appends the next entry.
    ///
    /// # Panics
    /// If it is not the next, or of an earlier term than the last.
    pub fn append(&mut self, entry: Entry) {
        let last = self.last();
        assert!(entry.position.index == last.index.next(), "{} after {last}", entry.position);
        assert!(entry.position.term >= last.term, "{} after {last}", entry.position);
        if let Some(request) = entry.request() {
            let own = self.requests.entry(request.session).or_default();
            own.insert(request.sequence, entry.position.index);
        }
        self.bytes += memory_bytes(&entry);
        self.entries.push_back(entry);
    }

    /// Removes all entries after `after`.
    ///
    /// # Panics
    /// If that is before the start.
    pub fn truncate(&mut self, after: Index) {
        assert!(after >= self.start.index, "truncate after {after} before {}", self.start);
        while self.last().index > after {
            let Some(entry) = self.entries.pop_back() else { break };
            self.forget(&entry);
        }
    }

    /// The entry is applied: from now on the session table answers for its request.
    pub(crate) fn applied(&mut self, index: Index) {
        let Some(entry) = self.get(index) else { return };
        let Some(request) = entry.request() else { return };
        self.forget_request(request, index);
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
        while self.entries.front().is_some_and(|entry| entry.position.index <= position.index) {
            let Some(entry) = self.entries.pop_front() else { break };
            self.forget(&entry);
        }
        self.start = position;
        true
    }

    fn forget(&mut self, entry: &Entry) {
        self.bytes -= memory_bytes(entry);
        if let Some(request) = entry.request() {
            self.forget_request(request, entry.position.index);
        }
    }

    fn forget_request(&mut self, request: RequestId, index: Index) {
        let Some(own) = self.requests.get_mut(&request.session) else { return };
        own.remove(request.sequence, &index);
        if own.is_empty() {
            self.requests.remove(&request.session);
        }
    }

    fn offset(&self, index: Index) -> Option<usize> {
        let place = index.0.checked_sub(self.start.index.0)?.checked_sub(1)?;
        usize::try_from(place).ok()
    }
}

fn memory_bytes(entry: &Entry) -> usize {
    size_of::<Entry>() + entry.weight_bytes()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Payload;

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

    fn at(term: u64, index: u64) -> Position {
        Position { term: Term(term), index: Index(index) }
    }

    #[test]
    fn truncation_forgets_the_requests_it_removes() {
        let mut log = log(&[1]);
        log.append(command(1, 2, 7));
        log.append(command(1, 3, 8));
        let request = |sequence| RequestId { session: SessionId(Index(1)), sequence };
        assert_eq!(log.request(request(8)), Some(Index(3)));
        log.truncate(Index(2));
        assert_eq!(log.last(), at(1, 2));
        assert_eq!(log.request(request(7)), Some(Index(2)));
        assert_eq!(log.request(request(8)), None);
        log.applied(Index(2));
        assert_eq!(log.request(request(7)), None);
    }

    #[test]
    fn requests_are_counted_from_their_sessions_floor() {
        let mut log = log(&[1]);
        (2..=6).for_each(|index| log.append(command(1, index, 10 * index)));
        let session = SessionId(Index(1));
        let counts = |log: &Log| [0, 20, 21, 60, 61].map(|floor| log.requests_from(session, floor));
        assert_eq!(counts(&log), [5, 5, 4, 1, 0]);
        log.applied(Index(2));
        log.truncate(Index(5));
        assert_eq!(counts(&log), [3, 3, 3, 0, 0]);
        assert_eq!(log.requests_from(SessionId(Index(2)), 0), 0);
        log.truncate(Index(2));
        assert!(log.requests.is_empty(), "{:?}", log.requests);
    }

    #[test]
    fn the_bytes_are_those_of_the_entries_that_are_here() {
        let mut log = log(&[1]);
        let (empty, one) = (Log::new(Position::default()).bytes(), log.bytes());
        assert_eq!(empty, 0);
        (2..=6).for_each(|index| log.append(command(1, index, index)));
        assert!(log.bytes() > one + 5 * 10, "{}", log.bytes());
        let counted = |log: &Log| log.entries.iter().map(memory_bytes).sum::<usize>();
        assert_eq!(log.bytes(), counted(&log));
        log.truncate(Index(5));
        assert_eq!(log.bytes(), counted(&log));
        assert!(log.install(at(1, 3)));
        assert_eq!(log.bytes(), counted(&log));
        assert!(!log.install(at(2, 9)));
        assert_eq!(log.bytes(), 0);
    }

    #[test]
    fn a_repeated_request_keeps_its_first_place() {
        let mut log = log(&[1]);
        log.append(command(1, 2, 7));
        log.append(command(1, 3, 7));
        let request = RequestId { session: SessionId(Index(1)), sequence: 7 };
        log.truncate(Index(2));
        assert_eq!(log.request(request), Some(Index(2)));
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
        let weight = log.get(Index(2)).map_or(0, Entry::weight_bytes);
        let slice = |from: u64, to: u64, bytes| log.slice(Index(from)..=Index(to), bytes).len();
        assert_eq!(slice(2, 6, 2 * weight), 2);
        assert_eq!(slice(2, 6, 1), 1);
        assert_eq!(slice(2, 3, usize::MAX), 2);
        assert_eq!(slice(5, 99, usize::MAX), 2);
        assert_eq!(slice(7, 9, usize::MAX), 0);
        assert_eq!(slice(0, u64::MAX, usize::MAX), 0, "what is before the log is not there");
    }
}
