//! What was answered in each second of intended start, and the lines of `latency.csv` and
//! `latency.hlog` that say so.
//!
//! Both files are written again and again while a run goes on. The lines of a second are made
//! once and kept until another answer falls into it, so that a save costs what is new and not
//! what lies behind. Invariant: lines that are kept say the same as lines made anew.

use crate::sample::{Kind, LATENCY_US_MAX};
use crate::series::{LATENCY_HEADER, LatencyRow, header, latency_row, lines};
use crate::{Error, Result};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Seconds in which something was due and answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seconds(BTreeMap<u64, Second>);

#[derive(Debug, Clone, Default)]
struct Second {
    /// By kind, in order of arrival.
    latencies_us: [Vec<u32>; 3],
    /// None since the last answer.
    csv: Option<Vec<u8>>,
    /// None since the last answer.
    intervals: Option<Vec<u8>>,
}

impl Seconds {
    /// Takes the latency of one successful operation.
    pub(crate) fn add(&mut self, intended_ns: u64, kind: Kind, latency_us: u32) {
        let second = self.0.entry(intended_ns / NS_PER_S).or_default();
        second.latencies_us[kind as usize].push(latency_us);
        (second.csv, second.intervals) = (None, None);
    }

    /// Rows of `latency.csv`.
    pub(crate) fn rows(&self) -> Vec<LatencyRow> {
        self.0.iter().flat_map(|(number, second)| second.rows(*number)).collect()
    }

    /// `latency.csv`. `path` is only named in errors.
    pub(crate) fn csv(&mut self, path: &Path) -> Result<Vec<u8>> {
        let mut csv = header(&LATENCY_HEADER, path)?;
        for (number, second) in &mut self.0 {
            if second.csv.is_none() {
                second.csv = Some(lines(&second.rows(*number), path)?);
            }
            csv.extend(second.csv.iter().flatten());
        }
        Ok(csv)
    }

    /// The HdrHistogram interval log, one interval per second of intended start.
    ///
    /// Untagged intervals hold every kind; beside them stand intervals tagged `read`, `write` and
    /// `cas`. Values are nanoseconds and `Interval_Max` milliseconds, as the common tools assume.
    /// `path` is only named in errors.
    pub(crate) fn interval_log(&mut self, started: SystemTime, path: &Path) -> Result<Vec<u8>> {
        let mut log = Vec::new();
        IntervalLogWriterBuilder::new()
            .add_comment("[Histogram log format version 1.3]")
            .add_comment(
                "[Latency from intended start; values in nanoseconds, max in milliseconds]",
            )
            .with_start_time(started)
            .with_max_value_divisor(NS_PER_MS)
            .begin_log_with(&mut log, &mut V2DeflateSerializer::new())
            .map_err(|error| Error::encode(path, &error))?;
        // The writer knows no legend; readers expect it between the comments and the intervals.
        log.extend(LEGEND);
        let mut histogram = Histogram::<u64>::new_with_bounds(1, LATENCY_NS_MAX, DIGITS)
            .expect("constant bounds are valid");
        for (number, second) in &mut self.0 {
            if second.intervals.is_none() {
                second.intervals = Some(second.encoded(*number, &mut histogram, path)?);
            }
            log.extend(second.intervals.iter().flatten());
        }
        Ok(log)
    }
}

impl Second {
    /// All kinds together, then each by itself.
    fn parts(&self) -> impl Iterator<Item = (Option<Kind>, Vec<u32>)> {
        let of = |kind: Kind| (Some(kind), self.latencies_us[kind as usize].clone());
        [(None, self.latencies_us.concat())].into_iter().chain(Kind::ALL.map(of))
    }

    fn rows(&self, number: u64) -> Vec<LatencyRow> {
        let row = |(kind, latencies_us): (Option<Kind>, Vec<u32>)| {
            latency_row(number, kind.map_or("all", Kind::as_str), latencies_us)
        };
        self.parts().filter_map(row).collect()
    }

    fn encoded(&self, number: u64, histogram: &mut Histogram<u64>, path: &Path) -> Result<Vec<u8>> {
        let failed = |reason: &dyn std::fmt::Display| Error::encode(path, &reason);
        let (mut lines, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
        let mut writer = IntervalLogWriterBuilder::new()
            .with_max_value_divisor(NS_PER_MS)
            .begin_log_with(&mut lines, &mut serializer)
            .map_err(|error| failed(&error))?;
        let (start, length) = (Duration::from_secs(number), Duration::from_secs(1));
        for (kind, latencies_us) in self.parts().filter(|(_, latencies)| !latencies.is_empty()) {
            histogram.reset();
            for us in latencies_us {
                histogram.saturating_record(u64::from(us) * NS_PER_US);
            }
            let tag = kind.and_then(|kind| Tag::new(kind.as_str()));
            writer
                .write_histogram(histogram, start, length, tag)
                .map_err(|error| failed(&error))?;
        }
        // The comment on the divisor stands once, at the head of the file.
        let intervals = lines.split_inclusive(|&byte| byte == b'\n');
        Ok(intervals.filter(|line| !line.starts_with(b"#")).flatten().copied().collect())
    }
}

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: f64 = 1e6;
const NS_PER_US: u64 = 1_000;
const LATENCY_NS_MAX: u64 = LATENCY_US_MAX as u64 * NS_PER_US;
const DIGITS: u8 = 3;
const LEGEND: &[u8] =
    b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn written(seconds: &mut Seconds) -> [Vec<u8>; 2] {
        let path = Path::new("x");
        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        [seconds.csv(path).unwrap(), seconds.interval_log(started, path).unwrap()]
    }

    #[test]
    fn what_is_kept_says_the_same_as_what_is_made_anew() {
        let answers: Vec<(u64, Kind, u32)> = (0..900_u32)
            // Every seventh answer falls into a second that was written long ago.
            .map(|n| (u64::from(if n % 7 == 0 { n / 9 } else { n }) * NS_PER_S / 100, n))
            .map(|(at_ns, n)| (at_ns, Kind::ALL[n as usize % 3], 1 + n * n % 90_000))
            .collect();
        let mut kept = Seconds::default();
        for (number, (at_ns, kind, us)) in answers.iter().enumerate() {
            kept.add(*at_ns, *kind, *us);
            if number % 50 == 0 {
                let mut anew = Seconds::default();
                for (at_ns, kind, us) in &answers[..=number] {
                    anew.add(*at_ns, *kind, *us);
                }
                assert!(written(&mut kept) == written(&mut anew), "after {number}");
            }
        }
    }

    #[test]
    fn a_second_that_is_over_is_not_encoded_again() {
        let mut seconds = Seconds::default();
        for at_s in 0..3 {
            seconds.add(at_s * NS_PER_S, Kind::Read, 7);
        }
        written(&mut seconds);
        seconds.add(2 * NS_PER_S, Kind::Read, 8);
        let open = |second: &Second| second.csv.is_none() && second.intervals.is_none();
        assert_eq!(seconds.0.values().map(open).collect::<Vec<_>>(), [false, false, true]);
    }
}
