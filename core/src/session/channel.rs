//! One stream of a session: what waits for its reader, and what is kept for one that resumes.

use std::{collections::VecDeque, fmt, num::ParseIntError, str::FromStr, sync::Arc, task::Waker};

use rmcp::{
    model::{ProgressToken, RequestId},
    transport::common::server_side_http::ServerSseMessage,
};
use tokio::time::Instant;

use super::{
    connection::Connection,
    outbox::{Limits, StreamNumber},
};

/// One stream, with or without somebody who reads it.
#[derive(Debug, Default)]
pub(super) struct Channel {
    pub(super) next_index: u64,
    /// The first message that no reader has taken.
    pub(super) next_unread: u64,
    pub(super) queue: VecDeque<(u64, ServerSseMessage)>,
    pub(super) replay: VecDeque<(u64, ServerSseMessage)>,
    pub(super) reader: Option<Reader>,
    /// Further readers of the standalone stream: kept open, told nothing, because a message must
    /// not be sent twice (MCP 2025-11-25, "Multiple Connections").
    pub(super) idle_readers: Vec<Reader>,
    pub(super) request: Option<Running>,
    pub(super) finished_at: Option<Instant>,
    /// Its reader has seen the end. One that goes earlier may come back for what it missed.
    pub(super) read_to_end: bool,
}

#[derive(Debug)]
pub(super) struct Reader {
    pub(super) number: u64,
    pub(super) waker: Option<Waker>,
    pub(super) connection: Option<Arc<Connection>>,
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: RequestId,
    pub(super) progress: Option<ProgressToken>,
    pub(super) since: Instant,
}

impl Channel {
    pub(super) fn push(
        &mut self,
        stream: StreamNumber,
        mut message: ServerSseMessage,
        limits: Limits,
    ) {
        let index = self.next_index;
        self.next_index += 1;
        message.event_id = Some(EventId { stream, index }.to_string());
        if self.replay.len() >= limits.replay {
            self.replay.pop_front();
        }
        self.replay.push_back((index, message.clone()));
        if let Some(reader) = &self.reader {
            self.queue.push_back((index, message));
            reader.wake();
        }
    }

    /// Puts what is kept after an index into the queue; without an index, what nobody has taken.
    pub(super) fn refill(&mut self, after: Option<u64>) {
        let from = after.map_or(self.next_unread, |index| index.saturating_add(1));
        self.queue = self.replay.iter().filter(|(index, _)| *index >= from).cloned().collect();
    }

    pub(super) fn is_left_over(&self) -> bool {
        self.reader.is_none() && self.finished_at.is_some()
    }
}

impl Reader {
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// What an event is called on the wire: `<index>` on the standalone stream, `<index>/<stream>` on
/// another. Unique within the session, and it names the stream to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventId {
    pub(super) stream: StreamNumber,
    pub(super) index: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stream {
            Some(stream) => write!(f, "{}/{stream}", self.index),
            None => write!(f, "{}", self.index),
        }
    }
}

impl FromStr for EventId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((index, stream)) => {
                Ok(Self { stream: Some(stream.parse()?), index: index.parse()? })
            }
            None => Ok(Self { stream: None, index: text.parse()? }),
        }
    }
}
