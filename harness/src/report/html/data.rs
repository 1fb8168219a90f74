//! What the page's script draws from: every case, each text once, within a limit of bytes.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use super::super::ends::rung;
use super::super::json::Report;
use super::super::tell::{crash_words, finding_title};
use super::findings::{Group, title};
use super::head::{command, line};
use super::timeline::{Bar, Clock};
use crate::ledger::fingerprint::Fingerprint;
use crate::ledger::snapshot::Kind;
use crate::ledger::standing::Standing;
use crate::ledger::verdict::{CaseReport, Class, Crash, Finding, StepTiming};

/// Bytes that are kept back for the line of a case of which nothing else is told.
const SHORT: usize = 200;
/// Most findings, texts of one list, bars and steps of a case.
const MOST_FINDINGS: usize = 40;
const MOST_LINES: usize = 20;
const MOST_BARS: usize = 80;
const MOST_STEPS: usize = 200;
/// Stands in a command for the id of its case, so that the commands of many cases are one text.
const ID: char = '\u{1}';

/// The data, and what of it did not fit.
pub(super) struct Packed {
    /// For a script element of type application/json.
    pub json: String,
    /// Cases of which only the line is there.
    pub short: usize,
    /// Cases that are not there at all.
    pub left_out: usize,
}

/// Packs a report. Where not everything fits, cases with something wrong go before the others.
pub(super) fn pack(report: &Report, groups: &[Group], bytes: usize) -> Packed {
    let groups = groups_by_case(groups);
    let red = |at: &usize| report.standing(&report.cases[*at]) == Standing::Passed;
    let mut order: Vec<usize> = (0..report.cases.len()).collect();
    order.sort_by_key(|at| (red(at), *at));
    let mut words = Words::default();
    let mut packed: Vec<Option<String>> = vec![None; report.cases.len()];
    let (mut used, mut short, mut left_out) = (0, 0, 0);
    for (done, at) in order.iter().enumerate() {
        let case = &report.cases[*at];
        let of_case = groups.get(case.id.as_str()).map_or(&[][..], Vec::as_slice);
        let reserve = SHORT * (order.len() - done - 1);
        let before = words.mark();
        let mut text = json(&full(report, case, of_case, &mut words));
        if used + text.len() + words.bytes + reserve > bytes {
            words.forget(before);
            text = json(&line_of(report, case, of_case, &mut words));
            short += 1;
        }
        if used + text.len() + words.bytes > bytes {
            words.forget(before);
            short -= 1;
            left_out += 1;
            continue;
        }
        used += text.len() + 1;
        packed[*at] = Some(text);
    }
    let cases: Vec<String> = packed.into_iter().flatten().collect();
    let words: Vec<String> = words.list.into_iter().map(|(_, written)| written).collect();
    let json = format!("{{\"words\":[{}],\n\"cases\":[{}]}}", words.join(","), cases.join(",\n"));
    Packed { json, short, left_out }
}

/// Which groups of findings a case is in.
fn groups_by_case<'a>(groups: &[Group<'a>]) -> HashMap<&'a str, Vec<(usize, String)>> {
    let mut by_case: HashMap<&str, Vec<(usize, String)>> = HashMap::new();
    for (at, group) in groups.iter().enumerate() {
        for problem in group {
            let Some(case) = problem.case else { continue };
            let known = by_case.entry(&case.id).or_default();
            if known.iter().all(|(group, _)| *group != at) {
                known.push((at, title(problem)));
            }
        }
    }
    by_case
}

/// JSON that means nothing in a page: no `<` of an end tag, no `&` of a reference.
fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

/// Each text once, known by its number.
#[derive(Default)]
struct Words {
    numbers: HashMap<String, usize>,
    /// As text, and as it is written.
    list: Vec<(String, String)>,
    bytes: usize,
}

impl Words {
    fn add(&mut self, text: String) -> usize {
        if let Some(number) = self.numbers.get(&text) {
            return *number;
        }
        let number = self.list.len();
        let written = json(&text);
        self.bytes += written.len() + 1;
        self.list.push((text.clone(), written));
        self.numbers.insert(text, number);
        number
    }

