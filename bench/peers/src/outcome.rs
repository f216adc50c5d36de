//! What was found: a table, ratios, and a run folder like those of the other benchmarks.

use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use reports::{Check, Environment, RunFolder, RunRecord, SCHEMA_VERSION, Summary, Verdict};

use crate::{Wish, side::Side};

/// All turns so far.
pub(crate) struct Outcome {
    took_ms: BTreeMap<(u32, Side), Vec<f64>>,
    /// Followers that never caught up.
    stuck: BTreeMap<(u32, Side), u64>,
    record: RunRecord,
}

impl Outcome {
    pub(crate) fn new(wish: &Wish, trials: u32) -> Self {
        let plan = serde_json::json!({
            "catch_up": wish, "trials": trials, "storage": "memory", "founders": 3,
            "tessera": "profile lan", "mosaik": "0.3.18, all defaults",
            "mosaik_short": "0.3.18, heartbeats of 50 ms with 15 ms of jitter, 100 may be missed",
        });
        let record = RunRecord {
            schema_version: SCHEMA_VERSION,
            scenario: "bench-peers".into(),
            world: "process".into(),
            transport: "iroh QUIC over loopback UDP, each with its own version of it".into(),
            seed: 0,
            verdict: Verdict::Valid,
            plan,
            command: None,
            environment: Environment::here(),
            trace_hash: None,
            checks: Vec::new(),
            marks: Vec::new(),
            faults: Vec::new(),
            trials: Vec::new(),
            lapses: Vec::new(),
            catch_ups: Vec::new(),
            counts: BTreeMap::new(),
            ratios: BTreeMap::new(),
            metrics: BTreeMap::new(),
        };
        Self { took_ms: BTreeMap::new(), stuck: BTreeMap::new(), record }
    }

    /// One turn; `None` is a follower that never caught up.
    pub(crate) fn add(&mut self, side: Side, size: u32, took: Option<Duration>) {
        match took {
            Some(took) => {
                self.took_ms.entry((size, side)).or_default().push(took.as_secs_f64() * 1e3);
            }
            None => *self.stuck.entry((size, side)).or_default() += 1,
        }
    }

    /// It ended before its time: what is here counts, and why it is not all is said.
    pub(crate) fn cut_short(&mut self, why: &anyhow::Error) {
        let detail = format!("{why:#}");
        self.record.checks.push(Check { name: "ended".into(), verdict: Verdict::Unknown, detail });
    }

    /// Prints the table or the record, writes the folder, and says what it came to.
    pub(crate) fn finish(mut self, out: &Path, json: bool) -> Result<Verdict> {
        self.sum_up();
        let folder = self.folder(out)?;
        folder.write_record(&self.record)?;
        let text = match json {
            true => serde_json::to_string_pretty(&self.record).context("the record")? + "\n",
            false => format!("{}\n{}\n", self.table(), folder.path().display()),
        };
        // Whoever closed the pipe has read enough, and the folder has everything.
        drop(std::io::stdout().write_all(text.as_bytes()));
        Ok(self.record.verdict)
    }

    #[expect(clippy::disallowed_methods, reason = "names a folder by the host's wall clock")]
    fn folder(&self, out: &Path) -> Result<RunFolder> {
        let utc = SystemTime::now().duration_since(UNIX_EPOCH).context("the wall clock")?;
        let name = &self.record.scenario;
        Ok(RunFolder::create(out, name, utc.as_secs(), 0, std::process::id())?)
    }

    fn sum_up(&mut self) {
        let mut best: BTreeMap<Side, f64> = BTreeMap::new();
        for ((size, side), samples) in &self.took_ms {
            let Some(summary) = Summary::from_samples(samples) else { continue };
            let least = best.entry(*side).or_insert(summary.p50);
            *least = least.min(summary.p50);
            self.record.metrics.insert(format!("batch_{size}_{}_ms", side.name()), summary);
        }
        for ((size, side), stuck) in &self.stuck {
            self.record.counts.insert(format!("batch_{size}_{}_stuck", side.name()), *stuck);
        }
        for side in Side::ALL.into_iter().filter(|side| *side != Side::Tessera) {
            let sizes: Vec<u32> = self.took_ms.keys().map(|(size, _)| *size).collect();
            for size in sizes {
                let p50 = |side| self.p50(size, side);
                let Some((theirs, ours)) = p50(side).zip(p50(Side::Tessera)) else { continue };
                let name = format!("batch_{size}_{}_to_tessera", side.name());
                self.record.ratios.insert(name, theirs / ours);
            }
            let Some((theirs, ours)) = best.get(&side).zip(best.get(&Side::Tessera)) else {
                continue;
            };
            self.record.ratios.insert(format!("best_{}_to_tessera", side.name()), theirs / ours);
        }
        self.check();
    }

    /// A follower that never caught up leaves its side without a figure that could be compared.
    fn check(&mut self) {
        let stuck: u64 = self.stuck.values().sum();
        let verdict = if stuck == 0 { Verdict::Valid } else { Verdict::Unknown };
        let detail = format!("{stuck} followers never caught up");
        self.record.checks.push(Check { name: "all_caught_up".into(), verdict, detail });
        let is_valid = self.record.checks.iter().all(|check| check.verdict == Verdict::Valid);
        self.record.verdict = if is_valid { Verdict::Valid } else { Verdict::Unknown };
    }

    fn p50(&self, size: u32, side: Side) -> Option<f64> {
        let name = format!("batch_{size}_{}_ms", side.name());
        self.record.metrics.get(&name).map(|summary| summary.p50)
    }

    fn table(&self) -> String {
        let mut lines = vec![format!(
            "{:<8}{:<26}{:>9}{:>9}{:>9}{:>14}",
            "chunk", "milliseconds", "p50", "min", "max", "to Tessera's"
        )];
        for (size, side) in self.took_ms.keys() {
            let name = format!("batch_{size}_{}", side.name());
            let Some(summary) = self.record.metrics.get(&format!("{name}_ms")) else { continue };
            let ratio = self.record.ratios.get(&format!("{name}_to_tessera"));
            let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
            let Summary { p50, min, max, .. } = summary;
            let side = side.to_string();
            lines.push(format!("{size:<8}{side:<26}{p50:>9.1}{min:>9.1}{max:>9.1}{ratio:>14}"));
        }
        for (name, ratio) in self.record.ratios.iter().filter(|(name, _)| name.starts_with("best"))
        {
            lines.push(format!("{name:<34}{ratio:>41.2}"));
        }
        for Check { verdict, detail, .. } in &self.record.checks {
            lines.push(format!("{}: {detail}", verdict.as_str()));
        }
        if !self.record.environment.is_measurement() {
            lines.push("debug build: not a measurement; build with --release".into());
        }
        lines.join("\n") + "\n"
    }
}
