//! How one record looks on disk.
//!
//! A record is a header of 40 bytes, its body, and zeros up to a multiple of 8. The header says
//! what the record is, where it stands in the stream, and through which record the stream was
//! known to be durable when it was written; that last number is what tells damage from a torn
//! tail. Integers are little-endian. Knows no files.
//!
//! Invariant: a header is valid in one place only. Its checksum covers store, segment and offset,
//! so that neither a stale copy nor a command that imitates a header can pass for one.

use bytes::Bytes;
use raft::{Entry, Index, StoreId};
use serde::{Serialize, de::DeserializeOwned};

use crate::encoded;

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// How the group began.
    Founding,
    /// Term and vote.
    HardState,
    /// A suffix of the log.
    Entries,
    /// Nothing but the word that everything before it is durable.
    Seal,
    /// The stream goes on in the next segment.
    End,
    /// What stands before is void: from here on it is another store, of the id in the body.
    Renewal,
    /// The store belongs to a new lineage, whose configuration is in the body.
    Forced,
}

/// The head of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// The body's length without the zeros after it.
    pub(crate) body_bytes: u32,
    /// Counts the records of the stream from 1.
    pub(crate) sequence: u64,
    /// All records through this one were durable before this record was written.
    pub(crate) durable: u64,
    /// The header's checksum of the record before; 0 at the start of the stream.
    pub(crate) previous: u32,
    /// The checksum of body and zeros.
    pub(crate) body_checksum: u32,
}

/// Where a record stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) store: StoreId,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

impl Header {
    /// The bytes of the header, and their checksum for the next record's `previous`.
    pub(crate) fn encode(&self, place: Place) -> ([u8; HEADER_BYTES], u32) {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[8] = self.kind.code();
        bytes[12..16].copy_from_slice(&self.previous.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.durable.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.body_checksum.to_le_bytes());
        let checksum = place.checksum(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
        (bytes, checksum)
    }

    /// The header that these bytes are in this place, and its checksum.
    pub(crate) fn decode(bytes: &[u8], place: Place) -> Option<(Self, u32)> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        if bytes[0..4] != MAGIC {
            return None;
        }
        let checksum = u32_at(bytes, CHECKED_BYTES)?;
        if place.checksum(&bytes[..CHECKED_BYTES]) != checksum {
            return None;
        }
        let header = Self {
            kind: Kind::of(bytes[8])?,
            body_bytes: u32_at(bytes, 4)?,
            sequence: u64_at(bytes, 16)?,
            durable: u64_at(bytes, 24)?,
            previous: u32_at(bytes, 12)?,
            body_checksum: u32_at(bytes, 32)?,
        };
        let fits = header.body_bytes <= BODY_BYTES_MAX && header.durable < header.sequence;
        fits.then_some((header, checksum))
    }

    /// The length of body and zeros.
    pub(crate) fn padded_bytes(&self) -> u64 {
        u64::from(self.body_bytes).next_multiple_of(ALIGNMENT_BYTES)
    }
}

impl Place {
    fn checksum(self, bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.store.0.to_le_bytes());
        hasher.update(&self.segment.to_le_bytes());
        hasher.update(&self.offset.to_le_bytes());
        hasher.update(bytes);
        hasher.finalize()
    }
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Founding => 1,
            Self::HardState => 2,
            Self::Entries => 3,
            Self::Seal => 4,
            Self::End => 5,
            Self::Renewal => 6,
            Self::Forced => 7,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Founding,
            2 => Self::HardState,
            3 => Self::Entries,
            4 => Self::Seal,
            5 => Self::End,
            6 => Self::Renewal,
            7 => Self::Forced,
            _ => return None,
        })
    }
}

/// Puts the value's bytes, and zeros up to the alignment, in place of what the buffer held;
/// yields the length without the zeros.
pub(crate) fn encode_body(value: &impl Serialize, buffer: &mut Vec<u8>) -> Result<u32, String> {
    buffer.clear();
    *buffer = postcard::to_extend(value, std::mem::take(buffer))
        .map_err(|error| format!("the record cannot be encoded: {error}"))?;
    let length = u32::try_from(buffer.len()).ok().filter(|length| *length <= BODY_BYTES_MAX);
    let length = length.ok_or_else(|| {
        format!("a record of {} bytes; allowed are {BODY_BYTES_MAX}", buffer.len())
    })?;
    buffer.resize(buffer.len().next_multiple_of(ALIGNMENT_BYTES as usize), 0);
    Ok(length)
}

/// The value that a body is, whole.
pub(crate) fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let (value, rest) = postcard::take_from_bytes(body).map_err(|error| undecoded(&error))?;
    refuse_more(rest).map(|()| value)
}

/// What the body of a record of entries begins with: the index that they follow, and how many
/// there are; and the bytes behind that.
pub(crate) fn decode_entries_head(body: &[u8]) -> Result<(Index, u64, &[u8]), String> {
    let ((after, count), rest) =
        postcard::take_from_bytes(body).map_err(|error| undecoded(&error))?;
    Ok((after, count, rest))
}

/// Adds the entries that the rest of the body is, which shall be so many.
///
/// Their commands are parts of the body and no copies: it stays in memory until the last of them
/// goes, or the log packs them. It is one record, of 1 MiB or one entry, and logs let go of
/// neighbours together.
pub(crate) fn decode_entries(
    body: &Bytes,
    mut rest: &[u8],
    count: u64,
    entries: &mut Vec<Entry>,
) -> Result<(), String> {
    for _ in 0..count {
        let taken = encoded::take(rest, entries, |command| body.slice_ref(command));
        rest = taken.map_err(|error| undecoded(&error))?;
    }
    refuse_more(rest)
}

