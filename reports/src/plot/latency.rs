//! Latency over time: one dot per operation, quantiles as lines, faults as bands, and below it
//! what was offered and what succeeded.
//!
//! Where dots would cover each other only the slowest of each cell is drawn, so that a plot stays
//! small and no slow operation is ever hidden.

use super::axis::{Panel, Scale, round_up};
use super::bands::{self, Band};
use super::drawing::{Anchor, Drawing, Ink, Shape, text_width};
use super::{LEFT, RIGHT, Swatch, WIDTH, header, legend};
use crate::latency::windows;
use crate::series::BUCKET_MS;
use crate::summary::{P99_SAMPLES_MIN, nearest_rank};
use crate::{Outcome, Point, Recorder, RunRecord, ThroughputRow};
use std::collections::BTreeMap;

/// Lays the plot out, of a run that had operations.
pub(crate) fn latency(record: &RunRecord, recorder: &Recorder) -> Drawing {
    let mut drawing = Drawing::new(WIDTH, 720.0);
    let top = header(&mut drawing, "Latency from the intended start", record);
    let faults = bands::faults(record);
    let outages = bands::outages(record);
    let answered = recorder.answered();
    let window_s = window_s(&answered);
    legend(&mut drawing, top + 14.0, &entries(recorder, &faults, &outages, window_s));

    let upper = Panel { left: LEFT, right: WIDTH - RIGHT, top: top + 50.0, bottom: 510.0 };
    let lower = Panel { top: 556.0, bottom: 660.0, ..upper };
    let x = time_scale(&upper, recorder, &faults);
    for panel in [&upper, &lower] {
        draw_bands(&mut drawing, panel, &x, &faults, &outages);
        panel.x_axis(&mut drawing, &x, panel.bottom == lower.bottom);
    }
    label_bands(&mut drawing, &upper, &x, &faults);
    drawing.text((LEFT - 8.0, upper.top - 8.0), "ms", Ink::Muted, Anchor::End);
    draw_operations(&mut drawing, &upper, &x, recorder, &answered, window_s);
    drawing.text((LEFT, lower.top - 8.0), "operations per second", Ink::Muted, Anchor::Start);
    draw_throughput(&mut drawing, &lower, &x, &recorder.throughput());
    let caption = "seconds since the start of the run";
    drawing.text((WIDTH / 2.0, lower.bottom + 36.0), caption, Ink::Muted, Anchor::Middle);
    drawing
}

fn entries(
    recorder: &Recorder,
    faults: &[Band],
    outages: &[(f64, f64)],
    window_s: Option<u64>,
) -> Vec<(Swatch, Ink, String)> {
    let mut entries: Vec<(Swatch, Ink, String)> = OUTCOMES
        .iter()
        .filter(|(outcome, ..)| recorder.points().iter().any(|p| p.outcome == *outcome))
        .map(|(_, ink, word)| (Swatch::Dot, *ink, (*word).to_owned()))
        .collect();
    if !recorder.points().is_empty() {
        let width_s = window_s.unwrap_or(1);
        entries.push((Swatch::Line, Ink::Median, format!("p50 of ok per {width_s} s")));
    }
    if let Some(width_s) = window_s {
        entries.push((Swatch::Line, Ink::Tail, format!("p99 of ok per {width_s} s")));
    }
    for kind in bands::kinds(faults).into_iter().take(LEGEND_KINDS_MAX) {
        let word = format!("{kind} until it was over");
        entries.push((Swatch::Band(FAULT_OPACITY * 1.6), Ink::of_fault(kind), word));
    }
    if !outages.is_empty() {
        entries.push((Swatch::Band(OUTAGE_OPACITY), Ink::Fail, "outage".to_owned()));
    }
    entries
}

fn time_scale(panel: &Panel, recorder: &Recorder, faults: &[Band]) -> Scale {
    let ends_s = recorder.points().iter().map(|point| {
        let latency_us = if point.latency_us == Point::OPEN { 0 } else { point.latency_us };
        point.intended_ns as f64 / 1e9 + f64::from(latency_us) / 1e6
    });
    let high_s = ends_s.chain(faults.iter().map(|band| band.until_s)).fold(0.0, f64::max);
    let starts_s = recorder.points().iter().map(|point| point.intended_ns as f64 / 1e9);
    let low_s = starts_s.chain(faults.iter().map(|band| band.from_s)).fold(high_s, f64::min);
    Scale::linear(low_s.max(0.0), high_s, panel.left, panel.right)
}

fn draw_bands(
    drawing: &mut Drawing,
    panel: &Panel,
    x: &Scale,
    faults: &[Band],
    outages: &[(f64, f64)],
) {
    for band in faults {
        let (from, until) = (x.at(band.from_s), x.at(band.until_s));
        let until = until.max(from + 1.0);
        let ink = Ink::of_fault(&band.kind);
        drawing.fill((from, panel.top), (until, panel.bottom), ink, FAULT_OPACITY);
    }
    for &(from_s, until_s) in outages {
        let (from, until) = (x.at(from_s), x.at(until_s));
        let until = until.max(from + 1.0);
        drawing.fill((from, panel.top), (until, panel.bottom), Ink::Fail, OUTAGE_OPACITY);
    }
}

