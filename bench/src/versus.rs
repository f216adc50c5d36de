//! Two commands by turns, and how their figures compare: A, B, A, B, so that a noisy moment hits
//! both.
//!
//! Knows nothing of what they do: each must take `--json` and `--out` and print a record with
//! metrics, as a run of `scenarios` does and a measurement of this program. Invariant: medians of
//! turns are compared, never single turns.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::outcome::Outcome;

/// What is read of a record.
#[derive(Deserialize)]
struct Record {
    metrics: BTreeMap<String, Metric>,
}

#[derive(Deserialize)]
struct Metric {
    p50: f64,
}

/// Medians of one command, by name: one for each turn.
type Turns = BTreeMap<String, Vec<f64>>;

pub(crate) fn main(commands: [&str; 2], turns: u32, out: &Path, json: bool) -> Result<()> {
    let [mut a, mut b] = [Turns::new(), Turns::new()];
    for turn in 1..=turns {
        for (command, seen) in [(commands[0], &mut a), (commands[1], &mut b)] {
            eprintln!("turn {turn} of {turns}: {command}");
            for (name, metric) in carry_out(command, out)?.metrics {
                seen.entry(name).or_default().push(metric.p50);
            }
        }
    }
    let plan = serde_json::json!({ "a": commands[0], "b": commands[1], "turns": turns });
    let mut outcome = Outcome::new("bench-versus", plan);
    for (name, seen_a) in &a {
        let Some(seen_b) = b.get(name) else { continue };
        let (of_a, of_b) = (Spread::of(seen_a), Spread::of(seen_b));
        if of_a.median > 0.0 {
            outcome.ratio(&format!("{name}_b_to_a"), of_b.median / of_a.median);
            outcome.ratio(&format!("{name}_spread_a"), of_a.relative());
            outcome.ratio(&format!("{name}_spread_b"), of_b.relative());
        }
    }
    ensure!(outcome.has_ratios(), "the two records have no metric in common");
    outcome.finish(out, json)
}

/// Where the turns of one command lie.
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(turns: &[f64]) -> Self {
        let mut sorted = turns.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (below, above) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Self { min: sorted[0], median: (below + above) / 2.0, max: sorted[sorted.len() - 1] }
    }

    /// How far apart the turns lie, as a part of their median: what is below is noise.
    fn relative(&self) -> f64 {
        (self.max - self.min) / self.median
    }
}

fn carry_out(command: &str, out: &Path) -> Result<Record> {
    let mut words = command.split_whitespace();
    let program = words.next().context("an empty command")?;
    let mut child = Command::new(program);
    child.args(words).args(["--json", "--out"]).arg(out);
    let output = child.output().with_context(|| format!("starting {program}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{command}` ended with {}:\n{told}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("`{command}` printed no record"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_between_the_two_in_the_middle() {
        let spread = Spread::of(&[4.0, 1.0, 2.0, 3.0]);
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.5, 4.0));
        assert!((spread.relative() - 1.2).abs() < 1e-9);
        assert_eq!(Spread::of(&[7.0]).median, 7.0);
    }

    #[test]
    fn what_prints_no_record_is_named() {
        let out = std::env::temp_dir();
        let error = |command: &str| carry_out(command, &out).err().expect("no record").to_string();
        assert!(error("").contains("an empty command"));
        assert!(error("/nowhere/at-all").contains("starting /nowhere/at-all"));
        assert!(error("false").contains("`false` ended with"));
        assert!(error("true").contains("`true` printed no record"));
    }
}
