//! The moment at which a node crashes: any, one at which its disk is busy, or a chosen point.
//!
//! Invariant: every wait for one has a bound, and a point that does not come is a fault that did
//! not take place.

use std::time::Duration;

use runtime::Time;
use tokio::time::timeout;

use super::{SimCluster, lock};
use crate::{
    cluster::{Cluster as _, ClusterError},
    fault::{CrashPoint, NodeNumber},
    plan::StorageKind,
    sim::clock,
};

impl SimCluster {
    /// Moments are not alike: in every other case a crash waits a while for one at which something
    /// is on its way to a node's disk.
    pub(super) fn patience(&self) -> Duration {
        match lock(&self.moments).chance(500) {
            true if self.settings.storage == StorageKind::Disk => BUSY_BOUND,
            _ => Duration::ZERO,
        }
    }

    /// Waits until something is on its way to the disk of one of them.
    pub(super) async fn until_busy(
        &self,
        nodes: &[NodeNumber],
        bound: Duration,
    ) -> Result<Time, ClusterError> {
        let parts = nodes.iter().map(|node| self.part(*node)).collect::<Result<Vec<_>, _>>()?;
        let latest = clock::now().plus(bound);
        while !parts.iter().any(|part| part.disk.is_busy()) && clock::now() < latest {
            self.advance(clock::now().plus(BUSY_PAUSE)).await;
        }
        Ok(clock::now())
    }

    /// Waits until the node has fallen silent at that point.
    pub(super) async fn until_trapped(
        &self,
        node: NodeNumber,
        point: CrashPoint,
    ) -> Result<Time, ClusterError> {
        let part = self.part(node)?;
        let sprung = timeout(POINT_BOUND, part.trap.arm(point)).await;
        part.trap.disarm();
        match sprung {
            Ok(Ok(at)) => Ok(at),
            _ => Err(missed(node, point)),
        }
    }
}

pub(super) fn missed(node: NodeNumber, point: CrashPoint) -> ClusterError {
    let reason = format!("it was not at point {point} within {} s", POINT_BOUND.as_secs());
    ClusterError::Fault { node, reason }
}

/// How long a crash waits for its moment.
const BUSY_BOUND: Duration = Duration::from_millis(100);
/// How long a crash waits for the point that was chosen for it.
pub(super) const POINT_BOUND: Duration = Duration::from_secs(5);
const BUSY_PAUSE: Duration = Duration::from_millis(1);
