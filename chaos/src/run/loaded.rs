//! Runs with load: failover trials, and the steady run, which is a single trial without faults.
//!
//! Invariant: whatever ends the load early, the nodes are healed, the history is frozen and the
//! checkers judge what there is.

use std::{sync::Arc, time::Duration};

use runtime::Client;
use tokio::task::JoinHandle;

use crate::{
    checker::Check,
    cluster::{Cluster, World},
    groups::share,
    nemesis::Nemesis,
    outage::{Strike, fullest_window, needed},
    plan::WorkloadPlan,
    register::Registers,
    run::{
        Lab, Outcome, Phase, RunError, Stage, Stop, Stopper,
        besides::Labs,
        busy::BusyLoops,
        churn, cutoff,
        judging::{
            self, Found, RATE_BOUND, judge_all, not_formed, returned, too_slow, well_again_ns,
        },
        sampling::Sampling,
    },
    schedule::{self, Schedule},
    workload::{Driven, drive},
};

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
    let Some(load) = share(&lab.plan) else { return Ok(found) };
    lab.recorder.phase(Phase::Assume).await?;
    let begun = lab.cluster.started();
    let Some(view) = lab.formed().await? else {
        found.checks.push(not_formed(lab.stop.is_stopped()));
        found.checks.push(lab.nodes_stayed_up(&mut found.counts).await);
        return Ok(found);
    };
    let forming_ms = view.changed_ns.saturating_sub(lab.since_origin(begun)) / 1_000_000;
    found.counts.insert("formed_after_ms".into(), forming_ms);
    let labs = Labs::of(lab)?;
    if let Some(unformed) = labs.others_formed().await {
        found.checks.push(unformed);
        return Ok(found);
    }
    found.checks.push(judging::formed(forming_ms));
    let busy = BusyLoops::start(lab.plan.background_load);
    let sampling = Sampling::start(lab);
    let loads = labs.start(&load).await?;
    let carried = under_load(&labs, &load, &mut found).await;
    let load_end_ns = lab.since_origin(lab.cluster.now());
    lab.recorder.phase(Phase::Heal).await?;
    loads.stop();
    found.statuses = Some(sampling.finish().await?);
    found.driven = loads.finish().await?;
    for (reason, count) in labs.each().flat_map(|lab| lab.invoker.reasons()) {
        *found.counts.entry(reason).or_default() += count;
    }
    drop(busy);
    match carried {
        Ok(()) => {}
        // The recorder is the one thing without which there is nothing to judge.
        Err(error @ RunError::Listener(_)) => return Err(error),
        Err(error) => found.failure = Some(error.to_string()),
    }
    found.load_ns = found.load_ns.map(|(from, _)| (from, load_end_ns));
    // Where the lab failed, nodes may be down that no guarantee says anything of, but none that
    // ended by itself: it may well be why.
    match found.failure {
        None => after_load(&labs, &mut found).await?,
        Some(_) => found.checks.extend(lab.recorder.fallen().await?),
    }
    Ok(found)
}

/// Starts the load; it runs until the stopper is told, and after that until all is answered.
pub(super) fn start_load<C: Cluster>(
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
    labs: &Labs<'_, C>,
    load: &WorkloadPlan,
    found: &mut Found,
) -> Result<(), RunError> {
    let lab = labs.first;
    if let Some(reason) = any_rate_missed(labs, load, "after the group had formed").await? {
        found.checks.push(reason);
        return Ok(());
    }
    lab.recorder.phase(Phase::Load).await?;
    let now_ns = lab.since_origin(lab.cluster.now());
    found.load_ns = Some((now_ns, now_ns));
    let mut schedule = schedule::draw(&lab.plan, lab.seed);
    lab.recorder.schedule(&schedule).await?;
    let (mut lost, mut over) = (Vec::new(), 0);
    for trial in 1..=lab.plan.trials {
        if lab.stop.is_stopped() {
            break;
        }
        lab.recorder.progress(trial, lab.plan.trials).await?;
        let came = self::trial(labs, load, trial, (&mut schedule, &mut lost), found).await;
        // Who is lost is, whatever the lab could not do then.
        if came.is_err() && !lost.is_empty() {
            found.checks.push(returned(&lost, found.strikes.len()));
        }
        if let Err(reason) = came? {
            found.checks.push(reason);
            break;
        }
        over += 1;
    }
    if !lab.plan.steps.is_empty() {
        found.checks.push(returned(&lost, found.strikes.len()));
    }
    if over == lab.plan.trials && !lab.stop.is_stopped() {
        found.checks.extend(churn::members(&lab.plan, &found.strikes));
    }
    go_on(lab, &found.strikes).await;
    Ok(())
}

