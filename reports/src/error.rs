//! What can go wrong with a run folder: each error names the file and what is allowed.

use std::io;
use std::path::{Path, PathBuf};

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a run folder could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb: "create", "write", "rename".
        action: &'static str,
        /// The file or folder concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A name cannot be the name of a file or folder.
    #[error("{what} {value:?} is not allowed: {allowed}")]
    Name {
        /// Which name: "scenario", "node".
        what: &'static str,
        /// What was given.
        value: String,
        /// What would be accepted.
        allowed: &'static str,
    },
    /// The path does not lead to a run folder.
    #[error("{} is not a run folder: {reason}", path.display())]
    NotARun {
        /// The path as given.
        path: PathBuf,
        /// What is absent or wrong.
        reason: String,
    },
    /// A file is larger than anything this crate writes.
    #[error("{} has {bytes} bytes, at most {bytes_max} are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// A file is not what it should be.
    #[error("{}, line {line}, column {column}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// Column, counted from 1.
        column: usize,
        /// What was expected.
        reason: String,
    },
    /// The record was written by another version of this program.
    #[error("{} has schema_version {found}, this program reads 1 to {supported}", path.display())]
    SchemaVersion {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: String,
        /// The newest that is read.
        supported: u32,
    },
    /// Something could not be encoded; the text says what.
    #[error("cannot encode {}: {reason}", path.display())]
    Encode {
        /// The file that was to be written.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Lines are appended whole or not at all.
    #[error("only whole lines are appended: {reason}")]
    Line {
        /// What was wrong with the bytes.
        reason: &'static str,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn encode(path: &Path, reason: &impl ToString) -> Self {
        Self::Encode { path: path.to_path_buf(), reason: reason.to_string() }
    }
}
