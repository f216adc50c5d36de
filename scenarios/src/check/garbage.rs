//! Garbage in the folder of a run: it is judged and told, or refused with the file and what is wrong.

mod samples;

use std::{fs, path::Path};

use fuzz::{Draws, Target};
use reports::Verdict;

use super::judge;
use crate::convert;
use samples::Files;

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
    let samples = samples::all();
    let whole = &samples[0];
    assert!(whole.len() >= 3, "the files of a run: {:?}", whole.keys());
    let place = tempfile::tempdir().expect("a temporary directory");
    for files in &samples {
        lay(place.path(), files, whole);
        judge(place.path()).and_then(|judged| judged.tell()).expect("it is judged as it is");
    }
    let (mut judged, mut refused) = (0, 0);
    let target = Target {
        name: "run folders",
        command: "cargo test -p scenarios --bins garbage",
        inputs: 300,
        heap_bytes_max: (64 << 20, 64),
    };
    let is_full = target.throw(
        [("an event of the last node there could be".to_owned(), of_the_last_node(whole))],
        |draws| {
            let mut files = draws.one_of(&samples).clone();
            for _ in 0..=draws.below(2) {
                spoil(&mut files, draws);
            }
            files
        },
        |files| {
            lay(place.path(), files, whole);
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
    let whole = samples::failover(|load| (load.rate_per_s, load.clients) = (200, 4));
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
    let mut files = samples::failover(samples::light);
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
