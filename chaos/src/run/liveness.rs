//! The proof that a healed cluster lives: a write commits through every node.
//!
//! Invariant: *invalid* is said only with the proof that the cluster was able to, at half of the
//! bound and at its end.

use std::time::Duration;

use runtime::Time;
use tokio::time::timeout;

use crate::{
    checker::{Check, Verdict},
    cluster::Cluster,
    fault::NodeNumber,
    history::{Function, Outcome},
    run::{
        Lab, RunError,
        able::{Statuses, able},
        lab::check,
    },
    workload::Intent,
};

/// What became of the writes, one through each node.
#[derive(Default)]
pub(crate) struct Probed {
    /// Until the slowest was answered.
    pub(crate) slowest: Duration,
    /// Through which nodes none committed, and the proof that it should have, or why there is
    /// none.
    pub(crate) failed: Vec<(String, Result<String, String>)>,
}

enum ProbeError {
    Run(RunError),
    Refused(String),
}

impl<C: Cluster> Lab<C> {
    /// Proves that the healed cluster lives.
    pub(crate) async fn prove_liveness(&self) -> Result<Check, RunError> {
        let mut probed = Probed::default();
        for node in self.nodes() {
            self.probe(node, &mut probed).await?;
        }
        Ok(lives(self.plan.nodes, &probed))
    }

    async fn probe(&self, node: NodeNumber, probed: &mut Probed) -> Result<(), RunError> {
        let begun = self.cluster.now();
        let deadline = begun.plus(LIVENESS_BOUND);
        let writing = timeout(LIVENESS_BOUND, self.write_through(node, deadline));
        let half_way = async {
            self.cluster.advance(begun.plus(LIVENESS_BOUND / 2)).await;
            self.statuses().await
        };
        tokio::pin!(writing, half_way);
        let mut before = None;
        let written = loop {
            tokio::select! {
                biased;
                written = &mut writing => break written,
                statuses = &mut half_way, if before.is_none() => before = Some(statuses),
            }
        };
        let reason = match written {
            Ok(Ok(())) => {
                probed.slowest = probed.slowest.max(self.cluster.now().since(begun));
                return Ok(());
            }
            Ok(Err(ProbeError::Run(error))) => return Err(error),
            Ok(Err(ProbeError::Refused(reason))) => reason,
            Err(_) => "no answer".into(),
        };
        let after = able(&self.statuses().await);
        let able = before.as_ref().map_or(Ok(String::new()), able).and(after);
        probed.failed.push((format!("node {node}: {reason}"), able));
        Ok(())
    }

    /// What each node says of itself now.
    async fn statuses(&self) -> Statuses {
        let mut statuses = Statuses::new();
        for node in self.nodes() {
            let asked = timeout(STATUS_BOUND, self.cluster.status(node)).await;
            let status = match asked {
                Ok(status) => status.map_err(|error| error.to_string()),
                Err(_) => Err(format!("no answer within {} s", STATUS_BOUND.as_secs())),
            };
            statuses.insert(node, status);
        }
        statuses
    }

    /// Writes through one node, again with a new value where an attempt came to nothing.
    async fn write_through(&self, node: NodeNumber, deadline: Time) -> Result<(), ProbeError> {
        let name = probe_client(node.0);
        let connected = self.cluster.client(self.share.among_all(name), &[node]).await;
        let client = connected.map_err(|error| ProbeError::Refused(error.to_string()))?;
        loop {
            let id = self.numbers.next();
            let intent = Intent {
                client: name,
                id,
                f: Function::Write,
                key: PROBE_KEY,
                value: Some(id),
                expected: None,
            };
            let operation = self.invoker.invoke(&client, &intent, self.invoker.now_ns()).await;
            let outcome = operation.outcome;
            let told = self.invoker.told(operation);
            self.recorder.operation(told).await.map_err(ProbeError::Run)?;
            if outcome == Outcome::Ok {
                return Ok(());
            }
            let now = self.cluster.now();
            if now >= deadline {
                return Err(ProbeError::Refused(format!("its last answer was {outcome:?}")));
            }
            self.cluster.advance(now.plus(PROBE_PAUSE)).await;
        }
    }
}

/// Whether the healed cluster lives.
pub(crate) fn lives(nodes: u64, probed: &Probed) -> Check {
    let Probed { slowest, failed } = probed;
    if failed.is_empty() {
        let detail = format!(
            "after healing a write committed through each of {nodes} nodes, the slowest within {} \
             ms",
            slowest.as_millis()
        );
        return check("liveness", Verdict::Valid, detail);
    }
    let reasons: Vec<&str> = failed.iter().map(|(reason, _)| reason.as_str()).collect();
    // One proof is enough.
    let proofs = failed.iter().map(|(_, able)| able.clone());
    let (verdict, why) = match proofs.reduce(Result::or) {
        Some(Ok(proof)) => (Verdict::Invalid, proof),
        Some(Err(why)) => (Verdict::Unknown, why),
        None => (Verdict::Unknown, String::new()),
    };
    let (bound, reasons) = (LIVENESS_BOUND.as_secs(), reasons.join("; "));
    let detail = format!("no write committed within {bound} s through {reasons}; {why}");
    check("liveness", verdict, detail)
}

/// The name of the client that proves that a node lives.
pub(crate) fn probe_client(node: u64) -> u64 {
    PROBE_CLIENTS_FROM + node
}

/// A write through one node commits within this.
pub(crate) const LIVENESS_BOUND: Duration = Duration::from_secs(30);
const STATUS_BOUND: Duration = Duration::from_secs(2);
const PROBE_PAUSE: Duration = Duration::from_millis(50);
/// The workload's keys begin at 1.
pub(crate) const PROBE_KEY: u64 = 0;
/// The workload's clients have lower names.
const PROBE_CLIENTS_FROM: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(able: Vec<Result<String, String>>) -> Check {
        let failed = able.into_iter().map(|able| ("node 1: no answer".to_owned(), able));
        lives(3, &Probed { failed: failed.collect(), ..Probed::default() })
    }

    #[test]
    fn a_group_that_could_have_recovered_and_did_not_is_invalid_and_the_proof_is_told() {
        assert_eq!(verdict(vec![]).verdict, Verdict::Valid);
        let proven = verdict(vec![Ok("the proof".into()), Err("no majority".into())]);
        assert_eq!(proven.verdict, Verdict::Invalid);
        assert!(proven.detail.ends_with("; the proof"), "{}", proven.detail);
        let excused = verdict(vec![Err("no majority".into())]);
        assert_eq!(excused.verdict, Verdict::Unknown);
        assert!(excused.detail.ends_with("node 1: no answer; no majority"), "{}", excused.detail);
    }
}
