//! The socket of a connection, which tells when it waits.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{connection::Connection, listener::ListenerSettings};
use crate::census::Row;

/// A socket that reports reads and waiting writes to its [`Connection`], and that is reset, not
/// closed, when the connection was cut: what is unsent would otherwise stay in the kernel for minutes.
pub(super) struct Socket {
    stream: TcpStream,
    connection: Arc<Connection>,
    _row: Row,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, connection: Arc<Connection>, row: Row) -> Self {
        Self { stream, connection, _row: row }
    }

    /// Bounds what the kernel holds for the peer, and lets it find out that a peer is gone without a word: probes when nothing is sent, and
    /// a limit for what is sent and not acknowledged.
    ///
    /// # Errors
    /// What `setsockopt(2)` reports.
    pub(super) fn prepare(&self, settings: &ListenerSettings) -> io::Result<()> {
        let limit = settings.silent_peer_limit;
        let seconds = |part: u32| (limit / part).max(std::time::Duration::from_secs(1));
        self.stream.set_nodelay(true)?;
        if let Some(bytes) = settings.send_buffer_bytes {
            sockopt::set_socket_send_buffer_size(&self.stream, bytes)?;
        }
        sockopt::set_socket_keepalive(&self.stream, true)?;
        sockopt::set_tcp_keepidle(&self.stream, seconds(2))?;
        sockopt::set_tcp_keepintvl(&self.stream, seconds(6))?;
        sockopt::set_tcp_keepcnt(&self.stream, 3)?;
        let milliseconds = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(&self.stream, milliseconds)?;
        Ok(())
    }

    fn wrote<T>(&self, polled: Poll<T>) -> Poll<T> {
        self.connection.write_pending(polled.is_pending());
        polled
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.connection.was_cut().is_some() {
            // Where it fails, the socket is closed the slow way.
            self.stream.set_zero_linger().ok();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.connection.has_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
