//! A store that counts how often what was written to another became durable.
//!
//! Adds nothing else. One report may stand for several syncs that were done at once, so there
//! are at least as many syncs as are counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use runtime::{
    Position, StoreId,
    storage::{
        Contents, Founding, Owner, Rest, Shelf, Storage, StorageError, Store, Write, WriteId,
        Written,
    },
};

/// Counts for a store.
pub(crate) struct Counted<S> {
    pub(crate) store: S,
    pub(crate) reports: Arc<AtomicU64>,
}

struct Open {
    storage: Box<dyn Storage>,
    reports: Arc<AtomicU64>,
}

impl<S: Store> Store for Counted<S> {
    fn open(self: Box<Self>, owner: Owner) -> Result<Box<dyn Storage>, StorageError> {
        let Self { store, reports } = *self;
        Ok(Box::new(Open { storage: Box::new(store).open(owner)?, reports }))
    }
}

impl Storage for Open {
    fn id(&self) -> StoreId {
        self.storage.id()
    }

    fn take_contents(&mut self) -> Contents {
        self.storage.take_contents()
    }

    fn found(&mut self, founding: &Founding) -> Result<(), StorageError> {
        self.storage.found(founding)
    }

    fn renew(&mut self, fresh: StoreId) -> Result<bool, StorageError> {
        self.storage.renew(fresh)
    }

    fn submit(&mut self, id: WriteId, write: Write) {
        self.storage.submit(id, write);
    }

    fn poll_persisted(&mut self, context: &mut Context<'_>) -> Poll<Result<WriteId, StorageError>> {
        let persisted = self.storage.poll_persisted(context);
        if let Poll::Ready(Ok(_)) = &persisted {
            self.reports.fetch_add(1, Ordering::Relaxed);
        }
        persisted
    }

    fn backlog_bytes(&self) -> usize {
        self.storage.backlog_bytes()
    }

    fn shelf(&self) -> Option<Shelf> {
        self.storage.shelf()
    }

    fn keep(&mut self, written: Written) {
        self.storage.keep(written);
    }

    fn poll_kept(&mut self, context: &mut Context<'_>) -> Poll<Position> {
        self.storage.poll_kept(context)
    }

    fn install(&mut self, written: Written, rest: Rest) -> Result<(), StorageError> {
        self.storage.install(written, rest)
    }

    fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.storage.poll_closed(context)
    }
}
