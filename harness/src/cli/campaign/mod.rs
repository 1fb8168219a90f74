//! `scupper campaign` and `scupper merge`: generated lifecycles, and one report of many.
//!
//! - `memory`: on our core in memory, beside the model.
//! - `real`: with real processes, each lifecycle in a cell of its own.

#[cfg(feature = "core")]
mod memory;
mod real;

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::common::Common;
use super::outputs::Outputs;
use super::{Ended, Refusal};
use crate::lifecycle::embedded::{HOSTS, OURS};
use crate::lifecycle::generate::Generated;
use crate::report::campaign::{self, MergeError};
use crate::report::event::codes;
use crate::report::json::Report;

/// Arguments of `scupper campaign`.
#[derive(Debug, Args)]
pub struct CampaignArguments {
    /// The lifecycles of these seeds, such as 0..10000; the end is not played
    #[arg(long, value_name = "A..B", value_parser = seeds, required_unless_present = "lifecycle")]
    pub seeds: Option<(u64, u64)>,
    /// Of all seeds, only the I-th part of N; `scupper merge` puts the reports together
    #[arg(long, value_name = "I/N", value_parser = super::sweep::shard, requires = "seeds")]
    pub shard: Option<(usize, usize)>,
    /// The one lifecycle that a finding has printed
    #[arg(long, value_name = "CODE", conflicts_with = "seeds")]
    pub lifecycle: Option<String>,
    /// What is judged: `core`, our own library, in memory; or a host that `scupper list subjects`
    /// shows, with real servers
    #[arg(long, value_name = "SUBJECT", default_value = "core", value_parser = subjects(), conflicts_with = "command")]
    pub subject: String,
    /// Play on the core with real servers, each lifecycle in a cell of its own: child processes and
    /// sockets, judged by the kernel
    #[arg(long, conflicts_with = "command")]
    pub real: bool,
    /// With real processes: where the shortest lifecycle of each finding is written, as a scenario for
    /// `scupper run` and `scupper replay`
    #[arg(long, value_name = "DIR", default_value = "scenarios/found")]
    pub found: PathBuf,
    /// Also call this tool of COMMAND, with these arguments (repeatable; the first is the one that is
    /// in flight when an end comes)
    #[arg(long = "call", value_name = "TOOL[=JSON]", requires = "command")]
    pub calls: Vec<String>,
    /// Common options.
    #[command(flatten)]
    pub common: Common,
    /// Any stdio server's command line: it is judged in place of the core
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Arguments of `scupper merge`.
#[derive(Debug, Args)]
pub struct MergeArguments {
    /// Reports of the shards of one campaign
    #[arg(required = true, value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// Reports as files.
    #[command(flatten)]
    pub outputs: Outputs,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("{text:?} is no range of seeds; write 0..1000 for a thousand of them");
    let (first, end) = text.split_once("..").ok_or_else(wrong)?;
    let (first, end) = (first.parse().map_err(|_| wrong())?, end.parse().map_err(|_| wrong())?);
    if first < end { Ok((first, end)) } else { Err(wrong()) }
}

/// The hosts that a campaign can be played on.
fn subjects() -> PossibleValuesParser {
    PossibleValuesParser::new(HOSTS.iter().map(|host| host.name))
}

/// Which seeds are played: those of a part of a range.
#[derive(Debug, Clone, Copy)]
struct Seeds {
    first: u64,
    end: u64,
    part: u32,
    shards: u32,
}

impl Seeds {
    fn of(arguments: &CampaignArguments) -> Result<Self, Refusal> {
        let (first, end) = arguments.seeds.unwrap_or((0, 1));
        let (part, of) = arguments.shard.unwrap_or((1, 1));
        let number = |number: usize| {
            u32::try_from(number)
                .map_err(|_| Refusal::usage("--shard: that many parts are too many"))
        };
        Ok(Self { first, end, part: number(part)?, shards: number(of)? })
    }

    fn each(self) -> impl Iterator<Item = u64> {
        let step = usize::try_from(self.shards).unwrap_or(usize::MAX);
        (self.first + u64::from(self.part - 1)..self.end).step_by(step)
    }
}

/// Plays a campaign.
pub fn run(arguments: &CampaignArguments) -> Ended {
    let common = &arguments.common;
    if !common.only.is_empty() || !common.skip.is_empty() {
        return Err(Refusal::usage(
            "--only and --skip name lifecycles that have names; those of a campaign have seeds: \
             --seeds 7..8",
        ));
    }
    if let Some(option) = common.gate.first_given() {
        return Err(Refusal::usage(format!(
            "{option} is no option of a campaign; hold its report against it: --json report.json, then \
             scupper gate {option} … report.json"
        )));
    }
    let lifecycle = match &arguments.lifecycle {
        Some(code) => Some(Generated::parse(code).ok_or_else(|| {
            Refusal::usage(format!("--lifecycle {code}: this is not what a finding prints"))
        })?),
        None => None,
    };
    let seeds = Seeds::of(arguments)?;
    if lifecycle.is_none() {
        common.outputs.begin()?;
        common.outputs.hold_commands();
    }
    let is_real = arguments.real || arguments.subject != OURS || !arguments.command.is_empty();
    let report = match (lifecycle, is_real) {
        (Some(lifecycle), false) => return in_memory_one(&lifecycle),
        (None, false) => in_memory(seeds, common)?,
        (Some(lifecycle), true) => return real::one(arguments, &lifecycle),
        (None, true) => real::campaign(arguments, seeds)?,
    };
    finish(&report, &common.outputs)?;
    Ok(campaign::shard_code(&report))
}

#[cfg(feature = "core")]
use memory::{campaign as in_memory, one as in_memory_one};

/// Without the core there is nothing to play on.
#[cfg(not(feature = "core"))]
const NO_CORE: &str = "this build has no core to play on (feature `core`); a server can be judged: \
                       scupper campaign --seeds 0..100 -- COMMAND";

#[cfg(not(feature = "core"))]
fn in_memory_one(_: &Generated) -> Ended {
    Err(Refusal::usage(NO_CORE))
}

#[cfg(not(feature = "core"))]
fn in_memory(_: Seeds, _: &Common) -> Result<Report, Refusal> {
    Err(Refusal::usage(NO_CORE))
}

/// Puts the reports of shards together.
pub fn merge(arguments: &MergeArguments) -> Ended {
    let mut merged: Option<Report> = None;
    let mut lost = Vec::new();
    for path in &arguments.reports {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Refusal::usage(format!("{shown}: reading it: {error}")))?;
        // A run empties its file before it begins: this is what one leaves that was killed.
        if text.trim().is_empty() {
            lost.push(format!("{shown} is empty: the run that was to write it was killed"));
            continue;
        }
        let report = Report::parse(&text)
            .map_err(|error| Refusal::usage(format!("{shown}: no report of scupper: {error}")))?;
        let wrong = |error: MergeError| Refusal::usage(format!("{shown}: {error}"));
        merged = Some(match merged {
            None if report.campaign.is_none() => return Err(wrong(MergeError::NoCampaign)),
            None => report,
            Some(merged) => campaign::merge(&merged, &report).map_err(wrong)?,
        });
    }
    let Some(mut merged) = merged else {
        let message = format!("no shard is left: {}", lost.join("; "));
        return Err(Refusal { message, code: codes::NOT_JUDGED });
    };
    merged.notes.extend(lost);
    arguments.outputs.hold_commands();
    finish(&merged, &arguments.outputs)
}

fn finish(report: &Report, outputs: &Outputs) -> Ended {
    campaign::tell(report);
    outputs.write(report)?;
    Ok(report.exit_code)
}
