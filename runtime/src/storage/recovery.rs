//! Reads a store back, once, from front to back, and decides what its end means.
//!
//! Where the records stop, the rest of the segment is a **torn tail** or **damage**. Each record
//! says through which record the stream was durable when it was written. So a record missing
//! although a later one says that it was durable, or although a later segment holds anything,
//! was acknowledged: that is damage, and the store is refused. If nothing says so, the records
//! missing belong to a group whose sync is not known to have returned; they are cut.
//!
//! What cannot be told: damage to the very last group, if the process died after its sync and
//! before the next write or the seal that follows a short pause. Such a group looks like one
//! that was torn. To refuse it would be to refuse every store after a power cut.
//!
//! Invariant: what is returned as contents is durable by then, whatever the page cache held.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use raft::{Index, Position, StoreId};

use super::{
    Contents, Founding, Owner, StorageError,
    base::{self, Base, Milestone},
    compaction,
    forcing::Forced,
    format::{self, ALIGNMENT_BYTES, HEADER_BYTES, Header, Kind, Place},
    medium::Medium,
    outline::Outline,
    segment::{self, HEAD_BYTES, Segment},
    shelf,
    snapshot::{self, SnapshotId},
    stream::{Cursor, Passed, Past, Stream},
    window::Window,
};

/// Reads the segments and yields the stream, ready to be continued.
pub(crate) fn recover(
    medium: Arc<dyn Medium>,
    owner: Owner,
    segment_bytes: u64,
) -> Result<(Stream, Contents), StorageError> {
    let (store, names) = (owner.fresh, names(&*medium)?);
    let is_compacted = names.iter().any(|name| name == base::NAME);
    let base = is_compacted.then(|| base::read(&*medium, store)).transpose()?;
    let mut reader = Reader::new(store, base.as_ref());
    let (first, count) = (reader.first(), count_segments(&*medium, &names, reader.first())?);
    let mut active = open(&*medium, store, first)?;
    while reader.read(&active)? == Stop::End {
        let number = active.number + 1;
        if number == count {
            let path = medium.path().join(segment::name(number));
            let why = format!("{} says that the stream goes on there", active.path.display());
            return Err(StorageError::Missing { path, why });
        }
        let ended = std::mem::replace(&mut active, open(&*medium, store, number)?);
        reader.ended = Some((ended, reader.cursor.offset));
    }
    let number = active.number + 1;
    let next = (number < count).then(|| open(&*medium, store, number)).transpose()?;
    if let Some(next) = &next {
        reader.refuse_if_continued(&active, next, count)?;
    }
    if let Some(base) = &base {
        reader.start_after(&*medium, &owner, base, &active)?;
    }
    reader.settle(&active)?;
    // The page cache may know names that the disk does not have, as after a failed sync. What was
    // read here rests on them, and what they took the place of goes next.
    medium.sync().map_err(StorageError::io(medium.path(), "sync the directory"))?;
    remove_needless(&*medium, &names, first, base.as_ref().map(|base| base.snapshot))?;
    let Reader { id, outline, cursor, contents, passed, .. } = reader;
    let (founding, snapshot) = (contents.founding.clone(), base.map(|base| base.snapshot));
    let past = Past { id, founding, passed, snapshot, outline, cursor };
    Ok((Stream::new(medium, store, segment_bytes, (active, next), past), contents))
}

/// In order, so that the same directory is always refused for the same file.
fn names(medium: &dyn Medium) -> Result<Vec<String>, StorageError> {
    let mut names = medium.list().map_err(StorageError::io(medium.path(), "list the directory"))?;
    names.sort_unstable();
    Ok(names)
}

/// The number behind the last segment; from the first that is needed they have no gap.
fn count_segments(medium: &dyn Medium, names: &[String], first: u64) -> Result<u64, StorageError> {
    let numbers = names.iter().filter_map(|name| segment::number(name));
    let mut count = first;
    // Names are in the order of their numbers.
    for number in numbers.filter(|number| *number >= first) {
        if number != count {
            let path = medium.path().join(segment::name(count));
            let why = format!("{} is there", segment::name(number));
            return Err(StorageError::Missing { path, why });
        }
        count += 1;
    }
    if count == first {
        let path = medium.path().join(segment::name(first));
        let why = if first == 0 { "every store has it" } else { "the base names it" };
        return Err(StorageError::Missing { path, why: why.into() });
    }
    Ok(count)
}

