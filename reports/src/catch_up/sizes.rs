//! The batch sizes of a run beside each other: which was the fastest, and whether that is more than
//! noise.
//!
//! Pure. Invariant: a difference is called one only by a test that says so, and where there are too
//! few trials for it to ever say so, that is said.

use super::{CatchUp, ranks::mann_whitney};
use crate::figures::{ms, plural};
use crate::record::RunRecord;
use crate::summary::nearest_rank;
use crate::{P99_SAMPLES_MIN, Summary};
use std::collections::BTreeMap;

/// All trials with one batch size.
#[derive(Debug, Clone)]
pub(crate) struct OfSize<'a> {
    pub(crate) batch_size: u64,
    pub(crate) trials: Vec<&'a CatchUp>,
    /// How long those took that came to their end, the shortest first.
    pub(crate) took_ms: Vec<f64>,
    /// Of these.
    pub(crate) took: Option<Summary>,
    pub(crate) entries_per_s: Option<f64>,
    pub(crate) mb_per_s: Option<f64>,
    /// How long commits took before the fault, and while the follower caught up.
    pub(crate) before: Option<&'a Summary>,
    pub(crate) during: Option<&'a Summary>,
}

/// All sizes, and how they compare.
#[derive(Debug, Clone)]
pub(crate) struct Compared<'a> {
    /// The smallest first.
    pub(crate) sizes: Vec<OfSize<'a>>,
    /// The size with the lowest median; none where sizes made no difference.
    pub(crate) best: Option<u64>,
    /// Which is the best, in a sentence; nothing where there is only one.
    pub(crate) verdict: Option<String>,
}

/// The catch-ups of a run by batch size.
pub(crate) fn compared(record: &RunRecord) -> Compared<'_> {
    let mut by_size: BTreeMap<u64, Vec<&CatchUp>> = BTreeMap::new();
    for caught in &record.catch_ups {
        by_size.entry(caught.batch_size).or_default().push(caught);
    }
    let sizes: Vec<OfSize<'_>> =
        by_size.into_iter().map(|(size, trials)| of_size(record, size, trials)).collect();
    let mut ranked: Vec<(&OfSize<'_>, f64)> =
        sizes.iter().filter_map(|of| Some((of, of.took.as_ref()?.p50))).collect();
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
    // Else no chunk was ever asked for, and that one size was the fastest is chance.
    let counts = sizes.iter().any(OfSize::was_fetched);
    let best = ranked.first().map(|(of, _)| of.batch_size).filter(|_| counts);
    let verdict = match &ranked[..] {
        [_, ..] if !counts => Some(
            "Nothing was fetched in bulk, so batch sizes made no difference: what was missed came in \
             the leader's own window, or in a snapshot."
                .to_owned(),
        ),
        [(best, best_ms), (next, next_ms), ..] => Some(told((*best, *best_ms), (*next, *next_ms))),
        _ => None,
    };
    Compared { sizes, best, verdict }
}

fn of_size<'a>(record: &'a RunRecord, size: u64, trials: Vec<&'a CatchUp>) -> OfSize<'a> {
    let mut took_ms: Vec<f64> = trials.iter().filter_map(|caught| caught.took_ms()).collect();
    took_ms.sort_by(f64::total_cmp);
    let median = |of: fn(&CatchUp) -> Option<f64>| {
        let values: Vec<f64> = trials.iter().filter_map(|caught| of(caught)).collect();
        Summary::from_samples(&values).map(|summary| summary.p50)
    };
    let metric = |when: &str| record.metrics.get(&format!("batch_{size}_commit_{when}_ms"));
    OfSize {
        batch_size: size,
        took: Summary::from_samples(&took_ms),
        entries_per_s: median(CatchUp::entries_per_s),
        mb_per_s: median(CatchUp::mb_per_s),
        before: metric("before"),
        during: metric("during"),
        took_ms,
        trials,
    }
}

impl<'a> OfSize<'a> {
    /// Half of the trials took between these.
    pub(crate) fn quartiles_ms(&self) -> Option<(f64, f64)> {
        let sorted = &self.took_ms[..];
        (!sorted.is_empty()).then(|| (nearest_rank(sorted, 25), nearest_rank(sorted, 75)))
    }

    /// The trial in the middle: half of the others were faster.
    pub(crate) fn middle(&self) -> Option<&'a CatchUp> {
        let p50 = self.took.as_ref()?.p50;
        self.trials.iter().find(|caught| caught.catch_up_ms == Some(p50)).copied()
    }

    /// Whether any of it came in bulk.
    pub(crate) fn was_fetched(&self) -> bool {
        self.trials.iter().any(|caught| caught.fetched > 0)
    }

    /// What stands in place of times where there are none.
    pub(crate) fn without_end(&self) -> Option<String> {
        let trials = || plural(self.trials.len() as u64, "trial");
        self.took_ms.is_empty().then(|| format!("none came to its end in {}", trials()))
    }

    /// From how many others entries were fetched, the fewest and the most.
    pub(crate) fn peers(&self) -> String {
        let peers = self.trials.iter().map(|caught| caught.peers);
        match (peers.clone().min().unwrap_or(0), peers.max().unwrap_or(0)) {
            (fewest, most) if fewest == most => fewest.to_string(),
            (fewest, most) => format!("{fewest} to {most}"),
        }
    }

    /// Entries in a chunk as they really were: a chunk has a limit in bytes as well.
    pub(crate) fn entries_per_chunk(&self) -> Option<f64> {
        let sum =
            |of: fn(&CatchUp) -> u64| self.trials.iter().map(|caught| of(caught)).sum::<u64>();
        let (entries, chunks) = (sum(|caught| caught.fetched), sum(|caught| caught.chunks));
        (chunks > 0).then(|| entries as f64 / chunks as f64)
    }

    /// Terms that began meanwhile, in all trials.
    pub(crate) fn terms(&self) -> u64 {
        self.trials.iter().map(|caught| caught.terms).sum()
    }
}

