//! No truncation at or below the commit index: what is committed stays (Raft §5.4).
//!
//! The one exception is a snapshot that replaces the whole log, and it only ever covers more.

use raft::Index;

use super::{PerServer, View, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct NoTruncationBelowCommit {
    seen: PerServer<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    incarnation: u64,
    commit: Index,
}

impl NoTruncationBelowCommit {
    /// A server has stepped.
    pub fn observe(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let seen = self.seen.of(view.server);
        let before = if seen.incarnation == view.incarnation { seen.commit } else { Index(0) };
        *seen = Seen { incarnation: view.incarnation, commit: view.commit };
        if let Some(written) = view.written
            && written < before
        {
            return Err(Violation::of(
                "no truncation below commit",
                format!(
                    "{:?} in term {} rewrites its log after index {written}, commit is {before}",
                    view.node, view.hard_state.term
                ),
            ));
        }
        Ok(())
    }
}
