//! A campaign with real processes: each lifecycle in a cell of its own, judged by the kernel.
//!
//! A finding is made shorter by leaving steps out, on as many lanes as there are, and what is left is
//! played once more, alone in a fresh cell and with all the patience that is due. Then it is written as
//! a scenario.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::{CampaignArguments, Seeds};
use crate::cell::protocol::{Learned, Patience};
use crate::cli::canary::Canary;
use crate::cli::server::{introduce, unlisted};
use crate::cli::{Ended, Refusal, keep};
use crate::gate::exit::{Mode, Strictness};
use crate::ledger::snapshot::Kind;
use crate::ledger::verdict::{CaseReport, Class, Culprit, Verdict};
use crate::lifecycle::generate::{Generated, of_seed};
use crate::lifecycle::shrink::shorten;
use crate::lifecycle::step::{Action, Era, EraChoice, Step};
use crate::plan::campaign::Player;
use crate::plan::{self, Case, Choices, Server};
use crate::report::campaign::{self, Campaign, is_shorter};
use crate::report::event::{RunInfo, RunSummary, SubjectInfo, codes};
use crate::report::json::Report;
use crate::report::progress::Progress;
use crate::runner::{News, Outcome, Runner};

/// How many lifecycles the search for the shortest one of a finding plays at most.
const TRIES: usize = 120;
/// How long a try of that search waits for what is due. What it finds is judged again with patience.
const HASTE_MS: u64 = 1_500;
/// Cases for each lane before the next ones are made.
const AHEAD: usize = 8;

/// Plays the lifecycles of these seeds.
pub(super) fn campaign(arguments: &CampaignArguments, seeds: Seeds) -> Result<Report, Refusal> {
    let begun = Instant::now();
    let stage = Stage::set(arguments)?;
    let mut run = Run::default();
    let canary = Canary::of_servers(&stage.choices);
    let mut progress = Progress::new(seeds.each().size_hint().0, !arguments.common.no_progress);
    let mut left: Vec<u64> = seeds.each().collect();
    left.reverse();
    let mut birds = canary.cases.clone();
    let mut flown = None;
    while !left.is_empty() && !stage.runner.interrupted() {
        let room = left.len().saturating_sub(stage.runner.jobs() * AHEAD);
        let next: Vec<Generated> = left.split_off(room).into_iter().rev().map(of_seed).collect();
        let mut cases = std::mem::take(&mut birds);
        let first = cases.len();
        let mut generated = Vec::new();
        for one in next {
            match stage.player.case(&one, &stage.choices) {
                Some(case) => {
                    cases.push(case);
                    generated.push(one);
                }
                // Nothing of it can be done to this subject, and nothing is left of that.
                None => run.lifecycles += 1,
            }
        }
        let mut outcomes = stage.play(&cases, |played| {
            let played = u64::try_from(played.saturating_sub(first)).unwrap_or(0);
            progress.tell(run.lifecycles + played, run.found.len());
        });
        let judged = outcomes.split_off(first);
        if first > 0 {
            flown = Some(canary.report(outcomes, &stage.choices.kinds));
        }
        for ((one, case), outcome) in generated.into_iter().zip(&cases[first..]).zip(judged) {
            run.take(one, case, outcome);
        }
    }
    let mut cases = Vec::new();
    let (mut reproducers, mut origins) = (BTreeMap::new(), BTreeMap::new());
    for (sign, found) in std::mem::take(&mut run.found) {
        progress.say(&format!("looking for the shortest lifecycle of {sign}"));
        let origin = found.code();
        match stage.settle(&sign, found) {
            Ok((generated, report)) => {
                reproducers.insert(report.id.clone(), generated.code());
                origins.insert(report.id.clone(), origin);
                cases.push(*report);
            }
            Err(Unsettled::Nothing(note)) => run.notes.push(note),
            Err(Unsettled::NotJudged(code, cause)) => run.not_judged.push((code, cause)),
        }
    }
    progress.end();
    let info = RunInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode: "campaign".to_owned(),
        subject: stage.player.subject(),
        cases: cases.len(),
        seed: seeds.first,
        repeat: format!(
            "scupper campaign --seeds {}..{}{}",
            seeds.first,
            seeds.end,
            stage.player.words(&stage.choices)
        ),
    };
    run.notes.splice(..0, stage.notes);
    let holds = flown.as_ref().is_some_and(|canary| canary.holds());
    if !holds {
        run.notes.push("the canary of this run was not caught, or its twin was blamed".to_owned());
    }
    let summary = RunSummary {
        servers: Vec::new(),
        cases,
        not_judged: run.not_judged,
        canary: flown,
        verdict: None,
        took: Duration::ZERO,
        exit_code: codes::CLEAN,
        interrupted: stage.runner.interrupted(),
        strictness: Strictness::default(),
    };
    let mut report = Report::new(&info, stage.introduced.as_ref(), &run.notes, &summary);
    report.campaign = Some(Campaign {
        first_seed: seeds.first,
        end_seed: seeds.end,
        shards: seeds.shards,
        played: vec![seeds.part],
        lifecycles: run.lifecycles,
        steps: run.steps,
        // After every step.
        comparisons: run.steps,
        active: run.active,
        reproducers,
        origins,
    });
    report.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    campaign::conclude(&mut report, !holds);
    Ok(report)
}

