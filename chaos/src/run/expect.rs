//! Whether the figures are what the plan expects.
//!
//! Pure. Invariant: an expected figure that could not be measured is unknown, never met.

use crate::{
    checker::{Check, Verdict},
    plan::Plan,
    run::{Outcome, lab::check, measures::Terms},
};

/// One check for each expectation of the plan.
pub(crate) fn checks(plan: &Plan, outcome: &Outcome, terms: &Terms) -> Vec<Check> {
    let expect = &plan.expect;
    let growth = expect.memory_growth_kb_per_min_max;
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
    if let Some(max) = expect.term_changes_max {
        checks.push(term_changes(terms, max));
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
    use crate::{plan, run::measures::TermChange};

    fn plan(expect: &str) -> Plan {
        plan::parse(&format!("scenario = \"x\"\nkind = \"steady\"\n[expect]\n{expect}"))
            .expect("a plan")
    }

    fn verdicts(plan: &Plan, samples: &[f64]) -> Vec<Verdict> {
        let mut outcome = Outcome::default();
        outcome.samples.insert("outage_ms".into(), samples.to_vec());
        let checks = checks(plan, &outcome, &Terms::default());
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
    fn a_change_of_term_needs_a_stall_even_below_the_bound() {
        let plan = plan("term_changes_max = 1");
        let change = |stalled_ms| TermChange { at_ns: 1, term: 2, from: None, stalled_ms };
        let verdict = |changes| {
            let terms = Terms { changes, stalls: 0 };
            checks(&plan, &Outcome::default(), &terms)[0].verdict
        };
        assert_eq!(verdict(vec![]), Verdict::Valid);
        assert_eq!(verdict(vec![change(Some(30))]), Verdict::Valid);
        assert_eq!(verdict(vec![change(None)]), Verdict::Invalid);
        assert_eq!(verdict(vec![change(Some(30)), change(Some(30))]), Verdict::Invalid);
    }
}
