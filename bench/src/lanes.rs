//! How long a heartbeat round takes while large entries fill the append lane.
//!
//! A strong query on the leader is answered after one round of heartbeats on the control lane;
//! nothing else of it leaves the process. Idle and full stretches take turns. Invariant: what is
//! written is bounded, since the log stays in memory.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use runtime::{Clock, Consistency, SystemClock};
use tokio::task::JoinSet;

use crate::{
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
    let (idle, full, written, terms) = runtime.block_on(measure(rounds, writers))?;
    let idle = outcome.summarise("idle_round_us", &idle).and_then(|idle| idle.p99);
    let full = outcome.summarise("full_round_us", &full).and_then(|full| full.p99);
    outcome.count("written_bytes", written);
    let is_calm = outcome.no_election(terms);
    let (Some(idle), Some(full)) = (idle, full) else {
        anyhow::bail!("too few rounds for a p99: take more --rounds");
    };
    outcome.ratio("full_to_idle_round_p99", full / idle);
    outcome.finish(out, json)?;
    Ok(is_calm)
}

type Measured = (Vec<Duration>, Vec<Duration>, u64, (u64, u64));

async fn measure(rounds: u32, writers_count: u32) -> Result<Measured> {
    let (node, _processes) = node::led().await?;
    let (mut idle, mut full) = (Vec::new(), Vec::new());
    let (written, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    // The first stretch warms up and is not counted.
    query_for(&node).await?;
    let before = node.groups[0].status().term.0;
    for _ in 0..rounds {
        idle.append(&mut query_for(&node).await?);
        stop.store(false, Ordering::Relaxed);
        let mut writers = JoinSet::new();
        for _ in 0..writers_count {
            let (group, stop) = (node.groups[0].clone(), Arc::clone(&stop));
            let written = Arc::clone(&written);
            writers.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    // Busy is an answer as well: then the lane is as full as it may be.
                    if group.execute(vec![7; ENTRY_BYTES]).await.is_ok() {
                        written.fetch_add(ENTRY_BYTES as u64, Ordering::Relaxed);
                    }
                }
            });
        }
        full.append(&mut query_for(&node).await?);
        stop.store(true, Ordering::Relaxed);
        while writers.join_next().await.is_some() {}
    }
    let after = node.groups[0].status().term.0;
    node.network.shutdown().await;
    Ok((idle, full, written.load(Ordering::Relaxed), (before, after)))
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
