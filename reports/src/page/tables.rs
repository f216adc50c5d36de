//! What a run came to in rows: checks, trials, distributions, counts.
//!
//! Lays out. Invariant: tables have a limit, and what is left out is counted.

use crate::figures::{ABSENT, ALL_DUE, Quantiles, count, digits, ms};
use crate::record::{Check, RunRecord, Trial};
use crate::table::{is_of_sizes, is_of_trials};
use crate::{P99_SAMPLES_MIN, Summary, Verdict};
use maud::{Markup, html};

/// Everything that was checked, what broke first.
pub(super) fn checks(record: &RunRecord) -> Markup {
    let mut checks: Vec<&Check> = record.checks.iter().collect();
    checks.sort_by_key(|check| match check.verdict {
        Verdict::Invalid => 0,
        Verdict::Unknown => 1,
        Verdict::Valid => 2,
    });
    html! {
        section id="checks" {
            h2 { "What was checked" }
            @if checks.is_empty() {
                p class="note" { "Nothing was." }
            } @else {
                table class="checks" {
                    tbody { @for check in checks.iter().take(ROWS_MAX) { tr {
                        td { (verdict(check.verdict)) }
                        th { (clipped(&check.name, NAME_CHARS_MAX)) }
                        td { (clipped(&check.detail, TEXT_CHARS_MAX)) }
                    } } }
                }
                (left_out(checks.len(), ROWS_MAX))
            }
        }
    }
}

/// A verdict as a word in its colour.
pub(super) fn verdict(verdict: Verdict) -> Markup {
    let word = verdict.as_str();
    html! { span class=(format!("verdict {word}")) { (word) } }
}

/// One row for each fault.
pub(super) fn trials(record: &RunRecord) -> Markup {
    if record.trials.is_empty() {
        return html! {};
    }
    let shown = &record.trials[..record.trials.len().min(ROWS_MAX)];
    html! {
        section id="trials" {
            h2 { "Trials" }
            details open[record.trials.len() <= OPEN_MAX] {
                summary { "Every fault and what it cost" }
                div class="wide" { table class="figures trials" {
                    thead { tr {
                        th class="n" { "at" } th { "fault" } th { "leader, term" }
                        @for name in PARTS { th class="n" { (name) } }
                    } }
                    tbody { @for trial in shown { (self::trial(trial)) } }
                } }
                (left_out(record.trials.len(), ROWS_MAX))
            }
        }
    }
}

fn trial(trial: &Trial) -> Markup {
    let figures = [
        trial.outage_ms,
        trial.detect_ms,
        trial.elect_ms,
        trial.commit_ms,
        trial.client_ms,
        trial.longest_gap_ms,
        trial.longest_client_gap_ms,
        trial.rejoin_ms,
    ];
    let nodes = if trial.nodes.is_empty() { vec![trial.node] } else { trial.nodes.clone() };
    let nodes: Vec<String> = nodes.iter().take(NODES_MAX).map(|node| format!("n{node}")).collect();
    let number =
        |number: Option<u64>| number.map_or(ABSENT.to_owned(), |number| number.to_string());
    let leader = trial.leader_after.map_or(ABSENT.to_owned(), |node| format!("n{node}"));
    html! {
        tr {
            td class="n" { (format!("{:.2} s", trial.fault_at_ms / 1e3)) }
            td { (trial.fault) @for also in &trial.also { " + " (also) } " " (nodes.join(" ")) }
            td { (leader) ", " (number(trial.term_before)) " → " (number(trial.term_after)) }
            @for figure in figures {
                td class="n" { (figure.map_or(ABSENT.to_owned(), digits)) }
            }
        }
    }
}

/// Every distribution that has no section of its own, and everything counted or divided.
pub(super) fn figures(record: &RunRecord) -> Markup {
    let is_told = |name: &str| {
        is_of_trials(name) && !record.trials.is_empty()
            || OF_LAPSES.contains(&name) && !record.lapses.is_empty()
            || is_of_sizes(name) && !record.catch_ups.is_empty()
            || name.starts_with("latency_")
    };
    let metrics: Vec<_> = record.metrics.iter().filter(|(name, _)| !is_told(name)).collect();
    let counts = record.counts.iter().map(|(name, number)| (name, count(*number)));
    let ratios = record.ratios.iter().map(|(name, ratio)| (name, digits(*ratio)));
    let counted: Vec<_> = counts.chain(ratios).collect();
    if metrics.is_empty() && counted.is_empty() {
        return html! {};
    }
    html! {
        section id="figures" {
            h2 { "More figures" }
            @if !metrics.is_empty() {
                details open[metrics.len() <= OPEN_MAX] {
                    summary { "Distributions" }
                    (distributions(&metrics))
                }
            }
            @if !counted.is_empty() {
                details {
                    summary { "Counts and ratios" }
                    table class="figures counts" {
                        tbody { @for (name, number) in counted.iter().take(ROWS_MAX) { tr {
                            th { (name) } td class="n" { (number) }
                        } } }
                    }
                    (left_out(counted.len(), ROWS_MAX))
                }
            }
        }
    }
}

