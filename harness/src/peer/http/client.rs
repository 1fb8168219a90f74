//! One HTTP client: a connection for requests that are waited for, one after another, and one more
//! for each stream and for each request that nobody waits for, read by a thread.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::Value;

use super::control::{Act, Passing, Place, Told};
use super::exchange::{BODY, converse, describe, is_fresh, is_late, left, read_whole, send};
use super::meter::{Meter, WasCut};
use super::response::{NoResponse, Response};
use super::stream::{GLANCE, Heard, Inbox, Stream, close};
use crate::lifecycle::endpoint::{Endpoint, Wire};
use crate::lifecycle::step::Era;

/// Without progress for so long, a flood has filled what there is to fill.
const FLOODED: Duration = Duration::from_millis(250);
/// The receive buffer of a connection that is not read, in bytes.
const SMALL_BUFFER: usize = 4 << 10;
/// Most ports that are told of.
const PORTS: usize = 4_096;

/// One client.
pub struct Client {
    place: Place,
    /// Where messages are posted.
    post_to: Endpoint,
    session: Option<String>,
    /// What was negotiated, which later requests carry.
    version: Option<String>,
    main: Option<TcpStream>,
    streams: Vec<Stream>,
    inbox: Arc<Inbox>,
    stalled: Arc<AtomicBool>,
    /// Ids of requests that nobody has waited for.
    pending: BTreeSet<String>,
    ports: Vec<u16>,
    meter: Arc<Meter>,
}

/// What one exchange brought.
struct Answered {
    response: Response,
    answer: Option<Value>,
    endless: bool,
}

impl Client {
    /// A client that has no connection yet.
    pub fn new(place: Place, passing: Passing) -> Self {
        Self {
            post_to: place.endpoint.clone(),
            place,
            session: None,
            version: None,
            main: None,
            streams: Vec::new(),
            inbox: Arc::default(),
            stalled: Arc::default(),
            pending: BTreeSet::new(),
            ports: Vec::new(),
            meter: Arc::new(Meter::new(passing)),
        }
    }

    /// Connects.
    pub fn open(&mut self, within: Duration) -> Told {
        let deadline = Instant::now() + within;
        let opened = match self.place.wire {
            Wire::Streamable => self.connect(deadline).map(|socket| {
                self.main = Some(socket);
                Told::default()
            }),
            Wire::Sse => self.open_pair(deadline),
        };
        self.told(opened)
    }

    /// Does one thing.
    pub fn act(&mut self, act: &Act, within: Duration) -> Told {
        let deadline = Instant::now() + within;
        self.streams.retain(|stream| {
            // One that is read to its end is closed, as a client does that has what it wanted.
            stream.listens || stream.reader.as_ref().is_none_or(|reader| !reader.is_finished())
        });
        let done = match act {
            Act::Post { message, wait: true } => self.post(message, deadline),
            Act::Post { message, wait: false } => self.post_unawaited(message, deadline),
            Act::Begin { body, upto, pause_ms } => {
                self.begin(body, *upto, Duration::from_millis(*pause_ms), deadline)
            }
            Act::Answers => self.await_answers(deadline),
            Act::Ends => self.await_ends(deadline),
            Act::Listen { subscribe } => self.listen(subscribe.as_ref(), deadline),
            Act::Flood { message, times } => self.flood(message, *times, deadline),
            Act::Join { session, last_event } => {
                self.session.clone_from(session);
                self.inbox.lock().last_event.clone_from(last_event);
                self.version.get_or_insert_with(|| Era::Legacy.revision().to_owned());
                Ok(Told::default())
            }
            Act::Delete => self.delete(deadline),
            Act::Abandon => {
                let (kept, abandoned) = self.streams.drain(..).partition(|one| one.listens);
                self.streams = kept;
                self.pending.clear();
                close(abandoned, false).map(|()| Told::default())
            }
            Act::Stall => {
                self.stalled.store(true, Ordering::SeqCst);
                for stream in &self.streams {
                    let _ = set_socket_recv_buffer_size(&*stream.socket, SMALL_BUFFER);
                }
                Ok(Told::default())
            }
            Act::Resume => {
                self.stalled.store(false, Ordering::SeqCst);
                Ok(Told::default())
            }
            Act::Silence => {
                self.streams.iter().for_each(|one| one.stop.store(true, Ordering::SeqCst));
                Ok(Told::default())
            }
            Act::HalfClose => {
                self.half_close();
                Ok(Told::default())
            }
            Act::Open { .. } | Act::Drop | Act::Reset => unreachable!("done by whoever holds it"),
        };
        self.told(done)
    }

