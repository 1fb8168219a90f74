//! What a host refuses or could not do.

use std::{sync::Arc, time::Duration};

use rmcp::ServiceError;

use super::{EndReason, ServerState};
use crate::{scope::ScopeError, stdio::ConnectError, stream::StreamConnectError};

/// Why a host could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The host was shut down, or is being shut down.
    #[error("the host is closed; make another one to {doing}")]
    Closed {
        /// What it was asked for.
        doing: &'static str,
    },
    /// The name is taken.
    #[error(
        "there is a server `{server}` already ({state}); remove it, choose another name, or add \
         with `OnDuplicate::Replace`"
    )]
    Duplicate {
        /// The name.
        server: Arc<str>,
        /// What the one that has it is doing.
        state: ServerState,
    },
    /// There are as many servers as there may be.
    #[error("adding server `{server}`: the host has {limit} already (`Settings::server_limit`)")]
    TooMany {
        /// The one too many.
        server: Arc<str>,
        /// How many there may be.
        limit: usize,
    },
    /// No server has this name, or not any more.
    #[error("no server `{server}` in this host; it has {}", show(.known))]
    NoSuchServer {
        /// The name.
        server: Arc<str>,
        /// The names there are.
        known: Vec<Arc<str>>,
    },
    /// The server cannot be used now.
    #[error("server `{server}` cannot be used: it is {state}")]
    NotReady {
        /// The server.
        server: Arc<str>,
        /// What it is doing.
        state: ServerState,
    },
    /// The server died, or its connection broke, before it answered.
    #[error("{doing} of server `{server}`: the server died: {why}")]
    Died {
        /// The server.
        server: Arc<str>,
        /// What it was asked for.
        doing: &'static str,
        /// What ended it.
        why: Arc<str>,
    },
    /// The server was closed on purpose before it answered.
    #[error("{doing} of server `{server}`: it ended before, because {reason}")]
    Ended {
        /// The server.
        server: Arc<str>,
        /// What it was asked for.
        doing: &'static str,
        /// Who ended it.
        reason: EndReason,
    },
    /// The server did not answer in time. It has been told that the request is cancelled.
    #[error("{doing} of server `{server}`: no answer within {waited:?} (`Settings::call_wait`)")]
    TimedOut {
        /// The server.
        server: Arc<str>,
        /// What it was asked for.
        doing: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The server answered with an error, or with something else than was asked for.
    #[error("{doing} of server `{server}`")]
    Refused {
        /// The server.
        server: Arc<str>,
        /// What it was asked for.
        doing: &'static str,
        /// The answer.
        source: ServiceError,
    },
    /// The stdio server could not be connected; it is gone.
    #[error(transparent)]
    Stdio(Box<ConnectError>),
    /// The server behind streams could not be connected; both are dropped.
    #[error(transparent)]
    Stream(Box<StreamConnectError>),
    /// The HTTP server could not be connected; nothing of the connection is left.
    #[cfg(feature = "http-client")]
    #[error(transparent)]
    Http(Box<crate::http::HttpConnectError>),
    /// The task that is the server's life could not be started, or panicked.
    #[error("server `{server}`")]
    Task {
        /// The server.
        server: Arc<str>,
        /// What happened to it.
        source: ScopeError,
    },
}

fn show(names: &[Arc<str>]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}
