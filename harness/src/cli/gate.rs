//! `scupper gate`, and the options of a run that do the same at its end.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;

use super::outputs::{Outputs, replace};
use super::{Ended, Refusal};
use crate::gate::baseline::{Acceptance, Baseline};
use crate::gate::calendar::Day;
use crate::gate::demands::{Demands, combined};
use crate::gate::threshold::Threshold;
use crate::plan::shell_words;
use crate::report::event::{CanaryReport, Event, RunInfo};
use crate::report::human::{Human, HumanOptions};
use crate::report::json::Report;
use crate::spelled::count;

/// How long a new entry of a baseline is good for, in seconds: 90 days.
const GOOD_FOR: u64 = 90 * 86_400;

/// What names the things that a run is held against.
const OPTIONS: [&str; 3] = ["--baseline", "--threshold", "--against"];
/// Modes of runs that have these options.
const RUNS: [&str; 5] = ["server", "http-server", "client", "run", "replay"];

/// Arguments of `scupper gate`.
#[derive(Debug, Args)]
pub struct GateArguments {
    /// Reports of runs; several are judged as one
    #[arg(required = true, value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// What they are held against.
    #[command(flatten)]
    pub gate: GateOptions,
    /// Reports as files.
    #[command(flatten)]
    pub outputs: Outputs,
    /// Colours
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: super::common::Color,
}

/// What a run is held against beside its own verdicts.
#[derive(Debug, Clone, Default, Args)]
pub struct GateOptions {
    /// Findings that are known: one that is not listed fails, and one that is listed and gone, or
    /// expired, too
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Write what was found and counts to the baseline, with `--reason`
    #[arg(long, requires = "baseline")]
    pub update_baseline: bool,
    /// Why it is accepted
    #[arg(long, value_name = "TEXT", requires = "update_baseline")]
    pub reason: Option<String>,
    /// Who sees to it
    #[arg(long, value_name = "NAME", requires = "update_baseline")]
    pub owner: Option<String>,
    /// The first day on which it is accepted no more; when not given, in 90 days
    #[arg(long, value_name = "YYYY-MM-DD", requires = "update_baseline")]
    pub expires: Option<Day>,
    /// Take out of the baseline what is gone
    #[arg(long, requires = "baseline")]
    pub prune: bool,
    /// A bound on a figure over all cases, such as `teardown.p95<500ms` (repeatable)
    #[arg(long = "threshold", value_name = "BOUND")]
    pub thresholds: Vec<Threshold>,
    /// An older report: what is new fails, what is gone, still there or slower is told
    #[arg(long, value_name = "REPORT")]
    pub against: Option<PathBuf>,
}

/// What a run is held against, read and ready.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    options: GateOptions,
    demands: Demands,
}

/// Judges reports of earlier runs.
pub fn run(arguments: &GateArguments) -> Ended {
    let gate = Gate::read(&arguments.gate)?;
    let reports: Vec<Report> =
        arguments.reports.iter().map(|path| read_report(path)).collect::<Result<_, _>>()?;
    let Some(mut report) = combined(reports) else { return Ok(crate::report::event::codes::USAGE) };
    let choice = arguments.color.choice();
    let out = anstream::AutoStream::new(std::io::stdout(), choice);
    let mut human = Human::new(out, HumanOptions::detect(choice, false));
    let mut tell = |event: &Event| {
        // A closed pipe is the reader's choice; the exit code tells the rest.
        let _ = human.on(event);
    };
    arguments.outputs.hold_commands();
    let repeat = arguments.gate.repeated_of(&report.run);
    report.run.repeat = repeat.clone().unwrap_or(report.run.repeat);
    let told = RunInfo { repeat: repeat.unwrap_or_default(), ..report.run.clone() };
    tell(&Event::RunStarted(told));
    if let Some(canary) = report.canary.as_ref().filter(|canary: &&CanaryReport| canary.holds()) {
        tell(&Event::CanaryEnded(canary.clone()));
    }
    gate.judge(&mut report)?;
    tell(&Event::Gated(report.gate.clone().unwrap_or_default()));
    tell(&Event::RunEnded(report.summary()));
    arguments.outputs.write(&report)?;
    Ok(report.exit_code)
}

