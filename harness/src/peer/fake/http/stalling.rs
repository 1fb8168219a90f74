//! Faults of a server that is stuck in a write: its client asks, and does not read the answers.

use std::{
    io,
    net::TcpStream,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use rustix::net::sockopt::set_socket_send_buffer_size;

use super::{
    fault::{Fault, WhileWriting, Writing},
    server::Server,
    signals::Signals,
};

/// What the kernel may hold of answers that nobody reads, in bytes.
const SEND_BUFFER: usize = 32 << 10;

/// Writes one answer at a time, whoever it is for: a client that does not read its own holds up those
/// of everybody else. The twin writes them side by side.
pub(super) struct OneWriter {
    fixed: bool,
    writing: Mutex<()>,
}

impl OneWriter {
    pub(super) fn new(fixed: bool) -> Self {
        Self { fixed, writing: Mutex::new(()) }
    }
}

impl Fault for OneWriter {
    fn on_connection(&self, socket: &TcpStream) -> io::Result<()> {
        holds_little(socket)
    }

    fn writing(&self) -> Option<Writing<'_>> {
        (!self.fixed).then(|| Box::new(lock(&self.writing)) as Writing)
    }
}

/// Finishes every answer that it has begun to write before it ends. The twin does not.
pub(super) struct FinishesWriting {
    fixed: bool,
    answers: Mutex<usize>,
    written: Condvar,
}

impl FinishesWriting {
    pub(super) fn new(fixed: bool) -> Self {
        Self { fixed, answers: Mutex::new(0), written: Condvar::new() }
    }

    fn done(&self) {
        *lock(&self.answers) -= 1;
        self.written.notify_all();
    }
}

impl Fault for FinishesWriting {
    fn on_connection(&self, socket: &TcpStream) -> io::Result<()> {
        holds_little(socket)
    }

    fn writing(&self) -> Option<Writing<'_>> {
        *lock(&self.answers) += 1;
        Some(Box::new(Answer(self)))
    }

    fn on_signal(&self, server: &Server, _signals: &Signals) -> io::Result<Option<u8>> {
        if !self.fixed {
            drop(self.written.wait_while(lock(&self.answers), |answers| *answers > 0));
        }
        server.close();
        Ok(Some(0))
    }
}

impl WhileWriting for MutexGuard<'_, ()> {}
impl WhileWriting for Answer<'_> {}

/// An answer that is being written.
struct Answer<'a>(&'a FinishesWriting);

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.0.done();
    }
}

/// Makes writes to a client wait soon, and for as long as it takes.
fn holds_little(socket: &TcpStream) -> io::Result<()> {
    set_socket_send_buffer_size(socket, SEND_BUFFER)?;
    socket.set_write_timeout(None)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one step, so that a holder that panicked leaves it right.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
