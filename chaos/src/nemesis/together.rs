//! What is done to several nodes at one moment.
//!
//! Invariant: it is done to each, also where it fails with another.

use std::sync::Arc;

use runtime::Time;
use tokio::task::JoinSet;

use crate::{
    cluster::{Cluster, ClusterError},
    fault::NodeNumber,
};

/// Does it to all of them at once; the time is that of the first.
pub(super) async fn together<C, F>(
    cluster: &Arc<C>,
    nodes: &[NodeNumber],
    act: impl Fn(Arc<C>, NodeNumber) -> F,
) -> Result<Time, ClusterError>
where
    C: Cluster,
    F: Future<Output = Result<Time, ClusterError>> + Send + 'static,
{
    // One alone needs nobody to wait for.
    if let [node] = nodes {
        return act(Arc::clone(cluster), *node).await;
    }
    let mut acting = JoinSet::new();
    for node in nodes {
        acting.spawn(act(Arc::clone(cluster), *node));
    }
    let mut first = Ok(cluster.now());
    while let Some(acted) = acting.join_next().await {
        let acted = acted.map_err(|error| ClusterError::World(format!("a task ended: {error}")));
        first = match (first, acted.flatten()) {
            (Ok(first), Ok(at)) => Ok(first.min(at)),
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
    }
    first
}
