//! The run over time: latency of every operation, what was offered and answered, and a lane for
//! each node, all above one axis, with the faults as bands.
//!
//! Lays out; what a lane holds is decided in `lanes`. Invariant: however many operations and
//! faults there were, what is drawn is bounded, and the slowest operation is drawn.

use super::chart::{Panel, Swatch, WIDTH, legend, x_axis};
use super::{lane, memory};
use crate::absence;
use crate::figures::{count, ms, plural};
use crate::lanes::{self, Lane, called, hit};
use crate::plot::{self, Ink, Scale, round_up};
use crate::record::{Fault, Trial};
use crate::seen::Seen;
use crate::summary::P99_SAMPLES_MIN;
use crate::{Outcome, Point};
use maud::{Markup, html};
use std::collections::BTreeSet;

/// A stretch of time on the panels, in seconds.
struct Band {
    from_s: f64,
    until_s: f64,
    ink: Ink,
    class: &'static str,
    title: String,
    label: Option<String>,
}

/// The section.
pub(super) fn section(seen: &Seen<'_>) -> Markup {
    // A little more, so that what happened last can be seen.
    let end_ms = seen.end_ms() * 1.005;
    let lanes = lanes::lanes(seen.record, seen.events.kept(), end_ms);
    let bands = bands(seen, end_ms);
    let x = Scale::linear(0.0, end_ms / 1e3, 0.0, WIDTH);
    let no_load = absence::of_load(seen.record, seen.recorder);
    // Of groups that live for a moment it says nothing.
    let memory = match no_load {
        None => memory::panel(seen.events.kept(), &x, end_ms),
        Some(_) => None,
    };
    html! {
        section id="timeline" {
            h2 { "Over time" }
            figure class="charts time" data-end-s=(end_ms / 1e3) {
                @match &no_load {
                    None => { (load(seen, &bands, &x)) }
                    Some(why) => { p class="note" { (why) } }
                }
                @if let Some(panel) = memory {
                    div class="chart" {
                        h3 { "Resident memory, a line for each node" }
                        (panel.markup())
                    }
                }
                div class="chart" {
                    (nodes(&lanes, &x, end_ms))
                    (x_axis(&x, TICKS_MAX, "seconds since the start of the run"))
                }
            }
        }
    }
}

/// Latency and throughput.
fn load(seen: &Seen<'_>, bands: &[Band], x: &Scale) -> Markup {
    let answered = seen.recorder.answered();
    let window_s = plot::window_s(&answered);
    let (panel, drawn) = latency(seen, bands, x, &answered, window_s);
    let operations = seen.recorder.points().len();
    html! {
        div class="chart" {
            h3 {
                "Latency from the intended start"
                @if drawn < operations {
                    small {
                        (count(operations as u64)) " operations, the slowest of each cell drawn"
                    }
                }
            }
            (legend(&entries(seen, bands, window_s)))
            (panel.markup())
        }
        div class="chart" {
            h3 { "Operations per second" }
            (legend(&rate_entries(seen)))
            (throughput(seen, bands, x).markup())
        }
    }
}

fn nodes(lanes: &[Lane], x: &Scale, end_ms: f64) -> Markup {
    let is_told = lanes.iter().any(|lane| !lane.stretches.is_empty() || !lane.hurts.is_empty());
    html! {
        h3 { "Nodes: role and term" }
        @if is_told {
            (lane::legend(lanes))
            @for lane in lanes { (lane::lane(lane, x, end_ms)) }
        } @else {
            p class="note" { "No node said anything of its role." }
        }
    }
}

fn bands(seen: &Seen<'_>, end_ms: f64) -> Vec<Band> {
    let faults = lanes::faults(seen.record);
    let of_faults = faults.iter().take(BANDS_MAX).map(|fault| {
        let until_ms = fault.returned_ms.unwrap_or(end_ms);
        Band {
            from_s: fault.struck_ms / 1e3,
            until_s: until_ms / 1e3,
            ink: Ink::of_fault(&fault.fault),
            class: "fault",
            title: fault_title(fault),
            label: Some(fault_label(fault)),
        }
    });
    let of_trials = seen.record.trials.iter().filter_map(|trial| {
        let outage_ms = trial.outage_ms.filter(|ms| ms.is_finite() && *ms >= 0.0)?;
        trial.fault_at_ms.is_finite().then(|| Band {
            from_s: trial.fault_at_ms / 1e3,
            until_s: (trial.fault_at_ms + outage_ms) / 1e3,
            ink: Ink::Fail,
            class: "outage",
            title: outage_title(trial, outage_ms),
            label: None,
        })
    });
    of_faults.chain(of_trials.take(BANDS_MAX)).collect()
}

