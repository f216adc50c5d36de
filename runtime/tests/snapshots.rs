//! Snapshots as a program sees them: logs that stay short, newcomers that go on from a snapshot,
//! and whatever dies on the way.

#[allow(dead_code)] // shared with other test targets; each uses its own part
#[path = "model/members.rs"]
mod members;

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use members::{Counter, config, key, network, soon, until};
use runtime::{
    ApplyContext, Bootstrap, Client, ConsensusConfig, Consistency, Event, Group, Index, Network,
    Peer, SecretKey, StateMachine,
    storage::{Disk, Memory, Store},
};

/// What a member's observer has heard.
type Heard = Arc<Mutex<Vec<Event>>>;

/// Settings by which a log is compacted all the time, and a command may take its time.
fn short() -> ConsensusConfig {
    ConsensusConfig {
        snapshot_log_entries: 40,
        snapshot_tail_entries: 10,
        forward_timeout: Duration::from_secs(15),
        ..config()
    }
}

async fn join<M: StateMachine + Default>(
    network: &Network,
    store: impl Store,
    bootstrap: Bootstrap,
    peers: Vec<Peer>,
    consensus: ConsensusConfig,
) -> (Group<M>, Heard) {
    let heard = Heard::default();
    let noted = Arc::clone(&heard);
    let builder = network.group(key()).machine(M::default()).consensus(consensus);
    let builder = builder.storage(store).bootstrap(bootstrap).peers(peers);
    let builder =
        builder.observe(move |_, event| noted.lock().expect("nobody panics").push(event.clone()));
    (builder.join().await.expect("nothing stands against joining"), heard)
}

async fn node(number: u8, at: Option<&Peer>) -> Network {
    let address = at.and_then(|peer| peer.addresses.first().copied());
    // Of its own, so that no other test takes the port before this node is back on it.
    let address = address.unwrap_or(([127, 0, 7, number], 0).into());
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let bound = async {
        loop {
            let builder = Network::builder("tests").bind(address);
            let builder = builder.secret_key(SecretKey::from_bytes([number; 32]));
            // The socket of the life before may not be closed yet.
            match builder.build().await {
                Ok(network) => return network,
                Err(_) => ticks.tick().await,
            };
        }
    };
    soon(bound).await
}

/// Adds ones through this member, so many.
async fn add(group: &Group<Counter>, count: usize) {
    for executed in soon(group.execute_many(vec![1; count])).await {
        executed.expect("a majority is there");
    }
}

async fn sum(group: &Group<Counter>) -> i64 {
    soon(group.query((), Consistency::Strong)).await.expect("a majority is there").answer
}

/// Waits until the member's log starts behind that index.
async fn compacted(group: &Group<Counter>, index: u64) {
    let mut when = group.when();
    let seen = when.status(|status| status.log_start > Index(index));
    soon(seen).await.expect("it runs");
}

