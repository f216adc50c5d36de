//! A chunk's way by itself, without a network and a disk: encoded from the log of who serves it,
//! marked as its leader does, held against that mark by who lacks it, decoded, and taken by the
//! core of that member.
//!
//! The leader encodes a chunk too, to vouch for it: that is the same work once more, and is not
//! timed. The frame around a chunk is a few bytes, and copies none of it.

use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use raft::{
    Config, Configuration, Effect, Entry, HardState, Index, Input, Log, Message, NodeId, Payload,
    Position, Raft, RequestId, Restored, SessionId, SessionLimits, Snapshot, Term, Time,
};

#[path = "../src/encoded.rs"]
#[allow(dead_code, unused_imports)] // what stores and tests alone use
mod encoded;
// The names under which these files know each other.
#[path = "../src/group"]
#[allow(dead_code, unused_imports)] // all else that members say about chunks, and tests
mod group {
    pub(crate) mod replay {
        pub(crate) mod chunk;
        pub(crate) mod frame;
        mod packed;
    }
}

use group::replay::{chunk, frame::Mark};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for bytes in [64, 1_024] {
        let mut benches = criterion.benchmark_group(format!("chunk/{bytes}"));
        for entries in [500, 2_000, 10_000] {
            let log = log(entries, bytes);
            let length = chunk_of(&log, 0).len();
            let elements_and_bytes =
                Throughput::ElementsAndBytes { elements: entries, bytes: entries * bytes };
            benches.throughput(elements_and_bytes);
            benches.bench_function(BenchmarkId::from_parameter(entries), |bencher| {
                let way = |core| way(&log, length, core);
                bencher.iter_batched(lacking, way, BatchSize::PerIteration);
            });
        }
        benches.finish();
    }
    criterion.final_summary();
}

/// From one member's log to the core of another; yields what that wants done. Both are dropped
/// where no time is taken.
fn way(log: &Log, length: usize, mut core: Raft) -> (Raft, Vec<Effect>) {
    let (prev, last) = (log.start(), log.last());
    let entries = chunk_of(log, length);
    let bytes = u32::try_from(entries.len()).expect("a chunk is no longer than 16 MiB");
    let mark = Mark { last, bytes, digest: chunk::digest(prev, &entries) };

    let is_true =
        entries.len() == mark.bytes as usize && chunk::digest(prev, &entries) == mark.digest;
    assert!(is_true, "it is what was vouched for");
    let entries = chunk::decode(prev, mark.last, &entries).expect("it was encoded just now");
    let mut effects = Vec::new();
    let fetched = Input::Fetched { leader: LEADER, term: TERM, prev, entries };
    core.step(Time::default(), fetched, &mut effects);
    assert_eq!(core.commit(), last.index, "all of it is taken");
    (core, effects)
}

/// All of the log as one chunk, in a buffer as long as the last one was.
fn chunk_of(log: &Log, length: usize) -> Bytes {
    let mut encoded = Vec::with_capacity(length);
    let range = log.start().index.next()..=log.last().index;
    let last = chunk::encode(log.walk(range, usize::MAX), &mut encoded);
    assert_eq!(last, Some(log.last()));
    encoded.into()
}

/// A log of so many commands, which came one by one.
fn log(entries: u64, bytes: u64) -> Log {
    let mut log = Log::new(Position::default());
    for index in (1..=entries).map(Index) {
        let request = RequestId { session: SessionId(Index(1)), sequence: index.0 };
        let command = Bytes::from(vec![7; bytes as usize]);
        let payload = Payload::Command { request, floor: 1, command };
        log.append(Entry { position: Position { term: TERM, index }, payload });
    }
    log
}

/// A follower that has nothing, and knows its leader.
fn lacking() -> Raft {
    let configuration = Configuration::of((1..=3).map(NodeId::small));
    let snapshot = Snapshot { position: Position::default(), configuration };
    let (hard_state, entries) = (HardState::default(), Vec::new());
    let restored = Restored { hard_state, snapshot, sessions: None, entries };
    let mut core = Raft::new(config(), restored, Time::default()).expect("sound");
    let message = Message::Heartbeat { term: TERM, round: 1, commit: Index(0) };
    core.step(Time::default(), Input::Message { from: LEADER, message }, &mut Vec::new());
    assert_eq!(core.leader(), Some(LEADER));
    core
}

fn config() -> Config {
    Config {
        id: NodeId::small(2),
        election_timeout_min: Duration::from_millis(150),
        election_timeout_max: Duration::from_millis(300),
        heartbeat_interval: Duration::from_millis(50),
        inflight_entries_max: 16_384,
        inflight_bytes_max: 16 << 20,
        message_bytes_max: 256 << 10,
        uncommitted_entries_max: 65_536,
        unapplied_bytes_max: 64 << 20,
        reads_max: 64,
        sessions: SessionLimits { sessions_max: 64, replies_per_session_max: 4_096 },
        lease: None,
        reluctance: 1,
        observer: false,
        seed: 7,
    }
}

const LEADER: NodeId = NodeId::small(1);
const TERM: Term = Term(1);
