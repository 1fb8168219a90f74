//! What judging subcommands share: the runner, the canary, the reporters, the exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime};

use super::canary::{self, Canary};
use super::common::Common;
use super::gate::Gate;
use super::outputs::Outputs;
use super::{Refusal, keep};
use crate::cell::protocol::Learned;
use crate::gate::calendar;
use crate::gate::exit::{self, Mode, Strictness};
use crate::ledger::snapshot::Kind;
use crate::ledger::verdict::{CaseReport, Verdict};
use crate::lifecycle::battery::{Call, FIRST_LOOK};
use crate::lifecycle::sweep::Works;
use crate::plan::{self, Case, Choices};
use crate::report::event::{
    CanaryReport, Event, RunInfo, RunSummary, ServerInfo, ServerReport, SubjectInfo,
};
use crate::report::human::{Human, HumanOptions};
use crate::report::json::{Report, Totals};
use crate::report::{Secrets, ndjson};
use crate::runner::{News, Outcome, Runner};

/// A run from its first to its last event.
pub struct Session {
    /// Runs cases.
    pub runner: Arc<Runner>,
    human: Human<anstream::AutoStream<std::io::Stdout>>,
    info: RunInfo,
    subject: Option<SubjectInfo>,
    notes: Vec<String>,
    begun: Instant,
    begun_at: SystemTime,
    outputs: Outputs,
    gate: Gate,
    /// The scenario file that a case comes from or was kept in, by its id.
    files: BTreeMap<String, String>,
    keep: Option<PathBuf>,
    kept: Vec<PathBuf>,
    mode: Mode,
    strictness: Strictness,
    /// Cases at once, where the user says how many.
    pub(super) jobs_asked_for: Option<usize>,
    /// The user asked for the first look, too.
    wants_first_look: bool,
    /// Of several servers, the one whose turn it is.
    server: Option<ServerInfo>,
    /// Those that have had their turn.
    servers: Vec<JudgedServer>,
    /// Cases of that server, or of the whole run, each with its place in the plan.
    cases: Vec<(usize, CaseReport)>,
    /// The same of cases that were not judged, with the cause.
    not_judged: Vec<(String, String)>,
    canary: Option<CanaryReport>,
    secrets: Secrets,
    /// Where events go as they come, and the path that the user gave.
    events: Option<(PathBuf, File)>,
    /// Why they could not be written to their end.
    events_lost: Option<std::io::Error>,
}

/// One server of several that has had its turn.
struct JudgedServer {
    info: ServerInfo,
    subject: Option<SubjectInfo>,
    cases: Vec<CaseReport>,
    not_judged: Vec<(String, String)>,
    /// The user did not ask for it by name, and it cannot be judged.
    left_out: bool,
}

