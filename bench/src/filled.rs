//! A store on disk that holds a log, written and read back through the face that members use.
//!
//! Knows nothing of what is timed. Invariant: what an opening returned is what was written, or it
//! is an error.

use std::{
    fs::{self, File},
    future::poll_fn,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use runtime::{
    Configuration, ConsensusProfile, Entry, GroupId, GroupKey, HardState, Index, Lineage, NodeId,
    Payload, PeerId, Position, RequestId, SessionId, StoreId, Term,
    storage::{Contents, Disk, Founding, Owner, Storage, Store, Write, WriteId},
};
use tokio::runtime::Runtime;

/// The store of a member that has founded a group alone.
pub(crate) struct Filled {
    path: PathBuf,
    /// What drives the waiting for the store.
    waiting: Runtime,
}

/// A store that is open, to append to.
pub(crate) struct Open<'a> {
    storage: Box<dyn Storage>,
    waiting: &'a Runtime,
    write: WriteId,
    last: Index,
}

impl Filled {
    /// A new store in a directory that is not there yet, filled as long as `goes_on` says so of
    /// what was just written.
    pub(crate) fn create(
        path: PathBuf,
        entries: u64,
        bytes: usize,
        goes_on: impl Fn(u64) -> bool,
    ) -> Result<Self> {
        let waiting = tokio::runtime::Builder::new_current_thread().build()?;
        let filled = Self { path, waiting };
        let mut open = filled.begin()?;
        let mut left = entries;
        while left > 0 {
            let batch = left.min(BATCH);
            open.append(batch, bytes)?;
            left -= batch;
            if !goes_on(batch) {
                break;
            }
        }
        open.close();
        Ok(filled)
    }

    /// Opens a store that is not there yet, and founds its group.
    pub(crate) fn begin(&self) -> Result<Open<'_>> {
        let owner = owner();
        let mut storage = self.store().open(owner).context("creating the store")?;
        let founder = NodeId { peer: owner.peer, store: storage.id() };
        let configuration = Configuration::of([founder]);
        let lineage = Lineage::of(owner.group, &configuration);
        storage.found(&Founding { lineage, configuration }).context("founding")?;
        let mut open = Open { storage, waiting: &self.waiting, write: WriteId(0), last: Index(0) };
        open.write(Write::HardState(HardState { term: TERM, vote: Some(founder) }))?;
        Ok(open)
    }

    /// Opens it again and takes out what it holds.
    pub(crate) fn read_back(&self) -> Result<(Contents, Open<'_>)> {
        let mut storage = self.store().open(owner()).context("opening the store")?;
        let contents = storage.take_contents();
        let last = contents.entries.last().map_or(Index(0), |entry| entry.position.index);
        let open = Open { storage, waiting: &self.waiting, write: WriteId(0), last };
        Ok((contents, open))
    }

    /// Reads all its files from their beginning to their end, and says how many bytes they are.
    pub(crate) fn read_files(&self) -> Result<u64> {
        let mut buffer = vec![0; READ_BYTES];
        let mut total = 0;
        for path in self.files()? {
            let mut file = File::open(&path).with_context(|| path.display().to_string())?;
            loop {
                let read = file.read(&mut buffer).with_context(|| path.display().to_string())?;
                total += read as u64;
                if read == 0 {
                    break;
                }
            }
        }
        Ok(total)
    }

    /// Its files, in the order of their names.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let shown = || format!("listing {}", self.path.display());
        let entries = fs::read_dir(&self.path).with_context(shown)?;
        let paths: std::io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
        let mut paths = paths.with_context(shown)?;
        paths.retain(|path| path.is_file());
        paths.sort();
        Ok(paths)
    }

    fn store(&self) -> Box<Disk> {
        Box::new(Disk::at(&self.path))
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        // What is left behind is in the way of nobody.
        drop(fs::remove_dir_all(&self.path));
    }
}

impl Open<'_> {
    /// Appends so many commands as one write, and returns once they are durable.
    pub(crate) fn append(&mut self, entries: u64, bytes: usize) -> Result<()> {
        let after = self.last;
        let entries = (1..=entries).map(|n| entry(Index(after.0 + n), bytes)).collect();
        self.write(Write::Entries { after, entries })
    }

    /// Closes it, so that it can be opened again.
    pub(crate) fn close(mut self) {
        self.waiting.block_on(poll_fn(|context| self.storage.poll_closed(context)));
    }

    fn write(&mut self, write: Write) -> Result<()> {
        if let Write::Entries { entries, .. } = &write {
            self.last.0 += entries.len() as u64;
        }
        self.write.0 += 1;
        self.storage.submit(self.write, write);
        let durable =
            self.waiting.block_on(poll_fn(|context| self.storage.poll_persisted(context)));
        let durable = durable.context("writing")?;
        ensure!(durable == self.write, "{durable:?} is durable instead of {:?}", self.write);
        Ok(())
    }
}

/// A directory for stores, that no other process of ours uses.
pub(crate) fn place(parent: &Path) -> PathBuf {
    parent.join(format!("tessera-bench-store-{}", std::process::id()))
}

/// As a log goes: a term's first entry, a session, its commands.
fn entry(index: Index, bytes: usize) -> Entry {
    let session = SessionId(Index(2));
    let payload = match index {
        Index(0 | 1) => Payload::Noop,
        Index(2) => Payload::OpenSession { nonce: 1 },
        Index(sequence) => Payload::Command {
            request: RequestId { session, sequence },
            floor: sequence,
            command: vec![7; bytes].into(),
        },
    };
    Entry { position: Position { term: TERM, index }, payload }
}

fn owner() -> Owner {
    let key = GroupKey::from_secret("bench store");
    let group = GroupId::of(&key, "bench store 1", &ConsensusProfile::Lan.config());
    Owner { group, peer: PeerId([7; 32]), fresh: StoreId(7) }
}

const TERM: Term = Term(1);
/// Entries in one write.
const BATCH: u64 = 10_000;
const READ_BYTES: usize = 1 << 20;
