//! A disk in memory that takes its time to sync, and that a crash robs of what was not synced.
//!
//! Contract of [`Medium`]: what was synced stays. Of the rest a crash leaves a drawn part, torn
//! at sectors and in any order; names are kept in order, as on a journaling file system. A sync
//! is a barrier that is done at a later moment: whoever asked for it waits until then, so what
//! comes behind one that is not done yet never reached the disk at all.
//!
//! Invariant: between crashes everything that was written is read back.

mod directory;
mod image;

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use runtime::{Time, storage::Medium};

use crate::{
    disk::{FaultyMedium, Harm, cold_bit, written_bytes},
    seed::{Seed, Stream},
};

use directory::Directory;
use image::{Change, Image, torn};

/// A directory. Clones are the same directory.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    inner: Arc<Mutex<Inner>>,
    /// What is done to it beside that.
    harm: Harm,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    stream: Stream,
    /// As whoever writes sees it.
    seen: Image,
    /// As a crash would find it, but for what has changed since.
    safe: Image,
    changes: VecDeque<Change>,
    /// When the last sync is done.
    busy_until: Time,
    /// Of what was done by then, whoever writes was told that it is durable.
    told: Time,
    /// The node is gone: nothing reaches the disk any more.
    frozen: bool,
    files_ever: u64,
}

/// What a crash found on its way to a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Losses {
    /// Changes that were not durable.
    pub(super) open: u64,
    /// Of them, those that were lost or torn.
    pub(super) lost: u64,
}

impl Disk {
    /// An empty disk. Sync times and losses are drawn from the stream.
    pub(super) fn new(path: PathBuf, stream: Stream) -> Self {
        let (seen, safe) = (Image::default(), Image::default());
        let harm = Harm::new(Stream::named(Seed(stream.clone().draw()), "harm"));
        let inner = Arc::new(Mutex::new(Inner {
            path,
            stream,
            seen,
            safe,
            changes: VecDeque::new(),
            busy_until: Time::default(),
            told: Time::default(),
            frozen: false,
            files_ever: 0,
        }));
        Self { inner, harm }
    }

    /// The disk as a store writes to it.
    pub(super) fn medium(&self) -> Box<dyn Medium> {
        let path = self.inner().path.clone();
        let (directory, disk) = (Box::new(Directory { disk: self.clone(), path }), self.clone());
        Box::new(FaultyMedium::new(directory, self.harm.clone(), move |by| disk.hold_up(by)))
    }

    /// What is done to it.
    pub(super) fn harm(&self) -> &Harm {
        &self.harm
    }

    /// The next sync is done that much later.
    fn hold_up(&self, by: Duration) {
        let mut inner = self.inner();
        inner.busy_until = inner.busy_until.max(super::clock::now()).plus(by);
    }

    /// Changes a cold bit of what a crash has left; says of which file, if there is a log.
    pub(super) fn flip(&self) -> Option<String> {
        self.inner().flip()
    }

    /// When everything that was synced so far is durable.
    pub(super) fn busy_until(&self) -> Time {
        self.inner().busy_until
    }

    /// Everything that was synced so far is durable at once: for what is waited for in place.
    pub(super) fn settle(&self) {
        let mut inner = self.inner();
        inner.busy_until = Time::default();
        for change in &mut inner.changes {
            if let Change::SyncFile { done, .. } | Change::SyncNames { done } = change {
                *done = Time::default();
            }
        }
    }

    /// Whoever writes was told that everything synced by then is durable.
    pub(super) fn told(&self, done: Time) {
        let mut inner = self.inner();
        inner.told = inner.told.max(done);
    }

    /// Whether something is on its way to the disk.
    pub(super) fn is_busy(&self) -> bool {
        let inner = self.inner();
        inner.busy_until > inner.told.max(super::clock::now())
    }

    /// From now on nothing reaches the disk.
    pub(super) fn freeze(&self) {
        self.inner().frozen = true;
    }

    /// Whether nothing reaches the disk.
    pub(super) fn is_frozen(&self) -> bool {
        self.inner().frozen
    }

