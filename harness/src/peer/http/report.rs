//! What the HTTP server of a judged client tells the cell, on the channel by which stdio servers tell
//! theirs; see [`super::super::report`].

use serde::{Deserialize, Serialize};

use crate::lifecycle::sweep::Works;

/// What it tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HttpReport {
    /// It listens.
    Serving {
        /// At this port of 127.0.0.1.
        port: u16,
    },
    /// A connection was made to it.
    Connected {
        /// Counted from 1.
        connection: u64,
        /// The client's port.
        port: u16,
    },
    /// A request has come whole.
    Asked {
        /// On this connection.
        connection: u64,
        /// What.
        request: Asked,
    },
    /// It was answered, or the answer has begun.
    Answered {
        /// On this connection.
        connection: u64,
        /// With this status.
        status: u16,
        /// A session that began with it.
        began: Option<String>,
        /// It is a stream of events that stays open, of this session or of none.
        stream: Option<Option<String>>,
    },
    /// A session was ended, by DELETE or by the server itself.
    SessionOver {
        /// Its id.
        session: String,
    },
    /// A connection has ended.
    Disconnected {
        /// Which.
        connection: u64,
        /// By whom.
        by: Closer,
    },
    /// What has passed so far, where it is counted for the byte sweep.
    Works {
        /// Responses to the client, and requests from it.
        works: Works,
    },
    /// The bytes have passed after which the server was to go wrong, and it does.
    Cut {
        /// What was being written had passed as a whole: the client may use the connection again, and
        /// what it says there is lost.
        whole: bool,
    },
    /// So much has been told that nothing more will be.
    TooMuch,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Asked {
    /// POST, GET, DELETE or another.
    pub verb: String,
    /// The JSON-RPC method in it; none where it is an answer, or no message.
    pub method: Option<String>,
    /// It wants an answer.
    pub is_request: bool,
    /// The session that it names.
    pub session: Option<String>,
    /// The name and version that the client gives itself in it.
    pub client: Option<(String, String)>,
    /// It is a request of the era of 2026-07-28.
    pub modern: bool,
    /// The server waits until the cell has looked.
    pub waits: bool,
}

/// Who ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Closer {
    /// The client, by its FIN.
    Client,
    /// The client, by a reset.
    ClientByReset,
    /// The server.
    Server,
}
