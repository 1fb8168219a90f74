//! What can go wrong, and what to change then.

use std::{error::Error, fmt::Write, io, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use rmcp::transport::streamable_http_client::StreamableHttpError;

use super::{EndCause, HttpTeardown};
use crate::lifecycle::IllegalEvent;

/// Why there can be no server of this address or with these headers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpServerError {
    /// Not an absolute URL.
    #[error("`{url}` is no URL: {why}; an endpoint looks like http://127.0.0.1:8000/mcp")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A scheme this transport does not speak.
    #[error(
        "`{url}`: the scheme `{scheme}` is not spoken here, only http{}",
        if cfg!(feature = "tls") { " and https" } else {
            "; for https, turn on the feature `tls` of scupper-core"
        }
    )]
    Scheme {
        /// What was given.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// User name or password in the URL, which would end up in logs.
    #[error(
        "the URL of host `{host}` holds a user name or password; take it out and use \
         `HttpServer::with_bearer_token` or `with_header(\"authorization\", …)`"
    )]
    Credentials {
        /// Its host.
        host: String,
    },
    /// A header that is not one, or that the transport sets itself.
    #[error("header `{name}`: {why}")]
    Header {
        /// Its name.
        name: String,
        /// What is wrong with it. Never its value.
        why: &'static str,
    },
}

/// Why a message could not be sent, or a close is not complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The connection is closing or closed.
    #[error("sending to server `{name}`: the connection has ended ({cause})")]
    Ended {
        /// The server.
        name: Arc<str>,
        /// Why it ended.
        cause: EndCause,
        /// State and event.
        source: IllegalEvent,
    },
    /// The request failed.
    #[error("server `{name}`: {source}")]
    Request {
        /// The server.
        name: Arc<str>,
        /// How. [`StreamableHttpError::Client`] holds a [`RequestError`].
        source: Box<StreamableHttpError<RequestError>>,
    },
    /// The close ran to its end, but something is left, here or on the server.
    #[error("closing: {0}")]
    Incomplete(Box<HttpTeardown>),
}

/// Why one HTTP request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The connection ended meanwhile.
    #[error("the connection has ended ({0})")]
    Ended(EndCause),
    /// No socket to the server.
    #[error("no connection to {url}: {source}; is the server running, and is this its address?")]
    Unreachable {
        /// The endpoint.
        url: Arc<str>,
        /// What the kernel, the resolver or TLS said.
        source: Unreached,
    },
    /// The socket broke before the answer was whole.
    #[error("{method} {url}: the server closed the connection within its answer ({why})")]
    Broken {
        /// The request.
        method: Method,
        /// The endpoint.
        url: Arc<str>,
        /// What hyper said.
        why: String,
    },
    /// The server took too long.
    #[error("{method} {url}: {what} within {waited:?} (`HttpSettings::{setting}`)")]
    TimedOut {
        /// The request.
        method: Method,
        /// The endpoint.
        url: Arc<str>,
        /// What did not happen.
        what: &'static str,
        /// How long it was waited for.
        waited: Duration,
        /// The setting to change.
        setting: &'static str,
    },
    /// A status that is no answer.
    #[error("{method} {url} was answered {status}: {hint}{}", preview(.body))]
    Status {
        /// The request.
        method: Method,
        /// The endpoint.
        url: Arc<str>,
        /// The status.
        status: StatusCode,
        /// What it means here, and what to change.
        hint: String,
        /// The `WWW-Authenticate` header, for clients that can authorize.
        challenge: Option<String>,
        /// The beginning of the body.
        body: String,
    },
    /// More than this side takes.
    #[error(
        "{method} {url}: {what} is larger than {limit_bytes} bytes (`HttpSettings::{setting}`)"
    )]
    TooLarge {
        /// The request.
        method: Method,
        /// The endpoint.
        url: Arc<str>,
        /// What is too large.
        what: &'static str,
        /// How many bytes it may have.
        limit_bytes: usize,
        /// The setting to change.
        setting: &'static str,
    },
    /// A success that holds no MCP message.
    #[error("{method} {url} was answered with something that is not MCP: {why}{}", preview(.body))]
    NotMcp {
        /// The request.
        method: Method,
        /// The endpoint.
        url: Arc<str>,
        /// What was wrong with it.
        why: String,
        /// The beginning of the body.
        body: String,
    },
    /// Too many requests in flight.
    #[error("{limit} requests are in flight already (`HttpSettings::max_requests`)")]
    Busy {
        /// How many may be.
        limit: usize,
    },
    /// The message has no JSON form.
    #[error("encoding the message")]
    Encode(#[source] serde_json::Error),
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct Unreached {
    /// What was being done.
    pub doing: String,
    /// What came of it.
    pub source: io::Error,
}

fn preview(body: &str) -> String {
    match body.trim() {
        "" => String::new(),
        body => format!("; it said: {body}"),
    }
}

/// An error and all it comes from, because hyper's own words are in its sources.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a string does not fail.
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}
