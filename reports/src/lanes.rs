//! One lane per node: what it was when, from what the nodes noted and what was done to them.
//!
//! Pure. A node that was killed says nothing: that it was down is known from the fault, and that it
//! is back from its next word. Invariants: the stretches of a lane are in order and do not overlap;
//! where nothing is known of a node there is none.

use crate::event::{Event, What};
use crate::record::{Fault, RunRecord};
use std::collections::{BTreeMap, BTreeSet};

/// One node's life.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lane {
    pub(crate) node: u64,
    pub(crate) stretches: Vec<Stretch>,
    /// What befell it beside that: links that were cut, a clock of another pace, stalls.
    pub(crate) hurts: Vec<Hurt>,
}

/// A while in which it did not change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stretch {
    pub(crate) from_ms: f64,
    pub(crate) until_ms: f64,
    pub(crate) state: State,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It has a role in a term.
    In { role: String, term: u64 },
    /// It was killed, or its process ended by itself.
    Down,
    /// Its member stopped by itself, or was asked to; the process may be there.
    Stopped,
    /// It stands still.
    Paused,
}

/// A while in which something was wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hurt {
    pub(crate) kind: String,
    pub(crate) from_ms: f64,
    pub(crate) until_ms: f64,
}

/// What changes a node's state; of several at one moment the last in this order counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// Another group begins: nothing that was known holds.
    Fresh,
    In {
        role: String,
        term: u64,
    },
    Resumed,
    Paused,
    Stopped,
    Down,
}

/// The lanes of all nodes until `end_ms`, in their order.
pub(crate) fn lanes(record: &RunRecord, events: &[Event], end_ms: f64) -> Vec<Lane> {
    let faults = faults(record);
    let groups: Vec<f64> =
        record.marks.iter().filter(|mark| mark.kind == FORMING).map(|mark| mark.at_ms).collect();
    let mut turns: BTreeMap<u64, Vec<(f64, Turn)>> = BTreeMap::new();
    for node in nodes(record, events) {
        turns.insert(node, groups.iter().map(|at_ms| (*at_ms, Turn::Fresh)).collect());
    }
    for event in events {
        let turn = match &event.what {
            What::Became { role, term } => Turn::In { role: role.clone(), term: *term },
            What::Stopped { .. } => Turn::Stopped,
            What::Died { .. } => Turn::Down,
            _ => continue,
        };
        turns.entry(event.node).or_default().push((ms(event.at_ns), turn));
    }
    let of_nodes = |fault| hit(fault).into_iter().map(move |node| (fault, node));
    for (fault, node) in faults.iter().flat_map(of_nodes) {
        let of_node = turns.entry(node).or_default();
        match fault.fault.as_str() {
            "kill" | "wipe" => of_node.push((fault.struck_ms, Turn::Down)),
            // Whoever stops for its disk says so itself.
            "disk" if is_killed(fault) => of_node.push((fault.struck_ms, Turn::Down)),
            // Until it has handed over it goes on; its process ends without another word.
            "restart" | "leave" => {
                of_node.push((last_word_ms(fault, node, events), Turn::Stopped));
            }
            "pause" => {
                of_node.push((fault.struck_ms, Turn::Paused));
                of_node.extend(fault.returned_ms.map(|ms| (ms, Turn::Resumed)));
            }
            _ => {}
        }
    }
    turns
        .into_iter()
        .take(LANES_MAX)
        .map(|(node, turns)| Lane {
            node,
            stretches: stretches(turns, end_ms),
            hurts: hurts(node, &faults, events, end_ms),
        })
        .collect()
}

