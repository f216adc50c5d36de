//! A plan: what a run does, as data. The same plan runs in every world.
//!
//! Read from TOML by [`parse`], checked by [`validate`]; the fields are public and nothing here
//! acts. Invariant: what [`validate`] lets pass can be carried out.

mod all;
mod disks;
mod expect;
mod lag;
mod packets;
mod random;
mod step;
mod times;
mod validate;
mod variant;
mod wording;
mod world;

use std::{fmt, str::FromStr, time::Duration};

use runtime::{ConsensusConfig, ConsensusProfile, Planted};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use crate::{fault::Fault, seed::Seed};

pub use expect::{ByProfile, Expect, GROWTH_LOAD_MS_MIN};
pub use lag::{LagFrom, LagPlan, settle};
pub(crate) use lag::{of_size, turns};
pub use packets::{Way, packet_faults};
pub(crate) use packets::{reach, rules};
pub use random::{RandomFaults, any_fault, draw_faults};
pub use step::{At, Flap, Step};
pub use times::{MsByProfile, PROFILES, keep_times};
pub(crate) use validate::drawn_window_ns;
pub use validate::{away, validate};
pub use variant::{Variant, choose};
pub use world::{WorldKind, drop_unmeasured, fits};

/// What a run does.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The name: letters, digits and `-`; becomes part of the run folder's path.
    pub scenario: String,
    /// One line for people.
    #[serde(default)]
    pub about: String,
    /// What a trial is.
    pub kind: Kind,
    /// How many nodes, 1 to 9.
    #[serde(default = "default_nodes")]
    pub nodes: u64,
    /// How many groups the nodes are members of, 1 to 16. The load is divided among them, and
    /// faults are aimed at the leader of the first.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: u64,
    /// How often the steps are carried out, for `formation` a fresh group is started, or for
    /// `lagging` one with each batch size.
    #[serde(default = "one")]
    pub trials: u64,
    /// How the nodes keep time.
    #[serde(default)]
    pub profile: ConsensusProfile,
    /// Whether leaders answer strong reads without asking the others while they hold a lease.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lease_reads: bool,
    /// After how much silence a leader removes a node from the group; that of the profile, five
    /// minutes, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evict_after_ms: Option<MsByProfile>,
    /// After so many entries a node takes a snapshot and lets go of most of its log before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_log_entries: Option<u32>,
    /// Where the nodes remember.
    #[serde(default)]
    pub storage: StorageKind,
    /// What decides every draw; a fresh one is drawn where it is absent.
    #[serde(default, with = "seed_text", skip_serializing_if = "Option::is_none")]
    pub seed: Option<Seed>,
    /// A rule that every node breaks on purpose, to see whether the checks notice. Refused unless
    /// built with the feature `planted-faults`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planted: Option<Planted>,
    /// Busy loops that run beside the nodes.
    #[serde(default)]
    pub background_load: u64,
    /// What clients do meanwhile; absent for `formation` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadPlan>,
    /// For `lagging`: who lags, how far, and how it catches up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<LagPlan>,
    /// What happens in each trial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// In place of steps: what may be [drawn](draw_faults) from the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random: Option<RandomFaults>,
    /// What the figures must come to, beyond the guarantees that every run is checked for.
    #[serde(default)]
    pub expect: Expect,
    /// Which of the variants it was made into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What it can be made into; [`choose`] one before it is carried out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
}

/// What a trial is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Load runs, the steps strike, the outage is measured, the node returns and catches up.
    Failover,
    /// A fresh group is started: from the start to a leader with all bonds.
    Formation,
    /// Load without faults.
    Steady,
    /// A fresh group is started under load, a follower is taken away, misses much, and returns:
    /// how long it takes to catch up.
    Lagging,
}

/// Where the nodes remember.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    /// Nowhere: a node that ends returns with a new store, so as another server, which joins,
    /// learns the log and votes again once the old one is out.
    Memory,
    /// On disk.
    #[default]
    Disk,
}