/// Plays one lifecycle and tells what came of it.
pub(super) fn one(arguments: &CampaignArguments, generated: &Generated) -> Ended {
    let stage = Stage::set(arguments)?;
    let Some(case) = stage.player.case(generated, &stage.choices) else {
        return Err(Refusal::usage("nothing of this lifecycle can be done to this subject"));
    };
    let mut words = String::new();
    for (index, step) in case.order.lifecycle.steps.iter().enumerate() {
        let fails = if step.fails { ", to be refused" } else { "" };
        words.push_str(&format!(
            "{:>2}. {} {}{fails}\n",
            index + 1,
            step.connection,
            step.action.name()
        ));
    }
    let code = match stage.alone(&case) {
        Outcome::Judged(report, _) => {
            words.push_str(&campaign::in_words_of(&report));
            match report.verdict {
                Verdict::Clean => codes::CLEAN,
                Verdict::Unknown | Verdict::Invalid => codes::NOT_JUDGED,
                Verdict::Leak | Verdict::Failed => codes::LEAK,
            }
        }
        Outcome::NotJudged(cause) | Outcome::NotApplicable(cause) => {
            words.push_str(&format!("not judged: {cause}\n"));
            codes::NOT_JUDGED
        }
        Outcome::Screened => codes::NOT_JUDGED,
    };
    campaign::say(words.trim_end());
    Ok(code)
}

/// What a campaign has come to so far.
#[derive(Default)]
struct Run {
    lifecycles: u64,
    steps: u64,
    active: u64,
    /// Of each finding the shortest lifecycle that has shown it.
    found: BTreeMap<Sign, Generated>,
    not_judged: Vec<(String, String)>,
    notes: Vec<String>,
}

impl Run {
    fn take(&mut self, generated: Generated, case: &Case, outcome: Option<Outcome>) {
        let code = generated.code();
        let report = match outcome {
            Some(Outcome::Judged(report, _)) if report.verdict != Verdict::Unknown => report,
            Some(Outcome::Judged(report, _)) => {
                let cause = format!("could not look: {}", report.unreadable.join("; "));
                return self.not_judged.push((code, cause));
            }
            Some(Outcome::NotJudged(cause) | Outcome::NotApplicable(cause)) => {
                return self.not_judged.push((code, cause));
            }
            Some(Outcome::Screened) | None => {
                return self.not_judged.push((code, "it was not played".to_owned()));
            }
        };
        self.lifecycles += 1;
        let (steps, active) = counts(&case.order.lifecycle.steps);
        self.steps += steps;
        self.active += active;
        for sign in signs(&report) {
            let known = self.found.get(&sign);
            if known.is_none_or(|known| is_shorter(&code, &known.code())) {
                self.found.insert(sign, generated.clone());
            }
        }
    }
}

/// How many steps there are, and how many of them begin a life of a server that gets ready.
fn counts(steps: &[Step]) -> (u64, u64) {
    let mut all = (0, 0);
    for step in steps {
        all.0 += 1;
        match &step.action {
            Action::Add { wait: true, .. } if !step.fails => all.1 += 1,
            Action::Handshake { .. } => all.1 += 1,
            Action::Concurrently { branches } => {
                for (steps, active) in branches.iter().map(|branch| counts(branch)) {
                    all = (all.0 + steps, all.1 + active);
                }
            }
            _ => {}
        }
    }
    all
}

/// By what findings are the same: what leaked and whose it is, or what went wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sign {
    Leak(Kind, &'static str),
    Failed(String),
}

impl std::fmt::Display for Sign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sign::Leak(kind, culprit) => write!(f, "{kind}-{culprit}"),
            Sign::Failed(step) => write!(f, "failed-{step}"),
        }
    }
}

