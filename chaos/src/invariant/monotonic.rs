//! What only grows: the term for ever; commit and applied index while a server lives.
//!
//! And what bounds what: applied ≤ commit ≤ last.

use raft::{Index, Term};

use super::{PerServer, View, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct Monotonic {
    seen: PerServer<Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    incarnation: u64,
    term: Term,
    commit: Index,
    applied: Index,
}

impl Monotonic {
    /// A server has stepped.
    pub fn observe(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let seen = self.seen.of(view.server);
        let before = if seen.incarnation == view.incarnation { *seen } else { Seen::default() };
        let now = Seen {
            incarnation: view.incarnation,
            term: view.hard_state.term,
            commit: view.commit,
            applied: view.applied,
        };
        *seen = now;
        let broken = if now.term < before.term {
            format!("term goes from {} to {}", before.term, now.term)
        } else if now.commit < before.commit {
            format!("commit goes from {} to {}", before.commit, now.commit)
        } else if now.applied < before.applied {
            format!("applied goes from {} to {}", before.applied, now.applied)
        } else if now.applied > now.commit {
            format!("applied {} is past commit {}", now.applied, now.commit)
        } else if now.commit > view.log.last().index {
            format!("commit {} is past the last entry {}", now.commit, view.log.last())
        } else {
            return Ok(());
        };
        Err(Violation::of("monotonic", format!("{:?}: {broken}", view.node)))
    }
}
