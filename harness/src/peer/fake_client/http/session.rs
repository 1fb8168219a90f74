//! A session of Streamable HTTP: its requests, one connection for each, and its end.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Kept, registry::Fault, start_helper, stream::Stream};
use crate::peer::http::message::Head;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(1);
/// The same of a server that has served before: there is no reason to give up on it.
const ANSWER_AGAIN: Duration = Duration::from_secs(30);
/// How long whoever goes on with a dead session waits each time.
const PAUSE: Duration = Duration::from_millis(2);
/// The longest that a client waits which waits for ever.
const LIFE: Duration = Duration::from_secs(600);
/// Most redirects that are followed for one request.
const MOST_REDIRECTS: u32 = 5;
/// The line before the end of a body in chunks.
const LAST_CHUNK: &str = "0";
/// Longest line of an answer, in bytes.
const LINE_LIMIT: u64 = 1 << 20;

/// A session, or one that is to begin.
pub(super) struct Session {
    address: SocketAddr,
    place: String,
    fault: Fault,
    told_to_end: Arc<AtomicBool>,
    /// How long an answer may take.
    patience: Duration,
    id: Option<String>,
    requests: u64,
    stream: Option<Stream>,
    /// Streams on which an answer came.
    answered: Vec<BufReader<TcpStream>>,
    sockets: Vec<TcpStream>,
    ended: bool,
}

/// What came of a request.
struct Response {
    head: Head,
    /// The message that answers it, where one does.
    answer: Option<Value>,
    input: BufReader<TcpStream>,
}

impl Session {
    /// A session with the server at a URL, the first one or another.
    pub(super) fn new(
        url: &str,
        fault: Fault,
        told_to_end: Arc<AtomicBool>,
        is_first: bool,
    ) -> io::Result<Self> {
        let wrong = || io::Error::other(format!("{url} is not http://ADDRESS:PORT/PLACE"));
        let (address, place) =
            url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
        Ok(Self {
            address: address.parse().map_err(|_| wrong())?,
            place: format!("/{place}"),
            fault,
            told_to_end,
            patience: if is_first { ANSWER } else { ANSWER_AGAIN },
            id: None,
            requests: 0,
            stream: None,
            answered: Vec::new(),
            sockets: Vec::new(),
            ended: false,
        })
    }

