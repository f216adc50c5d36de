//! One server of the model: a core, its disk, its machine and its clock.
//!
//! A server that is down has no core; its disk remains. Sees no other server.

use std::{rc::Rc, time::Duration};

use raft::{Barrier, HardState, Index, NodeId, Raft, Role, Time};

use super::{calls::Calls, disk::Disk, machine::Machine};
use crate::invariant::{Cause, Departure, Lease, Server, View};

/// Where a server stands in the world: a peer's number, less one. A wiped store leaves the seat
/// to a new server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Seat(pub(super) usize);

/// See the module.
pub(super) struct Node {
    /// Its name.
    pub(super) id: NodeId,
    /// Its number among all that ever existed.
    pub(super) server: Server,
    /// How often it has started.
    pub(super) incarnation: u64,
    /// `None` while it is down.
    pub(super) core: Option<Raft>,
    /// Holds its promises back.
    pub(super) barrier: Barrier,
    /// What survives.
    pub(super) disk: Disk,
    /// Its copy of the machine.
    pub(super) machine: Machine,
    /// Its view of time.
    pub(super) clock: Clock,
    /// Nothing reaches it before this moment.
    pub(super) paused_until: Time,
    /// No message reaches it before this moment, but it goes on.
    pub(super) held_until: Time,
    /// When its deadline comes, by the world's time.
    pub(super) timer: Time,
    /// The latest snapshot it was told to install; earlier ones are void.
    pub(super) installs: u64,
    /// Clients that wait for entries of its log.
    pub(super) calls: Calls,
    /// A snapshot of its own is being written.
    pub(super) compacting: bool,
    /// How many more messages of it the network takes; `None` is any number.
    pub(super) words: Option<u64>,
    /// It never campaigns, and is never promoted.
    pub(super) observer: bool,
    /// As its core is configured.
    pub(super) election_timeout_min: Duration,
    /// As its core is configured.
    pub(super) election_timeout_max: Duration,
}

impl Node {
    /// A server that has never started.
    pub(super) fn new(id: NodeId, server: Server, machine: Machine, clock: Clock) -> Self {
        Self {
            id,
            server,
            incarnation: 0,
            core: None,
            barrier: Barrier::default(),
            disk: Disk::new(Rc::new(machine.clone())),
            machine,
            clock,
            paused_until: Time::default(),
            held_until: Time::default(),
            timer: Time::default(),
            installs: 0,
            calls: Calls::default(),
            compacting: false,
            words: None,
            observer: false,
            election_timeout_min: Duration::ZERO,
            election_timeout_max: Duration::MAX,
        }
    }

    /// Whether this life of the server is still the present one.
    pub(super) fn lives(&self, incarnation: u64) -> bool {
        self.core.is_some() && self.incarnation == incarnation
    }

    /// What an invariant may see of it, at a moment of the world and by its own clock.
    pub(super) fn view(
        &self,
        (world, now): (Time, Time),
        cause: Cause,
        written: Option<Index>,
    ) -> Option<View<'_>> {
        let core = self.core.as_ref()?;
        Some(View {
            server: self.server,
            node: self.id,
            incarnation: self.incarnation,
            role: core.role(),
            leader: core.leader(),
            hard_state: core.hard_state(),
            commit: core.commit(),
            led_commit: (core.role() == Role::Leader).then(|| core.commit()),
            applied: core.applied(),
            log: core.log(),
            configuration: core.configuration(),
            durable_state: self.disk.hard_state,
            durable: self.disk.last(),
            written,
            cause,
            now,
            lease: self.lease(world, core),
            election_timeout_min: self.election_timeout_min,
            election_timeout_max: self.election_timeout_max,
        })
    }

    /// By the world's clock, so that leases of different servers can be compared.
    fn lease(&self, world: Time, core: &Raft) -> Lease {
        let until = core.lease_until().map(|until| self.clock.world(until));
        Lease { now: world, until }
    }

    /// What an invariant may see of a message that it sends.
    pub(super) fn departure<'a>(&self, to: NodeId, message: &'a raft::Message) -> Departure<'a> {
        let hard_state: HardState = self.disk.hard_state;
        let durable = self.disk.last();
        Departure { server: self.server, node: self.id, to, message, hard_state, durable }
    }

    /// Sets the timer to the core's deadline, no earlier than now.
    pub(super) fn arm(&mut self, now: Time) {
        let Some(core) = &self.core else { return };
        self.timer = self.clock.world(core.deadline()).max(now);
    }
}

/// A monotonic clock that starts at `offset` and runs at its own rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// What it shows when the world begins, in nanoseconds.
    pub(super) offset_ns: u64,
    /// Its seconds per million of the world's.
    pub(super) rate_ppm: u64,
}

impl Clock {
    /// What it shows at a moment of the world.
    pub(super) fn shows(&self, world: Time) -> Time {
        let passed = world.0.as_nanos() * u128::from(self.rate_ppm) / PPM;
        nanos(passed + u128::from(self.offset_ns))
    }

    /// The first moment of the world at which it shows this much.
    pub(super) fn world(&self, shown: Time) -> Time {
        let passed = shown.0.as_nanos().saturating_sub(u128::from(self.offset_ns));
        nanos((passed * PPM).div_ceil(u128::from(self.rate_ppm)))
    }
}

fn nanos(count: u128) -> Time {
    Time(Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX)))
}

const PPM: u128 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_fires_no_earlier_than_the_clock_shows() {
        for rate_ppm in [900_000, 999_999, 1_000_000, 1_000_001, 1_100_000] {
            let clock = Clock { offset_ns: 12_345, rate_ppm };
            for shown in [12_345, 12_346, 99_999, 1_000_000_007] {
                let shown = nanos(shown);
                let world = clock.world(shown);
                assert!(clock.shows(world) >= shown);
                let before = Time(world.0.saturating_sub(Duration::from_nanos(1)));
                assert!(world == Time::default() || clock.shows(before) < shown);
            }
        }
    }
}
