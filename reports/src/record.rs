//! `run.json`: what was run, what came of it, and the figures.
//!
//! Plain data with public fields; nothing here acts. Fields may be added within a schema version,
//! so unknown ones are ignored; a changed meaning raises [`SCHEMA_VERSION`]. Times are in
//! milliseconds from the start of the run. Invariant: a record keeps the version that it was
//! written with, so whoever compares two sees whether they mean the same.

use crate::{CatchUp, Summary};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of `run.json` that this crate writes; it reads this one and those before it. Since 2
/// an outage is measured by when operations were due, and faults that strike before it is over
/// share it: `trials[]`, its metrics and the count `trials` of 1 are those of another rule.
pub const SCHEMA_VERSION: u32 = 2;

/// Everything about one run except the single operations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of this layout, at most [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Name of the scenario.
    pub scenario: String,
    /// `swarm`, `sim` or `process`.
    pub world: String,
    /// What carried the datagrams, in words.
    pub transport: String,
    /// The seed of the whole run. A string `0x…` in the file, since many JSON readers hold numbers
    /// as doubles and would lose bits.
    #[serde(with = "seed")]
    pub seed: u64,
    /// The verdict over all checks.
    pub verdict: Verdict,
    /// The plan as it was carried out.
    pub plan: serde_json::Value,
    /// The words that repeat the run.
    #[serde(default)]
    pub command: Option<String>,
    /// What ran it.
    pub environment: Environment,
    /// Hash over everything that happened, in the worlds where this is reproducible.
    #[serde(default)]
    pub trace_hash: Option<String>,
    /// What was checked, in order.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// What happened when: faults, stalls, phases.
    #[serde(default)]
    pub marks: Vec<Mark>,
    /// Every fault that was carried out, in order.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// One entry per fault under measurement.
    #[serde(default)]
    pub trials: Vec<Trial>,
    /// Every time in which a node was a member of the group no longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lapses: Vec<Lapse>,
    /// Every follower that was away and returned to catch up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub catch_ups: Vec<CatchUp>,
    /// Things counted.
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
    /// Things divided; `null` in the file where there was nothing to divide by.
    #[serde(default, deserialize_with = "ratios")]
    pub ratios: BTreeMap<String, f64>,
    /// Distributions; the unit is the last word of the name.
    #[serde(default)]
    pub metrics: BTreeMap<String, Summary>,
}

impl RunRecord {
    /// Whether its times are of a clock that is made up: they say what came after what and how
    /// much later, and nothing of how fast anything is.
    pub fn is_virtual(&self) -> bool {
        self.world != "process"
    }

    /// Whether its outages were measured by the present rule.
    pub fn has_present_outages(&self) -> bool {
        self.schema_version >= OUTAGES_SINCE
    }

    /// What a reader must know before he quotes a figure.
    pub(crate) fn banner(&self) -> Option<String> {
        if self.is_virtual() {
            // How fast the build is shows in none of them.
            return Some("virtual time: no figure says how fast anything is".to_owned());
        }
        let profile: String = self.environment.build_profile.chars().take(20).collect();
        (!self.environment.is_measurement()).then(|| format!("{profile} build: not a measurement"))
    }
}

/// What a run or a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything that was promised held.
    Valid,
    /// A guarantee broke.
    Invalid,
    /// It could not be decided.
    Unknown,
}

impl Verdict {
    /// The word used in files and on terminals.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Unknown => "unknown",
        }
    }
}

/// What ran: needed to judge figures and to run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Commit of the source; with `-dirty` if it was modified, with `-older` if the program was
    /// built before that commit was checked out.
    pub commit: String,
    /// Build profile, `release` or `debug`.
    pub build_profile: String,
    /// Compiler version.
    pub rustc: String,
    /// The machine: processor, cores, memory, system.
    pub machine: String,
}

impl Environment {
    /// Whether figures of this build may be quoted as measurements.
    pub fn is_measurement(&self) -> bool {
        !matches!(self.build_profile.as_str(), "debug" | "dev" | "test")
    }
}

/// One checker's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Name of the checker.
    pub name: String,
    /// Its answer.
    pub verdict: Verdict,
    /// What it looked at, or what it found.
    pub detail: String,
}

/// Something that happened at a moment, or over a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// When it began.
    pub at_ms: f64,
    /// What: `kill`, `pause`, `stall`, …
    pub kind: String,
    /// The node concerned, if one.
    #[serde(default)]
    pub node: Option<u64>,
    /// All nodes that one fault hit, if any.
    #[serde(default)]
    pub nodes: Vec<u64>,
    /// More, in words.
    #[serde(default)]
    pub detail: String,
    /// When it was over, for what lasts.
    #[serde(default)]
    pub until_ms: Option<f64>,
}

/// One fault as it was carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// The trial, from 1.
    pub trial: u64,
    /// What: `kill`, `pause`, …
    pub fault: String,
    /// Of a `disk`: in which way it failed, such as `sync-error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// The node that was hit; of several the one that led, or the first.
    pub node: u64,
    /// All that were hit.
    #[serde(default)]
    pub nodes: Vec<u64>,
    /// When.
    pub struck_ms: f64,
    /// When the node was started again or went on, or the links were healed; `None` if that never
    /// came to pass.
    #[serde(default)]
    pub returned_ms: Option<f64>,
}

