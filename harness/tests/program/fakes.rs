//! Every misbehaving server is caught for the right reason, and its clean twin is not.
//!
//! One table, as data: what each fake must come to, which lifecycle must catch it, and how it must
//! be named. The test prints what came of it, and fails with every deviation at once.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::support::{Ended, Run, at_once};
use harness::ledger::snapshot::Kind;
use harness::ledger::verdict::{Class, Culprit, Finding, Verdict};
use harness::peer::fake::FAKES;
use harness::report::json::Report;

/// Runs at once. They mostly wait.
const AT_ONCE: usize = 6;
/// All cases of a run at once, so that their waits fall together.
const ALL_CASES: [&str; 2] = ["--jobs", "12"];
/// Life after life is a hundred times the life that the other lifecycles judge, and takes as long as all of
/// them: it is played where it is what catches, and on the server without fault.
const ONE_LIFE: [&str; 2] = ["--skip", "stdio/reconnect"];
/// Every kind that a server may leak but memory, to weigh which takes the canary a hundred lives. For runs
/// that are about other things.
pub(crate) const UNWEIGHED: [&str; 2] = ["--probe", "process,zombie,fd,thread,session,file"];
/// For leaky fakes: what leaks on purpose need not be waited for as long as by default.
const IMPATIENT: [&str; 2] = ["--leak-timeout", "3s"];

/// A fake and what must come of it.
struct Row {
    /// Name and options.
    fake: &'static [&'static str],
    /// Options of the run.
    options: &'static [&'static str],
    must: Must,
}

enum Must {
    /// Exit 1, and every finding of the run is a leak of this kind and culprit.
    Leak(Caught),
    /// This exit code and no leak, and every finding of the run is an advisory of this kind and
    /// culprit.
    Advisory(i32, Caught),
    /// Exit 3, nothing found, and all of these words in what is said of the cause.
    NotStarted(&'static [&'static str]),
    /// Exit 0. The figure must be at least this: it proves that the fake did misbehave.
    Clean(Option<(&'static str, f64)>),
}

/// What one lifecycle must say of a leak.
struct Caught {
    by: &'static str,
    kind: Kind,
    /// One of these steps.
    birth: &'static [&'static str],
    due: &'static str,
    culprit: Culprit,
    /// Beginning of the words in which the thing is named.
    what: &'static str,
    /// Part of the evidence.
    evidence: &'static str,
}

impl Row {
    /// Whose evidence must say this, too.
    const fn saying(mut self, evidence: &'static str) -> Self {
        if let Must::Leak(caught) | Must::Advisory(_, caught) = &mut self.must {
            caught.evidence = evidence;
        }
        self
    }

    /// Whether it is played life after life.
    fn lives_again(&self) -> bool {
        let is_caught_so = match &self.must {
            Must::Leak(caught) | Must::Advisory(_, caught) => caught.by == "stdio/reconnect",
            _ => false,
        };
        is_caught_so || self.fake == ["plain"]
    }

    /// Played with these options.
    const fn with(mut self, options: &'static [&'static str]) -> Self {
        self.options = options;
        self
    }

    /// Which is the launcher's fault.
    const fn of_launcher(mut self) -> Self {
        if let Must::Leak(caught) = &mut self.must {
            caught.culprit = Culprit::Launcher;
        }
        self
    }
}

const fn leak(
    fake: &'static [&'static str],
    kind: Kind,
    by: &'static str,
    birth: &'static [&'static str],
    due: &'static str,
    what: &'static str,
) -> Row {
    let culprit = Culprit::Server;
    let caught = Caught { by, kind, birth, due, culprit, what, evidence: "" };
    Row { fake, options: &[], must: Must::Leak(caught) }
}

/// What the memory of a server comes to that keeps some of it at each call.
const fn memory(code: i32, options: &'static [&'static str]) -> Row {
    let caught = Caught {
        by: "stdio/churn",
        kind: Kind::Memory,
        birth: &["step 3, repeat 21 (cycle 2)"],
        due: "step 3, repeat 21",
        culprit: Culprit::Server,
        what: "the server's memory grows by 1",
        evidence: "private memory in 8 stretches of 10 cycles",
    };
    Row { fake: &["memory-per-call"], options, must: Must::Advisory(code, caught) }
}

