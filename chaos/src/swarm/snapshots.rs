//! Snapshots in the model: servers write their own, and fetch each other's.
//!
//! A snapshot is named by its position, and by state-machine safety a position has one state, so
//! the world keeps one archive. A fetch fails where the sender is down or cut off; the cores
//! must ask again.

use std::rc::Rc;

use raft::{Index, Input, NodeId, Position, Snapshot};

use super::{
    event::Event,
    node::Seat,
    profile::Span,
    world::{Checked, World},
};
use crate::invariant::Violation;

impl World {
    /// Begins to write a snapshot, if enough was applied since the last.
    pub(super) fn compact(&mut self, seat: Seat) {
        let node = &mut self.nodes[seat.0];
        let since = node.machine.applied.index.since(node.disk.snapshot.applied.index);
        let entries = self.profile.compact_entries;
        // A newcomer has no configuration to put into a snapshot before it has applied one.
        let unknown = node.machine.configuration.is_empty();
        if entries == 0 || since < entries || node.compacting || unknown {
            return;
        }
        node.compacting = true;
        let snapshot = Rc::new(node.machine.clone());
        let incarnation = node.incarnation;
        let Span(min, max) = self.profile.sync;
        let written = self.now.plus(self.streams.disks.duration(min, max * 3));
        self.queue.put(written, Event::Compacted { seat, incarnation, snapshot });
    }

    /// A snapshot of a server's own is durable.
    pub(super) fn compacted(
        &mut self,
        seat: Seat,
        incarnation: u64,
        snapshot: Rc<super::machine::Machine>,
    ) -> Checked {
        let node = &mut self.nodes[seat.0];
        if !node.lives(incarnation) {
            return Ok(());
        }
        node.compacting = false;
        if snapshot.applied.index <= node.disk.snapshot.applied.index {
            return Ok(());
        }
        self.counts.snapshots_taken += 1;
        let covers = snapshot.covers();
        node.disk.compact(Rc::clone(&snapshot));
        self.archive.insert(snapshot.applied, snapshot);
        while self.archive.len() > ARCHIVE_MAX {
            self.archive.pop_first();
        }
        self.input(seat, Input::SnapshotTaken(covers))?;
        self.same_sessions(seat)
    }

    /// A core wants a snapshot that another server has.
    pub(super) fn ask_for_snapshot(&mut self, seat: Seat, from: NodeId, snapshot: &Snapshot) {
        let position = snapshot.position;
        let from = Seat(usize::from(from.peer.0[31]).wrapping_sub(1));
        let Span(min, max) = self.profile.network.delay;
        let fetched = self.now.plus(self.streams.disks.duration(min * 4, max * 20));
        let node = &mut self.nodes[seat.0];
        node.installs += 1;
        let (install, incarnation) = (node.installs, node.incarnation);
        self.queue.put(fetched, Event::Installed { seat, incarnation, install, from, position });
    }

    /// A snapshot of another server has arrived.
    pub(super) fn install(&mut self, seat: Seat, from: Seat, position: Position) -> Checked {
        let down = self.nodes.get(from.0).is_none_or(|sender| sender.core.is_none());
        if down || self.network.is_cut(from, seat) || self.network.is_cut(seat, from) {
            return Ok(());
        }
        let Some(snapshot) = self.archive.get(&position).map(Rc::clone) else { return Ok(()) };
        // It stands in line behind what is already being written.
        if let Some(last) = self.nodes[seat.0].disk.flush() {
            self.persisted(seat, last)?;
            if let Some(last) = self.nodes[seat.0].disk.flush() {
                self.persisted(seat, last)?;
            }
        }
        let node = &mut self.nodes[seat.0];
        if position.index <= node.machine.applied.index || node.disk.waiting() > 0 {
            return Ok(());
        }
        node.disk.install(Rc::clone(&snapshot));
        node.machine = (*snapshot).clone();
        node.calls.covered(position.index);
        self.counts.snapshots_installed += 1;
        self.invariants.restored(node.server, node.id, position, snapshot.state)?;
        self.tell(|world| format!("{} installs {position}", world.nodes[seat.0].id));
        let (snapshot, sessions) = (snapshot.covers(), snapshot.sessions.clone());
        self.input(seat, Input::SnapshotInstalled { snapshot, sessions })
    }

    /// The core keeps its own session table; it must be the machine's.
    pub(super) fn same_sessions(&self, seat: Seat) -> Checked {
        let node = &self.nodes[seat.0];
        let Some(core) = &node.core else { return Ok(()) };
        let together = core.applied() == node.machine.applied.index;
        if !together || core.applied() == Index(0) || *core.sessions() == node.machine.sessions {
            return Ok(());
        }
        let what =
            format!("{:?} keeps other sessions at {} than its machine", node.id, core.applied());
        Err(Violation::of("state machine safety", what))
    }
}

/// Snapshots that may still be fetched.
const ARCHIVE_MAX: usize = 256;
