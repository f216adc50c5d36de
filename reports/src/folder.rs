//! The run folder: names, places and atomic writes.
//!
//! `<parent>/runs/<scenario>/<utc>-<seed>-<pid>/`, and `<parent>/runs/latest` pointing at the
//! newest. Invariant: whatever is replaced is replaced whole (temporary file, then rename), so a
//! harness killed at any moment leaves the last complete version; two harnesses side by side never
//! share a temporary name. Knows nothing of what the bytes mean, except of `run.json`.

mod lines;
mod name;

use self::name::{check_name, utc};
use crate::absence;
use crate::catch_up::{CATCH_UP_HEADER, CatchUp, PROGRESS_HEADER};
use crate::page::page;
use crate::plot::{self, Drawing, Theme};
use crate::record::{RunRecord, SCHEMA_VERSION};
use crate::series::{MEMBERSHIP_HEADER, THROUGHPUT_HEADER, to_csv};
use crate::trace::trace;
use crate::{Error, EventLog, Events, Recorder, Result, Seen};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use self::lines::LineWriter;
pub(crate) use self::name::LATEST;

/// One run's folder, created or opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Creates the folder of a new run and points `latest` at it.
    ///
    /// `utc_unix_s` is the wall clock in seconds since 1970; a name that is taken gets a number
    /// appended.
    pub fn create(
        parent: &Path,
        scenario: &str,
        utc_unix_s: u64,
        seed: u64,
        pid: u32,
    ) -> Result<Self> {
        check_name("scenario", scenario)?;
        let runs = parent.join(RUNS);
        let of_scenario = runs.join(scenario);
        fs::create_dir_all(&of_scenario).map_err(Error::io("create", &of_scenario))?;
        let name = format!("{}-{seed:#018x}-{pid}", utc(utc_unix_s));
        let name = claim(&of_scenario, &name)?;
        let path = of_scenario.join(&name);
        create_nodes(&path)?;
        point_latest(&runs, &Path::new(scenario).join(&name))?;
        Ok(Self { path })
    }

    /// Creates the folder of one run of many at this very place, in place of what an earlier
    /// attempt left there. `latest` stays where it is.
    pub fn create_at(path: &Path) -> Result<Self> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("remove", path)(error));
            }
            _ => {}
        }
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
        create_nodes(path)?;
        Ok(Self { path: path.to_path_buf() })
    }

    /// Removes the folder with all that is in it.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.path).map_err(Error::io("remove", &self.path))
    }

    /// Opens the folder of an earlier run; `runs/latest` is one, too.
    pub fn open(path: &Path) -> Result<Self> {
        let not_a_run = |reason: String| Error::NotARun { path: path.to_path_buf(), reason };
        let found = fs::metadata(path).map_err(|error| not_a_run(error.to_string()))?;
        if !found.is_dir() {
            return Err(not_a_run("a folder with run.json in it is expected".to_owned()));
        }
        Ok(Self { path: path.to_path_buf() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a node's log belongs, `nodes/<node>.log`.
    pub fn node_log_path(&self, node: &str) -> Result<PathBuf> {
        check_name("node", node)?;
        Ok(self.path.join(NODES).join(format!("{node}.log")))
    }

    /// Writes `run.json` in one piece; may be called again and again while the run goes on.
    pub fn write_record(&self, record: &RunRecord) -> Result<()> {
        let path = self.path.join(RECORD);
        let mut json =
            serde_json::to_vec_pretty(record).map_err(|error| Error::encode(&path, &error))?;
        json.push(b'\n');
        replace(&path, &json)
    }

    /// Reads `run.json`.
    pub fn read_record(&self) -> Result<RunRecord> {
        let path = self.path.join(RECORD);
        let text = read_limited(&path, RECORD_BYTES_MAX)?;
        let malformed = |error: serde_json::Error| Error::Malformed {
            path: path.clone(),
            line: error.line(),
            column: error.column(),
            reason: reason_without_place(&error),
        };
        // The version first: of another version no other complaint would be to the point.
        let Version { schema_version } = serde_json::from_str(&text).map_err(malformed)?;
        let is_read = (1..=SCHEMA_VERSION).any(|one| schema_version == serde_json::json!(one));
        if !is_read {
            let found = schema_version.to_string();
            return Err(Error::SchemaVersion { path, found, supported: SCHEMA_VERSION });
        }
        serde_json::from_str(&text).map_err(malformed)
    }

    /// Writes `schedule.toml`.
    pub fn write_schedule(&self, toml: &str) -> Result<()> {
        replace(&self.path.join(SCHEDULE), toml.as_bytes())
    }

    /// Begins `history.jsonl` anew.
    pub fn create_history(&self) -> Result<LineWriter> {
        LineWriter::create(self.path.join(HISTORY))
    }

    /// Opens `history.jsonl` for reading.
    pub fn open_history(&self) -> Result<BufReader<File>> {
        let path = self.path.join(HISTORY);
        Ok(BufReader::new(File::open(&path).map_err(missing(&path))?))
    }

    /// Begins `events.jsonl` anew.
    pub fn create_events(&self) -> Result<EventLog> {
        Ok(EventLog::new(LineWriter::create(self.path.join(EVENTS))?))
    }

    /// Reads `events.jsonl`. A run that left none has no events; a last line that was cut off with
    /// its harness is left out.
    pub fn read_events(&self) -> Result<Events> {
        let path = self.path.join(EVENTS);
        if !path.exists() {
            return Ok(Events::default());
        }
        let text = read_limited(&path, EVENTS_BYTES_MAX)?;
        let mut events = Events::default();
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        for (number, line) in lines.enumerate() {
            let event = serde_json::from_str(line).map_err(|error| Error::Malformed {
                path: path.clone(),
                line: number + 1,
                column: error.column(),
                reason: reason_without_place(&error),
            })?;
            events.push(event);
        }
        Ok(events)
    }

    /// Writes `latency.csv`, `throughput.csv` and `latency.hlog`; may be called again and again
    /// while the run goes on. `started` is the wall clock at the zero of the samples' times.
    pub fn write_series(&self, recorder: &mut Recorder, started: SystemTime) -> Result<()> {
        let path = self.path.join(LATENCY_CSV);
        replace(&path, &recorder.seconds_mut().csv(&path)?)?;
        let path = self.path.join(THROUGHPUT_CSV);
        replace(&path, &to_csv(&THROUGHPUT_HEADER, &recorder.throughput(), &path)?)?;
        let path = self.path.join(LATENCY_HLOG);
        // Tools read the start as seconds since 1970, and a clock before that is no clock.
        let started = started.max(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        replace(&path, &recorder.seconds_mut().interval_log(started, &path)?)
    }

    /// Writes `membership.csv`, where a node was a member no longer.
    pub fn write_lapses(&self, record: &RunRecord) -> Result<()> {
        if record.lapses.is_empty() {
            return Ok(());
        }
        let path = self.path.join(MEMBERSHIP_CSV);
        replace(&path, &to_csv(&MEMBERSHIP_HEADER, &record.lapses, &path)?)
    }

    /// Writes `catch-up.csv` and `catch-up-progress.csv`, where a follower had to catch up.
    pub fn write_catch_ups(&self, record: &RunRecord) -> Result<()> {
        if record.catch_ups.is_empty() {
            return Ok(());
        }
        let path = self.path.join(CATCH_UP_CSV);
        let rows: Vec<_> = record.catch_ups.iter().map(CatchUp::row).collect();
        replace(&path, &to_csv(&CATCH_UP_HEADER, &rows, &path)?)?;
        let path = self.path.join(PROGRESS_CSV);
        let rows: Vec<_> = record.catch_ups.iter().flat_map(CatchUp::progress_rows).collect();
        replace(&path, &to_csv(&PROGRESS_HEADER, &rows, &path)?)
    }

    /// Draws `latency` and `outage`, or `catch-up` where that is what a run is about, each as
    /// `.svg` (light and dark in one), `.png` (light) and `-dark.png`. What would be empty is not
    /// drawn, and what an earlier program drew of it goes; the page says why.
    pub fn write_plots(&self, record: &RunRecord, recorder: &Recorder) -> Result<()> {
        let has_load = absence::of_load(record, recorder).is_none();
        let has_outages = absence::of_outages(record).is_none();
        let lags = !record.catch_ups.is_empty();
        let has_catch_ups = lags && absence::of_catch_ups(record).is_none();
        let plots = [
            ("latency", has_load.then(|| plot::latency(record, recorder))),
            ("outage", (has_outages && !lags).then(|| plot::outage(record))),
            ("catch-up", has_catch_ups.then(|| plot::catch_up(record))),
        ];
        plots.iter().try_for_each(|(name, drawing)| match drawing {
            Some(drawing) => self.write_plot(name, drawing),
            None => self.remove_plot(name),
        })
    }

    fn write_plot(&self, name: &str, drawing: &Drawing) -> Result<()> {
        let path = self.path.join(format!("{name}.svg"));
        let svg = plot::svg(drawing).map_err(|reason| Error::encode(&path, &reason))?;
        replace(&path, svg.as_bytes())?;
        for (theme, suffix) in [(Theme::Light, ""), (Theme::Dark, "-dark")] {
            let path = self.path.join(format!("{name}{suffix}.png"));
            // The encoder goes by the ending, so the temporary file needs it, too.
            let temporary = self.path.join(format!(".{name}{suffix}.tmp.png"));
            plot::png(drawing, theme, &temporary)
                .map_err(|reason| Error::encode(&path, &reason))?;
            fs::rename(&temporary, &path).map_err(Error::io("replace", &path))?;
        }
        Ok(())
    }

    fn remove_plot(&self, name: &str) -> Result<()> {
        for ending in [".svg", ".png", "-dark.png"] {
            let path = self.path.join(format!("{name}{ending}"));
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes `trace.json`.
    pub fn write_trace(&self, seen: &Seen<'_>) -> Result<()> {
        replace(&self.path.join(TRACE), trace(seen).as_bytes())
    }

    /// Writes `index.html`, with links to what stands beside it by then.
    pub fn write_page(&self, seen: &Seen<'_>) -> Result<()> {
        let files = self.files()?;
        let page = page(seen, self.started().as_deref(), &files);
        replace(&self.path.join(PAGE), page.as_bytes())
    }

    /// Where the page is, if there is one.
    pub fn page(&self) -> Option<PathBuf> {
        let page = self.path.join(PAGE);
        page.is_file().then_some(page)
    }

    /// When the run was started, in words, as far as its folder's name tells.
    pub fn started(&self) -> Option<String> {
        // `runs/latest` has no name of its own.
        let path = fs::canonicalize(&self.path).ok()?;
        name::started(path.file_name()?.to_str()?)
    }

    /// The files of the folder and the nodes' logs, in order, but for hidden ones.
    fn files(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        for (folder, prefix) in [(self.path.clone(), ""), (self.path.join(NODES), "nodes/")] {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries.take(FILES_MAX) {
                let entry = entry.map_err(Error::io("read", &folder))?;
                let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
                let name = entry.file_name().to_string_lossy().into_owned();
                if is_file && !name.starts_with('.') && name != PAGE {
                    files.push(format!("{prefix}{name}"));
                }
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Creates the folder of a sweep, `<parent>/sweeps/<scenario>/<utc>-<seed>/`; a name that is taken
/// gets a number appended. `utc_unix_s` is the wall clock in seconds since 1970.
pub fn create_sweep_folder(
    parent: &Path,
    scenario: &str,
    utc_unix_s: u64,
    seed: u64,
) -> Result<PathBuf> {
    check_name("scenario", scenario)?;
    let of_scenario = parent.join("sweeps").join(scenario);
    fs::create_dir_all(&of_scenario).map_err(Error::io("create", &of_scenario))?;
    let name = claim(&of_scenario, &format!("{}-{seed:#018x}", utc(utc_unix_s)))?;
    Ok(of_scenario.join(name))
}

#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    schema_version: serde_json::Value,
}

fn create_nodes(run: &Path) -> Result<()> {
    let nodes = run.join(NODES);
    fs::create_dir(&nodes).map_err(Error::io("create", &nodes))
}

/// Creates `name` or the first free of `name-2`, `name-3`, … and says which.
fn claim(parent: &Path, name: &str) -> Result<String> {
    let mut candidate = name.to_owned();
    for number in 2..=NAME_TRIES_MAX {
        let path = parent.join(&candidate);
        match fs::create_dir(&path) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                candidate = format!("{name}-{number}");
            }
            Err(error) => return Err(Error::io("create", &path)(error)),
        }
    }
    let path = parent.join(candidate);
    Err(Error::io("create", &path)(ErrorKind::AlreadyExists.into()))
}

/// Replaces `runs/latest` by a rename, which other harnesses and readers see whole or not at all.
/// The temporary name repeats scenario, seed and process id and so belongs to this run alone.
fn point_latest(runs: &Path, target: &Path) -> Result<()> {
    let unique = target.display().to_string().replace(['/', '\\'], "-");
    let temporary = runs.join(format!(".latest-{unique}"));
    #[cfg(unix)]
    std::os::unix::fs::symlink(target, &temporary).map_err(Error::io("link", &temporary))?;
    // Elsewhere links need privileges: a text file with the path serves a reader as well.
    #[cfg(not(unix))]
    fs::write(&temporary, target.display().to_string()).map_err(Error::io("write", &temporary))?;
    let latest = runs.join(LATEST);
    fs::rename(&temporary, &latest).map_err(|error| {
        let _ = fs::remove_file(&temporary); // nothing to add to the first error
        Error::io("replace", &latest)(error)
    })
}

/// Writes a file so that a reader, or a kill, finds the old version or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).expect("file names are constants");
    let temporary = path.with_file_name(format!(".{name}.tmp"));
    fs::write(&temporary, bytes).map_err(Error::io("write", &temporary))?;
    fs::rename(&temporary, path).map_err(Error::io("replace", path))
}

fn read_limited(path: &Path, bytes_max: u64) -> Result<String> {
    let file = File::open(path).map_err(missing(path))?;
    let bytes = file.metadata().map_err(Error::io("read", path))?.len();
    if bytes > bytes_max {
        return Err(Error::TooLarge { path: path.to_path_buf(), bytes, bytes_max });
    }
    let mut text = String::new();
    file.take(bytes_max).read_to_string(&mut text).map_err(Error::io("read", path))?;
    Ok(text)
}

fn missing(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| match (source.kind(), path.parent(), path.file_name()) {
        (ErrorKind::NotFound, Some(folder), Some(name)) => Error::NotARun {
            path: folder.to_path_buf(),
            reason: format!("it has no {}", name.display()),
        },
        _ => Error::Io { action: "open", path, source },
    }
}

/// serde_json appends the place to its text; the error carries it already.
fn reason_without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

/// Where the runs below a parent are.
pub(crate) const RUNS: &str = "runs";
const RECORD: &str = "run.json";
const HISTORY: &str = "history.jsonl";
const EVENTS: &str = "events.jsonl";
const SCHEDULE: &str = "schedule.toml";
const PAGE: &str = "index.html";
const TRACE: &str = "trace.json";
const NODES: &str = "nodes";
const FILES_MAX: usize = 1_000;
const LATENCY_CSV: &str = "latency.csv";
const THROUGHPUT_CSV: &str = "throughput.csv";
const LATENCY_HLOG: &str = "latency.hlog";
const MEMBERSHIP_CSV: &str = "membership.csv";
const CATCH_UP_CSV: &str = "catch-up.csv";
const PROGRESS_CSV: &str = "catch-up-progress.csv";
const RECORD_BYTES_MAX: u64 = 64 << 20;
const EVENTS_BYTES_MAX: u64 = 64 << 20;
const NAME_TRIES_MAX: u32 = 1_000;
