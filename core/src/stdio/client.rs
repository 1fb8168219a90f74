//! Server and rmcp client as one thing that is opened and closed.

use std::{fmt, ops::Deref, panic::Location, sync::Arc, time::Duration};

use rmcp::{
    RoleClient, Service,
    service::{
        ClientInitializeError, ClientLifecycleMode, Peer, RunningService,
        serve_client_with_lifecycle,
    },
};

use super::{
    StderrTail, StdioHandle, StdioServer, StdioTransport, Teardown, connection::Closer,
    probing::Probing,
};
use crate::{census::Census, process::SpawnError};

/// Why no connection came about. The server has been closed by the ladder when this is returned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The handshake failed.
    #[error("connecting to server `{}`: the handshake failed; {}", .ended.teardown.name, .ended)]
    Handshake {
        /// What rmcp said.
        source: Box<ClientInitializeError>,
        /// How the server ended.
        ended: Box<EndedEarly>,
    },
    /// The handshake took longer than [`Settings::connect_wait`](super::Settings::connect_wait).
    #[error("connecting to server `{}`: no handshake within {waited:?}; {ended}", .ended.teardown.name)]
    TimedOut {
        /// How long it was waited for.
        waited: Duration,
        /// How the server ended.
        ended: Box<EndedEarly>,
    },
}

/// What is known of a server whose handshake did not succeed.
#[derive(Debug)]
pub struct EndedEarly {
    /// How it was ended.
    pub teardown: Teardown,
    /// Its last words.
    pub stderr: StderrTail,
}

impl fmt::Display for EndedEarly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.teardown.exit {
            Some(exit) => write!(f, "the server ended with {exit}")?,
            None => f.write_str("the server is still there")?,
        }
        match self.stderr.lines.last() {
            Some(line) => write!(f, "; its stderr ends with: {line}"),
            None => f.write_str("; its stderr is empty"),
        }
    }
}

impl StdioServer {
    /// Starts the server and does the `initialize` handshake. A server that does not answer is closed
    /// by the ladder like any other; dropping the future kills it on the spot.
    ///
    /// # Errors
    /// [`ConnectError`], after the server has ended.
    #[track_caller]
    pub fn connect<S: Service<RoleClient>>(
        &self,
        service: S,
        census: &Census,
    ) -> impl Future<Output = Result<StdioClient<S>, ConnectError>> + Send {
        self.connect_at(service, ClientLifecycleMode::Initialize, census, Location::caller())
    }

    /// As [`connect`](Self::connect), with another handshake: MCP 2026-07-28 discovers instead of
    /// initializing.
    ///
    /// # Errors
    /// [`ConnectError`], after the server has ended.
    #[track_caller]
    pub fn connect_with<S: Service<RoleClient>>(
        &self,
        service: S,
        lifecycle: ClientLifecycleMode,
        census: &Census,
    ) -> impl Future<Output = Result<StdioClient<S>, ConnectError>> + Send {
        self.connect_at(service, lifecycle, census, Location::caller())
    }

    async fn connect_at<S: Service<RoleClient>>(
        &self,
        service: S,
        lifecycle: ClientLifecycleMode,
        census: &Census,
        opened_at: &'static Location<'static>,
    ) -> Result<StdioClient<S>, ConnectError> {
        let (transport, _handle) = self.spawn_at(census, opened_at)?;
        transport.connect(service, lifecycle).await
    }
}

impl StdioTransport {
    /// Does the handshake with a server that has been [spawned](StdioServer::spawn), for hosts that
    /// want the handle before. A close by the handle meanwhile ends the handshake.
    ///
    /// # Errors
    /// [`ConnectError`], after the server has ended.
    pub async fn connect<S: Service<RoleClient>>(
        self,
        service: S,
        lifecycle: ClientLifecycleMode,
    ) -> Result<StdioClient<S>, ConnectError> {
        let handle = self.handle();
        let connection = Arc::clone(&handle.connection);
        // rmcp drops the transport when the handshake fails, which would kill a server that only
        // needs its stdin closed. As long as this closer is there, its end is our business.
        let mut closer = Closer::new(&connection);
        let waited = connection.settings.connect_wait;
        let probes = matches!(lifecycle, ClientLifecycleMode::Auto { .. });
        let transport = Probing::new(self, probes.then_some(connection.settings.probe_wait));
        let handshake = serve_client_with_lifecycle(service, transport, lifecycle);
        let failure = match tokio::time::timeout(waited, handshake).await {
            Ok(Ok(service)) => {
                closer.finish();
                return Ok(StdioClient { service, handle });
            }
            Ok(Err(error)) => Some(Box::new(error)),
            Err(_) => None,
        };
        sabotaged!(FailedHandshakeKept => {
            closer.finish();
            let program = handle.name().to_owned();
            std::mem::forget(handle);
            return Err(SpawnError::NoRuntime { program }.into());
        });
        let ended =
            Box::new(EndedEarly { teardown: handle.close().await, stderr: handle.stderr_tail() });
        closer.finish();
        Err(match failure {
            Some(source) => ConnectError::Handshake { source, ended },
            None => ConnectError::TimedOut { waited, ended },
        })
    }
}

/// A connected server. Dropped without close, it kills the server's group and blocks until it is
/// gone, as a dropped transport does.
#[must_use = "dropping it kills the server"]
pub struct StdioClient<S: Service<RoleClient>> {
    service: RunningService<RoleClient, S>,
    handle: StdioHandle,
}

impl<S: Service<RoleClient>> StdioClient<S> {
    /// The hold on server and connection that outlives the client.
    pub fn handle(&self) -> &StdioHandle {
        &self.handle
    }

    /// The service that answers the server's requests.
    pub fn service(&self) -> &S {
        self.service.service()
    }

    /// Ends server and client task, and tells how the server ended.
    pub async fn close(mut self) -> Teardown {
        let (teardown, client) = tokio::join!(self.handle.close(), self.service.close());
        if let Err(error) = client {
            tracing::warn!(server = self.handle.name(), %error, "the client task failed");
        }
        teardown
    }
}

/// Calls go to the peer: `client.call_tool(…)`.
impl<S: Service<RoleClient>> Deref for StdioClient<S> {
    type Target = Peer<RoleClient>;

    fn deref(&self) -> &Self::Target {
        self.service.peer()
    }
}

impl<S: Service<RoleClient>> Drop for StdioClient<S> {
    fn drop(&mut self) {
        self.handle.connection.owner_dropped();
    }
}

impl<S: Service<RoleClient>> fmt::Debug for StdioClient<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StdioClient({})", self.handle)
    }
}
