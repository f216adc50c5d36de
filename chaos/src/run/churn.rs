//! Who is a member, while nodes leave, lose their stores and return: waited for.
//!
//! Invariant: the next trial begins when every node votes again, for a fault that a group of all
//! can bear may be more than a smaller one can.

use std::{collections::BTreeSet, time::Duration};

use runtime::{Role, Time};

use crate::{
    checker::{Check, Verdict},
    cluster::Cluster,
    fault::{Fault, NodeNumber},
    outage::Strike,
    run::{Lab, lab::check, recorder::Recorder},
};

impl<C: Cluster> Lab<C> {
    /// Whether every node votes, in the leader's configuration and, but for those that are down,
    /// by its own word: who came back with another store is another server than the one that the
    /// leader may still count.
    pub(crate) async fn all_vote(&self, down: &BTreeSet<NodeNumber>) -> bool {
        let voters = voters(&*self.cluster, &self.recorder).await.unwrap_or_default();
        for node in self.nodes() {
            if !voters.contains(&node) {
                return false;
            }
            let is_asked = !down.contains(&node);
            if is_asked && !self.cluster.status(node).await.is_ok_and(|status| status.votes) {
                return false;
            }
        }
        true
    }

    /// Waits until every node votes; what to say where that takes too long, nothing where it
    /// comes or the run is stopped.
    pub(crate) async fn until_all_vote(&self) -> Option<Check> {
        let deadline = self.cluster.now().plus(VOTING_BOUND);
        while self.cluster.now() < deadline && !self.stop.is_stopped() {
            if self.all_vote(&BTreeSet::new()).await {
                return None;
            }
            self.cluster.advance(self.cluster.now().plus(VOTING_PAUSE)).await;
        }
        let voters = voters(&*self.cluster, &self.recorder).await.unwrap_or_default();
        let voters: Vec<String> = voters.iter().map(ToString::to_string).collect();
        let detail = format!(
            "not all {} nodes were voters again within {} s, but these: {}",
            self.plan.nodes,
            VOTING_BOUND.as_secs(),
            voters.join(", ")
        );
        (!self.stop.is_stopped()).then(|| check("members", Verdict::Invalid, detail))
    }
}

/// Resolves once the leader's configuration has the node vote, with that moment; at once, with
/// none, if it votes already.
pub(crate) async fn votes_again<C: Cluster>(
    cluster: &C,
    recorder: &Recorder,
    node: NodeNumber,
) -> Option<Time> {
    let mut waited = None;
    loop {
        let voters = voters(cluster, recorder).await;
        if voters.is_some_and(|voters| voters.contains(&node)) {
            return waited;
        }
        cluster.advance(cluster.now().plus(VOTING_PAUSE)).await;
        waited = Some(cluster.now());
    }
}

/// Who votes, as the leader sees it; nothing where nobody leads.
async fn voters<C: Cluster>(cluster: &C, recorder: &Recorder) -> Option<Vec<NodeNumber>> {
    let (leader, _) = recorder.view().leader()?;
    let status = cluster.status(leader).await.ok()?;
    (status.role == Role::Leader).then_some(status.voters)
}

/// What to say of a plan that changes who is a member, once all of them are back.
pub(crate) fn members(nodes: u64, strikes: &[Strike]) -> Option<Check> {
    let count = |fault| strikes.iter().filter(|strike| strike.fault == fault).count();
    let (left, wiped) = (count(Fault::Leave), count(Fault::Wipe));
    let detail = format!("{left} left, {wiped} lost their stores; all {nodes} voted again");
    (left + wiped > 0).then(|| check("members", Verdict::Valid, detail))
}

/// Far longer than a newcomer takes to catch up, and to be evicted first.
const VOTING_BOUND: Duration = Duration::from_secs(60);
const VOTING_PAUSE: Duration = Duration::from_millis(20);
