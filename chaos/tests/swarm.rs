//! The swarm as a test: many seeds, every invariant after every step, and proof that it looked.
//!
//! Without flags: 100,000 steps over several seeds must break nothing and must have seen enough;
//! a seed run twice must be the same run; and the same seeds must catch the planted fault. With
//! flags: any number of steps, or one seed again. Ends with the line that reruns what failed.

use std::{process::ExitCode, str::FromStr};

use chaos::{
    seed::Seed,
    swarm::{Counts, Failure, NODES_MAX, Options, run},
};
use raft::{Planted, Raft};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match Flags::parse(&words) {
        Ok(flags) if flags.lists => {
            println!("swarm: test\n\n1 test, 0 benchmarks");
            return ExitCode::SUCCESS;
        }
        Ok(flags) if flags.passes_by => return ExitCode::SUCCESS,
        Ok(flags) => flags.run(),
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

/// What the command line asks for.
#[derive(Default)]
struct Flags {
    steps: Option<u64>,
    seed: Option<Seed>,
    seeds: Option<u64>,
    nodes: Option<usize>,
    planted: Option<Fault>,
    verbose: bool,
    /// Another test was meant.
    passes_by: bool,
    lists: bool,
}

/// A fault that the invariants must notice.
#[derive(Clone, Copy)]
struct Fault {
    name: &'static str,
    plant: fn(&mut Raft),
}

impl Flags {
    fn parse(words: &[String]) -> Result<Self, String> {
        let mut flags = Self::default();
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
                "--nodes" => {
                    let nodes = number(word, words.next(), 1..=NODES_MAX as u64)?;
                    flags.nodes = usize::try_from(nodes).ok();
                }
                "--planted" => flags.planted = Some(fault(words.next())?),
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
        Ok(flags)
    }

    fn run(&self) -> Result<(), String> {
        if let Some(fault) = self.planted {
            return self.catches(fault);
        }
        let seen = self.holds()?;
        if self.seed.is_some() {
            return Ok(());
        }
        // In a short run, or in one of an unusual size, chance decides what is seen.
        if seen.steps >= STEPS && self.nodes.is_none() {
            enough(&seen)?;
        }
        self.repeats()?;
        if self.steps.is_none() && self.seeds.is_none() && self.nodes.is_none() {
            FAULTS.iter().try_for_each(|fault| self.catches(*fault))?;
        }
        Ok(())
    }

    /// Nothing breaks in any seed.
    fn holds(&self) -> Result<Counts, String> {
        let mut seen = Counts::default();
        let mut seeds = 0;
        for (seed, steps) in self.plan(STEPS) {
            let options = Options { seed, steps, nodes: self.nodes, plant: None };
            let outcome = run(&options).map_err(|failure| self.told(&failure, steps))?;
            if self.verbose {
                println!("seed {seed}: {steps} steps, trace {:#018x}", outcome.trace_hash);
                println!("{}", outcome.counts);
            }
            seen += outcome.counts;
            seeds += 1;
        }
        println!(
            "swarm: {seeds} seeds, {} steps, every invariant held after each\n{seen}",
            seen.steps
        );
        Ok(seen)
    }

    /// A seed is a run: the same again is the same again.
    fn repeats(&self) -> Result<(), String> {
        let Some((seed, _)) = self.plan(STEPS).next() else { return Ok(()) };
        let options = Options { seed, steps: STEPS_PER_SEED, nodes: self.nodes, plant: None };
        let [once, twice] = [run(&options), run(&options)];
        let other = run(&Options { seed: seed.child(1), ..options });
        match (once, twice, other) {
            (Ok(once), Ok(twice), Ok(other)) if once == twice && once != other => Ok(()),
            (once, twice, _) => {
                Err(format!("seed {seed} does not repeat itself: {once:?}, then {twice:?}"))
            }
        }
    }

    /// The fault is noticed, in a seed that the healthy core passes.
    fn catches(&self, fault: Fault) -> Result<(), String> {
        let mut searched = 0;
        for (number, (seed, steps)) in self.plan(FAULT_STEPS_MAX).enumerate() {
            let healthy = Options { seed, steps, nodes: self.nodes, plant: None };
            let Err(failure) = run(&Options { plant: Some(fault.plant), ..healthy }) else {
                searched += steps;
                continue;
            };
            run(&healthy).map_err(|failure| self.told(&failure, steps))?;
            let (seeds, steps) = (number + 1, searched + failure.step);
            println!("planted {}: caught in seed {seeds}, after {steps} steps", fault.name);
            println!("  seed {seed}, step {}: {}", failure.step, failure.violation);
            if self.verbose {
                println!("{failure}");
            }
            return Ok(());
        }
        Err(format!("planted {}: not noticed in {searched} steps", fault.name))
    }

    /// Which seeds, and how many steps of each.
    fn plan(&self, ordinary: u64) -> impl Iterator<Item = (Seed, u64)> + use<> {
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
        let (each, more) = (steps / seeds, steps % seeds);
        let first = self.seed;
        (0..seeds).map(move |number| {
            let seed = match first {
                Some(first) if number == 0 => first,
                Some(first) => first.child(number),
                None => Seed::default().child(number),
            };
            (seed, each + u64::from(number < more))
        })
    }

    fn told(&self, failure: &Failure, steps: u64) -> String {
        let nodes = self.nodes.map_or(String::new(), |nodes| format!(" --nodes {nodes}"));
        let rerun = "cargo test -p chaos --test swarm --";
        format!(
            "{failure}{}\n{rerun} --seed {} --steps {steps}{nodes}",
            failure.counts, failure.seed
        )
    }
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

fn value<T: FromStr>(flag: &str, word: Option<&str>) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    let word = word.ok_or_else(|| format!("{flag} needs a value"))?;
    word.parse().map_err(|error| format!("{flag} {word}: {error}"))
}

fn number(
    flag: &str,
    word: Option<&str>,
    allowed: std::ops::RangeInclusive<u64>,
) -> Result<u64, String> {
    let number: u64 = value(flag, word)?;
    if allowed.contains(&number) {
        return Ok(number);
    }
    Err(format!("{flag} {number}: expected {} to {}", allowed.start(), allowed.end()))
}

fn fault(word: Option<&str>) -> Result<Fault, String> {
    let known: Vec<&str> = FAULTS.iter().map(|fault| fault.name).collect();
    let named = FAULTS.into_iter().find(|fault| word == Some(fault.name));
    named.ok_or_else(|| format!("--planted {}: expected {}", word.unwrap_or("?"), known.join(", ")))
}

/// How filters know this test.
const NAME: &str = "swarm";
/// Steps of an ordinary run.
const STEPS: u64 = 100_000;
/// Within how many steps a planted fault must be noticed.
const FAULT_STEPS_MAX: u64 = 2_000_000;
/// Many short worlds see more than a long one: each draws its own faults.
const STEPS_PER_SEED: u64 = 5_000;
/// What an ordinary run must have seen; a longer one as much more as it is longer.
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
    ("partitions", 60),
    ("pauses", 25),
    ("writes_lost", 20),
    ("duplicates_recognised", 100),
    ("committed", 1000),
    ("reads", 200),
];
/// The faults that can be planted.
const FAULTS: [Fault; 1] = [Fault {
    // Raft §5.4.2, figure 8.
    name: "commit-older-term-by-count",
    plant: |raft| raft.plant(Planted::CommitOlderTermByCount),
}];
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
const USAGE: &str = "usage: cargo test -p chaos --test swarm -- \
    [--steps N] [--seed S] [--seeds N] [--nodes N] [--planted NAME] [--verbose]";
