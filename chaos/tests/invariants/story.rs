//! What the stories of invariants are made of: servers, entries, and two ways to end.
//!
//! A server is started from a log that no correct group need have; its view claims what the
//! story wants.

use std::time::Duration;

use bytes::Bytes;
use chaos::invariant::{Application, Cause, Lease, Server, View, Violation};
use raft::{
    Config, Configuration, Entry, HardState, Index, NodeId, Payload, Position, Raft, RequestId,
    Restored, Role, SessionId, SessionLimits, Snapshot, Term, Time,
};

/// A server as a story wants it.
pub(crate) struct Story {
    pub(crate) raft: Raft,
    pub(crate) server: Server,
    pub(crate) incarnation: u64,
    pub(crate) role: Role,
    pub(crate) leader: Option<NodeId>,
    pub(crate) state: HardState,
    pub(crate) commit: Index,
    pub(crate) applied: Index,
    pub(crate) cause: Cause,
    pub(crate) now: Time,
    pub(crate) lease: Option<Time>,
}

impl Story {
    /// Server `number` of a group founded by 1 to 4, with this log.
    pub(crate) fn of(number: u8, entries: &[Entry]) -> Self {
        let term = entries.last().map_or(Term(1), |entry| entry.position.term);
        let state = HardState { term, vote: None };
        let founders = Configuration::of((1..=4).map(NodeId::small));
        let restored = Restored {
            hard_state: state,
            snapshot: Snapshot { position: Position::default(), configuration: founders },
            sessions: None,
            entries: entries.to_vec(),
        };
        let raft = Raft::new(config(number), restored, Time::default());
        Self {
            raft: raft.expect("the log is consistent in itself"),
            server: Server(usize::from(number)),
            incarnation: 1,
            role: Role::Follower,
            leader: None,
            state,
            commit: Index(0),
            applied: Index(0),
            cause: Cause::Other,
            now: Time::default(),
            lease: None,
        }
    }

    fn elected(&self) -> Option<NodeId> {
        if self.role == Role::Leader { Some(self.raft.id()) } else { self.state.vote }
    }

    pub(crate) fn view(&self, written: Option<Index>) -> View<'_> {
        View {
            server: self.server,
            node: self.raft.id(),
            incarnation: self.incarnation,
            role: self.role,
            leader: self.leader,
            hard_state: self.state,
            commit: self.commit,
            led_commit: None,
            applied: self.applied,
            log: self.raft.log(),
            configuration: self.raft.configuration(),
            // A leader has voted for itself, and its disk knows.
            durable_state: HardState { vote: self.elected(), ..self.state },
            durable: self.raft.last(),
            written,
            cause: self.cause,
            now: self.now,
            lease: Lease { now: self.now, until: self.lease },
            election_timeout_min: ELECTION_TIMEOUT_MIN,
            election_timeout_max: ELECTION_TIMEOUT_MAX,
        }
    }
}

fn config(number: u8) -> Config {
    Config {
        id: NodeId::small(number),
        election_timeout_min: ELECTION_TIMEOUT_MIN,
        election_timeout_max: ELECTION_TIMEOUT_MAX,
        heartbeat_interval: Duration::from_millis(30),
        inflight_entries_max: 16,
        inflight_bytes_max: 1 << 16,
        message_bytes_max: 1 << 16,
        uncommitted_entries_max: 64,
        unapplied_bytes_max: 1 << 20,
        reads_max: 16,
        sessions: SessionLimits { sessions_max: 8, replies_per_session_max: 8 },
        lease: None,
        reluctance: 1,
        observer: false,
        seed: 1,
    }
}

/// Server `number` has applied the entry of term 1 at this index.
pub(crate) fn applied(
    number: u8,
    index: u64,
    effective: Option<RequestId>,
    state: u64,
) -> Application {
    let (server, node) = (Server(usize::from(number)), NodeId::small(number));
    Application { server, node, position: at(1, index), effective, state }
}

pub(crate) fn at(term: u64, index: u64) -> Position {
    Position { term: Term(term), index: Index(index) }
}

pub(crate) fn noop(term: u64, index: u64) -> Entry {
    Entry { position: at(term, index), payload: Payload::Noop }
}

pub(crate) fn command(term: u64, index: u64, sequence: u64) -> Entry {
    let command = Bytes::from_static(b"x");
    let payload = Payload::Command { request: request(sequence), floor: 1, command };
    Entry { position: at(term, index), payload }
}

pub(crate) fn request(sequence: u64) -> RequestId {
    RequestId { session: SessionId(Index(1)), sequence }
}

#[track_caller]
pub(crate) fn holds(checked: Result<(), Violation>) {
    if let Err(violation) = checked {
        panic!("{violation}");
    }
}

#[track_caller]
pub(crate) fn breaks(invariant: &str, checked: Result<(), Violation>) {
    let violation = checked.expect_err("the state breaks an invariant");
    assert_eq!(violation.invariant, invariant, "{violation}");
}

/// As all servers of the stories are configured.
pub(crate) const ELECTION_TIMEOUT_MIN: Duration = Duration::from_millis(150);
/// The same.
pub(crate) const ELECTION_TIMEOUT_MAX: Duration = Duration::from_millis(300);
