//! One direction of a link between two nodes, as a model: what becomes of each datagram.
//!
//! Knows no clock, no socket and no bytes: it is told the moment and the size, draws from the
//! stream it was given, and says which copies arrive when. Whoever asks carries it out.
//! Invariants: equal streams and equal questions give equal fates; a link has a bounded number
//! of datagrams under way; without [`LinkFaults::reorder`] they arrive in order.

mod faults;
mod table;
#[cfg(test)]
mod tests;

use std::{cmp::Reverse, collections::BinaryHeap, ops::AddAssign, time::Duration};

use runtime::Time;
use serde::{Deserialize, Serialize};

use crate::seed::Stream;

pub use faults::{LinkFaults, LinkFaultsError, NotAShare, Share, validate};
pub use table::{Direction, LinkReport, Parcel, Table, TableError};

/// One direction of a link.
#[derive(Debug)]
pub struct Link {
    faults: LinkFaults,
    stream: Stream,
    counts: LinkCounts,
    /// When the line is done with what it has taken.
    line_free_at: Time,
    /// When the last of those that keep their order arrives.
    latest: Time,
    /// When what is under way arrives.
    under_way: BinaryHeap<Reverse<Time>>,
    /// When those arrive that were held back and that nobody has overtaken yet.
    held_back: Vec<Time>,
    /// How many it has kept since it holds.
    held: usize,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It arrives, maybe twice.
    Arrives(Arrival, Option<Arrival>),
    /// It is kept until the link is [set](Link::set) to something that lets it pass; then it
    /// arrives at once, with all others in their order.
    Held,
    /// It does not, because of this.
    Gone(Cause),
}

/// One copy of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// When; never before it was sent.
    pub at: Time,
    /// What is changed in it.
    pub flip: Option<Flip>,
}

/// One bit of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flip {
    draw: u64,
}

/// Why a datagram does not arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The link lets nothing pass.
    Blocked,
    /// It was drawn.
    Lost,
    /// Too much waits for the line, or is under way.
    Overflowed,
}

/// What a link was given, and each fault that took place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LinkCounts {
    /// Datagrams that it was given.
    pub offered: u64,
    /// Of them, those that it let nothing of pass.
    pub blocked: u64,
    /// Those that it kept for a while.
    #[serde(default)]
    pub held: u64,
    /// Those that it lost.
    pub lost: u64,
    /// Copies that found no place.
    pub overflowed: u64,
    /// Copies that arrive, or have.
    pub arrivals: u64,
    /// Of them, those that come later by the delay.
    pub delayed: u64,
    /// Those that come later by a drawn time on top.
    pub jittered: u64,
    /// Those that were held back and that a later one overtook.
    pub reordered: u64,
    /// Those that are the second of their datagram.
    pub duplicated: u64,
    /// Those with a bit changed.
    pub corrupted: u64,
    /// Those that waited for the line.
    pub throttled: u64,
}

/// All that is drawn for one datagram. Drawn whether it is asked for or not: turning one fault
/// on changes whom the others strike in nothing.
struct Draws {
    loss: u64,
    duplicate: u64,
    copies: [CopyDraws; 2],
}

struct CopyDraws {
    jitter: u64,
    reorder: u64,
    corrupt: u64,
    flip: u64,
}

impl Link {
    /// A link that does nothing to anything yet.
    pub fn new(stream: Stream) -> Self {
        Self {
            faults: LinkFaults::default(),
            stream,
            counts: LinkCounts::default(),
            line_free_at: Time::default(),
            latest: Time::default(),
            under_way: BinaryHeap::new(),
            held_back: Vec::new(),
            held: 0,
        }
    }

    /// From now on this befalls what it is given; it must be [valid](validate). What is under
    /// way arrives as it would have, and what is sent from now on does not queue behind it.
    pub fn set(&mut self, faults: LinkFaults) {
        if self.faults == faults {
            return;
        }
        self.faults = faults;
        self.line_free_at = Time::default();
        self.latest = Time::default();
        self.held_back.clear();
        if !self.faults.severs() {
            self.held = 0;
        }
    }

