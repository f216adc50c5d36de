//! What goes amiss around a run: a build that takes the program's place, a file that cannot be
//! written. What the run comes to is the same, and is told.

#[path = "model/untroubled.rs"]
mod untroubled;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use untroubled::untroubled;

/// One cluster at a time: a small machine has no room for more.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a program, and does something once that can be told of what it wrote.
fn meanwhile(
    (program, words, out): (&Path, &[&str], &Path),
    when: impl Fn() -> bool,
    act: impl FnOnce(),
) -> Output {
    let mut command = Command::new(program);
    command.args(words).arg("--out").arg(out).stdin(Stdio::null());
    let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let running = running.expect("the program starts");
    let came = (0..POLLS_MAX).any(|_| {
        std::thread::park_timeout(POLL_INTERVAL);
        when()
    });
    act();
    let output = running.wait_with_output().expect("it ends");
    assert!(came, "it did not come so far in time: {output:?}");
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it speaks UTF-8")
}

fn told(output: &Output) -> String {
    text(&output.stdout) + "\n" + &text(&output.stderr)
}

/// The program under a name of its own.
fn named(place: &Path) -> PathBuf {
    let (program, name) = (Path::new(env!("CARGO_BIN_EXE_scenarios")), place.join("scenarios"));
    // Where no second name can be given a copy does as well.
    let given = fs::hard_link(program, &name).or_else(|_| fs::copy(program, &name).map(drop));
    given.expect("the place is free");
    name
}

/// From now on another program has that name, one that only fails.
fn rebuild(name: &Path) {
    let other = name.with_extension("new");
    fs::write(&other, "#!/bin/sh\nexit 1\n").expect("the place is free");
    fs::set_permissions(&other, Permissions::from_mode(0o755)).expect("it is ours");
    fs::rename(&other, name).expect("it takes the name over");
}

fn has_bytes(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|file| file.len() > 0)
}

#[test]
fn nodes_return_as_the_program_that_runs_also_where_another_has_taken_its_place() {
    let _turn = turn();
    let words =
        ["leader-failover", "--nodes", "3", "--trials", "1", "--rate", "200", "--duration", "3s"];
    let (output, _out) = untroubled(|out| {
        let (program, history) = (named(out), out.join("runs/latest/history.jsonl"));
        meanwhile((&program, &words, out), || has_bytes(&history), || rebuild(&program))
    });
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}

#[test]
fn later_seeds_are_run_by_the_program_that_began() {
    let _turn = turn();
    let place = tempfile::tempdir().unwrap();
    let (program, out) = (named(place.path()), place.path().join("out"));
    let words = ["sweep", "formation", "--nodes", "1", "--trials", "1", "--seeds", "3"];
    let is_begun = || {
        let mut sweeps = fs::read_dir(out.join("sweeps/formation")).into_iter().flatten().flatten();
        sweeps.any(|sweep| has_bytes(&sweep.path().join("seeds.jsonl")))
    };
    let output = meanwhile((&program, &words, &out), is_begun, || rebuild(&program));
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(text(&output.stdout).contains("3 seeds: 3 valid"), "{}", told(&output));
}

#[test]
fn what_broke_is_told_also_where_it_can_neither_be_kept_nor_drawn() {
    let _turn = turn();
    let out = tempfile::tempdir().unwrap();
    let plan = out.path().join("hasty.toml");
    let hasty = "scenario = \"hasty\"\nkind = \"failover\"\nnodes = 3\n\
                 [workload]\nrate_per_s = 200\nclients = 5\nduration_ms = 2500\n\
                 [[steps]]\nat = 500\nfault = \"kill\"\nreturn_after_ms = 800\n\
                 [expect]\noutage_ms_max = 0.001\n";
    fs::write(&plan, hasty).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_scenarios"));
    let words = ["run", plan.to_str().expect("a temporary folder has a plain name")];
    let latest = out.path().join("runs/latest");
    // No file can take the place of a folder that holds something.
    let in_the_way = || {
        for file in ["logs.jsonl", "index.html"] {
            fs::create_dir_all(latest.join(file).join("x")).expect("the place is free");
        }
    };
    let output = meanwhile((program, &words, out.path()), || latest.exists(), in_the_way);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let said = text(&output.stdout);
    assert!(said.contains("verdict: invalid"), "{said}");
    assert!(said.lines().last().is_some_and(|last| last.contains("-- run ")), "{said}");
    for file in ["logs.jsonl", "index.html"] {
        assert!(text(&output.stderr).contains(file), "{file} in {}", told(&output));
    }
    let record = fs::read(latest.join("run.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["verdict"], "invalid", "{record}");
}

const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// A minute: on a busy machine a cold start takes its time.
const POLLS_MAX: usize = 6_000;
