//! Who a group is: its key, its id, its lineage.
//!
//! The id covers all that members must agree on; the lineage tells apart two groups of the same
//! id that were founded by different stores. Invariant: the key itself is never sent or printed.

use std::fmt;

use raft::{Configuration, NodeId, PeerId, Position};
use serde::{Deserialize, Serialize};

use crate::group::ConsensusConfig;

/// The secret that members and clients of a group share.
#[derive(Clone, PartialEq, Eq)]
pub struct GroupKey([u8; 32]);

/// Names a group: a hash of the key, the machine's signature and the consensus configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId([u8; 32]);

/// Names one founding of a group: a hash of the group and its founders' peer and store ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lineage([u8; 32]);

impl GroupKey {
    /// The key made of a passphrase or any other secret bytes.
    pub fn from_secret(secret: impl AsRef<[u8]>) -> Self {
        Self(blake3::derive_key("tessera 2026 group key", secret.as_ref()))
    }

    /// Proves knowledge of the key to the other end of one TLS session.
    ///
    /// Bound to the session by its exported secret and to the prover by its peer id, so that a
    /// proof can be neither replayed elsewhere nor reflected.
    pub(crate) fn proof(&self, session: &[u8; 32], prover: PeerId) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"proof").update(session).update(&prover.0);
        *hasher.finalize().as_bytes()
    }

    /// Whether `proof` is that of `prover` on this session. Takes the same time for any proof.
    pub(crate) fn verifies(&self, proof: &[u8; 32], session: &[u8; 32], prover: PeerId) -> bool {
        blake3::Hash::from_bytes(self.proof(session, prover)) == blake3::Hash::from_bytes(*proof)
    }
}

impl GroupId {
    /// The id of the group with this key, machine and configuration.
    pub fn of(key: &GroupKey, machine: &str, consensus: &ConsensusConfig) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&key.0);
        hasher.update(b"group").update(&(machine.len() as u64).to_le_bytes());
        hasher.update(machine.as_bytes()).update(&consensus.digest());
        Self(*hasher.finalize().as_bytes())
    }
}

impl Lineage {
    /// The lineage of the group that these voters found.
    pub fn of(group: GroupId, founders: &Configuration) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("tessera 2026 lineage");
        hasher.update(&group.0);
        // Voters are an ordered set: every founder hashes the same bytes.
        for founder in &founders.voters {
            hasher.update(&founder.peer.0).update(&founder.store.0.to_le_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The lineage that this server goes on with when it is forced to go on alone, with its new
    /// configuration there. Servers that are forced apart are so for good.
    pub(crate) fn forced(&self, node: NodeId, at: Position) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("tessera 2026 forced lineage");
        hasher.update(&self.0).update(&node.peer.0).update(&node.store.0.to_le_bytes());
        hasher.update(&at.term.0.to_le_bytes()).update(&at.index.0.to_le_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupKey(..)")
    }
}

macro_rules! display_prefix {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0[..5].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}
display_prefix!(GroupId);
display_prefix!(Lineage);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use raft::{StoreId, Term};

    use super::*;

    fn settings() -> ConsensusConfig {
        ConsensusConfig::default()
    }

    /// All members come to the same by themselves; where each remembers has no place in it.
    #[test]
    fn a_groups_id_is_its_keys_its_machines_and_its_settings() {
        let of = |secret: &str, machine: &str, consensus: &ConsensusConfig| {
            GroupId::of(&GroupKey::from_secret(secret), machine, consensus)
        };
        let id = of("secret", "counter 1", &settings());
        assert_eq!(of("secret", "counter 1", &settings()), id);
        let moment = Duration::from_nanos(1);
        let later = settings().forward_timeout + moment;
        let patient = ConsensusConfig { forward_timeout: later, ..settings() };
        for (what, other) in [
            ("another key", of("Secret", "counter 1", &settings())),
            ("another machine", of("secret", "counter 2", &settings())),
            ("no machine", of("secret", "", &settings())),
            ("other settings", of("secret", "counter 1", &patient)),
        ] {
            assert_ne!(other, id, "{what}");
        }
    }

    #[test]
    fn a_lineage_is_its_groups_and_its_founders_with_their_stores() {
        let of = |secret: &str, stores: &[u128]| {
            let group = GroupId::of(&GroupKey::from_secret(secret), "counter 1", &settings());
            let node = |(number, store): (u8, &u128)| NodeId {
                peer: PeerId([number; 32]),
                store: StoreId(*store),
            };
            Lineage::of(group, &Configuration::of((1..).zip(stores).map(node)))
        };
        let lineage = of("secret", &[1, 2, 3]);
        assert_eq!(of("secret", &[1, 2, 3]), lineage);
        for other in [of("Secret", &[1, 2, 3]), of("secret", &[1, 2, 4]), of("secret", &[1, 2])] {
            assert_ne!(other, lineage);
        }
        let forced = |number, index| {
            let at = Position { term: Term(1), index: raft::Index(index) };
            lineage.forced(NodeId::small(number), at)
        };
        assert_eq!(forced(1, 5), forced(1, 5));
        for other in [forced(2, 5), forced(1, 6), lineage] {
            assert_ne!(other, forced(1, 5));
        }
    }
}
