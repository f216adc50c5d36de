//! Judges a run that is over, from the outside: what clients saw and what the logs hold.
//!
//! A checker sees a [`Frozen`] run and nothing else, can cause nothing, and may answer
//! *unknown*. Equal runs get equal verdicts: no clock and no entropy is read here.

use serde::{Deserialize, Serialize};

use crate::history::Frozen;

pub mod acknowledged;
pub mod at_most_once;
pub mod availability;
pub mod elections;
pub mod linearizable;
pub mod overlap;
pub mod session_order;

/// One guarantee that can be judged.
pub trait Checker {
    /// What is guaranteed, in a word or two.
    fn name(&self) -> &'static str;

    /// Judges the run.
    fn check(&self, frozen: &Frozen) -> Check;
}

/// The answer of one checker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Check {
    /// The checker.
    pub name: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// For a person: what was judged, or what broke and where.
    pub detail: String,
}

/// Three answers, not two.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The guarantee held.
    Valid,
    /// The guarantee broke.
    Invalid,
    /// It cannot be told.
    Unknown,
}

impl Verdict {
    /// Invalid dominates, then unknown. Of nothing at all, unknown: nothing was judged.
    pub fn combine(verdicts: impl IntoIterator<Item = Self>) -> Self {
        verdicts.into_iter().reduce(Self::and).unwrap_or(Self::Unknown)
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Invalid, _) | (_, Self::Invalid) => Self::Invalid,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Valid, Self::Valid) => Self::Valid,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Unknown => "unknown",
        })
    }
}

/// The checkers of what clients saw and logs hold, with their default limits.
pub fn standard() -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(linearizable::Linearizable::default()),
        Box::new(session_order::SessionOrder),
        Box::new(acknowledged::Acknowledged),
        Box::new(at_most_once::AtMostOnce),
        Box::new(overlap::Overlap),
    ]
}

/// All checkers that this run gives something to judge.
pub fn all(frozen: &Frozen) -> Vec<Box<dyn Checker>> {
    let mut checkers = standard();
    let Some(course) = &frozen.course else { return checkers };
    // Without a fault nothing heals.
    if !course.faults.is_empty() {
        checkers.push(Box::new(availability::Availability));
    }
    checkers.push(Box::new(elections::Elections));
    checkers
}

/// Asks every checker.
pub fn judge(frozen: &Frozen, checkers: &[Box<dyn Checker>]) -> (Verdict, Vec<Check>) {
    let checks: Vec<Check> = checkers.iter().map(|checker| checker.check(frozen)).collect();
    (Verdict::combine(checks.iter().map(|check| check.verdict)), checks)
}

/// Which of the run's own conditions did not hold, or could not be told, in words; `None` if all
/// held. Without them no verdict says anything of the cluster: the laboratory has failed.
pub fn shortcomings(checks: &[Check]) -> Option<String> {
    let is_lacking =
        |check: &&Check| check.verdict != Verdict::Valid && CONDITIONS.contains(&&*check.name);
    let lacking: Vec<&str> =
        checks.iter().filter(is_lacking).map(|check| check.name.as_str()).collect();
    let names = lacking.join(", ");
    (!lacking.is_empty()).then(|| format!("the run shows too little to be judged: see {names}"))
}

/// What a checker has against a run: every breach counts, the first few are named.
#[derive(Default)]
struct Complaints {
    named: Vec<String>,
    count: u64,
}

impl Complaints {
    fn add(&mut self, complaint: impl FnOnce() -> String) {
        self.count += 1;
        if self.named.len() < COMPLAINTS_NAMED_MAX {
            self.named.push(complaint());
        }
    }

    /// `None` if there is nothing to complain about.
    fn summary(&self) -> Option<String> {
        let unnamed = self.count - self.named.len() as u64;
        match (self.count, unnamed) {
            (0, _) => None,
            (_, 0) => Some(self.named.join("; ")),
            (_, more) => Some(format!("{}; and {more} more", self.named.join("; "))),
        }
    }
}

/// The one check that these findings amount to: breaches dominate doubts, doubts dominate `fine`.
fn conclude(
    name: &str,
    breaches: &Complaints,
    doubts: &Complaints,
    fine: impl FnOnce() -> String,
) -> Check {
    let (verdict, detail) = match (breaches.summary(), doubts.summary()) {
        (Some(breaches), _) => (Verdict::Invalid, breaches),
        (None, Some(doubts)) => (Verdict::Unknown, doubts),
        (None, None) => (Verdict::Valid, fine()),
    };
    Check { name: name.to_owned(), verdict, detail }
}

/// What the laboratory owes a run: enough load, from its beginning and before each fault, and
/// operations that overlap.
const CONDITIONS: [&str; 3] = ["rate", "assumptions", overlap::NAME];
const COMPLAINTS_NAMED_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_dominates_unknown_dominates_valid() {
        use Verdict::{Invalid, Unknown, Valid};
        assert_eq!(Verdict::combine([Valid, Valid]), Valid);
        assert_eq!(Verdict::combine([Valid, Unknown, Valid]), Unknown);
        assert_eq!(Verdict::combine([Unknown, Invalid, Valid]), Invalid);
        assert_eq!(Verdict::combine([Invalid, Unknown]), Invalid);
        assert_eq!(Verdict::combine([]), Unknown);
    }

    #[test]
    fn too_little_load_is_a_shortcoming_and_a_broken_guarantee_is_none() {
        let check = |name: &str, verdict| Check { name: name.into(), verdict, detail: "".into() };
        let checks = [
            check("linearizable", Verdict::Invalid),
            check("expect.outage_ms_max", Verdict::Unknown),
            check("overlap", Verdict::Valid),
            check("assumptions", Verdict::Valid),
        ];
        assert_eq!(shortcomings(&checks), None);
        let lacking = ["rate", "overlap"].map(|name| check(name, Verdict::Unknown));
        let told = shortcomings(&lacking).expect("two");
        assert!(told.ends_with("see rate, overlap"), "{told}");
    }

    #[test]
    fn complaints_are_counted_beyond_those_named() {
        let mut complaints = Complaints::default();
        assert_eq!(complaints.summary(), None);
        for number in 0..7 {
            complaints.add(|| number.to_string());
        }
        assert_eq!(complaints.summary().as_deref(), Some("0; 1; 2; 3; 4; and 2 more"));
    }
}
