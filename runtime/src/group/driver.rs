//! The task around the core: it owns the core and does what the core wants done.
//!
//! One of the callers of `step`. It decides nothing that the core decides: it brings inputs in,
//! carries effects out in their order, and keeps the calls of users, clients and peers moving
//! towards the leader. Invariant: a message that promises something leaves only once the
//! [`Barrier`] says that the promise is durable.

mod calling;
mod forwards;
mod membership;
mod notices;
mod replaying;
mod snapshots;
mod timer;

use std::{
    collections::BTreeSet,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use raft::{
    Barrier, Change, Effect, Index, Input, Message, NodeId, Note, Position, Raft, Refusal, Role,
    StoreId, Time, WriteId,
};
use tokio::sync::{mpsc, oneshot, watch};

use calling::ENTRIES_ROOM;
use forwards::Forwards;
use membership::Leaving;
use notices::Notices;
use replaying::Replaying;
use snapshots::Snapshots;
use timer::Timer;

use crate::{
    StorageError,
    group::{
        answer::Answerer,
        applier::{Applying, Report, Work},
        body::Body,
        bond::BondEvent,
        calls::{CallId, Due, Forwarded},
        mailbox::Mail,
        metric::Depths,
        status::{Event, Status},
        steward::{Cause, Steward},
        transfer::{Fetched, SnapshotFrame},
        wire::{MemberFrame, Outcome, Reason},
    },
    storage::Storage,
};

/// A member at work.
pub(crate) struct Driver {
    body: Body,
    core: Raft,
    barrier: Barrier,
    notices: Notices,
    forwards: Forwards,
    replaying: Replaying,
    storage: Box<dyn Storage>,
    effects: Vec<Effect>,
    work: mpsc::Sender<Work>,
    applied: watch::Receiver<Index>,
    reports: mpsc::Receiver<Report>,
    snapshots: Snapshots,
    /// Handed to the applier up to here; the core wants it applied up to there.
    handed: Index,
    through: Index,
    transfers: Vec<(NodeId, oneshot::Sender<Result<(), Refusal>>)>,
    /// Confirmed reads and repeated requests: for the applier, once everything up to their
    /// index is handed over.
    ready: BTreeSet<(Index, CallId)>,
    /// The first election of a fresh member waits until here.
    bootstrap_until: Time,
    timer: Timer,
    /// The leader changed: calls are to be tried there.
    leader_changed: bool,
    /// As long as this member leads.
    steward: Option<Steward>,
    /// What the steward has just had proposed.
    changing: Option<(Change, Cause)>,
    /// The last change may not be committed yet.
    unsettled: bool,
    /// When to look after the membership next.
    tend_at: Time,
    /// They asked to leave and wait for word.
    leavers: BTreeSet<NodeId>,
    leave: Option<Leaving>,
    /// The lineage holds nothing yet and may be given up; so far the log was searched for it.
    fresh: bool,
    searched: Index,
    over: Option<Over>,
}

/// How a driver ends.
#[derive(Debug)]
enum Over {
    /// The member stops.
    Stopped(String),
    /// Its lineage is given up; its store is renewed under this id.
    Dissolved(StoreId),
}

/// What is left of a member whose lineage was given up.
pub(crate) struct Dissolved {
    pub(crate) body: Body,
    pub(crate) storage: Box<dyn Storage>,
    pub(crate) store: StoreId,
}

/// One thing that happened.
enum Turn {
    HandlesGone,
    Persisted(Result<WriteId, StorageError>),
    Bond(Option<BondEvent>),
    Applied,
    Report(Report),
    /// The store has made the snapshot at that position the one that its log starts after.
    Kept(Position),
    Fetched(Fetched),
    Room,
    Mail(Option<Mail>),
    Time,
    ApplierGone,
    /// Nothing happened, and somebody waits for entries in bulk.
    Serve,
}

impl Driver {
    /// Nothing happens before [`Driver::run`].
    pub(crate) fn new(
        body: Body,
        core: Raft,
        storage: Box<dyn Storage>,
        applying: Applying,
    ) -> Self {
        let Applying { work, applied, reports } = applying;
        let snapshots = Snapshots::new(&*storage);
        let bootstrap_until = match core.term() {
            raft::Term(0) => body.clock.now().plus(body.consensus.bootstrap_delay),
            _ => Time::default(),
        };
        let heartbeat_interval = body.consensus.heartbeat_interval;
        let forwards = Forwards::new(body.consensus.requests_bytes_max as usize);
        let replaying = Replaying::new(&body.consensus, body.network.draw());
        let (fresh, searched) = (!body.tells, core.log().start().index);
        Self {
            timer: Timer::new(Arc::clone(&body.clock)),
            handed: core.applied(),
            through: core.applied(),
            body,
            core,
            barrier: Barrier::default(),
            notices: Notices::new(heartbeat_interval),
            forwards,
            replaying,
            storage,
            effects: Vec::new(),
            work,
            applied,
            reports,
            snapshots,
            transfers: Vec::new(),
            ready: BTreeSet::new(),
            bootstrap_until,
            leader_changed: true,
            steward: None,
            changing: None,
            unsettled: true,
            tend_at: Time::default(),
            leavers: BTreeSet::new(),
            leave: None,
            fresh,
            searched,
            over: None,
        }
    }

    /// Breaks a rule, if one is to be broken.
    #[cfg(feature = "planted-faults")]
    pub(crate) fn planted(mut self, fault: Option<raft::Planted>) -> Self {
        if let Some(fault) = fault {
            self.core.plant(fault);
            self.barrier.plant(fault);
        }
        self
    }

    /// Works until the group is left or the member cannot go on, and then stops it; unless its
    /// lineage is given up.
    pub(crate) async fn run(mut self) -> Option<Dissolved> {
        self.snapshots.begin(&self.body);
        for node in self.body.bonded.clone() {
            self.step(Input::Connected(node));
        }
        self.configured();
        self.settle();
        while self.over.is_none() {
            let turn = self.next().await;
            self.take(turn);
            self.hand_over();
            self.drain();
            // Not left to `next`, where under load something else is always ready first.
            if self.body.clock.now() >= self.due() {
                self.time();
            }
            self.tend_replay(self.body.clock.now());
            if self.body.handles.has_changed().is_err() {
                self.halt("all its handles are gone".into());
            }
            self.settle();
            self.publish();
        }
        let Self { mut body, storage, over, .. } = self;
        let reason = match over {
            Some(Over::Dissolved(store)) => return Some(Dissolved { body, storage, store }),
            Some(Over::Stopped(reason)) => reason,
            None => String::new(),
        };
        tracing::info!(node = %body.node, %reason, "the member stopped");
        body.stop(reason, storage).await;
        None
    }

    /// Waits for the next thing to happen.
    async fn next(&mut self) -> Turn {
        let due = self.due();
        let waits = |(index, _): &(Index, CallId)| *index <= self.handed;
        let is_ready = self.ready.first().is_some_and(waits);
        let is_behind = self.handed < self.through || self.snapshots.waits_for_room();
        let room_wanted = is_behind || is_ready;
        // Queries leave room for entries: with less than that there is nothing to do for them.
        let room = if is_behind { 1 } else { ENTRIES_ROOM + 1 };
        let serves = self.replaying.serves(self.body.clock.now());
        let Self { body, storage, work, applied, reports, snapshots, timer, .. } = self;
        // Biased: what the group needs comes before what users ask; `drain` keeps it fair.
        tokio::select! {
            biased;
            turn = poll_fn(|context| poll_storage(&mut **storage, context)) => turn,
            event = body.events.recv() => Turn::Bond(event),
            Ok(()) = applied.changed() => Turn::Applied,
            Some(report) = reports.recv() => Turn::Report(report),
            fetched = snapshots.fetched() => Turn::Fetched(fetched),
            Ok(_) = work.reserve_many(room), if room_wanted => Turn::Room,
            () = timer.reach(due) => Turn::Time,
            mail = body.mail.recv() => Turn::Mail(mail),
            Err(_) = body.handles.changed() => Turn::HandlesGone,
            () = work.closed() => Turn::ApplierGone,
            () = std::future::ready(()), if serves => Turn::Serve,
        }
    }

    fn take(&mut self, turn: Turn) {
        match turn {
            Turn::Persisted(Ok(id)) => self.persisted(id),
            Turn::Persisted(Err(error)) => self.halt(format!("its store failed: {error}")),
            Turn::Report(report) => self.reported(report),
            Turn::Kept(position) => self.snapshot_kept(position),
            Turn::Fetched(fetched) => self.snapshots.arrived(fetched),
            Turn::Bond(Some(event)) => self.bond(event),
            Turn::Bond(None) => self.halt("the network is shut down".into()),
            Turn::Mail(Some(mail)) => self.mail(mail),
            Turn::Mail(None) | Turn::HandlesGone => self.halt("all its handles are gone".into()),
            Turn::Time => self.time(),
            // Only a machine that panics ends it before this task does.
            Turn::ApplierGone => self.halt("the applier is gone".into()),
            // `settle` hands over what there is room for; `publish` shows what is applied.
            Turn::Applied | Turn::Room | Turn::Serve => {}
        }
    }

    /// Takes what else has arrived, a bounded share of each kind.
    fn drain(&mut self) {
        for _ in 0..DRAIN_MAX {
            // One chunk is as much as heartbeats may have to wait for.
            if self.replaying.take_full() {
                break;
            }
            let Some(event) = self.body.events.try_recv() else { break };
            self.bond(event);
        }
        for _ in 0..DRAIN_MAX {
            let Ok(mail) = self.body.mail.try_recv() else { break };
            self.mail(mail);
        }
    }

    /// Follows up until nothing more follows: durable writes, entries to apply, calls to move.
    fn settle(&mut self) {
        while self.over.is_none() {
            while let Poll::Ready(written) =
                self.storage.poll_persisted(&mut Context::from_waker(Waker::noop()))
            {
                match written {
                    Ok(id) => self.persisted(id),
                    Err(error) => return self.halt(format!("its store failed: {error}")),
                }
            }
            self.install();
            self.hand_over();
            self.look_after_log();
            if !std::mem::take(&mut self.leader_changed) {
                return;
            }
            for id in self.body.calls.unproposed() {
                self.dispatch(id);
            }
        }
    }

    fn step(&mut self, input: Input) {
        // The store may be another one's already.
        if self.over.is_some() {
            return;
        }
        let mut effects = std::mem::take(&mut self.effects);
        self.core.step(self.body.clock.now(), input, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        self.effects = effects;
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist { id, write } => {
                self.barrier.submitted(id);
                self.storage.submit(id, write);
            }
            Effect::Send { message, .. }
                if message.promises() && self.barrier.held() >= HELD_MAX =>
            {
                // The disk stalls. The core bears the loss, and says it again when asked again.
                self.body.metrics.dropped_unheld();
            }
            Effect::Send { to, message } => {
                let now = self.body.clock.now();
                if let Some(message) = self.notices.pass(now, to, message)
                    && let Some((to, message)) = self.barrier.pass(to, message)
                {
                    self.body.bonds.send(to, MemberFrame::Raft(message));
                }
            }
            Effect::Apply { through } => self.through = through,
            Effect::Answer(answer) => self.answer(&answer),
            Effect::Note(note) => self.note(note),
            Effect::Install { from, snapshot } => self.offered(from, &snapshot),
            Effect::Halt(halt) => self.halt(format!("going on would break safety: {halt:?}")),
        }
    }

    fn persisted(&mut self, id: WriteId) {
        for (to, message) in self.barrier.persisted(id) {
            self.body.bonds.send(to, MemberFrame::Raft(message));
        }
        self.step(Input::Persisted(id));
    }

    fn note(&mut self, note: Note) {
        match &note {
            Note::Became { role: Role::Leader, .. } => self.leader_changed = true,
            Note::Became { .. } => self.leader_changed |= !self.body.calls.deposed().is_empty(),
            Note::Leader { leader, .. } => self.leader_changed |= leader.is_some(),
            _ => {}
        }
        self.body.metrics.note(self.body.clock.now(), &note);
        match &note {
            Note::Became { .. } => {
                // Another term is another leader's, also if that is this member again.
                self.steward = None;
                self.unsettled = true;
                self.tend_soon();
            }
            Note::Configured { .. } => self.configured(),
            // What waited for the last change may be due now.
            Note::Committed { .. } if self.unsettled && self.core.may_change() => {
                self.unsettled = false;
                self.tend_soon();
            }
            _ => {}
        }
        self.body.note(&Event::Raft(note));
    }

    fn bond(&mut self, event: BondEvent) {
        match event {
            BondEvent::Up { node } => {
                self.body.bond_came(node);
                self.replaying.bonded(self.body.clock.now(), node);
                self.step(Input::Connected(node));
                // What was forwarded over the old bond may be lost with it.
                self.leader_changed |= self.core.leader() == Some(node);
            }
            BondEvent::Down { node } => {
                self.leavers.remove(&node);
                self.body.bond_went(node);
                self.forwards.forget(node);
                self.replaying.unbonded(node);
            }
            BondEvent::Frame { from, frame } => self.frame(from, frame),
            BondEvent::Foreign(foreign) => self.met(foreign),
        }
    }

    fn frame(&mut self, from: NodeId, frame: MemberFrame) {
        match frame {
            MemberFrame::Raft(message) => {
                let told = match &message {
                    Message::Append { commit, .. } => Some(*commit),
                    _ => None,
                };
                self.step(Input::Message { from, message });
                if let Some(commit) = told {
                    self.consider_replay(from, commit);
                }
            }
            MemberFrame::Replay(frame) => self.replay(from, frame),
            MemberFrame::Forward { id, call } => {
                let answerer = Answerer::member(self.body.bonds.clone(), from, id);
                // Who is here and no member may become one, and then asks again.
                if !self.core.configuration().contains(from) {
                    return answerer.answer(Outcome::Refused(Reason::Unavailable));
                }
                let Some(room) = self.forwards.room(from, &call) else {
                    self.body.metrics.refused_busy();
                    return answerer.answer(Outcome::Refused(Reason::Busy));
                };
                let patience = self.body.consensus.forward_timeout;
                let deadline = self.body.clock.now().plus(patience);
                self.call(call, deadline, answerer.holding(room));
            }
            MemberFrame::Answer { id, outcome } => {
                if let Forwarded::Pause(id) = self.body.calls.answered(from, id, outcome) {
                    self.pause(id);
                }
            }
            MemberFrame::Ping => {}
            MemberFrame::Introduction(introduction) => self.introduced(from, introduction),
            MemberFrame::Leave => self.asked_to_leave(from),
            MemberFrame::Left => self.told_left(from),
            MemberFrame::Snapshot(frame) => {
                // Each whom a snapshot is lent has a file open: so many as there are members. But
                // whoever asks for one may not know yet who these are.
                let is_wish = matches!(frame, SnapshotFrame::Ask(_));
                if is_wish && !self.core.configuration().contains(from) {
                    return self.body.metrics.snapshot_part_dropped();
                }
                self.snapshots.frame(from, frame, &self.body.metrics);
            }
        }
    }

    fn mail(&mut self, mail: Mail) {
        match mail {
            Mail::Call { call, deadline, answerer } => self.call(call, deadline, answerer),
            Mail::Entries { from, count_max, reply } => {
                let from = from.max(self.core.log().start().index.next());
                let last = from.plus(count_max as u64).prev().min(self.core.commit());
                let entries = match from <= last {
                    true => self.core.log().slice(from..=last, ENTRIES_BYTES_MAX),
                    false => Vec::new(),
                };
                // The asker may have gone.
                drop(reply.send(entries));
            }
            Mail::Transfer { to, reply } => self.transfer(to, reply),
            Mail::Leave { reply } => self.leave(reply),
        }
    }

    fn time(&mut self) {
        let now = self.body.clock.now();
        if now >= self.election_due() {
            self.step(Input::Timeout);
        }
        for (to, message) in self.notices.take(now) {
            self.body.bonds.send(to, MemberFrame::Raft(message));
        }
        while let Some(due) = self.body.calls.due(now) {
            if let Due::Retry(id) = due {
                self.dispatch(id);
            }
        }
        self.tend(now);
    }

    fn election_due(&self) -> Time {
        match self.core.term() {
            raft::Term(0) => self.core.deadline().max(self.bootstrap_until),
            _ => self.core.deadline(),
        }
    }

    fn due(&self) -> Time {
        let replay = self.replaying.due(self.body.clock.now());
        let others = [self.body.due(), self.notices.due(), Some(self.tend_at), replay];
        others.into_iter().flatten().fold(self.election_due(), Time::min)
    }

    fn halt(&mut self, reason: String) {
        self.over.get_or_insert(Over::Stopped(reason));
    }

    fn publish(&mut self) {
        let applied = *self.applied.borrow_and_update();
        let (core, body, replayed) = (&self.core, &self.body, self.replaying.tally());
        let (calls, backlog) = (body.calls.len(), self.storage.backlog_bytes());
        body.metrics.queues(&Depths {
            calls,
            storage_bytes: backlog,
            held: self.barrier.held(),
            mailbox: body.mail.len(),
            bond_events: body.events.len(),
            applier: self.work.max_capacity() - self.work.capacity(),
        });
        body.status.send_if_modified(|status| {
            let is_seen = |status: &Status| {
                let queues = [status.calls, status.storage_backlog_bytes, status.held_messages];
                let progress = (status.commit, status.applied, status.last);
                (status.role, status.term, status.leader, progress, queues.map(|queue| queue == 0))
            };
            let before = is_seen(status);
            (status.role, status.term, status.leader) = (core.role(), core.term(), core.leader());
            (status.commit, status.applied, status.last) = (core.commit(), applied, core.last());
            (status.calls, status.storage_backlog_bytes) = (calls, backlog);
            status.held_messages = self.barrier.held();
            status.log_bytes = core.log().bytes();
            let mut changed = before != is_seen(status);
            let start = core.log().start().index;
            changed |= std::mem::replace(&mut status.log_start, start) != start;
            if !status.bonded.iter().eq(&body.bonded) {
                status.bonded = body.bonded.iter().copied().collect();
                changed = true;
            }
            if let Some(tally) = replayed.filter(|tally| status.replayed != **tally) {
                status.replayed.clone_from(tally);
                changed = true;
            }
            if status.configuration != *core.configuration() {
                status.configuration.clone_from(core.configuration());
                changed = true;
            }
            changed
        });
        self.search_log();
        let fresh = self.fresh;
        self.body.admit.send_if_modified(|admittance| {
            std::mem::replace(&mut admittance.dissolves, fresh) != fresh
        });
    }
}

/// What the store has to say.
fn poll_storage(storage: &mut dyn Storage, context: &mut Context<'_>) -> Poll<Turn> {
    if let Poll::Ready(written) = storage.poll_persisted(context) {
        return Poll::Ready(Turn::Persisted(written));
    }
    storage.poll_kept(context).map(Turn::Kept)
}

const DRAIN_MAX: usize = 256;
/// Messages held back for a disk that stalls: more than all windows together hold.
const HELD_MAX: usize = 65_536;
const ENTRIES_BYTES_MAX: usize = 4 << 20;
