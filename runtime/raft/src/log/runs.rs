//! The entries of a log, in runs of which each is shared whole.
//!
//! What comes together stays together, and parts of it are given away without a copy. What comes
//! singly is gathered, and becomes a run once it is long enough. A run of small commands is packed,
//! unless it came so. Nothing moves when the log grows. Invariant: runs are not empty and their
//! entries consecutive, each run's after those before it; those gathered come last.

use std::collections::VecDeque;

use crate::{Entries, EntriesRef, Entry, EntryRef, Index, Position, Term};

/// See the module.
#[derive(Default, Debug)]
pub(super) struct Runs {
    whole: VecDeque<Run>,
    /// Fewer than `RUN_ENTRIES`.
    gathered: Vec<Entry>,
    /// How many stand packed.
    packed: usize,
}

#[derive(Debug)]
struct Run {
    /// The index of its first entry: so none is touched in search of another.
    first: Index,
    entries: Entries,
}

impl Runs {
    pub(super) fn last(&self) -> Option<EntryRef<'_>> {
        match self.gathered.last() {
            Some(entry) => Some(entry.view()),
            None => self.whole.back()?.entries.last(),
        }
    }

    pub(super) fn get(&self, index: Index) -> Option<EntryRef<'_>> {
        let (piece, place) = self.find(index)?;
        self.piece(piece)?.get(place)
    }

    /// How many stand packed.
    pub(super) fn packed(&self) -> usize {
        self.packed
    }

    /// Adds one entry.
    pub(super) fn push(&mut self, entry: Entry) {
        self.gathered.push(entry);
        if self.gathered.len() >= RUN_ENTRIES {
            self.gather(Vec::with_capacity(RUN_ENTRIES));
        }
    }

    /// Adds entries that may be held elsewhere too.
    pub(super) fn extend(&mut self, entries: &Entries) {
        let Some(first) = entries.first() else { return };
        if entries.len() < SHARED_ENTRIES_MIN {
            return entries.view().owned().for_each(|entry| self.push(entry));
        }
        let first = first.position.index;
        self.gather(Vec::new());
        self.push_whole(Run { first, entries: entries.packed() });
    }

    /// The entries from `first` on, no more than `count`, as they lie together.
    pub(super) fn walk(&self, first: Index, count: usize) -> impl Iterator<Item = EntriesRef<'_>> {
        // Where nothing is found there is no piece either.
        let (piece, mut skipped) = self.find(first).unwrap_or((self.whole.len() + 1, 0));
        let mut left = count;
        let pieces = (piece..=self.whole.len()).map_while(|piece| self.piece(piece));
        pieces.map_while(move |entries| {
            let (_, entries) = entries.split_at(std::mem::take(&mut skipped));
            let (entries, _) = entries.split_at(entries.len().min(left));
            left -= entries.len();
            (!entries.is_empty()).then_some(entries)
        })
    }

    /// The entry at `first` and those behind it that can be given away with it without a copy;
    /// `None` where that is not possible, or not worth it.
    pub(super) fn share(&self, first: Index, count: usize) -> Option<Entries> {
        let (piece, place) = self.find(first)?;
        let part = self.whole.get(piece)?.entries.part(place, count);
        (part.len() >= SHARED_ENTRIES_MIN.min(count)).then_some(part)
    }

    /// The last of those whose term is at most this.
    pub(super) fn last_at_most(&self, term: Term) -> Option<Position> {
        let fits = |entry: EntryRef<'_>| entry.position.term <= term;
        let begins = |run: &Run| run.entries.first().is_some_and(fits);
        let whole = self.whole.partition_point(begins).checked_sub(1);
        let gathered = EntriesRef::from(&self.gathered[..]);
        let piece = match gathered.first().is_some_and(fits) {
            true => gathered,
            false => self.whole.get(whole?)?.entries.view(),
        };
        let last = piece.partition_point(fits).checked_sub(1)?;
        piece.get(last).map(|entry| entry.position)
    }

    /// Removes what follows `after`, and shows each of them before.
    pub(super) fn truncate(&mut self, after: Index, mut gone: impl FnMut(EntryRef<'_>)) {
        let kept = self.gathered.partition_point(|entry| entry.position.index <= after);
        self.gathered.drain(kept..).for_each(|entry| gone(entry.view()));
        while let Some(run) = self.whole.back_mut() {
            let kept = run.holds_through(after);
            self.packed -= run.packed_of(run.entries.len() - kept);
            run.entries.view().split_at(kept).1.iter().for_each(&mut gone);
            run.entries = run.entries.part(0, kept);
            if kept > 0 {
                break;
            }
            self.whole.pop_back();
        }
    }

    /// Removes what reaches up to `through`, and shows each of them before.
    pub(super) fn compact(&mut self, through: Index, mut gone: impl FnMut(EntryRef<'_>)) {
        while let Some(run) = self.whole.front_mut() {
            let count = run.holds_through(through);
            self.packed -= run.packed_of(count);
            run.entries.view().split_at(count).0.iter().for_each(&mut gone);
            run.entries = run.entries.part(count, usize::MAX);
            if let Some(first) = run.entries.first() {
                run.first = first.position.index;
                break;
            }
            self.whole.pop_front();
        }
        let count = self.gathered.partition_point(|entry| entry.position.index <= through);
        self.gathered.drain(..count).for_each(|entry| gone(entry.view()));
    }

    /// What was gathered becomes a run, and `next` gathers.
    fn gather(&mut self, next: Vec<Entry>) {
        let gathered = std::mem::replace(&mut self.gathered, next);
        if let Some(entry) = gathered.first() {
            let first = entry.position.index;
            self.push_whole(Run { first, entries: Entries::from(gathered).packed() });
        }
    }

    fn push_whole(&mut self, run: Run) {
        self.packed += run.packed_of(run.entries.len());
        self.whole.push_back(run);
    }

    /// In which piece the entry is, and where in it.
    fn find(&self, index: Index) -> Option<(usize, usize)> {
        let first = |piece: usize| match self.whole.get(piece) {
            Some(run) => Some(run.first),
            None => self.gathered.first().map(|entry| entry.position.index),
        };
        let piece = match first(self.whole.len()) {
            // The way of almost all: it is among the newest.
            Some(gathered) if gathered <= index => self.whole.len(),
            _ => self.whole.partition_point(|run| run.first <= index).checked_sub(1)?,
        };
        let place = usize::try_from(index.since(first(piece)?)).ok()?;
        (place < self.piece(piece)?.len()).then_some((piece, place))
    }

    fn piece(&self, piece: usize) -> Option<EntriesRef<'_>> {
        match self.whole.get(piece) {
            Some(run) => Some(run.entries.view()),
            None => (piece == self.whole.len()).then(|| EntriesRef::from(&self.gathered[..])),
        }
    }
}

