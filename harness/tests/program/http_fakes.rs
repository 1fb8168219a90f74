//! Every misbehaving server over HTTP is caught for the right reason, and its clean twin is not.
//!
//! One table, as data: what each fake must come to, which lifecycle must catch it, and how it must
//! be named. The test prints what came of it, and fails with every deviation at once.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::fakes::UNWEIGHED;
use crate::support::{Ended, Run, SCUPPER, at_once};
use harness::ledger::snapshot::Kind;
use harness::ledger::verdict::CaseReport;
use harness::ledger::verdict::{Class, Culprit, Finding, StepRef, Verdict};
use harness::peer::fake::HTTP_FAKES;
use harness::report::json::Report;

/// Runs at once. They mostly wait.
const AT_ONCE: usize = 5;
/// For leaky fakes: what leaks on purpose need not be waited for as long as by default.
const IMPATIENT: [&str; 2] = ["--leak-timeout", "3s"];
/// Of calls that must last until the moment has come.
const SLEEP: [&str; 2] = ["--call", "sleep={\"ms\":3000}"];
/// Of what the newer era has and the older has not.
const MODERN: [&str; 2] = ["--era", "2026-07-28"];
/// For faults that need an end of idle sessions: a second more than the fakes are given, which is long
/// enough that no session ends between two requests on a busy host.
const TTL: [&str; 2] = ["--session-ttl", "6s"];

/// A fake and what must come of it.
struct Row {
    /// Name and options.
    fake: &'static [&'static str],
    /// The lifecycle that must catch it, without `http/`; none plays all of them.
    by: &'static str,
    /// Options of the run.
    options: &'static [&'static str],
    must: Must,
}

enum Must {
    /// Exit 1, and a leak as told.
    Leak(Caught),
    /// Exit 0, and an advisory as told.
    Advisory(Caught),
    /// Exit 1, nothing found, and all of these words in what failed.
    Failed(&'static [&'static str]),
    /// Exit 3, nothing found, and all of these words in what is said of the cause.
    NotStarted(&'static [&'static str]),
    /// Exit 0. The figure must be at least this: it proves that the fake did misbehave.
    Clean(Option<(&'static str, f64)>),
}

/// What the lifecycle must say: the kind, the beginning of the words in which the thing is named,
/// the step in which it was born, or either of two where the look that sees it first is a race, and that
/// by which it was due.
struct Caught(Kind, &'static str, &'static str, &'static str);

const fn row(fake: &'static [&'static str], by: &'static str, must: Must) -> Row {
    Row { fake, by, options: &[], must }
}

impl Row {
    /// Played with these options.
    const fn with(mut self, options: &'static [&'static str]) -> Self {
        self.options = options;
        self
    }
}

const fn leak(kind: Kind, what: &'static str, birth: &'static str, due: &'static str) -> Must {
    Must::Leak(Caught(kind, what, birth, due))
}

/// Grows with each session, also with those that are ended well.
const fn grows(fake: &'static [&'static str], kind: Kind) -> Row {
    let must = leak(kind, "", "handshake (cycle 2)", "repeat 21");
    row(fake, "reconnect", must)
}

