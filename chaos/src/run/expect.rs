//! Whether the figures are what the plan expects.
//!
//! Pure. Invariant: an expected figure that could not be measured is unknown, never met.

use runtime::Role;

use crate::{
    checker::{Check, Verdict},
    cluster::{NodeEvent, What},
    outage::Trial,
    plan::{ByProfile, GROWTH_LOAD_MS_MIN, Plan},
    run::{
        Mark, Outcome,
        course::{LOAD_FROM_MS, LOAD_UNTIL_MS, MARKS_DROPPED},
        lab::check,
        measures::{self, Terms},
        recorder::Records,
    },
};

/// One check for each expectation of the plan.
pub(crate) fn checks(plan: &Plan, outcome: &Outcome, terms: Option<&Terms>) -> Vec<Check> {
    let expect = &plan.expect;
    // A load that is cut short leaves the figure unknown; one that was never meant to last long
    // enough was not meant to show it.
    let load_ms = plan.workload.as_ref().map_or(0, |load| load.duration_ms.of(plan.profile));
    let lasts = load_ms >= GROWTH_LOAD_MS_MIN;
    let growth = expect.memory_growth_kb_per_min_max.filter(|_| lasts);
    let trials = &outcome.trials[..];
    let of_profile = |bounds: Option<ByProfile<f64>>| bounds?.of(plan.profile);
    let of_outages = [
        ("outage_ms_p50_max", of_profile(expect.outage_ms_p50_max), median as Reduce),
        ("outage_ms_max", of_profile(expect.outage_ms_max), greatest),
    ];
    let of_outages = of_outages
        .into_iter()
        .filter_map(|(name, bound, reduce)| Some(compare_outages(name, trials, bound?, reduce)));
    let mut checks: Vec<Check> = of_outages.map(|check| by_any_client(plan, check)).collect();
    let bounds = [
        ("forming_ms_p50_max", "forming_ms", expect.forming_ms_p50_max, median as Reduce),
        ("forming_ms_max", "forming_ms", expect.forming_ms_max, greatest),
        ("memory_growth_kb_per_min_max", "memory_growth_kb_per_min", growth, greatest),
    ];
    checks.extend(bounds.into_iter().filter_map(|(name, samples, bound, reduce)| {
        let measured = outcome.samples.get(samples).and_then(|samples| reduce(samples));
        Some(compare(name, measured, bound?))
    }));
    if let Some(max) = expect.term_changes_max.and_then(|bounds| bounds.of(plan.profile)) {
        let counted = terms.map(|terms| term_changes(terms, max));
        checks.push(counted.unwrap_or_else(|| compare("term_changes_max", None, max as f64)));
    }
    checks
}

/// The same of a run that is over, by what its files hold: trials, marks, counts and samples. A
/// bound on a figure that these do not show is left out.
pub fn expected(plan: &Plan, held: &Outcome) -> Vec<Check> {
    let checks = checks(plan, held, terms_held(plan, held).as_ref());
    checks.into_iter().filter(|check| check.detail != UNMEASURED).collect()
}

/// The terms that began under load, by their marks.
fn terms_held(plan: &Plan, held: &Outcome) -> Option<Terms> {
    let count = |name: &str| held.counts.get(name).copied();
    // Among those that were dropped there may be elections.
    count(MARKS_DROPPED).filter(|dropped| *dropped == 0)?;
    let ns = |name: &str| Some(count(name)?.saturating_mul(1_000_000));
    let load_ns = (ns(LOAD_FROM_MS)?, ns(LOAD_UNTIL_MS)?);
    let mut events: Vec<NodeEvent> = held.marks.iter().filter_map(event_of).collect();
    events.sort_by_key(|event| event.at_ns);
    measures::terms(plan, Some(load_ns), &Records { events, ..Records::default() })
}

/// What a node had noted that was marked so, if terms follow from it.
fn event_of(mark: &Mark) -> Option<NodeEvent> {
    let (at_ns, what) = match mark.kind.as_str() {
        "leader" => {
            let term = mark.detail.strip_prefix("term ")?.parse().ok()?;
            (mark.at_ns, What::Became { role: Role::Leader, term })
        }
        "stall" => (mark.until_ns?, What::Stall { from_ns: mark.at_ns }),
        _ => return None,
    };
    Some(NodeEvent { at_ns, node: mark.node?, what })
}

type Reduce = fn(&[f64]) -> Option<f64>;

