//! The disk faults of one trial: begun, seen to have taken place, and ended.
//!
//! Of faults that overlap on one node the latest befalls its disk. Invariant: what a node says by
//! itself decides whether its disk failed, beside what the medium counted; nothing is believed
//! because it was asked for.

use std::{collections::BTreeMap, time::Duration};

use runtime::Time;
use tokio::time::timeout;

use crate::{
    cluster::{Cluster, ClusterError},
    disk::{DiskFault, DiskKind},
    fault::{CrashPoint, NodeNumber},
    run::{Befallen, Came, Lab, RunError, View},
};

/// The disk faults that are on, by their place in the schedule, and what came of the others.
#[derive(Debug, Default)]
pub(super) struct Disks {
    on: BTreeMap<usize, (NodeNumber, DiskFault)>,
    pub(super) befallen: Vec<Befallen>,
}

impl Disks {
    /// A fault begins.
    pub(super) async fn begin<C: Cluster>(
        &mut self,
        lab: &Lab<C>,
        place: usize,
        (node, fault): (NodeNumber, DiskFault),
    ) -> Result<Time, RunError> {
        if fault.kind.ends_node() {
            lab.recorder.doomed(node).await?;
        }
        self.on.insert(place, (node, fault));
        let begun = match fault.kind {
            DiskKind::Flip => lab.cluster.kill(&[node], CrashPoint::Any).await,
            _ => lab.cluster.disk(node, Some(fault)).await,
        };
        Ok(begun?)
    }

    /// Sees that a fault took place, while the node is not back yet. One that is `excused` need
    /// not have.
    pub(super) async fn see<C: Cluster>(
        &mut self,
        lab: &Lab<C>,
        place: usize,
        excused: bool,
    ) -> Result<(), RunError> {
        let Some((node, fault)) = self.on.get(&place).copied() else { return Ok(()) };
        let excused = excused || lab.stop.is_stopped();
        let came = match fault.kind {
            DiskKind::Stall => stalled(lab, node).await,
            DiskKind::Flip => refused(lab, node).await?,
            _ => stopped(lab, node, excused).await?,
        };
        if let (Came::Nothing(reason), false) = (&came, excused) {
            return Err(ClusterError::Fault { node, reason: reason.clone() }.into());
        }
        self.befallen.push(Befallen { node, kind: fault.kind, came });
        Ok(())
    }

    /// A fault ends, and a node that it ended returns.
    pub(super) async fn end<C: Cluster>(
        &mut self,
        lab: &Lab<C>,
        place: usize,
    ) -> Result<Time, ClusterError> {
        let cluster = &lab.cluster;
        let Some((node, fault)) = self.on.get(&place).copied() else { return Ok(cluster.now()) };
        let before = self.in_force(node);
        self.on.remove(&place);
        let after = self.in_force(node);
        match fault.kind {
            DiskKind::Flip => {
                cluster.wipe(node).await?;
                return cluster.restart(node).await;
            }
            DiskKind::Stall => {}
            _ => drop(cluster.end(node).await?),
        }
        // What befalls the disk and goes on is left alone: to set it again would forget what it
        // has done already.
        let at = match before == after {
            true => cluster.now(),
            false => cluster.disk(node, after.map(|(_, fault)| fault)).await?,
        };
        if fault.kind == DiskKind::Stall { Ok(at) } else { cluster.restart(node).await }
    }

    /// What befalls the disk of the node now, and its place.
    fn in_force(&self, node: NodeNumber) -> Option<(usize, DiskFault)> {
        let of_node = self.on.iter().filter(|(_, (other, _))| *other == node);
        let on_medium = of_node.filter(|(_, (_, fault))| fault.kind != DiskKind::Flip);
        on_medium.map(|(place, (_, fault))| (*place, *fault)).next_back()
    }
}

/// Waits until the node has stopped and said why.
async fn stopped<C: Cluster>(
    lab: &Lab<C>,
    node: NodeNumber,
    excused: bool,
) -> Result<Came, RunError> {
    let bound = if excused { Duration::ZERO } else { STOP_BOUND };
    let has_stopped = |view: &View| view.stopped(node).is_some();
    let view = match timeout(bound, lab.recorder.until(has_stopped)).await {
        Ok(view) => view?,
        Err(_) => lab.recorder.view(),
    };
    // Whoever ended altogether cannot be asked what its disk counted.
    let report = lab.cluster.disk_report(node).await.ok();
    Ok(match view.stopped(node) {
        Some(reason) => Came::Stopped { reason: reason.to_owned(), report },
        None => {
            let errors = report.map_or(0, |report| report.errors);
            Came::Nothing(format!("{errors} errors of its disk, and it goes on"))
        }
    })
}

async fn stalled<C: Cluster>(lab: &Lab<C>, node: NodeNumber) -> Came {
    match lab.cluster.disk_report(node).await {
        Ok(report) if report.stalls > 0 => Came::Stalled(report.stalls),
        Ok(_) => Came::Nothing("no sync of its disk took its time".into()),
        Err(error) => Came::Nothing(error.to_string()),
    }
}

/// Damages the store of a node that was killed; it must not start with it.
async fn refused<C: Cluster>(lab: &Lab<C>, node: NodeNumber) -> Result<Came, RunError> {
    let file = lab.cluster.flip(node).await?;
    match lab.cluster.restart(node).await {
        Err(ClusterError::Start { reason, .. }) => Ok(Came::Refused { file, reason }),
        Err(error) => Err(error.into()),
        Ok(_) => {
            lab.cluster.kill(&[node], CrashPoint::Any).await?;
            Ok(Came::Opened { file })
        }
    }
}

/// A disk that fails does so with the next write, which in a group with a leader comes at once.
const STOP_BOUND: Duration = Duration::from_secs(10);
