//! What transport and handle share: both streams, the state, the end.
//!
//! Each stream lives in a slot under a lock that is held for one poll, never across an await, so that
//! the end can take them from any thread, with or without a runtime. Who waited on one is woken by a
//! token.

use std::{
    future::poll_fn,
    panic::Location,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
};
use tokio::{
    io::ReadBuf,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Reader, StreamCause, StreamEnd, StreamError, StreamSettings, Writer};
use crate::{
    census::{Census, DroppedWithoutClose, Kind, Row},
    lifecycle::{Event, IllegalEvent, State},
    stdio::outbox::Outbox,
};

pub(super) struct Connection {
    pub(super) name: Arc<str>,
    pub(super) settings: StreamSettings,
    opened_at: &'static Location<'static>,
    census: Census,
    state: Mutex<State>,
    reader: Mutex<Option<Reader>>,
    outbox: Mutex<Outbox<Writer>>,
    /// Held by the one who writes.
    turn: tokio::sync::Mutex<()>,
    end: Mutex<End>,
    row: Mutex<Option<Row>>,
    closers: AtomicUsize,
    /// Held by the one who closes.
    closing: tokio::sync::Mutex<()>,
    /// Nothing is sent or received any more.
    ended: CancellationToken,
    /// Closes wait for nothing any more.
    hurried: CancellationToken,
    /// Both streams are dropped.
    torn: CancellationToken,
}

#[derive(Default)]
struct End {
    began: Option<(StreamCause, Instant)>,
    peer_ended: bool,
    outcome: Option<StreamEnd>,
}

impl Connection {
    pub(super) fn open(
        name: Arc<str>,
        (reader, writer): (Reader, Writer),
        settings: StreamSettings,
        census: &Census,
        opened_at: &'static Location<'static>,
    ) -> Arc<Self> {
        let state = State::Connecting;
        let row = census.enter(Kind::Connection, Arc::clone(&name), state.to_string(), opened_at);
        tracing::info!(server = %name, %opened_at, "streams opened");
        Arc::new(Self {
            settings,
            opened_at,
            census: census.clone(),
            state: Mutex::new(state),
            reader: Mutex::new(Some(reader)),
            outbox: Mutex::new(Outbox::new(writer, settings.backlog_limit_bytes)),
            turn: tokio::sync::Mutex::new(()),
            end: Mutex::default(),
            row: Mutex::new(Some(row)),
            closers: AtomicUsize::new(0),
            closing: tokio::sync::Mutex::new(()),
            ended: CancellationToken::new(),
            hurried: CancellationToken::new(),
            torn: CancellationToken::new(),
            name,
        })
    }

