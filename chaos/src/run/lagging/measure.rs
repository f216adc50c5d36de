//! Catch-ups in figures: how long, how much in each second, and what clients felt meanwhile.
//!
//! Pure functions of what was recorded. Invariant: a figure is absent rather than guessed.

use std::collections::BTreeMap;

use super::{CatchUp, Look};
use crate::{
    cluster::{NodeEvent, What},
    history::{Function, History, Outcome as Answer},
    member::GOES_ON,
    run::Outcome,
};

/// Notes which followers went on from another's snapshot, from their return until they had
/// caught up.
pub(super) fn note_snapshots(catch_ups: &mut [CatchUp], events: &[NodeEvent]) {
    for caught in catch_ups {
        let until_ns = caught.caught_up_ns.unwrap_or(u64::MAX);
        caught.snapshot = events.iter().any(|event| {
            let goes_on = matches!(&event.what, What::Note { text } if text.starts_with(GOES_ON));
            let meanwhile = (caught.returned_ns..=until_ns).contains(&event.at_ns);
            goes_on && meanwhile && event.node == caught.node
        });
    }
}

/// Adds the samples of each batch size, and what is counted over all.
pub(super) fn samples(
    outcome: &mut Outcome,
    catch_ups: &[CatchUp],
    looks: &[Look],
    history: &History,
) {
    let mut samples: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut add = |name: String, value: f64| samples.entry(name).or_default().push(value);
    for caught in catch_ups {
        let of_size = |what: &str| format!("batch_{}_{what}", caught.batch_size);
        let Some(seconds) = caught.seconds() else { continue };
        add("catch_up_ms".into(), seconds * 1e3);
        add(of_size("catch_up_ms"), seconds * 1e3);
        if seconds > 0.0 {
            add(of_size("entries_per_s"), caught.entries as f64 / seconds);
            add(of_size("mb_per_s"), caught.bytes as f64 / 1e6 / seconds);
        }
    }
    for (name, values) in commits(catch_ups, looks, history) {
        samples.insert(name, values);
    }
    outcome.samples.extend(samples);
    let sum = |of: fn(&CatchUp) -> u64| catch_ups.iter().map(of).sum::<u64>();
    let counts = [
        ("catch_ups", catch_ups.len() as u64),
        ("entries_fetched", sum(|caught| caught.fetched)),
        ("entries_missed", sum(|caught| caught.entries)),
        ("terms_begun", sum(|caught| caught.terms)),
        ("answers_wrong", sum(|caught| caught.wrong)),
    ];
    outcome.counts.extend(counts.map(|(name, count)| (name.to_owned(), count)));
}

impl CatchUp {
    /// How long it took.
    fn seconds(&self) -> Option<f64> {
        Some(self.caught_up_ns?.saturating_sub(self.from_ns) as f64 / 1e9)
    }
}

/// How long writes took that were due before the fault, and while a follower caught up.
fn commits(catch_ups: &[CatchUp], looks: &[Look], history: &History) -> BTreeMap<String, Vec<f64>> {
    // Trials follow each other, so a moment is of one of them.
    let mut windows: Vec<(String, (u64, u64))> = Vec::new();
    for caught in catch_ups {
        let look = looks.iter().find(|look| look.trial == caught.trial);
        let (Some(look), Some(until_ns)) = (look, caught.caught_up_ns) else { continue };
        let named = |when: &str| format!("batch_{}_commit_{when}_ms", caught.batch_size);
        let before = (named("before"), (look.calm_ns, caught.fault_at_ns));
        let during = (named("during"), (caught.returned_ns, until_ns));
        windows.extend([before, during]);
    }
    let mut commits: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for operation in history.operations() {
        let is_commit = operation.f != Function::Read && operation.outcome == Answer::Ok;
        let (true, Some(completed_ns)) = (is_commit, operation.completed_ns) else { continue };
        let due_ns = operation.intended_ns;
        for (name, (from_ns, until_ns)) in &windows {
            if (*from_ns..*until_ns).contains(&due_ns) {
                let took_ms = completed_ns.saturating_sub(due_ns) as f64 / 1e6;
                commits.entry(name.clone()).or_default().push(took_ms);
            }
        }
    }
    commits
}
