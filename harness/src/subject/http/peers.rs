//! Processes of HTTP clients, apart from the cell: their sockets are in no table of ours, and killing
//! one is real.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::cell::HTTP_CLIENTS;
use crate::cell::contain::{self, Handle};
use crate::ledger::snapshot::ProcessId;
use crate::peer::http::control::{Act, Order, Told};

/// How much longer than its client the cell waits: the client gives up first.
const GRACE: Duration = Duration::from_secs(5);

/// A process of clients.
pub(super) struct Peer {
    /// Which process.
    pub(super) id: ProcessId,
    orders: ChildStdin,
    told: Receiver<Told>,
    /// What a client has told while another was listened to.
    early: BTreeMap<String, Vec<Told>>,
}

impl Peer {
    pub(super) fn start(program: &str) -> Result<Self, String> {
        let broken = |error: io::Error| format!("could not start the HTTP clients: {error}");
        let mut child = Command::new(program)
            .arg(HTTP_CLIENTS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(broken)?;
        let none = || "no pipe to the HTTP clients".to_owned();
        let orders = child.stdin.take().ok_or_else(none)?;
        let lines = BufReader::new(child.stdout.take().ok_or_else(none)?).lines();
        let (tell, told) = channel();
        thread::Builder::new()
            .name("clients".into())
            .spawn(move || {
                for line in lines.map_while(Result::ok) {
                    let Ok(one) = serde_json::from_str(&line) else { return };
                    if tell.send(one).is_err() {
                        return;
                    }
                }
            })
            .map_err(broken)?;
        let id = contain::identify(child.id().cast_signed())
            .ok_or("the HTTP clients vanished when they were started")?;
        Ok(Self { id, orders, told, early: BTreeMap::new() })
    }

    /// Tells a client to do something, and waits for nothing.
    pub(super) fn tell(&mut self, client: &str, act: Act, within: Duration) -> Result<(), String> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let order = Order { client: client.to_owned(), act, within_ms };
        let mut line = serde_json::to_vec(&order).map_err(|error| error.to_string())?;
        line.push(b'\n');
        self.orders.write_all(&line).map_err(|error| format!("the HTTP clients are gone: {error}"))
    }

    /// Whether a client has something to tell, or never will.
    pub(super) fn has_told(&mut self, client: &str) -> bool {
        loop {
            match self.told.try_recv() {
                Ok(told) => self.early.entry(told.client.clone()).or_default().push(told),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
        self.early.get(client).is_some_and(|early| !early.is_empty())
    }

    /// What a client has to tell next.
    pub(super) fn hear(&mut self, client: &str, within: Duration) -> Result<Told, String> {
        if let Some(early) = self.early.get_mut(client)
            && !early.is_empty()
        {
            return Ok(early.remove(0));
        }
        let deadline = Instant::now() + within + GRACE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.told.recv_timeout(left) {
                Ok(told) if told.client == client => return Ok(told),
                Ok(told) => self.early.entry(told.client.clone()).or_default().push(told),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(
                        "scupper's own HTTP clients do not answer; were they stopped?".into()
                    );
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("the HTTP clients are gone".into());
                }
            }
        }
    }

    /// SIGKILL: the kernel closes what its clients have.
    pub(super) fn kill(&self) {
        if let Some(handle) = Handle::open(self.id) {
            // One that is gone has no sockets either.
            let _ = handle.signal(rustix::process::Signal::KILL);
        }
    }
}
