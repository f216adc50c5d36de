//! The leader's lease: until when no other server can have been elected (thesis §6.4.1).
//!
//! Knows neither members nor terms. Why it is safe: a voter that answered a round heard the
//! leader after the round was sent, and from then on, and after each start of its own, refuses
//! its vote for the shortest election timeout by its own clock (`voter.rs`); it stands itself no
//! earlier. So for that long after the *sending*, less what two clocks may drift apart, whoever
//! counts a majority meets one of these voters. A candidate may count by a configuration that is
//! more than one change away from the one the round was counted by, but then it has that from
//! this leader, heard it later than the round was sent, and waits itself. Only a server that was
//! told to campaign is exempt, which is why a lease ends for good before anyone is told.
//! Invariant: the lease never reaches beyond what a majority's answers to one round vouch for.

use std::{collections::VecDeque, time::Duration};

use crate::{Config, Time};

/// Bounds for reads that are answered without a round. All members must agree on them, for the
/// voters keep the leases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseLimits {
    /// No member's monotonic clock runs faster or slower than true time by more than so many
    /// millionths; below a million.
    pub drift_ppm_max: u32,
    /// Taken off each lease besides.
    pub margin: Duration,
}

impl LeaseLimits {
    /// How long a lease lasts by the leader's clock: an election timeout of the fastest clock is
    /// still longer by the slowest.
    pub fn length(&self, election_timeout_min: Duration) -> Duration {
        let drift = u128::from(self.drift_ppm_max);
        let nanos = election_timeout_min.as_nanos() * PPM.saturating_sub(drift) / (PPM + drift);
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        Duration::from_nanos(nanos).saturating_sub(self.margin)
    }
}

/// The lease of one leader.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    /// Rounds that a majority has not answered yet, and when they began.
    begun: VecDeque<(u64, Time)>,
    /// When the latest round began that a majority has answered.
    since: Option<Time>,
    given_up: bool,
}

impl Lease {
    /// A round begins.
    pub(crate) fn begin(&mut self, round: u64, now: Time) {
        if self.begun.len() == ROUNDS_MAX {
            // Its answers then vouch for nothing: the lease can only be shorter.
            self.begun.pop_front();
        }
        self.begun.push_back((round, now));
    }

    /// A majority has answered this round, and so all before it.
    pub(crate) fn confirm(&mut self, round: u64) {
        while let Some((_, began)) = self.begun.front().filter(|(begun, _)| *begun <= round) {
            self.since = Some(*began);
            self.begun.pop_front();
        }
    }

    /// There is none any more, as long as this leader leads.
    pub(crate) fn give_up(&mut self) {
        self.given_up = true;
    }

    /// Until when it is held; `None` where there is none.
    pub(crate) fn until(&self, config: &Config) -> Option<Time> {
        let length = config.lease?.length(config.election_timeout_min);
        let since = self.since.filter(|_| !self.given_up)?;
        Some(since.plus(length))
    }

    /// Takes the moment of the answer for that of the question.
    #[cfg(feature = "planted-faults")]
    pub(crate) fn confirm_late(&mut self, round: u64, now: Time) {
        if self.begun.front().is_some_and(|(begun, _)| *begun <= round) {
            self.confirm(round);
            self.since = Some(now);
        }
    }
}

const PPM: u128 = 1_000_000;
/// A leader begins a round for each heartbeat, and for reads when none is under way; it steps
/// down when an election timeout has passed without answers.
const ROUNDS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time(Duration::from_millis(millis))
    }

    #[test]
    fn a_lease_counts_from_the_sending_of_the_latest_answered_round() {
        let mut lease = Lease::default();
        lease.begin(1, at(10));
        lease.begin(2, at(20));
        lease.begin(3, at(30));
        assert_eq!(lease.since, None);
        lease.confirm(2);
        assert_eq!(lease.since, Some(at(20)));
        lease.confirm(1);
        assert_eq!(lease.since, Some(at(20)), "an older answer takes nothing back");
        lease.confirm(3);
        assert_eq!(lease.since, Some(at(30)));
    }

    #[test]
    fn clocks_that_drift_apart_shorten_it() {
        let limits = |drift_ppm_max, margin_ms| LeaseLimits {
            drift_ppm_max,
            margin: Duration::from_millis(margin_ms),
        };
        let timeout = Duration::from_millis(150);
        assert_eq!(limits(0, 0).length(timeout), timeout);
        assert_eq!(limits(0, 5).length(timeout), Duration::from_millis(145));
        // By a clock of 0.95 it must be over before one of 1.05 shows the timeout.
        let length = limits(50_000, 0).length(timeout);
        assert!(length.as_secs_f64() / 0.95 <= timeout.as_secs_f64() / 1.05);
        assert_eq!(limits(0, 200).length(timeout), Duration::ZERO);
        assert_eq!(limits(1_000_000, 0).length(timeout), Duration::ZERO);
    }

    #[test]
    fn rounds_without_end_are_forgotten_not_kept() {
        let mut lease = Lease::default();
        for round in 1..=2 * ROUNDS_MAX as u64 {
            lease.begin(round, at(round));
        }
        assert_eq!(lease.begun.len(), ROUNDS_MAX);
        lease.confirm(1);
        assert_eq!(lease.since, None);
    }
}
