//! From whom entries may be had, and how much each is asked at a time.
//!
//! Knows no chunk. Invariants: nobody has more under way than its window, the leader is asked
//! only for what nobody else can give, and who did not answer rests before it is asked again.

use std::{collections::BTreeMap, time::Duration};

use raft::{Index, NodeId, Time};

/// Everyone who may be asked.
#[derive(Debug)]
pub(super) struct Sources {
    leader: NodeId,
    window_max: usize,
    known: BTreeMap<NodeId, Source>,
    /// Counts what was asked for.
    turn: u64,
}

/// One of them.
#[derive(Debug)]
struct Source {
    /// It holds what is in `(after, commit]`.
    held: Option<(Index, Index)>,
    /// The question about that which is under way, and when it is to be put again.
    asked: u64,
    ask_at: Time,
    inflight: usize,
    /// When it was asked for something the last time.
    turn: u64,
    /// Shrinks when it is slow, and grows again with each answer.
    window: usize,
    /// Failures in a row.
    strikes: u32,
    rests_until: Time,
    /// Until then it may yet say that it holds something.
    hoped_until: Time,
}

impl Sources {
    pub(super) fn new(leader: NodeId, window_max: usize) -> Self {
        Self { leader, window_max, known: BTreeMap::new(), turn: 0 }
    }

    /// One more, who will have said until then what it holds.
    pub(super) fn add(&mut self, node: NodeId, hoped_until: Time) {
        let fresh = Source {
            held: None,
            asked: 0,
            ask_at: Time::default(),
            inflight: 0,
            turn: 0,
            window: self.window_max,
            strikes: 0,
            rests_until: Time::default(),
            hoped_until,
        };
        self.known.insert(node, fresh);
    }

    pub(super) fn remove(&mut self, node: NodeId) {
        self.known.remove(&node);
    }

    #[cfg(test)]
    pub(super) fn has(&self, node: NodeId) -> bool {
        self.known.contains_key(&node)
    }

    /// Whom to ask what it holds, now and then again: what is committed there grows.
    pub(super) fn to_ask(&self, now: Time) -> Vec<NodeId> {
        let due = self.known.iter().filter(|(_, source)| source.ask_at <= now);
        due.map(|(node, _)| *node).collect()
    }

    /// It is asked, under this number.
    pub(super) fn asked(&mut self, node: NodeId, id: u64, again_at: Time) {
        if let Some(source) = self.known.get_mut(&node) {
            (source.asked, source.ask_at) = (id, again_at);
        }
    }

    /// It says what it holds, and is asked again then. Returns whether it was asked that.
    pub(super) fn holds(
        &mut self,
        (node, id): (NodeId, u64),
        held: (Index, Index),
        again_at: Time,
    ) -> bool {
        let source = self.known.get_mut(&node).filter(|source| source.asked == id);
        source.map(|source| (source.held, source.ask_at) = (Some(held), again_at)).is_some()
    }

    /// It cannot give what it was thought to hold.
    pub(super) fn lacks(&mut self, node: NodeId, held: Option<(Index, Index)>) {
        if let Some(source) = self.known.get_mut(&node) {
            (source.held, source.ask_at) = (held, Time::default());
        }
    }

    /// Whom to ask for entries in `(after, last]`; `None` if everyone who could is busy, or
    /// nobody could.
    pub(super) fn choose(&self, now: Time, (after, last): (Index, Index)) -> Option<NodeId> {
        let able = |source: &Source| {
            let covers = |(from, to)| from <= after && last <= to;
            now >= source.rests_until && source.held.is_some_and(covers)
        };
        let others = self.known.iter().filter(|(node, _)| **node != self.leader);
        let able_others: Vec<_> = others.clone().filter(|(_, source)| able(source)).collect();
        if able_others.is_empty() {
            let may_be = |source: &Source| source.held.is_none() && now < source.hoped_until;
            if others.clone().any(|(_, source)| may_be(source)) {
                return None;
            }
            let leader = self.known.get(&self.leader)?;
            return (able(leader) && leader.has_room()).then_some(self.leader);
        }
        let free = able_others.into_iter().filter(|(_, source)| source.has_room());
        free.min_by_key(|(_, source)| (source.inflight, source.turn)).map(|(node, _)| *node)
    }

    /// Whether anyone may be asked for anything.
    pub(super) fn any_room(&self, now: Time) -> bool {
        self.known.values().any(|source| source.has_room() && now >= source.rests_until)
    }

    /// A request to it is under way.
    pub(super) fn begin(&mut self, node: NodeId) {
        if let Some(source) = self.known.get_mut(&node) {
            self.turn += 1;
            (source.inflight, source.turn) = (source.inflight + 1, self.turn);
        }
    }

    /// A request to it is under way no more.
    pub(super) fn end(&mut self, node: NodeId) {
        if let Some(source) = self.known.get_mut(&node) {
            source.inflight = source.inflight.saturating_sub(1);
        }
    }

    /// It gave what it was asked for.
    pub(super) fn gave(&mut self, node: NodeId) {
        let window_max = self.window_max;
        if let Some(source) = self.known.get_mut(&node) {
            source.strikes = 0;
            source.window = (source.window + 1).min(window_max);
        }
    }

