//! How a connection to an HTTP server ended.

use std::{fmt, sync::Arc, time::Duration};

use http::StatusCode;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndCause {
    /// The owner closed it.
    Closed,
    /// The owner killed it.
    Killed,
    /// Transport or client was dropped without a close.
    DroppedWithoutClose,
    /// The handshake failed: the server refused it, or was not there for it.
    Lost,
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EndCause::Closed => "closed",
            EndCause::Killed => "killed",
            EndCause::DroppedWithoutClose => "dropped without close",
            EndCause::Lost => "the handshake failed",
        })
    }
}

/// What became of the session on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEnd {
    /// There was none: the server is stateless, or the handshake never got so far.
    NotNeeded,
    /// The server confirmed the DELETE, or had forgotten the session already (404).
    Deleted,
    /// The server does not let clients end sessions (405). Its idle limit ends it.
    Refused,
    /// The server answered the DELETE with something else.
    Failed(StatusCode),
    /// The DELETE did not reach the server, for this reason.
    Unreachable(Arc<str>),
    /// No answer in [`HttpSettings::delete_wait`](super::HttpSettings::delete_wait).
    TimedOut,
    /// Killed or dropped, neither of which can wait for an answer: the session lives until the
    /// server's idle limit.
    NotSent,
}

impl SessionEnd {
    /// Is nothing left on the server that this side could have ended?
    pub fn is_settled(&self) -> bool {
        matches!(self, SessionEnd::NotNeeded | SessionEnd::Deleted | SessionEnd::Refused)
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionEnd::NotNeeded => f.write_str("no session to end"),
            SessionEnd::Deleted => f.write_str("session deleted"),
            SessionEnd::Refused => f.write_str("the server ends sessions itself (405 to DELETE)"),
            SessionEnd::Failed(status) => {
                write!(f, "session left behind: DELETE was answered {status}")
            }
            SessionEnd::Unreachable(why) => {
                write!(f, "session left behind: DELETE did not arrive: {why}")
            }
            SessionEnd::TimedOut => f.write_str("session left behind: DELETE was not answered"),
            SessionEnd::NotSent => f.write_str("session left behind: no DELETE was sent"),
        }
    }
}

/// The end of a connection: nothing of it is left on this side unless
/// [`problems`](Self::problems) says so.
#[derive(Clone, Debug)]
pub struct HttpTeardown {
    /// The server.
    pub name: Arc<str>,
    /// Why it ended.
    pub cause: EndCause,
    /// What the handshake failed with, where that is why it ended.
    pub failure: Option<Arc<str>>,
    /// What became of the session; of several, the one that went worst.
    pub session: SessionEnd,
    /// How many sockets were open when the end began.
    pub sockets: usize,
    /// How many streams of events were open when the end began.
    pub streams: usize,
    /// How long it took.
    pub took: Duration,
    /// What did not end, in words. The rest has ended all the same.
    pub problems: Vec<String>,
}

impl HttpTeardown {
    /// Is everything gone on this side, and no session left behind on the other?
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty() && self.session.is_settled()
    }
}

impl fmt::Display for HttpTeardown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, cause, session, sockets, streams, .. } = self;
        let took = self.took.as_secs_f64() * 1000.0;
        write!(f, "server `{name}`: {cause}")?;
        if let Some(failure) = &self.failure {
            write!(f, ": {failure}")?;
        }
        write!(
            f,
            "; {session}; open at its end: sockets {sockets}, streams {streams}; took {took:.1} ms"
        )?;
        for problem in &self.problems {
            write!(f, "; {problem}")?;
        }
        Ok(())
    }
}
