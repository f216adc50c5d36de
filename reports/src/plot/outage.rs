//! The distribution of outages: each trial as a dot on the cumulative curve, and below, on the
//! same scale, each trial's outage split into detect, elect, commit and client.

use super::axis::{Panel, Scale, label};
use super::drawing::{Anchor, Drawing, Ink, Shape, text_width};
use super::{LEFT, RIGHT, Swatch, WIDTH, header, legend};
use crate::{RunRecord, Summary, Trial};
use std::collections::BTreeMap;

/// Lays the plot out, of a run in which one was measured.
pub(crate) fn outage(record: &RunRecord) -> Drawing {
    let mut measured: Vec<(f64, &Trial)> =
        record.trials.iter().filter_map(|trial| Some((trial.measured_ms()?, trial))).collect();
    measured.sort_by(|a, b| a.0.total_cmp(&b.0));
    let drawn = &measured[measured.len().saturating_sub(BARS_MAX)..];
    let bars_height = (drawn.len() as f64 * 18.0).clamp(60.0, 300.0);

    let banner = if record.banner().is_none() { 0.0 } else { 36.0 };
    let mut drawing = Drawing::new(WIDTH, 470.0 + banner + bars_height);
    let top = header(&mut drawing, "Outage: how long clients could not write", record);
    let upper = Panel { left: LEFT, right: WIDTH - RIGHT, top: top + 52.0, bottom: top + 300.0 };
    let lower_top = upper.bottom + 46.0;
    let lower = Panel { top: lower_top, bottom: lower_top + bars_height, ..upper };
    let high_ms = drawn.iter().map(|(ms, trial)| ms.max(trial.split_ms())).fold(1.0, f64::max);
    // Room to the right for the labels of the slowest.
    let x = Scale::linear(0.0, high_ms * 1.12, upper.left, upper.right);

    draw_curves(&mut drawing, &upper, &x, &measured, top + 14.0);
    let unmeasured = record.trials.len() - measured.len();
    if unmeasured > 0 {
        let words = format!("{unmeasured} more without a measured outage");
        drawing.text((upper.right, top + 14.0), &words, Ink::Fail, Anchor::End);
    }
    draw_bars(&mut drawing, &lower, &x, drawn, measured.len());
    let caption = match record.has_present_outages() {
        true => "milliseconds from the fault until 85 % of what is due is answered in time again",
        false => "milliseconds from the fault, by the rule of schema_version 1",
    };
    drawing.text((WIDTH / 2.0, lower.bottom + 36.0), caption, Ink::Muted, Anchor::Middle);
    drawing
}

/// One cumulative curve per kind of fault, with p50, p90 and max on it and in the legend.
fn draw_curves(
    drawing: &mut Drawing,
    panel: &Panel,
    x: &Scale,
    measured: &[(f64, &Trial)],
    legend_baseline: f64,
) {
    let mut by_fault: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (ms, trial) in measured {
        by_fault.entry(trial.fault.as_str()).or_default().push(*ms);
    }
    panel.x_axis(drawing, x, true);
    let y = Scale::linear(0.0, 100.0, panel.bottom, panel.top);
    panel.y_axis(drawing, &y, 5);
    panel.floor(drawing);
    drawing.text((LEFT, panel.top - 10.0), "trials over by then, %", Ink::Muted, Anchor::Start);
    let mut entries = Vec::new();
    for (number, (fault, sorted)) in by_fault.iter().enumerate() {
        let ink = Ink::of_fault(fault);
        draw_curve(drawing, panel, x, &y, sorted, ink);
        let Some(summary) = Summary::from_samples(sorted) else { continue };
        let text_ink = if by_fault.len() == 1 { Ink::Text } else { ink };
        match number {
            0 => draw_quantiles(drawing, panel, x, &y, &summary, (text_ink, Anchor::Start)),
            1 => draw_quantiles(drawing, panel, x, &y, &summary, (text_ink, Anchor::End)),
            _ => {} // no room on the plot; the legend has the figures
        }
        let Summary { count, p50, p90, max, .. } = summary;
        let words = format!(
            "{fault}: {count} trial{}, p50 {}, p90 {}, max {} ms",
            if count == 1 { "" } else { "s" },
            figure(p50),
            figure(p90),
            figure(max)
        );
        entries.push((Swatch::Dot, ink, words));
    }
    entries.truncate(LEGEND_KINDS_MAX);
    legend(drawing, legend_baseline, &entries);
}