fn installed(heard: &Heard) -> usize {
    let heard = heard.lock().expect("nobody panics");
    heard.iter().filter(|event| matches!(event, Event::SnapshotInstalled(_))).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_beyond_the_compacted_log_goes_on_from_a_snapshot() {
    let one = network().await;
    let (founder, taken) = join::<Counter>(&one, Memory, Bootstrap::Solo, vec![], short()).await;
    soon(founder.when().is_leader()).await.expect("it leads itself");
    add(&founder, 300).await;
    compacted(&founder, 200).await;
    let status = founder.status();
    assert!(status.snapshot.index > status.log_start, "a tail stays: {status:?}");
    assert!(status.snapshot_bytes > 0);
    assert!(status.last.index.0 - status.log_start.0 < 120, "the log is short: {status:?}");
    let events = taken.lock().expect("nobody panics").clone();
    assert!(events.iter().any(|event| matches!(event, Event::SnapshotTaken(_))));

    let two = network().await;
    let (newcomer, heard) =
        join::<Counter>(&two, Memory, Bootstrap::Join, vec![one.peer()], short()).await;
    soon(newcomer.when().is_voter()).await.expect("it is promoted");
    assert_eq!(installed(&heard), 1);
    assert!(newcomer.status().log_start > Index(100), "it never had the log before");
    add(&newcomer, 5).await;
    assert_eq!(sum(&newcomer).await, 305);
    soon(newcomer.when().applied(founder.status().commit)).await.expect("it follows");
    let weak = soon(newcomer.query((), Consistency::Weak)).await.expect("it runs");
    assert_eq!(weak.answer, 305, "the machine is what the founder's is");
}

/// It knows how the group was founded, and nobody of then is there any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_is_given_a_snapshot_by_members_that_it_does_not_know_yet() {
    let one = network().await;
    let (founder, _) = join::<Counter>(&one, Memory, Bootstrap::Solo, vec![], short()).await;
    soon(founder.when().is_leader()).await.expect("it leads itself");
    let two = network().await;
    let (heir, _) = join::<Counter>(&two, Memory, Bootstrap::Join, vec![one.peer()], short()).await;
    soon(heir.when().is_voter()).await.expect("it is promoted");
    soon(founder.leave()).await.expect("the other stays");
    one.shutdown().await;
    add(&heir, 300).await;
    compacted(&heir, 200).await;

    let three = network().await;
    let (newcomer, heard) =
        join::<Counter>(&three, Memory, Bootstrap::Join, vec![two.peer()], short()).await;
    soon(newcomer.when().is_voter()).await.expect("it is promoted");
    assert_eq!((installed(&heard), sum(&newcomer).await), (1, 300));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_go_on_from_snapshot_and_log_and_sessions_from_before_it_are_known() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = |number: u8| folder.path().join(format!("store-{number}"));
    let mut peers: Vec<Peer> = Vec::new();
    let mut sums = Vec::new();
    let mut client: Option<Client<Counter>> = None;
    for life in 0..3 {
        let mut networks = Vec::new();
        for number in 1..=3 {
            networks.push(node(number, peers.get(usize::from(number) - 1)).await);
        }
        peers = networks.iter().map(Network::peer).collect();
        let voters: BTreeSet<_> = peers.iter().map(|peer| peer.id).collect();
        let mut groups = Vec::new();
        for (number, network) in (1..).zip(&networks) {
            let (founders, store) = (Bootstrap::Voters(voters.clone()), disk(&store(number)));
            groups.push(join(network, store, founders, peers.clone(), short()).await.0);
        }
        soon(groups[0].when().leader_elected()).await.expect("all are there");
        if life > 0 {
            assert!(groups[0].status().snapshot.index > Index(0), "life {life}: from a snapshot");
            assert_eq!(sum(&groups[1]).await, sums[sums.len() - 1], "life {life}");
        }
        // A client that was there from the beginning, with one session.
        if client.is_none() {
            let builder = network().await.client(key()).consensus(short());
            let connected = builder.members(peers.clone()).connect().await;
            client = Some(connected.expect("a member answers"));
        }
        let client = client.as_ref().expect("it was made");
        let before = sum(&groups[0]).await;
        let executed = soon(client.execute(1)).await.expect("its session is known");
        assert_eq!(executed.output, before + 1, "life {life}: applied once");
        add(&groups[2], 150).await;
        for group in &groups {
            compacted(group, life * 150 + 60).await;
        }
        sums.push(sum(&groups[0]).await);
        for (group, network) in groups.into_iter().zip(networks) {
            network.shutdown().await;
            soon(group.when().stopped()).await;
        }
    }
    assert_eq!(sums, [151, 302, 453]);
}

