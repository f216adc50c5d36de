//! The cost of one commit, as a multiple of one echo over the same transport and topology.
//!
//! The three are timed in turn, round by round, so that a noisy moment hits all of them.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use reports::Verdict;
use runtime::{Clock, Link, SystemClock};

use crate::{
    echo,
    node::{self, FORMING_MAX, Leading, NODES, Node, NodeProcess, Roster},
    outcome::{Outcome, Samples},
    progress::Stage,
    watch::{Kept, Watch},
};

/// What is measured in one formation, and where it goes.
#[derive(Clone)]
struct Wish {
    rounds: u32,
    bytes: usize,
    watch: Watch,
    kept: Kept<Samples>,
}

pub(crate) fn main(rounds: u32, bytes: usize, out: &Path, json: bool) -> Result<Verdict> {
    let plan = serde_json::json!({ "rounds": rounds, "bytes": bytes, "storage": "memory" });
    let mut outcome = Outcome::new("bench-commit", plan);
    let stage = |topology: &str| Stage {
        words: format!("committing, {topology}"),
        unit: "rounds",
        units: rounds.into(),
        each: ROUND,
    };
    let watch = Watch::begin(vec![stage("one process"), stage("three processes")])?;
    let wish = Wish { rounds, bytes, watch: watch.clone(), kept: Kept::default() };
    outcome.add("one_process", &formed_anew(&wish, one_process)?);
    outcome.add("three_processes", &formed_anew(&wish, three_processes)?);
    outcome.finish(&watch, out, json)
}

/// Measures several formations: which task settles on which core is decided as nodes start, and
/// one formation in five or so commits a quarter slower for as long as it lives.
fn formed_anew<F>(wish: &Wish, measure: impl Fn(Wish) -> F) -> Result<Samples>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let Wish { rounds, watch, kept, .. } = wish;
    watch.go_on();
    let formations = FORMATIONS.min(*rounds);
    for formation in 0..formations {
        let share = rounds / formations + u32::from(formation < rounds % formations);
        watch.carry_out_aside(measure(Wish { rounds: share, ..wish.clone() }))?;
    }
    Ok(kept.take())
}

async fn one_process(wish: Wish) -> Result<()> {
    let mut networks = Vec::new();
    for _ in 0..NODES {
        networks.push(node::bind().await?);
    }
    let peers: Vec<_> = networks.iter().map(runtime::Network::peer).collect();
    let mut nodes = Vec::new();
    for (place, network) in networks.into_iter().enumerate() {
        let roster = Roster { peers: peers.clone(), place, leading: Leading::ByPlace };
        nodes.push(node::start(network, &roster).await?);
    }
    let mut link = echo::dial(&nodes[0].network, &peers[1]).await?;
    let measured = measure(&nodes[0], &mut link, &wish).await;
    for node in nodes {
        node.network.shutdown().await;
    }
    measured
}

async fn three_processes(wish: Wish) -> Result<()> {
    let network = node::bind().await?;
    let mut peers = vec![network.peer()];
    let mut processes = Vec::new();
    for _ in 1..NODES {
        let (process, peer) = NodeProcess::spawn().await?;
        processes.push(process);
        peers.push(peer);
    }
    for (process, place) in processes.iter_mut().zip(1..) {
        let roster = Roster { peers: peers.clone(), place, leading: Leading::ByPlace };
        process.tell(&roster).await?;
    }
    let mut link = echo::dial(&network, &peers[1]).await?;
    let roster = Roster { peers, place: 0, leading: Leading::ByPlace };
    let node = node::start(network, &roster).await?;
    let measured = measure(&node, &mut link, &wish).await;
    node.network.shutdown().await;
    measured
}

async fn measure(node: &Node, link: &mut Link, wish: &Wish) -> Result<()> {
    for group in &node.groups {
        tokio::time::timeout(FORMING_MAX, group.when().leader_elected())
            .await
            .context("no leader was elected in time")??;
    }
    let (clock, bytes) = (SystemClock::new(), wish.bytes);
    // The first round warms caches and path estimates and is not counted.
    for round in 0..=wish.rounds {
        let mut timed = Samples::default();
        for _ in 0..PER_ROUND {
            timed.echo.push(echo_once(&clock, link, bytes).await?);
        }
        for _ in 0..PER_ROUND {
            timed.leader.push(commit_once(&clock, node, 0, bytes).await?);
        }
        for _ in 0..PER_ROUND {
            timed.follower.push(commit_once(&clock, node, 1, bytes).await?);
        }
        if round > 0 {
            wish.kept.with(|samples| samples.append(timed));
            wish.watch.add(1);
        }
    }
    Ok(())
}

async fn echo_once(clock: &SystemClock, link: &mut Link, bytes: usize) -> Result<Duration> {
    let payload = vec![7; bytes];
    let began = clock.now();
    echo::once(link, &payload).await?;
    Ok(clock.now().since(began))
}

async fn commit_once(
    clock: &SystemClock,
    node: &Node,
    group: usize,
    bytes: usize,
) -> Result<Duration> {
    let command = vec![7; bytes].into();
    let began = clock.now();
    node.groups[group].execute(command).await.context("committing")?;
    Ok(clock.now().since(began))
}

const FORMATIONS: u32 = 10;
const PER_ROUND: usize = 50;
/// What one may take, with its share of the forming.
const ROUND: Duration = Duration::from_millis(80);
