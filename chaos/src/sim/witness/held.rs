//! What the machines of a cluster hold, by how far each has applied the log: all the same.
//!
//! Knows digests of real contents, taken where commands are applied and where a machine takes a
//! snapshot over. Invariant: what holds after an index is settled by whoever applies it first, and
//! machines are restored in the order in which their stores were told to.

use std::collections::{BTreeMap, VecDeque};

use runtime::{Index, NodeId, Position};

use crate::invariant::{Server, Violation};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// After each command: what lies between two changes nothing.
    after: BTreeMap<Index, u64>,
    /// Where the snapshots end that machines are about to take over.
    due: BTreeMap<Server, VecDeque<Position>>,
}

impl Held {
    /// The server has opened its store; its machine begins with the snapshot there, if there is
    /// one, and with nothing else.
    pub(super) fn opened(&mut self, server: Server, snapshot: Option<Position>) {
        self.due.insert(server, snapshot.into_iter().collect());
    }

    /// Its machine is to take over a snapshot that its store has installed.
    pub(super) fn installed(&mut self, server: Server, at: Position) {
        self.due.entry(server).or_default().push_back(at);
    }

    /// Its machine has applied a command.
    ///
    /// # Errors
    /// Another one that applied it holds something else.
    pub(super) fn applied(&mut self, node: NodeId, at: Index, holds: u64) -> Result<(), Violation> {
        match *self.after.entry(at).or_insert(holds) {
            known if known == holds => Ok(()),
            _ => Err(violation(node, at, "holds something else than another machine after")),
        }
    }

    /// Its machine has taken a snapshot over.
    ///
    /// # Errors
    /// It does not hold what machines hold that applied everything up to there.
    pub(super) fn restored(
        &mut self,
        server: Server,
        node: NodeId,
        holds: u64,
    ) -> Result<(), Violation> {
        let due = self.due.get_mut(&server).and_then(VecDeque::pop_front);
        let Some(Position { index, .. }) = due else {
            let what = format!("{node:?} took over a snapshot that its store does not have");
            return Err(Violation::of(NAME, what));
        };
        // Before the first command there is nothing.
        let known = self.after.range(..=index).next_back().map_or(0, |(_, known)| *known);
        match known == holds {
            true => Ok(()),
            false => Err(violation(node, index, "was restored to something else than was held at")),
        }
    }
}

fn violation(node: NodeId, at: Index, what: &str) -> Violation {
    Violation::of(NAME, format!("{node:?} {what} index {at}"))
}

const NAME: &str = "machine contents";

#[cfg(test)]
mod tests {
    use runtime::{PeerId, StoreId, Term};

    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId { peer: PeerId([number; 32]), store: StoreId(1) }
    }

    fn at(index: u64) -> Position {
        Position { term: Term(1), index: Index(index) }
    }

    /// Node 1 has applied commands at 3 and 5.
    fn held() -> Held {
        let mut held = Held::default();
        held.opened(Server(0), None);
        for (index, holds) in [(3, 30), (5, 50)] {
            held.applied(node(1), Index(index), holds).expect("nobody was there before");
        }
        held
    }

    #[test]
    fn machines_that_applied_the_same_and_hold_something_else_are_seen() {
        let mut held = held();
        held.applied(node(2), Index(3), 30).expect("the same");
        let differs = held.applied(node(2), Index(5), 51).expect_err("it lost something");
        assert_eq!(differs.invariant, "machine contents");
    }

    #[test]
    fn a_machine_that_takes_over_a_snapshot_holds_what_was_applied_up_to_there() {
        let restored = |index: u64, holds: u64| {
            let mut held = held();
            held.opened(Server(1), None);
            held.installed(Server(1), at(index));
            held.restored(Server(1), node(2), holds)
        };
        // Entry 4 changed nothing; before the third there was nothing.
        for (index, holds) in [(5, 50), (4, 30), (3, 30), (2, 0)] {
            restored(index, holds).expect("it is what the other held");
            restored(index, holds + 1).expect_err("it is not");
        }
        restored(5, 30).expect_err("that is what the other held before");
    }

    #[test]
    fn snapshots_are_taken_over_in_the_order_in_which_they_were_installed() {
        let mut held = held();
        held.opened(Server(1), Some(at(3)));
        held.installed(Server(1), at(5));
        held.restored(Server(1), node(2), 30).expect("its own first");
        held.restored(Server(1), node(2), 50).expect("then the one that came");
        held.restored(Server(1), node(2), 50).expect_err("there was no other");
        // Whoever starts anew owes nothing that was due before.
        held.installed(Server(1), at(5));
        held.opened(Server(1), Some(at(3)));
        held.restored(Server(1), node(2), 30).expect("its own again");
    }
}
