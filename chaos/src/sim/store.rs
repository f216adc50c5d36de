//! A store on a simulated disk: what is submitted is written at once, and durable when the disk
//! says so.
//!
//! Stands in for the thread of the real store: while one sync runs, the next group gathers, and a
//! pause is used to seal. The bytes are the real store's. Invariant: nothing is reported as
//! durable before its sync is done, and nothing at all once the disk is frozen.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use runtime::{
    Clock, Position, StoreId, Time,
    storage::{
        Contents, Founding, Journal, Owner, Rest, Shelf, Storage, StorageError, Store, Write,
        WriteId, Written,
    },
};

use super::disk::Disk;

/// See the module.
pub(super) struct SimStore {
    pub(super) disk: Disk,
    pub(super) clock: Arc<dyn Clock>,
}

type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Open {
    journal: Journal,
    disk: Disk,
    clock: Arc<dyn Clock>,
    queue: Vec<(WriteId, Write)>,
    /// The newest write under way, when it is durable, and the wait for that.
    syncing: Option<(WriteId, Time, Sleep)>,
    /// A snapshot of its own that is to count, and then: where it ends, when it is durable, and
    /// the wait for that.
    keeping: Option<Written>,
    kept: Option<(Position, Time, Sleep)>,
    /// The pause that a seal waits for.
    pause: Option<Sleep>,
    failed: Option<StorageError>,
    waker: Waker,
}

impl Store for SimStore {
    fn open(self: Box<Self>, owner: Owner) -> Result<Box<dyn Storage>, StorageError> {
        let journal = Journal::open(self.disk.medium(), owner, SEGMENT_BYTES)?;
        // Whoever opens a store waits for it in place.
        self.disk.settle();
        Ok(Box::new(Open {
            journal,
            disk: self.disk,
            clock: self.clock,
            queue: Vec::new(),
            syncing: None,
            keeping: None,
            kept: None,
            pause: None,
            failed: None,
            waker: Waker::noop().clone(),
        }))
    }
}

impl Open {
    /// Writes what has gathered.
    fn begin(&mut self) -> Result<(), StorageError> {
        let Some((newest, _)) = self.queue.last() else { return Ok(()) };
        let newest = *newest;
        self.journal.commit(self.queue.iter().map(|(_, write)| write))?;
        self.queue.clear();
        self.pause = None;
        let done = self.disk.busy_until();
        self.syncing = Some((newest, done, self.clock.sleep_until(done)));
        Ok(())
    }

    /// Seals once nothing was written for a while.
    fn idle(&mut self, context: &mut Context<'_>) -> Result<(), StorageError> {
        if self.journal.is_settled() {
            self.pause = None;
            return Ok(());
        }
        let clock = &self.clock;
        let pause = self.pause.get_or_insert_with(|| clock.sleep_until(clock.now().plus(PAUSE)));
        if pause.as_mut().poll(context).is_ready() {
            self.pause = None;
            self.journal.settle()?;
        }
        Ok(())
    }

    /// Makes a snapshot count, if one is to.
    fn begin_keeping(&mut self) -> Result<(), StorageError> {
        let Some(written) = self.keeping.take() else { return Ok(()) };
        let position = written.id().position;
        if self.journal.adopt(written, Rest::Stays)? {
            let done = self.disk.busy_until();
            self.kept = Some((position, done, self.clock.sleep_until(done)));
        }
        Ok(())
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<WriteId, StorageError>> {
        self.waker.clone_from(context.waker());
        if self.disk.is_frozen() {
            return Poll::Pending;
        }
        if self.syncing.is_none() && !self.queue.is_empty() {
            self.begin()?;
        }
        if self.syncing.is_none() {
            self.begin_keeping()?;
        }
        if let Some((newest, done, wait)) = &mut self.syncing {
            let (newest, done) = (*newest, *done);
            return wait.as_mut().poll(context).map(|()| {
                self.syncing = None;
                self.disk.told(done);
                Ok(newest)
            });
        }
        self.idle(context)?;
        Poll::Pending
    }
}

impl Storage for Open {
    fn id(&self) -> StoreId {
        self.journal.id()
    }

    fn take_contents(&mut self) -> Contents {
        self.journal.take_contents()
    }

    fn found(&mut self, founding: &Founding) -> Result<(), StorageError> {
        self.journal.found(founding)?;
        self.disk.settle();
        Ok(())
    }

    fn renew(&mut self, fresh: StoreId) -> Result<bool, StorageError> {
        self.queue.clear();
        (self.syncing, self.keeping, self.kept) = (None, None, None);
        self.journal.renew(fresh)?;
        self.disk.settle();
        Ok(true)
    }

    fn submit(&mut self, id: WriteId, write: Write) {
        self.queue.push((id, write));
        self.waker.wake_by_ref();
    }

    fn poll_persisted(&mut self, context: &mut Context<'_>) -> Poll<Result<WriteId, StorageError>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        let polled = self.poll(context);
        if let Poll::Ready(Err(error)) = &polled {
            self.failed = Some(error.clone());
        }
        polled
    }

    fn backlog_bytes(&self) -> usize {
        let weight = |(_, write): &(WriteId, Write)| match write {
            Write::Entries { entries, .. } => entries.view().weight_bytes(),
            Write::HardState(_) => 0,
        };
        self.queue.iter().map(weight).sum()
    }

    fn shelf(&self) -> Option<Shelf> {
        Some(self.journal.shelf())
    }

    fn keep(&mut self, written: Written) {
        self.keeping = Some(written);
        self.waker.wake_by_ref();
    }

    fn poll_kept(&mut self, context: &mut Context<'_>) -> Poll<Position> {
        if self.disk.is_frozen() {
            return Poll::Pending;
        }
        let Some((position, done, wait)) = &mut self.kept else { return Poll::Pending };
        let (position, done) = (*position, *done);
        wait.as_mut().poll(context).map(|()| {
            self.kept = None;
            self.disk.told(done);
            position
        })
    }

    fn install(&mut self, written: Written, rest: Rest) -> Result<(), StorageError> {
        // What was submitted before is written first; whoever waits for it hears of it as ever.
        if self.syncing.is_none() {
            self.begin()?;
        } else {
            self.journal.commit(self.queue.iter().map(|(_, write)| write))?;
            if let (Some((newest, _)), Some((syncing, ..))) = (self.queue.last(), &mut self.syncing)
            {
                *syncing = *newest;
            }
            self.queue.clear();
        }
        self.keeping = None;
        self.journal.adopt(written, rest)?;
        self.disk.settle();
        Ok(())
    }

    fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.failed.is_none() && (self.syncing.is_some() || !self.queue.is_empty()) {
            match self.poll_persisted(context) {
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.failed.is_none() && !self.disk.is_frozen() {
            // What cannot be written any more is for the next opening to judge.
            drop(self.journal.settle());
            self.disk.settle();
        }
        Poll::Ready(())
    }
}

/// Small, so that a run of seconds fills many of them.
const SEGMENT_BYTES: u64 = 256 << 10;
/// As long as the real store waits.
const PAUSE: Duration = Duration::from_millis(10);
