//! Growth that does not saturate, inside a process that lives on.
//!
//! Caches, pools and log rotation are a server's right: what they hold is born in the first cycles
//! and then stays the same, or is replaced. A leak is what every cycle adds and no cycle takes away:
//! things born in cycle k that are still alive at the end, for every k after the warm-up.

use std::collections::{BTreeMap, BTreeSet};

use super::diff::Ledger;
use super::snapshot::{Identity, Kind, Snapshot};
use super::verdict::StepRef;

/// Cycles after the warm-up below which nothing is said: chance could fill so few.
pub const LEAST_CYCLES: u32 = 5;

/// Things of one kind that one step adds in every cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// Kind of thing.
    pub kind: Kind,
    /// The step, with the first cycle that counts.
    pub step: StepRef,
    /// What is alive of it, in order of birth.
    pub identities: Vec<Identity>,
}

/// A thing that is alive, with the cycle and the step of its birth.
type Birth<'a> = (u32, &'a StepRef, &'a Identity);

/// Judges the steps below one place of a lifecycle after so many cycles of it, the first of which
/// was the warm-up.
pub fn growth(ledger: &Ledger, place: &str, cycles: u32) -> Vec<Growth> {
    if cycles < LEAST_CYCLES + 1 {
        return Vec::new();
    }
    let below = format!("{place}.");
    let mut groups: BTreeMap<(Kind, String), Vec<Birth<'_>>> = BTreeMap::new();
    for (identity, facts, step) in ledger.alive() {
        let Some(cycle) = step.cycle else { continue };
        if cycle < 2 || !step.place.starts_with(&below) {
            continue;
        }
        // What a new process brings along is part of that process.
        let owner = identity.owner().map(Identity::Process).filter(|owner| owner != identity);
        let with_owner = owner.and_then(|owner| ledger.birth(&owner)).is_some_and(|birth| {
            birth.place.starts_with(&below) && birth.cycle.is_some_and(|cycle| cycle >= 2)
        });
        if with_owner {
            continue;
        }
        let kind = Snapshot::kind_of(identity, facts);
        groups.entry((kind, step.place.clone())).or_default().push((cycle, step, identity));
    }
    let mut found: Vec<Growth> = Vec::new();
    let mut by_kind: BTreeMap<Kind, Vec<Birth<'_>>> = BTreeMap::new();
    for ((kind, _), members) in groups {
        match filled(kind, members.clone(), cycles) {
            Some(growth) => found.push(growth),
            None => by_kind.entry(kind).or_default().extend(members),
        }
    }
    // What comes a moment after its call is seen now after one step, now after the next.
    for (kind, members) in by_kind {
        if !found.iter().any(|growth| growth.kind == kind) {
            found.extend(filled(kind, members, cycles));
        }
    }
    found
}

/// Growth, if something of these was born in every cycle after the warm-up.
fn filled(kind: Kind, mut members: Vec<Birth<'_>>, cycles: u32) -> Option<Growth> {
    let born: BTreeSet<u32> = members.iter().map(|(cycle, _, _)| *cycle).collect();
    if born.len() < (cycles - 1) as usize {
        return None;
    }
    members.sort_by_key(|(cycle, _, _)| *cycle);
    let step = members.first().map(|(_, step, _)| (*step).clone())?;
    let identities = members.into_iter().map(|(_, _, identity)| identity.clone()).collect();
    Some(Growth { kind, step, identities })
}

/// Median of the slopes between all pairs of equally spaced samples (Theil-Sen): per sample, and
/// not moved by a few that stand out. None for fewer than two samples.
pub fn slope(samples: &[f64]) -> Option<f64> {
    let mut slopes: Vec<f64> = Vec::new();
    for (left, from) in samples.iter().enumerate() {
        for (apart, to) in samples.iter().skip(left + 1).enumerate() {
            slopes.push((to - from) / (apart + 1) as f64);
        }
    }
    slopes.sort_by(f64::total_cmp);
    let middle = slopes.len() / 2;
    match slopes.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(slopes[middle]),
        _ => Some(slopes[middle - 1].midpoint(slopes[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::super::diff::tests::{pipe, process, snapshot, step};
    use super::*;

    /// Plays cycles of one step; `alive` says which inodes are open after each.
    fn played(cycles: u32, alive: impl Fn(u32) -> Vec<u64>) -> Vec<Growth> {
        let mut ledger = Ledger::default();
        for cycle in 1..=cycles {
            let fds = alive(cycle).into_iter().map(|inode| pipe(1, inode as i32, inode));
            ledger.record(&step("3.1", Some(cycle)), snapshot(fds));
        }
        growth(&ledger, "3", cycles)
    }

    #[test]
    fn one_more_every_cycle_is_growth_and_its_birth_is_the_first_after_warm_up() {
        let found = played(10, |cycle| (1..=u64::from(cycle)).collect());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].kind, Kind::Fd);
        assert_eq!(found[0].step, step("3.1", Some(2)));
        assert_eq!(found[0].identities.len(), 9);
    }

    #[test]
    fn closing_an_old_one_for_each_leaked_one_is_growth() {
        // A pool of 64 loses one and a leak of one more takes its place: the count never moves.
        let found = played(10, |cycle| {
            let cycle = u64::from(cycle);
            (100 + cycle..164).chain(1000..1000 + cycle).collect()
        });
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].identities.len(), 9);
    }

    #[test]
    fn log_rotation_is_not_growth() {
        assert_eq!(played(10, |cycle| vec![u64::from(cycle)]), []);
    }

    #[test]
    fn a_pool_that_fills_up_is_not_growth() {
        assert_eq!(played(20, |cycle| (1..=u64::from(cycle.min(8))).collect()), []);
    }

    #[test]
    fn descriptors_of_a_new_process_are_part_of_that_process() {
        let mut ledger = Ledger::default();
        for cycle in 1..=10 {
            let things = (1..=cycle as i32).flat_map(|n| [process(n, 0), pipe(n, 0, 7)]);
            ledger.record(&step("3.1", Some(cycle)), snapshot(things));
        }
        let kinds: Vec<Kind> = growth(&ledger, "3", 10).iter().map(|found| found.kind).collect();
        assert_eq!(kinds, [Kind::Process]);
    }

    #[test]
    fn the_slope_is_not_moved_by_one_that_stands_out() {
        assert_eq!(slope(&[10.0, 12.0, 14.0, 900.0, 18.0, 20.0]), Some(2.0));
        assert_eq!(slope(&[7.0, 7.0, 7.0]), Some(0.0));
        assert_eq!(slope(&[7.0]), None);
    }

    #[test]
    fn too_few_cycles_say_nothing() {
        assert_eq!(played(LEAST_CYCLES, |cycle| (1..=u64::from(cycle)).collect()), []);
    }

    #[test]
    fn what_the_warm_up_made_does_not_count() {
        assert_eq!(played(10, |_| vec![1, 2, 3]), []);
    }
}
