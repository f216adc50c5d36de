//! How bonds form, which of two connections is kept, and how they end.

use std::{
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
};

use raft::Time;

use super::*;
use crate::{
    metric::{BOND_DROPPED, recorder::Record},
    network::Code,
};

/// Two members that are bonded, the first of which did not dial.
async fn pair() -> (Node, Node) {
    let mut a = Wish::new(1).start(&[]).await;
    let mut b = Wish::new(2).start(&[a.peer()]).await;
    assert_eq!((a.up().await, b.up().await), (b.node, a.node));
    (a, b)
}

#[tokio::test]
async fn two_members_bond_and_frames_pass_both_ways() {
    let (mut a, mut b) = pair().await;
    assert_eq!((a.bonds.bonded(), b.bonds.bonded()), (vec![b.node], vec![a.node]));
    for term in 1..=100 {
        assert!(a.bonds.send(b.node, vote(term)) && b.bonds.send(a.node, vote(1_000 + term)));
    }
    for term in 1..=100 {
        assert_eq!(b.vote().await, (a.node, term));
        assert_eq!(a.vote().await, (b.node, 1_000 + term));
    }
    let stranger = id(3, 3);
    assert!(!a.bonds.send(stranger, vote(1)), "there is no bond with {stranger}");
    let other_store = NodeId { store: StoreId(99), ..b.node };
    assert!(!a.bonds.send(other_store, vote(1)), "that is another server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_dial_at_once_each_pair_ends_with_one_bond() {
    for round in 0..40 {
        let mut wish = Wish::new(1);
        // The higher does not wait: both dials cross.
        wish.consensus.redial_backoff_min = Duration::from_millis(1);
        let wishes =
            [1, 2, 3].map(|number| Wish { number, store: StoreId(number.into()), ..wish.clone() });
        let mut networks = Vec::new();
        for wish in &wishes {
            networks.push(wish.network().await);
        }
        let peers: Vec<Peer> = networks.iter().map(Network::peer).collect();
        let nodes: Vec<Node> =
            wishes.iter().zip(&networks).map(|(wish, network)| wish.on(network, &peers)).collect();
        for (x, y) in [(0, 1), (0, 2), (1, 2)] {
            let (x, y): (&Node, &Node) = (&nodes[x], &nodes[y]);
            until("one bond that both ends hold", || {
                let bond = x.connection(y.node);
                bond.is_some() && bond == y.connection(x.node)
            })
            .await;
        }
        // The losers are closed, and nobody dials again.
        for network in &networks {
            until("the end of all other connections", || network.connections_open() == 2).await;
        }
        for node in &nodes {
            assert_eq!(node.bonds.bonded().len(), 2, "round {round}");
        }
        for network in networks {
            network.shutdown().await;
        }
    }
}

#[tokio::test]
async fn the_higher_dials_itself_when_the_lower_does_not() {
    let (lower, higher) = match secret(1).peer_id() < secret(2).peer_id() {
        true => (1, 2),
        false => (2, 1),
    };
    for (dialer, dialed) in [(lower, higher), (higher, lower)] {
        let mut dialed = Wish::new(dialed).start(&[]).await;
        let mut dialer = Wish::new(dialer).start(&[dialed.peer()]).await;
        assert_eq!((dialed.up().await, dialer.up().await), (dialer.node, dialed.node));
    }
}

#[tokio::test]
async fn a_newcomer_waits_for_nobodys_dial_once_it_knows_the_group() {
    let (lower, higher) = match secret(1).peer_id() < secret(2).peer_id() {
        true => (1, 2),
        false => (2, 1),
    };
    let there = Wish::new(lower).founded([1, 2, 3]);
    let lineage = there.admittance.lineage;
    let mut there = there.start(&[]).await;
    let mut wish = Wish::new(higher);
    let hour = Duration::from_secs(3_600);
    (wish.consensus.redial_backoff_min, wish.consensus.redial_backoff_max) = (hour, hour);
    let mut newcomer = wish.start(&[there.peer()]).await;
    let early = tokio::time::timeout(Duration::from_millis(100), newcomer.events.recv()).await;
    assert!(early.is_err(), "it may be one of the founders, and waits");
    newcomer.admit.send_modify(|admittance| admittance.lineage = lineage);
    assert_eq!((newcomer.up().await, there.up().await), (there.node, newcomer.node));
}

#[tokio::test]
async fn a_peer_that_restarts_replaces_its_bond_at_once() {
    // So patient that no silence can have ended the old bond.
    let mut wish = Wish::new(1);
    wish.consensus = ConsensusProfile::Wan.config();
    wish.consensus.heartbeat_interval = Duration::from_secs(3_600);
    let mut a = wish.start(&[]).await;
    let mut again = Wish { number: 2, store: StoreId(2), ..wish.clone() };
    let mut first = again.start(&[a.peer()]).await;
    assert_eq!((a.up().await, first.up().await), (first.node, a.node));
    // The new process has the same key and store, a new nonce, and the old one says nothing.
    again.consensus.redial_backoff_min = Duration::from_secs(5);
    let mut second = again.start(&[a.peer()]).await;
    assert_eq!((a.up().await, second.up().await), (second.node, a.node));
    assert_eq!(first.down().await, a.node);
    assert_eq!(a.connection(second.node), second.connection(a.node));
    second.bonds.send(a.node, vote(7));
    assert_eq!(a.vote().await, (second.node, 7));
}

#[tokio::test]
async fn nothing_of_a_replaced_bond_comes_after_its_successors_up() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let mut a = Wish::new(1).start(&[]).await;
    let first_wish = Wish::new(2);
    let mut first = first_wish.start(&[a.peer()]).await;
    assert_eq!((a.up().await, first.up().await), (first.node, a.node));
    for term in 1..=1_000 {
        first.bonds.send(a.node, vote(term));
    }
    // The reader now holds a chunk of frames that nobody has asked for yet.
    assert_eq!(a.vote().await, (first.node, 1));
    let mut second = first_wish.start(&[a.peer()]).await;
    assert_eq!(second.up().await, a.node);
    until("the replacement", || a.connection(second.node) == second.connection(a.node)).await;
    second.bonds.send(a.node, vote(5_000));
    assert_eq!(a.up().await, second.node);
    assert_eq!(a.vote().await, (second.node, 5_000));
    let dropped = record.counter(BOND_DROPPED, &[("lane", "control"), ("reason", "replaced")]);
    assert!(dropped > 1, "{dropped} of the frames that came with the first are counted");
}

