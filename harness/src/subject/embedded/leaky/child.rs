//! A stdio server as most software starts one: a child with three pipes, and nothing that ends it.

use std::os::fd::OwnedFd;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;

use crate::lifecycle::step::Era;

/// A child and its pipes. Dropping it closes the pipes, and ends and reaps nothing.
#[derive(Debug)]
pub(super) struct ServerProcess {
    child: Mutex<Child>,
    pipes: tokio::sync::Mutex<Pipes>,
    /// Piped and never read, as `subprocess.Popen(stderr=PIPE)` has it.
    _stderr: Option<ChildStderr>,
}

#[derive(Debug)]
struct Pipes {
    stdin: pipe::Sender,
    stdout: BufReader<pipe::Receiver>,
    next_id: u64,
}

impl ServerProcess {
    pub(super) fn start(command: &[String]) -> Result<Self, String> {
        let [program, arguments @ ..] = command else { return Err("no command".to_owned()) };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("starting {program}: {error}"))?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let none = "a child without pipes".to_owned();
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else { return Err(none) };
        let words = |error: std::io::Error| error.to_string();
        let stdin = pipe::Sender::from_owned_fd(OwnedFd::from(stdin)).map_err(words)?;
        let stdout = pipe::Receiver::from_owned_fd(OwnedFd::from(stdout)).map_err(words)?;
        let pipes = Pipes { stdin, stdout: BufReader::new(stdout), next_id: 0 };
        Ok(Self { child: Mutex::new(child), pipes: pipes.into(), _stderr: stderr })
    }

    /// A request and its answer.
    pub(super) async fn request(&self, method: &str, params: Value) -> Result<Value, String> {
        let mut pipes = self.pipes.lock().await;
        pipes.next_id += 1;
        let id = pipes.next_id;
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        pipes.write(&message).await?;
        loop {
            let mut line = String::new();
            let read = pipes.stdout.read_line(&mut line).await;
            if read.map_err(|error| format!("reading from the server: {error}"))? == 0 {
                return Err("the server closed its stdout".to_owned());
            }
            let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
            if message["id"] != id {
                continue;
            }
            return match message.get("error") {
                Some(error) => Err(error.to_string()),
                None => Ok(message["result"].clone()),
            };
        }
    }

    pub(super) async fn notify(&self, method: &str) -> Result<(), String> {
        let message = json!({"jsonrpc": "2.0", "method": method});
        self.pipes.lock().await.write(&message).await
    }

    /// The handshake.
    pub(super) async fn initialize(&self) -> Result<(), String> {
        self.request("initialize", introduction()).await?;
        self.notify("notifications/initialized").await
    }

    /// The end that was forgotten elsewhere: kills and reaps it.
    pub(super) fn end(&self) {
        let mut child = self.child();
        // One that cannot be killed has ended.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// SIGTERM, and no wait.
    pub(super) fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child());
        // Not reaped, so the number is still its own.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipes {
    async fn write(&mut self, message: &Value) -> Result<(), String> {
        let line = format!("{message}\n");
        let written = self.stdin.write_all(line.as_bytes()).await;
        written.map_err(|error| format!("writing to the server: {error}"))
    }
}

/// The params of `initialize`.
pub(super) fn introduction() -> Value {
    json!({
        "protocolVersion": Era::Legacy.revision(),
        "capabilities": {},
        "clientInfo": {"name": "stand-in", "version": "1.0.0"},
    })
}
