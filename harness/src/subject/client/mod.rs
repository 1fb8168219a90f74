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
//! - `ending`: what is done to it.
//! - [`channel`]: what its servers tell; `news` takes it in.
//! - [`servers`]: what befell each of them.
//! - `birth`: what a server was born with; `judge`: what is left, and whose fault that is.
//! - `rounds`: the same work again and again, and what grows; `growing`: by one look after the other.
//! - `account`: what is told beside that.
//! - [`http`]: the same of a client over HTTP.

mod account;
mod birth;
pub mod channel;
mod ending;
mod growing;
pub mod http;
mod judge;
mod news;
mod rounds;
pub mod servers;
pub mod started;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use self::channel::Channel;
use self::servers::Server;
use self::started::Client;
use super::memory::Weights;
use super::server::{LOOK, Played, millis};
use crate::cell::contain;
use crate::cell::protocol::{CaseOrder, ClientOrder, Learned};
use crate::ledger::abandoned::Departure;
use crate::ledger::diff::Ledger;
use crate::ledger::snapshot::{Kind, ProcessFacts, ProcessId};
use crate::ledger::verdict::{StepRef, StepTiming};
use crate::lifecycle::client::{Deed, Moment};
use crate::lifecycle::sweep::CUT_REACHED;
use crate::probe::{Root, Scanner, Sight};
use crate::settle::{Stopwatch, load_per_core};

/// A client that says nothing for so long, with all its answers, is idle.
const IDLE: Duration = Duration::from_millis(500);
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
    let mut kinds = BTreeSet::from([Kind::Process, Kind::Zombie, Kind::Fd]);
    if client.script.rounds.is_some() {
        kinds.insert(Kind::Thread);
    }
    let mut play = Play {
        order,
        script: client,
        channel: Channel::listen(&directory)?,
        scanner: Scanner::new(),
        sight: Sight { root, ours, temp_dir: None, kinds },
        ledger: Ledger::default(),
        client: None,
        servers: Vec::new(),
        service: None,
        blamed: BTreeSet::new(),
        steps: 0,
        rounds_judged: false,
        starters: Vec::new(),
        call_answered: false,
        weights: BTreeMap::new(),
        step_began: Instant::now(),
        begun: Instant::now(),
        last_news: Instant::now(),
        rest: Stopwatch::start(),
        moment: None,
        departure: Departure::Exited,
        told: BTreeSet::new(),
        not_applicable: None,
        learned: Learned::default(),
        played: Played::default(),
    };
    match &client.script.service {
        Some(service) => play.run_over_http(service, &directory),
        None => play.run(&directory),
    }
    if play.is_cut() {
        play.played.figures.entry(CUT_REACHED.into()).or_insert(0.0);
    }
    let judged = &order.kinds;
    play.played.findings.retain(|finding| judged.contains(&finding.kind));
    play.played.lives.take_in(play.ledger.lives(&play.played.findings));
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
    /// The HTTP server, where it is one.
    service: Option<http::service::Service>,
    /// Processes that a finding is about already.
    blamed: BTreeSet<ProcessId>,
    steps: usize,
    rounds_judged: bool,
    /// Who starts its servers in every round: the client, or one behind its launcher.
    starters: Vec<ProcessId>,
    /// The answer to a first call has passed.
    call_answered: bool,
    /// What each process that started a server weighed then.
    weights: BTreeMap<ProcessId, Weights>,
    step_began: Instant,
    begun: Instant,
    /// When a server told something, or something was done to the client.
    last_news: Instant,
    /// How long that is ago, for one that could run.
    rest: Stopwatch,
    /// When the moment of the script came.
    moment: Option<Instant>,
    departure: Departure,
    /// What was done to the client so far.
    told: BTreeSet<Deed>,
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
    /// It has started no server in time, or asked nothing of the one over HTTP.
    NoServer,
    /// It does something over and over again, without a bound.
    Storm,
}

impl Play<'_> {
    fn run(&mut self, directory: &std::path::Path) {
        let start = self.step("start client");
        match Client::start(self.script, &self.channel.path, directory, None) {
            Ok(client) => {
                self.last_news = Instant::now();
                self.client = Some(client);
            }
            Err(message) => return self.fail(start, message),
        }
        self.look(&start);
        let mut over = match self.script.script.rounds {
            Some(rounds) => self.play_rounds(rounds),
            None => {
                self.begin_work();
                self.until_something_is_to_be_done()
            }
        };
        if over == Over::AtRest && self.give_what_is_held() {
            over = self.until_something_is_to_be_done();
        }
        let instead = (over == Over::NoServer).then(|| self.what_is_there_instead());
        match (over, self.script.script.attack) {
            (Over::Moment, Some(attack)) => self.attack(attack),
            (Over::AtRest, None) if self.script.script.rounds.is_none() => {
                self.learned.client.get_or_insert_default().lives_on = true;
                let rest = self.step("client at rest");
                self.look(&rest);
                self.judge_rest(&rest);
                self.tell_of_rest(&rest);
            }
            _ => {}
        }
        let due = self.bring_to_an_end();
        self.judge_what_is_left(&due);
        self.learn();
        self.tell_ladders();
        self.explain(instead);
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
            self.tell_to_close();
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
            } else if self.rested() > rest || speaks_on {
                return Over::AtRest;
            }
        }
    }

    fn has_come(&self, moment: Moment) -> bool {
        if self.service.is_some() {
            return self.has_come_over_http(moment);
        }
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
            Moment::Closing => self.is_closing(),
        }
    }

    /// The request that the script leaves unanswered has come.
    fn is_in_flight(&self) -> bool {
        let server = self.script.script.servers.first();
        let unanswered = server.and_then(|server| server.unanswered.as_ref());
        unanswered.is_some_and(|request| self.servers.iter().any(|one| one.knows(&request.method)))
    }

    fn has_exited(&self) -> bool {
        self.client.as_ref().is_none_or(|client| client.exit.is_some())
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
