//! How requests of a plan's clients travel, and what the model's servers make of them.
//!
//! What a driver owes to its clients is done here as the runtime does it: a command is answered
//! when that very command is applied, by term and index; a read when its index is. Requests and
//! answers take their time; a server that ends takes its unanswered questions with it, and the
//! clients notice.

use postcard::to_stdvec;
use raft::{
    Answer, Input, Position, Proposal, ProposalId, ReadId, Refusal, RequestId, SessionId, Time,
};

use super::callers::{Asked, Reply, Task, Wish};
use crate::{
    invariant::{Application, Violation},
    swarm::{
        calls::Call,
        event::Event,
        node::{Node, Seat},
        profile::Span,
        world::{Checked, World},
    },
    workload::due_after,
};

/// What will happen to a client or its request.
#[derive(Clone, Copy, Debug)]
pub(in crate::swarm) enum CallerEvent {
    /// Operations are due, so many bursts after the beginning.
    Burst(u64),
    /// The client asks again.
    Again { task: u64, attempt: u32 },
    /// A request reaches its server.
    Arrives { task: u64, attempt: u32, seat: Seat },
    /// An answer reaches its client.
    Heard { task: u64, attempt: u32, reply: Reply },
    /// Nothing was heard of that attempt for long.
    Silent { task: u64, attempt: u32 },
}

impl World {
    /// Something happens to a client of the plan.
    pub(in crate::swarm) fn caller_acts(&mut self, event: CallerEvent) -> Checked {
        match event {
            CallerEvent::Burst(number) => self.burst(number),
            CallerEvent::Again { task, attempt } => {
                if self.is_newest(task, attempt) {
                    self.ask(task);
                }
            }
            CallerEvent::Arrives { task, attempt, seat } => {
                return self.request_arrives(task, attempt, seat);
            }
            CallerEvent::Heard { task, attempt, reply } => {
                return self.reply_heard(task, attempt, reply);
            }
            CallerEvent::Silent { task, attempt } => {
                if self.is_newest(task, attempt) {
                    self.leave_silent_server(task);
                }
            }
        }
        Ok(())
    }

    /// The client sends its request to the server that it believes to lead.
    pub(super) fn ask(&mut self, number: u64) {
        let now = self.now;
        let Some(planned) = &mut self.planned else { return };
        let callers = &mut planned.callers;
        let Some(task) = callers.tasks.get_mut(&number) else { return };
        if now >= task.deadline {
            callers.give_up(number, now);
            return;
        }
        task.attempt += 1;
        task.seat = callers.each[task.caller].at;
        let (attempt, seat, deadline) = (task.attempt, task.seat, task.deadline);
        let Span(min, max) = callers.patience.latency;
        let arrives = now.plus(callers.draw.duration(min, max));
        let silent = now.plus(callers.patience.silence).min(deadline).max(arrives);
        let arrival = CallerEvent::Arrives { task: number, attempt, seat };
        self.queue.put(arrives, Event::Caller(arrival));
        let silence = CallerEvent::Silent { task: number, attempt };
        self.queue.put(silent, Event::Caller(silence));
    }

