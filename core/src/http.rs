//! The client side of Streamable HTTP, whose close ends session, streams and sockets.
//!
//! [`HttpServer::connect`] does everything and gives one thing to call and to close. For hosts that
//! run rmcp's service themselves, [`HttpServer::transport`] gives two things: an [`HttpTransport`],
//! which goes to rmcp, and an [`HttpHandle`], which stays with the host and ends the connection
//! whether or not rmcp gets around to its own close.
//!
//! A close ends rmcp's tasks and with them every request and stream, asks the server to delete the
//! session, for [`HttpSettings::delete_wait`] at most, closes the sockets, waits for hyper's tasks,
//! and forgets token and session id. The [`HttpTeardown`] tells how each went; none holds up
//! another. A drop, a cancelled close or connect and [`HttpHandle::kill`] cannot wait: they close
//! the sockets on the spot, and tell tasks to end, which they do as soon as their runtime comes to
//! them. **They send no DELETE**, so the session lives until the server's idle limit; who wants it
//! gone closes. A name that is being looked up at that moment (`getaddrinfo(3)`) is looked up to its
//! end by a thread of the runtime.
//!
//! Both eras of the protocol, as the handshake has it. Up to 2025-11-25 there may be a session, a
//! call that is dropped is cancelled by a notification, a 404 means a new session, once a request,
//! and a broken stream is opened again where it can be resumed. In 2026-07-28 there is no session,
//! and a call that is dropped closes its stream. HTTP/1.1; `https` with the feature `tls`. No
//! redirects, no proxies.
//!
//! ```no_run
//! use scupper_core::{census::Census, http::HttpServer};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let census = Census::new();
//! let server = HttpServer::new("http://127.0.0.1:8000/mcp")?.with_bearer_token("secret")?;
//! let client = server.connect((), &census).await?;
//! println!("{:?}", client.list_all_tools().await?);
//! let teardown = client.close().await;
//! println!("{teardown}");
//! assert!(census.is_empty(), "{census}");
//! # Ok(())
//! # }
//! ```

mod answer;
mod backend;
mod client;
mod connection;
mod delete;
mod dial;
mod ending;
mod error;
mod events;
mod exchange;
mod pool;
mod sessions;
mod settings;
mod socket;
mod target;
mod teardown;
#[cfg(feature = "tls")]
mod tls;

use std::{borrow::Cow, fmt, panic::Location, pin::pin, sync::Arc, task::Poll};

use http::HeaderMap;
use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};

use crate::{
    census::Census,
    lifecycle::{Event, State},
};
use connection::{Connection, lock};
use target::Target;

pub use client::{HttpClient, HttpConnectError};
pub use error::{HttpError, HttpServerError, RequestError, Unreached};
/// How events are read out of a body: open to the fuzz targets, not part of the interface.
#[doc(hidden)]
pub use events::events_in;
pub use settings::HttpSettings;
pub use teardown::{EndCause, HttpTeardown, SessionEnd};

/// A server that can be connected to, as often as wanted.
#[derive(Clone)]
pub struct HttpServer {
    name: Arc<str>,
    target: Arc<Target>,
    headers: HeaderMap,
    settings: HttpSettings,
}

impl HttpServer {
    /// The server at this endpoint, named after host and port.
    ///
    /// # Errors
    /// [`HttpServerError`] if this is no URL, has no host, holds a password, or has a scheme that is
    /// not spoken here.
    pub fn new(url: &str) -> Result<Self, HttpServerError> {
        let target = Arc::new(Target::parse(url)?);
        Ok(Self {
            name: target.authority().into(),
            target,
            headers: HeaderMap::new(),
            settings: HttpSettings::default(),
        })
    }

    /// Names it, for errors, traces and the census.
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Sends this header with every request. Its value is shown nowhere.
    ///
    /// # Errors
    /// [`HttpServerError::Header`] if it is no header, or one that the transport sets itself.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, HttpServerError> {
        target::put_header(&mut self.headers, name, value)?;
        Ok(self)
    }

    /// Sends `Authorization: Bearer` and this token with every request.
    ///
    /// # Errors
    /// [`HttpServerError::Header`] if it has characters that no header may have.
    pub fn with_bearer_token(mut self, token: &str) -> Result<Self, HttpServerError> {
        target::put_token(&mut self.headers, token)?;
        Ok(self)
    }

    /// Changes waits and limits.
    #[must_use]
    pub fn with_settings(mut self, settings: HttpSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The endpoint, its query left out, because that may hold a key.
    pub fn url(&self) -> &str {
        self.target.url()
    }

    /// The values of its headers, each named `header NAME`, credentials also without their scheme;
    /// and its query.
    #[cfg(feature = "admin")]
    pub(crate) fn secrets(&self) -> Vec<(String, String)> {
        let mut secrets = Vec::new();
        for (name, value) in &self.headers {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            if let Some((_, credentials)) = value.split_once(' ') {
                secrets.push((format!("header {name}"), credentials.to_owned()));
            }
            secrets.push((format!("header {name}"), value));
        }
        secrets
            .extend(self.target.uri().query().map(|query| ("query".to_owned(), query.to_owned())));
        secrets
    }

    /// Its waits and limits.
    pub fn settings(&self) -> &HttpSettings {
        &self.settings
    }

    /// A transport for rmcp, inside a tokio runtime with I/O and time. Nothing goes to the server
    /// before rmcp's first message. The census shows rows for the connection and the tasks that
    /// attend it, and later for session, sockets and streams, until each is gone.
    ///
    /// # Errors
    /// [`HttpConnectError::NoRuntime`] outside of a runtime.
    #[track_caller]
    pub fn transport(
        &self,
        census: &Census,
    ) -> Result<(HttpTransport, HttpHandle), HttpConnectError> {
        self.transport_at(census, Location::caller())
    }

    pub(crate) fn transport_at(
        &self,
        census: &Census,
        opened_at: &'static Location<'static>,
    ) -> Result<(HttpTransport, HttpHandle), HttpConnectError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(HttpConnectError::NoRuntime { name: Arc::clone(&self.name) });
        }
        let connection = Connection::open(
            Arc::clone(&self.name),
            Arc::clone(&self.target),
            self.headers.clone(),
            self.settings,
            census,
            opened_at,
        );
        let transport = HttpTransport { connection: Arc::clone(&connection) };
        Ok((transport, HttpHandle { connection }))
    }
}

