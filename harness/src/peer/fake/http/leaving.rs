//! Faults of a server whose client leaves: what it does not let go of then.

use std::{
    io,
    net::{TcpListener, TcpStream},
    process::Child,
    sync::Arc,
};

use super::{
    super::helper::{self, Tie, Until, linger},
    fault::{Fault, Unfinished},
    keeping::lifeline,
};

/// Keeps the thread and the socket of a stream that its client has closed or reset.
pub(super) struct StreamStays;

impl Fault for StreamStays {
    fn stream_left(&self, socket: Arc<TcpStream>) {
        linger();
        drop(socket);
    }
}

/// Starts a process for each subscription, and leaves it running when the client has closed the stream.
/// The twin ends it.
pub(super) struct ChildPerSubscription {
    pub(super) fixed: bool,
}

impl Fault for ChildPerSubscription {
    fn on_start(&self, _listener: &TcpListener) -> io::Result<()> {
        // Before the first of them, so that none leaves more than it found.
        lifeline().map(drop)
    }

    fn subscribed(&self) -> io::Result<Option<Child>> {
        helper::spawn(Tie::Group, Until::ServerEnds(lifeline()?)).map(Some)
    }

    fn unsubscribed(&self, worker: Option<Child>) -> io::Result<()> {
        // Dropped, it is not reaped, and not ended either.
        let ended = worker.filter(|_| self.fixed).map(helper::end);
        ended.map_or(Ok(()), |ended| ended.map(drop))
    }
}

/// Keeps the thread and the socket of a request that its client never finished and left.
pub(super) struct HalfOpen;

impl Fault for HalfOpen {
    fn request_left(&self, socket: Arc<TcpStream>, _unfinished: Unfinished) {
        linger();
        drop(socket);
    }
}

/// Leaves a helper where its client goes between the head of a request and its body: whatever is made
/// for a request is made then, and let go of by whoever has read the body.
pub(super) struct LeaksMidRequest;

impl Fault for LeaksMidRequest {
    fn request_left(&self, socket: Arc<TcpStream>, unfinished: Unfinished) {
        if unfinished == Unfinished::BeforeBody {
            // Where no process can be started, there is none to leave.
            let _ = helper::spawn(Tie::OwnSession, Until::Killed);
        }
        drop(socket);
    }
}
