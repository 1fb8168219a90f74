//! Sessions, streams and attempts that a client has left, or that are too many.

use super::super::super::finding::counted;
use super::super::judge::Thing;
use super::super::{Departure, Play};
use super::service::{Connection, Session, Storm};
use crate::ledger::abandoned::http::{self, Parting};
use crate::ledger::snapshot::{FdKind, Identity, Kind};
use crate::ledger::verdict::{Holder, StepRef};
use crate::lifecycle::client::Deed;
use crate::probe::holder::Holders;
use crate::probe::socket;

/// Who keeps the sessions.
const KEEPER: &str = "the server";
/// Most things that are told one by one.
const LINES: usize = 3;
/// Most times that the table of sockets is read for one that must be in it.
const READS: usize = 3;

impl Play<'_> {
    /// The client lives on and does nothing more. The streams of sessions that it has ended are due.
    pub(super) fn judge_kept_streams(&mut self, at: &StepRef) {
        let Some(service) = &self.service else { return };
        let kept: Vec<(u16, StepRef, String)> = service
            .kept()
            .map(|(connection, id)| (connection.port, connection.step.clone(), id.to_owned()))
            .collect();
        let mut identities = Vec::new();
        let mut evidence = Vec::new();
        let mut holders = Vec::new();
        let mut birth = None;
        for (port, step, session) in kept {
            let Some((identity, words)) = self.socket_at(port) else {
                let said = format!("who has the client's socket at port {port} could not be found");
                self.played.unreadable.insert(said);
                continue;
            };
            let Identity::Fd { owner, number, .. } = &identity else { continue };
            if evidence.len() < LINES {
                evidence.push(format!("fd {number} of pid {} is {words}", owner.pid));
                evidence
                    .push(format!("it carries events of {session}, which the client has ended"));
            }
            holders.push(Holder {
                pid: owner.pid,
                command: self.words(*owner),
                holds: "socket".to_owned(),
            });
            birth.get_or_insert(step);
            identities.push(identity);
        }
        let Some(birth) = birth else { return };
        let what = match identities.len() {
            1 => "a stream of a session that the client has ended".to_owned(),
            many => format!("{many} streams of sessions that the client has ended"),
        };
        let holders = Holders { holders, unread: 0 };
        let thing = Thing { kind: Kind::Fd, what, identities, birth, due: at, evidence, holders };
        self.played.findings.push(thing.found(http::stream()));
    }

    /// The client ended by itself in the first look, and does not with this server.
    pub(super) fn tell_of_rest_over_http(&mut self, at: &StepRef) {
        if !self.ends_by_itself() {
            return;
        }
        let Some(service) = &self.service else { return };
        let (streams, in_flight) = service.open();
        let waited = self.patience().as_secs();
        if self.server_is_gone()
            && let Some(id) = self.client.as_ref().map(|client| client.id)
        {
            let evidence = vec![
                format!("still alive {waited} s after the last news of its server"),
                "every connection was ended, and the port is closed".to_owned(),
            ];
            let what = "the client, which waits for a server that is gone";
            let thing = self.process(id, what, at, evidence);
            self.played.findings.push(thing.found(http::waiting(self.era())));
            return;
        }
        let what = match (streams, in_flight) {
            // What a server does not read any more, nobody has heard.
            (0, 0) if self.was_cut() => "was silent, or was not heard any more,".to_owned(),
            (0, 0) => "had an answer to all that it asked".to_owned(),
            (0, many) => format!("waited for {}", counted(many as u64, "answer", "answers")),
            (many, _) => format!("had {} open", counted(many as u64, "stream", "streams")),
        };
        self.played.notes.push(format!(
            "the client {what} and did not end within {waited} s; it had to be ended; requests SHOULD \
             have a timeout (2025-11-25 lifecycle T1)"
        ));
    }

    /// The descriptor of a process of the client's whose own port this is.
    fn socket_at(&self, port: u16) -> Option<(Identity, String)> {
        let server = self.service.as_ref()?.port;
        // The port alone may be another's, too, whose server is another one.
        let is_its = |one: &socket::Tcp| (one.local.port(), one.remote.port()) == (port, server);
        let ours = crate::cell::contain::own_pid();
        // The table is not read at one instant, and what comes and goes meanwhile can hide a row.
        let read = || socket::tcp(ours).into_iter().find(is_its);
        let inode = (0..READS).find_map(|_| read())?.inode;
        self.ledger.last().things.keys().find_map(|thing| match thing {
            Identity::Fd { kind: FdKind::Socket, inode: one, .. } if *one == inode => {
                Some((thing.clone(), socket::describe(thing)))
            }
            _ => None,
        })
    }

    /// The client is gone. What it began at its server is due.
    pub(super) fn judge_sessions(&mut self, due: &StepRef) {
        let Some(service) = &self.service else { return };
        if self.rounds_judged {
            // Judged by what they grew to; the last round may have been cut short.
            return;
        }
        let left: Vec<(&String, &Session)> = service.left().collect();
        if self.server_is_gone() || self.may_have_deleted_unheard() {
            // Nor is there a server that could keep one, or that can say what the client has ended.
            return;
        }
        let Some((_, first)) = left.first() else { return };
        let birth = first.born.clone();
        if self.departure == Departure::Killed {
            let many = counted(left.len() as u64, "session", "sessions");
            return self.played.notes.push(format!(
                "the client was killed: {many} left to the idle time-out of its server"
            ));
        }
        let mut evidence: Vec<String> = left
            .iter()
            .take(LINES)
            .map(|(id, one)| format!("{id}, begun at {}", one.born))
            .collect();
        if let Some(more @ 1..) = left.len().checked_sub(LINES) {
            evidence.push(format!("and {more} more"));
        }
        evidence.push(self.how_it_ended());
        let identities: Vec<Identity> = left.iter().map(|(id, _)| session(id)).collect();
        let what = match left.len() {
            1 => "a session that the client did not end".to_owned(),
            many => format!("{many} sessions that the client did not end"),
        };
        let judged = http::session(self.parting());
        let thing = Thing {
            kind: Kind::Session,
            what,
            identities,
            birth,
            due,
            evidence,
            holders: Holders::default(),
        };
        self.played.findings.push(thing.found(judged));
    }

    fn how_it_ended(&self) -> String {
        let exit = self.client.as_ref().and_then(|client| client.exit).unwrap_or_default();
        format!("the client {}", super::super::super::finding::exit_words(exit.0, exit.1))
    }

    /// How the client parted from its server, by its exit and by what was done to it.
    fn parting(&self) -> Parting<'static> {
        let exit = self.client.as_ref().and_then(|client| client.exit).unwrap_or_default();
        let signal = self.played.steps.iter().rev().find_map(|timing| {
            let signal = timing.step.name.strip_suffix(" to client")?;
            [Deed::Terminate, Deed::Interrupt]
                .map(Deed::as_str)
                .into_iter()
                .find(|one| *one == signal)
        });
        let script = self.script.script.service.as_ref();
        let was_failed = script.is_some_and(|script| script.fails_the_client());
        match (exit, signal) {
            ((Some(0), None), _) if was_failed => Parting::WellAllTheSame,
            ((Some(0), None), _) => Parting::Well,
            (_, Some(signal)) => Parting::Signalled(signal),
            (_, None) => Parting::Failed,
        }
    }

    /// What the client does without a bound, if it does.
    pub(super) fn storm(&self) -> Option<Storm> {
        self.service.as_ref()?.storm(self.script.requests as usize)
    }

    /// The client does something without a bound.
    pub(super) fn judge_storm(&mut self) {
        let Some(storm) = self.storm() else { return };
        if let Some(service) = &mut self.service {
            service.storms = true;
        }
        let name = match &storm {
            Storm::Reopens => "client keeps reconnecting",
            Storm::Repeats => "client keeps asking",
            Storm::DeadSession(_) => "client goes on with a dead session",
        };
        let due = self.step(name);
        self.look(&due);
        let Some(service) = &self.service else { return };
        let (times, span) = service.attempts(&storm);
        let span = span.as_secs_f64();
        let first = |wanted: fn(&Connection) -> bool| {
            let found = service.connections.values().find(|one| wanted(one));
            found.map(|one| one.step.clone())
        };
        let (kind, what, identities, birth, judged) = match &storm {
            Storm::Reopens => (
                Kind::Fd,
                format!("a stream of events that the client opened {times} times in {span:.1} s"),
                Vec::new(),
                first(|one| one.step.name == "client opens a stream"),
                http::reconnects(),
            ),
            Storm::Repeats => (
                Kind::Fd,
                format!("requests that the client repeated {times} times in {span:.1} s"),
                Vec::new(),
                first(|_| true),
                http::repeats(),
            ),
            Storm::DeadSession(id) => {
                let used = service.sessions.get(id);
                (
                    Kind::Session,
                    "a dead session".to_owned(),
                    vec![session(id)],
                    used.map(|session| session.born.clone()),
                    http::dead_session(),
                )
            }
        };
        let used = match &storm {
            Storm::DeadSession(id) => service.sessions.get(id),
            _ => None,
        };
        let mut evidence: Vec<String> = Vec::new();
        evidence.extend(used.map(|session| {
            format!("{} requests named it after the server had answered 404", session.asked_since)
        }));
        evidence.push(format!(
            "{} in all, {} of them still open",
            counted(service.connections.len() as u64, "connection", "connections"),
            service.connections.values().filter(|one| one.closed.is_none()).count()
        ));
        let thing = Thing {
            kind,
            what,
            identities,
            birth: birth.unwrap_or_else(|| due.clone()),
            due: &due,
            evidence,
            holders: Holders::default(),
        };
        let mut finding = thing.found(judged);
        // They are gone, one after the other.
        if finding.identities.is_empty() {
            finding.count = times;
        }
        self.played.findings.push(finding);
    }
}

/// A session as an identity.
pub(super) fn session(id: &str) -> Identity {
    Identity::Session { keeper: KEEPER.to_owned(), id: id.to_owned() }
}
