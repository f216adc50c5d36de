//! What a link shall do to its datagrams, as plain data that plans are written in.
//!
//! Shares are written as fractions and kept as whole millionths: they compare, and what is
//! written reads back. Invariant: what [`validate`] lets pass, a link can do.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// What befalls the datagrams of one direction of a link. By default nothing does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkFaults {
    /// Nothing passes.
    pub block: bool,
    /// All are kept, in order, until this ends; then all arrive at once. Goes with no other fault
    /// of the link.
    pub hold: bool,
    /// The share that is lost.
    pub loss: Share,
    /// How much later than at once all arrive, in order.
    pub delay_ms: u64,
    /// How much later than that each may arrive, drawn; their order stays.
    pub jitter_ms: u64,
    /// The share that is held back, so that later ones overtake it.
    pub reorder: Share,
    /// How long it is held back.
    pub reorder_ms: u64,
    /// The share that arrives twice.
    pub duplicate: Share,
    /// The share that arrives with a bit changed.
    pub corrupt: Share,
    /// How much passes each second; all that comes if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_bytes_per_s: Option<u64>,
    /// How much may wait for its turn; what comes on top of that is lost.
    pub queue_bytes_max: u64,
}

/// A fraction from 0 to 1, in whole millionths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Share {
    millionths: u32,
}

/// Why a link cannot do what it shall.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{field} is {value}, but {allowed}")]
pub struct LinkFaultsError {
    /// The field.
    pub field: &'static str,
    /// What it says.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

/// The number is no share.
#[derive(Clone, PartialEq, Debug, Error)]
#[error("{0} is no share: expected a fraction from 0 to 1, at least 0.000001 if not 0")]
pub struct NotAShare(pub f64);

/// Checks that a link can do it.
///
/// # Errors
/// The first field that it cannot.
pub fn validate(faults: &LinkFaults) -> Result<(), LinkFaultsError> {
    let within = |field, value: u64, min, max| {
        let allowed = format!("must lie between {min} and {max}");
        let fits = (min..=max).contains(&value);
        let value = value.to_string();
        if fits { Ok(()) } else { Err(LinkFaultsError { field, value, allowed }) }
    };
    if faults.hold && (LinkFaults { hold: false, ..faults.clone() }) != LinkFaults::default() {
        let allowed = "what is held can suffer nothing else: give it a step of its own".into();
        return Err(LinkFaultsError { field: "hold", value: "true".into(), allowed });
    }
    within("delay_ms", faults.delay_ms, 0, LATE_MS_MAX)?;
    within("jitter_ms", faults.jitter_ms, 0, LATE_MS_MAX)?;
    // What is held back for no time is overtaken by nobody.
    within("reorder_ms", faults.reorder_ms, 1, LATE_MS_MAX)?;
    within("queue_bytes_max", faults.queue_bytes_max, QUEUE_BYTES_MIN, QUEUE_BYTES_MAX)?;
    let Some(bytes_per_s) = faults.bandwidth_bytes_per_s else { return Ok(()) };
    within("bandwidth_bytes_per_s", bytes_per_s, BYTES_PER_S_MIN, BYTES_PER_S_MAX)
}

impl LinkFaults {
    /// A link that lets nothing pass.
    pub fn blocked() -> Self {
        Self { block: true, ..Self::default() }
    }

    /// Whether nothing passes while it lasts.
    pub fn severs(&self) -> bool {
        self.block || self.hold
    }

