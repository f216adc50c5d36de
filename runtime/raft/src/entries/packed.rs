//! Many small commands in little memory: one piece of bytes for all, and a slot for each.
//!
//! An [`Entry`] of its own takes 80 bytes beside its command, and a count for each that holds the
//! command; a slot takes 32, and no count. Invariants: all are commands of one term, one after
//! the other; each slot's part of the bytes is there.

use std::{ops::Range, slice};

use bytes::Bytes;

use crate::{Entries, Entry, EntryRef, Index, Payload, Position, RequestId, Term};

/// See the module.
pub(super) struct Packed {
    term: Term,
    first: Index,
    commands: Bytes,
    slots: Vec<Slot>,
}

/// One command after the other.
#[derive(Clone)]
pub(super) struct Iter<'a> {
    term: Term,
    next: Index,
    commands: &'a [u8],
    slots: slice::Iter<'a, Slot>,
}

/// What is said of a command beside its term and index.
#[derive(Clone, Copy)]
struct Slot {
    request: RequestId,
    floor: u64,
    at: u32,
    length: u32,
}

/// Packs commands of one term that stand somewhere in the same bytes already.
pub struct PackedBuilder(Packed);

impl Packed {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn at(&self, place: usize) -> EntryRef<'_> {
        self.slots[place].view(self.position(place), &self.commands)
    }

    /// Those at these places.
    pub(super) fn iter(&self, places: Range<usize>) -> Iter<'_> {
        let next = self.first.plus(places.start as u64);
        let (term, commands) = (self.term, &self.commands[..]);
        Iter { term, next, commands, slots: self.slots[places].iter() }
    }

    /// How long they are at these places, together.
    pub(super) fn commands_bytes(&self, places: Range<usize>) -> usize {
        self.slots[places].iter().map(|slot| slot.length as usize).sum()
    }

    pub(super) fn own(&self, place: usize) -> Entry {
        let Slot { request, floor, .. } = self.slots[place];
        let command = self.commands.slice(self.slots[place].part());
        let payload = Payload::Command { request, floor, command };
        Entry { position: self.position(place), payload }
    }

    fn position(&self, place: usize) -> Position {
        Position { term: self.term, index: self.first.plus(place as u64) }
    }
}

impl Slot {
    fn part(&self) -> Range<usize> {
        let at = self.at as usize;
        at..at + self.length as usize
    }

    #[inline]
    fn view<'a>(&self, position: Position, commands: &'a [u8]) -> EntryRef<'a> {
        let (Self { request, floor, .. }, command) = (*self, &commands[self.part()]);
        Entry { position, payload: Payload::Command { request, floor, command } }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = EntryRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<EntryRef<'a>> {
        let slot = self.slots.next()?;
        let position = Position { term: self.term, index: self.next };
        self.next = self.next.next();
        Some(slot.view(position, self.commands))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.slots.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let slot = self.slots.next_back()?;
        let index = self.next.plus(self.slots.len() as u64);
        Some(slot.view(Position { term: self.term, index }, self.commands))
    }
}

impl PackedBuilder {
    /// For about `count` commands in these bytes, of which the first is to stand at `first`.
    pub fn new(first: Position, commands: Bytes, count: usize) -> Self {
        let Position { term, index } = first;
        Self(Packed { term, first: index, commands, slots: Vec::with_capacity(count) })
    }

    /// Adds the next: it is as long as that, and begins there. False if the bytes do not reach so
    /// far, or further than a slot can tell.
    #[must_use]
    pub fn push(&mut self, request: RequestId, floor: u64, at: usize, length: usize) -> bool {
        let is_there = at.checked_add(length).is_some_and(|end| end <= self.0.commands.len());
        let (Ok(at), Ok(length)) = (u32::try_from(at), u32::try_from(length)) else { return false };
        if is_there {
            self.0.slots.push(Slot { request, floor, at, length });
        }
        is_there
    }

    /// They, packed.
    pub fn build(self) -> Entries {
        self.0.into()
    }
}

