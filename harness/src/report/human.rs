//! A run for people: a line per case as it is judged, then a block per fault, then one sentence.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anstream::{AutoStream, ColorChoice};

use super::{
    block::{BOLD, DIM, GREEN, MAGENTA, Page, RED},
    ending::{canary_block, canary_words, gated_sentence, sentence},
    ends,
    event::{CanaryReport, Event, Gated, RunInfo, RunSummary, SubjectInfo, codes},
    group::{cause, failure_cause, grouped, ids, note_cause, server_of, without_numbers},
    json::Totals,
    redact, servers, sweep,
    tell::{
        VERDICT_WIDTH, case_lines, crash_block, failure_block, finding_block, look_line,
        unknown_block, unmet_block,
    },
    text::{LONGEST_LINE, count, cut, duration, sanitise, wrap},
};
use crate::ledger::fingerprint::Fingerprint;
use crate::ledger::verdict::{CaseReport, Class, Verdict};

/// Most blocks of one sort.
const MOST_BLOCKS: usize = 20;
/// Most notes.
const MOST_NOTES: usize = 10;

/// Most findings that a baseline accepts and that are told.
const MOST_KNOWN: usize = 10;

/// Most cases that are named in a note.
const NOTED_CASES: usize = 8;

/// How to write.
pub struct HumanOptions {
    /// With colours.
    pub color: bool,
    /// Columns of the page, at least 40.
    pub width: usize,
    /// Where the one status line goes; a terminal, never the same one twice.
    pub progress: Option<Box<dyn Write + Send>>,
}

impl HumanOptions {
    /// What fits stdout and stderr as they are: NO_COLOR and its kin are obeyed, and there is
    /// progress only on a terminal, and only if wanted.
    pub fn detect(color: ColorChoice, progress: bool) -> Self {
        let stdout = io::stdout();
        let choice = match color {
            ColorChoice::Auto => AutoStream::choice(&stdout),
            choice => choice,
        };
        let columns = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| size.ws_col.into());
        let told = std::env::var("COLUMNS").ok();
        let progress = progress && io::stderr().is_terminal();
        Self {
            color: choice != ColorChoice::Never,
            width: page_width(columns, told.as_deref()),
            progress: progress.then(|| Box::new(io::stderr()) as Box<dyn Write + Send>),
        }
    }
}

/// The terminal's own width where there is one, or else what COLUMNS says.
fn page_width(terminal: Option<usize>, told: Option<&str>) -> usize {
    let told = || told.and_then(|columns| columns.trim().parse().ok());
    let columns = terminal.filter(|columns| *columns > 0).or_else(told);
    columns.unwrap_or(100).clamp(60, 120)
}

/// The reporter for people.
pub struct Human<W> {
    out: W,
    page: Page,
    progress: Option<Box<dyn Write + Send>>,
    info: Option<RunInfo>,
    /// The only one of the run.
    subject: Option<SubjectInfo>,
    running: Vec<String>,
    judged: usize,
    /// Since when the first case runs.
    begun: Option<Instant>,
    /// The run is about several servers, each under a heading.
    of_servers: bool,
    /// What came of a baseline, thresholds or an older report.
    gated: Option<Gated>,
    /// The status line shows something.
    has_status: bool,
}

impl<W: Write> Human<W> {
    /// A reporter that writes its results to `out`.
    pub fn new(out: W, options: HumanOptions) -> Self {
        Self {
            out,
            page: Page { width: options.width.max(40), color: options.color },
            progress: options.progress,
            info: None,
            subject: None,
            running: Vec::new(),
            judged: 0,
            begun: None,
            of_servers: false,
            gated: None,
            has_status: false,
        }
    }

