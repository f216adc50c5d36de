//! How long clients could not be served, and where that time went: read off a frozen run.
//!
//! Pure functions of the nodes' events and of successes; nothing is measured while it happens.
//! Faults that strike before clients are served again cost one outage together, which counts from
//! the first of them. Invariants: where all four parts are known, they add up to the outage; every
//! strike is part of one.

mod gaps;
mod rate;
mod recovery;

use std::collections::BTreeSet;

use runtime::Role;
use serde::{Deserialize, Serialize};

use crate::{
    cluster::{NodeEvent, What},
    fault::{Fault, NodeNumber},
};

pub use gaps::{longest_client_gap, longest_gap};
pub use rate::{fullest_window, needed};
pub use recovery::{Demand, Success, patience_ns, recovery};

/// One fault and what it cost, or several that struck before clients were served again. What could
/// not be measured is `None`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// Which trial, from 1.
    pub number: u64,
    /// The fault: of several the one that hit the leader, or else the first.
    pub fault: Fault,
    /// The others that struck before the outage was over, in order.
    pub also: Vec<Fault>,
    /// The node that was hit: of several the one that led, or else the first.
    pub node: NodeNumber,
    /// All that were hit, that one first.
    pub nodes: Vec<NodeNumber>,
    /// When: just before the first signal was sent.
    pub fault_at_ns: u64,
    /// Term before the fault.
    pub term_before: u64,
    /// Term once the outage was over.
    pub term_after: Option<u64>,
    /// Leader once the outage was over.
    pub leader_after: Option<NodeNumber>,
    /// From the fault until clients were served at their rate again, and stayed so: see
    /// [`recovery()`].
    pub outage_ms: Option<f64>,
    /// The longest time without a success of anybody, from the last one before the fault to the
    /// end of the window.
    pub longest_gap_ms: Option<f64>,
    /// The longest time that a single client went without a success meanwhile.
    pub longest_client_gap_ms: Option<f64>,
    /// From the restart, or the resumption, until the node had applied what was committed then; of
    /// several the longest, and `None` where one of them never had.
    pub rejoin_ms: Option<f64>,
    /// From the fault to the first campaign of a survivor, or of one that has returned.
    pub detect_ms: Option<f64>,
    /// From there to the election of the leader that ended the outage.
    pub elect_ms: Option<f64>,
    /// From there to that leader's first commit in its term.
    pub commit_ms: Option<f64>,
    /// From there until clients were served at their rate.
    pub client_ms: Option<f64>,
}

/// What was done, and until when its effect is looked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Strike {
    /// Which trial, from 1.
    pub trial: u64,
    /// Which of the plan's steps, from 0.
    pub step: u64,
    /// What.
    pub fault: Fault,
    /// The nodes that were hit, the one that led first: those cut off from every majority, or
    /// else all whose links were hurt.
    pub nodes: Vec<NodeNumber>,
    /// Those that could serve nobody meanwhile, since they were down or cut off from every
    /// majority.
    pub away: BTreeSet<NodeNumber>,
    /// How many nodes the others still reach at least, of those who could lead, themselves
    /// among them.
    pub served: u64,
    /// Whether one of those that were hit led.
    pub led: bool,
    /// Whether whoever led could no longer, since it was down or reached no majority both ways.
    pub deposed: bool,
    /// When.
    pub at_ns: u64,
    /// From when on it had taken place.
    pub in_force_ns: u64,
    /// Term before.
    pub term_before: u64,
    /// Where the window of this fault ends: at the next one, or when the load ended.
    pub until_ns: u64,
    /// When the node was restarted or resumed.
    pub returned_ns: Option<u64>,
    /// When it had caught up.
    pub rejoined_ns: Option<u64>,
}

impl Strike {
    /// The node that stands for all that were hit.
    pub fn node(&self) -> NodeNumber {
        self.nodes.first().copied().unwrap_or_default()
    }
}

/// Measures what the strikes of a trial cost, in order of time: one outage for each set of them
/// that struck before clients were served again after the first. What clients ask meanwhile depends
/// on which strikes are on. What is usual is read off the second before `first_fault_ns`, when
/// that of the run struck. Events and successes must be in order of time.
pub fn measure_all<'a>(
    strikes: &'a [Strike],
    demand: impl Fn(&[Strike]) -> Demand,
    events: &[NodeEvent],
    successes: &[Success],
    first_fault_ns: u64,
) -> Vec<(&'a [Strike], Trial)> {
    let mut measured = Vec::new();
    let mut first = 0;
    let patience_ns = patience_ns(successes, first_fault_ns);
    for end in 1..=strikes.len() {
        let set = &strikes[first..end];
        let demand = demand(&on_at_last(&strikes[..end]));
        let Some(trial) = measure(set, demand, patience_ns, events, successes) else { continue };
        if trial.outage_ms.is_some() || end == strikes.len() {
            measured.push((set, trial));
            first = end;
        }
    }
    measured
}

/// Those that were not over yet when the last of them struck.
fn on_at_last(strikes: &[Strike]) -> Vec<Strike> {
    let last_ns = strikes.last().map_or(0, |strike| strike.at_ns);
    let is_on = |strike: &&Strike| strike.returned_ns.is_none_or(|back_ns| back_ns > last_ns);
    strikes.iter().filter(is_on).cloned().collect()
}

