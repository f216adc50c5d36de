//! What nodes used: memory that grows, processors that should be idle, and queues that have a
//! limit.
//!
//! Pure functions of the samples that the nodes told. Invariant: nothing is said of a node that
//! was not watched long enough.

use std::collections::BTreeMap;

use crate::{
    cluster::{NodeEvent, Queues, What},
    fault::NodeNumber,
    outage::Strike,
    run::{Outcome, recorder::Records},
};

#[derive(Clone, Copy)]
struct Sample {
    at_ns: u64,
    resident_kb: u64,
    log_kb: u64,
    cpu_ms: u64,
    queues: Queues,
}

/// Adds what the samples of a run come to.
pub(crate) fn measure(
    outcome: &mut Outcome,
    records: &Records,
    strikes: &[Strike],
    load_ns: Option<(u64, u64)>,
) {
    let Some((from_ns, to_ns)) = load_ns else { return };
    let mut nodes: BTreeMap<NodeNumber, Vec<Sample>> = BTreeMap::new();
    for event in &records.events {
        let Some(sample) = sample(event) else { continue };
        if (from_ns..=to_ns).contains(&sample.at_ns) {
            nodes.entry(event.node).or_default().push(sample);
        }
    }
    let mut add = |name: &str, values: Vec<f64>| {
        if !values.is_empty() {
            outcome.samples.insert(name.into(), values);
        }
    };
    let all = || nodes.values();
    let percents = |pairs: &[Sample]| pairs.windows(2).filter_map(percent).collect::<Vec<f64>>();
    add("node_cpu_percent", all().flat_map(|samples| percents(samples)).collect());
    let peaks = all().filter_map(|samples| samples.iter().map(|one| one.resident_kb).max());
    add("node_resident_kb", peaks.map(|kb| kb as f64).collect());
    for (name, depth) in QUEUES {
        add(name, all().flatten().map(|sample| depth(&sample.queues) as f64).collect());
    }
    let settled_ns = from_ns.saturating_add(SETTLED_NS);
    if strikes.is_empty() {
        let growths = all().filter_map(|samples| growth(samples, settled_ns));
        add("memory_growth_kb_per_min", growths.collect());
    }
    add("survivor_cpu_percent", survivors(&nodes, strikes));
}

/// The sample that a node told, if that is what it told.
fn sample(event: &NodeEvent) -> Option<Sample> {
    let What::Usage { resident_kb, log_kb, cpu_ms, queues } = event.what else { return None };
    Some(Sample { at_ns: event.at_ns, resident_kb, log_kb, cpu_ms, queues })
}

/// Processor use of those who were not hit, from a fault until the node's return.
fn survivors(nodes: &BTreeMap<NodeNumber, Vec<Sample>>, strikes: &[Strike]) -> Vec<f64> {
    let mut percents = Vec::new();
    for strike in strikes {
        let until_ns = strike.returned_ns.unwrap_or(strike.until_ns);
        for (_, samples) in nodes.iter().filter(|(node, _)| !strike.nodes.contains(node)) {
            let during = samples
                .windows(2)
                .filter(|pair| pair[0].at_ns >= strike.at_ns && pair[1].at_ns <= until_ns);
            percents.extend(during.filter_map(percent));
        }
    }
    percents
}

/// Processor time per time between two samples; nothing across a restart.
fn percent(pair: &[Sample]) -> Option<f64> {
    let [earlier, later] = pair else { return None };
    let used_ms = later.cpu_ms.checked_sub(earlier.cpu_ms)?;
    let passed_ns = later.at_ns.checked_sub(earlier.at_ns).filter(|passed| *passed > 0)?;
    Some(used_ms as f64 * 1e6 / passed_ns as f64 * 100.0)
}

/// How fast resident memory less the log grew: the slope of the line of least squares.
fn growth(samples: &[Sample], from_ns: u64) -> Option<f64> {
    let first = samples.partition_point(|sample| sample.at_ns < from_ns);
    let samples = &samples[first..];
    let (begin, end) = (samples.first()?, samples.last()?);
    if end.at_ns - begin.at_ns < MINUTE_NS {
        return None;
    }
    let point = |sample: &Sample| {
        let minutes = (sample.at_ns - begin.at_ns) as f64 / MINUTE_NS as f64;
        (minutes, sample.resident_kb as f64 - sample.log_kb as f64)
    };
    let count = samples.len() as f64;
    let (sum_x, sum_y) =
        samples.iter().map(point).fold((0.0, 0.0), |(x, y), (a, b)| (x + a, y + b));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (mut across, mut along) = (0.0, 0.0);
    for (x, y) in samples.iter().map(point) {
        across += (x - mean_x) * (y - mean_y);
        along += (x - mean_x) * (x - mean_x);
    }
    (along > 0.0).then(|| across / along)
}

