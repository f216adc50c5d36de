//! What is done to a disk, and what came of it: shared by whoever wants it done and the medium
//! that does it.
//!
//! Decides what becomes of each write and sync; touches no bytes. Invariant: all draws come from
//! the stream that it was made with.

use std::{
    io,
    ops::Range,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::{DiskFault, DiskKind};
use crate::seed::Stream;

/// See the module. Clones are about the same disk.
#[derive(Clone, Debug)]
pub struct Harm(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    stream: Stream,
    report: DiskReport,
    /// A write or a sync of the log has failed.
    log_failed: bool,
}

/// What came of a fault since it began.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DiskReport {
    /// What befalls the disk.
    pub fault: Option<DiskFault>,
    /// Operations that failed.
    pub errors: u64,
    /// Of which files and directories, but for those beyond the first few.
    pub files: Vec<String>,
    /// Writes and syncs of the log that were tried after one of them had failed.
    pub later: u64,
    /// Syncs that took their time.
    pub stalls: u64,
}

/// What becomes of a write.
pub(super) enum OnWrite {
    Arrives,
    /// As a whole, but the next sync will fail, and lose part of it.
    ArrivesUnsure,
    /// But for these parts of it.
    Fails {
        arrives: Vec<Range<usize>>,
        error: io::Error,
    },
}

/// What becomes of a sync.
pub(super) enum OnSync {
    Succeeds,
    SucceedsAfter(Duration),
    Fails(io::Error),
}

impl Harm {
    /// None yet. Parts that arrive are drawn from the stream.
    pub fn new(stream: Stream) -> Self {
        let report = DiskReport::default();
        Self(Arc::new(Mutex::new(State { stream, report, log_failed: false })))
    }

    /// From now on this befalls the disk, or nothing; counts begin anew.
    pub fn set(&self, fault: Option<DiskFault>) {
        let mut state = self.state();
        state.report = DiskReport { fault, ..DiskReport::default() };
        state.log_failed = false;
    }

    /// What came of it so far.
    pub fn report(&self) -> DiskReport {
        self.state().report.clone()
    }

    /// A file is to be made.
    pub(super) fn on_create(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        match state.kind() {
            Some(DiskKind::NoSpace) => Err(state.fail(path, Errno::ENOSPC)),
            _ => Ok(()),
        }
    }

    /// So many bytes are to be written there.
    pub(super) fn on_write(&self, path: &Path, offset: u64, length: usize) -> OnWrite {
        let mut state = self.state();
        state.is_late(path);
        let (arrives, errno) = match state.kind() {
            None | Some(DiskKind::Stall | DiskKind::Flip) => return OnWrite::Arrives,
            Some(DiskKind::SyncError) => return OnWrite::ArrivesUnsure,
            Some(DiskKind::WriteError) => (Vec::new(), Errno::EIO),
            Some(DiskKind::NoSpace) => (state.beginning(length), Errno::ENOSPC),
            Some(DiskKind::TornWrite) => (state.sectors(offset, length), Errno::EIO),
        };
        OnWrite::Fails { arrives, error: state.fail(path, errno) }
    }

    /// A file, or the names in a directory, are to be made durable.
    pub(super) fn on_sync(&self, path: &Path) -> OnSync {
        let mut state = self.state();
        state.is_late(path);
        if state.kind() == Some(DiskKind::SyncError) {
            return OnSync::Fails(state.fail(path, Errno::EIO));
        }
        match state.report.fault.and_then(|fault| fault.stall()) {
            Some(stall) => {
                state.report.stalls += 1;
                OnSync::SucceedsAfter(stall)
            }
            None => OnSync::Succeeds,
        }
    }

    /// Which parts of a write are lost whose sync failed.
    pub(super) fn on_loss(&self, offset: u64, length: usize) -> Vec<Range<usize>> {
        self.state().sectors(offset, length)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is complete in itself; a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn kind(&self) -> Option<DiskKind> {
        self.report.fault.map(|fault| fault.kind)
    }

    fn fail(&mut self, path: &Path, errno: Errno) -> io::Error {
        self.report.errors += 1;
        self.log_failed |= is_log(path);
        let file = path.display().to_string();
        if self.report.files.len() < FILES_MAX && !self.report.files.contains(&file) {
            self.report.files.push(file);
        }
        errno.into()
    }

    /// Counts what is tried although the log has failed.
    fn is_late(&mut self, path: &Path) {
        self.report.later += u64::from(self.log_failed && is_log(path));
    }

    /// Less than all of it, from its beginning.
    fn beginning(&mut self, length: usize) -> Vec<Range<usize>> {
        let end = usize::try_from(self.stream.below(length as u64)).unwrap_or(0);
        vec![Range { start: 0, end }]
    }

    /// Some of the sectors of a write and never all; of one within a single sector its beginning.
    fn sectors(&mut self, offset: u64, length: usize) -> Vec<Range<usize>> {
        let sectors = sectors(offset, length);
        if sectors.len() < 2 {
            return self.beginning(length);
        }
        let missing = self.stream.below(sectors.len() as u64);
        let mut arrives = |(place, _): &(u64, Range<usize>)| {
            let drawn = self.stream.chance(500);
            drawn && *place != missing
        };
        let numbered = (0..).zip(sectors);
        numbered.filter(|sector| arrives(sector)).map(|(_, sector)| sector).collect()
    }
}

/// How a write divides into the sectors that it covers.
fn sectors(offset: u64, length: usize) -> Vec<Range<usize>> {
    let first = SECTOR_BYTES - usize::try_from(offset % SECTOR_BYTES as u64).unwrap_or(0);
    let ends = (0..).map(|sector| first + sector * SECTOR_BYTES).take_while(|end| *end < length);
    let mut from = 0;
    let ends = ends.chain([length]);
    ends.map(|end| std::mem::replace(&mut from, end)..end).collect()
}

/// Whether the file is part of the log, also before it has its name.
fn is_log(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.contains(".log"))
}

/// What a write of less than that is never torn within, on a real disk.
const SECTOR_BYTES: usize = 512;
const FILES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn a_write_divides_at_the_sectors_of_its_file() {
        assert_eq!(sectors(0, 1_024), [0..512, 512..1_024]);
        assert_eq!(sectors(500, 600), [0..12, 12..524, 524..600]);
        assert_eq!(sectors(1_030, 100), [Range { start: 0, end: 100 }]);
    }

    #[test]
    fn of_a_torn_write_some_arrives_now_and_then_and_never_all() {
        let harm = Harm::new(Stream::named(Seed(7), "harm"));
        harm.set(Some(DiskFault::of(DiskKind::TornWrite)));
        let mut shapes = std::collections::BTreeSet::new();
        for length in [1, 100, 512, 2_000] {
            for _ in 0..200 {
                let torn = harm.on_write(Path::new("0.log"), 100, length);
                let OnWrite::Fails { arrives, error } = torn else { panic!("it is torn") };
                let bytes: usize = arrives.iter().map(ExactSizeIterator::len).sum();
                assert!(bytes < length, "{arrives:?} of {length}");
                assert_eq!(error.raw_os_error(), Some(Errno::EIO as i32));
                shapes.insert(bytes);
            }
        }
        assert!(shapes.len() > 50, "{} shapes", shapes.len());
        let report = harm.report();
        assert_eq!((report.errors, report.later), (800, 799), "the log had failed");
        assert_eq!(report.files, ["0.log"]);
    }
}
