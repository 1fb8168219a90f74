//! What a case has to say: a line when it is judged, and a block for each finding and failure.

use std::collections::BTreeMap;

use anstyle::Style;

use super::{
    block::{Block, GREEN, MAGENTA, Page, RED, YELLOW},
    group::ids,
    text::{LONGEST_LINE, count, cut, duration, sanitise, wrap},
};
use crate::ledger::{
    rules::rule,
    snapshot::Kind,
    verdict::{CaseReport, Class, Crash, Culprit, Failure, Finding, StepRef, Verdict},
};

/// Most lines of evidence or output in a block.
const MOST_LINES: usize = 8;
/// Most holders in a block.
const MOST_HOLDERS: usize = 5;
/// Most further cases that a block names: every other lifecycle of the battery.
const MOST_CASES: usize = 40;

/// The lines of a judged case: verdict, id, time, what matters most; a crash has one of its own.
pub(super) fn case_lines(page: Page, case: &CaseReport) -> Vec<String> {
    let start = line_start(page, case);
    let indent = VERDICT_WIDTH + start.chars().count();
    let room = page.width.saturating_sub(indent).max(8);
    let mut detail = wrap(&sanitise(&detail(case), 2 * LONGEST_LINE), room);
    if detail.len() > MOST_DETAIL {
        let rest = detail.split_off(MOST_DETAIL - 1).join(" ");
        detail.push(cut(&rest, room));
    }
    let first = detail.remove(0);
    let mut lines = vec![format!("{}{start}{}", verdict_cell(page, case), cut(&first, room))];
    lines.extend(detail.iter().map(|more| format!("{:indent$}{}", "", cut(more, room))));
    for crash in &case.crashes {
        let what = format!("crashed at its end: {}", crash_words(crash));
        lines.push(format!("{:VERDICT_WIDTH$}  {}", "", page.paint(YELLOW, &what)));
    }
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

/// Id and time, in their columns.
fn line_start(page: Page, case: &CaseReport) -> String {
    let took = case.steps.iter().map(|step| step.at_ms + step.took_ms).fold(0.0, f64::max);
    let id_width = (page.width / 3).clamp(20, 32);
    let id = sanitise(&case.id, LONGEST_LINE);
    format!("  {id:<id_width$}  {:>7}  ", duration(took))
}

/// The line of a first look that was needed, and is none of the cases that were asked for.
pub(super) fn look_line(page: Page, case: &CaseReport) -> String {
    let start = line_start(page, case);
    let verdict = match case.verdict {
        Verdict::Clean => String::new(),
        verdict => format!("{verdict}, "),
    };
    format!("{:<VERDICT_WIDTH$}{start}{verdict}the first look, not counted", "look")
}

/// Most lines of what matters in a case.
const MOST_DETAIL: usize = 2;

pub(super) fn crash_words(crash: &Crash) -> String {
    let lives = if crash.lives == 1 { "life" } else { "lives" };
    format!("{} in {} {lives}", sanitise(&crash.signal, 20), crash.lives)
}

/// Width of the column of verdicts.
pub(super) const VERDICT_WIDTH: usize = 7;

pub(super) fn verdict_cell(page: Page, case: &CaseReport) -> String {
    let style = match case.verdict {
        _ if case.expected.is_some() => {
            if case.met {
                GREEN
            } else {
                RED
            }
        }
        Verdict::Clean => GREEN,
        Verdict::Leak | Verdict::Failed => RED,
        Verdict::Unknown | Verdict::Invalid => MAGENTA,
    };
    page.paint(style, &format!("{:<VERDICT_WIDTH$}", case.verdict.as_str()))
}

/// What matters most in a case, the worst first.
fn detail(case: &CaseReport) -> String {
    let mut parts = Vec::new();
    match case.expected {
        Some(_) if case.met && case.verdict != Verdict::Clean => parts.push("as expected".into()),
        Some(expected) if !case.met => {
            let unmet = case.unmet.iter().flat_map(|text| text.lines()).next().map(str::to_owned);
            parts.push(format!("unmet: {}", unmet.unwrap_or_else(|| format!("{expected}"))));
        }
        _ => {}
    }
    // What a server left that never answered comes second.
    let (before, after) = match &case.failure {
        Some(failure) if failure.not_started => (Some(failure), None),
        failure => (None, failure.as_ref()),
    };
    parts.extend(before.map(|failure| failure.message.clone()));
    let mut counts: BTreeMap<(Class, Kind), usize> = BTreeMap::new();
    for finding in &case.findings {
        *counts.entry((finding.class, finding.kind)).or_default() += finding.count;
    }
    for ((class, kind), number) in counts {
        let things = match kind {
            Kind::Memory => "memory".to_owned(),
            Kind::Fd => count(number, "descriptor"),
            kind => count(number, kind.as_str()),
        };
        parts.push(match class {
            Class::Leak => things,
            Class::Advisory => format!("advisory: {things}"),
        });
    }
    parts.extend(after.map(|failure| failure.message.clone()));
    if case.verdict == Verdict::Unknown {
        parts.push(format!("could not look at {}", count(case.unreadable.len(), "thing")));
    }
    // How fast the rest was is of no interest beside what is wrong.
    if case.verdict == Verdict::Clean && case.findings.is_empty() {
        parts.extend(end(case));
    }
    parts.join(", ")
}

/// How long the slowest end of the case took: until nothing was left, or where that is not known,
/// until the server had exited.
fn end(case: &CaseReport) -> Option<String> {
    let figure = |name: &str| case.figures.get(name).map(|ms| duration(*ms));
    let drained = figure("drained_after_due_ms").map(|ms| format!("drained {ms} after its end"));
    drained.or_else(|| Some(format!("exited {} after its end", figure("exit_after_due_ms")?)))
}

/// Of what was born in a repeat, and was due when that had ended: over how many cycles it grew, and at
/// which step. None of anything else.
pub(super) fn grown(case: &CaseReport, finding: &Finding) -> Option<String> {
    let Finding { birth_step, due_step, .. } = finding;
    let first = birth_step.cycle.filter(|_| finding.count > 1)?;
    let inner = birth_step.place.strip_prefix(due_step.place.as_str())?;
    let step = StepRef { cycle: None, ..birth_step.clone() };
    let over = match case.cycles {
        0 => "with the cycles".to_owned(),
        cycles => format!("over {}", count(cycles as usize, "cycle")),
    };
    inner.starts_with('.').then(|| format!("{over} {}, from cycle {first} on", at(&step)))
}

/// The block of one finding, and of its equals in other cases.
pub(super) fn finding_block(page: Page, group: &[(&CaseReport, &Finding)]) -> String {
    let (case, finding) = group[0];
    let (style, tag) = match finding.class {
        Class::Leak => (RED, "leak"),
        Class::Advisory => (YELLOW, "advisory"),
    };
    let title = finding_title(finding);
    let mut block = Block::new(page, style, &format!("{tag}[{}]", finding.kind), &title);
    let (born, due) = (at(&finding.birth_step), at(&finding.due_step));
    block.place(&match grown(case, finding) {
        Some(grown) => format!("{}, grew {grown}", case.id),
        None if born == due => format!("{}, born and due {due}", case.id),
        None => format!("{}, born {born}; due {due}", case.id),
    });
    // What leaked, who made it, why it lives and what to change stand close together; the rest
    // follows.
    if !finding.evidence.is_empty() {
        block.seen(&finding.evidence, MOST_LINES);
    }
    let alike = group.iter().filter(|(other, _)| other.id == case.id).count() - 1;
    if alike > 0 {
        block.seen(&[format!("and {alike} more like it in this case")], 1);
    }
    block.gap();
    block.remark("culprit", &format!("{} — {}", finding.culprit, finding.blame));
    holders(&mut block, finding);
    block.remark("help", &finding.remedy);
    if let Some(sdk) = case.sdk.filter(|sdk| !sdk.lines(finding).is_empty()) {
        block.remark("mend", &format!("with the {}:", sdk.name()));
        block.source(sdk.lines(finding));
    }
    match finding.rule.as_deref().map(|id| (id, rule(id))) {
        Some((id, Some(rule))) => block.remark("rule", &format!("{id}: {}", rule.summary())),
        Some((id, None)) => block.remark("rule", id),
        None if finding.kind == Kind::Memory => {}
        None => block.remark("rule", "none; no part of the specification obliges anyone to end it"),
    }
    block.remark("harm", &finding.hurts);
    if let Some(site) = &finding.site {
        block.remark("created at", site);
    }
    others(&mut block, &also_in(group));
    block.repeat(&case.repeat);
    block.finish()
}

/// What leaked, and which end it outlived.
pub(super) fn finding_title(finding: &Finding) -> String {
    match finding.kind {
        Kind::Memory => finding.what.clone(),
        // What it still does says that it is there.
        Kind::Session if finding.what.contains("still answers") => finding.what.clone(),
        // Growth says so itself, and the place says since when.
        _ if finding.due_step.name.starts_with("repeat") && finding.what.contains(',') => {
            finding.what.clone()
        }
        _ => format!("{} {}", finding.what, outlived(finding)),
    }
}

/// The end that the thing outlived, by the name of the step that made it due.
fn outlived(finding: &Finding) -> String {
    let step = finding.due_step.name.as_str();
    let is_process = matches!(finding.kind, Kind::Process | Kind::Zombie) && finding.count == 1;
    let is_helper = finding.what.starts_with("a helper");
    let (its, it) = match (is_process, is_helper) {
        (true, true) => ("its server's", "its server"),
        (true, false) => ("its", "it"),
        (false, _) => ("the", "them"),
    };
    match step.split_once(' ').unwrap_or((step, "")) {
        ("half-close", stream) => format!("outlived the end of {its} {stream}"),
        ("close", "") => format!("outlived the close of {its} connection"),
        ("drop", "") => format!("outlived the drop of {its} connection"),
        ("abandon", "") => "once its client had hung up".to_owned(),
        ("shutdown", "") => "outlived the shutdown".to_owned(),
        ("kill", "client") => format!("outlived the death of {its} client"),
        ("kill", whom) => format!("outlived SIGKILL to the {whom}"),
        ("signal", what) => match what.split_once(' ') {
            // The signal is for the process that the client started, which may be a launcher.
            Some((signal, "server")) if finding.culprit == Culprit::Launcher => {
                let its =
                    if finding.what.starts_with("the launcher") { "" } else { " to its launcher" };
                format!("outlived SIG{signal}{its}")
            }
            Some((signal, "server")) if finding.what.starts_with("the server") => {
                format!("outlived SIG{signal}")
            }
            Some((signal, whom)) => format!("outlived SIG{signal} to the {whom}"),
            None => format!("outlived the signal meant for {it}"),
        },
        // Of what a judged client has left.
        ("client", "exits") => "outlived the client".to_owned(),
        ("client", "is killed") => "outlived the client, which was killed".to_owned(),
        ("client", "at rest") => "is still there while the client does nothing more".to_owned(),
        ("client", "keeps reconnecting" | "keeps asking") => "without a pause".to_owned(),
        ("client", "goes on with a dead session") => "is still in use".to_owned(),
        ("client", _) => "came with the start of that server".to_owned(),
        ("SIGTERM", "to client") => "outlived SIGTERM".to_owned(),
        // More may have been played than the step names.
        ("repeat", _) if finding.what.contains(',') => {
            "— left behind by the repetitions".to_owned()
        }
        ("repeat", _) => "left behind by the repetitions".to_owned(),
        ("end", "of the lifecycle") => "outlived the end of the lifecycle".to_owned(),
        _ => format!("outlived the step {step}"),
    }
}

/// `at step 1, open`
fn at(step: &StepRef) -> String {
    if step.place == "0" { "before the first step".to_owned() } else { format!("at {step}") }
}

fn holders(block: &mut Block, finding: &Finding) {
    let mut lines: Vec<String> = finding
        .holders
        .iter()
        .take(MOST_HOLDERS)
        .map(|holder| {
            let one_of_two =
                ["read end", "write end"].iter().any(|end| holder.holds.starts_with(end));
            let the = if one_of_two { "the " } else { "" };
            format!("pid {} ({}) has {the}{}", holder.pid, cut(&holder.command, 60), holder.holds)
        })
        .collect();
    if finding.holders.len() > MOST_HOLDERS {
        lines.push(format!("… and {} more", finding.holders.len() - MOST_HOLDERS));
    }
    let unread = count(finding.holders_unread, "process");
    match (lines.is_empty(), finding.holders_unread) {
        (true, 0) => return,
        (false, 0) => {}
        (true, _) => lines.push(format!("nobody seen, but {unread} could not be read")),
        (false, _) => lines.push(format!("({unread} could not be read)")),
    }
    block.remarks("held by", &lines, lines.len());
}

/// `= also in: one, two and 3 more`
fn others(block: &mut Block, cases: &[&str]) {
    if cases.is_empty() {
        return;
    }
    let named: Vec<String> =
        cases.iter().take(MOST_CASES).map(|case| cut(&sanitise(case, LONGEST_LINE), 60)).collect();
    let more = match cases.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    block.list("also in", &format!("{}{more}", named.join(", ")));
}

/// The other cases of a group.
fn also_in<'a>(group: &[(&'a CaseReport, &Finding)]) -> Vec<&'a str> {
    ids(group.iter().map(|(case, _)| *case)).split_off(1)
}

