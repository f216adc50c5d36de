//! A distribution in seven numbers.
//!
//! Quantiles are exact, by nearest rank, where the samples are at hand. A p99 is absent below
//! [`P99_SAMPLES_MIN`] samples: with fewer it would be one of the three slowest, not a quantile.
//! What was never answered has no latency and is no sample: beside the quantiles of what was
//! answered stand those of all that was due, which end where the answers do.

use crate::figures::digits;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// From this many samples on a p99 is quoted.
pub const P99_SAMPLES_MIN: u64 = 300;

/// Count, extremes, quantiles and mean; all but the count in the unit of the samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of samples, at least 1.
    pub count: u64,
    /// Smallest sample.
    pub min: f64,
    /// Median.
    pub p50: f64,
    /// Nine of ten are at most this.
    pub p90: f64,
    /// 99 of 100 are at most this; absent below [`P99_SAMPLES_MIN`] samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// Largest sample.
    pub max: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Of latencies: the quantiles of all that were due, of which the samples are those that were
    /// answered ok.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<Offered>,
}

/// Operations that were due, also those that were not answered ok. A quantile that lies among
/// these is `None`, and `null` in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offered {
    /// How many were due.
    pub count: u64,
    /// How many of them were not answered ok: they failed, or nobody knows what became of them.
    pub not_ok: u64,
    /// Half of them were answered ok within this.
    pub p50: Option<f64>,
    /// Nine of ten were.
    pub p90: Option<f64>,
    /// 99 of 100 were; `None` as well below [`P99_SAMPLES_MIN`] of them.
    pub p99: Option<f64>,
}

impl Summary {
    /// From the samples themselves, exactly. What is not finite is left out; `None` if nothing is
    /// left.
    pub fn from_samples(samples: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.iter().copied().filter(|x| x.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let count = sorted.len() as u64;
        Some(Self {
            count,
            min,
            p50: nearest_rank(&sorted, 50),
            p90: nearest_rank(&sorted, 90),
            p99: (count >= P99_SAMPLES_MIN).then(|| nearest_rank(&sorted, 99)),
            max,
            mean: sorted.iter().map(|x| x / count as f64).sum(),
            offered: None,
        })
    }

    /// From a histogram whose values are divided by `divisor`; `None` if it is empty. Quantiles
    /// are as fine as the histogram.
    pub fn from_histogram(histogram: &Histogram<u64>, divisor: f64) -> Option<Self> {
        let count = histogram.len();
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / divisor;
        (count > 0).then(|| Self {
            count,
            min: histogram.min() as f64 / divisor,
            p50: at(0.50),
            p90: at(0.90),
            p99: (count >= P99_SAMPLES_MIN).then(|| at(0.99)),
            max: histogram.max() as f64 / divisor,
            mean: histogram.mean() / divisor,
            offered: None,
        })
    }

    /// The same of the latencies of those that were answered ok, of so many that were due.
    pub(crate) fn of_operations(
        histogram: &Histogram<u64>,
        offered: u64,
        divisor: f64,
    ) -> Option<Self> {
        let of_ok = Self::from_histogram(histogram, divisor)?;
        Some(Self { offered: Some(Offered::of(histogram, offered, divisor)), ..of_ok })
    }

    /// What is to be said of all that were due, where some were not answered ok.
    pub(crate) fn lacking(&self) -> Option<&Offered> {
        self.offered.as_ref().filter(|offered| offered.not_ok > 0)
    }

    /// Where p50, p90 and the largest stand on the cumulative curve of the samples: their names,
    /// the value, and its share of all samples in percent. With few samples several of them are
    /// the same dot.
    pub(crate) fn landmarks(&self) -> Vec<(String, f64, f64)> {
        let count = self.count as f64;
        // By nearest rank they stand on the first dot at or above their share.
        let rank_share = |share: f64| (count * share / 100.0).ceil() / count * 100.0;
        let places = [
            ("p50", self.p50, rank_share(50.0)),
            ("p90", self.p90, rank_share(90.0)),
            ("max", self.max, 100.0),
        ];
        let dots = places.chunk_by(|a, b| a.2 == b.2).map(|same| {
            let names: Vec<&str> = same.iter().map(|(name, ..)| *name).collect();
            (names.join(", "), same[0].1, same[0].2)
        });
        dots.collect()
    }
}

impl Offered {
    fn of(histogram: &Histogram<u64>, count: u64, divisor: f64) -> Self {
        let (ok, count) = (histogram.len(), count.max(histogram.len()));
        let at = |percent: u64| {
            let rank = rank(count, percent);
            (rank <= ok).then(|| at_rank(histogram, rank) as f64 / divisor)
        };
        Self {
            count,
            not_ok: count - ok,
            p50: at(50),
            p90: at(90),
            p99: at(99).filter(|_| count >= P99_SAMPLES_MIN),
        }
    }

