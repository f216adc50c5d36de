//! One seed for a whole run, and the named streams it splits into.
//!
//! Every draw of a world comes from a [`Stream`], and each stream depends on the seed and on its
//! own name alone: one draw more in one place moves nothing elsewhere. Knows no clock and no
//! entropy; whoever wants a fresh seed brings it.

use std::{fmt, str::FromStr, time::Duration};

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use serde::{Deserialize, Serialize};

/// What decides every draw of a run.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of the `number`th of many runs.
    #[must_use]
    pub fn child(self, number: u64) -> Self {
        Self(mix(self.0, number))
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl FromStr for Seed {
    type Err = NotASeed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed.map(Self).map_err(|_| NotASeed(text.chars().take(40).collect()))
    }
}

/// The text is no seed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("seed {0:?}: expected a number below 2^64, decimal or with 0x in hexadecimal")]
pub struct NotASeed(pub String);

/// A named sub-generator.
#[derive(Clone, Debug)]
pub struct Stream {
    generator: Xoshiro256PlusPlus,
}

impl Stream {
    /// The stream of this name.
    pub fn named(seed: Seed, name: &str) -> Self {
        let folded = name.bytes().fold(seed.0, |folded, byte| mix(folded, u64::from(byte)));
        Self { generator: Xoshiro256PlusPlus::seed_from_u64(folded) }
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// A number in `[0, bound)`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Multiply and shift: a bias below 2^-40 for the bounds in use, and exactly one draw, so
        // that a stream's position depends on how often it was asked and not on what it said.
        let product = u128::from(self.draw()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the upper half of a product of two u64")
    }

    /// A number in `[min, max]`; `min` when `max` is not greater.
    pub fn between(&mut self, min: u64, max: u64) -> u64 {
        min + self.below(max.saturating_sub(min).saturating_add(1))
    }

    /// True in `permille` of a thousand cases.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// A duration in `[min, max]`, in whole nanoseconds; capped at 584 years.
    pub fn duration(&mut self, min: Duration, max: Duration) -> Duration {
        Duration::from_nanos(self.between(nanos(min), nanos(max)))
    }

    /// One of the things, or nothing when there is none.
    pub fn pick<'a, T>(&mut self, things: &'a [T]) -> Option<&'a T> {
        let chosen = self.below(things.len() as u64);
        things.get(usize::try_from(chosen).ok()?)
    }
}

/// Folds a number into another, so that near inputs give far outputs.
pub fn mix(folded: u64, number: u64) -> u64 {
    let spread = (folded ^ number).wrapping_add(number.rotate_left(32)).wrapping_add(ODD);
    let once = (spread ^ (spread >> 32)).wrapping_mul(MULTIPLIER);
    let twice = (once ^ (once >> 29)).wrapping_mul(MULTIPLIER);
    twice ^ (twice >> 32)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// 2^64 divided by the golden ratio: keeps zeros from folding to zero.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
/// Any odd number with well spread bits does.
const MULTIPLIER: u64 = 0xd6e8_feb8_6659_fd93;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_more_in_one_stream_moves_no_other() {
        let seed = Seed(7);
        let mut network = Stream::named(seed, "network");
        let mut disk = Stream::named(seed, "disk");
        let alone: Vec<u64> = (0..8).map(|_| disk.draw()).collect();
        network.draw();
        let mut again = Stream::named(seed, "disk");
        let beside: Vec<u64> = (0..8)
            .map(|_| {
                network.draw();
                again.draw()
            })
            .collect();
        assert_eq!(alone, beside);
    }

    #[test]
    fn names_and_seeds_separate_streams() {
        let first = Stream::named(Seed(1), "ab").draw();
        assert_ne!(first, Stream::named(Seed(1), "ba").draw());
        assert_ne!(first, Stream::named(Seed(2), "ab").draw());
        assert_ne!(Seed(1).child(0), Seed(1).child(1));
    }

    #[test]
    fn draws_stay_in_their_bounds() {
        let mut stream = Stream::named(Seed(3), "bounds");
        let mut seen = [false; 5];
        for _ in 0..1000 {
            let drawn = stream.between(3, 7);
            assert!((3..=7).contains(&drawn));
            seen[usize::try_from(drawn - 3).expect("below 5")] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(stream.below(0), 0);
        assert_eq!(stream.between(9, 2), 9);
        assert!(stream.between(u64::MAX, u64::MAX) == u64::MAX);
        assert!(!stream.chance(0));
        assert!(stream.chance(1000));
        assert_eq!(stream.pick::<u8>(&[]), None);
    }

    #[test]
    fn a_seed_reads_back_what_it_prints() {
        let seed = Seed(0x9f3c);
        assert_eq!(seed.to_string().parse(), Ok(seed));
        assert_eq!("40764".parse(), Ok(seed));
        for bad in ["", "0x", "-1", "seed", "0x1ffffffffffffffff"] {
            assert_eq!(bad.parse::<Seed>(), Err(NotASeed(bad.to_owned())));
        }
    }
}
