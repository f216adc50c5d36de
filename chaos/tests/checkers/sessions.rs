//! What one client is told after another answer: scripts, and a second opinion by definition.
//!
//! A script is one of operations, each line with its client, key and index behind a bar; `-` is
//! no index. What is expected of overlapping operations is said nowhere: they are in no order.

use std::collections::BTreeMap;

use chaos::checker::session_order::SessionOrder;
use chaos::checker::{Check, Checker, Verdict};
use chaos::history::{
    Frozen, Function, LogLine, NodeLog, OBSERVERS_FROM, Operation, Outcome, RequestId,
};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::register::{Shape, logged};
use super::script::{self, frozen};

fn operations(script: &str) -> Vec<Operation> {
    let lines = script.lines().map(|line| line.split_once('|').expect("a line has a bar"));
    let (acts, places): (Vec<&str>, Vec<&str>) = lines.unzip();
    let mut operations = script::operations(&acts.join("\n"));
    for (operation, place) in operations.iter_mut().zip(places) {
        let words: Vec<Option<u64>> =
            place.split_whitespace().map(|word| word.parse().ok()).collect();
        let [Some(client), Some(key), index] = words[..] else { panic!("no place: {place}") };
        (operation.client, operation.key, operation.index) = (client, key, index);
        operation.term = index.map(|_| 1);
    }
    operations
}

fn judged(script: &str) -> Check {
    SessionOrder.check(&frozen(operations(script)))
}

#[track_caller]
fn valid(script: &str) {
    let check = judged(script);
    assert_eq!(check.verdict, Verdict::Valid, "{}", check.detail);
}

#[track_caller]
fn invalid(script: &str, says: &str) {
    let check = judged(script);
    assert_eq!(check.verdict, Verdict::Invalid, "{}", check.detail);
    assert!(check.detail.contains(says), "`{says}` is not said: {}", check.detail);
}

#[test]
fn a_client_reads_what_it_wrote_and_never_anything_older() {
    valid(
        "write 1           0..1   | 1 1 5
         read 1            2..3   | 1 1 -
         cas 1 2 found 1   4..5   | 1 1 7
         read 2            6..7   | 1 1 -",
    );
    invalid(
        "write 1  0..1 | 1 1 5
         read -   2..3 | 1 1 -",
        "client 1 had been told of index 5 by operation 1, then its operation 2 on key 1 found \
         nothing, though 1 was stored at index 5",
    );
}

#[test]
fn reads_of_one_client_are_monotonic() {
    let script = |client: u64| {
        format!(
            "write 1  0..1 | 9 1 5
             write 2  2..3 | 9 1 6
             read 2   4..5 | 1 1 -
             read 1   6..7 | {client} 1 -"
        )
    };
    invalid(&script(1), "operation 4 on key 1 found 1 of index 5, though 2 was stored at index 6");
    // Stale all the same, but no client was told both: that is for linearizability to see.
    let check = judged(&script(2));
    assert_eq!(check.verdict, Verdict::Valid, "{}", check.detail);
}

#[test]
fn a_compare_and_set_that_swapped_nothing_tells_of_its_place_and_stores_nothing() {
    valid(
        "write 1           0..1 | 1 1 5
         cas - 2 found 1   2..3 | 1 1 6
         read 1            4..5 | 1 1 -",
    );
    invalid(
        "write 1           0..1 | 1 1 5
         cas - 2 found -   2..3 | 1 1 6",
        "operation 2 on key 1 found nothing",
    );
}

#[test]
fn what_a_client_was_told_of_one_key_binds_on_all_others() {
    invalid(
        "write 1  0..1 | 9 1 5
         write 2  2..3 | 9 1 6
         write 3  2..3 | 1 2 7
         read 1   4..5 | 1 1 -",
        "told of index 7 by operation 3, then its operation 4 on key 1 found 1",
    );
}

