//! A driver moved by hand: its clock, its store and its applier stand until they are moved.

mod kin;
mod leaving;
mod replaying;
mod slow;
mod snapshots;

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Mutex, MutexGuard, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use raft::{Config, Configuration, Message, Phase, Proposal, Role, Term, Write};

use super::*;
use crate::{
    Clock, ConsensusConfig, ConsensusProfile, GroupId, GroupKey, Lineage, Network, Status, When,
    clock::Standing,
    group::{
        alarm::Alarm,
        answer::{Answered, Answerer},
        bond::{Admittance, Bonds, Member},
        calls::Calls,
        introduction::Acquaintances,
        life,
        mailbox::Mailbox,
        metric::GroupMetrics,
        samples::network_on,
        wire::Call,
    },
    storage::{Contents, Founding, Memory, Owner, Shelf, Store},
};

/// A member alone that leads. Work for its applier is left lying.
struct Scene {
    driver: Driver,
    clock: Standing,
    store: Slow,
    work: mpsc::Receiver<Work>,
    answers: Vec<oneshot::Receiver<Answered>>,
    open: Open,
}

/// What would end the driver if it were closed.
struct Open {
    _handles: watch::Sender<()>,
    _mailbox: Mailbox,
    applied: watch::Sender<Index>,
    reports: mpsc::Sender<Report>,
}

/// A store whose writes are durable at once, or when it does not stall any more.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<Submitted>>);

#[derive(Default)]
struct Submitted {
    shelf: Option<Shelf>,
    stalls: bool,
    last: Option<WriteId>,
    backlog_bytes: usize,
}

impl Slow {
    fn state(&self) -> MutexGuard<'_, Submitted> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl Storage for Slow {
    fn id(&self) -> StoreId {
        STORE
    }

    fn take_contents(&mut self) -> Contents {
        Contents::default()
    }

    fn found(&mut self, _: &Founding) -> Result<(), StorageError> {
        Ok(())
    }

    fn submit(&mut self, id: WriteId, _: Write) {
        let mut state = self.state();
        state.last = Some(id);
        state.backlog_bytes += 1;
    }

    fn poll_persisted(&mut self, _: &mut Context<'_>) -> Poll<Result<WriteId, StorageError>> {
        let mut state = self.state();
        let Some(id) = state.last.filter(|_| !state.stalls) else { return Poll::Pending };
        (state.last, state.backlog_bytes) = (None, 0);
        Poll::Ready(Ok(id))
    }

    fn backlog_bytes(&self) -> usize {
        self.state().backlog_bytes
    }

    fn shelf(&self) -> Option<Shelf> {
        self.state().shelf.clone()
    }
}

impl Scene {
    async fn set() -> Self {
        Self::set_with(ConsensusProfile::Lan.config()).await
    }

    async fn set_with(consensus: ConsensusConfig) -> Self {
        let clock = Standing::default();
        let network = network_on(Arc::new(clock.clone())).await;
        let consensus = ConsensusConfig { requests_max: REQUESTS_MAX as u32, ..consensus };
        let node = NodeId { peer: network.peer().id, store: STORE };
        let (mailbox, mail) = Mailbox::open(&consensus);
        let (handle, handles) = watch::channel(());
        let mut body = body(&network, &consensus, node, (mail, handles));
        let configuration = Configuration::of([node]);
        let lineage = Lineage::of(body.group, &configuration);
        let founding = Founding { lineage, configuration };
        body.founded(&founding, false);
        let config = config(&consensus, node);
        let core = life::core(config, &founding, Contents::default(), None, clock.now());
        let (work, left) = mpsc::channel(2 * ENTRIES_ROOM);
        let (applied, seen) = watch::channel(Index(0));
        let (reports, told) = mpsc::channel(1);
        let task = tokio::spawn(std::future::ready(None));
        let applying = Applying { work, applied: seen, reports: told, task };
        let store = Slow::default();
        let owner = Owner { group: body.group, peer: node.peer, fresh: STORE };
        store.state().shelf = Box::new(Memory).open(owner).expect("memory opens").shelf();
        let core = core.expect("nothing contradicts itself");
        let driver = Driver::new(body, core, Box::new(store.clone()), applying);
        let open = Open { _handles: handle, _mailbox: mailbox, applied, reports };
        let mut scene = Self { driver, clock, store, work: left, answers: Vec::new(), open };
        // It votes for itself; two of the longest elections are more than that takes.
        for _ in 0..60 {
            scene.advance(Duration::from_millis(10));
        }
        assert_eq!(scene.driver.core.role(), Role::Leader);
        scene.leave(2 * ENTRIES_ROOM);
        scene
    }