fn undecoded(error: &postcard::Error) -> String {
    format!("the record cannot be decoded: {error}")
}

fn refuse_more(rest: &[u8]) -> Result<(), String> {
    if rest.is_empty() { Ok(()) } else { Err(format!("{} bytes too many", rest.len())) }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

/// The version of everything in a store: marker, segments, records and their bodies.
/// 2: a session in a snapshot remembers what it was opened with.
pub(crate) const VERSION: u32 = 2;
pub(crate) const HEADER_BYTES: usize = 40;
pub(crate) const ALIGNMENT_BYTES: u64 = 8;
/// A command of the greatest size that a configuration allows (64 MiB) fits in with its entry.
pub(crate) const BODY_BYTES_MAX: u32 = 128 << 20;

const CHECKED_BYTES: usize = HEADER_BYTES - 4;
const MAGIC: [u8; 4] = *b"TsRc";

#[cfg(test)]
mod tests {
    use raft::{Configuration, NodeId, Payload, Position, Term};

    use super::*;
    use crate::storage::samples::entry;

    const PLACE: Place = Place { store: StoreId(9), segment: 3, offset: 64 };
    const HEADER: Header = Header {
        kind: Kind::Entries,
        body_bytes: 13,
        sequence: 8,
        durable: 5,
        previous: 77,
        body_checksum: 99,
    };

    #[test]
    fn a_header_is_valid_in_its_own_place_only() {
        let (bytes, checksum) = HEADER.encode(PLACE);
        assert_eq!(Header::decode(&bytes, PLACE), Some((HEADER, checksum)));
        assert_eq!(HEADER.padded_bytes(), 16);
        for place in [
            Place { store: StoreId(8), ..PLACE },
            Place { segment: 4, ..PLACE },
            Place { offset: 72, ..PLACE },
        ] {
            assert_eq!(Header::decode(&bytes, place), None, "{place:?}");
        }
        assert_eq!(Header::decode(&bytes[..HEADER_BYTES - 1], PLACE), None);
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let (bytes, _) = HEADER.encode(PLACE);
        for bit in 0..8 * HEADER_BYTES {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&damaged, PLACE), None, "bit {bit}");
        }
    }

    #[test]
    fn a_body_decodes_whole_or_not_at_all() {
        let mut body = Vec::new();
        let length = encode_body(&(1u8, 300u16), &mut body).expect("small") as usize;
        assert_eq!((length, body.len()), (3, 8));
        assert_eq!(decode_body::<(u8, u16)>(&body[..length]), Ok((1, 300)));
        decode_body::<(u8, u16)>(&body[..length - 1]).expect_err("too short");
        decode_body::<(u8, u16)>(&body).expect_err("too long");
        // A length that the bytes cannot hold is no reason to allocate it.
        decode_body::<Vec<u64>>(&[0xff, 0xff, 0xff, 0xff, 0x0f]).expect_err("4 G elements");
    }

    /// A body of entries as it is decoded here, and as serde does it whole.
    fn both(body: &[u8]) -> [Result<(Index, Vec<Entry>), String>; 2] {
        let body = Bytes::copy_from_slice(body);
        let decode = || {
            let (mut entries, (after, count, rest)) = (Vec::new(), decode_entries_head(&body)?);
            decode_entries(&body, rest, count, &mut entries)?;
            Ok((after, entries))
        };
        [decode(), decode_body(&body)]
    }

    #[test]
    fn entries_decode_as_serde_does_it_and_are_refused_in_the_same_words() {
        let position = |index| Position { term: Term(300), index: Index(index) };
        let other = |index, payload| Entry { position: position(index), payload };
        let configuration = Configuration::of([NodeId::small(1), NodeId::small(2)]);
        let entries = [
            other(200, Payload::Noop),
            other(201, Payload::OpenSession { nonce: u64::MAX }),
            entry(300, 202, 0),
            entry(300, 203, 200),
            other(204, Payload::Configuration(configuration)),
            entry(301, 205, 1),
        ];
        for count in 0..=entries.len() {
            let written = (Index(199), entries[..count].to_vec());
            let mut body = Vec::new();
            let length = encode_body(&written, &mut body).expect("small") as usize;
            body.truncate(length);
            assert_eq!(both(&body)[0], Ok(written), "{count} entries");
            for length in 0..length {
                let [found, expected] = both(&body[..length]);
                assert_eq!(found, expected, "{count} entries cut to {length} bytes");
                found.expect_err("too short");
            }
            let [found, expected] = both(&[&body[..], &[0, 0]].concat());
            assert_eq!(found, expected, "{count} entries and two bytes");
            assert_eq!(found, Err("2 bytes too many".into()));
            for at in 0..body.len() {
                let mut body = body.clone();
                body[at] ^= 0x81;
                let [found, expected] = both(&body);
                assert_eq!(found, expected, "{count} entries, byte {at}");
            }
        }
    }

    #[test]
    fn a_count_that_the_bytes_cannot_hold_is_refused_where_they_end() {
        let announced = postcard::to_stdvec(&(Index(0), u64::MAX)).expect("numbers");
        let [found, expected] = both(&announced);
        assert_eq!(found, expected);
        found.expect_err("no entries");
    }

    #[test]
    fn a_record_beyond_the_limit_is_not_encoded() {
        let large = vec![0u8; BODY_BYTES_MAX as usize];
        let error = encode_body(&large, &mut Vec::new()).expect_err("too large");
        assert!(error.contains("allowed are 134217728"), "{error}");
    }
}