/// What clients do: registers, read and written in an open loop.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkloadPlan {
    /// Operations that are due each second, whether answers come or not.
    pub rate_per_s: u64,
    /// Clients, each with an endpoint and a connection of its own.
    pub clients: u64,
    /// Operations due at the same instant on the same key: what makes them overlap.
    pub burst: u64,
    /// Keys in use at a time.
    pub keys_live: u64,
    /// A key is retired after this many.
    pub operations_per_key: u64,
    /// Operations that may be unanswered at a time. One beyond them fails as busy, unsent.
    pub inflight_max: u64,
    /// Each client knows one node alone and stays with it, whatever befalls it; all nodes else.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// How the operations divide, in percent.
    pub mix: Mix,
    /// How long the load of one trial lasts.
    pub duration_ms: MsByProfile,
}

/// Percentages that add up to 100.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// Strong queries.
    pub read: u64,
    /// Writes of a value that is never written again.
    pub write: u64,
    /// Compare-and-set.
    pub cas: u64,
}

/// Why a plan cannot be carried out.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PlanError {
    /// It is not a plan: says where, and what was expected there.
    #[error("{0}")]
    Malformed(String),
    /// A field, or a combination of fields, that cannot be carried out.
    #[error("{field} is {value}, but {allowed}")]
    Field {
        /// The field, with its table.
        field: String,
        /// What it says.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

/// Reads a plan. It is not validated yet.
///
/// # Errors
/// [`PlanError::Malformed`] with the line and the field.
pub fn parse(text: &str) -> Result<Plan, PlanError> {
    if text.len() > PLAN_BYTES_MAX {
        let reason = format!("{} bytes, but a plan has at most {PLAN_BYTES_MAX}", text.len());
        return Err(PlanError::Malformed(reason));
    }
    toml::from_str(text).map_err(|error| PlanError::Malformed(wording::plainly(&error)))
}

/// Reads the name of a consensus profile.
///
/// # Errors
/// [`PlanError::Field`] with the names there are.
pub fn parse_profile(name: &str) -> Result<ConsensusProfile, PlanError> {
    match name {
        "lan" => Ok(ConsensusProfile::Lan),
        "wan" => Ok(ConsensusProfile::Wan),
        "loopback" => Ok(ConsensusProfile::Loopback),
        _ => Err(field("profile", name, "must be lan, wan or loopback")),
    }
}

/// How the group of a plan keeps time and how much it takes on.
pub fn consensus(plan: &Plan) -> ConsensusConfig {
    let consensus = plan.profile.config();
    let consensus = match &plan.lag {
        Some(lag) => lag.consensus(consensus),
        None => consensus,
    };
    let snapshot_log_entries = plan.snapshot_log_entries.unwrap_or(0);
    let evict_after =
        plan.evict_after_ms.map(|times| Duration::from_millis(times.of(plan.profile)));
    ConsensusConfig {
        lease_reads: plan.lease_reads,
        // Every node of a plan votes: one that was a member no longer must find a place again.
        voters_max: consensus.voters_max.max(u32::try_from(plan.nodes).unwrap_or(u32::MAX)),
        snapshot_log_entries,
        // Judges of logs want all of them, unless the plan says otherwise.
        snapshot_log_bytes: 0,
        // Short, so that whoever was away for a while needs the snapshot.
        snapshot_tail_entries: snapshot_log_entries / 4,
        evict_after: evict_after.unwrap_or(consensus.evict_after),
        ..consensus
    }
}

/// Whether those that the step takes away may be members no longer when it is over.
pub(crate) fn may_unseat(plan: &Plan, step: &Step) -> bool {
    step.changes_members() || plan.evict_after_ms.is_some()
}

/// Whether a node that the step hits returns with a new store.
pub(crate) fn forgets(plan: &Plan, fault: Fault) -> bool {
    plan.storage == StorageKind::Memory && fault.ends_process()
}

/// The name of a consensus profile.
pub fn profile_name(profile: ConsensusProfile) -> &'static str {
    match profile {
        ConsensusProfile::Lan => "lan",
        ConsensusProfile::Wan => "wan",
        ConsensusProfile::Loopback => "loopback",
    }
}