const fn not_started(
    fake: &'static [&'static str],
    options: &'static [&'static str],
    words: &'static [&'static str],
) -> Row {
    Row { fake, options, must: Must::NotStarted(words) }
}

/// The contract.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    leak(&["ignores-eof"], Kind::Process, "stdio/clean-close", &["step 1, open"], "step 4, close", "the server"),
    // Only a server that does not obey SIGTERM survives this lifecycle.
    leak(&["ignores-eof-and-term"], Kind::Process, "stdio/sigterm-idle", &["step 1, open"], "step 3, signal TERM server", "the server"),
    // Where more is asked after the list, no answer comes either; the leak stands beside that.
    leak(&["stops-reading-stdin"], Kind::Process, "stdio/clean-close", &["step 1, open"], "step 4, close", "the server"),
    leak(&["helper-setsid"], Kind::Process, "stdio/churn", &["step 3.1, call echo (cycle 1)"], "step 4, close", "a helper process"),
    leak(&["helper-double-fork"], Kind::Process, "stdio/churn", &["step 3.1, call echo (cycle 1)"], "step 4, close", "a helper process"),
    leak(&["helper-holds-stdout"], Kind::Process, "stdio/churn", &["step 3.1, call echo (cycle 1)"], "step 4, close", "a helper process")
        .saying("has the server's stdout"),
    // All of the tree in one finding. A larger one may take longer to grow than a call may last.
    leak(&["forks-without-end", "cap=30"], Kind::Process, "stdio/churn", &["step 3.1, call echo (cycle 1)"], "step 4, close", "a helper process"),
    leak(&["helper-same-group"], Kind::Process, "stdio/churn", &["step 3.1, call echo (cycle 1)"], "step 4, close", "a helper process"),
    // Started before the server reads anything; which look sees it first is a race.
    leak(&["helper-setsid", "at=start"], Kind::Process, "stdio/sigterm-idle", &["step 1, open", "step 2, handshake"], "step 3, signal TERM server", "a helper process"),
    // It obeys the end of stdin until it was called.
    leak(&["timer-after-call"], Kind::Process, "stdio/churn", &["step 1, open"], "step 4, close", "the server"),
    // What grows is counted from the second cycle on: the first is the warm-up. One round of 20
    // cycles makes it suspect, the second makes it sure.
    leak(&["child-per-call"], Kind::Process, "stdio/churn", &["step 3.1, call echo (cycle 2)"], "step 3, repeat 21", "40 processes"),
    leak(&["zombie"], Kind::Zombie, "stdio/churn", &["step 3.1, call echo (cycle 2)"], "step 3, repeat 21", "40 zombies"),
    leak(&["fd-per-call"], Kind::Fd, "stdio/churn", &["step 3.1, call echo (cycle 2)"], "step 3, repeat 21", "40 descriptors on sockets"),
    leak(&["listener-per-call"], Kind::Fd, "stdio/churn", &["step 3.1, call echo (cycle 2)"], "step 3, repeat 21", "40 descriptors on sockets")
        .saying(" (listening)"),
    // The number of descriptors never moves, so that a count cannot catch it: only identity does.
    leak(&["fd-swap"], Kind::Fd, "stdio/churn", &["step 3.1, call echo (cycle 2)"], "step 3, repeat 21", "40 descriptors on sockets"),
    // A call has to last until it is cancelled, and such calls make for long rounds elsewhere.
    // Notifications are not answered: which look sees the descriptor first is a race.
    leak(&["leaks-on-cancel"], Kind::Fd, "stdio/cancel-churn", &["step 3.2, cancel (cycle 2)", "step 3.3, request tools/list (cycle 2)"], "step 3, repeat 21", "40 descriptors on sockets")
        .with(&["--call", "sleep={\"ms\":3000}", "--skip", "stdio/churn", "--skip", "stdio/reconnect"]),
    // Two more in each round of 20 cycles: it takes all five rounds to be sure.
    leak(&["leaks-every-tenth"], Kind::Fd, "stdio/churn", &["step 3.1, call echo (cycle 10)"], "step 3, repeat 21", "10 descriptors on sockets"),
    leak(&["thread-per-call"], Kind::Thread, "stdio/churn", &["step 3.1, call echo (cycle 2)"], "step 3, repeat 21", "40 threads"),
    leak(&["tempfile-per-call"], Kind::File, "stdio/churn", &["step 3.1, call echo (cycle 2)"], "step 3, repeat 21", "40 temporary files"),
    // The launcher starts the server; which look sees it first, that after `open` or that after
    // `handshake`, is a race.
    leak(&["wrapper"], Kind::Process, "stdio/sigterm-idle", &["step 1, open", "step 2, handshake"], "step 3, signal TERM server", "the server").of_launcher(),
    leak(&["wrapper-holds-stdin"], Kind::Process, "stdio/clean-close", &["step 1, open", "step 2, handshake"], "step 4, close", "the server").of_launcher(),
    leak(&["gateway"], Kind::Process, "stdio/clean-close", &["step 1, open", "step 2, handshake"], "step 4, close", "a backend of the server"),
    // The second life does not start, and says so; what it met is what counts.
    leak(&["lock-file"], Kind::File, "stdio/reconnect", &["step 1.1, open (cycle 1)", "step 1.2, handshake (cycle 1)"], "step 1.4, close (cycle 1)", "a temporary file that keeps the next life from starting")
        .saying("scupper-fake.lock"),
    memory(0, &[]),
    memory(1, &["--strict-memory"]),

    not_started(&["crash-at-byte"], &[], &["exited with code 1 before it answered initialize", "crashed after 40 of"]),
    not_started(&["exits-before-initialize"], &[], &["exited with code 1 before it answered initialize", "stderr: error: API_KEY is not set"]),
    not_started(&["never-answers"], &["--start-timeout", "2s"], &["no answer to initialize in time", "is this an MCP server"]),
    not_started(&["garbage"], &["--start-timeout", "2s"], &["1 line of other text", "stdout: ?!initialize"]),
    not_started(&["banner-before-json"], &[], &["a banner or a log line belongs on stderr", "stdout: My MCP server v1.0"]),
    not_started(&["half-a-line"], &["--start-timeout", "2s"], &["the beginning of a line and not its end", "stdout, no newline yet: {\"id\":1"]),
    not_started(&["endless-line"], &["--start-timeout", "5s"], &["a line of 8 MiB or more did", "end each message with a newline", "stdout: {\"jsonrpc\":\"2.0\",\"endless\":\"xxxx"]),
    not_started(&["invalid-utf8"], &["--start-timeout", "2s"], &["1 line that is not UTF-8", "Caf\u{fffd}"]),
    not_started(&["closes-stdout-stays"], &[], &["closed its stdout before it answered initialize, and stays"]),
    not_started(&["wrong-era"], &["--era", "2025-11-25"], &["2026-07-28", "say so with --era"]),

    Row { fake: &["slow-exit"], options: &["--cycles", "5"], must: Must::Clean(Some(("exit_after_due_ms", 1_500.0))) },
    Row { fake: &["busy-until-done"], options: &["--cycles", "5", "--call", "sleep={\"ms\":700}"], must: Must::Clean(Some(("exit_after_due_ms", 300.0))) },
    Row { fake: &["floods-stdout"], options: &[], must: Must::Clean(None) },
    Row { fake: &["floods-stderr"], options: &[], must: Must::Clean(None) },
    Row { fake: &["wrong-era"], options: &[], must: Must::Clean(None) },
    Row { fake: &["plain"], options: &[], must: Must::Clean(None) },
];

