//! How servers and hosts ended.

use std::{fmt, sync::Arc, time::Duration};

use crate::{stdio::Teardown, stream::StreamEnd};

/// Who ended a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// It was removed by name.
    Removed,
    /// Another one took its name.
    Replaced,
    /// The host was shut down.
    Shutdown,
    /// It was dead when health was checked.
    Unhealthy,
    /// Whoever added it stopped waiting for it to be ready.
    AddCancelled,
    /// It never got ready.
    NotReady,
    /// The host was dropped, its scope cancelled, or its runtime shut down.
    Dropped,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EndReason::Removed => "it was removed",
            EndReason::Replaced => "it was replaced",
            EndReason::Shutdown => "the host was shut down",
            EndReason::Unhealthy => "it was found dead",
            EndReason::AddCancelled => "adding it was cancelled",
            EndReason::NotReady => "it did not get ready",
            EndReason::Dropped => "the host was dropped",
        })
    }
}

/// How the last connection to a server ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionEnd {
    /// A child process.
    Stdio(Teardown),
    /// A pair of streams.
    Stream(StreamEnd),
    /// Sockets, and a session on the other side.
    #[cfg(feature = "http-client")]
    Http(crate::http::HttpTeardown),
}

impl ConnectionEnd {
    /// From the beginning of the end to the last of it.
    pub fn took(&self) -> Duration {
        match self {
            ConnectionEnd::Stdio(teardown) => teardown.took,
            ConnectionEnd::Stream(end) => end.took,
            #[cfg(feature = "http-client")]
            ConnectionEnd::Http(teardown) => teardown.took,
        }
    }

    /// Did it have to be forced?
    pub fn was_forced(&self) -> bool {
        match self {
            ConnectionEnd::Stdio(teardown) => teardown.was_forced(),
            ConnectionEnd::Stream(end) => !end.peer_ended,
            #[cfg(feature = "http-client")]
            ConnectionEnd::Http(teardown) => teardown.cause == crate::http::EndCause::Killed,
        }
    }

    /// How many helpers it had left behind, which were killed.
    pub fn swept(&self) -> u64 {
        match self {
            ConnectionEnd::Stdio(teardown) => teardown.swept.len().try_into().unwrap_or(u64::MAX),
            ConnectionEnd::Stream(_) => 0,
            #[cfg(feature = "http-client")]
            ConnectionEnd::Http(_) => 0,
        }
    }

    /// Is everything gone, as far as could be seen? For HTTP, the session on the server too.
    pub fn is_complete(&self) -> bool {
        match self {
            ConnectionEnd::Stdio(teardown) => teardown.is_complete(),
            ConnectionEnd::Stream(_) => true,
            #[cfg(feature = "http-client")]
            ConnectionEnd::Http(teardown) => teardown.is_complete(),
        }
    }
}

impl fmt::Display for ConnectionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectionEnd::Stdio(teardown) => teardown.fmt(f),
            ConnectionEnd::Stream(end) => end.fmt(f),
            #[cfg(feature = "http-client")]
            ConnectionEnd::Http(teardown) => teardown.fmt(f),
        }
    }
}

/// How a server of a host ended.
#[derive(Clone, Debug)]
pub struct ServerEnd {
    /// Its name.
    pub server: Arc<str>,
    /// Who ended it.
    pub reason: EndReason,
    /// What it had died of before, if it had.
    pub died: Option<Arc<str>>,
    /// The end of its last connection; `None` if it had none, or was dropped.
    pub connection: Option<ConnectionEnd>,
}

impl ServerEnd {
    /// Did its last connection end without force, and completely?
    pub fn is_clean(&self) -> bool {
        self.reason != EndReason::Dropped
            && self.connection.as_ref().is_none_or(|end| end.is_complete() && !end.was_forced())
    }
}

impl fmt::Display for ServerEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server `{}` ended because {}", self.server, self.reason)?;
        if let Some(died) = &self.died {
            write!(f, "; it had died: {died}")?;
        }
        match &self.connection {
            Some(end) => write!(f, "; {end}"),
            None => Ok(()),
        }
    }
}

/// How a host ended.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// One for each server there was when the shutdown began, by name.
    pub servers: Vec<Arc<ServerEnd>>,
    /// The servers that were still there when the time was over, and were killed unless they ended in
    /// that very moment; how each ended is in its [`ServerEnd`].
    pub overran: Vec<Arc<str>>,
    /// The servers that are there all the same; their rows stay in the census.
    pub left: Vec<Arc<str>>,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, took) = (self.servers.len(), self.took.as_secs_f64() * 1000.0);
        write!(f, "host closed, {count} servers in {took:.1} ms")?;
        if !self.overran.is_empty() {
            write!(f, "; past its deadline, so not waited for: {}", self.overran.join(", "))?;
        }
        if !self.left.is_empty() {
            write!(f, "; still there: {}", self.left.join(", "))?;
        }
        for end in &self.servers {
            write!(f, "\n{end}")?;
        }
        Ok(())
    }
}