    /// Introduces itself.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        let response = self.request(
            "initialize",
            &json!({
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": { "name": "scupper-fake-client", "version": "1" },
            }),
        )?;
        self.id = response.head.header("mcp-session-id").map(str::to_owned);
        let told = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let told = self.exchange("POST", &told.to_string())?;
        served(&told.head)
    }

    /// The whole of what a client wants of a server.
    pub(super) fn work(&mut self) -> io::Result<()> {
        if let Some(id) = &self.id {
            let request = self.head("GET", 0);
            let hurries = self.fault == Fault::Reconnects;
            let told_to_end = Arc::clone(&self.told_to_end);
            self.stream = Stream::open(self.address, request, id, hurries, told_to_end).ok();
        }
        let list = self.asked("tools/list", &json!({}))?;
        let call = json!({ "name": "echo", "arguments": { "text": "hello" } });
        let call = self.asked("tools/call", &call)?;
        if self.fault == Fault::KeepsSocket {
            self.sockets.push(call.input.into_inner());
        } else if self.fault == Fault::WaitsForStreams {
            self.answered.extend([list.input, call.input]);
        }
        Ok(())
    }

    /// A request, in a new session where the old one is dead.
    fn asked(&mut self, method: &str, params: &Value) -> io::Result<Response> {
        let deadline = Instant::now() + LIFE;
        loop {
            let asked = self.request(method, params);
            let is_dead =
                asked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
            if !is_dead {
                return asked;
            }
            if self.fault != Fault::KeepsOldSession {
                break;
            }
            // The fault: whatever the server says of it, it is our session.
            let told = self.told_to_end.load(std::sync::atomic::Ordering::Relaxed);
            if told || Instant::now() > deadline {
                return asked;
            }
            thread::sleep(PAUSE);
        }
        self.stream = None;
        self.id = None;
        self.begin()?;
        self.request(method, params)
    }

    /// A request and its answer; an error of kind `NotFound` where the session is dead.
    fn request(&mut self, method: &str, params: &Value) -> io::Result<Response> {
        self.requests += 1;
        let id = self.requests;
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let response = self.exchange("POST", &message.to_string())?;
        served(&response.head)?;
        let answers = response.answer.as_ref().and_then(|answer| answer.get("id")?.as_u64());
        match answers == Some(id) {
            true => Ok(response),
            false => Err(io::Error::other("there was no answer")),
        }
    }

    /// A request as HTTP has it, with redirects followed.
    fn exchange(&mut self, verb: &str, body: &str) -> io::Result<Response> {
        for _ in 0..=MOST_REDIRECTS {
            let mut socket = TcpStream::connect_timeout(&self.address, self.patience)?;
            socket.set_read_timeout(Some(self.patience))?;
            socket.set_write_timeout(Some(self.patience))?;
            socket.write_all(&[&self.head(verb, body.len()), body.as_bytes()].concat())?;
            let mut input = BufReader::new(socket);
            let head = Head::read(&mut input)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if head.status() == 307
                && let Some(location) = head.header("location")
            {
                let place = location.splitn(4, '/').nth(3).unwrap_or_default();
                self.place = format!("/{place}");
                continue;
            }
            let answer = answer(&head, &mut input, self.patience);
            if answer.is_err() && self.fault == Fault::LeavesHelper {
                // The fault: nobody ends it on this path.
                drop(start_helper()?);
            }
            let answer = answer?;
            return Ok(Response { head, answer, input });
        }
        Err(io::Error::other(format!("more than {MOST_REDIRECTS} redirects")))
    }

    fn head(&self, verb: &str, length: usize) -> Vec<u8> {
        let accept = match verb {
            "GET" => "text/event-stream",
            _ => "application/json, text/event-stream",
        };
        let session = self.id.as_ref().map_or_else(String::new, |id| {
            format!("Mcp-Session-Id: {id}\r\nMCP-Protocol-Version: 2025-11-25\r\n")
        });
        format!(
            "{verb} {} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\n{session}\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n",
            self.place, self.address,
        )
        .into_bytes()
    }

    /// Ends it, as far as this client does; the second time it does nothing.
    pub(super) fn end(&mut self, kept: &mut Kept) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        for mut answered in self.answered.drain(..) {
            // The fault: nobody has to end them.
            let _ = answered.get_ref().set_read_timeout(Some(LIFE));
            let mut line = String::new();
            let mut more = true;
            while more && line.trim_end() != LAST_CHUNK {
                line.clear();
                let read = Read::take(&mut answered, LINE_LIMIT).read_line(&mut line);
                more = read.is_ok_and(|count| count > 0);
            }
        }
        kept.sockets.append(&mut self.sockets);
        match self.fault {
            Fault::KeepsStream | Fault::All => kept.streams.extend(self.stream.take()),
            _ => self.stream = None,
        }
        if self.id.is_some() && self.fault != Fault::ForgetsDelete {
            // A server that refuses has been asked all the same.
            let _ = self.exchange("DELETE", "");
        }
    }
}

fn served(head: &Head) -> io::Result<()> {
    match head.status() {
        200..=299 => Ok(()),
        404 => Err(io::Error::new(io::ErrorKind::NotFound, "the session is dead")),
        status => Err(io::Error::other(format!("the server answered {status}"))),
    }
}

/// The message of a response: its body, or its first event that has one.
fn answer(
    head: &Head,
    input: &mut BufReader<TcpStream>,
    patience: Duration,
) -> io::Result<Option<Value>> {
    let kind = head.header("content-type").unwrap_or_default();
    if !kind.contains("event-stream") {
        return Ok(serde_json::from_slice(&head.body(input)?).ok());
    }
    let deadline = Instant::now() + patience;
    let mut line = String::new();
    while Instant::now() < deadline {
        line.clear();
        if Read::take(&mut *input, LINE_LIMIT).read_line(&mut line)? == 0 {
            break;
        }
        if let Some(message) = line.strip_prefix("data:")
            && let Ok(message) = serde_json::from_str(message.trim())
        {
            return Ok(Some(message));
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}
