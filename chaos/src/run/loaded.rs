//! Runs with load: failover trials, and the steady run, which is a single trial without faults.
//!
//! Invariant: whatever ends the load early, the nodes are healed, the history is frozen and the
//! checkers judge what there is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use runtime::Client;
use tokio::task::JoinHandle;

use crate::{
    checker::{Check, Verdict, judge, shortcomings, standard},
    cluster::{Cluster, World},
    history::{Frozen, History},
    nemesis::Nemesis,
    outage::{Strike, fullest_window, needed, recovery},
    plan::{Kind, Plan, WorkloadPlan},
    register::Registers,
    run::{
        Lab, Outcome, Phase, RunError, Stage, Stop, Stopper, busy::BusyLoops, expect, lab::check,
        measures, recorder::Records, usage,
    },
    schedule::{self, Schedule},
    workload::{Driven, drive},
};

/// What was found out while the cluster was there.
#[derive(Default)]
struct Found {
    checks: Vec<Check>,
    strikes: Vec<Strike>,
    driven: Driven,
    counts: BTreeMap<String, u64>,
    logs: Vec<crate::history::NodeLog>,
    /// From the rate being reached to the end of the load.
    load_ns: Option<(u64, u64)>,
    failure: Option<String>,
}

pub(super) async fn run<W: World>(stage: &Stage<'_, W>) -> Result<Outcome, RunError> {
    let Stage { plan, recorder, stop, .. } = stage;
    recorder.phase(Phase::Start).await?;
    let found = stage.with_lab(1, async |lab| carry_out(lab).await).await?;
    let records = recorder.freeze().await?;
    recorder.phase(Phase::Check).await?;
    // The checkers may take their time.
    let (plan, stopped) = ((*plan).clone(), stop.is_stopped());
    stage.world.compute(move || judge_all(&plan, found, records, stopped)).await?
}

async fn carry_out<C: Cluster>(lab: &Lab<C>) -> Result<Found, RunError> {
    let mut found = Found::default();
    let Some(load) = lab.plan.workload.clone() else { return Ok(found) };
    lab.recorder.phase(Phase::Assume).await?;
    let begun = lab.cluster.started();
    let Some(view) = lab.formed().await? else {
        found.checks.push(not_formed(lab));
        found.checks.push(lab.nodes_stayed_up(&mut found.counts).await);
        return Ok(found);
    };
    let forming_ms = view.changed_ns.saturating_sub(lab.since_origin(begun)) / 1_000_000;
    found.counts.insert("formed_after_ms".into(), forming_ms);
    let formed = format!("all bonds and a leader after {forming_ms} ms");
    found.checks.push(check("formed", Verdict::Valid, formed));
    let clients = lab.clients(load.clients).await?;
    let busy = BusyLoops::start(lab.plan.background_load);
    let (stopper, driving) = start_load(lab, &load, clients);
    let carried = under_load(lab, &load, &mut found).await;
    let load_end_ns = lab.since_origin(lab.cluster.now());
    lab.recorder.phase(Phase::Heal).await?;
    stopper.stop();
    found.driven = driving.await.map_err(|error| RunError::Lab(format!("the load: {error}")))?;
    found.counts.extend(lab.invoker.reasons());
    drop(busy);
    match carried {
        Ok(()) => {}
        // The recorder is the one thing without which there is nothing to judge.
        Err(error @ RunError::Listener(_)) => return Err(error),
        Err(error) => found.failure = Some(error.to_string()),
    }
    found.load_ns = found.load_ns.map(|(from, _)| (from, load_end_ns));
    // Where the lab failed, nodes may be down that no guarantee says anything of.
    if found.failure.is_none() {
        after_load(lab, &mut found).await?;
    }
    Ok(found)
}

/// Starts the load; it runs until the stopper is told, and after that until all is answered.
fn start_load<C: Cluster>(
    lab: &Lab<C>,
    load: &WorkloadPlan,
    clients: Vec<Client<Registers>>,
) -> (Stopper, JoinHandle<Driven>) {
    let (stopper, stop) = Stop::new();
    let invoker = Arc::clone(&lab.invoker);
    let wishes = (load.clone(), lab.seed, lab.numbers.clone());
    let operations = lab.recorder.operations();
    let driving = tokio::spawn(async move {
        drive(invoker, clients, wishes, operations, async move { stop.stopped().await }).await
    });
    (stopper, driving)
}

async fn under_load<C: Cluster>(
    lab: &Lab<C>,
    load: &WorkloadPlan,
    found: &mut Found,
) -> Result<(), RunError> {
    if let Some(reason) = rate_missed(lab, load, "after the group had formed").await? {
        found.checks.push(reason);
        return Ok(());
    }
    lab.recorder.phase(Phase::Load).await?;
    let now_ns = lab.since_origin(lab.cluster.now());
    found.load_ns = Some((now_ns, now_ns));
    let mut schedule = schedule::draw(&lab.plan, lab.seed);
    lab.recorder.schedule(&schedule).await?;
    let mut lost = Vec::new();
    for trial in 1..=lab.plan.trials {
        if lab.stop.is_stopped() {
            break;
        }
        lab.recorder.progress(trial, lab.plan.trials).await?;
        if let Err(reason) = self::trial(lab, load, trial, &mut schedule, found, &mut lost).await? {
            found.checks.push(reason);
            break;
        }
    }
    if !lab.plan.steps.is_empty() {
        found.checks.push(returned(&lost, found.strikes.len()));
    }
    Ok(())
}

