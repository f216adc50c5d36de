//! How much may be under way on a connection: what congestion allows, and what the path can use.
//!
//! Where nothing is lost, Cubic's window grows without end. A bulk transfer would then stand in
//! queues by the megabyte, the receiver's or those in front of a narrow link, and everything behind
//! it would wait, heartbeats too. So no more is under way than keeps the path full, as far as
//! [`Pipe`] knows it, with little in line. And never more than a fast path takes within its
//! shortest round trip: a task of tokio's that has taken 128 datagrams in one go is told that its
//! socket is not writable, which iroh (1.4) takes for a lost datagram, so a receiver that is behind
//! loses its acknowledgements, and flow control stands still until a timeout of 25 ms and more.
//! Knows nothing of streams.

mod pipe;

use std::{
    any::Any,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use iroh::endpoint::{Controller, ControllerFactory, ControllerMetrics, RttEstimator};
use noq_proto::congestion::CubicConfig;

use crate::{Clock, Time};

#[cfg(test)]
pub(super) use pipe::fast_bytes;
use pipe::{PROBE_INTERVAL, Pipe};

/// Makes the controllers of a node's connections. Their times count from one moment, which all nodes
/// have in common as far as their clocks agree: a multiple of what lies between two probes.
#[derive(Debug)]
pub(crate) struct BoundedCubic {
    clock: Arc<dyn Clock>,
    began: OnceLock<Instant>,
}

/// Cubic within a bound.
#[derive(Debug)]
struct Bounded {
    cubic: Box<dyn Controller>,
    began: Instant,
    pipe: Pipe,
    bound_bytes: u64,
}

impl BoundedCubic {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, began: OnceLock::new() }
    }

    fn began(&self, now: Instant) -> Instant {
        let since = self.clock.wall().as_nanos() % PROBE_INTERVAL.as_nanos();
        let since = Duration::from_nanos(u64::try_from(since).unwrap_or_default());
        now.checked_sub(since).unwrap_or(now)
    }
}

impl ControllerFactory for BoundedCubic {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = Arc::new(CubicConfig::default()).build(now, current_mtu);
        let (began, pipe) = (*self.began.get_or_init(|| self.began(now)), Pipe::new());
        let bound_bytes = pipe.bytes();
        Box::new(Bounded { cubic, began, pipe, bound_bytes })
    }
}

impl Bounded {
    fn time(&self, at: Instant) -> Time {
        Time(at.saturating_duration_since(self.began))
    }
}

impl Controller for Bounded {
    fn on_sent(&mut self, now: Instant, bytes: u64, largest_pn: u64) {
        self.cubic.on_sent(now, bytes, largest_pn);
    }

    fn on_packet_sent(&mut self, now: Instant, bytes: u16, pn: u64) {
        self.pipe.sent(self.time(now));
        self.cubic.on_packet_sent(now, bytes, pn);
    }

    fn on_cwnd_limited(&mut self) {
        self.pipe.filled();
        self.cubic.on_cwnd_limited();
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        pn: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.pipe.acknowledged(self.time(now), self.time(sent), bytes);
        // RFC 9002 §7.8: a window that is not used must not grow, or a loss would not shrink what
        // is under way. A quarter more, since the bound lags behind a start by part of a round trip.
        let is_bounded = self.cubic.window() >= self.bound_bytes / 4 * 5;
        self.cubic.on_ack(now, sent, bytes, pn, app_limited || is_bounded, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        if in_flight == 0 {
            self.pipe.drained(self.time(now));
        }
        self.bound_bytes = self.pipe.bytes();
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        is_ecn: bool,
        lost_bytes: u64,
        largest_lost_pn: u64,
    ) {
        let (persistent, lost) = (is_persistent_congestion, lost_bytes);
        self.cubic.on_congestion_event(now, sent, persistent, is_ecn, lost, largest_lost_pn);
    }

    fn on_packet_lost(&mut self, lost_bytes: u16, pn: u64, now: Instant) {
        self.cubic.on_packet_lost(lost_bytes, pn, now);
    }

    fn on_spurious_congestion_event(&mut self) {
        self.cubic.on_spurious_congestion_event();
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn on_ack_frequency_update(&mut self, threshold: u64, delay: Duration) {
        self.cubic.on_ack_frequency_update(threshold, delay);
    }

    fn window(&self) -> u64 {
        self.cubic.window().min(self.bound_bytes)
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.cubic.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let Self { began, bound_bytes, .. } = *self;
        Box::new(Self {
            cubic: self.cubic.clone_box(),
            began,
            pipe: self.pipe.clone(),
            bound_bytes,
        })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
