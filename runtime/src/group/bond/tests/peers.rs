//! Who is let in, and what becomes of peers that misbehave or fall silent.

use iroh::endpoint::{Connection, ConnectionError, SendStream};
use tokio::sync::mpsc;

use super::*;
use crate::{
    NetworkError,
    group::{
        bond::{dial, read::PINGS_AT_ONCE, table::Told},
        introduction::Addresses,
    },
    metric::{BOND_DROPPED, BOND_MESSAGES_RECEIVED, BOND_QUEUE_BYTES, recorder::Record},
    network::{BOND_ALPN, Card, Code, HelloRole, MemberHello, Refusal, Talk, Welcome, header},
};

/// What `from` is told when it dials `to`.
async fn refusal(from: &Node, to: &Node) -> (Code, String) {
    let (tell, _told) = mpsc::channel(8);
    let peer = to.peer();
    let dialed = dial::attempt(&from.bonds.side, &tell, &peer);
    let error = soon("an answer", dialed).await.expect_err("it is to be refused");
    assert!(matches!(error, NetworkError::Closed { .. }), "refused by the other end: {error}");
    (error.code().expect("a closing has a code"), error.to_string())
}

/// Of a connection that is to be a bond; longer than any test.
const IDLE: Duration = Duration::from_secs(60);

/// A peer that does by hand what it likes.
struct Hand {
    network: Network,
    connection: Connection,
}

impl Hand {
    async fn connect(number: u8, to: &Peer) -> Self {
        let network = Wish::new(number).network().await;
        let connection = soon("a connection", network.connect(to, BOND_ALPN, Some(IDLE))).await;
        Self { network, connection: connection.expect("it is up") }
    }

    fn hello(&self, store: u128) -> HelloRole {
        let (store, nonce) = (StoreId(store), self.network.nonce());
        let card = Card { lineage: None, dissolves: false, store, nonce };
        HelloRole::Member(MemberHello { card, attempt: 1, lost: None })
    }

    /// Is let in like any member, up to its first lane.
    async fn introduce(&self, wish: &Wish) -> Result<(Talk, Welcome), Refusal> {
        let session = self.network.session(&self.connection, wish.group);
        let hello = self.hello(wish.number.into());
        self.network.introduce(&self.connection, &session, &wish.key, hello).await
    }

    /// A stream that begins with these bytes.
    async fn lane(&self, words: &[u8]) -> SendStream {
        let mut stream = soon("a stream", self.connection.open_uni()).await.expect("it is open");
        stream.write_all(words).await.expect("it is open");
        stream
    }

    async fn closed(&self) -> Refusal {
        match soon("a close", self.connection.closed()).await {
            error @ ConnectionError::ApplicationClosed(_) => Refusal::of(&error),
            other => panic!("not closed by the peer: {other}"),
        }
    }
}

fn framed(frame: &MemberFrame) -> Vec<u8> {
    let bytes = postcard::to_stdvec(frame).expect("plain");
    [&header(bytes.len())[..], &bytes].concat()
}

#[tokio::test]
async fn each_wrong_peer_is_refused_with_its_own_code() {
    let node = Wish::new(1).start(&[]).await;
    let wish = Wish::new(2);
    let wrong_key = Wish { key: GroupKey::from_secret("wrong"), ..wish.clone() };
    let other_group = GroupId::of(&wish.key, "another machine", &wish.consensus);
    let unknown = Wish { number: 9, ..wish.clone() };
    for (wish, code, named) in [
        (wrong_key, Code::InvalidProof, "did not prove the group's key"),
        (Wish { group: other_group, ..wish.clone() }, Code::GroupNotFound, "is not in group"),
        (Wish { name: "elsewhere", ..wish.clone() }, Code::DifferentNetwork, "on network"),
        (unknown, Code::NotAllowed, "is not among the founders"),
    ] {
        let stranger = wish.start(&[]).await;
        let (told, reason) = refusal(&stranger, &node).await;
        assert_eq!(told, code, "{reason}");
        assert!(reason.contains(named), "{reason}");
        stranger.network.shutdown().await;
    }
    assert!(node.bonds.bonded().is_empty());
    let member = wish.start(&[]).await;
    let (tell, _told) = mpsc::channel(8);
    let dialed = soon("an answer", dial::attempt(&member.bonds.side, &tell, &node.peer())).await;
    assert_eq!(dialed, Ok("bonded"));
}