/// One trial; a check instead where the next one cannot begin.
async fn trial<C: Cluster>(
    lab: &Lab<C>,
    load: &WorkloadPlan,
    number: u64,
    schedule: &mut Schedule,
    found: &mut Found,
    lost: &mut Vec<String>,
) -> Result<Result<(), Check>, RunError> {
    let begin = lab.cluster.now();
    let end = begin.plus(Duration::from_millis(load.duration_ms));
    let carried = Nemesis::new(lab, schedule, number, begin).carry_out(end).await?;
    for strike in &carried.strikes {
        lab.recorder.measure(strike.clone(), load.rate_per_s).await?;
    }
    found.strikes.extend(carried.strikes);
    for (name, count) in carried.befallen.faults().into_iter().filter(|(_, count)| *count > 0) {
        *found.counts.entry(format!("packets_{name}")).or_default() += count;
    }
    lost.extend(carried.lost);
    if lab.stop.is_stopped() || lab.plan.steps.is_empty() {
        return Ok(Ok(()));
    }
    if lab.formed().await?.is_none() && !lab.stop.is_stopped() {
        return Ok(Err(not_formed(lab)));
    }
    // The next trial starts from health, or it would measure this one's rest.
    Ok(match rate_missed(lab, load, &format!("after trial {number}")).await? {
        Some(reason) => Err(reason),
        None => Ok(()),
    })
}

/// Waits until successes reach 90 % of the rate over 100 ms; what to say where that takes too
/// long, nothing where it is reached or the run is stopped.
async fn rate_missed<C: Cluster>(
    lab: &Lab<C>,
    load: &WorkloadPlan,
    when: &str,
) -> Result<Option<Check>, RunError> {
    let from_ns = lab.since_origin(lab.cluster.now());
    let deadline = lab.cluster.now().plus(RATE_BOUND);
    let mut successes = Vec::new();
    while lab.cluster.now() < deadline && !lab.stop.is_stopped() {
        successes = lab.recorder.successes(from_ns).await?;
        if recovery(&successes, from_ns, u64::MAX, load.rate_per_s).is_some() {
            return Ok(None);
        }
        lab.cluster.advance(lab.cluster.now().plus(RATE_PAUSE)).await;
    }
    Ok((!lab.stop.is_stopped()).then(|| too_slow(load, when, fullest_window(&successes))))
}

async fn after_load<C: Cluster>(lab: &Lab<C>, found: &mut Found) -> Result<(), RunError> {
    lab.recorder.phase(Phase::Liveness).await?;
    let live = lab.prove_liveness().await?;
    found.checks.push(live);
    lab.recorder.phase(Phase::Freeze).await?;
    let (logs, caught_up) = lab.logs().await;
    found.logs = logs;
    found.checks.push(caught_up);
    found.checks.push(lab.nodes_stayed_up(&mut found.counts).await);
    Ok(())
}

fn judge_all(
    plan: &Plan,
    found: Found,
    mut records: Records,
    stopped: bool,
) -> Result<Outcome, RunError> {
    let operations = std::mem::take(&mut records.operations);
    let history = History::new(operations).map_err(|error| RunError::Lab(error.to_string()))?;
    let nodes = (1..=plan.nodes).collect();
    let frozen = Frozen { history, nodes, logs: found.logs };
    let (_, mut checks) = judge(&frozen, &standard());
    let mut outcome = Outcome {
        counts: found.counts,
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
    measures::trials(&mut outcome);
    let terms = measures::terms(plan, found.load_ns, &records);
    usage::measure(&mut outcome, &records, &found.strikes, found.load_ns);
    if let Some(terms) = terms.as_ref().filter(|_| plan.kind == Kind::Steady) {
        outcome.counts.extend(terms.counts());
    }
    outcome.counts.insert("marks_dropped".into(), records.marks_dropped);
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

fn not_formed<C: Cluster>(lab: &Lab<C>) -> Check {
    let detail = match lab.stop.is_stopped() {
        true => "stopped before all nodes were bonded and followed one leader".into(),
        false => format!(
            "not all nodes were bonded and followed one leader within {} s",
            super::lab::FORM_BOUND.as_secs()
        ),
    };
    let verdict = if lab.stop.is_stopped() { Verdict::Unknown } else { Verdict::Invalid };
    check("formed", verdict, detail)
}

fn too_slow(load: &WorkloadPlan, when: &str, fullest: usize) -> Check {
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

fn returned(lost: &[String], faults: usize) -> Check {
    match lost.is_empty() {
        true => {
            let detail = format!("after each of {faults} faults the node returned and caught up");
            check("rejoined", Verdict::Valid, detail)
        }
        false => check("rejoined", Verdict::Invalid, lost.join("; ")),
    }
}

const RATE_BOUND: Duration = Duration::from_secs(20);
const RATE_PAUSE: Duration = Duration::from_millis(20);

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