    /// What befalls what it is given.
    pub fn faults(&self) -> &LinkFaults {
        &self.faults
    }

    /// What has befallen what it was given.
    pub fn counts(&self) -> LinkCounts {
        self.counts
    }

    /// What becomes of a datagram of so many bytes that is sent now. Moments must not go back.
    pub fn fate(&mut self, now: Time, bytes: usize) -> Fate {
        self.counts.offered += 1;
        if self.faults.is_none() {
            self.counts.arrivals += 1;
            return Fate::Arrives(Arrival { at: now, flip: None }, None);
        }
        let draws = Draws::of(&mut self.stream);
        self.forget(now);
        if self.faults.block {
            self.counts.blocked += 1;
            return Fate::Gone(Cause::Blocked);
        }
        if self.faults.hold {
            return self.hold();
        }
        if self.faults.loss.holds(draws.loss) {
            self.counts.lost += 1;
            return Fate::Gone(Cause::Lost);
        }
        let Some(first) = self.copy(now, bytes, &draws.copies[0]) else {
            return Fate::Gone(Cause::Overflowed);
        };
        let twice = self.faults.duplicate.holds(draws.duplicate);
        let second = twice.then(|| self.copy(now, bytes, &draws.copies[1])).flatten();
        self.counts.duplicated += u64::from(second.is_some());
        Fate::Arrives(first, second)
    }

    fn hold(&mut self) -> Fate {
        if self.held >= UNDER_WAY_MAX {
            self.counts.overflowed += 1;
            return Fate::Gone(Cause::Overflowed);
        }
        self.held += 1;
        self.counts.held += 1;
        self.counts.arrivals += 1;
        Fate::Held
    }

    /// One copy on its way; `None` if there is no place for it.
    fn copy(&mut self, now: Time, bytes: usize, draws: &CopyDraws) -> Option<Arrival> {
        let room = self.under_way.len() < UNDER_WAY_MAX;
        let Some(sent) = room.then(|| self.through_line(now, bytes)).flatten() else {
            self.counts.overflowed += 1;
            return None;
        };
        let jitter = within(Duration::from_millis(self.faults.jitter_ms), draws.jitter);
        let delay = Duration::from_millis(self.faults.delay_ms);
        let in_order = sent.plus(delay).plus(jitter).max(self.latest);
        let at = match self.faults.reorder.holds(draws.reorder) {
            true => {
                let at = in_order.plus(Duration::from_millis(self.faults.reorder_ms));
                self.held_back.push(at);
                at
            }
            false => {
                self.latest = in_order;
                self.overtake(in_order);
                in_order
            }
        };
        if at > now {
            self.under_way.push(Reverse(at));
        }
        let flip = (bytes > 0 && self.faults.corrupt.holds(draws.corrupt))
            .then_some(Flip { draw: draws.flip });
        self.counts.arrivals += 1;
        self.counts.delayed += u64::from(!delay.is_zero());
        self.counts.jittered += u64::from(!jitter.is_zero());
        self.counts.corrupted += u64::from(flip.is_some());
        Some(Arrival { at, flip })
    }

    /// When the line has sent it; `None` if too much waits before it.
    fn through_line(&mut self, now: Time, bytes: usize) -> Option<Time> {
        let Some(bytes_per_s) = self.faults.bandwidth_bytes_per_s else { return Some(now) };
        let bytes = bytes as u128;
        let begins = self.line_free_at.max(now);
        let waiting_bytes = begins.since(now).as_nanos() * u128::from(bytes_per_s) / NS_PER_S;
        if waiting_bytes + bytes > u128::from(self.faults.queue_bytes_max) {
            return None;
        }
        let takes_ns = (bytes * NS_PER_S).div_ceil(u128::from(bytes_per_s));
        let takes = Duration::from_nanos(u64::try_from(takes_ns).unwrap_or(u64::MAX));
        self.line_free_at = begins.plus(takes);
        self.counts.throttled += u64::from(begins > now);
        Some(self.line_free_at)
    }

