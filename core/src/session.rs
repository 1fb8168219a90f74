//! The server side of Streamable HTTP, where every session ends on one path.
//!
//! [`Sessions`] stands where rmcp's `LocalSessionManager` stands, under the same
//! `StreamableHttpService`. A session is *connecting* until its client says something after its
//! `initialize`, then *active*, then *closing*, then closed; it has one row in the census from its
//! insertion to its removal, and one way out, whoever triggers it: DELETE, an idle sweep, a lost
//! client, an unfinished handshake, an error, a panic, a limit, the owner, a shutdown. The end of a
//! session is ordered: its service, its streams, its sockets, the owner's
//! [cleanup](Settings::cleanup); [`Removal`] tells how it went.
//!
//! A session alone cannot close a socket. [`Listener`] accepts connections and cuts those whose peer
//! is slow, stalled, idle or gone; it serves any axum router, and knows which connection serves which
//! session by the [`SessionLayer`], which [`Sessions::service`] puts around rmcp's service.
//!
//! ```
//! use rmcp::{ServerHandler, transport::StreamableHttpServerConfig};
//! use scupper_core::{
//!     census::Census,
//!     session::{ListenerSettings, Server, Sessions, Settings},
//! };
//!
//! # #[derive(Clone)] struct Demo;
//! # impl ServerHandler for Demo {}
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let census = Census::new();
//! let sessions = Sessions::start(Settings::default(), &census)?;
//! let mcp = sessions.service(|| Ok(Demo), StreamableHttpServerConfig::default());
//! let app = axum::Router::new().nest_service("/mcp", mcp);
//! let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let server = Server::serve(socket, app, sessions, ListenerSettings::default(), &census)?;
//! println!("http://{}/mcp, {}", server.address(), server.sessions().statistics());
//! println!("{}", server.close().await);
//! assert!(census.is_empty(), "{census}");
//! # Ok(())
//! # }
//! ```
//!
//! In an app that keeps its own listener (`axum::serve`), the line with `sessions.service` is all that
//! replaces `LocalSessionManager`; [`Sessions::close`] then ends the sessions, and a client that does
//! not read keeps its socket, because only a [`Listener`] can cut it.
//!
//! # What a session owns
//!
//! [`Settings::cleanup`] is called when a session begins, and says what is to be done when it ends.
//! [`session_of`] tells a handler which session it works for.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use scupper_core::{
//!     census::Census,
//!     cleanup::CleanupPlan,
//!     cursor::{self, Cursors, MemoryStore},
//!     session::Settings,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let census = Census::new();
//! let cursors = Cursors::open(MemoryStore::new(), cursor::Settings::default(), &census)?;
//! let of_session = cursors.clone();
//! let settings = Settings {
//!     cleanup: Some(Arc::new(move |session| {
//!         of_session.open_session(Arc::clone(session)).ok();
//!         let step = of_session.cleanup_step(Arc::clone(session));
//!         CleanupPlan::new().step("cursors", Duration::from_secs(5), step)
//!     })),
//!     ..Settings::default()
//! };
//! # cursors.close().await;
//! # drop(settings);
//! # Ok(())
//! # }
//! ```
//!
//! Clients of 2026-07-28 have no session, and [`session_of`] gives `None` for their requests; a host of
//! this crate prefers that revision. State that needs a session is for the older ones:
//! [`ServerSpec::with_era`](crate::host::ServerSpec::with_era) with `Era::Initialize`.
//!
//! # Who is alive
//!
//! A session is used when its client sends a message or opens a stream, when a stream of the client
//! takes a message, and while a request runs. A keep-alive comment is no use: the kernel of a client
//! that hangs takes those as well as that of one that waits. A client that only listens is therefore
//! asked, with an MCP `ping` after half of [`Settings::idle_limit`], and the answer counts. A client
//! that does neither is silent, and its session goes when `idle_limit` is over. A peer that is gone
//! without a FIN is noticed by TCP itself, see [`ListenerSettings::silent_peer_limit`].
//!
//! # Two eras
//!
//! Up to 2025-11-25 a session outlives its connections: a disconnect cancels nothing, a request runs
//! to its end, and its answer waits for [`Settings::replay_wait`] for a client that resumes the stream.
//! In 2026-07-28 there are no sessions, and closing the stream of a request cancels it; rmcp does
//! that, and [`Supervised`] sees that the handler ends.

mod accept;
mod channel;
mod connection;
mod ending;
mod error;
mod layer;
mod listener;
mod loose;
mod outbox;
mod record;
mod registry;
mod removal;
mod request;
mod server;
mod settings;
mod socket;
mod statistics;
mod stream;
mod supervised;
mod sweep;
mod transport;
mod watched;

