//! What is said once: the verdict first, servers, notes, how to repeat the run.

use std::borrow::Cow;

use maud::{Markup, html};

use super::super::ending::{canary_words, sentence_of};
use super::super::event::{SubjectInfo, codes};
use super::super::group::{grouped, note_cause};
use super::super::json::Report;
use super::super::redact::redact;
use super::super::text::{LONGEST_LINE, count, duration, sanitise};
use super::data::crashed;
use crate::ledger::standing::Standing;

/// Most notes, and most servers.
const MOST: usize = 60;

/// One line of foreign text.
pub(super) fn line(text: &str) -> String {
    sanitise(text, 2 * LONGEST_LINE)
}

/// A command, which is worth nothing if it was cut.
pub(super) fn command(text: &str) -> String {
    sanitise(text, 20 * LONGEST_LINE)
}

/// For the browser's tab.
pub(super) fn title(report: &Report) -> String {
    format!("{}: {} · scupper", word(report).0, sanitise(&report.run.subject, 80))
}

/// The verdict in a word, and what colour it has.
fn word(report: &Report) -> (Cow<'static, str>, &'static str) {
    let accepted = report.gate.as_ref().map_or(0, |gate| gate.accepted);
    let (word, colour) = plain_word(report);
    match report.exit_code {
        codes::CLEAN if accepted > 0 => {
            (format!("{word}, {accepted} accepted by the baseline").into(), colour)
        }
        _ => (word.into(), colour),
    }
}

/// The same whatever a baseline accepts.
fn plain_word(report: &Report) -> (&'static str, &'static str) {
    let stand = |standing| report.cases.iter().any(|case| report.standing(case) == standing);
    let leaks = report.cases.iter().any(|case| {
        report.standing(case) == Standing::Red
            && case.findings.iter().any(|finding| report.counts(finding))
    });
    match report.exit_code {
        codes::CLEAN if report.cases.iter().any(|case| case.expected.is_some()) => {
            ("As expected", "green")
        }
        codes::CLEAN => ("Clean", "green"),
        codes::LEAK if leaks => ("Leak", "red"),
        codes::LEAK if stand(Standing::Red) => ("Failed", "red"),
        codes::LEAK => ("Gate not passed", "red"),
        codes::INVALID => ("Invalid", "purple"),
        codes::INTERRUPTED => ("Interrupted", "purple"),
        _ => ("Not judged", "purple"),
    }
}

/// The verdict and what the run was.
pub(super) fn verdict(report: &Report) -> Markup {
    let (word, colour) = word(report);
    let totals = report.totals;
    let numbers = [
        (totals.leak, "leak"),
        (totals.failed, "failed"),
        (totals.invalid, "invalid"),
        (totals.unknown, "unknown"),
        (totals.clean, "clean"),
        (totals.unmet, "unmet"),
        (report.not_judged.len(), "not judged"),
    ];
    // What is expected is no alarm.
    let alarms = report.cases.iter().all(|case| case.expected.is_none());
    html! {
        header {
            p.brand { "scupper " (line(&report.run.version)) " · " (line(&report.run.mode)) }
            h1 { (line(&report.run.subject)) }
            p.verdict.(colour) role="status" {
                strong { (word) }
                span { "exit " (report.exit_code) ": " (redact(&sentence_of(report))) }
            }
            ul.totals aria-label="Judged cases by verdict" {
                @for (number, word) in numbers.iter().filter(|(number, _)| *number > 0) {
                    li class=[alarms.then(|| word.replace(' ', "-"))] { b { (number) } " " (word) }
                }
            }
            (facts(report))
        }
    }
}

fn facts(report: &Report) -> Markup {
    html! {
        dl.facts {
            @if let Some(subject) = &report.subject {
                dt { "subject" } dd { (about(subject)) }
            }
            @if let Some(begun) = &report.begun { dt { "begun" } dd { (line(begun)) } }
            dt { "took" } dd { (duration(report.took_ms as f64)) ", seed " (report.run.seed) }
            @if let Some(campaign) = &report.campaign {
                dt { "campaign" }
                dd {
                    "seeds " (campaign.first_seed) " to " (campaign.end_seed) ", "
                    (campaign.lifecycles) " lifecycles, " (campaign.steps) " steps"
                }
            }
            dt { "canary" }
            dd {
                @match &report.canary {
                    None => { "none" }
                    Some(canary) if canary.holds() => { (line(&canary_words(canary))) }
                    Some(_) => { "it failed, so nothing in this run counts" }
                }
            }
            @if let Some(gate) = report.gate.as_ref().filter(|gate| gate.accepted > 0) {
                dt { "baseline" }
                dd { (count(gate.accepted, "finding")) " known, and accepted" }
            }
            dt { "repeat" } dd { code { (command(&report.run.repeat)) } }
        }
    }
}

/// What a subject said of itself.
fn about(subject: &SubjectInfo) -> String {
    let exit = match subject.exit_ms {
        Some(ms) => format!("exits after {}", duration(ms as f64)),
        None => "does not exit by itself".to_owned(),
    };
    format!(
        "{} {}, speaks {}; answers after {}, {exit}; {}",
        sanitise(&subject.name, 80),
        sanitise(&subject.version, 40),
        sanitise(&subject.eras.join(" and "), 80),
        duration(subject.start_ms as f64),
        count(subject.tools.len(), "tool"),
    )
}

/// Of a run on several servers, each of them.
pub(super) fn servers(report: &Report) -> Markup {
    if report.servers.is_empty() {
        return html! {};
    }
    html! {
        section aria-labelledby="servers-title" {
            h2 #servers-title { "Servers" }
            div.scroll { table {
                thead { tr { th scope="col" { "Server" } th scope="col" { "Verdict" } th scope="col" { "Cases" } } }
                tbody {
                    @for server in report.servers.iter().take(MOST) {
                        tr {
                            th scope="row" { (line(&server.name)) }
                            td { (server.verdict.map_or("not judged", |verdict| verdict.as_str())) }
                            td {
                                @match &server.not_judged {
                                    Some(why) => { (line(why)) }
                                    None => { (server.totals.clean) " clean, " (server.totals.leak) " leak" }
                                }
                            }
                        }
                    }
                }
            } }
            @if report.servers.len() > MOST { p.quiet { "and " (report.servers.len() - MOST) " more" } }
        }
    }
}

/// What is worth knowing and is no fault.
pub(super) fn notes(report: &Report) -> Markup {
    let of_cases = report.cases.iter().flat_map(|case| &case.notes);
    let of_gate = report.gate.iter().flat_map(|gate| &gate.told);
    let crashes = report.cases.iter().flat_map(|case| &case.crashes).map(crashed);
    let all = report.notes.iter().chain(of_gate).chain(of_cases).cloned().chain(crashes);
    let groups = grouped(all, |note| note_cause(note));
    if groups.is_empty() {
        return html! {};
    }
    html! {
        section aria-labelledby="notes-title" {
            h2 #notes-title { "Notes" }
            ul.notes {
                @for group in groups.iter().take(MOST) {
                    li {
                        (line(&redact(&group[0])))
                        @if group.len() > 1 { span.quiet { " (" (group.len()) " times)" } }
                    }
                }
            }
            @if groups.len() > MOST { p.quiet { "and " (groups.len() - MOST) " more" } }
        }
    }
}

/// How to read it.
pub(super) fn foot(report: &Report) -> Markup {
    html! {
        footer {
            p {
                "A thing that outlives the step by which it is due is a finding. Late but gone is slow, and \
                 slow is no leak. Made by scupper " (line(&report.run.version)) "; this page loads nothing."
            }
        }
    }
}
