//! The table at the end of a run: what a person understands at a glance, as plain text.
//!
//! The outage stands beside its split into detect, elect, commit and client, so that no tuned
//! timeout can hide in the sum. Below 300 samples no p99 is printed. Names and details come from
//! plans and nodes: control characters in them never reach the terminal.

use crate::catch_up::{Compared, compared, tail};
use crate::figures::{ALL_DUE, NOT_ANSWERED, Quantiles};
use crate::{Offered, RunRecord, Summary, Trial, Verdict};
use std::collections::BTreeSet;

/// The text for a terminal, with the timeouts that explain its outages, in words, and with ANSI
/// colours only if asked for.
pub fn render(record: &RunRecord, timeouts: Option<&str>, color: bool) -> String {
    let mut text = String::new();
    let line = |text: &mut String, words: String| {
        text.push_str(words.trim_end());
        text.push('\n');
    };
    line(&mut text, head(record));
    if let Some(banner) = record.banner() {
        line(&mut text, paint(&plain(&banner), YELLOW, color));
    }
    let sections = [
        ("outage after a fault, ms", outages(record), timeouts),
        ("catch-up by batch size", catch_ups(&compared(record)), Some(CATCH_UP_COLUMNS)),
        ("throughput", throughput(record), None),
        ("distributions", metrics(record), None),
        ("counts", counts(record), None),
    ];
    for (title, rows, note) in sections {
        if !rows.is_empty() {
            line(&mut text, String::new());
            line(&mut text, paint(title, BOLD, color));
            text.push_str(&columns(&rows));
            if let Some(note) = note {
                line(&mut text, format!("  {}", plain(note)));
            }
        }
    }
    if let Some(verdict) = compared(record).verdict {
        line(&mut text, String::new());
        line(&mut text, plain(&verdict));
    }
    line(&mut text, String::new());
    line(&mut text, paint("checks", BOLD, color));
    text.push_str(&checks(record, color));
    line(&mut text, String::new());
    if let Some(hash) = &record.trace_hash {
        line(&mut text, format!("trace: {}", plain(hash)));
    }
    let verdict = paint(record.verdict.as_str(), color_of(record.verdict), color);
    line(&mut text, format!("verdict: {verdict}"));
    text
}

fn head(record: &RunRecord) -> String {
    let RunRecord { scenario, world, transport, seed, environment, .. } = record;
    format!(
        "{}: world {}, {}, seed {seed:#x}, {} build",
        plain(scenario),
        plain(world),
        plain(transport),
        plain(&environment.build_profile)
    )
}

