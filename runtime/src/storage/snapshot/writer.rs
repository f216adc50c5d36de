//! Writes a machine's state into a draft, in chunks, as it comes.
//!
//! Holds one chunk at a time, so that a large state never sits in memory twice. Invariant: the
//! lead is written last, so what was cut short is never taken for a snapshot.

use std::io;

use super::{
    CHUNK_BYTES, CHUNK_HEAD_BYTES, Draft, HEAD_BYTES_MAX, LEAD_BYTES, Lead, SnapshotHead,
    SnapshotId, Written,
};
use crate::storage::StorageError;

/// See above. What is written to it is the snapshot's body.
pub struct SnapshotWriter {
    draft: Draft,
    head: SnapshotHead,
    head_bytes: u32,
    hasher: blake3::Hasher,
    offset: u64,
    /// Room for a chunk's head, and the chunk so far.
    chunk: Vec<u8>,
    /// A chunk could not be written, so what follows would not be the snapshot's body: a machine
    /// may have passed over the error.
    is_broken: bool,
}

impl SnapshotWriter {
    /// Begins a snapshot with its head.
    ///
    /// # Errors
    /// Of the disk, and a head that is too large.
    pub fn begin(mut draft: Draft, head: SnapshotHead) -> Result<Self, StorageError> {
        let refused = |what| StorageError::Refused { path: draft.path().into(), what };
        let encoded = postcard::to_stdvec(&head)
            .map_err(|error| refused(format!("the head cannot be encoded: {error}")))?;
        let fitting = u32::try_from(encoded.len()).ok().filter(|bytes| *bytes <= HEAD_BYTES_MAX);
        let head_bytes = fitting.ok_or_else(|| {
            refused(format!("a head of {} bytes; allowed are {HEAD_BYTES_MAX}", encoded.len()))
        })?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&encoded);
        draft.write_at(LEAD_BYTES as u64, &encoded)?;
        let offset = (LEAD_BYTES + encoded.len()) as u64;
        let mut chunk = Vec::with_capacity(CHUNK_HEAD_BYTES + CHUNK_BYTES);
        chunk.resize(CHUNK_HEAD_BYTES, 0);
        Ok(Self { draft, head, head_bytes, hasher, offset, chunk, is_broken: false })
    }

    /// Ends the body, writes the lead and makes all of it durable.
    ///
    /// # Errors
    /// Of the disk.
    pub fn finish(mut self) -> Result<Written, StorageError> {
        if self.chunk.len() > CHUNK_HEAD_BYTES {
            self.end_chunk()?;
        }
        // The last chunk is an empty one.
        self.end_chunk()?;
        let digest = *self.hasher.finalize().as_bytes();
        let lead = Lead { head_bytes: self.head_bytes, bytes: self.offset, digest };
        self.draft.write_at(0, &lead.encode())?;
        self.draft.sync()?;
        let id = SnapshotId { position: self.head.covers.position, bytes: self.offset, digest };
        Ok(Written::new(self.draft, id, self.head))
    }

    /// Writes the chunk out as it is.
    fn end_chunk(&mut self) -> Result<(), StorageError> {
        if std::mem::replace(&mut self.is_broken, true) {
            let what = "a chunk of it could not be written".into();
            return Err(StorageError::Refused { path: self.draft.path().into(), what });
        }
        let (head, body) = self.chunk.split_at_mut(CHUNK_HEAD_BYTES);
        head[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
        head[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        self.hasher.update(&self.chunk);
        self.draft.write_at(self.offset, &self.chunk)?;
        self.offset += self.chunk.len() as u64;
        self.chunk.truncate(CHUNK_HEAD_BYTES);
        self.is_broken = false;
        Ok(())
    }

    fn room(&self) -> usize {
        CHUNK_HEAD_BYTES + CHUNK_BYTES - self.chunk.len()
    }
}

impl io::Write for SnapshotWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room() == 0 {
            self.end_chunk().map_err(io::Error::other)?;
        }
        let taken = bytes.len().min(self.room());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
