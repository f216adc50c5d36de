//! Bonds, the authenticated connections of two members: the face that the driver uses.
//!
//! One connection for each pair; `dial` and `welcome` make it, `table` decides which of two is
//! kept, `keep` watches over it, `lane` and `read` carry frames, `events` brings them in order.
//! Invariants: who a frame is from is what the connection proved, and no frame of a replaced bond
//! comes after its successor's [`BondEvent::Up`]; and none of these tasks falls unheard.

mod admit;
mod dial;
mod events;
mod keep;
mod lane;
mod metric;
mod read;
mod table;
#[cfg(test)]
mod tests;
mod welcome;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub(crate) use events::{BondEvent, BondEvents};
use raft::{NodeId, PeerId, StoreId};
#[cfg(test)]
pub(crate) use read::decode_frame;
pub(crate) use table::Foreign;
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
};

use crate::{
    Clock, ConsensusConfig, GroupId, GroupKey, Lineage, Network, Peer,
    group::{
        alarm::Alarm,
        bond::{
            lane::{Dropped, Lane},
            metric::BondMetrics,
            table::{Table, Told},
        },
        introduction::Addresses,
        status::LaneBytes,
        wire::MemberFrame,
    },
    network::{Applicant, Card, Code, Refusal},
};

/// Who this member is to its peers.
pub(crate) struct Member {
    pub(crate) group: GroupId,
    pub(crate) key: GroupKey,
    pub(crate) consensus: ConsensusConfig,
    /// Dialed from the start (the local peer is skipped).
    pub(crate) peers: Vec<Peer>,
    /// What this member shows of itself, and whom the handshake lets in.
    pub(crate) admittance: watch::Receiver<Admittance>,
}

/// What this member shows of itself, and whom the handshake lets in; the driver changes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Admittance {
    /// What this member remembers with.
    pub(crate) store: StoreId,
    /// `None` while it waits for a founding.
    pub(crate) lineage: Option<Lineage>,
    /// That lineage holds nothing that anyone was promised.
    pub(crate) dissolves: bool,
    /// While they found the group: these peers, with any store, and nobody else.
    pub(crate) founders: Option<BTreeSet<PeerId>>,
    /// The members, once they are known.
    pub(crate) members: BTreeSet<NodeId>,
    /// How many others may be here at a time.
    pub(crate) guests_max: usize,
}

impl Admittance {
    /// A member with this store that belongs nowhere yet and lets everyone in.
    pub(crate) fn of(store: StoreId) -> Self {
        let (lineage, founders, members) = (None, None, BTreeSet::new());
        Self { store, lineage, dissolves: false, founders, members, guests_max: GUESTS_MAX }
    }
}

/// All bonds of one group. A cheap handle.
#[derive(Clone)]
pub(crate) struct Bonds {
    side: Arc<Side>,
    leave: watch::Sender<bool>,
    /// Closes when the host task has ended.
    hosted: watch::Receiver<()>,
}

/// While it lives whoever listens is known not to read, and nobody is taken for silent; what was
/// said meanwhile is read later.
pub(crate) struct Deaf(Arc<Side>);

/// This member's side of all its bonds. Tells nothing itself, so that the driver's events end
/// with the tasks that tell them.
struct Side {
    network: Network,
    clock: Arc<dyn Clock>,
    member: Member,
    me: PeerId,
    table: Table,
    /// Whoever listens cannot read at present.
    is_deaf: AtomicBool,
    /// Whom to dial.
    wanted: watch::Sender<Addresses>,
    metrics: BondMetrics,
    alarm: Alarm,
}