#[tokio::test]
async fn two_lineages_part_again_and_each_knows_the_others() {
    let mut dialed = Wish::new(1).founded([1, 2, 3]).start(&[]).await;
    let mut other = Wish::new(2).founded([1, 2, 4]);
    other.admittance.dissolves = true;
    let ours = dialed.admit.borrow().lineage;
    let theirs = other.admittance.lineage;
    let dialer = other.start(&[]).await;
    let (tell, mut told) = mpsc::channel(8);
    let peer = dialed.peer();
    let answer = dial::attempt(&dialer.bonds.side, &tell, &peer);
    let error = soon("an answer", answer).await.expect_err("two lineages never bond");
    assert!(matches!(error, NetworkError::Refused { .. }), "{error}");
    assert_eq!(error.code(), Some(Code::DifferentLineage), "{error}");
    for named in [ours, theirs].map(|lineage| lineage.expect("both are founded").to_string()) {
        assert!(error.to_string().contains(&named), "{error}");
    }
    let (met, by) = (dialed.event().await, soon("word", told.recv()).await);
    match (met, by) {
        (BondEvent::Foreign(met), Some(Told::Foreign(by))) => {
            assert_eq!((met.peer, by.peer), (dialer.node.peer, dialed.node.peer));
            assert_eq!((Some(met.lineage), Some(by.lineage)), (theirs, ours));
            assert_eq!((met.dissolves, by.dissolves), (true, false));
        }
        (met, _) => panic!("not of another lineage: {met:?}"),
    }
    assert!(dialed.bonds.bonded().is_empty() && dialer.bonds.bonded().is_empty());
}

#[tokio::test]
async fn guests_are_let_in_as_many_as_may_be_and_members_always() {
    let mut wish = Wish::new(1).founded([1, 2, 3]);
    wish.admittance.guests_max = 1;
    let mut node = wish.start(&[]).await;
    // A member's peer with another store is no member.
    let wiped = Wish { store: StoreId(22), ..Wish::new(2) };
    let mut guest = wiped.start(&[node.peer()]).await;
    assert_eq!((node.up().await, guest.up().await), (guest.node, node.node));
    let one_more = Wish::new(9).start(&[]).await;
    let (tell, _told) = mpsc::channel(8);
    // It is welcome, but by then there is no room: its own end counts it as bonded for a moment.
    let peer = node.peer();
    let dialed = dial::attempt(&one_more.bonds.side, &tell, &peer);
    soon("an answer", dialed).await.expect("it has proved itself");
    until("the end of that bond", || one_more.bonds.bonded().is_empty()).await;
    let mut member = Wish::new(3).start(&[node.peer()]).await;
    assert_eq!((node.up().await, member.up().await), (member.node, node.node));
    assert_eq!(node.bonds.bonded().len(), 2);
}

#[tokio::test]
async fn a_peer_that_claims_anothers_id_is_refused() {
    let wish = Wish::new(1);
    let node = wish.start(&[]).await;
    // It knows the key, but its own id may not enter, so it proves in the name of one that may.
    let hand = Hand::connect(9, &node.peer()).await;
    let mut session = hand.network.session(&hand.connection, wish.group);
    session.local = secret(2).peer_id();
    let hello = hand.hello(2);
    let introduced = hand.network.introduce(&hand.connection, &session, &wish.key, hello).await;
    introduced.expect_err("the proof is in another's name");
    assert_eq!(hand.closed().await.code, Code::InvalidProof);
    assert!(node.bonds.bonded().is_empty());
}

#[tokio::test]
async fn whoever_never_shows_that_it_heard_the_welcome_displaces_nobody() {
    let mut wish = Wish::new(1);
    wish.consensus.handshake_timeout = Duration::from_millis(200);
    let mut node = wish.start(&[]).await;
    let live = Wish::new(2);
    let mut bonded = live.start(&[node.peer()]).await;
    assert_eq!((node.up().await, bonded.up().await), (bonded.node, node.node));
    let hand = Hand::connect(2, &node.peer()).await;
    let _talk = hand.introduce(&live).await.expect("it proves itself");
    assert_eq!(hand.closed().await.code, Code::Timeout);
    bonded.bonds.send(node.node, vote(1));
    assert_eq!(node.vote().await, (bonded.node, 1));
}

