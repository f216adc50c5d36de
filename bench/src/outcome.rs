//! What a benchmark found: samples become ratios, a table and a run folder.
//!
//! Invariant: one that ended before its time is never valid. What broke in it broke all the same.

use std::{collections::BTreeMap, io::Write, path::Path, time::Duration};

use anyhow::{Context, Result};
use reports::{Check, Environment, RunFolder, RunRecord, SCHEMA_VERSION, Summary, Verdict};
use runtime::{Clock, SystemClock};

use crate::watch::Watch;

/// What one topology took.
#[derive(Default)]
pub(crate) struct Samples {
    pub(crate) echo: Vec<Duration>,
    pub(crate) leader: Vec<Duration>,
    pub(crate) follower: Vec<Duration>,
}

/// All topologies so far.
pub(crate) struct Outcome {
    record: RunRecord,
}

impl Samples {
    pub(crate) fn append(&mut self, mut more: Self) {
        self.echo.append(&mut more.echo);
        self.leader.append(&mut more.leader);
        self.follower.append(&mut more.follower);
    }
}

impl Outcome {
    pub(crate) fn new(scenario: &str, plan: serde_json::Value) -> Self {
        let record = RunRecord {
            schema_version: SCHEMA_VERSION,
            scenario: scenario.into(),
            world: "process".into(),
            transport: "iroh QUIC over loopback UDP".into(),
            seed: 0,
            verdict: Verdict::Valid,
            plan,
            environment: Environment::here(),
            command: None,
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
        Self { record }
    }

    pub(crate) fn add(&mut self, topology: &str, samples: &Samples) {
        let named = |name: &str| format!("{topology}_{name}_us");
        let Some(echo) = self.summarise(&named("echo"), &samples.echo) else { return };
        for (name, times) in [("leader", &samples.leader), ("follower", &samples.follower)] {
            if let Some(commit) = self.summarise(&named(name), times) {
                self.ratio(&format!("{topology}_{name}_to_echo"), commit.p50 / echo.p50);
            }
        }
    }

    /// Adds what a bound came to; one that broke makes the whole invalid.
    pub(crate) fn check(&mut self, check: Check) {
        match (check.verdict, self.record.verdict) {
            (Verdict::Invalid, _) => self.record.verdict = Verdict::Invalid,
            (Verdict::Unknown, Verdict::Valid) => self.record.verdict = Verdict::Unknown,
            _ => {}
        }
        self.record.checks.push(check);
    }

    /// Adds whether the term, before and after, stayed what it was; nothing where nobody looked.
    pub(crate) fn no_election(&mut self, terms: Option<(u64, u64)>) {
        self.no_election_in("no_election", terms);
    }

    /// The same, of one of several groups.
    pub(crate) fn no_election_in(&mut self, name: &str, terms: Option<(u64, u64)>) {
        let Some((before, after)) = terms else { return };
        let verdict = if before == after { Verdict::Valid } else { Verdict::Invalid };
        let detail = format!("term {before} before, {after} after");
        self.check(Check { name: name.into(), verdict, detail });
    }

    pub(crate) fn ratio(&mut self, name: &str, ratio: f64) {
        self.record.ratios.insert(name.into(), ratio);
    }

    /// One figure over another, where both were measured.
    pub(crate) fn ratio_of(&mut self, name: &str, figure: Option<f64>, to: Option<f64>) {
        if let Some((figure, to)) = figure.zip(to) {
            self.ratio(name, figure / to);
        }
    }

    /// Whether anything was compared.
    pub(crate) fn has_ratios(&self) -> bool {
        !self.record.ratios.is_empty()
    }

    pub(crate) fn count(&mut self, name: &str, count: u64) {
        self.record.counts.insert(name.into(), count);
    }

    /// Prints the table or the record, writes the folder, and says what it came to.
    pub(crate) fn finish(mut self, watch: &Watch, out: &Path, json: bool) -> Result<Verdict> {
        watch.close();
        if watch.is_cut_short() {
            self.cut_short();
        }
        let utc = SystemClock::new().wall().as_secs();
        let folder = RunFolder::create(out, &self.record.scenario, utc, 0, std::process::id())?;
        folder.write_record(&self.record)?;
        let text = match json {
            true => serde_json::to_string_pretty(&self.record).context("the record")? + "\n",
            false => format!("{}\n{}\n", self.table(), folder.path().display()),
        };
        // Whoever closed the pipe has read enough, and the folder has everything.
        drop(std::io::stdout().write_all(text.as_bytes()));
        Ok(self.record.verdict)
    }

    /// What is here counts, and is not all.
    fn cut_short(&mut self) {
        let detail = "it was stopped before its end: all this is of what was measured until then";
        let (name, detail) = ("finished".into(), detail.into());
        self.check(Check { name, verdict: Verdict::Unknown, detail });
    }

    fn table(&self) -> String {
        let mut lines = vec![format!(
            "{:<28}{:>9}{:>10}{:>10}{:>10}",
            "microseconds", "p50", "p90", "p99", "ratio"
        )];
        for (name, summary) in &self.record.metrics {
            let name = name.trim_end_matches("_us");
            let ratio = self.record.ratios.get(&format!("{name}_to_echo"));
            let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
            let p99 = summary.p99.map_or("-".into(), |p99| format!("{p99:.0}"));
            let (p50, p90) = (summary.p50, summary.p90);
            lines.push(format!("{name:<28}{p50:>9.0}{p90:>10.0}{p99:>10}{ratio:>10}"));
        }
        let shown = |name: &str| {
            self.record.metrics.contains_key(&format!("{}_us", name.trim_end_matches("_to_echo")))
        };
        for (name, ratio) in self.record.ratios.iter().filter(|(name, _)| !shown(name)) {
            lines.push(format!("{name:<28}{ratio:>9.2}"));
        }
        for (name, count) in &self.record.counts {
            lines.push(format!("{name:<28}{count:>9}"));
        }
        for Check { name, verdict, detail } in &self.record.checks {
            lines.push(format!("{name:<28}{:>9}  {detail}", verdict.as_str()));
        }
        if !self.record.environment.is_measurement() {
            lines.push("\ndebug build: not a measurement; use cargo run --release -p bench".into());
        }
        lines.push(String::new());
        lines.join("\n")
    }

    /// Adds a distribution, in microseconds; `None` if there is nothing of it.
    pub(crate) fn summarise(&mut self, name: &str, times: &[Duration]) -> Option<Summary> {
        let samples: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
        let summary = Summary::from_samples(&samples)?;
        self.record.metrics.insert(name.into(), summary.clone());
        Some(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict_of(checks: &[Verdict]) -> Verdict {
        let mut outcome = Outcome::new("bench-nothing", serde_json::Value::Null);
        for verdict in checks {
            let (name, detail) = ("bound".into(), String::new());
            outcome.check(Check { name, verdict: *verdict, detail });
        }
        outcome.record.verdict
    }

    #[test]
    fn what_broke_is_graver_than_what_nobody_knows() {
        use Verdict::{Invalid, Unknown, Valid};
        for (checks, verdict) in [
            (&[][..], Valid),
            (&[Valid], Valid),
            (&[Unknown, Valid], Unknown),
            (&[Invalid, Unknown], Invalid),
            (&[Unknown, Invalid], Invalid),
        ] {
            assert_eq!(verdict_of(checks), verdict, "{checks:?}");
        }
    }

    #[test]
    fn what_was_cut_short_is_unknown_and_says_so() {
        let mut outcome = Outcome::new("bench-nothing", serde_json::Value::Null);
        outcome.no_election(None);
        assert!(outcome.record.checks.is_empty(), "nobody looked");
        outcome.no_election(Some((3, 3)));
        outcome.cut_short();
        assert_eq!(outcome.record.verdict, Verdict::Unknown);
        assert!(outcome.table().contains("finished"), "{}", outcome.table());
    }

    #[test]
    fn what_was_not_measured_has_no_ratio() {
        let mut outcome = Outcome::new("bench-nothing", serde_json::Value::Null);
        outcome.ratio_of("none", Some(3.0), None);
        assert!(!outcome.has_ratios());
        outcome.ratio_of("one", Some(3.0), Some(2.0));
        assert_eq!(outcome.record.ratios["one"], 1.5);
    }
}
