//! A follower that lags: what takes it away, what it misses meanwhile, and how it fetches that.
//!
//! Plain data, and which of it can be carried out. Each trial is a plan of its own, with one batch
//! size. Invariant: what [`check`] lets pass gives every trial settings that a group can have.

use std::{fmt, str::FromStr};

use runtime::{ConsensusConfig, ConsensusProfile};
use serde::{Deserialize, Serialize};

use crate::{
    fault::Fault,
    link::{self, LinkFaults, Share},
    plan::{Kind, Plan, PlanError, StorageKind, WorldKind, consensus, field, within},
};

/// What a plan of kind `lagging` is about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LagPlan {
    /// What takes the follower away: `kill`, `pause`, `isolate` or `wipe`.
    pub fault: Fault,
    /// Commands that the group commits meanwhile; if absent 50,000, and 30,000 in virtual time,
    /// where each costs more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// What each of them carries.
    pub command_bytes: u64,
    /// Entries in one chunk, where the follower fetches in bulk; the trials of each take turns.
    pub batch_sizes: Vec<u32>,
    /// Chunks that it asks of each other at a time; the profile's if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inflight_per_peer_max: Option<u32>,
    /// Bytes per second that it fetches so; without a bound if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_bytes_per_s_max: Option<u32>,
    /// What the others still have of what it misses.
    pub from: LagFrom,
    /// What befalls the datagrams between it and the others, both ways, from before the fault on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<LinkFaults>,
    /// It must have caught up so long after its first bond.
    pub bound_ms: u64,
}

/// What the others still have of what a follower misses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LagFrom {
    /// Every entry.
    #[default]
    Replay,
    /// A snapshot, and the entries since.
    Snapshot,
}

/// The plan of the trials with one of its batch sizes.
pub(crate) fn of_size(plan: &Plan, size: u32) -> Plan {
    let mut of_size = plan.clone();
    let Some(lag) = &mut of_size.lag else { return of_size };
    lag.batch_sizes = vec![size];
    if lag.from == LagFrom::Snapshot && of_size.snapshot_log_entries.is_none() {
        // The last one is taken within a quarter of its end, and the log before it is gone.
        let quarter = u32::try_from(lag.entries() / 4).unwrap_or(u32::MAX);
        of_size.snapshot_log_entries = Some(quarter.max(SNAPSHOT_LOG_ENTRIES_MIN));
    }
    of_size
}

/// Trial by trial, from 1, the batch size: all sizes take turns.
pub(crate) fn turns(plan: &Plan) -> Vec<(u64, u32)> {
    let Some(lag) = &plan.lag else { return Vec::new() };
    let rounds = (0..plan.trials).flat_map(|_| lag.batch_sizes.iter().copied());
    (1..).zip(rounds).collect()
}

/// Gives a plan what it leaves to the world that it is carried out in.
pub fn settle(plan: &mut Plan, world: WorldKind) {
    let Some(lag) = &mut plan.lag else { return };
    lag.entries.get_or_insert(LagPlan::entries_in(world));
}

impl LagPlan {
    /// Commands that a group commits in this world, where a plan does not say how many.
    pub fn entries_in(world: WorldKind) -> u64 {
        if world.is_virtual() { ENTRIES_VIRTUAL } else { ENTRIES }
    }

    /// Commands that the group commits while the follower is away.
    pub fn entries(&self) -> u64 {
        self.entries.unwrap_or(ENTRIES)
    }

    /// Whether datagrams must be hurt for it.
    pub(super) fn hits_links(&self) -> bool {
        self.fault.hits_links() || self.links.is_some()
    }

    /// The settings of a group whose trial it is.
    pub(super) fn consensus(&self, mut settings: ConsensusConfig) -> ConsensusConfig {
        if let Some(size) = self.batch_sizes.first() {
            settings.batch_size = *size;
            // A chunk ends at so many bytes as well, and sizes are compared that are filled.
            let bytes =
                self.command_bytes.saturating_add(ENTRY_BYTES).saturating_mul((*size).into());
            let bytes =
                u32::try_from(bytes).map_or(BATCH_BYTES_MAX, |bytes| bytes.min(BATCH_BYTES_MAX));
            settings.batch_bytes_max = settings.batch_bytes_max.max(bytes);
        }
        if let Some(inflight) = self.inflight_per_peer_max {
            settings.inflight_per_peer_max = inflight;
        }
        if let Some(rate) = self.rate_bytes_per_s_max {
            settings.catch_up_rate_max = rate;
        }
        settings
    }
}

