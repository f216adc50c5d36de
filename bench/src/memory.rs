//! How much memory a group holds on to while commands go through it.
//!
//! Three members in this process, with memory for stores and with snapshots, so that all that
//! could grow is in what the host says of this process. Invariant: it is looked at after equal
//! numbers of commands, so that the curve is one over commands and not over time.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use reports::{Check, Verdict};
use runtime::{Clock, ConsensusConfig, GroupKey, SystemClock, storage};

use crate::{
    echo::Echo,
    node,
    outcome::Outcome,
    progress::Stage,
    watch::{Kept, Watch},
};

/// What was asked for.
pub(crate) struct Wish<'a> {
    pub(crate) commands: u32,
    pub(crate) bytes: usize,
    pub(crate) snapshot_entries: u32,
    pub(crate) out: &'a Path,
    pub(crate) json: bool,
}

/// Resident memory in KiB after so many commands.
#[derive(Clone, Copy)]
struct Sample {
    commands: f64,
    rss_kib: f64,
}

/// What was seen.
#[derive(Default)]
struct Measured {
    samples: Vec<Sample>,
    /// Until the last of them.
    took: Duration,
}

/// Valid if memory stayed.
pub(crate) fn main(wish: &Wish<'_>) -> Result<Verdict> {
    let plan = serde_json::json!({
        "commands": wish.commands, "command_bytes": wish.bytes, "members": node::NODES,
        "snapshot_log_entries": wish.snapshot_entries, "storage": "memory", "profile": "lan",
    });
    let mut outcome = Outcome::new("bench-memory", plan);
    let (commands, bytes, snapshot_entries) = (wish.commands, wish.bytes, wish.snapshot_entries);
    let watch = Watch::begin(vec![Stage {
        words: "committing".into(),
        unit: "commands",
        units: commands.into(),
        each: COMMITTED,
    }])?;
    let (wanted, kept) = ((commands, bytes, snapshot_entries), Kept::default());
    watch.carry_out_aside(measure(wanted, watch.clone(), kept.clone()))?;
    let Measured { samples, took } = kept.take();
    if let Some(last) = samples.last() {
        outcome.count("commands_done", last.commands as u64);
        outcome.count("commands_per_s", (last.commands / took.as_secs_f64()) as u64);
        outcome.count("rss_last_kib", last.rss_kib as u64);
    }
    // Quarters are those of the whole: of less they would say something else.
    if !watch.is_cut_short() {
        growth(&mut outcome, &samples)?;
    }
    outcome.finish(&watch, wish.out, wish.json)
}

/// Adds how memory went, and whether it stayed.
fn growth(outcome: &mut Outcome, samples: &[Sample]) -> Result<()> {
    ensure!(samples.len() as u64 == SAMPLES, "{} samples of {SAMPLES}", samples.len());
    let quarters: Vec<f64> = quarters(samples).map(median).collect();
    for (quarter, rss) in quarters.iter().zip(1..) {
        outcome.count(&format!("rss_quarter_{rss}_kib"), *quarter as u64);
    }
    // By the second half everything that fills up once is full.
    let slope = slope(&samples[samples.len() / 2..]);
    outcome.ratio("rss_slope_kib_per_million_commands", slope * 1e6);
    let (second, last) = (quarters[1], quarters[3]);
    let is_flat = last <= second * GROWTH_MAX;
    outcome.check(Check {
        name: "memory_flat".into(),
        verdict: if is_flat { Verdict::Valid } else { Verdict::Invalid },
        detail: format!("{second:.0} KiB in the second quarter, {last:.0} KiB in the last"),
    });
    Ok(())
}

async fn measure(
    (commands, bytes, snapshot_entries): (u32, usize, u32),
    watch: Watch,
    kept: Kept<Measured>,
) -> Result<()> {
    // Only their number is a reason, so that 0 is never.
    let config = node::whole_log();
    let consensus = ConsensusConfig { snapshot_log_entries: snapshot_entries, ..config };
    consensus.validate()?;
    let mut networks = Vec::new();
    for _ in 0..node::NODES {
        networks.push(node::bind().await?);
    }
    let key = GroupKey::from_secret("bench memory");
    let groups =
        node::found_here::<Echo, _>(&networks, &key, &consensus, |_| storage::Memory).await?;
    watch.go_on();
    let clock = SystemClock::new();
    let (began, mut done) = (clock.now(), 0);
    for sample in 1..=SAMPLES {
        let goal = u64::from(commands) * sample / SAMPLES;
        while done < goal {
            let batch = (goal - done).min(BATCH);
            let commands = vec![Bytes::from(vec![7; bytes]); batch as usize];
            for executed in groups[0].execute_many(commands).await {
                executed.context("a command")?;
            }
            done += batch;
            watch.add(batch);
        }
        let sample = Sample { commands: done as f64, rss_kib: resident_kib()? };
        kept.with(|measured| {
            measured.samples.push(sample);
            measured.took = clock.now().since(began);
        });
    }
    for network in networks {
        network.shutdown().await;
    }
    Ok(())
}

/// What the host says this process has in memory.
fn resident_kib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.context("/proc/self/status has no VmRSS")?.trim();
    let kib = words.strip_suffix(" kB").with_context(|| format!("VmRSS is `{words}`"))?;
    kib.trim().parse().with_context(|| format!("VmRSS is `{words}`"))
}

fn quarters(samples: &[Sample]) -> impl Iterator<Item = &[Sample]> {
    let at = |quarter: usize| samples.len() * quarter / 4;
    (0..4).map(move |quarter| &samples[at(quarter)..at(quarter + 1)])
}

fn median(samples: &[Sample]) -> f64 {
    let mut sorted: Vec<f64> = samples.iter().map(|sample| sample.rss_kib).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// KiB for each command more, by least squares.
fn slope(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|sample| sample.commands), mean(|sample| sample.rss_kib));
    let (mut covariance, mut variance) = (0.0, 0.0);
    for sample in samples {
        covariance += (sample.commands - x) * (sample.rss_kib - y);
        variance += (sample.commands - x).powi(2);
    }
    covariance / variance
}

/// What a command may take.
const COMMITTED: Duration = Duration::from_micros(15);
/// How often memory is looked at.
const SAMPLES: u64 = 400;
/// Not more than one session may have unanswered.
const BATCH: u64 = 4_000;
/// What the last quarter may hold more than the second one: the allocator's own ups and downs.
const GROWTH_MAX: f64 = 1.05;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(count: u32, from: f64, per_command: f64) -> Vec<Sample> {
        let sample = |n: u32| {
            let commands = f64::from(n) * 1_000.0;
            Sample { commands, rss_kib: from + per_command * commands }
        };
        (1..=count).map(sample).collect()
    }

    #[test]
    fn a_line_has_the_slope_it_was_drawn_with() {
        assert!((slope(&line(100, 5_000.0, 0.25)) - 0.25).abs() < 1e-9);
        assert!(slope(&line(100, 5_000.0, 0.0)).abs() < 1e-9);
    }

    #[test]
    fn quarters_cover_all_samples_once() {
        let samples = line(401, 0.0, 1.0);
        let lengths: Vec<usize> = quarters(&samples).map(<[Sample]>::len).collect();
        assert_eq!(lengths, [100, 100, 100, 101]);
        assert!(quarters(&samples).map(median).is_sorted());
    }

    #[test]
    fn this_process_is_somewhere_in_memory() {
        let kib = resident_kib().expect("the host says it");
        assert!((100.0..1e9).contains(&kib), "{kib} KiB");
    }
}
