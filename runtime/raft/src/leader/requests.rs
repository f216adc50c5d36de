//! What clients and operators ask of a leader: proposals, reads, a transfer of leadership.
//!
//! Invariant: every request is answered exactly once, here or when leadership ends.

use super::{Leader, Transfer, answer_read};
use crate::{
    Admission, Answer, Change, Effect, Index, Message, NodeId, Payload, Position, Proposal, ReadId,
    Refusal, RequestId, planted::Planted, progress::Progress, server::Server,
};

impl Leader {
    /// Appends what is proposed, or says why not.
    pub(super) fn propose(
        &mut self,
        server: &mut Server,
        proposal: Proposal,
        effects: &mut Vec<Effect>,
    ) -> Result<Position, Refusal> {
        if let Proposal::Command { request, floor, .. } = &proposal
            && let Some(position) = self.admit(server, *request, *floor)?
        {
            return Ok(position);
        }
        // Thesis §3.10: no new entries, or the successor would never catch up.
        if self.transfer.is_some() {
            return Err(Refusal::Transferring);
        }
        let uncommitted = server.log.last().index.since(server.commit);
        let is_heavy = self.unapplied.weight_bytes() >= server.config.unapplied_bytes_max;
        if uncommitted >= server.config.uncommitted_entries_max || is_heavy {
            return Err(Refusal::Full);
        }
        let payload = match proposal {
            Proposal::OpenSession { nonce } => Payload::OpenSession { nonce },
            Proposal::Command { request, floor, command } => {
                Payload::Command { request, floor, command }
            }
            Proposal::Change(change) => change_payload(server, change)?,
        };
        Ok(self.append(server, payload, effects))
    }

    /// Whether a change of membership may begin now.
    ///
    /// Thesis §4.1: one change at a time. And not before an entry of this term is committed: else
    /// changes begun by two leaders may have majorities that do not meet (Ongaro's correction of
    /// 2015, raft-dev list).
    pub(crate) fn may_change(&self, server: &Server) -> bool {
        may_change(server) && self.transfer.is_none()
    }

    /// Takes a read; it is answered when a later round is (thesis §6.4), or at once while a lease
    /// shows that nobody else can have committed anything (§6.4.1).
    pub(super) fn read(&mut self, server: &Server, id: ReadId, effects: &mut Vec<Effect>) {
        if self.lease_until(server).is_some_and(|until| server.now < until) {
            effects.push(answer_read(id, Ok(server.commit)));
            return;
        }
        if self.reads.len() >= server.config.reads_max {
            effects.push(answer_read(id, Err(Refusal::Full)));
            return;
        }
        self.reads.wait(id);
    }

    /// Answers the reads whose round a majority has answered, ourselves included.
    pub(super) fn confirm_reads(&mut self, server: &Server, effects: &mut Vec<Effect>) {
        let answered = self.reached(server, self.round, Progress::round);
        let round = match answered {
            _ if server.plant.breaks(Planted::ReadWithoutRound) => self.round,
            _ if server.plant.breaks(Planted::RoundTooFar) => answered + 1,
            answered => answered,
        };
        #[cfg(feature = "planted-faults")]
        if server.plant.breaks(Planted::LeaseFromAnswers) {
            self.lease.confirm_late(answered, server.now);
        }
        self.lease.confirm(answered);
        effects.extend(self.reads.confirm(round).map(|(id, index)| answer_read(id, Ok(index))));
    }

    /// Begins to hand over (thesis §3.10).
    pub(super) fn transfer(&mut self, server: &Server, to: NodeId, effects: &mut Vec<Effect>) {
        let refusal = if to == server.id() || !server.configuration().voters.contains(&to) {
            Some(Refusal::NotVoter)
        } else {
            self.transfer.as_ref().map(|_| Refusal::Transferring)
        };
        if let Some(refusal) = refusal {
            effects.push(Effect::Answer(Answer::Transfer { to, outcome: Err(refusal) }));
            return;
        }
        let deadline = server.now.plus(server.config.election_timeout_max);
        self.transfer = Some(Transfer { to, deadline, told: false });
        self.hand_over(server, effects);
    }

