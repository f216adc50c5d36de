//! A snapshot that is being written, and one that is finished.
//!
//! Both are files without a name of ours yet, so nothing rests on them; of one that is dropped the
//! file is taken away. Invariant: what is [`Written`] is whole and durable, but for its name.

use std::path::{Path, PathBuf};

use super::{SnapshotFile, SnapshotHead, SnapshotId};
use crate::storage::{Shelf, StorageError, medium::MediumFile};

/// A snapshot that is being written.
pub struct Draft {
    shelf: Shelf,
    name: String,
    path: PathBuf,
    file: Option<Box<dyn MediumFile>>,
    /// Written since the last sync.
    unsynced_bytes: usize,
    /// It has a name by now.
    is_placed: bool,
}

/// A snapshot that is whole and durable, and not yet in its place.
pub struct Written {
    draft: Draft,
    id: SnapshotId,
    head: Box<SnapshotHead>,
}

impl Draft {
    pub(crate) fn new(
        shelf: Shelf,
        name: String,
        path: PathBuf,
        file: Box<dyn MediumFile>,
    ) -> Self {
        Self { shelf, name, path, file: Some(file), unsynced_bytes: 0, is_placed: false }
    }

    /// What it is called in errors.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a part. Synced now and then, so that the last sync is not a long one.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let file = self.file()?;
        file.write_at(offset, bytes).map_err(StorageError::io(&self.path, "write"))?;
        self.unsynced_bytes += bytes.len();
        if self.unsynced_bytes < UNSYNCED_BYTES_MAX {
            return Ok(());
        }
        self.sync()
    }

    pub(crate) fn sync(&mut self) -> Result<(), StorageError> {
        let file = self.file()?;
        file.sync().map_err(StorageError::io(&self.path, "sync"))?;
        self.unsynced_bytes = 0;
        Ok(())
    }

    /// Makes durable what came in parts, reads the whole of it back, and lets the caller look at it
    /// once all of it was found to fit.
    ///
    /// # Errors
    /// Of the disk; and what is no snapshot, or not a whole one.
    pub(crate) fn finish(
        mut self,
        look: impl FnOnce(&SnapshotFile),
    ) -> Result<Written, StorageError> {
        self.sync()?;
        let stopped = || StorageError::Stopped { path: self.path.clone() };
        let file = self.file.take().ok_or_else(stopped)?;
        let file = SnapshotFile::open(self.path.clone(), file)?;
        file.verify()?;
        look(&file);
        let (id, head) = (file.id(), file.head().clone());
        Ok(Written::new(self, id, head))
    }

    fn file(&self) -> Result<&dyn MediumFile, StorageError> {
        let stopped = || StorageError::Stopped { path: self.path.clone() };
        self.file.as_deref().ok_or_else(stopped)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_placed {
            self.file = None;
            self.shelf.discard(&self.name);
        }
    }
}

impl Written {
    /// For whoever wrote all of it himself and has it synced.
    pub(crate) fn new(draft: Draft, id: SnapshotId, head: SnapshotHead) -> Self {
        Self { draft, id, head: Box::new(head) }
    }

    /// Which snapshot it is.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// What its head says.
    pub fn head(&self) -> &SnapshotHead {
        &self.head
    }

    /// What it is called in errors.
    pub(crate) fn path(&self) -> &Path {
        &self.draft.path
    }

    pub(crate) fn name(&self) -> &str {
        &self.draft.name
    }

    pub(crate) fn placed(&mut self) {
        self.draft.is_placed = true;
    }
}

/// What a sync may have to do at a time.
const UNSYNCED_BYTES_MAX: usize = 8 << 20;
