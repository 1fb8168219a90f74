//! The options that all judging subcommands have, and what they come to: [`Choices`].

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::Refusal;
use super::gate::{GateOptions, with_options};
use super::outputs::Outputs;
use crate::gate::exit::Mode;
use crate::ledger::snapshot::Kind;
use crate::lifecycle::battery::Call;
use crate::lifecycle::step::EraChoice;
use crate::plan::{CYCLES, Choices};

/// Options that all judging subcommands have.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Judge only these lifecycles or scenarios: an id, its last part, or a folder (repeatable, or
    /// with commas)
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Leave these out, likewise
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub skip: Vec<String>,
    /// Judge only these kinds of things (repeatable); see `scupper list probes`
    #[arg(long = "probe", value_name = "KIND")]
    pub probes: Vec<String>,
    /// Cycles of calling, the warm-up not counted; where something may grow, up to five times as many
    /// are played. More see smaller and rarer leaks: of memory 100 KiB a call with 20 (Node.js: 1500),
    /// 10 KiB with 140, 1 KiB with 1400; one call in 20 that leaks with 500. `stdio/reconnect` plays
    /// five lives for each, 30 s at most
    #[arg(long, value_name = "N", default_value_t = CYCLES, value_parser = clap::value_parser!(u32).range(5..=10_000))]
    pub cycles: u32,
    /// Cases at once; when not given, one for each core and at least 2, in `run` and `replay` four for
    /// each core: they mostly wait
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    /// A number for the head of the report, to tell runs apart. It changes nothing else: no case has
    /// anything random in it. Generated lifecycles take theirs by `campaign --seeds`
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Era of the protocol to speak: `2025-11-25`, `2026-07-28`, or `auto`, which is what the server
    /// answers to
    #[arg(long, value_name = "ERA", default_value = "auto", value_parser = era)]
    pub era: EraChoice,
    /// How long something that is due may take before it is a leak, time without a processor not
    /// counted; when not given, calibrated on the subject's own clean run, scaled by load, never
    /// under 6 s
    #[arg(long, value_name = "DUR", value_parser = duration)]
    pub leak_timeout: Option<Duration>,
    /// How long the server may take to answer the handshake
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = duration)]
    pub start_timeout: Duration,
    /// Count advisory findings as leaks
    #[arg(long)]
    pub strict: bool,
    /// Count memory that rises with every cycle as a leak
    #[arg(long)]
    pub strict_memory: bool,
    /// Reports as files.
    #[command(flatten)]
    pub outputs: Outputs,
    /// What the run is held against.
    #[command(flatten)]
    pub gate: GateOptions,
    /// Keep a scenario file of every case that is not clean in this folder, for `scupper replay`
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Write what happens, when it happens, as JSON, one object a line
    #[arg(long, value_name = "PATH")]
    pub events: Option<PathBuf>,
    /// Show no progress
    #[arg(long)]
    pub no_progress: bool,
    /// Colours
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Color {
    /// As the stream takes it.
    pub fn choice(self) -> anstream::ColorChoice {
        match self {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        }
    }
}

impl Common {
    /// What the user chose, checked.
    pub fn choices(&self, calls: &[String]) -> Result<Choices, Refusal> {
        let choices = self.choices_of_any(calls)?;
        judge_a_server(&choices.kinds)?;
        Ok(choices)
    }

    /// The same, whatever the kinds find in a server.
    pub fn choices_of_any(&self, calls: &[String]) -> Result<Choices, Refusal> {
        let program = std::env::current_exe()
            .ok()
            .and_then(|path| path.to_str().map(str::to_owned))
            .ok_or_else(|| Refusal::ours("cannot tell the path of this program"))?;
        Ok(Choices {
            only: self.only.clone(),
            skip: self.skip.clone(),
            kinds: kinds(&self.probes)?,
            cycles: self.cycles,
            era: self.era,
            leak_timeout_ms: self.leak_timeout.map(millis),
            start_timeout_ms: millis(self.start_timeout),
            calls: calls.iter().map(|call| parse_call(call)).collect::<Result<_, _>>()?,
            program,
            sweep: None,
        })
    }

