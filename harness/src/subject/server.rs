//! Plays a lifecycle on a stdio server, looks after every step, and judges what survives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::calls::Calls;
use super::connection::Connection;
use super::finding;
use super::lives::Lives;
use super::survivor;
use crate::cell::contain;
use crate::cell::protocol::{CaseOrder, CellEvent, Learned};
use crate::ledger::diff::{Change, Ledger};
use crate::ledger::history;
use crate::ledger::sdk::Sdk;
use crate::ledger::snapshot::{Kind, ProcessFacts, ProcessId, Snapshot};
use crate::ledger::verdict::{Crash, Failure, Finding, StepRef, StepTiming};
use crate::lifecycle::step::{Action, Era, Step};
use crate::probe::{Root, Scanner, Sight};

/// How long a look after a step waits for two equal scans.
pub(super) const LOOK: Duration = Duration::from_millis(20);
/// How long a look that a verdict rests on does.
pub(super) const FIRM_LOOK: Duration = Duration::from_secs(2);

/// Everything that playing a lifecycle brought to light.
#[derive(Debug, Default)]
pub struct Played {
    /// What leaked.
    pub findings: Vec<Finding>,
    /// What went wrong with the lifecycle itself.
    pub failure: Option<Failure>,
    /// What could not be looked at, for kinds that are judged.
    pub unreadable: BTreeSet<String>,
    /// How long each step took; repeated steps once, summed.
    pub steps: Vec<StepTiming>,
    /// What was seen to come and go.
    pub lives: history::Lives,
    /// Named figures.
    pub figures: BTreeMap<String, f64>,
    /// Worth knowing.
    pub notes: Vec<String>,
    /// Lives that ended in a crash when their end came.
    pub crashes: Vec<Crash>,
    /// Repetitions judged, the warm-up not counted.
    pub cycles: u32,
    /// An answer came in this era.
    pub era: Option<Era>,
    /// The SDK of whoever answered, where it is recognised.
    pub sdk: Option<Sdk>,
}

/// A lifecycle being played on a server.
pub struct Play<'a> {
    pub(super) order: &'a CaseOrder,
    pub(super) tell: &'a mut dyn FnMut(CellEvent),
    pub(super) scanner: Scanner,
    pub(super) sight: Sight,
    pub(super) ledger: Ledger,
    pub(super) connections: BTreeMap<String, Connection>,
    /// Connections that were judged and taken out of the books.
    pub(super) ended: BTreeSet<String>,
    pub(super) origins: BTreeMap<ProcessId, String>,
    /// The last cursor that a list gave, in any life.
    pub(super) cursor: Option<String>,
    /// Connections whose server did not start beside another one.
    pub(super) given_up: BTreeSet<String>,
    pub(super) calls: Calls,
    pub(super) lives: Lives,
    /// A process outlived its end in a run that does not judge processes.
    pub(super) unjudged_survivor: bool,
    /// Only whether something is left is asked, not what and since when.
    pub(super) screens: bool,
    /// Why the failure of a step says nothing of the server.
    pub(super) unsure: Option<String>,
    pub(super) learned: Learned,
    pub(super) begun: Instant,
    pub(super) played: Played,
}

