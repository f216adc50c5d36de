//! What stands in a leader's log and is not applied yet: which requests, and what it weighs.
//!
//! Only a leader asks, so only it keeps book: from its election on, of all that it appends, until
//! it is applied. Invariant: it is as if the log after `applied` were searched and weighed anew.

use std::collections::BTreeMap;

use crate::{EntryRef, Index, Log, RequestId, SessionId, sequenced::Sequenced};

/// See the module.
#[derive(Debug)]
pub(super) struct Unapplied {
    /// By session and sequence, where they stand. No session is here without one.
    requests: BTreeMap<SessionId, Sequenced<Index>>,
    weight_bytes: usize,
    /// What follows in the log is not applied.
    applied: Index,
}

impl Unapplied {
    /// All that the log has after `applied`.
    pub(super) fn of(log: &Log, applied: Index) -> Self {
        let mut unapplied = Self { requests: BTreeMap::new(), weight_bytes: 0, applied };
        let range = applied.next()..=log.last().index;
        log.walk(range, usize::MAX).flatten().for_each(|entry| unapplied.append(entry));
        unapplied
    }

    /// The entry is the log's next.
    pub(super) fn append(&mut self, entry: EntryRef<'_>) {
        self.weight_bytes += entry.weight_bytes();
        if let Some(request) = entry.request() {
            let own = self.requests.entry(request.session).or_default();
            own.insert(request.sequence, entry.position.index);
        }
    }

    /// Entries up to `applied` are applied: from now on the session table answers for their
    /// requests.
    pub(super) fn advance(&mut self, log: &Log, applied: Index) {
        if applied <= self.applied {
            return;
        }
        if log.start().index > self.applied {
            // A snapshot has taken the place of some.
            *self = Self::of(log, applied);
            return;
        }
        let range = self.applied.next()..=applied;
        log.walk(range, usize::MAX).flatten().for_each(|entry| self.forget(entry));
        self.applied = applied;
    }

    /// Where a request stands.
    pub(super) fn request(&self, request: RequestId) -> Option<Index> {
        self.requests.get(&request.session)?.get(request.sequence).copied()
    }

    /// How many requests of the session stand here with a sequence of at least `floor`.
    pub(super) fn requests_from(&self, session: SessionId, floor: u64) -> usize {
        self.requests.get(&session).map_or(0, |own| own.count_from(floor))
    }

    pub(super) fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    fn forget(&mut self, entry: EntryRef<'_>) {
        self.weight_bytes -= entry.weight_bytes();
        let Some(request) = entry.request() else { return };
        let Some(own) = self.requests.get_mut(&request.session) else { return };
        own.remove(request.sequence, &entry.position.index);
        if own.is_empty() {
            self.requests.remove(&request.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Entry, Payload, Position, Term};

    const SESSION: SessionId = SessionId(Index(1));

    fn command(index: u64, sequence: u64) -> Entry {
        let request = RequestId { session: SESSION, sequence };
        Entry {
            position: Position { term: Term(1), index: Index(index) },
            payload: Payload::Command { request, floor: 0, command: Bytes::from_static(b"0123") },
        }
    }

    /// A log of commands whose sequences are ten times their indexes.
    fn log(last: u64) -> Log {
        let mut log = Log::new(Position::default());
        (1..=last).for_each(|index| log.append(command(index, 10 * index)));
        log
    }

    #[test]
    fn what_is_applied_is_forgotten_and_the_rest_is_found_and_weighed() {
        let (log, weight_bytes) = (log(6), command(1, 1).weight_bytes());
        let mut unapplied = Unapplied::of(&log, Index(1));
        let found = |unapplied: &Unapplied| {
            [10, 20, 60].map(|sequence| {
                let request = RequestId { session: SESSION, sequence };
                unapplied.request(request).map(|index| index.0)
            })
        };
        let counts = |unapplied: &Unapplied| {
            [0, 20, 21, 60, 61].map(|floor| unapplied.requests_from(SESSION, floor))
        };
        assert_eq!(found(&unapplied), [None, Some(2), Some(6)]);
        assert_eq!(counts(&unapplied), [5, 5, 4, 1, 0]);
        assert_eq!(unapplied.weight_bytes(), 5 * weight_bytes);
        unapplied.advance(&log, Index(3));
        assert_eq!(found(&unapplied), [None, None, Some(6)]);
        assert_eq!(counts(&unapplied), [3, 3, 3, 1, 0]);
        assert_eq!(unapplied.weight_bytes(), 3 * weight_bytes);
        unapplied.advance(&log, Index(6));
        assert_eq!((unapplied.weight_bytes(), unapplied.requests.len()), (0, 0));
    }

    #[test]
    fn a_snapshot_that_covers_what_was_unapplied_takes_its_requests_too() {
        let mut log = log(6);
        let mut unapplied = Unapplied::of(&log, Index(1));
        assert!(log.install(Position { term: Term(1), index: Index(4) }));
        unapplied.advance(&log, Index(4));
        assert_eq!(unapplied.requests_from(SESSION, 0), 2);
        assert_eq!(unapplied.weight_bytes(), 2 * command(1, 1).weight_bytes());
    }

    #[test]
    fn a_repeated_request_keeps_its_first_place() {
        let mut log = log(1);
        [2, 3].into_iter().for_each(|index| log.append(command(index, 70)));
        let request = RequestId { session: SESSION, sequence: 70 };
        assert_eq!(Unapplied::of(&log, Index(0)).request(request), Some(Index(2)));
    }
}
