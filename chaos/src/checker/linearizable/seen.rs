//! Which configurations the search has entered: the set of linearized steps, and the state.
//!
//! A configuration entered again need not be searched again: what follows depends on nothing
//! else. Invariants: equal hashes are never taken for equal configurations, and memory stays
//! below a bound.

use super::problem::State;

/// The steps that are linearized, with a hash that follows each change at constant cost.
pub(super) struct Chosen {
    required: usize,
    /// One bit per required step.
    must: Vec<u64>,
    /// One bit per optional step.
    may: Vec<u64>,
    /// All words of `must` before this one are full.
    low: usize,
    /// All words of `must` from this one on are empty.
    high: usize,
    hash: u64,
}

impl Chosen {
    pub(super) fn new(required: usize, steps: usize) -> Self {
        Self {
            required,
            must: vec![0; required.div_ceil(WORD)],
            may: vec![0; (steps - required).div_ceil(WORD)],
            low: 0,
            high: 0,
            hash: 0,
        }
    }

    pub(super) fn insert(&mut self, step: usize) {
        self.hash ^= scrambled(step as u64);
        if let Some(optional) = step.checked_sub(self.required) {
            self.may[optional / WORD] |= 1 << (optional % WORD);
            return;
        }
        let word = step / WORD;
        self.must[word] |= 1 << (step % WORD);
        self.high = self.high.max(word + 1);
        while self.low < self.high && self.must[self.low] == u64::MAX {
            self.low += 1;
        }
    }

    pub(super) fn remove(&mut self, step: usize) {
        self.hash ^= scrambled(step as u64);
        if let Some(optional) = step.checked_sub(self.required) {
            self.may[optional / WORD] &= !(1 << (optional % WORD));
            return;
        }
        let word = step / WORD;
        self.must[word] &= !(1 << (step % WORD));
        self.low = self.low.min(word);
        while self.high > 0 && self.must[self.high - 1] == 0 {
            self.high -= 1;
        }
    }

    /// The words that are neither full from the start nor empty to the end: with many steps but
    /// few concurrent ones, this is all that tells two sets apart.
    fn window(&self) -> &[u64] {
        &self.must[self.low.min(self.high)..self.high]
    }

    /// How much a configuration takes to keep, and to compare.
    pub(super) fn words(&self) -> usize {
        self.may.len() + self.window().len()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entered {
    New,
    Known,
    /// It is new, but there is no room for it.
    Full,
}

pub(super) struct Seen {
    bytes_max: usize,
    /// Open addressing; a number of a configuration and one, or 0.
    slots: Vec<u32>,
    configurations: Vec<Configuration>,
    words: Vec<u64>,
}

struct Configuration {
    hash: u64,
    state: State,
    low: usize,
    start: usize,
    length: usize,
}

impl Seen {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, slots: vec![0; SLOTS_MIN], configurations: Vec::new(), words: Vec::new() }
    }

    pub(super) fn enter(&mut self, chosen: &Chosen, state: State) -> Entered {
        let hash = chosen.hash ^ scrambled(!(state as u64));
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        while let Some(number) = self.slots[slot].checked_sub(1) {
            if self.holds(number as usize, hash, state, chosen) {
                return Entered::Known;
            }
            slot = (slot + 1) & mask;
        }
        let numbered = self.configurations.len() < u32::MAX as usize;
        if !numbered || self.bytes_with(chosen.words()) > self.bytes_max {
            return Entered::Full;
        }
        let start = self.words.len();
        self.words.extend_from_slice(&chosen.may);
        self.words.extend_from_slice(chosen.window());
        let length = self.words.len() - start;
        self.configurations.push(Configuration { hash, state, low: chosen.low, start, length });
        self.slots[slot] = self.configurations.len() as u32;
        if self.configurations.len() * 2 > self.slots.len() {
            self.grow();
        }
        Entered::New
    }

    fn holds(&self, number: usize, hash: u64, state: State, chosen: &Chosen) -> bool {
        let known = &self.configurations[number];
        let words = &self.words[known.start..known.start + known.length];
        let (may, window) = words.split_at(chosen.may.len());
        known.hash == hash
            && known.state == state
            && known.low == chosen.low
            && may == chosen.may
            && window == chosen.window()
    }

    /// The bytes in use once another configuration is in, and the slots doubled for it. A vector
    /// that grows holds up to twice what it needs.
    fn bytes_with(&self, words: usize) -> usize {
        let configurations = (self.configurations.len() + 1) * size_of::<Configuration>();
        let words = (self.words.len() + words) * size_of::<u64>();
        let slots = self.slots.len() * size_of::<u32>();
        2 * (configurations + words + slots)
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        self.slots.clear();
        self.slots.resize(mask + 1, 0);
        for (number, configuration) in self.configurations.iter().enumerate() {
            let mut slot = configuration.hash as usize & mask;
            while self.slots[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = number as u32 + 1;
        }
    }
}

/// Spreads the bits of a number (the output function of SplitMix64), so that the exclusive or of
/// a few of them tells sets apart (Zobrist hashing). A fixed function: equal runs stay equal.
fn scrambled(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

const WORD: usize = u64::BITS as usize;
const SLOTS_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_told_apart_by_steps_and_state() {
        let mut seen = Seen::new(1 << 20);
        let mut chosen = Chosen::new(200, 210);
        assert_eq!(seen.enter(&chosen, 0), Entered::New);
        assert_eq!(seen.enter(&chosen, 1), Entered::New);
        for step in 0..210 {
            chosen.insert(step);
            assert_eq!(seen.enter(&chosen, 0), Entered::New, "with {step}");
        }
        for step in (1..210).rev() {
            chosen.remove(step);
            assert_eq!(seen.enter(&chosen, 0), Entered::Known, "without {step}");
        }
    }

    #[test]
    fn the_order_of_insertion_does_not_matter() {
        let mut seen = Seen::new(1 << 20);
        let mut one = Chosen::new(100, 101);
        let mut other = Chosen::new(100, 101);
        [0, 70, 100, 3].into_iter().for_each(|step| one.insert(step));
        [3, 99, 100, 70, 0].into_iter().for_each(|step| other.insert(step));
        other.remove(99);
        assert_eq!(seen.enter(&one, 5), Entered::New);
        assert_eq!(seen.enter(&other, 5), Entered::Known);
    }

    #[test]
    fn memory_is_bounded() {
        let mut seen = Seen::new(10_000);
        let mut chosen = Chosen::new(1_000, 1_000);
        let entered = (0..1_000).map(|step| {
            chosen.insert(step);
            seen.enter(&chosen, 0)
        });
        let new = entered.take_while(|entered| *entered == Entered::New).count();
        assert!((50..500).contains(&new), "{new} entered");
    }
}
