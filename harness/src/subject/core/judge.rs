//! What the core's host process holds, and what of it should be gone.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{LOOK, Play, RELEASE};
use crate::cell::contain;
use crate::ledger::snapshot::{Facts, Identity, Kind, Snapshot};
use crate::ledger::verdict::{Class, Culprit, Finding, StepRef};
use crate::settle::{Settled, load_per_core, settle};
use crate::subject::finding;

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
        self.note_unreadable(&snapshot);
        self.ledger.record(at, snapshot);
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
        let processes: Vec<Identity> = left
            .iter()
            .filter(|identity| matches!(identity, Identity::Process(_)))
            .cloned()
            .collect();
        let settled = settle(Instant::now() + patience, || {
            left = self.left(end);
            left.is_empty()
        });
        if settled == Settled::Quiet && processes.is_empty() {
            return;
        }
        left.extend(processes);
        left.sort();
        left.dedup();
        let mut groups: BTreeMap<(Kind, StepRef), Vec<Identity>> = BTreeMap::new();
        for identity in left {
            let things = &self.ledger.last().things;
            let kind = things
                .get(&identity)
                .map_or(Kind::Process, |facts| Snapshot::kind_of(&identity, facts));
            let birth = self.ledger.birth(&identity).unwrap_or(end).clone();
            groups.entry((kind, birth)).or_default().push(identity);
        }
        for ((kind, birth_step), identities) in groups {
            if self.order.kinds.contains(&kind) {
                let one = self.finding(kind, birth_step, identities, end, topology);
                self.played.findings.push(one);
            }
        }
    }

    fn left(&mut self, at: &StepRef) -> Vec<Identity> {
        self.look(at);
        let now = self.ledger.last().things.keys();
        now.filter(|identity| !self.baseline.contains(identity)).cloned().collect()
    }

    fn finding(
        &self,
        kind: Kind,
        birth_step: StepRef,
        identities: Vec<Identity>,
        end: &StepRef,
        topology: &str,
    ) -> Finding {
        let due_step = self.last_end().unwrap_or_else(|| end.clone());
        let things = &self.ledger.last().things;
        let site = identities.iter().find_map(|identity| match things.get(identity) {
            Some(Facts::Task { spawned_at }) => spawned_at.clone(),
            _ => None,
        });
        let (class, culprit, blame) = match identities.first().and_then(|one| self.deserter(one)) {
            Some(session) => (
                Class::Advisory,
                Culprit::Server,
                format!(
                    "the server started it in a session of its own ({session}), where no sweep of \
                     the group reaches, and exited without it"
                ),
            ),
            None => (
                Class::Leak,
                Culprit::Core,
                "nothing but the core worked in this process".to_owned(),
            ),
        };
        let mut evidence = vec![format!("seen {topology}")];
        let listed = identities.iter().take(Finding::IDENTITIES);
        evidence.extend(listed.map(|identity| finding::thing(identity, &self.ledger)));
        let census = self.census.to_string();
        evidence.extend(census.lines().take(6).map(|line| format!("census: {line}")));
        Finding {
            class,
            kind,
            what: format!("{} {kind}(s) of the core's host process", identities.len()),
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
            remedy: "mend the core: its close, drop and cancel promise to leave nothing".to_owned(),
        }
    }

    /// The session of a helper that left its server's group: the server's, not the core's.
    fn deserter(&self, identity: &Identity) -> Option<i32> {
        let Identity::Process(id) = identity else { return None };
        let Some(Facts::Process(facts)) = self.ledger.last().things.get(identity) else {
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
