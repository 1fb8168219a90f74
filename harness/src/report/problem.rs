//! All that is wrong in a report, one by one: what formats for machines list.

use super::json::Report;
use super::text::{LONGEST_LINE, count, sanitise};
use crate::ledger::fingerprint::{self, Fingerprint};
use crate::ledger::snapshot::Kind;
use crate::ledger::standing::Standing;
use crate::ledger::verdict::{CaseReport, Class, Failure, Finding};

/// Most lines of evidence, of output or of holders that one problem lists.
const LINES: usize = 20;

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub(super) struct Problem<'a> {
    /// Which sort of thing, stable and without blanks: [`Sort::id`].
    pub sort: Sort,
    /// How bad it is.
    pub level: Level,
    /// In which case; none where it is the run's.
    pub case: Option<&'a CaseReport>,
    /// The finding, where it is one.
    pub finding: Option<&'a Finding>,
    /// In one line.
    pub title: String,
    /// The rest, line by line.
    pub details: Vec<String>,
    /// The same in another run, whatever pids and counts it has.
    pub fingerprint: String,
    /// Why it is accepted, where a baseline does.
    pub known: Option<String>,
}

/// Sorts of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Sort {
    /// Something outlived its due step.
    Leak(Kind),
    /// Another's fault, or memory.
    Advisory(Kind),
    /// The lifecycle itself went wrong.
    Failed,
    /// The outcome is not the one that the scenario states.
    Unmet,
    /// Could not look.
    Unknown,
    /// A planned case was not judged, or the subject did not start.
    NotJudged,
    /// The run does not count: its canary failed.
    Invalid,
    /// A stale or expired entry of a baseline, a missed threshold, something new.
    Gate,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Level {
    /// It makes the run red.
    Error,
    /// It does not.
    Note,
}

impl Sort {
    /// Every sort there is.
    pub(super) fn all() -> impl Iterator<Item = Sort> {
        let kinds = |sort: fn(Kind) -> Sort| Kind::ALL.iter().copied().map(sort);
        let others = [Sort::Failed, Sort::Unmet, Sort::Unknown, Sort::NotJudged, Sort::Invalid];
        let others = others.into_iter().chain([Sort::Gate]);
        kinds(Sort::Leak).chain(kinds(Sort::Advisory)).chain(others)
    }

    /// Such as `leak.process`.
    pub(super) fn id(self) -> String {
        match self {
            Sort::Leak(kind) => format!("leak.{kind}"),
            Sort::Advisory(kind) => format!("advisory.{kind}"),
            Sort::Failed => "failed".to_owned(),
            Sort::Unmet => "unmet".to_owned(),
            Sort::Unknown => "unknown".to_owned(),
            Sort::NotJudged => "not-judged".to_owned(),
            Sort::Invalid => "invalid".to_owned(),
            Sort::Gate => "gate".to_owned(),
        }
    }

    /// In one sentence.
    pub(super) fn summary(self) -> String {
        match self {
            Sort::Leak(kind) => format!("A {kind} outlives the step by which it is due."),
            Sort::Advisory(kind) => {
                format!("A {kind} is left, by another's fault or within its rights.")
            }
            Sort::Failed => "A lifecycle went wrong before its end.".to_owned(),
            Sort::Unmet => "An outcome is not the one that the scenario states.".to_owned(),
            Sort::Unknown => "Something could not be looked at.".to_owned(),
            Sort::NotJudged => "A planned case was not judged.".to_owned(),
            Sort::Invalid => "The run does not count: its canary failed.".to_owned(),
            Sort::Gate => {
                "A baseline, a threshold or an older report is against the run.".to_owned()
            }
        }
    }