    /// Takes one event.
    pub fn on(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Planned(cases) => {
                if let Some(info) = &mut self.info {
                    info.cases = *cases;
                }
            }
            Event::CaseStarted { id } => {
                self.begun.get_or_insert_with(Instant::now);
                self.running.push(id.clone());
            }
            Event::LeftOut { id } => {
                self.running.retain(|running| running != id);
                if let Some(info) = &mut self.info {
                    info.cases = info.cases.saturating_sub(1);
                }
            }
            Event::ServerStarted(server) => {
                self.of_servers = true;
                self.line("")?;
                servers::heading(self.page, server).iter().try_for_each(|line| self.line(line))?;
            }
            Event::Looked(case) => {
                self.running.retain(|id| *id != case.id);
                let mut case = redact::case(case);
                // Of several servers, the heading above says whose it is.
                case.id.clone_from(&case.lifecycle);
                let line = look_line(self.page, &case);
                self.line(&line)?;
            }
            Event::Swept { done, planned, suspects, left } => {
                let suspects = match suspects {
                    0 => String::new(),
                    number => format!(", {number} to be looked at again"),
                };
                let text = format!("{done} of {planned} lives{suspects}, about {left} left");
                return self.show_status(&text);
            }
            Event::LifeEnded { id } => self.running.retain(|running| running != id),
            // Told in the table at the end.
            Event::CaseEnded(case) if case.swept.is_some() => self.judged += 1,
            Event::CaseEnded(case) => {
                self.running.retain(|id| *id != case.id);
                self.judged += 1;
                let mut case = redact::case(case);
                if self.of_servers {
                    // The heading above says whose it is.
                    case.id.clone_from(&case.lifecycle);
                }
                for line in case_lines(self.page, &case) {
                    self.line(&line)?;
                }
            }
            Event::RunStarted(info) => {
                let info = self.info.insert(redact::run(info)).clone();
                self.headline(&info)?;
            }
            Event::SubjectSeen(subject) => {
                let subject = redact::subject(subject);
                self.subject = (!self.of_servers).then(|| subject.clone());
                let mode = self.info.as_ref().map(|info| info.mode.as_str()).unwrap_or_default();
                let said = match mode {
                    "client" => client(&subject),
                    "http-server" => introduction(&subject, "SIGTERM"),
                    _ => introduction(&subject, "end of stdin"),
                };
                self.paragraph(&said, "  ")?;
                self.line("")?;
            }
            Event::CanaryEnded(canary) => self.canary(canary)?,
            Event::Note(note) => self.note(note, &[])?,
            Event::Gated(gated) => self.gated = Some(gated.clone()),
            Event::RunEnded(summary) => {
                self.running.clear();
                self.summary(summary)?;
                return self.out.flush();
            }
        }
        self.status()
    }

    /// What was written to, for what comes after the run.
    pub fn into_inner(mut self) -> W {
        // A status line that stays behind is a blemish, not a failure.
        let _ = self.clear_status();
        self.out
    }

    /// `scupper 0.1.0 server: node dist/index.js (6 cases, seed 7)`
    fn headline(&mut self, info: &RunInfo) -> io::Result<()> {
        let cases = match info.cases {
            0 => String::new(),
            number => format!("{}, ", count(number, "case")),
        };
        let name = format!("scupper {} {}", info.version, info.mode);
        let subject = sanitise(&info.subject, LONGEST_LINE);
        let text = format!("{name}: {subject} ({cases}seed {})", info.seed);
        wrap(&text, self.page.width).iter().enumerate().try_for_each(|(at, line)| {
            match line.strip_prefix(&name).filter(|_| at == 0) {
                Some(rest) => self.line(&format!("{}{rest}", self.page.paint(BOLD, &name))),
                None => self.line(line),
            }
        })
    }

    /// In the columns of the cases.
    fn canary(&mut self, canary: &CanaryReport) -> io::Result<()> {
        let (style, word, text) = match canary.holds() {
            true => (GREEN, "canary", canary_words(canary)),
            false => (MAGENTA, "invalid", "the canary failed".to_owned()),
        };
        let mut start = self.page.paint(style, &format!("{word:<VERDICT_WIDTH$}"));
        for line in wrap(&text, self.page.width - VERDICT_WIDTH - 2) {
            self.line(&format!("{start}  {line}"))?;
            start = " ".repeat(VERDICT_WIDTH);
        }
        Ok(())
    }

    /// Blocks, notes, and the end.
    fn summary(&mut self, summary: &RunSummary) -> io::Result<()> {
        self.clear_status()?;
        let mut cases: Vec<CaseReport> = summary.cases.iter().map(redact::case).collect();
        let mut known = Vec::new();
        if let Some(gated) = &self.gated {
            known = known_lines(gated, &cases);
            // What is known is not told again.
            cases.iter_mut().for_each(|case| *case = case.without(&gated.known).into_owned());
        }
        // What a scenario expects and gets is not news.
        let news: Vec<&CaseReport> =
            cases.iter().filter(|case| case.expected.is_none() || !case.met).collect();
        let table = sweep::table(self.page, &cases);
        table.iter().try_for_each(|line| self.line(line))?;
        self.line("")?;
        let broken_canary = summary.canary.as_ref().filter(|canary| !canary.holds());
        if let Some(canary) = broken_canary {
            let block = canary_block(self.page, canary, self.info.as_ref());
            self.out.write_all(block.as_bytes())?;
        }
        let blocks = blocks(self.page, &news);
        for of_one_sort in &blocks {
            self.blocks(of_one_sort)?;
        }
        self.notes(&cases, summary)?;
        // One whose leaks are known is neither clean nor news.
        let as_judged = cases.iter().zip(&summary.cases);
        let as_judged = as_judged.filter(|(case, before)| case.verdict == before.verdict);
        let ended: Vec<&CaseReport> = as_judged.map(|(case, _)| case).collect();
        let ends = ends::table(self.page, &ended);
        ends.iter().try_for_each(|line| self.line(line))?;
        if !ends.is_empty() {
            self.line("")?;
        }
        self.gate(&known)?;
        self.totals(summary, &cases)?;
        let says_how_to_repeat =
            broken_canary.is_some() || blocks.iter().any(|sort| !sort.is_empty());
        if let Some(info) = self.info.clone()
            && summary.exit_code != codes::CLEAN
            && !says_how_to_repeat
            && !info.repeat.is_empty()
        {
            self.line(&format!("repeat: {}", sanitise(&info.repeat, 2000)))?;
        }
        Ok(())
    }

    fn blocks(&mut self, blocks: &[String]) -> io::Result<()> {
        for block in blocks.iter().take(MOST_BLOCKS) {
            self.out.write_all(block.as_bytes())?;
        }
        if blocks.len() > MOST_BLOCKS {
            let more = count(blocks.len() - MOST_BLOCKS, "more fault");
            self.line(&format!("… and {more}; a JSON report has them all\n"))?;
        }
        Ok(())
    }

    fn notes(&mut self, cases: &[CaseReport], summary: &RunSummary) -> io::Result<()> {
        let notes = cases.iter().flat_map(|case| case.notes.iter().map(move |note| (case, note)));
        let notes = grouped(notes, |(case, note)| (server_of(case), note_cause(note)));
        for group in notes.iter().take(MOST_NOTES) {
            let (first, note) = group[0];
            let mut cases = ids(group.iter().map(|(case, _)| *case));
            match server_of(first) {
                None => self.note(note, &cases)?,
                Some(server) => {
                    let of_server = |id: &mut &str| *id = id.get(server.len() + 1..).unwrap_or(id);
                    cases.iter_mut().for_each(of_server);
                    self.note(&format!("{server}: {note}"), &cases)?;
                }
            }
        }
        if notes.len() > MOST_NOTES {
            self.line(&format!("… and {}", count(notes.len() - MOST_NOTES, "more note")))?;
        }
        let lost = grouped(&summary.not_judged, |(_, cause)| without_numbers(cause));
        for group in lost.iter().take(MOST_NOTES) {
            let ids: Vec<&str> = group.iter().map(|(id, _)| id.as_str()).collect();
            let cause = redact::redact(&group[0].1).into_owned();
            self.note(&format!("not judged, {cause}"), &ids)?;
        }
        if notes.is_empty() && summary.not_judged.is_empty() { Ok(()) } else { self.line("") }
    }

    /// A line for each thing that the gate has to say, after what is `known`.
    fn gate(&mut self, known: &[String]) -> io::Result<()> {
        let Some(gated) = self.gated.clone() else { return Ok(()) };
        let page = self.page;
        let told = known.iter().chain(&gated.told).map(|text| (DIM, text));
        let told: Vec<_> = told.chain(gated.against.iter().map(|text| (RED, text))).collect();
        for (style, text) in &told {
            let text = sanitise(&redact::redact(text), 2 * LONGEST_LINE);
            let lines = wrap(&text, page.width - "gate  ".len());
            let mut start = page.paint(*style, "gate  ");
            for line in lines {
                self.line(&format!("{start}{line}"))?;
                start = " ".repeat("gate  ".len());
            }
        }
        if told.is_empty() { Ok(()) } else { self.line("") }
    }

    /// Counts, and the exit code; `cases` are those without what is known.
    fn totals(&mut self, summary: &RunSummary, cases: &[CaseReport]) -> io::Result<()> {
        let page = self.page;
        if !summary.servers.is_empty() {
            servers::table(page, &summary.servers).iter().try_for_each(|line| self.line(line))?;
            self.line("")?;
        }
        let totals = Totals::of(&summary.cases);
        let parts = servers::totals_in_words(page, &totals, summary.not_judged.len());
        let took = duration(summary.took.as_secs_f64() * 1000.0);
        self.line(&format!("{} in {took}: {parts}", count(summary.cases.len(), "case")))?;
        let style = if summary.exit_code == codes::CLEAN { GREEN } else { RED };
        let start = format!("exit {}", summary.exit_code);
        let lines = wrap(&format!("{start}: {}", self.sentence(summary, cases)), page.width);
        let rest = lines[0].strip_prefix(&start).unwrap_or_default();
        self.line(&format!("{}{rest}", page.paint(style, &start)))?;
        lines[1..].iter().try_for_each(|line| self.line(&format!("  {line}")))
    }

    /// What the exit code means.
    fn sentence(&self, summary: &RunSummary, cases: &[CaseReport]) -> String {
        let subject = self.subject.as_ref();
        let Some(gated) = &self.gated else { return sentence(summary, subject) };
        gated_sentence(&RunSummary { cases: cases.to_vec(), ..summary.clone() }, gated, subject)
    }

    /// `note: text (these cases)`
    fn note(&mut self, note: &str, cases: &[&str]) -> io::Result<()> {
        let note = sanitise(&redact::redact(note), 2 * LONGEST_LINE);
        let short = |case: &&str| sanitise(case, 80);
        let cases = match cases {
            [] => String::new(),
            several => {
                let named: Vec<String> = several.iter().take(NOTED_CASES).map(short).collect();
                let more = match several.len().saturating_sub(NOTED_CASES) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!(" ({}{more})", named.join(", "))
            }
        };
        self.paragraph(&format!("note: {note}{cases}"), "      ")
    }

    fn paragraph(&mut self, text: &str, indent: &str) -> io::Result<()> {
        for (at, line) in wrap(text, self.page.width - indent.len()).iter().enumerate() {
            self.line(&if at == 0 { line.clone() } else { format!("{indent}{line}") })?;
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        self.clear_status()?;
        writeln!(self.out, "{line}")?;
        // On a terminal, a line is seen when its case is judged, not when a buffer is full.
        self.out.flush()
    }

    /// Rewrites the status line.
    fn status(&mut self) -> io::Result<()> {
        if self.progress.is_none() {
            return Ok(());
        }
        let Some(id) = self.running.first() else { return Ok(()) };
        let planned = self.info.as_ref().map_or(0, |info| info.cases);
        let of = if planned > 0 { format!(" of {planned}") } else { String::new() };
        let more = match self.running.len() {
            1 => String::new(),
            number => format!(" and {} more", number - 1),
        };
        let passed = self.begun.map(|begun| begun.elapsed()).unwrap_or_default();
        let left = match estimate(passed, self.judged, planned) {
            Some(left) => format!(", about {left}"),
            None => String::new(),
        };
        let now = sanitise(id, LONGEST_LINE);
        let text = format!("{}{of} judged{left}, now {now}{more}", self.judged);
        self.show_status(&text)
    }

    fn show_status(&mut self, text: &str) -> io::Result<()> {
        let Some(progress) = &mut self.progress else { return Ok(()) };
        let text = cut(text, self.page.width - 1);
        self.has_status = true;
        write!(progress, "\r\x1b[2K{}", self.page.paint(DIM, &text))?;
        progress.flush()
    }

    fn clear_status(&mut self) -> io::Result<()> {
        match &mut self.progress {
            Some(progress) if std::mem::take(&mut self.has_status) => {
                write!(progress, "\r\x1b[2K")?;
                progress.flush()
            }
            _ => Ok(()),
        }
    }
}

