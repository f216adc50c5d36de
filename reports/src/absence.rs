//! What a run has nothing to show of, and why, in words.
//!
//! Pure: looks at the record and at whether there were operations. Invariant: what would be empty
//! is not drawn, and whoever looks for it reads why.

use crate::figures::plural;
use crate::{Recorder, RunRecord};

/// Why no outage is shown; nothing where one was measured.
pub(crate) fn of_outages(record: &RunRecord) -> Option<String> {
    if record.trials.iter().any(|trial| trial.measured_ms().is_some()) {
        return None;
    }
    let why = match (record.trials.len() as u64, kind(record)) {
        (0, STEADY) => {
            format!("a plan of kind {STEADY} is load alone, and no fault was carried out")
        }
        (0, FORMATION) => format!("a plan of kind {FORMATION} has neither faults nor clients"),
        (0, _) => "no trial came to its end before the run did".to_owned(),
        (faults, _) => format!("none was measured after {}", plural(faults, "fault")),
    };
    Some(format!("No outage is shown: {why}."))
}

/// Why neither latency nor throughput is shown; nothing where there was an operation.
pub(crate) fn of_load(record: &RunRecord, recorder: &Recorder) -> Option<String> {
    if !recorder.points().is_empty() {
        return None;
    }
    let why = match kind(record) {
        FORMATION => format!("a plan of kind {FORMATION} has no clients"),
        _ => "no operation was due before the run ended".to_owned(),
    };
    Some(format!("Neither latency nor throughput is shown: {why}."))
}

fn kind(record: &RunRecord) -> &str {
    record.plan.get("kind").and_then(serde_json::Value::as_str).unwrap_or_default()
}

const STEADY: &str = "steady";
const FORMATION: &str = "formation";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;
    use crate::{Kind, Outcome, Sample, Trial};

    fn of_kind(kind: &str) -> RunRecord {
        RunRecord { plan: serde_json::json!({ "kind": kind }), ..record() }
    }

    #[test]
    fn why_no_outage_is_shown_depends_on_what_the_run_was() {
        let why = |record: &RunRecord| of_outages(record).expect("there is none");
        assert!(why(&of_kind("steady")).contains("steady is load alone"));
        assert!(why(&of_kind("formation")).contains("has neither faults nor clients"));
        assert!(why(&of_kind("failover")).contains("no trial came to its end before the run did"));
        let mut hit = of_kind("failover");
        hit.trials =
            vec![Trial::default(), Trial { outage_ms: Some(f64::NAN), ..Trial::default() }];
        assert_eq!(why(&hit), "No outage is shown: none was measured after 2 faults.");
        hit.trials[0].outage_ms = Some(0.0);
        assert_eq!(of_outages(&hit), None);
    }

    #[test]
    fn why_no_latency_is_shown_depends_on_whether_there_are_clients() {
        let mut recorder = Recorder::new();
        let why = |record: &RunRecord, recorder: &Recorder| of_load(record, recorder);
        let formation = why(&of_kind("formation"), &recorder).expect("there is none");
        assert!(formation.ends_with("formation has no clients."), "{formation}");
        let steady = why(&of_kind("steady"), &recorder).expect("there is none yet");
        assert!(steady.ends_with("no operation was due before the run ended."), "{steady}");
        recorder.record(&Sample {
            intended_ns: 1,
            completed_ns: None,
            kind: Kind::Read,
            outcome: Outcome::Unknown,
            client: 1,
            id: 1,
            key: 1,
            node: None,
        });
        assert_eq!(why(&of_kind("steady"), &recorder), None, "it was due");
    }
}
