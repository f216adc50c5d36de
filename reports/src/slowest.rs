//! The slowest operations, one for each stretch of time, and those that nobody answered.
//!
//! An outage makes hundreds of operations slow at once: one of them stands for all that were due
//! in the same half second. Invariant: memory grows with the length of a run, not with its rate.

use crate::sample::{Outcome, Sample};
use std::collections::BTreeMap;

/// What was slow when.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slowest(BTreeMap<u64, Stretch>);

/// Half a second.
#[derive(Debug, Clone, Default)]
struct Stretch {
    slowest: Option<Sample>,
    /// The first that was never answered, and how many there are.
    open: Option<(Sample, u64)>,
}

/// An operation that stands for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slow {
    pub(crate) sample: Sample,
    /// How many it stands for, itself among them, where they are counted.
    pub(crate) count: u64,
}

impl Slowest {
    pub(crate) fn add(&mut self, sample: &Sample) {
        let stretch = self.0.entry(sample.intended_ns / STRETCH_NS).or_default();
        match sample.latency_ns() {
            Some(latency_ns) if sample.outcome == Outcome::Ok => {
                let slowest = stretch.slowest.get_or_insert(*sample);
                if slowest.latency_ns() < Some(latency_ns) {
                    *slowest = *sample;
                }
            }
            // What was refused was not slow.
            Some(_) => {}
            None => {
                let (first, count) = stretch.open.get_or_insert((*sample, 0));
                *count += 1;
                if sample.intended_ns < first.intended_ns {
                    *first = *sample;
                }
            }
        }
    }

    /// The slowest of each stretch; of too many stretches, those of the slowest.
    pub(crate) fn each(&self, count_max: usize) -> Vec<Sample> {
        let mut slowest: Vec<Sample> =
            self.0.values().filter_map(|stretch| stretch.slowest).collect();
        slowest.sort_by_key(|sample| std::cmp::Reverse(sample.latency_ns()));
        slowest.truncate(count_max);
        slowest
    }

    /// The slowest, slowest first, no two of them from neighbouring stretches.
    pub(crate) fn answered(&self, count_max: usize) -> Vec<Slow> {
        let mut ranked: Vec<(u64, Sample)> =
            self.0.iter().filter_map(|(at, stretch)| Some((*at, stretch.slowest?))).collect();
        ranked.sort_by_key(|(at, sample)| (std::cmp::Reverse(sample.latency_ns()), *at));
        let mut taken: Vec<u64> = Vec::new();
        let mut slow = Vec::new();
        for (at, sample) in ranked {
            if slow.len() == count_max {
                break;
            }
            if taken.iter().all(|other| other.abs_diff(at) > 1) {
                taken.push(at);
                slow.push(Slow { sample, count: 1 });
            }
        }
        slow
    }

    /// What was never answered, in order of time, neighbouring stretches as one; and how many
    /// groups there are beyond `count_max`.
    pub(crate) fn open(&self, count_max: usize) -> (Vec<Slow>, usize) {
        let mut groups: Vec<(u64, Slow)> = Vec::new();
        let stretches = self.0.iter().filter_map(|(at, stretch)| Some((*at, stretch.open?)));
        for (at, (sample, count)) in stretches {
            match groups.last_mut() {
                Some((last, group)) if *last + 1 == at => {
                    group.count += count;
                    *last = at;
                }
                _ => groups.push((at, Slow { sample, count })),
            }
        }
        let more = groups.len().saturating_sub(count_max);
        (groups.into_iter().take(count_max).map(|(_, group)| group).collect(), more)
    }
}

const STRETCH_NS: u64 = 500_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::tests::sample;

    const MS: u64 = 1_000_000;

    #[test]
    fn one_stands_for_all_of_its_stretch_and_the_next() {
        let mut slowest = Slowest::default();
        for n in 0..2_000 {
            let due_ns = n * 2 * MS;
            // An outage between 1.4 s and 1.6 s, and a hiccup at 3 s.
            let until_ns = match n {
                700..800 => 1_600 * MS,
                1_500 => due_ns + 20 * MS,
                _ => due_ns + MS,
            };
            slowest.add(&sample(due_ns, Some(until_ns), Outcome::Ok));
        }
        let told: Vec<u64> =
            slowest.answered(3).iter().map(|slow| slow.sample.latency_ns().unwrap() / MS).collect();
        assert_eq!(told, [200, 20, 1]);
    }

    #[test]
    fn what_nobody_answered_is_counted_in_groups() {
        let mut slowest = Slowest::default();
        for at_ms in [10, 600, 1_100, 9_000] {
            slowest.add(&sample(at_ms * MS, None, Outcome::Unknown));
            slowest.add(&sample(at_ms * MS, Some(at_ms * MS + 5), Outcome::Fail));
        }
        assert!(slowest.answered(9).is_empty(), "a refusal is not slow");
        let (groups, more) = slowest.open(1);
        assert_eq!((groups.len(), more), (1, 1));
        assert_eq!((groups[0].sample.intended_ns, groups[0].count), (10 * MS, 3));
    }
}
