//! How a run ends: its own proof, and what its exit code means in one sentence.

use super::{
    block::{Block, MAGENTA, Page},
    event::{
        CanaryReport, Gated, RunInfo, RunSummary, ServerReport, SubjectInfo, TwinMemory, codes,
    },
    json::Report,
    text::count,
};
use crate::ledger::verdict::{CaseReport, Class, Tier, Verdict};

/// What the exit code means, in the words of this run.
pub(super) fn sentence(summary: &RunSummary, subject: Option<&SubjectInfo>) -> String {
    let cases = &summary.cases;
    match summary.exit_code {
        codes::CLEAN => {
            let beside = crashes(cases) + &left_out(&summary.servers);
            clean(cases) + &beside + uncalled(cases, subject)
        }
        codes::LEAK => blamed(summary)
            .unwrap_or_else(|| "no case is to blame, but a baseline or a threshold is".to_owned()),
        codes::NOT_JUDGED if !summary.servers.is_empty() => servers_not_judged(&summary.servers),
        codes::NOT_JUDGED => not_judged(cases, &summary.not_judged),
        codes::INVALID if summary.canary.is_none() => {
            "there was no canary, so nothing proves that this run would have seen a leak".to_owned()
        }
        codes::INVALID => "the run is invalid, and nothing seen in it counts".to_owned(),
        codes::INTERRUPTED => "interrupted; what was judged before stands".to_owned(),
        _ => "usage or scenario error".to_owned(),
    }
}

/// The same of a run that was held against a baseline; `left` has its cases without what is known.
pub(super) fn gated_sentence(
    left: &RunSummary,
    gated: &Gated,
    subject: Option<&SubjectInfo>,
) -> String {
    let objections = match gated.against.len() {
        0 => String::new(),
        number => format!("the gate has {}", count(number, "objection")),
    };
    match (left.exit_code, gated.accepted) {
        (codes::CLEAN, 1..) => {
            let known = count(gated.accepted, "finding");
            let uncalled = uncalled(&left.cases, subject);
            format!("nothing leaked but {known} that the baseline knows{uncalled}")
        }
        (codes::LEAK, _) if !objections.is_empty() && blamed(left).is_none() => {
            let advisory = match advisories(&left.cases) {
                0 => String::new(),
                1 => "; 1 advisory counts only where a run is strict".to_owned(),
                number => format!("; {number} advisories count only where a run is strict"),
            };
            format!("no case is to blame, but a baseline or a threshold is: {objections}{advisory}")
        }
        _ if objections.is_empty() => sentence(left, subject),
        _ => format!("{}; {objections}", sentence(left, subject)),
    }
}

/// The same of a report.
pub(super) fn sentence_of(report: &Report) -> String {
    let mut summary = report.summary();
    let subject = report.subject.as_ref();
    let Some(gated) = &report.gate else { return sentence(&summary, subject) };
    for case in &mut summary.cases {
        *case = case.without(&gated.known).into_owned();
    }
    gated_sentence(&summary, gated, subject)
}

fn clean(cases: &[CaseReport]) -> String {
    let tier = tier(cases);
    match advisories(cases) {
        _ if cases.iter().any(|case| case.expected.is_some()) => {
            format!("every expectation is met{tier}")
        }
        0 => format!("nothing leaked{tier}"),
        number => {
            format!("nothing leaked{tier}; {} would count if strict", count(number, "advisory"))
        }
    }
}

/// A server is hardly asked for anything where no tool of its own may be called, and that is easily
/// overlooked: lists took the place of calls.
fn uncalled(cases: &[CaseReport], subject: Option<&SubjectInfo>) -> &'static str {
    let has_step = |case: &CaseReport, start: &str| {
        case.steps.iter().any(|timing| timing.step.name.starts_with(start))
    };
    let lists = |case: &CaseReport| {
        !case.lifecycle.ends_with("/clean-close") && has_step(case, "request tools/list")
    };
    let may_call = |case: &CaseReport| has_step(case, "call ") || case.repeat.contains(" --call ");
    let none_is_safe = subject.is_some_and(|one| !one.tools.is_empty() && one.callable.is_empty());
    match none_is_safe && cases.iter().any(lists) && !cases.iter().any(may_call) {
        true => "; no tool was called: name those that may be with --call",
        false => "",
    }
}

/// A clean run may still be one of a server that ends badly.
fn crashes(cases: &[CaseReport]) -> String {
    match cases.iter().flat_map(|case| &case.crashes).map(|crash| crash.lives).sum() {
        0 => String::new(),
        1 => "; the server crashed at the end of 1 life".to_owned(),
        lives => format!("; the server crashed at the end of {lives} lives"),
    }
}

