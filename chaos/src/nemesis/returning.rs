//! What is waited for when a node is back: that it has what the others had committed.
//!
//! Invariant: nobody is waited for here by itself; whoever waits has a bound.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use runtime::{Index, Time};

use crate::{
    cluster::{Cluster, ClusterError},
    fault::NodeNumber,
    run::Lab,
};

/// Resolves when the node has applied everything up to there, and if it is a new server, when it
/// votes, also in the other groups; the moment is when it did in this one.
pub(super) async fn caught_up<C: Cluster>(
    cluster: &C,
    others: &[Arc<C>],
    node: NodeNumber,
    commit: u64,
    is_new: bool,
) -> Result<Time, ClusterError> {
    let mut at = cluster.reached(node, Index(commit)).await?;
    while is_new && !cluster.status(node).await?.votes {
        cluster.advance(cluster.now().plus(VOTES_PAUSE)).await;
        at = cluster.now();
    }
    for other in others {
        while is_new && !other.status(node).await?.votes {
            other.advance(other.now().plus(VOTES_PAUSE)).await;
        }
    }
    Ok(at)
}

/// What is committed now, as the leader or else any node that is up knows it.
pub(super) async fn committed<C: Cluster>(lab: &Lab<C>, down: &BTreeSet<NodeNumber>) -> u64 {
    let leader = lab.recorder.view().leader().map(|(leader, _)| leader);
    let others = lab.nodes().filter(|node| Some(*node) != leader);
    for node in leader.into_iter().chain(others).filter(|node| !down.contains(node)) {
        if let Ok(status) = lab.cluster.status(node).await {
            return status.commit;
        }
    }
    0
}

/// Before a new server is asked again whether it votes.
const VOTES_PAUSE: Duration = Duration::from_millis(5);
