//! What the trials come to, judged: each history by itself, and what all of them showed.
//!
//! Pure. Invariant: a trial that came to no end makes no run valid.

use super::{CatchUp, Found, Look, Since, matching, measure};
use crate::{
    checker::{Check, Verdict, shortcomings},
    groups::{joined, judge_parts, parts},
    history::{Frozen, History, NodeLog},
    plan::{LagFrom, Plan, consensus, of_size},
    run::{
        Outcome, RunError, course::MARKS_DROPPED, expect, lab::check, measures, offered,
        recorder::Records, sampling,
    },
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
    checks.extend(invariants(plan, &found, &frozen.logs, &records));
    found.counts.insert(MARKS_DROPPED.into(), records.marks_dropped);
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
    outcome.counts.extend(offered::counts(plan, &frozen.history));
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
    let mut late = Vec::new();
    let mut was_able = false;
    for caught in found.catch_ups.iter().filter(|caught| caught.caught_up_ns.is_none()) {
        let applied = caught.progress.last().map_or(0, |progress| progress.applied);
        let held_back = held_back(plan, caught);
        was_able |= held_back.is_none();
        late.push(format!(
            "trial {}, batch size {}: node {} had applied {applied} by then{}",
            caught.trial,
            caught.batch_size,
            caught.node,
            held_back.unwrap_or_default()
        ));
    }
    let (done, all) = (found.catch_ups.len() - late.len(), parts(plan));
    let detail = format!("{done} of {all} followers caught up within {bound_ms} ms");
    if late.is_empty() {
        let verdict = if done as u64 == all { Verdict::Valid } else { Verdict::Unknown };
        return check(name, verdict, detail);
    }
    // Whoever stops a run stops a follower as well.
    let verdict = if was_able && !stopped { Verdict::Invalid } else { Verdict::Unknown };
    check(name, verdict, format!("{detail}; {}", late.join("; ")))
}

/// What to say of a follower that the plan itself lets fetch too slowly to be in time; nothing of
/// one that could have been.
fn held_back(plan: &Plan, caught: &CatchUp) -> Option<String> {
    let lag = plan.lag.as_ref()?;
    let rate = lag.rate_bytes_per_s_max?;
    let entries = match (lag.from, of_size(plan, caught.batch_size).snapshot_log_entries) {
        // What is not in a snapshot: what came since, and the tail that is kept behind it.
        (LagFrom::Snapshot, Some(entries)) => {
            caught.entries.min(u64::from(entries) + u64::from(entries / 4))
        }
        _ => caught.entries,
    };
    let bytes = match caught.fetched {
        0 => u128::from(entries) * u128::from(lag.command_bytes),
        fetched => u128::from(entries) * u128::from(caught.fetched_bytes) / u128::from(fetched),
    };
    let in_time = u128::from(rate) * u128::from(lag.bound_ms) / 1_000;
    (in_time < bytes).then(|| {
        format!(
            ", but of the {bytes} bytes that it missed it may fetch {in_time} in that time, at \
             {rate} in each second: a higher --rate-max, or fewer --entries, could show more"
        )
    })
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
    let why = over.iter().find(|caught| from == LagFrom::Snapshot && !caught.snapshot);
    let detail = match why {
        Some(caught) => format!("{detail}; {}", why_no_snapshot(plan, caught)),
        None => detail,
    };
    let verdict = match (wrong, as_meant) {
        (1.., _) => Verdict::Invalid,
        (0, false) => Verdict::Unknown,
        (0, true) if over.is_empty() => Verdict::Unknown,
        (0, true) => Verdict::Valid,
    };
    check(name, verdict, detail)
}

