//! A campaign of generated lifecycles as a report, and one report out of those of its shards.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use serde::{Deserialize, Serialize};

use super::event::codes;
use super::json::{NotJudged, Report, Totals};
use super::text::{LONGEST_LINE, sanitise};
use crate::ledger::verdict::{CaseReport, Finding, StepRef, Verdict};

/// Which part of which campaign a report is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Campaign {
    /// The first seed.
    pub first_seed: u64,
    /// The seed after the last one.
    pub end_seed: u64,
    /// Into how many shards it is split: seed S belongs to shard (S - first) modulo so many, plus 1.
    pub shards: u32,
    /// The shards that were played, from 1.
    pub played: Vec<u32>,
    /// Lifecycles that were played.
    pub lifecycles: u64,
    /// Their steps.
    pub steps: u64,
    /// How often the model and what there was were compared.
    pub comparisons: u64,
    /// Servers that got ready, and sessions that were opened.
    pub active: u64,
    /// Of each finding, the shortest lifecycle that shows it: the code of its steps, by id of the case.
    pub reproducers: BTreeMap<String, String>,
    /// Of each finding, the shortest lifecycle of a seed that has shown it: what the reproducer was made
    /// from. Only these are compared when shards are merged, so that the outcome is the same however
    /// the campaign was split.
    #[serde(default)]
    pub origins: BTreeMap<String, String>,
}

/// Why reports are not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Nothing to merge.
    #[error("no report was given")]
    None,
    /// It is about something else.
    #[error("it is no report of a campaign; `merge` puts the shards of one campaign together")]
    NoCampaign,
    /// They belong to different campaigns.
    #[error(
        "it is of another campaign: {found}, where the others are of {expected}; every shard has to \
         have the same --seeds, the same N in --shard I/N, the same subject and the same version"
    )]
    Other {
        /// What it is of.
        found: String,
        /// What the others are of.
        expected: String,
    },
    /// A shard is there twice.
    #[error("shard {0} is in two of the reports; each shard counts once")]
    Twice(u32),
}

/// One report of two shards of a campaign, or of several already put together. The order does not
/// matter, nor who is put together first; of findings that are the same, that of the shortest lifecycle
/// stays.
///
/// # Errors
/// [`MergeError`]: they are not two different parts of one campaign.
pub fn merge(one: &Report, other: &Report) -> Result<Report, MergeError> {
    let (Some(mine), Some(theirs)) = (&one.campaign, &other.campaign) else {
        return Err(MergeError::NoCampaign);
    };
    let (expected, found) = (identity(one, mine), identity(other, theirs));
    if expected != found {
        return Err(MergeError::Other { found, expected });
    }
    if let Some(twice) = theirs.played.iter().find(|shard| mine.played.contains(shard)) {
        return Err(MergeError::Twice(*twice));
    }
    let mut played: Vec<u32> = mine.played.iter().chain(&theirs.played).copied().collect();
    played.sort_unstable();
    let mut merged = one.clone();
    let found = cases(one, mine).chain(cases(other, theirs));
    let mut shortest: BTreeMap<String, Found> = BTreeMap::new();
    for found in found {
        let kept = shortest.get(&found.case.id);
        if kept.is_none_or(|kept| is_shorter(found.origin, kept.origin)) {
            shortest.insert(found.case.id.clone(), found);
        }
    }
    merged.campaign = Some(Campaign {
        played,
        lifecycles: mine.lifecycles + theirs.lifecycles,
        steps: mine.steps + theirs.steps,
        comparisons: mine.comparisons + theirs.comparisons,
        active: mine.active + theirs.active,
        reproducers: codes(&shortest, |found| found.code),
        origins: codes(&shortest, |found| found.origin),
        ..mine.clone()
    });
    merged.cases = shortest.into_values().map(|found| found.case.clone()).collect();
    merged.took_ms = one.took_ms + other.took_ms;
    merged.not_judged.extend(other.not_judged.iter().cloned());
    merged.not_judged.sort_by(|a, b| (&a.id, &a.cause).cmp(&(&b.id, &b.cause)));
    let notes: BTreeSet<&String> = one.notes.iter().chain(&other.notes).collect();
    merged.notes = notes.into_iter().cloned().collect();
    merged.interrupted = one.interrupted || other.interrupted;
    let invalid = [one, other].iter().any(|report| report.exit_code == codes::INVALID);
    conclude(&mut merged, invalid);
    Ok(merged)
}

