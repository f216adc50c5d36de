//! A chunk of the log as it travels, and the digest by which it is known.
//!
//! Knows no peer. Invariant: two logs with the same entries encode them alike, so that a leader
//! can vouch for a chunk that it does not send; what has not the digest that was vouched for is
//! not even decoded.

use bytes::Bytes;
use raft::{Entries, EntriesRef, Entry, EntryRef, Index, PackedBuilder, Payload, Position};

use crate::group::replay::{
    frame::Digest,
    packed::{Command, ENTRY_BYTES_MIN, Packer, Taken, Unpacker},
};

/// Where the chunk after this entry ends at the latest.
///
/// At a multiple of the size: so chunks are the same for whoever fetches, from wherever on.
pub(crate) fn end(after: Index, batch_size: u32) -> Index {
    let size = u64::from(batch_size);
    Index((after.0 / size).saturating_add(1).saturating_mul(size))
}

/// The entries, which lie together here and there, one after the other. Returns the place of the
/// last.
pub(crate) fn encode<'a>(
    pieces: impl Iterator<Item = EntriesRef<'a>>,
    bytes: &mut Vec<u8>,
) -> Option<Position> {
    bytes.clear();
    let (mut last, mut packer) = (None, Packer::default());
    for mut rest in pieces {
        while !rest.is_empty() {
            let (few, others) = rest.split_at(FEW.min(rest.len()));
            few.iter().for_each(touch);
            few.iter().for_each(|entry| packer.put(entry, bytes));
            last = few.last().map(|entry| entry.position);
            rest = others;
        }
    }
    last
}

/// Has a command brought near by the time that it is copied.
///
/// Commands that are not packed lie apart, mostly where nobody has looked for long: to wait for each in turn was
/// half of what a chunk cost. None of these waits for another.
fn touch(entry: EntryRef<'_>) {
    if let Payload::Command { command, .. } = entry.payload {
        std::hint::black_box((command.first().copied(), command.last().copied()));
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
pub(crate) fn decode(prev: Position, last: Position, chunk: &Bytes) -> Option<Entries> {
    let count = usize::try_from(last.index.since(prev.index)).ok()?;
    // Nothing is set aside for entries that cannot be there.
    let room = count.min(chunk.len() / ENTRY_BYTES_MIN);
    let first = Position { term: last.term, index: prev.index.next() };
    let mut run = PackedBuilder::new(first, chunk.clone(), room);
    let (mut unpacker, mut rest): (_, &[u8]) = (Unpacker::after(prev.index), chunk);
    while !rest.is_empty() {
        let taken = unpacker.take_command(rest);
        let in_term = taken.filter(|(command, _)| command.position.term == first.term);
        // They are no run of commands of one term, or no entries.
        let Some((Command { request, floor, command, .. }, behind)) = in_term else {
            drop(run);
            return decode_singly(prev, last, chunk);
        };
        let at = chunk.len() - behind.len() - command.len();
        if !run.push(request, floor, at, command.len()) {
            return None;
        }
        rest = behind;
    }
    let entries = run.build();
    (entries.len() == count && count > 0).then_some(entries)
}

/// As [`decode`], whatever the entries are.
fn decode_singly(prev: Position, last: Position, chunk: &Bytes) -> Option<Entries> {
    let count = usize::try_from(last.index.since(prev.index)).ok()?;
    let mut entries: Vec<Entry> = Vec::with_capacity(count.min(chunk.len() / ENTRY_BYTES_MIN));
    let (mut unpacker, mut rest): (_, &[u8]) = (Unpacker::after(prev.index), chunk);
    while !rest.is_empty() {
        let (taken, behind) = unpacker.take(rest)?;
        entries.push(match taken {
            Taken::Whole(entry) => entry,
            Taken::Command(Command { position, request, floor, command }) => {
                let command = chunk.slice_ref(command);
                let payload = Payload::Command { request, floor, command };
                Entry { position, payload }
            }
        });
        rest = behind;
    }
    let reaches = entries.last().map(|entry| entry.position) == Some(last);
    (reaches && entries.len() == count).then(|| entries.into())
}

/// Entries whose commands are brought near together.
const FEW: usize = 16;
/// Sets these hashes apart from all others.
const CONTEXT: &str = "tessera 2026 chunk of a replicated log";

#[cfg(test)]
mod tests {
    use raft::{Configuration, NodeId, RequestId, SessionId, Term};

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
            encode([EntriesRef::from(entries)].into_iter(), &mut encoded),
            entries.last().map(|entry| entry.position)
        );
        encoded.into()
    }

    #[test]
    fn chunks_end_at_the_same_entries_wherever_they_begin() {
        let ends = |size| [0, 1, 1_999, 2_000, u64::MAX].map(|after| end(Index(after), size).0);
        assert_eq!(ends(2_000), [2_000, 2_000, 2_000, 4_000, u64::MAX]);
        assert_eq!(ends(1), [1, 2, 2_000, 2_001, u64::MAX]);
    }

    #[test]
    fn a_chunk_comes_back_whole_or_not_at_all() {
        // Of several terms they stand singly, of one packed.
        for terms in [[1, 1, 2, 3], [3; 4]] {
            let entries = entries(&terms);
            let bytes = encoded(&entries);
            let (prev, last) = (Position::default(), entries[3].position);
            let decoded = decode(prev, last, &bytes).expect("a chunk");
            assert_eq!(decoded.to_vec(), entries);
            let plain = |entries: &Entries| postcard::to_stdvec(entries).expect("plain values");
            assert_eq!(plain(&decoded), plain(&entries.clone().into()));
            assert_eq!(plain(&decoded), postcard::to_stdvec(&entries).expect("plain values"));
            assert_eq!(decode(entries[0].position, last, &bytes), None, "one too many");
            assert_eq!(decode(prev, entries[2].position, &bytes), None, "it goes on");
            let other = Position { term: Term(2), ..last };
            assert_eq!(decode(prev, other, &bytes), None, "of another term");
            assert_eq!(decode(prev, last, &bytes.slice(..bytes.len() - 1)), None);
            assert_eq!(decode(prev, last, &Bytes::new()), None);
        }
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
        assert_eq!(decoded, Some(entries.into()));
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
