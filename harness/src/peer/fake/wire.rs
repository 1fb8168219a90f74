//! Faults of what is written and read: not JSON, not at all, too much, in one era only.

use std::{
    io::{self, Write},
    ops::ControlFlow::{Break, Continue},
};

use super::{
    helper::linger,
    message::Request,
    options::{FakeError, Settings},
    server::{Fault, Flow, Output, log},
};
use crate::lifecycle::step::Era;

/// Reads everything and answers nothing.
pub(super) struct NeverAnswers;

impl Fault for NeverAnswers {
    fn on_request(&mut self, _request: &Request) -> Option<Vec<u8>> {
        Some(Vec::new())
    }
}

/// Answers with text that is not JSON.
pub(super) struct Garbage;

impl Fault for Garbage {
    fn on_request(&mut self, request: &Request) -> Option<Vec<u8>> {
        Some(format!("?!{} was a good question\n", request.method).into_bytes())
    }
}

/// Greets on stdout before the first message. The twin greets on stderr.
pub(super) struct Banner {
    /// Clean twin?
    pub(super) fixed: bool,
}

impl Fault for Banner {
    fn on_start(&mut self, out: &Output) -> io::Result<Flow> {
        let banner = "My MCP server v1.0 listening on stdio...";
        if self.fixed {
            log(banner);
        } else {
            out.write(format!("{banner}\n").as_bytes())?;
        }
        Ok(Continue(()))
    }
}

/// Stops reading after its tools were listed, so that it never sees stdin end.
pub(super) struct StopsReading;

impl Fault for StopsReading {
    fn on_answer(&mut self, method: &str, answer: &[u8], out: &Output) -> io::Result<Flow> {
        out.write(answer)?;
        if method != "tools/list" {
            return Ok(Continue(()));
        }
        linger();
        Ok(Break(0))
    }
}

/// Begins its first answer and never ends the line.
pub(super) struct EndlessLine {
    /// How much of it to write; a line that grew for ever would only test the reader's memory.
    pub(super) bytes: usize,
    /// The line has begun, and anything more would belong to it.
    pub(super) begun: bool,
}

impl Fault for EndlessLine {
    fn on_request(&mut self, _request: &Request) -> Option<Vec<u8>> {
        self.begun.then(Vec::new)
    }

    fn on_answer(&mut self, _method: &str, _answer: &[u8], out: &Output) -> io::Result<Flow> {
        self.begun = true;
        out.write(b"{\"jsonrpc\":\"2.0\",\"endless\":\"")?;
        let chunk = [b'x'; 8192];
        let mut left = self.bytes;
        while left > 0 {
            let now = left.min(chunk.len());
            out.write(&chunk[..now])?;
            left -= now;
        }
        Ok(Continue(()))
    }
}

/// Logs so much before each answer of `echo` that a client which does not drain stderr never gets
/// one. The twin logs a line.
pub(super) struct FloodsStderr {
    lines: u32,
}

impl FloodsStderr {
    pub(super) fn build(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        let lines = settings.parsed("lines", "a whole number")?;
        Ok(Box::new(Self { lines: if settings.fixed() { 1 } else { lines } }))
    }
}

impl Fault for FloodsStderr {
    fn on_call(&mut self, nth: u64) -> io::Result<()> {
        let mut stderr = io::stderr().lock();
        for line in 1..=self.lines {
            // A client may close stderr; that is no reason to stop serving.
            let _ = stderr.write_all(format!("call {nth}, line {line}: {:.<64}\n", "").as_bytes());
        }
        Ok(())
    }
}

/// Serves one era only. The twin serves both.
pub(super) struct OneEra(pub(super) Era);

impl Fault for OneEra {
    fn speaks(&self, era: Era) -> bool {
        era == self.0
    }
}