#[tokio::test]
async fn what_is_no_frame_of_its_lane_ends_the_bond() {
    let wish = Wish::new(2);
    let control = [0_u8];
    let limit = {
        let node = Wish::new(1).start(&[]).await;
        node.bonds.side.frame_bytes_max()
    };
    let vote = framed(&vote(1));
    let (after, last) = (Index(9), Index(9));
    let backwards = MemberFrame::Replay(ReplayFrame::Fetch { id: 1, after, last });
    for (first, second, named) in [
        ([&control[..], &header(4), &[0xff; 4]].concat(), None, "no frame of a member"),
        ([&control[..], &header(limit + 1)].concat(), None, "bytes, but at most"),
        ([&control[..], &framed(&append(8))].concat(), None, "not for the control lane"),
        (control.to_vec(), Some(vec![9]), "there is no lane 9"),
        (control.to_vec(), Some([&control[..], &vote].concat()), "a second control lane"),
        (control.to_vec(), Some([&[1][..], &vote].concat()), "not for the append lane"),
        (control.to_vec(), Some([&[1][..], &framed(&bulk(8))].concat()), "not for the append lane"),
        ([&control[..], &framed(&backwards)].concat(), None, "a wish for entries"),
    ] {
        let mut node = Wish::new(1).start(&[]).await;
        let hand = Hand::connect(2, &node.peer()).await;
        let _talk = hand.introduce(&wish).await.expect("it proves itself");
        let _first = hand.lane(&first).await;
        assert_eq!(node.up().await, id(2, 2));
        if let Some(words) = second {
            let _second = hand.lane(&words).await;
        }
        // What nobody asks for is not read.
        assert_eq!(node.down().await, id(2, 2));
        let refusal = hand.closed().await;
        assert_eq!(refusal.code, Code::ProtocolViolation, "{refusal}");
        assert!(refusal.reason.contains(named), "{refusal}");
    }
}

#[tokio::test]
async fn the_first_lane_must_be_the_control_lane() {
    let node = Wish::new(1).start(&[]).await;
    let hand = Hand::connect(2, &node.peer()).await;
    let _talk = hand.introduce(&Wish::new(2)).await.expect("it proves itself");
    let _bulk = hand.lane(&[3]).await;
    assert_eq!(hand.closed().await.code, Code::ProtocolViolation);
    assert!(node.bonds.bonded().is_empty());
}

#[tokio::test]
async fn a_silent_peer_loses_its_bond_and_one_that_pings_keeps_it() {
    let clock = Arc::new(JumpingClock::default());
    let mut wish = Wish { clock: Arc::new(Arc::clone(&clock)), ..Wish::new(1) };
    wish.consensus.heartbeat_interval = Duration::from_millis(100);
    wish.consensus.heartbeat_jitter = Duration::from_millis(25);
    wish.consensus.max_missed_heartbeats = 10;
    let mut node = wish.start(&[]).await;
    let mut mute = Hand::connect(2, &node.peer()).await;
    let _talk = mute.introduce(&Wish::new(2)).await.expect("it proves itself");
    let _lane = mute.lane(&[0]).await;
    assert_eq!(node.up().await, id(2, 2));
    // QUIC itself is alive all the while.
    let refusal = mute.closed().await;
    assert_eq!(refusal.code, Code::Timeout, "{refusal}");
    assert_eq!(node.down().await, id(2, 2));
    mute = Hand::connect(2, &node.peer()).await;
    let _talk = mute.introduce(&Wish::new(2)).await.expect("it proves itself");
    let mut lane = mute.lane(&[0]).await;
    assert_eq!(node.up().await, id(2, 2));
    // Three times as long as silence is borne, in pings.
    let bond = node.bonds.side.table.bond(id(2, 2)).expect("it is up");
    for _ in 0..30 {
        clock.jump(Duration::from_millis(100));
        let pinged = clock.now();
        lane.write_all(&framed(&MemberFrame::Ping)).await.expect("it is open");
        tokio::select! {
            event = node.events.recv() => panic!("a ping is no event: {event:?}"),
            () = until("the ping", || bond.last_heard() >= pinged) => {}
        }
    }
    lane.write_all(&framed(&vote(3))).await.expect("it is open");
    assert_eq!(node.vote().await, (id(2, 2), 3));
}

