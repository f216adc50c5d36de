//! The calls of a client that are not answered yet.
//!
//! Sends nothing. Invariant: each call is answered once, at its deadline at the latest; one that
//! was ever sent and not answered ends as `Unknown`, if it changes anything.

use std::collections::{BTreeMap, BTreeSet};

use raft::{PeerId, Time};
use tokio::sync::oneshot;

use crate::group::{
    answer::Answered,
    budget::Room,
    wire::{Call, Outcome, Reason},
};

/// A call on its way to the agent.
pub(super) struct Ask {
    pub(super) call: Call,
    pub(super) deadline: Time,
    pub(super) reply: oneshot::Sender<Answered>,
    /// What the call weighs, until it is answered.
    pub(super) room: Room,
}

/// See the module.
#[derive(Default)]
pub(super) struct Unanswered {
    open: BTreeMap<u64, Pending>,
    deadlines: BTreeSet<(Time, u64)>,
    drawn: u64,
}

struct Pending {
    call: Call,
    deadline: Time,
    reply: oneshot::Sender<Answered>,
    room: Room,
    /// Sent on the present link, and not answered yet.
    sent: bool,
    /// Sent on a link that was lost before the answer.
    doubtful: bool,
}

impl Unanswered {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Takes a call in, and names it.
    pub(super) fn add(&mut self, ask: Ask) -> u64 {
        self.drawn += 1;
        let (id, Ask { call, deadline, reply, room }) = (self.drawn, ask);
        let pending = Pending { call, deadline, reply, room, sent: false, doubtful: false };
        self.open.insert(id, pending);
        self.deadlines.insert((deadline, id));
        id
    }

    pub(super) fn ids(&self) -> Vec<u64> {
        self.open.keys().copied().collect()
    }

    /// The call and its deadline; `None` once it is answered.
    pub(super) fn call(&self, id: u64) -> Option<(&Call, Time)> {
        self.open.get(&id).map(|pending| (&pending.call, pending.deadline))
    }

    pub(super) fn sent(&mut self, id: u64) {
        if let Some(pending) = self.open.get_mut(&id) {
            pending.sent = true;
        }
    }

    /// The link is lost: what was sent on it may have taken effect.
    pub(super) fn lost(&mut self) {
        for pending in self.open.values_mut() {
            pending.doubtful |= std::mem::take(&mut pending.sent);
        }
    }

    /// The node has not taken it, and says why.
    pub(super) fn refused(&mut self, id: u64, reason: Reason, via: PeerId) {
        if let Some(pending) = self.open.get_mut(&id) {
            pending.sent = false;
        }
        self.give_up(id, reason, via);
    }

    /// Nobody will answer it any more.
    pub(super) fn give_up(&mut self, id: u64, reason: Reason, via: PeerId) {
        let Some(pending) = self.open.get(&id) else { return };
        let changes = matches!(pending.call, Call::Command { .. });
        let outcome = match changes && (pending.doubtful || pending.sent) {
            true => Outcome::Unknown(reason),
            false => Outcome::Refused(reason),
        };
        self.finish(id, outcome, via);
    }

    /// Answers it, in the name of that node.
    pub(super) fn finish(&mut self, id: u64, outcome: Outcome, via: PeerId) {
        let Some(pending) = self.open.remove(&id) else { return };
        self.deadlines.remove(&(pending.deadline, id));
        // First, so that whoever has the answer finds the room free.
        drop(pending.room);
        // The asker may have gone.
        drop(pending.reply.send(Answered { outcome, via }));
    }

    /// When the first must be answered.
    pub(super) fn due(&self) -> Option<Time> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Gives up those whose time is over.
    pub(super) fn expire(&mut self, now: Time, via: PeerId) {
        while let Some((_, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.give_up(id, Reason::Timeout, via);
        }
    }
}
