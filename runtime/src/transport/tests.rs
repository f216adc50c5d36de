//! Whole networks over sockets in memory, at addresses that this host does not have: what works
//! here went over the socket.

use std::{collections::BTreeSet, future::Future, io, net::SocketAddr, time::Duration};

use super::memory::Wires;
use crate::{
    ApplyContext, Bootstrap, Consistency, Group, GroupKey, Network, NetworkError, Peer, SecretKey,
    StateMachine, storage,
};

/// Adds up.
#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    type Command = u64;
    type Output = u64;
    type Query = ();
    type Answer = u64;
    const SIGNATURE: &'static str = "test counter 1";

    fn apply(&mut self, command: u64, _: &ApplyContext) -> u64 {
        self.0 += command;
        self.0
    }

    fn query(&self, (): ()) -> u64 {
        self.0
    }

    fn snapshot(&self, writer: &mut dyn io::Write) -> io::Result<()> {
        writer.write_all(&self.0.to_le_bytes())
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut value = [0; 8];
        reader.read_exact(&mut value)?;
        self.0 = u64::from_le_bytes(value);
        Ok(())
    }
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(BOUND, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not come within {BOUND:?}"),
    }
}

fn address(host: u8) -> SocketAddr {
    ([192, 0, 2, host], 7).into()
}

async fn node(wires: &Wires, host: u8) -> Network {
    let socket = wires.bind(address(host));
    let secret = SecretKey::from_bytes([host; 32]);
    let builder = Network::builder("tests").secret_key(secret).datagrams(socket);
    builder.protocol(ECHO).build().await.expect("the socket is bound already")
}

async fn join(network: &Network, peers: &[Peer]) -> Group<Counter> {
    let voters: BTreeSet<_> = peers.iter().map(|peer| peer.id).collect();
    let joining = network
        .group(GroupKey::from_secret("a secret of the tests"))
        .machine(Counter::default())
        .storage(storage::Memory)
        .bootstrap(Bootstrap::Voters(voters))
        .peers(peers.iter().filter(|peer| peer.id != network.peer().id).cloned())
        .join();
    joining.await.expect("nothing stands against joining")
}

#[tokio::test]
async fn a_group_commits_over_sockets_that_are_not_the_hosts() {
    let wires = Wires::default();
    let networks = [node(&wires, 1).await, node(&wires, 2).await];
    let peers = networks.each_ref().map(Network::peer);
    assert_eq!(peers[0].addresses, [address(1)]);
    let groups = [join(&networks[0], &peers).await, join(&networks[1], &peers).await];
    soon("a leader", groups[0].when().leader_elected()).await.expect("both are there");
    for (sum, group) in (1..).zip(&groups) {
        let executed = soon("a commit", group.execute(1)).await.expect("both are there");
        assert_eq!(executed.output, sum);
    }
    let queried = soon("an answer", groups[0].query((), Consistency::Strong)).await;
    assert_eq!(queried.expect("both are there").answer, 2);
    for host in [1, 2] {
        assert!(wires.received(address(host)) > Some(4), "the datagrams came this way");
    }
}

#[tokio::test]
async fn a_link_carries_more_than_a_socket_holds() {
    let wires = Wires::default();
    let (one, other) = (node(&wires, 1).await, node(&wires, 2).await);
    let echo = async {
        let mut link = other.accept(ECHO).await.expect("it is up");
        let frame = link.recv().await.expect("a frame");
        link.send(&frame).await.expect("the link stands");
        assert_eq!(link.recv().await, None, "the dialer has no more");
    };
    let dialed = async {
        let mut link = one.dial(&other.peer(), ECHO).await.expect("it listens");
        let frame: Vec<u8> = (0..4 << 20).map(|place| (place % 251) as u8).collect();
        link.send(&frame).await.expect("the link stands");
        let echoed = link.recv().await.expect("a frame");
        assert!(echoed == frame, "what comes back is what was sent");
    };
    soon("the echo", async { tokio::join!(echo, dialed) }).await;
}

#[tokio::test]
async fn a_network_that_is_gone_has_let_go_of_its_socket() {
    let wires = Wires::default();
    let network = node(&wires, 1).await;
    network.shutdown().await;
    drop(network);
    let freed = async {
        while wires.received(address(1)).is_some() {
            tokio::task::yield_now().await;
        }
    };
    soon("the address", freed).await;
    node(&wires, 1).await;
}

#[tokio::test]
async fn a_network_listens_in_one_way() {
    let both =
        Network::builder("tests").bind(address(9)).datagrams(Wires::default().bind(address(1)));
    let refused = both.build().await.expect_err("which of the two?");
    let NetworkError::Wish(reason) = refused else { panic!("{refused}") };
    assert!(reason.contains("bind (192.0.2.9:7)"), "{reason}");
    assert!(reason.contains("datagrams (192.0.2.1:7)"), "{reason}");
}

const ECHO: &str = "echo/1";
const BOUND: Duration = Duration::from_secs(20);
