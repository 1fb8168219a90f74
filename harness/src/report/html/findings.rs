//! All that is wrong, each cause once, the worst first; readable without a script.

use maud::{Markup, html};

use super::super::group::{cause, failure_cause, grouped, server_of, without_numbers};
use super::super::json::Report;
use super::super::problem::{Level, Problem, Sort, problems};
use super::super::tell::{finding_title, grown};
use super::super::text::count;
use super::head::{command, line};
use crate::ledger::rules::rule;
use crate::ledger::verdict::Finding;

/// Most groups that are open from the start.
const OPEN: usize = 3;
/// Most groups that stand on the page; the others are behind one line, so that the table of cases is
/// never far.
const SHOWN: usize = 40;
/// Most cases that a group names.
const NAMED: usize = 12;
/// Most holders and lines of evidence.
const LINES: usize = 20;

/// Problems with one cause.
pub(super) type Group<'a> = Vec<Problem<'a>>;

/// The problems of a run by cause, what makes it red first.
pub(super) fn groups(report: &Report) -> Vec<Group<'_>> {
    let mut all = problems(report);
    all.sort_by_key(rank);
    grouped(all, key)
}

fn rank(problem: &Problem) -> (Level, u8) {
    let rank = match problem.sort {
        Sort::Invalid => 0,
        Sort::Gate => 1,
        Sort::NotJudged if problem.case.is_none() => 6,
        Sort::NotJudged => 2,
        Sort::Leak(_) => 3,
        Sort::Failed => 4,
        Sort::Unmet => 4,
        Sort::Unknown => 5,
        Sort::Advisory(_) => 7,
    };
    (problem.level, rank)
}

fn key(problem: &Problem) -> (Level, Sort, Option<String>, String) {
    let server = problem.case.and_then(server_of).map(str::to_owned);
    let cause = match (problem.finding, problem.case) {
        (Some(finding), _) => format!("{:?} {:?}", cause(finding), problem.known),
        (None, Some(case)) => match (&case.failure, problem.sort) {
            (Some(failure), Sort::Failed | Sort::NotJudged) => {
                format!("{:?}", failure_cause(failure))
            }
            _ => without_numbers(without_case(problem)),
        },
        (None, None) => problem.title.clone(),
    };
    (problem.level, problem.sort, server, cause)
}

/// The title without the case that it begins with.
fn without_case<'a>(problem: &'a Problem) -> &'a str {
    let rest = problem.case.and_then(|case| problem.title.strip_prefix(line(&case.id).as_str()));
    rest.map_or(problem.title.as_str(), |rest| rest.trim_start_matches([':', ' ']))
}

/// What is wrong, in words.
pub(super) fn title(problem: &Problem) -> String {
    match problem.finding {
        Some(finding) => line(&finding_title(finding)),
        None => without_case(problem).to_owned(),
    }
}

/// Bytes that are kept back for the head of a group of which nothing else is told.
const HEAD: usize = 300;

/// The part of the page: whole blocks while there is room, then heads only, then a number.
pub(super) fn section(groups: &[Group], bytes: usize) -> Markup {
    let mut blocks = Vec::new();
    let (mut used, mut left_out, mut has_room) = (0, 0, true);
    for (at, group) in groups.iter().enumerate() {
        let reserve = HEAD * (groups.len() - at - 1);
        let whole = has_room.then(|| block(at, group).into_string());
        let whole = whole.filter(|whole| used + whole.len() + reserve <= bytes);
        has_room = whole.is_some();
        let block = whole.unwrap_or_else(|| head(at, group).into_string());
        if used + block.len() <= bytes {
            used += block.len();
            blocks.push(maud::PreEscaped(block));
        } else {
            left_out += 1;
        }
    }
    html! {
        section #findings aria-labelledby="findings-title" {
            h2 #findings-title { "Findings" }
            @if groups.is_empty() {
                p.quiet { "None." }
            } @else {
                p.quiet { (summary(groups)) }
            }
            @for block in blocks.iter().take(SHOWN) { (block) }
            @if blocks.len() > SHOWN {
                details.rest {
                    summary { "and " (blocks.len() - SHOWN) " more" }
                    @for block in &blocks[SHOWN..] { (block) }
                }
            }
            @if left_out > 0 {
                p.quiet { "and " (left_out) " more, which the JSON report has" }
            }
        }
    }
}