/// Names the bands above the panel, if most names fit beside each other.
fn label_bands(drawing: &mut Drawing, panel: &Panel, x: &Scale, faults: &[Band]) {
    let mut free_from = panel.left;
    let mut labels = Vec::new();
    let named = || faults.iter().filter(|band| band.kind != "stall");
    for band in named() {
        let nodes = band.nodes.iter().map(|node| format!(" n{node}"));
        let words = format!("{}{}", band.kind, nodes.collect::<String>());
        let from = x.at(band.from_s);
        let until = from + text_width(&words, 11.0);
        if from < free_from || until > panel.right {
            continue;
        }
        labels.push((from, words, Ink::of_fault(&band.kind)));
        free_from = until + 6.0;
    }
    // A few names among many bands would look like a choice; the legend says it then.
    if labels.len() * 3 >= named().count() * 2 {
        for (from, words, ink) in labels {
            let at = (from, panel.top - 8.0);
            drawing.sized_text(at, &words, ink, Anchor::Start, 11.0, true);
        }
    }
}

fn draw_operations(
    drawing: &mut Drawing,
    panel: &Panel,
    x: &Scale,
    recorder: &Recorder,
    answered: &[Point],
    window_s: Option<u64>,
) {
    let points = recorder.points();
    let ended = || points.iter().map(|p| p.latency_us).filter(|us| *us != Point::OPEN);
    let (Some(min_us), Some(max_us)) = (ended().min(), ended().max()) else {
        panel.floor(drawing);
        panel.say(drawing, "no operation was completed");
        return;
    };
    let (low_ms, high_ms) = (f64::from(min_us) / 1e3, f64::from(max_us) / 1e3 * 1.4);
    let y = Scale::logarithmic(low_ms, high_ms, panel.bottom, panel.top);
    panel.y_axis(drawing, &y, 0);
    let dots = thin(points, x, &y);
    for (outcome, ink, _) in OUTCOMES {
        let (radius, opacity) = if outcome == Outcome::Ok { (1.5, 0.45) } else { (2.5, 0.9) };
        for (_, at) in dots.iter().filter(|(of, _)| *of == outcome) {
            drawing.dot(*at, radius, ink, opacity);
        }
    }
    if dots.len() < points.len() {
        let words = format!("{} operations; the slowest of each cell drawn", points.len());
        let at = (panel.right, panel.bottom + 16.0);
        drawing.sized_text(at, &words, Ink::Muted, Anchor::End, 11.0, false);
    }
    let line = |percent: usize, least: u64| quantiles(answered, window_s, percent, least);
    draw_line(drawing, x, &y, &line(50, 1), window_s.unwrap_or(1), Ink::Median);
    if window_s.is_some() {
        let tail = line(99, P99_SAMPLES_MIN);
        draw_line(drawing, x, &y, &tail, window_s.unwrap_or(1), Ink::Tail);
    }
    panel.floor(drawing);
}

/// Places of the dots, thinned until there are at most [`DOTS_MAX`]: of each cell and outcome the
/// slowest. Operations that never ended stand at the upper edge.
pub(crate) fn thin(points: &[Point], x: &Scale, y: &Scale) -> Vec<(Outcome, (f64, f64))> {
    let place = |point: &Point| {
        let ms = f64::from(point.latency_us) / 1e3;
        (x.at(point.intended_ns as f64 / 1e9), y.at(ms))
    };
    let mut dots: Vec<_> = points.iter().map(|point| (point.outcome, place(point))).collect();
    let mut cell = 1.0;
    while dots.len() > DOTS_MAX {
        cell *= 1.2;
        let mut slowest = BTreeMap::new();
        for (outcome, (x, y)) in dots {
            let kept = slowest.entry((outcome, (x / cell) as i64, (y / cell) as i64));
            let kept = kept.or_insert((x, y));
            if y < kept.1 {
                *kept = (x, y);
            }
        }
        dots = slowest.into_iter().map(|((outcome, ..), at)| (outcome, at)).collect();
    }
    dots
}

/// The narrowest window in which, at the median, enough operations succeed for a p99, and of which
/// there are not too many to see.
pub(crate) fn window_s(answered: &[Point]) -> Option<u64> {
    let start_ns = |point: Option<&Point>| point.map_or(0, |point| point.intended_ns);
    let span_s = (start_ns(answered.last()) - start_ns(answered.first())) / 1_000_000_000;
    let few = WINDOWS_S.into_iter().filter(|width_s| span_s / width_s <= LINE_POINTS_MAX);
    few.into_iter().find(|width_s| {
        let mut counts: Vec<u64> =
            windows(answered, *width_s).map(|(_, points)| points.len() as u64).collect();
        counts.sort_unstable();
        !counts.is_empty() && nearest_rank(&counts, 50) >= P99_SAMPLES_MIN
    })
}

