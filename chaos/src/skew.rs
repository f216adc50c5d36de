//! A node's clocks where they differ from its host's, as a model.
//!
//! Knows no clock: it is told what the host's show, and says what the node's do. Invariants: the
//! monotonic clock never goes back and never jumps, also as its rate changes; what it will show
//! and when it shows that are inverse to each other.

use std::{fmt, time::Duration};

use runtime::Time;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What befalls a node's clocks. By default nothing does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockFault {
    /// How far the wall clock is off while it lasts; negative where it is slow.
    #[serde(skip_serializing_if = "is_zero")]
    pub wall_offset_ms: i64,
    /// How far the wall clock jumps when it begins. Nobody sets it back when it ends.
    #[serde(skip_serializing_if = "is_zero")]
    pub wall_jump_ms: i64,
    /// How much faster the monotonic clock runs while it lasts, in millionths; negative where it
    /// is slower. The wall clock keeps the host's pace.
    #[serde(skip_serializing_if = "is_zero")]
    pub rate_ppm: i64,
}

/// Why clocks cannot be like that.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{field} is {value}, but must lie between {min} and {max}")]
pub struct ClockFaultError {
    /// The field.
    pub field: &'static str,
    /// What it says.
    pub value: i64,
    /// The least that is allowed.
    pub min: i64,
    /// The most.
    pub max: i64,
}

/// The clocks of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Skew {
    /// What the host showed when the rate last changed.
    host: Time,
    /// What the node showed then.
    shown: Time,
    fault: ClockFault,
    /// The sum of all jumps of the wall clock.
    jumped_ms: i64,
}

/// Checks that clocks can be like that.
///
/// # Errors
/// The first field that is out of its bounds.
pub fn validate(fault: &ClockFault) -> Result<(), ClockFaultError> {
    let ClockFault { wall_offset_ms, wall_jump_ms, rate_ppm } = *fault;
    let fields = [
        ("wall_offset_ms", wall_offset_ms, -WALL_MS_MAX, WALL_MS_MAX),
        ("wall_jump_ms", wall_jump_ms, -WALL_MS_MAX, WALL_MS_MAX),
        ("rate_ppm", rate_ppm, RATE_PPM_MIN, RATE_PPM_MAX),
    ];
    for (field, value, min, max) in fields {
        if !(min..=max).contains(&value) {
            return Err(ClockFaultError { field, value, min, max });
        }
    }
    Ok(())
}

impl ClockFault {
    /// Whether nothing befalls anything.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Skew {
    /// From now on, by the host's monotonic clock, this befalls the node's; it must be
    /// [valid](validate). What was before ends, but jumps of the wall clock add up.
    pub fn set(&mut self, host: Time, fault: ClockFault) {
        self.shown = self.monotonic(host);
        self.host = host;
        self.fault = fault;
        self.jumped_ms = self.jumped_ms.saturating_add(fault.wall_jump_ms);
    }

    /// What befalls the clocks.
    pub fn fault(&self) -> ClockFault {
        self.fault
    }

    /// How far the wall clock is off.
    pub fn wall_off_ms(&self) -> i64 {
        self.jumped_ms.saturating_add(self.fault.wall_offset_ms)
    }

    /// What the monotonic clock shows when the host's shows this.
    pub fn monotonic(&self, host: Time) -> Time {
        let passed = scaled(host.since(self.host), self.pace(), MILLION, u128::div_euclid);
        match host >= self.host {
            true => self.shown.plus(passed),
            // Of before the last change only what is about now is asked.
            false => Time(self.shown.0.saturating_sub(self.host.since(host))),
        }
    }

    /// What the host's monotonic clock shows as soon as the node's shows this.
    pub fn host(&self, shown: Time) -> Time {
        let passed = scaled(shown.since(self.shown), MILLION, self.pace(), u128::div_ceil);
        match shown >= self.shown {
            true => self.host.plus(passed),
            false => Time(self.host.0.saturating_sub(self.shown.since(shown))),
        }
    }

    /// What the wall clock shows when the host's shows this; never before 1970.
    pub fn wall(&self, host: Duration) -> Duration {
        let off = Duration::from_millis(self.wall_off_ms().unsigned_abs());
        match self.wall_off_ms() < 0 {
            true => host.saturating_sub(off),
            false => host.saturating_add(off),
        }
    }

    /// How far the monotonic clock goes while the host's goes a million.
    fn pace(&self) -> u128 {
        u128::try_from(MILLION as i64 + self.fault.rate_ppm).unwrap_or(MILLION)
    }
}

/// The fields that do something, with their values.
impl fmt::Display for ClockFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = [
            ("wall_offset_ms", self.wall_offset_ms),
            ("wall_jump_ms", self.wall_jump_ms),
            ("rate_ppm", self.rate_ppm),
        ];
        let fields = fields.into_iter().filter(|(_, value)| *value != 0);
        let fields: Vec<String> = fields.map(|(name, value)| format!("{name} {value}")).collect();
        f.write_str(&fields.join(", "))
    }
}

