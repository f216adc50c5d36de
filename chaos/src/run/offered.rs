//! How much of the load that was planned was due, and for how long.
//!
//! Pure. Invariant: what was asked beside the load is no part of it, and neither is the time in
//! which none was planned: between trials with a group of their own, and after healing.

use std::collections::BTreeMap;

use crate::{
    groups::{parts, share},
    history::{History, Outcome as Answer},
    plan::Plan,
    workload::due_after,
};

/// What the clients of the load asked, what of that was answered, and for how many milliseconds
/// something of it was due; nothing where that is no whole one.
pub(super) fn counts(plan: &Plan, history: &History) -> Vec<(String, u64)> {
    let Some(load) = share(plan) else { return Vec::new() };
    let parts = parts(plan).max(1);
    let (mut operations, mut ok) = (0_u64, 0_u64);
    let mut spans: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for operation in history.operations() {
        // Whoever proves that nodes live has a higher name than the clients of the load.
        if operation.client / parts >= load.clients {
            continue;
        }
        operations += 1;
        ok += u64::from(operation.outcome == Answer::Ok);
        let due_ns = operation.intended_ns;
        let span = spans.entry(operation.client % parts).or_insert((due_ns, due_ns));
        *span = (span.0.min(due_ns), span.1.max(due_ns));
    }
    // What was due last stands for the time until the next would have been.
    let each_ns = u64::try_from(due_after(&load, 1).as_nanos()).unwrap_or(u64::MAX);
    let spans = spans.into_values().map(|(from, last)| (from, last.saturating_add(each_ns)));
    let load_ms = covered_ns(spans.collect()) / 1_000_000;
    if load_ms == 0 {
        return Vec::new();
    }
    let counts = [("load_operations", operations), ("load_ok", ok), ("load_ms", load_ms)];
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

/// How much time lies within any of the spans: trials follow each other, and groups on the same
/// nodes are asked at the same time.
fn covered_ns(mut spans: Vec<(u64, u64)>) -> u64 {
    spans.sort_unstable();
    let mut covered_until_ns = 0;
    let each = spans.into_iter().map(|(from_ns, until_ns)| {
        let new_ns = until_ns.saturating_sub(from_ns.max(covered_until_ns));
        covered_until_ns = covered_until_ns.max(until_ns);
        new_ns
    });
    each.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        history::{Operation, tests::read},
        plan,
    };

    const MS: u64 = 1_000_000;

    fn counted(head: &str, asked: &[(u64, u64)]) -> Vec<u64> {
        let text = format!("scenario = \"x\"\n{head}\n");
        let plan = plan::parse(&text).expect("a plan");
        let operations = (1..).zip(asked).map(|(id, (client, due_ms))| {
            let answered = read(id, 1, due_ms * MS, (due_ms + 1) * MS);
            let asked = Operation { client: *client, ..answered };
            match id {
                // The first is never answered.
                1 => Operation { outcome: Answer::Unknown, completed_ns: None, ..asked },
                _ => asked,
            }
        });
        let history = History::new(operations.collect()).expect("a history");
        counts(&plan, &history).into_iter().map(|(_, count)| count).collect()
    }

    #[test]
    fn what_proves_that_nodes_live_is_no_load_and_takes_none_of_its_time() {
        let load = "[workload]\nrate_per_s = 100\nburst = 1\nclients = 4";
        let plan = format!("kind = \"steady\"\n{load}");
        let mut asked: Vec<(u64, u64)> = (0..50).map(|number| (number % 4, number * 10)).collect();
        asked.extend([(1_001, 900), (1_002, 4_000)]);
        assert_eq!(counted(&plan, &asked), [50, 49, 500], "100 in each second");
        assert!(counted(&plan, &asked[50..]).is_empty());
    }

    #[test]
    fn trials_follow_each_other_and_groups_are_asked_at_the_same_time() {
        // Of two parts those with even and those with odd clients: two each.
        let asked: Vec<(u64, u64)> =
            [(0, 0), (2, 10), (1, 1_000), (3, 1_010), (2_002, 1_200), (2_003, 1_210)].into();
        let load = "[workload]\nrate_per_s = 100\nburst = 1\nclients = 2";
        let lagging = format!("kind = \"lagging\"\ntrials = 2\n{load}\n[lag]");
        assert_eq!(counted(&lagging, &asked), [4, 3, 40]);
        let load = "[workload]\nrate_per_s = 200\nburst = 1\nclients = 4";
        let groups = format!("kind = \"steady\"\ngroups = 2\n{load}");
        let beside = [(0, 0), (1, 5), (2, 10), (3, 15)];
        assert_eq!(counted(&groups, &beside), [4, 3, 25]);
    }
}
