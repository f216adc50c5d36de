//! Distributions in numbers and as cumulative curves, several on one scale.
//!
//! Lays out. Knows nothing of what was measured but its names, which also give the colours, and
//! that there is something.

use super::chart::{Panel, WIDTH, x_axis};
use super::timeline::TICKS_MAX;
use crate::figures::{ABSENT, ms};
use crate::lanes::FORMING;
use crate::plot::{Ink, Scale};
use crate::table::ALL;
use crate::{P99_SAMPLES_MIN, Summary};
use maud::{Markup, html};
use std::collections::BTreeMap;

/// What is distributed, where it is what faults cost.
pub(super) const TRIALS: &str = "trials";

/// A distribution in numbers and as a curve.
pub(super) fn distribution(
    groups: &BTreeMap<&str, Vec<f64>>,
    x: &Scale,
    (what, caption): (&str, &str),
) -> Markup {
    html! {
        div class="chart" {
            (figures(groups, what))
            (curves(groups, x, &format!("{what} over by then")).markup())
            (x_axis(x, TICKS_MAX, caption))
        }
    }
}

/// The distributions in numbers, a row for each, and of several kinds of trials one for all.
fn figures(groups: &BTreeMap<&str, Vec<f64>>, what: &str) -> Markup {
    let rows: Vec<(&str, Summary)> = groups
        .iter()
        .filter_map(|(name, samples)| Some((*name, Summary::from_samples(samples)?)))
        .collect();
    let together = (what == TRIALS && groups.len() > 1).then(|| {
        let all: Vec<f64> = groups.values().flatten().copied().collect();
        Some((ALL, Summary::from_samples(&all)?))
    });
    let rows: Vec<_> = rows.into_iter().chain(together.flatten()).collect();
    let has_p99 = rows.iter().any(|(_, summary)| summary.count >= P99_SAMPLES_MIN);
    html! {
        table class="figures" {
            thead { tr {
                th {} th class="n" { (what) } th class="n" { "min" } th class="n" { "p50" }
                th class="n" { "p90" }
                @if has_p99 { th class="n" { "p99" } }
                th class="n" { "max" } th class="n" { "mean" }
            } }
            tbody { @for (name, summary) in rows { tr {
                th {
                    @if name != ALL { i class=(format!("dot b-{}", ink(name).class())) {} }
                    (name)
                }
                td class="n" { (summary.count) }
                td class="n" { (ms(summary.min)) }
                td class="n" { (ms(summary.p50)) }
                td class="n" { (ms(summary.p90)) }
                @if has_p99 { td class="n" { (summary.p99.map_or(ABSENT.to_owned(), ms)) } }
                td class="n" { (ms(summary.max)) }
                td class="n" { (ms(summary.mean)) }
            } } }
        }
    }
}

/// One cumulative curve for each; p50, p90 and the slowest named on the first.
fn curves(groups: &BTreeMap<&str, Vec<f64>>, x: &Scale, about: &str) -> Panel {
    let mut panel = Panel::new(CURVES_HEIGHT, about);
    panel.x_grid(x, TICKS_MAX);
    let y = Scale::linear(0.0, 100.0, CURVES_HEIGHT, CURVES_TOP);
    panel.y_axis(&y, 5, "%");
    panel.floor();
    for (number, (name, samples)) in groups.iter().enumerate() {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let share = |rank: usize| rank as f64 / sorted.len() as f64 * 100.0;
        let mut steps = vec![(0.0, CURVES_HEIGHT)];
        for (rank, ms) in sorted.iter().enumerate() {
            steps.push((x.at(*ms), y.at(share(rank))));
            steps.push((x.at(*ms), y.at(share(rank + 1))));
        }
        let class = ink(name).class();
        panel.line(&steps, &format!("curve s-{class}"));
        let dots = sorted.iter().enumerate().map(|(rank, ms)| (x.at(*ms), y.at(share(rank + 1))));
        let size = if sorted.len() > 100 { "large" } else { "huge" };
        panel.dots(dots, &format!("{size} s-{class}"));
        if number == 0 {
            name_quantiles(&mut panel, x, &y, &sorted);
        }
    }
    panel
}

fn name_quantiles(panel: &mut Panel, x: &Scale, y: &Scale, sorted: &[f64]) {
    let Some(summary) = Summary::from_samples(sorted) else { return };
    for (names, value, share) in summary.landmarks() {
        let at = (x.at(value), y.at(share));
        // To the right of the curve there is room below it, at its end there is none.
        let side = if at.0 < WIDTH * 0.8 { "right" } else { "left" };
        panel.word(at, format!("{names} {}", ms(value)), side);
    }
}

/// The colour of a fault; what is no fault has that of a success, or of a step towards it.
fn ink(name: &str) -> Ink {
    match name {
        FORMING | "promote" => Ink::Ok,
        "join" => Ink::Elect,
        "evict" => Ink::Kill,
        fault => Ink::of_fault(fault),
    }
}

/// Room to the right for the labels of the slowest.
pub(super) const HEADROOM: f64 = 1.12;
const CURVES_HEIGHT: f64 = 200.0;
/// Room for the dot of the slowest.
const CURVES_TOP: f64 = 6.0;
