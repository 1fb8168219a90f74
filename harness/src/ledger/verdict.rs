//! Findings and verdicts. Pure data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::history::Lives;
use super::sdk::Sdk;
use super::snapshot::{Identity, Kind};
use crate::lifecycle::sweep::Lane;

/// Where in a lifecycle something happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StepRef {
    /// Place in the lifecycle, from 1; nested steps as `3.2`. `0` is before the first step,
    /// `end` after the last.
    pub place: String,
    /// Name of the step, such as `call echo`.
    pub name: String,
    /// Which repetition, from 1, where the step is inside a repeat.
    pub cycle: Option<u32>,
}

impl std::fmt::Display for StepRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.place == "end" {
            return write!(f, "the {}", self.name);
        }
        write!(f, "step {}, {}", self.place, self.name)?;
        match self.cycle {
            Some(cycle) => write!(f, " (cycle {cycle})"),
            None => Ok(()),
        }
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Outlives its due step, and the judged subject or its launcher is to blame.
    Leak,
    /// Another's fault, or memory: red only with `--strict` or `--strict-memory`.
    Advisory,
}

/// Whose duty the end of the leaked thing was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Culprit {
    /// The MCP server.
    Server,
    /// The MCP client or host.
    Client,
    /// What started the server and stands between it and the client: npx, sh, uv.
    Launcher,
    /// Our connection core.
    Core,
    /// This program.
    Harness,
}

/// A process that has the other end of a leaked pipe or socket, or a copy of the same end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Holder {
    /// Its pid.
    pub pid: i32,
    /// Its command line, shortened.
    pub command: String,
    /// What it holds, such as `write end of pipe:[4711] as fd 5`.
    pub holds: String,
}

/// One leaked thing, or several alike from the same step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    /// Leak or advisory.
    pub class: Class,
    /// Kind of thing.
    pub kind: Kind,
    /// In words what leaked, such as `process 4711 (sleep 1000)` or `19 pipes`.
    pub what: String,
    /// The things themselves, at most [`Finding::IDENTITIES`] of them.
    pub identities: Vec<Identity>,
    /// How many there are, all counted.
    pub count: usize,
    /// The step after which it was first seen.
    pub birth_step: StepRef,
    /// The step by which it should have been gone.
    pub due_step: StepRef,
    /// Whose duty its end was.
    pub culprit: Culprit,
    /// Why this culprit, in a sentence; says so where it is a heuristic or shared.
    pub blame: String,
    /// The rule it breaks, such as `2026-07-28 stdio N9`, or none.
    pub rule: Option<String>,
    /// Why it hurts, in a sentence; with no rule, why all the same.
    pub hurts: String,
    /// `file:line` that created it, where known.
    pub site: Option<String>,
    /// Who else holds it ("at least": processes that cannot be read are counted below).
    pub holders: Vec<Holder>,
    /// How many processes of this host could not be read while looking for holders.
    pub holders_unread: usize,
    /// What was seen, line by line: command, state, parent, how long was waited.
    pub evidence: Vec<String>,
    /// What to change.
    pub remedy: String,
}

impl Finding {
    /// Most identities that one finding lists.
    pub const IDENTITIES: usize = 20;
}

/// Outcome of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything drained.
    Clean,
    /// Something of the subject's outlived its due step.
    Leak,
    /// The lifecycle itself went wrong: the subject broke the protocol or never answered.
    Failed,
    /// Could not look.
    Unknown,
    /// The canary failed, so nothing seen in this run counts.
    Invalid,
}

/// How strong the evidence is that nothing escaped the scan, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Orphans found by a variable in their environment.
    Cookie,
    /// Orphans come to the cell, which is a child subreaper (PR_SET_CHILD_SUBREAPER(2const)).
    Subreaper,
    /// The cell's pid namespace holds every process of the case (pid_namespaces(7)).
    PidNamespace,
}

