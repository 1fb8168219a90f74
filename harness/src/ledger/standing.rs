//! What one judged case means for whoever gates on it. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fingerprint::Fingerprint;
use super::snapshot::Kind;
use super::verdict::{CaseReport, Class, Finding, Verdict};

/// Which advisories count as leaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Strictness {
    /// All of them: `--strict`.
    pub advisories: bool,
    /// Those on memory: `--strict-memory`.
    pub memory: bool,
}

impl Strictness {
    /// Whether a finding counts as a leak.
    pub fn counts(self, class: Class, kind: Kind) -> bool {
        match class {
            Class::Leak => true,
            Class::Advisory => self.advisories || (self.memory && kind == Kind::Memory),
        }
    }

    /// Whether this finding does.
    pub fn counts_finding(self, finding: &Finding) -> bool {
        self.counts(finding.class, finding.kind)
    }

    /// Only what is asked for by default counts.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a case means for whoever gates on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// As it should be.
    Passed,
    /// A leak, a lifecycle that failed, or an outcome that is not the expected one.
    Red,
    /// Could not look, or the subject did not start.
    NotJudged,
    /// The canary failed.
    Invalid,
}

impl CaseReport {
    /// The case as if what is known were not there: findings by [`Fingerprint::hash`]. A failure stays
    /// one, and what could not be seen is not clean. A case that states what it expects stays as it is.
    pub fn without(&self, known: &BTreeMap<String, String>) -> Cow<'_, CaseReport> {
        let is_known =
            |finding: &Finding| known.contains_key(&Fingerprint::of(self, finding).hash());
        if known.is_empty() || self.expected.is_some() || !self.findings.iter().any(is_known) {
            return Cow::Borrowed(self);
        }
        let mut case = self.clone();
        case.findings.retain(|finding| !is_known(finding));
        if case.verdict == Verdict::Leak
            && case.findings.iter().all(|finding| finding.class != Class::Leak)
        {
            case.verdict = match (&case.failure, case.unreadable.is_empty()) {
                (Some(_), _) => Verdict::Failed,
                (None, false) => Verdict::Unknown,
                (None, true) => Verdict::Clean,
            };
        }
        Cow::Owned(case)
    }

    /// What it means by its verdict; where it states what is expected and that is to decide, by whether
    /// that came true.
    pub fn standing(&self, strictness: Strictness, expectations_decide: bool) -> Standing {
        if self.verdict == Verdict::Invalid {
            return Standing::Invalid;
        }
        let counts = |finding: &Finding| strictness.counts_finding(finding);
        if expectations_decide && self.expected.is_some() {
            let strict =
                self.findings.iter().any(|one| one.class == Class::Advisory && counts(one));
            return if self.met && !strict { Standing::Passed } else { Standing::Red };
        }
        if self.verdict == Verdict::Leak || self.findings.iter().any(counts) {
            return Standing::Red;
        }
        match self.verdict {
            Verdict::Failed if self.failure.as_ref().is_some_and(|f| f.not_started) => {
                Standing::NotJudged
            }
            Verdict::Failed => Standing::Red,
            Verdict::Unknown => Standing::NotJudged,
            Verdict::Clean | Verdict::Leak | Verdict::Invalid => Standing::Passed,
        }
    }
}
