//! Plans against a model of peers: what is asked of whom, and what becomes of every answer.
//!
//! What makes a catch-up slow, or ends it, is named where it is shown not to: late, duplicate,
//! overlapping or empty answers, availability that was asked once, odd answers, one request at a
//! time, and entries that are not applied before all of them are there.

use std::collections::BTreeMap;

use raft::{Entry, Payload};

use super::*;
use crate::group::replay::{chunk, frame::Marks};

const LEADER: NodeId = NodeId::small(1);
const TWO: NodeId = NodeId::small(2);
const THREE: NodeId = NodeId::small(3);
const FOUR: NodeId = NodeId::small(4);
const TERM: Term = Term(100);

/// A plan, the truth about the log, and what each peer holds of it.
struct Scene {
    plan: Plan,
    now: Time,
    consensus: ConsensusConfig,
    log: Vec<Entry>,
    /// What each holds, committed.
    held: BTreeMap<NodeId, (u64, u64)>,
    orders: Vec<Order>,
    /// Handed on through here.
    taken: u64,
    distrusted: Vec<NodeId>,
    ended: Option<ReplayEnd>,
    /// What waits to be answered.
    asked: VecDeque<(NodeId, ReplayFrame)>,
    fetching: usize,
}

fn consensus(batch_size: u32) -> ConsensusConfig {
    ConsensusConfig { batch_size, inflight_per_peer_max: 2, ..ConsensusConfig::default() }
}

impl Scene {
    /// A log of so many entries, all committed at the leader and at these.
    fn new(entries: u64, batch_size: u32, peers: &[NodeId]) -> Self {
        Self::with(entries, consensus(batch_size), peers)
    }

    fn with(entries: u64, consensus: ConsensusConfig, peers: &[NodeId]) -> Self {
        let log = (1..=entries).map(|index| Entry {
            position: Position { term: Term(1 + index / 1_000), index: Index(index) },
            payload: Payload::OpenSession { nonce: index },
        });
        let now = Time(Duration::from_secs(1));
        let goal = Goal { leader: LEADER, term: TERM, after: Index(0), commit: Index(entries) };
        let mut scene = Self {
            plan: Plan::new(&consensus, goal, Ledger::new(7), now),
            now,
            consensus,
            log: log.collect(),
            held: BTreeMap::new(),
            orders: Vec::new(),
            taken: 0,
            distrusted: Vec::new(),
            ended: None,
            asked: VecDeque::new(),
            fetching: 0,
        };
        for node in peers.iter().chain(&[LEADER]) {
            scene.held.insert(*node, (0, entries));
            scene.plan.bonded(now, *node);
        }
        scene.go();
        scene
    }

    fn go(&mut self) {
        self.plan.go(self.now, &mut self.orders);
        self.obey();
    }

    /// The next plan, after one that came to nothing.
    fn again(self) -> Self {
        let goal = Goal { after: Index(self.taken), ..self.plan.goal };
        let plan = Plan::new(&self.consensus, goal, self.plan.end(), self.now);
        let mut next = Self { plan, ended: None, ..self };
        for node in next.held.keys().copied().collect::<Vec<_>>() {
            next.plan.bonded(next.now, node);
        }
        next.go();
        next
    }

    /// Time passes up to the next thing that is due.
    fn wait(&mut self) {
        let due = self.plan.due(self.now);
        assert!(due > self.now, "it would wake up for nothing again and again");
        self.now = due;
        self.go();
    }

    fn obey(&mut self) {
        for order in std::mem::take(&mut self.orders) {
            match order {
                Order::Send { to, frame: ReplayFrame::Fetching { term, ends: false } } => {
                    assert_eq!((to, term), (LEADER, TERM));
                    self.fetching += 1;
                }
                Order::Send { to, frame } => self.asked.push_back((to, frame)),
                Order::Take { prev, last, entries } => {
                    assert_eq!(prev.index.0, self.taken, "in order and without a gap");
                    let entries = chunk::decode(prev, last, &entries).expect("it was proven");
                    assert_eq!(
                        entries.to_vec(),
                        self.log[self.taken as usize..last.index.0 as usize]
                    );
                    self.taken = last.index.0;
                    self.plan.advance(self.now, last.index);
                }
                Order::Distrust { node } => self.distrusted.push(node),
                Order::End(end) => self.ended = Some(end),
            }
        }
    }

