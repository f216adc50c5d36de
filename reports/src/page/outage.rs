//! What a run is about as a distribution: outages, each split into its parts, or how long groups
//! took to form.
//!
//! Lays out. Invariants: every trial is counted; of too many, the slowest are drawn one by one;
//! where there is none, it is said why.

use super::chart::{Swatch, WIDTH, legend, percent};
use super::distribution::{HEADROOM, TRIALS, distribution};
use crate::absence;
use crate::figures::{ms, plural};
use crate::lanes::FORMING;
use crate::plot::{Ink, Scale};
use crate::record::{RunRecord, Trial};
use crate::seen::Seen;
use maud::{Markup, html};
use std::collections::BTreeMap;

/// The section; nothing where a run is about something else.
pub(super) fn section(seen: &Seen<'_>) -> Markup {
    let record = seen.record;
    match absence::of_outages(record) {
        None => outages(record, seen.timeouts),
        Some(_) if !record.catch_ups.is_empty() => html! {},
        Some(why) => html! {
            (forming(record))
            section id="no-outage" {
                h2 { "Outage" }
                p class="note" { (why) }
            }
        },
    }
}

/// How long groups took; nothing where none was to form.
fn forming(record: &RunRecord) -> Markup {
    let forming: Vec<f64> = record
        .marks
        .iter()
        .filter(|mark| mark.kind == FORMING)
        .filter_map(|mark| Some(mark.until_ms? - mark.at_ms))
        .filter(|ms| ms.is_finite() && *ms >= 0.0)
        .collect();
    if let Some(why) = absence::of_forming(record) {
        return html! {
            section id="forming" {
                h2 { "Forming" }
                p class="note" { (why) }
            }
        };
    }
    if forming.is_empty() {
        return html! {};
    }
    let high_ms = forming.iter().copied().fold(1.0, f64::max);
    let x = Scale::linear(0.0, high_ms * HEADROOM, 0.0, WIDTH);
    let groups = BTreeMap::from([("forming", forming)]);
    html! {
        section id="forming" {
            h2 { "Forming" }
            figure class="charts" { (distribution(&groups, &x, ("groups", FORMED))) }
        }
    }
}

fn outages(record: &RunRecord, timeouts: Option<&str>) -> Markup {
    let mut measured: Vec<(f64, &Trial)> =
        record.trials.iter().filter_map(|trial| Some((trial.measured_ms()?, trial))).collect();
    measured.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut by_fault: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (ms, trial) in &measured {
        by_fault.entry(trial.fault.as_str()).or_default().push(*ms);
    }
    let drawn = &measured[measured.len().saturating_sub(BARS_MAX)..];
    let high_ms = drawn.iter().map(|(ms, trial)| ms.max(trial.split_ms())).fold(1.0, f64::max);
    let x = Scale::linear(0.0, high_ms * HEADROOM, 0.0, WIDTH);
    let unmeasured = (record.trials.len() - measured.len()) as u64;
    html! {
        section id="outage" {
            h2 { "Outage" }
            p class="note" {
                "How long clients could not write: "
                @if record.has_present_outages() {
                    "from the fault until 85 % of what is due is answered in good time again, \
                     within 100 ms as a rule, and is so for half a second. What had piled up \
                     counts for when it was due. Faults that strike before that have one outage \
                     together."
                } @else {
                    "by the rule of schema_version 1, so not to be compared with newer runs."
                }
                @if unmeasured > 0 {
                    " " strong { (plural(unmeasured, "trial")) " without a measured outage." }
                }
            }
            @if let Some(timeouts) = timeouts {
                p class="note" { "Behind it stand the " (timeouts) "." }
            }
            figure class="charts" {
                (distribution(&by_fault, &x, (TRIALS, "milliseconds from the fault")))
                (bars(drawn, measured.len(), &x))
            }
        }
    }
}

/// One bar for each trial, fastest first, split where the parts are known.
fn bars(drawn: &[(f64, &Trial)], measured: usize, x: &Scale) -> Markup {
    let is_split = |(outage_ms, trial): &(f64, &Trial)| trial.split_ms() + 0.5 >= *outage_ms;
    let occurs = |part: usize| drawn.iter().any(|(_, trial)| trial.parts()[part].is_some());
    let mut entries: Vec<(Swatch, String)> = PARTS
        .iter()
        .enumerate()
        .filter(|(part, _)| occurs(*part))
        .map(|(_, (word, ink))| (Swatch::Band(*ink), (*word).to_owned()))
        .collect();
    if !drawn.iter().all(is_split) {
        entries.push((Swatch::Band(Ink::Stall), "not split".to_owned()));
    }
    html! {
        h3 {
            @if drawn.len() < measured {
                "The slowest " (drawn.len()) " of " (measured) " trials, by the node hit"
            } @else {
                "Each trial by the node hit, fastest first"
            }
        }
        (legend(&entries))
        div class=(if drawn.len() > THICK_MAX { "bars slim" } else { "bars" }) {
            @for (outage_ms, trial) in drawn { (bar(*outage_ms, trial, x)) }
        }
    }
}

fn bar(outage_ms: f64, trial: &Trial, x: &Scale) -> Markup {
    let mut from_ms = 0.0;
    let mut parts = Vec::new();
    for ((word, ink), part_ms) in PARTS.iter().zip(trial.parts()) {
        let part_ms = part_ms.filter(|ms| ms.is_finite() && *ms > 0.0).unwrap_or(0.0);
        if part_ms > 0.0 {
            parts.push((*word, ink.class(), from_ms, part_ms));
        }
        from_ms += part_ms;
    }
    // Half a millisecond is rounding, more is a part that was not measured.
    if from_ms + 0.5 < outage_ms {
        parts.push(("not split", Ink::Stall.class(), from_ms, outage_ms - from_ms));
    }
    let left = |ms: f64| percent(x.at(ms), WIDTH);
    let more = if trial.nodes.len() > 1 { "+" } else { "" };
    html! {
        div class="bar" {
            b { "n" (trial.node) (more) }
            div {
                @for (word, class, from_ms, part_ms) in parts {
                    i class=(format!("b-{class}")) title=(format!("{word} {}", ms(part_ms)))
                        style=(format!("left:{}%;width:{}%", left(from_ms), left(part_ms))) {}
                }
                span style=(format!("left:{}%", left(outage_ms.max(from_ms)))) { (ms(outage_ms)) }
            }
        }
    }
}

const PARTS: [(&str, Ink); 4] = [
    ("detect", Ink::Detect),
    ("elect", Ink::Elect),
    ("commit", Ink::Commit),
    ("client", Ink::Client),
];
const FORMED: &str =
    "milliseconds from the start of the first node to a leader that all follow, with all bonds";
const BARS_MAX: usize = 40;
/// Up to so many bars have their words beside them.
const THICK_MAX: usize = 24;
