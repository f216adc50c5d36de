//! The clients of a plan, in virtual time: what they are due to ask, whom they ask it, and what
//! they may believe of it.
//!
//! Plain bookkeeping; how requests travel and what servers make of them is in `asking`. A client
//! asks the server that it believes to lead. One that does not lead names the one that does; one
//! that is silent too long is left for the next. A pinned client asks one server alone, which
//! hands its requests on. What is asked again goes by the same name.
//! Invariant: every operation that was due ends, at the latest with the run, and a timeout is
//! unknown, never a failure, unless no server ever took the request.

use std::collections::{BTreeMap, BTreeSet};

use raft::{RequestId, SessionId, Time};

use crate::{
    history::{Function, Operation, Outcome},
    invariant::ReadFloor,
    plan::WorkloadPlan,
    register::Command,
    seed::{Seed, Stream},
    swarm::{node::Seat, profile::Span},
    workload::{Driven, Generator, Intent, Numbers, blank, request_of, seen},
};

/// All clients of a plan.
pub(in crate::swarm) struct Callers {
    pub(super) draw: Stream,
    pub(super) patience: Patience,
    pub(super) each: Vec<Caller>,
    /// What is wanted and not answered yet, by number.
    pub(super) tasks: BTreeMap<u64, Task>,
    /// What servers were asked and have not answered, by the number of the question.
    pub(super) asked: BTreeMap<u64, Asked>,
    pub(super) load: Option<Load>,
    numbers: Numbers,
    next: u64,
    done: Vec<Operation>,
    /// Operations that succeeded.
    pub(super) succeeded: u64,
    /// How often an operation did not succeed, by outcome and reason.
    pub(super) reasons: BTreeMap<String, u64>,
}

/// How long clients wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// How long a message between a client and a server takes.
    pub(super) latency: Span,
    /// A server that is silent for so long is left.
    pub(super) silence: std::time::Duration,
    /// Between two attempts that came to nothing.
    pub(super) pause: std::time::Duration,
    /// How long an operation may take in all.
    pub(super) in_all: std::time::Duration,
}

/// One client.
#[derive(Debug)]
pub(super) struct Caller {
    name: u64,
    /// Whom it asks next.
    pub(super) at: Seat,
    /// It asks nobody else; what that server does not lead to do, it hands on.
    pub(super) is_pinned: bool,
    pub(super) session: Option<SessionId>,
    last: u64,
    /// The sequences of its unanswered requests.
    open: BTreeSet<u64>,
}

/// Something that a client wants.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) caller: usize,
    pub(super) wish: Wish,
    pub(super) request: Option<RequestId>,
    pub(super) deadline: Time,
    /// The newest attempt; answers to others count only if they end the matter.
    pub(super) attempt: u32,
    /// Whom the newest attempt went to.
    pub(super) seat: Seat,
    /// How often a server took it.
    pub(super) taken: u32,
    /// How often it is not known whether one did.
    pub(super) doubts: u32,
    /// Servers that named another since one last took it.
    pub(super) hops: u32,
    operation: Option<Operation>,
}

/// What it is.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Session { nonce: u64 },
    Command(Command),
    Read { key: u64 },
}

/// A question that a server has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) task: u64,
    pub(super) attempt: u32,
    pub(super) seat: Seat,
    /// For a read: what it must at least see.
    pub(super) floor: Option<ReadFloor>,
}

/// What a server says to a client.
#[derive(Clone, Copy, Debug)]
pub(in crate::swarm) enum Reply {
    /// It is done, for a command at this term and index.
    Done { seat: Seat, position: Option<(u64, u64)>, output: Option<u64> },
    /// Its place at this position went to another for good.
    Superseded(raft::Position),
    /// Another leads, if any is known to.
    Elsewhere(Option<Seat>),
    /// Not now.
    Busy,
    /// What became of it cannot be known any more.
    Expired,
    /// Nobody is there, or not any more.
    Down,
}

