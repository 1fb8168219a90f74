//! Plays a lifecycle on a client over HTTP: its server runs beside it, started by the cell, and tells
//! what reaches it by the same channel.
//!
//! ```text
//! cell ─┬─ client
//!       │  (judged)
//!       └─ server      (scupper: HTTP on 127.0.0.1, reports to the cell)
//!          (ours)
//! ```
//!
//! - [`service`]: what befell the server, and what the client does without a bound.
//! - `judge`: sessions, streams and attempts that are left or too many.
//! - `rounds`: the same work again and again.

mod judge;
mod rounds;
pub mod service;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use self::service::{Connection, Service};
use super::super::finding::exit_words;
use super::super::server::millis;
use super::channel::What;
use super::started::Client;
use super::{HANDSHAKE, IDLE, Over, Play};
use crate::cell::contain;
use crate::ledger::verdict::StepRef;
use crate::lifecycle::client::Moment;
use crate::lifecycle::client::http::{self, DELETE, Fault};
use crate::lifecycle::sweep::{self, CUT_REACHED, Direction, Point, Wire};
use crate::peer::fake::service as peer;
use crate::peer::http::report::{Asked, HttpReport};
use crate::peer::report::Report;
use crate::settle::load_per_core;

/// How long our own server may take to listen.
const SERVING: Duration = Duration::from_secs(30);

