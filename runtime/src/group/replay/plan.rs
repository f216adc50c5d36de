//! Which chunk is asked of whom, and what is done with the answers. No I/O, no clock, no log.
//!
//! Chunks are what the leader vouches for: they lie end to end, so no two overlap, and a chunk
//! is true whoever brings it. Invariants: each chunk is handed on once, in order; whatever the
//! answers are, a chunk that is not here is asked for again or the plan ends; and it holds no
//! more than `AHEAD_BYTES_MAX` and one chunk.

mod answer;
mod sources;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use raft::{Index, NodeId, Position, Term, Time};
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use sources::Sources;

use crate::{
    ConsensusConfig,
    group::replay::{
        frame::{Mark, ReplayFrame},
        tally::{ReplayEnd, Replayed},
        throttle::Throttle,
    },
};

/// What a plan wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Send this. It may be lost.
    Send { to: NodeId, frame: ReplayFrame },
    /// Hand this chunk to the core: its leader vouches for it.
    Take { prev: Position, last: Position, entries: Bytes },
    /// This member gave what the leader does not vouch for: it is asked no more.
    Distrust { node: NodeId },
    /// Nothing more is to be fetched.
    End(ReplayEnd),
}

/// What outlives each plan.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) tally: Replayed,
    /// They have lied.
    distrusted: BTreeSet<NodeId>,
    /// The last number of a question; never said twice by this process.
    last_id: u64,
    random: Xoshiro256PlusPlus,
}

/// From where to where, on whose word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Goal {
    pub(crate) leader: NodeId,
    pub(crate) term: Term,
    /// What is committed here.
    pub(crate) after: Index,
    /// What is committed there.
    pub(crate) commit: Index,
}

/// One follower's way to its leader.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) ledger: Ledger,
    goal: Goal,
    sources: Sources,
    /// What the leader vouches for and is not handed on, in order and without a gap.
    chunks: VecDeque<Chunk>,
    /// Under way, or overdue; by their numbers.
    requests: BTreeMap<u64, Request>,
    /// The end of the last chunk.
    marked: Index,
    /// The question for more, and when it is put again.
    marks_asked: Option<(u64, Time)>,
    renew_at: Time,
    /// When it came nearer to its goal the last time.
    moved_at: Time,
    throttle: Throttle,
    fetch_timeout: Duration,
    renew: Duration,
    /// The store is behind: nothing is asked for or handed on.
    held_back: bool,
}

#[derive(Debug)]
struct Chunk {
    prev: Position,
    mark: Mark,
    state: State,
}

#[derive(Debug)]
enum State {
    Wanted,
    /// Asked for, under this number.
    Asked(u64),
    /// Proven to be what the leader vouches for.
    Here(Bytes),
}

#[derive(Clone, Copy, Debug)]
struct Request {
    of: NodeId,
    /// The last index of its chunk.
    last: Index,
    due: Time,
    overdue: bool,
}

impl Ledger {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            tally: Replayed::default(),
            distrusted: BTreeSet::new(),
            last_id: seed,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
        }
    }

    fn number(&mut self) -> u64 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    /// Between half of it and the whole.
    fn jittered(&mut self, whole: Duration) -> Duration {
        let half = whole / 2;
        let ns = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(self.random.next_u64() % ns)
    }
}

impl Plan {
    /// A plan that has asked nothing yet.
    pub(crate) fn new(
        consensus: &ConsensusConfig,
        goal: Goal,
        mut ledger: Ledger,
        now: Time,
    ) -> Self {
        ledger.tally.begun += 1;
        ledger.tally.active = true;
        Self {
            ledger,
            goal,
            sources: Sources::new(goal.leader, consensus.inflight_per_peer_max as usize),
            chunks: VecDeque::new(),
            requests: BTreeMap::new(),
            marked: goal.after,
            marks_asked: None,
            renew_at: now,
            moved_at: now,
            throttle: Throttle::new(consensus.catch_up_rate_max.into()),
            fetch_timeout: consensus.fetch_timeout,
            renew: consensus.heartbeat_interval,
            held_back: false,
        }
    }

    /// Whom it follows, and in which term.
    pub(crate) fn on_the_word_of(&self) -> (NodeId, Term) {
        (self.goal.leader, self.goal.term)
    }