impl Default for LagPlan {
    fn default() -> Self {
        Self {
            fault: Fault::Kill,
            entries: None,
            command_bytes: 64,
            batch_sizes: vec![ConsensusProfile::Lan.config().batch_size],
            inflight_per_peer_max: None,
            rate_bytes_per_s_max: None,
            from: LagFrom::Replay,
            links: None,
            bound_ms: 60_000,
        }
    }
}

/// Checks that it has all it needs, and nothing that is of no use to it.
pub(super) fn check(plan: &Plan) -> Result<(), PlanError> {
    let lag = match (&plan.lag, plan.kind) {
        (Some(lag), Kind::Lagging) => lag,
        (None, Kind::Lagging) => return Err(field("lag", "absent", "lagging needs one")),
        (Some(_), kind) => {
            let allowed = format!("{kind} has no follower that lags: use kind = \"lagging\"");
            return Err(field("lag", "present", allowed));
        }
        (None, _) => return Ok(()),
    };
    beside(plan)?;
    fault(plan, lag)?;
    within("lag.entries", lag.entries(), 1, ENTRIES_MAX)
        .map_err(|error| hinted(error, "--entries"))?;
    within("lag.command_bytes", lag.command_bytes, 0, COMMAND_BYTES_MAX)
        .map_err(|error| hinted(error, "--command-bytes"))?;
    let bytes = lag.entries().saturating_mul(lag.command_bytes);
    if bytes > FILL_BYTES_MAX {
        let allowed = format!(
            "lag.entries times lag.command_bytes may come to {FILL_BYTES_MAX} bytes, since every \
             node keeps them in memory"
        );
        return Err(field("lag.entries", format!("{} of {bytes} bytes", lag.entries()), allowed));
    }
    within("lag.bound_ms", lag.bound_ms, 1_000, BOUND_MS_MAX)?;
    sizes(plan, lag)?;
    snapshot(plan, lag)?;
    links(lag)
}

/// What the plan says beside its lag.
fn beside(plan: &Plan) -> Result<(), PlanError> {
    within("nodes", plan.nodes, NODES_MIN, u64::MAX).map_err(|_| {
        let allowed = "lagging needs at least 3: the others must be a majority";
        field("nodes", plan.nodes, allowed)
    })?;
    let refused = |name: &str, value: &str, allowed: &str| Err(field(name, value, allowed));
    let Some(load) = &plan.workload else {
        return refused("workload", "absent", "lagging needs one");
    };
    if load.pinned {
        return refused("workload.pinned", "true", "lagging has clients that know every node");
    }
    if !plan.steps.is_empty() || plan.random.is_some() {
        let name = if plan.steps.is_empty() { "random" } else { "steps" };
        return refused(name, "present", "what a lagging plan does to its follower is lag.fault");
    }
    if plan.groups > 1 {
        return Err(field("groups", plan.groups, "lagging is about one group: use 1"));
    }
    if let Some(evict_after_ms) = plan.evict_after_ms {
        let allowed = "a follower that lags must stay a member: use lag.fault = \"wipe\" for one \
                       that joins anew";
        return Err(field("evict_after_ms", evict_after_ms.of(plan.profile), allowed));
    }
    Ok(())
}

fn fault(plan: &Plan, lag: &LagPlan) -> Result<(), PlanError> {
    if !FAULTS.contains(&lag.fault) {
        return Err(field("lag.fault", lag.fault, "must be kill, pause, isolate or wipe"));
    }
    if lag.fault == Fault::Wipe && plan.storage == StorageKind::Memory {
        let allowed = "it is for nodes that keep a store: use storage = \"disk\", or kill, after \
                       which a node that remembers in memory is a new server as well";
        return Err(field("lag.fault", "wipe with storage = \"memory\"", allowed));
    }
    Ok(())
}

