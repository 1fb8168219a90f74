//! Plays a lifecycle on a client or host: starts it, plays its servers, does to it what the script
//! says, and judges what it leaves.
//!
//! ```text
//! cell ── client ── server      (scupper: reports to the cell over a channel of its own)
//!        (judged)   (ours)
//! ```
//!
//! Steps are the client's own and are counted as they come: it is started, it starts a server, it
//! speaks, it is at rest, it is told to end, it exits.
//!
//! - [`started`]: the client process.
//! - [`channel`]: what its servers tell.
//! - [`servers`]: what befell each of them.
//! - [`judge`]: what is left, and whose fault that is.

pub mod channel;
mod judge;
pub mod servers;
pub mod started;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use self::channel::{Channel, Told, What};
use self::servers::Server;
use self::started::Client;
use super::server::{LOOK, Played, millis};
use crate::cell::contain;
use crate::cell::protocol::{CaseOrder, ClientOrder, Learned};
use crate::ledger::abandoned::Departure;
use crate::ledger::diff::Ledger;
use crate::ledger::snapshot::{FdKind, Identity, Kind, ProcessFacts, ProcessId};
use crate::ledger::verdict::{Failure, StepRef, StepTiming};
use crate::lifecycle::client::{Attack, Deed, Instead, Moment, Traits};
use crate::lifecycle::step::Era;
use crate::peer::report::Report;
use crate::probe::{Root, Scanner, Sight};
use crate::settle::load_per_core;

/// How long one wait for news lasts before the client is looked at.
const TURN: Duration = Duration::from_millis(5);
/// A client that says nothing for so long, with all its answers, is idle.
const IDLE: Duration = Duration::from_millis(500);
/// The fake that no signal but SIGKILL ends.
const DEAF: &str = "ignores-eof-and-term";
/// What the client's first messages are called.
const HANDSHAKE: [&str; 4] = ["initialize", "server/discover", "notifications/initialized", "ping"];

/// What came of a case.
pub struct Outcome {
    /// What was seen.
    pub played: Played,
    /// What was learned of the client.
    pub learned: Learned,
    /// Why the client did not come to the moment that the case is about.
    pub not_applicable: Option<String>,
}

/// Plays the case of an order, in a cell whose processes are seen from `root`.
pub fn play(order: &CaseOrder, client: &ClientOrder, root: Root) -> io::Result<Outcome> {
    let temp_dir: PathBuf = std::env::temp_dir();
    // Beside the TMPDIR, which the client may look into.
    let directory = temp_dir.parent().unwrap_or(&temp_dir).to_path_buf();
    let mut ours = BTreeSet::from([contain::own_pid()]);
    if let Some(parent) = rustix::process::getppid() {
        ours.insert(parent.as_raw_nonzero().get());
    }
    let kinds = BTreeSet::from([Kind::Process, Kind::Zombie, Kind::Fd]);
    let mut play = Play {
        order,
        script: client,
        channel: Channel::listen(&directory)?,
        scanner: Scanner::new(),
        sight: Sight { root, ours, temp_dir: None, kinds },
        ledger: Ledger::default(),
        client: None,
        servers: Vec::new(),
        blamed: BTreeSet::new(),
        steps: 0,
        step_began: Instant::now(),
        begun: Instant::now(),
        last_news: Instant::now(),
        moment: None,
        departure: Departure::Exited,
        not_applicable: None,
        learned: Learned::default(),
        played: Played::default(),
    };
    play.run(&directory);
    let judged = &order.kinds;
    play.played.findings.retain(|finding| judged.contains(&finding.kind));
    Ok(Outcome { played: play.played, learned: play.learned, not_applicable: play.not_applicable })
}

/// A case being played.
struct Play<'a> {
    order: &'a CaseOrder,
    script: &'a ClientOrder,
    channel: Channel,
    scanner: Scanner,
    sight: Sight,
    ledger: Ledger,
    client: Option<Client>,
    servers: Vec<Server>,
    /// Processes that a finding is about already.
    blamed: BTreeSet<ProcessId>,
    steps: usize,
    step_began: Instant,
    begun: Instant,
    /// When a server told something, or something was done to the client.
    last_news: Instant,
    /// When the moment of the script came.
    moment: Option<Instant>,
    departure: Departure,
    not_applicable: Option<String>,
    learned: Learned,
    played: Played,
}

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// The client has exited.
    Exited,
    /// The moment has come.
    Moment,
    /// It lives on, and nothing has happened for as long as anything due may take.
    AtRest,
    /// It has started no server in time.
    NoServer,
}