    fn hear(&mut self, from: NodeId, frame: ReplayFrame) {
        frame.check().expect("the test plays peers that keep to the form");
        self.plan.heard(self.now, from, frame, &mut self.orders);
        self.obey();
    }

    /// What an honest peer answers.
    fn honest(&self, by: NodeId, frame: &ReplayFrame) -> Option<ReplayFrame> {
        let (from, commit) = *self.held.get(&by)?;
        let holds = |id| ReplayFrame::Held { id, after: Index(from), commit: Index(commit) };
        Some(match *frame {
            ReplayFrame::AskHeld { id } => holds(id),
            ReplayFrame::Fetch { id, after, last } if from <= after.0 && last.0 <= commit => {
                ReplayFrame::Entries { id, entries: self.encoded(after.0, last.0) }
            }
            ReplayFrame::Fetch { id, .. } => holds(id),
            ReplayFrame::AskMarks { id, after, .. } if after.0 < from => holds(id),
            ReplayFrame::AskMarks { id, term, after } => {
                ReplayFrame::Marks(self.marks(id, term, after.0, commit))
            }
            _ => return None,
        })
    }

    fn marks(&self, id: u64, term: Term, after: u64, commit: u64) -> Marks {
        let (mut at, mut marks) = (after, Vec::new());
        while at < commit && marks.len() < 5 {
            let last = commit.min(at + u64::from(self.consensus.batch_size));
            let encoded = self.encoded(at, last);
            let digest = chunk::digest(self.at(at), &encoded);
            marks.push(Mark { last: self.at(last), bytes: encoded.len() as u32, digest });
            at = last;
        }
        Marks { id, term, prev: self.at(after), marks, commit: Index(commit) }
    }

    fn at(&self, index: u64) -> Position {
        match index {
            0 => Position::default(),
            index => self.log[index as usize - 1].position,
        }
    }

    fn encoded(&self, after: u64, last: u64) -> Bytes {
        let mut encoded = Vec::new();
        let entries = &self.log[after as usize..last as usize];
        chunk::encode([entries.into()].into_iter(), &mut encoded);
        encoded.into()
    }

    /// Answers everything that is asked, by these rules, until nothing more is; `None` is no
    /// answer.
    fn play(&mut self, mut rule: impl FnMut(&Self, NodeId, &ReplayFrame) -> Option<ReplayFrame>) {
        while let Some((to, frame)) = self.asked.pop_front() {
            if let Some(answer) = rule(self, to, &frame) {
                self.hear(to, answer);
            }
        }
    }

    /// The same, and time passes, until it ends.
    fn play_out(
        &mut self,
        mut rule: impl FnMut(&Self, NodeId, &ReplayFrame) -> Option<ReplayFrame>,
    ) {
        for _ in 0..100_000 {
            self.play(&mut rule);
            if self.ended.is_some() {
                return;
            }
            self.wait();
        }
        panic!("it never ends; handed on through {}", self.taken);
    }

    /// Takes out the fetches that are asked, and answers the rest honestly.
    fn fetches(&mut self) -> Vec<(NodeId, ReplayFrame)> {
        let mut fetches = Vec::new();
        self.play(|scene, to, frame| {
            if let ReplayFrame::Fetch { .. } = frame {
                fetches.push((to, frame.clone()));
                return None;
            }
            scene.honest(to, frame)
        });
        fetches
    }

    fn give(&mut self, fetches: &[(NodeId, ReplayFrame)]) {
        for (to, frame) in fetches {
            let answer = self.honest(*to, frame).expect("it is honest");
            self.hear(*to, answer);
        }
    }

    fn caught_up(&self) {
        assert_eq!(self.ended, Some(ReplayEnd::CaughtUp));
        let left = self.log.len() as u64 - self.taken;
        assert!(left <= TAIL_ENTRIES, "{left} are left");
    }

    fn chunks_of(&self, node: NodeId) -> u64 {
        let sources = &self.plan.ledger.tally.sources;
        sources.iter().find(|source| source.node == node).map_or(0, |source| source.chunks)
    }
}

