//! Session order: whatever a client was told, it is never told anything older afterwards.
//!
//! Every answer names a place in the one log: a command its own index, a value the index of the
//! operation that stored it. Of two operations of one client of which the first had been answered
//! before the second was invoked, the second acts on a log that holds all that the first was told
//! of. So reads are monotonic, each client reads its own writes, and its commands stand in the log
//! in its own order. All of it is strong, none is weak; linearizability implies it, and says less
//! clearly what is wrong. Operations of one client that overlap are in no order.
//!
//! Invariant: what has no known place is a doubt and never a breach.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use super::{Check, Checker, Complaints, conclude};
use crate::history::{Frozen, Function, OBSERVERS_FROM, Operation, Outcome};

/// Checks each client's own operations in its own order.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionOrder;

impl Checker for SessionOrder {
    fn name(&self) -> &'static str {
        "session order"
    }

    fn check(&self, frozen: &Frozen) -> Check {
        let (mut breaches, mut doubts) = (Complaints::default(), Complaints::default());
        let places = Places::of(frozen);
        let (mut of_clients, mut of_readers) = (Judged::default(), Judged::default());
        for (client, operations) in by_client(frozen) {
            let ordered = follow(&operations, &places, &mut breaches, &mut doubts);
            // Whoever looks once the load is over is no client of it.
            let judged = if client < OBSERVERS_FROM { &mut of_clients } else { &mut of_readers };
            judged.operations += ordered;
            judged.clients += u64::from(ordered > 0);
        }
        if of_clients.operations + of_readers.operations == 0 {
            doubts.add(|| "no client asked anything after an answer".to_owned());
        }
        conclude(self.name(), &breaches, &doubts, || {
            let Judged { operations, clients } = of_clients;
            let readers = match of_readers {
                Judged { operations: 0, .. } => String::new(),
                Judged { operations, clients } => {
                    format!(", and {operations} of {clients} final readers,")
                }
            };
            format!(
                "{operations} operations of {clients} clients{readers} were told nothing older \
                 than their client knew"
            )
        })
    }
}

/// Operations that came after an answer to the same client, and how many clients asked them.
#[derive(Default)]
struct Judged {
    operations: u64,
    clients: u64,
}

/// Where in the log the values of all registers were stored.
struct Places {
    /// By value; values are unique.
    of_value: BTreeMap<u64, u64>,
    /// By key: the indexes at which it is known to have changed, in order, and the values.
    changes: BTreeMap<u64, BTreeMap<u64, u64>>,
}

impl Places {
    /// From the answers, and for operations without one from the logs.
    fn of(frozen: &Frozen) -> Self {
        let mut of_value = BTreeMap::new();
        let operations = frozen.history.operations();
        for operation in operations.iter().filter(|one| one.outcome == Outcome::Ok) {
            if let (Some(value), Some(index)) = (operation.value, operation.index) {
                of_value.insert(value, index);
            }
        }
        for line in frozen.logs.iter().flat_map(|log| &log.lines) {
            if let Some(value) = line.value {
                of_value.entry(value).or_insert(line.index);
            }
        }
        // A value that was written twice names no place.
        let mut written = BTreeSet::new();
        for value in operations.iter().filter_map(|operation| operation.value) {
            if !written.insert(value) {
                of_value.remove(&value);
            }
        }
        let mut changes: BTreeMap<u64, BTreeMap<u64, u64>> = BTreeMap::new();
        for operation in operations.iter().filter(|one| one.outcome == Outcome::Ok) {
            let stored = match operation.f {
                Function::Write => operation.value,
                Function::Cas if operation.swapped() => operation.value,
                Function::Cas | Function::Read => None,
            };
            // What was found had been stored, whatever its client was told of it.
            for value in stored.into_iter().chain(operation.result) {
                if let Some(index) = of_value.get(&value) {
                    changes.entry(operation.key).or_default().insert(*index, value);
                }
            }
        }
        Self { of_value, changes }
    }

    /// The place of what was found; 0 of what was never written, `None` if nobody knows.
    fn found(&self, operation: &Operation) -> Option<u64> {
        operation.result.map_or(Some(0), |value| self.of_value.get(&value).copied())
    }

    /// The first change of a key in `(after, through]`: its index and its value.
    fn change(&self, key: u64, after: u64, through: u64) -> Option<(u64, u64)> {
        if after >= through {
            return None;
        }
        let change = self.changes.get(&key)?.range(after + 1..=through).next();
        change.map(|(index, value)| (*index, *value))
    }
}

