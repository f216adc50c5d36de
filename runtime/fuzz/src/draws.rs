//! The choices behind one input, and what they do to bytes.
//!
//! They are drawn, or given as bytes as far as these go: each choice takes as few of them as say
//! it, so that a changed byte is a changed choice. Invariant: what grows has a limit, so that an
//! input stays near the size of what it was made of.

use rand::{Rng, RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// The choices behind one input.
#[derive(Debug)]
pub struct Draws {
    /// What is left of those that were given, the next one last.
    given: Vec<u8>,
    drawn: Xoshiro256PlusPlus,
}

impl Draws {
    /// Those of this number among the inputs of a target.
    pub(crate) fn new(seed: u64, target: &str, number: u64) -> Self {
        // FNV-1a: targets draw apart, and a name keeps its draws for ever.
        let name = target.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let drawn = Xoshiro256PlusPlus::seed_from_u64(seed ^ name ^ number);
        Self { given: Vec::new(), drawn }
    }

    /// Those that are given, and behind them those of the first input of a target.
    pub(crate) fn given(choices: &[u8], target: &str) -> Self {
        let given = choices.iter().rev().copied().collect();
        Self { given, ..Self::new(0, target, 0) }
    }

    /// A number below the limit, which is at least 1.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = limit.max(1);
        let bytes = (limit - 1).checked_ilog2().map_or(0, |bits| bits / 8 + 1);
        match self.take(bytes) {
            Some(given) => (given % limit as u64) as usize,
            None => self.drawn.random_range(0..limit),
        }
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.take(8).unwrap_or_else(|| self.drawn.next_u64())
    }

    fn byte(&mut self) -> u8 {
        self.take(1).map_or_else(|| self.drawn.random(), |given| given as u8)
    }

    /// The number in so many of the given bytes, or in fewer if no more are left; `None` where
    /// none is.
    fn take(&mut self, bytes: u32) -> Option<u64> {
        let from = self.given.len().saturating_sub(bytes as usize);
        let number = |number, byte| number << 8 | u64::from(byte);
        (!self.given.is_empty()).then(|| self.given.drain(from..).fold(0, number))
    }

    /// One of them, of which there is at least one.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// One of the samples, changed; seldom as it is, and seldom nothing but noise. `words` are
    /// what readers look for, or should not find.
    pub fn garbled(&mut self, samples: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
        if self.once_in(64) {
            let length = self.below(NOISE_BYTES_MAX);
            return (0..length).map(|_| self.byte()).collect();
        }
        let mut bytes = self.one_of(samples).clone();
        if !self.once_in(64) {
            self.garble(&mut bytes, samples, words);
        }
        bytes
    }

    /// Changes the bytes in a few places.
    pub fn garble(&mut self, bytes: &mut Vec<u8>, samples: &[Vec<u8>], words: &[&[u8]]) {
        let bytes_max = 2 * bytes.len() + NOISE_BYTES_MAX;
        let (before, changes) = (bytes.clone(), self.below(4));
        for change in 0..CHANGES_MAX {
            // A cut of nothing, or a byte that is what it was to be, is no change.
            if change > changes && *bytes != before {
                return;
            }
            self.change(bytes, samples, words);
            bytes.truncate(bytes_max);
        }
    }

    fn change(&mut self, bytes: &mut Vec<u8>, samples: &[Vec<u8>], words: &[&[u8]]) {
        let at = self.below(bytes.len() + 1);
        match self.below(10) {
            0 => self.over(bytes, at, |byte, draw| byte ^ (1 << (draw % 8))),
            1 => self.over(bytes, at, |_, draw| EDGES[draw as usize % EDGES.len()]),
            2 => self.over(bytes, at, |byte, draw| match draw % 2 {
                0 => byte.wrapping_add(1),
                _ => byte.wrapping_sub(1),
            }),
            // A length that grows: fixed, or of variable length.
            3 => {
                let number = self.edge().to_le_bytes();
                let width = 1 << self.below(4);
                put(bytes, at, &number[..width]);
            }
            4 => {
                let number = varint(self.edge());
                let to = (at + self.below(3)).min(bytes.len());
                bytes.splice(at..to, number);
            }
            // Cut, from somewhere or to the end.
            5 => {
                let to = at + self.below(bytes.len() - at + 1);
                bytes.drain(at..to);
            }
            6 => bytes.truncate(at),
            // A part of it once more, or of another sample.
            7 => {
                let to = at + self.below((bytes.len() - at).min(PART_BYTES_MAX) + 1);
                let part = bytes[at..to].to_vec();
                let at = self.below(bytes.len() + 1);
                bytes.splice(at..at, part);
            }
            8 => {
                let other = self.one_of(samples);
                let from = self.below(other.len() + 1);
                let to = from + self.below((other.len() - from).min(PART_BYTES_MAX) + 1);
                let gone = at + self.below((bytes.len() - at).min(PART_BYTES_MAX) + 1);
                bytes.splice(at..gone, other[from..to].iter().copied());
            }
            _ if words.is_empty() => self.over(bytes, at, |_, draw| draw as u8),
            _ => {
                let word = *self.one_of(words);
                let gone = (at + self.below(word.len() + 1)).min(bytes.len());
                bytes.splice(at..gone, word.iter().copied());
            }
        }
    }

    fn over(&mut self, bytes: &mut [u8], at: usize, change: impl Fn(u8, u64) -> u8) {
        let draw = self.number();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = change(*byte, draw);
        }
    }

    /// A number at whose edge readers fail, or next to it.
    fn edge(&mut self) -> u64 {
        let edge = 1_u64.checked_shl(self.below(65) as u32).unwrap_or_default();
        edge.wrapping_add(self.below(3) as u64).wrapping_sub(1)
    }
}

