//! The places of those that have not been let in yet: a bounded number, in all and for each
//! address.
//!
//! Decides before any handshake, on nothing but where a dial says that it comes from. Invariants:
//! a place is free again when it is dropped, however the handshake ended, but its address gets it
//! back only [`COOLING`] later unless its holder was let in; and who has not shown yet that it can
//! be reached where it says it is takes no more than half of the places.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use metrics::gauge;
use raft::Time;

use crate::{Clock, metric::HANDSHAKES};

/// All places of one node.
pub(crate) struct Places {
    taken: Arc<Mutex<Taken>>,
    clock: Arc<dyn Clock>,
    places_max: usize,
    of_origin_max: usize,
}

/// One of them.
pub(crate) struct Place {
    taken: Arc<Mutex<Taken>>,
    clock: Arc<dyn Clock>,
    origin: Origin,
    let_in: bool,
}

/// Where a dial comes from: an IPv4 address, or the network of an IPv6 address, since one host
/// may have all addresses of its network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Origin(IpAddr);

/// What becomes of a dial.
pub(crate) enum Knock {
    /// It has a place and may begin its handshake.
    Placed(Place),
    /// It is to show that it can be reached where it says it is, and to come back.
    Unproven,
    /// There is no place for it, by this limit.
    Full(&'static str),
}

#[derive(Default)]
struct Taken {
    places: usize,
    /// Places by origin, those that cool down included.
    of_origins: BTreeMap<Origin, usize>,
    /// Free again, but not yet for their origin: when they will be, ascending.
    cooling: VecDeque<(Time, Origin)>,
}

impl Places {
    pub(crate) fn new(places_max: usize, of_origin_max: usize, clock: Arc<dyn Clock>) -> Self {
        Self { taken: Arc::default(), clock, places_max, of_origin_max }
    }

    /// A place, if one is free; `reachable` if the dialer has shown that it is where it says.
    pub(crate) fn take(&self, origin: Origin, reachable: bool) -> Knock {
        let mut taken = lock(&self.taken);
        taken.cool(self.clock.now());
        let of_origin = taken.of_origins.get(&origin).copied().unwrap_or_default();
        if taken.places >= self.places_max {
            return Knock::Full("places");
        }
        if of_origin >= self.of_origin_max {
            return Knock::Full("address");
        }
        let scarce = taken.places >= self.places_max / 2 || of_origin >= self.of_origin_max / 2;
        if scarce && !reachable {
            return Knock::Unproven;
        }
        taken.places += 1;
        taken.of_origins.insert(origin, of_origin + 1);
        drop(taken);
        gauge!(HANDSHAKES).increment(1);
        let (taken, clock) = (Arc::clone(&self.taken), Arc::clone(&self.clock));
        Knock::Placed(Place { taken, clock, origin, let_in: false })
    }
}

impl Place {
    /// Its holder is let in and needs it no more.
    pub(crate) fn let_in(mut self) {
        self.let_in = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        gauge!(HANDSHAKES).decrement(1);
        let mut taken = lock(&self.taken);
        taken.places -= 1;
        if self.let_in {
            return taken.give_back(self.origin);
        }
        if taken.cooling.len() >= COOLING_MAX
            && let Some((_, longest)) = taken.cooling.pop_front()
        {
            taken.give_back(longest);
        }
        taken.cooling.push_back((self.clock.now().plus(COOLING), self.origin));
    }
}

impl Origin {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = v6.to_bits() & !u128::from(u64::MAX);
                Self(Ipv6Addr::from_bits(network).into())
            }
            v4 => Self(v4),
        }
    }
}

impl Taken {
    /// Gives back what has cooled down.
    fn cool(&mut self, now: Time) {
        while let Some((_, origin)) = self.cooling.front().copied().filter(|(due, _)| *due <= now) {
            self.cooling.pop_front();
            self.give_back(origin);
        }
    }

