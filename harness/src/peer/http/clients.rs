//! The process of all HTTP clients of a service. One client is a session id and its sockets, and
//! lives until its sockets are closed; the process ends with its stdin.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use serde_json::Value;

use super::control::{Act, Order, Told};
use super::message::{Head, messages};

/// How often a reader looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(20);

/// Obeys orders from stdin until it ends. Returns the exit code.
pub fn run() -> io::Result<u8> {
    let mut clients: BTreeMap<String, Client> = BTreeMap::new();
    for line in io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let told = obey(&mut clients, &order)
            .unwrap_or_else(|error| Told { error: Some(error.to_string()), ..Told::default() });
        let mut line = serde_json::to_vec(&told)?;
        line.push(b'\n');
        let mut stdout = io::stdout().lock();
        stdout.write_all(&line)?;
        stdout.flush()?;
    }
    Ok(0)
}

fn obey(clients: &mut BTreeMap<String, Client>, order: &Order) -> io::Result<Told> {
    let within = Duration::from_millis(order.within_ms);
    if let Act::Open { address } = &order.act {
        let client = Client::open(address, within)?;
        clients.insert(order.client.clone(), client);
        return Ok(Told::default());
    }
    let none = || io::Error::other(format!("client {} is not open", order.client));
    match order.act {
        Act::Drop | Act::Reset => {
            let client = clients.remove(&order.client).ok_or_else(none)?;
            client.end(order.act == Act::Reset)?;
            Ok(Told::default())
        }
        _ => clients.get_mut(&order.client).ok_or_else(none)?.act(&order.act, within),
    }
}

/// One client.
struct Client {
    address: SocketAddr,
    session: Option<String>,
    /// For requests, one after another.
    main: BufReader<TcpStream>,
    /// Streams of events, and answers that nobody waits for.
    streams: Vec<Stream>,
    silent: Arc<AtomicBool>,
}

/// A connection that a thread reads from.
struct Stream {
    socket: Arc<TcpStream>,
    reader: JoinHandle<()>,
}

impl Client {
    fn open(address: &str, within: Duration) -> io::Result<Self> {
        let address = address.parse().map_err(io::Error::other)?;
        Ok(Self {
            address,
            session: None,
            main: BufReader::new(connect(address, within)?),
            streams: Vec::new(),
            silent: Arc::default(),
        })
    }

    fn act(&mut self, act: &Act, within: Duration) -> io::Result<Told> {
        match act {
            Act::Post { message, wait: true } => self.post(message, within),
            Act::Post { message, wait: false } => {
                let request = self.request("POST", Some(message));
                self.stream(&request, within, false)
            }
            Act::Listen => {
                let request = self.request("GET", None);
                self.stream(&request, within, true)
            }
            Act::Delete => {
                let request = self.request("DELETE", None);
                self.main.get_ref().set_read_timeout(Some(within))?;
                self.main.get_mut().write_all(&request)?;
                let head = Head::read(&mut self.main)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                head.body(&mut self.main)?;
                Ok(Told { status: Some(head.status()), error: refused(&head), ..Told::default() })
            }
            Act::Silence => {
                self.silent.store(true, Ordering::SeqCst);
                Ok(Told::default())
            }
            Act::Open { .. } | Act::Drop | Act::Reset => unreachable!("done by whoever holds it"),
        }
    }

    fn post(&mut self, message: &Value, within: Duration) -> io::Result<Told> {
        let request = self.request("POST", Some(message));
        self.main.get_ref().set_read_timeout(Some(within))?;
        self.main.get_mut().write_all(&request)?;
        let head = Head::read(&mut self.main)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let body = head.body(&mut self.main)?;
        if let Some(session) = head.header("mcp-session-id") {
            self.session = Some(session.to_owned());
        }
        let id = message.get("id");
        let answer = messages(&head, &body).into_iter().find(|one| one.get("id") == id);
        Ok(Told {
            status: Some(head.status()),
            error: refused(&head)
                .map(|error| format!("{error}: {}", String::from_utf8_lossy(&body))),
            answer: answer.filter(|_| id.is_some()),
        })
    }

    /// A connection of its own, read by a thread from now on.
    fn stream(&mut self, request: &[u8], within: Duration, wait: bool) -> io::Result<Told> {
        let mut socket = connect(self.address, within)?;
        socket.write_all(request)?;
        let mut told = Told::default();
        if wait {
            socket.set_read_timeout(Some(within))?;
            let head = head_alone(&mut socket)?;
            told.status = Some(head.status());
            told.error = refused(&head);
        }
        socket.set_read_timeout(Some(GLANCE))?;
        let socket = Arc::new(socket);
        let (source, silent) = (Arc::clone(&socket), Arc::clone(&self.silent));
        let reader = thread::spawn(move || drain(&source, &silent));
        self.streams.push(Stream { socket, reader });
        Ok(told)
    }

    fn request(&self, method: &str, message: Option<&Value>) -> Vec<u8> {
        let body = message.map(Value::to_string).unwrap_or_default();
        let accept = if method == "GET" {
            "text/event-stream"
        } else {
            "application/json, text/event-stream"
        };
        let session = self.session.as_ref().map_or_else(String::new, |session| {
            format!("Mcp-Session-Id: {session}\r\nMCP-Protocol-Version: 2025-11-25\r\n")
        });
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        format!(
            "{method} /mcp HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\n{session}{kind}\
             Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .into_bytes()
    }

    fn end(self, by_reset: bool) -> io::Result<()> {
        self.silent.store(true, Ordering::SeqCst);
        let sockets = self.streams.into_iter().filter_map(|stream| {
            // Wakes the reader and tells the service nothing.
            let _ = stream.socket.shutdown(Shutdown::Read);
            let _ = stream.reader.join();
            Arc::into_inner(stream.socket)
        });
        for socket in sockets.chain([self.main.into_inner()]) {
            if by_reset {
                set_socket_linger(&socket, Some(Duration::ZERO))?;
            }
            drop(socket);
        }
        Ok(())
    }
}

fn connect(address: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, within)?;
    socket.set_write_timeout(Some(within))?;
    Ok(socket)
}

/// Reads a head byte by byte: what follows it belongs to whoever reads on.
fn head_alone(socket: &mut TcpStream) -> io::Result<Head> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte)?;
        text.push(byte[0]);
    }
    Head::read(&mut text.as_slice())?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn drain(mut socket: &TcpStream, silent: &AtomicBool) {
    let mut buffer = [0; 16 << 10];
    while !silent.load(Ordering::SeqCst) {
        match socket.read(&mut buffer) {
            Ok(0) => return,
            Err(error)
                if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                return;
            }
            _ => {}
        }
    }
}

fn refused(head: &Head) -> Option<String> {
    (head.status() >= 300).then(|| format!("the service answered {}", head.status()))
}