impl Play<'_> {
    fn run(&mut self, directory: &std::path::Path) {
        let start = self.step("start client");
        match Client::start(self.script, &self.channel.path, directory) {
            Ok(client) => {
                self.last_news = Instant::now();
                self.client = Some(client);
            }
            Err(message) => return self.fail(start, message),
        }
        self.look(&start);
        let over = self.until_something_is_to_be_done();
        match (over, self.script.script.attack) {
            (Over::Moment, Some(attack)) => self.attack(attack),
            (Over::AtRest, None) => {
                self.learned.client.get_or_insert_default().lives_on = true;
                let rest = self.step("client at rest");
                self.look(&rest);
                self.judge_rest(&rest);
                self.note_rest();
            }
            _ => {}
        }
        let due = self.bring_to_an_end();
        self.judge_what_is_left(&due);
        self.learn();
        self.tell_ladders();
        self.explain(over);
    }

    /// Waits until the client has exited, the moment has come, or nothing more is to come.
    fn until_something_is_to_be_done(&mut self) -> Over {
        let start_bound = Duration::from_millis(self.order.start_timeout_ms);
        let rest = self.patience();
        loop {
            self.turn();
            if self.has_exited() {
                return Over::Exited;
            }
            let moment = self.script.script.attack.map(|attack| attack.moment);
            if moment.is_some_and(|moment| self.has_come(moment)) {
                self.moment = Some(Instant::now());
                return Over::Moment;
            }
            // One that speaks for ever is a host at its work.
            let speaks_on = self.begun.elapsed() > 2 * start_bound;
            if self.servers.is_empty() {
                if self.begun.elapsed() > start_bound {
                    return Over::NoServer;
                }
            } else if self.last_news.elapsed() > rest || speaks_on {
                return Over::AtRest;
            }
        }
    }

    fn has_come(&self, moment: Moment) -> bool {
        let Some(server) = self.servers.first() else { return false };
        match moment {
            Moment::Starting => !server.methods.is_empty(),
            Moment::Busy => self.is_in_flight(),
            Moment::Idle => {
                let has_begun = |one: &&str| !HANDSHAKE[..2].contains(one);
                let methods = server.methods.iter().map(String::as_str);
                methods.filter(has_begun).count() > 0
                    && server.stdin_ended.is_none()
                    && self.last_news.elapsed() > IDLE
            }
        }
    }

    /// The request that the script leaves unanswered has come.
    fn is_in_flight(&self) -> bool {
        let server = self.script.script.servers.first();
        let unanswered = server.and_then(|server| server.unanswered.as_ref());
        unanswered.is_some_and(|request| self.servers.iter().any(|one| one.knows(&request.method)))
    }

    /// Does to the client what the script says, and waits for its exit.
    fn attack(&mut self, attack: Attack) {
        let step = match attack.deed {
            Deed::EndStdin => self.step("end of client's stdin"),
            signal => self.step(&format!("{signal} to client")),
        };
        self.look(&step);
        match attack.deed {
            Deed::EndStdin => {
                let ended = self.end_stdin();
                if !ended {
                    self.not_applicable =
                        Some("the client does not end when its own stdin does".to_owned());
                }
            }
            Deed::Terminate => self.terminate(&step),
            Deed::Interrupt => {
                if !self.signalled(Signal::INT) {
                    // Hosts take the first one for a request to stop what they do.
                    self.not_applicable =
                        Some("the client does not end upon one SIGINT".to_owned());
                }
            }
            Deed::Kill => self.kill(),
        }
    }

    /// A client that ended by itself in the first look, and does not with another server, waits for
    /// that server.
    fn note_rest(&mut self) {
        let ends_by_itself = !self.order.first_look && self.script.ends_with_stdin.is_none();
        if ends_by_itself {
            let waited = self.patience().as_secs();
            self.played.notes.push(format!(
                "the client still waited for its server after {waited} s without news, and had to \
                 be ended; requests SHOULD have a timeout (2025-11-25 lifecycle T1)"
            ));
        }
    }

    /// Sees to it that the client exits, and gives back the step by which all of it is due.
    fn bring_to_an_end(&mut self) -> StepRef {
        if !self.has_exited() && self.departure != Departure::Killed {
            let was_done = |deed| {
                let attack = self.script.script.attack.filter(|_| self.moment.is_some());
                attack.is_some_and(|attack| attack.deed == deed)
            };
            let (asked, terminated) = (was_done(Deed::EndStdin), was_done(Deed::Terminate));
            // Of one that ended by itself in the first look, nothing is known and nothing expected.
            let may_end = self.order.first_look || self.script.ends_with_stdin == Some(true);
            if may_end && !asked && !terminated {
                self.step("end of client's stdin");
                let ended = self.end_stdin();
                self.learned.client.get_or_insert_default().ends_with_stdin = Some(ended);
                if !ended && !self.order.first_look {
                    self.played.notes.push(
                        "with a server without fault the client ends when its own stdin does; here \
                         it did not, and had to be sent SIGTERM"
                            .to_owned(),
                    );
                }
            }
            if !self.has_exited() && !terminated {
                let step = self.step("SIGTERM to client");
                self.terminate(&step);
            }
        }
        if !self.has_exited() {
            self.kill();
        }
        let due = match self.departure {
            Departure::Killed => "client is killed",
            _ => "client exits",
        };
        self.step(due)
    }

    fn end_stdin(&mut self) -> bool {
        self.last_news = Instant::now();
        if let Some(client) = &mut self.client {
            client.end_stdin();
        }
        self.wait_for_exit()
    }

    /// SIGTERM, upon which every client has to end.
    fn terminate(&mut self, step: &StepRef) {
        if !self.signalled(Signal::TERM) {
            self.judge_client(step);
        }
    }

    fn signalled(&mut self, signal: Signal) -> bool {
        self.last_news = Instant::now();
        if let Some(client) = &self.client {
            client.signal(signal);
        }
        self.wait_for_exit()
    }

    fn kill(&mut self) {
        self.departure = Departure::Killed;
        self.signalled(Signal::KILL);
    }

    /// Waits for the client's exit, as long as there is news of its servers, and then as long as
    /// anything due may take.
    fn wait_for_exit(&mut self) -> bool {
        let patience = self.patience();
        let bound = Instant::now() + 5 * patience;
        while !self.has_exited() && self.last_news.elapsed() <= patience && Instant::now() < bound {
            self.turn();
        }
        self.has_exited()
    }

    /// Takes in news, or waits a moment for it, and looks whether the client has exited.
    fn turn(&mut self) {
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
    }

    fn has_exited(&self) -> bool {
        self.client.as_ref().is_none_or(|client| client.exit.is_some())
    }

    fn take(&mut self, told: Told) {
        self.last_news = told.at;
        let Told { start, pid, at, what } = told;
        match what {
            What::Said(Report::Born { server, inherited }) => {
                self.born(start, pid, server, &inherited);
                self.channel.go(start);
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
        }
    }

    /// A server has told something of itself. With its first message it waits until it has been
    /// looked at: whatever it starts before that is seen as its own.
    fn heard(&mut self, start: usize, report: Report, at: Instant) {
        let is_message = matches!(report, Report::Heard { .. });
        let is_first = self.servers.iter().all(|server| server.methods.is_empty());
        let Some(server) = self.servers.iter_mut().find(|one| one.start == start) else { return };
        let waits = is_message && !std::mem::replace(&mut server.has_heard, is_message);
        server.heard(report, at);
        if !waits {
            return;
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
    fn born(&mut self, start: usize, pid: i32, number: usize, inherited: &[i32]) {
        let name = match self.script.script.servers.len() {
            0 | 1 => "client starts server".to_owned(),
            _ => format!("client starts server {}", number + 1),
        };
        let step = self.step(&name);
        self.look(&step);
        let id = contain::identify(pid);
        let things = &self.ledger.last().things;
        let stdin = things.keys().find_map(|thing| match thing {
            Identity::Fd {
                owner, number: 0, kind: FdKind::Pipe | FdKind::Socket, inode, ..
            } if Some(*owner) == id => Some(*inode),
            _ => None,
        });
        let fake = self.script.script.servers.get(number).map(|one| one.fake.name.clone());
        self.servers.push(Server {
            start,
            number,
            fake: fake.unwrap_or_default(),
            id,
            parent: id.and_then(|id| self.ledger.parent(id)),
            born: step.clone(),
            stdin,
            has_heard: false,
            methods: Vec::new(),
            stdin_ended: None,
            signals: Vec::new(),
            left: false,
            gone: None,
        });
        self.judge_birth(&step, id, number, inherited);
    }

    /// The client says who it is, and which era it speaks.
    fn introduced(&mut self, client: Option<&(String, String)>, modern: bool, is_request: bool) {
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

    /// What the battery is made from.
    fn learn(&mut self) {
        let methods = self.servers.iter().flat_map(|server| &server.methods);
        let requests: Vec<&String> = methods
            .filter(|method| {
                !HANDSHAKE.contains(&method.as_str()) && !method.starts_with("notifications/")
            })
            .collect();
        let call = requests.iter().find(|method| method.as_str() == "tools/call");
        let busy_with = call.or(requests.last()).map(|method| (*method).clone());
        let traits: &mut Traits = self.learned.client.get_or_insert_default();
        traits.busy_with = busy_with;
        if let (Some(client), false) = (&self.client, traits.lives_on) {
            let (code, signal) = client.exit.unwrap_or_default();
            if self.order.first_look && (code, signal) != (Some(0), None) {
                let exited = super::finding::exit_words(code, signal);
                self.played.notes.push(format!("after a whole good life the client {exited}"));
            }
        }
    }

    /// The rungs by which each server was ended, as figures and in words.
    fn tell_ladders(&mut self) {
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

    /// Why the lifecycle did not go as it should, or does not fit this client.
    fn explain(&mut self, over: Over) {
        if self.servers.is_empty() {
            let step = StepRef { place: "1".into(), name: "start client".into(), cycle: None };
            let exit = self.client.as_ref().and_then(|client| client.exit).unwrap_or_default();
            let exited = super::finding::exit_words(exit.0, exit.1);
            let seconds = self.order.start_timeout_ms / 1_000;
            let how = match over {
                Over::NoServer => format!("the client started no server within {seconds} s"),
                _ => format!("the client {exited} and started no server"),
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
        let dies = script.servers.iter().any(|server| {
            server.unanswered.as_ref().is_some_and(|one| one.instead == Instead::Die)
        });
        let why = match script.attack {
            Some(attack) if self.moment.is_none() => Some(match attack.moment {
                Moment::Starting => "the client said nothing to its server",
                Moment::Busy => "the client made no such request",
                Moment::Idle => "the client was never idle",
            }),
            None if dies && !self.is_in_flight() => Some("the client made no such request"),
            _ if is_two && started.len() < script.servers.len() => {
                Some("the client did not start both servers")
            }
            _ => None,
        };
        self.not_applicable = why.map(str::to_owned).or(self.not_applicable.take());
    }

    fn fail(&mut self, step: StepRef, message: String) {
        let output = self.client.as_ref().map(Client::last_output).unwrap_or_default();
        self.played.failure = Some(Failure {
            step,
            message,
            output,
            not_started: self.servers.is_empty(),
            refused: false,
        });
    }

    /// Begins the next step of the life, and ends the one before.
    fn step(&mut self, name: &str) -> StepRef {
        let now = Instant::now();
        if let Some(before) = self.played.steps.last_mut() {
            before.took_ms = millis(now - self.step_began);
        }
        self.step_began = now;
        self.steps += 1;
        let step = StepRef { place: self.steps.to_string(), name: name.to_owned(), cycle: None };
        self.played.steps.push(StepTiming {
            step: step.clone(),
            at_ms: millis(now - self.begun),
            took_ms: 0.0,
        });
        step
    }

    /// How long anything due may take.
    fn patience(&self) -> Duration {
        self.order.patience.under_load(load_per_core())
    }

    /// Looks at every process and what it holds, and writes it into the ledger.
    fn look(&mut self, at: &StepRef) {
        self.look_for(at, LOOK);
    }

    fn look_for(&mut self, at: &StepRef, budget: Duration) {
        let snapshot = self.scanner.snapshot(&self.sight, budget);
        for unreadable in &snapshot.unreadable {
            if self.order.kinds.contains(&unreadable.kind) && self.played.unreadable.len() < 20 {
                let said = format!("{}: {}", unreadable.what, unreadable.cause);
                self.played.unreadable.insert(said);
            }
        }
        self.ledger.record(at, snapshot);
    }

    /// Everything below the cell that lives; what is dead and ours to reap does not.
    fn alive(&mut self) -> BTreeMap<ProcessId, ProcessFacts> {
        self.turn();
        match self.scanner.processes(&self.sight) {
            Ok(processes) => {
                let ours = &self.sight.ours;
                processes
                    .into_iter()
                    .filter(|(_, facts)| !(facts.is_zombie() && ours.contains(&facts.parent)))
                    .collect()
            }
            Err(error) => {
                self.played.unreadable.insert(format!("processes: {error}"));
                BTreeMap::new()
            }
        }
    }
}
