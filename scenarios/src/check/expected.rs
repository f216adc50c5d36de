//! Whether the figures that a run has left keep the bounds of its plan.
//!
//! Looks at the record alone: trials, faults, marks, counts and metrics. Invariant: a bound that
//! the run itself did not look at, or whose figure is not there or was measured by an older rule,
//! is not judged.

use std::collections::BTreeMap;

use chaos::{
    fault::{Fault, NodeNumber},
    outage,
    plan::Plan,
    run::{self, Outcome},
};
use reports::{Check, RunRecord, Trial};

use crate::convert;

/// One check for each bound that can be judged again.
pub(super) fn judge(plan: &Plan, record: &RunRecord) -> Vec<Check> {
    // By the older rule an outage that was not measured meant something else.
    let trials = record.has_present_outages().then(|| trials(record)).flatten();
    let held = Outcome {
        trials: trials.unwrap_or_default(),
        marks: record.marks.iter().map(convert::mark_of_record).collect(),
        counts: record.counts.clone(),
        samples: samples(record),
        ..Outcome::default()
    };
    let judged = run::expected(plan, &held);
    let again = judged.iter().map(convert::check);
    again.filter(|check| record.checks.iter().any(|one| one.name == check.name)).collect()
}

/// All trials, or none: a figure of some of them is another figure.
fn trials(record: &RunRecord) -> Option<Vec<outage::Trial>> {
    let number = |trial: &Trial| {
        let mut faults = record.faults.iter();
        let same = faults.find(|fault| (fault.struck_ms - trial.fault_at_ms).abs() < SAME_MS);
        Some(same?.trial)
    };
    record.trials.iter().map(|one| trial(one, number(one)?)).collect()
}

/// What a fault cost, read back from a record.
fn trial(trial: &Trial, number: u64) -> Option<outage::Trial> {
    let fault =
        |word: &String| -> Option<Fault> { serde_json::from_value(word.as_str().into()).ok() };
    Some(outage::Trial {
        number,
        fault: fault(&trial.fault)?,
        also: trial.also.iter().map(fault).collect::<Option<_>>()?,
        node: NodeNumber(trial.node),
        nodes: trial.nodes.iter().copied().map(NodeNumber).collect(),
        fault_at_ns: convert::ns(trial.fault_at_ms),
        term_before: trial.term_before.unwrap_or(0),
        term_after: trial.term_after,
        leader_after: trial.leader_after.map(NodeNumber),
        outage_ms: trial.outage_ms,
        longest_gap_ms: trial.longest_gap_ms,
        longest_client_gap_ms: trial.longest_client_gap_ms,
        rejoin_ms: trial.rejoin_ms,
        detect_ms: trial.detect_ms,
        elect_ms: trial.elect_ms,
        commit_ms: trial.commit_ms,
        client_ms: trial.client_ms,
    })
}

/// How long each group took to form, if the marks of all are there; and how fast the memory of a
/// node grew at most, which is all that a bound asks of that.
fn samples(record: &RunRecord) -> BTreeMap<String, Vec<f64>> {
    let forming = record.marks.iter().filter(|mark| mark.kind == "forming");
    let forming: Vec<f64> = forming.filter_map(|mark| Some(mark.until_ms? - mark.at_ms)).collect();
    let formed = record.counts.get("formed").copied();
    let are_all = !forming.is_empty() && formed == Some(forming.len() as u64);
    let forming = are_all.then(|| ("forming_ms".to_owned(), forming));
    let growth = record.metrics.get(GROWTH);
    let growth = growth.map(|growth| (GROWTH.to_owned(), vec![growth.max]));
    forming.into_iter().chain(growth).collect()
}

const GROWTH: &str = "memory_growth_kb_per_min";
/// Files keep milliseconds, as a number with a fraction.
const SAME_MS: f64 = 1e-3;

#[cfg(test)]
mod tests {
    use reports::Verdict;
    use serde_json::{Value, json};

    use super::*;

    /// What comes of a record with these parts, of a plan of that kind with one bound.
    fn judged(kind: &str, (bound, max): (&str, f64), parts: &Value) -> Vec<(Verdict, String)> {
        let plan = json!({ "scenario": "x", "kind": kind, "expect": { bound: max } });
        let name = format!("expect.{bound}");
        let mut record = json!({
            "schema_version": 2, "scenario": "x", "world": "process", "transport": "",
            "seed": "0x1", "verdict": "valid", "plan": plan,
            "environment": { "commit": "", "build_profile": "", "rustc": "", "machine": "" },
            "checks": [{ "name": name, "verdict": "valid", "detail": "" }],
        });
        let all = record.as_object_mut().unwrap();
        all.extend(parts.as_object().unwrap().clone());
        let plan = serde_json::from_value(record["plan"].clone()).unwrap();
        let checks = judge(&plan, &serde_json::from_value(record).unwrap());
        checks.into_iter().map(|check| (check.verdict, check.detail)).collect()
    }

