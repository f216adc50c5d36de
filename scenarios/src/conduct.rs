//! One run from a validated plan to an exit code.
//!
//! Gives `chaos` a listener that writes the folder and shows the progress, and stops it when a
//! person wishes so. Judges nothing. Invariant: once the folder exists, whatever happens, its
//! record is completed, unless the harness is killed.

use std::io;
use std::path::PathBuf;
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use chaos::cluster::NodeEvent;
use chaos::history::Operation;
use chaos::outage::Trial;
use chaos::plan::{self, Plan};
use chaos::run::{Listener, Mark, Phase, Stop, Stopper};
use chaos::schedule::{self, Schedule};
use chaos::seed::Seed;
use reports::{Environment, RunFolder, RunRecord};
use runtime::{Clock as _, SystemClock};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::convert::{self, Place};
use crate::journal::Journal;
use crate::progress::Progress;
use crate::worlds::{self, Setting};

/// What came of it.
pub(crate) struct Conducted {
    /// The record as it stands in the folder.
    pub(crate) record: RunRecord,
    /// The folder, which is gone if it was not to be kept.
    pub(crate) path: PathBuf,
    pub(crate) is_kept: bool,
    /// 0 valid, 1 a guarantee broke, 2 unknown, 3 the laboratory failed.
    pub(crate) exit_code: u8,
}

/// How a run is shown and kept.
pub(crate) struct Manner {
    /// What runs it.
    pub(crate) environment: Environment,
    /// The words that repeat it.
    pub(crate) command: String,
    /// Whether a person watches this one run.
    pub(crate) is_watched: bool,
    /// Whether the folder stays where nothing went wrong.
    pub(crate) is_kept: bool,
}

/// Creates the folder of a run.
///
/// # Errors
/// Those of the file system.
pub(crate) fn folder(out: &std::path::Path, plan: &Plan, seed: Seed) -> reports::Result<RunFolder> {
    let utc_unix_s = SystemClock::new().wall().as_secs();
    RunFolder::create(out, &plan.scenario, utc_unix_s, seed.0, process::id())
}

/// Carries a plan out.
///
/// # Errors
/// Those of the folder before the run begins; what goes wrong in it and after it is in the record.
pub(crate) async fn conduct(
    setting: Setting<'_>,
    folder: RunFolder,
    manner: Manner,
) -> anyhow::Result<Conducted> {
    let plan = &plan::draw_faults(setting.plan, setting.world, setting.seed)?;
    let setting = Setting { plan, ..setting };
    let Setting { world, seed, .. } = setting;
    let place = Place { world: world.name(), transport: worlds::transport(world, plan) };
    let mut record = convert::begun(plan, seed, place, manner.environment)
        .context("the plan cannot be written as JSON")?;
    record.command = Some(manner.command);
    let path = folder.path().to_owned();
    let journal = Journal::begin_in(folder.clone(), record, &schedule::draw(plan, seed))?;
    let progress = manner.is_watched.then(|| Progress::new(plan, world));
    let desk = Desk { journal, progress };
    let shared = Shared(Arc::new(Mutex::new(desk)));

    let (stopper, stop) = Stop::new();
    let signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    let listening = tokio::spawn(heed(signals, stopper, shared.clone()));
    let outcome = worlds::carry_out(setting, &path, Box::new(shared.clone()), stop).await;
    let mut desk = shared.desk();
    desk.progress.iter().for_each(Progress::end);
    let (kept, exit_code) = match outcome {
        Ok(outcome) => (desk.journal.finish(&outcome), outcome.exit_code()),
        Err(error) => (desk.journal.fail(&error.to_string()), LAB_FAILED),
    };
    let record = desk.journal.record().clone();
    // What came of the run is told, also where it cannot be kept or drawn.
    let exit_code = match kept {
        Ok(()) => exit_code,
        Err(error) => {
            let told = crate::told(&error);
            crate::complain(&format!("not all could be written down: {told}"));
            convert::exit_code(&record)
        }
    };
    let is_kept = manner.is_kept || exit_code != VALID;
    if !is_kept {
        folder.remove()?;
    } else if let Err(error) = desk.journal.draw(&Plan { seed: Some(seed), ..plan.clone() }) {
        crate::complain(&format!("not all could be drawn: {}", crate::told(&error)));
    }
    // Until here a second signal must find somebody who listens.
    listening.abort();
    Ok(Conducted { record, path, is_kept, exit_code })
}

