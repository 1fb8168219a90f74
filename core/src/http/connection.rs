//! What transport, handle and requests share: session, sockets, tasks, the state, the end.
//!
//! rmcp's worker and its stream tasks are rmcp's own, and nobody but the worker can abort them. Each
//! holds a [`Backend`](super::backend::Backend), everything they wait for ends with the connection,
//! and the last of them to be dropped says so: that is how a close knows that they are gone.

use std::{
    collections::VecDeque,
    panic::Location,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
};

use futures::future::{BoxFuture, ready};
use http::HeaderMap;
use rmcp::{
    RoleClient,
    service::TxJsonRpcMessage,
    transport::{
        StreamableHttpClientTransport, Transport,
        common::client_side_sse::ExponentialBackoff,
        streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError},
    },
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    EndCause, HttpError, HttpSettings, HttpTeardown,
    backend::Backend,
    dial::Dial,
    ending::End,
    error::RequestError,
    events::Asked,
    pool::{self, Pool},
    sessions::{Session, Sessions},
    socket::Sockets,
    target::Target,
};
use crate::{
    census::{Census, Kind, Row},
    lifecycle::{Event, State},
    scope::TaskScope,
};

pub(super) type Worker = StreamableHttpClientTransport<Backend>;

pub(super) struct Connection {
    pub(super) name: Arc<str>,
    pub(super) target: Arc<Target>,
    pub(super) settings: HttpSettings,
    pub(super) opened_at: &'static Location<'static>,
    pub(super) census: Census,
    pub(super) span: tracing::Span,
    pub(super) state: Mutex<State>,
    pub(super) end: Mutex<End>,
    /// The user's own headers, the token among them. Empty after the end.
    pub(super) headers: Mutex<HeaderMap>,
    pub(super) sessions: Mutex<Sessions>,
    /// rmcp's worker, as long as messages may flow.
    pub(super) worker: Mutex<Option<Worker>>,
    pub(super) pool: Mutex<Option<Pool>>,
    pub(super) sockets: Arc<Sockets>,
    pub(super) scope: Arc<TaskScope>,
    pub(super) row: Mutex<Option<Row>>,
    pub(super) closers: AtomicUsize,
    /// Held by the one who closes.
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) streams: Arc<AtomicUsize>,
    pub(super) requests: Arc<Semaphore>,
    fruitless: AtomicU32,
    pub(super) resumes: Mutex<VecDeque<(String, Asked)>>,
    /// Silence is an answer to `server/discover`.
    probing: AtomicBool,
    /// No messages any more.
    pub(super) ended: CancellationToken,
    /// Nothing at all may go to the server any more, not even a DELETE.
    pub(super) cut: CancellationToken,
    /// Everything is gone; the outcome can be read.
    pub(super) torn: CancellationToken,
    /// rmcp's tasks are gone.
    pub(super) vacated: CancellationToken,
    /// Closes wait for the server no more.
    pub(super) hurried: CancellationToken,
}

impl Connection {
    /// Opens nothing yet but rmcp's worker, which waits for the first message. Needs a runtime.
    pub(super) fn open(
        name: Arc<str>,
        target: Arc<Target>,
        headers: HeaderMap,
        settings: HttpSettings,
        census: &Census,
        opened_at: &'static Location<'static>,
    ) -> Arc<Self> {
        let span = tracing::info_span!("server", name = &*name, url = &**target.url());
        let scope = Arc::new(TaskScope::new(format!("server {name}"), census));
        let sockets = Sockets::new(Arc::clone(&name), census, opened_at);
        let dial = Dial {
            target: Arc::clone(&target),
            sockets: Arc::clone(&sockets),
            wait: settings.socket_wait,
        };
        let row = census.enter(
            Kind::Connection,
            Arc::clone(&name),
            State::Connecting.to_string(),
            opened_at,
        );
        let connection = Arc::new(Self {
            state: Mutex::new(State::Connecting),
            end: Mutex::default(),
            headers: Mutex::new(headers),
            sessions: Mutex::default(),
            worker: Mutex::new(None),
            pool: Mutex::new(Some(pool::open(dial, Arc::clone(&scope), &settings))),
            sockets,
            scope,
            row: Mutex::new(Some(row)),
            closers: AtomicUsize::new(0),
            turn: tokio::sync::Mutex::new(()),
            streams: Arc::default(),
            requests: Arc::new(Semaphore::new(
                settings.max_requests.clamp(1, Semaphore::MAX_PERMITS),
            )),
            fruitless: AtomicU32::new(0),
            resumes: Mutex::default(),
            probing: AtomicBool::new(false),
            ended: CancellationToken::new(),
            cut: CancellationToken::new(),
            torn: CancellationToken::new(),
            vacated: CancellationToken::new(),
            hurried: CancellationToken::new(),
            census: census.clone(),
            name,
            target,
            settings,
            opened_at,
            span,
        });
        let backend = Backend::new(&connection, connection.vacated.clone());
        let worker = Worker::with_client(backend, connection.worker_settings());
        *lock(&connection.worker) = Some(worker);
        tracing::info!(parent: &connection.span, %opened_at, "server opened");
        connection
    }