fn range(frame: &ReplayFrame) -> (u64, u64) {
    let ReplayFrame::Fetch { after, last, .. } = frame else { panic!("no fetch: {frame:?}") };
    (after.0, last.0)
}

fn id(frame: &ReplayFrame) -> u64 {
    match *frame {
        ReplayFrame::Fetch { id, .. } | ReplayFrame::AskHeld { id } => id,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn all_give_a_share_and_the_leader_only_its_word() {
    for batch_size in [1, 7, 2_000, 100_000] {
        let mut scene = Scene::new(10_000, batch_size, &[TWO, THREE, FOUR]);
        scene.play_out(Scene::honest);
        scene.caught_up();
        assert_eq!(scene.chunks_of(LEADER), 0);
        if batch_size < 10_000 {
            assert!([TWO, THREE, FOUR].iter().all(|node| scene.chunks_of(*node) > 0));
        }
        let tally = &scene.plan.ledger.tally;
        assert_eq!((tally.wrong, tally.late, tally.duplicate, tally.unasked), (0, 0, 0, 0));
        assert!(scene.fetching > 0 && tally.entries == scene.taken);
    }
}

/// One request at a time for each peer would leave every link idle for a round trip after each.
#[test]
fn several_requests_are_under_way_to_each_and_no_more_than_may_be() {
    let mut scene = Scene::new(50_000, 1_000, &[TWO, THREE]);
    let fetches = scene.fetches();
    let to = |node| fetches.iter().filter(|(to, _)| *to == node).count();
    assert_eq!((to(TWO), to(THREE), to(LEADER)), (2, 2, 0));
    let ranges: Vec<_> = fetches.iter().map(|(_, frame)| range(frame)).collect();
    assert_eq!(ranges, [(0, 1_000), (1_000, 2_000), (2_000, 3_000), (3_000, 4_000)]);
}

/// Nothing waits until all of it is there.
#[test]
fn entries_are_handed_on_as_they_come_in_order() {
    let mut scene = Scene::new(50_000, 1_000, &[TWO, THREE]);
    let fetches = scene.fetches();
    scene.give(&fetches[1..2]);
    assert_eq!(scene.taken, 0, "what comes before is not here yet");
    scene.give(&fetches[..1]);
    assert_eq!(scene.taken, 2_000);
    scene.give(&fetches[3..4]);
    assert_eq!(scene.taken, 2_000);
    scene.give(&fetches[2..3]);
    assert_eq!(scene.taken, 4_000);
    scene.play_out(Scene::honest);
    scene.caught_up();
}

/// The second of two answers for one chunk wedges nothing.
#[test]
fn late_and_duplicate_answers_are_merged_or_ignored() {
    let mut scene = Scene::new(20_000, 1_000, &[TWO, THREE]);
    let slow = scene.fetches();
    scene.now = scene.now.plus(scene.consensus.fetch_timeout);
    scene.go();
    assert_eq!(scene.plan.ledger.tally.overdue, 4);
    // The others rest, so it is the leader's turn at last.
    let again = scene.fetches();
    assert!(!again.is_empty() && again.iter().all(|(to, _)| *to == LEADER));
    assert_eq!(range(&again[0].1), (0, 1_000));
    scene.give(&slow[..1]);
    assert_eq!((scene.taken, scene.plan.ledger.tally.late), (1_000, 1), "late and welcome");
    scene.give(&again[..1]);
    scene.give(&slow[..1]);
    let tally = &scene.plan.ledger.tally;
    assert_eq!((scene.taken, tally.duplicate, tally.unasked), (1_000, 1, 1));
    scene.give(&slow[1..]);
    scene.give(&again[1..]);
    scene.play_out(Scene::honest);
    scene.caught_up();
    assert_eq!(scene.plan.ledger.tally.entries, scene.taken, "each is counted once");
}

/// An answer without entries wedges nothing.
#[test]
fn an_empty_answer_is_no_answer() {
    let mut scene = Scene::new(20_000, 1_000, &[TWO, THREE]);
    scene.play_out(|scene, to, frame| match frame {
        ReplayFrame::Fetch { id, .. } if to == TWO => {
            Some(ReplayFrame::Entries { id: *id, entries: Bytes::new() })
        }
        frame => scene.honest(to, frame),
    });
    scene.caught_up();
    assert!(scene.plan.ledger.tally.empty > 0);
    assert_eq!((scene.chunks_of(TWO), scene.distrusted.as_slice()), (0, &[][..]));
}

/// What one peer holds cuts no chunk short: those behind it would overlap with it.
#[test]
fn chunks_never_overlap_whatever_is_held_where() {
    let mut scene = Scene::new(8_000, 2_000, &[TWO, THREE, FOUR]);
    scene.held.insert(TWO, (0, 1_500));
    let fetches = scene.fetches();
    assert!(fetches.iter().all(|(to, _)| *to != TWO), "it holds no whole chunk");
    let mut ranges: Vec<_> = fetches.iter().map(|(_, frame)| range(frame)).collect();
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 == pair[1].0), "{ranges:?}");
    scene.plan.gone(TWO);
    scene.plan.gone(THREE);
    scene.held.remove(&THREE);
    let left: Vec<_> = fetches.into_iter().filter(|(to, _)| *to == FOUR).collect();
    scene.give(&left);
    scene.play_out(Scene::honest);
    scene.caught_up();
}

