//! One connection, request after request, until one side closes it.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    super::message::{INVALID_PARAMS, Incoming, METHOD_NOT_FOUND, Request},
    call::Call,
    channel::{Channel, Next},
    fault::{Equipment, Unfinished},
    modern, pair,
    response::Response,
    server::{Server, Transport},
    stream::{self, Left, Style},
    subscription,
};
use crate::{lifecycle::step::Era, peer::http::message::Head};

/// Longest time that a client may take to read an answer which is no stream.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The next request may come.
    Request,
    /// The client has left a stream.
    StreamLeft,
}

/// Serves a connection. An error is its end.
pub(super) fn converse(socket: TcpStream, server: &Arc<Server>) -> io::Result<()> {
    let socket = Arc::new(socket);
    socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
    server.fault.on_connection(&socket)?;
    let mut input = BufReader::new(&*socket);
    loop {
        // Between requests, a client may take its time.
        socket.set_read_timeout(None)?;
        if input.fill_buf()?.is_empty() {
            return Ok(());
        }
        if let Some(bytes) = server.fault.blurts() {
            return (&*socket).write_all(bytes);
        }
        socket.set_read_timeout(server.settings.read_timeout)?;
        let (head, body) = match request(&mut input) {
            Ok(request) => request,
            Err((_, error))
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                return Response::refusal("408 Request Timeout", "the request was never finished")
                    .header("Connection", "close")
                    .write(&socket);
            }
            Err((unfinished, error)) => {
                server.fault.request_left(Arc::clone(&socket), unfinished);
                return Err(error);
            }
        };
        let peer = Peer { socket: &socket, server, head: &head };
        if peer.respond(&body)? == After::StreamLeft {
            server.fault.stream_left(Arc::clone(&socket));
            return Ok(());
        }
        if head.header("connection").is_some_and(|word| word.eq_ignore_ascii_case("close")) {
            return Ok(());
        }
    }
}

/// Whether a page with this origin was served by this host.
fn is_local(origin: &str) -> bool {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    let port = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    let host = port.map_or(host, |(host, _)| host);
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

/// A request, or how far it has come and why no further.
fn request(input: &mut impl BufRead) -> Result<(Head, Vec<u8>), (Unfinished, io::Error)> {
    let eof = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let head = Head::read(input)
        .and_then(|head| head.ok_or_else(eof))
        .map_err(|error| (Unfinished::Head, error))?;
    if head.header("content-length").is_some_and(|length| length.trim() != "0") {
        let begun = input.fill_buf().and_then(|bytes| match bytes.is_empty() {
            true => Err(eof()),
            false => Ok(()),
        });
        begun.map_err(|error| (Unfinished::BeforeBody, error))?;
    }
    let body = head.body(input).map_err(|error| (Unfinished::Body, error))?;
    Ok((head, body))
}

/// Whoever has sent a request.
pub(super) struct Peer<'a> {
    /// Where the answer goes.
    pub(super) socket: &'a Arc<TcpStream>,
    /// Who gives it.
    pub(super) server: &'a Arc<Server>,
    /// The request's head.
    pub(super) head: &'a Head,
}

/// The answer to a request.
pub(super) enum Answer {
    /// These bytes.
    Now(Vec<u8>),
    /// These bytes, after so long.
    After(Duration, Vec<u8>),
}

