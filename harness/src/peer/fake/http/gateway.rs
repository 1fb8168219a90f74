//! The fault of a gateway from HTTP to stdio: a server process of its own for each session, which
//! stays when the client has gone.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::json;

use super::{
    super::{helper, message::Request},
    fault::{Equipment, Fault},
};

/// Longest answer of a backend, in bytes.
const ANSWER: u64 = 8 << 20;

/// Has a backend for each session, which answers in its stead, and leaves it when the session ends.
/// The twin ends it.
pub(super) struct Gateway {
    /// Clean twin?
    pub(super) fixed: bool,
}

impl Fault for Gateway {
    fn begin(&self, _nth: u64, _socket: &Arc<TcpStream>) -> io::Result<Arc<dyn Equipment>> {
        Ok(Arc::new(Backend::start()?))
    }

    fn end(&self, equipment: Arc<dyn Equipment>) {
        if !self.fixed {
            // Its stdin stays open, so that it never hears of the end.
            std::mem::forget(equipment);
        }
    }
}

/// A server over stdio, that of one session.
struct Backend(Mutex<Option<Running>>);

struct Running {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Backend {
    fn start() -> io::Result<Self> {
        let mut server = helper::ourselves()?;
        server.arg("plain").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = server.spawn()?;
        let stdin = child.stdin.take().expect("stdin was asked for as a pipe");
        let stdout = child.stdout.take().expect("stdout was asked for as a pipe");
        let stdout = BufReader::new(stdout);
        Ok(Self(Mutex::new(Some(Running { child, stdin, stdout }))))
    }
}

impl Equipment for Backend {
    /// What the backend says; calls that take long are the gateway's own, so that they hold up
    /// nobody.
    fn answer(&self, request: &Request) -> Option<Vec<u8>> {
        if request.params.get("name").is_some_and(|name| name == "sleep") {
            return None;
        }
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Running { stdin, stdout, .. } = running.as_mut()?;
        let (id, method, params) = (&request.id, &request.method, &request.params);
        let line = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        writeln!(stdin, "{line}").ok()?;
        let mut answer = Vec::new();
        Read::take(stdout, ANSWER).read_until(b'\n', &mut answer).ok()?;
        (!answer.is_empty()).then_some(answer)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Running { child, .. }) = running.take() {
            // One that is gone already needs no end.
            let _ = helper::end(child);
        }
    }
}
