//! `scupper run` and `scupper replay`: scenarios from files.

use std::path::PathBuf;

use super::arguments::{ReplayArguments, RunArguments};
use super::canary::Canary;
use super::common::Common;
use super::files::{files, load, namesakes};
use super::session::Session;
use super::{Ended, Refusal, headers};
use crate::cell::protocol::SubjectOrder;
use crate::gate::exit::Mode;
use crate::lifecycle::scenario::{Scenario, Subject, WhichClient};
use crate::peer::fake_client;
use crate::plan::client::Transport;
use crate::plan::sweep::Extent;
use crate::plan::{self, Case, Choices, Server};
use crate::report::Secrets;
use crate::report::event::RunInfo;
use crate::spelled::count;

/// Judges all scenarios below the given paths.
pub fn run(arguments: &RunArguments) -> Ended {
    let choices = arguments.common.choices(&[])?;
    let choices = Choices { sweep: arguments.polls.extent(), ..choices };
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
    if let Some(extent) = choices.sweep {
        all = of_the_core(all, extent, &words)?;
    }
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
    let mut secrets = Secrets::default();
    headers::put_in(&mut cases, |name| std::env::var(name).ok(), &mut secrets)?;
    let mut session = Session::begin(common, Mode::Expectations, info)?;
    session.hide(&secrets);
    let path_of =
        |((path, _), case): (&(String, Scenario), &Case)| (case.order.id.clone(), path.clone());
    session.comes_from(all.iter().zip(&cases).map(path_of));
    all.iter().zip(&mut cases).for_each(|((_, scenario), case)| know(scenario, case));
    calibrate(&session, &all, &mut cases, choices);
    let of_client =
        |(_, scenario): &(String, Scenario)| matches!(scenario.subject, Subject::Client(_));
    let of_http = |(_, scenario): &(String, Scenario)| matches!(scenario.subject, Subject::Http(_));
    let speaks = |wanted: Transport| {
        all.iter().any(|(_, scenario)| match &scenario.subject {
            Subject::Client(spec) => Transport::of(&spec.script) == wanted,
            _ => false,
        })
    };
    let of_clients = [Transport::Stdio, Transport::Http].into_iter().filter(|one| speaks(*one));
    let canaries: Vec<Canary> = [
        (!all.iter().all(|one| of_client(one) || of_http(one)))
            .then(|| Canary::of_servers(choices).with_memory(&cases, choices)),
        all.iter().any(of_http).then(|| Canary::of_http_servers(choices)),
    ]
    .into_iter()
    .flatten()
    .chain(of_clients.map(|transport| Canary::of_clients(transport, choices)))
    .collect();
    session.judge_beside(&canaries, 0, cases, choices);
    session.end()
}

/// Those whose steps are futures of the core's, and of them this part.
fn of_the_core(
    all: Vec<(String, Scenario)>,
    extent: Extent,
    words: &str,
) -> Result<Vec<(String, Scenario)>, Refusal> {
    let is_core = |(_, scenario): &(String, Scenario)| matches!(scenario.subject, Subject::Core(_));
    let core: Vec<(String, Scenario)> = all.into_iter().filter(is_core).collect();
    let (part, of) = extent.shard.unwrap_or((1, 1));
    let number = core.len();
    let part = core.into_iter().enumerate().filter(|(index, _)| index % of == part - 1);
    let part: Vec<(String, Scenario)> = part.map(|(_, one)| one).collect();
    if part.is_empty() {
        return Err(Refusal::usage(format!(
            "--torture of `run` drops the futures of the core, and of the scenarios in {words} that \
             were chosen {number} have the core as their subject (`core = \"plain\"`), in {}; name \
             such files, or leave --torture away",
            count(of, "part")
        )));
    }
    Ok(part)
}

/// A server from elsewhere is looked at first, as `scupper server` does: how long its end may take, and
/// who its launchers are, is not in the file. One that shows nothing is judged all the same.
fn calibrate(session: &Session, all: &[(String, Scenario)], cases: &mut [Case], choices: &Choices) {
    let mut looks: Vec<Case> = Vec::new();
    let mut places: Vec<Option<usize>> = Vec::new();
    for ((_, scenario), case) in all.iter().zip(&*cases) {
        places.push(match &scenario.subject {
            Subject::Command(_) | Subject::Client(_) => {
                let Some(look) = first_look(scenario, case, choices) else {
                    places.push(None);
                    continue;
                };
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
        let Some(learned) = place.and_then(|place| learned[place].as_ref()) else { continue };
        match &case.order.subject {
            SubjectOrder::Client(_) => plan::client::calibrate(case, choices, learned),
            _ => plan::calibrate(case, choices, learned),
        }
    }
}

/// The first look at what a file cannot tell of; our own fakes are known.
fn first_look(scenario: &Scenario, case: &Case, choices: &Choices) -> Option<Case> {
    match &scenario.subject {
        Subject::Command(command) => {
            Some(plan::first_look(&Server::plain(command), choices, case.order.era))
        }
        Subject::Client(spec) => match &spec.client {
            WhichClient::Command(_) => {
                let client = plan::client::of_spec(spec, &choices.program);
                Some(plan::client::first_look(&client, Transport::of(&spec.script), choices))
            }
            WhichClient::Fake(_) => None,
        },
        _ => None,
    }
}

/// How our own clients end, and how much they ask.
fn know(scenario: &Scenario, case: &mut Case) {
    if let (Subject::Client(spec), SubjectOrder::Client(order)) =
        (&scenario.subject, &mut case.order.subject)
        && let WhichClient::Fake(fake) = &spec.client
    {
        match Transport::of(&spec.script) {
            Transport::Stdio => order.ends_with_stdin = fake_client::ends_with_stdin(fake),
            Transport::Http => {
                order.ends_with_stdin = fake_client::http::ends_with_stdin(fake);
                order.requests = fake_client::http::REQUESTS;
            }
        }
    }
}
