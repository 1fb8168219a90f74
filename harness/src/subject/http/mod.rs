//! Plays a lifecycle on an HTTP server: starts it, plays its clients, and judges what stays.
//!
//! ```text
//! cell ── server ── helpers      (judged; its command is started by the cell)
//!  └───── clients                (scupper; their sockets are theirs)
//! ```
//!
//! One life of the server has many clients. Where a client ends, its sockets are due; where it ends
//! its session, that is due too. Everything else that stays inside a living server is its right, until
//! it grows. At its own end all of it is due.
//!
//! - `life`: the server is started, and its URL is waited for.
//! - `detect`: which era it speaks, and which of the two ways over HTTP.
//! - `peers`: the processes of its clients.
//! - `steps`: the effect of each step, and what it waits for.
//! - `orders`: what the processes are told that play clients, and what they tell.
//! - `answers`: what came of a step.
//! - `cut`: clients that say nothing more once so many bytes have passed.
//! - `books`: sessions and sockets, and whether they are due.
//! - `ending`: the end of the server, and what is left.
//! - `watch`: whether work goes on for a client that has hung up.
//! - `unread`: clients that do not read, and what the server has for them.
//! - `rounds`: the same again and again, and what grows.

mod answers;
mod books;
mod cut;
mod detect;
mod ending;
mod life;
mod orders;
mod peers;
mod rounds;
mod steps;
mod unread;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use self::books::{Client, Past, SessionBook};
use self::life::Life;
use self::peers::Peer;
use self::watch::{InFlight, Work};
use super::server::{LOOK, Played, millis};
use super::survivor;
use crate::cell::contain;
use crate::cell::protocol::{CaseOrder, CellEvent, HttpOrder, HttpTraits, Learned};
use crate::ledger::diff::{Change, Ledger};
use crate::ledger::snapshot::{Identity, Kind, ProcessFacts, ProcessId};
use crate::ledger::verdict::{Failure, StepRef, StepTiming};
use crate::lifecycle::endpoint::Wire;
use crate::lifecycle::step::{Action, Era, EraChoice, Step};
use crate::probe::{Root, Scanner, Sight};
use crate::settle::load_per_core;

/// A lifecycle being played on an HTTP server.
pub struct Play<'a> {
    order: &'a CaseOrder,
    http: &'a HttpOrder,
    tell: &'a mut dyn FnMut(CellEvent),
    scanner: Scanner,
    sight: Sight,
    ledger: Ledger,
    life: Option<Life>,
    /// How many processes the server had once it had started.
    tree: usize,
    /// The port of the last life.
    port: Option<u16>,
    peers: BTreeMap<String, Peer>,
    clients: BTreeMap<String, Client>,
    past: Vec<Past>,
    sessions: Vec<SessionBook>,
    /// Things that a finding is about already.
    blamed: BTreeSet<Identity>,
    era: Era,
    wire: Wire,
    /// Era and wire are known.
    detected: bool,
    /// The server has answered a handshake of the lifecycle.
    answered: bool,
    /// Only whether something is left is asked, not what and since when.
    screens: bool,
    /// The server lets connections wait, so no further one is waited for.
    takes_late: bool,
    /// Steps of a `concurrently` are being begun: none of them is waited for.
    at_once: bool,
    /// The bytes of a cut have passed.
    was_cut: bool,
    next_id: u64,
    cursor: Option<String>,
    /// The last call that nobody waits for.
    in_flight: Option<InFlight>,
    /// How long calls took that were waited for, by tool.
    timed: BTreeMap<String, Duration>,
    /// What work for a call looks like, by tool, where one that was waited for showed it.
    works: BTreeMap<String, Work>,
    learned: Learned,
    begun: Instant,
    played: Played,
}

impl<'a> Play<'a> {
    /// Ready to play, in a cell whose processes are seen from `root`.
    pub fn new(
        order: &'a CaseOrder,
        http: &'a HttpOrder,
        root: Root,
        tell: &'a mut dyn FnMut(CellEvent),
    ) -> Self {
        let mut ours = BTreeSet::from([contain::own_pid()]);
        // In a pid namespace the sentinel is in sight, too.
        if let Some(parent) = rustix::process::getppid() {
            ours.insert(parent.as_raw_nonzero().get());
        }
        let mut kinds = order.kinds.clone();
        // Whatever is judged, blame needs to see who is who, and who has which socket.
        kinds.extend([Kind::Process, Kind::Zombie, Kind::Fd]);
        kinds.remove(&Kind::Memory);
        let temp_dir = std::env::var_os("TMPDIR").map(Into::into);
        Self {
            order,
            http,
            tell,
            scanner: Scanner::new(),
            sight: Sight { root, ours, temp_dir, kinds },
            ledger: Ledger::default(),
            life: None,
            tree: 0,
            port: None,
            peers: BTreeMap::new(),
            clients: BTreeMap::new(),
            past: Vec::new(),
            sessions: Vec::new(),
            blamed: BTreeSet::new(),
            era: order.era,
            wire: http.wire.unwrap_or_default(),
            detected: http.wire.is_some() && order.lifecycle.era != EraChoice::Auto
                || http.wire.is_some() && !order.first_look,
            answered: false,
            screens: false,
            takes_late: false,
            at_once: false,
            was_cut: false,
            next_id: 0,
            cursor: None,
            in_flight: None,
            timed: BTreeMap::new(),
            works: BTreeMap::new(),
            learned: Learned::default(),
            begun: Instant::now(),
            played: Played::default(),
        }
    }

    /// Looks no closer than it takes to say whether anything is left.
    #[must_use]
    pub fn screening(self) -> Self {
        Self { screens: true, ..self }
    }

