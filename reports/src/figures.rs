//! Figures as people read them: three digits that mean something, and a unit.
//!
//! Pure. Used by the page, the table of past runs and the plots, so that one figure looks the same
//! everywhere.

use crate::{Offered, P99_SAMPLES_MIN, RunRecord, Summary, Verdict};

/// A figure that says what came of a run, for a list of many.
impl RunRecord {
    /// The one figure that a run is about, in words: its outage, how long its followers took to catch
    /// up, how long its groups took to form, or its latency. `None` where nothing was measured.
    pub fn headline(&self) -> Option<String> {
        let of = |name: &str| self.metrics.get(name);
        if let Some(Summary { count, p50, max, .. }) = of("outage_ms") {
            let (p50, max, more) = (ms(*p50), ms(*max), self.without_recovery());
            return Some(format!("outage p50 {p50}, max {max} of {count}{more}"));
        }
        if self.unrecovered() > 0 {
            return Some(format!("outage: none of {} recovered", self.unrecovered()));
        }
        if let Some(Summary { count, p50, max, .. }) = of("catch_up_ms") {
            let (p50, max) = (ms(*p50), ms(*max));
            return Some(format!("catch-up p50 {p50}, max {max} of {count}"));
        }
        if let Some(Summary { count, p50, max, .. }) = of("forming_ms") {
            let (p50, max) = (ms(*p50), ms(*max));
            return Some(format!("forming p50 {p50}, max {max} of {count}"));
        }
        let summary = of("latency_ms")?;
        let Quantiles { p50, p99, .. } = Quantiles::of_all_due(summary, ms);
        let max = || format!("max {}", ms(summary.max));
        let tail = p99.map_or_else(max, |p99| format!("p99 {p99}"));
        let lacking = summary.lacking().map(|offered| format!(", {}", offered.words()));
        Some(format!("latency p50 {p50}, {tail}{}", lacking.unwrap_or_default()))
    }

    /// Trials of which no outage was measured, since the rate was not back in time.
    pub(crate) fn unrecovered(&self) -> u64 {
        self.counts.get("trials_without_recovery").copied().unwrap_or(0)
    }

    /// The same in words, behind a figure of those that were measured.
    pub(crate) fn without_recovery(&self) -> String {
        match self.unrecovered() {
            0 => String::new(),
            trials => format!(" (+{} without recovery)", count(trials)),
        }
    }

    /// What came of it, in a sentence.
    pub(crate) fn sentence(&self) -> String {
        let named = |verdict: Verdict| {
            let names = self.checks.iter().filter(|check| check.verdict == verdict);
            names.map(|check| check.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        match self.verdict {
            Verdict::Valid => "Everything that was promised held.".to_owned(),
            Verdict::Invalid => format!("Broken: {}.", named(Verdict::Invalid)),
            Verdict::Unknown => match named(Verdict::Unknown) {
                names if names.is_empty() => "Nothing was judged.".to_owned(),
                names => format!("Not decided: {names}."),
            },
        }
    }
}

/// Quantiles of latency as they are told, wherever that is: of all that were due, which are those
/// of the answers where all were answered ok.
pub(crate) struct Quantiles {
    pub(crate) p50: String,
    pub(crate) p90: String,
    /// Only of enough of them.
    pub(crate) p99: Option<String>,
}

impl Quantiles {
    /// With each figure as `told` writes it.
    pub(crate) fn of_all_due(summary: &Summary, told: impl Fn(f64) -> String) -> Self {
        let (count, p50, p90, p99) = match summary.lacking() {
            Some(Offered { count, p50, p90, p99, .. }) => (*count, *p50, *p90, Some(*p99)),
            None => {
                let Summary { count, p50, p90, p99, .. } = summary;
                (*count, Some(*p50), Some(*p90), p99.map(Some))
            }
        };
        let answered = |ms: Option<f64>| ms.map_or(NOT_ANSWERED.to_owned(), &told);
        let p99 = p99.filter(|_| count >= P99_SAMPLES_MIN).map(answered);
        Self { p50: answered(p50), p90: answered(p90), p99 }
    }
}

/// Milliseconds with their unit; seconds from ten thousand on.
pub(crate) fn ms(ms: f64) -> String {
    match ms {
        _ if !ms.is_finite() => ABSENT.to_owned(),
        _ if ms.abs() >= 10_000.0 => format!("{} s", digits(ms / 1e3)),
        _ => format!("{} ms", digits(ms)),
    }
}

/// Three digits that mean something.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => ABSENT.to_owned(),
        size if size >= 1e15 => format!("{value:.2e}"),
        size if size >= 99.95 => grouped(value.round() as i64),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.01 || size == 0.0 => trimmed(&format!("{value:.2}")),
        _ => trimmed(&format!("{value:.4}")),
    }
}

