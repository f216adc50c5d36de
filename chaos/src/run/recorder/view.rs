//! What the nodes last said of themselves: who leads, who follows whom, which bonds stand.
//!
//! Follows from nodes' events and from faults alone. Invariant: a node that was hit says nothing
//! until it is back.

use std::collections::{BTreeMap, BTreeSet};

use runtime::Role;

use crate::{
    cluster::{NodeEvent, What},
    fault::NodeNumber,
};

/// The cluster as its nodes' events tell it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct View {
    roles: BTreeMap<NodeNumber, (Role, u64)>,
    follows: BTreeMap<NodeNumber, (Option<NodeNumber>, u64)>,
    bonds: BTreeSet<(NodeNumber, NodeNumber)>,
    away: BTreeSet<NodeNumber>,
    /// Nodes that ended or stopped unasked, and why.
    pub(crate) failed: BTreeMap<NodeNumber, String>,
    /// When the last event that changed any of this took place.
    pub(crate) changed_ns: u64,
}

impl View {
    /// The leader of the newest term among the nodes that were not hit, and its term.
    pub(crate) fn leader(&self) -> Option<(NodeNumber, u64)> {
        self.roles
            .iter()
            .filter(|(node, (role, _))| *role == Role::Leader && !self.away.contains(node))
            .map(|(node, (_, term))| (*node, *term))
            .max_by_key(|(_, term)| *term)
    }

    /// Whether one of `nodes` leads, all others follow it, and each holds bonds to all others.
    pub(crate) fn formed(&self, nodes: u64) -> bool {
        let Some((leader, term)) = self.leader() else { return false };
        let all = || (1..=nodes).map(NodeNumber);
        let follows = |node: NodeNumber| {
            node == leader || self.follows.get(&node) == Some(&(Some(leader), term))
        };
        let bonded = |node: NodeNumber| {
            all().all(|other| other == node || self.bonds.contains(&(node, other)))
        };
        self.away.is_empty() && all().all(|node| follows(node) && bonded(node))
    }

    /// Nodes that were hit and are not back.
    pub(crate) fn is_away(&self, node: NodeNumber) -> bool {
        self.away.contains(&node)
    }

    /// The nodes that have said anything of their role.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeNumber> {
        self.roles.keys().copied()
    }

    /// What these events come to.
    #[cfg(test)]
    pub(crate) fn of(events: impl IntoIterator<Item = NodeEvent>) -> Self {
        let mut view = Self::default();
        events.into_iter().for_each(|event| view.take(&event));
        view
    }

    pub(super) fn take(&mut self, event: &NodeEvent) {
        let node = event.node;
        match &event.what {
            What::Became { role, term } => {
                self.roles.insert(node, (*role, *term));
            }
            What::Leader { leader, term } => {
                self.follows.insert(node, (*leader, *term));
            }
            What::Bonded { with } => {
                self.bonds.insert((node, *with));
            }
            What::Unbonded { with } => {
                self.bonds.remove(&(node, *with));
            }
            What::Died { reason } | What::Stopped { reason } => {
                self.failed.insert(node, reason.clone());
            }
            What::Founded
            | What::Member { .. }
            | What::Campaign { .. }
            | What::Committed { .. }
            | What::Note { .. }
            | What::Stall { .. }
            | What::Usage { .. } => return,
        }
        self.changed_ns = self.changed_ns.max(event.at_ns);
    }

    pub(super) fn away(&mut self, node: NodeNumber) {
        self.away.insert(node);
    }

    pub(super) fn back(&mut self, node: NodeNumber, forgot: bool) {
        self.away.remove(&node);
        if forgot {
            self.roles.remove(&node);
            self.follows.remove(&node);
            self.bonds.retain(|(from, _)| *from != node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(view: &mut View, node: u64, what: What) {
        view.take(&NodeEvent { at_ns: 1, node: NodeNumber(node), what });
    }

    fn lead(view: &mut View, node: u64, term: u64) {
        take(view, node, What::Became { role: Role::Leader, term });
    }

    fn follow(view: &mut View, node: u64, leader: u64, term: u64) {
        take(view, node, What::Leader { leader: Some(NodeNumber(leader)), term });
    }

    #[test]
    fn a_group_is_formed_when_all_bonds_stand_and_all_follow_one() {
        let mut view = View::default();
        assert!(!view.formed(2));
        lead(&mut view, 1, 3);
        follow(&mut view, 2, 1, 3);
        take(&mut view, 1, What::Bonded { with: NodeNumber(2) });
        assert!(!view.formed(2));
        take(&mut view, 2, What::Bonded { with: NodeNumber(1) });
        assert!(view.formed(2));
        take(&mut view, 2, What::Unbonded { with: NodeNumber(1) });
        assert!(!view.formed(2));
    }

    #[test]
    fn a_leader_that_was_hit_leads_nobody_even_before_it_knows() {
        let mut view = View::default();
        lead(&mut view, 1, 3);
        view.away(NodeNumber(1));
        assert_eq!(view.leader(), None);
        lead(&mut view, 2, 4);
        view.back(NodeNumber(1), false);
        assert_eq!(view.leader(), Some((NodeNumber(2), 4)), "the newer term counts");
        view.back(NodeNumber(2), true);
        assert_eq!(view.leader(), Some((NodeNumber(1), 3)));
    }
}
