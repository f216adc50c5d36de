//! What a store needs of a disk, and no more: files of a fixed size in one directory.
//!
//! Small, so that a model can stand in for the host and lose what a power cut may lose. Knows
//! nothing of records. Contract: a write is durable after the file's `sync`, a name after the
//! directory's, and the directory's own after [`Medium::publish`]; whatever was not synced may
//! survive in part, in any order.

mod host;

use std::{io, path::Path};

pub(crate) use host::{Absence, Host};

/// One directory.
pub trait Medium: Send {
    /// What it is called in errors.
    fn path(&self) -> &Path;

    /// Whether the directory is there under its own name. If not, this is an unfinished one.
    fn is_named(&self) -> bool;

    /// Gives the directory its name, atomically, if it has it not yet, and makes that durable.
    fn publish(&mut self) -> io::Result<()>;

    /// The names of all files in it.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A file of that many zero bytes, their blocks allocated where the disk can do so. Replaces
    /// a file of that name.
    fn create(&self, name: &str, size_bytes: u64) -> io::Result<Box<dyn MediumFile>>;

    /// A file that exists.
    fn open(&self, name: &str) -> io::Result<Box<dyn MediumFile>>;

    /// Gives a file another name, atomically, in place of a file that has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a file away.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable.
    fn sync(&self) -> io::Result<()>;
}

/// One file.
pub trait MediumFile: Send {
    /// Its length.
    fn size_bytes(&self) -> io::Result<u64>;

    /// Fills the buffer, or fails.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all the bytes, or fails.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable.
    fn sync(&self) -> io::Result<()>;
}
