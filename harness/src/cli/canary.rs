//! The run's own proof: a leak of each kind that must be caught, and a clean twin that must not be
//! blamed.

use std::collections::BTreeSet;

use crate::ledger::snapshot::Kind;
use crate::ledger::verdict::{CaseReport, Class, Culprit, Finding};
use crate::plan::client::Transport;
use crate::plan::{self, Case, Choices};
use crate::report::event::{CanaryReport, TwinMemory};
use crate::runner::Outcome;

/// Most findings that are told where a seeded leak was missed.
const INSTEAD: usize = 5;

/// A canary, before it has flown.
pub struct Canary {
    /// Pairs of a leaky one and its clean twin.
    pub cases: Vec<Case>,
    kinds: &'static [Kind],
    seeded: fn(Kind, &Finding) -> bool,
}

impl Canary {
    /// A server that leaks each kind.
    pub fn of_servers(choices: &Choices) -> Self {
        Self {
            cases: plan::canary(choices).to_vec(),
            kinds: &[Kind::Process, Kind::Zombie, Kind::Fd, Kind::Thread, Kind::File],
            seeded: in_a_server,
        }
    }

    /// An HTTP server that does.
    pub fn of_http_servers(choices: &Choices) -> Self {
        Self {
            cases: plan::http::canary(choices).to_vec(),
            kinds: &[
                Kind::Process,
                Kind::Zombie,
                Kind::Fd,
                Kind::Thread,
                Kind::File,
                Kind::Session,
            ],
            seeded: in_an_http_server,
        }
    }

    /// A client that does.
    pub fn of_clients(transport: Transport, choices: &Choices) -> Self {
        let cases = plan::client::canary(transport, choices).to_vec();
        match transport {
            Transport::Stdio => {
                Self { cases, kinds: &[Kind::Process, Kind::Zombie, Kind::Fd], seeded: in_a_client }
            }
            Transport::Http => Self {
                cases,
                kinds: &[Kind::Process, Kind::Zombie, Kind::Fd, Kind::Session],
                seeded: in_a_client_over_http,
            },
        }
    }

    /// Where memory is weighed in one of these cases, with a server that leaks it.
    pub fn with_memory(mut self, judged: &[Case], choices: &Choices) -> Self {
        if judged.iter().any(plan::weighs_memory) {
            self.cases.extend(plan::memory_canary(choices));
        }
        self
    }

    /// What became of it, judged on the kinds that this run judges.
    pub fn report(&self, outcomes: Vec<Option<Outcome>>, judged: &BTreeSet<Kind>) -> CanaryReport {
        let mut report = CanaryReport {
            caught: Vec::new(),
            missed: Vec::new(),
            instead: Vec::new(),
            false_alarms: Vec::new(),
            memory: None,
            failure: None,
        };
        let mut reports = Vec::new();
        for outcome in outcomes {
            match outcome {
                Some(Outcome::Judged(case, _)) => reports.push(*case),
                Some(Outcome::NotJudged(cause) | Outcome::NotApplicable(cause)) => {
                    report.failure = Some(cause);
                }
                Some(Outcome::Screened) | None => {
                    report.failure = Some("it was not run".to_owned())
                }
            }
        }
        if reports.len() != self.cases.len() {
            return report;
        }
        for (at, pair) in reports.chunks_exact(2).enumerate() {
            let [leaky, clean] = pair else { continue };
            let of_memory = (&[Kind::Memory][..], memory_of_a_server as fn(Kind, &Finding) -> bool);
            let (kinds, seeded) = if at == 0 { (self.kinds, self.seeded) } else { of_memory };
            let missed_before = report.missed.len();
            for kind in kinds.iter().filter(|kind| judged.contains(kind)) {
                let caught = leaky.findings.iter().any(|finding| seeded(*kind, finding));
                let list = if caught { &mut report.caught } else { &mut report.missed };
                list.push(kind.as_str().to_owned());
            }
            if report.missed.len() > missed_before {
                report.instead.extend(leaky.findings.iter().take(INSTEAD).map(in_a_line));
            }
            report.false_alarms.extend(clean.findings.iter().map(|finding| finding.what.clone()));
            if at > 0 {
                report.memory = memory_of_twin(clean);
            }
            for case in pair {
                if let Some(failure) = &case.failure {
                    report.failure = Some(failure.message.clone());
                } else if !case.unreadable.is_empty() {
                    report.failure =
                        Some(format!("could not look: {}", case.unreadable.join("; ")));
                }
            }
        }
        report
    }
}

