//! Entries of a log packed one behind the other: each says only what it does not share with the
//! one before.
//!
//! Knows no chunk and no digest. Invariants: the same entries are packed alike, whoever packs
//! them; and whatever the bytes are, no more is set aside for an entry than they hold.

use bytes::Bytes;
use raft::{Entry, EntryRef, Index, Payload, Position, RequestId, SessionId, Term};

use crate::encoded::{self, Numbers, number};

/// Puts entries behind each other.
#[derive(Default)]
pub(super) struct Packer(Before);

/// Takes entries from behind each other.
pub(super) struct Unpacker {
    before: Before,
    /// The index of the last that was taken.
    index: Index,
}

/// An entry as it is taken.
pub(super) enum Taken<'a> {
    Command(Command<'a>),
    /// Anything else.
    Whole(Entry),
}

/// A command as it is taken.
pub(super) struct Command<'a> {
    pub(super) position: Position,
    pub(super) request: RequestId,
    pub(super) floor: u64,
    pub(super) command: &'a [u8],
}

/// What the next entry may share.
#[derive(Clone, Copy, Default)]
struct Before {
    term: Term,
    /// Of the last command.
    request: RequestId,
    floor: u64,
}

impl Packer {
    /// Adds the entry, which is the next in its log.
    pub(super) fn put(&mut self, entry: EntryRef<'_>, bytes: &mut Vec<u8>) {
        let term = entry.position.term;
        let Payload::Command { request, floor, command } = entry.payload else {
            bytes.push(WHOLE);
            self.0.term = term;
            return encoded::put(entry, bytes);
        };
        let before = std::mem::replace(&mut self.0, Before { term, request, floor });
        let mut shared = 0;
        let mut share = |is_shared, flag| {
            shared |= if is_shared { flag } else { 0 };
        };
        share(term == before.term, TERM);
        share(request.session == before.request.session, SESSION);
        share(before.request.sequence.checked_add(1) == Some(request.sequence), SEQUENCE);
        share(floor == before.floor, FLOOR);
        // Nearly all share all of it.
        let mut head = Numbers::default();
        head.put((COMMAND | shared).into());
        let fields = [
            (TERM, term.0),
            (SESSION, request.session.0.0),
            (SEQUENCE, request.sequence),
            // A few are unanswered at a time, so it is not far.
            (FLOOR, request.sequence.wrapping_sub(floor)),
        ];
        for (flag, field) in fields {
            if shared & flag == 0 {
                head.put(field);
            }
        }
        head.put(command.len() as u64);
        head.before(command, bytes);
    }
}

impl Unpacker {
    /// What follows in a log after `index`.
    pub(super) fn after(index: Index) -> Self {
        Self { before: Before::default(), index }
    }

    /// The command that `rest` begins with, and what is after it; `None` if there is no command.
    #[inline]
    pub(super) fn take_command<'a>(&mut self, rest: &'a [u8]) -> Option<(Command<'a>, &'a [u8])> {
        let (kind, rest) = rest.split_first()?;
        if kind & !SHARED != COMMAND {
            return None;
        }
        let (command, rest) = self.head(kind & SHARED, rest)?;
        self.index = self.index.next();
        let Before { term, request, floor } = self.before;
        let position = Position { term, index: self.index };
        Some((Command { position, request, floor, command }, rest))
    }

    /// The entry that `rest` begins with, and what is after it; `None` if there is no entry.
    pub(super) fn take<'a>(&mut self, rest: &'a [u8]) -> Option<(Taken<'a>, &'a [u8])> {
        if let Some((command, rest)) = self.take_command(rest) {
            return Some((Taken::Command(command), rest));
        }
        let (kind, rest) = rest.split_first()?;
        let index = self.index.next();
        let taken = match *kind {
            WHOLE => {
                // A command never stands whole.
                let mut entries = Vec::with_capacity(1);
                let rest = encoded::take(rest, &mut entries, |_| Bytes::new()).ok()?;
                let entry = entries.pop()?;
                self.before.term = entry.position.term;
                let is_command = matches!(entry.payload, Payload::Command { .. });
                let is_next = entry.position.index == index && !is_command;
                is_next.then_some((Taken::Whole(entry), rest))?
            }
            _ => return None,
        };
        self.index = index;
        Some(taken)
    }

    /// Reads what stands before a command, and the command.
    fn head<'a>(&mut self, shared: u8, rest: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let mut rest = rest;
        let mut field = |flag| match shared & flag {
            0 => {
                let (field, behind) = number(rest)?;
                rest = behind;
                Some(Some(field))
            }
            _ => Some(None),
        };
        let before = self.before;
        let term = field(TERM)?.map_or(before.term, Term);
        let session = field(SESSION)?.map_or(before.request.session, |at| SessionId(Index(at)));
        let sequence = match field(SEQUENCE)? {
            Some(sequence) => sequence,
            None => before.request.sequence.checked_add(1)?,
        };
        let floor = field(FLOOR)?.map_or(before.floor, |far| sequence.wrapping_sub(far));
        let length = field(0)??;
        let taken = rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.before = Before { term, request: RequestId { session, sequence }, floor };
        Some(taken)
    }
}

