//! An entry as it stands among others in a record on disk, or in a chunk on the wire.
//!
//! Knows neither records nor chunks. Invariant: what is put is what serde makes of an [`Entry`],
//! what is taken is what serde takes for one, and what it refuses is refused for the same reason;
//! but a command is put in one piece, and taken without a copy unless the caller makes one.

use bytes::Bytes;
use raft::{Configuration, Entry, EntryRef, Index, Payload, Position, RequestId, SessionId, Term};
use serde::Deserialize;

/// Adds the entry to the bytes.
pub(crate) fn put(entry: EntryRef<'_>, bytes: &mut Vec<u8>) {
    let Payload::Command { request, floor, command } = entry.payload else {
        let taken = std::mem::take(bytes);
        *bytes = postcard::to_extend(&entry, taken).expect("plain values always encode");
        return;
    };
    // Nearly all entries are commands, and a tenth of a catch-up went into encoding them byte by
    // byte.
    let (position, session) = (entry.position, request.session.0);
    let (term, index, length) = (position.term.0, position.index.0, command.len() as u64);
    let numbers = [term, index, COMMAND, session.0, request.sequence, floor, length];
    let mut head = Numbers::default();
    numbers.into_iter().for_each(|number| head.put(number));
    head.before(command, bytes);
}

/// Numbers that stand before a command.
pub(crate) struct Numbers {
    bytes: [u8; HEAD_BYTES_MAX],
    count: usize,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { bytes: [0; HEAD_BYTES_MAX], count: 0 }
    }
}

impl Numbers {
    /// Adds one as postcard has it: seven bits in a byte, the lowest first.
    pub(crate) fn put(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes[self.count] = number as u8 | 0x80;
            number >>= 7;
            self.count += 1;
        }
        self.bytes[self.count] = number as u8;
        self.count += 1;
    }

    /// Adds them and the command to the bytes.
    pub(crate) fn before(&self, command: &[u8], bytes: &mut Vec<u8>) {
        bytes.reserve(self.count + command.len());
        bytes.extend_from_slice(&self.bytes[..self.count]);
        bytes.extend_from_slice(command);
    }
}

/// Moves the entry that the bytes begin with behind the others; yields the bytes after it.
/// `own` makes a command of the part of them that is one.
pub(crate) fn take<'a>(
    bytes: &'a [u8],
    entries: &mut Vec<Entry>,
    own: impl FnOnce(&'a [u8]) -> Bytes,
) -> postcard::Result<&'a [u8]> {
    if let Some((Head { position, request, floor, length }, behind)) = Head::take(bytes)
        && let Some((command, behind)) = behind.split_at_checked(length)
    {
        let command = own(command);
        entries.push(Entry { position, payload: Payload::Command { request, floor, command } });
        return Ok(behind);
    }
    let (Encoded { position, payload }, behind) = postcard::take_from_bytes(bytes)?;
    let payload = match payload {
        EncodedPayload::Noop => Payload::Noop,
        EncodedPayload::OpenSession { nonce } => Payload::OpenSession { nonce },
        EncodedPayload::Command { request, floor, command } => {
            Payload::Command { request, floor, command: own(command) }
        }
        EncodedPayload::Configuration(configuration) => Payload::Configuration(configuration),
    };
    entries.push(Entry { position, payload });
    Ok(behind)
}

/// What stands before a command. Nearly all entries are commands, so it is read here.
struct Head {
    position: Position,
    request: RequestId,
    floor: u64,
    length: usize,
}

impl Head {
    /// `None` for all that is not plainly the head of a command: serde knows what it is.
    fn take(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (term, bytes) = number(bytes)?;
        let (index, bytes) = number(bytes)?;
        let (kind, bytes) = bytes.split_first()?;
        if u64::from(*kind) != COMMAND {
            return None;
        }
        let (session, bytes) = number(bytes)?;
        let (sequence, bytes) = number(bytes)?;
        let (floor, bytes) = number(bytes)?;
        let (length, bytes) = number(bytes)?;
        let position = Position { term: Term(term), index: Index(index) };
        let request = RequestId { session: SessionId(Index(session)), sequence };
        Some((Self { position, request, floor, length: usize::try_from(length).ok()? }, bytes))
    }
}

