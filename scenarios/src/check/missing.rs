//! What a history still proves that lacks operations.
//!
//! Pure. What clients were told in which order, what was acknowledged and what happened twice is
//! judged by the lines that are there, and less of them breaks less. Invariant: what operations
//! that are missing may explain is no breach.

use std::collections::{BTreeMap, BTreeSet};

use chaos::checker::availability::Availability;
use chaos::checker::linearizable::Linearizable;
use chaos::checker::{Check, Checker as _, Verdict};
use chaos::groups;
use chaos::history::{Frozen, Function, History, Operation, Outcome};
use chaos::plan::Plan;

/// Takes back the breaches that operations explain which may be missing.
pub(super) fn doubt(checks: &mut [Check], plan: &Plan, frozen: &Frozen) {
    for check in checks.iter_mut().filter(|check| check.verdict == Verdict::Invalid) {
        if is_explained(&check.name, plan, frozen) {
            check.verdict = Verdict::Unknown;
            check.detail = format!("operations are missing, which may be why: {}", check.detail);
        }
    }
}

fn is_explained(name: &str, plan: &Plan, frozen: &Frozen) -> bool {
    // They may have succeeded.
    if name == Availability.name() {
        return true;
    }
    if name != Linearizable::default().name() {
        return false;
    }
    let Some(history) = supplemented(&frozen.history) else { return false };
    let (nodes, logs) = (frozen.nodes.clone(), frozen.logs.clone());
    let judged = groups::judge_parts(plan, &Frozen { history, nodes, logs, course: None });
    judged.iter().any(|check| check.name == name && check.verdict != Verdict::Invalid)
}

/// The history with a write of each value that was found and that nobody wrote. Values are unique:
/// who wrote one and is missing wrote it once, nobody knows when. What nobody found explains
/// nothing.
fn supplemented(history: &History) -> Option<History> {
    let operations = history.operations();
    let written: BTreeSet<u64> = operations.iter().filter_map(|one| one.value).collect();
    let found = operations.iter().filter_map(|one| Some((one.result?, one.key)));
    let lacking: BTreeMap<u64, u64> = found.filter(|(value, _)| !written.contains(value)).collect();
    let taken: BTreeSet<u64> = operations.iter().map(|one| one.id).collect();
    let ids = (0..=u64::MAX).rev().filter(|id| !taken.contains(id));
    let writes = ids.zip(lacking).map(|(id, (value, key))| write(id, key, value));
    History::new(operations.iter().cloned().chain(writes).collect()).ok()
}

fn write(id: u64, key: u64, value: u64) -> Operation {
    Operation {
        client: 0,
        id,
        f: Function::Write,
        key,
        value: Some(value),
        expected: None,
        result: None,
        outcome: Outcome::Unknown,
        intended_ns: 0,
        invoked_ns: 0,
        completed_ns: None,
        node: None,
        term: None,
        index: None,
        request: None,
    }
}
