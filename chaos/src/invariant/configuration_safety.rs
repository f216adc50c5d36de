//! Configurations change one server at a time, and only on firm ground (thesis §4.1).
//!
//! A leader appends a configuration only when the one before it is committed and an entry of its
//! own term is too (Ongaro's correction of 2015); it moves one server; only a voter of its own
//! configuration campaigns.

use raft::{Configuration, Index, Payload, Role};

use super::{PerServer, View, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct ConfigurationSafety {
    seen: PerServer<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    incarnation: u64,
    role: Option<Role>,
    commit: Index,
    configuration: Configuration,
}

impl ConfigurationSafety {
    /// A server has stepped.
    pub fn observe(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let seen = self.seen.of(view.server);
        let fresh = seen.incarnation != view.incarnation;
        if fresh {
            *seen = Seen { incarnation: view.incarnation, ..Seen::default() };
        }
        let campaigns = view.role != Role::Follower && seen.role != Some(view.role);
        // Thesis §4.2.2: while its removal is not known to be committed, a server may still be
        // the only one that can win.
        let votes = view.configuration.voters.contains(&view.node);
        if campaigns && !votes && pending(view, view.commit, view.log.last().index).is_none() {
            return Err(violation(view, "campaigns without being a voter"));
        }
        if let (Role::Leader, Some(written)) = (view.role, view.written) {
            Self::appended(seen, view, written)?;
        }
        seen.role = Some(view.role);
        seen.commit = view.commit;
        let may_differ = fresh || view.written.is_some();
        if may_differ && seen.configuration != *view.configuration {
            seen.configuration.clone_from(view.configuration);
        }
        Ok(())
    }

    /// A leader has appended: `seen` is what it knew before.
    fn appended(seen: &Seen, view: &View<'_>, written: Index) -> Result<(), Violation> {
        let mut index = written;
        let mut found = false;
        while index < view.log.last().index {
            index = index.next();
            let Some(Payload::Configuration(next)) = view.log.get(index).map(|e| &e.payload) else {
                continue;
            };
            if found {
                return Err(violation(view, "appends two configurations at once"));
            }
            found = true;
            if !one_moved(&seen.configuration, next) {
                return Err(violation(view, "moves more than one server"));
            }
            if view.log.term_at(seen.commit) != Some(view.hard_state.term) {
                return Err(violation(view, "changes before an entry of its term is committed"));
            }
            if let Some(pending) = pending(view, seen.commit, index.prev()) {
                let what = format!("changes while the change at {pending} is not committed");
                return Err(violation(view, &what));
            }
        }
        Ok(())
    }
}

/// A configuration in the log after `commit`, up to `last`.
fn pending(view: &View<'_>, commit: Index, last: Index) -> Option<Index> {
    (commit.0 + 1..=last.0).map(Index).find(|index| {
        let entry = view.log.get(*index);
        entry.is_some_and(|entry| matches!(entry.payload, Payload::Configuration(_)))
    })
}

/// Whether at most one server joins, leaves or changes its part.
fn one_moved(before: &Configuration, after: &Configuration) -> bool {
    let moved = |node: &&raft::NodeId| {
        before.voters.contains(*node) != after.voters.contains(*node)
            || before.learners.contains(*node) != after.learners.contains(*node)
    };
    let left = before.voters.iter().chain(&before.learners).filter(moved);
    let joined = after.voters.iter().chain(&after.learners).filter(moved);
    let moved: std::collections::BTreeSet<_> = left.chain(joined).collect();
    moved.len() <= 1
}

fn violation(view: &View<'_>, what: &str) -> Violation {
    Violation::of(
        "configuration safety",
        format!("{:?} in term {} {what}", view.node, view.hard_state.term),
    )
}
