//! What transport, handle and attendant share: the slots of all descriptors, the ladder, the state.
//!
//! Every descriptor lives in a slot under a lock that is held for one non-blocking operation, never
//! across an await. So the end can take them all at once, from any thread, with or without a runtime.
//! Who waited on one is woken by a token.

mod attendant;

use std::{
    io,
    panic::Location,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use rustix::io::Errno;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    EndCause, Settings, StderrTail, StdioError, Teardown,
    ladder::{Ladder, Next, Pace, after},
    lines::LineRing,
    outbox::Outbox,
};
use attendant::{attend, poll_read};

use crate::{
    census::{Census, DroppedWithoutClose, Kind, Row},
    lifecycle::{Event, State},
    process::{ProcessId, Spawned},
    scope::TaskScope,
};

/// The longest wait between two looks where no pidfd can be awaited any more.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);
/// How long a close waits for the attendant to be gone once all it watches is gone.
const ATTENDANT_WAIT: Duration = Duration::from_secs(1);
/// How much of stderr is read at the very end: a pipe holds at most so much by default limits.
const LAST_WORDS_BYTES: usize = 1024 * 1024;

pub(super) struct Connection {
    pub(super) name: Arc<str>,
    pub(super) process: ProcessId,
    pub(super) settings: Settings,
    opened_at: &'static Location<'static>,
    census: Census,
    span: tracing::Span,
    state: Mutex<State>,
    outbox: Mutex<Outbox<pipe::Sender>>,
    /// Held by the one who writes.
    turn: tokio::sync::Mutex<()>,
    stdout: Mutex<Option<pipe::Receiver>>,
    stderr: Mutex<Stderr>,
    ladder: Mutex<Ladder>,
    row: Mutex<Option<Row>>,
    closers: AtomicUsize,
    skipped_lines: AtomicU64,
    /// Nothing is sent or received any more.
    ended: CancellationToken,
    /// The leader has exited.
    exited: CancellationToken,
    /// Everything is gone; the outcome can be read.
    torn: CancellationToken,
    /// Nobody awaits the pidfd any more: its runtime went away.
    unattended: CancellationToken,
    /// Closes grant no grace any more.
    hurried: CancellationToken,
    scope: TaskScope,
}

struct Stderr {
    pipe: Option<pipe::Receiver>,
    ring: LineRing,
}

/// What a read from stdout brought.
pub(super) enum Read {
    Bytes(usize),
    /// The connection ended, for whatever reason.
    Ended,
}

impl Connection {
    pub(super) fn open(
        name: Arc<str>,
        spawned: Spawned,
        settings: Settings,
        census: &Census,
        opened_at: &'static Location<'static>,
    ) -> io::Result<Arc<Self>> {
        let process = spawned.group.id();
        sabotaged!(DupKept => crate::sabotage::keep_copy(&spawned.stdin));
        #[cfg(feature = "sabotage")]
        if crate::sabotage::is_one_in_hundred() {
            crate::sabotage::keep_copy(&spawned.stdout);
        }
        let span = tracing::info_span!("server", name = &*name, pid = process.pid);
        let row =
            census.enter(Kind::Process, Arc::clone(&name), format!("{process} running"), opened_at);
        let connection = Arc::new(Self {
            process,
            settings,
            opened_at,
            census: census.clone(),
            state: Mutex::new(State::Connecting),
            outbox: Mutex::new(Outbox::new(
                pipe::Sender::from_owned_fd(spawned.stdin)?,
                settings.stdin_backlog_limit_bytes,
            )),
            turn: tokio::sync::Mutex::new(()),
            stdout: Mutex::new(Some(pipe::Receiver::from_owned_fd(spawned.stdout)?)),
            stderr: Mutex::new(Stderr {
                pipe: Some(pipe::Receiver::from_owned_fd(spawned.stderr)?),
                ring: LineRing::new(settings.stderr_lines, settings.stderr_line_limit_bytes),
            }),
            ladder: Mutex::new(Ladder::new(Arc::clone(&name), spawned.group, row, settings)),
            row: Mutex::new(Some(census.enter(
                Kind::Connection,
                Arc::clone(&name),
                State::Connecting.to_string(),
                opened_at,
            ))),
            closers: AtomicUsize::new(0),
            skipped_lines: AtomicU64::new(0),
            ended: CancellationToken::new(),
            exited: CancellationToken::new(),
            torn: CancellationToken::new(),
            unattended: CancellationToken::new(),
            hurried: CancellationToken::new(),
            scope: TaskScope::new(format!("server {name}"), census),
            span,
            name,
        });
        sabotaged!(TaskDetached => crate::sabotage::hold_in_a_task(Arc::clone(&connection.name)));
        sabotaged!(TickerKept => crate::sabotage::tick_for_ever());
        sabotaged!(BlockingThreadStuck => crate::sabotage::block_a_thread());
        let attendant = attend(Arc::clone(&connection)).instrument(connection.span.clone());
        connection.scope.spawn("attendant", attendant).map_err(io::Error::other)?;
        tracing::info!(parent: &connection.span, %process, %opened_at, "server opened");
        Ok(connection)
    }

