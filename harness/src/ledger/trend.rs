//! Growth that does not saturate, inside a process that lives on.
//!
//! Caches, pools and log rotation are a server's right: what they hold is born in the first cycles
//! and then stays the same, or is replaced. A leak is what calls add and nothing takes away. Two
//! patterns tell it from a pool that fills, and both look at what is alive at the end:
//!
//! - **Every cycle** after the warm-up brought one. A pool filled one a call does so too, until it is
//!   full; so it takes more cycles than a pool has places, see [`SURE_CYCLES`].
//! - **Every round** brought some: the cycles are cut into five rounds of equal length, and the last
//!   two brought nearly as many as the first two. That is a leak at some calls only, or one that
//!   comes some time after its call, so that it falls into another cycle or into none.
//!
//! # Why five rounds, and why the first two count
//!
//! A pool whose places are taken at random decays: of P places, a round of n calls leaves
//! q = (1 - 1/P)^n of those that were free. For P = 32 and n = 20 that is about a half, and the last
//! two of five rounds bring q^3 = 0.15 of what the first two brought; a leak brings as many, give or
//! take what is chance in a binomial. The line is drawn at 0.6, for a leak at every 15th call comes
//! once or twice a round. Of 20,000 pools played at random, none of 8, 16, 24 or 32 places came over
//! that line, of 48 two in a thousand, of 64 two in a hundred. Where only the later rounds were
//! compared, the second and third with the last two, 6 in 100 pools of 32 did: so few are born by
//! then that chance decides. Things that are born lazily in the first two rounds can hide a leak at
//! few calls, if they are of the same kind; a false alarm would be worse.
//!
//! # What many cycles find
//!
//! From 100 cycles on, five rounds are played whatever the first shows. Played at random: of 100 leaks that
//! come at one call in so many, by chance, those that are found; and of 1,000 pools of so many places that
//! are taken at random, those that are taken for a leak.
//!
//! | cycles | 1 in 5 | 10 | 20 | 50 | 100 | 200 | pool of 32 | 64 | 100 | 200 | 500 |
//! |---|---|---|---|---|---|---|---|---|---|---|---|
//! | 100 | 84 | 44 | 10 | 0 | 0 | 0 | 0 | 22 | 304 | 957 | 1000 |
//! | 200 | 95 | 79 | 41 | 4 | 0 | 0 | 0 | 0 | 0 | 217 | 1000 |
//! | 500 | 99 | 96 | 85 | 42 | 10 | 1 | 0 | 0 | 0 | 0 | 112 |
//! | 1,000 | 100 | 99 | 94 | 78 | 40 | 10 | 0 | 0 | 0 | 0 | 0 |
//! | 2,000 | 100 | 100 | 98 | 94 | 78 | 38 | 0 | 0 | 0 | 0 | 0 |
//! | 5,000 | 100 | 100 | 100 | 98 | 94 | 82 | 0 | 0 | 0 | 0 | 0 |
//!
//! So a leak at one call in k takes about 25 times k cycles, and five times k where it comes at every k-th
//! call exactly. Fewer births than that are not told from things that are made lazily, one here and one
//! there. With fewer cycles than 100, the battery goes on after the first round only if something came late
//! in it.
//!
//! Where something of the first round is not alive any more, old ones are replaced by new ones, and
//! nothing grows.

use std::collections::{BTreeMap, BTreeSet};

use super::diff::Ledger;
use super::snapshot::{Identity, Kind, Snapshot};
use super::verdict::StepRef;

/// Cycles after the warm-up below which nothing is said: chance could fill so few.
pub const LEAST_CYCLES: u32 = 5;
/// Cycles after the warm-up, each of which brought one, that no pool is taken to have places for.
pub const SURE_CYCLES: u32 = 40;
/// Rounds that tell growth in every round from a pool that fills.
pub const ROUNDS: u32 = 5;
/// Fewest cycles in such a round.
pub const ROUND_CYCLES: u32 = 20;

