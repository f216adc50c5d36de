//! A simulated host, from the outside and from the inside: what the world keeps of a node through
//! its restarts, and what runs on it.
//!
//! What runs is the production code of `runtime` on a clock, a socket and a disk of ours.
//! Invariant: whoever crashes has been silenced before: it tells nothing, sends nothing and
//! writes nothing any more.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use runtime::{Clock, Event, Index, Network, SecretKey, Time, storage};
use tokio::{
    runtime::{Handle, Id},
    sync::{mpsc, oneshot, watch},
};

use super::{
    clock::{self, NodeClock},
    disk::Disk,
    quiesce::quiesce,
    socket::{SimSocket, Wires},
    store::SimStore,
    trace::Trace,
    trap::Trap,
    witness::{SeenMachine, SeenStore, Sight, Witness},
};
use crate::{
    cluster::{NodeEvent, NodeStatus, What},
    fault::NodeNumber,
    history::LogLine,
    member::{Joined, Membership, NETWORK, Noting, nanos},
    plan::StorageKind,
    skew::Skew,
};

/// What the world keeps of a node.
pub(super) struct Host {
    pub(super) number: NodeNumber,
    pub(super) trace: Arc<Trace>,
    part: Mutex<Option<Part>>,
    doing: watch::Sender<Doing>,
    runtime: Mutex<Option<Id>>,
    events_lost: AtomicU64,
}

/// What a node shall be, from its next start on.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) secret: [u8; 32],
    pub(super) entropy: u64,
    pub(super) storage: StorageKind,
    pub(super) membership: Membership,
    pub(super) disk: Disk,
    pub(super) wires: Arc<Wires>,
    pub(super) stands: watch::Sender<bool>,
    pub(super) skew: watch::Sender<Skew>,
    pub(super) events: mpsc::Sender<NodeEvent>,
    pub(super) witness: Arc<Witness>,
    pub(super) trap: Arc<Trap>,
}

/// What a node does now.
#[derive(Clone, Debug)]
pub(super) enum Doing {
    /// Nothing.
    Down,
    /// It is a member and can be asked.
    Up(mpsc::Sender<Asked>),
    /// It could not become one, and why.
    Failed(String),
}

/// What a node can be asked.
#[derive(Debug)]
pub(super) enum Asked {
    Status(oneshot::Sender<NodeStatus>),
    Reached(Index, oneshot::Sender<Result<Time, String>>),
    Log(Index, oneshot::Sender<Result<Vec<LogLine>, String>>),
    /// To hand leadership over.
    HandOver(oneshot::Sender<Result<(), String>>),
    /// To leave the group.
    Leave(oneshot::Sender<Result<(), String>>),
    /// To end in good order.
    Shutdown(oneshot::Sender<()>),
}

impl Host {
    pub(super) fn new(number: NodeNumber, trace: Arc<Trace>) -> Self {
        let (doing, _) = watch::channel(Doing::Down);
        let (part, runtime, events_lost) = Default::default();
        Self { number, trace, part, doing, runtime, events_lost }
    }

    /// Its name on the simulated network.
    pub(super) fn name(number: NodeNumber) -> String {
        format!("node-{number}")
    }

    /// Gives it its part for the next start.
    pub(super) fn cast(&self, part: Part) {
        *lock(&self.part) = Some(part);
        self.doing.send_replace(Doing::Down);
    }

    /// What it was cast as.
    pub(super) fn part(&self) -> Option<Part> {
        lock(&self.part).clone()
    }

    pub(super) fn doing(&self) -> watch::Receiver<Doing> {
        self.doing.subscribe()
    }

    /// It is gone.
    pub(super) fn went(&self) {
        self.doing.send_replace(Doing::Down);
    }

    /// Whether its code runs in that runtime.
    pub(super) fn runs_in(&self, runtime: Id) -> bool {
        *lock(&self.runtime) == Some(runtime)
    }

    /// What runs on the host; ends when it is told to, or at once if it has no part.
    pub(super) async fn run(self: Arc<Self>) {
        *lock(&self.runtime) = Some(Handle::current().id());
        let Some(part) = self.part() else { return };
        let lived = match clock::agrees() {
            Ok(()) => self.live(&part).await,
            disagrees => disagrees,
        };
        if let Err(reason) = lived {
            let died = What::Died { reason: reason.clone() };
            self.tell(&part, clock::now(), died);
            self.doing.send_replace(Doing::Failed(reason));
        }
    }

