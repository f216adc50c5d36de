//! What the clients do next: which key, which operation, which values.
//!
//! Draws from the stream "workload" alone; what was answered only steers what a compare-and-set
//! expects. Invariant: a key gets no more than its operations and never returns once retired,
//! and no value is stored twice.

use std::collections::BTreeMap;

use crate::{
    history::Function,
    plan::WorkloadPlan,
    seed::{Seed, Stream},
    workload::Numbers,
};

/// An operation that is about to be invoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Intent {
    /// Who invokes it, from 0.
    pub client: u64,
    /// Its number.
    pub id: u64,
    /// What it does.
    pub f: Function,
    /// The register.
    pub key: u64,
    /// What it stores.
    pub value: Option<u64>,
    /// What a compare-and-set compares with.
    pub expected: Option<u64>,
}

/// Makes operations, burst by burst.
#[derive(Debug)]
pub struct Generator {
    plan: WorkloadPlan,
    stream: Stream,
    numbers: Numbers,
    live: Vec<Key>,
    /// What live registers are believed to hold.
    believed: BTreeMap<u64, Option<u64>>,
    keys_used: u64,
    client: u64,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    number: u64,
    operations: u64,
}

impl Generator {
    /// Keys are counted from 1; key 0 is left to others.
    pub fn new(plan: WorkloadPlan, seed: Seed, numbers: Numbers) -> Self {
        let live = (1..=plan.keys_live).map(|number| Key { number, operations: 0 }).collect();
        let stream = Stream::named(seed, "workload");
        let keys_used = plan.keys_live;
        Self { plan, stream, numbers, live, believed: BTreeMap::new(), keys_used, client: 0 }
    }

    /// Operations that are due at the same instant: from different clients on the same key, so
    /// that they overlap. Where the key is used up the rest goes to its successor.
    pub fn burst(&mut self) -> Vec<Intent> {
        let slot = usize::try_from(self.stream.below(self.live.len() as u64)).unwrap_or(0);
        (0..self.plan.burst).map(|_| self.intent(slot)).collect()
    }

    /// An answer tells what a register held.
    pub fn saw(&mut self, key: u64, value: Option<u64>) {
        if self.live.iter().any(|live| live.number == key) {
            self.believed.insert(key, value);
        }
    }

    fn intent(&mut self, slot: usize) -> Intent {
        if self.live[slot].operations >= self.plan.operations_per_key {
            self.believed.remove(&self.live[slot].number);
            self.keys_used += 1;
            self.live[slot] = Key { number: self.keys_used, operations: 0 };
        }
        self.live[slot].operations += 1;
        let key = self.live[slot].number;
        let client = self.client;
        self.client = (self.client + 1) % self.plan.clients;
        let id = self.numbers.next();
        let mix = self.plan.mix;
        let drawn = self.stream.below(100);
        let (f, value, expected) = if drawn < mix.read {
            (Function::Read, None, None)
        } else if drawn < mix.read + mix.write {
            (Function::Write, Some(id), None)
        } else {
            let expected = self.believed.get(&key).copied().flatten();
            (Function::Cas, Some(id), expected)
        };
        Intent { client, id, f, key, value, expected }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn intents(plan: &WorkloadPlan, seed: u64, bursts: usize) -> Vec<Vec<Intent>> {
        let mut generator = Generator::new(plan.clone(), Seed(seed), Numbers::default());
        (0..bursts).map(|_| generator.burst()).collect()
    }

    #[test]
    fn a_key_is_retired_after_its_operations_and_never_returns() {
        let plan = WorkloadPlan { operations_per_key: 7, keys_live: 3, ..Default::default() };
        let mut count: BTreeMap<u64, u64> = BTreeMap::new();
        for burst in intents(&plan, 1, 500) {
            for intent in burst {
                *count.entry(intent.key).or_default() += 1;
            }
        }
        let unfinished = count.values().filter(|count| **count < 7).count();
        assert!(count.values().all(|count| *count <= 7));
        assert!(unfinished <= 3, "only live keys may be unfinished: {unfinished}");
        assert!(!count.contains_key(&0));
    }

    #[test]
    fn a_burst_is_one_key_and_different_clients() {
        for burst in intents(&WorkloadPlan::default(), 2, 200) {
            let clients: BTreeSet<u64> = burst.iter().map(|intent| intent.client).collect();
            assert_eq!(clients.len(), 5);
            assert!(burst.iter().all(|intent| intent.key == burst[0].key));
        }
    }

    #[test]
    fn the_mix_is_kept_and_values_are_unique() {
        let mut shares: BTreeMap<Function, u64> = BTreeMap::new();
        let mut values = BTreeSet::new();
        for intent in intents(&WorkloadPlan::default(), 3, 4_000).into_iter().flatten() {
            *shares.entry(intent.f).or_default() += 1;
            assert_eq!(intent.value.is_some(), intent.f != Function::Read);
            assert!(intent.value.is_none_or(|value| values.insert(value)));
        }
        for (f, percent) in [(Function::Read, 50), (Function::Write, 40), (Function::Cas, 10)] {
            let share = shares[&f] / 200;
            assert!((percent - 2..=percent + 2).contains(&share), "{f:?}: {share} %");
        }
    }

    #[test]
    fn a_compare_and_set_expects_what_was_seen_last() {
        let mix = crate::plan::Mix { read: 0, write: 0, cas: 100 };
        let plan = WorkloadPlan { keys_live: 1, mix, ..Default::default() };
        let mut generator = Generator::new(plan, Seed(4), Numbers::default());
        assert!(generator.burst().iter().all(|intent| intent.expected.is_none()));
        generator.saw(1, Some(77));
        generator.saw(2, Some(78));
        assert!(generator.burst().iter().all(|intent| intent.expected == Some(77)));
    }

    #[test]
    fn a_seed_always_asks_the_same() {
        let plan = WorkloadPlan::default();
        assert_eq!(intents(&plan, 5, 50), intents(&plan, 5, 50));
        assert_ne!(intents(&plan, 5, 50), intents(&plan, 6, 50));
    }
}
