//! Whole runs through the program, with real nodes: what they leave behind, and that nothing of
//! them is left running.

#[path = "model/untroubled.rs"]
mod untroubled;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use untroubled::untroubled;

/// One cluster at a time: a small machine has no room for four.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn scenarios(words: &[&str], out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenarios"));
    command.args(words).arg("--out").arg(out).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it speaks UTF-8")
}

fn check(run: &Path) -> Output {
    of_run("check", run)
}

fn of_run(command: &str, run: &Path) -> Output {
    let mut scenarios = Command::new(env!("CARGO_BIN_EXE_scenarios"));
    scenarios.arg(command).arg(run).output().expect("the program starts")
}

/// Waits for a condition, with a bound.
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..POLLS_MAX {
        if holds() {
            return;
        }
        std::thread::park_timeout(POLL_INTERVAL);
    }
    panic!("waited in vain for {what}");
}

/// Nodes that a harness started and that have not ended. The command line of a process that only
/// waits to be reaped is empty.
fn nodes_of(harness: u32) -> Vec<Pid> {
    let is_node = |pid: &Pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.ends_with(format!("\0node\0--parent\0{harness}\0").as_bytes())
    };
    let entries = fs::read_dir("/proc").expect("Linux has it").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(Pid::from_raw).filter(is_node).collect()
}

/// A harness in mid-run.
struct Running {
    harness: Child,
    out: tempfile::TempDir,
}

impl Running {
    /// Starts a long run and waits until its clients are being answered.
    fn start() -> Self {
        let out = tempfile::tempdir().expect("a temporary folder");
        let words = ["steady", "--nodes", "3", "--rate", "100", "--duration", "10m"];
        let mut command = scenarios(&words, out.path());
        let harness = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let running = Self { harness: harness.expect("the program starts"), out };
        let history = running.folder().join("history.jsonl");
        wait_for("answers", || fs::metadata(&history).is_ok_and(|file| file.len() > 0));
        assert_eq!(nodes_of(running.harness.id()).len(), 3);
        running
    }

    fn folder(&self) -> PathBuf {
        self.out.path().join("runs").join("latest")
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.harness.id()).expect("process numbers fit");
        kill(Pid::from_raw(pid), signal).expect("the harness is there");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed half-way must not leave a run behind; a harness that has ended is
        // no longer there to be killed.
        let _ = self.harness.kill();
        let _ = self.harness.wait();
    }
}

#[test]
fn a_failover_run_is_valid_and_leaves_its_folder() {
    let _turn = turn();
    let words = [
        "leader-failover",
        "--nodes",
        "3",
        "--trials",
        "2",
        "--rate",
        "200",
        "--duration",
        "3s",
        "--seed",
        "0x2a",
        "--json",
    ];
    let (output, out) = untroubled(|out| scenarios(&words, out).output().unwrap());
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}\n{}", text(&output.stdout));

    let folder = out.path().join("runs").join("latest");
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let kept = fs::read(folder.join("run.json")).unwrap();
    assert_eq!(record, serde_json::from_slice::<serde_json::Value>(&kept).unwrap());
    assert_eq!((&record["verdict"], &record["seed"]), (&"valid".into(), &SEED.into()));
    assert_eq!(record["trials"].as_array().unwrap().len(), 2);
    for trial in record["trials"].as_array().unwrap() {
        assert!(trial["outage_ms"].as_f64().unwrap() > 0.0, "{trial}");
        assert!(trial["rejoin_ms"].is_f64() && trial["term_after"].is_u64(), "{trial}");
    }
    for file in FILES {
        let found = fs::metadata(folder.join(file));
        assert!(found.as_ref().is_ok_and(|found| found.len() > 0), "{file}: {found:?}");
    }
    let lines = fs::read_to_string(folder.join("history.jsonl")).unwrap().lines().count();
    assert_eq!(record["counts"]["operations_offered"], lines);
    let page = fs::read_to_string(folder.join("index.html")).unwrap();
    for words in ["Everything that was promised held.", "2 trials: too few", "kill of node "] {
        assert!(page.contains(words), "{words:?}");
    }
    let faults = record["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 2, "{record}");
    for fault in faults {
        assert!(fault["returned_ms"].as_f64() > fault["struck_ms"].as_f64(), "{fault}");
        let down = format!("down: {:.3} s to ", fault["struck_ms"].as_f64().unwrap() / 1e3);
        assert!(page.contains(&down), "{down}: what was killed is down until it is back");
    }

    let again = check(&folder);
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert!(text(&again.stdout).contains("verdict: valid"), "{again:?}");
    // What is judged again says the same; what is not is named.
    for check in record["checks"].as_array().unwrap() {
        let (name, detail) = (check["name"].as_str().unwrap(), check["detail"].as_str().unwrap());
        let recorded = text(&again.stdout).contains(&format!("as recorded: {detail}"));
        let stays = !["linearizable", "session order", "availability", "elections"].contains(&name);
        assert!(stays || !recorded, "{name}: {again:?}");
    }
    let told = "not judged again, for want of files: formed, rejoined, liveness";
    assert!(text(&again.stdout).contains(told), "{again:?}");
}

