//! Strangers at the door: what they cost before they have said who they are, and what bounds it.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use tokio::{net::UdpSocket, task::JoinSet};

use super::*;
use crate::{
    metric::{DIALS_REFUSED, DIALS_RETRIED, HANDSHAKES, LINKS, REFUSALS, recorder::Record},
    network::registry::APPLICANTS_MAX,
};

/// A node of its own address among the many that loopback has.
async fn at(last: u8) -> Network {
    let address = ([127, 0, 0, last], 0).into();
    let builder = Network::builder("n").bind(address).protocol(ECHO);
    builder.build().await.expect("a free port on loopback")
}

/// Lets the other tasks work until the condition holds, with a bound.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let look = async {
        while !holds() {
            ticks.tick().await;
        }
    };
    soon(what, look).await;
}

/// What a node sends first when it dials: caught on its way.
async fn first_packet(from: &Network, to: &Network) -> Vec<u8> {
    let trap = UdpSocket::bind(loopback()).await.expect("a free port");
    let addresses = vec![trap.local_addr().expect("it is bound")];
    let peer = Peer { addresses, ..to.peer() };
    let mut packet = vec![0; 2_048];
    let caught = tokio::select! {
        caught = trap.recv(&mut packet) => caught.expect("it is open"),
        _ = from.dial(&peer, ECHO) => panic!("nobody answers there"),
    };
    packet.truncate(caught);
    packet
}

#[tokio::test]
async fn noise_on_the_port_costs_no_place() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let (a, b) = (node("n").await, node("n").await);
    let noise = UdpSocket::bind(loopback()).await.expect("a free port");
    let packet = first_packet(&a, &b).await;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
    for round in 0..2_000 {
        let mut bytes = match round % 2 {
            0 => (0..random.random_range(0..1_400)).map(|_| random.random()).collect(),
            // A first packet that is cut, or damaged where it is not opened yet.
            _ => packet[..random.random_range(0..packet.len())].to_vec(),
        };
        if let [first, .., last] = &mut bytes[..] {
            *first |= random.random_range(0..2) << 7;
            *last ^= 1;
        }
        // A full buffer of the host's is as good as a lost datagram.
        drop(noise.send_to(&bytes, b.peer().addresses[0]).await);
    }
    soon("a link", a.dial(&b.peer(), ECHO)).await.expect("b goes on");
    assert_eq!(record.gauge(HANDSHAKES, &[]), 0.0);
    assert_eq!(record.counter(REFUSALS, &[]), 0, "nothing of it was a dial");
}

/// What comes back to who sends this.
async fn answer(to: &Network, noise: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind(loopback()).await.expect("a free port");
    let (address, mut answer) = (to.peer().addresses[0], vec![0; 2_048]);
    // Sent again and again, for any datagram may be lost.
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let asked = async {
        loop {
            tokio::select! {
                _ = ticks.tick() => drop(socket.send_to(noise, address).await),
                came = socket.recv(&mut answer) => return came.expect("it is open"),
            }
        }
    };
    let came = soon("an answer", asked).await;
    answer.truncate(came);
    answer
}

/// It goes to the address that is written on what it answers, and that may be somebody else's.
#[tokio::test]
async fn noise_is_not_answered_but_for_the_versions_of_quic_to_who_speaks_another() {
    let (a, b) = (node("n").await, node("n").await);
    let packet = first_packet(&a, &b).await;
    let (long, unheard): ([u8; 1], [u8; 4]) = ([0xc0], [1, 2, 3, 4]);
    let nameless = [&long[..], &unheard, &[0, 0]].concat();
    let named = [&long[..], &unheard, &[20], &[7; 20], &[20], &[9; 20]].concat();
    let dial = [&packet[..1], &unheard, &packet[5..]].concat();
    for noise in [nameless, named, dial] {
        let answer = answer(&b, &noise).await;
        assert_eq!(answer[1..5], [0_u8; 4], "a list of versions");
        let (answer, most) = (answer.len(), noise.len() + VERSIONS_BYTES);
        assert!(answer <= most, "{answer} bytes for {}", noise.len());
    }
    let silent = UdpSocket::bind(loopback()).await.expect("a free port");
    let cut = packet[..packet.len() / 2].to_vec();
    for noise in [cut, vec![0x40; 30], vec![0x40; 1_200], vec![0; 1_200], vec![0xff; 4]] {
        silent.send_to(&noise, b.peer().addresses[0]).await.expect("it is open");
    }
    // What came before that was read before it.
    soon("a link", a.dial(&b.peer(), ECHO)).await.expect("b goes on");
    let mut answer = [0; 2_048];
    assert!(silent.try_recv(&mut answer).is_err(), "nothing of it was answered");
}

