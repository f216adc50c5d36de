//! Followers that were away and came to have what they missed, by the size of the chunks that they
//! fetched: `catch_ups[]` of `run.json`, its two CSV files, and how the sizes compare.
//!
//! Plain data and pure functions of it. Invariant: what did not come to pass is absent, also from
//! every median.

mod ranks;
mod sizes;

use serde::{Deserialize, Serialize};

pub(crate) use sizes::{Compared, OfSize, compared, tail};

/// One follower's return. What did not come to pass is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CatchUp {
    /// The trial, from 1.
    pub trial: u64,
    /// Entries in one chunk.
    pub batch_size: u64,
    /// What took the follower away: `kill`, `pause`, `isolate` or `wipe`.
    pub fault: String,
    /// The follower.
    pub node: u64,
    /// When it was hit.
    pub fault_at_ms: f64,
    /// When the group had committed what it was to miss.
    pub filled_ms: f64,
    /// When it was started again, or went on, or its links were healed.
    pub returned_ms: f64,
    /// From when on its time counts: `bond`, its first after its return; `return`, where it had
    /// never lost all of them.
    pub since: String,
    /// When that was.
    pub from_ms: f64,
    /// From there until it had applied what was committed then.
    pub catch_up_ms: Option<f64>,
    /// Entries that it lacked then.
    pub entries: u64,
    /// What the commands carried that the group committed meanwhile.
    pub bytes: u64,
    /// Entries that it fetched in bulk.
    pub fetched: u64,
    /// Their bytes, encoded.
    pub fetched_bytes: u64,
    /// In so many chunks.
    pub chunks: u64,
    /// From so many others.
    pub peers: u64,
    /// Answers that were not what the leader vouches for.
    pub wrong: u64,
    /// Whether it went on from another's snapshot.
    pub snapshot: bool,
    /// Terms that began between the fault and the end.
    pub terms: u64,
    /// How far it was when.
    #[serde(default)]
    pub progress: Vec<CatchUpPoint>,
}

/// How far a follower was at a moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CatchUpPoint {
    /// Since its time counts; what was seen before that is negative.
    pub at_ms: f64,
    /// The last entry that it had applied.
    pub applied: u64,
    /// Entries that it had fetched in bulk, each with the node that they came from.
    pub fetched: Vec<(u64, u64)>,
}

/// A row of `catch-up.csv`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CatchUpRow {
    pub trial: u64,
    pub batch_size: u64,
    pub fault: String,
    pub node: u64,
    pub fault_at_ms: f64,
    pub filled_ms: f64,
    pub returned_ms: f64,
    pub since: String,
    pub from_ms: f64,
    pub catch_up_ms: Option<f64>,
    pub entries: u64,
    pub bytes: u64,
    pub entries_per_s: Option<f64>,
    pub mb_per_s: Option<f64>,
    pub fetched: u64,
    pub fetched_bytes: u64,
    pub chunks: u64,
    pub peers: u64,
    pub wrong: u64,
    pub snapshot: bool,
    pub terms: u64,
}

/// A row of `catch-up-progress.csv`: what came from one node until a moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ProgressRow {
    pub trial: u64,
    pub batch_size: u64,
    pub at_ms: f64,
    pub applied: u64,
    /// The node; nobody while nothing was fetched.
    pub from: Option<u64>,
    pub fetched: u64,
}

impl CatchUp {
    /// Entries made up for in each second.
    pub fn entries_per_s(&self) -> Option<f64> {
        self.per_s(self.entries as f64)
    }

    /// What the commands of those carried, in millions of bytes.
    pub fn mb_per_s(&self) -> Option<f64> {
        self.per_s(self.bytes as f64 / 1e6)
    }

    /// How long it took, if it came to its end.
    pub(crate) fn took_ms(&self) -> Option<f64> {
        self.catch_up_ms.filter(|ms| ms.is_finite() && *ms >= 0.0)
    }

    fn per_s(&self, amount: f64) -> Option<f64> {
        let ms = self.took_ms().filter(|ms| *ms > 0.0)?;
        Some(amount / (ms / 1e3))
    }

