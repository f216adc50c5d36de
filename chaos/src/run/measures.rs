//! What a frozen run comes to in numbers: counts, ratios and samples, and whether the
//! assumptions held.
//!
//! Pure functions of what was recorded. Invariant: a figure is absent rather than guessed.

use std::collections::{BTreeMap, BTreeSet};

use runtime::Role;

use crate::{
    checker::{Check, Verdict},
    cluster::{NodeEvent, What},
    fault::{Fault, NodeNumber},
    groups::share,
    history::{Function, History, Outcome as Answer},
    outage::{Strike, Success, Trial},
    plan::{Plan, consensus},
    run::{Outcome, lab::check, recorder::Records},
    workload::Driven,
};

/// A term that began under load.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TermChange {
    /// When its leader was elected.
    pub(crate) at_ns: u64,
    /// The term.
    pub(crate) term: u64,
    /// Who was elected.
    pub(crate) leader: NodeNumber,
    /// Whom it took over from, if anybody is known.
    pub(crate) from: Option<NodeNumber>,
    /// How long that one stood still just before, if it did for 20 ms or more.
    pub(crate) stalled_ms: Option<u64>,
}

/// All terms that began under load.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) changes: Vec<TermChange>,
    pub(crate) stalls: u64,
}

impl Terms {
    /// Changes that no stall of the leader explains.
    pub(crate) fn unexplained(&self) -> u64 {
        self.changes.iter().filter(|change| change.stalled_ms.is_none()).count() as u64
    }

    pub(crate) fn counts(&self) -> [(String, u64); 3] {
        [
            ("term_changes".into(), self.changes.len() as u64),
            ("term_changes_without_stall".into(), self.unexplained()),
            ("stalls".into(), self.stalls),
        ]
    }
}

/// Whether the rate was reached at all, and at least half of it was there before each fault. The
/// nemesis waits for nine tenths before each trial; a host that stumbles just before the fault
/// spoils nothing yet.
pub(crate) fn assumptions(
    plan: &Plan,
    (load_ns, strikes): (Option<(u64, u64)>, &[Strike]),
    records: &Records,
    events_lost: u64,
) -> Check {
    let (rate_per_s, burst) = share(plan).map_or((0, 0), |load| (load.rate_per_s, load.burst));
    let mut complaints = Vec::new();
    if load_ns.is_none() {
        complaints.push("the load never came to its rate".into());
    }
    if events_lost > 0 {
        complaints.push(format!("{events_lost} events of nodes were lost"));
    }
    let (mut healthy_since_ns, mut trial) = (0, 0);
    for strike in strikes {
        let is_first = strike.trial != std::mem::replace(&mut trial, strike.trial);
        // Where a majority may be lost no rate is promised after the first fault, until the next
        // trial, which begins in health.
        let is_promised = is_first || !plan.expect.majority_may_be_lost;
        // While an earlier fault is still on, or not got over yet, no rate is promised.
        let from_ns = strike.at_ns.saturating_sub(BEFORE_NS).max(healthy_since_ns);
        let successes = count_within(&records.successes, from_ns, strike.at_ns);
        let span_ns = strike.at_ns.saturating_sub(from_ns);
        // Operations come in bursts, and the last may be under way: slow rates promise nothing.
        let due = u128::from(rate_per_s) * u128::from(span_ns) / 1_000_000_000;
        let due = due.saturating_sub(u128::from(burst));
        if is_promised && u128::from(successes) * 2 < due {
            complaints.push(format!(
                "trial {}: {successes} successes in the {} ms before the fault, but {due} were due",
                strike.trial,
                span_ns / 1_000_000
            ));
        }
        healthy_since_ns = healthy_since_ns.max(strike.rejoined_ns.unwrap_or(u64::MAX));
    }
    match complaints.is_empty() {
        true => {
            let detail = match strikes.len() {
                0 => "formed, and its rate was reached".into(),
                count => format!(
                    "formed; under load before each of {count} faults; each was seen to take place"
                ),
            };
            check("assumptions", Verdict::Valid, detail)
        }
        false => check("assumptions", Verdict::Unknown, complaints.join("; ")),
    }
}

