//! Garbage from those that have proved the key: members' frames, as far as into the core, and
//! clients' frames, as far as into the machine.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use fuzz::{Draws, Target};
use raft::{
    Appended, Barrier, Config, Configuration, Effect, Entry, Index, Input, Message, NodeId,
    Payload, Phase, Position, Raft, RequestId, Restored, SessionId, SessionLimits, Snapshot, Term,
    Time,
};
use tokio::sync::oneshot;

use super::{
    answer::Answerer,
    applier::EncodedMachine,
    bond::decode_frame,
    calls::Calls,
    introduction::{Acquaintances, Introduction},
    replay::{Goal, Ledger, Mark, Marks, Order, Plan, ReplayFrame, chunk},
    transfer::{Ask, Lending, Library, PART_BYTES, Part, SnapshotFrame, lineage, parts::Parts},
    wire::{Call, ClientFrame, MemberFrame, Outcome, Reason, Until},
};
use crate::{
    ApplyContext, ConsensusConfig, Peer, StateMachine,
    clock::Standing,
    storage::{Founding, SnapshotId},
};

const COMMAND: &str = "cargo test -p runtime --lib garbage";

fn place(term: u64, index: u64) -> Position {
    Position { term: Term(term), index: Index(index) }
}

fn entry(term: u64, index: u64, payload: Payload) -> Entry {
    Entry { position: place(term, index), payload }
}

fn command(sequence: u64, bytes: usize) -> Payload {
    let request = RequestId { session: SessionId(Index(2)), sequence };
    Payload::Command { request, floor: 1, command: vec![7; bytes].into() }
}

fn voters() -> Configuration {
    Configuration::of([1, 2, 3].map(NodeId::small))
}

/// Every message that a core says.
fn messages() -> Vec<Message> {
    let (term, commit) = (Term(1), Index(3));
    let entries = vec![
        entry(1, 1, Payload::Noop),
        entry(1, 2, Payload::OpenSession { nonce: 9 }),
        entry(1, 3, command(1, 5)),
        entry(1, 4, Payload::Configuration(voters())),
    ];
    let phases = [Phase::PreVote, Phase::Vote];
    let mut messages = vec![
        Message::Append { term, prev: place(0, 0), entries: entries.into(), commit },
        Message::Append {
            term,
            prev: place(1, 4),
            entries: vec![entry(1, 5, command(2, 300))].into(),
            commit,
        },
        Message::Append {
            term: Term(2),
            prev: place(1, 2),
            entries: vec![entry(2, 3, Payload::Noop)].into(),
            commit: Index(2),
        },
        Message::Append { term, prev: place(1, 4), entries: Vec::new().into(), commit: Index(4) },
        Message::AppendReply { term, outcome: Appended::Matched(Index(4)) },
        Message::AppendReply {
            term,
            outcome: Appended::Rejected { prev: Index(4), hint: place(1, 2) },
        },
        Message::Heartbeat { term, round: 1, commit },
        Message::HeartbeatReply { term, round: 1 },
        Message::TimeoutNow { term },
        Message::InstallSnapshot {
            term,
            snapshot: Snapshot { position: place(1, 4), configuration: voters() },
        },
    ];
    for phase in phases {
        messages.push(Message::RequestVote {
            term: Term(2),
            phase,
            last: place(1, 4),
            transfer: false,
        });
        messages.push(Message::Vote { term: Term(2), phase, granted: true });
    }
    messages
}

fn calls() -> Vec<Call> {
    let request = RequestId { session: SessionId(Index(2)), sequence: 1 };
    let content = Bytes::from_static(b"\x02content");
    vec![
        Call::OpenSession { nonce: u64::MAX },
        Call::Command {
            request,
            nonce: u64::MAX,
            floor: 1,
            command: content.clone(),
            until: Until::Applied,
        },
        Call::Query { query: content.clone() },
        Call::WeakQuery { query: content },
    ]
}