#[tokio::test]
async fn a_dial_that_stops_after_its_first_packet_is_given_up() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let b = builder("n").handshake_timeout(Duration::from_millis(300)).build();
    let (a, b) = (node("n").await, b.await.expect("a port"));
    let packet = first_packet(&a, &b).await;
    let stopped = UdpSocket::bind(loopback()).await.expect("a free port");
    stopped.send_to(&packet, b.peer().addresses[0]).await.expect("it is open");
    until("a place taken", || record.gauge(HANDSHAKES, &[]) == 1.0).await;
    until("the place free", || record.gauge(HANDSHAKES, &[]) == 0.0).await;
    assert_eq!(record.counter(REFUSALS, &[("code", "timeout")]), 1);
    // Its patience may be too short for a busy machine.
    soon("a link", async { while a.dial(&b.peer(), ECHO).await.is_err() {} }).await;
}

#[tokio::test]
async fn a_hello_that_comes_byte_by_byte_is_given_up_in_the_same_time() {
    let patience = Duration::from_secs(1);
    let b = builder("n").handshake_timeout(patience).build();
    let (a, b) = (node("n").await, b.await.expect("a port"));
    let connection = stranger(&a, &b, CLIENT_ALPN).await;
    let (mut sender, _receiver) = say(&connection, &[]).await;
    let mut ticks = tokio::time::interval(patience / 10);
    let dripping = async {
        for byte in preface(&a).iter().chain(&header(64)).chain(&[7; 64]) {
            ticks.tick().await;
            if sender.write_all(&[*byte]).await.is_err() {
                // Refused while this byte was under way: the refusal is seen beside us.
                return std::future::pending().await;
            }
        }
    };
    let refusal = tokio::select! {
        refusal = closed(&connection) => refusal,
        () = dripping => panic!("it took three times as long, and was waited for"),
    };
    assert_eq!(refusal.code, Code::Timeout, "{refusal}");
}

#[tokio::test]
async fn a_stranger_has_one_stream_and_no_lane() {
    let b = builder("n").handshake_timeout(Duration::from_secs(1)).build();
    let (a, b) = (node("n").await, b.await.expect("a port"));
    for alpn in [CLIENT_ALPN, BOND_ALPN, ECHO.as_bytes()] {
        let connection = stranger(&a, &b, alpn).await;
        let _stream = say(&connection, &[&MAGIC]).await;
        tokio::select! {
            refusal = closed(&connection) => assert_eq!(refusal.code, Code::Timeout, "{refusal}"),
            // Both err once the connection is closed.
            Ok(_) = connection.open_uni() => panic!("a lane"),
            Ok(_) = connection.open_bi() => panic!("a second stream"),
        }
    }
}

#[tokio::test]
async fn when_places_grow_scarce_a_dialer_first_shows_that_it_is_where_it_says() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let b = builder("n").handshakes_max(2).handshake_timeout(BOUND).build();
    let (a, b, c) = (node("n").await, b.await.expect("a port"), node("n").await);
    let _mute = stranger(&a, &b, CLIENT_ALPN).await;
    assert_eq!(record.counter(DIALS_RETRIED, &[]), 0, "the first half is free");
    let _link = soon("a link", c.dial(&b.peer(), ECHO)).await.expect("one place is left");
    // QUIC may have said its first packet twice.
    assert!(record.counter(DIALS_RETRIED, &[]) >= 1);
    assert_eq!(record.counter(DIALS_REFUSED, &[]), 0);
}