#[test]
fn commands_stand_in_the_order_of_their_client() {
    invalid(
        "write 1  0..1 | 1 1 6
         write 2  2..3 | 1 2 5",
        "operation 2 was acknowledged at term 1, index 5",
    );
    let mut back = operations("write 1  0..1 | 1 1 5\nwrite 2  2..3 | 1 2 6");
    back[0].term = Some(2);
    let check = SessionOrder.check(&frozen(back));
    assert_eq!(check.verdict, Verdict::Invalid, "{}", check.detail);
}

#[test]
fn overlapping_operations_of_one_client_are_in_no_order() {
    let check = judged(
        "write 1  0..9 | 1 1 6
         write 2  1..9 | 1 1 5
         read -   1..9 | 1 1 -
         write 3  9..9 | 1 1 4",
    );
    assert_eq!(check.verdict, Verdict::Unknown, "{}", check.detail);
    assert!(check.detail.contains("no client asked anything after"), "{}", check.detail);
}

#[test]
fn who_reads_finally_is_no_client() {
    let written = "write 1  0..1 | 1 1 5
                   read 1   2..3 | 1 1 -";
    let check = judged(written);
    let told = "1 operations of 1 clients were told nothing older than their client knew";
    assert_eq!((check.verdict, &*check.detail), (Verdict::Valid, told));
    let read = format!("read 1  4..5 | {OBSERVERS_FROM} 1 -\nread 1  6..7 | {OBSERVERS_FROM} 1 -");
    let check = judged(&format!("{written}\n{read}"));
    let told = "1 operations of 1 clients, and 1 of 1 final readers, were told nothing older than \
                their client knew";
    assert_eq!((check.verdict, &*check.detail), (Verdict::Valid, told));
    // What they are told must be no older all the same.
    let stale = format!("{written}\n{}", read.replace("read 1  6..7", "read -  6..7"));
    invalid(&stale, "found nothing, though 1 was stored at index 5");
}

#[test]
fn a_session_counts_upwards() {
    let numbered = |first, second| {
        let mut operations = operations("write 1  0..1 | 1 1 5\nwrite 2  2..3 | 1 2 6");
        for (operation, sequence) in operations.iter_mut().zip([first, second]) {
            operation.request = Some(RequestId { session: 3, sequence });
        }
        SessionOrder.check(&frozen(operations))
    };
    assert_eq!(numbered(4, 5).verdict, Verdict::Valid);
    let check = numbered(5, 5);
    assert_eq!(check.verdict, Verdict::Invalid, "{}", check.detail);
    assert!(check.detail.contains("operation 2 as request 3.5 after operation 1"));
}

#[test]
fn the_log_tells_the_place_of_what_was_never_acknowledged() {
    let script = "write 1          0..1 | 1 1 5
                  write 2 unknown  2..  | 9 1 -
                  read 2           3..4 | 1 1 -
                  read 1           5..6 | 1 1 -";
    let without = judged(script);
    assert_eq!(without.verdict, Verdict::Unknown, "{}", without.detail);
    assert!(without.detail.contains("operation 3 found 2, of which"), "{}", without.detail);
    let line = LogLine { term: 1, index: 6, request: None, value: Some(2) };
    let log = NodeLog { node: 1, group: 1, lines: vec![line] };
    let check = SessionOrder.check(&Frozen { logs: vec![log], ..frozen(operations(script)) });
    assert_eq!(check.verdict, Verdict::Invalid, "{}", check.detail);
}

#[test]
fn a_value_that_was_written_twice_accuses_nobody() {
    let check = judged(
        "write 1  0..1 | 1 1 5
         write 2  2..3 | 1 1 6
         write 1  2..3 | 9 1 7
         read 1   4..5 | 1 1 -",
    );
    assert_eq!(check.verdict, Verdict::Unknown, "{}", check.detail);
}