impl fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpServer")
            .field("name", &self.name)
            .field("url", &self.url())
            .field("headers", &self.headers)
            .field("settings", &self.settings)
            .finish()
    }
}

/// The client side of an HTTP connection, for [`rmcp::ServiceExt::serve`].
///
/// Dropped before the connection was closed, it closes the sockets at once and tells the server
/// nothing.
#[must_use = "dropping it cuts the connection"]
pub struct HttpTransport {
    connection: Arc<Connection>,
}

impl HttpTransport {
    /// Another handle on the connection.
    pub fn handle(&self) -> HttpHandle {
        HttpHandle { connection: Arc::clone(&self.connection) }
    }
}

impl Transport<RoleClient> for HttpTransport {
    type Error = HttpError;

    fn name() -> Cow<'static, str> {
        "scupper http".into()
    }

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), HttpError>> + Send + 'static {
        let connection = Arc::clone(&self.connection);
        let sent = connection.check_open().map(|()| connection.hand_to_worker(item));
        async move {
            let failure = match sent?.await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            connection.check_open()?;
            Err(HttpError::Request {
                name: Arc::clone(&connection.name),
                source: Box::new(failure),
            })
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let connection = &self.connection;
        let mut ended = pin!(connection.ended.cancelled());
        let message = std::future::poll_fn(|cx| {
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            match &mut *lock(&connection.worker) {
                Some(worker) => pin!(worker.receive()).poll(cx),
                None => Poll::Ready(None),
            }
        })
        .await;
        match &message {
            Some(_) => connection.heard(),
            None => connection.end(Event::ConnectionLost, EndCause::Lost),
        }
        message
    }

    async fn close(&mut self) -> Result<(), HttpError> {
        let teardown = self.connection.close().await;
        match teardown.is_complete() {
            true => Ok(()),
            false => Err(HttpError::Incomplete(Box::new(teardown))),
        }
    }
}

impl Drop for HttpTransport {
    fn drop(&mut self) {
        self.connection.owner_dropped();
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpTransport({})", self.handle())
    }
}

/// The host's hold on a connection: clones share it, and dropping them ends nothing.
#[derive(Clone)]
pub struct HttpHandle {
    connection: Arc<Connection>,
}

impl HttpHandle {
    /// The server's name.
    pub fn name(&self) -> &str {
        &self.connection.name
    }

    /// The endpoint, its query left out, because that may hold a key.
    pub fn url(&self) -> &str {
        self.connection.target.url()
    }

    /// Where the connection is in its life.
    pub fn state(&self) -> State {
        self.connection.state()
    }

    /// The session that the server holds for this connection, if it gave one. Gone after the end.
    pub fn session_id(&self) -> Option<Arc<str>> {
        self.connection.session_id()
    }

    /// How many sockets are open to the server, those that are only being connected included.
    pub fn sockets(&self) -> usize {
        self.connection.socket_count()
    }

    /// Ends the connection, the session included, and tells how. Does not wait for rmcp's service.
    /// The second and every concurrent close tell the same.
    ///
    /// Takes [`HttpSettings::longest_end`] at most. Cancelled at any await while no other close is
    /// under way, it ends the connection on the spot, as [`kill`](Self::kill) does.
    ///
    /// # Panics
    /// Outside a tokio runtime with time; the connection ends on the spot all the same.
    /// [`kill`](Self::kill) works anywhere.
    pub async fn close(&self) -> HttpTeardown {
        self.connection.close().await
    }

    /// Closes the sockets at this moment, without a word to the server. For hosts that have no time
    /// or no runtime left.
    pub fn kill(&self) -> HttpTeardown {
        self.connection.end_now(EndCause::Killed)
    }

    /// Lets every [`close`](Self::close), under way or to come, go without waiting for the server. By
    /// itself it ends nothing and waits for nothing.
    pub fn hurry(&self) {
        self.connection.hurry();
    }

    /// Waits until the connection carries no more messages, and tells why. Sockets may still be
    /// there; see [`closed`](Self::closed). A server that goes away does not end the connection:
    /// HTTP has none, and the next request may find it back.
    pub async fn ended(&self) -> EndCause {
        self.connection.ended.cancelled().await;
        self.connection.cause()
    }

    /// Waits until everything is gone, without asking for it.
    pub async fn closed(&self) -> HttpTeardown {
        self.connection.closed().await
    }

    /// How it ended; `None` until everything is gone.
    pub fn outcome(&self) -> Option<HttpTeardown> {
        self.connection.outcome()
    }
}

impl fmt::Display for HttpHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, url, state) = (self.name(), self.url(), self.state());
        write!(f, "server `{name}` ({url}), {state}")
    }
}

impl fmt::Debug for HttpHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpHandle({self})")
    }
}
