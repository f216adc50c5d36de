//! The command line of the swarm: its own flags, and those that cargo passes to every test.
//!
//! Bad words are refused by name, with what is allowed.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr, thread};

use chaos::{seed::Seed, swarm::NODES_MAX};

use crate::{
    STEPS_PER_SEED,
    faults::{Fault, named},
};

/// What the command line asks for.
#[derive(Default)]
pub(crate) struct Flags {
    pub(crate) steps: Option<u64>,
    pub(crate) seed: Option<Seed>,
    pub(crate) seeds: Option<u64>,
    pub(crate) nodes: Option<usize>,
    pub(crate) planted: Option<Fault>,
    /// Plant every fault, and say what each took.
    pub(crate) mutants: bool,
    /// Do not look at the invariants.
    pub(crate) blind: bool,
    /// Tell of every seed that breaks something, not only of the first.
    pub(crate) keep_going: bool,
    /// How many seeds run at once.
    pub(crate) jobs: usize,
    pub(crate) verbose: bool,
    /// Another test was meant.
    pub(crate) passes_by: bool,
    pub(crate) lists: bool,
}

/// Which seeds, and how many steps of each.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    first: Option<Seed>,
    pub(crate) seeds: u64,
    steps: u64,
}

impl Flags {
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let mut flags = Self { jobs: cores, ..Self::default() };
        let mut filters = Vec::new();
        let mut words = words.iter().flat_map(|word| match word.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => vec![flag, value],
            _ => vec![word.as_str()],
        });
        while let Some(word) = words.next() {
            match word {
                "--steps" => flags.steps = Some(number(word, words.next(), 1..=u64::MAX)?),
                "--seed" => flags.seed = Some(value(word, words.next())?),
                "--seeds" => flags.seeds = Some(number(word, words.next(), 1..=1 << 32)?),
                "--nodes" => flags.nodes = Some(small(word, words.next(), NODES_MAX)?),
                "--jobs" => flags.jobs = small(word, words.next(), JOBS_MAX)?,
                "--planted" => flags.planted = Some(named(words.next())?),
                "--mutants" => flags.mutants = true,
                "--blind" => flags.blind = true,
                "--keep-going" => flags.keep_going = true,
                "--verbose" => flags.verbose = true,
                "--list" => flags.lists = true,
                "--ignored" => flags.passes_by = true,
                "--skip" => flags.passes_by |= words.next().is_some_and(|name| NAME.contains(name)),
                _ if HARNESS_FLAGS.contains(&word) => {}
                _ if HARNESS_VALUES.contains(&word) => drop(words.next()),
                _ if word.starts_with('-') => return Err(format!("{word} is not a flag")),
                _ => filters.push(word),
            }
        }
        flags.passes_by |= !filters.is_empty() && !filters.iter().any(|f| NAME.contains(*f));
        // What several seeds tell at once nobody can read.
        flags.jobs = if flags.verbose { 1 } else { flags.jobs };
        Ok(flags)
    }

    /// As many seeds as it takes for the steps that are asked for, or for `ordinary`.
    pub(crate) fn plan(&self, ordinary: u64) -> Plan {
        let steps = match (self.steps, self.seeds, self.seed) {
            (Some(steps), ..) => steps,
            (None, Some(seeds), _) => seeds.saturating_mul(STEPS_PER_SEED),
            (None, None, Some(_)) => STEPS_PER_SEED,
            (None, None, None) => ordinary,
        };
        let seeds = match (self.seed, self.seeds) {
            (Some(_), None) => 1,
            (_, Some(seeds)) => seeds,
            (None, None) => steps.div_ceil(STEPS_PER_SEED),
        };
        Plan { first: self.seed, seeds, steps }
    }

    /// This many seeds, each of the ordinary length.
    pub(crate) fn seeds(&self, seeds: u64) -> Plan {
        Plan { first: self.seed, seeds, steps: seeds * STEPS_PER_SEED }
    }
}

impl Plan {
    /// The seed of this number, and how many steps of it.
    pub(crate) fn run(&self, number: u64) -> (Seed, u64) {
        let seed = match self.first {
            Some(first) if number == 0 => first,
            Some(first) => first.child(number),
            None => Seed::default().child(number),
        };
        let (each, more) = (self.steps / self.seeds, self.steps % self.seeds);
        (seed, each + u64::from(number < more))
    }
}

fn value<T: FromStr<Err: Display>>(flag: &str, word: Option<&str>) -> Result<T, String> {
    let word = word.ok_or_else(|| format!("{flag} needs a value"))?;
    word.parse().map_err(|error| format!("{flag} {word}: {error}"))
}

fn number(flag: &str, word: Option<&str>, allowed: RangeInclusive<u64>) -> Result<u64, String> {
    let number: u64 = value(flag, word)?;
    if allowed.contains(&number) {
        return Ok(number);
    }
    Err(format!("{flag} {number}: expected {} to {}", allowed.start(), allowed.end()))
}

fn small(flag: &str, word: Option<&str>, max: usize) -> Result<usize, String> {
    let number = number(flag, word, 1..=max as u64)?;
    usize::try_from(number).map_err(|error| format!("{flag} {number}: {error}"))
}

/// How filters know this test.
const NAME: &str = "swarm";
/// Threads at once.
const JOBS_MAX: usize = 256;
/// Flags of the standard harness, which cargo passes to every test alike.
const HARNESS_FLAGS: [&str; 9] = [
    "--nocapture",
    "--no-capture",
    "--quiet",
    "-q",
    "--show-output",
    "--exact",
    "--include-ignored",
    "--test",
    "--bench",
];
/// The same with a value.
const HARNESS_VALUES: [&str; 5] = ["--test-threads", "--format", "--color", "--logfile", "-Z"];
pub(crate) const USAGE: &str = "usage: cargo test -p chaos --test swarm -- \
    [--steps N] [--seed S] [--seeds N] [--nodes N] [--jobs N] [--blind] [--keep-going] \
    [--verbose] \
    [--planted NAME | --mutants]";
