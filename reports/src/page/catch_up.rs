//! How long followers took to catch up, by the size of their chunks, and from whom they fetched.
//!
//! Lays out. Invariant: every trial is counted and drawn; progress is that of the trial in the
//! middle, so that neither the luckiest nor the unluckiest one stands for all.

use super::chart::{Panel, Swatch, WIDTH, legend, x_axis};
use super::timeline::TICKS_MAX;
use crate::absence;
use crate::catch_up::{CatchUp, Compared, OfSize, compared, tail};
use crate::figures::{ABSENT, count, digits, ms};
use crate::plot::{Ink, Scale};
use crate::record::RunRecord;
use maud::{Markup, html};

/// The section; nothing where nobody had to catch up.
pub(super) fn section(record: &RunRecord) -> Markup {
    if record.catch_ups.is_empty() {
        return html! {};
    }
    let compared = compared(record);
    html! {
        section id="catch-up" {
            h2 { "Catching up" }
            p class="note" { (what(record)) }
            @if let Some(verdict) = &compared.verdict { p { (verdict) } }
            div class="wide" { (table(&compared)) }
            p class="note" { (COLUMNS) }
            @match absence::of_catch_ups(record) {
                Some(why) => { p class="note" { (why) } }
                None => {
                    figure class="charts" { (strips(&compared)) }
                    (progress(&compared))
                }
            }
        }
    }
}

/// From when until when is counted, in words.
fn what(record: &RunRecord) -> String {
    let returned = record.catch_ups.iter().filter(|caught| caught.since == "return").count();
    let exception = match returned {
        0 => String::new(),
        all if all == record.catch_ups.len() => {
            " Here it had never lost all of its bonds: time counts from its return.".to_owned()
        }
        some => format!(" In {some} trials it had never lost all: there, from its return."),
    };
    format!(
        "A follower was away while the group went on. Time counts from its first bond after its \
         return until it had applied what was committed at that moment; each trial has a fresh \
         group, and the sizes take turns.{exception}"
    )
}

fn table(compared: &Compared<'_>) -> Markup {
    html! {
        table class="figures" {
            thead { tr {
                th { "entries in a chunk" }
                th class="n" { "trials" } th class="n" { "p50" } th class="n" { "min" }
                th class="n" { "max" } th class="n" { "entries/s" } th class="n" { "MB/s" }
                th class="n" { "peers" } th class="n" { "really in a chunk" }
                th class="n" { "new terms" } th class="n" { "commits before" }
                th class="n" { "commits meanwhile" }
            } }
            tbody { @for of in &compared.sizes { (row(of, compared.best == Some(of.batch_size))) } }
        }
    }
}

fn row(of: &OfSize<'_>, is_best: bool) -> Markup {
    let (done, all) = (of.took_ms.len(), of.trials.len());
    let trials = if done == all { all.to_string() } else { format!("{done} of {all}") };
    let took = of.took.as_ref().map(|took| [took.p50, took.min, took.max]);
    let optional = |value: Option<f64>| value.map_or(ABSENT.to_owned(), digits);
    let tail = |summary| tail(summary).unwrap_or_else(|| ABSENT.to_owned());
    html! {
        tr {
            th { @if is_best { strong { (count(of.batch_size)) } } @else { (count(of.batch_size)) } }
            td class="n" { (trials) }
            @match took {
                Some(figures) => { @for figure in figures { td class="n" { (ms(figure)) } } }
                None => { @for _ in 0..3 { td class="n" { (ABSENT) } } }
            }
            td class="n" { (optional(of.entries_per_s)) }
            td class="n" { (optional(of.mb_per_s)) }
            td class="n" { (of.peers()) }
            td class="n" { (optional(of.entries_per_chunk())) }
            td class="n" { (of.terms()) }
            td class="n" { (tail(of.before)) }
            td class="n" { (tail(of.during)) }
        }
    }
}

