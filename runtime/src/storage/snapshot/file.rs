//! A snapshot that is read: to restore from it, to check it, to hand it on.
//!
//! Invariant: nothing of a chunk is handed out before its checksum was found to fit, and the end
//! of the body is said only once the digest of the whole was.

use std::{io, path::PathBuf};

use super::{CHUNK_BYTES, CHUNK_HEAD_BYTES, LEAD_BYTES, Lead, SnapshotHead, SnapshotId};
use crate::storage::{
    StorageError,
    format::{decode_body, u32_at},
    medium::MediumFile,
};

/// See above.
pub struct SnapshotFile {
    path: PathBuf,
    file: Box<dyn MediumFile>,
    lead: Lead,
    head: SnapshotHead,
    encoded_head: Vec<u8>,
}

/// The body of a snapshot from its beginning on.
pub struct SnapshotBody<'a> {
    file: &'a SnapshotFile,
    hasher: blake3::Hasher,
    /// Where the next chunk begins.
    offset: u64,
    chunk: Vec<u8>,
    /// So much of the chunk was handed out.
    read: usize,
    is_over: bool,
}

impl SnapshotFile {
    /// Reads lead and head.
    pub(crate) fn open(path: PathBuf, file: Box<dyn MediumFile>) -> Result<Self, StorageError> {
        let found_bytes = file.size_bytes().map_err(StorageError::io(&path, "measure"))?;
        if found_bytes < LEAD_BYTES as u64 {
            let expected_bytes = LEAD_BYTES as u64;
            return Err(StorageError::Truncated { path, found_bytes, expected_bytes });
        }
        let mut bytes = [0; LEAD_BYTES];
        file.read_at(0, &mut bytes).map_err(StorageError::io(&path, "read"))?;
        let lead = Lead::decode(&path, &bytes)?;
        if found_bytes < lead.bytes {
            let expected_bytes = lead.bytes;
            return Err(StorageError::Truncated { path, found_bytes, expected_bytes });
        }
        let behind = LEAD_BYTES as u64 + u64::from(lead.head_bytes);
        if found_bytes > lead.bytes || behind > lead.bytes {
            let what = format!("{found_bytes} bytes where {} were written", lead.bytes);
            return Err(StorageError::corrupt(path, lead.bytes, what));
        }
        let mut encoded_head = vec![0; lead.head_bytes as usize];
        file.read_at(LEAD_BYTES as u64, &mut encoded_head)
            .map_err(StorageError::io(&path, "read"))?;
        let head: SnapshotHead = decode_body(&encoded_head)
            .map_err(|what| StorageError::corrupt(&path, LEAD_BYTES as u64, what))?;
        Ok(Self { path, file, lead, head, encoded_head })
    }

    /// Which snapshot it is.
    pub fn id(&self) -> SnapshotId {
        let Lead { bytes, digest, .. } = self.lead;
        SnapshotId { position: self.head.covers.position, bytes, digest }
    }

    /// Whose state it is, and what it covers.
    pub fn head(&self) -> &SnapshotHead {
        &self.head
    }

    /// What it is called in errors.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The bytes of the file as they are, lead and all.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.file.read_at(offset, buffer).map_err(StorageError::io(&self.path, "read"))
    }

    /// The state.
    pub fn body(&self) -> SnapshotBody<'_> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.encoded_head);
        let offset = (LEAD_BYTES + self.encoded_head.len()) as u64;
        SnapshotBody { file: self, hasher, offset, chunk: Vec::new(), read: 0, is_over: false }
    }

    /// Reads all of it and holds it against its digest.
    ///
    /// # Errors
    /// Of the disk, and the first thing that does not fit.
    pub fn verify(&self) -> Result<(), StorageError> {
        let mut body = self.body();
        while !body.is_over {
            body.next_chunk()?;
        }
        Ok(())
    }
}

impl SnapshotBody<'_> {
    fn next_chunk(&mut self) -> Result<(), StorageError> {
        let (file, at) = (self.file, self.offset);
        let corrupt = |what: &str| StorageError::corrupt(&file.path, at, what);
        let left = file.lead.bytes - at;
        let mut head = [0; CHUNK_HEAD_BYTES];
        if left < CHUNK_HEAD_BYTES as u64 {
            return Err(corrupt("the last chunk is missing"));
        }
        file.read_at(at, &mut head)?;
        let (length, checksum) = (u32_at(&head, 0).unwrap_or(0), u32_at(&head, 4).unwrap_or(0));
        let end = CHUNK_HEAD_BYTES as u64 + u64::from(length);
        if length as usize > CHUNK_BYTES || end > left {
            return Err(corrupt("a chunk that is longer than it may be"));
        }
        self.chunk.resize(length as usize, 0);
        file.read_at(at + CHUNK_HEAD_BYTES as u64, &mut self.chunk)?;
        if crc32fast::hash(&self.chunk) != checksum {
            return Err(corrupt("the checksum of a chunk does not fit"));
        }
        self.hasher.update(&head).update(&self.chunk);
        (self.offset, self.read) = (at + end, 0);
        if length > 0 {
            return Ok(());
        }
        if self.offset != file.lead.bytes {
            return Err(corrupt("bytes after the last chunk"));
        }
        if *self.hasher.finalize().as_bytes() != file.lead.digest {
            return Err(corrupt("the digest does not fit"));
        }
        self.is_over = true;
        Ok(())
    }
}

impl io::Read for SnapshotBody<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.chunk.len() && !self.is_over {
            self.next_chunk().map_err(io::Error::other)?;
        }
        let bytes = &self.chunk[self.read..];
        let taken = bytes.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&bytes[..taken]);
        self.read += taken;
        Ok(taken)
    }
}
