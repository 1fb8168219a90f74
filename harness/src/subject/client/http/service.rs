//! What befell the HTTP server of a client: its connections, sessions and streams.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::ledger::snapshot::ProcessId;
use crate::ledger::verdict::StepRef;
use crate::lifecycle::client::http::DELETE;
use crate::peer::http::report::{Asked, Closer};

/// Most requests, and most instants of one sort, that are remembered.
const MOST: usize = 20_000;
/// Within so long, attempts are counted.
const WINDOW: Duration = Duration::from_secs(5);
/// So many streams opened again in that time are no pause of a second each: SDKs make five.
const MOST_REOPENED: usize = 50;
/// So many failures in that time, and so many more for each request of a good life, are without a
/// bound: a redirect is followed ten or twenty times by every HTTP library.
const MOST_FAILED: (usize, usize) = (50, 25);
/// The same for requests with a session that is dead.
const MOST_DEAD: (usize, usize) = (20, 2);

/// The HTTP server.
#[derive(Debug)]
pub struct Service {
    /// Which process.
    pub id: ProcessId,
    /// Where it is.
    pub url: String,
    /// Its port.
    pub port: u16,
    /// By the server's number.
    pub connections: BTreeMap<u64, Connection>,
    /// By id.
    pub sessions: BTreeMap<String, Session>,
    /// Methods of the requests that came, in order.
    pub requests: Vec<String>,
    /// Verbs and methods of everything that came.
    pub heard: BTreeSet<String>,
    /// The request that every round begins with.
    pub mark: Option<String>,
    /// Rounds that have begun.
    pub rounds: usize,
    /// When a stream was opened again.
    reopened: Vec<Instant>,
    /// When a request was answered with a failure or a redirect.
    failed: Vec<Instant>,
    /// Sessions for which a stream was asked for, and those for which one was opened.
    listened: [BTreeSet<String>; 2],
    /// It was found to do something without a bound: what it does is no news any more.
    pub storms: bool,
    /// It went wrong between two responses, and in none.
    pub was_whole: bool,
}

/// A connection that a client has made.
#[derive(Debug)]
pub struct Connection {
    /// The client's port.
    pub port: u16,
    /// The step in which its last request came.
    pub step: StepRef,
    /// The request that has no answer yet: its method, or DELETE.
    pub in_flight: Option<String>,
    /// The session whose end was asked for last.
    pub ends: Option<String>,
    /// The session whose stream was asked for last.
    pub opens: Option<String>,
    /// It carries a stream of events that stays open, of this session.
    pub stream: Option<Option<String>>,
    /// Its end, and who made it.
    pub closed: Option<(Instant, Closer)>,
}

/// A session that a client has begun.
#[derive(Debug)]
pub struct Session {
    /// The step in which it was begun.
    pub born: StepRef,
    /// The client has sent DELETE for it.
    pub deleted: Option<Instant>,
    /// That was answered, or the client has given up on an answer: it is done with the session.
    pub done: bool,
    /// The server has answered 404 to it.
    pub lost: bool,
    /// Requests with its id after that.
    pub asked_since: usize,
}

/// What a client does without a bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storm {
    /// It opens a stream again and again.
    Reopens,
    /// It asks again and again.
    Repeats,
    /// It asks with a session that is dead.
    DeadSession(String),
}

impl Service {
    /// One that nothing has reached yet.
    pub fn new(id: ProcessId, port: u16) -> Self {
        Self {
            id,
            url: format!("http://127.0.0.1:{port}/mcp"),
            port,
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            requests: Vec::new(),
            heard: BTreeSet::new(),
            mark: None,
            rounds: 0,
            reopened: Vec::new(),
            failed: Vec::new(),
            listened: Default::default(),
            storms: false,
            was_whole: false,
        }
    }

