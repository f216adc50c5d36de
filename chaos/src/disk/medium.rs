//! A medium that does to its store what it is told to.
//!
//! Stands between a store and the medium of its world. Invariant: without a fault it changes
//! nothing, and what it reports as durable is.

use std::{
    cell::RefCell,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use runtime::storage::{Medium, MediumFile};

use super::{
    Harm,
    harm::{OnSync, OnWrite},
};

/// See the module.
pub struct FaultyMedium {
    medium: Box<dyn Medium>,
    harm: Harm,
    delay: Delay,
}

/// Holds up whoever syncs for that long, or what it syncs.
type Delay = Arc<dyn Fn(Duration) + Send + Sync>;

struct FaultyFile {
    file: Box<dyn MediumFile>,
    path: PathBuf,
    harm: Harm,
    delay: Delay,
    /// What stood where something was written whose sync will fail.
    before: RefCell<Vec<(u64, Vec<u8>)>>,
}

impl FaultyMedium {
    /// A medium to which harm may be done; `delay` is how this world lets a sync take its time.
    pub fn new(
        medium: Box<dyn Medium>,
        harm: Harm,
        delay: impl Fn(Duration) + Send + Sync + 'static,
    ) -> Self {
        Self { medium, harm, delay: Arc::new(delay) }
    }

    fn file(&self, name: &str, file: Box<dyn MediumFile>) -> Box<dyn MediumFile> {
        let (path, harm) = (self.named(name), self.harm.clone());
        let (delay, before) = (Arc::clone(&self.delay), RefCell::default());
        Box::new(FaultyFile { file, path, harm, delay, before })
    }

    /// What a file is called once it is complete, also before that.
    fn named(&self, name: &str) -> PathBuf {
        self.medium.path().join(name.strip_suffix(UNFINISHED).unwrap_or(name))
    }
}

impl Medium for FaultyMedium {
    fn path(&self) -> &Path {
        self.medium.path()
    }

    fn is_named(&self) -> bool {
        self.medium.is_named()
    }

    fn publish(&mut self) -> io::Result<()> {
        self.medium.publish()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.medium.list()
    }

    fn create(&self, name: &str, size_bytes: u64) -> io::Result<Box<dyn MediumFile>> {
        self.harm.on_create(&self.named(name))?;
        Ok(self.file(name, self.medium.create(name, size_bytes)?))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        Ok(self.file(name, self.medium.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.medium.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.medium.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        match self.harm.on_sync(self.medium.path()) {
            OnSync::Succeeds => {}
            OnSync::SucceedsAfter(stall) => (self.delay)(stall),
            OnSync::Fails(error) => return Err(error),
        }
        self.medium.sync()
    }
}

impl MediumFile for FaultyFile {
    fn size_bytes(&self) -> io::Result<u64> {
        self.file.size_bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match self.harm.on_write(&self.path, offset, bytes.len()) {
            OnWrite::Arrives => self.file.write_at(offset, bytes),
            OnWrite::ArrivesUnsure => {
                self.remember(offset, bytes.len())?;
                self.file.write_at(offset, bytes)
            }
            OnWrite::Fails { arrives, error } => {
                for part in arrives {
                    self.file.write_at(offset + part.start as u64, &bytes[part])?;
                }
                Err(error)
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self.harm.on_sync(&self.path) {
            OnSync::Succeeds => {}
            OnSync::SucceedsAfter(stall) => (self.delay)(stall),
            OnSync::Fails(error) => {
                self.lose()?;
                return Err(error);
            }
        }
        self.before.borrow_mut().clear();
        self.file.sync()
    }
}

impl FaultyFile {
    /// Keeps what stands there, as far as that is not too much: what is not kept is not lost.
    fn remember(&self, offset: u64, length: usize) -> io::Result<()> {
        let mut before = self.before.borrow_mut();
        let kept: usize = before.iter().map(|(_, bytes)| bytes.len()).sum();
        if kept + length > KEPT_BYTES_MAX {
            return Ok(());
        }
        // Behind the end there is nothing but what a longer file would be filled with.
        let mut bytes = vec![0; length];
        let there = self.file.size_bytes()?.saturating_sub(offset);
        let there = usize::try_from(there).map_or(length, |there| there.min(length));
        self.file.read_at(offset, &mut bytes[..there])?;
        before.push((offset, bytes));
        Ok(())
    }

    /// Of what was written since the last sync, parts never reached the disk.
    fn lose(&self) -> io::Result<()> {
        for (offset, bytes) in self.before.borrow_mut().drain(..).rev() {
            for part in self.harm.on_loss(offset, bytes.len()) {
                self.file.write_at(offset + part.start as u64, &bytes[part])?;
            }
        }
        Ok(())
    }
}

/// What the name of a file ends in until it is complete.
const UNFINISHED: &str = ".new";
/// Several groups of writes.
const KEPT_BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use runtime::{
        HardState, PeerId, StoreId, Term,
        storage::{Disk, Journal, Owner, StorageError, Write},
    };

    use super::*;
    use crate::{
        disk::{DiskFault, DiskKind},
        seed::{Seed, Stream},
    };

    /// A journal on the host's disk, to which harm may be done; and how long its syncs were held
    /// up.
    struct Harmed {
        folder: tempfile::TempDir,
        harm: Harm,
        held_up: Arc<Mutex<Vec<Duration>>>,
    }

    impl Harmed {
        fn new(seed: u64) -> Self {
            let folder = tempfile::tempdir().expect("a place for files");
            let harm = Harm::new(Stream::named(Seed(seed), "harm"));
            Self { folder, harm, held_up: Arc::default() }
        }

        fn open(&self) -> Result<Journal, StorageError> {
            let medium = Disk::at(self.folder.path().join("store")).medium()?;
            let held_up = Arc::clone(&self.held_up);
            let delay = move |by| held_up.lock().expect("nobody panics with it").push(by);
            let medium = FaultyMedium::new(medium, self.harm.clone(), delay);
            let owner = Owner {
                group: postcard::from_bytes(&[1; 32]).expect("it is 32 bytes"),
                peer: PeerId([2; 32]),
                fresh: StoreId(3),
            };
            Journal::open(Box::new(medium), owner, 4 << 10)
        }

        fn set(&self, kind: DiskKind) {
            self.harm.set(Some(DiskFault::of(kind)));
        }
    }

    fn elect(term: u64) -> Write {
        Write::HardState(HardState { term: Term(term), vote: None })
    }

    /// Terms become durable until the disk fails: the last one that did, and what failed.
    fn until_failure(journal: &mut Journal, from: u64) -> (u64, StorageError) {
        for term in from.. {
            if let Err(error) = journal.commit([&elect(term)]) {
                return (term - 1, error);
            }
        }
        unreachable!("a failing disk fails")
    }

    #[test]
    fn a_store_says_what_failed_and_keeps_what_was_durable() {
        for (kind, says) in [
            (DiskKind::SyncError, "cannot sync"),
            (DiskKind::WriteError, "cannot write"),
            (DiskKind::NoSpace, "cannot write"),
            (DiskKind::TornWrite, "cannot write"),
        ] {
            for seed in 0..20 {
                let harmed = Harmed::new(seed);
                let mut journal = harmed.open().expect("a new store");
                (1..=5 + seed).for_each(|term| {
                    journal.commit([&elect(term)]).expect("nothing befalls it yet");
                });
                harmed.set(kind);
                let (durable, error) = until_failure(&mut journal, 6 + seed);
                let (report, error) = (harmed.harm.report(), error.to_string());
                assert!(error.starts_with(says), "{kind}: {error}");
                assert!(error.contains(&report.files[0]), "{kind}: {error}");
                assert_eq!((report.errors, report.later), (1, 0), "{kind}");
                drop(journal);
                harmed.harm.set(None);
                let mut journal = harmed.open().unwrap_or_else(|error| panic!("{kind}: {error}"));
                let held = journal.take_contents().hard_state.term.0;
                assert!((durable..=durable + 1).contains(&held), "{kind}: {held} of {durable}");
            }
        }
    }

    #[test]
    fn where_there_is_no_room_no_file_can_be_made() {
        let harmed = Harmed::new(1);
        harmed.set(DiskKind::NoSpace);
        let error = harmed.open().err().expect("there is no room").to_string();
        assert!(error.contains("No space left"), "{error}");
        harmed.harm.set(None);
        harmed.open().expect("nothing was begun that is in the way");
    }

    #[test]
    fn a_stall_holds_up_every_sync_and_costs_nothing() {
        let harmed = Harmed::new(1);
        let mut journal = harmed.open().expect("a new store");
        harmed.set(DiskKind::Stall);
        (1..=3).for_each(|term| journal.commit([&elect(term)]).expect("it is only slow"));
        let held_up = harmed.held_up.lock().expect("nobody panics with it").clone();
        assert_eq!(held_up, [Duration::from_millis(400); 3]);
        assert_eq!((harmed.harm.report().stalls, harmed.harm.report().errors), (3, 0));
        drop(journal);
        let mut journal = harmed.open().expect("whole");
        assert_eq!(journal.take_contents().hard_state.term, Term(3));
    }
}
