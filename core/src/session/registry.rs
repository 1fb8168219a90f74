//! The sessions of a server: one insert, one remove, and what rmcp asks of them in between.

use std::{
    collections::{HashMap, VecDeque},
    panic::Location,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicBool,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use futures::{Stream, StreamExt};
use rmcp::{
    model::{ClientJsonRpcMessage, GetExtensions, GetMeta, RequestId, ServerJsonRpcMessage},
    transport::streamable_http_server::session::{ServerSseMessage, SessionManager},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Cause, Removal, SessionId, Settings, Statistics,
    channel::EventId,
    ending::Ending,
    error::SessionError,
    loose::LooseStreams,
    outbox::StreamRefused,
    record::Session,
    request::{self, Refusal},
    statistics::Counters,
    stream::EventStream,
    supervised::Ticket,
    sweep::is_answer,
    transport::SessionTransport,
};
use crate::{
    census::{Census, DroppedWithoutClose, Kind},
    lifecycle::{Event, State},
    scope::TaskScope,
};

/// How many removals are remembered.
const REMEMBERED_REMOVALS: usize = 64;

/// What all sessions of a server share.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) census: Census,
    pub(super) counters: Arc<Counters>,
    pub(super) loose: LooseStreams,
    /// Told when there is something to look at before the next sweep.
    pub(super) alarm: Arc<Notify>,
    /// Ends what rmcp keeps of this server.
    pub(super) token: CancellationToken,
    scope: Weak<TaskScope>,
    sessions: Mutex<HashMap<SessionId, Arc<Session>>>,
    lost: Mutex<Vec<SessionId>>,
    recent: Mutex<VecDeque<Arc<Removal>>>,
    accepting: AtomicBool,
    opened_at: &'static Location<'static>,
}

/// A promise of a [`Removal`].
pub(super) type Removing = watch::Receiver<Option<Arc<Removal>>>;

impl Shared {
    pub(super) fn new(
        settings: Settings,
        census: &Census,
        scope: &Arc<TaskScope>,
        opened_at: &'static Location<'static>,
    ) -> Self {
        Self {
            settings,
            census: census.clone(),
            counters: Arc::default(),
            loose: LooseStreams::default(),
            alarm: Arc::default(),
            token: CancellationToken::new(),
            scope: Arc::downgrade(scope),
            sessions: Mutex::default(),
            lost: Mutex::default(),
            recent: Mutex::default(),
            accepting: AtomicBool::new(true),
            opened_at,
        }
    }

    /// The one way in.
    fn insert(self: &Arc<Self>) -> Result<(Arc<Session>, SessionTransport), SessionError> {
        let id: SessionId = fresh_id()?;
        let mut sessions = lock(&self.sessions);
        if !self.accepting.load(Relaxed) {
            return Err(SessionError::ShuttingDown);
        }
        if sessions.len() >= self.settings.session_limit {
            return Err(SessionError::Limit { limit: self.settings.session_limit });
        }
        let state = State::Connecting.to_string();
        let row = self.census.enter(Kind::Session, Arc::clone(&id), state, self.opened_at);
        let (session, inbound) =
            Session::new(Arc::clone(&id), &self.settings, row, Arc::downgrade(self));
        let session = Arc::new(session);
        sessions.insert(id, Arc::clone(&session));
        self.counters.created.fetch_add(1, Relaxed);
        let transport = SessionTransport::new(Arc::clone(&session), inbound);
        Ok((session, transport))
    }

    /// The one way out, whatever the cause. The first cause counts; a further one waits for the same
    /// end. `None` when there is no such session any more.
    pub(super) fn remove(self: &Arc<Self>, id: &str, cause: Cause) -> Option<Removing> {
        let session = lock(&self.sessions).get(id).cloned()?;
        let removing = session.removal.subscribe();
        let event = match cause {
            Cause::Disconnected | Cause::Handshake | Cause::Service | Cause::Panicked => {
                Event::ConnectionLost
            }
            _ => Event::CloseRequested,
        };
        if session.begin_end(event) {
            let ending = Ending::new(Arc::clone(self), session, cause);
            // Without a scope the ending is dropped here, and that ends the session at once.
            if let Some(scope) = self.scope.upgrade() {
                let name = format!("end of session {id}");
                scope.spawn(name, ending.run()).ok();
            }
        }
        Some(removing)
    }

