//! Scenario files: where they are, and what is in them, held against what this program has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;

use super::{REFERENCE, Refusal};
use crate::ledger::rules::{RULES, rule};
use crate::lifecycle::scenario::{
    self, FakeSpec, HttpServer, HttpStart, Part, Place, Problem, Scenario, ScenarioError, Subject,
    WhichClient,
};
use crate::lifecycle::step::{self, Action, Step};
use crate::peer::fake::{self, FakeError};
use crate::peer::fake_client::{self, FAKE_CLIENTS, http::HTTP_FAKE_CLIENTS};
use crate::plan::client::Transport;

/// Largest scenario file, in bytes.
const FILE_LIMIT: u64 = 1 << 20;
/// Most scenario files of one run.
const FILES_LIMIT: usize = 10_000;

/// Scenario files at or below these paths, in order.
pub(super) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Refusal> {
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
    // The same file by two paths is judged once.
    let mut seen = BTreeSet::new();
    found.retain(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
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

/// The scenario in a file.
pub(super) fn load(path: &Path) -> Result<Scenario, Refusal> {
    let cannot = |cause: String| Refusal::usage(format!("{}: {cause}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| cannot(error.to_string()))?.len();
    if size > FILE_LIMIT {
        return Err(cannot(format!("{size} bytes; a scenario has at most {FILE_LIMIT}")));
    }
    let bytes = std::fs::read(path).map_err(|error| cannot(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(path, &error))?;
    scenario::parse_with(&path.display().to_string(), &text, unknown_here)
        .map_err(|error| Refusal::usage(page(&error)))
}

/// Every mistake with its line, as a person reads it.
fn page(error: &ScenarioError) -> String {
    let mistakes = error.each().map(|one| format!("{:?}", miette::Report::new(one)));
    mistakes.collect::<Vec<_>>().join("\n")
}

fn not_utf8(path: &Path, error: &FromUtf8Error) -> Refusal {
    let at = error.utf8_error().valid_up_to();
    let before = String::from_utf8_lossy(&error.as_bytes()[..at]);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Refusal::usage(format!(
        "{}:{line}:{column}: byte 0x{:02X} is not UTF-8, which every TOML file is; save the file as \
         UTF-8 (from Latin-1: iconv -f LATIN1 -t UTF-8)",
        path.display(),
        error.as_bytes()[at],
    ))
}

/// What is wrong with two scenarios of the same name: a report could not tell them apart.
pub(super) fn namesakes(all: &[(String, Scenario)]) -> Vec<String> {
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (path, scenario) in all {
        let id = scenario.lifecycle.id.as_str();
        match first.get(id) {
            None => drop(first.insert(id, path)),
            Some(other) => wrong.push(format!(
                "{path}: its id is `{id}`, and so is that of {other}; give one of them an id of its \
                 own at its top, such as id = \"{id}-2\""
            )),
        }
    }
    wrong
}

/// What a scenario names and this program does not have. Found here, it is a mistake in the file;
/// found by the server that is started, it would look like a failure of that server.
fn unknown_here(scenario: &Scenario) -> Vec<Problem> {
    let mut fakes = Vec::new();
    let fake = match &scenario.subject {
        Subject::Client(spec) => {
            for (index, server) in spec.script.servers.iter().enumerate() {
                let place = ["script", "server"].map(Part::Key);
                let below = |problem: Problem| Problem {
                    // As of a server, without its `[subject]`.
                    place: Place(
                        place
                            .into_iter()
                            .chain([Part::Index(index)])
                            .chain(problem.place.0.into_iter().skip(1))
                            .collect(),
                    ),
                    ..problem
                };
                fakes.extend(fake_problem("fake", &server.fake).map(below));
            }
            match &spec.client {
                WhichClient::Fake(fake) => fake_client_problem(fake, Transport::of(&spec.script)),
                WhichClient::Command(_) => None,
            }
        }
        Subject::Fake(spec) => fake_problem("fake", spec),
        Subject::Core(spec) => fake_problem("core", spec),
        Subject::Http(HttpServer { start: HttpStart::Fake(spec), .. }) => {
            fake_problem("fake", spec)
        }
        Subject::Http(_) | Subject::Command(_) | Subject::Host(_) | Subject::Service(_) => None,
    };
    let rule = scenario.lifecycle.rule.as_deref().and_then(rule_problem);
    let mut added = Vec::new();
    added_fakes(&scenario.lifecycle.steps, &mut vec![Part::Key("step")], &mut added);
    rule.into_iter().chain(fake).chain(fakes).chain(added).collect()
}

/// What a host is given and this program does not have.
fn added_fakes(steps: &[Step], place: &mut Vec<Part>, found: &mut Vec<Problem>) {
    for (index, step) in steps.iter().enumerate() {
        place.push(Part::Index(index));
        match &step.action {
            Action::Add { server, transport, .. } => {
                let wrong = match transport {
                    step::Transport::Http if server.name != "plain" => {
                        Some(FakeError::StdioOnly { name: server.name.clone() }.to_string())
                    }
                    _ => fake::check(server).err().map(|error| error.to_string()),
                };
                found.extend(wrong.map(|message| {
                    let at = place.iter().copied().chain([Part::Key("server")]).collect();
                    let help = "`scupper list fakes` has them all, with their options";
                    Problem { place: Place(at), message, help: help.to_owned() }
                }));
            }
            Action::Repeat { steps, .. } => {
                place.push(Part::Key("step"));
                added_fakes(steps, place, found);
                place.pop();
            }
            Action::Concurrently { branches } => {
                for (index, branch) in branches.iter().enumerate() {
                    let depth = place.len();
                    place.extend([Part::Key("branch"), Part::Index(index), Part::Key("step")]);
                    added_fakes(branch, place, found);
                    place.truncate(depth);
                }
            }
            _ => {}
        }
        place.pop();
    }
}

fn rule_problem(id: &str) -> Option<Problem> {
    if rule(id).is_some() {
        return None;
    }
    let ids: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
    let guess = match scenario::nearest(id, &ids) {
        Some(near) => format!("did you mean \"{near}\"? "),
        None => String::new(),
    };
    Some(problem(
        &["rule"],
        format!("there is no rule \"{id}\""),
        format!(
            "{guess}`scupper list rules` has them all; leave `rule` out where it rests on none"
        ),
    ))
}

fn fake_problem(key: &'static str, spec: &FakeSpec) -> Option<Problem> {
    // It is a server of its own kind, not in the list of fakes.
    if cfg!(feature = "core") && spec.name == REFERENCE {
        let plain = !spec.fixed && spec.options.is_empty();
        return (!plain).then(|| {
            let message = format!("`{REFERENCE}` has neither a clean twin nor options");
            problem(&["subject", key], message, "leave out `fixed` and `options`")
        });
    }
    let error = fake::check(spec).err()?;
    let guess = |nearest: Option<&str>| {
        nearest.map(|nearest| format!("did you mean `{nearest}`? ")).unwrap_or_default()
    };
    Some(match error {
        FakeError::UnknownName { name, nearest } => problem(
            &["subject", key],
            format!("no fake is called `{name}`"),
            format!("{}`scupper list fakes` names them all", guess(nearest)),
        ),
        error @ FakeError::StdioOnly { .. } => {
            problem(&["subject", key], error.to_string(), "name `plain`, or another transport")
        }
        FakeError::HttpOnly { name } => problem(
            &["subject", key],
            format!("fake `{name}` speaks HTTP only"),
            "`scupper list fakes` says which speak stdio",
        ),
        FakeError::NoTwin { name } => problem(
            &["subject", "fixed"],
            format!("fake `{name}` has no clean twin"),
            "leave out `fixed`: it does nothing wrong that could be repaired",
        ),
        FakeError::UnknownOption { name, key, nearest, known } => problem(
            &["subject", "options"],
            format!("fake `{name}` has no option `{key}`"),
            match &known[..] {
                [] => format!("`{name}` has no options: leave out `options`"),
                [example, ..] => format!(
                    "{}`{name}` has {}, for example options = {{ {} }}",
                    guess(nearest),
                    known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "),
                    example_of(name, nearest.unwrap_or(example)),
                ),
            },
        ),
        FakeError::BadValue { name, key, value, wanted } => problem(
            &["subject", "options", key],
            format!("option `{key}` of fake `{name}` cannot be \"{value}\""),
            format!("it must be {wanted}, for example {}", example_of(name, key)),
        ),
    })
}

fn fake_client_problem(spec: &FakeSpec, transport: Transport) -> Option<Problem> {
    let (checked, names): (_, Vec<&str>) = match transport {
        Transport::Stdio => {
            (fake_client::check(spec), FAKE_CLIENTS.iter().map(|info| info.name).collect())
        }
        Transport::Http => (
            fake_client::http::check(spec),
            HTTP_FAKE_CLIENTS.iter().map(|info| info.name).collect(),
        ),
    };
    let message = checked.err()?.to_string();
    let is_known = names.contains(&spec.name.as_str());
    let help = match (is_known, scenario::nearest(&spec.name, &names)) {
        (true, _) => match transport {
            Transport::Stdio => "for example options = { grace = \"1000\" }".to_owned(),
            Transport::Http => "for example options = { stays = \"true\" }".to_owned(),
        },
        (false, Some(near)) => format!("did you mean `{near}`?"),
        (false, None) => match transport {
            Transport::Stdio => "for example fake-client = \"gives-up\"".to_owned(),
            Transport::Http => {
                "over HTTP there are those that are listed with --url, for example fake-client = \
                 \"forgets-delete\""
                    .to_owned()
            }
        },
    };
    let key = if is_known { "options" } else { "fake-client" };
    Some(problem(&["subject", key], message, help))
}

/// An option with its default, as it stands in a file.
fn example_of(fake: &str, option: &str) -> String {
    let options = fake::FAKES.iter().filter(|info| info.name == fake).flat_map(|info| info.options);
    let default = options.filter(|(key, _, _)| *key == option).map(|(_, default, _)| *default);
    format!("{option} = \"{}\"", default.collect::<String>())
}

fn problem(place: &[&'static str], message: impl Into<String>, help: impl Into<String>) -> Problem {
    let place = Place(place.iter().map(|key| Part::Key(key)).collect());
    Problem { place, message: message.into(), help: help.into() }
}
