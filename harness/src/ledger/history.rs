//! Who lived when: what the looks of a case have seen come and go, for whoever draws it. No verdict rests
//! on it, and it asks for no look of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::snapshot::{Facts, FdKind, Identity, Kind, ProcessId, Snapshot};
use super::verdict::{Finding, StepRef};

/// Most things that are written down; what comes later is only counted.
const MOST_SEEN: usize = 4_000;
/// Most lifetimes that a report lists.
const MOST_LISTED: usize = 64;
/// Most cycles of one repeat whose counts are kept; of more, every second is dropped.
const MOST_CYCLES: usize = 400;
/// Most repeats whose counts are kept.
const MOST_REPEATS: usize = 4;
/// Most things of one lifetime that are named.
const NAMED: usize = 3;
/// Longest command line and longest text of one thing, in characters.
const LONGEST: usize = 120;

/// What was seen alive in a case, and what grew.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Lives {
    /// In the order of their birth; what leaked, and what is rare, goes before what there is much of.
    pub listed: Vec<Lifetime>,
    /// How many things are not listed.
    pub more: usize,
    /// How many things of a kind were alive after each cycle of a repeat.
    pub growth: Vec<Growth>,
}

/// One thing that was seen alive, or several of one kind and one process that came and went together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Lifetime {
    /// Kind of thing.
    pub kind: Kind,
    /// In words, such as `process 4711 (node dist/index.js)` or `fd 5 pipe:[88121] of pid 4711`.
    pub what: String,
    /// How many.
    pub count: usize,
    /// The step after which it was first seen.
    pub born: StepRef,
    /// The step after which it was seen no more; none where it was there to the last.
    pub gone: Option<StepRef>,
    /// Which of the case's findings is about it, from 0.
    pub finding: Option<usize>,
}

/// How many things of a kind were alive after each cycle of a repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Growth {
    /// Kind of thing.
    pub kind: Kind,
    /// Place of the repeat in the lifecycle.
    pub place: String,
    /// Cycle and number, of memory KiB, where the number is not the same as before and after it.
    pub points: Vec<(u32, u64)>,
}

impl Lives {
    /// Takes in what the ledger has written down; what was weighed meanwhile stays.
    pub fn take_in(&mut self, lives: Lives) {
        let weighed = std::mem::replace(self, lives).growth;
        self.growth.extend(weighed);
    }

    /// Takes in what a process weighed after each cycle, in KiB.
    pub fn weigh(&mut self, place: &str, samples: &[(u32, f64)]) {
        let stride = samples.len().div_ceil(MOST_CYCLES).max(1);
        let whole = |(cycle, kib): &(u32, f64)| (*cycle, kib.max(0.0).round() as u64);
        let points: Vec<(u32, u64)> = samples.iter().step_by(stride).map(whole).collect();
        if points.len() > 1 && self.growth.len() < MOST_REPEATS {
            let points = corners(&points);
            self.growth.push(Growth { kind: Kind::Memory, place: place.to_owned(), points });
        }
    }

    /// Nothing was written down.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.growth.is_empty()
    }
}

/// What the ledger writes down for [`Lives`].
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    seen: Vec<Seen>,
    alive: BTreeMap<Identity, usize>,
    uncounted: usize,
    cycles: BTreeMap<String, BTreeMap<u32, Counts>>,
}

#[derive(Debug, Clone)]
struct Seen {
    identity: Identity,
    kind: Kind,
    name: String,
    born: StepRef,
    gone: Option<StepRef>,
}

type Counts = BTreeMap<Kind, u64>;

impl History {
    /// Something came.
    pub(super) fn born(&mut self, identity: &Identity, facts: &Facts, step: &StepRef) {
        if self.seen.len() >= MOST_SEEN {
            self.uncounted += 1;
            return;
        }
        self.alive.insert(identity.clone(), self.seen.len());
        self.seen.push(Seen {
            identity: identity.clone(),
            kind: Snapshot::kind_of(identity, facts),
            name: name(facts),
            born: step.clone(),
            gone: None,
        });
    }

    /// It went.
    pub(super) fn died(&mut self, identity: &Identity, step: &StepRef) {
        let seen = self.alive.remove(identity).and_then(|at| self.seen.get_mut(at));
        if let Some(seen) = seen {
            seen.gone = Some(step.clone());
        }
    }

