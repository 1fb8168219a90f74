//! Waiting until quiet: fast when clean, patient when not, bounded.

use std::time::{Duration, Instant};

use procfs::Current;

/// First pause between two looks.
const FIRST_PAUSE: Duration = Duration::from_micros(500);
/// Longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Quiet in two consecutive looks.
    Quiet,
    /// The bound was reached.
    Bound,
}

/// Looks again and again until two consecutive looks say quiet, or the deadline passes. Pauses
/// double from 0.5 ms to 50 ms.
pub fn settle(deadline: Instant, mut quiet: impl FnMut() -> bool) -> Settled {
    let mut pause = FIRST_PAUSE;
    let mut quiet_before = false;
    loop {
        let now_quiet = quiet();
        if now_quiet && quiet_before {
            return Settled::Quiet;
        }
        quiet_before = now_quiet;
        if !now_quiet {
            if Instant::now() >= deadline {
                return Settled::Bound;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Runnable tasks per core over the last minute (proc_loadavg(5)); 1 where it cannot be read.
pub fn load_per_core() -> f64 {
    let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
    let load = procfs::LoadAverage::current();
    load.map_or(1.0, |load| f64::from(load.one) / cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_quiet_look_is_not_enough() {
        let mut looks = 0;
        let settled = settle(Instant::now() + Duration::from_secs(60), || {
            looks += 1;
            looks == 2 || looks >= 4
        });
        assert_eq!((settled, looks), (Settled::Quiet, 5));
    }

    #[test]
    fn the_bound_ends_the_wait() {
        assert_eq!(settle(Instant::now(), || false), Settled::Bound);
    }
}
