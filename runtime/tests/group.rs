//! Groups as a program sees them: real nodes on loopback, in one process.

#[allow(dead_code)] // shared with other test targets; each uses its own part
#[path = "model/members.rs"]
mod members;

use std::{collections::BTreeSet, io, time::Duration};

use members::{Counter, client, config, formed, formed_with, join_with, key, network, soon, until};
use runtime::{
    ApplyContext, Bootstrap, Client, CommandError, ConsensusConfig, Consistency, Group, GroupError,
    GroupKey, Index, LeadershipPreference, Network, Payload, Peer, PeerId, Position, Reason,
    StateMachine, storage,
};

/// So patient that no leader falls, and no bond, because this machine is busy.
fn patient() -> ConsensusConfig {
    ConsensusConfig {
        max_missed_heartbeats: 400,
        election_timeout: Duration::from_secs(1),
        election_timeout_jitter: Duration::from_millis(500),
        forward_timeout: Duration::from_secs(15),
        query_timeout: Duration::from_secs(15),
        ..config()
    }
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

/// The reference's test of feeding, by a client as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_fed_has_its_place_at_once_and_is_committed_there() {
    let members = formed_with(patient(), 3).await;
    let client: Client<Counter> = soon(
        network()
            .await
            .client(key())
            .consensus(patient())
            .members(members.iter().map(|member| member.network.peer()))
            .first(2)
            .connect(),
    )
    .await
    .expect("a member answers");
    let mut places: Vec<Position> = Vec::new();
    for fed in [1, 2] {
        places.push(soon(client.feed(fed)).await.expect("the leader takes it"));
    }
    for (member, fed) in members.iter().zip([3, 4, 5]) {
        places.push(soon(member.group.feed(fed)).await.expect("the leader takes it"));
    }
    assert!(places.is_sorted_by(|one, next| one.index < next.index), "{places:?}");
    for member in &members {
        for place in &places {
            soon(member.group.when().committed(place.index)).await.expect("nobody has to stand");
            let there = soon(member.group.entries(place.index, 1)).await.expect("it runs");
            let [entry] = &there[..] else { panic!("{there:?} at {place}") };
            assert_eq!(entry.position, *place, "in the term that was told");
            assert!(matches!(entry.payload, Payload::Command { .. }), "{entry:?}");
        }
        let sum = soon(member.group.query((), Consistency::Strong)).await.expect("answers");
        assert_eq!(sum.answer, 15, "each is applied once");
    }
}

/// A member of a group with this key; these are its voters.
async fn member_of(key: &GroupKey, network: &Network, voters: &[Peer]) -> Group<Counter> {
    network
        .group(key.clone())
        .machine(Counter::default())
        .consensus(patient())
        .storage(storage::Memory)
        .bootstrap(Bootstrap::Voters(voters.iter().map(|peer| peer.id).collect()))
        .peers(voters.iter().cloned())
        .join()
        .await
        .expect("nothing stands against joining")
}

/// The reference's test of bonds: three groups on four nodes, no two with the same members.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_several_groups_bond_in_each_with_its_members_and_with_nobody_else() {
    let networks = [network().await, network().await, network().await, network().await];
    let peers: Vec<Peer> = networks.iter().map(Network::peer).collect();
    let mut groups = Vec::new();
    for (number, places) in (1..).zip([&[0, 1, 2][..], &[1, 2, 3], &[3, 0]]) {
        let key = GroupKey::from_secret(format!("group {number}"));
        let voters: Vec<Peer> = places.iter().map(|place| peers[*place].clone()).collect();
        let mut members = Vec::new();
        for place in places {
            members.push((peers[*place].id, member_of(&key, &networks[*place], &voters).await));
        }
        groups.push((number, members));
    }
    let are_bonded = |members: &[(PeerId, Group<Counter>)]| {
        members.iter().all(|(peer, group)| {
            let others = members.iter().map(|(other, _)| *other).filter(|other| other != peer);
            let (others, bonded): (BTreeSet<_>, _) = (others.collect(), group.status().bonded);
            bonded.iter().map(|node| node.peer).collect::<BTreeSet<_>>() == others
        })
    };
    for (number, members) in &groups {
        until("a bond with each of the others", || are_bonded(members)).await;
        for (_, group) in members {
            soon(group.execute(*number)).await.expect("a majority is there");
        }
    }
    // No group has heard anything of another.
    for (number, members) in &groups {
        for (_, group) in members {
            let sum = soon(group.query((), Consistency::Strong)).await.expect("answers");
            assert_eq!(sum.answer, number * i64::try_from(members.len()).expect("a few"));
            assert_eq!(group.members().len(), members.len());
        }
        until("the same bonds as before", || are_bonded(members)).await;
    }
    // What a node does in one group is nothing to its others.
    let (_, pair) = groups.pop().expect("there are three");
    for (_, group) in pair {
        let when = group.when();
        drop(group);
        soon(when.stopped()).await;
    }
    for (number, members) in &groups {
        soon(members[0].1.execute(*number)).await.expect("it goes on");
        until("the same bonds as before", || are_bonded(members)).await;
    }
}

