//! How long a heartbeat round takes while a lane beside that of the heartbeats is full.
//!
//! A strong query on the leader is answered after one round of heartbeats on the control lane;
//! nothing else of it leaves the process. Four kinds of stretches take turns: idle; large
//! entries fill the append lane; a newcomer that catches up again and again fills the bulk
//! lanes; a process fills the cores and sends nothing, which is what a full lane is held against
//! where nodes have few cores: there the host lets a process that wakes up wait for the end of
//! another's turn, some 4 ms, whatever that other one does. Where the link is full and not the
//! cores, [`narrow`] measures.
//! Invariant: what is written is bounded, since the log stays in memory.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use reports::{Check, Verdict};
use runtime::{Clock, Consistency, SystemClock};
use tokio::task::JoinSet;

use crate::{
    companion::Companion,
    narrow,
    newcomer::Invitation,
    node::{self, Node},
    outcome::Outcome,
    progress::Stage,
    watch::Watch,
};

/// Valid if no term changed and the p99 kept its bounds.
pub(crate) fn main(rounds: u32, writers: u32, out: &Path, json: bool) -> Result<Verdict> {
    let plan = serde_json::json!({
        "rounds": rounds, "queries_per_s": QUERIES_PER_S, "writers": writers,
        "entry_bytes": ENTRY_BYTES, "storage": "memory", "profile": "lan",
    });
    let mut outcome = Outcome::new("bench-lanes", plan);
    let watch = Watch::begin(stages(rounds))?;
    let (mut measured, mut narrow) = (Measured::default(), narrow::Measured::default());
    watch.carry_out(measure(rounds, writers, &watch, &mut measured))?;
    watch.carry_out(narrow::measure(rounds, &watch, &mut narrow))?;
    let mut p99 = |name: &str, times: &[Duration]| {
        let summary = outcome.summarise(&format!("{name}_round_us"), times);
        let p99 = summary.and_then(|summary| summary.p99);
        let is_told = p99.is_some() || watch.is_cut_short();
        ensure!(is_told, "too few rounds for a p99: take more --rounds");
        Ok(p99)
    };
    let idle = p99("idle", &measured.idle)?;
    let (append, bulk) = (p99("append_full", &measured.append)?, p99("bulk_full", &measured.bulk)?);
    let busy = p99("cores_full", &measured.busy)?;
    let narrow_idle = p99("narrow_idle", &narrow.idle)?;
    let narrow_bulk = p99("narrow_bulk_full", &narrow.bulk)?;
    outcome.count("written_bytes", measured.written_bytes + narrow.written_bytes);
    outcome.count("newcomers_caught_up", measured.caught_up);
    outcome.no_election(measured.terms);
    outcome.no_election_in("no_election_narrow", narrow.terms);
    outcome.ratio_of("append_full_to_idle_round_p99", append, idle);
    outcome.ratio_of("bulk_full_to_idle_round_p99", bulk, idle);
    outcome.ratio_of("cores_full_to_idle_round_p99", busy, idle);
    outcome.ratio_of("bulk_full_to_cores_full_round_p99", bulk, busy);
    outcome.ratio_of("narrow_bulk_full_to_idle_round_p99", narrow_bulk, narrow_idle);
    // Of a part of it the bounds say nothing.
    if !watch.is_cut_short() {
        let but = "too few rounds for a p99: take more --rounds";
        let (full, empty) = narrow_bulk.zip(narrow_idle).context(but)?;
        outcome.check(bound("heartbeat_p99_where_the_link_is_full", full / empty, "idle"));
        let (full, empty) = bulk.zip(busy).context(but)?;
        let to = "with cores as full and the lane empty";
        outcome.check(bound("heartbeat_p99_where_the_cores_are_full", full / empty, to));
    }
    outcome.finish(&watch, out, json)
}

/// With the bulk lane full, of what the p99 is otherwise.
fn bound(name: &str, ratio: f64, otherwise: &str) -> Check {
    Check {
        name: name.into(),
        verdict: if ratio <= RATIO_MAX { Verdict::Valid } else { Verdict::Invalid },
        detail: format!("{ratio:.2} times its value {otherwise}; {RATIO_MAX} are allowed"),
    }
}

fn stages(rounds: u32) -> Vec<Stage> {
    let rounds_of = |words: &str, each| {
        let (words, units) = (words.into(), rounds.into());
        Stage { words, unit: "rounds", units, each }
    };
    vec![
        Stage {
            words: "filling the log".into(),
            unit: "entries",
            units: (HISTORY_BATCHES * HISTORY_BATCH) as u64,
            each: FILLED,
        },
        rounds_of("querying, idle and beside full lanes and cores", KINDS * STRETCH),
        rounds_of("querying over a narrow link, idle and beside a full lane", narrow::ROUND),
    ]
}

