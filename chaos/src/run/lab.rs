//! What a run has at hand: a cluster, the recorder, the plan, and the phases before and after
//! the faults.
//!
//! Invariant: every wait has a bound, and what it waits for is a guarantee or an assumption that
//! ends up as a [`Check`] when it does not come.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use runtime::{Client, Index, Time};
use tokio::time::timeout;

use crate::{
    checker::{Check, Verdict},
    cluster::{Cluster, ClusterError, Settings},
    fault::NodeNumber,
    groups::Share,
    history::{LogLine, NodeLog, add_page},
    plan::{Plan, WorkloadPlan, consensus, packet_faults},
    register::Registers,
    run::{
        RunError, Stop,
        recorder::{Recorder, View, nanos},
    },
    seed::{Seed, Stream},
    workload::{Invoker, Numbers},
};

/// One cluster under one plan.
pub(crate) struct Lab<C> {
    pub(crate) cluster: Arc<C>,
    pub(crate) recorder: Recorder,
    pub(crate) invoker: Arc<Invoker<C>>,
    pub(crate) plan: Plan,
    pub(crate) seed: Seed,
    pub(crate) origin: Time,
    pub(crate) stop: Stop,
    pub(crate) numbers: Numbers,
    /// Which of the plan's groups it is about.
    pub(crate) share: Share,
}

impl<C: Cluster> Lab<C> {
    pub(crate) fn new(
        cluster: C,
        recorder: Recorder,
        (plan, seed): (Plan, Seed),
        origin: Time,
        stop: Stop,
    ) -> Self {
        let cluster = Arc::new(cluster);
        let share = Share::first(&plan);
        let invoker = Arc::new(Invoker::new(Arc::clone(&cluster), origin, share));
        let numbers = Numbers::default();
        Self { cluster, recorder, invoker, plan, seed, origin, stop, numbers, share }
    }

    /// The same for one trial of several that each have a group of their own: whatever they number,
    /// be it clients, keys or operations, no two number alike.
    pub(super) fn of_trial(self, share: Share, numbers: Numbers) -> Self {
        let invoker = Arc::new(Invoker::new(Arc::clone(&self.cluster), self.origin, share));
        Self { invoker, share, numbers, ..self }
    }

