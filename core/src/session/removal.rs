//! How a session came to its end, and how the end went.

use std::{fmt, sync::Arc, time::Duration};

use super::SessionId;
use crate::cleanup::CleanupReport;

/// Why a session was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The client sent DELETE.
    Deleted,
    /// The owner asked for it, by [`Sessions::remove`](super::Sessions::remove).
    Asked,
    /// Its streams were gone for as long as [`OnDisconnect::EndAfter`](super::OnDisconnect) allows.
    Disconnected,
    /// It was not used for `idle_limit`.
    Idle,
    /// Its handshake did not finish within `handshake_limit`, or its client left in the middle of it.
    Handshake,
    /// The service ended it or failed.
    Service,
    /// The service panicked.
    Panicked,
    /// It overran a limit of its own: a request ran longer than `request_limit`.
    Limit,
    /// The server shut down.
    Shutdown,
    /// The owner was dropped without a close.
    Dropped,
}

impl Cause {
    /// All causes.
    pub const ALL: [Cause; 10] = [
        Cause::Deleted,
        Cause::Asked,
        Cause::Disconnected,
        Cause::Idle,
        Cause::Handshake,
        Cause::Service,
        Cause::Panicked,
        Cause::Limit,
        Cause::Shutdown,
        Cause::Dropped,
    ];

    /// Is it the sweeper that finds this?
    pub fn is_swept(self) -> bool {
        matches!(self, Cause::Disconnected | Cause::Idle | Cause::Handshake | Cause::Limit)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Cause::Deleted => "deleted by its client",
            Cause::Asked => "removed by its owner",
            Cause::Disconnected => "disconnected",
            Cause::Idle => "idle",
            Cause::Handshake => "handshake not finished",
            Cause::Service => "ended by its service",
            Cause::Panicked => "service panicked",
            Cause::Limit => "limit overrun",
            Cause::Shutdown => "shutdown",
            Cause::Dropped => "dropped without close",
        })
    }
}

/// How one session ended. [`Display`](fmt::Display) prints it in a line, and a line for each step of
/// its cleanup.
#[derive(Debug)]
pub struct Removal {
    /// Which session.
    pub session: SessionId,
    /// Why.
    pub cause: Cause,
    /// How long it had lived.
    pub lived: Duration,
    /// From the wish to end it to its end.
    pub took: Duration,
    /// Did the service let go of the session within `close_wait`? If not, its handler blocks or
    /// ignores cancellation and runs on without a session.
    pub service_ended: bool,
    /// How many of its streams did not end within `close_wait` and were cut, sockets included.
    pub streams_cut: usize,
    /// How its cleanup went.
    pub cleanup: CleanupReport,
}

impl Removal {
    /// Did everything end by itself?
    pub fn is_complete(&self) -> bool {
        self.service_ended && self.streams_cut == 0 && self.cleanup.is_complete()
    }
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "session {} after {:.1} s: {}, gone in {} ms",
            self.session,
            self.lived.as_secs_f64(),
            self.cause,
            self.took.as_millis()
        )?;
        if !self.service_ended {
            f.write_str("; its service still runs")?;
        }
        if self.streams_cut > 0 {
            write!(f, "; {} streams cut", self.streams_cut)?;
        }
        if !self.cleanup.steps.is_empty() {
            write!(f, "; {}", self.cleanup)?;
        }
        Ok(())
    }
}

/// How all sessions of a server ended.
#[derive(Debug, Default)]
#[must_use = "it tells which sessions did not end by themselves"]
pub struct SessionsClosed {
    /// One for each session that was alive.
    pub removals: Vec<Arc<Removal>>,
    /// Streams of requests without a session that did not end within `close_wait` and were cut.
    pub streams_cut: usize,
    /// Handlers that still run: they block their thread, or their grace is longer than the close.
    pub handlers_left: usize,
    /// How long it took.
    pub took: Duration,
}

impl SessionsClosed {
    /// Did every session and every handler end by itself?
    pub fn is_complete(&self) -> bool {
        self.streams_cut == 0
            && self.handlers_left == 0
            && self.removals.iter().all(|removal| removal.is_complete())
    }
}

impl fmt::Display for SessionsClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sessions closed in {} ms", self.removals.len(), self.took.as_millis())?;
        if self.streams_cut > 0 {
            write!(f, "; {} streams without a session cut", self.streams_cut)?;
        }
        if self.handlers_left > 0 {
            write!(f, "; {} handlers still run", self.handlers_left)?;
        }
        for removal in &self.removals {
            write!(f, "\n{removal}")?;
        }
        Ok(())
    }
}
