//! Who is a member, while nodes leave, lose their stores and return: waited for, and measured.
//!
//! Invariant: the next trial begins when every node votes again, for a fault that a group of all
//! can bear may be more than a smaller one can.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use runtime::{Role, Time};

use crate::{
    checker::{Check, Verdict},
    cluster::{Cluster, MemberChange, NodeEvent, What},
    fault::{Fault, NodeNumber},
    outage::Strike,
    plan::Plan,
    run::{Lab, Outcome, lab::check, recorder::Recorder},
};

/// A time in which a node was a member no longer. What did not come to pass is `None`.
#[derive(Clone, PartialEq, Debug)]
pub struct Lapse {
    /// What it began with.
    pub fault: Fault,
    /// The node.
    pub node: NodeNumber,
    /// When it was hit.
    pub fault_at_ns: u64,
    /// From its wish to leave until the leader had it removed.
    pub leave_ms: Option<f64>,
    /// From the fault until the leader had it removed for its silence.
    pub evict_ms: Option<f64>,
    /// From the new start of its process, or its return, until it learned.
    pub join_ms: Option<f64>,
    /// From there until it voted.
    pub promote_ms: Option<f64>,
}

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

/// When nodes were members no longer, and how long each step of that took.
pub(crate) fn measure(outcome: &mut Outcome, events: &[NodeEvent], strikes: &[Strike]) {
    let changes = changes(events);
    let taken =
        strikes.iter().flat_map(|strike| strike.away.iter().map(move |node| (strike, *node)));
    let lapses = taken.filter_map(|taken| lapse(taken, &changes, strikes));
    outcome.lapses = lapses.collect();
    for (name, time) in TIMES {
        let times: Vec<f64> = outcome.lapses.iter().filter_map(time).collect();
        if !times.is_empty() {
            outcome.samples.insert(name.into(), times);
        }
    }
}

type Part = fn(&Lapse) -> Option<f64>;

const TIMES: [(&str, Part); 4] = [
    ("leave_ms", |lapse| lapse.leave_ms),
    ("evict_ms", |lapse| lapse.evict_ms),
    ("join_ms", |lapse| lapse.join_ms),
    ("promote_ms", |lapse| lapse.promote_ms),
];

/// Somebody's part in the group changed.
type Change = (u64, NodeNumber, MemberChange);

/// What leaders told of: they decide it. Who catches up tells the same again, at any later time.
fn changes(events: &[NodeEvent]) -> Vec<Change> {
    let mut roles: BTreeMap<NodeNumber, Role> = BTreeMap::new();
    let mut changes = Vec::new();
    for event in events {
        match event.what {
            What::Became { role, .. } => {
                roles.insert(event.node, role);
            }
            What::Member { node, is } if roles.get(&event.node) == Some(&Role::Leader) => {
                changes.push((event.at_ns, node, is));
            }
            _ => {}
        }
    }
    changes
}

/// What a strike did to the membership of a node that it took away; nothing where it stayed one.
fn lapse(
    (strike, node): (&Strike, NodeNumber),
    changes: &[Change],
    strikes: &[Strike],
) -> Option<Lapse> {
    // Of one strike no more is told than what comes before the next on the same node.
    let next = strikes.iter().filter(|other| other.nodes.contains(&node));
    let next = next.map(|other| other.at_ns).filter(|at_ns| *at_ns > strike.at_ns).min();
    let end_ns = next.unwrap_or(u64::MAX);
    let first = |is, from_ns| {
        let told = changes.iter().filter(|(at_ns, of, change)| {
            *of == node && *change == is && (from_ns..end_ns).contains(at_ns)
        });
        told.map(|(at_ns, ..)| *at_ns).min()
    };
    let removed_ns = first(MemberChange::Removed, strike.at_ns)?;
    let returned_ns = strike.returned_ns;
    let ms = |from_ns: u64, until_ns: u64| until_ns.saturating_sub(from_ns) as f64 / 1e6;
    let gone_ms = ms(strike.at_ns, removed_ns);
    // Where a store was lost the old server goes because the new one has come: that is part of
    // its joining.
    let loses_store = matches!(strike.fault, Fault::Wipe | Fault::Disk);
    let is_replaced = loses_store && returned_ns.is_some_and(|at_ns| at_ns <= removed_ns);
    let since_return = |is| {
        let returned_ns = returned_ns?;
        first(is, returned_ns.max(removed_ns)).map(|at_ns| ms(returned_ns, at_ns))
    };
    Some(Lapse {
        fault: strike.fault,
        node,
        fault_at_ns: strike.at_ns,
        leave_ms: (strike.fault == Fault::Leave).then_some(gone_ms),
        evict_ms: (strike.fault != Fault::Leave && !is_replaced).then_some(gone_ms),
        join_ms: since_return(MemberChange::Added),
        promote_ms: since_return(MemberChange::Promoted),
    })
}

