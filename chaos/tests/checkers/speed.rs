//! How long the search takes: figures to print, and nothing that depends on them.
//!
//! ```sh
//! cargo test --release -p chaos --test checkers -- --ignored --nocapture speed
//! ```
//! 100,000 operations, 1 % of them unknown, 10 clients at a time on each key, on one core; as the
//! workload has them (500 on a key), and with ever fewer and longer keys. Then the same with one
//! stale read, planted late.

use std::time::Duration;

use chaos::checker::linearizable::Linearizable;
use chaos::checker::session_order::SessionOrder;
use chaos::checker::{Check, Checker, Verdict};
use chaos::history::{Frozen, Operation};
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use runtime::{Clock as _, SystemClock};

use super::register::{Shape, logged, plant_stale_read};
use super::script::frozen;

fn timed(checker: &dyn Checker, run: &Frozen) -> (Check, Duration) {
    let clock = SystemClock::new();
    let begun = clock.now();
    let check = checker.check(run);
    (check, clock.now().since(begun))
}

fn history(keys: u64) -> (Vec<Operation>, Frozen) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(keys);
    let shape = Shape { operations_per_key: OPERATIONS / keys, concurrent: 10, unknown_percent: 1 };
    let (operations, log) = logged(&mut rng, keys, &shape);
    let run = Frozen { logs: vec![log], ..frozen(operations.clone()) };
    (operations, run)
}

#[test]
#[ignore = "prints figures, wants --release and a machine that is idle"]
fn speed_of_the_checkers() {
    for keys in [200, 20, 1] {
        let (mut operations, run) = history(keys);
        let per_key = OPERATIONS / keys;
        let (check, took) = timed(&Linearizable::default(), &run);
        println!("{keys} keys of {per_key}: linearizable {} in {took:.3?}", check.verdict);
        assert_eq!(check.verdict, Verdict::Valid, "{}", check.detail);
        let (check, took) = timed(&SessionOrder, &run);
        println!("{keys} keys of {per_key}: session order {} in {took:.3?}", check.verdict);
        assert_eq!(check.verdict, Verdict::Valid, "{}", check.detail);

        let late = operations.len() * 9 / 10;
        assert!(plant_stale_read(&mut operations, late), "there is a read to make stale");
        let (check, took) = timed(&Linearizable::default(), &frozen(operations));
        println!("{keys} keys of {per_key}, one stale read: {} in {took:.3?}", check.verdict);
        assert_eq!(check.verdict, Verdict::Invalid, "{}", check.detail);
    }
}

const OPERATIONS: u64 = 100_000;
