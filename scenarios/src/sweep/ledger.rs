//! The folder of a sweep: `sweep.json`, replaced whole, and `seeds.jsonl`, a line for each seed.
//!
//! Written as the sweep goes on; one process at a time. Invariant: a seed is done if and only if
//! its line stands there whole, so a sweep that was killed goes on where it was.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};

use super::record::{SeedLine, SweepRecord};

/// What a sweep keeps.
pub(crate) struct Ledger {
    path: PathBuf,
    seeds: File,
    pub(crate) record: SweepRecord,
    /// The seeds that are done, by number.
    pub(crate) done: BTreeSet<u64>,
}

impl Ledger {
    /// Begins in an empty folder.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn begin_in(path: PathBuf, record: SweepRecord) -> anyhow::Result<Self> {
        let seeds = locked(&path)?;
        let ledger = Self { path, seeds, record, done: BTreeSet::new() };
        ledger.save()?;
        Ok(ledger)
    }

    /// Goes on in the folder of an earlier sweep; also hands out what came of its seeds.
    ///
    /// # Errors
    /// What is missing, malformed, or at work in it.
    pub(crate) fn resume(path: &Path) -> anyhow::Result<(Self, Vec<SeedLine>)> {
        let record = read_record(path)?;
        let mut seeds = locked(path)?;
        let lines = whole_lines(&mut seeds).with_context(|| shown(&path.join(SEEDS)))?;
        let done = lines.iter().map(|line| line.number).collect();
        Ok((Self { path: path.to_owned(), seeds, record, done }, lines))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds the line of a seed.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn add(&mut self, line: &SeedLine) -> anyhow::Result<()> {
        let mut text = serde_json::to_string(line).context("the line of a seed")?;
        text.push('\n');
        self.seeds.write_all(text.as_bytes()).with_context(|| shown(&self.path.join(SEEDS)))?;
        self.done.insert(line.number);
        self.record.totals.add(line);
        Ok(())
    }

    /// Writes `sweep.json`.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let path = self.path.join(SWEEP);
        let temporary = self.path.join(format!(".{SWEEP}.tmp"));
        let written = fs::write(&temporary, self.json()?);
        let written = written.and_then(|()| fs::rename(&temporary, &path));
        written.with_context(|| shown(&path))
    }

    /// The text of `sweep.json`.
    ///
    /// # Errors
    /// None that is known.
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        let mut text = serde_json::to_string_pretty(&self.record).context("the record")?;
        text.push('\n');
        Ok(text)
    }
}

/// Reads the record in a sweep's folder.
///
/// # Errors
/// With the file, and the field or the line.
pub(crate) fn read_record(path: &Path) -> anyhow::Result<SweepRecord> {
    let file = path.join(SWEEP);
    let text = fs::read_to_string(&file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            anyhow!("{} is not a sweep's folder: it has no {SWEEP}", path.display())
        }
        _ => anyhow!("cannot read {}: {error}", file.display()),
    })?;
    let record: SweepRecord = serde_json::from_str(&text).with_context(|| shown(&file))?;
    record.check().with_context(|| shown(&file))?;
    Ok(record)
}