/// Whether a figure of all outages keeps its bound, however long those were that were not
/// measured, since they were not over before the trial was: if it depends on them, nobody knows.
fn compare_outages(name: &str, trials: &[Trial], bound: f64, reduce: Reduce) -> Check {
    let of = |unmeasured_ms: f64| {
        let outages = trials.iter().map(|trial| trial.outage_ms.unwrap_or(unmeasured_ms));
        reduce(&outages.collect::<Vec<f64>>())
    };
    let (Some(least), Some(most)) = (of(0.0), of(f64::INFINITY)) else {
        return compare(name, None, bound);
    };
    let measured: Vec<f64> = trials.iter().filter_map(|trial| trial.outage_ms).collect();
    let (all, unmeasured) = (trials.len(), trials.len() - measured.len());
    if unmeasured == 0 || least > bound {
        return compare(name, Some(least), bound);
    }
    let name = format!("expect.{name}");
    if most <= bound {
        let detail = format!(
            "{most:.1} or less, at most {bound}; of {all} outages {unmeasured} were not over \
             before the trial was, and count as longer than all others"
        );
        return check(&name, Verdict::Valid, detail);
    }
    let of_others = reduce(&measured)
        .map_or(String::new(), |ms| format!("; of the others it is {ms:.1}, at most {bound}"));
    let detail = format!(
        "{unmeasured} of {all} outages were not measured: clients were not served at their rate \
         again before the trial was over{of_others}"
    );
    check(&name, Verdict::Unknown, detail)
}

/// A bound on outages is broken only where every node has a client: where clients stay with other
/// nodes alone, and those are cut off, nobody asks who would serve, and all seem to be out.
fn by_any_client(plan: &Plan, mut check: Check) -> Check {
    let load = plan.workload.as_ref();
    let lacks_some = load.is_some_and(|load| load.pinned && load.clients < plan.nodes);
    if lacks_some && check.verdict == Verdict::Invalid {
        check.verdict = Verdict::Unknown;
        let few = "; but some nodes have no client that stays with them, and may have served: use \
                   more --clients";
        check.detail.push_str(few);
    }
    check
}

fn compare(name: &str, measured: Option<f64>, bound: f64) -> Check {
    let name = format!("expect.{name}");
    match measured {
        None => check(&name, Verdict::Unknown, UNMEASURED.into()),
        Some(value) if value <= bound => {
            check(&name, Verdict::Valid, format!("{value:.1}, at most {bound}"))
        }
        Some(value) => {
            check(&name, Verdict::Invalid, format!("{value:.1}, but at most {bound} is expected"))
        }
    }
}

fn term_changes(terms: &Terms, max: u64) -> Check {
    let changes: Vec<String> = terms
        .changes
        .iter()
        .map(|change| {
            let from = change.from.map_or("nobody".into(), |node| format!("node {node}"));
            let why = match change.stalled_ms {
                Some(ms) => format!("which had stood still for {ms} ms"),
                None => "which no stall explains".into(),
            };
            format!("term {} at {} ms after {from}, {why}", change.term, change.at_ns / 1_000_000)
        })
        .collect();
    let count = changes.len() as u64;
    let listed =
        if changes.is_empty() { String::new() } else { format!(": {}", changes.join("; ")) };
    // A host that halts its leader costs a term; without that, whoever lost it lost it by itself.
    let met = count <= max && terms.unexplained() == 0;
    let verdict = if met { Verdict::Valid } else { Verdict::Invalid };
    check("expect.term_changes_max", verdict, format!("{count}, at most {max}{listed}"))
}

/// By nearest rank.
fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().div_ceil(2).checked_sub(1)?).copied()
}

fn greatest(samples: &[f64]) -> Option<f64> {
    samples.iter().copied().max_by(f64::total_cmp)
}

