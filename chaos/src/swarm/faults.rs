//! The faults of the model: crashes, cuts, pauses and lost disks.
//!
//! A crash takes what was not durable. A lost disk is for ever: its seat returns as another
//! server, and only where no configuration in anyone's hands would lose its majority.

use std::time::Duration;

use raft::{Configuration, Index, Time};

use super::{
    calls::Calls,
    event::Event,
    network::Cut,
    node::{Node, Seat},
    planted::DriverFault,
    profile::{Kind, Span},
    world::{Checked, World},
};

impl World {
    /// One fault of this world's kinds strikes.
    pub(super) fn fault_strikes(&mut self) -> Checked {
        if self.calm {
            return Ok(());
        }
        let Some(kind) = self.streams.faults.pick(&self.profile.faults.kinds).copied() else {
            return Ok(());
        };
        let seat = self.victim();
        self.strike(kind, seat)
    }

    /// A server has just been elected: this world may have it in for new leaders.
    pub(super) fn hunt(&mut self, seat: Seat) {
        let draw = &mut self.streams.faults;
        if self.calm || !draw.chance(self.profile.faults.hunt_permille) {
            return;
        }
        // Long enough for some followers to hear of the first entries, too short for all.
        let Span(min, max) = self.profile.network.delay;
        let at = self.now.plus(draw.duration(min, max * 3 + self.profile.sync.1));
        let muzzled = draw.chance(self.profile.faults.muzzle_permille);
        let words = draw.below(self.nodes.len() as u64 * LAST_WORDS);
        self.nodes[seat.0].words = muzzled.then_some(words);
        let incarnation = self.nodes[seat.0].incarnation;
        self.queue.put(at, Event::Struck { seat, incarnation });
        // A command among its first entries is one whose fate somebody waits for.
        if draw.chance(self.profile.faults.eager_permille) {
            let client = draw.below(self.profile.clients as u64);
            let asks = self.now.plus(draw.duration(Duration::ZERO, max));
            self.queue.put(asks, Event::Eager(usize::try_from(client).unwrap_or(0)));
        }
    }

    /// The moment that [`World::hunt`] has chosen.
    pub(super) fn leader_struck(&mut self, seat: Seat, incarnation: u64) -> Checked {
        if self.calm || !self.nodes[seat.0].lives(incarnation) {
            return Ok(());
        }
        self.nodes[seat.0].words = None;
        let draw = &mut self.streams.faults;
        let kind = match draw.chance(self.profile.faults.lethal_permille) {
            true => Kind::Crash,
            false if draw.chance(500) => Kind::Isolate,
            false => Kind::Pause,
        };
        self.strike(kind, seat)
    }

    /// A server that is down comes back with its disk.
    pub(super) fn restart(&mut self, seat: Seat) -> Checked {
        if self.nodes[seat.0].core.is_some() {
            return Ok(());
        }
        self.counts.restarts += 1;
        self.tell(|world| format!("{} restarts", world.nodes[seat.0].id));
        self.start(seat)?;
        let others = (0..self.nodes.len()).map(Seat).filter(|other| *other != seat);
        let links: Vec<_> = others.flat_map(|other| [(seat, other), (other, seat)]).collect();
        self.connect(&links);
        Ok(())
    }

    /// Ends a cut.
    pub(super) fn heal(&mut self, cut: &Cut) {
        let links = self.network.heal(cut);
        self.connect(&links);
    }

    /// Tells both ends of each link that it carries messages again.
    pub(super) fn connect(&mut self, links: &[(Seat, Seat)]) {
        if !self.profile.tells_connected {
            return;
        }
        let Span(min, max) = self.profile.network.delay;
        for (seat, peer) in links.iter().copied() {
            let at = self.now.plus(self.streams.faults.duration(min, max));
            self.queue.put(at, Event::Connected { seat, peer });
        }
    }

    fn strike(&mut self, kind: Kind, seat: Seat) -> Checked {
        let Span(min, max) = self.profile.faults.last;
        let lasts = self.streams.faults.duration(min, max);
        self.trace(seat.0 as u64);
        self.tell(|world| format!("fault: {kind:?} {} for {lasts:?}", world.nodes[seat.0].id));
        match kind {
            Kind::Crash => self.crash(seat, lasts),
            Kind::Blackout => (0..self.nodes.len()).for_each(|seat| self.crash(Seat(seat), lasts)),
            Kind::Isolate => self.cut(lasts, |from, to| from == seat || to == seat),
            Kind::OneWay => {
                let other = self.any_seat();
                self.cut(lasts, |from, to| from == seat && (to == other || other == seat));
            }
            Kind::Halves => {
                let side = self.streams.faults.draw();
                self.cut(lasts, |from, to| (side >> from.0) & 1 != (side >> to.0) & 1);
            }
            Kind::Bridge => {
                let side = self.streams.faults.draw();
                let apart = |from: Seat, to: Seat| (side >> from.0) & 1 != (side >> to.0) & 1;
                self.cut(lasts, |from, to| from != seat && to != seat && apart(from, to));
            }
            // Just after it has spoken again the answers find nobody to read them.
            Kind::Pause if self.streams.faults.chance(500) => {
                let Node { timer, incarnation, .. } = self.nodes[seat.0];
                let at = timer.max(self.now).plus(Duration::from_nanos(1));
                self.queue.put(at, Event::Pause { seat, incarnation, lasts });
            }
            Kind::Pause => self.pause(seat, lasts),
            Kind::Hold => {
                self.nodes[seat.0].held_until = self.now.plus(lasts);
                self.cut(lasts, |from, _| from == seat);
            }
            Kind::Wipe => return self.wipe(seat, lasts),
        }
        Ok(())
    }