#[tokio::test]
async fn a_founder_that_returns_with_another_store_takes_the_first_ones_place() {
    let mut wish = Wish::new(1);
    wish.consensus.heartbeat_interval = Duration::from_secs(3_600);
    let mut a = wish.start(&[]).await;
    let first_wish = Wish { number: 2, store: StoreId(2), ..wish.clone() };
    let mut first = first_wish.start(&[a.peer()]).await;
    assert_eq!((a.up().await, first.up().await), (first.node, a.node));
    // Its old process said nothing: only the new one shows that the old bond is over.
    let second_wish = Wish { store: StoreId(22), ..first_wish };
    let second = second_wish.start(&[a.peer()]).await;
    assert_eq!(a.down().await, first.node);
    assert_eq!(a.up().await, second.node);
    assert_eq!(a.bonds.bonded(), [second.node]);
}

#[tokio::test]
async fn a_peer_that_lost_the_bond_alone_gets_a_new_one() {
    let (mut a, mut b) = pair().await;
    // b's end is gone without a word of it reaching a: as if its close frame were lost.
    let bond = b.bonds.side.table.bond(a.node).expect("it is up");
    b.bonds.side.table.remove(&bond, None);
    assert_eq!(a.up().await, b.node);
    assert_eq!(b.up().await, a.node);
    until("one bond that both ends hold", || a.connection(b.node) == b.connection(a.node)).await;
}

#[tokio::test]
async fn leaving_the_group_or_the_network_ends_bonds_at_once() {
    let (mut a, b) = pair().await;
    soon("the end", b.bonds.shutdown()).await;
    assert_eq!(a.down().await, b.node);
    assert!(!b.network.has_group(Wish::new(1).group), "the door knows the group no more");
    let (mut a, mut b) = pair().await;
    soon("the end", b.network.shutdown()).await;
    assert_eq!(a.down().await, b.node);
    // The driver of a node that leaves learns it from its channel.
    soon("the end of events", async { while b.events.recv().await.is_some() {} }).await;
    soon("the end", b.bonds.shutdown()).await;
}

#[tokio::test]
async fn a_lost_bond_is_dialed_again() {
    let (mut a, mut b) = pair().await;
    for _ in 0..5 {
        let bond = a.bonds.side.table.bond(b.node).expect("it is up");
        bond.close(&Code::Cancelled.because("once more"));
        for (node, other) in [(&mut a, b.node), (&mut b, id(1, 1))] {
            assert_eq!((node.down().await, node.up().await), (other, other));
        }
    }
}

/// The host's clock, until it breaks.
#[derive(Debug, Default)]
struct Brittle {
    host: SystemClock,
    breaks: AtomicBool,
}

impl Clock for Brittle {
    fn now(&self) -> Time {
        assert!(!self.breaks.load(Ordering::SeqCst), "the clock breaks as it was told to");
        self.host.now()
    }

    fn wall(&self) -> Duration {
        self.host.wall()
    }

    fn sleep_until(&self, deadline: Time) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.host.sleep_until(deadline)
    }
}

#[tokio::test]
async fn a_task_of_a_bond_does_not_fall_unheard_and_the_bond_can_still_be_closed() {
    let clock = Arc::new(Brittle::default());
    let mut a = Wish { clock: clock.clone(), ..Wish::new(1) }.start(&[]).await;
    let mut b = Wish::new(2).start(&[a.peer()]).await;
    assert_eq!((a.up().await, b.up().await), (b.node, a.node));
    let mut heard = a.alarm.heard();
    // Whoever keeps the bond looks at it when it is time to speak.
    clock.breaks.store(true, Ordering::SeqCst);
    soon("an alarm", heard.changed()).await.expect("the bonds are at work");
    clock.breaks.store(false, Ordering::SeqCst);
    let told = "a task of its bonds panicked: the clock breaks as it was told to";
    assert_eq!(a.alarm.told().as_deref(), Some(told));
    soon("the end of all bonds", a.bonds.shutdown()).await;
    assert_eq!(b.down().await, a.node);
}
