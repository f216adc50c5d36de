//! How long clients could not be served, and where that time went: read off a frozen run.
//!
//! Pure functions of the nodes' events and the moments of success; nothing is measured while it
//! happens. Invariant: where all four parts are known, they add up to the outage.

use std::collections::BTreeSet;

use runtime::Role;
use serde::{Deserialize, Serialize};

use crate::{
    cluster::{NodeEvent, What},
    fault::{Fault, NodeNumber},
};

/// One fault and what it cost. What could not be measured is `None`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// Which trial, from 1.
    pub number: u64,
    /// The fault.
    pub fault: Fault,
    /// The node that was hit: of several the one that led, or else the first.
    pub node: NodeNumber,
    /// All that were hit, that one among them.
    pub nodes: Vec<NodeNumber>,
    /// When: just before the signal was sent.
    pub fault_at_ns: u64,
    /// Term before the fault.
    pub term_before: u64,
    /// Term once the outage was over.
    pub term_after: Option<u64>,
    /// Leader once the outage was over.
    pub leader_after: Option<NodeNumber>,
    /// From the fault to the moment from which successes reach 90 % of the target rate over
    /// 100 ms, counting what was asked after the fault.
    pub outage_ms: Option<f64>,
    /// The longest time without a success, from the last one before the fault to the end of the
    /// window.
    pub longest_gap_ms: Option<f64>,
    /// From the restart, or the resumption, until the node had applied what was committed then.
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

/// An operation that succeeded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Success {
    /// When its answer arrived.
    pub completed_ns: u64,
    /// When it was sent.
    pub invoked_ns: u64,
}

impl Strike {
    /// The node that stands for all that were hit.
    pub fn node(&self) -> NodeNumber {
        self.nodes.first().copied().unwrap_or_default()
    }
}

/// Measures what a strike cost. Events and successes must be in order of time.
pub fn measure(
    strike: &Strike,
    events: &[NodeEvent],
    successes: &[Success],
    rate_per_s: u64,
) -> Trial {
    let all: Vec<u64> = successes.iter().map(|success| success.completed_ns).collect();
    let first = all.partition_point(|at| *at < strike.at_ns);
    // An answer to what was asked before the fault may have been on its way already: it says
    // nothing of the time after.
    let asked_after: Vec<u64> = successes[first..]
        .iter()
        .filter(|success| success.invoked_ns >= strike.at_ns)
        .map(|success| success.completed_ns)
        .collect();
    let end = recovery(&asked_after, strike.at_ns, strike.until_ns, rate_per_s);
    let election = end.and_then(|end| election(strike, events, end));
    let since = |from: u64, to: u64| to.saturating_sub(from) as f64 / NS_PER_MS;
    let rejoined = strike.returned_ns.zip(strike.rejoined_ns);
    let mut trial = Trial {
        number: strike.trial,
        fault: strike.fault,
        node: strike.node(),
        nodes: strike.nodes.clone(),
        fault_at_ns: strike.at_ns,
        term_before: strike.term_before,
        term_after: election.as_ref().map(|election| election.term),
        leader_after: election.as_ref().map(|election| election.leader),
        outage_ms: end.map(|end| since(strike.at_ns, end)),
        longest_gap_ms: longest_gap(&all, strike.at_ns, strike.until_ns)
            .map(|gap| gap as f64 / NS_PER_MS),
        rejoin_ms: rejoined.map(|(from, to)| since(from, to)),
        detect_ms: None,
        elect_ms: None,
        commit_ms: None,
        client_ms: None,
    };
    if let (Some(end), Some(election)) = (end, election) {
        // Observers note with their own clock readings: a step may seem to come a few
        // microseconds before the one that caused it. Clamped, the parts still add up.
        let detected = election.detected_ns.clamp(strike.at_ns, end);
        let elected = election.elected_ns.clamp(detected, end);
        let committed = election.committed_ns.clamp(elected, end);
        trial.detect_ms = Some(since(strike.at_ns, detected));
        trial.elect_ms = Some(since(detected, elected));
        trial.commit_ms = Some(since(elected, committed));
        trial.client_ms = Some(since(committed, end));
    }
    trial
}

