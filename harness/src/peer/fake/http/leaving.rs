//! Faults of a server whose client leaves: what it does not let go of then.

use std::{net::TcpStream, sync::Arc};

use super::{super::helper::linger, fault::Fault};

/// Keeps the thread and the socket of a stream that its client has closed or reset.
pub(super) struct StreamStays;

impl Fault for StreamStays {
    fn stream_left(&self, socket: Arc<TcpStream>) {
        linger();
        drop(socket);
    }
}

/// Keeps the thread and the socket of a request that its client never finished and left.
pub(super) struct HalfOpen;

impl Fault for HalfOpen {
    fn request_left(&self, socket: Arc<TcpStream>) {
        linger();
        drop(socket);
    }
}
