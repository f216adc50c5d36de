//! mosaik's groups, full and idle, and the followers that catch up with them.
//!
//! As close to Tessera's side as its interface allows: three founders in memory, one group for
//! each size of chunks, the same commands and the same machine, a follower that never votes and
//! knows all founders. Invariant: a follower counts only if its machine holds every command.

mod machine;
mod wait;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    num::NonZero,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use machine::Tally;
use mosaik::{
    Bytes, Consistency, Group, GroupKey, Network, Tag, discovery,
    groups::{ConsensusConfig, LeadershipPreference},
    iroh::RelayMode,
};
use tokio::time::timeout;

use crate::{Wish, relay::Relay, side::Side};

/// The networks that all groups have in common.
pub(crate) struct Founders {
    relay: RelayMode,
    networks: Vec<Network>,
}

/// A group with a history.
pub(crate) struct Full {
    consensus: ConsensusConfig,
    batch_size: NonZero<u64>,
    groups: Vec<Group<Tally>>,
    entries: u32,
    bytes: u32,
}

impl Founders {
    pub(crate) async fn bind(relay: &Relay) -> Result<Self> {
        let relay = relay.mode();
        let mut networks = Vec::new();
        for _ in 0..FOUNDERS {
            networks.push(bind(&relay).await?);
        }
        Ok(Self { relay, networks })
    }

    /// Has every founder know every other one and what groups it is in, until they are bonded.
    ///
    /// mosaik dials whom it lacks only when what it knows of somebody changes, and two that dial
    /// each other at once may both hang up. So each round changes what one of them says of itself.
    async fn introduce(&self, all: &BTreeMap<(Side, u32), Full>) -> Result<()> {
        let mut bonded = Ok(());
        for round in 0..INTRODUCTIONS_MAX {
            let news = Tag::from(format!("round {round}").as_str());
            self.networks[round % FOUNDERS].discovery().add_tags(news);
            for one in &self.networks {
                let others = self.networks.iter();
                for other in others.filter(|other| other.local().id() != one.local().id()) {
                    meet(one, other).await?;
                }
            }
            for full in all.values() {
                bonded = full.bonded(BOND_MAX).await;
                if bonded.is_err() {
                    break;
                }
            }
            if bonded.is_ok() {
                break;
            }
        }
        bonded
    }
}

impl Full {
    /// One group for each of mosaik's sides and each size.
    pub(crate) async fn build_all(
        founders: &Founders,
        wish: &Wish,
    ) -> Result<BTreeMap<(Side, u32), Self>> {
        let mut all = BTreeMap::new();
        for side in Side::ALL {
            let Some(consensus) = side.consensus()? else { continue };
            for &size in &wish.batch_sizes {
                let batch_size = NonZero::new(u64::from(size)).context("a chunk of nothing")?;
                let (entries, bytes) = (wish.entries, wish.bytes);
                let consensus = consensus.clone();
                let mut full = Self { consensus, batch_size, groups: Vec::new(), entries, bytes };
                for network in &founders.networks {
                    full.groups.push(full.join(network, LeadershipPreference::Normal));
                }
                all.insert((side, size), full);
            }
        }
        founders.introduce(&all).await?;
        for ((side, size), full) in &all {
            full.fill().await.with_context(|| format!("{side} with chunks of {size}"))?;
        }
        Ok(all)
    }

