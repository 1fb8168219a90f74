//! One connection, request after request.

use std::{
    io::{self, BufReader, Read},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::sockopt::set_socket_linger,
};
use serde_json::Value;

use super::{
    super::message::{Incoming, Request},
    Shared, answer,
};
use crate::{
    lifecycle::{
        client::http::{DELETE, Fault},
        step::Era,
        sweep,
    },
    peer::http::{
        message::Head,
        meter::WasCut,
        report::{Asked, Closer, HttpReport},
    },
};

/// How long one wait lasts before it is looked whether the server has vanished.
pub(super) const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// How long a client may take to take what is written to it.
const WRITE: Duration = Duration::from_secs(30);
/// The place that is told to the client, and the one to which it is redirected.
const PLACES: [&str; 2] = ["/mcp", "/moved"];
/// What comes on a stream of events before anything else. A client has to respect the time.
const PRIMING: &str = "id: 1\nretry: 1000\ndata:\n\n";
/// What keeps a stream alive that has nothing to say, every so many glances.
const KEEP_ALIVE: (&str, u32) = (": still here\n\n", 25);
/// The end of a body in chunks.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The request after whose answer nothing more is counted.
const CALL: &str = "tools/call";
/// Most characters that are told of a name or an id that a client gives.
const LONGEST: usize = 100;

/// What is to become of the connection after a response.
enum Then {
    /// The next request may come.
    On,
    /// It is ended.
    End,
    /// It is reset.
    Reset,
}

/// One connection of a client.
pub(super) struct Conversation {
    shared: &'static Shared,
    number: u64,
    input: BufReader<Watchful>,
}

impl Conversation {
    pub(super) fn new(shared: &'static Shared, number: u64, socket: TcpStream) -> Self {
        Self { shared, number, input: BufReader::new(Watchful { socket, shared }) }
    }

    /// Serves until one of both has had enough.
    pub(super) fn live(mut self) {
        // A client that takes nothing is one that has gone.
        let _ = self.socket().set_write_timeout(Some(WRITE));
        let by = loop {
            match self.shared.begin_line().and_then(|()| self.turn()) {
                Ok(Some(Then::On)) => {}
                Ok(Some(Then::End)) => break Closer::Server,
                Ok(Some(Then::Reset)) => {
                    self.reset_at_end();
                    break Closer::Server;
                }
                Ok(None) => break Closer::Client,
                Err(error) if WasCut::is(&error) => break self.go_wrong(),
                Err(_) if self.shared.has_vanished() => {
                    self.reset_at_end();
                    break Closer::Server;
                }
                Err(error) => {
                    let by_reset = error.kind() == io::ErrorKind::ConnectionReset;
                    // What is no request, or not a whole one, ends with its connection.
                    break if by_reset { Closer::ClientByReset } else { Closer::Client };
                }
            }
        };
        // Told before it is closed: what the client does then is an answer to it.
        self.shared.said.tell(&HttpReport::Disconnected { connection: self.number, by });
    }

    /// What the byte sweep has become of this connection, and who ended it.
    fn go_wrong(&mut self) -> Closer {
        match self.shared.line.fault() {
            Some(sweep::Fault::HalfCloses) => {
                let _ = self.socket().shutdown(Shutdown::Write);
                // Whatever it still says is heard, and not answered; what is no request is lost.
                if self.shared.line.is_cut_in_responses() {
                    while self.hear().is_ok_and(|heard| heard) {}
                }
                while self.input.read(&mut [0; 512]).is_ok_and(|read| read > 0) {}
                Closer::Client
            }
            Some(sweep::Fault::Stalls) => {
                // Its end is seen without reading.
                while !self.input.get_ref().is_left() {}
                Closer::Client
            }
            Some(sweep::Fault::Resets) => {
                self.reset_at_end();
                Closer::Server
            }
            Some(sweep::Fault::Dies | sweep::Fault::Closes) | None => Closer::Server,
        }
    }

    /// Takes a request and tells of it; false where none comes any more.
    fn hear(&mut self) -> io::Result<bool> {
        let Some(head) = Head::read(&mut self.input)? else { return Ok(false) };
        let body = head.body(&mut self.input)?;
        self.tell_of(&head, &Incoming::parse(&body));
        Ok(true)
    }

    fn socket(&self) -> &TcpStream {
        &self.input.get_ref().socket
    }

    fn reset_at_end(&self) {
        // One that cannot be reset is closed, which ends it as well.
        let _ = set_socket_linger(self.socket(), Some(Duration::ZERO));
    }

