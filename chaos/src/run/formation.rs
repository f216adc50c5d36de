//! Groups are started, many times: from the start of the first node to a leader that all follow,
//! with all bonds.
//!
//! Each trial has nodes, identities and stores of its own. Invariants: nothing that nodes of an
//! earlier trial said is taken for what those of a later one say; what trials came to stands,
//! whatever keeps the next from its start.

use crate::{
    checker::{Check, Verdict},
    cluster::{Cluster, World},
    plan::Plan,
    run::{
        Lab, Mark, Outcome, Phase, RunError, Stage,
        course::MARKS_DROPPED,
        expect,
        lab::{FORM_BOUND, check},
        recorder::Records,
    },
    schedule,
};

/// What the trials came to.
#[derive(Default)]
struct Formed {
    forming_ms: Vec<f64>,
    complaints: Vec<String>,
    events_lost: u64,
}

pub(super) async fn run<W: World>(stage: &Stage<'_, W>) -> Result<Outcome, RunError> {
    let Stage { plan, seed, recorder, stop, .. } = stage;
    let mut formed = Formed::default();
    let mut failure = None;
    recorder.phase(Phase::Start).await?;
    for number in 1..=plan.trials {
        if stop.is_stopped() || failure.is_some() {
            break;
        }
        recorder.progress(number, plan.trials).await?;
        recorder.fresh().await?;
        let trial = stage.with_lab(number, async |lab| trial(lab, number, &mut formed).await);
        match trial.await {
            Ok(()) => {}
            // The recorder is the one thing without which there is nothing to judge.
            Err(error @ RunError::Listener(_)) => return Err(error),
            Err(error) => failure = Some(format!("trial {number}: {error}")),
        }
    }
    recorder.phase(Phase::Check).await?;
    let records = recorder.freeze().await?;
    let schedule = schedule::draw(plan, *seed);
    let outcome = Outcome { schedule, failure, ..Outcome::default() };
    Ok(conclude(plan, formed, records, stop.is_stopped(), outcome))
}

async fn trial<C: Cluster>(lab: &Lab<C>, number: u64, formed: &mut Formed) -> Result<(), RunError> {
    let begun_ns = lab.since_origin(lab.cluster.started());
    lab.recorder.mark(forming(number, begun_ns, None)).await?;
    match lab.formed().await? {
        Some(view) => {
            let took_ns = view.changed_ns.saturating_sub(begun_ns);
            lab.recorder.mark(forming(number, begun_ns, Some(view.changed_ns))).await?;
            formed.forming_ms.push(took_ns as f64 / 1e6);
        }
        None if lab.stop.is_stopped() => return Ok(()),
        None => {
            let failed = lab.recorder.view().failed;
            let reasons = failed.iter().map(|(node, reason)| format!("; node {node}: {reason}"));
            formed.complaints.push(format!(
                "trial {number}: not formed within {} s{}",
                FORM_BOUND.as_secs(),
                reasons.collect::<String>()
            ));
        }
    }
    for node in lab.nodes() {
        // Who is gone says nothing.
        let Ok(status) = lab.cluster.status(node).await else { continue };
        formed.events_lost += status.events_lost;
    }
    Ok(())
}

/// The band of a group: its nodes are others than those of the next.
fn forming(number: u64, at_ns: u64, until_ns: Option<u64>) -> Mark {
    Mark {
        at_ns,
        kind: "forming".into(),
        node: None,
        nodes: Vec::new(),
        detail: format!("group {number}"),
        until_ns,
    }
}

fn conclude(
    plan: &Plan,
    formed: Formed,
    records: Records,
    stopped: bool,
    mut outcome: Outcome,
) -> Outcome {
    let count = formed.forming_ms.len() as u64;
    outcome.counts.insert("formed".into(), count);
    outcome.counts.insert("not_formed".into(), formed.complaints.len() as u64);
    outcome.counts.insert("events_lost".into(), formed.events_lost);
    outcome.counts.insert(MARKS_DROPPED.into(), records.marks_dropped);
    outcome.marks = records.marks;
    outcome.checks.push(all_formed(plan, &formed));
    outcome.samples.insert("forming_ms".into(), formed.forming_ms);
    let expected = expect::checks(plan, &outcome, None);
    outcome.checks.extend(expected);
    let verdict = Verdict::combine(outcome.checks.iter().map(|check| check.verdict));
    let cut_short = stopped || outcome.failure.is_some();
    outcome.verdict = Some(match verdict {
        Verdict::Valid if cut_short => Verdict::Unknown,
        verdict => verdict,
    });
    outcome.stopped = stopped;
    outcome
}

fn all_formed(plan: &Plan, formed: &Formed) -> Check {
    let count = formed.forming_ms.len() as u64;
    let detail = format!("{count} of {} groups of {} nodes", plan.trials, plan.nodes);
    if !formed.complaints.is_empty() {
        let complaints = formed.complaints.join("; ");
        return check("formed", Verdict::Invalid, format!("{detail}: {complaints}"));
    }
    let verdict = if count == 0 { Verdict::Unknown } else { Verdict::Valid };
    check("formed", verdict, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;

    fn verdict(formed: Formed, stopped: bool) -> Verdict {
        let plan = plan::parse("scenario = \"x\"\nkind = \"formation\"\n").expect("a plan");
        conclude(&plan, formed, Records::default(), stopped, Outcome::default()).verdict()
    }

    #[test]
    fn one_group_that_does_not_form_is_one_too_many() {
        let formed = || Formed { forming_ms: vec![100.0, 120.0], ..Formed::default() };
        assert_eq!(verdict(formed(), false), Verdict::Valid);
        assert_eq!(verdict(formed(), true), Verdict::Unknown);
        let complaints = vec!["trial 3: not formed".into()];
        assert_eq!(verdict(Formed { complaints, ..formed() }, true), Verdict::Invalid);
        assert_eq!(verdict(Formed::default(), false), Verdict::Unknown);
    }

    #[test]
    fn what_was_not_kept_or_not_heard_is_counted() {
        let plan = plan::parse("scenario = \"x\"\nkind = \"formation\"\n").expect("a plan");
        let formed = Formed { events_lost: 3, ..Formed::default() };
        let records = Records { marks_dropped: 7, ..Records::default() };
        let outcome = conclude(&plan, formed, records, false, Outcome::default());
        let counted = ["marks_dropped", "events_lost"].map(|name| outcome.counts[name]);
        assert_eq!(counted, [7, 3]);
    }

    #[test]
    fn what_formed_before_a_trial_that_could_not_begin_still_counts() {
        let plan = plan::parse("scenario = \"x\"\nkind = \"formation\"\n").expect("a plan");
        let judged = |complaints: Vec<String>| {
            let formed = Formed { forming_ms: vec![100.0, 120.0], complaints, events_lost: 0 };
            let failure = Some("trial 3: node 1 did not start".to_owned());
            let outcome = Outcome { failure, ..Outcome::default() };
            conclude(&plan, formed, Records::default(), false, outcome)
        };
        let sound = judged(Vec::new());
        assert_eq!((sound.verdict(), sound.exit_code()), (Verdict::Unknown, 3));
        assert_eq!(sound.samples["forming_ms"].len(), 2);
        assert_eq!(judged(vec!["trial 2: not formed".into()]).exit_code(), 1);
    }
}
