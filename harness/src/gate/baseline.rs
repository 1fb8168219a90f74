//! Findings that are known, with a reason and an end: `scupper-baseline.toml`. Strict both ways. Pure.
//!
//! An entry names one finding by its fingerprint and accepts so many things of it, until a day. A
//! finding that no entry accepts is as red as without a baseline; an entry whose finding no longer
//! appears is stale, and as red; so is one whose day has come.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::calendar::Day;
use crate::ledger::fingerprint::{self, Fingerprint};
use crate::ledger::snapshot::Kind;
use crate::ledger::verdict::{CaseReport, Culprit, Verdict};
use crate::report::event::Gated;
use crate::report::json::Report;
use crate::spelled::count;

/// What a file of ours begins with.
const HEAD: &str = "\
# Leaks that are known, for `scupper --baseline`. One that is gone, or whose day has come, fails.
# Written by --update-baseline --reason TEXT; --prune takes out what is gone.
";
/// Most things that one entry can accept.
const MOST: usize = 1_000_000;

/// Known findings, each fingerprint once, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Baseline {
    known: BTreeMap<Fingerprint, Known>,
}

/// What is accepted of one finding, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Most things in one case.
    pub max: usize,
    /// Why it is accepted.
    pub reason: String,
    /// Who sees to it.
    pub owner: Option<String>,
    /// The first day on which it is accepted no more.
    pub expires: Day,
}

/// The file as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    known: Vec<Entry>,
}

/// One entry as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    lifecycle: String,
    kind: Kind,
    culprit: Culprit,
    target: String,
    max: usize,
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    expires: toml::value::Datetime,
}

/// What is put into a baseline for a finding that it does not accept.
#[derive(Debug, Clone, Copy)]
pub struct Acceptance<'a> {
    /// Why.
    pub reason: &'a str,
    /// Who sees to it; an entry that is there keeps its own where none is given.
    pub owner: Option<&'a str>,
    /// Until when.
    pub expires: Day,
}