/// How long the rest takes, if a case takes as long as those before; none as long as there are too few.
fn estimate(passed: Duration, judged: usize, planned: usize) -> Option<String> {
    const ENOUGH: usize = 3;
    let rest = planned.checked_sub(judged).filter(|rest| *rest > 0 && judged >= ENOUGH)?;
    let seconds = (passed.as_secs_f64() / judged as f64 * rest as f64).ceil();
    Some(match seconds {
        seconds if seconds < 100.0 => format!("{seconds:.0} s left"),
        seconds => format!("{:.0} min left", (seconds / 60.0).ceil()),
    })
}

/// What a baseline accepts, each finding with the reason.
fn known_lines(gated: &Gated, cases: &[CaseReport]) -> Vec<String> {
    if gated.accepted == 0 {
        return Vec::new();
    }
    let mut known: Vec<(Fingerprint, &str)> = Vec::new();
    for case in cases.iter().filter(|case| case.expected.is_none()) {
        for fingerprint in case.findings.iter().map(|one| Fingerprint::of(case, one)) {
            if let Some(reason) = gated.known.get(&fingerprint.hash())
                && known.iter().all(|(told, _)| *told != fingerprint)
            {
                known.push((fingerprint, reason));
            }
        }
    }
    let head = format!("{} known, and accepted by the baseline", count(gated.accepted, "finding"));
    let line = |(fingerprint, reason): &(Fingerprint, &str)| {
        format!("accepted: {fingerprint}; because: {reason}")
    };
    let more = known.len().saturating_sub(MOST_KNOWN);
    let more = (more > 0).then(|| format!("accepted: and {more} more"));
    [head].into_iter().chain(known.iter().take(MOST_KNOWN).map(line)).chain(more).collect()
}

