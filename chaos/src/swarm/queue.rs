//! What will happen, in the order in which it will.
//!
//! Virtual time: events are ordered by moment, and events of one moment by when they were put
//! in, so a run has one order. Knows nothing of what the events mean.

use std::{cmp::Reverse, collections::BinaryHeap};

use raft::Time;

/// Events by time.
#[derive(Debug)]
pub(super) struct Queue<E> {
    order: BinaryHeap<Reverse<(Time, u64, usize)>>,
    // Events are large and the heap moves what it orders, so they wait beside it.
    waiting: Vec<Option<E>>,
    free: Vec<usize>,
    sequence: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { order: BinaryHeap::new(), waiting: Vec::new(), free: Vec::new(), sequence: 0 }
    }
}

impl<E> Queue<E> {
    /// The event will happen at this moment, after those already put in for it.
    pub(super) fn put(&mut self, at: Time, event: E) {
        let place = self.free.pop().unwrap_or(self.waiting.len());
        if place == self.waiting.len() {
            self.waiting.push(Some(event));
        } else {
            self.waiting[place] = Some(event);
        }
        self.order.push(Reverse((at, self.sequence, place)));
        self.sequence += 1;
    }

    /// How many events are still to happen, where these are more than a world carries.
    pub(super) fn overflow(&self) -> Option<usize> {
        Some(self.order.len()).filter(|count| *count > EVENTS_MAX)
    }

    /// When the next event happens.
    pub(super) fn next_at(&self) -> Option<Time> {
        self.order.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Takes the next event out.
    pub(super) fn take(&mut self) -> Option<(Time, E)> {
        let Reverse((at, _, place)) = self.order.pop()?;
        self.free.push(place);
        let event = self.waiting[place].take().expect("an ordered event waits at its place");
        Some((at, event))
    }
}

/// Messages and all else that may be under way at once. Ordinary is a few hundred; links that
/// hold back for long, and leaders that send long windows to many, have been seen to reach some
/// thousands.
pub(super) const EVENTS_MAX: usize = 20_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_arrival() {
        let at = |millis| Time(Duration::from_millis(millis));
        let mut queue = Queue::default();
        for (millis, name) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b')] {
            queue.put(at(millis), name);
        }
        assert_eq!(queue.take(), Some((at(1), 'a')));
        queue.put(at(1), 'x');
        assert_eq!(queue.next_at(), Some(at(1)));
        let rest: Vec<char> = std::iter::from_fn(|| queue.take()).map(|(_, name)| name).collect();
        assert_eq!(rest, ['b', 'x', 'c', 'd']);
    }

    #[test]
    fn more_than_a_world_carries_is_noticed() {
        let mut queue = Queue::default();
        (0..EVENTS_MAX).for_each(|_| queue.put(Time::default(), 'x'));
        assert_eq!(queue.overflow(), None);
        queue.put(Time::default(), 'y');
        assert_eq!(queue.overflow(), Some(EVENTS_MAX + 1));
    }
}