    /// Why it hurts and what to do about it.
    pub(super) fn help(self) -> &'static str {
        match self {
            Sort::Leak(kind) | Sort::Advisory(kind) => help_of(kind),
            Sort::Failed => {
                "The subject broke the protocol, never answered, or died. Look at its last lines of \
                 output, and play the case again with the command given."
            }
            Sort::Unmet => {
                "A scenario file is strict both ways. Mend the subject, or change what the file \
                 expects if what was found is right."
            }
            Sort::Unknown => {
                "What cannot be looked at may leak, so it is never green. Run as the user whose \
                 processes are looked at; `scupper doctor` says what this host allows."
            }
            Sort::NotJudged => {
                "A run that did not judge what it planned is never green. Look whether the command \
                 starts by itself, and whether the run was interrupted."
            }
            Sort::Gate => {
                "A baseline is strict both ways: take out what is gone with --prune, and look at what \
                 has expired. A threshold or an older report says what has become worse."
            }
            Sort::Invalid => {
                "Each run plays leaks of its own and clean twins of them. One that was missed, or a \
                 twin that was blamed, means that nothing this run says counts: see `scupper doctor`."
            }
        }
    }
}

/// Why a thing of this kind hurts that is left, and what to change.
fn help_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Process => {
            "A process that outlives its connection keeps memory, ports and locks until somebody kills \
             it. End when stdin ends, on SIGTERM too, and end and wait for every child."
        }
        Kind::Zombie => {
            "A dead child that nobody waits for keeps its entry in the process table. Wait for each \
             child (waitpid, Child::wait, an exit listener)."
        }
        Kind::Fd => {
            "A process that lives on runs into its limit of descriptors (EMFILE). Close what a call \
             opens when the call ends, on its error paths too."
        }
        Kind::Thread => {
            "Each thread keeps its stack. Let threads end with the call that started them, or use a \
             pool with a bound."
        }
        Kind::Task => {
            "A task that nobody joins keeps what it holds. Join or abort tasks where their owner ends."
        }
        Kind::Session => {
            "Whoever keeps a session keeps what it holds for a client that has gone. End each session \
             on one path, whoever ends it: DELETE, idle limit, shutdown."
        }
        Kind::Cursor => {
            "A cursor of a session that is gone is never asked for again. Remove cursors with their \
             session."
        }
        Kind::Entry => {
            "An entry of something that is gone makes its registry grow. Remove it where the thing \
             ends."
        }
        Kind::File => {
            "Temporary files fill the disk. Remove each where what it was made for ends, and those of a \
             dead process at the next start."
        }
        Kind::Memory => {
            "Memory that rises with every cycle and does not level off ends in swap. See with more \
             cycles whether it levels off, then look for what is kept for each call."
        }
    }
}

/// All that is wrong: the run's own first, then case by case in the order of the plan.
pub(super) fn problems(report: &Report) -> Vec<Problem<'_>> {
    let mut problems = of_run(report);
    for case in &report.cases {
        problems.extend(of_case(report, case));
    }
    for lost in &report.not_judged {
        problems.push(Problem {
            sort: Sort::NotJudged,
            level: Level::Error,
            case: None,
            finding: None,
            title: line(&format!("{} was not judged: {}", lost.id, lost.cause)),
            details: Vec::new(),
            fingerprint: fingerprint::hash(&["not-judged", &lost.id]),
            known: None,
        });
    }
    problems
}

/// What is wrong with the run itself.
fn of_run(report: &Report) -> Vec<Problem<'_>> {
    let mut problems = Vec::new();
    let mut tell = |sort: Sort, title: &str, details: Vec<String>| {
        problems.push(Problem {
            sort,
            level: Level::Error,
            case: None,
            finding: None,
            title: line(title),
            details,
            fingerprint: fingerprint::hash(&["run", title]),
            known: None,
        });
    };
    if let Some(canary) = report.canary.as_ref().filter(|canary| !canary.holds()) {
        let missed = canary.missed.iter().map(|kind| format!("missed: {kind}"));
        let blamed =
            canary.false_alarms.iter().map(|what| format!("blamed in a clean twin: {what}"));
        let failure = canary.failure.iter().map(|why| format!("could not be judged: {why}"));
        let details = missed.chain(blamed).chain(failure).take(LINES).map(|one| line(&one));
        tell(Sort::Invalid, "the canary failed: nothing in this run counts", details.collect());
    }
    for text in report.gate.iter().flat_map(|gate| &gate.against) {
        tell(Sort::Gate, text, Vec::new());
    }
    if report.interrupted {
        tell(Sort::NotJudged, "the run was interrupted", Vec::new());
    } else if report.cases.is_empty() && report.not_judged.is_empty() && report.exit_code != 0 {
        tell(Sort::NotJudged, "nothing was judged", Vec::new());
    }
    problems
}

