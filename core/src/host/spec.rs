//! What a server of a host is and how it is reached.

use std::{fmt, sync::Arc, time::Duration};

use rmcp::{
    RoleClient, Service,
    model::ProtocolVersion,
    service::{ClientLifecycleMode, DynService},
};

use super::Restart;
#[cfg(feature = "http-client")]
use crate::http::{HttpServer, HttpServerError};
use crate::{
    process::Command,
    stdio::{self, StdioServer},
    stream::StreamServer,
};

/// A server that a host can open, again if need be.
#[derive(Clone)]
pub struct ServerSpec {
    pub(super) endpoint: Endpoint,
    pub(super) era: Era,
    pub(super) handler: Option<Arc<dyn DynService<RoleClient>>>,
    pub(super) restart: Option<Option<Restart>>,
}

#[derive(Clone, Debug)]
pub(super) enum Endpoint {
    Stdio(StdioServer),
    Stream(StreamServer),
    #[cfg(feature = "http-client")]
    Http(HttpServer),
}

/// Which handshake a server gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Era {
    /// `server/discover` first; one that refuses it, stays silent or dies of it gets `initialize`.
    #[default]
    Auto,
    /// `initialize`: up to MCP 2025-11-25.
    Initialize,
    /// `server/discover`: from MCP 2026-07-28 on.
    Discover,
}

impl Era {
    pub(super) fn mode(self) -> ClientLifecycleMode {
        let preferred_versions = vec![ProtocolVersion::LATEST];
        match self {
            Era::Auto => ClientLifecycleMode::Auto {
                preferred_versions,
                legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
            },
            Era::Initialize => ClientLifecycleMode::Initialize,
            Era::Discover => ClientLifecycleMode::Discover { preferred_versions },
        }
    }
}

impl ServerSpec {
    /// A server that is started as a child process, with default waits; for others make a
    /// [`StdioServer`] and use `from`.
    pub fn stdio(command: Command) -> Self {
        StdioServer::new(command).into()
    }

    /// A server that is reached at a URL over Streamable HTTP, with default waits; for others make an
    /// [`HttpServer`] and use `from`.
    ///
    /// # Errors
    /// As [`HttpServer::new`].
    #[cfg(feature = "http-client")]
    pub fn http(url: &str) -> Result<Self, HttpServerError> {
        Ok(HttpServer::new(url)?.into())
    }

    fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, era: Era::default(), handler: None, restart: None }
    }

    /// How long its connection may take to end by its own settings.
    pub(super) fn longest_end(&self) -> Duration {
        match &self.endpoint {
            Endpoint::Stdio(server) => server.settings().longest_end(),
            Endpoint::Stream(server) => server.settings().end_grace,
            #[cfg(feature = "http-client")]
            Endpoint::Http(server) => server.settings().longest_end(),
        }
    }

    /// The values that it was given and that nobody else shall see, with what they are.
    #[cfg(feature = "admin")]
    pub(crate) fn secrets(&self) -> Vec<(String, String)> {
        match &self.endpoint {
            Endpoint::Stdio(server) => server.command().secrets(),
            Endpoint::Stream(_) => Vec::new(),
            #[cfg(feature = "http-client")]
            Endpoint::Http(server) => server.secrets(),
        }
    }

    /// Changes the waits and limits of a stdio server, such as one from a file; others stay as they
    /// are.
    #[must_use]
    pub fn with_stdio_settings(mut self, settings: stdio::Settings) -> Self {
        self.endpoint = match self.endpoint {
            Endpoint::Stdio(server) => Endpoint::Stdio(server.with_settings(settings)),
            other => other,
        };
        self
    }

    /// Chooses the handshake.
    #[must_use]
    pub fn with_era(mut self, era: Era) -> Self {
        self.era = era;
        self
    }

    /// Who answers what the server asks (sampling, elicitation) and hears its notifications, and what
    /// the host then says of itself. Roots and changed lists stay with the host. A handler that is at
    /// work when the connection ends is dropped at its next await.
    #[must_use]
    pub fn with_handler(mut self, handler: impl Service<RoleClient>) -> Self {
        self.handler = Some(Arc::new(handler));
        self
    }

    /// Whether this server is started again when it dies, whatever the host's
    /// [settings](super::Settings::restart) say.
    #[must_use]
    pub fn with_restart(mut self, restart: Option<Restart>) -> Self {
        self.restart = Some(restart);
        self
    }
}

/// The name is the one the host gives it.
impl From<StdioServer> for ServerSpec {
    fn from(server: StdioServer) -> Self {
        Self::new(Endpoint::Stdio(server))
    }
}

/// The name is the one the host gives it.
impl From<StreamServer> for ServerSpec {
    fn from(server: StreamServer) -> Self {
        Self::new(Endpoint::Stream(server))
    }
}

/// The name is the one the host gives it.
#[cfg(feature = "http-client")]
impl From<HttpServer> for ServerSpec {
    fn from(server: HttpServer) -> Self {
        Self::new(Endpoint::Http(server))
    }
}

impl fmt::Debug for ServerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSpec")
            .field("endpoint", &self.endpoint)
            .field("era", &self.era)
            .field("has_handler", &self.handler.is_some())
            .field("restart", &self.restart)
            .finish()
    }
}
