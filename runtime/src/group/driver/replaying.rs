//! The driver's half that fetches entries in bulk, and serves them.
//!
//! What is asked of whom the plan decides; here its orders are carried out, the log is read and
//! the core is told. Invariants: between two other things at most one chunk is served, at most one
//! is taken in, and each peer is told once what is held, so that bulk delays no heartbeat by more;
//! while this member fetches, it follows exactly the leader and the term in which it began.

use bytes::Bytes;
use raft::{Index, Input, Log, NodeId, Position, Role, Term, Time, WriteId};

use super::Driver;
use crate::{
    ConsensusConfig,
    group::{
        replay::{
            self, Goal, Ledger, MARKS_BYTES_MAX, MARKS_MAX, Mark, Marks, Order, Plan, ReplayEnd,
            ReplayEnded, ReplayFrame, Replayed, Request, Serving, Vouched, chunk,
        },
        status::Event,
        wire::MemberFrame,
    },
};

/// What a driver keeps for it.
pub(super) struct Replaying {
    course: Course,
    serving: Serving,
    vouched: Vouched,
    /// After a plan that came to nothing the leader's own appends have their turn.
    rests_until: Time,
    /// A leader is to be told, behind that write, that nothing is fetched any more in its term.
    ending: Option<(WriteId, NodeId, Term)>,
    orders: Vec<Order>,
    /// Chunks are encoded here.
    scratch: Vec<u8>,
    /// A chunk was taken in, and other things have their turn first.
    is_full: bool,
}

enum Course {
    Idle(Ledger),
    /// On its way, since when and with what at that time.
    Under {
        plan: Box<Plan>,
        since: Time,
        entries: u64,
        bytes: u64,
        sources: Vec<(NodeId, u64)>,
    },
    /// Only while one becomes the other.
    Changing,
}

impl Replaying {
    pub(super) fn new(consensus: &ConsensusConfig, seed: u64) -> Self {
        Self {
            course: Course::Idle(Ledger::new(seed)),
            serving: Serving::new(consensus),
            vouched: Vouched::default(),
            rests_until: Time::default(),
            ending: None,
            orders: Vec::new(),
            scratch: Vec::new(),
            is_full: false,
        }
    }

    pub(super) fn tally(&self) -> Option<&Replayed> {
        match &self.course {
            Course::Idle(ledger) => Some(&ledger.tally),
            Course::Under { plan, .. } => Some(&plan.ledger.tally),
            Course::Changing => None,
        }
    }

    /// Whether a chunk was taken in since this was asked the last time.
    pub(super) fn take_full(&mut self) -> bool {
        std::mem::take(&mut self.is_full)
    }

    /// When something is due.
    pub(super) fn due(&self, now: Time) -> Option<Time> {
        let plan = match &self.course {
            Course::Under { plan, .. } => Some(plan.due(now)),
            Course::Idle(_) | Course::Changing => None,
        };
        plan.into_iter().chain(self.serving.due()).min()
    }

    /// Whether somebody waits to be served and may be now.
    pub(super) fn serves(&self, now: Time) -> bool {
        self.serving.due().is_some_and(|due| due <= now)
    }

    pub(super) fn bonded(&mut self, now: Time, node: NodeId) {
        if let Course::Under { plan, .. } = &mut self.course {
            plan.bonded(now, node);
        }
    }

    pub(super) fn unbonded(&mut self, node: NodeId) {
        self.serving.forget(node);
        if let Course::Under { plan, .. } = &mut self.course {
            plan.gone(node);
        }
    }
}

