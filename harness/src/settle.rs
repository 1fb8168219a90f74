//! Waiting until quiet: fast when clean, patient when not, bounded.
//!
//! Whoever is waited for needs the processor, and often the disk, to come to its end. On a host where
//! it does not get them, a bound in wall-clock time would tell a starved process from a stuck one by
//! nothing but luck; so [`settle_processes`] counts only the time in which they could have run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use procfs::Current;
use procfs::process::Process;

use crate::ledger::snapshot::ProcessId;

/// First pause between two looks.
const FIRST_PAUSE: Duration = Duration::from_micros(500);
/// Longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// A pause is at least so many times the look before it: where a host has many processes, or many look at
/// once, looking must not become what everybody waits for.
const PAUSE_TO_LOOK: u32 = 30;
/// And at most this for that reason.
const COSTLY_PAUSE: Duration = Duration::from_millis(400);

/// Longest time between two looks, beyond the pause, that is counted: in the rest the host kept this
/// process from looking, and most likely the others from ending.
const OVERSLEPT: Duration = Duration::from_millis(100);
/// A wait for starved processes may take so many times its bound.
const STARVED_TIMES: u32 = 4;
/// And this much on top, for short bounds.
const STARVED_EXTRA: Duration = Duration::from_secs(5);
/// How often a stopwatch looks that is turned to more often.
const SELDOM: Duration = Duration::from_millis(20);
/// Most threads of a process that are asked how long they waited for a processor.
const THREADS_ASKED: usize = 64;

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Quiet in two consecutive looks.
    Quiet,
    /// The bound was reached.
    Bound,
}

/// Looks again and again until two consecutive looks say quiet, or the deadline passes. Pauses
/// double from 0.5 ms to 50 ms, and are longer then where a look takes long.
pub fn settle(deadline: Instant, mut quiet: impl FnMut() -> bool) -> Settled {
    until_quiet(|_| match quiet() {
        true => Seen::Quiet,
        false if Instant::now() >= deadline => Seen::TooLate,
        false => Seen::Something,
    })
}

/// Looks as [`settle`] does until two consecutive looks say quiet (none), or until the processes that
/// are waited for (their pids) had `patience` of time. Not counted is the time in which one of their
/// threads waited for a processor (run delay of proc_pid_schedstat(5)) or for the kernel (state D of
/// proc_pid_stat(5), mostly a disk), and in which this process itself did not run. In all it takes at
/// most four times the patience and 5 s.
pub fn settle_processes(patience: Duration, mut look: impl FnMut() -> Option<Vec<i32>>) -> Settled {
    let mut watch = Stopwatch::start();
    until_quiet(|pause| {
        let began = Instant::now();
        let Some(awaited) = look() else { return Seen::Quiet };
        watch.advance(began, pause, Held::of(&awaited));
        if watch.elapsed(began) >= patience { Seen::TooLate } else { Seen::Something }
    })
}

/// What a look says.
enum Seen {
    Quiet,
    Something,
    /// Something, and the bound is reached.
    TooLate,
}

