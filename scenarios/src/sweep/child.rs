//! One seed of a sweep in a process of its own: how it is started, and what it does.
//!
//! The process is this very program under a hidden command; it tells its outcome in one line. It
//! ends when the sweep does, however that ends. Invariant: whatever becomes of the process, the
//! seed has an outcome, within a bound.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use chaos::seed::Seed;
use reports::{RunFolder, Verdict};
use runtime::{Clock as _, SystemClock};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::ledger;
use super::record::{SeedLine, SeedRun};
use crate::conduct::{self, Conducted, Manner};
use crate::rerun;
use crate::worlds::Setting;

/// One seed to be done.
pub(crate) struct Work {
    /// This program.
    pub(crate) program: PathBuf,
    /// The sweep's folder.
    pub(crate) sweep: PathBuf,
    /// Which of its seeds, from 0.
    pub(crate) number: u64,
    /// That seed.
    pub(crate) seed: Seed,
    /// Whether two processes run it.
    pub(crate) is_twice: bool,
    /// How long each may take.
    pub(crate) bound: Duration,
}

impl Work {
    /// Has it done, and says what came of it.
    pub(crate) async fn done(self) -> SeedLine {
        let clock = SystemClock::new();
        let mut runs = Vec::new();
        for is_again in [false, true].into_iter().take(if self.is_twice { 2 } else { 1 }) {
            let order = SeedOrder { sweep: self.sweep.clone(), number: self.number, is_again };
            runs.push(have_run(&self.program, &order, self.bound).await);
        }
        let wall_s = clock.now().0.as_secs_f64();
        SeedLine::of(self.number, self.seed, wall_s, &runs, &run_folder(self.seed, false))
    }
}

/// Which run of which sweep.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SeedOrder {
    /// The sweep's folder.
    pub(crate) sweep: PathBuf,
    /// Which of its seeds, from 0.
    pub(crate) number: u64,
    /// Whether it is the second run of that seed.
    pub(crate) is_again: bool,
}

/// Has a process run a seed.
async fn have_run(program: &Path, order: &SeedOrder, bound: Duration) -> SeedRun {
    let mut command = Command::new(program);
    command.arg(COMMAND).arg(&order.sweep).arg(order.number.to_string());
    if order.is_again {
        command.arg("--again");
    }
    // A Ctrl-C is for the sweep alone. What it drops ends at once; what survives it sees the end
    // of its standard input.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return SeedRun::lost(format!("its process did not start: {error}")),
    };
    match timeout(bound, outcome(&mut child)).await {
        Ok(Ok((Some(run), _, _))) => run,
        Ok(Ok((None, status, words))) => {
            SeedRun::lost(format!("its process told nothing and ended with {status}: {words}"))
        }
        Ok(Err(error)) => SeedRun::lost(format!("its process could not be heard: {error}")),
        Err(_) => {
            // It is gone when the next one starts, and its nodes with it.
            let _ = child.kill().await;
            let bound_s = bound.as_secs_f64();
            SeedRun::lost(format!("it took longer than {bound_s} s (--bound) and was ended"))
        }
    }
}

/// What it told, if it did, how it ended, and its last words.
async fn outcome(child: &mut Child) -> std::io::Result<(Option<SeedRun>, ExitStatus, String)> {
    let stdout = child.stdout.take().expect("it is piped");
    let stderr = child.stderr.take().expect("it is piped");
    let (told, words) = tokio::join!(last(stdout, LINE_BYTES_MAX), last(stderr, WORDS_BYTES_MAX));
    let status = child.wait().await?;
    let run = status.success().then(|| serde_json::from_slice(&told).ok()).flatten();
    let words = String::from_utf8_lossy(&words).trim().replace('\n', "; ");
    Ok((run, status, if words.is_empty() { "without a word".to_owned() } else { words }))
}

/// All there is to read, but of more than so many bytes the last only.
async fn last(mut from: impl AsyncRead + Unpin, bytes_max: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut read = [0; 4_096];
    // What can no longer be read is the end, too.
    while let Ok(count @ 1..) = from.read(&mut read).await {
        kept.extend_from_slice(&read[..count]);
        kept.drain(..kept.len().saturating_sub(bytes_max));
    }
    kept
}

/// The process: runs the seed, and says what came of it.
///
/// # Errors
/// What the sweep's folder lacks, and those of the run's.
pub(crate) fn serve(order: &SeedOrder) -> anyhow::Result<SeedRun> {
    end_with_the_sweep()?;
    let record = ledger::read_record(&order.sweep)?;
    let seed = record.seed_of(order.number)?;
    let folder = RunFolder::create_at(&order.sweep.join(run_folder(seed, order.is_again)))?;
    let setting = Setting { world: record.world()?, plan: &record.plan, seed, is_traced: false };
    let manner = Manner {
        environment: record.environment.clone(),
        command: rerun::command(&record.command, seed),
        is_watched: false,
        is_kept: record.keep,
    };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the harness' threads")?;
    let conducted = runtime.block_on(conduct::conduct(setting, folder, manner))?;
    Ok(told(conducted))
}

fn told(conducted: Conducted) -> SeedRun {
    let Conducted { record, is_kept, exit_code, .. } = conducted;
    let simulated_ms = record.counts.get(crate::convert::SIMULATED_MS).copied();
    let failed = record.checks.iter().filter(|check| check.verdict != Verdict::Valid);
    SeedRun {
        verdict: record.verdict,
        exit_code,
        simulated_s: simulated_ms.map(|ms| ms as f64 / 1e3),
        failed_checks: failed.cloned().collect(),
        trace_hash: record.trace_hash,
        is_kept,
    }
}

/// Where a seed's run is kept within the sweep's folder.
pub(crate) fn run_folder(seed: Seed, is_again: bool) -> String {
    let again = if is_again { "-again" } else { "" };
    format!("runs/{:#018x}{again}", seed.0)
}

/// The sweep holds the other end of standard input as long as it lives.
fn end_with_the_sweep() -> anyhow::Result<()> {
    let watch = || {
        let mut input = std::io::stdin().lock();
        let mut byte = [0];
        while matches!(input.read(&mut byte), Ok(1..)) {}
        std::process::exit(UNKNOWN);
    };
    thread::Builder::new().name("sweep".to_owned()).spawn(watch).context("a thread")?;
    Ok(())
}

/// The hidden command.
pub(crate) const COMMAND: &str = "sweep-seed";
const LINE_BYTES_MAX: usize = 1 << 20;
const WORDS_BYTES_MAX: usize = 2_000;
const UNKNOWN: i32 = 2;