/// The server itself stays upon a signal.
const fn stays(fake: &'static [&'static str], by: &'static str, due: &'static str) -> Row {
    row(fake, by, leak(Kind::Process, "the server", "start", due))
}

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // Nobody is answered any more, which takes its time: the others fill it.
    row(&["stalled-reader-blocks"], "stream-unread", Must::Failed(&["no answer in time", "client main has read nothing since step 5, stall events", "KiB for it (127.0.0.1:", "must not hold up client other"]))
        .with(&["--start-timeout", "10s"]),
    row(&["keeps-deleted-sessions"], "clean-close", leak(Kind::Session, "a session that was ended by DELETE", "handshake", "close")),
    row(&["forgets-abandoned", "ttl=5000"], "client-killed", leak(Kind::Session, "an abandoned session", "handshake", "kill client"))
        .with(&TTL),
    grows(&["fd-per-session"], Kind::Fd),
    row(&["keeps-sockets"], "clean-close", leak(Kind::Fd, "1 socket to clients that have gone", "open", "close")),
    grows(&["thread-per-session"], Kind::Thread),
    grows(&["child-per-session"], Kind::Process),
    grows(&["zombie-per-session"], Kind::Zombie),
    grows(&["tempfile-per-session"], Kind::File),
    grows(&["gateway"], Kind::Process),
    row(&["memory-per-session"], "reconnect", Must::Advisory(Caught(Kind::Memory, "the server's memory grows", "repeat 21 (cycle 2)", "repeat 21"))),
    row(&["stream-stays", "ttl=5000"], "client-killed", leak(Kind::Fd, "1 socket to clients that have gone", "listen", "kill client"))
        .with(&TTL),
    row(&["stream-stays"], "client-killed", leak(Kind::Fd, "1 socket to clients that have gone", "listen", "kill client")),
    row(&["stream-stays"], "client-killed", leak(Kind::Fd, "1 socket to clients that have gone", "listen", "kill client"))
        .with(&MODERN),
    row(&["child-per-subscription"], "stream-lost", leak(Kind::Process, "", "listen (cycle 2)", "repeat 21"))
        .with(&MODERN),
    row(&["half-open"], "unfinished-body", leak(Kind::Fd, "", "send 20 bytes (cycle 2)", "repeat 21")),
    row(&["runs-on-after-cancel"], "cancel", leak(Kind::Process, "", "call sleep (cycle 2) or request tools/list (cycle 2) or cancel (cycle 2)", "repeat 21"))
        .with(&SLEEP),
    row(&["stops-on-disconnect"], "request-abandoned", Must::Advisory(Caught(Kind::Process, "the work for a call that was stopped", "call sleep", "abandon")))
        .with(&SLEEP),
    row(&["runs-on-after-cancel"], "request-abandoned", Must::Advisory(Caught(Kind::Process, "the work for a call that went on", "call sleep", "abandon")))
        .with(&[MODERN[0], MODERN[1], SLEEP[0], SLEEP[1]]),
    stays(&["stalled-at-term"], "sigterm-stalled-reader", "signal TERM server"),
    stays(&["ignores-term"], "clean-close", "signal TERM server"),
    stays(&["ignores-term-with-stream"], "sigterm-open-streams", "signal TERM server"),
    stays(&["ignores-term-with-stream"], "sigterm-open-streams", "signal TERM server").with(&MODERN),
    stays(&["busy-at-term"], "sigterm-busy", "signal TERM server").with(&SLEEP),
    stays(&["second-signal-hangs", "ms=1500"], "two-signals", "signal TERM server").with(&SLEEP),
    row(&["helper-keeps-port"], "restart", leak(Kind::Process, "a helper process", "start", "signal TERM server")),
    row(&["slow-exit"], "sigint-idle", Must::Clean(Some(("exit_after_due_ms", 1_500.0)))),

    row(&["never-listens"], "clean-close", Must::NotStarted(&["nothing listened at", "none of its processes listens"]))
        .with(&["--start-timeout", "3s"]),
    row(&["listens-elsewhere"], "clean-close", Must::NotStarted(&["nothing listened at", "the command listens elsewhere"]))
        .with(&["--start-timeout", "3s"]),
    row(&["answers-500"], "clean-close", Must::NotStarted(&["answered 500", "database is not configured"])),
    row(&["speaks-tls"], "clean-close", Must::NotStarted(&["speaks no HTTP", "TLS"])),
    row(&["needs-token"], "clean-close", Must::NotStarted(&["answered 401", "--header"])),
    row(&["not-found"], "clean-close", Must::NotStarted(&["answered 404"])),
    row(&["needs-token"], "clean-close", Must::Clean(None)).with(&["--header", "Authorization: Bearer open-sesame"]),

    // Every lifecycle, in each way of speaking.
    row(&["plain", "ttl=5000"], "", Must::Clean(None)).with(&TTL),
    row(&["plain"], "", Must::Clean(None)).with(&MODERN),
    row(&["plain", "transport=sse"], "", Must::Clean(None)),
];

