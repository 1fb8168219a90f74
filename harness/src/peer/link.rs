//! The cell's end of a client process: commands out, events in, every wait with a deadline.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{ChildStdin, Command as Process, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde_json::Value;

use super::client::LINE_LIMIT;
use super::control::{Command, Event};

/// Events that may wait in the cell; beyond it the client process drops what nobody waits for.
const QUEUE: usize = 1024;
/// Ends of messages that are kept where they are measured.
const MARKS: usize = 4096;
/// Lines of stderr and of noise that are kept for messages.
const TAIL: usize = 30;
/// How long a client process may take nothing of a command. It waits for nothing but commands and
/// events, so that one that is slower is stopped or broken.
const STUCK: Duration = Duration::from_secs(10);

/// A client process.
#[derive(Debug)]
pub struct Link {
    /// Its pid.
    pub pid: i32,
    commands: Option<ChildStdin>,
    events: Receiver<(Instant, Event)>,
    /// Why nothing more can be asked of it, where that is neither the lifecycle's doing nor the
    /// server's. What the server does from then on is unknown.
    pub broken: Option<String>,
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
    /// As many bytes have passed as a cut lets through.
    pub cut: bool,
    /// Where messages to the server ended, in bytes, where that is measured.
    pub passed_to: Vec<u64>,
    /// The same of messages from the server.
    pub passed_from: Vec<u64>,
    /// Length of the longest line that was too long to be read as a message.
    pub too_long: Option<u64>,
}

/// Why a wait on a client ended without what was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The deadline passed.
    Late,
    /// The client process is gone, or takes no commands.
    ClientGone,
}

impl Link {
    /// Starts a client process: this very program, in its own process group.
    pub fn start() -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let mut child = Process::new(std::env::current_exe()?)
            .arg(crate::cell::CLIENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        if let Some(stdin) = &child.stdin {
            let flags = fcntl_getfl(stdin)?;
            fcntl_setfl(stdin, flags | OFlags::NONBLOCK)?;
        }
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
            broken: None,
            heard: Heard::default(),
        })
    }

    /// Sends a command; false if the client process is gone, or takes nothing more.
    pub fn send(&mut self, command: &Command) -> bool {
        let Some(commands) = self.commands.as_ref() else { return false };
        let Ok(mut line) = serde_json::to_vec(command) else { return false };
        line.push(b'\n');
        let Err(error) = write_all(commands.as_fd(), &line, STUCK) else { return true };
        // After half a command nothing more can be said.
        self.commands = None;
        if error.kind() == io::ErrorKind::TimedOut {
            self.broken = Some(format!(
                "scupper's own client process, pid {}, took no command for {} s; was it stopped?",
                self.pid,
                STUCK.as_secs()
            ));
        }
        false
    }

    /// Ends the client process' stdin, upon which it leaves.
    pub fn leave(&mut self) {
        self.commands = None;
    }

    /// Waits for the next event. One that came after the deadline is heard and is late: a server
    /// that talks without end must not be waited for without end.
    pub fn next(&mut self, deadline: Instant) -> Result<Event, Silence> {
        // One that takes no commands is not worth waiting for.
        let deadline = if self.broken.is_some() { Instant::now() } else { deadline };
        let left = deadline.saturating_duration_since(Instant::now());
        match self.events.recv_timeout(left) {
            Ok((at, mut event)) => {
                self.heard.take(at, &mut event);
                if at > deadline { Err(Silence::Late) } else { Ok(event) }
            }
            Err(RecvTimeoutError::Timeout) if self.broken.is_some() => Err(Silence::ClientGone),
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
                if *bytes > LINE_LIMIT as u64 {
                    self.too_long = self.too_long.max(Some(*bytes));
                }
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
            Event::Asked { .. } => self.messages += 1,
            Event::Notified { times, .. } => self.messages += *times,
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
            Event::Cut => self.cut = true,
            Event::Passed { stream, bytes } => {
                let ends = match stream {
                    crate::lifecycle::step::Stream::Stdin => &mut self.passed_to,
                    _ => &mut self.passed_from,
                };
                if ends.len() < MARKS {
                    ends.push(*bytes);
                }
            }
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

/// Writes all of it, however long it takes as long as some of it is taken within the patience.
fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
    let mut deadline = Instant::now() + patience;
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(count) => {
                bytes = &bytes[count..];
                deadline = Instant::now() + patience;
                continue;
            }
            Err(rustix::io::Errno::AGAIN) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
        rustix::io::retry_on_intr(|| poll(&mut polled, Some(&left)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    /// More than any pipe holds.
    const MUCH: usize = 4 << 20;

    #[test]
    fn nobody_waits_for_ever_for_a_reader_that_is_stuck() {
        let (_reader, writer) = pipe_with(PipeFlags::NONBLOCK).expect("a pipe");
        let written = write_all(writer.as_fd(), &vec![0; MUCH], Duration::from_millis(10));
        assert_eq!(written.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
    }

    #[test]
    fn a_reader_that_reads_gets_all_of_it() {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).expect("a pipe");
        let flags = fcntl_getfl(&reader).expect("flags");
        fcntl_setfl(&reader, flags - OFlags::NONBLOCK).expect("flags");
        let reads = thread::spawn(move || {
            let mut all = Vec::new();
            std::fs::File::from(reader).read_to_end(&mut all).map(|_| all.len())
        });
        write_all(writer.as_fd(), &vec![0; MUCH], STUCK).expect("all is taken");
        drop(writer);
        assert_eq!(reads.join().expect("it does not panic").expect("all is read"), MUCH);
    }

    #[test]
    fn a_reader_that_is_gone_is_no_stuck_one() {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).expect("a pipe");
        drop(reader);
        let written = write_all(writer.as_fd(), b"x", STUCK);
        assert_eq!(written.map_err(|error| error.kind()), Err(io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn a_line_beyond_the_limit_is_remembered_by_its_length() {
        let mut heard = Heard::default();
        let mut noise = |bytes| {
            heard.take(Instant::now(), &mut Event::Noise { text: "{".into(), bytes, utf8: true });
            heard.too_long
        };
        assert_eq!(noise(100), None);
        assert_eq!(noise(9 << 20), Some(9 << 20));
        assert_eq!(noise(100), Some(9 << 20));
    }
}
