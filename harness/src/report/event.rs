//! The one enum through which a run talks to its reporters; only `report` prints.

use std::collections::BTreeMap;
use std::time::Duration;

use super::json::Totals;
use crate::ledger::standing::Strictness;
use crate::ledger::verdict::{CaseReport, Verdict};

/// Something that happened in a run.
#[derive(Debug, Clone)]
pub enum Event {
    /// The run begins.
    RunStarted(RunInfo),
    /// Of several servers, the next one's turn has come.
    ServerStarted(ServerInfo),
    /// What the first look at the subject showed.
    SubjectSeen(SubjectInfo),
    /// How many cases are to be judged, where that was not known when the run began.
    Planned(usize),
    /// A case begins in its cell.
    CaseStarted {
        /// Its id.
        id: String,
    },
    /// A case turned out not to fit its client, and is no case any more; a note says why.
    LeftOut {
        /// Its id.
        id: String,
    },
    /// How far the byte sweep has come.
    Swept {
        /// Lives looked at.
        done: usize,
        /// Lives planned.
        planned: usize,
        /// Of those looked at, how many were not clean.
        suspects: usize,
        /// What is left of its first look, in words.
        left: String,
    },
    /// One life of the byte sweep was judged by itself; what came of it is told when all are folded.
    LifeEnded {
        /// Its id.
        id: String,
    },
    /// The first look at a server is over, and it is none of the cases that the user asked for.
    Looked(Box<CaseReport>),
    /// A case was judged.
    CaseEnded(Box<CaseReport>),
    /// The run's own proof: the built-in leaks and their clean twins.
    CanaryEnded(CanaryReport),
    /// Worth saying once, not part of any case.
    Note(String),
    /// The run was held against a baseline, thresholds or an older report.
    Gated(Gated),
    /// The run is over.
    RunEnded(RunSummary),
}

/// What a run is about.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunInfo {
    /// Version of this program.
    pub version: String,
    /// What is judged: `server`, `http-server`, `client`, `run`, `replay`.
    pub mode: String,
    /// The subject in words: a command line, or a list of scenario paths.
    pub subject: String,
    /// Cases planned, where already known.
    pub cases: usize,
    /// Seed of every random choice.
    pub seed: u64,
    /// The command line that repeats the whole run, with what it is held against.
    pub repeat: String,
}

/// One server of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its name in the file of servers. The ids of its cases begin with it and a slash.
    pub name: String,
    /// Its command line as the file has it; none where it has none.
    pub command: Option<String>,
    /// Why it is not judged, where it is not.
    pub not_judged: Option<String>,
}

/// What came of one server of several.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServerReport {
    /// Its name in the file of servers. The ids of its cases begin with it and a slash.
    pub name: String,
    /// Its command line as the file has it; none where it has none.
    pub command: Option<String>,
    /// What it said of itself, where it came to speaking.
    pub subject: Option<SubjectInfo>,
    /// Its worst verdict.
    pub verdict: Option<Verdict>,
    /// Its judged cases by verdict.
    pub totals: Totals,
    /// Why it was not judged, where it was not.
    pub not_judged: Option<String>,
    /// The exit code that follows from its cases; the worst one is that of the run. None where the
    /// server is left out: then it counts for nothing.
    pub exit_code: Option<u8>,
}

/// What a server, or a client that is judged, said of itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SubjectInfo {
    /// Its name, from serverInfo.
    pub name: String,
    /// Its version, from serverInfo.
    pub version: String,
    /// Eras it answers in.
    pub eras: Vec<String>,
    /// Names of all its tools.
    pub tools: Vec<String>,
    /// Names of those that may be called unasked: read-only and closed-world.
    pub callable: Vec<String>,
    /// Launcher processes between client and server, by command.
    pub launchers: Vec<String>,
    /// From start to the answer of the handshake, in milliseconds.
    pub start_ms: u64,
    /// From end of stdin to exit, in milliseconds; none where the server did not exit.
    pub exit_ms: Option<u64>,
}

/// What became of the canary.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CanaryReport {
    /// Kinds of seeded leaks that were caught.
    pub caught: Vec<String>,
    /// Kinds of seeded leaks that were missed: the run is invalid.
    pub missed: Vec<String>,
    /// Where any was missed: what was found in its stead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instead: Vec<String>,
    /// What was blamed in the clean twin: the run is invalid.
    pub false_alarms: Vec<String>,
    /// The memory of the clean twin, where memory was weighed: how much it gains on this host without a
    /// leak.
    #[serde(default)]
    pub memory: Option<TwinMemory>,
    /// Why the canary could not be judged, if it could not.
    pub failure: Option<String>,
}

/// Memory of a server that leaks none.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TwinMemory {
    /// What it gained, in KiB a cycle.
    pub kib_per_cycle: f64,
    /// What it would have to gain before it is told, in KiB a cycle.
    pub bound_kib_per_cycle: f64,
    /// Over so many cycles.
    pub cycles: u32,
}

impl CanaryReport {
    /// Whether the run counts.
    pub fn holds(&self) -> bool {
        self.missed.is_empty() && self.false_alarms.is_empty() && self.failure.is_none()
    }
}

/// What came of holding a run against a baseline, thresholds or an older report.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Gated {
    /// Findings that are known and do not count, by the hash of their fingerprint, with the reason.
    pub known: BTreeMap<String, String>,
    /// How many findings of this run these are.
    pub accepted: usize,
    /// What is against this run, beside its verdicts: a stale or expired entry, a missed threshold, a
    /// finding that is new.
    pub against: Vec<String>,
    /// What is worth knowing and counts for nothing.
    pub told: Vec<String>,
    /// The exit code without all of this.
    pub exit_code_before: u8,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummary {
    /// Every server, where the run is about several.
    pub servers: Vec<ServerReport>,
    /// Every case, in the order of the plan.
    pub cases: Vec<CaseReport>,
    /// Cases planned but not judged, such as after an interrupt, with the cause.
    pub not_judged: Vec<(String, String)>,
    /// The canary, where the run came that far.
    pub canary: Option<CanaryReport>,
    /// The worst verdict.
    pub verdict: Option<Verdict>,
    /// Wall time.
    pub took: Duration,
    /// The exit code that follows, one of [`codes`].
    pub exit_code: u8,
    /// Whether the user interrupted the run.
    pub interrupted: bool,
    /// Which advisories count as leaks.
    pub strictness: Strictness,
}

/// Exit codes. Which one follows is decided in [`gate::exit`](crate::gate::exit).
pub mod codes {
    /// Clean; for scenarios, every expectation met.
    pub const CLEAN: u8 = 0;
    /// A leak, an unmet expectation, a lifecycle that failed, or a gate that was not passed.
    pub const LEAK: u8 = 1;
    /// Usage or scenario error.
    pub const USAGE: u8 = 2;
    /// Nothing judged, the subject did not start, or could not look.
    pub const NOT_JUDGED: u8 = 3;
    /// Harness error, or a run that does not count.
    pub const INVALID: u8 = 4;
    /// Interrupted.
    pub const INTERRUPTED: u8 = 130;
}
