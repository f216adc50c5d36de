//! Election safety: at most one leader per term (Raft §5.2).
//!
//! Keeps the leader of every term; looks only when a server leads in a term it did not lead in.

use std::collections::BTreeMap;

use raft::{NodeId, Role, Term};

use super::{PerServer, View, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
    known: PerServer<Term>,
}

impl ElectionSafety {
    /// A server has stepped.
    pub fn observe(&mut self, view: &View<'_>) -> Result<(), Violation> {
        if view.role != Role::Leader {
            return Ok(());
        }
        let term = view.hard_state.term;
        let known = self.known.of(view.server);
        if *known == term {
            return Ok(());
        }
        *known = term;
        let leader = *self.leaders.entry(term).or_insert(view.node);
        if leader != view.node {
            return Err(Violation::of(
                "election safety",
                format!("{leader:?} and {:?} both lead term {term}", view.node),
            ));
        }
        Ok(())
    }
}
