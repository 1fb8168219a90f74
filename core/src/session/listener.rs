//! A listener whose connections end: slow, stalled, idle and silent peers are cut, sockets included.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt, io,
    net::SocketAddr,
    panic::Location,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use tokio::{
    net::TcpListener,
    sync::Notify,
    time::{Instant, timeout_at},
};
use tower::Service;

use super::{
    SessionId,
    accept::Accepting,
    connection::{Connection, Cut, Waits},
    registry::lock,
};
use crate::{
    census::{Census, DroppedWithoutClose, Kind},
    scope::{ScopeError, TaskError, TaskOutcome, TaskScope},
};

/// How long a connection that was cut gets to notice.
const CUT_WAIT: Duration = Duration::from_secs(1);
/// Waits and limits of a listener. Make one with [`Default`] and change what differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// How many connections may be open at once; one more is answered 503 and closed. Default 4096.
    pub connection_limit: usize,
    /// From the first byte of a request to the end of its head. Default 10 s.
    pub header_read_limit: Duration,
    /// From the end of the head of a request to the end of its body. Default 30 s.
    pub body_read_limit: Duration,
    /// How long a connection may be open without a request. Default 2 min.
    pub idle_limit: Duration,
    /// How long a peer may take nothing of what is to be sent. Default 30 s.
    pub stalled_write_limit: Duration,
    /// How long a peer may not be heard on the level of TCP: it acknowledges nothing that is sent,
    /// or answers no probe. Finds peers that vanished without a word, from 3 s on. Default 60 s.
    pub silent_peer_limit: Duration,
    /// How many unsent bytes the kernel may hold for a connection; the kernel allows itself twice as
    /// many. Without it, they grow to what the system allows, 4 MiB as a rule. Default 256 KiB.
    pub send_buffer_bytes: Option<usize>,
    /// How long [`close`](Listener::close) lets connections finish before it cuts them. Default 5 s.
    pub close_wait: Duration,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            connection_limit: 4096,
            header_read_limit: Duration::from_secs(10),
            body_read_limit: Duration::from_secs(30),
            idle_limit: Duration::from_secs(120),
            stalled_write_limit: Duration::from_secs(30),
            silent_peer_limit: Duration::from_secs(60),
            send_buffer_bytes: Some(256 << 10),
            close_wait: Duration::from_secs(5),
        }
    }
}

/// Connections as they are, and what became of those that were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerStatistics {
    /// Open now.
    pub open: usize,
    /// Ever accepted, without the refused ones.
    pub accepted: u64,
    /// Answered 503 because of `connection_limit`.
    pub refused: u64,
    /// Cut, by reason.
    pub cut: BTreeMap<Cut, u64>,
}

/// A connection that did not end by itself when the listener closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forced {
    /// Its peer.
    pub peer: SocketAddr,
    /// The sessions it served.
    pub sessions: Vec<SessionId>,
}

/// How a listener closed.
#[derive(Debug)]
#[must_use = "it tells which connections were cut"]
pub struct ListenerClosed {
    /// How many connections were open.
    pub open: usize,
    /// Those that had to be cut.
    pub forced: Vec<Forced>,
    /// How the tasks of the connections ended since the start, the latest 1024.
    pub tasks: Vec<TaskOutcome>,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for ListenerClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections closed in {} ms, {} of them cut",
            self.open,
            self.took.as_millis(),
            self.forced.len()
        )?;
        for forced in &self.forced {
            write!(f, "\n{} serving {:?}", forced.peer, forced.sessions)?;
        }
        Ok(())
    }
}

/// Why a listener could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The socket has no address.
    #[error("asking a listening socket for its address: {0}")]
    NoAddress(#[source] io::Error),
    /// Its task could not be spawned.
    #[error("starting the acceptor of {address}")]
    NotSpawned {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: ScopeError,
    },
}

/// A listening socket and its connections. End it with [`close`](Self::close); dropped, it aborts
/// them and says so in the census.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    acceptor: TaskScope,
    connections: Arc<TaskScope>,
    shared: Arc<Shared>,
    opened_at: &'static Location<'static>,
    closed: bool,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: ListenerSettings,
    pub(super) census: Census,
    open: Mutex<BTreeMap<u64, Arc<Connection>>>,
    /// Told when a connection has ended.
    ended: Notify,
    next_number: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    cut: [AtomicU64; Cut::ALL.len()],
}

