//! The host's file system.
//!
//! A directory that does not exist is begun beside its place and moved there once something
//! durable is in it, so that an empty one in that place is never ours. Invariant: while a `Host`
//! lives, no other can be opened on the same directory; the kernel lets go of the lock however
//! the process ends.

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
use crate::storage::{StorageError, segment::TEMPORARY};

/// A locked directory of the host.
pub(crate) struct Host {
    /// Where it is.
    path: PathBuf,
    /// Where it belongs.
    name: PathBuf,
    directory: File,
}

/// Whether a directory may be begun where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Absence {
    Begins,
    Refused,
}

impl Host {
    /// Opens and locks the directory; begins one where there is none, if it may.
    pub(crate) fn open(name: &Path, absence: Absence) -> Result<Self, StorageError> {
        // A link whose target is gone is something, and not ours to replace.
        let path = match fs::symlink_metadata(name) {
            Ok(_) => name.to_path_buf(),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StorageError::io(name, "look for the directory")(error));
            }
            Err(_) if absence == Absence::Refused => {
                return Err(StorageError::Missing { path: name.into(), why: MUST_EXIST.into() });
            }
            Err(_) => begin(name)?,
        };
        let directory = File::open(&path).map_err(StorageError::io(&path, "open the directory"))?;
        // The lock sits on the directory itself: no lock file that a copy of the store would
        // carry along, nothing to clean up, and it goes along when the directory is moved.
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, name: name.into(), directory }),
            Err(Errno::WOULDBLOCK) => Err(StorageError::InUse { path }),
            Err(errno) => Err(StorageError::io(path, "lock the directory")(errno.into())),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Not left to the closing of the file: a child that the program starts at this moment has
        // it open as well, and with it the lock, until it has become another program.
        let _ = flock(&self.directory, FlockOperation::Unlock);
    }
}

/// Makes a directory beside the place, or finds the one that an earlier attempt left there.
fn begin(name: &Path) -> Result<PathBuf, StorageError> {
    let Some(last) = name.file_name() else {
        let why = io::Error::other("the path does not end in a name");
        return Err(StorageError::io(name, "create the directory")(why));
    };
    create_durably(parent(name))?;
    let mut last = last.to_os_string();
    last.push(TEMPORARY);
    let begun = name.with_file_name(last);
    match fs::create_dir(&begun) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(StorageError::io(begun, "create the directory")(error))
        }
        _ => Ok(begun),
    }
}

fn create_durably(path: &Path) -> Result<(), StorageError> {
    let missing: Vec<_> = path.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    fs::create_dir_all(path).map_err(StorageError::io(path, "create the directory"))?;
    for created in missing {
        let parent = parent(created);
        sync_directory(parent).map_err(StorageError::io(parent, "sync the directory"))?;
    }
    Ok(())
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

const MUST_EXIST: &str = "the store that is to be there is gone, or its disk is not mounted: \
                          restore it; one that may begin anew is opened with `Disk::at`";

impl Medium for Host {
    fn path(&self) -> &Path {
        &self.path
    }

    fn is_named(&self) -> bool {
        self.path == self.name
    }

    fn publish(&mut self) -> io::Result<()> {
        if !self.is_named() {
            fs::rename(&self.path, &self.name)?;
            self.path.clone_from(&self.name);
        }
        sync_directory(parent(&self.name))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_is_being_started_keeps_no_directory_locked() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Host::open(folder.path(), Absence::Refused);
        let host = open().expect("nobody has it");
        assert!(matches!(open(), Err(StorageError::InUse { .. })));
        // What a child has between its fork and the program that it becomes.
        let _of_child = host.directory.try_clone().expect("one file more");
        drop(host);
        open().expect("it is let go of");
    }
}
