//! Majorities of the configuration in the log, and of nothing else.
//!
//! Knows no role, no message and no term. Invariant: learners and strangers count for nothing,
//! whatever they say; only ids in `voters` are ever looked up.

use std::collections::{BTreeMap, BTreeSet};

use crate::NodeId;

/// The greatest value that a majority of the voters has reached.
///
/// One rule serves three questions: how far the log is replicated (Raft §5.3), which heartbeat
/// round is answered (§8), and since when a quorum was last heard (thesis §6.2).
pub(crate) fn reached<T: Ord + Default>(
    voters: &BTreeSet<NodeId>,
    value: impl FnMut(NodeId) -> T,
) -> T {
    let mut values: Vec<T> = voters.iter().copied().map(value).collect();
    values.sort_unstable();
    // In ascending order the last `quorum` values are all at least the first of them.
    let quorum = voters.len() / 2 + 1;
    let Some(place) = values.len().checked_sub(quorum) else { return T::default() };
    values.swap_remove(place)
}

/// The votes of one campaign.
#[derive(Debug, Default)]
pub(crate) struct Votes {
    cast: BTreeMap<NodeId, bool>,
}

impl Votes {
    /// Takes a vote. A grant stands, since a voter cannot take it back; a refusal may be the
    /// late answer to an earlier campaign and does not stand against a grant.
    pub(crate) fn cast(&mut self, voter: NodeId, granted: bool) {
        *self.cast.entry(voter).or_default() |= granted;
    }

    /// Whether the voter has answered.
    pub(crate) fn has(&self, voter: NodeId) -> bool {
        self.cast.contains_key(&voter)
    }

    /// Whether a majority of the voters said yes (Raft §5.2).
    pub(crate) fn won(&self, voters: &BTreeSet<NodeId>) -> bool {
        reached(voters, |voter| self.cast.get(&voter).copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Index;

    fn voters(count: u8) -> BTreeSet<NodeId> {
        (1..=count).map(NodeId::small).collect()
    }

    fn index_of(matched: &[u64]) -> Index {
        let count = u8::try_from(matched.len()).expect("a handful of voters");
        reached(&voters(count), |node| Index(matched[usize::from(node.peer.0[31]) - 1]))
    }

    #[test]
    fn index_reached_by_a_majority_is_the_quorum_index() {
        assert_eq!(index_of(&[7]), Index(7));
        assert_eq!(index_of(&[7, 3]), Index(3), "two voters need both");
        assert_eq!(index_of(&[9, 2, 5]), Index(5));
        assert_eq!(index_of(&[9, 8, 2, 1]), Index(2), "half of four is no majority");
        assert_eq!(index_of(&[9, 8, 7, 1, 0]), Index(7));
    }

    #[test]
    fn nobody_reaches_anything_without_voters() {
        assert_eq!(reached(&BTreeSet::new(), |_| Index(9)), Index(0));
        assert!(!Votes::default().won(&BTreeSet::new()));
    }

    #[test]
    fn strangers_do_not_elect_and_a_grant_stands() {
        let mut votes = Votes::default();
        votes.cast(NodeId::small(1), true);
        votes.cast(NodeId::small(8), true);
        votes.cast(NodeId::small(9), true);
        assert!(!votes.won(&voters(3)));
        votes.cast(NodeId::small(2), false);
        assert!(!votes.won(&voters(3)));
        votes.cast(NodeId::small(2), true);
        votes.cast(NodeId::small(2), false);
        assert!(votes.won(&voters(3)));
    }
}