/// What became of all canaries of a run: each kind once, and whatever went wrong with any of them.
pub fn of_all(reports: impl Iterator<Item = CanaryReport>) -> CanaryReport {
    let mut all = CanaryReport {
        caught: Vec::new(),
        missed: Vec::new(),
        instead: Vec::new(),
        false_alarms: Vec::new(),
        memory: None,
        failure: None,
    };
    for report in reports {
        for (list, more) in [(&mut all.caught, report.caught), (&mut all.missed, report.missed)] {
            let new: Vec<String> = more.into_iter().filter(|kind| !list.contains(kind)).collect();
            list.extend(new);
        }
        all.instead.extend(report.instead);
        all.false_alarms.extend(report.false_alarms);
        all.memory = all.memory.or(report.memory);
        all.failure = all.failure.or(report.failure);
    }
    all.caught.retain(|kind| !all.missed.contains(kind));
    all
}

/// Kind, culprit and steps, by which a canary is known.
fn in_a_line(finding: &Finding) -> String {
    let Finding { class, kind, culprit, birth_step, due_step, .. } = finding;
    let class = if *class == Class::Leak { "leak" } else { "advisory" };
    format!("{class}[{kind}] of the {culprit}, born at {birth_step}, due at {due_step}")
}

/// How much the memory of the clean twin gained by itself.
fn memory_of_twin(twin: &CaseReport) -> Option<TwinMemory> {
    let figure = |name: &str| twin.figures.get(name).copied();
    Some(TwinMemory {
        kib_per_cycle: figure("private_kib_per_cycle").or(figure("rss_kib_per_cycle"))?,
        bound_kib_per_cycle: figure("memory_bound_kib_per_cycle")?,
        cycles: twin.cycles,
    })
}

/// Whether a finding is the seeded leak of this kind, caught for the right reason. The one of
/// processes is the helper that outlives its server; children that pile up are found by growth.
fn in_a_server(kind: Kind, finding: &Finding) -> bool {
    let due = if kind == Kind::Process { "close" } else { "repeat" };
    finding.kind == kind
        && finding.class == Class::Leak
        && finding.culprit == Culprit::Server
        && finding.birth_step.name == "call echo"
        && finding.due_step.name.starts_with(due)
}

/// The same of a server that keeps memory.
fn memory_of_a_server(kind: Kind, finding: &Finding) -> bool {
    finding.kind == kind
        && finding.class == Class::Advisory
        && finding.culprit == Culprit::Server
        && finding.due_step.name.starts_with("repeat")
}

/// The same of an HTTP server: the helper that outlives it, sessions that answer after DELETE, and what
/// grows with each session.
fn in_an_http_server(kind: Kind, finding: &Finding) -> bool {
    let due = match kind {
        Kind::Process => "end of the lifecycle",
        Kind::Session => "close",
        _ => "repeat",
    };
    finding.kind == kind
        && finding.class == Class::Leak
        && finding.culprit == Culprit::Server
        && finding.due_step.name.starts_with(due)
}

/// The same of a client: the server that it gives up, the one that it never reaps, and the
/// descriptor that it hands on.
fn in_a_client(kind: Kind, finding: &Finding) -> bool {
    let (birth, due) = match kind {
        Kind::Fd => ("client starts server 2", "client starts server 2"),
        Kind::Process => ("client starts server 2", "client at rest"),
        _ => ("client starts server 1", "client at rest"),
    };
    finding.kind == kind
        && finding.class == Class::Leak
        && finding.culprit == Culprit::Client
        && finding.birth_step.name == birth
        && finding.due_step.name == due
}

/// The same over HTTP: the helper and the zombie that it starts when its first session has begun, that
/// session's stream, and a second session that it does not end.
fn in_a_client_over_http(kind: Kind, finding: &Finding) -> bool {
    let (birth, due) = match kind {
        Kind::Session => ("client sends initialize", "client exits"),
        Kind::Process => ("client opens a stream", "client exits"),
        _ => ("client opens a stream", "client at rest"),
    };
    finding.kind == kind
        && finding.class == Class::Leak
        && finding.culprit == Culprit::Client
        && finding.birth_step.name == birth
        && finding.due_step.name == due
}
