//! The driver's half that looks after snapshots: when one is due, and what follows from one.
//!
//! The applier writes it, the store makes it count, the core then lets go of the log. One that
//! the core wants from elsewhere is fetched beside the driver, and goes the same way back.
//! Invariant: the core hears of a snapshot only once that is durable, so that no crash finds a
//! log that starts after something that is not there.

use std::{future, sync::Arc, time::Duration};

use raft::{Entries, Index, Input, NodeId, Position, Snapshot, Standing, Time};

use super::Driver;
use crate::{
    group::{
        applier::{Report, Work},
        body::Body,
        metric::{GroupMetrics, Way},
        status::Event,
        transfer::{Fetch, Fetched, Fetching, Kin, Lender, SnapshotFrame},
    },
    storage::{Rest, Shelf, SnapshotHead, SnapshotId, Storage},
};

/// See above.
pub(super) struct Snapshots {
    /// `None` where the store keeps no snapshots.
    shelf: Option<Shelf>,
    /// Hands ours on.
    lender: Option<Lender>,
    /// Another's is on its way here.
    fetching: Option<Fetching>,
    /// It is here, and waits to be installed.
    fetched: Option<Fetched>,
    /// What was handed to the applier since the last snapshot was begun.
    entries: u64,
    bytes: u64,
    /// Since when one is written, or on its way to count.
    taking: Option<Time>,
    /// The present one was taken before this lineage was forced, and is of no use to who joins.
    is_outdated: bool,
    /// How often in a row another in place of such a one came to nothing, and until when none is
    /// tried again.
    failures: u32,
    pause_until: Time,
    /// Where the log was to start when who reads a snapshot held it back.
    held_back: Option<Index>,
}

impl Snapshots {
    pub(super) fn new(storage: &dyn Storage) -> Self {
        Self {
            shelf: storage.shelf(),
            lender: None,
            fetching: None,
            fetched: None,
            entries: 0,
            bytes: 0,
            taking: None,
            is_outdated: false,
            failures: 0,
            pause_until: Time::default(),
            held_back: None,
        }
    }

    /// Looks at the snapshot that there is, shows it, and begins to hand it on.
    pub(super) fn begin(&mut self, body: &Body) {
        let Some(shelf) = self.shelf.clone() else { return };
        let lineage = body.founding.as_ref().map(|founding| founding.lineage);
        // One that cannot be read is found out by who needs it.
        let present = shelf.open().ok().flatten();
        self.is_outdated = present.is_some_and(|file| Some(file.head().lineage) != lineage);
        if let Some(id) = shelf.current() {
            body.metrics.snapshot_shown(&id);
            show(body, &id);
        }
        let (bonds, clock) = (body.bonds.clone(), Arc::clone(&body.clock));
        let (consensus, alarm) = (&body.consensus, body.alarm.clone());
        self.lender = Some(Lender::spawn(shelf, lineage, bonds, clock, consensus, alarm));
    }

    /// These go to the applier, and weigh so much.
    pub(super) fn handed(&mut self, entries: &Entries) -> u64 {
        let bytes = entries.view().weight_bytes() as u64;
        self.entries += entries.len() as u64;
        self.bytes += bytes;
        bytes
    }

    /// A member speaks of snapshots.
    pub(super) fn frame(&self, from: NodeId, frame: SnapshotFrame, metrics: &GroupMetrics) {
        let has_room = match frame {
            SnapshotFrame::Ask(ask) => {
                self.lender.as_ref().is_some_and(|lender| lender.asked(from, ask))
            }
            SnapshotFrame::Answer { id, part } => {
                // Whoever fetches none any more has no use for it.
                let fetching = self.fetching.as_ref();
                fetching.is_none_or(|fetching| fetching.answered(from, id, part))
            }
        };
        if !has_room {
            metrics.snapshot_part_dropped();
        }
    }

    /// Resolves once a snapshot from elsewhere is here.
    pub(super) async fn fetched(&mut self) -> Fetched {
        if let Some(fetching) = &mut self.fetching
            && let Some(fetched) = fetching.fetched().await
        {
            return fetched;
        }
        future::pending().await
    }

    /// One that is here already.
    pub(super) fn try_fetched(&mut self) -> Option<Fetched> {
        self.fetching.as_mut()?.try_fetched()
    }

    /// A snapshot from elsewhere is here; it is installed when the applier has room for it.
    pub(super) fn arrived(&mut self, fetched: Fetched) {
        (self.fetching, self.fetched) = (None, Some(fetched));
    }

    /// Whether something is to be done once the applier has room.
    pub(super) fn waits_for_room(&self) -> bool {
        self.fetched.is_some()
    }

    fn current(&self) -> Option<SnapshotId> {
        self.shelf.as_ref()?.current()
    }

    /// Where the snapshot ends that this member reads, or has read not long ago.
    pub(super) fn lent(&self, to: NodeId, now: Time) -> Option<Index> {
        self.lender.as_ref()?.lent(to, now)
    }

    /// From here on the log counts anew.
    fn begun(&mut self) {
        (self.entries, self.bytes) = (0, 0);
    }