/// What these strikes cost together; nothing where there is none.
fn measure(
    set: &[Strike],
    demand: Demand,
    patience_ns: u64,
    events: &[NodeEvent],
    successes: &[Success],
) -> Option<Trial> {
    let place = set.iter().position(|strike| strike.led).unwrap_or(0);
    let (first, last, told) = (set.first()?, set.last()?, set.get(place)?);
    let (from_ns, until_ns) = (first.at_ns, last.until_ns);
    let others = || set.iter().enumerate().filter(|(other, _)| *other != place);
    let mut nodes = told.nodes.clone();
    for node in others().flat_map(|(_, strike)| &strike.nodes) {
        if !nodes.contains(node) {
            nodes.push(*node);
        }
    }
    let end = recovery(successes, (from_ns, until_ns), demand, patience_ns);
    let election = end.and_then(|end| election(set, events, end));
    let ms = |ns: u64| ns as f64 / NS_PER_MS;
    let since = |from: u64, to: u64| ms(to.saturating_sub(from));
    let mut trial = Trial {
        number: first.trial,
        fault: told.fault,
        also: others().map(|(_, strike)| strike.fault).collect(),
        node: told.node(),
        nodes,
        fault_at_ns: from_ns,
        term_before: first.term_before,
        term_after: election.as_ref().map(|election| election.term),
        leader_after: election.as_ref().map(|election| election.leader),
        outage_ms: end.map(|end| since(from_ns, end)),
        longest_gap_ms: longest_gap(successes, from_ns, until_ns).map(ms),
        longest_client_gap_ms: longest_client_gap(successes, from_ns, until_ns).map(ms),
        rejoin_ms: rejoin_ns(set).map(ms),
        detect_ms: None,
        elect_ms: None,
        commit_ms: None,
        client_ms: None,
    };
    if let (Some(end), Some(election)) = (end, election) {
        // Observers note with their own clock readings: a step may seem to come a few
        // microseconds before the one that caused it. Clamped, the parts still add up.
        let detected = election.detected_ns.clamp(from_ns, end);
        let elected = election.elected_ns.clamp(detected, end);
        let committed = election.committed_ns.clamp(elected, end);
        trial.detect_ms = Some(since(from_ns, detected));
        trial.elect_ms = Some(since(detected, elected));
        trial.commit_ms = Some(since(elected, committed));
        trial.client_ms = Some(since(committed, end));
    }
    Some(trial)
}

/// How long it took the last of those that were hit to catch up, if all have. Who was hit again
/// before it had counts from its return after that.
fn rejoin_ns(set: &[Strike]) -> Option<u64> {
    let is_hit_again = |place: usize| {
        let mut later = set[place + 1..].iter();
        later.any(|other| set[place].nodes.iter().all(|node| other.nodes.contains(node)))
    };
    let counted = set.iter().enumerate();
    let counted =
        counted.filter(|(place, strike)| strike.rejoined_ns.is_some() || !is_hit_again(*place));
    let took = counted.map(|(_, strike)| {
        let rejoined_ns = strike.rejoined_ns?;
        Some(rejoined_ns.saturating_sub(strike.returned_ns?))
    });
    took.collect::<Option<Vec<u64>>>()?.into_iter().max()
}

/// The election that ended an outage.
struct Election {
    detected_ns: u64,
    elected_ns: u64,
    committed_ns: u64,
    leader: NodeNumber,
    term: u64,
}

/// The last leader elected before the outage was over. One that was elected earlier lost its
/// term before it could serve anybody. Campaigns of those who are away say nothing of when the
/// others noticed; where all are, somebody who has returned is the first to.
fn election(set: &[Strike], events: &[NodeEvent], end_ns: u64) -> Option<Election> {
    let Strike { at_ns, term_before, .. } = set.first()?;
    let first = events.partition_point(|event| event.at_ns < *at_ns);
    let is_away = |event: &NodeEvent| {
        set.iter().any(|strike| {
            let is_back = strike.returned_ns.is_some_and(|returned_ns| event.at_ns >= returned_ns);
            strike.away.contains(&event.node) && event.at_ns >= strike.at_ns && !is_back
        })
    };
    let after = || events[first..].iter().filter(|event| !is_away(event));
    let before_end = || after().take_while(|event| event.at_ns <= end_ns);
    let detected = before_end().find(|event| matches!(event.what, What::Campaign { .. }))?;
    let (elected, new_term) = before_end()
        .filter_map(|event| Some((event, elected_in(event)?)))
        .filter(|(_, term)| term > term_before)
        .last()?;
    let committed = after().find(|event| {
        let What::Committed { term, .. } = event.what else { return false };
        event.node == elected.node && term == new_term
    });
    Some(Election {
        detected_ns: detected.at_ns,
        elected_ns: elected.at_ns,
        // What the old leader had committed may be acknowledged before the new one commits.
        committed_ns: committed.map_or(end_ns, |event| event.at_ns),
        leader: elected.node,
        term: new_term,
    })
}

/// The term in which the event's node was elected by it.
fn elected_in(event: &NodeEvent) -> Option<u64> {
    let What::Became { role: Role::Leader, term } = event.what else { return None };
    Some(term)
}

const NS_PER_MS: f64 = 1e6;

#[cfg(test)]
mod tests;
