//! How many bytes may go in a second.
//!
//! Knows nothing of what goes, and reads no clock. Invariant: over any time, no more goes than
//! the rate allows for that time, a short burst and one thing more.

use std::time::Duration;

use raft::Time;

/// A token bucket, kept as the moment at which it is full again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Throttle {
    bytes_per_s: u64,
    full_at: Time,
}

impl Throttle {
    /// One through which nothing has gone yet.
    pub(crate) fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), full_at: Time::default() }
    }

    /// When the next thing may go.
    pub(crate) fn free_at(&self) -> Time {
        Time(self.full_at.0.saturating_sub(BURST))
    }

    /// So much goes.
    pub(crate) fn take(&mut self, now: Time, bytes: u64) {
        let ns = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s);
        let lasts = Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX));
        self.full_at = self.full_at.max(now).plus(lasts);
    }
}

/// What timers are late by must not make the rate smaller.
const BURST: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    #[test]
    fn no_more_goes_than_the_rate_allows() {
        let mut throttle = Throttle::new(1_000_000);
        let (mut went, mut now) = (0, ms(500));
        while now < ms(1_500) {
            // Late by up to 3 ms, as timers are.
            now = now.max(throttle.free_at()).plus(Duration::from_millis(went / 10_000 % 4));
            throttle.take(now, 10_000);
            went += 10_000;
        }
        assert!((990_000..=1_030_000).contains(&went), "{went} bytes in a second");
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let mut throttle = Throttle::new(1_000);
        throttle.take(ms(1), 100);
        assert_eq!(throttle.free_at(), ms(91));
        throttle.take(ms(60_000), 100);
        assert_eq!(throttle.free_at(), ms(60_090));
    }

    #[test]
    fn one_large_thing_goes_and_is_paid_for_afterwards() {
        let mut throttle = Throttle::new(1 << 16);
        throttle.take(ms(0), 1 << 20);
        assert_eq!(throttle.free_at(), ms(16_000 - 10));
        throttle.take(ms(0), u64::MAX);
        assert!(throttle.free_at() > ms(1_000_000));
    }
}
