//! A store that forgets: for tests, and for groups that rather lose a member than wait for a disk.
//!
//! Keeps no entries, since the core holds the log; what is submitted counts as durable at once.
//! Snapshots it keeps like files, since others ask for them. Invariant: each opening is a new
//! store with a new id, so a member that restarts on it is a new server and never votes twice.

mod medium;

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use raft::{Position, StoreId, Write, WriteId};

use self::medium::Files;
use super::{
    Contents, Founding, Medium, Owner, Rest, Shelf, Storage, StorageError, Store, Written,
    compaction, snapshot,
};

/// Memory as a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory;

impl Store for Memory {
    fn open(self: Box<Self>, owner: Owner) -> Result<Box<dyn Storage>, StorageError> {
        let files: Arc<dyn Medium> = Arc::new(Files::default());
        Ok(Box::new(Remembered {
            id: owner.fresh,
            founding: None,
            submitted: None,
            kept: None,
            shelf: Shelf::new(Arc::clone(&files), None),
            files,
            waker: Waker::noop().clone(),
        }))
    }
}

struct Remembered {
    id: StoreId,
    founding: Option<Founding>,
    /// Submitted and not yet reported.
    submitted: Option<WriteId>,
    kept: Option<Position>,
    files: Arc<dyn Medium>,
    shelf: Shelf,
    waker: Waker,
}

impl Remembered {
    /// Makes the snapshot the one that counts, if it is newer; says whether it is.
    fn adopt(&mut self, mut written: Written) -> Result<bool, StorageError> {
        let (id, before) = (written.id(), self.shelf.current());
        if before.is_some_and(|before| before.position.index >= id.position.index) {
            return Ok(false);
        }
        self.shelf.put(&mut written)?;
        self.shelf.show(Some(id));
        match before {
            Some(before) => compaction::remove(&*self.files, &snapshot::name(before.position)),
            None => Ok(()),
        }?;
        Ok(true)
    }

    fn wake(&mut self) {
        mem::replace(&mut self.waker, Waker::noop().clone()).wake();
    }
}

impl Storage for Remembered {
    fn id(&self) -> StoreId {
        self.id
    }

    fn take_contents(&mut self) -> Contents {
        Contents::default()
    }

    fn found(&mut self, founding: &Founding) -> Result<(), StorageError> {
        let first = self.founding.get_or_insert_with(|| founding.clone());
        if first == founding {
            return Ok(());
        }
        Err(StorageError::Founded {
            path: "memory".into(),
            found: first.lineage.to_string(),
            wanted: founding.lineage.to_string(),
        })
    }

    fn renew(&mut self, fresh: StoreId) -> Result<bool, StorageError> {
        (self.id, self.founding, self.submitted) = (fresh, None, None);
        (self.kept, self.files) = (None, Arc::new(Files::default()));
        self.shelf = Shelf::new(Arc::clone(&self.files), None);
        Ok(true)
    }

    fn submit(&mut self, id: WriteId, _write: Write) {
        self.submitted = Some(id);
        self.wake();
    }

    fn poll_persisted(&mut self, context: &mut Context<'_>) -> Poll<Result<WriteId, StorageError>> {
        let Some(id) = self.submitted.take() else {
            self.waker.clone_from(context.waker());
            return Poll::Pending;
        };
        Poll::Ready(Ok(id))
    }

    fn backlog_bytes(&self) -> usize {
        0
    }

    fn shelf(&self) -> Option<Shelf> {
        Some(self.shelf.clone())
    }

    fn keep(&mut self, written: Written) {
        let position = written.id().position;
        match self.adopt(written) {
            Ok(true) => self.kept = Some(position),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "memory cannot keep a snapshot"),
        }
        self.wake();
    }

    fn poll_kept(&mut self, context: &mut Context<'_>) -> Poll<Position> {
        self.waker.clone_from(context.waker());
        self.kept.take().map_or(Poll::Pending, Poll::Ready)
    }

    fn install(&mut self, written: Written, _: Rest) -> Result<(), StorageError> {
        self.adopt(written).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use raft::{HardState, PeerId};

    use super::*;
    use crate::storage::{samples, snapshot::tests as snapshots};

    #[test]
    fn the_newest_snapshot_is_kept_and_whoever_reads_an_older_one_reads_on() {
        let mut storage = Box::new(Memory).open(samples::owner(7)).expect("memory opens");
        let shelf = storage.shelf().expect("memory keeps snapshots");
        let mut context = Context::from_waker(Waker::noop());
        let [old, new] = [5, 9].map(|index| samples::position(1, index));
        storage.keep(snapshots::written(&shelf, old, b"old"));
        assert_eq!(storage.poll_kept(&mut context), Poll::Ready(old));
        let reader = shelf.open().expect("it is there").expect("it is there");
        storage.install(snapshots::written(&shelf, new, b"new"), Rest::GivesWay).expect("newer");
        assert_eq!(shelf.current().map(|id| id.position), Some(new));
        reader.verify().expect("still readable");
        storage.keep(snapshots::written(&shelf, old, b"old"));
        assert!(storage.poll_kept(&mut context).is_pending(), "it is void");
        storage.renew(StoreId(1)).expect("memory can");
        assert!(storage.shelf().and_then(|shelf| shelf.current()).is_none());
    }

    #[test]
    fn what_is_submitted_is_durable_at_once_and_reported_once() {
        let owner = samples::owner(7);
        let mut storage = Box::new(Memory).open(owner).expect("memory opens");
        assert_eq!(storage.id(), owner.fresh);
        assert_eq!(storage.take_contents(), Contents::default());
        let mut context = Context::from_waker(Waker::noop());
        assert!(storage.poll_persisted(&mut context).is_pending());
        storage.submit(WriteId(1), Write::HardState(HardState::default()));
        storage.submit(WriteId(2), Write::HardState(HardState::default()));
        let Poll::Ready(Ok(id)) = storage.poll_persisted(&mut context) else {
            panic!("durable at once")
        };
        assert_eq!(id, WriteId(2));
        assert!(storage.poll_persisted(&mut context).is_pending());
        assert_eq!(storage.backlog_bytes(), 0);
    }

    #[test]
    fn a_second_founding_must_equal_the_first() {
        let mut storage = Box::new(Memory).open(samples::owner(7)).expect("memory opens");
        storage.found(&samples::founding(1)).expect("the first");
        storage.found(&samples::founding(1)).expect("the same again");
        let error = storage.found(&samples::founding(2)).expect_err("another");
        assert!(matches!(error, StorageError::Founded { .. }), "{error}");
        assert_eq!(samples::owner(7).peer, PeerId([7; 32]));
    }
}
