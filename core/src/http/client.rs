//! Server and rmcp client as one thing that is opened and closed.

use std::{fmt, ops::Deref, panic::Location, sync::Arc, time::Duration};

use rmcp::{
    RoleClient, Service,
    service::{
        ClientInitializeError, ClientLifecycleMode, Peer, RunningService,
        serve_client_with_lifecycle,
    },
};

use super::{EndCause, HttpHandle, HttpServer, HttpTeardown, HttpTransport, ending::Closer};
use crate::{census::Census, lifecycle::Event};

/// Why no connection came about. Nothing is left on this side when this is returned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpConnectError {
    /// No tokio runtime to connect on.
    #[error("connecting to server `{name}` needs a running tokio runtime; call it from async code")]
    NoRuntime {
        /// The server.
        name: Arc<str>,
    },
    /// The handshake failed.
    #[error(
        "connecting to server `{}`: the handshake failed: {}; {}",
        .ended.name, reason(.source, .ended), .ended.session
    )]
    Handshake {
        /// What rmcp said; at its root is an [`HttpError`](super::HttpError).
        source: Box<ClientInitializeError>,
        /// How the connection ended.
        ended: Box<HttpTeardown>,
    },
    /// The handshake took longer than [`HttpSettings::connect_wait`](super::HttpSettings::connect_wait).
    #[error(
        "connecting to server `{}`: no handshake within {waited:?} (`HttpSettings::connect_wait`); \
         {}", .ended.name, .ended.session
    )]
    TimedOut {
        /// How long it was waited for.
        waited: Duration,
        /// How the connection ended.
        ended: Box<HttpTeardown>,
    },
}

/// What this side has to say about it, or else what the server said.
fn reason(source: &ClientInitializeError, ended: &HttpTeardown) -> String {
    match &ended.failure {
        Some(failure) => failure.to_string(),
        None => source.to_string(),
    }
}

impl HttpServer {
    /// Connects and does the `initialize` handshake. If it fails, the connection is closed like any
    /// other, the session deleted if there was one by then; dropping the future ends it on the spot.
    ///
    /// # Errors
    /// [`HttpConnectError`], after the connection has ended.
    #[track_caller]
    pub fn connect<S: Service<RoleClient>>(
        &self,
        service: S,
        census: &Census,
    ) -> impl Future<Output = Result<HttpClient<S>, HttpConnectError>> + Send {
        self.connect_at(service, ClientLifecycleMode::Initialize, census, Location::caller())
    }

    /// As [`connect`](Self::connect), with another handshake: MCP 2026-07-28 discovers instead of
    /// initializing.
    ///
    /// # Errors
    /// [`HttpConnectError`], after the connection has ended.
    #[track_caller]
    pub fn connect_with<S: Service<RoleClient>>(
        &self,
        service: S,
        lifecycle: ClientLifecycleMode,
        census: &Census,
    ) -> impl Future<Output = Result<HttpClient<S>, HttpConnectError>> + Send {
        self.connect_at(service, lifecycle, census, Location::caller())
    }

    async fn connect_at<S: Service<RoleClient>>(
        &self,
        service: S,
        lifecycle: ClientLifecycleMode,
        census: &Census,
        opened_at: &'static Location<'static>,
    ) -> Result<HttpClient<S>, HttpConnectError> {
        let (transport, _handle) = self.transport_at(census, opened_at)?;
        transport.connect(service, lifecycle).await
    }
}

impl HttpTransport {
    /// Does the handshake on a transport that [is there](HttpServer::transport) already, for hosts
    /// that want the handle before. A close by the handle meanwhile ends the handshake.
    ///
    /// # Errors
    /// [`HttpConnectError`], after the connection has ended.
    pub async fn connect<S: Service<RoleClient>>(
        self,
        service: S,
        lifecycle: ClientLifecycleMode,
    ) -> Result<HttpClient<S>, HttpConnectError> {
        let handle = self.handle();
        let connection = Arc::clone(&handle.connection);
        // rmcp drops the transport when the handshake fails, without a word to the server. As long
        // as this closer is there, the end is our business.
        let mut closer = Closer::new(&connection);
        let waited = connection.settings.connect_wait;
        if matches!(lifecycle, ClientLifecycleMode::Auto { .. }) {
            connection.expect_probe();
        }
        let handshake = serve_client_with_lifecycle(service, self, lifecycle);
        let failure = match tokio::time::timeout(waited, handshake).await {
            Ok(Ok(service)) => {
                closer.finish();
                return Ok(HttpClient { service, handle });
            }
            Ok(Err(error)) => {
                connection.end(Event::ConnectionLost, EndCause::Lost);
                Some(Box::new(error))
            }
            Err(_) => None,
        };
        let ended = Box::new(handle.close().await);
        closer.finish();
        Err(match failure {
            Some(source) => HttpConnectError::Handshake { source, ended },
            None => HttpConnectError::TimedOut { waited, ended },
        })
    }
}

/// A connected server. Dropped without close, its sockets close at once, and the server is not told:
/// its session lives until the server's idle limit.
#[must_use = "dropping it cuts the connection"]
pub struct HttpClient<S: Service<RoleClient>> {
    service: RunningService<RoleClient, S>,
    handle: HttpHandle,
}

impl<S: Service<RoleClient>> HttpClient<S> {
    /// The hold on the connection that outlives the client.
    pub fn handle(&self) -> &HttpHandle {
        &self.handle
    }

    /// The service that answers the server's requests.
    pub fn service(&self) -> &S {
        self.service.service()
    }

    /// Ends connection and client task, and tells how the connection ended.
    pub async fn close(mut self) -> HttpTeardown {
        let (teardown, client) = tokio::join!(self.handle.close(), self.service.close());
        if let Err(error) = client {
            tracing::warn!(server = self.handle.name(), %error, "the client task failed");
        }
        teardown
    }
}

/// Calls go to the peer: `client.call_tool(…)`.
impl<S: Service<RoleClient>> Deref for HttpClient<S> {
    type Target = Peer<RoleClient>;

    fn deref(&self) -> &Self::Target {
        self.service.peer()
    }
}

impl<S: Service<RoleClient>> Drop for HttpClient<S> {
    fn drop(&mut self) {
        self.handle.connection.owner_dropped();
    }
}

impl<S: Service<RoleClient>> fmt::Debug for HttpClient<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpClient({})", self.handle)
    }
}