/// Each trial as a dot, a row for each size; behind it the middle half, and the median.
fn strips(compared: &Compared<'_>) -> Markup {
    let sizes = &compared.sizes;
    let high_ms = sizes.iter().flat_map(|of| &of.took_ms).copied().fold(1.0, f64::max);
    let x = Scale::linear(0.0, high_ms * HEADROOM, 0.0, WIDTH);
    let mut panel = Panel::new(ROW * sizes.len() as f64, "each trial's time, by batch size");
    panel.x_grid(&x, TICKS_MAX);
    for (place, of) in sizes.iter().enumerate() {
        let y = ROW * (place as f64 + 0.5);
        panel.y_word(y, count(of.batch_size));
        let is_best = compared.best == Some(of.batch_size);
        if let Some((low, high)) = of.quartiles_ms() {
            let class = if is_best { "f-ok box" } else { "f-stall box" };
            let title = format!("half of the trials: {} to {}", ms(low), ms(high));
            let span = (x.at(low), x.at(high).max(x.at(low) + 2.0));
            panel.rectangle(span, (y - 9.0, y + 9.0), class, Some(&title));
        }
        let class = if is_best { "s-ok" } else { "s-stall" };
        panel.dots(of.took_ms.iter().map(|ms| (x.at(*ms), y)), &format!("huge {class}"));
        if let Some(words) = of.without_end() {
            panel.word((0.0, y), words, "right");
        }
        if let Some(took) = &of.took {
            let at = x.at(took.p50);
            panel.line(&[(at, y - 12.0), (at, y + 12.0)], "curve s-text");
            let end = (x.at(took.max), y);
            panel.word(end, format!("p50 {}", ms(took.p50)), "right");
        }
    }
    panel.floor();
    html! {
        div class="chart" {
            (panel.markup())
            (x_axis(&x, TICKS_MAX, "milliseconds until a follower had caught up, by batch size"))
        }
    }
}

/// Of the middle trial of each size, how much had come from whom by when, on common scales.
fn progress(compared: &Compared<'_>) -> Markup {
    let shown: Vec<(&OfSize<'_>, &CatchUp)> = compared
        .sizes
        .iter()
        .filter_map(|of| Some((of, of.middle()?)))
        .filter(|(_, caught)| !caught.curves().is_empty())
        .collect();
    if shown.is_empty() {
        let why = match compared.sizes.iter().any(OfSize::was_fetched) {
            true => "In the middle trial of each size nothing was fetched in bulk.",
            false => {
                "Nothing was fetched in bulk: what was missed came from the leader, or from a \
                 snapshot, and was too little to be asked of others."
            }
        };
        return html! { p class="note" { (why) } };
    }
    let curves = || shown.iter().flat_map(|(_, caught)| caught.curves());
    let all = || curves().flat_map(|(_, points)| points);
    let (high_ms, most) =
        all().fold((1.0, 1.0), |(x, y): (f64, f64), at| (x.max(at.0), y.max(at.1)));
    let took = shown.iter().filter_map(|(_, caught)| caught.catch_up_ms);
    let high_ms = took.filter(|ms| ms.is_finite()).fold(high_ms, f64::max);
    let mut nodes: Vec<u64> = curves().map(|(node, _)| node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let swatches: Vec<(Swatch, String)> = nodes
        .iter()
        .map(|node| (Swatch::Line(Ink::of_node(*node)), format!("from node {node}")))
        .collect();
    let x = Scale::linear(0.0, high_ms, 0.0, WIDTH);
    html! {
        h3 { "Entries fetched, by whom they came from" }
        p class="note" { "Of each size the trial in the middle." }
        figure class="charts" {
            (legend(&swatches))
            @for (of, caught) in &shown { (fetched(of, caught, &x, most)) }
            (x_axis(&x, TICKS_MAX, "milliseconds since the follower's time began"))
        }
    }
}

fn fetched(of: &OfSize<'_>, caught: &CatchUp, x: &Scale, most: f64) -> Markup {
    let size = count(of.batch_size);
    let mut panel =
        Panel::new(CURVES_HEIGHT, format!("entries fetched from each node, batch size {size}"));
    panel.x_grid(x, TICKS_MAX);
    let y = Scale::linear(0.0, most, CURVES_HEIGHT, CURVES_TOP);
    panel.y_axis(&y, 3, "");
    panel.floor();
    for (node, points) in caught.curves() {
        let points: Vec<(f64, f64)> = points.iter().map(|(ms, n)| (x.at(*ms), y.at(*n))).collect();
        panel.line(&points, &format!("curve s-{}", Ink::of_node(node).class()));
    }
    if let Some(took) = caught.catch_up_ms.filter(|ms| ms.is_finite()) {
        let at = x.at(took);
        panel.line(&[(at, 0.0), (at, CURVES_HEIGHT)], "curve s-muted");
    }
    html! {
        p class="caption" { "chunks of " (size) " entries, trial " (caught.trial) }
        div class="chart" { (panel.markup()) }
    }
}

/// What stands in the columns of the table.
const COLUMNS: &str = "\
    p50, min and max are of the trials that came to their end. Entries/s and MB/s are medians: \
    what a follower lacked over the time that it took, in entries, and in millions of bytes of \
    their commands. Peers: how many others it fetched from in bulk. Really in a chunk: entries in \
    a chunk as they came, on average, since a chunk has a limit in bytes as well. New terms are \
    those of all trials. Commits: how long acknowledged writes took, before the fault and while \
    the follower caught up.";
/// Room to the right for the words.
const HEADROOM: f64 = 1.18;
const ROW: f64 = 34.0;
const CURVES_HEIGHT: f64 = 90.0;
const CURVES_TOP: f64 = 4.0;