fn outcomes() -> Vec<Outcome> {
    let content = Some(Bytes::from_static(b"content"));
    vec![
        Outcome::Opened(SessionId(Index(2))),
        Outcome::Applied { position: place(1, 3), output: content.clone() },
        Outcome::Proposed(place(1, 3)),
        Outcome::Queried { applied: Index(3), answer: content },
        Outcome::Refused(Reason::LeaderChanged),
        Outcome::Unknown(Reason::Timeout),
    ]
}

fn snapshots() -> Vec<SnapshotFrame> {
    let snapshot = SnapshotId { position: place(1, 3), bytes: 500, digest: [7; 32] };
    let ask = Ask { id: 1, least: Index(3), digest: None, offset: 0, bytes_max: 100 };
    let part = |bytes: usize| Some(Part { snapshot, bytes: vec![1; bytes].into() });
    vec![
        SnapshotFrame::Ask(ask),
        SnapshotFrame::Ask(Ask { digest: Some(snapshot.digest), offset: 100, ..ask }),
        SnapshotFrame::Answer { id: 0, part: part(100) },
        SnapshotFrame::Answer { id: 1, part: part(100) },
        SnapshotFrame::Answer { id: 1, part: None },
    ]
}

fn encoded(frame: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_stdvec(frame).expect("plain values always encode")
}

fn member_frames() -> Vec<Vec<u8>> {
    let raft = messages().into_iter().map(MemberFrame::Raft);
    let forwards = calls().into_iter().map(|call| MemberFrame::Forward { id: 1, call });
    let answers = outcomes().into_iter().map(|outcome| MemberFrame::Answer { id: 1, outcome });
    let introductions = introductions().into_iter().map(MemberFrame::Introduction);
    let replays = replays().into_iter().map(MemberFrame::Replay);
    let short = [MemberFrame::Ping, MemberFrame::Leave, MemberFrame::Left];
    let snapshots = snapshots().into_iter().map(MemberFrame::Snapshot);
    let frames = raft.chain(forwards).chain(answers).chain(introductions).chain(short);
    let frames = frames.chain(snapshots).chain(replays);
    frames.map(|frame| encoded(&frame)).collect()
}

/// Questions, and answers to those that a plan asks first.
fn replays() -> Vec<ReplayFrame> {
    let entries = [entry(1, 1, Payload::Noop), entry(1, 2, command(1, 300))];
    let mut encoded = Vec::new();
    let last =
        chunk::encode([entries[..].into()].into_iter(), &mut encoded).expect("there are two");
    let (after, commit) = (Index(0), Index(9_000));
    let digest = chunk::digest(place(0, 0), &encoded);
    let mark = |last: Position| Mark { last, bytes: encoded.len() as u32, digest };
    let vouched = vec![mark(last), mark(place(1, 9_000))];
    let marks = |id, marks| {
        let (term, prev) = (Term(1), place(0, 0));
        ReplayFrame::Marks(Marks { id, term, prev, marks, commit })
    };
    vec![
        ReplayFrame::AskHeld { id: 1 },
        ReplayFrame::Held { id: 1, after, commit },
        ReplayFrame::Held { id: 2, after, commit },
        ReplayFrame::AskMarks { id: 1, term: Term(1), after },
        marks(3, vouched),
        marks(3, Vec::new()),
        ReplayFrame::Fetch { id: 1, after, last: Index(2) },
        ReplayFrame::Entries { id: 4, entries: encoded.clone().into() },
        ReplayFrame::Entries { id: 5, entries: encoded.into() },
        ReplayFrame::Busy { id: 4 },
        ReplayFrame::Fetching { term: Term(1), ends: false },
    ]
}

/// Of a node that waits for a group, and of one that has one and knows others.
fn introductions() -> [Introduction; 2] {
    let lineage = postcard::from_bytes(&[7; 32]).expect("32 bytes are a lineage");
    let founding = Founding { lineage, configuration: voters() };
    let peer = |number: u8| {
        let addresses = vec![([127, 0, 0, number], 7_000).into(), ([0_u16; 8], 9).into()];
        Peer { id: NodeId::small(number).peer, addresses }
    };
    let peers = vec![peer(2), peer(3)];
    let member = Introduction { founding: Some(founding), observer: true, peers };
    [Introduction { founding: None, observer: false, peers: vec![peer(4)] }, member]
}

