//! What the cell tells the process of its HTTP clients, and what it hears back: one JSON object a
//! line. Each client does one thing after another, and different clients do theirs at once.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lifecycle::endpoint::{Endpoint, Wire};
use crate::lifecycle::step::Era;
use crate::lifecycle::sweep::Works;

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

/// What a client is told of its server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Where.
    pub endpoint: Endpoint,
    /// Which of the two ways over HTTP.
    pub wire: Wire,
    /// Which headers messages carry.
    pub era: Era,
    /// Headers on top, of the user's.
    pub headers: Vec<(String, String)>,
}

/// What becomes of the bytes of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Passing {
    /// They pass.
    #[default]
    All,
    /// They pass, and are counted.
    Counted,
    /// So many are sent, and then the client says nothing more.
    Requests(u64),
    /// So many are read, and then the client says nothing more.
    Responses(u64),
}

/// What a client does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Connect. Over [`Wire::Sse`], open the stream and wait for the endpoint that it names.
    Open {
        /// Where to.
        place: Place,
        /// What becomes of its bytes.
        #[serde(default)]
        passing: Passing,
    },
    /// POST a message.
    Post {
        /// The message.
        message: Value,
        /// Wait for the answer.
        wait: bool,
    },
    /// Begin a POST of this body and send only so many bytes of it, so many at a time.
    Begin {
        /// The body.
        body: String,
        /// Bytes of it that are sent; all where it is absent.
        upto: Option<usize>,
        /// Milliseconds between each byte and the next; all at once where it is 0.
        pause_ms: u64,
    },
    /// Wait for the answers to all messages that were posted without waiting.
    Answers,
    /// Wait for the end of all streams.
    Ends,
    /// Open a stream of events, on a connection of its own, and read it.
    Listen {
        /// The request that is posted for it, and must be acknowledged on it. Where it is absent, the
        /// stream is opened by GET, with the id of the last event, if one came with an id.
        subscribe: Option<Value>,
    },
    /// Many requests at once on one connection, whose answers nobody reads.
    Flood {
        /// The message.
        message: Value,
        /// How many.
        times: u32,
    },
    /// Go on with this session.
    Join {
        /// Its id.
        session: Option<String>,
        /// The last event that was seen of it.
        last_event: Option<String>,
    },
    /// DELETE the session.
    Delete,
    /// Close every connection (FIN).
    Drop,
    /// Close every connection, what is in flight thrown away (RST).
    Reset,
    /// Close the connections of messages that nobody waits for (FIN), and keep the others.
    Abandon,
    /// Stop reading every stream, keep it open; the session may still be used.
    Stall,
    /// Read streams again.
    Resume,
    /// Stop reading and writing, keep every connection.
    Silence,
    /// Send nothing more on any connection (FIN), and read on.
    HalfClose,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Told {
    /// Which client says so.
    #[serde(default)]
    pub client: String,
    /// What went wrong.
    pub error: Option<String>,
    /// Why there is no HTTP behind the port.
    #[serde(default)]
    pub no_http: bool,
    /// Status of the response, where there was one.
    pub status: Option<u16>,
    /// Type of its content.
    #[serde(default)]
    pub content_type: Option<String>,
    /// The beginning of a body that is no message.
    #[serde(default)]
    pub body: Option<String>,
    /// The message that answered.
    pub answer: Option<Value>,
    /// The session that the client is in.
    #[serde(default)]
    pub session: Option<String>,
    /// The last event that it saw.
    #[serde(default)]
    pub last_event: Option<String>,
    /// Ports of this host that its connections have, those closed by this act too.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Of an answer as a stream: it did not end though all was said.
    #[serde(default)]
    pub endless: bool,
    /// The bytes of a cut have passed.
    #[serde(default)]
    pub cut: bool,
    /// Where that is counted: how many bytes have passed.
    #[serde(default)]
    pub works: Option<Works>,
}