    /// One request and its response; none where the client has gone.
    fn turn(&mut self) -> io::Result<Option<Then>> {
        let Some(head) = Head::read(&mut self.input)? else { return Ok(None) };
        self.shared.received(self.input.buffer().len());
        if head.header("expect").is_some() {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = head.body(&mut self.input)?;
        self.shared.received(self.input.buffer().len());
        if !PLACES.contains(&head.word(1)) {
            return self.refuse("404 Not Found");
        }
        let message = Incoming::parse(&body);
        self.tell_of(&head, &message);
        if self.shared.line.is_deaf() {
            return self.until_client_goes(None);
        }
        match self.shared.fault_at(DELETE) {
            Fault::Redirects if head.word(1) == PLACES[0] => return self.redirect(PLACES[1]),
            Fault::RedirectsToItself => return self.redirect(head.word(1)),
            _ => {}
        }
        let session = head.header("mcp-session-id");
        match head.word(0) {
            "POST" => self.post(session, message),
            "GET" => self.listen(session),
            "DELETE" => self.delete(session),
            _ => self.refuse("405 Method Not Allowed"),
        }
    }

    fn tell_of(&self, head: &Head, message: &Incoming) {
        let short = |text: &str| text.chars().take(LONGEST).collect::<String>();
        let mut asked = Asked {
            verb: short(head.word(0)),
            session: head.header("mcp-session-id").map(short),
            ..Asked::default()
        };
        match message {
            Incoming::Request(request) => {
                asked.method = Some(short(&request.method));
                asked.is_request = true;
                asked.client = introduced(&request.params);
                asked.modern = request.era() == Era::Modern;
            }
            Incoming::Notification { method, .. } => asked.method = Some(short(method)),
            Incoming::Ignored | Incoming::Invalid(_) => {}
        }
        asked.waits = self.shared.is_looked_at(&asked);
        let waits = asked.waits;
        let report = HttpReport::Asked { connection: self.number, request: asked };
        match waits {
            true => self.shared.said.and_wait(&report),
            false => self.shared.said.tell(&report),
        }
    }

    fn post(&mut self, session: Option<&str>, message: Incoming) -> io::Result<Option<Then>> {
        let request = match message {
            Incoming::Request(request) => request,
            Incoming::Notification { .. } | Incoming::Ignored => {
                if self.shared.fault_at("") == Fault::Fails {
                    return self.refuse("500 Internal Server Error");
                }
                return self.respond("202 Accepted", &[], b"", None);
            }
            Incoming::Invalid(complaint) => {
                return self.respond("400 Bad Request", &[], &complaint, None);
            }
        };
        match self.shared.fault_at(&request.method) {
            Fault::Holds => return self.until_client_goes(None),
            Fault::Fails => return self.refuse("500 Internal Server Error"),
            Fault::AcceptsOnly => return self.respond("202 Accepted", &[], b"", None),
            Fault::Resets => return Ok(Some(Then::Reset)),
            Fault::Vanishes => {
                self.shared.vanish();
                return Ok(Some(Then::Reset));
            }
            Fault::ForgetsSession if self.shared.strikes_once() => {
                session.map(|id| self.shared.end_session(id));
                return self.refuse("404 Not Found");
            }
            _ => {}
        }
        if let Some((status, body)) = answer::refusal(self.shared, &request) {
            return self.respond(status, &[], &body, None);
        }
        if request.era() == Era::Legacy {
            if request.method == "initialize" {
                let id = self.shared.begin_session();
                let header = ("Mcp-Session-Id", id.as_str());
                let body = answer::answer(&request);
                return self.respond("200 OK", &[header], &body, Some(id.clone()));
            }
            match session {
                None => return self.refuse("400 Bad Request"),
                Some(id) if !self.shared.has_session(id) => return self.refuse("404 Not Found"),
                Some(_) => {}
            }
        }
        self.answer(session, &request)
    }

    /// The answer to a request, as a stream of one event.
    fn answer(&mut self, session: Option<&str>, request: &Request) -> io::Result<Option<Then>> {
        let fault = self.shared.fault_at(&request.method);
        let stays = matches!(fault, Fault::LeavesStreamOpen | Fault::NeverAnswers);
        self.told_answer(200, None, stays.then(|| session.map(str::to_owned)));
        self.begin_events()?;
        if fault == Fault::NeverAnswers {
            return self.until_client_goes(Some(KEEP_ALIVE));
        }
        let answer = answer::answer(request);
        let text = String::from_utf8_lossy(&answer);
        self.chunk(&format!("event: message\ndata: {}\n\n", text.trim_end()))?;
        if stays {
            return self.until_client_goes(Some(KEEP_ALIVE));
        }
        self.write(LAST_CHUNK)?;
        if request.method == CALL {
            self.shared.answered_call();
        }
        Ok(Some(Then::On))
    }

    /// A stream of events that the client asks for.
    fn listen(&mut self, session: Option<&str>) -> io::Result<Option<Then>> {
        match session {
            None => return self.refuse("405 Method Not Allowed"),
            Some(id) if !self.shared.has_session(id) => return self.refuse("404 Not Found"),
            Some(_) => {}
        }
        let fault = self.shared.fault_at("GET");
        if fault == Fault::Fails {
            return self.refuse("500 Internal Server Error");
        }
        let ends = fault == Fault::EndsStreams;
        self.told_answer(200, None, (!ends).then(|| session.map(str::to_owned)));
        self.begin_events()?;
        self.chunk(PRIMING)?;
        if ends {
            self.write(LAST_CHUNK)?;
            return Ok(Some(Then::End));
        }
        // Also beyond the end of its session, which does not oblige a server to end it.
        self.until_client_goes(None)
    }

    fn delete(&mut self, session: Option<&str>) -> io::Result<Option<Then>> {
        match self.shared.fault_at(DELETE) {
            Fault::Holds => return self.until_client_goes(None),
            Fault::RefusesDelete => return self.refuse("405 Method Not Allowed"),
            Fault::Fails => return self.refuse("500 Internal Server Error"),
            _ => {}
        }
        match session {
            None => self.refuse("405 Method Not Allowed"),
            Some(id) if self.shared.end_session(id) => self.respond("200 OK", &[], b"", None),
            Some(_) => self.refuse("404 Not Found"),
        }
    }

    /// Says nothing, or the same again and again, until the client has gone.
    fn until_client_goes(&mut self, keep_alive: Option<(&str, u32)>) -> io::Result<Option<Then>> {
        let mut glances = 0;
        loop {
            if self.input.get_ref().is_ready()? && self.input.read(&mut [0; 512])? == 0 {
                return Ok(None);
            }
            glances += 1;
            if let Some((words, every)) = keep_alive
                && glances % every == 0
            {
                self.chunk(words)?;
            }
        }
    }

    fn redirect(&mut self, place: &str) -> io::Result<Option<Then>> {
        let location = format!("http://{}{place}", self.shared.address);
        self.respond("307 Temporary Redirect", &[("Location", &location)], b"", None)
    }

    fn refuse(&mut self, status: &str) -> io::Result<Option<Then>> {
        let body = serde_json::json!({ "error": status }).to_string();
        self.respond(status, &[], body.as_bytes(), None)
    }

    fn respond(
        &mut self,
        status: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        began: Option<String>,
    ) -> io::Result<Option<Then>> {
        let code = status.split(' ').next().and_then(|code| code.parse().ok());
        self.told_answer(code.unwrap_or_default(), began.clone(), None);
        let mut text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
        if !body.is_empty() {
            text.push_str("Content-Type: application/json\r\n");
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let all = [text.as_bytes(), body].concat();
        let ends = [text.len() as u64, all.len() as u64];
        let written = self.shared.send(self.socket(), &all, &ends);
        // A client that was not told the whole of it cannot know its session, which is none then.
        if let (Err(_), Some(id), false) = (&written, began, self.shared.line.was_whole()) {
            self.shared.end_session(&id);
        }
        written.map(|()| Some(Then::On))
    }

    /// Told before the client can act on it.
    fn told_answer(&self, status: u16, began: Option<String>, stream: Option<Option<String>>) {
        let connection = self.number;
        self.shared.said.tell(&HttpReport::Answered { connection, status, began, stream });
    }

    fn begin_events(&mut self) -> io::Result<()> {
        self.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
              Transfer-Encoding: chunked\r\n\r\n",
        )
    }

    fn chunk(&mut self, text: &str) -> io::Result<()> {
        self.write(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.shared.send(self.socket(), bytes, &[bytes.len() as u64])
    }
}

/// A socket that is read from with an eye on the end of the server.
struct Watchful {
    socket: TcpStream,
    shared: &'static Shared,
}

impl Watchful {
    /// Whether there is something to read, or its end, after a glance's time at most.
    fn is_ready(&self) -> io::Result<bool> {
        if self.shared.has_vanished() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if self.shared.line.stalls() {
            return Err(WasCut::error());
        }
        Ok(poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&GLANCE))? > 0)
    }

    /// Whether the client has closed its end, after a glance's time at most.
    fn is_left(&self) -> bool {
        let mut ends = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        // One that cannot be looked at is no connection any more.
        poll(&mut ends, Some(&GLANCE)).map_or(true, |found| found > 0)
    }
}

impl Read for Watchful {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.is_ready()? {}
        self.shared.receive(&self.socket, buffer)
    }
}

/// The name that a client gives itself, in the words of either era.
fn introduced(params: &Value) -> Option<(String, String)> {
    let modern =
        |params: &Value| params.get("_meta")?.get("io.modelcontextprotocol/clientInfo").cloned();
    let info = params.get("clientInfo").cloned().or_else(|| modern(params))?;
    let text = |key: &str| {
        let value = info.get(key).and_then(Value::as_str).unwrap_or("unknown");
        value.chars().take(LONGEST).collect::<String>()
    };
    Some((text("name"), text("version")))
}
