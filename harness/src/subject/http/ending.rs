//! The end of the server: signals, the wait for all of it to be gone, and whose fault it is where
//! something stays.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process_group};

use super::Play;
use super::books::Fate;
use crate::cell::contain::{self, Handle};
use crate::ledger::blame::{self, Ending, Scene};
use crate::ledger::snapshot::{ProcessFacts, ProcessId};
use crate::ledger::verdict::{Class, Crash, Finding, StepRef};
use crate::lifecycle::step::Signal;
use crate::probe::holder::Holders;
use crate::probe::socket;
use crate::settle::{Settled, awaited, settle, settle_processes};
use crate::subject::connection::Due;
use crate::subject::server::{FIRM_LOOK, LOOK, millis};
use crate::subject::steps::raw_signal;
use crate::subject::{finding, survivor};

/// Longest time that survivors may take to die of SIGKILL.
const SWEEP: Duration = Duration::from_secs(5);

/// What is said of servers that a client starts, in the words of those that a supervisor starts.
fn in_words_of_http(finding: &mut Finding) {
    finding.blame = finding.blame.replace("that the client started", "that was started");
    finding.hurts = finding.hurts.replace("clients follow", "supervisors follow");
    if finding.hurts.starts_with("a client that signals") {
        finding.hurts =
            "a supervisor that signals the one pid that it started leaves the real server \
                         running, with its port"
                .to_owned();
    }
    if finding.what.starts_with("the server") {
        // Its parent is the cell, as it was from the start.
        finding.evidence.iter_mut().for_each(|line| *line = line.replace(", its parent gone", ""));
    }
}

/// To whom a signal goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// To the process that was started, and it alone, as a supervisor without groups does.
    ToOne,
    /// To its whole group, as a terminal does, and a supervisor with groups.
    ToGroup,
}

