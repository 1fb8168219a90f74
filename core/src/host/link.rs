//! A connection of either kind: opened, held, closed.

use std::{panic::Location, pin::pin, sync::Arc};

use rmcp::{
    RoleClient,
    service::{ClientInitializeError, ClientLifecycleMode, Peer},
};
use tokio_util::sync::CancellationToken;

use super::{
    ConnectionEnd, HostError,
    service::HostService,
    spec::{Endpoint, Era, ServerSpec},
};
#[cfg(feature = "http-client")]
use crate::http::{HttpClient, HttpHandle, HttpServer};
use crate::{
    census::Census,
    guard::GuardHandle,
    process::ProcessId,
    stdio::{ConnectError, EndCause, StderrTail, StdioClient, StdioHandle, StdioServer},
    stream::{StreamClient, StreamHandle, StreamServer},
};

/// A connected server.
pub(super) enum Link {
    Stdio(StdioClient<HostService>),
    Stream(StreamClient<HostService>),
    #[cfg(feature = "http-client")]
    Http(HttpClient<HostService>),
}

/// The hold on a connection that outlives its handshake.
#[derive(Clone, Debug)]
pub(super) enum Handle {
    Stdio(StdioHandle),
    Stream(StreamHandle),
    #[cfg(feature = "http-client")]
    Http(HttpHandle),
}

/// Why there is no connection.
pub(super) enum NotOpened {
    Failed(HostError),
    /// Its end was asked for meanwhile.
    Cancelled(Option<ConnectionEnd>),
}

/// All that opening needs to know.
pub(super) struct Opening<'a> {
    pub(super) name: &'a Arc<str>,
    pub(super) spec: &'a ServerSpec,
    pub(super) census: &'a Census,
    pub(super) opened_at: &'static Location<'static>,
    pub(super) guard: Option<&'a GuardHandle>,
    /// Ends the opening.
    pub(super) cancelled: &'a CancellationToken,
}

impl Link {
    /// Opens a connection; one that died of the question for its era is opened once more without it.
    /// `held` gets the handle as soon as there is one.
    pub(super) async fn open(
        opening: Opening<'_>,
        service: impl Fn() -> HostService,
        held: impl Fn(Handle),
    ) -> Result<Self, NotOpened> {
        let era = opening.spec.era;
        let server = match &opening.spec.endpoint {
            Endpoint::Stdio(server) => {
                let server = server.clone().named(Arc::clone(opening.name));
                match opening.guard {
                    Some(guard) => server.guarded_by(guard),
                    None => server,
                }
            }
            Endpoint::Stream(server) => {
                let server = server.clone().named(Arc::clone(opening.name));
                return open_stream(&server, &opening, service(), era.mode(), &held).await;
            }
            #[cfg(feature = "http-client")]
            Endpoint::Http(server) => {
                let server = server.clone().named(Arc::clone(opening.name));
                return open_http(&server, &opening, service(), era.mode(), &held).await;
            }
        };
        match open_stdio(&server, &opening, service(), era.mode(), &held).await {
            Err(NotOpened::Failed(HostError::Stdio(error)))
                if era == Era::Auto && died_of_the_probe(&error) =>
            {
                tracing::info!(server = %opening.name, "died of server/discover: opened again without");
                let mode = ClientLifecycleMode::Initialize;
                open_stdio(&server, &opening, service(), mode, &held).await
            }
            opened => opened,
        }
    }

    pub(super) fn peer(&self) -> &Peer<RoleClient> {
        match self {
            Link::Stdio(client) => client,
            Link::Stream(client) => client,
            #[cfg(feature = "http-client")]
            Link::Http(client) => client,
        }
    }

    pub(super) fn handle(&self) -> Handle {
        match self {
            Link::Stdio(client) => Handle::Stdio(client.handle().clone()),
            Link::Stream(client) => Handle::Stream(client.handle().clone()),
            #[cfg(feature = "http-client")]
            Link::Http(client) => Handle::Http(client.handle().clone()),
        }
    }

    pub(super) async fn close(self) -> ConnectionEnd {
        match self {
            Link::Stdio(client) => ConnectionEnd::Stdio(client.close().await),
            Link::Stream(client) => ConnectionEnd::Stream(client.close().await),
            #[cfg(feature = "http-client")]
            Link::Http(client) => ConnectionEnd::Http(client.close().await),
        }
    }
}

impl Handle {
    /// Waits until nothing goes through any more, and tells why.
    pub(super) async fn ended(&self) -> String {
        match self {
            Handle::Stdio(handle) => {
                let cause = handle.ended().await;
                match handle.stderr_tail().lines.last() {
                    Some(line) => format!("{cause}; its stderr ends with: {line}"),
                    None => cause.to_string(),
                }
            }
            Handle::Stream(handle) => handle.ended().await.to_string(),
            #[cfg(feature = "http-client")]
            Handle::Http(handle) => handle.ended().await.to_string(),
        }
    }

    /// No more graces for whoever closes it.
    pub(super) fn hurry(&self) {
        match self {
            Handle::Stdio(handle) => handle.hurry(),
            Handle::Stream(handle) => handle.hurry(),
            #[cfg(feature = "http-client")]
            Handle::Http(handle) => handle.hurry(),
        }
    }

