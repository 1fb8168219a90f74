//! `--keep`: a scenario file of every case that was not as it should be, for `scupper replay`.

use std::path::{Path, PathBuf};

use super::Refusal;
use crate::cell::protocol::SubjectOrder;
use crate::ledger::verdict::CaseReport;
use crate::lifecycle::scenario::{Expectation, ExpectedFinding, Scenario, Subject, render};
use crate::plan::Case;

/// Writes the case as a scenario that expects just what was seen. Returns the file.
pub fn keep(folder: &Path, case: &Case, report: &CaseReport) -> Result<Option<PathBuf>, Refusal> {
    let SubjectOrder::Server { command } = &case.order.subject else { return Ok(None) };
    let findings = report.findings.iter().map(|finding| ExpectedFinding {
        class: finding.class,
        kind: finding.kind,
        culprit: Some(finding.culprit),
        birth_step: Some(finding.birth_step.name.clone()),
        due_step: Some(finding.due_step.name.clone()),
    });
    let mut expected: Vec<ExpectedFinding> = Vec::new();
    for finding in findings {
        if !expected.contains(&finding) {
            expected.push(finding);
        }
    }
    let scenario = Scenario {
        lifecycle: case.order.lifecycle.clone(),
        subject: Subject::Command(command.clone()),
        expect: Expectation { verdict: report.verdict, findings: expected },
    };
    let path = folder.join(format!("{}.toml", report.id.replace(['/', '#'], "-")));
    let cannot = |error: std::io::Error| {
        Refusal::ours(format!("--keep: cannot write {}: {error}", path.display()))
    };
    std::fs::create_dir_all(folder).map_err(cannot)?;
    std::fs::write(&path, render(&scenario)).map_err(cannot)?;
    Ok(Some(path))
}
