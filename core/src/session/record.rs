//! One session: its state, its use, its streams, and what ends it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use rmcp::model::{ClientJsonRpcMessage, RequestId, ServerJsonRpcMessage};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Cause, Removal, SessionId,
    connection::Connection,
    outbox::{Limits, Outbox, Queued},
    registry::Shared,
    settings::Settings,
    stream::EventStream,
};
use crate::{
    census::Row,
    cleanup::CleanupPlan,
    lifecycle::{Event, State},
};

/// A session from its insertion to its removal.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) since: Instant,
    pub(super) inbound: mpsc::Sender<ClientJsonRpcMessage>,
    pub(super) outbox: Outbox,
    /// The transport hands nothing more to the service, and ends.
    pub(super) closing: CancellationToken,
    /// The service has let go of the transport.
    pub(super) service_gone: CancellationToken,
    pub(super) removal: watch::Sender<Option<Arc<Removal>>>,
    pub(super) plan: Mutex<Option<CleanupPlan>>,
    pub(super) shared: Weak<Shared>,
    inner: Mutex<Inner>,
    queue_limit: usize,
    stalled_write_limit: Duration,
}

struct Inner {
    state: State,
    row: Option<Row>,
    used_at: Instant,
    /// When the last stream of the client ended.
    alone_since: Option<Instant>,
    asked_at: Option<Instant>,
    lost: Option<Cause>,
    /// The request whose handler panicked: it is not cancelled, so that its answer is sent.
    panicked: Option<RequestId>,
    connections: BTreeMap<u64, Weak<Connection>>,
}

/// What the sweeper decides on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Finding {
    InUse,
    /// Silent for half the idle limit, with a stream open.
    Silent,
    Over(Cause),
}

/// A message that the session does not carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The session is closing.
    #[error("the session is closing, nothing is sent any more")]
    Closing,
    /// Too many messages wait for the client.
    #[error(
        "the client does not read, and twice `queue_limit` messages wait for it; wait for one send \
         before the next"
    )]
    Overrun,
}

impl Session {
    pub(super) fn new(
        id: SessionId,
        settings: &Settings,
        row: Row,
        shared: Weak<Shared>,
    ) -> (Self, mpsc::Receiver<ClientJsonRpcMessage>) {
        let (inbound, from_client) = mpsc::channel(settings.queue_limit.max(1));
        let now = Instant::now();
        let session = Self {
            plan: Mutex::default(),
            id,
            since: now,
            inbound,
            outbox: Outbox::new(Limits {
                queue: settings.queue_limit.max(1),
                replay: settings.replay_limit,
                replay_wait: settings.replay_wait,
                streams: settings.stream_limit.max(1),
            }),
            closing: CancellationToken::new(),
            service_gone: CancellationToken::new(),
            removal: watch::Sender::new(None),
            shared,
            inner: Mutex::new(Inner {
                state: State::Connecting,
                row: Some(row),
                used_at: now,
                alone_since: Some(now),
                asked_at: None,
                lost: None,
                panicked: None,
                connections: BTreeMap::new(),
            }),
            queue_limit: settings.queue_limit,
            stalled_write_limit: settings.stalled_write_limit,
        };
        (session, from_client)
    }

    pub(super) fn state(&self) -> State {
        self.lock().state
    }

    /// The client used the session; `handshake_done` when it did more than begin one.
    pub(super) fn used(&self, handshake_done: bool) {
        let mut inner = self.lock();
        inner.used_at = Instant::now();
        inner.asked_at = None;
        if handshake_done
            && inner.state == State::Connecting
            && let Ok(next) = inner.state.on(Event::Established)
        {
            inner.enter(next);
        }
    }

    /// Begins the end, once: whoever gets `true` owns it.
    pub(super) fn begin_end(&self, event: Event) -> bool {
        let mut inner = self.lock();
        if !inner.state.is_open() {
            return false;
        }
        match inner.state.on(event) {
            Ok(next) => {
                inner.enter(next);
                true
            }
            Err(_) => false,
        }
    }

    /// Everything the session held has been given back: its row leaves the census.
    pub(super) fn finish_end(&self) {
        let row = {
            let mut inner = self.lock();
            inner.state = inner.state.on(Event::TornDown).unwrap_or(State::Closed);
            inner.row.take()
        };
        drop(row);
    }

    /// Something ended the session from below; the sweeper removes it at once.
    pub(super) fn lose(&self, cause: Cause) {
        self.lock().lost.get_or_insert(cause);
        if let Some(shared) = self.shared.upgrade() {
            shared.report_lost(&self.id);
        }
    }

    pub(super) fn lost(&self) -> Option<Cause> {
        self.lock().lost
    }

