//! One plan with one seed, carried out and judged; what this prints is what the table reads.
//!
//! In a process of its own: what a broken rule brings down must not take the table with it.

use std::{io, process::ExitCode};

use chaos::{
    checker::Verdict,
    history::Operation,
    outage::Trial,
    plan::{self, Plan, WorldKind, draw_faults},
    process::{Places, ProcessWorld},
    run::{self, Listener, Mark, Outcome, Phase, RunError, Stop},
    schedule::Schedule,
    seed::Seed,
    sim,
};

use crate::MUTANTS;

/// What the first line says where a check has failed; the name of the check and what it said
/// follow.
pub(crate) const CAUGHT: &str = "caught ";
/// What it says where every check has passed.
pub(crate) const VALID: &str = "valid";

/// `NUMBER planted|healthy WORLD SEED`.
pub(crate) fn main(words: &[String]) -> ExitCode {
    let [number, planted, world, seed] = words else { return ExitCode::from(3) };
    let mutant = &MUTANTS[number.parse::<usize>().expect("the table's own number")];
    let plan = plan::parse(mutant.plan).expect("a plan");
    let plan = Plan { planted: (planted == "planted").then_some(mutant.rule), ..plan };
    let seed: Seed = seed.parse().expect("the table's own seed");
    let outcome = match world.as_str() {
        "sim" => in_sim(&plan, seed),
        _ => in_processes(&plan, seed),
    };
    match outcome {
        Ok(outcome) => tell(&outcome),
        Err(error) => println!("failed: {error}"),
    }
    ExitCode::SUCCESS
}

fn in_sim(plan: &Plan, seed: Seed) -> Result<Outcome, RunError> {
    let plan = draw_faults(plan, WorldKind::Sim, seed)?;
    let (_stopper, stop) = Stop::new();
    sim::run(&plan, seed, Box::new(Deaf), &stop, &sim::Places::default())
}

fn in_processes(plan: &Plan, seed: Seed) -> Result<Outcome, RunError> {
    let plan = draw_faults(plan, WorldKind::Process, seed)?;
    let folder = tempfile::tempdir()?;
    let world = ProcessWorld::new(Places {
        program: std::env::current_exe()?,
        logs: folder.path().join("nodes"),
        stores: folder.path().join("stores"),
    });
    let (_stopper, stop) = Stop::new();
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    threads.block_on(run::run(&world, &plan, seed, Box::new(Deaf), stop))
}

fn tell(outcome: &Outcome) {
    let broken = outcome.checks.iter().find(|check| check.verdict == Verdict::Invalid);
    match broken {
        Some(check) => println!("{CAUGHT}{}: {}", check.name, check.detail),
        None if outcome.exit_code() == 0 => println!("{VALID}"),
        None => println!("neither: {:?} {:?}", outcome.verdict(), outcome.failure),
    }
}

/// Listens to nothing.
struct Deaf;

impl Listener for Deaf {
    fn phase(&mut self, _: Phase) -> io::Result<()> {
        Ok(())
    }

    fn progress(&mut self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn operation(&mut self, _: &Operation) -> io::Result<()> {
        Ok(())
    }

    fn marks(&mut self, _: &[Mark]) -> io::Result<()> {
        Ok(())
    }

    fn trials(&mut self, _: &[Trial]) -> io::Result<()> {
        Ok(())
    }

    fn schedule(&mut self, _: &Schedule) -> io::Result<()> {
        Ok(())
    }
}
