//! Waits and limits of sessions, with their defaults.

use std::{fmt, sync::Arc, time::Duration};

use super::SessionId;
use crate::cleanup::CleanupPlan;

/// What is to be done when a session ends; called when it begins.
pub type MakeCleanup = Arc<dyn Fn(&SessionId) -> CleanupPlan + Send + Sync>;

/// What the loss of its last stream means for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisconnect {
    /// Nothing: the client may come back with its session id, until the session is idle for too
    /// long. MCP 2025-11-25, "Sending Messages to the Server": a disconnect SHOULD NOT be read as a
    /// cancel.
    Keep,
    /// The session ends when no stream of it was open and no request ran for this long.
    EndAfter(Duration),
}

/// Waits and limits of the sessions of one server. Make one with [`Default`] and change what differs.
#[derive(Clone)]
pub struct Settings {
    /// How many sessions may be alive at once, those that are closing included; one more is refused
    /// with 503. Default 1024.
    pub session_limit: usize,
    /// How often idle sessions are looked for. Default 30 s. A limit that is shorter than four such
    /// intervals is looked at four times within itself.
    pub sweep_interval: Duration,
    /// How long a session may go unused. Default 5 min. Use is a message or a new stream from the
    /// client, a message that a stream of the client took, or a request that is running; a keep-alive
    /// comment is none, because the kernel of a client that hangs takes those too.
    pub idle_limit: Duration,
    /// Whether a client that holds a stream open and says nothing is asked with an MCP `ping` after
    /// half of `idle_limit`. A client that answers is alive and its session stays; one that does not
    /// is silent, and the session goes when `idle_limit` is over. Default true. Without it an open
    /// stream alone keeps no session.
    pub ask_silent_clients: bool,
    /// From the birth of a session to the first message after its `initialize`, and the longest an
    /// `initialize` may take. Default 30 s.
    pub handshake_limit: Duration,
    /// How long one request may run; a session whose request runs longer is ended. Default 1 h. Up to
    /// 2025-11-25 a client that vanishes cancels nothing, so a handler that hangs keeps its session, and
    /// what belongs to it, for so long: with handlers that may hang, set it to what a call may take.
    pub request_limit: Duration,
    /// What the loss of its last stream means for a session. Default [`OnDisconnect::Keep`].
    pub on_disconnect: OnDisconnect,
    /// How many requests of one session may run at once, and how many streams it may have open
    /// beside them; one more is refused with 503. Default 64.
    pub stream_limit: usize,
    /// How many messages may wait for a client to read one stream, or for the service to read one
    /// session. Beyond it a sender waits. Default 64.
    pub queue_limit: usize,
    /// How many messages of a stream are kept for a client that resumes it, the latest ones, and how
    /// many finished streams are kept with them. Default 64.
    pub replay_limit: usize,
    /// What the first event of each stream tells a client to wait before it resumes; without it,
    /// streams have no such event. Default 3 s, as rmcp.
    pub sse_retry: Option<Duration>,
    /// How long a stream that finished unread is kept for a client that resumes it. Default 60 s.
    pub replay_wait: Duration,
    /// How long the queue of a stream may stay full before the stream and its socket are cut.
    /// Default 30 s.
    pub stalled_write_limit: Duration,
    /// How long a handler may go on when its request has been cancelled, before it is dropped at its
    /// next await. Default 1 s.
    pub handler_grace: Duration,
    /// How long running requests have to answer when the server shuts down, before they are
    /// cancelled. Default 1 s.
    pub drain_wait: Duration,
    /// How long the end of a session waits for its service, and again for its streams, before it
    /// goes on without them. Default 6 s: rmcp waits 5 s for handlers that were not cancelled.
    pub close_wait: Duration,
    /// What is done at the end of each session. Default nothing.
    pub cleanup: Option<MakeCleanup>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            session_limit: 1024,
            sweep_interval: Duration::from_secs(30),
            idle_limit: Duration::from_secs(5 * 60),
            ask_silent_clients: true,
            handshake_limit: Duration::from_secs(30),
            request_limit: Duration::from_secs(60 * 60),
            on_disconnect: OnDisconnect::Keep,
            stream_limit: 64,
            queue_limit: 64,
            replay_limit: 64,
            sse_retry: Some(Duration::from_secs(3)),
            replay_wait: Duration::from_secs(60),
            stalled_write_limit: Duration::from_secs(30),
            handler_grace: Duration::from_secs(1),
            drain_wait: Duration::from_secs(1),
            close_wait: Duration::from_secs(6),
            cleanup: None,
        }
    }
}

impl Settings {
    /// How often the sweeper looks, so that no limit is overrun by more than a quarter of itself.
    pub(super) fn tick(&self) -> Duration {
        let mut tick = self.sweep_interval;
        for limit in [self.idle_limit, self.handshake_limit, self.request_limit] {
            tick = tick.min(limit / 4);
        }
        if let OnDisconnect::EndAfter(wait) = self.on_disconnect {
            tick = tick.min(wait / 4);
        }
        tick.max(Duration::from_millis(5))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("session_limit", &self.session_limit)
            .field("sweep_interval", &self.sweep_interval)
            .field("idle_limit", &self.idle_limit)
            .field("on_disconnect", &self.on_disconnect)
            .field("stalled_write_limit", &self.stalled_write_limit)
            .finish_non_exhaustive()
    }
}
