//! The simulated world as a run sees it.
//!
//! The run itself is a client on the simulated network. What it wants done to hosts it has the
//! loop around the simulation do between two ticks. Invariant: a node that is killed is silent
//! from that very moment on.

mod moment;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use runtime::{Client, Clock as _, GroupKey, Index, Network, Peer, PeerId, SecretKey, Time};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::{
    clock::{self, SimClock},
    disk::Disk,
    host::{self, Asked, Doing, Host, Part},
    quiesce::quiesce,
    socket::{SimSocket, Wires},
    stage::{Order, Stage},
    trap::Trap,
    witness::Witness,
};
use crate::{
    cluster::{Cluster, ClusterError, CountsByLink, NodeEvent, NodeStatus, Settings},
    disk::{DiskFault, DiskReport},
    fault::{CrashPoint, LinkRule, NodeNumber},
    history::LogLine,
    link::{LinkFaults, Table},
    member::{Membership, NETWORK},
    register::Registers,
    seed::{Seed, Stream},
    skew::{ClockFault, Skew},
};

use moment::{POINT_BOUND, missed};
pub(super) use world::SimWorld;

/// Nodes of one group, each on a host of its own.
pub(super) struct SimCluster {
    stage: Arc<Stage>,
    settings: Settings,
    peers: BTreeMap<NodeNumber, Peer>,
    group: String,
    /// The rules in force; they outlive the nodes that go by them.
    rules: Mutex<BTreeMap<(NodeNumber, NodeNumber), LinkFaults>>,
    /// Nodes whose disks were taken away; they get new ones.
    wiped: Mutex<BTreeSet<NodeNumber>>,
    /// How often each node was started.
    starts: Mutex<BTreeMap<NodeNumber, u64>>,
    witness: Arc<Witness>,
    /// Decides at which moments nodes crash.
    moments: Mutex<Stream>,
    /// The networks of clients, to be shut down with the cluster.
    networks: Mutex<Vec<Network>>,
    started: Time,
}

impl SimCluster {
    fn new(stage: Arc<Stage>, settings: Settings) -> Self {
        let peers = (1..=settings.nodes)
            .map(NodeNumber)
            .map(|node| {
                let id = SecretKey::from_bytes(secret(&mut stream(&settings, node))).peer_id();
                (node, Peer { id, addresses: vec![host::address(node)] })
            })
            .collect();
        let witness = stage.fresh_witness();
        let moments = Mutex::new(Stream::named(settings.seed, "moments"));
        Self {
            stage,
            group: format!("{} {}", settings.seed, settings.number),
            settings,
            peers,
            rules: Mutex::default(),
            wiped: Mutex::default(),
            starts: Mutex::default(),
            witness,
            moments,
            networks: Mutex::default(),
            started: clock::now(),
        }
    }

    /// Gives a node its part: with an empty disk at first, and later with the one it had.
    fn cast(&self, node: NodeNumber, events: mpsc::Sender<NodeEvent>) -> Result<(), ClusterError> {
        let host = self.stage.host(node)?;
        let start = {
            let mut starts = lock(&self.starts);
            let start = starts.entry(node).or_default();
            *start += 1;
            *start
        };
        let mut stream = stream(&self.settings, node);
        let secret = secret(&mut stream);
        let entropy = Seed(stream.draw()).child(start).0;
        let is_wiped = lock(&self.wiped).remove(&node);
        let disk = match host.part() {
            Some(part) if start > 1 && !is_wiped => part.disk,
            _ => {
                let name = match start {
                    1 => format!("disk {node}"),
                    start => format!("disk {node} of start {start}"),
                };
                let path = PathBuf::from(Host::name(node));
                Disk::new(path, Stream::named(self.settings.seed, &name))
            }
        };
        let nodes = self.peers.iter().map(|(node, peer)| (*node, peer.clone())).collect();
        let membership = Membership {
            group: self.group.clone(),
            consensus: self.settings.consensus.clone(),
            planted: self.settings.planted,
            nodes: Arc::new(nodes),
        };
        let wires = Arc::new(Wires::new(Table::new(Seed(entropy))));
        let (stands, storage) = (watch::Sender::new(false), self.settings.storage);
        let witness = Arc::clone(&self.witness);
        let trap = Arc::new(Trap::new(disk.clone(), Arc::clone(&wires)));
        // A node's clocks outlive it.
        let skew = match host.part() {
            Some(part) if start > 1 => part.skew,
            _ => watch::Sender::new(Skew::default()),
        };
        host.cast(Part {
            secret,
            entropy,
            storage,
            membership,
            disk,
            wires,
            stands,
            skew,
            events,
            witness,
            trap,
        });
        let rules = lock(&self.rules).clone();
        let of_node = rules.iter().filter(|((from, _), _)| *from == node);
        of_node.clone().try_for_each(|((from, to), faults)| self.hurt(*from, *to, faults))
    }

