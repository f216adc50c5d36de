//! What a founder does while it waits for the others, or for its disk.

use std::{
    collections::BTreeSet,
    sync::{Arc, Condvar, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use raft::{Configuration, Message, Phase, StoreId, Term, Write, WriteId};
use tokio::sync::watch;

use crate::{
    Bootstrap, ConsensusProfile, GroupId, GroupKey, Lineage, Network, NodeId, Peer, SecretKey,
    StateMachine, StorageError,
    group::{
        alarm::Alarm,
        bond::{Admittance, BondEvent, BondEvents, Bonds, Member},
        introduction::Introduction,
        samples::{Sum, network, soon, until},
        wire::MemberFrame,
    },
    metric::{MESSAGES_DROPPED, recorder::Record},
    storage::{self, Contents, Founding, Owner, Storage, Store},
};

const STORE: StoreId = StoreId(2);

fn key() -> GroupKey {
    GroupKey::from_secret("founding")
}

fn group() -> GroupId {
    GroupId::of(&key(), Sum::SIGNATURE, &ConsensusProfile::Lan.config())
}

/// A member by hand, who dials these peers and shows this. Whom it is dialed by it need not dial:
/// two dials that cross could replace a bond.
fn hand(
    network: &Network,
    peers: Vec<Peer>,
    shown: Admittance,
) -> (Bonds, BondEvents, watch::Sender<Admittance>) {
    let (admit, admittance) = watch::channel(shown);
    let consensus = ConsensusProfile::Lan.config();
    let member = Member { group: group(), key: key(), consensus, peers, admittance };
    let (bonds, events) = Bonds::spawn(network, member, Alarm::default());
    (bonds, events, admit)
}

fn vote() -> MemberFrame {
    let (term, phase) = (Term(1), Phase::Vote);
    MemberFrame::Raft(Message::Vote { term, phase, granted: true })
}

#[tokio::test]
async fn frames_that_come_before_all_founders_have_met_are_counted_and_harm_nobody() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let (first, second) = (network().await, network().await);
    let absent = SecretKey::from_bytes([9; 32]).peer_id();
    let absent = Peer { id: absent, addresses: vec![([127, 0, 0, 1], 9).into()] };
    let founders: BTreeSet<_> = [first.peer().id, second.peer().id, absent.id].into();
    let group = first
        .group(key())
        .machine(Sum::default())
        .consensus(ConsensusProfile::Lan.config())
        .storage(storage::Memory)
        .bootstrap(Bootstrap::Voters(founders.clone()))
        .peers([second.peer(), absent])
        .join()
        .await
        .expect("nothing stands against it");
    let shown = Admittance { founders: Some(founders), ..Admittance::of(STORE) };
    let (bonds, mut events, _admit) = hand(&second, Vec::new(), shown);
    let to: NodeId = group.status().node;
    soon("a bond", events.recv()).await.expect("they bond");
    assert!(bonds.send(to, vote()), "the bond is up");
    let labels = [("reason", "founding")];
    until("a count", || record.counter(MESSAGES_DROPPED, &labels) == 1).await;
    let status = group.status();
    assert_eq!((status.lineage, status.stopped), (None, None), "it waits for the third");
}

/// Its lineage would be given up for that of the group, and its store with it.
#[tokio::test]
async fn no_group_is_founded_with_one_that_has_founded_alone() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let (first, second) = (network().await, network().await);
    let founders: BTreeSet<_> = [first.peer().id, second.peer().id].into();
    let member = first
        .group(key())
        .machine(Sum::default())
        .consensus(ConsensusProfile::Lan.config())
        .storage(storage::Memory)
        .bootstrap(Bootstrap::Voters(founders))
        .peers([second.peer()])
        .join()
        .await
        .expect("nothing stands against it");
    let alone = super::by(group(), Configuration::of([node(&second)]));
    let lineage = Some(alone.lineage);
    let shown = Admittance { lineage, dissolves: true, ..Admittance::of(STORE) };
    let (bonds, mut events, _admit) = hand(&second, Vec::new(), shown);
    let to: NodeId = member.status().node;
    soon("a bond", events.recv()).await.expect("they bond");
    let introduce = |founding| {
        let introduction = Introduction { founding, observer: false, peers: Vec::new() };
        assert!(bonds.send(to, MemberFrame::Introduction(introduction)), "the bond is up");
    };
    // Of what may be given up nobody is told.
    introduce(None);
    assert!(bonds.send(to, vote()), "the bond is up");
    let labels = [("reason", "founding")];
    until("a count", || record.counter(MESSAGES_DROPPED, &labels) == 1).await;
    assert_eq!(member.status().lineage, None, "it waits");
    introduce(Some(alone));
    soon("a founding", member.when().founded()).await.expect("it is told of one");
    assert_eq!(member.status().lineage, lineage);
}

