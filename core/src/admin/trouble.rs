//! Errors of the API: what happened, the likely cause, and what to do.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::{host::HostError, process::SpawnError, stdio::ConnectError};

/// A refusal or a failure, with what to do about it.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) status: StatusCode,
    pub(super) what: String,
    pub(super) cause: String,
    pub(super) remedy: String,
}

impl Trouble {
    pub(super) fn new(
        status: StatusCode,
        what: impl Into<String>,
        cause: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { status, what: what.into(), cause: cause.into(), remedy: remedy.into() }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({ "error": {
            "status": self.status.as_u16(),
            "what": self.what,
            "cause": self.cause,
            "do": self.remedy,
        }})
    }

    /// A server could not be added.
    pub(super) fn adding(error: &HostError) -> Self {
        let what = with_sources(error);
        let (status, cause, remedy) = match error {
            HostError::Duplicate { .. } => (
                StatusCode::CONFLICT,
                "a server of this name was added before and has not been removed",
                "DELETE it first, choose another name, or say \"on_duplicate\": \"replace\"",
            ),
            HostError::Closed { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the program that owns the host is ending",
                "start it again, and ask there",
            ),
            HostError::TooMany { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "servers were added and never removed, or the limit is too low for what is wanted",
                "DELETE servers that are not needed, or raise `server_limit` of the host",
            ),
            HostError::Ended { .. } => (
                StatusCode::CONFLICT,
                "somebody removed or replaced it, or shut the host down, while it was connecting",
                "add it again, if it is still wanted",
            ),
            HostError::Stdio(error) => of_stdio(error),
            #[cfg(feature = "http-client")]
            HostError::Http(error) => of_http(error),
            HostError::TimedOut { .. } => (
                StatusCode::GATEWAY_TIMEOUT,
                "the server hangs, or is slow",
                "run its command by hand and see what it waits for",
            ),
            _ => (
                StatusCode::BAD_GATEWAY,
                "the server broke off, or does not keep to the protocol",
                "see its last words above; run its command by hand, or judge it with `scupper server`",
            ),
        };
        Self::new(status, what, cause, remedy)
    }
}

fn of_stdio(error: &ConnectError) -> (StatusCode, &'static str, &'static str) {
    match error {
        ConnectError::Spawn(SpawnError::NotFound { .. }) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "the command is misspelt, not installed, or not on the PATH of this process",
            "install it, or give its absolute path as \"command\"; a PATH in \"env\" counts",
        ),
        ConnectError::Spawn(_) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "the command is no program, may not be run, or its \"cwd\" does not exist; or this \
             process is out of descriptors or processes",
            "see what the kernel said above; correct \"command\" or \"cwd\", or look at /metrics",
        ),
        ConnectError::Handshake { .. } => (
            StatusCode::BAD_GATEWAY,
            "the program is no MCP server over stdio, or lacks arguments or environment",
            "see its last words above; run its command by hand with the same arguments",
        ),
        ConnectError::TimedOut { .. } => (
            StatusCode::GATEWAY_TIMEOUT,
            "the program is no MCP server over stdio, or takes long to start (a first `npx` or \
             `uvx` downloads)",
            "run its command by hand once, then add it again",
        ),
    }
}

#[cfg(feature = "http-client")]
fn of_http(error: &crate::http::HttpConnectError) -> (StatusCode, &'static str, &'static str) {
    use crate::http::HttpConnectError;
    match error {
        HttpConnectError::TimedOut { .. } => (
            StatusCode::GATEWAY_TIMEOUT,
            "the server hangs, or a firewall swallows what is sent to it",
            "ask its \"url\" with curl from this machine",
        ),
        _ => (
            StatusCode::BAD_GATEWAY,
            "nobody listens at the \"url\", it is not the endpoint of an MCP server, or \"headers\" \
             lack what the server wants",
            "see what it answered above; ask its \"url\" with curl, and mind the path (often /mcp)",
        ),
    }
}

/// The error and what is below it, as one sentence.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.to_json())).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
