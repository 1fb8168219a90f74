//! A run as JSON, versioned: `scupper.report/1`. Its schema is committed in `harness/schema`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    campaign::Campaign,
    event::{CanaryReport, Gated, RunInfo, RunSummary, ServerReport, SubjectInfo},
    redact,
};
use crate::ledger::standing::{Standing, Strictness};
use crate::ledger::verdict::{CaseReport, Finding, Verdict};

/// A whole run. Fields may be added; one that is taken away or changes its meaning makes a new
/// version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    /// Which form this is.
    pub schema: Version,
    /// What the run is about.
    pub run: RunInfo,
    /// What the subject said of itself, where it came to speaking; none where there are several.
    pub subject: Option<SubjectInfo>,
    /// Every server in its turn, where the run is about a file of servers.
    #[serde(default)]
    pub servers: Vec<ServerReport>,
    /// The run's own proof, where the run came that far.
    pub canary: Option<CanaryReport>,
    /// Worth saying once, not part of any case.
    pub notes: Vec<String>,
    /// Every judged case, in the order of the plan.
    pub cases: Vec<CaseReport>,
    /// Cases planned but not judged.
    pub not_judged: Vec<NotJudged>,
    /// Judged cases by verdict.
    pub totals: Totals,
    /// The worst verdict.
    pub verdict: Option<Verdict>,
    /// The user interrupted the run.
    pub interrupted: bool,
    /// The exit code that follows.
    pub exit_code: u8,
    /// Wall time in milliseconds.
    pub took_ms: u64,
    /// Of generated lifecycles: which of them, and how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Campaign>,
    /// When the run began: RFC 3339, UTC, whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<String>,
    /// Which advisories count as leaks.
    #[serde(default, skip_serializing_if = "Strictness::is_default")]
    pub strictness: Strictness,
    /// The file that a case comes from or was kept in, by the case's id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// What came of holding it against a baseline, thresholds or an older report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gated>,
}

/// Which form a report has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Version {
    /// The first.
    #[serde(rename = "scupper.report/1")]
    V1,
}

/// A case that was planned but not judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NotJudged {
    /// Its id.
    pub id: String,
    /// Why it was not.
    pub cause: String,
}

/// Cases by verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Totals {
    /// Everything drained.
    pub clean: usize,
    /// Something outlived its due step.
    pub leak: usize,
    /// The lifecycle itself went wrong.
    pub failed: usize,
    /// Could not look.
    pub unknown: usize,
    /// The canary failed.
    pub invalid: usize,
    /// Of all these, cases whose outcome is not the one their scenario expects.
    pub unmet: usize,
}

impl Totals {
    /// Counts cases.
    pub fn of(cases: &[CaseReport]) -> Self {
        let count = |verdict| cases.iter().filter(|case| case.verdict == verdict).count();
        Self {
            clean: count(Verdict::Clean),
            leak: count(Verdict::Leak),
            failed: count(Verdict::Failed),
            unknown: count(Verdict::Unknown),
            invalid: count(Verdict::Invalid),
            unmet: cases.iter().filter(|case| case.expected.is_some() && !case.met).count(),
        }
    }
}

impl Report {
    /// The report of a run, redacted.
    pub fn new(
        info: &RunInfo,
        subject: Option<&SubjectInfo>,
        notes: &[String],
        summary: &RunSummary,
    ) -> Self {
        let not_judged = |(id, cause): &(String, String)| NotJudged {
            id: id.clone(),
            cause: redact::redact(cause).into_owned(),
        };
        Self {
            schema: Version::V1,
            run: redact::run(info),
            subject: subject.map(redact::subject),
            servers: summary.servers.iter().map(redact::server).collect(),
            canary: summary.canary.clone(),
            notes: notes.iter().map(|note| redact::redact(note).into_owned()).collect(),
            cases: summary.cases.iter().map(redact::case).collect(),
            not_judged: summary.not_judged.iter().map(not_judged).collect(),
            totals: Totals::of(&summary.cases),
            verdict: summary.verdict,
            interrupted: summary.interrupted,
            exit_code: summary.exit_code,
            took_ms: u64::try_from(summary.took.as_millis()).unwrap_or(u64::MAX),
            campaign: None,
            begun: None,
            strictness: summary.strictness,
            files: BTreeMap::new(),
            gate: None,
        }
    }

    /// What a case means for whoever gates on this run. What a scenario expects decides; what is known
    /// counts for nothing.
    pub fn standing(&self, case: &CaseReport) -> Standing {
        match &self.gate {
            Some(gate) => case.without(&gate.known).standing(self.strictness, true),
            None => case.standing(self.strictness, true),
        }
    }

