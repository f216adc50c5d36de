//! Numbers with types: who, which term, where in the log, when.
//!
//! Knows no role and no message. Invariant: positions order by term, then index, which is the
//! paper's "up-to-date" comparison (Raft §5.4.1).

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// The public key of a node, as its connection proved it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId(pub [u8; 32]);

/// The identity of one store, drawn when the store is created.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct StoreId(pub u128);

/// A server in the sense of the paper: a peer together with the store it remembers with.
///
/// The same peer with another store has forgotten what it promised, so it is another server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId {
    /// Who speaks.
    pub peer: PeerId,
    /// What it remembers with.
    pub store: StoreId,
}

impl NodeId {
    /// The node of a script or a model: peer and store are both `number`.
    pub const fn small(number: u8) -> Self {
        let mut peer = [0; 32];
        peer[31] = number;
        Self { peer: PeerId(peer), store: StoreId(number as u128) }
    }
}

/// A term: a logical clock with at most one leader each (Raft §5.1).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Term(pub u64);

impl Term {
    /// The term after this one.
    ///
    /// Saturates: a peer that claims the last term of all must not wrap our clock round.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A place in the log. The first entry stands at 1; 0 is "before the log".
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Index(pub u64);

impl Index {
    /// The index after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The index before this one; 0 stays 0.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The index `count` places further on.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// How many entries lie in `(earlier, self]`; 0 when `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A term and an index: names one entry in all of history (log matching, Raft §5.3).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Position {
    /// The term in which the entry was created.
    pub term: Term,
    /// Where it stands.
    pub index: Index,
}

impl Position {
    /// Whether an entry could stand here by term `last`: 0.0 is the only place in term 0.
    pub(crate) fn is_sound(self, last: Term) -> bool {
        (self.term == Term(0)) == (self.index == Index(0)) && self.term <= last
    }
}

/// A moment of the monotonic clock, counted from an origin of the caller's choice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub Duration);

impl Time {
    /// The moment `later` after this one.
    #[must_use]
    pub const fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }

    /// How long after `earlier` this moment is; zero when it is not after.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The nodes of scripts and models carry their number in the last byte.
        if self.0[..31].iter().all(|byte| *byte == 0) {
            return write!(f, "{}", self.0[31]);
        }
        self.0[..5].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.peer, self.store)
    }
}