#[test]
fn every_fake_is_caught_for_the_right_reason_and_its_twin_is_clean() {
    let mut runs: Vec<(&Row, bool)> = Vec::new();
    for row in TABLE {
        runs.push((row, false));
        let has_twin = FAKES.iter().any(|fake| fake.name == row.fake[0] && fake.has_twin);
        if has_twin {
            runs.push((row, true));
        }
    }
    let lines = at_once(AT_ONCE, &runs, |(row, fixed)| play(row, *fixed));
    let mut table = vec![Line::heading()];
    let mut deviations = Vec::new();
    for (line, wrong) in lines {
        deviations.extend(wrong.into_iter().map(|wrong| format!("{}: {wrong}", line.0[0])));
        table.push(line);
    }
    println!("{}", render(&table));
    assert!(deviations.is_empty(), "{} deviations:\n{}", deviations.len(), deviations.join("\n"));
}

/// Fakes that are not in the table: the canary is every leak of it at once and runs along with each
/// run; the other is for the byte sweep, and the battery does not see it.
const ELSEWHERE: &[&str] = &["canary", "leaks-mid-message"];

#[test]
fn every_fake_is_in_the_table() {
    let rows: BTreeSet<&str> = TABLE.iter().map(|row| row.fake[0]).collect();
    let listed: BTreeSet<&str> = FAKES.iter().map(|fake| fake.name).collect();
    let expected = rows.union(&ELSEWHERE.iter().copied().collect()).copied().collect();
    assert_eq!(listed, expected);
}

