//! Garbage in the folder of a run: it is judged and told, or refused with the file and what is wrong.

use std::{collections::BTreeMap, fs, path::Path};

use chaos::plan::{WorkloadPlan, WorldKind};
use chaos::seed::Seed;
use fuzz::{Draws, Target};
use reports::{Environment, Verdict};

use super::judge;
use crate::conduct::{self, Manner};
use crate::convert;
use crate::worlds::Setting;

type Files = BTreeMap<String, Vec<u8>>;

/// A run with so little load that its files are small.
fn sample() -> Files {
    sample_of(|load| {
        (load.rate_per_s, load.clients, load.burst, load.keys_live) = (20, 2, 2, 2);
    })
}

/// The files that judging and drawing read, of a short run of cores alone.
fn sample_of(change: impl FnOnce(&mut WorkloadPlan)) -> Files {
    let out = tempfile::tempdir().expect("a temporary directory");
    let text = include_str!("../../plans/leader-failover.toml");
    let mut plan = chaos::plan::parse(text).expect("a built-in plan");
    plan.trials = 1;
    change(plan.workload.as_mut().expect("it has clients"));
    let seed = Seed(7);
    let folder = conduct::folder(out.path(), &plan, seed).expect("a folder");
    let path = folder.path().to_owned();
    let (environment, command) = (Environment::here(), String::new());
    let manner = Manner { environment, command, is_watched: false, is_kept: true };
    let setting = Setting { world: WorldKind::Swarm, plan: &plan, seed, is_traced: false };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let conducted = runtime.expect("a runtime").block_on(conduct::conduct(setting, folder, manner));
    conducted.expect("it can be carried out");
    let read = |name: &str| fs::read(path.join(name)).ok().map(|bytes| (name.to_owned(), bytes));
    ["run.json", "history.jsonl", "events.jsonl", "schedule.toml", super::LOGS]
        .into_iter()
        .filter_map(read)
        .collect()
}

/// What readers of JSON and TOML stumble over.
const WORDS: [&[u8]; 16] = [
    b"18446744073709551616",
    b"18446744073709551615",
    b"-1",
    b"1e308",
    b"1e-400",
    b"null",
    b"\"\"",
    b"[[[[[[[[",
    b"{\"a\":",
    b"}",
    b",",
    b"\n",
    b"\xff\xfe",
    b"\"unknown\"",
    b"\"valid\"",
    b"\"steady\"",
];

/// Its number is as large as numbers are. (Found by the drawn input 76590 of seed 0.)
fn of_the_last_node(whole: &Files) -> Files {
    let mut files = whole.clone();
    let events = files.get_mut("events.jsonl").expect("the run had events");
    let text =
        String::from_utf8_lossy(events).replace("\"node\":1,", "\"node\":18446744073709551615,");
    *events = text.into_bytes();
    files
}

fn spoil(files: &mut Files, draws: &mut Draws) {
    let names: Vec<String> = files.keys().cloned().collect();
    let others: Vec<Vec<u8>> = files.values().cloned().collect();
    let name = draws.one_of(&names).clone();
    if draws.once_in(16) {
        files.remove(&name);
        return;
    }
    let Some(bytes) = files.get_mut(&name) else { return };
    // Whole lines now and then: what is left reads well and says something else.
    if draws.once_in(3) {
        let mut lines: Vec<Vec<u8>> =
            bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let at = draws.below(lines.len());
        match draws.below(3) {
            0 if !lines.is_empty() => drop(lines.remove(at)),
            1 if !lines.is_empty() => lines.insert(at, lines[at].clone()),
            _ if !lines.is_empty() => {
                let to = draws.below(lines.len());
                lines.swap(at, to);
            }
            _ => {}
        }
        *bytes = lines.concat();
        return;
    }
    draws.garble(bytes, &others, &WORDS);
}

