//! `sweep.json` and `seeds.jsonl`: what a sweep was told to do, and what came of each seed.
//!
//! Plain data and sums over it; units stand last in a name. Invariant: the totals follow from the
//! lines and from the time spent, and from nothing else.

use anyhow::{Context as _, bail, ensure};
use chaos::plan::{self, Plan, WorldKind};
use chaos::seed::Seed;
use reports::{Check, Environment, Verdict};
use serde::{Deserialize, Serialize};

/// The only version of `sweep.json` that is written and read.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// A sweep: what it was told to do, and what it has come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SweepRecord {
    pub(crate) schema_version: u32,
    pub(crate) scenario: String,
    pub(crate) world: String,
    /// The start seed, as text; the `n`th run has its `n`th child, from 0.
    pub(crate) seed: String,
    /// It ends after so many seeds.
    pub(crate) seeds_max: Option<u64>,
    /// It ends after so much time.
    pub(crate) minutes_max: Option<u64>,
    /// How many seeds at a time.
    pub(crate) jobs: u64,
    /// One seed in so many is run twice; none if 0.
    pub(crate) check_twice: u64,
    /// A seed that takes longer is ended.
    pub(crate) bound_ms: u64,
    /// Whether the folders of valid runs are kept, too.
    pub(crate) keep: bool,
    /// The words that run one seed of it, to which the seed is added.
    pub(crate) command: Vec<String>,
    pub(crate) environment: Environment,
    /// The plan with its overrides and without a seed.
    pub(crate) plan: Plan,
    pub(crate) totals: Totals,
}

/// What came of all seeds so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Whether nothing is left to do.
    pub(crate) complete: bool,
    pub(crate) seeds: u64,
    pub(crate) valid: u64,
    /// A guarantee broke.
    pub(crate) invalid: u64,
    /// It could not be decided.
    pub(crate) unknown: u64,
    /// The laboratory failed, or the seed did not repeat.
    pub(crate) laboratory: u64,
    /// Seeds that were run twice.
    pub(crate) twice: u64,
    /// Of them, those that did not repeat.
    pub(crate) diverged: u64,
    /// How long the sweep was at work, over all its resumptions. Where one was killed, its end is
    /// reckoned from what the seeds took.
    pub(crate) wall_s: f64,
    /// What all runs took, one after the other.
    pub(crate) runs_wall_s: f64,
    /// Virtual time of all runs.
    pub(crate) simulated_s: f64,
    pub(crate) seeds_per_hour: f64,
    /// Virtual time for each second of a run.
    pub(crate) simulated_per_wall: f64,
}

/// What came of one seed: a line of `seeds.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SeedLine {
    /// Which of the sweep's, from 0.
    pub(crate) number: u64,
    pub(crate) seed: String,
    pub(crate) verdict: Verdict,
    /// 0 valid, 1 a guarantee broke, 2 unknown, 3 the laboratory failed.
    pub(crate) exit_code: u8,
    /// From the start of the process to its end, both runs where there were two.
    pub(crate) wall_s: f64,
    /// Virtual time of the runs, where the world has one.
    pub(crate) simulated_s: Option<f64>,
    pub(crate) trace_hash: Option<String>,
    /// Of the second run, where there was one.
    pub(crate) trace_hash_again: Option<String>,
    /// The checks that were not valid.
    pub(crate) failed_checks: Vec<Check>,
    /// The run's folder within the sweep's, where it was kept.
    pub(crate) folder: Option<String>,
}

/// One run of a seed, as its process tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SeedRun {
    pub(crate) verdict: Verdict,
    pub(crate) exit_code: u8,
    pub(crate) simulated_s: Option<f64>,
    pub(crate) trace_hash: Option<String>,
    pub(crate) failed_checks: Vec<Check>,
    /// Whether its folder is still there.
    pub(crate) is_kept: bool,
}

impl SweepRecord {
    /// The world.
    ///
    /// # Errors
    /// A name of none.
    pub(crate) fn world(&self) -> anyhow::Result<WorldKind> {
        self.world.parse().context("field `world`")
    }