impl Play<'_> {
    /// The whole of a case.
    pub(super) fn run_over_http(&mut self, script: &http::Service, directory: &Path) {
        let start = self.step("start client");
        let served = self.serve(script);
        let started = served.and_then(|()| {
            let url = self.service.as_ref().map(|service| service.url.as_str());
            Client::start(self.script, &self.channel.path, directory, url)
        });
        match started {
            Ok(client) => {
                self.last_news = Instant::now();
                self.client = Some(client);
            }
            Err(message) => return self.fail(start, message),
        }
        self.look(&start);
        let over = match self.script.script.rounds {
            Some(rounds) => self.play_rounds_over_http(rounds),
            None => {
                self.begin_work();
                self.until_something_is_to_be_done_over_http()
            }
        };
        match (over, self.script.script.attack) {
            (Over::Moment, Some(attack)) => self.attack(attack),
            (Over::AtRest, None) if self.script.script.rounds.is_none() => {
                self.learned.client.get_or_insert_default().lives_on = true;
                let rest = self.step("client at rest");
                self.look(&rest);
                self.judge_rest(&rest);
                self.judge_kept_streams(&rest);
                self.tell_of_rest_over_http(&rest);
            }
            (Over::Storm, _) => self.judge_storm(),
            _ => {}
        }
        let due = self.bring_to_an_end();
        self.judge_what_is_left(&due);
        self.judge_sessions(&due);
        self.tell_figures_over_http();
        self.learn_over_http();
        self.explain_over_http(over);
    }

    /// Starts the server, and waits until it listens.
    fn serve(&mut self, script: &http::Service) -> Result<(), String> {
        let broken = |error: std::io::Error| format!("could not start the HTTP server: {error}");
        let channel = self.channel.path.to_str().ok_or("the temporary directory is not UTF-8")?;
        let child = Command::new(&self.script.program)
            .args(peer::arguments(channel, script).map_err(broken)?)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(broken)?;
        let pid = child.id().cast_signed();
        // It is ours, and so is all that it has. The cell ends it when the case is over.
        self.sight.ours.insert(pid);
        let id = contain::identify(pid).ok_or("the HTTP server vanished when it was started")?;
        let deadline = Instant::now() + SERVING;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.channel.next(left).map(|told| told.what) {
                Some(What::Said(Report::Http(HttpReport::Serving { port }))) => {
                    self.service = Some(Service::new(id, port));
                    return Ok(());
                }
                Some(What::Gone) => return Err("the HTTP server ended before it listened".into()),
                _ => {}
            }
        }
        Err(format!("the HTTP server did not listen within {} s", SERVING.as_secs()))
    }

    /// Waits until the client has exited, the moment has come, or nothing more is to come.
    fn until_something_is_to_be_done_over_http(&mut self) -> Over {
        let start_bound = self.start_bound();
        let rest = self.patience();
        loop {
            self.turn();
            if self.storm().is_some() {
                return Over::Storm;
            }
            if self.has_exited() {
                return Over::Exited;
            }
            self.tell_to_close();
            let moment = self.script.script.attack.map(|attack| attack.moment);
            if moment.is_some_and(|moment| self.has_come_over_http(moment)) {
                self.moment = Some(Instant::now());
                return Over::Moment;
            }
            if !self.was_asked() {
                if self.begun.elapsed() > start_bound {
                    return Over::NoServer;
                }
            } else if self.rested() > rest || self.begun.elapsed() > 2 * start_bound {
                return Over::AtRest;
            }
        }
    }

    /// How long it may take until the client asks something, longer on a busy host.
    pub(super) fn start_bound(&self) -> Duration {
        let load = load_per_core().clamp(1.0, 4.0);
        Duration::from_millis(self.order.start_timeout_ms).mul_f64(load)
    }

    /// Something has reached the server; half of a request, where it was to go wrong there.
    fn was_asked(&self) -> bool {
        let heard = self.service.as_ref().is_some_and(|service| !service.heard.is_empty());
        heard || self.was_cut()
    }

    /// The server has gone wrong after the byte that the case is about.
    pub(super) fn was_cut(&self) -> bool {
        self.played.figures.get(CUT_REACHED).is_some_and(|reached| *reached > 0.0)
    }

    /// The server reads nothing more, or has lost half of a request, or has ended a connection that the
    /// client may use again: a request that ends a session may have been sent, and was not heard.
    pub(super) fn may_have_deleted_unheard(&self) -> bool {
        let wire = self.script.script.service.as_ref().and_then(|script| script.wire);
        let Some(Wire::Cut(Point { lane, .. })) = wire else { return false };
        let loses = lane.direction == Direction::FromClient || lane.fault == sweep::Fault::Stalls;
        let ends = matches!(lane.fault, sweep::Fault::Closes | sweep::Fault::Resets);
        let was_whole = self.service.as_ref().is_some_and(|service| service.was_whole);
        (loses || (ends && was_whole)) && self.was_cut()
    }

    /// The server has reset or closed every connection, and nobody listens at its port any more.
    pub(super) fn server_is_gone(&self) -> bool {
        let script = self.script.script.service.as_ref();
        let dies =
            |wire| matches!(wire, Wire::Cut(point) if point.lane.fault == sweep::Fault::Dies);
        script.is_some_and(|script| {
            script.fault == Fault::Vanishes || (self.was_cut() && script.wire.is_some_and(dies))
        })
    }

    pub(super) fn has_come_over_http(&self, moment: Moment) -> bool {
        let Some(service) = &self.service else { return false };
        match moment {
            Moment::Starting | Moment::Busy => self.is_held(),
            Moment::Closing => self.is_held() && self.is_alive(),
            Moment::Idle => {
                let has_worked =
                    service.requests.iter().any(|method| !HANDSHAKE.contains(&method.as_str()));
                has_worked
                    && !service.heard.contains(DELETE)
                    && service.open().1 == 0
                    && self.last_news.elapsed() > IDLE
            }
        }
    }

    /// The request at which the script has something happen has come.
    fn is_held(&self) -> bool {
        let at = self.script.script.service.as_ref().and_then(|script| script.at.as_ref());
        at.is_some_and(|at| self.service.as_ref().is_some_and(|one| one.heard.contains(at)))
    }

    /// The server has told something.
    pub(super) fn take_over_http(&mut self, start: usize, report: HttpReport, at: Instant) {
        let Some(service) = &mut self.service else { return };
        match report {
            HttpReport::Serving { .. } => {}
            HttpReport::Connected { connection, port } => {
                let step = self.played.steps.last().map(|timing| timing.step.clone());
                let step = step.unwrap_or_else(|| self.step("start client"));
                let new = Connection {
                    port,
                    step,
                    in_flight: None,
                    ends: None,
                    opens: None,
                    stream: None,
                    closed: None,
                };
                if let Some(service) = &mut self.service {
                    service.connections.insert(connection, new);
                }
            }
            HttpReport::Asked { connection, request } => {
                self.asked_over_http(start, connection, &request, at);
            }
            HttpReport::Answered { connection, status, began, stream } => {
                service.answered(connection, status, began, stream, at);
            }
            HttpReport::SessionOver { session } => service.over(&session),
            HttpReport::Disconnected { connection, by } => {
                service.disconnected(connection, by, at);
            }
            HttpReport::Works { works } => self.learned.works = Some(Box::new(works)),
            HttpReport::Cut { whole } => {
                service.was_whole = whole;
                self.played.figures.insert(CUT_REACHED.into(), 1.0);
                self.last_news = at;
                if self.server_is_gone()
                    && let Some(service) = &mut self.service
                {
                    service.dies(at);
                }
            }
            HttpReport::TooMuch if service.storms => {}
            HttpReport::TooMuch => self.played.notes.push(
                "the client did more than can be told of, and what it did after that is not judged"
                    .to_owned(),
            ),
        }
    }

    fn asked_over_http(&mut self, start: usize, connection: u64, asked: &Asked, at: Instant) {
        self.introduced(asked.client.as_ref(), asked.modern, asked.is_request);
        let begun = match (asked.waits, self.script.script.rounds) {
            (true, None) => {
                let name = match (&asked.method, asked.verb.as_str()) {
                    (Some(method), _) => format!("client sends {method}"),
                    (None, "GET") => "client opens a stream".to_owned(),
                    (None, "DELETE") => "client ends its session".to_owned(),
                    (None, verb) => format!("client sends {verb}"),
                };
                Some(self.step(&name))
            }
            (true, Some(rounds)) => self.round_over_http(asked, rounds),
            (false, _) => None,
        };
        // In the middle of a round nothing is looked at: what it has there is its own.
        let is_looked_at = begun.is_some();
        let step = begun.or_else(|| self.current_step()).unwrap_or_else(|| self.step("client"));
        let is_first = !self.was_asked();
        if let Some(service) = &mut self.service
            && service.asked(connection, asked, step.clone(), at)
        {
            self.last_news = at;
        }
        if is_first {
            let since = millis(self.begun.elapsed());
            self.played.figures.insert("start_to_first_message_ms".into(), since);
            self.learned.start_ms = since as u64;
        }
        if is_looked_at {
            self.look(&step);
            self.judge_rounds_over_http();
        }
        if asked.waits {
            self.channel.go(start);
        }
    }

    /// The step that is going on, with its cycle where there is one.
    fn current_step(&self) -> Option<StepRef> {
        match (&self.service, self.script.script.rounds) {
            (Some(service), Some(_)) if service.rounds > 0 => Some(rounds::step(service.rounds)),
            _ => self.played.steps.last().map(|timing| timing.step.clone()),
        }
    }

    /// What came to the server, in figures, and how often a stream was opened again.
    fn tell_figures_over_http(&mut self) {
        let Some(service) = &self.service else { return };
        let figures = [
            ("connections", service.connections.len()),
            ("requests", service.requests.len()),
            ("sessions_begun", service.sessions.len()),
            ("sessions_left", service.left().count()),
            ("streams_opened_again", service.reopened().0),
        ];
        let figures = figures.map(|(name, number)| (name.to_owned(), number as f64));
        self.played.figures.extend(figures);
        if let (times @ 1.., span) = service.reopened() {
            let seconds = span.as_secs_f64();
            self.played.notes.push(match times {
                1 => "the client opened its stream of events again once".to_owned(),
                _ => format!(
                    "the client opened its stream of events again {times} times in {seconds:.1} s"
                ),
            });
        }
    }

    /// What the battery is made from.
    fn learn_over_http(&mut self) {
        let Some(service) = &self.service else { return };
        let asked: Vec<&String> = service
            .requests
            .iter()
            .filter(|method| !HANDSHAKE.contains(&method.as_str()))
            .collect();
        let call = asked.iter().find(|method| method.as_str() == "tools/call");
        let busy_with = call.or(asked.last()).map(|method| (*method).clone());
        let was_asked = !service.heard.is_empty();
        let has_asked = busy_with.is_some();
        let traits = self.learned.client.get_or_insert_default();
        traits.busy_with = busy_with;
        traits.first = service.requests.first().cloned();
        traits.has_session = !service.sessions.is_empty();
        traits.deletes = service.heard.contains(DELETE);
        traits.requests = u32::try_from(service.requests.len()).unwrap_or(u32::MAX);
        let lives_on = traits.lives_on;
        let exit = self.client.as_ref().and_then(|client| client.exit).unwrap_or_default();
        if self.order.first_look && !lives_on && was_asked && exit != (Some(0), None) {
            let exited = exit_words(exit.0, exit.1);
            self.played.notes.push(match has_asked {
                true => format!("after a whole good life the client {exited}"),
                false => format!(
                    "the client {exited} and asked its server for nothing after the handshake; does \
                     it say why on its stderr?"
                ),
            });
        }
    }

    /// Why the lifecycle did not go as it should, or does not fit this client.
    fn explain_over_http(&mut self, over: Over) {
        if !self.was_asked() {
            let step = StepRef { place: "1".into(), name: "start client".into(), cycle: None };
            let exit = self.client.as_ref().and_then(|client| client.exit).unwrap_or_default();
            let seconds = self.start_bound().as_secs();
            let how = match over {
                Over::NoServer => {
                    format!("the client asked nothing of its server within {seconds} s")
                }
                _ => {
                    let exited = exit_words(exit.0, exit.1);
                    format!("the client {exited} and asked nothing of its server")
                }
            };
            let told = ["{url}", "{config}"];
            let is_told = |word: &String| told.iter().any(|place| word.contains(place));
            let hint = match self.script.command.iter().any(is_told) {
                true => "does it speak Streamable HTTP, and does it say why on its stderr?",
                false => {
                    "it is told of its server by {url} or by {config} in its arguments, or by the \
                     variables SCUPPER_URL and SCUPPER_CONFIG"
                }
            };
            return self.fail(step, format!("{how}; {hint}"));
        }
        let script = &self.script.script;
        let strikes = script.service.as_ref().filter(|one| one.at.is_some());
        let strikes = strikes.filter(|one| one.fault != Fault::None);
        let why = match script.attack {
            None if script.rounds.is_some() && !self.rounds_judged => {
                Some("the client did not connect in each round")
            }
            Some(attack) if self.moment.is_none() => Some(match attack.moment {
                Moment::Starting | Moment::Busy => "the client made no such request",
                Moment::Idle => "the client was never idle",
                Moment::Closing => "the client did not end its session",
            }),
            None if strikes.is_some() && !self.is_held() => Some("the client made no such request"),
            _ => None,
        };
        self.not_applicable = why.map(str::to_owned).or(self.not_applicable.take());
    }
}
