//! Hello and welcome, word by word: what papers may be shown, and what a client expects of a node.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::{
    NetworkId,
    clock::Standing,
    network::papers::{
        EXTENSION_BYTES_MAX, EXTENSIONS_MAX, Extension, TICKET_BYTES_MAX, TICKETS_MAX,
    },
};

/// The largest papers that pass.
fn papers() -> Papers {
    let extension = |kind| Extension { kind, content: vec![7; EXTENSION_BYTES_MAX].into() };
    Papers {
        tickets: vec![vec![7; TICKET_BYTES_MAX].into(); TICKETS_MAX],
        extensions: (0..EXTENSIONS_MAX as u16).map(|kind| extension(u16::MAX - 3 + kind)).collect(),
    }
}

/// A hello with these papers and the right proof, and what the door makes of it.
async fn present(papers: Papers, cut: usize) -> Result<Welcome, Refusal> {
    let (client, server) = (node("n").await, node("n").await);
    let key = GroupKey::from_secret("key");
    serve(&server, group(&key), &key);
    let connection = stranger(&client, &server, CLIENT_ALPN).await;
    let session = client.session(&connection, group(&key));
    let proof = session.proof(&key);
    let hello = Hello { group: session.group, proof, role: HelloRole::Client, papers };
    let mut words = postcard::to_stdvec(&hello).expect("plain values always encode");
    words.truncate(words.len() - cut);
    let words = [&preface(&client), &header(words.len())[..], &words].concat();
    let mut talk = Talk::new(say(&connection, &[&words]).await);
    let heard = async {
        talk.expect_preface(client.id()).await?;
        talk.hear().await
    };
    match soon("an answer", heard).await {
        Ok(welcome) => Ok(welcome),
        Err(_) => Err(closed(&connection).await),
    }
}

#[tokio::test]
async fn tickets_and_unknown_extensions_are_taken_within_their_limits_and_change_nothing() {
    for papers in [Papers::default(), papers()] {
        let welcome = present(papers, 0).await.expect("it proves the key");
        assert_eq!((welcome.card, welcome.papers), (None, Papers::default()));
    }
}

#[tokio::test]
async fn papers_beyond_their_limits_or_cut_short_are_refused_by_name() {
    let mut one_more = papers();
    one_more.tickets = vec![Bytes::new(); TICKETS_MAX + 1];
    let mut too_large = papers();
    too_large.tickets = vec![vec![7; TICKET_BYTES_MAX + 1].into()];
    let mut beyond_the_frame = papers();
    beyond_the_frame.tickets.extend_from_slice(&papers().tickets);
    for (papers, cut, code, named) in [
        (one_more, 0, Code::InvalidHandshake, "5 tickets, but at most 4"),
        (too_large, 0, Code::InvalidHandshake, "641 bytes in a ticket, but at most 640"),
        (papers(), 1, Code::InvalidHandshake, "no handshake of version"),
        (beyond_the_frame, 0, Code::ProtocolViolation, "but at most 4096 are allowed"),
    ] {
        let refusal = present(papers, cut).await.expect_err(named);
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.reason.contains(named), "{refusal}");
    }
}

/// What the client makes of a node that answers its dial by hand, with the last word of that hand.
async fn answered<T>(
    client: &Network,
    answer: impl AsyncFnOnce(&Connection, Talk, &Session) -> T,
) -> (T, NetworkError) {
    let (secret, key) = (SecretKey::generate(), GroupKey::from_secret("key"));
    let congestion = Arc::new(BoundedCubic::new(Arc::new(SystemClock::new())));
    let alpns = vec![CLIENT_ALPN.to_vec()];
    let played =
        quic::bind(&Wire::Host(loopback()), &secret, alpns, congestion).await.expect("a port");
    let peer = Peer { id: secret.peer_id(), addresses: played.bound_sockets() };
    let answering = async {
        let incoming = played.accept().await.expect("it is up");
        let connection = incoming.await.expect("a TLS handshake");
        let mut talk = Talk::new(connection.accept_bi().await.expect("a stream"));
        talk.expect_preface(client.id()).await.expect("a preface");
        let hello: Hello = talk.hear().await.expect("a hello");
        let session = Session::of(&connection, secret.peer_id(), hello.group);
        answer(&connection, talk, &session).await
    };
    let dialing = client.dial_client(&peer, group(&key), &key, BOUND);
    let (last, dialed) = soon("an answer", async { tokio::join!(answering, dialing) }).await;
    (last, dialed.expect_err("nobody is let in"))
}

#[tokio::test]
async fn a_client_turns_a_node_of_another_version_away_by_name() {
    let (told, error) = answered(&node("n").await, async |connection, mut talk, _| {
        talk.sender.write_all(&[&MAGIC[..], &[9, 0]].concat()).await.expect("it is open");
        closed(connection).await
    })
    .await;
    assert_eq!((told.code, error.code()), (Code::DifferentVersion, Some(Code::DifferentVersion)));
    let named = format!("the peer speaks version 9, this node {VERSION}");
    assert!(error.to_string().contains(&named), "{error}");
}

#[tokio::test]
async fn a_client_holds_the_papers_of_its_node_against_the_same_limits() {
    let (told, error) = answered(&node("n").await, async |connection, mut talk, session| {
        let proof = session.proof(&GroupKey::from_secret("key"));
        let papers = Papers { tickets: vec![Bytes::new(); TICKETS_MAX + 1], ..papers() };
        talk.preface(NetworkId::of("n")).await.expect("it is open");
        talk.say(&Welcome { proof, card: None, papers }).await.expect("it is open");
        closed(connection).await
    })
    .await;
    assert_eq!((told.code, error.code()), (Code::InvalidHandshake, Some(Code::InvalidHandshake)));
    assert!(error.to_string().contains("5 tickets, but at most 4"), "{error}");
}

/// The client once took the end of the stream for the answer, if it came first.
#[tokio::test]
async fn a_reason_that_comes_after_the_end_of_the_stream_is_heard() {
    // Its patience with a reason never ends: a busy machine may come to it late.
    let client = builder("n").clock(Arc::new(Standing::default())).build().await;
    let client = client.expect("a free port on loopback");
    let (_, error) = answered(&client, async |connection, mut talk, _| {
        talk.sender.finish().expect("it is open");
        // The client has acknowledged the end: whatever comes now comes later.
        talk.sender.stopped().await.expect("it is connected");
        Code::NotAllowed.because("not today").close(connection);
    })
    .await;
    assert!(matches!(error, NetworkError::Closed { .. }), "{error}");
    assert_eq!(error.code(), Some(Code::NotAllowed), "{error}");
    assert!(error.to_string().contains("not today"), "{error}");
}

#[tokio::test]
async fn a_node_that_breaks_off_without_a_reason_is_waited_for_no_longer_than_need_be() {
    let (told, error) = answered(&node("n").await, async |connection, mut talk, _| {
        talk.sender.finish().expect("it is open");
        closed(connection).await
    })
    .await;
    assert!(matches!(error, NetworkError::Refused { .. }), "{error}");
    assert_eq!(Some(told.code), error.code(), "{error}");
}