impl GateOptions {
    /// The first option that is given, for a subcommand that has no use for any.
    pub fn first_given(&self) -> Option<&'static str> {
        let given = [self.baseline.is_some(), !self.thresholds.is_empty(), self.against.is_some()];
        OPTIONS.into_iter().zip(given).find_map(|(option, given)| given.then_some(option))
    }

    /// What a run is held against, as words of a command line; what is written is not among them.
    fn words(&self) -> Vec<String> {
        let path = |path: &PathBuf| path.display().to_string();
        let baseline = self.baseline.iter().map(|one| ("--baseline", path(one)));
        let thresholds =
            self.thresholds.iter().map(|one| ("--threshold", one.written().to_owned()));
        let against = self.against.iter().map(|one| ("--against", path(one)));
        let all = baseline.chain(thresholds).chain(against);
        all.flat_map(|(option, value)| [option.to_owned(), value]).collect()
    }

    /// The command of a run, held against the same once more: alone it may be green.
    pub fn repeated(&self, command: &str) -> String {
        with_options(command, &self.words())
    }

    /// The same of a run that was not held against it at first; none where its command cannot say so,
    /// because it is a campaign, or was held against something else.
    fn repeated_of(&self, run: &RunInfo) -> Option<String> {
        let has_options = RUNS.contains(&run.mode.as_str());
        let is_held = || run.repeat.split(' ').any(|word| OPTIONS.contains(&word));
        let can_say = self.words().is_empty() || (has_options && !is_held());
        can_say.then(|| self.repeated(&run.repeat))
    }
}

/// A command of ours with more options: they go before all others, behind the subcommand.
pub fn with_options(command: &str, options: &[String]) -> String {
    let end = command.match_indices(' ').nth(1).map_or(command.len(), |(at, _)| at);
    let (subcommand, rest) = command.split_at(end);
    match options.is_empty() {
        true => command.to_owned(),
        false => format!("{subcommand} {}{rest}", shell_words(options)),
    }
}

impl Gate {
    /// Reads what the options name; mistakes are found out before anything is judged.
    pub fn read(options: &GateOptions) -> Result<Self, Refusal> {
        if options.update_baseline && options.reason.is_none() && !options.prune {
            return Err(Refusal::usage(
                "--update-baseline: why is it accepted? Say so with --reason 'TEXT'; to take out what \
                 is gone only: --prune",
            ));
        }
        if let Some(reason) = options.reason.as_ref().filter(|reason| reason.trim().is_empty()) {
            return Err(Refusal::usage(format!("--reason {reason:?} says nothing")));
        }
        let baseline = match &options.baseline {
            None => None,
            Some(path) => Some(read_baseline(path, options.update_baseline)?),
        };
        let against = options.against.as_deref().map(read_report).transpose()?.map(Box::new);
        let thresholds = options.thresholds.clone();
        let demands = Demands { baseline, thresholds, against };
        Ok(Self { options: options.clone(), demands })
    }

    /// Nothing is demanded.
    pub fn is_empty(&self) -> bool {
        self.demands.is_empty()
    }

    /// Holds a report against it, after the baseline was written anew where that is wanted.
    pub fn judge(&self, report: &mut Report) -> Result<(), Refusal> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let today = Day::at(now.as_secs());
        let mut demands = self.demands.clone();
        let mut told = None;
        if let (Some(path), Some(baseline)) = (&self.options.baseline, &mut demands.baseline)
            && (self.options.update_baseline || self.options.prune)
        {
            let counts = report.canary.as_ref().is_some_and(CanaryReport::holds);
            if !counts || report.interrupted {
                return Err(Refusal::ours(format!(
                    "--baseline {}: not written, because this run does not count: it was interrupted, or \
                     has no canary that was caught",
                    path.display()
                )));
            }
            let before = baseline.clone();
            let mut nothing = String::new();
            if let (true, Some(reason)) = (self.options.update_baseline, &self.options.reason) {
                let expires = self.options.expires.unwrap_or(Day::at(now.as_secs() + GOOD_FOR));
                let owner = self.options.owner.as_deref();
                *baseline = baseline.updated(report, today, Acceptance { reason, owner, expires });
                if *baseline == before {
                    nothing = format!("; nothing to accept: {}", why_nothing(report));
                }
            }
            if self.options.prune {
                *baseline = baseline.pruned(report);
            }
            if *baseline != before || !path.exists() {
                replace(path, &baseline.render()).map_err(|error| {
                    Refusal::usage(format!(
                        "--baseline {}: cannot write there: {error}",
                        path.display()
                    ))
                })?;
            }
            let (was, is) = (before.len(), baseline.len());
            let was = count(was, "entry");
            told = Some(format!("{}: {was} before, {is} now{nothing}", path.display()));
        }
        demands.judge(report, today);
        if let (Some(gated), Some(told)) = (&mut report.gate, told) {
            gated.told.insert(0, told);
        }
        Ok(())
    }
}