    /// Waits until a node that was started is a member.
    async fn is_up(&self, node: NodeNumber) -> Result<(), ClusterError> {
        let mut doing = self.stage.host(node)?.doing();
        let started = doing.wait_for(|doing| !matches!(doing, Doing::Down));
        let late = || ClusterError::Late { node, what: "its start", bound_ms: millis(START_BOUND) };
        let started = timeout(START_BOUND, started).await.map_err(|_| late())?;
        match started.as_deref() {
            Ok(Doing::Failed(reason)) => Err(ClusterError::Start { node, reason: reason.clone() }),
            _ => Ok(()),
        }
    }

    /// Asks a node that is up; `None` if it ends meanwhile.
    async fn ask<T>(
        &self,
        node: NodeNumber,
        (what, bound): (&'static str, Duration),
        ask: impl FnOnce(oneshot::Sender<T>) -> Asked,
    ) -> Result<T, ClusterError> {
        let gone = |reason: &str| ClusterError::Gone { node, reason: reason.into() };
        let asks = match &*self.stage.host(node)?.doing().borrow() {
            Doing::Up(asks) => asks.clone(),
            Doing::Down => return Err(gone("it was killed")),
            Doing::Failed(reason) => return Err(gone(reason)),
        };
        let (reply, answer) = oneshot::channel();
        let asked = async {
            asks.send(ask(reply)).await.map_err(|_| gone("it ended"))?;
            answer.await.map_err(|_| gone("it ended"))
        };
        let late = || ClusterError::Late { node, what, bound_ms: millis(bound) };
        timeout(bound, asked).await.map_err(|_| late())?
    }

    fn part(&self, node: NodeNumber) -> Result<Part, ClusterError> {
        let gone = || ClusterError::Gone { node, reason: "it was never started".into() };
        self.stage.host(node)?.part().ok_or_else(gone)
    }

    fn hurt(
        &self,
        from: NodeNumber,
        to: NodeNumber,
        faults: &LinkFaults,
    ) -> Result<(), ClusterError> {
        let refused = |reason: String| ClusterError::Fault { node: from, reason };
        let remote = self.address(to).ok_or_else(|| refused(format!("no node {to}")))?;
        let part = self.part(from)?;
        let set = part.wires.set(remote, faults.clone());
        set.map_err(|error| refused(error.to_string()))
    }

    fn address(&self, node: NodeNumber) -> Option<SocketAddr> {
        self.peers.get(&node)?.addresses.first().copied()
    }

    fn is_running(&self, node: NodeNumber) -> bool {
        let host = self.stage.host(node);
        host.is_ok_and(|host| matches!(&*host.doing().borrow(), Doing::Up(_)))
    }

    fn silence(&self, node: NodeNumber) -> Result<(), ClusterError> {
        let part = self.part(node)?;
        part.disk.freeze();
        part.wires.cut();
        Ok(())
    }
}

impl Cluster for SimCluster {
    fn now(&self) -> Time {
        clock::now()
    }

    async fn advance(&self, until: Time) {
        SimClock.sleep_until(until).await;
    }

    fn started(&self) -> Time {
        self.started
    }

