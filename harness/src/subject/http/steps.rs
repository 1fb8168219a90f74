//! The effect of each step, and what it waits for.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Play;
use super::books::{Client, Fate, Past, SessionBook};
use super::ending::Sent;
use super::peers::Peer;
use super::watch::InFlight;
use crate::cell::contain;
use crate::ledger::verdict::{Failure, StepRef};
use crate::lifecycle::endpoint::Wire;
use crate::lifecycle::step::{
    Action, CURSOR, Condition, Era, HandshakePoint, Payload, Read, Signal, Step, Stream, Whom,
};
use crate::peer::http::control::{Act, Place, Told};
use crate::peer::wire;
use crate::settle::{Settled, settle};
use crate::subject::finding;
use crate::subject::learn::{introduces, tools};
use crate::subject::server::millis;

/// Longest time for a step that names none, starting and handshake apart.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time for a call of a lifecycle that was made for any server.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for the first stream, which not every server has.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);
/// The process of every client that is not killed.
const TOGETHER: &str = "clients";
/// A session that no server gave out.
pub(super) const UNKNOWN_SESSION: &str = "scupper-unknown-session";

/// Requests of a flood that come first, and how long processes that come with them may take to show.
const FIRST_OF_FLOOD: u32 = 5;
/// From so many on, the answers are more than a client that does not read them has room for.
const MANY: u32 = 100;
const FLOOD_SHOWS: Duration = Duration::from_millis(500);

/// What a step has begun.
pub(super) enum Doing {
    /// Nothing is waited for.
    Nothing,
    /// A client was told to do something.
    Told(Deed),
}

/// What a client was told to do, as far as it matters when it is done.
pub(super) enum Deed {
    Open,
    Handshake(u64, HandshakePoint),
    Request(String),
    /// A notification, or a request that is not waited for.
    Posted,
    Listen,
    Delete,
    /// DELETE comes first, and then the connections are closed.
    Close,
    End,
    Abandon,
    Other,
}

impl Deed {
    /// Whether a client that is cut says no more of it.
    fn says_something(&self) -> bool {
        !matches!(self, Deed::Close | Deed::End | Deed::Abandon | Deed::Other)
    }
}

