//! What the suites consist of: the table of contents of `cargo ci`.
//!
//! `check` uses nothing but the toolchain and what is already installed; `nightly` installs
//! what it lacks. Cheap steps stand first.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};

use crate::{
    embed, imports, readme,
    step::{Outcome, Step, clean, command, start},
};

/// Everything a change must pass.
pub(crate) fn check() -> Vec<Step> {
    vec![
        Step { name: "fmt", about: "cargo fmt --all --check", run: fmt },
        Step { name: "imports", about: "the tree keeps the rules of ARCHITECTURE.md", run: rules },
        Step {
            name: "clippy",
            about: "cargo clippy --workspace --all-targets --locked -- -D warnings",
            run: clippy,
        },
        Step { name: "doc", about: "cargo doc of what is embedded, without a warning", run: doc },
        Step { name: "tests", about: "the README's test command", run: tests },
        Step { name: "deny", about: DENY_ABOUT, run: deny_if_installed },
    ]
}

/// What takes too long for every change.
pub(crate) fn nightly() -> Vec<Step> {
    vec![
        Step { name: "deny", about: DENY_ABOUT, run: deny_installed },
        Step { name: "fuzz", about: "a million inputs of garbage for each target", run: fuzz },
        Step { name: "guided", about: GUIDED_ABOUT, run: guided },
        Step { name: "crash", about: CRASH_ABOUT, run: crash },
        Step { name: "swarm", about: "ten million random steps of the core", run: swarm },
        Step { name: "mutants", about: MUTANTS_ABOUT, run: mutants_in_swarm },
        Step { name: "runtime-mutants", about: RUNTIME_MUTANTS_ABOUT, run: mutants_in_runtime },
        Step { name: "plans", about: PLANS_ABOUT, run: sweep_in_swarm },
        Step { name: "sim", about: SIM_ABOUT, run: sweep_in_sim },
        Step { name: "churn", about: CHURN_ABOUT, run: sweep_of_churn },
        Step { name: "flags", about: "a user's RUSTFLAGS leave all but the simulator", run: flags },
        Step { name: "failover", about: "leader-failover, 100 trials, release", run: failover },
        Step { name: "benches", about: "the criterion benches, core to member", run: benches },
        Step { name: "peers", about: "the workspace of its own beside others builds", run: peers },
        Step { name: "run", about: "the README's first command", run: first_command },
        Step {
            name: "embed",
            about: "`runtime`'s example in a crate outside this workspace, and those within",
            run: embedded,
        },
    ]
}

/// One step for each world that has planted faults to catch.
pub(crate) fn mutants() -> Vec<Step> {
    vec![
        Step { name: "swarm", about: MUTANTS_ABOUT, run: mutants_in_swarm },
        Step { name: "runtime", about: RUNTIME_MUTANTS_ABOUT, run: mutants_in_runtime },
    ]
}

fn fmt(root: &Path) -> anyhow::Result<Outcome> {
    program(root, &["cargo", "fmt", "--all", "--check"])
}

fn rules(root: &Path) -> anyhow::Result<Outcome> {
    let report = imports::check(root)?;
    for violation in &report.violations {
        println!("{violation}");
    }
    println!("{}", report.summary);
    if !report.violations.is_empty() {
        bail!("{} violations", report.violations.len());
    }
    Ok(Outcome::Passed)
}

fn clippy(root: &Path) -> anyhow::Result<Outcome> {
    let words = "cargo clippy --workspace --all-targets --locked -- -D warnings";
    program(root, &words.split(' ').collect::<Vec<_>>())
}

fn doc(root: &Path) -> anyhow::Result<Outcome> {
    let words = "cargo doc --locked --no-deps -p runtime -p tessera-raft";
    let mut doc = command(root, &words.split(' ').collect::<Vec<_>>());
    start(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Outcome::Passed)
}

fn tests(root: &Path) -> anyhow::Result<Outcome> {
    shell(root, &readme::command(root, readme::TEST)?)
}

fn first_command(root: &Path) -> anyhow::Result<Outcome> {
    shell(root, &readme::command(root, readme::RUN)?)
}

fn deny_if_installed(root: &Path) -> anyhow::Result<Outcome> {
    if deny_version(root).is_none() {
        let why = format!("cargo-deny is not installed (cargo install {DENY} --locked)");
        return Ok(Outcome::Skipped(why));
    }
    deny(root)
}

fn deny_installed(root: &Path) -> anyhow::Result<Outcome> {
    if deny_version(root).as_deref() != Some(DENY_VERSION) {
        let install = ["cargo", "install", "cargo-deny", "--locked", "--version", DENY_VERSION];
        start(&mut command(root, &install))?;
    }
    deny(root)
}

fn deny(root: &Path) -> anyhow::Result<Outcome> {
    program(root, &["cargo", "deny", "--locked", "check", "bans", "licenses", "sources"])
}