    /// Tells the successor to campaign once it has all that we have.
    pub(super) fn hand_over(&mut self, server: &Server, effects: &mut Vec<Effect>) {
        let Some(Transfer { to, told: told @ false, .. }) = &mut self.transfer else { return };
        let Some(progress) = self.followers.get(to) else { return };
        if progress.matched() < server.log.last().index {
            return;
        }
        *told = true;
        // Whoever is told may be elected at any time from now on, however late the word arrives.
        if !server.plant.breaks(Planted::LeaseWhileHandingOver) {
            self.lease.give_up();
        }
        let message = Message::TimeoutNow { term: server.term() };
        effects.push(Effect::Send { to: *to, message });
        effects.push(Effect::Answer(Answer::Transfer { to: *to, outcome: Ok(()) }));
    }

    /// Gives a transfer up after an election timeout; until then repeats what may be lost.
    pub(super) fn watch_transfer(&mut self, server: &Server, effects: &mut Vec<Effect>) {
        let Some(Transfer { to, deadline, told }) = self.transfer else { return };
        if server.now >= deadline {
            self.transfer = None;
            if !told {
                let outcome = Err(Refusal::Transferring);
                effects.push(Effect::Answer(Answer::Transfer { to, outcome }));
            }
        } else if told {
            let message = Message::TimeoutNow { term: server.term() };
            effects.push(Effect::Send { to, message });
        }
    }

    /// Whether a command may be appended, or stands in the log already.
    ///
    /// A request stands in every log at most once. A leader appends it only if neither its table nor
    /// the unapplied rest of its log has it, which together are its whole log: the table forgets a
    /// request only when its floor or its session's end keeps it out for good. So a leader's log
    /// stays free of repetition if it was when the leader was elected; every other log is a prefix
    /// of some leader's log (log matching, Raft §5.3), and the first log was empty.
    fn admit(
        &self,
        server: &Server,
        request: RequestId,
        floor: u64,
    ) -> Result<Option<Position>, Refusal> {
        if request.sequence < floor {
            // When applied, the floor would rise first and keep the command itself out.
            return Err(Refusal::Expired);
        }
        let session = request.session;
        match server.sessions.admission(request) {
            Admission::Duplicate(index) => return Err(Refusal::Applied(*index)),
            // A new leader may hold a session's first entry that it has not applied yet.
            Admission::Expired if !opens_later(server, session.0) => return Err(Refusal::Expired),
            Admission::Expired | Admission::Fresh | Admission::Full => {}
        }
        let unapplied = self.unapplied.request(request);
        if let Some(index) = unapplied.filter(|_| !server.plant.breaks(Planted::DedupUnknown)) {
            let term = server.log.term_at(index);
            return Ok(term.map(|term| Position { term, index }));
        }
        // Replies kept and replies to come: once applied, this command finds no more than these,
        // since floors only rise. So apply never meets a full session.
        let kept = server.sessions.replies_from(session, floor);
        let coming = self.unapplied.requests_from(session, floor);
        if kept + coming >= server.config.sessions.replies_per_session_max {
            return Err(Refusal::SessionFull);
        }
        Ok(None)
    }
}

fn opens_later(server: &Server, index: Index) -> bool {
    let entry = server.log.get(index);
    index > server.applied && entry.is_some_and(|entry| entry.opens().is_some())
}

fn may_change(server: &Server) -> bool {
    let is_settled =
        server.membership.index() <= server.commit || server.plant.breaks(Planted::TwoChanges);
    let knows_commit =
        server.has_committed_in_term() || server.plant.breaks(Planted::ChangeBeforeOwnCommit);
    is_settled && knows_commit
}

/// The configuration after the change, if a change may begin now.
fn change_payload(server: &Server, change: Change) -> Result<Payload, Refusal> {
    if !may_change(server) {
        return Err(Refusal::ChangePending);
    }
    let next = server.configuration().after(change).ok_or(Refusal::ChangeInvalid)?;
    Ok(Payload::Configuration(next))
}
