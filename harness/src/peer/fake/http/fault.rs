//! Where a fault may interfere. Every hook's default is what a good server does.

use std::{
    io,
    net::{TcpListener, TcpStream},
    process::Child,
    sync::Arc,
};

use super::{
    super::{helper, message::Request},
    response::Response,
    server::Server,
    signals::Signals,
};
use crate::{lifecycle::step::Era, peer::http::message::Head};

/// What a session is served with, let go of when it is dropped.
pub(super) trait Equipment: Send + Sync {
    /// The answer to a request, where this is what answers it.
    fn answer(&self, _request: &Request) -> Option<Vec<u8>> {
        None
    }
}

/// Nothing.
impl Equipment for () {}

/// What a server holds while it writes an answer.
pub(super) trait WhileWriting {}

/// See [`Fault::writing`].
pub(super) type Writing<'a> = Box<dyn WhileWriting + 'a>;

/// How far a request has come that its client never finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfinished {
    /// Not to the end of its head.
    Head,
    /// To the end of its head, and no further.
    BeforeBody,
    /// Into its body.
    Body,
}

/// What a server does besides serving.
pub(super) trait Fault: Send + Sync {
    /// Whether it listens at all.
    fn listens(&self) -> bool {
        true
    }

    /// The port to listen on, where this one is asked for.
    fn port(&self, asked: u16) -> u16 {
        asked
    }

    /// Path of the endpoint.
    fn path(&self) -> &'static str {
        "/mcp"
    }

    /// It listens, and nobody was let in yet.
    fn on_start(&self, _listener: &TcpListener) -> io::Result<()> {
        Ok(())
    }

    /// A connection was let in.
    fn on_connection(&self, _socket: &TcpStream) -> io::Result<()> {
        Ok(())
    }

    /// These bytes, if any, are all that the client of a connection gets, whatever it sends.
    fn blurts(&self) -> Option<&'static [u8]> {
        None
    }

    /// A request has come; this, if anything, is its answer.
    fn on_request(&self, _head: &Head) -> Option<Response> {
        None
    }

    /// The `nth` session begins, from 1, on this connection.
    fn begin(&self, _nth: u64, _socket: &Arc<TcpStream>) -> io::Result<Arc<dyn Equipment>> {
        Ok(Arc::new(()))
    }

    /// A session has ended: deleted, expired, or the server ends.
    fn end(&self, equipment: Arc<dyn Equipment>) {
        drop(equipment);
    }

    /// Whether a session that nobody uses ends at some time.
    fn expires(&self) -> bool {
        true
    }

    /// Whether a session that is deleted is gone.
    fn deletes(&self) -> bool {
        true
    }

    /// A process that works for a subscription as long as it lasts.
    fn subscribed(&self) -> io::Result<Option<Child>> {
        Ok(None)
    }

    /// A subscription has ended, whoever ended it.
    fn unsubscribed(&self, worker: Option<Child>) -> io::Result<()> {
        worker.map_or(Ok(()), |child| helper::end(child).map(drop))
    }

    /// A client has left its stream, by closing or resetting it; this is the stream's thread.
    fn stream_left(&self, _socket: Arc<TcpStream>) {}

    /// A client has left in the middle of a request; this is the connection's thread.
    fn request_left(&self, _socket: Arc<TcpStream>, _unfinished: Unfinished) {}

    /// Held while an answer that is no stream is written.
    fn writing(&self) -> Option<Writing<'_>> {
        None
    }

    /// A process that works for a call of `sleep` as long as it lasts.
    fn worker(&self) -> io::Result<Option<Child>> {
        Ok(None)
    }

    /// A call was cancelled while it was worked on.
    fn on_cancel(&self, worker: Option<Child>) -> io::Result<()> {
        worker.map_or(Ok(()), |child| helper::end(child).map(drop))
    }

    /// Whether a call ends when its client closes the stream of the answer: the two eras have
    /// opposite rules.
    fn stops_on_disconnect(&self, era: Era) -> bool {
        era == Era::Modern
    }

    /// A signal to end has come. Gives the exit code, or nothing where it serves on.
    fn on_signal(&self, server: &Server, _signals: &Signals) -> io::Result<Option<u8>> {
        server.close();
        Ok(Some(0))
    }
}

/// A good server.
pub(super) struct Plain;

impl Fault for Plain {}
