//! `scupper campaign` and `scupper merge`: generated lifecycles, and one report of many.

use std::path::PathBuf;

use clap::Args;

use super::{Ended, Refusal};
use crate::report::campaign::{self, MergeError};
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
    /// What is judged: `core`, our own library, in memory
    #[arg(long, value_name = "SUBJECT", default_value = "core", value_parser = ["core"])]
    pub subject: String,
    /// Write a report as JSON
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,
}

/// Arguments of `scupper merge`.
#[derive(Debug, Args)]
pub struct MergeArguments {
    /// Reports of the shards of one campaign
    #[arg(required = true, value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// Write the merged report as JSON
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("{text:?} is no range of seeds; write 0..1000 for a thousand of them");
    let (first, end) = text.split_once("..").ok_or_else(wrong)?;
    let (first, end) = (first.parse().map_err(|_| wrong())?, end.parse().map_err(|_| wrong())?);
    if first < end { Ok((first, end)) } else { Err(wrong()) }
}

/// Plays a campaign.
#[cfg(feature = "core")]
pub fn run(arguments: &CampaignArguments) -> Ended {
    if let Some(code) = &arguments.lifecycle {
        return played::one(code);
    }
    let (first, end) = arguments.seeds.unwrap_or((0, 1));
    let (part, of) = arguments.shard.unwrap_or((1, 1));
    let number = |number: usize| {
        u32::try_from(number).map_err(|_| Refusal::usage("--shard: that many parts are too many"))
    };
    let report = played::campaign((first, end), (number(part)?, number(of)?))?;
    finish(&report, arguments.json.as_ref())
}

/// Without the core there is nothing to play on.
#[cfg(not(feature = "core"))]
pub fn run(_: &CampaignArguments) -> Ended {
    Err(Refusal::usage("this build has no core to play on (feature `core`)"))
}

/// Puts the reports of shards together.
pub fn merge(arguments: &MergeArguments) -> Ended {
    let mut merged: Option<Report> = None;
    for path in &arguments.reports {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Refusal::usage(format!("{shown}: reading it: {error}")))?;
        let report = Report::parse(&text)
            .map_err(|error| Refusal::usage(format!("{shown}: no report of scupper: {error}")))?;
        let wrong = |error: MergeError| Refusal::usage(format!("{shown}: {error}"));
        merged = Some(match merged {
            None if report.campaign.is_none() => return Err(wrong(MergeError::NoCampaign)),
            None => report,
            Some(merged) => campaign::merge(&merged, &report).map_err(wrong)?,
        });
    }
    let merged = merged.ok_or_else(|| Refusal::usage(MergeError::None.to_string()))?;
    finish(&merged, arguments.json.as_ref())
}

fn finish(report: &Report, json: Option<&PathBuf>) -> Ended {
    campaign::tell(report);
    if let Some(path) = json {
        std::fs::write(path, report.to_json()).map_err(|error| {
            Refusal::ours(format!("--json {}: cannot write there: {error}", path.display()))
        })?;
    }
    Ok(report.exit_code)
}

#[cfg(feature = "core")]
mod played {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use crate::cli::{Ended, Refusal};
    use crate::gate::campaign::case;
    use crate::lifecycle::generate::{Generated, of_seed};
    use crate::lifecycle::shrink::shrink;
    use crate::report::campaign::{self, Campaign, is_shorter};
    use crate::report::event::{RunInfo, RunSummary, codes};
    use crate::report::json::Report;
    use crate::subject::generated::{Disagreement, Leak, Stats, run, run_with};

    /// How many lifecycles the search for the shortest failing one plays at most.
    const TRIES: usize = 5000;

    pub(super) fn one(code: &str) -> Ended {
        let lifecycle = Generated::parse(code).ok_or_else(|| {
            Refusal::usage(format!("--lifecycle {code}: this is not what a finding prints"))
        })?;
        match run(&lifecycle) {
            Ok(_) => {
                campaign::say(&format!("{lifecycle}\nmodel and core agree after every step"));
                Ok(codes::CLEAN)
            }
            Err(found) => {
                campaign::say(&found.to_string());
                Ok(codes::LEAK)
            }
        }
    }

    pub(super) fn campaign(
        (first_seed, end_seed): (u64, u64),
        (part, shards): (u32, u32),
    ) -> Result<Report, Refusal> {
        let begun = Instant::now();
        let canary = canary();
        let mut stats = Stats::default();
        let mut found: BTreeMap<String, Box<Disagreement>> = BTreeMap::new();
        let mut lifecycles = 0;
        let step = usize::try_from(shards).unwrap_or(usize::MAX);
        for seed in (first_seed + u64::from(part - 1)..end_seed).step_by(step) {
            lifecycles += 1;
            match run(&of_seed(seed)) {
                Ok(played) => stats += played,
                Err(wrong) => {
                    let wrong = shortest(wrong);
                    let code = wrong.lifecycle.code();
                    let id = wrong.id();
                    let kept = found.get(&id).map(|kept| kept.lifecycle.code());
                    if kept.is_none_or(|kept| is_shorter(&code, &kept)) {
                        found.insert(id, wrong);
                    }
                }
            }
        }
        let info = RunInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: "campaign".to_owned(),
            subject: "core, in memory".to_owned(),
            cases: found.len(),
            seed: first_seed,
            repeat: format!("scupper campaign --seeds {first_seed}..{end_seed}"),
        };
        let cases = found.iter().map(|(id, found)| {
            let code = found.lifecycle.code();
            let step = found.step.map_or("end".to_owned(), |step| step.to_string());
            let left = found.differences.iter().any(|differs| differs.is_left);
            case(id, &code, &step, &found.to_string(), left || found.differences.is_empty())
        });
        let summary = RunSummary {
            servers: Vec::new(),
            cases: cases.collect(),
            not_judged: Vec::new(),
            canary: None,
            verdict: None,
            took: Duration::ZERO,
            exit_code: codes::CLEAN,
            interrupted: false,
        };
        let notes: Vec<String> = canary.clone().err().into_iter().collect();
        let mut report = Report::new(&info, None, &notes, &summary);
        let codes = found.iter().map(|(id, found)| (id.clone(), found.lifecycle.code()));
        report.campaign = Some(Campaign {
            first_seed,
            end_seed,
            shards,
            played: vec![part],
            lifecycles,
            steps: stats.steps,
            comparisons: stats.comparisons,
            active: stats.active,
            reproducers: codes.collect(),
        });
        report.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        campaign::conclude(&mut report, canary.is_err());
        Ok(report)
    }

    fn shortest(found: Box<Disagreement>) -> Box<Disagreement> {
        let shrunk = shrink(&found.lifecycle, TRIES, |tried| run(tried).is_err());
        // What fails now and then only is told as it was found.
        run(&shrunk).err().unwrap_or(found)
    }

    /// A leak that is put in has to be seen, and the same lifecycle without it has to be clean.
    fn canary() -> Result<(), String> {
        let lifecycle =
            Generated::parse("08000b00-00000000").ok_or("the canary has no lifecycle")?;
        if run_with(&lifecycle, Leak::Connection).is_ok() {
            return Err("the canary, a connection that is left behind, was not seen".to_owned());
        }
        run(&lifecycle)
            .map_err(|wrong| format!("the clean twin of the canary was blamed: {wrong}"))?;
        Ok(())
    }
}
