//! How a connection over streams ended.

use std::{fmt, sync::Arc, time::Duration};

/// What began the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamCause {
    /// It was closed.
    Closed,
    /// The server ended its stream.
    PeerEnded,
    /// A stream failed.
    Failed,
    /// The server sent a line longer than this, in bytes.
    LineTooLong(usize),
    /// It was ended on the spot, on purpose.
    Killed,
    /// It was dropped although it should have been closed.
    DroppedWithoutClose,
}

impl fmt::Display for StreamCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamCause::Closed => f.write_str("it was closed"),
            StreamCause::PeerEnded => f.write_str("the server ended its stream"),
            StreamCause::Failed => f.write_str("a stream failed"),
            StreamCause::LineTooLong(limit) => {
                write!(
                    f,
                    "a line was longer than {limit} bytes (`StreamSettings::line_limit_bytes`)"
                )
            }
            StreamCause::Killed => f.write_str("it was ended on the spot"),
            StreamCause::DroppedWithoutClose => f.write_str("it was dropped without close"),
        }
    }
}

/// How it went. Both streams are dropped by then.
#[derive(Clone, Debug)]
pub struct StreamEnd {
    /// The server.
    pub name: Arc<str>,
    /// What began it.
    pub cause: StreamCause,
    /// Did the server end its stream too, before both were dropped?
    pub peer_ended: bool,
    /// From the beginning of the end to the last of it.
    pub took: Duration,
}

impl fmt::Display for StreamEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "streams dropped after {} ms: {}", self.took.as_millis(), self.cause)?;
        if !self.peer_ended {
            f.write_str("; the server had not ended its own")?;
        }
        Ok(())
    }
}
