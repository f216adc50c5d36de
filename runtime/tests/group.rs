//! Groups as a program sees them: real nodes on loopback, in one process.

use std::{collections::BTreeSet, future::Future, io, time::Duration};

use runtime::{
    ApplyContext, Bootstrap, Client, CommandError, ConsensusConfig, ConsensusProfile, Consistency,
    Group, GroupError, GroupKey, Index, LeadershipPreference, Network, Payload, Peer, Reason,
    StateMachine, storage,
};

/// Adds up.
#[derive(Default)]
struct Counter {
    value: i64,
}

impl StateMachine for Counter {
    type Command = i64;
    type Output = i64;
    type Query = ();
    type Answer = i64;
    const SIGNATURE: &'static str = "test counter 1";

    fn apply(&mut self, command: i64, _: &ApplyContext) -> i64 {
        self.value += command;
        self.value
    }

    fn query(&self, (): ()) -> i64 {
        self.value
    }

    fn snapshot(&self, writer: &mut dyn io::Write) -> io::Result<()> {
        writer.write_all(&self.value.to_le_bytes())
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut value = [0; 8];
        reader.read_exact(&mut value)?;
        self.value = i64::from_le_bytes(value);
        Ok(())
    }
}

struct Member {
    network: Network,
    group: Group<Counter>,
}

fn key() -> GroupKey {
    GroupKey::from_secret("a secret of the tests")
}

fn config() -> ConsensusConfig {
    ConsensusProfile::Lan.config()
}

async fn network() -> Network {
    Network::builder("tests").bind(([127, 0, 0, 1], 0).into()).build().await.expect("a free port")
}

async fn join(network: &Network, peers: &[Peer], preference: LeadershipPreference) -> Member {
    join_with(config(), network, peers, preference).await
}

async fn join_with(
    config: ConsensusConfig,
    network: &Network,
    peers: &[Peer],
    preference: LeadershipPreference,
) -> Member {
    let voters: BTreeSet<_> = peers.iter().map(|peer| peer.id).collect();
    let group = network
        .group(key())
        .machine(Counter::default())
        .consensus(config)
        .storage(storage::Memory)
        .bootstrap(Bootstrap::Voters(voters))
        .peers(peers.iter().filter(|peer| peer.id != network.peer().id).cloned())
        .preference(preference)
        .join()
        .await
        .expect("nothing stands against joining");
    Member { network: network.clone(), group }
}

/// A group of so many nodes, of which the first leads.
async fn formed(count: usize) -> Vec<Member> {
    let mut networks = Vec::new();
    for _ in 0..count {
        networks.push(network().await);
    }
    let peers: Vec<_> = networks.iter().map(Network::peer).collect();
    let mut members = Vec::new();
    for (place, network) in networks.iter().enumerate() {
        let preference = match place {
            0 => LeadershipPreference::Normal,
            _ => LeadershipPreference::Reluctant { factor: 4 },
        };
        members.push(join(network, &peers, preference).await);
    }
    for member in &members {
        soon(member.group.when().leader_is(peers[0].id)).await.expect("the eager one leads");
    }
    members
}

/// Bounds a wait, far beyond what it takes.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it came in time")
}

