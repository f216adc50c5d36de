//! Resident memory of each node over time, where nodes said what they use.
//!
//! Lays out. Invariants: a line has at most so many points, each the largest sample of its stretch;
//! it is broken where a node was away.

use super::chart::Panel;
use super::timeline::TICKS_MAX;
use crate::event::{Event, What};
use crate::lanes;
use crate::plot::{Scale, round_up};
use std::collections::BTreeMap;

/// The panel; nothing where no node said anything.
pub(super) fn panel(events: &[Event], x: &Scale, end_ms: f64) -> Option<Panel> {
    let lines = lines(events, end_ms / POINTS_MAX);
    let high_mb = lines.values().flatten().map(|(_, mb)| *mb).fold(0.0, f64::max);
    if high_mb <= 0.0 {
        return None;
    }
    let mut panel = Panel::new(HEIGHT, "resident memory of each node over time");
    panel.x_grid(x, TICKS_MAX);
    let step = round_up(high_mb / 3.0);
    let y = Scale::linear(0.0, (high_mb / step).ceil() * step, HEIGHT, 0.0);
    panel.y_axis(&y, 3, "MB");
    for line in lines.values() {
        for whole in line.chunk_by(|a, b| b.0 - a.0 <= AWAY_MS.max(end_ms / POINTS_MAX * 2.0)) {
            let points: Vec<_> = whole.iter().map(|(ms, mb)| (x.at(ms / 1e3), y.at(*mb))).collect();
            panel.line(&points, "memory s-client");
        }
    }
    panel.floor();
    Some(panel)
}

/// For each node, `(ms, MB)` in order of time.
fn lines(events: &[Event], width_ms: f64) -> BTreeMap<u64, Vec<(f64, f64)>> {
    let mut lines: BTreeMap<u64, BTreeMap<u64, (f64, f64)>> = BTreeMap::new();
    for event in events {
        let What::Usage { resident_kb, .. } = event.what else { continue };
        let (at_ms, mb) = (lanes::ms(event.at_ns), resident_kb as f64 / 1e3);
        let stretch = (at_ms / width_ms.max(1e-6)) as u64;
        let kept = lines.entry(event.node).or_default().entry(stretch).or_insert((at_ms, mb));
        kept.1 = kept.1.max(mb);
    }
    let in_order = |(node, line): (u64, BTreeMap<u64, _>)| (node, line.into_values().collect());
    lines.into_iter().take(NODES_MAX).map(in_order).collect()
}

const HEIGHT: f64 = 70.0;
const POINTS_MAX: f64 = 360.0;
const NODES_MAX: usize = 32;
/// Nodes say what they use more often than that.
const AWAY_MS: f64 = 600.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Queues;

    #[test]
    fn a_line_keeps_the_largest_of_each_stretch() {
        let usage = |at_ms: u64, resident_kb| {
            let queues = Queues::default();
            let what = What::Usage { resident_kb, log_kb: 0, cpu_ms: 0, queues };
            Event { at_ns: at_ms * 1_000_000, node: 2, what }
        };
        let mut events: Vec<Event> = (0..10_000).map(|n| usage(n * 100, 20_000)).collect();
        events[5_003] = usage(500_300, 90_000);
        let lines = lines(&events, 1_000_000.0 / POINTS_MAX);
        assert_eq!(lines[&2].len(), 360);
        assert_eq!(lines[&2].iter().filter(|(_, mb)| *mb == 90.0).count(), 1);
        let x = Scale::linear(0.0, 1_000.0, 0.0, 1_000.0);
        assert!(panel(&events, &x, 1_000_000.0).is_some());
        assert!(panel(&[], &x, 1_000_000.0).is_none());
    }
}
