//! Made-up runs for the tests of reporters and gate.

use std::{collections::BTreeMap, time::Duration};

use super::event::{
    CanaryReport, Event, RunInfo, RunSummary, ServerReport, SubjectInfo, TwinMemory,
};
use super::json::{Report, Totals};
use crate::ledger::{
    history::{Growth, Lifetime, Lives},
    snapshot::{FdKind, Identity, Kind, ProcessId},
    standing::Strictness,
    verdict::{
        CaseReport, Class, Crash, Culprit, Failure, Finding, Holder, StepRef, StepTiming, Tier,
        Verdict,
    },
};

const COMMAND: &str = "node dist/index.js --api-key abc123";

/// A step of a lifecycle.
pub(crate) fn step(place: &str, name: &str) -> StepRef {
    StepRef { place: place.into(), name: name.into(), cycle: None }
}

/// A case with nothing found.
pub(crate) fn case(id: &str, verdict: Verdict) -> CaseReport {
    let timing =
        |place, name, at_ms, took_ms| StepTiming { step: step(place, name), at_ms, took_ms };
    CaseReport {
        id: id.into(),
        lifecycle: id.into(),
        why: "The graceful end.".into(),
        subject: COMMAND.into(),
        era: Some("2025-11-25".into()),
        verdict,
        tier: Tier::Subreaper,
        cycles: 0,
        expected: None,
        met: verdict == Verdict::Clean,
        unmet: vec![],
        steps: vec![
            timing("1", "open", 0.0, 3.2),
            timing("2", "handshake", 3.2, 412.0),
            timing("3", "call echo", 415.2, 8.0),
            timing("4", "half-close stdin", 423.2, 16.4),
        ],
        lives: Lives::default(),
        figures: BTreeMap::from([("exit_after_due_ms".into(), 16.4)]),
        notes: vec![],
        crashes: vec![],
        findings: vec![],
        failure: None,
        unreadable: vec![],
        repeat: format!("scupper server --only {id} -- {COMMAND}"),
        swept: None,
        sdk: None,
    }
}

/// A server that ignores the end of its stdin.
pub(crate) fn process_finding() -> Finding {
    Finding {
        class: Class::Leak,
        kind: Kind::Process,
        what: "process 4711 (node dist/index.js)".into(),
        identities: vec![Identity::Process(ProcessId { pid: 4711, start_time: 1200 })],
        count: 1,
        birth_step: step("1", "open"),
        due_step: step("4", "half-close stdin"),
        culprit: Culprit::Server,
        blame: "it was started by the client and had nothing left to read".into(),
        rule: Some("2026-07-28 stdio N9".into()),
        hurts: "every closed connection leaves a server behind, with its memory".into(),
        site: None,
        holders: vec![Holder {
            pid: 4702,
            command: "sleep 1000".into(),
            holds: "write end of pipe:[123] as fd 5".into(),
        }],
        holders_unread: 3,
        evidence: vec![
            "pid 4711  ppid 4700 (scupper cell)  state S (sleeping)  node dist/index.js".into(),
            "still there 6.0 s after it was due, with 18 descriptors and 11 threads".into(),
        ],
        remedy: "on end of stdin, close transports and timers and let the process end".into(),
    }
}

/// A server that opens a pipe with every call.
fn fd_finding() -> Finding {
    let owner = ProcessId { pid: 4801, start_time: 1300 };
    Finding {
        class: Class::Leak,
        kind: Kind::Fd,
        what: "19 pipes of process 4801 (node dist/index.js)".into(),
        identities: vec![Identity::Fd {
            owner,
            number: 24,
            kind: FdKind::Pipe,
            target: "pipe:[88121]".into(),
            device: 14,
            inode: 88121,
            extra: String::new(),
        }],
        count: 19,
        birth_step: StepRef { cycle: Some(2), ..step("3.1", "call echo") },
        due_step: step("3", "repeat 20"),
        culprit: Culprit::Server,
        blame: "they are open in the server alone, one more in each of 19 cycles after warm-up"
            .into(),
        rule: None,
        hurts: "a server that lives for days runs into its limit of descriptors (EMFILE)".into(),
        site: Some("src/tools/echo.ts:41".into()),
        holders: (0..7)
            .map(|n| Holder {
                pid: 4810 + n,
                command: "cat".into(),
                holds: format!("read end of pipe:[{}] as fd 0", 88121 + n),
            })
            .collect(),
        holders_unread: 0,
        evidence: (0..10)
            .map(|n| format!("fd {}  pipe:[{}]  write end", 24 + n, 88121 + n))
            .collect(),
        remedy: "close the pipe when the call ends, also when it fails".into(),
    }
}

