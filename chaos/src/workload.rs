//! The load: clients that read and write registers in an open loop.
//!
//! Knows no fault and no node by its role. Invariant: the moments at which operations are due
//! are fixed before the first is sent; late answers delay nothing, and what may not be sent is
//! recorded as failed, so that every operation that was due is in the history.

mod generator;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use runtime::{
    Client, CommandError, Consistency, Executed, PeerId, Queried, QueryError, Reason, Time,
};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    cluster::Cluster,
    groups::Share,
    history::{Function, Operation, Outcome, RequestId},
    plan::WorkloadPlan,
    register::{Command, Read, Registers},
    seed::Seed,
};

pub use generator::{Generator, Intent};

/// Gives every operation of a run a number of its own, from 1. A number also is the value that
/// a write or a compare-and-set stores, so that no value is ever written twice.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    used: Arc<AtomicU64>,
}

/// Invokes one operation at a time, or many at once, and says what came of each.
pub struct Invoker<C> {
    cluster: Arc<C>,
    origin: Time,
    share: Share,
    reasons: Mutex<BTreeMap<String, u64>>,
    written: Mutex<BTreeSet<u64>>,
}

/// What a driven load came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Driven {
    /// Operations that were due.
    pub due: u64,
    /// Of them those that were not sent, since too many were unanswered.
    pub busy: u64,
    /// Of them those that were sent over 10 ms after they were due: the harness itself was late.
    pub late: u64,
}

