//! Judges an earlier run again, from its files alone.
//!
//! What the files show is judged anew: what clients saw, what the logs hold, what happened
//! meanwhile, and whether figures kept their bounds. What only the run itself could see (that the
//! group lived after healing), or what an older program measured by another rule, stands as it was
//! recorded, and is named. Invariants: files that are incomplete never make a run better than
//! *unknown*, and a breach of it only what they prove.

mod expected;
#[cfg(test)]
mod garbage;
mod missing;

use std::path::Path;

use anyhow::{Context as _, anyhow, ensure};
use chaos::checker;
use chaos::groups;
use chaos::history::{self, Course, Frozen, History, LogOrder};
use chaos::plan::{Kind, Plan};
use chaos::{run, schedule};
use reports::{Check, Events, Recorder, RunFolder, RunRecord, Verdict};

use crate::convert;
use crate::journal::{self, HISTORY, LOGS};

/// A run judged again.
pub(crate) struct Judged {
    /// Its record, with the verdicts of now; also the figures, if it was saved last before the end
    /// of its history.
    pub(crate) record: RunRecord,
    /// The checks that its files do not suffice for, or whose figures are of an older rule: they
    /// stand as they were recorded.
    pub(crate) as_recorded: Vec<String>,
    /// What was carried out.
    pub(crate) plan: Plan,
    folder: RunFolder,
    /// What clients saw, once more.
    recorder: Recorder,
    /// What nodes noted.
    events: Events,
}

impl Judged {
    /// Draws plots, trace and page anew: those of a run whose harness was killed are absent.
    ///
    /// # Errors
    /// Those of the folder.
    pub(crate) fn draw(&self) -> anyhow::Result<()> {
        self.folder.write_plots(&self.record, &self.recorder)?;
        self.tell()
    }

    fn tell(&self) -> anyhow::Result<()> {
        journal::tell(&self.folder, (&self.record, &self.recorder, &self.events), &self.plan)
    }
}

/// Reads a run's folder and judges it.
///
/// # Errors
/// What is missing or malformed, with file, line and field.
pub(crate) fn judge(path: &Path) -> anyhow::Result<Judged> {
    let folder = RunFolder::open(path)?;
    let mut record = folder.read_record()?;
    let plan = plan_of(&folder, &record)?;
    // Nothing is judged by them, but a folder that is damaged is no evidence.
    let events = folder.read_events()?;
    let unnoted = lacks_events(&folder);
    let mut recorder = Recorder::new();
    let mut again = expected::judge(&plan, &record);
    if plan.workload.is_none() {
        // Without clients there is no history.
        again.extend(complete(unnoted));
        let as_recorded = merge(&mut record, again);
        return Ok(Judged { record, as_recorded, folder, plan, recorder, events });
    }
    let course = course(&folder, &plan, &record)?;
    let (frozen, begun) = read(&folder, &plan, &record)?;
    let frozen = Frozen { course, ..frozen };
    let mut judged = groups::judge_parts(&plan, &frozen);
    let unseen = lacks_operations(&record, &frozen.history, begun);
    if unseen.is_some() {
        missing::doubt(&mut judged, &plan, &frozen);
    }
    again.splice(0..0, judged.iter().map(convert::check));
    let is_recorded = |name: &str| record.checks.iter().any(|check| check.name == name);
    // A run that did not come to its end owes no load, nor does one whose operations are missing,
    // and what failed is recorded already.
    let owes_load =
        unseen.is_none() && !is_recorded(convert::FINISHED) && !is_recorded(convert::LABORATORY);
    again.extend(complete(unseen.into_iter().chain(unnoted)));
    if owes_load {
        let lacking = checker::shortcomings(&judged);
        again.extend(lacking.as_deref().map(convert::laboratory));
    }
    let as_recorded = merge(&mut record, again);
    for operation in frozen.history.operations() {
        recorder.record(&convert::sample(operation));
    }
    // A harness that was killed had counted only as far as it was saved.
    let found = frozen.history.operations().len() as u64;
    if record.counts.get(OFFERED).is_none_or(|counted| *counted < found) {
        recorder.fill(&mut record);
    }
    Ok(Judged { record, as_recorded, folder, plan, recorder, events })
}

/// What to say before a run is judged: that it is so long that it takes a while, and that what
/// nodes noted is not there, which older programs did not keep.
pub(crate) fn notice(path: &Path) -> Option<String> {
    let bytes = std::fs::metadata(path.join(HISTORY)).map_or(0, |file| file.len());
    let is_long = bytes >= LONG_BYTES_MIN;
    let long = is_long.then(|| format!("judging {} MB of history", bytes >> 20));
    let lacks = |name: &str| path.join(name).try_exists().is_ok_and(|is_there| !is_there);
    let of_bench = || {
        let record = RunFolder::open(path).and_then(|folder| folder.read_record());
        record.is_ok_and(|record| is_of_bench(&record))
    };
    let is_bare = lacks(EVENTS) && !lacks(RECORD) && !of_bench();
    let bare =
        is_bare.then(|| format!("{EVENTS} is missing: trace and page lack what nodes noted"));
    let told: Vec<String> = long.into_iter().chain(bare).collect();
    (!told.is_empty()).then(|| told.join("\n"))
}

