//! The lane of one node: a bar whose colour is its role, with the terms in which it led.
//!
//! Lays out. Invariant: a lane has at most so many bars; of what is too short to be seen beside its
//! neighbours, what tells more stays.

use super::chart::{Panel, Swatch};
use crate::figures::ms;
use crate::lanes::{Lane, STALL, State, Stretch};
use crate::plot::{Ink, Scale};
use maud::{Markup, html};

/// The bar of a node.
pub(super) fn lane(lane: &Lane, x: &Scale, end_ms: f64) -> Markup {
    let mut panel = Panel::new(HEIGHT, format!("node {} over time", lane.node));
    let stretches = seen(&lane.stretches, end_ms / CELLS);
    for stretch in &stretches {
        let (from, until) = (x.at(stretch.from_ms / 1e3), x.at(stretch.until_ms / 1e3));
        let title = title(stretch);
        let class = class(&stretch.state);
        panel.rectangle((from, until.max(from + 0.6)), (2.0, HEIGHT - 2.0), class, Some(&title));
    }
    for hurt in lane.hurts.iter().take(HURTS_MAX) {
        let (from, until) = (x.at(hurt.from_ms / 1e3), x.at(hurt.until_ms / 1e3));
        let is_stall = hurt.kind == STALL;
        let (top, ink) = match is_stall {
            true => (HEIGHT - 5.0, Ink::Text),
            false => (HEIGHT - 8.0, Ink::of_fault(&hurt.kind)),
        };
        let words = if is_stall { "it did not run" } else { hurt.kind.as_str() };
        let title = format!("{words}: {}", span(hurt.from_ms, hurt.until_ms));
        let class = format!("f-{}", ink.class());
        panel.rectangle((from, until.max(from + 1.0)), (top, HEIGHT), &class, Some(&title));
    }
    for stretch in &stretches {
        if let Some(term) = named(stretch, end_ms) {
            let middle = x.at((stretch.from_ms + stretch.until_ms) / 2e3);
            panel.word((middle, HEIGHT / 2.0), term.to_string(), "term");
        }
    }
    html! { div class="lane" { b { "n" (lane.node) } (panel.markup()) } }
}

/// What the colours mean, as far as they occur.
pub(super) fn legend(lanes: &[Lane]) -> Markup {
    let states = || lanes.iter().flat_map(|lane| &lane.stretches).map(|stretch| &stretch.state);
    let mut entries: Vec<(Swatch, String)> = STATES
        .iter()
        .filter(|(class, _)| states().any(|state| self::class(state) == *class))
        .map(|(class, word)| (Swatch::State(class), (*word).to_owned()))
        .collect();
    let hurts = || lanes.iter().flat_map(|lane| &lane.hurts);
    let mut kinds: Vec<&str> = hurts().map(|hurt| hurt.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds.into_iter().take(KINDS_MAX) {
        entries.push(match kind {
            STALL => (Swatch::Band(Ink::Text), "stall of 20 ms or more".to_owned()),
            kind => (Swatch::Band(Ink::of_fault(kind)), kind.to_owned()),
        });
    }
    super::chart::legend(&entries)
}

/// Of stretches that are shorter than a cell and follow each other within one, the one that tells
/// most.
fn seen(stretches: &[Stretch], cell_ms: f64) -> Vec<Stretch> {
    if stretches.len() <= STRETCHES_MAX {
        return stretches.to_vec();
    }
    let cell = |stretch: &Stretch| (stretch.from_ms / cell_ms) as i64;
    let mut kept: Vec<Stretch> = Vec::new();
    for stretch in stretches {
        match kept.last_mut() {
            Some(last) if cell(last) == cell(stretch) => {
                if weight(&stretch.state) > weight(&last.state) {
                    last.state = stretch.state.clone();
                }
                last.until_ms = stretch.until_ms;
            }
            _ => kept.push(stretch.clone()),
        }
    }
    kept
}

fn weight(state: &State) -> u8 {
    match state {
        State::In { role, .. } => match role.as_str() {
            "leader" => 3,
            "candidate" => 1,
            _ => 0,
        },
        State::Paused => 2,
        State::Stopped => 4,
        State::Down => 5,
    }
}

fn class(state: &State) -> &'static str {
    match state {
        State::Down => "down",
        State::Stopped => "stopped",
        State::Paused => "paused",
        State::In { role, .. } => match role.as_str() {
            "leader" => "leader",
            "candidate" => "candidate",
            "learner" => "learner",
            _ => "follower",
        },
    }
}

fn title(stretch: &Stretch) -> String {
    let span = span(stretch.from_ms, stretch.until_ms);
    match &stretch.state {
        State::In { role, term } => format!("{role} in term {term}: {span}"),
        State::Down => format!("down: {span}"),
        State::Stopped => format!("stopped: {span}"),
        State::Paused => format!("paused: {span}"),
    }
}

fn span(from_ms: f64, until_ms: f64) -> String {
    format!("{:.3} s to {:.3} s, {}", from_ms / 1e3, until_ms / 1e3, ms(until_ms - from_ms))
}

/// The term in which it led, if that was for long enough to be written there.
fn named(stretch: &Stretch, end_ms: f64) -> Option<u64> {
    match &stretch.state {
        State::In { role, term } if role == "leader" => {
            (stretch.until_ms - stretch.from_ms >= end_ms * NAMED_SHARE_MIN).then_some(*term)
        }
        _ => None,
    }
}

const HEIGHT: f64 = 20.0;
const STATES: [(&str, &str); 7] = [
    ("leader", "leader, with its term"),
    ("candidate", "candidate"),
    ("follower", "follower"),
    ("learner", "learner"),
    ("down", "down"),
    ("stopped", "stopped"),
    ("paused", "paused"),
];
const KINDS_MAX: usize = 7;
/// What a lane may have before neighbours are merged, and into how many cells they are then.
const STRETCHES_MAX: usize = 800;
const CELLS: f64 = 400.0;
const HURTS_MAX: usize = 500;
/// On a narrow page that is 20 pixels.
const NAMED_SHARE_MIN: f64 = 0.03;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_lane_keeps_what_tells_most() {
        let state = |n: usize| match n % 50 {
            7 => State::Down,
            _ if n.is_multiple_of(2) => State::In { role: "follower".to_owned(), term: n as u64 },
            _ => State::In { role: "candidate".to_owned(), term: n as u64 },
        };
        let stretches: Vec<Stretch> = (0..10_000)
            .map(|n| Stretch { from_ms: n as f64, until_ms: n as f64 + 1.0, state: state(n) })
            .collect();
        let seen = seen(&stretches, 10_000.0 / CELLS);
        assert_eq!(seen.len(), 400);
        assert_eq!(seen.iter().filter(|stretch| stretch.state == State::Down).count(), 200);
        assert!(seen.windows(2).all(|pair| pair[0].until_ms <= pair[1].from_ms));
    }
}