/// What was not committed yet when it was asked is to be had later.
#[test]
fn what_is_held_is_asked_again_until_it_is_committed_there_too() {
    let mut scene = Scene::new(20_000, 1_000, &[TWO]);
    scene.held.insert(TWO, (0, 3_000));
    // The leader itself gives nothing.
    let rule = |scene: &Scene, to: NodeId, frame: &ReplayFrame| match frame {
        ReplayFrame::Fetch { .. } | ReplayFrame::AskHeld { .. } if to == LEADER => None,
        frame => scene.honest(to, frame),
    };
    scene.play(rule);
    assert_eq!(scene.taken, 3_000);
    scene.held.insert(TWO, (0, 20_000));
    scene.play_out(rule);
    scene.caught_up();
}

#[test]
fn who_is_far_away_is_used_like_any_other() {
    let mut scene = Scene::new(20_000, 1_000, &[TWO, THREE]);
    // Every answer takes 300 ms, far longer than a heartbeat.
    let far = Duration::from_millis(300);
    let mut under_way: VecDeque<(Time, NodeId, ReplayFrame)> = VecDeque::new();
    while scene.ended.is_none() {
        while let Some((to, frame)) = scene.asked.pop_front() {
            let answer = scene.honest(to, &frame).expect("it is honest");
            under_way.push_back((scene.now.plus(far), to, answer));
        }
        match under_way.front() {
            Some((at, _, _)) if *at <= scene.plan.due(scene.now) => {
                let (at, from, answer) = under_way.pop_front().expect("it was just seen");
                scene.now = scene.now.max(at);
                scene.hear(from, answer);
            }
            _ => scene.wait(),
        }
    }
    scene.caught_up();
    assert!(scene.chunks_of(TWO) > 5 && scene.chunks_of(THREE) > 5);
    assert_eq!((scene.plan.ledger.tally.overdue, scene.plan.ledger.tally.unasked), (0, 0));
}

/// A tail that nobody has committed holds nothing up: the leader gives what nobody else holds, and
/// what it has not committed comes by its appends.
#[test]
fn what_nobody_else_holds_the_leader_gives() {
    let mut scene = Scene::new(20_000, 1_000, &[TWO]);
    scene.held.insert(TWO, (0, 10_000));
    scene.play_out(Scene::honest);
    scene.caught_up();
    assert!(scene.chunks_of(LEADER) >= 9, "{:?}", scene.plan.ledger.tally);
    let mut alone = Scene::new(20_000, 1_000, &[]);
    alone.play_out(Scene::honest);
    alone.caught_up();
}

/// One lost answer of the only peer that gives any is not the end.
#[test]
fn what_is_lost_is_asked_again() {
    let mut scene = Scene::new(30_000, 1_000, &[TWO]);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    scene.play_out(|scene, to, frame| {
        let is_lost = random.next_u64() % 4 == 0;
        if is_lost { None } else { scene.honest(to, frame) }
    });
    scene.caught_up();
    assert!(scene.plan.ledger.tally.overdue > 0);
}

