//! The run folder, written while the run goes on.
//!
//! A harness that is killed leaves what it had: operations as they are answered; record, schedule
//! and series after each trial and every few seconds, each file whole. Judges nothing. Invariants:
//! whatever stands in `run.json` was true when it was written, and however long a run lasts, what
//! it writes takes no more than a small share of its time.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use chaos::cluster::NodeEvent;
use chaos::history::{NodeLog, Operation, Writer, write_logs};
use chaos::outage::Trial;
use chaos::plan::Plan;
use chaos::run::MARKS_OPEN_MAX;
use chaos::run::{Mark, Outcome};
use chaos::schedule::{self, Schedule};
use reports::{EventLog, Events, LineWriter, Recorder, RunFolder, RunRecord, Seen};
use runtime::{Clock as _, SystemClock, Time};
use tracing::instrument;

use crate::convert;
use crate::describe;
use crate::sparse;
use crate::timeouts;

/// Keeps what happens in the run's folder.
pub(crate) struct Journal {
    folder: RunFolder,
    history: Writer<Lines>,
    events: EventLog,
    recorder: Recorder,
    record: RunRecord,
    clock: SystemClock,
    /// The wall clock at the zero of the run's times.
    started_wall: Duration,
    pace: Pace,
}

/// When it was last saved, and what that cost.
#[derive(Debug, Clone, Copy)]
struct Pace {
    saved_at: Time,
    took: Duration,
}

