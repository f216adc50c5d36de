//! Groups that grow and shrink, as a program sees them: real nodes on loopback, in one process.

#[allow(dead_code)] // shared with other test targets; each uses its own part
#[path = "model/members.rs"]
mod members;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use members::{Counter, Member, config, formed_with, key, network, soon, until};
use runtime::{
    Bootstrap, Cause, Change, CommandError, ConsensusConfig, Consistency, Event, Group, GroupError,
    Index, LeadershipPreference, Network, NodeId, Peer, SecretKey, storage,
};

/// What a member's observer has heard.
type Heard = Arc<Mutex<Vec<Event>>>;

/// A member on this node, with all settings but these as they are by default.
async fn join(
    network: &Network,
    bootstrap: Option<Bootstrap>,
    peers: Vec<Peer>,
    consensus: ConsensusConfig,
) -> (Member, Heard) {
    let heard = Heard::default();
    let noted = Arc::clone(&heard);
    let builder = network
        .group(key())
        .machine(Counter::default())
        .consensus(consensus)
        .storage(storage::Memory)
        .peers(peers)
        .observe(move |_, event| noted.lock().expect("nobody panics with it").push(event.clone()));
    let builder = match bootstrap {
        Some(bootstrap) => builder.bootstrap(bootstrap),
        None => builder,
    };
    let group = builder.join().await.expect("nothing stands against joining");
    (Member { network: network.clone(), group }, heard)
}

/// So patient that nobody stands or asks twice because this machine is busy.
fn patient() -> ConsensusConfig {
    ConsensusConfig {
        election_timeout: Duration::from_secs(1),
        election_timeout_jitter: Duration::from_millis(500),
        forward_timeout: Duration::from_secs(15),
        ..config()
    }
}

/// A member that founds a group alone.
async fn founder(consensus: ConsensusConfig) -> Member {
    let (member, _) = join(&network().await, Some(Bootstrap::Solo), vec![], consensus).await;
    soon(member.group.when().is_leader()).await.expect("it leads itself");
    member
}

/// A member that joins by way of another.
async fn joiner(by: &Member, consensus: ConsensusConfig) -> Member {
    join(&network().await, None, vec![by.network.peer()], consensus).await.0
}

/// A group of so many voters, which grew from its first.
async fn grown(count: usize, consensus: ConsensusConfig) -> Vec<Member> {
    let mut members = vec![founder(consensus.clone()).await];
    while members.len() < count {
        let member = joiner(&members[0], consensus.clone()).await;
        soon(member.group.when().is_voter()).await.expect("it is promoted");
        members.push(member);
    }
    for member in &members {
        voters(member, count).await;
    }
    members
}

fn node(member: &Member) -> NodeId {
    member.group.status().node
}

/// Waits until the member sees a committed configuration of so many voters and nobody else.
async fn voters(member: &Member, count: usize) {
    let mut settled = member.group.when();
    let seen = settled.status(|status| {
        let configuration = &status.configuration;
        configuration.voters.len() == count && configuration.learners.is_empty()
    });
    let seen = soon(seen).await.expect("it runs");
    soon(member.group.when().committed(seen.last.index)).await.expect("it is committed");
}

async fn sum(group: &Group<Counter>) -> i64 {
    soon(group.query((), Consistency::Strong)).await.expect("a majority is there").answer
}

