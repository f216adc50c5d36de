//! The stream being written: records gathered into groups, one write and one sync for each.
//!
//! Synchronous and without a clock: who calls decides when to wait. Not usable after an error;
//! what a failed write or sync left behind is for the next opening to judge.
//!
//! Invariant: a segment's `End` is durable before the next segment holds a record, so whatever
//! follows a segment proves that all of it was durable.

use std::{collections::VecDeque, path::Path, sync::Arc};

use raft::{EntriesRef, HardState, Index, StoreId, Write};

use super::{
    Founding, Shelf, StorageError,
    base::Milestone,
    forcing::Forced,
    format::{self, HEADER_BYTES, Header, Kind, Place},
    medium::Medium,
    outline::Outline,
    segment::{HEAD_BYTES, Segment},
    snapshot::SnapshotId,
};

/// Where the next record goes.
pub(crate) struct Stream {
    pub(super) medium: Arc<dyn Medium>,
    /// Names the files, from their creation on.
    pub(super) store: StoreId,
    /// Names what they hold: the same, until the store is renewed.
    id: StoreId,
    founding: Option<Founding>,
    /// The segments that are there, in order; the last is the active one.
    pub(super) passed: VecDeque<Passed>,
    /// What the log starts after.
    pub(super) snapshot: Option<SnapshotId>,
    pub(super) shelf: Shelf,
    segment_bytes: u64,
    active: Segment,
    /// Prepared ahead, so that the end of a segment costs a sync and not a file.
    next: Option<Segment>,
    pub(super) outline: Outline,
    pub(super) cursor: Cursor,
    /// Appended, not yet written.
    group: Vec<u8>,
    body: Vec<u8>,
}

/// How far a stream has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cursor {
    /// Where in the active segment the next write begins.
    pub(crate) offset: u64,
    /// Of the last record.
    pub(crate) sequence: u64,
    /// All records through this one are durable.
    pub(crate) durable: u64,
    /// The checksum of the last record's header.
    pub(crate) previous: u32,
    /// The last record says that everything before it is durable.
    pub(crate) sealed: bool,
}

/// A segment, as far as compaction must know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Passed {
    /// What had been said before it.
    pub(crate) start: Milestone,
    /// The highest index of an entry in it.
    pub(crate) highest: Index,
}

/// What a stream goes on from.
pub(crate) struct Past {
    /// Which store it is by now.
    pub(crate) id: StoreId,
    pub(crate) founding: Option<Founding>,
    /// The segments that are there.
    pub(crate) passed: VecDeque<Passed>,
    pub(crate) snapshot: Option<SnapshotId>,
    pub(crate) outline: Outline,
    pub(crate) cursor: Cursor,
}

impl Past {
    /// Of a store in which nothing was written yet.
    pub(crate) fn none(store: StoreId) -> Self {
        let start = Milestone::first(store);
        Self {
            id: store,
            founding: None,
            passed: VecDeque::from([Passed { start, highest: Index(0) }]),
            snapshot: None,
            outline: Outline::default(),
            cursor: Cursor::default(),
        }
    }
}

impl Default for Cursor {
    /// Before the first record.
    fn default() -> Self {
        Self { offset: HEAD_BYTES, sequence: 0, durable: 0, previous: 0, sealed: true }
    }
}