/// Sets what follows from cases and shards.
pub fn conclude(report: &mut Report, invalid: bool) {
    report.totals = Totals::of(&report.cases);
    report.verdict = report.cases.iter().map(|case| case.verdict).max();
    let is_whole = report.campaign.as_ref().is_some_and(|campaign| {
        campaign.missing().is_empty()
            && campaign.lifecycles == campaign.end_seed - campaign.first_seed
    });
    report.exit_code = match () {
        () if invalid => codes::INVALID,
        () if report.interrupted => codes::INTERRUPTED,
        () if !report.cases.is_empty() => codes::LEAK,
        () if is_whole && report.not_judged.is_empty() => codes::CLEAN,
        () => codes::NOT_JUDGED,
    };
}

/// The exit code of a command that has played what it was to play of a campaign: of one that has played
/// its shard to the end it says nothing that the other shards are missing. That is for
/// `scupper merge` to say, and whoever starts shards would take it for a failure and start it again.
pub fn shard_code(report: &Report) -> u8 {
    let is_whole = report.campaign.as_ref().is_some_and(|campaign| {
        let seeds: u64 = campaign.played.iter().map(|shard| campaign.seeds_of(*shard)).sum();
        seeds > 0 && campaign.lifecycles == seeds
    });
    match report.exit_code {
        codes::NOT_JUDGED if is_whole && report.not_judged.is_empty() => codes::CLEAN,
        code => code,
    }
}

impl Campaign {
    /// The shards that are not there.
    pub fn missing(&self) -> Vec<u32> {
        (1..=self.shards).filter(|shard| !self.played.contains(shard)).collect()
    }

    /// How many seeds belong to a shard.
    fn seeds_of(&self, shard: u32) -> u64 {
        let seeds = self.end_seed.saturating_sub(self.first_seed);
        let before = u64::from(shard).saturating_sub(1);
        seeds.saturating_sub(before).div_ceil(u64::from(self.shards.max(1)))
    }
}

/// Fewer steps are shorter; of as many, the smaller code, so that there is always one shortest.
pub fn is_shorter(code: &str, than: &str) -> bool {
    (code.len(), code) < (than.len(), than)
}

/// A finding and its lifecycles.
struct Found<'a> {
    case: &'a CaseReport,
    code: &'a str,
    origin: &'a str,
}

fn cases<'a>(report: &'a Report, campaign: &'a Campaign) -> impl Iterator<Item = Found<'a>> {
    report.cases.iter().map(|case| {
        let code = campaign.reproducers.get(&case.id).map_or("", String::as_str);
        let origin = campaign.origins.get(&case.id).map_or(code, String::as_str);
        Found { case, code, origin }
    })
}

fn codes(
    found: &BTreeMap<String, Found<'_>>,
    code: for<'a> fn(&Found<'a>) -> &'a str,
) -> BTreeMap<String, String> {
    found.iter().map(|(id, found)| (id.clone(), code(found).to_owned())).collect()
}

fn identity(report: &Report, campaign: &Campaign) -> String {
    let Campaign { first_seed, end_seed, shards, .. } = campaign;
    let (version, subject) = (&report.run.version, &report.run.subject);
    format!("seeds {first_seed}..{end_seed} in {shards} shards of {subject} (version {version})")
}