    /// Time goes on, and what is due by then is done.
    fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
        self.settle();
    }

    /// What the driver does between two turns.
    fn settle(&mut self) {
        self.driver.settle();
        if self.clock.now() >= self.driver.due() {
            self.driver.time();
        }
        self.driver.settle();
        self.driver.publish();
        assert!(self.driver.over.is_none(), "{:?}", self.driver.over);
    }

    /// What the driver finds to do, if anything.
    fn turn(&mut self) -> Option<Turn> {
        let next = pin!(self.driver.next());
        match next.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    /// Leaves so many places in front of the applier.
    fn leave(&mut self, places: usize) {
        while self.driver.work.capacity() > places {
            let work = Work::Query { query: Bytes::new(), answerer: self.answerer() };
            assert!(self.driver.work.try_send(work).is_ok(), "a place was free");
        }
        while self.driver.work.capacity() < places {
            assert!(self.work.try_recv().is_ok(), "a place was taken");
        }
    }

    fn answerer(&mut self) -> Answerer {
        let (reply, answer) = oneshot::channel();
        self.answers.push(answer);
        Answerer::local(reply, self.driver.body.node.peer)
    }

    fn call(&mut self, call: Call) {
        let (deadline, answerer) = (self.clock.now().plus(PATIENCE), self.answerer());
        self.driver.call(call, deadline, answerer);
    }

    /// A read, which an only voter confirms at once.
    fn read(&mut self) {
        self.call(Call::Query { query: Bytes::new() });
    }

    /// A call that appends an entry.
    fn append(&mut self) {
        self.call(Call::OpenSession { nonce: 7 });
    }

    /// A bond comes up with a node that shows this lineage.
    fn bond(&mut self, node: NodeId, lineage: Option<Lineage>) {
        self.driver.bond(BondEvent::Up { node, lineage });
        self.settle();
    }

    fn hear(&mut self, from: NodeId, frame: MemberFrame) {
        self.driver.bond(BondEvent::Frame { from, frame });
        self.settle();
    }

    /// A later leader speaks. Heeded by whoever hears it (Raft §5.1).
    fn later_leader(&mut self, from: NodeId) {
        let (term, commit) = (self.driver.core.term().next(), Index(0));
        self.hear(from, MemberFrame::Raft(Message::Heartbeat { term, round: 1, commit }));
    }

    fn propose(&mut self, change: Change) {
        let (id, proposal) = (membership::CHANGE, Proposal::Change(change));
        self.driver.step(Input::Propose { id, proposal });
        self.settle();
    }

    fn founding(&self) -> Founding {
        self.driver.body.founding.clone().expect("it is founded")
    }

    /// Whether the change wakes who waits for that by `when()`.
    fn wakes(
        &mut self,
        holds: impl FnMut(&Status) -> bool,
        change: impl FnOnce(&mut Self),
    ) -> bool {
        let mut when = When::new(self.driver.body.status.subscribe());
        let mut seen = pin!(when.status(holds));
        let mut context = Context::from_waker(Waker::noop());
        assert!(seen.as_mut().poll(&mut context).is_pending(), "it holds before");
        change(self);
        self.driver.publish();
        seen.as_mut().poll(&mut context).is_ready()
    }
}

fn body(
    network: &Network,
    consensus: &ConsensusConfig,
    node: NodeId,
    (mail, handles): (mpsc::Receiver<Mail>, watch::Receiver<()>),
) -> Body {
    let key = GroupKey::from_secret("drivers");
    let group = GroupId::of(&key, MACHINE, consensus);
    let (admit, admittance) = watch::channel(Admittance::of(node.store));
    let (consensus, peers) = (consensus.clone(), Vec::new());
    let member = Member { group, key, consensus: consensus.clone(), peers, admittance };
    let alarm = Alarm::default();
    let (bonds, events) = Bonds::spawn(network, member, alarm.clone());
    Body {
        network: network.clone(),
        group,
        machine: MACHINE,
        clock: Arc::clone(network.clock()),
        consensus,
        node,
        bonds,
        events,
        mail,
        handles,
        calls: Calls::new(1),
        bonded: BTreeSet::new(),
        lineages: BTreeMap::new(),
        founding: None,
        tells: false,
        members: Configuration::default(),
        admit,
        acquaintances: Acquaintances::new(network.peer(), false, &[]),
        leaving: BTreeMap::new(),
        acquaint_at: None,
        status: watch::Sender::new(Status::new(node)),
        observer: None,
        observer_fell: AtomicBool::new(false),
        rung: alarm.heard(),
        alarm,
        metrics: GroupMetrics::new(group.to_string(), node.peer.to_string()),
    }
}

