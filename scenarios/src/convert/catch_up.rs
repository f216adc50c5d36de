//! Followers that caught up, in a report's words.

use chaos::run::{self, Since};
use reports::{CatchUp, CatchUpPoint};

use super::ms;

/// A follower's return. Its progress counts from when its time does.
pub(super) fn catch_up(caught: &run::CatchUp) -> CatchUp {
    let from_ns = caught.from_ns;
    let took = |until_ns: u64| ms(until_ns.saturating_sub(from_ns));
    CatchUp {
        trial: caught.trial,
        batch_size: caught.batch_size.into(),
        fault: caught.fault.word().to_owned(),
        node: caught.node.0,
        fault_at_ms: ms(caught.fault_at_ns),
        filled_ms: ms(caught.filled_ns),
        returned_ms: ms(caught.returned_ns),
        since: match caught.since {
            Since::Bond => "bond".to_owned(),
            Since::Return => "return".to_owned(),
        },
        from_ms: ms(from_ns),
        catch_up_ms: caught.caught_up_ns.map(took),
        entries: caught.entries,
        bytes: caught.bytes,
        fetched: caught.fetched,
        fetched_bytes: caught.fetched_bytes,
        chunks: caught.chunks,
        peers: caught.peers,
        wrong: caught.wrong,
        snapshot: caught.snapshot,
        terms: caught.terms,
        progress: caught.progress.iter().map(|point| progress(point, from_ns)).collect(),
    }
}

fn progress(point: &run::Progress, from_ns: u64) -> CatchUpPoint {
    CatchUpPoint {
        at_ms: ms(point.at_ns) - ms(from_ns),
        applied: point.applied,
        fetched: point.fetched.iter().map(|(node, entries)| (node.0, *entries)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use chaos::fault::{Fault, NodeNumber};

    use super::*;

    #[test]
    fn a_return_keeps_all_its_times_and_counts_progress_from_its_bond() {
        let point = |at_ns, entries| run::Progress {
            at_ns,
            applied: entries,
            fetched: vec![(NodeNumber(2), entries)],
        };
        let caught = run::CatchUp {
            trial: 3,
            batch_size: 500,
            fault: Fault::Wipe,
            node: NodeNumber(4),
            fault_at_ns: 1_000_000,
            filled_ns: 2_000_000,
            returned_ns: 3_000_000,
            since: Since::Bond,
            from_ns: 4_000_000,
            caught_up_ns: Some(9_000_000),
            entries: 50,
            bytes: 3_200,
            fetched: 48,
            fetched_bytes: 4_000,
            chunks: 2,
            peers: 1,
            wrong: 0,
            snapshot: true,
            terms: 1,
            progress: vec![point(3_500_000, 0), point(5_000_000, 48)],
        };
        let told = catch_up(&caught);
        assert_eq!((told.trial, told.batch_size, told.fault.as_str()), (3, 500, "wipe"));
        assert_eq!((told.node, told.since.as_str(), told.snapshot), (4, "bond", true));
        assert_eq!((told.fault_at_ms, told.filled_ms, told.returned_ms), (1.0, 2.0, 3.0));
        assert_eq!((told.from_ms, told.catch_up_ms), (4.0, Some(5.0)));
        assert_eq!((told.entries, told.bytes, told.fetched), (50, 3_200, 48));
        assert_eq!((told.fetched_bytes, told.chunks, told.peers), (4_000, 2, 1));
        assert_eq!((told.wrong, told.terms), (0, 1));
        let at: Vec<f64> = told.progress.iter().map(|point| point.at_ms).collect();
        assert_eq!(at, [-0.5, 1.0]);
        assert_eq!(told.progress[1].fetched, [(2, 48)]);
        let late = run::CatchUp { caught_up_ns: None, since: Since::Return, ..caught };
        assert_eq!((catch_up(&late).catch_up_ms, catch_up(&late).since.as_str()), (None, "return"));
    }
}