/// What came of one of its lifecycles, for people.
pub fn in_words_of(case: &CaseReport) -> String {
    let tag = match case.verdict {
        Verdict::Leak => "LEAK",
        Verdict::Clean => "clean",
        Verdict::Failed => "FAILED",
        Verdict::Unknown | Verdict::Invalid => "UNKNOWN",
    };
    let mut words = format!("{tag}  {}\n", case.id);
    for finding in &case.findings {
        words.push_str(&found(finding));
    }
    for line in case.failure.iter().flat_map(|failure| failure.message.lines()) {
        words.push_str(&format!("      {}\n", sanitise(line, LONGEST_LINE)));
    }
    for line in &case.unreadable {
        words.push_str(&format!("      could not look: {}\n", sanitise(line, LONGEST_LINE)));
    }
    for note in &case.notes {
        words.push_str(&format!("      note: {}\n", sanitise(note, LONGEST_LINE)));
    }
    words.push_str(&format!("      repeat: {}\n", case.repeat));
    words
}

/// What came of a campaign, for people.
pub fn in_words(report: &Report) -> String {
    let mut words = String::new();
    for case in &report.cases {
        words.push_str(&in_words_of(case));
    }
    for note in &report.notes {
        words.push_str(&format!("note  {}\n", sanitise(note, 4 * LONGEST_LINE)));
    }
    for NotJudged { id, cause } in &report.not_judged {
        let (id, cause) = (sanitise(id, LONGEST_LINE), sanitise(cause, LONGEST_LINE));
        words.push_str(&format!("not judged: {id}: {cause}\n"));
    }
    let Some(campaign) = &report.campaign else { return words };
    let Campaign { lifecycles, steps, comparisons, active, .. } = campaign;
    words.push_str(&format!(
        "{lifecycles} lifecycles of seeds {}..{}, {steps} steps, {comparisons} looks, {active} got \
         active, {} findings, {:.1} s\n",
        campaign.first_seed,
        campaign.end_seed,
        report.cases.len(),
        report.took_ms as f64 / 1000.0
    ));
    let missing: Vec<String> = campaign.missing().iter().map(u32::to_string).collect();
    if !missing.is_empty() && !campaign.played.is_empty() {
        let shards = campaign.shards;
        words.push_str(&format!("of {shards} shards, these are missing: {}\n", missing.join(", ")));
    }
    words
}

/// A finding: what, since when, until when it was due, and whose it is.
fn found(finding: &Finding) -> String {
    let Finding { kind, what, birth_step: birth, due_step: due, culprit, rule, .. } = finding;
    let what = sanitise(what, LONGEST_LINE);
    let step = |step: &StepRef| format!("step {} ({})", step.place, sanitise(&step.name, 60));
    let rule = rule.as_deref().unwrap_or("none");
    format!(
        "      {kind}: {what}; born in {}, due at {}; culprit: {culprit}; rule: {rule}\n",
        step(birth),
        step(due)
    )
}

/// Prints it.
pub fn tell(report: &Report) {
    say(in_words(report).trim_end());
}

