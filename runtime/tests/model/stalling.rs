//! A store on memory that can be stalled: then what is submitted is not durable until it goes on.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use raft::{Write, WriteId};
use runtime::{
    StorageError, StoreId,
    storage::{Contents, Founding, Memory, Owner, Storage, Store},
};

/// See above. Clones are the same store.
#[derive(Clone, Default)]
pub(crate) struct Stalling(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    stalled: bool,
    waker: Option<Waker>,
    /// Submitted and not durable, with what it weighs.
    backlog: VecDeque<(WriteId, usize)>,
}

struct Open {
    inner: Box<dyn Storage>,
    stalling: Stalling,
}

impl Stalling {
    /// Stalls it, or lets it go on.
    pub(crate) fn stall(&self, stalled: bool) {
        let mut state = self.state();
        state.stalled = stalled;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl Store for Stalling {
    fn open(self: Box<Self>, owner: Owner) -> Result<Box<dyn Storage>, StorageError> {
        let inner = Box::new(Memory).open(owner)?;
        Ok(Box::new(Open { inner, stalling: *self }))
    }
}

impl Storage for Open {
    fn id(&self) -> StoreId {
        self.inner.id()
    }

    fn take_contents(&mut self) -> Contents {
        self.inner.take_contents()
    }

    fn found(&mut self, founding: &Founding) -> Result<(), StorageError> {
        self.inner.found(founding)
    }

    fn submit(&mut self, id: WriteId, write: Write) {
        let weight = match write {
            Write::HardState(_) => 0,
            Write::Entries { entries, .. } => entries.view().weight_bytes(),
        };
        let mut state = self.stalling.state();
        state.backlog.push_back((id, weight));
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn poll_persisted(&mut self, context: &mut Context<'_>) -> Poll<Result<WriteId, StorageError>> {
        let mut state = self.stalling.state();
        if !state.stalled
            && let Some((id, _)) = state.backlog.drain(..).next_back()
        {
            return Poll::Ready(Ok(id));
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn backlog_bytes(&self) -> usize {
        self.stalling.state().backlog.iter().map(|(_, weight)| weight).sum()
    }
}