    /// The seed of the `number`th run.
    ///
    /// # Errors
    /// A start seed that is none.
    pub(crate) fn seed_of(&self, number: u64) -> anyhow::Result<Seed> {
        Ok(self.start()?.child(number))
    }

    /// The start seed.
    ///
    /// # Errors
    /// A text that is none.
    pub(crate) fn start(&self) -> anyhow::Result<Seed> {
        self.seed.parse().context("field `seed`")
    }

    /// How long it was at work until the last of its lines, all of which these are. When it was
    /// saved last it knew; what it did since then, if it was killed, its seeds tell, `jobs` of
    /// which ran at a time.
    pub(crate) fn at_work_s(&self, lines: &[SeedLine]) -> f64 {
        let saved = usize::try_from(self.totals.seeds).unwrap_or(usize::MAX);
        let unsaved = lines.get(saved..).unwrap_or_default();
        let took_s = || unsaved.iter().map(|line| line.wall_s.max(0.0));
        // Where there were fewer seeds than jobs, it was at work no less than with the longest.
        let since_s = took_s().fold(took_s().sum::<f64>() / self.jobs as f64, f64::max);
        self.totals.wall_s.max(0.0) + since_s
    }

    /// Whether that seed is to be run twice.
    pub(crate) fn is_twice(&self, number: u64) -> bool {
        self.check_twice > 0 && number.is_multiple_of(self.check_twice)
    }

    /// Checks what another program may have written.
    ///
    /// # Errors
    /// The field, and what is allowed.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let version = self.schema_version;
        if version != SCHEMA_VERSION {
            bail!("schema_version is {version}, this program reads {SCHEMA_VERSION}");
        }
        ensure!(self.jobs > 0, "jobs is 0, at least one is needed");
        self.start()?;
        let world = self.world()?;
        let fit = plan::validate(&self.plan).and_then(|()| plan::fits(&self.plan, world));
        fit.context("field `plan`")
    }
}

impl SeedLine {
    /// Of what its runs came to: one, or two that should have been the same.
    pub(crate) fn of(number: u64, seed: Seed, wall_s: f64, runs: &[SeedRun], folder: &str) -> Self {
        let worse = |run: &&SeedRun| rank(run.exit_code);
        // What went wrong once went wrong, whatever the second run says.
        let run = runs.iter().rev().max_by_key(worse).cloned().unwrap_or_else(SeedRun::nothing);
        let simulated_s = runs.iter().filter_map(|run| run.simulated_s).sum::<f64>();
        let mut line = Self {
            number,
            seed: seed.to_string(),
            verdict: run.verdict,
            exit_code: run.exit_code,
            wall_s,
            simulated_s: run.simulated_s.map(|_| simulated_s),
            trace_hash: runs.first().and_then(|first| first.trace_hash.clone()),
            trace_hash_again: runs.get(1).and_then(|second| second.trace_hash.clone()),
            failed_checks: run.failed_checks,
            folder: run.is_kept.then(|| folder.to_owned()),
        };
        if let [first, second] = runs
            && let Some(detail) = difference(first, second)
        {
            line.diverge(detail);
        }
        line
    }

    /// Whether it was run twice and did not repeat.
    pub(crate) fn is_diverged(&self) -> bool {
        self.failed_checks.iter().any(|check| check.name == DIVERGED)
    }

    /// What went wrong, without the particulars: the failures that look alike.
    pub(crate) fn kind(&self) -> String {
        let names: Vec<&str> = self.failed_checks.iter().map(|check| &*check.name).collect();
        match self.exit_code {
            1 => format!("invalid: {}", names.join(", ")),
            2 => format!("unknown: {}", names.join(", ")),
            // Its failures name themselves.
            _ => names.join(", "),
        }
    }

