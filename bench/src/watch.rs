//! What a person sees of a measurement while it goes on, and how they end it before its time.
//!
//! A thread of its own shows the progress and hears signals, so that neither waits for what is
//! measured. Invariant: the first signal ends the measurement and nothing else, and what was found
//! until then is still written; a later one ends the program, and at once the command that it waits
//! for, which then may leave its temporary folders behind.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use chaos::run::{Stop, Stopper};
use runtime::{Clock, SystemClock, Time};
use rustix::process::{self, Pid, kill_process};
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};

use crate::{
    EXIT_UNKNOWN,
    progress::{Progress, Stage},
    terminal::Terminal,
};

/// Over one measurement. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Watch {
    stop: Stop,
    shared: Arc<Shared>,
}

/// What was found so far, in the hands of who measures and of who waits: an end before its time
/// leaves it. Cheap to clone.
pub(crate) struct Kept<T>(Arc<Mutex<T>>);

struct Shared {
    clock: SystemClock,
    progress: Mutex<Progress>,
    /// Until there is something else to print.
    terminal: Mutex<Option<Terminal>>,
    is_cut_short: AtomicBool,
    /// The command that is waited for.
    command: Mutex<Option<Pid>>,
}

/// What was shown last.
#[derive(Default)]
struct Shown {
    at: Time,
    begun: usize,
}

impl Watch {
    /// Begins to show a measurement of these stages, and to hear who wants it to end.
    ///
    /// # Errors
    /// What the host has not got for it.
    pub(crate) fn begin(stages: Vec<Stage>) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _within = runtime.enter();
            [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?]
        };
        let (stopper, stop) = Stop::new();
        let shared = Arc::new(Shared {
            clock: SystemClock::new(),
            progress: Mutex::new(Progress::new(stages)),
            terminal: Mutex::new(Some(Terminal::new())),
            is_cut_short: AtomicBool::new(false),
            command: Mutex::new(None),
        });
        let watched = Arc::clone(&shared);
        let attending = move || runtime.block_on(attend(signals, stopper, watched));
        let thread = thread::Builder::new().name("watch".into()).spawn(attending);
        thread.context("no thread for the progress")?;
        Ok(Self { stop, shared })
    }

    /// The next stage begins.
    pub(crate) fn go_on(&self) {
        lock(&self.shared.progress).go_on(self.shared.clock.now());
    }

    /// So much more of the stage is done.
    pub(crate) fn add(&self, units: u64) {
        lock(&self.shared.progress).add(units);
    }

    /// Prints a line of its own.
    pub(crate) fn say(&self, line: &str) {
        self.shared.say(line);
    }

    /// Whether it is to end now. Who asks and is told so goes no further.
    pub(crate) fn ends(&self) -> bool {
        let ends = self.stop.is_stopped();
        self.shared.is_cut_short.fetch_or(ends, Ordering::Relaxed);
        ends
    }

    /// Which command is waited for, if one is: it is told of a later signal, too.
    pub(crate) fn waits_for(&self, command: Option<Pid>) {
        *lock(&self.shared.command) = command;
    }

    /// Resolves once it is to end.
    pub(crate) async fn ended(&self) {
        self.stop.stopped().await;
    }

    /// Whether not all was done.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.shared.is_cut_short.load(Ordering::Relaxed)
    }

    /// Shows nothing any more; signals are heard on.
    pub(crate) fn close(&self) {
        if let Some(terminal) = lock(&self.shared.terminal).take() {
            terminal.end();
        }
    }

    /// Measures on this thread, until it is done or to end. What it has made by then is let go of,
    /// its processes included.
    ///
    /// # Errors
    /// Those of the measurement.
    pub(crate) fn carry_out(&self, work: impl Future<Output = Result<()>>) -> Result<()> {
        if self.ends() {
            return Ok(());
        }
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        let done = runtime.block_on(self.stop.or(work));
        // Whoever is let go of in the middle has its tasks ended here, with what they have to
        // put away.
        runtime.shutdown_timeout(ENDING_MAX);
        if done.is_none() {
            self.shared.is_cut_short.store(true, Ordering::Relaxed);
        }
        done.unwrap_or(Ok(()))
    }

    /// The same as a task, so that no other thread stands between the measurement and the endpoint.
    ///
    /// # Errors
    /// Those of the measurement, and that it fell.
    pub(crate) fn carry_out_aside(
        &self,
        work: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Result<()> {
        self.carry_out(async move {
            // A task of a set ends with it.
            let mut aside = JoinSet::new();
            aside.spawn(work);
            aside.join_next().await.context("there is one task")??
        })
    }
}

