//! Latency by percentile: a table, and a curve on which the rare and slow has as much room as the
//! usual.
//!
//! Lays out. Invariant: no percentile is drawn or quoted that fewer than three samples lie beyond,
//! and no p99 below 300 samples.

use super::chart::{Panel, Swatch, WIDTH, legend, x_labels};
use crate::figures::{ABSENT, NOT_ANSWERED, Quantiles, count, ms};
use crate::plot::{Ink, Scale};
use crate::seen::Seen;
use crate::{Kind, Offered, P99_SAMPLES_MIN, Recorder, Summary};
use hdrhistogram::Histogram;
use maud::{Markup, html};
use std::f64::consts::LOG10_2;

/// What is told of one kind of operation, or of all.
struct Told {
    word: &'static str,
    ink: Ink,
    /// Of those that were answered ok.
    histogram: Histogram<u64>,
    summary: Summary,
    /// How many were due.
    offered: u64,
}

/// The section; nothing where no operation succeeded.
pub(super) fn section(seen: &Seen<'_>) -> Markup {
    let told: Vec<Told> = KINDS.iter().filter_map(|kind| told(seen.recorder, kind)).collect();
    let Some(all) = told.first() else { return html! {} };
    let nines = nines(all.offered);
    html! {
        section id="percentiles" {
            h2 { "Latency by percentile" }
            p class="note" {
                "From the moment at which each operation was due."
                @if let Some(offered) = all.summary.lacking() {
                    " " strong { (offered.words()) ", of " (count(offered.count)) " due." }
                    " These have no latency: the rows named ok are of the others alone, and the \
                     curves, which are of all that were due, end where the answers do."
                } @else {
                    " All were answered ok."
                }
            }
            figure class="charts" {
                (table(&told))
                div class="chart" {
                    (legend(&entries(&told)))
                    (curves(&told, nines).markup())
                    (x_labels(labels(nines), "percentile of all that were due"))
                }
            }
        }
    }
}

fn told(
    recorder: &Recorder,
    (kind, ink, word): &(Option<Kind>, Ink, &'static str),
) -> Option<Told> {
    let (summary, offered) = (recorder.summary(*kind)?, recorder.offered(*kind));
    Some(Told { word, ink: *ink, histogram: recorder.histogram(*kind), summary, offered })
}

fn table(told: &[Told]) -> Markup {
    html! {
        table class="figures" {
            thead { tr {
                th {} th class="n" { "operations" } th class="n" { "min" } th class="n" { "p50" }
                th class="n" { "p90" } th class="n" { "p99" } th class="n" { "max" }
                th class="n" { "mean" }
            } }
            tbody { @for one in told {
                (of_ok(one.word, &one.summary))
                @if let Some(offered) = one.summary.lacking() { (of_all_due(one, offered)) }
            } }
        }
    }
}

fn of_ok(word: &str, summary: &Summary) -> Markup {
    let p99 = summary.p99.filter(|_| summary.count >= P99_SAMPLES_MIN);
    let ok = if summary.lacking().is_some() { ", ok" } else { "" };
    html! {
        tr {
            th { (word) (ok) }
            td class="n" { (count(summary.count)) }
            td class="n" { (ms(summary.min)) }
            td class="n" { (ms(summary.p50)) }
            td class="n" { (ms(summary.p90)) }
            td class="n" { (p99.map_or(ABSENT.to_owned(), ms)) }
            td class="n" { (ms(summary.max)) }
            td class="n" { (ms(summary.mean)) }
        }
    }
}

fn of_all_due(told: &Told, offered: &Offered) -> Markup {
    let Quantiles { p50, p90, p99 } = Quantiles::of_all_due(&told.summary, ms);
    html! {
        tr {
            th { (told.word) ", due" }
            td class="n" { (count(offered.count)) }
            td class="n" { (ABSENT) }
            td class="n" { (p50) }
            td class="n" { (p90) }
            td class="n" { (p99.as_deref().unwrap_or(ABSENT)) }
            td class="n" { (NOT_ANSWERED) }
            td class="n" { (ABSENT) }
        }
    }
}

fn entries(told: &[Told]) -> Vec<(Swatch, String)> {
    told.iter().map(|told| (Swatch::Line(told.ink), told.word.to_owned())).collect()
}

fn curves(told: &[Told], nines: f64) -> Panel {
    let mut panel = Panel::new(HEIGHT, "latency by percentile");
    for (x, _) in labels(nines) {
        panel.line(&[(x, 0.0), (x, HEIGHT)], "grid");
    }
    let low = told.iter().map(|told| told.histogram.min()).min().unwrap_or(1).max(1);
    let high = told.iter().map(|told| told.histogram.max()).max().unwrap_or(1);
    let y = Scale::logarithmic(low as f64 / US_PER_MS, high as f64 / US_PER_MS * 1.2, HEIGHT, 0.0);
    panel.y_axis(&y, 0, "ms");
    // What is about everything is drawn last, on top.
    for told in told.iter().rev() {
        let points: Vec<(f64, f64)> = curve(&told.histogram, told.offered)
            .map(|(at, us)| (at / nines * WIDTH, y.at(us as f64 / US_PER_MS)))
            .collect();
        panel.line(&points, &format!("quantile s-{}", told.ink.class()));
    }
    panel.floor();
    panel
}

/// Places along the percentiles of so many that were due, as nines, and the latency there in
/// microseconds, as far as there were answers.
fn curve(histogram: &Histogram<u64>, offered: u64) -> impl Iterator<Item = (f64, u64)> {
    let own = nines(offered);
    let steps = (0..=STEPS).map(move |step| own * f64::from(step) / f64::from(STEPS));
    steps.map_while(move |at| {
        let share = 1.0 - 10_f64.powf(-at);
        // Of those that were answered.
        let quantile = share * offered as f64 / histogram.len().max(1) as f64;
        (quantile <= 1.0).then(|| (at, histogram.value_at_quantile(quantile)))
    })
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
    fn a_curve_ends_where_the_answers_do() {
        let mut histogram = Histogram::new_with_bounds(1, 10_000, 3).unwrap();
        (1..=750).for_each(|us| histogram.record(us).unwrap());
        let last = |offered| curve(&histogram, offered).last().unwrap();
        let percent = |at: f64| (1.0 - 10_f64.powf(-at)) * 100.0;
        let (at, us) = last(750);
        assert!(percent(at) > 99.0 && us > 740, "{at} {us}");
        // Of a thousand three quarters were answered: the slowest answer stands at p75.
        let (at, us) = last(1_000);
        assert!((73.0..=75.0).contains(&percent(at)) && us > 730, "{at} {us}");
    }

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