    pub(super) fn state(&self) -> State {
        *lock(&self.state)
    }

    pub(super) fn stderr_tail(&self) -> StderrTail {
        lock(&self.stderr).ring.tail()
    }

    pub(super) fn skipped_lines(&self) -> u64 {
        self.skipped_lines.load(Ordering::Relaxed)
    }

    pub(super) fn skip_line(&self) {
        self.skipped_lines.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn span(&self) -> &tracing::Span {
        &self.span
    }

    pub(super) fn outcome(&self) -> Option<Teardown> {
        lock(&self.ladder).outcome().map(|outcome| (**outcome).clone())
    }

    pub(super) fn has_exited(&self) -> bool {
        lock(&self.ladder).has_exited()
    }

    #[cfg(feature = "sabotage")]
    pub(super) fn keep_stdout(&self) {
        if let Some(pipe) = &*lock(&self.stdout) {
            crate::sabotage::keep_copy(pipe);
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
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

    /// Takes a line in for sending, if the connection is open and the server alive.
    pub(super) fn queue(&self, line: &[u8]) -> Result<u64, StdioError> {
        if let Err(illegal) = self.state().on(Event::Used) {
            return Err(self.closed_error(illegal));
        }
        if self.has_exited() {
            self.exited.cancel();
            return Err(self.server_exited());
        }
        lock(&self.outbox).queue(line).map_err(|full| StdioError::Backlog {
            name: Arc::clone(&self.name),
            waiting_bytes: full.0,
            limit_bytes: self.settings.stdin_backlog_limit_bytes,
        })
    }

    /// Waits until everything up to `position` has been written, or the connection ends.
    pub(super) async fn written(&self, position: u64) -> Result<(), StdioError> {
        let _turn = self.turn.lock().await;
        let mut ended = pin!(self.ended.cancelled());
        let mut exited = pin!(self.exited.cancelled());
        let result = std::future::poll_fn(|cx| {
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(None));
            }
            if let Poll::Ready(result) = lock(&self.outbox).poll_written(cx, position) {
                return Poll::Ready(result.map_err(Some));
            }
            // A helper may hold the other end open, so a dead server does not always break the pipe.
            exited.as_mut().poll(cx).map(|()| Err(None))
        })
        .await;
        match result {
            Ok(()) => Ok(()),
            Err(None) => match self.state().on(Event::Used) {
                Err(illegal) => Err(self.closed_error(illegal)),
                Ok(_) => Err(self.server_exited()),
            },
            Err(Some(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.end(Event::ConnectionLost, EndCause::BrokenPipe);
                Err(StdioError::BrokenPipe { name: Arc::clone(&self.name), process: self.process })
            }
            Err(Some(source)) => {
                self.end(Event::ConnectionLost, EndCause::PipeError);
                Err(StdioError::Io {
                    name: Arc::clone(&self.name),
                    doing: "writing to its stdin",
                    source,
                })
            }
        }
    }

    /// Reads what stdout has. When the leader is dead, takes what is left and then ends the
    /// connection, although a helper may hold the pipe open.
    pub(super) async fn read_stdout(&self, chunk: &mut [u8]) -> Read {
        let mut ended = pin!(self.ended.cancelled());
        let mut exited = pin!(self.exited.cancelled());
        let result = std::future::poll_fn(|cx| {
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            let mut slot = lock(&self.stdout);
            let Some(pipe) = slot.as_mut() else {
                return Poll::Ready(None);
            };
            if let Poll::Ready(result) = poll_read(pipe, cx, chunk) {
                return Poll::Ready(Some(result.map(|n| (n, EndCause::StdoutEnded))));
            }
            if exited.as_mut().poll(cx).is_ready() {
                let result = match rustix::io::read(&*pipe, &mut *chunk) {
                    Err(Errno::AGAIN) => Ok(0),
                    result => result.map_err(io::Error::from),
                };
                return Poll::Ready(Some(result.map(|n| (n, EndCause::ServerExited))));
            }
            Poll::Pending
        })
        .await;
        match result {
            None => {}
            Some(Ok((0, cause))) => self.end(Event::ConnectionLost, cause),
            Some(Ok((bytes, _))) => return Read::Bytes(bytes),
            Some(Err(error)) => {
                tracing::warn!(parent: &self.span, %error, "reading the server's stdout failed");
                self.end(Event::ConnectionLost, EndCause::PipeError);
            }
        }
        Read::Ended
    }

    /// Begins the end: no more messages, stdin closed, the ladder's clock started. Never waits.
    pub(super) fn end(&self, event: Event, cause: EndCause) {
        {
            let mut state = lock(&self.state);
            match state.on(event) {
                Ok(next) => *state = next,
                Err(illegal) => tracing::trace!(parent: &self.span, %illegal, "nothing to end"),
            }
        }
        sabotaged!(StdinNotClosed => std::mem::forget(lock(&self.outbox).take()));
        lock(&self.outbox).close();
        lock(&self.ladder).begin(cause, Instant::now());
        self.ended.cancel();
        self.show(State::Closing);
    }

    /// Climbs the ladder to its end, with timers. Dropping the future early kills what is left,
    /// unless another closer is at work.
    pub(super) async fn close(&self) -> Teardown {
        let mut closer = Closer::new(self);
        self.end(Event::CloseRequested, EndCause::Closed);
        let mut pause = Duration::from_millis(1);
        let teardown = loop {
            let pace = if self.hurried.is_cancelled() { Pace::Now } else { Pace::Patient };
            let next = lock(&self.ladder).step(Instant::now(), pace);
            match next {
                Next::Done(teardown) => break teardown,
                Next::Pause(duration) => tokio::time::sleep(duration).await,
                Next::ExitOr(until)
                    if self.unattended.is_cancelled() || self.exited.is_cancelled() =>
                {
                    let left = until.saturating_duration_since(Instant::now());
                    tokio::time::sleep(pause.min(left)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Next::ExitOr(until) => tokio::select! {
                    () = self.exited.cancelled() => {}
                    () = self.torn.cancelled() => {}
                    () = self.unattended.cancelled() => {}
                    () = self.hurried.cancelled(), if pace == Pace::Patient => {}
                    () = tokio::time::sleep_until(until.into()) => {}
                },
            }
        };
        closer.finish();
        self.finish(&teardown);
        self.scope.close(ATTENDANT_WAIT).await;
        (*teardown).clone()
    }

    /// Kills the group, waits for its end by blocking, for a bounded time, and gives everything
    /// back. Needs no runtime; spawns nothing.
    pub(super) fn end_now(&self, cause: EndCause) -> Teardown {
        self.end(Event::CloseRequested, cause);
        let deadline = after(Instant::now(), self.settings.drop_wait);
        let mut pause = Duration::from_micros(100);
        let teardown = loop {
            let mut next = lock(&self.ladder).step(Instant::now(), Pace::Now);
            if Instant::now() >= deadline {
                next = lock(&self.ladder).give_up(Instant::now());
            }
            match next {
                Next::Done(teardown) => break teardown,
                Next::Pause(duration) => std::thread::sleep(duration),
                Next::ExitOr(_) => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        };
        self.finish(&teardown);
        (*teardown).clone()
    }

    /// The owner is gone. If nobody closed the connection, this is the close.
    pub(super) fn owner_dropped(&self) {
        let closed = lock(&self.ladder).outcome().is_some();
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

    /// Every close under way, and every later one, kills instead of granting graces.
    pub(super) fn hurry(&self) {
        self.hurried.cancel();
    }

    /// Waits until nothing is sent or received any more, and tells why.
    pub(super) async fn ended(&self) -> EndCause {
        self.ended.cancelled().await;
        lock(&self.ladder).cause().unwrap_or(EndCause::Closed)
    }

    /// Waits for the end, whoever brings it about.
    pub(super) async fn closed(&self) -> Teardown {
        loop {
            self.torn.cancelled().await;
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
        }
    }

    /// Gives the pipes and the row back and lets everybody know. Safe to call twice.
    fn finish(&self, teardown: &Teardown) {
        {
            let mut stderr = lock(&self.stderr);
            if let Some(pipe) = stderr.pipe.take() {
                sabotaged!(StderrKept => crate::sabotage::keep_copy(&pipe));
                read_last_words(&pipe, &mut stderr.ring);
            }
        }
        sabotaged!(StdoutKept => std::mem::forget(lock(&self.stdout).take()));
        lock(&self.stdout).take();
        sabotaged!(ConnectionRowKept => std::mem::forget(lock(&self.row).take()));
        lock(&self.row).take();
        let first = {
            let mut state = lock(&self.state);
            let next = state.on(Event::TornDown);
            if let Ok(next) = next {
                *state = next;
            }
            next.is_ok()
        };
        self.torn.cancel();
        self.scope.cancel();
        if !first {
            return;
        }
        match teardown {
            t if !t.is_complete() => {
                tracing::error!(parent: &self.span, "teardown incomplete: {t}")
            }
            t if t.was_forced() => tracing::warn!(parent: &self.span, "server killed: {t}"),
            t => tracing::info!(parent: &self.span, "server closed: {t}"),
        }
    }

    fn show(&self, state: State) {
        if let Some(row) = &*lock(&self.row) {
            row.set_state(state.to_string());
        }
    }

    fn closed_error(&self, illegal: crate::lifecycle::IllegalEvent) -> StdioError {
        StdioError::Ended {
            name: Arc::clone(&self.name),
            cause: lock(&self.ladder).cause().unwrap_or(EndCause::Closed),
            source: illegal,
        }
    }

    fn server_exited(&self) -> StdioError {
        StdioError::ServerExited { name: Arc::clone(&self.name), process: self.process }
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
        if last && !self.finished && !sabotaged!(CancelledCloseLeft) {
            tracing::debug!(parent: &self.connection.span, "close was cancelled");
            let _ = self.connection.end_now(EndCause::Closed);
        }
    }
}

/// What is still in the pipe, read past tokio, which may not have been told of it yet.
fn read_last_words(pipe: &pipe::Receiver, ring: &mut LineRing) {
    let mut chunk = [0; 4096];
    let mut total = 0;
    while total < LAST_WORDS_BYTES {
        match rustix::io::read(pipe, &mut chunk) {
            Ok(bytes) if bytes > 0 => ring.push(&chunk[..bytes]),
            _ => return,
        }
        total += chunk.len();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