/// The same entries packed, with copies of their commands; `None` if they cannot be, or if that is
/// not worth the copying.
pub(super) fn pack(entries: &[Entry]) -> Option<Entries> {
    let first = entries.first()?.position;
    let mut commands_bytes = 0;
    for entry in entries {
        let Payload::Command { command, .. } = &entry.payload else { return None };
        if entry.position.term != first.term {
            return None;
        }
        commands_bytes += command.len();
    }
    if commands_bytes > entries.len() * COMMAND_BYTES_MAX {
        return None;
    }
    let (mut commands, mut slots) =
        (Vec::with_capacity(commands_bytes), Vec::with_capacity(entries.len()));
    for entry in entries {
        let Payload::Command { request, floor, command } = &entry.payload else { return None };
        let (at, length) =
            (u32::try_from(commands.len()).ok()?, u32::try_from(command.len()).ok()?);
        commands.extend_from_slice(command);
        slots.push(Slot { request: *request, floor: *floor, at, length });
    }
    let Position { term, index } = first;
    Some(Packed { term, first: index, commands: commands.into(), slots }.into())
}

/// On the average: beyond it there is more to copy than to gain.
const COMMAND_BYTES_MAX: usize = 512;
/// What one takes beside its bytes.
pub(crate) const SLOT_BYTES: usize = size_of::<Slot>();
const _: () = assert!(SLOT_BYTES == 32);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SessionId;

    fn command(term: u64, index: u64, length: usize) -> Entry {
        let request = RequestId { session: SessionId(Index(3)), sequence: 10 * index };
        Entry {
            position: Position { term: Term(term), index: Index(index) },
            payload: Payload::Command {
                request,
                floor: index,
                command: vec![index as u8; length].into(),
            },
        }
    }

    fn is_packed(entries: &Entries) -> bool {
        matches!(entries.shared, crate::entries::Shared::Packed(_))
    }

    #[test]
    fn packed_they_are_the_same_entries() {
        let single: Entries = (5..90).map(|index| command(2, index, index as usize % 7)).collect();
        let packed = single.packed();
        assert!(is_packed(&packed) && !is_packed(&single));
        assert_eq!(packed, single);
        assert_eq!(packed.to_vec(), single.to_vec());
        assert_eq!(packed.part(3, 4), single.part(3, 4));
        assert_eq!(packed.part(80, 9), single.part(80, 9));
        assert_eq!(packed.get(85), None);
        let part = packed.part(10, 20);
        let (before, behind) = part.view().split_at(5);
        assert!(before.iter().eq(single.part(10, 5).iter()));
        assert!(behind.iter().eq(single.part(15, 15).iter()));
        assert_eq!(format!("{packed:?}"), format!("{single:?}"));
        let weights = [packed.view().weight_bytes(), single.view().weight_bytes()];
        let weight = single.iter().map(|entry| entry.weight_bytes()).sum::<usize>();
        assert_eq!(weights, [weight; 2]);
        assert!(packed.iter().rev().eq(single.iter().rev()));
    }

    #[test]
    fn what_is_no_run_of_small_commands_stays_as_it_is() {
        let noop = Entry { payload: Payload::Noop, ..command(1, 3, 0) };
        let few = |third: Entry| Entries::from(vec![command(1, 1, 9), command(1, 2, 9), third]);
        assert!(is_packed(&few(command(1, 3, 9)).packed()));
        assert!(!is_packed(&few(noop).packed()));
        assert!(!is_packed(&few(command(2, 3, 9)).packed()), "of another term");
        assert!(!is_packed(&few(command(1, 3, 3 * COMMAND_BYTES_MAX)).packed()), "too large");
        assert!(!is_packed(&Entries::default().packed()));
    }

    #[test]
    fn a_builder_takes_what_is_there_and_nothing_else() {
        let first = Position { term: Term(4), index: Index(7) };
        let request = |sequence| RequestId { session: SessionId(Index(1)), sequence };
        let mut builder = PackedBuilder::new(first, Bytes::from_static(b"abcdef"), 2);
        assert!(builder.push(request(1), 0, 1, 2));
        assert!(builder.push(request(2), 1, 6, 0));
        for (at, length) in [(5, 2), (7, 0), (usize::MAX, 1), (0, usize::MAX)] {
            assert!(!builder.push(request(3), 0, at, length), "{length} at {at}");
        }
        let run = builder.build();
        let commands: Vec<_> = run.to_vec().into_iter().map(|entry| entry.payload).collect();
        let wanted = [(1, 0, "bc"), (2, 1, "")].map(|(sequence, floor, command)| {
            Payload::Command { request: request(sequence), floor, command: command.into() }
        });
        assert_eq!(commands, wanted);
        assert_eq!(run.last().map(|entry| entry.position.index), Some(Index(8)));
    }
}