/// What happened meanwhile, if the run came so far as to say when its load began and ended.
fn course(folder: &RunFolder, plan: &Plan, record: &RunRecord) -> anyhow::Result<Option<Course>> {
    let marks: Vec<run::Mark> = record.marks.iter().map(convert::mark_of_record).collect();
    let unstruck = run::course(plan, &schedule::Schedule::default(), &marks, &record.counts);
    if unstruck.load_ns.is_none() {
        return Ok(None);
    }
    let file = folder.path().join(SCHEDULE);
    let text = std::fs::read_to_string(&file);
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    let schedule = schedule::parse(&text)
        .map_err(|error| anyhow!("{} is no schedule: {error}", file.display()))?;
    Ok(Some(run::course(plan, &schedule, &marks, &record.counts)))
}

/// The plan of a run.
///
/// # Errors
/// With the file and the field.
pub(crate) fn plan_of(folder: &RunFolder, record: &RunRecord) -> anyhow::Result<Plan> {
    refuse_bench(folder, record)?;
    let file = folder.path().join(RECORD);
    serde_json::from_value(record.plan.clone())
        .map_err(|error| anyhow!("{}, field `plan`: {error}", file.display()))
}

/// Turns away what a benchmark has left, with what there is of it.
///
/// # Errors
/// For a record of `bench`.
pub(crate) fn refuse_bench(folder: &RunFolder, record: &RunRecord) -> anyhow::Result<()> {
    ensure!(
        !is_of_bench(record),
        "{} is of {}, a record of bench: it has no page, and is neither judged nor done again; \
         all that it holds is in {}",
        folder.path().display(),
        record.scenario,
        folder.path().join(RECORD).display()
    );
    Ok(())
}

/// It has the name of a benchmark. A plan may have one, too, but says so itself.
fn is_of_bench(record: &RunRecord) -> bool {
    record.scenario.starts_with(BENCH) && record.plan.get("scenario").is_none()
}

/// What is there to be judged; and which line of the history was begun and has no end, if any.
fn read(
    folder: &RunFolder,
    plan: &Plan,
    record: &RunRecord,
) -> anyhow::Result<(Frozen, Option<u64>)> {
    let history = history::read_history_so_far(&folder.path().join(HISTORY));
    let (history, begun) = history.context("the history")?;
    let logs = folder.path().join(LOGS);
    // A harness that was killed could not ask the nodes for their logs: that is a doubt, which
    // the checkers raise, and no error.
    let is_there = logs.try_exists().with_context(|| format!("cannot open {}", logs.display()))?;
    let logs = match is_there {
        true => history::read_logs(&logs, order(plan, record)).context("the logs")?,
        false => Vec::new(),
    };
    let nodes = (1..=plan.nodes).collect();
    Ok((Frozen { history, nodes, logs, course: None }, begun))
}

/// What the logs were like when they were written: a run that found them odd has said so, and that
/// stands.
fn order(plan: &Plan, record: &RunRecord) -> LogOrder {
    let is_breach =
        |check: &Check| check.name.starts_with(INVARIANTS) && check.verdict == Verdict::Invalid;
    match plan.kind {
        _ if record.checks.iter().any(is_breach) => LogOrder::Any,
        Kind::Lagging => LogOrder::Growing,
        Kind::Failover | Kind::Formation | Kind::Steady => LogOrder::Gapless,
    }
}

/// A doubt if anything is lacking that the run had.
fn complete(lacking: impl IntoIterator<Item = String>) -> Option<Check> {
    let lacking: Vec<String> = lacking.into_iter().collect();
    let (name, detail) = ("complete".to_owned(), lacking.join("; "));
    (!lacking.is_empty()).then_some(Check { name, verdict: Verdict::Unknown, detail })
}

/// What to say where nobody can look up any more what nodes noted.
fn lacks_events(folder: &RunFolder) -> Option<String> {
    let is_there = folder.path().join(EVENTS).exists();
    (!is_there).then(|| {
        format!(
            "{EVENTS} is missing: it is unknown what nodes noted, and what was judged by that \
             cannot be looked at again"
        )
    })
}

/// What to say where operations are missing: others may have seen their effects.
fn lacks_operations(record: &RunRecord, history: &History, begun: Option<u64>) -> Option<String> {
    let found = history.operations().len() as u64;
    let counted = record.counts.get(OFFERED).copied();
    if counted == Some(found) && begun.is_none() {
        return None;
    }
    let counted = counted.map_or("none".to_owned(), |count| count.to_string());
    let mut detail = format!("{HISTORY} holds {found} operations, run.json counts {counted}");
    if let Some(line) = begun {
        detail.push_str(&format!("; line {line}, the last, is cut off and was left out"));
    }
    Some(detail)
}

/// New verdicts take the place of the recorded ones of the same name; the names of the others.
fn merge(record: &mut RunRecord, again: Vec<Check>) -> Vec<String> {
    let is_replaced = |check: &Check| again.iter().any(|new| new.name == check.name);
    let recorded = record.checks.drain(..).filter(|check| !is_replaced(check));
    let recorded: Vec<Check> = recorded
        .map(|check| Check { detail: format!("as recorded: {}", check.detail), ..check })
        .collect();
    let as_recorded = recorded.iter().map(|check| check.name.clone()).collect();
    record.checks = again.into_iter().chain(recorded).collect();
    record.verdict = combine(record.checks.iter().map(|check| check.verdict));
    as_recorded
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

/// Judging less than this keeps nobody waiting.
const LONG_BYTES_MIN: u64 = 16 << 20;
/// How many operations there were, among the counts of a record.
const OFFERED: &str = "operations_offered";
/// Their names in the folder.
const RECORD: &str = "run.json";
const SCHEDULE: &str = "schedule.toml";
const EVENTS: &str = "events.jsonl";
/// How the names of benchmarks begin.
const BENCH: &str = "bench-";
/// How the names of checks begin that judge what logs are like, too.
const INVARIANTS: &str = "invariants";

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