    fn diverge(&mut self, detail: String) {
        let check = Check { name: DIVERGED.to_owned(), verdict: Verdict::Unknown, detail };
        self.failed_checks.push(check);
        if self.exit_code != 1 {
            (self.verdict, self.exit_code) = (Verdict::Unknown, LABORATORY);
        }
    }
}

impl SeedRun {
    /// Of a process that told nothing.
    pub(crate) fn lost(reason: String) -> Self {
        let name = crate::convert::LABORATORY.to_owned();
        let check = Check { name, verdict: Verdict::Unknown, detail: reason };
        Self { failed_checks: vec![check], ..Self::nothing() }
    }

    fn nothing() -> Self {
        Self {
            verdict: Verdict::Unknown,
            exit_code: LABORATORY,
            simulated_s: None,
            trace_hash: None,
            failed_checks: Vec::new(),
            is_kept: true,
        }
    }
}

impl Totals {
    /// Takes in one more seed.
    pub(crate) fn add(&mut self, line: &SeedLine) {
        self.seeds += 1;
        match line.exit_code {
            0 => self.valid += 1,
            1 => self.invalid += 1,
            2 => self.unknown += 1,
            _ => self.laboratory += 1,
        }
        self.twice += u64::from(line.trace_hash_again.is_some());
        self.diverged += u64::from(line.is_diverged());
        self.runs_wall_s += line.wall_s;
        self.simulated_s += line.simulated_s.unwrap_or(0.0);
    }

    /// The figures that depend on the time spent.
    pub(crate) fn at(&mut self, wall_s: f64) {
        let per = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        self.wall_s = wall_s;
        self.seeds_per_hour = per(self.seeds as f64 * 3_600.0, wall_s);
        self.simulated_per_wall = per(self.simulated_s, self.runs_wall_s);
    }

    /// Seeds that were not valid.
    pub(crate) fn failures(&self) -> u64 {
        self.invalid + self.unknown + self.laboratory
    }

    /// What the sweep as a whole came to: 1 a guarantee broke, 3 the laboratory failed, 2 unknown,
    /// as where no seed was judged, 0 all valid.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self { invalid: 1.., .. } => 1,
            Self { laboratory: 1.., .. } => LABORATORY,
            Self { unknown: 1.., .. } | Self { complete: false, .. } | Self { seeds: 0, .. } => 2,
            _ => 0,
        }
    }
}

/// Why two runs of one seed are not the same run.
fn difference(first: &SeedRun, second: &SeedRun) -> Option<String> {
    let hash = |run: &SeedRun| run.trace_hash.clone().unwrap_or_else(|| "none".to_owned());
    if first.trace_hash != second.trace_hash {
        let (first, second) = (hash(first), hash(second));
        return Some(format!("trace {first} in one process and {second} in another"));
    }
    (first.exit_code != second.exit_code).then(|| {
        let (first, second) = (first.verdict.as_str(), second.verdict.as_str());
        format!("{first} in one process and {second} in another, with the same trace")
    })
}

/// The order in which exit codes outweigh each other.
fn rank(exit_code: u8) -> u8 {
    match exit_code {
        0 => 0,
        2 => 1,
        1 => 3,
        _ => 2,
    }
}