/// Memory that grows.
fn memory_advisory() -> Finding {
    Finding {
        class: Class::Advisory,
        kind: Kind::Memory,
        what: "112 KiB a cycle in process 4801 (node dist/index.js)".into(),
        identities: vec![],
        count: 1,
        birth_step: step("3", "repeat 20"),
        due_step: step("3", "repeat 20"),
        culprit: Culprit::Server,
        blame: "its resident set grew in 18 of 19 cycles; a heuristic".into(),
        rule: None,
        hurts: "it may be garbage not yet collected".into(),
        site: None,
        holders: vec![],
        holders_unread: 0,
        evidence: vec!["rss 68.0 MiB, then 70.1 MiB; slope 112 KiB a cycle, p < 0.01".into()],
        remedy: "repeat with --cycles 200 and see whether it levels off".into(),
    }
}

/// A server that aborts when its stdin ends.
pub(crate) fn crash(lives: u32) -> Crash {
    Crash { signal: "SIGABRT".into(), lives }
}

/// The subject never answered.
pub(crate) fn not_started() -> Failure {
    Failure {
        step: step("2", "handshake"),
        message: "the server exited with status 1 before it answered `initialize`".into(),
        output: vec![
            "Error: Cannot find module './dist/index.js'".into(),
            "    at Function.\u{1b}[31m_resolveFilename\u{1b}[0m (node:internal:1039:15)".into(),
        ],
        not_started: true,
        refused: false,
    }
}

/// A canary that holds.
pub(crate) fn canary() -> CanaryReport {
    CanaryReport {
        caught: ["process", "zombie", "fd", "thread", "file"].map(String::from).into(),
        missed: vec![],
        instead: vec![],
        false_alarms: vec![],
        memory: Some(TwinMemory { kib_per_cycle: 0.04, bound_kib_per_cycle: 12.8, cycles: 100 }),
        failure: None,
    }
}

/// What a run says first.
pub(crate) fn info(cases: usize) -> RunInfo {
    RunInfo {
        version: "0.1.0".into(),
        mode: "server".into(),
        subject: COMMAND.into(),
        cases,
        seed: 7,
        repeat: format!("scupper server --seed 7 -- {COMMAND}"),
    }
}

/// What the subject said.
pub(crate) fn subject() -> SubjectInfo {
    SubjectInfo {
        name: "mcp-servers/everything".into(),
        version: "2026.8.31".into(),
        eras: vec!["2025-11-25".into()],
        tools: ["echo", "add", "annotate"].map(String::from).into(),
        callable: vec!["echo".into()],
        launchers: vec!["npx".into(), "sh -c".into()],
        start_ms: 553,
        exit_ms: Some(16),
    }
}

/// One case of every kind: clean, two leaks of one cause, growth and an advisory, failed, unknown.
pub(crate) fn cases() -> Vec<CaseReport> {
    let mut clean = case("stdio/clean-close", Verdict::Clean);
    clean.crashes = vec![crash(1)];
    let leak = CaseReport {
        findings: vec![process_finding()],
        figures: BTreeMap::from([("exit_after_due_ms".into(), 6014.0)]),
        ..case("stdio/half-close", Verdict::Leak)
    };
    let mut same = process_finding();
    same.what = "process 4977 (node dist/index.js)".into();
    same.due_step = step("3", "close");
    let same = CaseReport {
        findings: vec![same.clone(), same],
        figures: leak.figures.clone(),
        ..case("stdio/close-during-call", Verdict::Leak)
    };
    let growth = CaseReport {
        findings: vec![fd_finding(), memory_advisory()],
        crashes: vec![crash(20)],
        cycles: 19,
        figures: BTreeMap::new(),
        notes: vec!["no false alarm in 1000 clean runs of this probe".into()],
        ..case("stdio/many-calls", Verdict::Leak)
    };
    let failed = CaseReport {
        failure: Some(Failure {
            step: step("3", "call echo"),
            message: "the server wrote a line to stdout that is no message; a log line belongs on \
                      stderr"
                .into(),
            output: vec!["stdout: listening …".into()],
            not_started: false,
            refused: false,
        }),
        ..case("stdio/cancel-then-close", Verdict::Failed)
    };
    let unknown = CaseReport {
        unreadable: vec!["descriptors of pid 5012 (node): permission denied (os error 13)".into()],
        ..case("stdio/kill-client", Verdict::Unknown)
    };
    vec![clean, leak, same, growth, failed, unknown]
}

