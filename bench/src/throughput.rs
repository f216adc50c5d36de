//! How many commands a group of three with disks commits, by how many are under way at a time.
//!
//! All nodes are in this process, with stores in the host's directory for such things; commands
//! are executed on the leader. The concurrencies take turns. Invariant: stretches are bounded in
//! time, and the stores are gone afterwards, also after an end before its time.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use reports::Verdict;
use runtime::{Clock, ConsensusProfile, Group, GroupKey, Network, SystemClock, storage::Disk};
use tokio::task::JoinSet;

use crate::{
    counted::Counted,
    echo::Echo,
    node,
    outcome::Outcome,
    progress::Stage,
    series::once_each,
    watch::{Kept, Watch},
};

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

/// All of them.
#[derive(Default)]
struct Measured {
    found: Vec<(u32, Found)>,
    /// Before the first stretch that counts, and after the last.
    terms: Option<(u64, u64)>,
}

/// The group.
struct Formed {
    networks: Vec<Network>,
    groups: Vec<Group<Echo>>,
    reports: Arc<AtomicU64>,
}

/// The directory of all stores, which goes when it is over.
struct Stores(PathBuf);

/// Valid if no term changed.
pub(crate) fn main(wish: &Wish<'_>) -> Result<Verdict> {
    once_each("--concurrency", wish.concurrency)?;
    let plan = serde_json::json!({
        "concurrency": wish.concurrency, "command_bytes": wish.bytes, "rounds": wish.rounds,
        "nodes": node::NODES, "storage": "disk", "profile": "lan",
    });
    let mut outcome = Outcome::new("bench-throughput", plan);
    let stage = |words: &str, units: u64, each| {
        let (words, unit) = (words.into(), "stretches");
        Stage { words, unit, units, each }
    };
    let stretches = wish.concurrency.len() as u64 * u64::from(wish.rounds);
    let watch = Watch::begin(vec![
        stage("forming a group and warming up", 1, FORMED),
        stage("committing, with more and less under way by turns", stretches, STRETCH),
    ])?;
    // Here, so that nobody writes to them any more when they go.
    let (stores, kept) = (Stores::create()?, Kept::default());
    let wanted = (wish.concurrency.to_vec(), wish.bytes, wish.rounds);
    let measured = measure(wanted, stores.0.clone(), watch.clone(), kept.clone());
    watch.carry_out_aside(measured)?;
    drop(stores);
    let Measured { found, terms } = kept.take();
    for (concurrency, found) in found {
        let named = |what: &str| format!("under_way_{concurrency}_{what}");
        if outcome.summarise(&named("commit_us"), &found.took).is_none() {
            ensure!(watch.is_cut_short(), "nothing was committed");
            continue;
        }
        let commits = found.took.len() as f64;
        outcome.count(&named("commits_per_s"), (commits / found.seconds) as u64);
        outcome.ratio(&named("commits_per_sync"), commits / found.reports.max(1) as f64);
    }
    outcome.no_election(terms);
    outcome.finish(&watch, wish.out, wish.json)
}

async fn measure(
    (concurrency, bytes, rounds): (Vec<u32>, usize, u32),
    stores: PathBuf,
    watch: Watch,
    kept: Kept<Measured>,
) -> Result<()> {
    kept.with(|measured| {
        measured.found = concurrency.iter().map(|count| (*count, Found::default())).collect();
    });
    watch.go_on();
    let formed = Formed::new(&stores).await?;
    let leader = &formed.groups[0];
    // The first stretch warms up and is not counted.
    stretch(&formed, 1, bytes).await?;
    let before = leader.status().term.0;
    watch.go_on();
    for _ in 0..rounds {
        for (place, count) in concurrency.iter().enumerate() {
            let more = stretch(&formed, *count, bytes).await?;
            let after = leader.status().term.0;
            kept.with(|measured| {
                measured.found[place].1.append(more);
                measured.terms = Some((before, after));
            });
            watch.add(1);
        }
    }
    for network in &formed.networks {
        network.shutdown().await;
    }
    Ok(())
}

/// So many callers, each with one command after the other.
async fn stretch(formed: &Formed, count: u32, bytes: usize) -> Result<Found> {
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
    let (began, mut all) = (clock.now(), Vec::new());
    while let Some(took) = callers.join_next().await {
        all.append(&mut took??);
    }
    let seconds = clock.now().since(began).as_secs_f64();
    Ok(Found { took: all, seconds, reports: formed.reports.load(Ordering::Relaxed) - reports })
}

impl Found {
    fn append(&mut self, mut more: Self) {
        self.took.append(&mut more.took);
        self.seconds += more.seconds;
        self.reports += more.reports;
    }
}

impl Formed {
    async fn new(stores: &Path) -> Result<Self> {
        let mut networks = Vec::new();
        for _ in 0..node::NODES {
            networks.push(node::bind().await?);
        }
        let reports = Arc::<AtomicU64>::default();
        let store = |place: usize| Counted {
            store: Disk::at(stores.join(place.to_string())),
            // Only what becomes durable at the leader is counted.
            reports: if place == 0 { Arc::clone(&reports) } else { Arc::default() },
        };
        let (key, consensus) =
            (GroupKey::from_secret("bench throughput"), ConsensusProfile::Lan.config());
        let groups = node::found_here(&networks, &key, &consensus, store).await?;
        Ok(Self { networks, groups, reports })
    }
}

impl Stores {
    fn create() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("bench-throughput-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        // What stays is in a directory that the host clears.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

const STRETCH: Duration = Duration::from_secs(2);
/// What comes before them may take so long.
const FORMED: Duration = Duration::from_secs(3);
