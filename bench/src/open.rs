//! How long a member's store takes to open, beside reading its files once, by turns.
//!
//! Both are timed twice: with the files in the host's memory, and after the host was asked to
//! forget them, as it has after a restart. An opening ends when the member has every entry. How
//! much it reads of them is counted as well.

use std::{
    fs::{self, File},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use runtime::{Clock, SystemClock};
use rustix::fs::{Advice, fadvise};

use crate::{
    filled::{self, Filled},
    outcome::Outcome,
};

/// What was asked for.
pub(crate) struct Wish<'a> {
    pub(crate) entries: &'a [u32],
    pub(crate) bytes: usize,
    pub(crate) turns: u32,
    pub(crate) out: &'a Path,
    pub(crate) json: bool,
}

/// One of the two, with its files in memory or not.
#[derive(Default)]
struct Taken {
    open: Vec<Duration>,
    read: Vec<Duration>,
    /// What each opening read.
    opened_bytes: Vec<u64>,
}

pub(crate) fn main(wish: &Wish<'_>) -> Result<()> {
    let plan = serde_json::json!({
        "entries": wish.entries, "command_bytes": wish.bytes, "turns": wish.turns,
        "storage": "disk",
    });
    let mut outcome = Outcome::new("bench-open", plan);
    for &entries in wish.entries {
        let path = filled::place(&std::env::temp_dir());
        let filled = Filled::create(path, u64::from(entries), wish.bytes)?;
        let (mut warm, mut cold) = (Taken::default(), Taken::default());
        let mut bytes = 0;
        for _ in 0..wish.turns {
            bytes = turn(&filled, entries, &mut warm, || Ok(()))?;
            turn(&filled, entries, &mut cold, || forget(&filled))?;
        }
        outcome.count(&format!("entries_{entries}_file_bytes"), bytes);
        let most = warm.opened_bytes.iter().chain(&cold.opened_bytes).max();
        let times = *most.context("no turn")? as f64 / bytes as f64;
        outcome.ratio(&format!("entries_{entries}_opened_to_file_bytes"), times);
        for (name, taken) in [("warm", &warm), ("cold", &cold)] {
            let named = |what: &str| format!("entries_{entries}_{name}_{what}");
            let open = outcome.summarise(&named("open_us"), &taken.open).context("no turn")?;
            let read = outcome.summarise(&named("read_us"), &taken.read).context("no turn")?;
            outcome.ratio(&named("open_to_read"), open.p50 / read.p50);
        }
    }
    outcome.finish(wish.out, wish.json)
}

/// Reads the files, then opens the store, each after `prepare`.
fn turn(
    filled: &Filled,
    entries: u32,
    taken: &mut Taken,
    prepare: impl Fn() -> Result<()>,
) -> Result<u64> {
    let clock = SystemClock::new();
    prepare()?;
    let began = clock.now();
    let bytes = filled.read_files()?;
    taken.read.push(clock.now().since(began));

    prepare()?;
    let (read_before, began) = (bytes_read()?, clock.now());
    let (contents, open) = filled.read_back()?;
    taken.open.push(clock.now().since(began));
    taken.opened_bytes.push(bytes_read()? - read_before);
    let found = contents.entries.len();
    ensure!(found == entries as usize, "{found} entries came back instead of {entries}");
    open.close();
    Ok(bytes)
}

/// What this process has read so far, from wherever.
fn bytes_read() -> Result<u64> {
    let counts = fs::read_to_string(COUNTS).with_context(|| format!("reading {COUNTS}"))?;
    let read = counts.lines().find_map(|line| line.strip_prefix("rchar: "));
    read.and_then(|read| read.parse().ok()).with_context(|| format!("no rchar in {COUNTS}"))
}

/// Has the host forget what it holds of the files. They are synced, so it can.
fn forget(filled: &Filled) -> Result<()> {
    for path in filled.files()? {
        let shown = || format!("asking the host to forget {}", path.display());
        let file = File::open(&path).with_context(shown)?;
        fadvise(&file, 0, None, Advice::DontNeed).with_context(shown)?;
    }
    Ok(())
}

/// See `proc_pid_io(5)`.
const COUNTS: &str = "/proc/self/io";
