//! The driver's half that serves callers: it moves calls towards the leader and back.
//!
//! A call goes to our own core if we lead, to the leader if we know one, and waits otherwise; it
//! keeps its request id wherever it goes, so that a retry is applied at most once.

use raft::{
    Answer, Index, Input, PeerId, Proposal, ProposalId, ReadId, Refusal, RequestId, Role, Time,
};
use tokio::sync::oneshot;

use super::{Driver, membership::CHANGE};
use crate::group::{
    answer::Answerer,
    applier::Work,
    calls::CallId,
    wire::{Call, MemberFrame, Outcome, Reason},
};

impl Driver {
    pub(super) fn transfer(&mut self, to: PeerId, reply: oneshot::Sender<Result<(), Refusal>>) {
        let voters = &self.core.configuration().voters;
        let Some(to) = voters.iter().find(|voter| voter.peer == to).copied() else {
            // The asker may have gone.
            let _ = reply.send(Err(Refusal::NotVoter));
            return;
        };
        if self.transfers.iter().any(|(under_way, _)| *under_way == to) {
            // The asker may have gone.
            let _ = reply.send(Err(Refusal::Transferring));
            return;
        }
        self.transfers.push((to, reply));
        self.step(Input::Transfer { to });
    }

    pub(super) fn call(&mut self, call: Call, deadline: Time, answerer: Answerer) {
        let content = match &call {
            Call::Command { command, .. } => command.len(),
            Call::Query { query } | Call::WeakQuery { query } => query.len(),
            Call::OpenSession { .. } => 0,
        };
        if content > self.body.consensus.command_bytes_max as usize {
            return answerer.answer(Outcome::Refused(Reason::TooLarge));
        }
        if let Call::WeakQuery { query } = call {
            return self.work(Work::Query { query, answerer });
        }
        // Followers may commit what a hanging disk of ours does not hold, and disks what a slow
        // machine of ours has not applied: that has a limit too.
        let changes = !matches!(call, Call::Query { .. });
        let is_behind = self.storage.backlog_bytes() > STORAGE_BACKLOG_BYTES_MAX
            || self.lag.bytes() > APPLYING_BYTES_MAX;
        if changes && is_behind {
            self.body.metrics.refused_busy();
            return answerer.answer(Outcome::Refused(Reason::Busy));
        }
        if let Some(id) = self.body.admit(call, deadline, answerer) {
            self.dispatch(id);
        }
    }

    /// Moves a call one step nearer to its answer: to our own core if we lead, to the leader if
    /// we know one, and otherwise it waits.
    pub(super) fn dispatch(&mut self, id: CallId) {
        // One that was asked before the group was founded.
        if matches!(self.body.calls.call(id), Some(Call::WeakQuery { .. })) {
            if let Some((Call::WeakQuery { query }, answerer)) = self.body.calls.take(id) {
                self.work(Work::Query { query, answerer });
            }
            return;
        }
        if self.core.role() == Role::Leader {
            return self.ask_core(id);
        }
        if self.body.calls.is_members(id) {
            // Its first receiver knows better when to try again, and where.
            return self.body.calls.refuse(id, Reason::LeaderChanged);
        }
        if let Some(leader) = self.core.leader()
            && let Some(call) = self.body.calls.call(id).cloned()
        {
            let attempt = self.body.calls.forward(id, leader);
            if !self.body.bonds.send(leader, MemberFrame::Forward { id: attempt, call }) {
                self.body.calls.not_sent(attempt);
            }
        }
        // Also when it was sent: a frame may be dropped, and a leader may be gone.
        self.pause(id);
    }

    fn ask_core(&mut self, id: CallId) {
        let Some(call) = self.body.calls.call(id) else { return };
        let proposal = match call {
            Call::OpenSession { nonce } => Proposal::OpenSession { nonce: *nonce },
            // It may have taken effect where its session was opened, but not here.
            Call::Command { request, nonce, .. } if self.is_anothers(*request, *nonce) => {
                let outcome = Outcome::Unknown(Reason::SessionExpired);
                return self.body.calls.finish(id, outcome);
            }
            Call::Command { request, floor, command, .. } => {
                Proposal::Command { request: *request, floor: *floor, command: command.clone() }
            }
            Call::Query { .. } | Call::WeakQuery { .. } => {
                return self.step(Input::Read { id: ReadId(id.0) });
            }
        };
        self.step(Input::Propose { id: ProposalId(id.0), proposal });
    }

    /// Whether the session was opened by somebody else than who names it now: a session is the
    /// index of an entry (thesis §6.3), and in another lineage another's entry stands there.
    fn is_anothers(&self, request: RequestId, nonce: u64) -> bool {
        self.core.session_nonce(request.session).is_some_and(|opened| opened != nonce)
    }

    pub(super) fn pause(&mut self, id: CallId) {
        let (now, shortest) = (self.body.clock.now(), self.body.consensus.election_timeout);
        self.body.calls.pause(id, now, shortest, self.body.network.draw());
    }

    pub(super) fn answer(&mut self, answer: &Answer) {
        match *answer {
            Answer::Proposed { id: CHANGE, outcome } => self.change_answered(outcome),
            Answer::Proposed { id, outcome } => self.proposed(CallId(id.0), outcome),
            Answer::Read { id, outcome } => self.read(CallId(id.0), outcome),
            Answer::Transfer { to, outcome } => {
                for (_, reply) in self.transfers.extract_if(.., |(node, _)| *node == to) {
                    // The asker may have gone.
                    let _ = reply.send(outcome);
                }
            }
        }
    }

