//! How long a fresh node takes to become a voter of an idle group that has a history.
//!
//! All nodes are in this process, each with a store on disk. A joiner knows one member; it is
//! timed from the wish to join to each station on its way, and then leaves, so that every one
//! of them finds the same group.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use reports::{Check, Verdict};
use runtime::{
    Bootstrap, Clock, ConsensusProfile, Group, GroupKey, Network, Peer, Status, SystemClock, Time,
    storage,
};

use crate::{
    echo::Echo,
    node,
    outcome::Outcome,
    progress::Stage,
    watch::{Kept, Watch},
};

/// What was asked for.
pub(crate) struct Wish<'a> {
    pub(crate) entries: u32,
    pub(crate) joins: u32,
    pub(crate) bytes: usize,
    pub(crate) out: &'a Path,
    pub(crate) json: bool,
}

/// How long each joiner took, from its wish on.
#[derive(Default)]
struct Taken {
    told: Vec<Duration>,
    learner: Vec<Duration>,
    voter: Vec<Duration>,
    /// From the wish to leave.
    left: Vec<Duration>,
}

/// The stores of one run; they go with it.
struct Stores(PathBuf);

/// Valid if every one of them voted in time.
pub(crate) fn main(wish: &Wish<'_>) -> Result<Verdict> {
    let plan = serde_json::json!({
        "entries": wish.entries, "joins": wish.joins, "bytes": wish.bytes, "storage": "disk",
        "founders": FOUNDERS, "profile": "lan",
    });
    let mut outcome = Outcome::new("bench-join", plan);
    let (entries, joins, bytes) = (wish.entries, wish.joins, wish.bytes);
    let stage = |words: &str, unit, units: u32, each| {
        let (words, units) = (words.into(), units.into());
        Stage { words, unit, units, each }
    };
    let watch = Watch::begin(vec![
        stage("filling the log", "entries", entries, FILLED),
        stage("joining", "nodes", joins, JOINED),
    ])?;
    // Here, so that nobody writes to them any more when they go.
    let (stores, kept) = (Stores::create()?, Kept::default());
    let wanted = (entries, joins, bytes);
    let measured = measure(wanted, stores.0.clone(), watch.clone(), kept.clone());
    watch.carry_out_aside(measured)?;
    drop(stores);
    let Taken { told, learner, voter, left } = kept.take();
    outcome.summarise("told_of_the_group_us", &told);
    outcome.summarise("learner_us", &learner);
    outcome.summarise("left_us", &left);
    match outcome.summarise("voter_us", &voter) {
        Some(voter) => outcome.check(Check {
            name: "voter_in_time".into(),
            verdict: match voter.max <= VOTER_MAX.as_secs_f64() * 1e6 {
                true => Verdict::Valid,
                false => Verdict::Invalid,
            },
            detail: format!("the slowest of {} voted after {:.0} ms", voter.count, voter.max / 1e3),
        }),
        None => ensure!(watch.is_cut_short(), "nobody joined"),
    }
    outcome.finish(&watch, wish.out, wish.json)
}

async fn measure(
    (entries, joins, bytes): (u32, u32, usize),
    stores: PathBuf,
    watch: Watch,
    kept: Kept<Taken>,
) -> Result<()> {
    let mut networks = Vec::new();
    for _ in 0..FOUNDERS {
        networks.push(node::bind().await?);
    }
    let peers: Vec<Peer> = networks.iter().map(Network::peer).collect();
    let founders = Bootstrap::Voters(peers.iter().map(|peer| peer.id).collect::<BTreeSet<_>>());
    let mut groups = Vec::new();
    for (place, network) in networks.iter().enumerate() {
        let store = stores.join(format!("founder-{place}"));
        groups.push(join(network, &store, founders.clone(), peers.clone()).await?);
    }
    watch.go_on();
    for batch in split(entries) {
        for executed in groups[0].execute_many(vec![Bytes::from(vec![7; bytes]); batch]).await {
            executed.context("filling the log")?;
        }
        watch.add(batch as u64);
    }
    watch.go_on();
    for number in 0..joins {
        settled(&groups, FOUNDERS).await?;
        let store = stores.join(format!("joiner-{number}"));
        one(&store, &peers[number as usize % FOUNDERS], u64::from(entries), &kept).await?;
        watch.add(1);
    }
    for network in networks {
        network.shutdown().await;
    }
    Ok(())
}

/// One node joins, votes, and leaves again.
async fn one(store: &Path, by: &Peer, entries: u64, kept: &Kept<Taken>) -> Result<()> {
    let network = node::bind().await?;
    let clock = SystemClock::new();
    let began = clock.now();
    let group = join(&network, store, Bootstrap::Join, vec![by.clone()]).await?;
    let since = |began: Time| clock.now().since(began);
    seen(&group, "being told of the group", |status| status.lineage.is_some()).await?;
    let told = since(began);
    kept.with(|taken| taken.told.push(told));
    seen(&group, "learning", |status| status.configuration.contains(status.node)).await?;
    let learner = since(began);
    kept.with(|taken| taken.learner.push(learner));
    let votes = |status: &Status| status.configuration.voters.contains(&status.node);
    let status = seen(&group, "voting", votes).await?;
    let voter = since(began);
    kept.with(|taken| taken.voter.push(voter));
    ensure!(status.last.index.0 >= entries, "it votes without the log: {}", status.last);
    let began = clock.now();
    group.leave().await.context("leaving")?;
    let left = since(began);
    kept.with(|taken| taken.left.push(left));
    network.shutdown().await;
    Ok(())
}

/// Waits until all founders know of so many voters and nobody else.
async fn settled(groups: &[Group<Echo>], voters: usize) -> Result<()> {
    for group in groups {
        seen(group, "a group of its founders", |status| {
            let configuration = &status.configuration;
            configuration.voters.len() == voters && configuration.learners.is_empty()
        })
        .await?;
    }
    Ok(())
}

async fn seen(
    group: &Group<Echo>,
    what: &'static str,
    holds: impl FnMut(&Status) -> bool,
) -> Result<Status> {
    let mut when = group.when();
    let seen = tokio::time::timeout(WAIT_MAX, when.status(holds)).await;
    Ok(seen.with_context(|| format!("{what}: not within {WAIT_MAX:?}"))??)
}

async fn join(
    network: &Network,
    store: &Path,
    bootstrap: Bootstrap,
    peers: Vec<Peer>,
) -> Result<Group<Echo>> {
    let group = network
        .group(GroupKey::from_secret("bench join"))
        .machine(Echo::default())
        .consensus(ConsensusProfile::Lan.config())
        .storage(storage::Disk::at(store))
        .bootstrap(bootstrap)
        .peers(peers)
        .join()
        .await?;
    Ok(group)
}

/// Batches that no session has too many unanswered requests for.
fn split(entries: u32) -> impl Iterator<Item = usize> {
    let whole = entries / BATCH;
    let rest = (entries % BATCH) as usize;
    std::iter::repeat_n(BATCH as usize, whole as usize).chain((rest > 0).then_some(rest))
}

impl Stores {
    fn create() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("tessera-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        // What is left behind is in the way of nobody.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// What an entry and a node may take.
const FILLED: Duration = Duration::from_micros(20);
const JOINED: Duration = Duration::from_millis(500);
const FOUNDERS: usize = 3;
const BATCH: u32 = 1_000;
const WAIT_MAX: Duration = Duration::from_secs(30);
/// What a newcomer to an idle group may take.
const VOTER_MAX: Duration = Duration::from_secs(2);
