//! Whom the handshake lets in: pure rules over what the driver has allowed.
//!
//! Invariant: two lineages never bond, and a peer with another store is another server.

use raft::NodeId;

use crate::{
    Lineage,
    group::bond::Admittance,
    network::{Code, Refusal},
};

impl Admittance {
    /// Whether a node that claims this lineage is let in.
    pub(super) fn admit(&self, node: NodeId, lineage: Option<Lineage>) -> Result<(), Refusal> {
        if let (Some(ours), Some(theirs)) = (self.lineage, lineage)
            && ours != theirs
        {
            return Err(Code::DifferentLineage.because(format!(
                "peer {} is of lineage {theirs}, this node of {ours}: they never merge",
                node.peer
            )));
        }
        if self.lineage.is_none() {
            return match self.founders.contains(&node.peer) {
                true => Ok(()),
                false => Err(Code::NotAllowed
                    .because(format!("peer {} is not among the founders", node.peer))),
            };
        }
        if self.members.contains(&node) {
            return Ok(());
        }
        match self.members.iter().find(|member| member.peer == node.peer) {
            Some(member) => Err(Code::DifferentStore.because(format!(
                "peer {} comes with store {}, but the group knows it with store {}",
                node.peer, node.store, member.store
            ))),
            None => Err(Code::NotAllowed
                .because(format!("peer {} is not a member of the group", node.peer))),
        }
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
            founders: BTreeSet::new(),
            members: [1, 2, 3].map(NodeId::small).into(),
        }
    }

    fn code(admitted: Result<(), Refusal>) -> Option<Code> {
        admitted.err().map(|refusal| refusal.code)
    }

    #[test]
    fn while_founding_any_store_of_a_founder_is_let_in() {
        let founders = [1, 2].map(|number| NodeId::small(number).peer).into();
        let founding = Admittance { founders, ..Admittance::default() };
        let other_store = NodeId { store: StoreId(77), ..NodeId::small(2) };
        assert_eq!(code(founding.admit(other_store, None)), None);
        // The others may have founded the group already, with this node among them.
        assert_eq!(code(founding.admit(NodeId::small(1), Some(lineage([1, 2, 3])))), None);
        assert_eq!(code(founding.admit(NodeId::small(3), None)), Some(Code::NotAllowed));
    }

    #[test]
    fn once_founded_a_member_is_a_peer_with_its_store() {
        let founded = founded();
        assert_eq!(code(founded.admit(NodeId::small(2), founded.lineage)), None);
        assert_eq!(code(founded.admit(NodeId::small(2), None)), None);
        let other_store = NodeId { store: StoreId(77), ..NodeId::small(2) };
        let refused = founded.admit(other_store, None).expect_err("another store");
        assert_eq!(refused.code, Code::DifferentStore);
        for named in [other_store.store, NodeId::small(2).store] {
            assert!(refused.reason.contains(&named.to_string()), "{refused}");
        }
        assert_eq!(code(founded.admit(NodeId::small(4), None)), Some(Code::NotAllowed));
    }

    #[test]
    fn two_lineages_refuse_each_other_and_name_both() {
        let founded = founded();
        let theirs = lineage([1, 2, 4]);
        let refused = founded.admit(NodeId::small(2), Some(theirs)).expect_err("two lineages");
        assert_eq!(refused.code, Code::DifferentLineage);
        for named in [lineage([1, 2, 3]), theirs] {
            assert!(refused.reason.contains(&named.to_string()), "{refused}");
        }
    }
}
