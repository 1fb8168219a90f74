//! What transport, handle and requests share: session, sockets, tasks, the state, the end.
//!
//! rmcp's worker and its stream tasks are rmcp's own, and nobody but the worker can abort them. Each
//! holds a [`Backend`](super::exchange::Backend), everything they wait for ends with the connection,
//! and the last of them to be dropped says so: that is how a close knows that they are gone.

use std::{
    collections::VecDeque,
    panic::Location,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Instant,
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
    EndCause, HttpError, HttpSettings, HttpTeardown, SessionEnd,
    dial::Dial,
    error::RequestError,
    events::Asked,
    exchange::Backend,
    pool::{self, Pool},
    sessions::{Session, Sessions},
    socket::Sockets,
    target::Target,
};
use crate::{
    census::{Census, DroppedWithoutClose, Kind, Row},
    lifecycle::{Event, State},
    scope::{Ending, TaskScope},
};

pub(super) type Worker = StreamableHttpClientTransport<Backend>;

pub(super) struct Connection {
    pub(super) name: Arc<str>,
    pub(super) target: Arc<Target>,
    pub(super) settings: HttpSettings,
    pub(super) opened_at: &'static Location<'static>,
    pub(super) census: Census,
    span: tracing::Span,
    state: Mutex<State>,
    end: Mutex<End>,
    /// The user's own headers, the token among them. Empty after the end.
    headers: Mutex<HeaderMap>,
    pub(super) sessions: Mutex<Sessions>,
    /// rmcp's worker, as long as messages may flow.
    pub(super) worker: Mutex<Option<Worker>>,
    pool: Mutex<Option<Pool>>,
    sockets: Arc<Sockets>,
    scope: Arc<TaskScope>,
    row: Mutex<Option<Row>>,
    closers: AtomicUsize,
    /// Held by the one who closes.
    turn: tokio::sync::Mutex<()>,
    pub(super) streams: Arc<AtomicUsize>,
    pub(super) requests: Arc<Semaphore>,
    fruitless: AtomicU32,
    resumes: Mutex<VecDeque<(String, Asked)>>,
    /// No messages any more.
    pub(super) ended: CancellationToken,
    /// Nothing at all may go to the server any more, not even a DELETE.
    pub(super) cut: CancellationToken,
    /// Everything is gone; the outcome can be read.
    torn: CancellationToken,
    /// rmcp's tasks are gone.
    vacated: CancellationToken,
}

#[derive(Default)]
struct End {
    cause: Option<EndCause>,
    began_at: Option<Instant>,
    streams: usize,
    sockets: usize,
    failure: Option<Arc<str>>,
    outcome: Option<Arc<HttpTeardown>>,
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
            ended: CancellationToken::new(),
            cut: CancellationToken::new(),
            torn: CancellationToken::new(),
            vacated: CancellationToken::new(),
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

    /// Begins the end: no more messages, rmcp's worker told to go. Never waits.
    pub(super) fn end(&self, event: Event, cause: EndCause) {
        {
            let mut state = lock(&self.state);
            match state.on(event) {
                Ok(next) => *state = next,
                Err(illegal) => tracing::trace!(parent: &self.span, %illegal, "nothing to end"),
            }
        }
        {
            let mut end = lock(&self.end);
            if end.cause.is_none() {
                end.cause = Some(cause);
                end.began_at = Some(Instant::now());
                end.streams = self.streams.load(Ordering::Relaxed);
            }
        }
        self.ended.cancel();
        let worker = lock(&self.worker).take();
        drop(worker);
        self.show(State::Closing);
    }

    /// Ends streams, session, sockets and tasks, in this order. Dropping the future early ends what
    /// is left at that moment, unless another closer is at work.
    pub(super) async fn close(&self) -> HttpTeardown {
        let mut closer = Closer::new(self);
        self.end(Event::CloseRequested, EndCause::Closed);
        let _turn = self.turn.lock().await;
        if let Some(outcome) = self.outcome() {
            closer.finish();
            return outcome;
        }
        let patience = self.settings.close_wait;
        let mut problems = Vec::new();
        tokio::select! {
            () = self.vacated.cancelled() => {}
            () = self.cut.cancelled() => {}
            () = tokio::time::sleep(patience) => {}
        }
        let session = self.delete_sessions().await;
        self.shut();
        if tokio::time::timeout(patience, self.vacated.cancelled()).await.is_err() {
            problems.push(format!("rmcp's worker did not end within {patience:?}"));
        }
        for task in self.scope.close(patience).await {
            match task.ending {
                Ending::TimedOut | Ending::Panicked(_) => {
                    problems.push(format!("task `{}`: {}", task.name, task.ending));
                }
                _ => {}
            }
        }
        closer.finish();
        self.finish(session, problems)
    }