#[test]
fn a_real_log_is_always_in_order() {
    for seed in 0..200 {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let shape = Shape { operations_per_key: 60, concurrent: 6, unknown_percent: 5 };
        let (operations, log) = logged(&mut rng, 3, &shape);
        let check = SessionOrder.check(&Frozen { logs: vec![log], ..frozen(operations) });
        assert_eq!(check.verdict, Verdict::Valid, "seed {seed}: {}", check.detail);
    }
}

#[test]
fn every_pair_looked_at_gives_the_same_answer() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(77);
    let (mut good, mut bad) = (0, 0);
    for round in 0..10_000 {
        let shape = Shape {
            operations_per_key: rng.random_range(1..=6),
            concurrent: rng.random_range(1..=3),
            unknown_percent: rng.random_range(0..30),
        };
        let (mut operations, log) = logged(&mut rng, 2, &shape);
        lie(&mut rng, &mut operations);
        let expected = is_in_order(&operations, &log);
        let run = Frozen { logs: vec![log], ..frozen(operations.clone()) };
        let check = SessionOrder.check(&run);
        let broken = check.verdict == Verdict::Invalid;
        assert_eq!(broken, !expected, "round {round}: {operations:#?}\n{}", check.detail);
        if expected { good += 1 } else { bad += 1 }
    }
    assert!(good > 1_000 && bad > 1_000, "{good} good and {bad} bad ones");
}

/// Now and then another value of the same key is found, or two answers swap their places.
fn lie(rng: &mut Xoshiro256PlusPlus, operations: &mut [Operation]) {
    for place in 0..operations.len() {
        let one = &operations[place];
        if one.outcome == Outcome::Ok && one.f != Function::Write && rng.random_bool(0.1) {
            let key = one.key;
            let other = rng.random_range(0..operations.len());
            let value = operations[other].value.filter(|_| operations[other].key == key);
            operations[place].result = value;
        }
        let other = rng.random_range(0..operations.len());
        if rng.random_bool(0.03)
            && let (Some(here), Some(there)) = (operations[place].index, operations[other].index)
        {
            (operations[place].index, operations[other].index) = (Some(there), Some(here));
        }
    }
}

/// By its definition: each answer must be what some prefix of the log shows, and the prefix must
/// hold all that the client had been told of before it asked.
fn is_in_order(operations: &[Operation], log: &NodeLog) -> bool {
    let place = |value: u64| {
        let told = operations.iter().find(|one| {
            one.value == Some(value) && one.outcome == Outcome::Ok && one.index.is_some()
        });
        let line = log.lines.iter().find(|line| line.value == Some(value));
        told.and_then(|one| one.index).or(line.map(|line| line.index))
    };
    let stored = |value: u64| {
        operations.iter().any(|one| {
            let writes = one.f == Function::Write && one.outcome == Outcome::Ok;
            let found = one.result == Some(value);
            found || one.value == Some(value) && (writes || one.swapped())
        })
    };
    let told = |one: &Operation| one.result.and_then(place).max(one.index).unwrap_or(0);
    let last = log.lines.len() as u64;
    let shows = |key: u64, through: u64| {
        let of_key = operations.iter().filter(|one| one.key == key).filter_map(|one| one.value);
        let placed: BTreeMap<u64, u64> = of_key
            .filter(|value| stored(*value))
            .filter_map(|value| Some((place(value)?, value)))
            .collect();
        placed.range(..=through).next_back().map(|(_, value)| *value)
    };
    operations.iter().filter(|one| one.outcome == Outcome::Ok).all(|one| {
        let earlier = operations.iter().filter(|other| {
            let ends = other.completed_ns.filter(|_| other.outcome == Outcome::Ok);
            other.client == one.client && ends.is_some_and(|end| end < one.invoked_ns)
        });
        let known = earlier.map(told).max().unwrap_or(0);
        let placed = one.result.is_none_or(|value| place(value).is_some());
        let shown = || (known..=last).any(|through| shows(one.key, through) == one.result);
        one.index.is_none_or(|index| index > known)
            && (one.f == Function::Write || !placed || shown())
    })
}
