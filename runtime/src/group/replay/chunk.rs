//! A chunk of the log as it travels, and the digest by which it is known.
//!
//! Knows no peer. Invariant: two logs with the same entries encode them alike, so that a leader
//! can vouch for a chunk that it does not send; what has not the digest that was vouched for is
//! not even decoded.

use bytes::Bytes;
use raft::{Entry, Position};

use crate::{
    encoded::{self, ENTRY_BYTES_MIN},
    group::replay::frame::Digest,
};

/// The entries, one after the other. Returns the place of the last.
pub(crate) fn encode<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    encoded: &mut Vec<u8>,
) -> Option<Position> {
    encoded.clear();
    let mut last = None;
    for entry in entries {
        match &entry.payload {
            Payload::Command { request, floor, command } => {
                let head = Head { position: entry.position, request: *request, floor: *floor };
                head.encode(command, encoded);
            }
            _ => {
                let taken = std::mem::take(encoded);
                *encoded = postcard::to_extend(entry, taken).expect("plain values always encode");
            }
        }
        last = Some(entry.position);
    }
    last
}

/// What stands before a command. Nearly all of a chunk is commands, and a tenth of a catch-up was
/// spent on encoding them byte by byte: this says the same in one piece.
struct Head {
    position: Position,
    request: RequestId,
    floor: u64,
}

impl Head {
    fn encode(self, command: &[u8], encoded: &mut Vec<u8>) {
        let Self { position, request, floor } = self;
        let mut head = [0; HEAD_BYTES_MAX];
        let mut length = 0;
        let mut put = |mut number: u64| {
            // As postcard has it: seven bits in a byte, the lowest first.
            while number >= 0x80 {
                head[length] = number as u8 | 0x80;
                number >>= 7;
                length += 1;
            }
            head[length] = number as u8;
            length += 1;
        };
        put(position.term.0);
        put(position.index.0);
        put(COMMAND);
        put(request.session.0.0);
        put(request.sequence);
        put(floor);
        put(command.len() as u64);
        encoded.reserve(length + command.len());
        encoded.extend_from_slice(&head[..length]);
        encoded.extend_from_slice(command);
    }
}

/// What the chunk after `prev` comes to.
pub(crate) fn digest(prev: Position, encoded: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&prev.term.0.to_le_bytes());
    hasher.update(&prev.index.0.to_le_bytes());
    hasher.update(encoded);
    *hasher.finalize().as_bytes()
}

/// The entries of a chunk that reaches from `prev` to `last`; `None` if it does not.
///
/// Their commands are parts of it and no copies: it stays in memory until the last of them goes,
/// and logs let go of neighbours together.
pub(crate) fn decode(prev: Position, last: Position, chunk: &Bytes) -> Option<Vec<Entry>> {
    let count = usize::try_from(last.index.since(prev.index)).ok()?;
    // Nothing is set aside for entries that cannot be there.
    let mut entries: Vec<Entry> = Vec::with_capacity(count.min(chunk.len() / ENTRY_BYTES_MIN));
    let mut rest: &[u8] = chunk;
    while !rest.is_empty() {
        rest = encoded::take(rest, &mut entries, |command| chunk.slice_ref(command)).ok()?;
    }
    let reaches = entries.last().map(|entry| entry.position) == Some(last);
    (reaches && entries.len() == count).then_some(entries)
}

/// Seven numbers of up to ten bytes.
const HEAD_BYTES_MAX: usize = 70;
/// The place of a command among the payloads.
const COMMAND: u64 = 2;
/// Sets these hashes apart from all others.
const CONTEXT: &str = "tessera 2026 chunk of a replicated log";

#[cfg(test)]
mod tests {
    use raft::{Configuration, Index, NodeId, Payload, RequestId, SessionId, Term};

    use super::*;

    fn entries(terms: &[u64]) -> Vec<Entry> {
        let entry = |(index, term): (u64, &u64)| {
            let request = RequestId { session: SessionId(Index(1)), sequence: index };
            let command = Bytes::from(vec![7; index as usize]);
            Entry {
                position: Position { term: Term(*term), index: Index(index) },
                payload: Payload::Command { request, floor: 0, command },
            }
        };
        (1..).zip(terms).map(entry).collect()
    }

    fn encoded(entries: &[Entry]) -> Bytes {
        let mut encoded = vec![9; 4];
        assert_eq!(
            encode(entries.iter(), &mut encoded),
            entries.last().map(|entry| entry.position)
        );
        encoded.into()
    }

    #[test]
    fn a_chunk_comes_back_whole_or_not_at_all() {
        let entries = entries(&[1, 1, 2, 3]);
        let bytes = encoded(&entries);
        let (prev, last) = (Position::default(), entries[3].position);
        assert_eq!(decode(prev, last, &bytes), Some(entries.clone()));
        assert_eq!(decode(entries[0].position, last, &bytes), None, "one too many");
        assert_eq!(decode(prev, entries[2].position, &bytes), None, "it goes on");
        assert_eq!(decode(prev, last, &bytes.slice(..bytes.len() - 1)), None);
        assert_eq!(decode(prev, last, &Bytes::new()), None);
    }

    #[test]
    fn whatever_an_entry_may_hold_comes_back() {
        let request = RequestId { session: SessionId(Index(3)), sequence: 1 << 40 };
        let configuration = Configuration {
            voters: [1, 2].map(NodeId::small).into(),
            learners: [NodeId::small(3)].into(),
        };
        let payloads = [
            Payload::Noop,
            Payload::OpenSession { nonce: u64::MAX },
            Payload::Command { request, floor: 9, command: Bytes::from_static(b"command") },
            Payload::Command { request, floor: 0, command: Bytes::new() },
            Payload::Configuration(configuration),
        ];
        let at = |index| Position { term: Term(2), index: Index(index) };
        let entry = |(index, payload)| Entry { position: at(index), payload };
        let entries: Vec<Entry> = (1..).zip(payloads).map(entry).collect();
        let decoded = decode(Position::default(), at(5), &encoded(&entries));
        assert_eq!(decoded, Some(entries));
    }

    #[test]
    fn a_command_is_encoded_as_anything_else_is() {
        let numbers = [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, 1 << 35, u64::MAX];
        for (place, number) in numbers.into_iter().enumerate() {
            let other = numbers[numbers.len() - 1 - place];
            let position = Position { term: Term(number), index: Index(other) };
            let request = RequestId { session: SessionId(Index(number)), sequence: other };
            for command in [Bytes::new(), vec![7; 200].into(), vec![0xff; 20_000].into()] {
                let payload = Payload::Command { request, floor: number, command };
                let entry = Entry { position, payload };
                let plain = postcard::to_stdvec(&entry).expect("plain");
                assert_eq!(encoded(&[entry]), plain, "{number} and {other}");
            }
        }
    }

    #[test]
    fn the_digest_is_of_every_entry_and_of_where_they_stand() {
        let prev = Position::default();
        let whole = encoded(&entries(&[1, 1, 2]));
        let known = digest(prev, &whole);
        assert_eq!(digest(prev, &encoded(&entries(&[1, 1, 2]))), known);
        for other in [&[1, 1, 3][..], &[1, 1], &[1, 1, 2, 2], &[]] {
            assert_ne!(digest(prev, &encoded(&entries(other))), known, "{other:?}");
        }
        let elsewhere = Position { term: Term(1), index: Index(1) };
        assert_ne!(digest(elsewhere, &whole), known);
        for at in 0..whole.len() {
            let mut flipped = whole.to_vec();
            flipped[at] ^= 1;
            assert_ne!(digest(prev, &flipped), known, "byte {at}");
        }
    }
}
