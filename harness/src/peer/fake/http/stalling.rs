//! Faults of a server that has more to say than a client reads.

use std::{
    io,
    net::TcpStream,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::net::sockopt::set_socket_send_buffer_size;
use serde_json::json;

use super::{
    super::options::{FakeError, Settings},
    fault::Fault,
    server::Server,
    signals::Signals,
};

/// What the kernel may hold of a stream that nobody reads, in bytes.
const SEND_BUFFER: usize = 64 << 10;
/// Longest notification, in bytes.
const MOST: usize = 2 << 20;

/// Who waits for a reader that does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// Nobody: that stream alone is behind, and closed when it is too far behind.
    Nobody,
    /// Every answer to every session.
    Answers,
    /// The end of the server.
    End,
}

/// Tells every session's stream of each call of `echo`, at length.
pub(super) struct Broadcasts {
    waits: Waits,
    bytes: usize,
    writing: Mutex<()>,
}

impl Broadcasts {
    pub(super) fn build(settings: &Settings, waits: Waits) -> Result<Box<dyn Fault>, FakeError> {
        let wanted = "a number of bytes from 1 to 2097152";
        let bytes = settings.parsed("bytes", wanted)?;
        if !(1..=MOST).contains(&bytes) {
            return Err(settings.bad_value("bytes", wanted));
        }
        let waits = if settings.fixed() { Waits::Nobody } else { waits };
        Ok(Box::new(Self { waits, bytes, writing: Mutex::new(()) }))
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault for Broadcasts {
    fn on_stream(&self, socket: &TcpStream) -> io::Result<()> {
        Ok(set_socket_send_buffer_size(socket, SEND_BUFFER)?)
    }

    fn before_answer(&self) {
        if self.waits == Waits::Answers {
            drop(self.lock());
        }
    }

    fn on_call(&self, server: &Server) {
        let _writing = (self.waits == Waits::Answers).then(|| self.lock());
        let params = json!({"level": "info", "data": "x".repeat(self.bytes)});
        let news = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params});
        let streams = server.sessions.a_stream_of_each();
        for stream in &streams {
            stream.push(news.to_string().into_bytes());
        }
        if self.waits == Waits::Answers {
            streams.iter().for_each(|stream| stream.wait_until_read());
        }
    }

    fn on_signal(&self, server: &Server, _signals: &Signals) -> io::Result<Option<u8>> {
        if self.waits == Waits::End {
            server.wait_for_readers();
        }
        server.close();
        Ok(Some(0))
    }
}