/// What of its cases makes a run red; none where nothing does.
fn blamed(summary: &RunSummary) -> Option<String> {
    let cases = &summary.cases;
    let number = |is: fn(&CaseReport) -> bool| cases.iter().filter(|case| is(case)).count();
    let counted: [(usize, &str); 3] = [
        (number(|case| case.expected.is_some() && !case.met), "unmet"),
        (
            number(|case| case.expected.is_none() && !is_failed(case) && has_leak(case)),
            "with a leak",
        ),
        (number(|case| case.expected.is_none() && is_failed(case)), "failed"),
    ];
    let counted: Vec<String> = counted
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", count(*number, "case")))
        .collect();
    let findings = cases.iter().flat_map(|case| &case.findings);
    let strict = findings
        .filter(|one| one.class == Class::Advisory && summary.strictness.counts_finding(one));
    match strict.count() {
        _ if !counted.is_empty() => Some(counted.join(", ")),
        0 => None,
        number => Some(format!("{}, and this run is strict", count(number, "advisory"))),
    }
}

fn not_judged(cases: &[CaseReport], lost: &[(String, String)]) -> String {
    let number = |is: fn(&CaseReport) -> bool| cases.iter().filter(|case| is(case)).count();
    let not_started =
        number(|case| case.failure.as_ref().is_some_and(|failure| failure.not_started));
    let failed = not_started.max(number(|case| case.verdict == Verdict::Failed));
    let unknown = number(|case| case.verdict == Verdict::Unknown);
    // What was asked for by an option that this subject cannot follow.
    if let Some((what, cause)) = lost.iter().find(|(what, _)| what.starts_with("--"))
        && (unknown, failed) == (0, 0)
    {
        return format!("{what}: {cause}");
    }
    match (unknown, failed) {
        _ if cases.is_empty() => "nothing was judged".to_owned(),
        (0, failed) if failed == cases.len() && number(has_leak) > 0 => {
            "the subject did not start, so there was no server to judge; what it left behind is \
             told beside"
                .to_owned()
        }
        (0, 0) => format!("{} planned but not judged", count(lost.len(), "case")),
        (0, failed) if failed == cases.len() => {
            "the subject did not start, so there was nothing to judge".to_owned()
        }
        (0, failed) => format!("the subject did not start in {}", count(failed, "case")),
        (unknown, _) => {
            let cases = count(unknown, "case");
            format!("could not look in {cases}, and what was not seen is not clean")
        }
    }
}

/// Servers that no code counts, because nothing could be asked of them.
fn left_out(servers: &[ServerReport]) -> String {
    match servers.iter().filter(|server| server.not_judged.is_some()).count() {
        0 => String::new(),
        number => format!("; {} not judged", count(number, "server")),
    }
}

fn servers_not_judged(servers: &[ServerReport]) -> String {
    let lost = servers.iter().filter(|server| server.exit_code == Some(codes::NOT_JUDGED)).count();
    let of = count(servers.len(), "server");
    format!("{lost} of {of} could not be judged, or not in full; the table above says how far")
}

fn is_failed(case: &CaseReport) -> bool {
    case.verdict == Verdict::Failed
}

fn has_leak(case: &CaseReport) -> bool {
    case.verdict == Verdict::Leak || case.findings.iter().any(|f| f.class == Class::Leak)
}

fn advisories(cases: &[CaseReport]) -> usize {
    let findings = cases.iter().flat_map(|case| &case.findings);
    findings.filter(|finding| finding.class == Class::Advisory).count()
}

/// How strong the evidence is that nothing escaped, by the weakest case.
fn tier(cases: &[CaseReport]) -> &'static str {
    match cases.iter().map(|case| case.tier).min() {
        None => "",
        Some(Tier::Cookie) => " (orphans were looked for by cookie)",
        Some(Tier::Subreaper) => " (orphans would have come to the subreaper)",
        Some(Tier::PidNamespace) => " (orphans were held in a pid namespace)",
    }
}

/// What a canary that holds has proved.
pub(super) fn canary_words(canary: &CanaryReport) -> String {
    let memory = canary.memory.map(|TwinMemory { kib_per_cycle, bound_kib_per_cycle, cycles }| {
        format!(
            ", its memory {kib_per_cycle:+.1} KiB a cycle over {cycles} (bound {bound_kib_per_cycle:.1})"
        )
    });
    let memory = memory.unwrap_or_default();
    format!("caught {}; its clean twin stayed clean{memory}", canary.caught.join(", "))
}

