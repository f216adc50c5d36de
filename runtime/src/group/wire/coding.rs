//! Members' frames as bytes.
//!
//! Invariant: the bytes are those that serde makes of a frame, and what serde refuses is refused;
//! but the entries of a chunk, which are nearly all that a catch-up moves, are never copied.

use bytes::Bytes;

use crate::{
    encoded::{Numbers, number},
    group::{replay::ReplayFrame, wire::MemberFrame},
};

/// Adds the frame to the bytes. What is to stand behind them is given back apart if it is large.
pub(crate) fn encode(frame: &MemberFrame, bytes: Vec<u8>) -> (Vec<u8>, Bytes) {
    let MemberFrame::Replay(ReplayFrame::Entries { id, entries }) = frame else {
        return (put(frame, bytes), Bytes::new());
    };
    if entries.len() < APART_BYTES_MIN {
        return (put(frame, bytes), Bytes::new());
    }
    let none = ReplayFrame::Entries { id: *id, entries: Bytes::new() };
    let mut head = put(&MemberFrame::Replay(none), bytes);
    // In place of how many none are.
    head.pop();
    let mut length = Numbers::default();
    length.put(entries.len() as u64);
    length.before(&[], &mut head);
    (head, entries.clone())
}

/// The frame that the bytes are.
///
/// # Errors
/// Bytes that are none.
pub(crate) fn decode(bytes: &Bytes) -> postcard::Result<MemberFrame> {
    match entries(bytes) {
        Some(frame) => Ok(MemberFrame::Replay(frame)),
        None => postcard::from_bytes(bytes),
    }
}

/// `None` for all that is not plainly a chunk: serde knows what it is.
fn entries(bytes: &Bytes) -> Option<ReplayFrame> {
    let (id, rest) = number(bytes.strip_prefix(&ENTRIES)?)?;
    let (length, rest) = number(rest)?;
    // Whatever stood behind them would be kept with them.
    let is_all = u64::try_from(rest.len()) == Ok(length);
    is_all.then(|| ReplayFrame::Entries { id, entries: bytes.slice_ref(rest) })
}

fn put(frame: &MemberFrame, bytes: Vec<u8>) -> Vec<u8> {
    postcard::to_extend(frame, bytes).expect("frames are plain values and always encode")
}

/// Fewer are copied: what waits apart takes more than itself, and many small pieces much more.
const APART_BYTES_MIN: usize = 4 << 10;
/// The places of [`MemberFrame::Replay`] and [`ReplayFrame::Entries`] among others of their kind.
const ENTRIES: [u8; 2] = [8, 5];

#[cfg(test)]
mod tests {
    use raft::Index;

    use super::*;

    fn chunk(id: u64, length: usize) -> MemberFrame {
        MemberFrame::Replay(ReplayFrame::Entries { id, entries: vec![7; length].into() })
    }

    #[test]
    fn a_frame_is_what_serde_makes_of_it() {
        let asked = ReplayFrame::Fetch { id: 300, after: Index(7), last: Index(9) };
        let mut frames = vec![MemberFrame::Ping, MemberFrame::Leave, MemberFrame::Replay(asked)];
        for id in [0, 0x7f, 0x80, u64::MAX] {
            let lengths = [0, 1, 0x7f, 0x80, APART_BYTES_MIN - 1, APART_BYTES_MIN, 70_000];
            frames.extend(lengths.map(|length| chunk(id, length)));
        }
        for frame in frames {
            let plain = postcard::to_stdvec(&frame).expect("plain values always encode");
            let (head, body) = encode(&frame, vec![9]);
            assert_eq!([&head[1..], &body].concat(), plain, "{frame:?}, behind another byte");
            let expected = match &frame {
                MemberFrame::Replay(ReplayFrame::Entries { entries, .. }) => entries.len(),
                _ => 0,
            };
            let expected = if expected < APART_BYTES_MIN { 0 } else { expected };
            assert_eq!(body.len(), expected, "what is large is apart, and nothing else");
            assert_eq!(decode(&plain.into()), Ok(frame));
        }
    }

    #[test]
    fn a_chunk_is_not_copied_and_no_longer_than_its_bytes() {
        let chunk = chunk(1, 1_000);
        let plain = Bytes::from(postcard::to_stdvec(&chunk).expect("plain values always encode"));
        let place = plain.as_ptr_range();
        let Ok(MemberFrame::Replay(ReplayFrame::Entries { entries, .. })) = decode(&plain) else {
            panic!("it is a chunk")
        };
        assert!(place.contains(&entries.as_ptr()), "it is where it came");
        let more = Bytes::from([&plain[..], &[0; 9]].concat());
        let Ok(MemberFrame::Replay(ReplayFrame::Entries { entries, .. })) = decode(&more) else {
            panic!("it is a chunk, and more")
        };
        assert!(!more.as_ptr_range().contains(&entries.as_ptr()), "the rest is not kept");
        for length in 0..plain.len() {
            assert_eq!(
                decode(&plain.slice(..length)),
                postcard::from_bytes(&plain[..length]),
                "cut to {length} bytes"
            );
        }
    }
}
