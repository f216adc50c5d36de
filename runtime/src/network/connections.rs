//! All connections of one node, so that each can be told when the node leaves.
//!
//! Invariant: holds no connection open, and forgets the closed ones as new ones come.

use std::sync::{Mutex, PoisonError};

use iroh::endpoint::{Connection, WeakConnectionHandle};

use crate::network::code::Refusal;

/// See above.
#[derive(Default)]
pub(crate) struct Connections(Mutex<Open>);

#[derive(Default)]
struct Open {
    handles: Vec<WeakConnectionHandle>,
    /// Look for closed ones when there are this many.
    prune_at: usize,
}

impl Connections {
    pub(crate) fn add(&self, connection: &Connection) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.handles.len() >= open.prune_at {
            open.handles.retain(is_open);
            // Twice what is left: pruning costs each connection a constant share.
            open.prune_at = (2 * open.handles.len()).max(PRUNE_MIN);
        }
        open.handles.push(connection.weak_handle());
    }

    /// Closes them all.
    pub(crate) fn close(&self, refusal: &Refusal) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in open.handles.drain(..).filter_map(|handle| handle.upgrade()) {
            refusal.close(&connection);
        }
    }

    /// How many are open.
    #[cfg(test)]
    pub(crate) fn open(&self) -> usize {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.handles.iter().filter(|handle| is_open(handle)).count()
    }
}

fn is_open(handle: &WeakConnectionHandle) -> bool {
    handle.upgrade().is_some_and(|connection| connection.close_reason().is_none())
}

const PRUNE_MIN: usize = 64;
