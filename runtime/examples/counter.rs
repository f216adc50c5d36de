//! A replicated counter: three nodes in one process, whose leader goes away.
//!
//! `cargo run -p runtime --example counter` forms a group on loopback, counts through every
//! member, shuts the leader down, counts on, and ends.

use std::{collections::BTreeSet, error::Error, io};

use runtime::{
    ApplyContext, Bootstrap, Consistency, Group, GroupKey, Network, Peer, StateMachine, storage,
};

/// What is replicated: commands add to it, a query reads it.
#[derive(Default)]
struct Counter(i64);

impl StateMachine for Counter {
    type Command = i64;
    type Output = i64;
    type Query = ();
    type Answer = i64;
    const SIGNATURE: &'static str = "example counter 1";

    fn apply(&mut self, add: i64, _: &ApplyContext) -> i64 {
        self.0 = self.0.wrapping_add(add);
        self.0
    }

    fn query(&self, (): ()) -> i64 {
        self.0
    }

    fn snapshot(&self, writer: &mut dyn io::Write) -> io::Result<()> {
        writer.write_all(&self.0.to_le_bytes())
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut value = [0; 8];
        reader.read_exact(&mut value)?;
        self.0 = i64::from_le_bytes(value);
        Ok(())
    }
}

/// A member of the group of these peers, on one of their nodes.
async fn join(network: &Network, peers: &[Peer]) -> Result<Group<Counter>, Box<dyn Error>> {
    let voters: BTreeSet<_> = peers.iter().map(|peer| peer.id).collect();
    let group = network
        .group(GroupKey::from_secret("known to all members"))
        .machine(Counter::default())
        .storage(storage::Memory)
        .bootstrap(Bootstrap::Voters(voters))
        .peers(peers.iter().cloned())
        .join()
        .await?;
    Ok(group)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut networks = Vec::new();
    for _ in 0..3 {
        let builder = Network::builder("counter-example").bind(([127, 0, 0, 1], 0).into());
        networks.push(builder.build().await?);
    }
    let peers: Vec<Peer> = networks.iter().map(Network::peer).collect();
    let mut members = Vec::new();
    for network in &networks {
        members.push(join(network, &peers).await?);
    }
    let leader = members[0].when().leader_elected().await?;
    println!("{leader} leads");

    // Any member takes commands: followers pass them on.
    for member in &members {
        let done = member.execute(1).await?;
        println!("{} counted to {}, at {} in the log", done.via, done.output, done.position);
    }

    // The leader goes. The two that are left are a majority, and elect another.
    let place = peers.iter().position(|peer| peer.id == leader).expect("it is one of them");
    members.remove(place);
    networks.remove(place).shutdown().await;
    let done = members[0].execute(10).await?;
    let another = |status: &runtime::Status| status.leader.is_some_and(|now| now.peer != leader);
    let status = members[0].when().status(another).await?;
    let now = status.leader.expect("it was waited for").peer;
    println!("{now} leads now, and the counter stands at {}", done.output);

    // A strong query sees everything acknowledged before, whatever member is asked.
    let queried = members[1].query((), Consistency::Strong).await?;
    assert_eq!((done.output, queried.answer), (13, 13), "nothing is lost, nothing counted twice");
    for network in networks {
        network.shutdown().await;
    }
    Ok(())
}
