//! What a founder does while it waits for the others.

use std::collections::BTreeSet;

use raft::{Message, Phase, StoreId, Term};
use tokio::sync::watch;

use crate::{
    Bootstrap, ConsensusProfile, GroupId, GroupKey, NodeId, SecretKey, StateMachine,
    group::{
        bond::{Admittance, Bonds, Member},
        samples::{Sum, network, soon, until},
        wire::MemberFrame,
    },
    metric::{MESSAGES_DROPPED, recorder::Record},
    storage,
};

#[tokio::test]
async fn frames_that_come_before_all_founders_have_met_are_counted_and_harm_nobody() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let (first, second) = (network().await, network().await);
    let absent = SecretKey::from_bytes([9; 32]).peer_id();
    let absent = crate::Peer { id: absent, addresses: vec![([127, 0, 0, 1], 9).into()] };
    let key = GroupKey::from_secret("founding");
    let consensus = ConsensusProfile::Lan.config();
    let founders: BTreeSet<_> = [first.peer().id, second.peer().id, absent.id].into();
    let group = first
        .group(key.clone())
        .machine(Sum::default())
        .consensus(consensus.clone())
        .storage(storage::Memory)
        .bootstrap(Bootstrap::Voters(founders.clone()))
        .peers([second.peer(), absent])
        .join()
        .await
        .expect("nothing stands against it");
    let shown = Admittance { founders: Some(founders), ..Admittance::of(StoreId(2)) };
    let (_admit, admittance) = watch::channel(shown);
    let member = Member {
        group: GroupId::of(&key, Sum::SIGNATURE, &consensus),
        key,
        consensus,
        peers: vec![first.peer()],
        admittance,
    };
    let (bonds, mut events) = Bonds::spawn(&second, member);
    let to: NodeId = group.status().node;
    soon("a bond", events.recv()).await.expect("they bond");
    let (term, phase) = (Term(1), Phase::Vote);
    let vote = MemberFrame::Raft(Message::Vote { term, phase, granted: true });
    assert!(bonds.send(to, vote), "the bond is up");
    let labels = [("reason", "founding")];
    until("a count", || record.counter(MESSAGES_DROPPED, &labels) == 1).await;
    let status = group.status();
    assert_eq!((status.lineage, status.stopped), (None, None), "it waits for the third");
}