impl Peer<'_> {
    fn respond(&self, body: &[u8]) -> io::Result<After> {
        let (method, path) = (self.head.word(0), self.head.word(1));
        if let Some(instead) = self.server.fault.on_request(self.head) {
            return self.send(&instead);
        }
        if (method, path) == ("GET", "/census") {
            let census = self.server.sessions.census().to_string();
            return self.send(&Response::with("200 OK", census.into_bytes()));
        }
        if self.head.header("origin").is_some_and(|origin| !is_local(origin)) {
            return self.refuse("403 Forbidden", "no page of another host may ask");
        }
        if self.server.settings.transport == Transport::Pair {
            return pair::respond(self, body);
        }
        if path != self.server.fault.path() {
            return self.refuse("404 Not Found", "there is nothing at this path");
        }
        let modern = modern::is_modern(self.head);
        match method {
            "POST" => self.post(body),
            "GET" if !modern => self.get(),
            "DELETE" if !modern => self.delete(),
            _ => self.send(
                &Response::refusal("405 Method Not Allowed", "not here").header("Allow", "POST"),
            ),
        }
    }

    fn post(&self, body: &[u8]) -> io::Result<After> {
        if let Some(refusal) = modern::unknown_revision(self.head) {
            return self.send(&refusal);
        }
        match Incoming::parse(body) {
            Incoming::Request(request)
                if request.era() == Era::Modern || modern::is_modern(self.head) =>
            {
                self.modern(&request)
            }
            Incoming::Request(request) if request.method == "initialize" => {
                self.initialize(&request)
            }
            Incoming::Request(request) => match self.session()? {
                Ok(id) => self.legacy(id, &request),
                Err(after) => Ok(after),
            },
            Incoming::Invalid(complaint) => {
                self.send(&Response::with("400 Bad Request", complaint))
            }
            Incoming::Ignored => self.send(&Response::empty("202 Accepted")),
            Incoming::Notification { .. } if modern::is_modern(self.head) => {
                self.send(&Response::empty("202 Accepted"))
            }
            Incoming::Notification { method, params } => match self.session()? {
                Ok(id) => {
                    cancel(self.server, id, &method, &params);
                    self.send(&Response::empty("202 Accepted"))
                }
                Err(after) => Ok(after),
            },
        }
    }

    /// The session that a request names, or its refusal.
    fn session(&self) -> io::Result<Result<&str, After>> {
        match self.head.header("mcp-session-id") {
            None => self.refuse("400 Bad Request", "there is no Mcp-Session-Id").map(Err),
            Some(id) if self.server.sessions.touch(id) => Ok(Ok(id)),
            Some(_) => self.refuse("404 Not Found", "there is no such session").map(Err),
        }
    }

    fn initialize(&self, request: &Request) -> io::Result<After> {
        let begun = begin(self.server, self.socket);
        let Ok((id, equipment)) = begun else {
            return self.refuse("503 Service Unavailable", "no session can begin");
        };
        let result = equipment.answer(request).unwrap_or_else(|| request.initialize_result());
        self.send(&Response::with("200 OK", result).header("Mcp-Session-Id", id))
    }

    fn legacy(&self, id: &str, request: &Request) -> io::Result<After> {
        let call = match answer(self.server.sessions.equipment(id), request) {
            Answer::Now(answer) if request.method == "tools/call" => Call::answered(answer),
            Answer::Now(answer) => return self.send(&Response::with("200 OK", answer)),
            Answer::After(time, answer) => Call::start(self.server, time, answer, None)?,
        };
        if !self.server.sessions.call(id, &request.id, Arc::clone(&call)) {
            call.cancel();
            return self.refuse("404 Not Found", "there is no such session");
        }
        self.follow(request, &call, Style::Resumable)
    }

    fn modern(&self, request: &Request) -> io::Result<After> {
        if let Some(refusal) = modern::mismatch(self.head, request) {
            return self.send(&refusal);
        }
        if request.revision().is_some_and(|revision| revision != Era::Modern.revision()) {
            let refusal = request.unsupported_version(&[Era::Modern.revision()]);
            return self.send(&Response::with("400 Bad Request", refusal));
        }
        if request.method == subscription::METHOD {
            return self.subscription(request);
        }
        if !matches!(request.method.as_str(), "server/discover" | "tools/list" | "tools/call") {
            let refusal = request.error(METHOD_NOT_FOUND, "method not found");
            return self.send(&Response::with("404 Not Found", refusal));
        }
        match answer(None, request) {
            Answer::Now(answer) => self.send(&Response::with("200 OK", answer)),
            Answer::After(time, answer) => {
                let call = Call::start(self.server, time, answer, None)?;
                self.follow(request, &call, Style::Bare)
            }
        }
    }

    /// A stream of what changes, from its acknowledgement to the end of one side.
    fn subscription(&self, request: &Request) -> io::Result<After> {
        if !self.takes_events() {
            return self.refuse("406 Not Acceptable", "a subscription is a stream of events");
        }
        let Some(acknowledgement) = subscription::acknowledgement(request) else {
            let refusal = request.error(INVALID_PARAMS, "`notifications` must be an object");
            return self.send(&Response::with("400 Bad Request", refusal));
        };
        let channel = Channel::of_subscription(subscription::result(request));
        channel.push(acknowledgement);
        let worker = self.server.fault.subscribed()?;
        let left = self.carry(&channel, 0, Style::Bare);
        self.server.fault.unsubscribed(worker)?;
        Ok(if matches!(left, Ok(Left::Ended)) { After::Request } else { After::StreamLeft })
    }

    fn takes_events(&self) -> bool {
        self.head.header("accept").is_some_and(|kinds| kinds.contains("event-stream"))
    }

    /// Waits for the end of a call, as a stream where the client takes one.
    fn follow(&self, request: &Request, call: &Call, style: Style) -> io::Result<After> {
        let streams = self.takes_events();
        call.await_work();
        let left = if streams {
            self.carry(&call.channel, 0, style)
        } else {
            stream::await_end(self.socket, &call.channel)
        };
        if !matches!(left, Ok(Left::Ended)) {
            if self.server.fault.stops_on_disconnect(request.era()) {
                call.cancel();
            }
            return Ok(After::StreamLeft);
        }
        if streams {
            return Ok(After::Request);
        }
        let answer = match call.channel.next(0) {
            Next::Event(_, answer) => answer,
            Next::Nothing | Next::End => request.error(INVALID_PARAMS, "cancelled"),
        };
        self.send(&Response::with("200 OK", answer))
    }

    fn get(&self) -> io::Result<After> {
        let id = match self.session()? {
            Ok(id) => id,
            Err(after) => return Ok(after),
        };
        let last = self.head.header("last-event-id").and_then(|last| last.split_once('-'));
        let last =
            last.and_then(|(stream, event)| Some((stream.parse().ok()?, event.parse().ok()?)));
        let resumed = last.and_then(|(stream, event): (u64, u64)| {
            Some((self.server.sessions.find_answer(id, stream)?, event))
        });
        let (channel, after) = resumed.unwrap_or_else(|| (Channel::standalone(), 0));
        if !self.server.sessions.open(id, &channel) {
            return self.refuse("404 Not Found", "there is no such session");
        }
        let left = self.carry(&channel, after, Style::Resumable);
        self.server.sessions.close(id, &channel);
        Ok(if matches!(left, Ok(Left::Ended)) { After::Request } else { After::StreamLeft })
    }

    fn delete(&self) -> io::Result<After> {
        let id = match self.session()? {
            Ok(id) => id,
            Err(after) => return Ok(after),
        };
        if self.server.fault.deletes()
            && let Some(equipment) = self.server.sessions.remove(id)
        {
            // First, so that a client which has the answer finds nothing left.
            self.server.fault.end(equipment);
        }
        self.send(&Response::empty("200 OK"))
    }

    /// Carries a stream, and counts it meanwhile.
    pub(super) fn carry(
        &self,
        channel: &Arc<Channel>,
        after: u64,
        style: Style,
    ) -> io::Result<Left> {
        let _counted = self.server.count_stream(channel);
        stream::carry(self.socket, channel, after, style)
    }

    /// Sends an answer.
    pub(super) fn send(&self, response: &Response) -> io::Result<After> {
        let _writing = self.server.fault.writing();
        response.write(self.socket)?;
        Ok(After::Request)
    }

    /// Sends a refusal.
    pub(super) fn refuse(&self, status: &'static str, why: &str) -> io::Result<After> {
        self.send(&Response::refusal(status, why))
    }
}