use std::{
    panic::Location,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use futures::future::join_all;
use rmcp::{
    ServerHandler,
    transport::{StreamableHttpServerConfig, StreamableHttpService},
};
use tokio::time::{Instant, sleep};
use tower::Layer;

pub use connection::{Connection, Cut};
pub use error::SessionError;
pub use layer::{SessionLayer, SessionService};
pub use listener::{
    Forced, ListenError, Listener, ListenerClosed, ListenerSettings, ListenerStatistics,
};
pub use record::SendError;
pub use registry::Registry;
pub use removal::{Cause, Removal, SessionsClosed};
pub use rmcp::transport::streamable_http_server::session::SessionId;
pub use server::{Server, ServerClosed};
pub use settings::{MakeCleanup, OnDisconnect, Settings};
pub use statistics::Statistics;
pub use supervised::{Supervised, session_of};
pub use transport::SessionTransport;

use crate::{
    census::Census,
    scope::{ScopeError, TaskScope},
};
use registry::Shared;

/// How often [`Sessions::close`] looks whether running requests have been answered.
const LOOK: Duration = Duration::from_millis(5);
/// How long the tasks of a server get at its end, beyond the waits of their own.
const TASK_WAIT: Duration = Duration::from_secs(1);

/// The sessions of one server. End them with [`close`](Self::close); dropped, they end at once,
/// without their cleanup, and the census says so.
#[must_use = "dropping it ends its sessions"]
pub struct Sessions {
    shared: Arc<Shared>,
    scope: Arc<TaskScope>,
    closed: bool,
}

impl Sessions {
    /// No sessions yet, and the task that sweeps them.
    ///
    /// # Errors
    /// [`ScopeError::NoRuntime`] outside a tokio runtime.
    #[track_caller]
    pub fn start(settings: Settings, census: &Census) -> Result<Self, ScopeError> {
        let scope = Arc::new(TaskScope::new("sessions", census));
        let tick = settings.tick();
        let shared = Arc::new(Shared::new(settings, census, &scope, Location::caller()));
        let (weak, alarm) = (Arc::downgrade(&shared), Arc::clone(&shared.alarm));
        sabotaged!(SweeperKept => {
            let (shared, alarm) = (Arc::clone(&shared), Arc::clone(&alarm));
            let never = tokio_util::sync::CancellationToken::new();
            tokio::spawn(async move {
                let _kept = Arc::clone(&shared);
                sweep::sweep(Arc::downgrade(&shared), alarm, never, tick).await
            });
        });
        scope.spawn("sweeper", sweep::sweep(weak, alarm, scope.token().clone(), tick))?;
        Ok(Self { shared, scope, closed: false })
    }

    /// rmcp's service on these sessions: its handlers [supervised](Supervised), the
    /// [layer](SessionLayer) around it, and a request with an `Origin` that `config` does not list
    /// refused. `Host` must be loopback unless `config` lists others (`with_allowed_hosts`,
    /// `with_allowed_origins`). `make` is called for each session, and for each request without one.
    /// The cancellation token of `config` is replaced by one that [`close`](Self::close) cancels.
    pub fn service<S: ServerHandler>(
        &self,
        make: impl Fn() -> Result<S, std::io::Error> + Send + Sync + 'static,
        config: StreamableHttpServerConfig,
    ) -> SessionService<StreamableHttpService<Supervised<S>, Registry>> {
        let (grace, census) = (self.shared.settings.handler_grace, self.shared.census.clone());
        let counters = Arc::clone(&self.shared.counters);
        let config = config
            .with_cancellation_token(self.shared.token.child_token())
            .enforce_origin_validation();
        let service = StreamableHttpService::new(
            move || Ok(Supervised::new(make()?, grace, &census, &counters)),
            self.registry(),
            config,
        );
        self.layer().layer(service)
    }

    /// The sessions alone, for a `StreamableHttpService` of your own. Put [`layer`](Self::layer)
    /// around it; without, a refusal is answered with 500, and no connection is known.
    pub fn registry(&self) -> Arc<Registry> {
        Arc::new(Registry { shared: Arc::clone(&self.shared) })
    }

    /// What belongs around a service on [`registry`](Self::registry).
    pub fn layer(&self) -> SessionLayer {
        SessionLayer { shared: Arc::clone(&self.shared) }
    }

    /// Ends a session and tells how that went. `None` when there is no such session.
    pub async fn remove(&self, session: &str) -> Option<Arc<Removal>> {
        registry::removed(self.shared.remove(session, Cause::Asked)?).await
    }

    /// Sessions by state, and what became of those that were.
    pub fn statistics(&self) -> Statistics {
        self.shared.statistics()
    }

    /// The latest 64 removals, oldest first.
    pub fn removals(&self) -> Vec<Arc<Removal>> {
        self.shared.recent()
    }

    /// Takes no new sessions, gives running requests `drain_wait` to answer, and ends all sessions at
    /// the same time and the sweeper with them. It takes as long as the slowest end.
    pub async fn close(mut self) -> SessionsClosed {
        let began = Instant::now();
        self.shared.refuse_new();
        self.wait_while(began + self.shared.settings.drain_wait, |shared| {
            shared.handlers() > 0 || shared.has_running_requests()
        })
        .await;
        let sessions = self.shared.all();
        let removing = sessions
            .iter()
            .filter_map(|session| self.shared.remove(&session.id, Cause::Shutdown))
            .map(registry::removed);
        let removals = join_all(removing).await.into_iter().flatten().collect();
        // Those without a session may have been spawned and had no turn yet.
        self.shared.counters.closed.store(true, SeqCst);
        // Ends the requests without a session.
        self.shared.token.cancel();
        let deadline = Instant::now() + self.shared.settings.close_wait;
        let streams_cut = self.shared.loose.end(deadline).await;
        let deadline = Instant::now() + self.shared.settings.handler_grace + TASK_WAIT;
        self.wait_while(deadline, |shared| shared.handlers() > 0).await;
        self.scope.close(TASK_WAIT).await;
        self.closed = true;
        SessionsClosed {
            removals,
            streams_cut,
            handlers_left: self.shared.handlers(),
            took: began.elapsed(),
        }
    }

    async fn wait_while(&self, deadline: Instant, holds: impl Fn(&Shared) -> bool) {
        while holds(&self.shared) && Instant::now() < deadline {
            sleep(LOOK).await;
        }
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        if !self.closed {
            self.shared.drop_all();
        }
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sessions({})", self.statistics())
    }
}
