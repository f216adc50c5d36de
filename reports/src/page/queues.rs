//! How much waited in each node at most, where nodes said what they use.
//!
//! Lays out. Invariants: what a node never told is absent, not 0; the table has a limit, and what
//! is left out is counted.

use crate::event::{Event, What};
use crate::figures::{ABSENT, count, plural};
use maud::{Markup, html};
use std::collections::BTreeMap;

/// One for each of [`QUEUES`].
type Depths = [Option<u64>; 3];

/// The section; nothing where no node told of a queue.
pub(super) fn section(events: &[Event]) -> Markup {
    let nodes = largest(events);
    if nodes.is_empty() {
        return html! {};
    }
    let more = nodes.len().saturating_sub(NODES_MAX) as u64;
    html! {
        section id="queues" {
            h2 { "Queues" }
            p class="note" {
                "The most that waited in each node, over all samples that it told. What came \
                 and went between two samples is not seen."
            }
            div class="wide" { table class="figures" {
                thead { tr {
                    th { "node" }
                    @for name in QUEUES { th class="n" { (name) } }
                } }
                tbody { @for (node, depths) in nodes.iter().take(NODES_MAX) { tr {
                    th { (format!("n{node}")) }
                    @for depth in depths {
                        td class="n" { (depth.map_or(ABSENT.to_owned(), count)) }
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
        let What::Usage { calls, storage_backlog_kb, held_messages, .. } = event.what else {
            continue;
        };
        let depths = [calls, storage_backlog_kb, held_messages];
        if depths.iter().all(Option::is_none) {
            continue;
        }
        let kept = nodes.entry(event.node).or_default();
        for (kept, depth) in kept.iter_mut().zip(depths) {
            *kept = (*kept).max(depth);
        }
    }
    nodes
}

const QUEUES: [&str; 3] = ["calls under way", "not yet durable, kB", "messages held back"];
const NODES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(node: u64, [calls, storage_backlog_kb, held_messages]: Depths) -> Event {
        let what = What::Usage {
            resident_kb: 1,
            log_kb: 0,
            cpu_ms: 0,
            calls,
            storage_backlog_kb,
            held_messages,
        };
        Event { at_ns: 1, node, what }
    }

    #[test]
    fn the_largest_depth_of_each_queue_is_told_and_what_is_unknown_is_not_0() {
        let events = [
            usage(2, [Some(3), Some(0), None]),
            usage(2, [Some(1), Some(5_000), None]),
            usage(3, [None; 3]),
        ];
        let nodes = largest(&events);
        assert_eq!(nodes, BTreeMap::from([(2, [Some(3), Some(5_000), None])]));
        let told = section(&events).into_string();
        assert!(told.contains("5\u{202f}000") && told.contains(ABSENT), "{told}");
        assert_eq!(section(&events[2..]).into_string(), "");
    }

    #[test]
    fn nodes_beyond_the_limit_are_counted() {
        let events: Vec<Event> = (1..=40).map(|node| usage(node, [Some(node); 3])).collect();
        let told = section(&events).into_string();
        assert!(told.contains("and 8 more nodes") && told.contains("n32<"), "{told}");
        assert!(!told.contains("n33<"), "{told}");
    }
}
