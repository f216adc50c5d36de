//! What a plan makes of what it is told.
//!
//! Invariant: an answer counts for what was asked under its number and of whom it was asked;
//! whatever else comes is counted and changes nothing.

use bytes::Bytes;
use raft::{Index, NodeId, Time};

use super::{Chunk, Order, Plan, Request, State};
use crate::group::replay::{
    chunk,
    frame::{Marks, ReplayFrame},
    tally::ReplayEnd,
};

impl Plan {
    /// Takes an answer, and does what is due.
    pub(crate) fn heard(
        &mut self,
        now: Time,
        from: NodeId,
        frame: ReplayFrame,
        orders: &mut Vec<Order>,
    ) {
        match frame {
            ReplayFrame::Held { id, after, commit } => {
                self.told_held(now, (from, id), (after, commit), orders);
            }
            ReplayFrame::Marks(marks) => self.vouched(now, from, &marks),
            ReplayFrame::Entries { id, entries } => self.given(now, (from, id), entries, orders),
            ReplayFrame::Busy { id } => self.put_off(now, from, id),
            ReplayFrame::AskHeld { .. }
            | ReplayFrame::AskMarks { .. }
            | ReplayFrame::Fetch { .. }
            | ReplayFrame::Fetching { .. } => {}
        }
        self.go(now, orders);
    }

    /// Somebody says what it holds: because it was asked, or since it cannot give what it was
    /// asked for.
    fn told_held(
        &mut self,
        now: Time,
        (from, id): (NodeId, u64),
        held: (Index, Index),
        orders: &mut Vec<Order>,
    ) {
        if self.sources.holds((from, id), held, now.plus(self.renew)) {
            return;
        }
        if from == self.goal.leader && self.marks_asked.is_some_and(|(asked, _)| asked == id) {
            // Asked again only after a pause, unless there is nothing to hope for.
            if self.marked < held.0 {
                orders.push(Order::End(ReplayEnd::Compacted));
            }
            return;
        }
        let Some(request) = self.answered(from, id) else { return };
        self.ledger.tally.empty += 1;
        self.refused(now, id, request);
        self.sources.lacks(from, Some(held));
    }

    /// The leader vouches for what comes next.
    fn vouched(&mut self, now: Time, from: NodeId, marks: &Marks) {
        let is_asked = self.marks_asked.is_some_and(|(asked, _)| asked == marks.id);
        if from != self.goal.leader || !is_asked || marks.term != self.goal.term {
            self.ledger.tally.unasked += 1;
            return;
        }
        self.marks_asked = None;
        self.goal.commit = self.goal.commit.max(marks.commit);
        // What was committed meanwhile by appends needs no chunk, and the next question begins
        // behind it.
        if marks.prev.index != self.marked {
            return;
        }
        if marks.marks.is_empty() && self.marked < self.goal.commit {
            // It knows no more to be committed than before: not again at once.
            self.marks_asked = Some((self.ledger.number(), now.plus(self.renew)));
        }
        let mut prev = marks.prev;
        for mark in &marks.marks {
            self.chunks.push_back(Chunk { prev, mark: *mark, state: State::Wanted });
            prev = mark.last;
        }
        self.marked = prev.index;
    }

    /// Somebody sends entries.
    fn given(
        &mut self,
        now: Time,
        (from, id): (NodeId, u64),
        entries: Bytes,
        orders: &mut Vec<Order>,
    ) {
        let Some(request) = self.answered(from, id) else { return };
        if entries.is_empty() {
            self.ledger.tally.empty += 1;
            self.refused(now, id, request);
            self.sources.lacks(from, None);
            return;
        }
        let Some(chunk) = self.chunk(request.last) else {
            self.ledger.tally.duplicate += 1;
            return;
        };
        if let State::Here(_) = chunk.state {
            self.ledger.tally.duplicate += 1;
            return;
        }
        let is_true = entries.len() == chunk.mark.bytes as usize
            && chunk::digest(chunk.prev, &entries) == chunk.mark.digest;
        if !is_true {
            return self.distrust(from, id, request, orders);
        }
        let (bytes, count) = (entries.len(), chunk.mark.last.index.since(chunk.prev.index));
        let before = std::mem::replace(&mut chunk.state, State::Here(entries));
        if let State::Asked(other) = before {
            // It was asked of somebody else meanwhile, whose answer will be one too many.
            self.forget(other);
        }
        self.ledger.tally.took(from, count, bytes as u64);
        self.sources.gave(from);
    }

    fn put_off(&mut self, now: Time, from: NodeId, id: u64) {
        if from == self.goal.leader && self.marks_asked.is_some_and(|(asked, _)| asked == id) {
            self.ledger.tally.busy += 1;
            self.marks_asked = Some((id, now.plus(self.fetch_timeout / BUSY_PART)));
            return;
        }
        let Some(request) = self.answered(from, id) else { return };
        self.ledger.tally.busy += 1;
        let rest = self.ledger.jittered(self.fetch_timeout / BUSY_PART);
        self.sources.failed(from, now, rest);
        self.want_again(id, request.last);
    }

    /// The request that this answers; it is over.
    fn answered(&mut self, from: NodeId, id: u64) -> Option<Request> {
        let request = self.requests.get(&id).copied().filter(|request| request.of == from);
        let Some(request) = request else {
            self.ledger.tally.unasked += 1;
            return None;
        };
        self.requests.remove(&id);
        match request.overdue {
            true => self.ledger.tally.late += 1,
            false => self.sources.end(from),
        }
        Some(request)
    }

    /// It does not hold what it said it does.
    fn refused(&mut self, now: Time, id: u64, request: Request) {
        let rest = self.ledger.jittered(self.fetch_timeout);
        self.sources.failed(request.of, now, rest);
        self.want_again(id, request.last);
    }

    /// What it gives is not what the leader vouches for: nothing of it is believed any more.
    fn distrust(&mut self, from: NodeId, id: u64, request: Request, orders: &mut Vec<Order>) {
        self.ledger.tally.wrong += 1;
        self.want_again(id, request.last);
        self.gone(from);
        if self.ledger.distrusted.len() < DISTRUSTED_MAX {
            self.ledger.distrusted.insert(from);
        }
        orders.push(Order::Distrust { node: from });
    }
}

/// Who is busy is asked again after so small a part of `fetch_timeout`.
const BUSY_PART: u32 = 16;
/// Liars that are remembered.
const DISTRUSTED_MAX: usize = 1_024;
