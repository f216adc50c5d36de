//! A snapshot takes the place of the log before it.
//!
//! In order, each durable before the next: the snapshot's name, the base that names it, and only
//! then the files that it makes needless are taken away. Whole segments go: those in which no
//! entry stands that the snapshot does not cover. Invariant: wherever this ends, the next
//! opening finds the old snapshot with the old log, or the new one with the new.

use super::{
    StorageError,
    base::{self, Base},
    outline::Outline,
    segment,
    snapshot::{self, Written},
    stream::Stream,
};

/// What becomes of the log behind a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// The log holds the snapshot's last entry, so what follows that stays.
    Stays,
    /// It does not, or holds another in its place: the log gives way (Raft §7).
    GivesWay,
}

impl Stream {
    /// Makes the snapshot what the log starts after, with everything that was appended before it;
    /// whether it is newer than the present one. One that is not changes nothing.
    pub(crate) fn adopt(
        &mut self,
        written: &mut Written,
        rest: Rest,
    ) -> Result<bool, StorageError> {
        self.commit()?;
        let id = written.id();
        let before = self.snapshot;
        if before.is_some_and(|before| before.position.index >= id.position.index) {
            return Ok(false);
        }
        if rest == Rest::GivesWay {
            self.begin_anew(written)?;
        }
        self.outline.cover(id.position).map_err(|what| self.refused(what))?;
        let needless = match rest {
            Rest::GivesWay => self.passed.len() - 1,
            Rest::Stays => {
                let older = self.passed.len() - 1;
                let covered = |segment: usize| self.passed[segment].highest <= id.position.index;
                (0..older).take_while(|segment| covered(*segment)).count()
            }
        };
        self.shelf.put(written)?;
        let from = self.passed[needless].start.clone();
        let (store, durable) = (self.store, self.cursor.durable);
        base::write(&*self.medium, &Base { snapshot: id, store, from, durable })?;
        self.snapshot = Some(id);
        self.shelf.show(self.snapshot);
        for segment in self.passed.drain(..needless) {
            remove(&*self.medium, &segment::name(segment.start.segment))?;
        }
        if let Some(before) = before {
            remove(&*self.medium, &snapshot::name(before.position))?;
        }
        Ok(true)
    }

    /// Goes on in a segment of its own with a log that ends where the snapshot does.
    fn begin_anew(&mut self, written: &Written) -> Result<(), StorageError> {
        let last = written.id().position;
        self.roll(0)?;
        self.outline = Outline::after(self.outline.hard_state(), last);
        if let Some(active) = self.passed.back_mut() {
            active.start.last = last;
        }
        Ok(())
    }
}

/// Takes a file away that nothing needs any more. If the name comes back after a crash, the next
/// opening takes it away again.
pub(super) fn remove(medium: &dyn super::Medium, name: &str) -> Result<(), StorageError> {
    let path = medium.path().join(name);
    medium.remove(name).map_err(StorageError::io(path, "remove"))
}