impl Stream {
    pub(crate) fn new(
        medium: Arc<dyn Medium>,
        store: StoreId,
        segment_bytes: u64,
        segments: (Segment, Option<Segment>),
        past: Past,
    ) -> Self {
        let Past { id, founding, passed, snapshot, outline, cursor } = past;
        let (active, next) = segments;
        let shelf = Shelf::new(Arc::clone(&medium), snapshot);
        Self {
            medium,
            store,
            id,
            founding,
            passed,
            snapshot,
            shelf,
            segment_bytes,
            active,
            next,
            outline,
            cursor,
            group: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Where its snapshots are.
    pub(crate) const fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Which store this is.
    pub(crate) const fn id(&self) -> StoreId {
        self.id
    }

    /// Where the stream is.
    pub(crate) fn path(&self) -> &Path {
        self.medium.path()
    }

    /// Adds a write to the group.
    pub(crate) fn append(&mut self, write: &Write) -> Result<(), StorageError> {
        match write {
            Write::HardState(hard_state) => self.append_hard_state(*hard_state),
            Write::Entries { after, entries } => self.append_entries(*after, entries.view()),
        }
    }

    /// Adds the founding to the group.
    pub(crate) fn append_founding(&mut self, founding: &Founding) -> Result<(), StorageError> {
        self.append_record(Kind::Founding, founding)?;
        self.founding = Some(founding.clone());
        Ok(())
    }

    /// Adds word that from here on this is another store, of that id, with nothing in it.
    pub(crate) fn append_renewal(&mut self, fresh: StoreId) -> Result<(), StorageError> {
        if let Some(SnapshotId { position, .. }) = self.snapshot {
            return Err(self.refused(format!("a renewal after a snapshot at {position}")));
        }
        self.append_record(Kind::Renewal, &fresh)?;
        (self.id, self.founding, self.outline) = (fresh, None, Outline::default());
        Ok(())
    }

    /// Adds word that this store belongs to a new lineage.
    pub(crate) fn append_forced(&mut self, forced: &Forced) -> Result<(), StorageError> {
        let mut outline = self.outline.clone();
        outline.force(forced).map_err(|what| self.refused(what))?;
        // Before it counts: if a segment ends here, the next goes on from what was before.
        self.append_record(Kind::Forced, forced)?;
        (self.outline, self.founding) = (outline, Some(forced.founding.clone()));
        self.reached(forced.entry.position.index);
        Ok(())
    }

    /// Writes the group and makes it durable.
    pub(crate) fn commit(&mut self) -> Result<(), StorageError> {
        if self.group.is_empty() {
            return Ok(());
        }
        let path = &self.active.path;
        self.active
            .file
            .write_at(self.cursor.offset, &self.group)
            .map_err(StorageError::io(path, "write"))?;
        self.active.file.sync().map_err(StorageError::io(path, "sync"))?;
        self.cursor.offset += self.group.len() as u64;
        self.cursor.durable = self.cursor.sequence;
        self.group.clear();
        // One large group shall not hold its memory for ever.
        self.group.shrink_to(GROUP_BYTES_KEPT);
        self.body.shrink_to(GROUP_BYTES_KEPT);
        Ok(())
    }

    /// Leaves word that everything is durable, so that damage to the last group is seen as such.
    pub(crate) fn seal(&mut self) -> Result<(), StorageError> {
        self.commit()?;
        if self.cursor.sealed {
            return Ok(());
        }
        self.append_empty(Kind::Seal)?;
        self.commit()
    }

    /// Whether [`Stream::prepare`] has something to do.
    pub(crate) fn wants_segment(&self) -> bool {
        self.next.is_none() && self.cursor.offset > self.active.size_bytes / 2
    }

    /// Makes the next segment while there is time.
    pub(crate) fn prepare(&mut self) -> Result<(), StorageError> {
        if self.wants_segment() {
            self.next = Some(self.create_next(self.segment_bytes)?);
        }
        Ok(())
    }

    /// Whether nothing is left that idle time could be used for.
    pub(crate) fn is_settled(&self) -> bool {
        self.cursor.sealed && self.group.is_empty() && !self.wants_segment()
    }

    fn append_hard_state(&mut self, hard_state: HardState) -> Result<(), StorageError> {
        self.outline.elect(hard_state).map_err(|what| self.refused(what))?;
        self.append_record(Kind::HardState, &hard_state)
    }

    /// Long suffixes become several records, so that none needs a segment of its own without
    /// reason. A part of them is a log that grew less, which a crash may leave behind anyway.
    fn append_entries(
        &mut self,
        after: Index,
        entries: EntriesRef<'_>,
    ) -> Result<(), StorageError> {
        self.outline.replace(after, entries).map_err(|what| self.refused(what))?;
        let (mut after, mut rest) = (after, entries);
        loop {
            let (part, more) = rest.split_at(part_of(rest));
            self.append_record(Kind::Entries, &(after, part))?;
            let Some(last) = part.last() else { return Ok(()) };
            self.reached(last.position.index);
            if more.is_empty() {
                return Ok(());
            }
            (after, rest) = (last.position.index, more);
        }
    }

    fn append_record(
        &mut self,
        kind: Kind,
        value: &impl serde::Serialize,
    ) -> Result<(), StorageError> {
        let mut body = std::mem::take(&mut self.body);
        let encoded = format::encode_body(value, &mut body);
        self.body = body;
        let body_bytes = encoded.map_err(|what| self.refused(what))?;
        let record_bytes = (HEADER_BYTES + self.body.len()) as u64;
        if self.room_bytes() < record_bytes {
            self.roll(record_bytes)?;
        }
        self.push(kind, body_bytes);
        Ok(())
    }

    fn append_empty(&mut self, kind: Kind) -> Result<(), StorageError> {
        self.body.clear();
        if self.room_bytes() < HEADER_BYTES as u64 {
            self.roll(HEADER_BYTES as u64)?;
        }
        self.push(kind, 0);
        Ok(())
    }

    /// What is free in the active segment, less the place of its `End`.
    fn room_bytes(&self) -> u64 {
        let used = self.cursor.offset + self.group.len() as u64 + HEADER_BYTES as u64;
        self.active.size_bytes.saturating_sub(used)
    }

    /// The active segment holds an entry of that index.
    fn reached(&mut self, index: Index) {
        if let Some(active) = self.passed.back_mut() {
            active.highest = active.highest.max(index);
        }
    }

    /// Ends the active segment and goes on in the next, which has room for that record.
    pub(super) fn roll(&mut self, record_bytes: u64) -> Result<(), StorageError> {
        let least_bytes = HEAD_BYTES + record_bytes + HEADER_BYTES as u64;
        let next = match self.next.take() {
            Some(next) if next.size_bytes >= least_bytes => next,
            _ => self.create_next(self.segment_bytes.max(least_bytes))?,
        };
        let body = std::mem::take(&mut self.body);
        self.push(Kind::End, 0);
        self.body = body;
        self.commit()?;
        self.active = next;
        self.cursor.offset = HEAD_BYTES;
        let start = self.milestone();
        self.passed.push_back(Passed { start, highest: Index(0) });
        Ok(())
    }

    /// What the stream has said when the active segment begins now.
    fn milestone(&self) -> Milestone {
        Milestone {
            segment: self.active.number,
            sequence: self.cursor.sequence,
            previous: self.cursor.previous,
            id: self.id,
            hard_state: self.outline.hard_state(),
            founding: self.founding.clone(),
            last: self.outline.last(),
        }
    }

    fn create_next(&self, size_bytes: u64) -> Result<Segment, StorageError> {
        Segment::create(&*self.medium, self.store, self.active.number + 1, size_bytes)
    }

    /// Puts a header before `self.body` and both into the group.
    fn push(&mut self, kind: Kind, body_bytes: u32) {
        let sequence = self.cursor.sequence + 1;
        let header = Header {
            kind,
            body_bytes,
            sequence,
            durable: self.cursor.durable,
            previous: self.cursor.previous,
            body_checksum: crc32fast::hash(&self.body),
        };
        let offset = self.cursor.offset + self.group.len() as u64;
        let place = Place { store: self.store, segment: self.active.number, offset };
        let (bytes, checksum) = header.encode(place);
        self.group.extend_from_slice(&bytes);
        self.group.extend_from_slice(&self.body);
        self.cursor.sequence = sequence;
        self.cursor.previous = checksum;
        self.cursor.sealed = kind == Kind::Seal;
    }

    pub(super) fn refused(&self, what: String) -> StorageError {
        StorageError::Refused { path: self.medium.path().into(), what }
    }
}

/// How many of the entries go into one record.
fn part_of(entries: EntriesRef<'_>) -> usize {
    let mut weight_bytes = 0;
    let fitting = entries.iter().take_while(|entry| {
        weight_bytes += entry.weight_bytes();
        weight_bytes <= PART_BYTES_MAX
    });
    fitting.count().max(1).min(entries.len())
}

const PART_BYTES_MAX: usize = 1 << 20;
const GROUP_BYTES_KEPT: usize = 4 << 20;
