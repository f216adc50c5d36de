//! Real members and one that is played by hand and lies.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use raft::{Index, NodeId, StoreId};
use tokio::{sync::watch, task::JoinHandle};

use super::{ReplayEnd, ReplayFrame};
use crate::{
    ConsensusConfig, Event, Group, GroupId, GroupKey, Network, Peer, StateMachine,
    group::{
        alarm::Alarm,
        bond::{Admittance, BondEvent, Bonds, Member},
        samples::{Sum, alone, network, soon, until},
        wire::MemberFrame,
    },
    storage,
};

/// Of several bytes, so that there is something to fetch.
const COMMAND: i64 = 1 << 40;

/// So slow that all bonds are there before it is over.
fn consensus() -> ConsensusConfig {
    ConsensusConfig { catch_up_rate_max: 64 << 10, batch_size: 500, ..ConsensusConfig::default() }
}

/// Has proved the key, claims to hold everything, and gives what it likes.
fn liar(network: &Network, key: &GroupKey) -> (NodeId, JoinHandle<BTreeSet<u64>>) {
    let (consensus, store) = (consensus(), StoreId(66));
    let (admit, admittance) = watch::channel(Admittance::of(store));
    let member = Member {
        group: GroupId::of(key, Sum::SIGNATURE, &consensus),
        key: key.clone(),
        consensus,
        peers: Vec::new(),
        admittance,
    };
    let (bonds, mut events) = Bonds::spawn(network, member, Alarm::default());
    let lying = async move {
        let _admit = admit;
        let mut lies = BTreeSet::new();
        while let Some(event) = events.recv().await {
            let BondEvent::Frame { from, frame: MemberFrame::Replay(frame) } = event else {
                continue;
            };
            let answer = match frame {
                ReplayFrame::AskHeld { id } => {
                    ReplayFrame::Held { id, after: Index(0), commit: Index(u64::MAX) }
                }
                ReplayFrame::Fetch { id, .. } => {
                    lies.insert(id);
                    ReplayFrame::Entries { id, entries: vec![7; 9_000].into() }
                }
                _ => continue,
            };
            bonds.send(from, MemberFrame::Replay(answer));
        }
        lies
    };
    let node = NodeId { peer: network.peer().id, store };
    (node, tokio::spawn(lying))
}

/// A member that joins by way of these.
async fn joiner(
    network: &Network,
    key: &GroupKey,
    peers: Vec<Peer>,
) -> (Group<Sum>, Arc<Mutex<Vec<Event>>>) {
    let heard = Arc::<Mutex<Vec<Event>>>::default();
    let noted = Arc::clone(&heard);
    let group = network
        .group(key.clone())
        .machine(Sum::default())
        .consensus(consensus())
        .storage(storage::Memory)
        .peers(peers)
        .observe(move |_, event| noted.lock().expect("nobody panics with it").push(event.clone()))
        .join()
        .await
        .expect("nothing stands against it");
    (group, heard)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_gives_what_the_leader_does_not_vouch_for_is_named_and_asked_no_more() {
    let key = GroupKey::from_secret("liars");
    let (first, liars, late) = (network().await, network().await, network().await);
    let leader = alone(&first, &key, &consensus()).await;
    for _ in 0..15 {
        for executed in soon("commits", leader.execute_many(vec![COMMAND; 1_000])).await {
            executed.expect("commits");
        }
    }
    let (liar, lying) = liar(&liars, &key);
    let (group, heard) = joiner(&late, &key, vec![first.peer(), liars.peer()]).await;
    let last = leader.status().commit;
    soon("all entries", group.when().applied(last)).await.expect("it catches up");
    until("the end of it", || !group.status().replayed.active).await;
    let replayed = group.status().replayed;
    assert!(replayed.wrong >= 1, "{replayed:?}");
    assert!(replayed.sources.iter().all(|source| source.node != liar), "{replayed:?}");
    assert!(replayed.entries > 10_000, "the leader gave what nobody else did: {replayed:?}");
    let heard = heard.lock().expect("nobody panics with it").clone();
    let named = heard.iter().filter(|event| **event == Event::Distrusted(liar)).count();
    assert_eq!(named, 1);
    let ended = heard.iter().find_map(|event| match event {
        Event::ReplayEnded(ended) => Some(ended.clone()),
        _ => None,
    });
    assert_eq!(ended.map(|ended| (ended.why, ended.sources)), Some((ReplayEnd::CaughtUp, 1)));
    liars.shutdown().await;
    let lies = soon("its end", lying).await.expect("it does not panic");
    assert!(lies.len() <= 4, "after the first it had only those that were under way: {lies:?}");
}
