//! Who votes and who only learns: configurations and the one-at-a-time change (thesis §4.1).
//!
//! Invariant: a peer is a member once, as voter or as learner and with one store, and a change
//! moves exactly one node, so that any majority of the old configuration meets any majority of
//! the new one.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Index, NodeId, PeerId};

/// The members of a group.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Configuration {
    /// They vote and count.
    pub voters: BTreeSet<NodeId>,
    /// They receive the log and count for nothing.
    pub learners: BTreeSet<NodeId>,
}

/// One change of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Change {
    /// A newcomer becomes a learner.
    AddLearner(NodeId),
    /// A learner becomes a voter.
    Promote(NodeId),
    /// A voter or a learner leaves.
    Remove(NodeId),
}

impl Configuration {
    /// A configuration of these voters and no learners.
    pub fn of(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self { voters: voters.into_iter().collect(), learners: BTreeSet::new() }
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.voters.len() + self.learners.len()
    }

    /// Whether there is no member at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the node is a voter or a learner.
    pub fn contains(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.learners.contains(&node)
    }

    /// All members, in order of their ids: voters first.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voters.iter().chain(&self.learners).copied()
    }

    /// The member that this peer is, with whichever store.
    pub fn of_peer(&self, peer: PeerId) -> Option<NodeId> {
        self.members().find(|member| member.peer == peer)
    }

    /// Whether it can be in force: somebody votes, and no peer is a member twice.
    ///
    /// A peer that lost its store is another server, and the old one is gone for good. Were both
    /// members, one machine would count twice: of three voters two could be the same disk.
    pub fn is_sound(&self) -> bool {
        let peers: BTreeSet<PeerId> = self.members().map(|member| member.peer).collect();
        !self.voters.is_empty() && peers.len() == self.len()
    }

    /// The smallest number of voters that is a majority.
    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// The configuration after the change; `None` when the change does not fit.
    #[must_use]
    pub fn after(&self, change: Change) -> Option<Self> {
        let mut next = self.clone();
        let fits = match change {
            Change::AddLearner(node) => {
                self.of_peer(node.peer).is_none() && next.learners.insert(node)
            }
            Change::Promote(node) => next.learners.remove(&node) && next.voters.insert(node),
            Change::Remove(node) => next.learners.remove(&node) || next.voters.remove(&node),
        };
        (fits && !next.voters.is_empty()).then_some(next)
    }
}

/// The configurations of a log: the newest entry's is in force, committed or not (thesis §4.1).
#[derive(Debug)]
pub(crate) struct Membership {
    start: (Index, Configuration),
    later: Vec<(Index, Configuration)>,
}

impl Membership {
    /// A log that starts after `index` with this configuration.
    pub(crate) fn new(index: Index, configuration: Configuration) -> Self {
        Self { start: (index, configuration), later: Vec::new() }
    }

    /// The configuration in force.
    pub(crate) fn in_force(&self) -> &Configuration {
        &self.newest().1
    }

    /// Where the configuration in force stands in the log.
    pub(crate) fn index(&self) -> Index {
        self.newest().0
    }

    /// The configuration in force when the log ended at `index`.
    pub(crate) fn at(&self, index: Index) -> &Configuration {
        let newest = self.later.iter().rev().find(|(place, _)| *place <= index);
        &newest.unwrap_or(&self.start).1
    }

    /// An entry with a configuration was appended; it is in force at once.
    pub(crate) fn append(&mut self, index: Index, configuration: Configuration) {
        assert!(index > self.index(), "configuration at {index} after {}", self.index());
        self.later.push((index, configuration));
    }

    /// The log was cut: an earlier configuration is in force again. Returns whether it is.
    pub(crate) fn truncate(&mut self, after: Index) -> bool {
        let before = self.later.len();
        self.later.retain(|(index, _)| *index <= after);
        self.later.len() < before
    }

    /// The log starts after `index` from now on. Unless `kept`, all of it gave way.
    pub(crate) fn install(&mut self, index: Index, configuration: Configuration, kept: bool) {
        self.later.retain(|(place, _)| kept && *place > index);
        self.start = (index, configuration);
    }

    fn newest(&self) -> &(Index, Configuration) {
        self.later.last().unwrap_or(&self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreId;

    fn of(numbers: &[u8]) -> Configuration {
        Configuration::of(numbers.iter().copied().map(NodeId::small))
    }

    #[test]
    fn one_change_moves_one_node_and_keeps_majorities_overlapping() {
        let four = NodeId::small(4);
        let learner = of(&[1, 2, 3]).after(Change::AddLearner(four)).expect("a newcomer fits");
        assert_eq!((learner.quorum(), learner.learners.len()), (2, 1));
        let voter = learner.after(Change::Promote(four)).expect("a learner can be promoted");
        assert_eq!((voter.quorum(), voter.learners.len()), (3, 0));
        assert_eq!(voter.after(Change::Remove(four)), Some(of(&[1, 2, 3])));
    }

    #[test]
    fn changes_that_do_not_fit_are_none() {
        let one = NodeId::small(1);
        assert_eq!(of(&[1]).after(Change::AddLearner(one)), None);
        assert_eq!(of(&[1]).after(Change::Promote(one)), None, "already a voter");
        assert_eq!(of(&[1]).after(Change::Promote(NodeId::small(2))), None, "a stranger");
        assert_eq!(of(&[1]).after(Change::Remove(one)), None, "somebody must vote");
    }

    #[test]
    fn a_peer_with_another_store_comes_in_only_once_the_old_one_is_out() {
        let wiped = NodeId { store: StoreId(77), ..NodeId::small(3) };
        assert_eq!(of(&[1, 2, 3]).after(Change::AddLearner(wiped)), None);
        let without = of(&[1, 2, 3]).after(Change::Remove(NodeId::small(3))).expect("it fits");
        let with = without.after(Change::AddLearner(wiped)).expect("its place is free");
        assert_eq!(with.of_peer(wiped.peer), Some(wiped));
        assert!(with.is_sound());
        let twice = Configuration { learners: [wiped].into(), ..of(&[1, 2, 3]) };
        assert!(!twice.is_sound(), "one machine would count twice");
        assert!(!Configuration::default().is_sound(), "nobody votes");
    }

    #[test]
    fn a_cut_log_brings_back_the_earlier_configuration() {
        let mut membership = Membership::new(Index(0), of(&[1, 2, 3]));
        membership.append(Index(4), of(&[1, 2, 3, 4]));
        membership.append(Index(7), of(&[1, 2, 4]));
        assert_eq!(membership.at(Index(6)), &of(&[1, 2, 3, 4]));
        assert!(membership.truncate(Index(6)));
        assert_eq!((membership.index(), membership.in_force()), (Index(4), &of(&[1, 2, 3, 4])));
        assert!(!membership.truncate(Index(4)));
        assert_eq!(membership.at(Index(3)), &of(&[1, 2, 3]));
    }
}
