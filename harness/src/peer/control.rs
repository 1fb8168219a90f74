//! How the cell tells a client process what to do, and what it hears back: one JSON object a line.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lifecycle::step::Stream;

/// From the cell to a client process, on its stdin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Start the server. Answered by [`Event::Started`] or [`Event::StartFailed`].
    Start {
        /// Program and arguments.
        command: Vec<String>,
        /// Variables added to the environment.
        environment: Vec<(String, String)>,
        /// Where to start it; where the client is, if none is named.
        directory: Option<String>,
    },
    /// Write these bytes to the server's stdin. Answered by [`Event::Wrote`] once the pipe took all.
    Write {
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Close this end of a stream. Closing stdin does not wait for bytes not yet written.
    Close {
        /// Which.
        stream: Stream,
    },
    /// Stop reading a stream.
    Stall {
        /// Which.
        stream: Stream,
    },
    /// Write or read no more than so many bytes, from the start of the server on; [`Event::Cut`] tells
    /// when the last of them has passed. Comes before [`Command::Start`].
    Cut {
        /// Stdin or stdout.
        stream: Stream,
        /// How many bytes.
        bytes: u64,
    },
    /// Answer by [`Event::Synced`]: whatever happened before has been told by then.
    Sync,
    /// Tell where every message ends, in bytes. Comes before [`Command::Start`].
    Measure,
    /// Read a stream again, or write on where a cut had stopped it.
    Resume {
        /// Which.
        stream: Stream,
    },
    /// Start a process that holds a copy of the write end of the server's stdin. Answered by
    /// [`Event::Held`].
    Hold,
}

/// From a client process to the cell, on its stdout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The server was started.
    Started {
        /// Its pid.
        pid: i32,
        /// Inodes of the pipes that are its stdin, stdout and stderr.
        pipes: [u64; 3],
    },
    /// The server could not be started.
    StartFailed {
        /// The cause.
        cause: String,
    },
    /// The pipe took all bytes of the oldest write not yet reported.
    Wrote,
    /// A write failed; nothing more goes to the server.
    WriteFailed {
        /// The cause.
        cause: String,
    },
    /// An answer to a request.
    Answer {
        /// The request's id.
        id: Option<u64>,
        /// Result or error; null where it was too large to pass on.
        body: Result<Value, Value>,
        /// Length of the line in bytes.
        bytes: u64,
    },
    /// The server asked something; it was answered politely.
    Asked {
        /// The method.
        method: String,
    },
    /// The server notified of something.
    Notified {
        /// The method.
        method: String,
        /// How many times in a row.
        times: u64,
    },
    /// A line of stdout that is no message, cut to a limit.
    Noise {
        /// The text.
        text: String,
        /// Length of the whole line in bytes.
        bytes: u64,
        /// It is text in UTF-8, as messages are.
        utf8: bool,
    },
    /// A line of stdout began and has not ended yet. Told once for a line, and not where other
    /// lines came along with it.
    Begun {
        /// What came of it so far, cut to a limit.
        text: String,
    },
    /// A line of stderr, cut to a limit.
    Stderr {
        /// The text.
        text: String,
    },
    /// A stream ended.
    Ended {
        /// Which.
        stream: Stream,
        /// Bytes read from it in all.
        bytes: u64,
    },
    /// The server exited and was reaped.
    Exited {
        /// Exit code.
        code: Option<i32>,
        /// Signal that ended it.
        signal: Option<i32>,
    },
    /// The answer to [`Command::Sync`].
    Synced,
    /// As many bytes have passed as a cut lets through.
    Cut,
    /// A message has passed as a whole.
    Passed {
        /// Stdin or stdout.
        stream: Stream,
        /// Bytes in that stream so far, its own included.
        bytes: u64,
    },
    /// The holder of a copy of stdin runs.
    Held {
        /// Its pid.
        pid: i32,
    },
    /// Output was produced faster than it could be passed on; so many events were left out.
    Dropped {
        /// How many.
        events: u64,
    },
}
