//! Connections that carry one request and end: read, answered, written, each in its time.

use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    net::SocketAddr,
    panic::Location,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Settings, Token, api::Api, gate::Gate, trouble::Trouble};
use crate::{
    census::{Kind, Row},
    host::Host,
    scope::{TaskError, TaskScope, catch_panic},
};

/// How long a connection that is done waits for its client once the API closes.
const LAST_LINGER: Duration = Duration::from_millis(250);
/// The pause after a failed accept, doubled for each further one: out of descriptors, asking again at
/// once would burn the processor.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The largest head of a request, and how much of a body is in memory before it is counted.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// What all connections share.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) counts: Arc<Counts>,
    gate: Gate,
    api: Arc<Api>,
}

/// What the API counts of itself.
#[derive(Debug, Default)]
pub(super) struct Counts {
    open: AtomicUsize,
    pub(super) accepted: AtomicU64,
    pub(super) not_accepted: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) cut: AtomicU64,
}

impl Counts {
    pub(super) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }
}

impl Shared {
    pub(super) fn new(host: Host, settings: Settings, token: Token) -> Self {
        let counts = Arc::new(Counts::default());
        let figures = settings.figures.clone();
        Self {
            gate: Gate::new(&settings, token),
            api: Arc::new(Api { host, more: figures, counts: Arc::clone(&counts) }),
            settings,
            counts,
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The listening socket.
pub(super) struct Acceptor {
    pub(super) listener: TcpListener,
    pub(super) scope: Weak<TaskScope>,
    pub(super) token: CancellationToken,
    pub(super) shared: Arc<Shared>,
    pub(super) opened_at: &'static Location<'static>,
    /// Below the socket, so that the row goes after it.
    pub(super) row: Row,
    /// What the row says while all is well.
    pub(super) state: String,
}

impl Acceptor {
    pub(super) async fn accept(self) -> Result<(), TaskError> {
        let mut pause = FIRST_PAUSE;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.token.cancelled() => return Ok(()),
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if pause > FIRST_PAUSE {
                        pause = FIRST_PAUSE;
                        self.row.set_state(&*self.state);
                    }
                    self.take(stream, peer);
                }
                Err(error) => {
                    self.shared.counts.not_accepted.fetch_add(1, Relaxed);
                    self.row.set_state(format!("{}, but: {error}", self.state));
                    tracing::warn!(%error, "admin API: accepting a connection");
                    timeout(pause, self.token.cancelled()).await.ok();
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        let Some(scope) = self.scope.upgrade() else {
            return;
        };
        // From here on a socket that is dropped is reset: nothing of it stays in the kernel. Where
        // this fails, it is closed the slow way.
        stream.set_zero_linger().ok();
        stream.set_nodelay(true).ok();
        let (counts, limit) = (&self.shared.counts, self.shared.settings.connection_limit);
        let open = counts.open.load(Relaxed);
        if open >= limit {
            counts.refused.fetch_add(1, Relaxed);
        }
        if open >= limit.saturating_mul(2) {
            return;
        }
        counts.accepted.fetch_add(1, Relaxed);
        let connection = Connection {
            stream,
            token: self.token.clone(),
            is_one_too_many: open >= limit,
            _open: Open::new(counts),
            row: scope_row(&self.shared, peer, self.opened_at),
            shared: Arc::clone(&self.shared),
        };
        // Refused only once the API closes.
        scope.spawn(format!("admin connection of {peer}"), connection.serve()).ok();
    }
}

fn scope_row(shared: &Shared, peer: SocketAddr, opened_at: &'static Location<'static>) -> Row {
    shared.api.host.census().enter(Kind::Socket, "admin API", format!("from {peer}"), opened_at)
}

/// One of the open connections.
struct Open(Arc<Counts>);

impl Open {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.open.fetch_add(1, Relaxed);
        Self(Arc::clone(counts))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// What the one request of a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Reading,
    Answering,
    Writing,
}

struct Connection {
    stream: TcpStream,
    token: CancellationToken,
    is_one_too_many: bool,
    shared: Arc<Shared>,
    _open: Open,
    row: Row,
}

impl Connection {
    async fn serve(self) -> Result<(), TaskError> {
        // Taken apart so that the row and the count go after the socket.
        let Connection { stream, token, is_one_too_many, shared, _open, row: _row } = self;
        let (phase, mut phases) = watch::channel(Phase::Reading);
        let service = service_fn(|request| {
            let (shared, phase) = (Arc::clone(&shared), phase.clone());
            let answer = async move {
                let response = match is_one_too_many {
                    true => busy(&shared.settings).into_response(),
                    false => respond(request, &shared, &phase).await,
                };
                shared.counts.answered.fetch_add(1, Relaxed);
                phase.send_replace(Phase::Writing);
                Ok::<Response, Infallible>(response)
            };
            Box::pin(answer) as Pin<Box<dyn Future<Output = _> + Send>>
        });
        let mut http = http1::Builder::new()
            .keep_alive(false)
            .header_read_timeout(None)
            .max_buf_size(READ_BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let over = tokio::select! {
            biased;
            over = overdue(&mut phases, &shared.settings, &token) => Some(over),
            ended = poll_fn(|cx| http.poll_without_shutdown(cx)) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "admin API: a connection broke");
                }
                None
            }
        };
        match over {
            None => linger(http.into_parts().io.into_inner(), &shared.settings, &token).await,
            Some(Over::Closing) => {}
            Some(Over::TooSlow(phase)) => {
                shared.counts.cut.fetch_add(1, Relaxed);
                tracing::info!(?phase, "admin API: cut a client that was too slow");
            }
        }
        Ok(())
    }
}

enum Over {
    /// The API closes, and the request has not arrived.
    Closing,
    /// The client took longer than it may.
    TooSlow(Phase),
}

/// Comes back when the client has taken too long. How long an answer takes is no matter of its own:
/// that is bounded where it is made.
async fn overdue(
    phases: &mut watch::Receiver<Phase>,
    settings: &Settings,
    token: &CancellationToken,
) -> Over {
    loop {
        let phase = *phases.borrow_and_update();
        let too_slow = async {
            match phase {
                Phase::Reading => sleep(settings.read_wait).await,
                Phase::Answering => std::future::pending().await,
                Phase::Writing => sleep(settings.write_wait).await,
            }
        };
        tokio::select! {
            biased;
            () = token.cancelled(), if phase == Phase::Reading => return Over::Closing,
            Ok(()) = phases.changed() => {}
            () = too_slow => return Over::TooSlow(phase),
        }
    }
}

/// Ends a connection whose answer is written: lets the client see the end and read the rest before
/// the socket is closed. One that does not close its side is reset.
async fn linger(mut stream: TcpStream, settings: &Settings, token: &CancellationToken) {
    let seen_by_client = async {
        stream.shutdown().await.ok();
        let mut scrap = [0; 4096];
        while matches!(stream.read(&mut scrap).await, Ok(1..)) {}
        sockopt::set_socket_linger(&stream, None).ok();
    };
    let closing = async {
        token.cancelled().await;
        sleep(LAST_LINGER).await;
    };
    tokio::select! {
        () = seen_by_client => {}
        () = sleep(settings.write_wait) => {}
        () = closing => {}
    }
}

/// The answer to one request, whatever happens.
async fn respond(
    request: Request<Incoming>,
    shared: &Shared,
    phase: &watch::Sender<Phase>,
) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match take_in(request, shared).await {
        Err(trouble) => trouble.into_response(),
        Ok(request) => {
            phase.send_replace(Phase::Answering);
            let answer = catch_panic(shared.api.answer(request));
            match timeout(shared.settings.request_wait, answer).await {
                Ok(Ok(response)) => response,
                Ok(Err(panic)) => panicked(&panic).into_response(),
                Err(_) => too_long(&shared.settings).into_response(),
            }
        }
    };
    tracing::debug!(%method, %path, status = response.status().as_u16(), "admin API");
    response
}

