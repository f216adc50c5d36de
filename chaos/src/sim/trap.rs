//! A crash at a chosen point: a node falls silent in the middle of what it does.
//!
//! Stands at the node's store, which sees every write before it is begun and learns first that
//! one is durable. Invariant: once it has sprung nothing that the node does reaches its disk or
//! the network; that the host goes on to the end of its tick is seen by nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtime::{
    Time,
    storage::{Write, WriteId},
};
use tokio::sync::oneshot;

use super::{clock, disk::Disk, socket::Wires};
use crate::fault::CrashPoint;

/// See the module.
#[derive(Debug)]
pub(super) struct Trap {
    disk: Disk,
    wires: Arc<Wires>,
    armed: Mutex<Option<(CrashPoint, oneshot::Sender<Time>)>>,
}

impl Trap {
    /// One that nobody has armed.
    pub(super) fn new(disk: Disk, wires: Arc<Wires>) -> Self {
        Self { disk, wires, armed: Mutex::default() }
    }

    /// From now on it springs at this point; tells when it has.
    pub(super) fn arm(&self, point: CrashPoint) -> oneshot::Receiver<Time> {
        let (sprung, waits) = oneshot::channel();
        *lock(&self.armed) = Some((point, sprung));
        waits
    }

    /// It springs no more.
    pub(super) fn disarm(&self) {
        *lock(&self.armed) = None;
    }

    /// A write is about to be begun.
    pub(super) fn before(&self, write: &Write) {
        self.springs(match kind(write) {
            Kind::Vote => CrashPoint::BeforeVote,
            Kind::Entries => CrashPoint::BeforeAppend,
            Kind::Term => return,
        });
    }

    /// A write has become durable, and nobody was told of it yet.
    pub(super) fn after(&self, kind: Kind) {
        self.springs(match kind {
            Kind::Vote => CrashPoint::AfterVote,
            Kind::Entries => CrashPoint::AfterAppend,
            Kind::Term => return,
        });
    }

    fn springs(&self, point: CrashPoint) {
        let mut armed = lock(&self.armed);
        if let Some((_, sprung)) = armed.take_if(|(wanted, _)| *wanted == point) {
            self.disk.freeze();
            self.wires.cut();
            // Whoever waited may have given up; the node is silent all the same, and will be
            // crashed like any other.
            let _ = sprung.send(clock::now());
        }
    }
}

/// What a write is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A vote in a term.
    Vote,
    /// A term without a vote.
    Term,
    /// Entries of the log.
    Entries,
}

/// Writes that are not durable yet, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Underway(std::collections::VecDeque<(WriteId, Kind)>);

impl Underway {
    /// A write is begun.
    pub(super) fn begun(&mut self, id: WriteId, write: &Write) {
        self.0.push_back((id, kind(write)));
    }

    /// All up to this one are durable: yields what they were about.
    pub(super) fn done(&mut self, id: WriteId) -> Vec<Kind> {
        let count = self.0.iter().take_while(|(begun, _)| *begun <= id).count();
        self.0.drain(..count).map(|(_, kind)| kind).collect()
    }
}

fn kind(write: &Write) -> Kind {
    match write {
        Write::HardState(state) if state.vote.is_some() => Kind::Vote,
        Write::HardState(_) => Kind::Term,
        Write::Entries { .. } => Kind::Entries,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
