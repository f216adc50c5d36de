//! Runs in virtual time through the program: a seed is a run, to the last bit, in every process.

#![cfg(all(feature = "sim", target_os = "linux", target_env = "gnu", tokio_unstable))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// One short trial: a leader is killed and returns.
const SHORT: [&str; 9] =
    ["leader-failover", "--world", "sim", "--nodes", "3", "--trials", "1", "--rate", "100"];

fn scenarios(words: &[&str], out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenarios"));
    command.args(words).arg("--out").arg(out).stdin(Stdio::null());
    command.output().expect("the program starts")
}

fn run(seed: &str, out: &Path) -> (PathBuf, String) {
    let words = [&SHORT[..], &["--duration", "3s", "--trace", "--seed", seed]].concat();
    kept(&scenarios(&words, out), out)
}

/// The folder of a valid run, and what it told.
fn kept(output: &Output, out: &Path) -> (PathBuf, String) {
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}\n{}", text(&output.stderr));
    (fs::canonicalize(out.join("runs/latest")).expect("it has a folder"), told)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it speaks UTF-8")
}

fn record(run: &Path) -> Value {
    serde_json::from_slice(&fs::read(run.join("run.json")).expect("it is there")).expect("JSON")
}

fn diff(one: &Path, other: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenarios"));
    command.arg("diff").arg(one).arg(other).output().expect("the program starts")
}

#[test]
fn a_run_is_replayed_to_the_last_bit() {
    let out = tempfile::tempdir().unwrap();
    let (first, told) = run("0x2a", out.path());
    let record = record(&first);
    assert_eq!((&record["world"], &record["verdict"]), (&"sim".into(), &"valid".into()));
    let trace = record["trace_hash"].as_str().expect("it has one");
    assert!(record["counts"]["simulated_ms"].as_u64() > Some(3_000), "{record}");
    for words in ["world sim, QUIC on", "virtual time: no figure", &format!("trace: {trace}")] {
        assert!(told.contains(words), "{words:?} in {told}");
    }
    assert!(!told.contains("not a measurement"), "how fast the build is shows nowhere: {told}");

    let words = ["replay", first.to_str().unwrap(), "--trace"];
    let (second, told) = kept(&scenarios(&words, out.path()), out.path());
    assert!(told.contains("repeated: the verdict is valid again, and the trace is"), "{told}");
    assert_ne!(first, second);
    let same = diff(&first, &second);
    assert_eq!(same.status.code(), Some(0), "{same:?}");
    assert!(text(&same.stdout).starts_with("identical: "), "{same:?}");

    let (other, _) = run("0x2b", out.path());
    let parted = diff(&first, &other);
    assert_eq!(parted.status.code(), Some(1), "{parted:?}");
    assert!(text(&parted.stdout).contains(" s of virtual time, "), "{parted:?}");
}

#[test]
fn a_seed_is_the_same_run_in_two_processes() {
    let out = tempfile::tempdir().unwrap();
    let more = ["--duration", "3s", "--seeds", "1", "--check-twice", "1", "--keep", "--json"];
    let words = [&["sweep"], &SHORT[..], &more].concat();
    let output = scenarios(&words, out.path());
    let told = format!("{}\n{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{told}");
    let sweep: Value = serde_json::from_slice(&output.stdout).unwrap();
    let totals = &sweep["totals"];
    assert_eq!((&totals["twice"], &totals["diverged"]), (&1.into(), &0.into()), "{totals}");
    assert!(totals["simulated_s"].as_f64() > Some(6.0), "both are counted: {totals}");
}

#[test]
fn members_that_come_and_go_leave_distributions_everywhere() {
    let out = tempfile::tempdir().unwrap();
    let words = ["membership-churn", "--world", "sim", "--trials", "1", "--rate", "100"];
    let (run, told) = kept(&scenarios(&words, out.path()), out.path());
    let record = record(&run);
    let lapses = record["lapses"].as_array().expect("there are some").len();
    assert_eq!(lapses, 7, "one for each step: {record}");
    let read = |name: &str| fs::read_to_string(run.join(name)).expect("it is there");
    let (table, page) = (read("membership.csv"), read("index.html"));
    assert!(table.starts_with("fault,node,fault_at_ms,leave_ms,evict_ms,join_ms,promote_ms\n"));
    assert_eq!(table.lines().count(), 1 + lapses, "{table}");
    assert!(page.contains("<h2>Membership</h2>"));
    for (name, count) in [("leave_ms", 3), ("evict_ms", 2), ("join_ms", 7), ("promote_ms", 7)] {
        assert_eq!(record["metrics"][name]["count"], count, "{name}: {told}");
        let told = told.lines().find(|line| line.trim_start().starts_with(name));
        assert!(told.is_some(), "{name} is not in the table");
    }
    assert_eq!(told_of_members(&record), Some(ALL_BACK));
}

#[test]
fn members_come_and_go_in_the_time_that_wan_takes() {
    let out = tempfile::tempdir().unwrap();
    let words = ["membership-churn", "--world", "sim", "--profile", "wan", "--trials", "1"];
    // Here a member learns in one step what is committed and that it is removed: its machine
    // applies what nobody had looked at.
    let seed = ["--rate", "100", "--seed", "0xf0d581b8ec8ce78f"];
    let (run, told) = kept(&scenarios(&[&words[..], &seed].concat(), out.path()), out.path());
    let record = record(&run);
    for (name, count) in [("leave_ms", 3), ("evict_ms", 2), ("join_ms", 7), ("promote_ms", 7)] {
        assert_eq!(record["metrics"][name]["count"], count, "{name}: {told}");
    }
    assert_eq!(told_of_members(&record), Some(ALL_BACK));
}

/// What is said of who left and who is back.
fn told_of_members(record: &Value) -> Option<&str> {
    let mut checks = record["checks"].as_array()?.iter();
    checks.find(|check| check["name"] == "members")?["detail"].as_str()
}

const ALL_BACK: &str = "3 left, 2 lost their stores; all 5 voted again";

#[test]
fn what_has_no_meaning_in_virtual_time_is_refused_by_field() {
    let out = tempfile::tempdir().unwrap();
    let output = scenarios(&[&SHORT[..], &["--background-load", "1"]].concat(), out.path());
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let told = text(&output.stderr);
    assert!(told.contains("--background-load is 1, but world sim has no host"), "{told}");
    assert!(!out.path().join("runs").exists(), "nothing was begun");
}
