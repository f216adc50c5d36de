//! Scales from values to pixels, and the round values at which they are labelled.

use super::drawing::{Anchor, Drawing, Ink};

/// A rectangle to draw in; y grows downwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Panel {
    pub(crate) left: f64,
    pub(crate) right: f64,
    pub(crate) top: f64,
    pub(crate) bottom: f64,
}

impl Panel {
    /// Vertical grid lines, and if `labelled` the values below them.
    pub(crate) fn x_axis(&self, drawing: &mut Drawing, scale: &Scale, labelled: bool) {
        for tick in scale.ticks(10) {
            let x = scale.at(tick);
            drawing.path(vec![(x, self.top), (x, self.bottom)], Ink::Grid, 1.0);
            if labelled {
                let at = (x, self.bottom + 16.0);
                drawing.text(at, &label(tick), Ink::Muted, Anchor::Middle);
            }
        }
    }

    /// Horizontal grid lines with their values to the left.
    pub(crate) fn y_axis(&self, drawing: &mut Drawing, scale: &Scale, ticks_max: usize) {
        for tick in scale.ticks(ticks_max) {
            let y = scale.at(tick);
            drawing.path(vec![(self.left, y), (self.right, y)], Ink::Grid, 1.0);
            let at = (self.left - 8.0, y + 4.0);
            drawing.text(at, &label(tick), Ink::Muted, Anchor::End);
        }
    }

    /// The line at the foot.
    pub(crate) fn floor(&self, drawing: &mut Drawing) {
        drawing.path(vec![(self.left, self.bottom), (self.right, self.bottom)], Ink::Muted, 1.0);
    }

    /// A sentence in place of a plot that has nothing to show.
    pub(crate) fn say(&self, drawing: &mut Drawing, text: &str) {
        let at = ((self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0);
        drawing.sized_text(at, text, Ink::Muted, Anchor::Middle, 15.0, false);
    }
}

/// Maps values to pixels, linearly or by their logarithm. Invariant: `low < high`, and `low > 0`
/// where logarithmic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    pixel_low: f64,
    pixel_high: f64,
    logarithmic: bool,
}

impl Scale {
    /// A linear scale; an empty range is widened.
    pub(crate) fn linear(low: f64, high: f64, pixel_low: f64, pixel_high: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, pixel_low, pixel_high, logarithmic: false }
    }

    /// A logarithmic scale that begins at the 1, 2 or 5 at or below `low`.
    pub(crate) fn logarithmic(low: f64, high: f64, pixel_low: f64, pixel_high: f64) -> Self {
        let low = low.max(1e-6);
        let decade = 10_f64.powf(low.log10().floor());
        let digit = [5.0, 2.0].into_iter().find(|digit| digit * decade <= low).unwrap_or(1.0);
        let low = digit * decade;
        let high = high.max(low * 10.0);
        Self { low, high, pixel_low, pixel_high, logarithmic: true }
    }

    /// The pixel of a value; values beyond the ends stay at the ends.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        let share = if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.pixel_low + share * (self.pixel_high - self.pixel_low)
    }

    /// Round values within the range, about `count_max` at most.
    pub(crate) fn ticks(&self, count_max: usize) -> Vec<f64> {
        if self.logarithmic {
            return self.logarithmic_ticks();
        }
        let step = round_up((self.high - self.low) / count_max.max(1) as f64);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|n| n as f64 * step).collect()
    }

    fn logarithmic_ticks(&self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let digits: &[f64] = if decades < 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut ticks = Vec::new();
        let mut decade = 10_f64.powf(self.low.log10().floor());
        let within = |tick: &f64| (self.low * 0.999_9..=self.high * 1.000_1).contains(tick);
        while decade <= self.high {
            ticks.extend(digits.iter().map(|digit| digit * decade).filter(within));
            decade *= 10.0;
        }
        ticks
    }
}

/// The next of 1, 2, 5, 10, 20, … at or above.
pub(crate) fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .iter()
        .map(|d| d * decade)
        .find(|t| *t >= value * 0.999_9)
        .unwrap_or(value)
}

/// A tick's value without needless digits.
pub(crate) fn label(value: f64) -> String {
    let value = if value.abs() < 1e-9 { 0.0 } else { value };
    let digits =
        if value == 0.0 { 0 } else { (-value.abs().log10().floor()).clamp(0.0, 6.0) as usize };
    let text = format!("{value:.digits$}");
    // 0.25 at one digit would lie; a step of 2.5 never occurs, but a caller may label any value.
    // Not to the last bit: six steps of 0.2 are 1.2000000000000002, and are called 1.2.
    let exact = format!("{value:.9}");
    let exact = exact.trim_end_matches('0').trim_end_matches('.');
    if exact.len() <= text.len() + 2 { exact.to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(
            Scale::linear(0.0, 60.0, 0.0, 1.0).ticks(6),
            [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
        );
        assert_eq!(Scale::linear(3.0, 3.0, 0.0, 1.0).ticks(2), [3.0, 3.5, 4.0]);
        let log = Scale::logarithmic(0.3, 900.0, 0.0, 1.0);
        assert_eq!(log.ticks(0).len(), 3, "1, 10, 100");
        assert!(log.at(900.0) == 1.0 && log.at(0.2) == 0.0 && log.at(0.0) == 0.0);
        assert_eq!(Scale::logarithmic(1.0, 9.0, 0.0, 1.0).ticks(0).len(), 4, "1, 2, 5, 10");
    }

    #[test]
    fn labels_carry_no_needless_digits() {
        assert_eq!([0.0, 0.1, 0.5, 2.0, 150.0].map(label), ["0", "0.1", "0.5", "2", "150"]);
        assert_eq!(label(0.1 + 0.2), "0.3");
        assert_eq!([1e-8, 1e9, -0.5].map(label), ["0.00000001", "1000000000", "-0.5"]);
    }

    #[test]
    fn no_two_ticks_are_called_the_same() {
        let labels = |high: f64| -> Vec<String> {
            Scale::linear(0.0, high, 0.0, 1.0).ticks(10).into_iter().map(label).collect()
        };
        assert_eq!(labels(1.5), ["0", "0.2", "0.4", "0.6", "0.8", "1", "1.2", "1.4"]);
        for tenths in 1..2_000 {
            let mut labels = labels(f64::from(tenths) / 10.0);
            let all = labels.len();
            labels.dedup();
            assert_eq!(labels.len(), all, "{labels:?}");
        }
    }
}