/// The reference's test of group ids; see also those of the key and the settings.
#[tokio::test]
async fn where_a_member_remembers_and_whom_it_knows_is_nothing_to_the_groups_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, other) = (network().await, network().await);
    let (peer, key) = (runtime::SecretKey::from_bytes([9; 32]).peer_id(), key());
    let on = |network: &Network| network.group(key.clone()).bootstrap(Bootstrap::Solo);
    let forgets = on(&one).machine(Counter::default()).storage(storage::Memory);
    let forgets = forgets.join().await.expect("nothing stands against joining");
    let remembers = on(&other)
        .machine(Counter::default())
        .storage(storage::Disk::at(folder.path().join("store")))
        .peers([Peer { id: peer, addresses: vec![] }])
        .preference(LeadershipPreference::Reluctant { factor: 2 });
    let remembers = remembers.join().await.expect("nothing stands against joining");
    assert_eq!(forgets.id(), remembers.id());
    let otherwise = on(&one).machine(Fragile).storage(storage::Memory);
    let otherwise = otherwise.join().await.expect("another machine is another group");
    assert_ne!(otherwise.id(), forgets.id());
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
    // The one that it asked first, unless this machine was so busy that another was asked beside.
    let node = client.node().expect("it is connected");
    soon(client.execute(1)).await.expect("through a follower, as a rule");
    let place = members.iter().position(|member| member.network.peer().id == node);
    members[place.expect("a member")].network.shutdown().await;
    let executed = soon(client.execute(1)).await.expect("through another");
    assert_eq!(executed.output, 2);
    assert_ne!(executed.via, node);
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

/// Panics when it is told to.
struct Fragile;

impl StateMachine for Fragile {
    type Command = bool;
    type Output = ();
    type Query = ();
    type Answer = ();
    const SIGNATURE: &'static str = "fragile 1";

    fn apply(&mut self, breaks: bool, _: &ApplyContext) {
        assert!(!breaks, "the test's machine breaks as it was told to");
    }

    fn query(&self, (): ()) {}

    fn snapshot(&self, _: &mut dyn io::Write) -> io::Result<()> {
        Ok(())
    }

    fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_panics_takes_its_member_with_it_and_everyone_is_told() {
    let network = network().await;
    let builder = network.group(key()).machine(Fragile).storage(storage::Memory);
    let group = builder.bootstrap(Bootstrap::Solo).join().await.expect("nothing is in the way");
    soon(group.execute(false)).await.expect("it works");
    let waiting = tokio::spawn(group.when().applied(Index(1_000_000)));
    let broken = soon(group.execute(true)).await.expect_err("nobody answers");
    assert!(matches!(broken, CommandError::Unknown { .. }), "it is in the log: {broken:?}");
    let outcome = soon(waiting).await.expect("no panic of ours");
    assert!(matches!(outcome, Err(GroupError::Stopped(_))), "{outcome:?}");
    let reason = "its machine or the applier panicked: the test's machine breaks as it was told to";
    assert_eq!(group.status().stopped.as_deref(), Some(reason));
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
    let crowd: BTreeSet<_> =
        (1..=9).map(|number| runtime::SecretKey::from_bytes([number; 32]).peer_id()).collect();
    let peers = crowd.iter().map(|id| Peer { id: *id, addresses: vec![] }).collect();
    let many = crowd.into_iter().chain([me.id]).collect();
    let many = wish(Bootstrap::Voters(many), peers).await.expect_err("too many");
    assert!(many.to_string().contains("10 founders, but at most 9 may vote"), "{many}");
}
