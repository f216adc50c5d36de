//! The third world: one operating-system process per node, real QUIC over loopback, wall time.
//!
//! Nodes are started from the program that runs the laboratory, by its hidden `node` command,
//! which calls [`node::main`]. The control channel carries faults and status; operations travel
//! only over QUIC. Invariant: no node outlives the harness, however that ends.

mod child;
mod clock;
mod cluster;
mod control;
pub mod node;
mod packets;
mod spawner;

use std::{path::PathBuf, sync::Arc};

use runtime::{Clock, Time};
use tokio::sync::mpsc;

use crate::{
    cluster::{ClusterError, NodeEvent, Settings, World},
    plan::{Plan, packet_faults},
};

pub use clock::HostClock;
pub use cluster::ProcessCluster;
pub use control::ClockReading;
pub use packets::PacketSocket;

/// Makes clusters of processes.
#[derive(Clone, Debug)]
pub struct ProcessWorld {
    places: Places,
    clock: Arc<HostClock>,
}

/// Where a world of processes finds and leaves things.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// The program that becomes a node when told `node`: usually this one.
    pub program: PathBuf,
    /// Gets a file `<n>.log` for each node.
    pub logs: PathBuf,
    /// Gets the nodes' stores, and is removed by [`World::clean`].
    pub stores: PathBuf,
}

impl ProcessWorld {
    /// A world at these places. Creates nothing yet.
    pub fn new(places: Places) -> Self {
        Self { places, clock: Arc::new(HostClock) }
    }
}

impl World for ProcessWorld {
    type Cluster = ProcessCluster;

    fn name(&self) -> &'static str {
        "process"
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn transport(&self, plan: &Plan) -> &'static str {
        match packet_faults(plan) {
            true => "QUIC on a UDP socket of the laboratory's over loopback",
            false => "QUIC on iroh's own IP transport over loopback UDP",
        }
    }

    async fn start(
        &self,
        settings: Settings,
        events: mpsc::Sender<NodeEvent>,
    ) -> Result<ProcessCluster, ClusterError> {
        ProcessCluster::start(&self.places, settings, events).await
    }

    /// On a thread of its own: what is under way goes on meanwhile.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ClusterError> {
        let computed = tokio::task::spawn_blocking(work).await;
        computed.map_err(|error| ClusterError::World(format!("a computation ended: {error}")))
    }

    fn clean(&self) -> Result<(), String> {
        match std::fs::remove_dir_all(&self.places.stores) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("{}: {error}", self.places.stores.display()))
            }
            _ => Ok(()),
        }
    }
}
