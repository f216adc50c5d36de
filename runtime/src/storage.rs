//! What a member must not forget: snapshot and log, its term and vote, who founded the group.
//!
//! Asynchronous in shape: a write is submitted, and durable once [`Storage::poll_persisted`]
//! says so. Knows nothing of roles. Invariant: writes become durable in the order of submission.
//!
//! A [`Disk`] that is foreign, cut, damaged, wiped or gone refuses to open, and says which file
//! and why. One kind of damage cannot be told: to the very last group of writes, if the process
//! died after its sync and before anything was written behind it (the next group, or the seal
//! that follows a pause of 10 ms). Such a group looks like one that a power cut tore, and is cut
//! like one, although it may have been acknowledged. All that lies before it is proven by what
//! was written later.

mod base;
mod closing;
mod compaction;
mod creation;
mod disk;
mod error;
mod forcing;
mod format;
mod journal;
mod marker;
mod medium;
mod memory;
mod mounted;
mod outline;
mod recovery;
mod segment;
mod shelf;
mod slip;
mod snapshot;
mod stream;
mod window;
mod writer;

#[cfg(test)]
mod crash;
#[cfg(test)]
mod garbage;
#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod samples;

use std::{path::Path, task};

use raft::{Configuration, Entry, HardState, Position, Snapshot, StoreId};
pub use raft::{Entries, EntriesRef, Write, WriteId};
use serde::{Deserialize, Serialize};

pub(crate) use self::{closing::close, snapshot::LEAD_BYTES};
pub use self::{
    compaction::Rest,
    disk::Disk,
    error::StorageError,
    forcing::Survey,
    journal::Journal,
    medium::{Medium, MediumFile},
    memory::Memory,
    mounted::Mounted,
    shelf::Shelf,
    snapshot::{
        Draft, SnapshotBody, SnapshotFile, SnapshotHead, SnapshotId, SnapshotWriter, Written,
    },
};
use crate::{GroupId, Lineage, PeerId};

/// Something that can open a store: what [`crate::GroupBuilder::storage`] takes.
pub trait Store: Send + 'static {
    /// Opens the store of this member, or creates it if there is none at all.
    ///
    /// # Errors
    /// A store that is foreign, truncated, corrupt or in use is refused, never started empty.
    fn open(self: Box<Self>, owner: Owner) -> Result<Box<dyn Storage>, StorageError>;
}

/// Whose store it is; written into it and compared when it is opened again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Owner {
    /// The group.
    pub group: GroupId,
    /// The peer.
    pub peer: PeerId,
    /// Names the store if it has to be created.
    pub fresh: StoreId,
}

/// How a group began: the same for all its members, for ever.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Founding {
    /// The hash of the group and its founders.
    pub lineage: Lineage,
    /// The founders.
    pub configuration: Configuration,
}

impl Founding {
    /// A store is founded once: another founding than its first is refused.
    fn confirm(&self, first: &Self, path: &Path) -> Result<(), StorageError> {
        if self == first {
            return Ok(());
        }
        Err(StorageError::Founded {
            path: path.into(),
            found: first.lineage.to_string(),
            wanted: self.lineage.to_string(),
        })
    }
}

/// What an opened store held.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Contents {
    /// How the group began; `None` in a store whose group is not founded yet, or whose member has
    /// not found it.
    pub founding: Option<Founding>,
    /// Term and vote.
    pub hard_state: HardState,
    /// What the log starts after.
    pub snapshot: Option<Snapshot>,
    /// The log.
    pub entries: Vec<Entry>,
}

/// An open store.
pub trait Storage: Send {
    /// The identity drawn when the store was created, or renewed.
    fn id(&self) -> StoreId;

    /// What the store held when it was opened. The second call finds it empty.
    fn take_contents(&mut self) -> Contents;

    /// Records how the group began, durably, before it returns. Once in a store's life.
    ///
    /// # Errors
    /// Of the disk, also if it hangs: no caller waits for one without end, and the store is not to
    /// be used any more then. And a second founding that differs from the first.
    fn found(&mut self, founding: &Founding) -> Result<(), StorageError>;

    /// Makes of the store, durably and before it returns, a new one with this id: without a
    /// founding, a term or a log. Writes under way are not reported any more. Only for a member
    /// that has promised nothing to anybody.
    ///
    /// Returns whether this kind of store can do that. If it cannot, nothing has changed.
    ///
    /// # Errors
    /// Of the disk, also if it hangs, as for a founding.
    fn renew(&mut self, fresh: StoreId) -> Result<bool, StorageError> {
        let _ = fresh;
        Ok(false)
    }

    /// Begins a write. Its failure is reported by [`Storage::poll_persisted`].
    fn submit(&mut self, id: WriteId, write: Write);

    /// The newest write that is durable, once there is one newer than last reported.
    ///
    /// # Errors
    /// Any failed write or sync. The store is then unusable: the member must stop.
    fn poll_persisted(
        &mut self,
        context: &mut task::Context<'_>,
    ) -> task::Poll<Result<WriteId, StorageError>>;

    /// Bytes submitted and not yet durable.
    fn backlog_bytes(&self) -> usize;

    /// Where snapshots are written and read; `None` if this kind of store keeps none. Its log
    /// then never shrinks.
    fn shelf(&self) -> Option<Shelf> {
        None
    }

    /// Begins to make a snapshot of this member's own what the log starts after. Its failure is
    /// reported by [`Storage::poll_persisted`]; one that is older than the present one is void.
    fn keep(&mut self, written: Written) {
        drop(written);
    }

    /// The position of the snapshot that the log starts after, once [`Storage::keep`] has made it
    /// that durably, if that is not reported yet.
    fn poll_kept(&mut self, context: &mut task::Context<'_>) -> task::Poll<Position> {
        let _ = context;
        task::Poll::Pending
    }

    /// Puts another member's snapshot in place, after everything that was submitted, durably and
    /// before it returns: nothing may be written meanwhile that goes on from the log as it was.
    ///
    /// # Errors
    /// Of the disk, also if it hangs, as for a founding; and a store that keeps no snapshots.
    fn install(&mut self, written: Written, rest: Rest) -> Result<(), StorageError> {
        let (_, path) = (rest, written.path().into());
        let what = "this kind of store keeps no snapshots".into();
        Err(StorageError::Refused { path, what })
    }

    /// Begins to close the store, and says when that is done: everything submitted is written or
    /// has failed, and the store can be opened again. Nothing is submitted afterwards.
    ///
    /// A store may be dropped without it, and may then hold up who drops it for a while; one
    /// that was asked to close may be dropped at any time and holds up nobody.
    fn poll_closed(&mut self, context: &mut task::Context<'_>) -> task::Poll<()> {
        let _ = context;
        task::Poll::Ready(())
    }
}
