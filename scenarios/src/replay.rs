//! A run once more, as its record says it was: what it takes, and whether it was the same.
//!
//! Pure but for reading the record. Invariant: a run is said to have repeated only where its world
//! promises it and both trace and verdict are what they were.

use std::path::Path;

use chaos::plan::{self, Plan, WorldKind};
use chaos::seed::Seed;
use reports::{RunFolder, RunRecord};

use crate::{check, convert};

/// What it takes to do a run again.
pub(crate) struct Earlier {
    /// The record it left.
    pub(crate) record: RunRecord,
    pub(crate) plan: Plan,
    pub(crate) world: WorldKind,
    pub(crate) seed: Seed,
}

/// Whether a run was the same once more.
#[derive(Debug, PartialEq)]
pub(crate) enum Repeated {
    /// In everything.
    Yes,
    /// It was not bound to be.
    Free,
    /// By the same program, in a world that promises it: the laboratory failed.
    No,
}

/// Reads what a run was.
///
/// # Errors
/// A folder that holds no run, and a plan that cannot be carried out any more.
pub(crate) fn read(run: &Path) -> anyhow::Result<Earlier> {
    let folder = RunFolder::open(run)?;
    let record = folder.read_record()?;
    let seed = Seed(record.seed);
    let plan = Plan { seed: Some(seed), ..check::plan_of(&folder, &record)? };
    let world = record.world.parse()?;
    plan::validate(&plan)?;
    plan::fits(&plan, world)?;
    Ok(Earlier { record, plan, world, seed })
}

/// Compares the two, and says it in words.
pub(crate) fn compare(then: &RunRecord, now: &RunRecord) -> (Repeated, String) {
    let verdicts = match (then.verdict.as_str(), now.verdict.as_str()) {
        (then, now) if then == now => format!("the verdict is {now} again"),
        (then, now) => format!("the verdict was {then} and is {now}"),
    };
    if !now.is_virtual() {
        let told = format!("{verdicts}; in world process wall time does not repeat");
        return (Repeated::Free, told);
    }
    // Where a run was stopped, its trace ends where the host's clock says.
    let whole = |record: &RunRecord| {
        let is_stopped = record.checks.iter().any(|check| check.name == convert::FINISHED);
        record.trace_hash.clone().filter(|_| !is_stopped)
    };
    let (Some(trace), Some(trace_now)) = (whole(then), whole(now)) else {
        let told = format!("{verdicts}; not both runs came to their end: no traces to compare");
        return (Repeated::Free, told);
    };
    if trace == trace_now && then.verdict == now.verdict {
        return (Repeated::Yes, format!("repeated: {verdicts}, and the trace is {trace} again"));
    }
    let told = format!("not repeated: {verdicts}; the trace was {trace} and is {trace_now}");
    let (commit, commit_now) = (&then.environment.commit, &now.environment.commit);
    // With a mark (`-dirty`, `-older`) it does not say which sources the program is of.
    let is_same = commit == commit_now && commit != "unknown" && !commit.contains('-');
    match is_same {
        true => {
            (Repeated::No, format!("{told}, by the same program: `diff` finds where they part"))
        }
        false => {
            let told = format!("{told}, by another program: {commit} then, {commit_now} now");
            (Repeated::Free, told)
        }
    }
}

#[cfg(test)]
mod tests {
    use reports::{Environment, SCHEMA_VERSION, Verdict};

    use super::*;

    fn record(world: &str, commit: &str, trace: Option<&str>, verdict: Verdict) -> RunRecord {
        RunRecord {
            schema_version: SCHEMA_VERSION,
            scenario: "x".to_owned(),
            world: world.to_owned(),
            transport: String::new(),
            seed: 7,
            verdict,
            plan: serde_json::Value::Null,
            environment: Environment {
                commit: commit.to_owned(),
                build_profile: "release".to_owned(),
                rustc: String::new(),
                machine: String::new(),
            },
            command: None,
            trace_hash: trace.map(str::to_owned),
            checks: Vec::new(),
            marks: Vec::new(),
            faults: Vec::new(),
            trials: Vec::new(),
            lapses: Vec::new(),
            catch_ups: Vec::new(),
            counts: std::collections::BTreeMap::new(),
            ratios: std::collections::BTreeMap::new(),
            metrics: std::collections::BTreeMap::new(),
        }
    }

    fn sim(commit: &str, trace: &str, verdict: Verdict) -> RunRecord {
        record("sim", commit, Some(trace), verdict)
    }

    #[test]
    fn the_same_trace_and_verdict_are_a_repetition() {
        let then = sim("c1", "0x1", Verdict::Invalid);
        let (repeated, told) = compare(&then, &then);
        assert_eq!(repeated, Repeated::Yes);
        assert_eq!(told, "repeated: the verdict is invalid again, and the trace is 0x1 again");
    }

    #[test]
    fn the_same_program_is_held_to_its_promise_and_another_is_not() {
        let then = sim("c1", "0x1", Verdict::Valid);
        let (repeated, told) = compare(&then, &sim("c1", "0x2", Verdict::Valid));
        assert_eq!(repeated, Repeated::No);
        assert!(told.contains("the trace was 0x1 and is 0x2, by the same program"), "{told}");
        assert_eq!(compare(&then, &sim("c1", "0x1", Verdict::Unknown)).0, Repeated::No);
        let (repeated, told) = compare(&then, &sim("c2", "0x2", Verdict::Invalid));
        assert_eq!(repeated, Repeated::Free);
        assert!(told.contains("was valid and is invalid") && told.contains("c1 then"), "{told}");
        for marked in ["c1-dirty", "c1-older"] {
            let (then, now) =
                (sim(marked, "0x1", Verdict::Valid), sim(marked, "0x2", Verdict::Valid));
            assert_eq!(compare(&then, &now).0, Repeated::Free, "{marked}");
        }
    }

    #[test]
    fn wall_time_is_not_held_to_anything() {
        let then = record("process", "c1", None, Verdict::Valid);
        let (repeated, told) = compare(&then, &then);
        assert_eq!(repeated, Repeated::Free);
        assert!(told.contains("wall time does not repeat"), "{told}");
        let (_, told) = compare(&record("sim", "c1", None, Verdict::Unknown), &then);
        assert!(told.contains("was unknown and is valid"), "{told}");
        let killed = record("sim", "c1", None, Verdict::Unknown);
        let (repeated, told) = compare(&killed, &sim("c1", "0x1", Verdict::Valid));
        assert_eq!(repeated, Repeated::Free);
        assert!(told.contains("no traces to compare"), "{told}");
        let mut stopped = sim("c1", "0x1", Verdict::Unknown);
        stopped.checks.push(reports::Check {
            name: convert::FINISHED.to_owned(),
            verdict: Verdict::Unknown,
            detail: String::new(),
        });
        assert_eq!(compare(&stopped, &sim("c1", "0x2", Verdict::Valid)).0, Repeated::Free);
    }
}
