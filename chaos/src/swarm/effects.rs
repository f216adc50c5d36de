//! One step of one core, and everything that follows from it, in order.
//!
//! The only place of the swarm that calls `step`. Effects are carried out as they stand; then
//! the disk syncs, every invariant looks, the machine applies and clients get their answers.

use std::mem;

use bytes::Bytes;
use raft::{
    Answer, Effect, Index, Input, Message, NodeId, Note, Payload, Role, Time, Write, WriteId,
};

use super::{
    event::{Event, Parcel},
    node::Seat,
    planted::DriverFault,
    profile::Span,
    world::{Checked, PROBE, World},
};
use crate::invariant::{Cause, Violation};

/// What one step of a core was, and what it asked for that is done after its effects.
pub(super) struct Turn {
    /// What it took.
    cause: Cause,
    /// What the server's clock showed.
    now: Time,
    /// The log after this index is new.
    written: Option<Index>,
    /// Apply through here.
    apply: Index,
    /// Tell the clients.
    answers: Vec<Answer>,
}

impl Turn {
    /// Nothing asked for yet, but the log after this index may be new.
    pub(super) fn of(cause: Cause, now: Time, written: Option<Index>) -> Self {
        Self { cause, now, written, apply: Index(0), answers: Vec::new() }
    }
}

impl World {
    /// Gives one input to a core, if it is up, and does what it asks for.
    pub(super) fn input(&mut self, seat: Seat, input: Input) -> Checked {
        let node = &mut self.nodes[seat.0];
        let Some(core) = node.core.as_mut() else { return Ok(()) };
        let start = core.log().start();
        let installs = matches!(input, Input::SnapshotInstalled { .. });
        let cause = match &input {
            Input::Timeout => Cause::Timer,
            Input::Message { from, message } => Cause::message(*from, message),
            _ => Cause::Other,
        };
        let mut effects = mem::take(&mut self.effects);
        let now = node.clock.shows(self.now);
        core.step(now, input, &mut effects);
        // A snapshot replaced the log: what follows it is to be looked at anew.
        let replaced = Some(core.log().start()).filter(|after| installs && *after != start);
        let mut turn = Turn::of(cause, now, replaced.map(|after| after.index));
        for effect in effects.drain(..) {
            self.carry_out(seat, effect, &mut turn)?;
        }
        self.effects = effects;
        self.settle(seat, turn)
    }

    /// A sync of a disk has ended.
    pub(super) fn synced(&mut self, seat: Seat, incarnation: u64, last: WriteId) -> Checked {
        let node = &mut self.nodes[seat.0];
        if !node.lives(incarnation) {
            return Ok(());
        }
        if node.paused_until > self.now {
            let later = node.paused_until;
            self.queue.put(later, Event::Synced { seat, incarnation, last });
            return Ok(());
        }
        node.disk.synced(last);
        self.persisted(seat, last)
    }

    /// The disk says that all writes through this one are durable.
    pub(super) fn persisted(&mut self, seat: Seat, last: WriteId) -> Checked {
        let ready: Vec<_> = self.nodes[seat.0].barrier.persisted(last).collect();
        for (to, message) in ready {
            self.depart(seat, to, message)?;
        }
        self.input(seat, Input::Persisted(last))
    }

    fn carry_out(&mut self, seat: Seat, effect: Effect, turn: &mut Turn) -> Checked {
        let unheld = self.breaks(DriverFault::AcknowledgeBeforeSync);
        let node = &mut self.nodes[seat.0];
        match effect {
            Effect::Persist { id, write } => {
                node.barrier.submitted(id);
                if let Write::Entries { after, .. } = &write {
                    turn.written = Some(turn.written.map_or(*after, |low| low.min(*after)));
                }
                node.disk.submit(id, write)
            }
            Effect::Send { to, message } if unheld => self.depart(seat, to, message),
            Effect::Send { to, message } => match node.barrier.pass(to, message) {
                Some((to, message)) => self.depart(seat, to, message),
                None => Ok(()),
            },
            Effect::Apply { through } => {
                turn.apply = through;
                Ok(())
            }
            Effect::Install { from, snapshot } => {
                self.ask_for_snapshot(seat, from, &snapshot);
                Ok(())
            }
            Effect::Answer(answer) => {
                turn.answers.push(answer);
                Ok(())
            }
            Effect::Note(note) => self.take_note(seat, &note),
            Effect::Halt(halt) => {
                Err(Violation::of("halt", format!("{:?} stops: {halt:?}", node.id)))
            }
        }
    }

