//! When something in a case was born and when it went, in milliseconds. Looks come after steps, so a bar
//! begins where the step ends after which a thing was first seen. Pure.

use std::collections::BTreeMap;

use crate::ledger::history::Lifetime;
use crate::ledger::verdict::{CaseReport, Class, StepRef};

/// One bar of a timeline.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bar {
    pub words: String,
    pub count: usize,
    pub from_ms: f64,
    /// None where it outlived its due step, or was alive at the last look.
    pub to_ms: Option<f64>,
    /// The finding that it belongs to.
    pub finding: Option<usize>,
}

/// When the steps of a case were over.
pub(super) struct Clock<'a> {
    case: &'a CaseReport,
    /// The last cycle of each repeat, by its place.
    last_cycles: BTreeMap<&'a str, u32>,
    end_ms: f64,
}

impl<'a> Clock<'a> {
    pub(super) fn of(case: &'a CaseReport) -> Self {
        let found = case.findings.iter().flat_map(|one| [&one.birth_step, &one.due_step]);
        let lives = case.lives.listed.iter();
        let seen = lives.flat_map(|life| std::iter::once(&life.born).chain(&life.gone));
        let mut last_cycles: BTreeMap<&str, u32> = BTreeMap::new();
        for step in found.chain(seen) {
            let last = last_cycles.entry(top(step)).or_insert(1 + case.cycles);
            *last = (*last).max(step.cycle.unwrap_or(0));
        }
        let ends = case.steps.iter().map(|step| step.at_ms + step.took_ms);
        Self { case, last_cycles, end_ms: ends.fold(0.0, f64::max) }
    }

    /// When the last step was over.
    pub(super) fn end_ms(&self) -> f64 {
        self.end_ms
    }

    /// When a step was over. A repeated step is spread evenly over its repeat.
    fn after(&self, step: &StepRef) -> f64 {
        if step.place == "0" {
            return 0.0;
        }
        let timing = |place: &str| self.case.steps.iter().find(|timing| timing.step.place == place);
        let top = top(step);
        match (timing(top), timing(&step.place), step.cycle) {
            (Some(whole), _, Some(cycle)) if top != step.place => {
                let of = self.last_cycles.get(top).copied().unwrap_or(cycle).max(1);
                whole.at_ms + whole.took_ms * f64::from(cycle.min(of)) / f64::from(of)
            }
            (_, Some(timing), _) | (Some(timing), None, _) => timing.at_ms + timing.took_ms,
            (None, None, _) => self.end_ms,
        }
    }

    /// Every bar: what is written down of lives, and findings that are about something else.
    pub(super) fn bars(&self) -> Vec<Bar> {
        let of_life = |life: &Lifetime| Bar {
            words: life.what.clone(),
            count: life.count,
            from_ms: self.after(&life.born),
            // What leaked went only because its cell was cleared away.
            to_ms: match (life.finding, &life.gone) {
                (None, Some(gone)) => Some(self.after(gone)),
                _ => None,
            },
            // A report that was put together by hand may say anything.
            finding: life.finding.filter(|at| *at < self.case.findings.len()),
        };
        let mut bars: Vec<Bar> = self.case.lives.listed.iter().map(of_life).collect();
        for (at, finding) in self.case.findings.iter().enumerate() {
            if !bars.iter().any(|bar| bar.finding == Some(at)) {
                bars.push(Bar {
                    words: finding.what.clone(),
                    count: finding.count,
                    from_ms: self.after(&finding.birth_step),
                    to_ms: None,
                    finding: Some(at),
                });
            }
        }
        // What leaked stands first.
        bars.sort_by_key(|bar| {
            bar.finding.map_or(2, |at| u8::from(self.case.findings[at].class != Class::Leak))
        });
        bars
    }

    /// When the end of a finding was due.
    pub(super) fn due(&self, step: &StepRef) -> f64 {
        let timing = self.case.steps.iter().find(|timing| timing.step.place == step.place);
        timing.map_or_else(|| self.after(step), |timing| timing.at_ms)
    }
}

fn top(step: &StepRef) -> &str {
    step.place.split('.').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::verdict::Verdict;
    use crate::report::samples;

    fn many_calls() -> CaseReport {
        let mut case = samples::cases().swap_remove(3);
        case.lives = samples::lives();
        case
    }

    #[test]
    fn a_bar_runs_from_the_end_of_one_step_to_the_end_of_another_and_a_leak_runs_on() {
        let case = many_calls();
        let bars = Clock::of(&case).bars();
        let told: Vec<_> = bars.iter().map(|bar| (bar.count, bar.to_ms, bar.finding)).collect();
        let end = Some(423.2 + 16.4);
        let expected = [(1, None, Some(0)), (1, None, Some(1)), (1, end, None), (18, end, None)];
        assert_eq!(told, expected);
        // The second of 20 cycles of step 3, which took 8 ms from 415.2 on.
        assert_eq!(bars[0].from_ms, 415.2 + 8.0 * 2.0 / 20.0);
        assert_eq!(bars[2].from_ms, 3.2);
    }

    #[test]
    fn a_place_that_no_step_has_is_the_end_and_before_the_first_is_the_beginning() {
        let case = samples::case("stdio/half-close", Verdict::Clean);
        let clock = Clock::of(&case);
        assert_eq!(clock.after(&samples::step("0", "before")), 0.0);
        assert_eq!(clock.after(&samples::step("9.1", "gone")), clock.end_ms());
        assert_eq!(clock.due(&samples::step("4", "half-close stdin")), 423.2);
    }
}
