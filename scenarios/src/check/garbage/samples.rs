//! Folders of short runs that between them hold all that a record, a schedule and events may say.
//!
//! Invariant: what was carried out follows from the plan and the seed, in worlds whose time is made
//! up.

use std::{collections::BTreeMap, fs};

use chaos::plan::{Plan, WorkloadPlan, WorldKind};
use chaos::seed::Seed;
use reports::{Environment, RunRecord, Verdict};

use crate::check::LOGS;
use crate::conduct::{self, Manner};
use crate::worlds::{self, Setting};

/// By their names.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Folders of every kind of run.
pub(super) fn all() -> Vec<Files> {
    let in_sim = match worlds::admit(WorldKind::Sim, false) {
        Ok(()) => vec![CHURN, LAGGING, FORMATION, ROLLING],
        // Built without its simulator this program judges such folders all the same.
        Err(_) => Vec::new(),
    };
    let simulated = in_sim.into_iter().map(|text| of(&parsed(text), WorldKind::Sim));
    [failover(light)].into_iter().chain(simulated).collect()
}

/// The folder of a run of cores alone, with a load that was changed.
pub(super) fn failover(change: impl FnOnce(&mut WorkloadPlan)) -> Files {
    let mut plan = parsed(include_str!("../../../plans/leader-failover.toml"));
    plan.trials = 1;
    change(plan.workload.as_mut().expect("it has clients"));
    of(&plan, WorldKind::Swarm)
}

/// So little load that the files are small.
pub(super) fn light(load: &mut WorkloadPlan) {
    (load.rate_per_s, load.clients, load.burst, load.keys_live) = (20, 2, 2, 2);
}

fn parsed(text: &str) -> Plan {
    chaos::plan::parse(text).expect("a plan")
}

/// The files that judging and drawing read, of a run with the seed 7.
fn of(plan: &Plan, world: WorldKind) -> Files {
    let out = tempfile::tempdir().expect("a temporary directory");
    let seed = Seed(7);
    let folder = conduct::folder(out.path(), plan, seed).expect("a folder");
    let path = folder.path().to_owned();
    let (environment, command) = (Environment::here(), String::new());
    let manner = Manner { environment, command, is_watched: false, is_kept: true };
    let setting = Setting { world, plan, seed, is_traced: false };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let conducted = runtime.expect("a runtime").block_on(conduct::conduct(setting, folder, manner));
    conducted.expect("it can be carried out");
    let read = |name: &str| fs::read(path.join(name)).ok().map(|bytes| (name.to_owned(), bytes));
    let names = ["run.json", "history.jsonl", "events.jsonl", "schedule.toml", LOGS];
    let mut files: Files = names.into_iter().filter_map(read).collect();
    if let Some(events) = files.get_mut("events.jsonl") {
        events.extend_from_slice(OF_PROCESSES.as_bytes());
    }
    files
}

/// What only real processes note, and what a later version may.
const OF_PROCESSES: &str = r#"{"at_ns":1500000,"node":1,"what":"usage","resident_kb":9,"log_kb":8,"cpu_ms":7}
{"at_ns":1600000,"node":1,"what":"usage","resident_kb":9,"log_kb":8,"cpu_ms":7,"calls":3,"storage_backlog_kb":5,"held_messages":1}
{"at_ns":1700000,"node":2,"what":"stall","from_ns":1600000}
{"at_ns":1800000,"node":2,"what":"stopped","reason":"a sync failed"}
{"at_ns":1900000,"node":3,"what":"died","reason":"exit code 1"}
{"at_ns":2000000,"node":3,"what":"note","text":"anything else"}
{"at_ns":2100000,"node":3,"what":"unheard-of","more":[1]}
"#;

/// Nodes leave, lose their stores and are evicted, and join again.
const CHURN: &str = r#"
scenario = "churn"
kind = "failover"
nodes = 4
evict_after_ms = 1500
[workload]
rate_per_s = 20
clients = 2
burst = 2
keys_live = 2
duration_ms = 14000
[[steps]]
at = 1000
fault = "leave"
target = "follower"
return_after_ms = 500
[[steps]]
at = 4000
fault = "wipe"
target = "follower"
return_after_ms = 500
[[steps]]
at = 7000
fault = "kill"
target = "leader"
return_after_ms = 3000
[expect]
outage_ms_max = { lan = 900, wan = 6000 }
"#;

/// A follower misses much and catches up, from entries of two sizes.
const LAGGING: &str = r#"
scenario = "lagging"
kind = "lagging"
nodes = 3
[lag]
entries = 300
batch_sizes = [50, 100]
[workload]
rate_per_s = 20
clients = 2
burst = 2
keys_live = 2
duration_ms = 1000
"#;

/// Fresh nodes meet.
const FORMATION: &str = r#"
scenario = "formation"
kind = "formation"
nodes = 3
trials = 2
[expect]
forming_ms_max = 9000
"#;

/// Nodes hand over and are restarted, and one has a disk that fails.
const ROLLING: &str = r#"
scenario = "rolling"
kind = "failover"
nodes = 3
[workload]
rate_per_s = 20
clients = 2
burst = 2
keys_live = 2
duration_ms = 8000
[[steps]]
at = 1000
fault = "restart"
target = { node = 1 }
hand_over = true
return_after_ms = 1000
[[steps]]
at = 3000
fault = "restart"
target = { node = 2 }
return_after_ms = 1000
[[steps]]
at = 5000
fault = "disk"
target = "follower"
disk = { kind = "sync-error" }
return_after_ms = 1000
"#;

#[test]
fn between_them_they_have_every_part_of_a_record() {
    let samples = all();
    let record = |files: &Files| -> RunRecord {
        serde_json::from_slice(&files["run.json"]).expect("a record")
    };
    let records: Vec<_> = samples.iter().map(record).collect();
    for record in &records {
        // With so little load much is not known.
        assert_ne!(record.verdict, Verdict::Invalid, "{}: {:?}", record.scenario, record.checks);
    }
    assert!(records.iter().any(|record| !record.trials.is_empty()));
    if samples.len() == 1 {
        return;
    }
    let lapses: Vec<_> = records.iter().flat_map(|record| &record.lapses).collect();
    let evicted = lapses.iter().filter(|lapse| lapse.evict_ms.is_some());
    assert!(lapses.len() >= 3 && evicted.count() > 0, "{lapses:?}");
    assert!(records.iter().any(|record| record.catch_ups.len() == 2));
    assert!(records.iter().any(|record| record.metrics.contains_key("forming_ms")));
    assert!(records.iter().any(|record| record.faults.iter().any(|fault| fault.disk.is_some())));
}
