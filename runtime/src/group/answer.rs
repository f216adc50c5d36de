//! Where the answer to a call goes: a local caller, a client's link, or the peer that forwarded.
//!
//! Invariant: every call is answered exactly once. One that is dropped unanswered says so: its
//! caller learns `Unknown`, never nothing.

use raft::{NodeId, PeerId};
use tokio::sync::{mpsc, oneshot};

use crate::group::{
    bond::Bonds,
    metric::ANSWERS_DROPPED,
    wire::{ClientFrame, MemberFrame, Outcome, Reason},
};

/// One caller that waits for one answer.
pub(crate) struct Answerer {
    to: Option<To>,
}

/// An answer, and who gave it.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) outcome: Outcome,
    pub(crate) via: PeerId,
}

enum To {
    Local { reply: oneshot::Sender<Answered>, via: PeerId },
    Client { frames: mpsc::Sender<ClientFrame>, id: u64 },
    Member { bonds: Bonds, node: NodeId, id: u64 },
}

impl Answerer {
    /// Answers a caller in this process.
    pub(crate) fn local(reply: oneshot::Sender<Answered>, via: PeerId) -> Self {
        Self { to: Some(To::Local { reply, via }) }
    }

    /// Answers over a client's link. A client that does not read loses its link, not our memory.
    pub(crate) fn client(frames: mpsc::Sender<ClientFrame>, id: u64) -> Self {
        Self { to: Some(To::Client { frames, id }) }
    }

    /// Answers the member that forwarded the call.
    pub(crate) fn member(bonds: Bonds, node: NodeId, id: u64) -> Self {
        Self { to: Some(To::Member { bonds, node, id }) }
    }

    /// Whether the call came from another member, which sees to its retries itself.
    pub(crate) fn is_member(&self) -> bool {
        matches!(self.to, Some(To::Member { .. }))
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        match &self.to {
            Some(To::Local { reply, .. }) => reply.is_closed(),
            Some(To::Client { frames, .. }) => frames.is_closed(),
            Some(To::Member { .. }) => false,
            None => true,
        }
    }

    /// Gives the answer.
    pub(crate) fn answer(mut self, outcome: Outcome) {
        self.give(outcome);
    }

    fn give(&mut self, outcome: Outcome) {
        match self.to.take() {
            // A caller that went away has no use for the answer.
            Some(To::Local { reply, via }) => drop(reply.send(Answered { outcome, via })),
            Some(To::Client { frames, id }) => {
                let sent = frames.try_send(ClientFrame::Answer { id, outcome });
                sent.unwrap_or_else(|_| metrics::counter!(ANSWERS_DROPPED).increment(1));
            }
            Some(To::Member { bonds, node, id }) => {
                // Counted by the bond when it cannot be sent; the forwarder tries again.
                bonds.send(node, MemberFrame::Answer { id, outcome });
            }
            None => {}
        }
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.give(Outcome::Unknown(Reason::Stopped));
    }
}