const UNMEASURED: &str = "nothing was measured";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fault::{Fault, NodeNumber},
        plan,
        run::measures::TermChange,
    };

    fn plan(expect: &str) -> Plan {
        plan::parse(&format!("scenario = \"x\"\nkind = \"steady\"\n[expect]\n{expect}"))
            .expect("a plan")
    }

    /// What a kill cost that struck so late in the run.
    fn trial(number: u64, fault_at_ms: u64, outage_ms: Option<f64>) -> Trial {
        Trial {
            number,
            fault: Fault::Kill,
            also: Vec::new(),
            node: NodeNumber(1),
            nodes: vec![NodeNumber(1)],
            fault_at_ns: fault_at_ms * 1_000_000,
            term_before: 1,
            term_after: None,
            leader_after: None,
            outage_ms,
            longest_gap_ms: None,
            longest_client_gap_ms: None,
            rejoin_ms: None,
            detect_ms: None,
            elect_ms: None,
            commit_ms: None,
            client_ms: None,
        }
    }

    fn judged(plan: &Plan, trials: Vec<Trial>) -> Vec<Check> {
        checks(plan, &Outcome { trials, ..Outcome::default() }, None)
    }

    /// Each outage of a trial of its own.
    fn verdicts(plan: &Plan, outages_ms: &[f64]) -> Vec<Verdict> {
        let trials = (1..).zip(outages_ms);
        let trials = trials.map(|(number, ms)| trial(number, number * 1_000, Some(*ms))).collect();
        judged(plan, trials).into_iter().map(|check| check.verdict).collect()
    }

    #[test]
    fn a_bound_is_met_or_broken_or_not_known() {
        let plan = plan("outage_ms_p50_max = 2.0\noutage_ms_max = 5.0");
        assert_eq!(verdicts(&plan, &[1.0, 2.0, 5.0]), [Verdict::Valid; 2]);
        assert_eq!(verdicts(&plan, &[1.0, 2.1, 5.0]), [Verdict::Invalid, Verdict::Valid]);
        assert_eq!(verdicts(&plan, &[1.0, 2.0, 5.1]), [Verdict::Valid, Verdict::Invalid]);
        assert_eq!(verdicts(&plan, &[]), [Verdict::Unknown; 2]);
        assert_eq!(verdicts(&self::plan(""), &[9.0]), []);
    }

    #[test]
    fn outages_are_held_against_the_bounds_of_the_profile() {
        let text =
            "outage_ms_p50_max = { lan = 2, wan = 20 }\noutage_ms_max = { lan = 5, wan = 50 }";
        let mut plan = plan(text);
        let mut judged = |profile: &str| {
            plan.profile = plan::parse_profile(profile).expect("a profile");
            verdicts(&plan, &[3.0, 4.0, 6.0])
        };
        assert_eq!(judged("lan"), [Verdict::Invalid; 2]);
        assert_eq!(judged("wan"), [Verdict::Valid; 2]);
        assert_eq!(judged("loopback"), [], "it is not named");
    }

    #[test]
    fn an_outage_that_was_not_measured_leaves_a_bound_open() {
        let plan = plan("outage_ms_p50_max = 2.0\noutage_ms_max = 5.0");
        let judged = |outages_ms: &[Option<f64>]| -> Vec<Check> {
            let trials = (1..).zip(outages_ms);
            let trials = trials.map(|(number, ms)| trial(number, number * 1_000, *ms)).collect();
            judged(&plan, trials)
        };
        let verdicts = |outages_ms: &[Option<f64>]| -> Vec<Verdict> {
            judged(outages_ms).into_iter().map(|check| check.verdict).collect()
        };
        use Verdict::{Invalid, Unknown, Valid};
        // Of three the one that is missing does not decide the median, and of two it does.
        assert_eq!(verdicts(&[Some(1.0), Some(2.0), None]), [Valid, Unknown]);
        assert_eq!(verdicts(&[Some(3.0), None, None]), [Unknown, Unknown]);
        assert_eq!(verdicts(&[Some(3.0), Some(4.0), Some(6.0), None]), [Invalid, Invalid]);
        assert_eq!(verdicts(&[None]), [Unknown, Unknown]);
        let told = &judged(&[Some(1.0), None])[1].detail;
        assert!(told.starts_with("1 of 2 outages were not measured"), "{told}");
        assert!(told.ends_with("of the others it is 1.0, at most 5"), "{told}");
        let told = &judged(&[Some(1.0), Some(2.0), None])[0].detail;
        assert!(told.starts_with("2.0 or less, at most 2; of 3 outages 1 were not"), "{told}");
    }

    #[test]
    fn where_a_node_has_no_client_nobody_knows_that_all_were_out() {
        let verdict = |load: &str| {
            let plan = plan(&format!("outage_ms_max = 5.0\n[workload]\n{load}"));
            verdicts(&plan, &[6.0])[0]
        };
        assert_eq!(verdict("pinned = true\nclients = 4"), Verdict::Unknown);
        assert_eq!(verdict("pinned = true\nclients = 5"), Verdict::Invalid);
        assert_eq!(verdict("clients = 4"), Verdict::Invalid, "they know all five");
    }

    #[test]
    fn growth_is_looked_at_where_the_load_is_planned_to_last() {
        let plan = |duration_ms: u64| {
            let bound = "memory_growth_kb_per_min_max = 100.0";
            plan(&format!("{bound}\n[workload]\nduration_ms = {duration_ms}"))
        };
        let verdicts = |plan: &Plan, growths: Option<Vec<f64>>| -> Vec<Verdict> {
            let samples = growths.map(|growths| ("memory_growth_kb_per_min".to_owned(), growths));
            let outcome = Outcome { samples: samples.into_iter().collect(), ..Outcome::default() };
            let checks = checks(plan, &outcome, None);
            checks.into_iter().map(|check| check.verdict).collect()
        };
        let long = plan(GROWTH_LOAD_MS_MIN);
        assert_eq!(verdicts(&long, Some(vec![-3.0, 99.0])), [Verdict::Valid]);
        assert_eq!(verdicts(&long, Some(vec![-3.0, 101.0])), [Verdict::Invalid]);
        assert_eq!(verdicts(&long, None), [Verdict::Unknown]);
        assert_eq!(verdicts(&plan(GROWTH_LOAD_MS_MIN - 1), None), []);
    }

    #[test]
    fn changes_of_term_are_counted_against_the_bound_of_the_profile() {
        let changes = || {
            let (leader, stalled_ms) = (NodeNumber(1), Some(30));
            let change = TermChange { at_ns: 1, term: 2, leader, from: None, stalled_ms };
            Some(Terms { changes: vec![change; 2], stalls: 2 })
        };
        let mut plan = plan("term_changes_max = { lan = 0, loopback = 2 }");
        let mut verdicts = |profile: &str| -> Vec<Verdict> {
            plan.profile = plan::parse_profile(profile).expect("a profile");
            let checks = checks(&plan, &Outcome::default(), changes().as_ref());
            checks.into_iter().map(|check| check.verdict).collect()
        };
        assert_eq!(verdicts("lan"), [Verdict::Invalid]);
        assert_eq!(verdicts("loopback"), [Verdict::Valid]);
        assert_eq!(verdicts("wan"), [], "it is not named");
    }

    #[test]
    fn what_files_hold_is_judged_by_the_same_bounds() {
        let held = |trials| Outcome { trials, ..Outcome::default() };
        let outages = plan("outage_ms_max = 5.0");
        let checks = expected(&outages, &held(vec![trial(1, 1_000, Some(6.0))]));
        assert_eq!(checks, judged(&outages, vec![trial(1, 1_000, Some(6.0))]));
        assert_eq!(checks[0].verdict, Verdict::Invalid);
        assert_eq!(expected(&outages, &held(Vec::new())), [], "they do not show it");
    }

    #[test]
    fn changes_of_term_are_counted_by_their_marks() {
        let steady = plan("term_changes_max = 1");
        let mark = |at_ms: u64, kind: &str, node, detail: &str, until_ms: Option<u64>| Mark {
            at_ns: at_ms * 1_000_000,
            kind: kind.to_owned(),
            node: Some(NodeNumber(node)),
            nodes: Vec::new(),
            detail: detail.to_owned(),
            until_ns: until_ms.map(|ms| ms * 1_000_000),
        };
        let leaders =
            [mark(500, "leader", 1, "term 1", None), mark(2_200, "leader", 2, "term 2", None)];
        let stall = mark(2_000, "stall", 1, "100 ms", Some(2_100));
        let verdicts = |marks: &[Mark], dropped| -> Vec<Verdict> {
            let counts = [(LOAD_FROM_MS, 1_000), (LOAD_UNTIL_MS, 9_000), (MARKS_DROPPED, dropped)];
            let counts = counts.map(|(name, count)| (name.to_owned(), count)).into();
            let held = Outcome { marks: marks.to_vec(), counts, ..Outcome::default() };
            expected(&steady, &held).into_iter().map(|check| check.verdict).collect()
        };
        assert_eq!(verdicts(&leaders[..1], 0), [Verdict::Valid]);
        assert_eq!(verdicts(&leaders, 0), [Verdict::Invalid], "nothing explains it");
        let explained = [leaders.to_vec(), vec![stall]].concat();
        assert_eq!(verdicts(&explained, 0), [Verdict::Valid]);
        assert_eq!(verdicts(&explained, 1), [], "one more may have been dropped");
    }

    #[test]
    fn a_change_of_term_needs_a_stall_even_below_the_bound() {
        let plan = plan("term_changes_max = 1");
        let leader = NodeNumber(1);
        let change = |stalled_ms| TermChange { at_ns: 1, term: 2, leader, from: None, stalled_ms };
        let verdict = |changes| {
            let terms = Terms { changes, stalls: 0 };
            checks(&plan, &Outcome::default(), Some(&terms))[0].verdict
        };
        assert_eq!(verdict(vec![]), Verdict::Valid);
        assert_eq!(verdict(vec![change(Some(30))]), Verdict::Valid);
        assert_eq!(verdict(vec![change(None)]), Verdict::Invalid);
        assert_eq!(verdict(vec![change(Some(30)), change(Some(30))]), Verdict::Invalid);
        let unmeasured = checks(&plan, &Outcome::default(), None);
        assert_eq!(unmeasured[0].verdict, Verdict::Unknown, "no load, no measurement");
    }
}
