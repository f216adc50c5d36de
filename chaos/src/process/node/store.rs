//! A store on the host's disk, which may fail: the production code, with a medium between it and
//! the directory that does what the harness says.
//!
//! Invariant: without a fault it is the host's disk.

use std::thread;

use runtime::storage::{self, Mounted, Owner, Storage, StorageError, Store};

use crate::disk::{FaultyMedium, Harm};

/// See the module.
pub(super) struct HostStore {
    pub(super) disk: storage::Disk,
    pub(super) harm: Harm,
}

impl Store for HostStore {
    fn open(self: Box<Self>, owner: Owner) -> Result<Box<dyn Storage>, StorageError> {
        // A slow disk holds up the thread that syncs, and no other.
        let medium = FaultyMedium::new(self.disk.medium()?, self.harm, thread::sleep);
        Box::new(Mounted::on(Box::new(medium))).open(owner)
    }
}
