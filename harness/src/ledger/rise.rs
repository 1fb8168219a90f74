//! Memory that rises with every cycle and does not level off.
//!
//! No single difference says anything: allocators keep what they are given back, and a collector lets
//! garbage lie until it is worth its while. What counts is the course over many cycles:
//!
//! 1. Weighed is what a process has for itself: anonymous and shared memory, in RAM or swapped, without
//!    what it has marked as free ([`Memory::private_kib`](super::snapshot::Memory::private_kib)). Pages of
//!    programs come and go with other processes.
//! 2. The cycles after the warm-up are cut into ten equal stretches. The first two are warm-up still and
//!    are thrown away; of each of the other eight the median counts.
//! 3. The slope is that of Theil and Sen. It is a rise if the rank test of Mann and Kendall says that the
//!    memory rises more steeply than the **bound**, p < [`SURE`], and if the later half of it added at least
//!    [`STEADY`] of what the earlier half did: a heap that warms up slows down.
//! 4. The bound, in KiB a cycle, is what may come without a leak, over the cycles that count:
//!    [`Heap::slack_kib`], and [`WOBBLE`] times the range within a stretch, as the median of them has it. So it is
//!    measured on the subject itself, falls with the number of cycles, and is printed.
//!
//! A rank test for a slope above zero would not do. A server on Node.js that loses nothing rises strictly
//! and evenly by 50 KiB a cycle for hundreds of cycles, while its old space fills.
//!
//! It is advisory all the same: a heap may grow to its limit before anything is collected.
//!
//! # False alarms: to be fewer than one life in a thousand
//!
//! **By construction.** Memory that goes to and fro by less than the slack cannot rise by more. One that needs
//! longer to fill than all cycles last, and gains more than the slack by then, does rise as far as anybody
//! can see; more cycles tell.
//!
//! **By simulation**, which the tests repeat: heaps that go around a level and keep up to 0.98 of what they
//! were a cycle before; sawtooths of 4 to 64 cycles, up to ten times as high as the slack; heaps that are
//! filled and collected by chance; saturation, logarithms. Of 5,000 lives of 100 cycles in a heap without a
//! collector, these were alarms, at the worst size, if the wobble counts so many times:
//!
//! | [`WOBBLE`] | keeps 0.9 | keeps 0.98 | random walk |
//! |---|---|---|---|
//! | 1 | 1 | 40 | 168 |
//! | 2 | 0 | 15 | 73 |
//! | 3 | 0 | 3 | 32 |
//! | 4 | 0 | 0 | 0 |
//!
//! **By measurement**, on 2 cores, Linux 6.18, Node.js 20, CPython 3.11, by `ci/growth-campaign` on a busy host.
//! None of 380 lives of 100 cycles was an alarm, of memory or of anything else, which excludes one in 126 with
//! 95 percent confidence. That it is fewer than one in a thousand rests on how far from the bound they were:
//!
//! | server | lives | KiB a cycle: median | worst | bound |
//! |---|---|---|---|---|
//! | everything (Node.js) | 80 | 93.9 | 111.1 | 548 |
//! | filesystem (Node.js) | 80 | 85.8 | 97.7 | 545 |
//! | memory (Node.js) | 80 | 36.7 | 44.9 | 533 |
//! | time (Python) | 70 | 0.2 | 0.2 | 12.9 |
//! | one of our own on the Python SDK | 70 | 0.0 | 0.1 | 12.8 |
//!
//! Longer lives, of up to 5,000 cycles, were recorded of the three on Node.js, and 2,900 stretches of 100 to
//! 5,000 cycles judged in them, overlapping and from any cycle on: none was an alarm, none rose by more
//! than 31 MiB, for the old space fills up to some 70 MiB and stays there. So the slack of V8 is 40 MiB.
//! That of a heap without a collector, 1 MiB, is ten times what CPython gained, and room for a small cache.
//! That of a heap that is not known rests on no measurement: a JVM begins with 1/64 of all memory.
//!
//! **In every run**, a server that keeps 256 KiB of each call must be caught, and its clean twin must not rise:
//! its slope and bound are printed beside the canary.
//!
//! # How many cycles a leak takes
//!
//! A leak is seen from the slack on, over the cycles that count: that is 1.25 times the slack by what a cycle
//! loses, and for V8 more, because its old space fills meanwhile. Measured by `ci/growth-campaign`, the lives
//! in which it was seen:
//!
//! | loses at each call | cycles | heap without a collector | Node.js |
//! |---|---|---|---|
//! | 1 MiB | 100 | 5 of 5 | 4 of 4 |
//! | 100 KiB | 100 | 5 of 5 | bound 512 |
//! | 100 KiB | 1,000 / 1,500 | | 0 of 4 / 4 of 4 |
//! | 14 KiB | 100 | 5 of 5 | |
//! | 10 KiB | 130 / 140 | 0 of 5 / 5 of 5 | bound 17 with 6,000 |
//! | 1 KiB | 1,300 / 1,400 | 5 of 5 / 5 of 5 | |
//!
//! With the default of 20 cycles, the first round shows whether another is worth it, and five of them are
//! the 100.