    /// Called by the ending of a session, which holds its place until then.
    pub(super) fn forget(&self, removal: Removal) -> Arc<Removal> {
        let removal = Arc::new(removal);
        lock(&self.sessions).remove(&removal.session);
        self.counters.removed(removal.cause);
        tracing::debug!(%removal, "session removed");
        let mut recent = lock(&self.recent);
        if recent.len() == REMEMBERED_REMOVALS {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(&removal));
        removal
    }

    /// The end of everything without waiting for anything.
    pub(super) fn drop_all(self: &Arc<Self>) {
        self.refuse_new();
        // Before the token: what it wakes on another thread may end a session and take it out of the
        // book before anybody has written down that it was dropped.
        let sessions = self.all();
        self.token.cancel();
        for session in sessions {
            self.census.record_drop(DroppedWithoutClose {
                kind: Kind::Session,
                name: Arc::clone(&session.id),
                opened_at: self.opened_at,
            });
            if session.begin_end(Event::CloseRequested) {
                drop(Ending::new(Arc::clone(self), session, Cause::Dropped));
            }
        }
    }

    pub(super) fn refuse_new(&self) {
        // Under the lock, so that no insert that saw the old value comes after.
        let _sessions = lock(&self.sessions);
        self.accepting.store(false, Relaxed);
    }

    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        lock(&self.sessions).values().cloned().collect()
    }

    /// How many handlers run, those of requests without a session too.
    pub(super) fn handlers(&self) -> usize {
        self.counters.handlers.load(SeqCst)
    }

    pub(super) fn has_running_requests(&self) -> bool {
        self.all().iter().any(|session| !session.outbox.running().0.is_empty())
    }

    /// A session that is open.
    pub(super) fn open_session(&self, id: &str) -> Option<Arc<Session>> {
        let session = lock(&self.sessions).get(id).cloned();
        session.filter(|session| session.state().is_open())
    }

    pub(super) fn report_lost(&self, id: &SessionId) {
        lock(&self.lost).push(Arc::clone(id));
        self.alarm.notify_one();
    }

    pub(super) fn take_lost(&self) -> Vec<SessionId> {
        std::mem::take(&mut lock(&self.lost))
    }

    pub(super) fn recent(&self) -> Vec<Arc<Removal>> {
        lock(&self.recent).iter().cloned().collect()
    }

    pub(super) fn statistics(&self) -> Statistics {
        let mut statistics = self.counters.read();
        for session in lock(&self.sessions).values() {
            match session.state() {
                State::Connecting => statistics.connecting += 1,
                State::Active => statistics.active += 1,
                State::Closing | State::Closed => statistics.closing += 1,
            }
        }
        statistics
    }

    fn refused(&self, error: SessionError) -> SessionError {
        if let Some(refusal) = error.refusal() {
            if matches!(refusal, Refusal::Busy(_)) {
                self.counters.refused.fetch_add(1, Relaxed);
            }
            request::refuse(refusal);
        }
        error
    }
}

/// The sessions as rmcp's `StreamableHttpService` sees them; got from
/// [`Sessions::registry`](super::Sessions::registry).
pub struct Registry {
    pub(super) shared: Arc<Shared>,
}

impl Registry {
    /// Sessions by state, and what became of those that were.
    pub fn statistics(&self) -> Statistics {
        self.shared.statistics()
    }

