//! What a reader must know before he believes a figure, and what ran.
//!
//! Pure. Invariant: whatever makes a figure worth less is said, whoever asks for it.

use crate::figures::{count, plural};
use crate::record::Environment;
use crate::seen::Seen;
use crate::{P99_SAMPLES_MIN, RunRecord};
use maud::{Markup, html};

/// The section on what ran and within which limits.
pub(super) fn section(seen: &Seen<'_>) -> Markup {
    let RunRecord { world, transport, seed, trace_hash, environment, .. } = seen.record;
    let Environment { commit, build_profile, rustc, machine } = environment;
    let rows = [
        ("world", Some(world.clone())),
        ("transport", Some(transport.clone())),
        ("seed", Some(format!("{seed:#018x}"))),
        ("trace", trace_hash.clone()),
        ("commit", Some(commit.clone())),
        ("build", Some(format!("{build_profile}, {rustc}"))),
        ("machine", Some(machine.clone())),
    ];
    html! {
        section id="environment" {
            h2 { "Environment and limits" }
            table class="pairs" {
                tbody { @for (name, value) in rows {
                    @if let Some(value) = value { tr { th { (name) } td { (value) } } }
                } }
            }
            ul class="limits" { @for limit in limits(seen) { li { (limit) } } }
        }
    }
}

fn limits(seen: &Seen<'_>) -> Vec<String> {
    let record = seen.record;
    let mut limits = Vec::new();
    if record.is_virtual() {
        limits.push(
            "Times are virtual: they say what came when, and nothing of how fast anything is."
                .to_owned(),
        );
    } else {
        if !record.environment.is_measurement() {
            limits.push(format!(
                "This is a {} build: its figures are no measurement.",
                record.environment.build_profile
            ));
        }
        limits.push(
            "Nodes, clients and the harness shared one machine and its loopback: no figure \
             contains a network."
                .to_owned(),
        );
    }
    limits.extend(seen.limits.iter().cloned());
    limits.extend(few(record));
    limits.extend(absent(seen));
    limits
}

/// Where samples are few.
fn few(record: &RunRecord) -> Option<String> {
    let (name, what) = match () {
        () if record.metrics.contains_key("outage_ms") => ("outage_ms", "trial"),
        () if record.metrics.contains_key("forming_ms") => ("forming_ms", "group"),
        () => ("latency_ms", "operation"),
    };
    let samples = record.metrics.get(name)?.count;
    (samples < P99_SAMPLES_MIN).then(|| {
        format!(
            "{}: too few for a p99, which is quoted from {P99_SAMPLES_MIN} samples on; the \
             slowest of them may not be the slowest there is.",
            plural(samples, what)
        )
    })
}

/// What was not kept, or is not drawn.
fn absent(seen: &Seen<'_>) -> Vec<String> {
    let counted = |name: &str| seen.record.counts.get(name).copied().unwrap_or(0);
    let mut absent = Vec::new();
    if seen.record.checks.iter().any(|check| check.name == "finished") {
        absent
            .push("The run did not come to its end: this is what was seen until then.".to_owned());
    }
    for (number, words) in [
        (counted("operations_not_drawn"), "operations beyond those that are kept one by one"),
        (counted("operations_off_timeline"), "operations beyond the longest timeline"),
        (counted("marks_dropped"), "marks beyond those that are kept"),
        (counted("events_lost"), "events of nodes that did not reach the harness"),
        (seen.events.dropped(), "events of nodes beyond those that are kept"),
    ] {
        if number > 0 {
            absent.push(format!("Not shown: {} {words}.", count(number)));
        }
    }
    if seen.events.kept().is_empty() {
        absent.push("The run left no events.jsonl: lanes show what was done to nodes.".to_owned());
    }
    absent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Events;
    use crate::record::tests::record;
    use crate::{Recorder, Verdict};

    fn limits_of(record: &RunRecord) -> String {
        let (recorder, events) = (Recorder::new(), Events::default());
        let of_plan = ["Gaps exceed it.".to_owned()];
        let (plan_in_words, of_plan) = ("", &of_plan[..]);
        let (recorder, events) = (&recorder, &events);
        let timeouts = None;
        let seen = Seen { record, recorder, events, plan_in_words, timeouts, limits: of_plan };
        limits(&seen).join("\n")
    }

    #[test]
    fn what_makes_figures_worth_less_is_said() {
        let mut record = record();
        let text = limits_of(&record);
        assert!(text.contains("2 groups: too few for a p99"), "{text}");
        assert!(text.contains("one machine") && !text.contains("no measurement"), "{text}");
        assert!(text.contains("\nGaps exceed it.\n"), "what the plan is worth: {text}");
        record.environment.build_profile = "debug".to_owned();
        record.counts.insert("marks_dropped".to_owned(), 1_234);
        record.checks[0].name = "finished".to_owned();
        record.checks[0].verdict = Verdict::Unknown;
        let text = limits_of(&record);
        for words in ["debug build: its figures are no", "did not come to its end", "1\u{202f}234"]
        {
            assert!(text.contains(words), "{words}: {text}");
        }
        record.world = "sim".to_owned();
        let text = limits_of(&record);
        assert!(text.contains("virtual") && !text.contains("loopback"), "{text}");
    }
}
