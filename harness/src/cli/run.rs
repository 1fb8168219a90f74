//! `scupper run` and `scupper replay`: scenarios from files.

use std::path::{Path, PathBuf};

use super::arguments::{Common, ReplayArguments, RunArguments};
use super::session::Session;
use super::{Ended, Refusal};
use crate::gate::exit::Mode;
use crate::lifecycle::scenario::{self, Scenario, Subject};
use crate::plan::{self, Case, Choices, Server};
use crate::report::event::RunInfo;

/// Largest scenario file, in bytes.
const FILE_LIMIT: u64 = 1 << 20;
/// Most scenario files of one run.
const FILES_LIMIT: usize = 10_000;

/// Judges all scenarios below the given paths.
pub fn run(arguments: &RunArguments) -> Ended {
    let choices = arguments.common.choices(&[])?;
    let files = files(&arguments.paths)?;
    judge(&arguments.common, &choices, &files, "run", &arguments.paths)
}

/// Repeats one finding.
pub fn replay(arguments: &ReplayArguments) -> Ended {
    let choices = arguments.common.choices(&[])?;
    let path = std::slice::from_ref(&arguments.path);
    judge(&arguments.common, &choices, path, plan::REPLAY, path)
}

fn judge(
    common: &Common,
    choices: &Choices,
    files: &[PathBuf],
    mode: &str,
    paths: &[PathBuf],
) -> Ended {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let words = plan::shell_words(&paths);
    let mut all: Vec<(String, Scenario)> = Vec::new();
    let mut errors = Vec::new();
    for file in files {
        match load(file) {
            Ok(scenario) => all.push((file.display().to_string(), scenario)),
            Err(refusal) => errors.push(refusal.message),
        }
    }
    if !errors.is_empty() {
        return Err(Refusal::usage(errors.join("\n")));
    }
    let ids: Vec<&str> = all.iter().map(|(_, scenario)| scenario.lifecycle.id.as_str()).collect();
    let unmatched = choices.unmatched(&ids);
    if !unmatched.is_empty() {
        return Err(Refusal::usage(format!(
            "no scenario in {words} is called {}; an id is what a run prints, such as {}",
            unmatched.join(" or "),
            ids.first().unwrap_or(&"stdio/ignores-eof")
        )));
    }
    all.retain(|(_, scenario)| choices.wants(&scenario.lifecycle.id));
    let mut cases: Vec<Case> =
        all.iter().map(|(path, scenario)| plan::scenario(scenario, mode, path, choices)).collect();
    let info = RunInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode: mode.to_owned(),
        subject: words,
        cases: cases.len(),
        seed: common.seed,
        repeat: plan::scenarios_command(mode, &paths, choices),
    };
    let mut session = Session::begin(common, Mode::Expectations, info)?;
    calibrate(&session, &all, &mut cases, choices);
    session.judge(0, cases, choices);
    session.end()
}

/// A server from elsewhere is looked at first, as `scupper server` does: how long its end may take, and
/// who its launchers are, is not in the file. One that shows nothing is judged all the same.
fn calibrate(session: &Session, all: &[(String, Scenario)], cases: &mut [Case], choices: &Choices) {
    let mut looks: Vec<Case> = Vec::new();
    let mut places: Vec<Option<usize>> = Vec::new();
    for ((_, scenario), case) in all.iter().zip(&*cases) {
        places.push(match &scenario.subject {
            Subject::Command(command) => {
                let look = plan::first_look(&Server::plain(command), choices, case.order.era);
                let same = |other: &Case| {
                    (&other.order.subject, other.order.era) == (&look.order.subject, look.order.era)
                };
                Some(looks.iter().position(same).unwrap_or_else(|| {
                    looks.push(look);
                    looks.len() - 1
                }))
            }
            Subject::Fake(_) | Subject::Core(_) => None,
        });
    }
    let learned = session.look(&looks);
    for (case, place) in cases.iter_mut().zip(places) {
        if let Some(learned) = place.and_then(|place| learned[place].as_ref()) {
            plan::calibrate(case, choices, learned);
        }
    }
}

/// Scenario files at or below these paths, in order.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Refusal> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            below(path, &mut found, 0)?;
        } else if path.exists() {
            found.push(path.clone());
        } else {
            return Err(Refusal::usage(format!(
                "{}: there is no such file or folder here; name a scenario file or a folder of them",
                path.display()
            )));
        }
    }
    found.sort();
    found.dedup();
    if found.is_empty() {
        return Err(Refusal {
            message: "no scenario file (*.toml) was found there".to_owned(),
            code: crate::report::event::codes::NOT_JUDGED,
        });
    }
    Ok(found)
}

fn below(folder: &Path, found: &mut Vec<PathBuf>, depth: usize) -> Result<(), Refusal> {
    let cannot =
        |error| Refusal::usage(format!("cannot read folder {}: {error}", folder.display()));
    if depth > 16 || found.len() > FILES_LIMIT {
        return Err(Refusal::usage(format!(
            "{}: more than 16 folders deep or {FILES_LIMIT} files",
            folder.display()
        )));
    }
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.is_dir() {
            below(&path, found, depth + 1)?;
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
    Ok(())
}

fn load(path: &Path) -> Result<Scenario, Refusal> {
    let cannot = |cause: String| Refusal::usage(format!("{}: {cause}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| cannot(error.to_string()))?.len();
    if size > FILE_LIMIT {
        return Err(cannot(format!("{size} bytes; a scenario has at most {FILE_LIMIT}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| cannot(error.to_string()))?;
    scenario::parse(&path.display().to_string(), &text)
        .map_err(|error| Refusal::usage(format!("{:?}", miette::Report::new(error))))
}
