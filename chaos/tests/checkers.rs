//! The checkers judged in turn: histories known to be good or bad, registers that really are
//! atomic, lies planted among true answers, and a second opinion that shares no idea with them.

#[path = "checkers/brute.rs"]
mod brute;
#[path = "checkers/courses.rs"]
mod courses;
#[path = "checkers/logs.rs"]
mod logs;
#[path = "checkers/register.rs"]
mod register;
#[path = "checkers/script.rs"]
mod script;
#[path = "checkers/sessions.rs"]
mod sessions;
#[path = "checkers/speed.rs"]
mod speed;

use std::path::{Path, PathBuf};

use chaos::checker::linearizable::{Budget, Linearizable};
use chaos::checker::overlap::Overlap;
use chaos::checker::{Check, Checker, Verdict, judge, standard};
use chaos::history::{Function, Operation, Outcome, Writer, parse_history, read_history};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use register::{Shape, plant_stale_read, simulate};
use script::{frozen, run};

fn judged(script: &str) -> Check {
    Linearizable::default().check(&run(script))
}

#[track_caller]
fn valid(script: &str) {
    let check = judged(script);
    assert_eq!(check.verdict, Verdict::Valid, "{}", check.detail);
}

#[track_caller]
fn invalid(script: &str, says: &[&str]) {
    let check = judged(script);
    assert_eq!(check.verdict, Verdict::Invalid, "{}", check.detail);
    for part in says {
        assert!(check.detail.contains(part), "`{part}` is not said: {}", check.detail);
    }
}

#[test]
fn operations_one_after_another_are_explained() {
    valid(
        "read -           0..1
         write 1          2..3
         read 1           4..5
         cas 1 2 found 1  6..7
         cas 1 3 found 2  8..9
         read 2           10..11
         cas - 4 found 2  12..13",
    );
}

#[test]
fn a_read_may_see_either_side_of_a_concurrent_write() {
    valid("write 1  0..10\n  read -  1..2\n  read 1  3..4");
    invalid("write 1  0..10\n  read 1  1..2\n  read -  3..4", &["read that found nothing"]);
}

#[test]
fn at_the_same_instant_is_concurrent() {
    valid("write 1  0..5\n  read -  5..6");
    invalid("write 1  0..5\n  read -  6..7", &[]);
}

#[test]
fn a_stale_read_is_found() {
    invalid(
        "write 1  0..10
         write 2  20..30
         read 1   40..50",
        &["key 1", "write 2 (operation 2 of client 2, 20.000 to 30.000 ms)", "operation 3"],
    );
}

#[test]
fn a_lost_update_is_found() {
    // Both swapped the same value; each value is written once.
    invalid(
        "write 1          0..10
         cas 1 2 found 1  20..30
         cas 1 3 found 1  25..35",
        &["cas 1 to"],
    );
    // The acknowledged write is gone: whoever comes later finds what was before.
    invalid("write 1  0..1\n  cas 1 2 found 1  2..3\n  read 1  4..5", &["operation 3"]);
}

#[test]
fn a_phantom_is_found() {
    invalid("write 1  0..10\n  read 7  20..30", &["found 7", "no operation was ever invoked"]);
    invalid("cas 7 8 found 7  0..1", &["found 7"]);
}

#[test]
fn a_write_applied_twice_is_found() {
    invalid(
        "write 1  0..10
         write 2  20..30
         read 2   40..50
         read 1   60..70",
        &["must still find 1"],
    );
}

#[test]
fn a_swap_applied_twice_is_found() {
    // The second time it found its own value, and that was answered.
    invalid("write 1  0..10\n  cas 1 2 found 2  20..30\n  read 2  40..50", &["cas 1 to 2"]);
}

#[test]
fn an_unknown_write_may_have_taken_effect() {
    valid("write 1  0..1\n  write 2 unknown  2..\n  read 1  3..4\n  read 2  5..6");
    // Even after everything else that was written later.
    valid("write 1 unknown  0..\n  write 2  2..3\n  read 2  4..5\n  read 1  6..7");
}

#[test]
fn an_unknown_write_need_not_have_taken_effect() {
    valid("write 1  0..1\n  write 2 unknown  2..\n  read 1  3..4\n  read 1  5..6");
}

#[test]
fn an_unknown_write_takes_effect_at_most_once() {
    invalid(
        "write 2 unknown  0..
         read 2           1..2
         write 3          3..4
         read 3           5..6
         read 2           7..8",
        &[],
    );
}

#[test]
fn an_unknown_swap_needs_what_it_expects() {
    valid("write 1  0..1\n  cas 1 2 unknown  2..\n  read 2  5..6");
    invalid("write 1  0..1\n  cas 9 2 unknown  2..\n  read 2  5..6", &[]);
}

#[test]
fn a_chain_of_unknown_swaps_is_kept_whole() {
    // Nobody acknowledged 2 or 3, but 4 can only have come about through both.
    valid(
        "write 1          0..1
         cas 1 2 unknown  2..
         cas 2 3 unknown  3..
         cas 3 4 unknown  4..
         read 4           9..10",
    );
    invalid("write 1  0..1\n  cas 1 2 unknown  2..\n  cas 3 4 unknown  4..\n  read 4  9..10", &[]);
}