/// Runs a fake or its twin; gives back its line of the table and what is not as it must be.
fn play(row: &Row, fixed: bool) -> (Line, Vec<String>) {
    let leaky = !fixed && matches!(row.must, Must::Leak(_) | Must::Advisory(..));
    let patience: &[&str] = if leaky { &IMPATIENT } else { &[] };
    let twin: &[&str] = if fixed { &["--fixed"] } else { &[] };
    let lives: &[&str] = if row.lives_again() { &[] } else { &ONE_LIFE };
    // A leak is of one kind. Whether memory is seen where it does not grow, the twins show.
    let weighed =
        !leaky || matches!(&row.must, Must::Advisory(_, caught) if caught.kind == Kind::Memory);
    let kinds: &[&str] = if weighed { &[] } else { &UNWEIGHED };
    let options = [&ALL_CASES, patience, lives, kinds, row.options].concat();
    let ended = Run::fake(&options, &[row.fake, twin].concat(), &[]).end();
    let report = ended.report();
    let mut wrong = match (&row.must, fixed) {
        (Must::Leak(caught), false) => {
            deviations_of_finding(1, Class::Leak, caught, &ended, &report)
        }
        (Must::Advisory(code, caught), false) => {
            deviations_of_finding(*code, Class::Advisory, caught, &ended, &report)
        }
        (Must::NotStarted(words), false) => deviations_of_start(words, &ended, &report),
        (Must::Clean(figure), false) => deviations_of_clean(*figure, &ended, &report),
        (_, true) => deviations_of_clean(None, &ended, &report),
    };
    let (processes, files) = ended.left();
    if !processes.is_empty() || !files.is_empty() {
        wrong.push(format!("left {processes:?} and {files:?}"));
    }
    let words = [row.fake, twin].concat().join(" ");
    (Line::of(&words, row, fixed, &ended, &report), wrong)
}

fn deviations_of_finding(
    code: i32,
    class: Class,
    caught: &Caught,
    ended: &Ended,
    report: &Report,
) -> Vec<String> {
    let mut wrong = exit_code(code, ended, report);
    let of_case = report.cases.iter().find(|case| case.lifecycle == caught.by);
    match of_case.map(|case| case.findings.as_slice()) {
        Some([finding]) => {
            let birth = finding.birth_step.to_string();
            let due = finding.due_step.to_string();
            let as_it_must = finding.class == class
                && finding.kind == caught.kind
                && caught.birth.contains(&birth.as_str())
                && due == caught.due
                && finding.culprit == caught.culprit
                && finding.what.starts_with(caught.what)
                && finding.evidence.iter().any(|line| line.contains(caught.evidence));
            if !as_it_must {
                wrong.push(format!("{} says: {}", caught.by, in_words(finding)));
            }
        }
        Some(findings) => wrong.push(format!("{} has {} findings", caught.by, findings.len())),
        None => wrong.push(format!("{} was not played", caught.by)),
    }
    for case in &report.cases {
        for finding in &case.findings {
            if (finding.class, finding.kind, finding.culprit)
                != (class, caught.kind, caught.culprit)
            {
                wrong.push(format!("{} says besides: {}", case.id, in_words(finding)));
            }
        }
        let leaks = case.findings.iter().any(|finding| finding.class == Class::Leak);
        if case.verdict != if leaks { Verdict::Leak } else { Verdict::Clean } {
            wrong.push(format!("{} is {}: {:?}", case.id, case.verdict, case.failure));
        }
    }
    wrong
}

