//! How fast a fresh follower comes to have all that a group has, by the size of its chunks.
//!
//! All nodes are in this process, with memory for stores. One group for each size, all with the
//! same entries; a follower is timed from its first bond until its machine has applied what was
//! committed when it began, and leaves again. The sizes take turns, and with them one plain stream
//! that moves what the commands weigh.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use reports::Verdict;
use runtime::{
    ConsensusConfig, Consistency, Event, Group, GroupKey, LeadershipPreference, Network, Peer,
    Time, storage,
};

use crate::{
    node,
    outcome::Outcome,
    progress::Stage,
    series::once_each,
    stream::Stream,
    tally::Tally,
    watch::{Kept, Watch},
};

/// What was asked for.
pub(crate) struct Wish<'a> {
    pub(crate) entries: u32,
    pub(crate) bytes: usize,
    pub(crate) batch_sizes: &'a [u32],
    pub(crate) trials: u32,
    pub(crate) out: &'a Path,
    pub(crate) json: bool,
}

/// A group with a history.
pub(crate) struct Full {
    consensus: ConsensusConfig,
    key: GroupKey,
    peers: Vec<Peer>,
    entries: u32,
    bytes: usize,
    groups: Vec<Group<Tally>>,
}

/// One follower that caught up.
pub(crate) struct Followed {
    pub(crate) took: Duration,
    /// From how many others it fetched, and how many entries.
    pub(crate) sources: usize,
    pub(crate) fetched: u64,
}

/// By the place of their size among the sizes; and how long the plain stream took.
#[derive(Default)]
struct Measured {
    followed: Vec<Vec<Followed>>,
    stream: Vec<Duration>,
}

pub(crate) fn main(wish: &Wish<'_>) -> Result<Verdict> {
    once_each("--batch-sizes", wish.batch_sizes)?;
    let plan = serde_json::json!({
        "entries": wish.entries, "command_bytes": wish.bytes, "batch_sizes": wish.batch_sizes,
        "trials": wish.trials, "storage": "memory", "founders": node::NODES, "profile": "lan",
    });
    let mut outcome = Outcome::new("bench-catch-up", plan);
    let watch = Watch::begin(stages(wish))?;
    let (entries, bytes, trials) = (wish.entries, wish.bytes, wish.trials);
    let (sizes, kept) = (wish.batch_sizes.to_vec(), Kept::default());
    let measured = measure((entries, bytes, trials), sizes, watch.clone(), kept.clone());
    watch.carry_out_aside(measured)?;
    let Measured { followed, stream } = kept.take();
    let stream = outcome.summarise("stream_us", &stream);
    for (size, followed) in wish.batch_sizes.iter().zip(followed) {
        let named = |what: &str| format!("batch_{size}_{what}");
        let took: Vec<_> = followed.iter().map(|one| one.took).collect();
        let Some(took) = outcome.summarise(&named("us"), &took) else {
            ensure!(watch.is_cut_short(), "nobody caught up");
            continue;
        };
        let seconds = took.p50 / 1e6;
        let moved = f64::from(entries) * bytes as f64 / 1e6;
        outcome.ratio(&named("mb_per_s"), moved / seconds);
        let stream = stream.as_ref().map(|stream| stream.p50);
        outcome.ratio_of(&named("share_of_stream"), stream, Some(took.p50));
        outcome.count(&named("entries_per_s"), (f64::from(entries) / seconds) as u64);
        let least = |figure: fn(&Followed) -> u64| followed.iter().map(figure).min().unwrap_or(0);
        outcome.count(&named("peers_min"), least(|one| one.sources as u64));
        outcome.count(&named("fetched_min"), least(|one| one.fetched));
    }
    outcome.finish(&watch, wish.out, wish.json)
}

fn stages(wish: &Wish<'_>) -> Vec<Stage> {
    let (sizes, entries) = (wish.batch_sizes.len() as u64, u64::from(wish.entries));
    let followers = FOLLOWED + APPLIED.saturating_mul(wish.entries);
    vec![
        Stage {
            words: "filling a log for each size".into(),
            unit: "entries",
            units: sizes * entries,
            each: FILLED,
        },
        Stage {
            words: "catching up, each size in turn".into(),
            unit: "followers",
            units: sizes * u64::from(wish.trials),
            each: followers,
        },
    ]
}