#[test]
fn groups_form_again_and_again() {
    let _turn = turn();
    let out = tempfile::tempdir().unwrap();
    let output = scenarios(&["formation", "--trials", "3"], out.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let folder = out.path().join("runs").join("latest");
    let record = fs::read(folder.join("run.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["metrics"]["forming_ms"]["count"], 3, "{record}");
    let marks = record["marks"].as_array().unwrap();
    let forming = marks.iter().filter(|mark| mark["kind"] == "forming");
    assert_eq!(forming.filter(|mark| mark["until_ms"].is_f64()).count(), 3, "{record}");
    let page = fs::read_to_string(folder.join("index.html")).unwrap();
    assert!(page.contains("from the start of the first node"), "its own distribution");
    assert!(page.contains("a plan of kind formation has no clients"), "why there is no latency");
    for plot in ["latency.svg", "outage.svg"] {
        assert!(!folder.join(plot).exists(), "{plot} would be empty");
    }
    assert_eq!(check(&folder).status.code(), Some(0));
}

#[test]
fn a_run_is_done_again_as_its_record_says() {
    let _turn = turn();
    let out = tempfile::tempdir().unwrap();
    let words = ["formation", "--nodes", "1", "--trials", "2", "--seed", "0x2a"];
    assert_eq!(scenarios(&words, out.path()).output().unwrap().status.code(), Some(0));
    let latest = out.path().join("runs").join("latest");
    let record = || -> serde_json::Value {
        serde_json::from_slice(&fs::read(latest.join("run.json")).unwrap()).unwrap()
    };
    let (earlier, place) = (record(), fs::read_link(&latest).unwrap());
    let again = scenarios(&["replay", latest.to_str().unwrap()], out.path()).output().unwrap();
    let told = text(&again.stdout);
    assert_eq!(again.status.code(), Some(0), "{told}\n{}", text(&again.stderr));
    assert!(told.contains("the verdict is valid again; in world process wall time"), "{told}");
    assert_ne!(fs::read_link(&latest).unwrap(), place, "it has a folder of its own");
    for field in ["plan", "seed", "world", "transport"] {
        assert_eq!(record()[field], earlier[field], "{field}");
    }
}

#[test]
fn no_node_outlives_a_killed_harness() {
    let _turn = turn();
    let mut running = Running::start();
    running.signal(Signal::SIGKILL);
    running.harness.wait().unwrap();
    let pid = running.harness.id();
    wait_for("the last node to end", || nodes_of(pid).is_empty());

    // What was seen until then can be judged, but never as valid.
    let again = check(&running.folder());
    assert_eq!(again.status.code(), Some(2), "{again:?}");
}

#[test]
fn a_killed_harness_leaves_a_folder_that_can_be_read_and_judged() {
    let _turn = turn();
    let mut running = Running::start();
    let folder = running.folder();
    // The series are saved every few seconds; an interval in the last of them says that one save
    // took place.
    let intervals = || {
        let log = fs::read(folder.join("latency.hlog")).unwrap_or_default();
        let entries = IntervalLogIterator::new(&log).map(|entry| entry.expect("it can be parsed"));
        entries.filter(|entry| matches!(entry, LogEntry::Interval(_))).count()
    };
    wait_for("intervals", || intervals() > 0);
    running.signal(Signal::SIGKILL);
    running.harness.wait().unwrap();

    let rows = |file: &str| -> Vec<csv::StringRecord> {
        let read = csv::Reader::from_path(folder.join(file)).unwrap();
        read.into_records().map(Result::unwrap).collect()
    };
    let seconds = rows("latency.csv");
    assert!(!seconds.is_empty() && !rows("throughput.csv").is_empty());
    assert_eq!(intervals(), seconds.len(), "both tell of each second and kind");
    let schedule = fs::read_to_string(folder.join("schedule.toml")).unwrap();
    assert!(schedule.parse::<toml::Table>().unwrap()["seed"].is_str(), "{schedule}");
    let record = fs::read(folder.join("run.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert!(record["counts"]["operations_ok"].as_u64() > Some(0), "{record}");
    assert_eq!(record["verdict"], "unknown");

    // There is no page yet, and the way to one is told.
    let open = || of_run("open", &folder);
    let opened = open();
    assert_eq!(opened.status.code(), Some(3), "{opened:?}");
    assert!(text(&opened.stderr).contains("has no index.html"), "{opened:?}");
    let again = check(&folder);
    assert_eq!(again.status.code(), Some(2), "{again:?}");
    let opened = open();
    assert_eq!(opened.status.code(), Some(0), "{opened:?}");
    assert!(text(&opened.stdout).ends_with("/index.html\n"), "{opened:?}");
    let page = fs::read_to_string(folder.join("index.html")).unwrap();
    for words in ["did not come to its end", "Latency by percentile", "leader in term 1: "] {
        assert!(page.contains(words), "{words:?}");
    }
    // How far apart columns stand is not of interest.
    let told = text(&again.stdout);
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in ["or its harness was killed", "linearizable valid", "log of node 1 is missing"] {
        assert!(told.contains(words), "{words:?} in {told}");
    }
    // All that was seen is counted, also what was answered after the record was saved.
    let history = fs::read_to_string(folder.join("history.jsonl")).unwrap();
    let counted = format!("fail unknown operations {} ", history.lines().count());
    assert!(told.contains(&counted), "{counted:?} in {told}");
}

#[test]
fn a_run_that_tested_too_little_is_an_error_and_no_pass() {
    let _turn = turn();
    let out = tempfile::tempdir().unwrap();
    let plan = out.path().join("lonely.toml");
    let text_of_plan = "scenario = \"lonely\"\nkind = \"steady\"\nnodes = 1\n[workload]\n\
                        rate_per_s = 20\nburst = 1\nclients = 1\nduration_ms = 1000\n";
    fs::write(&plan, text_of_plan).unwrap();
    let output = scenarios(&["run", plan.to_str().unwrap()], out.path()).output().unwrap();
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{told}\n{}", text(&output.stderr));
    for words in ["at least 2.00 are needed", "raise workload.burst", "too little to be judged"] {
        assert!(told.contains(words), "{words:?} in {told}");
    }
    assert!(told.lines().last().unwrap().contains("-- run"), "how to repeat it: {told}");

    let folder = out.path().join("runs").join("latest");
    for file in FILES.iter().filter(|file| !file.starts_with("nodes/")) {
        // Load alone has no outages, so they are not drawn.
        assert_eq!(folder.join(file).exists(), !file.starts_with("outage."), "{file}");
    }
    let page = fs::read_to_string(folder.join("index.html")).unwrap();
    assert!(page.contains("a plan of kind steady is load alone"), "why there is no outage");
    let record = fs::read(folder.join("run.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["verdict"], "unknown", "{record}");
    assert_eq!(check(&folder).status.code(), Some(3));
}

#[test]
fn no_stopped_node_outlives_a_killed_harness() {
    let _turn = turn();
    let mut running = Running::start();
    let pid = running.harness.id();
    for node in nodes_of(pid) {
        kill(node, Signal::SIGSTOP).unwrap();
    }
    running.signal(Signal::SIGKILL);
    running.harness.wait().unwrap();
    wait_for("the last node to end", || nodes_of(pid).is_empty());
}

#[test]
fn an_interrupted_run_is_checked_and_written_and_says_how_to_repeat_it() {
    let _turn = turn();
    let mut running = Running::start();
    running.signal(Signal::SIGINT);
    let mut stdout = running.harness.stdout.take().unwrap();
    let mut told = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut told).unwrap();
    assert_eq!(running.harness.wait().unwrap().code(), Some(2), "{told}");
    assert!(nodes_of(running.harness.id()).is_empty());

    let last = told.lines().last().unwrap();
    assert!(last.contains("-p scenarios -- steady --nodes 3"), "{told}");
    assert!(last.contains(" --seed 0x"), "{told}");
    let page = fs::read_to_string(running.folder().join("index.html")).unwrap();
    assert!(page.contains(last), "the page tells it, too: {told}");
    assert!(page.contains("Not decided: ") && page.contains("finished"), "{told}");
    let record = fs::read(running.folder().join("run.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["verdict"], "unknown");
    let checks = record["checks"].as_array().unwrap();
    let verdict = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap();
    assert_eq!(verdict("linearizable")["verdict"], "valid", "{record}");
    assert_eq!(verdict("finished")["verdict"], "unknown", "{record}");
}

#[test]
fn a_wish_to_end_that_comes_twice_at_once_is_one() {
    let _turn = turn();
    let mut running = Running::start();
    // Of two that are the same the kernel may make one; never of two that differ.
    for signal in [Signal::SIGTERM, Signal::SIGTERM, Signal::SIGINT] {
        running.signal(signal);
    }
    let mut stdout = running.harness.stdout.take().unwrap();
    let mut told = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut told).unwrap();
    assert_eq!(running.harness.wait().unwrap().code(), Some(2), "{told}");
    assert!(running.folder().join("index.html").exists(), "{told}");
    assert!(told.lines().last().unwrap().contains(" --seed 0x"), "{told}");
}

const SEED: &str = "0x000000000000002a";
const FILES: [&str; 18] = [
    "index.html",
    "run.json",
    "history.jsonl",
    "events.jsonl",
    "trace.json",
    "logs.jsonl",
    "schedule.toml",
    "latency.csv",
    "throughput.csv",
    "latency.hlog",
    "latency.svg",
    "latency.png",
    "latency-dark.png",
    "outage.svg",
    "outage.png",
    "nodes/1.log",
    "nodes/2.log",
    "nodes/3.log",
];
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// A minute: on a busy machine a cold start takes its time.
const POLLS_MAX: usize = 3_000;