/// Takes away what a compaction made needless and a crash left.
fn remove_needless(
    medium: &dyn Medium,
    names: &[String],
    first: u64,
    snapshot: Option<SnapshotId>,
) -> Result<(), StorageError> {
    let current = snapshot.map(|snapshot| snapshot::name(snapshot.position));
    let is_needless = |name: &&String| match segment::number(name) {
        Some(number) => number < first,
        None => snapshot::is_snapshot(name) && current.as_ref() != Some(*name),
    };
    names.iter().filter(is_needless).try_for_each(|name| compaction::remove(medium, name))
}

fn open(medium: &dyn Medium, store: StoreId, number: u64) -> Result<Segment, StorageError> {
    let (segment, owner) = Segment::open(medium, number)?;
    if owner == store {
        return Ok(segment);
    }
    let (path, found, expected) = (segment.path, owner.to_string(), store.to_string());
    Err(StorageError::Foreign { path, what: "store", found, expected })
}

/// Where the records of a segment stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    /// At a record that says so.
    End,
    /// At something that is no valid record.
    Open,
}

/// What has been read so far.
struct Reader {
    store: StoreId,
    /// Which store it is, as far as it has been read.
    id: StoreId,
    outline: Outline,
    cursor: Cursor,
    contents: Contents,
    /// What the entries of the contents start after.
    start: Index,
    /// The segments that have been begun, and what they start from.
    passed: VecDeque<Passed>,
    /// The last segment that was read to its end, and where that is.
    ended: Option<(Segment, u64)>,
    /// The records that no later one calls durable.
    unproven: VecDeque<Unproven>,
}

/// A record that may have reached the page cache only.
struct Unproven {
    sequence: u64,
    segment: u64,
    offset: u64,
}

impl Reader {
    fn new(store: StoreId, base: Option<&Base>) -> Self {
        let from = base.map_or_else(|| Milestone::first(store), |base| base.from.clone());
        let Milestone { sequence, previous, id, hard_state, last, .. } = from;
        let outline = Outline::after(hard_state, last);
        let cursor = Cursor { sequence, previous, durable: sequence, ..Cursor::default() };
        let founding = from.founding.clone();
        let contents = Contents { founding, hard_state, ..Contents::default() };
        let passed = VecDeque::from([Passed { start: from, highest: Index(0) }]);
        let (start, unproven) = (last.index, VecDeque::new());
        Self { store, id, outline, cursor, contents, start, passed, ended: None, unproven }
    }

    /// The segment that is read first.
    fn first(&self) -> u64 {
        self.passed.front().map_or(0, |first| first.start.segment)
    }

    /// Puts the snapshot before the log, of which only what follows it is needed.
    fn start_after(
        &mut self,
        medium: &dyn Medium,
        owner: &Owner,
        base: &Base,
        active: &Segment,
    ) -> Result<(), StorageError> {
        let (position, last) = (base.snapshot.position, self.outline.last());
        let damaged = |what| StorageError::corrupt(&active.path, self.cursor.offset, what);
        if self.cursor.sequence < base.durable {
            let (next, durable) = (self.cursor.sequence + 1, base.durable);
            let what = format!("record {next} is damaged; the base proves {durable} durable");
            return Err(damaged(what));
        }
        self.outline.cover(position).map_err(damaged)?;
        let file = shelf::open(medium, base.snapshot)?;
        if file.head().group != owner.group {
            let (path, what) = (file.path().to_path_buf(), "group");
            let (found, expected) = (file.head().group.to_string(), owner.group.to_string());
            return Err(StorageError::Foreign { path, what, found, expected });
        }
        file.verify()?;
        let covered = position.index.since(self.start) as usize;
        debug_assert!(last.index >= position.index, "covered by the outline");
        self.contents.entries.drain(..covered.min(self.contents.entries.len()));
        self.contents.snapshot = Some(file.head().covers.clone());
        Ok(())
    }

    fn place(&self, segment: &Segment, offset: u64) -> Place {
        Place { store: self.store, segment: segment.number, offset }
    }

