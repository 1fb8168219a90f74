//! The well-behaved base: a blocking stdio server of both eras, and the places where a fault
//! changes what it does.

use std::{
    io::{self, BufRead, Write},
    ops::ControlFlow::{self, Break, Continue},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::Value;

use super::{
    message::{INVALID_PARAMS, INVALID_REQUEST, Incoming, METHOD_NOT_FOUND, Request},
    sleep::Sleeps,
};
use crate::lifecycle::step::Era;

/// Whether the server goes on, or ends with an exit code.
pub(super) type Flow = ControlFlow<u8>;

/// What a fake does besides serving. Every hook's default is what a good server does.
pub(super) trait Fault {
    /// Before the first byte of stdin is read.
    fn on_start(&mut self, _out: &Output) -> io::Result<Flow> {
        Ok(Continue(()))
    }

    /// Whether requests of this era are served.
    fn speaks(&self, _era: Era) -> bool {
        true
    }

    /// A request has come; these bytes, if any, are all the client gets for it.
    fn on_request(&mut self, _request: &Request) -> Option<Vec<u8>> {
        None
    }

    /// The `nth` call of `echo`, from 1, before its answer is written: when the client has the
    /// answer, whatever leaks has leaked.
    fn on_call(&mut self, _nth: u64) -> io::Result<()> {
        Ok(())
    }

    /// A call of `sleep` was cancelled while it was in flight.
    fn on_cancel(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Puts an answer on the wire. Answers of `sleep` come later and do not pass here.
    fn on_answer(&mut self, _method: &str, answer: &[u8], out: &Output) -> io::Result<Flow> {
        out.write(answer)?;
        Ok(Continue(()))
    }

    /// Stdin has ended, and these bytes before its end have no newline.
    fn on_half_line(&mut self, _line: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// Stdin has ended. Gives the exit code; what is still asleep dies with the process.
    fn on_eof(&mut self, _sleeps: &Sleeps) -> u8 {
        0
    }
}

/// A good server.
pub(super) struct Plain;

impl Fault for Plain {}

/// The server's stdout, shared with threads that write of their own accord.
#[derive(Clone)]
pub(super) struct Output(Arc<Shared>);

struct Shared {
    stream: Mutex<Box<dyn Write + Send>>,
    /// Writers that go first.
    waiting: AtomicUsize,
}

impl Output {
    /// Wraps a stream.
    pub(super) fn new(stream: impl Write + Send + 'static) -> Self {
        let stream: Box<dyn Write + Send> = Box::new(stream);
        Self(Arc::new(Shared { stream: Mutex::new(stream), waiting: AtomicUsize::new(0) }))
    }

    /// Writes these bytes in one piece, nothing added.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        let mut stream = self.lock();
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Writes these bytes when nobody else wants to. A mutex does not queue: who lets go of it and
    /// takes it again at once would shut out everybody else.
    pub(super) fn write_last(&self, bytes: &[u8]) -> io::Result<()> {
        while self.0.waiting.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
        }
        let mut stream = self.lock();
        stream.write_all(bytes)?;
        stream.flush()
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Write + Send>> {
        self.0.stream.lock().expect("no writer panics")
    }
}

/// Says something on stderr, which may be closed.
pub(super) fn log(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Serves until the input ends or the fault ends it, and returns the exit code.
pub(super) fn serve(fault: &mut dyn Fault, input: impl BufRead, out: Output) -> u8 {
    let mut server = Server { fault, out, sleeps: Sleeps::default(), calls: 0 };
    match server.live(input) {
        Ok(Break(code)) => code,
        Ok(Continue(())) => server.fault.on_eof(&server.sleeps),
        // Nobody reads us any more, which is an end like any other.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 1,
        Err(error) => {
            log(&format!("scupper fake: {error}"));
            1
        }
    }
}

struct Server<'a> {
    fault: &'a mut dyn Fault,
    out: Output,
    sleeps: Sleeps,
    calls: u64,
}

impl Server<'_> {
    /// Reads and answers up to the end of the input. What comes before the end without a newline
    /// is no message: a client cut off in mid-line did not finish saying it.
    fn live(&mut self, mut input: impl BufRead) -> io::Result<Flow> {
        if let Break(code) = self.fault.on_start(&self.out)? {
            return Ok(Break(code));
        }
        let mut line = Vec::new();
        loop {
            line.clear();
            // A stdin that cannot be read has ended as well.
            if input.read_until(b'\n', &mut line).is_err() || line.last() != Some(&b'\n') {
                if !line.is_empty() {
                    self.fault.on_half_line(&line)?;
                }
                return Ok(Continue(()));
            }
            if let Break(code) = self.take(Incoming::parse(&line))? {
                return Ok(Break(code));
            }
        }
    }

    fn take(&mut self, message: Incoming) -> io::Result<Flow> {
        match message {
            Incoming::Request(request) => {
                if let Some(instead) = self.fault.on_request(&request) {
                    self.out.write(&instead)?;
                } else if let Some(answer) = self.answer(&request) {
                    return self.fault.on_answer(&request.method, &answer, &self.out);
                }
            }
            Incoming::Notification { method, params } => {
                if method == "notifications/cancelled"
                    && let Some(id) = params.get("requestId")
                    && self.sleeps.cancel(id)
                {
                    self.fault.on_cancel()?;
                }
            }
            Incoming::Ignored => {}
            Incoming::Invalid(complaint) => self.out.write(&complaint)?,
        }
        Ok(Continue(()))
    }

    /// The answer, or nothing when it comes later.
    fn answer(&mut self, request: &Request) -> Option<Vec<u8>> {
        let era = request.era();
        if !self.fault.speaks(era) {
            return Some(refuse(era, request));
        }
        if request.revision().is_some_and(|revision| revision != Era::Modern.revision()) {
            return Some(request.unsupported_version(&[Era::Modern.revision()]));
        }
        Some(match (era, request.method.as_str()) {
            (Era::Legacy, "initialize") => request.initialize_result(),
            (Era::Legacy, "ping") => request.result(serde_json::json!({})),
            (Era::Modern, "server/discover") => request.discover_result(serde_json::json!({})),
            (_, "tools/list") => request.tools_result(),
            (_, "tools/call") => return self.call(request),
            _ => request.error(METHOD_NOT_FOUND, "method not found"),
        })
    }

    fn call(&mut self, request: &Request) -> Option<Vec<u8>> {
        let arguments = request.params.get("arguments");
        Some(match request.params.get("name").and_then(Value::as_str) {
            Some("echo") => {
                self.calls += 1;
                let text = arguments.and_then(|given| given.get("text")).and_then(Value::as_str);
                match (self.fault.on_call(self.calls), text) {
                    (Err(error), _) => request.tool_result(&error.to_string(), true),
                    (Ok(()), None) => request.tool_result("`text` must be a string", true),
                    (Ok(()), Some(text)) => request.tool_result(text, false),
                }
            }
            Some("sleep") => {
                let Some(ms) = arguments.and_then(|given| given.get("ms")).and_then(Value::as_u64)
                else {
                    return Some(request.tool_result("`ms` must be a whole number", true));
                };
                if self.sleeps.contains(&request.id) {
                    return Some(request.error(INVALID_REQUEST, "this id is in flight already"));
                }
                let time = Duration::from_millis(ms);
                let answer = request.tool_result(&format!("slept {ms} ms"), false);
                match self.sleeps.start(&request.id, time, answer, self.out.clone()) {
                    Ok(()) => return None,
                    Err(error) => request.tool_result(&error.to_string(), true),
                }
            }
            _ => request.error(INVALID_PARAMS, "unknown tool"),
        })
    }
}

/// How a server that does not speak an era answers it, as the SDKs of either era do.
fn refuse(era: Era, request: &Request) -> Vec<u8> {
    match (era, request.method.as_str()) {
        (Era::Legacy, _) => request.unsupported_version(&[Era::Modern.revision()]),
        (Era::Modern, "server/discover") => request.error(METHOD_NOT_FOUND, "method not found"),
        (Era::Modern, _) => request.error(INVALID_REQUEST, "not initialized"),
    }
}
