//! Many seeds of one plan, each in a process of its own, and what came of them all.
//!
//! Starts, counts and tells; judges nothing itself. Invariants: what is done is written down
//! before it is told, so that a sweep that was stopped or killed goes on where it was; a seed that
//! was not valid is told with the command that reruns it.

mod child;
mod failures;
mod ledger;
mod options;
mod record;
mod status;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use chaos::seed::Seed;
use reports::Environment;
use runtime::{Clock as _, SystemClock};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::rerun;
use crate::worlds;

pub(crate) use child::{COMMAND, SeedOrder, serve as serve_seed};
use child::{Work, run_folder};
use failures::Failures;
use ledger::Ledger;
pub(crate) use options::{SweepOptions, seed_words};
use record::{SeedLine, SweepRecord, Totals};
use status::Status;

/// What came of a sweep.
pub(crate) struct Swept {
    /// 0 all valid, 1 a guarantee broke, 2 unknown, interrupted or empty, 3 the laboratory failed.
    pub(crate) exit_code: u8,
    /// For a person: the totals, the failures, and the command that comes next.
    pub(crate) text: String,
    /// `sweep.json`.
    pub(crate) json: String,
}

/// Begins a sweep in a folder of its own below `out`.
///
/// # Errors
/// Those of the folder.
pub(crate) fn begin(out: &Path, record: SweepRecord) -> anyhow::Result<Swept> {
    let utc_unix_s = SystemClock::new().wall().as_secs();
    let Seed(seed) = record.start()?;
    let path = reports::create_sweep_folder(out, &record.scenario, utc_unix_s, seed)?;
    Sweep::new(Ledger::begin_in(path, record)?, &[], Duration::ZERO).carry_out()
}

/// Goes on with an earlier sweep, with whatever limits are given anew.
///
/// # Errors
/// What its folder lacks, and limits that are none.
pub(crate) fn resume(path: &Path, options: &SweepOptions) -> anyhow::Result<Swept> {
    let (mut ledger, lines) = Ledger::resume(path)?;
    worlds::admit(ledger.record.world()?, false)?;
    // By the jobs that it had: from now on they may be others.
    let earlier_s = ledger.record.at_work_s(&lines).clamp(0.0, WALL_S_MAX);
    options.change(&mut ledger.record)?;
    let here = Environment::here();
    if ledger.record.environment != here {
        let (then, now) = (&ledger.record.environment.commit, &here.commit);
        crate::complain(&format!("what ran the seeds so far was another: {then}, and now {now}"));
        ledger.record.environment = here;
    }
    Sweep::new(ledger, &lines, Duration::from_secs_f64(earlier_s)).carry_out()
}

/// A sweep at work.
struct Sweep {
    ledger: Ledger,
    failures: Failures,
    status: Status,
    clock: SystemClock,
    /// What earlier sessions of this sweep took.
    earlier: Duration,
    /// No seed below it is left to be begun.
    next: u64,
    /// The seeds that have been begun and are not done.
    begun: BTreeSet<u64>,
}

impl Sweep {
    fn new(mut ledger: Ledger, lines: &[SeedLine], earlier: Duration) -> Self {
        ledger.record.totals = Totals::default();
        let mut failures = Failures::default();
        for line in lines {
            ledger.record.totals.add(line);
            failures.add(line);
        }
        let status = Status::new(&ledger.record);
        let (clock, begun) = (SystemClock::new(), BTreeSet::new());
        Self { ledger, failures, status, clock, earlier, next: 0, begun }
    }

    fn carry_out(mut self) -> anyhow::Result<Swept> {
        let path = self.ledger.path().display().to_string();
        let SweepRecord { scenario, world, seed, .. } = &self.ledger.record;
        let told = format!("sweep of {scenario}, world {world}, from seed {seed}, in {path}");
        crate::complain(&told);
        let threads = tokio::runtime::Runtime::new();
        let swept = threads.context("cannot start the harness' threads")?.block_on(self.run());
        self.status.end();
        // Also what went wrong is counted.
        self.save()?;
        swept?;
        let totals = &self.ledger.record.totals;
        let mut text = format!("{told}\n{}", status::summary(&self.ledger.record));
        text.push_str(&self.failures.told(&self.ledger));
        // Nothing was looked at: with other limits there may be something.
        if !totals.complete || totals.seeds == 0 {
            let words = ["sweep".to_owned(), "--resume".to_owned(), path];
            text.push_str(&format!("{}\n", rerun::of(&words)));
        }
        Ok(Swept { exit_code: totals.exit_code(), text, json: self.ledger.json()? })
    }

    /// Runs seeds until none is left, the time is over, or somebody wants it to stop.
    async fn run(&mut self) -> anyhow::Result<()> {
        let program = worlds::program().context("cannot find this program, to start it again")?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut showing = interval(self.status.interval());
        showing.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut running = JoinSet::new();
        loop {
            while let Some(work) = self.take(&program)? {
                running.spawn(work.done());
            }
            if running.is_empty() {
                self.ledger.record.totals.complete = true;
                return Ok(());
            }
            tokio::select! {
                Some(line) = running.join_next() => {
                    self.keep(&line.context("a seed was lost")?)?;
                    continue;
                }
                _ = showing.tick() => {
                    self.save()?;
                    self.status.show(&self.ledger.record);
                    continue;
                }
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            // Their processes end with the tasks that wait for them.
            running.shutdown().await;
            return self.forget_begun();
        }
    }

    /// The next seed, if there is one, time for it, and a place.
    fn take(&mut self, program: &Path) -> anyhow::Result<Option<Work>> {
        let record = &self.ledger.record;
        let is_full = self.begun.len() as u64 >= record.jobs;
        let time_max = record.minutes_max.map(|minutes| Duration::from_secs(minutes * 60));
        if is_full || time_max.is_some_and(|time_max| self.spent() >= time_max) {
            return Ok(None);
        }
        while self.ledger.done.contains(&self.next) || self.begun.contains(&self.next) {
            self.next += 1;
        }
        let number = self.next;
        if record.seeds_max.is_some_and(|seeds_max| number >= seeds_max) {
            return Ok(None);
        }
        self.begun.insert(number);
        Ok(Some(Work {
            program: program.to_owned(),
            sweep: self.ledger.path().to_owned(),
            number,
            seed: record.seed_of(number)?,
            is_twice: record.is_twice(number),
            bound: Duration::from_millis(record.bound_ms),
        }))
    }

    /// Writes down what came of a seed, and tells what is new about it.
    fn keep(&mut self, line: &SeedLine) -> anyhow::Result<()> {
        self.begun.remove(&line.number);
        self.ledger.add(line)?;
        if self.failures.add(line) {
            let told = failures::told_first(line, &self.ledger);
            self.status.say(&told);
        }
        Ok(())
    }

    fn save(&mut self) -> anyhow::Result<()> {
        let spent_s = self.spent().as_secs_f64();
        self.ledger.record.totals.at(spent_s);
        self.ledger.save()
    }

    fn spent(&self) -> Duration {
        self.earlier + self.clock.now().0
    }

    /// What seeds left that were broken off is no evidence of anything.
    fn forget_begun(&self) -> anyhow::Result<()> {
        for number in &self.begun {
            let seed = self.ledger.record.seed_of(*number)?;
            for is_again in [false, true] {
                let path: PathBuf = self.ledger.path().join(run_folder(seed, is_again));
                match fs::remove_dir_all(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error).with_context(|| path.display().to_string());
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// A century.
const WALL_S_MAX: f64 = 3.2e9;