/// A peer's words are read by whoever listens; a disk may keep that one from it.
#[tokio::test]
async fn nobody_is_taken_for_silent_while_whoever_listens_waits_for_a_disk() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let mut wish = Wish::new(1);
    wish.consensus.heartbeat_interval = Duration::from_millis(20);
    wish.consensus.heartbeat_jitter = Duration::from_millis(5);
    wish.consensus.max_missed_heartbeats = 10;
    let mut node = wish.start(&[]).await;
    let hand = Hand::connect(2, &node.peer()).await;
    let _talk = hand.introduce(&Wish::new(2)).await.expect("it proves itself");
    let mut lane = hand.lane(&[0]).await;
    assert_eq!(node.up().await, id(2, 2));
    let deaf = node.bonds.turn_deaf();
    lane.write_all(&framed(&vote(3))).await.expect("it is open");
    let (clock, began) = (node.network.clock(), node.network.clock().now());
    let silence_max = node.bonds.side.silence_max();
    until("three times as long as silence is borne", || clock.now().since(began) > 3 * silence_max)
        .await;
    assert_eq!(record.counter(BOND_MESSAGES_RECEIVED, &[]), 0, "nobody has read it");
    drop(deaf);
    assert_eq!(node.vote().await, (id(2, 2), 3), "it has its bond still");
    // From then on it is silent like anybody else who says nothing.
    assert_eq!(hand.closed().await.code, Code::Timeout);
    assert_eq!(node.down().await, id(2, 2));
}

#[tokio::test]
async fn a_node_that_was_stopped_reads_before_it_judges() {
    let clock = Arc::new(JumpingClock::default());
    let mut wish = Wish { clock: Arc::new(Arc::clone(&clock)), ..Wish::new(1) };
    // Two of these are what it then has to read in.
    wish.consensus.heartbeat_interval = Duration::from_millis(500);
    let mut stopped = wish.start(&[]).await;
    let other = Wish { consensus: wish.consensus, ..Wish::new(2) };
    let mut other = other.start(&[stopped.peer()]).await;
    assert_eq!((stopped.up().await, other.up().await), (other.node, stopped.node));
    let bond = stopped.connection(other.node);
    for term in 1..=20 {
        // As after SIGCONT: an hour is gone between two looks at the clock.
        clock.jump(Duration::from_secs(3_600));
        other.bonds.send(stopped.node, vote(term));
        assert_eq!(stopped.vote().await, (other.node, term));
        stopped.bonds.send(other.node, vote(term));
        assert_eq!(other.vote().await, (stopped.node, term));
    }
    assert_eq!(stopped.connection(other.node), bond);
}

#[tokio::test]
async fn a_flooded_lane_holds_no_other_lane_up() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let mut slow = Wish::new(1).start(&[]).await;
    let mut fast = Wish::new(2).start(&[slow.peer()]).await;
    assert_eq!((slow.up().await, fast.up().await), (fast.node, slow.node));
    // Far more than streams and windows hold, until even the lane's own queue is full.
    let mut appends = 0;
    while fast.bonds.send(slow.node, append(64 << 10)) {
        appends += 1;
    }
    assert!(fast.bonds.send(slow.node, vote(1)), "the control lane has room");
    let dropped = [("lane", "append"), ("reason", "full")];
    assert_eq!(record.counter(BOND_DROPPED, &dropped), 1, "the one that found no room");
    let waits = record.gauge(BOND_QUEUE_BYTES, &[("lane", "append")]);
    assert!(waits >= f64::from(64 << 10), "{waits} bytes wait in front of the lane");
    let of_its_own = fast.bonds.waiting();
    assert!(of_its_own.append >= 64 << 10, "{of_its_own:?}");
    let mut before = 0;
    loop {
        match slow.event().await {
            BondEvent::Frame { frame: MemberFrame::Raft(Message::Append { .. }), .. } => {
                before += 1;
            }
            BondEvent::Frame { frame: MemberFrame::Raft(Message::Vote { .. }), .. } => break,
            other => panic!("{other:?}"),
        }
    }
    // At most what the receiver had taken in before the vote came stands before it.
    assert!(before < appends / 2, "the vote came after {before} of {appends} appends");
    for _ in before..appends {
        let event = slow.event().await;
        assert!(matches!(event, BondEvent::Frame { .. }), "{event:?}");
    }
    // The flood is over: the lane takes frames again.
    assert!(fast.bonds.send(slow.node, append(8)));
}