/// Who holds more than the others is no reason to throw away what is here.
#[test]
fn who_comes_and_goes_costs_nothing_that_is_here_already() {
    let mut scene = Scene::new(40_000, 1_000, &[TWO]);
    let first = scene.fetches();
    scene.give(&first[1..]);
    scene.held.insert(THREE, (0, 40_000));
    scene.plan.bonded(scene.now, THREE);
    scene.go();
    let more = scene.fetches();
    assert!(more.iter().any(|(to, _)| *to == THREE));
    let all = first.iter().chain(&more).map(|(_, frame)| range(frame));
    let distinct: BTreeSet<_> = all.clone().collect();
    assert_eq!(distinct.len(), all.count(), "nothing is asked twice");
    scene.plan.gone(TWO);
    scene.held.remove(&TWO);
    scene.go();
    scene.give(&more.into_iter().filter(|(to, _)| *to == THREE).collect::<Vec<_>>());
    scene.play_out(Scene::honest);
    scene.caught_up();
    assert_eq!(scene.plan.ledger.tally.entries, scene.taken);
}

#[test]
fn the_chunks_of_who_dies_are_asked_of_others_at_once() {
    let mut scene = Scene::new(20_000, 1_000, &[TWO, THREE]);
    let fetches = scene.fetches();
    scene.plan.gone(TWO);
    scene.held.remove(&TWO);
    scene.give(&fetches.iter().filter(|(to, _)| *to == THREE).cloned().collect::<Vec<_>>());
    let again: Vec<_> = scene.fetches().iter().map(|(to, frame)| (*to, range(frame).0)).collect();
    assert_eq!(again, [(THREE, 0), (THREE, 2_000)]);
}

#[test]
fn who_lies_is_found_out_named_and_never_asked_again() {
    let mut scene = Scene::new(30_000, 1_000, &[TWO, THREE]);
    scene.play_out(|scene, to, frame| match frame {
        ReplayFrame::Fetch { id, after, last } if to == TWO => {
            let mut lie = scene.encoded(after.0, last.0).to_vec();
            let middle = lie.len() / 2;
            lie[middle] ^= 1;
            Some(ReplayFrame::Entries { id: *id, entries: lie.into() })
        }
        frame => scene.honest(to, frame),
    });
    scene.caught_up();
    assert_eq!(scene.distrusted, [TWO]);
    assert_eq!((scene.plan.ledger.tally.wrong, scene.chunks_of(TWO)), (1, 0));
    // Nor after it came back, nor by the next plan.
    scene.plan.bonded(scene.now, TWO);
    assert!(!scene.plan.sources.has(TWO));
    let (consensus, goal) = (scene.consensus.clone(), scene.plan.goal);
    let mut next = Plan::new(&consensus, goal, scene.plan.end(), scene.now);
    next.bonded(scene.now, TWO);
    assert!(!next.sources.has(TWO));
}

/// True entries of another place, true entries and more, and some of them only.
#[test]
fn only_the_very_chunk_is_believed() {
    for wrong in [(1_000, 2_000), (0, 999), (0, 1_001), (1, 1_000)] {
        let mut scene = Scene::new(20_000, 1_000, &[TWO]);
        let fetches = scene.fetches();
        assert_eq!(range(&fetches[0].1), (0, 1_000));
        let entries = scene.encoded(wrong.0, wrong.1);
        scene.hear(TWO, ReplayFrame::Entries { id: id(&fetches[0].1), entries });
        assert_eq!((scene.taken, scene.distrusted.as_slice()), (0, &[TWO][..]), "{wrong:?}");
    }
}

