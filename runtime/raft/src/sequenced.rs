//! Values by the sequence of a session's request.
//!
//! Sequences come almost in order and go from the front, so a queue serves: nothing is set aside
//! for each of them, as a tree would. Invariant: sequences rise strictly. One that comes far out
//! of order costs no more than moving what is kept, which its owner bounds.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "VecDeque<(u64, V)>")]
pub(crate) struct Sequenced<V>(VecDeque<(u64, V)>);

impl<V> Sequenced<V> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<&V> {
        self.find(sequence).ok().map(|place| &self.0[place].1)
    }

    /// Keeps a value, unless there is one of that sequence: that stays.
    pub(crate) fn insert(&mut self, sequence: u64, value: V) {
        if let Err(place) = self.find(sequence) {
            self.put(place, sequence, value);
        }
    }

    /// The value of that sequence; if there is none, and `fill` is some, it fills one where that
    /// is then kept: to move it there costs more than to make it.
    #[inline]
    pub(crate) fn get_or_fill(
        &mut self,
        sequence: u64,
        fill: Option<impl FnOnce(&mut V)>,
    ) -> Option<&V>
    where
        V: Default,
    {
        match (self.find(sequence), fill) {
            (Ok(place), _) => return Some(&self.0[place].1),
            (Err(place), Some(fill)) => {
                self.put(place, sequence, V::default());
                fill(&mut self.0[place].1);
            }
            (Err(_), None) => {}
        }
        None
    }

    #[inline]
    fn put(&mut self, place: usize, sequence: u64, value: V) {
        match place == self.0.len() {
            // The way of almost all: nothing has to make room.
            true => self.0.push_back((sequence, value)),
            false => self.0.insert(place, (sequence, value)),
        }
    }

    /// Removes the value of that sequence, if it is this one.
    pub(crate) fn remove(&mut self, sequence: u64, value: &V)
    where
        V: PartialEq,
    {
        match self.find(sequence) {
            Ok(place) if self.0[place].1 != *value => {}
            // The way of almost all again.
            Ok(0) => drop(self.0.pop_front()),
            Ok(place) => drop(self.0.remove(place)),
            Err(_) => {}
        }
    }

    /// Lets go of all before `floor`.
    pub(crate) fn raise(&mut self, floor: u64) {
        // One by one: a client that goes on steadily lets go of one with each command.
        while self.0.front().is_some_and(|(sequence, _)| *sequence < floor) {
            self.0.pop_front();
        }
        // A burst is over: its room goes back, and that of a steady client stays.
        if self.0.is_empty() && self.0.capacity() > ROOM_KEPT {
            self.0 = VecDeque::new();
        }
    }

    /// How many there are from `floor` on.
    pub(crate) fn count_from(&self, floor: u64) -> usize {
        self.0.len() - self.find(floor).unwrap_or_else(|place| place)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.0.iter().map(|(sequence, value)| (*sequence, value))
    }

    /// Its place, or the one that it would take.
    fn find(&self, sequence: u64) -> Result<usize, usize> {
        let (Some((first, _)), Some((last, _))) = (self.0.front(), self.0.back()) else {
            return Err(0);
        };
        if sequence > *last {
            return Err(self.0.len());
        }
        let Some(place) = sequence.checked_sub(*first) else { return Err(0) };
        // Where none is missing before it, it stands as far from the first as it counts from it.
        let guess = usize::try_from(place).unwrap_or(usize::MAX);
        match self.0.get(guess) {
            Some((found, _)) if *found == sequence => Ok(guess),
            _ => self.0.binary_search_by_key(&sequence, |(sequence, _)| *sequence),
        }
    }
}

impl<V> Default for Sequenced<V> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<V> FromIterator<(u64, V)> for Sequenced<V> {
    fn from_iter<I: IntoIterator<Item = (u64, V)>>(values: I) -> Self {
        let mut sequenced = Self::default();
        values.into_iter().for_each(|(sequence, value)| sequenced.insert(sequence, value));
        sequenced
    }
}

/// What comes from elsewhere may be in any order.
impl<V> TryFrom<VecDeque<(u64, V)>> for Sequenced<V> {
    type Error = &'static str;

    fn try_from(values: VecDeque<(u64, V)>) -> Result<Self, Self::Error> {
        let rises =
            values.iter().zip(values.iter().skip(1)).all(|((one, _), (next, _))| one < next);
        rises.then_some(Self(values)).ok_or("sequences that do not rise")
    }
}

/// What an empty queue may keep room for.
const ROOM_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    #[test]
    fn it_holds_what_a_tree_would_whatever_comes() {
        let mut state = 5u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % bound
        };
        let (mut tree, mut queue) = (BTreeMap::new(), Sequenced::default());
        for round in 0..20_000u64 {
            let sequence = round / 4 + below(40);
            match below(5) {
                0 => {
                    let value = tree.remove(&sequence).unwrap_or_default();
                    queue.remove(sequence, &(value + 1));
                    queue.remove(sequence, &value);
                }
                1 => {
                    let floor = (round / 4).saturating_sub(below(10));
                    tree = tree.split_off(&floor);
                    queue.raise(floor);
                }
                2 => {
                    let known = tree.get(&sequence);
                    assert_eq!(queue.get_or_fill(sequence, None::<fn(&mut u64)>), known);
                    let fill = |value: &mut u64| *value = round;
                    assert_eq!(queue.get_or_fill(sequence, Some(fill)), known);
                    tree.entry(sequence).or_insert(round);
                }
                _ => {
                    tree.entry(sequence).or_insert(round);
                    queue.insert(sequence, round);
                }
            }
            assert_eq!(queue.get(sequence), tree.get(&sequence), "round {round}");
            assert_eq!(queue.count_from(sequence), tree.range(sequence..).count());
            assert_eq!((queue.len(), queue.is_empty()), (tree.len(), tree.is_empty()));
        }
        assert!(queue.iter().eq(tree.iter().map(|(sequence, value)| (*sequence, value))));
        assert_eq!(tree.into_iter().collect::<Sequenced<_>>(), queue);
    }

    #[test]
    fn the_room_of_a_burst_is_given_back_once_it_is_over() {
        let mut queue = Sequenced::default();
        (1..=4_096).for_each(|sequence| queue.insert(sequence, ()));
        queue.raise(4_096);
        assert_eq!((queue.len(), queue.0.capacity() >= 4_096), (1, true), "it goes on");
        queue.raise(4_097);
        assert!(queue.is_empty() && queue.0.capacity() <= ROOM_KEPT);
    }

    #[test]
    fn what_does_not_rise_is_refused() {
        let of = |sequences: &[u64]| {
            let values: VecDeque<_> = sequences.iter().map(|sequence| (*sequence, ())).collect();
            Sequenced::try_from(values)
        };
        assert!(of(&[]).is_ok() && of(&[3]).is_ok() && of(&[1, 2, u64::MAX]).is_ok());
        assert!(of(&[1, 1]).is_err() && of(&[2, 1]).is_err() && of(&[1, 3, 2]).is_err());
    }
}