impl Default for WorkloadPlan {
    fn default() -> Self {
        Self {
            rate_per_s: 500,
            clients: 8,
            burst: 5,
            keys_live: 10,
            operations_per_key: 500,
            inflight_max: 8_192,
            pinned: false,
            mix: Mix::default(),
            duration_ms: MsByProfile::all(5_000),
        }
    }
}

impl Default for Mix {
    fn default() -> Self {
        Self { read: 50, write: 40, cas: 10 }
    }
}

impl FromStr for StorageKind {
    type Err = PlanError;

    fn from_str(name: &str) -> Result<Self, PlanError> {
        match name {
            "memory" => Ok(Self::Memory),
            "disk" => Ok(Self::Disk),
            _ => Err(field("storage", name, "must be memory or disk")),
        }
    }
}

impl FromStr for Fault {
    type Err = PlanError;

    fn from_str(name: &str) -> Result<Self, PlanError> {
        match name {
            "kill" => Ok(Self::Kill),
            "pause" => Ok(Self::Pause),
            "isolate" => Ok(Self::Isolate),
            "restart" => Ok(Self::Restart),
            "transfer" => Ok(Self::Transfer),
            "leave" => Ok(Self::Leave),
            "wipe" => Ok(Self::Wipe),
            // In which way it fails another word says.
            "disk" => Ok(Self::Disk),
            // The others need more words than two.
            _ => {
                let allowed =
                    "must be disk, isolate, kill, leave, pause, restart, transfer or wipe";
                Err(field("fault", name, allowed))
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failover => "failover",
            Self::Formation => "formation",
            Self::Steady => "steady",
            Self::Lagging => "lagging",
        })
    }
}

/// Seeds are text: TOML's numbers end at 2^63, and people write them in hexadecimal.
mod seed_text {
    use super::{Deserializer, Seed, Serializer, de, de::Error, fmt};

    // Serde's `with` hands over a reference to the whole field.
    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(seed: &Option<Seed>, to: S) -> Result<S::Ok, S::Error> {
        match seed {
            Some(seed) => to.serialize_str(&seed.to_string()),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Seed>, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Seed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text such as \"7\" or \"0x9f3c\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Seed, E> {
                text.parse().map_err(E::custom)
            }
        }

        from.deserialize_str(Visitor).map(Some)
    }
}

fn field(field: &str, value: impl fmt::Display, allowed: impl Into<String>) -> PlanError {
    // What was typed is repeated, but not at any length.
    let value = value.to_string().chars().take(60).collect();
    PlanError::Field { field: field.into(), value, allowed: allowed.into() }
}

fn within(name: &str, value: u64, min: u64, max: u64) -> Result<(), PlanError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(field(name, value, format!("must lie between {min} and {max}")))
}

fn default_nodes() -> u64 {
    5
}

fn one() -> u64 {
    1
}

// Serde hands over a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_one(count: &u64) -> bool {
    *count == 1
}