/// The first success from which on successes reach 90 % of the target rate over 100 ms.
///
/// It begins at a success, not at any moment: a window may not reach back over the silence to
/// count what came after it. `None` if that never happened before `until_ns`.
pub fn recovery(successes_ns: &[u64], from_ns: u64, until_ns: u64, rate_per_s: u64) -> Option<u64> {
    let needed = needed(rate_per_s);
    let first = successes_ns.partition_point(|at| *at < from_ns);
    let later = &successes_ns[first..];
    let windows = later.iter().zip(later.get(needed - 1..)?);
    windows
        .take_while(|(start, _)| **start < until_ns)
        .find(|(start, last)| **last < start.saturating_add(WINDOW_NS))
        .map(|(start, _)| *start)
}

/// The longest time without a success, from the last success before `from_ns` to `until_ns`.
/// `None` if there was none at all before.
pub fn longest_gap(successes_ns: &[u64], from_ns: u64, until_ns: u64) -> Option<u64> {
    let first = successes_ns.partition_point(|at| *at < from_ns).checked_sub(1)?;
    let end = successes_ns.partition_point(|at| *at < until_ns).max(first + 1);
    let inside = &successes_ns[first..end];
    let last = inside.last()?;
    let between = inside.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    Some(between.max(until_ns.saturating_sub(*last)))
}

/// The most successes that came within 100 ms.
pub fn fullest_window(successes_ns: &[u64]) -> usize {
    let mut first = 0;
    let counts = successes_ns.iter().enumerate().map(|(last, at)| {
        while successes_ns[first].saturating_add(WINDOW_NS) <= *at {
            first += 1;
        }
        last + 1 - first
    });
    counts.max().unwrap_or(0)
}