    /// A core has answered a client of the plan.
    pub(in crate::swarm) fn caller_answered(&mut self, seat: Seat, answer: &Answer) -> Checked {
        let (id, refused) = match answer {
            Answer::Proposed { id, outcome } => (id.0, outcome.err()),
            Answer::Read { id, outcome } => (id.0, outcome.err()),
            Answer::Transfer { .. } => return Ok(()),
        };
        let node = self.nodes[seat.0].id;
        let Some(planned) = &mut self.planned else { return Ok(()) };
        let Some(asked) = planned.callers.asked.remove(&id) else {
            let what = format!("{node:?} answers {id}, which nobody asked or which was answered");
            return Err(Violation::of("answers", what));
        };
        let Asked { task, attempt, floor, .. } = asked;
        if let Some(refusal) = refused {
            let request = planned.callers.tasks.get(&task).and_then(|task| task.request);
            if self.hands_on(seat, asked, refusal) {
                return Ok(());
            }
            let reply = self.refusal(seat, refusal);
            if let (Refusal::Applied(index), Some(request)) = (refusal, request) {
                self.invariants.acknowledged(request, index)?;
            }
            self.reply(seat, task, attempt, reply);
            return Ok(());
        }
        match *answer {
            Answer::Proposed { outcome: Ok(position), .. } => self.stands(seat, asked, position),
            Answer::Read { outcome: Ok(index), .. } => {
                if let Some(floor) = floor {
                    self.counts.reads += 1;
                    self.invariants.read_answered(node, floor, index)?;
                }
                planned_wait(self, seat, index, id, asked);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The server has applied what a read waited for.
    pub(super) fn read_ready(&mut self, seat: Seat, id: u64) {
        let Some(planned) = &mut self.planned else { return };
        let Some(Asked { task, attempt, .. }) = planned.callers.asked.remove(&id) else { return };
        let Some(Task { wish: Wish::Read { key }, .. }) = planned.callers.tasks.get(&task) else {
            return;
        };
        let output = planned.read(seat, *key);
        self.reply(seat, task, attempt, Reply::Done { seat, position: None, output });
    }

    /// A server has applied an entry at the index that this call waits for.
    pub(super) fn call_ended(
        &mut self,
        call: &Call,
        seat: Seat,
        application: &Application,
        output: Option<u64>,
    ) -> Checked {
        let number = call.client as u64;
        let Some(planned) = &self.planned else { return Ok(()) };
        let Some(task) = planned.callers.tasks.get(&number) else { return Ok(()) };
        let (attempt, Application { position, effective, .. }) = (task.attempt, *application);
        let opens = matches!(task.wish, Wish::Session { .. });
        let reply = match call.position == position {
            true if opens || effective == Some(call.request) => {
                if !opens {
                    self.invariants.acknowledged(call.request, position.index)?;
                }
                self.counts.acknowledged += u64::from(!opens);
                let position = Some((position.term.0, position.index.0));
                Reply::Done { seat, position, output }
            }
            true => Reply::Expired,
            false if opens => Reply::Elsewhere(None),
            false => Reply::Superseded(call.position),
        };
        self.reply(seat, number, attempt, reply);
        Ok(())
    }

    /// The server is gone, and with it all that it owed: who asked it notices.
    pub(super) fn forget_callers_of(&mut self, seat: Seat) {
        let Some(planned) = &mut self.planned else { return };
        planned.callers.asked.retain(|_, asked| asked.seat != seat);
        let at_seat = planned.callers.tasks.iter_mut().filter(|(_, task)| task.seat == seat);
        let broken = at_seat.map(|(number, task)| {
            task.doubts += 1;
            (*number, task.attempt)
        });
        let broken: Vec<_> = broken.collect();
        broken.into_iter().for_each(|(task, attempt)| self.answer(task, attempt, Reply::Down));
    }

    fn burst(&mut self, number: u64) {
        let now = self.now;
        let Some(planned) = &mut self.planned else { return };
        let tasks = planned.callers.burst(now);
        let load = planned.callers.load.as_ref().filter(|load| load.going);
        let Some(next) = load.map(|load| load.begun.plus(due_after(&load.plan, number + 1))) else {
            return;
        };
        self.queue.put(next, Event::Caller(CallerEvent::Burst(number + 1)));
        tasks.into_iter().for_each(|task| self.ask(task));
    }

    fn request_arrives(&mut self, number: u64, attempt: u32, seat: Seat) -> Checked {
        let Node { core, paused_until, .. } = &self.nodes[seat.0];
        if core.is_none() {
            self.answer(number, attempt, Reply::Down);
            return Ok(());
        }
        if *paused_until > self.now {
            // It waits unread.
            let later = *paused_until;
            let event = CallerEvent::Arrives { task: number, attempt, seat };
            self.queue.put(later, Event::Caller(event));
            return Ok(());
        }
        let Some(planned) = &mut self.planned else { return Ok(()) };
        let Some(wish) = planned.callers.tasks.get(&number).map(|task| task.wish.clone()) else {
            return Ok(());
        };
        let id = planned.callers.number();
        let floor = matches!(wish, Wish::Read { .. }).then(|| self.invariants.read_asked());
        let input = match wish {
            Wish::Session { nonce } => {
                Input::Propose { id: ProposalId(id), proposal: Proposal::OpenSession { nonce } }
            }
            Wish::Read { .. } => Input::Read { id: ReadId(id) },
            Wish::Command(command) => {
                let Some((request, floor)) = planned.callers.name(number) else { return Ok(()) };
                let command = to_stdvec(&command).expect("plain numbers always encode").into();
                let proposal = Proposal::Command { request, floor, command };
                Input::Propose { id: ProposalId(id), proposal }
            }
        };
        planned.callers.asked.insert(id, Asked { task: number, attempt, seat, floor });
        self.counts.steps += 1;
        self.counts.asked += 1;
        self.counts.retries += u64::from(attempt > 1);
        self.trace(id);
        self.input(seat, input)
    }

    /// A command stands in the server's log: its client waits until that is decided.
    fn stands(&mut self, seat: Seat, asked: Asked, position: Position) -> Checked {
        let Some(planned) = &mut self.planned else { return Ok(()) };
        let Some(task) = planned.callers.tasks.get_mut(&asked.task) else { return Ok(()) };
        (task.taken, task.hops) = (task.taken + 1, 0);
        let none = RequestId { session: SessionId(raft::Index(0)), sequence: 0 };
        let request = task.request.unwrap_or(none);
        let node = &mut self.nodes[seat.0];
        let entry = node.core.as_ref().and_then(|core| core.log().get(position.index));
        let stands = entry.is_some_and(|e| e.position == position && e.request() == task.request);
        if !stands {
            let what = format!("{:?} says {request:?} stands at {position}", node.id);
            return Err(Violation::of("answers", what));
        }
        let client = usize::try_from(asked.task).unwrap_or(usize::MAX);
        node.calls.open(Call { position, client, request });
        Ok(())
    }

    fn refusal(&self, seat: Seat, refusal: Refusal) -> Reply {
        let Some(planned) = &self.planned else { return Reply::Busy };
        match refusal {
            Refusal::NotLeader { leader } => Reply::Elsewhere(
                leader.map(|leader| Seat(usize::from(leader.peer.0[31]).wrapping_sub(1))),
            ),
            Refusal::Applied(index) => planned.kept_reply(seat, index).unwrap_or(Reply::Expired),
            Refusal::Expired => Reply::Expired,
            _ => Reply::Busy,
        }
    }

    /// Hands a pinned client's request on to the server that leads, if it is one.
    fn hands_on(&mut self, seat: Seat, asked: Asked, refusal: Refusal) -> bool {
        let Refusal::NotLeader { leader: Some(leader) } = refusal else { return false };
        let Asked { task, attempt, .. } = asked;
        if self.pinned(task) != Some(seat) {
            return false;
        }
        let to = Seat(usize::from(leader.peer.0[31]).wrapping_sub(1));
        if let Some(at) = self.crosses(seat, to) {
            let event = CallerEvent::Arrives { task, attempt, seat: to };
            self.queue.put(at, Event::Caller(event));
        }
        true
    }

    /// When what one server sends to another for a client arrives there, if it does.
    fn crosses(&mut self, from: Seat, to: Seat) -> Option<Time> {
        let planned = self.planned.as_mut()?;
        let at = planned.fate(&mut self.network, self.now, from, to).arrives?;
        let Node { core, paused_until, .. } = &self.nodes[to.0];
        core.is_some().then_some(at.max(*paused_until))
    }

    /// The server that the task's client is pinned to.
    fn pinned(&self, task: u64) -> Option<Seat> {
        let callers = &self.planned.as_ref()?.callers;
        let caller = &callers.each[callers.tasks.get(&task)?.caller];
        caller.is_pinned.then_some(caller.at)
    }

    /// A server answers: by way of the one that the client is pinned to, or straight.
    fn reply(&mut self, seat: Seat, task: u64, attempt: u32, reply: Reply) {
        match self.pinned(task) {
            Some(pinned) if pinned != seat => {
                if let Some(at) = self.crosses(seat, pinned) {
                    self.answer_at(at, task, attempt, reply);
                }
            }
            _ => self.answer(task, attempt, reply),
        }
    }

    fn answer(&mut self, task: u64, attempt: u32, reply: Reply) {
        self.answer_at(self.now, task, attempt, reply);
    }

    fn answer_at(&mut self, at: Time, task: u64, attempt: u32, reply: Reply) {
        let Some(planned) = &mut self.planned else { return };
        let Span(min, max) = planned.callers.patience.latency;
        let at = at.plus(planned.callers.draw.duration(min, max));
        self.queue.put(at, Event::Caller(CallerEvent::Heard { task, attempt, reply }));
    }

    fn reply_heard(&mut self, number: u64, attempt: u32, reply: Reply) -> Checked {
        let (now, seats) = (self.now, self.nodes.len());
        let newest = self.is_newest(number, attempt);
        let Some(planned) = &mut self.planned else { return Ok(()) };
        let callers = &mut planned.callers;
        let Some(task) = callers.tasks.get_mut(&number) else { return Ok(()) };
        let (caller, asked) = (task.caller, task.seat);
        let again = match reply {
            // Whatever attempt it was: it is done.
            Reply::Done { seat, position, output } => {
                callers.succeed(number, seat, position, output, now);
                self.trace(number);
                return Ok(());
            }
            // Proposed there and nowhere else, as far as the client knows by now.
            Reply::Superseded(position) if task.taken == 1 && task.doubts == 0 => {
                let Some(request) = task.request else { return Ok(()) };
                callers.refuse(number, "superseded", now);
                self.counts.failed += 1;
                return self.invariants.failed(request, position);
            }
            Reply::Expired => {
                callers.give_up(number, now);
                return Ok(());
            }
            _ if !newest => return Ok(()),
            Reply::Elsewhere(Some(seat)) => {
                task.hops += 1;
                let at_once = task.hops == 1 && !callers.each[caller].is_pinned;
                let caller = &mut callers.each[caller];
                caller.at = if caller.is_pinned { caller.at } else { seat };
                if at_once { now } else { now.plus(callers.patience.pause) }
            }
            Reply::Elsewhere(None) | Reply::Superseded(_) | Reply::Down => {
                callers.turn_away(caller, asked, seats);
                now.plus(callers.patience.pause)
            }
            Reply::Busy => now.plus(callers.patience.pause),
        };
        // It was no silence: the wait for an answer is over.
        let Some(task) = callers.tasks.get_mut(&number) else { return Ok(()) };
        task.attempt += 1;
        let event = CallerEvent::Again { task: number, attempt: task.attempt };
        self.queue.put(again, Event::Caller(event));
        Ok(())
    }

    fn leave_silent_server(&mut self, number: u64) {
        let seats = self.nodes.len();
        let Some(planned) = &mut self.planned else { return };
        let callers = &mut planned.callers;
        let Some(task) = callers.tasks.get_mut(&number) else { return };
        task.doubts += 1;
        let (caller, seat) = (task.caller, task.seat);
        callers.turn_away(caller, seat, seats);
        self.ask(number);
    }

    fn is_newest(&self, task: u64, attempt: u32) -> bool {
        let task = self.planned.as_ref().and_then(|planned| planned.callers.tasks.get(&task));
        task.is_some_and(|task| task.attempt == attempt)
    }
}

/// A read knows its index: it is answered once that is applied.
fn planned_wait(world: &mut World, seat: Seat, index: raft::Index, id: u64, asked: Asked) {
    let Some(planned) = &mut world.planned else { return };
    planned.callers.asked.insert(id, asked);
    if planned.applied(seat) >= index {
        world.read_ready(seat, id);
    } else {
        planned.wait(seat, index, id);
    }
}
