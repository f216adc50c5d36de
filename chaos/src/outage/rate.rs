//! Whether the load comes to its rate before anything is done to the nodes.
//!
//! Pure. Invariant: nine tenths of the rate over 100 ms are enough, and at least one success.

/// The most successes that came within 100 ms, of these moments in order.
pub fn fullest_window(successes_ns: &[u64]) -> usize {
    let mut first = 0;
    let counts = successes_ns.iter().enumerate().map(|(last, at)| {
        while successes_ns[first].saturating_add(WINDOW_NS) <= *at {
            first += 1;
        }
        last + 1 - first
    });
    counts.max().unwrap_or(0)
}

/// How many successes within 100 ms are 90 % of the rate; at least one.
pub fn needed(rate_per_s: u64) -> usize {
    let needed = (rate_per_s.saturating_mul(WINDOW_NS / 1_000_000) * 9).div_ceil(10 * 1_000);
    usize::try_from(needed.max(1)).unwrap_or(usize::MAX)
}

const WINDOW_NS: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// One success every 2 ms in each of the spans, given in milliseconds.
    fn successes(spans: &[(u64, u64)]) -> Vec<u64> {
        spans.iter().flat_map(|(from, to)| (*from..*to).step_by(2)).map(|ms| ms * MS).collect()
    }

    #[test]
    fn the_fullest_window_is_as_long_as_the_one_that_is_needed() {
        assert_eq!(fullest_window(&[]), 0);
        let mut some = successes(&[(0, 40), (300, 320)]);
        assert_eq!(fullest_window(&some), 20);
        some.push(399 * MS);
        some.push(400 * MS);
        assert_eq!(fullest_window(&some[20..]), 11, "what is 100 ms later is in another");
        assert!(fullest_window(&successes(&[(0, 1_000)])) >= needed(500));
    }

    #[test]
    fn rates_below_ten_need_one_success() {
        assert_eq!(needed(1), 1);
        assert_eq!(needed(500), 45);
        assert_eq!(needed(2_000), 180);
    }
}
