//! `index.html`: one page that says what a run was and what came of it.
//!
//! Self-contained: it asks for nothing from elsewhere, and its one script is a convenience. All that
//! comes from a run, be it a plan, a node's last words or a name, is escaped by the markup. Invariants:
//! any record gives a page, also one whose harness was killed; a page has a limit, however long
//! the run was.

mod catch_up;
mod chart;
mod distribution;
mod lane;
mod meanwhile;
mod membership;
mod memory;
mod notes;
mod outage;
mod percentiles;
mod queues;
mod slow;
mod style;
mod tables;
mod timeline;

use crate::RunRecord;
use crate::figures::count;
use crate::seen::Seen;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The whole page. `started` is when, in words; `files` are those beside it, as links.
pub(crate) fn page(seen: &Seen<'_>, started: Option<&str>, files: &[String]) -> String {
    let record = seen.record;
    let title = format!("{}: {}", record.scenario, record.verdict.as_str());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Whatever a run's words may try: nothing is fetched.
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) }
                style { (PreEscaped(style::sheet())) }
            }
            body {
                (header(record, started))
                main {
                    (tables::tiles(record))
                    (tables::checks(record))
                    (outage::section(seen))
                    (catch_up::section(record))
                    (membership::section(record))
                    (timeline::section(seen))
                    (percentiles::section(seen))
                    (slow::section(seen))
                    (queues::section(seen.events.kept()))
                    (tables::trials(record))
                    (tables::figures(record))
                    (plan(seen))
                    (notes::section(seen))
                    (folder(files))
                }
                footer { "Tessera. Beside this page stands everything that it was made of." }
                script { (PreEscaped(LOOK)) }
            }
        }
    };
    page.into_string()
}

fn header(record: &RunRecord, started: Option<&str>) -> Markup {
    let plan = &record.plan;
    let nodes = plan.get("nodes").and_then(serde_json::Value::as_u64);
    let profile = plan.get("profile").and_then(serde_json::Value::as_str);
    let about = plan.get("about").and_then(serde_json::Value::as_str);
    let parts = [
        nodes.map(|nodes| format!("{} nodes", count(nodes))),
        profile.map(|profile| format!("profile {profile}")),
        Some(format!("world {}", record.world)),
        Some(format!("seed {:#x}", record.seed)),
        Some(format!("{} build {}", record.environment.build_profile, record.environment.commit)),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    html! {
        header {
            div class="kicker" {
                span { "Tessera run" }
                @if let Some(started) = started { span { (started) } }
            }
            div class="title" { h1 { (record.scenario) } (tables::verdict(record.verdict)) }
            @if let Some(about) = about { p { (about) } }
            p class="under" { (parts.join(" · ")) }
            p class="sentence" { (record.sentence()) }
            @if let Some(banner) = record.banner() { p class="banner" { (banner) } }
        }
    }
}

fn plan(seen: &Seen<'_>) -> Markup {
    let json = serde_json::to_string_pretty(&seen.record.plan).unwrap_or_default();
    let json: String = json.chars().take(PLAN_CHARS_MAX).collect();
    let words = seen.plan_in_words.lines().take(PLAN_LINES_MAX);
    html! {
        section id="plan" {
            h2 { "The plan" }
            ul class="words" { @for line in words { li { (line.trim()) } } }
            @if let Some(command) = &seen.record.command {
                h3 { "Again" }
                pre { (command) }
            }
            details { summary { "Every field, as it was carried out" } pre { (json) } }
        }
    }
}

fn folder(files: &[String]) -> Markup {
    html! {
        @if !files.is_empty() {
            section id="files" {
                h2 { "The files of this run" }
                ul class="files" { @for file in files { li { a href=(file) { (file) } } } }
            }
        }
    }
}

const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'";
const LOOK: &str = include_str!("page/look.js");
const PLAN_CHARS_MAX: usize = 100_000;
const PLAN_LINES_MAX: usize = 200;
