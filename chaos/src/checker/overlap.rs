//! Whether the run was worth judging: operations must overlap, or any order explains them.
//!
//! Not a guarantee of the cluster but one of the workload: too little overlap is an error of the
//! laboratory ([`TooLittle`]), and as a check it is *unknown*, never a pass.

use super::{Check, Checker, Complaints, conclude};
use crate::history::{Frozen, History};

/// What it is called among the checks.
pub(super) const NAME: &str = "overlap";

/// At least so many operations must be open on a key, on average
/// ([`History::overlap_per_key`]).
pub const OVERLAP_MIN: f64 = 2.0;

/// The run tested too little.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
#[error(
    "{found:.2} operations overlap per key on average, but at least {OVERLAP_MIN:.2} are needed: \
     raise workload.burst or workload.rate_per_s, or lower workload.keys_live"
)]
pub struct TooLittle {
    /// What was counted; 0 without any acknowledged operation.
    pub found: f64,
}

/// Checks the workload.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overlap;

impl Overlap {
    /// The overlap, or why it does not do.
    pub fn measure(history: &History) -> Result<f64, TooLittle> {
        let found = history.overlap_per_key().unwrap_or(0.0);
        if found >= OVERLAP_MIN { Ok(found) } else { Err(TooLittle { found }) }
    }
}

impl Checker for Overlap {
    fn name(&self) -> &'static str {
        NAME
    }

    fn check(&self, frozen: &Frozen) -> Check {
        let measured = Self::measure(&frozen.history);
        let mut doubts = Complaints::default();
        if let Err(too_little) = measured {
            doubts.add(|| too_little.to_string());
        }
        conclude(self.name(), &Complaints::default(), &doubts, || {
            let found = measured.unwrap_or_default();
            format!("{found:.2} operations overlap per key on average")
        })
    }
}
