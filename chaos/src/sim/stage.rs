//! What the loop around the simulation, the run in it and its nodes share.
//!
//! Invariant: what only the loop can do is done between two ticks, in the order in which it was
//! wanted.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use runtime::Time;
use tokio::sync::oneshot;

use super::{host::Host, trace::Trace, witness::Witness};
use crate::{
    checker::{Check, Verdict},
    cluster::ClusterError,
    fault::NodeNumber,
};

/// Hosts and what is wanted of them; shared by the loop, the harness and the nodes.
pub(super) struct Stage {
    pub(super) hosts: BTreeMap<NodeNumber, Arc<Host>>,
    pub(super) trace: Arc<Trace>,
    orders: Mutex<VecDeque<(Order, oneshot::Sender<()>)>>,
    witnesses: Mutex<Vec<Arc<Witness>>>,
}

/// What only the loop around the simulation can do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// Start what runs on the host, anew if it runs.
    Start(NodeNumber),
    /// Drop all that runs on the host, which fell silent at that moment.
    Crash(NodeNumber, Time),
}

impl Stage {
    pub(super) fn new(nodes: u64, trace: Arc<Trace>) -> Self {
        let host = |node| (node, Arc::new(Host::new(node, Arc::clone(&trace))));
        let hosts = (1..=nodes).map(NodeNumber).map(host).collect();
        let (orders, witnesses) = Default::default();
        Self { hosts, trace, orders, witnesses }
    }

    /// Whoever sees the next cluster.
    pub(super) fn fresh_witness(&self) -> Arc<Witness> {
        let witness = Arc::<Witness>::default();
        lock(&self.witnesses).push(Arc::clone(&witness));
        witness
    }

    /// Whether what was seen of all clusters keeps the invariants.
    pub(super) fn invariants(&self) -> Check {
        let witnesses = lock(&self.witnesses);
        let broken = witnesses.iter().find_map(|witness| witness.broken());
        let views: u64 = witnesses.iter().map(|witness| witness.views()).sum();
        let (verdict, detail) = match broken {
            Some((at, violation)) => {
                (Verdict::Invalid, format!("{:.6} s: {violation}", at.0.as_secs_f64()))
            }
            None if views == 0 => (Verdict::Unknown, "no server was seen".into()),
            None => (Verdict::Valid, format!("they hold in each of {views} views of servers")),
        };
        Check { name: "invariants".into(), verdict, detail }
    }

    /// What is to be done next.
    pub(super) fn next_order(&self) -> Option<(Order, oneshot::Sender<()>)> {
        lock(&self.orders).pop_front()
    }

    /// Has it done before the next tick.
    pub(super) async fn order(&self, order: Order) -> Result<(), ClusterError> {
        let (done, waits) = oneshot::channel();
        lock(&self.orders).push_back((order, done));
        waits.await.map_err(|_| ClusterError::World("the simulation is over".into()))
    }

    /// A node's host.
    ///
    /// # Errors
    /// If there is none of that number.
    pub(super) fn host(&self, node: NodeNumber) -> Result<&Arc<Host>, ClusterError> {
        let unknown = || ClusterError::Gone { node, reason: "there is no such node".into() };
        self.hosts.get(&node).ok_or_else(unknown)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