/// How many successes within 100 ms are 90 % of the rate; at least one.
pub fn needed(rate_per_s: u64) -> usize {
    let needed = (rate_per_s.saturating_mul(WINDOW_NS / 1_000_000) * 9).div_ceil(10 * 1_000);
    usize::try_from(needed.max(1)).unwrap_or(usize::MAX)
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
fn election(strike: &Strike, events: &[NodeEvent], end_ns: u64) -> Option<Election> {
    let first = events.partition_point(|event| event.at_ns < strike.at_ns);
    let is_away = |event: &NodeEvent| {
        let is_back = strike.returned_ns.is_some_and(|returned_ns| event.at_ns >= returned_ns);
        strike.away.contains(&event.node) && !is_back
    };
    let after = || events[first..].iter().filter(|event| !is_away(event));
    let before_end = || after().take_while(|event| event.at_ns <= end_ns);
    let detected = before_end().find(|event| matches!(event.what, What::Campaign { .. }))?;
    let (elected, new_term) = before_end()
        .filter_map(|event| Some((event, elected_in(event)?)))
        .filter(|(_, term)| *term > strike.term_before)
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

const WINDOW_NS: u64 = 100_000_000;
const NS_PER_MS: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// One success every 2 ms in each of the spans, given in milliseconds.
    fn successes(spans: &[(u64, u64)]) -> Vec<u64> {
        spans.iter().flat_map(|(from, to)| (*from..*to).step_by(2)).map(|ms| ms * MS).collect()
    }

    /// The same, each asked 1 ms before its answer.
    fn quick(successes_ns: &[u64]) -> Vec<Success> {
        let asked = |at: &u64| Success { completed_ns: *at, invoked_ns: at.saturating_sub(MS) };
        successes_ns.iter().map(asked).collect()
    }

    fn event(at_ms: u64, node: u64, what: What) -> NodeEvent {
        NodeEvent { at_ns: at_ms * MS, node: NodeNumber(node), what }
    }

    fn campaign(at_ms: u64, node: u64, term: u64) -> NodeEvent {
        event(at_ms, node, What::Campaign { term, pre_vote: false })
    }

    fn leader(at_ms: u64, node: u64, term: u64) -> NodeEvent {
        event(at_ms, node, What::Became { role: Role::Leader, term })
    }

    fn committed(at_ms: u64, node: u64, term: u64) -> NodeEvent {
        event(at_ms, node, What::Committed { index: 9, term })
    }

    fn strike() -> Strike {
        Strike {
            trial: 1,
            step: 0,
            fault: Fault::Kill,
            nodes: vec![NodeNumber(1)],
            away: BTreeSet::from([NodeNumber(1)]),
            served: 4,
            led: true,
            deposed: true,
            at_ns: 1_000 * MS,
            in_force_ns: 1_000 * MS,
            term_before: 3,
            until_ns: 5_000 * MS,
            returned_ns: Some(2_500 * MS),
            rejoined_ns: Some(2_700 * MS),
        }
    }

    #[test]
    fn an_outage_is_split_into_parts_that_add_up() {
        let events = [
            leader(10, 1, 3),
            campaign(1_180, 2, 4),
            leader(1_200, 2, 4),
            committed(1_205, 2, 4),
            committed(1_206, 3, 4),
            campaign(2_600, 1, 5),
        ];
        let trial =
            measure(&strike(), &events, &quick(&successes(&[(0, 1_000), (1_220, 5_000)])), 500);
        assert_eq!(trial.outage_ms, Some(220.0));
        assert_eq!(trial.longest_gap_ms, Some(222.0));
        assert_eq!(trial.rejoin_ms, Some(200.0));
        assert_eq!((trial.term_after, trial.leader_after), (Some(4), Some(NodeNumber(2))));
        let parts = [trial.detect_ms, trial.elect_ms, trial.commit_ms, trial.client_ms];
        assert_eq!(parts, [Some(180.0), Some(20.0), Some(5.0), Some(15.0)]);
    }

    #[test]
    fn nobody_on_the_minoritys_side_detects_anything() {
        let events = [
            campaign(1_100, 2, 4),
            campaign(1_150, 1, 4),
            campaign(1_300, 3, 4),
            leader(1_310, 3, 4),
            committed(1_320, 3, 4),
        ];
        let away = BTreeSet::from([NodeNumber(1), NodeNumber(2)]);
        let nodes = away.iter().copied().collect();
        let strike = Strike { fault: Fault::Partition, nodes, away, served: 3, ..strike() };
        let trial =
            measure(&strike, &events, &quick(&successes(&[(0, 1_000), (1_330, 5_000)])), 500);
        assert_eq!((trial.detect_ms, trial.elect_ms), (Some(300.0), Some(10.0)));
        assert_eq!((trial.node, trial.nodes.len()), (NodeNumber(1), 2));
    }

    #[test]
    fn where_all_were_hit_the_first_to_campaign_has_returned() {
        let events = [
            campaign(1_100, 2, 4),
            campaign(2_700, 3, 4),
            leader(2_710, 3, 4),
            committed(2_715, 3, 4),
        ];
        let nodes: Vec<_> = (1..=3).map(NodeNumber).collect();
        let away = nodes.iter().copied().collect();
        let strike = Strike { nodes, away, served: 0, ..strike() };
        let trial =
            measure(&strike, &events, &quick(&successes(&[(0, 1_000), (2_720, 5_000)])), 500);
        assert_eq!((trial.outage_ms, trial.leader_after), (Some(1_720.0), Some(NodeNumber(3))));
        let parts = [trial.detect_ms, trial.elect_ms, trial.commit_ms, trial.client_ms];
        assert_eq!(parts, [Some(1_700.0), Some(10.0), Some(5.0), Some(5.0)]);
    }

    #[test]
    fn the_leader_that_could_not_commit_did_not_end_the_outage() {
        let events = [
            campaign(1_100, 2, 4),
            leader(1_110, 2, 4),
            campaign(1_300, 3, 5),
            leader(1_310, 3, 5),
            committed(1_320, 3, 5),
        ];
        let trial =
            measure(&strike(), &events, &quick(&successes(&[(0, 1_000), (1_330, 5_000)])), 500);
        assert_eq!(trial.leader_after, Some(NodeNumber(3)));
        let parts = [trial.detect_ms, trial.elect_ms, trial.commit_ms, trial.client_ms];
        assert_eq!(parts, [Some(100.0), Some(210.0), Some(10.0), Some(10.0)]);
    }

    #[test]
    fn what_the_old_leader_committed_may_be_answered_before_the_new_one_commits() {
        let events = [campaign(1_100, 2, 4), leader(1_110, 2, 4), committed(1_140, 2, 4)];
        let trial =
            measure(&strike(), &events, &quick(&successes(&[(0, 1_000), (1_120, 5_000)])), 500);
        let parts = [trial.detect_ms, trial.elect_ms, trial.commit_ms, trial.client_ms];
        assert_eq!(parts, [Some(100.0), Some(10.0), Some(10.0), Some(0.0)]);
    }

    #[test]
    fn the_silence_counts_to_its_end_however_much_comes_after_it() {
        // Everything that waited is answered in one instant.
        let mut backlog = successes(&[(0, 1_000)]);
        backlog.extend(std::iter::repeat_n(1_300 * MS, 200));
        assert_eq!(recovery(&backlog, 1_000 * MS, 5_000 * MS, 500), Some(1_300 * MS));
    }

    #[test]
    fn a_late_answer_to_an_early_question_ends_no_outage() {
        // 40 ms of silence, and 60 ms of backlog and load: 90 % of the rate over 100 ms, if the
        // answers that were under way counted.
        let mut successes = quick(&successes(&[(0, 1_000), (1_040, 5_000)]));
        let before = Success { completed_ns: 1_001 * MS, invoked_ns: 999 * MS };
        successes.extend(std::iter::repeat_n(before, 20));
        successes.sort_unstable();
        assert_eq!(measure(&strike(), &[], &successes, 500).outage_ms, Some(40.0));
    }

    #[test]
    fn a_trickle_is_no_recovery() {
        let mut trickle: Vec<u64> = (1_000..2_000).step_by(5).map(|ms| ms * MS).collect();
        assert_eq!(recovery(&trickle, 1_000 * MS, 5_000 * MS, 500), None);
        trickle.extend(successes(&[(2_000, 3_000)]));
        // Nine tenths of 50 within 100 ms: the trickle before counts as far as it goes.
        let end = recovery(&trickle, 1_000 * MS, 5_000 * MS, 500).expect("it recovers");
        assert!((1_980 * MS..=2_000 * MS).contains(&end), "{end}");
    }

    #[test]
    fn what_never_recovers_has_no_outage_but_a_gap() {
        let trial = measure(&strike(), &[], &quick(&successes(&[(0, 1_000)])), 500);
        assert_eq!(trial.outage_ms, None);
        assert_eq!(trial.longest_gap_ms, Some(4_002.0));
        assert_eq!(trial.detect_ms, None);
    }

    #[test]
    fn a_fault_that_moves_no_leader_has_no_parts() {
        let trial = measure(&strike(), &[], &quick(&successes(&[(0, 5_000)])), 500);
        // The first that was asked after it was answered 2 ms after it.
        assert_eq!(trial.outage_ms, Some(2.0));
        assert_eq!((trial.detect_ms, trial.term_after), (None, None));
    }

    #[test]
    fn clocks_that_disagree_a_little_keep_the_sum() {
        let events = [campaign(1_200, 2, 4), leader(1_250, 2, 4), committed(1_249, 2, 4)];
        let trial =
            measure(&strike(), &events, &quick(&successes(&[(0, 1_000), (1_260, 5_000)])), 500);
        let parts = [trial.detect_ms, trial.elect_ms, trial.commit_ms, trial.client_ms];
        let sum: f64 = parts.into_iter().map(|part| part.expect("all are known")).sum();
        assert_eq!(Some(sum), trial.outage_ms);
    }

    #[test]
    fn the_fullest_window_is_as_long_as_the_one_that_is_needed() {
        assert_eq!(fullest_window(&[]), 0);
        let mut some = successes(&[(0, 40), (300, 320)]);
        assert_eq!(fullest_window(&some), 20);
        some.push(399 * MS);
        some.push(400 * MS);
        assert_eq!(fullest_window(&some[20..]), 11, "what is 100 ms later is in another");
        assert_eq!(recovery(&successes(&[(0, 1_000)]), 0, u64::MAX, 500), Some(0));
        assert!(fullest_window(&successes(&[(0, 1_000)])) >= needed(500));
    }

    #[test]
    fn rates_below_ten_need_one_success() {
        assert_eq!(needed(1), 1);
        assert_eq!(needed(500), 45);
        assert_eq!(needed(2_000), 180);
    }

    #[test]
    fn no_success_at_all_measures_nothing() {
        assert_eq!(recovery(&[], 0, 10, 500), None);
        assert_eq!(longest_gap(&[], 0, 10), None);
    }
}
