//! The task around the core: it owns the core and does what the core wants done.
//!
//! One of the callers of `step`. It decides nothing that the core decides: it brings inputs in,
//! carries effects out in their order, and keeps the calls of users, clients and peers moving
//! towards the leader. Invariant: a message that promises something leaves only once the
//! [`Barrier`] says that the promise is durable.

mod calling;
mod effects;
mod forwards;
mod frames;
mod lag;
mod membership;
mod notices;
mod replaying;
mod snapshots;
mod stall;
mod status;
#[cfg(test)]
mod tests;
mod timer;

use std::{
    collections::BTreeSet,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use raft::{
    Barrier, Change, Effect, EntriesRef, Index, Input, NodeId, Position, Raft, Refusal, StoreId,
    Time, WriteId,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use calling::ENTRIES_ROOM;
use forwards::Forwards;
use lag::Lag;
use membership::Leaving;
use notices::Notices;
use replaying::Replaying;
use snapshots::Snapshots;
use stall::Stall;
use timer::Timer;

use crate::{
    StorageError,
    group::{
        applier::{Applier, Applying, Report, Work},
        body::Body,
        bond::BondEvent,
        calls::{CallId, Due},
        life::ITSELF,
        mailbox::Mail,
        steward::{Cause, Steward},
        transfer::Fetched,
        wire::MemberFrame,
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
    stall: Stall,
    effects: Vec<Effect>,
    work: mpsc::Sender<Work>,
    applied: watch::Receiver<Index>,
    reports: mpsc::Receiver<Report>,
    applier: JoinHandle<Option<Applier>>,
    snapshots: Snapshots,
    /// Handed to the applier up to here; the core wants it applied up to there.
    handed: Index,
    through: Index,
    lag: Lag,
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
    /// About to end.
    pub(crate) applier: JoinHandle<Option<Applier>>,
}

/// One thing that happened.
enum Turn {
    /// A task of this member panicked.
    Fell,
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
        let Applying { work, applied, reports, task: applier } = applying;
        let snapshots = Snapshots::new(&*storage);
        let bootstrap_until = match core.term() {
            raft::Term(0) => body.clock.now().plus(body.consensus.bootstrap_delay),
            _ => Time::default(),
        };
        let heartbeat_interval = body.consensus.heartbeat_interval;
        let forwards = Forwards::new(body.consensus.requests_bytes_max as usize);
        let replaying = Replaying::new(&body.consensus, body.network.draw());
        let stall = Stall::new(&body.consensus);
        let (fresh, searched) = (!body.tells, core.log().start().index);
        Self {
            timer: Timer::new(Arc::clone(&body.clock)),
            handed: core.applied(),
            through: core.applied(),
            lag: Lag::default(),
            body,
            core,
            barrier: Barrier::default(),
            notices: Notices::new(heartbeat_interval),
            forwards,
            replaying,
            storage,
            stall,
            effects: Vec::new(),
            work,
            applied,
            reports,
            applier,
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
        let alarm = self.body.alarm.clone();
        let over = alarm.caught(ITSELF, self.turns()).await;
        let Self { mut body, storage, work, applied, reports, applier, .. } = self;
        let applying = Applying { work, applied, reports, task: applier };
        match over {
            Some(Over::Dissolved(store)) => {
                return Some(Dissolved { body, storage, store, applier: applying.task });
            }
            Some(Over::Stopped(reason)) => body.stop(reason, storage, Some(applying)).await,
            None => body.fall(storage, Some(applying)).await,
        }
        None
    }

    /// Turn after turn, until it is over.
    async fn turns(&mut self) -> Over {
        self.snapshots.begin(&self.body);
        for node in self.body.bonded.clone() {
            self.step(Input::Connected(node));
        }
        self.configured();
        self.settle();
        loop {
            if let Some(over) = self.over.take() {
                return over;
            }
            let turn = self.next().await;
            self.go_on(turn);
        }
    }

    /// Does what follows from one thing that happened, and what else is due by now.
    fn go_on(&mut self, turn: Turn) {
        self.take(turn);
        self.supply();
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
            Ok(()) = body.rung.changed() => Turn::Fell,
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
            Turn::Fell => self.halt(self.body.alarm.told().unwrap_or_default()),
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
            // Only a panic ends it before this task does, and that is told elsewhere.
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
        // Of these there is one at a time.
        if let Poll::Ready(position) =
            self.storage.poll_kept(&mut Context::from_waker(Waker::noop()))
        {
            self.snapshot_kept(position);
        }
        if let Ok(report) = self.reports.try_recv() {
            self.reported(report);
        }
        if let Some(fetched) = self.snapshots.try_fetched() {
            self.snapshots.arrived(fetched);
        }
    }

    /// Gives the applier what it has room for. Entries come last: there may be more of them than
    /// it ever has room for, and then no snapshot would be begun by which the log could shrink.
    fn supply(&mut self) {
        self.install();
        self.look_after_log();
        self.hand_over();
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
            self.supply();
            if !std::mem::take(&mut self.leader_changed) {
                return;
            }
            for id in self.body.calls.unproposed() {
                self.dispatch(id);
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
                    true => {
                        let entries = self.core.log().walk(from..=last, ENTRIES_BYTES_MAX);
                        entries.flat_map(EntriesRef::owned).collect()
                    }
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
}

/// What the store has to say.
fn poll_storage(storage: &mut dyn Storage, context: &mut Context<'_>) -> Poll<Turn> {
    if let Poll::Ready(written) = storage.poll_persisted(context) {
        return Poll::Ready(Turn::Persisted(written));
    }
    storage.poll_kept(context).map(Turn::Kept)
}

const DRAIN_MAX: usize = 256;
const ENTRIES_BYTES_MAX: usize = 4 << 20;
