//! What is to be seen from outside of the work for a request whose client has hung up: processes and
//! descriptors that came with the call, and processor time. Revision 2025-11-25 wants it to go on,
//! 2026-07-28 to stop.
//!
//! The same call is waited for first: what came with it and went with it is its work. The next one is
//! hung up on, or cancelled, as soon as its work has come to sight, which is never too early for there
//! to be something to stop.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Play;
use crate::ledger::snapshot::{Identity, Kind, ProcessId};
use crate::ledger::verdict::{Class, Culprit, Finding, StepRef};
use crate::lifecycle::step::{Action, Era, Step};
use crate::subject::finding::thing;
use crate::subject::server::{LOOK, millis};

/// Calls that take less are over before anybody can hang up and look.
const LASTING: Duration = Duration::from_secs(1);
/// Between two looks at work that is to come to sight, or to be over.
const GLANCE: Duration = Duration::from_millis(20);
/// Between two looks at the work for a call that is waited for, and the least number of looks that say
/// something of it.
const PACE: Duration = Duration::from_millis(100);
const LOOKS: u32 = 4;
/// How long processor time is looked at for one figure.
const SAMPLE: Duration = Duration::from_millis(200);
/// Work that is nearly over when the client hangs up says nothing.
const LEAST_LEFT: Duration = Duration::from_millis(300);
/// Part of a core that is work, and part of one that is none.
const WORKS: f64 = 0.5;
const RESTS: f64 = 0.15;
/// Lines of evidence.
const LINES: usize = 3;

/// A call that nobody waits for.
#[derive(Debug, Clone)]
pub(super) struct InFlight {
    /// Its tool.
    pub(super) what: String,
    pub(super) at: StepRef,
    pub(super) began: Instant,
    /// Its work, as it came to sight.
    seen: BTreeSet<Identity>,
}

impl InFlight {
    /// One that begins.
    pub(super) fn new(tool: &str, at: &StepRef, began: Instant) -> Self {
        Self { what: tool.to_owned(), at: at.clone(), began, seen: BTreeSet::new() }
    }
}

/// What work for a call looks like: so many processes, or where there are none, so many descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    of_processes: bool,
    count: usize,
}

/// How often each thing was seen in so many looks.
#[derive(Debug, Default)]
pub(super) struct Seen {
    looks: u32,
    things: BTreeMap<Identity, u32>,
}

/// By what work is seen.
enum Sight {
    /// These came with it.
    Things(BTreeSet<Identity>),
    /// It takes processor time.
    Time,
}

