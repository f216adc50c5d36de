//! Sweeps through the program, with real nodes: what they write down, that they stop and go on,
//! and that a seed that fails is told with the command that reruns it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// One short seed after the other: a lone node starts.
const SHORT: [&str; 6] = ["sweep", "formation", "--nodes", "1", "--trials", "1"];

fn scenarios(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenarios"));
    command.args(words).stdin(Stdio::null());
    command
}

fn sweep(words: &[&str], out: &Path) -> Output {
    let mut command = scenarios(&SHORT);
    command.args(words).arg("--out").arg(out).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it speaks UTF-8")
}

/// The folder of the only sweep.
fn folder(out: &Path) -> PathBuf {
    let scenario = only(&out.join("sweeps")).expect("a scenario was swept");
    only(&scenario).expect("it was swept once")
}

fn only(folder: &Path) -> Option<PathBuf> {
    let mut found = fs::read_dir(folder).ok()?.map(|entry| entry.expect("readable").path());
    let first = found.next();
    assert_eq!(found.next(), None, "one in {}", folder.display());
    first
}

fn lines(sweep: &Path) -> Vec<Value> {
    let text = fs::read_to_string(sweep.join("seeds.jsonl")).unwrap_or_default();
    // The last may be half written.
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    lines.map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

#[test]
fn valid_seeds_leave_a_line_each_and_no_folder() {
    let out = tempfile::tempdir().unwrap();
    let output = sweep(&["--seeds", "2", "--seed", "0x2a", "--json"], out.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let record: Value = serde_json::from_slice(&output.stdout).unwrap();
    let folder = folder(out.path());
    let kept = fs::read(folder.join("sweep.json")).unwrap();
    assert_eq!(record, serde_json::from_slice::<Value>(&kept).unwrap());
    assert_eq!((&record["seed"], &record["world"]), (&"0x2a".into(), &"process".into()));
    let totals = &record["totals"];
    assert_eq!((&totals["seeds"], &totals["valid"]), (&2.into(), &2.into()), "{totals}");
    assert!(totals["complete"] == true && totals["wall_s"].as_f64() > Some(0.0), "{totals}");

    let lines = lines(&folder);
    assert_eq!(lines.len(), 2);
    assert_ne!(lines[0]["seed"], lines[1]["seed"]);
    for line in &lines {
        assert_eq!((&line["verdict"], &line["exit_code"]), (&"valid".into(), &0.into()), "{line}");
        assert_eq!((&line["folder"], &line["trace_hash"]), (&Value::Null, &Value::Null));
    }
    assert_eq!(only(&folder.join("runs")), None, "what was valid is not kept");
}

#[test]
fn a_seed_that_fails_is_kept_and_told_with_the_command_that_reruns_it() {
    let out = tempfile::tempdir().unwrap();
    let plan = out.path().join("hasty.toml");
    let hasty = "scenario = \"hasty\"\nkind = \"formation\"\nnodes = 1\n[expect]\n\
                 forming_ms_max = 0.001\n";
    fs::write(&plan, hasty).unwrap();
    let words = ["sweep", plan.to_str().unwrap(), "--seeds", "1", "--jobs", "2", "--out"];
    let output = scenarios(&words).arg(out.path()).output().unwrap();
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(told.contains("1 seeds: 0 valid, 1 invalid, 0 unknown"), "{told}");
    assert!(told.contains("1 x invalid: expect.forming_ms_max; first seed 0x"), "{told}");
    let folder = folder(out.path());
    let line = &lines(&folder)[0];
    let command = format!("run {} --seed {}", plan.display(), line["seed"].as_str().unwrap());
    assert!(told.lines().last().unwrap().ends_with(&command), "{command:?} in {told}");
    assert!(text(&output.stderr).contains(&command), "it is told as soon as it is known");

    let run = folder.join(line["folder"].as_str().unwrap());
    let record = fs::read(run.join("run.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["verdict"], "invalid");
    assert!(run.join("index.html").exists() && run.join("nodes/1.log").exists());
}

#[test]
fn a_seed_that_takes_too_long_is_ended_and_the_laboratorys_failure() {
    let out = tempfile::tempdir().unwrap();
    let output = sweep(&["--seeds", "1", "--bound", "1ms"], out.path());
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(told.contains("it took longer than 0.001 s (--bound) and was ended"), "{told}");
    assert!(told.lines().last().unwrap().contains("-- formation --nodes 1 --trials 1 --seed 0x"));
    assert_eq!(lines(&folder(out.path()))[0]["exit_code"], 3);
}

#[test]
fn an_interrupted_sweep_says_how_to_go_on_and_goes_on() {
    let out = tempfile::tempdir().unwrap();
    let mut command = scenarios(&SHORT);
    command.args(["--seeds", "100000"]).arg("--out").arg(out.path());
    let sweep = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let begun = have_come(1, out.path());
    let pid = i32::try_from(sweep.id()).expect("process numbers fit");
    kill(Pid::from_raw(pid), Signal::SIGINT).expect("it is at work");
    let output = sweep.wait_with_output().unwrap();
    assert!(begun, "no seed was done in time: {output:?}");
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{told}");

    let folder = folder(out.path());
    let resume = format!("-- sweep --resume {}", folder.display());
    assert!(told.lines().last().unwrap().ends_with(&resume), "{told}");
    assert_eq!(only(&folder.join("runs")), None, "what was broken off leaves nothing");
    let done = lines(&folder);
    let seeds = (done.len() + 1).to_string();
    let words = ["sweep", "--resume", folder.to_str().unwrap(), "--seeds", &seeds];
    let output = scenarios(&words).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lines = lines(&folder);
    assert_eq!(lines[..done.len()], done, "what was done stays");
    let numbers: Vec<_> = lines.iter().map(|line| line["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..=done.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_killed_sweep_that_goes_on_has_been_at_work_as_long_as_its_seeds() {
    let out = tempfile::tempdir().unwrap();
    let mut command = scenarios(&SHORT);
    command.args(["--seeds", "100000"]).arg("--out").arg(out.path());
    let mut sweep = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = have_come(3, out.path());
    sweep.kill().expect("it is at work");
    sweep.wait().expect("it has ended");
    assert!(begun, "three seeds were not done in time");

    let folder = folder(out.path());
    // The seed that it was about ends with it, but a moment later.
    let is_alone = (0..POLLS_MAX).any(|_| {
        std::thread::park_timeout(POLL_INTERVAL);
        !is_named_by_a_process(&folder)
    });
    assert!(is_alone, "a seed outlived its sweep");
    let seeds = (lines(&folder).len() + 1).to_string();
    let words = ["sweep", "--resume", folder.to_str().unwrap(), "--seeds", &seeds, "--json"];
    let output = scenarios(&words).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let record: Value = serde_json::from_slice(&output.stdout).unwrap();
    let figure = |name: &str| record["totals"][name].as_f64().expect("it is a number");
    // One seed at a time: the sweep takes no less than they do, but for what files round off.
    assert!(figure("wall_s") >= 0.999 * figure("runs_wall_s"), "{record}");
    let per_hour = figure("seeds") * 3_600.0 / figure("runs_wall_s");
    assert!(figure("seeds_per_hour") <= 1.001 * per_hour, "{record}");
}

#[test]
fn a_sweep_that_judged_nothing_is_unknown_and_says_how_to_go_on() {
    let out = tempfile::tempdir().unwrap();
    let output = sweep(&["--seeds", "1"], out.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // As one leaves it that was killed before its first seed was done, at the end of its time.
    let folder = folder(out.path());
    let file = folder.join("sweep.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    record["seeds_max"] = Value::Null;
    record["minutes_max"] = 1.into();
    record["totals"]["seeds"] = 0.into();
    record["totals"]["wall_s"] = 61.into();
    fs::write(&file, record.to_string()).unwrap();
    fs::write(folder.join("seeds.jsonl"), "").unwrap();

    let words = ["sweep", "--resume", folder.to_str().unwrap()];
    let output = scenarios(&words).output().unwrap();
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(told.contains("0 seeds: 0 valid"), "{told}");
    let resume = format!("-- sweep --resume {}", folder.display());
    assert!(told.lines().last().unwrap().ends_with(&resume), "{told}");
}

fn is_named_by_a_process(folder: &Path) -> bool {
    let folder = folder.to_str().expect("UTF-8");
    let mut processes = fs::read_dir("/proc").expect("Linux has it").flatten();
    processes.any(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(folder)
    })
}

/// Whether so many seeds of the only sweep are done in time.
fn have_come(count: usize, out: &Path) -> bool {
    let sweep = || only(&out.join("sweeps")).and_then(|scenario| only(&scenario));
    (0..POLLS_MAX).any(|_| {
        std::thread::park_timeout(POLL_INTERVAL);
        sweep().is_some_and(|sweep| lines(&sweep).len() >= count)
    })
}

const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// A minute: on a busy machine a cold start takes its time.
const POLLS_MAX: usize = 3_000;
