//! A run on GitHub: annotations on stdout, and a summary of the step.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::sync::OnceLock;

use super::json::Report;
use super::problem::{Level, Problem, Sort, problems};
use super::text::{count, duration, sanitise};
use crate::ledger::standing::Standing;
use crate::ledger::verdict::CaseReport;

/// Annotations of one step that GitHub shows are ten of each sort; the last one counts the rest.
const ANNOTATIONS: usize = 9;
/// Bytes of a summary: over 1 MiB GitHub takes none of it.
pub const SUMMARY: usize = 1_000_000;
/// Bytes that are kept back for the line that says what was left out.
const LAST_LINE: usize = 200;
/// Longest text in a cell of a table, in characters.
const CELL: usize = 200;

/// What makes the runner listen to commands again; unknown to whatever is judged.
static TOKEN: OnceLock<String> = OnceLock::new();

/// Asks the runner to take nothing on stdout for a command, until [`annotate`]: what a subject has
/// written stands there, too.
pub fn hold_commands() {
    let random = || RandomState::new().build_hasher().finish();
    let token = TOKEN.get_or_init(|| format!("scupper-{:016x}{:016x}", random(), random()));
    write(&format!("::stop-commands::{token}\n"));
}

/// Writes the annotations to stdout, as workflow commands.
pub fn annotate(report: &Report) {
    if let Some(token) = TOKEN.get() {
        write(&format!("::{token}::\n"));
    }
    write(&annotations(report));
}

fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    // A closed pipe is the reader's choice; the exit code tells the rest.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// One workflow command a line: at most nine, and one that counts the rest.
pub fn annotations(report: &Report) -> String {
    let all = problems(report);
    let mut red: Vec<&Problem> = all.iter().filter(|one| one.level == Level::Error).collect();
    // What makes the whole run worth nothing goes first.
    red.sort_by_key(|one| one.sort != Sort::Invalid);
    let mut out = String::new();
    for problem in red.iter().take(ANNOTATIONS) {
        let file = problem.case.and_then(|case| report.files.get(&case.id));
        let place = file.map(|file| format!("file={},line=1,", property(file)));
        let text = std::iter::once(&problem.title).chain(&problem.details);
        let text = text.map(String::as_str).collect::<Vec<_>>().join("\n");
        let title = property(&format!("scupper {}", problem.sort.id()));
        let place = place.unwrap_or_default();
        out.push_str(&format!("::error {place}title={title}::{}\n", data(&text)));
    }
    if let Some(more) = red.len().checked_sub(ANNOTATIONS).filter(|more| *more > 0) {
        let text = format!("and {more} more: the step's summary and the report have them all");
        out.push_str(&format!("::error title=scupper::{}\n", data(&text)));
    }
    out
}

/// The text of a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A value in front of it.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// The summary of the step in Markdown, at most so many bytes, whole sections only.
pub fn summary(report: &Report, bytes: usize) -> String {
    let all = problems(report);
    let red: Vec<&Problem> = all.iter().filter(|one| one.level == Level::Error).collect();
    let mut sections = vec![head(report)];
    sections.extend(red.iter().map(|problem| section(problem)));
    sections.push(table(report));
    let room = bytes.saturating_sub(LAST_LINE);
    let (mut out, mut left_out) = (String::new(), 0);
    for section in sections {
        if out.len() + section.len() <= room {
            out.push_str(&section);
        } else {
            left_out += 1;
        }
    }
    if left_out > 0 {
        let more = count(left_out, "section");
        out.push_str(&format!("\n{more} left out: the summary of a step has a limit.\n"));
    }
    // A previous step's summary, or no room at all.
    if out.len() > bytes { String::new() } else { out }
}

fn head(report: &Report) -> String {
    let totals = report.totals;
    let mark = if report.exit_code == 0 { "✅" } else { "❌" };
    let numbers = [
        (totals.clean, "clean"),
        (totals.leak, "leak"),
        (totals.failed, "failed"),
        (totals.unknown, "unknown"),
        (totals.invalid, "invalid"),
        (report.not_judged.len(), "not judged"),
    ];
    let told = numbers.iter().filter(|(number, _)| *number > 0);
    let told: Vec<String> = told.map(|(number, word)| format!("{number} {word}")).collect();
    format!(
        "## {mark} scupper: {}\n\n{} · {} · exit code {}\n",
        code(&report.run.subject),
        if told.is_empty() { "nothing judged".to_owned() } else { told.join(" · ") },
        duration(report.took_ms as f64),
        report.exit_code
    )
}

fn section(problem: &Problem) -> String {
    let details: Vec<String> =
        problem.details.iter().map(|line| line.replace("```", "'''")).collect();
    let block = match details.is_empty() {
        true => String::new(),
        false => format!("\n```text\n{}\n```\n", details.join("\n")),
    };
    format!("\n### `{}` {}\n{block}", problem.sort.id(), code(&problem.title))
}

fn table(report: &Report) -> String {
    if report.cases.is_empty() {
        return String::new();
    }
    let mut out = String::from(
        "\n<details><summary>All cases</summary>\n\n| case | verdict | end took |\n|---|---|---|\n",
    );
    for case in &report.cases {
        out.push_str(&format!(
            "| {} | {} {} | {} |\n",
            code(&case.id),
            mark(report, case),
            case.verdict,
            case.figures.get("exit_after_due_ms").map_or(String::new(), |ms| duration(*ms))
        ));
    }
    out.push_str("\n</details>\n");
    out
}

fn mark(report: &Report, case: &CaseReport) -> &'static str {
    match report.standing(case) {
        Standing::Passed => "✅",
        Standing::Red => "❌",
        Standing::NotJudged | Standing::Invalid => "⚠️",
    }
}

/// Text that means nothing in Markdown, also in the cell of a table.
fn code(text: &str) -> String {
    format!("`{}`", sanitise(text, CELL).replace('`', "'").replace('|', "¦"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn everything_in_annotations() {
        let report = samples::everything();
        let text = annotations(&report);
        assert_eq!(text.lines().count(), ANNOTATIONS + 1);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn everything_in_a_summary() {
        insta::assert_snapshot!(summary(&samples::everything(), SUMMARY));
    }

    #[test]
    fn nothing_of_the_subject_begins_a_command_or_ends_one() {
        assert_eq!(data("100%\r\n::error::x"), "100%25%0D%0A::error::x");
        assert_eq!(property("a:b,c%"), "a%3Ab%2Cc%25");
        for line in annotations(&samples::everything()).lines() {
            assert!(line.starts_with("::error "), "{line}");
        }
    }

    #[test]
    fn a_summary_keeps_its_limit_and_says_what_it_left_out() {
        let report = samples::everything();
        let whole = summary(&report, SUMMARY).len();
        for bytes in [whole - 1, whole / 2, 600, LAST_LINE, 0] {
            let text = summary(&report, bytes);
            assert!(text.len() <= bytes, "{} of {bytes}", text.len());
            assert!(text.contains("left out") || bytes <= LAST_LINE, "{bytes}: {text}");
        }
    }

    #[test]
    fn no_credential_is_written() {
        let report = samples::everything();
        assert!(!annotations(&report).contains("abc123"));
        assert!(!summary(&report, SUMMARY).contains("abc123"));
    }
}