#[test]
fn answers_of_others_than_were_asked_count_for_nothing() {
    let mut scene = Scene::new(20_000, 1_000, &[TWO, THREE]);
    let fetches = scene.fetches();
    let (to, frame) = &fetches[0];
    let other = if *to == TWO { THREE } else { TWO };
    let answer = scene.honest(*to, frame).expect("it is honest");
    for from in [other, LEADER, FOUR] {
        scene.hear(from, answer.clone());
    }
    let lie = ReplayFrame::Entries { id: id(frame), entries: Bytes::from_static(b"lie") };
    scene.hear(other, lie);
    let marks = scene.marks(id(frame), TERM, 0, 20_000);
    for from in [*to, LEADER] {
        scene.hear(from, ReplayFrame::Marks(marks.clone()));
    }
    assert_eq!((scene.taken, scene.plan.ledger.tally.unasked), (0, 6));
    assert!(scene.distrusted.is_empty(), "it was not asked, so it told no lie");
    scene.hear(*to, answer);
    assert_eq!(scene.taken, 1_000);
}

#[test]
fn who_is_busy_is_asked_again_after_a_while() {
    let mut scene = Scene::new(20_000, 1_000, &[TWO]);
    let mut count = 0;
    scene.play_out(|scene, to, frame| match frame {
        ReplayFrame::Fetch { id, .. } | ReplayFrame::AskMarks { id, .. } => {
            count += 1;
            let is_busy = count % 2 == 0;
            if is_busy { Some(ReplayFrame::Busy { id: *id }) } else { scene.honest(to, frame) }
        }
        frame => scene.honest(to, frame),
    });
    scene.caught_up();
    assert!(scene.plan.ledger.tally.busy > 0);
    assert_eq!(scene.plan.ledger.tally.overdue, 0);
}

#[test]
fn where_nothing_comes_any_more_the_plan_ends_and_the_leader_goes_on() {
    let mut scene = Scene::new(20_000, 1_000, &[TWO]);
    let began = scene.now;
    scene.play_out(|_, _, _| None);
    assert_eq!(scene.ended, Some(ReplayEnd::Stalled));
    let patience = scene.consensus.fetch_timeout * STALLS_AFTER;
    assert_eq!(scene.now.since(began), patience);
    assert!(scene.fetching >= 4 * 20, "the leader is told so again and again: {}", scene.fetching);
}

/// Joining costs no more than what the leader has not compacted yet: where what comes next is gone
/// there, only a snapshot has it.
#[test]
fn what_is_compacted_away_ends_the_plan() {
    let mut scene = Scene::new(20_000, 1_000, &[TWO]);
    scene.held.insert(LEADER, (5_000, 20_000));
    scene.play_out(Scene::honest);
    assert_eq!(scene.ended, Some(ReplayEnd::Compacted));
    assert_eq!(scene.taken, 0);
}

#[test]
fn a_peer_that_has_compacted_it_is_not_asked_for_it() {
    let mut scene = Scene::new(20_000, 1_000, &[TWO, THREE]);
    scene.held.insert(TWO, (10_000, 20_000));
    scene.play_out(Scene::honest);
    scene.caught_up();
    assert!(scene.chunks_of(THREE) >= 10 && scene.chunks_of(TWO) > 0);
    assert_eq!(scene.plan.ledger.tally.empty, 0);
}

#[test]
fn what_came_by_appends_meanwhile_is_not_fetched() {
    let mut scene = Scene::new(20_000, 1_000, &[TWO, THREE]);
    let fetches = scene.fetches();
    scene.plan.advance(scene.now, Index(2_500));
    scene.taken = 2_000;
    scene.go();
    scene.give(&fetches[..2]);
    assert_eq!(scene.plan.ledger.tally.duplicate, 2);
    scene.give(&fetches[2..]);
    assert_eq!(scene.taken, 4_000);
    scene.play_out(Scene::honest);
    scene.caught_up();
}

#[test]
fn a_writer_that_never_stops_does_not_keep_it_from_ending() {
    let mut scene = Scene::new(60_000, 1_000, &[TWO, THREE]);
    let mut commit = 20_000;
    scene.plan.goal.commit = Index(commit);
    scene.play_out(|scene, to, frame| {
        commit = (commit + 100).min(60_000);
        match frame {
            ReplayFrame::AskMarks { id, term, after } => {
                Some(ReplayFrame::Marks(scene.marks(*id, *term, after.0, commit)))
            }
            frame => scene.honest(to, frame),
        }
    });
    assert_eq!(scene.ended, Some(ReplayEnd::CaughtUp));
    assert!(scene.plan.goal.commit.since(Index(scene.taken)) <= TAIL_ENTRIES);
    assert!(scene.taken > 20_000);
}

