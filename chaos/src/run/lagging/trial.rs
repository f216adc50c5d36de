//! One trial: a fresh group under load, a follower that is taken away, and its return.
//!
//! Invariant: every wait has a bound, and whatever ends the load early, what was seen is kept.

use std::time::Duration;

use runtime::Consistency;
use tokio::time::timeout;

use super::{
    Found, Look,
    absence::Away,
    fill::{Filled, fill},
};
use crate::{
    checker::{Check, Verdict},
    cluster::{Cluster, ClusterError},
    fault::{NodeNumber, Target},
    plan::{LagPlan, WorkloadPlan},
    register::{FILLED, Read},
    run::{
        Lab, Mark, RunError,
        judging::not_formed,
        lab::{FORM_BOUND, check},
        loaded::{rate_missed, start_load},
        sampling::Sampling,
    },
    schedule::Scheduled,
    seed::Stream,
};

/// See the module.
pub(super) struct Trial<'a, C> {
    pub(super) lab: &'a Lab<C>,
    pub(super) size: u32,
}

impl<'a, C: Cluster> Trial<'a, C> {
    pub(super) fn new(lab: &'a Lab<C>, size: u32) -> Self {
        Self { lab, size }
    }

    /// Carries it out; what it comes to is added to what was found.
    pub(super) async fn carry_out(&self, found: &mut Found) -> Result<(), RunError> {
        let lab = self.lab;
        let (Some(lag), Some(load)) = (&lab.plan.lag, &lab.plan.workload) else { return Ok(()) };
        let begun_ns = lab.since_origin(lab.cluster.started());
        lab.recorder.mark(self.forming(begun_ns, None)).await?;
        let Some(view) = lab.formed().await? else {
            self.add(found, not_formed(lab.stop.is_stopped()));
            return Ok(());
        };
        lab.recorder.mark(self.forming(begun_ns, Some(view.changed_ns))).await?;
        let clients = lab.clients(load).await?;
        let sampling = Sampling::start(lab);
        let (stopper, driving) = start_load(lab, load, clients);
        let mut look = Look {
            trial: lab.share.number,
            window_ns: (begun_ns, 0),
            calm_ns: 0,
            statuses: vec![],
        };
        let carried = self.under_load(lag, load, &mut look, found).await;
        stopper.stop();
        look.statuses = sampling.finish().await?;
        let driven =
            driving.await.map_err(|error| RunError::Lab(format!("the load ended: {error}")))?;
        found.driven.due += driven.due;
        found.driven.busy += driven.busy;
        found.driven.late += driven.late;
        for (reason, count) in lab.invoker.reasons() {
            *found.counts.entry(reason).or_default() += count;
        }
        let (node, filled) = match carried {
            Ok(Some(carried)) => carried,
            Ok(None) => return Ok(()),
            Err(error) => return Err(error),
        };
        self.after_load(node, filled, found).await?;
        look.window_ns.1 = lab.since_origin(lab.cluster.now());
        found.looks.push(look);
        Ok(())
    }

