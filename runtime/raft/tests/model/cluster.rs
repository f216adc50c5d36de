//! A few cores, their disks and the network between them, stepped by hand.
//!
//! Time stands still unless told to move, messages travel in the order they were sent, and disks
//! are done at once unless stalled; so a story reads the same every time. After every step the
//! model checks that no two servers applied different entries at one index.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use raft::{
    Admission, Answer, Barrier, Config, Configuration, Effect, Entry, HardState, Index, Input,
    Message, NodeId, Note, Payload, Position, Proposal, ProposalId, Raft, ReadId, RequestId,
    Restored, SessionId, SessionLimits, Sessions, Snapshot, StoreId, Time, Write, WriteId,
};

/// The whole group, and the world around it.
pub(crate) struct Cluster {
    pub(crate) now: Time,
    pub(crate) nodes: BTreeMap<u8, Node>,
    pub(crate) trace: Vec<String>,
    network: VecDeque<(u8, u8, Message)>,
    cut: BTreeSet<(u8, u8)>,
    /// Kinds of messages that are lost on their way to a node.
    lossy: BTreeSet<(u8, &'static str)>,
    /// Snapshots that exist, with what belongs to them.
    snapshots: BTreeMap<Index, (Sessions<Index>, Vec<String>)>,
    /// What was applied anywhere, by index.
    applied: BTreeMap<Index, Entry>,
    tune: fn(&mut Config),
    requests: u64,
}

/// One server with its disk and its machine.
pub(crate) struct Node {
    pub(crate) raft: Option<Raft>,
    pub(crate) disk: Restored,
    pub(crate) answers: Vec<String>,
    pub(crate) notes: Vec<Note>,
    /// The kinds of messages that reached it.
    pub(crate) heard: Vec<&'static str>,
    /// The commands that the machine has applied, in order.
    pub(crate) machine: Vec<String>,
    barrier: Barrier,
    writes: VecDeque<(WriteId, Write)>,
    /// How many more writes the disk finishes before it stalls.
    writes_max: usize,
    /// What arrived while the process was stopped.
    paused: Option<Vec<(u8, Message)>>,
    /// The machine at the snapshot on disk.
    base: Vec<String>,
}

/// How the servers of a model behave unless told otherwise.
pub(crate) fn config(number: u8) -> Config {
    Config {
        id: NodeId::small(number),
        election_timeout_min: Duration::from_millis(150),
        election_timeout_max: Duration::from_millis(300),
        heartbeat_interval: Duration::from_millis(50),
        inflight_entries_max: 64,
        inflight_bytes_max: 64 * 1024,
        message_bytes_max: 8 * 1024,
        uncommitted_entries_max: 64,
        unapplied_bytes_max: 1 << 20,
        reads_max: 8,
        sessions: SessionLimits { sessions_max: 4, replies_per_session_max: 4 },
        lease: None,
        reluctance: 1,
        observer: false,
        seed: 7,
    }
}

/// The store of a group that was just founded, with one client session (number 0) open.
pub(crate) fn founded(configuration: Configuration) -> Restored {
    let mut sessions = Sessions::new(config(1).sessions);
    let opening: Entry =
        Entry { position: Position::default(), payload: Payload::OpenSession { nonce: 0 } };
    sessions.observe(opening.view(), |_| ());
    Restored {
        hard_state: HardState::default(),
        snapshot: Snapshot { position: Position::default(), configuration },
        sessions: Some(sessions),
        entries: Vec::new(),
    }
}

/// A proposal of the client with the open session.
pub(crate) fn command(sequence: u64, text: &str) -> Proposal {
    let request = RequestId { session: SessionId(Index(0)), sequence };
    // The client has had all answers but the last.
    let floor = sequence.saturating_sub(1);
    Proposal::Command { request, floor, command: Bytes::copy_from_slice(text.as_bytes()) }
}

impl Cluster {
    /// These voters, all started.
    pub(crate) fn new(voters: &[u8]) -> Self {
        Self::tuned(voters, |_| {})
    }