/// The block of servers that crash when their end comes, in one case or several.
pub(super) fn crash_block(page: Page, group: &[(&CaseReport, &Crash)]) -> String {
    let (case, crash) = group[0];
    let lives = group.iter().map(|(_, crash)| crash.lives).sum();
    let all = Crash { signal: crash.signal.clone(), lives };
    let title = format!("the server crashed when its end came: {}", crash_words(&all));
    let mut block = Block::new(page, YELLOW, "note[crash]", &title);
    block.place(&case.id);
    block.remark(
        "harm",
        "what it had not written yet is lost, temporary files stay, and each crash may leave a core \
         file",
    );
    block.remark(
        "help",
        "let the server return from main when its stdin ends; see its stderr, or run it in a \
         debugger and end its stdin",
    );
    finish_others(block, group.iter().map(|(case, _)| *case).collect())
}

/// The block of one failure, and of its equals in other cases.
pub(super) fn failure_block(page: Page, group: &[(&CaseReport, &Failure)]) -> String {
    let (case, failure) = group[0];
    let tag = if failure.not_started { "failed[not started]" } else { "failed" };
    let mut block = Block::new(page, RED, tag, &failure.message);
    block.place(&format!("{}, {}", case.id, at(&failure.step)));
    if failure.output.is_empty() {
        block.seen(&["it wrote nothing to stderr".to_owned()], 1);
    } else {
        let skipped = failure.output.len().saturating_sub(MOST_LINES);
        let title = if skipped > 0 { "end of its output:" } else { "its output:" };
        block.seen(&[title.to_owned()], 1);
        let last: Vec<String> =
            failure.output[skipped..].iter().map(|line| format!("  {line}")).collect();
        block.seen(&last, MOST_LINES);
    }
    block.gap();
    finish_others(block, group.iter().map(|(case, _)| *case).collect())
}

