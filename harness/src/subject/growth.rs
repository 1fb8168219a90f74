//! The same steps again and again: how many cycles are played, and what grows with them.
//!
//! A scenario says how many cycles it wants, and gets them; from a hundred on, which holds for the
//! battery too, they are five rounds. With fewer, the battery does not know whether they are enough.
//! It plays them as one round and lingers, for what a call leaves behind may come some time after
//! its answer. Mostly nothing that came late is alive then, and that is all. Otherwise it plays
//! another round, up to five of them, until it is clear that something grows, or that it does not:
//! see [`trend`]. Lives in a row are played as often as the lifecycle says: there is no process that
//! could have a pool from one to the next.

use std::time::{Duration, Instant};

use super::finding;
use super::memory::Weights;
use super::server::{FIRM_LOOK, LOOK, Play};
use crate::ledger::rise;
use crate::ledger::snapshot::Kind;
use crate::ledger::trend::{self, Growth, ROUNDS, Rounds, SURE_CYCLES};
use crate::ledger::verdict::{Class, Failure, StepRef};
use crate::lifecycle::step::{Action, Step};
use crate::settle::{load_per_core, settle};

/// After a round nothing must come for so long. What a call leaves behind later than that, after the
/// last answer of a round, is missed.
const QUIET: Duration = Duration::from_millis(400);
/// Longest time that is waited for that.
const LINGER: Duration = Duration::from_secs(2);
/// Longest time for all rounds after the first.
const MORE_ROUNDS: Duration = Duration::from_secs(30);
/// Fewer cycles than this, where more were wanted, make of growth no more than an advisory.
const CUT_SHORT: u32 = 16;

/// A repeat being played.
struct Repetition<'a> {
    at: &'a StepRef,
    steps: &'a [Step],
    /// Cycles played, the warm-up included.
    cycle: u32,
    /// Cycles of a round.
    length: u32,
    /// Memory of the server after each cycle but the first.
    weights: Weights,
}

/// Why no further cycle was played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// All that were wanted were.
    Whole,
    /// The time was up.
    Late,
    /// Something outlived its end: it would in every cycle, and is not waited for again.
    Leaked,
}

impl Repetition<'_> {
    fn rounds(&self) -> Rounds {
        Rounds { length: self.length, cycles: self.cycle.saturating_sub(1) }
    }

    /// The last cycle of the round that is the next one to end.
    fn end_of_round(&self) -> u32 {
        1 + (self.rounds().complete() + 1) * self.length
    }
}

fn starts_lives(steps: &[Step]) -> bool {
    steps.iter().any(|step| match &step.action {
        Action::Open => true,
        Action::Repeat { steps, .. } => starts_lives(steps),
        Action::Concurrently { branches } => branches.iter().any(|steps| starts_lives(steps)),
        _ => false,
    })
}

