//! Whether each client is served once the bound is over, and not just some of them.
//!
//! Looked at is what lies between the bound, with a handshake for each further node that is down,
//! and the end of a stretch. Invariant: a client that asks little then, or stays with a node that
//! may reach no leader, shows nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{KEPT_NS, Load, MS, Stretch};

/// Which clients had no success at all in a stretch that goes on after the bound, in words; nothing
/// where each was served.
pub(super) fn left_out(load: &Load<'_>, stretch: &Stretch<'_>) -> Option<String> {
    let served_by_ns = stretch.dialled_by_ns(load.course);
    // What is due just before the end need not be answered before it.
    let due = load.due_within(served_by_ns..=stretch.until_ns.saturating_sub(KEPT_NS / 2));
    let mut asked: BTreeMap<u64, u64> = BTreeMap::new();
    for operation in due {
        *asked.entry(operation.client).or_default() += 1;
    }
    let answered = load.answered_within(served_by_ns..stretch.until_ns).iter();
    let served: BTreeSet<u64> = answered.map(|success| success.client).collect();
    let is_owed = |client: u64| load.is_with_a_leader(client, stretch);
    asked.retain(|client, count| {
        *count >= ASKED_MIN && !served.contains(client) && is_owed(*client)
    });
    if asked.is_empty() {
        return None;
    }
    let listed = asked.keys().take(TOLD_MAX).map(ToString::to_string).collect::<Vec<_>>();
    Some(format!(
        "from {} to {} ms {} of {} clients were not served once, such as {}, though {} of their \
         operations were due",
        served_by_ns / MS,
        stretch.until_ns / MS,
        asked.len(),
        asked.len() + served.len(),
        listed.join(", "),
        asked.values().sum::<u64>()
    ))
}

/// Fewer operations of a client may all have met with the same bad luck.
const ASKED_MIN: u64 = 5;
const TOLD_MAX: usize = 5;