impl Driver {
    pub(super) fn replay(&mut self, from: NodeId, frame: ReplayFrame) {
        let now = self.body.clock.now();
        match frame {
            ReplayFrame::AskHeld { id } => self.replaying.serving.ask_held(from, id),
            ReplayFrame::AskMarks { id, term, after } => {
                self.asked(now, from, id, Request::Marks { id, term, after });
            }
            ReplayFrame::Fetch { id, after, last } => {
                self.asked(now, from, id, Request::Entries { id, after, last });
            }
            ReplayFrame::Fetching { term, ends } => {
                if term == self.core.term() && self.core.role() == Role::Leader {
                    let lasts = self.body.consensus.heartbeat_interval * FETCHING_BEATS;
                    let until = if ends { now } else { now.plus(lasts) };
                    self.step(Input::Fetching { node: from, until });
                }
            }
            answer @ (ReplayFrame::Held { .. }
            | ReplayFrame::Marks(_)
            | ReplayFrame::Entries { .. }
            | ReplayFrame::Busy { .. }) => {
                self.replaying.is_full |= matches!(answer, ReplayFrame::Entries { .. });
                // Whoever does not fetch any more has no use for it.
                let Replaying { course, orders, .. } = &mut self.replaying;
                if let Course::Under { plan, .. } = course {
                    plan.heard(now, from, answer, orders);
                    self.carry_out_orders(now);
                }
            }
        }
    }

    /// The leader has said how far it is: begins to fetch if that is far ahead.
    pub(super) fn consider_replay(&mut self, from: NodeId, commit: Index) {
        let (core, now) = (&self.core, self.body.clock.now());
        let Course::Idle(_) = self.replaying.course else { return };
        let follows = core.role() == Role::Follower && core.leader() == Some(from);
        let behind = commit.since(core.last().index);
        // After a start nothing of the log is known to be the leader's, until it has found where
        // they agree; and then there may be little to fetch.
        let is_known = !replay::is_far(core.last().index.since(core.commit()));
        if !follows || !replay::is_far(behind) || !is_known || now < self.replaying.rests_until {
            return;
        }
        let goal = Goal { leader: from, term: core.term(), after: core.commit(), commit };
        let course = std::mem::replace(&mut self.replaying.course, Course::Changing);
        let Course::Idle(ledger) = course else { return };
        let (entries, bytes) = (ledger.tally.entries, ledger.tally.bytes());
        let sources = ledger.tally.sources.iter().map(|source| (source.node, source.chunks));
        let sources = sources.collect();
        let mut plan = Box::new(Plan::new(&self.body.consensus, goal, ledger, now));
        self.body.bonded.iter().for_each(|node| plan.bonded(now, *node));
        // It fetches again.
        self.replaying.ending = None;
        self.replaying.course = Course::Under { plan, since: now, entries, bytes, sources };
        tracing::info!(leader = %from, behind, "far behind: fetches from all others");
        self.body.note(&Event::ReplayBegan { leader: from, behind });
        self.tend_replay(now);
    }

    /// Does what is due of fetching and serving.
    pub(super) fn tend_replay(&mut self, now: Time) {
        while let Some((to, id)) = self.replaying.serving.next_held() {
            self.tell_held(to, id);
        }
        self.serve_one(now);
        let backlog = self.storage.backlog_bytes();
        let Replaying { course: Course::Under { plan, .. }, orders, .. } = &mut self.replaying
        else {
            return;
        };
        let (leader, term) = plan.on_the_word_of();
        if self.core.leader() != Some(leader) || self.core.term() != term {
            return self.end_replay(now, ReplayEnd::LeaderChanged);
        }
        plan.advance(now, self.core.commit());
        plan.hold_back(backlog > BACKLOG_BYTES_MAX);
        plan.go(now, orders);
        self.carry_out_orders(now);
    }

    fn carry_out_orders(&mut self, now: Time) {
        let mut orders = std::mem::take(&mut self.replaying.orders);
        for order in orders.drain(..) {
            // What was ordered before it ended is of no use any more.
            let Course::Under { plan, .. } = &self.replaying.course else { break };
            let voucher = plan.on_the_word_of();
            match order {
                Order::Send { to, frame } => {
                    // If it cannot be sent it is not answered in time, and is sent again.
                    self.body.bonds.send(to, MemberFrame::Replay(frame));
                }
                Order::Take { prev, last, entries } => {
                    self.take_chunk(now, voucher, (prev, last), &entries);
                }
                Order::Distrust { node } => {
                    tracing::warn!(%node, "sent entries that the leader does not vouch for");
                    self.body.note(&Event::Distrusted(node));
                }
                Order::End(why) => self.end_replay(now, why),
            }
        }
        self.replaying.orders = orders;
        self.body.metrics.replayed(self.replaying.tally());
    }