/// A member whose disk is done at once, stepped with whatever comes.
struct Stepped {
    core: Raft,
    barrier: Barrier,
    now: Time,
    /// It fetches what the second member vouches for.
    plan: Plan,
    /// How many snapshots it would have fetched.
    offered: u64,
}

impl Stepped {
    fn new() -> Self {
        let ms = Duration::from_millis;
        let config = Config {
            id: NodeId::small(1),
            election_timeout_min: ms(150),
            election_timeout_max: ms(300),
            heartbeat_interval: ms(50),
            inflight_entries_max: 64,
            inflight_bytes_max: 64 << 10,
            message_bytes_max: 8 << 10,
            uncommitted_entries_max: 64,
            unapplied_bytes_max: 1 << 20,
            reads_max: 8,
            lease: None,
            sessions: SessionLimits { sessions_max: 4, replies_per_session_max: 4 },
            reluctance: 1,
            observer: false,
            seed: 7,
        };
        let restored = Restored {
            hard_state: raft::HardState::default(),
            snapshot: Snapshot { position: place(0, 0), configuration: voters() },
            sessions: None,
            entries: Vec::new(),
        };
        let core = Raft::new(config, restored, Time::default()).expect("a fresh store");
        let goal =
            Goal { leader: NodeId::small(2), term: Term(1), after: Index(0), commit: Index(9_000) };
        let consensus = ConsensusConfig::default();
        let mut plan = Plan::new(&consensus, goal, Ledger::new(0), Time::default());
        plan.bonded(Time::default(), NodeId::small(2));
        plan.bonded(Time::default(), NodeId::small(3));
        // It has asked what they hold and what comes next, and now asks for two chunks.
        let (mut orders, told) = (Vec::new(), replays());
        plan.go(Time::default(), &mut orders);
        for (from, at) in [(2, 1), (3, 2), (2, 4)] {
            plan.heard(Time::default(), NodeId::small(from), told[at].clone(), &mut orders);
        }
        Self { core, barrier: Barrier::default(), now: Time::default(), plan, offered: 0 }
    }

    /// A member answers what it was asked, or what not. Returns how many chunks are proven.
    fn replayed(&mut self, from: NodeId, frame: ReplayFrame) -> u64 {
        let (mut orders, mut proven) = (Vec::new(), 0);
        self.plan.heard(self.now, from, frame, &mut orders);
        for order in orders {
            if let Order::Take { prev, last, entries } = order {
                chunk::decode(prev, last, &entries).expect("what is vouched for is a chunk");
                proven += 1;
            }
        }
        proven
    }

    fn step(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut effects = Vec::new();
            self.core.step(self.now, input, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Persist { id, .. } => {
                        self.barrier.submitted(id);
                        inputs.insert(0, Input::Persisted(id));
                    }
                    Effect::Send { to, message } => drop(self.barrier.pass(to, message)),
                    Effect::Install { snapshot, .. } => {
                        // What is fetched for it is of use.
                        assert!(snapshot.position.index > self.core.commit(), "{snapshot:?}");
                        self.offered += 1;
                    }
                    _ => {}
                }
            }
        }
    }

    /// Time passes, up to where the core wants to be woken.
    fn wait(&mut self) {
        self.now = self.core.deadline().max(self.now);
        self.step(Input::Timeout);
    }
}

/// A talk: frames in the order in which they come, each from one of the other members.
fn talk(draws: &mut Draws, samples: &[Vec<u8>]) -> Vec<Vec<u8>> {
    (0..=draws.below(12))
        .map(|_| {
            let mut frame = match draws.once_in(2) {
                true => draws.one_of(samples).clone(),
                false => draws.garbled(samples, &[]),
            };
            // Before it: from whom it is, and whether time passes first.
            frame.insert(0, draws.number() as u8);
            frame
        })
        .collect()
}

