//! The first world: cores only, over a network, disks and clocks that are a model. Exact.
//!
//! One seed decides everything: what the world is like, what goes wrong, what clients ask. Every
//! step is checked by all invariants. After the last step the world is healed and must prove
//! that it lives: a leader, a commit, and everyone catching up. A step is a delivered message, a
//! proposal or a fired timeout. Same seed, same run, to the last bit.

mod calls;
mod carriers;
mod clients;
mod counts;
mod disk;
mod effects;
mod event;
mod faults;
mod healing;
mod machine;
mod network;
mod node;
mod operator;
mod plan;
mod planted;
mod profile;
mod queue;
mod snapshots;
mod trace;
mod world;

use std::fmt;

pub use counts::Counts;
pub use plan::carry_out;
pub use planted::{DriverFault, Plant};

use world::World;

use crate::{
    invariant::{Invariants, Violation},
    seed::Seed,
};

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: Seed,
    /// How many steps before the healing.
    pub steps: u64,
    /// How many founders, 1 to [`NODES_MAX`]; `None` leaves it to the seed.
    pub nodes: Option<usize>,
    /// Breaks a rule, to see whether the invariants notice.
    pub plant: Option<Plant>,
}

/// A run in which nothing broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// What it saw.
    pub counts: Counts,
    /// Folds all that happened, in order.
    pub trace_hash: u64,
}

/// A run in which something broke.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Where it can be seen again.
    pub seed: Seed,
    /// After how many steps.
    pub step: u64,
    /// What broke.
    pub violation: Violation,
    /// What the run saw until then.
    pub counts: Counts,
    /// The events just before.
    pub events: Vec<String>,
}

/// Runs one seed.
pub fn run(options: &Options) -> Result<Outcome, Box<Failure>> {
    let failure = match World::new(options, Invariants::default(), None).run() {
        Ok(outcome) => return Ok(outcome),
        Err(failure) => failure,
    };
    // Describing every event would cost more than the run; the same seed once more, telling
    // only of the end, costs as much as the run.
    let from = failure.step.saturating_sub(EVENTS_TOLD);
    match World::new(options, Invariants::default(), Some(from)).run() {
        Err(again) if again.violation == failure.violation => Err(again),
        _ => {
            let what = format!("{} and, run again, something else", failure.violation);
            Err(Box::new(Failure { violation: Violation::of("determinism", what), ..*failure }))
        }
    }
}

/// Runs one seed without looking at the invariants, to measure what they cost.
pub fn run_blind(options: &Options) -> Result<Outcome, Box<Failure>> {
    World::new(options, Invariants::blind(), None).run()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, step {}: {}", self.seed, self.step, self.violation)?;
        self.events.iter().try_for_each(|event| writeln!(f, "    {event}"))
    }
}

impl std::error::Error for Failure {}

/// The most founders of a world.
pub const NODES_MAX: usize = 9;

/// How many steps before a failure are told.
const EVENTS_TOLD: u64 = 40;