    /// Hands a chunk to the core, which takes it unless it follows somebody else by now.
    fn take_chunk(
        &mut self,
        now: Time,
        (leader, term): (NodeId, Term),
        (prev, last): (Position, Position),
        entries: &Bytes,
    ) {
        // The leader encodes entries in a way that this member cannot read.
        let Some(entries) = chunk::decode(prev, last, entries) else {
            return self.end_replay(now, ReplayEnd::NotTaken);
        };
        self.step(Input::Fetched { leader, term, prev, entries });
        if self.over.is_none() && self.core.commit() < last.index {
            self.end_replay(now, ReplayEnd::NotTaken);
        }
    }

    fn end_replay(&mut self, now: Time, why: ReplayEnd) {
        let course = std::mem::replace(&mut self.replaying.course, Course::Changing);
        let Course::Under { plan, since, entries, bytes, sources } = course else {
            self.replaying.course = course;
            return;
        };
        let (leader, term) = plan.on_the_word_of();
        let ledger = plan.end();
        let tally = &ledger.tally;
        let before = |node| sources.iter().find(|(known, _)| *known == node).map_or(0, |(_, n)| *n);
        let gave = tally.sources.iter().filter(|source| source.chunks > before(source.node));
        let ended = ReplayEnded {
            why,
            entries: tally.entries - entries,
            bytes: tally.bytes().saturating_sub(bytes),
            sources: gave.count(),
            took: now.since(since),
        };
        self.replaying.course = Course::Idle(ledger);
        if !matches!(why, ReplayEnd::CaughtUp | ReplayEnd::LeaderChanged) {
            self.replaying.rests_until = now.plus(self.body.consensus.fetch_timeout);
        }
        self.tell_end(leader, term);
        tracing::info!(?ended, "fetches no more");
        self.body.metrics.replayed(self.replaying.tally());
        self.body.note(&Event::ReplayEnded(ended));
    }

    /// Tells the leader that nothing is fetched any more: behind the acknowledgements of what was,
    /// which wait for the disk, or the leader would send all of that once more. They go by the same
    /// lane, so they are heard in this order.
    ///
    /// Nothing rests on it. A leader that does not hear it, since the disk stalls or the frame is
    /// lost, goes on by itself after [`FETCHING_BEATS`]; one that hears it early repeats what is
    /// here already.
    pub(super) fn tell_end(&mut self, leader: NodeId, term: Term) {
        match self.barrier.last_held() {
            Some(behind) => self.replaying.ending = Some((behind, leader, term)),
            None => self.send_end(leader, term),
        }
    }

    /// This write is durable, and the acknowledgements that waited for it are sent.
    pub(super) fn tell_end_behind(&mut self, durable: WriteId) {
        let ending = self.replaying.ending.take_if(|(behind, ..)| *behind <= durable);
        if let Some((_, leader, term)) = ending {
            self.send_end(leader, term);
        }
    }

    fn send_end(&self, leader: NodeId, term: Term) {
        let frame = ReplayFrame::Fetching { term, ends: true };
        self.body.bonds.send(leader, MemberFrame::Replay(frame));
    }

    fn tell_held(&self, to: NodeId, id: u64) {
        let (after, commit) = (self.core.log().start().index, self.core.commit());
        let frame = ReplayFrame::Held { id, after, commit };
        self.body.bonds.send(to, MemberFrame::Replay(frame));
    }

    /// Lets a request wait for its turn, if its peer may ask that much.
    fn asked(&mut self, now: Time, from: NodeId, id: u64, request: Request) {
        let is_member = self.core.configuration().contains(from);
        if !is_member || !self.replaying.serving.ask(now, from, request) {
            self.body.metrics.replay_refused();
            self.body.bonds.send(from, MemberFrame::Replay(ReplayFrame::Busy { id }));
        }
    }