/// Counts of operations.
pub(crate) fn operations(outcome: &mut Outcome, history: &History, driven: Driven) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut keys = BTreeSet::new();
    let mut swapped = 0;
    for operation in history.operations() {
        let f = match operation.f {
            Function::Read => "reads",
            Function::Write => "writes",
            Function::Cas => "cas",
        };
        let answer = match operation.outcome {
            Answer::Ok => "ok",
            Answer::Fail => "fail",
            Answer::Unknown => "unknown",
        };
        *counts.entry(f).or_default() += 1;
        *counts.entry(answer).or_default() += 1;
        swapped += u64::from(operation.swapped());
        keys.insert(operation.key);
    }
    let total = history.operations().len() as u64;
    let ok = counts.get("ok").copied().unwrap_or(0);
    for (name, count) in counts {
        outcome.counts.insert(name.into(), count);
    }
    let others = [
        ("operations", total),
        ("keys", keys.len() as u64),
        ("cas_swapped", swapped),
        ("busy", driven.busy),
        ("sent_late", driven.late),
    ];
    for (name, count) in others {
        outcome.counts.insert(name.into(), count);
    }
    if total > 0 {
        outcome.ratios.insert("ok_per_operation".into(), ok as f64 / total as f64);
    }
    if let Some(overlap) = history.overlap_per_key() {
        outcome.ratios.insert("overlap_per_key".into(), overlap);
    }
}

/// A figure of a trial.
type Figure = fn(&Trial) -> Option<f64>;

/// Samples of all trials.
pub(crate) fn trials(outcome: &mut Outcome) {
    let figures: [(&str, Figure); 8] = [
        ("outage_ms", |trial| trial.outage_ms),
        ("longest_gap_ms", |trial| trial.longest_gap_ms),
        ("longest_client_gap_ms", |trial| trial.longest_client_gap_ms),
        ("rejoin_ms", |trial| trial.rejoin_ms),
        ("detect_ms", |trial| trial.detect_ms),
        ("elect_ms", |trial| trial.elect_ms),
        ("commit_ms", |trial| trial.commit_ms),
        ("client_ms", |trial| trial.client_ms),
    ];
    for (name, figure) in figures {
        let samples: Vec<f64> = outcome.trials.iter().filter_map(figure).collect();
        if !samples.is_empty() {
            outcome.samples.insert(name.into(), samples);
        }
    }
    if outcome.trials.is_empty() {
        return;
    }
    let mut outages: BTreeMap<Fault, Vec<f64>> = BTreeMap::new();
    for trial in &outcome.trials {
        outages.entry(trial.fault).or_default().extend(trial.outage_ms);
    }
    // Of one kind alone they are all.
    if outages.len() > 1 {
        let named = |(fault, samples): (Fault, _)| (format!("outage_{fault}_ms"), samples);
        let measured = outages.into_iter().filter(|(_, samples)| !samples.is_empty());
        outcome.samples.extend(measured.map(named));
    }
    let unmeasured = outcome.trials.iter().filter(|trial| trial.outage_ms.is_none()).count() as u64;
    outcome.counts.insert("trials".into(), outcome.trials.len() as u64);
    outcome.counts.insert("trials_without_recovery".into(), unmeasured);
}

/// The terms that began while load ran, and what stalls explain them; `None` if it never ran.
pub(crate) fn terms(plan: &Plan, load_ns: Option<(u64, u64)>, records: &Records) -> Option<Terms> {
    let (from_ns, to_ns) = load_ns?;
    let consensus = consensus(plan);
    // A stall shows in a new term at the latest when everyone has waited his longest, campaigned
    // and waited once more for a split vote.
    let reach = 2 * (consensus.election_timeout + consensus.election_timeout_jitter);
    let reach_ns = u64::try_from(reach.as_nanos()).unwrap_or(u64::MAX);
    let within = |at_ns: u64| (from_ns..=to_ns).contains(&at_ns);
    let mut leader = None;
    let mut changes = Vec::new();
    for (event, term) in records.events.iter().filter_map(elected) {
        if within(event.at_ns) {
            let since_ns = event.at_ns.saturating_sub(reach_ns);
            let stalled_ms =
                leader.and_then(|node| stalled(&records.events, node, since_ns, event.at_ns));
            let (at_ns, elected) = (event.at_ns, event.node);
            changes.push(TermChange { at_ns, term, leader: elected, from: leader, stalled_ms });
        }
        leader = Some(event.node);
    }
    let stalls = records
        .events
        .iter()
        .filter(|event| matches!(event.what, What::Stall { .. }) && within(event.at_ns));
    Some(Terms { changes, stalls: stalls.count() as u64 })
}

fn elected(event: &NodeEvent) -> Option<(&NodeEvent, u64)> {
    match event.what {
        What::Became { role: Role::Leader, term } => Some((event, term)),
        _ => None,
    }
}

/// The longest that the node stood still in that time.
fn stalled(events: &[NodeEvent], node: NodeNumber, from_ns: u64, to_ns: u64) -> Option<u64> {
    let stalls = events.iter().filter_map(|event| match event.what {
        What::Stall { from_ns: began_ns } if event.node == node => Some((began_ns, event.at_ns)),
        _ => None,
    });
    let overlapping = stalls.filter(|(began, ended)| *began <= to_ns && *ended >= from_ns);
    overlapping.map(|(began, ended)| ended.saturating_sub(began) / 1_000_000).max()
}