/// The tail of commits, as far as there are enough of them to have one.
pub(crate) fn tail(summary: Option<&Summary>) -> Option<String> {
    let Summary { count, p99, max, .. } = summary?;
    Some(match p99.filter(|_| *count >= P99_SAMPLES_MIN) {
        Some(p99) => format!("p99 {}", ms(p99)),
        None => format!("max {} of {count}", ms(*max)),
    })
}

fn told((best, best_ms): (&OfSize<'_>, f64), (next, next_ms): (&OfSize<'_>, f64)) -> String {
    let (size, other) = (best.batch_size, next.batch_size);
    let medians = format!("its median is {}, that of {other} {}", ms(best_ms), ms(next_ms));
    let (n, m) = (best.took_ms.len(), next.took_ms.len());
    if n.min(m) < TRIALS_MIN {
        return format!(
            "Batch size {size} had the lowest median ({medians}); with {n} and {m} trials nobody can \
             tell whether that is more than noise: a Mann-Whitney test at 5 % needs {TRIALS_MIN} of \
             each."
        );
    }
    let p = mann_whitney(&best.took_ms, &next.took_ms).unwrap_or(1.0);
    let rule = format!("two-sided Mann-Whitney test of {n} and {m} trials, p = {p:.3}");
    match p < SIGNIFICANT {
        true => format!("Batch size {size} is the fastest: {medians}, more than noise ({rule})."),
        false => format!(
            "Batch size {size} had the lowest median ({medians}), but the difference to {other} is \
             no more than noise ({rule}, below {SIGNIFICANT} would be more)."
        ),
    }
}

const SIGNIFICANT: f64 = 0.05;
/// Of three and three even those that lie wholly apart would do so by chance once in ten times.
const TRIALS_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    fn run(times: &[(u64, &[f64])]) -> RunRecord {
        let caught = |size: u64, took_ms: f64| CatchUp {
            batch_size: size,
            catch_up_ms: Some(took_ms),
            entries: 1_000,
            fetched: 900,
            chunks: 9,
            peers: size % 3 + 1,
            ..CatchUp::default()
        };
        let of_size = |(size, times): &(u64, &[f64])| -> Vec<CatchUp> {
            times.iter().map(|took_ms| caught(*size, *took_ms)).collect()
        };
        RunRecord { catch_ups: times.iter().flat_map(of_size).collect(), ..record() }
    }

    fn verdict(times: &[(u64, &[f64])]) -> Option<String> {
        compared(&run(times)).verdict
    }

    #[test]
    fn the_best_is_named_and_so_is_whether_it_is_more_than_noise() {
        let slow = [300.0, 310.0, 320.0, 330.0, 340.0];
        let fast = [200.0, 210.0, 220.0, 230.0, 240.0];
        let text = verdict(&[(100, &slow), (500, &fast)]).unwrap();
        assert!(text.starts_with("Batch size 500 is the fastest"), "{text}");
        assert!(text.contains("of 5 and 5 trials, p = 0.008"), "{text}");
        let mixed = [205.0, 215.0, 225.0, 235.0, 236.0];
        let text = verdict(&[(100, &mixed), (500, &fast)]).unwrap();
        assert!(text.contains("500 had the lowest median") && text.contains("no more than noise"));
        let text = verdict(&[(100, &slow[..3]), (500, &fast[..3])]).unwrap();
        assert!(text.contains("with 3 and 3 trials nobody can tell"), "{text}");
        assert!(text.contains("needs 4 of each"), "{text}");
        assert_eq!(verdict(&[(100, &slow)]), None, "one alone is no comparison");
    }

    #[test]
    fn sizes_of_chunks_that_nobody_asked_for_are_not_compared() {
        let mut record = run(&[(100, &[3.0; 5]), (500, &[2.0; 5])]);
        record.catch_ups.iter_mut().for_each(|caught| (caught.fetched, caught.chunks) = (0, 0));
        let compared = compared(&record);
        let verdict = compared.verdict.unwrap();
        assert!(verdict.starts_with("Nothing was fetched in bulk"), "{verdict}");
        assert_eq!(compared.best, None, "and none of them is the best");
    }

    #[test]
    fn what_never_ended_is_a_trial_and_no_time() {
        let mut record = run(&[(7, &[10.0, 30.0, 20.0])]);
        record.catch_ups[1].catch_up_ms = None;
        let compared = compared(&record);
        let of = &compared.sizes[0];
        assert_eq!((of.trials.len(), of.took_ms.clone()), (3, vec![10.0, 20.0]));
        assert_eq!((of.quartiles_ms(), of.peers()), (Some((10.0, 20.0)), "2".to_owned()));
        assert_eq!((of.entries_per_chunk(), of.entries_per_s), (Some(100.0), Some(50_000.0)));
        assert_eq!(of.middle().and_then(|caught| caught.catch_up_ms), Some(10.0));
        assert_eq!((compared.best, of.without_end()), (Some(7), None));
        record.catch_ups.iter_mut().for_each(|caught| caught.catch_up_ms = None);
        let none = super::compared(&record);
        assert!(none.best.is_none() && none.verdict.is_none() && none.sizes[0].middle().is_none());
        let told = none.sizes[0].without_end();
        assert_eq!(told.as_deref(), Some("none came to its end in 3 trials"));
    }
}
