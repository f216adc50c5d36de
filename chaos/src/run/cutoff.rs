//! What must hold of nodes that are cut off from every majority: they acknowledge nothing, and
//! they disturb nobody when they return.
//!
//! Pure functions of strikes, history and terms. Invariant: where nobody was asked, nothing is
//! said to hold.

use std::{collections::BTreeSet, time::Duration};

use runtime::Time;

use crate::{
    checker::{Check, Verdict},
    fault::{Fault, NodeNumber},
    history::{Function, History, Operation, Outcome as Answer},
    member::nanos,
    outage::{Demand, Strike},
    plan::{Plan, WorkloadPlan, consensus},
    run::{
        lab::{check, pinned_to},
        measures::Terms,
    },
};

/// What clients ask while these strikes are on, and what of that can be served.
pub(crate) fn demand(plan: &Plan, load: &WorkloadPlan, strikes: &[Strike]) -> Demand {
    let served_per_s = served_rate(plan, load, strikes);
    Demand { due_per_s: load.rate_per_s, burst: load.burst, served_per_s }
}

/// The rate that strikes leave to be served: clients that stay with a node for better or worse are
/// served while it is. Where they leave none, all are served once it is over.
fn served_rate(plan: &Plan, load: &WorkloadPlan, strikes: &[Strike]) -> u64 {
    let away: BTreeSet<NodeNumber> =
        strikes.iter().flat_map(|strike| strike.away.iter().copied()).collect();
    // Who is taken away by one of them may be among those that another one leaves.
    let left = strikes.iter().map(|strike| {
        let by_others = away.difference(&strike.away).count() as u64;
        strike.served.saturating_sub(by_others)
    });
    let served = left.min().unwrap_or(0);
    if !load.pinned || served == 0 {
        return load.rate_per_s;
    }
    let clients_of = |node: NodeNumber| {
        (0..load.clients).filter(|client| pinned_to(plan, *client) == node).count() as u64
    };
    let nodes = (1..=plan.nodes).map(NodeNumber).filter(|node| !away.contains(node));
    let mut clients: Vec<u64> = nodes.map(clients_of).collect();
    // Not all nodes have as many, and which of them are served is not always known.
    clients.sort_unstable();
    let served = usize::try_from(served).unwrap_or(usize::MAX);
    let least: u64 = clients.iter().take(served).sum();
    (load.rate_per_s * least / load.clients.max(1)).max(1)
}

/// One check for each of the two, where the plan cuts anybody off.
pub(super) fn checks(
    plan: &Plan,
    strikes: &[Strike],
    history: &History,
    terms: Option<&Terms>,
) -> Vec<Check> {
    let cut: Vec<&Strike> = strikes
        .iter()
        .filter(|strike| matches!(strike.fault, Fault::Isolate | Fault::Partition))
        .collect();
    if cut.is_empty() {
        return Vec::new();
    }
    let silent = acknowledgements(plan, &cut, history);
    silent.into_iter().chain(undisturbed(plan, strikes, &cut, terms)).collect()
}

/// What became of the operations that were asked of those who were cut off.
#[derive(Default)]
struct Asked {
    ok: Vec<u64>,
    /// Acknowledged after the fault.
    later: u64,
    fail: u64,
    unknown: u64,
}

