//! What a session has to say: one bounded queue for each stream, and a few messages for a client that
//! resumes one.
//!
//! A message is queued in the order in which the service sent it; its sender then waits until the
//! queue is short again, so that a client that does not read slows the handler that talks to it and
//! nobody else.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use rmcp::{
    model::{GetExtensions, ProgressToken, RequestId, ServerJsonRpcMessage, ServerNotification},
    service::OriginatingRequestId,
    transport::common::server_side_http::ServerSseMessage,
};
use tokio::{sync::Notify, time::Instant};

use super::{
    channel::{Channel, Reader, Running},
    connection::Connection,
};

/// The number of a stream in its session; the standalone stream has none.
pub(super) type StreamNumber = Option<u64>;

/// The streams of one session.
#[derive(Debug)]
pub(super) struct Outbox {
    inner: Mutex<Inner>,
    /// Told whenever a queue gets shorter or a reader goes.
    pub(super) moved: Notify,
    limits: Limits,
}

/// The part of the settings that streams need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) queue: usize,
    pub(super) replay: usize,
    pub(super) replay_wait: Duration,
    pub(super) streams: usize,
}

#[derive(Debug, Default)]
struct Inner {
    next_stream: u64,
    next_reader: u64,
    standing: Channel,
    requests: BTreeMap<u64, Channel>,
    by_request: HashMap<RequestId, u64>,
    by_progress: HashMap<ProgressToken, u64>,
    ended: bool,
}

/// Why a stream could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StreamRefused {
    #[error("the session is closing")]
    Ended,
    #[error("the session has as many streams as `stream_limit` allows")]
    Limit,
    #[error("a request with this id is still running in the session")]
    DuplicateRequest,
    #[error("no such stream is kept; it finished, or more was sent than `replay_limit` keeps")]
    Unknown,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queued {
    /// There is room for more.
    Roomy,
    /// The sender should wait for this stream.
    Full(StreamNumber),
    /// The session takes no more.
    Ended,
    /// Twice as many wait as should; the message was not taken.
    Overrun,
}

/// The place of one reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    stream: StreamNumber,
    reader: u64,
}

impl Outbox {
    pub(super) fn new(limits: Limits) -> Self {
        let inner = Inner {
            // rmcp opens the standalone stream with an event of its own that has the id 0.
            standing: Channel { next_index: 1, ..Channel::default() },
            ..Inner::default()
        };
        Self { inner: Mutex::new(inner), moved: Notify::new(), limits }
    }

    /// Opens the stream that will carry the answer to a request.
    pub(super) fn open_request(
        &self,
        id: RequestId,
        progress: Option<ProgressToken>,
        retry: Option<Duration>,
        connection: Option<Arc<Connection>>,
    ) -> Result<Seat, StreamRefused> {
        let mut inner = self.lock();
        inner.forget_finished(self.limits);
        if inner.ended {
            return Err(StreamRefused::Ended);
        }
        if inner.by_request.contains_key(&id) {
            return Err(StreamRefused::DuplicateRequest);
        }
        if inner.by_request.len() >= self.limits.streams {
            return Err(StreamRefused::Limit);
        }
        let number = inner.next_stream;
        inner.next_stream += 1;
        let reader = inner.reader(connection);
        let seat = Seat { stream: Some(number), reader: reader.number };
        let mut channel = Channel {
            reader: Some(reader),
            request: Some(Running {
                id: id.clone(),
                progress: progress.clone(),
                since: Instant::now(),
            }),
            ..Channel::default()
        };
        if let Some(retry) = retry {
            channel.push(Some(number), ServerSseMessage::retry(retry), self.limits);
        }
        inner.requests.insert(number, channel);
        inner.by_request.insert(id, number);
        if let Some(token) = progress {
            inner.by_progress.insert(token, number);
        }
        Ok(seat)
    }

    /// Opens the stream that belongs to no request. Where one is open already, the new one is kept
    /// open beside it and told nothing.
    pub(super) fn open_standing(
        &self,
        after: Option<u64>,
        connection: Option<Arc<Connection>>,
    ) -> Result<Seat, StreamRefused> {
        let mut inner = self.lock();
        if inner.ended {
            return Err(StreamRefused::Ended);
        }
        if inner.standing.idle_readers.len() >= self.limits.streams {
            return Err(StreamRefused::Limit);
        }
        let reader = inner.reader(connection);
        let seat = Seat { stream: None, reader: reader.number };
        if inner.standing.reader.is_some() {
            inner.standing.idle_readers.push(reader);
        } else {
            inner.standing.refill(after);
            inner.standing.reader = Some(reader);
        }
        Ok(seat)
    }

