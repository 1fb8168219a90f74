//! What a scenario expects against what came of it. Pure, and strict both ways.

use crate::ledger::verdict::{CaseReport, Class, Finding};
use crate::lifecycle::scenario::{Expectation, ExpectedFinding, render_finding};

/// What of an expectation was not met, in words; nothing when all was. The first line of each says
/// it; further lines are what the scenario file would say where what was found is right.
pub fn unmet(expect: &Expectation, report: &CaseReport) -> Vec<String> {
    let mut unmet = Vec::new();
    if report.verdict != expect.verdict {
        unmet.push(format!("expected verdict {}, got {}", expect.verdict, report.verdict));
    }
    for expected in &expect.findings {
        if !report.findings.iter().any(|finding| fits(expected, finding)) {
            let near =
                report.findings.iter().find_map(|finding| only_difference(expected, finding));
            let near = near.map(|near| format!("; {near}")).unwrap_or_default();
            unmet.push(format!("expected and not found: {}{near}", words(expected)));
        }
    }
    for finding in &report.findings {
        let listed = expect.findings.iter().any(|expected| fits(expected, finding));
        // An advisory that nobody listed does no harm; a leak does.
        if !listed && finding.class == Class::Leak {
            unmet.push(format!(
                "found and not expected: {} of the {}, born at {}, due at {}: {}\n{}",
                finding.kind,
                finding.culprit,
                finding.birth_step,
                finding.due_step,
                finding.what,
                as_expected(finding)
            ));
        }
    }
    unmet
}

fn fits(expected: &ExpectedFinding, finding: &Finding) -> bool {
    differences(expected, finding).is_empty()
}

/// Which keys of the expected finding this one contradicts: key, what was found, what was expected.
fn differences<'f>(
    expected: &'f ExpectedFinding,
    finding: &'f Finding,
) -> Vec<(&'static str, &'f str, &'f str)> {
    let (birth, due) = (&finding.birth_step.name, &finding.due_step.name);
    [
        ("class", class(finding.class), Some(class(expected.class))),
        ("kind", finding.kind.as_str(), Some(expected.kind.as_str())),
        ("culprit", finding.culprit.as_str(), expected.culprit.map(|culprit| culprit.as_str())),
        ("birth-step", birth, expected.birth_step.as_deref()),
        ("due-step", due, expected.due_step.as_deref()),
    ]
    .into_iter()
    .filter_map(|(key, found, expected)| Some((key, found, expected?)))
    .filter(|(_, found, expected)| found != expected)
    .collect()
}

fn class(class: Class) -> &'static str {
    match class {
        Class::Leak => "leak",
        Class::Advisory => "advisory",
    }
}

/// How a found one would be the expected one, if a single key stands between them.
fn only_difference(expected: &ExpectedFinding, finding: &Finding) -> Option<String> {
    match differences(expected, finding)[..] {
        [(key, found, wanted)] => Some(format!(
            "one that was found differs in its {key} alone: \"{found}\", where the file says \"{wanted}\""
        )),
        _ => None,
    }
}

/// A finding as it stands in a scenario file.
fn as_expected(finding: &Finding) -> String {
    render_finding(&ExpectedFinding {
        class: finding.class,
        kind: finding.kind,
        culprit: Some(finding.culprit),
        birth_step: Some(finding.birth_step.name.clone()),
        due_step: Some(finding.due_step.name.clone()),
    })
}

fn words(expected: &ExpectedFinding) -> String {
    let mut words = expected.kind.to_string();
    if let Some(culprit) = expected.culprit {
        words.push_str(&format!(" of the {culprit}"));
    }
    if let Some(step) = &expected.birth_step {
        words.push_str(&format!(", born at {step}"));
    }
    if let Some(step) = &expected.due_step {
        words.push_str(&format!(", due at {step}"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{
        snapshot::Kind,
        verdict::{Culprit, Verdict},
    };
    use crate::report::samples;

    fn unmet_by(due: &str, culprit: Culprit) -> Vec<String> {
        let mut report = samples::case("stdio/held-stdin", Verdict::Leak);
        report.findings = vec![samples::process_finding()];
        let finding = ExpectedFinding {
            class: Class::Leak,
            kind: Kind::Process,
            culprit: Some(culprit),
            birth_step: None,
            due_step: Some(due.into()),
        };
        unmet(&Expectation { verdict: Verdict::Leak, findings: vec![finding] }, &report)
    }

    #[test]
    fn a_finding_that_fits_leaves_nothing_unmet() {
        assert_eq!(unmet_by("half-close stdin", Culprit::Server), [""; 0]);
    }

    #[test]
    fn one_that_differs_in_one_key_is_told_with_the_key_and_as_it_would_stand_in_the_file() {
        insta::assert_snapshot!(unmet_by("close", Culprit::Server).join("\n"));
    }

    #[test]
    fn one_that_differs_in_more_is_another() {
        let told = unmet_by("close", Culprit::Launcher);
        assert!(!told[0].contains("alone"), "{told:?}");
    }
}