fn lay(folder: &Path, files: &Files, all: &Files) {
    for name in all.keys() {
        let path = folder.join(name);
        match files.get(name) {
            Some(bytes) => fs::write(path, bytes).expect("room for a small file"),
            // It may not be there.
            None => drop(fs::remove_file(path)),
        }
    }
}

#[test]
fn garbage_in_a_run_folder_is_judged_or_refused_by_name() {
    let whole = sample();
    assert!(whole.len() >= 3, "the files of a run: {:?}", whole.keys());
    let place = tempfile::tempdir().expect("a temporary directory");
    lay(place.path(), &whole, &whole);
    judge(place.path()).and_then(|judged| judged.tell()).expect("it is judged as it is");
    let (mut judged, mut refused) = (0, 0);
    let target = Target {
        name: "run folders",
        command: "cargo test -p scenarios --bins garbage",
        inputs: 300,
        heap_bytes_max: (64 << 20, 64),
    };
    let is_full = target.throw(
        [("an event of the last node there could be".to_owned(), of_the_last_node(&whole))],
        |draws| {
            let mut files = whole.clone();
            for _ in 0..=draws.below(2) {
                spoil(&mut files, draws);
            }
            files
        },
        |files| {
            lay(place.path(), files, &whole);
            match judge(place.path()).and_then(|judged| judged.tell()) {
                Ok(()) => judged += 1,
                Err(error) => {
                    let told = format!("{error:#}");
                    assert!(!told.is_empty() && told.len() < 64 << 10, "{} bytes", told.len());
                    refused += 1;
                }
            }
        },
    );
    assert!(!is_full || (judged > 0 && refused > 0), "{judged} judged, {refused} refused");
}

/// By the number of a line and what it says.
type IsLost = fn(usize, &str) -> bool;

#[test]
fn operations_that_are_missing_are_a_doubt_and_break_nothing() {
    let whole = sample_of(|load| (load.rate_per_s, load.clients) = (200, 4));
    let place = tempfile::tempdir().expect("a temporary directory");
    let judged_without = |is_lost: IsLost| {
        let mut files = whole.clone();
        let history = files.get_mut("history.jsonl").expect("the run had clients");
        let text = String::from_utf8_lossy(history).into_owned();
        let kept = text.lines().enumerate().filter(|(number, line)| !is_lost(*number, line));
        let kept: Vec<&str> = kept.map(|(_, line)| line).collect();
        *history = kept.iter().map(|line| format!("{line}\n")).collect::<String>().into_bytes();
        lay(place.path(), &files, &whole);
        judge(place.path()).expect("it is judged").record
    };
    let record = judged_without(|_, _| false);
    assert_eq!(record.verdict, Verdict::Valid, "{:?}", record.checks);
    let lost: [(&str, IsLost); 4] = [
        ("all", |_, _| true),
        ("the second half", |number, _| number > 500),
        ("each third", |number, _| number.is_multiple_of(3)),
        ("what was written", |_, line| line.contains("\"write\"")),
    ];
    for (which, is_lost) in lost {
        let record = judged_without(is_lost);
        let told = (record.verdict, convert::exit_code(&record));
        assert_eq!(told, (Verdict::Unknown, 2), "{which}: {:?}", record.checks);
    }
}

#[test]
fn what_was_seen_after_the_record_was_saved_is_counted() {
    let mut files = sample();
    let place = tempfile::tempdir().expect("a temporary directory");
    let operations = files["history.jsonl"].split_inclusive(|byte| *byte == b'\n').count() as u64;
    let mut record: serde_json::Value =
        serde_json::from_slice(&files["run.json"]).expect("a record is JSON");
    record["counts"]["operations_offered"] = 3.into();
    files.insert("run.json".to_owned(), record.to_string().into_bytes());
    lay(place.path(), &files, &files);
    let judged = judge(place.path()).expect("it is judged").record;
    assert_eq!(judged.counts["operations_offered"], operations);
    let told = format!("history.jsonl holds {operations} operations, run.json counts 3");
    assert!(judged.checks.iter().any(|check| check.detail == told), "{:?}", judged.checks);
}
