//! Clients against nodes that are played by hand: silent, leaderless, slow to read.

mod dialing;

use std::{sync::Mutex, time::Duration};

use futures_util::future::join_all;

use super::*;
use crate::{
    Clock, ConsensusProfile, Link, QueryError, SystemClock,
    group::{
        samples::{JumpingClock, Sum, network, network_on, soon, until},
        wire::ClientFrame,
    },
    metric::{CALLER_REFUSED, CLIENT_SWITCHES, recorder::Record},
};

/// A node of a group that lets clients in, and then does what the test does.
struct Node {
    network: Network,
    links: mpsc::Receiver<Link>,
}

impl Node {
    async fn new(consensus: &ConsensusConfig) -> Self {
        let network = network().await;
        let group = GroupId::of(&key(), Sum::SIGNATURE, consensus);
        let links = network.serve_clients(group, &key());
        Self { network, links }
    }

    async fn link(&mut self) -> Link {
        soon("a link", self.links.recv()).await.expect("the node is up")
    }

    fn id(&self) -> PeerId {
        self.network.peer().id
    }
}

fn key() -> GroupKey {
    GroupKey::from_secret("clients")
}

async fn client(nodes: &[&Node], consensus: &ConsensusConfig) -> Client<Sum> {
    let peers = nodes.iter().map(|node| node.network.peer());
    let builder = network().await.client(key()).consensus(consensus.clone()).members(peers);
    soon("a link", builder.connect()).await.expect("the first lets it in")
}

/// Says that it lives, and whom it knows to lead, until it may not any more.
async fn ping(link: &mut Link, leader: &Mutex<Option<PeerId>>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    loop {
        ticks.tick().await;
        let leader = *leader.lock().expect("nobody panics with it");
        let frame = postcard::to_stdvec(&ClientFrame::Ping { leader }).expect("plain");
        if link.send(&frame).await.is_err() {
            return;
        }
    }
}

fn query(bytes: usize) -> Vec<u8> {
    vec![0; bytes]
}

/// A client of two nodes, linked to the first, which lives and knows of no leader any more.
struct Leaderless {
    client: Client<Sum>,
    consensus: ConsensusConfig,
    cut_off: Node,
    link: Link,
    other: Node,
}

impl Leaderless {
    async fn set() -> Self {
        // What is asked meanwhile can wait.
        let consensus = ConsensusConfig { query_timeout: Duration::from_secs(10), ..hasty() };
        let (mut cut_off, other) = (Node::new(&consensus).await, Node::new(&consensus).await);
        let client = client(&[&cut_off, &other], &consensus).await;
        let link = cut_off.link().await;
        Self { client, consensus, cut_off, link, other }
    }

    /// Waits for what shall happen while the first node says so.
    async fn while_it_pings<T>(link: &mut Link, happens: impl Future<Output = T>) -> T {
        let nobody = Mutex::new(None);
        tokio::select! {
            happened = soon("what shall happen", happens) => happened,
            () = async { ping(link, &nobody).await; std::future::pending().await } => {
                unreachable!("it is pending")
            }
        }
    }
}

#[tokio::test]
async fn a_node_that_knows_of_no_leader_is_left_once_another_names_one() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let Leaderless { client, cut_off, mut link, mut other, .. } = Leaderless::set().await;
    let (ours, theirs) = (cut_off.id(), other.id());
    let mut node = client.caller.port().node.clone();
    let mut asked = Vec::new();
    Leaderless::while_it_pings(&mut link, async {
        // None, and then the one that says itself that it does not lead.
        for leader in [None, Some(ours)] {
            asked.push(other.link().await);
            say(asked.last_mut().expect("it has come"), leader).await;
        }
        asked.push(other.link().await);
        assert_eq!(*node.borrow_and_update(), Some(ours), "nobody has named another leader");
        say(asked.last_mut().expect("it has come"), Some(theirs)).await;
        node.wait_for(|node| *node == Some(theirs)).await.expect("it runs");
    })
    .await;
    assert_eq!(record.counter(CLIENT_SWITCHES, &[]), 1);
}

#[tokio::test]
async fn what_a_node_without_a_leader_was_asked_is_asked_where_there_is_one() {
    let Leaderless { client, mut link, mut other, cut_off: _cut_off, .. } = Leaderless::set().await;
    let theirs = other.id();
    let answered = Leaderless::while_it_pings(&mut link, async {
        let asking = client.query(query(8), Consistency::Weak);
        let answering = async {
            let mut link = other.link().await;
            say(&mut link, Some(theirs)).await;
            answer(&mut link, theirs).await;
        };
        tokio::select! {
            asked = asking => asked,
            () = answering => panic!("the client has left"),
        }
    })
    .await;
    assert_eq!(answered.expect("it is answered").via, theirs);
}

