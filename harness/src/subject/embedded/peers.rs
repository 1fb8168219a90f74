//! The other sides of hosts and services: processes of their own, started before the first look.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::seam::Books;
use crate::cell::{HTTP_CLIENTS, STORE};
use crate::ledger::snapshot::{Facts, Identity};
use crate::peer::http::control::{Order, Told};
use crate::peer::http::message::Head;
use crate::probe::store::Rows;

/// How long a peer may take to be up.
const START: Duration = Duration::from_secs(10);
/// How long a peer may take to say what it keeps.
const ASKED: Duration = Duration::from_secs(2);
/// How long a client may take to open its stream of events, if it does at all.
const STREAM: Duration = Duration::from_secs(2);

/// A child process of the harness, killed and reaped when it is let go.
#[derive(Debug)]
pub(super) struct Peer(Child);

impl Peer {
    pub(super) fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    /// Ends it as a crash would.
    pub(super) fn kill(&mut self) {
        // A process that cannot be killed has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An HTTP server that hosts are given.
#[derive(Debug)]
pub(super) struct HttpServer {
    pub(super) peer: Peer,
    pub(super) url: String,
}

impl HttpServer {
    pub(super) fn start(program: &str) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(["fake", "plain", "--http", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take();
        let peer = Peer(child);
        let mut url = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut url)?;
        }
        if !url.starts_with("http://") {
            return Err(io::Error::other(format!("the HTTP fake of {program} did not come up")));
        }
        Ok(Self { peer, url: url.trim().to_owned() })
    }

    /// What it keeps, as long as it lives.
    pub(super) fn books(&self, server: &str) -> ServerBooks {
        ServerBooks { keeper: format!("server {server}"), address: address_of(&self.url) }
    }
}

/// `127.0.0.1:PORT` of an address of ours.
pub(super) fn address_of(url: &str) -> String {
    url.trim_start_matches("http://").trim_end_matches("/mcp").to_owned()
}

/// The sessions that an HTTP server of ours keeps, by its own account.
pub(super) struct ServerBooks {
    keeper: String,
    address: String,
}

impl ServerBooks {
    /// It keeps sessions, and none of them has its stream open. Newer clients open none and have no
    /// sessions.
    fn awaits_a_stream(&self) -> bool {
        let census = census(&self.address).unwrap_or_default();
        let sessions = census["sessions"].as_array().cloned().unwrap_or_default();
        let has_one = |session: &Value| session["streams"].as_u64().is_some_and(|count| count > 0);
        !sessions.is_empty() && !sessions.iter().any(has_one)
    }