/// The check that a seed repeats.
pub(crate) const DIVERGED: &str = "diverged";
const LABORATORY: u8 = 3;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::sweep::ledger::tests::record;

    /// A run of a seed with this exit code and trace.
    pub(crate) fn run(exit_code: u8, trace: &str) -> SeedRun {
        let verdict = match exit_code {
            0 => Verdict::Valid,
            1 => Verdict::Invalid,
            _ => Verdict::Unknown,
        };
        let check = Check { name: "linearizable".to_owned(), verdict, detail: "key 3".to_owned() };
        SeedRun {
            verdict,
            exit_code,
            simulated_s: Some(60.0),
            trace_hash: Some(trace.to_owned()),
            failed_checks: if exit_code == 0 { Vec::new() } else { vec![check] },
            is_kept: exit_code != 0,
        }
    }

    fn line(number: u64, runs: &[SeedRun]) -> SeedLine {
        SeedLine::of(number, Seed(9), 2.0, runs, "runs/0x9")
    }

    #[test]
    fn two_runs_of_a_seed_must_be_the_same() {
        let same = line(0, &[run(0, "0x1"), run(0, "0x1")]);
        assert_eq!((same.exit_code, same.is_diverged()), (0, false));
        assert_eq!(same.trace_hash_again.as_deref(), Some("0x1"));
        assert_eq!((same.simulated_s, same.folder), (Some(120.0), None));
        let other = line(0, &[run(0, "0x1"), run(0, "0x2")]);
        assert_eq!((other.exit_code, other.verdict), (3, Verdict::Unknown));
        assert_eq!(other.kind(), "diverged");
        assert!(other.failed_checks[0].detail.contains("0x1 in one process and 0x2"));
        // A verdict that changes under the same trace is no repetition, either.
        let judged = line(0, &[run(0, "0x1"), run(2, "0x1")]);
        assert!(judged.is_diverged() && judged.exit_code == 3, "{judged:?}");
    }

    #[test]
    fn what_broke_once_is_broken_whether_it_repeats_or_not() {
        let broken = line(0, &[run(0, "0x1"), run(1, "0x2")]);
        assert_eq!((broken.exit_code, broken.verdict), (1, Verdict::Invalid));
        assert_eq!(broken.kind(), "invalid: linearizable, diverged");
        assert_eq!(broken.folder.as_deref(), Some("runs/0x9"));
        let lost = line(0, &[SeedRun::lost("killed".to_owned())]);
        assert_eq!((lost.exit_code, lost.kind().as_str()), (3, "laboratory"));
    }

    #[test]
    fn what_a_killed_sweep_did_not_save_its_seeds_tell() {
        let lines: Vec<SeedLine> = (0..6).map(|number| line(number, &[run(0, "0x1")])).collect();
        let at_work_s = |jobs: u64, seeds: u64, wall_s: f64| {
            let totals = Totals { seeds, wall_s, ..Totals::default() };
            SweepRecord { jobs, totals, ..record() }.at_work_s(&lines)
        };
        assert_eq!(at_work_s(1, 6, 13.0), 13.0, "all is saved");
        assert_eq!(at_work_s(1, 0, 0.0), 12.0, "six seeds of 2 s, one after the other");
        assert_eq!(at_work_s(3, 0, 0.5), 4.5);
        assert_eq!(at_work_s(2, 4, 5.0), 7.0);
        assert_eq!(at_work_s(64, 0, 0.0), 2.0, "as long as the longest");
        assert_eq!(at_work_s(2, 7, 5.0), 5.0, "more is counted than stands there");
    }

    #[test]
    fn totals_follow_from_the_lines() {
        let mut totals = Totals { complete: true, ..Totals::default() };
        assert_eq!(totals.exit_code(), 2, "nothing was judged");
        let lines = [
            (line(0, &[run(0, "0x1"), run(0, "0x1")]), 0),
            (line(1, &[run(2, "0x1")]), 2),
            (line(2, &[run(0, "0x1"), run(0, "0x2")]), 3),
            (line(3, &[run(1, "0x1")]), 1),
            (line(4, &[run(0, "0x1")]), 1),
        ];
        for (line, exit_code) in &lines {
            totals.add(line);
            assert_eq!(totals.exit_code(), *exit_code);
        }
        totals.at(20.0);
        assert_eq!((totals.seeds, totals.valid, totals.invalid), (5, 2, 1));
        assert_eq!((totals.unknown, totals.laboratory, totals.failures()), (1, 1, 3));
        assert_eq!((totals.twice, totals.diverged), (2, 1));
        assert_eq!((totals.seeds_per_hour, totals.simulated_per_wall), (900.0, 42.0));
        let stopped = Totals { complete: false, ..Totals::default() };
        assert_eq!(stopped.exit_code(), 2, "what was not done is not known");
    }
}