impl<T: Default> Kept<T> {
    pub(crate) fn with(&self, add: impl FnOnce(&mut T)) {
        add(&mut lock(&self.0));
    }

    /// All of it.
    pub(crate) fn take(&self) -> T {
        std::mem::take(&mut *lock(&self.0))
    }
}

impl<T: Default> Default for Kept<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Shared {
    /// Shows how far it has come, if a stage has begun since, or what was shown is old.
    fn show(&self, shown: &mut Shown) {
        let terminal = lock(&self.terminal);
        let Some(terminal) = terminal.as_ref() else { return };
        let now = self.clock.now();
        let (permille, line) = {
            let progress = lock(&self.progress);
            let is_new = progress.begun() != shown.begun;
            if !is_new && now.since(shown.at) < terminal.interval() {
                return;
            }
            *shown = Shown { at: now, begun: progress.begun() };
            (progress.permille(now), progress.line(now))
        };
        terminal.show(permille, line);
    }

    fn say(&self, line: &str) {
        if let Some(terminal) = lock(&self.terminal).as_ref() {
            terminal.say(line);
        }
    }
}

/// Shows, and heeds signals, as long as the program lives.
async fn attend(mut signals: [Signal; 2], stopper: Stopper, shared: Arc<Shared>) {
    let (mut shown, mut wished_at) = (Shown::default(), None::<Time>);
    loop {
        let next = shared.clock.now().plus(TICK);
        tokio::select! {
            () = heard(&mut signals) => {
                let now = shared.clock.now();
                match wished_at {
                    None => {
                        wished_at = Some(now);
                        // Before it is heeded, for then all may soon be over.
                        shared.say(STOPPING);
                        stopper.stop();
                    }
                    // One wish may come as two signals: `timeout` tells its child, and then its
                    // process group.
                    Some(at) if now.since(at) < SAME_WISH => {}
                    Some(_) => {
                        if let Some(terminal) = lock(&shared.terminal).take() {
                            terminal.end();
                        }
                        if let Some(command) = *lock(&shared.command) {
                            // It was told of the first: if it is gone, so much the better.
                            let _gone_already = kill_process(command, process::Signal::INT);
                        }
                        std::process::exit(EXIT_UNKNOWN.into());
                    }
                }
            }
            () = shared.clock.sleep_until(next) => shared.show(&mut shown),
        }
    }
}

async fn heard([interrupt, terminate]: &mut [Signal; 2]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done by a panic that the next one could not stand.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Between two looks at how far it has come.
const TICK: Duration = Duration::from_millis(100);
/// Signals so close to the first are no second wish.
const SAME_WISH: Duration = Duration::from_secs(1);
/// What is let go of gets so long to come to its end.
const ENDING_MAX: Duration = Duration::from_secs(5);
const STOPPING: &str = "stopping: what was measured is written; once more, after a second, ends \
                        at once";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_kept_by_who_waits() {
        let watch = Watch::begin(Vec::new()).expect("a thread");
        let kept = Kept::<Vec<u64>>::default();
        let adds = kept.clone();
        let work = async move {
            adds.with(|found| found.push(7));
            Ok(())
        };
        watch.carry_out_aside(work).expect("it adds one");
        assert_eq!((kept.take(), watch.is_cut_short()), (vec![7], false));
        assert!(kept.take().is_empty(), "it was taken");
        let failed = watch.carry_out(async { anyhow::bail!("no room") });
        assert_eq!(failed.expect_err("it fails").to_string(), "no room");
    }
}
