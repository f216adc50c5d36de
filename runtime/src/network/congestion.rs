//! How much may be under way on a connection: what congestion allows, and what the path can use.
//!
//! Where nothing is lost, Cubic's window grows without end. A bulk transfer would then stand in the
//! receiver's queue by the megabyte and everything behind it would wait, heartbeats too. It gets
//! worse: a task of tokio's that has taken 128 datagrams in one go is told that its socket is not
//! writable, which iroh (1.4) takes for a lost datagram, so a receiver that is behind loses its
//! acknowledgements, and flow control stands still until a timeout of 25 ms and more. So no more
//! is under way than a fast path takes within its shortest round trip. Knows nothing of streams.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use iroh::endpoint::{Controller, ControllerFactory, ControllerMetrics, RttEstimator};
use noq_proto::congestion::CubicConfig;

/// Makes the controllers of connections.
#[derive(Debug)]
pub(super) struct BoundedCubic;

/// Cubic within a bound.
#[derive(Debug)]
struct Bounded {
    cubic: Box<dyn Controller>,
    bound_bytes: u64,
}

impl ControllerFactory for BoundedCubic {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = Arc::new(CubicConfig::default()).build(now, current_mtu);
        Box::new(Bounded { cubic, bound_bytes: FLIGHT_BYTES_MIN })
    }
}

/// What may be under way where a round trip takes no less than this.
pub(super) fn bound_bytes(round_trip_min: Duration) -> u64 {
    let in_round_trip = round_trip_min.as_micros().saturating_mul(FLIGHT_BYTES_PER_US);
    u64::try_from(in_round_trip).unwrap_or(u64::MAX).max(FLIGHT_BYTES_MIN)
}

impl Controller for Bounded {
    fn on_sent(&mut self, now: Instant, bytes: u64, largest_pn: u64) {
        self.cubic.on_sent(now, bytes, largest_pn);
    }

    fn on_packet_sent(&mut self, now: Instant, bytes: u16, pn: u64) {
        self.cubic.on_packet_sent(now, bytes, pn);
    }

    fn on_cwnd_limited(&mut self) {
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
        self.bound_bytes = bound_bytes(rtt.min());
        // RFC 9002 §7.8: a window that is not used must not grow, or a loss would not shrink what
        // is under way.
        let is_bounded = self.cubic.window() >= self.bound_bytes;
        self.cubic.on_ack(now, sent, bytes, pn, app_limited || is_bounded, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
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
        Box::new(Self { cubic: self.cubic.clone_box(), bound_bytes: self.bound_bytes })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Some ninety datagrams, on the shortest of paths.
const FLIGHT_BYTES_MIN: u64 = 128 << 10;
/// 2 Gbit/s: for as long as a round trip takes.
const FLIGHT_BYTES_PER_US: u128 = 250;
