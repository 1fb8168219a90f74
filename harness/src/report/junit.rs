//! A run as JUnit XML, in nextest's dialect: a suite is a subject, a test case is a case.
//!
//! | case | element |
//! |---|---|
//! | as it should be | none; what is worth knowing is in `system-out` |
//! | a leak, a failure, an unmet expectation | `failure`, its type the sort of the first one |
//! | could not look, not started, not judged, the run does not count | `error` |
//! | a server that cannot be judged and that nobody asked for | `skipped` |

use super::group::server_of;
use super::json::Report;
use super::problem::{Level, Problem, Sort, of_case, problems};
use super::text::{LONGEST_LINE, sanitise};
use super::xml::{element, open};
use crate::ledger::standing::Standing;
use crate::ledger::verdict::CaseReport;

/// Suite of what is wrong with the run itself.
const RUN: &str = "scupper";

/// The report as JUnit XML.
pub fn render(report: &Report) -> String {
    let suites = suites(report);
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let sum = |of: fn(&Suite) -> usize| suites.iter().map(of).sum::<usize>().to_string();
    let (tests, failures, errors) = (
        sum(|one| one.tests.len()),
        sum(|one| one.number(What::Failure)),
        sum(|one| one.number(What::Error)),
    );
    let time = seconds(report.took_ms as f64);
    let mut attributes = vec![("name", "scupper"), ("tests", &*tests), ("failures", &failures)];
    attributes.extend([("errors", &*errors), ("time", &time)]);
    attributes.extend(report.begun.iter().map(|begun| ("timestamp", begun.as_str())));
    open(&mut out, "testsuites", &attributes, false);
    out.push('\n');
    for suite in &suites {
        suite.write(&mut out);
    }
    out.push_str("</testsuites>\n");
    out
}

/// All cases of one subject.
struct Suite {
    name: String,
    tests: Vec<Test>,
}

/// One case, or one thing that is wrong with the run itself.
struct Test {
    name: String,
    took_ms: f64,
    outcome: Option<Outcome>,
    /// What is worth knowing all the same.
    told: Vec<String>,
}

/// Why a test did not pass.
struct Outcome {
    what: What,
    sort: String,
    message: String,
    text: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Failure,
    Error,
    Skipped,
}

fn suites(report: &Report) -> Vec<Suite> {
    let mut suites: Vec<Suite> = Vec::new();
    for case in &report.cases {
        // Of several servers each is a suite.
        let server = server_of(case).filter(|_| !report.servers.is_empty());
        let name = line(server.unwrap_or(&report.run.subject));
        put(&mut suites, &name, of_one(report, case));
    }
    for server in &report.servers {
        if let (None, Some(why)) = (server.exit_code, &server.not_judged) {
            let outcome = Outcome {
                what: What::Skipped,
                sort: String::new(),
                message: line(why),
                text: Vec::new(),
            };
            let test = Test {
                name: "left out".to_owned(),
                took_ms: 0.0,
                outcome: Some(outcome),
                told: Vec::new(),
            };
            put(&mut suites, &line(&server.name), test);
        }
    }
    for problem in problems(report).iter().filter(|problem| problem.case.is_none()) {
        let outcome = outcome(What::Error, std::slice::from_ref(problem));
        let name = problem.title.clone();
        put(
            &mut suites,
            RUN,
            Test { name, took_ms: 0.0, outcome: Some(outcome), told: Vec::new() },
        );
    }
    suites
}

fn put(suites: &mut Vec<Suite>, name: &str, test: Test) {
    match suites.iter_mut().find(|suite| suite.name == name) {
        Some(suite) => suite.tests.push(test),
        None => suites.push(Suite { name: name.to_owned(), tests: vec![test] }),
    }
}

/// The test of a case.
fn of_one(report: &Report, case: &CaseReport) -> Test {
    let what = match report.standing(case) {
        Standing::Passed => None,
        Standing::Red => Some(What::Failure),
        Standing::NotJudged | Standing::Invalid => Some(What::Error),
    };
    let (wrong, notes): (Vec<Problem>, Vec<Problem>) =
        of_case(report, case).into_iter().partition(|problem| problem.level == Level::Error);
    let mut told: Vec<String> = notes.iter().flat_map(lines).collect();
    told.extend(case.notes.iter().map(|note| line(note)));
    Test {
        name: case.id.clone(),
        took_ms: case.steps.iter().map(|step| step.at_ms + step.took_ms).fold(0.0, f64::max),
        outcome: what.map(|what| outcome(what, &wrong)),
        told,
    }
}

