//! Latency by percentile: a table, and a curve on which the rare and slow has as much room as the
//! usual.
//!
//! Lays out. Invariant: no percentile is drawn or quoted that fewer than three samples lie beyond,
//! and no p99 below 300 samples.

use super::chart::{Panel, Swatch, WIDTH, legend, x_labels};
use crate::figures::{ABSENT, count, ms};
use crate::plot::{Ink, Scale};
use crate::seen::Seen;
use crate::{Kind, P99_SAMPLES_MIN, Recorder, Summary};
use hdrhistogram::Histogram;
use maud::{Markup, html};
use std::f64::consts::LOG10_2;

/// The section; nothing where no operation succeeded.
pub(super) fn section(seen: &Seen<'_>) -> Markup {
    let all = seen.recorder.histogram(None);
    if all.is_empty() {
        return html! {};
    }
    let kinds = KINDS.map(|(kind, ink, word)| (seen.recorder.histogram(kind), ink, word));
    let nines = nines(all.len());
    html! {
        section id="percentiles" {
            h2 { "Latency by percentile" }
            p class="note" {
                "Of operations that were answered ok, from the moment at which each was due."
            }
            figure class="charts" {
                (table(seen.recorder))
                div class="chart" {
                    (legend(&entries(&kinds)))
                    (curves(&kinds, nines).markup())
                    (x_labels(labels(nines), "percentile"))
                }
            }
        }
    }
}

fn table(recorder: &Recorder) -> Markup {
    let rows: Vec<(&str, Summary)> = KINDS
        .iter()
        .filter_map(|(kind, _, word)| {
            let summary = Summary::from_histogram(&recorder.histogram(*kind), US_PER_MS)?;
            Some((*word, summary))
        })
        .collect();
    let p99 = |summary: &Summary| {
        let p99 = summary.p99.filter(|_| summary.count >= P99_SAMPLES_MIN);
        p99.map_or(ABSENT.to_owned(), ms)
    };
    html! {
        table class="figures" {
            thead { tr {
                th {} th class="n" { "operations" } th class="n" { "min" } th class="n" { "p50" }
                th class="n" { "p90" } th class="n" { "p99" } th class="n" { "max" }
                th class="n" { "mean" }
            } }
            tbody { @for (word, summary) in rows { tr {
                th { (word) }
                td class="n" { (count(summary.count)) }
                td class="n" { (ms(summary.min)) }
                td class="n" { (ms(summary.p50)) }
                td class="n" { (ms(summary.p90)) }
                td class="n" { (p99(&summary)) }
                td class="n" { (ms(summary.max)) }
                td class="n" { (ms(summary.mean)) }
            } } }
        }
    }
}

fn entries(kinds: &[(Histogram<u64>, Ink, &str)]) -> Vec<(Swatch, String)> {
    let some = kinds.iter().filter(|(histogram, ..)| !histogram.is_empty());
    some.map(|(_, ink, word)| (Swatch::Line(*ink), (*word).to_owned())).collect()
}

fn curves(kinds: &[(Histogram<u64>, Ink, &str)], nines: f64) -> Panel {
    let mut panel = Panel::new(HEIGHT, "latency by percentile");
    for (x, _) in labels(nines) {
        panel.line(&[(x, 0.0), (x, HEIGHT)], "grid");
    }
    let filled = || kinds.iter().filter(|(histogram, ..)| !histogram.is_empty());
    let low = filled().map(|(histogram, ..)| histogram.min()).min().unwrap_or(1).max(1);
    let high = filled().map(|(histogram, ..)| histogram.max()).max().unwrap_or(1);
    let y = Scale::logarithmic(low as f64 / US_PER_MS, high as f64 / US_PER_MS * 1.2, HEIGHT, 0.0);
    panel.y_axis(&y, 0, "ms");
    // What is about everything is drawn last, on top.
    for (histogram, ink, _) in filled().rev() {
        let own = self::nines(histogram.len());
        let points: Vec<(f64, f64)> = (0..=STEPS)
            .map(|step| own * f64::from(step) / f64::from(STEPS))
            .map(|nines_at| {
                let quantile = 1.0 - 10_f64.powf(-nines_at);
                let us = histogram.value_at_quantile(quantile);
                (nines_at / nines * WIDTH, y.at(us as f64 / US_PER_MS))
            })
            .collect();
        panel.line(&points, &format!("quantile s-{}", ink.class()));
    }
    panel.floor();
    panel
}

/// How far out a distribution is told: 2 is p99, 3 is p99.9. Three samples must lie beyond.
fn nines(count: u64) -> f64 {
    (count as f64 / SAMPLES_BEYOND_MIN).log10().clamp(LOG10_2, 6.0)
}

/// The percentiles that are named.
fn labels(nines: f64) -> Vec<(f64, String)> {
    let named = [0.0, 50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999];
    let place = |percent: f64| -(1.0 - percent / 100.0).log10();
    named
        .into_iter()
        .filter(|percent| place(*percent) <= nines + 1e-9)
        .map(|percent| (place(percent) / nines * WIDTH, percent.to_string()))
        .collect()
}

const KINDS: [(Option<Kind>, Ink, &str); 4] = [
    (None, Ink::Text, "all"),
    (Some(Kind::Read), Ink::Commit, "read"),
    (Some(Kind::Write), Ink::Ok, "write"),
    (Some(Kind::Cas), Ink::Client, "cas"),
];
const SAMPLES_BEYOND_MIN: f64 = 3.0;
const STEPS: u32 = 200;
const HEIGHT: f64 = 200.0;
const US_PER_MS: f64 = 1_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_percentile_is_named_that_the_samples_do_not_carry() {
        let last = |count| labels(nines(count)).pop().unwrap();
        assert_eq!(last(299).1, "90", "two or three samples are no p99");
        assert_eq!((last(300).0.round(), last(300).1.as_str()), (WIDTH, "99"));
        assert_eq!(last(600_000).1, "99.999");
        assert_eq!(last(1).1, "50");
        assert!(labels(nines(3_000)).windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
