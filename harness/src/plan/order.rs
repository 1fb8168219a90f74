//! Which case begins first.

use std::cmp::Reverse;

use super::Case;
use crate::ledger::verdict::Verdict;
use crate::lifecycle::step::{Action, Step};

/// In which order cases begin, by their place: the longest first, so that in the end nobody is waited for
/// alone.
pub fn beginnings(cases: &[Case]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..cases.len()).collect();
    places.sort_by_key(|place| Reverse(length(&cases[*place])));
    places
}

/// How long a case may take beside others: a leak is waited for, and each step takes its time.
fn length(case: &Case) -> (bool, u64) {
    let leaks = case.expect.as_ref().is_some_and(|expect| expect.verdict == Verdict::Leak);
    (leaks, steps_of(&case.order.lifecycle.steps))
}

/// So many steps are played, with all repetitions.
fn steps_of(steps: &[Step]) -> u64 {
    let played = |step: &Step| match &step.action {
        Action::Repeat { times, steps } => u64::from(*times).saturating_mul(steps_of(steps)),
        Action::Concurrently { branches } => {
            branches.iter().map(|steps| steps_of(steps)).fold(0, u64::saturating_add)
        }
        _ => 1,
    };
    steps.iter().map(played).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;

    #[test]
    fn what_takes_longest_begins_first() {
        let life = |times, expect: &str| {
            let text = format!(
                "why = \"W.\"\nsubject = {{ fake = \"plain\" }}\n{expect}\n\
                 [[step]]\ndo = \"open\"\n\
                 [[step]]\ndo = \"repeat\"\ntimes = {times}\n\
                 [[step.step]]\ndo = \"call\"\ntool = \"echo\"\n"
            );
            let read = crate::lifecycle::scenario::parse("a.toml", &text).expect("a scenario");
            plan::scenario(&read, "run", "a.toml", &plan::tests::choices())
        };
        let clean = "expect = { verdict = \"clean\" }";
        let found = "finding = [{ kind = \"process\", culprit = \"server\" }]";
        let leak = format!("expect = {{ verdict = \"leak\", {found} }}");
        let cases = [life(2, clean), life(2, clean), life(9, clean), life(1, &leak)];
        assert_eq!(beginnings(&cases), [3, 2, 0, 1]);
    }
}