/// What a client said of itself, in a sentence.
fn client(subject: &SubjectInfo) -> String {
    let (name, version) = (sanitise(&subject.name, 60), sanitise(&subject.version, 30));
    let eras = match subject.eras.as_slice() {
        [] => "no known era".to_owned(),
        eras => eras.join(" and "),
    };
    let ends = match subject.exit_ms {
        Some(_) => "ends by itself",
        None => "lives on until it is told to end",
    };
    let start = duration(subject.start_ms as f64);
    format!(
        "client \"{name}\", version {version}, speaks {eras}; first words after {start}; {ends}"
    )
}

/// What the subject said of itself, in a sentence.
fn introduction(subject: &SubjectInfo, due: &str) -> String {
    let SubjectInfo { name, version, eras, tools, callable, launchers, start_ms, exit_ms } =
        subject;
    let (name, version) = (sanitise(name, 60), sanitise(version, 30));
    let eras = if eras.is_empty() { "no known era".to_owned() } else { eras.join(" and ") };
    let time = |ms: u64| if ms == 0 { "under 1 ms".to_owned() } else { duration(ms as f64) };
    let exit = match exit_ms {
        Some(ms) => format!("exits {} after {due}", time(*ms)),
        None => format!("does not exit at {due}"),
    };
    let tools = match (callable.len(), tools.len()) {
        (_, 0) => "no tools".to_owned(),
        (some, all) => format!("{some} of {} may be called unasked", count(all, "tool")),
    };
    let launchers = match launchers.as_slice() {
        [] => String::new(),
        some => format!("; started through {}", sanitise(&some.join(", "), 80)),
    };
    format!(
        "server \"{name}\", version {version}, speaks {eras}; answers after {}, {exit}; {tools}{launchers}",
        time(*start_ms),
    )
}

