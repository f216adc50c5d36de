//! State machine safety: no two servers apply different entries at one index (Raft §5.4.3).
//!
//! Keeps the one committed sequence, as leaders first made it, and the one sequence of machine
//! states. A follower never knows of a commit that no leader has made, and what is applied is a
//! prefix of what is committed.

use raft::{Index, NodeId, Position, Role, Term};

use super::{Application, PerServer, View, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct StateMachineSafety {
    /// By index, less one.
    committed: Vec<Term>,
    /// By index, less one: the state after it.
    states: Vec<u64>,
    seen: PerServer<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    incarnation: u64,
    commit: Index,
    led: Option<Term>,
}

impl StateMachineSafety {
    /// A server has stepped.
    pub fn observe(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let seen = self.seen.of(view.server);
        if seen.incarnation != view.incarnation {
            *seen = Seen { incarnation: view.incarnation, ..Seen::default() };
        }
        // A leader that has removed itself steps down in the step in which that commits.
        let term = view.hard_state.term;
        let leads = view.role == Role::Leader || seen.led == Some(term);
        seen.led = if leads { Some(term) } else { seen.led };
        if view.commit == seen.commit {
            return Ok(());
        }
        let mut index = seen.commit.max(view.log.start().index.prev());
        seen.commit = view.commit;
        while index < view.commit {
            index = index.next();
            let Some(term) = view.log.term_at(index) else {
                return Err(violation(view.node, index, "is committed but not in the log"));
            };
            let led = leads || view.led_commit.is_some_and(|through| index <= through);
            self.commit(view, Position { term, index }, led)?;
        }
        Ok(())
    }

    /// A machine has applied an entry.
    pub fn applied(&mut self, application: &Application) -> Result<(), Violation> {
        let Application { node, position, state, .. } = *application;
        if self.term_at(position.index) != Some(position.term) {
            return Err(violation(node, position.index, "is applied but not committed so"));
        }
        let place = place(position.index);
        if place == self.states.len() {
            self.states.push(state);
        }
        match self.states.get(place) {
            Some(known) if *known == state => Ok(()),
            Some(_) => Err(violation(node, position.index, "leaves another state than elsewhere")),
            None => Err(violation(node, position.index, "is applied before its predecessor")),
        }
    }

    /// A machine has taken over a snapshot.
    pub fn restored(&mut self, node: NodeId, at: Position, state: u64) -> Result<(), Violation> {
        if at.index == Index(0) {
            return Ok(());
        }
        if self.states.get(place(at.index)) != Some(&state) {
            return Err(violation(node, at.index, "is restored to a state nobody reached"));
        }
        Ok(())
    }

    /// The state of machines that have applied the index, once one has.
    pub fn state_at(&self, index: Index) -> Option<u64> {
        let state = self.states.get(place(index)).copied();
        state.filter(|_| index > Index(0))
    }

    /// The term of the committed entry at the index, once a leader has committed it.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.committed.get(place(index)).copied()
    }

    fn commit(
        &mut self,
        view: &View<'_>,
        position: Position,
        leads: bool,
    ) -> Result<(), Violation> {
        let place = place(position.index);
        if position.index == Index(0) {
            return Ok(());
        }
        if place == self.committed.len() && leads {
            self.committed.push(position.term);
        }
        match self.committed.get(place) {
            Some(term) if *term == position.term => Ok(()),
            Some(term) => {
                let what = format!(
                    "is committed with term {} in term {}, elsewhere with term {term}",
                    position.term, view.hard_state.term
                );
                Err(violation(view.node, position.index, &what))
            }
            None => Err(violation(
                view.node,
                position.index,
                "is committed here before any leader committed it",
            )),
        }
    }
}

fn place(index: Index) -> usize {
    usize::try_from(index.prev().0).expect("a model's log fits into memory")
}

fn violation(node: NodeId, index: Index, what: &str) -> Violation {
    Violation::of("state machine safety", format!("index {index} of {node:?} {what}"))
}