    fn of(verdict: Verdict, detail: &str) -> Vec<(Verdict, String)> {
        vec![(verdict, detail.to_owned())]
    }

    #[test]
    fn outages_are_those_of_the_trials() {
        let fault = |at_ms: f64| {
            let fault = json!({ "trial": 1, "fault": "partition", "node": 1, "struck_ms": at_ms });
            let trial = json!({ "fault": "partition", "node": 1, "fault_at_ms": at_ms });
            (fault, trial)
        };
        let (fault, mut trial) = fault(1_000.5);
        trial["outage_ms"] = 250.0.into();
        let parts = json!({ "faults": [fault], "trials": [trial] });
        let max = |max| judged("failover", ("outage_ms_max", max), &parts);
        assert_eq!(max(250.0), of(Verdict::Valid, "250.0, at most 250"));
        assert_eq!(max(249.0), of(Verdict::Invalid, "250.0, but at most 249 is expected"));
        // Of which trial it is nobody knows.
        let parts = json!({ "trials": [trial] });
        assert_eq!(judged("failover", ("outage_ms_max", 1.0), &parts), []);
        let parts = json!({ "faults": [fault], "trials": [trial], "checks": [] });
        let bound = ("outage_ms_max", 1.0);
        assert_eq!(judged("failover", bound, &parts), [], "the run did not come so far");
    }

    #[test]
    fn outages_of_an_older_rule_are_not_judged_again() {
        let trial = |at_ms: f64, outage_ms: Option<f64>| {
            let mut trial = json!({ "fault": "kill", "node": 1, "fault_at_ms": at_ms });
            trial["outage_ms"] = outage_ms.into();
            trial
        };
        let fault =
            |at_ms: f64| json!({ "trial": 1, "fault": "kill", "node": 1, "struck_ms": at_ms });
        // The first two were not over before the next one: the last one's stood for them.
        let trials = [trial(1_000.0, None), trial(1_200.0, None), trial(1_300.0, Some(90.0))];
        let faults = [1_000.0, 1_200.0, 1_300.0].map(fault);
        let parts = json!({ "schema_version": 1, "faults": faults, "trials": trials });
        assert_eq!(judged("failover", ("outage_ms_max", 400.0), &parts), [], "it stands");
        let parts = json!({ "faults": faults, "trials": trials });
        let found = judged("failover", ("outage_ms_max", 400.0), &parts);
        assert_eq!(found[0].0, Verdict::Unknown, "{found:?}");
    }

    #[test]
    fn groups_formed_as_long_as_their_marks_say_and_memory_grew_as_its_metric_does() {
        let mark = |at_ms: f64, until_ms: f64| {
            let kind = "forming";
            json!({ "at_ms": at_ms, "kind": kind, "until_ms": until_ms })
        };
        let marks = [mark(0.0, 100.0), mark(500.0, 900.0), mark(1_000.0, 1_200.0)];
        let formed = |formed: u64, bound: &str, max: f64| {
            let parts = json!({ "marks": marks, "counts": { "formed": formed } });
            judged("formation", (bound, max), &parts)
        };
        let told = of(Verdict::Valid, "200.0, at most 200");
        assert_eq!(formed(3, "forming_ms_p50_max", 200.0), told);
        let told = of(Verdict::Invalid, "400.0, but at most 200 is expected");
        assert_eq!(formed(3, "forming_ms_max", 200.0), told);
        assert_eq!(formed(4, "forming_ms_max", 200.0), [], "a mark is missing");
        let growth = json!({
            "count": 2, "min": -3.0, "p50": -3.0, "p90": 70.0, "max": 70.0, "mean": 33.5,
        });
        let parts = json!({ "metrics": { GROWTH: growth }, "plan": {
            "scenario": "x", "kind": "steady", "workload": { "duration_ms": 240_000 },
            "expect": { "memory_growth_kb_per_min_max": 60.0 },
        } });
        let told = of(Verdict::Invalid, "70.0, but at most 60 is expected");
        assert_eq!(judged("steady", ("memory_growth_kb_per_min_max", 60.0), &parts), told);
    }
}
