//! What bonds count. Handles are made once: nothing is allocated where a frame passes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use metrics::{Counter, Gauge, counter, gauge};

use crate::{
    group::bond::lane::{Dropped, Lane},
    metric::{
        BOND_ACTIVE, BOND_BYTES_RECEIVED, BOND_BYTES_SENT, BOND_DIALS, BOND_DROPPED, BOND_ENDED,
        BOND_FORMED, BOND_MESSAGES_RECEIVED, BOND_MESSAGES_SENT, BOND_QUEUE_BYTES,
    },
    network::Code,
};

/// The metrics of all bonds of one group.
pub(super) struct BondMetrics {
    group: String,
    lanes: [LaneMetrics; Lane::COUNT],
    active: Gauge,
    formed: Counter,
}

struct LaneMetrics {
    bytes_sent: Counter,
    bytes_received: Counter,
    messages_sent: Counter,
    messages_received: Counter,
    dropped: [Counter; Dropped::COUNT],
    queue_bytes: QueueBytes,
}

/// What waits in front of a lane of all bonds: in the gauge, which members of one group in one
/// process share, and in a number of this member's own.
#[derive(Clone)]
pub(super) struct QueueBytes {
    gauge: Gauge,
    bytes: Arc<AtomicUsize>,
}

impl BondMetrics {
    pub(super) fn new(group: &str) -> Self {
        let lanes = Lane::ALL.map(|lane| {
            let labels = [("group", group.to_owned()), ("lane", lane.name().to_owned())];
            let dropped = Dropped::ALL.map(|dropped| {
                let [group, lane] = labels.clone();
                let labels = [group, lane, ("reason", dropped.name().to_owned())];
                counter!(BOND_DROPPED, &labels)
            });
            LaneMetrics {
                bytes_sent: counter!(BOND_BYTES_SENT, &labels),
                bytes_received: counter!(BOND_BYTES_RECEIVED, &labels),
                messages_sent: counter!(BOND_MESSAGES_SENT, &labels),
                messages_received: counter!(BOND_MESSAGES_RECEIVED, &labels),
                dropped,
                queue_bytes: QueueBytes {
                    gauge: gauge!(BOND_QUEUE_BYTES, &labels),
                    bytes: Arc::default(),
                },
            }
        });
        let labels = [("group", group.to_owned())];
        Self {
            group: group.to_owned(),
            lanes,
            active: gauge!(BOND_ACTIVE, &labels),
            formed: counter!(BOND_FORMED, &labels),
        }
    }

    pub(super) fn sent(&self, lane: Lane, bytes: usize) {
        let lane = &self.lanes[lane.index()];
        lane.messages_sent.increment(1);
        lane.bytes_sent.increment(bytes as u64);
    }

    pub(super) fn received(&self, lane: Lane, bytes: usize) {
        let lane = &self.lanes[lane.index()];
        lane.messages_received.increment(1);
        lane.bytes_received.increment(bytes as u64);
    }

    pub(super) fn dropped(&self, lane: Lane, dropped: Dropped) {
        self.lanes[lane.index()].dropped[dropped.index()].increment(1);
    }

    pub(super) fn queue_bytes(&self, lane: Lane) -> QueueBytes {
        self.lanes[lane.index()].queue_bytes.clone()
    }

    /// What waits in front of that lane at present.
    pub(super) fn waiting(&self, lane: Lane) -> usize {
        self.lanes[lane.index()].queue_bytes.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn dialed(&self, outcome: &'static str) {
        counter!(BOND_DIALS, "group" => self.group.clone(), "outcome" => outcome).increment(1);
    }

    pub(super) fn formed(&self) {
        self.formed.increment(1);
        self.active.increment(1);
    }

    pub(super) fn ended(&self, code: Code) {
        // First, so that whoever sees one less finds it among those that ended.
        counter!(BOND_ENDED, "group" => self.group.clone(), "code" => code.name()).increment(1);
        self.active.decrement(1);
    }
}

impl QueueBytes {
    /// So many more wait.
    pub(super) fn add(&self, bytes: usize) {
        self.gauge.increment(bytes as f64);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many, which waited, do no more.
    pub(super) fn take(&self, bytes: usize) {
        self.gauge.decrement(bytes as f64);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
