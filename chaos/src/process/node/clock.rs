//! The node's own clock: the host's, off by what the harness says.
//!
//! Invariant: what the node tells the harness is on the host's clock, whatever its own shows.

use std::{future::Future, pin::Pin, time::Duration};

use runtime::{Clock, Time};
use tokio::sync::watch;

use crate::{
    member::nanos,
    process::{HostClock, control::ClockReading},
    skew::{ClockFault, Skew},
};

/// See the module.
#[derive(Debug)]
pub(super) struct NodeClock {
    skew: watch::Sender<Skew>,
}

impl NodeClock {
    /// A clock that this befalls from the beginning.
    pub(super) fn new(fault: ClockFault) -> Self {
        let clock = Self { skew: watch::Sender::new(Skew::default()) };
        clock.set(fault);
        clock
    }

    /// From now on this befalls it.
    pub(super) fn set(&self, fault: ClockFault) {
        // Read while nobody else reads: the clock must not go back.
        self.skew.send_modify(|skew| skew.set(HostClock.now(), fault));
    }

    /// The moment by the host's clock.
    pub(super) fn on_host(&self, at: Time) -> Time {
        self.skew.borrow().host(at)
    }

    /// What it shows, and what befalls it.
    pub(super) fn read(&self) -> ClockReading {
        let skew = self.skew.borrow();
        let host = HostClock.now();
        ClockReading {
            host_ns: nanos(host),
            monotonic_ns: nanos(skew.monotonic(host)),
            fault: skew.fault(),
            wall_off_ms: skew.wall_off_ms(),
        }
    }
}

impl Clock for NodeClock {
    fn now(&self) -> Time {
        let skew = self.skew.borrow();
        skew.monotonic(HostClock.now())
    }

    fn wall(&self) -> Duration {
        self.skew.borrow().wall(HostClock.wall())
    }

    fn sleep_until(&self, deadline: Time) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut skew = self.skew.subscribe();
        Box::pin(async move {
            loop {
                let due = skew.borrow_and_update().host(deadline);
                tokio::select! {
                    () = HostClock.sleep_until(due) => return,
                    // Its pace has changed: it is due at another moment.
                    changed = skew.changed() => if changed.is_err() {
                        return HostClock.sleep_until(due).await;
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_of_pace_reaches_those_who_sleep() {
        let clock = NodeClock::new(ClockFault { rate_ppm: -500_000, ..ClockFault::default() });
        // Nobody waits for the hundred seconds that are two hundred at this pace.
        let day = clock.now().plus(Duration::from_secs(100));
        let soon = clock.now().plus(Duration::from_millis(5));
        tokio::select! {
            () = clock.sleep_until(day) => panic!("it slept for a hundred seconds"),
            () = clock.sleep_until(soon) => {}
        }
        assert!(clock.now() >= soon);
        let sleeping = clock.sleep_until(clock.now().plus(Duration::from_millis(5)));
        clock.set(ClockFault::default());
        sleeping.await;
        let at = clock.now();
        assert!(clock.on_host(at) <= HostClock.now());
    }

    #[test]
    fn the_wall_clock_is_off_by_what_it_is_told() {
        let clock = NodeClock::new(ClockFault { wall_offset_ms: 60_000, ..ClockFault::default() });
        let before = HostClock.wall();
        assert!(clock.wall() >= before + Duration::from_secs(60));
        assert_eq!(clock.read().wall_off_ms, 60_000);
    }
}
