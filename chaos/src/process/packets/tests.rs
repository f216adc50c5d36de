//! Two sockets on loopback: for each fault, what the receiver itself counts.
//!
//! Every datagram carries its number, the moment of its sending and a filling that shows a
//! changed bit. No more are sent at a time than a socket's buffer of usual size holds, so that
//! the host loses none. Times have lower bounds only.

use std::{collections::BTreeMap, future::poll_fn, time::Duration};

use runtime::{Network, Time};

use super::*;
use crate::link::{LinkCounts, Share};

/// What a receiver saw.
#[derive(Debug, Default)]
struct Tally {
    /// The numbers of the datagrams in the order in which they came, with their lateness.
    came: Vec<(u64, Duration)>,
    /// Datagrams with something changed in them, whose number means nothing.
    changed: u64,
    /// The moments at which they came.
    moments: Vec<Time>,
}

impl Tally {
    fn copies(&self) -> u64 {
        self.came.len() as u64 + self.changed
    }

    fn doubles(&self) -> u64 {
        let mut seen = BTreeMap::new();
        self.came.iter().for_each(|(number, _)| *seen.entry(*number).or_insert(0) += 1);
        seen.values().filter(|count| **count == 2).count() as u64
    }

    /// How many came after one that was sent later.
    fn overtaken(&self) -> u64 {
        let later = |place: usize| {
            let number = self.came[place].0;
            self.came[..place].iter().any(|(before, _)| *before > number)
        };
        (0..self.came.len()).filter(|place| later(*place)).count() as u64
    }

    fn take(&mut self, datagram: &[u8]) {
        let now = HostClock.now();
        self.moments.push(now);
        let number = u64::from_le_bytes(datagram[..8].try_into().expect("eight bytes"));
        let sent_ns = u64::from_le_bytes(datagram[8..16].try_into().expect("eight bytes"));
        let sent = Time(Duration::from_nanos(sent_ns));
        if datagram == filled(number, sent, datagram.len()) {
            self.came.push((number, now.since(sent)));
        } else {
            self.changed += 1;
        }
    }
}

/// A datagram whose filling follows from its number and moment.
fn filled(number: u64, sent: Time, bytes: usize) -> Vec<u8> {
    let sent_ns = u64::try_from(sent.0.as_nanos()).expect("584 years");
    let head = [number.to_le_bytes(), sent_ns.to_le_bytes()].concat();
    let sum = head.iter().fold(0_u8, |sum, byte| sum.rotate_left(1) ^ byte);
    head.into_iter().chain(std::iter::repeat(sum)).take(bytes).collect()
}

/// Two sockets and the link between them, hurt at one of its ends.
struct Pair {
    sender: PacketSocket,
    receiver: PacketSocket,
    /// Where the faults are.
    direction: Direction,
    sent: u64,
    tally: Tally,
}

impl Pair {
    fn new(direction: Direction, faults: LinkFaults) -> Self {
        let bind = |seed| PacketSocket::bind(([127, 0, 0, 1], 0).into(), Seed(seed));
        let (sender, receiver) = (bind(1).expect("a port"), bind(2).expect("a port"));
        let pair = Self { sender, receiver, direction, sent: 0, tally: Tally::default() };
        pair.set(faults);
        pair
    }

    fn set(&self, faults: LinkFaults) {
        let (socket, other) = self.hurt();
        socket.set(other.local_address(), self.direction, faults).expect("a link can do it");
    }

    fn hurt(&self) -> (&PacketSocket, &PacketSocket) {
        match self.direction {
            Direction::Out => (&self.sender, &self.receiver),
            Direction::In => (&self.receiver, &self.sender),
        }
    }

    /// What the link says that befell its datagrams.
    fn counts(&self) -> LinkCounts {
        self.hurt().0.links()[0].counts
    }

    fn send(&mut self, count: u64, bytes: usize) {
        let to = self.receiver.local_address();
        for _ in 0..count {
            let datagram = filled(self.sent, HostClock.now(), bytes);
            self.sender.send(to, &datagram).expect("loopback takes it");
            self.sent += 1;
        }
    }

    /// Sends so many small ones and receives all that the link lets through.
    async fn exchange(&mut self, count: u64) {
        self.send(count, BYTES);
        self.receive().await;
    }

    async fn receive(&mut self) {
        self.receive_until(|counts, came| came == counts.arrivals).await;
        // One too many would come now, if there were one.
        assert_eq!(self.tally.copies(), self.counts().arrivals);
    }

