//! Past runs: which there are below a parent, newest first, and what each came to.
//!
//! Reads names first and records only of those that are asked for, so that thousands of runs are
//! listed as quickly as twenty. Invariant: a folder that is damaged is listed with what is wrong
//! with it, and hides no other.

use crate::folder::{LATEST, RUNS};
use crate::{Error, Result, RunFolder, RunRecord};
use std::fs;
use std::path::Path;

/// One run of the past.
#[derive(Debug)]
pub struct PastRun {
    /// Its folder.
    pub folder: RunFolder,
    /// When it was started, in words, as far as its name tells.
    pub started: Option<String>,
    /// What it came to, or why that cannot be read.
    pub record: Result<RunRecord>,
}

/// The newest runs below `<parent>/runs`, newest first, at most `count_max`, and how many more
/// there are. A parent without runs has none.
///
/// # Errors
/// A folder that cannot be read.
pub fn past_runs(parent: &Path, count_max: usize) -> Result<(Vec<PastRun>, usize)> {
    let runs = parent.join(RUNS);
    if !runs.exists() {
        return Ok((Vec::new(), 0));
    }
    let mut found = Vec::new();
    for scenario in folders(&runs)? {
        for run in folders(&runs.join(&scenario))? {
            found.push((run, scenario.clone()));
        }
    }
    // Names begin with the time; what has none sorts as the oldest.
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    let more = found.len().saturating_sub(count_max);
    found.truncate(count_max);
    let read = found.into_iter().map(|(run, scenario)| {
        let folder = RunFolder::open(&runs.join(scenario).join(run))?;
        let (started, record) = (folder.started(), folder.read_record());
        Ok(PastRun { folder, started, record })
    });
    Ok((read.collect::<Result<_>>()?, more))
}

/// The folders in one, but for links and hidden ones.
fn folders(path: &Path) -> Result<Vec<String>> {
    let failed = || Error::io("read", path);
    let mut folders = Vec::new();
    for entry in fs::read_dir(path).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let is_folder = entry.file_type().map_err(failed())?.is_dir();
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_folder && !name.starts_with('.') && name != LATEST && folders.len() < FOLDERS_MAX {
            folders.push(name);
        }
    }
    Ok(folders)
}

/// Names alone: what a disk holds, and not without end.
const FOLDERS_MAX: usize = 1_000_000;
