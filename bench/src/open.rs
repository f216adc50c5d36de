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
use reports::Verdict;
use runtime::{Clock, SystemClock};
use rustix::fs::{Advice, fadvise};

use crate::{
    filled::{self, Filled},
    outcome::Outcome,
    progress::Stage,
    series::once_each,
    watch::Watch,
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

pub(crate) fn main(wish: &Wish<'_>) -> Result<Verdict> {
    once_each("--entries", wish.entries)?;
    let plan = serde_json::json!({
        "entries": wish.entries, "command_bytes": wish.bytes, "turns": wish.turns,
        "storage": "disk",
    });
    let mut outcome = Outcome::new("bench-open", plan);
    let watch = Watch::begin(wish.entries.iter().flat_map(|one| stages(*one, wish)).collect())?;
    for &entries in wish.entries {
        if watch.ends() {
            break;
        }
        let path = filled::place(&std::env::temp_dir());
        watch.go_on();
        let filled = Filled::create(path, u64::from(entries), wish.bytes, |entries| {
            watch.add(entries);
            !watch.ends()
        })?;
        watch.go_on();
        let (mut warm, mut cold) = (Taken::default(), Taken::default());
        let mut bytes = 0;
        for _ in 0..wish.turns {
            // Between any two openings, since one of many entries takes its time.
            if watch.ends() {
                break;
            }
            bytes = turn(&filled, entries, &mut warm, || Ok(()))?;
            watch.add(1);
            if watch.ends() {
                break;
            }
            turn(&filled, entries, &mut cold, || forget(&filled))?;
            watch.add(1);
        }
        add(&mut outcome, entries, bytes, [("warm", &warm), ("cold", &cold)]);
    }
    outcome.finish(&watch, wish.out, wish.json)
}

/// How a store of so many entries comes into being, and is opened.
fn stages(entries: u32, wish: &Wish<'_>) -> [Stage; 2] {
    [
        Stage {
            words: format!("filling a store with {entries} entries"),
            unit: "entries",
            units: entries.into(),
            each: WRITTEN,
        },
        Stage {
            words: format!("opening and reading {entries} entries, in memory and not"),
            unit: "turns",
            units: 2 * u64::from(wish.turns),
            each: OPENED.saturating_mul(entries),
        },
    ]
}

/// Adds what the turns of one store came to, as far as there were any.
fn add(outcome: &mut Outcome, entries: u32, bytes: u64, kinds: [(&str, &Taken); 2]) {
    let most = kinds.iter().flat_map(|(_, taken)| &taken.opened_bytes).max();
    let Some(most) = most else { return };
    outcome.count(&format!("entries_{entries}_file_bytes"), bytes);
    let times = *most as f64 / bytes as f64;
    outcome.ratio(&format!("entries_{entries}_opened_to_file_bytes"), times);
    for (name, taken) in kinds {
        let named = |what: &str| format!("entries_{entries}_{name}_{what}");
        let open = outcome.summarise(&named("open_us"), &taken.open).map(|open| open.p50);
        let read = outcome.summarise(&named("read_us"), &taken.read).map(|read| read.p50);
        outcome.ratio_of(&named("open_to_read"), open, read);
    }
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

/// What an entry may take as it is written, and as it is read and opened once each.
const WRITTEN: Duration = Duration::from_micros(2);
const OPENED: Duration = Duration::from_nanos(400);
/// See `proc_pid_io(5)`.
const COUNTS: &str = "/proc/self/io";