/// What to say of a plan that changes who is a member, once all of them are back.
pub(crate) fn members(plan: &Plan, strikes: &[Strike]) -> Option<Check> {
    let changes = |strike: &&Strike| {
        let step = usize::try_from(strike.step).ok().and_then(|step| plan.steps.get(step));
        step.is_some_and(|step| step.drawn(strike.fault).changes_members())
    };
    let changes: Vec<&Strike> = strikes.iter().filter(changes).collect();
    let left = changes.iter().filter(|strike| strike.fault == Fault::Leave).count();
    let (wiped, nodes) = (changes.len() - left, plan.nodes);
    let detail = format!("{left} left, {wiped} lost their stores; all {nodes} voted again");
    (left + wiped > 0).then(|| check("members", Verdict::Valid, detail))
}

/// Far longer than a newcomer takes to catch up, and to be evicted first.
const VOTING_BOUND: Duration = Duration::from_secs(60);
const VOTING_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn strike(fault: Fault, node: u64, at_ms: u64, returned_ms: u64) -> Strike {
        let node = NodeNumber(node);
        Strike {
            trial: 1,
            step: 0,
            fault,
            nodes: vec![node],
            away: BTreeSet::from([node]),
            served: 4,
            led: false,
            deposed: false,
            at_ns: at_ms * MS,
            in_force_ns: at_ms * MS,
            term_before: 1,
            until_ns: u64::MAX,
            returned_ns: Some(returned_ms * MS),
            rejoined_ns: None,
        }
    }

    fn told(by: u64, at_ms: u64, node: u64, is: MemberChange) -> NodeEvent {
        let what = What::Member { node: NodeNumber(node), is };
        NodeEvent { at_ns: at_ms * MS, node: NodeNumber(by), what }
    }

    fn led(node: u64, at_ms: u64) -> NodeEvent {
        let what = What::Became { role: Role::Leader, term: at_ms };
        NodeEvent { at_ns: at_ms * MS, node: NodeNumber(node), what }
    }

    fn measured(events: &[NodeEvent], strikes: &[Strike]) -> Vec<(String, Vec<f64>)> {
        let mut outcome = Outcome::default();
        measure(&mut outcome, events, strikes);
        outcome.samples.into_iter().collect()
    }

    #[test]
    fn each_way_is_timed_by_what_the_leader_tells() {
        use MemberChange::{Added, Promoted, Removed};
        let events = [
            led(2, 10),
            // It catches up, and tells of what was long ago.
            told(5, 1_010, 1, Removed),
            told(2, 1_030, 1, Removed),
            told(3, 1_031, 1, Removed),
            told(2, 2_100, 1, Added),
            told(2, 2_150, 1, Promoted),
            told(3, 2_151, 1, Promoted),
            // Wiped: the old server goes only when the new one is there.
            told(2, 4_400, 1, Removed),
            told(2, 4_410, 1, Added),
            told(2, 4_500, 1, Promoted),
            led(3, 7_000),
            told(3, 8_000, 4, Removed),
            told(3, 9_050, 4, Added),
        ];
        let strikes = [
            strike(Fault::Leave, 1, 1_000, 2_000),
            strike(Fault::Wipe, 1, 3_000, 4_000),
            strike(Fault::Kill, 4, 5_000, 9_000),
            strike(Fault::Kill, 5, 5_000, 9_000),
        ];
        let named = |name: &str, values: &[f64]| (name.to_owned(), values.to_vec());
        let expected = [
            named("evict_ms", &[3_000.0]),
            named("join_ms", &[100.0, 410.0, 50.0]),
            named("leave_ms", &[30.0]),
            named("promote_ms", &[150.0, 500.0]),
        ];
        assert_eq!(measured(&events, &strikes), expected);
    }

    #[test]
    fn a_store_that_is_lost_may_be_evicted_before_another_comes() {
        let removed = told(2, 4_000, 1, MemberChange::Removed);
        let times = measured(&[led(2, 10), removed], &[strike(Fault::Wipe, 1, 1_000, 6_000)]);
        assert_eq!(times, [("evict_ms".to_owned(), vec![3_000.0])]);
    }

    #[test]
    fn who_was_a_member_all_the_time_is_not_timed() {
        let events = [led(2, 10), told(2, 1_500, 1, MemberChange::Promoted)];
        assert!(measured(&events, &[strike(Fault::Kill, 1, 1_000, 2_000)]).is_empty());
    }
}