/// Why an update of a baseline has put nothing into it.
fn why_nothing(report: &Report) -> &'static str {
    let mut judged = report.cases.iter().filter(|case| case.expected.is_none()).peekable();
    if judged.peek().is_none() && !report.cases.is_empty() {
        return "scenario files say themselves what they expect";
    }
    let findings: Vec<_> = judged.flat_map(|case| &case.findings).collect();
    match findings.iter().any(|finding| report.counts(finding)) {
        true => "every finding that counts is listed already",
        false if findings.is_empty() => "this run has no findings",
        false => "the findings of this run are advisories, which count only with --strict",
    }
}

fn read_baseline(path: &Path, may_be_missing: bool) -> Result<Baseline, Refusal> {
    let shown = path.display();
    match std::fs::read_to_string(path) {
        Ok(text) => Baseline::parse(&text)
            .map_err(|error| Refusal::usage(format!("--baseline {shown}: {error}"))),
        Err(error) if may_be_missing && error.kind() == std::io::ErrorKind::NotFound => {
            Ok(Baseline::default())
        }
        Err(error) => Err(Refusal::usage(format!(
            "--baseline {shown}: {error}; --update-baseline --reason 'TEXT' writes one"
        ))),
    }
}

fn read_report(path: &Path) -> Result<Report, Refusal> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Refusal::usage(format!("{shown}: reading it: {error}")))?;
    Report::parse(&text).map_err(|error| {
        Refusal::usage(format!("{shown}: no report of scupper, which --json writes: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::verdict::{Class, Verdict};
    use crate::report::samples;

    fn gate() -> GateOptions {
        GateOptions {
            baseline: Some("known leaks.toml".into()),
            thresholds: vec!["teardown.p95<500ms".parse().expect("a threshold")],
            update_baseline: true,
            ..GateOptions::default()
        }
    }

    #[test]
    fn what_is_repeated_is_held_against_the_same_and_writes_nothing() {
        let server = "scupper server --seed 7 -- node x.js --baseline-of-its-own";
        let held = "--baseline 'known leaks.toml' --threshold 'teardown.p95<500ms'";
        let said = format!("scupper server {held} --seed 7 -- node x.js --baseline-of-its-own");
        assert_eq!(gate().repeated(server), said);
        assert_eq!(gate().repeated("scupper run"), format!("scupper run {held}"));
        assert_eq!(GateOptions::default().repeated(server), server);
    }

    #[test]
    fn an_update_that_accepts_nothing_says_why() {
        let mut report = samples::nothing();
        assert_eq!(why_nothing(&report), "this run has no findings");
        report.cases[0].findings = vec![samples::process_finding()];
        assert_eq!(why_nothing(&report), "every finding that counts is listed already");
        report.cases[0].findings[0].class = Class::Advisory;
        assert!(why_nothing(&report).contains("only with --strict"));
        report.cases[0].expected = Some(Verdict::Leak);
        assert!(why_nothing(&report).starts_with("scenario files"));
    }

    #[test]
    fn a_command_that_cannot_say_it_is_not_repeated() {
        let of = |mode: &str, repeat: &str| {
            let (mode, repeat) = (mode.to_owned(), repeat.to_owned());
            gate().repeated_of(&RunInfo { mode, repeat, ..samples::info(1) })
        };
        assert!(of("server", "scupper server -- x").is_some());
        assert_eq!(of("server", "scupper server --against old.json -- x"), None);
        assert_eq!(of("campaign", "scupper campaign --seeds 0..1"), None);
    }
}