fn deviations_of_start(words: &[&str], ended: &Ended, report: &Report) -> Vec<String> {
    let mut wrong = exit_code(3, ended, report);
    let [case] = report.cases.as_slice() else {
        return vec![format!("{} cases instead of one", report.cases.len())];
    };
    wrong.extend(case.findings.iter().map(|finding| format!("found {}", in_words(finding))));
    let Some(failure) = &case.failure else { return vec!["no failure is told".to_owned()] };
    if !failure.not_started {
        wrong.push("it counts as started".to_owned());
    }
    let said = format!("{}\n{}", failure.message, failure.output.join("\n"));
    let missing = words.iter().filter(|word| !said.contains(**word));
    wrong.extend(missing.map(|word| format!("{word:?} is not in: {said}")));
    wrong
}

fn deviations_of_clean(figure: Option<(&str, f64)>, ended: &Ended, report: &Report) -> Vec<String> {
    let mut wrong = exit_code(0, ended, report);
    for case in &report.cases {
        wrong.extend(case.findings.iter().map(|one| format!("{}: {}", case.id, in_words(one))));
        if case.verdict != Verdict::Clean {
            wrong.push(format!("{} is {}: {:?}", case.id, case.verdict, case.failure));
        }
    }
    if let Some((name, least)) = figure {
        let most = report.cases.iter().filter_map(|case| case.figures.get(name)).copied();
        let most = most.fold(0.0, f64::max);
        if most < least {
            wrong.push(format!("{name} is {most} at most and must come to {least}"));
        }
    }
    wrong
}

fn exit_code(must: i32, ended: &Ended, report: &Report) -> Vec<String> {
    let mut wrong = Vec::new();
    if ended.code != must {
        let said = format!("{}{}", ended.stdout, ended.stderr);
        wrong.push(format!("exit code {} instead of {must}\n{said}", ended.code));
    }
    if i32::from(report.exit_code) != ended.code {
        wrong.push(format!("the report says exit code {}", report.exit_code));
    }
    wrong
}

fn in_words(finding: &Finding) -> String {
    format!(
        "{:?} of {} of the {}: {}, born at {}, due at {}: {:?}",
        finding.class,
        finding.kind,
        finding.culprit,
        finding.what,
        finding.birth_step,
        finding.due_step,
        finding.evidence
    )
}

/// A line of the table that the test prints.
struct Line([String; 9]);

impl Line {
    fn heading() -> Self {
        let words = [
            "fake",
            "exit",
            "verdict",
            "kind",
            "birth step",
            "due step",
            "culprit",
            "s",
            "caught by",
        ];
        Self(words.map(str::to_owned))
    }

    fn of(words: &str, row: &Row, fixed: bool, ended: &Ended, report: &Report) -> Self {
        let by = match &row.must {
            Must::Leak(caught) | Must::Advisory(_, caught) if !fixed => caught.by,
            _ => "",
        };
        let findings = report.cases.iter().filter(|case| case.lifecycle == by);
        let finding = findings.flat_map(|case| &case.findings).next();
        let tell = |what: fn(&Finding) -> String| finding.map(what).unwrap_or_default();
        let caught: BTreeSet<&str> = report
            .cases
            .iter()
            .filter(|case| !case.findings.is_empty())
            .map(|case| case.lifecycle.trim_start_matches("stdio/"))
            .collect();
        let cause = report.cases.iter().find_map(|case| case.failure.as_ref());
        let cause = cause.map(|failure| failure.message.chars().take(60).collect::<String>());
        Self([
            words.to_owned(),
            ended.code.to_string(),
            report.verdict.map(|verdict| verdict.to_string()).unwrap_or_default(),
            tell(|finding| finding.kind.to_string()),
            tell(|finding| finding.birth_step.to_string()),
            tell(|finding| finding.due_step.to_string()),
            tell(|finding| finding.culprit.to_string()),
            format!("{:.1}", ended.took.as_secs_f64()),
            cause.unwrap_or_else(|| caught.into_iter().collect::<Vec<_>>().join(" ")),
        ])
    }
}

fn render(lines: &[Line]) -> String {
    let mut text = String::new();
    for Line(cells) in lines {
        for (column, cell) in cells.iter().enumerate() {
            let width = lines.iter().map(|line| line.0[column].chars().count()).max().unwrap_or(0);
            let _ = write!(text, "{cell:width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}
