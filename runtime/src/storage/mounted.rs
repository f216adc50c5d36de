//! A store on any medium: what [`super::Disk`] is on a directory of the host's.
//!
//! For whoever stands between that directory and the store, or has a medium of its own. The bytes,
//! the thread that writes them and all checks are those of [`super::Disk`].

use super::{
    Medium, Owner, Storage, StorageError, Store,
    disk::{Opened, SEGMENT_BYTES},
};

/// A medium as a store.
pub struct Mounted(Box<dyn Medium>);

impl Mounted {
    /// The store on this medium; a new one if nothing is there.
    pub fn on(medium: Box<dyn Medium>) -> Self {
        Self(medium)
    }
}

impl Store for Mounted {
    fn open(self: Box<Self>, owner: Owner) -> Result<Box<dyn Storage>, StorageError> {
        Ok(Box::new(Opened::open(self.0, owner, SEGMENT_BYTES)?))
    }
}
