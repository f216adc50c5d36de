//! Which few inputs reach most of what all of them reach.
//!
//! Pure functions of what libFuzzer wrote down. Invariant: each one that is chosen reaches
//! something that those before it do not, and none that is left reaches more.

use std::collections::BTreeSet;

/// What each input reaches, by the numbers that libFuzzer gives to it: lines `FT input numbers…`.
pub(crate) fn reached(control: &str) -> Vec<BTreeSet<u32>> {
    let lines = control.lines().filter_map(|line| line.strip_prefix("FT "));
    let numbers =
        |line: &str| line.split(' ').skip(1).filter_map(|word| word.parse().ok()).collect();
    lines.map(numbers).collect()
}

/// The places of as many inputs as may be chosen, the widest first, and how many percent of all
/// they reach.
pub(crate) fn widest(reached: &[BTreeSet<u32>], inputs_max: usize) -> (Vec<usize>, f64) {
    let all: BTreeSet<u32> = reached.iter().flatten().copied().collect();
    let (mut lacking, mut chosen) = (all.clone(), Vec::new());
    while chosen.len() < inputs_max {
        let gain = |place: &usize| reached[*place].intersection(&lacking).count();
        // The first of those that gain the same.
        let Some(best) = (0..reached.len()).rev().max_by_key(gain) else { break };
        if gain(&best) == 0 {
            break;
        }
        lacking.retain(|number| !reached[best].contains(number));
        chosen.push(best);
    }
    let share = 100.0 * (all.len() - lacking.len()) as f64 / all.len().max(1) as f64;
    (chosen, share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_inputs_are_chosen_that_reach_most() {
        let control = "4\n0\na\nb\nc\nd\nSTARTED 0 1\nFT 0 1 2\nCOV 0 7\nSTARTED 1 1\nFT 1 1 2 3\n\
                       COV 1\nSTARTED 2 2\nFT 2 4\nCOV 2\nSTARTED 3 9\nFT 3\nCOV 3\n";
        let reached = reached(control);
        assert_eq!(reached.len(), 4);
        assert_eq!(widest(&reached, 9), (vec![1, 2], 100.0));
        assert_eq!(widest(&reached, 1), (vec![1], 75.0));
        assert_eq!(widest(&[], 9), (Vec::new(), 0.0));
        let same = [BTreeSet::from([1]), BTreeSet::from([1])];
        assert_eq!(widest(&same, 9).0, [0], "the first, and not the same once more");
    }
}
