//! What is committed and durable here and not yet applied, by weight.
//!
//! A running sum: entries are weighed as they are handed to the applier, and those that find no
//! room there once, when they begin to wait. Invariant: it is as if all that lies between what the
//! machine has applied, as far as that is known, and what it may apply were weighed anew.

use std::collections::VecDeque;

use raft::{EntryRef, Index, Log};

/// See the module.
#[derive(Default)]
pub(super) struct Lag {
    /// With the applier, by the last index of each batch: what the batch weighs.
    batches: VecDeque<(Index, u64)>,
    batches_bytes: u64,
    /// What waits for room and is weighed, through there.
    waiting_bytes: u64,
    weighed: Index,
}

impl Lag {
    pub(super) fn bytes(&self) -> u64 {
        self.batches_bytes + self.waiting_bytes
    }

    /// The next entries go to the applier, up to `last`, and weigh so much.
    pub(super) fn handed(&mut self, last: Index, bytes: u64) {
        self.batches.push_back((last, bytes));
        self.batches_bytes += bytes;
        // All that waited and is weighed is of this batch, or all of this batch has waited.
        self.waiting_bytes = match last < self.weighed {
            true => self.waiting_bytes.saturating_sub(bytes),
            false => 0,
        };
    }

    /// What lies between `handed` and `through` finds no room.
    pub(super) fn waits(&mut self, log: &Log, handed: Index, through: Index) {
        let weighed = self.weighed.max(handed);
        if weighed >= through {
            return;
        }
        let news = log.walk(weighed.next()..=through, usize::MAX).flatten();
        self.waiting_bytes += news.map(weight_bytes).sum::<u64>();
        self.weighed = through;
    }

    /// The machine has come so far.
    pub(super) fn applied(&mut self, through: Index) {
        while let Some((last, bytes)) = self.batches.front().copied()
            && last <= through
        {
            self.batches.pop_front();
            self.batches_bytes -= bytes;
        }
    }

    /// A snapshot takes the place of what waited, up to its end.
    pub(super) fn skipped(&mut self, end: Index) {
        (self.waiting_bytes, self.weighed) = (0, end);
    }
}

fn weight_bytes(entry: EntryRef<'_>) -> u64 {
    entry.weight_bytes() as u64
}

#[cfg(test)]
mod tests {
    use raft::{Entry, Payload, Position, Term};

    use super::*;

    /// A log of so many entries that weigh the same.
    fn log(last: u64) -> (Log, u64) {
        let mut log = Log::new(Position::default());
        for index in 1..=last {
            let position = Position { term: Term(1), index: Index(index) };
            log.append(Entry { position, payload: Payload::Noop });
        }
        let one = log.get(Index(1)).map_or(0, weight_bytes);
        (log, one)
    }

    #[test]
    fn what_waits_is_weighed_once_and_what_is_applied_weighs_nothing() {
        let (log, one) = log(20);
        let mut lag = Lag::default();
        lag.handed(Index(3), 3 * one);
        lag.waits(&log, Index(3), Index(3));
        assert_eq!(lag.bytes(), 3 * one);
        lag.waits(&log, Index(3), Index(9));
        lag.waits(&log, Index(3), Index(12));
        assert_eq!(lag.bytes(), 12 * one, "six waited, and then three more");
        lag.handed(Index(5), 2 * one);
        lag.waits(&log, Index(5), Index(12));
        assert_eq!(lag.bytes(), 12 * one, "two of them wait no more, and are not applied");
        lag.handed(Index(15), 10 * one);
        assert_eq!(lag.bytes(), 15 * one, "all that waited, and three that did not");
        lag.applied(Index(4));
        assert_eq!(lag.bytes(), 12 * one, "the second batch is not done");
        lag.applied(Index(15));
        assert_eq!(lag.bytes(), 0);
    }

    #[test]
    fn what_a_snapshot_passes_over_is_never_applied_and_weighs_nothing() {
        let (log, one) = log(20);
        let mut lag = Lag::default();
        lag.handed(Index(3), 3 * one);
        lag.waits(&log, Index(3), Index(9));
        lag.skipped(Index(12));
        assert_eq!(lag.bytes(), 3 * one, "what the machine has before it");
        lag.waits(&log, Index(12), Index(14));
        assert_eq!(lag.bytes(), 5 * one);
        lag.applied(Index(12));
        assert_eq!(lag.bytes(), 2 * one);
    }
}
