//! The client process: starts the server, moves bytes, and can be killed. One per connection, so
//! that the death of a client is a real death: the kernel closes its pipe ends and the server loses
//! its parent. It has one thread and waits in one place, poll(2).
//!
//! Nothing here is unbounded: a line of output is kept up to [`LINE_LIMIT`], events that nobody
//! asked for are dropped (and counted) while more than a megabyte waits for the cell.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command as Process, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::control::{Command, Event};
use super::lines::Lines;
use super::outbox::Outbox;
use super::wire::{self, Incoming};
use crate::lifecycle::step::Stream;

/// Longest line of a server's stdout that is read as a message, in bytes.
pub const LINE_LIMIT: usize = 8 << 20;
/// Largest answer that is passed on whole, in bytes; of a larger one only the length is.
const PASS_LIMIT: usize = 4 << 20;
/// Longest reply to a request of the server's, in bytes; only an absurd id makes a longer one.
const LONGEST_REPLY: usize = 1024;
/// Writes that may wait before the server's own requests go unanswered.
const REPLY_LIMIT: usize = 1000;
/// Bytes of a log or noise line that are passed on.
const TEXT_LIMIT: usize = 2048;

/// Runs the client process until its stdin ends. Returns its exit code.
pub fn run() -> io::Result<u8> {
    let mut client = Client::new()?;
    while client.turn()? {}
    Ok(0)
}

struct Client {
    commands: Lines,
    commands_ended: bool,
    events: Outbox,
    server: Option<Server>,
    holder: Option<Child>,
    /// Bytes that may pass, of the server that is started next.
    cut: Option<(Stream, u64)>,
    /// Where every message ends is told.
    measures: bool,
}

struct Server {
    child: Child,
    pidfd: OwnedFd,
    exited: bool,
    stdin: Option<OwnedFd>,
    unwritten: VecDeque<Unwritten>,
    /// Bytes that stdin has taken.
    taken: u64,
    /// Bytes that it is given at most.
    most: Option<u64>,
    /// The bytes of a cut have passed, and nothing more is said.
    is_cut: bool,
    /// Ids of requests that the cell made and that have no answer yet.
    expected: BTreeSet<u64>,
    stdout: Option<Output>,
    stderr: Option<Output>,
}

/// Bytes on their way to the server.
struct Unwritten {
    bytes: Vec<u8>,
    written: usize,
    /// The cell asked for them and waits for [`Event::Wrote`]; replies of our own are not told.
    told: bool,
}

struct Output {
    fd: OwnedFd,
    lines: Lines,
    stalled: bool,
    bytes: u64,
    /// Bytes that are read at most.
    most: Option<u64>,
    /// Bytes of whole lines.
    whole: u64,
    /// It was told that the current line has begun.
    told_begun: bool,
    /// It was told that the current line is too long to be a message.
    told_long: bool,
}

/// What woke the client.
#[derive(Clone, Copy, PartialEq)]
enum Wake {
    Commands,
    Events,
    Exit,
    Stdin,
    Stdout,
    Stderr,
}

impl Client {
    fn new() -> io::Result<Self> {
        nonblocking(io::stdin().as_fd())?;
        nonblocking(io::stdout().as_fd())?;
        Ok(Self {
            commands: Lines::new(64 << 20),
            commands_ended: false,
            events: Outbox::default(),
            server: None,
            holder: None,
            cut: None,
            measures: false,
        })
    }

    /// One round of waiting and acting; false when it is time to leave.
    fn turn(&mut self) -> io::Result<bool> {
        for wake in self.wait()? {
            match wake {
                Wake::Commands => self.read_commands()?,
                Wake::Events => self.events.flush()?,
                Wake::Exit => self.reap()?,
                Wake::Stdin => self.write_stdin(),
                Wake::Stdout => self.read_output(Stream::Stdout)?,
                Wake::Stderr => self.read_output(Stream::Stderr)?,
            }
        }
        self.events.flush()?;
        Ok(!self.commands_ended)
    }