/// The block of a canary that failed.
pub(super) fn canary_block(page: Page, canary: &CanaryReport, info: Option<&RunInfo>) -> String {
    let title = "the canary failed, so nothing seen in this run counts";
    let mut block = Block::new(page, MAGENTA, "invalid", title);
    block.gap();
    let mut lines: Vec<String> = Vec::new();
    lines.extend(canary.missed.iter().map(|kind| format!("missed the seeded leak of kind {kind}")));
    lines.extend(canary.instead.iter().map(|what| format!("found in its stead: {what}")));
    lines
        .extend(canary.false_alarms.iter().map(|what| format!("blamed in the clean twin: {what}")));
    lines.extend(canary.failure.iter().map(|why| format!("could not be judged: {why}")));
    block.seen(&lines, 12);
    block.gap();
    block.remark(
        "help",
        "this is the fault of scupper or of this host, not of the subject; `scupper doctor` says \
         what the host can prove",
    );
    if let Some(info) = info {
        block.repeat(&info.repeat);
    }
    block.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn ending(verdicts: &[Verdict], exit_code: u8) -> String {
        let cases = verdicts.iter().map(|verdict| samples::case("stdio/close", *verdict)).collect();
        sentence(&samples::summary(cases, exit_code), None)
    }

    #[test]
    fn a_clean_end_tells_of_crashes_all_the_same() {
        let mut case = samples::case("stdio/clean-close", Verdict::Clean);
        case.crashes = vec![samples::crash(3)];
        let summary = samples::summary(vec![case.clone(), case], codes::CLEAN);
        assert!(sentence(&summary, None).ends_with("; the server crashed at the end of 6 lives"));
    }

    #[test]
    fn an_advisory_is_called_strict_only_where_it_counts() {
        let mut case = samples::case("stdio/clean-close", Verdict::Clean);
        case.findings = vec![samples::process_finding()];
        case.findings[0].class = Class::Advisory;
        let mut summary = samples::summary(vec![case], codes::LEAK);
        let stale = Gated { against: vec!["stale, it is gone: x".into()], ..Gated::default() };
        let lenient = gated_sentence(&summary, &stale, None);
        summary.strictness.memory = true;
        assert_eq!(gated_sentence(&summary, &stale, None), lenient, "it is not about memory");
        summary.strictness.advisories = true;
        let strict = gated_sentence(&summary, &stale, None);
        let alone = sentence(&summary, None);
        insta::assert_snapshot!([lenient, strict, alone].join("\n"), @r"
        no case is to blame, but a baseline or a threshold is: the gate has 1 objection; 1 advisory counts only where a run is strict
        1 advisory, and this run is strict; the gate has 1 objection
        1 advisory, and this run is strict
        ");
    }

    #[test]
    fn a_clean_end_says_that_no_tool_was_called_where_one_could_have_been() {
        let mut case = samples::case("stdio/churn", Verdict::Clean);
        case.steps[2].step.name = "request tools/list".into();
        let subject = SubjectInfo { callable: Vec::new(), ..samples::subject() };
        let said = |case: &CaseReport, subject: &SubjectInfo| {
            let summary = samples::summary(vec![case.clone()], codes::CLEAN);
            sentence(&summary, Some(subject)).contains("; no tool was called: name ")
        };
        assert!(said(&case, &subject));
        assert!(!said(&samples::case("stdio/churn", Verdict::Clean), &subject), "one was called");
        assert!(!said(&case, &samples::subject()), "one may be called, and was not wanted");
        assert!(!said(&case, &SubjectInfo { tools: Vec::new(), ..subject.clone() }));
        let named = CaseReport { repeat: "scupper server --call x -- y".into(), ..case.clone() };
        assert!(!said(&named, &subject));
        let first = CaseReport { lifecycle: "stdio/clean-close".into(), ..case };
        assert!(!said(&first, &subject), "the first look only lists");
    }

    #[test]
    fn every_exit_code_says_why() {
        use Verdict::{Clean, Failed, Leak, Unknown};
        let endings = [
            ending(&[Clean], codes::CLEAN),
            ending(&[Clean, Leak, Leak, Failed], codes::LEAK),
            ending(&[Clean], codes::LEAK),
            ending(&[], codes::NOT_JUDGED),
            ending(&[Failed, Failed], codes::NOT_JUDGED),
            ending(&[Clean, Failed], codes::NOT_JUDGED),
            ending(&[Clean, Unknown, Failed], codes::NOT_JUDGED),
            ending(&[Clean], codes::INVALID),
            ending(&[Clean], codes::INTERRUPTED),
        ];
        insta::assert_snapshot!(endings.join("\n"), @r"
        nothing leaked (orphans would have come to the subreaper)
        2 cases with a leak, 1 case failed
        no case is to blame, but a baseline or a threshold is
        nothing was judged
        the subject did not start, so there was nothing to judge
        the subject did not start in 1 case
        could not look in 1 case, and what was not seen is not clean
        the run is invalid, and nothing seen in it counts
        interrupted; what was judged before stands
        ");
    }
}
