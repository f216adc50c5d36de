//! What happened to the cluster while the history came to be: load, faults, elections, stalls.
//!
//! Plain data, as numbers: a checker may read it, and it can be put together again from a run's
//! files. All times count from the beginning of the run.

/// The course of a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Course {
    /// From the rate being reached to the end of the load; `None` if it never was reached.
    pub load_ns: Option<(u64, u64)>,
    /// Operations that were due each second.
    pub rate_per_s: u64,
    /// So many are due at the same instant.
    pub burst: u64,
    /// Whether each client asks one node alone, whatever becomes of it: of `n` nodes client `c` the
    /// one in place `c mod n`.
    pub pinned: bool,
    /// Within this a new leader is elected: everyone has waited the longest, campaigned, and
    /// waited once more for a split vote.
    pub election_ns_max: u64,
    /// Within this clients are served by a group that is able to: an election, a link that is
    /// dialled again with the longest pause before it, and a client that notices.
    pub service_ns_max: u64,
    /// The longest wait for a connection and its handshake, which is part of that.
    pub handshake_ns_max: u64,
    /// In order of time.
    pub faults: Vec<Struck>,
    /// In order of time.
    pub elections: Vec<Elected>,
    /// In order of their beginning.
    pub stalls: Vec<Stalled>,
    /// Whether all that happened is here. A node that talks without end fills the record.
    pub is_complete: bool,
}

/// A fault that was carried out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Struck {
    /// What: any fault's word.
    pub what: String,
    /// The node that was hit.
    pub node: u64,
    /// Nodes that do not run meanwhile.
    pub down: Vec<u64>,
    /// Links that carry nothing meanwhile: from, to.
    pub cut: Vec<(u64, u64)>,
    /// Whether datagrams are lost, late or changed on links that are not cut, the cuts come and
    /// go, or a clock runs at another pace.
    pub hurts: bool,
    /// When it struck.
    pub from_ns: u64,
    /// When it was over; `None` if it never was.
    pub returned_ns: Option<u64>,
    /// When those it had taken away had caught up.
    pub rejoined_ns: Option<u64>,
    /// When those it had taken away counted again in a majority: once it was over, unless they
    /// were members no longer by then.
    pub counted_ns: Option<u64>,
}

/// A node was elected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elected {
    /// When it knew.
    pub at_ns: u64,
    /// The node.
    pub node: u64,
    /// Its term.
    pub term: u64,
}

/// The host kept a node from running for 20 ms or more. One that was paused notes it as well, but
/// in virtual time, where there is no host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stalled {
    /// The node.
    pub node: u64,
    /// Since when it should have run.
    pub from_ns: u64,
    /// When it did.
    pub until_ns: u64,
}

impl Struck {
    /// Whether a majority must be found then without those it takes away.
    pub fn lasts(&self, at_ns: u64) -> bool {
        self.from_ns <= at_ns && self.counted_ns.is_none_or(|counted_ns| at_ns < counted_ns)
    }

    /// Whether it is on then.
    pub fn is_on(&self, at_ns: u64) -> bool {
        self.from_ns <= at_ns && self.returned_ns.is_none_or(|returned_ns| at_ns < returned_ns)
    }

    /// Whether it keeps the node from most others while it is on, in one direction at least.
    pub fn takes_away(&self, node: u64, nodes: &[u64]) -> bool {
        let lost =
            |other: &u64| self.cut.contains(&(node, *other)) || self.cut.contains(&(*other, node));
        let left = nodes.iter().filter(|other| !lost(other)).count();
        self.down.contains(&node) || 2 * left <= nodes.len()
    }

    /// Whether its cuts leave groups of nodes each of which reaches all of its own and none of
    /// the others. Where they do not, nodes disagree for as long as it lasts on who is there.
    pub fn is_clean(&self, nodes: &[u64]) -> bool {
        let is_cut = |from: u64, to: u64| self.cut.contains(&(from, to));
        let agree = |a: u64, b: u64| {
            is_cut(a, b) == is_cut(b, a)
                && (is_cut(a, b)
                    || nodes.iter().all(|other| is_cut(a, *other) == is_cut(b, *other)))
        };
        nodes.iter().all(|a| nodes.iter().all(|b| agree(*a, *b)))
    }
}
