//! Two commands by turns, and how their figures compare: A, B, A, B, so that a noisy moment hits
//! both.
//!
//! Knows nothing of what they do: each must take `--json` and `--out` and print a record with
//! metrics, as a run of `scenarios` does and a measurement of this program. Invariants: medians of
//! turns are compared, never single turns, and none of outages that were measured by different
//! rules; a command that runs when this is to end is told so, and what it leaves then is not
//! counted.

use std::{
    collections::BTreeMap,
    path::Path,
    pin::pin,
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use reports::Verdict;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::process::Command;

use crate::{outcome::Outcome, progress::Stage, watch::Watch};

/// What is read of a record.
#[derive(Deserialize)]
struct Record {
    /// Of another program's record nobody knows.
    #[serde(default)]
    schema_version: u32,
    metrics: BTreeMap<String, Metric>,
}

#[derive(Deserialize)]
struct Metric {
    p50: f64,
}

/// What one command told.
#[derive(Default)]
struct Turns {
    schema_version: u32,
    /// Medians by name: one for each turn.
    medians: BTreeMap<String, Vec<f64>>,
}

pub(crate) fn main(commands: [&str; 2], turns: u32, out: &Path, json: bool) -> Result<Verdict> {
    let watch = Watch::begin(vec![Stage {
        words: "carrying both out by turns".into(),
        unit: "runs",
        units: 2 * u64::from(turns),
        each: Duration::ZERO,
    }])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let [a, b] = runtime.block_on(take_turns(commands, turns, out, &watch))?;
    let plan = serde_json::json!({ "a": commands[0], "b": commands[1], "turns": turns });
    let mut outcome = Outcome::new("bench-versus", plan);
    let is_alike = a.schema_version == b.schema_version;
    if !is_alike && !b.medians.is_empty() {
        watch.say(&format!(
            "the records are of schema_version {} and {}: outages and their parts mean something \
             else in each, and are left out",
            a.schema_version, b.schema_version
        ));
    }
    for (name, seen_a) in a.medians.iter().filter(|(name, _)| is_alike || !is_of_outages(name)) {
        let Some(seen_b) = b.medians.get(name) else { continue };
        let (of_a, of_b) = (Spread::of(seen_a), Spread::of(seen_b));
        if of_a.median > 0.0 {
            outcome.ratio(&format!("{name}_b_to_a"), of_b.median / of_a.median);
            outcome.ratio(&format!("{name}_spread_a"), of_a.relative());
            outcome.ratio(&format!("{name}_spread_b"), of_b.relative());
        }
    }
    let is_told = outcome.has_ratios() || watch.is_cut_short();
    ensure!(is_told, "the two records have no metric in common");
    outcome.finish(&watch, out, json)
}

/// As many turns as come to their end, of each command.
async fn take_turns(
    commands: [&str; 2],
    turns: u32,
    out: &Path,
    watch: &Watch,
) -> Result<[Turns; 2]> {
    let mut both = [Turns::default(), Turns::default()];
    watch.go_on();
    'turns: for turn in 1..=turns {
        for (place, command) in commands.into_iter().enumerate() {
            if watch.ends() {
                break 'turns;
            }
            watch.say(&format!("turn {turn} of {turns}: {command}"));
            let Some(record) = carry_out(command, out, watch).await? else { break 'turns };
            both[place].schema_version = record.schema_version;
            for (name, metric) in record.metrics {
                both[place].medians.entry(name).or_default().push(metric.p50);
            }
            watch.add(1);
        }
    }
    Ok(both)
}

/// Whether a metric is of trials, whose meaning changed with schema_version 2.
fn is_of_outages(name: &str) -> bool {
    OF_TRIALS.iter().any(|start| name.starts_with(start))
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

/// What the command printed; nothing if it was to end before it had.
async fn carry_out(command: &str, out: &Path, watch: &Watch) -> Result<Option<Record>> {
    let mut words = command.split_whitespace();
    let program = words.next().context("an empty command")?;
    let mut child = Command::new(program);
    child.args(words).args(["--json", "--out"]).arg(out);
    let output = finished(child, watch).await.with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        // What a terminal tells both may end the command before it is heard here.
        drop(tokio::time::timeout(HEARD_MAX, watch.ended()).await);
    }
    if watch.ends() {
        return Ok(None);
    }
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{command}` ended with {}:\n{told}", output.status);
    let record = serde_json::from_slice(&output.stdout);
    record.map(Some).with_context(|| format!("`{command}` printed no record"))
}

/// Waits until it has ended, of which it is told if this is to end first.
async fn finished(mut command: Command, watch: &Watch) -> std::io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn()?;
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    watch.waits_for(pid);
    let mut output = pin!(child.wait_with_output());
    let early = tokio::select! {
        output = &mut output => Some(output),
        () = watch.ended() => None,
    };
    let output = match early {
        Some(output) => output,
        None => {
            // From a terminal it has heard the same. If it is gone already, so much the better.
            let _gone_already = pid.map(|pid| kill_process(pid, Signal::INT));
            output.await
        }
    };
    watch.waits_for(None);
    output
}

/// How the names of metrics of trials begin.
const OF_TRIALS: [&str; 8] = [
    "outage_",
    "beside_",
    "detect_ms",
    "elect_ms",
    "commit_ms",
    "client_ms",
    "longest_",
    "rejoin_ms",
];
/// Within this a signal has reached all that it is for.
const HEARD_MAX: Duration = Duration::from_millis(200);

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
    fn only_metrics_of_trials_changed_their_meaning() {
        for name in ["outage_ms", "outage_kill_ms", "beside_led_outage_ms", "longest_client_gap_ms"]
        {
            assert!(is_of_outages(name), "{name}");
        }
        for name in ["latency_ms", "commit_leader_us", "node_calls", "batch_500_catch_up_ms"] {
            assert!(!is_of_outages(name), "{name}");
        }
    }

    #[tokio::test]
    async fn what_prints_no_record_is_named() {
        let (out, watch) = (std::env::temp_dir(), Watch::begin(Vec::new()).expect("a thread"));
        for (command, told) in [
            ("", "an empty command"),
            ("/nowhere/at-all", "starting /nowhere/at-all"),
            ("false", "`false` ended with"),
            ("true", "`true` printed no record"),
        ] {
            let error = carry_out(command, &out, &watch).await.err().expect("no record");
            assert!(error.to_string().contains(told), "{error}");
        }
    }
}