    /// A client opens its stream of events once both are ready, and nobody waits for it: what is born
    /// then belongs to the step that has added the server, and to no later one.
    pub(super) async fn streaming(&self) {
        let deadline = Instant::now() + STREAM;
        while self.awaits_a_stream() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Books for ServerBooks {
    fn kept(&self) -> Vec<(Identity, Facts)> {
        // One that was killed keeps nothing any more.
        let census = census(&self.address).unwrap_or_default();
        let sessions = census["sessions"].as_array().cloned().unwrap_or_default();
        let thing = |session: &Value| {
            let id = session["id"].as_str().unwrap_or_default().to_owned();
            let words = format!("never deleted, {} stream(s) open", session["streams"]);
            let facts = Facts::Kept { words, opened_at: None };
            (Identity::Session { keeper: self.keeper.clone(), id }, facts)
        };
        sessions.iter().map(thing).collect()
    }
}

fn census(address: &str) -> io::Result<Value> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let mut socket = TcpStream::connect_timeout(&address, ASKED)?;
    socket.set_read_timeout(Some(ASKED))?;
    socket.write_all(b"GET /census HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut input = BufReader::new(socket);
    let head = Head::read(&mut input)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(serde_json::from_slice(&head.body(&mut input)?)?)
}

/// The process of all HTTP clients of a service.
pub(super) struct Clients {
    pub(super) peer: Peer,
    orders: pipe::Sender,
    told: tokio::io::BufReader<pipe::Receiver>,
}

impl Clients {
    /// To be called inside the runtime that the pipes are to be driven by.
    pub(super) fn start(program: &str) -> io::Result<Self> {
        let mut child = Command::new(program)
            .arg(HTTP_CLIENTS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let peer = Peer(child);
        let none = || io::Error::other("no pipe to the HTTP clients");
        let orders = pipe::Sender::from_owned_fd(OwnedFd::from(stdin.ok_or_else(none)?))?;
        let told = pipe::Receiver::from_owned_fd(OwnedFd::from(stdout.ok_or_else(none)?))?;
        Ok(Self { peer, orders, told: tokio::io::BufReader::new(told) })
    }

    /// Has a client do something.
    pub(super) async fn obey(&mut self, order: &Order) -> Result<Told, String> {
        let mut line = serde_json::to_vec(order).map_err(|error| error.to_string())?;
        line.push(b'\n');
        let gone = |error: io::Error| format!("the HTTP clients are gone: {error}");
        self.orders.write_all(&line).await.map_err(gone)?;
        let mut answer = String::new();
        self.told.read_line(&mut answer).await.map_err(gone)?;
        let told: Told = serde_json::from_str(&answer)
            .map_err(|error| format!("the HTTP clients said no sentence: {error}"))?;
        match told.error {
            Some(error) => Err(error),
            None => Ok(told),
        }
    }
}

/// The process that reads files of SQLite.
pub(super) struct StoreReader {
    pub(super) peer: Peer,
    paths: ChildStdin,
    rows: BufReader<ChildStdout>,
}

impl StoreReader {
    pub(super) fn start(program: &str) -> io::Result<Self> {
        let mut child = Command::new(program)
            .arg(STORE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (paths, rows) = (child.stdin.take(), child.stdout.take());
        let peer = Peer(child);
        let none = || io::Error::other("no pipe to the reader of stores");
        let rows = BufReader::new(rows.ok_or_else(none)?);
        Ok(Self { peer, paths: paths.ok_or_else(none)?, rows })
    }

    /// The rows of a file now.
    pub(super) fn read(&mut self, path: &Path) -> Rows {
        let words = |error: io::Error| format!("the reader of stores is gone: {error}");
        writeln!(self.paths, "{}", path.display()).map_err(words)?;
        let mut line = String::new();
        self.rows.read_line(&mut line).map_err(words)?;
        serde_json::from_str(&line).map_err(|error| error.to_string())?
    }
}

/// A Redis of our own, on a free port, without any file.
#[derive(Debug)]
pub(super) struct Redis {
    pub(super) peer: Peer,
    pub(super) address: String,
}

impl Redis {
    /// None where there is no `redis-server` on PATH.
    pub(super) fn start(directory: &Path) -> io::Result<Option<Self>> {
        // Whoever takes the port in between makes it end at once; then another one is tried.
        for _ in 0..5 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            let spawned = Command::new("redis-server")
                .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
                .args(["--save", "", "--appendonly", "no", "--dir"])
                .arg(directory)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let child = match spawned {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                spawned => spawned?,
            };
            let mut redis = Self { peer: Peer(child), address: format!("127.0.0.1:{port}") };
            if redis.is_up()? {
                return Ok(Some(redis));
            }
        }
        Err(io::Error::other("redis-server did not come up on any of five free ports"))
    }

    fn is_up(&mut self) -> io::Result<bool> {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline && self.peer.0.try_wait()?.is_none() {
            if ping(&self.address).is_ok() {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(false)
    }
}

fn ping(address: &str) -> io::Result<()> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(ASKED))?;
    socket.write_all(b"PING\r\n")?;
    let mut answer = [0; 5];
    socket.read_exact(&mut answer)?;
    if &answer == b"+PONG" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