impl Play<'_> {
    /// Looks at what comes with a call until it is answered, where a later one will be hung up on.
    pub(super) fn watch_answered(
        &mut self,
        name: &str,
        at: &StepRef,
        within: Duration,
    ) -> Option<Seen> {
        if !gives_up(&self.order.lifecycle.steps) {
            return None;
        }
        let deadline = Instant::now() + within;
        let mut seen = Seen::default();
        while !self.has_told(name) && Instant::now() < deadline {
            self.look(at, LOOK);
            seen.looks += 1;
            for one in self.came_at(at) {
                *seen.things.entry(one).or_default() += 1;
            }
            std::thread::sleep(PACE);
        }
        Some(seen)
    }

    /// The call was answered: what was there for most of its time and has gone was its work.
    pub(super) fn note_work(&mut self, tool: &str, seen: Option<Seen>, at: &StepRef) {
        let Some(seen) = seen.filter(|seen| seen.looks >= LOOKS) else { return };
        self.look(at, LOOK);
        let still = self.came_at(at);
        let most = |count: u32| count * 2 >= seen.looks;
        let work =
            seen.things.into_iter().filter(|(one, count)| most(*count) && !still.contains(one));
        let (processes, others): (Vec<Identity>, Vec<Identity>) =
            work.map(|(one, _)| one).partition(is_process);
        let of_processes = !processes.is_empty();
        let count = if of_processes { processes.len() } else { others.len() };
        if count > 0 {
            self.works.insert(tool.to_owned(), Work { of_processes, count });
        }
    }

    /// Waits until the work for a call that nobody waits for has come to sight, where the same call
    /// showed before that there will be something; half of its time at most.
    pub(super) fn await_work(&mut self, tool: &str, at: &StepRef) {
        let (Some(work), Some(whole)) = (self.works.get(tool), self.timed.get(tool)) else {
            return;
        };
        let (work, Some(call)) = (*work, &self.in_flight) else { return };
        let deadline = call.began + *whole / 2;
        let mut last = BTreeSet::new();
        loop {
            self.look(at, LOOK);
            let now: BTreeSet<Identity> = self
                .came_at(at)
                .into_iter()
                .filter(|one| is_process(one) == work.of_processes)
                .collect();
            // What is there in two looks is no passing step on the way to it.
            let is_there = now.len() >= work.count && now == last;
            last = now;
            if is_there {
                break;
            }
            if Instant::now() >= deadline {
                // The next cycle does not wait for it again.
                self.works.remove(tool);
                break;
            }
            std::thread::sleep(GLANCE);
        }
        if let Some(call) = &mut self.in_flight {
            call.seen = last;
        }
    }

    /// What came at a step and may be work.
    fn came_at(&self, at: &StepRef) -> BTreeSet<Identity> {
        let alive = self.ledger.alive();
        let came = alive.filter(|(one, _, birth)| **birth == *at && is_work(one));
        came.map(|(one, ..)| one.clone()).collect()
    }

    /// Watches what becomes of the work for a call whose client has just hung up.
    pub(super) fn watch_abandoned(&mut self, at: &StepRef) {
        let Some(call) = self.in_flight.take().filter(|_| at.cycle.is_none()) else { return };
        let whole = self.timed.get(&call.what).copied().unwrap_or_default();
        let until = match self.era {
            Era::Legacy => "goes on",
            Era::Modern => "stops",
        };
        if whole < LASTING {
            self.note(format!(
                "whether work {until} when a client hangs up was not seen: {} was answered at once; \
                 name a call that lasts some seconds with --call TOOL=JSON",
                call.what
            ));
            return;
        }
        let hung_up = Instant::now();
        let due = call.began + whole;
        self.look(at, LOOK);
        let mut things: BTreeSet<Identity> = self
            .ledger
            .alive()
            .filter(|(identity, _, birth)| {
                // A process may come a moment after its call.
                let late = birth.place == at.place && matches!(identity, Identity::Process(_));
                (birth.place == call.at.place || late) && is_work(identity)
            })
            .map(|(identity, ..)| identity.clone())
            .collect();
        things.extend(call.seen.iter().cloned());
        let work = match things.is_empty() {
            _ if due.saturating_duration_since(hung_up) < LEAST_LEFT => {
                self.note(format!(
                    "whether work {until} when a client hangs up was not seen: the host was too busy to \
                     hang up while {} was being worked on",
                    call.what
                ));
                return;
            }
            false => Sight::Things(things),
            true if self.busy_cores() >= WORKS => Sight::Time,
            true => {
                self.note(format!(
                    "whether work {until} when a client hangs up was not seen: the call of {} shows in \
                     no process, no descriptor and no processor time",
                    call.what
                ));
                return;
            }
        };
        let bound = due + self.patience();
        let ended = loop {
            let is_over = match &work {
                Sight::Things(things) => {
                    self.look(at, LOOK);
                    let last = &self.ledger.last().things;
                    !things.iter().any(|one| last.contains_key(one))
                }
                Sight::Time => self.busy_cores() < RESTS,
            };
            if is_over {
                break Some(Instant::now());
            }
            if Instant::now() >= bound {
                break None;
            }
            std::thread::sleep(GLANCE);
        };
        let took = ended.map(|ended| ended - call.began);
        if let Some(ended) = ended {
            let after = millis(ended - hung_up);
            self.played.figures.insert("work_after_hang_up_ms".into(), after);
        }
        // Half of the time that was left is far from both.
        let half = hung_up + due.saturating_duration_since(hung_up) / 2;
        let ran_on = ended.is_none_or(|ended| ended > half);
        let (rule, what, remedy) = match (self.era, ran_on) {
            (Era::Legacy, true) | (Era::Modern, false) => return,
            (Era::Legacy, false) => (
                "2025-11-25 http H7",
                "the work for a call that was stopped",
                "in this era let the request run on, and cancel upon `notifications/cancelled` alone",
            ),
            (Era::Modern, true) => (
                "2026-07-28 http N16",
                "the work for a call that went on",
                "take the closing of the response stream for a cancellation and end the work",
            ),
        };
        let seen = match took {
            Some(took) => format!("its work was over {:.1} s after it began", took.as_secs_f64()),
            None => "its work was still not over at the end".to_owned(),
        };
        let mut evidence = vec![format!(
            "{} takes {:.1} s when it is waited for; when its client hung up, {seen}",
            call.what,
            whole.as_secs_f64()
        )];
        let identities: Vec<Identity> = match work {
            Sight::Things(things) => things.into_iter().collect(),
            Sight::Time => {
                evidence.push("seen by its processor time".to_owned());
                self.server().map(Identity::Process).into_iter().collect()
            }
        };
        evidence.extend(identities.iter().take(LINES).map(|one| thing(one, &self.ledger)));
        evidence.push("advisory: nothing that stays was seen by it; what stays grows".to_owned());
        self.played.findings.push(Finding {
            class: Class::Advisory,
            kind: Kind::Process,
            what: what.to_owned(),
            count: identities.len(),
            identities: identities.into_iter().take(Finding::IDENTITIES).collect(),
            birth_step: call.at,
            due_step: at.clone(),
            culprit: Culprit::Server,
            blame: "the server works on the request".to_owned(),
            rule: Some(rule.to_owned()),
            hurts:
                "the two eras have opposite rules, and a client that relies on its own loses work \
                    or pays for work that nobody wants"
                    .to_owned(),
            site: None,
            holders: Vec::new(),
            holders_unread: 0,
            evidence,
            remedy: remedy.to_owned(),
        });
    }

    /// How many cores the server's processes keep busy.
    fn busy_cores(&mut self) -> f64 {
        let ids: Vec<ProcessId> = self.alive().keys().copied().collect();
        let before = ticks(&ids);
        let began = Instant::now();
        std::thread::sleep(SAMPLE);
        let spent = ticks(&ids).saturating_sub(before) as f64 / procfs::ticks_per_second() as f64;
        spent / began.elapsed().as_secs_f64()
    }
}

fn is_process(identity: &Identity) -> bool {
    matches!(identity, Identity::Process(_))
}

/// Whether some call is hung up on or cancelled while it is being worked on.
fn gives_up(steps: &[Step]) -> bool {
    steps.iter().any(|step| match &step.action {
        Action::Abandon | Action::Cancel => true,
        Action::Repeat { steps, .. } => gives_up(steps),
        Action::Concurrently { branches } => branches.iter().any(|steps| gives_up(steps)),
        _ => false,
    })
}

/// What a call may bring along that is not its connection.
fn is_work(identity: &Identity) -> bool {
    match identity {
        Identity::Process(_) => true,
        Identity::Fd { target, .. } => !target.starts_with("socket:"),
        _ => false,
    }
}

/// Processor time of these processes so far, in clock ticks.
fn ticks(ids: &[ProcessId]) -> u64 {
    let of = |id: &ProcessId| {
        let stat = procfs::process::Process::new(id.pid).ok()?.stat().ok()?;
        (stat.starttime == id.start_time).then_some(stat.utime + stat.stime)
    };
    ids.iter().filter_map(of).sum()
}