impl Baseline {
    /// Reads a file, or says what is wrong with it and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut known = BTreeMap::new();
        for (place, entry) in file.known.into_iter().enumerate() {
            let at = |what: String| format!("entry {} ({}): {what}", place + 1, entry.lifecycle);
            let (fingerprint, accepted) = read(&entry).map_err(at)?;
            if known.insert(fingerprint, accepted).is_some() {
                return Err(format!(
                    "entry {} ({}): another entry names the same finding; leave one, with the `max` of both",
                    place + 1,
                    entry.lifecycle
                ));
            }
        }
        Ok(Self { known })
    }

    /// The file that says this.
    pub fn render(&self) -> String {
        let entry = |(fingerprint, known): (&Fingerprint, &Known)| Entry {
            lifecycle: fingerprint.lifecycle.clone(),
            kind: fingerprint.kind,
            culprit: fingerprint.culprit,
            target: fingerprint.target.clone(),
            max: known.max,
            reason: known.reason.clone(),
            owner: known.owner.clone(),
            expires: known.expires.into(),
        };
        let file = File { known: self.known.iter().map(entry).collect() };
        let entries = toml::to_string(&file).unwrap_or_default();
        let entries = if self.known.is_empty() { "known = []\n" } else { entries.as_str() };
        format!("{HEAD}\n{entries}")
    }

    /// How many findings it knows.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// It knows none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Holds a report against it.
    pub fn judge(&self, report: &Report, today: Day) -> Gated {
        let seen = Seen::of(report);
        let mut gated = Gated::default();
        let mut not_judged = 0;
        for (fingerprint, known) in &self.known {
            let found = seen.most.get(fingerprint).copied();
            let is_over = known.expires <= today;
            match found {
                Some(_) if is_over => gated.against.push(format!(
                    "expired on {}: {fingerprint}; accepted then because: {}",
                    known.expires, known.reason
                )),
                Some(found) if found > known.max => gated.against.push(format!(
                    "{found} where the baseline accepts {}: {fingerprint}",
                    known.max
                )),
                Some(_) => {
                    gated.known.insert(fingerprint.hash(), known.reason.clone());
                }
                None if seen.judged.contains(&fingerprint.lifecycle) => gated
                    .against
                    .push(format!("stale, it is gone: {fingerprint}; take it out with --prune")),
                None if is_over => gated.against.push(format!(
                    "expired on {}, and its lifecycle was not judged here: {fingerprint}",
                    known.expires
                )),
                None => not_judged += 1,
            }
        }
        gated.accepted = report
            .cases
            .iter()
            .filter(|case| case.expected.is_none())
            .flat_map(|case| case.findings.iter().map(move |one| Fingerprint::of(case, one).hash()))
            .filter(|hash| gated.known.contains_key(hash))
            .count();
        if not_judged > 0 {
            let of = count(self.known.len(), "entry");
            let about = match not_judged {
                1 => "is about a lifecycle that was",
                _ => "are about lifecycles that were",
            };
            gated.told.push(format!("{not_judged} of {of} {about} not judged here to the end"));
        }
        gated
    }

    /// The same with every finding that counts and is not accepted. Things that grow with the cycles are
    /// accepted up to twice their number, because how many there are is partly chance.
    #[must_use]
    pub fn updated(&self, report: &Report, today: Day, new: Acceptance) -> Self {
        let mut known = self.known.clone();
        for case in report.cases.iter().filter(|case| case.expected.is_none()) {
            let of_case = numbers(case);
            for finding in case.findings.iter().filter(|finding| report.counts(finding)) {
                let fingerprint = Fingerprint::of(case, finding);
                let found = of_case.get(&fingerprint).copied().unwrap_or(finding.count);
                let grows = finding.birth_step.cycle.is_some();
                let max = if grows { found.saturating_mul(2) } else { found }.clamp(1, MOST);
                let accepted = || Known {
                    max,
                    reason: new.reason.to_owned(),
                    owner: new.owner.map(str::to_owned),
                    expires: new.expires,
                };
                let entry = known.entry(fingerprint).or_insert_with(accepted);
                if entry.max < found || entry.expires <= today {
                    let owner = entry.owner.take();
                    let max = entry.max.max(max);
                    *entry = accepted();
                    (entry.max, entry.owner) = (max, entry.owner.take().or(owner));
                }
            }
        }
        Self { known }
    }

    /// The same without what is gone.
    #[must_use]
    pub fn pruned(&self, report: &Report) -> Self {
        let seen = Seen::of(report);
        let mut known = self.known.clone();
        known.retain(|fingerprint, _| {
            seen.most.contains_key(fingerprint) || !seen.judged.contains(&fingerprint.lifecycle)
        });
        Self { known }
    }
}

/// What a report shows that a baseline can be held against. What a scenario expects is no part of it:
/// the file is a baseline of its own.
struct Seen {
    /// Of each finding, the most things in one case.
    most: BTreeMap<Fingerprint, usize>,
    /// Lifecycles that were judged to their end, so that what is not found in them is gone.
    judged: BTreeSet<String>,
}

impl Seen {
    fn of(report: &Report) -> Self {
        let mut seen = Self { most: BTreeMap::new(), judged: BTreeSet::new() };
        // Where the canary failed, nothing that was not seen is gone.
        let counts = report.canary.as_ref().is_some_and(|canary| canary.holds());
        let mut inconclusive = BTreeSet::new();
        for case in report.cases.iter().filter(|case| case.expected.is_none()) {
            for (fingerprint, number) in numbers(case) {
                let most = seen.most.entry(fingerprint).or_default();
                *most = number.max(*most);
            }
            let to_its_end = matches!(case.verdict, Verdict::Clean | Verdict::Leak)
                && case.failure.is_none()
                && case.unreadable.is_empty();
            let lifecycle = fingerprint::lifecycle(case);
            match counts && to_its_end {
                true => seen.judged.insert(lifecycle),
                false => inconclusive.insert(lifecycle),
            };
        }
        seen.judged.retain(|lifecycle| !inconclusive.contains(lifecycle));
        seen
    }
}