    /// This member is bonded, so it may be asked.
    pub(crate) fn bonded(&mut self, now: Time, node: NodeId) {
        if !self.ledger.distrusted.contains(&node) {
            self.gone(node);
            self.sources.add(node, now.plus(self.renew));
        }
    }

    /// The bond with it is gone: others give what was asked of it.
    pub(crate) fn gone(&mut self, node: NodeId) {
        self.sources.remove(node);
        let lost = self.requests.extract_if(.., |_, request| request.of == node);
        for (id, request) in lost.collect::<Vec<_>>() {
            self.want_again(id, request.last);
        }
    }

    /// So much is committed here, however it came.
    pub(crate) fn advance(&mut self, now: Time, commit: Index) {
        if commit <= self.goal.after {
            return;
        }
        (self.goal.after, self.moved_at) = (commit, now);
        while self.chunks.front().is_some_and(|chunk| chunk.mark.last.index <= commit) {
            if let Some(Chunk { state: State::Asked(id), .. }) = self.chunks.pop_front() {
                self.forget(id);
            }
        }
        self.marked = self.marked.max(commit);
    }

    /// The store is too far behind to take more, or is so no longer.
    pub(crate) fn hold_back(&mut self, held_back: bool) {
        self.held_back = held_back;
    }

    /// Does what is due.
    pub(crate) fn go(&mut self, now: Time, orders: &mut Vec<Order>) {
        self.expire(now);
        if self.held_back {
            self.moved_at = now;
            return self.renew(now, orders);
        }
        self.hand_on(now, orders);
        self.ledger.tally.behind = self.goal.commit.since(self.goal.after);
        if self.is_done() {
            return orders.push(Order::End(ReplayEnd::CaughtUp));
        }
        if self.throttle.free_at() > now {
            // It is its own rate that it waits for.
            self.moved_at = now;
        }
        if now.since(self.moved_at) >= self.fetch_timeout.saturating_mul(STALLS_AFTER) {
            return orders.push(Order::End(ReplayEnd::Stalled));
        }
        self.renew(now, orders);
        self.ask_what_is_held(now, orders);
        self.ask_for_marks(now, orders);
        self.assign(now, orders);
    }

    /// When something is due, if nothing comes before.
    pub(crate) fn due(&self, now: Time) -> Time {
        let stalls = self.moved_at.plus(self.fetch_timeout.saturating_mul(STALLS_AFTER));
        if self.held_back {
            return self.renew_at;
        }
        let is_wanted = self.chunks.iter().any(|chunk| matches!(chunk.state, State::Wanted));
        let throttle = Some(self.throttle.free_at()).filter(|at| is_wanted && *at > now);
        let marks = self.marks_asked.map(|(_, at)| at);
        let requests = self.requests.values().filter(|request| !request.overdue);
        let requests = requests.map(|request| request.due).min();
        let others = [throttle, marks, requests, self.sources.due(now)];
        others.into_iter().flatten().fold(stalls.min(self.renew_at), Time::min)
    }

    /// What is left when it is over.
    pub(crate) fn end(mut self) -> Ledger {
        self.ledger.tally.active = false;
        self.ledger
    }

    /// Whether the leader's own appends can do the rest.
    fn is_done(&self) -> bool {
        self.chunks.is_empty() && self.goal.commit.since(self.marked) <= TAIL_ENTRIES
    }

    /// Hands on what is here, as far as nothing is missing before it.
    fn hand_on(&mut self, now: Time, orders: &mut Vec<Order>) {
        while let Some(Chunk { prev, mark, state: State::Here(entries) }) = self.chunks.front() {
            let (prev, last, entries) = (*prev, mark.last, entries.clone());
            (self.goal.after, self.moved_at) = (last.index, now);
            orders.push(Order::Take { prev, last, entries });
            self.chunks.pop_front();
        }
    }

    /// The leader shall send nothing meanwhile. Said again and again: it goes on by itself when
    /// it hears no more of it.
    fn renew(&mut self, now: Time, orders: &mut Vec<Order>) {
        if now >= self.renew_at {
            self.renew_at = now.plus(self.renew);
            let frame = ReplayFrame::Fetching { term: self.goal.term, ends: false };
            orders.push(Order::Send { to: self.goal.leader, frame });
        }
    }

    fn ask_what_is_held(&mut self, now: Time, orders: &mut Vec<Order>) {
        for node in self.sources.to_ask(now) {
            let id = self.ledger.number();
            // A far peer is not asked again before it can have answered.
            self.sources.asked(node, id, now.plus(self.fetch_timeout));
            orders.push(Order::Send { to: node, frame: ReplayFrame::AskHeld { id } });
        }
    }

