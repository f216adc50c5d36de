//! All randomness of one node, as named streams of one seed.
//!
//! One draw more from one stream moves nothing in another. Invariant: two starts of the same
//! node draw differently even from the same seed, because the seed is mixed with the wall time
//! of the start: a repeated nonce or store id would pass off a new server as the old one.

use std::time::Duration;

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

/// The root of all streams.
pub(crate) struct Entropy([u8; 32]);

impl Entropy {
    /// From `seed`, or from the host if there is none; `wall` is the time of the start.
    pub(crate) fn new(seed: Option<u64>, wall: Duration) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("tessera 2026 entropy");
        match seed {
            Some(seed) => hasher.update(&seed.to_le_bytes()),
            // The one door to the host's entropy that every build of iroh has.
            None => hasher.update(&iroh::SecretKey::generate().to_bytes()),
        };
        hasher.update(&wall.as_nanos().to_le_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// Secret bytes of this name.
    pub(crate) fn bytes(&self, name: &str) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, name.as_bytes()).as_bytes()
    }

    /// The generator of this name.
    pub(crate) fn stream(&self, name: &str) -> Xoshiro256PlusPlus {
        Xoshiro256PlusPlus::from_seed(self.bytes(name))
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn streams_repeat_by_seed_and_start_and_differ_by_name() {
        let wall = Duration::from_secs(1);
        let draw = |entropy: Entropy, name| entropy.stream(name).next_u64();
        let entropy = || Entropy::new(Some(7), wall);
        assert_eq!(draw(entropy(), "nonce"), draw(entropy(), "nonce"));
        assert_ne!(draw(entropy(), "nonce"), draw(entropy(), "jitter"));
        let restarted = Entropy::new(Some(7), wall + Duration::from_nanos(1));
        assert_ne!(draw(entropy(), "nonce"), draw(restarted, "nonce"));
        let other = || Entropy::new(None, wall);
        assert_ne!(draw(other(), "nonce"), draw(other(), "nonce"));
    }
}
