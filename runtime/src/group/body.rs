//! What a member has before it has a core, and keeps afterwards.
//!
//! Invariant: whatever becomes of the member, [`Body::stop`] has the last word: by then every
//! call is answered, the store and all bonds are closed, and the status says why.

use std::{collections::BTreeSet, sync::Arc};

use raft::{NodeId, Role, Time};
use tokio::sync::{mpsc, watch};

use crate::{
    Clock, ConsensusConfig, Network, Status,
    group::{
        answer::Answerer,
        bond::{BondEvents, Bonds},
        calls::{CallId, Calls},
        mailbox::Mail,
        metric::GroupMetrics,
        status::{Event, Observer},
        wire::{Call, Outcome, Reason},
    },
    storage::{self, Storage},
};

/// See above.
pub(crate) struct Body {
    pub(crate) network: Network,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) consensus: ConsensusConfig,
    pub(crate) node: NodeId,
    pub(crate) bonds: Bonds,
    pub(crate) events: BondEvents,
    pub(crate) mail: mpsc::Receiver<Mail>,
    /// Closes when the last handle is dropped.
    pub(crate) handles: watch::Receiver<()>,
    pub(crate) calls: Calls,
    pub(crate) bonded: BTreeSet<NodeId>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) observer: Option<Observer>,
    pub(crate) metrics: GroupMetrics,
}

impl Body {
    pub(crate) fn note(&self, event: &Event) {
        if let Some(observer) = &self.observer {
            observer(self.clock.now(), event);
        }
    }

    /// Takes a call in, or refuses it because too many are under way.
    pub(crate) fn admit(
        &mut self,
        call: Call,
        deadline: Time,
        answerer: Answerer,
    ) -> Option<CallId> {
        if self.calls.len() >= self.consensus.requests_max as usize {
            self.metrics.refused_busy();
            answerer.answer(Outcome::Refused(Reason::Busy));
            return None;
        }
        Some(self.calls.open(call, answerer, self.clock.now(), deadline))
    }

    pub(crate) fn bond_came(&mut self, node: NodeId) {
        self.bonded.insert(node);
        self.note(&Event::Bonded(node));
    }

    pub(crate) fn bond_went(&mut self, node: NodeId) {
        self.bonded.remove(&node);
        self.note(&Event::Unbonded(node));
    }

    /// Says goodbye: answers all calls, closes the store and all bonds, publishes why.
    pub(crate) async fn stop(&mut self, mut reason: String, storage: Box<dyn Storage>) {
        self.calls.stop();
        self.mail.close();
        // What is left in the mailbox answers `Unknown(Stopped)` as it is dropped.
        while self.mail.try_recv().is_ok() {}
        if !storage::close(storage, &*self.clock).await {
            reason.push_str("; its store is still in use: the disk hangs");
        }
        self.note(&Event::Stopped(reason.clone()));
        // Told only when all of it is over, so that the group can be joined again at once.
        self.bonds.shutdown().await;
        self.status.send_modify(|status| {
            status.role = Role::Follower;
            status.leader = None;
            status.stopped = Some(reason);
        });
    }
}
