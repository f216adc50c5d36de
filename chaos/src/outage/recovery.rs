//! When clients are served again after a fault.
//!
//! An operation belongs to the moment at which it was due, not to that of its answer: what had
//! piled up and is answered in one burst shows that nobody was served while it did. Pure; takes
//! `n log n` for `n` answers. Invariants: it is not over while clients are out that ask more than
//! 15 % of what is due, however well the others are served; what counts as good time is read off
//! calm, so no fault makes it longer.

/// An operation that succeeded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Success {
    /// When its answer arrived.
    pub completed_ns: u64,
    /// When it was due, whenever it was sent.
    pub due_ns: u64,
    /// Who asked.
    pub client: u64,
}

/// What clients ask while a fault is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Demand {
    /// Operations that are due each second.
    pub due_per_s: u64,
    /// So many of them are due at the same instant.
    pub burst: u64,
    /// How many of those of a second can be served: all of them, unless clients stay with nodes
    /// that can serve nobody.
    pub served_per_s: u64,
}

/// A stretch of whole bursts: wherever one begins with a burst, as much is due in it.
struct Window {
    length_ns: u64,
    /// From the beginning of one to that of the next.
    step_ns: u64,
    bursts: u64,
    demand: Demand,
}

impl Success {
    fn took_ns(&self) -> u64 {
        self.completed_ns.saturating_sub(self.due_ns)
    }
}

/// When clients were served again of what was due from `from_ns` on; `None` if that was not before
/// `until_ns`. Successes must be in order of their answers; good time is [`patience_ns()`].
///
/// They are from the first moment on from which 85 % of what was due were answered in good time,
/// over 100 ms and over half a second. What was due just before that moment was late: so it is over
/// once 85 % of what was due in the 100 ms before have been answered as well, unless fewer ever
/// are, and once something has been that was due later.
pub fn recovery(
    successes: &[Success],
    (from_ns, until_ns): (u64, u64),
    demand: Demand,
    patience_ns: u64,
) -> Option<u64> {
    let first = successes.partition_point(|success| success.completed_ns < from_ns);
    // An answer to what was due before the fault may have been on its way already: it says
    // nothing of the time after.
    let meant = successes[first..].iter();
    let meant = meant.filter(|success| (from_ns..until_ns).contains(&success.due_ns));
    let mut due: Vec<Success> = meant.copied().collect();
    due.sort_unstable_by_key(|success| (success.due_ns, success.completed_ns));
    let is_in_time = |success: &Success| success.took_ns() <= patience_ns;
    let in_time: Vec<Success> = due.iter().copied().filter(is_in_time).collect();
    let window = Window::of(demand);
    let kept_ns = kept_from(&in_time, until_ns, &window)?;
    let of_window = |begin_ns: u64| {
        let end_ns = begin_ns.saturating_add(window.length_ns);
        move |success: &&Success| (begin_ns..end_ns).contains(&success.due_ns)
    };
    let later = in_time.iter().filter(of_window(kept_ns));
    let answered_ns = later.map(|success| success.completed_ns).min()?;
    let span_ns = window.length_ns.min(kept_ns.saturating_sub(from_ns));
    let sooner = due
        .iter()
        .filter(|success| (kept_ns.saturating_sub(span_ns)..kept_ns).contains(&success.due_ns));
    let mut sooner_ns: Vec<u64> = sooner.map(|success| success.completed_ns).collect();
    sooner_ns.sort_unstable();
    let last = window.needed_within(span_ns).checked_sub(1);
    let last_ns = last.and_then(|place| sooner_ns.get(place)).copied();
    let over_ns = answered_ns.max(last_ns.unwrap_or(0));
    (over_ns < until_ns).then_some(over_ns)
}

/// What is answered within this is answered in good time: 100 ms, or three times the median of the
/// second before the first fault of a run, where that is more, as on a host that has too much to
/// do. Successes must be in order of their answers.
pub fn patience_ns(successes: &[Success], first_fault_ns: u64) -> u64 {
    let end = successes.partition_point(|success| success.completed_ns < first_fault_ns);
    let since_ns = first_fault_ns.saturating_sub(USUAL_NS);
    let recent = successes[..end].iter().rev();
    let recent = recent.take_while(|success| success.completed_ns >= since_ns);
    let recent = recent.filter(|success| success.due_ns >= since_ns);
    let mut took_ns: Vec<u64> = recent.map(Success::took_ns).collect();
    took_ns.sort_unstable();
    let usual_ns = took_ns.get(took_ns.len() / 2).copied().unwrap_or(0);
    usual_ns.saturating_mul(3).max(WINDOW_NS)
}

