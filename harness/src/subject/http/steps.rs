//! The effect of each step, and what it waits for.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Play;
use super::answers::ended;
use super::books::Client;
use super::ending::Sent;
use super::orders::STEP_TIMEOUT;
use super::watch::InFlight;
use crate::cell::contain;
use crate::ledger::verdict::{Failure, StepRef};
use crate::lifecycle::endpoint::Wire;
use crate::lifecycle::step::{
    Action, Condition, Era, HandshakePoint, Read, Signal, Step, Stream, Whom,
};
use crate::peer::http::control::Act;
use crate::peer::wire;
use crate::settle::{Settled, settle};

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
            Action::Call { tool, wait: false, .. } => {
                self.await_taken(name);
                self.await_work(tool, at);
            }
            Action::Flood { times, .. } if *times >= MANY => self.await_flooded(name),
            Action::Send { .. }
            | Action::Handshake { until: HandshakePoint::Sent }
            | Action::Request { wait: false, .. } => self.await_taken(name),
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
}
