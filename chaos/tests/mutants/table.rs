//! The table: for each planted fault and world what caught it, and after how many seeds.
//!
//! Invariant: a fault counts as caught only in a seed that is valid when nothing is planted.

use std::process::{Command, Stdio};

use chaos::seed::Seed;
use runtime::{Clock, SystemClock};

use crate::{
    Mutant,
    carry_out::{CAUGHT, VALID},
};

/// How a fault was caught.
struct Catch {
    /// Seeds until then, the last one included.
    seeds: u64,
    seed: Seed,
    /// Which check, and what it said.
    said: String,
}

/// Plants each fault, says what it took, and that nothing is caught where nothing is planted.
pub(crate) fn print(mutants: &[Mutant], filters: &[&String]) -> Result<(), String> {
    println!("{:<28}{:<10}{:<22}{:>6}{:>9}  seed", "planted", "world", "caught by", "seeds", "s");
    let mut wrong = Vec::new();
    for (number, mutant) in mutants.iter().enumerate() {
        for (world, seeds_max) in mutant.caught_in {
            let (rule, clock) = (mutant.rule.name(), SystemClock::new());
            let is_meant = |word: &&String| rule.contains(word.as_str()) || *world == **word;
            if !filters.is_empty() && !filters.iter().any(is_meant) {
                continue;
            }
            let Some(caught) = search(number, world, *seeds_max)? else {
                println!("{rule:<28}{world:<10}nothing in {seeds_max} seeds");
                wrong.push(format!("{rule} escaped in {world}"));
                continue;
            };
            let Catch { seeds, seed, said } = &caught;
            let seconds = clock.now().0.as_secs_f64();
            let by = said.split(':').next().unwrap_or_default();
            println!("{rule:<28}{world:<10}{by:<22}{seeds:>6}{seconds:>9.1}  {seed}");
            println!("    {said}");
            let healthy = carry_out(number, "healthy", world, *seed)?;
            if healthy != VALID {
                wrong.push(format!("{rule} in {world}, seed {seed}, nothing planted: {healthy}"));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// The first seed that shows the fault, if one of those allowed does.
fn search(number: usize, world: &str, seeds_max: u64) -> Result<Option<Catch>, String> {
    for place in 0..seeds_max {
        let seed = Seed::default().child(place);
        let said = carry_out(number, "planted", world, seed)?;
        if let Some(said) = said.strip_prefix(CAUGHT) {
            let (seeds, said) = (place + 1, said.chars().take(SAID_MAX).collect());
            return Ok(Some(Catch { seeds, seed, said }));
        }
    }
    Ok(None)
}

/// The first line of a process that carries the plan out.
fn carry_out(number: usize, planted: &str, world: &str, seed: Seed) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["carry-out", &number.to_string(), planted, world, &seed.to_string()]);
    let output = command.stderr(Stdio::null()).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.lines().next().unwrap_or("it ended without a word").to_owned())
}

/// Of what a check says, so much is told.
const SAID_MAX: usize = 160;