#[tokio::test]
async fn a_node_that_lets_us_in_and_names_nobody_is_passed_over_after_a_while() {
    let consensus = hasty();
    let (mut cut_off, mut mute) = (Node::new(&consensus).await, Node::new(&consensus).await);
    let mut other = Node::new(&consensus).await;
    let client = client(&[&cut_off, &mute, &other], &consensus).await;
    let mut link = cut_off.link().await;
    let (clock, theirs) = (SystemClock::new(), other.id());
    let mut node = client.caller.port().node.clone();
    let borne = Leaderless::while_it_pings(&mut link, async {
        let _held = mute.link().await;
        let asked = clock.now();
        let mut link = other.link().await;
        let borne = clock.now().since(asked);
        say(&mut link, Some(theirs)).await;
        node.wait_for(|node| *node == Some(theirs)).await.expect("it runs");
        borne
    })
    .await;
    // Its own look at the clock comes a moment before ours.
    let least = consensus.handshake_timeout - Duration::from_millis(100);
    assert!(borne >= least, "it was given {borne:?}");
}

#[tokio::test]
async fn a_node_that_finds_its_leader_soon_is_not_left_and_nobody_else_is_asked() {
    let Leaderless { client, consensus, cut_off, mut link, mut other } = Leaderless::set().await;
    let clock = SystemClock::new();
    say(&mut link, None).await;
    let (id, leader) = (cut_off.id(), Mutex::new(Some(cut_off.id())));
    let enough = clock.now().plus(4 * consensus.heartbeat_interval);
    tokio::select! {
        _ = other.links.recv() => panic!("an election goes on, and it asks elsewhere"),
        () = ping(&mut link, &leader) => panic!("it left a node that knows its leader"),
        () = clock.sleep_until(enough) => {}
    }
    assert_eq!(client.node(), Some(id));
}

/// Tells a client whom the node knows to lead.
async fn say(link: &mut Link, leader: Option<PeerId>) {
    let frame = postcard::to_stdvec(&ClientFrame::Ping { leader }).expect("plain");
    link.send(&frame).await.expect("the client is there");
}

#[tokio::test]
async fn a_client_comes_back_to_a_silent_node_ever_more_rarely() {
    let consensus = ConsensusProfile::Loopback.config();
    let mut silent = Node::new(&consensus).await;
    let _client = client(&[&silent], &consensus).await;
    let clock = SystemClock::new();
    let mut links = vec![silent.link().await];
    let mut came = vec![clock.now()];
    for _ in 0..6 {
        links.push(silent.link().await);
        came.push(clock.now());
    }
    for (round, pair) in (0..).zip(came.windows(2)) {
        // Silence is borne first; then comes at least half of the pause.
        let least = consensus.client_silence_max + dials::pause(&consensus, round, 0);
        let gap = pair[1].since(pair[0]);
        assert!(gap >= least, "it came back {round} after {gap:?}, before {least:?}");
    }
}

#[tokio::test]
async fn a_client_that_waits_for_nothing_bears_more_silence_than_one_that_waits() {
    let consensus =
        ConsensusConfig { max_missed_heartbeats: 10_000, ..ConsensusProfile::Lan.config() };
    let mut silent = Node::new(&consensus).await;
    let client = client(&[&silent], &consensus).await;
    let mut link = silent.link().await;
    say(&mut link, Some(silent.id())).await;
    let clock = SystemClock::new();
    let enough = clock.now().plus(10 * consensus.client_silence_max);
    tokio::select! {
        _ = silent.links.recv() => panic!("it has nothing to wait for, and leaves"),
        () = clock.sleep_until(enough) => {}
    }
    assert_eq!(client.node(), Some(silent.id()));
    // The node does not answer: this ends with the client's move, or the test does.
    tokio::select! {
        _ = client.query(query(8), Consistency::Weak) => panic!("it waits for a silent node"),
        _ = silent.link() => {}
    }
}

/// Answers whatever it is asked, and between answers says that it lives, until the client leaves.
async fn answer(link: &mut Link, leader: PeerId) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    loop {
        let frame = tokio::select! {
            frame = link.recv() => match frame {
                Some(frame) => postcard::from_bytes(&frame).expect("a client's frame"),
                None => return,
            },
            _ = ticks.tick() => ClientFrame::Ping { leader: None },
        };
        let frame = match frame {
            ClientFrame::Call { id, .. } => {
                let (applied, answer) = (raft::Index(1), Some(vec![0].into()));
                ClientFrame::Answer { id, outcome: Outcome::Queried { applied, answer } }
            }
            _ => ClientFrame::Ping { leader: Some(leader) },
        };
        let frame = postcard::to_stdvec(&frame).expect("plain");
        if link.send(&frame).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_client_that_was_stopped_reads_before_it_judges_its_node() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let consensus = ConsensusConfig {
        heartbeat_interval: Duration::from_millis(500),
        election_timeout: Duration::from_secs(1),
        client_silence_max: Duration::from_secs(1),
        ..ConsensusProfile::Lan.config()
    };
    let mut node = Node::new(&consensus).await;
    let clock = Arc::new(JumpingClock::default());
    let network = network_on(Arc::new(Arc::clone(&clock))).await;
    let builder = network.client(key()).consensus(consensus).members([node.network.peer()]);
    let client: Client<Sum> = soon("a link", builder.connect()).await.expect("it lets it in");
    let mut link = node.link().await;
    let id = node.id();
    let asked = async {
        for _ in 0..20 {
            // As after SIGCONT: an hour is gone between two looks at the clock.
            clock.jump(Duration::from_secs(3_600));
            let asked = soon("an answer", client.query(query(8), Consistency::Weak)).await;
            assert_eq!(asked.expect("it is answered").via, id);
        }
    };
    tokio::select! {
        () = asked => {}
        () = answer(&mut link, id) => panic!("the client has left"),
    }
    assert_eq!(record.counter(CLIENT_SWITCHES, &[]), 0);
}

