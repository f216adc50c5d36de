//! What others have asked of this member and wait for.
//!
//! Looks at no log: the driver answers, one at a time between other things. Invariant: of each
//! peer so many requests wait and no more, one question what is held among them, and no more bytes
//! leave than the rate allows.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use raft::{Index, NodeId, Term, Time};

use crate::{ConsensusConfig, group::replay::throttle::Throttle};

/// What costs enough to wait for its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Request {
    /// Entries in `(after, last]`.
    Entries { id: u64, after: Index, last: Index },
    /// Marks of what follows.
    Marks { id: u64, term: Term, after: Index },
}

/// The requests of all peers, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Serving {
    waiting: VecDeque<Waiting>,
    /// Who wants to know what is held here, each with the number of its last question.
    held_asked: BTreeMap<NodeId, u64>,
    per_peer_max: usize,
    patience: Duration,
    throttle: Throttle,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    from: NodeId,
    request: Request,
    since: Time,
}

impl Serving {
    pub(crate) fn new(consensus: &ConsensusConfig) -> Self {
        Self {
            waiting: VecDeque::new(),
            held_asked: BTreeMap::new(),
            // What a peer may have under way, and once more what it takes for lost.
            per_peer_max: 2 * consensus.inflight_per_peer_max as usize + 1,
            patience: consensus.fetch_timeout,
            throttle: Throttle::new(consensus.catch_up_rate_max.into()),
        }
    }

    /// Takes a request in, unless the peer has as many waiting as it may.
    pub(crate) fn ask(&mut self, now: Time, from: NodeId, request: Request) -> bool {
        let count = self.waiting.iter().filter(|waiting| waiting.from == from).count();
        if count >= self.per_peer_max {
            return false;
        }
        self.waiting.push_back(Waiting { from, request, since: now });
        true
    }

    /// It wants to know what is held here. Only the answer to its last question counts for who asks
    /// (`Sources::holds`), so that takes the place of an earlier one.
    pub(crate) fn ask_held(&mut self, from: NodeId, id: u64) {
        self.held_asked.insert(from, id);
    }

    /// One who wants to know that, and the number of its question.
    pub(crate) fn next_held(&mut self) -> Option<(NodeId, u64)> {
        self.held_asked.pop_first()
    }

    /// Forgets who has asked so long ago that it has asked others since, and says how many.
    pub(crate) fn forget_late(&mut self, now: Time) -> usize {
        let is_late = |waiting: &&Waiting| now.since(waiting.since) >= self.patience;
        let late = self.waiting.iter().take_while(is_late).count();
        self.waiting.drain(..late).count()
    }

    /// The next to answer, if it is time.
    pub(crate) fn next(&mut self, now: Time) -> Option<(NodeId, Request)> {
        if self.due()? > now {
            return None;
        }
        self.waiting.pop_front().map(|waiting| (waiting.from, waiting.request))
    }

    /// When the next is to be answered.
    pub(crate) fn due(&self) -> Option<Time> {
        let Waiting { request, .. } = self.waiting.front()?;
        Some(match request {
            Request::Entries { .. } => self.throttle.free_at(),
            Request::Marks { .. } => Time::default(),
        })
    }

    /// So much was sent.
    pub(crate) fn sent(&mut self, now: Time, bytes: usize) {
        self.throttle.take(now, bytes as u64);
    }

    /// The peer is gone, and nobody waits any more.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.waiting.retain(|waiting| waiting.from != node);
        self.held_asked.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(Duration::from_secs(1));

    fn fetch(id: u64) -> Request {
        Request::Entries { id, after: Index(0), last: Index(9) }
    }

    fn serving(rate: u32) -> Serving {
        Serving::new(&ConsensusConfig {
            inflight_per_peer_max: 2,
            catch_up_rate_max: rate,
            ..ConsensusConfig::default()
        })
    }

    #[test]
    fn a_peer_that_asks_without_end_is_refused_and_the_others_are_not() {
        let mut serving = serving(u32::MAX);
        let (two, three) = (NodeId::small(2), NodeId::small(3));
        let taken = (0..100).filter(|id| serving.ask(NOW, two, fetch(*id))).count();
        assert_eq!(taken, 5);
        assert!(serving.ask(NOW, three, fetch(7)));
        assert_eq!(serving.next(NOW), Some((two, fetch(0))));
        assert!(serving.ask(NOW, two, fetch(100)), "there is room again");
        serving.forget(two);
        assert_eq!(serving.next(NOW), Some((three, fetch(7))));
        assert_eq!(serving.next(NOW), None);
    }

    #[test]
    fn of_what_is_held_each_is_told_once_however_often_it_asks() {
        let mut serving = serving(u32::MAX);
        let [two, three, four] = [2, 3, 4].map(NodeId::small);
        (0..100).for_each(|id| serving.ask_held(two, id));
        serving.ask_held(three, 7);
        serving.ask_held(four, 8);
        serving.forget(three);
        let told: Vec<_> = std::iter::from_fn(|| serving.next_held()).collect();
        assert_eq!(told, [(two, 99), (four, 8)]);
        serving.ask_held(two, 100);
        assert_eq!(serving.next_held(), Some((two, 100)));
    }

    #[test]
    fn who_has_turned_to_others_meanwhile_is_not_answered() {
        let mut serving = serving(u32::MAX);
        let node = NodeId::small(2);
        let later = NOW.plus(ConsensusConfig::default().fetch_timeout);
        assert!(serving.ask(NOW, node, fetch(1)) && serving.ask(later, node, fetch(2)));
        assert_eq!((serving.forget_late(later), serving.forget_late(later)), (1, 0));
        assert_eq!(serving.next(later), Some((node, fetch(2))));
    }

    #[test]
    fn entries_wait_for_the_rate_and_marks_do_not() {
        let mut serving = serving(1_000_000);
        let (node, now) = (NodeId::small(2), NOW);
        let marks = Request::Marks { id: 9, term: Term(1), after: Index(0) };
        for request in [fetch(1), fetch(2), marks] {
            assert!(serving.ask(now, node, request));
        }
        assert_eq!(serving.next(now), Some((node, fetch(1))));
        serving.sent(now, 100_000);
        let due = now.plus(Duration::from_millis(90));
        assert_eq!((serving.next(now), serving.due()), (None, Some(due)));
        assert_eq!(serving.next(due), Some((node, fetch(2))));
        serving.sent(due, 1 << 20);
        assert_eq!(serving.next(due), Some((node, marks)));
    }
}