    fn read(&mut self, segment: &Segment) -> Result<Stop, StorageError> {
        let mut window = Window::new(segment);
        self.cursor.offset = HEAD_BYTES;
        self.begin(segment);
        loop {
            let offset = self.cursor.offset;
            let bytes = window.bytes(offset, HEADER_BYTES as u64)?;
            let found = bytes.and_then(|bytes| Header::decode(bytes, self.place(segment, offset)));
            let Some((header, checksum)) = found else { return Ok(Stop::Open) };
            let body = window.take(offset + HEADER_BYTES as u64, header.padded_bytes())?;
            let Some(mut body) = body.filter(|body| crc32fast::hash(body) == header.body_checksum)
            else {
                return Ok(Stop::Open);
            };
            body.truncate(header.body_bytes as usize);
            let corrupt = |what| StorageError::corrupt(&segment.path, offset, what);
            self.follows(&header).map_err(corrupt)?;
            self.take(header.kind, &body.into()).map_err(corrupt)?;
            self.cursor = Cursor {
                offset: offset + HEADER_BYTES as u64 + header.padded_bytes(),
                sequence: header.sequence,
                durable: header.durable,
                previous: checksum,
                sealed: header.kind == Kind::Seal,
            };
            self.expect_proof(&header, segment.number, offset);
            if header.kind == Kind::End {
                return Ok(Stop::End);
            }
        }
    }

    /// A segment begins where the one before it ended.
    fn begin(&mut self, segment: &Segment) {
        if self.passed.back().is_some_and(|passed| passed.start.segment >= segment.number) {
            return;
        }
        let start = Milestone {
            segment: segment.number,
            sequence: self.cursor.sequence,
            previous: self.cursor.previous,
            id: self.id,
            hard_state: self.outline.hard_state(),
            founding: self.contents.founding.clone(),
            last: self.outline.last(),
        };
        self.passed.push_back(Passed { start, highest: Index(0) });
    }

    /// A record proves others durable and is itself yet to be proven.
    fn expect_proof(&mut self, header: &Header, segment: u64, offset: u64) {
        while self.unproven.front().is_some_and(|first| first.sequence <= header.durable) {
            self.unproven.pop_front();
        }
        self.unproven.push_back(Unproven { sequence: header.sequence, segment, offset });
    }

    /// Whether a valid record is the one that comes next. A torn write cannot make it another.
    fn follows(&self, header: &Header) -> Result<(), String> {
        let cursor = &self.cursor;
        if header.sequence != cursor.sequence + 1 {
            return Err(format!("record {} after record {}", header.sequence, cursor.sequence));
        }
        if header.previous != cursor.previous {
            return Err(format!("record {} does not continue the one before", header.sequence));
        }
        if header.durable < cursor.durable {
            return Err(format!("record {} knows of less than the one before", header.sequence));
        }
        Ok(())
    }

    fn take(&mut self, kind: Kind, body: &Bytes) -> Result<(), String> {
        match kind {
            Kind::HardState => self.outline.elect(format::decode_body(body)?)?,
            Kind::Entries => self.take_entries(body)?,
            Kind::Founding => {
                let founding: Founding = format::decode_body(body)?;
                if self.contents.founding.replace(founding).is_some() {
                    return Err("a second founding".into());
                }
            }
            Kind::Renewal => {
                self.id = format::decode_body(body)?;
                (self.outline, self.contents) = (Outline::default(), Contents::default());
                self.start = Index(0);
            }
            Kind::Forced => {
                let forced: Forced = format::decode_body(body)?;
                self.outline.force(&forced)?;
                if self.contents.founding.replace(forced.founding).is_none() {
                    return Err("a new lineage without an old one".into());
                }
                self.reached(Some(forced.entry.position));
                self.contents.entries.push(forced.entry);
            }
            Kind::Seal | Kind::End if body.is_empty() => {}
            Kind::Seal | Kind::End => return Err(format!("{kind:?} with a body")),
        }
        self.contents.hard_state = self.outline.hard_state();
        Ok(())
    }

    fn take_entries(&mut self, body: &Bytes) -> Result<(), String> {
        let (after, count, rest) = format::decode_entries_head(body)?;
        // What is not committed may be replaced from before where we began to read.
        self.start = self.start.min(after);
        let entries = &mut self.contents.entries;
        entries.truncate(after.since(self.start) as usize);
        let kept = entries.len();
        format::decode_entries(body, rest, count, entries)?;
        // A contradiction is seen only now that they are in: the store is refused, and they go.
        let taken = &entries[kept..];
        self.outline.replace(after, taken.into())?;
        let last = taken.last().map(|entry| entry.position);
        self.reached(last);
        Ok(())
    }

    fn reached(&mut self, last: Option<Position>) {
        if let (Some(last), Some(active)) = (last, self.passed.back_mut()) {
            active.highest = active.highest.max(last.index);
        }
    }