/// Things of a case by fingerprint.
fn numbers(case: &CaseReport) -> BTreeMap<Fingerprint, usize> {
    let mut numbers = BTreeMap::new();
    for finding in &case.findings {
        *numbers.entry(Fingerprint::of(case, finding)).or_default() += finding.count;
    }
    numbers
}

/// An entry that names one finding, or why it does not.
fn read(entry: &Entry) -> Result<(Fingerprint, Known), String> {
    for (key, text) in
        [("lifecycle", &entry.lifecycle), ("target", &entry.target), ("reason", &entry.reason)]
    {
        if text.trim().is_empty() {
            return Err(format!("`{key}` is empty; it says what is accepted, and why"));
        }
    }
    for (key, text) in [("lifecycle", &entry.lifecycle), ("target", &entry.target)] {
        if text.contains('*') {
            return Err(format!(
                "`{key}` has a `*`, and an entry names one finding: write one for each"
            ));
        }
    }
    if entry.target.contains(|c: char| c.is_ascii_digit()) {
        return Err("`target` has a number, which is another in each run: write `#` for it".into());
    }
    if !(1..=MOST).contains(&entry.max) {
        return Err(format!("`max` is {}; an entry accepts 1 to {MOST} things", entry.max));
    }
    let fingerprint = Fingerprint {
        lifecycle: entry.lifecycle.clone(),
        kind: entry.kind,
        culprit: entry.culprit,
        target: entry.target.clone(),
    };
    let known = Known {
        max: entry.max,
        reason: entry.reason.clone(),
        owner: entry.owner.clone(),
        expires: entry
            .expires
            .to_string()
            .parse()
            .map_err(|error| format!("`expires`: {error}"))?,
    };
    Ok((fingerprint, known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::standing::Standing;
    use crate::report::samples;

    const TODAY: &str = "2026-11-22";

    fn day(text: &str) -> Day {
        text.parse().expect("a day")
    }

    fn acceptance() -> Acceptance<'static> {
        Acceptance { reason: "known, #12", owner: Some("us"), expires: day("2027-02-20") }
    }

    fn report(cases: Vec<CaseReport>) -> Report {
        let summary = samples::summary(cases, 1);
        Report::new(&samples::info(1), None, &[], &summary)
    }

    fn leaking(count: usize) -> Report {
        let mut case = samples::case("stdio/half-close", Verdict::Leak);
        let mut finding = samples::process_finding();
        (finding.count, finding.what) = (count, format!("process {count} (node dist/index.js)"));
        case.findings = vec![finding];
        report(vec![case])
    }

    fn clean() -> Report {
        report(vec![samples::case("stdio/half-close", Verdict::Clean)])
    }

    fn baseline() -> Baseline {
        Baseline::default().updated(&leaking(1), day(TODAY), acceptance())
    }

    #[test]
    fn what_was_written_can_be_read() {
        let whole = Baseline::default().updated(&samples::everything(), day(TODAY), acceptance());
        assert_eq!(Baseline::parse(&whole.render()), Ok(whole.clone()));
        assert_eq!(Baseline::parse(&Baseline::default().render()), Ok(Baseline::default()));
        insta::assert_snapshot!(whole.render());
    }

    #[test]
    fn no_credential_is_written() {
        let mut report = leaking(1);
        report.cases[0].findings[0].what = "process 7 (x --api-key abcdef)".into();
        let report = Report::new(&report.run, None, &[], &report.summary());
        let text = Baseline::default().updated(&report, day(TODAY), acceptance()).render();
        assert!(text.contains("--api-key [redacted]"), "{text}");
    }

    #[test]
    fn what_is_listed_passes_with_other_pids_and_nothing_else_does() {
        let mut known = leaking(1);
        known.gate = Some(baseline().judge(&known, day(TODAY)));
        assert_eq!(known.standing(&known.cases[0]), Standing::Passed);
        let gated = known.gate.expect("it was just judged");
        assert_eq!((gated.accepted, gated.against.len()), (1, 0));
        let mut other = leaking(1);
        other.cases[0].findings[0].kind = Kind::Zombie;
        other.gate = Some(baseline().judge(&other, day(TODAY)));
        assert_eq!(other.standing(&other.cases[0]), Standing::Red);
    }

    #[test]
    fn a_failure_beside_a_known_leak_is_red_and_what_could_not_be_seen_is_not_green() {
        let mut known = leaking(1);
        known.gate = Some(baseline().judge(&known, day(TODAY)));
        known.cases[0].unreadable = vec!["descriptors of pid 7".into()];
        assert_eq!(known.standing(&known.cases[0]), Standing::NotJudged);
        let failure =
            crate::ledger::verdict::Failure { not_started: false, ..samples::not_started() };
        known.cases[0].failure = Some(failure);
        assert_eq!(known.standing(&known.cases[0]), Standing::Red);
    }

    #[test]
    fn more_than_the_maximum_a_stale_entry_and_an_expired_one_are_against_it() {
        let against = |report: &Report, today: &str| baseline().judge(report, day(today)).against;
        let said = |report: &Report, today: &str| against(report, today).join("\n");
        assert_eq!(against(&leaking(1), TODAY), [""; 0]);
        assert!(said(&leaking(2), TODAY).starts_with("2 where the baseline accepts 1: process of"));
        assert!(said(&clean(), TODAY).starts_with("stale, it is gone: process of the server"));
        assert!(said(&leaking(1), "2027-02-20").starts_with("expired on 2027-02-20"));
        assert_eq!(against(&leaking(1), "2027-02-19"), [""; 0]);
    }

    #[test]
    fn what_was_not_judged_to_its_end_is_neither_stale_nor_pruned() {
        let mut unseen = clean();
        unseen.cases[0].verdict = Verdict::Unknown;
        let mut elsewhere = clean();
        elsewhere.cases[0].id = "stdio/other".into();
        elsewhere.cases[0].lifecycle = "stdio/other".into();
        let mut invalid = clean();
        invalid.canary = None;
        for report in [unseen, elsewhere, invalid] {
            let gated = baseline().judge(&report, day(TODAY));
            assert_eq!((gated.against.len(), gated.told.len()), (0, 1), "{gated:?}");
            assert_eq!(baseline().pruned(&report).len(), 1);
        }
        assert!(baseline().pruned(&clean()).is_empty());
        assert_eq!(baseline().pruned(&leaking(1)).len(), 1);
    }

    #[test]
    fn an_update_keeps_what_holds_and_renews_what_does_not() {
        let later = Acceptance { reason: "again", owner: None, expires: day("2028-01-01") };
        let kept = baseline().updated(&leaking(1), day(TODAY), later);
        assert_eq!(kept, baseline());
        let more = baseline().updated(&leaking(3), day(TODAY), later);
        let known = more.known.values().next().expect("one");
        assert_eq!((known.max, known.reason.as_str()), (3, "again"));
        assert_eq!(known.owner.as_deref(), Some("us"));
        let renewed = baseline().updated(&leaking(1), day("2027-06-01"), later);
        assert_eq!(renewed.known.values().next().map(|known| known.expires), Some(later.expires));
    }

    #[test]
    fn an_entry_that_would_match_more_than_it_names_is_refused() {
        let text = baseline().render();
        let one = text.split_once("[[known]]").expect("an entry").1;
        let table = [
            (text.replace("stdio/half-close", "stdio/*"), "`lifecycle` has a `*`"),
            (text.replace("process # (", "process 4711 ("), "write `#` for it"),
            (text.replace("max = 1", "max = 0"), "`max` is 0"),
            (text.replace("known, #12", " "), "`reason` is empty"),
            (text.replace("target = ", "tarket = "), "tarket"),
            (text.replace("culprit = \"server\"\n", ""), "culprit"),
            (text.replace("2027-02-20", "2027-02-20T10:00:00Z"), "`expires`"),
            (format!("{text}\n[[known]]{one}"), "names the same finding"),
        ];
        for (text, said) in table {
            let error = Baseline::parse(&text).expect_err(said);
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