impl Session {
    /// Begins a run.
    pub fn begin(common: &Common, mode: Mode, info: RunInfo) -> Result<Self, Refusal> {
        let info = RunInfo { repeat: common.repeated(&info.repeat), ..info };
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .map_err(|error| Refusal::ours(format!("cannot catch signal {signal}: {error}")))?;
        }
        let gate = Gate::read(&common.gate)?;
        common.outputs.begin()?;
        if let Some(folder) = &common.keep {
            std::fs::create_dir_all(folder).map_err(|error| {
                Refusal::usage(format!("--keep {}: cannot write there: {error}", folder.display()))
            })?;
        }
        let events = common.events.as_ref().map(|path| {
            let file = File::create(path).map_err(|error| {
                Refusal::usage(format!("--events {}: cannot write there: {error}", path.display()))
            });
            file.map(|file| (path.clone(), file))
        });
        let events = events.transpose()?;
        let runner = Runner::new(common.jobs(mode), interrupted)
            .map_err(|error| Refusal::ours(format!("cannot set up cells: {error}")))?;
        common.outputs.hold_commands();
        let choice = common.color.choice();
        let options = HumanOptions::detect(choice, !common.no_progress);
        let out = anstream::AutoStream::new(std::io::stdout(), choice);
        let mut session = Self {
            runner: Arc::new(runner),
            human: Human::new(out, options),
            info: info.clone(),
            subject: None,
            notes: Vec::new(),
            begun: Instant::now(),
            begun_at: SystemTime::now(),
            outputs: common.outputs.clone(),
            gate,
            files: BTreeMap::new(),
            keep: common.keep.clone(),
            kept: Vec::new(),
            mode,
            strictness: Strictness { advisories: common.strict, memory: common.strict_memory },
            jobs_asked_for: common.jobs.map(usize::from),
            wants_first_look: common.choices_of_any(&[])?.wants(FIRST_LOOK),
            server: None,
            servers: Vec::new(),
            cases: Vec::new(),
            not_judged: Vec::new(),
            canary: None,
            secrets: Secrets::default(),
            events,
            events_lost: None,
        };
        session.on(Event::RunStarted(info));
        Ok(session)
    }

    /// Says whether the first look is one of the cases that the user asked for.
    pub fn looks_first_by(&mut self, wanted: bool) {
        self.wants_first_look = wanted;
    }

    /// Notes what was asked for and cannot be judged.
    pub fn not_judged(&mut self, what: String, cause: String) {
        self.not_judged.push((what, cause));
    }

    /// Says which file each case comes from.
    pub fn comes_from(&mut self, files: impl IntoIterator<Item = (String, String)>) {
        self.files.extend(files);
    }

    /// Takes in what no report may show.
    pub fn hide(&mut self, secrets: &Secrets) {
        self.secrets.extend(secrets);
    }

    /// Passes an event to the reporters.
    pub fn on(&mut self, mut event: Event) {
        match &mut event {
            Event::Note(note) => {
                self.secrets.hide(note);
                let whose = self.server.as_ref().map(|server| format!("{}: ", server.name));
                self.notes.push(format!("{}{note}", whose.unwrap_or_default()));
            }
            Event::Planned(cases) => self.info.cases = *cases,
            Event::SubjectSeen(subject) => {
                self.secrets.hide_in_subject(subject);
                self.subject = Some(subject.clone());
            }
            _ => {}
        }
        if let Some((_, file)) = &mut self.events
            && self.events_lost.is_none()
        {
            let at_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            // Whole lines, at once: who reads along never sees half of one.
            let line = ndjson::line(&event, at_ms) + "\n";
            self.events_lost = file.write_all(line.as_bytes()).err();
        }
        // A closed pipe is the reader's choice; the exit code tells the rest.
        let _ = self.human.on(&event);
    }

    /// Of several servers, begins with the next one.
    pub fn begin_server(&mut self, info: ServerInfo) {
        self.on(Event::ServerStarted(info.clone()));
        self.server = Some(info);
    }

    /// Ends its turn. It is left out where it cannot be judged and nobody asked for it by name.
    pub fn end_server(&mut self, left_out: bool) {
        let Some(info) = self.server.take() else { return };
        let cases = self.cases_in_order();
        let (subject, not_judged) = (self.subject.take(), std::mem::take(&mut self.not_judged));
        self.servers.push(JudgedServer { info, subject, cases, not_judged, left_out });
    }

    /// Takes in what came of a case, in the place it has in the plan, and tells it.
    pub(super) fn take(
        &mut self,
        place: usize,
        case: &Case,
        outcome: Outcome,
        tell: fn(Box<CaseReport>) -> Event,
    ) {
        match outcome {
            Outcome::Judged(mut report, _) => {
                if let Some(expect) = &case.expect {
                    report.unmet = crate::gate::expectation::unmet(expect, &report);
                    report.met = report.unmet.is_empty();
                    report.expected = Some(expect.verdict);
                }
                self.secrets.hide_in_case(&mut report);
                self.on(tell(report.clone()));
                if !report.met {
                    self.keep(&keep::as_played(case, report.cycles));
                }
                self.cases.push((place, *report));
            }
            // A file says what is to happen, so what did not happen was not judged.
            Outcome::NotApplicable(why) if case.expect.is_some() => {
                let cause = format!("the client did not come to what the file is about: {why}");
                self.not_judged.push((case.order.id.clone(), cause));
            }
            Outcome::Screened => {}
            Outcome::NotApplicable(why) => {
                let id = case.order.id.clone();
                self.info.cases = self.info.cases.saturating_sub(1);
                self.on(Event::LeftOut { id: id.clone() });
                self.on(Event::Note(format!("{id} left out: {why}")));
            }
            Outcome::NotJudged(mut cause) => {
                self.secrets.hide(&mut cause);
                self.not_judged.push((case.order.id.clone(), cause));
            }
        }
    }

    /// Writes a case to the folder of `--keep`.
    fn keep(&mut self, case: &Case) {
        let Some(folder) = &self.keep else { return };
        match keep::keep(folder, case) {
            Ok(Ok(path)) => {
                let shown = path.display().to_string();
                self.files.entry(case.order.id.clone()).or_insert(shown);
                self.kept.push(path);
            }
            Ok(Err(why)) => self.on(Event::Note(format!("{}: not kept, {why}", case.order.id))),
            Err(error) => {
                let note = format!("{}: could not be kept: {error}", case.order.id);
                self.on(Event::Note(note));
            }
        }
    }

    /// First looks at servers that are judged by other cases: only what they learn is kept.
    pub fn look(&self, cases: &[Case]) -> Vec<Option<Learned>> {
        let mut learned = vec![None; cases.len()];
        self.runner.run_all(cases, |news| {
            if let News::Ended(place, Outcome::Judged(_, facts)) = news {
                learned[place] = facts.map(|facts| *facts);
            }
        });
        learned
    }

    /// Judges one case before all others; gives back what the first look learned.
    pub fn judge_first(&mut self, case: &Case) -> Option<Learned> {
        self.on(Event::CaseStarted { id: case.order.id.clone() });
        let mut learned = None;
        let runner = Arc::clone(&self.runner);
        runner.run_all(std::slice::from_ref(case), |news| {
            if let News::Ended(_, mut outcome) = news {
                if let Outcome::Judged(_, facts) = &mut outcome {
                    learned = facts.take().map(|facts| *facts);
                }
                // One that shows no server is what the run has to tell, asked for or not.
                let counts = self.wants_first_look || learned.is_none();
                let tell = if counts { Event::CaseEnded } else { Event::Looked };
                self.take(0, case, outcome, tell);
            }
        });
        learned
    }

    /// Whether the first look was answered and turned down, as a server of the other era does. Its
    /// code says nothing (2026-07-28 stdio N12).
    pub fn speaks_other_era(&self) -> bool {
        let failure = self.cases.first().and_then(|(_, report)| report.failure.as_ref());
        failure.is_some_and(|failure| failure.not_started && failure.refused)
    }

    /// Takes the first look out of the results: the user asked for others only.
    pub fn forget_first(&mut self) {
        self.cases.retain(|(place, _)| *place != 0);
    }

    /// Judges no more than the first look, where the user named calls that cannot be made, and why.
    pub fn end_early(&mut self, calls: Vec<(Call, String)>) {
        if !self.wants_first_look {
            self.forget_first();
        }
        for (call, cause) in calls {
            self.not_judged(format!("--call {}", call.tool), cause);
        }
    }

    /// Judges cases of servers together with their canary.
    pub fn judge(&mut self, first_place: usize, cases: Vec<Case>, choices: &Choices) {
        let canary = Canary::of_servers(choices).with_memory(&cases, choices);
        self.judge_beside(&[canary], first_place, cases, choices);
    }

    /// Judges cases together with a canary for each sort of subject among them.
    pub fn judge_beside(
        &mut self,
        canaries: &[Canary],
        first_place: usize,
        cases: Vec<Case>,
        choices: &Choices,
    ) {
        self.beside_canaries(canaries, &cases, &choices.kinds, |session, news| match news {
            News::Started(index) => {
                session.on(Event::CaseStarted { id: cases[index].order.id.clone() });
            }
            News::Screened(_) => {}
            News::Ended(index, outcome) => {
                session.take(first_place + index, &cases[index], outcome, Event::CaseEnded);
            }
        });
    }

    /// Runs cases together with canaries, and tells of each case as it comes.
    pub(super) fn beside_canaries(
        &mut self,
        canaries: &[Canary],
        cases: &[Case],
        kinds: &BTreeSet<Kind>,
        mut each: impl FnMut(&mut Self, News),
    ) {
        // The canary rides among the cases, so that it proves the very conditions of this run. Of
        // several servers, it rides with the first.
        let mut all: Vec<Case> = match self.canary {
            None => canaries.iter().flat_map(|canary| canary.cases.clone()).collect(),
            Some(_) => Vec::new(),
        };
        let birds = all.len();
        all.extend_from_slice(cases);
        let mut seeded: Vec<Option<Outcome>> =
            std::iter::repeat_with(|| None).take(birds).collect();
        let runner = Arc::clone(&self.runner);
        runner.run_all(&all, |news| match news {
            News::Started(index) if index < birds => {}
            News::Ended(index, outcome) if index < birds => seeded[index] = Some(outcome),
            News::Started(index) => each(self, News::Started(index - birds)),
            News::Ended(index, outcome) => each(self, News::Ended(index - birds, outcome)),
            News::Screened(life) => each(self, News::Screened(life)),
        });
        if birds > 0 {
            let reports = canaries.iter().map(|canary| {
                let rest = seeded.split_off(canary.cases.len());
                canary.report(std::mem::replace(&mut seeded, rest), kinds)
            });
            let report = canary::of_all(reports);
            self.canary = Some(report.clone());
            self.on(Event::CanaryEnded(report));
        }
    }

    /// Plays the clean life of a byte sweep; gives back how many bytes it had. One that does not come to
    /// its answers is told as a case.
    pub(super) fn count(&mut self, case: &Case) -> Option<Works> {
        self.on(Event::CaseStarted { id: case.order.id.clone() });
        let mut works = None;
        let runner = Arc::clone(&self.runner);
        runner.run_all(std::slice::from_ref(case), |news| {
            if let News::Ended(_, outcome) = news {
                if let Outcome::Judged(_, facts) = &outcome {
                    works =
                        facts.as_ref().and_then(|facts| facts.works.clone()).map(|works| *works);
                }
                // What a clean life leaves, every lane of the sweep shows.
                if works.is_some() {
                    self.on(Event::LifeEnded { id: case.order.id.clone() });
                } else {
                    self.take(0, case, outcome, Event::CaseEnded);
                }
            }
        });
        works
    }

    fn cases_in_order(&mut self) -> Vec<CaseReport> {
        self.cases.sort_by_key(|(place, _)| *place);
        self.cases.drain(..).map(|(_, report)| report).collect()
    }

    fn exit_code(&self, cases: &[CaseReport], not_judged: usize) -> u8 {
        exit::exit_code(&exit::Outcome {
            cases,
            not_judged,
            canary: self.canary.as_ref(),
            interrupted: self.runner.interrupted(),
            mode: self.mode,
            strictness: self.strictness,
        })
    }

    /// What came of each server, and the exit code of them all.
    fn servers_in_order(&self) -> (Vec<ServerReport>, u8) {
        let reports = self.servers.iter().map(|server| ServerReport {
            name: server.info.name.clone(),
            command: server.info.command.clone(),
            subject: server.subject.clone(),
            verdict: server.cases.iter().map(|case| case.verdict).max(),
            totals: Totals::of(&server.cases),
            not_judged: server.info.not_judged.clone(),
            exit_code: (!server.left_out)
                .then(|| self.exit_code(&server.cases, server.not_judged.len())),
        });
        let reports: Vec<ServerReport> = reports.collect();
        let code = exit::of_servers(reports.iter().filter_map(|report| report.exit_code));
        (reports, code)
    }

    /// Ends the run: the summary, the report file, the exit code.
    pub fn end(mut self) -> Result<u8, Refusal> {
        if let (Some(folder), Some(first)) = (&self.keep, self.kept.first()) {
            let path = |path: &Path| plan::shell_words(&[path.display().to_string()]);
            let (folder, first) = (path(folder), path(first));
            let note = match self.kept.len() {
                1 => format!("kept a scenario file; play it again: scupper replay {first}"),
                number => format!(
                    "kept {number} scenario files in {folder}; play them again: scupper run \
                     {folder}; or one alone: scupper replay {first}"
                ),
            };
            self.on(Event::Note(note));
        }
        let mut cases = self.cases_in_order();
        let mut exit_code = self.exit_code(&cases, self.not_judged.len());
        let mut servers = Vec::new();
        if !self.servers.is_empty() {
            (servers, exit_code) = self.servers_in_order();
            for server in &mut self.servers {
                cases.append(&mut server.cases);
                self.not_judged.append(&mut server.not_judged);
            }
        }
        let interrupted = self.runner.interrupted();
        let invalid = self.canary.as_ref().is_some_and(|canary| !canary.holds());
        let verdict = if invalid {
            Some(Verdict::Invalid)
        } else {
            cases.iter().map(|case| case.verdict).max()
        };
        let mut summary = RunSummary {
            servers,
            cases,
            not_judged: std::mem::take(&mut self.not_judged),
            canary: self.canary.clone(),
            verdict,
            took: self.begun.elapsed(),
            exit_code,
            interrupted,
            strictness: self.strictness,
        };
        let mut report = self.report(&summary);
        let mut refused = Ok(());
        if !self.gate.is_empty() {
            refused = self.gate.judge(&mut report);
            self.on(Event::Gated(report.gate.clone().unwrap_or_default()));
            summary.exit_code = report.exit_code;
        }
        self.on(Event::RunEnded(summary));
        // What a run has found is written whatever the gate says of it.
        self.outputs.write(&report)?;
        if let (Some((path, _)), Some(error)) = (&self.events, &self.events_lost) {
            return Err(Refusal::ours(format!(
                "--events {}: what happened could not be written to the end: {error}",
                path.display()
            )));
        }
        refused.map(|()| report.exit_code)
    }

    fn report(&self, summary: &RunSummary) -> Report {
        let mut report = Report::new(&self.info, self.subject.as_ref(), &self.notes, summary);
        let since_1970 = self.begun_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        report.begun = Some(calendar::timestamp(since_1970.as_secs()));
        report.files.clone_from(&self.files);
        report
    }
}
