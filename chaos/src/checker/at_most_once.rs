//! Nothing happened twice, and nothing that was refused happened.
//!
//! In each log a request and a value stand at most once; in all logs a request stands at the same
//! position; a request that was answered *fail* stands nowhere (a fail says: never). Of a log
//! that a snapshot has taken the beginning of, this is said of the rest, and it is told how many
//! requests were acknowledged of which it says nothing.

use std::collections::BTreeMap;

use super::{Check, Checker, Complaints, conclude};
use crate::history::{Frozen, NodeLog, Outcome, RequestId};

/// Checks that retries did not repeat.
#[derive(Clone, Copy, Debug, Default)]
pub struct AtMostOnce;

impl Checker for AtMostOnce {
    fn name(&self) -> &'static str {
        "at most once"
    }

    fn check(&self, frozen: &Frozen) -> Check {
        let (mut breaches, mut doubts) = (Complaints::default(), Complaints::default());
        if frozen.logs.is_empty() {
            doubts.add(|| "no log was collected".to_owned());
        }
        repeated_values(frozen, &mut doubts);
        let failed: BTreeMap<RequestId, u64> = frozen
            .history
            .operations()
            .iter()
            .filter(|operation| operation.outcome == Outcome::Fail)
            .filter_map(|operation| Some((operation.request?, operation.id)))
            .collect();
        let mut agreed = BTreeMap::new();
        for log in &frozen.logs {
            walk(log, &failed, &mut agreed, &mut breaches);
        }
        conclude(self.name(), &breaches, &doubts, || {
            let (requests, logs, failed) = (agreed.len(), frozen.logs.len(), failed.len());
            let stand = format!(
                "{requests} requests stand at most once in {logs} logs, \
                 {failed} refused ones in none"
            );
            let acknowledged =
                frozen.history.operations().iter().filter(|one| one.outcome == Outcome::Ok);
            let requests = acknowledged.filter_map(|operation| operation.request);
            match requests.filter(|request| !agreed.contains_key(request)).count() {
                0 => stand,
                unseen => format!("{stand}; {unseen} acknowledged ones are in snapshots alone"),
            }
        })
    }
}

/// The checkers tell writes apart by their values; a workload that repeats one blinds them.
fn repeated_values(frozen: &Frozen, doubts: &mut Complaints) {
    let mut writers: BTreeMap<u64, u64> = BTreeMap::new();
    for operation in frozen.history.operations() {
        let Some(value) = operation.value else { continue };
        if let Some(first) = writers.insert(value, operation.id) {
            doubts.add(|| {
                let second = operation.id;
                format!("the workload wrote {value} twice, as operations {first} and {second}")
            });
        }
    }
}

fn walk(
    log: &NodeLog,
    failed: &BTreeMap<RequestId, u64>,
    agreed: &mut BTreeMap<RequestId, (u64, u64, u64)>,
    breaches: &mut Complaints,
) {
    let node = log.node;
    let mut requests: BTreeMap<RequestId, u64> = BTreeMap::new();
    let mut values: BTreeMap<u64, u64> = BTreeMap::new();
    for line in &log.lines {
        let index = line.index;
        if let Some(value) = line.value
            && let Some(first) = values.insert(value, index)
        {
            breaches.add(|| {
                format!("node {node} holds the value {value} twice, at {first} and {index}")
            });
        }
        let Some(request) = line.request else { continue };
        if let Some(first) = requests.insert(request, index) {
            breaches.add(|| {
                format!("node {node} holds request {request} twice, at {first} and {index}")
            });
            continue;
        }
        if let Some(operation) = failed.get(&request) {
            breaches.add(|| {
                format!(
                    "operation {operation} (request {request}) was answered fail, \
                     but node {node} holds it at {index}"
                )
            });
        }
        let (other, term, first) = *agreed.entry(request).or_insert((node, line.term, index));
        if (term, first) != (line.term, index) {
            breaches.add(|| {
                format!(
                    "request {request} stands at term {term}, index {first} on node {other}, \
                     but at term {}, index {index} on node {node}",
                    line.term
                )
            });
        }
    }
}
