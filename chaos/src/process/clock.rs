//! The clock that the harness and its nodes share: time since the host was booted.
//!
//! An `Instant` means nothing in another process; `CLOCK_MONOTONIC` means the same in all.
//! Invariant: times of all processes on one host can be compared.

use std::{future::Future, pin::Pin, time::Duration};

use nix::time::{ClockId, clock_gettime};
use runtime::{Clock, SystemClock, Time};

/// The host's monotonic clock, with the host's own origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostClock;

impl Clock for HostClock {
    fn now(&self) -> Time {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .expect("the kernel has this clock, and the address is our own");
        Time(Duration::from(now))
    }

    fn wall(&self) -> Duration {
        SystemClock::new().wall()
    }

    fn sleep_until(&self, deadline: Time) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(deadline.since(self.now())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_back() {
        let first = HostClock.now();
        let second = HostClock.now();
        assert!(first <= second);
        assert!(first > Time::default());
        assert!(HostClock.wall() > Duration::ZERO);
    }

    #[tokio::test]
    async fn a_sleep_ends_after_its_deadline() {
        let deadline = HostClock.now().plus(Duration::from_millis(2));
        HostClock.sleep_until(deadline).await;
        assert!(HostClock.now() >= deadline);
        // One that is over already ends at once.
        HostClock.sleep_until(Time::default()).await;
    }
}
