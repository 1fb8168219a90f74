//! Waiting until a connection has drained, and judging what has not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::elsewhere::elsewhere;
use super::server::{FIRM_LOOK, LOOK, Play, millis};
use super::survivor::Writers;
use super::{finding, roles, survivor};
use crate::cell::contain::{self, Handle};
use crate::ledger::blame::{self, Ending, Scene};
use crate::ledger::snapshot::{Kind, ProcessFacts, ProcessId};
use crate::ledger::verdict::{Crash, Finding, StepRef};
use crate::lifecycle::step::Stream;
use crate::lifecycle::sweep::CUT_REACHED;
use crate::peer::control::{Command, Event};
use crate::settle::{Settled, awaited, load_per_core, settle, settle_processes};

/// Longest time that survivors may take to die of SIGKILL.
const SWEEP: Duration = Duration::from_secs(5);
/// How long a client may take to tell of an exit that was seen already.
const EXIT_TOLD: Duration = Duration::from_millis(500);

impl Play<'_> {
    /// Waits until nothing of these connections lives, judges what does, ends it, and forgets them.
    pub(super) fn drained(&mut self, names: &[String], at: &StepRef) {
        let names: Vec<String> =
            names.iter().filter(|name| self.connections.contains_key(*name)).cloned().collect();
        for name in &names {
            self.release(name, at);
        }
        let answered = |name: &String| {
            self.connections.get(name).is_some_and(|connection| connection.answered)
        };
        let mut patience = if names.iter().all(answered) {
            self.order.patience.under_load(load_per_core())
        } else {
            self.order.patience.before_an_answer(load_per_core())
        };
        if self.unjudged_survivor {
            // It does so in every life, and in this run that is nobody's concern.
            patience = Duration::ZERO;
        }
        let settled = settle_processes(patience, || awaited(self.alive(&names).keys()));
        for name in &names {
            self.note_exit(name, settled == Settled::Quiet);
        }
        if settled == Settled::Bound && self.screens {
            self.played.unreadable.insert(format!("what outlived {at}, which was not asked"));
        } else if settled == Settled::Bound {
            // What is first seen now came to be after the step that ended the connection.
            let ended = names.iter().find_map(|name| self.connections.get(name)?.due.clone());
            let since = ended.map_or_else(|| at.clone(), |due| due.step);
            self.look(&since, FIRM_LOOK);
            for name in &names {
                self.judge_survivors(name, patience);
            }
        }
        for name in &names {
            self.forget(name, at);
        }
    }

    /// Brings every connection that is still open to its end, gracefully.
    pub(super) fn end_all(&mut self, end: &StepRef) {
        let names: Vec<String> = self.connections.keys().cloned().collect();
        for name in &names {
            let due = self.connections.get(name).is_some_and(|connection| connection.due.is_some());
            if !due {
                // A client that does not read must not be what keeps the server from ending.
                if let Some(connection) = self.connections.get_mut(name) {
                    for stream in [Stream::Stdout, Stream::Stderr] {
                        connection.link.send(&Command::Resume { stream });
                    }
                }
                self.end_stdin(name, end);
            }
        }
        self.drained(&names, end);
        if !self.screens {
            self.look(end, LOOK);
        }
        self.note_strays();
    }

    /// Whatever is in sight once all connections are ended belongs to none, which cannot be clean.
    fn note_strays(&mut self) {
        let mut strays = BTreeMap::new();
        let settled = settle(Instant::now() + SWEEP, || {
            contain::reap();
            strays = self.scanner.processes(&self.sight).unwrap_or_default();
            strays.is_empty()
        });
        if settled == Settled::Bound {
            for (id, facts) in strays.iter().take(5) {
                self.played.unreadable.insert(format!(
                    "to which connection pid {} ({}) belonged, which is left at the end",
                    id.pid, facts.name
                ));
            }
        }
    }

    /// Processes of these connections that still live; a zombie counts while its parent, one of the
    /// subject's, lives.
    pub(super) fn alive(&mut self, names: &[String]) -> BTreeMap<ProcessId, ProcessFacts> {
        for connection in self.connections.values_mut() {
            connection.link.catch_up();
        }
        contain::reap();
        match self.scanner.processes(&self.sight) {
            Ok(processes) => {
                self.trace(&processes);
                let ours = &self.sight.ours;
                processes
                    .into_iter()
                    .filter(|(id, _)| {
                        self.origins.get(id).is_none_or(|origin| names.contains(origin))
                    })
                    // A zombie of ours is reaped in the next look, or by the client.
                    .filter(|(_, facts)| !(facts.is_zombie() && ours.contains(&facts.parent)))
                    .collect()
            }
            Err(error) => {
                self.played.unreadable.insert(format!("processes: {error}"));
                BTreeMap::new()
            }
        }
    }

    /// Notes to which connection each new process belongs.
    pub(super) fn trace(&mut self, processes: &BTreeMap<ProcessId, ProcessFacts>) {
        let by_pid: BTreeMap<i32, ProcessId> = processes.keys().map(|id| (id.pid, *id)).collect();
        let mut new: Vec<(&ProcessId, &ProcessFacts)> =
            processes.iter().filter(|(id, _)| !self.origins.contains_key(id)).collect();
        new.sort_by_key(|(id, _)| (id.start_time, id.pid));
        for (id, facts) in new {
            let inherited =
                by_pid.get(&facts.parent).and_then(|parent| self.origins.get(parent)).cloned();
            let started = || {
                self.connections
                    .iter()
                    .find(|(_, connection)| connection.link.pid == facts.parent)
                    .map(|(name, _)| name.clone())
            };
            let only = || match self.connections.keys().collect::<Vec<_>>().as_slice() {
                [one] => Some((*one).clone()),
                _ => None,
            };
            // The cookie is the subject's to change: only a name that is in the books counts.
            let told = || facts.cookie.clone().filter(|name| self.connections.contains_key(name));
            let origin = inherited.or_else(started).or_else(told).or_else(only);
            if let Some(origin) = origin {
                // A server that answers is here, whatever it then calls upon elsewhere.
                let starting =
                    self.connections.get(&origin).is_some_and(|connection| !connection.answered);
                if let (true, Some(unseen)) = (starting, elsewhere(&facts.command)) {
                    self.played.unreadable.insert(unseen);
                }
                self.origins.insert(*id, origin);
            }
        }
    }

    /// Figures and notes of an end. What has to be killed has not drained.
    fn note_exit(&mut self, name: &str, drained: bool) {
        let Some(connection) = self.connections.get_mut(name) else { return };
        let Some(due) = &connection.due else { return };
        if due.ending != Ending::ClientKilled && connection.link.heard.exited.is_none() {
            // The client tells of the exit; it is only a matter of its line being read.
            let told = |heard: &crate::peer::link::Heard, _: &Event| heard.exited;
            let _ = connection.link.wait(Instant::now() + EXIT_TOLD, told);
        }
        let heard = &connection.link.heard;
        // An exit that came before its end was asked for says nothing about that end.
        let exit = heard.exited.zip(heard.exited_at).filter(|_| !connection.was_gone);
        if let Some((_, at)) = exit {
            let took = millis(at.saturating_duration_since(due.at));
            let figure = self.played.figures.entry("exit_after_due_ms".into()).or_insert(0.0);
            *figure = figure.max(took);
            let slowest = self.learned.exit_ms.unwrap_or(0).max(took as u64);
            self.learned.exit_ms = Some(slowest);
        }
        if drained {
            let took = millis(due.at.elapsed());
            let figure = self.played.figures.entry("drained_after_due_ms".into()).or_insert(0.0);
            *figure = figure.max(took);
        }
        // Before an answer it is part of the failure.
        if heard.noise_lines > 0 && connection.answered && self.played.notes.len() < 20 {
            self.played.notes.push(format!(
                "stdout carried {}, where nothing but messages belongs",
                finding::counted(
                    heard.noise_lines,
                    "line that is no message",
                    "lines that are no messages"
                )
            ));
        }
        let crash = exit.and_then(|((_, signal), _)| finding::crash(signal?));
        if let Some(signal) = crash {
            match self.played.crashes.iter_mut().find(|crash| crash.signal == signal) {
                Some(crash) => crash.lives += 1,
                None => self.played.crashes.push(Crash { signal: signal.to_owned(), lives: 1 }),
            }
        } else if due.ending == Ending::StdinClosed
            && !connection.signalled
            && let Some((exit, _)) = exit
            && exit != (Some(0), None)
        {
            let exited = finding::exit_words(exit.0, exit.1);
            let note = format!("at the end of its stdin the server {exited}, which is no leak");
            let is_told = self.played.notes.iter().any(|told| told.starts_with(&note));
            if !is_told && self.played.notes.len() < 20 {
                self.played.notes.push(note + &connection.last_on_stderr(drained));
            }
        }
    }

    pub(super) fn judge_survivors(&mut self, name: &str, patience: Duration) {
        self.tell_roles(name);
        let alive = self.alive(&[name.to_owned()]);
        let living: BTreeMap<ProcessId, ProcessFacts> =
            alive.into_iter().filter(|(_, facts)| !facts.is_zombie()).collect();
        let Some(connection) = self.connections.get(name) else { return };
        let Some(due) = &connection.due else {
            if !living.is_empty() {
                self.played
                    .unreadable
                    .insert(format!("when {name} ended, of which something lives"));
            }
            return;
        };
        let Writers { others: mut writers, ours } =
            Writers::of(connection.pipes[0], &self.sight.ours);
        if let (Some(pid), Ending::StdinClosed | Ending::ClientKilled) = (ours.first(), &due.ending)
        {
            // The server cannot know of an end that has not come.
            self.played.unreadable.insert(format!(
                "whether the server goes when its stdin ends: it has not ended, for scupper's own \
                 process pid {pid} still has the write end; was it stopped?"
            ));
            return;
        }
        if writers.holders.is_empty()
            && let Some(server) = connection.roles.server
        {
            let inner = survivor::writers_to_inner_stdin(server, connection.pipes[0], &self.ledger);
            writers.holders = inner.holders;
            writers.unread = writers.unread.max(inner.unread);
        }
        let scene = Scene {
            roles: &connection.roles,
            ending: &due.ending,
            era: connection.era,
            survivors: &living,
            deaf: self.server_is_deaf(name, patience),
            stdin_writers: &writers.holders,
            stdin_unread: writers.unread,
            ledger: &self.ledger,
        };
        let mut findings: Vec<Finding> = blame::survivors(&scene)
            .into_iter()
            .map(|blamed| {
                survivor::of_survivor(&blamed, &scene, due, patience, &connection.pipes, &writers)
            })
            .filter(|finding| self.order.kinds.contains(&finding.kind))
            .collect();
        self.try_end_of_stdin(name, &mut findings);
        self.unjudged_survivor |= !living.is_empty() && !self.order.kinds.contains(&Kind::Process);
        self.played.findings.extend(findings);
    }

    /// Ends what is left of a connection and takes it out of the books.
    pub(super) fn forget(&mut self, name: &str, at: &StepRef) {
        let Some(mut connection) = self.connections.remove(name) else { return };
        self.ended.insert(name.to_owned());
        if connection.cut.is_some() {
            let reached = f64::from(connection.is_cut());
            self.played.figures.insert(CUT_REACHED.into(), reached);
        }
        connection.link.leave();
        if let (Some(due), true) = (&connection.due, connection.answered) {
            self.note_end_of_life(&due.step);
        }
        let names = [name.to_owned()];
        let client = contain::identify(connection.link.pid);
        let swept = settle(Instant::now() + SWEEP, || {
            let alive = self.alive(&names);
            for id in alive.keys() {
                if let Some(handle) = Handle::open(*id) {
                    let _ = handle.signal(rustix::process::Signal::KILL);
                }
            }
            let client_gone =
                client.is_none_or(|client| contain::identify(client.pid) != Some(client));
            alive.is_empty() && client_gone
        });
        if swept == Settled::Bound {
            if let Some(handle) = client.and_then(Handle::open) {
                let _ = handle.signal(rustix::process::Signal::KILL);
            }
            let unseen = if self.alive(&names).is_empty() {
                let pid = connection.link.pid;
                format!(
                    "the end of connection {name}: scupper's own client process, pid {pid}, did \
                     not leave by itself at {at}; was it stopped?"
                )
            } else {
                format!("processes of connection {name} survived SIGKILL at {at}")
            };
            self.played.unreadable.insert(unseen);
        }
        self.played.unreadable.extend(connection.link.broken.take());
        self.sight.ours.remove(&connection.link.pid);
        for holder in connection.holders.drain(..) {
            self.sight.ours.remove(&holder);
        }
        self.origins.retain(|_, origin| origin != name);
    }

    pub(super) fn tell_roles(&mut self, name: &str) {
        let Some(connection) = self.connections.get_mut(name) else { return };
        let Some(root) = connection.roles.root else { return };
        if connection.roles.server.is_some() {
            return;
        }
        connection.roles = if connection.answered {
            let read = connection.link.heard.answer_bytes;
            roles::by_answer(root, &self.ledger, connection.pipes, read)
        } else {
            let launchers = self.order.launchers.unwrap_or(0);
            roles::by_depth(root, &self.ledger, connection.pipes, launchers)
        };
        // What was first seen together with an answer is one of the line too.
        let line = connection.roles.launchers.iter().chain(&connection.roles.server);
        let commands = line.filter_map(|id| self.ledger.command(*id));
        self.played.unreadable.extend(commands.filter_map(elsewhere));
    }
}
