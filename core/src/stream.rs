//! A server at the other end of any pair of byte streams: a Unix socket, a channel of an SSH
//! connection, the streams of a container, a task of the same process.
//!
//! The framing is that of stdio, one message a line, and so is what holds of an end: after a close,
//! a drop, a cancelled close or connect or a dropped runtime both streams are dropped and no task is
//! left, because there is none. What ends without a close is not waited for and not told to the
//! server, which sees its streams end.
//!
//! ```
//! use scupper_core::{census::Census, stream::StreamServer};
//! # use rmcp::{ServerHandler, ServiceExt};
//! # #[derive(Clone)] struct Demo;
//! # impl ServerHandler for Demo {}
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A server in this very process, as tests have it.
//! let server = StreamServer::new("demo", || async {
//!     let (ours, theirs) = tokio::io::duplex(64 * 1024);
//!     tokio::spawn(async move {
//!         if let Ok(served) = Demo.serve(theirs).await {
//!             served.waiting().await.ok();
//!         }
//!     });
//!     Ok(tokio::io::split(ours))
//! });
//! let census = Census::new();
//! let client = server.connect((), &census).await?;
//! println!("{:?}", client.list_all_tools().await);
//! println!("{}", client.close().await);
//! assert!(census.is_empty(), "{census}");
//! # Ok(())
//! # }
//! ```

mod client;
mod connection;
mod end;

use std::{
    borrow::Cow, fmt, future::Future, io, panic::Location, pin::Pin, sync::Arc, time::Duration,
};

use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    census::Census,
    lifecycle::{Event, IllegalEvent, State},
    stdio::lines::{LineBuffer, TooLong},
};
use connection::Connection;

pub use client::{StreamClient, StreamConnectError};
pub use end::{StreamCause, StreamEnd};

const READ_CHUNK_BYTES: usize = 4096;

type Reader = Pin<Box<dyn AsyncRead + Send>>;
type Writer = Pin<Box<dyn AsyncWrite + Send>>;
type Opened = Pin<Box<dyn Future<Output = io::Result<(Reader, Writer)>> + Send>>;

/// Waits and limits of one connection. Make one with [`Default`] and change what differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// How long opening and the handshake may take together. Default 30 s.
    pub connect_wait: Duration,
    /// How long the answer to `server/discover` may take, as in
    /// [`stdio::Settings::probe_wait`](crate::stdio::Settings::probe_wait). Default 5 s.
    pub probe_wait: Duration,
    /// How long a close waits, after the end of what it writes, for the end of what it reads.
    /// Default 2 s.
    pub end_grace: Duration,
    /// The longest line accepted, in bytes. A longer one ends the connection. Default 16 MiB.
    pub line_limit_bytes: usize,
    /// How many bytes may wait for a server that is slow to read; beyond, a send fails. Default
    /// 64 MiB.
    pub backlog_limit_bytes: usize,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            connect_wait: Duration::from_secs(30),
            probe_wait: Duration::from_secs(5),
            end_grace: Duration::from_secs(2),
            line_limit_bytes: 16 * 1024 * 1024,
            backlog_limit_bytes: 64 * 1024 * 1024,
        }
    }
}

/// A server whose streams can be opened, as often as wanted.
#[derive(Clone)]
pub struct StreamServer {
    name: Arc<str>,
    open: Arc<dyn Fn() -> Opened + Send + Sync>,
    settings: StreamSettings,
}

impl StreamServer {
    /// A server that `open` reaches: it gives what to read from and what to write to. Dropping the
    /// future it returns has to give up what was half open, as futures of tokio do.
    pub fn new<Open, F, R, W>(name: impl Into<Arc<str>>, open: Open) -> Self
    where
        Open: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<(R, W)>> + Send + 'static,
        R: AsyncRead + Send + 'static,
        W: AsyncWrite + Send + 'static,
    {
        let open = move || {
            let opening = open();
            let opened: Opened = Box::pin(async move {
                let (reader, writer) = opening.await?;
                Ok((Box::pin(reader) as Reader, Box::pin(writer) as Writer))
            });
            opened
        };
        Self { name: name.into(), open: Arc::new(open), settings: StreamSettings::default() }
    }

