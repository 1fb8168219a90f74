//! Which cases took longest to end, and by which rung: a short table below the findings.

use super::{
    block::{DIM, Page},
    tell::{VERDICT_WIDTH, verdict_cell},
    text::{LONGEST_LINE, count, cut, duration, sanitise},
};
use crate::ledger::verdict::{CaseReport, Class};

/// Most rows.
const MOST_ROWS: usize = 8;
/// Width of the column of times.
const TIME_WIDTH: usize = 8;
/// Words with which the steps begin that end something.
const ENDS: &[&str] = &[
    "half-close",
    "close",
    "drop",
    "kill",
    "signal",
    "shutdown",
    "delete",
    "reset",
    "abandon",
    "remove",
    "SIGTERM",
    "client",
];
/// Figures that say how long an end took, the one that says most first.
const TOOK: &[&str] = &[
    "drained_after_due_ms",
    "exit_after_due_ms",
    "teardown_ms",
    "end_of_stdin_to_end_of_server_ms",
];

/// A case as a row: the rung by which it was ended, and how long that took; none where it never ended.
struct Row<'a> {
    case: &'a CaseReport,
    rung: String,
    took_ms: Option<f64>,
}

/// What never ended, then what took longest; nothing where one case alone has something to say.
pub(super) fn table(page: Page, cases: &[&CaseReport]) -> Vec<String> {
    let mut rows: Vec<Row> = cases.iter().filter_map(|case| row(case)).collect();
    if rows.len() < 2 {
        return Vec::new();
    }
    // Stable, so that equals stay in the order of play.
    rows.sort_by(|a, b| {
        let key = |row: &Row| row.took_ms.unwrap_or(f64::INFINITY);
        key(b).total_cmp(&key(a))
    });
    let (shown, rest) = rows.split_at(rows.len().min(MOST_ROWS));
    let ids: Vec<String> = shown.iter().map(|row| sanitise(&row.case.id, LONGEST_LINE)).collect();
    let widest = ids.iter().map(|id| id.chars().count()).max().unwrap_or(0);
    let width = widest.clamp("lifecycle".len(), page.width / 2);
    let line = |verdict: &str, id: &str, took: &str, rung: &str| {
        let start = format!("{:width$}  {took:>TIME_WIDTH$}  ", cut(id, width));
        let room = page.width.saturating_sub(VERDICT_WIDTH + 2 + start.chars().count());
        format!("{verdict}  {start}{}", cut(rung, room)).trim_end().to_owned()
    };
    let heading =
        line(&format!("{:<VERDICT_WIDTH$}", "verdict"), "lifecycle", "its end", "slowest rung");
    let mut lines = vec![page.paint(DIM, &heading)];
    for (row, id) in shown.iter().zip(&ids) {
        let took = row.took_ms.map_or("never".to_owned(), duration);
        lines.push(line(
            &verdict_cell(page, row.case),
            id,
            &took,
            &sanitise(&row.rung, LONGEST_LINE),
        ));
    }
    if let Some(slowest) = rest.first() {
        let cases = count(rest.len(), "more case");
        let bound = slowest.took_ms.map_or("which never ended, as above".to_owned(), |ms| {
            format!("none slower than {}", duration(ms))
        });
        lines.push(page.paint(DIM, &format!("… and {cases}, {bound}")));
    }
    lines
}

fn row(case: &CaseReport) -> Option<Row<'_>> {
    // Of a byte sweep the lanes tell, and a case is many lives.
    if case.swept.is_some() {
        return None;
    }
    // What never started has no end worth a word.
    if case.failure.as_ref().is_some_and(|failure| failure.not_started) {
        return None;
    }
    let leak = case.findings.iter().find(|finding| finding.class == Class::Leak);
    if let Some(leak) = leak {
        // What a scenario expects and gets is not news.
        if case.expected.is_some() && case.met {
            return None;
        }
        return Some(Row { case, rung: leak.due_step.name.clone(), took_ms: None });
    }
    let (rung, took) = rung(case)?;
    Some(Row { case, rung, took_ms: Some(took) })
}

/// By what a case was ended, and how long that took in milliseconds; none where it is not known.
pub(super) fn rung(case: &CaseReport) -> Option<(String, f64)> {
    let took = TOOK.iter().find_map(|name| case.figures.get(*name))?;
    let is_end = |name: &str| ENDS.iter().any(|verb| name.split(' ').next() == Some(*verb));
    let last = case.steps.iter().rev().find(|timing| is_end(&timing.step.name));
    let name = last.map_or("end of the lifecycle", |timing| timing.step.name.as_str());
    Some((name.to_owned(), *took))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::verdict::Verdict;
    use crate::report::samples;

    #[test]
    fn the_rung_is_the_last_step_that_ends_something() {
        let mut case = samples::case("stdio/half-close", Verdict::Clean);
        assert_eq!(rung(&case), Some(("half-close stdin".into(), 16.4)));
        case.figures.clear();
        assert_eq!(rung(&case), None);
    }

    fn told(cases: &[CaseReport]) -> Vec<String> {
        table(Page { width: 100, color: false }, &cases.iter().collect::<Vec<_>>())
    }

    #[test]
    fn what_never_ended_stands_first_and_then_the_slowest() {
        let mut cases = samples::cases();
        let slow = cases.iter_mut().find(|case| case.id == "stdio/cancel-then-close");
        slow.expect("a sample").figures.insert("drained_after_due_ms".into(), 2_340.0);
        insta::assert_snapshot!(told(&cases).join("\n"), @r"
        verdict  lifecycle                 its end  slowest rung
        leak     stdio/half-close            never  half-close stdin
        leak     stdio/close-during-call     never  close
        leak     stdio/many-calls            never  repeat 20
        failed   stdio/cancel-then-close     2.3 s  half-close stdin
        clean    stdio/clean-close           16 ms  half-close stdin
        unknown  stdio/kill-client           16 ms  half-close stdin
        ");
    }

    #[test]
    fn many_are_cut_and_the_bound_of_the_rest_is_told() {
        let case = |n: u32| {
            let mut case = samples::case(&format!("stdio/life-{n}"), Verdict::Clean);
            case.figures.insert("exit_after_due_ms".into(), f64::from(n));
            case
        };
        let lines = told(&(0..20).map(case).collect::<Vec<_>>());
        assert_eq!(lines.len(), 1 + MOST_ROWS + 1);
        assert!(lines[1].contains("stdio/life-19 "), "{lines:?}");
        assert_eq!(lines[9], "… and 12 more cases, none slower than 11 ms");
        assert_eq!(told(&[case(1)]), Vec::<String>::new(), "one case needs no table");
    }

    #[test]
    fn an_expected_leak_has_no_row() {
        let mut cases = samples::cases();
        for case in cases.iter_mut().filter(|case| case.verdict == Verdict::Leak) {
            (case.expected, case.met) = (Some(Verdict::Leak), true);
        }
        assert!(!told(&cases).iter().any(|line| line.contains("never")));
    }
}