/// Every fault that was carried out; of a record that does not list them, those that it marks.
pub(crate) fn faults(record: &RunRecord) -> Vec<Fault> {
    let is_sound = |fault: &Fault| {
        fault.struck_ms.is_finite() && fault.returned_ms.is_none_or(|ms| ms >= fault.struck_ms)
    };
    if !record.faults.is_empty() {
        return record.faults.iter().filter(|fault| is_sound(fault)).cloned().collect();
    }
    let marked = record.marks.iter().filter_map(|mark| {
        let is_fault = !NO_FAULTS.contains(&mark.kind.as_str());
        Some(Fault {
            trial: 0,
            fault: mark.kind.clone(),
            disk: None,
            node: mark.node.filter(|_| is_fault)?,
            nodes: mark.nodes.clone(),
            struck_ms: mark.at_ms,
            returned_ms: mark.until_ms,
        })
    });
    marked.filter(is_sound).collect()
}

/// All nodes that a fault hit.
pub(crate) fn hit(fault: &Fault) -> Vec<u64> {
    match fault.nodes.is_empty() {
        true => vec![fault.node],
        false => fault.nodes.iter().copied().take(LANES_MAX).collect(),
    }
}

/// What a fault is called: `kill`, `disk sync-error`.
pub(crate) fn called(fault: &Fault) -> String {
    match &fault.disk {
        Some(disk) => format!("{} {disk}", fault.fault),
        None => fault.fault.clone(),
    }
}

/// Whether the node was killed to find its disk damaged as it returns.
fn is_killed(fault: &Fault) -> bool {
    fault.disk.as_deref() == Some("flip")
}

/// When a node that was asked to end last said anything before it was back.
fn last_word_ms(fault: &Fault, node: u64, events: &[Event]) -> f64 {
    let returned_ms = fault.returned_ms.unwrap_or(f64::INFINITY);
    let of_node = events.iter().filter(|event| event.node == node);
    let words = of_node.map(|event| ms(event.at_ns));
    let words = words.filter(|ms| (fault.struck_ms..returned_ms).contains(ms));
    words.fold(fault.struck_ms, f64::max)
}

fn nodes(record: &RunRecord, events: &[Event]) -> BTreeSet<u64> {
    let planned = record.plan.get("nodes").and_then(serde_json::Value::as_u64).unwrap_or(0);
    let planned = 1..=planned.min(LANES_MAX as u64);
    planned.chain(events.iter().map(|event| event.node)).collect()
}

fn stretches(mut turns: Vec<(f64, Turn)>, end_ms: f64) -> Vec<Stretch> {
    turns.retain(|(at_ms, _)| at_ms.is_finite() && *at_ms <= end_ms);
    turns.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    let mut stretches: Vec<Stretch> = Vec::new();
    let (mut state, mut is_paused) = (None, false);
    let mut since_ms = 0.0;
    let mut shown: Option<State> = None;
    for (at_ms, turn) in turns {
        match turn {
            Turn::Fresh => (state, is_paused) = (None, false),
            Turn::Stopped => (state, is_paused) = (Some(State::Stopped), false),
            Turn::Down => (state, is_paused) = (Some(State::Down), false),
            Turn::Paused => is_paused = true,
            Turn::Resumed => is_paused = false,
            Turn::In { role, term } => state = Some(State::In { role, term }),
        }
        let now = if is_paused { Some(State::Paused) } else { state.clone() };
        if now != shown {
            stretches.extend(stretch(since_ms, at_ms, shown));
            (since_ms, shown) = (at_ms, now);
        }
    }
    stretches.extend(stretch(since_ms, end_ms, shown));
    stretches
}

fn stretch(from_ms: f64, until_ms: f64, state: Option<State>) -> Option<Stretch> {
    let state = state.filter(|_| until_ms > from_ms)?;
    Some(Stretch { from_ms, until_ms, state })
}

fn hurts(node: u64, faults: &[Fault], events: &[Event], end_ms: f64) -> Vec<Hurt> {
    let is_state = |fault: &&Fault| STATES.contains(&fault.fault.as_str()) || is_killed(fault);
    let of_node = faults.iter().filter(|fault| !is_state(fault) && hit(fault).contains(&node));
    let hurts = of_node.map(|fault| Hurt {
        kind: called(fault),
        from_ms: fault.struck_ms,
        until_ms: fault.returned_ms.unwrap_or(end_ms),
    });
    let stalls = events.iter().filter_map(|event| match event.what {
        What::Stall { from_ns } if event.node == node && from_ns <= event.at_ns => {
            Some(Hurt { kind: STALL.to_owned(), from_ms: ms(from_ns), until_ms: ms(event.at_ns) })
        }
        _ => None,
    });
    hurts.chain(stalls).collect()
}

