//! The front door of the checks: `cargo ci check`, `cargo ci nightly`, `cargo ci mutants`.
//!
//! It parses words, picks steps and turns their outcome into an exit code. It imports none of
//! the crates it checks; it starts programs and reads files.
//! Invariant: exit code 0 means that every chosen step passed or said why it was skipped.

mod embed;
mod imports;
mod readme;
mod step;
mod steps;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand};

use crate::step::Step;

/// The checks of this repository.
#[derive(Parser)]
#[command(name = "cargo ci", bin_name = "cargo ci", after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    suite: Suite,
}

#[derive(Subcommand)]
enum Suite {
    /// Everything a change must pass: fmt, imports, clippy, doc, the README's tests, deny
    Check(Choice),
    /// What takes too long for every change: deny, fuzz, the same guided by coverage, crash, swarm,
    /// mutants, sweeps in swarm and sim, a user's flags, failover, benches, peers, first command,
    /// embedding
    Nightly(Choice),
    /// Rules broken on purpose: for each the world, what caught it, seeds and seconds needed;
    /// fails if one escapes, or if the same seeds fail with nothing broken
    Mutants(Choice),
}

#[derive(Args)]
struct Choice {
    /// Print the steps and what each runs, and run none
    #[arg(long)]
    list: bool,
    /// Run this step alone; repeat it for several
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// Go on after a failed step, and fail at the end
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed terminal is no reason to report anything but the usage error itself.
            let _ = error.print();
            return if error.use_stderr() { USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let (all, choice) = match &cli.suite {
        Suite::Check(choice) => (steps::check(), choice),
        Suite::Nightly(choice) => (steps::nightly(), choice),
        Suite::Mutants(choice) => (steps::mutants(), choice),
    };
    let chosen = match choose(all, &choice.only) {
        Ok(chosen) => chosen,
        Err(error) => {
            eprintln!("error: {error:#}");
            return USAGE.into();
        }
    };
    if choice.list {
        for step in &chosen {
            println!("{:<10} {}", step.name, step.about);
        }
        return ExitCode::SUCCESS;
    }
    let root = match workspace_root() {
        Ok(root) => root,
        Err(error) => {
            eprintln!("error: {error:#}");
            return FAILED.into();
        }
    };
    if step::run(&root, &chosen, choice.keep_going) { ExitCode::SUCCESS } else { FAILED.into() }
}

fn choose(all: Vec<Step>, only: &[String]) -> anyhow::Result<Vec<Step>> {
    let names: Vec<&str> = all.iter().map(|step| step.name).collect();
    for name in only {
        ensure!(
            names.contains(&name.as_str()),
            "no step `{name}` here; the steps are: {}",
            names.join(", ")
        );
    }
    let keep = |step: &Step| only.is_empty() || only.iter().any(|name| name == step.name);
    Ok(all.into_iter().filter(keep).collect())
}

/// The directory above this package: the steps run there whatever directory the call came from.
fn workspace_root() -> anyhow::Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .context("the package `ci` has no directory above it")
}

const FAILED: u8 = 1;
const USAGE: u8 = 3;
const EXIT_CODES: &str = "Exit codes: 0 all passed, 1 a step failed, 3 usage error.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn only_keeps_the_order_of_the_suite() {
        let chosen = choose(steps::check(), &["tests".into(), "fmt".into()]).expect("both exist");
        let names: Vec<_> = chosen.iter().map(|step| step.name).collect();
        assert_eq!(names, ["fmt", "tests"]);
    }

    #[test]
    fn an_unknown_step_is_refused_with_those_that_exist() {
        let Err(error) = choose(steps::check(), &["typo".into()]) else {
            panic!("`typo` is no step");
        };
        let text = error.to_string();
        assert!(text.contains("`typo`") && text.contains("fmt, imports, clippy"), "{text}");
    }
}
