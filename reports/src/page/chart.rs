//! Charts whose width follows the page: shapes in an SVG that is stretched, words beside it in HTML.
//!
//! Words keep their size and lines their width at every width of the page, and dots stay round:
//! they are lines of no length with round ends. Colours are classes, which the style sheet gives
//! meaning in both themes. Invariant: shapes are numbers alone; every word is escaped by the markup.

use crate::plot::{Ink, Scale, label};
use maud::{Markup, PreEscaped, html};
use std::fmt::Write as _;

/// A panel: `height` pixels high, [`WIDTH`] units wide.
pub(super) struct Panel {
    pub(super) height: f64,
    /// What it shows, for whom does not see it.
    pub(super) about: String,
    shapes: String,
    words: Vec<Word>,
    ticks: Vec<(f64, String)>,
    unit: &'static str,
}

/// A word on a panel.
struct Word {
    x: f64,
    y: f64,
    text: String,
    class: String,
}

impl Panel {
    pub(super) fn new(height: f64, about: impl Into<String>) -> Self {
        let (shapes, words, ticks) = (String::new(), Vec::new(), Vec::new());
        Self { height, about: about.into(), shapes, words, ticks, unit: "" }
    }

    /// Horizontal grid lines, their values to the left, and the unit above them.
    pub(super) fn y_axis(&mut self, scale: &Scale, ticks_max: usize, unit: &'static str) {
        self.unit = unit;
        for tick in scale.ticks(ticks_max) {
            let y = scale.at(tick);
            self.line(&[(0.0, y), (WIDTH, y)], "grid");
            self.ticks.push((y, label(tick)));
        }
    }

    /// A word to the left, at that height.
    pub(super) fn y_word(&mut self, y: f64, word: impl Into<String>) {
        self.ticks.push((y, word.into()));
    }

    /// Vertical grid lines; the values stand once, below the last panel.
    pub(super) fn x_grid(&mut self, scale: &Scale, ticks_max: usize) {
        for tick in scale.ticks(ticks_max) {
            let x = scale.at(tick);
            self.line(&[(x, 0.0), (x, self.height)], "grid");
        }
    }

    /// The line at the foot.
    pub(super) fn floor(&mut self) {
        self.line(&[(0.0, self.height), (WIDTH, self.height)], "floor");
    }

    /// A rectangle; what it means appears where a pointer rests on it.
    pub(super) fn rectangle(
        &mut self,
        (x, until): (f64, f64),
        (top, bottom): (f64, f64),
        class: &str,
        title: Option<&str>,
    ) {
        let (width, height) = ((until - x).max(0.0), (bottom - top).max(0.0));
        let [x, top, width, height] = [x, top, width, height].map(short);
        let rectangle = format!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"{height}\""
        );
        self.shapes.push_str(&rectangle);
        match title {
            None => self.shapes.push_str("/>"),
            Some(title) => {
                let title = html! { title { (title) } }.into_string();
                let _ = write!(self.shapes, ">{title}</rect>");
            }
        }
    }

    pub(super) fn line(&mut self, points: &[(f64, f64)], class: &str) {
        let _ = write!(self.shapes, "<path class=\"{class}\" d=\"{}\"/>", along(points));
    }

    /// A line on a casing of the paper's colour, so that it stands out from dots.
    pub(super) fn cased(&mut self, points: &[(f64, f64)], class: &str) {
        self.line(points, "casing");
        self.line(points, class);
    }

    /// An area between a line and the foot.
    pub(super) fn area(&mut self, points: &[(f64, f64)], class: &str) {
        let (Some((first, _)), Some((last, _))) = (points.first(), points.last()) else { return };
        let (first, last, foot) = (short(*first), short(*last), short(self.height));
        let along = along(points);
        let _ = write!(
            self.shapes,
            "<path class=\"{class}\" d=\"{along}L{last} {foot}L{first} {foot}Z\"/>"
        );
    }

    /// Dots, all in one shape.
    pub(super) fn dots(&mut self, points: impl Iterator<Item = (f64, f64)>, class: &str) {
        let mut dots = String::new();
        for (x, y) in points {
            let _ = write!(dots, "M{} {}h0", short(x), short(y));
        }
        if !dots.is_empty() {
            let _ = write!(self.shapes, "<path class=\"dots {class}\" d=\"{dots}\"/>");
        }
    }

    /// A word at a place; its class says how it stands to it.
    pub(super) fn word(&mut self, (x, y): (f64, f64), text: impl Into<String>, class: &str) {
        self.words.push(Word { x, y, text: text.into(), class: class.to_owned() });
    }

    /// A sentence in place of a chart that has nothing to show.
    pub(super) fn say(&mut self, text: &str) {
        self.word((WIDTH / 2.0, self.height / 2.0), text, "empty");
    }

    pub(super) fn markup(&self) -> Markup {
        let Self { height, about, shapes, words, ticks, unit } = self;
        let view = format!("0 0 {WIDTH} {height}");
        html! {
            div class="panel" style=(format!("height:{height}px")) {
                div class="y" {
                    @if !unit.is_empty() { span class="unit" { (unit) } }
                    @for (y, text) in ticks {
                        span style=(format!("top:{}%", percent(*y, *height))) { (text) }
                    }
                }
                svg viewBox=(view) preserveAspectRatio="none" role="img" aria-label=(about) {
                    (PreEscaped(shapes))
                }
                @for Word { x, y, text, class } in words {
                    span class=(format!("word {class}")) style=(place(*x, *y, *height)) { (text) }
                }
            }
        }
    }
}