    /// A segment is written to, and its successor made, only after the end of the one before is
    /// durable.
    fn refuse_if_continued(
        &self,
        active: &Segment,
        next: &Segment,
        count: u64,
    ) -> Result<(), StorageError> {
        let mut window = Window::new(next);
        let written = window.first_written(HEAD_BYTES)?;
        let bytes = window.bytes(HEAD_BYTES, HEADER_BYTES as u64)?.unwrap_or_default();
        let found = Header::decode(bytes, self.place(next, HEAD_BYTES));
        if found.is_some() || next.number + 1 < count {
            let what = format!(
                "record {} is damaged; {} proves that the stream goes on",
                self.cursor.sequence + 1,
                segment::name(count - 1)
            );
            return Err(StorageError::corrupt(&active.path, self.cursor.offset, what));
        }
        let Some(offset) = written else { return Ok(()) };
        Err(StorageError::corrupt(&next.path, offset, "bytes that no record accounts for"))
    }

    /// Decides about the rest of the last segment, and makes all of it durable.
    fn settle(&mut self, active: &Segment) -> Result<(), StorageError> {
        let offset = self.cursor.offset;
        let written_to = self.judge_tail(active)?;
        if written_to > offset {
            tracing::warn!(
                file = %active.path.display(), offset, bytes = written_to - offset,
                "cutting a torn tail: its sync never returned",
            );
            erase(active, offset, written_to)?;
        }
        // After a failed sync, or a crash before one, the page cache may show what the disk does
        // not have, and a sync alone would not write it again. What nothing proves durable is
        // therefore written again before it is believed.
        if let Some((ended, to)) = &self.ended {
            self.rewrite(ended, *to)?;
        }
        self.rewrite(active, offset)?;
        active.file.sync().map_err(StorageError::io(&active.path, "sync"))?;
        self.cursor.durable = self.cursor.sequence;
        Ok(())
    }

    /// Writes what nothing proves durable over itself, and syncs it.
    fn rewrite(&self, segment: &Segment, to: u64) -> Result<(), StorageError> {
        let mut unproven = self.unproven.iter().filter(|record| record.segment == segment.number);
        let Some(mut offset) = unproven.next().map(|record| record.offset) else {
            return Ok(());
        };
        let mut window = Window::new(segment);
        while offset < to {
            let length = (to - offset).min(COPY_BYTES as u64);
            let bytes = window.bytes(offset, length)?.unwrap_or_default();
            segment
                .file
                .write_at(offset, bytes)
                .map_err(StorageError::io(&segment.path, "write"))?;
            offset += length;
        }
        segment.file.sync().map_err(StorageError::io(&segment.path, "sync"))
    }

    /// Where what was written in the tail ends; an error if something there was acknowledged.
    fn judge_tail(&self, active: &Segment) -> Result<u64, StorageError> {
        let (start, last) = (self.cursor.offset, self.cursor.sequence);
        let mut window = Window::new(active);
        let mut written_to = start;
        let mut offset = start;
        while let Some(written) = window.first_written(offset)? {
            // Records begin at multiples of the alignment.
            let at = written - written % ALIGNMENT_BYTES;
            written_to = (at + ALIGNMENT_BYTES).min(active.size_bytes);
            let bytes = window.bytes(at, HEADER_BYTES as u64)?.unwrap_or_default();
            let found = Header::decode(bytes, self.place(active, at));
            if let Some((header, _)) = found.filter(|(header, _)| header.durable > last) {
                let what = format!(
                    "record {} is damaged; record {} at byte {at} says that it was durable",
                    last + 1,
                    header.sequence
                );
                return Err(StorageError::corrupt(&active.path, start, what));
            }
            offset = at + ALIGNMENT_BYTES;
        }
        Ok(written_to)
    }
}

/// Makes a range zero. Cut short by a crash, it leaves a torn tail that is shorter.
fn erase(segment: &Segment, from: u64, to: u64) -> Result<(), StorageError> {
    let zeros = vec![0; COPY_BYTES.min((to - from) as usize)];
    let mut offset = from;
    while offset < to {
        let length = (to - offset).min(COPY_BYTES as u64);
        segment
            .file
            .write_at(offset, &zeros[..length as usize])
            .map_err(StorageError::io(&segment.path, "write"))?;
        offset += length;
    }
    Ok(())
}

const COPY_BYTES: usize = 1 << 20;