/// The furthest place that a client was told of, and by which operation.
#[derive(Clone, Copy)]
struct Told {
    index: u64,
    term: Option<u64>,
    operation: u64,
}

/// Operations by client, each client's in order of invocation.
fn by_client(frozen: &Frozen) -> BTreeMap<u64, Vec<&Operation>> {
    let mut clients: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
    for operation in frozen.history.operations() {
        clients.entry(operation.client).or_default().push(operation);
    }
    clients
}

/// Walks one client's operations; how many of them came after an answer.
fn follow(
    operations: &[&Operation],
    places: &Places,
    breaches: &mut Complaints,
    doubts: &mut Complaints,
) -> u64 {
    let mut unanswered: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut told: Option<Told> = None;
    let mut sequences: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut judged = 0;
    for (place, operation) in operations.iter().enumerate() {
        let (Outcome::Ok, Some(completed)) = (operation.outcome, operation.completed_ns) else {
            continue;
        };
        // What completes in the nanosecond in which another is invoked overlaps with it.
        while let Some(Reverse((end, earlier))) = unanswered.peek().copied()
            && end < operation.invoked_ns
        {
            unanswered.pop();
            learn(operations[earlier], places, &mut told, &mut sequences);
        }
        unanswered.push(Reverse((completed, place)));
        if operation.f != Function::Write && places.found(operation).is_none() {
            let (id, value) = (operation.id, operation.result.unwrap_or_default());
            doubts.add(|| {
                format!("operation {id} found {value}, of which neither answer nor log tells where")
            });
        }
        if let Some(told) = told {
            judged += 1;
            compare(operation, told, places, breaches);
        }
        sequence(operation, &sequences, breaches);
    }
    judged
}

/// What the client knows once it has this answer.
fn learn(
    operation: &Operation,
    places: &Places,
    told: &mut Option<Told>,
    sequences: &mut BTreeMap<u64, (u64, u64)>,
) {
    let found = match operation.f {
        Function::Write => None,
        Function::Read | Function::Cas => places.found(operation),
    };
    let Some(index) = found.max(operation.index) else { return };
    if told.is_none_or(|told| told.index < index) {
        let term = operation.term.filter(|_| operation.index == Some(index));
        *told = Some(Told { index, term, operation: operation.id });
    }
    if let Some(request) = operation.request {
        let last = sequences.entry(request.session).or_insert((request.sequence, operation.id));
        *last = (*last).max((request.sequence, operation.id));
    }
}

/// Whether an answer agrees with what its client had been told before it asked.
fn compare(operation: &Operation, told: Told, places: &Places, breaches: &mut Complaints) {
    let Operation { client, id, key, .. } = operation;
    let Told { index: known, term: known_term, operation: before } = told;
    if let Some(index) = operation.index
        && (index <= known || operation.term.zip(known_term).is_some_and(|(now, then)| now < then))
    {
        breaches.add(|| {
            let at = |term: Option<u64>, index| match term {
                Some(term) => format!("term {term}, index {index}"),
                None => format!("index {index}"),
            };
            format!(
                "client {client} had been told of {} by operation {before}, then its operation \
                 {id} was acknowledged at {}",
                at(known_term, known),
                at(operation.term, index)
            )
        });
    }
    if operation.f == Function::Write {
        return;
    }
    let Some(found) = places.found(operation) else { return };
    if let Some((changed, value)) = places.change(*key, found, known) {
        breaches.add(|| {
            let seen = match operation.result {
                Some(old) => format!("found {old} of index {found}"),
                None => "found nothing".to_owned(),
            };
            format!(
                "client {client} had been told of index {known} by operation {before}, then its \
                 operation {id} on key {key} {seen}, though {value} was stored at index {changed}"
            )
        });
    }
}

/// A session counts its commands: one that was invoked later has a higher number.
fn sequence(
    operation: &Operation,
    sequences: &BTreeMap<u64, (u64, u64)>,
    breaches: &mut Complaints,
) {
    let Some(request) = operation.request else { return };
    let Some((last, before)) = sequences.get(&request.session) else { return };
    if request.sequence <= *last {
        breaches.add(|| {
            let (client, id) = (operation.client, operation.id);
            format!(
                "client {client} sent operation {id} as request {request} after operation \
                 {before} had been answered as number {last} of that session"
            )
        });
    }
}