fn summary(groups: &[Group]) -> String {
    let number = |level| -> usize {
        groups.iter().filter(|group| group[0].level == level).map(Vec::len).sum()
    };
    let causes = match groups.len() {
        1 => "1 cause".to_owned(),
        number => format!("{number} causes"),
    };
    match (number(Level::Error), number(Level::Note)) {
        (errors, 0) => format!("{} with {causes}", count(errors, "finding")),
        (0, notes) => format!("{} with {causes}; none makes the run red", count(notes, "finding")),
        (errors, notes) => {
            format!(
                "{} with {causes}, {notes} of which count for nothing",
                count(errors + notes, "finding")
            )
        }
    }
}

fn colour(group: &Group) -> &'static str {
    match (group[0].level, group[0].sort) {
        (Level::Note, _) => "amber",
        (_, Sort::Unknown | Sort::NotJudged | Sort::Invalid) => "purple",
        _ => "red",
    }
}

fn head(at: usize, group: &Group) -> Markup {
    html! {
        div.finding.(colour(group)).bare #{ "finding-" (at) } {
            span.tag { (group[0].sort.id()) } " " span.title { (title(&group[0])) }
            " " (cases(at, group))
        }
    }
}

fn block(at: usize, group: &Group) -> Markup {
    let first = &group[0];
    html! {
        details.finding.(colour(group)) #{ "finding-" (at) } open[at < OPEN] {
            summary {
                span.tag { (first.sort.id()) } " "
                span.title { (title(first)) }
                @if group.len() > 1 { " " span.times { "× " (group.len()) } }
                @if first.known.is_some() { " " span.times { "known" } }
            }
            @match first.finding {
                Some(finding) => (of_finding(first, finding)),
                None => @if !first.details.is_empty() { pre { (first.details.join("\n")) } },
            }
            (cases(at, group))
        }
    }
}

/// The cases in which it was found.
fn cases(at: usize, group: &Group) -> Markup {
    let mut ids: Vec<&str> =
        group.iter().filter_map(|one| one.case).map(|case| case.id.as_str()).collect();
    ids.dedup();
    html! {
        @if !ids.is_empty() {
            p.in {
                "in "
                @for (n, id) in ids.iter().take(NAMED).enumerate() {
                    @if n > 0 { ", " }
                    a href={ "#case=" (line(id)) } { (line(id)) }
                }
                @if ids.len() > NAMED { " and " (ids.len() - NAMED) " more" }
                @if ids.len() > 1 {
                    " " button.only type="button" data-group=(at) hidden { "show these " (ids.len()) " cases" }
                }
            }
        }
    }
}

fn of_finding(problem: &Problem, finding: &Finding) -> Markup {
    let repeat = problem.case.map(|case| command(&case.repeat));
    let sdk = problem.case.and_then(|case| case.sdk).filter(|sdk| !sdk.lines(finding).is_empty());
    html! {
        @if !finding.evidence.is_empty() {
            pre { @for text in finding.evidence.iter().take(LINES) { (line(text)) "\n" } }
        }
        dl {
            @if let Some(grown) = problem.case.and_then(|case| grown(case, finding)) {
                dt { "grew" } dd { (line(&grown)) }
            } @else {
                dt { "born" } dd { (line(&finding.birth_step.to_string())) }
                dt { "due" } dd { (line(&finding.due_step.to_string())) }
            }
            dt { "culprit" } dd { b { (finding.culprit) } " — " (line(&finding.blame)) }
            @if !finding.holders.is_empty() || finding.holders_unread > 0 {
                dt { "held by" }
                dd {
                    ul {
                        @for one in finding.holders.iter().take(LINES) {
                            li { "pid " (one.pid) " (" (line(&one.command)) ") has " (line(&one.holds)) }
                        }
                        @if finding.holders_unread > 0 {
                            li.quiet { (count(finding.holders_unread, "process")) " could not be read" }
                        }
                    }
                }
            }
            dt { "help" } dd { (line(&finding.remedy)) }
            @if let Some(sdk) = sdk {
                dt { "mend" }
                dd { "with the " (sdk.name()) ":" pre { (sdk.lines(finding).join("\n")) } }
            }
            dt { "rule" }
            dd {
                @match finding.rule.as_deref().map(|id| (id, rule(id))) {
                    Some((id, Some(rule))) => { (line(id)) ": " (rule.summary()) }
                    Some((id, None)) => { (line(id)) }
                    None => { "none; no part of the specification obliges anyone to end it" }
                }
            }
            dt { "harm" } dd { (line(&finding.hurts)) }
            @if let Some(site) = &finding.site { dt { "made at" } dd { code { (line(site)) } } }
            @if let Some(reason) = &problem.known { dt { "known" } dd { "accepted because: " (reason) } }
            @if let Some(repeat) = repeat { dt { "repeat" } dd { code { (repeat) } } }
        }
    }
}