/// The load, once it has begun.
pub(super) struct Load {
    pub(super) plan: WorkloadPlan,
    pub(super) begun: Time,
    pub(super) going: bool,
    pub(super) driven: Driven,
    generator: Generator,
}

impl Callers {
    /// Clients of these names, each with the server that it asks first and whether it is pinned
    /// to it.
    pub(super) fn new(
        seed: Seed,
        patience: Patience,
        clients: impl IntoIterator<Item = (u64, Seat, bool)>,
    ) -> Self {
        let each = clients.into_iter().map(|(name, at, is_pinned)| Caller {
            name,
            at,
            is_pinned,
            session: None,
            last: 0,
            open: BTreeSet::new(),
        });
        Self {
            draw: Stream::named(seed, "callers"),
            patience,
            each: each.collect(),
            tasks: BTreeMap::new(),
            asked: BTreeMap::new(),
            load: None,
            numbers: Numbers::default(),
            next: 0,
            done: Vec::new(),
            succeeded: 0,
            reasons: BTreeMap::new(),
        }
    }

    /// The load begins.
    pub(super) fn load(&mut self, plan: &WorkloadPlan, seed: Seed, begun: Time) {
        let generator = Generator::new(plan.clone(), seed, self.numbers.clone());
        let driven = Driven::default();
        self.load = Some(Load { plan: plan.clone(), begun, going: true, driven, generator });
    }

    /// What is due now; what exceeds the bound of unanswered operations fails unsent.
    pub(super) fn burst(&mut self, now: Time) -> Vec<u64> {
        let Some(load) = self.load.as_mut().filter(|load| load.going) else { return Vec::new() };
        let intents = load.generator.burst();
        let most = load.plan.inflight_max;
        load.driven.due += intents.len() as u64;
        let mut sent = Vec::new();
        for intent in intents {
            if self.tasks.len() as u64 >= most {
                if let Some(load) = &mut self.load {
                    load.driven.busy += 1;
                }
                let operation = blank(&intent, nanos(now), nanos(now));
                self.fail(operation, "busy", now);
                continue;
            }
            let caller = usize::try_from(intent.client).unwrap_or(0);
            sent.push(self.want(caller, &intent, now));
        }
        sent
    }

    /// A client wants a session.
    pub(super) fn want_session(&mut self, caller: usize, now: Time) -> u64 {
        let nonce = self.each[caller].name;
        self.open(caller, Wish::Session { nonce }, None, now)
    }

    /// A client writes a value of its own to this register.
    pub(super) fn want_write(&mut self, caller: usize, key: u64, now: Time) -> u64 {
        let (id, client) = (self.numbers.next(), self.each[caller].name);
        let value = Some(id);
        let intent = Intent { client, id, f: Function::Write, key, value, expected: None };
        self.want(caller, &intent, now)
    }

    /// Takes the operations that have ended since the last time.
    pub(super) fn take_done(&mut self) -> Vec<Operation> {
        std::mem::take(&mut self.done)
    }

    /// A number that nothing else has.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The name of a command: given once, however often it is asked. Yields its floor as well.
    pub(super) fn name(&mut self, task: u64) -> Option<(RequestId, u64)> {
        let task = self.tasks.get_mut(&task)?;
        let caller = &mut self.each[task.caller];
        let session = caller.session?;
        let request = *task.request.get_or_insert_with(|| {
            caller.last += 1;
            caller.open.insert(caller.last);
            RequestId { session, sequence: caller.last }
        });
        Some((request, caller.open.first().copied().unwrap_or(request.sequence)))
    }

    /// The client turns to the next server.
    pub(super) fn turn_away(&mut self, caller: usize, from: Seat, seats: usize) {
        let caller = &mut self.each[caller];
        // Another answer may have turned it already.
        if caller.at == from && !caller.is_pinned {
            caller.at = Seat((from.0 + 1) % seats.max(1));
        }
    }