    /// These voters, with another configuration.
    pub(crate) fn tuned(voters: &[u8], tune: fn(&mut Config)) -> Self {
        let mut cluster = Self {
            now: Time::default(),
            nodes: BTreeMap::new(),
            trace: Vec::new(),
            network: VecDeque::new(),
            cut: BTreeSet::new(),
            lossy: BTreeSet::new(),
            snapshots: BTreeMap::new(),
            applied: BTreeMap::new(),
            tune,
            requests: 0,
        };
        let founders = Configuration::of(voters.iter().copied().map(NodeId::small));
        voters.iter().for_each(|number| cluster.add(*number, founded(founders.clone())));
        cluster
    }

    /// Starts a server that knows nobody and waits to be added.
    pub(crate) fn join(&mut self, number: u8) {
        self.add(number, founded(Configuration::default()));
    }

    /// Starts a server with this store.
    pub(crate) fn add(&mut self, number: u8, disk: Restored) {
        let node = Node {
            raft: None,
            disk,
            answers: Vec::new(),
            notes: Vec::new(),
            heard: Vec::new(),
            machine: Vec::new(),
            barrier: Barrier::default(),
            writes: VecDeque::new(),
            writes_max: usize::MAX,
            paused: None,
            base: Vec::new(),
        };
        self.nodes.insert(number, node);
        self.start(number);
    }

    pub(crate) fn raft(&self, number: u8) -> &Raft {
        self.nodes[&number].raft.as_ref().expect("the story looks at a running server")
    }

    /// Fires the server's timer, at its deadline if that is still to come.
    pub(crate) fn timeout(&mut self, number: u8) {
        self.now = self.now.max(self.raft(number).deadline());
        self.input(number, Input::Timeout);
    }

    /// Fires the server's timer and lets everything happen that follows.
    pub(crate) fn campaign(&mut self, number: u8) {
        self.timeout(number);
        self.settle();
    }

    /// Lets time pass. Timers fire when they are due, and what follows happens at once.
    pub(crate) fn wait(&mut self, duration: Duration) {
        let end = self.now.plus(duration);
        loop {
            let running = self.nodes.iter().filter(|(_, node)| node.paused.is_none());
            let due = running.filter_map(|(number, node)| {
                node.raft.as_ref().map(|raft| (raft.deadline(), *number))
            });
            let Some((deadline, number)) = due.min().filter(|(deadline, _)| *deadline <= end)
            else {
                break;
            };
            self.now = self.now.max(deadline);
            self.input(number, Input::Timeout);
            self.settle();
        }
        self.now = end;
    }

    pub(crate) fn propose(&mut self, number: u8, proposal: Proposal) {
        self.requests += 1;
        let id = ProposalId(self.requests);
        self.input(number, Input::Propose { id, proposal });
    }

    pub(crate) fn read(&mut self, number: u8) {
        self.requests += 1;
        self.input(number, Input::Read { id: ReadId(self.requests) });
    }

    /// Nothing passes between the two any more.
    pub(crate) fn cut(&mut self, one: u8, other: u8) {
        self.cut.extend([(one, other), (other, one)]);
    }

    pub(crate) fn isolate(&mut self, number: u8) {
        let others: Vec<u8> = self.nodes.keys().copied().filter(|other| *other != number).collect();
        others.into_iter().for_each(|other| self.cut(number, other));
    }

    /// Messages of this kind to this server are lost from now on.
    pub(crate) fn lose(&mut self, number: u8, kind: &'static str) {
        self.lossy.insert((number, kind));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.lossy.clear();
    }

    /// The process ends; what its disk has not finished is lost.
    pub(crate) fn crash(&mut self, number: u8) {
        let node = self.node(number);
        node.raft = None;
        node.writes.clear();
        node.writes_max = usize::MAX;
        node.paused = None;
    }

    /// The process starts with what its disk holds.
    pub(crate) fn start(&mut self, number: u8) {
        let (now, tune) = (self.now, self.tune);
        let node = self.node(number);
        let mut config = config(number);
        tune(&mut config);
        let raft = Raft::new(config, node.disk.clone(), now);
        node.raft = Some(raft.expect("the model's disk never contradicts itself"));
        node.barrier = Barrier::default();
        node.machine = node.base.clone();
    }

