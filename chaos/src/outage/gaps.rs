//! Times without a success: of all clients together, and of the one that had to wait longest.
//!
//! Pure. Invariant: a gap begins and ends with a success, or else with the fault or the end of what
//! is looked at.

use std::collections::BTreeMap;

use super::Success;

/// The longest time without a success, from the last success before `from_ns` to `until_ns`.
/// `None` if there was none at all before. Successes must be in order of their answers.
pub fn longest_gap(successes: &[Success], from_ns: u64, until_ns: u64) -> Option<u64> {
    let first = place(successes, from_ns).checked_sub(1)?;
    let end = place(successes, until_ns).max(first + 1);
    let inside = &successes[first..end];
    let last_ns = inside.last()?.completed_ns;
    let between = inside.windows(2).map(|pair| pair[1].completed_ns - pair[0].completed_ns).max();
    Some(between.unwrap_or(0).max(until_ns.saturating_sub(last_ns)))
}

/// The longest time that a single client went without a success, in the same way. Of one that had
/// none in the minute before it counts from `from_ns` on. `None` if nobody had any.
pub fn longest_client_gap(successes: &[Success], from_ns: u64, until_ns: u64) -> Option<u64> {
    let first = place(successes, from_ns.saturating_sub(SEEN_NS));
    let end = place(successes, until_ns).max(first);
    let mut last_ns: BTreeMap<u64, u64> = BTreeMap::new();
    let mut longest_ns = 0;
    for Success { completed_ns, client, .. } in &successes[first..end] {
        let before_ns = last_ns.insert(*client, *completed_ns).unwrap_or(from_ns);
        if *completed_ns >= from_ns {
            longest_ns = longest_ns.max(completed_ns - before_ns);
        }
    }
    let waiting_ns = last_ns.values().map(|last_ns| until_ns.saturating_sub(*last_ns)).max();
    waiting_ns.map(|waiting_ns| waiting_ns.max(longest_ns))
}

fn place(successes: &[Success], at_ns: u64) -> usize {
    successes.partition_point(|success| success.completed_ns < at_ns)
}

/// Who had no success for longer than this is not remembered.
const SEEN_NS: u64 = 60_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Successes at these moments, in milliseconds, each with its client.
    fn successes(at: &[(u64, u64)]) -> Vec<Success> {
        let success = |(at_ms, client): &(u64, u64)| {
            let completed_ns = at_ms * MS;
            Success { completed_ns, due_ns: completed_ns, client: *client }
        };
        at.iter().map(success).collect()
    }

    fn gaps(at: &[(u64, u64)]) -> [Option<u64>; 2] {
        let successes = successes(at);
        [longest_gap, longest_client_gap]
            .map(|gap| gap(&successes, 1_000 * MS, 2_000 * MS).map(|gap_ns| gap_ns / MS))
    }

    #[test]
    fn one_client_may_wait_while_the_others_do_not() {
        let others = (0..200).map(|number| (number * 10, 1 + number % 2));
        let mut at: Vec<(u64, u64)> = others.chain([(990, 7), (1_700, 7), (1_990, 7)]).collect();
        at.sort_unstable();
        assert_eq!(gaps(&at), [Some(10), Some(710)]);
    }

    #[test]
    fn who_is_never_served_again_waits_to_the_end() {
        assert_eq!(gaps(&[(900, 1), (950, 2), (1_950, 2)]), [Some(1_000), Some(1_100)]);
    }

    #[test]
    fn of_who_was_not_seen_before_it_counts_from_the_fault() {
        assert_eq!(gaps(&[(990, 1), (1_400, 2), (1_500, 1), (1_990, 1)]), [Some(490), Some(600)]);
        assert_eq!(gaps(&[(1_400, 2), (1_900, 2)]), [None, Some(500)]);
    }

    #[test]
    fn no_success_at_all_is_no_gap() {
        assert_eq!(gaps(&[]), [None, None]);
    }
}