/// Lanes are streams of their own, and neither end has to read before it can write.
#[tokio::test]
async fn bulk_both_ways_that_nobody_reads_holds_no_vote_up() {
    let mut a = Wish::new(1).start(&[]).await;
    let mut b = Wish::new(2).start(&[a.peer()]).await;
    assert_eq!((a.up().await, b.up().await), (b.node, a.node));
    let mut sent = [0, 0];
    for (count, (from, to)) in sent.iter_mut().zip([(&a, b.node), (&b, a.node)]) {
        while from.bonds.send(to, bulk(256 << 10)) {
            *count += 1;
        }
        assert!(from.bonds.send(to, vote(*count)), "the control lane has room");
    }
    for (node, sent) in [(&mut a, sent[1]), (&mut b, sent[0])] {
        let mut before = 0;
        loop {
            match node.event().await {
                BondEvent::Frame { frame: MemberFrame::Replay(_), .. } => before += 1,
                BondEvent::Frame { frame: MemberFrame::Raft(Message::Vote { .. }), .. } => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(before < sent / 2, "the vote came after {before} of {sent} chunks");
    }
}

/// Pings say nothing, so whoever asks for an event could read them for ever.
#[tokio::test]
async fn a_flood_of_pings_holds_up_neither_the_timers_of_who_listens_nor_entries() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let mut node = Wish::new(1).start(&[]).await;
    let hand = Hand::connect(2, &node.peer()).await;
    let _talk = hand.introduce(&Wish::new(2)).await.expect("it proves itself");
    let mut control = hand.lane(&[0]).await;
    assert_eq!(node.up().await, id(2, 2));
    let _append = hand.lane(&[&[1][..], &framed(&append(8))].concat()).await;
    let sent = 200 * PINGS_AT_ONCE;
    let pings = framed(&MemberFrame::Ping).repeat(sent);
    let flood = tokio::spawn(async move {
        control.write_all(&pings).await.expect("it is open");
        control
    });
    let read = || record.counter(BOND_MESSAGES_RECEIVED, &[("lane", "control")]) as usize;
    let (mut most, mut entries) = (0, None);
    until("the end of the flood", || {
        let before = read();
        // One turn of a driver, which has timers to look after when it gets nothing.
        if let Some(event) = node.events.try_recv() {
            let is_entry = matches!(
                event,
                BondEvent::Frame { frame: MemberFrame::Raft(Message::Append { .. }), .. }
            );
            assert!(is_entry, "{event:?}");
            entries = Some(read());
        }
        most = most.max(read() - before);
        read() >= sent
    })
    .await;
    assert_eq!(most, PINGS_AT_ONCE, "so many were there, and no more are read in one turn");
    assert!(entries.is_some_and(|read| read < sent), "entries came after {entries:?} of {sent}");
    let _control = flood.await.expect("no panic");
}

#[tokio::test]
async fn a_frame_too_large_is_dropped_here_and_harms_no_bond() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let mut a = Wish::new(1).start(&[]).await;
    let mut b = Wish::new(2).start(&[a.peer()]).await;
    assert_eq!((a.up().await, b.up().await), (b.node, a.node));
    assert!(!b.bonds.send(a.node, append(b.bonds.side.frame_bytes_max())));
    let dropped = [("lane", "append"), ("reason", "oversized")];
    assert_eq!(record.counter(BOND_DROPPED, &dropped), 1);
    assert!(b.bonds.send(a.node, vote(1)));
    assert_eq!(a.vote().await, (b.node, 1));
}

#[tokio::test]
async fn a_bond_that_may_not_be_any_more_ends() {
    let mut a = Wish::new(1).founded([1, 2, 3]).start(&[]).await;
    let mut b = Wish::new(2).founded([1, 2, 3]).start(&[a.peer()]).await;
    assert_eq!((a.up().await, b.up().await), (b.node, a.node));
    a.admit.send_modify(|admittance| {
        admittance.members.remove(&id(2, 2));
    });
    assert!(a.bonds.send(b.node, vote(1)), "who is no member any more is a guest");
    assert_eq!(b.vote().await, (a.node, 1));
    let other = Wish::new(1).founded([1, 2, 4]).admittance;
    a.admit.send_modify(|admittance| admittance.lineage = other.lineage);
    assert_eq!((a.down().await, b.down().await), (b.node, a.node));
}

#[tokio::test]
async fn whom_to_dial_may_change_at_any_time() {
    let mut a = Wish::new(1).start(&[]).await;
    let mut b = Wish::new(2).start(&[]).await;
    let peer = b.peer();
    a.bonds.want([(peer.id, peer.addresses)].into());
    assert_eq!((a.up().await, b.up().await), (b.node, a.node));
    a.bonds.want(Addresses::new());
    let bond = a.bonds.side.table.bond(b.node).expect("it stands as long as it may");
    bond.close(&Code::Cancelled.because("and no longer"));
    assert_eq!((a.down().await, b.down().await), (b.node, a.node));
    let peer = b.peer();
    a.bonds.want([(peer.id, peer.addresses)].into());
    assert_eq!((a.up().await, b.up().await), (b.node, a.node));
}