/// A quantile per window, `(start in s, ms)`, of the windows with at least `least` operations.
pub(crate) fn quantiles(
    answered: &[Point],
    window_s: Option<u64>,
    percent: usize,
    least: u64,
) -> Vec<(u64, f64)> {
    windows(answered, window_s.unwrap_or(1))
        .filter(|(_, points)| points.len() as u64 >= least)
        .map(|(start_s, points)| {
            let mut sorted: Vec<u32> = points.iter().map(|point| point.latency_us).collect();
            sorted.sort_unstable();
            (start_s, f64::from(nearest_rank(&sorted, percent)) / 1e3)
        })
        .collect()
}

/// A line through the middles of the windows, broken where windows are missing.
fn draw_line(
    drawing: &mut Drawing,
    x: &Scale,
    y: &Scale,
    line: &[(u64, f64)],
    width_s: u64,
    ink: Ink,
) {
    for run in line.chunk_by(|a, b| a.0 + width_s == b.0) {
        let middle = |start_s: u64| start_s as f64 + width_s as f64 / 2.0;
        let mut path: Vec<_> =
            run.iter().map(|&(start_s, ms)| (x.at(middle(start_s)), y.at(ms))).collect();
        if let [(start_s, ms)] = *run {
            let ends = [start_s as f64, (start_s + width_s) as f64];
            path = ends.map(|s| (x.at(s), y.at(ms))).to_vec();
        }
        drawing.path(path.clone(), Ink::Paper, 4.0);
        drawing.path(path, ink, 2.0);
    }
}

fn draw_throughput(drawing: &mut Drawing, panel: &Panel, x: &Scale, rows: &[ThroughputRow]) {
    // A column per three pixels at most; each is a mean over its buckets.
    let per_column = rows.len().div_ceil(((panel.right - panel.left) / 3.0) as usize).max(1);
    let columns: Vec<(f64, f64, [f64; 4])> = rows.chunks(per_column).map(column).collect();
    let high = columns.iter().flat_map(|(.., rates)| *rates).fold(1.0, f64::max);
    let y = Scale::linear(0.0, round_up(high * 1.05), panel.bottom, panel.top);
    panel.y_axis(drawing, &y, 3);
    let steps = |which: usize| -> Vec<(f64, f64)> {
        let corners = columns.iter().flat_map(|(from_s, until_s, rates)| {
            [(x.at(*from_s), y.at(rates[which])), (x.at(*until_s), y.at(rates[which]))]
        });
        corners.collect()
    };
    if let (Some((from_s, ..)), Some((_, until_s, _))) = (columns.first(), columns.last()) {
        let mut corners = steps(OK);
        corners.push((x.at(*until_s), panel.bottom));
        corners.push((x.at(*from_s), panel.bottom));
        drawing.shapes.push(Shape::Area { corners, ink: Ink::Ok, opacity: 0.3 });
        drawing.path(steps(OK), Ink::Ok, 1.0);
        drawing.path(steps(OFFERED), Ink::Text, 1.0);
    }
    for (from_s, until_s, rates) in &columns {
        for (which, ink) in [(FAIL, Ink::Fail), (UNKNOWN, Ink::Unknown)] {
            if rates[which] > 0.0 {
                let until = x.at(*until_s).max(x.at(*from_s) + 1.0);
                let top = y.at(rates[which]).min(panel.bottom - 2.0);
                drawing.fill((x.at(*from_s), top), (until, panel.bottom), ink, 0.9);
            }
        }
    }
    if !rows.is_empty() {
        let words = "line: offered; filled: ok; bars: fail, unknown";
        let at = (panel.right, panel.top - 8.0);
        drawing.sized_text(at, words, Ink::Muted, Anchor::End, 11.0, false);
    }
    panel.floor(drawing);
}

/// Start and end in seconds, and the rates per second, of some neighbouring buckets.
pub(crate) fn column(rows: &[ThroughputRow]) -> (f64, f64, [f64; 4]) {
    let from_s = rows[0].at_ms as f64 / 1e3;
    let span_s = (rows.len() as u64 * BUCKET_MS) as f64 / 1e3;
    let rate =
        |count: fn(&ThroughputRow) -> u64| rows.iter().map(count).sum::<u64>() as f64 / span_s;
    let rates = [rate(|r| r.offered), rate(|r| r.ok), rate(|r| r.fail), rate(|r| r.unknown)];
    (from_s, from_s + span_s, rates)
}

pub(crate) const OUTCOMES: [(Outcome, Ink, &str); 3] = [
    (Outcome::Ok, Ink::Ok, "ok"),
    (Outcome::Fail, Ink::Fail, "fail"),
    (Outcome::Unknown, Ink::Unknown, "unknown"),
];
// Places in the rates of a column.
pub(crate) const OFFERED: usize = 0;
pub(crate) const OK: usize = 1;
pub(crate) const FAIL: usize = 2;
pub(crate) const UNKNOWN: usize = 3;
const FAULT_OPACITY: f64 = 0.16;
const OUTAGE_OPACITY: f64 = 0.35;
const LEGEND_KINDS_MAX: usize = 5;
const DOTS_MAX: usize = 5_000;
/// A line of more would be a scribble.
const LINE_POINTS_MAX: u64 = 150;
const WINDOWS_S: [u64; 9] = [1, 2, 5, 10, 30, 60, 120, 300, 600];