async fn leader_of(members: &[Member]) -> &Member {
    let mut leader = None;
    until("a leader that all agree on", || {
        let led: Vec<_> = members.iter().map(|member| member.group.status().leader).collect();
        let one = led[0].filter(|_| led.iter().all(|other| *other == led[0]));
        leader = one.and_then(|one| members.iter().find(|member| node(member) == one));
        leader.is_some()
    })
    .await;
    leader.expect("it was found")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_form_by_one_founder_and_two_that_join_with_all_defaults() {
    let mut members = grown(3, config()).await;
    let executed = soon(members[2].group.execute(7)).await.expect("through a joiner");
    assert_eq!(executed.output, 7);
    let lineages: Vec<_> = members.iter().map(|member| member.group.status().lineage).collect();
    assert!(lineages.iter().all(|lineage| lineage.is_some() && *lineage == lineages[0]));
    assert_eq!(members[0].group.members(), members[1].group.members());

    // The leader leaves: it hands over, is removed, and nobody waits for it any more.
    let leader = node(leader_of(&members).await);
    let place = members.iter().position(|member| node(member) == leader).expect("one of them");
    let left = members.remove(place);
    let again = left.group.clone();
    soon(left.group.leave()).await.expect("the others can do without");
    assert_eq!(again.status().stopped.as_deref(), Some("it has left the group"));
    for member in &members {
        voters(member, 2).await;
        assert_ne!(member.group.status().leader, Some(leader));
    }
    soon(members[0].group.execute(1)).await.expect("two of two");
    for member in &members {
        assert_eq!(sum(&member.group).await, 8);
    }
    let gone = soon(again.execute(1)).await.expect_err("it is no member");
    assert!(matches!(gone, CommandError::Failed { .. }), "{gone:?}");
}

/// The reference's tests of leaders, of catching up and of executing, as one story.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joiners_adopt_the_leader_and_survivors_agree_on_the_next_one() {
    let founder = founder(patient()).await;
    let mut indexes = Vec::new();
    for _ in 0..200 {
        let executed = soon(founder.group.execute(1)).await.expect("alone is a majority of one");
        indexes.push(executed.position.index.0);
    }
    let (first, term) = (indexes[0], founder.group.status().term);
    let contiguous: Vec<u64> = (first..first + 200).collect();
    assert_eq!(indexes, contiguous);

    let second = joiner(&founder, patient()).await;
    soon(second.group.when().leader_is(founder.network.peer().id)).await.expect("it is told");
    soon(second.group.when().applied(Index(first + 199))).await.expect("it catches up");
    let weak = soon(second.group.query((), Consistency::Weak)).await.expect("local");
    assert_eq!(weak.answer, 200);
    // By way of the one that joined: it is told of the founder.
    let third = joiner(&second, patient()).await;
    let mut members = vec![founder, second, third];
    for member in &members {
        voters(member, 3).await;
        assert_eq!(member.group.status().term, term, "nobody held an election");
    }
    let mut positions = Vec::new();
    for round in 0..30 {
        let executed = soon(members[round % 3].group.execute(1)).await.expect("from anybody");
        positions.push(executed.position.index.0);
    }
    assert!(
        positions.is_sorted() && positions[29] - positions[0] == 31,
        "two sessions: {positions:?}"
    );

    let leader = members.remove(0);
    leader.network.shutdown().await;
    let next = node(leader_of(&members).await);
    let leading = members.iter().filter(|member| member.group.status().is_leader()).count();
    assert_eq!(leading, 1, "exactly one of the survivors leads");
    soon(members[0].group.execute(1)).await.expect("two of three");
    let late = joiner(&members[1], patient()).await;
    soon(late.group.when().leader_is(next.peer)).await.expect("it adopts the leader there is");
    soon(late.group.when().is_voter()).await.expect("it is promoted");
    members.push(late);
    for member in &members {
        assert_eq!(sum(&member.group).await, 231);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_returns_as_a_new_server_and_takes_the_old_ones_place() {
    let secret = SecretKey::from_bytes([7; 32]);
    let mut members = grown(2, config()).await;
    let build = || {
        Network::builder("tests")
            .bind(([127, 0, 0, 1], 0).into())
            .secret_key(secret.clone())
            .build()
    };
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let here = build().await.expect("a free port");
        let peers = vec![members[0].network.peer(), members[1].network.peer()];
        let (member, _) = join(&here, None, peers, config()).await;
        soon(member.group.when().is_voter()).await.expect("it is promoted");
        nodes.push(node(&member));
        for other in &members {
            voters(other, 3).await;
            assert!(other.group.members().voters.contains(&node(&member)));
        }
        soon(member.group.execute(1)).await.expect("it counts");
        member.network.shutdown().await;
    }
    assert_eq!(nodes[0].peer, nodes[1].peer);
    assert_ne!(nodes[0].store, nodes[1].store, "what it remembered with was memory");
    // Of three voters one is down: the other two must have all that was acknowledged.
    members.truncate(2);
    for member in &members {
        assert_eq!(sum(&member.group).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_that_comes_back_without_its_store_joins_instead_of_founding() {
    let secrets = [1, 2, 3].map(|number| SecretKey::from_bytes([number; 32]));
    let voters: std::collections::BTreeSet<_> = secrets.iter().map(SecretKey::peer_id).collect();
    let mut networks = Vec::new();
    for secret in &secrets {
        let builder = Network::builder("tests").bind(([127, 0, 0, 1], 0).into());
        networks.push(builder.secret_key(secret.clone()).build().await.expect("a free port"));
    }
    let peers: Vec<Peer> = networks.iter().map(Network::peer).collect();
    let bootstrap = Some(Bootstrap::Voters(voters));
    let mut members = Vec::new();
    for network in &networks {
        members.push(join(network, bootstrap.clone(), peers.clone(), config()).await.0);
    }
    soon(members[0].group.when().leader_elected()).await.expect("all are there");
    soon(members[0].group.execute(1)).await.expect("it is founded");
    let before = node(&members[2]);
    members.pop().expect("there are three").network.shutdown().await;
    let builder = Network::builder("tests").bind(([127, 0, 0, 1], 0).into());
    let here = builder.secret_key(secrets[2].clone()).build().await.expect("a free port");
    let (back, _) = join(&here, bootstrap, peers, config()).await;
    soon(back.group.when().is_voter()).await.expect("as a newcomer");
    assert_eq!(back.group.status().lineage, members[0].group.status().lineage);
    assert_ne!(node(&back), before);
    assert!(!back.group.members().contains(before), "the old server is out");
    soon(back.group.execute(1)).await.expect("it counts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observers_learn_and_never_vote() {
    let members = grown(1, config()).await;
    let here = network().await;
    let observer = here
        .group(key())
        .machine(Counter::default())
        .storage(storage::Memory)
        .peers([members[0].network.peer()])
        .preference(LeadershipPreference::Observer)
        .join()
        .await
        .expect("nothing stands against it");
    soon(observer.execute(5)).await.expect("through the leader");
    // Somebody who came later is promoted long since.
    let voter = joiner(&members[0], config()).await;
    soon(voter.group.when().is_voter()).await.expect("it is promoted");
    let mut when = members[0].group.when();
    let two = soon(when.status(|status| status.configuration.voters.len() == 2)).await;
    let configuration = two.expect("it leads").configuration;
    assert_eq!(configuration.learners, [observer.status().node].into());
    let weak = soon(observer.query((), Consistency::Weak)).await.expect("local");
    assert_eq!(weak.answer, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_evicts_who_is_silent_for_too_long() {
    let consensus = ConsensusConfig { evict_after: Duration::from_secs(3), ..config() };
    let mut members = grown(4, consensus.clone()).await;
    let leader = node(leader_of(&members).await);
    let place = members.iter().position(|member| node(member) != leader).expect("there are four");
    let silent = members.remove(place);
    let gone = node(&silent);
    // Gone without a word to anybody.
    silent.network.shutdown().await;
    for member in &members {
        voters(member, 3).await;
        assert!(!member.group.members().contains(gone));
    }
    soon(members[0].group.execute(1)).await.expect("a majority of three");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_voter_cannot_leave_and_goes_on() {
    let alone = founder(config()).await;
    soon(alone.group.execute(1)).await.expect("alone is a majority of one");
    let error = soon(alone.group.leave()).await.expect_err("there would be no group");
    assert!(matches!(error, GroupError::NotLeft(_)), "{error}");
    assert!(error.to_string().contains("no other voter could take the lead over"), "{error}");
    assert_eq!(soon(alone.group.execute(1)).await.expect("it goes on").output, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_to_join_may_leave_and_drop_its_handles_at_any_time() {
    let nobody = Peer {
        id: SecretKey::from_bytes([9; 32]).peer_id(),
        addresses: vec![([127, 0, 0, 1], 9).into()],
    };
    let here = network().await;
    let (waiting, _) = join(&here, None, vec![nobody.clone()], config()).await;
    let founded = tokio::spawn(waiting.group.when().founded());
    soon(waiting.group.leave()).await.expect("it is no member yet");
    let founded = soon(founded).await.expect("no panic");
    assert!(matches!(founded, Err(GroupError::Stopped(_))), "{founded:?}");
    let (waiting, _) = join(&here, None, vec![nobody], config()).await;
    let (one, other) = (waiting.group.clone(), waiting.group.clone());
    drop(one);
    assert_eq!(other.status().stopped, None, "one handle is not the other");
    let when = other.when();
    drop((waiting, other));
    assert_eq!(soon(when.stopped()).await, "all its handles are gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_of_whom_nothing_was_asked_gives_its_group_up_for_another() {
    let members = grown(2, config()).await;
    soon(members[0].group.execute(1)).await.expect("two of two");
    let here = network().await;
    let (lone, heard) =
        join(&here, Some(Bootstrap::Solo), vec![members[1].network.peer()], config()).await;
    soon(lone.group.when().is_voter()).await.expect("of a group that lives");
    let ours = members[0].group.status().lineage;
    let mut when = lone.group.when();
    let joined = when.status(|status| {
        status.lineage == ours && status.configuration.voters.contains(&status.node)
    });
    soon(joined).await.expect("it joins");
    assert_eq!(soon(lone.group.execute(1)).await.expect("it counts").output, 2);
    let heard = heard.lock().expect("nobody panics with it");
    let dissolved = heard.iter().filter(|event| matches!(event, Event::Dissolved(_))).count();
    assert_eq!(dissolved, 1, "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_founders_of_whom_nothing_was_asked_all_but_one_give_way() {
    let mut networks = Vec::new();
    for _ in 0..3 {
        networks.push(network().await);
    }
    let peers: Vec<Peer> = networks.iter().map(Network::peer).collect();
    let mut members = Vec::new();
    for network in &networks {
        members.push(join(network, Some(Bootstrap::Solo), peers.clone(), config()).await.0);
    }
    for member in &members {
        voters(member, 3).await;
    }
    let lineages: Vec<_> = members.iter().map(|member| member.group.status().lineage).collect();
    assert!(lineages.iter().all(|lineage| lineage.is_some() && *lineage == lineages[0]));
    leader_of(&members).await;
    soon(members[1].group.execute(3)).await.expect("they are one group");
    assert_eq!(sum(&members[2].group).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_told_to_all_and_its_cause_by_the_leader() {
    let here = network().await;
    let (founder, heard) = join(&here, Some(Bootstrap::Solo), vec![], config()).await;
    let (joiner, parting) = join(&network().await, None, vec![here.peer()], config()).await;
    soon(joiner.group.when().is_voter()).await.expect("it is promoted");
    let newcomer = node(&joiner);
    soon(joiner.group.leave()).await.expect("the founder stays");
    voters(&founder, 1).await;
    let parting = parting.lock().expect("nobody panics with it").clone();
    let left = parting.iter().position(|event| *event == Event::Left).expect("it knows first");
    let stopped = |event: &Event| matches!(event, Event::Stopped(_));
    assert!(!parting[..left].iter().any(stopped), "it says why before it stops");
    let heard = heard.lock().expect("nobody panics with it").clone();
    let told: Vec<Event> = heard
        .into_iter()
        .filter(|event| {
            matches!(
                event,
                Event::Added(_) | Event::Promoted(_) | Event::Removed(_) | Event::Changing { .. }
            )
        })
        .collect();
    let changing = |change, cause| Event::Changing { change, cause };
    assert_eq!(
        told,
        [
            Event::Added(newcomer),
            changing(Change::AddLearner(newcomer), Cause::Came),
            Event::Promoted(newcomer),
            changing(Change::Promote(newcomer), Cause::CaughtUp),
            Event::Removed(newcomer),
            changing(Change::Remove(newcomer), Cause::Left),
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn founders_may_be_joined_too() {
    let members = formed_with(config(), 3).await;
    let late = joiner(&members[2], config()).await;
    soon(late.group.when().is_voter()).await.expect("it is promoted");
    soon(late.group.execute(4)).await.expect("three of four");
    for member in &members {
        voters(member, 4).await;
        assert_eq!(sum(&member.group).await, 4);
    }
}