/// One queue of a node.
type Depth = fn(&Queues) -> u64;

/// What the distribution of each is called.
const QUEUES: [(&str, Depth); 10] = [
    ("node_calls", |queues| queues.calls),
    ("node_mailbox_calls", |queues| queues.mailbox_calls),
    ("node_bond_events", |queues| queues.bond_events),
    ("node_applier_batches", |queues| queues.applier_batches),
    ("node_held_messages", |queues| queues.held_messages),
    ("node_storage_backlog_kb", |queues| queues.storage_backlog_kb),
    ("node_lane_control_kb", |queues| queues.lane_control_kb),
    ("node_lane_append_kb", |queues| queues.lane_append_kb),
    ("node_lane_client_kb", |queues| queues.lane_client_kb),
    ("node_lane_bulk_kb", |queues| queues.lane_bulk_kb),
];
const MINUTE_NS: u64 = 60_000_000_000;
/// Caches and buffers fill up first.
const SETTLED_NS: u64 = 2 * MINUTE_NS;

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(seconds: u64, resident_kb: impl Fn(u64) -> u64) -> Vec<Sample> {
        (0..seconds)
            .map(|second| Sample {
                at_ns: second * 1_000_000_000,
                resident_kb: resident_kb(second),
                log_kb: second * 2,
                cpu_ms: second * 50,
                queues: Queues::default(),
            })
            .collect()
    }

    #[test]
    fn growth_is_what_remains_after_the_log() {
        // 2 kB each second for the log, and 10 kB each second for who knows what.
        let leaking = samples(300, |second| 10_000 + 12 * second);
        let growth_kb = growth(&leaking, SETTLED_NS).expect("three minutes");
        assert!((growth_kb - 600.0).abs() < 0.001, "{growth_kb}");
        let sound = samples(300, |second| 10_000 + 2 * second);
        assert!(growth(&sound, SETTLED_NS).expect("three minutes").abs() < 0.001);
        assert_eq!(growth(&samples(150, |_| 1), SETTLED_NS), None, "not watched long enough");
        assert_eq!(growth(&[], 0), None);
    }

    #[test]
    fn every_sample_under_load_tells_how_much_waited() {
        let usage = |at_ns: u64, node: u64| NodeEvent {
            at_ns,
            node: NodeNumber(node),
            what: What::Usage {
                resident_kb: 1_000 + at_ns,
                log_kb: 0,
                cpu_ms: 0,
                queues: Queues {
                    calls: at_ns,
                    storage_backlog_kb: 10 * at_ns,
                    held_messages: node,
                    lane_append_kb: 7,
                    ..Queues::default()
                },
            },
        };
        let events = vec![usage(1, 1), usage(2, 1), usage(2, 2), usage(3, 1), usage(9, 2)];
        let records = Records { events, ..Records::default() };
        let mut outcome = Outcome::default();
        measure(&mut outcome, &records, &[], Some((2, 5)));
        assert_eq!(outcome.samples["node_calls"], [2.0, 3.0, 2.0]);
        assert_eq!(outcome.samples["node_storage_backlog_kb"], [20.0, 30.0, 20.0]);
        assert_eq!(outcome.samples["node_held_messages"], [1.0, 1.0, 2.0]);
        assert_eq!(outcome.samples["node_lane_append_kb"], [7.0, 7.0, 7.0]);
        let told = outcome.samples.keys().filter(|name| QUEUES.iter().any(|(one, _)| one == name));
        assert_eq!(told.count(), QUEUES.len(), "each queue: {:?}", outcome.samples.keys());
        assert_eq!(outcome.samples["node_resident_kb"], [1_003.0, 1_002.0], "one for each node");
        let mut outcome = Outcome::default();
        measure(&mut outcome, &Records::default(), &[], Some((2, 5)));
        assert!(outcome.samples.is_empty(), "nobody told anything: {:?}", outcome.samples);
    }

    #[test]
    fn processor_use_is_not_reckoned_across_a_restart() {
        let mut watched = samples(3, |_| 1);
        assert_eq!(percent(&watched[..2]), Some(5.0));
        watched[2].cpu_ms = 0;
        assert_eq!(percent(&watched[1..]), None);
    }
}
