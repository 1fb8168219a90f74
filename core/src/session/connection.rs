//! One accepted connection: whose it is, what it is waiting for, and how it is made to end.

use std::{
    collections::HashSet,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::SessionId;

/// Why a connection was cut, which its peer sees as a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Cut {
    /// Its peer took nothing for `stalled_write_limit`, or did not read a stream fast enough.
    Stalled,
    /// The head of a request did not come to its end within `header_read_limit`.
    SlowHeader,
    /// The body of a request did not come to its end within `body_read_limit`.
    SlowBody,
    /// No request came for `idle_limit`.
    Idle,
    /// It carried a stream of a session that ended, and did not let it end.
    SessionEnded,
    /// The listener closed, and the connection overran the patience.
    Shutdown,
}

impl Cut {
    /// All reasons.
    pub const ALL: [Cut; 6] =
        [Cut::Stalled, Cut::SlowHeader, Cut::SlowBody, Cut::Idle, Cut::SessionEnded, Cut::Shutdown];
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Cut::Stalled => "peer does not read",
            Cut::SlowHeader => "request head too slow",
            Cut::SlowBody => "request body too slow",
            Cut::Idle => "idle",
            Cut::SessionEnded => "session ended",
            Cut::Shutdown => "shutdown",
        })
    }
}

/// The waits of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    pub(super) header: Duration,
    pub(super) body: Duration,
    pub(super) idle: Duration,
    pub(super) stalled_write: Duration,
}

/// A connection that a [`Listener`](super::Listener) accepted; every request on it carries it as an
/// extension, so that [`SessionLayer`](super::SessionLayer) knows which session it serves.
#[derive(Debug)]
pub struct Connection {
    number: u64,
    peer: SocketAddr,
    cut: OnceLock<Cut>,
    cutting: CancellationToken,
    finishing: CancellationToken,
    changed: Notify,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    since: Instant,
    write_pending_since: Option<Instant>,
    sessions: HashSet<SessionId>,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between two requests.
    Idle,
    /// Some bytes of a request are here.
    Head,
    /// The head of a request is here and its body is not.
    Body,
    /// A request is here, its answer is not finished.
    Answering,
}

impl Connection {
    pub(super) fn new(number: u64, peer: SocketAddr) -> Self {
        Self {
            number,
            peer,
            cut: OnceLock::new(),
            cutting: CancellationToken::new(),
            finishing: CancellationToken::new(),
            changed: Notify::new(),
            inner: Mutex::new(Inner {
                phase: Phase::Idle,
                since: Instant::now(),
                write_pending_since: None,
                sessions: HashSet::new(),
            }),
        }
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Which sessions it serves: those whose id came in a request or went in a response, until they
    /// end.
    pub fn sessions(&self) -> Vec<SessionId> {
        self.lock().sessions.iter().cloned().collect()
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Ends the connection now. What has not been sent is lost, and the peer sees a reset.
    pub(super) fn cut(&self, why: Cut) {
        // The first reason counts.
        self.cut.set(why).ok();
        self.cutting.cancel();
    }

    pub(super) fn was_cut(&self) -> Option<Cut> {
        self.cut.get().copied()
    }

    pub(super) async fn cutting(&self) {
        self.cutting.cancelled().await;
    }

    /// Ends the connection after the answer it is giving.
    pub(super) fn finish(&self) {
        self.finishing.cancel();
    }

    pub(super) async fn finishing(&self) {
        self.finishing.cancelled().await;
    }

    pub(super) fn carries(&self, session: &SessionId) {
        let mut inner = self.lock();
        if !inner.sessions.contains(session) {
            inner.sessions.insert(Arc::clone(session));
        }
    }

    /// The session has ended. A connection that serves no other one ends too.
    pub(super) fn forget(&self, session: &SessionId) {
        let mut inner = self.lock();
        if inner.sessions.remove(session) && inner.sessions.is_empty() {
            drop(inner);
            self.finish();
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        let mut inner = self.lock();
        if inner.phase == phase {
            return;
        }
        inner.phase = phase;
        inner.since = Instant::now();
        drop(inner);
        self.changed.notify_one();
    }

    /// Bytes came.
    pub(super) fn has_read(&self) {
        let idle = self.lock().phase == Phase::Idle;
        if idle {
            self.enter(Phase::Head);
        }
    }

    /// The body of the request is here, or nobody wants it any more.
    pub(super) fn body_done(&self) {
        let reading = self.lock().phase == Phase::Body;
        if reading {
            self.enter(Phase::Answering);
        }
    }

    pub(super) fn write_pending(&self, pending: bool) {
        let mut inner = self.lock();
        if !pending {
            inner.write_pending_since = None;
        } else if inner.write_pending_since.is_none() {
            inner.write_pending_since = Some(Instant::now());
            drop(inner);
            self.changed.notify_one();
        }
    }

    /// Comes back when the connection has waited too long for its peer. Only one task may wait.
    pub(super) async fn overdue(&self, waits: Waits) -> Cut {
        loop {
            let (due, why) = self.lock().due(waits);
            if Instant::now() >= due {
                return why;
            }
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn due(&self, waits: Waits) -> (Instant, Cut) {
        let far = Instant::now() + Duration::from_secs(24 * 60 * 60);
        let of_phase = match self.phase {
            Phase::Idle => (self.since + waits.idle, Cut::Idle),
            Phase::Head => (self.since + waits.header, Cut::SlowHeader),
            Phase::Body => (self.since + waits.body, Cut::SlowBody),
            Phase::Answering => (far, Cut::Stalled),
        };
        match self.write_pending_since {
            Some(since) if since + waits.stalled_write < of_phase.0 => {
                (since + waits.stalled_write, Cut::Stalled)
            }
            _ => of_phase,
        }
    }
}