    async fn live(self: &Arc<Self>, part: &Part) -> Result<(), String> {
        let clock = NodeClock::new(part.stands.subscribe(), part.skew.subscribe());
        let clock: Arc<dyn Clock> = Arc::new(clock);
        let network = listen(part, address(self.number), &self.trace, Arc::clone(&clock)).await?;
        let (host, told) = (Arc::clone(self), part.clone());
        let tell = move |at, what| host.tell(&told, at, what);
        let (skew, by_harness) = (part.skew.subscribe(), tell.clone());
        // What a node notes is on its own clock.
        let noting = Noting::new(&part.membership, move |at, mut what| {
            let skew = *skew.borrow();
            if let What::Stall { from_ns } = &mut what {
                *from_ns = nanos(skew.host(Time(Duration::from_nanos(*from_ns))));
            }
            by_harness(skew.host(at), what);
        });
        let wires = Arc::clone(&part.wires);
        let sight = Sight::new(Arc::clone(&part.witness), wires, network.peer().id);
        let (machine, seen, trap) = (sight.machine(), sight.clone(), Arc::clone(&part.trap));
        let ending = Arc::new(AtomicBool::new(false));
        let as_asked = Arc::clone(&ending);
        let hear = move |at, event: &Event| {
            seen.hear(event);
            // That it stops when it was told to is no news.
            if !(matches!(event, Event::Stopped(_)) && as_asked.load(Ordering::Relaxed)) {
                noting.hear(at, event);
            }
        };
        let joined = match part.storage {
            StorageKind::Memory => {
                let store = SeenStore { store: storage::Memory, sight, trap };
                Joined::join(&network, &part.membership, machine, store, hear).await
            }
            StorageKind::Disk => {
                let clock = Arc::new(NodeClock::of_disk(part.stands.subscribe()));
                let store = SimStore { disk: part.disk.clone(), clock };
                let store = SeenStore { store, sight, trap };
                Joined::join(&network, &part.membership, machine, store, hear).await
            }
        }?;
        tell(clock::now(), joined.became());
        let (asks, asked) = mpsc::channel(ASKED_MAX);
        self.doing.send_replace(Doing::Up(asks));
        let ended = self.serve(&joined, asked).await;
        ending.store(ended.is_some(), Ordering::Relaxed);
        drop(joined);
        network.shutdown().await;
        if let Some(ended) = ended {
            // The asker may have given up.
            let _ = ended.send(());
        }
        Ok(())
    }

    /// Tells the harness, unless the node is gone.
    fn tell(&self, part: &Part, at: Time, what: What) {
        if part.wires.is_cut() {
            return;
        }
        let event = NodeEvent { at_ns: nanos(at), node: self.number, what };
        self.trace.event(&event);
        if part.events.try_send(event).is_err() {
            self.events_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Answers until it is told to end.
    async fn serve(
        &self,
        joined: &Joined<SeenMachine>,
        mut asked: mpsc::Receiver<Asked>,
    ) -> Option<oneshot::Sender<()>> {
        while let Some(asked) = asked.recv().await {
            let joined = joined.clone();
            // Whoever asked may have given up.
            match asked {
                Asked::Status(reply) => {
                    let events_lost = self.events_lost.load(Ordering::Relaxed);
                    drop(reply.send(joined.status(events_lost)));
                }
                Asked::Reached(index, reply) => drop(tokio::spawn(async move {
                    let reached = joined.reached(index).await;
                    drop(reply.send(reached.map(|()| clock::now())));
                })),
                Asked::HandOver(reply) => drop(tokio::spawn(async move {
                    drop(reply.send(joined.hand_over().await));
                })),
                Asked::Leave(reply) => drop(tokio::spawn(async move {
                    drop(reply.send(joined.leave().await));
                })),
                Asked::Log(from, reply) => drop(tokio::spawn(async move {
                    drop(reply.send(joined.log(from).await));
                })),
                Asked::Shutdown(ended) => return Some(ended),
            }
        }
        None
    }
}

async fn listen(
    part: &Part,
    address: SocketAddr,
    trace: &Arc<Trace>,
    clock: Arc<dyn Clock>,
) -> Result<Network, String> {
    let (wires, trace) = (Arc::clone(&part.wires), Arc::clone(trace));
    let socket = SimSocket::bind(address, wires, trace).await;
    let socket = socket.map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let building = Network::builder(NETWORK)
        .secret_key(SecretKey::from_bytes(part.secret))
        .clock(clock)
        .handshakes_per_address_max(ONE_ADDRESS_HANDSHAKES_MAX)
        .entropy(part.entropy)
        .datagrams(Arc::new(socket))
        .build();
    quiesce(building).await.map_err(|error| error.to_string())
}

/// Where a node listens.
pub(super) fn address(number: NodeNumber) -> SocketAddr {
    SocketAddr::new(turmoil::lookup(Host::name(number)), PORT)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All clients are one address here: it has all the places that there are.
const ONE_ADDRESS_HANDSHAKES_MAX: usize = 256;
const PORT: u16 = 7_000;
const ASKED_MAX: usize = 256;