/// One block per kind of fault, and one for all where there are several: a row per quantity, the outage first, its parts indented.
fn outages(record: &RunRecord) -> Vec<Vec<String>> {
    type Quantity = (&'static str, fn(&Trial) -> Option<f64>);
    const QUANTITIES: [Quantity; 8] = [
        ("outage", |trial| trial.outage_ms),
        ("  detect", |trial| trial.detect_ms),
        ("  elect", |trial| trial.elect_ms),
        ("  commit", |trial| trial.commit_ms),
        ("  client", |trial| trial.client_ms),
        ("longest gap", |trial| trial.longest_gap_ms),
        ("longest client gap", |trial| trial.longest_client_gap_ms),
        ("rejoin", |trial| trial.rejoin_ms),
    ];
    let faults: BTreeSet<&str> = record.trials.iter().map(|trial| trial.fault.as_str()).collect();
    let all = (faults.len() > 1).then_some(None);
    let mut rows = Vec::new();
    for fault in faults.into_iter().map(Some).chain(all) {
        if rows.is_empty() {
            rows.push(words(&["", "", "trials", "p50", "p90", "p99", "max"]));
        }
        let is_meant = |trial: &&Trial| fault.is_none_or(|fault| trial.fault == fault);
        let trials = || record.trials.iter().filter(is_meant);
        for (number, (name, measure)) in QUANTITIES.iter().enumerate() {
            let samples: Vec<f64> = trials().filter_map(measure).collect();
            let first = if number == 0 { plain(fault.unwrap_or(ALL)) } else { String::new() };
            let mut row = vec![first, (*name).to_owned()];
            match Summary::from_samples(&samples) {
                Some(Summary { count, p50, p90, p99, max, .. }) => {
                    row.push(count_of(count, trials().count()));
                    row.extend([Some(p50), Some(p90), p99, Some(max)].map(|ms| optional(ms, 1)));
                }
                None => row.extend([count_of(0, trials().count()), "not measured".to_owned()]),
            }
            rows.push(row);
        }
    }
    without_empty_column(rows, "p99")
}

/// `10`, or `9/10` where not every trial could be measured.
fn count_of(measured: u64, trials: usize) -> String {
    if measured == trials as u64 { measured.to_string() } else { format!("{measured}/{trials}") }
}

/// A row for each batch size.
fn catch_ups(compared: &Compared<'_>) -> Vec<Vec<String>> {
    if compared.sizes.is_empty() {
        return Vec::new();
    }
    let mut rows = vec![words(&[
        "entries",
        "trials",
        "p50 ms",
        "min",
        "max",
        "entries/s",
        "MB/s",
        "peers",
        "per chunk",
        "terms",
        "commits before",
        "meanwhile",
    ])];
    for of in &compared.sizes {
        let took = |part: fn(&Summary) -> f64| optional(of.took.as_ref().map(part), 1);
        let absent = || ABSENT.to_owned();
        rows.push(vec![
            of.batch_size.to_string(),
            count_of(of.took_ms.len() as u64, of.trials.len()),
            took(|took| took.p50),
            took(|took| took.min),
            took(|took| took.max),
            optional(of.entries_per_s, 0),
            optional(of.mb_per_s, 2),
            of.peers(),
            optional(of.entries_per_chunk(), 0),
            of.terms().to_string(),
            tail(of.before).unwrap_or_else(absent),
            tail(of.during).unwrap_or_else(absent),
        ]);
    }
    rows
}

fn throughput(record: &RunRecord) -> Vec<Vec<String>> {
    let ratio = |name: &str| record.ratios.get(name).copied().filter(|ratio| ratio.is_finite());
    let (Some(offered), Some(achieved)) = (ratio("offered_per_s"), ratio("achieved_per_s")) else {
        return Vec::new();
    };
    let share = ratio("achieved_over_offered").unwrap_or(0.0) * 100.0;
    let count = |name: &str| record.counts.get(name).copied().unwrap_or(0).to_string();
    vec![
        words(&["", "offered", "ok", "fail", "unknown"]),
        vec![
            "operations".to_owned(),
            count("operations_offered"),
            count("operations_ok"),
            count("operations_fail"),
            count("operations_unknown"),
        ],
        vec![
            "per second".to_owned(),
            format!("{offered:.1}"),
            format!("{achieved:.1} ({share:.1} %)"),
        ],
    ]
}

fn metrics(record: &RunRecord) -> Vec<Vec<String>> {
    // What the faults cost stands in a section of its own.
    let is_told = |name: &str| {
        !record.trials.is_empty() && is_of_trials(name)
            || !record.catch_ups.is_empty() && is_of_sizes(name)
    };
    let told: Vec<_> = record.metrics.iter().filter(|(name, _)| !is_told(name)).collect();
    if told.is_empty() {
        return Vec::new();
    }
    let mut rows = vec![words(&["", "count", "min", "p50", "p90", "p99", "max", "mean"])];
    for (name, summary) in told.into_iter().take(ROWS_MAX) {
        let Summary { count, min, p50, p90, p99, max, mean, .. } = *summary;
        let lacking = summary.lacking();
        let name = if lacking.is_some() { format!("{name}, of ok") } else { name.clone() };
        let mut row = vec![plain(&name), count.to_string()];
        let p99 = p99.filter(|_| count >= crate::P99_SAMPLES_MIN);
        let values = [Some(min), Some(p50), Some(p90), p99, Some(max), Some(mean)];
        row.extend(values.map(|value| optional(value, 2)));
        rows.push(row);
        rows.extend(lacking.map(|offered| of_all_due(summary, offered)));
    }
    without_empty_column(rows, "p99")
}

/// The row below that of what was answered ok: no quantile is better than the answers allow.
fn of_all_due(summary: &Summary, offered: &Offered) -> Vec<String> {
    let Quantiles { p50, p90, p99 } = Quantiles::of_all_due(summary, |ms| optional(Some(ms), 2));
    let (absent, max) = (ABSENT.to_owned(), NOT_ANSWERED.to_owned());
    let name = format!("  {ALL_DUE}, {}", offered.words());
    let (count, p99) = (offered.count.to_string(), p99.unwrap_or(absent.clone()));
    vec![name, count, absent.clone(), p50, p90, p99, max, absent]
}

/// Everything counted or divided that no section above has shown.
fn counts(record: &RunRecord) -> Vec<Vec<String>> {
    let counts = record.counts.iter().filter(|(name, _)| {
        !matches!(
            name.as_str(),
            "operations_offered" | "operations_ok" | "operations_fail" | "operations_unknown"
        )
    });
    let ratios = record.ratios.iter().filter(|(name, _)| {
        !matches!(name.as_str(), "offered_per_s" | "achieved_per_s" | "achieved_over_offered")
    });
    let counts = counts.map(|(name, count)| vec![plain(name), count.to_string()]);
    let ratios = ratios.map(|(name, ratio)| vec![plain(name), optional(Some(*ratio), 3)]);
    counts.chain(ratios).take(ROWS_MAX).collect()
}

fn checks(record: &RunRecord, color: bool) -> String {
    if record.checks.is_empty() {
        return "  none was carried out\n".to_owned();
    }
    let widest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
    let name_width = widest(&mut record.checks.iter().map(|check| width(&plain(&check.name))));
    let word_width = widest(&mut record.checks.iter().map(|check| check.verdict.as_str().len()));
    let mut text = String::new();
    for check in &record.checks {
        let name = pad_right(&plain(&check.name), name_width);
        // Padded before it is painted: colours have no width.
        let word = pad_right(check.verdict.as_str(), word_width);
        let word = paint(&word, color_of(check.verdict), color);
        let row = format!("  {name}  {word}  {}", plain(&check.detail));
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// Rows under each other, widths by characters; what begins with a digit, and the heading above
/// it, stands to the right.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |column: usize| rows.iter().filter_map(move |row| row.get(column));
    let widths: Vec<usize> =
        (0..count).map(|column| cells(column).map(|cell| width(cell)).max().unwrap_or(0)).collect();
    let is_number = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let numeric: Vec<bool> = (0..count).map(|column| cells(column).any(is_number)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::from("  ");
        for (column, cell) in row.iter().enumerate() {
            let padded = if numeric[column] {
                format!("{}{cell}", " ".repeat(widths[column] - width(cell)))
            } else {
                pad_right(cell, widths[column])
            };
            line.push_str(&padded);
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Drops a column, named in the first row, in which no other row has anything.
fn without_empty_column(mut rows: Vec<Vec<String>>, name: &str) -> Vec<Vec<String>> {
    let Some(column) = rows.first().and_then(|row| row.iter().position(|cell| cell == name)) else {
        return rows;
    };
    let is_empty = |row: &Vec<String>| row.get(column).is_none_or(|cell| cell == ABSENT);
    if rows[1..].iter().all(is_empty) {
        for row in rows.iter_mut().filter(|row| row.len() > column) {
            row.remove(column);
        }
    }
    rows
}

/// A figure at a fixed number of digits, so that the points of a column stand below each other.
fn optional(value: Option<f64>, digits: usize) -> String {
    match value {
        None => ABSENT.to_owned(),
        Some(value) if !value.is_finite() => ABSENT.to_owned(),
        Some(value) => format!("{value:.digits$}"),
    }
}

fn words(row: &[&str]) -> Vec<String> {
    row.iter().map(|&cell| cell.to_owned()).collect()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn pad_right(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

/// Text from elsewhere: one line, no escape sequences, not endless.
fn plain(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn paint(text: &str, code: &str, color: bool) -> String {
    if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

fn color_of(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => GREEN,
        Verdict::Invalid => RED,
        Verdict::Unknown => YELLOW,
    }
}

/// Metrics that repeat the fields of the trials, of all or of one kind of fault.
pub(crate) fn is_of_trials(name: &str) -> bool {
    OF_TRIALS.contains(&name) || name.starts_with("outage_")
}

/// Whether the metric is one of each batch size.
pub(crate) fn is_of_sizes(name: &str) -> bool {
    name.starts_with("batch_")
}

const BOLD: &str = "1";
const RED: &str = "1;31";
const GREEN: &str = "1;32";
const YELLOW: &str = "1;33";
const ABSENT: &str = "-";
/// In place of a fault: whichever it was.
pub(crate) const ALL: &str = "all";
const OF_TRIALS: [&str; 8] = [
    "outage_ms",
    "detect_ms",
    "elect_ms",
    "commit_ms",
    "client_ms",
    "longest_gap_ms",
    "longest_client_gap_ms",
    "rejoin_ms",
];
/// What the figures of catch-ups are of.
const CATCH_UP_COLUMNS: &str = "a follower's time from its first bond; what it lacked over that, \
    in entries and in millions of bytes of their commands; peers that it fetched from in bulk; \
    entries in a chunk as they came; terms begun in all trials; acknowledged writes before the \
    fault, and meanwhile";
const ROWS_MAX: usize = 40;
const TEXT_CHARS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    fn trial(outage_ms: f64) -> Trial {
        Trial {
            fault: "kill".to_owned(),
            outage_ms: Some(outage_ms),
            detect_ms: Some(outage_ms / 2.0),
            longest_gap_ms: Some(outage_ms + 1.0),
            ..Trial::default()
        }
    }

    #[test]
    fn the_outage_stands_above_its_parts() {
        let mut record = record();
        record.trials = (1..=10).map(|n| trial(f64::from(n) * 100.0)).collect();
        let text = render(&record, None, false);
        let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert!(rows.contains(&vec!["kill", "outage", "10", "500.0", "900.0", "1000.0"]), "{text}");
        assert!(rows.contains(&vec!["detect", "10", "250.0", "450.0", "500.0"]), "{text}");
        assert!(rows.contains(&vec!["rejoin", "0/10", "not", "measured"]), "{text}");
        assert!(rows.contains(&vec!["linearizable", "valid", "10", "keys"]), "{text}");
    }

    #[test]
    fn outages_stand_beside_the_timeouts_that_explain_them() {
        let mut record = record();
        let timeouts = Some("timeouts of lan:\nheartbeats");
        assert!(!render(&record, timeouts, false).contains("timeouts"), "there is no outage");
        record.trials = vec![trial(100.0)];
        let text = render(&record, timeouts, false);
        let (_, after) = text.split_once("outage after a fault, ms\n").expect("a section");
        let (section, _) = after.split_once("\n\n").expect("it ends");
        assert!(section.ends_with("\n  timeouts of lan: heartbeats"), "{text}");
    }

    #[test]
    fn of_several_faults_each_is_told_and_all_together() {
        let mut record = record();
        let pause = Trial { fault: "pause".to_owned(), ..trial(300.0) };
        record.trials = vec![trial(100.0), trial(200.0), pause];
        let text = render(&record, None, false);
        let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        for row in [
            ["kill", "outage", "2", "100.0", "200.0", "200.0"],
            ["pause", "outage", "1", "300.0", "300.0", "300.0"],
            ["all", "outage", "3", "200.0", "300.0", "300.0"],
        ] {
            assert!(rows.contains(&row.to_vec()), "{row:?}: {text}");
        }
    }

    #[test]
    fn what_the_trials_show_is_not_shown_twice() {
        let mut record = record();
        let summary = Summary::from_samples(&[1.0]).unwrap();
        record.metrics.insert("outage_kill_ms".to_owned(), summary.clone());
        record.metrics.insert("outage_ms".to_owned(), summary);
        assert!(render(&record, None, false).contains("outage_ms"));
        record.trials = vec![trial(1.0)];
        let text = render(&record, None, false);
        assert!(!text.contains("outage_") && text.contains("forming_ms"), "{text}");
    }

    #[test]
    fn p99_is_printed_from_three_hundred_samples_on() {
        let mut record = record();
        record.trials = vec![trial(1.0); 299];
        assert!(!render(&record, None, false).contains("p99"));
        record.trials = vec![trial(1.0); 300];
        assert!(render(&record, None, false).contains("p99"));
    }

    #[test]
    fn a_p99_that_a_file_claims_on_few_samples_is_not_repeated() {
        let mut record = record();
        for summary in record.metrics.values_mut() {
            summary.p99 = Some(77.0);
        }
        assert!(!render(&record, None, false).contains("77"));
    }

    #[test]
    fn what_was_not_answered_stands_below_what_was() {
        let mut record = record();
        let of_ok = Summary::from_samples(&[2.0; 715]).unwrap();
        let offered = Offered { count: 1_000, not_ok: 285, p50: Some(2.0), p90: None, p99: None };
        let summary = Summary { offered: Some(offered), ..of_ok };
        record.metrics.insert("latency_ms".to_owned(), summary);
        let text = render(&record, None, false);
        let row = |begins: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.trim_start().starts_with(begins)).unwrap();
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .map(Into::into)
                .collect()
        };
        let ok = row("latency_ms, of ok");
        assert_eq!(ok[1..], ["715", "2.00", "2.00", "2.00", "2.00", "2.00", "2.00"], "{text}");
        let due = row("of all due");
        let beyond = "not answered";
        assert_eq!(due[0], "of all due, 28.5 % not answered ok");
        assert_eq!(due[1..], ["1000", "-", "2.00", beyond, beyond, beyond, "-"], "{text}");
    }

    #[test]
    fn numbers_end_below_each_other() {
        let mut record = record();
        record.trials = vec![trial(1_234.0), trial(5.0)];
        let text = render(&record, None, false);
        let end_of = |word: &str| {
            let line = text.lines().find(|line| line.contains(word)).unwrap();
            line.trim_end().chars().count()
        };
        assert_eq!(end_of("outage   "), end_of("longest gap"), "{text}");
        assert_eq!(end_of("trials"), end_of("longest gap"), "{text}");
    }

    #[test]
    fn colour_and_control_characters_only_when_asked_for() {
        let mut record = record();
        record.checks[0].detail = "\x1b[2Jgone\r\nnext".to_owned();
        assert!(!render(&record, None, false).contains('\x1b'));
        let colored = render(&record, None, true);
        assert!(colored.contains("\x1b[1;32mvalid\x1b[0m"), "{colored}");
        assert!(!colored.contains("\x1b[2J"));
    }

    #[test]
    fn a_debug_build_says_so() {
        let mut record = record();
        assert!(!render(&record, None, false).contains("not a measurement"));
        record.environment.build_profile = "debug".to_owned();
        assert!(render(&record, None, false).contains("debug build: not a measurement"));
    }

    #[test]
    fn virtual_time_says_so_and_names_its_trace() {
        let mut record = record();
        record.world = "sim".to_owned();
        record.trace_hash = Some("0x000000000000002a".to_owned());
        let text = render(&record, None, false);
        for words in ["world sim, ", "\nvirtual time: no figure", "\ntrace: 0x000000000000002a\n"] {
            assert!(text.contains(words), "{words:?} in {text}");
        }
    }
}
