//! The cost of one commit, as a multiple of one echo over the same transport and topology.
//!
//! The three are timed in turn, round by round, so that a noisy moment hits all of them.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use runtime::{Clock, Link, SystemClock};

use crate::{
    echo,
    node::{self, FORMING_MAX, Leading, NODES, Node, NodeProcess, Roster},
    outcome::{Outcome, Samples},
};

pub(crate) fn main(rounds: u32, bytes: usize, out: &Path, json: bool) -> Result<()> {
    let plan = serde_json::json!({ "rounds": rounds, "bytes": bytes, "storage": "memory" });
    let mut outcome = Outcome::new("bench-commit", plan);
    outcome.add("one_process", &formed_anew(rounds, |rounds| one_process(rounds, bytes))?);
    outcome.add("three_processes", &formed_anew(rounds, |rounds| three_processes(rounds, bytes))?);
    outcome.finish(out, json)
}

/// Measures several formations: which task settles on which core is decided as nodes start, and
/// one formation in five or so commits a quarter slower for as long as it lives.
fn formed_anew<F>(rounds: u32, measure: impl Fn(u32) -> F) -> Result<Samples>
where
    F: Future<Output = Result<Samples>> + Send + 'static,
{
    let formations = rounds.min(FORMATIONS);
    let mut samples = Samples::default();
    for formation in 0..formations {
        let share = rounds / formations + u32::from(formation < rounds % formations);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        // Spawned, so that no other thread stands between the measurement and the endpoint.
        samples.append(runtime.block_on(runtime.spawn(measure(share)))??);
    }
    Ok(samples)
}

async fn one_process(rounds: u32, bytes: usize) -> Result<Samples> {
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
    let samples = measure(&nodes[0], &mut link, rounds, bytes).await;
    for node in nodes {
        node.network.shutdown().await;
    }
    samples
}

async fn three_processes(rounds: u32, bytes: usize) -> Result<Samples> {
    let network = node::bind().await?;
    let mut peers = vec![network.peer()];
    let mut processes = Vec::new();
    for _ in 1..NODES {
        let (process, peer) = NodeProcess::spawn()?;
        processes.push(process);
        peers.push(peer);
    }
    for (process, place) in processes.iter_mut().zip(1..) {
        process.tell(&Roster { peers: peers.clone(), place, leading: Leading::ByPlace })?;
    }
    let mut link = echo::dial(&network, &peers[1]).await?;
    let roster = Roster { peers, place: 0, leading: Leading::ByPlace };
    let node = node::start(network, &roster).await?;
    let samples = measure(&node, &mut link, rounds, bytes).await;
    node.network.shutdown().await;
    samples
}

async fn measure(node: &Node, link: &mut Link, rounds: u32, bytes: usize) -> Result<Samples> {
    for group in &node.groups {
        tokio::time::timeout(FORMING_MAX, group.when().leader_elected())
            .await
            .context("no leader was elected in time")??;
    }
    let clock = SystemClock::new();
    let mut samples = Samples::default();
    // The first round warms caches and path estimates and is not counted.
    for round in 0..=rounds {
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
            samples.append(timed);
        }
    }
    Ok(samples)
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
