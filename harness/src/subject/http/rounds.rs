//! The same again and again, in one life of the server: how many cycles are played, and what grows with
//! them.
//!
//! What cycles add whose sessions were ended well is a leak. What they add whose clients only hung up
//! is one once the sessions' time is over, and where nobody said how long that is, it is told.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Play;
use super::books::Fate;
use crate::ledger::diff::Ledger;
use crate::ledger::rise;
use crate::ledger::snapshot::{Identity, Kind, ProcessId, Snapshot};
use crate::ledger::trend::{self, Growth, Pattern, ROUNDS, Rounds, SURE_CYCLES};
use crate::ledger::verdict::{Class, Culprit, Failure, StepRef};
use crate::lifecycle::step::Step;
use crate::probe::memory;
use crate::settle::settle;
use crate::subject::finding;
use crate::subject::memory::{self as subject_memory, Weights};
use crate::subject::server::{FIRM_LOOK, LOOK};

/// After a round nothing must come for so long.
const QUIET: Duration = Duration::from_millis(200);
/// Longest time that is waited for that.
const LINGER: Duration = Duration::from_secs(2);
/// Longest time for all rounds after the first.
const MORE_ROUNDS: Duration = Duration::from_secs(30);
/// So many processes more than at the start are enough to see that they pile up.
const MOST_PROCESSES: usize = 48;
/// Fewer cycles than this, where more were wanted, make of growth no more than an advisory.
const CUT_SHORT: u32 = 16;
/// Cycles from which on a process in each is no pool.
const SURE_OF_PROCESSES: u32 = 20;

/// Whether each of many cycles brought a process: a pool of processes has fewer places.
fn is_many_processes(growth: &Growth, rounds: Rounds) -> bool {
    growth.kind == Kind::Process
        && growth.pattern == Pattern::EveryCycle
        && rounds.cycles >= SURE_OF_PROCESSES
}

/// Why no further cycle was played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// All that were wanted were.
    Whole,
    /// The time was up.
    Late,
    /// The server has got so many processes that more would be a danger to the host.
    Crowded,
}

/// A repeat that was played.
#[derive(Clone, Copy)]
struct Judged<'a> {
    at: &'a StepRef,
    rounds: Rounds,
    /// Cycles from which on growth is sure.
    sure: u32,
    stopped: Stopped,
    /// A request of each cycle that was not waited for, so that the next came beside it.
    unawaited: Option<&'a StepRef>,
}

/// What grew, each with the rounds by which it did. Unless all cycles were played, what is not sure is
/// told too.
///
/// Where there were too many processes for further cycles, those that were played are five rounds for
/// processes: one request after the other fills no pool with so many.
fn what_grew(ledger: &Ledger, played: &Judged<'_>) -> Vec<(Growth, Rounds)> {
    let Judged { at, rounds, sure, stopped, .. } = *played;
    let grown = |rounds: Rounds| {
        let found = trend::growth(ledger, &at.place, rounds).into_iter();
        found.map(move |growth| (growth, rounds))
    };
    let is_sure = |(growth, rounds): &(Growth, Rounds)| growth.is_sure(*rounds, sure);
    let mut found: Vec<_> = grown(rounds).collect();
    found.retain(|one| stopped != Stopped::Whole || is_sure(one));
    let is_process = |(growth, _): &(Growth, Rounds)| growth.kind == Kind::Process;
    if stopped == Stopped::Crowded && !found.iter().any(|one| is_process(one) && is_sure(one)) {
        let short = Rounds { length: (rounds.cycles / ROUNDS).max(1), ..rounds };
        let sure: Vec<_> = grown(short).filter(|one| is_process(one) && is_sure(one)).collect();
        if !sure.is_empty() {
            found.retain(|one| !is_process(one));
            found.extend(sure);
        }
    }
    found
}

