//! Consensus settings: three named profiles, every field checked before use.
//!
//! All of it is part of the group's id: members that disagree are different groups.

use std::{fmt::Debug, time::Duration};

use raft::{LeaseLimits, SessionLimits};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How a group keeps time and how much it takes on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConsensusConfig {
    /// How often an idle leader speaks, and a node that owes its client an answer.
    pub heartbeat_interval: Duration,
    /// An idle bond speaks after a third of `max_missed_heartbeats`, and half to all of this: so
    /// bonds do not march in step, and one that carries a leader's heartbeats needs none.
    pub heartbeat_jitter: Duration,
    /// A bond closes after this many intervals, each with its jitter, without a word from the other
    /// side; a client's link after this many intervals, unless the client waits for an answer and
    /// has heard nothing for `client_silence_max`.
    pub max_missed_heartbeats: u32,
    /// The shortest wait for a leader before a follower stands (Raft §5.2).
    pub election_timeout: Duration,
    /// Up to this much is added at random to each wait.
    pub election_timeout_jitter: Duration,
    /// Added before the first election of a member that has seen no term yet.
    pub bootstrap_delay: Duration,
    /// How long a command may take, from `execute` to its answer, forwarding and retries included.
    pub forward_timeout: Duration,
    /// How long a query may take.
    pub query_timeout: Duration,
    /// Entries sent to one follower and not yet acknowledged.
    pub inflight_entries_max: u32,
    /// Their weight.
    pub inflight_bytes_max: u32,
    /// Weight of the entries in one message.
    pub message_bytes_max: u32,
    /// Largest command, query or answer, encoded.
    pub command_bytes_max: u32,
    /// Entries a leader may have appended and not committed; beyond it admission says `Busy`.
    pub uncommitted_entries_max: u32,
    /// Requests a member may have under way for its clients and itself; beyond it `Busy`.
    pub requests_max: u32,
    /// Weight of the requests that wait for a member, or that a client has under way; beyond it
    /// `Busy`.
    pub requests_bytes_max: u32,
    /// Open client sessions; opening one more closes the one that has been silent longest.
    pub sessions_max: u32,
    /// Unanswered requests of one session.
    pub replies_per_session_max: u32,
    /// A member takes a snapshot once it has applied so many entries since the last one, and lets
    /// go of the log before it. 0: their number is no reason.
    pub snapshot_log_entries: u32,
    /// The same once they weigh so much. 0: their weight is no reason.
    pub snapshot_log_bytes: u32,
    /// Entries that stay in memory behind the snapshot, so that who lags a little needs none.
    pub snapshot_tail_entries: u32,
    /// Leaders answer strong queries without asking the others while they hold a lease (thesis
    /// §6.4.1). Faster, and right only as long as clocks keep to `clock_drift_ppm_max`:
    /// not on hosts that are suspended, whose monotonic clock stands still meanwhile.
    pub lease_reads: bool,
    /// No member's monotonic clock runs faster or slower than true time by more than so many
    /// millionths. Only leases build on it.
    pub clock_drift_ppm_max: u32,
    /// Taken off each lease besides.
    pub lease_margin: Duration,
    /// Voters that a group grows to; who comes later stays a learner until one of them goes.
    /// Founders may be more.
    pub voters_max: u32,
    /// Voters that no eviction leaves fewer of. Who leaves by itself may.
    pub voters_min: u32,
    /// Learners that a group takes in: newcomers that catch up, observers, and those in reserve.
    pub learners_max: u32,
    /// A member that its leader has not heard for so long is removed from the group, as far as
    /// `voters_min` allows. Counted by the leader's monotonic clock, anew by each leader.
    pub evict_after: Duration,
    /// Entries in one chunk, where a member that is far behind fetches them from all others.
    pub batch_size: u32,
    /// Weight of the entries in one chunk; one entry always fits.
    pub batch_bytes_max: u32,
    /// Chunks that such a member asks of each other at a time.
    pub inflight_per_peer_max: u32,
    /// After so long without an answer it asks others.
    pub fetch_timeout: Duration,
    /// Bytes per second that a member fetches so, and that it serves so, each in all.
    pub catch_up_rate_max: u32,
    /// How long a node may keep silent that owes its client an answer, before the client tries
    /// another one. It waits as long for a member that it dials, and as after a dial that failed
    /// for a pause that is drawn; then it dials the next one beside it. For two it waits twice as
    /// long, and no less than a quarter of `handshake_timeout`, before it dials a third.
    pub client_silence_max: Duration,
    /// The longest wait for a connection and its handshake. A client dials others meanwhile.
    pub handshake_timeout: Duration,
    /// The first wait before a lost bond is dialed again; doubles with jitter.
    pub redial_backoff_min: Duration,
    /// The longest such wait.
    pub redial_backoff_max: Duration,
}

