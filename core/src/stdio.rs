//! A supervised child process as a transport for rmcp's client.
//!
//! [`StdioServer::connect`] does everything and gives one thing to call and to close. For hosts that
//! run rmcp's service themselves, [`StdioServer::spawn`] gives two things: a [`StdioTransport`], which goes to rmcp, and a
//! [`StdioHandle`], which stays with the host. The handle starts the shutdown ladder and reads its
//! outcome, the [`Teardown`], whether or not rmcp gets around to its own close; both may close, at
//! the same time too, and both see the same end.
//!
//! However the connection ends, the server's process group is empty, its leader reaped and all
//! descriptors closed afterwards: close returns then; a drop, a cancelled close or connect, a runtime
//! that is dropped and an unwinding panic kill the group and block until it is gone, for
//! [`Settings::drop_wait`] at most. A helper that leaves the group (`setsid(2)`) is out of reach
//! unless [`Settings::sweep_cookie`] asks for it. The death of the host itself is the business of the
//! [`guard`](crate::guard).
//!
//! Framing: one message a line, UTF-8 JSON (MCP 2025-11-25, "Transports", stdio). Lines of stdout
//! that are no message are skipped, counted and traced, because servers print banners.

mod client;
mod connection;
mod ladder;
pub(crate) mod lines;
pub(crate) mod outbox;
pub(crate) mod probing;
mod settings;
mod teardown;

use std::{borrow::Cow, fmt, io, panic::Location, path::Path, sync::Arc};

use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};

use crate::{
    census::Census,
    guard::GuardHandle,
    lifecycle::{Event, IllegalEvent, State},
    process::{Command, Marked, ProcessId, SpawnError},
};
use connection::{Connection, Read};

pub use client::{ConnectError, EndedEarly, StdioClient};
pub use lines::StderrTail;
/// How lines are cut out of what a server writes: open to the fuzz targets, not part of the interface.
#[doc(hidden)]
pub use lines::{LineBuffer, LineRing, TooLong};
pub use settings::Settings;
pub use teardown::{EndCause, Rung, Teardown};

const READ_CHUNK_BYTES: usize = 16 * 1024;
/// How much of a skipped line is traced.
const PREVIEW_BYTES: usize = 120;

/// A server that can be started, as often as wanted.
#[derive(Clone, Debug)]
pub struct StdioServer {
    name: Arc<str>,
    command: Command,
    settings: Settings,
}

impl StdioServer {
    /// A server of this command, named after its program.
    pub fn new(command: Command) -> Self {
        let program = Path::new(command.program());
        let name = program.file_name().unwrap_or(program.as_os_str());
        Self { name: name.to_string_lossy().into(), command, settings: Settings::default() }
    }

    /// Names it, for errors, traces and the census.
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Changes waits and limits.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// What it is started with.
    #[cfg(feature = "admin")]
    pub(crate) fn command(&self) -> &Command {
        &self.command
    }

    /// Its waits and limits.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Has the guard process end it when the host dies: see [`guard`](crate::guard).
    #[must_use]
    pub fn guarded_by(mut self, guard: &GuardHandle) -> Self {
        self.command = self.command.guarded_by(guard);
        self
    }

    /// Starts the server, inside a tokio runtime with I/O and time. The census shows a row each for
    /// the process, the connection and the task that attends it, until each is gone.
    ///
    /// # Errors
    /// [`SpawnError`]; nothing is left behind then.
    #[track_caller]
    pub fn spawn(&self, census: &Census) -> Result<(StdioTransport, StdioHandle), SpawnError> {
        self.spawn_at(census, Location::caller())
    }

    pub(crate) fn spawn_at(
        &self,
        census: &Census,
        opened_at: &'static Location<'static>,
    ) -> Result<(StdioTransport, StdioHandle), SpawnError> {
        let marked = match self.settings.sweep_cookie {
            true => Marked::Always,
            false => Marked::IfGuarded,
        };
        let spawned = self.command.spawn_with(marked)?;
        let connection =
            Connection::open(Arc::clone(&self.name), spawned, self.settings, census, opened_at)
                .map_err(|source| SpawnError::Refused {
                    program: self.command.program().to_string_lossy().into_owned(),
                    doing: "watching its pipes",
                    source,
                })?;
        let transport = StdioTransport {
            lines: LineBuffer::new(self.settings.stdout_line_limit_bytes),
            chunk: vec![0; READ_CHUNK_BYTES],
            connection: Arc::clone(&connection),
        };
        Ok((transport, StdioHandle { connection }))
    }
}

