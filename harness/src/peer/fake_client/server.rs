//! A connection to one server: its start, its work, its end.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, OnceLock,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::{FdFlags, ioctl_fionread},
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid},
};
use serde_json::{Value, json};

use super::registry::Habits;

/// How long an answer may take, from when the request was taken; the server may still have to start
/// before that. Counted in looks, for a host that gives us no time gives the server none either.
const ANSWER: Duration = Duration::from_secs(1);
/// How long a message takes that a server has asked for, unless the server dies.
const MODEL: Duration = Duration::from_secs(5);
/// How often a wait looks.
const LOOK: Duration = Duration::from_millis(5);
/// Most lines that wait to be looked at.
const WAITING: usize = 64;
/// Longest piece of a line that is read at once, in bytes.
const PIECE: u64 = 1 << 20;
/// The longest that a client waits which waits for ever.
const LIFE: Duration = Duration::from_secs(600);
/// Runs its arguments, and has something to do after them, so that it does not become them.
const SHELL: &str = r#""$@"; exit $?"#;

/// A server that was started.
pub(super) struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Vec<u8>>,
    habits: Habits,
    requests: u64,
    /// It has taken something of what it was asked, so it has started.
    listens: bool,
    ended: bool,
    kept: Option<Arc<File>>,
}

impl Server {
    pub(super) fn start(words: &[String], habits: Habits) -> io::Result<Self> {
        let Some((program, arguments)) = words.split_first() else {
            return Err(io::Error::other("no server was named"));
        };
        let mut command = match habits.through_shell {
            true => Command::new("sh"),
            false => Command::new(program),
        };
        if habits.through_shell {
            command.args(["-c", SHELL, "sh", program]);
        }
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if habits.by_group {
            command.process_group(0);
        }
        // What is kept is there before the server is, which is looked at together with its client: so
        // each round brings one and the same.
        if habits.keeps_thread {
            thread::spawn(|| thread::sleep(LIFE));
        }
        if habits.keeps_worker {
            keep_worker()?;
        }
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("stdout was asked for as a pipe");
        let stdout = Arc::new(File::from(OwnedFd::from(stdout)));
        let kept = habits.keeps_stdout.then(|| Arc::clone(&stdout));
        let (sender, lines) = mpsc::sync_channel(WAITING);
        thread::spawn(move || read(&stdout, &sender));
        let listens = false;
        let server = Self { child, stdin, lines, habits, requests: 0, listens, ended: false, kept };
        if let (true, Some(stdin)) = (server.habits.hands_stdin_on, &server.stdin) {
            rustix::io::fcntl_setfd(stdin, FdFlags::empty())?;
        }
        Ok(server)
    }