fn count_within(sorted: &[Success], from_ns: u64, to_ns: u64) -> u64 {
    let first = sorted.partition_point(|success| success.completed_ns < from_ns);
    let end = sorted.partition_point(|success| success.completed_ns < to_ns);
    end.saturating_sub(first) as u64
}

/// How far back before a fault the rate is looked at: less than the earliest random moment.
const BEFORE_NS: u64 = 400_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fault::Fault, plan};

    const MS: u64 = 1_000_000;

    fn plan() -> Plan {
        plan::parse(
            "scenario = \"x\"\nkind = \"steady\"\nprofile = \"loopback\"\n[workload]\n\
             rate_per_s = 100\n",
        )
        .expect("a plan")
    }

    fn leader(at_ms: u64, node: u64, term: u64) -> NodeEvent {
        let what = What::Became { role: Role::Leader, term };
        NodeEvent { at_ns: at_ms * MS, node: NodeNumber(node), what }
    }

    fn stall(from_ms: u64, to_ms: u64, node: u64) -> NodeEvent {
        let what = What::Stall { from_ns: from_ms * MS };
        NodeEvent { at_ns: to_ms * MS, node: NodeNumber(node), what }
    }

    fn records(events: Vec<NodeEvent>) -> Records {
        Records { events, ..Records::default() }
    }

    #[test]
    fn a_term_is_explained_only_by_a_stall_of_its_last_leader_shortly_before() {
        let records = records(vec![
            leader(10, 1, 1),
            stall(200, 260, 2),
            leader(300, 3, 2),
            stall(1_000, 1_060, 3),
            leader(1_080, 1, 3),
            stall(2_000, 2_060, 1),
            leader(5_000, 2, 4),
        ]);
        assert_eq!(terms(&plan(), None, &records), None, "there was no load");
        let terms = terms(&plan(), Some((100 * MS, 9_000 * MS)), &records).expect("there was load");
        let explained: Vec<_> =
            terms.changes.iter().map(|change| (change.term, change.stalled_ms)).collect();
        // Node 2 led nobody, and the last stall is long past.
        assert_eq!(explained, [(2, None), (3, Some(60)), (4, None)]);
        assert_eq!((terms.unexplained(), terms.stalls), (2, 3));
    }

    #[test]
    fn a_fault_without_load_before_it_is_no_measurement() {
        let strike = Strike {
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
            term_before: 1,
            until_ns: 2_000 * MS,
            returned_ns: None,
            rejoined_ns: None,
        };
        let at_rate = (0..100).map(|number| number * 10 * MS);
        let at_rate = at_rate.map(|at| Success { completed_ns: at, due_ns: at, client: 0 });
        let at_rate = at_rate.collect();
        let mut records = Records { successes: at_rate, ..Records::default() };
        let strikes = std::slice::from_ref(&strike);
        let judged = |load_ns, records: &Records| {
            assumptions(&plan(), (load_ns, strikes), records, 0).verdict
        };
        let load_ns = Some((100 * MS, 2_000 * MS));
        assert_eq!(judged(load_ns, &records), Verdict::Valid);
        assert_eq!(judged(None, &records), Verdict::Unknown, "the rate was never reached");
        records.successes.retain(|success| success.completed_ns < 700 * MS);
        assert_eq!(judged(load_ns, &records), Verdict::Unknown);
    }

    #[test]
    fn a_fault_while_another_is_on_needs_no_rate_before_it() {
        let strike = |at_ns, rejoined_ns| Strike {
            trial: 1,
            step: 0,
            fault: Fault::Kill,
            nodes: vec![NodeNumber(1)],
            away: BTreeSet::from([NodeNumber(1)]),
            served: 4,
            led: true,
            deposed: true,
            at_ns,
            in_force_ns: at_ns,
            term_before: 1,
            until_ns: 9_000 * MS,
            returned_ns: rejoined_ns,
            rejoined_ns,
        };
        let before_the_first = (0..100).map(|number| number * 10 * MS);
        let success = |at| Success { completed_ns: at, due_ns: at, client: 0 };
        let records =
            Records { successes: before_the_first.map(success).collect(), ..Records::default() };
        let load_ns = Some((100 * MS, 9_000 * MS));
        let judged =
            |strikes: &[Strike]| assumptions(&plan(), (load_ns, strikes), &records, 0).verdict;
        let overlapping = [strike(1_000 * MS, Some(3_000 * MS)), strike(1_800 * MS, None)];
        assert_eq!(judged(&overlapping), Verdict::Valid);
        let apart = [strike(1_000 * MS, Some(1_200 * MS)), strike(1_800 * MS, None)];
        assert_eq!(judged(&apart), Verdict::Unknown, "the first was long got over");
    }
}