/// The first moment at which something was due from which on 85 % of what was due was answered
/// in good time: of what was due in the window from there on, and of what was in half a
/// second, as far as that lies before `until_ns`. The window must lie before it as a whole.
fn kept_from(in_time: &[Success], until_ns: u64, window: &Window) -> Option<u64> {
    let place = |at_ns: u64| in_time.partition_point(|success| success.due_ns < at_ns);
    let end_of = |begin_ns: u64| begin_ns.saturating_add(window.length_ns);
    let count = |begin_ns: u64| (place(end_of(begin_ns)) - place(begin_ns)) as u64;
    let fits = |begin_ns: &u64| end_of(*begin_ns) <= until_ns;
    let is_kept = |from_ns: u64| {
        let begins = (0..KEPT_NS.div_ceil(window.step_ns))
            .map(|number| from_ns.saturating_add(number * window.step_ns))
            .take_while(fits);
        let counts: Vec<u64> = begins.map(count).collect();
        counts.iter().sum::<u64>() >= window.needed(counts.len() as u64)
    };
    let bursts = in_time.chunk_by(|one, other| one.due_ns == other.due_ns);
    let mut begins = bursts.filter_map(|burst| Some(burst.first()?.due_ns)).take_while(fits);
    begins.find(|from_ns| count(*from_ns) >= window.needed(1) && is_kept(*from_ns))
}

impl Window {
    /// At least 100 ms long. Where bursts are further apart than that, it is as long, holds one of
    /// them, and has the next one after it.
    fn of(demand: Demand) -> Self {
        let (due, burst) = (u128::from(demand.due_per_s.max(1)), u128::from(demand.burst.max(1)));
        let bursts = (u128::from(WINDOW_NS) * due).div_ceil(burst * NS_PER_S).max(1);
        let step_ns = u64::try_from(bursts * burst * NS_PER_S / due).unwrap_or(u64::MAX);
        let length_ns = if bursts == 1 { WINDOW_NS } else { step_ns };
        let bursts = u64::try_from(bursts).unwrap_or(u64::MAX);
        Self { length_ns, step_ns: step_ns.max(1), bursts, demand }
    }

    /// 85 % of what can be served of that which is due in so many of them; at least one.
    fn needed(&self, windows: u64) -> u64 {
        let Demand { due_per_s, burst, served_per_s } = self.demand;
        let due = u128::from(self.bursts) * u128::from(windows) * u128::from(burst.max(1));
        let needed = due * u128::from(served_per_s) * SERVED_PERCENT;
        let needed = needed.div_ceil(100 * u128::from(due_per_s.max(1))).max(1);
        u64::try_from(needed).unwrap_or(u64::MAX)
    }

    /// The same of a part of one.
    fn needed_within(&self, span_ns: u64) -> usize {
        let needed = u128::from(self.needed(1)) * u128::from(span_ns);
        usize::try_from(needed / u128::from(self.length_ns.max(1))).unwrap_or(usize::MAX)
    }
}

/// So much of what is due must be served. Between one client of eight that may be out and one of
/// six that may not, and off the shares of five, eight and ten clients: at such a share the
/// rounding would decide.
const SERVED_PERCENT: u128 = 85;

