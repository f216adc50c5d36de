//! Entries in bulk, as members far behind fetch them: a leader vouches, and others carry.
//!
//! The model has no questions and answers, only what a core is given in the end: what a leader
//! vouched for when it believed to lead. Invariant: it is true when it is said; it comes late,
//! twice, out of order, to the wrong one and with holes before it, and may break nothing.

use std::{rc::Rc, time::Duration};

use raft::{Entries, Index, Input, NodeId, Position, Role, Term};

use super::{
    event::Event,
    node::Seat,
    world::{Checked, World},
};

/// What a leader has vouched for.
#[derive(Debug)]
pub(super) struct Carried {
    leader: NodeId,
    term: Term,
    prev: Position,
    entries: Entries,
}

impl World {
    /// In some worlds entries are carried, now and then.
    pub(super) fn begin_to_carry(&mut self) {
        if self.streams.carriers.chance(CARRYING_PERMILLE) {
            self.carry_again();
        }
    }

    /// Somebody who believes to lead vouches for a piece of its log, and it is under way to
    /// somebody, once or twice. Sometimes the leader is told that it need not send any itself.
    pub(super) fn carry(&mut self) -> Checked {
        self.carry_again();
        let is_up = |seat: &Seat| self.nodes[seat.0].core.is_some();
        let up: Vec<Seat> = (0..self.nodes.len()).map(Seat).filter(is_up).collect();
        let leads = |seat: &&Seat| {
            let core = self.nodes[seat.0].core.as_ref();
            core.is_some_and(|core| core.role() == Role::Leader)
        };
        let leading: Vec<Seat> = up.iter().filter(leads).copied().collect();
        let draw = &mut self.streams.carriers;
        let (Some(leader), Some(to)) = (draw.pick(&leading).copied(), draw.pick(&up).copied())
        else {
            return Ok(());
        };
        if let Some(carried) = self.vouched(leader, to) {
            let carried = Rc::new(carried);
            let incarnation = self.nodes[to.0].incarnation;
            for _ in 0..=self.streams.carriers.below(2) {
                let after = self.streams.carriers.duration(DELAY.0, DELAY.1);
                let carried = Rc::clone(&carried);
                let event = Event::Carried { seat: to, incarnation, carried };
                self.queue.put(self.now.plus(after), event);
            }
        }
        if self.calm || !self.awake(leader) || !self.streams.carriers.chance(FETCHING_PERMILLE) {
            return Ok(());
        }
        let lasts = self.streams.carriers.duration(Duration::ZERO, FETCHING_MAX);
        let until = self.nodes[leader.0].clock.shows(self.now).plus(lasts);
        self.counts.steps += 1;
        self.trace(to.0 as u64);
        self.input(leader, Input::Fetching { node: self.nodes[to.0].id, until })
    }

    /// A few committed entries, from about where the other one is.
    fn vouched(&mut self, leader: Seat, to: Seat) -> Option<Carried> {
        let known = self.nodes[to.0].core.as_ref()?.commit();
        let draw = &mut self.streams.carriers;
        let (back, count, ahead) = (draw.below(3), draw.between(1, 8), draw.below(8) / 6);
        let core = self.nodes[leader.0].core.as_ref()?;
        let after = Index(known.plus(ahead).0.saturating_sub(back)).max(core.log().start().index);
        let last = after.plus(count).min(core.commit());
        let prev = Position { term: core.log().term_at(after)?, index: after };
        let entries = core.log().slice(after.next()..=last, usize::MAX);
        let (leader, term) = (core.id(), core.term());
        (after < last).then_some(Carried { leader, term, prev, entries })
    }

    /// What was vouched for has arrived.
    pub(super) fn carried(
        &mut self,
        seat: Seat,
        incarnation: u64,
        carried: Rc<Carried>,
    ) -> Checked {
        let node = &self.nodes[seat.0];
        if !node.lives(incarnation) {
            return Ok(());
        }
        let later = node.paused_until.max(node.held_until);
        if later > self.now {
            self.queue.put(later, Event::Carried { seat, incarnation, carried });
            return Ok(());
        }
        let before = node.core.as_ref().map(|core| core.last());
        self.counts.steps += 1;
        self.trace(carried.prev.index.0);
        self.tell(|world| {
            let last = carried.prev.index.plus(carried.entries.len() as u64);
            let (node, leader) = (world.nodes[seat.0].id, carried.leader);
            format!("{node} is given {} to {last} on the word of {leader}", carried.prev)
        });
        let Carried { leader, term, prev, ref entries } = *carried;
        self.input(seat, Input::Fetched { leader, term, prev, entries: entries.clone() })?;
        let after = self.nodes[seat.0].core.as_ref().map(|core| core.last());
        self.counts.carried += u64::from(after > before);
        Ok(())
    }

    fn carry_again(&mut self) {
        let after = self.streams.carriers.duration(EVERY.0, EVERY.1);
        self.queue.put(self.now.plus(after), Event::Carry);
    }
}

const CARRYING_PERMILLE: u64 = 400;
const FETCHING_PERMILLE: u64 = 200;
const FETCHING_MAX: Duration = Duration::from_millis(200);
const EVERY: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(60));
const DELAY: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(80));