/// Whether nobody who was cut off from every majority acknowledged what was asked meanwhile.
fn acknowledgements(plan: &Plan, cut: &[&Strike], history: &History) -> Option<Check> {
    // One that comes and goes leaves moments in which much can be acknowledged.
    let flaps = |strike: &Strike| {
        let step = usize::try_from(strike.step).ok().and_then(|step| plan.steps.get(step));
        step.is_some_and(|step| step.flap.is_some())
    };
    let lasting: Vec<_> =
        cut.iter().filter(|strike| !strike.away.is_empty() && !flaps(strike)).collect();
    if lasting.is_empty() {
        return None;
    }
    let mut asked = Asked::default();
    for operation in history.operations() {
        if let Some(strike) = lasting.iter().find(|strike| concerns(plan, strike, operation)) {
            match operation.outcome {
                Answer::Ok if operation.completed_ns > Some(until(strike)) => asked.later += 1,
                Answer::Ok => asked.ok.push(operation.id),
                Answer::Fail => asked.fail += 1,
                Answer::Unknown => asked.unknown += 1,
            }
        }
    }
    let Asked { ok, later, fail, unknown } = asked;
    let name = "cut-off-acknowledge-nothing";
    if !ok.is_empty() {
        let first: Vec<String> = ok.iter().take(TOLD_MAX).map(ToString::to_string).collect();
        let detail = format!(
            "{} operations were acknowledged by nodes without a majority, such as {}",
            ok.len(),
            first.join(", ")
        );
        return Some(check(name, Verdict::Invalid, detail));
    }
    let total = later + fail + unknown;
    let detail = format!(
        "of {total} operations asked of nodes without a majority {fail} failed, {unknown} stayed \
         unknown, {later} were acknowledged once it was over, and none before"
    );
    let is_pinned = plan.workload.as_ref().is_some_and(|load| load.pinned);
    Some(match (total, is_pinned) {
        (0, true) => {
            check(name, Verdict::Unknown, "nodes without a majority were not asked".into())
        }
        (_, true) => check(name, Verdict::Valid, detail),
        // Whom an unanswered client had asked is not known.
        (_, false) => {
            let detail = "none was acknowledged by a node without a majority".into();
            check(name, Verdict::Valid, detail)
        }
    })
}

fn until(strike: &Strike) -> u64 {
    strike.returned_ns.unwrap_or(strike.until_ns)
}

/// Whether the operation was asked meanwhile, of somebody who is away.
fn concerns(plan: &Plan, strike: &Strike, operation: &Operation) -> bool {
    let is_pinned = plan.workload.as_ref().is_some_and(|load| load.pinned);
    let node = match operation.node {
        Some(node) => strike.away.iter().any(|away| away.0 == node),
        None => is_pinned && strike.away.contains(&pinned_to(plan, operation.client)),
    };
    // A lease lasts no longer than an election timeout after the last round: for that long its
    // holder may answer reads, and nobody has written anything that it does not know.
    let lease = match plan.lease_reads && operation.f == Function::Read {
        true => consensus(plan).election_timeout,
        false => Duration::ZERO,
    };
    let from_ns = strike.in_force_ns.saturating_add(nanos(Time(lease)));
    node && (from_ns..until(strike)).contains(&operation.invoked_ns)
}

/// Whether no term began because somebody returned.
fn undisturbed(
    plan: &Plan,
    strikes: &[Strike],
    cut: &[&Strike],
    terms: Option<&Terms>,
) -> Option<Check> {
    let terms = terms?;
    let consensus = consensus(plan);
    // Whoever will disturb does so at the latest when he has waited his longest, twice.
    let reach = 2 * (consensus.election_timeout + consensus.election_timeout_jitter);
    let reach_ns = u64::try_from(reach.as_nanos()).unwrap_or(u64::MAX);
    let mut returns = 0;
    let mut complaints = Vec::new();
    for strike in cut {
        let Some(returned_ns) = strike.returned_ns else { continue };
        // Without a leader among the others somebody has to become one.
        if !is_led(strike, returned_ns, terms) {
            continue;
        }
        let until_ns = strike.until_ns.min(returned_ns.saturating_add(reach_ns));
        // What another fault causes nobody need answer for who returns.
        let apart = |other: &Strike| {
            let over_ns = other.returned_ns.unwrap_or(u64::MAX).saturating_add(reach_ns);
            other.at_ns >= until_ns || over_ns <= strike.at_ns
        };
        if !strikes.iter().all(|other| apart(other) || other == *strike) {
            continue;
        }
        returns += 1;
        let caused = terms.changes.iter().filter(|change| {
            (returned_ns..until_ns).contains(&change.at_ns) && change.stalled_ms.is_none()
        });
        complaints.extend(caused.map(|change| {
            format!(
                "trial {}: term {} began {} ms after the return",
                strike.trial,
                change.term,
                (change.at_ns - returned_ns) / 1_000_000
            )
        }));
    }
    let name = "return-disturbs-nobody";
    Some(match (returns, complaints.is_empty()) {
        // Every return had another fault about, or no leader to disturb.
        (0, _) => return None,
        (_, false) => check(name, Verdict::Invalid, complaints.join("; ")),
        (_, true) => {
            let within = reach.as_millis();
            let detail = format!("no change of term within {within} ms of {returns} returns");
            check(name, Verdict::Valid, detail)
        }
    })
}

