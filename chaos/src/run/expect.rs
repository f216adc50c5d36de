//! Whether the figures are what the plan expects.
//!
//! Pure. Invariant: an expected figure that could not be measured is unknown, never met.

use crate::{
    checker::{Check, Verdict},
    plan::{GROWTH_LOAD_MS_MIN, Plan},
    run::{Outcome, lab::check, measures::Terms},
};

/// One check for each expectation of the plan.
pub(crate) fn checks(plan: &Plan, outcome: &Outcome, terms: Option<&Terms>) -> Vec<Check> {
    let expect = &plan.expect;
    // A load that is cut short leaves the figure unknown; one that was never meant to last long
    // enough was not meant to show it.
    let lasts = plan.workload.as_ref().is_some_and(|load| load.duration_ms >= GROWTH_LOAD_MS_MIN);
    let growth = expect.memory_growth_kb_per_min_max.filter(|_| lasts);
    let bounds = [
        ("outage_ms_p50_max", "outage_ms", expect.outage_ms_p50_max, median as Reduce),
        ("outage_ms_max", "outage_ms", expect.outage_ms_max, greatest),
        ("forming_ms_p50_max", "forming_ms", expect.forming_ms_p50_max, median),
        ("forming_ms_max", "forming_ms", expect.forming_ms_max, greatest),
        ("memory_growth_kb_per_min_max", "memory_growth_kb_per_min", growth, greatest),
    ];
    let mut checks: Vec<Check> = bounds
        .into_iter()
        .filter_map(|(name, samples, bound, reduce)| {
            let measured = outcome.samples.get(samples).and_then(|samples| reduce(samples));
            Some(compare(name, measured, bound?))
        })
        .collect();
    if let Some(max) = expect.term_changes_max.and_then(|bounds| bounds.of(plan.profile)) {
        let counted = terms.map(|terms| term_changes(terms, max));
        checks.push(counted.unwrap_or_else(|| compare("term_changes_max", None, max as f64)));
    }
    checks
}

type Reduce = fn(&[f64]) -> Option<f64>;

fn compare(name: &str, measured: Option<f64>, bound: f64) -> Check {
    let name = format!("expect.{name}");
    match measured {
        None => check(&name, Verdict::Unknown, "nothing was measured".into()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fault::NodeNumber, plan, run::measures::TermChange};

    fn plan(expect: &str) -> Plan {
        plan::parse(&format!("scenario = \"x\"\nkind = \"steady\"\n[expect]\n{expect}"))
            .expect("a plan")
    }

    fn verdicts(plan: &Plan, samples: &[f64]) -> Vec<Verdict> {
        let mut outcome = Outcome::default();
        outcome.samples.insert("outage_ms".into(), samples.to_vec());
        let checks = checks(plan, &outcome, None);
        checks.into_iter().map(|check| check.verdict).collect()
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