#[test]
fn pauses_double_within_their_bounds_and_are_drawn() {
    let consensus = ConsensusProfile::Loopback.config();
    let ms = Duration::from_millis;
    let pause = |round, draw| dials::pause(&consensus, round, draw);
    for (round, full) in (0..).zip([5, 10, 20, 40, 80, 100, 100].map(ms)) {
        let draws = [0, 1_000, 999_999, u64::MAX].map(|draw| pause(round, draw));
        for drawn in draws {
            assert!((full / 2..=full).contains(&drawn), "{drawn:?} of {full:?}");
        }
        assert!(draws[0] < draws[1] && draws[1] < draws[2], "clients do not come in step");
    }
    assert!(pause(u32::MAX, u64::MAX) <= ms(100), "a long absence does not overflow");
}

/// So many queries at once to a node that lives and answers nothing: what became of them.
async fn asked(consensus: &ConsensusConfig, count: usize, bytes: usize) -> Vec<QueryError> {
    let mut node = Node::new(consensus).await;
    let client = client(&[&node], consensus).await;
    let mut link = node.link().await;
    let leader = Mutex::new(Some(node.id()));
    let queries = (0..count).map(|_| client.query(query(bytes), Consistency::Weak));
    let asked = tokio::select! {
        asked = soon("answers", join_all(queries)) => asked,
        () = ping(&mut link, &leader) => panic!("the client has left"),
    };
    asked.into_iter().map(|asked| asked.expect_err("nobody answers")).collect()
}

fn busy(errors: &[QueryError]) -> usize {
    errors.iter().filter(|error| error.reason == Reason::Busy).count()
}

/// The profile, with queries that are soon given up, and silence that is borne for long: on one
/// thread a node cannot ping while its client puts many questions together.
fn hasty() -> ConsensusConfig {
    let query_timeout = Duration::from_millis(400);
    let client_silence_max = Duration::from_secs(10);
    ConsensusConfig { query_timeout, client_silence_max, ..ConsensusProfile::Lan.config() }
}

#[tokio::test]
async fn a_client_takes_on_no_more_calls_than_it_may_and_says_so_at_once() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let consensus = ConsensusConfig { requests_max: 4, ..hasty() };
    let errors = asked(&consensus, 10, 8).await;
    assert_eq!(busy(&errors), 6, "{errors:?}");
    assert_eq!(record.counter(CALLER_REFUSED, &[("reason", "agent")]), 6);
}

#[tokio::test]
async fn a_client_takes_on_no_more_bytes_than_it_may_and_says_so_at_once() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let (command_bytes_max, requests_bytes_max) = (1_000, 2_500);
    let consensus = ConsensusConfig { command_bytes_max, requests_bytes_max, ..hasty() };
    let errors = asked(&consensus, 4, 900).await;
    assert_eq!(busy(&errors), 2, "two of 900 fit into 2 500: {errors:?}");
    assert_eq!(record.counter(CALLER_REFUSED, &[("reason", "bytes")]), 2);
}

#[tokio::test]
async fn a_node_that_does_not_read_as_fast_as_it_is_asked_makes_its_client_busy() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    // In time for each to be looked at before it is given up.
    let consensus = ConsensusConfig { query_timeout: Duration::from_secs(4), ..hasty() };
    // Beyond what QUIC and the link's own queue take of it.
    let errors = asked(&consensus, 12_000, 4_000).await;
    let refused = record.counter(CALLER_REFUSED, &[("reason", "link")]);
    assert!(refused > 0, "{} were refused otherwise", busy(&errors));
    assert_eq!(busy(&errors) as u64, refused);
}

#[tokio::test]
async fn what_a_call_weighed_is_free_again_once_it_is_answered() {
    let (command_bytes_max, requests_bytes_max) = (1_000, 1_000);
    let consensus = ConsensusConfig { command_bytes_max, requests_bytes_max, ..hasty() };
    let mut node = Node::new(&consensus).await;
    let client = client(&[&node], &consensus).await;
    let mut link = node.link().await;
    let leader = Mutex::new(Some(node.id()));
    let rounds = async {
        for round in 0..3 {
            let asked = client.query(query(900), Consistency::Weak).await;
            let reason = asked.expect_err("nobody answers").reason;
            assert_eq!(reason, Reason::Timeout, "in round {round}");
            // Where this machine stalls the caller gives up before the agent does.
            until("its room", || client.caller.port().requests.is_empty()).await;
        }
    };
    tokio::select! {
        () = soon("answers", rounds) => {}
        () = ping(&mut link, &leader) => panic!("the client has left"),
    }
    until("its link", || client.node() == Some(node.id())).await;
}
