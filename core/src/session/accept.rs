//! The task that accepts connections, and the one that drives each.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    panic::Location,
    pin::pin,
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::{
    connection::{Connection, Phase},
    listener::{Registered, Shared},
    socket::Socket,
    watched::{WatchedAnswer, WatchedBody},
};
use crate::{
    census::{Kind, Row},
    scope::{TaskError, TaskScope},
};

/// How long the acceptor rests when the process is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a connection over the limit is told, whatever it asks.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 30\r\nConnection: close\r\n\
Content-Type: text/plain; charset=utf-8\r\nContent-Length: 94\r\n\r\n\
as many connections are open as `connection_limit` allows; close idle ones or raise the limit\n";

/// A listening socket, and what its connections are served by.
pub(super) struct Accepting<S> {
    pub(super) listener: TcpListener,
    pub(super) service: S,
    pub(super) shared: Arc<Shared>,
    pub(super) connections: Weak<TaskScope>,
    pub(super) opened_at: &'static Location<'static>,
    pub(super) _row: Row,
}

impl<S, B> Accepting<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<TaskError>,
{
    /// Accepts until the token is cancelled.
    pub(super) async fn run(self, token: CancellationToken) -> Result<(), TaskError> {
        loop {
            let accepted = tokio::select! {
                biased;
                () = token.cancelled() => return Ok(()),
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "accepting a connection; trying again in 100 ms");
                    tokio::select! {
                        () = token.cancelled() => return Ok(()),
                        () = sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let Some(registered) = self.shared.insert(peer) else {
            self.shared.refused.fetch_add(1, Relaxed);
            // The send buffer of a fresh socket has room for it; a peer that misses it sees a close.
            stream.try_write(BUSY).ok();
            return;
        };
        self.shared.accepted.fetch_add(1, Relaxed);
        sabotaged!(AcceptedKept => crate::sabotage::keep_copy(&stream));
        let connection = Arc::clone(&registered.connection);
        let row = self.shared.census.enter(Kind::Socket, peer.to_string(), "open", self.opened_at);
        let socket = Socket::new(stream, connection, row);
        if let Err(error) = socket.prepare(&self.shared.settings) {
            tracing::warn!(%peer, %error, "setting up a socket; a peer that vanishes silently may go unnoticed");
        }
        if let Some(scope) = self.connections.upgrade() {
            let name = format!("connection of {peer}");
            scope.spawn(name, serve_one(socket, registered, self.service.clone())).ok();
        }
    }
}

/// Drives one connection to its end.
async fn serve_one<S, B>(
    socket: Socket,
    registered: Registered,
    service: S,
) -> Result<(), TaskError>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<TaskError>,
{
    let connection = &registered.connection;
    let of_requests = Arc::clone(connection);
    let answering = hyper::service::service_fn(move |request: Request<Incoming>| {
        let connection = Arc::clone(&of_requests);
        let request = enter_request(request, &connection);
        let mut service = service.clone();
        async move {
            std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
            let answer = service.call(request).await?;
            Ok::<_, Infallible>(answer.map(|body| WatchedAnswer::new(body, connection)))
        }
    });
    let mut http = pin!(
        http1::Builder::new()
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(socket), answering)
    );
    let waits = registered.shared.waits();
    let mut finishing = false;
    loop {
        tokio::select! {
            biased;
            () = connection.cutting() => return Ok(()),
            why = connection.overdue(waits) => connection.cut(why),
            () = connection.finishing(), if !finishing => {
                finishing = true;
                http.as_mut().graceful_shutdown();
            }
            ended = http.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(peer = %connection.peer(), %error, "connection broke");
                }
                return Ok(());
            }
        }
    }
}

fn enter_request(request: Request<Incoming>, connection: &Arc<Connection>) -> Request<Body> {
    connection.enter(Phase::Body);
    let mut request = request.map(|body| Body::new(WatchedBody::new(body, Arc::clone(connection))));
    request.extensions_mut().insert(Arc::clone(connection));
    request
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
