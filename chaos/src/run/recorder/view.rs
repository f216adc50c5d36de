//! What the nodes last said of themselves: who leads, who follows whom, which bonds stand.
//!
//! Follows from nodes' events and from faults alone. Invariant: a node that was hit says nothing
//! until it is back.

use std::collections::{BTreeMap, BTreeSet};

use runtime::Role;

use crate::{
    checker::{Check, Verdict},
    cluster::{NodeEvent, What},
    fault::NodeNumber,
    run::check,
};

/// The cluster as its nodes' events tell it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct View {
    roles: BTreeMap<NodeNumber, (Role, u64)>,
    follows: BTreeMap<NodeNumber, (Option<NodeNumber>, u64)>,
    bonds: BTreeSet<(NodeNumber, NodeNumber)>,
    away: BTreeSet<NodeNumber>,
    /// When the first bond of each node came up, since it was last hit or came back.
    first_bonds: BTreeMap<NodeNumber, u64>,
    /// Nodes that are meant to stop by themselves, and why they did once they have.
    doomed: BTreeMap<NodeNumber, Option<String>>,
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

    /// Whether another node holds a bond to this one.
    pub(crate) fn is_bonded(&self, node: NodeNumber) -> bool {
        self.bonds.iter().any(|(from, to)| *to == node && *from != node)
    }

    /// When the first bond of this node came up, since it was last hit or came back.
    pub(crate) fn first_bond_ns(&self, node: NodeNumber) -> Option<u64> {
        self.first_bonds.get(&node).copied()
    }

    /// Why a node stopped that was meant to, once it has.
    pub(crate) fn stopped(&self, node: NodeNumber) -> Option<&str> {
        self.doomed.get(&node)?.as_deref()
    }

    /// That nodes ended or stopped unasked, where any did.
    pub(crate) fn fallen(&self) -> Option<Check> {
        let told = self.failed.iter().map(|(node, reason)| format!("node {node}: {reason}"));
        let told: Vec<String> = told.collect();
        (!told.is_empty()).then(|| check("nodes", Verdict::Invalid, told.join("; ")))
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
                self.first_bonds.entry(node).or_insert(event.at_ns);
            }
            What::Unbonded { with } => {
                self.bonds.remove(&(node, *with));
            }
            What::Died { reason } | What::Stopped { reason } => match self.doomed.get_mut(&node) {
                Some(why) => {
                    why.get_or_insert_with(|| reason.clone());
                }
                None => {
                    self.failed.insert(node, reason.clone());
                }
            },
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

    pub(super) fn doomed(&mut self, node: NodeNumber) {
        self.doomed.insert(node, None);
    }

    pub(super) fn away(&mut self, node: NodeNumber) {
        self.away.insert(node);
        self.first_bonds.remove(&node);
    }

    pub(super) fn back(&mut self, node: NodeNumber, forgot: bool) {
        self.away.remove(&node);
        self.first_bonds.remove(&node);
        self.doomed.remove(&node);
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
    fn a_node_that_is_meant_to_stop_has_not_failed_until_it_is_back() {
        let mut view = View::default();
        let stop = |reason: &str| What::Stopped { reason: reason.into() };
        view.doomed(NodeNumber(1));
        assert_eq!(view.stopped(NodeNumber(1)), None);
        take(&mut view, 1, stop("its disk"));
        take(&mut view, 1, stop("later"));
        assert_eq!((view.stopped(NodeNumber(1)), view.fallen()), (Some("its disk"), None));
        view.back(NodeNumber(1), true);
        assert_eq!(view.stopped(NodeNumber(1)), None);
        take(&mut view, 1, stop("again"));
        take(&mut view, 3, What::Died { reason: "signal: 6".into() });
        let fallen = view.fallen().expect("two have");
        assert_eq!((&*fallen.name, fallen.verdict), ("nodes", Verdict::Invalid));
        assert_eq!(fallen.detail, "node 1: again; node 3: signal: 6");
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

    #[test]
    fn the_first_bond_after_a_return_is_that_of_no_earlier_life() {
        let mut view = View::default();
        let bond = |at_ns, node, with| NodeEvent {
            at_ns,
            node: NodeNumber(node),
            what: What::Bonded { with: NodeNumber(with) },
        };
        view.take(&bond(5, 1, 2));
        view.take(&bond(5, 2, 1));
        assert_eq!(view.first_bond_ns(NodeNumber(1)), Some(5));
        view.away(NodeNumber(1));
        assert!(view.is_bonded(NodeNumber(1)), "the other end has not noticed");
        take(&mut view, 2, What::Unbonded { with: NodeNumber(1) });
        assert!(!view.is_bonded(NodeNumber(1)));
        view.back(NodeNumber(1), true);
        assert_eq!(view.first_bond_ns(NodeNumber(1)), None);
        view.take(&bond(70, 1, 2));
        view.take(&bond(80, 1, 3));
        assert_eq!(view.first_bond_ns(NodeNumber(1)), Some(70));
    }
}