    /// Why a finding with this fingerprint is accepted, where it is.
    pub fn reason_for(&self, fingerprint: &str) -> Option<&str> {
        self.gate.as_ref()?.known.get(fingerprint).map(String::as_str)
    }

    /// How the run ended, for reporters that hear of runs.
    pub fn summary(&self) -> RunSummary {
        let lost = self.not_judged.iter().map(|lost| (lost.id.clone(), lost.cause.clone()));
        RunSummary {
            servers: self.servers.clone(),
            cases: self.cases.clone(),
            not_judged: lost.collect(),
            canary: self.canary.clone(),
            verdict: self.verdict,
            took: Duration::from_millis(self.took_ms),
            exit_code: self.exit_code,
            interrupted: self.interrupted,
            strictness: self.strictness,
        }
    }

    /// The path that stands for a case where a form wants one: its scenario file, or one that does not
    /// exist.
    pub fn place_of(&self, case: &CaseReport) -> String {
        match self.files.get(&case.id) {
            Some(path) => path.strip_prefix("./").unwrap_or(path).to_owned(),
            None => format!("scupper/{}", case.id),
        }
    }

    /// Whether a finding counts as a leak in this run.
    pub fn counts(&self, finding: &Finding) -> bool {
        self.strictness.counts_finding(finding)
    }

    /// Reads a report that [`render`] wrote; `replay` and `merge` begin here.
    pub fn parse(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// Pretty, with a newline at the end.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("a report has no map with keys that are no text");
        text.push('\n');
        text
    }
}

/// The report of a run as pretty JSON.
pub fn render(
    info: &RunInfo,
    subject: Option<&SubjectInfo>,
    notes: &[String],
    summary: &RunSummary,
) -> String {
    Report::new(info, subject, notes, summary).to_json()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn whole() -> String {
        let summary = samples::summary(samples::cases(), 1);
        let notes = ["GITHUB_TOKEN=abc is set".to_owned()];
        render(&samples::info(6), Some(&samples::subject()), &notes, &summary)
    }

    #[test]
    fn what_was_written_can_be_read() {
        let text = whole();
        let report = Report::parse(&text).expect("our own report");
        assert_eq!(report.to_json(), text);
        assert_eq!(
            report.totals,
            Totals { clean: 1, leak: 3, failed: 1, unknown: 1, ..Totals::default() }
        );
    }

    #[test]
    fn a_report_is_valid_by_its_schema() {
        let schema = include_str!("../../schema/report-1.schema.json");
        let schema = serde_json::from_str(schema).expect("a schema is JSON");
        let mut gated = samples::everything();
        gated.gate = Some(Gated { told: vec!["still there".into()], ..Gated::default() });
        for report in [samples::everything(), samples::nothing(), gated] {
            let value = serde_json::to_value(&report).expect("JSON");
            assert_eq!(crate::report::schema::errors(&schema, &value), [""; 0]);
        }
        let mut value = serde_json::to_value(samples::nothing()).expect("JSON");
        value["cases"][0]["verdict"] = "green".into();
        value["took_ms"] = (-1).into();
        assert_eq!(crate::report::schema::errors(&schema, &value).len(), 2);
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let text = whole().replace("scupper.report/1", "scupper.report/2");
        let error = Report::parse(&text).expect_err("it is not ours").to_string();
        assert!(error.contains("scupper.report/2"), "{error}");
    }

    #[test]
    fn no_credential_is_written() {
        let text = whole();
        assert!(!text.contains("abc"), "a made-up credential got through");
    }

    /// The envelope and one case of each form; the other cases say nothing new.
    #[test]
    fn a_run_in_json() {
        let mut cases = samples::cases();
        cases.retain(|case| case.id == "stdio/half-close" || case.failure.is_some());
        for case in &mut cases {
            case.steps.truncate(1);
        }
        let mut summary = samples::summary(cases, 1);
        summary.not_judged = vec![("stdio/drop".into(), "the cell was killed by SIGKILL".into())];
        let text = render(&samples::info(3), Some(&samples::subject()), &[], &summary);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_committed_schema_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/report-1.schema.json");
        let schema = schemars::schema_for!(Report);
        let current = serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n";
        if std::env::var_os("SCUPPER_UPDATE_SCHEMA").is_some_and(|value| value == "1") {
            std::fs::write(path, &current).expect("the schema's folder is in the repository");
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == current,
            "harness/schema/report-1.schema.json is out of date: repeat this test with \
             SCUPPER_UPDATE_SCHEMA=1 and look at the difference",
        );
    }
}