impl Run {
    /// How many of its entries reach up to the index.
    fn holds_through(&self, index: Index) -> usize {
        let count = index.next().since(self.first);
        usize::try_from(count).unwrap_or(usize::MAX).min(self.entries.len())
    }

    /// How many of so many of its entries stand packed.
    fn packed_of(&self, count: usize) -> usize {
        if self.entries.view().is_packed() { count } else { 0 }
    }
}

/// As many are gathered before they are a run.
const RUN_ENTRIES: usize = 256;
/// Fewer are copied: for them a run of their own is not worth its place.
const SHARED_ENTRIES_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Payload, RequestId, SessionId};

    /// One in seven hundred is no command, so that runs of all kinds come about.
    fn entry(term: u64, index: u64) -> Entry {
        let request = RequestId { session: SessionId(Index(1)), sequence: index };
        let payload = match index % 700 {
            699 => Payload::Noop,
            _ => Payload::Command { request, floor: 1, command: vec![index as u8; 3].into() },
        };
        Entry { position: Position { term: Term(term), index: Index(index) }, payload }
    }

    /// What it must be like: a plain list.
    struct Scene {
        runs: Runs,
        list: Vec<Entry>,
        state: u64,
        seen_packed: bool,
    }

    impl Scene {
        fn below(&mut self, bound: u64) -> u64 {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.state >> 33) % bound
        }

        /// Some index around those that are there.
        fn any(&mut self) -> Index {
            let count = self.list.len() as u64;
            let first = self.list.first().map_or(5, |entry| entry.position.index.0);
            Index(first.saturating_sub(2) + self.below(count + 4))
        }

        fn change(&mut self) {
            let next = |list: &[Entry]| match list.last() {
                Some(Entry { position: Position { term, index }, .. }) => (term.0, index.0 + 1),
                None => (1, 5),
            };
            let (term, index) = next(&self.list);
            let term = term + self.below(20) / 19;
            match self.below(8) {
                0..=2 => {
                    let count = 1 + self.below(200);
                    let entries: Entries =
                        (index..index + count).map(|at| entry(term, at)).collect();
                    self.runs.extend(&entries);
                    self.list.extend(entries.view().owned());
                }
                3..=5 => {
                    for at in index..index + self.below(300) {
                        self.runs.push(entry(term, at));
                        self.list.push(entry(term, at));
                    }
                }
                6 => {
                    let (after, mut gone) = (Index(index.saturating_sub(self.below(400))), 0);
                    self.runs.truncate(after, |_| gone += 1);
                    let before = self.list.len();
                    self.list.retain(|entry| entry.position.index <= after);
                    assert_eq!(before - self.list.len(), gone);
                }
                _ => {
                    let (through, mut gone) = (self.any(), Vec::new());
                    self.runs.compact(through, |entry| gone.push(entry.own(own)));
                    let kept = self.list.partition_point(|entry| entry.position.index <= through);
                    assert_eq!(gone, self.list.drain(..kept).collect::<Vec<_>>());
                }
            }
        }

        fn compare(&mut self) {
            let (first, count) = (self.any(), self.below(600) as usize);
            let (runs, list) = (&self.runs, &self.list);
            assert_eq!(runs.last(), list.last().map(Entry::view));
            let packed = runs.whole.iter().filter(|run| run.entries.view().is_packed());
            assert_eq!(runs.packed(), packed.map(|run| run.entries.len()).sum());
            self.seen_packed |= runs.packed() > RUN_ENTRIES;
            let place = list.iter().position(|entry| entry.position.index == first);
            assert_eq!(runs.get(first), place.map(|place| list[place].view()));
            let rest = place.map_or(&[][..], |place| &list[place..]);
            let wanted = &rest[..rest.len().min(count)];
            let walked: Vec<_> = runs.walk(first, count).flat_map(EntriesRef::owned).collect();
            assert_eq!(walked, wanted, "{count} from {first}");
            if let Some(shared) = runs.share(first, count) {
                assert!(shared.len() >= count.min(SHARED_ENTRIES_MIN), "{} are few", shared.len());
                assert_eq!(shared.to_vec(), wanted[..shared.len()]);
            }
            let term = Term(self.state % 9);
            let fitting = list.iter().rfind(|entry| entry.position.term <= term);
            assert_eq!(runs.last_at_most(term), fitting.map(|entry| entry.position));
        }
    }

    fn own(command: &[u8]) -> bytes::Bytes {
        command.to_vec().into()
    }

    #[test]
    fn it_is_like_a_plain_list_whatever_comes_and_goes() {
        let mut scene =
            Scene { runs: Runs::default(), list: Vec::new(), state: 7, seen_packed: false };
        for _ in 0..2_000 {
            scene.change();
            scene.compare();
        }
        assert!(scene.seen_packed, "long runs of commands come about");
    }

    #[test]
    fn what_came_together_is_shared_and_what_came_singly_is_once_it_is_long() {
        let together: Entries = (1..=100).map(|index| entry(1, index)).collect();
        let mut runs = Runs::default();
        runs.extend(&together);
        let shared = runs.share(Index(11), 80).expect("it lies together");
        assert_eq!(shared, together.part(10, 80));
        assert!(shared.view().is_packed(), "a copy would stand singly");
        assert!(runs.share(Index(91), 80).is_none(), "ten of eighty are not worth it");
        assert_eq!(runs.share(Index(91), 10).map(|shared| shared.len()), Some(10));
        for index in 101..100 + RUN_ENTRIES as u64 {
            runs.push(entry(1, index));
            assert!(runs.share(Index(101), 1).is_none(), "it is still gathered");
        }
        runs.push(entry(1, 100 + RUN_ENTRIES as u64));
        assert_eq!(runs.share(Index(101), usize::MAX).map(|run| run.len()), Some(RUN_ENTRIES));
    }
}
