//! Events on their way from a client process to its cell, bounded.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::control::Event;

/// Bytes that may wait for the cell before unasked-for events are dropped.
const BACKLOG_LIMIT: usize = 1 << 20;

/// Events on their way to the cell.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: VecDeque<u8>,
    dropped: u64,
    /// The latest notifications, alike and not told yet: method and number.
    notified: Option<(String, u64)>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.notified.is_none()
    }

    /// An event that the cell waits for.
    pub(super) fn push(&mut self, event: &Event) {
        self.tell_notified();
        self.tell_dropped();
        self.append(event);
    }

    /// An event that may be left out when the cell cannot keep up.
    pub(super) fn offer(&mut self, event: &Event) {
        self.tell_notified();
        self.offer_times(event, 1);
    }

    /// A notification. Those of one method that come while the cell has not taken the earlier ones
    /// become one event: a server that notifies without pause must not bury its answers.
    pub(super) fn notified(&mut self, method: String) {
        match &mut self.notified {
            Some((same, times)) if *same == method => *times += 1,
            _ => {
                self.tell_notified();
                self.notified = Some((method, 1));
            }
        }
    }

    fn tell_notified(&mut self) {
        if let Some((method, times)) = self.notified.take() {
            self.offer_times(&Event::Notified { method, times }, times);
        }
    }

    fn offer_times(&mut self, event: &Event, times: u64) {
        if self.bytes.len() < BACKLOG_LIMIT {
            self.tell_dropped();
            self.append(event);
        } else {
            self.dropped += times;
        }
    }

    fn append(&mut self, event: &Event) {
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            self.bytes.extend(line);
        }
    }

    /// What was left out is told as soon as there is room again: nothing else may ever follow, and
    /// whoever waits for it has to know that it may have been among them.
    fn tell_dropped(&mut self) {
        if self.dropped > 0 && self.bytes.len() < BACKLOG_LIMIT {
            let dropped = Event::Dropped { events: std::mem::take(&mut self.dropped) };
            self.append(&dropped);
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.flush_to(io::stdout().as_fd())
    }

    fn flush_to(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        if self.bytes.is_empty() {
            self.tell_notified();
        }
        while !self.bytes.is_empty() {
            let (front, _) = self.bytes.as_slices();
            match rustix::io::write(fd, front) {
                Ok(count) => {
                    self.bytes.drain(..count);
                    self.tell_dropped();
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_is_told_even_if_nothing_follows() {
        let mut outbox = Outbox::default();
        let line = Event::Stderr { text: "x".repeat(1 << 10) };
        for _ in 0..2 << 10 {
            outbox.offer(&line);
        }
        let dropped = outbox.dropped;
        assert!(dropped > 0);
        assert_eq!(told(&mut outbox).last(), Some(&Event::Dropped { events: dropped }));
    }

    #[test]
    fn notifications_that_nobody_took_yet_are_counted_in_their_place() {
        let mut outbox = Outbox::default();
        for method in ["a", "a", "b", "a", "a"] {
            outbox.notified(method.to_owned());
        }
        outbox.push(&Event::Wrote);
        outbox.notified("a".to_owned());
        let notified = |method: &str, times| Event::Notified { method: method.to_owned(), times };
        let expected =
            [notified("a", 2), notified("b", 1), notified("a", 2), Event::Wrote, notified("a", 1)];
        // The last one has to wait until what stands before it is taken.
        let mut events = told(&mut outbox);
        events.extend(told(&mut outbox));
        assert_eq!(events, expected);
        assert!(outbox.is_empty());
    }

    /// What an outbox tells somebody who takes all.
    fn told(outbox: &mut Outbox) -> Vec<Event> {
        let written = tempfile::tempfile().expect("a file");
        outbox.flush_to(written.as_fd()).expect("it takes all");
        let size = written.metadata().expect("it is there").len() as usize;
        let mut bytes = vec![0; size];
        std::os::unix::fs::FileExt::read_exact_at(&written, &mut bytes, 0).expect("it was written");
        bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("an event"))
            .collect()
    }
}
