//! Several servers in one run: a heading for each, and one table at the end.

use super::{
    block::{BOLD, DIM, GREEN, MAGENTA, Page, RED},
    event::{ServerInfo, ServerReport},
    json::Totals,
    redact,
    tell::VERDICT_WIDTH,
    text::{LONGEST_LINE, cut, sanitise, wrap},
};
use crate::ledger::verdict::Verdict;

/// Longest name of a server, in characters.
const NAME_WIDTH: usize = 40;

/// `time: npx -y mcp-server-time`
pub(super) fn heading(page: Page, server: &ServerInfo) -> Vec<String> {
    let name = sanitise(&server.name, NAME_WIDTH);
    let rest = match (&server.not_judged, &server.command) {
        (Some(why), _) => format!("not judged: {why}"),
        (None, command) => command.clone().unwrap_or_default(),
    };
    let rest = sanitise(&redact::redact(&rest), 2 * LONGEST_LINE);
    let lines = wrap(&format!("{name}: {rest}"), page.width - 2);
    let mut lines: Vec<String> = lines
        .into_iter()
        .enumerate()
        .map(|(at, line)| if at == 0 { line } else { format!("  {line}") })
        .collect();
    if let Some(rest) = lines[0].strip_prefix(name.as_str()) {
        lines[0] = format!("{}{rest}", page.paint(BOLD, &name));
    }
    lines
}

/// A line for each server: verdict, and how many of its cases came to what.
pub(super) fn table(page: Page, servers: &[ServerReport]) -> Vec<String> {
    let names: Vec<String> =
        servers.iter().map(|server| sanitise(&server.name, NAME_WIDTH)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let room = page.width.saturating_sub(width + VERDICT_WIDTH + 4).max(20);
    let line = |(server, name): (ServerReport, &String)| {
        let (style, word) = match server.verdict {
            Some(verdict @ Verdict::Clean) => (GREEN, verdict.as_str()),
            Some(verdict @ (Verdict::Leak | Verdict::Failed)) => (RED, verdict.as_str()),
            Some(verdict) => (MAGENTA, verdict.as_str()),
            None => (DIM, "-"),
        };
        let what = match &server.not_judged {
            Some(why) => cut(&format!("not judged: {}", sanitise(why, LONGEST_LINE)), room),
            None => totals_in_words(page, &server.totals, 0),
        };
        format!("{name:width$}  {}  {what}", page.paint(style, &format!("{word:<VERDICT_WIDTH$}")))
    };
    servers.iter().map(redact::server).zip(&names).map(line).collect()
}

/// `9 clean, 1 leak`
pub(super) fn totals_in_words(page: Page, totals: &Totals, not_judged: usize) -> String {
    let parts: Vec<String> = [
        (totals.clean, "clean", GREEN),
        (totals.leak, "leak", RED),
        (totals.failed, "failed", RED),
        (totals.unknown, "unknown", MAGENTA),
        (totals.invalid, "invalid", MAGENTA),
        (totals.unmet, "unmet", RED),
        (not_judged, "not judged", MAGENTA),
    ]
    .into_iter()
    .filter(|(number, _, _)| *number > 0)
    .map(|(number, word, style)| page.paint(style, &format!("{number} {word}")))
    .collect();
    if parts.is_empty() { "nothing judged".to_owned() } else { parts.join(", ") }
}
