//! What each step waits for.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::connection::NoAnswer;
use super::pages::refuses_cursor;
use super::server::{LOOK, Play, millis};
use super::steps::Doing;
use super::{finding, learn};
use crate::cell::contain;
use crate::cell::protocol::{CellEvent, SweepOrder};
use crate::ledger::verdict::{Failure, StepRef};
use crate::lifecycle::step::{Action, Condition, Era, HandshakePoint, Read, Step};
use crate::lifecycle::sweep::Works;
use crate::peer::link::Heard;
use crate::settle::{Settled, Stopwatch, settle};

/// Longest time for a step that names none, starting and handshake apart.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time for a call of the churn; a slower tool is left out.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// So long an answer is waited for before anyone asks whether the server gets a processor.
const AT_FIRST: Duration = Duration::from_secs(1);
/// How often that is asked.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

impl Play<'_> {
    /// What a step waits for. Its time counts from `began`.
    pub(super) fn finish(
        &mut self,
        step: &Step,
        at: &StepRef,
        doing: Doing,
        began: Instant,
    ) -> Result<(), Box<Failure>> {
        let name = &step.connection;
        let time = step.within.unwrap_or_else(|| self.default_time(step));
        let deadline = began + time;
        match doing {
            Doing::Start => self.await_start(name, at, deadline)?,
            Doing::Handshake(_, HandshakePoint::Sent) => self.await_written(name, at, deadline)?,
            Doing::Handshake(id, until) => self.await_handshake(name, id, until, at, deadline)?,
            Doing::Answer(id, what) => self.await_answer(name, id, &what, step, at, deadline)?,
            Doing::Pages(method, most) => self.list_all(name, &method, most, at, time)?,
            Doing::Written => self.await_written(name, at, deadline)?,
            Doing::Drained(names) => self.drained(&names, at),
            Doing::Nothing => {}
        }
        match &step.action {
            Action::Read { what } => self.read(name, *what, at, deadline),
            Action::WaitFor { condition } => self.wait_for(name, condition, at, deadline),
            _ => Ok(()),
        }
    }

    pub(super) fn default_time(&self, step: &Step) -> Duration {
        match step.action {
            Action::Open | Action::Handshake { .. } => {
                Duration::from_millis(self.order.start_timeout_ms)
            }
            Action::Call { .. } if self.order.for_any_server => CALL_TIMEOUT,
            _ => STEP_TIMEOUT,
        }
    }

    pub(super) fn await_start(
        &mut self,
        name: &str,
        at: &StepRef,
        deadline: Instant,
    ) -> Result<(), Box<Failure>> {
        let Some(connection) = self.connections.get_mut(name) else { return Ok(()) };
        match connection.await_start(deadline) {
            Ok(pid) => {
                connection.roles.root = contain::identify(pid);
                connection.started = Instant::now();
                if let Some(root) = connection.roles.root {
                    self.origins.insert(root, name.to_owned());
                }
                (self.tell)(CellEvent::SubjectStarted { pid });
                Ok(())
            }
            Err(cause) => {
                let message = finding::not_started(&self.order.subject_words, &cause);
                Err(self.failure(name, at, message))
            }
        }
    }

    pub(super) fn await_written(
        &mut self,
        name: &str,
        at: &StepRef,
        deadline: Instant,
    ) -> Result<(), Box<Failure>> {
        let Some(connection) = self.connections.get_mut(name) else { return Ok(()) };
        let sent = connection.sent;
        let cuts = connection.cut.is_some();
        let told = |heard: &Heard| match &heard.write_failed {
            Some(cause) => Some(Err(cause.clone())),
            None => (heard.written >= sent || (cuts && heard.cut)).then_some(Ok(())),
        };
        connection.link.catch_up();
        let written = match told(&connection.link.heard) {
            Some(told) => Ok(told),
            None => connection.link.wait(deadline, |heard, _| told(heard)),
        };
        match written {
            Ok(Ok(())) => Ok(()),
            // A server may refuse what is sent to it, or be gone; what comes of it is judged at its
            // end. Only a lifecycle that waits for an answer fails by it.
            Ok(Err(cause)) => {
                self.played.notes.push(format!("{at}: the server's stdin took no more: {cause}"));
                Ok(())
            }
            Err(_) => {
                self.played.notes.push(format!("{at}: the server did not read what was sent"));
                Ok(())
            }
        }
    }

    pub(super) fn await_handshake(
        &mut self,
        name: &str,
        id: u64,
        until: HandshakePoint,
        at: &StepRef,
        deadline: Instant,
    ) -> Result<(), Box<Failure>> {
        let Some(connection) = self.connections.get_mut(name) else { return Ok(()) };
        let answer = connection.answer(id, deadline);
        let started = connection.started;
        let result = match answer {
            Ok(Ok(result)) if !learn::introduces(&result, self.order.era) => {
                let message = finding::no_introduction(self.order.era, &result);
                let failure = self.failure(name, at, message);
                return Err(Box::new(Failure { refused: true, ..*failure }));
            }
            Ok(Ok(result)) if connection.link.heard.noise_lines == 0 => result,
            Err(NoAnswer::Cut) => return Ok(()),
            other => {
                let message = finding::no_handshake(self.order.era, &other, &connection.link.heard);
                let refused = matches!(other, Ok(Err(_)));
                let failure = self.failure(name, at, message);
                return Err(Box::new(Failure { refused, ..*failure }));
            }
        };
        connection.answered = true;
        self.played.era = Some(connection.era);
        let era = connection.era;
        self.played
            .figures
            .entry("handshake_ms".into())
            .or_insert_with(|| millis(started.elapsed()));
        if until == HandshakePoint::Ready && era == Era::Legacy && !connection.is_cut() {
            connection.notify("notifications/initialized", Value::Null);
            self.await_written(name, at, deadline)?;
        }
        if !self.screens {
            self.look(at, LOOK);
            self.tell_roles(name);
            self.recognise(name, &result);
        }
        if self.order.first_look && self.learned.eras.is_empty() {
            self.learn(name, era, &result);
        }
        Ok(())
    }

    pub(super) fn await_answer(
        &mut self,
        name: &str,
        id: u64,
        what: &str,
        step: &Step,
        at: &StepRef,
        deadline: Instant,
    ) -> Result<(), Box<Failure>> {
        let lenient = self.order.for_any_server && matches!(step.action, Action::Call { .. });
        let answer = match lenient {
            true => self.answer_of_starved(name, id, deadline),
            false => self.connections.get_mut(name).map(|one| one.answer(id, deadline)),
        };
        let (Some(answer), Some(connection)) = (answer, self.connections.get_mut(name)) else {
            return Ok(());
        };
        if let (Ok(answer), Action::Call { tool, .. }) = (&answer, &step.action) {
            self.calls.answered(tool, answer);
        }
        match answer {
            Ok(Ok(result)) => {
                self.note_works(name);
                if self.order.first_look && what == "tools/list" {
                    self.learn_tools(name, result);
                }
                Ok(())
            }
            // That is how a server says that it is of the older era.
            Ok(Err(_)) if self.order.for_any_server && what == "server/discover" => Ok(()),
            Ok(Err(error)) => {
                self.note_works(name);
                // The battery knows that some of its cursors are none of the server's.
                if !(self.order.for_any_server && refuses_cursor(&step.action, &error)) {
                    self.note_error(at, &error);
                }
                Ok(())
            }
            Err(NoAnswer::Cut) => Ok(()),
            Err(cause @ (NoAnswer::Late | NoAnswer::TooLong(_))) if lenient => {
                connection.pending.remove(&id);
                connection.notify("notifications/cancelled", json!({ "requestId": id }));
                self.calls.late(what, CALL_TIMEOUT);
                self.played.notes.push(match cause {
                    NoAnswer::TooLong(bytes) => {
                        format!("tool {what} left out: {}", finding::too_long(bytes))
                    }
                    _ => format!(
                        "tool {what} left out: no answer within {} s",
                        CALL_TIMEOUT.as_secs()
                    ),
                });
                // A call that goes on all the same would keep the server beyond its end.
                if at.cycle == Some(1) { self.start_over(name, at) } else { Ok(()) }
            }
            Err(cause) => {
                let heard = &connection.link.heard;
                let message = finding::no_answer(what, &cause, heard);
                if let NoAnswer::TooLong(bytes) = cause {
                    self.unsure = Some(finding::too_long(bytes));
                }
                Err(self.failure(name, at, message))
            }
        }
    }

    /// Waits for an answer, time in which the server and what it started could not run not counted: who
    /// leaves a tool out because the host is busy does not see what the tool leaks. None where there is
    /// no such connection.
    fn answer_of_starved(
        &mut self,
        name: &str,
        id: u64,
        deadline: Instant,
    ) -> Option<Result<Result<Value, Value>, NoAnswer>> {
        let names = [name.to_owned()];
        let at_first = deadline.min(Instant::now() + AT_FIRST);
        if let Some(answer) = self.connections.get_mut(name)?.answer_by(id, at_first) {
            return Some(answer);
        }
        let patience = deadline.saturating_duration_since(Instant::now());
        let mut watch = Stopwatch::start();
        loop {
            let now = Instant::now();
            let pids: Vec<i32> = self.alive(&names).keys().map(|id| id.pid).collect();
            watch.watch(&pids);
            let connection = self.connections.get_mut(name)?;
            if let Some(answer) = connection.answer_by(id, now + BETWEEN_LOOKS) {
                return Some(answer);
            }
            if watch.elapsed(Instant::now()) >= patience {
                return Some(Err(connection.unanswered()));
            }
        }
    }

    /// Writes down how many bytes it took to come to an answer.
    fn note_works(&mut self, name: &str) {
        if self.order.sweep == Some(SweepOrder::Measure)
            && let Some(connection) = self.connections.get(name)
        {
            let heard = &connection.link.heard;
            let (to, from) = (heard.passed_to.clone(), heard.passed_from.clone());
            self.learned.works = Some(Box::new(Works { to, from }));
        }
    }

    /// An error is an answer; a lifecycle is about resources, not about content.
    pub(super) fn note_error(&mut self, at: &StepRef, error: &Value) {
        let note = format!("{}: answered with an error: {}", at.name, finding::short(error));
        if !self.played.notes.contains(&note) && self.played.notes.len() < 20 {
            self.played.notes.push(note);
        }
    }

    /// Ends a life, not judged, and begins another in its place.
    fn start_over(&mut self, name: &str, at: &StepRef) -> Result<(), Box<Failure>> {
        self.forget(name, at);
        for action in [Action::Open, Action::Handshake { until: HandshakePoint::Ready }] {
            let step = Step::new(action).on(name);
            let began = Instant::now();
            let doing = self.begin(&step, at)?;
            self.finish(&step, at, doing, began)?;
        }
        Ok(())
    }

    pub(super) fn read(
        &mut self,
        name: &str,
        what: Read,
        at: &StepRef,
        deadline: Instant,
    ) -> Result<(), Box<Failure>> {
        let Some(connection) = self.connections.get_mut(name) else { return Ok(()) };
        let counts = matches!(what, Read::Messages(_));
        let (heard_it, what) = match what {
            Read::Answers => (connection.all_answers(deadline).is_ok(), "all answers".to_owned()),
            Read::Messages(count) => {
                let what = match count {
                    1 => "a message".to_owned(),
                    _ => format!("{count} messages"),
                };
                (connection.messages(count, deadline).is_ok(), what)
            }
            Read::End => {
                let ended = connection.link.heard.stdout_ended
                    || connection
                        .link
                        .wait(deadline, |heard, _| heard.stdout_ended.then_some(()))
                        .is_ok();
                (ended, "the end of stdout".to_owned())
            }
        };
        if heard_it {
            return Ok(());
        }
        // Answers are never left out, other messages are where there are too many.
        if counts {
            self.unsure = connection.unseen();
        }
        Err(self.failure(name, at, format!("{what} did not come in time")))
    }

    pub(super) fn wait_for(
        &mut self,
        name: &str,
        condition: &Condition,
        at: &StepRef,
        deadline: Instant,
    ) -> Result<(), Box<Failure>> {
        let Some(connection) = self.connections.get(name) else { return Ok(()) };
        let due = connection.due.is_some();
        match condition {
            Condition::Exited | Condition::Gone if due => {
                self.drained(&[name.to_owned()], at);
                Ok(())
            }
            // A server that ends by itself, of which helpers may remain.
            Condition::Exited => {
                let Some(connection) = self.connections.get_mut(name) else { return Ok(()) };
                let heard = connection.link.heard.exited.is_some()
                    || connection.link.wait(deadline, |heard, _| heard.exited).is_ok();
                if heard {
                    return Ok(());
                }
                Err(self.failure(name, at, "the server did not exit in time".into()))
            }
            Condition::Gone => match settle(deadline, || self.alive(&[name.to_owned()]).is_empty())
            {
                Settled::Quiet => Ok(()),
                Settled::Bound => {
                    let message = "something of the connection is still alive".to_owned();
                    Err(self.failure(name, at, message))
                }
            },
            Condition::Stderr(text) => {
                let Some(connection) = self.connections.get_mut(name) else { return Ok(()) };
                let there = |lines: &std::collections::VecDeque<String>| {
                    lines.iter().any(|line| line.contains(text))
                };
                let heard = there(&connection.link.heard.stderr)
                    || connection
                        .link
                        .wait(deadline, |heard, _| there(&heard.stderr).then_some(()))
                        .is_ok();
                if heard {
                    return Ok(());
                }
                self.unsure = connection.unseen();
                Err(self.failure(name, at, format!("{text:?} did not appear on stderr in time")))
            }
        }
    }
}
