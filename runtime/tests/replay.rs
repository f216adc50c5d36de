//! Members far behind, as a program sees them: real nodes on loopback, in one process.

#[allow(dead_code)] // shared with other test targets; each uses its own part
#[path = "model/members.rs"]
mod members;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use members::{Counter, Member, config, formed_with, key, network, soon, until};
use runtime::{ConsensusConfig, Event, Peer, PeerId, ReplayEnd, Replayed, Status, storage};

const ENTRIES: u64 = 20_000;
/// Of several bytes, so that there is something to fetch.
const COMMAND: i64 = 1 << 40;

type Heard = Arc<Mutex<Vec<Event>>>;

/// So slow that all bonds are there before it is over, and so patient that no leader falls
/// because this machine is busy. The seed makes another group.
fn slow(seed: u64) -> ConsensusConfig {
    ConsensusConfig {
        election_timeout: Duration::from_millis(600),
        election_timeout_jitter: Duration::from_millis(300),
        forward_timeout: Duration::from_millis(15_000 + seed),
        batch_size: 200,
        catch_up_rate_max: 64 << 10,
        ..config()
    }
}

/// Three members, of which the first leads, and so many entries.
async fn full(consensus: &ConsensusConfig) -> Vec<Member> {
    let members = formed_with(consensus.clone(), 3).await;
    for _ in 0..ENTRIES / 1_000 {
        for executed in soon(members[0].group.execute_many(vec![COMMAND; 1_000])).await {
            executed.expect("commits");
        }
    }
    for member in &members {
        let commit = members[0].group.status().commit;
        soon(member.group.when().applied(commit)).await.expect("it follows");
    }
    members
}

/// A node that knows all of these and has nothing.
async fn fresh(members: &[Member], consensus: &ConsensusConfig) -> (Member, Heard) {
    let (network, heard) = (network().await, Heard::default());
    let noted = Arc::clone(&heard);
    let peers: Vec<Peer> = members.iter().map(|member| member.network.peer()).collect();
    let group = network
        .group(key())
        .machine(Counter::default())
        .consensus(consensus.clone())
        .storage(storage::Memory)
        .peers(peers)
        .observe(move |_, event| noted.lock().expect("nobody panics with it").push(event.clone()))
        .join()
        .await
        .expect("nothing stands against joining");
    (Member { network, group }, heard)
}

fn replayed(member: &Member) -> Replayed {
    member.group.status().replayed
}

fn peer(member: &Member) -> PeerId {
    member.network.peer().id
}

fn chunks_of(replayed: &Replayed, of: PeerId) -> u64 {
    let source = replayed.sources.iter().find(|source| source.node.peer == of);
    source.map_or(0, |source| source.chunks)
}

/// It has all that the leader had, and fetches no more.
async fn caught_up(member: &Member, leader: &Status) {
    soon(member.group.when().applied(leader.commit)).await.expect("it catches up");
    until("the end of it", || !replayed(member).active).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_member_catches_up_from_several_others() {
    let consensus = slow(1);
    let members = full(&consensus).await;
    let before = members[0].group.status();
    let (late, heard) = fresh(&members, &consensus).await;
    caught_up(&late, &before).await;
    let replayed = replayed(&late);
    assert!(replayed.entries > ENTRIES / 2, "{replayed:?}");
    for other in &members[1..] {
        assert!(chunks_of(&replayed, peer(other)) > 0, "{replayed:?}");
    }
    let others: u64 = members[1..].iter().map(|other| chunks_of(&replayed, peer(other))).sum();
    assert!(others > chunks_of(&replayed, peer(&members[0])), "the leader last: {replayed:?}");
    assert_eq!((replayed.wrong, replayed.unasked), (0, 0), "{replayed:?}");
    let heard = heard.lock().expect("nobody panics with it").clone();
    let began = heard.iter().position(|event| matches!(event, Event::ReplayBegan { .. }));
    let ended = heard.iter().position(
        |event| matches!(event, Event::ReplayEnded(ended) if ended.why == ReplayEnd::CaughtUp),
    );
    assert!(began.is_some() && began < ended, "{began:?} {ended:?}");
    soon(late.group.when().is_voter()).await.expect("it is promoted");
    assert_eq!(members[0].group.status().term, before.term, "nobody held an election");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_dies_while_it_gives_is_done_without() {
    let consensus = slow(2);
    let mut members = full(&consensus).await;
    let before = members[0].group.status();
    let (late, _) = fresh(&members, &consensus).await;
    let dying = members.pop().expect("there are three");
    until("its first chunk", || chunks_of(&replayed(&late), peer(&dying)) > 0).await;
    assert!(late.group.status().commit < before.commit, "it is not over yet");
    dying.network.shutdown().await;
    caught_up(&late, &before).await;
    assert_eq!(replayed(&late).wrong, 0);
    assert_eq!(members[0].group.status().term, before.term, "nobody held an election");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_never_stops_keeps_nobody_from_catching_up() {
    // Fast enough for what is written meanwhile.
    let consensus = ConsensusConfig { catch_up_rate_max: 256 << 10, ..slow(3) };
    let members = full(&consensus).await;
    let before = members[0].group.status();
    let (group, stop) = (members[0].group.clone(), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let writer = tokio::spawn(async move {
        let mut written = 0;
        while !stopped.load(Ordering::Relaxed) {
            for executed in group.execute_many(vec![1; 10]).await {
                executed.expect("commits");
                written += 1;
            }
        }
        written
    });
    let (late, _) = fresh(&members, &consensus).await;
    caught_up(&late, &before).await;
    soon(late.group.when().is_voter()).await.expect("it is promoted under load");
    stop.store(true, Ordering::Relaxed);
    let written: u64 = soon(writer).await.expect("every command commits");
    assert!(written > 0 && replayed(&late).entries > ENTRIES / 2);
    let after = members[0].group.status();
    soon(late.group.when().applied(after.commit)).await.expect("it keeps up");
    assert_eq!(after.term, before.term, "nobody held an election");
}

/// What is near is sent by the leader itself, and costs no questions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lacks_little_fetches_nothing() {
    let consensus = slow(4);
    let members = formed_with(consensus.clone(), 3).await;
    for executed in soon(members[0].group.execute_many(vec![1; 1_000])).await {
        executed.expect("commits");
    }
    let (late, _) = fresh(&members, &consensus).await;
    caught_up(&late, &members[0].group.status()).await;
    assert_eq!(replayed(&late), Replayed::default());
}