impl Journal {
    /// Writes what is known from the beginning.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn begin_in(
        folder: RunFolder,
        record: RunRecord,
        schedule: &Schedule,
    ) -> anyhow::Result<Self> {
        let history = Writer::new(Lines(folder.create_history()?));
        let events = folder.create_events()?;
        let clock = SystemClock::new();
        let (started_wall, saved_at) = (clock.wall(), clock.now());
        let (recorder, pace) = (Recorder::new(), Pace { saved_at, took: Duration::ZERO });
        let mut journal =
            Self { folder, history, events, recorder, record, clock, started_wall, pace };
        journal.schedule(schedule)?;
        journal.save()?;
        Ok(journal)
    }

    /// The run's times count from now on.
    pub(crate) fn zero(&mut self) {
        self.started_wall = self.clock.wall();
    }

    pub(crate) fn operation(&mut self, operation: &Operation) -> io::Result<()> {
        self.history.append(operation)?;
        self.recorder.record(&convert::sample(operation));
        self.save_if_due(SAVE_INTERVAL)
    }

    pub(crate) fn event(&mut self, event: &NodeEvent) -> io::Result<()> {
        self.events.append(convert::event(event)).map_err(io::Error::other)
    }

    pub(crate) fn marks(&mut self, marks: &[Mark]) -> io::Result<()> {
        // Only the newest are still completed; to copy all of them for each would be quadratic.
        let known = self.record.marks.len().saturating_sub(MARKS_OPEN_MAX).min(marks.len());
        self.record.marks.truncate(known);
        self.record.marks.extend(marks[known..].iter().map(convert::mark));
        self.save_if_due(SAVE_INTERVAL)
    }

    pub(crate) fn trials(&mut self, trials: &[Trial]) -> io::Result<()> {
        self.record.trials = trials.iter().map(convert::trial).collect();
        self.save_if_due(Duration::ZERO)
    }

    pub(crate) fn schedule(&mut self, schedule: &Schedule) -> io::Result<()> {
        self.record.faults = convert::faults(schedule);
        let text = schedule::to_toml(schedule).map_err(io::Error::other)?;
        self.folder.write_schedule(&text).map_err(io::Error::other)
    }

    fn save_if_due(&mut self, interval: Duration) -> io::Result<()> {
        if self.pace.is_due(self.clock.now(), interval) { self.save() } else { Ok(()) }
    }

    /// Writes the record and the series as far as they are known.
    #[instrument(skip_all)]
    fn save(&mut self) -> io::Result<()> {
        let begun = self.clock.now();
        self.recorder.fill(&mut self.record);
        // The record first: it must not be lost because a series cannot be written.
        self.folder.write_record(&self.record).map_err(io::Error::other)?;
        let started = SystemTime::UNIX_EPOCH + self.started_wall;
        self.folder.write_series(&mut self.recorder, started).map_err(io::Error::other)?;
        let saved_at = self.clock.now();
        self.pace = Pace { saved_at, took: saved_at.since(begun) };
        Ok(())
    }

    /// What is known of the run.
    pub(crate) fn record(&self) -> &RunRecord {
        &self.record
    }

    /// Keeps what came of the run.
    ///
    /// # Errors
    /// The first of those of the file system; the record says so, too.
    pub(crate) fn finish(&mut self, outcome: &Outcome) -> anyhow::Result<()> {
        convert::finished(&mut self.record, outcome);
        // Each is tried, whatever becomes of the others.
        let kept = [
            self.save().map_err(anyhow::Error::from),
            self.end_of_schedule(outcome),
            self.logs(&outcome.frozen.logs),
            self.folder.write_lapses(&self.record).map_err(anyhow::Error::from),
            self.folder.write_catch_ups(&self.record).map_err(anyhow::Error::from),
        ];
        let kept: anyhow::Result<()> = kept.into_iter().collect();
        if let Err(error) = &kept {
            convert::unkept(&mut self.record, &crate::told(error));
            // It may be what cannot be written.
            drop(self.save());
        }
        kept
    }

    /// Keeps why the run came to nothing.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn fail(&mut self, reason: &str) -> anyhow::Result<()> {
        convert::failed(&mut self.record, reason);
        Ok(self.save()?)
    }

    /// Draws the plots, the trace and the page. Last of all: what was seen must not be lost because
    /// something cannot be drawn.
    #[instrument(skip_all)]
    pub(crate) fn draw(&self, plan: &Plan) -> anyhow::Result<()> {
        let plotted = self.folder.write_plots(&self.record, &self.recorder);
        tell(&self.folder, (&self.record, &self.recorder, self.events.events()), plan)?;
        Ok(plotted?)
    }

    fn end_of_schedule(&mut self, outcome: &Outcome) -> anyhow::Result<()> {
        match convert::has_schedule(outcome) {
            true => Ok(self.schedule(&outcome.schedule)?),
            false => Ok(()),
        }
    }

    fn logs(&self, logs: &[NodeLog]) -> anyhow::Result<()> {
        // None is no empty one: nobody asked for them.
        if logs.is_empty() {
            return Ok(());
        }
        let path = self.folder.path().join(LOGS);
        // A log that is cut off would be taken for damage, an absent one for a run that was killed.
        let temporary = self.folder.path().join(format!(".{LOGS}.tmp"));
        let file = std::fs::File::create(&temporary);
        let written = file.and_then(|file| write_logs(file, logs));
        let written = written.and_then(|()| std::fs::rename(&temporary, &path));
        written.with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Pace {
    /// What is saved grows with the run, and so does the cost. Saving takes its share of the time
    /// and no more: the longer it took, the longer until the next.
    fn is_due(self, now: Time, interval: Duration) -> bool {
        now.since(self.saved_at) >= interval.max(self.took * SAVE_SHARE)
    }
}

/// Writes trace and page; the page last, since it names all others.
pub(crate) fn tell(
    folder: &RunFolder,
    (record, recorder, events): (&RunRecord, &Recorder, &Events),
    plan: &Plan,
) -> anyhow::Result<()> {
    let plan_in_words = &describe::plan(plan);
    let limits = sparse::warning(plan);
    let limits = limits.as_slice();
    let timeouts = timeouts::told(plan);
    let timeouts = timeouts.as_deref();
    let seen = Seen { record, recorder, events, plan_in_words, timeouts, limits };
    folder.write_trace(&seen)?;
    Ok(folder.write_page(&seen)?)
}

/// The history file as something to write to, in whole lines.
struct Lines(LineWriter);

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
/// At most one part in so many of the time is spent on saving.
const SAVE_SHARE: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(place: &std::path::Path, schedule: &Schedule) -> Journal {
        let plan = crate::catalogue::all().unwrap().remove(0).plan;
        let environment = reports::Environment {
            commit: "c".to_owned(),
            build_profile: "debug".to_owned(),
            rustc: "r".to_owned(),
            machine: "m".to_owned(),
        };
        let begun = convert::Place { world: "sim", transport: "QUIC" };
        let record = convert::begun(&plan, chaos::seed::Seed(7), begun, environment).unwrap();
        let folder = RunFolder::create_at(&place.join("run")).unwrap();
        Journal::begin_in(folder, record, schedule).unwrap()
    }

    fn broken() -> Outcome {
        let verdict = chaos::checker::Verdict::Invalid;
        let (name, detail) = ("nodes".to_owned(), "node 2 panicked".to_owned());
        let nodes = chaos::checker::Check { name, verdict, detail };
        Outcome { verdict: Some(verdict), checks: vec![nodes], ..Outcome::default() }
    }

    #[test]
    fn a_run_that_was_torn_off_takes_nothing_back_from_its_folder() {
        let place = tempfile::tempdir().unwrap();
        let schedule = Schedule { seed: "0x7".to_owned(), ..Schedule::default() };
        let mut journal = journal(place.path(), &schedule);
        let file = |name: &str| place.path().join("run").join(name);
        let drawn = std::fs::read_to_string(file("schedule.toml")).unwrap();
        assert!(drawn.contains("0x7"), "{drawn}");
        journal.finish(&broken()).unwrap();
        assert_eq!(std::fs::read_to_string(file("schedule.toml")).unwrap(), drawn);
        assert!(!file(LOGS).exists(), "nobody asked the nodes for their logs");
    }

    #[test]
    fn what_cannot_be_written_takes_nothing_else_with_it() {
        let place = tempfile::tempdir().unwrap();
        let mut journal = journal(place.path(), &Schedule::default());
        // Where a file is, something that no file can take the place of.
        let latency = place.path().join("run/latency.csv");
        std::fs::remove_file(&latency).unwrap();
        std::fs::create_dir_all(latency.join("x")).unwrap();
        let error = journal.finish(&broken()).unwrap_err();
        assert!(format!("{error:#}").contains("latency.csv"), "{error:#}");
        assert_eq!(convert::exit_code(journal.record()), 1);
        let kept = journal.folder.read_record().unwrap();
        assert_eq!(kept.verdict, reports::Verdict::Invalid);
        let names: Vec<&str> = kept.checks.iter().map(|check| &*check.name).collect();
        assert_eq!(names, ["nodes", convert::LABORATORY]);
    }

    #[test]
    fn the_longer_a_save_takes_the_longer_until_the_next() {
        let at = |ms| Time(Duration::from_millis(ms));
        let pace = |took_ms| Pace { saved_at: at(1_000), took: Duration::from_millis(took_ms) };
        assert!(!pace(2).is_due(at(5_999), SAVE_INTERVAL));
        assert!(pace(2).is_due(at(6_000), SAVE_INTERVAL));
        assert!(pace(2).is_due(at(1_100), Duration::ZERO), "a trial is saved at once");
        assert!(!pace(200).is_due(at(10_999), SAVE_INTERVAL));
        assert!(!pace(200).is_due(at(10_999), Duration::ZERO));
        assert!(pace(200).is_due(at(11_000), SAVE_INTERVAL));
    }
}