impl Listener {
    /// Serves what comes to `listener` until it is closed. `service` is an axum `Router`, or any
    /// service of its shape; bind the socket to 127.0.0.1 unless the world shall see it.
    ///
    /// # Errors
    /// [`ListenError`]: no address, or no runtime.
    #[track_caller]
    pub fn serve<S, B>(
        listener: TcpListener,
        service: S,
        settings: ListenerSettings,
        census: &Census,
    ) -> Result<Self, ListenError>
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<TaskError>,
    {
        let opened_at = Location::caller();
        let address = listener.local_addr().map_err(ListenError::NoAddress)?;
        let shared = Arc::new(Shared {
            settings,
            census: census.clone(),
            open: Mutex::default(),
            ended: Notify::new(),
            next_number: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            cut: Default::default(),
        });
        let connections = Arc::new(TaskScope::new(format!("connections of {address}"), census));
        let acceptor = TaskScope::new(format!("acceptor of {address}"), census);
        let row = census.enter(Kind::Socket, address.to_string(), "listening", opened_at);
        sabotaged!(ListenerKept => crate::sabotage::keep_copy(&listener));
        let accepting = Accepting {
            listener,
            service,
            shared: Arc::clone(&shared),
            connections: Arc::downgrade(&connections),
            opened_at,
            _row: row,
        };
        acceptor
            .spawn("acceptor", accepting.run(acceptor.token().clone()))
            .map_err(|source| ListenError::NotSpawned { address, source })?;
        Ok(Self { address, acceptor, connections, shared, opened_at, closed: false })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is open and what was cut.
    pub fn statistics(&self) -> ListenerStatistics {
        self.shared.statistics()
    }

    /// The same for whoever shall not hold the listener.
    #[cfg(feature = "admin")]
    pub(crate) fn reader(&self) -> impl Fn() -> ListenerStatistics + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.statistics()
    }

    /// Stops listening, lets each connection finish the answer it gives, and cuts those that have
    /// not within `close_wait`.
    pub async fn close(mut self) -> ListenerClosed {
        let began = Instant::now();
        self.acceptor.close(CUT_WAIT).await;
        let connections = self.shared.connections();
        let open = connections.len();
        for connection in &connections {
            connection.finish();
        }
        self.shared.wait_until_empty(began + self.shared.settings.close_wait).await;
        let mut forced = Vec::new();
        for connection in self.shared.connections() {
            forced.push(Forced { peer: connection.peer(), sessions: connection.sessions() });
            connection.cut(Cut::Shutdown);
        }
        let tasks = self.connections.close(CUT_WAIT).await;
        self.closed = true;
        ListenerClosed { open, forced, tasks, took: began.elapsed() }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if !self.closed {
            self.shared.census.record_drop(DroppedWithoutClose {
                kind: Kind::Socket,
                name: self.address.to_string().into(),
                opened_at: self.opened_at,
            });
        }
    }
}

impl Shared {
    fn statistics(&self) -> ListenerStatistics {
        ListenerStatistics {
            open: lock(&self.open).len(),
            accepted: self.accepted.load(Relaxed),
            refused: self.refused.load(Relaxed),
            cut: Cut::ALL
                .into_iter()
                .zip(&self.cut)
                .map(|(cut, count)| (cut, count.load(Relaxed)))
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }

    /// The one way in for connections; dropping what is returned is the one way out.
    pub(super) fn insert(self: &Arc<Self>, peer: SocketAddr) -> Option<Registered> {
        let mut open = lock(&self.open);
        if open.len() >= self.settings.connection_limit {
            return None;
        }
        let number = self.next_number.fetch_add(1, Relaxed);
        let connection = Arc::new(Connection::new(number, peer));
        open.insert(number, Arc::clone(&connection));
        Some(Registered { shared: Arc::clone(self), connection })
    }

    fn connections(&self) -> Vec<Arc<Connection>> {
        lock(&self.open).values().cloned().collect()
    }

    async fn wait_until_empty(&self, deadline: Instant) {
        loop {
            let ended = self.ended.notified();
            if lock(&self.open).is_empty() || timeout_at(deadline, ended).await.is_err() {
                return;
            }
        }
    }

    pub(super) fn waits(&self) -> Waits {
        Waits {
            header: self.settings.header_read_limit,
            body: self.settings.body_read_limit,
            idle: self.settings.idle_limit,
            stalled_write: self.settings.stalled_write_limit,
        }
    }
}

/// A connection's place among the open ones.
pub(super) struct Registered {
    pub(super) shared: Arc<Shared>,
    pub(super) connection: Arc<Connection>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&self.shared.open).remove(&self.connection.number());
        if let Some(cut) = self.connection.was_cut()
            && let Some(place) = Cut::ALL.iter().position(|known| *known == cut)
        {
            self.shared.cut[place].fetch_add(1, Relaxed);
        }
        self.shared.ended.notify_waiters();
    }
}