    /// Receives until the link has been given everything and this holds, too.
    async fn receive_until(&mut self, holds: impl Fn(LinkCounts, u64) -> bool) {
        let Self { sender, receiver, direction, sent, tally } = self;
        let from = sender.local_address();
        let links = if *direction == Direction::Out { &*sender } else { &*receiver };
        let mut buffer = [0; 2_048];
        let all = poll_fn(|context| {
            while let Poll::Ready(received) = receiver.poll_receive(context, &mut buffer) {
                let (bytes, sender) = received.expect("the socket stands");
                assert_eq!(sender, from);
                tally.take(&buffer[..bytes]);
            }
            let counts = links.links()[0].counts;
            match counts.offered == *sent && holds(counts, tally.copies()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        tokio::time::timeout(BOUND, all).await.expect("all that is not lost comes in time");
    }
}

/// The pair after several exchanges of a hundred, with the faults at this end.
async fn after(direction: Direction, faults: LinkFaults) -> Pair {
    let mut pair = Pair::new(direction, faults);
    for _ in 0..ROUNDS {
        pair.exchange(100).await;
    }
    assert_eq!(pair.counts().offered, SENT);
    pair
}

fn share(fraction: f64) -> Share {
    Share::new(fraction).expect("a share")
}

#[tokio::test]
async fn without_faults_all_come_once_and_in_order() {
    for end in ENDS {
        let pair = after(end, LinkFaults::default()).await;
        let numbers: Vec<u64> = pair.tally.came.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (0..SENT).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn nothing_comes_through_a_block() {
    for end in ENDS {
        let mut pair = after(end, LinkFaults::blocked()).await;
        assert_eq!((pair.tally.copies(), pair.counts().blocked), (0, SENT));
        pair.set(LinkFaults::default());
        pair.exchange(1).await;
        assert_eq!(pair.tally.came[0].0, SENT, "the first that was sent after it was lifted");
    }
}

#[tokio::test]
async fn what_is_held_comes_in_order_when_it_is_let_go() {
    for end in ENDS {
        let mut pair = Pair::new(end, LinkFaults { hold: true, ..LinkFaults::default() });
        pair.send(100, BYTES);
        pair.receive_until(|counts, came| (counts.held, came) == (100, 0)).await;
        let let_go = HostClock.now();
        pair.set(LinkFaults::default());
        pair.exchange(1).await;
        let numbers: Vec<u64> = pair.tally.came.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (0..=100).collect::<Vec<_>>());
        assert!(pair.tally.moments.iter().all(|moment| *moment >= let_go), "none came before");
    }
}

#[tokio::test]
async fn what_is_lost_does_not_come() {
    for end in ENDS {
        let pair = after(end, LinkFaults { loss: share(0.2), ..LinkFaults::default() }).await;
        let lost = pair.counts().lost;
        assert_eq!(pair.tally.copies(), SENT - lost);
        assert!((40..=160).contains(&lost), "{lost} of {SENT} at a fifth");
    }
}

#[tokio::test]
async fn what_is_delayed_comes_no_earlier_and_in_order() {
    for end in ENDS {
        let pair = after(end, LinkFaults { delay_ms: 30, ..LinkFaults::default() }).await;
        let delay = Duration::from_millis(30);
        assert!(pair.tally.came.iter().all(|(_, late)| *late >= delay), "{:?}", pair.tally);
        assert_eq!((pair.tally.copies(), pair.tally.overtaken()), (SENT, 0));
        assert_eq!(pair.counts().delayed, SENT);
    }
}

#[tokio::test]
async fn jitter_comes_on_top_and_keeps_the_order() {
    for end in ENDS {
        let faults = LinkFaults { delay_ms: 5, jitter_ms: 20, ..LinkFaults::default() };
        let pair = after(end, faults).await;
        let at_least = |ms| move |(_, late): &&(u64, Duration)| *late >= Duration::from_millis(ms);
        assert_eq!(pair.tally.came.iter().filter(at_least(5)).count() as u64, SENT);
        let late = pair.tally.came.iter().filter(at_least(15)).count();
        assert!(late > 50, "half of all draws are above 10 ms: {late}");
        assert_eq!(pair.tally.overtaken(), 0);
    }
}

#[tokio::test]
async fn what_is_held_back_comes_after_what_was_sent_later() {
    for end in ENDS {
        let faults = LinkFaults { reorder: share(0.1), reorder_ms: 20, ..LinkFaults::default() };
        let pair = after(end, faults).await;
        let overtaken = pair.tally.overtaken();
        assert_eq!((pair.tally.copies(), pair.tally.doubles()), (SENT, 0));
        assert!((10..=90).contains(&overtaken), "{overtaken} of {SENT} at a tenth");
        assert!(pair.counts().reordered > 0);
    }
}

#[tokio::test]
async fn duplicates_come_twice() {
    for end in ENDS {
        let pair = after(end, LinkFaults { duplicate: share(0.3), ..LinkFaults::default() }).await;
        let doubles = pair.tally.doubles();
        assert_eq!(doubles, pair.counts().duplicated);
        assert_eq!(pair.tally.copies(), SENT + doubles);
        assert!((70..=170).contains(&doubles), "{doubles} of {SENT} at three tenths");
    }
}

#[tokio::test]
async fn what_is_corrupted_comes_changed() {
    for end in ENDS {
        let pair = after(end, LinkFaults { corrupt: share(0.3), ..LinkFaults::default() }).await;
        assert_eq!(pair.tally.changed, pair.counts().corrupted);
        assert_eq!(pair.tally.copies(), SENT);
        let changed = pair.tally.changed;
        assert!((70..=170).contains(&changed), "{changed} of {SENT} at three tenths");
    }
}

#[tokio::test]
async fn no_more_comes_than_the_bandwidth_lets() {
    for end in ENDS {
        let mut pair = Pair::new(end, bandwidth(400_000));
        let begun = HostClock.now();
        pair.send(60, 1_000);
        pair.receive().await;
        assert_eq!((pair.tally.copies(), pair.tally.overtaken()), (60, 0));
        let each = Duration::from_micros(2_500);
        for (place, moment) in (1_u32..).zip(&pair.tally.moments) {
            assert!(moment.since(begun) >= each * place, "datagram {place}: {:?}", pair.tally);
        }
    }
}

#[tokio::test]
async fn what_finds_no_room_before_the_line_does_not_come() {
    for end in ENDS {
        // The line takes a datagram each half second: 65 find room, and none has left so soon.
        let mut pair = Pair::new(end, bandwidth(2_000));
        pair.send(80, 1_000);
        pair.receive_until(|_, _| true).await;
        let counts = pair.counts();
        assert_eq!(counts.arrivals + counts.overflowed, 80);
        assert!(counts.overflowed > 0, "{counts:?}");
        assert!(pair.tally.copies() <= counts.arrivals);
    }
}

/// Its window would grow until the line overflows, since nothing is lost before.
#[tokio::test]
async fn a_network_sends_no_more_than_a_narrow_line_takes() {
    let bind = |seed| PacketSocket::bind(([127, 0, 0, 1], 0).into(), Seed(seed)).expect("a port");
    let sockets = [1, 2].map(|seed| Arc::new(bind(seed)));
    let narrow = LinkFaults {
        delay_ms: 10,
        bandwidth_bytes_per_s: Some(2_000_000),
        queue_bytes_max: 512 << 10,
        ..LinkFaults::default()
    };
    let there = sockets[1].local_address();
    sockets[0].set(there, Direction::Out, narrow).expect("a link can do it");
    let network = |socket: &Arc<PacketSocket>| {
        let datagrams: Arc<PacketSocket> = Arc::clone(socket);
        Network::builder("narrow").datagrams(datagrams).protocol("bulk/1").build()
    };
    let sender = network(&sockets[0]).await.expect("it is bound");
    let receiver = network(&sockets[1]).await.expect("it is bound");
    let received = async {
        let mut link = receiver.accept("bulk/1").await.expect("it is open");
        for _ in 0..FRAMES {
            link.recv().await.expect("all frames come");
        }
    };
    let sent = async {
        let mut link = sender.dial(&receiver.peer(), "bulk/1").await.expect("it listens");
        for _ in 0..FRAMES {
            link.send(&[7; 64 << 10]).await.expect("it is open");
        }
        // Until all has come.
        link.recv().await
    };
    tokio::time::timeout(BOUND, async { tokio::join!(received, sent) }).await.expect("in time");
    let counts = sockets[0].links()[0].counts;
    assert!(counts.throttled > 0 && counts.overflowed == 0, "{counts:?}");
}

fn bandwidth(bytes_per_s: u64) -> LinkFaults {
    LinkFaults {
        bandwidth_bytes_per_s: Some(bytes_per_s),
        queue_bytes_max: 65_536,
        ..LinkFaults::default()
    }
}

#[tokio::test]
async fn each_link_has_faults_of_its_own() {
    let mut pair = Pair::new(Direction::Out, LinkFaults::blocked());
    let third = PacketSocket::bind(([127, 0, 0, 1], 0).into(), Seed(3)).expect("a port");
    pair.sender.send(third.local_address(), b"to another").expect("loopback takes it");
    let mut buffer = [0; 64];
    let received = poll_fn(|context| third.poll_receive(context, &mut buffer));
    let received = tokio::time::timeout(BOUND, received).await.expect("it comes in time");
    assert_eq!(received.expect("the socket stands"), (10, pair.sender.local_address()));
    pair.exchange(10).await;
    assert_eq!(pair.tally.copies(), 0);
}

#[tokio::test]
async fn a_dropped_socket_frees_its_address() {
    let pair = Pair::new(Direction::Out, LinkFaults { delay_ms: 60_000, ..LinkFaults::default() });
    let (address, to) = (pair.sender.local_address(), pair.receiver.local_address());
    pair.sender.send(to, b"under way for a minute").expect("it is kept");
    // The courier has begun to wait, and holds on to nothing meanwhile.
    tokio::task::yield_now().await;
    drop(pair);
    PacketSocket::bind(address, Seed(1)).expect("it is free at once");
}

const ENDS: [Direction; 2] = [Direction::Out, Direction::In];
const ROUNDS: u64 = 4;
const SENT: u64 = 100 * ROUNDS;
const BYTES: usize = 64;
/// Of 64 KiB.
const FRAMES: usize = 40;
const BOUND: Duration = Duration::from_secs(20);