    /// Names it, for errors, traces and the census.
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Changes waits and limits.
    #[must_use]
    pub fn with_settings(mut self, settings: StreamSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Its waits and limits.
    pub fn settings(&self) -> &StreamSettings {
        &self.settings
    }

    /// Opens the streams. The census shows a row for the connection until they are closed.
    ///
    /// # Errors
    /// What the function that opens them said.
    #[track_caller]
    pub fn open(
        &self,
        census: &Census,
    ) -> impl Future<Output = io::Result<(StreamTransport, StreamHandle)>> + Send {
        self.open_at(census.clone(), Location::caller())
    }

    pub(crate) fn open_at(
        &self,
        census: Census,
        opened_at: &'static Location<'static>,
    ) -> impl Future<Output = io::Result<(StreamTransport, StreamHandle)>> + Send + use<> {
        let (open, name, settings) =
            (Arc::clone(&self.open), Arc::clone(&self.name), self.settings);
        async move {
            let (reader, writer) = open().await?;
            let connection = Connection::open(name, (reader, writer), settings, &census, opened_at);
            let transport = StreamTransport {
                lines: LineBuffer::new(settings.line_limit_bytes),
                connection: Arc::clone(&connection),
            };
            Ok((transport, StreamHandle { connection }))
        }
    }
}

impl fmt::Debug for StreamServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("StreamServer");
        shown.field("name", &self.name).field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Why a message could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The connection is closing or closed.
    #[error("sending to server `{name}`: the connection has ended ({cause})")]
    Ended {
        /// The server.
        name: Arc<str>,
        /// Why it ended.
        cause: StreamCause,
        /// State and event.
        source: IllegalEvent,
    },
    /// The server reads too slowly, or not at all.
    #[error(
        "sending to server `{name}`: {waiting_bytes} bytes wait already, because it does not read \
         (limit {limit_bytes}, `StreamSettings::backlog_limit_bytes`)"
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
    /// The stream failed. The connection ends with this.
    #[error("writing to server `{name}`")]
    Io {
        /// The server.
        name: Arc<str>,
        /// What the stream said.
        source: io::Error,
    },
}

/// The client side of the connection, for [`rmcp::ServiceExt::serve`]. Dropped before the connection
/// was closed, it drops both streams.
#[must_use = "dropping it ends the connection"]
pub struct StreamTransport {
    connection: Arc<Connection>,
    lines: LineBuffer,
}

impl StreamTransport {
    /// Another handle on the connection.
    pub fn handle(&self) -> StreamHandle {
        StreamHandle { connection: Arc::clone(&self.connection) }
    }
}

impl Transport<RoleClient> for StreamTransport {
    type Error = StreamError;

    fn name() -> Cow<'static, str> {
        "scupper stream".into()
    }

    /// The line is queued at once, so lines keep the order of the calls. The future waits until it
    /// is written; dropped earlier, the line still goes out with the next one.
    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), StreamError>> + Send + 'static {
        let connection = Arc::clone(&self.connection);
        let queued = connection.queue(&item);
        async move { connection.written(queued?).await }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let mut chunk = [0; READ_CHUNK_BYTES];
        loop {
            if self.connection.has_ended() {
                return None;
            }
            match self.lines.next_line() {
                Ok(Some(line)) => {
                    if let Some(message) = self.connection.decode(line) {
                        self.connection.heard();
                        return Some(message);
                    }
                    continue;
                }
                Ok(None) => {}
                Err(TooLong) => {
                    let limit = self.connection.settings.line_limit_bytes;
                    self.connection.end(Event::ConnectionLost, StreamCause::LineTooLong(limit));
                    return None;
                }
            }
            let bytes = self.connection.read(&mut chunk).await?;
            self.lines.push(&chunk[..bytes]);
        }
    }

    async fn close(&mut self) -> Result<(), StreamError> {
        self.connection.close().await;
        Ok(())
    }
}

impl Drop for StreamTransport {
    fn drop(&mut self) {
        self.connection.owner_dropped();
    }
}

impl fmt::Debug for StreamTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamTransport({})", self.handle())
    }
}

/// The host's hold on a connection: clones share it, and dropping them ends nothing.
#[derive(Clone)]
pub struct StreamHandle {
    connection: Arc<Connection>,
}

impl StreamHandle {
    /// The server's name.
    pub fn name(&self) -> &str {
        &self.connection.name
    }

    /// Where the connection is in its life.
    pub fn state(&self) -> State {
        self.connection.state()
    }

    /// Ends what is written, waits for the end of what is read, for [`StreamSettings::end_grace`] at
    /// most, drops both streams, and tells how it went. The second and every concurrent close tell
    /// the same. Cancelled while no other close is under way, both are dropped on the spot.
    pub async fn close(&self) -> StreamEnd {
        self.connection.close().await
    }

    /// Drops both streams. For hosts that have no time or no runtime left.
    pub fn kill(&self) -> StreamEnd {
        self.connection.end_now(StreamCause::Killed)
    }

    /// Lets every [`close`](Self::close), under way or to come, wait for nothing.
    pub fn hurry(&self) {
        self.connection.hurry();
    }

    /// Waits until the connection carries no more messages, and tells why.
    pub async fn ended(&self) -> StreamCause {
        self.connection.ended().await
    }

    /// How it ended; `None` until both streams are dropped.
    pub fn outcome(&self) -> Option<StreamEnd> {
        self.connection.outcome()
    }
}

impl fmt::Display for StreamHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server `{}`, {}", self.name(), self.state())
    }
}

impl fmt::Debug for StreamHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamHandle({self})")
    }
}
