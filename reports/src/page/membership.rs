//! How long nodes took to be members no longer, and to be members again, as distributions.
//!
//! Lays out. Invariant: every time that was measured is counted.

use super::chart::WIDTH;
use super::distribution::{HEADROOM, distribution};
use crate::plot::Scale;
use crate::record::{Lapse, RunRecord};
use maud::{Markup, html};
use std::collections::BTreeMap;

type Time = (&'static str, fn(&Lapse) -> Option<f64>);

/// The section; nothing where everybody stayed a member.
pub(super) fn section(record: &RunRecord) -> Markup {
    if record.lapses.is_empty() {
        return html! {};
    }
    let gone = measured(record, GONE);
    let back = measured(record, BACK);
    html! {
        section id="membership" {
            h2 { "Membership" }
            p class="note" {
                "How long it took until a node was a member no longer, by its own wish or since \
                 it was silent, and from its return until it was one again: until it learned, and \
                 until it voted."
            }
            figure class="charts" {
                @if !gone.is_empty() { (chart(&gone, "milliseconds from the fault")) }
                @if !back.is_empty() { (chart(&back, "milliseconds from the node's return")) }
            }
        }
    }
}

fn measured(record: &RunRecord, times: [Time; 2]) -> BTreeMap<&'static str, Vec<f64>> {
    let of = |(name, time): Time| {
        let times = record.lapses.iter().filter_map(time);
        let times: Vec<f64> = times.filter(|ms| ms.is_finite() && *ms >= 0.0).collect();
        (!times.is_empty()).then_some((name, times))
    };
    times.into_iter().filter_map(of).collect()
}

fn chart(groups: &BTreeMap<&str, Vec<f64>>, caption: &str) -> Markup {
    let high_ms = groups.values().flatten().copied().fold(1.0, f64::max);
    let x = Scale::linear(0.0, high_ms * HEADROOM, 0.0, WIDTH);
    distribution(groups, &x, ("nodes", caption))
}

const GONE: [Time; 2] = [("leave", |lapse| lapse.leave_ms), ("evict", |lapse| lapse.evict_ms)];
const BACK: [Time; 2] = [("join", |lapse| lapse.join_ms), ("promote", |lapse| lapse.promote_ms)];
