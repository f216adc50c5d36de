//! A strong read sees all that was committed before it was asked for (Raft §8, thesis §6.4).
//!
//! Nothing is acknowledged before a leader knows it committed, so a read index at or past every
//! leader's commit index at the moment of asking misses no acknowledged write.

use raft::{Index, NodeId};

use super::{View, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct LinearizableRead {
    committed: Index,
}

/// What a read must at least see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadFloor(Index);

impl LinearizableRead {
    /// A server has stepped.
    pub fn observe(&mut self, view: &View<'_>) {
        self.committed = self.committed.max(view.commit);
    }

    /// A client asks for a read now.
    pub fn asked(&self) -> ReadFloor {
        ReadFloor(self.committed)
    }

    /// A read that was asked for then is answered at this index.
    pub fn answered(&self, node: NodeId, floor: ReadFloor, index: Index) -> Result<(), Violation> {
        if index >= floor.0 {
            return Ok(());
        }
        let message = format!(
            "{node:?} answers a read at index {index}, {} was committed before it was asked",
            floor.0
        );
        Err(Violation::of("linearizable read", message))
    }
}