impl Play<'_> {
    /// Sends the server a signal. From the first one that ends processes on, all of it is due.
    pub(super) fn signal(&mut self, signal: Signal, to: Sent, at: &StepRef) {
        // Sockets and sessions are looked at while there is somebody to have them.
        let ends = !matches!(signal, Signal::Stop | Signal::Cont);
        // One that comes at once with something else waits for nothing.
        if ends && !self.at_once && self.life.as_ref().is_some_and(|life| life.due.is_none()) {
            self.judge_living(at);
            self.look(at, LOOK);
            self.tell_roles();
        }
        self.reap();
        let Some(life) = &self.life else { return };
        let raw = raw_signal(signal);
        let root = life.root;
        let reached = life.exit.is_none() && contain::lives(root);
        if reached {
            let sent = match (to, Pid::from_raw(root.pid)) {
                // The group is signalled while its leader is known to be the one meant.
                (Sent::ToGroup, Some(group)) => kill_process_group(group, raw).map_err(Into::into),
                _ => Handle::open(root).map_or(Ok(()), |handle| handle.signal(raw)),
            };
            if let Err(error) = sent {
                self.note(format!("{at}: could not send {signal}: {error}"));
            }
        } else if life.due.is_none() {
            self.note(format!("{at}: the server had exited before {signal}"));
        }
        let ending = match signal {
            Signal::Stop | Signal::Cont => return,
            _ if !reached => Ending::ExitedItself,
            Signal::Kill => Ending::ServerKilled,
            Signal::Term => Ending::Signalled("SIGTERM"),
            Signal::Int => Ending::Signalled("SIGINT"),
            Signal::Hup => Ending::Signalled("SIGHUP"),
        };
        if let Some(life) = &mut self.life {
            let due = Due { step: at.clone(), ending, at: Instant::now() };
            life.due.get_or_insert(due);
        }
    }

    /// Waits until nothing of the server lives, judges what does, ends it, and forgets it.
    pub(super) fn drained(&mut self, at: &StepRef) {
        let Some(due) = self.life.as_ref().and_then(|life| life.due.clone()) else {
            // It ended by itself, or is in the way of the next life.
            self.signal(Signal::Term, Sent::ToGroup, at);
            if self.life.as_ref().is_some_and(|life| life.due.is_some()) {
                self.drained(at);
            }
            return;
        };
        let patience = self.patience();
        let settled = settle_processes(patience, || awaited(self.alive().keys()));
        self.note_exit(&due, settled == Settled::Quiet);
        if settled == Settled::Bound {
            // What is first seen now came to be after the step that ended the server.
            self.look(&due.step, FIRM_LOOK);
            self.judge_survivors(&due, patience);
        }
        self.forget(at);
    }

    /// Ends what is still there: clients first, then the server, as a supervisor would.
    pub(super) fn end_all(&mut self, end: &StepRef) {
        let names: Vec<String> = self.clients.keys().cloned().collect();
        let is_due = self.life.as_ref().is_some_and(|life| life.due.is_some());
        if !is_due {
            // What a shutdown is to cope with stays as it is.
            for name in &names {
                self.drop_client(name, end);
            }
        }
        if self.life.is_some() {
            if !is_due {
                self.signal(Signal::Term, Sent::ToGroup, end);
            }
            self.drained(end);
        }
        self.look(end, LOOK);
        self.end_clients();
    }

    fn drop_client(&mut self, name: &str, at: &StepRef) {
        let act = crate::peer::http::control::Act::Drop;
        let dropped = self.let_go(name, act);
        if let Err(cause) = dropped {
            self.played.unreadable.insert(cause);
        }
        self.gone(name, at);
    }

    /// Ends the processes of clients; with them goes every socket that they have.
    fn end_clients(&mut self) {
        let peers = std::mem::take(&mut self.peers);
        for peer in peers.values() {
            peer.kill();
        }
        let left = settle(Instant::now() + SWEEP, || {
            contain::reap();
            !peers.values().any(|peer| contain::lives(peer.id))
        });
        if left == Settled::Bound {
            self.played.unreadable.insert("scupper's own HTTP clients, which did not end".into());
        }
        for peer in peers.values() {
            self.sight.ours.remove(&peer.id.pid);
        }
    }

    fn note_exit(&mut self, due: &Due, drained: bool) {
        let Some(life) = &self.life else { return };
        let exited_itself = due.ending == Ending::ExitedItself;
        if let (Some(exit), Some(at), false) = (life.exit, life.exited_at, exited_itself) {
            let took = millis(at.saturating_duration_since(due.at));
            let figure = self.played.figures.entry("exit_after_due_ms".into()).or_insert(0.0);
            *figure = figure.max(took);
            let slowest = self.learned.exit_ms.unwrap_or(0).max(took as u64);
            self.learned.exit_ms = Some(slowest);
            if let Some(signal) = exit.1.and_then(finding::crash) {
                match self.played.crashes.iter_mut().find(|crash| crash.signal == signal) {
                    Some(crash) => crash.lives += 1,
                    None => self.played.crashes.push(Crash { signal: signal.to_owned(), lives: 1 }),
                }
            }
        }
        if drained {
            let took = millis(due.at.elapsed());
            let figure = self.played.figures.entry("drained_after_due_ms".into()).or_insert(0.0);
            *figure = figure.max(took);
        }
    }

    fn judge_survivors(&mut self, due: &Due, patience: Duration) {
        let alive = self.alive();
        let living: BTreeMap<ProcessId, ProcessFacts> =
            alive.into_iter().filter(|(_, facts)| !facts.is_zombie()).collect();
        let held = self.held_port(&living);
        let Some(life) = &self.life else { return };
        let roles = life.roles.clone();
        let writers = survivor::Writers { others: Holders::default(), ours: Vec::new() };
        let scene = Scene {
            roles: &roles,
            ending: &due.ending,
            era: self.era,
            survivors: &living,
            deaf: self.server_is_deaf(due, patience),
            stdin_writers: &[],
            stdin_unread: 0,
            ledger: &self.ledger,
        };
        let mut findings: Vec<Finding> = Vec::new();
        for blamed in blame::survivors(&scene) {
            let mut one =
                survivor::of_survivor(&blamed, &scene, due, patience, &[0; 3], &writers.others);
            in_words_of_http(&mut one);
            let with_it = |id: &ProcessId| *id == blamed.process || blamed.below.contains(id);
            if let Some((_, words)) = held.iter().find(|(id, _)| with_it(id)) {
                one.evidence.push(words.clone());
            }
            findings.push(one);
        }
        if due.ending == Ending::Signalled("SIGINT") && self.ends_upon_term(patience) {
            for one in &mut findings {
                one.class = Class::Advisory;
                one.evidence.push(
                    "advisory: it ended when it was sent SIGTERM, which is what supervisors send"
                        .to_owned(),
                );
            }
        }
        self.played.findings.extend(findings);
    }

    /// Who of these still listens on the server's port.
    fn held_port(&self, living: &BTreeMap<ProcessId, ProcessFacts>) -> Vec<(ProcessId, String)> {
        let Some(life) = &self.life else { return Vec::new() };
        let port = life.endpoint.port;
        let Some(any) = living.keys().next() else { return Vec::new() };
        let table = socket::tcp(any.pid);
        let listening = table.iter().filter(|one| one.listens() && one.local.port() == port);
        listening
            .filter_map(|one| {
                let owner = self.owner(one.inode)?;
                let words = format!(
                    "pid {} still listens on port {port}: the next life cannot start there",
                    owner.pid
                );
                living.contains_key(&owner).then_some((owner, words))
            })
            .collect()
    }

    /// Whether the server stays when it is sent itself the signal that its living launcher got.
    fn server_is_deaf(&self, due: &Due, patience: Duration) -> bool {
        let Some(life) = &self.life else { return false };
        let signal = match due.ending {
            Ending::Signalled("SIGTERM") => rustix::process::Signal::TERM,
            Ending::Signalled("SIGINT") => rustix::process::Signal::INT,
            _ => return false,
        };
        let (Some(launcher), Some(server)) = (life.roles.launchers.first(), life.roles.server)
        else {
            return false;
        };
        if !contain::lives(*launcher) {
            return false;
        }
        let sent = Handle::open(server).is_some_and(|handle| handle.signal(signal).is_ok());
        sent && settle(Instant::now() + patience, || !contain::lives(server)) == Settled::Bound
    }

    fn ends_upon_term(&mut self, patience: Duration) -> bool {
        let Some(root) = self.life.as_ref().map(|life| life.root) else { return false };
        let group = Pid::from_raw(root.pid).filter(|_| contain::lives(root));
        let Some(group) = group else { return false };
        let sent = kill_process_group(group, rustix::process::Signal::TERM).is_ok();
        sent && settle(Instant::now() + patience, || self.alive().is_empty()) == Settled::Quiet
    }

    /// Ends what is left of the server and takes it out of the books.
    fn forget(&mut self, at: &StepRef) {
        let swept = settle(Instant::now() + SWEEP, || {
            let alive = self.alive();
            for id in alive.keys() {
                if let Some(handle) = Handle::open(*id) {
                    let _ = handle.signal(rustix::process::Signal::KILL);
                }
            }
            alive.is_empty()
        });
        if swept == Settled::Bound {
            let unseen = format!("processes of the server survived SIGKILL at {at}");
            self.played.unreadable.insert(unseen);
        }
        self.port = self.life.take().map(|life| life.endpoint.port);
        // Sessions and sockets have gone with it.
        for book in &mut self.sessions {
            book.fate = Fate::Done;
        }
        self.past.clear();
    }

    /// Ends a life that did not come up.
    pub(super) fn give_up_life(&mut self) {
        let nowhere = StepRef { place: "0".into(), name: "start".into(), cycle: None };
        self.forget(&nowhere);
        self.port = None;
    }
}