    fn session(&self, id: &SessionId) -> Result<Arc<Session>, SessionError> {
        let session = self.shared.open_session(id).ok_or_else(|| {
            self.shared.refused(SessionError::Unknown { session: Arc::clone(id) })
        })?;
        if let Some(connection) = request::connection() {
            session.carried_by(&connection);
        }
        Ok(session)
    }

    fn refused(&self, session: &Session, event: Option<&str>, why: StreamRefused) -> SessionError {
        let id = Arc::clone(&session.id);
        self.shared.refused(match why {
            StreamRefused::Ended => SessionError::Unknown { session: id },
            StreamRefused::Limit => SessionError::Busy { session: id },
            StreamRefused::DuplicateRequest => SessionError::DuplicateRequest { session: id },
            StreamRefused::Unknown => SessionError::NotResumable {
                session: id,
                event: event.unwrap_or_default().to_owned(),
                why: why.to_string(),
            },
        })
    }

    fn stream(&self, session: &Arc<Session>, seat: super::outbox::Seat, name: &str) -> EventStream {
        request::mark_stream();
        let name = format!("{name} of session {}", session.id);
        let row = self.shared.census.enter(Kind::Stream, name, "open", self.shared.opened_at);
        session.stream(seat, Some(row))
    }
}

impl SessionManager for Registry {
    type Error = SessionError;
    type Transport = SessionTransport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        let (session, transport) =
            self.shared.insert().map_err(|error| self.shared.refused(error))?;
        // Outside the lock of the registry, because it is the owner's code.
        if let Some(make) = &self.shared.settings.cleanup {
            let id = Arc::clone(&session.id);
            let plan = make(&id).recorded_in(&self.shared.census, Kind::Session, id);
            lock(&session.plan).replace(plan);
        }
        Ok((Arc::clone(&session.id), transport))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        mut message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        let session = self.session(id)?;
        let mut handshake = Handshake { session: Arc::clone(&session), done: false };
        let request = take_ticket(&mut message, &session);
        let seat = session
            .outbox
            .open_request(request, None, None, None)
            .map_err(|why| self.refused(&session, None, why))?;
        let mut answer = session.stream(seat, None);
        let limit = self.shared.settings.handshake_limit;
        let answered = timeout(limit, async {
            session.inbound.send(message).await.ok()?;
            loop {
                let ServerSseMessage { message, .. } = answer.next().await?;
                if let Some(message) = message {
                    return Some(message);
                }
            }
        })
        .await;
        match answered {
            Ok(Some(message)) => {
                handshake.done = true;
                Ok(Arc::unwrap_or_clone(message))
            }
            Ok(None) => Err(SessionError::NotInitialized {
                session: Arc::clone(id),
                cause: session.lost().unwrap_or(Cause::Service),
            }),
            Err(_) => Err(SessionError::NotInitialized {
                session: Arc::clone(id),
                cause: Cause::Handshake,
            }),
        }
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        Ok(self.shared.open_session(id).is_some())
    }

    /// Called for a DELETE, and by rmcp when the service has ended.
    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        let Some(session) = self.shared.open_session(id) else {
            return Ok(());
        };
        let cause = match session.lost() {
            Some(cause) => cause,
            None if session.service_gone.is_cancelled() => Cause::Service,
            None => Cause::Deleted,
        };
        sabotaged!(DeletedSessionKept => if cause == Cause::Deleted {
            return Ok(());
        });
        if let Some(removing) = self.shared.remove(id, cause) {
            removed(removing).await;
        }
        Ok(())
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        mut message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let session = self.session(id)?;
        session.used(true);
        let progress = match &message {
            ClientJsonRpcMessage::Request(request) => {
                request.request.get_meta().get_progress_token()
            }
            _ => None,
        };
        let request = take_ticket(&mut message, &session);
        let retry = self.shared.settings.sse_retry;
        let seat = session
            .outbox
            .open_request(request.clone(), progress, retry, request::connection())
            .map_err(|why| self.refused(&session, None, why))?;
        let stream = self.stream(&session, seat, "request");
        let unsent = Unsent { session: &session, request: Some(request) };
        self.deliver(&session, message).await?;
        unsent.sent();
        Ok(stream)
    }

    async fn accept_message(
        &self,
        id: &SessionId,
        mut message: ClientJsonRpcMessage,
    ) -> Result<(), Self::Error> {
        let session = self.session(id)?;
        session.used(true);
        if is_answer(&message) {
            return Ok(());
        }
        if let ClientJsonRpcMessage::Notification(notification) = &mut message {
            if let rmcp::model::ClientNotification::CancelledNotification(cancelled) =
                &notification.notification
                && let Some(request) = &cancelled.params.request_id
            {
                session.outbox.cancel(request);
            }
            notification.notification.extensions_mut().insert(Ticket::new(&session, None));
        }
        self.deliver(&session, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let session = self.session(id)?;
        session.used(true);
        let seat = session
            .outbox
            .open_standing(None, request::connection())
            .map_err(|why| self.refused(&session, None, why))?;
        Ok(self.stream(&session, seat, "standalone stream"))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let session = self.session(id)?;
        session.used(true);
        let event: EventId = last_event_id.parse().map_err(|error: std::num::ParseIntError| {
            SessionError::NotResumable {
                session: Arc::clone(id),
                event: last_event_id.clone(),
                why: format!("not an event id of this server: {error}"),
            }
        })?;
        let seat = session
            .outbox
            .resume(event.stream, event.index, request::connection())
            .map_err(|why| self.refused(&session, Some(&last_event_id), why))?;
        Ok(self.stream(&session, seat, "resumed stream"))
    }
}