use std::fmt;

use super::rank::{Rank, mann_kendall, median, theil_sen};
use super::snapshot::Runtime;
use super::trend::{ROUNDS, Rounds};

/// Fewest cycles after the warm-up that say anything.
pub const LEAST_CYCLES: u32 = 100;
/// The p-value below which the rank test counts. Of eight stretches, two pairs in 28 may fall.
pub const SURE: f64 = 0.001;
/// What the later half adds at least for each KiB that the earlier half added.
pub const STEADY: f64 = 0.6;
/// How many times its own wobble memory must rise by on top of what its heap may keep.
pub const WOBBLE: f64 = 4.0;

/// Stretches of equal length, and how many at the beginning do not count.
const STRETCHES: usize = 10;
const WARM: usize = 2;
/// Most values that a slope for a figure is made of.
const MOST_POINTS: usize = 100;
/// Another round is worth its time from this part of the bound on: the first one can understate a rise.
const WORTH: f64 = 0.75;
/// Address space, in KiB, above which a heap may be one that is collected: collectors reserve theirs
/// beforehand (V8 0.7 GiB, Go 1.2 GiB, the JVM, .NET and Haskell more), and others map what they use.
const RESERVED_KIB: u64 = 512 * 1024;

/// Memory after a cycle: the cycle, and KiB.
pub type Sample = (u32, f64);

/// How a process takes and gives back memory, as far as it can be seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heap {
    /// Memory is given back when its last user goes: Rust, C, C++, CPython.
    Counted,
    /// The heap of V8: Node.js, Deno.
    V8,
    /// A collector that is not known, or nothing is known.
    Unknown,
}

impl Heap {
    /// The heap of a program. Cautious: what is not known for certain is [`Heap::Unknown`].
    pub fn of(runtime: &Runtime) -> Self {
        let program = runtime.program.as_str();
        let collected =
            ["mono", "ruby", "racket", "guile", "lua", "pypy", "ocamlrun", "java", "dotnet", "bun"];
        match program {
            "node" | "nodejs" | "deno" => Self::V8,
            _ if program.is_empty() || collected.iter().any(|name| program.starts_with(name)) => {
                Self::Unknown
            }
            // Libraries with many threads reserve much, and it is CPython all the same.
            _ if program.starts_with("python") => Self::Counted,
            _ if runtime.address_space_kib > RESERVED_KIB => Self::Unknown,
            _ => Self::Counted,
        }
    }

    /// What the heap may gain evenly over any number of cycles without a leak, in KiB.
    pub fn slack_kib(self) -> f64 {
        match self {
            Self::Counted => 1024.0,
            Self::V8 => 40.0 * 1024.0,
            Self::Unknown => 256.0 * 1024.0,
        }
    }
}

impl fmt::Display for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counted => "a heap without a collector",
            Self::V8 => "the heap of V8",
            Self::Unknown => "a heap that may be collected",
        })
    }
}

/// The course of memory over cycles.
#[derive(Debug, Clone, PartialEq)]
pub struct Slope {
    /// Cycles that count.
    pub cycles: u32,
    /// KiB a cycle.
    pub kib_per_cycle: f64,
    /// KiB a cycle below which nothing is said.
    pub bound_kib_per_cycle: f64,
    /// The rank test against the bound.
    pub rank: Rank,
    /// What the later half added for each KiB of the earlier half; 0 where that added nothing.
    pub steadiness: f64,
    /// Medians of the stretches that count, in KiB.
    pub medians_kib: Vec<f64>,
}

impl Slope {
    /// The course of memory in a heap; none of too few cycles.
    pub fn of(samples: &[Sample], heap: Heap) -> Option<Self> {
        if samples.len() < LEAST_CYCLES as usize {
            return None;
        }
        let length = samples.len() / STRETCHES;
        // What is over belongs to the warm-up.
        let judged = &samples[samples.len() - (STRETCHES - WARM) * length..];
        let stretches: Vec<&[Sample]> = judged.chunks(length).collect();
        let points = stretches.iter().filter_map(|stretch| middle(stretch)).collect::<Vec<_>>();
        let kib_per_cycle = theil_sen(&points)?;
        let cycles = judged.last()?.0 - judged.first()?.0 + 1;
        let ranges = stretches.iter().filter_map(|stretch| range(stretch, kib_per_cycle));
        let wobble = median(ranges.collect()).unwrap_or(0.0);
        let bound = (heap.slack_kib() + WOBBLE * wobble) / f64::from(cycles);
        let above: Vec<f64> = points.iter().map(|(cycle, kib)| kib - bound * cycle).collect();
        let medians_kib: Vec<f64> = points.iter().map(|(_, kib)| *kib).collect();
        Some(Self {
            cycles,
            kib_per_cycle,
            bound_kib_per_cycle: bound,
            rank: mann_kendall(&above),
            steadiness: steadiness(&medians_kib),
            medians_kib,
        })
    }

