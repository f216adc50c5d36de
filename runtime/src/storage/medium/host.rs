//! The host's file system.
//!
//! Invariant: while a `Host` lives, no other can be opened on the same directory; the kernel
//! lets go of the lock however the process ends.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FallocateFlags, FlockOperation, fallocate, flock},
    io::Errno,
};

use super::{Medium, MediumFile};
use crate::storage::StorageError;

/// A locked directory of the host.
pub(crate) struct Host {
    path: PathBuf,
    directory: File,
}

impl Host {
    /// Opens and locks the directory; creates it, durably, where it does not exist.
    pub(crate) fn open(path: &Path) -> Result<Self, StorageError> {
        let missing: Vec<_> = path
            .ancestors()
            .filter(|ancestor| !ancestor.as_os_str().is_empty())
            .take_while(|ancestor| !ancestor.exists())
            .collect();
        fs::create_dir_all(path).map_err(StorageError::io(path, "create the directory"))?;
        for created in missing {
            let parent = created.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            File::open(parent)
                .and_then(|directory| directory.sync_all())
                .map_err(StorageError::io(parent, "sync the directory"))?;
        }
        let directory = File::open(path).map_err(StorageError::io(path, "open the directory"))?;
        // The lock sits on the directory itself: no lock file that a copy of the store would
        // carry along, and nothing to clean up.
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.into(), directory }),
            Err(Errno::WOULDBLOCK) => Err(StorageError::InUse { path: path.into() }),
            Err(errno) => Err(StorageError::io(path, "lock the directory")(errno.into())),
        }
    }
}

impl Medium for Host {
    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn create(&self, name: &str, size_bytes: u64) -> io::Result<Box<dyn MediumFile>> {
        let path = self.path.join(name);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        // Allocated ahead, so that a sync after an append has no new length and no new block to
        // make durable. Zeros are not written out: it was measured not to lower the median of
        // append and sync on ext4, and would double what a log writes.
        match fallocate(&file, FallocateFlags::empty(), 0, size_bytes) {
            Ok(()) => {}
            // Not every file system can; the blocks are then found when they are written.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
        file.set_len(size_bytes)?;
        Ok(Box::new(HostFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
        Ok(Box::new(HostFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.sync_all()
    }
}

struct HostFile(File);

impl MediumFile for HostFile {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
