//! Which connection is the bond, for each peer.
//!
//! Both ends apply the same rules to the same facts, so they keep the same one. Invariant: what
//! the driver is told of a peer comes in one order: `Up`, its frames, then `Down` or the next
//! `Up`; the lock of this table is what orders it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use iroh::endpoint::{Connection, RecvStream};
use raft::{NodeId, PeerId, Time};
use tokio::sync::{mpsc::Permit, watch};

use crate::{
    Lineage,
    group::{
        bond::{
            Admittance, Side,
            lane::{Dropped, Lane, LaneSender},
        },
        wire::MemberFrame,
    },
    network::{Card, Code, Refusal, connection_id, trust},
};

/// All bonds of one group.
#[derive(Default)]
pub(super) struct Table {
    places: Mutex<BTreeMap<PeerId, Place>>,
}

/// What is known of one peer.
struct Place {
    bond: Option<Arc<Bond>>,
    bonded: watch::Sender<bool>,
    attempts: u64,
    /// The last bond that ended here, and nothing replaced it.
    lost: Option<u64>,
}

/// What the tasks that make and keep bonds tell whoever listens.
pub(super) enum Told {
    Up {
        node: NodeId,
        /// What it has shown.
        lineage: Option<Lineage>,
        /// The bond that went with it, if that was with another store of the same peer.
        instead_of: Option<NodeId>,
    },
    Down {
        node: NodeId,
    },
    /// A lane to be read from now on.
    Lane(Opened),
    /// A peer of another lineage was met, and is not bonded with.
    Foreign(Foreign),
}

/// A peer that belongs to another lineage of the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Foreign {
    pub(crate) peer: PeerId,
    pub(crate) lineage: Lineage,
    /// That lineage may be given up as well.
    pub(crate) dissolves: bool,
}

/// A lane that the peer has opened.
pub(super) struct Opened {
    pub(super) bond: Arc<Bond>,
    pub(super) stream: RecvStream,
    /// `None` until the stream's first byte is read.
    pub(super) lane: Option<Lane>,
}

/// By what right a connection wants to be the bond.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Claim {
    pub(super) peer: PeerId,
    /// Both ends know the connection by this number.
    pub(super) id: u64,
    /// The peer's process start.
    pub(super) nonce: u64,
    pub(super) dialed_here: bool,
    pub(super) dialed_by_lower: bool,
    /// Counts the dialer's dials.
    pub(super) attempt: u64,
    /// A bond that the dialer has lost, whatever it looks like here.
    pub(super) lost: Option<u64>,
}

/// One bond.
pub(super) struct Bond {
    pub(super) node: NodeId,
    pub(super) card: Card,
    pub(super) connection: Connection,
    claim: Claim,
    lanes: [LaneSender; Lane::COUNT],
    /// Which lanes the peer has opened, as bits.
    opened: AtomicU8,
    heard_ns: AtomicU64,
    spoke_ns: AtomicU64,
    /// Why this node closed it, if it did.
    ended: OnceLock<Refusal>,
}

impl Table {
    /// Whether the peer is bonded, now and from now on.
    pub(super) fn watch(&self, peer: PeerId) -> watch::Receiver<bool> {
        self.places().entry(peer).or_default().bonded.subscribe()
    }

    /// Counts a dial, unless there is a bond already: its number, and the bond lost before it.
    pub(super) fn begin(&self, peer: PeerId) -> Option<(u64, Option<u64>)> {
        let mut places = self.places();
        let place = places.entry(peer).or_default();
        if place.bond.is_some() {
            return None;
        }
        place.attempts += 1;
        Some((place.attempts, place.lost))
    }

    /// Whether the claim would stand now.
    pub(super) fn weigh(&self, claim: &Claim) -> Result<(), Refusal> {
        let places = self.places();
        match places.get(&claim.peer).and_then(|place| place.bond.as_ref()) {
            Some(current) => claim.over(&current.claim),
            None => Ok(()),
        }
    }

    /// Makes this the bond, and gives back the one it replaces. For those who are no members
    /// there is a bounded number of places.
    pub(super) fn install(
        &self,
        bond: &Arc<Bond>,
        room: Permit<'_, Told>,
        admittance: &Admittance,
    ) -> Result<Option<Arc<Bond>>, Refusal> {
        let mut places = self.places();
        let is_guest = |bond: &&Arc<Bond>| admittance.is_guest(bond.node);
        let others = places.iter().filter(|(peer, _)| **peer != bond.node.peer);
        let guests = others.filter_map(|(_, place)| place.bond.as_ref()).filter(is_guest).count();
        if admittance.is_guest(bond.node) && guests >= admittance.guests_max {
            return Err(Code::NoCapacity
                .because(format!("{guests} are here that are no members, as many as may be")));
        }
        let place = places.entry(bond.node.peer).or_default();
        if let Some(current) = &place.bond {
            bond.claim.over(&current.claim)?;
        }
        let current = place.bond.as_ref().map(|current| current.node);
        let instead_of = current.filter(|current| *current != bond.node);
        room.send(Told::Up { node: bond.node, lineage: bond.card.lineage, instead_of });
        place.lost = None;
        place.bonded.send_replace(true);
        Ok(place.bond.replace(Arc::clone(bond)))
    }

    /// Whether this is the bond still: neither over nor replaced.
    pub(super) fn holds(&self, bond: &Arc<Bond>) -> bool {
        self.places().get(&bond.node.peer).is_some_and(|place| place.holds(bond))
    }

