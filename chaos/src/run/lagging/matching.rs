//! The logs of one trial, compared with each other.
//!
//! Pure. What only filled a log is not in it, but for its first entry, so that its entries grow and
//! have gaps. Invariant: what any log tells of an index holds for every other that tells of it,
//! also by its having a gap there.

use std::collections::BTreeMap;

use crate::history::{LogLine, NodeLog};

/// Whether the logs of a trial hold the same; what differs, if anything does.
pub(super) fn differ(logs: &[&NodeLog]) -> Option<String> {
    let disordered = logs.iter().find_map(|log| disorder(log));
    let contradiction = || {
        let mut known: BTreeMap<u64, (u64, LogLine)> = BTreeMap::new();
        let mut lines =
            logs.iter().flat_map(|log| log.lines.iter().map(move |line| (log.node, *line)));
        lines.find_map(|(node, line)| {
            let (other, first) = *known.entry(line.index).or_insert((node, line));
            (first != line).then(|| differing((other, first), (node, line)))
        })
    };
    disordered.or_else(contradiction).or_else(|| logs.iter().find_map(|log| lacking(log, logs)))
}

/// Two neighbours in a log that no log has.
fn disorder(log: &NodeLog) -> Option<String> {
    let neighbours = log.lines.windows(2).filter_map(|pair| match pair {
        [one, next] => Some((one, next)),
        _ => None,
    });
    let mut odd = neighbours.filter(|(one, next)| next.index <= one.index || next.term < one.term);
    let (one, next) = odd.next()?;
    let (node, (term, index)) = (log.node, (next.term, next.index));
    Some(format!("node {node} holds {term}.{index} after {}.{}", one.term, one.index))
}

fn differing((other, first): (u64, LogLine), (node, line): (u64, LogLine)) -> String {
    let LogLine { term, index, .. } = line;
    match first.term == term {
        true => format!("nodes {other} and {node} hold different entries at {term}.{index}"),
        false => format!(
            "index {index} is of term {} on node {other}, of term {term} on node {node}",
            first.term
        ),
    }
}

/// An entry that another log goes past without, though it does more than fill: that one holds
/// something else there, or nothing.
fn lacking(log: &NodeLog, logs: &[&NodeLog]) -> Option<String> {
    let mut telling = log.lines.iter().filter(|line| !line.only_fills());
    telling.find_map(|line| {
        let passed = logs.iter().find(|other| goes_past(other, line.index))?;
        let LogLine { term, index, .. } = line;
        Some(format!("node {} holds {term}.{index}, and node {} not", log.node, passed.node))
    })
}

/// Whether a log in order has entries before and after an index, and none there.
fn goes_past(log: &NodeLog, index: u64) -> bool {
    match log.lines.binary_search_by_key(&index, |line| line.index) {
        Ok(_) => false,
        Err(place) => place > 0 && place < log.lines.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::RequestId;

    /// An entry of that term and index that stores its value, or only fills the log.
    fn line(term: u64, index: u64, value: Option<u64>) -> LogLine {
        LogLine { term, index, request: Some(RequestId { session: 1, sequence: index }), value }
    }

    fn of_two(one: &[LogLine], two: &[LogLine]) -> Option<String> {
        let log = |node, lines: &[LogLine]| NodeLog { node, group: 3, lines: lines.to_vec() };
        differ(&[&log(1, one), &log(2, two)])
    }

    #[test]
    fn logs_without_what_filled_them_are_compared_where_both_tell() {
        let noop = LogLine { request: None, ..line(1, 1, None) };
        let whole = [noop, line(1, 4, Some(40)), line(1, 900, Some(9)), line(2, 901, Some(8))];
        assert_eq!(of_two(&whole, &whole), None);
        assert_eq!(of_two(&whole, &whole[..2]), None, "one ends sooner");
        let after_snapshot = [line(1, 700, None), whole[2], whole[3]];
        assert_eq!(of_two(&whole, &after_snapshot), None, "it begins with what only fills");
        assert_eq!(of_two(&after_snapshot, &[]), None);
    }

    #[test]
    fn logs_that_differ_are_told_by_node_term_and_index() {
        let whole = [line(1, 4, Some(40)), line(1, 900, Some(9)), line(2, 901, Some(8))];
        let says = |other: &[LogLine], says: &str| {
            assert_eq!(of_two(&whole, other).as_deref(), Some(says));
        };
        says(&[whole[0], line(1, 900, Some(7))], "nodes 1 and 2 hold different entries at 1.900");
        says(&[line(2, 900, Some(9))], "index 900 is of term 1 on node 1, of term 2 on node 2");
        says(&[whole[0], whole[2]], "node 1 holds 1.900, and node 2 not");
        says(&[line(1, 3, Some(3)), whole[1]], "node 1 holds 1.4, and node 2 not");
        says(&[whole[2], whole[1]], "node 2 holds 1.900 after 2.901");
        says(&[whole[0], whole[0]], "node 2 holds 1.4 after 1.4");
    }
}