const WINDOW_NS: u64 = 100_000_000;
/// For so long after an outage what is due must be answered in good time for it to be over.
const KEPT_NS: u64 = 500_000_000;
/// For how long before the first fault it is looked what is usual.
const USUAL_NS: u64 = 1_000_000_000;
const NS_PER_S: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const FROM: u64 = 1_000;
    const UNTIL: u64 = 5_000;

    /// Eight clients, five operations every 10 ms, in turns.
    const DEMAND: Demand = Demand { due_per_s: 500, burst: 5, served_per_s: 500 };

    /// What is due from 0 to 5,000 ms, and when it is answered, if it is: milliseconds, and the
    /// client.
    fn answered(answer: impl Fn(u64, u64) -> Option<u64>) -> Vec<Success> {
        let due = (0..UNTIL).step_by(10).flat_map(|due_ms| [due_ms; 5]).zip((0..8).cycle());
        let success = |(due_ms, client)| {
            let completed_ns = answer(due_ms, client)? * MS;
            Some(Success { completed_ns, due_ns: due_ms * MS, client })
        };
        let mut successes: Vec<Success> = due.filter_map(success).collect();
        successes.sort_unstable();
        successes
    }

    /// Until when clients are out after a fault at 1,000 ms, in milliseconds.
    fn over(successes: &[Success], demand: Demand) -> Option<u64> {
        over_since(FROM, successes, demand)
    }

    /// The same after one at another moment; what is usual is what was before 1,000 ms.
    fn over_since(from_ms: u64, successes: &[Success], demand: Demand) -> Option<u64> {
        let patience_ns = patience_ns(successes, FROM * MS);
        let over_ns = recovery(successes, (from_ms * MS, UNTIL * MS), demand, patience_ns);
        over_ns.map(|at_ns| at_ns / MS)
    }

    /// Whoever is out from the fault on has all answers at one moment; the others after 3 ms.
    fn out_until(is_out: impl Fn(u64) -> bool, until_ms: u64) -> Vec<Success> {
        answered(|due_ms, client| {
            let waits = is_out(client) && (FROM..until_ms).contains(&due_ms);
            Some(if waits { until_ms } else { due_ms + 3 })
        })
    }

    #[test]
    fn what_piled_up_and_is_answered_in_a_burst_is_no_recovery() {
        // Five of eight are served from 1,155 ms on, when all that waited of them is answered: more
        // than is due in 100 ms. The others wait until 1,400 ms.
        let successes = answered(|due_ms, client| {
            let back_ms = if client < 3 { 1_400 } else { 1_155 };
            let waits = (FROM..back_ms).contains(&due_ms);
            Some(if waits { back_ms } else { due_ms + 3 })
        });
        assert_eq!(over(&successes, DEMAND), Some(1_400));
    }

    #[test]
    fn while_half_the_clients_are_out_it_is_not_over() {
        for until_ms in [1_155, 1_400, 2_000] {
            let successes = out_until(|client| client % 2 == 0, until_ms);
            assert_eq!(over(&successes, DEMAND), Some(until_ms));
        }
        // Nor where they are refused.
        let refused = answered(|due_ms, client| {
            let is_refused = client % 2 == 0 && (FROM..1_700).contains(&due_ms);
            (!is_refused).then_some(due_ms + 3)
        });
        let over_ms = over(&refused, DEMAND).expect("it recovers");
        assert!((1_660..=1_703).contains(&over_ms), "15 % of 100 ms may fail: {over_ms}");
    }

    #[test]
    fn a_quarter_of_the_clients_that_is_out_holds_it_up_and_one_of_eight_does_not() {
        assert_eq!(over(&out_until(|client| client % 4 == 0, 2_000), DEMAND), Some(2_000));
        assert_eq!(over(&out_until(|client| client == 3, 2_000), DEMAND), Some(1_003));
    }

    #[test]
    fn one_client_of_ten_that_is_out_longer_changes_nothing_at_any_rate() {
        for rate_per_s in [100, 250, 300, 500] {
            let demand = Demand { due_per_s: rate_per_s, burst: 5, served_per_s: rate_per_s };
            let bursts = (0..rate_per_s).map(|number| number * 5_000 * MS / rate_per_s);
            let due = bursts.flat_map(|due_ns| [due_ns; 5]).zip((0..10).cycle());
            let success = |(due_ns, client): (u64, u64)| {
                let back_ns = if client == 9 { 2_000 * MS } else { 1_200 * MS };
                let waits = (FROM * MS..back_ns).contains(&due_ns);
                let completed_ns = if waits { back_ns } else { due_ns + 3 * MS };
                Success { completed_ns, due_ns, client }
            };
            let mut successes: Vec<Success> = due.map(success).collect();
            successes.sort_unstable();
            assert_eq!(over(&successes, demand), Some(1_200), "at {rate_per_s} per second");
        }
    }

    #[test]
    fn an_outage_buys_the_next_one_no_patience() {
        let successes = answered(|due_ms, client| {
            let first = (FROM..1_900).contains(&due_ms).then_some(1_900);
            let second = (client % 2 == 0 && (2_000..3_200).contains(&due_ms)).then_some(3_200);
            first.or(second).or(Some(due_ms + 3))
        });
        // The first is looked at until the second fault.
        let patience_ns = patience_ns(&successes, FROM * MS);
        let first = recovery(&successes, (FROM * MS, 2_000 * MS), DEMAND, patience_ns);
        assert_eq!(first, Some(1_900 * MS));
        assert_eq!(over_since(2_000, &successes, DEMAND), Some(3_200));
    }

    #[test]
    fn who_is_answered_long_after_the_others_is_not_waited_for() {
        // Nearly all that was due meanwhile is given up.
        let few = answered(|due_ms, client| match due_ms {
            1_000..1_200 => (client == 0 && due_ms >= 1_100).then_some(4_000),
            _ => Some(due_ms + 3),
        });
        assert_eq!(over(&few, DEMAND), Some(1_203));
        let rest = answered(|due_ms, client| match due_ms {
            1_000..1_200 => Some(if client == 0 { 4_000 } else { 1_200 }),
            _ => Some(due_ms + 3),
        });
        assert_eq!(over(&rest, DEMAND), Some(1_200));
    }

    #[test]
    fn a_short_stall_after_a_fault_that_nobody_feels_is_no_outage() {
        let stalled = |until_ms: u64| {
            answered(|due_ms, _| {
                Some(if (1_100..until_ms).contains(&due_ms) { until_ms } else { due_ms + 3 })
            })
        };
        assert_eq!(over(&stalled(1_260), DEMAND), Some(1_003));
        // A long one is not told from what a fault costs.
        assert_eq!(over(&stalled(1_500), DEMAND), Some(1_500));
    }

    #[test]
    fn where_all_are_out_it_is_over_with_the_first_answers_however_many_come_at_once() {
        for until_ms in [1_050, 1_250, 1_300, 4_000] {
            let successes = out_until(|_| true, until_ms);
            assert_eq!(over(&successes, DEMAND), Some(until_ms));
        }
        // All that waited was given up, and none of it ever answered.
        let given_up =
            answered(|due_ms, _| (!(FROM..1_300).contains(&due_ms)).then_some(due_ms + 3));
        assert_eq!(over(&given_up, DEMAND), Some(1_303));
    }

    #[test]
    fn a_backlog_that_takes_its_time_is_part_of_the_outage() {
        // From 2,000 ms on they are answered in order, four times as fast as they were due.
        let successes = answered(|due_ms, _| {
            let waits = (FROM..2_300).contains(&due_ms);
            Some(if waits { 2_000 + (due_ms - FROM) / 4 } else { due_ms + 3 })
        });
        let over_ms = over(&successes, DEMAND).expect("it recovers");
        assert!((2_250..=2_330).contains(&over_ms), "{over_ms}");
    }

    #[test]
    fn who_is_served_and_then_is_not_was_not_served_again() {
        let successes = answered(|due_ms, _| {
            let waits = (FROM..1_200).contains(&due_ms) || (1_350..1_900).contains(&due_ms);
            let back_ms = if due_ms < 1_200 { 1_200 } else { 1_900 };
            Some(if waits { back_ms } else { due_ms + 3 })
        });
        assert_eq!(over(&successes, DEMAND), Some(1_900));
    }

    #[test]
    fn a_host_that_stumbles_once_takes_no_recovery_back() {
        let successes = answered(|due_ms, _| {
            let back_ms = if due_ms < 1_200 { 1_200 } else { 1_530 };
            let waits = (FROM..1_200).contains(&due_ms) || (1_400..1_530).contains(&due_ms);
            Some(if waits { back_ms } else { due_ms + 3 })
        });
        assert_eq!(over(&successes, DEMAND), Some(1_200), "within half a second 85 % were");
    }

    #[test]
    fn a_fault_that_nobody_feels_costs_an_answer() {
        assert_eq!(over(&answered(|due_ms, _| Some(due_ms + 3)), DEMAND), Some(1_003));
    }

    #[test]
    fn late_answers_to_what_was_due_before_end_no_outage() {
        let successes = answered(|due_ms, _| match due_ms {
            900..1_000 => Some(1_001),
            1_000..1_400 => Some(1_400),
            _ => Some(due_ms + 3),
        });
        assert_eq!(over(&successes, DEMAND), Some(1_400));
    }

    #[test]
    fn where_answers_take_long_as_a_rule_that_is_good_time() {
        let slow = |due_ms: u64, client: u64| {
            let waits = (FROM..1_600).contains(&due_ms) && client < 4;
            if waits { 1_750 } else { due_ms + 150 }
        };
        let over_ms = over(&answered(|due_ms, client| Some(slow(due_ms, client))), DEMAND);
        // Three times 150 ms are borne: what was due from 1,300 ms on came in good time.
        assert_eq!(over_ms, Some(1_750));
    }

    #[test]
    fn clients_of_nodes_that_can_serve_nobody_are_not_waited_for() {
        let successes = answered(|due_ms, client| match client < 2 {
            true => (due_ms < FROM).then_some(due_ms + 3),
            false => Some(if (FROM..1_300).contains(&due_ms) { 1_300 } else { due_ms + 3 }),
        });
        assert_eq!(over(&successes, DEMAND), None);
        let served = Demand { served_per_s: 375, ..DEMAND };
        assert_eq!(over(&successes, served), Some(1_300));
    }

    #[test]
    fn what_is_due_just_before_the_next_fault_shows_it_if_100_ms_are_left() {
        let successes = out_until(|_| true, 1_200);
        let until =
            |until_ms: u64| recovery(&successes, (FROM * MS, until_ms * MS), DEMAND, 100 * MS);
        assert_eq!(
            until(1_300),
            Some(1_200 * MS),
            "what was due from 1,100 ms on came in good time"
        );
        assert_eq!(until(1_190), None);
        assert_eq!(until(1_200), None, "it is over with the next fault, and not before");
    }

    #[test]
    fn windows_hold_whole_bursts_whatever_the_rate() {
        let of = |due_per_s, burst| {
            let window = Window::of(Demand { due_per_s, burst, served_per_s: due_per_s });
            (window.length_ns / MS, window.step_ns / MS, window.needed(1), window.needed(5))
        };
        assert_eq!(of(500, 5), (100, 100, 43, 213));
        assert_eq!(of(500, 1), (100, 100, 43, 213));
        assert_eq!(of(300, 5), (100, 100, 26, 128));
        assert_eq!(of(70, 5), (142, 142, 9, 43));
        assert_eq!(of(20, 5), (100, 250, 5, 22));
        assert_eq!(of(1, 5), (100, 5_000, 5, 22));
        let half = Demand { due_per_s: 500, burst: 5, served_per_s: 250 };
        assert_eq!(Window::of(half).needed(1), 22);
        assert_eq!(Window::of(half).needed_within(50 * MS), 11);
        let none = Demand { due_per_s: 0, burst: 0, served_per_s: 0 };
        assert_eq!(Window::of(none).needed(1), 1);
    }

    #[test]
    fn a_seldom_asked_group_is_back_with_the_first_burst_that_is_answered() {
        let demand = Demand { due_per_s: 20, burst: 5, served_per_s: 20 };
        let due = (0..UNTIL).step_by(250).filter(|due_ms| !(FROM..1_600).contains(due_ms));
        let success = |(due_ms, client): (u64, u64)| Success {
            completed_ns: (due_ms + 3) * MS,
            due_ns: due_ms * MS,
            client,
        };
        let each = due.flat_map(|due_ms| (0..5).map(move |client| (due_ms, client)));
        let successes: Vec<Success> = each.map(success).collect();
        assert_eq!(over(&successes, demand), Some(1_753));
    }

    #[test]
    fn no_success_at_all_is_no_recovery() {
        assert_eq!(over(&[], DEMAND), None);
        assert_eq!(over(&out_until(|_| true, 9_000), DEMAND), None);
    }
}