/// One fault and what it cost, or several that struck before clients were served again. What could
/// not be measured is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The fault: `kill`, `pause`, …; of several the one that hit the leader, or the first.
    pub fault: String,
    /// The others that struck before the outage was over, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// The node that was hit; of several the one that led, or the first.
    pub node: u64,
    /// All that were hit.
    #[serde(default)]
    pub nodes: Vec<u64>,
    /// When the first of them struck.
    pub fault_at_ms: f64,
    /// Term before the fault.
    pub term_before: Option<u64>,
    /// Term once the outage was over.
    pub term_after: Option<u64>,
    /// Leader once the outage was over.
    pub leader_after: Option<u64>,
    /// From the fault until 85 % of what was due were answered in good time again, over 100 ms and
    /// over half a second, and what had piled up by then as well.
    pub outage_ms: Option<f64>,
    /// The longest time without a success of anybody around the fault.
    pub longest_gap_ms: Option<f64>,
    /// The longest time that a single client went without a success around the fault.
    #[serde(default)]
    pub longest_client_gap_ms: Option<f64>,
    /// From the node's return until it had caught up; of several the longest, and `None` where one
    /// of them never had.
    pub rejoin_ms: Option<f64>,
    /// From the fault to the first campaign of a survivor.
    pub detect_ms: Option<f64>,
    /// From there to a new leader.
    pub elect_ms: Option<f64>,
    /// From there to the new leader's first commit.
    pub commit_ms: Option<f64>,
    /// From there until clients were served again.
    pub client_ms: Option<f64>,
}

/// A time in which a node was a member of the group no longer: also a row of `membership.csv`.
/// What did not come to pass is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lapse {
    /// What it began with: `leave`, `wipe`, `kill`, …
    pub fault: String,
    /// The node.
    pub node: u64,
    /// When it was hit.
    pub fault_at_ms: f64,
    /// From its wish to leave until it was removed.
    pub leave_ms: Option<f64>,
    /// From the fault until it was removed for its silence.
    pub evict_ms: Option<f64>,
    /// From its return until it learned.
    pub join_ms: Option<f64>,
    /// From its return until it voted.
    pub promote_ms: Option<f64>,
}

impl Trial {
    /// The outage split into its four parts, in their order in time.
    pub fn parts(&self) -> [Option<f64>; 4] {
        [self.detect_ms, self.elect_ms, self.commit_ms, self.client_ms]
    }

    /// How many faults it is about.
    pub(crate) fn faults(&self) -> u64 {
        1 + self.also.len() as u64
    }

    /// The outage, where one was measured.
    pub(crate) fn measured_ms(&self) -> Option<f64> {
        self.outage_ms.filter(|ms| ms.is_finite() && *ms >= 0.0)
    }

    /// How much of the outage its measured parts come to.
    pub(crate) fn split_ms(&self) -> f64 {
        self.parts().iter().flatten().filter(|ms| ms.is_finite() && **ms > 0.0).sum()
    }
}

/// The first version whose outages are those of the present rule.
const OUTAGES_SINCE: u32 = 2;

/// Seeds as `0x` and sixteen digits.
mod seed {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(seed: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{seed:#018x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        text.strip_prefix("0x")
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .ok_or_else(|| D::Error::custom(format!("seed {text:?} is not 0x and 1 to 16 digits")))
    }
}

/// JSON has no NaN: it is written as `null` and must be read back.
fn ratios<'de, D>(from: D) -> Result<BTreeMap<String, f64>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let read = BTreeMap::<String, Option<f64>>::deserialize(from)?;
    Ok(read.into_iter().map(|(name, ratio)| (name, ratio.unwrap_or(f64::NAN))).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record with something in every field.
    pub(crate) fn record() -> RunRecord {
        RunRecord {
            schema_version: SCHEMA_VERSION,
            scenario: "leader-failover".to_owned(),
            world: "process".to_owned(),
            transport: "QUIC over loopback UDP".to_owned(),
            seed: u64::MAX - 1,
            verdict: Verdict::Valid,
            plan: serde_json::json!({"nodes": 5, "profile": "lan"}),
            environment: Environment {
                commit: "0123456789abcdef".to_owned(),
                build_profile: "release".to_owned(),
                rustc: "rustc 1.91.0".to_owned(),
                machine: "2 cores".to_owned(),
            },
            command: None,
            trace_hash: None,
            checks: vec![Check {
                name: "linearizable".to_owned(),
                verdict: Verdict::Valid,
                detail: "10 keys".to_owned(),
            }],
            marks: Vec::new(),
            faults: Vec::new(),
            trials: Vec::new(),
            lapses: Vec::new(),
            catch_ups: Vec::new(),
            counts: BTreeMap::from([("elections".to_owned(), 3)]),
            ratios: BTreeMap::from([("overlap".to_owned(), 2.5)]),
            metrics: BTreeMap::from([(
                "forming_ms".to_owned(),
                Summary::from_samples(&[1.0, 2.0]).unwrap(),
            )]),
        }
    }

    #[test]
    fn a_seed_keeps_all_its_bits() {
        let json = serde_json::to_value(record()).unwrap();
        assert_eq!(json["seed"], "0xfffffffffffffffe");
        assert_eq!(json["verdict"], "valid");
        assert_eq!(serde_json::from_value::<RunRecord>(json).unwrap(), record());
    }

    #[test]
    fn figures_that_are_no_measurements_say_why() {
        let mut record = record();
        assert_eq!(record.banner(), None);
        record.environment.build_profile = "debug".to_owned();
        assert_eq!(record.banner().as_deref(), Some("debug build: not a measurement"));
        record.world = "sim".to_owned();
        assert!(record.banner().is_some_and(|banner| banner.starts_with("virtual time")));
    }

    #[test]
    fn a_ratio_of_nothing_is_null_and_reads_back() {
        let mut record = record();
        record.ratios.insert("idle".to_owned(), f64::NAN);
        let json = serde_json::to_string(&record).unwrap();
        assert!(json.contains("\"idle\":null"), "{json}");
        let read: RunRecord = serde_json::from_str(&json).unwrap();
        assert!(read.ratios["idle"].is_nan());
    }
}