/// The number that the bytes begin with, and what is after it; `None` if there is none, or one
/// that is too large.
pub(crate) fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (place, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            // Of the tenth byte there is room for one bit.
            return (place < 9 || *byte < 2).then(|| (number, &bytes[place + 1..]));
        }
    }
    None
}

/// An [`Entry`] whose command is still where it was found.
#[derive(Deserialize)]
struct Encoded<'a> {
    position: Position,
    #[serde(borrow)]
    payload: EncodedPayload<'a>,
}

#[derive(Deserialize)]
enum EncodedPayload<'a> {
    Noop,
    OpenSession { nonce: u64 },
    Command { request: RequestId, floor: u64, command: &'a [u8] },
    Configuration(Configuration),
}

/// Seven numbers of up to ten bytes.
const HEAD_BYTES_MAX: usize = 70;
/// The place of a command among the payloads.
const COMMAND: u64 = 2;

#[cfg(test)]
mod tests {
    use fuzz::Target;
    use raft::NodeId;

    use super::*;

    fn payloads() -> Vec<Payload> {
        let configuration = Configuration {
            voters: [1, 2].map(NodeId::small).into(),
            learners: [NodeId::small(3)].into(),
        };
        let mut payloads = vec![Payload::Noop, Payload::Configuration(configuration)];
        for number in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, 1 << 56, (1 << 63) - 1, 1 << 63, u64::MAX]
        {
            payloads.push(Payload::OpenSession { nonce: number });
            for length in [0, 1, 0x7f, 0x80, 300] {
                let request = RequestId { session: SessionId(Index(number)), sequence: number };
                let command = vec![length as u8; length].into();
                payloads.push(Payload::Command { request, floor: number, command });
            }
        }
        payloads
    }

    fn entries() -> Vec<Entry> {
        let numbers = [(0, 0), (1, 1), (0x80, 0x4000), (u64::MAX, u64::MAX)];
        let entries = numbers.into_iter().flat_map(|(term, index)| {
            let position = Position { term: Term(term), index: Index(index) };
            payloads().into_iter().map(move |payload| Entry { position, payload })
        });
        entries.collect()
    }

    /// One entry and what is behind it, as it is taken here and as serde takes it.
    fn both(bytes: &[u8]) -> [postcard::Result<(Entry, &[u8])>; 2] {
        let mut entries = Vec::new();
        let taken = take(bytes, &mut entries, Bytes::copy_from_slice);
        assert_eq!(entries.len(), usize::from(taken.is_ok()), "one entry or none");
        let taken = taken.map(|behind| (entries.remove(0), behind));
        [taken, postcard::take_from_bytes(bytes)]
    }

    #[test]
    fn whatever_an_entry_may_hold_is_taken_as_serde_takes_it() {
        for entry in entries() {
            let plain = postcard::to_stdvec(&entry).expect("plain values always encode");
            let mut bytes = vec![9];
            put(entry.view(), &mut bytes);
            assert_eq!(bytes[1..], plain, "{entry:?}, behind another");
            let mut bytes = plain;
            for length in 0..bytes.len() {
                let [taken, expected] = both(&bytes[..length]);
                assert_eq!(taken, expected, "{entry:?} cut to {length} bytes");
            }
            bytes.extend([1, 2, 3]);
            assert_eq!(both(&bytes)[0], Ok((entry, &[1, 2, 3][..])));
        }
    }

    #[test]
    fn garbage_is_taken_or_refused_as_serde_does_it() {
        let valid: Vec<Vec<u8>> = entries()
            .iter()
            .map(|entry| postcard::to_stdvec(entry).expect("plain values always encode"))
            .collect();
        let target = Target {
            name: "entries",
            command: "cargo test -p runtime --lib encoded",
            inputs: 50_000,
            heap_bytes_max: (1 << 14, 64),
        };
        let mut counts = [0, 0];
        let is_full = target.throw(
            [],
            |draws| {
                let mut bytes = draws.one_of(&valid).clone();
                draws.garble(&mut bytes, &valid, &[]);
                bytes
            },
            |bytes: &Vec<u8>| {
                let [taken, expected] = both(bytes);
                assert_eq!(taken, expected);
                counts[usize::from(taken.is_ok())] += 1;
            },
        );
        assert!(!is_full || counts.iter().all(|count| *count > 100), "refused, taken: {counts:?}");
    }
}
