//! What a scenario expects against what came of it. Pure, and strict both ways.

use crate::ledger::verdict::{CaseReport, Class, Finding};
use crate::lifecycle::scenario::{Expectation, ExpectedFinding};

/// What of an expectation was not met, in words; nothing when all was.
pub fn unmet(expect: &Expectation, report: &CaseReport) -> Vec<String> {
    let mut unmet = Vec::new();
    if report.verdict != expect.verdict {
        unmet.push(format!("expected verdict {}, got {}", expect.verdict, report.verdict));
    }
    for expected in &expect.findings {
        if !report.findings.iter().any(|finding| fits(expected, finding)) {
            unmet.push(format!("expected and not found: {}", words(expected)));
        }
    }
    for finding in &report.findings {
        let listed = expect.findings.iter().any(|expected| fits(expected, finding));
        // An advisory that nobody listed does no harm; a leak does.
        if !listed && finding.class == Class::Leak {
            unmet.push(format!(
                "found and not expected: {} of the {}, born at {}, due at {}: {}",
                finding.kind, finding.culprit, finding.birth_step, finding.due_step, finding.what
            ));
        }
    }
    unmet
}

fn fits(expected: &ExpectedFinding, finding: &Finding) -> bool {
    expected.kind == finding.kind
        && expected.class == finding.class
        && expected.culprit.is_none_or(|culprit| culprit == finding.culprit)
        && expected.birth_step.as_ref().is_none_or(|step| *step == finding.birth_step.name)
        && expected.due_step.as_ref().is_none_or(|step| *step == finding.due_step.name)
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
