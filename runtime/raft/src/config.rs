//! How one server behaves, and what it finds on its disk.
//!
//! Plain data and its validation. Invariant: a server is only built from a configuration and a
//! store that pass here, so nothing behind this door looks at them with suspicion again.

use std::{fmt, time::Duration};

use crate::{
    Entry, HardState, Index, LeaseLimits, NodeId, SessionLimits, Sessions, Snapshot,
    message::are_consecutive,
};

/// How one server behaves. Members must agree on `sessions`, and on `lease` with the
/// `election_timeout_min` that it is cut from.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Who this server is.
    pub id: NodeId,
    /// Election timeouts are drawn from `[min, max)` anew for each wait (Raft §5.2).
    pub election_timeout_min: Duration,
    /// See `election_timeout_min`.
    pub election_timeout_max: Duration,
    /// How often an idle leader speaks.
    pub heartbeat_interval: Duration,
    /// Entries sent to one follower and not yet acknowledged.
    pub inflight_entries_max: u64,
    /// Their weight in bytes; one entry may go beyond it.
    pub inflight_bytes_max: usize,
    /// Weight of one append; at least one entry always fits.
    pub message_bytes_max: usize,
    /// Entries appended by a leader and not yet committed; beyond it proposals are refused.
    pub uncommitted_entries_max: u64,
    /// Weight of entries in a leader's log that are not applied; from there on proposals are
    /// refused.
    pub unapplied_bytes_max: usize,
    /// Reads that wait for a round; beyond it reads are refused.
    pub reads_max: usize,
    /// Bounds of the session table.
    pub sessions: SessionLimits,
    /// Answers reads without a round while a lease lasts (thesis §6.4.1); off where absent.
    pub lease: Option<LeaseLimits>,
    /// Multiplies election timeouts: 1 is normal, more is reluctant.
    pub reluctance: u32,
    /// Never campaigns.
    pub observer: bool,
    /// Where its randomness comes from. Servers with equal seeds still draw differently.
    pub seed: u64,
}

/// What a server finds on its disk when it starts.
#[derive(Clone, PartialEq, Debug)]
pub struct Restored {
    /// Term and vote.
    pub hard_state: HardState,
    /// What the log starts after: position 0.0 and the founding configuration for a new group.
    pub snapshot: Snapshot,
    /// The session table at the snapshot; `None` where no session was open yet.
    pub sessions: Option<Sessions<Index>>,
    /// The log after the snapshot.
    pub entries: Vec<Entry>,
}

/// What was restored contradicts itself or the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inconsistent(pub String);

impl fmt::Display for Inconsistent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Inconsistent {}

impl Config {
    pub(crate) fn check(&self) -> Result<(), Inconsistent> {
        let Self { election_timeout_min: min, election_timeout_max: max, .. } = *self;
        let beat = self.heartbeat_interval;
        require(min < max, || {
            format!("election_timeout_min {min:?} must be below election_timeout_max {max:?}")
        })?;
        require(!beat.is_zero() && beat < min, || {
            format!("heartbeat_interval {beat:?} must be above zero and below {min:?}")
        })?;
        let lease = self.lease.map(|lease| lease.length(min));
        require(lease.is_none_or(|lease| !lease.is_zero()), || {
            format!("lease leaves nothing of election_timeout_min {min:?}")
        })?;
        let limits = [
            ("inflight_entries_max", self.inflight_entries_max == 0),
            ("inflight_bytes_max", self.inflight_bytes_max == 0),
            ("message_bytes_max", self.message_bytes_max == 0),
            ("uncommitted_entries_max", self.uncommitted_entries_max == 0),
            ("unapplied_bytes_max", self.unapplied_bytes_max == 0),
            ("reads_max", self.reads_max == 0),
            ("sessions_max", self.sessions.sessions_max == 0),
            ("replies_per_session_max", self.sessions.replies_per_session_max == 0),
            ("reluctance", self.reluctance == 0),
        ];
        let zero = limits.into_iter().find(|(_, is_zero)| *is_zero);
        zero.map_or(Ok(()), |(name, _)| Err(Inconsistent(format!("{name} must be at least 1"))))
    }
}

impl Restored {
    pub(crate) fn check(&self, config: &Config) -> Result<(), Inconsistent> {
        let Self { hard_state, snapshot, sessions, entries } = self;
        let (term, start) = (hard_state.term, snapshot.position);
        require(start.is_sound(term), || {
            format!("snapshot at {start} cannot stand in a store whose term is {term}")
        })?;
        // A server that waits to be added to a group has nobody in its configuration yet.
        require(snapshot.configuration.is_empty() || snapshot.configuration.is_sound(), || {
            format!("configuration of the snapshot at {start} has no voters or a peer twice")
        })?;
        require(are_consecutive(start, entries[..].into(), term), || {
            format!("entries after {start} leave a gap, fall in term, or pass term {term}")
        })?;
        let limits = sessions.as_ref().map_or(config.sessions, Sessions::limits);
        require(limits == config.sessions, || {
            format!("session table keeps to {limits:?}, configured are {:?}", config.sessions)
        })
    }
}

fn require(fact: bool, otherwise: impl FnOnce() -> String) -> Result<(), Inconsistent> {
    if fact { Ok(()) } else { Err(Inconsistent(otherwise())) }
}
