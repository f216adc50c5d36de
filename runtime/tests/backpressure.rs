//! What is slow holds nobody else up and fills no memory: a follower that lags, disks that
//! stall, callers that ask faster than anyone answers. None of it causes an election, but for one
//! case that is told apart: a leader whose disk hangs for longer than four of the longest election
//! timeouts, and a second, asks another to lead.
//!
//! Any member may stand, and at the end of each test one does, once the leader is gone. The tests
//! of this file share a recorder; each has settings, and so a group, of its own.

#[allow(dead_code)] // shared with other test targets; each uses its own part
#[path = "model/members.rs"]
mod members;
#[allow(dead_code)] // the same
#[path = "model/recorder.rs"]
mod recorder;
#[path = "model/stalling.rs"]
mod stalling;

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Condvar, Mutex, OnceLock},
    time::Duration,
};

use futures_util::future::join_all;
use members::{key, network, soon, until};
use recorder::Record;
use runtime::{
    ApplyContext, Bootstrap, CommandError, ConsensusConfig, ConsensusProfile, Event, Executed,
    Group, Index, Network, Peer, Reason, StateMachine, Status,
};
use stalling::Stalling;

/// Counts bytes.
#[derive(Default)]
struct Weigher(u64);

impl StateMachine for Weigher {
    type Command = Vec<u8>;
    type Output = u64;
    type Query = ();
    type Answer = u64;
    const SIGNATURE: &'static str = "test weigher 1";

    fn apply(&mut self, command: Vec<u8>, _: &ApplyContext) -> u64 {
        self.0 += command.len() as u64;
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

/// A door that a member's own task has to pass with each commit.
#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().expect("nobody panics with it") = shut;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let shut = self.shut.lock().expect("nobody panics with it");
        let bound = Duration::from_secs(120);
        let passed = self.opened.wait_timeout_while(shut, bound, |shut| *shut);
        assert!(!passed.expect("nobody panics with it").1.timed_out(), "the gate stays shut");
    }
}

/// Opens it at the end, also if a test fails: else its runtime waits for who stands before it.
struct Opened(Arc<Gate>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

struct Member {
    network: Network,
    group: Group<Weigher>,
    disk: Stalling,
    gate: Arc<Gate>,
}

impl Member {
    fn status(&self) -> Status {
        self.group.status()
    }
}

/// The recorder of this process; it must be there before the first node is.
fn record() -> &'static Record {
    static RECORD: OnceLock<Record> = OnceLock::new();
    RECORD.get_or_init(|| {
        let record = Record::default();
        metrics::set_global_recorder(record.clone()).expect("there is no other in this process");
        record
    })
}

/// So patient that no leader falls because this machine is busy, and that no bond is given up
/// because a member stands still; but any member stands that hears no leader for that long. The
/// seed makes another group.
fn patient(seed: u64) -> ConsensusConfig {
    ConsensusConfig {
        election_timeout: Duration::from_secs(3),
        election_timeout_jitter: Duration::from_secs(1),
        query_timeout: Duration::from_secs(5),
        max_missed_heartbeats: 1_000,
        forward_timeout: Duration::from_millis(15_000 + seed),
        ..ConsensusProfile::Lan.config()
    }
}

/// Three members, the one that leads first. The others would lead as well.
async fn formed(consensus: &ConsensusConfig) -> Vec<Member> {
    record();
    let networks = [network().await, network().await, network().await];
    let peers: Vec<Peer> = networks.iter().map(Network::peer).collect();
    let voters: BTreeSet<_> = peers.iter().map(|peer| peer.id).collect();
    let mut members = Vec::new();
    for network in networks {
        let (disk, gate) = (Stalling::default(), Arc::<Gate>::default());
        let passed = Arc::clone(&gate);
        let group = network
            .group(key())
            .machine(Weigher::default())
            .consensus(consensus.clone())
            .storage(disk.clone())
            .bootstrap(Bootstrap::Voters(voters.clone()))
            .peers(peers.iter().cloned())
            .observe(move |_, event| {
                if matches!(event, Event::Raft(raft::Note::Committed { .. })) {
                    passed.pass();
                }
            })
            .join()
            .await
            .expect("nothing stands against joining");
        members.push(Member { network, group, disk, gate });
    }
    let leader = soon(members[0].group.when().leader_elected()).await.expect("one of them");
    for member in &members {
        soon(member.group.when().leader_is(leader)).await.expect("all agree on it");
    }
    members.sort_by_key(|member| member.network.peer().id != leader);
    soon(members[0].group.execute(Vec::new())).await.expect("commits");
    members
}

