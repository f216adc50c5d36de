//! Why a store cannot be used, and where the reason lies.
//!
//! Each variant names the file and what is wrong with it; nothing here decides. Cloneable,
//! because a failure is reported for ever: once to each who asks.

use std::{io, path::PathBuf, sync::Arc};

/// Why a store cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused. After a write or a sync nothing is certain: the member stops.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The store is somebody else's.
    #[error("{} belongs to {what} {found}, not to {expected}", path.display())]
    Foreign {
        /// The file that says so.
        path: PathBuf,
        /// Group, peer or store.
        what: &'static str,
        /// Whose it is.
        found: String,
        /// Who opened it.
        expected: String,
    },
    /// What was written is not there any more, or contradicts itself.
    #[error("{} is corrupt at byte {offset}: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// Another version of this program wrote the store.
    #[error("{} has format version {found}; this program reads {supported}", path.display())]
    Version {
        /// The file that says so.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that can be read.
        supported: u32,
    },
    /// Another process, or another group of this one, has the store open.
    #[error("{} is in use by another member", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A file of the store has no bytes, or only a part of those it was created with.
    #[error("{} has {found_bytes} bytes where {expected_bytes} were written", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its length.
        found_bytes: u64,
        /// Its length when it was written.
        expected_bytes: u64,
    },
    /// A file of the store, or all of it, is gone.
    #[error("{} is missing: {why}", path.display())]
    Missing {
        /// The file or the directory.
        path: PathBuf,
        /// How we know that it was there.
        why: String,
    },
    /// The directory is there, and nothing is in it.
    #[error(
        "{} is an empty directory: a store was wiped or its disk is not mounted; restore it, or \
         name a directory that does not exist yet to begin a new one",
        path.display()
    )]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds files but nothing that says whose store it is.
    #[error(
        "{} holds {found:?} but no store marker: restore the file \"store\", or name a \
         directory that does not exist yet to begin a new one",
        path.display()
    )]
    Unmarked {
        /// The directory.
        path: PathBuf,
        /// One of the files in it.
        found: String,
    },
    /// The group was founded already, and otherwise.
    #[error("{} was founded as lineage {found}, not {wanted}", path.display())]
    Founded {
        /// The store.
        path: PathBuf,
        /// The lineage on record.
        found: String,
        /// The lineage of the second founding.
        wanted: String,
    },
    /// A write that no later opening would accept was not written.
    #[error("refused to write to {}: {what}", path.display())]
    Refused {
        /// The store.
        path: PathBuf,
        /// What is wrong with the write.
        what: String,
    },
    /// An option out of its range.
    #[error("{field} is {value}; allowed is {min} to {max}")]
    Option {
        /// Its name.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// The thread that writes is gone.
    #[error("the writer of {} stopped unexpectedly", path.display())]
    Stopped {
        /// The store.
        path: PathBuf,
    },
}

impl StorageError {
    /// Wraps an error of the system; made to stand in `map_err`.
    pub(crate) fn io(
        path: impl Into<PathBuf>,
        action: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, action, source: Arc::new(source) }
    }

    /// Names a place in a file and what is wrong there.
    pub(crate) fn corrupt(path: impl Into<PathBuf>, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.into(), offset, what: what.into() }
    }
}
