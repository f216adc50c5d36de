//! The driver's half that hears its bonds: each frame goes to whom it concerns.
//!
//! Invariants: who a frame is from is what its bond proved, never what the frame says; and the core
//! hears nobody who is not known to be of this lineage.

use raft::{Input, Message, NodeId};

use super::Driver;
use crate::group::{
    answer::Answerer,
    bond::BondEvent,
    calls::Forwarded,
    transfer::SnapshotFrame,
    wire::{MemberFrame, Outcome, Reason},
};

impl Driver {
    pub(super) fn bond(&mut self, event: BondEvent) {
        match event {
            BondEvent::Up { node, lineage } => {
                self.body.bond_came(node, lineage);
                self.replaying.bonded(self.body.clock.now(), node);
                self.step(Input::Connected(node));
                // What was forwarded over the old bond may be lost with it.
                self.leader_changed |= self.core.leader() == Some(node);
            }
            BondEvent::Down { node } => {
                self.leavers.remove(&node);
                self.body.bond_went(node);
                self.forwards.forget(node);
                self.replaying.unbonded(node);
            }
            BondEvent::Frame { from, frame } => self.frame(from, frame),
            BondEvent::Foreign(foreign) => self.met(foreign),
        }
    }

    fn frame(&mut self, from: NodeId, frame: MemberFrame) {
        match frame {
            MemberFrame::Raft(message) => self.message(from, message),
            MemberFrame::Replay(frame) => self.replay(from, frame),
            MemberFrame::Forward { id, call } => {
                let answerer = Answerer::member(self.body.bonds.clone(), from, id);
                // Who is here and no member may become one, and then asks again.
                if !self.core.configuration().contains(from) {
                    return answerer.answer(Outcome::Refused(Reason::Unavailable));
                }
                let Some(room) = self.forwards.room(from, &call) else {
                    self.body.metrics.refused_busy();
                    return answerer.answer(Outcome::Refused(Reason::Busy));
                };
                let patience = self.body.consensus.forward_timeout;
                let deadline = self.body.clock.now().plus(patience);
                self.call(call, deadline, answerer.holding(room));
            }
            MemberFrame::Answer { id, outcome } => {
                if let Forwarded::Pause(id) = self.body.calls.answered(from, id, outcome) {
                    self.pause(id);
                }
            }
            MemberFrame::Ping => {}
            MemberFrame::Introduction(introduction) => self.introduced(from, introduction),
            MemberFrame::Leave => self.asked_to_leave(from),
            MemberFrame::Left => self.told_left(from),
            MemberFrame::Snapshot(frame) => {
                // Each whom a snapshot is lent has a file open: so many as there are members. But
                // whoever asks for one may not know yet who these are.
                let is_wish = matches!(frame, SnapshotFrame::Ask(_));
                if is_wish && !self.core.configuration().contains(from) {
                    return self.body.metrics.snapshot_part_dropped();
                }
                self.snapshots.frame(from, frame, &self.body.metrics);
            }
        }
    }

    /// Two lineages number terms and entries alike, so a word of the one is none to the other; yet
    /// a bond may carry it for a moment, for both ends may have been newcomers when it began, or
    /// this end alone. It ends as soon as both are known; until then the core does not hear it.
    ///
    /// Nobody of our lineage is unheard for long. Who has one has shown it when it bonded, or says
    /// so at once on the lane on which it votes and acknowledges, before any such word, and again
    /// until that lane takes it (`Body::acquaint`); one that may be given up, of which nobody is
    /// told, was shown (`builder::shown`). So no more is lost than what overtakes that on another
    /// lane, or comes while a bond is not noticed yet; and the core bears any loss.
    ///
    /// Snapshots and entries in bulk need no such rule. Marks are believed of the leader alone,
    /// whom the core has heard; entries by them, whoever brings them; and a snapshot names its
    /// lineage.
    fn message(&mut self, from: NodeId, message: Message) {
        if !self.body.is_kin(from) {
            return self.body.metrics.dropped_of_no_kin();
        }
        let told = match &message {
            Message::Append { commit, .. } => Some(*commit),
            _ => None,
        };
        self.step(Input::Message { from, message });
        if let Some(commit) = told {
            self.consider_replay(from, commit);
        }
    }
}
