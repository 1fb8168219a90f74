//! What is on its way to a server: to its stdin, or into another stream.
//!
//! The writer lives in a slot that a close empties at any time; a writer holds the lock on it
//! for one non-blocking write only. Bytes belong to the outbox, not to the future that sends them:
//! a send that is cancelled in the middle of a line leaves the rest here for the next one, so lines
//! are never torn.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::lines::KEPT_CAPACITY_BYTES;

#[derive(Debug)]
pub(crate) struct Outbox<W> {
    writer: Option<W>,
    bytes: Vec<u8>,
    /// How many of `bytes` have been written.
    start: usize,
    queued_total: u64,
    written_total: u64,
    limit_bytes: usize,
}

/// The outbox is full: so many bytes wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full(pub(crate) usize);

impl<W: AsyncWrite + Unpin> Outbox<W> {
    pub(crate) fn new(writer: W, limit_bytes: usize) -> Self {
        Self {
            writer: Some(writer),
            bytes: Vec::new(),
            start: 0,
            queued_total: 0,
            written_total: 0,
            limit_bytes,
        }
    }

    /// Takes a line in; the position to write up to for it to be sent. One line always fits.
    pub(crate) fn queue(&mut self, line: &[u8]) -> Result<u64, Full> {
        let waiting = self.bytes.len() - self.start;
        if waiting > 0 && waiting + line.len() > self.limit_bytes {
            return Err(Full(waiting));
        }
        if self.start * 2 > self.bytes.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(line);
        self.queued_total += line.len() as u64;
        Ok(self.queued_total)
    }

    /// Writes until `position` has gone out. One writer at a time.
    pub(crate) fn poll_written(
        &mut self,
        cx: &mut Context<'_>,
        position: u64,
    ) -> Poll<io::Result<()>> {
        while self.written_total < position {
            let Some(writer) = self.writer.as_mut() else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let written = ready!(Pin::new(writer).poll_write(cx, &self.bytes[self.start..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.start += written;
            self.written_total += written as u64;
        }
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
            if self.bytes.capacity() > KEPT_CAPACITY_BYTES {
                self.bytes = Vec::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Closes the writer. Whoever is writing has to be woken by the caller.
    pub(crate) fn close(&mut self) {
        self.take();
    }

    /// Takes the writer out, for an end of its own; what was waiting is not written any more.
    pub(crate) fn take(&mut self) -> Option<W> {
        self.bytes = Vec::new();
        self.start = 0;
        self.writer.take()
    }

    /// Passes on what the writer itself holds back.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.writer.as_mut() {
            Some(writer) => Pin::new(writer).poll_flush(cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}