async fn measure(
    (entries, bytes, trials): (u32, usize, u32),
    sizes: Vec<u32>,
    watch: Watch,
    kept: Kept<Measured>,
) -> Result<()> {
    kept.with(|measured| measured.followed.resize_with(sizes.len(), Vec::new));
    watch.go_on();
    let networks = bind().await?;
    let mut stream = in_time(Stream::open()).await?;
    let weight_bytes = u64::from(entries) * bytes as u64;
    // The first time warms up and is not counted.
    in_time(stream.moves(weight_bytes)).await?;
    let mut all = Vec::new();
    for size in &sizes {
        let filled = |entries| watch.add(entries);
        all.push(Full::build(&networks, *size, (entries, bytes), filled).await?);
    }
    watch.go_on();
    for trial in 0..trials {
        for (place, (full, size)) in all.iter().zip(&sizes).enumerate() {
            let one = full.one().await;
            let one = one.with_context(|| format!("trial {trial} with chunks of {size}"))?;
            kept.with(|measured| measured.followed[place].push(one));
            watch.add(1);
        }
        let moved = in_time(stream.moves(weight_bytes)).await?;
        kept.with(|measured| measured.stream.push(moved));
    }
    stream.close().await;
    for network in networks {
        network.shutdown().await;
    }
    Ok(())
}

async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(WAIT_MAX, work).await.context("the plain stream was not done in time")?
}

/// The networks of the founders, which each group has in common.
pub(crate) async fn bind() -> Result<Vec<Network>> {
    let mut networks = Vec::new();
    for _ in 0..node::NODES {
        networks.push(node::bind().await?);
    }
    Ok(networks)
}

impl Full {
    /// A group with so many commands of so many bytes; told of each batch of them.
    pub(crate) async fn build(
        networks: &[Network],
        size: u32,
        (entries, bytes): (u32, usize),
        filled: impl Fn(u64),
    ) -> Result<Self> {
        let consensus = ConsensusConfig { batch_size: size, ..node::whole_log() };
        consensus.validate()?;
        let peers: Vec<Peer> = networks.iter().map(Network::peer).collect();
        let key = GroupKey::from_secret(format!("bench catch-up {size}"));
        let groups = node::found_here(networks, &key, &consensus, |_| storage::Memory).await?;
        let mut left = entries as usize;
        while left > 0 {
            let batch = left.min(BATCH);
            for executed in groups[0].execute_many(vec![Bytes::from(vec![7; bytes]); batch]).await {
                executed.context("filling the log")?;
            }
            left -= batch;
            filled(batch as u64);
        }
        let full = Self { consensus, key, peers, entries, bytes, groups };
        full.settled().await?;
        Ok(full)
    }

    /// One follower comes, catches up, and goes.
    pub(crate) async fn one(&self) -> Result<Followed> {
        let goal = self.settled().await?;
        let network = node::bind().await?;
        let bonded = Arc::<Mutex<Option<Time>>>::default();
        let noted = Arc::clone(&bonded);
        let group = network
            .group(self.key.clone())
            .machine(Tally::default())
            .consensus(self.consensus.clone())
            .storage(storage::Memory)
            .peers(self.peers.clone())
            .preference(LeadershipPreference::Observer)
            .observe(move |at, event| {
                if matches!(event, Event::Bonded(_)) {
                    noted.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(at);
                }
            })
            .join()
            .await?;
        let applied = group.when().applied(goal);
        tokio::time::timeout(WAIT_MAX, applied).await.context("not in time")??;
        let until = network.clock().now();
        let (commands, bytes) = group.query((), Consistency::Weak).await?.answer;
        let all = u64::from(self.entries);
        ensure!(
            (commands, bytes) == (all, all * self.bytes as u64),
            "its machine holds {commands} commands of {bytes} bytes instead of all {all}"
        );
        let since = *bonded.lock().unwrap_or_else(PoisonError::into_inner);
        let took = until.since(since.context("it has no bond")?);
        let replayed = group.status().replayed;
        ensure!(replayed.wrong == 0, "an honest group gave wrong entries: {replayed:?}");
        group.leave().await?;
        network.shutdown().await;
        Ok(Followed { took, sources: replayed.sources.len(), fetched: replayed.entries })
    }

    /// Only the founders are members, and all have applied the same, up to the index returned.
    async fn settled(&self) -> Result<runtime::Index> {
        for group in &self.groups {
            let mut when = group.when();
            let alone = when.status(|status| status.configuration.learners.is_empty());
            tokio::time::timeout(WAIT_MAX, alone).await.context("a follower stays")??;
        }
        let goal = self.groups[0].status().commit;
        for group in &self.groups {
            let applied = group.when().applied(goal);
            tokio::time::timeout(WAIT_MAX, applied).await.context("a founder lags")??;
        }
        Ok(goal)
    }
}

/// Not more than one session may have unanswered.
const BATCH: usize = 4_000;
const WAIT_MAX: Duration = Duration::from_secs(60);
/// What an entry may take as it is committed and as it is fetched, and a follower beside that.
const FILLED: Duration = Duration::from_micros(15);
const APPLIED: Duration = Duration::from_micros(2);
const FOLLOWED: Duration = Duration::from_millis(150);
