//! What only grows: the term on disk for ever; term, commit and applied index while a server
//! lives.
//!
//! And what bounds what: applied ≤ commit ≤ last, and the term on disk ≤ the term in memory, so
//! that what was promised in a term binds across restarts.

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
    durable: Term,
    term: Term,
    commit: Index,
    applied: Index,
}

impl Monotonic {
    /// A server has stepped.
    pub fn observe(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let seen = self.seen.of(view.server);
        let same = seen.incarnation == view.incarnation;
        let before = if same { *seen } else { Seen { durable: seen.durable, ..Seen::default() } };
        let now = Seen {
            incarnation: view.incarnation,
            durable: view.durable_state.term,
            term: view.hard_state.term,
            commit: view.commit,
            applied: view.applied,
        };
        *seen = now;
        let broken = if now.durable < before.durable {
            format!("the term on disk goes from {} to {}", before.durable, now.durable)
        } else if now.term < now.durable {
            format!("term {} is behind {}, which is on disk", now.term, now.durable)
        } else if now.term < before.term {
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