/// The load goes on after the last return for as long as it takes to tell that all is well again.
async fn go_on<C: Cluster>(lab: &Lab<C>, strikes: &[Strike]) {
    let Some(until_ns) = well_again_ns(&lab.plan, strikes) else { return };
    let until = lab.origin.plus(Duration::from_nanos(until_ns));
    if lab.stop.or(lab.cluster.advance(until)).await.is_none() {
        tracing::debug!("nobody waits to see whether all is well again");
    }
}

/// One trial; a check instead where the next one cannot begin.
async fn trial<C: Cluster>(
    labs: &Labs<'_, C>,
    load: &WorkloadPlan,
    number: u64,
    (schedule, lost): (&mut Schedule, &mut Vec<String>),
    found: &mut Found,
) -> Result<Result<(), Check>, RunError> {
    let lab = labs.first;
    let begin = lab.cluster.now();
    let end = begin.plus(Duration::from_millis(load.duration_ms.of(lab.plan.profile)));
    let carried = Nemesis::new(labs, (schedule, lost), number, begin).carry_out(end).await?;
    let strikes = carried.strikes.clone();
    let (plan, own) = (lab.plan.clone(), load.clone());
    lab.recorder.measure(strikes.clone(), move |set| cutoff::demand(&plan, &own, set)).await?;
    let beside = cutoff::demand(&lab.plan, load, &[]);
    lab.recorder.measure_beside(strikes, carried.led, beside).await?;
    found.strikes.extend(carried.strikes);
    found.disks.extend(carried.disks);
    for (name, count) in carried.befallen.faults().into_iter().filter(|(_, count)| *count > 0) {
        *found.counts.entry(format!("packets_{name}")).or_default() += count;
    }
    if lab.stop.is_stopped() || lab.plan.steps.is_empty() {
        return Ok(Ok(()));
    }
    if lab.formed().await?.is_none() && !lab.stop.is_stopped() {
        return Ok(Err(not_formed(lab.stop.is_stopped())));
    }
    if let Some(check) = lab.until_all_vote().await {
        return Ok(Err(check));
    }
    // The next trial starts from health, or it would measure this one's rest.
    Ok(match any_rate_missed(labs, load, &format!("after trial {number}")).await? {
        Some(reason) => Err(reason),
        None => Ok(()),
    })
}

/// The same of each group.
async fn any_rate_missed<C: Cluster>(
    labs: &Labs<'_, C>,
    load: &WorkloadPlan,
    when: &str,
) -> Result<Option<Check>, RunError> {
    for lab in labs.each() {
        let when = match lab.share.number {
            1 => when.to_owned(),
            other => format!("{when}, of group {other}"),
        };
        if let Some(missed) = rate_missed(lab, load, &when).await? {
            return Ok(Some(missed));
        }
    }
    Ok(None)
}

/// Waits until successes of what is due from now on reach 90 % of the rate over 100 ms; what to say
/// where that takes too long, nothing where it is reached or the run is stopped.
pub(super) async fn rate_missed<C: Cluster>(
    lab: &Lab<C>,
    load: &WorkloadPlan,
    when: &str,
) -> Result<Option<Check>, RunError> {
    let from_ns = lab.since_origin(lab.cluster.now());
    let deadline = lab.cluster.now().plus(RATE_BOUND);
    let mut successes = Vec::new();
    while lab.cluster.now() < deadline && !lab.stop.is_stopped() {
        successes = lab.recorder.successes(lab.share.number, from_ns).await?;
        if fullest_window(&successes) >= needed(load.rate_per_s) {
            return Ok(None);
        }
        lab.cluster.advance(lab.cluster.now().plus(RATE_PAUSE)).await;
    }
    Ok((!lab.stop.is_stopped()).then(|| too_slow(load, when, fullest_window(&successes))))
}

async fn after_load<C: Cluster>(labs: &Labs<'_, C>, found: &mut Found) -> Result<(), RunError> {
    let recorder = &labs.first.recorder;
    recorder.phase(Phase::Liveness).await?;
    let live = labs.prove_liveness().await?;
    found.checks.push(live);
    recorder.phase(Phase::Freeze).await?;
    let (logs, caught_up) = labs.logs().await;
    found.logs = logs;
    found.checks.push(caught_up);
    found.checks.extend(labs.look_finally().await?);
    found.checks.push(labs.stayed_up(&mut found.counts).await);
    Ok(())
}

const RATE_PAUSE: Duration = Duration::from_millis(20);