/// Why a message could not be sent, or a close is not complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StdioError {
    /// The connection is closing or closed.
    #[error("sending to server `{name}`: the connection has ended ({cause})")]
    Ended {
        /// The server.
        name: Arc<str>,
        /// Why it ended.
        cause: EndCause,
        /// State and event.
        source: IllegalEvent,
    },
    /// The server is dead; its exit status and last words are in the outcome of the close.
    #[error("sending to server `{name}`: {process} has exited")]
    ServerExited {
        /// The server.
        name: Arc<str>,
        /// Its process.
        process: ProcessId,
    },
    /// The server lives, but has closed its stdin. The connection ends with this.
    #[error("sending to server `{name}`: {process} has closed its stdin or is exiting")]
    BrokenPipe {
        /// The server.
        name: Arc<str>,
        /// Its process.
        process: ProcessId,
    },
    /// The server reads too slowly, or not at all.
    #[error(
        "sending to server `{name}`: {waiting_bytes} bytes wait already, because it does not read \
         its stdin (limit {limit_bytes}, `Settings::stdin_backlog_limit_bytes`)"
    )]
    Backlog {
        /// The server.
        name: Arc<str>,
        /// How many bytes wait.
        waiting_bytes: usize,
        /// How many may.
        limit_bytes: usize,
    },
    /// The message has no JSON form.
    #[error("sending to server `{name}`: encoding the message")]
    Encode {
        /// The server.
        name: Arc<str>,
        /// What serde said.
        source: serde_json::Error,
    },
    /// A pipe failed.
    #[error("server `{name}`: {doing}")]
    Io {
        /// The server.
        name: Arc<str>,
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The close ran to its end, but something would not go away.
    #[error("closing: {0}")]
    Incomplete(Box<Teardown>),
}

/// The client side of a stdio connection, for [`rmcp::ServiceExt::serve`].
///
/// Dropped before the connection was closed, it kills the server's group and blocks until it is gone.
#[must_use = "dropping it kills the server"]
pub struct StdioTransport {
    connection: Arc<Connection>,
    lines: LineBuffer,
    chunk: Vec<u8>,
}

impl StdioTransport {
    /// Another handle on the connection.
    pub fn handle(&self) -> StdioHandle {
        StdioHandle { connection: Arc::clone(&self.connection) }
    }

    fn end_with(&self, cause: EndCause) {
        self.connection.end(Event::ConnectionLost, cause);
    }
}

impl Transport<RoleClient> for StdioTransport {
    type Error = StdioError;

    fn name() -> Cow<'static, str> {
        "scupper stdio".into()
    }

    /// The line is queued at once, so lines keep the order of the calls. The future waits until it
    /// is written; dropped earlier, the line still goes out with the next one.
    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), StdioError>> + Send + 'static {
        let connection = Arc::clone(&self.connection);
        let queued = encode(&connection, &item).and_then(|line| connection.queue(&line));
        async move { connection.written(queued?).await }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            if self.connection.has_ended() {
                return None;
            }
            match self.lines.next_line() {
                Ok(Some(line)) => {
                    if let Some(message) = decode(&self.connection, line) {
                        self.connection.heard();
                        return Some(message);
                    }
                    continue;
                }
                Ok(None) => {}
                Err(lines::TooLong) => {
                    let limit = self.connection.settings.stdout_line_limit_bytes;
                    self.end_with(EndCause::LineTooLong(limit));
                    return None;
                }
            }
            match self.connection.read_stdout(&mut self.chunk).await {
                Read::Bytes(bytes) => self.lines.push(&self.chunk[..bytes]),
                Read::Ended => {
                    sabotaged!(HalfLineKept => if self.lines.is_in_a_line() {
                        self.connection.keep_stdout();
                    });
                    return None;
                }
            }
        }
    }

    async fn close(&mut self) -> Result<(), StdioError> {
        let teardown = self.connection.close().await;
        match teardown.is_complete() {
            true => Ok(()),
            false => Err(StdioError::Incomplete(Box::new(teardown))),
        }
    }
}