    /// Answers the request that waits longest, if it is time.
    fn serve_one(&mut self, now: Time) {
        for _ in 0..self.replaying.serving.forget_late(now) {
            self.body.metrics.replay_refused();
        }
        let Some((to, request)) = self.replaying.serving.next(now) else { return };
        let mut scratch = std::mem::take(&mut self.replaying.scratch);
        let frame = match request {
            Request::Entries { id, after, last } => self.entries(id, (after, last), &mut scratch),
            Request::Marks { id, term, after } => self.marks(id, term, after, &mut scratch),
        };
        if scratch.capacity() <= SCRATCH_BYTES_MAX {
            self.replaying.scratch = scratch;
        }
        match frame {
            Some(frame) => {
                if let ReplayFrame::Entries { entries, .. } = &frame {
                    self.replaying.serving.sent(now, entries.len());
                    self.body.metrics.replay_served(entries.len());
                }
                self.body.bonds.send(to, MemberFrame::Replay(frame));
            }
            None => {
                let (Request::Entries { id, .. } | Request::Marks { id, .. }) = request;
                self.tell_held(to, id);
            }
        }
    }

    /// The chunk that is asked for, if all of it is here, committed, and no more than a chunk.
    fn entries(
        &self,
        id: u64,
        (after, last): (Index, Index),
        scratch: &mut Vec<u8>,
    ) -> Option<ReplayFrame> {
        let log = self.core.log();
        if after < log.start().index || last > self.core.commit() {
            return None;
        }
        let end = encode(log, &self.body.consensus, (after, last), scratch)?;
        if end.index != last {
            return None;
        }
        // Who gets them may be slow, and keeps no more waiting than is counted.
        let entries = match scratch.capacity() > 2 * scratch.len() {
            true => Bytes::copy_from_slice(scratch),
            // The next will be about as long.
            false => std::mem::replace(scratch, Vec::with_capacity(scratch.len())).into(),
        };
        Some(ReplayFrame::Entries { id, entries })
    }

    /// What this leader vouches for, as far as it is here.
    fn marks(
        &mut self,
        id: u64,
        term: Term,
        after: Index,
        scratch: &mut Vec<u8>,
    ) -> Option<ReplayFrame> {
        let (log, commit) = (self.core.log(), self.core.commit());
        let vouches = self.core.role() == Role::Leader && self.core.term() == term;
        let first = Position { term: log.term_at(after)?, index: after };
        if !vouches || after > commit {
            return None;
        }
        let vouched = &mut self.replaying.vouched;
        vouched.compacted(log.start().index);
        let (mut prev, mut marks, mut hashed_bytes) = (first, Vec::new(), 0);
        while prev.index < commit && marks.len() < MARKS_MAX && hashed_bytes < MARKS_BYTES_MAX {
            let mark = match vouched.get(prev.index) {
                Some(mark) => mark,
                None => {
                    let last = encode(log, &self.body.consensus, (prev.index, commit), scratch)?;
                    let digest = chunk::digest(prev, scratch);
                    hashed_bytes += scratch.len();
                    let mark = Mark { last, bytes: u32::try_from(scratch.len()).ok()?, digest };
                    vouched.keep(prev.index, mark, commit);
                    mark
                }
            };
            marks.push(mark);
            prev = mark.last;
        }
        Some(ReplayFrame::Marks(Marks { id, term, prev: first, marks, commit }))
    }
}

/// Encodes the one chunk that follows `after` and ends by `last`, and says where it ends.
fn encode(
    log: &Log,
    consensus: &ConsensusConfig,
    (after, last): (Index, Index),
    encoded: &mut Vec<u8>,
) -> Option<Position> {
    let last = last.min(chunk::end(after, consensus.batch_size));
    let entries = log.walk(after.next()..=last, consensus.batch_bytes_max as usize);
    chunk::encode(entries, encoded)
}

/// For so many heartbeats a leader believes that a member fetches for itself.
const FETCHING_BEATS: u32 = 4;
/// Beyond this the store is to catch up first.
const BACKLOG_BYTES_MAX: usize = 16 << 20;
/// Buffers that grew beyond this are given back.
const SCRATCH_BYTES_MAX: usize = 4 << 20;
