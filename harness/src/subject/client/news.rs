//! What the servers of a client tell, taken in as it comes.

use std::time::{Duration, Instant};

use super::super::server::millis;
use super::Play;
use super::channel::{Told, What};
use super::rounds::played;
use super::servers::Server;
use crate::cell::contain;
use crate::ledger::snapshot::{FdKind, Identity};
use crate::lifecycle::step::Era;
use crate::lifecycle::sweep::{CUT_REACHED, Wire};
use crate::peer::report::Report;
use crate::settle::Stopwatch;

/// How long one wait for news lasts before the client is looked at.
const TURN: Duration = Duration::from_millis(5);
/// Most servers, the latest, that are asked whether they could run.
const SERVERS_ASKED: usize = 8;
/// A call as a method.
const CALL: &str = "tools/call";
/// Most messages that are counted.
const MARKS: usize = 4096;
/// The fake that no signal but SIGKILL ends.
const DEAF: &str = "ignores-eof-and-term";

impl Play<'_> {
    /// Takes in news, or waits a moment for it, and looks whether the client has exited.
    pub(super) fn turn(&mut self) {
        let mut wait = TURN;
        while let Some(told) = self.channel.next(wait) {
            self.take(told);
            wait = Duration::ZERO;
        }
        let reaped = contain::reap();
        if let Some(client) = &mut self.client
            && let Some(exit) = reaped.get(&client.id.pid)
        {
            client.exit = Some(*exit);
        }
        self.count_rest();
    }

    /// How long there was no news, the time not counted in which the client or one of its servers could
    /// not run.
    pub(super) fn rested(&self) -> Duration {
        if self.rest.is_older_than(self.last_news) {
            return Duration::ZERO;
        }
        self.rest.elapsed(Instant::now())
    }

    fn count_rest(&mut self) {
        if self.rest.is_older_than(self.last_news) {
            self.rest = Stopwatch::start();
        }
        let client = self.client.as_ref().map(|client| client.id.pid);
        let servers = self.servers.iter().rev().filter_map(|server| server.id.map(|id| id.pid));
        let pids: Vec<i32> = client.into_iter().chain(servers.take(SERVERS_ASKED)).collect();
        self.rest.watch(&pids);
    }

    pub(super) fn take(&mut self, told: Told) {
        if let What::Said(Report::Http(report)) = told.what {
            return self.take_over_http(told.start, report, told.at);
        }
        self.last_news = told.at;
        let Told { start, pid, at, what } = told;
        match what {
            What::Said(Report::Born { server, inherited }) => {
                self.born(start, pid, server, &inherited);
                self.channel.go(start);
            }
            What::Said(Report::Passed { to_client, bytes }) => {
                // Of a client's servers, the first is counted.
                if start == 0 {
                    self.passed(to_client, bytes);
                }
            }
            What::Said(report) => {
                if let Report::Heard { client, modern, method } = &report {
                    let is_request = |method: &&String| !method.starts_with("notifications/");
                    let is_request = method.as_ref().filter(is_request).is_some();
                    self.introduced(client.as_ref(), *modern, is_request);
                }
                self.heard(start, report, at);
            }
            What::Gone => {
                if let Some(server) = self.servers.iter_mut().find(|one| one.start == start) {
                    let deaf = server.fake == DEAF;
                    server.ended(at, deaf);
                }
                self.channel.forget(start);
            }
            What::Unheard(cause) => {
                self.played.unreadable.insert(format!(
                    "server {} of the client, which came and could not be heard: {cause}",
                    start + 1
                ));
            }
        }
    }

    /// The case is about a wire that is cut.
    pub(super) fn is_cut(&self) -> bool {
        let script = &self.script.script;
        let service = script.service.iter().map(|service| service.wire);
        let mut wires = script.servers.iter().map(|server| server.wire).chain(service);
        wires.any(|wire| matches!(wire, Some(Wire::Cut(_))))
    }

    /// So many bytes have passed. What comes after the answer to a first call is not counted.
    fn passed(&mut self, to_client: bool, bytes: u64) {
        if self.is_cut() {
            self.played.figures.insert(CUT_REACHED.into(), 1.0);
            return;
        }
        let calls = self
            .servers
            .first()
            .map_or(0, |server| server.methods.iter().filter(|method| *method == CALL).count());
        let works = self.learned.works.get_or_insert_default();
        let answered = self.call_answered;
        if answered || works.to.len() + works.from.len() >= MARKS {
            return;
        }
        if to_client {
            works.to.push(bytes);
            self.call_answered = calls > 0;
        } else {
            works.from.push(bytes);
        }
    }

    /// A server has told something of itself. With its first message it waits until it has been
    /// looked at: whatever it starts before that is seen as its own.
    pub(super) fn heard(&mut self, start: usize, report: Report, at: Instant) {
        let is_message = matches!(report, Report::Heard { .. });
        let is_first = self.servers.iter().all(|server| server.methods.is_empty());
        let Some(server) = self.servers.iter_mut().find(|one| one.start == start) else { return };
        let waits = is_message && !std::mem::replace(&mut server.has_heard, is_message);
        server.heard(report, at);
        if !waits {
            return;
        }
        if self.script.script.rounds.is_some() {
            return self.channel.go(start);
        }
        let name = server.methods.first().map_or("no message", String::as_str);
        let name = format!("client sends {name}");
        let step = self.step(&name);
        if is_first {
            let since = millis(self.begun.elapsed());
            self.played.figures.insert("start_to_first_message_ms".into(), since);
            self.learned.start_ms = since as u64;
        }
        self.look(&step);
        self.channel.go(start);
    }

    /// A server was started, and waits until it has been looked at.
    pub(super) fn born(&mut self, start: usize, pid: i32, number: usize, inherited: &[i32]) {
        let name = match self.script.script.servers.len() {
            0 | 1 => "client starts server".to_owned(),
            _ => format!("client starts server {}", number + 1),
        };
        let step = match self.script.script.rounds {
            Some(rounds) => self.round_begins(rounds),
            None => self.step(&name),
        };
        self.look(&step);
        let id = contain::identify(pid);
        if self.script.script.rounds.is_some() {
            self.weigh(id.and_then(|id| self.ledger.parent(id)), &step);
        }
        let things = &self.ledger.last().things;
        let stdin = things.keys().find_map(|thing| match thing {
            Identity::Fd {
                owner, number: 0, kind: FdKind::Pipe | FdKind::Socket, inode, ..
            } if Some(*owner) == id => Some(*inode),
            _ => None,
        });
        let streams = things.keys().filter_map(|thing| match thing {
            Identity::Fd { owner, number: at @ 0..=2, kind: FdKind::Pipe, inode, .. } => {
                (Some(*owner) == id).then_some((*at, *inode))
            }
            _ => None,
        });
        let streams: Vec<(i32, u64)> = streams.collect();
        let fake = self.script.script.servers.get(number).map(|one| one.fake.name.clone());
        self.servers.push(Server {
            start,
            number,
            fake: fake.unwrap_or_default(),
            id,
            parent: id.and_then(|id| self.ledger.parent(id)),
            born: step.clone(),
            stdin,
            streams,
            has_heard: false,
            methods: Vec::new(),
            stdin_ended: None,
            signals: Vec::new(),
            left: false,
            gone: None,
        });
        self.judge_birth(&step, id, number, inherited);
        let Some(rounds) = self.script.script.rounds else { return };
        match (played(rounds) as usize).checked_sub(self.servers.len()) {
            Some(0) => self.judge_rounds(rounds),
            Some(1) => self.find_starters(),
            _ => {}
        }
    }

    /// The client says who it is, and which era it speaks.
    pub(super) fn introduced(
        &mut self,
        client: Option<&(String, String)>,
        modern: bool,
        is_request: bool,
    ) {
        if let (Some((name, version)), true) = (client, self.learned.name.is_empty()) {
            (self.learned.name, self.learned.version) = (name.clone(), version.clone());
        }
        let era = if modern { Era::Modern } else { Era::Legacy };
        if is_request && !self.learned.eras.contains(&era) {
            self.learned.eras.push(era);
            // The first one: a case is judged by it.
            self.played.era.get_or_insert(era);
        }
    }
}