fn draw_curve(
    drawing: &mut Drawing,
    panel: &Panel,
    x: &Scale,
    y: &Scale,
    sorted: &[f64],
    ink: Ink,
) {
    let share = |rank: usize| rank as f64 / sorted.len() as f64 * 100.0;
    let mut steps = vec![(panel.left, panel.bottom)];
    for (rank, ms) in sorted.iter().enumerate() {
        steps.push((x.at(*ms), y.at(share(rank))));
        steps.push((x.at(*ms), y.at(share(rank + 1))));
    }
    drawing.path(steps, ink, 1.5);
    for (rank, ms) in sorted.iter().enumerate() {
        drawing.dot((x.at(*ms), y.at(share(rank + 1))), 3.5, ink, 0.8);
    }
}

/// Rings with words: below and to the right of the curve, or above it and to the left, where also
/// those go that find no room to the right.
fn draw_quantiles(
    drawing: &mut Drawing,
    panel: &Panel,
    x: &Scale,
    y: &Scale,
    summary: &Summary,
    (ink, side): (Ink, Anchor),
) {
    for (names, ms, share) in summary.landmarks() {
        let at = (x.at(ms), y.at(share));
        drawing.shapes.push(Shape::Ring { at, radius: 6.0, ink });
        let words = format!("{names} {} ms", figure(ms));
        let fits = at.0 + 12.0 + text_width(&words, 13.0) <= panel.right;
        let (dx, dy, anchor) = match side {
            Anchor::Start if fits => (12.0, 14.0, Anchor::Start),
            _ => (-10.0, -7.0, Anchor::End),
        };
        drawing.sized_text((at.0 + dx, at.1 + dy), &words, ink, anchor, 13.0, true);
    }
}

/// One bar per trial, fastest first, split where the parts are known.
fn draw_bars(
    drawing: &mut Drawing,
    panel: &Panel,
    x: &Scale,
    drawn: &[(f64, &Trial)],
    measured: usize,
) {
    panel.x_axis(drawing, x, true);
    let heading = if drawn.len() < measured {
        format!("the slowest {} trials, fastest first", drawn.len())
    } else {
        "each trial by the node hit, fastest first".to_owned()
    };
    drawing.text((LEFT, panel.top - 10.0), &heading, Ink::Muted, Anchor::Start);
    let row = (panel.bottom - panel.top) / drawn.len().max(1) as f64;
    let gap = if row > 4.0 { row * 0.2 } else { 0.0 };
    let mut unsplit = false;
    for (number, (outage_ms, trial)) in drawn.iter().enumerate() {
        let top = panel.top + row * number as f64 + gap / 2.0;
        let bottom = top + (row - gap).max(0.5);
        let mut from_ms = 0.0;
        for ((_, ink), part_ms) in PARTS.iter().zip(trial.parts()) {
            let until_ms = from_ms + part_ms.unwrap_or(0.0).max(0.0);
            if until_ms > from_ms {
                drawing.fill((x.at(from_ms), top), (x.at(until_ms), bottom), *ink, 1.0);
            }
            from_ms = until_ms;
        }
        // Half a millisecond is rounding, more is a part that was not measured.
        if from_ms + 0.5 < *outage_ms {
            unsplit = true;
            drawing.fill((x.at(from_ms), top), (x.at(*outage_ms), bottom), Ink::Stall, 0.5);
        }
        if row >= 12.0 {
            // Of several there is room for one.
            let more = if trial.nodes.len() > 1 { "+" } else { "" };
            let words = format!("n{}{more}", trial.node);
            drawing.sized_text(
                (panel.left - 8.0, (top + bottom) / 2.0 + 4.0),
                &words,
                Ink::Muted,
                Anchor::End,
                11.0,
                false,
            );
        }
    }
    panel.floor(drawing);
    split_legend(drawing, panel, unsplit);
}

/// The parts' colours, to the right of the bars' heading.
fn split_legend(drawing: &mut Drawing, panel: &Panel, unsplit: bool) {
    let mut x = panel.left + 320.0;
    let not_split = [("not split", Ink::Stall)];
    for (word, ink) in PARTS.iter().chain(if unsplit { not_split.as_slice() } else { &[] }) {
        let opacity = if *ink == Ink::Stall { 0.5 } else { 1.0 };
        drawing.fill((x, panel.top - 20.0), (x + 14.0, panel.top - 8.0), *ink, opacity);
        drawing.text((x + 20.0, panel.top - 10.0), word, Ink::Text, Anchor::Start);
        x += 110.0;
    }
}

/// Three significant digits or whole milliseconds.
fn figure(ms: f64) -> String {
    if ms >= 100.0 { format!("{ms:.0}") } else { label((ms * 10.0).round() / 10.0) }
}

const PARTS: [(&str, Ink); 4] = [
    ("detect", Ink::Detect),
    ("elect", Ink::Elect),
    ("commit", Ink::Commit),
    ("client", Ink::Client),
];
const BARS_MAX: usize = 300;
const LEGEND_KINDS_MAX: usize = 3;