    async fn kill(&self, nodes: &[NodeNumber], point: CrashPoint) -> Result<Time, ClusterError> {
        let at = match (point, nodes) {
            (CrashPoint::Any, _) => self.until_busy(nodes, self.patience()).await?,
            (CrashPoint::Sync, [node]) => match self.until_busy(nodes, POINT_BOUND).await? {
                at if self.part(*node)?.disk.is_busy() => at,
                _ => return Err(missed(*node, point)),
            },
            (_, [node]) => self.until_trapped(*node, point).await?,
            _ => {
                let node = nodes.first().copied().unwrap_or_default();
                let reason = format!("of several nodes not all are at point {point} at one moment");
                return Err(ClusterError::Fault { node, reason });
            }
        };
        // All fall silent before any is dropped: none lives to see another die.
        nodes.iter().try_for_each(|node| self.silence(*node))?;
        for node in nodes {
            self.stage.order(Order::Crash(*node, at)).await?;
        }
        Ok(at)
    }

    async fn end(&self, node: NodeNumber) -> Result<Time, ClusterError> {
        let at = clock::now();
        self.ask(node, ("its end", END_BOUND), Asked::Shutdown).await?;
        self.silence(node)?;
        self.stage.order(Order::Crash(node, clock::now())).await?;
        Ok(at)
    }

    async fn leave(&self, node: NodeNumber) -> Result<Time, ClusterError> {
        let at = clock::now();
        let left = self.ask(node, ("the wish to leave", LEAVE_BOUND), Asked::Leave).await?;
        left.map_err(|reason| ClusterError::Refused { node, reason })?;
        self.end(node).await.map(|_| at)
    }

    async fn wipe(&self, node: NodeNumber) -> Result<(), ClusterError> {
        lock(&self.wiped).insert(node);
        Ok(())
    }

    async fn hand_over(&self, node: NodeNumber) -> Result<Time, ClusterError> {
        let (at, what) = (clock::now(), ("the wish to hand over", HAND_OVER_BOUND));
        let handed_over = self.ask(node, what, Asked::HandOver).await?;
        handed_over.map_err(|reason| ClusterError::Refused { node, reason }).map(|()| at)
    }

    async fn pause(&self, node: NodeNumber) -> Result<Time, ClusterError> {
        let (at, part) = (clock::now(), self.part(node)?);
        part.stands.send_replace(true);
        part.wires.stand(true);
        Ok(at)
    }

    async fn resume(&self, node: NodeNumber) -> Result<Time, ClusterError> {
        let (at, part) = (clock::now(), self.part(node)?);
        part.stands.send_replace(false);
        part.wires.stand(false);
        Ok(at)
    }

    async fn restart(&self, node: NodeNumber) -> Result<Time, ClusterError> {
        let (at, part) = (clock::now(), self.part(node)?);
        self.cast(node, part.events)?;
        self.stage.order(Order::Start(node)).await?;
        if let Err(error) = self.is_up(node).await {
            // What is left of it must not be in the way of the next start.
            self.silence(node)?;
            self.stage.order(Order::Crash(node, clock::now())).await?;
            return Err(error);
        }
        Ok(at)
    }

    async fn link(&self, rules: &[LinkRule]) -> Result<Time, ClusterError> {
        let at = clock::now();
        for LinkRule { from, to, faults } in rules {
            lock(&self.rules).insert((*from, *to), faults.clone());
            self.hurt(*from, *to, faults)?;
        }
        Ok(at)
    }

    async fn clock(&self, node: NodeNumber, fault: &ClockFault) -> Result<Time, ClusterError> {
        let (at, part) = (clock::now(), self.part(node)?);
        part.skew.send_modify(|skew| skew.set(at, *fault));
        Ok(at)
    }

    async fn disk(&self, node: NodeNumber, fault: Option<DiskFault>) -> Result<Time, ClusterError> {
        let (at, part) = (clock::now(), self.part(node)?);
        part.disk.harm().set(fault);
        Ok(at)
    }

    async fn disk_report(&self, node: NodeNumber) -> Result<DiskReport, ClusterError> {
        Ok(self.part(node)?.disk.harm().report())
    }

    async fn flip(&self, node: NodeNumber) -> Result<String, ClusterError> {
        let flipped = self.part(node)?.disk.flip();
        let nothing = || "its disk holds no log".to_owned();
        flipped.ok_or_else(|| ClusterError::Fault { node, reason: nothing() })
    }

    async fn link_counts(&self) -> Result<CountsByLink, ClusterError> {
        let mut counts = CountsByLink::new();
        for node in self.peers.keys().filter(|node| self.is_running(**node)) {
            for report in self.part(*node)?.wires.table().reports() {
                let to = self.peers.keys().find(|to| self.address(**to) == Some(report.remote));
                counts.extend(to.map(|to| ((*node, *to), report.counts)));
            }
        }
        Ok(counts)
    }

