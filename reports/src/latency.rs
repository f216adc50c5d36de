//! The recorder: every operation's latency, counted from its intended start.
//!
//! An open-loop request that had to wait for a slow predecessor is charged for the wait, else an
//! outage would hide itself (coordinated omission). Histograms hold what was answered `ok`; `fail`
//! and `unknown` are counted beside them and drawn in the plot, for a fast refusal is no service,
//! and among all that was due they are slower than any answer. Who looks once the load is over is
//! counted, and no more.
//! Invariant: memory is bounded by [`POINTS_MAX`] and [`TIMELINE_S_MAX`]; what exceeds them is
//! counted, never silently lost.

use crate::sample::{Kind, LATENCY_US_MAX, OBSERVERS_FROM, Outcome, Point, Sample};
use crate::seconds::Seconds;
use crate::series::{Buckets, LatencyRow, ThroughputRow};
use crate::slowest::Slowest;
use crate::{RunRecord, Summary};
use hdrhistogram::Histogram;

/// Takes samples in any order and answers with histograms, series and files.
#[derive(Debug, Clone)]
pub struct Recorder {
    points: Vec<Point>,
    buckets: Buckets,
    seconds: Seconds,
    histograms: [Histogram<u64>; 3],
    slowest: Slowest,
    counts: Counts,
}

#[derive(Debug, Clone, Default)]
struct Counts {
    offered: u64,
    ok: u64,
    fail: u64,
    unknown: u64,
    /// By kind, without what observers asked.
    offered_of_kind: [u64; 3],
    /// Of those that were offered and ok, what observers asked.
    observed: (u64, u64),
    /// Beyond [`TIMELINE_S_MAX`]: in the histograms and counts, in no series.
    off_timeline: u64,
    /// Beyond [`POINTS_MAX`]: in the histograms, counts and throughput, not in the plot or `latency.*`.
    points_dropped: u64,
    intended_ns_first: Option<u64>,
    intended_ns_last: u64,
}

