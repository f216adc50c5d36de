//! What makes simulated clusters.
//!
//! Invariant: a cluster is handed out once all of its nodes are up.

use std::sync::Arc;

use runtime::Time;
use tokio::sync::mpsc;

use super::{SimCluster, TRANSPORT};
use crate::{
    cluster::{ClusterError, NodeEvent, Settings, World},
    plan::Plan,
    sim::{
        clock,
        stage::{Order, Stage},
    },
};

/// Makes simulated clusters, one after the other, on the same hosts.
pub(in crate::sim) struct SimWorld {
    pub(in crate::sim) stage: Arc<Stage>,
}

impl World for SimWorld {
    type Cluster = SimCluster;

    fn name(&self) -> &'static str {
        "sim"
    }

    fn now(&self) -> Time {
        clock::now()
    }

    fn transport(&self, _plan: &Plan) -> &'static str {
        TRANSPORT
    }

    async fn start(
        &self,
        settings: Settings,
        events: mpsc::Sender<NodeEvent>,
    ) -> Result<SimCluster, ClusterError> {
        let cluster = SimCluster::new(Arc::clone(&self.stage), settings);
        for node in cluster.peers.keys() {
            cluster.cast(*node, events.clone())?;
        }
        for node in cluster.peers.keys() {
            self.stage.order(Order::Start(*node)).await?;
        }
        for node in cluster.peers.keys() {
            cluster.is_up(*node).await?;
        }
        Ok(cluster)
    }

    fn clean(&self) -> Result<(), String> {
        Ok(())
    }

    /// In place: no virtual time passes meanwhile, and a thread would run beside the simulation.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ClusterError> {
        Ok(work())
    }
}
