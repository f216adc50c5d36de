//! Runs with load: failover trials, and the steady run, which is a single trial without faults.
//!
//! Invariant: whatever ends the load early, the nodes are healed, the history is frozen and the
//! checkers judge what there is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use runtime::Client;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    checker::{Check, Verdict, judge, standard},
    cluster::{Cluster, World},
    history::{Frozen, History},
    nemesis::Nemesis,
    outage::{Strike, needed, recovery},
    plan::{Kind, Plan, WorkloadPlan},
    register::Registers,
    run::{
        Lab, Listener, Outcome, Phase, RunError, Stop, Stopper,
        busy::BusyLoops,
        expect,
        lab::{check, settings},
        measures,
        recorder::{Recorder, Records},
        usage,
    },
    schedule::{self, Schedule},
    seed::Seed,
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

pub(super) async fn run<W: World>(
    world: &W,
    plan: &Plan,
    seed: Seed,
    listener: Box<dyn Listener>,
    stop: Stop,
) -> Result<Outcome, RunError> {
    let origin = world.now();
    let (events, noted) = mpsc::channel(EVENTS_MAX);
    let (recorder, task) = Recorder::start(listener, origin, noted);
    let ran = async {
        recorder.phase(Phase::Start).await?;
        let cluster = world.start(settings(plan, seed, 1), events).await?;
        let wishes = (plan.clone(), seed);
        let lab = Lab::new(cluster, recorder.clone(), wishes, origin, stop.clone());
        let carried = carry_out(&lab).await;
        lab.cluster.stop().await?;
        let found = carried?;
        let records = recorder.freeze().await?;
        recorder.phase(Phase::Check).await?;
        conclude(plan.clone(), found, records, stop.is_stopped()).await
    };
    let outcome = ran.await;
    drop(recorder);
    // What the recorder has to say comes first: its end is what all others complain of.
    match task.await {
        Ok(Ok(())) => outcome,
        Ok(Err(error)) => Err(error),
        Err(error) => Err(RunError::Lab(format!("the recorder ended: {error}"))),
    }
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
    let begin_ns = lab.since_origin(lab.cluster.now());
    if !rate_reached(lab, load, begin_ns).await? {
        found.checks.push(too_slow(load, "after the group had formed"));
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
    lost.extend(carried.lost);
    if lab.stop.is_stopped() || lab.plan.steps.is_empty() {
        return Ok(Ok(()));
    }
    if lab.formed().await?.is_none() && !lab.stop.is_stopped() {
        return Ok(Err(not_formed(lab)));
    }
    // The next trial starts from health, or it would measure this one's rest.
    let healed_ns = lab.since_origin(lab.cluster.now());
    let recovered = rate_reached(lab, load, healed_ns).await? || lab.stop.is_stopped();
    Ok(if recovered { Ok(()) } else { Err(too_slow(load, &format!("after trial {number}"))) })
}

/// Waits until successes reach 90 % of the rate over 100 ms.
async fn rate_reached<C: Cluster>(
    lab: &Lab<C>,
    load: &WorkloadPlan,
    from_ns: u64,
) -> Result<bool, RunError> {
    let deadline = lab.cluster.now().plus(RATE_BOUND);
    while lab.cluster.now() < deadline && !lab.stop.is_stopped() {
        let successes = lab.recorder.successes(from_ns).await?;
        if recovery(&successes, from_ns, u64::MAX, load.rate_per_s).is_some() {
            return Ok(true);
        }
        lab.cluster.advance(lab.cluster.now().plus(RATE_PAUSE)).await;
    }
    Ok(false)
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

/// Judges. The checkers may take their time: they do it on a thread of their own.
async fn conclude(
    plan: Plan,
    found: Found,
    records: Records,
    stopped: bool,
) -> Result<Outcome, RunError> {
    let judged = tokio::task::spawn_blocking(move || judge_all(&plan, found, records, stopped));
    judged.await.map_err(|error| RunError::Lab(format!("the checkers ended: {error}")))?
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
    checks.push(measures::assumptions(plan, &found.strikes, &records, events_lost));
    measures::operations(&mut outcome, &frozen.history, found.driven);
    measures::trials(&mut outcome);
    let terms = measures::terms(plan, found.load_ns, &records);
    usage::measure(&mut outcome, &records, &found.strikes, found.load_ns);
    if plan.kind == Kind::Steady {
        outcome.counts.extend(terms.counts());
    }
    outcome.counts.insert("marks_dropped".into(), records.marks_dropped);
    checks.extend(expect::checks(plan, &outcome, &terms));
    let verdict = Verdict::combine(checks.iter().map(|check| check.verdict));
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

fn too_slow(load: &WorkloadPlan, when: &str) -> Check {
    let detail = format!(
        "the assumption that {} operations per second succeed did not hold: {when} there were \
         never {} successes within 100 ms, for {} s",
        load.rate_per_s,
        needed(load.rate_per_s),
        RATE_BOUND.as_secs()
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

const EVENTS_MAX: usize = 65_536;
const RATE_BOUND: Duration = Duration::from_secs(20);
const RATE_PAUSE: Duration = Duration::from_millis(20);
