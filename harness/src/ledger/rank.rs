//! A trend without assumptions about its noise: the slope of Theil and Sen, and the rank test of
//! Mann and Kendall.
//!
//! Both look at pairs: the slope is the median of the slopes of all pairs, which a few values that
//! stand out do not move; the test counts how many pairs rise and how many fall. Take a line away from
//! the values before the test, and it says whether they rise more steeply than that line.
//!
//! The p-value holds for values that are exchangeable where nothing rises. Memory of one process cycle
//! by cycle is not: it is what it was before, and a little. So [`rise`](super::rise) tests medians of long
//! stretches.

/// What the rank test of Mann and Kendall says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rank {
    /// Pairs that rise, less pairs that fall.
    pub score: i64,
    /// How likely such a score or a higher one is where nothing rises. Exact without ties; with them by
    /// the normal distribution, with the variance that ties leave and a correction for continuity.
    pub p: f64,
}

/// The rank test for values in their order. Quadratic in their number.
pub fn mann_kendall(values: &[f64]) -> Rank {
    let mut score = 0;
    for (at, early) in values.iter().enumerate() {
        for late in &values[at + 1..] {
            score += late.partial_cmp(early).map_or(0, |order| order as i64);
        }
    }
    let ties = ties(values);
    let p = if ties.is_empty() {
        exact(values.len(), score)
    } else {
        normal(values.len(), &ties, score)
    };
    Rank { score, p }
}

/// Median of the slopes between all pairs of points whose first coordinates differ. None without such a
/// pair. Quadratic in their number.
pub fn theil_sen(points: &[(f64, f64)]) -> Option<f64> {
    let mut slopes = Vec::new();
    for (at, (x, y)) in points.iter().enumerate() {
        let later = points[at + 1..].iter().filter(|(later, _)| later != x);
        slopes.extend(later.map(|(later, value)| (value - y) / (later - x)));
    }
    median(slopes)
}

/// The middle one, or the mean of the middle two; none of nothing.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(values[middle - 1].midpoint(values[middle])),
    }
}

/// How many values are equal, of each value that there is more than once.
fn ties(values: &[f64]) -> Vec<usize> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let equal = sorted.chunk_by(|one, next| one == next).map(<[f64]>::len);
    equal.filter(|number| *number > 1).collect()
}

/// Of all orders of so many different values, the share with such a score or a higher one. Orders are
/// counted by their falling pairs, one value more at a time (Mahonian numbers).
fn exact(values: usize, score: i64) -> f64 {
    let mut shares = vec![1.0];
    for more in 2..=values {
        let mut next = vec![0.0; shares.len() + more - 1];
        for (falling, share) in shares.iter().enumerate() {
            for added in 0..more {
                next[falling + added] += share / more as f64;
            }
        }
        shares = next;
    }
    let pairs = (values * values.saturating_sub(1) / 2) as i64;
    // A score is the number of pairs less twice that of those that fall.
    let falling = (pairs - score) / 2;
    shares.iter().take(usize::try_from(falling + 1).unwrap_or(0)).sum::<f64>().min(1.0)
}

/// The same by the normal distribution.
fn normal(values: usize, ties: &[usize], score: i64) -> f64 {
    let part = |n: usize| (n * (n - 1) * (2 * n + 5)) as f64 / 18.0;
    let variance = part(values) - ties.iter().map(|number| part(*number)).sum::<f64>();
    if variance <= 0.0 {
        return 1.0;
    }
    upper_tail((score as f64 - 1.0) / variance.sqrt())
}

