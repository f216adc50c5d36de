//! One node of a benchmark, in this process or in one of its own.
//!
//! Each node is a member of two groups: one that node 0 leads and one that node 1 leads, so that
//! a commit on the leader and one through a follower can be timed in turn.

use std::{collections::BTreeSet, io::Write, time::Duration};

use anyhow::{Context, Result};
use runtime::{
    Bootstrap, ConsensusConfig, ConsensusProfile, Group, GroupKey, LeadershipPreference, Network,
    Peer, PeerId, StateMachine,
    storage::{self, Store},
};
use serde::{Deserialize, Serialize};

use crate::{
    companion::Companion,
    echo::{self, Echo},
};

/// A node's network, its echo, and its two groups.
pub(crate) struct Node {
    pub(crate) network: Network,
    /// Led by node 0 and by node 1.
    pub(crate) groups: [Group<Echo>; 2],
}

/// All nodes of one benchmark, in the order of their places.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Roster {
    pub(crate) peers: Vec<Peer>,
    /// The place of the node that reads this.
    pub(crate) place: usize,
    pub(crate) leading: Leading,
}

/// Who may lead the groups.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Leading {
    /// Each is led by the node at its place: the others do not stand.
    ByPlace,
    /// All stand; who is elected first hands over to the node at the group's place.
    Anyone,
}

/// A node in a process of its own; it ends when its standard input closes.
pub(crate) struct NodeProcess(Companion);

pub(crate) async fn bind() -> Result<Network> {
    let network = Network::builder("bench")
        .bind(([127, 0, 0, 1], 0).into())
        .protocol(echo::PROTOCOL)
        .build()
        .await?;
    echo::serve(network.clone());
    Ok(network)
}

pub(crate) async fn start(network: Network, roster: &Roster) -> Result<Node> {
    let groups = [join(&network, roster, 0).await?, join(&network, roster, 1).await?];
    Ok(Node { network, groups })
}

/// Settings of a group whose log is to be there from its first entry on.
pub(crate) fn whole_log() -> ConsensusConfig {
    ConsensusConfig { snapshot_log_bytes: 0, ..ConsensusProfile::Lan.config() }
}

/// A member of the group that the node at place `leader` leads.
async fn join(network: &Network, roster: &Roster, leader: usize) -> Result<Group<Echo>> {
    let preference = match roster.place == leader || roster.leading == Leading::Anyone {
        true => LeadershipPreference::Normal,
        false => LeadershipPreference::Observer,
    };
    let voters: BTreeSet<_> = roster.peers.iter().map(|peer| peer.id).collect();
    let group = network
        .group(GroupKey::from_secret(group_name(leader)))
        .machine(Echo::default())
        .consensus(whole_log())
        .storage(storage::Memory)
        .bootstrap(Bootstrap::Voters(voters))
        .peers(roster.peers.iter().filter(|peer| peer.id != network.peer().id).cloned())
        .preference(preference)
        .join()
        .await?;
    if roster.place != leader {
        hand_over(group.clone(), roster.peers[leader].id);
    }
    Ok(group)
}

/// What the group that the node at that place leads is called.
pub(crate) fn group_name(leader: usize) -> String {
    format!("bench group {leader}")
}

/// Hands leadership over once, should this member be elected.
fn hand_over(group: Group<Echo>, to: PeerId) {
    tokio::spawn(async move {
        if group.when().is_leader().await.is_err() {
            return;
        }
        if let Err(error) = group.transfer(to).await {
            eprintln!("bench: leadership was not handed over: {error}");
        }
    });
}

/// A node that leads its first group, and the processes of the two others, which would stand if
/// it went silent.
pub(crate) async fn led() -> Result<(Node, Vec<NodeProcess>)> {
    let network = bind().await?;
    let mut peers = vec![network.peer()];
    let mut processes = Vec::new();
    for _ in 1..NODES {
        let (process, peer) = NodeProcess::spawn().await?;
        processes.push(process);
        peers.push(peer);
    }
    let roster = |place| Roster { peers: peers.clone(), place, leading: Leading::Anyone };
    for (process, place) in processes.iter_mut().zip(1..) {
        process.tell(&roster(place)).await?;
    }
    let node = start(network, &roster(0)).await?;
    // The others hand over to it.
    let leads = node.groups[0].when().is_leader();
    tokio::time::timeout(FORMING_MAX, leads).await.context("no leader in time")??;
    Ok((node, processes))
}

/// A group of members in this process, which the first of them leads.
pub(crate) async fn found_here<M: StateMachine + Default, S: Store>(
    networks: &[Network],
    key: &GroupKey,
    consensus: &ConsensusConfig,
    store: impl Fn(usize) -> S,
) -> Result<Vec<Group<M>>> {
    let peers: Vec<Peer> = networks.iter().map(Network::peer).collect();
    let voters: BTreeSet<_> = peers.iter().map(|peer| peer.id).collect();
    let mut groups = Vec::new();
    for (place, network) in networks.iter().enumerate() {
        let preference = match place {
            0 => LeadershipPreference::Normal,
            _ => LeadershipPreference::Reluctant { factor: 4 },
        };
        let builder = network
            .group(key.clone())
            .machine(M::default())
            .consensus(consensus.clone())
            .storage(store(place))
            .bootstrap(Bootstrap::Voters(voters.clone()))
            .peers(peers.clone())
            .preference(preference);
        groups.push(builder.join().await?);
    }
    let leads = groups[0].when().is_leader();
    tokio::time::timeout(FORMING_MAX, leads).await.context("no leader in time")??;
    Ok(groups)
}

/// The body of a node process: says who it is, learns who the others are, serves.
pub(crate) fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let network = bind().await?;
        println!("{}", serde_json::to_string(&network.peer())?);
        std::io::stdout().flush()?;
        // Input is read aside: this thread carries the node.
        let line = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await?;
        let line = line.context("the parent went away")??;
        let roster: Roster = serde_json::from_str(&line).context("the roster")?;
        let _node = start(network, &roster).await?;
        // Serves until the parent closes our input, however the parent ends.
        let closed = || std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()).map(drop);
        Ok(tokio::task::spawn_blocking(closed).await??)
    })
}

impl NodeProcess {
    pub(crate) async fn spawn() -> Result<(Self, Peer)> {
        let mut companion = Companion::spawn("node")?;
        let peer = companion.hear().await?;
        Ok((Self(companion), peer))
    }

    pub(crate) async fn tell(&mut self, roster: &Roster) -> Result<()> {
        self.0.tell(roster).await
    }
}

/// How many nodes a benchmark has.
pub(crate) const NODES: usize = 3;
pub(crate) const FORMING_MAX: Duration = Duration::from_secs(10);