    /// Whether it rises and does not level off.
    pub fn rises(&self) -> bool {
        self.rank.p < SURE && self.steadiness >= STEADY
    }
}

/// The bound for memory that does not wobble, in KiB a cycle, where so many cycles are played after the
/// warm-up. None where they are too few to say anything.
pub fn bound(cycles: u32, heap: Heap) -> Option<f64> {
    let length = cycles / STRETCHES as u32;
    let judged = (STRETCHES - WARM) as u32 * length;
    (cycles >= LEAST_CYCLES).then(|| heap.slack_kib() / f64::from(judged))
}

/// Whether another round is worth its time: the memory rose, in the later half of the first round or in all
/// rounds so far, nearly as steeply as counts over [`ROUNDS`].
pub fn may_rise(samples: &[Sample], rounds: Rounds, heap: Heap) -> bool {
    let Some(bound) = bound(rounds.length * ROUNDS, heap) else { return false };
    let warm = match rounds.complete() {
        0 | 1 => samples.len() / 2,
        _ => samples.iter().take_while(|(cycle, _)| rounds.of(*cycle) == Some(0)).count(),
    };
    slope(&samples[warm..]).is_some_and(|slope| slope >= WORTH * bound)
}

/// KiB a cycle, by Theil and Sen; of many samples, by medians of a hundred stretches.
pub fn slope(samples: &[Sample]) -> Option<f64> {
    let stretches = samples.chunks(samples.len().div_ceil(MOST_POINTS).max(1));
    theil_sen(&stretches.filter_map(middle).collect::<Vec<_>>())
}

/// The median cycle and the median memory of a stretch.
fn middle(stretch: &[Sample]) -> Option<(f64, f64)> {
    let cycle = median(stretch.iter().map(|(cycle, _)| f64::from(*cycle)).collect())?;
    Some((cycle, median(stretch.iter().map(|(_, kib)| *kib).collect())?))
}

/// How far apart values of a stretch are, once a slope is taken away from them.
fn range(stretch: &[Sample], slope: f64) -> Option<f64> {
    let rest = || stretch.iter().map(|(cycle, kib)| kib - slope * f64::from(*cycle));
    Some(rest().reduce(f64::max)? - rest().reduce(f64::min)?)
}

