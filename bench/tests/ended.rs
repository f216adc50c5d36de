//! A measurement that is ended before its time: what it leaves, and that it leaves no process.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_measurement_that_is_ended_writes_what_it_has_and_leaves_no_process() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let few = ["--strangers", "8", "--addresses", "4", "--rate", "20", "--seconds", "600"];
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"))
        .arg("strangers")
        .args(few)
        .arg("--out")
        .arg(out.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let told = BufReader::new(bench.stderr.take().expect("it is piped"));
    // The processes that it has started hold this pipe, too: its end is that of the last of them.
    let (tells, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in told.lines() {
            // Who waits may have given up.
            let _ = tells.send(line.expect("they speak UTF-8"));
        }
    });
    let line = loop {
        let line = lines.recv_timeout(BOUND).expect("it comes so far");
        if line.starts_with("committing, left alone") {
            break line;
        }
    };
    // On a slow host a pace stands behind it already.
    assert!(line.contains(" of 240000 commits"), "{line}");
    kill_process(Pid::from_child(&bench), Signal::INT).expect("it is at work");
    let mut rest = String::new();
    loop {
        match lines.recv_timeout(BOUND) {
            Ok(line) => rest.push_str(&line),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("not all processes end: {rest}"),
        }
    }
    assert!(rest.contains("stopping: what was measured is written"), "{rest}");
    assert_eq!(bench.wait().expect("it has ended").code(), Some(2), "{rest}");
    let record = fs::read(out.path().join("runs/latest/run.json")).expect("there is a record");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("it is JSON");
    assert_eq!(record["scenario"], "bench-strangers");
    assert_eq!(record["verdict"], "unknown");
    let checks = record["checks"].as_array().expect("a list");
    let finished = checks.iter().find(|check| check["name"] == "finished");
    assert_eq!(finished.expect("it says that it was ended")["verdict"], "unknown");
    assert!(checks.iter().all(|check| check["name"] != "commit_p99"), "{checks:?}");
}

const BOUND: Duration = Duration::from_secs(60);