#[derive(Default)]
struct Measured {
    idle: Vec<Duration>,
    append: Vec<Duration>,
    bulk: Vec<Duration>,
    busy: Vec<Duration>,
    written_bytes: u64,
    caught_up: u64,
    /// Before the first round, and as it was last seen.
    terms: Option<(u64, u64)>,
}

async fn measure(rounds: u32, writers: u32, watch: &Watch, measured: &mut Measured) -> Result<()> {
    let (node, _processes) = node::led().await?;
    watch.go_on();
    fill(&node, watch).await?;
    watch.go_on();
    // The first stretch warms up and is not counted.
    query_for(&node).await?;
    let term = || node.groups[0].status().term.0;
    let before = term();
    for _ in 0..rounds {
        measured.idle.append(&mut query_for(&node).await?);
        let (times, written_bytes) = while_written(&node, writers).await?;
        measured.append.extend(times);
        measured.written_bytes += written_bytes;
        measured.terms = Some((before, term()));
        let (times, caught_up) = while_fetched(&node).await?;
        measured.bulk.extend(times);
        measured.caught_up += caught_up;
        measured.busy.append(&mut while_busy(&node).await?);
        measured.terms = Some((before, term()));
        watch.add(1);
    }
    node.network.shutdown().await;
    Ok(())
}

/// Gives a newcomer something to fetch, in more entries than appends would bring it.
async fn fill(node: &Node, watch: &Watch) -> Result<()> {
    let command = Bytes::from(vec![7; HISTORY_ENTRY_BYTES]);
    for _ in 0..HISTORY_BATCHES {
        let batch = vec![command.clone(); HISTORY_BATCH];
        for executed in node.groups[0].execute_many(batch).await {
            executed.context("filling the log")?;
        }
        watch.add(HISTORY_BATCH as u64);
    }
    Ok(())
}

/// With the append lane full, and how much went through it.
async fn while_written(node: &Node, writers_count: u32) -> Result<(Vec<Duration>, u64)> {
    let (written, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let mut writers = JoinSet::new();
    for _ in 0..writers_count {
        let (group, stop) = (node.groups[0].clone(), Arc::clone(&stop));
        let written = Arc::clone(&written);
        writers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                // Busy is an answer as well: then the lane is as full as it may be.
                if group.execute(vec![7; ENTRY_BYTES].into()).await.is_ok() {
                    written.fetch_add(ENTRY_BYTES as u64, Ordering::Relaxed);
                }
            }
        });
    }
    let times = query_for(node).await?;
    stop.store(true, Ordering::Relaxed);
    while writers.join_next().await.is_some() {}
    Ok((times, written.load(Ordering::Relaxed)))
}

/// With somebody far behind who fetches all that was written, and how often it had it all.
async fn while_fetched(node: &Node) -> Result<(Vec<Duration>, u64)> {
    let mut newcomer = Companion::spawn("newcomer")?;
    let invitation = Invitation {
        peers: vec![node.network.peer()],
        group: node::group_name(0),
        goal: node.groups[0].status().commit,
    };
    newcomer.tell(&invitation).await?;
    let _fetching: String = newcomer.hear().await?;
    let times = query_for(node).await?;
    newcomer.dismiss();
    let caught_up = newcomer.hear().await?;
    newcomer.end().await;
    Ok((times, caught_up))
}

/// With every core kept busy by somebody else.
async fn while_busy(node: &Node) -> Result<Vec<Duration>> {
    let spinner = Companion::spawn("spinner")?;
    let times = query_for(node).await;
    spinner.end().await;
    times
}

/// Queries at a steady pace; a late one does not make those behind it late.
async fn query_for(node: &Node) -> Result<Vec<Duration>> {
    let clock = SystemClock::new();
    let mut times = Vec::new();
    for number in 0..QUERIES_PER_S * STRETCH.as_secs() as u32 {
        clock.sleep_until(runtime::Time(number * Duration::from_secs(1) / QUERIES_PER_S)).await;
        let began = clock.now();
        node.groups[0].query((), Consistency::Strong).await.context("querying")?;
        times.push(clock.now().since(began));
    }
    Ok(times)
}

/// What a full bulk lane may cost a heartbeat.
const RATIO_MAX: f64 = 2.0;
const QUERIES_PER_S: u32 = 100;
const STRETCH: Duration = Duration::from_secs(2);
/// How many kinds of stretches a round has.
const KINDS: u32 = 4;
/// What an entry may take.
const FILLED: Duration = Duration::from_micros(30);
const ENTRY_BYTES: usize = 64 << 10;
const HISTORY_ENTRY_BYTES: usize = 1 << 10;
/// Not more than one session may have unanswered.
const HISTORY_BATCH: usize = 4_000;
const HISTORY_BATCHES: usize = 10;