/// How a run of these cases ended.
pub(crate) fn summary(cases: Vec<CaseReport>, exit_code: u8) -> RunSummary {
    RunSummary {
        servers: vec![],
        verdict: cases.iter().map(|case| case.verdict).max(),
        cases,
        not_judged: vec![],
        canary: Some(canary()),
        took: Duration::from_millis(14_200),
        exit_code,
        interrupted: false,
        strictness: Strictness::default(),
    }
}

/// The events of a run.
pub(crate) fn events(subject: Option<SubjectInfo>, summary: RunSummary) -> Vec<Event> {
    let mut events = vec![Event::RunStarted(info(summary.cases.len()))];
    events.extend(subject.map(Event::SubjectSeen));
    for case in &summary.cases {
        events.push(Event::CaseStarted { id: case.id.clone() });
        events.push(Event::CaseEnded(Box::new(case.clone())));
    }
    events.extend(summary.canary.clone().map(Event::CanaryEnded));
    events.push(Event::RunEnded(summary));
    events
}

/// The report of a run in which everything drained.
pub(crate) fn nothing() -> Report {
    let summary = summary(vec![case("stdio/clean-close", Verdict::Clean)], 0);
    Report::new(&info(1), Some(&subject()), &[], &summary)
}

/// One report with everything that a reporter may have to tell: a clean case, leaks of several kinds,
/// an advisory, a failure, what could not be looked at, a case that does not count, expectations that
/// are met and that are not, a server that was left out, and a case that was not judged.
pub(crate) fn everything() -> Report {
    let mut cases = cases();
    let invalid = case("stdio/churn", Verdict::Invalid);
    let met = CaseReport {
        expected: Some(Verdict::Leak),
        met: true,
        findings: vec![process_finding()],
        ..case("seeds/held-stdin", Verdict::Leak)
    };
    let unmet = CaseReport {
        expected: Some(Verdict::Leak),
        unmet: vec!["expected verdict leak, got clean".into()],
        met: false,
        ..case("seeds/zombie", Verdict::Clean)
    };
    let hostile = CaseReport {
        findings: vec![Finding {
            kind: Kind::Session,
            what: "2 sessions of <main>, 100% \u{1b}[31m\"kept\": a,b\r\n::error::x".into(),
            identities: vec![],
            count: 2,
            rule: None,
            evidence: vec!["log: GITHUB_TOKEN=abc123 | `x` @someone".into()],
            ..process_finding()
        }],
        ..case("http/delete", Verdict::Leak)
    };
    cases.extend([invalid, met, unmet, hostile]);
    let mut summary = summary(cases, 4);
    summary.not_judged = vec![("stdio/drop".into(), "the cell was killed by SIGKILL".into())];
    summary.servers = vec![ServerReport {
        name: "remote".into(),
        command: None,
        subject: None,
        verdict: None,
        totals: Totals::default(),
        not_judged: Some("it has a URL and no command".into()),
        exit_code: None,
    }];
    let mut report = Report::new(&info(11), Some(&subject()), &[], &summary);
    report.begun = Some("2026-11-22T04:24:06Z".into());
    report.files.insert("seeds/zombie".into(), "./scenarios/seeds/a zombie.toml".into());
    report
}

/// What was seen of a server that opens a pipe with every call, and of its helper.
pub(crate) fn lives() -> Lives {
    let life = |kind, what: &str, count, born, gone, finding| Lifetime {
        kind,
        what: what.into(),
        count,
        born,
        gone,
        finding,
    };
    let (open, close) = (step("1", "open"), Some(step("4", "half-close stdin")));
    let call = StepRef { cycle: Some(2), ..step("3.1", "call echo") };
    Lives {
        listed: vec![
            life(
                Kind::Process,
                "process 4801 (node dist/index.js)",
                1,
                open.clone(),
                close.clone(),
                None,
            ),
            life(Kind::Fd, "18 descriptors of pid 4801: fd 0 pipe:[1], …", 18, open, close, None),
            life(Kind::Fd, "fd 24 pipe:[88121] of pid 4801", 1, call, None, Some(0)),
        ],
        more: 3,
        growth: vec![Growth { kind: Kind::Fd, place: "3".into(), points: vec![(1, 18), (20, 37)] }],
    }
}
