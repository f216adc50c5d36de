//! What a run has nothing to show of, and why, in words.
//!
//! Pure: looks at the record and at whether there were operations. Invariant: what would be empty
//! is not drawn, and whoever looks for it reads why.

use crate::figures::plural;
use crate::lanes::FORMING;
use crate::{Recorder, RunRecord, Trial};

/// Why no outage is shown; nothing where one was measured.
pub(crate) fn of_outages(record: &RunRecord) -> Option<String> {
    if record.trials.iter().any(|trial| trial.measured_ms().is_some()) {
        return None;
    }
    let faults: u64 = record.trials.iter().map(Trial::faults).sum();
    let why = match (faults, kind(record)) {
        (0, STEADY) => {
            format!("a plan of kind {STEADY} is load alone, and no fault was carried out")
        }
        (0, FORMATION) => format!("a plan of kind {FORMATION} has neither faults nor clients"),
        (0, _) => "no trial came to its end before the run did".to_owned(),
        (faults, _) => format!("none was measured after {}", plural(faults, "fault")),
    };
    Some(format!("No outage is shown: {why}."))
}

/// Why no time of a catch-up is shown; nothing where one came to its end, and where nobody had to
/// catch up.
pub(crate) fn of_catch_ups(record: &RunRecord) -> Option<String> {
    let trials = record.catch_ups.len() as u64;
    let ended = record.catch_ups.iter().any(|caught| caught.took_ms().is_some());
    let why = || format!("none came to its end in {}", plural(trials, "trial"));
    (trials > 0 && !ended).then(|| format!("No catch-up is drawn: {}.", why()))
}

/// Why it is not shown how long groups took to form; nothing where one formed, and where none was
/// to.
pub(crate) fn of_forming(record: &RunRecord) -> Option<String> {
    let forming = || record.marks.iter().filter(|mark| mark.kind == FORMING);
    let groups = forming().count() as u64;
    let formed = forming().any(|mark| mark.until_ms.is_some());
    let why = || format!("of {} none was formed", plural(groups, "group"));
    (groups > 0 && !formed).then(|| format!("No time is shown: {}.", why()))
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
    use crate::{CatchUp, Kind, Mark, Outcome, Sample};

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
        hit.trials[1].also = vec!["pause".to_owned()];
        assert!(why(&hit).ends_with("after 3 faults."), "two of them are of one trial");
        hit.trials[0].outage_ms = Some(0.0);
        assert_eq!(of_outages(&hit), None);
    }

    #[test]
    fn no_catch_up_is_drawn_where_none_came_to_its_end() {
        let of = |ends: &[Option<f64>]| {
            let caught = |end: &Option<f64>| CatchUp { catch_up_ms: *end, ..CatchUp::default() };
            let catch_ups = ends.iter().map(caught).collect();
            of_catch_ups(&RunRecord { catch_ups, ..of_kind("lagging") })
        };
        assert_eq!((of(&[]), of(&[None, Some(7.0)])), (None, None));
        let why = of(&[None, Some(f64::NAN)]).expect("none ended");
        assert_eq!(why, "No catch-up is drawn: none came to its end in 2 trials.");
    }

    #[test]
    fn no_time_is_shown_where_no_group_formed() {
        let of = |ends: &[Option<f64>]| {
            let mark = |end: &Option<f64>| Mark {
                at_ms: 1.0,
                kind: FORMING.to_owned(),
                node: None,
                nodes: Vec::new(),
                detail: String::new(),
                until_ms: *end,
            };
            let marks = ends.iter().map(mark).collect();
            of_forming(&RunRecord { marks, ..of_kind("formation") })
        };
        assert_eq!((of(&[]), of(&[None, Some(7.0)])), (None, None));
        let why = of(&[None, None]).expect("none formed");
        assert_eq!(why, "No time is shown: of 2 groups none was formed.");
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