fn put(bytes: &mut [u8], at: usize, number: &[u8]) {
    let room = bytes.len().saturating_sub(at).min(number.len());
    bytes[at..at + room].copy_from_slice(&number[..room]);
}

/// Seven bits in each byte, the lowest first.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

const EDGES: [u8; 6] = [0, 1, 0x7f, 0x80, 0xfe, 0xff];
const NOISE_BYTES_MAX: usize = 512;
const PART_BYTES_MAX: usize = 4_096;
const CHANGES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_follows_from_seed_name_and_number() {
        let samples = [vec![7; 100], vec![9; 50]];
        let garbled =
            |seed, name, number| Draws::new(seed, name, number).garbled(&samples, &[b"word"]);
        for number in 0..100 {
            assert_eq!(garbled(1, "a", number), garbled(1, "a", number));
        }
        let all =
            |seed, name| (0..100).map(|number| garbled(seed, name, number)).collect::<Vec<_>>();
        assert_ne!(all(1, "a"), all(2, "a"));
        assert_ne!(all(1, "a"), all(1, "b"));
    }

    #[test]
    fn given_choices_are_made_in_their_order_and_drawn_ones_follow() {
        let mut draws = Draws::given(&[3, 0x34, 0x12, 200, 7], "t");
        let made = (draws.below(10), draws.below(0x10_000), draws.once_in(2), draws.below(1));
        assert_eq!(made, (3, 0x1234, true, 0));
        assert_eq!(draws.number(), 7, "of a choice that takes more there may be less");
        let mut drawn = Draws::new(0, "t", 0);
        assert_eq!(
            (draws.below(1_000), draws.number(), draws.byte()),
            (drawn.below(1_000), drawn.number(), drawn.byte())
        );
    }

    #[test]
    fn inputs_differ_from_their_samples_and_stay_near_their_size() {
        let samples = [vec![7; 100], Vec::new()];
        let mut changed = 0;
        for number in 0..10_000 {
            let input = Draws::new(0, "t", number).garbled(&samples, &[]);
            assert!(input.len() <= 200 + NOISE_BYTES_MAX, "{} bytes", input.len());
            changed += usize::from(!samples.contains(&input));
        }
        assert!(changed > 9_000, "{changed}");
    }

    #[test]
    fn numbers_are_written_as_readers_expect_them() {
        assert_eq!(varint(0), [0]);
        assert_eq!(varint(300), [0xac, 0x02]);
        assert_eq!(varint(u64::MAX).len(), 10);
    }
}