    /// Opens a stream again, from the message after `index` on. A reader that is still there is
    /// replaced: its client has left it.
    pub(super) fn resume(
        &self,
        stream: StreamNumber,
        index: u64,
        connection: Option<Arc<Connection>>,
    ) -> Result<Seat, StreamRefused> {
        let Some(number) = stream else {
            return self.open_standing(Some(index), connection);
        };
        let mut inner = self.lock();
        inner.forget_finished(self.limits);
        if inner.ended {
            return Err(StreamRefused::Ended);
        }
        let reader = inner.reader(connection);
        let channel = inner.requests.get_mut(&number).ok_or(StreamRefused::Unknown)?;
        channel.refill(Some(index));
        let seat = Seat { stream, reader: reader.number };
        if let Some(replaced) = channel.reader.replace(reader) {
            replaced.wake();
        }
        Ok(seat)
    }

    /// Queues a message of the service for the stream it belongs to.
    pub(super) fn push(&self, message: ServerJsonRpcMessage) -> Queued {
        let mut inner = self.lock();
        if inner.ended {
            return Queued::Ended;
        }
        let stream = inner.route(&message);
        let answers =
            matches!(message, ServerJsonRpcMessage::Response(_) | ServerJsonRpcMessage::Error(_));
        let channel = match stream {
            Some(number) => inner.requests.get_mut(&number),
            None => Some(&mut inner.standing),
        };
        let Some(channel) = channel else {
            return Queued::Roomy;
        };
        if !answers && channel.queue.len() >= self.limits.queue.saturating_mul(2) {
            return Queued::Overrun;
        }
        channel.push(stream, ServerSseMessage::from_message(message), self.limits);
        let full = channel.queue.len() > self.limits.queue;
        if answers && let Some(number) = stream {
            inner.finish(number);
        }
        if full { Queued::Full(stream) } else { Queued::Roomy }
    }

    /// Is the queue of this stream short again?
    pub(super) fn has_room(&self, stream: StreamNumber) -> bool {
        let inner = self.lock();
        inner.ended
            || inner.channel(stream).is_none_or(|channel| channel.queue.len() <= self.limits.queue)
    }

    /// Ends the reader of a stream that did not read, and returns its connection, to be cut.
    pub(super) fn cut(&self, stream: StreamNumber) -> Option<Option<Arc<Connection>>> {
        let reader = {
            let mut inner = self.lock();
            let channel = inner.channel_mut(stream)?;
            channel.queue.clear();
            channel.reader.take()?
        };
        reader.wake();
        self.moved.notify_waiters();
        Some(reader.connection)
    }

    /// The client cancelled a request, which will never be answered: its stream ends.
    pub(super) fn cancel(&self, id: &RequestId) {
        let mut inner = self.lock();
        if let Some(number) = inner.by_request.get(id).copied() {
            inner.finish(number);
        }
    }

    /// The requests without an answer, and since when the oldest runs.
    pub(super) fn running(&self) -> (Vec<RequestId>, Option<Instant>) {
        let inner = self.lock();
        let running = || {
            inner
                .requests
                .values()
                .filter(|channel| channel.finished_at.is_none())
                .filter_map(|channel| channel.request.as_ref())
        };
        (running().map(|r| r.id.clone()).collect(), running().map(|r| r.since).min())
    }

    /// How many streams somebody reads.
    pub(super) fn readers(&self) -> usize {
        self.lock().readers().count()
    }

    /// Does somebody read the standalone stream?
    pub(super) fn has_standing_reader(&self) -> bool {
        self.lock().standing.reader.is_some()
    }