impl Bonds {
    /// Starts to dial and to accept. Frames are read as the events are asked for: a slow driver
    /// slows the reading of bonds, never their writing.
    pub(crate) fn spawn(network: &Network, member: Member, alarm: Alarm) -> (Self, BondEvents) {
        let (tell, told) = mpsc::channel(TOLD_MAX);
        let applicants = network.serve_members(member.group, &member.key);
        let metrics = BondMetrics::new(&member.group.to_string());
        let me = network.peer().id;
        let others = member.peers.iter().filter(|peer| peer.id != me);
        let wanted = others.map(|peer| (peer.id, peer.addresses.clone())).collect();
        let side = Arc::new(Side {
            network: network.clone(),
            clock: Arc::clone(network.clock()),
            me,
            table: Table::default(),
            is_deaf: AtomicBool::new(false),
            wanted: watch::Sender::new(wanted),
            member,
            metrics,
            alarm,
        });
        let (leave, leaving) = watch::channel(false);
        let (hosting, hosted) = watch::channel(());
        let host = host(Arc::clone(&side), tell, applicants, leaving);
        tokio::spawn(async move {
            host.await;
            drop(hosting);
        });
        (Self { side: Arc::clone(&side), leave, hosted }, BondEvents::new(side, told))
    }

    /// Queues a frame on its lane. Never waits: without a bond or with a full lane the frame is
    /// dropped and counted, and the answer is false.
    #[expect(clippy::needless_pass_by_value, reason = "a frame that is sent is done with")]
    pub(crate) fn send(&self, to: NodeId, frame: MemberFrame) -> bool {
        let lane = Lane::of(&frame);
        let sent = match self.side.table.bond(to) {
            Some(bond) => bond.send(lane, &frame, &self.side),
            None => Err(Dropped::NoBond),
        };
        match sent {
            Ok(()) => true,
            Err(dropped) => {
                self.side.metrics.dropped(lane, dropped);
                false
            }
        }
    }

    /// What waits in front of the lanes of all bonds.
    pub(crate) fn waiting(&self) -> LaneBytes {
        let waiting = |lane| self.side.metrics.waiting(lane);
        LaneBytes {
            control: waiting(Lane::Control),
            append: waiting(Lane::Append),
            client: waiting(Lane::Client),
            bulk: waiting(Lane::Bulk),
        }
    }

    /// From now on these are dialed, there, and nobody else.
    pub(crate) fn want(&self, wanted: Addresses) {
        self.side.wanted.send_if_modified(|before| {
            let is_news = *before != wanted;
            *before = wanted;
            is_news
        });
    }

    /// Ends the bond with this very node, if there is one, because of what it is or does.
    pub(crate) fn end(&self, node: NodeId, refusal: Refusal) {
        if let Some(bond) = self.side.table.bond(node) {
            bond.end(refusal);
        }
    }

    /// Ends all bonds; they come again, with what this member then shows of itself.
    pub(crate) fn end_all(&self, refusal: &Refusal) {
        for bond in self.side.table.bonds() {
            bond.end(refusal.clone());
        }
    }

    /// To be held by whoever listens while it waits for a disk, where it stands still with all that
    /// it listens to.
    #[must_use = "it ends when it is dropped"]
    pub(crate) fn turn_deaf(&self) -> Deaf {
        self.side.is_deaf.store(true, Ordering::Release);
        Deaf(Arc::clone(&self.side))
    }

    /// Who is bonded now. The driver counts events instead, which come in order.
    #[cfg(test)]
    pub(crate) fn bonded(&self) -> Vec<NodeId> {
        self.side.table.bonds().iter().map(|bond| bond.node).collect()
    }

    /// Says goodbye and closes all bonds.
    pub(crate) async fn shutdown(&self) {
        self.leave.send_replace(true);
        let mut hosted = self.hosted.clone();
        // Errs once the host has ended, which is what is waited for.
        while hosted.changed().await.is_ok() {}
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        let now = self.0.clock.now();
        self.0.table.bonds().iter().for_each(|bond| bond.heard(now));
        // After that, for whoever sees it must see that as well.
        self.0.is_deaf.store(false, Ordering::Release);
    }
}