/// The first signal asks the run to end well, a later one ends the harness, and its nodes with it.
async fn heed(mut signals: [Signal; 2], stopper: Stopper, shared: Shared) {
    next(&mut signals).await;
    stopper.stop();
    // While the folder is completed the desk is taken, and the next signal must be heard.
    if let Ok(desk) = shared.0.try_lock() {
        desk.progress.iter().for_each(|progress| progress.say(STOPPING));
    }
    // One wish may come as two signals: `timeout` tells its child, and then its process group.
    let clock = SystemClock::new();
    let until = clock.now().plus(SAME_WISH);
    loop {
        tokio::select! {
            // What has come by then is of the same wish, however late it is looked at.
            biased;
            () = next(&mut signals) => {}
            () = clock.sleep_until(until) => break,
        }
    }
    next(&mut signals).await;
    process::exit(UNKNOWN);
}

async fn next([interrupt, terminate]: &mut [Signal; 2]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Where what happens is taken in.
struct Desk {
    journal: Journal,
    /// Where somebody watches.
    progress: Option<Progress>,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Desk>>);

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Nothing is left half done in it by a panic that the next caller could not stand.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Shared {
    fn phase(&mut self, phase: Phase) -> io::Result<()> {
        tracing::info!(name: "phase", ?phase);
        let mut desk = self.desk();
        if phase == Phase::Start {
            desk.journal.zero();
        }
        desk.progress.iter_mut().for_each(|progress| progress.phase(phase));
        Ok(())
    }

    fn progress(&mut self, trial: u64, trials: u64) -> io::Result<()> {
        tracing::info!(name: "trial", trial);
        let mut desk = self.desk();
        desk.progress.iter_mut().for_each(|progress| progress.trial(trial, trials));
        Ok(())
    }

    fn filling(&mut self, done: u64, entries: u64) -> io::Result<()> {
        let mut desk = self.desk();
        desk.progress.iter_mut().for_each(|progress| progress.filling(done, entries));
        Ok(())
    }

    fn operation(&mut self, operation: &Operation) -> io::Result<()> {
        let mut desk = self.desk();
        desk.journal.operation(operation)?;
        desk.progress.iter_mut().for_each(|progress| progress.operation(operation));
        Ok(())
    }

    fn event(&mut self, event: &NodeEvent) -> io::Result<()> {
        self.desk().journal.event(event)
    }

    fn marks(&mut self, marks: &[Mark]) -> io::Result<()> {
        let mut desk = self.desk();
        desk.progress.iter_mut().for_each(|progress| progress.marks(marks));
        desk.journal.marks(marks)
    }

    fn trials(&mut self, trials: &[Trial]) -> io::Result<()> {
        let mut desk = self.desk();
        desk.progress.iter_mut().for_each(|progress| progress.trials(trials));
        desk.journal.trials(trials)
    }

    fn schedule(&mut self, schedule: &Schedule) -> io::Result<()> {
        self.desk().journal.schedule(schedule)
    }
}

/// Signals so close to the first are no second wish.
const SAME_WISH: Duration = Duration::from_secs(1);
const STOPPING: &str = "stopping: what was done is healed, checked and written; once more, after \
                        a second, ends at once";
const VALID: u8 = 0;
const UNKNOWN: i32 = 2;
const LAB_FAILED: u8 = 3;
