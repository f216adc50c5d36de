//! Members of a group on loopback, in one process, with a machine that adds up.

use std::{collections::BTreeSet, future::Future, io, time::Duration};

use runtime::{
    ApplyContext, Bootstrap, Client, ConsensusConfig, ConsensusProfile, Group, GroupKey,
    LeadershipPreference, Network, Peer, StateMachine, storage,
};

/// Adds up.
#[derive(Default)]
pub(crate) struct Counter {
    value: i64,
}

impl StateMachine for Counter {
    type Command = i64;
    type Output = i64;
    type Query = ();
    type Answer = i64;
    const SIGNATURE: &'static str = "test counter 1";

    fn apply(&mut self, command: i64, _: &ApplyContext) -> i64 {
        self.value += command;
        self.value
    }

    fn query(&self, (): ()) -> i64 {
        self.value
    }

    fn snapshot(&self, writer: &mut dyn io::Write) -> io::Result<()> {
        writer.write_all(&self.value.to_le_bytes())
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut value = [0; 8];
        reader.read_exact(&mut value)?;
        self.value = i64::from_le_bytes(value);
        Ok(())
    }
}

/// A member and its node.
pub(crate) struct Member {
    pub(crate) network: Network,
    pub(crate) group: Group<Counter>,
}

pub(crate) fn key() -> GroupKey {
    GroupKey::from_secret("a secret of the tests")
}

pub(crate) fn config() -> ConsensusConfig {
    ConsensusProfile::Lan.config()
}

pub(crate) async fn network() -> Network {
    Network::builder("tests").bind(([127, 0, 0, 1], 0).into()).build().await.expect("a free port")
}

pub(crate) async fn join_with(
    config: ConsensusConfig,
    network: &Network,
    peers: &[Peer],
    preference: LeadershipPreference,
) -> Member {
    let voters: BTreeSet<_> = peers.iter().map(|peer| peer.id).collect();
    let group = network
        .group(key())
        .machine(Counter::default())
        .consensus(config)
        .storage(storage::Memory)
        .bootstrap(Bootstrap::Voters(voters))
        .peers(peers.iter().filter(|peer| peer.id != network.peer().id).cloned())
        .preference(preference)
        .join()
        .await
        .expect("nothing stands against joining");
    Member { network: network.clone(), group }
}

/// A group of so many nodes, of which the first leads.
pub(crate) async fn formed(count: usize) -> Vec<Member> {
    formed_with(config(), count).await
}

/// As [`formed`], with these settings.
pub(crate) async fn formed_with(config: ConsensusConfig, count: usize) -> Vec<Member> {
    let mut networks = Vec::new();
    for _ in 0..count {
        networks.push(network().await);
    }
    let peers: Vec<_> = networks.iter().map(Network::peer).collect();
    let mut members = Vec::new();
    for (place, network) in networks.iter().enumerate() {
        let preference = match place {
            0 => LeadershipPreference::Normal,
            _ => LeadershipPreference::Reluctant { factor: 4 },
        };
        members.push(join_with(config.clone(), network, &peers, preference).await);
    }
    for member in &members {
        soon(member.group.when().leader_is(peers[0].id)).await.expect("the eager one leads");
    }
    members
}

/// Lets the other tasks work until the condition holds, with a bound.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let look = async {
        while !holds() {
            ticks.tick().await;
        }
    };
    let came = tokio::time::timeout(Duration::from_secs(20), look).await;
    assert!(came.is_ok(), "{what} did not come in time");
}

/// Bounds a wait, far beyond what it takes.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it came in time")
}

pub(crate) async fn client(members: &[Member], first: usize) -> Client<Counter> {
    network()
        .await
        .client(key())
        .consensus(config())
        .members(members.iter().map(|member| member.network.peer()))
        .first(first)
        .connect()
        .await
        .expect("a member answers")
}
