//! From verdicts to the exit code, the contract with CI. Pure.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | clean; for scenarios, every expectation met, an expected leak included |
//! | 1 | a leak, an unmet expectation, or a lifecycle that failed |
//! | 2 | usage or scenario error: decided before there is a run |
//! | 3 | nothing or not everything judged, the subject did not start, or could not look |
//! | 4 | the run is invalid: its canary failed, or it passed without one |
//! | 130 | interrupted |
//!
//! 130 goes before 4, 4 before 1, 1 before 3. A run that judged nothing is never green, and one in
//! which nothing ever answered judged nothing, whatever the subject left behind.

pub use crate::ledger::standing::Strictness;
use crate::{
    ledger::{standing::Standing, verdict::CaseReport},
    report::event::{
        CanaryReport,
        codes::{CLEAN, INTERRUPTED, INVALID, LEAK, NOT_JUDGED},
    },
};

/// What the exit code is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The verdicts: is the subject clean?
    Verdicts,
    /// The expectations that scenario files state: is everything as written? A case that states
    /// none is taken by its verdict.
    Expectations,
}

/// All of a run that the exit code depends on.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// The judged cases.
    pub cases: &'a [CaseReport],
    /// How many were planned and not judged. What does not apply to a subject is not planned.
    pub not_judged: usize,
    /// What became of the canary; none where the run ended before it.
    pub canary: Option<&'a CanaryReport>,
    /// The user interrupted the run.
    pub interrupted: bool,
    /// What it is about.
    pub mode: Mode,
    /// What counts.
    pub strictness: Strictness,
}

/// The exit code that follows.
pub fn exit_code(outcome: &Outcome) -> u8 {
    if outcome.interrupted {
        return INTERRUPTED;
    }
    if outcome.canary.is_some_and(|canary| !canary.holds()) {
        return INVALID;
    }
    let nothing_answered = |case: &CaseReport| case.failure.as_ref().is_some_and(|f| f.not_started);
    if outcome.mode == Mode::Verdicts && outcome.cases.iter().all(nothing_answered) {
        // Whatever it left is told; but no MCP server was judged.
        return NOT_JUDGED;
    }
    let worst = outcome
        .cases
        .iter()
        .map(|case| case_code(case, outcome.mode, outcome.strictness))
        .max_by_key(|code| urgency(*code));
    match worst {
        None => NOT_JUDGED,
        Some(CLEAN) if outcome.not_judged > 0 => NOT_JUDGED,
        // Nothing proves that this run would have seen a leak.
        Some(CLEAN) if outcome.canary.is_none() => INVALID,
        Some(code) => code,
    }
}

/// The exit code of a run of several servers, from those of each; those that nobody asked to judge
/// are not among them.
pub fn of_servers(codes: impl IntoIterator<Item = u8>) -> u8 {
    codes.into_iter().max_by_key(|code| urgency(*code)).unwrap_or(NOT_JUDGED)
}

/// The exit code of a run of this case alone.
fn case_code(case: &CaseReport, mode: Mode, strictness: Strictness) -> u8 {
    match case.standing(strictness, mode == Mode::Expectations) {
        Standing::Passed => CLEAN,
        Standing::Red => LEAK,
        Standing::NotJudged => NOT_JUDGED,
        Standing::Invalid => INVALID,
    }
}