/// Prints words and ends the line.
pub fn say(words: &str) {
    // A closed pipe is the reader's choice; the exit code tells the rest.
    let _ = writeln!(std::io::stdout(), "{words}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::standing::Strictness;
    use crate::report::{event::RunSummary, samples};

    /// A shard's report with these findings: number of the finding, and length of its lifecycle.
    fn shard(number: u32, findings: &[(u8, usize)]) -> Report {
        let info = samples::info(3);
        let summary = RunSummary {
            servers: Vec::new(),
            cases: Vec::new(),
            not_judged: Vec::new(),
            canary: None,
            verdict: None,
            took: std::time::Duration::ZERO,
            exit_code: codes::CLEAN,
            interrupted: false,
            strictness: Strictness::default(),
        };
        let mut report = Report::new(&info, None, &[], &summary);
        let (mut reproducers, mut cases) = (BTreeMap::new(), BTreeMap::new());
        for (finding, steps) in findings {
            let (id, code) =
                (format!("campaign/{finding}"), format!("{finding:02x}").repeat(*steps));
            if reproducers.get(&id).is_none_or(|kept: &String| is_shorter(&code, kept)) {
                let mut case = samples::case(&id, Verdict::Leak);
                case.repeat.clone_from(&code);
                cases.insert(id.clone(), case);
                reproducers.insert(id, code);
            }
        }
        report.cases = cases.into_values().collect();
        report.campaign = Some(Campaign {
            first_seed: 0,
            end_seed: 40,
            shards: 4,
            played: vec![number],
            lifecycles: 10,
            steps: 7 * u64::from(number),
            comparisons: 5,
            active: 3,
            origins: reproducers.clone(),
            reproducers,
        });
        conclude(&mut report, false);
        report
    }

    fn all(reports: &[&Report]) -> Result<Report, MergeError> {
        let (first, rest) = reports.split_first().ok_or(MergeError::None)?;
        rest.iter().try_fold((*first).clone(), |merged, next| merge(&merged, next))
    }

    proptest! {
        #[test]
        fn merging_is_associative_and_commutative(
            findings in prop::collection::vec(prop::collection::vec((0..5u8, 1..9usize), 0..6), 4),
        ) {
            let shards: Vec<Report> =
                (1..).zip(&findings).map(|(number, found)| shard(number, found)).collect();
            let [a, b, c, d] = &shards[..] else { unreachable!("there are four") };
            let whole = all(&[a, b, c, d]).expect("four shards of one");
            prop_assert_eq!(&all(&[d, b, a, c]).expect("four shards of one"), &whole);
            let (left, right) = (all(&[a, b]).expect("two"), all(&[d, c]).expect("two"));
            prop_assert_eq!(&merge(&right, &left).expect("four"), &whole);
            let together: Vec<(u8, usize)> = findings.concat();
            let unsplit = shard(1, &together);
            prop_assert_eq!(&unsplit.cases, &whole.cases);
            let is_clean = together.is_empty();
            prop_assert_eq!(whole.exit_code, if is_clean { codes::CLEAN } else { codes::LEAK });
        }
    }

    #[test]
    fn a_shard_that_was_played_to_its_end_is_no_failure_and_one_that_was_not_is() {
        let mut one = shard(1, &[]);
        assert_eq!((one.exit_code, shard_code(&one)), (codes::NOT_JUDGED, codes::CLEAN));
        let lost = NotJudged { id: "08000000".into(), cause: "it was not played".into() };
        one.not_judged.push(lost);
        assert_eq!(shard_code(&one), codes::NOT_JUDGED);
        let mut short = shard(2, &[]);
        short.campaign.as_mut().expect("a campaign").lifecycles -= 1;
        assert_eq!(shard_code(&short), codes::NOT_JUDGED);
        assert_eq!(shard_code(&shard(3, &[(0, 1)])), codes::LEAK);
        let mut uneven = shard(4, &[]).campaign.expect("a campaign");
        uneven.end_seed = 42;
        assert_eq!([1, 2, 3, 4].map(|shard| uneven.seeds_of(shard)), [11, 11, 10, 10]);
    }

    #[test]
    fn a_missing_shard_is_not_green_and_parts_that_do_not_fit_are_refused() {
        let (one, two, four) = (shard(1, &[]), shard(2, &[]), shard(4, &[]));
        let part = all(&[&one, &two, &four]).expect("three of four");
        assert_eq!(part.exit_code, codes::NOT_JUDGED);
        assert!(
            in_words(&part).ends_with("of 4 shards, these are missing: 3\n"),
            "{}",
            in_words(&part)
        );
        assert_eq!(merge(&part, &two), Err(MergeError::Twice(2)));
        let mut other = shard(3, &[]);
        other.run.subject = "something else".into();
        assert!(matches!(merge(&part, &other), Err(MergeError::Other { .. })));
        other.campaign = None;
        assert_eq!(merge(&part, &other), Err(MergeError::NoCampaign));
    }
}
