//! The disk of one server of the model: what would survive, and what is still on its way.
//!
//! Writes become durable in order, in groups: one sync at a time takes all that waits. A crash
//! keeps what is durable and a prefix of the rest. Refuses writes that leave a hole.

use std::{collections::VecDeque, rc::Rc};

use raft::{
    Configuration, Entry, HardState, Index, Payload, Position, Restored, Term, Write, WriteId,
};

use super::machine::Machine;
use crate::invariant::Violation;

/// See the module.
#[derive(Debug)]
pub(super) struct Disk {
    /// Term and vote.
    pub(super) hard_state: HardState,
    /// The machine as of the last snapshot.
    pub(super) snapshot: Rc<Machine>,
    /// The log after the snapshot.
    entries: VecDeque<Entry>,
    waiting: VecDeque<(WriteId, Write)>,
    syncing: bool,
    /// Where the log ends once all that waits is durable.
    end: Index,
}

impl Disk {
    /// An empty disk that starts from this machine.
    pub(super) fn new(snapshot: Rc<Machine>) -> Self {
        Self {
            hard_state: HardState::default(),
            end: snapshot.applied.index,
            snapshot,
            entries: VecDeque::new(),
            waiting: VecDeque::new(),
            syncing: false,
        }
    }

    /// Takes a write.
    pub(super) fn submit(&mut self, id: WriteId, write: Write) -> Result<(), Violation> {
        if let Write::Entries { after, entries } = &write {
            let start = self.snapshot.applied.index;
            if *after > self.end || *after < start {
                let what =
                    format!("a write after {after}: the log goes from {start} to {}", self.end);
                return Err(Violation::of("durability", what));
            }
            self.end = after.plus(entries.len() as u64);
        }
        self.waiting.push_back((id, write));
        Ok(())
    }

    /// Starts to sync all that waits, unless a sync is under way; yields its last write.
    pub(super) fn start_sync(&mut self) -> Option<WriteId> {
        if self.syncing {
            return None;
        }
        let (last, _) = self.waiting.back()?;
        self.syncing = true;
        Some(*last)
    }

    /// The sync that ends with this write is done.
    pub(super) fn synced(&mut self, last: WriteId) {
        self.syncing = false;
        while let Some((id, _)) = self.waiting.front()
            && *id <= last
        {
            self.settle_one();
        }
    }

    /// Makes all that waits durable at once; yields the last write, if any waited.
    pub(super) fn flush(&mut self) -> Option<WriteId> {
        let (last, _) = self.waiting.back()?;
        let last = *last;
        self.synced(last);
        Some(last)
    }

    /// How many writes wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The power fails: of what waits, only the first `kept` writes survive.
    pub(super) fn crash(&mut self, kept: usize) {
        for _ in 0..kept {
            self.settle_one();
        }
        self.waiting.clear();
        self.syncing = false;
        self.end = self.last().index;
    }

    /// The last durable entry.
    pub(super) fn last(&self) -> Position {
        self.entries.back().map_or(self.snapshot.applied, |entry| entry.position)
    }

    /// Where the log will end once all that waits is durable.
    pub(super) fn end(&self) -> Index {
        self.end
    }

    /// The log up to the snapshot is dropped.
    pub(super) fn compact(&mut self, snapshot: Rc<Machine>) {
        let count = snapshot.applied.index.since(self.snapshot.applied.index);
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.entries.len());
        self.entries.drain(..count);
        self.snapshot = snapshot;
    }

    /// A snapshot from elsewhere replaces the log, but for what follows it and agrees with it
    /// (Raft §7). Nothing may be waiting.
    pub(super) fn install(&mut self, snapshot: Rc<Machine>) {
        assert!(self.waiting.is_empty(), "a snapshot overtakes {} writes", self.waiting.len());
        if self.term_at(snapshot.applied.index) == Some(snapshot.applied.term) {
            self.compact(snapshot);
        } else {
            self.entries.clear();
            self.snapshot = snapshot;
        }
        self.end = self.last().index;
    }

    /// The configuration that a server would find in force.
    pub(super) fn configuration(&self) -> Configuration {
        let latest = self.entries.iter().rev().find_map(|entry| match &entry.payload {
            Payload::Configuration(configuration) => Some(configuration),
            _ => None,
        });
        latest.unwrap_or(&self.snapshot.configuration).clone()
    }

    /// What a server finds when it starts.
    pub(super) fn restored(&self) -> Restored {
        Restored {
            hard_state: self.hard_state,
            snapshot: self.snapshot.covers(),
            sessions: (self.snapshot.applied.index > Index(0))
                .then(|| self.snapshot.sessions.clone()),
            entries: self.entries.iter().cloned().collect(),
        }
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        let start = self.snapshot.applied;
        if index <= start.index {
            return (index == start.index).then_some(start.term);
        }
        let place = usize::try_from(index.since(start.index) - 1).ok()?;
        self.entries.get(place).map(|entry| entry.position.term)
    }

    fn settle_one(&mut self) {
        let Some((_, write)) = self.waiting.pop_front() else { return };
        match write {
            Write::HardState(hard_state) => self.hard_state = hard_state,
            Write::Entries { after, entries } => {
                let kept = after.since(self.snapshot.applied.index);
                self.entries.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
                self.entries.extend(entries.view().owned());
            }
        }
    }
}
