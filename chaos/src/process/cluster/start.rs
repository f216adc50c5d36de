//! How the nodes of a cluster are started, all at first and each again.
//!
//! They bind before they learn of each other: the system chooses the ports, so that two harnesses
//! never clash. Invariant: who a node is is drawn from the seed alone, and a store that was made
//! once is never made again.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use runtime::{Clock, Peer};
use tokio::{sync::mpsc, task::JoinSet};

use super::{ProcessCluster, disks::Disks, lock, task_ended, unexpected};
use crate::{
    cluster::{ClusterError, NodeEvent, Settings},
    fault::NodeNumber,
    plan::StorageKind,
    process::{
        HostClock, Places,
        child::Child,
        control::{Answer, Ask, Init, Transport},
    },
    seed::Stream,
    skew::ClockFault,
};

/// Who a node is and what it is started with.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) init: Init,
    log: PathBuf,
}

impl ProcessCluster {
    pub(in crate::process) async fn start(
        places: &Places,
        settings: Settings,
        events: mpsc::Sender<NodeEvent>,
    ) -> Result<Self, ClusterError> {
        let started = HostClock.now();
        // Another harness may run the same plan with the same seed on this host, and be handed a
        // port that one of our nodes has just given up: its group must not be ours.
        let group = format!(
            "{} {} {} {}",
            settings.seed,
            settings.number,
            std::process::id(),
            started.0.as_nanos()
        );
        let groups: Vec<String> =
            (1..=settings.groups.max(1)).map(|number| named(&group, number)).collect();
        let stores = places.stores.join(settings.number.to_string());
        for folder in [&places.logs, &stores] {
            std::fs::create_dir_all(folder).map_err(|error| {
                ClusterError::World(format!("{} cannot be made: {error}", folder.display()))
            })?;
        }
        let identities: BTreeMap<NodeNumber, Identity> = (1..=settings.nodes)
            .map(NodeNumber)
            .map(|node| {
                let store = |number| stores.join(named(&node.to_string(), number));
                let of_each = 1..=settings.groups.max(1);
                let stores = match settings.storage {
                    StorageKind::Disk => of_each.map(store).collect(),
                    StorageKind::Memory => Vec::new(),
                };
                let log = places.logs.join(format!("{node}.log"));
                (node, Identity { init: init(&settings, node, &groups, stores), log })
            })
            .collect();
        let mut cluster = Self {
            identities,
            peers: BTreeMap::new(),
            children: Arc::default(),
            links: Arc::default(),
            clocks: Arc::default(),
            disks: Arc::new(Disks::new(settings.seed)),
            wiped: Arc::default(),
            networks: Arc::default(),
            program: places.program.clone(),
            settings,
            groups,
            number: 1,
            events,
            started,
        };
        cluster.start_all().await?;
        Ok(cluster)
    }

    async fn start_all(&mut self) -> Result<(), ClusterError> {
        let mut binding = JoinSet::new();
        for (node, identity) in &self.identities {
            let starting = bind(self.program.clone(), identity.clone(), self.events.clone());
            let node = *node;
            binding.spawn(async move { (node, starting.await) });
        }
        while let Some(bound) = binding.join_next().await {
            let (node, started) = bound.map_err(|error| task_ended(&error))?;
            let (child, peer) = started?;
            self.peers.insert(node, peer);
            lock(&self.children).insert(node, Arc::new(child));
        }
        // From now on each listens where it was put, also after a restart.
        for (node, peer) in &self.peers {
            if let (Some(identity), Some(address)) =
                (self.identities.get_mut(node), peer.addresses.first())
            {
                identity.init.bind = *address;
            }
        }
        let mut joining = JoinSet::new();
        for child in lock(&self.children).values() {
            let (child, nodes) = (Arc::clone(child), self.nodes());
            joining.spawn(async move { join(&child, nodes).await });
        }
        while let Some(joined) = joining.join_next().await {
            joined.map_err(|error| task_ended(&error))??;
        }
        // Each has made its stores. One that vanishes from now on must not be made again: the
        // node would return as a voter that has forgotten its votes.
        for identity in self.identities.values_mut() {
            identity.init.store_must_exist = !identity.init.stores.is_empty();
        }
        Ok(())
    }
}

/// What the first group of a run with several has, and what the others have.
fn named(name: &str, group: u64) -> String {
    if group == 1 { name.to_owned() } else { format!("{name}-group-{group}") }
}

fn init(settings: &Settings, node: NodeNumber, groups: &[String], stores: Vec<PathBuf>) -> Init {
    let mut stream = Stream::named(settings.seed, &format!("node {node}"));
    Init {
        node,
        secret: secret(&mut stream),
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        groups: groups.to_vec(),
        transport: match settings.packet_faults {
            true => Transport::Packets { links: Vec::new() },
            false => Transport::Host,
        },
        consensus: settings.consensus.clone(),
        planted: settings.planted,
        clock: ClockFault::default(),
        disk: None,
        stores,
        store_must_exist: false,
        entropy: stream.draw(),
    }
}

pub(super) fn secret(stream: &mut Stream) -> [u8; 32] {
    let mut secret = [0; 32];
    for part in secret.chunks_exact_mut(8) {
        part.copy_from_slice(&stream.draw().to_le_bytes());
    }
    secret
}

/// Starts a node and has it listen.
///
/// # Errors
/// Of the world where the host has not got what the node needs: a process, its program, its
/// address, or the time.
pub(super) async fn bind(
    program: PathBuf,
    identity: Identity,
    events: mpsc::Sender<NodeEvent>,
) -> Result<(Child, Peer), ClusterError> {
    let node = identity.init.node;
    let child = Child::start(&program, node, identity.log, events).await?;
    let init = Ask::Init(Box::new(identity.init));
    match child.ask(init, "having bound its address", START_BOUND).await {
        Ok(Answer::Bound(peer)) => {
            child.listens();
            Ok((child, peer))
        }
        Ok(other) => Err(ClusterError::World(unexpected(node, &other).to_string())),
        Err(error) => Err(child.not_listening(&error.to_string()).await),
    }
}

pub(super) async fn join(
    child: &Child,
    nodes: Vec<(NodeNumber, Peer)>,
) -> Result<(), ClusterError> {
    match child.ask(Ask::Join { nodes }, "having joined the group", START_BOUND).await {
        Ok(_) => Ok(()),
        Err(error) => Err(child.not_started(&error.to_string()).await),
    }
}

/// A cold start reads the program from disk; a taken port is waited for.
const START_BOUND: Duration = Duration::from_secs(20);