/// Reads the whole request, once it is clear that it may ask.
async fn take_in(request: Request<Incoming>, shared: &Shared) -> Result<Request<Body>, Trouble> {
    shared.gate.admit(&request)?;
    let limit = shared.settings.body_limit_bytes;
    let (head, body) = request.into_parts();
    let body = Limited::new(body, limit).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return Trouble::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body of the request has more than {limit} bytes"),
                "more than one entry was sent, or another file",
                "send one entry, without the mcpServers object around it; or raise \
                 `Settings::body_limit_bytes`",
            );
        }
        Trouble::new(
            StatusCode::BAD_REQUEST,
            format!("reading the body of the request: {error}"),
            "the client broke off, or its chunks are malformed",
            "send it again, with a Content-Length",
        )
    })?;
    Ok(Request::from_parts(head, Body::from(body.to_bytes())))
}

fn busy(settings: &Settings) -> Trouble {
    Trouble::new(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("{} connections are open already", settings.connection_limit),
        "many requests at once, or clients that send nothing; those are cut after a while",
        "ask again in a moment, or raise `Settings::connection_limit`",
    )
}

fn too_long(settings: &Settings) -> Trouble {
    Trouble::new(
        StatusCode::GATEWAY_TIMEOUT,
        format!("the request was not answered within {:?}", settings.request_wait),
        "a server takes long to get ready or to end. One that was being added is removed again; the \
         end of one that was being removed goes on",
        "see /mcp/servers for what is going on, or raise `Settings::request_wait`",
    )
}

fn panicked(message: &str) -> Trouble {
    tracing::error!(%message, "admin API: answering a request panicked");
    Trouble::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "answering the request panicked; the API goes on",
        "a mistake in this program, or in figures that it was given",
        "see the trace of the program, and report it",
    )
}