/// `kill of node 2`, `partition of nodes 1, 2`.
pub(super) fn fault_words(fault: &str, nodes: &[u64]) -> String {
    let listed: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    let s = if nodes.len() == 1 { "" } else { "s" };
    format!("{fault} of node{s} {}", listed.join(", "))
}

fn fault_title(fault: &Fault) -> String {
    let words = fault_words(&called(fault), &hit(fault));
    let at = format!("{words} at {:.3} s", fault.struck_ms / 1e3);
    match fault.returned_ms {
        Some(returned_ms) => format!("{at}, over after {}", ms(returned_ms - fault.struck_ms)),
        None => at,
    }
}

fn outage_title(trial: &Trial, outage_ms: f64) -> String {
    let Trial { fault, also, fault_at_ms, node, .. } = trial;
    let more = match also.len() {
        0 => String::new(),
        more => format!(" and {}", plural(more as u64, "more fault")),
    };
    let at_s = fault_at_ms / 1e3;
    format!("outage of {} after the {fault} of node {node}{more} at {at_s:.3} s", ms(outage_ms))
}

fn fault_label(fault: &Fault) -> String {
    let nodes = hit(fault).into_iter().map(|node| format!(" n{node}"));
    format!("{}{}", called(fault), nodes.collect::<String>())
}

fn draw_bands(panel: &mut Panel, bands: &[Band], x: &Scale, is_titled: bool) {
    let height = panel.height;
    for band in bands {
        let (from, until) = (x.at(band.from_s), x.at(band.until_s));
        let until = until.max(from + 1.0);
        let class = format!("{} f-{}", band.class, band.ink.class());
        let title = is_titled.then_some(band.title.as_str());
        panel.rectangle((from, until), (0.0, height), &class, title);
    }
}

/// Names the bands, if most names fit beside each other on a narrow page; a few names among many
/// bands would look like a choice.
fn label_bands(panel: &mut Panel, bands: &[Band], x: &Scale) {
    let mut free_from = 0.0;
    let mut labels = Vec::new();
    let mut named = 0;
    for band in bands {
        let Some(label) = &band.label else { continue };
        named += 1;
        let from = x.at(band.from_s);
        let until = from + label.chars().count() as f64 * CHARACTER;
        if from >= free_from && until <= WIDTH {
            free_from = until + CHARACTER;
            labels.push((from, label, format!("above t-{}", band.ink.class())));
        }
    }
    if labels.len() * 3 >= named * 2 {
        for (from, label, class) in labels {
            panel.word((from, 0.0), label, &class);
        }
    }
}

/// The panel, and how many dots are on it.
fn latency(
    seen: &Seen<'_>,
    bands: &[Band],
    x: &Scale,
    answered: &[Point],
    window_s: Option<u64>,
) -> (Panel, usize) {
    let mut panel = Panel::new(LATENCY_HEIGHT, "latency of operations over time");
    draw_bands(&mut panel, bands, x, true);
    label_bands(&mut panel, bands, x);
    panel.x_grid(x, TICKS_MAX);
    let points = seen.recorder.points();
    let ended = || points.iter().map(|p| p.latency_us).filter(|us| *us != Point::OPEN);
    let (Some(min_us), Some(max_us)) = (ended().min(), ended().max()) else {
        panel.floor();
        panel.say("no operation was completed");
        return (panel, points.len());
    };
    let (low_ms, high_ms) = (f64::from(min_us) / 1e3, f64::from(max_us) / 1e3 * 1.4);
    let y = Scale::logarithmic(low_ms, high_ms, LATENCY_HEIGHT, 0.0);
    panel.y_axis(&y, 0, "ms");
    let dots = plot::thin(points, x, &y);
    for (outcome, ink, _) in plot::OUTCOMES {
        let of = dots.iter().filter(|(of, _)| *of == outcome).map(|(_, at)| *at);
        let size = if outcome == Outcome::Ok { "" } else { "large " };
        panel.dots(of, &format!("{size}s-{}", ink.class()));
    }
    let line = |percent, least| plot::quantiles(answered, window_s, percent, least);
    let width_s = window_s.unwrap_or(1);
    draw_line(&mut panel, x, &y, &line(50, 1), width_s, Ink::Median);
    if window_s.is_some() {
        draw_line(&mut panel, x, &y, &line(99, P99_SAMPLES_MIN), width_s, Ink::Tail);
    }
    panel.floor();
    (panel, dots.len())
}