/// Share of the normal distribution above `z` (Abramowitz and Stegun, 7.1.26: right to 1.5e-7).
fn upper_tail(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let erfc = series.iter().fold(0.0, |sum, part| sum * t + part) * t * (-x * x).exp();
    if z >= 0.0 { erfc / 2.0 } else { 1.0 - erfc / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every order of these values.
    fn orders(values: &[f64]) -> Vec<Vec<f64>> {
        if values.is_empty() {
            return vec![Vec::new()];
        }
        let first = |at: usize| {
            let mut rest = values.to_vec();
            let first = rest.remove(at);
            orders(&rest).into_iter().map(move |rest| [vec![first], rest].concat())
        };
        (0..values.len()).flat_map(first).collect()
    }

    /// Upper tails from the table of Kendall (Rank Correlation Methods, appendix 1).
    #[test]
    fn the_exact_tail_is_that_of_the_tables() {
        let table = [
            (4, 6, 0.042),
            (5, 8, 0.042),
            (5, 10, 0.0083),
            (8, 0, 0.548),
            (8, 8, 0.199),
            (8, 16, 0.031),
            (8, 20, 0.0071),
            (8, 22, 0.0028),
            (8, 24, 0.00087),
            (8, 28, 0.000_025),
            (9, 20, 0.022),
            (10, 21, 0.036),
            (10, 33, 0.0011),
        ];
        for (values, score, p) in table {
            let found = exact(values, score);
            assert!(
                (found - p).abs() <= 0.02 * p,
                "{values} values, score {score}: {found}, not {p}"
            );
        }
    }

    #[test]
    fn a_score_counts_rising_pairs_less_falling_ones() {
        assert_eq!(mann_kendall(&[1.0, 2.0, 3.0, 4.0]).score, 6);
        assert_eq!(mann_kendall(&[4.0, 3.0, 2.0, 1.0]).score, -6);
        assert_eq!(mann_kendall(&[1.0, 3.0, 2.0, 4.0]).score, 4);
        assert_eq!(mann_kendall(&[1.0, 1.0, 2.0]).score, 2);
        assert!(mann_kendall(&[4.0, 3.0, 2.0, 1.0]).p > 0.999_999);
    }

    /// Against all orders of the same values.
    #[test]
    fn with_ties_the_tail_is_near_that_of_all_orders() {
        let values = [1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 4.0, 5.0];
        let scores: Vec<i64> =
            orders(&values).iter().map(|order| mann_kendall(order).score).collect();
        for score in [0, 5, 10, 15, 20] {
            let all = scores.iter().filter(|one| **one >= score).count();
            let true_p = all as f64 / scores.len() as f64;
            let p = normal(values.len(), &[2, 3], score);
            assert!((p - true_p).abs() < 0.04, "score {score}: {p}, of all orders {true_p}");
        }
    }

    #[test]
    fn values_that_are_all_equal_rise_nowhere() {
        let rank = mann_kendall(&[7.0; 8]);
        assert_eq!(rank, Rank { score: 0, p: 1.0 });
        assert_eq!(mann_kendall(&[]).score, 0);
        assert_eq!(mann_kendall(&[1.0]).p, 1.0);
    }

    #[test]
    fn the_normal_tail_is_that_of_the_tables() {
        for (z, p) in
            [(0.0, 0.5), (1.0, 0.158_655), (1.96, 0.024_998), (3.09, 0.001_001), (-1.0, 0.841_345)]
        {
            assert!((upper_tail(z) - p).abs() < 1e-6, "{z}: {}", upper_tail(z));
        }
    }

    #[test]
    fn the_slope_is_not_moved_by_one_that_stands_out() {
        let line = |values: &[f64]| -> Vec<(f64, f64)> {
            values.iter().enumerate().map(|(at, value)| (at as f64, *value)).collect()
        };
        assert_eq!(theil_sen(&line(&[10.0, 12.0, 14.0, 900.0, 18.0, 20.0])), Some(2.0));
        assert_eq!(theil_sen(&line(&[7.0, 7.0, 7.0])), Some(0.0));
        assert_eq!(theil_sen(&[(0.0, 1.0), (3.0, 7.0)]), Some(2.0));
        assert_eq!(theil_sen(&[(1.0, 1.0), (1.0, 7.0)]), None);
        assert_eq!(theil_sen(&line(&[7.0])), None);
    }
}
