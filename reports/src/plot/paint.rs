//! Puts a drawing on paper: SVG for both themes at once, PNG for one.
//!
//! Fonts come from the `dejavu` crate, so that no machine needs any installed. In the SVG each
//! shape gets a class by its role beside its light colour: a reader that knows style sheets obeys
//! `prefers-color-scheme`, any other sees the light plot.

use super::drawing::{Anchor, Drawing, Ink, Shape};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};
use std::fmt::Write as _;
use std::path::Path;

/// Light or dark paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Theme {
    Light,
    Dark,
}

/// The drawing as SVG, legible on light and dark.
pub(crate) fn svg(drawing: &Drawing) -> Result<String, String> {
    let mut svg = String::new();
    let metrics = Metrics { size_per_em: 1.24, baseline_per_em: 0.76 };
    let backend = SVGBackend::with_string(&mut svg, pixels(drawing));
    paint(drawing, backend, Theme::Light, metrics)?;
    Ok(themed(drawing, &svg))
}

/// The drawing as PNG at `path`, whose name must end in `.png`.
pub(crate) fn png(drawing: &Drawing, theme: Theme, path: &Path) -> Result<(), String> {
    // ab_glyph measures fonts from ascender to descender, 1.164 em in DejaVu Sans, and plotters
    // puts the baseline half of that below the top.
    let metrics = Metrics { size_per_em: 1.164, baseline_per_em: 0.582 };
    paint(drawing, BitMapBackend::new(path, pixels(drawing)), theme, metrics)
}

/// How a backend turns a font size and the top of a text into em and a baseline.
#[derive(Clone, Copy)]
struct Metrics {
    size_per_em: f64,
    baseline_per_em: f64,
}

fn pixels(drawing: &Drawing) -> (u32, u32) {
    ((drawing.width * SCALE) as u32, (drawing.height * SCALE) as u32)
}

fn paint<B: DrawingBackend>(
    drawing: &Drawing,
    backend: B,
    theme: Theme,
    metrics: Metrics,
) -> Result<(), String> {
    for (style, font) in
        [(FontStyle::Normal, dejavu::sans::regular()), (FontStyle::Bold, dejavu::sans::bold())]
    {
        register_font(FONT, style, font).map_err(|_| "the built-in font is unreadable")?;
    }
    let area = backend.into_drawing_area();
    for shape in &drawing.shapes {
        paint_shape(&area, shape, theme, metrics).map_err(|error| error.to_string())?;
    }
    area.present().map_err(|error| error.to_string())
}

type Painted<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

fn paint_shape<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    shape: &Shape,
    theme: Theme,
    metrics: Metrics,
) -> Painted<B> {
    match shape {
        Shape::Box { from, to, ink, opacity } => {
            let style = color(*ink, theme).mix(*opacity).filled();
            area.draw(&Rectangle::new([pixel(*from), pixel(*to)], style))
        }
        Shape::Area { corners, ink, opacity } => {
            let corners: Vec<_> = corners.iter().copied().map(pixel).collect();
            area.draw(&Polygon::new(corners, color(*ink, theme).mix(*opacity)))
        }
        Shape::Path { points, ink, width } => {
            let points: Vec<_> = points.iter().copied().map(pixel).collect();
            let width = (width * SCALE).round().max(1.0) as u32;
            area.draw(&PathElement::new(points, color(*ink, theme).stroke_width(width)))
        }
        Shape::Dot { at, radius, ink, opacity } => {
            let style = color(*ink, theme).mix(*opacity).filled();
            area.draw(&Circle::new(pixel(*at), (radius * SCALE) as i32, style))
        }
        Shape::Ring { at, radius, ink } => {
            let style = color(*ink, theme).stroke_width(2 * SCALE as u32);
            area.draw(&Circle::new(pixel(*at), (radius * SCALE) as i32, style))
        }
        Shape::Text { at, text, ink, size, bold, anchor } => {
            let style = if *bold { FontStyle::Bold } else { FontStyle::Normal };
            let h_pos = match anchor {
                Anchor::Start => HPos::Left,
                Anchor::Middle => HPos::Center,
                Anchor::End => HPos::Right,
            };
            let font =
                FontDesc::new(FontFamily::Name(FONT), size * metrics.size_per_em * SCALE, style);
            let style = font.color(&color(*ink, theme)).pos(Pos::new(h_pos, VPos::Top));
            let top = at.1 - size * metrics.baseline_per_em;
            area.draw(&Text::new(text.as_str(), pixel((at.0, top)), style))
        }
    }
}

fn pixel((x, y): (f64, f64)) -> (i32, i32) {
    ((x * SCALE).round() as i32, (y * SCALE).round() as i32)
}

fn color(ink: Ink, theme: Theme) -> RGBColor {
    let [light, dark] = ink.rgb();
    let [_, red, green, blue] = match theme {
        Theme::Light => light.to_be_bytes(),
        Theme::Dark => dark.to_be_bytes(),
    };
    RGBColor(red, green, blue)
}

/// Adds size, style sheet and classes to what the backend wrote.
fn themed(drawing: &Drawing, svg: &str) -> String {
    let (wide, high) = pixels(drawing);
    let (width, height) = (drawing.width, drawing.height);
    let plain = format!("<svg width=\"{wide}\" height=\"{high}\"");
    let sized = format!("<svg width=\"{width}\" height=\"{height}\"");
    let mut svg = svg.replacen(&plain, &sized, 1).replace(" opacity=\"1\"", "");
    // What is the default need not be said of thousands of dots.
    svg = svg.replace(" stroke=\"none\" stroke-width=\"1\"", "").replace(" stroke=\"none\"", "");
    for ink in Ink::ALL {
        let [light, _] = ink.rgb();
        let class = ink.class();
        for (attribute, prefix) in [("fill", "f"), ("stroke", "s")] {
            let colored = format!("{attribute}=\"#{light:06X}\"");
            svg = svg.replace(&colored, &format!("class=\"{prefix}-{class}\" {colored}"));
        }
    }
    let head_end = svg.find('>').map_or(0, |at| at + 1);
    svg.insert_str(head_end, &style_sheet());
    svg
}

fn style_sheet() -> String {
    let mut sheet = String::from("\n<style>\n:root{color-scheme:light dark}\n");
    let _ = writeln!(sheet, "text{{font-family:\"{FONT}\",Verdana,system-ui,sans-serif}}");
    sheet.push_str("rect{shape-rendering:crispEdges}\n");
    let mut dark = String::new();
    for ink in Ink::ALL {
        let class = ink.class();
        let [_, color] = ink.rgb();
        let _ = writeln!(dark, ".f-{class}{{fill:#{color:06X}}}.s-{class}{{stroke:#{color:06X}}}");
    }
    let _ = write!(sheet, "@media (prefers-color-scheme:dark){{\n{dark}}}\n</style>");
    sheet
}

const FONT: &str = "DejaVu Sans";
/// Device pixels per logical one: sharp on dense screens, and half-pixel places in the SVG.
const SCALE: f64 = 2.0;