pub(crate) fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// The mark of a group that is formed; each is another group, with nodes of its own.
pub(crate) const FORMING: &str = "forming";
/// The mark of a node that did not run.
pub(crate) const STALL: &str = "stall";
/// Marks of what nobody did to the cluster.
const NO_FAULTS: [&str; 5] = ["leader", STALL, "stopped", "died", FORMING];
/// Faults that show in what a node is.
const STATES: [&str; 5] = ["kill", "restart", "leave", "wipe", "pause"];
/// More would fit on no screen.
const LANES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Mark;
    use crate::record::tests::record;

    fn became(at_ms: u64, node: u64, role: &str, term: u64) -> Event {
        let what = What::Became { role: role.to_owned(), term };
        Event { at_ns: at_ms * 1_000_000, node, what }
    }

    fn fault(fault: &str, node: u64, struck_ms: f64, returned_ms: Option<f64>) -> Fault {
        let (fault, nodes) = (fault.to_owned(), vec![node]);
        Fault { trial: 1, fault, disk: None, node, nodes, struck_ms, returned_ms }
    }

    fn told(lane: &Lane) -> Vec<(f64, f64, String)> {
        let word = |state: &State| match state {
            State::In { role, term } => format!("{role} {term}"),
            State::Down => "down".to_owned(),
            State::Stopped => "stopped".to_owned(),
            State::Paused => "paused".to_owned(),
        };
        let stretches = lane.stretches.iter();
        stretches.map(|s| (s.from_ms, s.until_ms, word(&s.state))).collect()
    }

    #[test]
    fn a_node_stops_for_its_disk_by_its_own_word_and_is_down_where_it_was_killed() {
        let mut record = record();
        let disk = |kind: &str, node, struck_ms| Fault {
            disk: Some(kind.to_owned()),
            ..fault("disk", node, struck_ms, Some(80.0))
        };
        record.faults = vec![disk("sync-error", 1, 50.0), disk("flip", 2, 60.0)];
        let stopped = What::Stopped { reason: "its store failed".to_owned() };
        let events = [
            became(10, 1, "leader", 1),
            became(10, 2, "follower", 1),
            Event { at_ns: 52_000_000, node: 1, what: stopped },
            became(85, 1, "follower", 2),
            became(90, 2, "follower", 2),
        ];
        let lanes = lanes(&record, &events, 100.0);
        let states = |lane: &Lane| {
            let told = told(lane).into_iter();
            told.map(|(from, _, word)| format!("{from} {word}")).collect::<Vec<_>>()
        };
        assert_eq!(states(&lanes[0]), ["10 leader 1", "52 stopped", "85 follower 2"]);
        assert_eq!(states(&lanes[1]), ["10 follower 1", "60 down", "90 follower 2"]);
        let hurts: Vec<&str> = lanes[0].hurts.iter().map(|hurt| hurt.kind.as_str()).collect();
        assert_eq!((hurts, lanes[1].hurts.len()), (vec!["disk sync-error"], 0));
    }

    #[test]
    fn a_killed_node_is_down_until_it_speaks_again() {
        let mut record = record();
        record.faults = vec![fault("kill", 2, 50.0, Some(80.0))];
        let events = [
            became(10, 2, "follower", 0),
            became(30, 2, "leader", 1),
            became(85, 2, "follower", 1),
        ];
        let lanes = lanes(&record, &events, 100.0);
        assert_eq!(lanes.len(), 5, "as many as the plan has nodes");
        let expected = [
            (10.0, 30.0, "follower 0"),
            (30.0, 50.0, "leader 1"),
            (50.0, 85.0, "down"),
            (85.0, 100.0, "follower 1"),
        ];
        assert_eq!(told(&lanes[1]), expected.map(|(from, until, word)| (from, until, word.into())));
        assert!(lanes[0].stretches.is_empty(), "nothing is known of it");
    }

    #[test]
    fn of_all_that_one_fault_hit_each_is_down() {
        let mut record = record();
        let all = Fault { nodes: vec![2, 1], ..fault("kill", 2, 50.0, Some(80.0)) };
        record.faults = vec![all];
        let events = [became(10, 1, "follower", 1), became(10, 2, "leader", 1)];
        for lane in &lanes(&record, &events, 100.0)[..2] {
            assert_eq!(told(lane)[1], (50.0, 100.0, "down".to_owned()));
        }
    }

    #[test]
    fn a_paused_node_goes_on_as_what_it_was() {
        let mut record = record();
        record.faults = vec![fault("pause", 1, 20.0, Some(40.0)), fault("isolate", 1, 60.0, None)];
        let stall = Event { at_ns: 15_000_000, node: 1, what: What::Stall { from_ns: 9_000_000 } };
        let lanes = lanes(&record, &[became(0, 1, "leader", 3), stall], 100.0);
        let words: Vec<String> = told(&lanes[0]).into_iter().map(|(.., word)| word).collect();
        assert_eq!(words, ["leader 3", "paused", "leader 3"]);
        let hurts: Vec<_> =
            lanes[0].hurts.iter().map(|h| (h.kind.as_str(), h.from_ms, h.until_ms)).collect();
        assert_eq!(hurts, [("isolate", 60.0, 100.0), ("stall", 9.0, 15.0)]);
    }

    #[test]
    fn a_node_that_is_restarted_leads_until_it_has_handed_over() {
        let mut record = record();
        record.faults = vec![fault("restart", 1, 50.0, Some(80.0))];
        let events =
            [became(0, 1, "leader", 1), became(54, 1, "follower", 2), became(85, 1, "follower", 2)];
        let lanes = lanes(&record, &events, 100.0);
        let expected =
            [(0.0, 54.0, "leader 1"), (54.0, 85.0, "stopped"), (85.0, 100.0, "follower 2")];
        assert_eq!(told(&lanes[0]), expected.map(|(from, until, word)| (from, until, word.into())));
        assert!(lanes[0].hurts.is_empty());
    }

    #[test]
    fn nothing_is_carried_over_from_one_group_to_the_next() {
        let mut record = record();
        let forming = |at_ms| Mark {
            at_ms,
            kind: FORMING.to_owned(),
            node: None,
            nodes: Vec::new(),
            detail: String::new(),
            until_ms: Some(at_ms + 10.0),
        };
        record.marks = vec![forming(0.0), forming(50.0)];
        let events = [became(5, 1, "leader", 1), became(60, 1, "follower", 0)];
        let lanes = lanes(&record, &events, 70.0);
        let expected = [(5.0, 50.0, "leader 1"), (60.0, 70.0, "follower 0")];
        assert_eq!(told(&lanes[0]), expected.map(|(from, until, word)| (from, until, word.into())));
    }

    #[test]
    fn a_record_without_a_list_of_faults_tells_them_by_its_marks() {
        let mut record = record();
        let mark = |kind: &str, until_ms| Mark {
            at_ms: 10.0,
            kind: kind.to_owned(),
            node: Some(2),
            nodes: Vec::new(),
            detail: String::new(),
            until_ms,
        };
        record.marks =
            vec![mark("leader", None), mark("stall", Some(40.0)), mark("kill", Some(40.0))];
        let faults = faults(&record);
        assert_eq!((faults.len(), faults[0].fault.as_str()), (1, "kill"));
        record.marks.push(mark("pause", Some(f64::NAN)));
        assert_eq!(super::faults(&record).len(), 1, "times that are no numbers are left out");
    }
}
