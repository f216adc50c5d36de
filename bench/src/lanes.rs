//! How long a heartbeat round takes while a lane beside that of the heartbeats is full.
//!
//! A strong query on the leader is answered after one round of heartbeats on the control lane;
//! nothing else of it leaves the process. Four kinds of stretches take turns: idle; large
//! entries fill the append lane; a newcomer that catches up again and again fills the bulk
//! lanes; a process fills the cores and sends nothing, which is what a full lane is held against
//! where nodes have few cores. Where the link is full and not the cores, [`narrow`] measures.
//! Invariant: what is written is bounded, since the log stays in memory.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use runtime::{Clock, Consistency, SystemClock};
use tokio::task::JoinSet;

use crate::{
    companion::Companion,
    narrow,
    newcomer::Invitation,
    node::{self, Node},
    outcome::Outcome,
};

/// True if no term changed.
pub(crate) fn main(rounds: u32, writers: u32, out: &Path, json: bool) -> Result<bool> {
    let plan = serde_json::json!({
        "rounds": rounds, "queries_per_s": QUERIES_PER_S, "writers": writers,
        "entry_bytes": ENTRY_BYTES, "storage": "memory", "profile": "lan",
    });
    let mut outcome = Outcome::new("bench-lanes", plan);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = runtime.block_on(measure(rounds, writers))?;
    let narrow = runtime.block_on(narrow::measure(rounds))?;
    let mut p99 = |name: &str, times: &[Duration]| {
        let summary = outcome.summarise(&format!("{name}_round_us"), times);
        let p99 = summary.and_then(|summary| summary.p99);
        p99.context("too few rounds for a p99: take more --rounds")
    };
    let idle = p99("idle", &measured.idle)?;
    let (append, bulk) = (p99("append_full", &measured.append)?, p99("bulk_full", &measured.bulk)?);
    let busy = p99("cores_full", &measured.busy)?;
    let narrow_idle = p99("narrow_idle", &narrow.idle)?;
    let narrow_bulk = p99("narrow_bulk_full", &narrow.bulk)?;
    outcome.count("written_bytes", measured.written_bytes + narrow.written_bytes);
    outcome.count("newcomers_caught_up", measured.caught_up);
    let is_calm = outcome.no_election(measured.terms);
    let is_calm_where_narrow = outcome.no_election_in("no_election_narrow", narrow.terms);
    outcome.ratio("append_full_to_idle_round_p99", append / idle);
    outcome.ratio("bulk_full_to_idle_round_p99", bulk / idle);
    outcome.ratio("cores_full_to_idle_round_p99", busy / idle);
    outcome.ratio("bulk_full_to_cores_full_round_p99", bulk / busy);
    outcome.ratio("narrow_bulk_full_to_idle_round_p99", narrow_bulk / narrow_idle);
    outcome.finish(out, json)?;
    Ok(is_calm && is_calm_where_narrow)
}

#[derive(Default)]
struct Measured {
    idle: Vec<Duration>,
    append: Vec<Duration>,
    bulk: Vec<Duration>,
    busy: Vec<Duration>,
    written_bytes: u64,
    caught_up: u64,
    terms: (u64, u64),
}

async fn measure(rounds: u32, writers: u32) -> Result<Measured> {
    let (node, _processes) = node::led().await?;
    let mut measured = Measured::default();
    fill(&node).await?;
    // The first stretch warms up and is not counted.
    query_for(&node).await?;
    measured.terms.0 = node.groups[0].status().term.0;
    for _ in 0..rounds {
        measured.idle.append(&mut query_for(&node).await?);
        let (times, written_bytes) = while_written(&node, writers).await?;
        measured.append.extend(times);
        measured.written_bytes += written_bytes;
        let (times, caught_up) = while_fetched(&node).await?;
        measured.bulk.extend(times);
        measured.caught_up += caught_up;
        measured.busy.append(&mut while_busy(&node).await?);
    }
    measured.terms.1 = node.groups[0].status().term.0;
    node.network.shutdown().await;
    Ok(measured)
}

/// Gives a newcomer something to fetch, in more entries than appends would bring it.
async fn fill(node: &Node) -> Result<()> {
    let command = Bytes::from(vec![7; HISTORY_ENTRY_BYTES]);
    for _ in 0..HISTORY_BATCHES {
        let batch = vec![command.clone(); HISTORY_BATCH];
        for executed in node.groups[0].execute_many(batch).await {
            executed.context("filling the log")?;
        }
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
    newcomer.tell(&Invitation {
        peers: vec![node.network.peer()],
        group: node::group_name(0),
        goal: node.groups[0].status().commit,
    })?;
    let mut newcomer =
        tokio::task::spawn_blocking(move || newcomer.hear::<String>().map(|_fetching| newcomer))
            .await??;
    let times = query_for(node).await?;
    newcomer.dismiss();
    let caught_up = tokio::task::spawn_blocking(move || newcomer.hear()).await??;
    Ok((times, caught_up))
}

/// With every core kept busy by somebody else.
async fn while_busy(node: &Node) -> Result<Vec<Duration>> {
    let _until_dropped = Companion::spawn("spinner")?;
    query_for(node).await
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

const QUERIES_PER_S: u32 = 100;
const STRETCH: Duration = Duration::from_secs(2);
const ENTRY_BYTES: usize = 64 << 10;
const HISTORY_ENTRY_BYTES: usize = 1 << 10;
/// Not more than one session may have unanswered.
const HISTORY_BATCH: usize = 4_000;
const HISTORY_BATCHES: usize = 10;
