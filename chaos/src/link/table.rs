//! The links of one socket, by remote address and direction, and what is under way on them.
//!
//! Knows no socket and no clock: whatever carries datagrams asks it about each, and carries the
//! late ones when they are due. Invariants: without reordering, nothing overtakes what waits on
//! the same link; the number of links and of what waits is bounded.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BinaryHeap, VecDeque},
    fmt,
    net::SocketAddr,
    task::Waker,
};

use runtime::Time;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Arrival, Fate, Link, LinkCounts, LinkFaults, LinkFaultsError, validate};
use crate::seed::{Seed, Stream};

/// Which way datagrams go, as the socket sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the remote.
    Out,
    /// From the remote.
    In,
}

/// A link, and what has befallen its datagrams.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LinkReport {
    /// The other end.
    pub remote: SocketAddr,
    /// Which way.
    pub direction: Direction,
    /// What befalls them now.
    pub faults: LinkFaults,
    /// What has.
    pub counts: LinkCounts,
}

/// Why a link cannot be set.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TableError {
    /// A link cannot do that.
    #[error("the link to {remote}: {reason}")]
    Faults {
        /// The other end.
        remote: SocketAddr,
        /// The field, what it says and what is allowed.
        reason: LinkFaultsError,
    },
    /// There are too many.
    #[error("the link to {remote} is one too many: a socket has at most {LINKS_MAX}")]
    Full {
        /// The other end.
        remote: SocketAddr,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Table {
    seed: Seed,
    links: BTreeMap<(SocketAddr, Direction), Row>,
    parcels: BinaryHeap<Reverse<Parcel>>,
    parcels_ever: u64,
    /// A parcel was put in that is due before all others.
    news: bool,
    arrived: VecDeque<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
}

/// A link, and how many of its datagrams wait.
#[derive(Debug)]
struct Row {
    link: Link,
    waiting: usize,
    /// Those that are kept until the link lets them pass, in their order.
    held: Vec<Vec<u8>>,
}

/// A datagram that is due later.
#[derive(PartialEq, Eq, Debug)]
pub struct Parcel {
    due: Time,
    number: u64,
    /// Where from, or where to.
    pub remote: SocketAddr,
    /// Which of the two.
    pub direction: Direction,
    /// Its bytes.
    pub datagram: Vec<u8>,
}

impl Table {
    /// A table without links. Each will draw from a stream of its own.
    pub fn new(seed: Seed) -> Self {
        Self {
            seed,
            links: BTreeMap::new(),
            parcels: BinaryHeap::new(),
            parcels_ever: 0,
            news: false,
            arrived: VecDeque::new(),
            reader: None,
        }
    }

    /// From now on this befalls what goes to the remote, or comes from it. What was held and may
    /// pass now is due at once: whoever carries the parcels asks for [news](Self::has_news).
    ///
    /// # Errors
    /// Faults that a link cannot do, and more links than a table holds.
    pub fn set(
        &mut self,
        remote: SocketAddr,
        direction: Direction,
        faults: LinkFaults,
    ) -> Result<(), TableError> {
        validate(&faults).map_err(|reason| TableError::Faults { remote, reason })?;
        let key = (remote, direction);
        if self.links.len() >= LINKS_MAX && !self.links.contains_key(&key) {
            return Err(TableError::Full { remote });
        }
        // Named by their order: addresses are the host's to choose, and differ from run to run.
        let (seed, number) = (self.seed, self.links.len());
        let row = self.links.entry(key).or_insert_with(|| {
            let stream = Stream::named(seed, &format!("link {number} {direction}"));
            Row { link: Link::new(stream), waiting: 0, held: Vec::new() }
        });
        let is_open = !faults.severs();
        row.link.set(faults);
        if !is_open {
            return Ok(());
        }
        for datagram in std::mem::take(&mut row.held) {
            let number = self.parcels_ever;
            self.parcels_ever += 1;
            row.waiting += 1;
            self.news = true;
            self.parcels.push(Reverse(Parcel {
                due: Time::default(),
                number,
                remote,
                direction,
                datagram,
            }));
        }
        Ok(())
    }

    /// Every link that was ever set.
    pub fn reports(&self) -> Vec<LinkReport> {
        let report = |(key, row): (&(SocketAddr, Direction), &Row)| LinkReport {
            remote: key.0,
            direction: key.1,
            faults: row.link.faults().clone(),
            counts: row.link.counts(),
        };
        self.links.iter().map(report).collect()
    }

    /// The copies that go on at once; the later ones are kept. `None` where nothing befalls the
    /// datagram, which goes on as it is.
    pub fn route(
        &mut self,
        now: Time,
        remote: SocketAddr,
        direction: Direction,
        datagram: &[u8],
    ) -> Option<Vec<Vec<u8>>> {
        let row = self.links.get_mut(&(remote, direction))?;
        let fate = row.link.fate(now, datagram.len());
        let untouched = Fate::Arrives(Arrival { at: now, flip: None }, None);
        if fate == untouched && row.waiting == 0 {
            return None;
        }
        let mut at_once = Vec::new();
        if fate == Fate::Held {
            row.held.push(datagram.to_vec());
        }
        for arrival in fate.arrivals() {
            let mut datagram = datagram.to_vec();
            if let Some(flip) = arrival.flip {
                flip.apply(&mut datagram);
            }
            if arrival.at <= now && row.waiting == 0 {
                at_once.push(datagram);
                continue;
            }
            let (due, number) = (arrival.at, self.parcels_ever);
            let first = self.parcels.peek().is_none_or(|Reverse(first)| due < first.due);
            self.news |= first;
            self.parcels_ever += 1;
            row.waiting += 1;
            self.parcels.push(Reverse(Parcel { due, number, remote, direction, datagram }));
        }
        Some(at_once)
    }

    /// Whether something was put in, since this was last asked, that is due before all others.
    pub fn has_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// The next parcel that is due.
    ///
    /// # Errors
    /// When there will be one, if none is yet.
    pub fn due(&mut self, now: Time) -> Result<Parcel, Option<Time>> {
        let Some(Reverse(first)) = self.parcels.peek() else { return Err(None) };
        if first.due > now {
            return Err(Some(first.due));
        }
        let Some(Reverse(parcel)) = self.parcels.pop() else { return Err(None) };
        if let Some(row) = self.links.get_mut(&(parcel.remote, parcel.direction)) {
            row.waiting -= 1;
        }
        Ok(parcel)
    }

    /// Datagrams have arrived. Whoever receives too slowly loses them, as with any socket.
    pub fn arrive(&mut self, from: SocketAddr, datagrams: Vec<Vec<u8>>) {
        let room = ARRIVED_MAX.saturating_sub(self.arrived.len());
        self.arrived.extend(datagrams.into_iter().take(room).map(|datagram| (from, datagram)));
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// The next datagram that has arrived. If there is none, the reader is woken by the next.
    pub fn take(&mut self, reader: &Waker) -> Option<(SocketAddr, Vec<u8>)> {
        let taken = self.arrived.pop_front();
        if taken.is_none() {
            self.reader = Some(reader.clone());
        }
        taken
    }
}

impl Ord for Parcel {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl PartialOrd for Parcel {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Out => "to",
            Self::In => "from",
        })
    }
}