    /// The disk finishes so many more writes, and then only takes them.
    pub(crate) fn stall(&mut self, number: u8, after: usize) {
        self.node(number).writes_max = after;
    }

    /// The disk goes on.
    pub(crate) fn sync(&mut self, number: u8) {
        self.node(number).writes_max = usize::MAX;
    }

    /// The process is stopped: no timer fires, messages wait unread.
    pub(crate) fn pause(&mut self, number: u8) {
        self.node(number).paused = Some(Vec::new());
    }

    /// The process goes on: the expired timer is seen before the unread messages.
    pub(crate) fn resume(&mut self, number: u8) {
        let unread = self.node(number).paused.take().unwrap_or_default();
        self.input(number, Input::Timeout);
        for (from, message) in unread {
            self.deliver(from, number, message);
        }
    }

    /// Takes a snapshot of what the server has applied, and drops the log before it.
    pub(crate) fn snapshot(&mut self, number: u8) {
        let raft = self.raft(number);
        let snapshot = raft.snapshot_at(raft.applied()).expect("what is applied is there");
        let sessions = raft.sessions().clone();
        let node = self.node(number);
        node.base = node.machine.clone();
        node.disk.entries.retain(|entry| entry.position.index > snapshot.position.index);
        node.disk.snapshot = snapshot.clone();
        node.disk.sessions = Some(sessions.clone());
        let machine = node.base.clone();
        self.snapshots.insert(snapshot.position.index, (sessions, machine));
        self.input(number, Input::SnapshotTaken(snapshot));
    }

