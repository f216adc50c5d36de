//! A disk in memory as whoever stores something on it sees it: a directory with files.
//!
//! Decides nothing: what becomes of a change is for the disk to say.

use std::{
    io,
    path::{Path, PathBuf},
};

use runtime::storage::{Medium, MediumFile};

use super::{Disk, image::Change};
use crate::sim::clock;

/// The disk as a directory.
pub(super) struct Directory {
    pub(super) disk: Disk,
    pub(super) path: PathBuf,
}

struct OpenFile {
    disk: Disk,
    file: u64,
}

impl Medium for Directory {
    fn path(&self) -> &Path {
        &self.path
    }

    fn is_named(&self) -> bool {
        self.disk.inner().seen.named
    }

    fn publish(&mut self) -> io::Result<()> {
        self.disk.inner().change(Change::Publish)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.disk.inner().seen.names.keys().cloned().collect())
    }

    fn create(&self, name: &str, size_bytes: u64) -> io::Result<Box<dyn MediumFile>> {
        let size = usize::try_from(size_bytes).map_err(io::Error::other)?;
        let mut inner = self.disk.inner();
        inner.files_ever += 1;
        let file = inner.files_ever;
        inner.change(Change::Create { name: name.into(), file, size })?;
        Ok(Box::new(OpenFile { disk: self.disk.clone(), file }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{name} is not there"));
        let file = self.disk.inner().seen.names.get(name).copied().ok_or_else(missing)?;
        Ok(Box::new(OpenFile { disk: self.disk.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.inner().change(Change::Rename { from: from.into(), to: to.into() })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.inner().change(Change::Remove { name: name.into() })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.inner().sync(clock::now(), |done| Change::SyncNames { done })
    }
}

impl MediumFile for OpenFile {
    fn size_bytes(&self) -> io::Result<u64> {
        let inner = self.disk.inner();
        Ok(inner.seen.files.get(&self.file).map_or(0, |content| content.len() as u64))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let inner = self.disk.inner();
        let content = inner.seen.files.get(&self.file).map_or(&[][..], Vec::as_slice);
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let found = content.get(from..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let (file, bytes) = (self.file, bytes.to_vec());
        self.disk.inner().change(Change::Write { file, offset, bytes })
    }

    fn sync(&self) -> io::Result<()> {
        let file = self.file;
        self.disk.inner().sync(clock::now(), |done| Change::SyncFile { file, done })
    }
}
