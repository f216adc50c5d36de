//! What a run with load comes to: everything found out while the cluster was there, judged.
//!
//! Pure; the same in every world. Invariant: whatever ended the load, what there is is judged.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    checker::{Check, Verdict, shortcomings},
    groups::{self, Beside},
    history::{Frozen, History, NodeLog},
    outage::{Strike, needed},
    plan::{Kind, Plan, WorkloadPlan, may_unseat},
    run::{
        Befallen, Outcome, RunError, churn,
        course::{LOAD_FROM_MS, LOAD_UNTIL_MS, MARKS_DROPPED, course, service_bound},
        cutoff, disks, expect,
        lab::{FORM_BOUND, check},
        measures, offered,
        recorder::Records,
        sampling::{self, Status},
        usage,
    },
    workload::Driven,
};

/// What was found out while the cluster was there.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) checks: Vec<Check>,
    pub(crate) strikes: Vec<Strike>,
    /// What came of disks that were made to fail.
    pub(crate) disks: Vec<Befallen>,
    pub(crate) driven: Driven,
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) logs: Vec<NodeLog>,
    /// How nodes stood when they were asked; `None` if nobody asked them.
    pub(crate) statuses: Option<Vec<Status>>,
    /// From the rate being reached to the end of the load.
    pub(crate) load_ns: Option<(u64, u64)>,
    pub(crate) failure: Option<String>,
}

/// Judges what was found.
///
/// # Errors
/// A history that contradicts itself.
pub(crate) fn judge_all(
    plan: &Plan,
    found: Found,
    mut records: Records,
    stopped: bool,
) -> Result<Outcome, RunError> {
    let operations = std::mem::take(&mut records.operations);
    let history = History::new(operations).map_err(|error| RunError::Lab(error.to_string()))?;
    let mut counts = found.counts;
    counts.insert(MARKS_DROPPED.into(), records.marks_dropped);
    if let Some((from_ns, until_ns)) = found.load_ns {
        counts.insert(LOAD_FROM_MS.into(), from_ns / 1_000_000);
        counts.insert(LOAD_UNTIL_MS.into(), until_ns / 1_000_000);
    }
    let nodes = (1..=plan.nodes).collect();
    let course = course(plan, &records.schedule, &records.marks, &counts);
    let frozen = Frozen { history, nodes, logs: found.logs, course: Some(course) };
    let mut checks = groups::judge(&frozen, plan.groups);
    if let Some(statuses) = &found.statuses {
        let (events, logs) = (&records.events[..], &frozen.logs[..]);
        let schedule = &records.schedule;
        checks.push(sampling::invariants(statuses, events, schedule, logs, plan.storage));
    }
    let mut outcome = Outcome {
        counts,
        marks: std::mem::take(&mut records.marks),
        trials: std::mem::take(&mut records.trials),
        schedule: std::mem::take(&mut records.schedule),
        failure: found.failure,
        stopped,
        ..Outcome::default()
    };
    checks.splice(0..0, found.checks);
    let events_lost = outcome.counts.get("events_lost").copied().unwrap_or(0);
    let load = (found.load_ns, &found.strikes[..]);
    checks.push(measures::assumptions(plan, load, &records, events_lost));
    measures::operations(&mut outcome, &frozen.history, found.driven);
    outcome.counts.extend(offered::counts(plan, &frozen.history));
    measures::trials(&mut outcome);
    churn::measure(&mut outcome, &records.events, &found.strikes);
    beside(&mut outcome, std::mem::take(&mut records.beside), plan.groups);
    outcome.counts.extend(disks::counts(&found.disks));
    checks.extend(disks::judge(&found.disks));
    let terms = measures::terms(plan, found.load_ns, &records);
    checks.extend(cutoff::checks(plan, &found.strikes, &frozen.history, terms.as_ref()));
    usage::measure(&mut outcome, &records, &found.strikes, found.load_ns);
    if let Some(terms) = terms.as_ref().filter(|_| plan.kind == Kind::Steady) {
        outcome.counts.extend(terms.counts());
    }
    checks.extend(expect::checks(plan, &outcome, terms.as_ref()));
    let verdict = Verdict::combine(checks.iter().map(|check| check.verdict));
    // A broken guarantee is one whatever else was lacking, and a stopped run owes nothing more.
    if verdict == Verdict::Unknown && !stopped && outcome.failure.is_none() {
        outcome.failure = shortcomings(&checks);
    }
    let cut_short = stopped || outcome.failure.is_some();
    outcome.verdict = Some(match verdict {
        Verdict::Valid if cut_short => Verdict::Unknown,
        verdict => verdict,
    });
    outcome.checks = checks;
    outcome.frozen = frozen;
    Ok(outcome)
}