    /// One follower comes, catches up, and goes; `None` if it never bonds or never catches up.
    pub(crate) async fn follow(&self, founders: &Founders) -> Result<Option<Duration>> {
        self.settled().await?;
        let network = bind(&founders.relay).await?;
        for founder in &founders.networks {
            meet(&network, founder).await?;
        }
        let group = self.join(&network, LeadershipPreference::Observer);
        let bonded = wait::until_bonds(&group, |bonds| bonds > 0);
        if timeout(WAIT_MAX, bonded).await.is_err() {
            leave(network).await;
            return Ok(None);
        }
        let since = wait::now();
        let committed = group.when().committed().reaches(u64::from(self.entries));
        let is_there = timeout(WAIT_MAX, committed).await.is_ok();
        let took = since.elapsed();
        if is_there {
            let held = group.query((), Consistency::Weak).await.context("asking its machine")?;
            let (commands, bytes) = *held.result();
            let all = u64::from(self.entries);
            ensure!(
                (commands, bytes) == (all, all * u64::from(self.bytes)),
                "its machine holds {commands} commands of {bytes} bytes instead of all {all}"
            );
        }
        drop(group);
        leave(network).await;
        Ok(is_there.then_some(took))
    }

    fn join(&self, network: &Network, preference: LeadershipPreference) -> Group<Tally> {
        let groups = network.groups().with_key(GroupKey::from_secret("catch-up"));
        groups
            .with_consensus_config(self.consensus.clone())
            .with_state_machine(Tally::new(self.batch_size, preference))
            .join()
    }

    async fn fill(&self) -> Result<()> {
        let leader = timeout(WAIT_MAX, wait::until_led(&self.groups)).await;
        let leader = leader.context("no leader that all follow")?;
        let mut left = self.entries as usize;
        while left > 0 {
            let batch = left.min(BATCH);
            let commands = vec![Bytes::from(vec![7; self.bytes as usize]); batch];
            let executed = timeout(WAIT_MAX, leader.execute_many(commands)).await;
            executed.context("a batch is not committed in time")?.context("filling the log")?;
            left -= batch;
        }
        self.settled().await
    }

    /// Only the founders are there, and all have applied everything.
    async fn settled(&self) -> Result<()> {
        self.bonded(WAIT_MAX).await?;
        for group in &self.groups {
            let committed = group.when().committed().reaches(u64::from(self.entries));
            timeout(WAIT_MAX, committed).await.context("a founder lags")?;
        }
        Ok(())
    }

    async fn bonded(&self, within: Duration) -> Result<()> {
        for group in &self.groups {
            let bonded = wait::until_bonds(group, |bonds| bonds == FOUNDERS - 1);
            let others = || format!("{} bonds instead of {}", group.bonds().len(), FOUNDERS - 1);
            timeout(within, bonded).await.with_context(others)?;
        }
        Ok(())
    }
}

/// A network on loopback that looks for nobody by itself.
async fn bind(relay: &RelayMode) -> Result<Network> {
    let loopback = BTreeSet::from([SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]);
    let network = Network::builder("peers")
        .with_relay_mode(relay.clone())
        .with_addresses(loopback)
        .with_discovery(discovery::Config::builder().no_dht_bootstrap())
        .build();
    let network = timeout(WAIT_MAX, network).await.context("a network did not come up")?;
    network.context("starting a network")
}

/// Two networks tell each other of everyone they know. Now and then an attempt hangs; none of
/// them is timed.
async fn meet(one: &Network, other: &Network) -> Result<()> {
    for _ in 0..INTRODUCTIONS_MAX {
        let met = one.discovery().sync_with(other.local().addr());
        if let Ok(met) = timeout(BOND_MAX, met).await {
            return Ok(met?);
        }
    }
    bail!("no introduction within {BOND_MAX:?}, {INTRODUCTIONS_MAX} times")
}

async fn leave(network: Network) {
    let endpoint = network.local().endpoint().clone();
    drop(network);
    // Who does not hear of it notices by silence.
    drop(timeout(WAIT_MAX, endpoint.close()).await);
}

const FOUNDERS: usize = 3;
/// The same as on Tessera's side.
const BATCH: usize = 4_000;
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Who is told of a group too early learns of it at the next introduction.
const INTRODUCTIONS_MAX: usize = 20;
/// Of an introduction, and of the bonds that follow from it.
const BOND_MAX: Duration = Duration::from_secs(5);