    /// Stops a server for a while.
    pub(super) fn pause(&mut self, seat: Seat, lasts: Duration) {
        if self.calm {
            return;
        }
        let until = self.now.plus(lasts);
        let draw = &mut self.streams.faults;
        // What has arrived meanwhile may be read before the timer is looked at.
        let looks = until.plus(draw.duration(Duration::ZERO, self.profile.faults.last.0));
        // Clients and members speak on lanes of their own: either may be read first.
        let lane = Duration::from_nanos(draw.below(2));
        // And somebody asks it meanwhile.
        let client = draw.below(self.profile.clients as u64);
        let asks = self.now.plus(draw.duration(Duration::ZERO, lasts));
        self.queue.put(asks, Event::Eager(usize::try_from(client).unwrap_or(0)));
        self.stop_until(seat, until);
        let node = &mut self.nodes[seat.0];
        node.held_until = node.held_until.max(until.plus(lane));
        node.timer = node.timer.max(looks);
    }

    /// Nothing reaches a server, and it does nothing, before this moment.
    pub(super) fn stop_until(&mut self, seat: Seat, until: Time) {
        self.counts.pauses += 1;
        self.nodes[seat.0].paused_until = until;
    }

    fn crash(&mut self, seat: Seat, lasts: Duration) {
        // Some are started again at once: what others remember of them is still fresh then.
        let at_once = self.streams.faults.chance(AT_ONCE_PERMILLE);
        let lasts = if at_once { self.profile.network.delay.1.min(lasts) } else { lasts };
        if self.power_off(seat) {
            self.queue.put(self.now.plus(lasts), Event::Restart { seat });
        }
    }

    /// Ends a server; what is not durable is lost. Returns whether it was up.
    pub(super) fn power_off(&mut self, seat: Seat) -> bool {
        let node = &mut self.nodes[seat.0];
        if node.core.take().is_none() {
            return false;
        }
        let waiting = node.disk.waiting() as u64;
        let torn = self.streams.faults.chance(self.profile.faults.torn_permille);
        let kept = if torn { self.streams.faults.between(0, waiting) } else { 0 };
        node.disk.crash(usize::try_from(kept).unwrap_or(0));
        node.calls = Calls::default();
        self.counts.crashes += 1;
        self.counts.writes_lost += waiting - kept;
        self.clients.forget(seat);
        true
    }

    fn wipe(&mut self, seat: Seat, lasts: Duration) -> Checked {
        let id = self.nodes[seat.0].id;
        if !self.dead.insert(id) || !self.all_are_able() {
            self.dead.remove(&id);
            return Ok(());
        }
        if self.breaks(DriverFault::WipedVoterVotes) {
            self.dead.remove(&id);
        }
        self.crash(seat, lasts);
        self.counts.wipes += 1;
        // A server without a store knows of no configuration until its log brings one.
        let newcomer = self.newcomer(seat, Configuration::default());
        self.nodes[seat.0] = newcomer;
        Ok(())
    }

    /// Whether every configuration that someone acts on, and the last one that committed, still
    /// has a majority with its disks.
    fn all_are_able(&self) -> bool {
        let acted_on = self.nodes.iter().map(|node| match &node.core {
            Some(core) => core.configuration().clone(),
            None => node.disk.configuration(),
        });
        // An index that nobody applied yet may be committed: wait until all have caught up.
        let calm = self.nodes.iter().all(|node| {
            let core = node.core.as_ref();
            core.is_none_or(|core| {
                core.log().last().index == Index(0) || core.commit() <= self.applied
            })
        });
        calm && self.is_able(&self.configuration)
            && acted_on.into_iter().all(|configuration| self.is_able(&configuration))
    }

    /// A leader that is handing over does not hear what comes of it.
    pub(super) fn deafen(&mut self, leader: Seat) {
        let Span(min, max) = self.profile.faults.last;
        if self.calm || !self.streams.faults.chance(DEAF_PERMILLE) {
            return;
        }
        let lasts = self.streams.faults.duration(min, max);
        self.cut(lasts, |_, to| to == leader);
    }

    fn cut(&mut self, lasts: Duration, rule: impl Fn(Seat, Seat) -> bool) {
        self.counts.partitions += 1;
        let cut = self.network.cut(rule);
        self.queue.put(self.now.plus(lasts), Event::Heal(cut));
    }

    /// Leaders are struck as often as all others together.
    fn victim(&mut self) -> Seat {
        let leader = self.leader().filter(|_| self.streams.faults.chance(500));
        leader.unwrap_or_else(|| self.any_seat())
    }

    fn any_seat(&mut self) -> Seat {
        let seats = self.nodes.len() as u64;
        Seat(usize::try_from(self.streams.faults.below(seats)).unwrap_or(0))
    }
}

/// Transfers in a thousand whose leader falls deaf.
const DEAF_PERMILLE: u64 = 200;
/// Crashes in a thousand after which the server is back almost at once.
const AT_ONCE_PERMILLE: u64 = 300;
/// Messages that a muzzled leader may send, for each server of the world.
const LAST_WORDS: u64 = 4;
