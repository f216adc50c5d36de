//! The follower of a trial: how it is taken away and brought back, and how far it comes then.
//!
//! Invariant: its time begins with a bond that it did not have before, or with its return, where
//! the others never lost theirs; which of the two it was is said.

use std::time::Duration;

use runtime::{Index, Time};
use tokio::time::timeout;

use super::{
    CatchUp, Since,
    progress::{Asking, since as since_return, so_far},
    trial::Trial,
};
use crate::{
    cluster::{Cluster, ClusterError, CountsByLink, Fetched, NodeStatus},
    fault::{CrashPoint, Fault, LinkRule, NodeNumber},
    link::{LinkCounts, LinkFaults},
    plan::{LagPlan, forgets},
    run::{RunError, lab::FORM_BOUND},
};

/// The follower while it is away.
pub(super) struct Away {
    pub(super) node: NodeNumber,
    pub(super) at_ns: u64,
    before: NodeStatus,
    /// What had befallen its links.
    links: CountsByLink,
}

impl<C: Cluster> Trial<'_, C> {
    /// Both ways of each link of the node.
    fn rules(&self, node: NodeNumber, faults: &LinkFaults) -> Vec<LinkRule> {
        let rule = |from, to| LinkRule { from, to, faults: faults.clone() };
        let others = self.lab.nodes().filter(|other| *other != node);
        others.flat_map(|other| [rule(node, other), rule(other, node)]).collect()
    }

    /// From now on what the plan says befalls its links.
    pub(super) async fn hurt_links(&self, lag: &LagPlan, node: NodeNumber) -> Result<(), RunError> {
        if let Some(links) = &lag.links {
            self.lab.cluster.link(&self.rules(node, links)).await?;
        }
        Ok(())
    }

    /// Takes it away, and says what it was before.
    pub(super) async fn take_away(
        &self,
        lag: &LagPlan,
        node: NodeNumber,
    ) -> Result<Away, RunError> {
        let lab = self.lab;
        let before = lab.cluster.status(node).await?;
        let mut links = CountsByLink::new();
        let at = match lag.fault {
            Fault::Pause => lab.cluster.pause(node).await?,
            Fault::Isolate => {
                links = lab.cluster.link_counts().await?;
                lab.cluster.link(&self.rules(node, &LinkFaults::blocked())).await?
            }
            Fault::Wipe => {
                let at = lab.cluster.kill(&[node], CrashPoint::Any).await?;
                lab.cluster.wipe(node).await?;
                at
            }
            _ => lab.cluster.kill(&[node], CrashPoint::Any).await?,
        };
        lab.recorder.away(node).await?;
        Ok(Away { node, at_ns: lab.since_origin(at), before, links })
    }

    /// Brings it back, and sees it catch up.
    pub(super) async fn bring_back(
        &self,
        lag: &LagPlan,
        away: &Away,
        filled_ns: u64,
    ) -> Result<CatchUp, RunError> {
        let (lab, node) = (self.lab, away.node);
        let is_new = lag.fault.ends_process();
        // Where the others have not noticed that it was away there is no bond to wait for.
        let is_bonded = !is_new && lab.recorder.view().is_bonded(node);
        let base = if is_new { Fetched::default() } else { away.before.fetched.clone() };
        lab.recorder.back(node, is_new).await?;
        let asking = Asking::start(lab, node, base.clone());
        let bonded = async {
            match is_bonded {
                true => Ok(None),
                false => self.first_bond(node).await.map(Some),
            }
        };
        let (returned, bonded) = tokio::join!(self.put_back(lag, away), bonded);
        let (returned_ns, bonded) = (lab.since_origin(returned?), bonded?);
        let (since, from_ns, commit) = match bonded {
            Some((at_ns, commit)) => (Since::Bond, at_ns, commit),
            None => (Since::Return, returned_ns, self.committed().await?),
        };
        let bound = Duration::from_millis(lag.bound_ms);
        let reached = lab.stop.or(timeout(bound, self.reached(node, commit))).await;
        let caught_up_ns = match reached {
            Some(Ok(at)) => Some(lab.since_origin(at?)),
            Some(Err(_)) | None => None,
        };
        let mut progress = asking.finish().await?;
        let after = lab.cluster.status(node).await?;
        // What had come by the end is known, whenever it was asked last.
        let at_ns = caught_up_ns.unwrap_or_else(|| lab.since_origin(lab.cluster.now()));
        progress.retain(|earlier| earlier.at_ns < at_ns);
        progress.push(so_far(at_ns, &after, &base));
        let sources = since_return(&after.fetched, &base);
        let had = if self.comes_new(lag) { 0 } else { away.before.last };
        Ok(CatchUp {
            trial: lab.share.number,
            batch_size: self.size,
            fault: lag.fault,
            node,
            fault_at_ns: away.at_ns,
            filled_ns,
            returned_ns,
            since,
            from_ns,
            caught_up_ns,
            entries: commit.saturating_sub(had),
            bytes: lag.entries() * lag.command_bytes,
            fetched: sources.iter().map(|source| source.entries).sum(),
            fetched_bytes: sources.iter().map(|source| source.bytes).sum(),
            chunks: sources.iter().map(|source| source.chunks).sum(),
            peers: sources.len() as u64,
            wrong: after.fetched.wrong.saturating_sub(base.wrong),
            // What nodes noted is known at the end.
            snapshot: false,
            terms: after.term.saturating_sub(away.before.term),
            progress,
        })
    }

    /// Whether the follower comes back with nothing.
    fn comes_new(&self, lag: &LagPlan) -> bool {
        lag.fault == Fault::Wipe || forgets(&self.lab.plan, lag.fault)
    }

    /// Starts it again, or lets it go on; when that was.
    async fn put_back(&self, lag: &LagPlan, away: &Away) -> Result<Time, RunError> {
        let (cluster, node) = (&self.lab.cluster, away.node);
        Ok(match lag.fault {
            Fault::Pause => cluster.resume(node).await?,
            Fault::Isolate => {
                let links = lag.links.clone().unwrap_or_default();
                let at = cluster.link(&self.rules(node, &links)).await?;
                self.see_that_it_was_cut(away).await?;
                at
            }
            _ => cluster.restart(node).await?,
        })
    }

    /// A cut that nothing befell was none.
    async fn see_that_it_was_cut(&self, away: &Away) -> Result<(), RunError> {
        let after = self.lab.cluster.link_counts().await?;
        let mut befallen = LinkCounts::default();
        for rule in self.rules(away.node, &LinkFaults::default()) {
            let link = (rule.from, rule.to);
            let before = away.links.get(&link).copied().unwrap_or_default();
            befallen += after.get(&link).copied().unwrap_or_default().since(before);
        }
        if befallen.blocked > 0 {
            return Ok(());
        }
        let reason = format!("none of the {} datagrams on its links was blocked", befallen.offered);
        Err(ClusterError::Fault { node: away.node, reason }.into())
    }

    /// When the follower's first bond came up, and what was committed then, as the leader said
    /// when it was asked at once.
    async fn first_bond(&self, node: NodeNumber) -> Result<(u64, u64), RunError> {
        let bonded = self.lab.recorder.until(|view| view.first_bond_ns(node).is_some());
        let late = |_| RunError::Lab(format!("no bond for {} s", FORM_BOUND.as_secs()));
        let view = timeout(FORM_BOUND, bonded).await.map_err(late)??;
        Ok((view.first_bond_ns(node).unwrap_or_default(), self.committed().await?))
    }

    /// What the leader has committed.
    async fn committed(&self) -> Result<u64, RunError> {
        let lab = self.lab;
        let deadline = lab.cluster.now().plus(FORM_BOUND);
        loop {
            if let Some((leader, _)) = lab.recorder.view().leader()
                && let Ok(status) = lab.cluster.status(leader).await
            {
                return Ok(status.commit);
            }
            if lab.cluster.now() >= deadline {
                return Err(RunError::Lab(format!("no leader for {} s", FORM_BOUND.as_secs())));
            }
            lab.cluster.advance(lab.cluster.now().plus(LEADER_PAUSE)).await;
        }
    }

    /// When it had applied everything up to there. Whoever asks gives it up at some time.
    async fn reached(&self, node: NodeNumber, commit: u64) -> Result<Time, RunError> {
        loop {
            match self.lab.cluster.reached(node, Index(commit)).await {
                Err(ClusterError::Late { .. }) => {}
                reached => return Ok(reached?),
            }
        }
    }
}

const LEADER_PAUSE: Duration = Duration::from_millis(5);