/// What is wrong in one case.
pub(super) fn of_case<'a>(report: &Report, case: &'a CaseReport) -> Vec<Problem<'a>> {
    let standing = report.standing(case);
    if case.expected.is_some() {
        return match standing {
            Standing::Passed => Vec::new(),
            _ => vec![unmet(case)],
        };
    }
    let mut problems: Vec<Problem> =
        case.findings.iter().map(|finding| of_finding(report, case, finding)).collect();
    if let Some(failure) = &case.failure {
        problems.push(of_failure(case, failure));
    }
    if !case.unreadable.is_empty() {
        let title = format!(
            "{}: could not look at {}",
            case.id,
            case.unreadable.first().map_or("", String::as_str)
        );
        let details = case.unreadable.iter().take(LINES).map(|text| line(text)).collect();
        problems.push(problem(Sort::Unknown, case, &title, details));
    }
    // A verdict without words is still no green one.
    if standing != Standing::Passed && problems.iter().all(|one| one.level > Level::Error) {
        let sort = match standing {
            Standing::Invalid => Sort::Invalid,
            Standing::NotJudged => Sort::Unknown,
            Standing::Red | Standing::Passed => Sort::Failed,
        };
        problems.push(problem(sort, case, &format!("{}: {}", case.id, case.verdict), Vec::new()));
    }
    problems
}

fn of_finding<'a>(report: &Report, case: &'a CaseReport, finding: &'a Finding) -> Problem<'a> {
    let sort = match finding.class {
        Class::Leak => Sort::Leak(finding.kind),
        Class::Advisory => Sort::Advisory(finding.kind),
    };
    let fingerprint = Fingerprint::of(case, finding).hash();
    let known = report.reason_for(&fingerprint).map(line);
    let is_red = report.counts(finding) && known.is_none();
    let mut details = finding_lines(case, finding);
    details.extend(known.iter().map(|reason| format!("known, accepted because: {reason}")));
    Problem {
        sort,
        level: if is_red { Level::Error } else { Level::Note },
        case: Some(case),
        finding: Some(finding),
        title: line(&format!("{}: {}, due at {}", case.id, finding.what, finding.due_step)),
        details,
        fingerprint,
        known,
    }
}

fn of_failure<'a>(case: &'a CaseReport, failure: &Failure) -> Problem<'a> {
    let sort = if failure.not_started { Sort::NotJudged } else { Sort::Failed };
    let title = format!("{}: {}: {}", case.id, failure.step, failure.message);
    let output = failure.output.iter().take(LINES).map(|text| line(text));
    problem(sort, case, &title, output.chain([repeat(case)]).collect())
}

fn unmet(case: &CaseReport) -> Problem<'_> {
    let first = case.unmet.first().and_then(|text| text.lines().next());
    let title = format!("{}: {}", case.id, first.unwrap_or("an advisory that counts"));
    let lines = case.unmet.iter().flat_map(|text| text.lines()).take(LINES).map(line);
    let found = case.findings.iter().take(LINES);
    let found = found.map(|finding| line(&format!("found: {}", finding.what)));
    let failed = case.failure.iter().map(|one| line(&format!("failed: {}", one.message)));
    problem(
        Sort::Unmet,
        case,
        &title,
        lines.chain(found).chain(failed).chain([repeat(case)]).collect(),
    )
}

fn problem<'a>(sort: Sort, case: &'a CaseReport, title: &str, details: Vec<String>) -> Problem<'a> {
    Problem {
        sort,
        level: Level::Error,
        case: Some(case),
        finding: None,
        title: line(title),
        details,
        fingerprint: fingerprint::hash(&[&sort.id(), &fingerprint::lifecycle(case)]),
        known: None,
    }
}