    /// The token is not in here: it is put in where the request is made, so that it is in one place.
    fn worker_settings(&self) -> StreamableHttpClientTransportConfig {
        let mut retry = ExponentialBackoff::default();
        retry.base_duration = self.settings.reconnect_wait;
        retry.max_delay = Some(self.settings.reconnect_wait_limit);
        retry.max_times = usize::try_from(self.settings.stream_reconnects).ok();
        let mut config =
            StreamableHttpClientTransportConfig::with_uri(Arc::clone(self.target.url()))
                .max_concurrent_requests(self.settings.max_requests)
                .max_sse_event_size(self.settings.event_limit_bytes)
                .reinit_on_expired_session(true);
        config.retry_config = Arc::new(retry);
        config
    }

    pub(super) fn state(&self) -> State {
        *lock(&self.state)
    }

    pub(super) fn span(&self) -> &tracing::Span {
        &self.span
    }

    pub(super) fn outcome(&self) -> Option<HttpTeardown> {
        lock(&self.end).outcome.as_deref().cloned()
    }

    pub(super) fn cause(&self) -> EndCause {
        lock(&self.end).cause.unwrap_or(EndCause::Closed)
    }

    pub(super) fn session_id(&self) -> Option<Arc<str>> {
        lock(&self.sessions).current()
    }

    pub(super) fn socket_count(&self) -> usize {
        self.sockets.count()
    }

    pub(super) fn user_headers(&self) -> HeaderMap {
        lock(&self.headers).clone()
    }

    pub(super) fn pool(&self) -> Option<Pool> {
        lock(&self.pool).clone()
    }

    /// May a message be sent?
    pub(super) fn check_open(&self) -> Result<(), HttpError> {
        match self.state().on(Event::Used) {
            Ok(_) => Ok(()),
            Err(source) => {
                Err(HttpError::Ended { name: Arc::clone(&self.name), cause: self.cause(), source })
            }
        }
    }

    /// Gives a message to rmcp's worker, in the order of the calls.
    pub(super) fn hand_to_worker(
        &self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> BoxFuture<'static, Result<(), StreamableHttpError<RequestError>>> {
        match &mut *lock(&self.worker) {
            Some(worker) => Box::pin(worker.send(message)),
            None => Box::pin(ready(Err(StreamableHttpError::TransportChannelClosed))),
        }
    }

    /// The first message of the server has arrived, or a later one.
    pub(super) fn heard(&self) {
        let mut state = lock(&self.state);
        if let Ok(next) = state.on(Event::Established) {
            *state = next;
            drop(state);
            self.show(next);
        }
    }

    /// How many streams that answer no request have ended in a row without an event.
    pub(super) fn fruitless_streams(&self) -> u32 {
        self.fruitless.load(Ordering::Relaxed)
    }

    /// One more has ended; it knows from the number before what the number is now.
    pub(super) fn stream_ended(&self, count: impl Fn(u32) -> u32) {
        self.fruitless.store(count(self.fruitless_streams()), Ordering::Relaxed);
    }

    /// A stream that would bring the same again is not opened again in this session.
    pub(super) fn give_up_stream(&self, failure: &RequestError) {
        tracing::warn!(parent: &self.span, %failure, "the stream was given up");
        self.fruitless.store(self.settings.stream_reconnects, Ordering::Relaxed);
    }

    /// The server gave a session, and with it another chance for its stream.
    pub(super) fn session_began(&self, id: String) {
        let name = Arc::clone(&self.name);
        let row = self.census.enter(Kind::Session, name, "held", self.opened_at);
        self.fruitless.store(0, Ordering::Relaxed);
        lock(&self.sessions).insert(Session { id: id.into(), revision: None, _row: row });
    }

    /// What went wrong last is told with the end, if it ended the handshake.
    pub(super) fn note_failure(&self, failure: &RequestError) {
        lock(&self.end).failure = Some(failure.to_string().into());
    }

    /// Remembers which request a broken stream was to answer, until it is opened again. The oldest
    /// is forgotten when there are more than requests in flight: nobody came for it.
    pub(super) fn expect_resume(&self, last_event_id: String, asked: Asked) {
        let mut resumes = lock(&self.resumes);
        if resumes.len() >= self.settings.max_requests.max(1) {
            resumes.pop_front();
        }
        resumes.push_back((last_event_id, asked));
    }

    pub(super) fn take_resume(&self, last_event_id: &str) -> Option<Asked> {
        let mut resumes = lock(&self.resumes);
        let place = resumes.iter().position(|(id, _)| id == last_event_id)?;
        resumes.remove(place).map(|(_, asked)| asked)
    }

    /// The handshake begins with a question that an older server may not answer at all.
    pub(super) fn expect_probe(&self) {
        self.probing.store(true, Ordering::Relaxed);
    }

    pub(super) fn expects_probe(&self) -> bool {
        self.probing.load(Ordering::Relaxed)
    }

    /// Every close under way, and every later one, leaves the server alone.
    pub(super) fn hurry(&self) {
        self.hurried.cancel();
    }

    pub(super) fn show(&self, state: State) {
        if let Some(row) = &*lock(&self.row) {
            row.set_state(state.to_string());
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
