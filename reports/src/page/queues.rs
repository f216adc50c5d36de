//! How much waited in each node at most, where nodes said what they use.
//!
//! Lays out. Invariants: what a node never told is absent, not 0; a queue that no node told of has
//! no column; the table has a limit, and what is left out is counted.

use crate::event::{Event, QUEUES_COUNTED, QUEUES_KB, Queue, What};
use crate::figures::{ABSENT, count, plural};
use maud::{Markup, html};
use std::collections::BTreeMap;

/// One for each of the queues.
type Depths = Vec<Option<u64>>;

/// The section; nothing where no node told of a queue.
pub(super) fn section(events: &[Event]) -> Markup {
    let nodes = largest(events);
    if nodes.is_empty() {
        return html! {};
    }
    let more = nodes.len().saturating_sub(NODES_MAX) as u64;
    let is_told = |place: &usize| nodes.values().any(|depths| depths[*place].is_some());
    let told: Vec<usize> = (0..queues().count()).filter(is_told).collect();
    let names: Vec<&str> = queues().map(|(name, _)| name).collect();
    html! {
        section id="queues" {
            h2 { "Queues" }
            p class="note" {
                "The most that waited in each node, of all its groups together, over all samples \
                 that it told, four a second: only real processes (world process) tell any. What \
                 came and went between two samples is not seen. Lanes carry, in front of each \
                 bond, votes, heartbeats and acknowledgements (control), entries (append), calls \
                 that are passed on (client), and what those fetch who are far behind (bulk)."
            }
            div class="wide" { table class="figures" {
                thead { tr {
                    th { "node" }
                    @for place in &told { th class="n" { (names[*place]) } }
                } }
                tbody { @for (node, depths) in nodes.iter().take(NODES_MAX) { tr {
                    th { (format!("n{node}")) }
                    @for place in &told {
                        td class="n" { (depths[*place].map_or(ABSENT.to_owned(), count)) }
                    }
                } } }
            } }
            @if more > 0 { p class="note" { "and " (plural(more, "more node")) } }
        }
    }
}

fn largest(events: &[Event]) -> BTreeMap<u64, Depths> {
    let mut nodes: BTreeMap<u64, Depths> = BTreeMap::new();
    for event in events {
        let What::Usage { queues: told, .. } = &event.what else { continue };
        let depths: Depths = queues().map(|(_, depth)| depth(told)).collect();
        if depths.iter().all(Option::is_none) {
            continue;
        }
        let kept = nodes.entry(event.node).or_insert_with(|| vec![None; depths.len()]);
        for (kept, depth) in kept.iter_mut().zip(depths) {
            *kept = (*kept).max(depth);
        }
    }
    nodes
}

/// All of them, in the order of the columns.
fn queues() -> impl Iterator<Item = Queue> {
    QUEUES_COUNTED.into_iter().chain(QUEUES_KB)
}

const NODES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Queues;

    fn usage(node: u64, queues: Queues) -> Event {
        let what = What::Usage { resident_kb: 1, log_kb: 0, cpu_ms: 0, queues };
        Event { at_ns: 1, node, what }
    }

    #[test]
    fn the_largest_depth_of_each_queue_is_told_and_what_is_unknown_is_not_0() {
        let queues = |calls, storage_backlog_kb, lane_append_kb| Queues {
            calls,
            storage_backlog_kb,
            lane_append_kb,
            ..Queues::default()
        };
        let events = [
            usage(2, queues(Some(3), Some(0), None)),
            usage(2, queues(Some(1), Some(5_000), None)),
            usage(4, queues(None, None, Some(70))),
            usage(3, Queues::default()),
        ];
        let nodes = largest(&events);
        assert_eq!(nodes.keys().collect::<Vec<_>>(), [&2_u64, &4]);
        assert_eq!(nodes[&2].iter().flatten().collect::<Vec<_>>(), [&3_u64, &5_000]);
        let told = section(&events).into_string();
        assert!(told.contains("5\u{202f}000") && told.contains(ABSENT), "{told}");
        for (name, is_there) in [
            ("calls under way", true),
            ("not yet durable, kB", true),
            ("append lanes, kB", true),
            ("calls in the mailbox", false),
            ("bulk lanes, kB", false),
        ] {
            assert_eq!(told.contains(&format!(">{name}<")), is_there, "{name}: {told}");
        }
        assert_eq!(section(&events[3..]).into_string(), "");
    }

    #[test]
    fn nodes_beyond_the_limit_are_counted() {
        let calls = |node| Queues { calls: Some(node), ..Queues::default() };
        let events: Vec<Event> = (1..=40).map(|node| usage(node, calls(node))).collect();
        let told = section(&events).into_string();
        assert!(told.contains("and 8 more nodes") && told.contains("n32<"), "{told}");
        assert!(!told.contains("n33<"), "{told}");
    }
}