    /// From the calm before the fault until the follower has caught up; nothing where it came to
    /// no end.
    async fn under_load(
        &self,
        lag: &LagPlan,
        load: &WorkloadPlan,
        look: &mut Look,
        found: &mut Found,
    ) -> Result<Option<(NodeNumber, Filled)>, RunError> {
        let lab = self.lab;
        if let Some(missed) = rate_missed(lab, load, "after the group had formed").await? {
            self.add(found, missed);
            return Ok(None);
        }
        let calm = lab.cluster.now();
        look.calm_ns = lab.since_origin(calm);
        let load_ms = load.duration_ms.of(lab.plan.profile);
        let calm_over = calm.plus(Duration::from_millis(load_ms));
        if lab.stop.or(lab.cluster.advance(calm_over)).await.is_none() {
            return Ok(None);
        }
        let (leader, node) = self.leader_and_follower().await?;
        self.hurt_links(lag, node).await?;
        let away = self.take_away(lag, node).await?;
        let place = self.tell_strike(lag, &away, found).await?;
        let others: Vec<NodeNumber> = [leader]
            .into_iter()
            .chain(lab.nodes().filter(|other| *other != leader && *other != node))
            .collect();
        let client = lab.cluster.client(lab.share.among_all(FILLER), &others).await?;
        let bytes = usize::try_from(lag.command_bytes).unwrap_or(usize::MAX);
        let filled = fill(lab, &client, (lag.entries(), bytes)).await?;
        drop(client);
        let filled_ns = lab.since_origin(lab.cluster.now());
        if lab.stop.is_stopped() {
            return Ok(None);
        }
        let caught = match self.bring_back(lag, &away, filled_ns).await {
            Ok(caught) => caught,
            // A store that was closed by a kill must open again: this is no fault of the lab.
            Err(RunError::Cluster(error @ ClusterError::Start { .. })) => {
                self.add(found, check("rejoined", Verdict::Invalid, error.to_string()));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        found.schedule.faults[place].returned_ns = Some(caught.returned_ns);
        lab.recorder.schedule(&found.schedule).await?;
        let until_ns = caught.caught_up_ns;
        lab.recorder.mark(self.mark(lag, &away, until_ns)).await?;
        let is_back = until_ns.is_some();
        found.catch_ups.push(caught);
        if !is_back {
            return Ok(None);
        }
        if let Some(unseated) = lab.until_all_vote().await {
            self.add(found, unseated);
            return Ok(None);
        }
        let rest = lab.cluster.now().plus(REST);
        Ok(lab.stop.or(lab.cluster.advance(rest)).await.map(|()| (node, filled)))
    }

    /// Who leads, and one that does not, drawn.
    async fn leader_and_follower(&self) -> Result<(NodeNumber, NodeNumber), RunError> {
        let lab = self.lab;
        let led = lab.recorder.until(|view| view.leader().is_some());
        let none = |_| RunError::Lab(format!("no leader for {} s", FORM_BOUND.as_secs()));
        let view = timeout(FORM_BOUND, led).await.map_err(none)??;
        let (leader, _) = view.leader().unwrap_or_default();
        let followers: Vec<NodeNumber> = lab.nodes().filter(|node| *node != leader).collect();
        let drawn = Stream::named(lab.seed, "lagging").pick(&followers).copied();
        drawn.map(|node| (leader, node)).ok_or_else(|| RunError::Lab("there is no follower".into()))
    }

    /// Tells of the strike; yields its place in the schedule.
    async fn tell_strike(
        &self,
        lag: &LagPlan,
        away: &Away,
        found: &mut Found,
    ) -> Result<usize, RunError> {
        let lab = self.lab;
        lab.recorder.mark(self.mark(lag, away, None)).await?;
        let place = found.schedule.faults.len();
        let begun_ns = lab.since_origin(lab.cluster.started());
        found.schedule.faults.push(Scheduled {
            trial: lab.share.number,
            step: 0,
            due_ns: away.at_ns.saturating_sub(begun_ns),
            fault: lag.fault,
            target: Target::Follower,
            return_after_ms: 0,
            draw: 0,
            node: Some(away.node),
            nodes: vec![away.node],
            struck_ns: Some(away.at_ns),
            returned_ns: None,
        });
        lab.recorder.schedule(&found.schedule).await?;
        Ok(place)
    }

    /// That the group lives, what its logs hold, and that its machines counted what it committed.
    async fn after_load(
        &self,
        node: NodeNumber,
        filled: Filled,
        found: &mut Found,
    ) -> Result<(), RunError> {
        let lab = self.lab;
        let live = lab.prove_liveness().await?;
        self.add(found, live);
        let (logs, caught_up) = lab.logs().await;
        found.logs.extend(logs);
        self.add(found, caught_up);
        for check in lab.look_finally().await?.into_iter().flatten() {
            self.add(found, check);
        }
        self.add(found, self.counted(node, filled).await?);
        let up = lab.nodes_stayed_up(&mut found.counts).await;
        self.add(found, up);
        Ok(())
    }

    /// Whether the group and the follower by itself have as many as were acknowledged.
    async fn counted(&self, node: NodeNumber, filled: Filled) -> Result<Check, RunError> {
        let lab = self.lab;
        let Filled { acknowledged, unknown } = filled;
        let client = lab.cluster.client(lab.share.among_all(COUNTER), &[node]).await?;
        let read = async |consistency| {
            let counted = client.query(Read { key: FILLED }, consistency).await;
            counted.map(|counted| counted.answer.unwrap_or(0)).map_err(|error| error.to_string())
        };
        let strong = read(Consistency::Strong).await;
        let weak = read(Consistency::Weak).await;
        let (verdict, detail) = match (strong, weak) {
            (Ok(all), Ok(own)) => {
                let fits = (acknowledged..=acknowledged + unknown).contains(&all) && own == all;
                let detail = format!(
                    "{acknowledged} commands were acknowledged and {unknown} may have been; the \
                     group counted {all}, and node {node} {own}"
                );
                (if fits { Verdict::Valid } else { Verdict::Invalid }, detail)
            }
            (Err(reason), _) | (_, Err(reason)) => (Verdict::Unknown, reason),
        };
        Ok(check("filled", verdict, detail))
    }

    fn add(&self, found: &mut Found, check: Check) {
        found.checks.push((self.lab.share.number, check));
    }

    fn forming(&self, at_ns: u64, until_ns: Option<u64>) -> Mark {
        let (kind, detail) = ("forming".into(), format!("trial {}", self.lab.share.number));
        Mark { at_ns, kind, node: None, nodes: Vec::new(), detail, until_ns }
    }

    fn mark(&self, lag: &LagPlan, away: &Away, until_ns: Option<u64>) -> Mark {
        let came = if until_ns.is_some() { ", returned and caught up" } else { "" };
        Mark {
            at_ns: away.at_ns,
            kind: lag.fault.word().into(),
            node: Some(away.node),
            nodes: vec![away.node],
            detail: format!("trial {}, batch size {}{came}", self.lab.share.number, self.size),
            until_ns,
        }
    }
}

/// The load goes on for a moment after the return, so that the end is seen under load, too.
const REST: Duration = Duration::from_millis(300);
/// The names of clients; the workload's and those that prove that nodes live are lower.
const FILLER: u64 = 2_000;
const COUNTER: u64 = 2_001;
