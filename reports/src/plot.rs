//! The plots, each as one drawing painted three times.
//!
//! What all share stands here: title, the line that says what was run, the banner over figures
//! that are no measurements, and legends. What would be empty nobody asks for: `absence` says why.
//! Invariant: any record can be drawn.

mod axis;
mod bands;
mod catch_up;
mod drawing;
mod latency;
mod outage;
mod paint;

pub(crate) use axis::{Scale, label, round_up};
pub(crate) use catch_up::catch_up;
pub(crate) use drawing::Ink;
pub(crate) use latency::{
    FAIL, OFFERED, OK, OUTCOMES, UNKNOWN, column, latency, quantiles, thin, window_s,
};
pub(crate) use outage::outage;
pub(crate) use paint::{Theme, png, svg};

use crate::RunRecord;
pub(crate) use drawing::Drawing;
use drawing::{Anchor, SMALL, text_width};

/// Title, subtitle and banner; returns the y below which the plot may begin.
fn header(drawing: &mut Drawing, title: &str, record: &RunRecord) -> f64 {
    drawing.sized_text((LEFT, 36.0), title, Ink::Text, Anchor::Start, 20.0, true);
    drawing.sized_text((LEFT, 58.0), &subtitle(record), Ink::Muted, Anchor::Start, 13.0, false);
    let Some(banner) = record.banner() else { return 72.0 };
    let right = drawing.width - RIGHT;
    drawing.fill((LEFT, 72.0), (right, 96.0), Ink::Warning, 1.0);
    let middle = (LEFT + right) / 2.0;
    drawing.sized_text((middle, 89.0), &banner, Ink::WarningText, Anchor::Middle, 13.0, true);
    108.0
}

/// Scenario, nodes, profile, seed and build in one line; what the plan does not say is left out.
fn subtitle(record: &RunRecord) -> String {
    let plan = &record.plan;
    let nodes = plan.get("nodes").and_then(serde_json::Value::as_u64);
    let profile = plan.get("profile").and_then(serde_json::Value::as_str);
    let commit = &record.environment.commit;
    let (hash, mark) = commit.split_at(commit.find('-').unwrap_or(commit.len()));
    let hash: String = hash.chars().take(10).collect();
    let parts = [
        Some(record.scenario.clone()),
        nodes.map(|nodes| format!("{nodes} nodes")),
        profile.map(|profile| format!("profile {profile}")),
        Some(format!("world {}", record.world)),
        Some(format!("seed {:#x}", record.seed)),
        Some(format!("{} build {hash}{mark}", record.environment.build_profile)),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join("  ·  ").trim_end().chars().take(SUBTITLE_CHARS_MAX).collect()
}

/// How a legend shows what it explains.
enum Swatch {
    Dot,
    Line,
    Band(f64),
}

/// One line of swatches with their words.
fn legend(drawing: &mut Drawing, baseline: f64, entries: &[(Swatch, Ink, String)]) {
    let mut x = LEFT;
    let middle = baseline - 4.0;
    for (swatch, ink, words) in entries {
        match swatch {
            Swatch::Dot => drawing.dot((x + 7.0, middle), 4.0, *ink, 1.0),
            Swatch::Line => drawing.path(vec![(x, middle), (x + 16.0, middle)], *ink, 2.5),
            Swatch::Band(opacity) => {
                drawing.fill((x, middle - 6.0), (x + 14.0, middle + 6.0), *ink, *opacity);
            }
        }
        let words: String = words.chars().take(LEGEND_CHARS_MAX).collect();
        drawing.text((x + 21.0, baseline), &words, Ink::Text, Anchor::Start);
        x += 21.0 + text_width(&words, SMALL) + 18.0;
    }
}

const WIDTH: f64 = 1200.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const LEGEND_CHARS_MAX: usize = 80;
const SUBTITLE_CHARS_MAX: usize = 150;
