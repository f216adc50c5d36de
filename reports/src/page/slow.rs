//! The slowest operations, and what the cluster was doing then.
//!
//! Lays out. Invariant: bounded, however many there were.

use super::meanwhile::Meanwhile;
use crate::event::{Event, What};
use crate::figures::{ms, plural};
use crate::lanes::{self, lanes};
use crate::sample::Sample;
use crate::seen::Seen;
use crate::slowest::Slow;
use maud::{Markup, html};

/// The section; nothing where there were no operations.
pub(super) fn section(seen: &Seen<'_>) -> Markup {
    let slowest = seen.recorder.slowest();
    let answered = slowest.answered(ANSWERED_MAX);
    let (open, more) = slowest.open(OPEN_MAX);
    if answered.is_empty() && open.is_empty() {
        return html! {};
    }
    let lanes = lanes(seen.record, seen.events.kept(), seen.end_ms());
    let faults = lanes::faults(seen.record);
    // Chatter is nothing that an operation waits for.
    let is_told = |event: &&Event| !matches!(event.what, What::Usage { .. } | What::Note { .. });
    let mut events: Vec<&Event> = seen.events.kept().iter().filter(is_told).collect();
    events.sort_by_key(|event| event.at_ns);
    let meanwhile = Meanwhile { lanes: &lanes, faults: &faults, events: &events };
    html! {
        section id="slowest" {
            h2 { "Slowest operations" }
            p class="note" {
                "One for each half second and its neighbours. Distances are from the moment at \
                 which the operation was due."
            }
            table class="slow" {
                thead { tr {
                    th class="n" { "latency" } th class="n" { "due at" } th { "operation" }
                    th { "what the cluster was doing" }
                } }
                tbody {
                    @for slow in &answered { (row(slow, &meanwhile)) }
                    @for slow in &open { (row(slow, &meanwhile)) }
                }
            }
            @if more > 0 {
                p class="note" {
                    (plural(more as u64, "more stretch")) "es of time had operations that nobody \
                     answered."
                }
            }
        }
    }
}

fn row(slow: &Slow, meanwhile: &Meanwhile<'_>) -> Markup {
    let sample = &slow.sample;
    let due_ms = lanes::ms(sample.intended_ns);
    let until_ms = sample.completed_ns.map_or(due_ms + OPEN_MS, lanes::ms);
    let (happenings, more) = meanwhile.told(due_ms, until_ms);
    html! {
        tr {
            td class="n" {
                @match sample.latency_ns() {
                    Some(ns) => strong { (ms(lanes::ms(ns))) },
                    None => strong class="t-unknown" { "no answer" },
                }
            }
            td class="n" { (format!("{:.3} s", due_ms / 1e3)) }
            td { (operation(slow)) }
            td {
                (meanwhile.led(due_ms))
                @if happenings.is_empty() {
                    ", and nothing was noted"
                } @else {
                    ul class="happenings" {
                        @for happening in &happenings {
                            li { b { (happening.offset()) } " " (happening.words) }
                        }
                        @if more > 0 { li { b {} " and " (more) " more" } }
                    }
                }
            }
        }
    }
}

fn operation(slow: &Slow) -> Markup {
    let Slow { sample, count } = slow;
    let Sample { kind, key, client, id, node, .. } = sample;
    html! {
        (kind.as_str()) " of key " (key)
        br;
        small {
            "client " (client)
            @if let Some(node) = node { " at node " (node) }
            ", id " (id)
            @if *count > 1 { ", and " (plural(count - 1, "other")) }
        }
    }
}

const ANSWERED_MAX: usize = 12;
const OPEN_MAX: usize = 6;
/// How far after an operation that nobody answered to look.
const OPEN_MS: f64 = 1_000.0;