fn config(consensus: &ConsensusConfig, node: NodeId) -> Config {
    Config {
        id: node,
        election_timeout_min: consensus.election_timeout,
        election_timeout_max: consensus.election_timeout_max(),
        heartbeat_interval: consensus.heartbeat_interval,
        inflight_entries_max: consensus.inflight_entries_max.into(),
        inflight_bytes_max: consensus.inflight_bytes_max as usize,
        message_bytes_max: consensus.message_bytes_max as usize,
        uncommitted_entries_max: consensus.uncommitted_entries_max.into(),
        unapplied_bytes_max: 64 << 20,
        reads_max: consensus.requests_max as usize,
        sessions: consensus.session_limits(),
        lease: consensus.lease_limits(),
        reluctance: 1,
        observer: false,
        seed: 1,
    }
}

const MACHINE: &str = "machine";
const STORE: StoreId = StoreId(1);
const REQUESTS_MAX: usize = 4;
/// How long callers wait: less than a heartbeat, so that no timer but theirs is due.
const PATIENCE: Duration = Duration::from_millis(10);

#[tokio::test]
async fn reads_that_timed_out_before_the_applier_had_room_are_let_go_of() {
    let mut scene = Scene::set().await;
    scene.leave(ENTRIES_ROOM);
    for _ in 0..10 {
        for _ in 0..REQUESTS_MAX {
            scene.read();
        }
        scene.settle();
        let waiting = scene.driver.ready.len();
        assert_eq!(waiting, REQUESTS_MAX, "those under way, and nobody else");
        scene.advance(PATIENCE);
        assert_eq!(scene.driver.body.calls.len(), 0, "their callers wait no longer");
    }
}

#[tokio::test]
async fn a_read_wakes_the_driver_only_once_there_is_more_room_than_entries_are_left() {
    let mut scene = Scene::set().await;
    scene.leave(0);
    scene.read();
    scene.settle();
    for places in 0..=ENTRIES_ROOM {
        scene.leave(places);
        assert!(scene.turn().is_none(), "{places} places, and it would find nothing to do");
    }
    scene.leave(ENTRIES_ROOM + 1);
    assert!(matches!(scene.turn(), Some(Turn::Room)));
    scene.settle();
    assert!(scene.driver.ready.is_empty(), "it is the applier's now");
    assert!(scene.turn().is_none());
}

#[tokio::test]
async fn an_entry_wakes_the_driver_as_soon_as_there_is_any_room() {
    let mut scene = Scene::set().await;
    scene.leave(0);
    scene.append();
    scene.settle();
    assert!(scene.driver.handed < scene.driver.through, "it is committed");
    assert!(scene.turn().is_none(), "there is no room at all");
    scene.leave(1);
    assert!(matches!(scene.turn(), Some(Turn::Room)));
    scene.settle();
    assert_eq!(scene.driver.handed, scene.driver.through);
}

#[tokio::test]
async fn who_waits_for_the_last_index_is_woken_when_nothing_else_moves() {
    let mut scene = Scene::set().await;
    scene.store.state().stalls = true;
    scene.append();
    scene.settle();
    // Calls and writes wait already, and none is committed.
    let next = scene.driver.core.last().index.next();
    assert!(scene.wakes(|status| status.last.index == next, Scene::append));
}

#[tokio::test]
async fn what_waits_for_the_machine_is_shown() {
    let mut scene = Scene::set().await;
    scene.settle();
    let waits = |batches| move |scene: &mut Scene| scene.leave(2 * ENTRIES_ROOM - batches);
    assert!(scene.wakes(|status| status.applier_batches == 3, waits(3)));
    assert!(scene.wakes(|status| status.applier_batches == 0, waits(0)));
}

#[tokio::test]
async fn who_waits_for_a_queue_is_woken_when_it_begins_and_when_it_ends() {
    let mut scene = Scene::set().await;
    scene.leave(ENTRIES_ROOM);
    assert!(scene.wakes(|status| status.calls > 0, Scene::read));
    assert!(scene.wakes(|status| status.calls == 0, |scene| scene.advance(PATIENCE)));

    let weigh = |bytes| move |scene: &mut Scene| scene.store.state().backlog_bytes = bytes;
    assert!(scene.wakes(|status| status.storage_backlog_bytes > 0, weigh(9)));
    assert!(scene.wakes(|status| status.storage_backlog_bytes == 0, weigh(0)));

    let write = WriteId(1_000);
    let hold = |scene: &mut Scene| {
        let vote = Message::Vote { term: Term(1), phase: Phase::Vote, granted: true };
        scene.driver.barrier.submitted(write);
        assert_eq!(scene.driver.barrier.pass(NodeId::small(2), vote), None, "it promises");
    };
    assert!(scene.wakes(|status| status.held_messages > 0, hold));
    let let_go = |scene: &mut Scene| {
        assert_eq!(scene.driver.barrier.persisted(write).count(), 1);
    };
    assert!(scene.wakes(|status| status.held_messages == 0, let_go));
}
