//! An HTTP API to look at a host and change it.
//!
//! Off unless [`Admin::start`] is called. It listens on 127.0.0.1, wants a bearer [`Token`] and a
//! `Host` header that names this machine, carries one request per connection, and bounds each in
//! size, time and number. A client that does not finish its request, or does not read its answer, is
//! cut.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /mcp/servers` | lists the servers and what each is doing |
//! | `POST /mcp/servers` | adds one and waits until it is ready: an entry of an `mcpServers` file (`command` or `url`) with a `name`, and `on_duplicate`: `refuse` (default; answers 409) or `replace` |
//! | `DELETE /mcp/servers/{name}` | removes one and tells how it ended: rungs, what was swept, whether by force; 404 for an unknown name |
//! | `GET /mcp/health` | looks at all processes, drops the dead servers and names them |
//! | `GET /mcp/census` | everything alive, with where it was opened, and all figures |
//! | `GET /metrics` | the figures in OpenMetrics text, for Prometheus |
//!
//! A client that goes away while its `POST` is under way takes the server with it; an end that a
//! `DELETE` has begun goes on. Errors are JSON: what happened, the likely cause, what to do. Values
//! of `env` and `headers` are never told again: where a server's own words hold one, its name stands
//! instead.
//!
//! ```
//! use scupper_core::{admin::{Admin, Settings}, host::{self, Host}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let host = Host::new(host::Settings::default());
//! let admin = Admin::start(&host, Settings::default())?;
//! println!("http://{} with token {}", admin.address(), admin.token().reveal());
//! println!("{}", admin.close().await);
//! println!("{}", host.shutdown(host.settings().shutdown_wait).await);
//! assert!(host.census().is_empty(), "{}", host.census());
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//! curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8420/mcp/servers \
//!      -d '{"name":"files","command":"npx","args":["-y","@modelcontextprotocol/server-filesystem","."]}'
//! curl -H "Authorization: Bearer $TOKEN" -X DELETE http://127.0.0.1:8420/mcp/servers/files
//! curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8420/metrics
//! ```

mod api;
mod entry;
mod figures;
mod gate;
mod kernel;
mod metrics;
mod secrets;
mod serve;
#[cfg(feature = "http-server")]
mod sessions;
mod settings;
mod show;
mod token;
mod trouble;

use std::{
    fmt, io,
    net::SocketAddr,
    panic::Location,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::net::TcpListener;

pub use figures::{Figure, FigureKind, MoreFigures, Sample};
#[cfg(feature = "http-server")]
pub use sessions::{figures_of_server, figures_of_sessions};
pub use settings::Settings;
pub use token::{Token, TokenError};

use crate::{
    census::{Census, DroppedWithoutClose, Kind},
    host::Host,
    scope::{Ending, ScopeError, TaskOutcome, TaskScope},
};
use serve::{Acceptor, Shared};

/// A running API. End it with [`close`](Self::close); dropped, it aborts its tasks, which closes
/// their sockets, and the census says so.
///
/// It does not keep its host: once that is shut down or dropped, it takes no more requests, answers
/// those it has, and ends by itself. Its tasks and sockets are in the host's census until then.
#[derive(Debug)]
#[must_use = "dropping it ends it"]
pub struct Admin {
    address: SocketAddr,
    token: Token,
    close_wait: Duration,
    /// Held here alone, so that dropping the API drops its tasks.
    scope: Arc<TaskScope>,
    shared: Arc<Shared>,
    census: Census,
    opened_at: &'static Location<'static>,
    is_closed: bool,
}

/// Why the API could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The address is taken, or not of this machine.
    #[error(
        "binding the admin API to {address}; choose another port, or 0 for any that is free \
         (`Settings::port`)"
    )]
    Bind {
        /// Where it should have listened.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel gave no random bytes.
    #[error("making a random token for the admin API; set one (`Settings::token`)")]
    NoToken {
        /// What the kernel said.
        source: io::Error,
    },
    /// Its task could not be spawned: no runtime, or the host is closed.
    #[error(
        "starting the admin API; it needs a running tokio runtime and a host that is not closed"
    )]
    NotSpawned {
        /// Why not.
        source: ScopeError,
    },
}