/// The unit is the last word of a name.
fn distributions(metrics: &[(&String, &Summary)]) -> Markup {
    html! {
        div class="wide" { table class="figures" {
            thead { tr {
                th {} th class="n" { "samples" } th class="n" { "min" } th class="n" { "p50" }
                th class="n" { "p90" } th class="n" { "p99" } th class="n" { "max" }
                th class="n" { "mean" }
            } }
            tbody { @for (name, summary) in metrics.iter().take(ROWS_MAX) { tr {
                th { (name) }
                td class="n" { (count(summary.count)) }
                td class="n" { (digits(summary.min)) }
                td class="n" { (digits(summary.p50)) }
                td class="n" { (digits(summary.p90)) }
                td class="n" {
                    @match summary.p99.filter(|_| summary.count >= P99_SAMPLES_MIN) {
                        Some(p99) => (digits(p99)),
                        None => (ABSENT),
                    }
                }
                td class="n" { (digits(summary.max)) }
                td class="n" { (digits(summary.mean)) }
            } } }
        } }
        (left_out(metrics.len(), ROWS_MAX))
    }
}

/// The few figures that say it all.
pub(super) fn tiles(record: &RunRecord) -> Markup {
    let of_all_due = format!("latency {ALL_DUE}, p50");
    let mut tiles: Vec<(&str, String, String)> = Vec::new();
    for (name, title, what) in [
        ("outage_ms", "outage, p50", format!("trials{}", record.without_recovery())),
        ("longest_client_gap_ms", "longest client gap, p50", "trials".to_owned()),
        ("catch_up_ms", "catch-up, p50", "trials".to_owned()),
        ("forming_ms", "forming, p50", "groups".to_owned()),
        ("promote_ms", "a voter again, p50", "returns".to_owned()),
    ] {
        if let Some(Summary { count: number, p50, max, .. }) = record.metrics.get(name) {
            tiles.push((title, ms(*p50), format!("max {} of {number} {what}", ms(*max))));
        } else if name == "outage_ms" && record.unrecovered() > 0 {
            let none = format!("none of {} trials recovered", record.unrecovered());
            tiles.push((title, ABSENT.to_owned(), none));
        }
    }
    if let Some(summary) = record.metrics.get("latency_ms") {
        let Quantiles { p50, p99, .. } = Quantiles::of_all_due(summary, ms);
        let (title, last) = match summary.lacking() {
            Some(offered) => (&*of_all_due, offered.words()),
            None => ("latency, p50", format!("max {}", ms(summary.max))),
        };
        let p99 = p99.map(|p99| format!("p99 {p99}"));
        let more: Vec<String> = p99.into_iter().chain([last]).collect();
        tiles.push((title, p50, more.join(", ")));
    }
    let ratio = |name: &str| record.ratios.get(name).copied().filter(|ratio| ratio.is_finite());
    if let (Some(offered), Some(achieved)) = (ratio("offered_per_s"), ratio("achieved_per_s")) {
        let per_s = format!("{}/s", digits(achieved));
        let share = achieved / offered * 100.0;
        tiles.push((
            "answered ok",
            per_s,
            format!("{share:.2} % of {}/s offered", digits(offered)),
        ));
    }
    let valid = record.checks.iter().filter(|check| check.verdict == Verdict::Valid).count();
    if !record.checks.is_empty() {
        let of = format!("{valid} of {}", record.checks.len());
        tiles.push(("checks", of, "valid".to_owned()));
    }
    html! {
        dl class="tiles" {
            @for (title, figure, more) in tiles {
                div { dt { (title) } dd { strong { (figure) } span { (more) } } }
            }
        }
    }
}

fn left_out(rows: usize, rows_max: usize) -> Markup {
    html! {
        @if rows > rows_max {
            p class="note" { "and " (count((rows - rows_max) as u64)) " more, in run.json" }
        }
    }
}

/// Details may quote a node's log, and a log may be long.
fn clipped(text: &str, chars_max: usize) -> String {
    let mut clipped: String = text.chars().take(chars_max).collect();
    if clipped.len() < text.len() {
        clipped.push('…');
    }
    clipped
}

const PARTS: [&str; 8] =
    ["outage, ms", "detect", "elect", "commit", "client", "longest gap", "client gap", "rejoin"];
/// Metrics that repeat the fields of the lapses.
const OF_LAPSES: [&str; 4] = ["leave_ms", "evict_ms", "join_ms", "promote_ms"];
const ROWS_MAX: usize = 300;
const OPEN_MAX: usize = 20;
const TEXT_CHARS_MAX: usize = 2_000;
const NAME_CHARS_MAX: usize = 200;
const NODES_MAX: usize = 32;
