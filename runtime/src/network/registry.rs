//! Who waits behind the door: groups by id, and the user's protocols by name.
//!
//! Invariants: every queue has a bound; who finds it full is turned away, never kept waiting. And
//! this node has one seat in a group at most: of all who claim it at once one gets it.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use iroh::endpoint::Connection;
use raft::PeerId;
use tokio::sync::{Notify, mpsc};

use crate::{
    GroupId, GroupKey, Link,
    network::{
        Code,
        code::Refusal,
        handshake::{MemberHello, Session, Talk},
        place::Place,
    },
};

/// Everything that can be asked for at the door.
#[derive(Default)]
pub(crate) struct Registry {
    groups: Mutex<BTreeMap<GroupId, Seat>>,
    inboxes: BTreeMap<Vec<u8>, Inbox>,
}

/// One group of this node.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) key: GroupKey,
    pub(crate) members: Option<mpsc::Sender<Applicant>>,
    pub(crate) clients: Option<mpsc::Sender<Link>>,
}

/// This node's seat in a group, held for who is about to join. Free again if it is dropped.
#[must_use = "dropped, it is free again"]
pub(crate) struct Claim {
    registry: Arc<Registry>,
    group: GroupId,
    is_kept: bool,
}

/// A peer that has proved the group's key and wants to bond.
pub(crate) struct Applicant {
    pub(crate) connection: Connection,
    pub(crate) talk: Talk,
    pub(crate) session: Session,
    pub(crate) hello: MemberHello,
    /// Its place among those that are not let in yet.
    pub(crate) place: Place,
}

/// Links of one protocol that nobody has taken yet.
#[derive(Default)]
struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    links: VecDeque<Link>,
    closed: bool,
}

impl Registry {
    pub(crate) fn new(protocols: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let inboxes = protocols.into_iter().map(|name| (name, Inbox::default())).collect();
        Self { groups: Mutex::default(), inboxes }
    }

    /// The group's seat for who is about to join, unless somebody has it.
    pub(crate) fn claim(self: &Arc<Self>, group: GroupId, key: &GroupKey) -> Option<Claim> {
        let mut groups = self.groups();
        let Entry::Vacant(place) = groups.entry(group) else { return None };
        place.insert(Seat::empty(key));
        Some(Claim { registry: Arc::clone(self), group, is_kept: false })
    }

    #[cfg(test)]
    pub(crate) fn has_group(&self, group: GroupId) -> bool {
        self.groups().contains_key(&group)
    }

    pub(crate) fn has_protocol(&self, protocol: &[u8]) -> bool {
        self.inboxes.contains_key(protocol)
    }

    /// The group's seat, if this node is in the group; one that is merely claimed takes nobody in.
    pub(crate) fn seat(&self, group: GroupId, remote: PeerId) -> Result<Seat, Refusal> {
        let seat = self.groups().get(&group).filter(|seat| !seat.is_empty()).cloned();
        seat.ok_or_else(|| {
            Code::GroupNotFound.because(format!(
                "this node is not in group {group}, which peer {remote} asks for: the key, the \
                 machine's signature and the consensus settings must be the same at both ends"
            ))
        })
    }

    /// Takes members in from now on.
    pub(crate) fn seat_members(&self, group: GroupId, key: &GroupKey) -> mpsc::Receiver<Applicant> {
        let (sender, receiver) = mpsc::channel(APPLICANTS_MAX);
        self.reserve(group, key, |seat| seat.members = Some(sender));
        receiver
    }

    /// Takes clients in from now on.
    pub(crate) fn seat_clients(&self, group: GroupId, key: &GroupKey) -> mpsc::Receiver<Link> {
        let (sender, receiver) = mpsc::channel(LINKS_MAX);
        self.reserve(group, key, |seat| seat.clients = Some(sender));
        receiver
    }

    /// This node is not in the group any more.
    pub(crate) fn leave(&self, group: GroupId) {
        self.groups().remove(&group);
    }

    /// Nobody waits any more.
    pub(crate) fn close(&self) {
        self.groups().clear();
        for inbox in self.inboxes.values() {
            let mut waiting = inbox.waiting();
            waiting.closed = true;
            waiting.links.clear();
            drop(waiting);
            inbox.arrived.notify_waiters();
        }
    }

    /// Brings a link to whoever accepts its protocol.
    pub(crate) fn deliver(&self, protocol: &[u8], link: Link) -> Result<(), Refusal> {
        let Some(inbox) = self.inboxes.get(protocol) else {
            return Err(Code::InvalidAlpn.because("nobody listens for this protocol"));
        };
        let mut waiting = inbox.waiting();
        if waiting.closed {
            return Err(Code::GracefulShutdown.because("this node is shut down"));
        }
        if waiting.links.len() >= LINKS_MAX {
            return Err(Code::NoCapacity.because("too many links wait to be accepted"));
        }
        waiting.links.push_back(link);
        drop(waiting);
        inbox.arrived.notify_one();
        Ok(())
    }

    /// The next link of the protocol; `None` once the node is shut down.
    pub(crate) async fn accept(&self, protocol: &[u8]) -> Option<Link> {
        let inbox = self.inboxes.get(protocol)?;
        loop {
            // Made before the look, so that nothing arrives unseen between the two.
            let mut arrived = std::pin::pin!(inbox.arrived.notified());
            arrived.as_mut().enable();
            {
                let mut waiting = inbox.waiting();
                if let Some(link) = waiting.links.pop_front() {
                    link.trust();
                    return Some(link);
                }
                if waiting.closed {
                    return None;
                }
            }
            arrived.await;
        }
    }

    fn reserve(&self, group: GroupId, key: &GroupKey, change: impl FnOnce(&mut Seat)) {
        let mut groups = self.groups();
        change(groups.entry(group).or_insert_with(|| Seat::empty(key)));
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<GroupId, Seat>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn empty(key: &GroupKey) -> Self {
        Self { key: key.clone(), members: None, clients: None }
    }

    fn is_empty(&self) -> bool {
        self.members.is_none() && self.clients.is_none()
    }
}

impl Claim {
    /// It belongs to the member that has joined, until this node [leaves](Registry::leave).
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_kept {
            self.registry.leave(self.group);
        }
    }
}

impl Inbox {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Peers that have proved a group's key and that it has not taken up yet.
pub(super) const APPLICANTS_MAX: usize = 64;
const LINKS_MAX: usize = 128;
