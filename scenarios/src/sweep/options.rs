//! How long a sweep is, how wide, and what it keeps: the words of its command line.
//!
//! Invariant: a sweep has an end, and whatever is refused is refused with what is allowed.

use std::path::PathBuf;
use std::thread;

use anyhow::{bail, ensure};
use chaos::plan::{Plan, WorldKind};
use chaos::seed::Seed;
use clap::Args;
use reports::Environment;

use super::record::{SCHEMA_VERSION, SweepRecord, Totals};
use crate::arguments::Origin;
use crate::overrides::{count, duration_ms, within};

/// What a sweep may be told beside the plan.
#[derive(Args, Debug, Default, Clone, PartialEq)]
pub(crate) struct SweepOptions {
    /// It ends after so many seeds
    #[arg(long, value_name = "N", value_parser = within::<1, SEEDS_MAX>)]
    pub(crate) seeds: Option<u64>,
    /// It begins no seed after so many minutes
    #[arg(long, value_name = "M", value_parser = within::<1, MINUTES_MAX>)]
    pub(crate) minutes: Option<u64>,
    /// How many seeds at a time; one for each core, in world process one
    #[arg(long, value_name = "J", value_parser = within::<1, JOBS_MAX>)]
    pub(crate) jobs: Option<u64>,
    /// One seed in so many is run twice, in two processes, which must not differ; 0 for none
    #[arg(long, value_name = "EVERY", value_parser = count)]
    pub(crate) check_twice: Option<u64>,
    /// A seed that takes longer is ended, and counts as a failure of the laboratory
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    pub(crate) bound: Option<u64>,
    /// Keep the run folders of valid seeds, too
    #[arg(long)]
    pub(crate) keep: bool,
    /// Go on with an earlier sweep, in its folder
    #[arg(long, value_name = "DIR")]
    pub(crate) resume: Option<PathBuf>,
    /// The directory in which `sweeps` is created
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) out: PathBuf,
    /// Print sweep.json to standard output, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
}

impl SweepOptions {
    /// The record of a sweep that has not begun. `words` are those of the command line that run
    /// one seed of it.
    ///
    /// # Errors
    /// A sweep without an end, and limits that are none.
    pub(crate) fn record(
        &self,
        plan: Plan,
        world: WorldKind,
        start: Seed,
        words: Vec<String>,
    ) -> anyhow::Result<SweepRecord> {
        if self.seeds.is_none() && self.minutes.is_none() {
            bail!("a sweep needs an end: --seeds N, --minutes M, or both");
        }
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        let mut record = SweepRecord {
            schema_version: SCHEMA_VERSION,
            scenario: plan.scenario.clone(),
            world: world.to_string(),
            seed: start.to_string(),
            seeds_max: None,
            minutes_max: None,
            // Real processes need the host to themselves to keep their time.
            jobs: if world.is_virtual() { cores.min(JOBS_MAX) } else { 1 },
            check_twice: if world.is_virtual() { TWICE_EVERY } else { 0 },
            bound_ms: bound_ms(&plan),
            keep: false,
            command: words,
            environment: Environment::here(),
            plan: Plan { seed: None, ..plan },
            totals: Totals::default(),
        };
        self.change(&mut record)?;
        Ok(record)
    }

    /// Enters what is given; the rest stays.
    ///
    /// # Errors
    /// The option, and what is allowed.
    pub(crate) fn change(&self, record: &mut SweepRecord) -> anyhow::Result<()> {
        for (option, value, max) in [
            ("--seeds", self.seeds, SEEDS_MAX),
            ("--minutes", self.minutes, MINUTES_MAX),
            ("--jobs", self.jobs, JOBS_MAX),
            ("--bound", self.bound, BOUND_MS_MAX),
        ] {
            let Some(value) = value else { continue };
            ensure!(
                (1..=max).contains(&value),
                "{option} is {value}, but must lie between 1 and {max}"
            );
        }
        if self.check_twice.unwrap_or(0) > 0 && !record.world()?.is_virtual() {
            bail!("--check-twice is for sim and swarm: in world process wall time never repeats");
        }
        record.seeds_max = self.seeds.or(record.seeds_max);
        record.minutes_max = self.minutes.or(record.minutes_max);
        record.jobs = self.jobs.unwrap_or(record.jobs);
        record.check_twice = self.check_twice.unwrap_or(record.check_twice);
        record.bound_ms = self.bound.unwrap_or(record.bound_ms);
        record.keep |= self.keep;
        Ok(())
    }
}