/// The block of what could not be looked at, in one case or several.
pub(super) fn unknown_block(page: Page, group: &[&CaseReport]) -> String {
    let case = group[0];
    let things = count(case.unreadable.len(), "thing");
    let (style, tag, title) = match case.verdict {
        Verdict::Unknown => {
            (MAGENTA, "unknown", format!("could not look at {things}, so nothing here is clean"))
        }
        verdict => (
            YELLOW,
            "note",
            format!("could not look at {things}; the verdict, {verdict}, stands without"),
        ),
    };
    told(page, style, tag, &title, &case.unreadable, group)
}

/// The block of an expectation that was not met.
pub(super) fn unmet_block(page: Page, case: &CaseReport) -> String {
    let expected = case.expected.map_or("something else", Verdict::as_str);
    let title = match case.verdict.as_str() {
        seen if seen == expected => format!("{seen}, but not as {} expects", case.lifecycle),
        seen => format!("{} expects {expected}, but it was {seen}", case.lifecycle),
    };
    let (told, for_the_file): (Vec<&str>, Vec<&str>) =
        case.unmet.iter().map(|text| text.split_once('\n').unwrap_or((text, ""))).unzip();
    let told: Vec<String> = told.into_iter().map(str::to_owned).collect();
    let mut block = Block::new(page, RED, "unmet", &title);
    block.place(&case.id);
    block.seen(&told, MOST_LINES);
    block.gap();
    let for_the_file: Vec<&str> = for_the_file
        .into_iter()
        .take(MOST_LINES)
        .filter(|text| !text.is_empty())
        .flat_map(|text| text.lines().chain([""]))
        .collect();
    if !for_the_file.is_empty() {
        block.remark("help", "where what was found is right, add the lines below to the file");
    }
    block.repeat(&case.repeat);
    if let [lines @ .., _] = &for_the_file[..] {
        block.gap();
        block.verbatim(lines);
    }
    block.finish()
}

