//! Why something could not be done for a session.

use super::{Cause, SessionId, request::Refusal};

/// Why something could not be done for a session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// As many sessions as are allowed.
    #[error(
        "{limit} sessions are alive, as many as `session_limit` allows; end one with DELETE, wait \
         for the idle sweep, or raise `session_limit`"
    )]
    Limit {
        /// The limit.
        limit: usize,
    },
    /// The server is on its way out.
    #[error("the server is shutting down and takes no new sessions")]
    ShuttingDown,
    /// No such session, or none any more.
    #[error(
        "there is no session {session}: it was deleted or swept, or never was; initialize a new one"
    )]
    Unknown {
        /// The id that was asked for.
        session: SessionId,
    },
    /// The session carries as much as it may.
    #[error(
        "session {session} runs as many requests or holds as many streams as `stream_limit` allows; \
         wait for an answer, close a stream, or raise `stream_limit`"
    )]
    Busy {
        /// The session.
        session: SessionId,
    },
    /// A request has the id of one that is still running.
    #[error(
        "session {session} already runs a request with this id; use a fresh one for each request"
    )]
    DuplicateRequest {
        /// The session.
        session: SessionId,
    },
    /// The service did not take a message for as long as `stalled_write_limit`.
    #[error(
        "the service of session {session} takes no messages: `queue_limit` of them wait for it"
    )]
    ServiceStuck {
        /// The session.
        session: SessionId,
    },
    /// The service ended, failed or panicked before it answered `initialize`.
    #[error("the service of session {session} ended before it had answered `initialize`: {cause}")]
    NotInitialized {
        /// The session, which is removed.
        session: SessionId,
        /// What ended it.
        cause: Cause,
    },
    /// What cannot be resumed.
    #[error("resuming a stream of session {session} after event `{event}`: {why}")]
    NotResumable {
        /// The session.
        session: SessionId,
        /// The id that the client sent.
        event: String,
        /// Why not.
        why: String,
    },
    /// The operating system gave no random bytes for an id.
    #[error("drawing a session id from the operating system: {0}")]
    NoRandomness(std::io::Error),
}

impl SessionError {
    /// How a request that met this error is to be answered, where not with 500.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self {
            SessionError::Limit { .. } | SessionError::ShuttingDown | SessionError::Busy { .. } => {
                Some(Refusal::Busy(self.to_string()))
            }
            SessionError::Unknown { .. } => Some(Refusal::Unknown(self.to_string())),
            SessionError::DuplicateRequest { .. } => Some(Refusal::BadRequest(self.to_string())),
            _ => None,
        }
    }
}