const PLAN_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{NodeNumber, Target};

    const PLAN: &str = "scenario = \"x\"\nkind = \"failover\"\nseed = \"0x9f3c\"\n[workload]\n\
        rate_per_s = 700\n[[steps]]\nat = 1500\nfault = \"pause\"\ntarget = { node = 2 }\n\
        return_after_ms = 10\n[expect]\noutage_ms_max = 700.0\n";

    const LINKS: &str = "[[steps]]\nat = 1\nfault = \"partition\"\nside = [1, 2]\n\
        return_after_ms = 10\n[[steps]]\nat = 1\nfault = \"link\"\nto = 3\nway = \"in\"\n\
        return_after_ms = 10\nfaults = { loss = 0.1, delay_ms = 20 }\n";

    #[test]
    fn a_plan_is_read_with_its_defaults() {
        let plan = parse(PLAN).expect("a plan");
        assert_eq!((plan.nodes, plan.trials, plan.seed), (5, 1, Some(Seed(0x9f3c))));
        assert_eq!((plan.profile, plan.storage), (ConsensusProfile::Lan, StorageKind::Disk));
        let load = plan.workload.expect("it has one");
        assert_eq!((load.rate_per_s, load.keys_live, load.operations_per_key), (700, 10, 500));
        assert_eq!(load.mix, Mix { read: 50, write: 40, cas: 10 });
        let step = &plan.steps[0];
        assert_eq!((step.at, step.fault), (At::Ms(MsByProfile::all(1_500)), Fault::Pause));
        assert_eq!(step.target, Target::Node(NodeNumber(2)));
    }

    #[test]
    fn a_plan_survives_toml_and_json() {
        let plan = parse(&format!("{PLAN}{LINKS}")).expect("a plan");
        let text = toml::to_string(&plan).expect("plain data");
        assert_eq!(parse(&text).expect("its own text"), plan);
        let json = serde_json::to_string(&plan).expect("plain data");
        assert_eq!(serde_json::from_str::<Plan>(&json).expect("its own text"), plan);
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let cases = [
            ("kind = \"failover\"", "kind = \"fail\"", "line 2", "formation"),
            ("kind = \"failover\"", "knd = \"failover\"", "line 2", "unknown field `knd`"),
            ("seed = \"0x9f3c\"", "seed = \"x\"", "line 3", "below 2^64"),
            ("seed = \"0x9f3c\"", "seed = 7", "line 3", "text such as \"7\""),
            ("rate_per_s = 700", "rate_per_s = -1", "line 5", "a whole number that is not neg"),
            ("rate_per_s = 700", "rate_per_s = \"fast\"", "line 5", "a whole number that is not"),
            ("rate_per_s = 700", "mix = 1", "line 5", "{ read = 50, write = 40, cas = 10 }"),
            ("at = 1500", "at = \"noon\"", "line 7", "\"random\" or milliseconds"),
            ("at = 1500", "at = -3", "line 7", "\"random\" or milliseconds"),
            ("fault = \"pause\"", "fault = \"flood\"", "line 8", "kill"),
            ("target = { node = 2 }", "target = \"boss\"", "line 9", "`all`, { node = 2 }"),
            ("target = { node = 2 }", "target = 2", "line 9", "or { node = 2 }"),
            ("outage_ms_max = 700.0", "outage_ms_max = \"short\"", "line 12", "expected a number"),
            ("outage_ms_max", "outage_max", "line 12", "unknown field `outage_max`"),
            ("[workload]", "[workload", "line 4", "]"),
        ];
        for (from, to, line, reason) in cases {
            let error = parse(&PLAN.replace(from, to)).expect_err(to).to_string();
            assert!(error.contains(line), "{to}: {error}");
            assert!(error.contains(reason), "{to}: {error}");
        }
        let missing = parse("kind = \"steady\"\n").expect_err("no name").to_string();
        assert!(missing.contains("scenario"), "{missing}");
        parse(&"#".repeat(PLAN_BYTES_MAX + 1)).expect_err("too long");
    }

    #[test]
    fn names_are_read_back_and_others_refused_with_those_there_are() {
        for profile in [ConsensusProfile::Lan, ConsensusProfile::Wan, ConsensusProfile::Loopback] {
            assert_eq!(parse_profile(profile_name(profile)), Ok(profile));
        }
        let error = parse_profile("moon").expect_err("unknown").to_string();
        assert!(error.contains("lan, wan or loopback"), "{error}");
        assert_eq!("disk".parse(), Ok(StorageKind::Disk));
        let error = "tape".parse::<StorageKind>().expect_err("unknown").to_string();
        assert!(error.contains("memory or disk"), "{error}");
        assert_eq!("kill".parse(), Ok(Fault::Kill));
        let error = "hug".parse::<Fault>().expect_err("unknown").to_string();
        assert!(error.contains("kill, leave, pause, restart, transfer or wipe"), "{error}");
    }
}