impl Play<'_> {
    pub(super) fn repeat(
        &mut self,
        times: u32,
        steps: &[Step],
        within: Option<Duration>,
        at: &StepRef,
    ) -> Result<(), Box<Failure>> {
        let judged = times.saturating_sub(1);
        let lives = starts_lives(steps);
        let of_battery = self.order.for_any_server && !lives;
        let length = Rounds::length_of(judged);
        let adaptive = of_battery && length >= judged;
        let weights = Weights::default();
        let mut repetition = Repetition { at, steps, cycle: 0, length, weights };
        let deadline = within.map(|within| Instant::now() + within);
        let stopped = if adaptive {
            self.adaptive(&mut repetition, times, deadline)?
        } else {
            // Memory does not come late.
            let lingers = self.order.kinds.iter().any(|kind| *kind != Kind::Memory);
            self.exact(&mut repetition, times, deadline, length < judged && !lives && lingers)?
        };
        let rounds = repetition.rounds();
        self.played.cycles = self.played.cycles.max(rounds.cycles);
        if stopped != Stopped::Leaked {
            let sure = match stopped {
                _ if of_battery => SURE_CYCLES,
                Stopped::Late => CUT_SHORT,
                _ => trend::LEAST_CYCLES,
            };
            self.judge_growth(&repetition, sure, stopped == Stopped::Late);
            self.judge_memory(at, &repetition.weights);
            if of_battery {
                self.note_bound(judged, rounds, &repetition.weights);
            }
        }
        Ok(())
    }

    /// So many cycles, and no more.
    fn exact(
        &mut self,
        repetition: &mut Repetition<'_>,
        times: u32,
        deadline: Option<Instant>,
        lingers: bool,
    ) -> Result<Stopped, Box<Failure>> {
        loop {
            let until = if lingers { repetition.end_of_round().min(times) } else { times };
            let stopped = self.cycles(repetition, until, deadline)?;
            if stopped == Stopped::Late {
                self.note_cut(repetition, times);
            }
            if lingers && stopped != Stopped::Leaked {
                self.linger(repetition);
            }
            if stopped != Stopped::Whole || repetition.cycle >= times {
                return Ok(stopped);
            }
        }
    }

    /// So many cycles, and then as many rounds as can tell more.
    fn adaptive(
        &mut self,
        repetition: &mut Repetition<'_>,
        times: u32,
        deadline: Option<Instant>,
    ) -> Result<Stopped, Box<Failure>> {
        let mut stopped = self.cycles(repetition, times, deadline)?;
        if stopped == Stopped::Late {
            self.note_cut(repetition, times);
        }
        let deadline = Instant::now() + MORE_ROUNDS;
        loop {
            if stopped == Stopped::Leaked {
                return Ok(stopped);
            }
            self.linger(repetition);
            if !self.tells_more(repetition) {
                return Ok(Stopped::Whole);
            }
            if stopped == Stopped::Late && Instant::now() >= deadline {
                return Ok(stopped);
            }
            stopped = self.cycles(repetition, repetition.end_of_round(), Some(deadline))?;
        }
    }

    fn cycles(
        &mut self,
        repetition: &mut Repetition<'_>,
        until: u32,
        deadline: Option<Instant>,
    ) -> Result<Stopped, Box<Failure>> {
        let before = self.leaks();
        let above = format!("{}.", repetition.at.place);
        while repetition.cycle < until {
            // As many as growth needs are played whatever the time; the case has its own bound.
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if late && repetition.cycle > trend::LEAST_CYCLES {
                return Ok(Stopped::Late);
            }
            repetition.cycle += 1;
            self.play_all(repetition.steps, &above, Some(repetition.cycle))?;
            if repetition.cycle > 1 {
                let memory = self.weight();
                repetition.weights.0.extend(memory.map(|memory| (repetition.cycle, memory)));
            }
            if self.leaks() > before {
                return Ok(Stopped::Leaked);
            }
        }
        Ok(Stopped::Whole)
    }

    fn leaks(&self) -> usize {
        self.played.findings.iter().filter(|finding| finding.class == Class::Leak).count()
    }

    fn note_cut(&mut self, repetition: &Repetition<'_>, times: u32) {
        let Repetition { at, cycle, .. } = repetition;
        self.played
            .notes
            .push(format!("{at}: stopped after {cycle} of {times} cycles by its time limit"));
    }

    /// Waits until nothing comes any more. What does belongs to the round that is over.
    fn linger(&mut self, repetition: &Repetition<'_>) {
        let after = StepRef { cycle: Some(repetition.cycle), ..repetition.at.clone() };
        let deadline = Instant::now() + LINGER;
        while Instant::now() < deadline {
            std::thread::sleep(QUIET);
            if self.look(&after, LOOK).born.is_empty() {
                return;
            }
        }
    }

    /// Whether nothing is clear yet and another round can make it so.
    fn tells_more(&self, repetition: &Repetition<'_>) -> bool {
        let (at, rounds) = (repetition.at, repetition.rounds());
        let judged = &self.order.kinds;
        let mut found = trend::growth(&self.ledger, &at.place, rounds).into_iter();
        let clear = found
            .any(|growth| judged.contains(&growth.kind) && growth.is_sure(rounds, SURE_CYCLES));
        let samples = || repetition.weights.samples();
        let rises = || rise::may_rise(&samples(), rounds, self.heap());
        !clear
            && rounds.complete() < ROUNDS
            && (trend::may_grow(&self.ledger, &at.place, rounds, judged) || rises())
    }

    /// What grew, given time to go away. Where time cut the cycles short, what is not sure is told
    /// all the same, as an advisory.
    fn judge_growth(&mut self, played: &Repetition<'_>, sure: u32, cut_short: bool) {
        let (at, rounds) = (played.at, played.rounds());
        if rounds.cycles < trend::LEAST_CYCLES {
            return;
        }
        let patience = self.order.patience.under_load(load_per_core());
        let judged = self.order.kinds.clone();
        let is_sure = |growth: &Growth| growth.is_sure(rounds, sure);
        let mut found = Vec::new();
        settle(Instant::now() + patience, || {
            self.look(at, FIRM_LOOK);
            found = trend::growth(&self.ledger, &at.place, rounds);
            found.retain(|growth| judged.contains(&growth.kind));
            found.retain(|growth| cut_short || is_sure(growth));
            found.is_empty()
        });
        if !self.ledger.last().stable {
            self.played
                .unreadable
                .insert("no two scans in a row agreed, so growth could not be judged".into());
            return;
        }
        let roles = self.connections.values().next().map(|connection| connection.roles.clone());
        let roles = roles.unwrap_or_default();
        let unawaited = finding::unawaited(at, played.steps);
        for growth in found {
            let mut one = finding::of_growth(&growth, at, rounds, patience, &self.ledger, &roles);
            one.evidence
                .extend(unawaited.as_ref().and_then(|request| finding::beside(request, &one)));
            if !is_sure(&growth) {
                one.class = Class::Advisory;
                one.evidence.push(format!(
                    "advisory: the time limit left {} cycles, in which a pool may still fill",
                    rounds.cycles
                ));
            }
            self.played.findings.push(one);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::step::HandshakePoint;

    #[test]
    fn lives_are_started_by_an_open_at_any_depth() {
        let open = || Step::new(Action::Open);
        let greet = || Step::new(Action::Handshake { until: HandshakePoint::Ready });
        let at_once = |steps| Step::new(Action::Concurrently { branches: vec![steps] });
        assert!(starts_lives(&[open(), greet()]));
        assert!(starts_lives(&[greet(), at_once(vec![greet(), open()])]));
        assert!(!starts_lives(&[greet(), at_once(vec![greet()])]));
    }

    #[test]
    fn a_round_ends_at_its_last_cycle() {
        let at = StepRef { place: "3".into(), name: "repeat 21".into(), cycle: None };
        let ends = |cycle| {
            Repetition { at: &at, steps: &[], cycle, length: 20, weights: Weights::default() }
                .end_of_round()
        };
        // The first cycle is the warm-up.
        assert_eq!([0, 6, 20, 21, 35, 41].map(ends), [21, 21, 21, 41, 41, 61]);
    }
}
