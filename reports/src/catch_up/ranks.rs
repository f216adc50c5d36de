//! Whether two sets of samples differ by more than their noise: the Mann-Whitney test.
//!
//! It asks only which of two samples is the larger one, so neither a long tail nor a single slow
//! trial decides. Invariant: of few samples the answer is exact, ties included; nothing is assumed
//! of how they are distributed.

/// How likely it is, if both sets were drawn from the same, that they lie apart so far or farther,
/// either way. `None` where one is empty.
pub(super) fn mann_whitney(one: &[f64], other: &[f64]) -> Option<f64> {
    let (n, m) = (one.len(), other.len());
    if n == 0 || m == 0 {
        return None;
    }
    let (ranks, sum) = ranked(one, other);
    Some(if n + m <= EXACT_MAX { exact(&ranks, n, sum) } else { approximate(&ranks, n, sum) })
}

/// Twice the rank of each of both, and the sum of those of `one`.
fn ranked(one: &[f64], other: &[f64]) -> (Vec<usize>, usize) {
    let mut all: Vec<(f64, bool)> =
        one.iter().map(|x| (*x, true)).chain(other.iter().map(|x| (*x, false))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Ranks are doubled, so that those of ties are whole numbers too.
    let ranks = doubled_ranks(&all);
    let of_one = ranks.iter().zip(&all).filter(|(_, (_, is_one))| *is_one);
    let sum = of_one.map(|(rank, _)| rank).sum();
    (ranks, sum)
}

/// Twice the rank of each, from 1; ties share theirs.
fn doubled_ranks(sorted: &[(f64, bool)]) -> Vec<usize> {
    let mut ranks = Vec::with_capacity(sorted.len());
    for ties in sorted.chunk_by(|a, b| a.0 == b.0) {
        let (first, last) = (ranks.len() + 1, ranks.len() + ties.len());
        ranks.extend(std::iter::repeat_n(first + last, ties.len()));
    }
    ranks
}

/// Of all ways to choose `n` of the ranks, the share whose sum is as far from the middle as this.
fn exact(ranks: &[usize], n: usize, sum: usize) -> f64 {
    let total: usize = ranks.iter().sum();
    // How many ways there are to choose so many with this sum.
    let mut ways = vec![vec![0.0_f64; total + 1]; n + 1];
    ways[0][0] = 1.0;
    for (seen, rank) in ranks.iter().enumerate() {
        for chosen in (0..n.min(seen + 1)).rev() {
            for reached in (0..=total - rank).rev() {
                let more = ways[chosen][reached];
                if more > 0.0 {
                    ways[chosen + 1][reached + rank] += more;
                }
            }
        }
    }
    let all: f64 = ways[n].iter().sum();
    // In units of the middle times the number of ranks, so that all is whole.
    let off = |sum: usize| (sum * ranks.len()).abs_diff(total * n);
    let as_far: f64 = ways[n]
        .iter()
        .enumerate()
        .filter(|(other, _)| off(*other) >= off(sum))
        .map(|(_, ways)| ways)
        .sum();
    (as_far / all).min(1.0)
}

/// By the normal distribution, with the variance that the ranks really have, so ties are counted.
fn approximate(ranks: &[usize], n: usize, sum: usize) -> f64 {
    let (all, n) = (ranks.len() as f64, n as f64);
    let mean = ranks.iter().sum::<usize>() as f64 / all;
    let squares: f64 = ranks.iter().map(|rank| (*rank as f64 - mean).powi(2)).sum();
    let variance = n * (all - n) / all * squares / (all - 1.0);
    if variance <= 0.0 {
        return 1.0;
    }
    // Half a rank is the step between two sums; doubled, one.
    let off = ((sum as f64 - n * mean).abs() - 1.0).max(0.0);
    2.0 * upper_tail(off / variance.sqrt())
}

/// How much of the normal distribution lies above, to seven digits (Abramowitz and Stegun,
/// 26.2.17).
fn upper_tail(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let terms = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum = terms.iter().rev().fold(0.0, |sum, term| (sum + term) * t);
    (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * sum
}

/// Up to here all ways to choose are counted.
const EXACT_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn p(one: &[f64], other: &[f64]) -> f64 {
        mann_whitney(one, other).unwrap()
    }

    #[test]
    fn sets_that_lie_apart_are_as_unlikely_as_their_number_allows() {
        // One of 20 ways to choose three of six, and the one at the other end.
        assert!((p(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]) - 0.1).abs() < 1e-12);
        assert!((p(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0]) - 2.0 / 70.0).abs() < 1e-12);
        assert_eq!(p(&[4.0, 5.0, 6.0], &[1.0, 2.0, 3.0]), p(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]));
    }

    #[test]
    fn what_is_mixed_or_the_same_is_noise() {
        assert_eq!(p(&[1.0, 4.0], &[2.0, 3.0]), 1.0);
        assert_eq!(p(&[5.0; 6], &[5.0; 6]), 1.0);
        assert_eq!(p(&[5.0; 30], &[5.0; 30]), 1.0);
        assert_eq!((mann_whitney(&[], &[1.0]), mann_whitney(&[1.0], &[])), (None, None));
    }

    #[test]
    fn ties_count_half_for_either() {
        // Of the ten ways to choose two of 1, 2, 2, 3, 4: {1, 2} twice and its mirror {3, 4} once,
        // and nothing else is so far off: ranks 1, 2.5, 2.5, 4, 5, middle 6.
        assert!((p(&[1.0, 2.0], &[2.0, 3.0, 4.0]) - 0.3).abs() < 1e-12);
    }

    #[test]
    fn many_samples_are_judged_much_like_few() {
        let of = |count: usize, shift: f64| -> Vec<f64> {
            (0..count).map(|place| place as f64 + shift).collect()
        };
        for shift in [0.5, 3.5, 7.5] {
            let (one, other) = (of(20, 0.0), of(20, shift));
            let (ranks, sum) = ranked(&one, &other);
            let (few, many) = (exact(&ranks, 20, sum), approximate(&ranks, 20, sum));
            assert!((few - many).abs() < 0.01, "{few} {many}");
        }
        assert!((upper_tail(0.0) - 0.5).abs() < 1e-6);
        assert!((upper_tail(1.959_964) - 0.025).abs() < 1e-6);
    }
}
