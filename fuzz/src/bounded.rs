//! A runtime whose clock is paused, and the end of a case on it: nothing alive, soon.

use std::{fs, time::Duration};

use scupper_core::census::Census;
use tokio::{runtime::Builder, time::Instant};

/// How many times the scheduler gets a turn before what is still alive is a leak.
const TURNS: usize = 64;

/// Runs a case with paused time, and sees that it takes no longer than `most` of that time and leaves
/// nothing: no row in the census, no task, no descriptor.
pub(crate) fn alone<T>(most: Duration, case: impl AsyncFnOnce(Census) -> T) -> T {
    let before = descriptors();
    let census = Census::new();
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime that only has a clock");
    let outcome = runtime.block_on(async {
        let began = Instant::now();
        let outcome = case(census.clone()).await;
        let took = began.elapsed();
        assert!(took <= most, "took {took:?} of its own time, at most {most:?} are right");
        let metrics = tokio::runtime::Handle::current().metrics();
        for _ in 0..TURNS {
            if metrics.num_alive_tasks() == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(census.is_empty(), "at the end {census}");
        assert_eq!(metrics.num_alive_tasks(), 0, "tasks are alive at the end, and no row says so");
        outcome
    });
    drop(runtime);
    assert_eq!(descriptors(), before, "descriptors before and after");
    outcome
}

/// The descriptors of this process, each with what it is: one closed and another opened is a change.
fn descriptors() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let mut open: Vec<String> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            // The listing's own descriptor has gone by the time it is asked for.
            let target = fs::read_link(&path).ok()?;
            (!target.starts_with("/proc"))
                .then(|| format!("{}: {}", path.display(), target.display()))
        })
        .collect();
    open.sort();
    open
}
