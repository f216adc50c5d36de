//! How far a follower is that catches up, asked again and again.
//!
//! Asking costs a line each way on the control channel, and nothing on the network. Invariant:
//! however long it takes, no more than [`SAMPLES_MAX`] answers are kept, evenly spread.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use crate::{
    cluster::{Cluster, Fetched, NodeStatus, Source},
    fault::NodeNumber,
    run::{Lab, RunError, Stop, Stopper},
};

/// How far it was at a moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// When it was asked.
    pub at_ns: u64,
    /// What it had applied.
    pub applied: u64,
    /// Entries that it had fetched in bulk since its return, by whom they came from.
    pub fetched: Vec<(NodeNumber, u64)>,
}

/// Asks, until it is told to end.
pub(super) struct Asking {
    stopper: Stopper,
    task: JoinHandle<Vec<Progress>>,
}

impl Asking {
    /// Begins to ask. What the follower had fetched before is taken off.
    pub(super) fn start<C: Cluster>(lab: &Lab<C>, node: NodeNumber, before: Fetched) -> Self {
        let (stopper, over) = Stop::new();
        let (cluster, origin) = (Arc::clone(&lab.cluster), lab.origin);
        let task = tokio::spawn(async move {
            let mut kept = Kept::default();
            loop {
                let due = cluster.now().plus(INTERVAL);
                // One that is down says so, and one that stands still answers later.
                if let Some(Ok(status)) = over.or(cluster.status(node)).await {
                    let at = cluster.now().since(origin);
                    let at_ns = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
                    kept.add(so_far(at_ns, &status, &before));
                }
                if over.or(cluster.advance(due)).await.is_none() {
                    return kept.samples;
                }
            }
        });
        Self { stopper, task }
    }

    /// What was answered, in order.
    pub(super) async fn finish(self) -> Result<Vec<Progress>, RunError> {
        self.stopper.stop();
        self.task.await.map_err(|error| RunError::Lab(format!("who asks a follower: {error}")))
    }
}

/// What it has fetched since, of each.
pub(super) fn since(fetched: &Fetched, before: &Fetched) -> Vec<Source> {
    let earlier = |node| before.sources.iter().find(|source| source.node == node).copied();
    let since = fetched.sources.iter().map(|source| match earlier(source.node) {
        // A process that was started anew counts anew.
        Some(earlier) if earlier.entries <= source.entries => Source {
            node: source.node,
            chunks: source.chunks - earlier.chunks.min(source.chunks),
            entries: source.entries - earlier.entries,
            bytes: source.bytes - earlier.bytes.min(source.bytes),
        },
        _ => *source,
    });
    since.filter(|source| source.entries > 0).collect()
}

/// How far it is, as it says.
pub(super) fn so_far(at_ns: u64, status: &NodeStatus, before: &Fetched) -> Progress {
    let fetched = since(&status.fetched, before);
    let fetched = fetched.iter().map(|source| (source.node, source.entries)).collect();
    Progress { at_ns, applied: status.applied, fetched }
}

/// Every answer at first; every second where there are too many, and so on.
#[derive(Default)]
struct Kept {
    samples: Vec<Progress>,
    /// One of so many is kept.
    stride: usize,
    seen: usize,
}

impl Kept {
    fn add(&mut self, progress: Progress) {
        self.stride = self.stride.max(1);
        if self.seen.is_multiple_of(self.stride) {
            self.samples.push(progress);
        }
        self.seen += 1;
        if self.samples.len() > SAMPLES_MAX {
            let mut place = 0;
            self.samples.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.stride *= 2;
        }
    }
}

/// Short beside a catch-up that anyone waits for.
const INTERVAL: Duration = Duration::from_millis(10);
const SAMPLES_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_catch_up_answers_are_kept_from_all_of_it() {
        let mut kept = Kept::default();
        for at_ns in 0..10_000 {
            kept.add(Progress { at_ns, applied: at_ns, fetched: Vec::new() });
        }
        let at: Vec<u64> = kept.samples.iter().map(|progress| progress.at_ns).collect();
        assert!((SAMPLES_MAX / 2..=SAMPLES_MAX).contains(&at.len()), "{}", at.len());
        let step = at[1] - at[0];
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] == step), "{at:?}");
        assert_eq!((at[0], at[at.len() - 1] + step >= 10_000), (0, true));
    }

    #[test]
    fn what_was_fetched_before_counts_for_nothing_unless_the_process_is_another() {
        let source = |node, entries| Source {
            node: NodeNumber(node),
            chunks: entries / 10,
            entries,
            bytes: entries * 64,
        };
        let fetched = |sources: &[Source]| Fetched { sources: sources.to_vec(), wrong: 0 };
        let before = fetched(&[source(1, 100), source(2, 50)]);
        let now = fetched(&[source(1, 300), source(2, 50), source(3, 70)]);
        assert_eq!(since(&now, &before), [source(1, 200), source(3, 70)]);
        let anew = fetched(&[source(1, 40)]);
        assert_eq!(since(&anew, &before), [source(1, 40)]);
    }
}