/// Looks until two looks in a row say quiet. Each look is told of the last pause.
fn until_quiet(mut look: impl FnMut(Duration) -> Seen) -> Settled {
    let mut shortest = FIRST_PAUSE;
    let mut last_pause = Duration::ZERO;
    let mut quiet_before = false;
    loop {
        let began = Instant::now();
        match look(last_pause) {
            Seen::Quiet if quiet_before => return Settled::Quiet,
            Seen::Quiet => quiet_before = true,
            Seen::TooLate => return Settled::Bound,
            Seen::Something => {
                quiet_before = false;
                let pause = pause_after(began.elapsed(), shortest);
                std::thread::sleep(pause);
                last_pause = pause;
                shortest = (shortest * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// The pause after a look that took so long. The first ones are short whatever it costs: most things are
/// gone by then.
fn pause_after(look: Duration, shortest: Duration) -> Duration {
    match shortest < LONGEST_PAUSE {
        true => shortest,
        false => look.saturating_mul(PAUSE_TO_LOOK).clamp(LONGEST_PAUSE, COSTLY_PAUSE),
    }
}

/// Of what is still there its pids; none where nothing is.
pub fn awaited<'a>(left: impl IntoIterator<Item = &'a ProcessId>) -> Option<Vec<i32>> {
    let pids: Vec<i32> = left.into_iter().map(|id| id.pid).collect();
    (!pids.is_empty()).then_some(pids)
}

/// Time in which processes that are waited for could run.
#[derive(Debug)]
pub struct Stopwatch {
    began: Instant,
    looked: Option<Instant>,
    counted: Duration,
    held: Held,
}

/// What keeps threads from running.
#[derive(Debug, Default)]
struct Held {
    /// By pid and tid, how long each has waited for a processor in all its life.
    run_delays: BTreeMap<(i32, i32), Duration>,
    /// One of them waits for the kernel.
    in_kernel: bool,
}

impl Stopwatch {
    /// From now on.
    pub fn start() -> Self {
        let began = Instant::now();
        Self { began, looked: None, counted: Duration::ZERO, held: Held::default() }
    }

    /// Whether it runs since before this moment.
    pub fn is_older_than(&self, moment: Instant) -> bool {
        self.began < moment
    }

    /// Looks at these processes, unless it did a moment ago.
    pub fn watch(&mut self, pids: &[i32]) {
        let now = Instant::now();
        if self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= SELDOM) {
            self.advance(now, LONGEST_PAUSE, Held::of(pids));
        }
    }

    /// How much of its time until now counts: at the least a quarter of what is over 5 s, so that one
    /// who starves for ever is not waited for as long.
    pub fn elapsed(&self, now: Instant) -> Duration {
        let in_all = now.saturating_duration_since(self.began);
        self.counted.max(in_all.saturating_sub(STARVED_EXTRA) / STARVED_TIMES)
    }

    /// Counts the time since the last look, `pause` of which was meant.
    fn advance(&mut self, now: Instant, pause: Duration, held: Held) {
        if let Some(looked) = self.looked {
            let passed = now.saturating_duration_since(looked);
            let starved = if held.in_kernel { passed } else { held.starved_since(&self.held) };
            self.counted += passed.min(pause + OVERSLEPT).min(passed.saturating_sub(starved));
        }
        self.looked = Some(now);
        self.held = held;
    }
}

impl Held {
    /// What cannot be read is left out: it is gone, or its time counts in full.
    fn of(pids: &[i32]) -> Self {
        let mut held = Self::default();
        for &pid in pids {
            let Ok(threads) = Process::new(pid).and_then(|process| process.tasks()) else {
                continue;
            };
            for thread in threads.take(THREADS_ASKED).flatten() {
                if let Ok(times) = thread.schedstat() {
                    let delay = Duration::from_nanos(times.run_delay);
                    held.run_delays.insert((pid, thread.tid), delay);
                }
                held.in_kernel |= thread.stat().is_ok_and(|stat| stat.state == 'D');
            }
        }
        held
    }

    /// How long the worst of the threads has waited for a processor since.
    fn starved_since(&self, before: &Self) -> Duration {
        let waited = self.run_delays.iter().map(|(thread, delay)| {
            // One that was not there before has waited since it came.
            delay.saturating_sub(before.run_delays.get(thread).copied().unwrap_or_default())
        });
        waited.max().unwrap_or_default()
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

    fn waited(ms: u64) -> Held {
        let run_delays = [((7, 7), Duration::from_millis(ms)), ((7, 8), Duration::ZERO)].into();
        Held { run_delays, in_kernel: false }
    }

    /// What is counted by each of these looks: ms since the first, and what held the threads.
    fn counted(looks: impl IntoIterator<Item = (u64, Held)>) -> Vec<u128> {
        let mut watch = Stopwatch::start();
        let begin = watch.began;
        let counted = looks.into_iter().map(|(at, held)| {
            let now = begin + Duration::from_millis(at);
            watch.advance(now, LONGEST_PAUSE, held);
            watch.elapsed(now).as_millis()
        });
        counted.collect()
    }

    #[test]
    fn time_without_a_processor_is_not_counted() {
        let looks = [(0, 40), (50, 40), (100, 70), (150, 120)];
        assert_eq!(counted(looks.map(|(at, ms)| (at, waited(ms)))), [0, 50, 70, 70]);
    }

    #[test]
    fn time_in_a_wait_for_the_disk_is_not_counted() {
        let on_disk = Held { in_kernel: true, ..waited(0) };
        let looks = [(0, waited(0)), (50, waited(0)), (100, on_disk), (150, waited(0))];
        assert_eq!(counted(looks), [0, 50, 50, 100]);
    }

    #[test]
    fn time_in_which_nobody_looked_is_hardly_counted() {
        assert_eq!(counted([0, 3_000, 3_050].map(|at| (at, waited(0)))), [0, 150, 200]);
    }

    #[test]
    fn a_process_that_starves_for_ever_is_given_up_on() {
        let looks = [0, 5_000, 9_000, 45_000].map(|at| (at, waited(at)));
        assert_eq!(counted(looks), [0, 0, 1_000, 10_000]);
    }

    #[test]
    fn a_process_that_sleeps_on_is_given_up_on_and_one_that_is_gone_is_not() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert!(Held::of(&[own]).run_delays.keys().any(|(pid, _)| *pid == own), "nothing was read");
        let patience = Duration::from_millis(20);
        assert_eq!(settle_processes(patience, || Some(vec![own])), Settled::Bound);
        assert_eq!(settle_processes(patience, || None), Settled::Quiet);
    }

    #[test]
    fn who_looks_for_long_looks_seldom_and_never_at_first() {
        let [short, long] = [Duration::from_millis(1), Duration::from_millis(5)];
        assert_eq!(pause_after(long, FIRST_PAUSE), FIRST_PAUSE);
        assert_eq!(pause_after(short, LONGEST_PAUSE), LONGEST_PAUSE);
        assert_eq!(pause_after(long, LONGEST_PAUSE), 30 * long);
        assert_eq!(pause_after(Duration::MAX, LONGEST_PAUSE), COSTLY_PAUSE);
    }

    #[test]
    fn the_bound_ends_the_wait() {
        assert_eq!(settle(Instant::now(), || false), Settled::Bound);
    }
}
