//! What a finding of a campaign comes to, as a case of a report.

use std::collections::BTreeMap;

use crate::ledger::history::Lives;
use crate::ledger::verdict::{CaseReport, Failure, Finding, StepRef, Tier, Verdict};

/// The case of a generated lifecycle after which model and core did not agree: what was found, after
/// which step, and whether something was left or something was missing.
pub fn case(
    id: &str,
    code: &str,
    step: &str,
    found: &str,
    is_left: bool,
    findings: Vec<Finding>,
) -> CaseReport {
    let step = StepRef { place: step.to_owned(), name: id.to_owned(), cycle: None };
    CaseReport {
        id: id.to_owned(),
        lifecycle: code.to_owned(),
        why: "After every step of a generated lifecycle, what exists is what must.".to_owned(),
        subject: "core, in memory".to_owned(),
        era: None,
        verdict: if is_left { Verdict::Leak } else { Verdict::Failed },
        tier: Tier::Cookie,
        cycles: 0,
        expected: None,
        met: false,
        unmet: Vec::new(),
        steps: Vec::new(),
        lives: Lives::default(),
        figures: BTreeMap::new(),
        notes: Vec::new(),
        crashes: Vec::new(),
        findings,
        failure: Some(Failure {
            step,
            message: found.to_owned(),
            output: Vec::new(),
            not_started: false,
            refused: false,
        }),
        unreadable: Vec::new(),
        repeat: format!("scupper campaign --lifecycle {code}"),
        swept: None,
        sdk: None,
    }
}
