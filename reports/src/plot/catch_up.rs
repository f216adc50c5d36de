//! How long followers took to catch up by the size of their chunks, each trial a dot; and below, of
//! the trial in the middle of each size, how much had come from whom by when.

use super::axis::{Panel, Scale};
use super::drawing::{Anchor, Drawing, Ink, Shape};
use super::{LEFT, RIGHT, Swatch, WIDTH, header, legend};
use crate::RunRecord;
use crate::catch_up::{CatchUp, Compared, OfSize, compared};
use crate::figures::{count, digits, ms};

/// Lays the plot out, of a run in which one came to its end.
pub(crate) fn catch_up(record: &RunRecord) -> Drawing {
    let compared = compared(record);
    let shown: Vec<(&OfSize<'_>, &CatchUp)> = compared
        .sizes
        .iter()
        .filter_map(|of| Some((of, of.middle()?)))
        .filter(|(_, caught)| !caught.curves().is_empty())
        .take(PANELS_MAX)
        .collect();
    let banner = if record.banner().is_none() { 0.0 } else { 36.0 };
    let strips = ROW * compared.sizes.len() as f64;
    let below = if shown.is_empty() { 0.0 } else { 90.0 + CURVES * shown.len() as f64 };
    let verdict = compared.verdict.as_deref().map(lines).unwrap_or_default();
    let more = VERDICT_LINE * verdict.len().saturating_sub(1) as f64;
    let mut drawing = Drawing::new(WIDTH, 200.0 + banner + more + strips + below);
    let title = "Catch-up: how long a follower took to have what it missed";
    let top = header(&mut drawing, title, record);
    for (number, line) in verdict.iter().enumerate() {
        let y = top + 14.0 + VERDICT_LINE * number as f64;
        drawing.text((LEFT, y), line, Ink::Text, Anchor::Start);
    }
    let (left, top) = (LEFT + SIZES_WIDTH, top + 46.0 + more);
    let upper = Panel { left, right: WIDTH - RIGHT, top, bottom: top + strips };
    draw_strips(&mut drawing, &upper, &compared);
    if !shown.is_empty() {
        draw_progress(&mut drawing, upper.bottom + 70.0, &shown);
    }
    drawing
}

/// The words in lines that fit into the width.
fn lines(words: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words.split_whitespace() {
        let is_full = lines.last().is_some_and(|line| line.len() + word.len() > VERDICT_LINE_CHARS);
        if is_full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

fn draw_strips(drawing: &mut Drawing, panel: &Panel, compared: &Compared<'_>) {
    let sizes = &compared.sizes;
    let high_ms = sizes.iter().flat_map(|of| &of.took_ms).copied().fold(1.0, f64::max);
    let x = Scale::linear(0.0, high_ms * HEADROOM, panel.left, panel.right);
    panel.x_axis(drawing, &x, true);
    let heading = "entries in a chunk";
    drawing.text((LEFT, panel.top - 10.0), heading, Ink::Muted, Anchor::Start);
    for (place, of) in sizes.iter().enumerate() {
        let y = panel.top + ROW * (place as f64 + 0.5);
        let is_best = compared.best == Some(of.batch_size);
        let (ink, strong) = if is_best { (Ink::Ok, true) } else { (Ink::Stall, false) };
        let at = (panel.left - 12.0, y + 5.0);
        let name = count(of.batch_size);
        drawing.sized_text(at, &name, Ink::Text, Anchor::End, 13.0, strong);
        if let Some((low, high)) = of.quartiles_ms() {
            let right = x.at(high).max(x.at(low) + 2.0);
            drawing.fill((x.at(low), y - 9.0), (right, y + 9.0), ink, 0.25);
        }
        for ms in &of.took_ms {
            drawing.dot((x.at(*ms), y), 4.0, ink, 0.8);
        }
        if let Some(words) = of.without_end() {
            let at = (panel.left + 12.0, y + 5.0);
            drawing.sized_text(at, &words, Ink::Muted, Anchor::Start, 12.0, false);
        }
        let Some(took) = &of.took else { continue };
        let at = x.at(took.p50);
        drawing.path(vec![(at, y - 13.0), (at, y + 13.0)], Ink::Text, 2.0);
        let rate = of.entries_per_s.map_or(String::new(), |rate| format!(", {}/s", digits(rate)));
        let words = format!("p50 {}{rate}", ms(took.p50));
        let at = (x.at(took.max) + 12.0, y + 5.0);
        drawing.sized_text(at, &words, Ink::Text, Anchor::Start, 12.0, strong);
    }
    panel.floor(drawing);
    let caption = "milliseconds from the first bond until what was committed then was applied";
    let middle = (panel.left + panel.right) / 2.0;
    drawing.text((middle, panel.bottom + 36.0), caption, Ink::Muted, Anchor::Middle);
}

/// One panel for each size, on common scales.
fn draw_progress(drawing: &mut Drawing, top: f64, shown: &[(&OfSize<'_>, &CatchUp)]) {
    let curves = || shown.iter().flat_map(|(_, caught)| caught.curves());
    let all = || curves().flat_map(|(_, points)| points);
    let (high_ms, most) =
        all().fold((1.0, 1.0), |(x, y): (f64, f64), at| (x.max(at.0), y.max(at.1)));
    let mut nodes: Vec<u64> = curves().map(|(node, _)| node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let of_node = |node: &u64| (Swatch::Line, Ink::of_node(*node), format!("from node {node}"));
    let entries: Vec<_> = nodes.iter().map(of_node).collect();
    let title = "entries fetched in the middle trial of each size, by whom they came from";
    drawing.text((LEFT, top), title, Ink::Muted, Anchor::Start);
    legend(drawing, top + 20.0, &entries);
    let last = shown.len() - 1;
    let took = shown.iter().filter_map(|(_, caught)| caught.catch_up_ms);
    let high_ms = took.filter(|ms| ms.is_finite()).fold(high_ms, f64::max);
    let caption = "milliseconds since the follower's time began";
    let foot = (WIDTH / 2.0, top + 34.0 + CURVES * shown.len() as f64 + 20.0);
    drawing.text(foot, caption, Ink::Muted, Anchor::Middle);
    for (place, (of, caught)) in shown.iter().enumerate() {
        let top = top + 34.0 + CURVES * place as f64;
        let left = LEFT + SIZES_WIDTH;
        let panel = Panel { left, right: WIDTH - RIGHT, top, bottom: top + CURVES - 16.0 };
        let x = Scale::linear(0.0, high_ms, panel.left, panel.right);
        let y = Scale::linear(0.0, most, panel.bottom, panel.top);
        panel.x_axis(drawing, &x, place == last);
        drawing.path(vec![(left, panel.top), (panel.right, panel.top)], Ink::Grid, 1.0);
        let at = (panel.left - 8.0, panel.top + 8.0);
        drawing.text(at, &digits(most), Ink::Muted, Anchor::End);
        let at = (panel.left - 12.0, (panel.top + panel.bottom) / 2.0 + 5.0);
        drawing.sized_text(at, &count(of.batch_size), Ink::Text, Anchor::End, 13.0, false);
        panel.floor(drawing);
        for (node, points) in caught.curves() {
            let points = points.iter().map(|(ms, n)| (x.at(*ms), y.at(*n))).collect();
            drawing.path(points, Ink::of_node(node), 2.0);
        }
        if let Some(took) = caught.catch_up_ms.filter(|ms| ms.is_finite()) {
            let at = x.at(took);
            let points = vec![(at, panel.top), (at, panel.bottom)];
            drawing.shapes.push(Shape::Path { points, ink: Ink::Muted, width: 1.5 });
        }
    }
}

/// Room to the right for the words.
const HEADROOM: f64 = 1.22;
const SIZES_WIDTH: f64 = 60.0;
const ROW: f64 = 36.0;
const CURVES: f64 = 96.0;
const PANELS_MAX: usize = 16;
/// Of the words that say which size is the best.
const VERDICT_LINE_CHARS: usize = 140;
const VERDICT_LINE: f64 = 20.0;
