//! How many commands a group of three with disks commits, by how many are under way at a time.
//!
//! All nodes are in this process, with stores in the host's directory for such things; commands
//! are executed on the leader. The concurrencies take turns. Invariant: stretches are bounded in
//! time, and the stores are gone afterwards.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use runtime::{Clock, ConsensusProfile, Group, GroupKey, Network, SystemClock, storage::Disk};
use tokio::task::JoinSet;

use crate::{counted::Counted, echo::Echo, node, outcome::Outcome};

/// What was asked for.
pub(crate) struct Wish<'a> {
    pub(crate) concurrency: &'a [u32],
    pub(crate) bytes: usize,
    pub(crate) rounds: u32,
    pub(crate) out: &'a Path,
    pub(crate) json: bool,
}

/// What one concurrency came to, over all its stretches.
#[derive(Default)]
struct Found {
    took: Vec<Duration>,
    seconds: f64,
    /// How often the leader's store said that more is durable.
    reports: u64,
}

/// The group, and what is to be taken away when it is over.
struct Formed {
    networks: Vec<Network>,
    groups: Vec<Group<Echo>>,
    reports: Arc<AtomicU64>,
    _stores: Stores,
}

/// The directory of all stores.
struct Stores(PathBuf);

/// True if no term changed.
pub(crate) fn main(wish: &Wish<'_>) -> Result<bool> {
    let plan = serde_json::json!({
        "concurrency": wish.concurrency, "command_bytes": wish.bytes, "rounds": wish.rounds,
        "nodes": node::NODES, "storage": "disk", "profile": "lan",
    });
    let mut outcome = Outcome::new("bench-throughput", plan);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (concurrency, bytes) = (wish.concurrency.to_vec(), wish.bytes);
    let measured = runtime.block_on(runtime.spawn(measure(concurrency, bytes, wish.rounds)))?;
    let (all, terms) = measured?;
    for (concurrency, found) in all {
        let named = |what: &str| format!("under_way_{concurrency}_{what}");
        outcome.summarise(&named("commit_us"), &found.took).context("nothing was committed")?;
        let commits = found.took.len() as f64;
        outcome.count(&named("commits_per_s"), (commits / found.seconds) as u64);
        outcome.ratio(&named("commits_per_sync"), commits / found.reports.max(1) as f64);
    }
    let is_calm = outcome.no_election(terms);
    outcome.finish(wish.out, wish.json)?;
    Ok(is_calm)
}

async fn measure(
    concurrency: Vec<u32>,
    bytes: usize,
    rounds: u32,
) -> Result<(Vec<(u32, Found)>, (u64, u64))> {
    let formed = Formed::new().await?;
    let leader = &formed.groups[0];
    let mut all: Vec<_> = concurrency.into_iter().map(|count| (count, Found::default())).collect();
    // The first stretch warms up and is not counted.
    stretch(&formed, 1, bytes, &mut Found::default()).await?;
    let before = leader.status().term.0;
    for _ in 0..rounds {
        for (count, found) in &mut all {
            stretch(&formed, *count, bytes, found).await?;
        }
    }
    let after = leader.status().term.0;
    for network in &formed.networks {
        network.shutdown().await;
    }
    Ok((all, (before, after)))
}

/// So many callers, each with one command after the other.
async fn stretch(formed: &Formed, count: u32, bytes: usize, found: &mut Found) -> Result<()> {
    let clock = Arc::new(SystemClock::new());
    let reports = formed.reports.load(Ordering::Relaxed);
    let until = clock.now().plus(STRETCH);
    let mut callers = JoinSet::new();
    for _ in 0..count {
        let (group, clock) = (formed.groups[0].clone(), Arc::clone(&clock));
        let command = Bytes::from(vec![7; bytes]);
        callers.spawn(async move {
            let mut took = Vec::new();
            while clock.now() < until {
                let began = clock.now();
                group.execute(command.clone()).await.context("committing")?;
                took.push(clock.now().since(began));
            }
            anyhow::Ok(took)
        });
    }
    let began = clock.now();
    while let Some(took) = callers.join_next().await {
        found.took.append(&mut took??);
    }
    found.seconds += clock.now().since(began).as_secs_f64();
    found.reports += formed.reports.load(Ordering::Relaxed) - reports;
    Ok(())
}

impl Formed {
    async fn new() -> Result<Self> {
        let stores = std::env::temp_dir().join(format!("bench-throughput-{}", std::process::id()));
        std::fs::create_dir(&stores).with_context(|| format!("creating {}", stores.display()))?;
        let stores = Stores(stores);
        let mut networks = Vec::new();
        for _ in 0..node::NODES {
            networks.push(node::bind().await?);
        }
        let reports = Arc::<AtomicU64>::default();
        let store = |place: usize| Counted {
            store: Disk::at(stores.0.join(place.to_string())),
            // Only what becomes durable at the leader is counted.
            reports: if place == 0 { Arc::clone(&reports) } else { Arc::default() },
        };
        let (key, consensus) =
            (GroupKey::from_secret("bench throughput"), ConsensusProfile::Lan.config());
        let groups = node::found_here(&networks, &key, &consensus, store).await?;
        Ok(Self { networks, groups, reports, _stores: stores })
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        // What stays is in a directory that the host clears.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

const STRETCH: Duration = Duration::from_secs(2);