fn disk(path: &Path) -> Disk {
    Disk::at(path).segment_bytes(4 << 10)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lineage_that_was_forced_hands_on_a_snapshot_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = |number: u8| folder.path().join(format!("store-{number}"));
    let networks = [node(1, None).await, node(2, None).await];
    let peers: Vec<Peer> = networks.iter().map(Network::peer).collect();
    let voters: BTreeSet<_> = peers.iter().map(|peer| peer.id).collect();
    let mut groups = Vec::new();
    for (number, network) in (1..).zip(&networks) {
        let (founders, store) = (Bootstrap::Voters(voters.clone()), disk(&store(number)));
        groups.push(join::<Counter>(network, store, founders, peers.clone(), short()).await.0);
    }
    soon(groups[0].when().leader_elected()).await.expect("all are there");
    add(&groups[0], 150).await;
    compacted(&groups[0], 60).await;
    for (group, network) in groups.into_iter().zip(networks) {
        network.shutdown().await;
        soon(group.when().stopped()).await;
    }

    let survey = Disk::survey(store(1)).expect("it is closed and whole");
    assert_eq!(survey.configuration.voters.len(), 2, "the snapshot says so");
    assert!(survey.last.index > Index(100));
    let lineage = Disk::force_new_lineage(store(1)).expect("the other is gone");
    let one = node(1, None).await;
    let (group, _) =
        join::<Counter>(&one, Disk::existing(store(1)), Bootstrap::Join, vec![], short()).await;
    soon(group.when().is_leader()).await.expect("it leads itself");
    assert_eq!(sum(&group).await, 150);
    let two = network().await;
    let (newcomer, heard) =
        join::<Counter>(&two, Memory, Bootstrap::Join, vec![one.peer()], short()).await;
    soon(newcomer.when().is_voter()).await.expect("it is promoted");
    assert_eq!((newcomer.status().lineage, installed(&heard)), (Some(lineage), 1));
    assert_eq!(sum(&newcomer).await, 150);
}

/// Adds up, and carries a weight.
#[derive(Default)]
struct Heavy(i64);

impl StateMachine for Heavy {
    type Command = i64;
    type Output = i64;
    type Query = ();
    type Answer = i64;
    const SIGNATURE: &'static str = "test heavy 1";

    fn apply(&mut self, command: i64, _: &ApplyContext) -> i64 {
        self.0 += command;
        self.0
    }

    fn query(&self, (): ()) -> i64 {
        self.0
    }

    fn snapshot(&self, writer: &mut dyn io::Write) -> io::Result<()> {
        writer.write_all(&self.0.to_le_bytes())?;
        (0..WEIGHT_MIB).try_for_each(|_| writer.write_all(&vec![self.0 as u8; 1 << 20]))
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut value = [0; 8];
        reader.read_exact(&mut value)?;
        let weight = io::copy(reader, &mut io::sink())?;
        assert_eq!(weight, WEIGHT_MIB << 20);
        self.0 = i64::from_le_bytes(value);
        Ok(())
    }
}

const WEIGHT_MIB: u64 = 48;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_hands_a_snapshot_on_may_die_half_way() {
    let consensus = ConsensusConfig { snapshot_log_entries: 60, ..short() };
    let networks = [network().await, network().await, network().await];
    let peers: Vec<Peer> = networks.iter().map(Network::peer).collect();
    let voters: BTreeSet<_> = peers.iter().map(|peer| peer.id).collect();
    let mut groups = Vec::new();
    for network in &networks {
        let founders = Bootstrap::Voters(voters.clone());
        let joined = join::<Heavy>(network, Memory, founders, peers.clone(), consensus.clone());
        groups.push(joined.await.0);
    }
    let first = soon(groups[0].when().leader_elected()).await.expect("all are there");
    for executed in soon(groups[0].execute_many(vec![1; 100])).await {
        executed.expect("a majority is there");
    }
    for group in &groups {
        let mut when = group.when();
        soon(when.status(|status| status.log_start > Index(0))).await.expect("it compacts");
    }

    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    let newcomer = network().await;
    let joined = join::<Heavy>(&newcomer, disk(&store), Bootstrap::Join, peers.clone(), consensus);
    let (newcomer, heard) = joined.await;
    until("a part of a snapshot", || {
        let files = std::fs::read_dir(&store).into_iter().flatten().flatten();
        let drafts = files.filter(|file| file.file_name().to_string_lossy().starts_with("draft"));
        drafts.filter_map(|draft| draft.metadata().ok()).any(|draft| draft.len() > 1 << 20)
    })
    .await;
    let place = peers.iter().position(|peer| peer.id == first).expect("one of them led");
    networks[place].shutdown().await;
    drop(groups.remove(place));

    let mut when = newcomer.when();
    let seen = when.status(|status| status.snapshot.index > Index(0));
    soon(seen).await.expect("another hands it on");
    assert_eq!(installed(&heard), 1);
    soon(groups[0].execute(1)).await.expect("two of three are there");
    soon(newcomer.when().applied(groups[0].status().commit)).await.expect("it follows");
    let weak = soon(newcomer.query((), Consistency::Weak)).await.expect("it runs");
    assert_eq!(weak.answer, 101);
}
