//! What came of a step: what the server answered, and what that says of it.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::Play;
use super::books::{Fate, Past, SessionBook};
use super::orders::{CALL_TIMEOUT, UNKNOWN_SESSION};
use crate::ledger::sdk::Sdk;
use crate::ledger::verdict::{Failure, StepRef};
use crate::lifecycle::endpoint::Wire;
use crate::lifecycle::step::{Action, Era, HandshakePoint, Step};
use crate::peer::http::control::{Act, Told};
use crate::peer::wire;
use crate::subject::finding;
use crate::subject::learn::{introduces, program, tools};
use crate::subject::server::millis;

impl Play<'_> {
    pub(super) fn done(
        &mut self,
        at: &StepRef,
        told: &Told,
        what: &str,
    ) -> Result<(), Box<Failure>> {
        match &told.error {
            None => Ok(()),
            Some(cause) => {
                let message = self.with_exit(format!("{what}: {cause}"));
                Err(self.failure(at, message))
            }
        }
    }

    /// A stream was opened, or not: a server need not have one, nor more than one at a time.
    pub(super) fn stream_opened(&mut self, told: &Told, at: &StepRef) -> Result<(), Box<Failure>> {
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
    pub(super) fn with_exit(&mut self, message: String) -> String {
        self.reap();
        match self.life.as_ref().and_then(|life| life.exit) {
            Some((code, signal)) => {
                format!("{message}; the server has {}", ended(code, signal))
            }
            None => message,
        }
    }

    pub(super) fn shaken(
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
        let server = self.life.as_ref().and_then(|life| life.roles.server);
        if let Some(server) = server {
            self.played.sdk = Sdk::recognise(&result, &program(self.ledger.command(server)));
        }
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

    pub(super) fn learn(&mut self, result: &Value, told: &Told) {
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

    pub(super) fn answered(
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

    pub(super) fn deleted(&mut self, name: &str, told: &Told, at: &StepRef) {
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

    pub(super) fn book_of(&mut self, name: &str) -> Option<&mut SessionBook> {
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
}

pub(super) fn ended(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("exited with code {code}"),
        _ => finding::exit_words(code, signal).replacen("was ", "been ", 1),
    }
}
