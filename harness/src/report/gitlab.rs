//! A run as GitLab's code quality report: what is red, one by one, with fingerprints that hold no pid
//! and no count.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::json::Report;
use super::problem::{Level, Problem, Sort, problems};

/// The report as an array of JSON, with a newline at the end.
pub fn render(report: &Report) -> String {
    let all = problems(report);
    let mut told = HashSet::new();
    // Two with one fingerprint would be one for GitLab, and which one would be chance.
    let issues: Vec<Value> = all
        .iter()
        .filter(|problem| told.insert(problem.fingerprint.as_str()))
        .map(|problem| issue(report, problem))
        .collect();
    let mut text = serde_json::to_string_pretty(&issues).unwrap_or_default();
    text.push('\n');
    text
}

fn issue(report: &Report, problem: &Problem) -> Value {
    let severity = match (problem.level, problem.sort) {
        (Level::Note, _) => "info",
        (_, Sort::Invalid) => "blocker",
        (_, Sort::Leak(_)) => "critical",
        (_, _) => "major",
    };
    let path = match problem.case {
        Some(case) => report.place_of(case),
        None => "scupper".to_owned(),
    };
    json!({
        "description": problem.title,
        "check_name": problem.sort.id(),
        "fingerprint": problem.fingerprint,
        "severity": severity,
        "location": { "path": path, "lines": { "begin": 1 } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn everything_in_code_quality() {
        insta::assert_snapshot!(render(&samples::everything()));
    }

    #[test]
    fn a_clean_run_has_no_issue_and_each_fingerprint_is_there_once() {
        assert_eq!(render(&samples::nothing()), "[]\n");
        let text = render(&samples::everything());
        let issues: Vec<Value> = serde_json::from_str(&text).expect("an array");
        let prints: HashSet<&str> =
            issues.iter().filter_map(|issue| issue["fingerprint"].as_str()).collect();
        assert_eq!(prints.len(), issues.len());
    }

    #[test]
    fn no_credential_is_written() {
        assert!(!render(&samples::everything()).contains("abc123"));
    }
}