async fn client(members: &[Member], first: usize) -> Client<Counter> {
    network()
        .await
        .client(key())
        .consensus(config())
        .members(members.iter().map(|member| member.network.peer()))
        .first(first)
        .connect()
        .await
        .expect("a member answers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_from_any_member_are_applied_once_and_in_one_order() {
    let members = formed(3).await;
    let mut positions = BTreeSet::new();
    for round in 0..5 {
        for member in &members {
            let executed = soon(member.group.execute(1)).await.expect("a majority is there");
            assert!(positions.insert(executed.position), "two commands at one position");
            assert_eq!(executed.output, positions.len() as i64, "in round {round}");
        }
    }
    for member in &members {
        let strong = soon(member.group.query((), Consistency::Strong)).await.expect("answers");
        assert_eq!(strong.answer, 15);
    }
}

/// Calls that are tried again so soon that most of them meet their first attempt on its way.
///
/// The leader once looked for the answer to a repeated request before the request itself had
/// been handed to the machine, and said that its session had expired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_gets_the_answer_of_the_first() {
    let ms = Duration::from_millis;
    let eager = ConsensusConfig {
        heartbeat_interval: ms(1),
        heartbeat_jitter: Duration::ZERO,
        election_timeout: ms(2),
        election_timeout_jitter: ms(2),
        max_missed_heartbeats: 5_000,
        ..config()
    };
    let networks = [network().await, network().await, network().await];
    let peers: Vec<_> = networks.iter().map(Network::peer).collect();
    let mut members = Vec::new();
    for network in &networks {
        let normal = LeadershipPreference::Normal;
        members.push(join_with(eager.clone(), network, &peers, normal).await);
    }
    let mut done = 0;
    for _ in 0..20 {
        let batches = members.iter().map(|member| member.group.execute_many([1; 20]));
        for executed in soon(futures_util::future::join_all(batches)).await.concat() {
            match executed {
                Ok(_) => done += 1,
                Err(CommandError::Unknown { reason, .. }) => {
                    assert_ne!(reason, Reason::SessionExpired, "its answer was there");
                }
                Err(CommandError::Failed { .. }) => {}
            }
        }
    }
    assert!(done > 0, "with timeouts this short leaders come and go, but some lead");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_ends_with_the_same_log() {
    let members = formed(3).await;
    let executed = soon(members[2].group.execute_many(1..=20)).await;
    let last = executed.into_iter().map(|done| done.expect("commits").position.index).max();
    let last = last.expect("twenty were asked for");
    let mut logs = Vec::new();
    for member in &members {
        soon(member.group.when().applied(last)).await.expect("it catches up");
        let mut log = soon(member.group.entries(Index(1), 1_000)).await.expect("it runs");
        log.retain(|entry| entry.position.index <= last);
        logs.push(log);
    }
    assert_eq!(logs[0], logs[1]);
    assert_eq!(logs[0], logs[2]);
    let commands = logs[0].iter().filter(|entry| matches!(entry.payload, Payload::Command { .. }));
    assert_eq!(commands.count(), 20, "each command stands in the log once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_survives_the_end_of_the_leader() {
    let mut members = formed(3).await;
    soon(members[1].group.execute(7)).await.expect("commits");
    let leader = members.remove(0);
    let waiting = members[1].group.clone();
    let under_way = tokio::spawn(async move { waiting.execute(35).await });
    leader.network.shutdown().await;
    // Whatever became of the command that was under way, it happened at most once.
    let under_way = soon(under_way).await.expect("no panic");
    let after = soon(members[0].group.query((), Consistency::Strong)).await.expect("a new leader");
    match under_way {
        Ok(executed) => assert_eq!((executed.output, after.answer), (42, 42)),
        Err(CommandError::Failed { .. }) => assert_eq!(after.answer, 7),
        Err(CommandError::Unknown { .. }) => assert!([7, 42].contains(&after.answer)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_moves_on_when_its_node_ends() {
    let members = formed(3).await;
    let client = client(&members, 2).await;
    assert_eq!(client.node(), Some(members[2].network.peer().id));
    soon(client.execute(1)).await.expect("through a follower");
    members[2].network.shutdown().await;
    let executed = soon(client.execute(1)).await.expect("through another");
    assert_eq!(executed.output, 2);
    assert_ne!(executed.via, members[2].network.peer().id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_on_request() {
    let members = formed(3).await;
    let successor = members[1].network.peer().id;
    soon(members[0].group.transfer(successor)).await.expect("it is told to stand");
    for member in &members {
        soon(member.group.when().leader_is(successor)).await.expect("it leads");
    }
    soon(members[0].group.execute(1)).await.expect("the old leader follows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_serves_at_once_and_remembers() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = runtime::SecretKey::from_bytes([7; 32]);
    for start in 1..=3 {
        let network = Network::builder("tests")
            .bind(([127, 0, 0, 1], 0).into())
            .secret_key(secret.clone())
            .build()
            .await
            .expect("a free port");
        let group = network
            .group(key())
            .machine(Counter::default())
            .storage(storage::Disk::at(folder.path().join("store")))
            .bootstrap(Bootstrap::Solo)
            .join()
            .await
            .expect("its own store");
        let executed = soon(group.execute(1)).await.expect("alone is a majority of one");
        assert_eq!(executed.output, start, "what earlier starts did is remembered");
        network.shutdown().await;
        soon(group.when().stopped()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_answered_as_done() {
    let members = formed(3).await;
    soon(members[0].group.execute(1)).await.expect("commits");
    members[1].network.shutdown().await;
    members[2].network.shutdown().await;
    let lonely = soon(members[0].group.execute(1)).await;
    assert!(
        matches!(lonely, Err(CommandError::Unknown { .. } | CommandError::Failed { .. })),
        "{lonely:?}"
    );
    let read = soon(members[0].group.query((), Consistency::Strong)).await;
    assert!(read.is_err(), "a strong read needs a majority: {read:?}");
    let weak = soon(members[0].group.query((), Consistency::Weak)).await.expect("local");
    assert_eq!(weak.answer, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn futures_resolve_with_an_error_once_the_member_has_stopped() {
    let members = formed(1).await;
    let when = members[0].group.when();
    let waiting = tokio::spawn(when.applied(Index(1_000_000)));
    members[0].network.shutdown().await;
    let outcome = soon(waiting).await.expect("no panic");
    assert!(matches!(outcome, Err(GroupError::Stopped(_))), "{outcome:?}");
    let refused = soon(members[0].group.execute(1)).await;
    assert!(
        matches!(refused, Err(CommandError::Failed { reason: Reason::Stopped, .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_wish_that_cannot_be_met_is_refused_in_words() {
    let network = network().await;
    let me = network.peer();
    let wish = |bootstrap, peers: Vec<Peer>| {
        network
            .group(key())
            .machine(Counter::default())
            .storage(storage::Memory)
            .bootstrap(bootstrap)
            .peers(peers)
            .join()
    };
    let stranger = runtime::SecretKey::from_bytes([9; 32]).peer_id();
    let others = wish(Bootstrap::Voters([stranger].into()), vec![]).await.expect_err("not us");
    assert!(others.to_string().contains("do not include this peer"), "{others}");
    let unknown =
        wish(Bootstrap::Voters([me.id, stranger].into()), vec![]).await.expect_err("no address");
    assert!(unknown.to_string().contains("is not among the peers"), "{unknown}");
    let nothing = network.group(key()).machine(Counter::default()).storage(storage::Memory).join();
    let nothing = nothing.await.expect_err("no bootstrap");
    assert!(nothing.to_string().contains("Bootstrap::Voters"), "{nothing}");
}

#[test]
fn settings_that_cannot_work_name_the_field_and_the_rule() {
    let ms = Duration::from_millis;
    let good = config();
    let bad = [
        ("heartbeat_interval", ConsensusConfig { heartbeat_interval: ms(0), ..good.clone() }),
        ("heartbeat_jitter", ConsensusConfig { heartbeat_jitter: ms(50), ..good.clone() }),
        ("election_timeout", ConsensusConfig { election_timeout: ms(60), ..good.clone() }),
        ("sessions_max", ConsensusConfig { sessions_max: 0, ..good.clone() }),
        ("message_bytes_max", ConsensusConfig { message_bytes_max: u32::MAX, ..good.clone() }),
    ];
    for (field, config) in bad {
        let error = config.validate().expect_err(field);
        assert_eq!(error.field, field);
        assert!(error.to_string().contains("must"), "{error}");
    }
    let wan = ConsensusProfile::Wan.config();
    let times = [wan.heartbeat_interval, wan.heartbeat_jitter, wan.election_timeout];
    assert_eq!(times, [ms(500), ms(150), ms(2_000)], "the reference's constants");
    let times = [wan.election_timeout_jitter, wan.bootstrap_delay, wan.forward_timeout];
    assert_eq!(times, [ms(500), ms(3_000), ms(2_000)]);
    assert_eq!((wan.query_timeout, wan.max_missed_heartbeats), (ms(2_000), 10));
    for profile in [ConsensusProfile::Lan, ConsensusProfile::Wan, ConsensusProfile::Loopback] {
        profile.config().validate().expect("the named profiles work");
    }
}
