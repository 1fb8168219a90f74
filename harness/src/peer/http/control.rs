//! What the cell tells the process of its HTTP clients, and what it hears back: one JSON object a
//! line, each order answered before the next.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What one client is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Which client.
    pub client: String,
    /// What.
    pub act: Act,
    /// Longest time it may take, in milliseconds.
    pub within_ms: u64,
}

/// What a client does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Connect.
    Open {
        /// `127.0.0.1:PORT`.
        address: String,
    },
    /// POST a message.
    Post {
        /// The message.
        message: Value,
        /// Wait for the answer.
        wait: bool,
    },
    /// GET: open the stream of events, on a connection of its own, and read it.
    Listen,
    /// DELETE the session.
    Delete,
    /// Close every connection (FIN).
    Drop,
    /// Close every connection, what is in flight thrown away (RST).
    Reset,
    /// Stop reading and writing, keep every connection.
    Silence,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Told {
    /// What went wrong.
    pub error: Option<String>,
    /// Status of the response, where there was one.
    pub status: Option<u16>,
    /// The message that answered.
    pub answer: Option<Value>,
}