    /// Ends all streams, each after what waits in its queue; nothing is taken any more.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        for reader in inner.readers() {
            if let Some(waker) = &reader.waker {
                waker.wake_by_ref();
            }
        }
        drop(inner);
        self.moved.notify_waiters();
    }

    /// Throws away what waits, and returns the connections of all readers, to be cut.
    pub(super) fn cut_all(&self) -> Vec<Option<Arc<Connection>>> {
        let mut inner = self.lock();
        inner.ended = true;
        let standing = std::mem::take(&mut inner.standing);
        let requests = std::mem::take(&mut inner.requests);
        inner.by_request.clear();
        inner.by_progress.clear();
        drop(inner);
        self.moved.notify_waiters();
        std::iter::once(standing)
            .chain(requests.into_values())
            .flat_map(|channel| channel.reader.into_iter().chain(channel.idle_readers))
            .map(|reader| {
                reader.wake();
                reader.connection
            })
            .collect()
    }

    /// The next message for a reader; `None` when its stream has ended.
    pub(super) fn poll(&self, seat: Seat, cx: &mut Context<'_>) -> Poll<Option<ServerSseMessage>> {
        let mut inner = self.lock();
        let ended = inner.ended;
        let Some(channel) = inner.channel_mut(seat.stream) else {
            return Poll::Ready(None);
        };
        let finished = ended || channel.finished_at.is_some();
        let primary = channel.reader.as_ref().is_some_and(|reader| reader.number == seat.reader);
        if primary && let Some((index, message)) = channel.queue.pop_front() {
            channel.next_unread = channel.next_unread.max(index + 1);
            drop(inner);
            self.moved.notify_waiters();
            return Poll::Ready(Some(message));
        }
        let reader = channel
            .reader
            .iter_mut()
            .chain(&mut channel.idle_readers)
            .find(|reader| reader.number == seat.reader);
        match reader {
            Some(reader) if !finished => {
                reader.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => {
                channel.read_to_end |= primary;
                Poll::Ready(None)
            }
        }
    }

    /// A reader has gone. What it has not taken stays for one that resumes.
    pub(super) fn leave(&self, seat: Seat) {
        let mut inner = self.lock();
        if let Some(channel) = inner.channel_mut(seat.stream) {
            channel.idle_readers.retain(|reader| reader.number != seat.reader);
            if channel.reader.as_ref().is_some_and(|reader| reader.number == seat.reader) {
                channel.reader = None;
                channel.queue.clear();
                if channel.read_to_end
                    && channel.finished_at.is_some()
                    && let Some(number) = seat.stream
                {
                    inner.requests.remove(&number);
                }
            }
        }
        drop(inner);
        self.moved.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn reader(&mut self, connection: Option<Arc<Connection>>) -> Reader {
        let number = self.next_reader;
        self.next_reader += 1;
        Reader { number, waker: None, connection }
    }

    fn channel(&self, stream: StreamNumber) -> Option<&Channel> {
        match stream {
            Some(number) => self.requests.get(&number),
            None => Some(&self.standing),
        }
    }

    fn channel_mut(&mut self, stream: StreamNumber) -> Option<&mut Channel> {
        match stream {
            Some(number) => self.requests.get_mut(&number),
            None => Some(&mut self.standing),
        }
    }

    fn readers(&self) -> impl Iterator<Item = &Reader> {
        std::iter::once(&self.standing)
            .chain(self.requests.values())
            .flat_map(|channel| channel.reader.iter().chain(&channel.idle_readers))
    }

    /// Which stream a message belongs to: that of the request it answers or comes from, else the
    /// standalone one.
    fn route(&self, message: &ServerJsonRpcMessage) -> StreamNumber {
        let of_request = |id: &RequestId| self.by_request.get(id).copied();
        match message {
            ServerJsonRpcMessage::Response(response) => of_request(&response.id),
            ServerJsonRpcMessage::Error(error) => error.id.as_ref().and_then(of_request),
            ServerJsonRpcMessage::Request(request) => request
                .request
                .extensions()
                .get::<OriginatingRequestId>()
                .and_then(|origin| of_request(&origin.0)),
            ServerJsonRpcMessage::Notification(notification) => match &notification.notification {
                ServerNotification::ProgressNotification(progress) => {
                    self.by_progress.get(&progress.params.progress_token).copied()
                }
                ServerNotification::CancelledNotification(cancelled) => {
                    cancelled.params.request_id.as_ref().and_then(of_request)
                }
                _ => None,
            },
        }
    }

    /// No more will come for this request. Its stream ends after what waits in its queue; without a
    /// reader it is kept for a while, for a client that comes back for the answer.
    fn finish(&mut self, number: u64) {
        let Some(channel) = self.requests.get_mut(&number) else {
            return;
        };
        channel.finished_at = Some(Instant::now());
        if let Some(reader) = &channel.reader {
            reader.wake();
        }
        if let Some(running) = &channel.request {
            self.by_request.remove(&running.id);
            if let Some(token) = &running.progress {
                self.by_progress.remove(token);
            }
        }
    }

    fn forget_finished(&mut self, limits: Limits) {
        let kept = |channel: &Channel| {
            channel.reader.is_some()
                || channel.finished_at.is_none_or(|at| at.elapsed() < limits.replay_wait)
        };
        self.requests.retain(|_, channel| kept(channel));
        while self.requests.values().filter(|c| c.is_left_over()).count() > limits.replay {
            let oldest = self.requests.iter().find(|(_, channel)| channel.is_left_over());
            let Some(number) = oldest.map(|(number, _)| *number) else {
                return;
            };
            self.requests.remove(&number);
        }
    }
}
