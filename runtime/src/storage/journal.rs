//! A store without its thread: every write is made by who calls, at once.
//!
//! What a laboratory puts below a member when it decides itself when a disk is done. The bytes,
//! their order and all checks are those of [`super::Disk`]. Not usable after an error.

use std::mem;

use raft::{StoreId, Write};

use super::{
    Contents, Founding, Medium, Owner, Rest, Shelf, StorageError, Written, disk::open_stream,
    stream::Stream,
};

/// An open store on a medium.
pub struct Journal {
    stream: Stream,
    contents: Contents,
    founding: Option<Founding>,
}

impl Journal {
    /// Reads the store back, or makes it if there is none at all; cut into files of that size,
    /// in bytes.
    ///
    /// # Errors
    /// A store that is foreign, cut or damaged is refused, never started empty.
    pub fn open(
        medium: Box<dyn Medium>,
        owner: Owner,
        segment_bytes: u64,
    ) -> Result<Self, StorageError> {
        let (stream, contents) = open_stream(medium, owner, segment_bytes)?;
        let founding = contents.founding.clone();
        Ok(Self { stream, contents, founding })
    }

    /// The identity drawn when the store was created, or renewed.
    pub fn id(&self) -> StoreId {
        self.stream.id()
    }

    /// What the store held when it was opened. The second call finds it empty.
    pub fn take_contents(&mut self) -> Contents {
        mem::take(&mut self.contents)
    }

    /// Records how the group began. Once in a store's life.
    ///
    /// # Errors
    /// Of the medium; and a second founding that differs from the first.
    pub fn found(&mut self, founding: &Founding) -> Result<(), StorageError> {
        if let Some(first) = &self.founding {
            return founding.confirm(first, self.stream.path());
        }
        self.stream.append_founding(founding)?;
        self.stream.commit()?;
        self.stream.seal()?;
        self.founding = Some(founding.clone());
        Ok(())
    }

    /// Makes a new store of it, with this id and without anything in it.
    ///
    /// # Errors
    /// Of the medium.
    pub fn renew(&mut self, fresh: StoreId) -> Result<(), StorageError> {
        self.stream.append_renewal(fresh)?;
        self.stream.commit()?;
        self.stream.seal()?;
        self.founding = None;
        Ok(())
    }

    /// Makes all of these writes with one sync.
    ///
    /// # Errors
    /// Of the medium, and a write that contradicts what the store holds.
    pub fn commit<'a>(
        &mut self,
        writes: impl IntoIterator<Item = &'a Write>,
    ) -> Result<(), StorageError> {
        writes.into_iter().try_for_each(|write| self.stream.append(write))?;
        self.stream.commit()
    }

    /// Where its snapshots are.
    pub fn shelf(&self) -> Shelf {
        self.stream.shelf().clone()
    }

    /// Makes this snapshot what the log starts after; whether it is newer than the present one.
    ///
    /// # Errors
    /// Of the medium, and a snapshot that contradicts what the store holds.
    pub fn adopt(&mut self, mut written: Written, rest: Rest) -> Result<bool, StorageError> {
        self.stream.adopt(&mut written, rest)
    }

    /// Whether nothing is left that a pause could be used for.
    pub fn is_settled(&self) -> bool {
        self.stream.is_settled()
    }

    /// What a store does in a pause: leaves word that everything is durable, and prepares the
    /// next file.
    ///
    /// # Errors
    /// Of the medium.
    pub fn settle(&mut self) -> Result<(), StorageError> {
        self.stream.seal()?;
        self.stream.prepare()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.stream.shelf().close();
    }
}