impl Side {
    /// What this member says of itself.
    fn card(&self) -> Card {
        let Admittance { lineage, dissolves, store, .. } = *self.member.admittance.borrow();
        Card { lineage, dissolves, store, nonce: self.network.nonce() }
    }

    /// Whether a node that shows this card is let in.
    fn admit(&self, node: NodeId, card: &Card) -> Result<(), Refusal> {
        self.member.admittance.borrow().admit(node, card)
    }

    /// The peer in the light of its card, if it is of another lineage.
    fn foreign(&self, peer: PeerId, card: &Card) -> Option<Foreign> {
        let lineage = self.member.admittance.borrow().foreign(card)?;
        Some(Foreign { peer, lineage, dissolves: card.dissolves })
    }

    /// A peer that is dialed, where it was last said to be.
    fn wanted(&self, peer: PeerId) -> Peer {
        let addresses = self.wanted.borrow().get(&peer).cloned().unwrap_or_default();
        Peer { id: peer, addresses }
    }

    /// The largest frame of a bond.
    fn frame_bytes_max(&self) -> usize {
        self.member.consensus.frame_bytes_max()
    }

    /// Without a word for this long, a bond is over.
    fn silence_max(&self) -> Duration {
        let consensus = &self.member.consensus;
        (consensus.heartbeat_interval + consensus.heartbeat_jitter)
            .saturating_mul(consensus.max_missed_heartbeats)
    }
}

/// The part of `whole` that a random number picks; never the whole.
fn part(whole: Duration, draw: u64) -> Duration {
    let whole = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(draw % whole.max(1))
}

/// Dials and lets in until the group is left or the node leaves; then says goodbye, also if it
/// panics.
async fn host(
    side: Arc<Side>,
    tell: mpsc::Sender<Told>,
    mut applicants: mpsc::Receiver<Applicant>,
    leaving: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    let hosting = dial_and_let_in(&side, &tell, &mut applicants, leaving, &mut tasks);
    side.alarm.caught(A_TASK, hosting).await;
    side.network.leave_group(side.member.group);
    tasks.shutdown().await;
    let goodbye = Code::GracefulShutdown.because("this member leaves the group");
    for bond in side.table.bonds() {
        bond.close(&goodbye);
    }
}

async fn dial_and_let_in(
    side: &Arc<Side>,
    tell: &mpsc::Sender<Told>,
    applicants: &mut mpsc::Receiver<Applicant>,
    mut leaving: watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) {
    let mut closing = side.network.closing();
    let mut dialing: BTreeMap<PeerId, AbortHandle> = BTreeMap::new();
    let mut wanted = side.wanted.subscribe();
    wanted.mark_changed();
    loop {
        tokio::select! {
            applicant = applicants.recv() => match applicant {
                Some(applicant) => {
                    tasks.spawn(welcome::receive(Arc::clone(side), tell.clone(), applicant));
                }
                None => break,
            },
            _ = leaving.wait_for(|leaving| *leaving) => break,
            _ = closing.wait_for(|closing| *closing) => break,
            () = tell.closed() => break,
            Some(ended) = tasks.join_next() => side.alarm.joined(A_TASK, ended),
            Ok(()) = wanted.changed() => {
                let wanted = wanted.borrow_and_update();
                for (_, task) in dialing.extract_if(.., |peer, _| !wanted.contains_key(peer)) {
                    task.abort();
                }
                for peer in wanted.keys().copied() {
                    let dial = || dial::dial_for_ever(Arc::clone(side), tell.clone(), peer);
                    dialing.entry(peer).or_insert_with(|| tasks.spawn(dial()));
                }
            }
        }
    }
}

/// Who panicked, where it was one of the tasks here.
const A_TASK: &str = "a task of its bonds";
/// As many as the largest group has members, for to a newcomer they all are guests.
const GUESTS_MAX: usize = 73;
/// How much may be told of bonds before anyone listens.
const TOLD_MAX: usize = 1_024;