    /// Whether nothing befalls anything.
    pub fn is_none(&self) -> bool {
        let Self { block, hold, loss, reorder, duplicate, corrupt, .. } = self;
        let shares = [loss, reorder, duplicate, corrupt];
        let late = self.delay_ms > 0 || self.jitter_ms > 0 || self.bandwidth_bytes_per_s.is_some();
        !block && !hold && !late && shares.iter().all(|share| **share == Share::NONE)
    }
}

impl Default for LinkFaults {
    fn default() -> Self {
        Self {
            block: false,
            hold: false,
            loss: Share::NONE,
            delay_ms: 0,
            jitter_ms: 0,
            reorder: Share::NONE,
            reorder_ms: 10,
            duplicate: Share::NONE,
            corrupt: Share::NONE,
            bandwidth_bytes_per_s: None,
            queue_bytes_max: 256 << 10,
        }
    }
}

/// The fields that do something, with their values.
impl fmt::Display for LinkFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |name, share: Share| (share != Share::NONE).then(|| format!("{name} {share}"));
        let ms = |name, ms: u64| (ms > 0).then(|| format!("{name} {ms}"));
        let reorders = self.reorder != Share::NONE;
        let bandwidth = self.bandwidth_bytes_per_s.map(|bytes_per_s| {
            let queue = self.queue_bytes_max;
            format!("bandwidth_bytes_per_s {bytes_per_s}, queue_bytes_max {queue}")
        });
        let fields = [
            self.block.then(|| "block".to_owned()),
            self.hold.then(|| "hold".to_owned()),
            share("loss", self.loss),
            ms("delay_ms", self.delay_ms),
            ms("jitter_ms", self.jitter_ms),
            share("reorder", self.reorder),
            reorders.then(|| format!("reorder_ms {}", self.reorder_ms)),
            share("duplicate", self.duplicate),
            share("corrupt", self.corrupt),
            bandwidth,
        ];
        f.write_str(&fields.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl Share {
    /// None at all.
    pub const NONE: Self = Self { millionths: 0 };
    /// All of them.
    pub const ALL: Self = Self { millionths: MILLION };

    /// The share that is written like this.
    ///
    /// # Errors
    /// A number that is none, and one so small that it would be rounded to nothing.
    pub fn new(fraction: f64) -> Result<Self, NotAShare> {
        let millionths = (fraction * f64::from(MILLION)).round();
        if !(0.0..=1.0).contains(&fraction) || (fraction > 0.0 && millionths < 1.0) {
            return Err(NotAShare(fraction));
        }
        Ok(Self { millionths: millionths as u32 })
    }

    /// As a fraction.
    pub fn fraction(self) -> f64 {
        f64::from(self.millionths) / f64::from(MILLION)
    }

    /// Whether this draw, of any number, falls into the share.
    pub(super) fn holds(self, draw: u64) -> bool {
        // Multiply and shift: all draws are spread over as many numbers as there are millionths.
        let spread = (u128::from(draw) * u128::from(MILLION)) >> 64;
        spread < u128::from(self.millionths)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fraction().fmt(f)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.fraction())
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Whole numbers too: people write `loss = 1`.
        let fraction = f64::deserialize(deserializer)?;
        Self::new(fraction).map_err(de::Error::custom)
    }
}

const MILLION: u32 = 1_000_000;
/// Longer than any timeout of a group: more is a block.
const LATE_MS_MAX: u64 = 60_000;
/// The largest datagram must find a place.
const QUEUE_BYTES_MIN: u64 = 65_536;
const QUEUE_BYTES_MAX: u64 = 64 << 20;
/// A datagram of usual size each second.
const BYTES_PER_S_MIN: u64 = 1_500;
const BYTES_PER_S_MAX: u64 = 100_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<LinkFaults, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn faults_are_read_with_their_units_and_read_back() {
        let text = "block = true\nloss = 0.05\ndelay_ms = 40\njitter_ms = 7\nreorder = 1\n\
                    reorder_ms = 3\nduplicate = 0.000001\ncorrupt = 0.333333\n\
                    bandwidth_bytes_per_s = 125000\nqueue_bytes_max = 70000\n";
        let faults = read(text).expect("they are well formed");
        assert_eq!((faults.loss, faults.reorder), (Share { millionths: 50_000 }, Share::ALL));
        assert_eq!(validate(&faults), Ok(()));
        assert!(!faults.is_none());
        let told = "block, loss 0.05, delay_ms 40, jitter_ms 7, reorder 1, reorder_ms 3, \
                    duplicate 0.000001, corrupt 0.333333, bandwidth_bytes_per_s 125000, \
                    queue_bytes_max 70000";
        assert_eq!(faults.to_string(), told);
        let text = toml::to_string(&faults).expect("plain data");
        assert_eq!(read(&text), Ok(faults.clone()));
        let json = serde_json::to_string(&faults).expect("plain data");
        assert_eq!(serde_json::from_str::<LinkFaults>(&json).expect("its own text"), faults);
    }

    #[test]
    fn what_is_not_written_does_not_happen() {
        let faults = read("").expect("nothing is well formed");
        assert_eq!(faults, LinkFaults::default());
        assert!(faults.is_none());
        assert_eq!(validate(&faults), Ok(()));
        for one in ["block = true", "hold = true", "loss = 0.1", "delay_ms = 1", "jitter_ms = 1"]
            .into_iter()
            .chain(["reorder = 0.1", "duplicate = 0.1", "corrupt = 0.1"])
            .chain(["bandwidth_bytes_per_s = 2000"])
        {
            assert!(!read(one).expect("well formed").is_none(), "{one}");
        }
    }

    #[test]
    fn what_is_no_share_is_refused_with_what_is() {
        for bad in ["-0.1", "1.1", "2", "nan", "inf", "0.0000001"] {
            let error = read(&format!("loss = {bad}")).expect_err(bad);
            assert!(error.contains("from 0 to 1"), "{bad}: {error}");
        }
        let error = read("losses = 0.1").expect_err("no such field");
        assert!(error.contains("losses"), "{error}");
    }

    #[test]
    fn numbers_have_bounds_and_are_named() {
        let cases = [
            ("hold = true\nloss = 0.1", "hold is true, but what is held can suffer nothing else"),
            ("delay_ms = 60001", "delay_ms is 60001, but must lie between 0 and 60000"),
            ("jitter_ms = 60001", "jitter_ms is 60001, but"),
            ("reorder_ms = 0", "reorder_ms is 0, but must lie between 1 and"),
            ("queue_bytes_max = 1", "queue_bytes_max is 1, but must lie between 65536 and"),
            ("bandwidth_bytes_per_s = 0", "bandwidth_bytes_per_s is 0, but must lie between 1500"),
        ];
        for (text, expected) in cases {
            let error = validate(&read(text).expect("well formed")).expect_err(text).to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_share_holds_so_many_of_all_draws() {
        assert!(!Share::NONE.holds(0));
        assert!(Share::ALL.holds(u64::MAX));
        let half = Share::new(0.5).expect("a share");
        assert!(half.holds(u64::MAX / 2) && !half.holds(u64::MAX / 2 + 2));
        assert_eq!(half.to_string(), "0.5");
    }
}
