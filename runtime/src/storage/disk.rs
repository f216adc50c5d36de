//! A store on disk: a directory with a marker and a stream of segments.
//!
//! Opening decides between three cases and no fourth: a directory that is not there, or was begun
//! and never finished, becomes a store; one with a marker is read back; any other is refused, an
//! empty one too. Invariant: a store that was ever handed out never opens empty.

use std::{
    path::{Path, PathBuf},
    task::{Context, Poll},
};

use raft::{Position, StoreId, Write, WriteId};

use super::{
    Contents, Founding, Owner, Rest, Shelf, Storage, StorageError, Store, base, creation, marker,
    medium::{Absence, Host, Medium},
    recovery, segment,
    snapshot::{self, Written},
    stream::Stream,
    writer::Writer,
};

/// A directory as a store.
///
/// One member at a time may have it open. Only a directory that does not exist becomes a new
/// store. One that is there without a store's marker is refused, and so is an empty one: it may
/// be a store that was wiped, or the place of a disk that is not mounted.
///
/// While a store is created it stands beside its place, under its name with `.new` behind it. A
/// crash leaves that directory, or one in its place with the file `store.new`: both are told
/// from a store, and [`Disk::at`] goes on with them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disk {
    path: PathBuf,
    absence: Absence,
    segment_bytes: u64,
}

impl Disk {
    /// The store in this directory; a new one if the directory does not exist.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), absence: Absence::Begins, segment_bytes: SEGMENT_BYTES }
    }

    /// The store in this directory, which must be there: for a member that had it before. A
    /// missing directory is refused as well, so that a lost store is an error that names it and
    /// not a new voter.
    pub fn existing(path: impl Into<PathBuf>) -> Self {
        Self { absence: Absence::Refused, ..Self::at(path) }
    }

    /// The size of the files that the log is cut into, in bytes: 4 KiB to 1 GiB, 16 MiB by
    /// default. It may differ from one opening to the next.
    #[must_use]
    pub const fn segment_bytes(mut self, segment_bytes: u64) -> Self {
        self.segment_bytes = segment_bytes;
        self
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory by itself, locked: for whoever puts something between it and the store that
    /// is then [`Mounted`](super::Mounted) on it.
    ///
    /// # Errors
    /// A directory that is in use, or missing where it must be there; and what else the host says.
    pub fn medium(&self) -> Result<Box<dyn Medium>, StorageError> {
        let host = Host::open(&self.path, self.absence)?;
        if self.absence == Absence::Refused {
            creation::refuse_unfinished(&host)?;
        }
        Ok(Box::new(host))
    }
}

impl Store for Disk {
    fn open(self: Box<Self>, owner: Owner) -> Result<Box<dyn Storage>, StorageError> {
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Err(StorageError::Option {
                field: "segment_bytes",
                value: self.segment_bytes,
                min: SEGMENT_BYTES_MIN,
                max: SEGMENT_BYTES_MAX,
            });
        }
        Ok(Box::new(Opened::open(self.medium()?, owner, self.segment_bytes)?))
    }
}

/// An open store on any medium.
pub(crate) struct Opened {
    id: StoreId,
    path: PathBuf,
    contents: Contents,
    founding: Option<Founding>,
    shelf: Shelf,
    writer: Writer,
}

impl Opened {
    pub(crate) fn open(
        medium: Box<dyn Medium>,
        owner: Owner,
        segment_bytes: u64,
    ) -> Result<Self, StorageError> {
        let (stream, contents) = open_stream(medium, owner, segment_bytes)?;
        let path = stream.path().to_path_buf();
        let (id, founding) = (stream.id(), contents.founding.clone());
        let shelf = stream.shelf().clone();
        let writer = Writer::start(stream, path.clone())?;
        Ok(Self { id, path, contents, founding, shelf, writer })
    }
}

impl Storage for Opened {
    fn id(&self) -> StoreId {
        self.id
    }

    fn take_contents(&mut self) -> Contents {
        std::mem::take(&mut self.contents)
    }

    fn found(&mut self, founding: &Founding) -> Result<(), StorageError> {
        if let Some(first) = &self.founding {
            return founding.confirm(first, &self.path);
        }
        self.writer.found(founding.clone())?;
        self.founding = Some(founding.clone());
        Ok(())
    }

    fn renew(&mut self, fresh: StoreId) -> Result<bool, StorageError> {
        self.writer.renew(fresh)?;
        (self.id, self.founding) = (fresh, None);
        Ok(true)
    }

    fn submit(&mut self, id: WriteId, write: Write) {
        self.writer.submit(id, write);
    }

    fn poll_persisted(&mut self, context: &mut Context<'_>) -> Poll<Result<WriteId, StorageError>> {
        self.writer.poll(context)
    }

    fn backlog_bytes(&self) -> usize {
        self.writer.backlog_bytes()
    }

    fn shelf(&self) -> Option<Shelf> {
        Some(self.shelf.clone())
    }

    fn keep(&mut self, written: Written) {
        self.writer.keep(written);
    }

    fn poll_kept(&mut self, context: &mut Context<'_>) -> Poll<Position> {
        self.writer.poll_kept(context)
    }

    fn install(&mut self, written: Written, rest: Rest) -> Result<(), StorageError> {
        self.writer.install(written, rest)
    }

    fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // Both are asked, for each has to know who waits.
        let (shelf, writer) = (self.shelf.poll_closed(context), self.writer.poll_closed(context));
        match shelf.is_ready() && writer.is_ready() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.shelf.close();
    }
}

/// Reads the store back, or makes it if there is none at all.
pub(crate) fn open_stream(
    medium: Box<dyn Medium>,
    owner: Owner,
    segment_bytes: u64,
) -> Result<(Stream, Contents), StorageError> {
    if !medium.is_named() {
        creation::begin(&*medium, owner)?;
    }
    let names = medium.list().map_err(StorageError::io(medium.path(), "list the directory"))?;
    if !names.iter().any(|name| name == marker::NAME) {
        let stream = creation::finish(medium, owner, segment_bytes)?;
        return Ok((stream, Contents::default()));
    }
    let stored = marker::read(&*medium, marker::NAME, owner)?;
    remove_temporaries(&*medium, &names)?;
    recovery::recover(medium.into(), stored, segment_bytes)
}

/// Unfinished files have no name of ours yet, so nothing rests on them.
fn remove_temporaries(medium: &dyn Medium, names: &[String]) -> Result<(), StorageError> {
    for name in names.iter().filter(|name| is_temporary(name)) {
        let path = medium.path().join(name);
        medium.remove(name).map_err(StorageError::io(path, "remove"))?;
    }
    Ok(())
}

fn is_temporary(name: &str) -> bool {
    let Some(finished) = name.strip_suffix(segment::TEMPORARY) else { return false };
    let known = [marker::NAME, base::NAME].contains(&finished);
    known || segment::number(finished).is_some() || snapshot::is_snapshot(finished)
}

pub(crate) const SEGMENT_BYTES: u64 = 16 << 20;
const SEGMENT_BYTES_MIN: u64 = 4 << 10;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
