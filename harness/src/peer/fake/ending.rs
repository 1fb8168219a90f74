//! Faults of how a server ends: not at all, too late, too early.

use std::{
    io,
    ops::ControlFlow::{Break, Continue},
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use super::{
    helper::linger,
    server::{Fault, Flow, Output, log},
    sleep::Sleeps,
};

/// Stays alive when stdin ends.
pub(super) struct IgnoresEof;

impl Fault for IgnoresEof {
    fn on_eof(&mut self, _sleeps: &Sleeps) -> u8 {
        linger();
        0
    }
}

/// Stays alive when stdin ends and when it is asked to end.
pub(super) struct IgnoresEofAndTerm;

impl Fault for IgnoresEofAndTerm {
    fn on_start(&mut self, _out: &Output) -> io::Result<Flow> {
        // A handler that notes the signal for nobody: unlike SIG_IGN it needs no unsafe code.
        let noted = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGTERM, noted)?;
        Ok(Continue(()))
    }

    fn on_eof(&mut self, _sleeps: &Sleeps) -> u8 {
        linger();
        0
    }
}

/// Stays alive when stdin ends, but only once it was called: what a timer does that a call starts
/// and nobody stops.
#[derive(Default)]
pub(super) struct TimerAfterCall {
    ticks: bool,
}

impl Fault for TimerAfterCall {
    fn on_call(&mut self, _nth: u64) -> io::Result<()> {
        self.ticks = true;
        Ok(())
    }

    fn on_eof(&mut self, _sleeps: &Sleeps) -> u8 {
        if self.ticks {
            linger();
        }
        0
    }
}

/// Takes its time after the end of stdin.
pub(super) struct SlowExit {
    /// How long.
    pub(super) delay: Duration,
}

impl Fault for SlowExit {
    fn on_eof(&mut self, _sleeps: &Sleeps) -> u8 {
        // The wait is the misbehaviour itself, not a wait for anything.
        thread::sleep(self.delay);
        0
    }
}

/// Finishes what it has begun after nobody is left who wants it.
pub(super) struct BusyUntilDone;

impl Fault for BusyUntilDone {
    fn on_eof(&mut self, sleeps: &Sleeps) -> u8 {
        sleeps.wait();
        0
    }
}

/// Has nothing to serve with, and says so only on stderr. The twin says it and serves.
pub(super) struct ExitsBeforeInitialize {
    /// Clean twin?
    pub(super) fixed: bool,
    /// What it says.
    pub(super) message: String,
}

impl Fault for ExitsBeforeInitialize {
    fn on_start(&mut self, _out: &Output) -> io::Result<Flow> {
        log(&self.message);
        Ok(if self.fixed { Continue(()) } else { Break(1) })
    }
}

/// Dies within its answer to the handshake.
pub(super) struct CrashAtByte {
    /// How many bytes of the answer are written, its newline counted.
    pub(super) byte: usize,
}

impl Fault for CrashAtByte {
    fn on_answer(&mut self, method: &str, answer: &[u8], out: &Output) -> io::Result<Flow> {
        if !matches!(method, "initialize" | "server/discover") {
            out.write(answer)?;
            return Ok(Continue(()));
        }
        let written = self.byte.min(answer.len());
        out.write(&answer[..written])?;
        log(&format!("crashed after {written} of {} bytes", answer.len()));
        Ok(Break(1))
    }
}