#[test]
fn a_refused_swap_may_be_explained_by_an_unknown_write_alone() {
    valid("write 1  0..1\n  write 7 unknown  2..\n  cas 1 2 found 7  3..4");
    invalid("write 1  0..1\n  write 7 fail  2..3\n  cas 1 2 found 7  4..5", &["was refused"]);
    // Later it must be gone for good.
    invalid(
        "write 1          0..1
         write 7 unknown  2..
         cas 1 2 found 7  3..4
         read 1           5..6",
        &[],
    );
}

#[test]
fn a_failed_write_must_not_be_seen() {
    valid("write 1  0..1\n  write 2 fail  2..3\n  read 1  4..5");
    invalid(
        "write 1       0..1
         write 2 fail  2..3
         read 2        4..5",
        &["but only write 2 that was refused (operation 2"],
    );
}

#[test]
fn a_write_must_not_be_seen_before_it_is_invoked() {
    invalid("read 1  0..1\n  write 1  2..3", &["1 is yet to be stored by write 1"]);
    invalid("read 1  0..1\n  write 1 unknown  2..", &["1 is yet to be stored by write 1"]);
}

#[test]
fn unknown_reads_say_nothing() {
    valid("write 1  0..1\n  read unknown  2..\n  read 1  3..4");
}

#[test]
fn an_empty_history_is_no_pass() {
    assert_eq!(judged("").verdict, Verdict::Unknown);
    assert_eq!(judged("write 1 unknown  0..\n  write 2 fail  0..1").verdict, Verdict::Unknown);
}

#[test]
fn keys_are_judged_apart() {
    let mut operations = script::operations("write 1  0..1\n  write 2  2..3\n  read 1  4..5");
    operations[1].key = 2;
    let check = Linearizable::default().check(&frozen(operations));
    assert_eq!(check.verdict, Verdict::Valid, "{}", check.detail);
    assert!(check.detail.contains("3 acknowledged operations on 2 keys"), "{}", check.detail);
}

#[test]
fn a_spent_budget_is_unknown() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(11);
    let shape = Shape { operations_per_key: 500, concurrent: 8, unknown_percent: 5 };
    let run = frozen(simulate(&mut rng, 2, &shape));
    let budgets = [
        Budget { steps_per_key_max: 100, ..Budget::default() },
        Budget { bytes_per_key_max: 2_000, ..Budget::default() },
    ];
    for budget in budgets {
        let check = Linearizable { budget }.check(&run);
        assert_eq!(check.verdict, Verdict::Unknown, "{}", check.detail);
        assert!(check.detail.contains("key 0: 500 operations"), "{}", check.detail);
        assert!(check.detail.contains("key 1: 500 operations"), "{}", check.detail);
    }
    assert_eq!(Linearizable::default().check(&run).verdict, Verdict::Valid);
}

#[test]
fn a_broken_key_is_found_beside_one_that_exhausts_the_budget() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(12);
    let shape = Shape { operations_per_key: 500, concurrent: 8, unknown_percent: 0 };
    let mut operations = simulate(&mut rng, 1, &shape);
    let mut stale = script::operations("write 1  0..1\n  write 2  2..3\n  read 1  4..5");
    stale.iter_mut().for_each(|one| one.id += 1_000_000);
    operations.extend(stale);
    let budget = Budget { steps_per_key_max: 200, ..Budget::default() };
    let check = Linearizable { budget }.check(&frozen(operations));
    assert_eq!(check.verdict, Verdict::Invalid, "{}", check.detail);
}

#[test]
fn a_real_register_is_always_explained() {
    let mut unknown_seen = 0;
    for seed in 0..400 {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let concurrent = rng.random_range(1..=12);
        let unknown_percent = rng.random_range(0..10);
        let shape = Shape { operations_per_key: 120, concurrent, unknown_percent };
        let operations = simulate(&mut rng, 1, &shape);
        let unknown = operations.iter().filter(|one| one.outcome == Outcome::Unknown);
        let found = |value| operations.iter().any(|one| value == one.result);
        unknown_seen += unknown.filter(|one| one.value.is_some() && found(one.value)).count();
        let check = Linearizable::default().check(&frozen(operations));
        assert_eq!(check.verdict, Verdict::Valid, "seed {seed}: {}", check.detail);
    }
    assert!(unknown_seen > 100, "only {unknown_seen} unknown writes were seen by others");
}

#[test]
fn a_planted_stale_read_is_always_found() {
    let mut planted = 0;
    for seed in 0..150 {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1_000 + seed);
        let concurrent = rng.random_range(1..=12);
        let shape = Shape { operations_per_key: 200, concurrent, unknown_percent: 3 };
        let mut operations = simulate(&mut rng, 1, &shape);
        let from = rng.random_range(0..150);
        if !plant_stale_read(&mut operations, from) {
            continue;
        }
        planted += 1;
        let check = Linearizable::default().check(&frozen(operations));
        assert_eq!(check.verdict, Verdict::Invalid, "seed {seed}: {}", check.detail);
    }
    assert!(planted >= 140, "only {planted} of 150 histories had a read to make stale");
}

