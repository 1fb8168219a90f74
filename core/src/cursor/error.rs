//! What can go wrong with a cursor, and what a client is told of it.

use std::{io, sync::Arc, time::Duration};

use rmcp::ErrorData;

use super::StoreError;
use crate::scope::ScopeError;

/// Why a cursor could not be made, read or removed. `ErrorData::from` makes the answer to a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// The session has no such cursor. Never there, expired, removed, evicted and another session's
    /// all look like this. A client is told -32602.
    #[error(
        "this session has no such cursor: a cursor lives for {} s and only in the session that was \
         given it; list again from the start, without a cursor",
        .ttl.as_secs_f64()
    )]
    Unknown {
        /// How long cursors live.
        ttl: Duration,
    },
    /// The session was not opened, or has ended.
    #[error(
        "session `{session}` has no cursors: it has ended, or `Cursors::open_session` was not called"
    )]
    NoSession {
        /// The session.
        session: Arc<str>,
    },
    /// A session of this name is open already.
    #[error("session `{session}` is open already; end it before another of its name is opened")]
    SessionExists {
        /// The session.
        session: Arc<str>,
    },
    /// The payload is over the limit.
    #[error(
        "a payload of {bytes} bytes is over the limit of {limit}: keep a position and not the data, \
         or raise `payload_bytes`"
    )]
    PayloadTooLarge {
        /// Its size.
        bytes: usize,
        /// [`Settings::payload_bytes`](super::Settings::payload_bytes).
        limit: usize,
    },
    /// The session has as many cursors as it may, and is not allowed to lose its oldest.
    #[error(
        "session `{session}` has {limit} cursors, which is the limit: remove those that are used up, \
         or set `when_full` to `EvictOldest`"
    )]
    SessionFull {
        /// The session.
        session: Arc<str>,
        /// [`Settings::cursors_per_session`](super::Settings::cursors_per_session).
        limit: usize,
    },
    /// All sessions together hold as much as they may.
    #[error(
        "cursors of all sessions hold {held} bytes and {bytes} more are over the limit of {limit}: \
         shorten `ttl`, lower `payload_bytes` or raise `total_bytes`"
    )]
    TotalFull {
        /// What they hold.
        held: usize,
        /// What was to be added.
        bytes: usize,
        /// [`Settings::total_bytes`](super::Settings::total_bytes).
        limit: usize,
    },
    /// The store failed, or did not answer in time.
    #[error("{doing}: {source}")]
    Store {
        /// What it was asked.
        doing: &'static str,
        /// Its answer.
        source: StoreError,
    },
    /// The session has gone, but its payloads are still in the store; the sweep tries again.
    #[error(
        "session `{session}` has ended, and up to {cursors} of its cursors wait in the store for the \
         next sweep: {source}"
    )]
    LeftToSweep {
        /// The session.
        session: Arc<str>,
        /// How many there may be.
        cursors: usize,
        /// Why they could not be removed.
        source: StoreError,
    },
    /// The cursors were closed.
    #[error("the cursors are closed: `Cursors::close` was called")]
    Closed,
    /// The sweeper could not be started.
    #[error("starting the sweeper: {0}")]
    Sweeper(#[from] ScopeError),
    /// The operating system gave no random bytes for an id.
    #[error("making an id that cannot be guessed: {0}")]
    NoRandomness(#[from] io::Error),
}

impl From<CursorError> for ErrorData {
    fn from(error: CursorError) -> Self {
        let text = error.to_string();
        match error {
            CursorError::Unknown { .. } => ErrorData::invalid_params(text, None),
            // The rest is for the operator: names of sessions and of stores are not for clients.
            error => {
                tracing::warn!(%error, "cursor");
                ErrorData::internal_error(
                    "pagination is not available at the moment; list again from the start, later",
                    None,
                )
            }
        }
    }
}
