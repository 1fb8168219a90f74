//! What the core's host process holds, and what of it should be gone.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{LOOK, Play, RELEASE};
use crate::cell::contain;
use crate::ledger::snapshot::{Facts, Identity, Kind, Snapshot};
use crate::ledger::verdict::{Class, Culprit, Finding, StepRef};
use crate::settle::{Settled, load_per_core, settle};
use crate::spelled::count;
use crate::subject::embedded::Books;
use crate::subject::finding;

/// Why the core is to blame.
const NOBODY_ELSE: &str = "nothing but the core worked in this process";
/// What to change.
const REMEDY: &str = "mend the core: its close, drop and cancel promise to leave nothing";

/// Something that should be gone, as it was last seen.
#[derive(Debug, Clone)]
struct Left {
    identity: Identity,
    facts: Facts,
    birth: StepRef,
}

impl Play<'_> {
    pub(super) fn look(&mut self, at: &StepRef) {
        // tokio releases a finished task when its runtime is next driven.
        self.runtime.block_on(tokio::task::yield_now());
        let mut snapshot = self.scanner.snapshot(&self.own, LOOK);
        let below = self.scanner.snapshot(&self.below, LOOK);
        // The walk of our own process shows its descendants, too; whole they are in the other.
        let me = contain::own_pid();
        snapshot.things.retain(|identity, _| identity.owner().is_none_or(|owner| owner.pid == me));
        snapshot.things.retain(|identity, _| !matches!(identity, Identity::Process(_)));
        snapshot.things.extend(below.things.into_iter().filter(|(_, facts)| match facts {
            // An orphan's body that waits for another process is not for the core to reap.
            Facts::Process(facts) => !facts.is_zombie() || facts.parent == me,
            _ => true,
        }));
        snapshot.stable &= below.stable;
        snapshot.unreadable.extend(below.unreadable);
        match self.tasks.to_things() {
            Ok(tasks) => snapshot.things.extend(tasks),
            Err(unreadable) => snapshot.unreadable.push(unreadable),
        }
        snapshot.things.extend(self.census.kept());
        self.note_unreadable(&snapshot);
        self.ledger.record(at, snapshot);
        self.look_at_children(at);
    }

    /// What is wrong with a child needs no end to be wrong.
    fn look_at_children(&mut self, at: &StepRef) {
        let listed = self.census.children();
        match self.children.look(contain::own_pid(), self.ledger.last(), listed.as_ref()) {
            Ok(wrong) => {
                for (kind, identity) in wrong {
                    if self.order.kinds.contains(&kind) {
                        let one = self.wrong_child(kind, identity, at);
                        self.played.findings.push(one);
                    }
                }
            }
            Err(unseen) => drop(self.played.unreadable.insert(unseen)),
        }
    }

    fn wrong_child(&self, kind: Kind, identity: Identity, at: &StepRef) -> Finding {
        let evidence = vec![finding::thing(&identity, &self.ledger)];
        let (hurts, _) = finding::words_of(kind);
        Finding {
            class: Class::Leak,
            kind,
            what: match kind {
                Kind::Entry => "a child that the core's census does not list".to_owned(),
                _ => "a descriptor of the core's host process, inherited by a server".to_owned(),
            },
            count: 1,
            identities: vec![identity],
            birth_step: at.clone(),
            due_step: at.clone(),
            culprit: Culprit::Core,
            blame: NOBODY_ELSE.to_owned(),
            rule: None,
            hurts: hurts.to_owned(),
            site: None,
            holders: Vec::new(),
            holders_unread: 0,
            evidence,
            remedy: REMEDY.to_owned(),
        }
    }

    fn note_unreadable(&mut self, snapshot: &Snapshot) {
        for unreadable in &snapshot.unreadable {
            if unreadable.kind == Kind::Task {
                // Without tokio_unstable tasks are counted and not named.
                let alive = crate::probe::task::alive_count(self.runtime.handle());
                let note = format!("tasks were counted, not named: {}", unreadable.cause);
                if alive > 0 && !self.played.notes.contains(&note) {
                    self.played.notes.push(note);
                }
            } else if self.order.kinds.contains(&unreadable.kind) {
                self.played.unreadable.insert(format!("{}: {}", unreadable.what, unreadable.cause));
            }
        }
    }

    /// Everything born since the baseline has to be gone.
    pub(super) fn judge(&mut self, end: &StepRef, topology: &str) {
        // Processes are due the moment that the core returns; the rest when tokio has let go.
        let mut left = self.left(end);
        let patience = RELEASE.mul_f64(load_per_core().clamp(1.0, 4.0));
        let at_once: Vec<Left> =
            left.iter().filter(|one| matches!(one.facts, Facts::Process(_))).cloned().collect();
        let settled = settle(Instant::now() + patience, || {
            left = self.left(end);
            left.is_empty() && self.ledger.last().stable
        });
        if settled == Settled::Bound && !self.ledger.last().stable {
            let unseen = "no two scans in a row agreed, so what is left is not certain".to_owned();
            self.played.unreadable.insert(unseen);
        }
        // One that has gone since is told as it was then; of one that stays the latest is true.
        for one in at_once {
            if !left.iter().any(|other| other.identity == one.identity) {
                left.push(one);
            }
        }
        left.sort_by(|one, other| one.identity.cmp(&other.identity));
        let mut groups: BTreeMap<(Kind, StepRef, Option<i32>), Vec<Left>> = BTreeMap::new();
        for one in left {
            let kind = Snapshot::kind_of(&one.identity, &one.facts);
            // What left its server's group is not the core's, whatever came to be beside it.
            let deserted = self.deserter(&one);
            groups.entry((kind, one.birth.clone(), deserted)).or_default().push(one);
        }
        for ((kind, birth_step, deserted), left) in groups {
            if self.order.kinds.contains(&kind) {
                let one = self.finding(kind, birth_step, deserted, left, end, topology);
                self.played.findings.push(one);
            }
        }
    }

    /// What is there now and was not before the first step.
    fn left(&mut self, at: &StepRef) -> Vec<Left> {
        self.look(at);
        let new = self.ledger.last().things.iter();
        let new = new.filter(|(identity, _)| !self.baseline.contains(identity));
        new.map(|(identity, facts)| Left {
            identity: identity.clone(),
            facts: facts.clone(),
            birth: self.ledger.birth(identity).unwrap_or(at).clone(),
        })
        .collect()
    }

    fn finding(
        &self,
        kind: Kind,
        birth_step: StepRef,
        deserted: Option<i32>,
        left: Vec<Left>,
        end: &StepRef,
        topology: &str,
    ) -> Finding {
        let struck = self.polls.struck();
        let due_step = struck.map(|(step, _)| step.clone());
        let due_step = due_step.or_else(|| self.last_end()).unwrap_or_else(|| end.clone());
        let site = left.iter().find_map(|one| match &one.facts {
            Facts::Task { spawned_at } => spawned_at.clone(),
            _ => None,
        });
        let (class, culprit, blame) = match deserted {
            Some(session) => (
                Class::Advisory,
                Culprit::Server,
                format!(
                    "the server started it in a session of its own ({session}), where no sweep of \
                     the group reaches, and exited without it"
                ),
            ),
            None => (Class::Leak, Culprit::Core, NOBODY_ELSE.to_owned()),
        };
        let mut evidence = vec![format!("seen {topology}")];
        if let Some((step, after)) = struck {
            evidence.push(format!("the future of {step} was dropped after poll {after}"));
        }
        let identities: Vec<Identity> = left.into_iter().map(|one| one.identity).collect();
        let listed = identities.iter().take(Finding::IDENTITIES);
        evidence.extend(listed.map(|identity| finding::thing(identity, &self.ledger)));
        let census = self.census.census.to_string();
        evidence.extend(census.lines().take(6).map(|line| format!("census: {line}")));
        Finding {
            class,
            kind,
            what: format!("{} of the core's host process", count(identities.len(), kind.as_str())),
            count: identities.len(),
            identities: identities.into_iter().take(Finding::IDENTITIES).collect(),
            birth_step,
            due_step,
            culprit,
            blame,
            rule: None,
            hurts: "a host keeps one more of these for every connection it ends".to_owned(),
            site,
            holders: Vec::new(),
            holders_unread: 0,
            evidence,
            remedy: REMEDY.to_owned(),
        }
    }

    /// The session of a helper that left its server's group: the server's, not the core's.
    fn deserter(&self, one: &Left) -> Option<i32> {
        let (Identity::Process(id), Facts::Process(facts)) = (&one.identity, &one.facts) else {
            return None;
        };
        let servers = &self.servers;
        let apart = !servers.contains(id) && servers.iter().all(|one| one.pid != facts.group);
        apart.then_some(facts.session)
    }

    /// The last step that ended a connection.
    fn last_end(&self) -> Option<StepRef> {
        let ends = ["close", "drop", "shutdown", "kill server"];
        let mut steps = self.played.steps.iter().rev();
        steps
            .find(|timing| ends.contains(&timing.step.name.as_str()))
            .map(|timing| timing.step.clone())
    }
}
