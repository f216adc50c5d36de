//! Those that were let in over a link, clients and users of the program's own protocols: a
//! bounded number, in all and of each peer.
//!
//! Members do not count: a group has one bond with each. Invariant: a guest is counted for as
//! long as its link has a half.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::gauge;
use raft::PeerId;

use crate::{
    metric::LINKS,
    network::{Code, code::Refusal},
};

/// All guests of one node.
pub(crate) struct Guests {
    of_peers: Arc<Mutex<OfPeers>>,
    guests_max: usize,
    of_peer_max: usize,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Guest {
    of_peers: Arc<Mutex<OfPeers>>,
    peer: PeerId,
}

/// How many guests each peer is.
#[derive(Default, Debug)]
struct OfPeers {
    all: usize,
    counts: BTreeMap<PeerId, usize>,
}

impl Guests {
    pub(crate) fn new(guests_max: usize, of_peer_max: usize) -> Self {
        Self { of_peers: Arc::default(), guests_max, of_peer_max }
    }

    /// Counts one more guest, if there is room for it.
    pub(crate) fn receive(&self, peer: PeerId) -> Result<Guest, Refusal> {
        let mut of_peers = lock(&self.of_peers);
        let of_peer = of_peers.counts.get(&peer).copied().unwrap_or_default();
        for (count, count_max, whose) in
            [(of_peers.all, self.guests_max, "in all"), (of_peer, self.of_peer_max, "of this peer")]
        {
            if count >= count_max {
                return Err(Code::NoCapacity
                    .because(format!("this node holds {count} links {whose}, as many as it may")));
            }
        }
        of_peers.all += 1;
        of_peers.counts.insert(peer, of_peer + 1);
        drop(of_peers);
        gauge!(LINKS).increment(1);
        Ok(Guest { of_peers: Arc::clone(&self.of_peers), peer })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        gauge!(LINKS).decrement(1);
        let mut of_peers = lock(&self.of_peers);
        of_peers.all -= 1;
        let Some(of_peer) = of_peers.counts.get_mut(&self.peer) else { return };
        *of_peer -= 1;
        if *of_peer == 0 {
            of_peers.counts.remove(&self.peer);
        }
    }
}

fn lock(of_peers: &Mutex<OfPeers>) -> MutexGuard<'_, OfPeers> {
    of_peers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> PeerId {
        PeerId([number; 32])
    }

    #[test]
    fn a_guest_counts_until_it_is_gone_in_all_and_for_its_peer() {
        let guests = Guests::new(3, 2);
        let first = guests.receive(peer(1)).expect("there is room");
        let _second = guests.receive(peer(1)).expect("there is room");
        let refused = guests.receive(peer(1)).expect_err("a third of one peer");
        assert_eq!(refused.code, Code::NoCapacity);
        assert!(refused.reason.contains("2 links of this peer"), "{refused}");
        let other = guests.receive(peer(2)).expect("there is room");
        let refused = guests.receive(peer(3)).expect_err("a fourth in all");
        assert!(refused.reason.contains("3 links in all"), "{refused}");
        drop(first);
        let _again = guests.receive(peer(1)).expect("the first is gone");
        drop(other);
        assert_eq!(lock(&guests.of_peers).counts.len(), 1, "who is gone is forgotten");
    }
}