    /// It took effect.
    pub(super) fn succeed(
        &mut self,
        task: u64,
        seat: Seat,
        position: Option<(u64, u64)>,
        output: Option<u64>,
        now: Time,
    ) {
        let Some(task) = self.close(task) else { return };
        if let (Wish::Session { .. }, Some((_, index))) = (&task.wish, position) {
            self.each[task.caller].session = Some(SessionId(raft::Index(index)));
        }
        let Some(mut operation) = task.operation else { return };
        let caller = &self.each[task.caller];
        let via = if caller.is_pinned { caller.at } else { seat };
        operation.outcome = Outcome::Ok;
        operation.completed_ns = Some(nanos(now));
        operation.node = Some(super::planned::number(via).0);
        (operation.term, operation.index) = position.unzip();
        operation.request = task.request.map(request_of);
        // What a write found says nothing to anybody.
        operation.result = output.filter(|_| operation.f != Function::Write);
        if let (Some(value), Some(load)) = (seen(&operation), &mut self.load) {
            load.generator.saw(operation.key, value);
        }
        self.succeeded += 1;
        self.done.push(operation);
    }

    /// It is given up: unknown if a server may have taken it.
    pub(super) fn give_up(&mut self, task: u64, now: Time) {
        let Some(task) = self.close(task) else { return };
        let Some(mut operation) = task.operation else { return };
        operation.request = task.request.map(request_of);
        if task.taken + task.doubts > 0 {
            self.doubt(operation, "timeout");
        } else {
            self.fail(operation, "unavailable", now);
        }
    }

    /// The run is over, and whatever is not answered by now never will be. A server may have taken
    /// it all the same, also one that had not yet said so: others may have read what it wrote.
    pub(super) fn give_up_all(&mut self) {
        let open: Vec<u64> = self.tasks.keys().copied().collect();
        for task in open {
            let Some(task) = self.close(task) else { continue };
            let Some(mut operation) = task.operation else { continue };
            operation.request = task.request.map(request_of);
            self.doubt(operation, "unanswered");
        }
    }

    /// It will never take effect.
    pub(super) fn refuse(&mut self, task: u64, reason: &str, now: Time) {
        let Some(task) = self.close(task) else { return };
        let Some(mut operation) = task.operation else { return };
        operation.request = task.request.map(request_of);
        self.fail(operation, reason, now);
    }

    fn doubt(&mut self, mut operation: Operation, reason: &str) {
        *self.reasons.entry(format!("unknown_{reason}")).or_default() += 1;
        operation.outcome = Outcome::Unknown;
        self.done.push(operation);
    }

    fn fail(&mut self, mut operation: Operation, reason: &str, now: Time) {
        *self.reasons.entry(format!("fail_{reason}")).or_default() += 1;
        operation.outcome = Outcome::Fail;
        operation.completed_ns = Some(nanos(now));
        self.done.push(operation);
    }

    fn want(&mut self, caller: usize, intent: &Intent, now: Time) -> u64 {
        let Intent { f, key, value, expected, .. } = *intent;
        let wish = match (f, value) {
            (Function::Write, Some(value)) => Wish::Command(Command::Write { key, value }),
            (Function::Cas, Some(value)) => Wish::Command(Command::Cas { key, expected, value }),
            _ => Wish::Read { key },
        };
        self.open(caller, wish, Some(blank(intent, nanos(now), nanos(now))), now)
    }

    fn open(&mut self, caller: usize, wish: Wish, operation: Option<Operation>, now: Time) -> u64 {
        let number = self.number();
        let task = Task {
            caller,
            wish,
            request: None,
            deadline: now.plus(self.patience.in_all),
            attempt: 0,
            seat: self.each[caller].at,
            taken: 0,
            doubts: 0,
            hops: 0,
            operation,
        };
        self.tasks.insert(number, task);
        number
    }

    fn close(&mut self, task: u64) -> Option<Task> {
        let task = self.tasks.remove(&task)?;
        if let Some(request) = task.request {
            self.each[task.caller].open.remove(&request.sequence);
        }
        Some(task)
    }
}

fn nanos(at: Time) -> u64 {
    crate::member::nanos(at)
}
