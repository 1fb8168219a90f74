//! How long cursors live and how much they may hold.

use std::time::Duration;

/// Limits of [`Cursors`](super::Cursors).
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a cursor lives, from its birth. At least 1 ms, at most 30 days. Default 10 min.
    pub ttl: Duration,
    /// The largest payload, in bytes. Default 256 KiB.
    pub payload_bytes: usize,
    /// How many cursors a session may have, at least one. Default 64.
    pub cursors_per_session: usize,
    /// What becomes of a new cursor beyond that. Default [`WhenFull::EvictOldest`].
    pub when_full: WhenFull,
    /// How much all payloads may hold together, in bytes; expired ones count until they are swept.
    /// Default 256 MiB.
    pub total_bytes: usize,
    /// How long the store may take for one call. Default 2 s.
    pub store_limit: Duration,
    /// How often the sweep runs; at least every 10 ms. Default 30 s.
    pub sweep_interval: Duration,
    /// How many ended sessions whose payloads could not be removed are remembered for the sweep.
    /// Beyond that the oldest is given up: its payloads go when their time is over. Default 1024.
    pub remembered_sessions: usize,
    /// How long the end of all sessions may take at [`close`](super::Cursors::close), beside the
    /// closing of the store. Default 10 s.
    pub close_limit: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(600),
            payload_bytes: 256 * 1024,
            cursors_per_session: 64,
            when_full: WhenFull::EvictOldest,
            total_bytes: 256 * 1024 * 1024,
            store_limit: Duration::from_secs(2),
            sweep_interval: Duration::from_secs(30),
            remembered_sessions: 1024,
            close_limit: Duration::from_secs(10),
        }
    }
}

impl Settings {
    pub(super) fn within_reason(self) -> Self {
        Self {
            ttl: self.ttl.clamp(Duration::from_millis(1), Duration::from_secs(30 * 24 * 60 * 60)),
            cursors_per_session: self.cursors_per_session.max(1),
            sweep_interval: self.sweep_interval.max(Duration::from_millis(10)),
            ..self
        }
    }
}

/// What becomes of a new cursor when its session has as many as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest of the session goes; a client that comes back to it is told to list from the start.
    /// Right for lists, whose used cursors nobody removes.
    EvictOldest,
    /// The new one is refused with [`SessionFull`](super::CursorError::SessionFull).
    Refuse,
}
