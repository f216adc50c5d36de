//! One operation as a run hands it over, and as the recorder keeps it: plain data.
//!
//! Invariant: a latency that is kept lies between 1 us and [`LATENCY_US_MAX`], or is
//! [`Point::OPEN`].

/// What an operation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A strong read.
    Read,
    /// A write.
    Write,
    /// A compare-and-set.
    Cas,
}

impl Kind {
    /// All kinds, in the order of the files.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Cas];

    /// The word used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Cas => "cas",
        }
    }
}

/// What a client may believe about its operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It took effect.
    Ok,
    /// It did not and will not.
    Fail,
    /// It may or may not.
    Unknown,
}

/// Clients from here on are no part of a load: they look at what registers hold once it is over.
/// They are counted, and in no figure.
pub const OBSERVERS_FROM: u64 = 1 << 32;

/// One operation, in nanoseconds since the start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When it was due.
    pub intended_ns: u64,
    /// When it was answered or given up; `None` if it was still open at the end.
    pub completed_ns: Option<u64>,
    /// What it did.
    pub kind: Kind,
    /// How it ended; an open one is [`Outcome::Unknown`].
    pub outcome: Outcome,
    /// Who asked; see [`OBSERVERS_FROM`].
    pub client: u64,
    /// The operation's number in the history.
    pub id: u64,
    /// The register.
    pub key: u64,
    /// The node that answered, if one did.
    pub node: Option<u64>,
}

impl Sample {
    /// From when it was due until it was answered; `None` if it never was.
    pub(crate) fn latency_ns(&self) -> Option<u64> {
        Some(self.completed_ns?.saturating_sub(self.intended_ns))
    }
}

/// One operation as the recorder keeps it: sixteen bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// When it was due, since the start of the run.
    pub intended_ns: u64,
    /// How long it took, 1 us to 120 s; [`Point::OPEN`] if it never ended.
    pub latency_us: u32,
    /// What it did.
    pub kind: Kind,
    /// How it ended.
    pub outcome: Outcome,
}

impl Point {
    /// Latency of an operation that was still open at the end.
    pub const OPEN: u32 = u32::MAX;
}

pub(crate) const LATENCY_US_MAX: u32 = 120_000_000;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A write of client 1 on register 3.
    pub(crate) fn sample(intended_ns: u64, completed_ns: Option<u64>, outcome: Outcome) -> Sample {
        let (kind, node) = (Kind::Write, completed_ns.map(|_| 2));
        Sample { intended_ns, completed_ns, kind, outcome, client: 1, id: 9, key: 3, node }
    }
}
