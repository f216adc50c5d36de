//! A cluster of processes.
//!
//! Does to nodes what a run wants done, and asks them. Invariant: a node keeps its identity, its
//! store and its address through every restart.

mod disks;
mod links;
mod start;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use runtime::{Client, Clock, GroupKey, Index, Network, Peer, PeerId, SecretKey, Time};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    cluster::{Cluster, ClusterError, CountsByLink, NodeEvent, NodeStatus, Settings},
    disk::{DiskFault, DiskReport},
    fault::{CrashPoint, LinkRule, NodeNumber},
    history::LogLine,
    member::NETWORK,
    process::{
        HostClock,
        child::Child,
        control::{Answer, Ask, ClockReading, LinkSetting, Transport, line_of},
    },
    register::Registers,
    seed::Stream,
    skew::ClockFault,
};

use disks::Disks;
use links::Links;
use start::{Identity, bind, join, secret};

/// Nodes of one group or of several, each in a process of its own; seen as members of one.
#[derive(Clone)]
pub struct ProcessCluster {
    /// Who the nodes are; the same through every restart.
    identities: BTreeMap<NodeNumber, Identity>,
    /// Where they listen.
    peers: BTreeMap<NodeNumber, Peer>,
    children: Arc<Mutex<BTreeMap<NodeNumber, Arc<Child>>>>,
    /// What befalls the datagrams between them.
    links: Arc<Links>,
    /// What befalls their clocks, with all jumps so far.
    clocks: Arc<Mutex<BTreeMap<NodeNumber, ClockFault>>>,
    /// What befalls their disks.
    disks: Arc<Disks>,
    /// Nodes whose stores were taken away, until they have made new ones.
    wiped: Arc<Mutex<BTreeSet<NodeNumber>>>,
    /// The networks of clients, to be shut down with the cluster.
    networks: Arc<Mutex<Vec<Network>>>,
    program: PathBuf,
    settings: Settings,
    /// What members and clients of each group share.
    groups: Vec<String>,
    /// The group that it is seen as, from 1.
    number: u64,
    events: mpsc::Sender<NodeEvent>,
    started: Time,
}

impl ProcessCluster {
    /// Where a node listens, through all its restarts.
    pub fn peer(&self, node: NodeNumber) -> Option<&Peer> {
        self.peers.get(&node)
    }

    /// What a node's clocks show.
    ///
    /// # Errors
    /// A node that is down or does not answer.
    pub async fn clocks(&self, node: NodeNumber) -> Result<ClockReading, ClusterError> {
        self.tell_clock(node, None).await
    }

    async fn tell_clock(
        &self,
        node: NodeNumber,
        fault: Option<ClockFault>,
    ) -> Result<ClockReading, ClusterError> {
        match self.child(node)?.ask(Ask::Clock { fault }, "its clocks", ASK_BOUND).await? {
            Answer::Clock(reading) => Ok(reading),
            other => Err(unexpected(node, &other)),
        }
    }

