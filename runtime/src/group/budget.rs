//! A limit in bytes, beside every limit in count: 16 384 requests are few or many by their size.
//!
//! Knows nothing of what it weighs. Invariant: what was taken is given back when its [`Room`] is
//! dropped, however that comes about, and never twice.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// So many bytes may be held at a time.
#[derive(Debug)]
pub(crate) struct Budget {
    held_bytes: AtomicUsize,
    bytes_max: usize,
    /// The larger budget that this one is a share of.
    whole: Option<Arc<Budget>>,
}

/// Bytes that are held, until this is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { held_bytes: AtomicUsize::new(0), bytes_max, whole: None })
    }

    /// A share of `whole`: what it holds counts in both.
    pub(crate) fn share(whole: &Arc<Self>, bytes_max: usize) -> Arc<Self> {
        let whole = Some(Arc::clone(whole));
        Arc::new(Self { held_bytes: AtomicUsize::new(0), bytes_max, whole })
    }

    /// How much it holds at most.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.held_bytes.load(Ordering::Relaxed) == 0
    }

    /// Room for so many bytes, if there is. One thing fits into an empty budget whatever it
    /// weighs: each has a limit of its own, which may be larger than the budget.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Option<Room> {
        self.hold(bytes).then(|| Room { budget: Arc::clone(self), bytes })
    }

    fn hold(&self, bytes: usize) -> bool {
        let with = |held: usize| {
            let after = held.saturating_add(bytes);
            (held == 0 || after <= self.bytes_max).then_some(after)
        };
        // A number of its own, which orders nothing else.
        if self.held_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with).is_err() {
            return false;
        }
        let fits = self.whole.as_ref().is_none_or(|whole| whole.hold(bytes));
        if !fits {
            self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.give_back(bytes);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_makes_room_and_what_weighs_nothing_always_fits() {
        let budget = Budget::new(10);
        let first = budget.take(6).expect("it is empty");
        let _second = budget.take(4).expect("it is just full");
        assert!(budget.take(1).is_none(), "eleven of ten");
        assert!(budget.take(0).is_some());
        drop(first);
        assert!(budget.take(6).is_some(), "the first has given its room back");
    }

    #[test]
    fn one_thing_fits_into_an_empty_budget_whatever_it_weighs() {
        let budget = Budget::new(10);
        let large = budget.take(1_000).expect("it is empty");
        assert!(budget.take(1).is_none());
        drop(large);
        assert!(budget.take(10).is_some());
    }

    #[test]
    fn a_share_is_refused_by_its_own_limit_and_by_that_of_the_whole() {
        let whole = Budget::new(10);
        let shares = [Budget::share(&whole, 8), Budget::share(&whole, 8)];
        let held = shares[0].take(8).expect("within its share");
        assert!(shares[0].take(1).is_none(), "nine of its eight");
        assert!(shares[1].take(3).is_none(), "eleven of ten in all");
        let _rest = shares[1].take(2).expect("a refused attempt holds nothing");
        drop(held);
        assert!(shares[1].take(6).is_some(), "the whole has room again");
    }
}
