//! A lock service: named locks with fencing tokens, which outlive a change of leader.
//!
//! `cargo run -p runtime --example locks` forms three nodes on loopback, lets two owners contend
//! for a lock while leadership moves, and ends. A machine has no clock, so a lock does not expire
//! by itself: whoever watches over the owners releases those of one that is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    io,
};

use runtime::{
    ApplyContext, Bootstrap, Consistency, Group, GroupKey, Network, Peer, StateMachine, storage,
};
use serde::{Deserialize, Serialize};

/// Who holds which lock, and since which place in the log.
#[derive(Default)]
struct Locks(BTreeMap<String, Held>);

/// The token ascends with every grant: whoever is served under a lock refuses older ones.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Held {
    owner: String,
    token: u64,
}

#[derive(Serialize, Deserialize)]
enum Command {
    Acquire { lock: String, owner: String },
    Release { lock: String, token: u64 },
}

impl StateMachine for Locks {
    type Command = Command;
    /// Who holds the lock afterwards.
    type Output = Option<Held>;
    type Query = String;
    type Answer = Option<Held>;
    const SIGNATURE: &'static str = "example locks 1";

    fn apply(&mut self, command: Command, context: &ApplyContext) -> Option<Held> {
        match command {
            Command::Acquire { lock, owner } => {
                let granted = Held { owner, token: context.position.index.0 };
                Some(self.0.entry(lock).or_insert(granted).clone())
            }
            Command::Release { lock, token } => {
                // By its token: who lost the lock cannot release it for its next owner.
                if self.0.get(&lock).is_some_and(|held| held.token == token) {
                    self.0.remove(&lock);
                }
                self.0.get(&lock).cloned()
            }
        }
    }

    fn query(&self, lock: String) -> Option<Held> {
        self.0.get(&lock).cloned()
    }

    fn snapshot(&self, writer: &mut dyn io::Write) -> io::Result<()> {
        writer.write_all(&postcard::to_stdvec(&self.0).map_err(io::Error::other)?)
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        self.0 = postcard::from_bytes(&bytes).map_err(invalid)?;
        Ok(())
    }
}

async fn acquire(group: &Group<Locks>, owner: &str) -> Result<Held, Box<dyn Error>> {
    let command = Command::Acquire { lock: "the door".into(), owner: owner.into() };
    let held = group.execute(command).await?.output.ok_or("nobody holds it")?;
    println!("{owner} asks for the door: {} holds it, token {}", held.owner, held.token);
    Ok(held)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut networks = Vec::new();
    for _ in 0..3 {
        let builder = Network::builder("locks-example").bind(([127, 0, 0, 1], 0).into());
        networks.push(builder.build().await?);
    }
    let peers: Vec<Peer> = networks.iter().map(Network::peer).collect();
    let voters: BTreeSet<_> = peers.iter().map(|peer| peer.id).collect();
    let mut members = Vec::new();
    for network in &networks {
        let builder = network.group(GroupKey::from_secret("known to all members"));
        let builder = builder.machine(Locks::default()).storage(storage::Memory);
        let builder = builder.bootstrap(Bootstrap::Voters(voters.clone()));
        members.push(builder.peers(peers.iter().cloned()).join().await?);
    }
    let leader = members[0].when().leader_elected().await?;
    println!("{leader} leads");

    let first = acquire(&members[0], "anna").await?;
    assert_eq!(acquire(&members[1], "berta").await?, first, "it is taken");

    // Leadership moves; the lock does not.
    let place = peers.iter().position(|peer| peer.id == leader).expect("it is one of them");
    let successor = peers[(place + 1) % peers.len()].id;
    members[place].transfer(successor).await?;
    members[place].when().leader_is(successor).await?;
    println!("{successor} leads now");
    let seen = members[2].query("the door".into(), Consistency::Strong).await?;
    assert_eq!(seen.answer.as_ref(), Some(&first), "whoever is asked");

    let release = Command::Release { lock: "the door".into(), token: first.token };
    members[0].execute(release).await?;
    let second = acquire(&members[1], "berta").await?;
    assert!(second.token > first.token, "what anna still sends can be told from it");
    for network in networks {
        network.shutdown().await;
    }
    Ok(())
}