    /// How many were not answered ok, in words.
    pub(crate) fn words(&self) -> String {
        let percent = self.not_ok as f64 / self.count.max(1) as f64 * 100.0;
        format!("{} % not answered ok", digits(percent))
    }
}

/// Which of so many, from 1, has that share of them at or below it.
fn rank(count: u64, percent: u64) -> u64 {
    let rank = (u128::from(count) * u128::from(percent)).div_ceil(100);
    u64::try_from(rank).unwrap_or(u64::MAX).max(1)
}

/// The value of that rank, from 1 to as many as there are; as fine as the histogram.
pub(crate) fn at_rank(histogram: &Histogram<u64>, rank: u64) -> u64 {
    let mut passed = 0;
    for recorded in histogram.iter_recorded() {
        passed += recorded.count_since_last_iteration();
        if passed >= rank {
            return recorded.value_iterated_to();
        }
    }
    histogram.max()
}

/// The smallest sample such that at least `percent` of all are no larger. Expects a sorted,
/// non-empty slice.
pub(crate) fn nearest_rank<T: Copy>(sorted: &[T], percent: usize) -> T {
    assert!(!sorted.is_empty(), "a quantile of nothing");
    let rank = (sorted.len() * percent).div_ceil(100).clamp(1, sorted.len());
    sorted[rank - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_rank() {
        let samples: Vec<f64> = (1..=10).rev().map(f64::from).collect();
        let summary = Summary::from_samples(&samples).unwrap();
        assert_eq!((summary.min, summary.p50, summary.p90, summary.max), (1.0, 5.0, 9.0, 10.0));
        assert!((summary.mean - 5.5).abs() < 1e-12);
        assert_eq!(summary.p99, None);
    }

    #[test]
    fn landmarks_stand_on_dots_and_those_of_one_dot_together() {
        let landmarks = |samples: &[f64]| Summary::from_samples(samples).unwrap().landmarks();
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        let names = |name: &str, value, share| (name.to_owned(), value, share);
        let apart = [names("p50", 5.0, 50.0), names("p90", 9.0, 90.0), names("max", 10.0, 100.0)];
        assert_eq!(landmarks(&ten), apart);
        let two = [names("p50", 1.0, 50.0), names("p90, max", 2.0, 100.0)];
        assert_eq!(landmarks(&[1.0, 2.0]), two);
        assert_eq!(landmarks(&[3.0]), [names("p50, p90, max", 3.0, 100.0)]);
    }

    #[test]
    fn one_sample_is_all_its_quantiles() {
        let summary = Summary::from_samples(&[7.0]).unwrap();
        assert_eq!((summary.min, summary.p50, summary.p90, summary.max), (7.0, 7.0, 7.0, 7.0));
    }

    #[test]
    fn nothing_finite_is_no_summary() {
        assert_eq!(Summary::from_samples(&[]), None);
        assert_eq!(Summary::from_samples(&[f64::NAN, f64::INFINITY]), None);
    }

    #[test]
    fn p99_appears_with_the_three_hundredth_sample() {
        let samples: Vec<f64> = (1..=300).map(f64::from).collect();
        assert_eq!(Summary::from_samples(&samples[..299]).unwrap().p99, None);
        assert_eq!(Summary::from_samples(&samples).unwrap().p99, Some(297.0));

        let mut histogram = Histogram::new_with_bounds(1, 1_000, 3).unwrap();
        for value in 1..=299 {
            histogram.record(value).unwrap();
        }
        assert_eq!(Summary::from_histogram(&histogram, 1.0).unwrap().p99, None);
        histogram.record(300).unwrap();
        let summary = Summary::from_histogram(&histogram, 1.0).unwrap();
        assert_eq!((summary.p50, summary.p90, summary.p99), (150.0, 270.0, Some(297.0)));
        assert_eq!((summary.min, summary.max), (1.0, 300.0));
        assert!((summary.mean - 150.5).abs() < 1e-9);
    }

    #[test]
    fn what_was_not_answered_is_slower_than_all_that_was() {
        let mut histogram = Histogram::new_with_bounds(1, 10_000, 3).unwrap();
        (1..=715).for_each(|value| histogram.record(value).unwrap());
        let of = |offered| Summary::of_operations(&histogram, offered, 1.0).unwrap();
        let all = of(715);
        assert_eq!(all.lacking(), None);
        let offered = all.offered.clone().unwrap();
        let quantiles = (offered.p50, offered.p90, offered.p99);
        assert_eq!(quantiles, (Some(358.0), Some(644.0), Some(708.0)));
        assert_eq!((all.p50, all.p90, all.p99), (358.0, 644.0, Some(708.0)), "the same as of ok");
        // 285 of 1000 were not: half were answered within 500, and nobody knows of nine tenths.
        let some = of(1_000);
        let offered = some.lacking().expect("some were not answered");
        assert_eq!((offered.p50, offered.p90, offered.p99), (Some(500.0), None, None));
        assert_eq!((offered.count, offered.not_ok), (1_000, 285));
        assert_eq!(offered.words(), "28.5 % not answered ok");
        assert_eq!((some.p50, some.count), (all.p50, 715), "what is said of ok stays");
        assert_eq!(of(1_431).lacking().and_then(|offered| offered.p50), None);
        let json = serde_json::to_value(&some).unwrap();
        assert!(json["offered"]["p99"].is_null() && json["offered"]["not_ok"] == 285, "{json}");
        assert_eq!(serde_json::from_value::<Summary>(json).unwrap(), some);
    }

    #[test]
    fn an_absent_p99_is_absent_in_the_file() {
        let json = serde_json::to_string(&Summary::from_samples(&[1.0]).unwrap()).unwrap();
        assert!(!json.contains("p99"), "{json}");
        assert_eq!(serde_json::from_str::<Summary>(&json).unwrap().p99, None);
    }
}