/// Each batch size, and what else says how it is fetched.
fn sizes(plan: &Plan, lag: &LagPlan) -> Result<(), PlanError> {
    let count = lag.batch_sizes.len();
    if !(1..=SIZES_MAX).contains(&count) {
        let value = format!("a list of {count}");
        return Err(field("lag.batch_sizes", value, format!("there must be 1 to {SIZES_MAX}")));
    }
    for (place, size) in lag.batch_sizes.iter().enumerate() {
        if lag.batch_sizes[..place].contains(size) {
            let allowed = format!("{size} is there twice, and each size has trials of its own");
            return Err(field("lag.batch_sizes", format!("{:?}", lag.batch_sizes), allowed));
        }
        if let Err(error) = consensus(&of_size(plan, *size)).validate() {
            let (name, option) = match error.field {
                "batch_size" => ("lag.batch_sizes", "--batch-size"),
                "inflight_per_peer_max" => ("lag.inflight_per_peer_max", "--inflight"),
                "catch_up_rate_max" => ("lag.rate_bytes_per_s_max", "--rate-max"),
                other => (other, "--profile"),
            };
            return Err(hinted(field(name, error.value, error.rule), option));
        }
    }
    Ok(())
}

/// How often it is done with each batch size: so that there are not too many fresh groups in all.
pub(super) fn trials(plan: &Plan, lag: &LagPlan) -> Result<(), PlanError> {
    // How many sizes there may be is said elsewhere.
    let count = lag.batch_sizes.len().clamp(1, SIZES_MAX) as u64;
    let most = TRIALS_MAX / count;
    if (1..=most).contains(&plan.trials) {
        return Ok(());
    }
    let mut allowed = format!("must lie between 1 and {most}");
    if count > 1 {
        allowed += &format!(
            ": each of {count} batch sizes has fresh groups of its own, {TRIALS_MAX} at most in all"
        );
    }
    Err(field("trials", plan.trials, allowed))
}

/// Whether what is missed is compacted exactly where that is meant.
fn snapshot(plan: &Plan, lag: &LagPlan) -> Result<(), PlanError> {
    match (lag.from, plan.snapshot_log_entries) {
        (LagFrom::Replay, Some(entries)) => {
            let allowed = "with lag.from = \"replay\" the others keep every entry: leave it out, or \
                           use \"snapshot\"";
            Err(field("snapshot_log_entries", entries, allowed))
        }
        (LagFrom::Snapshot, Some(entries)) if u64::from(entries) * 2 > lag.entries() => {
            let allowed = format!(
                "with lag.from = \"snapshot\" the log that is missed must be compacted: use at most \
                 half of lag.entries, {}",
                lag.entries() / 2
            );
            Err(field("snapshot_log_entries", entries, allowed))
        }
        (LagFrom::Snapshot, None) if lag.entries() < SNAPSHOT_ENTRIES_MIN => {
            let allowed = format!(
                "with lag.from = \"snapshot\" there must be something to compact: at least \
                 {SNAPSHOT_ENTRIES_MIN}"
            );
            Err(field("lag.entries", lag.entries(), allowed))
        }
        _ => Ok(()),
    }
}

fn links(lag: &LagPlan) -> Result<(), PlanError> {
    let Some(links) = &lag.links else { return Ok(()) };
    if links.severs() || links.loss == Share::ALL {
        let allowed = "over such links nobody catches up: use lag.fault = \"isolate\" for a cut";
        return Err(field("lag.links", links, allowed));
    }
    if links.is_none() {
        let allowed = "must name what befalls datagrams, such as { delay_ms = 20, loss = 0.01 }";
        return Err(field("lag.links", "empty", allowed));
    }
    let Err(error) = link::validate(links) else { return Ok(()) };
    let refused = field(&format!("lag.links.{}", error.field), error.value, error.allowed);
    Err(match error.field {
        "delay_ms" => hinted(refused, "--link-delay"),
        "bandwidth_bytes_per_s" => hinted(refused, "--link-bandwidth"),
        _ => refused,
    })
}

/// The refusal, with the option that sets the field.
fn hinted(error: PlanError, option: &str) -> PlanError {
    match error {
        PlanError::Field { field, value, allowed } => {
            PlanError::Field { field, value, allowed: format!("{allowed} ({option})") }
        }
        other => other,
    }
}

impl FromStr for LagFrom {
    type Err = PlanError;

    fn from_str(name: &str) -> Result<Self, PlanError> {
        match name {
            "replay" => Ok(Self::Replay),
            "snapshot" => Ok(Self::Snapshot),
            _ => Err(field("from", name, "must be replay or snapshot")),
        }
    }
}

