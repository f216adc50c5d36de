//! Members far behind, as a program sees them: real nodes on loopback, in one process.

#[allow(dead_code)] // shared with other test targets; each uses its own part
#[path = "model/members.rs"]
mod members;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use members::{Counter, Member, config, formed_with, key, network, soon, until};
use runtime::{
    ConsensusConfig, Consistency, Event, Peer, PeerId, ReplayEnd, Replayed, Status, storage,
};

const ENTRIES: u64 = 20_000;
/// Chunks that may end before they are full.
const CHUNKS_CUT_MAX: u64 = 10;
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

/// The reference's test of catching up, with its sizes of a batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_catch_up_in_chunks_of_any_size_and_then_change_things_themselves() {
    for batch_size in [7, 20, 100, 1_000] {
        catch_up_in_chunks_of(batch_size).await;
    }
}

/// Most of what the leader had committed was fetched, in chunks of this size: none is larger, and
/// few are smaller, where it began and ended or what is committed moved on.
fn in_chunks_of(size: u64, replayed: &Replayed, commit: u64) {
    let Replayed { entries, sources, .. } = replayed;
    assert!(*entries > commit / 2, "of {commit}: {replayed:?}");
    for source in sources {
        assert!(source.entries <= source.chunks * size, "of {size}: {replayed:?}");
    }
    let given: u64 = sources.iter().map(|source| source.entries).sum();
    assert_eq!(given, *entries, "{replayed:?}");
    let chunks: u64 = sources.iter().map(|source| source.chunks).sum();
    assert!(chunks >= (commit / 2).div_ceil(size), "of {size}: {replayed:?}");
    assert!(chunks <= entries / size + CHUNKS_CUT_MAX, "of {size}: {replayed:?}");
}

async fn catch_up_in_chunks_of(batch_size: u32) {
    let consensus = ConsensusConfig {
        // For four of these a leader sends nothing itself once it was asked not to: far longer than
        // whoever asks is kept from asking again, also on a busy machine.
        heartbeat_interval: Duration::from_millis(250),
        client_silence_max: Duration::from_millis(500),
        election_timeout: Duration::from_secs(1),
        election_timeout_jitter: Duration::from_millis(500),
        forward_timeout: Duration::from_secs(15),
        query_timeout: Duration::from_secs(15),
        // Whoever is far behind says so before the leader itself has sent it much.
        message_bytes_max: 16 << 10,
        batch_size,
        ..config()
    };
    let mut members = formed_with(consensus.clone(), 1).await;
    let mut sum = 6_000;
    for _ in 0..3 {
        for executed in soon(members[0].group.execute_many(vec![1; 2_000])).await {
            executed.expect("commits");
        }
    }
    for _ in 0..2 {
        let before = members[0].group.status();
        let (late, _) = fresh(&members, &consensus).await;
        caught_up(&late, &before).await;
        in_chunks_of(batch_size.into(), &replayed(&late), before.commit.0);
        soon(late.group.when().is_voter()).await.expect("it is promoted");
        let executed = soon(late.group.execute_many(vec![1; 200])).await;
        let outputs = executed.into_iter().map(|executed| executed.expect("commits").output);
        let outputs: BTreeSet<i64> = outputs.collect();
        let (first, last) = (outputs.first().copied(), outputs.last().copied());
        assert_eq!((first, last, outputs.len()), (Some(sum + 1), Some(sum + 200), 200));
        sum += 200;
        members.push(late);
    }
    for member in &members {
        let answer = soon(member.group.query((), Consistency::Strong)).await.expect("answers");
        assert_eq!(answer.answer, sum);
        let commit = members[0].group.status().commit;
        soon(member.group.when().applied(commit)).await.expect("it follows");
    }
}
