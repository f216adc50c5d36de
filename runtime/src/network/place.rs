//! The places of those that have not been let in yet: a bounded number.
//!
//! Invariant: a place is given back when it is dropped, however the handshake ended.

use std::sync::Arc;

use metrics::gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metric::HANDSHAKES;

/// All places of one node.
pub(crate) struct Places(Arc<Semaphore>);

/// One of them.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(crate) fn new(places_max: usize) -> Self {
        Self(Arc::new(Semaphore::new(places_max)))
    }

    /// A place, if one is free.
    pub(crate) fn take(&self) -> Option<Place> {
        let permit = Arc::clone(&self.0).try_acquire_owned().ok()?;
        gauge!(HANDSHAKES).increment(1);
        Some(Place { _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        gauge!(HANDSHAKES).decrement(1);
    }
}