/// The version of the installed cargo-deny, if one answers at all.
fn deny_version(root: &Path) -> Option<String> {
    let mut ask = command(root, &["cargo", "deny", "--version"]);
    let output = clean(&mut ask).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.split_whitespace().last().map(str::to_owned))?
}

/// The same targets that `tests` throws a few inputs at.
fn fuzz(root: &Path) -> anyhow::Result<Outcome> {
    for target in GARBAGE {
        let words = format!("cargo test --release --locked {target} garbage -- --nocapture");
        let mut fuzz = command(root, &words.split(' ').collect::<Vec<_>>());
        start(fuzz.env("FUZZ_INPUTS", "1000000"))?;
    }
    Ok(Outcome::Passed)
}

/// The same targets, each for five minutes, in a build that counts coverage for libFuzzer.
fn guided(root: &Path) -> anyhow::Result<Outcome> {
    let mut ask = command(root, &["c++", "--version"]);
    if !clean(&mut ask).output().is_ok_and(|output| output.status.success()) {
        return Ok(Outcome::Skipped("no `c++` here, and libFuzzer is built with one".into()));
    }
    for target in GARBAGE {
        // With a target named, build scripts are built without the counters that they could not
        // link.
        let build = "--locked --target host-tuple --target-dir target/guided";
        let words = format!("cargo test {build} {target} garbage -- --nocapture --test-threads 1");
        let mut guided = command(root, &words.split(' ').collect::<Vec<_>>());
        start(guided.env("RUSTFLAGS", COUNTERS).env("FUZZ_SECONDS", "300"))?;
    }
    Ok(Outcome::Passed)
}

/// The same lives that `tests` cuts at a sample of their steps.
fn crash(root: &Path) -> anyhow::Result<Outcome> {
    let words = "cargo test --release --locked -p runtime --lib crash::drawn -- --nocapture";
    let mut crash = command(root, &words.split(' ').collect::<Vec<_>>());
    start(crash.env("CRASH_LIVES", "40"))?;
    Ok(Outcome::Passed)
}

fn swarm(root: &Path) -> anyhow::Result<Outcome> {
    let words = "cargo test --release --locked -p chaos --test swarm -- --steps 10000000";
    program(root, &words.split(' ').collect::<Vec<_>>())
}

fn mutants_in_swarm(root: &Path) -> anyhow::Result<Outcome> {
    let words = "cargo test --release --locked -p chaos --test swarm -- --mutants";
    program(root, &words.split(' ').collect::<Vec<_>>())
}

fn mutants_in_runtime(root: &Path) -> anyhow::Result<Outcome> {
    let words = "cargo test --release --locked -p chaos --features sim,planted-faults \
                 --test mutants";
    program(root, &words.split(' ').collect::<Vec<_>>())
}

fn sweep_in_swarm(root: &Path) -> anyhow::Result<Outcome> {
    let what = "leader-failover --random-faults --world swarm --trials 1 --duration 60s --rate 50";
    sweep(root, &format!("{what} --seeds 10000"))
}

fn sweep_in_sim(root: &Path) -> anyhow::Result<Outcome> {
    let what = "leader-failover --random-faults --world sim --trials 1 --duration 60s --rate 50";
    sweep(root, &format!("{what} --seeds 1000 --check-twice 1"))
}

fn sweep_of_churn(root: &Path) -> anyhow::Result<Outcome> {
    let what = "membership-churn --random-faults --world sim --trials 1 --rate 50";
    sweep(root, &format!("{what} --seeds 1000 --check-twice 10"))
}

/// Bounded twice: on two cores the seeds take less than the hour.
fn sweep(root: &Path, what: &str) -> anyhow::Result<Outcome> {
    let words = format!(
        "cargo run --release --locked -p scenarios -- sweep {what} --minutes 60 --out target"
    );
    program(root, &words.split(' ').collect::<Vec<_>>())
}

/// Flags of a user's replace those of the workspace: the simulator must say what it lacks.
fn flags(root: &Path) -> anyhow::Result<Outcome> {
    let words = "cargo run --locked -p scenarios -- steady --world sim";
    let mut ask = command(root, &words.split(' ').collect::<Vec<_>>());
    let ask = clean(&mut ask).env("RUSTFLAGS", "-D warnings").stdin(Stdio::null());
    let output = ask.output().context("cannot start `cargo`")?;
    let told = String::from_utf8_lossy(&output.stderr);
    let is_refused = output.status.code() == Some(3) && told.contains("--cfg tokio_unstable");
    ensure!(is_refused, "it ended with {} and told:\n{told}", output.status);
    Ok(Outcome::Passed)
}

fn failover(root: &Path) -> anyhow::Result<Outcome> {
    let words = "cargo run --release --locked -p scenarios -- leader-failover --trials 100";
    program(root, &words.split(' ').collect::<Vec<_>>())
}