    /// The node crashed at that moment; the disk is as it would be found afterwards, and works
    /// again. Says what that cost.
    pub(super) fn crash(&self, at: Time) -> Losses {
        self.inner().crash(at)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn flip(&mut self) -> Option<String> {
        let files = &self.safe.files;
        let length = |(name, file): (&String, &u64)| {
            let content = files.get(file).map_or(&[][..], Vec::as_slice);
            (name.clone(), written_bytes(name, content))
        };
        let lengths = self.safe.names.iter().map(length).collect();
        let cold = cold_bit(&lengths, &mut self.stream)?;
        let offset = usize::try_from(cold.offset).ok()?;
        for image in [&mut self.safe, &mut self.seen] {
            let content = image.files.get_mut(image.names.get(&cold.file)?)?;
            *content.get_mut(offset)? ^= 1 << cold.bit;
        }
        Some(cold.file)
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        if self.frozen {
            return Err(io::Error::other("the node is gone"));
        }
        self.seen.apply(&change, |written| written);
        self.changes.push_back(change);
        Ok(())
    }

    /// A sync takes a drawn time, and begins when the one before it is done.
    fn sync(&mut self, now: Time, change: impl FnOnce(Time) -> Change) -> io::Result<()> {
        let (least, most) = match self.stream.below(1_000) {
            0..STUCK_PERMILLE => (SLOW_MAX, STUCK_MAX),
            STUCK_PERMILLE..SLOW_PERMILLE => (SYNC_MAX, SLOW_MAX),
            _ => (SYNC_MIN, SYNC_MAX),
        };
        let done = self.busy_until.max(now).plus(self.stream.duration(least, most));
        self.change(change(done))?;
        self.busy_until = done;
        self.absorb(now);
        Ok(())
    }

    /// What is durable by now need not be kept as a change.
    fn absorb(&mut self, now: Time) {
        let is_done = |change: &Change| match change {
            Change::SyncFile { done, .. } | Change::SyncNames { done } => *done <= now,
            _ => false,
        };
        let Some(last) = self.changes.iter().rposition(is_done) else { return };
        let settled: Vec<Change> = self.changes.drain(..=last).collect();
        let kept = self.keep(settled, |_, _| None);
        self.changes.extend(kept.iter().cloned());
        self.changes.rotate_right(kept.len());
    }

    /// Makes safe what a sync among the changes made so; of the others, asks which part survives,
    /// and gives back those of which nothing was said.
    fn keep(
        &mut self,
        changes: Vec<Change>,
        mut survives: impl FnMut(&mut Stream, &Change) -> Option<Survivor>,
    ) -> Vec<Change> {
        let mut open = Vec::new();
        let synced_names = changes.iter().rposition(|c| matches!(c, Change::SyncNames { .. }));
        let synced = |place: usize, file: u64| {
            let of_file =
                |change: &Change| matches!(change, Change::SyncFile { file: f, .. } if *f == file);
            changes[place..].iter().any(of_file)
        };
        let verdicts: Vec<bool> = changes
            .iter()
            .enumerate()
            .map(|(place, change)| match change {
                Change::Write { file, .. } => synced(place, *file),
                Change::Publish | Change::SyncFile { .. } | Change::SyncNames { .. } => true,
                Change::Create { .. } | Change::Rename { .. } | Change::Remove { .. } => {
                    synced_names.is_some_and(|last| place < last)
                }
            })
            .collect();
        let mut stream = self.stream.clone();
        for (change, safe) in changes.into_iter().zip(verdicts) {
            if safe {
                self.safe.apply(&change, |written| written);
                continue;
            }
            match survives(&mut stream, &change) {
                None => open.push(change),
                Some(Survivor::Nothing) => {}
                Some(Survivor::All) => self.safe.apply(&change, |written| written),
                Some(Survivor::Sectors(draws)) => {
                    self.safe.apply(&change, |written| torn(written, draws));
                }
            }
        }
        self.stream = stream;
        open
    }

    fn crash(&mut self, at: Time) -> Losses {
        // The node may have been ahead of whoever crashed it, by less than a tick.
        let at = at.max(self.told);
        let is_under_way = |change: &Change| match change {
            Change::SyncFile { done, .. } | Change::SyncNames { done } => *done > at,
            _ => false,
        };
        // Whoever waited for it did nothing more.
        if let Some(waited_for) = self.changes.iter().position(is_under_way) {
            self.changes.truncate(waited_for);
        }
        let (mut names_kept, mut losses) = (true, Losses::default());
        let changes: Vec<Change> = std::mem::take(&mut self.changes).into();
        self.keep(changes, |stream, change| {
            let survivor = match change {
                Change::Write { .. } => match stream.below(3) {
                    0 => Survivor::Nothing,
                    1 => Survivor::All,
                    _ => Survivor::Sectors(stream.draw()),
                },
                // In order: the first that is lost takes all later ones with it.
                _ => {
                    names_kept &= stream.chance(500);
                    if names_kept { Survivor::All } else { Survivor::Nothing }
                }
            };
            losses.open += 1;
            losses.lost += u64::from(!matches!(survivor, Survivor::All));
            Some(survivor)
        });
        self.safe.forget_unnamed();
        self.seen = self.safe.clone();
        self.busy_until = Time::default();
        self.told = Time::default();
        self.frozen = false;
        losses
    }
}

/// What survives of a change.
enum Survivor {
    Nothing,
    All,
    /// Of a write, the sectors whose bit is drawn.
    Sectors(u64),
}

const SYNC_MIN: Duration = Duration::from_micros(100);
const SYNC_MAX: Duration = Duration::from_millis(4);
/// Often enough for a crash to find a sync under way, a disk is busy with something else.
const SLOW_MAX: Duration = Duration::from_millis(15);
const SLOW_PERMILLE: u64 = 150;
const STUCK_MAX: Duration = Duration::from_millis(80);
const STUCK_PERMILLE: u64 = 5;

#[cfg(test)]
mod tests {
    use runtime::{
        HardState, PeerId, StoreId, Term,
        storage::{Journal, MediumFile, Owner, Write},
    };