type Outcome = Result<Executed<u64>, CommandError>;

fn busy(outcome: &Outcome) -> bool {
    matches!(outcome, Err(CommandError::Failed { reason: Reason::Busy, .. }))
}

/// All apply what the first has applied, in the term it was; and there could have been another,
/// for without that one they have a new leader.
async fn settled(mut members: Vec<Member>, term: runtime::Term) {
    let last: Index = members[0].status().applied;
    for member in &members {
        soon(member.group.when().applied(last)).await.expect("it catches up");
        assert_eq!(member.status().term, term, "there was an election");
    }
    soon(members[0].group.execute(vec![7; 64])).await.expect("the group goes on");
    assert_eq!(members[0].status().term, term, "there was an election");
    soon(members.remove(0).network.shutdown()).await;
    for member in &members {
        let mut when = member.group.when();
        let another = when.status(|status| status.term > term && status.leader.is_some());
        soon(another).await.expect("another is elected");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_that_lags_holds_up_nobody_and_what_waits_for_it_is_bounded() {
    let mut consensus = patient(1);
    consensus.inflight_bytes_max = 1 << 20;
    let members = formed(&consensus).await;
    let (term, lagging) = (members[0].status().term, &members[2]);
    let _opened = Opened(Arc::clone(&lagging.gate));
    lagging.gate.set(true);
    let group = members[0].group.id().to_string();
    let waits =
        || record().gauge("tessera.bond.queue.bytes", &[("group", &group), ("lane", "append")]);
    let mut most: f64 = 0.0;
    for _ in 0..200 {
        let done = soon(members[0].group.execute_many(vec![vec![7; 128 << 10]; 4])).await;
        assert!(done.iter().all(Result::is_ok), "two of three suffice: {done:?}");
        most = most.max(waits());
    }
    let behind = members[0].status().commit.since(lagging.status().commit);
    assert!(behind >= 800, "it lags by {behind} only");
    // Twice the window of the leader is what the lane takes.
    assert!(most <= f64::from(2 << 20), "{most} bytes waited in front of the lane");
    assert!(lagging.status().log_bytes < 8 << 20, "it holds what was under way to it");
    lagging.gate.set(false);
    settled(members, term).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_followers_stalled_disk_holds_up_nobody_and_its_backlog_is_bounded() {
    let mut consensus = patient(2);
    consensus.inflight_bytes_max = 1 << 20;
    let members = formed(&consensus).await;
    let (term, stalled) = (members[0].status().term, &members[2]);
    stalled.disk.stall(true);
    for _ in 0..100 {
        let done = soon(members[0].group.execute_many(vec![vec![7; 128 << 10]; 4])).await;
        assert!(done.iter().all(Result::is_ok), "two of three suffice: {done:?}");
    }
    until("a backlog", || stalled.status().storage_backlog_bytes > 1 << 19).await;
    let backlog = stalled.status().storage_backlog_bytes;
    // The window, one message beyond it, and what was under way before.
    assert!(backlog <= 3 << 20, "{backlog} bytes wait for its disk");
    let held = stalled.status().held_messages;
    assert!(held <= 1_000, "{held} messages wait for its disk");
    stalled.disk.stall(false);
    let last = members[0].status().commit;
    soon(stalled.group.when().applied(last)).await.expect("it catches up");
    until("an empty backlog", || {
        let status = stalled.status();
        (status.storage_backlog_bytes, status.held_messages) == (0, 0)
    })
    .await;
    settled(members, term).await;
}

/// As long as that takes less than four of the longest election timeouts nobody else is asked to
/// lead.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leaders_stalled_disk_makes_it_busy_before_its_backlog_is_large() {
    // Nothing here is waited for as long as four of these.
    let election_timeout = Duration::from_secs(5);
    let members = formed(&ConsensusConfig { election_timeout, ..patient(3) }).await;
    let (term, leader) = (members[0].status().term, &members[0]);
    let group = leader.group.id().to_string();
    let refused = || record().counter("tessera.group.refused.busy", &[("group", &group)]);
    leader.disk.stall(true);
    // The others are a majority: what is taken on is committed all the same, and applied once
    // this disk has it.
    let asking = leader.group.clone();
    let asked = tokio::spawn(async move { asking.execute_many(vec![vec![7; 1 << 19]; 100]).await });
    // Its status follows a turn later.
    let waits = || leader.status().storage_backlog_bytes;
    until("a refusal, with a backlog", || refused() > 0 && waits() > 32 << 20).await;
    let backlog = waits();
    assert!(backlog <= 33 << 20, "{backlog} bytes wait for its disk");
    let outcome = soon(leader.group.execute(vec![7; 64])).await;
    assert!(busy(&outcome), "{outcome:?}");
    leader.disk.stall(false);
    let outcomes = soon(asked).await.expect("no panic");
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let refused = outcomes.iter().filter(|outcome| busy(outcome)).count();
    assert_eq!((done + refused, done >= 60), (100, true), "{done} done, {refused} refused");
    let asked = record().counter("tessera.storage.hangs", &[("group", &group)]);
    assert_eq!(asked, 0, "it has asked another to lead");
    settled(members, term).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn disks_that_stall_in_a_majority_make_callers_wait_or_busy_and_nobody_stand() {
    let mut consensus = patient(4);
    (consensus.requests_max, consensus.uncommitted_entries_max) = (64, 32);
    let members = formed(&consensus).await;
    let term = members[0].status().term;
    members.iter().skip(1).for_each(|member| member.disk.stall(true));
    let batch = |member: &Member| {
        let group = member.group.clone();
        tokio::spawn(async move { group.execute_many(vec![vec![7; 1_000]; 500]).await })
    };
    let batches: Vec<_> = members.iter().map(batch).collect();
    until("as many calls as may be", || {
        members[0].status().last.index.since(members[0].status().commit) >= 32
    })
    .await;
    for member in &members {
        let calls = member.status().calls;
        assert!(calls <= 64, "{calls} calls under way");
    }
    assert!(members[0].status().last.index.since(members[0].status().commit) <= 32);
    members.iter().for_each(|member| member.disk.stall(false));
    let (mut done, mut refused) = (0, 0);
    for outcome in join_all(batches).await.into_iter().flat_map(|batch| batch.expect("no panic")) {
        match outcome {
            Ok(_) => done += 1,
            Err(CommandError::Failed { reason: Reason::Busy, .. }) => refused += 1,
            Err(other) => panic!("neither done nor busy: {other}"),
        }
    }
    assert!(done >= 32, "what was taken on is done: {done}");
    assert!(refused >= 1_000, "the rest is told so at once: {refused}");
    settled(members, term).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_is_asked_too_much_says_so_and_its_bonds_stay() {
    let mut consensus = patient(5);
    consensus.requests_bytes_max = consensus.command_bytes_max;
    let members = formed(&consensus).await;
    let term = members[0].status().term;
    // Twenty times what may be under way, through every member at once.
    let floods = members.iter().map(|member| {
        let group = member.group.clone();
        async move { group.execute_many(vec![vec![7; 100_000]; 200]).await }
    });
    let outcomes: Vec<Outcome> = soon(join_all(floods)).await.concat();
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let refused = outcomes.iter().filter(|outcome| busy(outcome)).count();
    assert_eq!(done + refused, outcomes.len(), "each is done or refused");
    assert!(done >= 10 && refused >= 300, "{done} done, {refused} refused");
    for member in &members {
        assert_eq!(member.status().bonded.len(), 2, "of {}", member.network.peer().id);
    }
    settled(members, term).await;
}
