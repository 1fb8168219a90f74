//! Memory that rises with every cycle and does not level off.
//!
//! No single difference says anything: allocators keep what they are given back, and a collector
//! lets garbage lie until it is worth its while. Servers on Node.js that lose nothing were seen to
//! rise by up to 5 MiB a round of 20 cycles while they warm up, by 1 MiB a round for very long after
//! that, and by up to 8 MiB where every call carried 200 KB, with rounds in between in which they
//! did not rise; servers on Python by nothing. So a round must add [`STEP_KIB`] at least, each of
//! five, and the last about as much as an early one. It is advisory all the same: a heap may grow to
//! its limit before anything is collected.

use super::trend::{ROUNDS, Rounds};

/// What a round adds at least, in KiB.
pub const STEP_KIB: f64 = 10_240.0;
/// What the last round adds at least for each KiB that the third added.
const STEADY: f64 = 0.6;

/// Memory of a server after a cycle: the cycle, and KiB.
pub type Sample = (u32, f64);

/// Memory that rises.
#[derive(Debug, Clone, PartialEq)]
pub struct Rise {
    /// KiB a cycle, by the medians of rounds after the first.
    pub kib_per_cycle: f64,
    /// Medians of the rounds, in KiB.
    pub medians_kib: Vec<f64>,
}

/// Whether another round is worth its time: the memory rose in the first, or in every round so far,
/// by as much as counts.
pub fn may_rise(samples: &[Sample], rounds: Rounds) -> bool {
    match rounds.complete() {
        0 | 1 => {
            let all: Vec<f64> = samples.iter().map(|(_, kib)| *kib).collect();
            slope(&all).is_some_and(|slope| slope * f64::from(rounds.length) >= STEP_KIB)
        }
        _ => steps(&medians(samples, rounds)).all(|step| step >= STEP_KIB),
    }
}

/// The rise over all rounds, if it is one.
pub fn rise(samples: &[Sample], rounds: Rounds) -> Option<Rise> {
    let medians_kib = medians(samples, rounds);
    if medians_kib.len() < ROUNDS as usize || !steps(&medians_kib).all(|step| step >= STEP_KIB) {
        return None;
    }
    // The step into the second round may still be one of warming up.
    let later: Vec<f64> = steps(&medians_kib).skip(1).collect();
    let (first, last) = (later.first()?, later.last()?);
    let kib_per_cycle = later.iter().sum::<f64>() / later.len() as f64 / f64::from(rounds.length);
    (*last >= STEADY * first).then_some(Rise { kib_per_cycle, medians_kib })
}

/// The median of each whole round.
fn medians(samples: &[Sample], rounds: Rounds) -> Vec<f64> {
    let whole = 0..rounds.complete() as usize;
    let of_round = |round| {
        let of_round = samples.iter().filter(|(cycle, _)| rounds.of(*cycle) == Some(round));
        median(of_round.map(|(_, kib)| *kib).collect())
    };
    whole.map_while(of_round).collect()
}

/// How much each is more than the one before.
fn steps(medians: &[f64]) -> impl Iterator<Item = f64> + '_ {
    medians.iter().zip(medians.iter().skip(1)).map(|(from, to)| to - from)
}

/// Median of the slopes between all pairs of equally spaced samples (Theil-Sen): per sample, and
/// not moved by a few that stand out. None for fewer than two samples.
pub fn slope(samples: &[f64]) -> Option<f64> {
    let mut slopes: Vec<f64> = Vec::new();
    for (left, from) in samples.iter().enumerate() {
        for (apart, to) in samples.iter().skip(left + 1).enumerate() {
            slopes.push((to - from) / (apart + 1) as f64);
        }
    }
    median(slopes)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(values[middle - 1].midpoint(values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: u32 = 20;

    /// Rounds of cycles, and the memory after each.
    fn played(rounds: u32, memory: impl Fn(f64) -> f64) -> (Vec<Sample>, Rounds) {
        let cycles = rounds * LENGTH;
        let samples = (2..cycles + 2).map(|cycle| (cycle, memory(f64::from(cycle)))).collect();
        (samples, Rounds { length: LENGTH, cycles })
    }

    fn rises(memory: impl Fn(f64) -> f64) -> Option<Rise> {
        let (samples, rounds) = played(ROUNDS, memory);
        rise(&samples, rounds)
    }

    /// In how many rounds it looks as if it rose.
    fn worth(memory: impl Fn(f64) -> f64) -> u32 {
        let worth = |rounds: &u32| {
            let (samples, rounds) = played(*rounds, &memory);
            may_rise(&samples, rounds)
        };
        (1..ROUNDS).take_while(worth).count() as u32
    }

    #[test]
    fn a_mebibyte_a_call_is_a_rise() {
        let leak = |cycle: f64| 50_000.0 + 1_024.0 * cycle;
        assert_eq!(worth(leak), 4);
        let rise = rises(leak).unwrap();
        assert_eq!(rise.kib_per_cycle.round(), 1_024.0);
        assert_eq!(rise.medians_kib.len(), 5);
        // A collector that stands in between does not hide it.
        assert!(rises(|cycle| leak(cycle) + 3_000.0 * (cycle % 4.0)).is_some());
    }

    #[test]
    fn a_heap_that_warms_up_is_none() {
        // As a server on Node.js was seen to: fast at first, then slowly for ever.
        let node = |cycle: f64| 75_000.0 + 12_000.0 * (1.0 - (-cycle / 30.0).exp()) + 50.0 * cycle;
        assert_eq!((worth(node), rises(node)), (0, None));
        let heavy = |cycle: f64| 75_000.0 + 60_000.0 * (1.0 - (-cycle / 30.0).exp());
        assert_eq!(rises(heavy), None);
        assert!(worth(heavy) < 4);
    }

    #[test]
    fn a_collection_in_between_is_the_end_of_a_rise() {
        assert_eq!(rises(|cycle| 75_000.0 + 900.0 * (cycle % 50.0)), None);
    }

    #[test]
    fn too_few_rounds_say_nothing() {
        let (samples, rounds) = played(ROUNDS - 1, |cycle| 1_024.0 * cycle);
        assert_eq!(rise(&samples, rounds), None);
    }

    #[test]
    fn a_sample_that_is_missing_moves_nothing() {
        let (mut samples, rounds) = played(ROUNDS, |cycle| 1_024.0 * cycle);
        samples.remove(30);
        assert!(rise(&samples, rounds).is_some());
    }

    #[test]
    fn the_slope_is_not_moved_by_one_that_stands_out() {
        assert_eq!(slope(&[10.0, 12.0, 14.0, 900.0, 18.0, 20.0]), Some(2.0));
        assert_eq!(slope(&[7.0, 7.0, 7.0]), Some(0.0));
        assert_eq!(slope(&[7.0]), None);
    }
}