/// Which code goes before which.
fn urgency(code: u8) -> u8 {
    match code {
        CLEAN => 0,
        NOT_JUDGED => 1,
        LEAK => 2,
        INTERRUPTED => 4,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::{Mode::*, *};
    use crate::ledger::snapshot::Kind;
    use crate::ledger::verdict::{Class, Verdict};
    use crate::report::samples;

    /// One judged case, in short.
    fn case(word: &str) -> CaseReport {
        let mut case = samples::case("stdio/clean-close", Verdict::Clean);
        let advisory = |kind| {
            let mut finding = samples::process_finding();
            (finding.class, finding.kind) = (Class::Advisory, kind);
            vec![finding]
        };
        match word {
            "clean" => {}
            "leak" => {
                case.verdict = Verdict::Leak;
                case.findings = vec![samples::process_finding()];
            }
            "failed" => case.verdict = Verdict::Failed,
            "failed+leak" => {
                case.verdict = Verdict::Failed;
                case.findings = vec![samples::process_finding()];
            }
            "not-started" => {
                case.verdict = Verdict::Failed;
                case.failure = Some(samples::not_started());
            }
            "not-started+leak" => {
                case.verdict = Verdict::Leak;
                case.failure = Some(samples::not_started());
                case.findings = vec![samples::process_finding()];
            }
            "unknown" => case.verdict = Verdict::Unknown,
            "unknown+leak" => {
                case.verdict = Verdict::Unknown;
                case.findings = vec![samples::process_finding()];
            }
            "invalid" => case.verdict = Verdict::Invalid,
            "advisory" => case.findings = advisory(Kind::Fd),
            "memory" => case.findings = advisory(Kind::Memory),
            "leak-as-expected" => {
                case.verdict = Verdict::Leak;
                case.findings = vec![samples::process_finding()];
                (case.expected, case.met) = (Some(Verdict::Leak), true);
            }
            "unknown-as-expected" => {
                case.verdict = Verdict::Unknown;
                case.expected = Some(Verdict::Unknown);
            }
            "clean-but-leak-expected" => {
                (case.expected, case.met) = (Some(Verdict::Leak), false);
            }
            word => panic!("no case `{word}`"),
        }
        case
    }

    fn code(mode: Mode, words: &[&str], change: impl FnOnce(&mut Outcome)) -> u8 {
        code_with(&samples::canary(), mode, words, change)
    }

    fn code_with(
        canary: &CanaryReport,
        mode: Mode,
        words: &[&str],
        change: impl FnOnce(&mut Outcome),
    ) -> u8 {
        let cases: Vec<_> = words.iter().map(|word| case(word)).collect();
        let mut outcome = Outcome {
            cases: &cases,
            not_judged: 0,
            canary: Some(canary),
            interrupted: false,
            mode,
            strictness: Strictness::default(),
        };
        change(&mut outcome);
        exit_code(&outcome)
    }

    #[test]
    fn verdicts_decide_for_a_server() {
        let table: &[(&[&str], u8)] = &[
            (&[], 3),
            (&["clean"], 0),
            (&["clean", "clean"], 0),
            (&["clean", "leak"], 1),
            (&["failed"], 1),
            (&["failed+leak"], 1),
            (&["not-started"], 3),
            (&["clean", "not-started"], 3),
            (&["leak", "not-started"], 1),
            (&["not-started+leak"], 3),
            (&["clean", "not-started+leak"], 1),
            (&["clean", "unknown"], 3),
            (&["unknown", "leak"], 1),
            (&["unknown+leak"], 1),
            (&["clean", "advisory", "memory"], 0),
            (&["leak", "invalid", "unknown"], 4),
            (&["leak-as-expected"], 1),
        ];
        for (words, expected) in table {
            assert_eq!(code(Verdicts, words, |_| {}), *expected, "{words:?}");
        }
    }

    #[test]
    fn expectations_decide_for_scenarios() {
        let table: &[(&[&str], u8)] = &[
            (&[], 3),
            (&["leak-as-expected", "clean"], 0),
            (&["unknown-as-expected"], 0),
            (&["leak-as-expected", "clean-but-leak-expected"], 1),
            (&["leak"], 1),
            (&["invalid", "clean-but-leak-expected"], 4),
        ];
        for (words, expected) in table {
            assert_eq!(code(Expectations, words, |_| {}), *expected, "{words:?}");
        }
    }

    #[test]
    fn the_worst_of_several_servers_decides() {
        let table: &[(&[u8], u8)] = &[
            (&[], 3),
            (&[0, 0], 0),
            (&[0, 3], 3),
            (&[3, 1, 0], 1),
            (&[1, 4, 3], 4),
            (&[4, 130, 1], 130),
        ];
        for (codes, expected) in table {
            assert_eq!(of_servers(codes.iter().copied()), *expected, "{codes:?}");
        }
    }

    #[test]
    fn strict_runs_count_advisories() {
        let strict = |advisories, memory| {
            move |outcome: &mut Outcome| outcome.strictness = Strictness { advisories, memory }
        };
        assert_eq!(code(Verdicts, &["advisory"], strict(true, false)), 1);
        assert_eq!(code(Verdicts, &["memory"], strict(true, false)), 1);
        assert_eq!(code(Verdicts, &["advisory"], strict(false, true)), 0);
        assert_eq!(code(Verdicts, &["memory"], strict(false, true)), 1);
    }

    #[test]
    fn a_failed_canary_goes_before_everything_but_an_interrupt() {
        let missed = CanaryReport { missed: vec!["fd".into()], ..samples::canary() };
        for words in [&["clean"][..], &["leak"], &["unknown"], &[]] {
            assert_eq!(code_with(&missed, Verdicts, words, |_| {}), 4);
        }
        let interrupt = |outcome: &mut Outcome| outcome.interrupted = true;
        assert_eq!(code_with(&missed, Verdicts, &["leak"], interrupt), 130);
    }

    #[test]
    fn nothing_is_green_without_a_canary_but_a_leak_stands() {
        assert_eq!(code(Verdicts, &["clean"], |outcome| outcome.canary = None), 4);
        assert_eq!(code(Expectations, &["leak-as-expected"], |outcome| outcome.canary = None), 4);
        assert_eq!(code(Verdicts, &["leak"], |outcome| outcome.canary = None), 1);
        assert_eq!(code(Verdicts, &["not-started"], |outcome| outcome.canary = None), 3);
    }

    #[test]
    fn a_case_that_was_lost_is_not_green() {
        assert_eq!(code(Verdicts, &["clean"], |outcome| outcome.not_judged = 1), 3);
        assert_eq!(code(Verdicts, &["leak"], |outcome| outcome.not_judged = 1), 1);
        assert_eq!(code(Expectations, &["leak-as-expected"], |outcome| outcome.not_judged = 1), 3);
    }
}