impl fmt::Display for LagFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replay => "replay",
            Self::Snapshot => "snapshot",
        })
    }
}

/// What can take a follower away for a while.
const FAULTS: [Fault; 4] = [Fault::Kill, Fault::Pause, Fault::Isolate, Fault::Wipe];
const NODES_MIN: u64 = 3;
const ENTRIES: u64 = 50_000;
/// More than the leader's own window holds, so that chunks are asked for.
const ENTRIES_VIRTUAL: u64 = 30_000;
const ENTRIES_MAX: u64 = 5_000_000;
/// What a group takes in one command, less what goes with it.
const COMMAND_BYTES_MAX: u64 = 1_000_000;
const FILL_BYTES_MAX: u64 = 1 << 30;
const SIZES_MAX: usize = 16;
/// Of all sizes together.
const TRIALS_MAX: u64 = 1_000;
const BOUND_MS_MAX: u64 = 3_600_000;
/// What a plan may ask for at least.
const SNAPSHOT_LOG_ENTRIES_MIN: u32 = 4;
const SNAPSHOT_ENTRIES_MIN: u64 = 16;

/// What an entry takes beside its command, at most.
const ENTRY_BYTES: u64 = 160;
/// The most that a group can be set to.
const BATCH_BYTES_MAX: u32 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{fits, packet_faults, parse, validate};

    const GOOD: &str = "scenario = \"x\"\nkind = \"lagging\"\nnodes = 4\ntrials = 2\n[workload]\n\
                        [lag]\nbatch_sizes = [100, 500, 2000]\n";

    fn plan(more: &str) -> Plan {
        parse(&format!("{GOOD}{more}\n")).expect("well formed")
    }

    fn refused(plan: &Plan) -> String {
        validate(plan).expect_err("cannot be carried out").to_string()
    }

    #[test]
    fn sizes_take_turns_and_each_trial_has_settings_of_its_own() {
        let plan = plan("inflight_per_peer_max = 9\nrate_bytes_per_s_max = 1000000");
        assert_eq!(validate(&plan), Ok(()));
        let turns = turns(&plan);
        assert_eq!(turns.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        let sizes: Vec<u32> = turns.iter().map(|(_, size)| *size).collect();
        assert_eq!(sizes, [100, 500, 2000, 100, 500, 2000]);
        let settings = consensus(&of_size(&plan, 500));
        assert_eq!((settings.batch_size, settings.inflight_per_peer_max), (500, 9));
        assert_eq!((settings.catch_up_rate_max, settings.snapshot_log_entries), (1_000_000, 0));
    }

    #[test]
    fn a_snapshot_takes_the_place_of_most_of_what_is_missed() {
        let compacted = plan("from = \"snapshot\"\nentries = 8000");
        assert_eq!(validate(&compacted), Ok(()));
        assert_eq!(consensus(&of_size(&compacted, 100)).snapshot_log_entries, 2_000);
        let late = Plan { snapshot_log_entries: Some(4_001), ..compacted };
        assert!(refused(&late).contains("at most half of lag.entries, 4000"));
        let kept = Plan { snapshot_log_entries: Some(400), ..plan("") };
        assert!(refused(&kept).contains("use \"snapshot\""), "{}", refused(&kept));
        assert!(refused(&plan("from = \"snapshot\"\nentries = 15")).contains("at least 16"));
    }

    #[test]
    fn the_world_decides_how_much_where_the_plan_does_not() {
        for (world, entries) in [(WorldKind::Process, ENTRIES), (WorldKind::Sim, ENTRIES_VIRTUAL)] {
            let mut plan = plan("");
            settle(&mut plan, world);
            assert_eq!(plan.lag.map(|lag| lag.entries()), Some(entries));
        }
        let mut own = plan("entries = 7");
        settle(&mut own, WorldKind::Sim);
        assert_eq!(own, plan("entries = 7"));
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused_by_field() {
        for (more, expected) in [
            ("entries = 0", "lag.entries is 0, but must lie between 1 and 5000000"),
            ("entries = 5000001", "lag.entries is 5000001"),
            ("command_bytes = 1000001", "lag.command_bytes is 1000001"),
            ("entries = 20000\ncommand_bytes = 60000", "every node keeps them in memory"),
            ("inflight_per_peer_max = 0", "lag.inflight_per_peer_max is 0, but must lie between 1"),
            (
                "rate_bytes_per_s_max = 5",
                "lag.rate_bytes_per_s_max is 5, but must lie between 65536",
            ),
            ("bound_ms = 5", "lag.bound_ms is 5"),
            ("fault = \"leave\"", "lag.fault is leave, but must be kill, pause, isolate or wipe"),
            ("links = { block = true }", "use lag.fault = \"isolate\""),
            ("links = {}", "such as { delay_ms = 20, loss = 0.01 }"),
            ("links = { delay_ms = 99999999 }", "lag.links.delay_ms is 99999999"),
            ("links = { loss = 1.0 }", "lag.links is loss 1, but over such links nobody"),
        ] {
            let text = refused(&plan(more));
            assert!(text.contains(expected), "{more}: {text}");
        }
        for (sizes, expected) in [
            ("[]", "a list of 0, but there must be 1 to 16"),
            ("[0]", "lag.batch_sizes is 0, but must lie between 1 and 1048576"),
            ("[100, 2000000]", "lag.batch_sizes is 2000000"),
            ("[7, 7]", "7 is there twice"),
        ] {
            let text = GOOD.replace("[100, 500, 2000]", sizes);
            let text = refused(&parse(&text).expect("well formed"));
            assert!(text.contains(expected), "{sizes}: {text}");
        }
    }

    #[test]
    fn a_chunk_has_room_for_as_many_entries_as_the_plan_says_as_far_as_a_group_can() {
        let bytes_max = |sizes: &str, command_bytes: u64| {
            let mut plan = plan(&format!("command_bytes = {command_bytes}"));
            let lag = plan.lag.as_mut().expect("it has one");
            lag.batch_sizes = vec![sizes.parse().expect("a number")];
            consensus(&plan).batch_bytes_max
        };
        let own = ConsensusProfile::Lan.config().batch_bytes_max;
        assert_eq!(bytes_max("500", 64), own);
        assert!(bytes_max("10000", 64) > 10_000 * 64);
        assert_eq!(bytes_max("1048576", 1_000), 16 << 20);
    }

    #[test]
    fn what_stands_beside_it_must_leave_it_room() {
        for (from, to, expected) in [
            ("nodes = 4", "nodes = 2", "nodes is 2, but lagging needs at least 3"),
            (
                "trials = 2",
                "trials = 400",
                "trials is 400, but must lie between 1 and 333: each of 3",
            ),
            ("trials = 2", "trials = 0", "trials is 0, but must lie between 1 and 333: each of 3"),
            ("nodes = 4", "groups = 2", "groups is 2"),
            ("nodes = 4", "nodes = 5\nevict_after_ms = 3000", "must stay a member"),
            ("[workload]", "[workload]\npinned = true", "workload.pinned is true"),
            ("kind = \"lagging\"", "kind = \"steady\"\n", "use kind = \"lagging\""),
            ("[lag]\nbatch_sizes = [100, 500, 2000]\n", "", "lag is absent"),
            ("[workload]", "", "workload is absent, but lagging needs one"),
            (
                "[lag]",
                "[[steps]]\nat = 1\nfault = \"kill\"\nreturn_after_ms = 9\n[lag]",
                "is lag.fault",
            ),
            ("[lag]", "[lag]\nfault = \"wipe\"", ""),
        ] {
            let text = GOOD.replacen(from, to, 1);
            let mut plan = parse(&text).expect("well formed");
            if expected.is_empty() {
                plan.storage = StorageKind::Memory;
            }
            let text = refused(&plan);
            assert!(text.contains(expected), "{to}: {text}");
        }
    }

    #[test]
    fn links_are_hurt_where_they_must_be_and_no_world_without_bonds_will_do() {
        assert!(!packet_faults(&plan("")));
        assert!(packet_faults(&plan("fault = \"isolate\"")));
        assert!(packet_faults(&plan("links = { delay_ms = 5 }")));
        for world in [WorldKind::Process, WorldKind::Sim] {
            assert_eq!(fits(&plan(""), world), Ok(()));
        }
        let text = fits(&plan(""), WorldKind::Swarm).expect_err("cores fetch nothing").to_string();
        assert!(text.starts_with("kind is lagging, but world swarm"), "{text}");
    }
}