    /// Asks a node as a member of the group.
    async fn ask(
        &self,
        node: NodeNumber,
        ask: Ask,
        (what, bound): (&'static str, Duration),
    ) -> Result<Answer, ClusterError> {
        self.child(node)?.ask_of(self.number, ask, what, bound).await
    }

    fn nodes(&self) -> Vec<(NodeNumber, Peer)> {
        self.peers.iter().map(|(node, peer)| (*node, peer.clone())).collect()
    }

    fn child(&self, node: NodeNumber) -> Result<Arc<Child>, ClusterError> {
        let gone = || ClusterError::Gone { node, reason: "it was killed".into() };
        lock(&self.children).get(&node).cloned().ok_or_else(gone)
    }

    /// Tells these nodes something about their links, all at once; those that are down are left
    /// out. Where one does not answer, the others have been told all the same.
    async fn tell_links(
        &self,
        nodes: impl IntoIterator<Item = (NodeNumber, Vec<LinkSetting>)>,
    ) -> Result<CountsByLink, ClusterError> {
        let mut telling = JoinSet::new();
        for (node, links) in nodes {
            let Ok(child) = self.child(node) else { continue };
            telling.spawn(async move {
                let told = child.ask(Ask::Links { links }, "its links", ASK_BOUND).await;
                (node, told)
            });
        }
        let mut counts = CountsByLink::new();
        let mut failed = None;
        while let Some(told) = telling.join_next().await {
            let (node, told) = told.map_err(|error| task_ended(&error))?;
            match told {
                Ok(Answer::Links(reports)) => {
                    counts.extend(links::counts(node, reports, &self.peers));
                }
                Ok(other) => failed = Some(unexpected(node, &other)),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(counts), Err)
    }
}

impl Cluster for ProcessCluster {
    fn now(&self) -> Time {
        HostClock.now()
    }

    async fn advance(&self, until: Time) {
        HostClock.sleep_until(until).await;
    }

    fn started(&self) -> Time {
        self.started
    }

    async fn kill(&self, nodes: &[NodeNumber], point: CrashPoint) -> Result<Time, ClusterError> {
        if point != CrashPoint::Any {
            let node = nodes.first().copied().unwrap_or_default();
            let reason = format!("nobody sees when a process is at {point}");
            return Err(ClusterError::Fault { node, reason });
        }
        let of = |node: &NodeNumber| Ok((*node, self.child(*node)?));
        let children = nodes.iter().map(of).collect::<Result<Vec<_>, ClusterError>>()?;
        let at = HostClock.now();
        // All are struck before any is waited for: none lives to see another die.
        children.iter().try_for_each(|(_, child)| child.strike())?;
        for (node, child) in children {
            child.has_died().await?;
            lock(&self.children).remove(&node);
        }
        Ok(at)
    }

    async fn end(&self, node: NodeNumber) -> Result<Time, ClusterError> {
        let (at, child) = (HostClock.now(), self.child(node)?);
        child.stop().await?;
        lock(&self.children).remove(&node);
        Ok(at)
    }

    async fn leave(&self, node: NodeNumber) -> Result<Time, ClusterError> {
        let (at, child) = (HostClock.now(), self.child(node)?);
        match child.ask(Ask::Leave, "the wish to leave", LEAVE_BOUND).await? {
            Answer::Left => self.end(node).await.map(|_| at),
            other => Err(unexpected(node, &other)),
        }
    }

    async fn wipe(&self, node: NodeNumber) -> Result<(), ClusterError> {
        let unknown = || ClusterError::Gone { node, reason: "there is no such node".into() };
        let identity = self.identities.get(&node).ok_or_else(unknown)?;
        for store in &identity.init.stores {
            std::fs::remove_dir_all(store).map_err(|error| {
                ClusterError::World(format!("{} cannot be removed: {error}", store.display()))
            })?;
        }
        lock(&self.wiped).insert(node);
        Ok(())
    }

    async fn hand_over(&self, node: NodeNumber) -> Result<Time, ClusterError> {
        let at = HostClock.now();
        match self.ask(node, Ask::HandOver, ("the wish to hand over", HAND_OVER_BOUND)).await {
            Ok(Answer::HandedOver) => Ok(at),
            Ok(other) => Err(unexpected(node, &other)),
            Err(error) => Err(error),
        }
    }

    async fn pause(&self, node: NodeNumber) -> Result<Time, ClusterError> {
        self.child(node)?.pause().await
    }

    async fn resume(&self, node: NodeNumber) -> Result<Time, ClusterError> {
        self.child(node)?.resume()
    }

    async fn restart(&self, node: NodeNumber) -> Result<Time, ClusterError> {
        let unknown = || ClusterError::Gone { node, reason: "there is no such node".into() };
        let mut identity = self.identities.get(&node).cloned().ok_or_else(unknown)?;
        if let Transport::Packets { links } = &mut identity.init.transport {
            *links = self.links.of(node, &self.peers);
        }
        // Only a node whose store was taken away may make another one.
        identity.init.store_must_exist &= !lock(&self.wiped).contains(&node);
        identity.init.clock = lock(&self.clocks).get(&node).copied().unwrap_or_default();
        identity.init.disk = self.disks.of(node);
        let at = HostClock.now();
        let (child, _) = bind(self.program.clone(), identity, self.events.clone()).await?;
        join(&child, self.nodes()).await?;
        lock(&self.wiped).remove(&node);
        lock(&self.children).insert(node, Arc::new(child));
        Ok(at)
    }

    async fn link(&self, rules: &[LinkRule]) -> Result<Time, ClusterError> {
        if !self.settings.packet_faults {
            let reason = "its links cannot be hurt: it was started on the host's transport";
            let node = rules.first().map_or(NodeNumber(1), |rule| rule.from);
            return Err(ClusterError::Fault { node, reason: reason.into() });
        }
        let at = HostClock.now();
        self.links.set(rules);
        let senders: BTreeSet<NodeNumber> = rules.iter().map(|rule| rule.from).collect();
        let told = senders.into_iter().map(|node| (node, self.links.of(node, &self.peers)));
        self.tell_links(told).await?;
        Ok(at)
    }

    async fn clock(&self, node: NodeNumber, fault: &ClockFault) -> Result<Time, ClusterError> {
        let at = HostClock.now();
        {
            let mut clocks = lock(&self.clocks);
            let before = clocks.get(&node).map_or(0, |known| known.wall_jump_ms);
            let wall_jump_ms = before.saturating_add(fault.wall_jump_ms);
            clocks.insert(node, ClockFault { wall_jump_ms, ..*fault });
        }
        // A node that is down learns it as it returns.
        if self.child(node).is_err() {
            return Ok(at);
        }
        let told = self.tell_clock(node, Some(*fault)).await?;
        match told.fault == *fault {
            true => Ok(at),
            false => {
                let reason = format!("its clocks say: {}", told.fault);
                Err(ClusterError::Fault { node, reason })
            }
        }
    }

    async fn disk(&self, node: NodeNumber, fault: Option<DiskFault>) -> Result<Time, ClusterError> {
        let at = HostClock.now();
        self.disks.set(node, fault);
        // A node that is down learns it as it returns.
        let Ok(child) = self.child(node) else { return Ok(at) };
        match child.ask(Ask::Harm { fault }, "what befalls its disk", ASK_BOUND).await? {
            Answer::Disk(report) if report.fault == fault => Ok(at),
            other => Err(unexpected(node, &other)),
        }
    }

    async fn disk_report(&self, node: NodeNumber) -> Result<DiskReport, ClusterError> {
        match self.child(node)?.ask(Ask::Disk, "what befell its disk", ASK_BOUND).await? {
            Answer::Disk(report) => Ok(report),
            other => Err(unexpected(node, &other)),
        }
    }

    async fn flip(&self, node: NodeNumber) -> Result<String, ClusterError> {
        let store = self.identities.get(&node).and_then(|known| known.init.stores.first());
        let flipped = match (store, self.child(node)) {
            (Some(store), Err(_)) => self.disks.flip(store),
            (Some(_), Ok(_)) => Err("it runs, and its store is in use".into()),
            (None, _) => Err("it has no store".into()),
        };
        flipped.map_err(|reason| ClusterError::Fault { node, reason })
    }

    async fn link_counts(&self) -> Result<CountsByLink, ClusterError> {
        self.tell_links(self.peers.keys().map(|node| (*node, Vec::new()))).await
    }

    async fn status(&self, node: NodeNumber) -> Result<NodeStatus, ClusterError> {
        match self.ask(node, Ask::Status, ("status", ASK_BOUND)).await? {
            Answer::Status(status) => Ok(status),
            other => Err(unexpected(node, &other)),
        }
    }

    async fn reached(&self, node: NodeNumber, index: Index) -> Result<Time, ClusterError> {
        let ask = Ask::Reached { index: index.0 };
        match self.ask(node, ask, ("having applied an index", REACHED_BOUND)).await? {
            Answer::Reached { at_ns } => Ok(Time(Duration::from_nanos(at_ns))),
            other => Err(unexpected(node, &other)),
        }
    }

    async fn log(&self, node: NodeNumber, from: Index) -> Result<Vec<LogLine>, ClusterError> {
        match self.ask(node, Ask::Log { from: from.0 }, ("its log", ASK_BOUND)).await? {
            Answer::Log(rows) => Ok(rows.into_iter().map(line_of).collect()),
            other => Err(unexpected(node, &other)),
        }
    }

    async fn client(
        &self,
        name: u64,
        nodes: &[NodeNumber],
    ) -> Result<Client<Registers>, ClusterError> {
        let failed = |reason: String| ClusterError::Client { client: name, reason };
        let mut stream = Stream::named(self.settings.seed, &format!("client {name}"));
        let network = Network::builder(NETWORK)
            .secret_key(SecretKey::from_bytes(secret(&mut stream)))
            .bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .clock(Arc::new(HostClock))
            .entropy(stream.draw())
            .build()
            .await
            .map_err(|error| failed(error.to_string()))?;
        let members: Vec<Peer> =
            nodes.iter().filter_map(|node| self.peers.get(node)).cloned().collect();
        let group = usize::try_from(self.number).ok().and_then(|number| number.checked_sub(1));
        let group = group.and_then(|place| self.groups.get(place));
        let group = group.ok_or_else(|| failed(format!("there is no group {}", self.number)))?;
        let client = network
            .client(GroupKey::from_secret(group))
            .consensus(self.settings.consensus.clone())
            .members(members)
            .connect()
            .await
            .map_err(|error| failed(error.to_string()))?;
        lock(&self.networks).push(network);
        Ok(client)
    }

    fn beside(&self, group: u64) -> Option<Self> {
        let is_there = (1..=self.settings.groups).contains(&group);
        is_there.then(|| Self { number: group, ..self.clone() })
    }

    fn number(&self, peer: PeerId) -> Option<NodeNumber> {
        self.peers.iter().find(|(_, known)| known.id == peer).map(|(node, _)| *node)
    }

    async fn stop(&self) -> Result<(), ClusterError> {
        let networks = std::mem::take(&mut *lock(&self.networks));
        let children = std::mem::take(&mut *lock(&self.children));
        let mut ending = JoinSet::new();
        for child in children.into_values() {
            ending.spawn(async move { child.stop().await });
        }
        for network in networks {
            ending.spawn(async move {
                network.shutdown().await;
                Ok(())
            });
        }
        while let Some(ended) = ending.join_next().await {
            ended.map_err(|error| task_ended(&error))??;
        }
        Ok(())
    }
}

fn unexpected(node: NodeNumber, answer: &Answer) -> ClusterError {
    ClusterError::Refused { node, reason: format!("an answer to another question: {answer:?}") }
}

fn task_ended(error: &tokio::task::JoinError) -> ClusterError {
    ClusterError::World(format!("a task ended: {error}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const ASK_BOUND: Duration = Duration::from_secs(10);
/// Longer than a node asks to leave.
const LEAVE_BOUND: Duration = Duration::from_secs(15);
/// A successor that does not come is given up after an election timeout.
const HAND_OVER_BOUND: Duration = Duration::from_secs(10);
const REACHED_BOUND: Duration = Duration::from_secs(60);
