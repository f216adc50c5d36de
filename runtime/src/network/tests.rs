//! Real endpoints on loopback: links, the door, and what strangers get.

mod strangers;
mod welcomes;

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use iroh::endpoint::{Connection, ConnectionError, PathStats, RecvStream, SendStream};

use super::{
    BOND_ALPN, Card, Code, Hello, HelloRole, Link, MemberHello, Network, NetworkBuilder,
    NetworkError, Papers, Peer, Refusal, SecretKey, Session, Talk, Welcome,
    congestion::{self, BoundedCubic},
    door::CLIENT_ALPN,
    handshake::{MAGIC, UNPROVEN_BYTES_MAX, VERSION},
    header, quic,
    wire::Wire,
};
use crate::{ConsensusConfig, GroupId, GroupKey, SystemClock};

const ECHO: &str = "echo/1";
const BOUND: Duration = Duration::from_secs(20);

/// Waits for what must come, with a bound.
async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(BOUND, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not come within {BOUND:?}"),
    }
}

fn builder(network: &str) -> NetworkBuilder {
    Network::builder(network).bind(loopback()).protocol(ECHO)
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

async fn node(network: &str) -> Network {
    builder(network).build().await.expect("a free port on loopback")
}

fn group(key: &GroupKey) -> GroupId {
    GroupId::of(key, "machine", &ConsensusConfig::default())
}

/// A connection that has said nothing yet.
async fn stranger(from: &Network, to: &Network, alpn: &[u8]) -> Connection {
    soon("a connection", from.connect(&to.peer(), alpn, None)).await.expect("both are up")
}

/// Says these bytes on a new stream.
async fn say(connection: &Connection, words: &[&[u8]]) -> (SendStream, RecvStream) {
    let (mut sender, receiver) = connection.open_bi().await.expect("it is open");
    sender.write_all(&words.concat()).await.expect("it is open");
    (sender, receiver)
}

fn preface(network: &Network) -> Vec<u8> {
    [&MAGIC[..], &VERSION.to_le_bytes(), &network.id().0].concat()
}

/// With what the peer closes.
async fn closed(connection: &Connection) -> Refusal {
    match soon("a close", connection.closed()).await {
        error @ ConnectionError::ApplicationClosed(_) => Refusal::of(&error),
        other => panic!("not closed by the peer: {other}"),
    }
}

/// Serves a group's clients, and keeps their links.
fn serve(network: &Network, group: GroupId, key: &GroupKey) {
    let mut links = network.serve_clients(group, key);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(mut link) = links.recv().await {
            link.send(b"served").await.expect("the client waits");
            kept.push(link);
        }
    });
}

#[tokio::test]
async fn a_link_carries_frames_both_ways_and_names_its_ends() {
    let (a, b) = (node("n").await, node("n").await);
    let dialed = soon("a dial", a.dial(&b.peer(), ECHO)).await.expect("b accepts");
    let mut accepted = soon("a link", b.accept(ECHO)).await.expect("b is up");
    assert_eq!((dialed.remote(), accepted.remote()), (b.peer().id, a.peer().id));
    let frames = [vec![], vec![1], vec![7; 100_000], vec![9; 3 << 20]];
    let (mut sender, mut receiver) = dialed.split();
    let echo = tokio::spawn(async move {
        while let Some(frame) = accepted.recv().await {
            accepted.send(&frame).await.expect("a reads");
        }
    });
    for frame in &frames {
        let (sent, back) =
            soon("an echo", async { tokio::join!(sender.send(frame), receiver.recv()) }).await;
        sent.expect("b reads");
        assert_eq!(back.as_deref(), Some(&frame[..]));
    }
    soon("the last acknowledgement", sender.finish()).await.expect("b reads to the end");
    soon("the end of the echo", echo).await.expect("no panic");
}