    use super::{super::clock, *};

    fn disk(seed: u64) -> Disk {
        clock::show(Time::default());
        Disk::new(PathBuf::from("disk"), Stream::named(Seed(seed), "disk"))
    }

    fn at(us: u64) -> Time {
        Time(Duration::from_micros(us))
    }

    fn file(disk: &Disk) -> Box<dyn MediumFile> {
        let medium = disk.medium();
        let file = medium.create("a", 4_096).expect("the disk works");
        medium.sync().expect("the disk works");
        disk.settle();
        file
    }

    fn content(disk: &Disk, bytes: usize) -> Vec<u8> {
        let file = disk.medium().open("a").expect("it is there");
        let mut content = vec![0; bytes];
        file.read_at(0, &mut content).expect("it is that long");
        content
    }

    #[test]
    fn what_was_synced_in_time_survives_and_the_rest_is_torn() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let disk = disk(seed);
            let file = file(&disk);
            file.write_at(0, &[1; 1_024]).expect("the disk works");
            file.sync().expect("the disk works");
            let done = disk.busy_until();
            clock::show(done);
            file.write_at(1_024, &[2; 1_024]).expect("the disk works");
            disk.crash(done);
            let found = content(&disk, 2_048);
            assert_eq!(found[..1_024], [1; 1_024], "seed {seed}");
            outcomes.insert((found[1_024], found[1_536]));
        }
        let expected = [(0, 0), (0, 2), (2, 0), (2, 2)];
        assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), expected, "each sector by itself");
    }

    #[test]
    fn what_would_come_behind_a_sync_that_is_not_done_never_happened() {
        for seed in 0..50 {
            let disk = disk(seed);
            let file = file(&disk);
            file.write_at(0, &[1; 512]).expect("the disk works");
            file.sync().expect("the disk works");
            file.write_at(512, &[2; 512]).expect("the disk works");
            disk.crash(at(1));
            assert_eq!(content(&disk, 1_024)[512..], [0; 512], "seed {seed}");
        }
    }

    #[test]
    fn names_are_lost_from_the_end() {
        for seed in 0..50 {
            let disk = disk(seed);
            let medium = disk.medium();
            for name in ["a", "b", "c"] {
                medium.create(name, 1).expect("the disk works");
            }
            disk.crash(at(1));
            let names = medium.list().expect("the disk works");
            assert!(["", "a", "a,b", "a,b,c"].contains(&&*names.join(",")), "{names:?}");
        }
    }

    #[test]
    fn a_frozen_disk_takes_nothing() {
        let disk = disk(1);
        let file = file(&disk);
        disk.freeze();
        file.write_at(0, &[1]).expect_err("the node is gone");
        file.sync().expect_err("the node is gone");
        disk.crash(at(1));
        assert!(!disk.is_frozen());
        assert_eq!(content(&disk, 1), [0]);
    }

    /// A store at work, crashed at some moment again and again: what was durable by then is there.
    #[test]
    fn a_store_keeps_through_crashes_what_it_was_told_to_be_durable() {
        for seed in 0..60 {
            let disk = disk(seed);
            let mut stream = Stream::named(Seed(seed), "test");
            let (mut durable, mut term) = (0, 0);
            for life in 0..6 {
                let owner = Owner {
                    group: postcard::from_bytes(&[1; 32]).expect("it is 32 bytes"),
                    peer: PeerId([2; 32]),
                    fresh: StoreId(3),
                };
                let opened = Journal::open(disk.medium(), owner, 4 << 10);
                let mut journal = opened.unwrap_or_else(|error| {
                    panic!("seed {seed}, life {life}: {error}");
                });
                disk.settle();
                let held = journal.take_contents().hard_state.term.0;
                assert!(held >= durable, "seed {seed}, life {life}: {held} after {durable}");
                term = term.max(held);
                let mut acknowledged = Vec::new();
                for _ in 0..stream.below(60) {
                    term += 1;
                    let write = Write::HardState(HardState { term: Term(term), vote: None });
                    journal.commit([&write]).expect("the disk works");
                    acknowledged.push((disk.busy_until(), term));
                    clock::show(disk.busy_until());
                    if stream.chance(100) {
                        journal.settle().expect("the disk works");
                    }
                }
                let back = Duration::from_micros(stream.below(8_000));
                let crash = Time(clock::now().0.saturating_sub(back));
                let kept = acknowledged.iter().filter(|(done, _)| *done <= crash);
                durable = kept.map(|(_, term)| *term).max().unwrap_or(held);
                disk.crash(crash);
                clock::show(clock::now().plus(Duration::from_millis(1)));
            }
        }
    }
}