    fn take_note(&mut self, seat: Seat, note: &Note) -> Checked {
        self.tell(|world| format!("    {} notes {note:?}", world.nodes[seat.0].id));
        if let Some(planned) = &mut self.planned {
            planned.noted(seat, self.now, note);
        }
        match note {
            Note::Became { role: Role::Leader, .. } => {
                self.counts.elections += 1;
                self.hunt(seat);
            }
            Note::Campaign { .. } => self.counts.campaigns += 1,
            Note::QuorumLost { .. } => self.counts.quorums_lost += 1,
            Note::TimerLate { .. } => self.counts.timers_late += 1,
            Note::Truncated { after, .. } => {
                self.counts.truncations += 1;
                return self.gave_way(seat, *after);
            }
            Note::SnapshotOffered { .. } => self.counts.snapshots_to_be += 1,
            _ => {}
        }
        Ok(())
    }

    /// A message leaves its server.
    fn depart(&mut self, from: Seat, to: NodeId, message: Message) -> Checked {
        let node = &mut self.nodes[from.0];
        self.invariants.left(&node.departure(to, &message))?;
        let (sender, words) = (node.server, node.words);
        node.words = words.map(|words| words.saturating_sub(1));
        let seat = Seat(usize::from(to.peer.0[31]).wrapping_sub(1));
        let receiver = self.nodes.get(seat.0).filter(|node| node.id == to && words != Some(0));
        let Some(to) = receiver.map(|node| node.server) else {
            self.counts.lost += 1;
            return Ok(());
        };
        let fate = match &mut self.planned {
            Some(planned) => planned.fate(&mut self.network, self.now, from, seat),
            None => self.network.fate(self.now, from, seat),
        };
        self.counts.reordered += u64::from(fate.overtakes);
        let Some(arrives) = fate.arrives else {
            self.counts.lost += 1;
            return Ok(());
        };
        if let Some(again) = fate.again {
            self.counts.duplicated += 1;
            let message = message.clone();
            self.queue.put(again, Event::Deliver(Parcel { from, sender, seat, to, message }));
        }
        self.queue.put(arrives, Event::Deliver(Parcel { from, sender, seat, to, message }));
        Ok(())
    }

    /// After the effects: syncs, checks, applies, answers.
    pub(super) fn settle(&mut self, seat: Seat, turn: Turn) -> Checked {
        let hasty = self.breaks(DriverFault::ApplyBeforeCommit);
        let node = &mut self.nodes[seat.0];
        if let Some(last) = node.disk.start_sync() {
            let Span(min, max) = self.profile.sync;
            let done = self.now.plus(self.streams.disks.duration(min, max));
            let incarnation = node.incarnation;
            self.queue.put(done, Event::Synced { seat, incarnation, last });
        }
        node.arm(self.now);
        let Some(view) = node.view((self.now, turn.now), turn.cause, turn.written) else {
            return Ok(());
        };
        if view.log.last().index != node.disk.end() {
            let (last, end) = (view.log.last(), node.disk.end());
            let what = format!("{:?} has entries through {last}, wrote through {end}", node.id);
            return Err(Violation::of("durability", what));
        }
        self.invariants.stepped(&view)?;
        let through = if hasty { view.durable.index } else { turn.apply };
        self.apply(seat, through)?;
        let appended = turn.written.is_some();
        for answer in turn.answers {
            self.answered(seat, &answer, appended)?;
        }
        Ok(())
    }

    fn apply(&mut self, seat: Seat, through: Index) -> Checked {
        loop {
            let node = &mut self.nodes[seat.0];
            let index = node.machine.applied.index.next();
            let Some(core) = node.core.as_ref().filter(|_| index <= through) else { break };
            let Some(entry) = core.log().get(index) else {
                let what = format!("{:?} is to apply entry {index} that it has not", node.id);
                return Err(Violation::of("state machine safety", what));
            };
            let application = node.machine.apply(node.server, node.id, entry);
            self.invariants.applied(&application)?;
            if entry.payload == (Payload::OpenSession { nonce: PROBE }) {
                self.probed = self.probed.max(index);
            }
            if index > self.applied {
                self.applied = index;
                self.counts.committed += 1;
                if let Payload::Configuration(configuration) = entry.payload {
                    self.configuration.clone_from(configuration);
                    self.counts.membership_changes += 1;
                }
            }
            if self.planned.is_some() {
                let entry = entry.own(Bytes::copy_from_slice);
                self.plan_applied(seat, entry.view(), &application)?;
                continue;
            }
            self.clients.see(entry);
            for call in node.calls.ended(index) {
                self.resolve(&call, &application)?;
            }
        }
        self.compact(seat);
        Ok(())
    }
}
