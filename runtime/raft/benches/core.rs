//! The core alone: three servers in one thread commit commands, without disk, network or clock.
//!
//! Writes are durable at once, messages arrive in the order they were sent, and time stands
//! still. An entry's whole way is in it: proposed, appended by three, acknowledged, committed.
//! So is letting go of the log, which would grow without end.

use std::{collections::VecDeque, hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use raft::{
    Barrier, Config, Configuration, Effect, HardState, Input, Message, NodeId, Position, Proposal,
    ProposalId, Raft, RequestId, Restored, Role, SessionId, SessionLimits, Snapshot, Time,
};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("core/commit");
    for commands in [1, 100, 1_000] {
        let mut trio = Trio::led();
        group.throughput(Throughput::Elements(commands));
        group.bench_function(BenchmarkId::from_parameter(commands), |bencher| {
            bencher.iter(|| trio.commit(commands));
        });
    }
    group.finish();
    criterion.final_summary();
}

/// Three servers, and what is on its way between them.
struct Trio {
    servers: [Server; 3],
    mail: VecDeque<(NodeId, NodeId, Message)>,
    effects: Vec<Effect>,
    now: Time,
    session: SessionId,
    /// Requests so far.
    sequence: u64,
    command: Bytes,
}

struct Server {
    core: Raft,
    barrier: Barrier,
}

impl Trio {
    /// The first of them leads, and a session is open.
    fn led() -> Self {
        let voters = Configuration::of((1..=3).map(NodeId::small));
        let server = |number| {
            let snapshot =
                Snapshot { position: Position::default(), configuration: voters.clone() };
            let (hard_state, entries) = (HardState::default(), Vec::new());
            let restored = Restored { hard_state, snapshot, sessions: None, entries };
            let core = Raft::new(config(number), restored, Time::default());
            Server { core: core.expect("sound"), barrier: Barrier::default() }
        };
        let mut trio = Self {
            servers: [1, 2, 3].map(server),
            mail: VecDeque::new(),
            effects: Vec::new(),
            now: Time::default(),
            session: SessionId::default(),
            sequence: 0,
            command: Bytes::from_static(&[7; 64]),
        };
        trio.now = trio.leader().deadline();
        trio.input(LEADER, Input::Timeout);
        trio.settle();
        assert_eq!(trio.leader().role(), Role::Leader);
        trio.propose(Proposal::OpenSession { nonce: 1 });
        trio.settle();
        trio.session = SessionId(trio.leader().commit());
        trio
    }

    /// So many commands, all proposed before the first is acknowledged.
    fn commit(&mut self, commands: u64) {
        let floor = self.sequence + 1;
        for _ in 0..commands {
            self.sequence += 1;
            let request = RequestId { session: self.session, sequence: self.sequence };
            self.propose(Proposal::Command { request, floor, command: self.command.clone() });
        }
        self.settle();
        assert_eq!(self.leader().commit(), self.leader().last().index);
        if self.leader().commit().0 - self.leader().log().start().index.0 >= LOG_ENTRIES_MAX {
            self.compact();
        }
    }

    fn propose(&mut self, proposal: Proposal) {
        self.input(LEADER, Input::Propose { id: ProposalId(self.sequence), proposal });
    }

    /// Delivers everything, and what follows from it.
    fn settle(&mut self) {
        while let Some((from, to, message)) = self.mail.pop_front() {
            self.input(to, Input::Message { from, message });
        }
    }

    /// One input of one server; its writes are durable right away.
    fn input(&mut self, to: NodeId, input: Input) {
        let Self { servers, mail, effects, now, .. } = self;
        let Server { core, barrier } = &mut servers[seat(to)];
        let mut next = Some(input);
        while let Some(input) = next.take() {
            core.step(*now, input, effects);
            let mut written = None;
            for effect in effects.drain(..) {
                match effect {
                    Effect::Persist { id, write } => {
                        black_box(write);
                        barrier.submitted(id);
                        written = Some(id);
                    }
                    Effect::Send { to: receiver, message } => {
                        let passed = barrier.pass(receiver, message);
                        mail.extend(passed.map(|(receiver, message)| (to, receiver, message)));
                    }
                    Effect::Halt(halt) => panic!("server {to} stopped: {halt:?}"),
                    other => drop(black_box(other)),
                }
            }
            if let Some(id) = written {
                let ready = barrier.persisted(id);
                mail.extend(ready.map(|(receiver, message)| (to, receiver, message)));
                next = Some(Input::Persisted(id));
            }
        }
    }

    /// Every server lets go of what it has applied.
    fn compact(&mut self) {
        for node in (1..=3).map(NodeId::small) {
            let core = &self.servers[seat(node)].core;
            let snapshot = core.snapshot_at(core.applied()).expect("applied, so in the log");
            self.input(node, Input::SnapshotTaken(snapshot));
        }
        self.settle();
    }

    fn leader(&self) -> &Raft {
        &self.servers[seat(LEADER)].core
    }
}

/// Where a server sits: they are numbered from 1.
fn seat(node: NodeId) -> usize {
    usize::from(node.peer.0[31]) - 1
}

fn config(number: u8) -> Config {
    Config {
        id: NodeId::small(number),
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
/// After so many entries the servers let go of their logs.
const LOG_ENTRIES_MAX: u64 = 100_000;