/// No command: it stands there as it does on disk.
const WHOLE: u8 = 0;
/// A command. The other bits say what it shares with the entry, or the command, before.
const COMMAND: u8 = 0x10;
const TERM: u8 = 1;
const SESSION: u8 = 2;
/// One more than that of the command before.
const SEQUENCE: u8 = 4;
const FLOOR: u8 = 8;
const SHARED: u8 = TERM | SESSION | SEQUENCE | FLOOR;
/// No entry takes fewer: a kind, and the length of a command.
pub(super) const ENTRY_BYTES_MIN: usize = 2;

#[cfg(test)]
mod tests {
    use raft::{Configuration, NodeId};

    use super::*;

    const EDGES: [u64; 6] = [0, 1, 0x7f, 0x80, 1 << 62, u64::MAX];

    /// Consecutive entries whose neighbours share this and that, of all kinds.
    fn entries(count: u64) -> Vec<Entry> {
        let mut state = 11u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % bound
        };
        let (mut term, mut session, mut sequence, mut floor) = (1, 1, 0u64, 0);
        let entry = |index| {
            term = if below(9) == 0 { EDGES[below(6) as usize].max(1) } else { term };
            let payload = match below(12) {
                0 => Payload::Noop,
                1 => Payload::OpenSession { nonce: EDGES[below(6) as usize] },
                2 => Payload::Configuration(Configuration {
                    voters: [1, 2].map(NodeId::small).into(),
                    learners: [NodeId::small(3)].into(),
                }),
                _ => {
                    session = if below(5) == 0 { EDGES[below(6) as usize] } else { session };
                    sequence = match below(6) {
                        0 => EDGES[below(6) as usize],
                        _ => sequence.wrapping_add(1),
                    };
                    floor = if below(3) == 0 { EDGES[below(6) as usize] } else { floor };
                    let request = RequestId { session: SessionId(Index(session)), sequence };
                    let command = vec![index as u8; below(200) as usize].into();
                    Payload::Command { request, floor, command }
                }
            };
            Entry { position: Position { term: Term(term), index: Index(index) }, payload }
        };
        (1..=count).map(entry).collect()
    }

    fn packed(entries: &[Entry]) -> Bytes {
        let (mut packer, mut bytes) = (Packer::default(), Vec::new());
        entries.iter().for_each(|entry| packer.put(entry.view(), &mut bytes));
        bytes.into()
    }

    /// All that can be taken, and whether the bytes came to an end.
    fn unpacked(after: u64, packed: &Bytes) -> (Vec<Entry>, bool) {
        let (mut unpacker, mut entries) = (Unpacker::after(Index(after)), Vec::new());
        let mut rest: &[u8] = packed;
        while !rest.is_empty() {
            let Some((taken, behind)) = unpacker.take(rest) else { return (entries, false) };
            entries.push(match taken {
                Taken::Whole(entry) => entry,
                Taken::Command(Command { position, request, floor, command }) => {
                    let command = packed.slice_ref(command);
                    Entry { position, payload: Payload::Command { request, floor, command } }
                }
            });
            rest = behind;
        }
        (entries, true)
    }

    #[test]
    fn whatever_neighbours_share_comes_back() {
        let entries = entries(4_000);
        assert_eq!(unpacked(0, &packed(&entries)), (entries.clone(), true));
        let (last, alone) = (entries.last().expect("some"), &entries[3_999..]);
        assert_eq!(unpacked(last.position.index.0 - 1, &packed(alone)), (alone.to_vec(), true));
    }

    #[test]
    fn a_command_that_follows_another_of_its_client_takes_two_bytes_more() {
        let command = |sequence| Entry {
            position: Position { term: Term(3), index: Index(1_000_000 + sequence) },
            payload: Payload::Command {
                request: RequestId { session: SessionId(Index(70_000)), sequence },
                floor: 500,
                command: Bytes::from_static(&[7; 64]),
            },
        };
        let commands: Vec<_> = (1_000..1_010).map(command).collect();
        assert_eq!(packed(&commands).len() - packed(&commands[..1]).len(), 9 * 66);
    }

    #[test]
    fn what_is_cut_or_changed_is_refused_or_other_entries() {
        let entries = entries(60);
        let whole = packed(&entries);
        for length in 0..whole.len() {
            let (taken, _) = unpacked(0, &whole.slice(..length));
            assert!(taken.len() < entries.len(), "cut to {length} bytes");
            let mut changed = whole.to_vec();
            changed[length] ^= 0x11;
            assert_ne!(unpacked(0, &changed.into()), (entries.clone(), true), "byte {length}");
        }
        // No length makes room for itself.
        let endless = vec![COMMAND | SHARED & !SEQUENCE, 1, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(unpacked(0, &endless.into()), (Vec::new(), false));
    }
}
