//! The driver's half that carries out what the core wants done, effect by effect.
//!
//! Invariant: effects are carried out in their order, and what promises something goes past the
//! barrier.

use raft::{Effect, Input, Note, Role, WriteId};

use super::Driver;
use crate::group::{status::Event, wire::MemberFrame};

impl Driver {
    pub(super) fn step(&mut self, input: Input) {
        // The store may be another one's already.
        if self.over.is_some() {
            return;
        }
        let mut effects = std::mem::take(&mut self.effects);
        self.core.step(self.body.clock.now(), input, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        self.effects = effects;
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist { id, write } => {
                self.barrier.submitted(id);
                self.stall.submitted(id);
                self.storage.submit(id, write);
            }
            Effect::Send { message, .. }
                if message.promises() && self.barrier.held() >= HELD_MAX =>
            {
                // The disk stalls. The core bears the loss, and says it again when asked again.
                self.body.metrics.dropped_unheld();
            }
            Effect::Send { to, message } => {
                let now = self.body.clock.now();
                if let Some(message) = self.notices.pass(now, to, message)
                    && let Some((to, message)) = self.barrier.pass(to, message)
                {
                    self.body.bonds.send(to, MemberFrame::Raft(message));
                }
            }
            Effect::Apply { through } => self.through = through,
            Effect::Answer(answer) => self.answer(&answer),
            Effect::Note(note) => self.note(note),
            Effect::Install { from, snapshot } => self.offered(from, &snapshot),
            Effect::Halt(halt) => self.halt(format!("going on would break safety: {halt:?}")),
        }
    }

    pub(super) fn persisted(&mut self, id: WriteId) {
        self.stall.persisted(id);
        for (to, message) in self.barrier.persisted(id) {
            self.body.bonds.send(to, MemberFrame::Raft(message));
        }
        self.tell_end_behind(id);
        self.step(Input::Persisted(id));
    }

    fn note(&mut self, note: Note) {
        match &note {
            Note::Became { role: Role::Leader, .. } => self.leader_changed = true,
            Note::Became { .. } => self.leader_changed |= !self.body.calls.deposed().is_empty(),
            Note::Leader { leader, .. } => self.leader_changed |= leader.is_some(),
            _ => {}
        }
        self.body.metrics.note(self.body.clock.now(), &note);
        match &note {
            Note::Became { .. } => {
                // Another term is another leader's, also if that is this member again.
                self.steward = None;
                self.unsettled = true;
                self.tend_soon();
            }
            Note::Configured { .. } => self.configured(),
            // What waited for the last change may be due now.
            Note::Committed { .. } if self.unsettled && self.core.may_change() => {
                self.unsettled = false;
                self.tend_soon();
            }
            _ => {}
        }
        self.body.note(&Event::Raft(note));
    }
}

/// Messages held back for a disk that stalls: more than all windows together hold.
const HELD_MAX: usize = 65_536;