impl Numbers {
    /// The next number.
    pub fn next(&self) -> u64 {
        self.used.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl<C: Cluster> Invoker<C> {
    /// One whose times count from `origin`, for the operations of one group.
    pub(crate) fn new(cluster: Arc<C>, origin: Time, share: Share) -> Self {
        Self { cluster, origin, share, reasons: Mutex::default(), written: Mutex::default() }
    }

    /// The operation as the history has it.
    pub(crate) fn told(&self, operation: Operation) -> Operation {
        self.share.told(operation)
    }

    /// Nanoseconds since the origin.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.cluster.now().since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// How often an operation did not succeed, by outcome and reason.
    pub fn reasons(&self) -> BTreeMap<String, u64> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The registers that anything was sent to which may change them, in order.
    pub(crate) fn written(&self) -> Vec<u64> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Sends an operation and waits for what becomes of it.
    pub async fn invoke(
        &self,
        client: &Client<Registers>,
        intent: &Intent,
        intended_ns: u64,
    ) -> Operation {
        let mut operation = blank(intent, intended_ns, self.now_ns());
        let key = intent.key;
        if intent.value.is_some() {
            self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        }
        match (intent.f, intent.value) {
            (Function::Write, Some(value)) => {
                let executed = client.execute(Command::Write { key, value }).await;
                // What a write found says nothing to anybody.
                let executed = executed.map(|done| Executed { output: None, ..done });
                self.executed(&mut operation, &executed);
            }
            (Function::Cas, Some(value)) => {
                let command = Command::Cas { key, expected: intent.expected, value };
                let executed = client.execute(command).await;
                self.executed(&mut operation, &executed);
            }
            _ => {
                let queried = client.query(Read { key }, Consistency::Strong).await;
                self.queried(&mut operation, &queried);
            }
        }
        operation
    }

    fn executed(
        &self,
        operation: &mut Operation,
        executed: &Result<Executed<Option<u64>>, CommandError>,
    ) {
        match executed {
            Ok(Executed { position, request, via, output }) => {
                operation.term = Some(position.term.0);
                operation.index = Some(position.index.0);
                operation.request = Some(request_of(*request));
                self.acknowledged(operation, *via, *output);
            }
            Err(CommandError::Failed { request, reason }) => {
                operation.request = request.map(request_of);
                self.failed(operation, *reason);
            }
            // A timeout is no failure: the command may yet take effect.
            Err(CommandError::Unknown { request, reason }) => {
                self.count("unknown", *reason);
                operation.outcome = Outcome::Unknown;
                operation.request = request.map(request_of);
            }
        }
    }

    fn queried(
        &self,
        operation: &mut Operation,
        queried: &Result<Queried<Option<u64>>, QueryError>,
    ) {
        match queried {
            Ok(Queried { via, answer, .. }) => self.acknowledged(operation, *via, *answer),
            Err(QueryError { reason: reason @ (Reason::Timeout | Reason::Stopped) }) => {
                self.count("unknown", *reason);
                operation.outcome = Outcome::Unknown;
            }
            Err(QueryError { reason }) => self.failed(operation, *reason),
        }
    }

    fn acknowledged(&self, operation: &mut Operation, via: PeerId, result: Option<u64>) {
        operation.outcome = Outcome::Ok;
        operation.result = result;
        operation.node = self.cluster.number(via).map(|node| node.0);
        operation.completed_ns = Some(self.now_ns());
    }

    fn failed(&self, operation: &mut Operation, reason: Reason) {
        self.count("fail", reason);
        operation.outcome = Outcome::Fail;
        operation.completed_ns = Some(self.now_ns());
    }

    fn count(&self, outcome: &str, reason: Reason) {
        let name = format!("{outcome}_{}", format!("{reason:?}").to_lowercase());
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        *reasons.entry(name).or_default() += 1;
    }
}

/// Drives the load until `stopped` resolves; then waits for what is under way. Every operation
/// goes to `done`.
pub async fn drive<C: Cluster>(
    invoker: Arc<Invoker<C>>,
    clients: Vec<Client<Registers>>,
    (plan, seed, numbers): (WorkloadPlan, Seed, Numbers),
    done: mpsc::Sender<Operation>,
    stopped: impl Future<Output = ()> + Send,
) -> Driven {
    let mut generator = Generator::new(plan.clone(), seed, numbers);
    let mut driven = Driven::default();
    let mut under_way = JoinSet::new();
    let begin = invoker.cluster.now();
    let (results, mut answered) = mpsc::channel(RESULTS_MAX);
    tokio::pin!(stopped);
    for number in 0.. {
        let due = begin.plus(due_after(&plan, number));
        // Answers that came since the last burst tell the generator what to expect.
        while let Ok((key, value)) = answered.try_recv() {
            generator.saw(key, value);
        }
        tokio::select! {
            biased;
            () = &mut stopped => break,
            () = invoker.cluster.advance(due) => {}
        }
        while under_way.try_join_next().is_some() {}
        let intended_ns = invoker.now_ns().min(since(invoker.origin, due));
        for intent in generator.burst() {
            driven.due += 1;
            driven.late += u64::from(invoker.now_ns().saturating_sub(intended_ns) > LATE_NS);
            if under_way.len() as u64 >= plan.inflight_max {
                driven.busy += 1;
                let mut refused = blank(&intent, intended_ns, invoker.now_ns());
                invoker.failed(&mut refused, Reason::Busy);
                // The recorder outlives the load unless it failed, which ends the run anyway.
                drop(done.send(invoker.told(refused)).await);
                continue;
            }
            let client = pick(&clients, intent.client);
            let (invoker, done, results) = (Arc::clone(&invoker), done.clone(), results.clone());
            under_way.spawn(async move {
                let operation = invoker.invoke(&client, &intent, intended_ns).await;
                if let Some(value) = seen(&operation) {
                    // A hint only: without it a compare-and-set merely fails more often.
                    let _full = results.try_send((operation.key, value));
                }
                drop(done.send(invoker.told(operation)).await);
            });
        }
    }
    while under_way.join_next().await.is_some() {}
    driven
}

/// What the register is known to have held when the operation was answered.
pub(crate) fn seen(operation: &Operation) -> Option<Option<u64>> {
    if operation.outcome != Outcome::Ok {
        return None;
    }
    Some(match operation.f {
        Function::Read => operation.result,
        Function::Write => operation.value,
        Function::Cas if operation.swapped() => operation.value,
        Function::Cas => operation.result,
    })
}

/// How long after the beginning a burst is due. Reckoned anew for each, so that nothing drifts.
pub(crate) fn due_after(plan: &WorkloadPlan, number: u64) -> Duration {
    let nanos = u128::from(number) * u128::from(plan.burst) * 1_000_000_000;
    let nanos = nanos / u128::from(plan.rate_per_s.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn since(origin: Time, time: Time) -> u64 {
    u64::try_from(time.since(origin).as_nanos()).unwrap_or(u64::MAX)
}

fn pick(clients: &[Client<Registers>], number: u64) -> Client<Registers> {
    let place = usize::try_from(number).unwrap_or(0) % clients.len().max(1);
    clients[place].clone()
}

/// An operation of which nothing is known yet.
pub(crate) fn blank(intent: &Intent, intended_ns: u64, invoked_ns: u64) -> Operation {
    Operation {
        client: intent.client,
        id: intent.id,
        f: intent.f,
        key: intent.key,
        value: intent.value,
        expected: intent.expected,
        result: None,
        outcome: Outcome::Unknown,
        intended_ns,
        invoked_ns,
        completed_ns: None,
        node: None,
        term: None,
        index: None,
        request: None,
    }
}

pub(crate) fn request_of(request: runtime::RequestId) -> RequestId {
    RequestId { session: request.session.0.0, sequence: request.sequence }
}

const RESULTS_MAX: usize = 4_096;
const LATE_NS: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_fixed_and_do_not_drift() {
        let plan = WorkloadPlan { rate_per_s: 700, burst: 3, ..WorkloadPlan::default() };
        assert_eq!(due_after(&plan, 0), Duration::ZERO);
        // 700 bursts of 3 at 700 per second are 3 seconds sharp.
        assert_eq!(due_after(&plan, 700), Duration::from_secs(3));
        assert_eq!(due_after(&plan, 700 * 86_400), Duration::from_secs(3 * 86_400));
        assert!(due_after(&plan, u64::MAX) > Duration::from_secs(1 << 32));
    }

    #[test]
    fn numbers_are_never_given_twice() {
        let numbers = Numbers::default();
        let shared = numbers.clone();
        assert_eq!([numbers.next(), shared.next(), numbers.next()], [1, 2, 3]);
    }
}