#[tokio::test]
async fn one_address_is_refused_beyond_its_share_and_another_is_served() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let b = builder("n").handshakes_per_address_max(2).handshake_timeout(BOUND).build();
    let (b, near, far) = (b.await.expect("a port"), at(2).await, at(3).await);
    let _mute =
        [stranger(&near, &b, CLIENT_ALPN).await, stranger(&near, &b, ECHO.as_bytes()).await];
    // QUIC may say a first packet twice.
    let by_address = || record.counter(DIALS_REFUSED, &[("limit", "address")]);
    let before = by_address();
    let refused = soon("a refusal", near.dial(&b.peer(), ECHO)).await;
    assert!(matches!(refused, Err(NetworkError::Unreachable { .. })), "{refused:?}");
    assert!(by_address() > before);
    soon("a link", far.dial(&b.peer(), ECHO)).await.expect("it has a share of its own");
    assert_eq!(record.gauge(HANDSHAKES, &[]), 2.0, "no handshake for whom there is no place");
}

#[tokio::test]
async fn an_address_that_never_gets_in_waits_longer_than_one_that_does() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let b = builder("n").handshakes_per_address_max(2).build().await.expect("a port");
    let (near, far) = (at(2).await, at(3).await);
    for _ in 0..10 {
        soon("a link", far.dial(&b.peer(), ECHO)).await.expect("it gets in");
    }
    assert_eq!(record.counter(DIALS_REFUSED, &[]), 0, "its places were free at once");
    // As quickly as it can: of ten dials two come as far as a handshake, unless seconds pass.
    let began = near.clock().now();
    for _ in 0..10 {
        let wrong = soon("a refusal", near.connect(&b.peer(), b"unheard/1", None)).await;
        wrong.expect_err("nobody listens for it");
    }
    let seconds = near.clock().now().since(began).as_secs();
    let refused = record.counter(DIALS_REFUSED, &[("limit", "address")]);
    assert!(refused >= 8_u64.saturating_sub(2 * seconds), "{refused} in {seconds} s");
}

#[tokio::test]
async fn links_of_one_peer_and_in_all_have_limits_and_a_dropped_one_makes_room() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let b = builder("n").links_per_peer_max(2).links_max(3).build().await.expect("a port");
    let (a, c) = (node("n").await, node("n").await);
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(soon("a link", a.dial(&b.peer(), ECHO)).await.expect("within its share"));
    }
    let refused = soon("a refusal", a.dial(&b.peer(), ECHO)).await.expect_err("a third");
    assert_eq!(refused.code(), Some(Code::NoCapacity), "{refused}");
    assert!(refused.to_string().contains("2 links of this peer"), "{refused}");
    held.push(soon("a link", c.dial(&b.peer(), ECHO)).await.expect("another peer"));
    let refused = soon("a refusal", c.dial(&b.peer(), ECHO)).await.expect_err("a fourth");
    assert!(refused.to_string().contains("3 links in all"), "{refused}");
    assert_eq!(record.gauge(LINKS, &[]), 3.0);
    // The program takes one and lets go of it.
    drop(soon("a link", b.accept(ECHO)).await.expect("it waits"));
    soon("a link", c.dial(&b.peer(), ECHO)).await.expect("there is room again");
}

#[tokio::test]
async fn links_that_wait_to_be_taken_have_a_limit() {
    let b = builder("n").links_per_peer_max(1_000).build().await.expect("a port");
    let a = node("n").await;
    let mut held = Vec::new();
    let refused = loop {
        match soon("an answer", a.dial(&b.peer(), ECHO)).await {
            Ok(link) => held.push(link),
            // The preface comes first: b says so once it has found no room.
            Err(error) => break error,
        }
        if let Some(closing) = held.last().and_then(Link::closing) {
            break closing;
        }
        assert!(held.len() < 200, "nobody takes them");
    };
    assert_eq!(refused.code(), Some(Code::NoCapacity), "{refused}");
    assert!(refused.to_string().contains("too many links wait"), "{refused}");
}