    fn wait(&self) -> io::Result<Vec<Wake>> {
        let stdin = io::stdin();
        let stdout = io::stdout();
        let mut polled = vec![PollFd::new(&stdin, PollFlags::IN)];
        let mut wakes = vec![Wake::Commands];
        if !self.events.is_empty() {
            polled.push(PollFd::new(&stdout, PollFlags::OUT));
            wakes.push(Wake::Events);
        }
        if let Some(server) = &self.server {
            if !server.exited {
                polled.push(PollFd::new(&server.pidfd, PollFlags::IN));
                wakes.push(Wake::Exit);
            }
            if let (Some(fd), true) = (&server.stdin, server.has_to_write()) {
                polled.push(PollFd::new(fd, PollFlags::OUT));
                wakes.push(Wake::Stdin);
            }
            for (output, wake) in [(&server.stdout, Wake::Stdout), (&server.stderr, Wake::Stderr)] {
                if let Some(output) = output
                    && !output.stalled
                    && output.room() > 0
                {
                    polled.push(PollFd::new(&output.fd, PollFlags::IN));
                    wakes.push(wake);
                }
            }
        }
        loop {
            match poll(&mut polled, None) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(polled
            .iter()
            .zip(wakes)
            .filter(|(polled, _)| !polled.revents().is_empty())
            .map(|(_, wake)| wake)
            .collect())
    }

    fn read_commands(&mut self) -> io::Result<()> {
        let mut ended = false;
        let mut lines = Vec::new();
        self.commands.read(io::stdin().as_fd(), &mut ended, |line, _| lines.push(line.to_vec()));
        self.commands_ended |= ended;
        for line in lines {
            match serde_json::from_slice(&line) {
                Ok(command) => self.obey(command)?,
                Err(error) => return Err(io::Error::other(format!("bad command: {error}"))),
            }
        }
        Ok(())
    }

    fn obey(&mut self, command: Command) -> io::Result<()> {
        match command {
            Command::Start { command, environment, directory } => {
                match Server::start(&command, environment, directory) {
                    Ok((mut server, started)) => {
                        let nothing_passes = server.cut(self.cut.take());
                        self.server = Some(server);
                        self.events.push(&started);
                        if nothing_passes {
                            self.events.push(&Event::Cut);
                        }
                    }
                    Err(error) => {
                        self.events.push(&Event::StartFailed { cause: error.to_string() });
                    }
                }
            }
            Command::Write { bytes } => match self.server.as_mut() {
                Some(server) if server.stdin.is_some() => {
                    server.expected.extend(wire::request_id(&bytes));
                    server.unwritten.push_back(Unwritten { bytes, written: 0, told: true });
                    self.write_stdin();
                }
                _ => self.events.push(&Event::WriteFailed { cause: "stdin is closed".into() }),
            },
            Command::Close { stream } => {
                if let Some(server) = self.server.as_mut() {
                    let untaken = server.unwritten.iter().any(|write| write.told);
                    if stream == Stream::Stdin && untaken && !server.is_cut {
                        let cause = "stdin was closed before it took all".to_owned();
                        self.events.push(&Event::WriteFailed { cause });
                    }
                    server.close(stream);
                }
            }
            Command::Stall { stream } => self.stall(stream, true),
            Command::Resume { stream } => self.resume(stream),
            Command::Cut { stream, bytes } => self.cut = Some((stream, bytes)),
            Command::Sync => self.events.push(&Event::Synced),
            Command::Measure => self.measures = true,
            Command::Hold => self.hold()?,
        }
        Ok(())
    }

    fn stall(&mut self, stream: Stream, stalled: bool) {
        if let Some(output) = self.server.as_mut().and_then(|server| server.output(stream)) {
            output.stalled = stalled;
        }
    }

    fn resume(&mut self, stream: Stream) {
        self.stall(stream, false);
        let Some(server) = self.server.as_mut() else { return };
        server.is_cut = false;
        if stream == Stream::Stdin {
            server.most = None;
            self.write_stdin();
        } else if let Some(output) = server.output(stream) {
            output.most = None;
        }
    }

    fn hold(&mut self) -> io::Result<()> {
        let Some(stdin) = self.server.as_ref().and_then(|server| server.stdin.as_ref()) else {
            self.events.push(&Event::WriteFailed { cause: "stdin is closed".into() });
            return Ok(());
        };
        let holder = Process::new(std::env::current_exe()?)
            .arg(crate::cell::HOLD)
            .stdin(Stdio::from(stdin.try_clone()?))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        self.events.push(&Event::Held { pid: holder.id().cast_signed() });
        self.holder = Some(holder);
        Ok(())
    }

    fn write_stdin(&mut self) {
        let Some(server) = self.server.as_mut() else { return };
        let Some(stdin) = &server.stdin else { return };
        while let Some(front) = server.unwritten.front_mut() {
            let room = server.most.map_or(u64::MAX, |most| most.saturating_sub(server.taken));
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let end = front.bytes.len().min(front.written.saturating_add(room));
            if end == front.written {
                return;
            }
            match rustix::io::write(stdin, &front.bytes[front.written..end]) {
                Ok(count) => {
                    front.written += count;
                    server.taken += count as u64;
                }
                Err(rustix::io::Errno::AGAIN) => return,
                Err(error) => {
                    let cause = io::Error::from(error).to_string();
                    self.events.push(&Event::WriteFailed { cause });
                    server.close(Stream::Stdin);
                    return;
                }
            }
            if front.written == front.bytes.len() {
                if self.measures {
                    let bytes = server.taken;
                    self.events.push(&Event::Passed { stream: Stream::Stdin, bytes });
                }
                if front.told {
                    self.events.push(&Event::Wrote);
                }
                server.unwritten.pop_front();
            }
            if server.most == Some(server.taken) {
                server.is_cut = true;
                self.events.push(&Event::Cut);
                return;
            }
        }
    }

    fn read_output(&mut self, stream: Stream) -> io::Result<()> {
        let Self { server: Some(server), events, measures, .. } = self else { return Ok(()) };
        let Server { stdin, unwritten, stdout, stderr, expected, is_cut, .. } = server;
        let slot = if stream == Stream::Stdout { stdout } else { stderr };
        let Some(output) = slot else { return Ok(()) };
        let mut ended = false;
        let mut replies = Vec::new();
        let mut any_ended = false;
        let room = output.room();
        let Output { lines, fd, whole, .. } = &mut *output;
        output.bytes += lines.read_at_most(room, fd.as_fd(), &mut ended, |line, length| {
            any_ended = true;
            if *measures && stream == Stream::Stdout {
                *whole += length + 1;
                events.push(&Event::Passed { stream, bytes: *whole });
            }
            if stream == Stream::Stderr {
                events.offer(&Event::Stderr { text: text(line) });
            } else if let Some(reply) = hear(line, length, expected, events) {
                replies.push(reply);
            }
        });
        if stream == Stream::Stdout {
            output.tell_unfinished(any_ended, events);
        }
        if output.most == Some(output.bytes) {
            *is_cut = true;
            events.push(&Event::Cut);
        }
        if ended {
            events.push(&Event::Ended { stream, bytes: output.bytes });
            *slot = None;
        }
        if stdin.is_some() && !*is_cut {
            let room = REPLY_LIMIT.saturating_sub(unwritten.len());
            let reply = |bytes| Unwritten { bytes, written: 0, told: false };
            unwritten.extend(replies.into_iter().take(room).map(reply));
        }
        Ok(())
    }

    fn reap(&mut self) -> io::Result<()> {
        let Some(server) = self.server.as_mut() else { return Ok(()) };
        if let Some(status) = server.child.try_wait()? {
            server.exited = true;
            self.events.push(&Event::Exited { code: status.code(), signal: status.signal() });
        }
        Ok(())
    }
}

/// What one line of stdout means; gives back what to answer, if the server asked something.
fn hear(
    line: &[u8],
    length: u64,
    expected: &mut BTreeSet<u64>,
    events: &mut Outbox,
) -> Option<Vec<u8>> {
    let short = |method: &str| text(method.as_bytes());
    match wire::classify(line) {
        Incoming::Answer { id: Some(id), body } if expected.remove(&id) => {
            let body = if line.len() > PASS_LIMIT { Ok(serde_json::Value::Null) } else { body };
            events.push(&Event::Answer { id: Some(id), body, bytes: length });
            None
        }
        // Nobody asked, so nobody waits, and a server may make as many as it likes.
        Incoming::Answer { .. } => {
            let body = Ok(serde_json::Value::Null);
            events.offer(&Event::Answer { id: None, body, bytes: length });
            None
        }
        Incoming::Request { id, method } => {
            events.offer(&Event::Asked { method: short(&method) });
            let reply = wire::line(&wire::reply(&id, &method));
            (reply.len() <= LONGEST_REPLY).then_some(reply)
        }
        Incoming::Notification { method } => {
            events.notified(short(&method));
            None
        }
        Incoming::Noise => {
            let utf8 = is_utf8(line, length);
            events.offer(&Event::Noise { text: text(line), bytes: length, utf8 });
            None
        }
    }
}

/// Whether a line is UTF-8, as far as it was kept.
fn is_utf8(line: &[u8], length: u64) -> bool {
    let cut = length > line.len() as u64;
    match std::str::from_utf8(line) {
        Ok(_) => true,
        // A cut may fall into a letter.
        Err(error) => cut && error.error_len().is_none(),
    }
}

impl Output {
    /// Bytes that may still be read.
    fn room(&self) -> usize {
        let room = self.most.map_or(u64::MAX, |most| most.saturating_sub(self.bytes));
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// A line without an end is told of while it lasts, or nothing seems to have come.
    fn tell_unfinished(&mut self, any_ended: bool, events: &mut Outbox) {
        if any_ended {
            // Where so much comes that it is read in pieces, the rest is on its way.
            self.told_begun = false;
        } else if let Some(begun) = self.lines.begun()
            && !self.told_begun
        {
            events.offer(&Event::Begun { text: text(begun) });
            self.told_begun = true;
        }
        let too_long = self.lines.too_long();
        if let Some((start, bytes)) = too_long
            && !self.told_long
        {
            let utf8 = is_utf8(start, bytes);
            events.offer(&Event::Noise { text: text(start), bytes, utf8 });
        }
        self.told_long = too_long.is_some();
    }
}

impl Server {
    fn start(
        command: &[String],
        environment: Vec<(String, String)>,
        directory: Option<String>,
    ) -> io::Result<(Self, Event)> {
        let (program, arguments) =
            command.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
        let mut process = Process::new(program);
        if let Some(directory) = directory {
            process.current_dir(directory);
        }
        // process_group and piped stdio keep std on its posix_spawn path; pre_exec would not.
        let mut child = process
            .args(arguments)
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let stdin: Option<OwnedFd> = child.stdin.take().map(Into::into);
        let stdout: Option<OwnedFd> = child.stdout.take().map(Into::into);
        let stderr: Option<OwnedFd> = child.stderr.take().map(Into::into);
        let mut pipes = [0; 3];
        for (inode, fd) in pipes.iter_mut().zip([&stdin, &stdout, &stderr]) {
            if let Some(fd) = fd {
                nonblocking(fd.as_fd())?;
                *inode = fstat(fd)?.st_ino;
            }
        }
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        let pid = child.id().cast_signed();
        let output = |fd| Output {
            fd,
            lines: Lines::new(LINE_LIMIT),
            stalled: false,
            bytes: 0,
            most: None,
            whole: 0,
            told_begun: false,
            told_long: false,
        };
        let server = Self {
            child,
            pidfd,
            exited: false,
            stdin,
            unwritten: VecDeque::new(),
            taken: 0,
            most: None,
            is_cut: false,
            expected: BTreeSet::new(),
            stdout: stdout.map(output),
            stderr: stderr.map(output),
        };
        Ok((server, Event::Started { pid, pipes }))
    }

