//! Bonds, the authenticated connections of two members: the face that the driver uses.
//!
//! One connection for each pair; `dial` and `welcome` make it, `table` decides which of two is
//! kept, `keep` watches over it, `lane` and `read` carry frames, `events` brings them in order. Invariant: who a frame is from
//! is what the connection proved, and no frame of a replaced bond comes after its successor's
//! [`BondEvent::Up`].

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

use std::{collections::BTreeSet, sync::Arc, time::Duration};

pub(crate) use events::{BondEvent, BondEvents};
use raft::{NodeId, PeerId, StoreId};
#[cfg(test)]
pub(crate) use read::decode_frame;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    Clock, ConsensusConfig, GroupId, GroupKey, Lineage, Network, Peer,
    group::{
        bond::{
            lane::{Dropped, Lane},
            metric::BondMetrics,
            table::{Table, Told},
        },
        wire::MemberFrame,
    },
    network::{Applicant, Card, Code},
};

/// Who this member is to its peers.
pub(crate) struct Member {
    pub(crate) group: GroupId,
    pub(crate) key: GroupKey,
    pub(crate) store: StoreId,
    pub(crate) consensus: ConsensusConfig,
    /// Dialed and re-dialed for ever (the local peer is skipped).
    pub(crate) peers: Vec<Peer>,
    /// Whom the handshake lets in.
    pub(crate) admittance: watch::Receiver<Admittance>,
}

/// Whom the handshake lets in; the driver changes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admittance {
    /// `None` while the group is being founded.
    pub(crate) lineage: Option<Lineage>,
    /// While founding: any store of these peers. Afterwards unused.
    pub(crate) founders: BTreeSet<PeerId>,
    /// Once founded: these peers with these stores, and no others.
    pub(crate) members: BTreeSet<NodeId>,
}

/// All bonds of one group. A cheap handle.
#[derive(Clone)]
pub(crate) struct Bonds {
    side: Arc<Side>,
    leave: watch::Sender<bool>,
    /// Closes when the host task has ended.
    hosted: watch::Receiver<()>,
}

/// This member's side of all its bonds. Tells nothing itself, so that the driver's events end
/// with the tasks that tell them.
struct Side {
    network: Network,
    clock: Arc<dyn Clock>,
    member: Member,
    me: PeerId,
    table: Table,
    metrics: BondMetrics,
}

impl Bonds {
    /// Starts to dial and to accept. Frames are read as the events are asked for: a slow driver
    /// slows the reading of bonds, never their writing.
    pub(crate) fn spawn(network: &Network, member: Member) -> (Self, BondEvents) {
        let (tell, told) = mpsc::channel(TOLD_MAX);
        let applicants = network.serve_members(member.group, &member.key);
        let metrics = BondMetrics::new(&member.group.to_string());
        let side = Arc::new(Side {
            network: network.clone(),
            clock: Arc::clone(network.clock()),
            me: network.peer().id,
            table: Table::default(),
            member,
            metrics,
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

impl Side {
    /// What this member says of itself.
    fn card(&self) -> Card {
        Card {
            lineage: self.member.admittance.borrow().lineage,
            store: self.member.store,
            nonce: self.network.nonce(),
        }
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

/// Dials and lets in until the group is left or the node leaves; then says goodbye.
async fn host(
    side: Arc<Side>,
    tell: mpsc::Sender<Told>,
    mut applicants: mpsc::Receiver<Applicant>,
    mut leaving: watch::Receiver<bool>,
) {
    let mut closing = side.network.closing();
    let mut tasks = JoinSet::new();
    let mut dialed = BTreeSet::from([side.me]);
    for peer in side.member.peers.clone() {
        if dialed.insert(peer.id) {
            tasks.spawn(dial::dial_for_ever(Arc::clone(&side), tell.clone(), peer));
        }
    }
    loop {
        tokio::select! {
            applicant = applicants.recv() => match applicant {
                Some(applicant) => {
                    tasks.spawn(welcome::receive(Arc::clone(&side), tell.clone(), applicant));
                }
                None => break,
            },
            _ = leaving.wait_for(|leaving| *leaving) => break,
            _ = closing.wait_for(|closing| *closing) => break,
            () = tell.closed() => break,
            Some(_) = tasks.join_next() => {}
        }
    }
    side.network.leave_group(side.member.group);
    tasks.shutdown().await;
    let goodbye = Code::GracefulShutdown.because("this member leaves the group");
    for bond in side.table.bonds() {
        bond.close(&goodbye);
    }
}

/// How much may be told of bonds before anyone listens.
const TOLD_MAX: usize = 1_024;
