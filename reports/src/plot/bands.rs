//! Faults as bands over time: from the marks, and from trials that no mark tells of.

use crate::lanes::{FORMING, STALL};
use crate::{Mark, RunRecord, Trial};
use std::collections::BTreeSet;

/// A stretch of time in which something was wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Band {
    pub(crate) kind: String,
    pub(crate) nodes: Vec<u64>,
    pub(crate) from_s: f64,
    pub(crate) until_s: f64,
}

/// All faults and stalls of a run, in order, at most [`BANDS_MAX`]; of too many, stalls are left out
/// first.
pub(crate) fn faults(record: &RunRecord) -> Vec<Band> {
    let mut bands: Vec<Band> = record.marks.iter().filter_map(of_mark).collect();
    let untold: Vec<Band> =
        record.trials.iter().filter(|trial| !is_told(trial, &bands)).filter_map(of_trial).collect();
    bands.extend(untold);
    bands.sort_by(|a, b| {
        (a.kind == STALL).cmp(&(b.kind == STALL)).then(a.from_s.total_cmp(&b.from_s))
    });
    bands.truncate(BANDS_MAX);
    bands.sort_by(|a, b| a.from_s.total_cmp(&b.from_s));
    bands
}

/// All outages that trials measured, from fault to recovery, in seconds.
pub(crate) fn outages(record: &RunRecord) -> Vec<(f64, f64)> {
    let spans = record.trials.iter().filter_map(|trial| {
        let until_ms = trial.fault_at_ms + trial.outage_ms?;
        until_ms.is_finite().then_some((trial.fault_at_ms / 1e3, until_ms / 1e3))
    });
    spans.take(BANDS_MAX).collect()
}

/// The kinds that occur, for the legend.
pub(crate) fn kinds(bands: &[Band]) -> Vec<&str> {
    bands.iter().map(|band| band.kind.as_str()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn of_mark(mark: &Mark) -> Option<Band> {
    let until_ms = mark.until_ms.filter(|until_ms| *until_ms >= mark.at_ms)?;
    if mark.kind == FORMING {
        return None;
    }
    let (from_s, until_s) = (mark.at_ms / 1e3, until_ms / 1e3);
    let nodes = match mark.nodes.is_empty() {
        true => mark.node.into_iter().collect(),
        false => mark.nodes.clone(),
    };
    let band = Band { kind: mark.kind.clone(), nodes, from_s, until_s };
    (from_s.is_finite() && until_s.is_finite()).then_some(band)
}

fn of_trial(trial: &Trial) -> Option<Band> {
    let from_s = trial.fault_at_ms / 1e3;
    let until_s = from_s + trial.outage_ms.unwrap_or(0.0).max(0.0) / 1e3;
    let nodes = match trial.nodes.is_empty() {
        true => vec![trial.node],
        false => trial.nodes.clone(),
    };
    let band = Band { kind: trial.fault.clone(), nodes, from_s, until_s };
    (from_s.is_finite() && until_s.is_finite()).then_some(band)
}

fn is_told(trial: &Trial, bands: &[Band]) -> bool {
    bands.iter().any(|band| {
        band.kind == trial.fault
            && (band.nodes.is_empty() || band.nodes.contains(&trial.node))
            && (band.from_s - trial.fault_at_ms / 1e3).abs() < SAME_FAULT_S
    })
}

/// A mark and a trial this close in time speak of the same fault.
const SAME_FAULT_S: f64 = 0.1;
/// More than anybody can tell apart on a screen.
const BANDS_MAX: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    #[test]
    fn a_trial_that_a_mark_tells_of_is_drawn_once() {
        let mut record = record();
        let trial = |fault_at_ms: f64| Trial {
            fault: "kill".to_owned(),
            node: 2,
            fault_at_ms,
            outage_ms: Some(300.0),
            ..Trial::default()
        };
        record.trials = vec![trial(1_000.0), trial(9_000.0)];
        record.marks = vec![Mark {
            at_ms: 1_000.4,
            kind: "kill".to_owned(),
            node: Some(2),
            nodes: vec![2, 4],
            detail: String::new(),
            until_ms: Some(3_000.0),
        }];
        let spans: Vec<_> = faults(&record).iter().map(|b| (b.from_s, b.until_s)).collect();
        assert_eq!(spans, [(1.0004, 3.0), (9.0, 9.3)]);
        assert_eq!(faults(&record)[0].nodes, [2, 4], "all that were hit");
        assert_eq!(outages(&record), [(1.0, 1.3), (9.0, 9.3)]);
    }

    #[test]
    fn stalls_never_push_out_a_fault() {
        let mut record = record();
        let mark = |at_ms: f64, kind: &str| Mark {
            at_ms,
            kind: kind.to_owned(),
            node: Some(1),
            nodes: Vec::new(),
            detail: String::new(),
            until_ms: Some(at_ms + 20.0),
        };
        record.marks = (0..BANDS_MAX).map(|n| mark(n as f64, "stall")).collect();
        record.marks.push(mark(90_000.0, "kill"));
        record.marks.push(mark(1.0, FORMING));
        let bands = faults(&record);
        assert_eq!(bands.len(), BANDS_MAX);
        assert_eq!(bands.iter().filter(|band| band.kind != "stall").count(), 1);
    }

    #[test]
    fn times_that_are_no_numbers_are_left_out() {
        let mut record = record();
        record.trials =
            vec![Trial { fault_at_ms: f64::NAN, outage_ms: Some(1.0), ..Trial::default() }];
        assert!(faults(&record).is_empty());
        assert!(outages(&record).is_empty());
    }
}