    /// Takes in how many bytes may pass; whether that is none at all.
    fn cut(&mut self, cut: Option<(Stream, u64)>) -> bool {
        let Some((stream, bytes)) = cut else { return false };
        match self.output(stream) {
            Some(output) => output.most = Some(bytes),
            None => self.most = Some(bytes),
        }
        self.is_cut = bytes == 0;
        self.is_cut
    }

    /// Whether there is something that stdin may be given.
    fn has_to_write(&self) -> bool {
        !self.unwritten.is_empty() && self.most.is_none_or(|most| self.taken < most)
    }

    fn output(&mut self, stream: Stream) -> Option<&mut Output> {
        match stream {
            Stream::Stdin | Stream::Events | Stream::Requests | Stream::Responses => None,
            Stream::Stdout => self.stdout.as_mut(),
            Stream::Stderr => self.stderr.as_mut(),
        }
    }

    fn close(&mut self, stream: Stream) {
        match stream {
            Stream::Stdin => {
                self.stdin = None;
                self.unwritten.clear();
            }
            Stream::Stdout => self.stdout = None,
            Stream::Stderr => self.stderr = None,
            Stream::Events | Stream::Requests | Stream::Responses => {}
        }
    }
}

fn text(line: &[u8]) -> String {
    let cut = line.len().min(TEXT_LIMIT);
    String::from_utf8_lossy(&line[..cut]).into_owned()
}

fn nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = fcntl_getfl(fd).map_err(|error| {
        io::Error::other(format!("cannot read the flags of fd {}: {error}", fd.as_raw_fd()))
    })?;
    fcntl_setfl(fd, flags | OFlags::NONBLOCK)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_may_be_cut_by_our_limit_and_by_nothing_else() {
        let cafe = "Café".as_bytes();
        assert!(is_utf8(cafe, 5));
        assert!(is_utf8(&cafe[..4], 5));
        assert!(!is_utf8(&cafe[..4], 4));
        assert!(!is_utf8(b"Caf\xe9!", 100));
    }
}