    /// Closes every connection, by FIN or by RST.
    pub fn end(mut self, by_reset: bool) -> Told {
        let mut streams = std::mem::take(&mut self.streams);
        streams.extend(self.main.take().map(|socket| Stream {
            socket: Arc::new(socket),
            reader: None,
            stop: Arc::default(),
            listens: false,
        }));
        let done = close(streams, by_reset).map(|()| Told::default());
        self.told(done)
    }

    fn told(&self, done: io::Result<Told>) -> Told {
        let told = done.unwrap_or_else(|error| {
            if WasCut::is(&error) {
                return Told::default();
            }
            let no_http = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<NoResponse>())
                .is_some_and(|cause| matches!(cause, NoResponse::Odd(_)));
            let words = match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".into(),
                io::ErrorKind::UnexpectedEof => {
                    "the connection was closed without an answer".into()
                }
                _ => error.to_string(),
            };
            Told { error: Some(words), no_http, ..Told::default() }
        });
        Told {
            session: self.session.clone(),
            last_event: self.inbox.lock().last_event.clone(),
            ports: self.ports.clone(),
            cut: self.meter.is_cut(),
            works: self.meter.works(),
            ..told
        }
    }

    /// Sends nothing more on any connection, and reads on.
    fn half_close(&mut self) {
        self.meter.read_on();
        self.inbox.lock().is_cut = false;
        if let Some(main) = self.main.take() {
            self.read_on(main, false);
        }
        for stream in &self.streams {
            // One that the server has reset is no worse.
            let _ = stream.socket.shutdown(Shutdown::Write);
        }
    }

    /// The older pair: a stream that names the place to post to.
    fn open_pair(&mut self, deadline: Instant) -> io::Result<Told> {
        let told = self.listen(None, deadline)?;
        if told.error.is_some() {
            return Ok(told);
        }
        let named = self.inbox.wait(deadline, |read| read.endpoint.clone())?;
        let named = named
            .ok_or_else(|| io::Error::other("the stream of events named no endpoint to post to"))?;
        self.post_to = self.place.endpoint.beside(&named);
        Ok(told)
    }

    fn post(&mut self, message: &Value, deadline: Instant) -> io::Result<Told> {
        let request = self.request("POST", Some(message));
        let id = message.get("id").filter(|_| message.get("method").is_some());
        let over_stream = self.place.wire == Wire::Sse && id.is_some();
        let here = id.filter(|_| !over_stream);
        let Answered { response, mut answer, endless } = self.exchange(&request, here, deadline)?;
        if let Some(last) = response.events().and_then(|events| events.last_id.clone()) {
            self.inbox.lock().last_event = Some(last);
        }
        let mut told = describe(&response);
        told.endless = endless;
        if let Some(session) = response.head().and_then(|head| head.header("mcp-session-id")) {
            self.session = Some(session.to_owned());
        }
        if over_stream && told.error.is_none() {
            let key = id.map(Value::to_string).unwrap_or_default();
            answer = self.inbox.wait(deadline, |read| read.answers.remove(&key))?;
            if answer.is_none() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        if let Some(version) = answer
            .as_ref()
            .and_then(|answer| answer.pointer("/result/protocolVersion").and_then(Value::as_str))
        {
            self.version = Some(version.to_owned());
        }
        told.answer = answer;
        Ok(told)
    }

    fn post_unawaited(&mut self, message: &Value, deadline: Instant) -> io::Result<Told> {
        let request = self.request("POST", Some(message));
        if let Some(id) = message.get("id") {
            self.pending.insert(id.to_string());
        }
        self.stream(&request, false, deadline)?;
        Ok(Told::default())
    }

    fn delete(&mut self, deadline: Instant) -> io::Result<Told> {
        if self.place.wire == Wire::Sse {
            // The stream is the session.
            let streams = std::mem::take(&mut self.streams);
            close(streams, false)?;
            return Ok(Told::default());
        }
        let request = self.request("DELETE", None);
        Ok(describe(&self.exchange(&request, None, deadline)?.response))
    }

    fn listen(&mut self, subscribe: Option<&Value>, deadline: Instant) -> io::Result<Told> {
        let verb = if subscribe.is_some() { "POST" } else { "GET" };
        let request = self.request(verb, subscribe);
        let number = self.stream(&request, true, deadline)?;
        let head = self.inbox.wait(deadline, |read| read.heads.get(&number).cloned())?;
        match head {
            None => Err(io::ErrorKind::TimedOut.into()),
            Some(Err(cause)) => Err(io::Error::other(cause)),
            Some(Ok((status, content_type))) => {
                let error = (status >= 300).then(|| format!("the server answered {status}"));
                let told = Told { status: Some(status), content_type, error, ..Told::default() };
                match subscribe {
                    Some(message) if told.error.is_none() => {
                        self.await_acknowledgement(number, message, told, deadline)
                    }
                    _ => Ok(told),
                }
            }
        }
    }

    /// A subscription begins with its acknowledgement; an answer instead refuses it.
    fn await_acknowledgement(
        &self,
        number: usize,
        message: &Value,
        told: Told,
        deadline: Instant,
    ) -> io::Result<Told> {
        let id = message["id"].to_string();
        let begun = self.inbox.wait(deadline, |heard| {
            if heard.acknowledged.contains(&number) {
                return Some(Ok(()));
            }
            let answer = heard.answers.remove(&id);
            let ended = || heard.ended.contains(&number).then_some(Value::Null);
            answer.or_else(ended).map(Err)
        })?;
        let (error, answer) = match begun {
            Some(Ok(())) => return Ok(told),
            Some(Err(Value::Null)) => ("its stream ended without a word".to_owned(), None),
            Some(Err(answer)) => {
                let words = answer.pointer("/error/message").and_then(Value::as_str);
                let words: String = words.unwrap_or("no stream").chars().take(BODY).collect();
                (format!("the server answered {words:?}"), Some(answer))
            }
            None => ("its stream brought no acknowledgement in time".to_owned(), None),
        };
        Ok(Told { error: Some(error), answer, ..told })
    }

    fn begin(
        &mut self,
        body: &str,
        upto: Option<usize>,
        pause: Duration,
        deadline: Instant,
    ) -> io::Result<Told> {
        let message = serde_json::from_str(body).ok();
        let request = self.request_of("POST", Some(body), message.as_ref());
        let whole = upto.is_none_or(|upto| upto >= body.len());
        let sent =
            upto.map_or(request.len(), |upto| request.len() - body.len() + upto.min(body.len()));
        let mut socket = self.connect(deadline)?;
        let (head, rest) = request[..sent].split_at((request.len() - body.len()).min(sent));
        socket.write_all(head)?;
        match pause {
            Duration::ZERO => socket.write_all(rest)?,
            pause => {
                for byte in rest {
                    socket.write_all(std::slice::from_ref(byte))?;
                    thread::sleep(pause);
                    if Instant::now() >= deadline {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
            }
        }
        if whole {
            let mut response = Response::default();
            read_whole(&mut socket, &mut response, deadline)?;
            return Ok(describe(&response));
        }
        self.read_on(socket, false);
        Ok(Told::default())
    }

    fn flood(&mut self, message: &Value, times: u32, deadline: Instant) -> io::Result<Told> {
        let request = self.request("POST", Some(message));
        let mut socket = self.connect(deadline)?;
        let _ = set_socket_recv_buffer_size(&socket, SMALL_BUFFER);
        socket.set_write_timeout(Some(FLOODED))?;
        for _ in 0..times {
            match socket.write_all(&request) {
                Ok(()) => {}
                Err(error) if is_late(&error) => break,
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        let socket = Arc::new(socket);
        self.streams.push(Stream { socket, reader: None, stop: Arc::default(), listens: false });
        Ok(Told::default())
    }

    fn await_answers(&mut self, deadline: Instant) -> io::Result<Told> {
        let pending = self.pending.clone();
        let all =
            |read: &mut Heard| pending.iter().all(|id| read.answers.contains_key(id)).then_some(());
        if self.inbox.wait(deadline, all)?.is_none() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.pending.clear();
        Ok(Told::default())
    }

    fn await_ends(&mut self, deadline: Instant) -> io::Result<Told> {
        let all = |read: &mut Heard| {
            read.heads.keys().all(|number| read.ended.contains(number)).then_some(())
        };
        match self.inbox.wait(deadline, all)? {
            Some(()) => Ok(Told::default()),
            None => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// A request and its response on the main connection. One that the server closed while it was
    /// idle is replaced, as every client does.
    fn exchange(
        &mut self,
        request: &[u8],
        id: Option<&Value>,
        deadline: Instant,
    ) -> io::Result<Answered> {
        loop {
            let kept = self.main.take().filter(is_fresh);
            let reused = kept.is_some();
            let mut socket = match kept {
                Some(socket) => socket,
                None => self.connect(deadline)?,
            };
            let mut response = Response::default();
            let done = converse(&mut socket, request, id, &mut response, deadline, &self.meter);
            match done {
                Ok((answer, endless)) => {
                    let closes = response.head().is_some_and(|head| {
                        head.header("connection")
                            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
                    });
                    if response.is_complete() && !closes {
                        self.main = Some(socket);
                    }
                    return Ok(Answered { response, answer, endless });
                }
                Err(error) if WasCut::is(&error) => {
                    // What it has learned by then, it has; and nothing is closed yet.
                    if let Some(session) =
                        response.head().and_then(|head| head.header("mcp-session-id"))
                    {
                        self.session = Some(session.to_owned());
                    }
                    self.main = Some(socket);
                    return Err(error);
                }
                Err(error) if reused && !response.has_begun() && !is_late(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A connection of its own for a request, read by a thread from now on; the stream's number.
    fn stream(&mut self, request: &[u8], listens: bool, deadline: Instant) -> io::Result<usize> {
        let mut socket = self.connect(deadline)?;
        if let Err(error) = send(&mut socket, request, &self.meter) {
            if WasCut::is(&error) {
                let socket = Arc::new(socket);
                self.streams.push(Stream { socket, reader: None, stop: Arc::default(), listens });
            }
            return Err(error);
        }
        Ok(self.read_on(socket, listens))
    }

    fn read_on(&mut self, socket: TcpStream, listens: bool) -> usize {
        // A socket that takes no time limit is one that has failed, which the reader finds out.
        let _ = socket.set_read_timeout(Some(GLANCE));
        let (socket, stop) = (Arc::new(socket), Arc::new(AtomicBool::new(false)));
        let number = self.ports.len();
        let (source, stopped) = (Arc::clone(&socket), Arc::clone(&stop));
        let (inbox, stalled) = (Arc::clone(&self.inbox), Arc::clone(&self.stalled));
        let meter = Arc::clone(&self.meter);
        let reader =
            thread::spawn(move || inbox.read_from(&source, number, &stopped, &stalled, &meter));
        self.streams.push(Stream { socket, reader: Some(reader), stop, listens });
        number
    }

    fn request(&self, method: &str, message: Option<&Value>) -> Vec<u8> {
        let body = message.map(Value::to_string);
        self.request_of(method, body.as_deref(), message)
    }

    /// The bytes of a request; the user's headers go before ours of the same name.
    fn request_of(&self, method: &str, body: Option<&str>, message: Option<&Value>) -> Vec<u8> {
        let endpoint = if method == "POST" { &self.post_to } else { &self.place.endpoint };
        let mut headers: Vec<(&str, String)> = vec![("Host", endpoint.authority())];
        let accept = match method {
            "GET" => "text/event-stream",
            _ => "application/json, text/event-stream",
        };
        headers.push(("Accept", accept.to_owned()));
        let word = |pointer: &str| message.and_then(|message| message.pointer(pointer)?.as_str());
        match self.place.era {
            Era::Modern => {
                headers.push(("MCP-Protocol-Version", Era::Modern.revision().to_owned()));
                headers.extend(word("/method").map(|method| ("Mcp-Method", method.to_owned())));
                let name = word("/params/name").or_else(|| word("/params/uri"));
                headers.extend(name.map(|name| ("Mcp-Name", name.to_owned())));
            }
            Era::Legacy => {
                let version = self.version.iter().cloned();
                headers.extend(version.map(|version| ("MCP-Protocol-Version", version)));
                let session = self.session.iter().cloned();
                headers.extend(session.map(|session| ("Mcp-Session-Id", session)));
                if method == "GET" {
                    let last = self.inbox.lock().last_event.clone();
                    headers.extend(last.map(|last| ("Last-Event-ID", last)));
                }
            }
        }
        if let Some(body) = body {
            headers.push(("Content-Type", "application/json".to_owned()));
            headers.push(("Content-Length", body.len().to_string()));
        } else if method == "DELETE" {
            headers.push(("Content-Length", "0".to_owned()));
        }
        let given = &self.place.headers;
        headers
            .retain(|(name, _)| !given.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
        let mut text = format!("{method} {} HTTP/1.1\r\n", endpoint.path);
        for (name, value) in headers
            .iter()
            .map(|(name, value)| (*name, value))
            .chain(given.iter().map(|(name, value)| (name.as_str(), value)))
        {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.push_str(body.unwrap_or_default());
        text.into_bytes()
    }

    /// A new connection. A name may stand for several addresses, of which the first that takes us is
    /// the server's.
    fn connect(&mut self, deadline: Instant) -> io::Result<TcpStream> {
        let endpoint = &self.place.endpoint;
        let mut failed = io::Error::other("the host has no address");
        for address in (endpoint.host.as_str(), endpoint.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(deadline)) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    socket.set_write_timeout(Some(left(deadline)))?;
                    if self.ports.len() < PORTS {
                        self.ports.push(socket.local_addr()?.port());
                    }
                    return Ok(socket);
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}
