//! One step, and how a list of them is run: a heading, the outcome, the time it took.
//!
//! Knows nothing of what the steps are. Invariant: no step reads the terminal, and none sees
//! the variables that cargo set for this program.

use std::{
    fmt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

/// Something that passes, fails, or says why it was skipped.
pub(crate) struct Step {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    /// What it runs, for `--list` and the heading.
    pub(crate) about: &'static str,
    /// Runs it in the workspace's root.
    pub(crate) run: fn(&Path) -> anyhow::Result<Outcome>,
}

/// How a step ended that did not fail.
pub(crate) enum Outcome {
    /// It found nothing wrong.
    Passed,
    /// It did not look, and this is why.
    Skipped(String),
}

/// Runs the steps in order and prints how each ended; true if none failed.
pub(crate) fn run(root: &Path, steps: &[Step], keep_going: bool) -> bool {
    let mut lines = Vec::new();
    let mut failed = false;
    for step in steps {
        println!("\n== {}: {}", step.name, step.about);
        let watch = Stopwatch::start();
        let line = match (step.run)(root) {
            Ok(Outcome::Passed) => format!("{:<10} ok       {watch}", step.name),
            Ok(Outcome::Skipped(why)) => format!("{:<10} skipped  {watch}  {why}", step.name),
            Err(error) => {
                failed = true;
                format!("{:<10} FAILED   {watch}  {error:#}", step.name)
            }
        };
        println!("-- {line}");
        lines.push(line);
        if failed && !keep_going {
            break;
        }
    }
    println!("\n== summary");
    for line in &lines {
        println!("{line}");
    }
    for step in steps.iter().skip(lines.len()) {
        println!("{:<10} not run  (--keep-going goes on after a failure)", step.name);
    }
    !failed
}

/// Runs a program to its end, its output going where ours goes.
pub(crate) fn start(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{:?}", command.get_program()).replace('"', "");
    let status = clean(command)
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// A command that runs in the workspace's root.
pub(crate) fn command(root: &Path, words: &[&str]) -> Command {
    let (program, arguments) = words.split_first().expect("a command has at least its program");
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root);
    command
}

/// Takes away what `cargo run` told us about ourselves.
///
/// Build scripts ask to be run again when such a variable changes (ring's does), so a child
/// cargo that inherited them would rebuild the whole tree above it.
pub(crate) fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let ours = name.to_str().is_some_and(|name| {
            OWN_VARIABLES.contains(&name)
                || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        });
        if ours {
            command.env_remove(name);
        }
    }
    command
}

/// How long a step has taken so far.
struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "durations of steps, shown to a person")]
    fn start() -> Self {
        Self(Instant::now())
    }
}

impl fmt::Display for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_duration(f, self.0.elapsed())
    }
}

fn write_duration(f: &mut impl fmt::Write, took: Duration) -> fmt::Result {
    let seconds = took.as_secs();
    match seconds / 60 {
        0 => write!(f, "{:>9.1} s", took.as_secs_f64()),
        minutes => write!(f, "{minutes:>3} min {:02} s", seconds % 60),
    }
}

const OWN_VARIABLES: &[&str] = &["CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"];
const OWN_PREFIXES: &[&str] = &["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(_: &Path) -> anyhow::Result<Outcome> {
        Ok(Outcome::Passed)
    }

    fn skip(_: &Path) -> anyhow::Result<Outcome> {
        Ok(Outcome::Skipped("not here".into()))
    }

    fn fail(_: &Path) -> anyhow::Result<Outcome> {
        bail!("broken")
    }

    fn touch(root: &Path) -> anyhow::Result<Outcome> {
        std::fs::write(root.join("ran"), "")?;
        Ok(Outcome::Passed)
    }

    fn step(run: fn(&Path) -> anyhow::Result<Outcome>) -> Step {
        Step { name: "a", about: "a step", run }
    }

    #[test]
    fn a_skipped_step_is_no_failure() {
        assert!(run(Path::new("."), &[step(pass), step(skip)], false));
    }

    #[test]
    fn a_failure_ends_the_run_unless_told_to_keep_going() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let steps = [step(fail), step(touch)];
        assert!(!run(root.path(), &steps, false));
        assert!(!root.path().join("ran").exists(), "the step after the failure must not run");
        assert!(!run(root.path(), &steps, true));
        assert!(root.path().join("ran").exists(), "--keep-going runs it");
    }

    #[test]
    fn a_program_that_fails_or_is_missing_is_named() {
        let failing = start(&mut command(Path::new("."), &["sh", "-c", "exit 7"]));
        let text = failing.expect_err("it exits with 7").to_string();
        assert!(text.contains("`sh`") && text.contains('7'), "{text}");
        let missing = start(&mut command(Path::new("."), &["no-such-program-here"]));
        assert!(missing.expect_err("there is none").to_string().contains("no-such-program-here"));
    }

    #[test]
    fn children_do_not_see_what_cargo_set_for_us() {
        // Set by cargo for this very test.
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
        let mut child = command(Path::new("."), &["sh", "-c", "test -z \"${CARGO_PKG_NAME+x}\""]);
        start(&mut child).expect("the child sees no CARGO_PKG_NAME");
    }

    #[test]
    fn durations_are_read_by_people() {
        let shown = |seconds| {
            let mut text = String::new();
            write_duration(&mut text, Duration::from_secs_f64(seconds)).expect("into a string");
            text
        };
        assert_eq!(shown(2.34).trim(), "2.3 s");
        assert_eq!(shown(327.0).trim(), "5 min 27 s");
    }
}
