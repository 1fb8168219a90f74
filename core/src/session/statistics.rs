//! What is counted about sessions.

use std::{
    collections::BTreeMap,
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use super::Cause;

/// Sessions as they are, and what became of those that were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Alive, with an unfinished handshake.
    pub connecting: usize,
    /// Alive.
    pub active: usize,
    /// Alive, on their way out.
    pub closing: usize,
    /// Streams that a client reads.
    pub streams: usize,
    /// Handlers that run, of requests with and without a session.
    pub handlers: usize,
    /// Sessions ever begun.
    pub created: u64,
    /// Sessions that are gone, by cause.
    pub removed: BTreeMap<Cause, u64>,
    /// Requests refused with 503 because a limit was reached.
    pub refused: u64,
    /// Sessions that the sweeper found: idle, disconnected, stuck in the handshake, over a limit.
    pub swept: u64,
    /// Those among them that were idle.
    pub stale: u64,
    /// Streams cut because their client did not read.
    pub cut: u64,
}

impl Statistics {
    /// Sessions that are gone, whatever the cause.
    pub fn closed(&self) -> u64 {
        self.removed.values().sum()
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connecting, {} active, {} closing, {} streams, {} handlers; {} created, {} closed, {} refused, \
             {} swept, {} stale, {} streams cut",
            self.connecting,
            self.active,
            self.closing,
            self.streams,
            self.handlers,
            self.created,
            self.closed(),
            self.refused,
            self.swept,
            self.stale,
            self.cut
        )
    }
}

/// The counters behind them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) streams: AtomicUsize,
    pub(super) handlers: AtomicUsize,
    /// No handler starts any more.
    pub(super) closed: AtomicBool,
    pub(super) created: AtomicU64,
    removed: [AtomicU64; Cause::ALL.len()],
    pub(super) refused: AtomicU64,
    pub(super) cut: AtomicU64,
}

impl Counters {
    pub(super) fn removed(&self, cause: Cause) {
        if let Some(place) = Cause::ALL.iter().position(|known| *known == cause) {
            self.removed[place].fetch_add(1, Relaxed);
        }
    }

    /// All but the states, which only the registry knows.
    pub(super) fn read(&self) -> Statistics {
        let removed: BTreeMap<Cause, u64> = Cause::ALL
            .into_iter()
            .zip(&self.removed)
            .map(|(cause, count)| (cause, count.load(Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect();
        Statistics {
            streams: self.streams.load(Relaxed),
            handlers: self.handlers.load(Relaxed),
            created: self.created.load(Relaxed),
            refused: self.refused.load(Relaxed),
            swept: removed.iter().filter(|(cause, _)| cause.is_swept()).map(|(_, n)| n).sum(),
            stale: removed.get(&Cause::Idle).copied().unwrap_or(0),
            cut: self.cut.load(Relaxed),
            removed,
            ..Statistics::default()
        }
    }
}
