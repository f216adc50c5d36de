//! What a path can use: how fast it delivers, and how long it takes while nothing stands in line.
//!
//! Learned from acknowledgements, as BBR does (Cardwell et al., "BBR: Congestion-Based Congestion
//! Control", 2016; the draft ietf-ccwg-bbr): the rate is the best of the last rounds in which more
//! would have been sent, the round trip the shortest of the last seconds. Once in a while less is
//! sent than the path can use, by all connections of all nodes at the same moments, as far as clocks
//! agree, since a queue that one leaves alone while others fill it never shows how short the path is. Knows
//! neither losses nor Cubic. Invariants: a round in which there was little to send lowers no rate,
//! and no round trip is believed for longer than two of those moments lie apart.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use crate::Time;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Pipe {
    /// Bytes that have arrived.
    delivered: u64,
    newest: Arrival,
    /// Oldest first; the first packet of each moment stands for all of it.
    under_way: VecDeque<Sent>,
    round: Round,
    /// Bytes per second: the best of each of the last full rounds, in a ring.
    rates: [u64; RATES],
    /// Which of them is the best of this round.
    rate_at: usize,
    /// Rounds since the rate last grew.
    level_rounds: u32,
    shortest: Shortest,
    /// What was believed to be the shortest before, in a ring.
    believed: [Duration; BELIEVED],
    believed_at: usize,
    /// The last of the moments for a probe, taken or not.
    looked: Time,
    probe: Option<Probe>,
    /// Nothing is under way, or nothing was at this moment and what was sent since is awaited.
    empty: Option<Time>,
}

/// The newest packet that has arrived.
#[derive(Clone, Copy, Debug, Default)]
struct Arrival {
    at: Time,
    sent: Time,
}

/// A packet that is under way, and what had arrived when it was sent.
#[derive(Clone, Debug)]
struct Sent {
    at: Time,
    delivered: u64,
    newest: Arrival,
}

/// Ends once a packet is acknowledged that was sent after it had begun.
#[derive(Clone, Debug, Default)]
struct Round {
    began: Time,
    /// The rate as it was then.
    rate: u64,
    /// More would have been sent in it.
    is_full: bool,
}

/// The shortest round trip, and when it was last as short.
#[derive(Clone, Debug)]
struct Shortest {
    round_trip: Duration,
    seen: Time,
}

/// Little is sent, so that what is sent meets no queue of ours.
#[derive(Clone, Debug)]
struct Probe {
    began: Time,
    shortest: Duration,
    rounds_left: u32,
}

impl Pipe {
    pub(super) fn new() -> Self {
        Self {
            delivered: 0,
            newest: Arrival::default(),
            under_way: VecDeque::new(),
            round: Round::default(),
            rates: [0; RATES],
            rate_at: 0,
            level_rounds: 0,
            shortest: Shortest { round_trip: Duration::MAX, seen: Time::default() },
            believed: [Duration::MAX; BELIEVED],
            believed_at: 0,
            looked: Time::default(),
            probe: None,
            empty: Some(Time::default()),
        }
    }

    /// A packet is on its way.
    pub(super) fn sent(&mut self, now: Time) {
        if self.under_way.back().is_some_and(|last| last.at == now) {
            return;
        }
        if self.under_way.is_empty() {
            // What arrived long ago says nothing about how fast this one will.
            self.newest = Arrival { at: now, sent: now };
        } else if self.under_way.len() == UNDER_WAY_MAX {
            return;
        }
        let (delivered, newest) = (self.delivered, self.newest);
        self.under_way.push_back(Sent { at: now, delivered, newest });
    }

    /// More would have been sent, were more allowed.
    pub(super) fn filled(&mut self) {
        self.round.is_full = true;
    }

    /// A packet has arrived.
    pub(super) fn acknowledged(&mut self, now: Time, sent: Time, bytes: u64) {
        self.delivered += bytes;
        // A clock that was read before the packet left.
        if sent > now {
            return;
        }
        self.time(now, sent);
        self.measure(now, sent);
        self.newest = Arrival { at: now, sent: sent.max(self.newest.sent) };
        if sent >= self.round.began && now > self.round.began {
            self.end_round(now);
        }
    }

    /// Nothing is under way any more.
    pub(super) fn drained(&mut self, now: Time) {
        self.under_way.clear();
        // An empty line needs no probe.
        self.probe = None;
        self.empty = Some(now);
    }

    /// How many bytes may be under way, so that the path is used and little stands in line.
    pub(super) fn bytes(&self) -> u64 {
        let shortest = self.believed.iter().copied().fold(self.shortest.round_trip, Duration::min);
        let fast = fast_bytes(if shortest < Duration::MAX { shortest } else { Duration::ZERO });
        let (rate, round_trip) = (self.rate(), self.shortest.round_trip);
        if rate == 0 || round_trip == Duration::MAX {
            return fast;
        }
        if self.probe.is_some() {
            return in_time(rate, round_trip / 2).clamp(PROBE_BYTES_MIN, fast);
        }
        let in_line = match self.level_rounds < LEVEL_ROUNDS {
            // As much again as is known to arrive: who may send twice as much finds twice the
            // rate, if there is.
            true => round_trip,
            // No more on a long path than on one that may share its line, or that would starve.
            false => (round_trip / 2).min((round_trip / 5).max(LINE)),
        };
        let least = in_time(rate, STARVED).clamp(FIRST_BYTES, FLIGHT_BYTES_MIN);
        in_time(rate, round_trip.saturating_add(in_line) + PAUSE).clamp(least, fast)
    }