/// What the last two rounds bring at least for each one that the first two brought.
const STEADY: f64 = 0.6;

/// The cycles of a repeat, in rounds. The first cycle is the warm-up and in none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounds {
    /// Cycles in a round.
    pub length: u32,
    /// Cycles played, the warm-up not counted.
    pub cycles: u32,
}

impl Rounds {
    /// How long rounds are where so many cycles are played and no more: all in one, if they are too
    /// few for [`ROUNDS`].
    pub fn length_of(cycles: u32) -> u32 {
        if cycles >= ROUNDS * ROUND_CYCLES { cycles / ROUNDS } else { cycles.max(ROUND_CYCLES) }
    }

    /// Rounds that are played to their end.
    pub fn complete(self) -> u32 {
        self.cycles / self.length
    }

    /// The round of a cycle, from 0; none for the warm-up.
    pub fn of(self, cycle: u32) -> Option<usize> {
        cycle.checked_sub(2).map(|judged| (judged / self.length) as usize)
    }

    /// The cycle from which on births in the first round, whole or not, are late for what a server
    /// makes once and keeps: after its first quarter.
    fn late_in_first(self) -> u32 {
        2 + self.cycles.min(self.length) / 4
    }
}

/// In which way things grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// Every cycle brought one.
    EveryCycle,
    /// Every round brought some: how many, by round.
    EveryRound(Vec<usize>),
}

/// Things of one kind that grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// Kind of thing.
    pub kind: Kind,
    /// The step, with the first cycle that counts.
    pub step: StepRef,
    /// What is alive of it, in order of birth.
    pub identities: Vec<Identity>,
    /// In which way it grows.
    pub pattern: Pattern,
    /// How many of them came after the last answer of a round, while nothing was asked.
    pub late: usize,
}

impl Growth {
    /// Whether no pool is likely to fill in this way. Every cycle must have brought one over `sure`
    /// cycles, or every round over all rounds.
    pub fn is_sure(&self, rounds: Rounds, sure: u32) -> bool {
        match &self.pattern {
            Pattern::EveryCycle => rounds.cycles >= sure,
            Pattern::EveryRound(born) => born.len() >= ROUNDS as usize,
        }
    }
}

/// A thing that is alive, with the cycle and the step of its birth.
type Birth<'a> = (u32, &'a StepRef, &'a Identity);