impl Drop for StdioTransport {
    fn drop(&mut self) {
        sabotaged!(DropLeaves => {
            std::mem::forget(Arc::clone(&self.connection));
            return;
        });
        self.connection.owner_dropped();
    }
}

impl fmt::Debug for StdioTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StdioTransport({})", self.handle())
    }
}

/// The host's hold on a connection: clones share it, and dropping them ends nothing.
#[derive(Clone)]
pub struct StdioHandle {
    connection: Arc<Connection>,
}

impl StdioHandle {
    /// The server's name.
    pub fn name(&self) -> &str {
        &self.connection.name
    }

    /// The server's process, the leader of its group.
    pub fn process(&self) -> ProcessId {
        self.connection.process
    }

    /// Where the connection is in its life.
    pub fn state(&self) -> State {
        self.connection.state()
    }

    /// Has the server not yet exited?
    pub fn is_alive(&self) -> bool {
        !self.connection.has_exited()
    }

    /// Ends the connection by the ladder, and tells how. Does not wait for rmcp, nor for a message
    /// that cannot be written. The second and every concurrent close tell the same.
    ///
    /// Cancelled at any await while no other close is under way, the group is killed on the spot.
    ///
    /// # Panics
    /// Outside a tokio runtime with time; the group is killed all the same. [`kill`](Self::kill)
    /// works anywhere.
    pub async fn close(&self) -> Teardown {
        self.connection.close().await
    }

    /// Leaves the server to itself: somebody sees to its end, it says, and nobody does.
    #[cfg(feature = "sabotage")]
    pub(crate) fn leave(&self) {
        std::mem::forget(connection::Closer::new(&self.connection));
        std::mem::forget(Arc::clone(&self.connection));
    }

    /// Ends the connection by SIGKILL, blocking for [`Settings::drop_wait`] at most. For hosts that
    /// have no time or no runtime left.
    pub fn kill(&self) -> Teardown {
        self.connection.end_now(EndCause::Killed)
    }

    /// Lets every [`close`](Self::close), under way or to come, go to SIGKILL at once. By itself it
    /// ends nothing and waits for nothing.
    pub fn hurry(&self) {
        self.connection.hurry();
    }

    /// Waits until the connection carries no more messages, and tells why: somebody closed it, the
    /// server exited or a pipe broke. Server and descriptors may still be there; see
    /// [`closed`](Self::closed).
    pub async fn ended(&self) -> EndCause {
        self.connection.ended().await
    }

    /// Waits until everything is gone, without asking for it.
    pub async fn closed(&self) -> Teardown {
        self.connection.closed().await
    }

    /// How it ended; `None` until everything is gone.
    pub fn outcome(&self) -> Option<Teardown> {
        self.connection.outcome()
    }

    /// The latest lines of the server's stderr, also after the end.
    pub fn stderr_tail(&self) -> StderrTail {
        self.connection.stderr_tail()
    }

    /// How many lines of stdout were no message and were skipped.
    pub fn skipped_lines(&self) -> u64 {
        self.connection.skipped_lines()
    }
}

impl fmt::Display for StdioHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, process, state) = (self.name(), self.process(), self.state());
        write!(f, "server `{name}` ({process}), {state}")
    }
}

impl fmt::Debug for StdioHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StdioHandle({self})")
    }
}

fn encode(
    connection: &Connection,
    item: &TxJsonRpcMessage<RoleClient>,
) -> Result<Vec<u8>, StdioError> {
    let mut line = serde_json::to_vec(item)
        .map_err(|source| StdioError::Encode { name: Arc::clone(&connection.name), source })?;
    line.push(b'\n');
    Ok(line)
}

fn decode(connection: &Connection, line: &[u8]) -> Option<RxJsonRpcMessage<RoleClient>> {
    let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
    if line.is_empty() {
        return None;
    }
    match serde_json::from_slice(line) {
        Ok(message) => Some(message),
        Err(error) => {
            connection.skip_line();
            let preview = String::from_utf8_lossy(&line[..line.len().min(PREVIEW_BYTES)]);
            tracing::warn!(
                parent: connection.span(),
                %error,
                %preview,
                "skipped a line of stdout that is no MCP message"
            );
            None
        }
    }
}