    fn lines<'a>(&mut self, texts: impl IntoIterator<Item = &'a String>) -> Vec<usize> {
        texts.into_iter().take(MOST_LINES).map(|text| self.add(line(text))).collect()
    }

    fn mark(&self) -> (usize, usize) {
        (self.list.len(), self.bytes)
    }

    /// Forgets what was added since.
    fn forget(&mut self, (length, bytes): (usize, usize)) {
        for (text, _) in self.list.drain(length..) {
            self.numbers.remove(&text);
        }
        self.bytes = bytes;
    }
}

/// A case as the script has it; a number in place of a text is its place among the words.
#[derive(Serialize, Default)]
struct Case {
    id: usize,
    verdict: &'static str,
    /// Whether it makes the run red: `ok`, `red`, or `dark` for what was not judged.
    mark: &'static str,
    took: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kinds: Vec<&'static str>,
    /// Groups of findings above that it is in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<usize>,
    /// In a line, what is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    wrong: Option<usize>,
    /// By what it was ended, and how long that took.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<(usize, f64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<More>,
}

/// What opens below its line.
#[derive(Serialize)]
struct More {
    why: usize,
    era: usize,
    tier: &'static str,
    repeat: usize,
    /// The scenario file that it comes from or was kept in.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<usize>,
    cycles: u32,
    end: f64,
    /// Place, name, when it began and how long it took.
    steps: Vec<(usize, usize, f64, f64)>,
    /// Words, from, to, which finding; -1 where there is none.
    bars: Vec<(usize, f64, f64, i64)>,
    /// Things of which there is no bar.
    unseen: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    growth: Vec<Grown>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<Found>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    figures: Vec<(usize, f64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<(usize, usize, Vec<usize>)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unmet: Vec<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<usize>,
}

/// Kind, place of the repeat, and how many there were after which cycle.
type Grown = (&'static str, usize, Vec<(u32, u64)>);

#[derive(Serialize)]
struct Found {
    class: &'static str,
    kind: &'static str,
    title: usize,
    born: usize,
    due: usize,
    due_ms: f64,
    culprit: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holders: Vec<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    evidence: Vec<usize>,
    help: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    known: Option<usize>,
}

/// The line of a case.
fn line_of(
    report: &Report,
    case: &CaseReport,
    groups: &[(usize, String)],
    words: &mut Words,
) -> Case {
    let kinds: BTreeSet<Kind> = case.findings.iter().map(|finding| finding.kind).collect();
    let wrong = groups.first().map(|(_, title)| title.clone());
    let wrong =
        wrong.or_else(|| case.findings.first().map(|finding| line(&finding_title(finding))));
    Case {
        id: words.add(line(&case.id)),
        verdict: case.verdict.as_str(),
        mark: match report.standing(case) {
            Standing::Passed => "ok",
            Standing::Red => "red",
            Standing::NotJudged | Standing::Invalid => "dark",
        },
        took: tenths(Clock::of(case).end_ms()),
        expected: case.expected.map(|_| if case.met { "as expected" } else { "unmet" }),
        kinds: kinds.into_iter().map(Kind::as_str).collect(),
        groups: groups.iter().map(|(at, _)| *at).collect(),
        wrong: wrong.map(|title| words.add(title)),
        end: rung(case).map(|(name, took)| (words.add(line(&name)), tenths(took))),
        more: None,
    }
}

/// All of a case.
fn full(report: &Report, case: &CaseReport, groups: &[(usize, String)], words: &mut Words) -> Case {
    let clock = Clock::of(case);
    let mut one = line_of(report, case, groups, words);
    let bars = clock.bars();
    let drawn: usize = bars.iter().skip(MOST_BARS).map(|bar| bar.count).sum();
    let failure = case.failure.as_ref().map(|failure| {
        let at = words.add(line(&failure.step.to_string()));
        (at, words.add(line(&failure.message)), words.lines(&failure.output))
    });
    let figures = case.figures.iter().take(MOST_LINES);
    let crashes: Vec<String> = case.crashes.iter().map(crashed).collect();
    one.more = Some(More {
        why: words.add(line(&case.why)),
        era: words.add(line(case.era.as_deref().unwrap_or("none"))),
        tier: case.tier.as_str(),
        repeat: words.add(command(&case.repeat).replacen(&line(&case.id), &ID.to_string(), 1)),
        file: report.files.get(&case.id).map(|path| words.add(line(path))),
        cycles: case.cycles,
        end: tenths(clock.end_ms()),
        steps: steps(case, words),
        bars: bars.iter().take(MOST_BARS).map(|bar| of_bar(bar, words)).collect(),
        unseen: case.lives.more + drawn,
        growth: growth(case, words),
        findings: case
            .findings
            .iter()
            .take(MOST_FINDINGS)
            .map(|finding| found(report, case, finding, &clock, words))
            .collect(),
        figures: figures.map(|(name, figure)| (words.add(line(name)), tenths(*figure))).collect(),
        failure,
        unmet: words.lines(&case.unmet),
        unreadable: words.lines(&case.unreadable),
        notes: words.lines(crashes.iter().chain(&case.notes)),
    });
    one
}

fn steps(case: &CaseReport, words: &mut Words) -> Vec<(usize, usize, f64, f64)> {
    let mut steps: Vec<_> = case.steps.iter().take(MOST_STEPS).collect();
    steps.sort_by(|a, b| a.at_ms.total_cmp(&b.at_ms));
    let row = |timing: &&StepTiming| {
        let place = words.add(line(&timing.step.place));
        (place, words.add(line(&timing.step.name)), tenths(timing.at_ms), tenths(timing.took_ms))
    };
    steps.iter().map(row).collect()
}

/// Told beside the findings: it is no leak.
pub(super) fn crashed(crash: &Crash) -> String {
    format!("the server crashed when its end came: {}", crash_words(crash))
}

fn growth(case: &CaseReport, words: &mut Words) -> Vec<Grown> {
    let growth = case.lives.growth.iter().take(MOST_LINES);
    growth.map(|one| (one.kind.as_str(), words.add(line(&one.place)), one.points.clone())).collect()
}

fn of_bar(bar: &Bar, words: &mut Words) -> (usize, f64, f64, i64) {
    let to = bar.to_ms.map_or(-1.0, tenths);
    let finding = bar.finding.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1);
    (words.add(line(&bar.words)), tenths(bar.from_ms), to, finding)
}

fn found(
    report: &Report,
    case: &CaseReport,
    finding: &Finding,
    clock: &Clock,
    words: &mut Words,
) -> Found {
    let holders: Vec<String> = finding
        .holders
        .iter()
        .map(|one| format!("pid {} ({}) has {}", one.pid, one.command, one.holds))
        .collect();
    let known = report.reason_for(&Fingerprint::of(case, finding).hash()).map(line);
    Found {
        class: match finding.class {
            Class::Leak => "leak",
            Class::Advisory => "advisory",
        },
        kind: finding.kind.as_str(),
        title: words.add(line(&finding_title(finding))),
        born: words.add(line(&finding.birth_step.to_string())),
        due: words.add(line(&finding.due_step.to_string())),
        due_ms: tenths(clock.due(&finding.due_step)),
        culprit: words.add(line(&format!("{} — {}", finding.culprit, finding.blame))),
        holders: words.lines(&holders),
        evidence: words.lines(&finding.evidence),
        help: words.add(line(&finding.remedy)),
        rule: finding.rule.as_deref().map(|rule| words.add(line(rule))),
        site: finding.site.as_deref().map(|site| words.add(line(site))),
        known: known.map(|reason| words.add(reason)),
    }
}

/// Milliseconds with one digit behind the point; what is no number is none.
fn tenths(ms: f64) -> f64 {
    if ms.is_finite() { (ms * 10.0).round() / 10.0 } else { 0.0 }
}