#[test]
fn every_fake_is_caught_for_the_right_reason_and_its_twin_is_clean() {
    let mut runs: Vec<(&Row, bool)> = Vec::new();
    for row in TABLE {
        runs.push((row, false));
        // A twin that is the plain server plays every lifecycle in rows of its own.
        let own_twin =
            |name| HTTP_FAKES.iter().any(|fake| fake.name == name && fake.has_own_twin());
        if own_twin(row.fake[0]) {
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

/// Fakes that are not in the table: the canary is several leaks of it at once and runs along with each
/// run, and what is for the byte sweep, the battery does not see.
const ELSEWHERE: &[&str] = &["http-canary", "leaks-mid-request"];

#[test]
fn every_fake_is_in_the_table() {
    let rows = TABLE.iter().map(|row| row.fake[0]).chain(ELSEWHERE.iter().copied()).collect();
    let listed: BTreeSet<&str> = HTTP_FAKES.iter().map(|fake| fake.name).collect();
    assert_eq!(listed, rows);
}

/// Runs a fake or its twin; gives back its line of the table and what is not as it must be.
fn play(row: &Row, fixed: bool) -> (Line, Vec<String>) {
    let lifecycle = format!("http/{}", row.by);
    let only: &[&str] = if row.by.is_empty() { &["--jobs", "12"] } else { &["--only", &lifecycle] };
    let leaky = !fixed && !matches!(row.must, Must::Clean(_));
    let patience: &[&str] = if leaky { &IMPATIENT } else { &[] };
    let twin: &[&str] = if fixed { &["--fixed"] } else { &[] };
    let weighed = !leaky || matches!(row.must, Must::Advisory(Caught(Kind::Memory, ..)));
    let kinds: &[&str] = if weighed { &[] } else { &UNWEIGHED };
    let options =
        [&["--http", "http://127.0.0.1:{port}/mcp"], only, patience, kinds, row.options].concat();
    let url = if row.fake.contains(&"transport=sse") { "/sse" } else { "/mcp" };
    let options: Vec<String> = options.iter().map(|word| word.replace("/mcp", url)).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let command = [&[SCUPPER, "fake"], row.fake, twin, &["--http", "{port}"]].concat();
    let ended = Run::server(&options, &command, &[]).end();
    let report = ended.report();
    let case = report.cases.iter().find(|case| case.lifecycle == lifecycle);
    let mut wrong = match (&row.must, fixed) {
        (Must::Leak(caught), false) => deviations_of_finding(Class::Leak, caught, case),
        (Must::Advisory(caught), false) => deviations_of_finding(Class::Advisory, caught, case),
        (Must::Failed(words) | Must::NotStarted(words), false) => {
            deviations_of_failure(words, &report)
        }
        (Must::Clean(figure), false) => deviations_of_clean(*figure, &report),
        (_, true) => deviations_of_clean(None, &report),
    };
    let code = match (&row.must, fixed) {
        (Must::Leak(_) | Must::Failed(_), false) => 1,
        (Must::NotStarted(_), false) => 3,
        _ => 0,
    };
    if (ended.code, i32::from(report.exit_code)) != (code, code) {
        let said = format!("{}{}", ended.stdout, ended.stderr);
        wrong.push(format!("exit code {} instead of {code}\n{said}", ended.code));
    }
    let (processes, files) = ended.left();
    if !processes.is_empty() || !files.is_empty() {
        wrong.push(format!("left {processes:?} and {files:?}"));
    }
    let words = [row.fake, twin].concat().join(" ");
    (Line::of(&words, row, &ended, &report), wrong)
}

/// One finding is as told, and all others are of the same class and culprit: one fault may leave
/// things of several kinds.
fn deviations_of_finding(
    class: Class,
    Caught(kind, what, birth, due): &Caught,
    case: Option<&CaseReport>,
) -> Vec<String> {
    let Some(case) = case else { return vec!["its lifecycle was not played".to_owned()] };
    let mut wrong = Vec::new();
    let as_told = |finding: &Finding| {
        finding.kind == *kind
            && finding.what.starts_with(what)
            && is_told(birth, finding)
            && named(&finding.due_step) == *due
    };
    if !case.findings.iter().any(as_told) {
        wrong.push(format!("no {kind} born at {birth}, due at {due}: {what}"));
        wrong.extend(case.findings.iter().map(in_words));
    }
    for finding in &case.findings {
        if (finding.class, finding.culprit) != (class, Culprit::Server) {
            wrong.push(format!("says besides: {}", in_words(finding)));
        }
    }
    if let Some(failure) = &case.failure {
        wrong.push(format!("failed: {}", failure.message));
    }
    wrong
}

/// Whether one of these steps is told, `A or B or C`. The first is the one that makes it. A request
/// that is not waited for may be taken up at any later step, and then the finding must name it beside
/// the step at which its work came to sight.
fn is_told(birth: &str, finding: &Finding) -> bool {
    let told = named(&finding.birth_step);
    let mut steps = birth.split(" or ");
    let maker = steps.next().unwrap_or_default();
    let (request, _) = maker.split_once(" (").unwrap_or((maker, ""));
    let beside = format!("{request} was not waited for");
    told == maker
        || (steps.any(|one| one == told)
            && finding.evidence.iter().any(|line| line.contains(&beside)))
}

fn deviations_of_failure(words: &[&str], report: &Report) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in &report.cases {
        wrong.extend(case.findings.iter().map(|one| format!("{}: {}", case.id, in_words(one))));
    }
    let Some(case) = report.cases.iter().find(|case| case.failure.is_some()) else {
        wrong.push("no failure is told".to_owned());
        return wrong;
    };
    let failure = case
        .failure
        .as_ref()
        .map(|failure| format!("{}\n{}", failure.message, failure.output.join("\n")));
    let said = failure.unwrap_or_default();
    let missing = words.iter().filter(|word| !said.contains(**word));
    wrong.extend(missing.map(|word| format!("{word:?} is not in: {said}")));
    if case.verdict != Verdict::Failed {
        wrong.push(format!("{} is {}", case.id, case.verdict));
    }
    wrong
}

fn deviations_of_clean(figure: Option<(&str, f64)>, report: &Report) -> Vec<String> {
    let mut wrong = Vec::new();
    if report.cases.is_empty() {
        wrong.push("nothing was played".to_owned());
    }
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

/// A step by its name and cycle: where it stands in its lifecycle is no matter of the fakes.
fn named(step: &StepRef) -> String {
    let told = step.to_string();
    told.split_once(", ").map_or(told.clone(), |(_, name)| name.to_owned())
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
        let words =
            ["fake", "exit", "verdict", "kind", "birth step", "due step", "culprit", "s", "by"];
        Self(words.map(str::to_owned))
    }

    fn of(words: &str, row: &Row, ended: &Ended, report: &Report) -> Self {
        let finding = report.cases.iter().flat_map(|case| &case.findings).next();
        let tell = |what: fn(&Finding) -> String| finding.map(what).unwrap_or_default();
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
            cause.unwrap_or_else(|| row.by.to_owned()),
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
