//! What a machine has applied is a prefix of what its server knows to be committed (Raft §5.3).
//!
//! Entries come one after the other, without a gap and without repetition, and none before its
//! server's commit index has reached it. That all servers mean the same entries by it is for
//! state-machine safety to see.

use raft::{Index, Position};

use super::{Application, PerServer, Server, View, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct AppliedPrefix {
    seen: PerServer<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    commit: Index,
    applied: Index,
}

impl AppliedPrefix {
    /// A server has stepped.
    pub fn observe(&mut self, view: &View<'_>) {
        self.seen.of(view.server).commit = view.commit;
    }

    /// How far a server has committed, as it was last seen.
    pub(super) fn commit(&mut self, server: Server) -> Index {
        self.seen.of(server).commit
    }

    /// A machine has applied an entry.
    pub fn applied(&mut self, application: &Application) -> Result<(), Violation> {
        let index = application.position.index;
        let seen = self.seen.of(application.server);
        let due = seen.applied.next();
        let broken = if index != due {
            format!("applies entry {index}, entry {due} is due")
        } else if index > seen.commit {
            format!("applies entry {index}, its commit index is {}", seen.commit)
        } else {
            seen.applied = index;
            return Ok(());
        };
        Err(Violation::of("applied prefix", format!("{:?} {broken}", application.node)))
    }

    /// A machine has taken over the state of a snapshot, or starts from its own.
    pub fn restored(&mut self, server: Server, at: Position) {
        self.seen.of(server).applied = at.index;
    }
}