    /// The same about another group of the same nodes, with draws of its own.
    pub(super) fn beside(&self, share: Share) -> Result<Self, RunError> {
        let none = || RunError::Lab(format!("the nodes are in no group {}", share.number));
        let cluster = Arc::new(self.cluster.beside(share.number).ok_or_else(none)?);
        let invoker = Arc::new(Invoker::new(Arc::clone(&cluster), self.origin, share));
        let seed = Seed(Stream::named(self.seed, &format!("group {}", share.number)).draw());
        let (recorder, plan, stop) = (self.recorder.clone(), self.plan.clone(), self.stop.clone());
        let numbers = self.numbers.clone();
        Ok(Self {
            cluster,
            recorder,
            invoker,
            plan,
            seed,
            origin: self.origin,
            stop,
            numbers,
            share,
        })
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeNumber> + use<C> {
        (1..=self.plan.nodes).map(NodeNumber)
    }

    /// Nanoseconds since the beginning of the run.
    pub(crate) fn since_origin(&self, time: Time) -> u64 {
        nanos(Time(time.since(self.origin)))
    }

    /// Waits until all bonds stand and all follow one leader; `None` if that takes too long or
    /// the run is stopped.
    pub(crate) async fn formed(&self) -> Result<Option<View>, RunError> {
        let nodes = self.plan.nodes;
        let formed = self.recorder.until(|view| view.formed(nodes) || !view.failed.is_empty());
        let Some(waited) = self.stop.or(timeout(FORM_BOUND, formed)).await else {
            return Ok(None);
        };
        let Ok(view) = waited else { return Ok(None) };
        Ok(Some(view?).filter(|view| view.formed(nodes)))
    }

    /// Connects the clients, spread over the nodes; of [those that are pinned](pinned_to) each to
    /// one alone.
    pub(crate) async fn clients(
        &self,
        load: &WorkloadPlan,
    ) -> Result<Vec<Client<Registers>>, RunError> {
        let mut clients = Vec::new();
        let mut nodes: Vec<NodeNumber> = self.nodes().collect();
        for name in 0..load.clients {
            let known = if load.pinned { &nodes[..1] } else { &nodes[..] };
            clients.push(self.cluster.client(self.share.among_all(name), known).await?);
            nodes.rotate_left(1);
        }
        Ok(clients)
    }

    /// Waits until every node has applied what is committed, and reads their logs.
    pub(crate) async fn logs(&self) -> (Vec<NodeLog>, Check) {
        let mut complaints = Vec::new();
        let mut commit = 0;
        for node in self.nodes() {
            match self.cluster.status(node).await {
                Ok(status) => commit = commit.max(status.commit),
                Err(error) => complaints.push(error.to_string()),
            }
        }
        let mut logs = Vec::new();
        for node in self.nodes() {
            match self.node_log(node, commit).await {
                Ok(lines) => match self.odd_beginning(node, &lines, commit) {
                    Some(complaint) => complaints.push(complaint),
                    None => logs.push(NodeLog { node: node.0, group: self.share.number, lines }),
                },
                Err(error) => complaints.push(error.to_string()),
            }
        }
        (logs, caught_up(self.plan.nodes, commit, &complaints))
    }

    /// What is wrong with where a log begins: only snapshots take the beginning of one away, and
    /// one that has all of it taken away tells nothing.
    fn odd_beginning(&self, node: NodeNumber, lines: &[LogLine], commit: u64) -> Option<String> {
        let compacts = self.plan.snapshot_log_entries.is_some();
        match lines.first() {
            Some(first) if first.index > 1 && !compacts => {
                Some(format!("the log of {node} begins at entry {}", first.index))
            }
            None if compacts && commit > 0 => {
                Some(format!("the log of {node} is in its snapshot as a whole"))
            }
            _ => None,
        }
    }

    async fn node_log(&self, node: NodeNumber, commit: u64) -> Result<Vec<LogLine>, ClusterError> {
        let reached = timeout(CATCH_UP_BOUND, self.cluster.reached(node, Index(commit)));
        let late = ClusterError::Late {
            node,
            what: "having applied what was committed",
            bound_ms: u64::try_from(CATCH_UP_BOUND.as_millis()).unwrap_or(u64::MAX),
        };
        reached.await.map_err(|_| late)??;
        let (mut lines, mut from) = (Vec::new(), 1);
        loop {
            let page = self.cluster.log(node, Index(from)).await?;
            // A page that does not go on where the last one ended would never come to an end.
            let goes_on = page.first().is_some_and(|line| line.index >= from);
            if !goes_on || from > commit {
                return Ok(lines);
            }
            from = page.last().map_or(from, |line| line.index + 1);
            add_page(&mut lines, page);
        }
    }

    /// Whether all nodes stayed up, and what they say of themselves at the end.
    pub(crate) async fn nodes_stayed_up(&self, counts: &mut BTreeMap<String, u64>) -> Check {
        let mut complaints: Vec<String> = self
            .recorder
            .view()
            .failed
            .iter()
            .map(|(node, reason)| format!("node {node}: {reason}"))
            .collect();
        for node in self.nodes() {
            let Ok(status) = self.cluster.status(node).await else { continue };
            *counts.entry("events_lost".into()).or_default() += status.events_lost;
            if let Some(reason) = status.stopped {
                complaints.push(format!("node {node} stopped: {reason}"));
            }
        }
        match complaints.is_empty() {
            true => check("nodes", Verdict::Valid, "none stopped or died unasked".into()),
            false => check("nodes", Verdict::Invalid, complaints.join("; ")),
        }
    }
}

/// The node that a client of a plan with pinned clients knows.
pub(crate) fn pinned_to(plan: &Plan, client: u64) -> NodeNumber {
    NodeNumber(client % plan.nodes.max(1) + 1)
}

/// The settings of a cluster of this plan.
pub(crate) fn settings(plan: &Plan, seed: Seed, number: u64) -> Settings {
    Settings {
        nodes: plan.nodes,
        groups: plan.groups,
        consensus: consensus(plan),
        planted: plan.planted,
        storage: plan.storage,
        packet_faults: packet_faults(plan),
        seed: seed.child(number),
        number,
    }
}

/// Whether all nodes have applied what is committed.
pub(crate) fn caught_up(nodes: u64, commit: u64, complaints: &[String]) -> Check {
    match complaints.is_empty() {
        true => {
            let detail = format!("all {nodes} nodes applied index {commit}");
            check("caught-up", Verdict::Valid, detail)
        }
        false => check("caught-up", Verdict::Invalid, complaints.join("; ")),
    }
}

pub(crate) fn check(name: &str, verdict: Verdict, detail: String) -> Check {
    Check { name: name.into(), verdict, detail }
}

pub(crate) const FORM_BOUND: Duration = Duration::from_secs(30);
pub(crate) const CATCH_UP_BOUND: Duration = Duration::from_secs(30);
