//! Garbage for whatever reads a stream before its sender is known: frames, hellos, welcomes.

use bytes::Bytes;
use fuzz::Target;
use raft::StoreId;
use serde::Serialize;

use super::{
    Card, Hello, HelloRole, MemberHello, Welcome,
    framing::{CHUNK_BYTES_MAX, Deframer, HEADER_BYTES, header},
    handshake::{UNPROVEN_BYTES_MAX, decode},
    papers::{EXTENSION_BYTES_MAX, Extension, Papers, TICKET_BYTES_MAX},
};
use crate::{ConsensusConfig, GroupId, GroupKey, Lineage};

const COMMAND: &str = "cargo test -p runtime --lib garbage";

fn papers() -> Papers {
    let extension = |kind| Extension { kind, content: vec![7; EXTENSION_BYTES_MAX].into() };
    Papers {
        tickets: vec![vec![7; TICKET_BYTES_MAX].into(), Bytes::new()],
        extensions: vec![extension(1), extension(300)],
    }
}

/// What members and clients say and hear first.
fn words() -> Vec<Vec<u8>> {
    let key = GroupKey::from_secret("garbage");
    let group = GroupId::of(&key, "machine", &ConsensusConfig::default());
    let lineage = Some(Lineage::of(group, &raft::Configuration::default()));
    let proof = [7; 32];
    let mut words = Vec::new();
    for lineage in [None, lineage] {
        let card = Card { lineage, dissolves: true, store: StoreId(u128::MAX), nonce: u64::MAX };
        let member = MemberHello { card: card.clone(), attempt: 300, lost: Some(7) };
        for papers in [Papers::default(), papers()] {
            for role in [HelloRole::Client, HelloRole::Member(member.clone())] {
                words.push(encoded(&Hello { group, proof, role, papers: papers.clone() }));
            }
            words.push(encoded(&Welcome { proof, card: Some(card.clone()), papers }));
        }
    }
    words
}

fn encoded(words: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(words).expect("plain values always encode")
}

#[test]
fn garbage_in_a_handshake_is_refused_in_words_that_fit() {
    let samples = words();
    let target = Target {
        name: "handshake",
        command: COMMAND,
        inputs: 50_000,
        // Lists are made room for before they are read, within reason.
        heap_bytes_max: (64 << 10, 16),
    };
    target.throw(
        [],
        |draws| draws.garbled(&samples, &[]),
        |frame| {
            let hello = decode::<Hello>(frame).and_then(|hello| hello.papers.check());
            let welcome = decode::<Welcome>(frame).and_then(|welcome| welcome.papers.check());
            for refusal in [hello, welcome].into_iter().filter_map(Result::err) {
                assert!(!refusal.reason.is_empty(), "{refusal}");
            }
        },
    );
}

/// A frame limit between those of strangers and of members.
const FRAME_BYTES_MAX: usize = UNPROVEN_BYTES_MAX;

#[test]
fn garbage_in_a_stream_yields_frames_within_the_limit_or_ends_it() {
    let framed = |words: &[u8]| [&header(words.len())[..], words].concat();
    let mut samples: Vec<Vec<u8>> = words().iter().map(|words| framed(words)).collect();
    samples.push(samples.concat());
    samples.push(framed(&[]).repeat(50));
    samples.push(framed(&vec![7; FRAME_BYTES_MAX]));
    let target = Target {
        name: "frames",
        command: COMMAND,
        inputs: 30_000,
        // One frame, grown into by doubling, and the chunk.
        heap_bytes_max: (3 * FRAME_BYTES_MAX, 2),
    };
    target.throw(
        [],
        |draws| {
            let mut stream = draws.garbled(&samples, &[]);
            // The first byte says how it is cut into chunks.
            stream.insert(0, draws.number() as u8);
            stream
        },
        |input| {
            let Some((cut, stream)) = input.split_first() else { return };
            let chunk_bytes = match cut {
                0 => CHUNK_BYTES_MAX,
                cut => usize::from(*cut),
            };
            let mut deframer = Deframer::new(FRAME_BYTES_MAX);
            let mut taken = 0;
            for chunk in stream.chunks(chunk_bytes) {
                deframer.push(Bytes::copy_from_slice(chunk));
                loop {
                    match deframer.next() {
                        Ok(Some(frame)) => {
                            assert!(frame.len() <= FRAME_BYTES_MAX, "{} bytes", frame.len());
                            taken += HEADER_BYTES + frame.len();
                        }
                        Ok(None) => break,
                        Err(oversized) => {
                            assert!(oversized.bytes > FRAME_BYTES_MAX, "{oversized:?}");
                            return;
                        }
                    }
                }
            }
            assert!(taken <= stream.len(), "{taken} bytes of {}", stream.len());
        },
    );
}
