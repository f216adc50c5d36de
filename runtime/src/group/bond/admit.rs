//! Whom the handshake lets in: pure rules over what the driver has allowed.
//!
//! Everyone who proves the group's key may bond, for who is no member may become one; only a
//! group that is being founded keeps to its founders. Invariant: two lineages never bond.

use raft::NodeId;

use crate::{
    Lineage,
    group::bond::Admittance,
    network::{Card, Code, Refusal},
};

impl Admittance {
    /// Whether a node that shows this card is let in.
    pub(super) fn admit(&self, node: NodeId, card: &Card) -> Result<(), Refusal> {
        if let Some(theirs) = self.foreign(card) {
            let ours = self.lineage.map_or_else(String::new, |ours| ours.to_string());
            return Err(Code::DifferentLineage.because(format!(
                "peer {} is of lineage {theirs}, this node of {ours}: they never merge",
                node.peer
            )));
        }
        match &self.founders {
            Some(founders) if self.lineage.is_none() && !founders.contains(&node.peer) => {
                Err(Code::NotAllowed
                    .because(format!("peer {} is not among the founders", node.peer)))
            }
            _ => Ok(()),
        }
    }

    /// The lineage on the card, if it is another than ours.
    pub(super) fn foreign(&self, card: &Card) -> Option<Lineage> {
        card.lineage.filter(|theirs| self.lineage.is_some_and(|ours| ours != *theirs))
    }

    /// Whether the node is no member, as far as is known, and so takes one of the places that are
    /// left for such.
    pub(super) fn is_guest(&self, node: NodeId) -> bool {
        let founders = self.founders.as_ref().filter(|_| self.lineage.is_none());
        let is_founder = founders.is_some_and(|founders| founders.contains(&node.peer));
        !is_founder && !self.members.contains(&node)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use raft::{Configuration, StoreId};

    use super::*;
    use crate::{ConsensusConfig, GroupId, GroupKey};

    fn lineage(numbers: [u8; 3]) -> Lineage {
        let key = GroupKey::from_secret("admit");
        let group = GroupId::of(&key, "machine", &ConsensusConfig::default());
        Lineage::of(group, &Configuration::of(numbers.map(NodeId::small)))
    }

    fn founded() -> Admittance {
        Admittance {
            lineage: Some(lineage([1, 2, 3])),
            members: [1, 2, 3].map(NodeId::small).into(),
            ..Admittance::of(StoreId(1))
        }
    }

    fn code(admittance: &Admittance, node: NodeId, lineage: Option<Lineage>) -> Option<Code> {
        let card = Card { lineage, dissolves: false, store: node.store, nonce: 1 };
        admittance.admit(node, &card).err().map(|refusal| refusal.code)
    }

    const WIPED: NodeId = NodeId { store: StoreId(77), ..NodeId::small(2) };

    #[test]
    fn while_founding_any_store_of_a_founder_is_let_in_and_nobody_else() {
        let founders: BTreeSet<_> = [1, 2].map(|number| NodeId::small(number).peer).into();
        let founding = Admittance { founders: Some(founders), ..Admittance::of(StoreId(1)) };
        assert_eq!(code(&founding, WIPED, None), None);
        // The others may have founded the group already, with this node among them.
        assert_eq!(code(&founding, NodeId::small(1), Some(lineage([1, 2, 3]))), None);
        assert_eq!(code(&founding, NodeId::small(3), None), Some(Code::NotAllowed));
        assert!(!founding.is_guest(WIPED));
    }

    #[test]
    fn who_waits_to_join_lets_everyone_in_who_may_know_a_way() {
        let waiting = Admittance::of(StoreId(1));
        assert_eq!(code(&waiting, NodeId::small(2), Some(lineage([1, 2, 3]))), None);
        assert_eq!(code(&waiting, NodeId::small(3), None), None);
        assert!(waiting.is_guest(NodeId::small(2)));
    }

    #[test]
    fn once_founded_others_come_as_guests_also_a_members_peer_with_another_store() {
        let founded = founded();
        assert!(!founded.is_guest(NodeId::small(2)));
        for newcomer in [NodeId::small(4), WIPED] {
            assert_eq!(code(&founded, newcomer, None), None);
            assert_eq!(code(&founded, newcomer, founded.lineage), None);
            assert!(founded.is_guest(newcomer));
        }
    }

    #[test]
    fn two_lineages_refuse_each_other_and_name_both() {
        let founded = founded();
        let theirs = lineage([1, 2, 4]);
        let card = Card { lineage: Some(theirs), dissolves: true, store: StoreId(2), nonce: 1 };
        let refused = founded.admit(NodeId::small(2), &card).expect_err("two lineages");
        assert_eq!(refused.code, Code::DifferentLineage);
        for named in [lineage([1, 2, 3]), theirs] {
            assert!(refused.reason.contains(&named.to_string()), "{refused}");
        }
        assert_eq!(founded.foreign(&card), Some(theirs));
    }
}