    /// The bond is over. Without room nobody is left to be told.
    pub(super) fn remove(&self, bond: &Arc<Bond>, room: Option<Permit<'_, Told>>) {
        let mut places = self.places();
        let Some(place) = places.get_mut(&bond.node.peer).filter(|place| place.holds(bond)) else {
            return;
        };
        place.bond = None;
        place.lost = Some(bond.claim.id);
        place.bonded.send_replace(false);
        if let Some(room) = room {
            room.send(Told::Down { node: bond.node });
        }
        // Whom nobody here dials comes like a stranger, if it comes again.
        places.retain(|_, place| place.bond.is_some() || place.bonded.receiver_count() > 0);
    }

    /// The bond with this very node.
    pub(super) fn bond(&self, node: NodeId) -> Option<Arc<Bond>> {
        let places = self.places();
        let bond = places.get(&node.peer)?.bond.as_ref()?;
        (bond.node == node).then(|| Arc::clone(bond))
    }

    pub(super) fn bonds(&self) -> Vec<Arc<Bond>> {
        self.places().values().filter_map(|place| place.bond.clone()).collect()
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<PeerId, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Place {
    fn default() -> Self {
        Self { bond: None, bonded: watch::Sender::new(false), attempts: 0, lost: None }
    }
}

impl Place {
    fn holds(&self, bond: &Arc<Bond>) -> bool {
        self.bond.as_ref().is_some_and(|current| Arc::ptr_eq(current, bond))
    }
}

impl Claim {
    /// Whether this claim stands against that of the present bond.
    fn over(&self, current: &Self) -> Result<(), Refusal> {
        let stands = if self.lost == Some(current.id) {
            // The dialer has lost what looks alive here.
            true
        } else if self.nonce != current.nonce {
            // One of two process starts is gone. Who came in since our dial began lives.
            !self.dialed_here
        } else {
            (self.dialed_by_lower, self.attempt) > (current.dialed_by_lower, current.attempt)
        };
        match stands {
            true => Ok(()),
            false => Err(Code::AlreadyBonded.because("there is a bond already, and it is kept")),
        }
    }
}

impl Bond {
    /// Opens the lanes of a connection whose two ends have proved themselves. The peer sees
    /// nothing of it before the lanes are written to.
    pub(super) async fn open(
        side: &Side,
        connection: Connection,
        claim: Claim,
        card: Card,
    ) -> Result<Arc<Self>, Refusal> {
        trust(&connection);
        let mut streams = Vec::with_capacity(Lane::COUNT);
        for lane in Lane::ALL {
            let stream = connection.open_uni().await.map_err(|error| Refusal::of(&error))?;
            let queue_bytes = side.metrics.queue_bytes(lane);
            streams.push(LaneSender::new(lane, stream, &side.member.consensus, queue_bytes));
        }
        let Ok(lanes) = <[LaneSender; Lane::COUNT]>::try_from(streams) else {
            unreachable!("one stream was opened for each lane")
        };
        let node = NodeId { peer: claim.peer, store: card.store };
        let bond = Self {
            node,
            card,
            connection,
            claim,
            lanes,
            opened: AtomicU8::new(0),
            heard_ns: AtomicU64::new(0),
            spoke_ns: AtomicU64::new(0),
            ended: OnceLock::new(),
        };
        bond.heard(side.clock.now());
        Ok(Arc::new(bond))
    }

    /// Sends a frame without waiting.
    pub(super) fn send(&self, lane: Lane, frame: &MemberFrame, side: &Side) -> Result<(), Dropped> {
        let bytes = self.lanes[lane.index()].send(frame, side.frame_bytes_max())?;
        self.spoke(side.clock.now());
        side.metrics.sent(lane, bytes);
        Ok(())
    }

    /// Writes what is queued on the lane, until the bond is closed.
    pub(super) async fn write(&self, lane: Lane) {
        self.lanes[lane.index()].write().await;
    }

    /// The peer opens a lane; false if it has opened it before.
    pub(super) fn open_lane(&self, lane: Lane) -> bool {
        let bit = 1 << lane.index();
        self.opened.fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    pub(super) fn heard(&self, now: Time) {
        store(&self.heard_ns, now);
    }

    pub(super) fn spoke(&self, now: Time) {
        store(&self.spoke_ns, now);
    }

    pub(super) fn last_heard(&self) -> Time {
        load(&self.heard_ns)
    }

    pub(super) fn last_spoke(&self) -> Time {
        load(&self.spoke_ns)
    }

    /// Closes the bond, because of what the peer is or does.
    pub(super) fn end(&self, refusal: Refusal) {
        // Said before it is done, for the keeper looks once it is done.
        let refusal = self.ended.get_or_init(|| refusal);
        refusal.turn_away(&self.connection);
    }

    /// Why this node closed it, if it did.
    pub(super) fn ended(&self) -> Option<Refusal> {
        self.ended.get().cloned()
    }

    pub(super) fn close(&self, refusal: &Refusal) {
        refusal.close(&self.connection);
    }
}

impl Claim {
    /// The claim of a connection that this node dialed (with the peer's card) or took in.
    pub(super) fn new(
        connection: &Connection,
        (dialed_here, me, peer): (bool, PeerId, PeerId),
        nonce: u64,
        (attempt, lost): (u64, Option<u64>),
    ) -> Self {
        let dialed_by_lower = dialed_here == (me < peer);
        let id = connection_id(connection);
        Self { peer, id, nonce, dialed_here, dialed_by_lower, attempt, lost }
    }
}

fn store(cell: &AtomicU64, time: Time) {
    // 64 bits of nanoseconds last for 584 years of one process.
    let ns = u64::try_from(time.0.as_nanos()).unwrap_or(u64::MAX);
    cell.store(ns, Ordering::Relaxed);
}

fn load(cell: &AtomicU64) -> Time {
    Time(Duration::from_nanos(cell.load(Ordering::Relaxed)))
}
