//! The network of the model: loses, delays, doubles, reorders and cuts.
//!
//! Sees messages pass and never looks into them. A cut holds while any fault asks for it.

use raft::Time;

use super::{
    node::Seat,
    profile::{Span, Weather},
};
use crate::seed::{Seed, Stream};

/// See the module.
#[derive(Debug)]
pub(super) struct Network {
    draw: Stream,
    weather: Weather,
    seats: usize,
    /// By sender and receiver: how many faults cut the link.
    cuts: Vec<u32>,
    /// By sender and receiver: when the latest message arrives.
    latest: Vec<Time>,
    /// Cuts of an earlier age were healed all at once.
    age: u64,
}

/// Links that a fault has cut, from sender to receiver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Cut {
    age: u64,
    links: Vec<(Seat, Seat)>,
}

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Fate {
    /// When it arrives; `None` if it is lost.
    pub(super) arrives: Option<Time>,
    /// When it arrives once more.
    pub(super) again: Option<Time>,
    /// It overtakes one that was sent before it.
    pub(super) overtakes: bool,
}

impl Network {
    /// A network with no links cut.
    pub(super) fn new(seed: Seed, weather: Weather, seats: usize) -> Self {
        let links = seats * seats;
        Self {
            draw: Stream::named(seed, "network"),
            weather,
            seats,
            cuts: vec![0; links],
            latest: vec![Time::default(); links],
            age: 0,
        }
    }

    /// Decides what becomes of a message that is sent now.
    pub(super) fn fate(&mut self, now: Time, from: Seat, to: Seat) -> Fate {
        if self.is_cut(from, to) || self.draw.chance(self.weather.loss_permille) {
            return Fate::default();
        }
        let link = self.link(from, to);
        let drawn = now.plus(self.delay());
        let arrives = if self.weather.reorders { drawn } else { drawn.max(self.latest[link]) };
        let overtakes = arrives < self.latest[link];
        self.latest[link] = self.latest[link].max(arrives);
        let doubled = self.draw.chance(self.weather.duplicate_permille);
        let again = doubled.then(|| arrives.plus(self.delay()));
        Fate { arrives: Some(arrives), again, overtakes }
    }

    /// Whether nothing passes from one to the other.
    pub(super) fn is_cut(&self, from: Seat, to: Seat) -> bool {
        self.cuts[self.link(from, to)] > 0
    }

    /// Cuts every link that the rule names.
    pub(super) fn cut(&mut self, rule: impl Fn(Seat, Seat) -> bool) -> Cut {
        let seats = self.seats;
        let all = (0..seats).flat_map(|from| (0..seats).map(move |to| (Seat(from), Seat(to))));
        let links: Vec<_> = all.filter(|(from, to)| from != to && rule(*from, *to)).collect();
        for (from, to) in &links {
            let link = self.link(*from, *to);
            self.cuts[link] += 1;
        }
        Cut { age: self.age, links }
    }

    /// Ends a cut; yields the links that carry messages again.
    pub(super) fn heal(&mut self, cut: &Cut) -> Vec<(Seat, Seat)> {
        if cut.age != self.age {
            return Vec::new();
        }
        for (from, to) in &cut.links {
            let link = self.link(*from, *to);
            self.cuts[link] = self.cuts[link].saturating_sub(1);
        }
        cut.links.iter().copied().filter(|(from, to)| !self.is_cut(*from, *to)).collect()
    }

    /// Ends all cuts and all bad weather.
    pub(super) fn heal_all(&mut self) {
        self.age += 1;
        self.cuts.fill(0);
        self.weather = Weather::calm();
    }

    /// How long a message takes now.
    pub(super) fn delay(&mut self) -> std::time::Duration {
        let straggles = self.draw.chance(self.weather.straggle_permille);
        let Span(min, max) = if straggles { self.weather.straggle } else { self.weather.delay };
        self.draw.duration(min, max)
    }

    fn link(&self, from: Seat, to: Seat) -> usize {
        from.0 * self.seats + to.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn network(weather: Weather) -> Network {
        Network::new(Seed(1), weather, 3)
    }

    fn weather() -> Weather {
        let delay = Span(Duration::from_millis(1), Duration::from_millis(9));
        Weather {
            delay,
            loss_permille: 0,
            duplicate_permille: 0,
            straggle_permille: 0,
            straggle: delay,
            reorders: false,
        }
    }

    #[test]
    fn a_cut_holds_until_every_fault_has_ended() {
        let mut network = network(weather());
        let one_way = network.cut(|from, _| from == Seat(0));
        let both = network.cut(|from, to| from == Seat(0) || to == Seat(0));
        assert_eq!(network.fate(Time::default(), Seat(0), Seat(1)).arrives, None);
        assert!(network.heal(&one_way).is_empty());
        assert!(network.is_cut(Seat(0), Seat(1)) && network.is_cut(Seat(1), Seat(0)));
        assert_eq!(network.heal(&both).len(), 4);
        assert!(network.fate(Time::default(), Seat(0), Seat(1)).arrives.is_some());
    }

    #[test]
    fn a_cut_from_before_a_general_healing_no_longer_counts() {
        let mut network = network(weather());
        let old = network.cut(|_, _| true);
        network.heal_all();
        let new = network.cut(|_, _| true);
        assert!(network.heal(&old).is_empty());
        assert!(network.is_cut(Seat(0), Seat(1)));
        assert_eq!(network.heal(&new).len(), 6);
    }

    #[test]
    fn without_reordering_a_link_keeps_its_order() {
        let mut network = network(weather());
        let mut last = Time::default();
        for _ in 0..500 {
            let fate = network.fate(Time::default(), Seat(0), Seat(1));
            let arrives = fate.arrives.expect("nothing is lost");
            assert!(arrives >= last && !fate.overtakes);
            last = arrives;
        }
    }
}