impl<'a> Play<'a> {
    /// Ready to play, in a cell whose processes are seen from `root`.
    pub fn new(order: &'a CaseOrder, root: Root, tell: &'a mut dyn FnMut(CellEvent)) -> Self {
        let mut ours = BTreeSet::from([contain::own_pid()]);
        // In a pid namespace the sentinel is in sight, too.
        if let Some(parent) = rustix::process::getppid() {
            ours.insert(parent.as_raw_nonzero().get());
        }
        let temp_dir = std::env::var_os("TMPDIR").map(Into::into);
        // Whatever is judged, blame needs to see who is who, and who has our pipes.
        let mut kinds = order.kinds.clone();
        kinds.extend([Kind::Process, Kind::Zombie, Kind::Fd]);
        // Memory is weighed once a cycle, not looked at after every step.
        kinds.remove(&Kind::Memory);
        Self {
            order,
            tell,
            scanner: Scanner::new(),
            sight: Sight { root, ours, temp_dir, kinds },
            ledger: Ledger::default(),
            connections: BTreeMap::new(),
            ended: BTreeSet::new(),
            origins: BTreeMap::new(),
            cursor: None,
            given_up: BTreeSet::new(),
            calls: Calls::default(),
            lives: Lives::default(),
            unjudged_survivor: false,
            screens: false,
            unsure: None,
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

    /// Plays all steps, brings what is still open to its end, and gives back what came of it.
    pub fn run(&mut self) -> Played {
        let before =
            StepRef { place: "0".into(), name: "before the first step".into(), cycle: None };
        self.look(&before, LOOK);
        let steps = self.order.lifecycle.steps.clone();
        let failed = self.play_all(&steps, "", None).err();
        let end = StepRef { place: "end".into(), name: "end of the lifecycle".into(), cycle: None };
        if let Some(failure) = failed {
            let broken = self.connections.values().find_map(|one| one.link.broken.clone());
            match self.unsure.take().or(broken) {
                // What did not come about for our own reasons is not the server's failure.
                Some(cause) => {
                    let unseen = format!("{}: {}: {cause}", failure.step, failure.message);
                    self.played.unreadable.insert(unseen);
                }
                None => {
                    self.judge_files_in_the_way(&failure);
                    self.played.failure = Some(*failure);
                }
            }
        }
        let began = Instant::now();
        self.end_all(&end);
        if self.order.for_any_server {
            self.played.notes.extend(self.calls.notes());
        }
        let judged = &self.order.kinds;
        self.played.findings.retain(|finding| judged.contains(&finding.kind));
        self.time(&end, began);
        survivor::tell_backends(&self.ledger, self.order.first_look, &mut self.played);
        if !self.screens {
            self.played.lives.take_in(self.ledger.lives(&self.played.findings));
        }
        std::mem::take(&mut self.played)
    }

    /// What the first look learned, and in a further life whether the server speaks the other era.
    pub fn learned(&mut self) -> Learned {
        if self.learned.eras.contains(&Era::Legacy) {
            self.learn_discover();
        }
        std::mem::take(&mut self.learned)
    }

    pub(super) fn play_all(
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
            self.calls.played(step, cycle, began.elapsed());
            played?;
        }
        Ok(())
    }

    pub(super) fn play(&mut self, step: &Step, at: &StepRef) -> Result<(), Box<Failure>> {
        match &step.action {
            Action::Repeat { times, steps } => {
                self.calls.begin(step.within);
                self.repeat(*times, steps, step.within, at)
            }
            Action::Concurrently { branches } => self.concurrently(branches, at),
            _ => {
                let began = Instant::now();
                let played =
                    self.begin(step, at).and_then(|doing| self.finish(step, at, doing, began));
                played.or_else(|failure| self.give_up(step, at, failure))
            }
        }
    }

    /// In a lifecycle for any server, one that does not start beside another is left alone: there
    /// are servers of which only one can run at a time, by a lock or by a port.
    fn give_up(
        &mut self,
        step: &Step,
        at: &StepRef,
        failure: Box<Failure>,
    ) -> Result<(), Box<Failure>> {
        let starting = matches!(step.action, Action::Open | Action::Handshake { .. });
        let beside = self.connections.keys().any(|name| *name != step.connection);
        if !(self.order.for_any_server && starting && beside) {
            return Err(failure);
        }
        let last = failure.output.last().map(|line| format!("; {line}")).unwrap_or_default();
        let note = format!("a server did not start beside another one: {}{last}", failure.message);
        if !self.played.notes.contains(&note) {
            self.played.notes.push(note);
        }
        self.forget(&step.connection, at);
        self.given_up.insert(step.connection.clone());
        Ok(())
    }

    /// All branches advance together: the n-th steps of all are done before any is waited for.
    fn concurrently(&mut self, branches: &[Vec<Step>], at: &StepRef) -> Result<(), Box<Failure>> {
        let longest = branches.iter().map(Vec::len).max().unwrap_or(0);
        // Servers that start at once take longer for it than one alone.
        let many = u32::try_from(branches.len()).unwrap_or(u32::MAX);
        let later = Duration::from_millis(self.order.patience.start_ms).saturating_mul(many);
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
                match self.begin(step, &inner) {
                    Ok(doing) => doings.push((step, inner, doing)),
                    Err(failure) => self.give_up(step, &inner, failure)?,
                }
            }
            // One time for all of them, not counted anew for each.
            let from = Instant::now() + later;
            for (step, inner, doing) in doings {
                let began = Instant::now();
                self.finish(step, &inner, doing, from)
                    .or_else(|failure| self.give_up(step, &inner, failure))?;
                self.time(&inner, began);
                self.look(&inner, LOOK);
            }
        }
        Ok(())
    }

    /// Looks at everything and writes it into the ledger; gives back what changed.
    pub(super) fn look(&mut self, at: &StepRef, budget: Duration) -> Change {
        contain::reap();
        let snapshot = self.scanner.snapshot(&self.sight, budget);
        self.note_unreadable(&snapshot);
        let processes: BTreeMap<ProcessId, ProcessFacts> =
            snapshot.processes().map(|(id, facts)| (id, facts.clone())).collect();
        self.trace(&processes);
        self.ledger.record(at, snapshot)
    }

    pub(super) fn note_unreadable(&mut self, snapshot: &Snapshot) {
        for unreadable in &snapshot.unreadable {
            if self.order.kinds.contains(&unreadable.kind) && unreadable.kind != Kind::Memory {
                let said = format!("{}: {}", unreadable.what, unreadable.cause);
                if self.played.unreadable.len() < 20 {
                    self.played.unreadable.insert(said);
                }
            }
        }
    }

    pub(super) fn failure(&mut self, name: &str, at: &StepRef, message: String) -> Box<Failure> {
        let connection = self.connections.get_mut(name);
        let answered = connection.as_ref().is_some_and(|connection| connection.answered);
        let output = connection.map(|connection| {
            connection.link.catch_up();
            if connection.link.heard.exited.is_some() {
                connection.hear_last_words();
            }
            finding::last_output(&connection.link.heard)
        });
        Box::new(Failure {
            step: at.clone(),
            message,
            output: output.unwrap_or_default(),
            not_started: !answered && self.played.era.is_none(),
            refused: false,
        })
    }

    pub(super) fn time(&mut self, at: &StepRef, began: Instant) {
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

pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}
