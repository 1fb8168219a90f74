//! What a server that a client started tells the cell, over a channel of its own: one JSON object a
//! line on a Unix socket. The cell answers two of them with a byte, the birth and the first message,
//! and only then the server goes on: so the cell has looked at it, at what it was born with and at
//! what it has started, before anything else happens. By a third byte a server that holds an answer
//! back gives it.

use serde::{Deserialize, Serialize};

use super::http::report::HttpReport;

/// What a server tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// It has started.
    Born {
        /// Which of the client's servers it is, from 0.
        server: usize,
        /// Descriptors that it has beyond its three streams, before it opened any.
        inherited: Vec<i32>,
    },
    /// A message has come.
    Heard {
        /// Its method; none where it is an answer, or no message.
        method: Option<String>,
        /// The name and version that the client gives itself in it.
        client: Option<(String, String)>,
        /// It is a request of the era of 2026-07-28.
        modern: bool,
    },
    /// Of a wire that is counted: a message has passed as a whole. Of one that is cut: so has all that
    /// was to pass.
    Passed {
        /// It is one of the server's, and else one of the client's.
        to_client: bool,
        /// Bytes that have passed in this direction, its own included.
        bytes: u64,
    },
    /// Stdin has ended.
    StdinEnded,
    /// A signal has come.
    Signalled {
        /// Its name, such as `SIGTERM`.
        name: String,
    },
    /// It exits of its own accord.
    Leaving {
        /// With this code.
        code: u8,
    },
    /// What the HTTP server tells, which the cell has started itself.
    Http(HttpReport),
}

/// Method of what a client says that gives up on a request.
pub const CANCELLED: &str = "notifications/cancelled";
/// The byte by which the cell lets a server go on.
pub const GO: u8 = b'\n';
