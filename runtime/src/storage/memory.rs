//! A store that forgets: for tests, and for groups that rather lose a member than wait for a disk.
//!
//! Keeps no entries, since the core holds the log; what is submitted counts as durable at once.
//! Invariant: each opening is a new store with a new id, so a member that restarts on it is a
//! new server and never votes twice.

use std::{
    mem,
    task::{Context, Poll, Waker},
};

use raft::{StoreId, Write, WriteId};

use super::{Contents, Founding, Owner, Storage, StorageError, Store};

/// Memory as a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory;

impl Store for Memory {
    fn open(self: Box<Self>, owner: Owner) -> Result<Box<dyn Storage>, StorageError> {
        Ok(Box::new(Remembered {
            id: owner.fresh,
            founding: None,
            submitted: None,
            waker: Waker::noop().clone(),
        }))
    }
}

struct Remembered {
    id: StoreId,
    founding: Option<Founding>,
    /// Submitted and not yet reported.
    submitted: Option<WriteId>,
    waker: Waker,
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
        Ok(true)
    }

    fn submit(&mut self, id: WriteId, _write: Write) {
        self.submitted = Some(id);
        mem::replace(&mut self.waker, Waker::noop().clone()).wake();
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
}

#[cfg(test)]
mod tests {
    use raft::{HardState, PeerId};

    use super::*;
    use crate::storage::samples;

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