    /// Something arrives then, before those that were held back for longer.
    fn overtake(&mut self, at: Time) {
        let before = self.held_back.len();
        self.held_back.retain(|held_until| *held_until <= at);
        self.counts.reordered += (before - self.held_back.len()) as u64;
    }

    /// What has arrived is no longer under way.
    fn forget(&mut self, now: Time) {
        while self.under_way.peek().is_some_and(|Reverse(at)| *at <= now) {
            self.under_way.pop();
        }
        self.held_back.retain(|at| *at > now);
    }
}

impl Fate {
    /// All copies of which it is known when they arrive.
    pub fn arrivals(self) -> impl Iterator<Item = Arrival> {
        let (first, second) = match self {
            Self::Arrives(first, second) => (Some(first), second),
            Self::Held | Self::Gone(_) => (None, None),
        };
        first.into_iter().chain(second)
    }
}

impl Flip {
    /// Changes the bit. An empty datagram has none.
    pub fn apply(self, datagram: &mut [u8]) {
        let bits = datagram.len() as u64 * 8;
        let Some(bit) = self.draw.checked_rem(bits) else { return };
        let byte = usize::try_from(bit / 8).expect("a place in memory");
        datagram[byte] ^= 1 << (bit % 8);
    }
}

impl Draws {
    fn of(stream: &mut Stream) -> Self {
        let loss = stream.draw();
        let duplicate = stream.draw();
        let copies = std::array::from_fn(|_| CopyDraws {
            jitter: stream.draw(),
            reorder: stream.draw(),
            corrupt: stream.draw(),
            flip: stream.draw(),
        });
        Self { loss, duplicate, copies }
    }
}

impl LinkCounts {
    /// Each fault by its name, and how often it took place.
    pub fn faults(&self) -> [(&'static str, u64); 10] {
        [
            ("blocked", self.blocked),
            ("held", self.held),
            ("lost", self.lost),
            ("overflowed", self.overflowed),
            ("delayed", self.delayed),
            ("jittered", self.jittered),
            ("reordered", self.reordered),
            ("duplicated", self.duplicated),
            ("corrupted", self.corrupted),
            ("throttled", self.throttled),
        ]
    }

    /// How often any fault took place.
    pub fn struck(&self) -> u64 {
        self.faults().into_iter().map(|(_, count)| count).sum()
    }

    /// What was counted after an earlier count; all of it if it was begun anew meanwhile.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        if self.offered < earlier.offered {
            return self;
        }
        self.with(earlier, u64::saturating_sub)
    }

    fn with(self, other: Self, join: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            offered: join(self.offered, other.offered),
            blocked: join(self.blocked, other.blocked),
            held: join(self.held, other.held),
            lost: join(self.lost, other.lost),
            overflowed: join(self.overflowed, other.overflowed),
            arrivals: join(self.arrivals, other.arrivals),
            delayed: join(self.delayed, other.delayed),
            jittered: join(self.jittered, other.jittered),
            reordered: join(self.reordered, other.reordered),
            duplicated: join(self.duplicated, other.duplicated),
            corrupted: join(self.corrupted, other.corrupted),
            throttled: join(self.throttled, other.throttled),
        }
    }
}

impl AddAssign for LinkCounts {
    fn add_assign(&mut self, other: Self) {
        *self = self.with(other, u64::saturating_add);
    }
}

/// A time from none to `most`, by this draw.
fn within(most: Duration, draw: u64) -> Duration {
    let most_ns = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    let part = (u128::from(draw) * (u128::from(most_ns) + 1)) >> 64;
    Duration::from_nanos(u64::try_from(part).unwrap_or(most_ns))
}

/// Copies under way on one link: some 12 MB of usual datagrams.
const UNDER_WAY_MAX: usize = 8_192;
const NS_PER_S: u128 = 1_000_000_000;