    /// The command of a run with what decides whether it is green, and shapes no case.
    pub fn repeated(&self, command: &str) -> String {
        let strict = [(self.strict, "--strict"), (self.strict_memory, "--strict-memory")];
        let strict = strict.into_iter().filter(|(given, _)| *given);
        let strict: Vec<String> = strict.map(|(_, option)| option.to_owned()).collect();
        with_options(&self.gate.repeated(command), &strict)
    }

    /// Cases at once. Servers from elsewhere may be heavy; scenarios are mostly played on fakes, and
    /// a leak takes time and no work.
    pub fn jobs(&self, mode: Mode) -> usize {
        let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
        let default = match mode {
            Mode::Verdicts => cores.max(2),
            Mode::Expectations => 4 * cores,
        };
        self.jobs.map_or(default, usize::from)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn kinds(names: &[String]) -> Result<BTreeSet<Kind>, Refusal> {
    if names.is_empty() {
        return Ok(Kind::ALL.iter().copied().collect());
    }
    let known = || Kind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    names
        .iter()
        .flat_map(|name| name.split(','))
        .map(|name| {
            Kind::ALL.iter().copied().find(|kind| kind.as_str() == name).ok_or_else(|| {
                Refusal::usage(format!("--probe {name}: there is no such kind; known: {}", known()))
            })
        })
        .collect()
}

/// A run that can find nothing is not green.
fn judge_a_server(kinds: &BTreeSet<Kind>) -> Result<(), Refusal> {
    let inside = [Kind::Task, Kind::Session, Kind::Cursor, Kind::Entry, Kind::Memory];
    if kinds.iter().all(|kind| inside.contains(kind)) {
        let names = inside.map(Kind::as_str).join(", ");
        return Err(Refusal::usage(format!(
            "--probe with no more than {names} judges no server by itself; add another kind"
        )));
    }
    Ok(())
}

fn parse_call(text: &str) -> Result<Call, Refusal> {
    let (tool, arguments) = text.split_once('=').unwrap_or((text, "{}"));
    let arguments: Value = serde_json::from_str(arguments).map_err(|error| {
        Refusal::usage(format!(
            "--call {tool}: its arguments are no JSON: {error}; write --call '{tool}={{\"key\": 1}}'"
        ))
    })?;
    if !arguments.is_object() {
        return Err(Refusal::usage(format!("--call {tool}: its arguments must be a JSON object")));
    }
    Ok(Call { tool: tool.to_owned(), arguments })
}

fn era(text: &str) -> Result<EraChoice, String> {
    EraChoice::ALL
        .iter()
        .copied()
        .find(|era| era.as_str() == text)
        .ok_or_else(|| "known: auto, 2025-11-25, 2026-07-28".to_owned())
}

/// A duration such as `500ms`, `2s` or `1m`; at most an hour.
pub fn duration(text: &str) -> Result<Duration, String> {
    let number_ends = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(number_ends);
    let wrong = || format!("{text:?} is no duration; write 500ms, 2s or 1m");
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "ms" => number / 1_000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3_600.0,
        _ => return Err(wrong()),
    };
    if !(0.0..=3_600.0).contains(&seconds) {
        return Err(format!("{text:?} is not between 0 and 1h"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::arguments::{Arguments, Command};
    use super::*;

    #[test]
    fn the_default_time_to_start_is_the_one_that_need_not_be_named() {
        let arguments = Arguments::parse_from(["scupper", "server", "--", "x"]);
        let Command::Server(server) = arguments.command else { panic!("another subcommand") };
        assert_eq!(millis(server.common.start_timeout), crate::plan::START_TIMEOUT_MS);
    }

    #[test]
    fn kinds_that_find_nothing_in_a_server_are_not_enough() {
        let judge = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            judge_a_server(&kinds(&names).expect("they are kinds"))
        };
        assert!(judge(&["memory,task"]).is_err());
        assert!(judge(&["memory", "fd"]).is_ok());
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert!(duration("5").is_err());
        assert!(duration("2d").is_err());
        assert!(duration("5h").is_err());
    }

    #[test]
    fn calls_take_a_json_object() {
        assert_eq!(parse_call("echo").map(|call| call.arguments).ok(), Some(serde_json::json!({})));
        assert!(parse_call("echo={").is_err());
        assert!(parse_call("echo=[1]").is_err());
    }
}