    /// The whole of what a client wants of a server.
    pub(super) fn work(&mut self) -> io::Result<()> {
        self.request(
            "initialize",
            json!({
                "protocolVersion": "2025-11-25",
                "capabilities": { "sampling": {} },
                "clientInfo": { "name": "scupper-fake-client", "version": "1" },
            }),
        )?;
        self.write(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))?;
        self.request("tools/list", json!({}))?;
        self.request("tools/call", json!({ "name": "echo", "arguments": { "text": "hello" } }))
    }

    fn request(&mut self, method: &str, params: Value) -> io::Result<()> {
        self.requests += 1;
        let id = self.requests;
        let written =
            self.write(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))?;
        let (mut starting, mut waiting) = (Duration::ZERO, Duration::ZERO);
        loop {
            let line = match self.lines.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => {
                    self.listens |= self.has_taken_of(written);
                    let (spent, most) = match self.listens {
                        true => (&mut waiting, ANSWER),
                        false => (&mut starting, self.habits.start),
                    };
                    *spent += LOOK;
                    if *spent > most {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    continue;
                }
                // The fault: it is reaped, nothing more can come, and the answer is waited for.
                Err(RecvTimeoutError::Disconnected) if self.habits.waits_on => {
                    self.child.wait()?;
                    thread::sleep(LIFE);
                    return Err(io::ErrorKind::TimedOut.into());
                }
                line => line.map_err(io::Error::other)?,
            };
            let message: Value = serde_json::from_slice(&line).unwrap_or_default();
            if message.get("method").and_then(Value::as_str) == Some("sampling/createMessage") {
                self.make_message(&message["id"])?;
                continue;
            }
            if message.get("id").and_then(Value::as_u64) == Some(id) {
                return Ok(());
            }
        }
    }

    /// The server wants a message. A process makes it, as long as one would wait for a model; when
    /// the server is dead before that, nobody wants it any more.
    fn make_message(&mut self, id: &Value) -> io::Result<()> {
        let mut worker = Command::new("sleep")
            .arg(LIFE.as_secs().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let is_dead = self.lines.recv_timeout(MODEL) == Err(RecvTimeoutError::Disconnected);
        if !is_dead || self.habits.ends_worker {
            worker.kill()?;
            worker.wait()?;
        }
        if is_dead {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let content = json!({ "type": "text", "text": "hello" });
        let result = json!({ "role": "assistant", "content": content, "model": "none" });
        self.write(&json!({ "jsonrpc": "2.0", "id": id, "result": result })).map(drop)
    }

    /// Writes a message; how many bytes that is.
    fn write(&mut self, message: &Value) -> io::Result<u64> {
        let stdin = self.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let line = format!("{message}\n");
        stdin.write_all(line.as_bytes())?;
        Ok(line.len() as u64)
    }

    /// Whether the server has read a part of what was written last, of so many bytes. What it has not
    /// read waits in the pipe.
    fn has_taken_of(&self, written: u64) -> bool {
        let waiting = self.stdin.as_ref().map(ioctl_fionread);
        // A pipe that cannot be asked bounds nothing.
        waiting.is_none_or(|waiting| waiting.map_or(true, |waiting| waiting < written))
    }

    /// Ends it, as far as this client does; the second time it does nothing.
    pub(super) fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if !self.habits.ends_stdin {
            // The fault: the server waits for the end of its stdin, and we for its exit.
            self.dead_within(LIFE);
        }
        self.stdin = None;
        let grace = self.habits.grace;
        let mut dead = self.dead_within(grace);
        if !self.habits.gives_up {
            for signal in [Signal::TERM, Signal::KILL] {
                if !dead {
                    self.signal(signal);
                    dead = self.dead_within(grace);
                }
            }
        }
        if self.habits.by_group {
            // Its leader is not reaped yet, so the group is its own, and so is what is left in it.
            self.signal(Signal::KILL);
        }
        if dead && self.habits.reaps {
            // It is dead: this does not wait.
            let _ = self.child.wait();
        }
    }

    /// What should be closed by now and is not.
    pub(super) fn into_kept(self) -> Option<Arc<File>> {
        self.kept
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        // Not reaped, so the number is still its own; one that is dead minds no signal.
        let _ = match self.habits.by_group {
            true => kill_process_group(pid, signal),
            false => kill_process(pid, signal),
        };
    }

    /// Waits until it is dead, and does not reap it.
    fn dead_within(&self, bound: Duration) -> bool {
        let deadline = Instant::now() + bound;
        let look_only = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        loop {
            match waitid(WaitId::Pid(Pid::from_child(&self.child)), look_only) {
                Ok(None) if Instant::now() < deadline => thread::sleep(LOOK),
                Ok(status) => return status.is_some(),
                Err(_) => return true,
            }
        }
    }
}

/// Starts a process that stays until this one ends, by whatever end: they all have the read end of
/// one pipe as their stdin, so that no descriptors grow along with them.
fn keep_worker() -> io::Result<()> {
    static LIFELINE: OnceLock<(PipeReader, PipeWriter)> = OnceLock::new();
    if LIFELINE.get().is_none() {
        // Nobody else sets it: there is one thread that starts servers.
        let _ = LIFELINE.set(io::pipe()?);
    }
    let Some((reader, _)) = LIFELINE.get() else { return Ok(()) };
    Command::new("cat")
        .stdin(reader.try_clone()?)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
}

/// Reads to the end, so that the server never stops at a full pipe.
fn read(stdout: &File, lines: &SyncSender<Vec<u8>>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        match Read::take(&mut stdout, PIECE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            // Nobody waits for so many; what comes is read all the same.
            Ok(_) => drop(lines.try_send(line)),
        }
    }
}