impl Play<'_> {
    /// Begins a step.
    pub(super) fn begin(&mut self, step: &Step, at: &StepRef) -> Result<Doing, Box<Failure>> {
        let name = step.connection.as_str();
        let time = self.time_of(step);
        match &step.action {
            Action::Start { .. } => {
                if self.life.is_some() {
                    self.drained(at);
                }
                self.start(at, self.port)?;
                self.detect(at)?;
                return Ok(Doing::Nothing);
            }
            Action::Signal { signal, whom: Whom::Server } => {
                self.signal(*signal, Sent::ToOne, at);
                return Ok(Doing::Nothing);
            }
            Action::Signal { signal, whom: Whom::Group } => {
                self.signal(*signal, Sent::ToGroup, at);
                return Ok(Doing::Nothing);
            }
            Action::Kill { whom: Whom::Server | Whom::Group } => {
                self.signal(Signal::Kill, Sent::ToOne, at);
                return Ok(Doing::Nothing);
            }
            Action::Kill { whom: Whom::Client } => {
                self.kill_client(name, at);
                return Ok(Doing::Nothing);
            }
            Action::Shutdown => {
                self.signal(Signal::Term, Sent::ToOne, at);
                self.drained(at);
                return Ok(Doing::Nothing);
            }
            Action::WaitFor { condition } => {
                return self.wait_for(condition, at, time).map(|()| Doing::Nothing);
            }
            Action::Pause { time } => {
                std::thread::sleep(*time);
                return Ok(Doing::Nothing);
            }
            _ => {}
        }
        if self.life.as_ref().is_none_or(|life| life.exit.is_some()) {
            let message = match self.life.as_ref().and_then(|life| life.exit) {
                Some((code, signal)) => {
                    format!("the server had {} by then", ended(code, signal))
                }
                None => "no server was started".to_owned(),
            };
            return Err(self.failure(at, message));
        }
        if !matches!(step.action, Action::Open) && !self.clients.contains_key(name) {
            return Err(self.failure(at, format!("client {name} is not open")));
        }
        if self.is_silenced(name, &step.action) {
            return Ok(Doing::Nothing);
        }
        let (act, deed) = match &step.action {
            // It holds since the client was opened.
            Action::Cut { .. } => return Ok(Doing::Nothing),
            Action::Open => {
                let peer = self.peer_of(name);
                self.ready(&peer).map_err(|message| self.failure(at, message))?;
                self.clients.insert(name.to_owned(), Client { peer, ..Client::default() });
                let passing = self.passing_of(name);
                (Act::Open { place: self.place(), passing }, Deed::Open)
            }
            Action::Handshake { until } => {
                let id = self.next_id();
                let message = wire::first_request(self.era, id);
                let wait = *until != HandshakePoint::Sent;
                self.pend(name, id, "initialize", wait);
                (Act::Post { message, wait }, Deed::Handshake(id, *until))
            }
            Action::Call { tool, arguments, wait } => {
                let params = json!({ "name": tool, "arguments": arguments });
                let began = Instant::now();
                if !wait {
                    self.in_flight = Some(InFlight::new(tool, at, began));
                }
                self.request(name, "tools/call", params, *wait)
            }
            Action::Request { method, params, wait } => {
                let Some(params) = self.with_cursor(params) else { return Ok(Doing::Nothing) };
                self.request(name, method, params, *wait)
            }
            Action::ListAll { method, .. } => self.request(name, method, Value::Null, true),
            Action::Notify { method, params } => {
                let message = wire::notification(self.era, method, params.clone());
                (Act::Post { message, wait: true }, Deed::Posted)
            }
            Action::Cancel => {
                let client = self.clients.get_mut(name);
                let Some((id, _)) = client.and_then(|client| client.pending.pop()) else {
                    return Ok(Doing::Nothing);
                };
                let params = json!({ "requestId": id });
                let message = wire::notification(self.era, "notifications/cancelled", params);
                (Act::Post { message, wait: true }, Deed::Posted)
            }
            Action::Send { payload, upto } => {
                let body = self.body(payload);
                (Act::Begin { body, upto: *upto, pause_ms: 0 }, Deed::Other)
            }
            Action::Trickle { payload, pause } => {
                let body = self.body(payload);
                let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                (Act::Begin { body, upto: None, pause_ms }, Deed::Posted)
            }
            Action::Flood { method, times } => {
                let times = self.first_of_flood(name, method, *times, time);
                let times = times.map_err(|message| self.failure(at, message))?;
                let id = self.next_id();
                let message = wire::request(self.era, id, method, Value::Null);
                (Act::Flood { message, times }, Deed::Other)
            }
            Action::Join { session_of } => {
                let (session, last_event) = self.session_of(session_of.as_deref());
                (Act::Join { session, last_event }, Deed::Other)
            }
            Action::Read { what: Read::Answers } => (Act::Answers, Deed::Other),
            Action::Read { what: Read::End } => (Act::Ends, Deed::Other),
            Action::Listen if self.wire == Wire::Sse => return Ok(Doing::Nothing),
            Action::Listen => {
                let subscribes = self.era == Era::Modern;
                let subscribe = subscribes.then(|| wire::subscription(self.next_id()));
                (Act::Listen { subscribe }, Deed::Listen)
            }
            Action::Delete | Action::Close if !self.has_session(name) => match &step.action {
                Action::Delete => return Ok(Doing::Nothing),
                _ => (Act::Drop, Deed::End),
            },
            Action::Delete => (Act::Delete, Deed::Delete),
            Action::Close => (Act::Delete, Deed::Close),
            Action::Drop => (Act::Drop, Deed::End),
            Action::Reset => (Act::Reset, Deed::End),
            Action::Abandon => (Act::Abandon, Deed::Abandon),
            Action::Silence => (Act::Silence, Deed::Other),
            Action::HalfClose { stream: Stream::Requests } => (Act::HalfClose, Deed::Other),
            Action::Stall { stream: Stream::Events } => {
                self.reads_from(name, Some(at));
                (Act::Stall, Deed::Other)
            }
            Action::Resume { stream: Stream::Events } => {
                self.reads_from(name, None);
                (Act::Resume, Deed::Other)
            }
            other => {
                // The check of a file turns these down.
                let message = format!("{} is no step of an HTTP server", other.name());
                return Err(self.failure(at, message));
            }
        };
        self.order_client(name, act, time).map_err(|message| self.failure(at, message))?;
        Ok(Doing::Told(deed))
    }

    /// Waits for what a step has begun.
    pub(super) fn finish(
        &mut self,
        step: &Step,
        at: &StepRef,
        doing: Doing,
    ) -> Result<(), Box<Failure>> {
        let Doing::Told(deed) = doing else { return Ok(()) };
        let done = self.finish_deed(step, at, deed);
        done.map_err(|failure| self.beside_unread(failure, &step.connection))
    }

    fn finish_deed(&mut self, step: &Step, at: &StepRef, deed: Deed) -> Result<(), Box<Failure>> {
        let name = step.connection.as_str();
        let time = self.time_of(step);
        let began = Instant::now();
        let work = match &step.action {
            Action::Call { wait: true, .. } => self.watch_answered(name, at, time),
            _ => None,
        };
        let told = self.hear(name, time).map_err(|message| self.failure(at, message))?;
        match &step.action {
            Action::Call { tool, wait: true, .. } => {
                self.timed.insert(tool.clone(), began.elapsed());
                self.note_work(tool, work, at);
            }
            Action::Call { tool, wait: false, .. } => self.await_work(tool, at),
            Action::Flood { times, .. } if *times >= MANY => self.await_flooded(name),
            _ => {}
        }
        if told.cut && told.error.is_none() && deed.says_something() {
            // What it has learned by then, it has.
            self.book_session(name, &told, at);
            return Ok(());
        }
        if step.fails {
            return match &told.error {
                Some(_) => Ok(()),
                None => Err(self.failure(at, "it was to be refused, and was done".to_owned())),
            };
        }
        match deed {
            Deed::Open => self.done(at, &told, "no connection came about"),
            Deed::Handshake(id, until) => self.shaken(name, id, until, &told, at, time),
            Deed::Request(what) => self.answered(&what, step, &told, at),
            Deed::Posted => self.done(at, &told, "the message was not taken"),
            Deed::Listen => self.stream_opened(&told, at),
            Deed::Delete => {
                self.deleted(name, &told, at);
                Ok(())
            }
            Deed::Close => {
                self.deleted(name, &told, at);
                self.order_client(name, Act::Drop, time)
                    .and_then(|()| self.hear(name, time))
                    .map_err(|message| self.failure(at, message))?;
                self.gone(name, at);
                Ok(())
            }
            Deed::End => {
                self.gone(name, at);
                self.done(at, &told, "the client could not close its connections")
            }
            Deed::Abandon => {
                self.watch_abandoned(at);
                self.done(at, &told, "the client could not close its connections")
            }
            Deed::Other => self.done(at, &told, "it was not done"),
        }
    }

    fn done(&mut self, at: &StepRef, told: &Told, what: &str) -> Result<(), Box<Failure>> {
        match &told.error {
            None => Ok(()),
            Some(cause) => {
                let message = self.with_exit(format!("{what}: {cause}"));
                Err(self.failure(at, message))
            }
        }
    }

    /// A stream was opened, or not: a server need not have one, nor more than one at a time.
    fn stream_opened(&mut self, told: &Told, at: &StepRef) -> Result<(), Box<Failure>> {
        let first_look = self.order.first_look;
        if first_look {
            self.traits().listens = told.error.is_none();
        }
        match (self.era, told.status, &told.error) {
            (Era::Legacy, Some(405 | 409), _) => Ok(()),
            (Era::Modern, Some(status), Some(cause))
                if first_look || status >= 300 || told.answer.is_some() =>
            {
                self.note(match first_look {
                    true => format!(
                        "subscriptions/listen is not served ({cause}), so that what is played on a \
                         stream is left out"
                    ),
                    false => format!("{at}: a subscription was refused: {cause}"),
                });
                Ok(())
            }
            _ => self.done(at, told, "the stream was not opened"),
        }
    }

    /// A failure's words, and that the server has ended, where it has.
    fn with_exit(&mut self, message: String) -> String {
        self.reap();
        match self.life.as_ref().and_then(|life| life.exit) {
            Some((code, signal)) => {
                format!("{message}; the server has {}", ended(code, signal))
            }
            None => message,
        }
    }

    fn shaken(
        &mut self,
        name: &str,
        id: u64,
        until: HandshakePoint,
        told: &Told,
        at: &StepRef,
        time: Duration,
    ) -> Result<(), Box<Failure>> {
        if until == HandshakePoint::Sent {
            return self.done(at, told, "the handshake was not sent");
        }
        self.clear(name, id);
        let answer = told.answer.clone().unwrap_or_default();
        let result = match (&told.error, answer.get("result")) {
            (None, Some(result)) if introduces(result, self.era) => result.clone(),
            (None, Some(result)) => {
                let message = finding::no_introduction(self.era, result);
                return Err(self.failure(at, message));
            }
            (error, _) => {
                let cause = match (error, answer.get("error")) {
                    (_, Some(error)) => finding::short(error),
                    (Some(error), None) => error.clone(),
                    (None, None) => "the response holds no answer".to_owned(),
                };
                let message = self.with_exit(format!("the handshake failed: {cause}"));
                return Err(self.failure(at, message));
            }
        };
        self.answered = true;
        self.played.era = Some(self.era);
        if let Some(life) = &self.life {
            let took = millis(life.started.elapsed());
            self.played.figures.entry("handshake_ms".into()).or_insert(took);
        }
        self.book_session(name, told, at);
        if self.order.first_look {
            self.learn(&result, told);
        }
        if until == HandshakePoint::Ready && self.era == Era::Legacy {
            let message = wire::notification(self.era, "notifications/initialized", Value::Null);
            let told = self
                .order_client(name, Act::Post { message, wait: true }, time)
                .and_then(|()| self.hear(name, time))
                .map_err(|message| self.failure(at, message))?;
            self.done(at, &told, "notifications/initialized was not taken")?;
        }
        Ok(())
    }

    fn learn(&mut self, result: &Value, told: &Told) {
        let info = match self.era {
            Era::Legacy => &result["serverInfo"],
            Era::Modern => result
                .get("serverInfo")
                .unwrap_or(&result["_meta"]["io.modelcontextprotocol/serverInfo"]),
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().chars().take(200).collect();
        self.learned.name = text(&info["name"]);
        self.learned.version = text(&info["version"]);
        if self.learned.eras.is_empty() {
            self.learned.eras = vec![self.era];
        }
        self.traits().wire = self.wire;
        self.traits().sessions = told.session.is_some();
        if let Some(life) = &self.life {
            self.learned.start_ms = u64::try_from(life.started.elapsed().as_millis()).unwrap_or(0);
            let launchers = life.roles.launchers.iter();
            self.learned.launchers = launchers
                .map(|id| self.ledger.command(*id).unwrap_or_default().join(" "))
                .collect();
        }
    }

    fn answered(
        &mut self,
        what: &str,
        step: &Step,
        told: &Told,
        at: &StepRef,
    ) -> Result<(), Box<Failure>> {
        let is_call = matches!(step.action, Action::Call { .. });
        if told.endless {
            self.note(format!(
                "the stream of the answer to {what} went on for a second after the answer; the \
                 response SHOULD end it"
            ));
        }
        let client = self.clients.get(&step.connection);
        if let Some(works) = client.and_then(|client| client.works.clone()) {
            self.learned.works = Some(Box::new(works));
        }
        let is_stranger =
            client.is_some_and(|client| client.session.as_deref() == Some(UNKNOWN_SESSION));
        if is_stranger {
            let answered =
                told.answer.as_ref().is_some_and(|answer| answer.get("result").is_some());
            if answered {
                self.note("the server answers to a session id that it never gave out".to_owned());
            }
            return Ok(());
        }
        let Some(answer) = &told.answer else {
            if is_call && self.order.for_any_server {
                self.note(format!(
                    "tool {what} left out: no answer within {} s",
                    CALL_TIMEOUT.as_secs()
                ));
                return Ok(());
            }
            let cause = told.error.clone().unwrap_or_else(|| "the response holds no answer".into());
            let message = self.with_exit(format!("{what} was not answered: {cause}"));
            return Err(self.failure(at, message));
        };
        match (answer.get("result"), answer.get("error")) {
            (Some(result), _) => {
                if self.order.first_look && what == "tools/list" && self.learned.tools.is_empty() {
                    self.learned.tools = tools(result);
                }
                if let Some(cursor) = result["nextCursor"].as_str() {
                    self.cursor = Some(cursor.to_owned());
                }
            }
            (None, error) => {
                let error = error.cloned().unwrap_or_default();
                self.note(format!(
                    "{}: answered with an error: {}",
                    at.name,
                    finding::short(&error)
                ));
            }
        }
        Ok(())
    }

    fn deleted(&mut self, name: &str, told: &Told, at: &StepRef) {
        let ended = told.error.is_none();
        if self.order.first_look && self.wire == Wire::Streamable {
            self.traits().deletes = ended;
        }
        if !ended {
            let what = match told.status {
                Some(status) => format!("was answered {status}"),
                None => format!("was not answered ({})", told.error.clone().unwrap_or_default()),
            };
            self.note(format!("DELETE of a session {what}, so sessions end only by themselves"));
            return;
        }
        if let Some(book) = self.book_of(name) {
            book.fate = Fate::Deleted(at.clone());
        }
    }

    fn book_of(&mut self, name: &str) -> Option<&mut SessionBook> {
        let id = self.clients.get(name)?.session.clone()?;
        self.sessions.iter_mut().find(|one| one.id == id)
    }

    /// A client has closed its connections, or they were closed for it.
    pub(super) fn gone(&mut self, name: &str, at: &StepRef) {
        let others_have_it = {
            let session = self.clients.get(name).and_then(|client| client.session.clone());
            session.is_some_and(|session| {
                self.clients.iter().any(|(other, client)| {
                    other != name && client.session.as_ref() == Some(&session)
                })
            })
        };
        if let Some(book) = self.book_of(name)
            && matches!(book.fate, Fate::Open)
            && !others_have_it
        {
            book.fate = Fate::Abandoned(at.clone(), Instant::now());
        }
        let Some(client) = self.clients.remove(name) else { return };
        self.past.push(Past {
            name: name.to_owned(),
            ports: client.ports,
            last_event: client.last_event,
            due: at.clone(),
        });
    }

    fn kill_client(&mut self, name: &str, at: &StepRef) {
        let Some(peer) = self.clients.get(name).map(|client| client.peer.clone()) else { return };
        let Some(process) = self.peers.remove(&peer) else { return };
        process.kill();
        let dead = settle(Instant::now() + STEP_TIMEOUT, || {
            self.reap();
            !contain::lives(process.id)
        });
        if dead == Settled::Bound {
            self.played.unreadable.insert("the client process, which SIGKILL did not end".into());
        }
        self.sight.ours.remove(&process.id.pid);
        let of_it: Vec<String> = self
            .clients
            .iter()
            .filter(|(_, client)| client.peer == peer)
            .map(|(name, _)| name.clone())
            .collect();
        for name in of_it {
            self.gone(&name, at);
        }
    }

    fn wait_for(
        &mut self,
        condition: &Condition,
        at: &StepRef,
        time: Duration,
    ) -> Result<(), Box<Failure>> {
        let is_due = self.life.as_ref().is_some_and(|life| life.due.is_some());
        match condition {
            Condition::Exited | Condition::Gone if is_due => {
                self.drained(at);
                Ok(())
            }
            Condition::Exited | Condition::Gone => {
                let exited = settle(Instant::now() + time, || {
                    self.reap();
                    self.life.as_ref().is_none_or(|life| life.exit.is_some())
                });
                match exited {
                    Settled::Quiet => Ok(()),
                    Settled::Bound => {
                        Err(self.failure(at, "the server did not exit in time".into()))
                    }
                }
            }
            Condition::Stderr(text) => {
                let there = settle(Instant::now() + time, || {
                    let output = self.life.as_ref().map(|life| life.output.last());
                    output.is_some_and(|lines| lines.iter().any(|line| line.contains(text)))
                });
                match there {
                    Settled::Quiet => Ok(()),
                    Settled::Bound => {
                        Err(self.failure(at, format!("{text:?} did not appear on stderr in time")))
                    }
                }
            }
        }
    }

    /// Sends a few requests of a flood first, and gives back how many may follow: none where each starts
    /// a process, of which no host has room for a thousand.
    fn first_of_flood(
        &mut self,
        name: &str,
        method: &str,
        times: u32,
        time: Duration,
    ) -> Result<u32, String> {
        let Some(rest) = times.checked_sub(FIRST_OF_FLOOD).filter(|rest| *rest > 0) else {
            return Ok(times);
        };
        let before = self.alive().len();
        let id = self.next_id();
        let message = wire::request(self.era, id, method, Value::Null);
        self.order_client(name, Act::Flood { message, times: FIRST_OF_FLOOD }, time)?;
        self.hear(name, time)?;
        let until = Instant::now() + FLOOD_SHOWS;
        while Instant::now() < until {
            if self.alive().len() > before + 2 {
                self.note(format!(
                    "{FIRST_OF_FLOOD} of {times} requests were sent at once: the server starts processes \
                     for them"
                ));
                return Ok(1);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(rest)
    }

    fn request(&mut self, name: &str, method: &str, params: Value, wait: bool) -> (Act, Deed) {
        let id = self.next_id();
        let what = match (method, params["name"].as_str()) {
            ("tools/call", Some(tool)) => tool.to_owned(),
            _ => method.to_owned(),
        };
        let message = wire::request(self.era, id, method, params);
        self.pend(name, id, &what, wait);
        let deed = if wait { Deed::Request(what) } else { Deed::Posted };
        (Act::Post { message, wait }, deed)
    }

    /// Writes down a request that nobody waits for.
    fn pend(&mut self, name: &str, id: u64, what: &str, wait: bool) {
        if let (Some(client), false) = (self.clients.get_mut(name), wait) {
            client.pending.push((id, what.to_owned()));
        }
    }

    fn clear(&mut self, name: &str, id: u64) {
        if let Some(client) = self.clients.get_mut(name) {
            client.pending.retain(|(one, _)| *one != id);
        }
    }

    fn with_cursor(&mut self, params: &Value) -> Option<Value> {
        let mut params = params.clone();
        if params["cursor"] == CURSOR {
            params["cursor"] = self.cursor.clone()?.into();
        }
        Some(params)
    }

    fn body(&mut self, payload: &Payload) -> String {
        match payload {
            Payload::Text(text) => text.clone(),
            Payload::Handshake => {
                let id = self.next_id();
                wire::first_request(self.era, id).to_string()
            }
        }
    }

    fn has_session(&self, name: &str) -> bool {
        let client = self.clients.get(name).filter(|client| !client.is_cut);
        let session = client.is_some_and(|client| client.session.is_some());
        self.era == Era::Legacy && (session || self.wire == Wire::Sse)
    }

    fn session_of(&self, of: Option<&str>) -> (Option<String>, Option<String>) {
        let Some(of) = of else { return (Some(UNKNOWN_SESSION.to_owned()), None) };
        if let Some(client) = self.clients.get(of) {
            return (client.session.clone(), client.last_event.clone());
        }
        let book = self.sessions.iter().rev().find(|one| one.client == of);
        let last_event = self.past.iter().rev().find(|one| one.name == of);
        (book.map(|book| book.id.clone()), last_event.and_then(|past| past.last_event.clone()))
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn place(&self) -> Place {
        let endpoint = self.life.as_ref().map(|life| life.endpoint.clone());
        let endpoint = endpoint.unwrap_or_else(|| crate::lifecycle::endpoint::Endpoint {
            host: "127.0.0.1".to_owned(),
            port: self.port.unwrap_or(0),
            path: "/".to_owned(),
        });
        Place { endpoint, wire: self.wire, era: self.era, headers: self.headers() }
    }

    /// The user's headers, as they are sent.
    pub(super) fn headers(&self) -> Vec<(String, String)> {
        let headers = self.http.headers.iter();
        headers.map(|header| (header.name.clone(), header.value.clone())).collect()
    }

    fn time_of(&self, step: &Step) -> Duration {
        step.within.unwrap_or(match step.action {
            Action::Open | Action::Handshake { .. } => {
                Duration::from_millis(self.order.start_timeout_ms)
            }
            Action::Call { .. } if self.order.for_any_server => CALL_TIMEOUT,
            Action::Listen if self.order.first_look => SUBSCRIBE_TIMEOUT,
            _ => STEP_TIMEOUT,
        })
    }

    /// The process that a client lives in: one of its own, where it is to be killed.
    fn peer_of(&self, name: &str) -> String {
        let is_killed = kills(&self.order.lifecycle.steps, name);
        if is_killed { name.to_owned() } else { TOGETHER.to_owned() }
    }

    /// Starts a process of clients, if it is not there.
    fn ready(&mut self, peer: &str) -> Result<(), String> {
        if !self.peers.contains_key(peer) {
            let process = Peer::start(&self.http.program)?;
            self.sight.ours.insert(process.id.pid);
            self.peers.insert(peer.to_owned(), process);
        }
        Ok(())
    }

    fn order_client(&mut self, name: &str, act: Act, time: Duration) -> Result<(), String> {
        let Some(client) = self.clients.get(name) else {
            return Err(format!("client {name} is not open"));
        };
        let Some(peer) = self.peers.get_mut(&client.peer) else {
            return Err(format!("the process of client {name} is gone"));
        };
        peer.tell(name, act, time)
    }

    /// Whether a client has something to tell.
    pub(super) fn has_told(&mut self, name: &str) -> bool {
        let peer = self.clients.get(name).and_then(|client| self.peers.get_mut(&client.peer));
        // A peer that is gone is told of by whoever listens to it.
        peer.is_none_or(|peer| peer.has_told(name))
    }

    /// What a client has to tell, written into the books.
    fn hear(&mut self, name: &str, time: Duration) -> Result<Told, String> {
        let Some(client) = self.clients.get_mut(name) else {
            return Err(format!("client {name} is not open"));
        };
        let Some(peer) = self.peers.get_mut(&client.peer) else {
            return Err(format!("the process of client {name} is gone"));
        };
        let told = peer.hear(name, time)?;
        client.ports.extend(&told.ports);
        client.session.clone_from(&told.session);
        client.last_event.clone_from(&told.last_event);
        client.is_cut = told.cut;
        client.works.clone_from(&told.works);
        self.was_cut |= told.cut;
        if told.last_event.is_some() {
            self.traits().resumes = true;
        }
        if self.order.first_look {
            let more = self.alive().len().saturating_sub(self.tree);
            self.traits().processes = self.traits().processes.max(more);
        }
        Ok(told)
    }

    /// Has a client do one last thing.
    pub(super) fn let_go(&mut self, name: &str, act: Act) -> Result<(), String> {
        self.order_client(name, act, STEP_TIMEOUT)?;
        self.hear(name, STEP_TIMEOUT).map(drop)
    }

    /// Has a client that is in no books do something at once.
    pub(super) fn obey(&mut self, name: &str, act: Act, time: Duration) -> Result<Told, String> {
        self.ready(TOGETHER)?;
        let Some(peer) = self.peers.get_mut(TOGETHER) else {
            return Err("the HTTP clients are gone".to_owned());
        };
        peer.tell(name, act, time)?;
        peer.hear(name, time)
    }
}

/// Whether some step kills the process of this client.
fn kills(steps: &[Step], name: &str) -> bool {
    steps.iter().any(|step| match &step.action {
        Action::Kill { whom: Whom::Client } => step.connection == name,
        Action::Repeat { steps, .. } => kills(steps, name),
        Action::Concurrently { branches } => branches.iter().any(|steps| kills(steps, name)),
        _ => false,
    })
}

fn ended(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("exited with code {code}"),
        _ => finding::exit_words(code, signal).replacen("was ", "been ", 1),
    }
}
