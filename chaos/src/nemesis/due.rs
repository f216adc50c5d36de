//! What is still to be done in a trial, by time: the same in every world.
//!
//! Plain bookkeeping: carries nothing out. Invariant: a fault comes and goes only until it is over.

use std::{collections::BTreeMap, time::Duration};

use runtime::Time;

use crate::{nemesis::LEADER_BOUND, schedule::Scheduled};

/// What is to be done next, by time and place in the schedule.
pub(crate) type Due = BTreeMap<(Time, usize), Action>;

/// What is to be done of a fault.
#[derive(Clone, Copy)]
pub(crate) enum Action {
    Strike,
    /// A packet fault that comes and goes does so.
    Flap {
        is_gone: bool,
    },
    Return,
}

/// A packet fault comes or goes then, unless it is over by then: of one strike only one thing is
/// done at a time.
pub(crate) fn flap_at(due: &mut Due, place: usize, at: Time, is_gone: bool) {
    let ends = |(key, action): (&(Time, usize), &Action)| {
        key.1 == place && matches!(action, Action::Return)
    };
    let end = due.iter().find(|entry| ends(*entry)).map(|(key, _)| key.0);
    if end.is_some_and(|end| at < end) {
        due.insert((at, place), Action::Flap { is_gone });
    }
}

/// The strikes that are due at that moment, by their place in the schedule.
pub(crate) fn simultaneous(due: &Due, at: Time) -> impl Iterator<Item = usize> {
    let then = due.range((at, 0)..=(at, usize::MAX));
    then.filter(|(_, action)| matches!(action, Action::Strike)).map(|((_, place), _)| *place)
}

/// Whether a strike of a trial that began then is not overdue by more than anybody waits for a
/// leader.
pub(crate) fn may_wait(begin: Time, strike: &Scheduled, now: Time) -> bool {
    now.since(begin.plus(Duration::from_nanos(strike.due_ns))) < LEADER_BOUND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_comes_and_goes_until_it_is_over() {
        let at = |ms| Time(Duration::from_millis(ms));
        let mut due = Due::from([((at(400), 2), Action::Return), ((at(500), 3), Action::Return)]);
        for (place, ms) in [(3, 499), (3, 500), (2, 450), (4, 100)] {
            flap_at(&mut due, place, at(ms), true);
        }
        let flaps = due.iter().filter(|(_, action)| matches!(action, Action::Flap { .. }));
        assert_eq!(flaps.map(|(key, _)| *key).collect::<Vec<_>>(), [(at(499), 3)]);
    }

    #[test]
    fn strikes_of_one_moment_are_found() {
        let at = |ms| Time(Duration::from_millis(ms));
        let strikes = [(400, 1), (400, 4), (401, 2)].map(|(ms, place)| (at(ms), place));
        let mut due: Due = strikes.map(|key| (key, Action::Strike)).into();
        due.insert((at(400), 3), Action::Return);
        assert_eq!(simultaneous(&due, at(400)).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(simultaneous(&due, at(399)).count(), 0);
    }
}