impl Registry {
    async fn deliver(
        &self,
        session: &Session,
        message: ClientJsonRpcMessage,
    ) -> Result<(), SessionError> {
        let limit = self.shared.settings.stalled_write_limit;
        match timeout(limit, session.inbound.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => {
                Err(self.shared.refused(SessionError::Unknown { session: Arc::clone(&session.id) }))
            }
            Err(_) => Err(SessionError::ServiceStuck { session: Arc::clone(&session.id) }),
        }
    }
}

/// The removal, when it has come about.
pub(super) async fn removed(mut removing: Removing) -> Option<Arc<Removal>> {
    removing.wait_for(Option::is_some).await.ok()?.clone()
}

/// An `initialize` that is not answered, or whose client leaves, leaves no session behind.
struct Handshake {
    session: Arc<Session>,
    done: bool,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        if !self.done {
            self.session.lose(Cause::Handshake);
        }
    }
}

/// A request that never reaches the service is not waited for.
struct Unsent<'a> {
    session: &'a Session,
    request: Option<RequestId>,
}

impl Unsent<'_> {
    fn sent(mut self) {
        self.request = None;
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if let Some(request) = self.request.take() {
            self.session.outbox.cancel(&request);
        }
    }
}

/// Lets the handlers of a request know their session; returns the id of the request.
fn take_ticket(message: &mut ClientJsonRpcMessage, session: &Arc<Session>) -> RequestId {
    match message {
        ClientJsonRpcMessage::Request(request) => {
            let id = request.id.clone();
            request.request.extensions_mut().insert(Ticket::new(session, Some(id.clone())));
            id
        }
        // rmcp hands only requests here; the id of none is as good as any.
        _ => RequestId::Number(-1),
    }
}

/// 128 random bits in hexadecimal digits: visible ASCII, and not to be guessed.
fn fresh_id() -> Result<SessionId, SessionError> {
    let mut bits = [0_u8; 16];
    let mut filled = 0;
    while filled < bits.len() {
        let rest = &mut bits[filled..];
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| SessionError::NoRandomness(error.into()))?;
    }
    Ok(format!("{:032x}", u128::from_be_bytes(bits)).into())
}

/// How long a session has lived.
pub(super) fn age(session: &Session) -> std::time::Duration {
    Instant::now().saturating_duration_since(session.since)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
