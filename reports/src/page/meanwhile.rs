//! What the cluster was doing while an operation waited.
//!
//! Reads lanes, faults and events, and puts them in words, each with its distance from the moment
//! at which the operation was due. Invariant: bounded, and in order of time.

use super::timeline::fault_words;
use crate::event::{Event, What};
use crate::figures::ms;
use crate::lanes::{self, Lane, State, called, hit};
use crate::record::Fault;

/// What is known of the cluster over time.
pub(super) struct Meanwhile<'a> {
    pub(super) lanes: &'a [Lane],
    pub(super) faults: &'a [Fault],
    /// In order of time.
    pub(super) events: &'a [&'a Event],
}

/// Something that happened, from the moment at which the operation was due.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Happening {
    pub(super) after_ms: f64,
    pub(super) words: String,
}

impl Happening {
    /// `+163 ms`, with a sign that has the width of a digit.
    pub(super) fn offset(&self) -> String {
        let sign = if self.after_ms < 0.0 { '−' } else { '+' };
        format!("{sign}{}", ms(self.after_ms.abs()))
    }
}

impl Meanwhile<'_> {
    /// Who led at a moment, in words.
    pub(super) fn led(&self, at_ms: f64) -> String {
        let leading = self.lanes.iter().filter_map(|lane| {
            let holds = |s: &&lanes::Stretch| s.from_ms <= at_ms && at_ms < s.until_ms;
            match &lane.stretches.iter().find(holds)?.state {
                State::In { role, term } if role == "leader" => Some((*term, lane.node)),
                _ => None,
            }
        });
        // One that does not know yet that it was deposed may be there as well.
        leading
            .max()
            .map_or("nobody led".to_owned(), |(term, node)| format!("node {node} led term {term}"))
    }

    /// What happened from shortly before an operation was due until it was answered, and how much
    /// more than is told.
    pub(super) fn told(&self, due_ms: f64, until_ms: f64) -> (Vec<Happening>, usize) {
        let mut happenings = Vec::new();
        for fault in self.faults {
            let words = fault_words(&called(fault), &hit(fault));
            let over_ms = fault.returned_ms.unwrap_or(f64::INFINITY);
            if fault.struck_ms <= until_ms && over_ms >= due_ms - BEFORE_MS {
                happenings.push((fault.struck_ms, words.clone()));
            }
            if (due_ms - BEFORE_MS..=until_ms).contains(&over_ms) {
                happenings.push((over_ms, format!("end of the {words}")));
            }
        }
        // A stall is told when it is over, and may reach back.
        let latest_ms = until_ms + STALL_MS_MAX;
        let first =
            self.events.partition_point(|event| lanes::ms(event.at_ns) < due_ms - BEFORE_MS);
        for event in &self.events[first..] {
            let at_ms = lanes::ms(event.at_ns);
            if at_ms > latest_ms {
                break;
            }
            happenings.extend(told(event).filter(|(at_ms, _)| *at_ms <= until_ms));
        }
        happenings.sort_by(|a, b| a.0.total_cmp(&b.0));
        happenings.dedup();
        let more = happenings.len().saturating_sub(TOLD_MAX);
        let told = happenings.into_iter().take(TOLD_MAX);
        let told = told.map(|(at_ms, words)| Happening { after_ms: at_ms - due_ms, words });
        (told.collect(), more)
    }
}

/// What of an event may have kept an operation waiting, and when it began.
fn told(event: &Event) -> Option<(f64, String)> {
    let (node, at_ms) = (event.node, lanes::ms(event.at_ns));
    Some(match &event.what {
        What::Campaign { term, pre_vote: false } => {
            (at_ms, format!("node {node} stands for term {term}"))
        }
        What::Became { role, term } if role == "leader" => {
            (at_ms, format!("node {node} leads term {term}"))
        }
        What::Stall { from_ns } => {
            let from_ms = lanes::ms(*from_ns);
            (from_ms, format!("node {node} does not run for {}", ms(at_ms - from_ms)))
        }
        What::Member { member, is } => (at_ms, format!("node {node} has member {member} {is}")),
        What::Stopped { .. } => (at_ms, format!("node {node} stops by itself")),
        What::Died { .. } => (at_ms, format!("node {node} dies")),
        _ => return None,
    })
}

/// What happened so shortly before may still matter.
const BEFORE_MS: f64 = 100.0;
const STALL_MS_MAX: f64 = 5_000.0;
const TOLD_MAX: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Stretch;

    #[test]
    fn what_happened_is_told_in_order_with_its_distance() {
        let event = |at_ms: u64, node, what| Event { at_ns: at_ms * 1_000_000, node, what };
        let leader = |term| What::Became { role: "leader".to_owned(), term };
        let events = [
            event(100, 1, leader(3)),
            event(1_150, 4, What::Campaign { term: 4, pre_vote: true }),
            event(1_151, 4, What::Campaign { term: 4, pre_vote: false }),
            event(1_163, 4, leader(4)),
            event(1_400, 2, What::Stall { from_ns: 1_140_000_000 }),
            event(1_500, 1, leader(5)),
        ];
        let fault = |struck_ms, returned_ms| Fault {
            trial: 1,
            fault: "kill".to_owned(),
            disk: None,
            node: 1,
            nodes: vec![1],
            struck_ms,
            returned_ms,
        };
        let faults = [fault(997.0, Some(1_170.0)), fault(5_000.0, None)];
        let state = State::In { role: "leader".to_owned(), term: 3 };
        let stretches = vec![Stretch { from_ms: 100.0, until_ms: 997.0, state }];
        let lanes = [Lane { node: 1, stretches, hurts: Vec::new() }];
        let events: Vec<&Event> = events.iter().collect();
        let meanwhile = Meanwhile { lanes: &lanes, faults: &faults, events: &events };
        let (told, more) = meanwhile.told(1_000.0, 1_180.0);
        let told: Vec<(String, &str)> =
            told.iter().map(|told| (told.offset(), told.words.as_str())).collect();
        let expected = [
            ("−3.00 ms", "kill of node 1"),
            ("+140 ms", "node 2 does not run for 260 ms"),
            ("+151 ms", "node 4 stands for term 4"),
            ("+163 ms", "node 4 leads term 4"),
            ("+170 ms", "end of the kill of node 1"),
        ];
        assert_eq!(told, expected.map(|(offset, words)| (offset.to_owned(), words)));
        assert_eq!(more, 0);
        assert_eq!(meanwhile.led(500.0), "node 1 led term 3");
        assert_eq!(meanwhile.led(1_000.0), "nobody led");
    }
}