#[test]
fn no_more_is_fetched_in_a_second_than_may_be() {
    let rate = 1 << 16;
    let consensus = ConsensusConfig { catch_up_rate_max: rate, ..consensus(500) };
    let mut scene = Scene::with(50_000, consensus, &[TWO, THREE]);
    let began = scene.now;
    scene.play_out(Scene::honest);
    scene.caught_up();
    let bytes = scene.plan.ledger.tally.bytes() as f64;
    let took = scene.now.since(began).as_secs_f64();
    assert!(took > bytes / f64::from(rate) - 0.2, "{bytes} bytes in {took} s");
}

#[test]
fn while_the_store_is_behind_nothing_is_asked_and_nothing_handed_on() {
    let mut scene = Scene::new(20_000, 1_000, &[TWO]);
    let fetches = scene.fetches();
    scene.plan.hold_back(true);
    scene.give(&fetches);
    assert_eq!((scene.taken, scene.fetches().len()), (0, 0));
    for _ in 0..200 {
        scene.wait();
    }
    assert_eq!(scene.ended, None, "it is no stall");
    scene.plan.hold_back(false);
    scene.go();
    assert_eq!(scene.taken, 2_000);
    scene.play_out(Scene::honest);
    scene.caught_up();
}

/// Nothing is asserted of what peers say. Whatever is answered, by whomever, in whatever order and
/// however often: nothing panics, nothing wrong is handed on, and as long as somebody is honest it
/// comes to an end.
#[test]
fn no_storm_of_answers_wedges_it_or_makes_it_panic() {
    for seed in 0..200 {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let batch_size = [1, 7, 500, 100_000][seed as usize % 4];
        let mut scene = Scene::new(6_000, batch_size, &[TWO, THREE, FOUR]);
        let mut late: Vec<(NodeId, ReplayFrame)> = Vec::new();
        for _ in 0..2_000 {
            storm(&mut scene, &mut random, &mut late);
            match scene.ended {
                Some(ReplayEnd::Stalled) => scene = scene.again(),
                Some(_) => break,
                None => {}
            }
        }
        // Then it is calm.
        if scene.ended.is_none() {
            scene.plan.bonded(scene.now, LEADER);
            scene.held.insert(LEADER, (0, 6_000));
            scene.go();
            scene.play_out(Scene::honest);
        }
        assert!(!scene.distrusted.contains(&THREE), "seed {seed}: it is honest");
        assert!(matches!(scene.ended, Some(ReplayEnd::CaughtUp)), "seed {seed}: {:?}", scene.ended);
    }
}

/// One thing happens.
fn storm(
    scene: &mut Scene,
    random: &mut Xoshiro256PlusPlus,
    late: &mut Vec<(NodeId, ReplayFrame)>,
) {
    let draw = random.next_u64();
    let node = [LEADER, TWO, THREE, FOUR][(draw >> 8) as usize % 4];
    match draw % 16 {
        0 => scene.plan.bonded(scene.now, node),
        1 => scene.plan.gone(node),
        2 | 3 => {
            scene.now = scene.now.plus(Duration::from_millis((draw >> 16) % 300));
            scene.go();
        }
        4 if !late.is_empty() => {
            let at = (draw >> 16) as usize % late.len();
            let (from, frame) = late[at].clone();
            scene.hear(from, frame);
        }
        5 => {
            let entries = Bytes::from(vec![1; (draw >> 16) as usize % 50]);
            scene.hear(node, ReplayFrame::Entries { id: draw >> 20, entries });
        }
        6 => scene.hear(node, ReplayFrame::Busy { id: draw >> 20 }),
        _ => {
            let Some((to, frame)) = scene.asked.pop_front() else { return scene.go() };
            let Some(mut answer) = scene.honest(to, &frame) else { return };
            if to == FOUR
                && let ReplayFrame::Entries { entries, .. } = &mut answer
            {
                *entries = entries.slice(..entries.len() / 2);
            }
            late.push((to, answer.clone()));
            if draw & (1 << 40) == 0 {
                scene.hear(to, answer);
            }
        }
    }
}
