//! The wire of a client's HTTP server, byte by byte, over all its connections: it counts what passes, or
//! goes wrong after so many bytes.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    process,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use rustix::process::{Pid, Signal, kill_process};

use super::{super::helper::linger, Shared};
use crate::{
    lifecycle::sweep::{Direction, Fault, Point, Wire},
    peer::http::{
        control::Passing,
        meter::{Meter, WasCut},
        report::HttpReport,
    },
};

/// The wire of one server.
pub(super) struct Line {
    order: Option<Wire>,
    meter: Meter,
    /// Held while bytes pass that are counted: another connection's are counted before or after them.
    sending: Mutex<()>,
    receiving: Mutex<()>,
    /// The answer to a first call has passed: what comes after it is not counted.
    is_counted: AtomicBool,
    has_struck: AtomicBool,
    /// The response in which it went wrong had passed as a whole.
    was_whole: AtomicBool,
}

impl Line {
    /// A wire as it was ordered; without an order, one that only passes on.
    pub(super) fn new(order: Option<Wire>) -> Self {
        // Seen from here, a client's requests are read and its responses are sent.
        let passing = match order {
            None => Passing::All,
            Some(Wire::Counted) => Passing::Counted,
            Some(Wire::Cut(Point { lane, byte })) => match lane.direction {
                Direction::ToClient | Direction::ToServer => Passing::Requests(byte),
                Direction::FromClient | Direction::FromServer => Passing::Responses(byte),
            },
        };
        Self {
            order,
            meter: Meter::new(passing),
            sending: Mutex::new(()),
            receiving: Mutex::new(()),
            is_counted: AtomicBool::new(false),
            has_struck: AtomicBool::new(false),
            was_whole: AtomicBool::new(false),
        }
    }

    fn point(&self) -> Option<&Point> {
        match &self.order {
            Some(Wire::Cut(point)) => Some(point),
            _ => None,
        }
    }

    fn is_struck_by(&self, wanted: impl Fn(&Point) -> bool) -> bool {
        self.has_struck.load(SeqCst) && self.point().is_some_and(wanted)
    }

    /// The fault that has struck this connection.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.point().map(|point| point.lane.fault)
    }

    /// It goes wrong in what it writes, and has read every request whole.
    pub(super) fn is_cut_in_responses(&self) -> bool {
        self.point().is_some_and(|point| point.lane.direction == Direction::ToClient)
    }

    /// The server neither reads nor writes any more.
    pub(super) fn stalls(&self) -> bool {
        self.is_struck_by(|point| point.lane.fault == Fault::Stalls)
    }

    /// The second fault: it takes whatever comes, and answers nothing.
    pub(super) fn is_deaf(&self) -> bool {
        self.is_struck_by(|point| point.lane.twice)
    }

    /// It went wrong just after the end of a response, which the client has whole.
    pub(super) fn was_whole(&self) -> bool {
        self.was_whole.load(SeqCst)
    }
}

impl Shared {
    /// Goes wrong before the first byte, where that is the order.
    pub(super) fn begin_line(&self) -> io::Result<()> {
        let _alone = alone(&self.line.sending);
        let is_first = |point: &&Point| point.byte == 0;
        if self.line.point().filter(is_first).is_some() && !self.line.has_struck.load(SeqCst) {
            self.go_wrong()?;
            return Err(WasCut::error());
        }
        Ok(())
    }

    /// Writes bytes to a client, whose parts end at these places.
    pub(super) fn send(&self, mut to: &TcpStream, bytes: &[u8], ends: &[u64]) -> io::Result<()> {
        let line = &self.line;
        if line.order.is_none() {
            return to.write_all(bytes);
        }
        let _alone = alone(&line.sending);
        if line.stalls() {
            return Err(WasCut::error());
        }
        let now = &bytes[..line.meter.may_send(bytes.len())];
        to.write_all(now)?;
        if line.is_counted.load(SeqCst) {
            return Ok(());
        }
        if let Err(cut) = line.meter.sent(now.len(), ends) {
            line.was_whole.store(now.len() == bytes.len(), SeqCst);
            self.go_wrong()?;
            return Err(cut);
        }
        self.tell_works();
        Ok(())
    }

    /// Reads what has come from a client, and nothing beyond the last byte that is to be read.
    pub(super) fn receive(&self, mut from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        let line = &self.line;
        if line.order.is_none() {
            return from.read(buffer);
        }
        let _alone = alone(&line.receiving);
        if line.stalls() {
            return Err(WasCut::error());
        }
        let most = line.meter.may_read(buffer.len());
        let read = from.read(&mut buffer[..most])?;
        if !line.is_counted.load(SeqCst)
            && let Err(cut) = line.meter.read(read, &[])
        {
            self.go_wrong()?;
            return Err(cut);
        }
        Ok(read)
    }

    /// A head or a body has come whole; so many bytes beyond it have come too.
    pub(super) fn received(&self, beyond: usize) {
        if self.line.order == Some(Wire::Counted) && !self.line.is_counted.load(SeqCst) {
            self.line.meter.read_ends(beyond as u64);
        }
    }

    /// The answer to a first call has passed.
    pub(super) fn answered_call(&self) {
        self.tell_works();
        self.line.is_counted.store(true, SeqCst);
    }

    fn tell_works(&self) {
        if let (Some(works), false) = (self.line.meter.works(), self.line.is_counted.load(SeqCst)) {
            self.said.tell(&HttpReport::Works { works });
        }
    }

    /// The bytes have passed. What it does with the connection is the connection's own.
    fn go_wrong(&self) -> io::Result<()> {
        self.said.tell(&HttpReport::Cut { whole: self.line.was_whole() });
        if self.line.fault() == Some(Fault::Dies) {
            let own = Pid::from_raw(process::id().cast_signed());
            own.map_or(Ok(()), |own| kill_process(own, Signal::KILL))?;
            linger();
        }
        self.line.has_struck.store(true, SeqCst);
        self.line.meter.pass_on();
        Ok(())
    }
}

/// Nothing is left half done by whoever panicked.
fn alone(passing: &Mutex<()>) -> MutexGuard<'_, ()> {
    passing.lock().unwrap_or_else(PoisonError::into_inner)
}