    /// Ends it on the spot, blocking for a bounded time.
    pub(super) fn kill(&self) {
        match self {
            // How it ended is told by whoever closes it.
            Handle::Stdio(handle) => drop(handle.kill()),
            Handle::Stream(handle) => drop(handle.kill()),
            #[cfg(feature = "http-client")]
            Handle::Http(handle) => drop(handle.kill()),
        }
    }

    pub(super) fn process(&self) -> Option<ProcessId> {
        match self {
            Handle::Stdio(handle) => Some(handle.process()),
            Handle::Stream(_) => None,
            #[cfg(feature = "http-client")]
            Handle::Http(_) => None,
        }
    }

    pub(super) fn stderr_tail(&self) -> StderrTail {
        match self {
            Handle::Stdio(handle) => handle.stderr_tail(),
            Handle::Stream(_) => StderrTail::default(),
            #[cfg(feature = "http-client")]
            Handle::Http(_) => StderrTail::default(),
        }
    }

    /// Is its process alive, or, where it has none, its connection open?
    pub(super) fn is_alive(&self) -> bool {
        match self {
            Handle::Stdio(handle) => handle.is_alive(),
            Handle::Stream(handle) => handle.state().is_open(),
            #[cfg(feature = "http-client")]
            Handle::Http(handle) => handle.state().is_open(),
        }
    }
}

async fn open_stdio(
    server: &StdioServer,
    opening: &Opening<'_>,
    service: HostService,
    mode: ClientLifecycleMode,
    held: &impl Fn(Handle),
) -> Result<Link, NotOpened> {
    let failed = |error| NotOpened::Failed(HostError::Stdio(Box::new(error)));
    if opening.cancelled.is_cancelled() {
        return Err(NotOpened::Cancelled(None));
    }
    let (transport, handle) = server
        .spawn_at(opening.census, opening.opened_at)
        .map_err(|error| failed(ConnectError::from(error)))?;
    held(Handle::Stdio(handle.clone()));
    let mut connecting = pin!(transport.connect(service, mode));
    tokio::select! {
        biased;
        () = opening.cancelled.cancelled() => {}
        connected = &mut connecting => return connected.map(Link::Stdio).map_err(failed),
    }
    sabotaged!(CancelledConnectKept => {
        handle.leave();
        return Err(NotOpened::Cancelled(None));
    });
    // Closing ends the handshake, which then waits for the same end; a server that is not yet
    // connected has the same graces as one that is.
    let (teardown, connected) = tokio::join!(handle.close(), connecting);
    if let Ok(client) = connected {
        let _ = client.close().await;
    }
    Err(NotOpened::Cancelled(Some(ConnectionEnd::Stdio(teardown))))
}

async fn open_stream(
    server: &StreamServer,
    opening: &Opening<'_>,
    service: HostService,
    mode: ClientLifecycleMode,
    held: &impl Fn(Handle),
) -> Result<Link, NotOpened> {
    let failed = |error| NotOpened::Failed(HostError::Stream(Box::new(error)));
    let opened = tokio::select! {
        biased;
        () = opening.cancelled.cancelled() => return Err(NotOpened::Cancelled(None)),
        opened = server.opened(opening.census, opening.opened_at) => opened,
    };
    let (transport, handle) = opened.map_err(failed)?;
    held(Handle::Stream(handle.clone()));
    let mut connecting = pin!(transport.connect(service, mode));
    tokio::select! {
        biased;
        () = opening.cancelled.cancelled() => {}
        connected = &mut connecting => return connected.map(Link::Stream).map_err(failed),
    }
    let (ended, connected) = tokio::join!(handle.close(), connecting);
    if let Ok(client) = connected {
        let _ = client.close().await;
    }
    Err(NotOpened::Cancelled(Some(ConnectionEnd::Stream(ended))))
}

#[cfg(feature = "http-client")]
async fn open_http(
    server: &HttpServer,
    opening: &Opening<'_>,
    service: HostService,
    mode: ClientLifecycleMode,
    held: &impl Fn(Handle),
) -> Result<Link, NotOpened> {
    let failed = |error| NotOpened::Failed(HostError::Http(Box::new(error)));
    if opening.cancelled.is_cancelled() {
        return Err(NotOpened::Cancelled(None));
    }
    let (transport, handle) =
        server.transport_at(opening.census, opening.opened_at).map_err(failed)?;
    held(Handle::Http(handle.clone()));
    let mut connecting = pin!(transport.connect(service, mode));
    tokio::select! {
        biased;
        () = opening.cancelled.cancelled() => {}
        connected = &mut connecting => return connected.map(Link::Http).map_err(failed),
    }
    let (teardown, connected) = tokio::join!(handle.close(), connecting);
    if let Ok(client) = connected {
        let _ = client.close().await;
    }
    Err(NotOpened::Cancelled(Some(ConnectionEnd::Http(teardown))))
}

/// Did the server go away when it was asked `server/discover`, instead of saying that it does not
/// know it?
fn died_of_the_probe(error: &ConnectError) -> bool {
    let ConnectError::Handshake { source, ended } = error else {
        return false;
    };
    // One that was gone before the question could be sent did not die of it.
    let at_the_probe = matches!(
        &**source,
        ClientInitializeError::ConnectionClosed(doing) if doing == "discover response"
    );
    let by_itself = matches!(
        ended.teardown.cause,
        EndCause::ServerExited | EndCause::StdoutEnded | EndCause::BrokenPipe
    );
    at_the_probe && by_itself
}