/// Blocks by sort, what makes a run red first. What never started goes before all it left.
fn blocks(page: Page, cases: &[&CaseReport]) -> [Vec<String>; 7] {
    let findings = |class: Class| {
        let all = cases.iter().flat_map(|case| case.findings.iter().map(move |f| (*case, f)));
        grouped(all.filter(|(_, f)| f.class == class), |(case, f)| (server_of(case), cause(f)))
            .iter()
            .map(|group| finding_block(page, group))
            .collect()
    };
    let failures = cases.iter().filter_map(|case| Some((*case, case.failure.as_ref()?)));
    let failures = grouped(failures, |(case, failure)| (server_of(case), failure_cause(failure)));
    let of_failures = |not_started: bool| {
        let groups = failures.iter().filter(|group| group[0].1.not_started == not_started);
        groups.map(|group| failure_block(page, group)).collect()
    };
    let unknown = cases
        .iter()
        .copied()
        .filter(|case| case.verdict == Verdict::Unknown || !case.unreadable.is_empty());
    let unknown = grouped(unknown, |case| {
        (
            server_of(case),
            case.verdict,
            case.unreadable.iter().map(|text| without_numbers(text)).collect::<Vec<_>>(),
        )
    });
    let crashes = cases.iter().flat_map(|case| case.crashes.iter().map(move |one| (*case, one)));
    let crashes = grouped(crashes, |(case, crash)| (server_of(case), crash.signal.clone()));
    let unmet = cases.iter().filter(|case| case.expected.is_some() && !case.met);
    [
        of_failures(true),
        findings(Class::Leak),
        of_failures(false),
        unmet.map(|case| unmet_block(page, case)).collect(),
        unknown.iter().map(|group| unknown_block(page, group)).collect(),
        findings(Class::Advisory),
        crashes.iter().map(|group| crash_block(page, group)).collect(),
    ]
}

#[cfg(test)]
mod tests;
