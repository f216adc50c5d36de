//! Linearizability, register by register.
//!
//! Registers are independent, so a history is linearizable if and only if each key's part is
//! (Herlihy and Wing 1990, locality). Each part is searched on a budget: the answer is then
//! *unknown*, never a guess. Invariant: keys are judged in order, and none influences another.

use super::{Check, Checker, Complaints, conclude};
use crate::history::{Frozen, Operation, Outcome};

mod problem;
mod search;
mod seen;
mod timeline;
mod witness;

use problem::Problem;
use search::{Finding, Search};

/// Checks that each register behaved like one register.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linearizable {
    /// What the search may spend.
    pub budget: Budget,
}

/// What the search may spend on one key before it answers *unknown*.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Elementary steps: events visited and words compared.
    pub steps_per_key_max: u64,
    /// Memory for the configurations seen.
    pub bytes_per_key_max: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps_per_key_max: 100_000_000, bytes_per_key_max: 256 * 1024 * 1024 }
    }
}

/// What became of one key.
enum Answer {
    Explained,
    /// Why no order explains it.
    Broken(String),
    Exhausted,
}

impl Checker for Linearizable {
    fn name(&self) -> &'static str {
        "linearizable"
    }

    fn check(&self, frozen: &Frozen) -> Check {
        let (mut breaches, mut doubts) = (Complaints::default(), Complaints::default());
        let mut acknowledged = 0;
        let keys = frozen.history.by_key();
        for (key, operations) in &keys {
            acknowledged += operations.iter().filter(|one| one.outcome == Outcome::Ok).count();
            match answer(*key, operations, self.budget) {
                Answer::Explained => {}
                Answer::Broken(why) => breaches.add(|| why),
                Answer::Exhausted => doubts.add(|| exhausted(*key, operations, self.budget)),
            }
        }
        if acknowledged == 0 {
            doubts.add(|| "no operation was acknowledged".to_owned());
        }
        conclude(self.name(), &breaches, &doubts, || {
            format!(
                "an order explains all {acknowledged} acknowledged operations on {} keys",
                keys.len()
            )
        })
    }
}

fn answer(key: u64, operations: &[&Operation], budget: Budget) -> Answer {
    let problem = Problem::new(operations);
    if let Some(step) = problem.phantom() {
        return Answer::Broken(witness::phantom(key, step, operations));
    }
    match Search::new(&problem, budget).run() {
        Finding::Linearizable => Answer::Explained,
        Finding::Impossible(furthest) => Answer::Broken(witness::stuck(key, &problem, &furthest)),
        Finding::Exhausted => Answer::Exhausted,
    }
}

fn exhausted(key: u64, operations: &[&Operation], budget: Budget) -> String {
    let Budget { steps_per_key_max, bytes_per_key_max } = budget;
    format!(
        "key {key}: {} operations were not ordered within {steps_per_key_max} steps and \
         {bytes_per_key_max} bytes",
        operations.len()
    )
}