/// How much was due, what of it was answered, and for how long.
struct Load {
    offered: u64,
    ok: u64,
    span_s: f64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// An empty recorder.
    pub fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_US_MAX.into(), DIGITS)
                .expect("constant bounds are valid")
        };
        Self {
            points: Vec::new(),
            buckets: Buckets::default(),
            seconds: Seconds::default(),
            histograms: [histogram(), histogram(), histogram()],
            slowest: Slowest::default(),
            counts: Counts::default(),
        }
    }

    /// Takes one operation.
    pub fn record(&mut self, sample: &Sample) {
        let latency_us = sample.completed_ns.map_or(Point::OPEN, |completed_ns| {
            let us = completed_ns.saturating_sub(sample.intended_ns).saturating_add(500) / 1_000;
            u32::try_from(us).unwrap_or(LATENCY_US_MAX).clamp(1, LATENCY_US_MAX)
        });
        self.count(sample);
        if sample.client >= OBSERVERS_FROM {
            return;
        }
        let answered = sample.outcome == Outcome::Ok && latency_us != Point::OPEN;
        if answered {
            self.histograms[sample.kind as usize].saturating_record(latency_us.into());
        }
        let ended_ns = sample.completed_ns.unwrap_or(sample.intended_ns);
        if sample.intended_ns.max(ended_ns) >= TIMELINE_S_MAX * NS_PER_S {
            self.counts.off_timeline += 1;
            return;
        }
        self.buckets.add(sample.intended_ns, ended_ns, sample.outcome);
        self.slowest.add(sample);
        if self.points.len() >= POINTS_MAX {
            self.counts.points_dropped += 1;
            return;
        }
        let Sample { intended_ns, kind, outcome, .. } = *sample;
        if answered {
            self.seconds.add(intended_ns, kind, latency_us);
        }
        self.points.push(Point { intended_ns, latency_us, kind, outcome });
    }

    fn count(&mut self, sample: &Sample) {
        let counts = &mut self.counts;
        counts.offered += 1;
        match sample.outcome {
            Outcome::Ok => counts.ok += 1,
            Outcome::Fail => counts.fail += 1,
            Outcome::Unknown => counts.unknown += 1,
        }
        if sample.client >= OBSERVERS_FROM {
            counts.observed.0 += 1;
            counts.observed.1 += u64::from(sample.outcome == Outcome::Ok);
            return;
        }
        counts.offered_of_kind[sample.kind as usize] += 1;
        let first = counts.intended_ns_first.unwrap_or(sample.intended_ns);
        counts.intended_ns_first = Some(first.min(sample.intended_ns));
        counts.intended_ns_last = counts.intended_ns_last.max(sample.intended_ns);
    }

    /// The operations that the plots and series are made of, in order of arrival.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Rows of `throughput.csv`, from the first bucket with an operation to the last.
    pub fn throughput(&self) -> Vec<ThroughputRow> {
        self.buckets.rows()
    }

    /// Rows of `latency.csv`.
    pub fn latency_by_second(&self) -> Vec<LatencyRow> {
        self.seconds.rows()
    }

    /// Successes by the second in which they were due, to be written: what is made for a file is kept for the next time.
    pub(crate) fn seconds_mut(&mut self) -> &mut Seconds {
        &mut self.seconds
    }

    /// When the last operation was due or answered, in milliseconds.
    pub(crate) fn end_ms(&self) -> f64 {
        let ends = self.points.iter().map(|point| {
            let latency_us = if point.latency_us == Point::OPEN { 0 } else { point.latency_us };
            point.intended_ns as f64 / 1e6 + f64::from(latency_us) / 1e3
        });
        ends.fold(0.0, f64::max)
    }

    /// What was slow when, and what nobody answered.
    pub(crate) fn slowest(&self) -> &Slowest {
        &self.slowest
    }

    /// Latency of all successful operations of one kind, or of all, in microseconds.
    pub fn histogram(&self, kind: Option<Kind>) -> Histogram<u64> {
        if let Some(kind) = kind {
            return self.histograms[kind as usize].clone();
        }
        let mut all = self.histograms[0].clone();
        for histogram in &self.histograms[1..] {
            all.add(histogram).expect("histograms of equal bounds add up");
        }
        all
    }

    /// How many operations of one kind, or of all, were due.
    pub(crate) fn offered(&self, kind: Option<Kind>) -> u64 {
        let of_kind = &self.counts.offered_of_kind;
        kind.map_or_else(|| of_kind.iter().sum(), |kind| of_kind[kind as usize])
    }

    /// Latency of one kind, or of all, in milliseconds; `None` where none was answered ok.
    pub(crate) fn summary(&self, kind: Option<Kind>) -> Option<Summary> {
        Summary::of_operations(&self.histogram(kind), self.offered(kind), US_PER_MS)
    }

    /// Enters into the record what was recorded: `counts.operations_{offered, ok, fail, unknown}`,
    /// `ratios.{offered_per_s, achieved_per_s, achieved_over_offered}` and `metrics.latency_ms`
    /// with one more metric per kind, `latency_{read, write, cas}_ms`. Where the record counts what
    /// of all operations the load was (`counts.load_{operations, ok, ms}`), the ratios are its own.
    pub fn fill(&self, record: &mut RunRecord) {
        let counts = &self.counts;
        for (name, count) in [
            ("operations_offered", counts.offered),
            ("operations_ok", counts.ok),
            ("operations_fail", counts.fail),
            ("operations_unknown", counts.unknown),
        ] {
            record.counts.insert(name.to_owned(), count);
        }
        for (name, count) in [
            ("operations_off_timeline", counts.off_timeline),
            ("operations_not_drawn", counts.points_dropped),
        ] {
            if count > 0 {
                record.counts.insert(name.to_owned(), count);
            }
        }
        let Load { offered, ok, span_s } = self.load(record);
        if span_s > 0.0 && offered > 0 {
            let rate = |count: u64| count as f64 / span_s;
            record.ratios.insert("offered_per_s".to_owned(), rate(offered));
            record.ratios.insert("achieved_per_s".to_owned(), rate(ok));
            let achieved = ok as f64 / offered as f64;
            record.ratios.insert("achieved_over_offered".to_owned(), achieved);
        }
        let kinds = Kind::ALL.map(|kind| (format!("latency_{}_ms", kind.as_str()), Some(kind)));
        for (name, kind) in kinds.into_iter().chain([("latency_ms".to_owned(), None)]) {
            if let Some(summary) = self.summary(kind) {
                record.metrics.insert(name, summary);
            }
        }
    }

    /// What of all this the load was, as the record counts it. No operation says whether it is of
    /// the load: while the record does not, all are, from the first to the last.
    fn load(&self, record: &RunRecord) -> Load {
        let counted = |name: &str| record.counts.get(name).copied();
        let of_load = (counted("load_operations"), counted("load_ok"), counted("load_ms"));
        if let (Some(offered), Some(ok), Some(ms)) = of_load {
            return Load { offered, ok, span_s: ms as f64 / MS_PER_S };
        }
        let Counts { offered, ok, observed, .. } = self.counts;
        let (offered, ok) = (offered - observed.0, ok - observed.1);
        let first_ns = self.counts.intended_ns_first.unwrap_or(0);
        let span_ns = self.counts.intended_ns_last.saturating_sub(first_ns);
        Load { offered, ok, span_s: span_ns as f64 / NS_PER_S as f64 }
    }

    /// Operations that were answered `ok`, in the order in which they were due.
    pub(crate) fn answered(&self) -> Vec<Point> {
        let ended = |p: &&Point| p.outcome == Outcome::Ok && p.latency_us != Point::OPEN;
        let mut points: Vec<Point> = self.points.iter().filter(ended).copied().collect();
        points.sort_unstable_by_key(|point| point.intended_ns);
        points
    }
}