    /// Lets messages arrive and disks finish until nothing more happens.
    pub(crate) fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            let ready = self.nodes.iter().find(|(_, node)| {
                node.raft.is_some() && node.writes_max > 0 && !node.writes.is_empty()
            });
            if let Some(number) = ready.map(|(number, _)| *number) {
                self.finish_write(number);
            } else if let Some((from, to, message)) = self.network.pop_front() {
                self.deliver(from, to, message);
            } else {
                return;
            }
        }
        panic!("the cores still talk after {STEPS_MAX} steps");
    }

    fn finish_write(&mut self, number: u8) {
        let node = self.node(number);
        let Some((id, write)) = node.writes.pop_front() else { return };
        node.writes_max = node.writes_max.saturating_sub(1);
        match write {
            Write::HardState(hard_state) => node.disk.hard_state = hard_state,
            Write::Entries { after, entries } => {
                node.disk.entries.retain(|entry| entry.position.index <= after);
                node.disk.entries.extend(entries.view().owned());
            }
        }
        let held: Vec<_> = node.barrier.persisted(id).collect();
        held.into_iter().for_each(|(to, message)| self.transmit(number, to, message));
        self.input(number, Input::Persisted(id));
    }

    fn deliver(&mut self, from: u8, to: u8, message: Message) {
        let Some(node) = self.nodes.get_mut(&to) else { return };
        if let Some(unread) = &mut node.paused {
            unread.push((from, message));
        } else if node.raft.is_some() {
            node.heard.push(kind(&message));
            self.trace.push(format!("{from} -> {to}  {message:?}"));
            self.input(to, Input::Message { from: NodeId::small(from), message });
        }
    }

    /// Steps a core and does what it wants done.
    pub(crate) fn input(&mut self, number: u8, input: Input) {
        let now = self.now;
        let mut effects = Vec::new();
        let raft = self.node(number).raft.as_mut().expect("only running servers take input");
        raft.step(now, input, &mut effects);
        for effect in effects {
            self.carry_out(number, effect);
        }
    }

    fn carry_out(&mut self, number: u8, effect: Effect) {
        match effect {
            Effect::Persist { id, write } => {
                let node = self.node(number);
                node.barrier.submitted(id);
                node.writes.push_back((id, write));
            }
            Effect::Send { to, message } => {
                if let Some((to, message)) = self.node(number).barrier.pass(to, message) {
                    self.transmit(number, to, message);
                }
            }
            Effect::Apply { through } => self.apply(number, through),
            Effect::Install { snapshot, .. } => self.install(number, snapshot),
            Effect::Answer(answer) => {
                self.trace.push(format!("{number} answers  {}", told(&answer)));
                self.node(number).answers.push(told(&answer));
            }
            Effect::Note(note) => {
                self.trace.push(format!("{number} notes  {note:?}"));
                self.node(number).notes.push(note);
            }
            Effect::Halt(halt) => self.trace.push(format!("{number} halts  {halt:?}")),
        }
    }

    fn apply(&mut self, number: u8, through: Index) {
        let raft = self.raft(number);
        let done = self.nodes[&number].machine.len();
        let applied: Vec<Entry> = (raft.log().start().index.0 + 1..=through.0)
            .filter_map(|index| raft.log().get(Index(index)))
            .map(|entry| entry.own(Bytes::copy_from_slice))
            .collect();
        for entry in &applied {
            let index = entry.position.index;
            let first = self.applied.entry(index).or_insert_with(|| entry.clone());
            assert_eq!(first, entry, "{number} applied another entry at {index} (Raft §5.4.3)");
        }
        // The machine is its sessions and its commands, replayed from the snapshot.
        let node = self.node(number);
        let mut sessions =
            node.disk.sessions.clone().unwrap_or_else(|| Sessions::new(config(number).sessions));
        let mut machine = node.base.clone();
        for entry in &applied {
            let keep = |kept: &mut Index| *kept = entry.position.index;
            let fresh = matches!(sessions.observe(entry.view(), keep), Admission::Fresh);
            if let Payload::Command { command, .. } = &entry.payload
                && fresh
            {
                machine.push(String::from_utf8_lossy(command).into_owned());
            }
        }
        assert!(machine.len() >= done, "a machine went back from {done} commands");
        node.machine = machine;
    }

    fn install(&mut self, number: u8, snapshot: Snapshot) {
        let position = snapshot.position;
        let (sessions, machine) =
            self.snapshots.get(&position.index).cloned().expect("an offered snapshot exists");
        let node = self.node(number);
        node.machine.clone_from(&machine);
        node.base = machine;
        let is_kept = node.disk.entries.iter().any(|entry| entry.position == position);
        let stays = |entry: &Entry| is_kept && entry.position.index > position.index;
        node.disk.entries.retain(stays);
        node.disk.snapshot = snapshot.clone();
        node.disk.sessions = Some(sessions.clone());
        self.input(number, Input::SnapshotInstalled { snapshot, sessions });
    }

    fn transmit(&mut self, from: u8, to: NodeId, message: Message) {
        let to = to.peer.0[31];
        let lost = self.cut.contains(&(from, to)) || self.lossy.contains(&(to, kind(&message)));
        if !lost {
            self.network.push_back((from, to, message));
        }
    }

    fn node(&mut self, number: u8) -> &mut Node {
        self.nodes.get_mut(&number).expect("the story names a server that exists")
    }
}

/// The name that scripts give a message.
pub(crate) fn kind(message: &Message) -> &'static str {
    match message {
        Message::RequestVote { .. } => "request-vote",
        Message::Vote { .. } => "vote",
        Message::Append { .. } => "append",
        Message::AppendReply { .. } => "append-reply",
        Message::Heartbeat { .. } => "heartbeat",
        Message::HeartbeatReply { .. } => "heartbeat-reply",
        Message::TimeoutNow { .. } => "timeout-now",
        Message::InstallSnapshot { .. } => "install-snapshot",
    }
}

/// The same peer with another store: another server.
pub(crate) fn with_store(number: u8, store: u128) -> NodeId {
    NodeId { store: StoreId(store), ..NodeId::small(number) }
}

fn told(answer: &Answer) -> String {
    match answer {
        Answer::Proposed { outcome: Ok(position), .. } => format!("propose ok {position}"),
        Answer::Proposed { outcome: Err(refusal), .. } => format!("propose refused {refusal:?}"),
        Answer::Read { outcome: Ok(index), .. } => format!("read ok {index}"),
        Answer::Read { outcome: Err(refusal), .. } => format!("read refused {refusal:?}"),
        Answer::Transfer { outcome: Ok(()), to } => format!("transfer ok {to}"),
        Answer::Transfer { outcome: Err(refusal), .. } => format!("transfer refused {refusal:?}"),
    }
}

const STEPS_MAX: usize = 100_000;