    pub(super) fn state(&self) -> State {
        *lock(&self.state)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    pub(super) fn outcome(&self) -> Option<StreamEnd> {
        lock(&self.end).outcome.clone()
    }

    fn cause(&self) -> StreamCause {
        lock(&self.end).began.map_or(StreamCause::Closed, |(cause, _)| cause)
    }

    /// The first message of the server has arrived, or a later one.
    pub(super) fn heard(&self) {
        self.advance(Event::Established);
    }

    /// Moves on, if the table has a move.
    fn advance(&self, event: Event) {
        let mut state = lock(&self.state);
        let Ok(next) = state.on(event) else { return };
        if *state == next {
            return;
        }
        *state = next;
        drop(state);
        if let Some(row) = &*lock(&self.row) {
            row.set_state(next.to_string());
        }
    }

    /// Takes a message in for sending, if the connection is open.
    pub(super) fn queue(&self, item: &TxJsonRpcMessage<RoleClient>) -> Result<u64, StreamError> {
        self.state().on(Event::Used).map_err(|illegal| self.closed_error(illegal))?;
        let mut line = serde_json::to_vec(item)
            .map_err(|source| StreamError::Encode { name: Arc::clone(&self.name), source })?;
        line.push(b'\n');
        lock(&self.outbox).queue(&line).map_err(|full| StreamError::Backlog {
            name: Arc::clone(&self.name),
            waiting_bytes: full.0,
            limit_bytes: self.settings.backlog_limit_bytes,
        })
    }

    /// Waits until everything up to `position` has been written, or the connection ends.
    pub(super) async fn written(&self, position: u64) -> Result<(), StreamError> {
        let _turn = self.turn.lock().await;
        let mut ended = pin!(self.ended.cancelled());
        let result = poll_fn(|cx| {
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            let mut outbox = lock(&self.outbox);
            match outbox.poll_written(cx, position) {
                Poll::Ready(Ok(())) => outbox.poll_flush(cx).map(Some),
                Poll::Ready(failed) => Poll::Ready(Some(failed)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        match result {
            Some(Ok(())) => Ok(()),
            Some(Err(source)) if !self.has_ended() => {
                self.end(Event::ConnectionLost, StreamCause::Failed);
                Err(StreamError::Io { name: Arc::clone(&self.name), source })
            }
            _ => Err(self.closed_error(IllegalEvent { state: self.state(), event: Event::Used })),
        }
    }

    /// Reads some bytes; `None` once the connection has ended.
    pub(super) async fn read(&self, chunk: &mut [u8]) -> Option<usize> {
        let mut ended = pin!(self.ended.cancelled());
        let read = poll_fn(|cx| match ended.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => self.poll_read(cx, chunk),
        });
        match read.await? {
            Ok(0) => self.end(Event::ConnectionLost, StreamCause::PeerEnded),
            Ok(bytes) => return Some(bytes),
            Err(error) => {
                tracing::warn!(server = %self.name, %error, "reading failed");
                self.end(Event::ConnectionLost, StreamCause::Failed);
            }
        }
        None
    }

    /// `None` where there is no reader any more.
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        chunk: &mut [u8],
    ) -> Poll<Option<std::io::Result<usize>>> {
        let mut slot = lock(&self.reader);
        let Some(reader) = slot.as_mut() else { return Poll::Ready(None) };
        let mut filled = ReadBuf::new(chunk);
        let read = reader.as_mut().poll_read(cx, &mut filled);
        let read = read.map_ok(|()| filled.filled().len());
        if !matches!(read, Poll::Pending | Poll::Ready(Ok(1..))) {
            lock(&self.end).peer_ended = true;
        }
        read.map(Some)
    }

    pub(super) fn decode(&self, line: &[u8]) -> Option<RxJsonRpcMessage<RoleClient>> {
        if line.is_empty() {
            return None;
        }
        let decoded = serde_json::from_slice(line);
        decoded
            .inspect_err(|error| {
                tracing::warn!(server = %self.name, %error, "skipped a line that is no MCP message");
            })
            .ok()
    }

    /// Begins the end: no more messages. Never waits.
    pub(super) fn end(&self, event: Event, cause: StreamCause) {
        self.advance(event);
        lock(&self.end).began.get_or_insert_with(|| (cause, Instant::now()));
        self.ended.cancel();
    }

    /// Ends what is written, waits a while for the end of what is read, and drops both. Dropping the
    /// future early drops them at once, unless another closer is at work.
    pub(super) async fn close(&self) -> StreamEnd {
        let mut closer = Closer::new(self);
        self.end(Event::CloseRequested, StreamCause::Closed);
        let one = self.closing.lock().await;
        if self.outcome().is_none() {
            tokio::select! {
                biased;
                () = self.hurried.cancelled() => {}
                () = self.torn.cancelled() => {}
                _ = timeout(self.settings.end_grace, self.part()) => {}
            }
        }
        drop(one);
        closer.finished = true;
        self.end_now(StreamCause::Closed)
    }

    /// The end of both streams, in order. A writer that cannot be shut down is dropped, which ends it
    /// as well.
    async fn part(&self) {
        // A future of this is dropped, and the writer with it, at the end of the grace.
        let writer = lock(&self.outbox).take();
        if let Some(mut writer) = writer {
            let shut = poll_fn(|cx| writer.as_mut().poll_shutdown(cx)).await;
            if let Err(error) = shut {
                tracing::debug!(server = %self.name, %error, "ending the stream failed");
            }
            drop(writer);
        }
        let mut chunk = [0; 1024];
        while let Some(Ok(1..)) = poll_fn(|cx| self.poll_read(cx, &mut chunk)).await {}
    }

    /// Drops both streams and gives the row back. Needs no runtime. Safe to call twice.
    pub(super) fn end_now(&self, cause: StreamCause) -> StreamEnd {
        self.end(Event::CloseRequested, cause);
        let writer = lock(&self.outbox).take();
        let reader = lock(&self.reader).take();
        // Somebody else's code, which may panic; no lock is held.
        drop((writer, reader));
        self.advance(Event::TornDown);
        let row = lock(&self.row).take();
        drop(row);
        self.torn.cancel();
        let mut end = lock(&self.end);
        let (cause, began) = end.began.unwrap_or_else(|| (cause, Instant::now()));
        let peer_ended = end.peer_ended;
        let outcome = end.outcome.get_or_insert_with(|| StreamEnd {
            name: Arc::clone(&self.name),
            cause,
            peer_ended,
            took: began.elapsed(),
        });
        outcome.clone()
    }

    /// The owner is gone. If nobody closed the connection, this is the close.
    pub(super) fn owner_dropped(&self) {
        if self.outcome().is_some() || self.closers.load(Ordering::SeqCst) > 0 {
            return;
        }
        self.census.record_drop(DroppedWithoutClose {
            kind: Kind::Connection,
            name: Arc::clone(&self.name),
            opened_at: self.opened_at,
        });
        tracing::warn!(server = %self.name, opened_at = %self.opened_at, "dropped without close");
        self.end_now(StreamCause::DroppedWithoutClose);
    }

    pub(super) fn hurry(&self) {
        self.hurried.cancel();
    }

    pub(super) async fn ended(&self) -> StreamCause {
        self.ended.cancelled().await;
        self.cause()
    }

    fn closed_error(&self, source: IllegalEvent) -> StreamError {
        StreamError::Ended { name: Arc::clone(&self.name), cause: self.cause(), source }
    }
}

/// Counts one who sees to the end; the last one to be dropped unfinished brings it about.
pub(super) struct Closer<'a> {
    connection: &'a Connection,
    pub(super) finished: bool,
}

impl<'a> Closer<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        connection.closers.fetch_add(1, Ordering::SeqCst);
        Self { connection, finished: false }
    }
}

impl Drop for Closer<'_> {
    fn drop(&mut self) {
        let last = self.connection.closers.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && !self.finished {
            self.connection.end_now(StreamCause::Closed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
