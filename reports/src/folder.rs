//! The run folder: names, places and atomic writes.
//!
//! `<parent>/runs/<scenario>/<utc>-<seed>-<pid>/`, and `<parent>/runs/latest` pointing at the
//! newest. Invariant: whatever is replaced is replaced whole (temporary file, then rename), so a
//! harness killed at any moment leaves the last complete version; two harnesses side by side never
//! share a temporary name. Knows nothing of what the bytes mean, except of `run.json`.

use crate::plot::{self, Theme};
use crate::record::{RunRecord, SCHEMA_VERSION};
use crate::series::{THROUGHPUT_HEADER, to_csv};
use crate::{Error, Recorder, Result};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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
        let runs = parent.join("runs");
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
        Ok(self.path.join("nodes").join(format!("{node}.log")))
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
        if schema_version != serde_json::json!(SCHEMA_VERSION) {
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
    pub fn create_history(&self) -> Result<HistoryWriter> {
        let path = self.path.join(HISTORY);
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        Ok(HistoryWriter { file, path })
    }

    /// Opens `history.jsonl` for reading.
    pub fn open_history(&self) -> Result<BufReader<File>> {
        let path = self.path.join(HISTORY);
        Ok(BufReader::new(File::open(&path).map_err(missing(&path))?))
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

    /// Draws `latency` and `outage`, each as `.svg` (light and dark in one), `.png` (light) and
    /// `-dark.png`.
    pub fn write_plots(&self, record: &RunRecord, recorder: &Recorder) -> Result<()> {
        for (name, drawing) in
            [("latency", plot::latency(record, recorder)), ("outage", plot::outage(record))]
        {
            let path = self.path.join(format!("{name}.svg"));
            let svg = plot::svg(&drawing).map_err(|reason| Error::encode(&path, &reason))?;
            replace(&path, svg.as_bytes())?;
            for (theme, suffix) in [(Theme::Light, ""), (Theme::Dark, "-dark")] {
                let path = self.path.join(format!("{name}{suffix}.png"));
                // The encoder goes by the ending, so the temporary file needs it, too.
                let temporary = self.path.join(format!(".{name}{suffix}.tmp.png"));
                plot::png(&drawing, theme, &temporary)
                    .map_err(|reason| Error::encode(&path, &reason))?;
                fs::rename(&temporary, &path).map_err(Error::io("replace", &path))?;
            }
        }
        Ok(())
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

/// Appends to `history.jsonl` without buffering: what was appended survives the harness.
#[derive(Debug)]
pub struct HistoryWriter {
    file: File,
    path: PathBuf,
}

impl HistoryWriter {
    /// Appends one or more whole lines with one write; who has many hands over many.
    pub fn append(&mut self, lines: &[u8]) -> Result<()> {
        if lines.last().is_some_and(|&byte| byte != b'\n') {
            return Err(Error::Line { reason: "the last byte is not a line feed" });
        }
        self.file.write_all(lines).map_err(Error::io("append to", &self.path))
    }
}

#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    schema_version: serde_json::Value,
}

fn create_nodes(run: &Path) -> Result<()> {
    let nodes = run.join("nodes");
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

/// Names become parts of paths on every system, and must not leave their folder.
fn check_name(what: &'static str, value: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let fits = (1..=NAME_BYTES_MAX).contains(&value.len());
    if fits && value.bytes().all(plain) && !value.starts_with('.') && value != LATEST {
        return Ok(());
    }
    let allowed = "1 to 64 letters, digits, '-', '_' or '.', not a '.' first, and not 'latest'";
    // A hostile name is not echoed at full length.
    let value = value.chars().take(NAME_BYTES_MAX + 1).collect();
    Err(Error::Name { what, value, allowed })
}

/// `20261121T054213Z`: sorts by time and holds no character that a file system minds.
fn utc(unix_s: u64) -> String {
    let unix_s = unix_s.min(UTC_UNIX_S_MAX);
    let (days, second_of_day) = (unix_s / 86_400, unix_s % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) =
        (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Gregorian date of a day counted from 1970-01-01, year by year and month by month.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

const RECORD: &str = "run.json";
const HISTORY: &str = "history.jsonl";
const SCHEDULE: &str = "schedule.toml";
const LATENCY_CSV: &str = "latency.csv";
const THROUGHPUT_CSV: &str = "throughput.csv";
const LATENCY_HLOG: &str = "latency.hlog";
const LATEST: &str = "latest";
const RECORD_BYTES_MAX: u64 = 64 << 20;
const NAME_BYTES_MAX: usize = 64;
const NAME_TRIES_MAX: u32 = 1_000;
/// The last second of the year 9999.
const UTC_UNIX_S_MAX: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_knows_leap_years_and_ends() {
        for (unix_s, text) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_763_705_000, "20251121T060320Z"),
            (4_107_542_399, "21000228T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
            (u64::MAX, "99991231T235959Z"),
        ] {
            assert_eq!(utc(unix_s), text);
        }
    }

    #[test]
    fn names_cannot_leave_their_folder() {
        for name in ["a", "leader-failover", "v1.2_x"] {
            assert!(check_name("scenario", name).is_ok(), "{name}");
        }
        let long = "x".repeat(65);
        for name in ["", ".", "..", ".hidden", "a/b", "a\\b", "latest", "é", "a\n", &long] {
            let error = check_name("scenario", name).unwrap_err().to_string();
            assert!(error.contains("scenario") && error.contains("1 to 64 letters"), "{error}");
        }
    }
}