/// So much of the time, rounded as it is told to.
fn scaled(time: Duration, by: u128, of: u128, divide: fn(u128, u128) -> u128) -> Duration {
    // Half a millennium: what is later never comes.
    let nanos = divide(time.as_nanos().min(u128::from(u64::MAX)) * by, of);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

// Serde hands over a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

const MILLION: u128 = 1_000_000;
/// A day.
const WALL_MS_MAX: i64 = 86_400_000;
/// Half as fast; clocks that are off by more than a few hundred millionths are broken.
const RATE_PPM_MIN: i64 = -500_000;
/// Twice as fast.
const RATE_PPM_MAX: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::{Seed, Stream};

    fn ms(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    fn rate(rate_ppm: i64) -> ClockFault {
        ClockFault { rate_ppm, ..ClockFault::default() }
    }

    #[test]
    fn clocks_that_nothing_befalls_show_what_the_host_shows() {
        let skew = Skew::default();
        assert_eq!((skew.monotonic(ms(7)), skew.host(ms(7))), (ms(7), ms(7)));
        assert_eq!(skew.wall(Duration::from_secs(9)), Duration::from_secs(9));
    }

    #[test]
    fn a_rate_counts_from_when_it_begins_and_leaves_no_jump_behind() {
        let mut skew = Skew::default();
        skew.set(ms(1_000), rate(50_000));
        assert_eq!((skew.monotonic(ms(1_000)), skew.monotonic(ms(2_000))), (ms(1_000), ms(2_050)));
        skew.set(ms(2_000), rate(-500_000));
        assert_eq!((skew.monotonic(ms(2_000)), skew.monotonic(ms(3_000))), (ms(2_050), ms(2_550)));
        skew.set(ms(3_000), ClockFault::default());
        assert_eq!(skew.monotonic(ms(4_000)), ms(3_550));
        assert_eq!(skew.host(ms(3_550)), ms(4_000));
    }

    #[test]
    fn the_monotonic_clock_never_goes_back_and_reaches_what_is_waited_for() {
        let mut stream = Stream::named(Seed(5), "skew");
        let (mut skew, mut host, mut last) = (Skew::default(), Time::default(), Time::default());
        for _ in 0..10_000 {
            host = host.plus(Duration::from_nanos(stream.below(5_000_000)));
            if stream.chance(100) {
                let rates = [RATE_PPM_MIN, -50_000, -1, 0, 1, 333_333, RATE_PPM_MAX];
                skew.set(host, rate(*stream.pick(&rates).expect("there are some")));
            }
            let shown = skew.monotonic(host);
            assert!(shown >= last, "{shown:?} after {last:?}");
            last = shown;
            let deadline = shown.plus(Duration::from_nanos(stream.below(1_000_000_000)));
            let due = skew.host(deadline);
            assert!(skew.monotonic(due) >= deadline, "it wakes too early");
            let before = Time(due.0.saturating_sub(Duration::from_nanos(1)));
            assert!(due == host || skew.monotonic(before) < deadline, "it wakes too late");
        }
    }

    #[test]
    fn an_offset_ends_and_a_jump_stays() {
        let mut skew = Skew::default();
        let wall = |skew: &Skew| skew.wall(Duration::from_secs(100)).as_secs();
        skew.set(ms(1), ClockFault { wall_offset_ms: -5_000, ..ClockFault::default() });
        assert_eq!(wall(&skew), 95);
        skew.set(ms(2), ClockFault { wall_jump_ms: 7_000, ..ClockFault::default() });
        assert_eq!((wall(&skew), skew.wall_off_ms()), (107, 7_000));
        skew.set(ms(3), ClockFault::default());
        assert_eq!(wall(&skew), 107);
        skew.set(ms(4), ClockFault { wall_jump_ms: -WALL_MS_MAX, ..ClockFault::default() });
        assert_eq!(wall(&skew), 0, "there is nothing before 1970");
        assert_eq!(skew.monotonic(ms(5)), ms(5), "the other clock knows nothing of it");
    }

    #[test]
    fn what_never_comes_stays_away() {
        let mut skew = Skew::default();
        skew.set(ms(1), rate(RATE_PPM_MAX));
        let never = Time(Duration::MAX);
        assert!(skew.host(never) > ms(1_000_000_000_000));
        assert!(skew.monotonic(never) > ms(1_000_000_000_000));
    }

    #[test]
    fn faults_have_bounds_and_read_back() {
        let read = |text: &str| toml::from_str::<ClockFault>(text).expect("well formed");
        let fault = read("wall_offset_ms = -5000\nrate_ppm = 50000");
        assert_eq!(fault.to_string(), "wall_offset_ms -5000, rate_ppm 50000");
        assert_eq!(validate(&fault), Ok(()));
        assert_eq!(read(&toml::to_string(&fault).expect("plain data")), fault);
        assert!(read("").is_none() && !fault.is_none());
        for (text, expected) in [
            ("rate_ppm = -500001", "rate_ppm is -500001, but must lie between -500000 and 1000000"),
            ("wall_jump_ms = 86400001", "wall_jump_ms is 86400001, but"),
            ("wall_offset_ms = -86400001", "wall_offset_ms is -86400001, but"),
        ] {
            let error = validate(&read(text)).expect_err(text).to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
