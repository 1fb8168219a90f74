//! The table of a byte sweep: a line for each fault and direction, equal bytes folded.

use super::{
    block::{DIM, GREEN, MAGENTA, Page, RED},
    tell::VERDICT_WIDTH,
    text::{count, sanitise, wrap},
};
use crate::ledger::verdict::{CaseReport, Class, Swept, Verdict};
use crate::lifecycle::sweep::Lane;

/// Longest account of one range, in characters.
const LONGEST_RANGE: usize = 200;

/// A line for each lane, in the order of play.
pub(super) fn table(page: Page, cases: &[CaseReport]) -> Vec<String> {
    let mut lanes: Vec<(Lane, Vec<(&CaseReport, &Swept)>)> = Vec::new();
    for case in cases {
        let Some(swept) = &case.swept else { continue };
        match lanes.last_mut() {
            Some((lane, ranges)) if *lane == swept.lane => ranges.push((case, swept)),
            _ => lanes.push((swept.lane, vec![(case, swept)])),
        }
    }
    lanes.iter().flat_map(|(lane, ranges)| line(page, *lane, ranges)).collect()
}

/// `leak     dies, to the server: bytes 0..=151: clean; 152: leak, process (…); 153..=319: clean`
fn line(page: Page, lane: Lane, ranges: &[(&CaseReport, &Swept)]) -> Vec<String> {
    let verdict = ranges.iter().map(|(case, _)| case.verdict).max().unwrap_or(Verdict::Unknown);
    let style = match verdict {
        Verdict::Clean => GREEN,
        Verdict::Leak | Verdict::Failed => RED,
        Verdict::Unknown | Verdict::Invalid => MAGENTA,
    };
    let told: Vec<String> = ranges.iter().map(|(case, swept)| range(case, swept)).collect();
    let plural = ranges.len() > 1 || ranges.iter().any(|(_, swept)| swept.first < swept.last);
    let bytes = if plural { "bytes" } else { "byte" };
    let text = format!("{}: {bytes} {}", lane.words(), told.join("; "));
    let indent = VERDICT_WIDTH + 2;
    let mut start = page.paint(style, &format!("{:<VERDICT_WIDTH$}", verdict.as_str()));
    let mut lines = Vec::new();
    for part in wrap(&text, page.width.saturating_sub(indent + 2)) {
        let hang = if lines.is_empty() { "" } else { "  " };
        lines.push(format!("{start}  {hang}{part}"));
        start = " ".repeat(VERDICT_WIDTH);
    }
    if lines.is_empty() {
        lines.push(page.paint(DIM, "nothing was played"));
    }
    lines
}

/// `0..=151: clean`
fn range(case: &CaseReport, swept: &Swept) -> String {
    let bytes = match swept.first == swept.last {
        true => swept.first.to_string(),
        false => format!("{}..={}", swept.first, swept.last),
    };
    let mut remarks = Vec::new();
    if !swept.reached {
        remarks.push("not reached: these lives had fewer bytes".to_owned());
    }
    let all = usize::try_from(swept.last - swept.first).unwrap_or(usize::MAX).saturating_add(1);
    if swept.lives < all {
        remarks.push(format!("{} played", swept.lives));
    }
    if swept.judged < swept.lives {
        remarks.push(format!("{} judged in full, the others alike at a first look", swept.judged));
    }
    let remarks = match remarks.as_slice() {
        [] => String::new(),
        some => format!(" ({})", some.join(", ")),
    };
    let text = format!("{bytes}: {}{remarks}", what(case));
    sanitise(&text, LONGEST_RANGE)
}

/// `leak process (half-close stdin, server)`: by when it was due, and whose it is
fn what(case: &CaseReport) -> String {
    let mut parts: Vec<String> = Vec::new();
    for finding in &case.findings {
        let kind = match finding.count {
            1 => finding.kind.as_str().to_owned(),
            number => count(number, finding.kind.as_str()),
        };
        let class = if finding.class == Class::Leak { "leak" } else { "advisory" };
        let part = format!("{class} {kind} ({}, {})", finding.due_step.name, finding.culprit);
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    if let Some(failure) = &case.failure {
        parts.push(format!("failed at {}", failure.step.name));
    }
    if parts.is_empty() { case.verdict.as_str().to_owned() } else { parts.join(", ") }
}