/// How the API ended.
#[derive(Debug)]
#[must_use = "it tells which connections were cut"]
pub struct AdminClosed {
    /// Where it listened.
    pub address: SocketAddr,
    /// How many requests it answered.
    pub answered: u64,
    /// How many connections were cut since the start: clients that were too slow in sending or
    /// reading, and those that were still busy when the close ran out of patience.
    pub cut: u64,
    /// How its tasks ended, the latest 1024.
    pub tasks: Vec<TaskOutcome>,
    /// How long the close took.
    pub took: Duration,
}

impl AdminClosed {
    /// Are all of its tasks, and with them all of its sockets, gone?
    pub fn is_complete(&self) -> bool {
        !self.tasks.iter().any(|task| matches!(task.ending, Ending::TimedOut))
    }
}

impl fmt::Display for AdminClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, answered, cut, .. } = self;
        let took = self.took.as_secs_f64() * 1000.0;
        write!(
            f,
            "admin API on {address} closed in {took:.1} ms; {answered} requests answered, {cut} \
             connections cut"
        )?;
        for task in &self.tasks {
            if !matches!(task.ending, Ending::Finished | Ending::Cancelled) {
                write!(f, "\n{} {}", task.name, task.ending)?;
            }
        }
        Ok(())
    }
}

impl Admin {
    /// Binds and serves. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// [`AdminError`]; nothing is left behind then.
    #[track_caller]
    pub fn start(host: &Host, settings: Settings) -> Result<Self, AdminError> {
        let opened_at = Location::caller();
        let token = match &settings.token {
            Some(token) => token.clone(),
            None => Token::random().map_err(|source| AdminError::NoToken { source })?,
        };
        let census = host.census().clone();
        let scope = Arc::new(TaskScope::under(host.lifetime(), "admin API", &census));
        if tokio::runtime::Handle::try_current().is_err() {
            let source = ScopeError::NoRuntime { task: "acceptor".into() };
            return Err(AdminError::NotSpawned { source });
        }
        let wanted = settings.address();
        let bind = |source| AdminError::Bind { address: wanted, source };
        let listener = bind_to(wanted).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        sabotaged!(AdminListenerKept => crate::sabotage::keep_copy(&listener));
        let close_wait = settings.close_wait;
        let shared = Arc::new(Shared::new(host.guest(), settings, token.clone()));
        let state = format!("listening on {address}");
        let acceptor = Acceptor {
            listener,
            scope: Arc::downgrade(&scope),
            token: scope.token().clone(),
            shared: Arc::clone(&shared),
            opened_at,
            row: census.enter(Kind::Socket, "admin API", state.as_str(), opened_at),
            state,
        };
        scope
            .spawn("admin acceptor", acceptor.accept())
            .map_err(|source| AdminError::NotSpawned { source })?;
        Ok(Self { address, token, close_wait, scope, shared, census, opened_at, is_closed: false })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a request has to carry as `Authorization: Bearer …`.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Stops listening, lets requests that have arrived be answered, and cuts what is left after
    /// [`Settings::close_wait`]. All tasks and sockets are gone when it returns.
    pub async fn close(mut self) -> AdminClosed {
        let began = Instant::now();
        let tasks = self.scope.close(self.close_wait).await;
        let overstayed = tasks
            .iter()
            .filter(|task| matches!(task.ending, Ending::Aborted | Ending::TimedOut))
            .count();
        self.is_closed = true;
        let counts = &self.shared.counts;
        AdminClosed {
            address: self.address,
            answered: counts.answered.load(Relaxed),
            cut: counts.cut.load(Relaxed) + u64::try_from(overstayed).unwrap_or(u64::MAX),
            tasks,
            took: began.elapsed(),
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        // One that has ended with its host has nothing left to close.
        if self.is_closed || self.scope.is_empty() {
            return;
        }
        self.census.record_drop(DroppedWithoutClose {
            kind: Kind::Socket,
            name: "admin API".into(),
            opened_at: self.opened_at,
        });
        let opened_at = self.opened_at;
        tracing::warn!(%opened_at, "admin API dropped without close");
    }
}

fn bind_to(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