    fn rate(&self) -> u64 {
        self.rates.iter().copied().max().unwrap_or_default()
    }

    fn time(&mut self, now: Time, sent: Time) {
        let round_trip = now.since(sent);
        if round_trip <= self.shortest.round_trip {
            self.shortest = Shortest { round_trip, seen: now };
        }
        if let Some(probe) = &mut self.probe
            && sent >= probe.began
        {
            probe.shortest = probe.shortest.min(round_trip);
        }
        if self.empty.take_if(|empty| sent >= *empty).is_some() {
            // What was sent into an empty line is as good as a probe.
            self.looked = now;
            if now.since(self.shortest.seen) >= PROBE_INTERVAL {
                self.believe(now, round_trip);
            }
        }
    }

    /// How fast came what has arrived since this packet was sent: the longer of the times between
    /// which it was sent and arrived, or bursts would make a rate that the path does not have.
    fn measure(&mut self, now: Time, sent: Time) {
        while self.under_way.front().is_some_and(|first| first.at < sent) {
            self.under_way.pop_front();
        }
        let Some(first) = self.under_way.front().filter(|first| first.at == sent) else { return };
        let elapsed = now.since(first.newest.at).max(first.at.since(first.newest.sent));
        let rate = per_second(self.delivered - first.delivered, elapsed);
        self.rates[self.rate_at] = self.rates[self.rate_at].max(rate);
    }

    fn end_round(&mut self, now: Time) {
        let rate = self.rate();
        let next = Round { began: now, rate, is_full: false };
        let round = std::mem::replace(&mut self.round, next);
        if self.probe.is_some() {
            return self.go_on_probing(now);
        }
        if rate > round.rate.saturating_add(round.rate / 8) {
            self.level_rounds = 0;
        } else if round.is_full {
            self.level_rounds = self.level_rounds.saturating_add(1);
        }
        // Where not more was wanted, more may be possible: only full rounds count.
        if round.is_full {
            self.rate_at = (self.rate_at + 1) % RATES;
            self.rates[self.rate_at] = 0;
        }
        let moment = |time: Time| time.0.as_nanos() / PROBE_INTERVAL.as_nanos();
        if moment(now) > moment(self.looked) {
            self.looked = now;
            if now.since(self.shortest.seen) >= PROBE_INTERVAL / 5 {
                let (shortest, rounds_left) = (Duration::MAX, PROBE_ROUNDS);
                self.probe = Some(Probe { began: now, shortest, rounds_left });
            } else {
                let Shortest { round_trip, seen } = self.shortest;
                self.believe(seen, round_trip);
            }
        }
    }

    fn go_on_probing(&mut self, now: Time) {
        let Some(probe) = &mut self.probe else { return };
        probe.rounds_left -= 1;
        if probe.rounds_left == 0 {
            let shortest = probe.shortest;
            self.probe = None;
            self.believe(now, shortest);
        }
    }

    fn believe(&mut self, now: Time, round_trip: Duration) {
        self.believed[self.believed_at] = self.shortest.round_trip;
        self.believed_at = (self.believed_at + 1) % BELIEVED;
        self.shortest = Shortest { round_trip, seen: now };
    }
}

/// What may be under way at most where a round trip takes no less than this.
pub(in crate::network) fn fast_bytes(round_trip: Duration) -> u64 {
    let in_round_trip = round_trip.as_micros().saturating_mul(FAST_BYTES_PER_US);
    u64::try_from(in_round_trip).unwrap_or(u64::MAX).max(FAST_BYTES_MIN)
}

/// Nothing where no time went by.
fn per_second(bytes: u64, elapsed: Duration) -> u64 {
    let rate = (u128::from(bytes) * NS_PER_S).checked_div(elapsed.as_nanos());
    u64::try_from(rate.unwrap_or_default()).unwrap_or(u64::MAX)
}

fn in_time(bytes_per_s: u64, time: Duration) -> u64 {
    let bytes = u128::from(bytes_per_s) * time.as_nanos() / NS_PER_S;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Full rounds after which a better rate is forgotten.
const RATES: usize = 4;
/// Rounds without growth after which the path is taken to be full.
const LEVEL_ROUNDS: u32 = 2;
/// What a host may let a process wait: it must not look like a queue on the path.
const PAUSE: Duration = Duration::from_millis(4);
/// What may stand in line on a path so long that half of its round trip would be more.
const LINE: Duration = Duration::from_millis(10);
/// Between two moments for a probe: BBRv3's.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// One in which the queue drains, one in which what is sent since comes back.
const PROBE_ROUNDS: u32 = 2;
/// Of those that were believed before, so many still bound what may be under way, for two minutes:
/// a probe on a starved host finds long what is short.
const BELIEVED: usize = 24;
/// As BBR: what two acknowledgements answer.
const PROBE_BYTES_MIN: u64 = 4 * 1_500;
/// Some fifty datagrams, or what the path takes in a tenth of a second: with less, a busy host,
/// where each round trip waits for a processor, would send less and less.
const FLIGHT_BYTES_MIN: u64 = 64 << 10;
const STARVED: Duration = Duration::from_millis(100);
/// What a connection may begin with (RFC 9002 §7.2).
const FIRST_BYTES: u64 = 14_720;
/// Some ninety datagrams, on the shortest of paths.
const FAST_BYTES_MIN: u64 = 128 << 10;
/// 2 Gbit/s: for as long as a round trip takes.
const FAST_BYTES_PER_US: u128 = 250;
/// Moments that are remembered; what is sent at others makes no rate.
const UNDER_WAY_MAX: usize = 16_384;
const NS_PER_S: u128 = 1_000_000_000;
