//! Configurations change one server at a time, and only on firm ground (thesis §4.1).
//!
//! A leader appends a configuration only when the one before it is committed and an entry of its
//! own term is too (Ongaro's correction of 2015); it moves one server; only a voter of its own
//! configuration campaigns, and leads, or one without whom nobody might win. In force is the newest configuration of the log, or what
//! was committed where the log starts; a snapshot is offered with what is committed there.

use std::collections::BTreeMap;

use raft::{Configuration, Index, Message, Payload, Position, Role};

use super::{Cause, Departure, PerServer, View, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct ConfigurationSafety {
    seen: PerServer<Seen>,
    /// By index; the founding one stands at 0.
    committed: BTreeMap<Index, Configuration>,
    /// Someone knows the log to be committed through here.
    through: Index,
}

#[derive(Debug, Default)]
struct Seen {
    incarnation: u64,
    role: Option<Role>,
    commit: Index,
    /// Where the newest configuration of its log stands; where the log starts, if it has none.
    newest: Index,
    configuration: Configuration,
    /// Since it last heard a leader, a candidate asked for its vote that has less than it has.
    asked_by_less: bool,
}

impl ConfigurationSafety {
    /// A server has stepped.
    pub fn observe(&mut self, view: &View<'_>) -> Result<(), Violation> {
        self.commit(view);
        let seen = self.seen.of(view.server);
        let fresh = seen.incarnation != view.incarnation;
        if fresh {
            *seen = Seen { incarnation: view.incarnation, ..Seen::default() };
        }
        seen.stands(view)?;
        if let (Role::Leader, Some(written)) = (view.role, view.written) {
            Self::appended(seen, view, written)?;
        }
        seen.role = Some(view.role);
        seen.commit = view.commit;
        let written = if fresh { Some(Index(0)) } else { view.written };
        let Some(written) = written else { return Ok(()) };
        let before = seen.newest;
        seen.newest = newest(view, written, before);
        // A snapshot may put another one in place of the newest.
        if fresh || written <= before || seen.newest != before {
            Self::in_force(&self.committed, view, seen.newest)?;
            seen.configuration.clone_from(view.configuration);
        }
        Ok(())
    }

    /// A message leaves a server.
    pub fn left(&self, departure: &Departure<'_>) -> Result<(), Violation> {
        let Message::InstallSnapshot { snapshot, .. } = departure.message else { return Ok(()) };
        let Position { index, .. } = snapshot.position;
        let known = self.committed.range(..=index).next_back();
        if known.is_none_or(|(_, known)| *known == snapshot.configuration) {
            return Ok(());
        }
        let what = format!("{:?} offers a snapshot through {index} with", departure.node);
        let what = format!("{what} {:?}, committed is {known:?}", snapshot.configuration);
        Err(Violation::of("configuration safety", what))
    }

    /// Notes what is committed that nobody knew to be.
    fn commit(&mut self, view: &View<'_>) {
        // A server that has founded the group starts from its first configuration.
        let is_founder = view.log.last().index == Index(0) && !view.configuration.is_empty();
        if is_founder && self.committed.is_empty() {
            self.committed.insert(Index(0), view.configuration.clone());
        }
        while self.through < view.commit {
            self.through = self.through.next();
            let entry = view.log.get(self.through);
            if let Some(Payload::Configuration(next)) = entry.map(|entry| entry.payload) {
                self.committed.insert(self.through, next.clone());
            }
        }
    }

    fn in_force(
        committed: &BTreeMap<Index, Configuration>,
        view: &View<'_>,
        newest: Index,
    ) -> Result<(), Violation> {
        let due = match view.log.get(newest).map(|entry| entry.payload) {
            Some(Payload::Configuration(due)) => Some(due),
            _ => committed.range(..=newest).next_back().map(|(_, due)| due),
        };
        // A newcomer has none before its log brings one.
        let is_newcomer = newest == Index(0) && view.configuration.is_empty();
        match due {
            Some(due) if due != view.configuration && !is_newcomer => {
                let what = format!("acts on another configuration than that at {newest}");
                Err(violation(view, &what))
            }
            _ => Ok(()),
        }
    }

    /// A leader has appended: `seen` is what it knew before.
    fn appended(seen: &Seen, view: &View<'_>, written: Index) -> Result<(), Violation> {
        let mut index = written;
        let mut found = false;
        while index < view.log.last().index {
            index = index.next();
            let Some(Payload::Configuration(next)) = view.log.get(index).map(|e| e.payload) else {
                continue;
            };
            if found {
                return Err(violation(view, "appends two configurations at once"));
            }
            found = true;
            if !next.is_sound() {
                return Err(violation(view, "has nobody vote, or a peer with two stores"));
            }
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

impl Seen {
    /// A voter may stand, and so may one without whom nobody might win: whose removal is not
    /// known to be committed (thesis §4.2.2), or whom a candidate counts on that has less than
    /// it. As a leader it does no more than to commit that.
    fn stands(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let last = view.log.last();
        match view.cause {
            Cause::Asked { last: theirs, .. } => self.asked_by_less |= theirs < last,
            Cause::Led(_, term) if term >= view.hard_state.term => self.asked_by_less = false,
            _ => {}
        }
        let begins = view.role == Role::Candidate && self.role != Some(view.role);
        if (!begins && view.role != Role::Leader)
            || view.configuration.voters.contains(&view.node)
            || pending(view, view.commit, last.index).is_some()
        {
            return Ok(());
        }
        if begins && !(self.asked_by_less && last.index > view.commit) {
            return Err(violation(view, "campaigns without being a voter"));
        }
        if !begins && view.log.term_at(view.commit) == Some(view.hard_state.term) {
            return Err(violation(view, "leads on without being a voter"));
        }
        Ok(())
    }
}

/// Where the newest configuration of the log stands, or where the log starts: `before` is where it
/// stood before the log after `written` was replaced.
fn newest(view: &View<'_>, written: Index, before: Index) -> Index {
    let start = view.log.start().index;
    // What stood before the replaced part stands there still.
    let from = if written < before || before < start { start } else { written.max(start) };
    let kept = if from == start { start } else { before };
    let mut index = view.log.last().index;
    while index > from {
        let entry = view.log.get(index);
        if entry.is_some_and(|entry| matches!(entry.payload, Payload::Configuration(_))) {
            return index;
        }
        index = index.prev();
    }
    kept
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