    /// A request has come, in this step. Whether it is news: a stream that is opened again is none.
    pub fn asked(&mut self, number: u64, asked: &Asked, step: StepRef, at: Instant) -> bool {
        self.heard.insert(asked.method.clone().unwrap_or_else(|| asked.verb.clone()));
        if asked.is_request && self.requests.len() < MOST {
            self.requests.extend(asked.method.clone());
        }
        if let Some(connection) = self.connections.get_mut(&number) {
            let ends = asked.session.clone().filter(|_| asked.verb == DELETE);
            let method = asked.method.clone().filter(|_| asked.is_request);
            connection.in_flight = method.or(ends.is_some().then(|| DELETE.to_owned()));
            connection.ends = ends;
            connection.opens = None;
            connection.step = step;
        }
        let session = asked.session.as_ref().and_then(|id| self.sessions.get_mut(id));
        if let Some(session) = session {
            if asked.verb == DELETE {
                session.deleted.get_or_insert(at);
            } else if session.lost {
                session.asked_since += 1;
            }
        }
        if asked.verb != "GET" {
            return !self.storms;
        }
        let session = asked.session.clone().unwrap_or_default();
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.opens = Some(session.clone());
        }
        // One that was redirected or refused has not been open yet.
        if self.listened[1].contains(&session) && self.reopened.len() < MOST {
            self.reopened.push(at);
        }
        self.listened[0].insert(session)
    }

    /// A request was answered.
    pub fn answered(
        &mut self,
        number: u64,
        status: u16,
        began: Option<String>,
        stream: Option<Option<String>>,
        at: Instant,
    ) {
        if status >= 300 && self.failed.len() < MOST {
            self.failed.push(at);
        }
        self.is_done_with(number);
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.in_flight = None;
        connection.stream = stream;
        if status == 200 {
            self.listened[1].extend(connection.opens.take());
        }
        if let Some(id) = began {
            let born = connection.step.clone();
            let session = Session { born, deleted: None, done: false, lost: false, asked_since: 0 };
            self.sessions.insert(id, session);
        }
    }

    /// A connection on which the end of a session was asked for has its answer, or has ended.
    fn is_done_with(&mut self, number: u64) {
        let ends = self.connections.get(&number).and_then(|connection| connection.ends.as_ref());
        if let Some(session) = ends.and_then(|id| self.sessions.get_mut(id)) {
            session.done = true;
        }
    }

    /// The server has ended a session of its own accord, or upon DELETE.
    pub fn over(&mut self, id: &str) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.lost |= session.deleted.is_none();
        }
    }

    /// A connection has ended.
    pub fn disconnected(&mut self, number: u64, by: Closer, at: Instant) {
        self.is_done_with(number);
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.closed = Some((at, by));
        // The server's own end of a connection without an answer is a failure, too.
        let failed = connection.in_flight.take().is_some() && by == Closer::Server;
        if failed && self.failed.len() < MOST {
            self.failed.push(at);
        }
    }

    /// The server is dead, and all of its connections with it.
    pub fn dies(&mut self, at: Instant) {
        for connection in self.connections.values_mut() {
            connection.closed.get_or_insert((at, Closer::Server));
            connection.in_flight = None;
        }
    }

    /// What the client does without a bound, if it does; a good life has so many requests.
    pub fn storm(&self, requests: usize) -> Option<Storm> {
        let within = |instants: &[Instant], most: usize| {
            let first = instants.len().checked_sub(most).map(|place| instants[place]);
            let last = instants.last().copied();
            first.zip(last).is_some_and(|(first, last)| last - first < WINDOW)
        };
        let limit = |(least, each): (usize, usize)| least + each * requests;
        if within(&self.reopened, MOST_REOPENED) {
            return Some(Storm::Reopens);
        }
        let is_used = |session: &&Session| session.asked_since > limit(MOST_DEAD);
        if let Some((id, _)) = self.sessions.iter().find(|(_, session)| is_used(session)) {
            return Some(Storm::DeadSession(id.clone()));
        }
        within(&self.failed, limit(MOST_FAILED)).then_some(Storm::Repeats)
    }

    /// How often a stream was opened again, and how often a request failed, with the time from the
    /// first to the last.
    pub fn attempts(&self, storm: &Storm) -> (usize, Duration) {
        let instants = match storm {
            Storm::Reopens => &self.reopened,
            Storm::Repeats | Storm::DeadSession(_) => &self.failed,
        };
        let span = instants.first().zip(instants.last()).map(|(first, last)| *last - *first);
        (instants.len(), span.unwrap_or_default())
    }

    /// How often a stream was opened again, with the time from the first to the last.
    pub fn reopened(&self) -> (usize, Duration) {
        self.attempts(&Storm::Reopens)
    }

    /// Streams that are open, and requests without an answer.
    pub fn open(&self) -> (usize, usize) {
        let open = self.connections.values().filter(|connection| connection.closed.is_none());
        let streams = open.clone().filter(|connection| connection.stream.is_some());
        let in_flight = open.filter(|connection| connection.in_flight.is_some());
        (streams.count(), in_flight.count())
    }

    /// Sessions that nobody has ended.
    pub fn left(&self) -> impl Iterator<Item = (&String, &Session)> {
        self.sessions.iter().filter(|(_, session)| session.deleted.is_none() && !session.lost)
    }

    /// Streams of sessions that the client has ended, and that it has not closed.
    pub fn kept(&self) -> impl Iterator<Item = (&Connection, &str)> {
        self.connections.values().filter(|connection| connection.closed.is_none()).filter_map(
            |connection| {
                let id = connection.stream.as_ref()?.as_deref()?;
                self.sessions.get(id)?.done.then_some((connection, id))
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str) -> StepRef {
        StepRef { place: "2".into(), name: name.into(), cycle: None }
    }

    fn service() -> Service {
        let mut service = Service::new(ProcessId { pid: 1, start_time: 1 }, 80);
        for number in [1, 2] {
            let connection = Connection {
                port: 4711,
                step: step("x"),
                in_flight: None,
                ends: None,
                opens: None,
                stream: None,
                closed: None,
            };
            service.connections.insert(number, connection);
        }
        service
    }

    fn asked(verb: &str, method: Option<&str>) -> Asked {
        Asked {
            verb: verb.into(),
            method: method.map(str::to_owned),
            is_request: method.is_some(),
            session: Some("a".into()),
            ..Asked::default()
        }
    }

    #[test]
    fn a_session_is_left_until_it_is_deleted_or_lost() {
        let now = Instant::now();
        let mut service = service();
        service.asked(1, &asked("POST", Some("initialize")), step("begin"), now);
        service.answered(1, 200, Some("a".into()), None, now);
        assert_eq!(service.left().count(), 1);
        assert_eq!(service.sessions["a"].born.name, "begin");
        service.asked(1, &asked("GET", None), step("stream"), now);
        service.answered(1, 200, None, Some(Some("a".into())), now);
        assert_eq!((service.open(), service.kept().count()), ((1, 0), 0));
        service.asked(2, &asked("DELETE", None), step("end"), now);
        service.over("a");
        // The client still waits for the answer, and may have use for the stream until then.
        assert_eq!((service.left().count(), service.kept().count()), (0, 0));
        service.answered(2, 200, None, None, now);
        assert_eq!((service.left().count(), service.kept().count()), (0, 1));
        service.disconnected(1, Closer::Client, now);
        assert_eq!((service.open(), service.kept().count()), ((0, 0), 0));
    }

    #[test]
    fn an_sdk_that_waits_a_second_each_time_is_no_storm_and_one_that_does_not_is() {
        let begun = Instant::now();
        for (pause, storm) in [(1_000, None), (10, Some(Storm::Reopens))] {
            let mut service = service();
            for attempt in 0..200 {
                let at = begun + Duration::from_millis(pause * attempt);
                let is_news = service.asked(1, &asked("GET", None), step("stream"), at);
                assert_eq!(is_news, attempt == 0);
                // The first one is redirected, and has not been open.
                service.answered(1, if attempt == 0 { 307 } else { 200 }, None, None, at);
            }
            assert_eq!(service.reopened().0, 198);
            assert_eq!(service.storm(3), storm);
        }
    }

    #[test]
    fn a_redirect_that_a_library_follows_twenty_times_for_each_request_is_no_storm() {
        let now = Instant::now();
        let mut service = service();
        for _ in 0..3 * 20 {
            service.answered(1, 307, None, None, now);
        }
        assert_eq!(service.storm(3), None);
        for _ in 0..100 {
            service.answered(1, 307, None, None, now);
        }
        assert_eq!(service.storm(3), Some(Storm::Repeats));
    }

    #[test]
    fn a_dead_session_is_one_that_is_used_for_long() {
        let now = Instant::now();
        let mut service = service();
        service.asked(1, &asked("POST", Some("initialize")), step("begin"), now);
        service.answered(1, 200, Some("a".into()), None, now);
        service.over("a");
        let ask = |service: &mut Service, times| {
            for _ in 0..times {
                service.asked(1, &asked("POST", Some("tools/call")), step("call"), now);
            }
        };
        ask(&mut service, 26);
        assert_eq!(service.storm(3), None);
        ask(&mut service, 1);
        assert_eq!(service.storm(3), Some(Storm::DeadSession("a".into())));
    }
}
