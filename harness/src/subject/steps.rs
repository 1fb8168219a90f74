//! The effect of each step.

use std::time::{Duration, Instant};

use serde_json::json;

use super::connection::{Connection, Due};
use super::elsewhere::elsewhere;
use super::pages::filled_in;
use super::server::Play;
use crate::cell::contain::{self, Handle};
use crate::cell::protocol::{SubjectOrder, SweepOrder};
use crate::ledger::blame::Ending;
use crate::ledger::verdict::{Failure, StepRef};
use crate::lifecycle::step::{
    Action, Condition, HandshakePoint, Payload, Signal, Step, Stream, Whom,
};
use crate::lifecycle::sweep::CUT_REACHED;
use crate::peer::control::{Command, Event};
use crate::peer::link::Link;

/// Longest time that making a holder of stdin may take.
const HOLD_TIMEOUT: Duration = Duration::from_secs(30);

/// What an ending by Ctrl-C is called.
const INTERRUPT: &str = "SIGINT";

/// What a step still waits for once its effect is done.
pub(super) enum Doing {
    Nothing,
    Start,
    Handshake(u64, HandshakePoint),
    Answer(u64, String),
    Written,
    Pages(String, u32),
    Drained(Vec<String>),
}

impl Play<'_> {
    /// The effect of a step.
    pub(super) fn begin(&mut self, step: &Step, at: &StepRef) -> Result<Doing, Box<Failure>> {
        if matches!(step.action, Action::Open) {
            self.given_up.remove(&step.connection);
            return self.open(step, at);
        }
        if matches!(step.action, Action::Shutdown) {
            let names: Vec<String> = self.connections.keys().cloned().collect();
            for name in &names {
                self.end_stdin(name, at);
            }
            return Ok(Doing::Drained(names));
        }
        if self.given_up.contains(&step.connection) {
            return Ok(Doing::Nothing);
        }
        if !self.connections.contains_key(&step.connection) {
            if self.ended.contains(&step.connection) && fits_after_the_end(&step.action) {
                return Ok(Doing::Nothing);
            }
            let message = format!("connection {} is not open", step.connection);
            return Err(self.failure(&step.connection, at, message));
        }
        let name = step.connection.clone();
        let Some(connection) = self.connections.get_mut(&name) else { return Ok(Doing::Nothing) };
        connection.link.catch_up();
        if connection.is_cut() && says_something(&step.action) {
            return Ok(Doing::Nothing);
        }
        match &step.action {
            action @ (Action::Start { .. }
            | Action::Add { .. }
            | Action::Remove
            | Action::Health
            | Action::Listen
            | Action::Delete
            | Action::Reset
            | Action::Silence
            | Action::Abandon
            | Action::Join { .. }
            | Action::Flood { .. }
            | Action::Trickle { .. }) => {
                // The check of a file turns these down for a stdio server.
                let message = format!("{} is no step of a stdio server", action.name());
                Err(self.failure(&name, at, message))
            }
            Action::Handshake { until } => {
                let (id, bytes) = connection.first_request(true);
                connection.send(bytes);
                Ok(Doing::Handshake(id, *until))
            }
            Action::Call { tool, arguments, wait } => {
                if self.order.for_any_server && !self.calls.wants(tool, at.cycle) {
                    return Ok(Doing::Nothing);
                }
                let params = json!({ "name": tool, "arguments": arguments });
                let id = connection.request("tools/call", params);
                connection.busy |= !wait;
                Ok(if *wait { Doing::Answer(id, tool.clone()) } else { Doing::Written })
            }
            Action::Request { method, params, wait } => {
                let Some(params) = filled_in(params, self.cursor.as_deref()) else {
                    self.note_no_cursor();
                    return Ok(Doing::Nothing);
                };
                let id = connection.request(method, params);
                Ok(if *wait { Doing::Answer(id, method.clone()) } else { Doing::Written })
            }
            Action::ListAll { method, pages } => Ok(Doing::Pages(method.clone(), *pages)),
            Action::Notify { method, params } => {
                connection.notify(method, params.clone());
                Ok(Doing::Written)
            }
            Action::Cancel => {
                let Some(id) = connection.latest_unanswered() else { return Ok(Doing::Nothing) };
                connection.pending.remove(&id);
                // Something was in flight, and this is what became of it.
                connection.busy = false;
                connection.notify("notifications/cancelled", json!({ "requestId": id }));
                Ok(Doing::Written)
            }
            Action::Send { payload, upto } => {
                let mut bytes = match payload {
                    Payload::Text(text) => text.clone().into_bytes(),
                    Payload::Handshake => connection.first_request(upto.is_none()).1,
                };
                bytes.truncate(upto.unwrap_or(usize::MAX));
                connection.send(bytes);
                Ok(Doing::Written)
            }
            Action::HalfClose { stream: Stream::Stdin } => {
                self.end_stdin(&name, at);
                Ok(Doing::Nothing)
            }
            Action::HalfClose { stream } => {
                connection.link.send(&Command::Close { stream: *stream });
                Ok(Doing::Nothing)
            }
            Action::Close => {
                self.end_stdin(&name, at);
                Ok(Doing::Drained(vec![name]))
            }
            Action::Drop => {
                for stream in [Stream::Stdout, Stream::Stderr] {
                    connection.link.send(&Command::Close { stream });
                }
                self.end_stdin(&name, at);
                Ok(Doing::Nothing)
            }
            Action::Kill { whom } => {
                self.signal(&name, *whom, Signal::Kill, at);
                Ok(Doing::Nothing)
            }
            Action::Signal { signal, whom } => {
                self.signal(&name, *whom, *signal, at);
                Ok(Doing::Nothing)
            }
            Action::Stall { stream } => {
                connection.link.send(&Command::Stall { stream: *stream });
                Ok(Doing::Nothing)
            }
            Action::Resume { stream } => {
                if connection.cut == Some(*stream) {
                    self.played.figures.insert(CUT_REACHED.into(), f64::from(connection.is_cut()));
                    connection.cut = None;
                }
                connection.link.send(&Command::Resume { stream: *stream });
                Ok(Doing::Nothing)
            }
            Action::Pause { time } => {
                std::thread::sleep(*time);
                Ok(Doing::Nothing)
            }
            // It holds since the life began.
            Action::Cut { .. } => Ok(Doing::Nothing),
            Action::HoldStdin => self.hold(&name, at),
            Action::ReleaseStdin => {
                self.release(&name, at);
                Ok(Doing::Nothing)
            }
            Action::Read { .. } | Action::WaitFor { .. } => Ok(Doing::Nothing),
            Action::Open
            | Action::Shutdown
            | Action::Repeat { .. }
            | Action::Concurrently { .. } => Ok(Doing::Nothing),
        }
    }

    pub(super) fn open(&mut self, step: &Step, at: &StepRef) -> Result<Doing, Box<Failure>> {
        let SubjectOrder::Server(launch) = &self.order.subject else {
            return Err(self.failure(&step.connection, at, "this subject is no server".into()));
        };
        if let Some(unseen) = elsewhere(&launch.command) {
            self.played.unreadable.insert(unseen);
        }
        // A connection of that name that was brought to its end makes room for the next life.
        if let Some(old) = self.connections.get(&step.connection) {
            if old.due.is_none() {
                // It ended by itself, or stayed; what is left of it is due in either case.
                self.end_stdin(&step.connection, at);
            }
            self.drained(std::slice::from_ref(&step.connection), at);
        }
        self.note_what_lives_left();
        let link = match Link::start() {
            Ok(link) => link,
            Err(error) => {
                let cause = format!("scupper could not start a client process of its own: {error}");
                self.unsure = Some(cause);
                let message = "the server was not started".to_owned();
                return Err(self.failure(&step.connection, at, message));
            }
        };
        self.sight.ours.insert(link.pid);
        let mut connection = Connection::new(link, self.order.era);
        let mut environment = launch.environment.clone();
        environment.insert(crate::cell::CONNECTION_COOKIE.to_owned(), step.connection.clone());
        let cut = self.order.lifecycle.steps.iter().find_map(|other| match other.action {
            Action::Cut { stream, bytes } if other.connection == step.connection => {
                Some((stream, bytes))
            }
            _ => None,
        });
        if self.order.sweep == Some(SweepOrder::Measure) {
            connection.link.send(&Command::Measure);
        }
        if let Some((stream, bytes)) = cut {
            connection.cut = Some(stream);
            connection.link.send(&Command::Cut { stream, bytes });
        }
        connection.link.send(&Command::Start {
            command: launch.command.clone(),
            environment: environment.into_iter().collect(),
            directory: launch.directory.clone(),
        });
        self.connections.insert(step.connection.clone(), connection);
        Ok(Doing::Start)
    }

    pub(super) fn end_stdin(&mut self, name: &str, at: &StepRef) {
        self.tell_whether_busy(name);
        let Some(connection) = self.connections.get_mut(name) else { return };
        if connection.due.is_none() {
            // News of an exit may still be on its way; the process itself tells no less.
            let lives = connection.roles.root.is_some_and(contain::lives);
            connection.was_gone = connection.link.heard.exited.is_some() || !lives;
        }
        connection.link.send(&Command::Close { stream: Stream::Stdin });
        let mut due = Due { step: at.clone(), ending: Ending::StdinClosed, at: Instant::now() };
        match &connection.due {
            // No rule asks of a server that it ends on SIGINT while its stdin is open, so everything
            // is due from now on; whether it has ended already is a race that no finding hangs on.
            Some(earlier) if earlier.ending == Ending::Signalled(INTERRUPT) => {
                if connection.link.heard.exited.is_some() {
                    due.at = earlier.at;
                }
                connection.due = Some(due);
            }
            Some(_) => {}
            None => connection.due = Some(due),
        }
    }

    /// A lifecycle that is about work in flight says so where there was none any more.
    fn tell_whether_busy(&mut self, name: &str) {
        let Some(connection) = self.connections.get_mut(name) else { return };
        connection.link.catch_up();
        if !connection.busy || connection.due.is_some() {
            return;
        }
        // A scenario's author chose the steps; the battery chose for its user.
        if self.order.for_any_server && connection.link.heard.answered >= connection.asked {
            self.played.notes.push(
                "the server had answered everything before the end came, so nothing was in flight; \
                 name a call that lasts some seconds with --call TOOL=JSON"
                    .to_owned(),
            );
        }
    }

    pub(super) fn signal(&mut self, name: &str, whom: Whom, signal: Signal, at: &StepRef) {
        // Roles need a look at a tree that is still whole.
        self.tell_roles(name);
        self.tell_whether_busy(name);
        let Some(connection) = self.connections.get_mut(name) else { return };
        let raw = raw_signal(signal);
        let sent_to = match whom {
            Whom::Client => contain::identify(connection.link.pid),
            // One that has exited is nobody's to signal, nor is the group whose leader it was.
            _ if connection.link.heard.exited.is_some() => None,
            Whom::Server | Whom::Group => {
                connection.roles.root.filter(|root| contain::lives(*root))
            }
        };
        let handle = sent_to.and_then(|id| Some((id, Handle::open(id)?)));
        let reached = handle.is_some();
        if let Some((id, handle)) = handle {
            // The group is signalled while its leader is known to be the one meant.
            let sent = match (whom, rustix::process::Pid::from_raw(id.pid)) {
                (Whom::Group, Some(group)) => {
                    rustix::process::kill_process_group(group, raw).map_err(Into::into)
                }
                _ => handle.signal(raw),
            };
            if let Err(error) = sent {
                self.played.notes.push(format!("{at}: could not send {signal}: {error}"));
            }
        }
        connection.signalled |=
            whom != Whom::Client && !matches!(signal, Signal::Stop | Signal::Cont);
        let ending = match (whom, signal) {
            (_, Signal::Stop | Signal::Cont) => return,
            (Whom::Client, _) => Ending::ClientKilled,
            _ if !reached => {
                connection.was_gone |= connection.due.is_none();
                // One whose stdin ends at the same time may be fast.
                if connection.due.is_none() {
                    self.played.notes.push(format!("{at}: the server had exited before {signal}"));
                }
                Ending::ExitedItself
            }
            (_, Signal::Kill) => Ending::ServerKilled,
            (_, Signal::Term) => Ending::Signalled("SIGTERM"),
            (_, Signal::Int) => Ending::Signalled(INTERRUPT),
            (_, Signal::Hup) => Ending::Signalled("SIGHUP"),
        };
        connection.due.get_or_insert(Due { step: at.clone(), ending, at: Instant::now() });
    }

    pub(super) fn hold(&mut self, name: &str, at: &StepRef) -> Result<Doing, Box<Failure>> {
        let Some(connection) = self.connections.get_mut(name) else { return Ok(Doing::Nothing) };
        connection.link.send(&Command::Hold);
        let held = connection.link.wait(Instant::now() + HOLD_TIMEOUT, |_, event| match event {
            Event::Held { pid } => Some(*pid),
            _ => None,
        });
        match held {
            Ok(pid) => {
                connection.holder = contain::identify(pid);
                connection.holders.push(pid);
                self.sight.ours.insert(pid);
                Ok(Doing::Nothing)
            }
            Err(_) => Err(self.failure(name, at, "no process could be made to hold stdin".into())),
        }
    }

    pub(super) fn release(&mut self, name: &str, at: &StepRef) {
        let Some(connection) = self.connections.get_mut(name) else { return };
        let Some(holder) = connection.holder.take() else { return };
        let alive = connection.roles.server.or(connection.roles.root).is_some_and(|server| {
            contain::identify(server.pid) == Some(server) && connection.link.heard.exited.is_none()
        });
        if alive && connection.due.is_some() {
            // As it must: nobody could have told it of an end.
            self.played.figures.insert("alive_while_stdin_was_held".into(), 1.0);
        }
        if let Some(handle) = Handle::open(holder) {
            let _ = handle.signal(rustix::process::Signal::KILL);
        }
        if let Some(due) = connection.due.as_mut() {
            // Nothing could be due before the last holder let go.
            due.step = at.clone();
            due.at = Instant::now();
        }
    }
}

/// What a client whose life was cut does not do.
fn says_something(action: &Action) -> bool {
    matches!(
        action,
        Action::Handshake { .. }
            | Action::Call { .. }
            | Action::Request { .. }
            | Action::ListAll { .. }
            | Action::Notify { .. }
            | Action::Send { .. }
            | Action::Cancel
            | Action::Read { .. }
            | Action::WaitFor { condition: Condition::Stderr(_) }
    )
}

/// What has nothing left to do once a connection was judged and taken out of the books: nothing of
/// it is alive.
fn fits_after_the_end(action: &Action) -> bool {
    match action {
        Action::WaitFor { condition } => !matches!(condition, Condition::Stderr(_)),
        Action::Kill { .. } | Action::Signal { .. } | Action::ReleaseStdin => true,
        _ => false,
    }
}

pub(super) fn raw_signal(signal: Signal) -> rustix::process::Signal {
    match signal {
        Signal::Term => rustix::process::Signal::TERM,
        Signal::Int => rustix::process::Signal::INT,
        Signal::Hup => rustix::process::Signal::HUP,
        Signal::Kill => rustix::process::Signal::KILL,
        Signal::Stop => rustix::process::Signal::STOP,
        Signal::Cont => rustix::process::Signal::CONT,
    }
}
