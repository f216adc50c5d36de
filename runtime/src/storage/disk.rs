//! A store on disk: a directory with a marker and a stream of segments.
//!
//! Opening decides between three cases and no fourth: a directory that is new or empty becomes a
//! store; one with a marker is read back; any other is refused. Invariant: a store that was
//! ever handed out never opens empty.

use std::{
    path::{Path, PathBuf},
    task::{Context, Poll},
};

use raft::{StoreId, Write, WriteId};

use super::{
    Contents, Founding, Owner, Storage, StorageError, Store, marker,
    medium::{Host, Medium},
    outline::Outline,
    recovery,
    segment::{self, HEAD_BYTES, Segment},
    stream::{Cursor, Stream},
    window::Window,
    writer::Writer,
};

/// A directory as a store.
///
/// One member at a time may have it open. A directory that does not exist, or is empty, becomes
/// a new store; a directory that holds anything else without a store's marker is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disk {
    path: PathBuf,
    segment_bytes: u64,
}

impl Disk {
    /// The store in this directory.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), segment_bytes: SEGMENT_BYTES }
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
        let host = Host::open(&self.path)?;
        Ok(Box::new(Opened::open(Box::new(host), owner, self.segment_bytes)?))
    }
}

/// An open store on any medium.
pub(crate) struct Opened {
    id: StoreId,
    path: PathBuf,
    contents: Contents,
    founding: Option<Founding>,
    writer: Writer,
}

impl Opened {
    pub(crate) fn open(
        medium: Box<dyn Medium>,
        owner: Owner,
        segment_bytes: u64,
    ) -> Result<Self, StorageError> {
        let path = medium.path().to_path_buf();
        let (stream, contents) = open_stream(medium, owner, segment_bytes)?;
        let (id, founding) = (stream.store(), contents.founding.clone());
        let writer = Writer::start(stream, path.clone())?;
        Ok(Self { id, path, contents, founding, writer })
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
        match &self.founding {
            Some(first) if first == founding => Ok(()),
            Some(first) => Err(StorageError::Founded {
                path: self.path.clone(),
                found: first.lineage.to_string(),
                wanted: founding.lineage.to_string(),
            }),
            None => {
                self.writer.found(founding.clone())?;
                self.founding = Some(founding.clone());
                Ok(())
            }
        }
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
}

/// Reads the store back, or makes it if there is none at all.
pub(crate) fn open_stream(
    medium: Box<dyn Medium>,
    owner: Owner,
    segment_bytes: u64,
) -> Result<(Stream, Contents), StorageError> {
    let names = medium.list().map_err(StorageError::io(medium.path(), "list the directory"))?;
    if !names.iter().any(|name| name == marker::NAME) {
        refuse_unmarked(&*medium, &names)?;
        let stream = create(medium, owner, segment_bytes, &names)?;
        return Ok((stream, Contents::default()));
    }
    let stored = marker::read(&*medium, owner)?;
    remove_temporaries(&*medium, &names)?;
    recovery::recover(medium, stored.fresh, segment_bytes)
}

/// Without a marker there may be nothing but what a creation left that was cut short: its
/// unfinished files, and a first segment in which nothing was ever written.
fn refuse_unmarked(medium: &dyn Medium, names: &[String]) -> Result<(), StorageError> {
    let unmarked = |name: &String| {
        Err(StorageError::Unmarked { path: medium.path().into(), found: name.clone() })
    };
    for name in names.iter().filter(|name| !is_temporary(name)) {
        if segment::number(name) != Some(0) {
            return unmarked(name);
        }
        let Ok((first, _)) = Segment::open(medium, 0) else { return unmarked(name) };
        if Window::new(&first).first_written(HEAD_BYTES)?.is_some() {
            return unmarked(name);
        }
    }
    Ok(())
}

fn create(
    medium: Box<dyn Medium>,
    owner: Owner,
    segment_bytes: u64,
    names: &[String],
) -> Result<Stream, StorageError> {
    remove_temporaries(&*medium, names)?;
    let first = Segment::create(&*medium, owner.fresh, 0, segment_bytes)?;
    // The marker comes last: with it the store exists.
    marker::write(&*medium, owner)?;
    let cursor = Cursor { offset: HEAD_BYTES, sequence: 0, durable: 0, previous: 0, sealed: true };
    let segments = (first, None);
    Ok(Stream::new(medium, owner.fresh, segment_bytes, segments, Outline::default(), cursor))
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
    let finished = name.strip_suffix(segment::TEMPORARY);
    finished.is_some_and(|name| name == marker::NAME || segment::number(name).is_some())
}

const SEGMENT_BYTES: u64 = 16 << 20;
const SEGMENT_BYTES_MIN: u64 = 4 << 10;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
