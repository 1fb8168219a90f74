//! What a host counts.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{ConnectionEnd, EndReason, ServerEnd, lock};

/// Upper bounds of the buckets of [`TeardownTimes`], in milliseconds.
const BOUNDS_MS: [u64; 13] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];

/// What a host has counted since it was made, and how many servers are in which state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Servers being opened now.
    pub connecting: u64,
    /// Servers that can be used now.
    pub ready: u64,
    /// Servers that wait for their next attempt now.
    pub restarting: u64,
    /// Servers that are dead and still hold their name.
    pub dead: u64,
    /// Servers being closed now.
    pub closing: u64,
    /// Servers that were taken in.
    pub created: u64,
    /// Servers that never got ready.
    pub failed: u64,
    /// Servers that were removed on purpose: by name, replaced, or by a shutdown.
    pub removed: u64,
    /// How often a server died.
    pub died: u64,
    /// How often one was started again and got ready.
    pub restarted: u64,
    /// Servers that were not taken in: their name was taken, or there were too many.
    pub refused: u64,
    /// Dead servers that a check of health removed.
    pub stale: u64,
    /// Servers that were dropped without close.
    pub dropped: u64,
    /// Ends that needed force.
    pub forced: u64,
    /// Helpers that servers had left behind in their groups, and that were killed.
    pub swept: u64,
    /// How long the ends of connections took.
    pub teardowns: TeardownTimes,
}

/// A histogram of the time from the beginning of an end to the last of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeardownTimes {
    /// How many.
    pub count: u64,
    /// All together.
    pub sum: Duration,
    /// How many took no longer than each bound, and longer than the one before.
    pub buckets: Vec<(Duration, u64)>,
    /// How many took longer than the last bound.
    pub beyond: u64,
}

impl Default for TeardownTimes {
    fn default() -> Self {
        let buckets = BOUNDS_MS.iter().map(|ms| (Duration::from_millis(*ms), 0)).collect();
        Self { count: 0, sum: Duration::ZERO, buckets, beyond: 0 }
    }
}

impl TeardownTimes {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.sum += took;
        match self.buckets.iter_mut().find(|(bound, _)| took <= *bound) {
            Some((_, count)) => *count += 1,
            None => self.beyond += 1,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    created: AtomicU64,
    failed: AtomicU64,
    removed: AtomicU64,
    died: AtomicU64,
    restarted: AtomicU64,
    refused: AtomicU64,
    stale: AtomicU64,
    dropped: AtomicU64,
    forced: AtomicU64,
    swept: AtomicU64,
    teardowns: Mutex<TeardownTimes>,
}

impl Counts {
    pub(super) fn created(&self) {
        self.created.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn died(&self) {
        self.died.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn restarted(&self) {
        self.restarted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, end: &ServerEnd) {
        let counter = match end.reason {
            EndReason::Removed | EndReason::Replaced | EndReason::Shutdown => &self.removed,
            EndReason::Unhealthy => &self.stale,
            EndReason::NotReady | EndReason::AddCancelled => &self.failed,
            EndReason::Dropped => &self.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn teardown(&self, end: &ConnectionEnd) {
        if end.was_forced() {
            self.forced.fetch_add(1, Ordering::Relaxed);
        }
        self.swept.fetch_add(end.swept(), Ordering::Relaxed);
        lock(&self.teardowns).add(end.took());
    }

    pub(super) fn read(&self) -> Statistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            created: read(&self.created),
            failed: read(&self.failed),
            removed: read(&self.removed),
            died: read(&self.died),
            restarted: read(&self.restarted),
            refused: read(&self.refused),
            stale: read(&self.stale),
            dropped: read(&self.dropped),
            forced: read(&self.forced),
            swept: read(&self.swept),
            teardowns: lock(&self.teardowns).clone(),
            ..Statistics::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_falls_into_one_bucket() {
        let mut times = TeardownTimes::default();
        for ms in [0, 1, 2, 3, 10_000, 10_001] {
            times.add(Duration::from_millis(ms));
        }
        let counts: Vec<u64> = times.buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((times.count, times.beyond), (6, 1));
        assert_eq!(times.sum, Duration::from_millis(20_007));
    }
}
