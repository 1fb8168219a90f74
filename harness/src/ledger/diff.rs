//! Identity diff and birth steps.

use std::collections::BTreeMap;

use super::backend::Backends;
use super::history::{History, Lives};
use super::snapshot::{Facts, Identity, ProcessId, Snapshot};
use super::verdict::{Finding, StepRef};

/// What differs between two snapshots. Nothing is counted: close one and leak one is a birth and a
/// death.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// In the second only.
    pub born: Vec<Identity>,
    /// In the first only.
    pub died: Vec<Identity>,
    /// In both, with other facts.
    pub changed: Vec<Identity>,
}

/// Sort-merge of two snapshots.
pub fn change(before: &Snapshot, after: &Snapshot) -> Change {
    let mut change = Change::default();
    for (identity, facts) in &after.things {
        match before.things.get(identity) {
            None => change.born.push(identity.clone()),
            Some(earlier) if earlier != facts => change.changed.push(identity.clone()),
            Some(_) => {}
        }
    }
    for identity in before.things.keys() {
        if !after.things.contains_key(identity) {
            change.died.push(identity.clone());
        }
    }
    change
}

/// Everything alive, with the step after which it was first seen.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    last: Snapshot,
    births: BTreeMap<Identity, StepRef>,
    parents: BTreeMap<ProcessId, ProcessId>,
    commands: BTreeMap<ProcessId, Vec<String>>,
    backends: Backends,
    pub(super) history: History,
}

impl Ledger {
    /// Takes in what was seen after a step.
    pub fn record(&mut self, step: &StepRef, snapshot: Snapshot) -> Change {
        let change = change(&self.last, &snapshot);
        for identity in &change.died {
            self.births.remove(identity);
            self.history.died(identity, step);
        }
        for identity in &change.born {
            self.births.insert(identity.clone(), step.clone());
            if let Some(facts) = snapshot.things.get(identity) {
                self.history.born(identity, facts, step);
            }
        }
        self.history.count(step, &snapshot);
        let by_pid: BTreeMap<i32, ProcessId> =
            snapshot.processes().map(|(id, _)| (id.pid, id)).collect();
        for (id, facts) in snapshot.processes() {
            if let Some(parent) = by_pid.get(&facts.parent) {
                self.parents.entry(id).or_insert(*parent);
            }
            if !facts.command.is_empty() {
                self.commands.insert(id, facts.command.clone());
            }
        }
        self.backends.see(&snapshot, &self.parents);
        self.last = snapshot;
        change
    }

    /// What was seen last.
    pub fn last(&self) -> &Snapshot {
        &self.last
    }

    /// The step after which a thing that is alive was first seen.
    pub fn birth(&self, identity: &Identity) -> Option<&StepRef> {
        self.births.get(identity)
    }

    /// Everything alive with its birth step.
    pub fn alive(&self) -> impl Iterator<Item = (&Identity, &Facts, &StepRef)> {
        self.last.things.iter().filter_map(|(identity, facts)| {
            self.births.get(identity).map(|step| (identity, facts, step))
        })
    }

    /// The parent that a process had when it was first seen, if that was one of the subject's too.
    pub fn parent(&self, id: ProcessId) -> Option<ProcessId> {
        self.parents.get(&id).copied()
    }

    /// The ancestors of a process by first sight, nearest first.
    pub fn ancestors(&self, id: ProcessId) -> impl Iterator<Item = ProcessId> {
        let mut at = id;
        std::iter::from_fn(move || {
            let parent = self.parent(at)?;
            // A start time before the child's is what makes a parent; it also ends any loop.
            (parent.start_time <= at.start_time && parent != at).then(|| {
                at = parent;
                parent
            })
        })
        .take(256)
    }

    /// Whom the subject was seen to speak with as a gateway does.
    pub fn backends(&self) -> &Backends {
        &self.backends
    }

    /// Who lived when, for whoever draws it.
    pub fn lives(&self, findings: &[Finding]) -> Lives {
        let command = |id| self.command(id).map(|words| words.join(" "));
        self.history.lives(findings, &command)
    }

    /// The command line of a process, dead ones too.
    pub fn command(&self, id: ProcessId) -> Option<&[String]> {
        self.commands.get(&id).map(Vec::as_slice)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::snapshot::{FdKind, ProcessFacts};
    use super::*;

    pub(crate) fn process(pid: i32, parent: i32) -> (Identity, Facts) {
        let facts = ProcessFacts {
            parent,
            group: pid,
            session: pid,
            state: 'S',
            name: format!("p{pid}"),
            command: vec![format!("p{pid}")],
            cookie: None,
        };
        (
            Identity::Process(ProcessId { pid, start_time: u64::from(pid.cast_unsigned()) }),
            Facts::Process(facts),
        )
    }

    pub(crate) fn pipe(owner: i32, number: i32, inode: u64) -> (Identity, Facts) {
        let owner = ProcessId { pid: owner, start_time: u64::from(owner.cast_unsigned()) };
        let identity = Identity::Fd {
            owner,
            number,
            kind: FdKind::Pipe,
            target: format!("pipe:[{inode}]"),
            device: 13,
            inode,
            extra: String::new(),
        };
        (identity, Facts::Fd { write_end: false })
    }

    pub(crate) fn snapshot(things: impl IntoIterator<Item = (Identity, Facts)>) -> Snapshot {
        Snapshot { things: things.into_iter().collect(), stable: true, ..Snapshot::default() }
    }

    pub(crate) fn step(place: &str, cycle: Option<u32>) -> StepRef {
        StepRef { place: place.into(), name: format!("step {place}"), cycle }
    }

    #[test]
    fn closing_one_and_leaking_one_is_a_birth_and_a_death() {
        let before = snapshot([pipe(1, 5, 100)]);
        let after = snapshot([pipe(1, 5, 101)]);
        let change = change(&before, &after);
        assert_eq!((change.born.len(), change.died.len()), (1, 1));
    }

    #[test]
    fn birth_step_is_the_first_after_which_a_thing_was_seen() {
        let mut ledger = Ledger::default();
        ledger.record(&step("1", None), snapshot([process(1, 0)]));
        ledger.record(&step("2", None), snapshot([process(1, 0), process(2, 1)]));
        ledger.record(&step("3", None), snapshot([process(1, 0), process(2, 1)]));
        assert_eq!(ledger.birth(&process(2, 1).0), Some(&step("2", None)));
    }

    #[test]
    fn a_number_given_out_again_is_born_again() {
        let mut ledger = Ledger::default();
        ledger.record(&step("1", None), snapshot([pipe(1, 5, 100)]));
        ledger.record(&step("2", None), snapshot([]));
        ledger.record(&step("3", None), snapshot([pipe(1, 5, 100)]));
        assert_eq!(ledger.birth(&pipe(1, 5, 100).0), Some(&step("3", None)));
    }

    #[test]
    fn the_first_parent_is_remembered_after_adoption() {
        let mut ledger = Ledger::default();
        ledger.record(&step("1", None), snapshot([process(1, 0), process(2, 1)]));
        ledger.record(&step("2", None), snapshot([process(2, 77)]));
        let child = ProcessId { pid: 2, start_time: 2 };
        assert_eq!(ledger.parent(child), Some(ProcessId { pid: 1, start_time: 1 }));
    }
}