fn outcome(what: What, problems: &[Problem]) -> Outcome {
    let title = problems.first().map_or("no words", |first| first.title.as_str());
    let message = match problems.len() {
        0 | 1 => title.to_owned(),
        number => format!("{title} (and {} more)", number - 1),
    };
    let sort = problems.first().map_or(Sort::Failed, |first| first.sort).id();
    Outcome { what, sort, message, text: problems.iter().flat_map(lines).collect() }
}

fn lines(problem: &Problem) -> Vec<String> {
    let details = problem.details.iter().map(|line| format!("  {line}"));
    std::iter::once(problem.title.clone()).chain(details).collect()
}

impl Suite {
    fn number(&self, what: What) -> usize {
        let outcomes = self.tests.iter().filter_map(|test| test.outcome.as_ref());
        outcomes.filter(|outcome| outcome.what == what).count()
    }

    fn write(&self, out: &mut String) {
        let number = |what| self.number(what).to_string();
        let tests = self.tests.len().to_string();
        let time = seconds(self.tests.iter().map(|test| test.took_ms).sum());
        let (failures, errors, skipped) =
            (number(What::Failure), number(What::Error), number(What::Skipped));
        let attributes = [
            ("name", self.name.as_str()),
            ("tests", &tests),
            ("failures", &failures),
            ("errors", &errors),
            ("skipped", &skipped),
            ("time", &time),
        ];
        out.push_str("  ");
        open(out, "testsuite", &attributes, false);
        out.push('\n');
        for test in &self.tests {
            test.write(&self.name, out);
        }
        out.push_str("  </testsuite>\n");
    }
}

impl Test {
    fn write(&self, suite: &str, out: &mut String) {
        let time = seconds(self.took_ms);
        let name = sanitise(&self.name, LONGEST_LINE);
        let attributes = [("name", name.as_str()), ("classname", suite), ("time", &time)];
        let is_empty = self.outcome.is_none() && self.told.is_empty();
        out.push_str("    ");
        open(out, "testcase", &attributes, is_empty);
        out.push('\n');
        if is_empty {
            return;
        }
        if let Some(Outcome { what, sort, message, text }) = &self.outcome {
            out.push_str("      ");
            match what {
                What::Skipped => open(out, "skipped", &[("message", message)], true),
                What::Failure | What::Error => {
                    let name = if *what == What::Failure { "failure" } else { "error" };
                    element(out, name, &[("type", sort), ("message", message)], &text.join("\n"));
                }
            }
            out.push('\n');
        }
        if !self.told.is_empty() {
            out.push_str("      ");
            element(out, "system-out", &[], &self.told.join("\n"));
            out.push('\n');
        }
        out.push_str("    </testcase>\n");
    }
}

/// Milliseconds as JUnit has its times.
fn seconds(ms: f64) -> String {
    format!("{:.3}", ms / 1000.0)
}

fn line(text: &str) -> String {
    sanitise(text, LONGEST_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn everything_in_junit() {
        insta::assert_snapshot!(render(&samples::everything()));
    }

    #[test]
    fn no_credential_is_written() {
        assert!(!render(&samples::everything()).contains("abc123"));
    }

    #[test]
    fn what_is_wrong_is_a_failure_or_an_error_and_each_case_is_one_test() {
        let report = samples::everything();
        let text = render(&report);
        // Each case, one that was not judged, one server that was left out.
        assert_eq!(text.matches("<testcase ").count(), report.cases.len() + 2);
        assert_eq!(text.matches("<failure ").count(), 6);
        assert_eq!(text.matches("<error ").count(), 3);
        assert_eq!(text.matches("<skipped ").count(), 1);
        assert!(text.contains("tests=\"12\" failures=\"6\" errors=\"3\""), "{text}");
    }
}