#[tokio::test]
async fn a_link_that_nobody_has_taken_holds_no_more_than_a_strangers_share() {
    let (a, b) = (node("n").await, node("n").await);
    let mut link = soon("a link", a.dial(&b.peer(), ECHO)).await.expect("b accepts");
    let frame = [7; 1_020];
    let mut sent = 0;
    // Until nothing more is taken; should this machine only be slow, it is taken for less.
    while let Ok(done) = tokio::time::timeout(Duration::from_millis(500), link.send(&frame)).await {
        done.expect("it is open");
        sent += 1;
    }
    assert!(sent <= 64, "{sent} KiB of 64");
    // Once it is taken all of it comes, and more.
    let mut taken = soon("a link", b.accept(ECHO)).await.expect("it waits");
    let more = async {
        for _ in 0..1_000 {
            link.send(&frame).await.expect("it is open");
        }
    };
    let read = async {
        for _ in 0..sent + 1_000 {
            assert_eq!(taken.recv().await.as_deref(), Some(&frame[..]));
        }
    };
    soon("a mebibyte", async { tokio::join!(more, read) }).await;
}

#[tokio::test]
async fn members_and_clients_do_not_come_in_by_each_others_door() {
    let (a, b) = (node("n").await, node("n").await);
    let key = GroupKey::from_secret("key");
    serve(&b, group(&key), &key);
    let _members = b.serve_members(group(&key), &key);
    let card = Card { lineage: None, dissolves: false, store: raft::StoreId(1), nonce: 1 };
    let member = HelloRole::Member(MemberHello { card, attempt: 1, lost: None });
    for (alpn, role) in [(BOND_ALPN, HelloRole::Client), (CLIENT_ALPN, member)] {
        let connection = stranger(&a, &b, alpn).await;
        let session = a.session(&connection, group(&key));
        let introduced = a.introduce(&connection, &session, &key, role).await;
        introduced.expect_err("it is the other's door");
        let refusal = closed(&connection).await;
        assert_eq!(refusal.code, Code::InvalidHandshake, "{refusal}");
        assert!(refusal.reason.contains("have a protocol each"), "{refusal}");
    }
}

/// As when whoever takes members up waits for its disk.
#[tokio::test]
async fn as_many_wait_to_be_taken_up_by_their_group_as_may_and_the_next_is_refused() {
    let places = 2 * APPLICANTS_MAX;
    let b = builder("n").handshakes_max(places).handshakes_per_address_max(places);
    let b = b.handshake_timeout(BOUND).build().await.expect("a port");
    let (a, key) = (node("n").await, GroupKey::from_secret("key"));
    let mut members = b.serve_members(group(&key), &key);
    // Waits for a welcome; yields with what it is refused.
    let apply = |connection: Connection| {
        let (a, key) = (a.clone(), key.clone());
        async move {
            let card = Card { lineage: None, dissolves: false, store: raft::StoreId(1), nonce: 1 };
            let role = HelloRole::Member(MemberHello { card, attempt: 1, lost: None });
            let session = a.session(&connection, group(&key));
            let introduced = a.introduce(&connection, &session, &key, role).await;
            introduced.expect_err("nobody welcomes it");
            closed(&connection).await
        }
    };
    let mut applicants = JoinSet::new();
    for _ in 0..=APPLICANTS_MAX {
        applicants.spawn(apply(stranger(&a, &b, BOND_ALPN).await));
    }
    let refused = soon("a refusal", applicants.join_next()).await.expect("one is too many");
    let refusal = refused.expect("no panic");
    assert_eq!(refusal.code, Code::NoCapacity, "{refusal}");
    assert!(refusal.reason.contains("too many are waiting to be let in"), "{refusal}");
    let taken: Vec<_> = std::iter::from_fn(|| members.try_recv().ok()).collect();
    assert_eq!(taken.len(), APPLICANTS_MAX);
    applicants.spawn(apply(stranger(&a, &b, BOND_ALPN).await));
    soon("an applicant", members.recv()).await.expect("there is room again");
}

/// The versions of QUIC that are spoken here, and one that nobody speaks.
const VERSIONS_BYTES: usize = 32;
