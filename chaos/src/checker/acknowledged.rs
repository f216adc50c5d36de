//! Nothing acknowledged was lost: each acknowledged write and compare-and-set stands exactly
//! once, at the position its answer named, in the log of every node after healing.
//!
//! What went into a node's snapshot its log cannot show; there the other logs have to do. What no
//! log shows is a doubt, unless its register was read afterwards: then whether it was lost is for
//! linearizability to say.
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
    key: u64,
    completed_ns: Option<u64>,
    request: RequestId,
    position: (u64, u64),
    /// In how many logs a snapshot may have taken its place.
    hidden: usize,
}

impl Checker for Acknowledged {
    fn name(&self) -> &'static str {
        "acknowledged"
    }

    fn check(&self, frozen: &Frozen) -> Check {
        let (mut breaches, mut doubts) = (Complaints::default(), Complaints::default());
        let mut promises = promises(frozen, &mut doubts);
        if promises.is_empty() {
            doubts.add(|| "no write was acknowledged with a position".to_owned());
        }
        if frozen.nodes.is_empty() {
            doubts.add(|| "no node was named whose log should hold the writes".to_owned());
        }
        for node in &frozen.nodes {
            match frozen.logs.iter().find(|log| log.node == *node) {
                Some(log) => compare(log, &mut promises, &mut breaches),
                None => doubts.add(|| format!("the log of node {node} is missing")),
            }
        }
        let hidden: usize = promises.iter().map(|promise| promise.hidden).sum();
        if hidden > 0 && hidden == promises.len() * frozen.nodes.len() {
            doubts.add(|| "all that was acknowledged is in snapshots, and in no log".to_owned());
        }
        let seen_by_reads = in_no_log(frozen, &promises, &mut doubts);
        conclude(self.name(), &breaches, &doubts, || {
            let (promises, nodes) = (promises.len(), frozen.nodes.len());
            let stand =
                format!("{promises} acknowledged writes stand once in each of {nodes} logs");
            let stand = match hidden {
                0 => stand,
                _ => format!("{stand}, but for {hidden} times that one is in a snapshot"),
            };
            match seen_by_reads {
                0 => stand,
                _ => format!(
                    "{stand}; {seen_by_reads} are in no log, and their registers were read \
                     afterwards"
                ),
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
            (Some(request), Some(term), Some(index)) => promises.push(Promise {
                operation: operation.id,
                key: operation.key,
                completed_ns: operation.completed_ns,
                request,
                position: (term, index),
                hidden: 0,
            }),
            _ => doubts.add(|| {
                format!("operation {} was acknowledged without request or position", operation.id)
            }),
        }
    }
    promises
}

/// Counts of each promise whether this log cannot tell of it.
fn compare(log: &NodeLog, promises: &mut [Promise], breaches: &mut Complaints) {
    let mut standing: BTreeMap<RequestId, Vec<(u64, u64)>> = BTreeMap::new();
    for line in &log.lines {
        if let Some(request) = line.request {
            standing.entry(request).or_default().push((line.term, line.index));
        }
    }
    for promise in promises {
        let Promise { operation, request, position: (term, index), .. } = *promise;
        let found = standing.get(&request).map_or(&[][..], Vec::as_slice);
        if found == [(term, index)] {
            continue;
        }
        if found.is_empty() && log.hides(index) {
            promise.hidden += 1;
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
}

/// How many promises no log can tell of, but a later read of their register; of the others none
/// tells anything.
fn in_no_log(frozen: &Frozen, promises: &[Promise], doubts: &mut Complaints) -> u64 {
    let reads = frozen
        .history
        .operations()
        .iter()
        .filter(|operation| operation.f == Function::Read && operation.outcome == Outcome::Ok);
    // In order of invocation: the last one of each register stays.
    let last_read: BTreeMap<u64, u64> =
        reads.map(|operation| (operation.key, operation.invoked_ns)).collect();
    let mut seen_by_reads = 0;
    let in_none =
        |promise: &&Promise| !frozen.nodes.is_empty() && promise.hidden == frozen.nodes.len();
    for Promise { operation, key, completed_ns, request, .. } in promises.iter().filter(in_none) {
        if last_read.get(key).copied() > *completed_ns {
            seen_by_reads += 1;
            continue;
        }
        doubts.add(|| {
            format!(
                "operation {operation} (request {request}) was acknowledged and is in no log, \
                 only in snapshots, and its register {key} was not read afterwards"
            )
        });
    }
    seen_by_reads
}