    /// It did not answer, or had nothing: it is asked for less, and rests so long, and longer
    /// each time in a row.
    pub(super) fn failed(&mut self, node: NodeId, now: Time, rest: Duration) {
        if let Some(source) = self.known.get_mut(&node) {
            source.window = (source.window / 2).max(1);
            let rest = rest.saturating_mul(1 << source.strikes.min(DOUBLINGS_MAX));
            source.strikes = source.strikes.saturating_add(1);
            source.rests_until = source.rests_until.max(now.plus(rest));
        }
    }

    /// When somebody is to be asked what it holds, has rested, or is hoped for no longer.
    pub(super) fn due(&self, now: Time) -> Option<Time> {
        let asks = self.known.values().map(|source| source.ask_at);
        let waits = |source: &Source| [source.rests_until, source.hoped_until];
        let waits = self.known.values().flat_map(waits).filter(|until| *until > now);
        asks.chain(waits).min()
    }
}

impl Source {
    fn has_room(&self) -> bool {
        self.inflight < self.window
    }
}

const DOUBLINGS_MAX: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: NodeId = NodeId::small(1);
    const TWO: NodeId = NodeId::small(2);
    const THREE: NodeId = NodeId::small(3);

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    /// All hold everything up to these indexes.
    fn sources(held: &[(NodeId, u64)]) -> Sources {
        let mut sources = Sources::new(LEADER, 2);
        for (node, commit) in held {
            sources.add(*node, at(20));
            sources.asked(*node, 7, at(50));
            assert!(sources.holds((*node, 7), (Index(0), Index(*commit)), at(50)));
        }
        sources
    }

    fn choose(sources: &Sources, last: u64) -> Option<NodeId> {
        sources.choose(at(0), (Index(last - 10), Index(last)))
    }

    #[test]
    fn those_who_hold_it_are_asked_by_turns_and_the_leader_last() {
        let mut sources = sources(&[(LEADER, 100), (TWO, 50), (THREE, 100)]);
        let mut asked = Vec::new();
        while let Some(node) = choose(&sources, 20) {
            sources.begin(node);
            asked.push(node);
        }
        assert_eq!(asked, [TWO, THREE, TWO, THREE], "the leader waits while others are at work");
        sources.end(TWO);
        assert_eq!(choose(&sources, 60), None, "2 does not hold it, and 3 does");
        sources.remove(THREE);
        assert_eq!(choose(&sources, 60), Some(LEADER));
        assert_eq!(choose(&sources, 20), Some(TWO));
        assert!(sources.any_room(at(0)));
    }

    #[test]
    fn also_one_request_at_a_time_goes_to_all_in_turn() {
        let mut sources = sources(&[(TWO, 100), (THREE, 100)]);
        let mut asked = Vec::new();
        for _ in 0..4 {
            let node = choose(&sources, 20).expect("both are free");
            sources.begin(node);
            sources.end(node);
            asked.push(node);
        }
        assert_eq!(asked, [TWO, THREE, TWO, THREE]);
    }

    #[test]
    fn who_does_not_answer_is_asked_for_less_and_rests_longer_each_time() {
        let mut sources = sources(&[(TWO, 100)]);
        sources.failed(TWO, at(0), Duration::from_millis(100));
        assert_eq!((choose(&sources, 20), sources.any_room(at(99))), (None, false));
        assert_eq!(sources.due(at(60)), Some(at(50)));
        let choose_at = |sources: &Sources, now| sources.choose(at(now), (Index(10), Index(20)));
        assert_eq!(choose_at(&sources, 100), Some(TWO));
        sources.begin(TWO);
        assert_eq!(choose_at(&sources, 100), None, "its window is halved");
        sources.end(TWO);
        sources.failed(TWO, at(100), Duration::from_millis(100));
        assert_eq!((choose_at(&sources, 299), choose_at(&sources, 300)), (None, Some(TWO)));
        sources.gave(TWO);
        sources.begin(TWO);
        assert_eq!(choose_at(&sources, 300), Some(TWO), "it grows again");
    }

    #[test]
    fn the_leader_waits_for_those_who_have_not_said_yet_what_they_hold() {
        let mut sources = sources(&[(LEADER, 100)]);
        sources.add(TWO, at(20));
        let choose_at = |sources: &Sources, now| sources.choose(at(now), (Index(10), Index(20)));
        assert_eq!((choose_at(&sources, 19), choose_at(&sources, 20)), (None, Some(LEADER)));
        sources.asked(TWO, 7, at(50));
        assert!(sources.holds((TWO, 7), (Index(0), Index(15)), at(50)));
        assert_eq!(choose_at(&sources, 0), Some(LEADER), "it does not hold that");
    }

    #[test]
    fn only_the_answer_to_the_last_question_counts() {
        let mut sources = sources(&[(TWO, 100)]);
        sources.asked(TWO, 8, at(100));
        let few = (Index(0), Index(5));
        assert!(!sources.holds((TWO, 7), few, at(100)) && !sources.holds((THREE, 8), few, at(100)));
        assert!(sources.holds((TWO, 8), (Index(15), Index(200)), at(100)));
        assert_eq!(choose(&sources, 20), None, "that much is compacted away");
        assert_eq!(choose(&sources, 200), Some(TWO));
        sources.lacks(TWO, None);
        assert_eq!((choose(&sources, 200), sources.to_ask(at(0))), (None, vec![TWO]));
    }
}