/// The words that run one seed: without those that only a sweep knows.
pub(crate) fn seed_words(words: &[String], origin: &Origin) -> Vec<String> {
    let command = match origin {
        Origin::Builtin(name) => vec![name.clone()],
        Origin::File(path) => vec!["run".to_owned(), path.display().to_string()],
    };
    let mut kept = Vec::new();
    let mut words = words.iter().skip_while(|word| *word != "sweep").skip(1);
    while let Some(word) = words.next() {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        if OF_SWEEPS_ALONE.contains(&name) {
            if name == word {
                words.next();
            }
        } else if !["--keep", "--json"].contains(&name) {
            kept.push(word.clone());
        }
    }
    // It stands first, where options may not.
    if let Some(at) = kept.iter().position(|word| Some(word) == command.last()) {
        kept.remove(at);
    }
    command.into_iter().chain(kept).collect()
}

/// Far more than a seed takes that goes on at all.
fn bound_ms(plan: &Plan) -> u64 {
    let load_ms = plan.workload.as_ref().map_or(0, |load| load.duration_ms.of(plan.profile));
    let trials_ms = plan.trials.saturating_mul(load_ms.saturating_add(60_000));
    trials_ms.saturating_add(600_000).min(BOUND_MS_MAX)
}

/// Options that take a value and mean nothing to a single run, or something else.
const OF_SWEEPS_ALONE: [&str; 6] =
    ["--seeds", "--minutes", "--jobs", "--check-twice", "--bound", "--out"];
const SEEDS_MAX: u64 = 1_000_000_000;
/// A year.
const MINUTES_MAX: u64 = 525_600;
const JOBS_MAX: u64 = 256;
/// A week.
const BOUND_MS_MAX: u64 = 604_800_000;
/// Where runs repeat bit by bit, every tenth is looked at whether it did.
const TWICE_EVERY: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    fn record(options: &SweepOptions, world: WorldKind) -> Result<SweepRecord, String> {
        let plan = catalogue::all().unwrap().remove(0).plan;
        let record = options.record(plan, world, Seed(7), vec!["leader-failover".to_owned()]);
        record.map_err(|error| error.to_string())
    }

    fn seeds(seeds: u64) -> SweepOptions {
        SweepOptions { seeds: Some(seeds), ..SweepOptions::default() }
    }

    #[test]
    fn a_sweep_has_the_defaults_of_its_world() {
        let process = record(&seeds(3), WorldKind::Process).unwrap();
        assert_eq!((process.jobs, process.check_twice, process.seeds_max), (1, 0, Some(3)));
        assert_eq!(process.bound_ms, 10 * 65_000 + 600_000);
        let sim = record(&seeds(3), WorldKind::Sim).unwrap();
        assert!(sim.jobs >= 1 && sim.check_twice == 10);
        assert!(sim.is_twice(0) && !sim.is_twice(9) && sim.is_twice(10));
        assert_eq!((sim.plan.seed, sim.seed.as_str()), (None, "0x7"));
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for (options, expected) in [
            (SweepOptions::default(), "--seeds N, --minutes M"),
            (seeds(0), "--seeds is 0, but must lie between 1 and"),
            (SweepOptions { jobs: Some(999), ..seeds(1) }, "between 1 and 256"),
            (SweepOptions { bound: Some(0), ..seeds(1) }, "--bound is 0"),
            (SweepOptions { check_twice: Some(2), ..seeds(1) }, "wall time never repeats"),
        ] {
            let text = record(&options, WorldKind::Process).unwrap_err();
            assert!(text.contains(expected), "{options:?}: {text}");
        }
    }

    #[test]
    fn a_resumed_sweep_keeps_what_is_not_given_anew() {
        let mut record = record(&seeds(3), WorldKind::Sim).unwrap();
        let options =
            SweepOptions { jobs: Some(5), check_twice: Some(0), ..SweepOptions::default() };
        options.change(&mut record).unwrap();
        assert_eq!((record.seeds_max, record.jobs, record.check_twice), (Some(3), 5, 0));
    }

    #[test]
    fn one_seed_is_run_by_the_words_that_are_not_the_sweeps() {
        let words =
            |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
        let (steady, mine) = (Origin::Builtin("steady".into()), Origin::File("my.toml".into()));
        let line = "sweep steady --seeds 9 --jobs=2 --nodes 3 --out /x --world sim --keep --json";
        assert_eq!(seed_words(&words(line), &steady), words("steady --nodes 3 --world sim"));
        let line = "sweep --minutes 3 --rate 9 my.toml --bound=9s";
        assert_eq!(seed_words(&words(line), &mine), words("run my.toml --rate 9"));
    }
}