fn node(network: &Network) -> NodeId {
    NodeId { peer: network.peer().id, store: STORE }
}

/// A store that is founded only once it may be.
#[derive(Clone, Default)]
struct Held(Arc<(Mutex<bool>, Condvar)>);

struct Open {
    inner: Box<dyn Storage>,
    held: Held,
}

impl Held {
    fn release(&self) {
        *self.0.0.lock().expect("nobody panics with it") = true;
        self.0.1.notify_all();
    }
}

/// Also if a test fails.
struct Released(Held);

impl Drop for Released {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Store for Held {
    fn open(self: Box<Self>, owner: Owner) -> Result<Box<dyn Storage>, StorageError> {
        let inner = Box::new(storage::Memory).open(owner)?;
        Ok(Box::new(Open { inner, held: *self }))
    }
}

impl Storage for Open {
    fn id(&self) -> StoreId {
        self.inner.id()
    }

    fn take_contents(&mut self) -> Contents {
        self.inner.take_contents()
    }

    fn found(&mut self, founding: &Founding) -> Result<(), StorageError> {
        let (released, change) = &*self.held.0;
        let released = released.lock().expect("nobody panics with it");
        let bound = Duration::from_secs(20);
        let waited = change.wait_timeout_while(released, bound, |released| !*released);
        assert!(!waited.expect("nobody panics with it").1.timed_out(), "nobody lets it go on");
        self.inner.found(founding)
    }

    fn submit(&mut self, id: WriteId, write: Write) {
        self.inner.submit(id, write);
    }

    fn poll_persisted(&mut self, context: &mut Context<'_>) -> Poll<Result<WriteId, StorageError>> {
        self.inner.poll_persisted(context)
    }

    fn backlog_bytes(&self) -> usize {
        self.inner.backlog_bytes()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_founds_alone_shows_its_lineage_while_its_disk_is_at_it() {
    let (first, second) = (network().await, network().await);
    let held = Held::default();
    let _released = Released(held.clone());
    let member = first
        .group(key())
        .machine(Sum::default())
        .consensus(ConsensusProfile::Lan.config())
        .storage(held)
        .bootstrap(Bootstrap::Solo)
        .join()
        .await
        .expect("nothing stands against it");
    let ours = Lineage::of(group(), &Configuration::of([member.status().node]));
    let theirs = Lineage::of(group(), &Configuration::of([node(&second)]));
    let shown = Admittance { lineage: Some(theirs), ..Admittance::of(STORE) };
    let (_bonds, mut events, admit) = hand(&second, vec![first.peer()], shown);
    match soon("word of the other", events.recv()).await {
        Some(BondEvent::Foreign(met)) => assert_eq!((met.lineage, met.dissolves), (ours, true)),
        met => panic!("not of another lineage: {met:?}"),
    }
    // A newcomer is let in, and knows as well what it has a bond to.
    admit.send_modify(|shown| shown.lineage = None);
    loop {
        match soon("a bond", events.recv()).await {
            Some(BondEvent::Up { lineage, .. }) => {
                assert_eq!(lineage, Some(ours));
                break;
            }
            Some(BondEvent::Foreign(_)) => {}
            other => panic!("not up: {other:?}"),
        }
    }
    assert_eq!(member.status().lineage, None, "it is not durable yet");
}
