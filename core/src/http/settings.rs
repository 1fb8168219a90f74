//! Waits and limits, with their defaults.

use std::time::Duration;

use crate::scope::ABORT_WAIT;

/// Waits and limits of one connection to an HTTP server. Make one with [`Default`] and change what
/// differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// How long [`connect`](super::HttpServer::connect) waits for the handshake. Default 30 s.
    pub connect_wait: Duration,
    /// How long the answer to `server/discover` may take before the server counts as one that does
    /// not know the request, and gets `initialize`. Only with `ClientLifecycleMode::Auto`, and part
    /// of `connect_wait`. Default 5 s; more than 9 s counts as 9 s.
    pub probe_wait: Duration,
    /// How long one socket may take from the name's look-up to the end of the TLS handshake. Default
    /// 10 s.
    pub socket_wait: Duration,
    /// How long a request may wait for the first, or the next, byte of its answer. Default 5 min,
    /// because a tool may think; streams that are open without a request are silent by right.
    pub answer_wait: Duration,
    /// The longest life of one request, whatever comes in meanwhile. Default 1 h. A subscription
    /// (`subscriptions/listen`) has no such end.
    pub request_wait: Duration,
    /// How long a close waits for the server to confirm the end of its session. Default 2 s.
    pub delete_wait: Duration,
    /// How long a close waits for tasks that have been told to end, three times at most. Default 1 s.
    pub close_wait: Duration,
    /// How long a socket may be idle before it is closed. Default 30 s.
    pub idle_wait: Duration,
    /// How many requests may be in flight, those whose answer is a stream included. More wait for
    /// their turn, for [`answer_wait`](Self::answer_wait) at most. Default 64.
    pub max_requests: usize,
    /// How often in a row a stream may end without a single event, and how often its opening may fail,
    /// before it is not opened again; at least once. Default 8.
    pub stream_reconnects: u32,
    /// The shortest wait before a broken stream is opened again, doubled with each failure. Default
    /// 1 s. A server's own `retry` field goes before it, down to a tenth of a second.
    pub reconnect_wait: Duration,
    /// The longest wait before a broken stream is opened again, whatever the server asks for. Default
    /// 30 s.
    pub reconnect_wait_limit: Duration,
    /// The largest answer that is no stream, in bytes. Default 16 MiB, as rmcp's own transports.
    pub response_limit_bytes: usize,
    /// The largest event of a stream, in bytes. Default 16 MiB.
    pub event_limit_bytes: usize,
    /// The largest head of an answer, in bytes. Default 64 KiB; less than 8 KiB counts as 8 KiB.
    pub header_limit_bytes: usize,
}

impl HttpSettings {
    /// How long a close may take at most.
    pub fn longest_end(&self) -> Duration {
        self.delete_wait
            .saturating_add(self.close_wait.saturating_mul(3))
            .saturating_add(ABORT_WAIT)
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            connect_wait: Duration::from_secs(30),
            probe_wait: Duration::from_secs(5),
            socket_wait: Duration::from_secs(10),
            answer_wait: Duration::from_secs(5 * 60),
            request_wait: Duration::from_secs(60 * 60),
            delete_wait: Duration::from_secs(2),
            close_wait: Duration::from_secs(1),
            idle_wait: Duration::from_secs(30),
            max_requests: 64,
            stream_reconnects: 8,
            reconnect_wait: Duration::from_secs(1),
            reconnect_wait_limit: Duration::from_secs(30),
            response_limit_bytes: 16 * 1024 * 1024,
            event_limit_bytes: 16 * 1024 * 1024,
            header_limit_bytes: 64 * 1024,
        }
    }
}
