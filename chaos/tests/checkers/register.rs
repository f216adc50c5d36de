//! Histories of real registers: each operation acts at one instant, and sees what is there.

use std::collections::BTreeMap;

use chaos::history::{Function, LogLine, NodeLog, Operation, Outcome};
use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;

/// How the clients of one key behave.
pub(crate) struct Shape {
    /// Operations on each key.
    pub operations_per_key: u64,
    /// Clients that always have one operation open.
    pub concurrent: u64,
    /// Of 100 operations, how many get no answer.
    pub unknown_percent: u64,
}

/// The operations of `keys` keys, and whether each register behaved.
pub(crate) fn simulate(rng: &mut Xoshiro256PlusPlus, keys: u64, shape: &Shape) -> Vec<Operation> {
    let acting = (0..keys).flat_map(|key| register(rng, key, shape));
    acting.map(|(_, operation)| operation).collect()
}

/// The same with one log for all keys: every command that acts stands in it, and every
/// acknowledged one names its place.
pub(crate) fn logged(
    rng: &mut Xoshiro256PlusPlus,
    keys: u64,
    shape: &Shape,
) -> (Vec<Operation>, NodeLog) {
    let mut acting: Vec<_> = (0..keys).flat_map(|key| register(rng, key, shape)).collect();
    acting.sort_by_key(|(acts_at, operation)| (acts_at.unwrap_or(u64::MAX), operation.id));
    let mut log = NodeLog { node: 1, group: 1, lines: Vec::new() };
    for (acts_at, operation) in &mut acting {
        if acts_at.is_none() || operation.f == Function::Read {
            continue;
        }
        let index = log.lines.len() as u64 + 1;
        if operation.outcome == Outcome::Ok {
            (operation.term, operation.index) = (Some(1), Some(index));
        }
        log.lines.push(LogLine { term: 1, index, request: None, value: operation.value });
    }
    (acting.into_iter().map(|(_, operation)| operation).collect(), log)
}

/// The operations of a key in the order in which they act, and when each does, if ever.
fn register(
    rng: &mut Xoshiro256PlusPlus,
    key: u64,
    shape: &Shape,
) -> Vec<(Option<u64>, Operation)> {
    let mut free_at: Vec<u64> = (0..shape.concurrent).collect();
    let mut acting: Vec<(Option<u64>, Operation)> = Vec::new();
    for number in 0..shape.operations_per_key {
        let client = rng.random_range(0..free_at.len());
        let (acts_at, operation) = drawn(rng, shape, key, number, &mut free_at[client]);
        acting.push((acts_at, Operation { client: client as u64, ..operation }));
    }
    acting.sort_by_key(|(acts_at, operation)| (acts_at.unwrap_or(u64::MAX), operation.id));

    let mut held = None;
    let mut past = vec![None];
    for (acts_at, operation) in &mut acting {
        if operation.f == Function::Cas {
            let guess = past[rng.random_range(0..past.len())];
            operation.expected = if rng.random_bool(0.5) { held } else { guess };
        }
        if acts_at.is_none() {
            continue;
        }
        if operation.outcome == Outcome::Ok && operation.f != Function::Write {
            operation.result = held;
        }
        let stores = match operation.f {
            Function::Read => false,
            Function::Write => true,
            Function::Cas => operation.expected == held,
        };
        if stores {
            held = operation.value;
            past.push(held);
        }
    }
    acting
}

fn drawn(
    rng: &mut Xoshiro256PlusPlus,
    shape: &Shape,
    key: u64,
    number: u64,
    free_at: &mut u64,
) -> (Option<u64>, Operation) {
    let id = key * shape.operations_per_key + number;
    let invoked_ns = *free_at + rng.random_range(1..200_000);
    let lasts_ns = rng.random_range(100_000..3_000_000);
    let f = match rng.random_range(0..100) {
        0..50 => Function::Read,
        50..90 => Function::Write,
        _ => Function::Cas,
    };
    let (outcome, completed_ns, acts_at) = match rng.random_range(0..100) {
        drawn if drawn < shape.unknown_percent => {
            // Long after the client gave up, or never.
            let late = rng.random_bool(0.5).then(|| rng.random_range(0..20 * lasts_ns));
            (Outcome::Unknown, None, late.map(|late| invoked_ns + late))
        }
        99 => (Outcome::Fail, Some(invoked_ns + lasts_ns), None),
        _ => {
            let acts_at = invoked_ns + rng.random_range(0..=lasts_ns);
            (Outcome::Ok, Some(invoked_ns + lasts_ns), Some(acts_at))
        }
    };
    *free_at = invoked_ns + lasts_ns;
    let operation = Operation {
        client: 0,
        id,
        f,
        key,
        value: (f != Function::Read).then_some(id + 1),
        expected: None,
        result: None,
        outcome,
        intended_ns: invoked_ns,
        invoked_ns,
        completed_ns,
        node: None,
        term: None,
        index: None,
        request: None,
    };
    (acts_at, operation)
}

/// Makes one read stale beyond doubt: it returns a value whose only write had returned before
/// another write was invoked that itself had returned before the read was invoked. Answers
/// whether there was such a read from position `from` on.
pub(crate) fn plant_stale_read(operations: &mut [Operation], from: usize) -> bool {
    let stored: Vec<Operation> = operations
        .iter()
        .filter(|one| one.outcome == Outcome::Ok)
        .filter(|one| one.f == Function::Write || one.swapped())
        .cloned()
        .collect();
    let before = |one: &Operation, other: &Operation| {
        one.key == other.key && one.completed_ns.is_some_and(|end| end < other.invoked_ns)
    };
    // Per key the write that returned first: the oldest value that can be overwritten.
    let mut oldest: BTreeMap<u64, &Operation> = BTreeMap::new();
    for write in &stored {
        let kept = oldest.entry(write.key).or_insert(write);
        if write.completed_ns < kept.completed_ns {
            *kept = write;
        }
    }
    let reads = operations[from..]
        .iter_mut()
        .filter(|one| one.f == Function::Read && one.outcome == Outcome::Ok);
    for read in reads {
        let Some(old) = oldest.get(&read.key) else { continue };
        let overwritten = stored.iter().any(|new| before(old, new) && before(new, read));
        if overwritten && read.result != old.value {
            read.result = old.value;
            return true;
        }
    }
    false
}
