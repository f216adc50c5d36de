//! Leader completeness: an entry committed in a term is in the log of the leader of every later
//! term (Raft §5.4, figure 3).
//!
//! Rests on log matching: a log that has the last of the committed positions has them all.
//! Checked from both sides, since an old leader may commit after a new one was elected: each new
//! leader against what earlier terms committed, each commit against the leaders of later terms.

use std::collections::BTreeMap;

use raft::{Index, NodeId, Position, Role, Term};

use super::{PerServer, View, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct LeaderCompleteness {
    /// The furthest position committed in a term or before it. Only steps that rise are kept, so
    /// the last one before a term is the furthest before it.
    committed: BTreeMap<Term, Position>,
    /// The logs of the latest leaders, as they were elected.
    reigns: BTreeMap<Term, Reign>,
    seen: PerServer<Seen>,
}

#[derive(Debug)]
struct Reign {
    leader: NodeId,
    start: Index,
    last: Index,
    /// Where each term begins in the log, in order.
    terms: Vec<Position>,
}

#[derive(Debug, Default)]
struct Seen {
    led: Option<Term>,
    commit: Index,
}

impl LeaderCompleteness {
    /// A server has stepped.
    pub fn observe(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let term = view.hard_state.term;
        let seen = self.seen.of(view.server);
        let elected = view.role == Role::Leader && seen.led != Some(term);
        // A leader that has removed itself steps down in the step in which that commits.
        if view.role != Role::Leader && seen.led != Some(term) {
            return Ok(());
        }
        let advanced = elected || view.commit > seen.commit;
        *seen = Seen { led: Some(term), commit: view.commit };
        if elected {
            self.elected(view)?;
        }
        if advanced { self.advanced(view) } else { Ok(()) }
    }

    fn elected(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let term = view.hard_state.term;
        let reign = Reign::of(view);
        if let Some((earlier, committed)) = self.committed.range(..term).next_back() {
            reign.must_have(term, *earlier, *committed)?;
        }
        self.reigns.insert(term, reign);
        if self.reigns.len() > REIGNS_MAX {
            self.reigns.pop_first();
        }
        Ok(())
    }

    fn advanced(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let term = view.hard_state.term;
        let Some(of) = view.log.term_at(view.commit) else { return Ok(()) };
        let position = Position { term: of, index: view.commit };
        for (later, reign) in self.reigns.range(term.next()..) {
            reign.must_have(*later, term, position)?;
        }
        let covered = self.committed.range(..=term).next_back();
        if covered.is_none_or(|(_, known)| known.index < position.index) {
            self.committed.insert(term, position);
            let mut later = self.committed.split_off(&term.next());
            later.retain(|_, known| known.index > position.index);
            self.committed.append(&mut later);
        }
        Ok(())
    }
}

impl Reign {
    fn of(view: &View<'_>) -> Self {
        let start = view.log.start();
        let mut terms = vec![start];
        let mut index = start.index;
        let mut current = start.term;
        while index < view.log.last().index {
            index = index.next();
            let Some(term) = view.log.term_at(index) else { break };
            if term != current {
                current = term;
                terms.push(Position { term, index });
            }
        }
        Self { leader: view.node, start: start.index, last: index, terms }
    }

    /// The leader of `term` must have what `earlier` has committed.
    fn must_have(&self, term: Term, earlier: Term, committed: Position) -> Result<(), Violation> {
        let begun = self.terms.partition_point(|begin| begin.index <= committed.index);
        let has = committed.index <= self.start
            || (committed.index <= self.last
                && begun > 0
                && self.terms[begun - 1].term == committed.term);
        if has {
            return Ok(());
        }
        Err(Violation::of(
            "leader completeness",
            format!(
                "{:?} leads term {term} without entry {committed}, committed in term {earlier}",
                self.leader,
            ),
        ))
    }
}

/// A leader that long deposed has no followers left to commit with.
const REIGNS_MAX: usize = 64;
