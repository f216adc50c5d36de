//! Series over time, and the CSV files.
//!
//! `latency.csv`: `second, kind, count, p50_ms, p90_ms, p99_ms, max_ms`, one row per second of
//! intended start and kind (`all`, `read`, `write`, `cas`), successful operations only; `p99_ms`
//! is empty below 300 samples, seconds without a success have no row.
//! `throughput.csv`: `at_ms, offered, ok, fail, unknown`, one row per 100 ms without gaps;
//! `offered` counts by intended start, the others by completion.
//! `membership.csv`: `fault, node, fault_at_ms, leave_ms, evict_ms, join_ms, promote_ms`, one row
//! for each time in which a node was a member no longer; what did not come to pass is empty.

use crate::sample::Outcome;
use crate::summary::{P99_SAMPLES_MIN, nearest_rank};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// One row of `latency.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyRow {
    /// Second of the run in which the operations were due.
    pub second: u64,
    /// `all`, `read`, `write` or `cas`.
    pub kind: String,
    /// Successful operations.
    pub count: u64,
    /// Median.
    pub p50_ms: f64,
    /// Nine of ten are at most this.
    pub p90_ms: f64,
    /// 99 of 100 are at most this; absent below 300 samples.
    pub p99_ms: Option<f64>,
    /// The slowest.
    pub max_ms: f64,
}

/// One row of `throughput.csv`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThroughputRow {
    /// Start of the 100 ms, since the start of the run.
    pub at_ms: u64,
    /// Operations that were due.
    pub offered: u64,
    /// Operations that succeeded.
    pub ok: u64,
    /// Operations that failed for certain.
    pub fail: u64,
    /// Operations given up with their effect unknown.
    pub unknown: u64,
}

/// Counts per 100 ms, sparse.
#[derive(Debug, Clone, Default)]
pub(crate) struct Buckets(BTreeMap<u64, ThroughputRow>);

impl Buckets {
    pub(crate) fn add(&mut self, intended_ns: u64, ended_ns: u64, outcome: Outcome) {
        self.at(intended_ns).offered += 1;
        let row = self.at(ended_ns);
        match outcome {
            Outcome::Ok => row.ok += 1,
            Outcome::Fail => row.fail += 1,
            Outcome::Unknown => row.unknown += 1,
        }
    }

    /// All buckets from the first with an operation to the last.
    pub(crate) fn rows(&self) -> Vec<ThroughputRow> {
        let rows = &self.0;
        let (Some((&first, _)), Some((&last, _))) = (rows.first_key_value(), rows.last_key_value())
        else {
            return Vec::new();
        };
        (first..=last)
            .map(|bucket| ThroughputRow {
                at_ms: bucket * BUCKET_MS,
                ..rows.get(&bucket).copied().unwrap_or_default()
            })
            .collect()
    }

    fn at(&mut self, ns: u64) -> &mut ThroughputRow {
        self.0.entry(ns / BUCKET_NS).or_default()
    }
}

/// The row of one second and kind; `None` if nothing succeeded.
pub(crate) fn latency_row(
    second: u64,
    kind: &str,
    mut latencies_us: Vec<u32>,
) -> Option<LatencyRow> {
    latencies_us.sort_unstable();
    let max = *latencies_us.last()?;
    let ms = |us: u32| f64::from(us) / 1_000.0;
    let at = |percent: usize| ms(nearest_rank(&latencies_us, percent));
    let count = latencies_us.len() as u64;
    Some(LatencyRow {
        second,
        kind: kind.to_owned(),
        count,
        p50_ms: at(50),
        p90_ms: at(90),
        p99_ms: (count >= P99_SAMPLES_MIN).then(|| at(99)),
        max_ms: ms(max),
    })
}

/// A CSV file: its header, which stands there even when no row does, and its rows.
pub(crate) fn to_csv<R: Serialize>(names: &[&str], rows: &[R], path: &Path) -> Result<Vec<u8>> {
    let mut csv = header(names, path)?;
    csv.extend(lines(rows, path)?);
    Ok(csv)
}

/// The first line of a CSV file.
pub(crate) fn header(names: &[&str], path: &Path) -> Result<Vec<u8>> {
    lines(&[names], path)
}

/// Rows as CSV, without a header.
pub(crate) fn lines<R: Serialize>(rows: &[R], path: &Path) -> Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).map_err(|error| Error::encode(path, &error))?;
    }
    writer.into_inner().map_err(|error| Error::encode(path, &error.error()))
}

pub(crate) const LATENCY_HEADER: [&str; 7] =
    ["second", "kind", "count", "p50_ms", "p90_ms", "p99_ms", "max_ms"];
pub(crate) const THROUGHPUT_HEADER: [&str; 5] = ["at_ms", "offered", "ok", "fail", "unknown"];
pub(crate) const MEMBERSHIP_HEADER: [&str; 7] =
    ["fault", "node", "fault_at_ms", "leave_ms", "evict_ms", "join_ms", "promote_ms"];
/// Width of a throughput bucket.
pub(crate) const BUCKET_MS: u64 = 100;
const BUCKET_NS: u64 = BUCKET_MS * 1_000_000;