/// A line through the middles of the windows, broken where windows are missing.
fn draw_line(panel: &mut Panel, x: &Scale, y: &Scale, line: &[(u64, f64)], width_s: u64, ink: Ink) {
    let class = format!("quantile s-{}", ink.class());
    for run in line.chunk_by(|a, b| a.0 + width_s == b.0) {
        let middle = |start_s: u64| start_s as f64 + width_s as f64 / 2.0;
        let mut path: Vec<_> =
            run.iter().map(|&(start_s, ms)| (x.at(middle(start_s)), y.at(ms))).collect();
        if let [(start_s, ms)] = *run {
            path = [start_s, start_s + width_s].map(|s| (x.at(s as f64), y.at(ms))).to_vec();
        }
        panel.cased(&path, &class);
    }
}

fn throughput(seen: &Seen<'_>, bands: &[Band], x: &Scale) -> Panel {
    let mut panel = Panel::new(RATE_HEIGHT, "operations per second over time");
    draw_bands(&mut panel, bands, x, false);
    panel.x_grid(x, TICKS_MAX);
    let rows = seen.recorder.throughput();
    let per_column = rows.len().div_ceil(COLUMNS_MAX).max(1);
    let columns: Vec<(f64, f64, [f64; 4])> = rows.chunks(per_column).map(plot::column).collect();
    let high = columns.iter().flat_map(|(.., rates)| *rates).fold(1.0, f64::max);
    let step = round_up(high / 4.0);
    let y = Scale::linear(0.0, (high / step).ceil() * step, RATE_HEIGHT, 0.0);
    panel.y_axis(&y, 4, "1/s");
    let steps = |which: usize| -> Vec<(f64, f64)> {
        let corners = columns.iter().flat_map(|(from_s, until_s, rates)| {
            [(x.at(*from_s), y.at(rates[which])), (x.at(*until_s), y.at(rates[which]))]
        });
        corners.collect()
    };
    panel.area(&steps(plot::OK), "served f-ok");
    panel.line(&steps(plot::OK), "thin s-ok");
    panel.line(&steps(plot::OFFERED), "thin s-text");
    for (from_s, until_s, rates) in &columns {
        for (which, class) in [(plot::FAIL, "f-fail"), (plot::UNKNOWN, "f-unknown")] {
            if rates[which] > 0.0 {
                let until = x.at(*until_s).max(x.at(*from_s) + 1.0);
                let top = y.at(rates[which]).min(RATE_HEIGHT - 2.0);
                panel.rectangle((x.at(*from_s), until), (top, RATE_HEIGHT), class, None);
            }
        }
    }
    panel.floor();
    panel
}

fn entries(seen: &Seen<'_>, bands: &[Band], window_s: Option<u64>) -> Vec<(Swatch, String)> {
    let points = seen.recorder.points();
    let occurs = |outcome| points.iter().any(|point| point.outcome == outcome);
    let mut entries: Vec<(Swatch, String)> = plot::OUTCOMES
        .iter()
        .filter(|(outcome, ..)| occurs(*outcome))
        .map(|(_, ink, word)| (Swatch::Dot(*ink), (*word).to_owned()))
        .collect();
    let width_s = window_s.unwrap_or(1);
    entries.push((Swatch::Line(Ink::Median), format!("p50 of ok in {width_s} s")));
    if window_s.is_some() {
        entries.push((Swatch::Line(Ink::Tail), format!("p99 of ok in {width_s} s")));
    }
    let kinds: BTreeSet<String> =
        lanes::faults(seen.record).into_iter().map(|fault| fault.fault).collect();
    for kind in kinds.into_iter().take(KINDS_MAX) {
        entries.push((Swatch::Pale(Ink::of_fault(&kind)), format!("{kind} until it was over")));
    }
    if bands.iter().any(|band| band.class == "outage") {
        entries.push((Swatch::Strong(Ink::Fail), "outage".to_owned()));
    }
    entries
}

fn rate_entries(seen: &Seen<'_>) -> Vec<(Swatch, String)> {
    let points = seen.recorder.points();
    let mut entries = vec![
        (Swatch::Line(Ink::Text), "offered".to_owned()),
        (Swatch::Pale(Ink::Ok), "ok".to_owned()),
    ];
    for (outcome, ink, word) in plot::OUTCOMES {
        if outcome != Outcome::Ok && points.iter().any(|point| point.outcome == outcome) {
            entries.push((Swatch::Band(ink), word.to_owned()));
        }
    }
    entries
}

/// So many values fit below a narrow page.
pub(super) const TICKS_MAX: usize = 10;
const LATENCY_HEIGHT: f64 = 280.0;
const RATE_HEIGHT: f64 = 110.0;
/// About how wide a character is on a narrow page, in units.
const CHARACTER: f64 = 9.0;
const COLUMNS_MAX: usize = 360;
/// More than anybody can tell apart on a screen.
const BANDS_MAX: usize = 1_000;
const KINDS_MAX: usize = 7;