fn steadiness(medians: &[f64]) -> f64 {
    let half = medians.len() / 2;
    let added = |part: &[f64]| part.last().unwrap_or(&0.0) - part.first().unwrap_or(&0.0);
    let (early, late) = (added(&medians[..half]), added(&medians[half..]));
    if early > 0.0 { late / early } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::super::chance::Chance;
    use super::*;

    const LENGTH: u32 = 20;
    const LIVES: u64 = 1_000;

    /// The memory after each of so many cycles.
    fn played(cycles: u32, mut memory: impl FnMut(f64) -> f64) -> Vec<Sample> {
        (2..cycles + 2).map(|cycle| (cycle, memory(f64::from(cycle)))).collect()
    }

    fn rises(cycles: u32, heap: Heap, memory: impl FnMut(f64) -> f64) -> bool {
        Slope::of(&played(cycles, memory), heap).is_some_and(|slope| slope.rises())
    }

    /// In how many rounds it looks as if it rose.
    fn worth(heap: Heap, memory: impl Fn(f64) -> f64) -> u32 {
        let worth = |number: &u32| {
            let rounds = Rounds { length: LENGTH, cycles: number * LENGTH };
            may_rise(&played(rounds.cycles, &memory), rounds, heap)
        };
        (1..ROUNDS).take_while(worth).count() as u32
    }

    /// Of many lives, those in which memory without a leak was taken for one that rises.
    fn alarms(
        heap: Heap,
        mut life: impl FnMut(&mut Chance) -> Box<dyn FnMut(f64) -> f64>,
    ) -> usize {
        (0..LIVES).filter(|seed| rises(100, heap, life(&mut Chance(*seed)))).count()
    }

    #[test]
    fn a_leak_is_a_rise_from_the_bound_on() {
        for (heap, kib) in [(Heap::Counted, 14.0), (Heap::V8, 520.0), (Heap::Unknown, 3_300.0)] {
            let leak = |cycle: f64| 50_000.0 + kib * cycle;
            assert_eq!(worth(heap, leak), 4, "{heap}");
            assert!(rises(100, heap, leak), "{heap}");
            assert!(!rises(100, heap, |cycle| 50_000.0 + 0.9 * kib * cycle), "{heap}");
            assert!(rises(1_000, heap, |cycle| 50_000.0 + 0.1 * kib * cycle), "{heap}");
        }
        let slope = Slope::of(&played(100, |cycle| 1_024.0 * cycle), Heap::V8).unwrap();
        assert_eq!((slope.cycles, slope.kib_per_cycle.round()), (80, 1_024.0));
        assert_eq!(slope.bound_kib_per_cycle.round(), 512.0);
        assert_eq!(slope.rank.score, 28);
    }

    #[test]
    fn a_collector_that_stands_in_between_does_not_hide_a_leak() {
        assert!(rises(100, Heap::V8, |cycle| 1_500.0 * cycle + 3_000.0 * (cycle % 4.0)));
        assert!(rises(1_000, Heap::V8, |cycle| 150.0 * cycle + 200.0 * (cycle % 50.0)));
    }

    #[test]
    fn a_leak_in_a_wobbling_heap_is_mostly_found() {
        let lives = 200;
        let missed = (0..lives).filter(|seed| {
            let mut noise = around(&mut Chance(*seed), 0.9, 300.0);
            !rises(500, Heap::V8, move |cycle| 200.0 * cycle + noise(cycle))
        });
        let missed = missed.count();
        assert!(missed * 20 <= lives as usize, "{missed} of {lives}");
    }

    #[test]
    fn a_heap_that_warms_up_is_none() {
        // As servers on Node.js were seen to: fast at first, then slowly for ever.
        let node = |cycle: f64| 75_000.0 + 12_000.0 * (1.0 - (-cycle / 30.0).exp()) + 50.0 * cycle;
        assert_eq!(worth(Heap::V8, node), 0);
        for cycles in [100, 300, 600] {
            assert!(!rises(cycles, Heap::V8, node), "{cycles}");
        }
        for heap in [Heap::Counted, Heap::V8] {
            for amount in [3.0, 100.0, 10_000.0] {
                assert!(!rises(100, heap, |cycle| amount
                    * heap.slack_kib()
                    * (1.0 - (-cycle / 20.0).exp())));
                assert!(!rises(100, heap, |cycle| amount * heap.slack_kib() * cycle.ln()));
            }
        }
    }

    /// Memory that goes to and fro around a level, of which some is kept from cycle to cycle.
    fn around(chance: &mut Chance, kept: f64, kib: f64) -> Box<dyn FnMut(f64) -> f64> {
        let mut chance = Chance(chance.next());
        let mut value = 0.0;
        Box::new(move |_| {
            value = kept * value + kib * chance.normal();
            80_000.0 + value
        })
    }

    /// A heap that is filled and collected: how fast, at which size and how well, by chance.
    fn collected(chance: &mut Chance, kib: f64) -> Box<dyn FnMut(f64) -> f64> {
        let mut chance = Chance(chance.next());
        let (top, pace) = (kib * (0.5 + chance.part()), kib / 50.0 * (0.1 + chance.part()));
        let mut value = 0.0;
        Box::new(move |_| {
            value += 2.0 * pace * chance.part();
            if value > top {
                value *= chance.part() / 2.0;
            }
            80_000.0 + value
        })
    }

    /// A heap that is collected again and again at the same pace, at any moment of which the first cycle is.
    fn sawtooth(chance: &mut Chance, kib: f64) -> Box<dyn FnMut(f64) -> f64> {
        let period = 4.0 + 60.0 * chance.part();
        let moment = period * chance.part();
        Box::new(move |cycle| 80_000.0 + kib * ((cycle + moment) / period).fract())
    }

    /// No more than one life in a thousand may be an alarm.
    #[test]
    fn heaps_that_wobble_are_no_alarm() {
        for heap in [Heap::Counted, Heap::V8] {
            for slacks in [1.0, 10.0] {
                let kib = slacks * heap.slack_kib();
                let told = |alarms: usize, shape: &str| {
                    assert!(alarms <= 1, "{alarms} of {LIVES}: {shape}, {kib} KiB, {heap}");
                };
                for kept in [0.5, 0.98] {
                    told(alarms(heap, |chance| around(chance, kept, kib / 10.0)), "around a level");
                }
                told(alarms(heap, |chance| sawtooth(chance, kib)), "sawtooth");
                // One that gains more than the slack before it is collected is a rise until then.
                if slacks <= 1.0 {
                    told(alarms(heap, |chance| collected(chance, kib / 1.5)), "collected");
                }
            }
        }
    }
}