/// The named settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConsensusProfile {
    /// One site: the Raft paper's 150 to 300 ms elections (Raft §5.6, §9.3).
    #[default]
    Lan,
    /// The heartbeats and elections of the crate mosaik as it comes, fit for the open internet.
    Wan,
    /// One machine: 5 ms heartbeats, 25 to 50 ms elections.
    Loopback,
}

/// How eager a member is to lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum LeadershipPreference {
    /// Stands for election like any other.
    #[default]
    Normal,
    /// Waits `factor` times as long.
    Reluctant {
        /// At least 1.
        factor: u32,
    },
    /// Never stands.
    Observer,
}

/// A setting that cannot work.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{field} is {value}, but {rule}")]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What is allowed.
    pub rule: String,
}

impl ConsensusProfile {
    /// The settings of the profile.
    pub fn config(self) -> ConsensusConfig {
        let ms = Duration::from_millis;
        let lan = ConsensusConfig {
            heartbeat_interval: ms(50),
            heartbeat_jitter: ms(10),
            max_missed_heartbeats: 20,
            election_timeout: ms(150),
            election_timeout_jitter: ms(150),
            bootstrap_delay: Duration::ZERO,
            forward_timeout: ms(2_000),
            query_timeout: ms(2_000),
            inflight_entries_max: 16_384,
            inflight_bytes_max: 8 << 20,
            message_bytes_max: 256 << 10,
            command_bytes_max: 1 << 20,
            uncommitted_entries_max: 65_536,
            requests_max: 16_384,
            requests_bytes_max: 64 << 20,
            sessions_max: 4_096,
            replies_per_session_max: 4_096,
            snapshot_log_entries: 0,
            snapshot_log_bytes: 64 << 20,
            snapshot_tail_entries: 16_384,
            lease_reads: false,
            clock_drift_ppm_max: 100_000,
            lease_margin: ms(5),
            voters_max: 5,
            voters_min: 3,
            learners_max: 8,
            evict_after: Duration::from_secs(300),
            batch_size: 2_000,
            batch_bytes_max: 512 << 10,
            inflight_per_peer_max: 4,
            fetch_timeout: ms(1_000),
            catch_up_rate_max: u32::MAX,
            client_silence_max: ms(150),
            handshake_timeout: ms(1_000),
            redial_backoff_min: ms(20),
            redial_backoff_max: ms(500),
        };
        match self {
            Self::Lan => lan,
            Self::Wan => ConsensusConfig {
                heartbeat_interval: ms(500),
                heartbeat_jitter: ms(150),
                max_missed_heartbeats: 10,
                election_timeout: ms(2_000),
                election_timeout_jitter: ms(500),
                bootstrap_delay: ms(3_000),
                lease_margin: ms(50),
                fetch_timeout: ms(5_000),
                client_silence_max: ms(2_000),
                handshake_timeout: ms(5_000),
                redial_backoff_min: ms(100),
                redial_backoff_max: ms(5_000),
                ..lan
            },
            Self::Loopback => ConsensusConfig {
                heartbeat_interval: ms(5),
                heartbeat_jitter: ms(1),
                max_missed_heartbeats: 100,
                election_timeout: ms(25),
                election_timeout_jitter: ms(25),
                lease_margin: ms(1),
                client_silence_max: ms(30),
                redial_backoff_min: ms(5),
                redial_backoff_max: ms(100),
                ..lan
            },
        }
    }
}

impl Default for ConsensusConfig {
    fn default() -> Self {
        ConsensusProfile::default().config()
    }
}