/// The file of the lines, which nobody else writes as long as it is open.
fn locked(path: &Path) -> anyhow::Result<File> {
    let path = path.join(SEEDS);
    let open = OpenOptions::new().read(true).append(true).create(true).open(&path);
    let file = open.with_context(|| shown(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("{}: another sweep is at work here", path.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| shown(&path)),
    }
}

/// All lines. What a sweep that was killed left of its last one is cut off.
fn whole_lines(file: &mut File) -> anyhow::Result<Vec<SeedLine>> {
    let mut lines = Vec::new();
    let mut whole_bytes = 0;
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::new(&*file);
    loop {
        text.clear();
        let bytes = reader.read_until(b'\n', &mut text)? as u64;
        if !text.ends_with(b"\n") {
            break;
        }
        let number = lines.len() + 1;
        lines.push(serde_json::from_slice(&text).with_context(|| format!("line {number}"))?);
        whole_bytes += bytes;
    }
    file.set_len(whole_bytes)?;
    Ok(lines)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

const SWEEP: &str = "sweep.json";
const SEEDS: &str = "seeds.jsonl";

#[cfg(test)]
pub(crate) mod tests {
    use chaos::seed::Seed;
    use reports::Environment;

    use super::*;
    use crate::catalogue;
    use crate::sweep::record::{SCHEMA_VERSION, Totals, tests::run};

    /// What a sweep of the first scenario may begin with.
    pub(crate) fn record() -> SweepRecord {
        SweepRecord {
            schema_version: SCHEMA_VERSION,
            scenario: "leader-failover".to_owned(),
            world: "process".to_owned(),
            seed: "0x9f3c".to_owned(),
            seeds_max: Some(3),
            minutes_max: None,
            jobs: 1,
            check_twice: 0,
            bound_ms: 60_000,
            keep: false,
            command: vec!["leader-failover".to_owned()],
            environment: Environment {
                commit: "c".to_owned(),
                build_profile: "debug".to_owned(),
                rustc: "r".to_owned(),
                machine: "m".to_owned(),
            },
            plan: catalogue::all().unwrap().remove(0).plan,
            totals: Totals::default(),
        }
    }

    fn line(number: u64) -> SeedLine {
        SeedLine::of(number, Seed(number), 1.5, &[run(0, "0x1")], "runs/0x1")
    }

    #[test]
    fn a_sweep_goes_on_after_its_last_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::begin_in(folder.path().to_owned(), record()).unwrap();
        ledger.add(&line(0)).unwrap();
        ledger.add(&line(2)).unwrap();
        assert!(
            Ledger::resume(folder.path()).is_err_and(|error| {
                error.to_string().contains("another sweep is at work here")
            })
        );
        drop(ledger);
        let seeds = folder.path().join(SEEDS);
        let mut torn = fs::read(&seeds).unwrap();
        let whole = torn.len();
        torn.extend(b"{\"number\":1,\"se");
        fs::write(&seeds, &torn).unwrap();

        let (mut ledger, lines) = Ledger::resume(folder.path()).unwrap();
        assert_eq!(lines, [line(0), line(2)]);
        assert_eq!(ledger.done, BTreeSet::from([0, 2]));
        assert_eq!(ledger.record, record());
        assert_eq!(fs::metadata(&seeds).unwrap().len(), whole as u64);
        ledger.add(&line(1)).unwrap();
        assert_eq!(fs::read_to_string(&seeds).unwrap().lines().count(), 3);
    }

    #[test]
    fn what_is_no_sweep_is_refused_by_file_and_field() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |expected: &str| {
            let error = Ledger::resume(folder.path()).map(drop).unwrap_err();
            let text = format!("{error:#}");
            assert!(text.contains(expected), "{expected:?} in {text}");
        };
        refused("it has no sweep.json");
        let good = serde_json::to_string(&record()).unwrap();
        for (from, to, expected) in [
            ("\"schema_version\":1", "\"schema_version\":9", "schema_version is 9"),
            ("\"world\":\"process\"", "\"world\":\"moon\"", "field `world`"),
            ("\"seed\":\"0x9f3c\"", "\"seed\":\"dice\"", "field `seed`"),
            ("\"jobs\":1", "\"jobs\":0", "jobs is 0"),
            ("\"nodes\":5", "\"nodes\":50", "between 1 and 9"),
        ] {
            fs::write(folder.path().join(SWEEP), good.replace(from, to)).unwrap();
            refused(expected);
        }
        fs::write(folder.path().join(SWEEP), &good).unwrap();
        fs::write(folder.path().join(SEEDS), "{}\n").unwrap();
        refused("line 1");
    }
}