    /// The present one is of this lineage.
    fn renewed(&mut self) {
        (self.is_outdated, self.failures, self.pause_until) = (false, 0, Time::default());
    }

    /// The one that was begun came to nothing. An outdated one cannot wait for its successor until
    /// the log has grown as much again, for nobody can join meanwhile.
    fn failed(&mut self, now: Time, draw: impl FnOnce() -> u64) {
        self.taking = None;
        if self.is_outdated {
            self.pause_until = now.plus(renewal_pause(self.failures, draw()));
            self.failures = self.failures.saturating_add(1);
        }
    }
}

impl Driver {
    /// The core wants a snapshot that ends there, and that node has one. A later one will do.
    pub(super) fn offered(&mut self, from: NodeId, snapshot: &Snapshot) {
        let least = snapshot.position.index;
        if let Some(fetching) = &self.snapshots.fetching {
            return fetching.want(from, least);
        }
        let waits = self.snapshots.fetched.is_some();
        let (Some(shelf), Some(founding)) = (&self.snapshots.shelf, &self.body.founding) else {
            self.body.metrics.snapshot_ignored();
            return tracing::warn!(%from, %least, "this member's store keeps no snapshots");
        };
        if waits {
            return;
        }
        let body = &self.body;
        tracing::info!(%from, %least, "fetching a snapshot: the log there starts after it");
        let Body { group, machine, .. } = *body;
        let fetch = Fetch {
            kin: Kin { group, lineage: founding.lineage, machine },
            shelf: shelf.clone(),
            bonds: body.bonds.clone(),
            network: body.network.clone(),
            clock: Arc::clone(&body.clock),
            consensus: body.consensus.clone(),
            failed: body.metrics.snapshots_failed(Way::Fetch).clone(),
            status: body.status.subscribe(),
        };
        self.snapshots.fetching = Some(Fetching::spawn(fetch, from, least, body.alarm.clone()));
    }

    /// Goes on from a snapshot that was fetched: in the store, the core and the machine.
    ///
    /// In the store and the core at once, for what the core has written meanwhile would follow
    /// from a log that is no more. So this waits for the disk, as a founding does; whoever is in
    /// need of a snapshot holds nobody up. A disk that hangs is a store that failed, so the wait
    /// ends. The machine takes its time, like any applying.
    pub(super) fn install(&mut self) {
        if self.snapshots.fetching.as_ref().is_some_and(|f| f.least() <= self.core.applied()) {
            // The log has caught up by itself.
            self.snapshots.fetching = None;
        }
        if self.over.is_some() || self.work.capacity() == 0 {
            return;
        }
        let Some(Fetched { written, sessions, began }) = self.snapshots.fetched.take() else {
            return;
        };
        let (id, covers) = (written.id(), written.head().covers.clone());
        let Position { term, index } = id.position;
        if index <= self.core.applied() || term > self.core.term() {
            return;
        }
        let rest = match self.core.log().term_at(index) == Some(term) {
            true => Rest::Stays,
            false => Rest::GivesWay,
        };
        let deaf = self.body.bonds.turn_deaf();
        if let Err(error) = self.storage.install(written, rest) {
            return self.halt(format!("its store failed: {error}"));
        }
        drop(deaf);
        let file = self.snapshots.shelf.as_ref().map(Shelf::open);
        let file = match file {
            Some(Ok(Some(file))) => file,
            Some(Err(error)) => return self.halt(format!("its store failed: {error}")),
            Some(Ok(None)) | None => return self.halt("its store lost a snapshot".into()),
        };
        tracing::info!(position = %id.position, bytes = id.bytes, "going on from a snapshot");
        (self.handed, self.through) = (index, self.through.max(index));
        self.lag.skipped(index);
        self.work(Work::Restore { file });
        self.snapshots.begun();
        self.snapshots.renewed();
        self.snapshots.taking = None;
        let took = self.body.clock.now().since(began);
        self.body.metrics.snapshot(Way::Fetch, &id, took);
        self.body.note(&Event::SnapshotInstalled(id));
        show(&self.body, &id);
        self.step(Input::SnapshotInstalled { snapshot: covers, sessions });
    }

    /// Begins a snapshot if one is due.
    pub(super) fn look_after_log(&mut self) {
        let Snapshots { entries, bytes, taking, is_outdated, pause_until, .. } = self.snapshots;
        let wants_another = is_outdated && self.body.clock.now() >= pause_until;
        let is_due = wants_another || self.body.consensus.wants_snapshot(entries, bytes);
        // One place is enough: where the machine lags entries take all others.
        let is_busy = self.work.capacity() == 0;
        // What may yet be given up is nothing to rest a log on.
        if !is_due || taking.is_some() || is_busy || self.fresh || self.over.is_some() {
            return;
        }
        let Some(shelf) = self.snapshots.shelf.clone() else { return };
        let Some(founding) = &self.body.founding else { return };
        let before = self.snapshots.current().map_or(Index(0), |id| id.position.index);
        // As the applier will be once all that was handed to it is applied.
        let Some(covers) = self.core.snapshot_at(self.handed) else { return };
        if covers.position.index <= before {
            return;
        }
        let Body { group, machine, .. } = self.body;
        let (lineage, machine) = (founding.lineage, machine.to_owned());
        let head = SnapshotHead { group, lineage, machine, covers };
        self.snapshots.begun();
        self.snapshots.taking = Some(self.body.clock.now());
        self.work(Work::Snapshot { head, shelf });
    }