#[test]
fn garbage_from_a_member_ends_its_bond_and_never_the_core() {
    let samples = member_frames();
    let target = Target {
        name: "members",
        command: COMMAND,
        inputs: 20_000,
        // An entry that says nothing has three bytes on the wire and a hundred in a log.
        heap_bytes_max: (1 << 20, 256),
    };
    let heeded = RefCell::new(BTreeMap::<&str, u64>::new());
    let mut library = Library::open();
    library.keep(1, 3);
    let lending = RefCell::new(library.lend(lineage(1), Arc::new(Standing::default())));
    let is_full = target.throw(
        [],
        |draws| talk(draws, &samples),
        |talk| {
            let mut stepped = Stepped::new();
            for words in talk {
                let Some((how, words)) = words.split_first() else { continue };
                if how & 4 != 0 {
                    stepped.wait();
                }
                let from = NodeId::small(2 + (how & 1));
                let Ok(frame) = decode_frame(&Bytes::copy_from_slice(words)) else { continue };
                *heeded.borrow_mut().entry(kind(&frame)).or_default() += 1;
                match frame {
                    MemberFrame::Raft(message) => {
                        stepped.step(Input::Message { from, message });
                    }
                    MemberFrame::Forward { call, .. } => {
                        assert!(call.content_bytes() <= words.len(), "{call:?}");
                    }
                    MemberFrame::Answer { id, outcome } => answered(from, id, outcome),
                    MemberFrame::Introduction(introduction) => introduced(from, introduction),
                    MemberFrame::Snapshot(SnapshotFrame::Ask(ask)) => {
                        *heeded.borrow_mut().entry("lent").or_default() +=
                            lent(&mut lending.borrow_mut(), from, &ask);
                    }
                    MemberFrame::Snapshot(SnapshotFrame::Answer { id, part }) => {
                        part.iter().for_each(|part| handed_on(id, part));
                    }
                    MemberFrame::Replay(frame) => {
                        *heeded.borrow_mut().entry("proven").or_default() +=
                            stepped.replayed(from, frame);
                    }
                    // They say nothing besides.
                    MemberFrame::Ping | MemberFrame::Leave | MemberFrame::Left => {}
                }
            }
            let core = &stepped.core;
            let mut heeded = heeded.borrow_mut();
            *heeded.entry("offered").or_default() += stepped.offered;
            *heeded.entry("grown").or_default() += u64::from(core.last().index > Index(0));
            *heeded.entry("committed").or_default() += u64::from(core.commit() > Index(0));
            *heeded.entry("led").or_default() += u64::from(core.role() == raft::Role::Leader);
        },
    );
    let heeded = heeded.into_inner();
    assert!(
        !is_full || (heeded.len() == 15 && heeded.values().all(|count| *count > 5)),
        "{heeded:?}"
    );
}

fn kind(frame: &MemberFrame) -> &'static str {
    match frame {
        MemberFrame::Raft(_) => "raft",
        MemberFrame::Forward { .. } => "forward",
        MemberFrame::Answer { .. } => "answer",
        MemberFrame::Ping => "ping",
        MemberFrame::Introduction(_) => "introduction",
        MemberFrame::Leave => "leave",
        MemberFrame::Left => "left",
        MemberFrame::Snapshot(_) => "snapshot",
        MemberFrame::Replay(_) => "replay",
    }
}

/// A member asks for a part of our snapshot, or of another. Returns how many it is given.
fn lent(lending: &mut Lending, from: NodeId, ask: &Ask) -> u64 {
    let part = lending.part(from, ask).expect("memory can be read");
    let Some(part) = part else { return 0 };
    assert!(part.bytes.len() <= PART_BYTES.min(ask.bytes_max) as usize, "{ask:?}");
    assert!(part.snapshot.position.index >= ask.least, "{ask:?}");
    1
}

/// A member hands a part of a snapshot on, which was asked for, or not so.
fn handed_on(id: u64, part: &Part) {
    let snapshot = SnapshotId { position: place(1, 3), bytes: 500, digest: [7; 32] };
    let mut parts = Parts::new(snapshot, 100);
    let asked: Vec<_> = (0..4).filter_map(|id| parts.ask(id)).collect();
    let Some(offset) = parts.take(id, part) else { return };
    let fits = |ask: &Ask| ask.id == id && ask.bytes_max as usize == part.bytes.len();
    assert!(asked.iter().any(|ask| fits(ask) && ask.offset == offset), "{id}: at {offset}");
}