impl ConsensusConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that cannot work, its value and what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_times()?;
        self.validate_limits()
    }

    /// Whether a log of so many entries, of that weight, is to be replaced by a snapshot.
    pub(crate) fn wants_snapshot(&self, entries: u64, bytes: u64) -> bool {
        let reached = |size: u64, limit: u32| limit > 0 && size >= u64::from(limit);
        reached(entries, self.snapshot_log_entries) || reached(bytes, self.snapshot_log_bytes)
    }

    /// The bounds of the session table.
    pub(crate) fn session_limits(&self) -> SessionLimits {
        SessionLimits {
            sessions_max: self.sessions_max as usize,
            replies_per_session_max: self.replies_per_session_max as usize,
        }
    }

    /// The bounds of leases, where there are any.
    pub fn lease_limits(&self) -> Option<LeaseLimits> {
        let (drift_ppm_max, margin) = (self.clock_drift_ppm_max, self.lease_margin);
        self.lease_reads.then_some(LeaseLimits { drift_ppm_max, margin })
    }

    /// How long who has nothing to say may keep silent: a third of what the other side bears by
    /// `max_missed_heartbeats`, or one interval where that is more.
    pub(crate) fn ping_interval(&self) -> Duration {
        self.heartbeat_interval * (self.max_missed_heartbeats / PINGS_WHILE_SILENT).max(1)
    }

    /// How long a node and a client that waits for nothing bear each other's silence.
    pub(crate) fn silence_max(&self) -> Duration {
        self.heartbeat_interval * self.max_missed_heartbeats
    }

    /// The longest wait for a leader.
    pub(crate) fn election_timeout_max(&self) -> Duration {
        self.election_timeout + self.election_timeout_jitter
    }

    /// How long a member that leaves waits to be told that it has: as long as any command, and
    /// while the lead is handed over and, if that goes wrong, another leader is found.
    pub(crate) fn leave_timeout(&self) -> Duration {
        self.forward_timeout + 2 * self.election_timeout_max()
    }

    /// The largest frame between members, and between a client and its node: one message of the
    /// core, or one chunk, whose last entry may go beyond its weight by a whole command.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        // An entry that says little may take a little more than it weighs.
        let batch = self.batch_bytes_max + self.batch_bytes_max / 4;
        self.message_bytes_max.max(batch) as usize + self.command_bytes_max as usize + (64 << 10)
    }

    /// The hash of everything members must agree on.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let encoded = postcard::to_stdvec(self).expect("plain numbers always encode");
        *blake3::hash(&encoded).as_bytes()
    }

    fn validate_times(&self) -> Result<(), ConfigError> {
        let (ms, hour) = (Duration::from_millis(1), Duration::from_secs(3_600));
        let (heartbeat, election) = (self.heartbeat_interval, self.election_timeout);
        // Half an hour, so that what must last for two heartbeats has room within the hour.
        within("heartbeat_interval", heartbeat, ms, hour / 2)?;
        let jitter = self.heartbeat_jitter;
        check("heartbeat_jitter", &jitter, jitter < heartbeat, || {
            format!("must be shorter than heartbeat_interval, {heartbeat:?}")
        })?;
        let two_heartbeats = Bound { value: 2 * heartbeat, of: " (two of heartbeat_interval)" };
        within("election_timeout", election, two_heartbeats, hour)?;
        within("election_timeout_jitter", self.election_timeout_jitter, ms, hour)?;
        within("bootstrap_delay", self.bootstrap_delay, Duration::ZERO, hour)?;
        let one_election = Bound { value: election, of: " (election_timeout)" };
        self.validate_lease()?;
        within("forward_timeout", self.forward_timeout, one_election, hour)?;
        within("query_timeout", self.query_timeout, one_election, hour)?;
        within("client_silence_max", self.client_silence_max, two_heartbeats, hour)?;
        within("handshake_timeout", self.handshake_timeout, 10 * ms, hour)?;
        // Time for a new leader to be found and to hear everyone, twice over.
        let elections = Bound {
            value: 4 * self.election_timeout_max(),
            of: " (four of election_timeout + election_timeout_jitter)",
        };
        within("evict_after", self.evict_after, elections, 30 * 24 * hour)?;
        within("fetch_timeout", self.fetch_timeout, 10 * ms, hour)?;
        // The longest first, since the shortest is held against it.
        within("redial_backoff_max", self.redial_backoff_max, ms, hour)?;
        let longest = Bound { value: self.redial_backoff_max, of: " (redial_backoff_max)" };
        within("redial_backoff_min", self.redial_backoff_min, ms, longest)
    }

    /// Something must be left of a lease.
    fn validate_lease(&self) -> Result<(), ConfigError> {
        let hour = Duration::from_secs(3_600);
        within("clock_drift_ppm_max", self.clock_drift_ppm_max, 0, 500_000)?;
        within("lease_margin", self.lease_margin, Duration::ZERO, hour)?;
        let (margin, election) = (self.lease_margin, self.election_timeout);
        let lease = self.lease_limits().map(|limits| limits.length(election));
        check("lease_margin", &margin, lease.is_none_or(|lease| !lease.is_zero()), || {
            format!(
                "with lease_reads something must be left of election_timeout, {election:?}, less \
                 what two clocks may drift apart in it by clock_drift_ppm_max, {}",
                self.clock_drift_ppm_max
            )
        })
    }

    fn validate_limits(&self) -> Result<(), ConfigError> {
        within("max_missed_heartbeats", self.max_missed_heartbeats, 2, 10_000)?;
        within("inflight_entries_max", self.inflight_entries_max, 1, 1 << 24)?;
        within("inflight_bytes_max", self.inflight_bytes_max, 1 << 10, 1 << 30)?;
        within("message_bytes_max", self.message_bytes_max, 1 << 10, 64 << 20)?;
        within("command_bytes_max", self.command_bytes_max, 64, 64 << 20)?;
        within("uncommitted_entries_max", self.uncommitted_entries_max, 1, 1 << 24)?;
        within("requests_max", self.requests_max, 1, 1 << 20)?;
        let one_command = Bound { value: self.command_bytes_max, of: " (command_bytes_max)" };
        within("requests_bytes_max", self.requests_bytes_max, one_command, 1 << 30)?;
        within("sessions_max", self.sessions_max, 1, 1 << 20)?;
        within("replies_per_session_max", self.replies_per_session_max, 1, 1 << 20)?;
        within("snapshot_log_entries", self.snapshot_log_entries, 0, 1 << 30)?;
        within("snapshot_log_bytes", self.snapshot_log_bytes, 0, 1 << 30)?;
        within("snapshot_tail_entries", self.snapshot_tail_entries, 0, 1 << 24)?;
        within("voters_min", self.voters_min, 2, VOTERS_LIMIT)?;
        let fewest = Bound { value: self.voters_min, of: " (voters_min)" };
        within("voters_max", self.voters_max, fewest, VOTERS_LIMIT)?;
        within("learners_max", self.learners_max, 0, LEARNERS_LIMIT)?;
        within("batch_size", self.batch_size, 1, 1 << 20)?;
        within("batch_bytes_max", self.batch_bytes_max, 1 << 10, 16 << 20)?;
        within("inflight_per_peer_max", self.inflight_per_peer_max, 1, 64)?;
        within("catch_up_rate_max", self.catch_up_rate_max, 64 << 10, u32::MAX)
    }
}

