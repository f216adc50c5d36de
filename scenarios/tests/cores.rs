//! Runs of cores alone through the program: quick, exact, and the same in every process.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn scenarios(words: &str, out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenarios"));
    command.args(words.split(' ')).arg("--out").arg(out).stdin(Stdio::null());
    command.output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it speaks UTF-8")
}

fn told(output: &Output) -> String {
    text(&output.stdout) + "\n" + &text(&output.stderr)
}

const SHORT: &str = "leader-failover --world swarm --trials 2 --rate 100 --duration 3s";

#[test]
fn a_run_is_replayed_to_the_last_bit() {
    let out = tempfile::tempdir().unwrap();
    let output = scenarios(&format!("{SHORT} --seed 0x2a"), out.path());
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let first = fs::canonicalize(out.path().join("runs/latest")).unwrap();
    let record = fs::read(first.join("run.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let trace = record["trace_hash"].as_str().expect("it has one");
    assert_eq!((&record["world"], &record["verdict"]), (&"swarm".into(), &"valid".into()));
    assert_eq!(record["trials"].as_array().unwrap().len(), 2, "{record}");
    for words in ["world swarm, ", "virtual time: no figure", &format!("trace: {trace}")] {
        assert!(told(&output).contains(words), "{words:?} in {}", told(&output));
    }

    let again = scenarios(&format!("replay {}", first.display()), out.path());
    assert_eq!(again.status.code(), Some(0), "{}", told(&again));
    let repeated = format!("repeated: the verdict is valid again, and the trace is {trace} again");
    assert!(told(&again).contains(&repeated), "{}", told(&again));

    // Judged again from its files alone it is what it was.
    let mut check = Command::new(env!("CARGO_BIN_EXE_scenarios"));
    let judged = check.arg("check").arg(&first).output().unwrap();
    assert_eq!(judged.status.code(), Some(0), "{}", told(&judged));
}

#[test]
fn every_seed_is_the_same_run_in_two_processes() {
    let out = tempfile::tempdir().unwrap();
    let output = scenarios(&format!("sweep {SHORT} --seeds 3 --check-twice 1 --json"), out.path());
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let sweep: Value = serde_json::from_slice(&output.stdout).unwrap();
    let totals = &sweep["totals"];
    assert_eq!((&totals["valid"], &totals["twice"]), (&3.into(), &3.into()), "{totals}");
    assert_eq!(totals["diverged"], 0, "{totals}");
    assert!(totals["simulated_s"].as_f64() > Some(3.0 * 2.0 * 6.0), "{totals}");
}

#[test]
fn a_load_too_sparse_to_show_an_outage_is_told_at_the_start_and_in_the_report() {
    let out = tempfile::tempdir().unwrap();
    let sparse = SHORT.replace("--rate 100", "--rate 10 --seed 7");
    let output = scenarios(&sparse, out.path());
    let warned = "due 5 at a time, every 500 ms on average";
    assert!(text(&output.stderr).contains(warned), "{}", told(&output));
    let page = out.path().join("runs/latest/index.html");
    assert!(fs::read_to_string(page).unwrap().contains(warned), "{}", told(&output));
    let output = scenarios(&format!("{SHORT} --seed 7"), out.path());
    assert!(!told(&output).contains("cannot be told from gaps"), "{}", told(&output));
}

#[test]
fn what_cores_alone_cannot_do_is_refused_by_field() {
    let out = tempfile::tempdir().unwrap();
    for (words, expected) in [
        ("formation --world swarm", "kind is formation, but world swarm has no processes"),
        ("steady --world swarm --background-load 1", "--background-load is 1, but world swarm"),
        (
            "membership-churn --world swarm",
            "evict_after_ms is 3000, but world swarm has no steward",
        ),
        ("leader-failover --world swarm --fault wipe", "wipe, but world swarm has no steward"),
        ("membership-churn --nodes 3", "of 3 nodes none is ever evicted, since 3 voters are kept"),
        ("membership-churn --nodes 4", "4 nodes can spare 1"),
        ("steady --world swarm --trace", "--trace is for world sim"),
    ] {
        let output = scenarios(words, out.path());
        assert_eq!(output.status.code(), Some(3), "{words}: {output:?}");
        assert!(text(&output.stderr).contains(expected), "{words}: {}", told(&output));
    }
    assert!(!out.path().join("runs").exists(), "nothing was begun");
}