    fn proposed(&mut self, id: CallId, outcome: Result<raft::Position, Refusal>) {
        let calls = &mut self.body.calls;
        match outcome {
            Ok(position) => calls.proposed(id, position),
            // The core counts as applied what the applier may not even have been handed.
            Err(Refusal::Applied(index)) => {
                calls.applied(id);
                self.keep_ready(index, id);
            }
            // It may have been applied before its session closed.
            Err(Refusal::Expired) => calls.finish(id, Outcome::Unknown(Reason::SessionExpired)),
            Err(Refusal::Full | Refusal::SessionFull) => {
                self.body.metrics.refused_busy();
                calls.refuse(id, Reason::Busy);
            }
            Err(_) => self.again(id),
        }
    }

    fn read(&mut self, id: CallId, outcome: Result<Index, Refusal>) {
        match outcome {
            Ok(index) => self.keep_ready(index, id),
            Err(Refusal::Full) => {
                self.body.metrics.refused_busy();
                self.body.calls.refuse(id, Reason::Busy);
            }
            Err(_) => self.again(id),
        }
    }

    /// It goes to the applier once everything up to the index is handed over. Those that ended
    /// while they waited are let go of, so that no more wait than are under way.
    fn keep_ready(&mut self, index: Index, id: CallId) {
        self.ready.insert((index, id));
        if self.ready.len() > self.body.consensus.requests_max as usize {
            let calls = &self.body.calls;
            self.ready.retain(|(_, id)| calls.call(*id).is_some());
        }
    }

    /// The core would not take it now: members try elsewhere, others here after a pause.
    fn again(&mut self, id: CallId) {
        match self.body.calls.is_members(id) {
            true => self.body.calls.refuse(id, Reason::LeaderChanged),
            false => self.pause(id),
        }
    }

    /// Gives the applier work, as far as it has room. Some room is kept for entries: queries that
    /// come back at once when refused must not keep commits from being applied.
    pub(super) fn work(&mut self, work: Work) {
        let is_of_log =
            matches!(work, Work::Apply { .. } | Work::Restore { .. } | Work::Snapshot { .. });
        if !is_of_log && self.work.capacity() <= ENTRIES_ROOM {
            return self.turn_away(work);
        }
        if let Err(full) = self.work.try_send(work) {
            self.turn_away(full.into_inner());
        }
    }

    fn turn_away(&mut self, work: Work) {
        self.body.metrics.refused_busy();
        match work {
            Work::Query { answerer, .. } => answerer.answer(Outcome::Refused(Reason::Busy)),
            // It was applied: to call it refused would be a lie.
            Work::Repeat { answerer, .. } => answerer.answer(Outcome::Unknown(Reason::Busy)),
            // Those who wait learn `Unknown` as their answerers are dropped.
            Work::Apply { .. } | Work::Restore { .. } => self.halt("the applier is gone".into()),
            Work::Snapshot { .. } => self.snapshot_failed("the applier is busy"),
        }
    }

    /// Hands committed entries to the applier, as far as it has room.
    pub(super) fn hand_over(&mut self) {
        let mut lost = Vec::new();
        while self.handed < self.through {
            // We are the only sender: room that is seen is room that is had.
            if self.work.capacity() == 0 {
                break;
            }
            let last = self.handed.plus(APPLY_ENTRIES_MAX).min(self.through);
            let entries = self.core.log().share(self.handed.next()..=last, APPLY_BYTES_MAX);
            let Some(newest) = entries.last() else {
                return self.halt(format!("entry {} to apply is missing", self.handed.next()));
            };
            self.handed = newest.position.index;
            let bytes = self.snapshots.handed(&entries);
            self.lag.handed(self.handed, bytes);
            let now = self.body.clock.now();
            let waiting = self.body.calls.committed(&entries, &mut lost);
            let mut answerers = Vec::with_capacity(waiting.len());
            for (index, answerer, began) in waiting {
                self.body.metrics.committed(now.since(began));
                answerers.push((index, answerer));
            }
            self.work(Work::Apply { entries, waiting: answerers });
        }
        self.lag.waits(self.core.log(), self.handed, self.through);
        for id in lost {
            self.again(id);
        }
        // The applier takes its work in order, so this work sees everything handed over before.
        while let Some((index, id)) = self.ready.first().copied()
            && index <= self.handed
            && self.work.capacity() > ENTRIES_ROOM
        {
            self.ready.pop_first();
            match self.body.calls.take(id) {
                Some((Call::Query { query }, answerer)) => {
                    self.work(Work::Query { query, answerer });
                }
                Some((Call::Command { request, .. }, answerer)) => {
                    self.work(Work::Repeat { request, answerer });
                }
                Some((Call::OpenSession { .. } | Call::WeakQuery { .. }, _)) | None => {}
            }
        }
    }
}

const STORAGE_BACKLOG_BYTES_MAX: usize = 32 << 20;
/// What is committed and durable here and not yet applied by the machine, as entries weigh: many
/// times what is on its way through the applier in good order. Entries that were taken on before
/// go beyond it; what a leader takes on is bounded in itself.
const APPLYING_BYTES_MAX: u64 = 64 << 20;
/// Places in the applier's queue that queries do not get.
pub(super) const ENTRIES_ROOM: usize = 16;
const APPLY_ENTRIES_MAX: u64 = 1_024;
const APPLY_BYTES_MAX: usize = 4 << 20;