    pub(crate) fn row(&self) -> CatchUpRow {
        CatchUpRow {
            trial: self.trial,
            batch_size: self.batch_size,
            fault: self.fault.clone(),
            node: self.node,
            fault_at_ms: self.fault_at_ms,
            filled_ms: self.filled_ms,
            returned_ms: self.returned_ms,
            since: self.since.clone(),
            from_ms: self.from_ms,
            catch_up_ms: self.catch_up_ms,
            entries: self.entries,
            bytes: self.bytes,
            entries_per_s: self.entries_per_s(),
            mb_per_s: self.mb_per_s(),
            fetched: self.fetched,
            fetched_bytes: self.fetched_bytes,
            chunks: self.chunks,
            peers: self.peers,
            wrong: self.wrong,
            snapshot: self.snapshot,
            terms: self.terms,
        }
    }

    pub(crate) fn progress_rows(&self) -> Vec<ProgressRow> {
        let row = |point: &CatchUpPoint, from, fetched| ProgressRow {
            trial: self.trial,
            batch_size: self.batch_size,
            at_ms: point.at_ms,
            applied: point.applied,
            from,
            fetched,
        };
        let rows = |point: &CatchUpPoint| match &point.fetched[..] {
            [] => vec![row(point, None, 0)],
            sources => {
                sources.iter().map(|(node, count)| row(point, Some(*node), *count)).collect()
            }
        };
        self.progress.iter().flat_map(rows).collect()
    }

    /// The nodes that it fetched from, in order, each with when it had how much.
    pub(crate) fn curves(&self) -> Vec<(u64, Vec<(f64, f64)>)> {
        let mut nodes: Vec<u64> =
            self.progress.iter().flat_map(|point| point.fetched.iter().map(|(n, _)| *n)).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let of = |node: u64| {
            let at = |point: &CatchUpPoint| {
                let fetched = point.fetched.iter().find(|(from, _)| *from == node);
                (point.at_ms.max(0.0), fetched.map_or(0, |(_, count)| *count) as f64)
            };
            // Nothing had come when its time began.
            let begin = std::iter::once((0.0, 0.0));
            (node, begin.chain(self.progress.iter().map(at)).collect())
        };
        nodes.into_iter().map(of).collect()
    }
}

pub(crate) const CATCH_UP_HEADER: [&str; 21] = [
    "trial",
    "batch_size",
    "fault",
    "node",
    "fault_at_ms",
    "filled_ms",
    "returned_ms",
    "since",
    "from_ms",
    "catch_up_ms",
    "entries",
    "bytes",
    "entries_per_s",
    "mb_per_s",
    "fetched",
    "fetched_bytes",
    "chunks",
    "peers",
    "wrong",
    "snapshot",
    "terms",
];
pub(crate) const PROGRESS_HEADER: [&str; 6] =
    ["trial", "batch_size", "at_ms", "applied", "from", "fetched"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_it_took_and_of_nothing_there_are_none() {
        let caught = CatchUp {
            catch_up_ms: Some(250.0),
            entries: 50_000,
            bytes: 3_200_000,
            ..CatchUp::default()
        };
        assert_eq!((caught.entries_per_s(), caught.mb_per_s()), (Some(200_000.0), Some(12.8)));
        for catch_up_ms in [None, Some(0.0), Some(f64::NAN)] {
            let caught = CatchUp { catch_up_ms, ..caught.clone() };
            assert_eq!((caught.entries_per_s(), caught.mb_per_s()), (None, None));
        }
    }

    #[test]
    fn a_source_that_came_later_had_given_nothing_before() {
        let point = |at_ms, fetched: &[(u64, u64)]| CatchUpPoint {
            at_ms,
            applied: 0,
            fetched: fetched.to_vec(),
        };
        let progress =
            vec![point(-3.0, &[]), point(5.0, &[(2, 100)]), point(9.0, &[(2, 150), (1, 7)])];
        let caught = CatchUp { progress, ..CatchUp::default() };
        let begun = [(0.0, 0.0), (0.0, 0.0)];
        let curve = |rest: [(f64, f64); 2]| [begun, rest].concat();
        let expected =
            vec![(1, curve([(5.0, 0.0), (9.0, 7.0)])), (2, curve([(5.0, 100.0), (9.0, 150.0)]))];
        assert_eq!(caught.curves(), expected);
        let rows = caught.progress_rows();
        assert_eq!((rows.len(), rows[0].from, rows[3].from), (4, None, Some(1)));
    }
}