    /// Plays all steps, ends the server, and gives back what came of it.
    pub fn run(&mut self) -> Played {
        let before =
            StepRef { place: "0".into(), name: "before the first step".into(), cycle: None };
        self.look(&before, LOOK);
        let steps = self.order.lifecycle.steps.clone();
        if let Err(failure) = self.play_all(&steps, "", None) {
            self.played.failure = Some(*failure);
        }
        let end = StepRef { place: "end".into(), name: "end of the lifecycle".into(), cycle: None };
        let began = Instant::now();
        self.end_all(&end);
        let judged = &self.order.kinds;
        self.played.findings.retain(|finding| judged.contains(&finding.kind));
        self.time(&end, began);
        self.tell_whether_cut();
        survivor::tell_backends(&self.ledger, self.order.first_look, &mut self.played);
        self.played.lives.take_in(self.ledger.lives(&self.played.findings));
        std::mem::take(&mut self.played)
    }

    /// What the first look learned.
    pub fn learned(&mut self) -> Learned {
        std::mem::take(&mut self.learned)
    }

    fn traits(&mut self) -> &mut HttpTraits {
        self.learned.http.get_or_insert_default()
    }

    fn play_all(
        &mut self,
        steps: &[Step],
        above: &str,
        cycle: Option<u32>,
    ) -> Result<(), Box<Failure>> {
        for (index, step) in steps.iter().enumerate() {
            let at =
                StepRef { place: format!("{above}{}", index + 1), name: step.action.name(), cycle };
            let began = Instant::now();
            let played = self.play(step, &at);
            self.time(&at, began);
            if !self.screens {
                self.look(&at, LOOK);
            }
            played?;
        }
        Ok(())
    }

    fn play(&mut self, step: &Step, at: &StepRef) -> Result<(), Box<Failure>> {
        match &step.action {
            Action::Repeat { times, steps } => self.repeat(*times, steps, step.within, at),
            Action::Concurrently { branches } => self.concurrently(branches, at),
            _ => {
                let doing = self.begin(step, at)?;
                self.finish(step, at, doing)
            }
        }
    }

    /// All branches advance together: the n-th steps of all are begun before any is waited for.
    fn concurrently(&mut self, branches: &[Vec<Step>], at: &StepRef) -> Result<(), Box<Failure>> {
        let longest = branches.iter().map(Vec::len).max().unwrap_or(0);
        for index in 0..longest {
            let mut doings = Vec::new();
            for (number, branch) in branches.iter().enumerate() {
                let Some(step) = branch.get(index) else { continue };
                let inner = StepRef {
                    place: format!("{}.{}.{}", at.place, number + 1, index + 1),
                    name: step.action.name(),
                    cycle: at.cycle,
                };
                if matches!(step.action, Action::Repeat { .. } | Action::Concurrently { .. }) {
                    self.play(step, &inner)?;
                    continue;
                }
                self.at_once = true;
                let doing = self.begin(step, &inner);
                self.at_once = false;
                doings.push((step, inner, doing?));
            }
            for (step, inner, doing) in doings {
                let began = Instant::now();
                self.finish(step, &inner, doing)?;
                self.time(&inner, began);
            }
            let row = StepRef { place: at.place.clone(), name: at.name.clone(), cycle: at.cycle };
            self.look(&row, LOOK);
        }
        Ok(())
    }

    /// Reaps what is dead and ours to reap, and takes down how the server ended.
    fn reap(&mut self) {
        let reaped = contain::reap();
        if let Some(life) = &mut self.life
            && let Some(exit) = reaped.get(&life.root.pid)
        {
            life.exit = Some(*exit);
            life.exited_at = Some(Instant::now());
        }
    }

    /// Looks at everything and writes it into the ledger; gives back what changed.
    fn look(&mut self, at: &StepRef, budget: Duration) -> Change {
        self.reap();
        let snapshot = self.scanner.snapshot(&self.sight, budget);
        for unreadable in &snapshot.unreadable {
            if self.order.kinds.contains(&unreadable.kind) && self.played.unreadable.len() < 20 {
                let said = format!("{}: {}", unreadable.what, unreadable.cause);
                self.played.unreadable.insert(said);
            }
        }
        self.ledger.record(at, snapshot)
    }

    /// Everything of the server that lives; a zombie counts while its parent, one of the server's,
    /// lives.
    fn alive(&mut self) -> BTreeMap<ProcessId, ProcessFacts> {
        self.reap();
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

    /// How long anything due may take.
    fn patience(&self) -> Duration {
        self.order.patience.under_load(load_per_core())
    }

    fn failure(&mut self, at: &StepRef, message: String) -> Box<Failure> {
        self.reap();
        let output = self.life.as_ref().map(|life| life.output.last()).unwrap_or_default();
        Box::new(Failure {
            step: at.clone(),
            message,
            output,
            not_started: !self.answered,
            refused: false,
        })
    }

    fn note(&mut self, note: String) {
        if !self.played.notes.contains(&note) && self.played.notes.len() < 20 {
            self.played.notes.push(note);
        }
    }

    fn time(&mut self, at: &StepRef, began: Instant) {
        let took_ms = millis(began.elapsed());
        let known = self.played.steps.iter_mut().find(|timing| timing.step.place == at.place);
        match known {
            Some(timing) => timing.took_ms += took_ms,
            None => self.played.steps.push(StepTiming {
                step: StepRef { cycle: None, ..at.clone() },
                at_ms: millis(began.saturating_duration_since(self.begun)),
                took_ms,
            }),
        }
    }
}