    async fn status(&self, node: NodeNumber) -> Result<NodeStatus, ClusterError> {
        self.ask(node, ("status", ASK_BOUND), Asked::Status).await
    }

    async fn reached(&self, node: NodeNumber, index: Index) -> Result<Time, ClusterError> {
        let what = ("having applied an index", REACHED_BOUND);
        let reached = self.ask(node, what, |reply| Asked::Reached(index, reply)).await?;
        reached.map_err(|reason| ClusterError::Refused { node, reason })
    }

    async fn log(&self, node: NodeNumber, from: Index) -> Result<Vec<LogLine>, ClusterError> {
        let page = self.ask(node, ("its log", ASK_BOUND), |reply| Asked::Log(from, reply)).await?;
        page.map_err(|reason| ClusterError::Refused { node, reason })
    }

    async fn client(
        &self,
        name: u64,
        nodes: &[NodeNumber],
    ) -> Result<Client<Registers>, ClusterError> {
        let failed = |reason: String| ClusterError::Client { client: name, reason };
        let mut stream = Stream::named(self.settings.seed, &format!("client {name}"));
        let secret = secret(&mut stream);
        let wires = Arc::new(Wires::new(Table::new(Seed(stream.draw()))));
        let at = SocketAddr::new(turmoil::lookup(HARNESS), 0);
        let socket = SimSocket::bind(at, wires, Arc::clone(&self.stage.trace)).await;
        let socket = socket.map_err(|error| failed(error.to_string()))?;
        let building = Network::builder(NETWORK)
            .secret_key(SecretKey::from_bytes(secret))
            .datagrams(Arc::new(socket))
            .clock(Arc::new(SimClock))
            .entropy(stream.draw())
            .build();
        let network = quiesce(building).await.map_err(|error| failed(error.to_string()))?;
        let members: Vec<Peer> =
            nodes.iter().filter_map(|node| self.peers.get(node)).cloned().collect();
        let client = network
            .client(GroupKey::from_secret(&self.group))
            .consensus(self.settings.consensus.clone())
            .members(members)
            .connect()
            .await
            .map_err(|error| failed(error.to_string()))?;
        lock(&self.networks).push(network);
        Ok(client)
    }

    fn number(&self, peer: PeerId) -> Option<NodeNumber> {
        self.peers.iter().find(|(_, known)| known.id == peer).map(|(node, _)| *node)
    }

    async fn stop(&self) -> Result<(), ClusterError> {
        for node in self.peers.keys() {
            // One that does not end in good order ends all the same.
            drop(self.ask(*node, ("its end", END_BOUND), Asked::Shutdown).await);
            self.silence(*node)?;
            self.stage.order(Order::Crash(*node, clock::now())).await?;
        }
        let networks = std::mem::take(&mut *lock(&self.networks));
        for network in networks {
            network.shutdown().await;
        }
        Ok(())
    }
}

/// All that is drawn for a node.
fn stream(settings: &Settings, node: NodeNumber) -> Stream {
    Stream::named(settings.seed, &format!("node {node}"))
}

fn secret(stream: &mut Stream) -> [u8; 32] {
    let mut secret = [0; 32];
    for chunk in secret.chunks_mut(8) {
        chunk.copy_from_slice(&stream.draw().to_le_bytes());
    }
    secret
}

fn millis(bound: Duration) -> u64 {
    u64::try_from(bound.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of the host on which the run and its clients are.
pub(super) const HARNESS: &str = "harness";
pub(super) const TRANSPORT: &str = "QUIC on simulated UDP, in virtual time";
const START_BOUND: Duration = Duration::from_secs(30);
const ASK_BOUND: Duration = Duration::from_secs(5);
const REACHED_BOUND: Duration = Duration::from_secs(60);
/// Longer than a node asks to leave.
const LEAVE_BOUND: Duration = Duration::from_secs(15);
/// A successor that does not come is given up after an election timeout.
const HAND_OVER_BOUND: Duration = Duration::from_secs(10);
const END_BOUND: Duration = Duration::from_secs(5);
