//! The secret from which a node's identity follows. Invariant: it is never printed.

use std::fmt;

use raft::PeerId;

/// The secret from which a node's identity follows.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// The key with these bytes; any 32 will do.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A new key, from the host's entropy.
    pub fn generate() -> Self {
        Self(iroh::SecretKey::generate().to_bytes())
    }

    /// The bytes, to be kept as safe as the identity itself.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// The public half: how others know the node.
    pub fn peer_id(&self) -> PeerId {
        PeerId(*self.to_iroh().public().as_bytes())
    }

    pub(crate) fn to_iroh(&self) -> iroh::SecretKey {
        iroh::SecretKey::from_bytes(&self.0)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_follows_from_the_bytes_and_they_are_not_printed() {
        let key = SecretKey::from_bytes([7; 32]);
        assert_eq!(key.peer_id(), SecretKey::from_bytes([7; 32]).peer_id());
        assert_ne!(key.peer_id(), SecretKey::generate().peer_id());
        assert_eq!(format!("{key:?}"), "SecretKey(..)");
    }
}
