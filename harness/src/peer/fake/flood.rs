//! Faults of a server that writes more than anybody wants: a line, notifications, logs.

use std::{
    io::{self, Write},
    ops::ControlFlow::Continue,
    thread,
};

use super::{
    message::Request,
    options::{FakeError, Settings},
    server::{Fault, Flow, Output},
};

/// Begins its first answer and never ends the line.
pub(super) struct EndlessLine {
    /// How much of it to write; 0 is for ever, or rather until stdin ends.
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
        if self.bytes == 0 {
            flood(out, chunk.to_vec())?;
        }
        let mut left = self.bytes;
        while left > 0 {
            let now = left.min(chunk.len());
            out.write(&chunk[..now])?;
            left -= now;
        }
        Ok(Continue(()))
    }
}

/// Notifies as fast as it can from its handshake on, until stdin ends.
#[derive(Default)]
pub(super) struct FloodsStdout {
    begun: bool,
}

impl Fault for FloodsStdout {
    fn on_answer(&mut self, _method: &str, answer: &[u8], out: &Output) -> io::Result<Flow> {
        out.write(answer)?;
        if !std::mem::replace(&mut self.begun, true) {
            let notification = b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\
                \"params\":{\"level\":\"debug\",\"data\":\"still here\"}}\n";
            flood(out, notification.repeat(64))?;
        }
        Ok(Continue(()))
    }
}

/// Writes the same again and again, from a thread of its own, until nobody reads or the process
/// ends.
fn flood(out: &Output, chunk: Vec<u8>) -> io::Result<()> {
    let out = out.clone();
    let flood = move || while out.write_last(&chunk).is_ok() {};
    thread::Builder::new().name("flood".into()).spawn(flood).map(drop)
}

/// Logs so much before each answer of `echo` that a client which does not drain stderr never gets
/// one. The twin logs a line.
pub(super) struct FloodsStderr {
    lines: u32,
    at_start: bool,
}

impl FloodsStderr {
    pub(super) fn build(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        let lines = settings.parsed("lines", "a whole number")?;
        let at_start = settings.one_of("at", &["start", "call"])? == 0;
        Ok(Box::new(Self { lines: if settings.fixed() { 1 } else { lines }, at_start }))
    }

    fn flood(&self, when: &str) {
        let mut stderr = io::stderr().lock();
        for line in 1..=self.lines {
            // A client may close stderr; that is no reason to stop serving.
            let _ = stderr.write_all(format!("{when}, line {line}: {:.<64}\n", "").as_bytes());
        }
    }
}

impl Fault for FloodsStderr {
    fn on_start(&mut self, _out: &Output) -> io::Result<Flow> {
        if self.at_start {
            self.flood("start");
        }
        Ok(Continue(()))
    }

    fn on_call(&mut self, nth: u64) -> io::Result<()> {
        if !self.at_start {
            self.flood(&format!("call {nth}"));
        }
        Ok(())
    }
}