impl Play<'_> {
    /// Plays a repeat, and judges what grew with it.
    pub(super) fn repeat(
        &mut self,
        times: u32,
        steps: &[Step],
        within: Option<Duration>,
        at: &StepRef,
    ) -> Result<(), Box<Failure>> {
        let length = Rounds::length_of(times.saturating_sub(1));
        let mut cycle = 0;
        let mut weights = Weights::default();
        let deadline = within.map(|within| Instant::now() + within);
        let mut stopped = self.cycles(&mut cycle, times, steps, deadline, at, &mut weights)?;
        if stopped == Stopped::Late {
            self.note(format!("{at}: stopped after {cycle} of {times} cycles by its time limit"));
        }
        let rounds = |cycle: u32| Rounds { length, cycles: cycle.saturating_sub(1) };
        let adaptive = self.order.for_any_server && times.saturating_sub(1) <= length;
        let deadline = Instant::now() + MORE_ROUNDS;
        while adaptive && stopped != Stopped::Crowded && Instant::now() < deadline {
            self.linger(cycle, at);
            let now = rounds(cycle);
            if self.http.session_ttl_ms.is_none() && self.abandoned_in(&at.place) > 0 {
                // More cycles would make nothing of it that is due.
                break;
            }
            if !self.tells_more(at, now, &weights) {
                break;
            }
            let end_of_round = 1 + (now.complete() + 1) * length;
            let more = Some(deadline);
            stopped = self.cycles(&mut cycle, end_of_round, steps, more, at, &mut weights)?;
        }
        let rounds = rounds(cycle);
        self.played.cycles = self.played.cycles.max(rounds.cycles);
        let sure = match stopped {
            _ if self.order.for_any_server => SURE_CYCLES,
            Stopped::Whole => trend::LEAST_CYCLES,
            Stopped::Late | Stopped::Crowded => CUT_SHORT,
        };
        let unawaited = finding::unawaited(at, steps);
        let unawaited = unawaited.as_ref();
        self.judge_growth(&Judged { at, rounds, sure, stopped, unawaited }, &weights);
        Ok(())
    }

    /// Plays cycles up to this one, if it can.
    fn cycles(
        &mut self,
        cycle: &mut u32,
        until: u32,
        steps: &[Step],
        deadline: Option<Instant>,
        at: &StepRef,
        weights: &mut Weights,
    ) -> Result<Stopped, Box<Failure>> {
        let above = format!("{}.", at.place);
        while *cycle < until {
            // As many as growth needs are played whatever the time; the case has its own bound.
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if late && *cycle > trend::LEAST_CYCLES {
                return Ok(Stopped::Late);
            }
            if self.order.for_any_server && self.alive().len() > self.tree + MOST_PROCESSES {
                self.note(format!(
                    "{at}: stopped after {cycle} cycles, when the server had {MOST_PROCESSES} processes \
                     more than at its start"
                ));
                return Ok(Stopped::Crowded);
            }
            *cycle += 1;
            self.play_all(steps, &above, Some(*cycle))?;
            if *cycle > 1 {
                let weight = self.server().and_then(|server| memory::of(server.pid));
                weights.0.extend(weight.map(|memory| (*cycle, memory)));
            }
        }
        Ok(Stopped::Whole)
    }

    /// The process that serves.
    pub(super) fn server(&self) -> Option<ProcessId> {
        let life = self.life.as_ref()?;
        life.roles.server.or(life.roles.root)
    }

    /// Waits until nothing comes any more. What does belongs to the round that is over.
    fn linger(&mut self, cycle: u32, at: &StepRef) {
        let after = StepRef { cycle: Some(cycle), ..at.clone() };
        let deadline = Instant::now() + LINGER;
        while Instant::now() < deadline {
            std::thread::sleep(QUIET);
            if self.look(&after, LOOK).born.is_empty() {
                return;
            }
        }
    }

    /// Kinds that are judged by growth.
    fn growing_kinds(&self) -> BTreeSet<Kind> {
        let kinds = [Kind::Process, Kind::Zombie, Kind::Fd, Kind::Thread, Kind::File];
        kinds.into_iter().filter(|kind| self.order.kinds.contains(kind)).collect()
    }

    /// Whether nothing is clear yet and another round can make it so.
    fn tells_more(&self, at: &StepRef, rounds: Rounds, weights: &Weights) -> bool {
        let judged = self.growing_kinds();
        let mut found = trend::growth(&self.ledger, &at.place, rounds).into_iter();
        let clear = found
            .any(|growth| judged.contains(&growth.kind) && growth.is_sure(rounds, SURE_CYCLES));
        !clear
            && rounds.complete() < ROUNDS
            && (trend::may_grow(&self.ledger, &at.place, rounds, &judged)
                || self.may_rise(rounds, weights))
    }

    fn may_rise(&self, rounds: Rounds, weights: &Weights) -> bool {
        let server = self.server().filter(|_| self.order.kinds.contains(&Kind::Memory));
        server.is_some_and(|server| {
            rise::may_rise(&weights.samples(), rounds, subject_memory::heap(server))
        })
    }

    /// What grew, given time to go away: what is due after a session, and the session's own time.
    fn judge_growth(&mut self, played: &Judged<'_>, weights: &Weights) {
        let Judged { at, sure, unawaited, .. } = *played;
        let abandoned = self.abandoned_in(&at.place);
        if abandoned > 0 {
            self.wait_for_session_ttl();
        }
        let patience = self.patience();
        let kinds = self.growing_kinds();
        // What nobody said is due is not waited for.
        let untimed = abandoned > 0 && self.http.session_ttl_ms.is_none();
        let bound = if untimed { LINGER.min(patience) } else { patience };
        let mut found = Vec::new();
        settle(Instant::now() + bound, || {
            self.look(at, FIRM_LOOK);
            found = what_grew(&self.ledger, played);
            found.retain(|(growth, _)| kinds.contains(&growth.kind));
            found.is_empty()
        });
        if !self.ledger.last().stable {
            self.played
                .unreadable
                .insert("no two scans in a row agreed, so growth could not be judged".into());
            return;
        }
        if abandoned > 0 {
            self.tell_what_abandoned_hold(at, abandoned, weights);
        } else if let Some(server) = self.server()
            && self.order.kinds.contains(&Kind::Memory)
        {
            let judged = subject_memory::judge(weights, at, Culprit::Server, server);
            self.played.findings.extend(judged.finding);
            self.played.figures.extend(judged.figures);
        }
        let roles = self.life.as_ref().map(|life| life.roles.clone()).unwrap_or_default();
        for (growth, rounds) in found {
            let mut one = finding::of_growth(&growth, at, rounds, bound, &self.ledger, &roles);
            one.evidence.extend(unawaited.and_then(|request| finding::beside(request, &one)));
            if untimed {
                one.class = Class::Advisory;
                one.evidence.push(
                    "advisory: its sessions were abandoned, and may live on; say for how long, such as \
                     --session-ttl 5m"
                        .to_owned(),
                );
            } else if unawaited.is_some() && growth.kind == Kind::Thread {
                one.class = Class::Advisory;
                one.evidence.push(
                    "advisory: requests overlapped, for which a pool of threads may grow and keep them \
                     for a while"
                        .to_owned(),
                );
            } else if !growth.is_sure(rounds, sure) && !is_many_processes(&growth, rounds) {
                one.class = Class::Advisory;
                one.evidence.push(format!(
                    "advisory: the time limit left {} cycles, in which a pool may still fill",
                    rounds.cycles
                ));
            }
            self.blamed.extend(growth.identities.iter().cloned());
            self.played.findings.push(one);
        }
    }

    /// Sessions whose clients went without a word, in the cycles of the step at this place that count.
    fn abandoned_in(&self, place: &str) -> usize {
        let here = |step: &StepRef| {
            let below = step.place.strip_prefix(place).is_some_and(|rest| rest.starts_with('.'));
            below && step.cycle.is_some_and(|cycle| cycle >= 2)
        };
        self.sessions
            .iter()
            .filter(|one| matches!(&one.fate, Fate::Abandoned(step, _) if here(step)))
            .count()
    }

    /// Figures of what each abandoned session holds, and the same in words.
    fn tell_what_abandoned_hold(&mut self, at: &StepRef, abandoned: usize, weights: &Weights) {
        let here = |step: &StepRef| {
            step.place.strip_prefix(&at.place).is_some_and(|rest| rest.starts_with('.'))
                && step.cycle.is_some_and(|cycle| cycle >= 2)
        };
        let count = |kind: Kind| {
            let things = self.ledger.alive().filter(|(identity, facts, step)| {
                let of_new_process = identity
                    .owner()
                    .map(Identity::Process)
                    .filter(|owner| owner != *identity)
                    .and_then(|owner| self.ledger.birth(&owner).cloned())
                    .is_some_and(|step| here(&step));
                Snapshot::kind_of(identity, facts) == kind && here(step) && !of_new_process
            });
            things.count() as f64 / abandoned as f64
        };
        let mut figures: Vec<(&str, f64)> = vec![
            ("fds", count(Kind::Fd)),
            ("threads", count(Kind::Thread)),
            ("children", count(Kind::Process) + count(Kind::Zombie)),
        ];
        let samples = weights.samples();
        let per_cycle = abandoned as f64 / samples.len().max(1) as f64;
        figures.extend(rise::slope(&samples).map(|slope| ("kib", (slope / per_cycle).max(0.0))));
        let mut words = Vec::new();
        for (name, value) in figures {
            let value = (value * 10.0).round() / 10.0;
            self.played.figures.insert(format!("abandoned_session_{name}"), value);
            words.push(match name {
                "kib" => format!("{value} KiB"),
                name => format!("{value} {name}"),
            });
        }
        self.note(format!("each abandoned session holds {}", words.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::diff::tests::{process, snapshot, step};

    /// Cycles, each of which leaves a process behind or none.
    fn played(
        cycles: u32,
        stopped: Stopped,
        leaves: impl Fn(u32) -> bool,
    ) -> Vec<(Growth, Rounds)> {
        let at = step("3", None);
        let mut ledger = Ledger::default();
        let mut alive = vec![process(1, 0)];
        for cycle in 1..=cycles {
            if leaves(cycle) {
                alive.push(process(100 + cycle.cast_signed(), 1));
            }
            ledger.record(&step("3.1", Some(cycle)), snapshot(alive.clone()));
        }
        let rounds = Rounds { length: 20, cycles: cycles - 1 };
        what_grew(&ledger, &Judged { at: &at, rounds, sure: SURE_CYCLES, stopped, unawaited: None })
    }

    #[test]
    fn processes_too_many_for_more_cycles_are_growth_though_some_cycles_left_none() {
        let nine_of_ten = |cycle: u32| !cycle.is_multiple_of(10);
        let found = played(53, Stopped::Crowded, nine_of_ten);
        assert_eq!(found.len(), 1);
        let (growth, rounds) = &found[0];
        assert_eq!((growth.kind, growth.identities.len()), (Kind::Process, 47));
        assert!(growth.is_sure(*rounds, SURE_CYCLES), "{growth:?}");
        assert_eq!(played(53, Stopped::Whole, nine_of_ten), [], "two rounds are too few");
    }

    #[test]
    fn a_pool_that_is_full_is_none_whatever_stopped_the_cycles() {
        for stopped in [Stopped::Whole, Stopped::Late, Stopped::Crowded] {
            assert_eq!(played(53, stopped, |cycle| cycle <= 32), []);
        }
    }
}
