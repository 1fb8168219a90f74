//! A report against an older one: what is new, gone, still there, slower. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::fingerprint::{self, Fingerprint};
use crate::ledger::verdict::{CaseReport, Verdict};
use crate::report::event::Gated;
use crate::report::json::Report;

/// An end is slower when it takes more than so many times as long as before,
const TIMES: f64 = 2.0;
/// and longer by more than so many milliseconds: a busy host does less.
const MS: f64 = 250.0;
/// Most lines of one sort that are told.
const LINES: usize = 20;

/// What is new is against the report, if it counts; the rest is told. Slow is a figure and no
/// finding: a threshold makes it count.
pub fn compare(old: &Report, new: &Report) -> Gated {
    let (before, after) = (findings(old), findings(new));
    let mut gated = Gated::default();
    let is_known = |fingerprint: &Fingerprint| {
        new.gate.as_ref().is_some_and(|gate| gate.known.contains_key(&fingerprint.hash()))
    };
    for (fingerprint, counts) in &after {
        match (before.contains_key(fingerprint), *counts && !is_known(fingerprint)) {
            (true, _) => gated.told.push(format!("still there: {fingerprint}")),
            (false, true) => gated.against.push(format!("new: {fingerprint}")),
            (false, false) => gated.told.push(format!("new, and does not count: {fingerprint}")),
        }
    }
    let judged: BTreeSet<String> = new
        .cases
        .iter()
        .filter(|case| matches!(case.verdict, Verdict::Clean | Verdict::Leak))
        .map(fingerprint::lifecycle)
        .collect();
    for fingerprint in before.keys().filter(|one| !after.contains_key(one)) {
        let gone =
            if judged.contains(&fingerprint.lifecycle) { "gone" } else { "not judged again" };
        gated.told.push(format!("{gone}: {fingerprint}"));
    }
    let before: BTreeMap<&str, &CaseReport> =
        old.cases.iter().map(|case| (case.id.as_str(), case)).collect();
    for case in &new.cases {
        let Some(old) = before.get(case.id.as_str()) else { continue };
        if old.verdict == Verdict::Clean
            && matches!(case.verdict, Verdict::Failed | Verdict::Unknown)
        {
            gated.against.push(format!("new: {} was clean and is {}", case.id, case.verdict));
        }
        if let (Some(was), Some(is)) = (teardown(old), teardown(case))
            && is > was * TIMES
            && is > was + MS
        {
            gated.told.push(format!("slower: {} ended after {is:.0} ms, was {was:.0} ms", case.id));
        }
    }
    shorten(&mut gated.against);
    shorten(&mut gated.told);
    gated
}

/// Findings of a report, and whether any of each counts. What a scenario expects is none.
fn findings(report: &Report) -> BTreeMap<Fingerprint, bool> {
    let mut findings = BTreeMap::new();
    for case in report.cases.iter().filter(|case| case.expected.is_none()) {
        for finding in &case.findings {
            *findings.entry(Fingerprint::of(case, finding)).or_default() |= report.counts(finding);
        }
    }
    findings
}

fn teardown(case: &CaseReport) -> Option<f64> {
    let figures = &case.figures;
    figures.get("exit_after_due_ms").or_else(|| figures.get("drained_after_due_ms")).copied()
}

/// The first ones of each sort, and how many more there are.
fn shorten(lines: &mut Vec<String>) {
    let sort = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    lines.retain(|line| {
        let number = numbers.entry(sort(line)).or_default();
        *number += 1;
        *number <= LINES
    });
    let more = numbers.into_iter().filter(|(_, number)| *number > LINES);
    lines.extend(more.map(|(sort, number)| format!("{sort}: and {} more", number - LINES)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn report(cases: Vec<CaseReport>) -> Report {
        Report::new(&samples::info(1), None, &[], &samples::summary(cases, 1))
    }

    fn ended(id: &str, ms: f64) -> CaseReport {
        let mut case = samples::case(id, Verdict::Clean);
        case.figures.insert("exit_after_due_ms".into(), ms);
        case
    }

    #[test]
    fn new_gone_still_there_and_slower_are_told_apart() {
        let leak = |id: &str| {
            let mut case = ended(id, 10.0);
            (case.verdict, case.findings) = (Verdict::Leak, vec![samples::process_finding()]);
            case
        };
        let failed = |id: &str| CaseReport { verdict: Verdict::Failed, ..ended(id, 10.0) };
        let old = report(vec![
            leak("a"),
            leak("b"),
            leak("e"),
            ended("c", 10.0),
            ended("d", 400.0),
            ended("f", 1.0),
        ]);
        let new = report(vec![
            leak("a"),
            ended("b", 10.0),
            leak("c"),
            ended("d", 900.0),
            ended("g", 9.0),
            failed("f"),
        ]);
        let gated = compare(&old, &new);
        let finding = "process of the server in";
        let thing = "process # (node dist/index.js)";
        assert_eq!(
            gated.against,
            [format!("new: {finding} c: {thing}"), "new: f was clean and is failed".to_owned()]
        );
        assert_eq!(
            gated.told,
            [
                format!("still there: {finding} a: {thing}"),
                format!("gone: {finding} b: {thing}"),
                format!("not judged again: {finding} e: {thing}"),
                "slower: d ended after 900 ms, was 400 ms".to_owned(),
            ]
        );
        assert_eq!(compare(&new, &new).against, [""; 0]);
    }

    #[test]
    fn many_lines_of_one_sort_are_counted() {
        let mut lines: Vec<String> = (0..30).map(|number| format!("new: {number}")).collect();
        lines.push("gone: x".into());
        shorten(&mut lines);
        assert_eq!(lines.len(), LINES + 2);
        assert_eq!(lines.last().map(String::as_str), Some("new: and 10 more"));
    }
}