fn signs(report: &CaseReport) -> BTreeSet<Sign> {
    let leaks = report.findings.iter().filter(|finding| finding.class == Class::Leak);
    let culprit = |culprit: Culprit| culprit.as_str();
    let mut signs: BTreeSet<Sign> =
        leaks.map(|finding| Sign::Leak(finding.kind, culprit(finding.culprit))).collect();
    if let (true, Some(failure)) = (signs.is_empty(), &report.failure) {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        signs.insert(Sign::Failed(failure.step.name.chars().map(plain).take(40).collect()));
    }
    signs
}

/// Why something that was seen is no finding.
enum Unsettled {
    /// It counts for nothing, and this is why.
    Nothing(String),
    /// This lifecycle could not be played again, and why.
    NotJudged(String, String),
}

/// Who is judged, by whom, and how.
struct Stage {
    choices: Choices,
    runner: Runner,
    player: Player,
    introduced: Option<SubjectInfo>,
    notes: Vec<String>,
    found: PathBuf,
}

impl Stage {
    fn set(arguments: &CampaignArguments) -> Result<Self, Refusal> {
        let common = &arguments.common;
        let mut choices = common.choices(&arguments.calls)?;
        // Memory is a trend, for which no lifecycle here is long enough.
        choices.kinds.remove(&Kind::Memory);
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .map_err(|error| Refusal::ours(format!("cannot catch signal {signal}: {error}")))?;
        }
        let is_host = arguments.command.is_empty();
        let jobs = common.jobs(if is_host { Mode::Expectations } else { Mode::Verdicts });
        let runner = Runner::new(jobs, interrupted)
            .map_err(|error| Refusal::ours(format!("cannot set up cells: {error}")))?;
        let mut stage = Self {
            choices,
            runner,
            player: Player::Host(arguments.subject.clone()),
            introduced: None,
            notes: Vec::new(),
            found: arguments.found.clone(),
        };
        if !is_host {
            stage.look(&arguments.command)?;
        } else if !cfg!(feature = "core") {
            return Err(Refusal::usage(
                "this build has no host to play on (feature `core`); a server can be judged: \
                 scupper campaign --seeds 0..100 -- COMMAND",
            ));
        }
        Ok(stage)
    }

    /// Looks at a server first, as `scupper server` does.
    fn look(&mut self, command: &[String]) -> Result<(), Refusal> {
        let server = Server::plain(command);
        let eras: &[Era] = match self.choices.era {
            EraChoice::Auto => &[Era::Legacy, Era::Modern],
            EraChoice::Legacy => &[Era::Legacy],
            EraChoice::Modern => &[Era::Modern],
        };
        let mut why = "it was not started".to_owned();
        for era in eras {
            let (learned, refused) =
                match self.alone(&plan::first_look(&server, &self.choices, *era)) {
                    Outcome::Judged(report, learned) => {
                        let failure = report.failure.as_ref();
                        why = failure.map_or(why, |failure| failure.message.clone());
                        (learned, failure.is_some_and(|failure| failure.refused))
                    }
                    Outcome::NotJudged(cause) | Outcome::NotApplicable(cause) => {
                        why = cause;
                        (None, false)
                    }
                    Outcome::Screened => (None, false),
                };
            if let Some(learned) = learned {
                self.know(server, learned, *era)?;
                return Ok(());
            }
            if !refused {
                break;
            }
        }
        let words = &server.words;
        let message = format!("{words}: nothing was judged, because the first look failed: {why}");
        Err(Refusal { message, code: codes::NOT_JUDGED })
    }

    fn know(&mut self, server: Server, learned: Box<Learned>, era: Era) -> Result<(), Refusal> {
        if let Some((_, cause)) = unlisted(&self.choices, &learned).into_iter().next() {
            return Err(Refusal::usage(cause));
        }
        if self.choices.calls.is_empty() && !learned.tools.iter().any(|tool| tool.callable) {
            self.notes.push(
                "no tool is marked read-only and closed-world, so only lists were asked for; name \
                 tools that may be called with --call TOOL=JSON"
                    .to_owned(),
            );
        }
        self.introduced = Some(introduce(&learned));
        self.player = Player::Server { server, learned, era };
        Ok(())
    }

    fn play(&self, cases: &[Case], mut each: impl FnMut(usize)) -> Vec<Option<Outcome>> {
        let mut outcomes: Vec<Option<Outcome>> =
            std::iter::repeat_with(|| None).take(cases.len()).collect();
        let mut played = 0;
        self.runner.run_all(cases, |news| {
            if let News::Ended(place, outcome) = news {
                outcomes[place] = Some(outcome);
                played += 1;
                each(played);
            }
        });
        outcomes
    }

    fn alone(&self, case: &Case) -> Outcome {
        let outcome = self.play(std::slice::from_ref(case), |_| {}).pop().flatten();
        outcome.unwrap_or_else(|| Outcome::NotJudged("it was not played".to_owned()))
    }

    /// Which of these lifecycles show it. What comes to the same steps is played once.
    fn show(
        &self,
        sign: &Sign,
        tried: &[Generated],
        known: &mut BTreeMap<String, bool>,
    ) -> Vec<bool> {
        let cases: Vec<Option<Case>> =
            tried.iter().map(|one| self.player.case(one, &self.choices)).collect();
        let name = |case: &Case| format!("{:?}", case.order.lifecycle.steps);
        let mut fresh: BTreeMap<String, Case> = BTreeMap::new();
        for mut case in cases.iter().flatten().cloned() {
            let name = name(&case);
            if !known.contains_key(&name) {
                if case.order.patience.bound_ms > HASTE_MS {
                    case.order.patience = Patience::fixed(HASTE_MS);
                }
                fresh.insert(name, case);
            }
        }
        let (names, fresh): (Vec<String>, Vec<Case>) = fresh.into_iter().unzip();
        for (name, outcome) in names.into_iter().zip(self.play(&fresh, |_| {})) {
            let shows = matches!(
                outcome,
                Some(Outcome::Judged(report, _)) if signs(&report).contains(sign)
            );
            known.insert(name, shows);
        }
        let shows = |case: &Option<Case>| {
            case.as_ref().is_some_and(|case| known.get(&name(case)).copied().unwrap_or(false))
        };
        cases.iter().map(shows).collect()
    }

    /// The shortest lifecycle that shows it, confirmed and written.
    fn settle(
        &self,
        sign: &Sign,
        found: Generated,
    ) -> Result<(Generated, Box<CaseReport>), Unsettled> {
        let mut known = BTreeMap::new();
        if let Some(case) = self.player.case(&found, &self.choices) {
            known.insert(format!("{:?}", case.order.lifecycle.steps), true);
        }
        let shortest = shorten(&found, TRIES, |tried| self.show(sign, tried, &mut known));
        let code = found.code();
        let mut unconfirmed = None;
        for generated in [shortest, found] {
            let Some(case) = self.player.case(&generated, &self.choices) else { continue };
            if let Outcome::Judged(mut report, _) = self.alone(&case) {
                if signs(&report).contains(sign) {
                    let steps = case.order.lifecycle.steps.len();
                    let note = format!("confirmed alone in a fresh cell; {steps} steps are left");
                    report.notes.push(note);
                    self.write(sign, &generated, case, &mut report);
                    return Ok((generated, report));
                }
                unconfirmed = Some((generated, case, report));
            }
        }
        let Some((generated, case, mut report)) = unconfirmed else {
            let cause = format!("{sign}: it was seen, and could not be played again to confirm it");
            return Err(Unsettled::NotJudged(code, cause));
        };
        if let Sign::Failed(_) = sign {
            // Among others a server may have had no time; alone it has done all it should.
            let note = format!("{sign}: not confirmed alone, so it counts for nothing: {code}");
            return Err(Unsettled::Nothing(note));
        }
        report.verdict = Verdict::Leak;
        report.met = false;
        report.notes.push("not confirmed alone: it was seen once, among others".to_owned());
        self.write(sign, &generated, case, &mut report);
        Ok((generated, report))
    }

    /// Writes the scenario and says how it is repeated.
    fn write(&self, sign: &Sign, generated: &Generated, mut case: Case, report: &mut CaseReport) {
        let name = sign.to_string();
        report.id = format!("generated/{name}");
        report.lifecycle = generated.code();
        case.order.lifecycle.id = name;
        match keep::keep(&self.found, &keep::as_played(&case, report.cycles)) {
            Ok(Ok(path)) => {
                let path = plan::shell_words(&[path.display().to_string()]);
                report.notes.push(format!("the same by its code: {}", report.repeat));
                report.repeat = format!("scupper replay {path}");
            }
            Ok(Err(why)) => report.notes.push(format!("not written: {why}")),
            Err(error) => {
                let folder = self.found.display();
                report.notes.push(format!("--found {folder}: could not be written: {error}"));
            }
        }
    }
}
