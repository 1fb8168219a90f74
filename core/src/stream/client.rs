//! Streams and rmcp client as one thing that is opened and closed.

use std::{fmt, io, ops::Deref, panic::Location, sync::Arc, time::Duration};

use rmcp::{
    RoleClient, Service,
    service::{
        ClientInitializeError, ClientLifecycleMode, Peer, RunningService,
        serve_client_with_lifecycle,
    },
};

use super::{StreamEnd, StreamHandle, StreamServer, StreamTransport, connection::Closer};
use crate::{census::Census, stdio::probing::Probing};

/// Why no connection came about. Both streams are dropped when this is returned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamConnectError {
    /// The streams could not be opened.
    #[error("connecting to server `{name}`: opening its streams")]
    Open {
        /// The server.
        name: Arc<str>,
        /// What the function that opens them said.
        source: io::Error,
    },
    /// The streams were not open, or the handshake not done, in time.
    #[error(
        "connecting to server `{name}`: {doing} took longer than {waited:?} \
         (`StreamSettings::connect_wait`)"
    )]
    TimedOut {
        /// The server.
        name: Arc<str>,
        /// What was waited for.
        doing: &'static str,
        /// How long.
        waited: Duration,
    },
    /// The handshake failed.
    #[error("connecting to server `{}`: the handshake failed; {}", .ended.name, .ended)]
    Handshake {
        /// What rmcp said.
        source: Box<ClientInitializeError>,
        /// How the connection ended.
        ended: Box<StreamEnd>,
    },
}

impl StreamServer {
    /// Opens the streams and does the `initialize` handshake. Dropping the future drops them.
    ///
    /// # Errors
    /// [`StreamConnectError`], after the streams were dropped.
    #[track_caller]
    pub fn connect<S: Service<RoleClient>>(
        &self,
        service: S,
        census: &Census,
    ) -> impl Future<Output = Result<StreamClient<S>, StreamConnectError>> + Send {
        self.connect_with(service, ClientLifecycleMode::Initialize, census)
    }

    /// As [`connect`](Self::connect), with another handshake.
    ///
    /// # Errors
    /// [`StreamConnectError`], after the streams were dropped.
    #[track_caller]
    pub fn connect_with<S: Service<RoleClient>>(
        &self,
        service: S,
        lifecycle: ClientLifecycleMode,
        census: &Census,
    ) -> impl Future<Output = Result<StreamClient<S>, StreamConnectError>> + Send {
        let opened_at = Location::caller();
        async move {
            let (transport, _handle) = self.opened(census, opened_at).await?;
            transport.connect(service, lifecycle).await
        }
    }

    /// The streams, opened in time.
    pub(crate) async fn opened(
        &self,
        census: &Census,
        opened_at: &'static Location<'static>,
    ) -> Result<(StreamTransport, StreamHandle), StreamConnectError> {
        let (name, waited) = (&self.name, self.settings.connect_wait);
        match tokio::time::timeout(waited, self.open_at(census.clone(), opened_at)).await {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(source)) => Err(StreamConnectError::Open { name: Arc::clone(name), source }),
            Err(_) => {
                let doing = "opening its streams";
                Err(StreamConnectError::TimedOut { name: Arc::clone(name), doing, waited })
            }
        }
    }
}

impl StreamTransport {
    /// Does the handshake on streams that [are open](StreamServer::open) already, for hosts that want
    /// the handle before. A close by the handle meanwhile ends the handshake.
    ///
    /// # Errors
    /// [`StreamConnectError`], after the streams were dropped.
    pub async fn connect<S: Service<RoleClient>>(
        self,
        service: S,
        lifecycle: ClientLifecycleMode,
    ) -> Result<StreamClient<S>, StreamConnectError> {
        let handle = self.handle();
        let connection = Arc::clone(&handle.connection);
        // rmcp drops the transport when the handshake fails; as long as this closer is there, the end
        // is our business.
        let mut closer = Closer::new(&connection);
        let waited = connection.settings.connect_wait;
        let probes = matches!(lifecycle, ClientLifecycleMode::Auto { .. });
        let transport = Probing::new(self, probes.then_some(connection.settings.probe_wait));
        let handshake = serve_client_with_lifecycle(service, transport, lifecycle);
        let failure = match tokio::time::timeout(waited, handshake).await {
            Ok(Ok(service)) => {
                closer.finished = true;
                return Ok(StreamClient { service, handle });
            }
            Ok(Err(error)) => Some(Box::new(error)),
            Err(_) => None,
        };
        let ended = Box::new(handle.close().await);
        closer.finished = true;
        Err(match failure {
            Some(source) => StreamConnectError::Handshake { source, ended },
            None => {
                let name = Arc::clone(&connection.name);
                StreamConnectError::TimedOut { name, doing: "the handshake", waited }
            }
        })
    }
}

/// A connected server. Dropped without close, it drops both streams.
#[must_use = "dropping it ends the connection"]
pub struct StreamClient<S: Service<RoleClient>> {
    service: RunningService<RoleClient, S>,
    handle: StreamHandle,
}

impl<S: Service<RoleClient>> StreamClient<S> {
    /// The hold on the connection that outlives the client.
    pub fn handle(&self) -> &StreamHandle {
        &self.handle
    }

    /// The service that answers the server's requests.
    pub fn service(&self) -> &S {
        self.service.service()
    }

    /// Ends connection and client task, and tells how the connection ended.
    pub async fn close(mut self) -> StreamEnd {
        let (ended, client) = tokio::join!(self.handle.close(), self.service.close());
        if let Err(error) = client {
            tracing::warn!(server = self.handle.name(), %error, "the client task failed");
        }
        ended
    }
}

/// Calls go to the peer: `client.call_tool(…)`.
impl<S: Service<RoleClient>> Deref for StreamClient<S> {
    type Target = Peer<RoleClient>;

    fn deref(&self) -> &Self::Target {
        self.service.peer()
    }
}

impl<S: Service<RoleClient>> Drop for StreamClient<S> {
    fn drop(&mut self) {
        self.handle.connection.owner_dropped();
    }
}

impl<S: Service<RoleClient>> fmt::Debug for StreamClient<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamClient({})", self.handle)
    }
}
