//! What a case has to say beside its findings: what was learned, figures and notes, and why it does
//! not count.

use std::collections::BTreeSet;

use super::super::finding::{counted, exit_words};
use super::super::server::millis;
use super::servers::Server;
use super::started::Client;
use super::{HANDSHAKE, Play, channel, servers};
use crate::ledger::snapshot::{FdKind, Identity};
use crate::ledger::verdict::{Failure, StepRef};
use crate::lifecycle::client::{Moment, Traits};
use crate::settle::load_per_core;

/// What the three descriptors of a process are called.
const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];
/// Most pipes that are told one by one.
const PIPES_TOLD: usize = 3;
/// Most processes that are told one by one.
const PROCESSES_TOLD: usize = 3;
/// Longest part of a command line that is told, in characters.
const COMMAND_TOLD: usize = 80;
/// Runnable tasks per core from which on a server may start too slowly for its client.
const BUSY: f64 = 4.0;

impl Play<'_> {
    /// What the battery is made from.
    pub(super) fn learn(&mut self) {
        let methods = self.servers.iter().flat_map(|server| &server.methods);
        let requests: Vec<&String> = methods
            .filter(|method| {
                !HANDSHAKE.contains(&method.as_str()) && !method.starts_with("notifications/")
            })
            .collect();
        let call = requests.iter().find(|method| method.as_str() == "tools/call");
        let busy_with = call.or(requests.last()).map(|method| (*method).clone());
        let has_asked = busy_with.is_some();
        let traits: &mut Traits = self.learned.client.get_or_insert_default();
        traits.busy_with = busy_with;
        let ended_by_itself = !traits.lives_on && !self.servers.is_empty();
        let exit = self.client.as_ref().and_then(|client| client.exit).unwrap_or_default();
        if self.order.first_look && ended_by_itself && exit != (Some(0), None) {
            let exited = exit_words(exit.0, exit.1);
            self.played.notes.push(match has_asked {
                true => format!("after a whole good life the client {exited}"),
                false => format!(
                    "the client {exited} and asked its server for nothing after the handshake; \
                     does it say why on its stderr?"
                ),
            });
        }
    }

    /// Pipes of servers that are gone and that somebody at rest has kept. One that lives on may keep
    /// what it likes, and is judged by what grows; what it keeps is told.
    pub(super) fn tell_kept_pipes(&mut self) {
        let gone: Vec<&Server> = self.servers.iter().filter(|one| one.gone.is_some()).collect();
        let of = |inode: u64| {
            gone.iter().find_map(|server| {
                let (stream, _) = server.streams.iter().find(|(_, its)| *its == inode)?;
                let pid = server.id.map(|id| format!(", pid {}", id.pid)).unwrap_or_default();
                let name = STREAMS[usize::try_from(*stream).ok()?];
                Some(format!("the {name} of {}{pid}", self.name_of(server.number)))
            })
        };
        let kept = self.ledger.last().things.keys().filter_map(|thing| match thing {
            Identity::Fd { owner, number, kind: FdKind::Pipe, inode, .. } => {
                Some(format!("fd {number} of pid {}, {}", owner.pid, of(*inode)?))
            }
            _ => None,
        });
        let kept: Vec<String> = kept.collect();
        if kept.is_empty() {
            return;
        }
        self.played.figures.insert("pipes_kept".into(), kept.len() as f64);
        let mut told = kept[..kept.len().min(PIPES_TOLD)].join("; ");
        if let Some(more @ 1..) = kept.len().checked_sub(PIPES_TOLD) {
            told.push_str(&format!("; {more} more"));
        }
        self.played
            .notes
            .push(format!("at rest the client keeps pipes of servers that are gone: {told}"));
    }

    /// The rungs by which each server was ended, as figures and in words.
    pub(super) fn tell_ladders(&mut self) {
        for server in &self.servers {
            let rungs = server.ladder();
            for pair in rungs.windows(2) {
                let name = |rung: &servers::Rung| rung.name.to_lowercase().replace(' ', "_");
                let figure = format!("{}_to_{}_ms", name(&pair[0]), name(&pair[1]));
                self.played.figures.insert(figure, millis(pair[1].after));
            }
            if let (Some(ended), Some(gone)) = (server.stdin_ended, server.gone) {
                let took = millis(gone.saturating_duration_since(ended));
                self.played.figures.insert("end_of_stdin_to_end_of_server_ms".into(), took);
            }
            if rungs.len() > 1
                && let Some(words) = server.ladder_words()
                && self.played.notes.len() < 10
            {
                self.played.notes.push(format!("the client's ladder: {words}"));
            }
        }
        if self.servers.len() >= channel::MOST_SERVERS {
            self.played.notes.push(format!(
                "the client started {} servers, and no more were served: it restarts without bound",
                channel::MOST_SERVERS
            ));
        }
    }

    /// No server has come in time: what is there instead, in words.
    pub(super) fn what_is_there_instead(&mut self) -> String {
        let alive = self.alive();
        let client = self.client.as_ref().map(|client| client.id);
        let state = client.and_then(|id| alive.get(&id)).map(|facts| facts.state);
        let mut words = match state {
            Some(state) => format!("it lives, in state {state}"),
            None => "it is dead".to_owned(),
        };
        let others = alive.iter().filter(|(id, _)| Some(**id) != client).take(PROCESSES_TOLD);
        for (place, (id, facts)) in others.enumerate() {
            let command: String = facts.command.join(" ").chars().take(COMMAND_TOLD).collect();
            let with = if place == 0 { ", with" } else { "," };
            words.push_str(&format!("{with} pid {} ({command})", id.pid));
        }
        words.push_str(&match self.channel.connections() {
            0 => "; nothing came to scupper".to_owned(),
            came => format!("; {}", counted(came as u64, "server", "servers") + " came to scupper"),
        });
        let load = load_per_core();
        if load > BUSY {
            words.push_str(&format!(
                ", and on a host as busy as this ({load:.0} runnable per core) it may have given up \
                 on a server that was slow to start"
            ));
        }
        words
    }

    /// Why the lifecycle did not go as it should, or does not fit this client: there is `instead`
    /// where it started no server in time.
    pub(super) fn explain(&mut self, instead: Option<String>) {
        if self.servers.is_empty() {
            let step = StepRef { place: "1".into(), name: "start client".into(), cycle: None };
            let exit = self.client.as_ref().and_then(|client| client.exit).unwrap_or_default();
            let exited = exit_words(exit.0, exit.1);
            let seconds = self.order.start_timeout_ms / 1_000;
            let how = match instead {
                Some(instead) => {
                    format!("the client started no server within {seconds} s; {instead}")
                }
                None => format!("the client {exited} and started no server"),
            };
            let told = ["{server}", "{command}", "{args}", "{config}"];
            let is_told = |word: &String| told.iter().any(|place| word.contains(place));
            let hint = match self.script.command.iter().any(is_told) {
                true => "does it speak to stdio servers, and does it say why on its stderr?",
                false => {
                    "it is told of its server by {server}, by {command} and {args}, or by {config} \
                     in its arguments, or by the variables SCUPPER_SERVER, SCUPPER_COMMAND, \
                     SCUPPER_ARGS and SCUPPER_CONFIG"
                }
            };
            return self.fail(step, format!("{how}; {hint}"));
        }
        let script = &self.script.script;
        let is_two = script.servers.len() > 1;
        let started: BTreeSet<usize> = self.servers.iter().map(|server| server.number).collect();
        // One that waits for a moment is told of by that.
        let unanswered = script.servers.iter().any(|server| server.unanswered.is_some());
        let why = match script.attack {
            None if script.rounds.is_some() && !self.rounds_judged => {
                Some("the client did not start a server in each round")
            }
            Some(attack) if self.moment.is_none() => Some(match attack.moment {
                Moment::Starting => "the client said nothing to its server",
                Moment::Busy => "the client made no such request",
                Moment::Idle => "the client was never idle",
                Moment::Closing => "the client was not seen to end its server, or not alive then",
            }),
            None if unanswered && !self.is_in_flight() => Some("the client made no such request"),
            _ if is_two && started.len() < script.servers.len() => {
                Some("the client did not start both servers")
            }
            _ => None,
        };
        self.not_applicable = why.map(str::to_owned).or(self.not_applicable.take());
    }

    pub(super) fn fail(&mut self, step: StepRef, message: String) {
        let output = self.client.as_ref().map(Client::last_output).unwrap_or_default();
        self.played.failure = Some(Failure {
            step,
            message,
            output,
            not_started: self.servers.is_empty(),
            refused: false,
        });
    }
}