/// Begins a session on a connection; gives its id, and what it is served with.
pub(super) fn begin(
    server: &Server,
    socket: &Arc<TcpStream>,
) -> io::Result<(String, Arc<dyn Equipment>)> {
    let nth = server.sessions.next();
    let equipment = server.fault.begin(nth, socket)?;
    match server.sessions.insert(nth, Arc::clone(&equipment)) {
        Ok(id) => Ok((id, equipment)),
        Err(refused) => {
            server.fault.end(refused);
            Err(io::Error::other("too many sessions"))
        }
    }
}

/// The answer to a request of either era.
pub(super) fn answer(equipment: Option<Arc<dyn Equipment>>, request: &Request) -> Answer {
    if let Some(answer) = equipment.and_then(|equipment| equipment.answer(request)) {
        return Answer::Now(answer);
    }
    let arguments = request.params.get("arguments");
    let argument = |name| arguments.and_then(|given: &Value| given.get(name));
    Answer::Now(
        match (request.method.as_str(), request.params.get("name").and_then(Value::as_str)) {
            ("ping", _) => request.result(json!({})),
            ("server/discover", _) => request.discover_result(json!({"listChanged": true})),
            ("tools/list", _) => request.tools_result(),
            ("tools/call", Some("echo")) => match argument("text").and_then(Value::as_str) {
                Some(text) => request.tool_result(text, false),
                None => request.tool_result("`text` must be a string", true),
            },
            ("tools/call", Some("sleep")) => match argument("ms").and_then(Value::as_u64) {
                Some(ms) => {
                    let answer = request.tool_result(&format!("slept {ms} ms"), false);
                    return Answer::After(Duration::from_millis(ms), answer);
                }
                None => request.tool_result("`ms` must be a whole number", true),
            },
            ("tools/call", _) => request.error(INVALID_PARAMS, "unknown tool"),
            _ => request.error(METHOD_NOT_FOUND, "method not found"),
        },
    )
}

/// Cancels a call, where this is what a notification asks for. An unknown id is ignored, as the
/// rules ask.
pub(super) fn cancel(server: &Server, session: &str, method: &str, params: &Value) {
    if method == "notifications/cancelled"
        && let Some(request) = params.get("requestId")
        && let Some(call) = server.sessions.find_call(session, request)
    {
        call.cancel();
    }
}