/// The values below a panel, and what they are.
pub(super) fn x_axis(scale: &Scale, ticks_max: usize, caption: &str) -> Markup {
    let ticks = scale.ticks(ticks_max).into_iter().map(|tick| (scale.at(tick), label(tick)));
    x_labels(ticks, caption)
}

/// The same, with words of one's own.
pub(super) fn x_labels(ticks: impl IntoIterator<Item = (f64, String)>, caption: &str) -> Markup {
    html! {
        div class="x" {
            @for (x, text) in ticks {
                span style=(format!("left:{}%", percent(x, WIDTH))) { (text) }
            }
        }
        p class="caption" { (caption) }
    }
}

/// What a legend shows beside a word.
#[derive(Clone, Copy)]
pub(super) enum Swatch {
    Dot(Ink),
    Line(Ink),
    Band(Ink),
    /// A band that others may lie on.
    Pale(Ink),
    /// A band on such a one.
    Strong(Ink),
    /// A state of a node, by its class.
    State(&'static str),
}

/// One line of swatches with their words.
pub(super) fn legend(entries: &[(Swatch, String)]) -> Markup {
    html! {
        ul class="legend" {
            @for (swatch, words) in entries {
                li {
                    @match swatch {
                        Swatch::Dot(ink) => i class=(format!("dot b-{}", ink.class())) {},
                        Swatch::Line(ink) => i class=(format!("line b-{}", ink.class())) {},
                        Swatch::Band(ink) => i class=(format!("band b-{}", ink.class())) {},
                        Swatch::Pale(ink) => i class=(format!("band pale b-{}", ink.class())) {},
                        Swatch::Strong(ink) => {
                            i class=(format!("band strong b-{}", ink.class())) {}
                        }
                        Swatch::State(class) => i class=(format!("band {class}")) {},
                    }
                    (words)
                }
            }
        }
    }
}

/// A tenth of a unit is a tenth of a pixel.
pub(super) fn short(value: f64) -> String {
    let text = format!("{:.1}", if value.is_finite() { value } else { 0.0 });
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// Hundredths of a percent are a tenth of a pixel of a page of thousand.
pub(super) fn percent(value: f64, of: f64) -> String {
    format!("{:.2}", (value / of * 100.0).clamp(-5.0, 105.0))
}

fn along(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (number, (x, y)) in points.iter().enumerate() {
        let command = if number == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{command}{} {}", short(*x), short(*y));
    }
    path
}

fn place(x: f64, y: f64, height: f64) -> String {
    format!("--x:{}%;top:{}%", percent(x, WIDTH), percent(y, height))
}

/// Units from the left edge of a panel to its right.
pub(super) const WIDTH: f64 = 1000.0;
