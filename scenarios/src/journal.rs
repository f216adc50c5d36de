//! The run folder, written while the run goes on.
//!
//! A harness that is killed leaves what it had: operations as they are answered, the record and
//! the schedule after each trial. Judges nothing. Invariant: whatever stands in `run.json` was
//! true when it was written.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use chaos::history::{NodeLog, Operation, Writer, write_logs};
use chaos::outage::Trial;
use chaos::run::{Mark, Outcome};
use chaos::schedule::{self, Schedule};
use reports::{HistoryWriter, Recorder, RunFolder, RunRecord};
use runtime::{Clock as _, SystemClock, Time};

use crate::convert;

/// Keeps what happens in the run's folder.
pub(crate) struct Journal {
    folder: RunFolder,
    history: Writer<Lines>,
    recorder: Recorder,
    record: RunRecord,
    clock: SystemClock,
    /// The wall clock at the zero of the run's times.
    started_wall: Duration,
    saved_at: Time,
}

impl Journal {
    /// Writes what is known from the beginning.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn begin_in(folder: RunFolder, record: RunRecord) -> reports::Result<Self> {
        folder.write_record(&record)?;
        let history = Writer::new(Lines(folder.create_history()?));
        let clock = SystemClock::new();
        let (started_wall, saved_at) = (clock.wall(), clock.now());
        let recorder = Recorder::new();
        Ok(Self { folder, history, recorder, record, clock, started_wall, saved_at })
    }

    /// The run's times count from now on.
    pub(crate) fn zero(&mut self) {
        self.started_wall = self.clock.wall();
    }

    pub(crate) fn operation(&mut self, operation: &Operation) -> io::Result<()> {
        self.history.append(operation)?;
        self.recorder.record(&convert::sample(operation));
        if self.clock.now().0.saturating_sub(self.saved_at.0) < SAVE_INTERVAL {
            return Ok(());
        }
        self.save()
    }

    pub(crate) fn marks(&mut self, marks: &[Mark]) {
        // Only the newest are still completed; to copy all of them for each would be quadratic.
        let known = self.record.marks.len().saturating_sub(MARKS_OPEN_MAX).min(marks.len());
        self.record.marks.truncate(known);
        self.record.marks.extend(marks[known..].iter().map(convert::mark));
    }

    pub(crate) fn trials(&mut self, trials: &[Trial]) -> io::Result<()> {
        self.record.trials = trials.iter().map(convert::trial).collect();
        self.save()
    }

    pub(crate) fn schedule(&self, schedule: &Schedule) -> io::Result<()> {
        let text = schedule::to_toml(schedule).map_err(io::Error::other)?;
        self.folder.write_schedule(&text).map_err(io::Error::other)
    }

    /// Writes the record as far as it is known.
    pub(crate) fn save(&mut self) -> io::Result<()> {
        self.saved_at = self.clock.now();
        self.recorder.fill(&mut self.record);
        self.folder.write_record(&self.record).map_err(io::Error::other)
    }

    /// Completes the folder with what came of the run, and hands the record out.
    pub(crate) fn finish(&mut self, outcome: &Outcome) -> anyhow::Result<RunRecord> {
        convert::finished(&mut self.record, outcome);
        self.schedule(&outcome.schedule)?;
        self.logs(&outcome.frozen.logs)?;
        self.complete()
    }

    /// Completes the folder of a run that came to nothing.
    pub(crate) fn fail(&mut self, reason: &str) -> anyhow::Result<RunRecord> {
        convert::failed(&mut self.record, reason);
        self.complete()
    }

    fn logs(&self, logs: &[NodeLog]) -> anyhow::Result<()> {
        let path = self.folder.path().join(LOGS);
        let file = std::fs::File::create(&path);
        let written = file.and_then(|file| write_logs(file, logs));
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    fn complete(&mut self) -> anyhow::Result<RunRecord> {
        // The record first: it must not be lost because a plot cannot be drawn.
        self.save()?;
        let started = SystemTime::UNIX_EPOCH + self.started_wall;
        self.folder.write_series(&self.recorder, started)?;
        self.folder.write_plots(&self.record, &self.recorder)?;
        Ok(self.record.clone())
    }
}

/// The history file as something to write to, in whole lines.
struct Lines(HistoryWriter);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The nodes' committed logs after healing, one entry per line.
pub(crate) const LOGS: &str = "logs.jsonl";
/// Where [`RunFolder`] keeps the operations.
pub(crate) const HISTORY: &str = "history.jsonl";
const SAVE_INTERVAL: Duration = Duration::from_secs(5);
/// So many of the newest marks may still change.
const MARKS_OPEN_MAX: usize = 1_024;
