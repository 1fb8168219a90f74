//! One client process and the server behind it, from the cell's side.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use crate::ledger::blame::{Ending, Roles};
use crate::ledger::snapshot::ProcessId;
use crate::ledger::verdict::StepRef;
use crate::lifecycle::step::{Era, Stream};
use crate::peer::control::{Command, Event};
use crate::peer::link::{Link, Silence};
use crate::peer::wire;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// The client process.
    pub link: Link,
    /// Inodes of the server's stdin, stdout and stderr.
    pub pipes: [u64; 3],
    /// Who is who.
    pub roles: Roles,
    /// Which era is spoken.
    pub era: Era,
    /// Requests without an answer, by id, with their methods.
    pub pending: BTreeMap<u64, String>,
    /// Requests sent, answered or not.
    pub asked: u64,
    /// A request was sent whose answer is not waited for.
    pub busy: bool,
    /// The handshake was answered.
    pub answered: bool,
    /// How and when the connection was brought to its end.
    pub due: Option<Due>,
    /// Another process that holds the write end of stdin.
    pub holder: Option<ProcessId>,
    /// When the server was started.
    pub started: Instant,
    next_id: u64,
}

/// From when on a connection's processes have to go.
#[derive(Debug, Clone)]
pub struct Due {
    /// The step that ended it.
    pub step: StepRef,
    /// How.
    pub ending: Ending,
    /// When.
    pub at: Instant,
}

/// Why a wait for an answer brought none.
#[derive(Debug, Clone, PartialEq)]
pub enum NoAnswer {
    /// The deadline passed.
    Late,
    /// The server exited: code and signal.
    Exited(Option<i32>, Option<i32>),
    /// The server's stdout ended, and it lives.
    StdoutEnded,
    /// The client process is gone.
    ClientGone,
}

impl Connection {
    /// A connection whose server is about to be started.
    pub fn new(link: Link, era: Era) -> Self {
        Self {
            link,
            pipes: [0; 3],
            roles: Roles::default(),
            era,
            pending: BTreeMap::new(),
            asked: 0,
            busy: false,
            answered: false,
            due: None,
            holder: None,
            started: Instant::now(),
            next_id: 1,
        }
    }

    /// Waits for the server's start: its pid, or the cause why there is none.
    pub fn await_start(&mut self, deadline: Instant) -> Result<i32, String> {
        let started = self.link.wait(deadline, |_, event| match event {
            Event::Started { pid, pipes } => Some(Ok((*pid, *pipes))),
            Event::StartFailed { cause } => Some(Err(cause.clone())),
            _ => None,
        });
        match started {
            Ok(Ok((pid, pipes))) => {
                self.pipes = pipes;
                Ok(pid)
            }
            Ok(Err(cause)) => Err(cause),
            Err(silence) => Err(format!("the client process did not start it ({silence:?})")),
        }
    }

    /// Sends a request; gives back its id.
    pub fn request(&mut self, method: &str, params: Value) -> u64 {
        let id = self.take_id();
        let message = wire::request(self.era, id, method, params);
        self.pending.insert(id, method.to_owned());
        self.asked += 1;
        self.send(wire::line(&message));
        id
    }

    /// The first request of the handshake as bytes, with its id. It counts as sent only where all
    /// of it is.
    pub fn first_request(&mut self, sent_whole: bool) -> (u64, Vec<u8>) {
        let id = self.take_id();
        let message = wire::first_request(self.era, id);
        if sent_whole {
            self.asked += 1;
            self.pending.insert(id, message["method"].as_str().unwrap_or_default().to_owned());
        }
        (id, wire::line(&message))
    }

    /// Sends a notification.
    pub fn notify(&mut self, method: &str, params: Value) {
        let message = wire::notification(self.era, method, params);
        self.send(wire::line(&message));
    }

    /// Sends raw bytes.
    pub fn send(&mut self, bytes: Vec<u8>) {
        // A client that is gone shows in the next wait.
        let _ = self.link.send(&Command::Write { bytes });
    }

    /// Waits for one answer. Others that come meanwhile are noted as answered.
    pub fn answer(&mut self, id: u64, deadline: Instant) -> Result<Result<Value, Value>, NoAnswer> {
        if !self.pending.contains_key(&id) {
            return Ok(Ok(Value::Null));
        }
        let mut gone: Option<NoAnswer> = None;
        loop {
            // What was written before an exit is read after it is heard of: look on until the
            // stream has ended as well.
            if let Some(gone) = &gone
                && self.link.heard.stdout_ended
            {
                return Err(gone.clone());
            }
            match self.link.next(deadline) {
                Ok(Event::Answer { id: Some(of), body, .. }) => {
                    self.pending.remove(&of);
                    if of == id {
                        return Ok(body);
                    }
                }
                Ok(Event::Exited { code, signal }) => gone = Some(NoAnswer::Exited(code, signal)),
                Ok(Event::Ended { stream: Stream::Stdout, .. }) if gone.is_none() => {
                    // An exit mostly follows at once; without one the server has only stopped
                    // talking.
                    let grace = deadline.min(Instant::now() + std::time::Duration::from_secs(1));
                    let exited = self.link.wait(grace, |_, event| match event {
                        Event::Exited { code, signal } => Some((*code, *signal)),
                        _ => None,
                    });
                    return Err(match exited {
                        Ok((code, signal)) => NoAnswer::Exited(code, signal),
                        Err(_) => NoAnswer::StdoutEnded,
                    });
                }
                Ok(_) => {}
                Err(Silence::Late) => return Err(gone.unwrap_or(NoAnswer::Late)),
                Err(Silence::ClientGone) => return Err(NoAnswer::ClientGone),
            }
        }
    }

    /// Waits for answers to everything asked.
    pub fn all_answers(&mut self, deadline: Instant) -> Result<(), NoAnswer> {
        while let Some(id) = self.pending.keys().next().copied() {
            self.answer(id, deadline)?.ok();
        }
        Ok(())
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }
}
