//! The labs of a run with several groups: that of the first, at whose leader faults are aimed,
//! and those of the others on the same nodes.
//!
//! Invariant: what is done with one group is done with each, and what one of them lacks all lack.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use runtime::Role;
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    checker::{Check, Verdict},
    cluster::{Cluster, NodeStatus},
    fault::NodeNumber,
    groups::{Share, together},
    history::NodeLog,
    plan::WorkloadPlan,
    run::{
        Lab, RunError, Stopper,
        lab::{FORM_BOUND, check},
        loaded::start_load,
    },
    workload::Driven,
};

/// The lab of each group, the first one's first.
pub(crate) struct Labs<'a, C> {
    pub(crate) first: &'a Lab<C>,
    pub(crate) others: Vec<Lab<C>>,
}

impl<'a, C: Cluster> Labs<'a, C> {
    /// All groups of the plan.
    pub(super) fn of(first: &'a Lab<C>) -> Result<Self, RunError> {
        let others = Share::others(&first.plan).map(|share| first.beside(share));
        Ok(Self { first, others: others.collect::<Result<_, _>>()? })
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &Lab<C>> {
        [self.first].into_iter().chain(&self.others)
    }

    /// Waits until the others have formed as well; what to say of one that does not, nothing where
    /// all have or the run is stopped.
    pub(super) async fn others_formed(&self) -> Option<Check> {
        for lab in &self.others {
            match self.first.stop.or(timeout(FORM_BOUND, formed(lab))).await {
                None => return None,
                Some(Ok(())) => {}
                Some(Err(_)) => {
                    let detail = format!(
                        "group {}: not all nodes were bonded and followed one leader within {} s",
                        lab.share.number,
                        FORM_BOUND.as_secs()
                    );
                    return Some(check("formed", Verdict::Invalid, detail));
                }
            }
        }
        None
    }

    /// Connects clients and starts the load of each.
    pub(super) async fn start(&self, load: &WorkloadPlan) -> Result<Loads, RunError> {
        let mut loads = Loads(Vec::new());
        for lab in self.each() {
            let clients = lab.clients(load).await?;
            loads.0.push(start_load(lab, load, clients));
        }
        Ok(loads)
    }

    /// Which of the others one of these nodes leads.
    pub(crate) async fn led_by(&self, nodes: &[NodeNumber]) -> BTreeSet<u64> {
        let mut led = BTreeSet::new();
        for lab in &self.others {
            for node in nodes {
                // Who is down leads nobody.
                let status = lab.cluster.status(*node).await;
                if status.is_ok_and(|status| status.role == Role::Leader) {
                    led.insert(lab.share.number);
                }
            }
        }
        led
    }

    /// Proves that each group lives.
    pub(super) async fn prove_liveness(&self) -> Result<Check, RunError> {
        let mut checks = Vec::new();
        for lab in self.each() {
            checks.push((lab.share.number, lab.prove_liveness().await?));
        }
        Ok(together("liveness", checks))
    }

    /// The logs of all, and whether each node has applied what is committed.
    pub(super) async fn logs(&self) -> (Vec<NodeLog>, Check) {
        let (mut logs, mut checks) = (Vec::new(), Vec::new());
        for lab in self.each() {
            let (of_group, caught_up) = lab.logs().await;
            logs.extend(of_group);
            checks.push((lab.share.number, caught_up));
        }
        (logs, together("caught-up", checks))
    }

    /// Whether all members stayed up.
    pub(super) async fn stayed_up(&self, counts: &mut BTreeMap<String, u64>) -> Check {
        let mut checks = vec![(1, self.first.nodes_stayed_up(counts).await)];
        for lab in &self.others {
            // What their nodes lost is counted already.
            let stayed_up = lab.nodes_stayed_up(&mut BTreeMap::new()).await;
            checks.push((lab.share.number, stayed_up));
        }
        together("nodes", checks)
    }
}

/// The loads of all groups.
pub(super) struct Loads(Vec<(Stopper, JoinHandle<Driven>)>);

impl Loads {
    /// From now on nothing is due.
    pub(super) fn stop(&self) {
        self.0.iter().for_each(|(stopper, _)| stopper.stop());
    }

    /// Waits until all is answered.
    pub(super) async fn finish(self) -> Result<Driven, RunError> {
        let mut driven = Driven::default();
        for (_, driving) in self.0 {
            let ended = driving.await.map_err(|error| RunError::Lab(format!("the load: {error}")));
            let Driven { due, busy, late } = ended?;
            driven.due += due;
            driven.busy += busy;
            driven.late += late;
        }
        Ok(driven)
    }
}

/// Resolves once all nodes of a group hold all bonds and follow one leader.
async fn formed<C: Cluster>(lab: &Lab<C>) {
    let others = usize::try_from(lab.plan.nodes).unwrap_or(usize::MAX).saturating_sub(1);
    loop {
        let mut leaders = BTreeSet::new();
        let mut bonded = true;
        for node in lab.nodes() {
            let status = lab.cluster.status(node).await.ok();
            bonded &= status.as_ref().is_some_and(|status| status.bonded.len() == others);
            leaders
                .insert(status.and_then(|NodeStatus { leader, term, .. }| Some((leader?, term))));
        }
        if bonded && leaders.len() == 1 && !leaders.contains(&None) {
            return;
        }
        lab.cluster.advance(lab.cluster.now().plus(LOOK_PAUSE)).await;
    }
}

const LOOK_PAUSE: Duration = Duration::from_millis(20);