/// So often who is idle says that it is there, before it would be taken for gone; fewer times where
/// `max_missed_heartbeats` is below this.
const PINGS_WHILE_SILENT: u32 = 3;
/// As many as a majority can be counted for without a thought for the cost of each commit.
pub(crate) const VOTERS_LIMIT: u32 = 9;
/// As many as a leader can send its log to beside its voters.
const LEARNERS_LIMIT: u32 = 64;

/// A bound of a setting, and the other setting that it follows from, if one.
#[derive(Clone, Copy)]
struct Bound<T> {
    value: T,
    of: &'static str,
}

impl<T> From<T> for Bound<T> {
    fn from(value: T) -> Self {
        Self { value, of: "" }
    }
}

fn within<T: Copy + Debug + PartialOrd>(
    field: &'static str,
    value: T,
    min: impl Into<Bound<T>>,
    max: impl Into<Bound<T>>,
) -> Result<(), ConfigError> {
    let (min, max) = (min.into(), max.into());
    check(field, &value, min.value <= value && value <= max.value, || {
        format!("must lie between {:?}{} and {:?}{}", min.value, min.of, max.value, max.of)
    })
}

fn check(
    field: &'static str,
    value: &dyn Debug,
    holds: bool,
    rule: impl FnOnce() -> String,
) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError { field, value: format!("{value:?}"), rule: rule() })
    }
}
