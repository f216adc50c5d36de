//! Nothing acknowledged was lost: each acknowledged write and compare-and-set stands exactly
//! once, at the position its answer named, in the log of every node after healing.
//!
//! What went into a node's snapshot its log cannot show; there the other logs, and what is read
//! from the machines, have to do.
//!
//! Leader Completeness (Raft §5.4.3), seen from outside. Exactly once in the log itself, not only
//! in what is applied: a leader does not append a request that its log already holds.

use std::collections::BTreeMap;

use super::{Check, Checker, Complaints, conclude};
use crate::history::{Frozen, Function, NodeLog, Operation, Outcome, RequestId};

/// Checks the logs against the answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Acknowledged;

/// What the client was promised.
struct Promise {
    operation: u64,
    request: RequestId,
    position: (u64, u64),
}

impl Checker for Acknowledged {
    fn name(&self) -> &'static str {
        "acknowledged"
    }

    fn check(&self, frozen: &Frozen) -> Check {
        let (mut breaches, mut doubts) = (Complaints::default(), Complaints::default());
        let promises = promises(frozen, &mut doubts);
        if promises.is_empty() {
            doubts.add(|| "no write was acknowledged with a position".to_owned());
        }
        if frozen.nodes.is_empty() {
            doubts.add(|| "no node was named whose log should hold the writes".to_owned());
        }
        let mut hidden = 0;
        for node in &frozen.nodes {
            match frozen.logs.iter().find(|log| log.node == *node) {
                Some(log) => hidden += compare(log, &promises, &mut breaches),
                None => doubts.add(|| format!("the log of node {node} is missing")),
            }
        }
        if hidden > 0 && hidden == promises.len() * frozen.nodes.len() {
            doubts.add(|| "all that was acknowledged is in snapshots, and in no log".to_owned());
        }
        conclude(self.name(), &breaches, &doubts, || {
            let (promises, nodes) = (promises.len(), frozen.nodes.len());
            let stand =
                format!("{promises} acknowledged writes stand once in each of {nodes} logs");
            match hidden {
                0 => stand,
                _ => format!("{stand}, but for {hidden} times that one is in a snapshot"),
            }
        })
    }
}

fn promises(frozen: &Frozen, doubts: &mut Complaints) -> Vec<Promise> {
    let is_promise =
        |operation: &&Operation| operation.outcome == Outcome::Ok && operation.f != Function::Read;
    let mut promises = Vec::new();
    for operation in frozen.history.operations().iter().filter(is_promise) {
        match (operation.request, operation.term, operation.index) {
            (Some(request), Some(term), Some(index)) => {
                let position = (term, index);
                promises.push(Promise { operation: operation.id, request, position });
            }
            _ => doubts.add(|| {
                format!("operation {} was acknowledged without request or position", operation.id)
            }),
        }
    }
    promises
}

/// Yields how many promises the log cannot tell of.
fn compare(log: &NodeLog, promises: &[Promise], breaches: &mut Complaints) -> usize {
    let mut hidden = 0;
    let mut standing: BTreeMap<RequestId, Vec<(u64, u64)>> = BTreeMap::new();
    for line in &log.lines {
        if let Some(request) = line.request {
            standing.entry(request).or_default().push((line.term, line.index));
        }
    }
    for Promise { operation, request, position: (term, index) } in promises {
        let found = standing.get(request).map_or(&[][..], Vec::as_slice);
        if found == [(*term, *index)] {
            continue;
        }
        if found.is_empty() && log.hides(*index) {
            hidden += 1;
            continue;
        }
        breaches.add(|| {
            let node = log.node;
            let promised = format!(
                "operation {operation} (request {request}) was acknowledged at term {term}, \
                 index {index}, but the log of node {node}"
            );
            match found {
                [] => format!("{promised} does not hold it"),
                [(term, index)] => format!("{promised} holds it at term {term}, index {index}"),
                _ => format!("{promised} holds it {} times: {found:?}", found.len()),
            }
        });
    }
    hidden
}
