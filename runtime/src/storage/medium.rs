//! What a store needs of a disk, and no more: files in one directory.
//!
//! Small, so that a model can stand in for the host and lose what a power cut may lose. Knows
//! nothing of records. Contract: a write is durable after the file's `sync`, a name after the
//! directory's, and the directory's own after [`Medium::publish`]; whatever was not synced may
//! survive in part, in any order. An open file stays readable when its name is taken away.

mod host;

use std::{io, path::Path};

pub(crate) use host::{Absence, Host};

/// One directory.
pub trait Medium: Send + Sync {
    /// What it is called in errors.
    fn path(&self) -> &Path;

    /// Whether the directory is there under its own name. If not, this is an unfinished one.
    fn is_named(&self) -> bool;

    /// Gives the directory its name, atomically, if it has it not yet, and makes that durable.
    ///
    /// # Errors
    /// What the host says; the directory may then have its name or not.
    fn publish(&mut self) -> io::Result<()>;

    /// The names of all files in it.
    ///
    /// # Errors
    /// What the host says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A file of that many zero bytes, their blocks allocated where the disk can do so. Replaces
    /// a file of that name.
    ///
    /// # Errors
    /// What the host says, for want of room among others.
    fn create(&self, name: &str, size_bytes: u64) -> io::Result<Box<dyn MediumFile>>;

    /// A file that exists.
    ///
    /// # Errors
    /// `NotFound` for one that does not, and what else the host says.
    fn open(&self, name: &str) -> io::Result<Box<dyn MediumFile>>;

    /// Gives a file another name, atomically, in place of a file that has it.
    ///
    /// # Errors
    /// What the host says; the file has one of the two names then.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a file away.
    ///
    /// # Errors
    /// What the host says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable.
    ///
    /// # Errors
    /// What the host says. Names that are not synced by then are in doubt for ever.
    fn sync(&self) -> io::Result<()>;
}

/// One file.
pub trait MediumFile: Send {
    /// Its length.
    ///
    /// # Errors
    /// What the host says.
    fn size_bytes(&self) -> io::Result<u64>;

    /// Fills the buffer, or fails.
    ///
    /// # Errors
    /// `UnexpectedEof` beyond the end, and what else the host says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all the bytes, or fails. Behind the end it makes the file longer.
    ///
    /// # Errors
    /// What the host says; a part may be written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable.
    ///
    /// # Errors
    /// What the host says. What is not synced by then is in doubt for ever, and the store stops.
    fn sync(&self) -> io::Result<()>;
}