/// Everything that a person needs of a finding.
fn finding_lines(case: &CaseReport, finding: &Finding) -> Vec<String> {
    let mut lines = vec![
        format!("born: {}", finding.birth_step),
        format!("due: {}", finding.due_step),
        format!("culprit: {}: {}", finding.culprit, finding.blame),
        format!("rule: {}", finding.rule.as_deref().unwrap_or("none obliges it")),
        format!("why it hurts: {}", finding.hurts),
    ];
    lines.extend(finding.site.iter().map(|site| format!("made at: {site}")));
    let holders = finding.holders.iter().take(LINES);
    lines.extend(
        holders.map(|one| format!("held by: pid {} ({}), {}", one.pid, one.command, one.holds)),
    );
    if finding.holders_unread > 0 {
        lines.push(format!("not looked into: {}", count(finding.holders_unread, "process")));
    }
    lines.extend(finding.evidence.iter().take(LINES).cloned());
    lines.push(format!("help: {}", finding.remedy));
    if let Some(sdk) = case.sdk.filter(|sdk| !sdk.lines(finding).is_empty()) {
        lines.push(format!("with the {}:", sdk.name()));
        lines.extend(sdk.lines(finding).iter().map(|source| format!("    {source}")));
    }
    let mut lines: Vec<String> = lines.iter().map(|text| line(text)).collect();
    lines.push(repeat(case));
    lines
}

/// The command that plays it again, whole: one that was cut is worth nothing.
fn repeat(case: &CaseReport) -> String {
    format!("repeat: {}", sanitise(&case.repeat, 20 * LONGEST_LINE))
}

fn line(text: &str) -> String {
    sanitise(text, 2 * LONGEST_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::event::Gated;
    use crate::report::{github, gitlab, html, junit, samples, sarif};

    /// The whole set, with the process that `stdio/half-close` leaves known.
    fn known() -> Report {
        let mut report = samples::everything();
        let case = report.cases.iter().find(|case| case.id == "stdio/half-close");
        let hash = case.map(|case| Fingerprint::of(case, &case.findings[0]).hash());
        let known = hash.into_iter().map(|hash| (hash, "upstream #12".to_owned())).collect();
        report.gate = Some(Gated { known, accepted: 1, ..Gated::default() });
        report
    }

    #[test]
    fn lines_that_mend_it_are_in_each_form_where_the_sdk_is_known() {
        use crate::ledger::sdk::Sdk;
        let mut report = samples::everything();
        let case = report.cases.iter_mut().find(|case| case.id == "stdio/half-close");
        let case = case.expect("it is one of the set");
        case.findings[0].what = "the server, pid 4711 (python server.py)".into();
        case.sdk = Some(Sdk::Python);
        for text in [junit::render(&report), html::render(&report), sarif::render(&report)] {
            assert!(text.contains("with the Python SDK:"), "{text}");
            assert!(text.contains("async def lifespan(server):"), "{text}");
            assert!(text.contains("        worker.stop()"), "indented as in the source: {text}");
        }
    }

    #[test]
    fn what_is_known_is_told_and_counts_in_no_form() {
        let (report, before) = (known(), samples::everything());
        let failures = |report: &Report| junit::render(report).matches("<failure ").count();
        assert_eq!(failures(&report) + 1, failures(&before));
        assert!(junit::render(&report).contains("known, accepted because: upstream #12"));
        assert!(!github::annotations(&report).contains("::stdio/half-close:"));
        assert!(!github::summary(&report, github::SUMMARY).contains("`stdio/half-close:"));
        let sarif = sarif::render(&report);
        assert_eq!(sarif.matches("\"justification\": \"upstream #12\"").count(), 1);
        let severe = |report: &Report| gitlab::render(report).matches("critical").count();
        assert_eq!(severe(&report) + 1, severe(&before));
    }

    #[test]
    fn what_the_gate_has_against_a_run_is_in_every_form() {
        let mut report = samples::nothing();
        let against = vec!["stale, it is gone: process".to_owned()];
        report.gate = Some(Gated { against, ..Gated::default() });
        report.exit_code = 1;
        let forms = [
            junit::render(&report),
            sarif::render(&report),
            gitlab::render(&report),
            github::annotations(&report),
            github::summary(&report, github::SUMMARY),
        ];
        for form in forms {
            assert!(form.contains("stale, it is gone"), "{form}");
        }
    }

    #[test]
    fn every_sort_has_an_id_of_its_own_and_words() {
        let mut ids: Vec<String> = Sort::all().map(Sort::id).collect();
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!((ids.len(), all), (26, 26));
        assert!(Sort::all().all(|sort| sort.help().ends_with('.') || sort == Sort::Invalid));
    }
}