    /// A handler panicked; its request is still answered, then the session ends.
    pub(super) fn panicked(&self, request: Option<RequestId>) {
        self.lock().panicked = request;
        sabotaged!(PanickedSessionKept => {
            self.used(false);
            return;
        });
        self.lose(Cause::Panicked);
    }

    /// The requests to cancel at the end.
    pub(super) fn to_cancel(&self) -> Vec<RequestId> {
        let (mut running, _) = self.outbox.running();
        let panicked = self.lock().panicked.clone();
        running.retain(|id| Some(id) != panicked.as_ref());
        running
    }

    /// Queues a message of the service at once, in the order of calls; the future waits until the
    /// client has taken enough, and cuts a client that does not.
    pub(super) fn send(
        self: &Arc<Self>,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), SendError>> + Send + 'static {
        let queued = self.outbox.push(message);
        let session = Arc::clone(self);
        async move {
            match queued {
                Queued::Roomy => Ok(()),
                Queued::Ended => Err(SendError::Closing),
                Queued::Overrun => Err(SendError::Overrun),
                Queued::Full(stream) => {
                    session.wait_for_room(stream).await;
                    Ok(())
                }
            }
        }
    }

    async fn wait_for_room(&self, stream: Option<u64>) {
        let deadline = Instant::now() + self.stalled_write_limit;
        loop {
            let moved = self.outbox.moved.notified();
            if self.outbox.has_room(stream) {
                return;
            }
            if timeout_at(deadline, moved).await.is_err() {
                break;
            }
        }
        if let Some(connection) = self.outbox.cut(stream) {
            tracing::info!(session = %self.id, limit = self.queue_limit, "a client does not read");
            self.count_cut();
            if let Some(connection) = connection {
                connection.cut(super::Cut::Stalled);
            }
        }
    }

    pub(super) fn count_cut(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.counters.cut.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// A stream opened or ended.
    pub(super) fn streams_changed(&self) {
        let readers = self.outbox.readers();
        let mut inner = self.lock();
        inner.alone_since = (readers == 0).then(Instant::now);
    }

    /// A connection carries a message of this session. Both learn it under one lock, so that the end
    /// of the session finds every connection that knows it.
    pub(super) fn carried_by(&self, connection: &Arc<Connection>) {
        let mut inner = self.lock();
        if inner.state.is_open() {
            connection.carries(&self.id);
            inner.connections.retain(|_, known| known.strong_count() > 0);
            inner.connections.insert(connection.number(), Arc::downgrade(connection));
        }
    }

    pub(super) fn take_connections(&self) -> Vec<Arc<Connection>> {
        let taken = std::mem::take(&mut self.lock().connections);
        taken.into_values().filter_map(|connection| connection.upgrade()).collect()
    }

    /// What the sweeper should do about the session at this moment.
    pub(super) fn judge(&self, settings: &Settings, now: Instant) -> Finding {
        let (running, oldest) = self.outbox.running();
        let inner = self.lock();
        if !inner.state.is_open() {
            return Finding::InUse;
        }
        if let Some(cause) = inner.lost
            && !(sabotaged!(HalfHandshakeKept) && cause == Cause::Handshake)
        {
            return Finding::Over(cause);
        }
        let over = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        if inner.state == State::Connecting && sabotaged!(HalfHandshakeKept) {
            return Finding::InUse;
        }
        if inner.state == State::Connecting && over(self.since, settings.handshake_limit) {
            return Finding::Over(Cause::Handshake);
        }
        if oldest.is_some_and(|since| over(since, settings.request_limit)) {
            return Finding::Over(Cause::Limit);
        }
        if !running.is_empty() {
            return Finding::InUse;
        }
        if let super::OnDisconnect::EndAfter(wait) = settings.on_disconnect
            && inner.alone_since.is_some_and(|since| over(since.max(inner.used_at), wait))
        {
            return Finding::Over(Cause::Disconnected);
        }
        if over(inner.used_at, settings.idle_limit) && !sabotaged!(IdleSessionKept) {
            return Finding::Over(Cause::Idle);
        }
        let ask = settings.ask_silent_clients && inner.asked_at.is_none();
        if ask && over(inner.used_at, settings.idle_limit / 2) && self.outbox.has_standing_reader()
        {
            return Finding::Silent;
        }
        Finding::InUse
    }

    pub(super) fn asked(&self, now: Instant) {
        self.lock().asked_at = Some(now);
    }

    /// A stream for a seat of the outbox.
    pub(super) fn stream(
        self: &Arc<Self>,
        seat: super::outbox::Seat,
        row: Option<Row>,
    ) -> EventStream {
        EventStream::new(Arc::clone(self), seat, row)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn enter(&mut self, state: State) {
        self.state = state;
        if let Some(row) = &self.row {
            row.set_state(state.to_string());
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({}, {})", self.id, self.state())
    }
}