    /// What there is after a step of a cycle; of a cycle, the last look stays.
    pub(super) fn count(&mut self, step: &StepRef, snapshot: &Snapshot) {
        let Some(cycle) = step.cycle else { return };
        let repeat = step.place.split('.').next().unwrap_or_default();
        if self.cycles.len() >= MOST_REPEATS && !self.cycles.contains_key(repeat) {
            return;
        }
        let mut counts = Counts::new();
        for (identity, facts) in &snapshot.things {
            *counts.entry(Snapshot::kind_of(identity, facts)).or_default() += 1;
        }
        let cycles = self.cycles.entry(repeat.to_owned()).or_default();
        cycles.insert(cycle, counts);
        if cycles.len() > MOST_CYCLES {
            let mut keep = false;
            cycles.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
    }

    /// For a report; `command` gives the command line of a process.
    pub(super) fn lives(
        &self,
        findings: &[Finding],
        command: &dyn Fn(ProcessId) -> Option<String>,
    ) -> Lives {
        let mut groups: Vec<(Lifetime, Vec<String>)> = Vec::new();
        let mut places: BTreeMap<_, usize> = BTreeMap::new();
        for seen in &self.seen {
            let finding = findings.iter().position(|one| one.identities.contains(&seen.identity));
            // Processes, and what leaked, stand by themselves.
            let owner = seen.identity.owner();
            let alone = owner.is_none_or(|owner| seen.identity == Identity::Process(owner));
            let alone = (alone || finding.is_some()).then_some(&seen.identity);
            let key = (alone, seen.kind, owner, &seen.born, &seen.gone);
            let at = *places.entry(key).or_insert(groups.len());
            if at == groups.len() {
                let life = Lifetime {
                    kind: seen.kind,
                    what: String::new(),
                    count: 0,
                    born: seen.born.clone(),
                    gone: seen.gone.clone(),
                    finding,
                };
                groups.push((life, vec![of_owner(&seen.identity)]));
            }
            let (life, names) = &mut groups[at];
            life.count += 1;
            if life.count <= NAMED {
                names.push(cut(&seen.words(command)));
            }
        }
        let mut listed: Vec<Lifetime> = groups.into_iter().map(named).collect();
        let all: usize = listed.iter().map(|life| life.count).sum();
        let mut order: Vec<usize> = (0..listed.len()).collect();
        order.sort_by_key(|at| (rank(&listed[*at]), *at));
        order.truncate(MOST_LISTED);
        order.sort_unstable();
        let mut at = 0;
        listed.retain(|_| {
            at += 1;
            order.binary_search(&(at - 1)).is_ok()
        });
        let shown: usize = listed.iter().map(|life| life.count).sum();
        Lives { listed, more: all - shown + self.uncounted, growth: self.growth() }
    }

    fn growth(&self) -> Vec<Growth> {
        let mut growth = Vec::new();
        for (place, cycles) in self.cycles.iter().filter(|(_, cycles)| cycles.len() > 1) {
            let kinds: std::collections::BTreeSet<Kind> =
                cycles.values().flat_map(|counts| counts.keys().copied()).collect();
            growth.extend(kinds.into_iter().map(|kind| {
                let number = |counts: &Counts| counts.get(&kind).copied().unwrap_or(0);
                let all: Vec<(u32, u64)> =
                    cycles.iter().map(|(cycle, counts)| (*cycle, number(counts))).collect();
                Growth { kind, place: place.clone(), points: corners(&all) }
            }));
        }
        growth
    }
}

impl Seen {
    fn words(&self, command: &dyn Fn(ProcessId) -> Option<String>) -> String {
        match &self.identity {
            Identity::Process(id) => {
                let command = command(*id).unwrap_or_else(|| self.name.clone());
                format!("{} {} ({command})", self.kind, id.pid)
            }
            Identity::Fd { number, kind, target, .. } => match kind {
                FdKind::File | FdKind::Pipe | FdKind::Socket => format!("fd {number} {target}"),
                _ => format!("fd {number} {}", target.trim_start_matches("anon_inode:")),
            },
            Identity::Thread { tid, .. } => format!("thread {tid} {}", self.name),
            Identity::Task { id } => format!("task {id} {}", self.name),
            Identity::Session { keeper, id } => format!("session {id} of {keeper}"),
            Identity::Cursor { store, id } => format!("cursor {id} in {store}"),
            Identity::Entry { registry, key } => format!("{key} in {registry}"),
            Identity::File { path, .. } => format!("file {path}"),
        }
    }
}

/// At most so many characters, the last one a mark where something is missing.
fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What a thing is called beside its identity.
fn name(facts: &Facts) -> String {
    match facts {
        Facts::Process(facts) => facts.name.clone(),
        Facts::Thread { name } => name.clone(),
        Facts::Task { spawned_at } => spawned_at.clone().unwrap_or_default(),
        Facts::Fd { .. } | Facts::Kept { .. } | Facts::File { .. } => String::new(),
    }
}

/// Whose it is, where it is a process's: that one has a lifetime of its own, with its command.
fn of_owner(identity: &Identity) -> String {
    match identity {
        Identity::Fd { owner, .. } | Identity::Thread { owner, .. } => {
            format!(" of pid {}", owner.pid)
        }
        _ => String::new(),
    }
}

/// Puts the name of a lifetime together: the owner is the first of the names.
fn named((mut life, mut names): (Lifetime, Vec<String>)) -> Lifetime {
    let owner = names.remove(0);
    let noun = match life.kind {
        Kind::Fd => "descriptors".to_owned(),
        Kind::Entry => "entries".to_owned(),
        Kind::Process => "processes".to_owned(),
        kind => format!("{kind}s"),
    };
    let rest = if life.count > names.len() { ", …" } else { "" };
    life.what = match life.count {
        1 => format!("{}{owner}", names.join(", ").trim_end()),
        number => format!("{number} {noun}{owner}: {}{rest}", names.join(", ")),
    };
    life
}

/// What a report shows first, where there is too much.
fn rank(life: &Lifetime) -> u8 {
    match (life.finding, life.kind) {
        (Some(_), _) => 0,
        (None, Kind::Process | Kind::Zombie) => 1,
        (None, Kind::Session | Kind::Task | Kind::Cursor) => 2,
        (None, Kind::Fd | Kind::Thread) if life.gone.is_none() => 3,
        (None, _) => 4,
    }
}

/// The points of a line without those that lie on it because nothing changes there.
fn corners(all: &[(u32, u64)]) -> Vec<(u32, u64)> {
    let is_flat = |at: usize| {
        at > 0 && at + 1 < all.len() && all[at - 1].1 == all[at].1 && all[at].1 == all[at + 1].1
    };
    (0..all.len()).filter(|at| !is_flat(*at)).map(|at| all[at]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::diff::Ledger;
    use super::super::diff::tests::{pipe, process, snapshot, step};
    use super::*;

    fn told(lives: &Lives) -> Vec<String> {
        let line = |life: &Lifetime| {
            let gone = life.gone.as_ref().map_or("-", |step| step.place.as_str());
            format!("{}: {} to {gone}", life.what, life.born.place)
        };
        lives.listed.iter().map(line).collect()
    }

    #[test]
    fn what_comes_and_goes_together_is_one_lifetime_and_what_comes_again_is_another() {
        let mut ledger = Ledger::default();
        ledger.record(&step("1", None), snapshot([process(1, 0), pipe(1, 3, 30), pipe(1, 4, 40)]));
        ledger.record(&step("2", None), snapshot([process(1, 0), pipe(1, 3, 30), pipe(1, 5, 50)]));
        ledger.record(&step("3", None), snapshot([process(1, 0), pipe(1, 4, 40)]));
        assert_eq!(
            told(&ledger.lives(&[])),
            [
                "process 1 (p1): 1 to -",
                "fd 3 pipe:[30] of pid 1: 1 to 3",
                "fd 4 pipe:[40] of pid 1: 1 to 2",
                "fd 5 pipe:[50] of pid 1: 2 to 3",
                "fd 4 pipe:[40] of pid 1: 3 to -",
            ]
        );
        let mut ledger = Ledger::default();
        let pipes = (3..9).map(|number| pipe(1, number, 100));
        ledger.record(&step("1", None), snapshot(pipes));
        let all = told(&ledger.lives(&[]));
        assert_eq!(all.len(), 1);
        assert!(all[0].starts_with("6 descriptors of pid 1: fd 3 pipe:[100], fd 4"), "{all:?}");
    }

    #[test]
    fn growth_is_counted_after_each_cycle_and_only_its_corners_are_told() {
        let mut ledger = Ledger::default();
        for cycle in 1..=6 {
            let grown = (0..cycle.min(4)).map(|n| pipe(1, 5 + n, 100 + n as u64));
            let at = step("3.1", Some(cycle as u32));
            ledger.record(&at, snapshot(grown.chain([process(1, 0)])));
        }
        let growth = ledger.lives(&[]).growth;
        let of = |kind| growth.iter().find(|one| one.kind == kind).map(|one| one.points.clone());
        assert_eq!(of(Kind::Process), Some(vec![(1, 1), (6, 1)]));
        assert_eq!(of(Kind::Fd), Some(vec![(1, 1), (2, 2), (3, 3), (4, 4), (6, 4)]));
    }

    #[test]
    fn of_many_cycles_fewer_are_kept_and_still_from_the_first_to_the_last() {
        let mut ledger = Ledger::default();
        for cycle in 1..=2_000 {
            let one = pipe(1, 5, u64::from(cycle));
            ledger.record(&step("3.1", Some(cycle)), snapshot([one, process(1, 0)]));
        }
        let kept = ledger.history.cycles["3"].len();
        assert!((MOST_CYCLES / 2..=MOST_CYCLES).contains(&kept), "{kept}");
        let lives = ledger.lives(&[]);
        assert_eq!(lives.growth[0].points, [(1, 1), (2_000, 1)]);
    }

    #[test]
    fn however_much_there_was_a_report_stays_small_and_says_so() {
        let mut ledger = Ledger::default();
        for n in 0..9_000 {
            ledger.record(&step(&n.to_string(), Some(n)), snapshot([pipe(1, 5, u64::from(n))]));
        }
        let lives = ledger.lives(&[]);
        assert_eq!(lives.listed.len(), MOST_LISTED);
        assert_eq!(lives.more, 9_000 - MOST_LISTED);
        assert!(lives.growth.len() <= MOST_REPEATS);
    }
}