#[tokio::test]
async fn no_more_is_under_way_than_the_path_takes_in_a_round_trip() {
    let (a, b) = (node("n").await, node("n").await);
    let mut dialed = soon("a dial", a.dial(&b.peer(), ECHO)).await.expect("b accepts");
    let mut accepted = soon("a link", b.accept(ECHO)).await.expect("b is up");
    let reader = tokio::spawn(async move {
        for _ in 0..16 {
            accepted.recv().await.expect("a sends more");
        }
    });
    for _ in 0..16 {
        soon("room", dialed.send(&vec![7; 1 << 20])).await.expect("b reads");
    }
    soon("all of it", reader).await.expect("no panic");
    let stats: Vec<_> = dialed.connection().paths().iter().map(|path| path.stats()).collect();
    // Nothing was lost, so congestion alone would have let the window grow to all of it.
    let is_bounded = |path: &PathStats| path.cwnd <= congestion::fast_bytes(path.rtt);
    assert!(!stats.is_empty() && stats.iter().all(is_bounded), "{stats:?}");
}

#[tokio::test]
async fn a_frame_beyond_the_limit_is_refused_here_and_closes_the_link_there() {
    let small = builder("n").frame_bytes_max(UNPROVEN_BYTES_MAX).build().await.expect("a port");
    let big = node("n").await;
    let mut dialed = soon("a dial", big.dial(&small.peer(), ECHO)).await.expect("accepted");
    let mut accepted = soon("a link", small.accept(ECHO)).await.expect("it is up");
    let too_large = accepted.send(&vec![0; UNPROVEN_BYTES_MAX + 1]).await;
    assert_eq!(
        too_large,
        Err(NetworkError::TooLarge {
            bytes: UNPROVEN_BYTES_MAX + 1,
            bytes_max: UNPROVEN_BYTES_MAX
        })
    );
    accepted.send(b"still fine").await.expect("a refused frame changes nothing");
    assert_eq!(soon("a frame", dialed.recv()).await.as_deref(), Some(&b"still fine"[..]));
    dialed.send(&vec![0; UNPROVEN_BYTES_MAX + 1]).await.expect("this end allows more");
    assert_eq!(soon("the end", accepted.recv()).await, None);
    assert_eq!(soon("the end", dialed.recv()).await, None);
    let closing = dialed.closing().expect("closed");
    assert_eq!(closing.code(), Some(Code::ProtocolViolation));
    assert!(closing.to_string().contains("4097 bytes, but at most 4096"), "{closing}");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let first = node("n").await;
    let address = first.peer().addresses[0];
    let second = builder("n").bind(address).build().await;
    let error = second.expect_err("the port is taken");
    assert!(matches!(error, NetworkError::Bind { .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn wishes_that_cannot_work_are_named() {
    for (builder, named) in [
        (builder("n").protocol(""), "1 to 255 bytes"),
        (builder("n").protocol("tessera/bond/4"), "tessera/bond/4"),
        (builder("n").handshakes_max(0), "handshakes_max"),
        (builder("n").handshakes_per_address_max(0), "handshakes_per_address_max"),
        (builder("n").links_max(0), "links_max"),
        (builder("n").links_per_peer_max(0), "links_per_peer_max"),
        (builder("n").handshake_timeout(Duration::ZERO), "handshake_timeout"),
        (builder("n").frame_bytes_max(7), "frame_bytes_max is 7"),
    ] {
        let error = builder.build().await.expect_err(named);
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[tokio::test]
async fn nodes_of_different_networks_or_versions_refuse_each_other() {
    let (a, b) = (node("one").await, node("two").await);
    let error = soon("a refusal", a.dial(&b.peer(), ECHO)).await.expect_err("two networks");
    assert_eq!(error.code(), Some(Code::DifferentNetwork));
    for network in [a.id(), b.id()] {
        assert!(error.to_string().contains(&network.to_string()), "{error}");
    }
    let connection = stranger(&a, &b, ECHO.as_bytes()).await;
    let _streams = say(&connection, &[&MAGIC, &[9, 0]]).await;
    let refusal = closed(&connection).await;
    assert_eq!(refusal.code, Code::DifferentVersion);
    assert_eq!(refusal.reason, format!("the peer speaks version 9, this node {VERSION}"));
}

#[tokio::test]
async fn garbage_before_the_proof_is_refused_by_its_kind() {
    let (a, b) = (node("n").await, node("n").await);
    let oversized = header(UNPROVEN_BYTES_MAX + 1);
    let garbage = [&header(8)[..], &[0xff; 8]].concat();
    for (words, code, named) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Code::ProtocolViolation, "no Tessera stream"),
        ([&preface(&a)[..], &oversized].concat(), Code::ProtocolViolation, "at most 4096"),
        ([&preface(&a)[..], &garbage].concat(), Code::InvalidHandshake, ""),
    ] {
        let connection = stranger(&a, &b, CLIENT_ALPN).await;
        let _streams = say(&connection, &[&words]).await;
        let refusal = closed(&connection).await;
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.reason.contains(named), "{refusal}");
    }
    let unknown = soon("a refusal", a.dial(&b.peer(), "unheard/1")).await;
    assert!(matches!(unknown, Err(NetworkError::Unreachable { .. })), "{unknown:?}");
}

#[tokio::test]
async fn a_stranger_that_says_nothing_times_out_and_frees_its_place() {
    let patience = Duration::from_secs(1);
    let b = builder("n").handshakes_max(1).handshake_timeout(patience).build();
    let (a, b) = (node("n").await, b.await.expect("a port"));
    let mute = stranger(&a, &b, CLIENT_ALPN).await;
    let refusal = closed(&mute).await;
    assert_eq!(refusal.code, Code::Timeout);
    assert_eq!(refusal.reason, "no handshake within 1s");
    // Its place is free again, once the door has seen to it.
    soon("a link", async { while a.dial(&b.peer(), ECHO).await.is_err() {} }).await;
}

#[tokio::test]
async fn more_strangers_than_places_are_refused() {
    let b = builder("n").handshakes_max(1).handshake_timeout(BOUND).build();
    let (a, b) = (node("n").await, b.await.expect("a port"));
    let mute = stranger(&a, &b, CLIENT_ALPN).await;
    let second = soon("a refusal", a.dial(&b.peer(), ECHO)).await;
    assert!(matches!(second, Err(NetworkError::Unreachable { .. })), "{second:?}");
    Code::Cancelled.because("made its point").close(&mute);
    soon("a link", async { while a.dial(&b.peer(), ECHO).await.is_err() {} }).await;
}

#[tokio::test]
async fn a_client_and_a_node_prove_the_key_to_each_other() {
    let (client, server) = (node("n").await, node("n").await);
    let (key, wrong) = (GroupKey::from_secret("right"), GroupKey::from_secret("wrong"));
    serve(&server, group(&key), &key);
    let dial = |group, key| {
        let (client, peer) = (client.clone(), server.peer());
        async move { soon("an answer", client.dial_client(&peer, group, key, BOUND)).await }
    };
    let mut link = dial(group(&key), &key).await.expect("the key is right");
    assert_eq!(soon("a frame", link.recv()).await.as_deref(), Some(&b"served"[..]));
    let refused = dial(group(&key), &wrong).await.expect_err("the proof is wrong");
    assert_eq!(refused.code(), Some(Code::InvalidProof), "{refused}");
    assert!(refused.to_string().contains("did not prove the group's key"), "{refused}");
    let refused = dial(group(&wrong), &wrong).await.expect_err("no such group");
    assert_eq!(refused.code(), Some(Code::GroupNotFound), "{refused}");
    server.leave_group(group(&key));
    let refused = dial(group(&key), &key).await.expect_err("it has left");
    assert_eq!(refused.code(), Some(Code::GroupNotFound), "{refused}");
}

#[tokio::test]
async fn a_node_that_cannot_prove_the_key_is_turned_away_by_its_client() {
    let client = node("n").await;
    let secret = SecretKey::generate();
    let congestion = Arc::new(BoundedCubic::new(Arc::new(SystemClock::new())));
    let alpns = vec![CLIENT_ALPN.to_vec()];
    let impostor =
        quic::bind(&Wire::Host(loopback()), &secret, alpns, congestion).await.expect("a port");
    let peer = Peer { id: secret.peer_id(), addresses: impostor.bound_sockets() };
    let id = client.id();
    let welcoming = tokio::spawn(async move {
        let incoming = impostor.accept().await.expect("it is up");
        let connection = incoming.await.expect("a TLS handshake");
        let mut talk = Talk::new(connection.accept_bi().await.expect("a stream"));
        talk.expect_preface(id).await.expect("a preface");
        let hello: Hello = talk.hear().await.expect("a hello");
        assert!(matches!(hello.role, HelloRole::Client), "{hello:?}");
        talk.preface(id).await.expect("it is open");
        // The client's own proof, sent back, must not pass for ours.
        let (proof, papers) = (hello.proof, Papers::default());
        talk.say(&Welcome { proof, card: None, papers }).await.expect("it is open");
        closed(&connection).await
    });
    let key = GroupKey::from_secret("key");
    let dialed = soon("an answer", client.dial_client(&peer, group(&key), &key, BOUND)).await;
    let refused = dialed.expect_err("an impostor");
    assert!(matches!(refused, NetworkError::Refused { .. }), "{refused}");
    assert_eq!(refused.code(), Some(Code::InvalidProof), "{refused}");
    let told = soon("a close", welcoming).await.expect("no panic");
    assert_eq!(told.code, Code::InvalidProof);
}

#[tokio::test]
async fn a_proof_in_another_nodes_name_is_refused() {
    let (client, server, victim) = (node("n").await, node("n").await, node("n").await);
    let key = GroupKey::from_secret("key");
    let group = group(&key);
    serve(&server, group, &key);
    let connection = stranger(&client, &server, CLIENT_ALPN).await;
    let mut session = client.session(&connection, group);
    session.local = victim.peer().id;
    let role = HelloRole::Client;
    let introduced = client.introduce(&connection, &session, &key, role).await;
    introduced.expect_err("the proof names another peer");
    assert_eq!(closed(&connection).await.code, Code::InvalidProof);
    // Nor does a proof of one connection serve on another.
    let first = stranger(&client, &server, CLIENT_ALPN).await;
    let second = stranger(&client, &server, CLIENT_ALPN).await;
    let replayed: Session = client.session(&first, group);
    let role = HelloRole::Client;
    let introduced = client.introduce(&second, &replayed, &key, role).await;
    introduced.expect_err("the proof is of another connection");
    assert_eq!(closed(&second).await.code, Code::InvalidProof);
}

#[tokio::test]
async fn shutdown_tells_everyone_and_frees_the_port() {
    let (a, b) = (node("n").await, node("n").await);
    let mut dialed = soon("a dial", a.dial(&b.peer(), ECHO)).await.expect("b accepts");
    let accepted = soon("a link", b.accept(ECHO)).await.expect("b is up");
    let waiting = tokio::spawn({
        let b = b.clone();
        async move { b.accept(ECHO).await.is_none() }
    });
    let peer = b.peer();
    soon("the shutdown", b.shutdown()).await;
    assert!(soon("the end of accepting", waiting).await.expect("no panic"), "a link after the end");
    assert_eq!(soon("the end", dialed.recv()).await, None);
    let closing = dialed.closing().expect("closed");
    assert_eq!(closing.code(), Some(Code::GracefulShutdown), "{closing}");
    assert_eq!(b.dial(&a.peer(), ECHO).await.err(), Some(NetworkError::ShutDown));
    assert!(b.accept(ECHO).await.is_none());
    drop(accepted);
    soon("a second shutdown", b.shutdown()).await;
    // Whoever comes next may have the port.
    let address = peer.addresses[0];
    soon("the port", async { while builder("n").bind(address).build().await.is_err() {} }).await;
}
