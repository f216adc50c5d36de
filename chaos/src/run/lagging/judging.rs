//! What the trials come to, judged: each history by itself, and what all of them showed.
//!
//! Pure. Invariant: a trial that came to no end makes no run valid.

use super::{CatchUp, Found, Look, measure};
use crate::{
    checker::{Check, Verdict, shortcomings},
    groups::{joined, judge_parts, parts},
    history::{Frozen, History},
    plan::{LagFrom, Plan},
    run::{Outcome, RunError, expect, lab::check, measures, recorder::Records, sampling},
    schedule::Schedule,
};

/// Judges what was found.
///
/// # Errors
/// A history that contradicts itself.
pub(super) fn conclude(
    plan: &Plan,
    mut found: Found,
    mut records: Records,
    stopped: bool,
) -> Result<Outcome, RunError> {
    let operations = std::mem::take(&mut records.operations);
    let history = History::new(operations).map_err(|error| RunError::Lab(error.to_string()))?;
    let logs = std::mem::take(&mut found.logs);
    let frozen = Frozen { history, nodes: (1..=plan.nodes).collect(), logs, course: None };
    measure::note_snapshots(&mut found.catch_ups, &records.events);
    let mut checks = vec![caught_up(plan, &found, stopped), fetched(plan, &found.catch_ups)];
    checks.extend(of_trials(std::mem::take(&mut found.checks)));
    checks.extend(judge_parts(plan, &frozen));
    checks.extend(invariants(plan, &found, &records));
    let mut outcome = Outcome {
        counts: found.counts,
        marks: std::mem::take(&mut records.marks),
        schedule: found.schedule,
        failure: found.failure,
        stopped,
        ..Outcome::default()
    };
    checks.push(events(&outcome));
    measures::operations(&mut outcome, &frozen.history, found.driven);
    measure::samples(&mut outcome, &found.catch_ups, &found.looks, &frozen.history);
    outcome.catch_ups = found.catch_ups;
    checks.extend(expect::checks(plan, &outcome, None));
    let verdict = Verdict::combine(checks.iter().map(|check| check.verdict));
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

/// Whether every follower came to have what it missed within the bound.
fn caught_up(plan: &Plan, found: &Found, stopped: bool) -> Check {
    let name = "catch-up";
    let bound_ms = plan.lag.as_ref().map_or(0, |lag| lag.bound_ms);
    let late = found.catch_ups.iter().filter(|caught| caught.caught_up_ns.is_none());
    let late: Vec<String> = late
        .map(|caught| {
            let applied = caught.progress.last().map_or(0, |progress| progress.applied);
            format!(
                "trial {}, batch size {}: node {} had applied {applied} by then",
                caught.trial, caught.batch_size, caught.node
            )
        })
        .collect();
    let (done, all) = (found.catch_ups.len() - late.len(), parts(plan));
    let detail = format!("{done} of {all} followers caught up within {bound_ms} ms");
    match late.is_empty() {
        // Whoever stops a run stops a follower as well.
        false if !stopped => {
            check(name, Verdict::Invalid, format!("{detail}; {}", late.join("; ")))
        }
        true if done as u64 == all => check(name, Verdict::Valid, detail),
        _ => check(name, Verdict::Unknown, detail),
    }
}

/// Whether what was fetched was what it should have been, by the way that was meant.
fn fetched(plan: &Plan, catch_ups: &[CatchUp]) -> Check {
    let name = "fetched";
    let wrong: u64 = catch_ups.iter().map(|caught| caught.wrong).sum();
    let entries: u64 = catch_ups.iter().map(|caught| caught.fetched).sum();
    let from = plan.lag.as_ref().map(|lag| lag.from).unwrap_or_default();
    let over: Vec<&CatchUp> =
        catch_ups.iter().filter(|caught| caught.caught_up_ns.is_some()).collect();
    let by_snapshot = over.iter().filter(|caught| caught.snapshot).count();
    let detail = format!(
        "{entries} entries came in bulk, {by_snapshot} of {} followers went on from a snapshot, and \
         {wrong} answers were not what their leader vouched for",
        over.len()
    );
    // Without a snapshot where one is meant, or with one where none is, another way was measured.
    let as_meant = match from {
        LagFrom::Replay => by_snapshot == 0,
        LagFrom::Snapshot => by_snapshot == over.len(),
    };
    let verdict = match (wrong, as_meant) {
        (1.., _) => Verdict::Invalid,
        (0, false) => Verdict::Unknown,
        (0, true) if over.is_empty() => Verdict::Unknown,
        (0, true) => Verdict::Valid,
    };
    check(name, verdict, detail)
}

/// One answer for what was asked in each trial.
fn of_trials(checks: Vec<(u64, Check)>) -> Vec<Check> {
    let mut by_name: Vec<(String, Vec<(u64, Check)>)> = Vec::new();
    for (trial, check) in checks {
        match by_name.iter_mut().find(|(name, _)| *name == check.name) {
            Some((_, checks)) => checks.push((trial, check)),
            None => by_name.push((check.name.clone(), vec![(trial, check)])),
        }
    }
    by_name.into_iter().map(|(name, checks)| joined(&name, "trial", checks)).collect()
}

/// What nodes said agrees with itself, trial by trial. Of their logs what only filled them is gone,
/// so no log is one entry after the other; that they hold the same is for the checkers to say.
fn invariants(plan: &Plan, found: &Found, records: &Records) -> Option<Check> {
    let of_look = |look: &Look| {
        let (from_ns, until_ns) = look.window_ns;
        let within = |at_ns: u64| (from_ns..=until_ns).contains(&at_ns);
        let events: Vec<_> =
            records.events.iter().filter(|event| within(event.at_ns)).cloned().collect();
        let faults = found.schedule.faults.iter().filter(|fault| fault.trial == look.trial);
        let schedule = Schedule { faults: faults.cloned().collect(), ..Schedule::default() };
        let judged = sampling::invariants(&look.statuses, &events, &schedule, &[], plan.storage);
        (look.trial, judged)
    };
    let checks: Vec<(u64, Check)> = found.looks.iter().map(of_look).collect();
    let name = checks.first().map(|(_, check)| check.name.clone())?;
    Some(joined(&name, "trial", checks))
}

/// Whether everything that nodes noted was heard: from when times count is known from that.
fn events(outcome: &Outcome) -> Check {
    let lost = outcome.counts.get("events_lost").copied().unwrap_or(0);
    match lost {
        0 => check("assumptions", Verdict::Valid, "all that nodes noted was heard".into()),
        lost => check("assumptions", Verdict::Unknown, format!("{lost} events of nodes were lost")),
    }
}
