//! The swarm as a test: many seeds, every invariant after every step, and proof that it looked.
//!
//! Without flags: a million steps over many seeds must break nothing and must have seen enough;
//! a seed run twice must be the same run; and each planted fault that takes few seeds must be
//! caught. With flags: any number of steps, one seed again, or the table of all planted faults.
//! Ends with the line that reruns what failed.

#[path = "swarm/abreast.rs"]
mod abreast;
#[path = "swarm/faults.rs"]
mod faults;
#[path = "swarm/flags.rs"]
mod flags;
#[path = "swarm/mutants.rs"]
mod mutants;

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
};

use abreast::abreast;
use chaos::swarm::{Counts, Failure, Options, run, run_blind};
use faults::{FAULTS, ORDINARY_SEEDS_MAX};
use flags::{Flags, USAGE};
use runtime::{Clock, SystemClock};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match Flags::parse(&words) {
        Ok(flags) if flags.lists => {
            println!("swarm: test\n\n1 test, 0 benchmarks");
            return ExitCode::SUCCESS;
        }
        Ok(flags) if flags.passes_by => return ExitCode::SUCCESS,
        Ok(flags) => all(&flags),
        Err(message) => {
            eprintln!("swarm: {message}\n{USAGE}");
            return ExitCode::from(3);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn all(flags: &Flags) -> Result<(), String> {
    if let Some(fault) = &flags.planted {
        return mutants::catches(flags, fault).map(drop);
    }
    if flags.mutants {
        return mutants::table(flags);
    }
    let seen = holds(flags)?;
    if flags.seed.is_some() || flags.blind {
        return Ok(());
    }
    // In a short run, or in one of an unusual size, chance decides what is seen.
    if seen.steps >= STEPS && flags.nodes.is_none() {
        enough(&seen)?;
    }
    repeats(flags)?;
    if flags.steps.is_none() && flags.seeds.is_none() && flags.nodes.is_none() {
        let mut ordinary = FAULTS.iter().filter(|fault| fault.seeds_max <= ORDINARY_SEEDS_MAX);
        ordinary.try_for_each(|fault| mutants::catches(flags, fault).map(drop))?;
    }
    Ok(())
}

/// Nothing breaks in any seed.
fn holds(flags: &Flags) -> Result<Counts, String> {
    let plan = flags.plan(ORDINARY_STEPS);
    let clock = SystemClock::new();
    let failures = AtomicU64::new(0);
    let one = |number| {
        let (seed, steps) = plan.run(number);
        let options = Options { seed, steps, nodes: flags.nodes, plant: None };
        let run = if flags.blind { run_blind } else { run };
        let outcome = match run(&options) {
            Err(failure) if flags.keep_going => {
                println!("{}", told(flags, &failure, steps));
                failures.fetch_add(1, Ordering::Relaxed);
                return Ok(failure.counts);
            }
            outcome => outcome?,
        };
        if flags.verbose {
            println!("seed {seed}: {steps} steps, trace {:#018x}", outcome.trace_hash);
            println!("{}", outcome.counts);
        }
        Ok::<_, Box<Failure>>(outcome.counts)
    };
    let seen = abreast(flags.jobs, plan.seeds, one)
        .map_err(|(number, failure)| told(flags, &failure, plan.run(number).1))?;
    let seconds = clock.now().0.as_secs_f64();
    let looked =
        if flags.blind { "no invariant looked" } else { "every invariant looked after each" };
    println!("swarm: {} seeds, {} steps, {looked}", plan.seeds, seen.steps);
    let rate = seen.steps as f64 / seconds;
    println!("  {seconds:.2} s on {} threads, {rate:.0} steps/s\n{seen}", flags.jobs);
    match failures.into_inner() {
        0 => Ok(seen),
        failures => Err(format!("{failures} of {} seeds broke something", plan.seeds)),
    }
}

/// A seed is a run: the same again is the same again.
fn repeats(flags: &Flags) -> Result<(), String> {
    let (seed, _) = flags.plan(ORDINARY_STEPS).run(0);
    let options = Options { seed, steps: STEPS_PER_SEED, nodes: flags.nodes, plant: None };
    let [once, twice] = [run(&options), run(&options)];
    let other = run(&Options { seed: seed.child(1), ..options });
    match (once, twice, other) {
        (Ok(once), Ok(twice), Ok(other)) if once == twice && once != other => Ok(()),
        (once, twice, _) => {
            Err(format!("seed {seed} does not repeat itself: {once:?}, then {twice:?}"))
        }
    }
}

fn told(flags: &Flags, failure: &Failure, steps: u64) -> String {
    let nodes = flags.nodes.map_or(String::new(), |nodes| format!(" --nodes {nodes}"));
    let rerun = "cargo test -p chaos --test swarm --";
    format!("{failure}{}\n{rerun} --seed {} --steps {steps}{nodes}", failure.counts, failure.seed)
}

/// A run that saw too little proves too little.
fn enough(seen: &Counts) -> Result<(), String> {
    let named: Vec<_> = seen.named().collect();
    for (name, minimum) in MINIMUMS {
        let needed = minimum * seen.steps / STEPS;
        let count = named.iter().find(|(known, _)| known == name).map(|(_, count)| *count);
        let Some(count) = count else { return Err(format!("there is no count {name}")) };
        if count < needed {
            return Err(format!(
                "saw {count} {name}, a run of {} steps needs {needed}",
                seen.steps
            ));
        }
    }
    Ok(())
}

/// Steps of an ordinary run. Of twenty seeds, some see too little of one thing by chance.
const ORDINARY_STEPS: u64 = 10 * STEPS;
/// What `MINIMUMS` are counted for; who takes fewer need not have seen anything.
const STEPS: u64 = 100_000;
/// Many short worlds see more than a long one: each draws its own faults.
const STEPS_PER_SEED: u64 = 5_000;
/// What so many steps must have seen; a longer run as much more as it is longer.
const MINIMUMS: &[(&str, u64)] = &[
    ("elections", 200),
    ("crashes", 150),
    ("wipes", 5),
    ("truncations", 20),
    ("membership_changes", 100),
    ("transfers", 20),
    ("snapshots_taken", 80),
    ("snapshots_to_be", 60),
    ("snapshots_installed", 15),
    ("carried", 20),
    ("partitions", 60),
    ("pauses", 25),
    ("writes_lost", 20),
    ("duplicates_recognised", 100),
    ("committed", 1000),
    ("acknowledged", 500),
    ("failed", 1),
    ("reads", 200),
];