/// Cuts points that stand in order into windows of `width_s` seconds, each with the second at
/// which it begins; windows without a point are left out.
pub(crate) fn windows(points: &[Point], width_s: u64) -> impl Iterator<Item = (u64, &[Point])> {
    let window = move |point: &Point| point.intended_ns / (width_s * NS_PER_S);
    points
        .chunk_by(move |a, b| window(a) == window(b))
        .map(move |chunk| (window(&chunk[0]) * width_s, chunk))
}

/// Operations kept one by one, 128 MiB of them and a quarter of it for the series; further ones
/// only enter the aggregates.
const POINTS_MAX: usize = 8 << 20;
/// A day: series never grow past it, whatever a clock claims.
const TIMELINE_S_MAX: u64 = 86_400;
const DIGITS: u8 = 3;
const US_PER_MS: f64 = 1_000.0;
const MS_PER_S: f64 = 1_000.0;
const NS_PER_S: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::tests::sample;

    #[test]
    fn latency_counts_from_the_intended_start_in_rounded_microseconds() {
        let mut recorder = Recorder::new();
        for (intended_ns, completed_ns) in [
            (1_000_000, 3_500_499),
            (1_000_000, 3_500_500),
            (1_000_000, 1_000_000),
            (1_000_000, 0),
            (0, 500 * NS_PER_S),
            (0, u64::MAX),
        ] {
            recorder.record(&sample(intended_ns, Some(completed_ns), Outcome::Ok));
        }
        let us: Vec<u32> = recorder.points().iter().map(|point| point.latency_us).collect();
        assert_eq!(us, [2_500, 2_501, 1, 1, LATENCY_US_MAX], "the last lies off the timeline");
        let all = recorder.histogram(None);
        assert_eq!((all.len(), all.min()), (6, 1));
        assert_eq!(recorder.histogram(Some(Kind::Read)).len(), 0);
    }

    #[test]
    fn what_was_not_ok_is_counted_but_is_no_latency() {
        let mut recorder = Recorder::new();
        recorder.record(&sample(0, Some(9_000_000), Outcome::Ok));
        recorder.record(&sample(0, Some(1_000), Outcome::Fail));
        recorder.record(&sample(NS_PER_S, None, Outcome::Unknown));
        let mut record = crate::record::tests::record();
        recorder.fill(&mut record);
        let counts = ["offered", "ok", "fail", "unknown"]
            .map(|name| record.counts[&format!("operations_{name}")]);
        assert_eq!(counts, [3, 1, 1, 1]);
        assert_eq!(record.metrics["latency_ms"].count, 1);
        assert!((record.metrics["latency_write_ms"].p50 - 9.0).abs() < 0.01);
        assert!(!record.metrics.contains_key("latency_read_ms"));
        assert_eq!(record.ratios["offered_per_s"], 3.0);
        assert_eq!(record.ratios["achieved_per_s"], 1.0);
    }

    #[test]
    fn what_was_asked_beside_the_load_is_not_in_its_rates() {
        let mut recorder = Recorder::new();
        for at_s in [0, 1, 9] {
            recorder.record(&sample(at_s * NS_PER_S, Some(at_s * NS_PER_S + 5), Outcome::Ok));
        }
        let mut record = crate::record::tests::record();
        for (name, count) in [("load_operations", 2), ("load_ok", 1), ("load_ms", 2_000)] {
            record.counts.insert(name.to_owned(), count);
        }
        recorder.fill(&mut record);
        let ratios = ["offered_per_s", "achieved_per_s", "achieved_over_offered"];
        assert_eq!(ratios.map(|name| record.ratios[name]), [1.0, 0.5, 0.5]);
        assert_eq!(record.counts["operations_offered"], 3);
    }

    #[test]
    fn what_is_due_and_not_answered_ok_is_in_the_quantiles_of_all_that_was_due() {
        let mut recorder = Recorder::new();
        for n in 0..1_000 {
            let (outcome, done) = match n % 4 {
                0 => (Outcome::Unknown, None),
                _ => (Outcome::Ok, Some(n * NS_PER_S / 1_000 + 7_000_000)),
            };
            recorder.record(&sample(n * NS_PER_S / 1_000, done, outcome));
        }
        let mut record = crate::record::tests::record();
        recorder.fill(&mut record);
        for name in ["latency_ms", "latency_write_ms"] {
            let summary = &record.metrics[name];
            let offered = summary.lacking().expect("a quarter of them");
            assert_eq!((summary.count, offered.count, offered.not_ok), (750, 1_000, 250), "{name}");
            assert!(summary.p99.is_some_and(|p99| (p99 - 7.0).abs() < 0.1), "{summary:?}");
            assert!(offered.p50.is_some() && offered.p90.is_none() && offered.p99.is_none());
        }
    }

    #[test]
    fn who_looks_once_the_load_is_over_is_counted_and_in_no_figure() {
        let mut recorder = Recorder::new();
        recorder.record(&sample(0, Some(9_000_000), Outcome::Ok));
        let load = |recorder: &Recorder| {
            let mut record = crate::record::tests::record();
            recorder.fill(&mut record);
            (record.metrics["latency_ms"].clone(), record.counts["operations_offered"])
        };
        let (before, _) = load(&recorder);
        for n in 1..500 {
            let at_ns = n * NS_PER_S;
            let looks = sample(at_ns, Some(at_ns + 1_000), Outcome::Ok);
            recorder.record(&Sample { client: OBSERVERS_FROM + n % 3, ..looks });
        }
        assert_eq!(load(&recorder), (before, 500));
        assert_eq!((recorder.points().len(), recorder.throughput().len()), (1, 1));
    }

    #[test]
    fn a_clock_gone_wild_does_not_grow_the_series() {
        let mut recorder = Recorder::new();
        recorder.record(&sample(0, Some(1), Outcome::Ok));
        recorder.record(&sample(u64::MAX, Some(u64::MAX), Outcome::Ok));
        recorder.record(&sample(5, Some(u64::MAX), Outcome::Unknown));
        assert_eq!(recorder.throughput().len(), 1);
        let mut record = crate::record::tests::record();
        recorder.fill(&mut record);
        assert_eq!(record.counts["operations_offered"], 3);
        assert_eq!(record.counts["operations_off_timeline"], 2);
    }
}
