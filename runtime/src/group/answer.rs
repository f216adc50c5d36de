//! Where the answer to a call goes: a local caller, a client's link, or the peer that forwarded.
//!
//! Invariant: every call is answered exactly once. One that is dropped unanswered says so: its
//! caller learns `Unknown`, never nothing.

use raft::{NodeId, PeerId};
use tokio::sync::oneshot;

use crate::group::{
    answers::Awaited,
    bond::Bonds,
    budget::Room,
    wire::{MemberFrame, Outcome, Reason},
};

/// One caller that waits for one answer.
pub(crate) struct Answerer {
    to: Option<To>,
    /// What the call weighs, as long as it is under way.
    room: Option<Room>,
}

/// An answer, and who gave it.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) outcome: Outcome,
    pub(crate) via: PeerId,
}

enum To {
    Local { reply: oneshot::Sender<Answered>, via: PeerId },
    Client(Awaited),
    Member { bonds: Bonds, node: NodeId, id: u64 },
}

impl Answerer {
    /// Answers a caller in this process.
    pub(crate) fn local(reply: oneshot::Sender<Answered>, via: PeerId) -> Self {
        Self { to: Some(To::Local { reply, via }), room: None }
    }

    /// Answers over a client's link. A client that does not read loses its link, not our memory.
    pub(crate) fn client(awaited: Awaited) -> Self {
        Self { to: Some(To::Client(awaited)), room: None }
    }

    /// Answers the member that forwarded the call.
    pub(crate) fn member(bonds: Bonds, node: NodeId, id: u64) -> Self {
        Self { to: Some(To::Member { bonds, node, id }), room: None }
    }

    /// Keeps the room that the call takes until it is answered.
    pub(crate) fn holding(mut self, room: Room) -> Self {
        self.room = Some(room);
        self
    }

    /// Whether the call came from another member, which sees to its retries itself.
    pub(crate) fn is_member(&self) -> bool {
        matches!(self.to, Some(To::Member { .. }))
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        match &self.to {
            Some(To::Local { reply, .. }) => reply.is_closed(),
            Some(To::Client(awaited)) => awaited.is_closed(),
            Some(To::Member { .. }) => false,
            None => true,
        }
    }

    /// Gives the answer.
    pub(crate) fn answer(mut self, outcome: Outcome) {
        self.give(outcome);
    }

    fn give(&mut self, outcome: Outcome) {
        // First, so that whoever has the answer finds the room free.
        self.room = None;
        match self.to.take() {
            // A caller that went away has no use for the answer.
            Some(To::Local { reply, via }) => drop(reply.send(Answered { outcome, via })),
            // Counted by the link when it has no room.
            Some(To::Client(awaited)) => awaited.give(outcome),
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
