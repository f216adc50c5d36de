//! Clients that never read their answers, in a group of three over loopback: what waits for each
//! is bounded, the others are served meanwhile, and nobody stands for election.
//!
//! Invariant: nothing is judged by how long it took. What a client finds once it reads at last is
//! all that was kept for it.

use std::collections::BTreeSet;

use super::*;
use crate::{Bootstrap, Peer, storage};

/// Three members of which any may lead, a client of each that behaves, and a hand to misbehave
/// with.
struct Three {
    nodes: Vec<(Network, Group<Sum>)>,
    /// By its place among them.
    leader: usize,
    good: Vec<Client<Sum>>,
    executed: i64,
    hand: Network,
    key: GroupKey,
}

impl Three {
    async fn set(consensus: &ConsensusConfig) -> Self {
        let key = GroupKey::from_secret("unread");
        let nodes = joined(&key, consensus).await;
        let leader = soon("a leader", nodes[0].1.when().leader_elected()).await;
        let leader = leader.expect("one is elected");
        let mut good = Vec::new();
        for (served, group) in &nodes {
            soon("word of it", group.when().leader_is(leader)).await.expect("it leads them all");
            let builder = network().await.client(key.clone()).consensus(consensus.clone());
            let connected = builder.members([served.peer()]).connect();
            good.push(soon("a link", connected).await.expect("it is served"));
        }
        let place = nodes.iter().position(|(network, _)| network.peer().id == leader);
        let leader = place.expect("one of them leads");
        let hand = network().await;
        let mut three = Self { nodes, leader, good, executed: 0, hand, key };
        three.goes_on().await;
        three
    }

    /// A client's link to the node at that place.
    async fn link(&self, place: usize) -> Link {
        let (served, group) = &self.nodes[place];
        let (peer, bound) = (served.peer(), Duration::from_secs(20));
        let dialed = self.hand.dial_client(&peer, group.id(), &self.key, bound);
        soon("a link", dialed).await.expect("it proves the key")
    }

    /// Whoever behaves is served, by each member, and nothing is lost or done twice.
    async fn goes_on(&mut self) {
        for _ in 0..20 {
            for good in &self.good {
                self.executed += 1;
                let done = soon("an answer", good.execute(1)).await.expect("commits");
                assert_eq!(done.output, self.executed);
            }
        }
    }

    fn terms(&self) -> Vec<raft::Term> {
        self.nodes.iter().map(|(_, group)| group.status().term).collect()
    }

    /// Calls under way, at all of them.
    fn calls(&self) -> usize {
        self.nodes.iter().map(|(_, group)| group.status().calls).sum()
    }
}

async fn joined(key: &GroupKey, consensus: &ConsensusConfig) -> Vec<(Network, Group<Sum>)> {
    let networks = [network().await, network().await, network().await];
    let peers: Vec<Peer> = networks.iter().map(Network::peer).collect();
    let voters: BTreeSet<_> = peers.iter().map(|peer| peer.id).collect();
    let mut nodes = Vec::new();
    for network in networks {
        let joining = network
            .group(key.clone())
            .machine(Sum::default())
            .consensus(consensus.clone())
            .storage(storage::Memory)
            .bootstrap(Bootstrap::Voters(voters.clone()))
            .peers(peers.iter().cloned())
            .join();
        let group = joining.await.expect("nothing stands against it");
        nodes.push((network, group));
    }
    nodes
}

/// So patient that no leader falls and no call is given up because this machine is busy, and no
/// link because its client neither reads nor speaks.
fn patient() -> ConsensusConfig {
    ConsensusConfig {
        election_timeout: Duration::from_secs(2),
        election_timeout_jitter: Duration::from_secs(1),
        forward_timeout: Duration::from_secs(15),
        query_timeout: Duration::from_secs(15),
        max_missed_heartbeats: 10_000,
        handshake_timeout: Duration::from_secs(600),
        ..ConsensusProfile::Lan.config()
    }
}

/// Asks for four bytes, on the word of the leader.
fn strong(id: u64) -> Vec<u8> {
    let query = postcard::to_stdvec(&4_u32.to_le_bytes().to_vec()).expect("plain").into();
    framed(&ClientFrame::Call { id, call: Call::Query { query }, patience_ms: 10_000 })
}

/// Asks for more than may wait for it, by weight and then by number, and reads none of it.
async fn flood(greedy: &mut Link, dropped: impl Fn(&str) -> u64) {
    let (cut, unheard) = (dropped("bytes"), dropped("count"));
    for id in 0..LARGE {
        greedy.send(&query(id, 1_000_000)).await.expect("its calls are read");
    }
    // Its queue is full, and so is its link: from here on nothing is written to it.
    until("an answer without room", || dropped("bytes") > cut).await;
    for id in LARGE..ASKED {
        greedy.send(&strong(id)).await.expect("its calls are read");
    }
    until("words that find no place", || dropped("count") >= unheard + 4_000).await;
}

/// Reads until each call has its answer, or the word that it has none found no place. Returns the
/// number of answers, and what they carry.
async fn read(greedy: &mut Link, unheard: impl Fn() -> u64) -> (u64, usize) {
    let (mut answers, mut bytes) = (0, 0);
    while answers + unheard() < ASKED {
        let Some(frame) = soon("a frame", greedy.recv()).await else {
            panic!("its link is closed: {:?}", greedy.closing())
        };
        let frame = postcard::from_bytes(&frame).expect("a node's frame");
        if let ClientFrame::Answer { outcome, .. } = frame {
            (answers, bytes) = (answers + 1, bytes + outcome.content_bytes());
        }
    }
    (answers, bytes)
}

#[tokio::test]
async fn clients_that_read_no_answer_fill_no_memory_hold_up_nobody_and_move_no_lead() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let dropped = |reason: &str| record.counter(ANSWERS_DROPPED, &[("reason", reason)]);
    let mut three = Three::set(&patient()).await;
    let terms = three.terms();
    assert_eq!(terms, [terms[0]; 3], "they are of one term");
    // At the leader, and at who has to ask it.
    for place in [three.leader, (three.leader + 1) % 3] {
        let mut greedy = three.link(place).await;
        let before = dropped("count");
        flood(&mut greedy, dropped).await;
        three.goes_on().await;
        until("an end of all calls", || three.calls() == 0).await;
        assert_eq!(three.terms(), terms, "there was an election");
        assert!(greedy.closing().is_none(), "it was borne: {:?}", greedy.closing());

        let (answers, bytes) = read(&mut greedy, || dropped("count") - before).await;
        // What waits in its queue, and what is on its way in QUIC: two large ones and a part.
        assert!(answers <= 4_096 + 1_024 + 3, "{answers} answers waited for it");
        assert!(bytes <= (16 + 2 + 1) << 20, "{bytes} bytes waited for it");
        greedy.send(&query(ASKED, 4)).await.expect("it is open");
        let outcome = answer(&mut greedy, ASKED).await;
        assert!(
            matches!(outcome, Outcome::Queried { .. }),
            "what it reads makes room: {outcome:?}"
        );
        three.goes_on().await;
        assert_eq!(three.terms(), terms, "there was an election");
    }
}

/// Calls for a megabyte each: three times what may wait for one client.
const LARGE: u64 = 48;
/// All of its calls: more than twice as many as may be under way.
const ASKED: u64 = LARGE + 10_000;