/// Whether whoever led when the strike was over is one of those that it took nobody from.
fn is_led(strike: &Strike, returned_ns: u64, terms: &Terms) -> bool {
    let mut meanwhile =
        terms.changes.iter().filter(|change| (strike.at_ns..returned_ns).contains(&change.at_ns));
    match meanwhile.next_back() {
        Some(change) => !strike.away.contains(&change.leader),
        None => !strike.deposed,
    }
}

const TOLD_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{history, plan, run::measures::TermChange};

    const MS: u64 = 1_000_000;

    fn plan(pinned: bool) -> Plan {
        let text = format!(
            "scenario = \"x\"\nkind = \"failover\"\n[workload]\npinned = {pinned}\n\
             [[steps]]\nat = 1000\nfault = \"isolate\"\nreturn_after_ms = 1000\n"
        );
        plan::parse(&text).expect("a plan")
    }

    /// Node 1, isolated for a second from the first on.
    fn strike(led: bool) -> Strike {
        Strike {
            trial: 1,
            step: 0,
            fault: Fault::Isolate,
            nodes: vec![NodeNumber(1)],
            away: BTreeSet::from([NodeNumber(1)]),
            served: 4,
            led,
            deposed: led,
            at_ns: 1_000 * MS,
            in_force_ns: 1_005 * MS,
            term_before: 1,
            until_ns: 9_000 * MS,
            returned_ns: Some(2_000 * MS),
            rejoined_ns: Some(2_050 * MS),
        }
    }

    /// A read by a client, asked and maybe answered then, in milliseconds.
    fn read(client: u64, asked: u64, answered: Option<u64>, node: Option<u64>) -> Operation {
        let outcome = match (answered, node) {
            (None, _) => Answer::Unknown,
            (Some(_), None) => Answer::Fail,
            (Some(_), Some(_)) => Answer::Ok,
        };
        let completed_ns = answered.map(|ms| ms * MS);
        let read = history::tests::read(asked * 10 + client, 1, asked * MS, 0);
        Operation { client, outcome, completed_ns, node, ..read }
    }

    fn silent(pinned: bool, operations: Vec<Operation>) -> Check {
        let history = History::new(operations).expect("well formed");
        acknowledgements(&plan(pinned), &[&strike(true)], &history).expect("somebody is away")
    }

    #[test]
    fn what_a_node_without_a_majority_acknowledges_breaks_a_guarantee() {
        let around = || {
            vec![
                read(0, 900, Some(1_010), Some(1)),
                read(1, 1_100, Some(1_110), Some(2)),
                read(0, 1_990, Some(2_010), Some(1)),
                read(5, 1_200, Some(1_300), None),
                read(0, 1_400, None, None),
            ]
        };
        let check = silent(true, around());
        assert_eq!(check.verdict, Verdict::Valid);
        let told = "of 3 operations asked of nodes without a majority 1 failed, 1 stayed unknown, \
                    1 were acknowledged once it was over";
        assert!(check.detail.starts_with(told), "client 5 is of node 1 too: {check:?}");
        assert_eq!(silent(false, around()).verdict, Verdict::Valid);
        for pinned in [true, false] {
            let mut wrong = around();
            wrong.push(read(0, 1_010, Some(1_990), Some(1)));
            let check = silent(pinned, wrong);
            assert_eq!(check.verdict, Verdict::Invalid);
            assert!(check.detail.contains("such as 10100"), "{check:?}");
        }
        let unasked = silent(true, vec![read(1, 1_100, Some(1_110), Some(2))]);
        assert_eq!(unasked.verdict, Verdict::Unknown);
    }

    fn disturbed(led: bool, elected: &[(u64, u64, Option<u64>)]) -> Option<Check> {
        let change = |(at_ms, leader, stalled_ms): &(u64, u64, Option<u64>)| TermChange {
            at_ns: at_ms * MS,
            term: 7,
            leader: NodeNumber(*leader),
            from: None,
            stalled_ms: *stalled_ms,
        };
        let terms = Terms { changes: elected.iter().map(change).collect(), stalls: 0 };
        let strikes = [strike(led)];
        undisturbed(&plan(true), &strikes, &[&strikes[0]], Some(&terms))
    }

    #[test]
    fn a_lease_may_answer_reads_for_as_long_as_it_lasts_and_no_longer() {
        let leased = |asked, lease_reads| {
            let plan = Plan { lease_reads, ..plan(true) };
            let operations = vec![read(0, asked, Some(asked + 2), Some(1))];
            let history = History::new(operations).expect("a history");
            let strike = strike(true);
            acknowledgements(&plan, &[&strike], &history).expect("it was cut off").verdict
        };
        assert_eq!(leased(1_100, false), Verdict::Invalid);
        assert_ne!(leased(1_100, true), Verdict::Invalid, "150 ms after the cut at the latest");
        assert_eq!(leased(1_160, true), Verdict::Invalid);
    }

    #[test]
    fn a_term_that_begins_as_a_node_returns_breaks_a_guarantee() {
        let judged = |led, elected: &[_]| disturbed(led, elected).expect("a leader was there");
        assert_eq!(judged(false, &[]).verdict, Verdict::Valid);
        assert_eq!(judged(true, &[(1_200, 2, None)]).verdict, Verdict::Valid);
        let late = judged(true, &[(1_200, 2, None), (2_100, 1, None)]);
        assert_eq!(late.verdict, Verdict::Invalid);
        assert!(late.detail.contains("term 7 began 100 ms after the return"), "{late:?}");
        assert_eq!(judged(false, &[(2_100, 2, Some(80))]).verdict, Verdict::Valid, "a stall");
        assert_eq!(judged(false, &[(8_000, 2, None)]).verdict, Verdict::Valid, "long after");
        let other = Strike { at_ns: 2_050 * MS, fault: Fault::Kill, ..strike(false) };
        let change = TermChange {
            at_ns: 2_200 * MS,
            term: 8,
            leader: NodeNumber(2),
            from: None,
            stalled_ms: None,
        };
        let terms = Terms { changes: vec![change], stalls: 0 };
        let strikes = [strike(false), other];
        let beside = undisturbed(&plan(true), &strikes, &[&strikes[0]], Some(&terms));
        assert_eq!(beside, None, "a kill explains it");
        // Nobody had been elected by the others yet: then somebody must be.
        assert_eq!(disturbed(true, &[(2_100, 2, None)]), None);
    }

    #[test]
    fn clients_that_stay_are_served_where_a_leader_can_be_reached() {
        let rate = |pinned, clients, served| {
            let plan = plan(pinned);
            let load = plan.workload.clone().expect("it has one");
            let load = WorkloadPlan { clients, ..load };
            demand(&plan, &load, &[Strike { served, ..strike(true) }]).served_per_s
        };
        assert_eq!((rate(false, 10, 4), rate(true, 10, 4)), (500, 400));
        assert_eq!((rate(false, 10, 0), rate(true, 10, 0)), (500, 500), "when all are back");
        // Of eight, two are with node 1, which is away, and one each with nodes 4 and 5.
        assert_eq!((rate(true, 8, 4), rate(true, 8, 2)), (375, 125));
    }

    #[test]
    fn strikes_that_are_on_together_leave_what_none_of_them_takes() {
        let plan = plan(true);
        let load = WorkloadPlan { clients: 10, ..plan.workload.clone().expect("it has one") };
        let of = |strikes: &[Strike]| demand(&plan, &load, strikes).served_per_s;
        let hits = |node| Strike { away: BTreeSet::from([NodeNumber(node)]), ..strike(false) };
        assert_eq!(of(&[hits(1), hits(2)]), 300);
        assert_eq!(of(&[hits(1), hits(1)]), 400, "the same node");
        // One that takes nobody away leaves three in a ring; another takes one of them.
        let ring = Strike { away: BTreeSet::new(), served: 3, ..strike(false) };
        assert_eq!(of(std::slice::from_ref(&ring)), 300);
        assert_eq!(of(&[ring, hits(2)]), 200);
        assert_eq!(of(&[]), 500);
    }
}
