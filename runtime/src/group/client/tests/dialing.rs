//! Whom a client dials beside a member that does not answer.
//!
//! Members that are gone are played by sockets that say nothing. Invariant: nothing is judged by
//! how long it took on this machine. A handshake may take as long as no test does, but on a clock
//! that a test puts forward; so whoever waits for one with a member that is gone is never served.

use std::net::UdpSocket;

use tokio::time::MissedTickBehavior;

use super::*;
use crate::{SecretKey, metric::REFUSALS};

/// A member that is gone: nobody else answers at its address.
struct Gone {
    socket: UdpSocket,
    peer: Peer,
}

impl Gone {
    fn new(number: u8) -> Self {
        let secret = SecretKey::from_bytes([number; 32]);
        let socket = silent();
        let peer = reached_at(secret.peer_id(), &socket);
        Self { socket, peer }
    }

    /// Whether another datagram has come.
    fn was_dialed(&self) -> bool {
        self.socket.recv(&mut [0; 2_048]).is_ok()
    }
}

/// A member whose datagrams are held up on their way to it.
struct Late {
    socket: UdpSocket,
    peer: Peer,
    node: Node,
}

impl Late {
    async fn new(consensus: &ConsensusConfig) -> Self {
        let (socket, node) = (silent(), Node::new(consensus).await);
        let peer = reached_at(node.id(), &socket);
        Self { socket, peer, node }
    }

    /// Hands on what has come for it.
    fn hand_on(&self) {
        let to = self.node.network.peer().addresses[0];
        let mut datagram = vec![0; 65_536];
        while let Ok((length, from)) = self.socket.recv_from(&mut datagram) {
            if from != to {
                self.socket.send_to(&datagram[..length], to).expect("loopback takes it");
            }
        }
    }
}

fn silent() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_nonblocking(true).expect("it is a socket");
    socket
}

fn reached_at(id: PeerId, socket: &UdpSocket) -> Peer {
    Peer { id, addresses: vec![socket.local_addr().expect("it is bound")] }
}

fn patient() -> ConsensusConfig {
    ConsensusConfig {
        handshake_timeout: Duration::from_secs(600),
        query_timeout: Duration::from_secs(15),
        // So that a machine with other work is not taken for one that is gone.
        client_silence_max: Duration::from_millis(500),
        ..ConsensusProfile::Lan.config()
    }
}

async fn connected(members: Vec<Peer>, consensus: ConsensusConfig) -> Client<Sum> {
    let builder = network().await.client(key()).consensus(consensus).members(members);
    soon("a link", builder.connect()).await.expect("one of them lets it in")
}

#[tokio::test]
async fn who_loses_its_node_while_the_leader_is_gone_too_is_served_by_a_third() {
    let consensus = patient();
    let (mut dying, mut third) = (Node::new(&consensus).await, Node::new(&consensus).await);
    let (leader, theirs) = (Gone::new(1), third.id());
    let members = vec![dying.network.peer(), third.network.peer(), leader.peer.clone()];
    let client = connected(members, consensus).await;
    // From here on it says nothing.
    let mut link = dying.link().await;
    say(&mut link, Some(leader.peer.id)).await;
    let serving = async {
        until("a dial of the leader", || leader.was_dialed()).await;
        // Where this machine is busy it may have let go of a link, and asks over the next.
        while let Some(mut link) = third.links.recv().await {
            answer(&mut link, theirs).await;
        }
    };
    let asked = tokio::select! {
        asked = client.query(query(8), Consistency::Weak) => asked,
        () = serving => panic!("the node is up"),
    };
    assert_eq!(asked.expect("it is answered").via, theirs);
}

#[tokio::test]
async fn a_first_contact_that_is_gone_is_not_waited_for() {
    let consensus = patient();
    let (first, mut second) = (Gone::new(1), Node::new(&consensus).await);
    let client = connected(vec![first.peer.clone(), second.network.peer()], consensus).await;
    assert!(first.was_dialed());
    assert_eq!(client.node(), Some(second.id()));
    let _link = second.link().await;
}

#[tokio::test]
async fn of_members_that_are_gone_no_more_are_dialed_at_a_time_than_may_be() {
    let consensus = patient();
    let gone: Vec<Gone> = (1..=5).map(Gone::new).collect();
    let members = gone.iter().map(|gone| gone.peer.clone());
    let clock = Arc::new(JumpingClock::default());
    let network = network_on(Arc::new(Arc::clone(&clock))).await;
    let builder = network.client(key()).consensus(consensus.clone()).members(members);
    let began = clock.now();
    let dialed = soon("one dial more than may be", async {
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        // So that everybody has a turn between two of them, also when this machine is busy.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for gone in &gone[..=dials::DIALS_MAX] {
            while !gone.was_dialed() {
                ticks.tick().await;
                clock.jump(Duration::from_secs(1));
            }
        }
    });
    tokio::select! {
        connected = builder.connect::<Sum>() => panic!("nobody is there: {connected:?}"),
        () = dialed => {}
    }
    // By silence alone its turn would have come long before: it was another's end that made room.
    let waited = clock.now().since(began);
    assert!(waited >= consensus.handshake_timeout, "one more was dialed after {waited:?}");
}

#[tokio::test]
async fn a_member_that_would_have_let_us_in_too_late_is_told_and_keeps_no_link() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let consensus = patient();
    let (mut late, other) = (Late::new(&consensus).await, Node::new(&consensus).await);
    let client = connected(vec![late.peer.clone(), other.network.peer()], consensus).await;
    assert_eq!(client.node(), Some(other.id()));
    // It reads of a dial, and then that it is over: without a word it would wait for the rest.
    let over = [("code", "unexpected_close")];
    until("the end of the dial", || {
        late.hand_on();
        record.counter(REFUSALS, &over) == 1
    })
    .await;
    assert!(late.node.links.try_recv().is_err(), "it has let the client in");
}
