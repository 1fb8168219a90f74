//! `scupper run` and `scupper replay`: scenarios from files.

use std::path::PathBuf;

use super::arguments::{Common, ReplayArguments, RunArguments};
use super::files::{files, load, namesakes};
use super::session::Session;
use super::{Ended, Refusal};
use crate::gate::exit::Mode;
use crate::lifecycle::scenario::{Scenario, Subject};
use crate::plan::{self, Case, Choices, Server};
use crate::report::event::RunInfo;

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
    errors.extend(namesakes(&all));
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
            Subject::Fake(_)
            | Subject::Http(_)
            | Subject::Core(_)
            | Subject::Host(_)
            | Subject::Service(_) => None,
        });
    }
    let learned = session.look(&looks);
    for (case, place) in cases.iter_mut().zip(places) {
        if let Some(learned) = place.and_then(|place| learned[place].as_ref()) {
            plan::calibrate(case, choices, learned);
        }
    }
}