/// What faults cost the groups at whose leaders none was aimed.
fn beside(outcome: &mut Outcome, beside: Beside, groups: u64) {
    if groups > 1 {
        outcome.counts.insert("groups".into(), groups);
        outcome.counts.insert("beside_without_recovery".into(), beside.unmeasured);
    }
    outcome.samples.extend(beside.samples());
}

/// How long the load must go on, so that it can be told whether all is well after the last
/// return; `None` where nothing was hit.
pub(crate) fn well_again_ns(plan: &Plan, strikes: &[Strike]) -> Option<u64> {
    let may_be_out = |strike: &Strike| {
        let step = usize::try_from(strike.step).ok().and_then(|step| plan.steps.get(step));
        step.is_some_and(|step| may_unseat(plan, &step.drawn(strike.fault)))
    };
    let counted_ns = |strike: &Strike| match may_be_out(strike) {
        // Only once it votes again is nothing broken any more.
        true => strike.rejoined_ns.max(strike.returned_ns),
        false => strike.returned_ns,
    };
    let returned_ns = strikes.iter().filter_map(counted_ns).max()?;
    let bound = service_bound(plan) + SERVED;
    Some(returned_ns.saturating_add(u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX)))
}

/// What to say of a group that did not form.
pub(crate) fn not_formed(stopped: bool) -> Check {
    let detail = match stopped {
        true => "stopped before all nodes were bonded and followed one leader".into(),
        false => format!(
            "not all nodes were bonded and followed one leader within {} s",
            FORM_BOUND.as_secs()
        ),
    };
    let verdict = if stopped { Verdict::Unknown } else { Verdict::Invalid };
    check("formed", verdict, detail)
}

/// What to say of one that did.
pub(crate) fn formed(forming_ms: u64) -> Check {
    let detail = format!("all bonds and a leader after {forming_ms} ms");
    check("formed", Verdict::Valid, detail)
}

/// What to say where the rate was not reached; `fullest` is the most successes in 100 ms.
pub(crate) fn too_slow(load: &WorkloadPlan, when: &str, fullest: usize) -> Check {
    let WorkloadPlan { rate_per_s, .. } = load;
    let detail = format!(
        "{when} at most {fullest} operations succeeded within 100 ms, for {} s, but {} are needed, \
         nine tenths of {rate_per_s} per second: lower workload.rate_per_s (--rate), or give the \
         run more of the machine",
        RATE_BOUND.as_secs(),
        needed(*rate_per_s)
    );
    check("rate", Verdict::Unknown, detail)
}

/// Whether all who were hit came back.
pub(crate) fn returned(lost: &[String], faults: usize) -> Check {
    match lost.is_empty() {
        true => {
            let detail = format!("after each of {faults} faults the node returned and caught up");
            check("rejoined", Verdict::Valid, detail)
        }
        false => check("rejoined", Verdict::Invalid, lost.join("; ")),
    }
}

/// What of the load after healing is judged, and a little more.
const SERVED: Duration = Duration::from_millis(750);
/// How long the load may take to come to its rate.
pub(crate) const RATE_BOUND: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;

    fn judged(checks: Vec<Check>, stopped: bool) -> Outcome {
        let plan = plan::parse("scenario = \"x\"\nkind = \"steady\"\n[workload]\n");
        let found = Found { checks, ..Found::default() };
        judge_all(&plan.expect("a plan"), found, Records::default(), stopped).expect("no history")
    }

    #[test]
    fn a_rate_that_is_not_reached_is_an_error_of_the_lab_and_names_all_that_matters() {
        let slow = too_slow(&WorkloadPlan::default(), "after trial 3", 17);
        for words in ["after trial 3", "at most 17", "20 s", "45 are needed", "--rate"] {
            assert!(slow.detail.contains(words), "{words}: {}", slow.detail);
        }
        let outcome = judged(vec![slow.clone()], false);
        assert_eq!((outcome.verdict(), outcome.exit_code()), (Verdict::Unknown, 3));
        let failure = outcome.failure.expect("it is said");
        assert!(failure.ends_with("see rate, overlap, assumptions"), "{failure}");
        let stopped = judged(vec![slow], true);
        assert_eq!(
            (stopped.verdict(), stopped.exit_code(), stopped.failure),
            (Verdict::Unknown, 2, None)
        );
    }

    #[test]
    fn a_broken_guarantee_stays_one_where_the_load_was_too_little() {
        let broken = check("liveness", Verdict::Invalid, String::new());
        let outcome = judged(vec![broken], false);
        assert_eq!((outcome.exit_code(), outcome.failure), (1, None));
    }
}
