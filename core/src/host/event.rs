//! What happens in a host, for those who listen.

use std::{fmt, sync::Arc, time::Duration};

use super::{EndReason, ServerEnd};

/// What a server of a host is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerState {
    /// It is being opened, shakes hands, or its lists are being fetched.
    Connecting,
    /// It can be used.
    Ready,
    /// It has died, or could not be opened again, and waits for the next attempt.
    Restarting {
        /// Which attempt comes next, from 1.
        attempt: u32,
        /// What it died of.
        why: Arc<str>,
    },
    /// It has died and will not be started again; everything it held is gone, and only its name is
    /// still taken.
    Dead {
        /// What it died of.
        why: Arc<str>,
    },
    /// It is being closed.
    Closing,
}

impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerState::Connecting => f.write_str("connecting"),
            ServerState::Ready => f.write_str("ready"),
            ServerState::Restarting { attempt, why } => {
                write!(f, "about to be started again (attempt {attempt}) after: {why}")
            }
            ServerState::Dead { why } => write!(f, "dead: {why}"),
            ServerState::Closing => f.write_str("closing"),
        }
    }
}

/// Something that happened to a server.
#[derive(Clone, Debug)]
pub struct HostEvent {
    /// To which one.
    pub server: Arc<str>,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum What {
    /// It was added; it is being opened now.
    Added,
    /// It is ready, for the first time or again.
    Ready,
    /// Its lists were fetched again.
    CatalogChanged,
    /// It died, or its connection broke.
    Died {
        /// Of what.
        why: Arc<str>,
    },
    /// It will be started again.
    Restarting {
        /// Which attempt it is, from 1.
        attempt: u32,
        /// How long until then.
        pause: Duration,
    },
    /// Its tools, resources and prompts are gone from the host.
    Unregistered,
    /// Its task was told to end it.
    Cancelled {
        /// By whom.
        reason: EndReason,
    },
    /// It has ended; the name is free.
    Ended(Arc<ServerEnd>),
}

impl fmt::Display for HostEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = &self.server;
        match &self.what {
            What::Added => write!(f, "`{server}` added"),
            What::Ready => write!(f, "`{server}` ready"),
            What::CatalogChanged => write!(f, "`{server}` has new lists"),
            What::Died { why } => write!(f, "`{server}` died: {why}"),
            What::Restarting { attempt, pause } => {
                write!(f, "`{server}` starts again in {pause:?}, attempt {attempt}")
            }
            What::Unregistered => write!(f, "`{server}` unregistered"),
            What::Cancelled { reason } => write!(f, "`{server}` cancelled, because {reason}"),
            What::Ended(end) => write!(f, "`{server}` ended: {end}"),
        }
    }
}
