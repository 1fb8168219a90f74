//! What is to be seen from outside of the work for a request whose client has hung up: processes and
//! descriptors that came with the call, and processor time. Revision 2025-11-25 wants it to go on,
//! 2026-07-28 to stop.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Play;
use crate::ledger::snapshot::{Identity, Kind, ProcessId};
use crate::ledger::verdict::{Class, Culprit, Finding, StepRef};
use crate::lifecycle::step::Era;
use crate::subject::finding::thing;
use crate::subject::server::{LOOK, millis};

/// Calls that take less are over before anybody can hang up and look.
const LASTING: Duration = Duration::from_secs(1);
/// How long processor time is looked at for one figure.
const SAMPLE: Duration = Duration::from_millis(200);
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
}

/// What is seen of its work.
enum Work {
    /// These came with it.
    Things(BTreeSet<Identity>),
    /// It takes processor time.
    Time,
}

impl Play<'_> {
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
        self.look(at, LOOK);
        let things: BTreeSet<Identity> = self
            .ledger
            .alive()
            .filter(|(identity, _, birth)| {
                // A process may come a moment after its call.
                let late = birth.place == at.place && matches!(identity, Identity::Process(_));
                (birth.place == call.at.place || late) && is_work(identity)
            })
            .map(|(identity, ..)| identity.clone())
            .collect();
        let work = match things.is_empty() {
            false => Work::Things(things),
            true if self.busy_cores() >= WORKS => Work::Time,
            true => {
                self.note(format!(
                    "whether work {until} when a client hangs up was not seen: the call of {} shows in \
                     no process, no descriptor and no processor time",
                    call.what
                ));
                return;
            }
        };
        let hung_up = Instant::now();
        let bound = call.began + whole + self.patience();
        let ended = loop {
            let is_over = match &work {
                Work::Things(things) => {
                    self.look(at, LOOK);
                    let last = &self.ledger.last().things;
                    !things.iter().any(|one| last.contains_key(one))
                }
                Work::Time => self.busy_cores() < RESTS,
            };
            if is_over {
                break Some(Instant::now());
            }
            if Instant::now() >= bound {
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let took = ended.map(|ended| ended - call.began);
        if let Some(ended) = ended {
            let after = millis(ended - hung_up);
            self.played.figures.insert("work_after_hang_up_ms".into(), after);
        }
        // Half of its time is far from both.
        let ran_on = took.is_none_or(|took| took > whole / 2);
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
            Work::Things(things) => things.into_iter().collect(),
            Work::Time => {
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
