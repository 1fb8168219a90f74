//! The cell's end of a client process: commands out, events in, every wait with a deadline.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command as Process, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use super::control::{Command, Event};

/// Events that may wait in the cell; beyond it the client process drops what nobody waits for.
const QUEUE: usize = 1024;
/// Lines of stderr and of noise that are kept for messages.
const TAIL: usize = 30;

/// A client process.
#[derive(Debug)]
pub struct Link {
    /// Its pid.
    pub pid: i32,
    commands: Option<ChildStdin>,
    events: Receiver<(Instant, Event)>,
    /// What was heard so far.
    pub heard: Heard,
}

/// What a client process has told so far.
#[derive(Debug, Default)]
pub struct Heard {
    /// Last lines of the server's stderr.
    pub stderr: VecDeque<String>,
    /// Last lines of its stdout that were no messages.
    pub noise: VecDeque<String>,
    /// How many such lines there were.
    pub noise_lines: u64,
    /// How many of them were not UTF-8.
    pub not_utf8: u64,
    /// Length in bytes of the longest of them, as far as it came.
    pub longest_noise: u64,
    /// The beginning of a line of stdout whose end has not come.
    pub begun: Option<String>,
    /// How many answers came.
    pub answered: u64,
    /// Answers that no step has asked for yet, by id.
    pub answers: BTreeMap<u64, Result<Value, Value>>,
    /// Writes that the server's stdin took whole.
    pub written: u64,
    /// Bytes of answers.
    pub answer_bytes: u64,
    /// Exit of the server: code and signal.
    pub exited: Option<(Option<i32>, Option<i32>)>,
    /// When that was heard.
    pub exited_at: Option<Instant>,
    /// The server's stdout has ended.
    pub stdout_ended: bool,
    /// The server's stderr has ended.
    pub stderr_ended: bool,
    /// A write failed.
    pub write_failed: Option<String>,
    /// Messages of any kind.
    pub messages: u64,
    /// Events that were left out because there were too many.
    pub dropped: u64,
}

/// Why a wait on a client ended without what was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The deadline passed.
    Late,
    /// The client process is gone.
    ClientGone,
}

impl Link {
    /// Starts a client process: this very program, in its own process group.
    pub fn start() -> std::io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let mut child = Process::new(std::env::current_exe()?)
            .arg(crate::cell::CLIENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (sender, events) = sync_channel(QUEUE);
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines() {
                    let Ok(line) = line else { break };
                    let Ok(event) = serde_json::from_str::<Event>(&line) else { continue };
                    // Stamped here: the cell may be busy looking when it comes.
                    if sender.send((Instant::now(), event)).is_err() {
                        break;
                    }
                }
            });
        }
        // The handle is dropped, not waited on: the cell reaps all its children in one place.
        Ok(Self {
            pid: child.id().cast_signed(),
            commands: child.stdin.take(),
            events,
            heard: Heard::default(),
        })
    }

    /// Sends a command; false if the client process is gone.
    pub fn send(&mut self, command: &Command) -> bool {
        let Some(commands) = self.commands.as_mut() else { return false };
        let Ok(mut line) = serde_json::to_vec(command) else { return false };
        line.push(b'\n');
        commands.write_all(&line).is_ok()
    }

    /// Ends the client process' stdin, upon which it leaves.
    pub fn leave(&mut self) {
        self.commands = None;
    }

    /// Waits for the next event. One that came after the deadline is heard and is late: a server
    /// that talks without end must not be waited for without end.
    pub fn next(&mut self, deadline: Instant) -> Result<Event, Silence> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.events.recv_timeout(left) {
            Ok((at, mut event)) => {
                self.heard.take(at, &mut event);
                if at > deadline { Err(Silence::Late) } else { Ok(event) }
            }
            Err(RecvTimeoutError::Timeout) => Err(Silence::Late),
            Err(RecvTimeoutError::Disconnected) => Err(Silence::ClientGone),
        }
    }

    /// Takes in what has arrived, without waiting, and not what arrives meanwhile.
    pub fn catch_up(&mut self) {
        for _ in 0..=QUEUE {
            let Ok((at, mut event)) = self.events.try_recv() else { return };
            self.heard.take(at, &mut event);
        }
    }

    /// Waits until an event yields a value.
    pub fn wait<T>(
        &mut self,
        deadline: Instant,
        mut pick: impl FnMut(&Heard, &Event) -> Option<T>,
    ) -> Result<T, Silence> {
        loop {
            let event = self.next(deadline)?;
            if let Some(value) = pick(&self.heard, &event) {
                return Ok(value);
            }
        }
    }
}

impl Heard {
    /// Notes an event. The body of an answer is taken out of it: a step that waits for something
    /// else must not lose it.
    fn take(&mut self, at: Instant, event: &mut Event) {
        if matches!(
            event,
            Event::Noise { .. }
                | Event::Answer { .. }
                | Event::Asked { .. }
                | Event::Notified { .. }
                | Event::Dropped { .. }
        ) {
            self.begun = None;
        }
        match event {
            Event::Stderr { text } => keep(&mut self.stderr, text),
            Event::Noise { text, bytes, utf8 } => {
                self.noise_lines += 1;
                self.not_utf8 += u64::from(!*utf8);
                self.longest_noise = self.longest_noise.max(*bytes);
                keep(&mut self.noise, text);
            }
            Event::Begun { text } => self.begun = Some(std::mem::take(text)),
            Event::Answer { id, body, bytes } => {
                self.messages += 1;
                self.answer_bytes += *bytes;
                if let Some(id) = id {
                    self.answered += 1;
                    self.answers.insert(*id, std::mem::replace(body, Ok(Value::Null)));
                }
            }
            Event::Asked { .. } | Event::Notified { .. } => self.messages += 1,
            Event::Exited { code, signal } => {
                self.exited = Some((*code, *signal));
                self.exited_at = Some(at);
            }
            Event::Ended { stream: crate::lifecycle::step::Stream::Stdout, .. } => {
                self.stdout_ended = true;
            }
            Event::Ended { stream: crate::lifecycle::step::Stream::Stderr, .. } => {
                self.stderr_ended = true;
            }
            Event::Wrote => self.written += 1,
            Event::WriteFailed { cause } => self.write_failed = Some(cause.clone()),
            Event::Dropped { events } => self.dropped += *events,
            _ => {}
        }
    }
}

fn keep(lines: &mut VecDeque<String>, text: &str) {
    if lines.len() == TAIL {
        lines.pop_front();
    }
    lines.push_back(text.to_owned());
}
