//! Events on their way from a client process to its cell, bounded.

use std::collections::VecDeque;
use std::io::{self, Write};

use super::control::Event;

/// Bytes that may wait for the cell before unasked-for events are dropped.
const BACKLOG_LIMIT: usize = 1 << 20;

/// Events on their way to the cell.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: VecDeque<u8>,
    dropped: u64,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// An event that the cell waits for.
    pub(super) fn push(&mut self, event: &Event) {
        if self.dropped > 0 && self.bytes.len() < BACKLOG_LIMIT {
            let dropped = Event::Dropped { events: std::mem::take(&mut self.dropped) };
            self.append(&dropped);
        }
        self.append(event);
    }

    /// An event that may be left out when the cell cannot keep up.
    pub(super) fn offer(&mut self, event: &Event) {
        if self.bytes.len() < BACKLOG_LIMIT {
            self.push(event);
        } else {
            self.dropped += 1;
        }
    }

    fn append(&mut self, event: &Event) {
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            self.bytes.extend(line);
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        while !self.bytes.is_empty() {
            let (front, _) = self.bytes.as_slices();
            match rustix::io::write(&stdout, front) {
                Ok(count) => drop(self.bytes.drain(..count)),
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        stdout.flush()
    }
}