    fn ask_for_marks(&mut self, now: Time, orders: &mut Vec<Order>) {
        if self.marks_asked.is_some_and(|(_, again_at)| now < again_at) {
            return;
        }
        self.marks_asked = None;
        let is_enough = self.chunks.len() >= CHUNKS_AHEAD
            || self.ahead_bytes() >= AHEAD_BYTES_MAX
            || self.goal.commit.since(self.marked) <= TAIL_ENTRIES;
        if is_enough {
            return;
        }
        let (id, after) = (self.ledger.number(), self.marked);
        self.marks_asked = Some((id, now.plus(self.fetch_timeout)));
        let frame = ReplayFrame::AskMarks { id, term: self.goal.term, after };
        orders.push(Order::Send { to: self.goal.leader, frame });
    }

    /// Asks for what is wanted, the first first.
    fn assign(&mut self, now: Time, orders: &mut Vec<Order>) {
        let mut ahead_bytes = 0;
        for chunk in &mut self.chunks {
            let is_first = ahead_bytes == 0;
            ahead_bytes += u64::from(chunk.mark.bytes);
            if !is_first && ahead_bytes > AHEAD_BYTES_MAX {
                return;
            }
            let State::Wanted = chunk.state else { continue };
            if self.throttle.free_at() > now || !self.sources.any_room(now) {
                return;
            }
            let range @ (after, last) = (chunk.prev.index, chunk.mark.last.index);
            let Some(of) = self.sources.choose(now, range) else { continue };
            let id = self.ledger.number();
            let due = now.plus(self.fetch_timeout);
            self.requests.insert(id, Request { of, last, due, overdue: false });
            self.sources.begin(of);
            self.throttle.take(now, chunk.mark.bytes.into());
            chunk.state = State::Asked(id);
            orders.push(Order::Send { to: of, frame: ReplayFrame::Fetch { id, after, last } });
        }
    }

    /// What was not answered in time is asked of others. The late answer is still known, and
    /// welcome if it comes first.
    fn expire(&mut self, now: Time) {
        let expired =
            self.requests.iter_mut().filter(|(_, request)| !request.overdue && request.due <= now);
        let expired: Vec<_> = expired
            .map(|(id, request)| {
                request.overdue = true;
                (*id, *request)
            })
            .collect();
        for (id, Request { of, last, .. }) in expired {
            self.ledger.tally.overdue += 1;
            self.sources.end(of);
            let rest = self.ledger.jittered(self.fetch_timeout);
            self.sources.failed(of, now, rest);
            self.want_again(id, last);
        }
        while self.requests.len() > REQUESTS_MAX {
            let Some((id, request)) = self.requests.pop_first() else { break };
            if !request.overdue {
                self.sources.end(request.of);
                self.want_again(id, request.last);
            }
        }
    }

    /// The chunk is wanted again, if it still waits for this very request.
    fn want_again(&mut self, id: u64, last: Index) {
        if let Some(chunk) = self.chunk(last)
            && matches!(chunk.state, State::Asked(asked) if asked == id)
        {
            chunk.state = State::Wanted;
        }
    }

    /// Nobody waits for the answer any more; it is not mistaken for a stray when it comes.
    fn forget(&mut self, id: u64) {
        if let Some(request) = self.requests.get_mut(&id)
            && !request.overdue
        {
            request.overdue = true;
            self.sources.end(request.of);
        }
    }

    fn chunk(&mut self, last: Index) -> Option<&mut Chunk> {
        let place = self.chunks.binary_search_by_key(&last, |chunk| chunk.mark.last.index).ok()?;
        self.chunks.get_mut(place)
    }

    fn ahead_bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.mark.bytes)).sum()
    }
}

/// What the leader's own appends do faster than questions and answers.
pub(super) const TAIL_ENTRIES: u64 = 1_024;
/// Chunks that the leader vouches for ahead of what is handed on.
const CHUNKS_AHEAD: usize = 256;
/// What is under way or waits for what comes before it.
const AHEAD_BYTES_MAX: u64 = 16 << 20;
/// Requests that are remembered, overdue ones too.
const REQUESTS_MAX: usize = 4_096;
/// After so many `fetch_timeout` without a step forward the plan is given up.
const STALLS_AFTER: u32 = 4;
