//! Judges an earlier run again, from its files alone.
//!
//! What the files show is judged anew; what only the run itself could see (that the group lived
//! after healing, that a figure kept its bound) stands as it was recorded. Invariant: files that
//! are incomplete never make a run better than *unknown*.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use chaos::checker;
use chaos::history::{self, Frozen, History};
use chaos::plan::Plan;
use reports::{Check, RunFolder, RunRecord, Verdict};

use crate::convert;
use crate::journal::{HISTORY, LOGS};

/// Reads a run's folder and judges it; the record with the verdicts of now.
///
/// # Errors
/// What is missing or malformed, with file, line and field.
pub(crate) fn judge(path: &Path) -> anyhow::Result<RunRecord> {
    let folder = RunFolder::open(path)?;
    let mut record = folder.read_record()?;
    let plan = plan_of(&folder, &record)?;
    if plan.workload.is_none() {
        // Without clients there is no history: nothing to judge but what was recorded.
        return Ok(record);
    }
    let frozen = read(&folder, &plan)?;
    let judged = checker::judge(&frozen, &checker::standard()).1;
    let mut again: Vec<Check> = judged.iter().map(convert::check).collect();
    again.extend(complete(&record, &frozen.history));
    let is_recorded = |name: &str| record.checks.iter().any(|check| check.name == name);
    // A run that did not come to its end owes no load, and what failed is recorded already.
    if !is_recorded(convert::FINISHED) && !is_recorded(convert::LABORATORY) {
        let lacking = checker::shortcomings(&judged);
        again.extend(lacking.as_deref().map(convert::laboratory));
    }
    merge(&mut record, again);
    Ok(record)
}

/// The plan of a run.
///
/// # Errors
/// With the file and the field.
pub(crate) fn plan_of(folder: &RunFolder, record: &RunRecord) -> anyhow::Result<Plan> {
    let file = folder.path().join("run.json");
    serde_json::from_value(record.plan.clone())
        .map_err(|error| anyhow!("{}, field `plan`: {error}", file.display()))
}

fn read(folder: &RunFolder, plan: &Plan) -> anyhow::Result<Frozen> {
    let history = history::read_history(&folder.path().join(HISTORY)).context("the history")?;
    let logs = folder.path().join(LOGS);
    // A harness that was killed could not ask the nodes for their logs: that is a doubt, which
    // the checkers raise, and no error.
    let is_there = logs.try_exists().with_context(|| format!("cannot open {}", logs.display()))?;
    let logs = if is_there { history::read_logs(&logs).context("the logs")? } else { Vec::new() };
    Ok(Frozen { history, nodes: (1..=plan.nodes).collect(), logs })
}

/// A doubt if operations are missing: others may have seen their effects.
fn complete(record: &RunRecord, history: &History) -> Option<Check> {
    let found = history.operations().len() as u64;
    let counted = record.counts.get("operations_offered").copied();
    if counted == Some(found) {
        return None;
    }
    let counted = counted.map_or("none".to_owned(), |count| count.to_string());
    Some(Check {
        name: "complete".to_owned(),
        verdict: Verdict::Unknown,
        detail: format!("{HISTORY} holds {found} operations, run.json counts {counted}"),
    })
}

/// New verdicts take the place of the recorded ones of the same name.
fn merge(record: &mut RunRecord, again: Vec<Check>) {
    let is_replaced = |check: &Check| again.iter().any(|new| new.name == check.name);
    let recorded = record.checks.drain(..).filter(|check| !is_replaced(check));
    let recorded: Vec<Check> = recorded
        .map(|check| Check { detail: format!("as recorded: {}", check.detail), ..check })
        .collect();
    record.checks = again.into_iter().chain(recorded).collect();
    record.verdict = combine(record.checks.iter().map(|check| check.verdict));
}

/// Invalid dominates, then unknown; of nothing, unknown.
fn combine(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    let worse = |verdict: &Verdict| match verdict {
        Verdict::Valid => 0,
        Verdict::Unknown => 1,
        Verdict::Invalid => 2,
    };
    verdicts.into_iter().max_by_key(worse).unwrap_or(Verdict::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_dominates_unknown_dominates_valid() {
        use Verdict::{Invalid, Unknown, Valid};
        assert_eq!(combine([Valid, Valid]), Valid);
        assert_eq!(combine([Valid, Unknown, Valid]), Unknown);
        assert_eq!(combine([Unknown, Invalid, Valid]), Invalid);
        assert_eq!(combine([]), Unknown);
    }
}
