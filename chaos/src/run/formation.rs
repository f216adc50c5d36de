//! Groups are started, many times: from the start of the first node to a leader that all follow,
//! with all bonds.
//!
//! Each trial has nodes, identities and stores of its own. Invariant: nothing that nodes of an
//! earlier trial said is taken for what those of a later one say.

use crate::{
    checker::{Check, Verdict},
    cluster::{Cluster, World},
    plan::Plan,
    run::{
        Lab, Mark, Outcome, Phase, RunError, Stage, expect,
        lab::{FORM_BOUND, check},
    },
    schedule,
};

/// What the trials came to.
#[derive(Default)]
struct Formed {
    forming_ms: Vec<f64>,
    complaints: Vec<String>,
}

pub(super) async fn run<W: World>(stage: &Stage<'_, W>) -> Result<Outcome, RunError> {
    let Stage { plan, seed, recorder, stop, .. } = stage;
    let mut formed = Formed::default();
    recorder.phase(Phase::Start).await?;
    for number in 1..=plan.trials {
        if stop.is_stopped() {
            break;
        }
        recorder.progress(number, plan.trials).await?;
        recorder.fresh().await?;
        stage.with_lab(number, async |lab| trial(lab, number, &mut formed).await).await?;
    }
    recorder.phase(Phase::Check).await?;
    let records = recorder.freeze().await?;
    let schedule = schedule::draw(plan, *seed);
    let outcome = Outcome { marks: records.marks, schedule, ..Outcome::default() };
    Ok(conclude(plan, formed, stop.is_stopped(), outcome))
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
        None if lab.stop.is_stopped() => {}
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

fn conclude(plan: &Plan, formed: Formed, stopped: bool, mut outcome: Outcome) -> Outcome {
    let count = formed.forming_ms.len() as u64;
    outcome.counts.insert("formed".into(), count);
    outcome.counts.insert("not_formed".into(), formed.complaints.len() as u64);
    outcome.checks.push(all_formed(plan, &formed));
    outcome.samples.insert("forming_ms".into(), formed.forming_ms);
    let expected = expect::checks(plan, &outcome, None);
    outcome.checks.extend(expected);
    let verdict = Verdict::combine(outcome.checks.iter().map(|check| check.verdict));
    outcome.verdict = Some(match verdict {
        Verdict::Valid if stopped => Verdict::Unknown,
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
        conclude(&plan, formed, stopped, Outcome::default()).verdict()
    }

    #[test]
    fn one_group_that_does_not_form_is_one_too_many() {
        let formed = || Formed { forming_ms: vec![100.0, 120.0], complaints: Vec::new() };
        assert_eq!(verdict(formed(), false), Verdict::Valid);
        assert_eq!(verdict(formed(), true), Verdict::Unknown);
        let complaints = vec!["trial 3: not formed".into()];
        assert_eq!(verdict(Formed { complaints, ..formed() }, true), Verdict::Invalid);
        assert_eq!(verdict(Formed::default(), false), Verdict::Unknown);
    }
}
