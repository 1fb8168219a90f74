//! One client process and the server behind it, from the cell's side.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::ledger::blame::{Ending, Roles};
use crate::ledger::snapshot::ProcessId;
use crate::ledger::verdict::{LAST_ON_STDERR, StepRef};
use crate::lifecycle::step::{Era, Stream};
use crate::peer::control::{Command, Event};
use crate::peer::link::{Link, Silence};
use crate::peer::wire;

/// How long an exit may take to be heard of after the end of stdout.
const EXIT_FOLLOWS: Duration = Duration::from_secs(1);
/// How long the last words of a server that has exited are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Longest time that a client process may take to tell what it knows.
const SYNC: Duration = Duration::from_secs(10);
/// Longest part of a line of stderr in a note, in characters.
const LINE_IN_NOTE: usize = 160;

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
    /// Writes handed to the client.
    pub sent: u64,
    /// Requests sent, answered or not.
    pub asked: u64,
    /// A call was made whose answer is not waited for.
    pub busy: bool,
    /// The handshake was answered.
    pub answered: bool,
    /// The stream on which a cut ends what the client says, where there is one.
    pub cut: Option<Stream>,
    /// The server was sent a signal that ends processes.
    pub signalled: bool,
    /// How and when the connection was brought to its end.
    pub due: Option<Due>,
    /// The process that the client started was dead before its end was asked for.
    pub was_gone: bool,
    /// Another process that holds the write end of stdin.
    pub holder: Option<ProcessId>,
    /// Pids of all that ever did so, for as long as the connection is in the books.
    pub holders: Vec<i32>,
    /// When the server was started.
    pub started: Instant,
    next_id: u64,
    /// Messages that steps have waited for.
    read: u64,
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
    /// The deadline passed, and a line of so many bytes had come, which is more than is read as one
    /// message.
    TooLong(u64),
    /// The server exited: code and signal.
    Exited(Option<i32>, Option<i32>),
    /// The server's stdout ended, and it lives.
    StdoutEnded,
    /// The client process is gone, or takes no commands.
    ClientGone,
    /// The life was cut before it came.
    Cut,
}

impl Connection {
    /// Waits for the end of stderr: what a server wrote last may come after the news of its exit. A
    /// helper may keep the stream open, so that its end never comes.
    pub fn hear_last_words(&mut self) {
        if !self.link.heard.stderr_ended {
            let until = Instant::now() + LAST_WORDS;
            let _ = self.link.wait(until, |heard, _| heard.stderr_ended.then_some(()));
        }
    }

    /// The end of a note on a server that is gone: the last line of its stderr, if it wrote any.
    pub fn last_on_stderr(&mut self, drained: bool) -> String {
        if drained {
            self.hear_last_words();
        }
        let last = self.link.heard.stderr.iter().rev().find(|line| !line.trim().is_empty());
        last.map_or_else(String::new, |line| {
            let line: String = line.trim().chars().take(LINE_IN_NOTE).collect();
            format!("{LAST_ON_STDERR}{line}")
        })
    }

    /// A connection whose server is about to be started.
    pub fn new(link: Link, era: Era) -> Self {
        Self {
            link,
            pipes: [0; 3],
            roles: Roles::default(),
            era,
            pending: BTreeMap::new(),
            sent: 0,
            asked: 0,
            busy: false,
            answered: false,
            cut: None,
            signalled: false,
            due: None,
            was_gone: false,
            holder: None,
            holders: Vec::new(),
            started: Instant::now(),
            next_id: 1,
            read: 0,
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
        self.sent += 1;
        // A client that is gone shows in the next wait.
        let _ = self.link.send(&Command::Write { bytes });
    }

    /// Waits for one answer. It may have come already, while another step waited for something else.
    pub fn answer(&mut self, id: u64, deadline: Instant) -> Result<Result<Value, Value>, NoAnswer> {
        self.answer_by(id, deadline).unwrap_or_else(|| Err(self.unanswered()))
    }

    /// The same; none where nothing has come by then, so that one may wait on.
    pub fn answer_by(
        &mut self,
        id: u64,
        deadline: Instant,
    ) -> Option<Result<Result<Value, Value>, NoAnswer>> {
        if !self.pending.contains_key(&id) {
            return Some(Ok(Ok(Value::Null)));
        }
        loop {
            if let Some(body) = self.link.heard.answers.remove(&id) {
                self.pending.remove(&id);
                self.read = self.link.heard.messages;
                self.know_whether_cut();
                return Some(Ok(body));
            }
            // What was written before an exit is read after it is heard of: look on until the
            // stream has ended as well.
            if self.link.heard.stdout_ended {
                return Some(Err(self.ended()));
            }
            if self.is_cut() {
                return Some(Err(NoAnswer::Cut));
            }
            match self.link.next(deadline) {
                Ok(_) => {}
                Err(Silence::Late) => return None,
                Err(Silence::ClientGone) => return Some(Err(NoAnswer::ClientGone)),
            }
        }
    }

    /// Whether the bytes of a cut have passed, so that the client says nothing more.
    pub fn is_cut(&self) -> bool {
        self.cut.is_some() && self.link.heard.cut
    }

    /// The end of an answer may be where a cut comes, of which the news follows.
    fn know_whether_cut(&mut self) {
        if self.cut.is_some() && !self.link.heard.cut && self.link.send(&Command::Sync) {
            let until = Instant::now() + SYNC;
            let synced = |_: &_, event: &Event| matches!(event, Event::Synced).then_some(());
            let _ = self.link.wait(until, synced);
        }
    }

    /// Waits for answers to everything asked.
    pub fn all_answers(&mut self, deadline: Instant) -> Result<(), NoAnswer> {
        while let Some(id) = self.pending.keys().next().copied() {
            self.answer(id, deadline)?.ok();
        }
        Ok(())
    }

    /// Waits for so many messages, those counted that came since the last answer that was waited
    /// for.
    pub fn messages(&mut self, count: u32, deadline: Instant) -> Result<(), Silence> {
        let until = self.read + u64::from(count);
        while self.link.heard.messages < until {
            self.link.next(deadline)?;
        }
        self.read = until;
        Ok(())
    }

    /// The latest request that has no answer yet.
    pub fn latest_unanswered(&self) -> Option<u64> {
        let answers = &self.link.heard.answers;
        self.pending.keys().rev().copied().find(|id| !answers.contains_key(id))
    }

    /// Why what is waited for may have come without being seen.
    pub fn unseen(&self) -> Option<String> {
        let dropped = self.link.heard.dropped;
        (dropped > 0).then(|| {
            format!(
                "the server wrote faster than could be read, and {dropped} of its lines were left \
                 out"
            )
        })
    }

    /// Why an answer has not come in time.
    pub fn unanswered(&self) -> NoAnswer {
        self.exited().unwrap_or_else(|| self.late())
    }

    fn late(&self) -> NoAnswer {
        self.link.heard.too_long.map_or(NoAnswer::Late, NoAnswer::TooLong)
    }

    fn exited(&self) -> Option<NoAnswer> {
        self.link.heard.exited.map(|(code, signal)| NoAnswer::Exited(code, signal))
    }

    /// Why stdout ended. An exit mostly follows at once; without one the server has only stopped
    /// talking.
    fn ended(&mut self) -> NoAnswer {
        let grace = Instant::now() + EXIT_FOLLOWS;
        while self.link.heard.exited.is_none() && self.link.next(grace).is_ok() {}
        self.exited().unwrap_or(NoAnswer::StdoutEnded)
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }
}