/// A count in groups of three digits.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(GROUP);
        }
        text.push(digit);
    }
    text
}

/// One of it, or several.
pub(crate) fn plural(number: u64, one: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {one}{s}", count(number))
}

fn grouped(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", count(value.unsigned_abs()))
}

/// `0.50` says no more than `0.5` does, but stands better below `1.25`; `0.00` is nothing.
fn trimmed(text: &str) -> String {
    match text.trim_end_matches('0') {
        "0." | "-0." => "0".to_owned(),
        _ => text.to_owned(),
    }
}

pub(crate) const ABSENT: &str = "–";
/// In place of a quantile that lies among those that were not answered ok.
pub(crate) const NOT_ANSWERED: &str = "not answered";
/// What quantiles are of, where some of that was not answered ok.
pub(crate) const ALL_DUE: &str = "of all due";
/// Narrow, and no place to break a line at.
const GROUP: char = '\u{202f}';

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        for (value, text) in [
            (0.0, "0 ms"),
            (0.001_2, "0.0012 ms"),
            (0.5, "0.50 ms"),
            (1.934, "1.93 ms"),
            (17.64, "17.6 ms"),
            (99.96, "100 ms"),
            (176.4, "176 ms"),
            (2_450.0, "2\u{202f}450 ms"),
            (61_234.0, "61.2 s"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(ms(value), text);
        }
        assert_eq!(count(600_000), "600\u{202f}000");
        assert_eq!(
            (plural(1, "trial"), plural(20, "trial")),
            ("1 trial".into(), "20 trials".into())
        );
    }

    #[test]
    fn a_run_is_told_by_the_figure_that_it_is_about() {
        let mut record = record();
        assert_eq!(record.headline().unwrap(), "forming p50 1.00 ms, max 2.00 ms of 2");
        let summary = Summary::from_samples(&[100.0, 176.0, 245.0]).unwrap();
        record.metrics.insert("outage_ms".to_owned(), summary);
        assert_eq!(record.headline().unwrap(), "outage p50 176 ms, max 245 ms of 3");
        record.metrics.clear();
        assert_eq!(record.headline(), None);
        let summary = Summary::from_samples(&[2.0; 300]).unwrap();
        record.metrics.insert("latency_ms".to_owned(), summary);
        assert_eq!(record.headline().unwrap(), "latency p50 2.00 ms, p99 2.00 ms");
    }

    #[test]
    fn a_figure_says_what_it_leaves_out() {
        let mut record = record();
        let outage = Summary::from_samples(&[100.0, 176.0, 245.0]).unwrap();
        record.metrics.insert("outage_ms".to_owned(), outage);
        record.counts.insert("trials_without_recovery".to_owned(), 2);
        let told = "outage p50 176 ms, max 245 ms of 3 (+2 without recovery)";
        assert_eq!(record.headline().unwrap(), told);
        record.metrics.remove("outage_ms");
        assert_eq!(record.headline().unwrap(), "outage: none of 2 recovered");
        record.counts.clear();
        record.metrics.clear();
        let offered = |count: u64, p50| Offered { count, not_ok: 285, p50, p90: None, p99: None };
        let mut told = |offered| {
            let of_ok = Summary::from_samples(&[2.0; 715]).unwrap();
            let summary = Summary { offered: Some(offered), ..of_ok };
            record.metrics.insert("latency_ms".to_owned(), summary);
            record.headline().unwrap()
        };
        let words = "p99 not answered, 28.5 % not answered ok";
        assert_eq!(told(offered(1_000, Some(2.0))), format!("latency p50 2.00 ms, {words}"));
        assert_eq!(told(offered(1_000, None)), format!("latency p50 not answered, {words}"));
    }

    #[test]
    fn the_sentence_names_what_broke() {
        let mut record = record();
        assert_eq!(record.sentence(), "Everything that was promised held.");
        (record.verdict, record.checks[0].verdict) = (Verdict::Invalid, Verdict::Invalid);
        assert_eq!(record.sentence(), "Broken: linearizable.");
        (record.verdict, record.checks[0].verdict) = (Verdict::Unknown, Verdict::Unknown);
        assert_eq!(record.sentence(), "Not decided: linearizable.");
    }
}
