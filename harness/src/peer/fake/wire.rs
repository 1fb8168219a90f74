//! Faults of what is written and read: not JSON, not UTF-8, not whole, not at all, in one era only.

use std::{
    fs::File,
    io,
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

/// Writes the first half of its answer to the handshake, and nothing after it.
#[derive(Default)]
pub(super) struct HalfALine {
    /// Anything more would belong to the line that was begun.
    begun: bool,
}

impl Fault for HalfALine {
    fn on_request(&mut self, _request: &Request) -> Option<Vec<u8>> {
        self.begun.then(Vec::new)
    }

    fn on_answer(&mut self, _method: &str, answer: &[u8], out: &Output) -> io::Result<Flow> {
        self.begun = true;
        out.write(&answer[..answer.len() / 2])?;
        Ok(Continue(()))
    }
}

/// Answers in Latin-1, of which one letter shows.
pub(super) struct InvalidUtf8;

impl Fault for InvalidUtf8 {
    fn on_answer(&mut self, _method: &str, answer: &[u8], out: &Output) -> io::Result<Flow> {
        let object = answer.trim_ascii().strip_suffix(b"}").unwrap_or(answer);
        out.write(&[object, b",\"served-by\":\"Caf\xe9\"}\n"].concat())?;
        Ok(Continue(()))
    }
}

/// Closes its stdout instead of answering, and stays until stdin ends.
pub(super) struct ClosesStdout {
    at_start: bool,
}

impl ClosesStdout {
    pub(super) fn build(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        Ok(Box::new(Self { at_start: settings.one_of("at", &["start", "call"])? == 0 }))
    }
}

impl Fault for ClosesStdout {
    fn on_answer(&mut self, method: &str, answer: &[u8], out: &Output) -> io::Result<Flow> {
        if self.at_start || method == "tools/call" {
            // Another file takes over the number, and with it goes the server's end of the pipe.
            rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        }
        out.write(answer)?;
        Ok(Continue(()))
    }
}

/// Serves one era only. The twin serves both.
pub(super) struct OneEra(pub(super) Era);

impl Fault for OneEra {
    fn speaks(&self, era: Era) -> bool {
        era == self.0
    }
}