    /// Ends everything at this moment, sockets first. Needs no runtime; spawns nothing. Tasks that
    /// have been told to end are gone as soon as their runtime comes to them.
    pub(super) fn end_now(&self, cause: EndCause) -> HttpTeardown {
        self.cut.cancel();
        self.end(Event::CloseRequested, cause);
        self.shut();
        let session = match lock(&self.sessions).is_empty() {
            true => SessionEnd::NotNeeded,
            false => SessionEnd::NotSent,
        };
        self.finish(session, Vec::new())
    }

    /// The owner is gone. If nobody closed the connection, this is the close.
    pub(super) fn owner_dropped(&self) {
        let closed = lock(&self.end).outcome.is_some();
        if closed || self.closers.load(Ordering::SeqCst) > 0 {
            return;
        }
        self.census.record_drop(DroppedWithoutClose {
            kind: Kind::Connection,
            name: Arc::clone(&self.name),
            opened_at: self.opened_at,
        });
        tracing::warn!(parent: &self.span, opened_at = %self.opened_at, "dropped without close");
        // Its outcome stays readable through the handle.
        let _ = self.end_now(EndCause::DroppedWithoutClose);
    }

    /// Waits for the end, whoever brings it about.
    pub(super) async fn closed(&self) -> HttpTeardown {
        loop {
            self.torn.cancelled().await;
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
        }
    }

    /// Closes pool and sockets and tells their tasks to end. Safe to call twice.
    fn shut(&self) {
        self.cut.cancel();
        let pool = lock(&self.pool).take();
        let sockets = self.sockets.shut();
        lock(&self.end).sockets += sockets;
        drop(pool);
        self.scope.cancel();
    }

    /// Clears what is secret, gives the rows back and lets everybody know. The first one's account
    /// is the one that is told.
    fn finish(&self, session: SessionEnd, problems: Vec<String>) -> HttpTeardown {
        lock(&self.sessions).seal();
        *lock(&self.headers) = HeaderMap::new();
        lock(&self.resumes).clear();
        lock(&self.row).take();
        let outcome = {
            let mut end = lock(&self.end);
            let End { cause, began_at, streams, sockets, .. } = *end;
            let failure = end.failure.take().filter(|_| cause == Some(EndCause::Lost));
            Arc::clone(end.outcome.get_or_insert_with(|| {
                Arc::new(HttpTeardown {
                    name: Arc::clone(&self.name),
                    cause: cause.unwrap_or(EndCause::Closed),
                    failure,
                    session,
                    sockets,
                    streams,
                    took: began_at.map(|began_at| began_at.elapsed()).unwrap_or_default(),
                    problems,
                })
            }))
        };
        let first = {
            let mut state = lock(&self.state);
            let next = state.on(Event::TornDown);
            if let Ok(next) = next {
                *state = next;
            }
            next.is_ok()
        };
        self.torn.cancel();
        if first {
            match &*outcome {
                t if !t.is_complete() => {
                    tracing::warn!(parent: &self.span, "teardown incomplete: {t}");
                }
                t => tracing::info!(parent: &self.span, "server closed: {t}"),
            }
        }
        (*outcome).clone()
    }

    fn show(&self, state: State) {
        if let Some(row) = &*lock(&self.row) {
            row.set_state(state.to_string());
        }
    }
}

/// Counts one who sees to the end; the last one to be dropped unfinished brings it about.
pub(super) struct Closer<'a> {
    connection: &'a Connection,
    finished: bool,
}

impl<'a> Closer<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        connection.closers.fetch_add(1, Ordering::SeqCst);
        Self { connection, finished: false }
    }

    /// Its work is done, or somebody else's now.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for Closer<'_> {
    fn drop(&mut self) {
        let last = self.connection.closers.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && !self.finished {
            tracing::debug!(parent: self.connection.span(), "close was cancelled");
            let _ = self.connection.end_now(EndCause::Closed);
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