fn told(
    page: Page,
    style: Style,
    tag: &str,
    title: &str,
    lines: &[String],
    group: &[&CaseReport],
) -> String {
    let mut block = Block::new(page, style, tag, title);
    block.place(&group[0].id);
    if !lines.is_empty() {
        block.seen(lines, MOST_LINES);
        block.gap();
    }
    if tag == "unknown" {
        block.remark(
            "help",
            "`scupper doctor` says what this host can prove, and what is in the way",
        );
    }
    finish_others(block, group.to_vec())
}

fn finish_others(mut block: Block, group: Vec<&CaseReport>) -> String {
    others(&mut block, &ids(group.iter().copied())[1..]);
    block.repeat(&group[0].repeat);
    block.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn what_grows_is_told_by_its_cycles_and_one_thing_by_its_steps() {
        let case = samples::cases().remove(3);
        let mut finding = case.findings[0].clone();
        let said = Some("over 19 cycles at step 3.1, call echo, from cycle 2 on".to_owned());
        assert_eq!(grown(&case, &finding), said);
        finding.due_step.place = "4".into();
        assert_eq!(grown(&case, &finding), None, "it was due at a later step");
        finding = Finding { count: 1, ..case.findings[0].clone() };
        assert_eq!(grown(&case, &finding), None, "one thing");
    }

    #[test]
    fn a_clean_case_says_how_long_its_end_took_and_nothing_else() {
        let told = |figures: &[(&str, f64)]| {
            let mut case = samples::case("stdio/clean-close", Verdict::Clean);
            case.figures = figures.iter().map(|(name, ms)| ((*name).to_owned(), *ms)).collect();
            detail(&case)
        };
        let (handshake, exit) = (("handshake_ms", 460.0), ("exit_after_due_ms", 12.0));
        let drained = ("drained_after_due_ms", 16.0);
        assert_eq!(told(&[handshake, exit, drained]), "drained 16 ms after its end");
        assert_eq!(told(&[handshake, exit]), "exited 12 ms after its end");
        assert_eq!(told(&[handshake]), "");
    }

    /// The line is cut, the block is not.
    #[test]
    fn a_long_failure_is_whole_in_its_block() {
        let mut case = samples::case("stdio/clean-close", Verdict::Failed);
        let mut failure = samples::not_started();
        failure.message = "the server said this and that; ".repeat(12) + "and this is the end";
        case.failure = Some(failure);
        let page = Page { width: 80, color: false };
        let block = failure_block(page, &[(&case, case.failure.as_ref().expect("it has one"))]);
        let words: Vec<&str> = block.split_whitespace().collect();
        assert!(words.join(" ").contains("this and that; and this is the end --> "), "{block}");
        let lines = case_lines(page, &case);
        let last = lines.last().and_then(|line| line.strip_suffix('…')).expect("it is cut");
        assert!(
            ["the", "server", "said", "this", "and", "that;"].iter().any(|w| last.ends_with(w))
        );
    }
}