/// Why a follower was offered no snapshot, and what would help. A leader offers one only where the
/// next entry that it has to send is compacted away.
fn why_no_snapshot(plan: &Plan, caught: &CatchUp) -> String {
    let consensus = consensus(plan);
    let (entries, bytes) = (consensus.inflight_entries_max, consensus.inflight_bytes_max);
    let CatchUp { trial, node, .. } = caught;
    let away_ms = caught.returned_ns.saturating_sub(caught.fault_at_ns) / 1_000_000;
    match caught.since {
        Since::Return => format!(
            "trial {trial}: node {node} was away for {away_ms} ms and kept its bonds, so its \
             leader had sent ahead what it missed before that was compacted, up to {entries} \
             entries or {bytes} bytes, and did not send it again: use --fault kill or wipe, or \
             --entries {} or more",
            u64::from(entries) * WINDOWS
        ),
        Since::Bond => format!(
            "trial {trial}: the log of its leader still held all that node {node} missed: use more \
             --entries"
        ),
    }
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

/// What nodes said agrees with itself, trial by trial, and so do their logs. What only filled those
/// is gone, so that no log is one entry after the other, as elsewhere.
fn invariants(plan: &Plan, found: &Found, logs: &[NodeLog], records: &Records) -> Option<Check> {
    let of_look = |look: &Look| {
        let (from_ns, until_ns) = look.window_ns;
        let within = |at_ns: u64| (from_ns..=until_ns).contains(&at_ns);
        let events: Vec<_> =
            records.events.iter().filter(|event| within(event.at_ns)).cloned().collect();
        let faults = found.schedule.faults.iter().filter(|fault| fault.trial == look.trial);
        let schedule = Schedule { faults: faults.cloned().collect(), ..Schedule::default() };
        let judged = sampling::invariants(&look.statuses, &events, &schedule, &[], plan.storage);
        let own: Vec<&NodeLog> = logs.iter().filter(|log| log.group == look.trial).collect();
        (look.trial, with_logs(judged, look.statuses.len(), &own))
    };
    let checks: Vec<(u64, Check)> = found.looks.iter().map(of_look).collect();
    let name = checks.first().map(|(_, check)| check.name.clone())?;
    Some(joined(&name, "trial", checks))
}

/// What nodes of a trial said, of which so much when they were asked, and what their logs hold.
fn with_logs(said: Check, answers: usize, logs: &[&NodeLog]) -> Check {
    if said.verdict == Verdict::Invalid {
        return said;
    }
    if let Some(difference) = matching::differ(logs) {
        return check(&said.name, Verdict::Invalid, format!("log matching: {difference}"));
    }
    let entries: usize = logs.iter().map(|log| log.lines.len()).sum();
    let all = format!("{answers} answers and the events of nodes");
    let detail = match (said.verdict, entries) {
        (Verdict::Valid, 0) => format!("{all} agree with each other; logs were not compared"),
        (Verdict::Valid, _) => format!(
            "{all}, and {entries} entries of {} logs, agree with each other; what only filled \
             logs was not compared",
            logs.len()
        ),
        _ => return said,
    };
    Check { detail, ..said }
}

/// Whether everything that nodes noted was heard: from when times count is known from that.
fn events(outcome: &Outcome) -> Check {
    let lost = outcome.counts.get("events_lost").copied().unwrap_or(0);
    match lost {
        0 => check("assumptions", Verdict::Valid, "all that nodes noted was heard".into()),
        lost => check("assumptions", Verdict::Unknown, format!("{lost} events of nodes were lost")),
    }
}

/// So many windows of a leader are more than it has sent ahead, and more than the logs keep behind
/// the last snapshot, however rarely a plan may have them taken.
const WINDOWS: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fault::{Fault, NodeNumber},
        history::LogLine,
        plan,
        run::lagging::Progress,
    };

    fn plan(lag: &str) -> Plan {
        let head = "scenario = \"x\"\nkind = \"lagging\"\nnodes = 4\n[workload]\n[lag]\n";
        plan::parse(&format!("{head}{lag}\n")).expect("a plan")
    }

    /// Node 2, which missed so many entries, fetched so many in bulk, 80 bytes each, and caught up
    /// or did not.
    fn caught(entries: u64, fetched: u64, caught_up_ns: Option<u64>) -> CatchUp {
        CatchUp {
            trial: 1,
            batch_size: 2_000,
            fault: Fault::Kill,
            node: NodeNumber(2),
            fault_at_ns: 2_000_000_000,
            filled_ns: 2_240_000_000,
            returned_ns: 2_240_000_000,
            since: Since::Bond,
            from_ns: 2_300_000_000,
            caught_up_ns,
            entries,
            bytes: entries * 64,
            fetched,
            fetched_bytes: fetched * 80,
            chunks: 1,
            peers: 2,
            wrong: 0,
            snapshot: false,
            terms: 0,
            progress: vec![Progress { at_ns: 9, applied: 700, fetched: Vec::new() }],
        }
    }

    fn judged(lag: &str, caught: CatchUp, stopped: bool) -> Check {
        let found = Found { catch_ups: vec![caught], ..Found::default() };
        caught_up(&plan(lag), &found, stopped)
    }

    #[test]
    fn marks_beyond_those_that_are_kept_are_counted() {
        let records = Records { marks_dropped: 7, ..Records::default() };
        let outcome = conclude(&plan(""), Found::default(), records, false).expect("no history");
        assert_eq!(outcome.counts["marks_dropped"], 7);
    }

    #[test]
    fn a_follower_is_late_only_where_it_might_have_been_in_time() {
        let late = judged("", caught(200_000, 50_000, None), false);
        assert_eq!(late.verdict, Verdict::Invalid);
        assert!(late.detail.ends_with("node 2 had applied 700 by then"), "{}", late.detail);
        assert_eq!(judged("", caught(9, 9, None), true).verdict, Verdict::Unknown);
        assert_eq!(judged("", caught(9, 9, Some(3)), false).verdict, Verdict::Valid);
    }

    #[test]
    fn a_rate_that_the_plan_makes_too_low_is_no_fault_of_the_groups() {
        // Within a minute 3,932,160 bytes may come: 49,152 entries of 80 bytes, as they are sent.
        let rate = "rate_bytes_per_s_max = 65536";
        let slow = judged(rate, caught(200_000, 50_000, None), false);
        assert_eq!(slow.verdict, Verdict::Unknown);
        let told = "of the 16000000 bytes that it missed it may fetch 3932160 in that time";
        assert!(slow.detail.contains(told), "{}", slow.detail);
        assert_eq!(judged(rate, caught(49_153, 40_000, None), false).verdict, Verdict::Unknown);
        assert_eq!(judged(rate, caught(49_152, 40_000, None), false).verdict, Verdict::Invalid);
        // What they come to as they are sent is not known: then it is their contents.
        assert_eq!(judged(rate, caught(61_441, 0, None), false).verdict, Verdict::Unknown);
        assert_eq!(judged(rate, caught(61_440, 0, None), false).verdict, Verdict::Invalid);
        // A snapshot holds all but 31,250 of them.
        let snapshot = format!("{rate}\nfrom = \"snapshot\"\nentries = 100000");
        let late = judged(&snapshot, caught(100_000, 10_000, None), false);
        assert_eq!(late.verdict, Verdict::Invalid);
    }

    #[test]
    fn the_logs_of_a_trial_are_compared_or_it_is_said_that_they_were_not() {
        let log = |node, value| {
            let line = LogLine { term: 1, index: 1, request: None, value: Some(value) };
            NodeLog { node, group: 1, lines: vec![line] }
        };
        let (one, same, other) = (log(1, 4), log(2, 4), log(2, 5));
        let judged = |verdict, logs: &[&NodeLog]| {
            with_logs(check("invariants (sampled)", verdict, "as it is".into()), 7, logs)
        };
        let sound = judged(Verdict::Valid, &[&one, &same]);
        assert_eq!(sound.verdict, Verdict::Valid);
        assert!(sound.detail.contains("7 answers and the events of nodes, and 2 entries of 2"));
        let broken = judged(Verdict::Unknown, &[&one, &other]);
        assert_eq!(broken.verdict, Verdict::Invalid);
        assert!(broken.detail.contains("different entries at 1.1"), "{}", broken.detail);
        assert!(judged(Verdict::Valid, &[]).detail.ends_with("; logs were not compared"));
        for verdict in [Verdict::Unknown, Verdict::Invalid] {
            let kept = judged(verdict, &[&one, &same]);
            assert_eq!((kept.verdict, &*kept.detail), (verdict, "as it is"));
        }
    }

    #[test]
    fn where_a_snapshot_was_meant_and_none_was_offered_it_is_said_why() {
        let plan = plan("from = \"snapshot\"\nentries = 6000\nfault = \"pause\"");
        let kept = CatchUp { since: Since::Return, ..caught(6_000, 0, Some(3_000_000_000)) };
        let offered = CatchUp { snapshot: true, ..kept.clone() };
        let sound = fetched(&plan, std::slice::from_ref(&offered));
        assert_eq!(sound.verdict, Verdict::Valid);
        assert!(sound.detail.ends_with("vouched for"), "{}", sound.detail);
        let lacking = fetched(&plan, &[offered, kept.clone()]);
        assert_eq!(lacking.verdict, Verdict::Unknown);
        for words in ["away for 240 ms and kept its bonds", "16384", "--entries 49152 or more"] {
            assert!(lacking.detail.contains(words), "`{words}` is not said: {}", lacking.detail);
        }
        let anew = fetched(&plan, &[CatchUp { since: Since::Bond, ..kept }]);
        assert!(anew.detail.ends_with("node 2 missed: use more --entries"), "{}", anew.detail);
    }
}