    fn give_back(&mut self, origin: Origin) {
        let Some(of_origin) = self.of_origins.get_mut(&origin) else { return };
        *of_origin -= 1;
        if *of_origin == 0 {
            self.of_origins.remove(&origin);
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long an address waits for a place that came to nothing. So many handshakes as it may have
/// at a time it can also make us begin in this time, and no more.
const COOLING: Duration = Duration::from_secs(1);
/// Places that cool down at a time; beyond it the longest is given back early. Far more than can
/// be shaken hands with in that time, so it only bounds the memory.
const COOLING_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Standing;

    fn places(places_max: usize, of_origin_max: usize) -> (Places, Standing) {
        let clock = Standing::default();
        (Places::new(places_max, of_origin_max, Arc::new(clock.clone())), clock)
    }

    fn from(text: &str) -> Origin {
        Origin::of(text.parse().expect("an address"))
    }

    fn placed(knock: Knock) -> Place {
        match knock {
            Knock::Placed(place) => place,
            Knock::Unproven => panic!("it is to show that it is reachable"),
            Knock::Full(limit) => panic!("there is no place by {limit}"),
        }
    }

    fn full(knock: &Knock) -> Option<&'static str> {
        match knock {
            Knock::Full(limit) => Some(limit),
            Knock::Placed(_) | Knock::Unproven => None,
        }
    }

    #[test]
    fn one_address_takes_its_share_of_the_places_and_leaves_the_others() {
        let (places, _) = places(6, 2);
        let _held = [0, 1].map(|_| placed(places.take(from("192.0.2.1"), true)));
        assert_eq!(full(&places.take(from("192.0.2.1"), true)), Some("address"));
        assert_eq!(full(&places.take(from("::ffff:192.0.2.1"), true)), Some("address"));
        let _others = [2, 3, 4, 5].map(|last| {
            let address: IpAddr = [192, 0, 2, last].into();
            placed(places.take(Origin::of(address), true))
        });
        assert_eq!(full(&places.take(from("192.0.2.9"), true)), Some("places"));
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_are_one() {
        let (places, _) = places(8, 1);
        let _held = placed(places.take(from("2001:db8:0:7::1"), true));
        assert_eq!(full(&places.take(from("2001:db8:0:7:ffff::2"), true)), Some("address"));
        let _other = placed(places.take(from("2001:db8:0:8::1"), true));
    }

    #[test]
    fn who_was_let_in_frees_its_place_at_once_and_anyone_else_later() {
        let (places, clock) = places(8, 1);
        let address = from("192.0.2.1");
        placed(places.take(address, true)).let_in();
        drop(placed(places.take(address, true)));
        assert_eq!(full(&places.take(address, true)), Some("address"));
        clock.advance(COOLING / 2);
        assert_eq!(full(&places.take(address, true)), Some("address"));
        clock.advance(COOLING / 2);
        drop(placed(places.take(address, true)));
        assert_eq!(lock(&places.taken).places, 0, "in all they are free at once");
    }

    #[test]
    fn who_may_not_be_where_it_says_takes_no_more_than_half() {
        let (places, _) = places(8, 4);
        let near = from("192.0.2.1");
        let _two = [0, 1].map(|_| placed(places.take(near, false)));
        assert!(matches!(places.take(near, false), Knock::Unproven), "half of its address");
        let _four =
            [2, 3].map(|last| placed(places.take(Origin::of([192, 0, 2, last].into()), false)));
        let far = from("192.0.2.9");
        assert!(matches!(places.take(far, false), Knock::Unproven), "half of all");
        let _proven = [0, 1].map(|_| placed(places.take(near, true)));
        assert_eq!(full(&places.take(near, true)), Some("address"));
        let _other = placed(places.take(far, true));
    }

    #[test]
    fn what_is_remembered_of_addresses_has_a_limit_and_ends() {
        let (places, clock) = places(8, 1);
        for number in 0..2 * COOLING_MAX as u32 {
            drop(placed(places.take(Origin::of(number.to_be_bytes().into()), true)));
        }
        let remembered = lock(&places.taken).of_origins.len();
        assert_eq!(remembered, COOLING_MAX);
        let newest = Origin::of((2 * COOLING_MAX as u32 - 1).to_be_bytes().into());
        assert_eq!(full(&places.take(newest, true)), Some("address"));
        clock.advance(COOLING);
        placed(places.take(newest, true)).let_in();
        assert!(lock(&places.taken).of_origins.is_empty());
    }
}