/// A bonded node says who it is and whom it knows.
fn introduced(from: NodeId, introduction: Introduction) {
    let me = Peer { id: NodeId::small(1).peer, addresses: Vec::new() };
    let mut known = Acquaintances::new(me, false, &[]);
    known.meet(Time::default(), from, introduction);
    assert!(known.whom_to_dial(None).len() <= 97, "as many as may be, and whoever says so");
    assert!(known.introduction(None).check().is_ok(), "what is passed on is within the limits");
}

/// A member answers a call that was passed on to it, or one that was not.
fn answered(from: NodeId, id: u64, outcome: Outcome) {
    let mut calls = Calls::new(0);
    let (reply, mut answer) = oneshot::channel();
    let answerer = Answerer::local(reply, from.peer);
    let deadline = Time(Duration::from_secs(1));
    let call = calls.open(self::calls().remove(1), answerer, Time::default(), deadline);
    let attempt = calls.forward(call, NodeId::small(2));
    calls.answered(from, id.wrapping_add(attempt).wrapping_sub(1), outcome);
    calls.stop();
    answer.try_recv().expect("every call is answered once");
}

/// A machine with much to decode.
#[derive(Default)]
struct Deep;

type Nested = Vec<(String, Option<BTreeMap<u32, Vec<u8>>>)>;

impl StateMachine for Deep {
    type Command = Nested;
    type Output = usize;
    type Query = Nested;
    type Answer = usize;
    const SIGNATURE: &'static str = "deep 1";

    fn apply(&mut self, command: Nested, _: &ApplyContext) -> usize {
        command.len()
    }

    fn query(&self, query: Nested) -> usize {
        query.len()
    }

    fn snapshot(&self, _: &mut dyn std::io::Write) -> std::io::Result<()> {
        Ok(())
    }

    fn restore(&mut self, _: &mut dyn std::io::Read) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn garbage_from_a_client_is_no_frame_or_no_command_and_nothing_else() {
    let content: Nested = vec![("name".into(), Some([(1, vec![7; 9])].into())), ("".into(), None)];
    let content: Bytes = encoded(&content).into();
    let request = RequestId { session: SessionId(Index(2)), sequence: 1 };
    let nested = [
        Call::Command {
            request,
            nonce: 9,
            floor: 1,
            command: content.clone(),
            until: Until::Proposed,
        },
        Call::Query { query: content },
    ];
    let asked = calls().into_iter().chain(nested);
    let frames = asked.map(|call| ClientFrame::Call { id: 1, call, patience_ms: u32::MAX });
    let answers = outcomes().into_iter().map(|outcome| ClientFrame::Answer { id: 1, outcome });
    let pings = [None, Some(NodeId::small(1).peer)].map(|leader| ClientFrame::Ping { leader });
    let samples: Vec<_> = frames.chain(answers).chain(pings).map(|frame| encoded(&frame)).collect();
    let target =
        Target { name: "clients", command: COMMAND, inputs: 50_000, heap_bytes_max: (2 << 20, 64) };
    let decoded = RefCell::new(0);
    let is_full = target.throw(
        [],
        |draws| draws.garbled(&samples, &[]),
        |words| {
            let Ok(ClientFrame::Call { call, .. }) = postcard::from_bytes(words) else { return };
            assert!(call.content_bytes() <= words.len(), "{} bytes", call.content_bytes());
            let is_decoded = match &call {
                Call::Command { command, .. } => {
                    let context = ApplyContext { position: place(1, 1) };
                    EncodedMachine::apply(&mut Deep, command, &context, &mut Vec::new())
                }
                Call::Query { query } | Call::WeakQuery { query } => {
                    EncodedMachine::query(&Deep, query).is_some()
                }
                Call::OpenSession { .. } => false,
            };
            *decoded.borrow_mut() += u64::from(is_decoded);
        },
    );
    assert!(!is_full || *decoded.borrow() > 0, "some come as far as into the machine");
}
