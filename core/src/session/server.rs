//! Sessions and their listener as one.

use std::{fmt, net::SocketAddr, time::Duration};

use axum::Router;
use tokio::{net::TcpListener, time::Instant};

use super::{
    ListenError, Listener, ListenerClosed, ListenerSettings, ListenerStatistics, Sessions,
    SessionsClosed,
};
use crate::census::Census;

/// A server of MCP over HTTP: a listener, and the sessions it serves.
#[derive(Debug)]
pub struct Server {
    // In the order of a drop: no new connections first.
    listener: Listener,
    sessions: Sessions,
}

/// How a server closed.
#[derive(Debug)]
#[must_use = "it tells what did not end by itself"]
pub struct ServerClosed {
    /// Its sessions.
    pub sessions: SessionsClosed,
    /// Its connections.
    pub listener: ListenerClosed,
    /// How long it took.
    pub took: Duration,
}

impl ServerClosed {
    /// Did every session and every connection end by itself?
    pub fn is_complete(&self) -> bool {
        self.sessions.is_complete() && self.listener.forced.is_empty()
    }
}

impl fmt::Display for ServerClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.sessions, self.listener)
    }
}

impl Server {
    /// Serves `app`, which contains [`Sessions::service`], on a bound socket.
    ///
    /// # Errors
    /// As [`Listener::serve`].
    #[track_caller]
    pub fn serve(
        socket: TcpListener,
        app: Router,
        sessions: Sessions,
        settings: ListenerSettings,
        census: &Census,
    ) -> Result<Self, ListenError> {
        Ok(Self { listener: Listener::serve(socket, app, settings, census)?, sessions })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Its sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// What its listener has open and has cut.
    pub fn connections(&self) -> ListenerStatistics {
        self.listener.statistics()
    }

    #[cfg(feature = "admin")]
    pub(crate) fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Ends all sessions, answering what can be answered, then all connections. Takes at most the
    /// waits of [`Settings`](super::Settings) and [`ListenerSettings`] added up.
    pub async fn close(self) -> ServerClosed {
        let began = Instant::now();
        let sessions = self.sessions.close().await;
        let listener = self.listener.close().await;
        ServerClosed { sessions, listener, took: began.elapsed() }
    }
}
