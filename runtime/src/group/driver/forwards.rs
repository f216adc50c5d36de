//! What the calls that other members pass on weigh here, for each of them.
//!
//! A member has admitted such a call by its own budget, and it weighs as much there; this holds
//! for a member that keeps no budget, too. Invariant: one member's calls never take the room of
//! another's.

use std::{collections::BTreeMap, sync::Arc};

use raft::NodeId;

use crate::group::{
    budget::{Budget, Room},
    wire::Call,
};

/// See above.
pub(super) struct Forwards {
    budgets: BTreeMap<NodeId, Arc<Budget>>,
    bytes_max: usize,
}

impl Forwards {
    /// Each member may have calls of so many bytes under way here.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { budgets: BTreeMap::new(), bytes_max }
    }

    /// Room for the call, until it is answered.
    pub(super) fn room(&mut self, from: NodeId, call: &Call) -> Option<Room> {
        let budget = self.budgets.entry(from).or_insert_with(|| Budget::new(self.bytes_max));
        budget.take(call.content_bytes())
    }

    /// The member is gone; what it has under way keeps its room until it is answered.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.budgets.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(bytes: usize) -> Call {
        Call::Query { query: vec![0; bytes].into() }
    }

    #[test]
    fn each_member_has_room_of_its_own_until_its_calls_are_answered() {
        let mut forwards = Forwards::new(100);
        let [one, two] = [1, 2].map(NodeId::small);
        let first = forwards.room(one, &call(60)).expect("there is room");
        assert!(forwards.room(one, &call(41)).is_none());
        let _other = forwards.room(two, &call(100)).expect("its own");
        drop(first);
        let _again = forwards.room(one, &call(100)).expect("the first is answered");
    }
}