/// Says what changed since the last time on this machine; a figure fails nothing.
fn benches(root: &Path) -> anyhow::Result<Outcome> {
    let words = "cargo bench --locked -p tessera-raft -p runtime -p bench --bench *";
    program(root, &words.split(' ').collect::<Vec<_>>())
}

/// No other build sees it, though it uses what this workspace has.
fn peers(root: &Path) -> anyhow::Result<Outcome> {
    let words = "cargo check --locked --manifest-path bench/peers/Cargo.toml";
    program(root, &words.split(' ').collect::<Vec<_>>())
}

/// Builds and runs `runtime` as a stranger would: no lock file, no configuration and no flags of
/// ours. And then the examples that a stranger is shown, as the README has them run.
fn embedded(root: &Path) -> anyhow::Result<Outcome> {
    let outside = tempfile::tempdir().context("cannot make a temporary directory")?;
    let runtime = root.join("runtime");
    let runtime = runtime.to_str().context("the workspace's path is not UTF-8")?;
    let page = fs::read_to_string(root.join("runtime/src/lib.rs")).context("runtime's page")?;
    let source = embed::example(&page).context("runtime/src/lib.rs")?;
    fs::write(outside.path().join("Cargo.toml"), embed::manifest(runtime))?;
    fs::create_dir(outside.path().join("src"))?;
    fs::write(outside.path().join("src/main.rs"), source)?;

    let mut run = Command::new("cargo");
    run.arg("run").current_dir(outside.path());
    for flags in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"] {
        run.env_remove(flags);
    }
    run.env("CARGO_TARGET_DIR", outside.path().join("target"));
    start(&mut run)?;
    for example in EXAMPLES {
        program(root, &["cargo", "run", "--locked", "-p", "runtime", "--example", example])?;
    }
    Ok(Outcome::Passed)
}

fn program(root: &Path, words: &[&str]) -> anyhow::Result<Outcome> {
    start(&mut command(root, words))?;
    Ok(Outcome::Passed)
}

fn shell(root: &Path, script: &str) -> anyhow::Result<Outcome> {
    print!("{script}");
    program(root, &["sh", "-e", "-c", script])
}

/// Where the targets of garbage are.
const GARBAGE: [&str; 3] = ["-p runtime --lib", "-p chaos --test garbage", "-p scenarios --bins"];
const GUIDED_ABOUT: &str = "coverage-guided garbage, five minutes for each target";
/// In place of those of the workspace, whose one word is among them: what libFuzzer calls for.
const COUNTERS: &str = "--cfg tokio_unstable --cfg fuzzing_libfuzzer -Cpasses=sancov-module \
                        -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cllvm-args=-sanitizer-coverage-pc-table \
                        -Cllvm-args=-sanitizer-coverage-trace-compares";
/// In `runtime/examples`; each ends by itself.
const EXAMPLES: [&str; 2] = ["counter", "locks"];
const CRASH_ABOUT: &str = "stores of forty drawn lives, cut at every step of their disks";
const MUTANTS_ABOUT: &str = "every planted fault of core and driver is caught in the swarm";
const RUNTIME_MUTANTS_ABOUT: &str =
    "whole runtimes that break a rule are caught in virtual time and as real processes";
const PLANS_ABOUT: &str = "ten thousand seeds of random faults on cores alone, every tenth twice";
const SIM_ABOUT: &str = "a thousand seeds of random faults in virtual time, each in two processes";
const CHURN_ABOUT: &str = "a thousand seeds of nodes that also leave and lose their stores";
const DENY: &str = "cargo-deny";
const DENY_VERSION: &str = "0.20.2";
const DENY_ABOUT: &str = "cargo deny check bans licenses sources";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn step_names_are_unique_within_a_suite() {
        for suite in [check(), nightly(), mutants()] {
            let names: BTreeSet<_> = suite.iter().map(|step| step.name).collect();
            assert_eq!(names.len(), suite.len());
        }
    }

    #[test]
    fn every_example_of_the_runtime_is_run() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/examples");
        let files = fs::read_dir(folder).expect("the runtime has examples");
        let stem = |entry: fs::DirEntry| Some(entry.path().file_stem()?.to_str()?.to_owned());
        let names = files.filter_map(|entry| stem(entry.expect("it can be listed")));
        assert_eq!(names.collect::<BTreeSet<_>>(), BTreeSet::from(EXAMPLES.map(str::to_owned)));
    }

    #[test]
    fn a_multi_line_command_stops_at_its_first_failure() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let outcome = shell(root.path(), "touch one\nfalse\ntouch two\n");
        assert!(outcome.is_err(), "the second line fails");
        assert!(root.path().join("one").exists());
        assert!(!root.path().join("two").exists());
    }

    #[test]
    fn a_tree_that_breaks_a_rule_fails_the_step() {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::write(root.path().join("Cargo.toml"), "[workspace]\nmembers = []\n").expect("written");
        let Err(error) = rules(root.path()) else { panic!("an empty workspace breaks rules") };
        assert!(error.to_string().contains("violations"), "{error}");
    }
}