#[test]
fn twenty_thousand_operations_of_many_keys_are_judged() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(20_000);
    let shape = Shape { operations_per_key: 500, concurrent: 10, unknown_percent: 1 };
    let mut operations = simulate(&mut rng, 40, &shape);
    let check = Linearizable::default().check(&frozen(operations.clone()));
    assert_eq!(check.verdict, Verdict::Valid, "{}", check.detail);
    assert!(plant_stale_read(&mut operations, 15_000));
    let check = Linearizable::default().check(&frozen(operations));
    assert_eq!(check.verdict, Verdict::Invalid, "{}", check.detail);
    assert!(check.detail.contains("key 30:"), "{}", check.detail);
}

#[test]
fn every_order_tried_gives_the_same_answer() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
    let (mut good, mut bad) = (0, 0);
    for round in 0..30_000 {
        let operations = small(&mut rng);
        let check = Linearizable::default().check(&frozen(operations.clone()));
        let acknowledged = operations.iter().any(|one| one.outcome == Outcome::Ok);
        let expected = match brute::is_linearizable(&operations) {
            true if acknowledged => Verdict::Valid,
            true => Verdict::Unknown,
            false => Verdict::Invalid,
        };
        assert_eq!(check.verdict, expected, "round {round}: {operations:#?}\n{}", check.detail);
        match expected {
            Verdict::Valid => good += 1,
            Verdict::Invalid => bad += 1,
            Verdict::Unknown => {}
        }
    }
    assert!(good > 5_000 && bad > 5_000, "{good} good and {bad} bad ones");
}

/// A few operations, true to a register but for a lie now and then, or altogether random; values
/// may repeat, since the search must not rest on their being unique.
fn small(rng: &mut Xoshiro256PlusPlus) -> Vec<Operation> {
    let shape = Shape {
        operations_per_key: rng.random_range(1..=7),
        concurrent: rng.random_range(1..=5),
        unknown_percent: rng.random_range(0..60),
    };
    let mut operations = simulate(rng, 1, &shape);
    let values = rng.random_range(2..=7);
    let kind = rng.random_range(0..4);
    // Coarse clocks make events fall on the same instant.
    let tick_ns = if rng.random_bool(0.5) { 400_000 } else { 1 };
    let any = |rng: &mut Xoshiro256PlusPlus| match rng.random_range(0..=values) {
        0 => None,
        value => Some(value),
    };
    for operation in &mut operations {
        operation.invoked_ns /= tick_ns;
        operation.completed_ns = operation.completed_ns.map(|completed| completed / tick_ns);
        if operation.f != Function::Read && kind == 0 {
            operation.value = Some(rng.random_range(1..=values));
        }
        if operation.f == Function::Read && rng.random_bool(0.15) {
            operation.f = Function::Cas;
            operation.value = Some(rng.random_range(1..=values));
            operation.expected = any(rng);
        }
        let answers = operation.outcome == Outcome::Ok && operation.f != Function::Write;
        let lies = if kind == 0 { 0.7 } else { 0.1 };
        if answers && kind != 1 && rng.random_bool(lies) {
            operation.result = any(rng);
        }
    }
    operations
}

#[test]
fn too_little_overlap_is_no_pass() {
    let alone = run("write 1  0..1\n  write 2  2..3\n  read 2  4..5");
    let check = Overlap.check(&alone);
    assert_eq!(check.verdict, Verdict::Unknown);
    assert!(check.detail.starts_with("1.00 operations overlap"), "{}", check.detail);
    assert!(Overlap::measure(&alone.history).is_err());

    let burst = run("write 1  0..5\n  write 2  0..5\n  read -  0..5");
    assert_eq!(Overlap.check(&burst).verdict, Verdict::Valid);
    assert_eq!(Overlap.check(&run("")).verdict, Verdict::Unknown);
}

#[test]
fn one_broken_guarantee_decides_for_all() {
    let stale = run("write 1  0..10\n  write 2  20..30\n  read 1  40..50");
    let (verdict, checks) = judge(&stale, &standard());
    assert_eq!(verdict, Verdict::Invalid);
    let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["linearizable", "session order", "acknowledged", "at most once", "overlap"]);
}

#[test]
fn stored_histories_are_judged_again() {
    let expected = [
        ("sound.jsonl", Verdict::Valid),
        ("stale-read.jsonl", Verdict::Invalid),
        ("lost-update.jsonl", Verdict::Invalid),
    ];
    for (name, verdict) in expected {
        let history = read_history(&stored(name)).expect("stored histories are readable");
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file);
        for operation in history.operations() {
            writer.append(operation).expect("memory takes all");
        }
        let again = parse_history(Path::new(name), file.as_slice()).expect("written by us");
        assert_eq!(history, again);
        let check = Linearizable::default().check(&frozen(history.operations().to_vec()));
        assert_eq!(check.verdict, verdict, "{name}: {}", check.detail);
    }
}

fn stored(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/histories").join(name)
}