    /// The applier has something to say.
    pub(super) fn reported(&mut self, report: Report) {
        match report {
            Report::Snapshot(Ok(written)) => self.storage.keep(written),
            Report::Snapshot(Err(error)) => self.snapshot_failed(&error),
            Report::Broken(error) => {
                self.halt(format!("its machine cannot take a snapshot over: {error}"));
            }
        }
    }

    /// A snapshot of this member's own came to nothing: the next is due once the log has grown
    /// as much again, or after a pause if the present one is outdated.
    pub(super) fn snapshot_failed(&mut self, error: &str) {
        let Body { clock, network, .. } = &self.body;
        self.snapshots.failed(clock.now(), || network.draw());
        self.body.metrics.snapshots_failed(Way::Take).increment(1);
        tracing::warn!(%error, "no snapshot: the log stays as it is");
    }

    /// A snapshot of this member's own is durable: the core may let go of the log before it, but
    /// for a tail.
    pub(super) fn snapshot_kept(&mut self, position: Position) {
        let now = self.body.clock.now();
        let Some(id) = self.snapshots.current().filter(|id| id.position == position) else {
            return;
        };
        self.snapshots.renewed();
        let began = self.snapshots.taking.take().unwrap_or(now);
        self.body.metrics.snapshot(Way::Take, &id, now.since(began));
        self.body.note(&Event::SnapshotTaken(id));
        show(&self.body, &id);
        let tail = u64::from(self.body.consensus.snapshot_tail_entries);
        self.let_go(Index(position.index.0.saturating_sub(tail)), now);
    }

    /// Lets go of what was held back for who reads a snapshot, as far as it is held no longer.
    pub(super) fn let_go_of_rest(&mut self, now: Time) {
        if let Some(wanted) = self.snapshots.held_back {
            self.let_go(wanted, now);
        }
    }

    /// The core may let go of the log before there; if somebody's reading stands in the way it
    /// does so later.
    fn let_go(&mut self, wanted: Index, now: Time) {
        let start = self.start_for_readers(wanted, now);
        self.snapshots.held_back = (start < wanted).then_some(wanted);
        if start <= self.core.log().start().index {
            return;
        }
        if let Some(snapshot) = self.core.snapshot_at(start) {
            self.step(Input::SnapshotTaken(snapshot));
        }
    }

    /// Where the log is to start that would start there: no later than where those go on who read
    /// a snapshot. If the log outran each of them they would need another one when they have it,
    /// and another then, for ever. Only a leader's log is asked for what follows.
    fn start_for_readers(&self, start: Index, now: Time) -> Index {
        let standings = self.core.standings();
        let goes_on = |standing: &Standing| {
            Some(self.snapshots.lent(standing.node, now)?.max(standing.matched))
        };
        // Who goes on where the log is gone already needs another one in any case.
        let held = self.core.log().start().index..start;
        let first = standings.iter().filter_map(goes_on).filter(|end| held.contains(end)).min();
        let Some(first) = first else { return start };
        let due_bytes = u64::from(self.body.consensus.snapshot_log_bytes);
        let bytes_max = (READ_LOGS_MAX * due_bytes).max(READ_LOG_BYTES_MIN);
        let bytes = self.core.log().bytes();
        if (bytes as u64) < bytes_max {
            return first;
        }
        self.body.metrics.snapshot_outrun();
        tracing::warn!(
            %start, %first, bytes,
            "the log outruns a snapshot that a member reads: it will need another one",
        );
        start
    }
}

fn show(body: &Body, id: &SnapshotId) {
    body.status.send_if_modified(|status| {
        (status.snapshot, status.snapshot_bytes) = (id.position, id.bytes);
        true
    });
}

/// How long another attempt waits after so many that came to nothing before the last. Half fixed,
/// half drawn: members whose disks filled up together do not all write again at one moment.
pub(super) fn renewal_pause(failures: u32, draw: u64) -> Duration {
    let half = (RENEWAL_PAUSE_MIN * (1 << failures.min(16))).min(RENEWAL_PAUSE_MAX) / 2;
    half + Duration::from_nanos(draw % (half.as_nanos() as u64).max(1))
}

/// The pauses between attempts to replace a snapshot of another lineage; they double.
pub(super) const RENEWAL_PAUSE_MIN: Duration = Duration::from_secs(1);
const RENEWAL_PAUSE_MAX: Duration = Duration::from_secs(60);
/// For who reads a snapshot the log grows to so many times what the next one is due at.
const READ_LOGS_MAX: u64 = 4;
/// And to this at least: also where the log's weight is no reason for a snapshot.
const READ_LOG_BYTES_MIN: u64 = 64 << 20;