/// Of one socket. What waits is bounded by it: a link has a bounded number under way.
const LINKS_MAX: usize = 64;
const ARRIVED_MAX: usize = 8_192;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn ms(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    fn late(delay_ms: u64) -> LinkFaults {
        LinkFaults { delay_ms, ..LinkFaults::default() }
    }

    fn table(faults: LinkFaults) -> Table {
        let mut table = Table::new(Seed(1));
        table.set(address(1), Direction::Out, faults).expect("a link can do it");
        table
    }

    fn send(table: &mut Table, at_ms: u64, datagram: u8) -> Option<Vec<Vec<u8>>> {
        table.route(ms(at_ms), address(1), Direction::Out, &[datagram])
    }

    #[test]
    fn strangers_and_the_other_direction_pass_untouched() {
        let mut table = table(LinkFaults::blocked());
        assert_eq!(send(&mut table, 0, 7), Some(vec![]));
        assert_eq!(table.route(ms(0), address(1), Direction::In, &[7]), None);
        assert_eq!(table.route(ms(0), address(2), Direction::Out, &[7]), None);
        let reports = table.reports();
        assert_eq!(reports.len(), 1, "strangers leave nothing behind");
        assert_eq!((reports[0].counts.offered, reports[0].counts.blocked), (1, 1));
    }

    #[test]
    fn nothing_overtakes_what_waits_on_its_link() {
        let mut table = table(late(5));
        assert_eq!(send(&mut table, 0, 1), Some(vec![]));
        assert!(table.has_news() && !table.has_news());
        table.set(address(1), Direction::Out, LinkFaults::default()).expect("nothing");
        // The courier is late: what is due at 5 ms was not carried yet.
        assert_eq!(send(&mut table, 6, 2), Some(vec![]));
        assert!(!table.has_news(), "it is not the first");
        let carried: Vec<u8> =
            std::iter::from_fn(|| table.due(ms(6)).ok()).map(|parcel| parcel.datagram[0]).collect();
        assert_eq!(carried, [1, 2]);
        assert_eq!(table.due(ms(6)), Err(None));
        assert_eq!(send(&mut table, 7, 3), None, "nothing waits, and nothing befalls it");
    }

    #[test]
    fn what_is_held_is_due_at_once_and_in_order_when_nothing_severs_the_link() {
        let mut table = table(LinkFaults { hold: true, ..LinkFaults::default() });
        for datagram in 1..=3 {
            assert_eq!(send(&mut table, u64::from(datagram), datagram), Some(vec![]));
        }
        assert_eq!(table.due(ms(100)), Err(None), "it is kept for as long as it takes");
        let set = |table: &mut Table, faults| {
            table.set(address(1), Direction::Out, faults).expect("a link can do it");
            table.has_news()
        };
        assert!(!set(&mut table, LinkFaults::blocked()), "nothing passes a block");
        assert!(set(&mut table, LinkFaults::default()));
        assert_eq!(send(&mut table, 200, 4), Some(vec![]), "it must not overtake them");
        let carried: Vec<u8> = std::iter::from_fn(|| table.due(ms(200)).ok())
            .map(|parcel| parcel.datagram[0])
            .collect();
        assert_eq!(carried, [1, 2, 3, 4]);
        assert_eq!(table.reports()[0].counts.held, 3);
    }

    #[test]
    fn what_is_not_due_waits() {
        let mut table = table(late(5));
        send(&mut table, 0, 1);
        assert_eq!(table.due(ms(4)), Err(Some(ms(5))));
        assert_eq!(table.due(ms(5)).expect("it is due").datagram, [1]);
    }

    #[test]
    fn what_is_not_fetched_has_a_bound() {
        let mut table = Table::new(Seed(1));
        table.arrive(address(1), vec![vec![0]; ARRIVED_MAX + 10]);
        table.arrive(address(1), vec![vec![0]]);
        let fetched = std::iter::from_fn(|| table.take(Waker::noop())).count();
        assert_eq!(fetched, ARRIVED_MAX);
    }

    #[test]
    fn what_a_table_cannot_hold_is_refused_by_name() {
        let mut table = Table::new(Seed(1));
        let error = table.set(address(9), Direction::Out, late(60_001)).expect_err("too long");
        let text = error.to_string();
        assert!(text.contains("127.0.0.1:9: delay_ms is 60001"), "{text}");
        for port in 1..=64 {
            table.set(address(port), Direction::In, late(1)).expect("there is room");
        }
        let error = table.set(address(65), Direction::In, late(1)).expect_err("no room");
        assert!(error.to_string().contains("127.0.0.1:65 is one too many"), "{error}");
        table.set(address(64), Direction::In, late(2)).expect("it is there already");
    }
}
