//! A watched server's wire, byte by byte: it counts what passes, or goes wrong after so many bytes.

use std::{
    fs::File,
    io::{self, Read, Write},
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use super::helper::linger;
use crate::{
    lifecycle::sweep::{Direction, Fault, Point, STALL, Wire},
    peer::report::Report,
};

/// What is said to whoever judges.
pub(super) type Tell = Arc<dyn Fn(&Report) + Send + Sync>;

/// The wire of one server; both of its ends share it.
#[derive(Clone)]
pub(super) struct Line(Arc<State>);

struct State {
    order: Option<Wire>,
    read: AtomicU64,
    written: AtomicU64,
    /// Nobody reads what is written any more: stdout is closed.
    mute: AtomicBool,
    /// Stdin is closed by the server itself, which leaves when it would read on.
    leaves: AtomicBool,
    tell: Tell,
}

impl Line {
    /// A wire as it was ordered; without an order, one that only passes on.
    pub(super) fn new(order: Option<Wire>, tell: Tell) -> Self {
        let zero = || AtomicU64::new(0);
        let (mute, leaves) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(State { order, read: zero(), written: zero(), mute, leaves, tell }))
    }

    /// Goes wrong before the first byte, where that is the order.
    pub(super) fn begin(&self) -> io::Result<()> {
        match self.0.order {
            Some(Wire::Cut(point)) if point.byte == 0 => self.go_wrong(&point),
            _ => Ok(()),
        }
    }

    /// Stdin.
    pub(super) fn reader(&self) -> Reader {
        Reader(self.clone())
    }

    /// Stdout.
    pub(super) fn writer(&self) -> Writer {
        Writer(self.clone())
    }

    /// How many bytes may still pass before it goes wrong in this direction.
    fn room(&self, direction: Direction) -> Option<(u64, Point)> {
        let passed = match direction {
            Direction::ToClient => &self.0.written,
            _ => &self.0.read,
        };
        match self.0.order {
            Some(Wire::Cut(point)) if point.lane.direction == direction => {
                // Once it has gone wrong, the rest passes as its fault lets it.
                let left = point.byte.checked_sub(passed.load(Relaxed))?;
                (left > 0).then_some((left, point))
            }
            _ => None,
        }
    }

    fn count(&self, to_client: bool, bytes: u64, ends_line: bool) {
        if self.0.order == Some(Wire::Counted) && ends_line {
            (self.0.tell)(&Report::Passed { to_client, bytes });
        }
    }

    fn go_wrong(&self, point: &Point) -> io::Result<()> {
        let to_client = point.lane.direction == Direction::ToClient;
        (self.0.tell)(&Report::Passed { to_client, bytes: point.byte });
        match point.lane.fault {
            Fault::Dies => {
                // Its own deed, and no signal of the client's.
                (self.0.tell)(&Report::Leaving { code: 137 });
                let own = Pid::from_raw(process::id().cast_signed());
                own.map_or(Ok(()), |own| kill_process(own, Signal::KILL))?;
                linger();
            }
            Fault::Closes => {
                rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
                rustix::stdio::dup2_stdout(sink()?)?;
                rustix::stdio::dup2_stderr(sink()?)?;
                linger();
            }
            Fault::HalfCloses => {
                rustix::stdio::dup2_stdout(sink()?)?;
                self.0.mute.store(true, Relaxed);
            }
            Fault::Resets => {
                rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
                self.0.leaves.store(true, Relaxed);
            }
            Fault::Stalls => self.leave(),
        }
        Ok(())
    }

    /// Does nothing for a moment, and exits.
    fn leave(&self) -> ! {
        thread::sleep(STALL);
        (self.0.tell)(&Report::Leaving { code: 0 });
        process::exit(0);
    }
}

fn sink() -> io::Result<File> {
    File::options().write(true).open("/dev/null")
}

/// Stdin of which no byte is read ahead.
pub(super) struct Reader(Line);

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Line(state) = &self.0;
        if state.leaves.load(Relaxed) {
            self.0.leave();
        }
        let room = self.0.room(Direction::FromClient);
        let most = room.map_or(buffer.len(), |(left, _)| {
            buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX))
        });
        let read = rustix::io::retry_on_intr(|| {
            rustix::io::read(rustix::stdio::stdin(), &mut buffer[..most])
        })?;
        let before = state.read.fetch_add(read as u64, Relaxed);
        for (at, byte) in buffer[..read].iter().enumerate() {
            self.0.count(false, before + at as u64 + 1, *byte == b'\n');
        }
        if let Some((left, point)) = room
            && read as u64 == left
        {
            self.0.go_wrong(&point)?;
        }
        Ok(read)
    }
}

/// Stdout, byte by byte where that is ordered.
pub(super) struct Writer(Line);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Line(state) = &self.0;
        let room = self.0.room(Direction::ToClient);
        let most = room.map_or(bytes.len(), |(left, _)| {
            bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))
        });
        let written = match state.mute.load(Relaxed) {
            true => bytes.len(),
            false => rustix::io::retry_on_intr(|| {
                rustix::io::write(rustix::stdio::stdout(), &bytes[..most])
            })?,
        };
        let all = state.written.fetch_add(written as u64, Relaxed) + written as u64;
        self.0.count(true, all, bytes[..written].ends_with(b"\n"));
        if let Some((left, point)) = room
            && written as u64 == left
        {
            self.0.go_wrong(&point)?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