spelled! {
    Culprit { Server = "server", Client = "client", Launcher = "launcher", Core = "core", Harness = "harness" }
    Verdict { Clean = "clean", Leak = "leak", Failed = "failed", Unknown = "unknown", Invalid = "invalid" }
    Tier { Cookie = "environment cookie", Subreaper = "subreaper", PidNamespace = "pid namespace" }
}

/// How long one step took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StepTiming {
    /// Which step.
    pub step: StepRef,
    /// Milliseconds from the start of the case.
    pub at_ms: f64,
    /// Milliseconds it took.
    pub took_ms: f64,
}

/// The lifecycle itself went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Failure {
    /// During which step.
    pub step: StepRef,
    /// What happened, with the likely cause.
    pub message: String,
    /// Last lines of the subject's stderr, and of what it wrote to stdout that was no message.
    pub output: Vec<String>,
    /// The subject never came as far as a first answer: there was nothing to judge.
    pub not_started: bool,
    /// The first request of the handshake was answered, and not as its era wants it: with an error
    /// of whatever code, or with a result that names no revision. Another era may be spoken.
    #[serde(default)]
    pub refused: bool,
}

/// In a note, what comes before the last line of a server's stderr. It may be another in every life,
/// and the notes are one and the same.
pub const LAST_ON_STDERR: &str = "; last on its stderr: ";

/// Lives of a server that ended in a crash when their end came: no leak, and no good end either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Crash {
    /// The signal by name, such as `SIGABRT`.
    pub signal: String,
    /// In how many lives.
    pub lives: u32,
}

/// Everything that is known of one judged case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CaseReport {
    /// Unique in a run, such as `stdio/clean-close` or `stdio/clean-close#2`.
    pub id: String,
    /// Id of the lifecycle.
    pub lifecycle: String,
    /// Why this lifecycle matters.
    pub why: String,
    /// The subject in words, such as its command line.
    pub subject: String,
    /// The era spoken, where it came to speaking.
    pub era: Option<String>,
    /// The outcome.
    pub verdict: Verdict,
    /// Strength of containment.
    pub tier: Tier,
    /// Repetitions judged, the warm-up not counted; 0 where nothing was repeated.
    pub cycles: u32,
    /// The verdict that a scenario file expects.
    pub expected: Option<Verdict>,
    /// The outcome, findings included, is as expected (always true where nothing is expected and
    /// the verdict is clean).
    pub met: bool,
    /// In words what of the expectation was not met.
    pub unmet: Vec<String>,
    /// How long each step took; repeated steps once, summed.
    pub steps: Vec<StepTiming>,
    /// What was seen to come and go, where it was looked at closely.
    #[serde(default, skip_serializing_if = "Lives::is_empty")]
    pub lives: Lives,
    /// Named figures, such as `exit_after_due_ms`; units at the end of the name.
    pub figures: BTreeMap<String, f64>,
    /// What is worth knowing and is no finding.
    pub notes: Vec<String>,
    /// Lives that ended in a crash when their end came.
    #[serde(default)]
    pub crashes: Vec<Crash>,
    /// What leaked.
    pub findings: Vec<Finding>,
    /// What went wrong with the lifecycle itself, beside any finding.
    pub failure: Option<Failure>,
    /// What could not be looked at.
    pub unreadable: Vec<String>,
    /// The command that repeats it.
    pub repeat: String,
    /// Of the byte sweep: the bytes that all came to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swept: Option<Swept>,
    /// With which SDK the subject was written, where that is recognised; it says which lines of source
    /// stand below a finding's remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdk: Option<Sdk>,
}

/// A range of bytes after each of which the peer went wrong, with one and the same outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Swept {
    /// What went wrong, and in which direction bytes are counted.
    pub lane: Lane,
    /// The first byte of the range.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// How many bytes of the range were played.
    pub lives: usize,
    /// How many of these were judged in full. The others, which lie between two of them, outlived a
    /// first look as these did.
    pub judged: usize,
    /// Whether so many bytes came to pass; where not, the whole life was played before the end.
    pub reached: bool,
}