/// How things of one kind are looked at for a pattern.
type Way = fn(Kind, &[Birth<'_>], Rounds) -> Option<Growth>;

/// What grows at the steps below one place of a lifecycle, or after them, at the place itself. Not
/// all of it is sure yet, see [`Growth::is_sure`].
pub fn growth(ledger: &Ledger, place: &str, rounds: Rounds) -> Vec<Growth> {
    if rounds.cycles < LEAST_CYCLES {
        return Vec::new();
    }
    let mut by_step: BTreeMap<(Kind, &str), Vec<Birth<'_>>> = BTreeMap::new();
    let mut by_kind: BTreeMap<Kind, Vec<Birth<'_>>> = BTreeMap::new();
    for (kind, birth) in births(ledger, place) {
        by_step.entry((kind, &birth.1.place)).or_default().push(birth);
        by_kind.entry(kind).or_default().push(birth);
    }
    let mut found = Vec::new();
    for (kind, all) in by_kind {
        let steps = || by_step.iter().filter(move |((of, _), _)| *of == kind).map(|(_, some)| some);
        // What comes a moment after its call is seen now after one step, now after the next, now
        // after all of them: where no step explains a kind by itself, or some come late anyway, all
        // do together.
        let late = all.iter().any(|(_, step, _)| step.place == place);
        for way in [every_cycle as Way, every_round] {
            let by_step = || steps().filter_map(|some| way(kind, some, rounds)).collect();
            let together = || way(kind, &all, rounds).into_iter().collect();
            let [first, second]: [&dyn Fn() -> Vec<Growth>; 2] =
                if late { [&together, &by_step] } else { [&by_step, &together] };
            let mut grown = first();
            if grown.is_empty() {
                grown = second();
            }
            if !grown.is_empty() {
                found.extend(grown);
                break;
            }
        }
    }
    for growth in &mut found {
        growth.late = late(ledger, &growth.identities, place);
    }
    found
}

/// Whether another round is worth its time: something came after the first quarter of the first, or
/// in every round so far. Where nothing did, what grew has stopped.
pub fn may_grow(ledger: &Ledger, place: &str, rounds: Rounds, kinds: &BTreeSet<Kind>) -> bool {
    let mut seen: BTreeMap<Kind, BTreeSet<usize>> = BTreeMap::new();
    for (kind, (cycle, ..)) in births(ledger, place).filter(|(kind, _)| kinds.contains(kind)) {
        if rounds.complete() <= 1 && cycle >= rounds.late_in_first() {
            return true;
        }
        seen.entry(kind).or_default().extend(rounds.of(cycle));
    }
    let whole = rounds.complete() as usize;
    whole > 1 && seen.values().any(|rounds| (0..whole).all(|round| rounds.contains(&round)))
}

/// What is alive and was born after the warm-up, at the steps below a place or after them.
fn births<'a>(
    ledger: &'a Ledger,
    place: &'a str,
) -> impl Iterator<Item = (Kind, Birth<'a>)> + use<'a> {
    let here = move |step: &StepRef| {
        let below = step.place.strip_prefix(place)?;
        (below.is_empty() || below.starts_with('.')).then_some(())?;
        step.cycle.filter(|cycle| *cycle >= 2)
    };
    ledger.alive().filter_map(move |(identity, facts, step)| {
        let cycle = here(step)?;
        // What a new process brings along is part of that process.
        let owner = identity.owner().map(Identity::Process).filter(|owner| owner != identity);
        if owner.and_then(|owner| here(ledger.birth(&owner)?)).is_some() {
            return None;
        }
        Some((Snapshot::kind_of(identity, facts), (cycle, step, identity)))
    })
}

/// Growth, if one of these was born in every cycle.
fn every_cycle(kind: Kind, members: &[Birth<'_>], rounds: Rounds) -> Option<Growth> {
    let born: BTreeSet<u32> = members.iter().map(|(cycle, ..)| *cycle).collect();
    (born.len() >= rounds.cycles as usize).then(|| of(kind, members, Pattern::EveryCycle))
}

/// Growth, if some of these were born in every round, and not much fewer in the last ones. Three
/// rounds are the fewest that can tell.
fn every_round(kind: Kind, members: &[Birth<'_>], rounds: Rounds) -> Option<Growth> {
    let mut born = vec![0; rounds.complete() as usize];
    for round in members.iter().filter_map(|(cycle, ..)| rounds.of(*cycle)) {
        // A last round that is not whole does not count.
        if let Some(born) = born.get_mut(round) {
            *born += 1;
        }
    }
    let half = born.len() / 2;
    let first: usize = born.iter().take(half).sum();
    let last: usize = born.iter().rev().take(half).sum();
    let steady = born.len() >= 3 && !born.contains(&0) && last as f64 >= STEADY * first as f64;
    steady.then(|| of(kind, members, Pattern::EveryRound(born)))
}

fn of(kind: Kind, members: &[Birth<'_>], pattern: Pattern) -> Growth {
    let mut members = members.to_vec();
    members.sort_by_key(|(cycle, ..)| *cycle);
    let step = members[0].1.clone();
    let identities = members.into_iter().map(|(.., identity)| identity.clone()).collect();
    Growth { kind, step, identities, pattern, late: 0 }
}

fn late(ledger: &Ledger, identities: &[Identity], place: &str) -> usize {
    let births = identities.iter().filter_map(|identity| ledger.birth(identity));
    births.filter(|step| step.place == place).count()
}

#[cfg(test)]
mod tests {
    use super::super::chance::Chance;
    use super::super::diff::tests::{pipe, process, snapshot, step};
    use super::*;

    /// Cycles of a repeat at place 3, on a server that holds descriptors by their inodes.
    struct Server {
        ledger: Ledger,
        cycles: u32,
    }

    impl Server {
        fn new() -> Self {
            Self { ledger: Ledger::default(), cycles: 0 }
        }

        fn sees(&mut self, step: &StepRef, open: &BTreeSet<u64>) {
            let fds = open.iter().map(|inode| pipe(1, *inode as i32, *inode));
            self.ledger.record(step, snapshot(fds));
        }

        fn rounds(&self, length: u32) -> Rounds {
            Rounds { length, cycles: self.cycles.saturating_sub(1) }
        }
    }

    /// Plays so many cycles of one step, each with an effect on what is open, as a scenario does.
    fn exact(cycles: u32, mut call: impl FnMut(u32, &mut BTreeSet<u64>)) -> Vec<Growth> {
        let mut server = Server::new();
        let mut open = BTreeSet::new();
        for cycle in 1..=cycles {
            call(cycle, &mut open);
            server.cycles = cycle;
            server.sees(&step("3.1", Some(cycle)), &open);
        }
        let rounds = server.rounds(Rounds::length_of(cycles - 1));
        growth(&server.ledger, "3", rounds)
    }

    /// What the battery came to say, and after how many cycles.
    type Outcome = (Option<Growth>, u32);

    /// Plays round after round as long as it is worth it, as the battery does. What is open after
    /// `late` came while nothing was asked.
    fn adaptive(
        mut call: impl FnMut(u32, &mut BTreeSet<u64>),
        mut late: impl FnMut(u32, &mut BTreeSet<u64>),
    ) -> Outcome {
        let kinds = [Kind::Fd].into();
        let mut server = Server::new();
        let mut open = BTreeSet::new();
        loop {
            let target = server.cycles.max(1) + ROUND_CYCLES;
            while server.cycles < target {
                server.cycles += 1;
                call(server.cycles, &mut open);
                server.sees(&step("3.1", Some(server.cycles)), &open);
            }
            late(server.cycles, &mut open);
            server.sees(&step("3", Some(server.cycles)), &open);
            let rounds = server.rounds(ROUND_CYCLES);
            let mut found = growth(&server.ledger, "3", rounds);
            found.retain(|growth| growth.is_sure(rounds, SURE_CYCLES));
            assert!(found.len() <= 1, "{found:?}");
            let done = rounds.complete() == ROUNDS;
            if done || !found.is_empty() || !may_grow(&server.ledger, "3", rounds, &kinds) {
                return (found.pop(), rounds.cycles);
            }
        }
    }

    fn calls(call: impl FnMut(u32, &mut BTreeSet<u64>)) -> Outcome {
        adaptive(call, |_, _| {})
    }

    /// A leak at calls for which this says so.
    fn leaks(at: impl Fn(u32) -> bool) -> impl FnMut(u32, &mut BTreeSet<u64>) {
        move |cycle, open| {
            if at(cycle) {
                open.insert(1_000 + u64::from(cycle));
            }
        }
    }

    #[test]
    fn one_more_every_cycle_is_growth_and_its_birth_is_the_first_after_warm_up() {
        let found = exact(10, leaks(|_| true));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].kind, Kind::Fd);
        assert_eq!(found[0].step, step("3.1", Some(2)));
        assert_eq!((found[0].identities.len(), found[0].late), (9, 0));
        assert_eq!(found[0].pattern, Pattern::EveryCycle);
    }

    #[test]
    fn a_leak_at_every_call_is_sure_after_two_rounds() {
        let (found, cycles) = calls(leaks(|_| true));
        assert_eq!(found.map(|growth| growth.pattern), Some(Pattern::EveryCycle));
        assert_eq!(cycles, 40);
    }

    #[test]
    fn a_leak_at_some_calls_is_sure_after_five_rounds() {
        for nth in 2..=20 {
            let (found, cycles) = calls(leaks(|cycle| cycle % nth == 0));
            let found = found.unwrap_or_else(|| panic!("every {nth}th call"));
            let all = found.identities.len() as u32;
            assert_eq!((all, cycles), (101 / nth, 100), "{:?}", found.pattern);
            assert!(matches!(found.pattern, Pattern::EveryRound(born) if born.len() == 5));
        }
        assert_eq!(exact(101, leaks(|cycle| cycle % 10 == 0)).len(), 1);
        assert_eq!(exact(100, leaks(|cycle| cycle % 10 == 0)), []);
    }

    #[test]
    fn a_leak_by_chance_is_mostly_found() {
        let mut chance = Chance(1);
        let found = (0..100).filter(|_| {
            let (found, _) = calls(|cycle, open| {
                if chance.below(3) == 0 {
                    open.insert(1_000 + u64::from(cycle));
                }
            });
            found.is_some()
        });
        let found = found.count();
        assert!(found >= 85, "{found} of 100");
    }

    /// As the table above has it.
    #[test]
    fn many_cycles_find_a_rare_leak_and_spare_a_large_pool() {
        let mut chance = Chance(3);
        let found = (0..20).filter(|_| {
            let found = exact(501, |cycle, open| {
                if chance.below(20) == 0 {
                    open.insert(1_000 + u64::from(cycle));
                }
            });
            !found.is_empty()
        });
        let found = found.count();
        assert!(found >= 14, "{found} of 20");
        for _ in 0..3 {
            let found = exact(501, |_, open| {
                open.insert(chance.below(100));
            });
            assert_eq!(found, []);
        }
    }

    #[test]
    fn what_comes_after_the_answers_is_growth() {
        // Each descriptor is opened after all calls of its round.
        let mut due = Vec::new();
        let due = std::cell::RefCell::new(&mut due);
        let (found, cycles) = adaptive(
            |cycle, _| due.borrow_mut().push(1_000 + u64::from(cycle)),
            |_, open| open.extend(due.borrow_mut().drain(..)),
        );
        let found = found.expect("five rounds of twenty");
        assert_eq!((found.identities.len(), found.late, cycles), (101, 101, 100));
        assert_eq!(found.step, step("3", Some(21)));
        assert_eq!(found.pattern, Pattern::EveryRound(vec![21, 20, 20, 20, 20]));
    }

    #[test]
    fn what_comes_some_cycles_later_is_growth() {
        let (found, _) = calls(|cycle, open| {
            if cycle > 7 {
                open.insert(1_000 + u64::from(cycle));
            }
        });
        assert_eq!(
            found.map(|growth| growth.pattern),
            Some(Pattern::EveryRound(vec![14, 20, 20, 20, 20]))
        );
    }

    #[test]
    fn births_that_are_seen_after_one_step_or_another_are_one_growth() {
        let mut server = Server::new();
        let mut open = BTreeSet::new();
        for cycle in 1..=41 {
            open.insert(1_000 + u64::from(cycle));
            let seen = step(if cycle % 3 == 0 { "3.2" } else { "3.1" }, Some(cycle));
            server.sees(&seen, &open);
        }
        server.cycles = 41;
        let found = growth(&server.ledger, "3", server.rounds(ROUND_CYCLES));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].pattern, Pattern::EveryCycle);
        assert_eq!(found[0].identities.len(), 40);
    }

    #[test]
    fn closing_an_old_one_for_each_leaked_one_is_growth() {
        // A pool of 64 loses one and a leak of one more takes its place: the count never moves.
        let found = exact(10, |cycle, open| {
            if cycle == 1 {
                open.extend(101..164);
            }
            open.remove(&(100 + u64::from(cycle)));
            open.insert(1_000 + u64::from(cycle));
        });
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].identities.len(), 9);
    }

    #[test]
    fn rotation_is_not_growth() {
        for (kept, every) in [(1, 1), (8, 1), (19, 1), (20, 1), (32, 1), (39, 1), (32, 2), (8, 10)]
        {
            let outcome = calls(|cycle, open| {
                if cycle % every == 0 {
                    open.insert(u64::from(cycle));
                    open.retain(|file| *file + kept * u64::from(every) > u64::from(cycle));
                }
            });
            let pattern = outcome.0.map(|growth| growth.pattern);
            assert_eq!(pattern, None, "{kept} are kept, one more at every {every}. call");
        }
        assert_eq!(exact(10, |cycle, open| *open = [u64::from(cycle)].into()), []);
    }

    #[test]
    fn a_pool_that_fills_one_a_call_is_not_growth() {
        for places in [1, 8, 19, 20, 32, 40] {
            let fills = |cycle: u32, open: &mut BTreeSet<u64>| {
                open.insert(u64::from(cycle.min(places)));
            };
            assert_eq!(calls(fills).0, None, "{places} places");
            assert_eq!(exact(places + 1 + LEAST_CYCLES, fills), [], "{places} places");
        }
    }

    #[test]
    fn a_pool_that_fills_at_random_is_not_growth() {
        let mut chance = Chance(7);
        for places in [4, 8, 16, 24, 32] {
            for _ in 0..50 {
                let seed = chance.below(u64::MAX);
                let mut chance = Chance(seed);
                let (found, _) = calls(|_, open| {
                    open.insert(chance.below(places));
                });
                assert_eq!(found, None, "{places} places, seed {seed}");
            }
        }
    }

    #[test]
    fn a_pool_that_is_full_early_takes_one_round() {
        assert_eq!(calls(|cycle, open| open.extend([u64::from(cycle.min(6))])).1, 20);
        assert_eq!(calls(|_, open| open.extend([1, 2, 3])).1, 20);
    }

    #[test]
    fn growth_that_is_cut_short_is_not_sure() {
        let rounds = |cycles| Rounds { length: 20, cycles };
        let every_cycle = exact(20, leaks(|_| true)).remove(0);
        assert!(!every_cycle.is_sure(rounds(19), SURE_CYCLES));
        assert!(every_cycle.is_sure(rounds(19), LEAST_CYCLES));
        let four = Growth { pattern: Pattern::EveryRound(vec![2, 2, 2, 2]), ..every_cycle };
        assert!(!four.is_sure(rounds(80), LEAST_CYCLES));
    }

    #[test]
    fn descriptors_of_a_new_process_are_part_of_that_process() {
        let mut ledger = Ledger::default();
        for cycle in 1..=10 {
            let things = (1..=cycle as i32).flat_map(|n| [process(n, 0), pipe(n, 0, 7)]);
            ledger.record(&step("3.1", Some(cycle)), snapshot(things));
        }
        let found = growth(&ledger, "3", Rounds { length: 20, cycles: 9 });
        let kinds: Vec<Kind> = found.iter().map(|found| found.kind).collect();
        assert_eq!(kinds, [Kind::Process]);
    }

    #[test]
    fn other_places_are_not_looked_at() {
        let mut ledger = Ledger::default();
        for cycle in 1..=10 {
            let fds = (1..=cycle).map(|inode| pipe(1, inode as i32, u64::from(inode)));
            ledger.record(&step("31.1", Some(cycle)), snapshot(fds));
        }
        assert_eq!(growth(&ledger, "3", Rounds { length: 20, cycles: 9 }), []);
    }

    #[test]
    fn too_few_cycles_say_nothing() {
        assert_eq!(exact(LEAST_CYCLES, leaks(|_| true)), []);
    }

    #[test]
    fn what_the_warm_up_made_does_not_count() {
        assert_eq!(exact(10, |_, open| open.extend([1, 2, 3])), []);
    }
}
