//! `scupper server`: the first look, then the battery made from what it learned; of one command, or
//! of every server of a file.

use std::path::Path;

use super::Ended;
use super::Refusal;
use super::arguments::{ServerArguments, no_such_lifecycle};
use super::canary::Canary;
use super::config::{self, Obstacle, Surroundings};
use super::session::Session;
use super::sweep;
use crate::cell::protocol::Learned;
use crate::gate::exit::Mode;
use crate::lifecycle::battery::{Call, FIRST_LOOK};
use crate::lifecycle::scenario::nearest;
use crate::lifecycle::step::{Era, EraChoice};
use crate::lifecycle::sweep::Side;
use crate::plan::sweep::OfServer;
use crate::plan::{self, Case, Choices, Server};
use crate::report::event::{Event, RunInfo, ServerInfo, SubjectInfo};

/// Names of tools in a note.
const NAMES: usize = 8;

/// Judges a stdio server, or those of a file.
pub fn run(arguments: &ServerArguments) -> Ended {
    arguments.check()?;
    if let Some(url) = &arguments.http {
        return super::http::run(arguments, url);
    }
    let choices = arguments.common.choices(&arguments.calls)?;
    let choices = Choices { sweep: arguments.sweep.extent(), ..choices };
    if choices.sweep.is_some() {
        sweep::check_names(Side::Server, &choices)?;
    } else {
        check_names(&choices)?;
    }
    match &arguments.config {
        Some(file) => judge_file(arguments, &choices, file),
        None => judge_command(arguments, &choices),
    }
}

/// Refuses names that no lifecycle of the battery has.
fn check_names(choices: &Choices) -> Result<(), Refusal> {
    let lifecycles = plan::whole_battery();
    let ids: Vec<&str> = lifecycles.iter().map(|lifecycle| lifecycle.id.as_str()).collect();
    let unmatched = choices.unmatched(&ids);
    if unmatched.is_empty() { Ok(()) } else { Err(no_such_lifecycle(&unmatched, &ids)) }
}

fn judge_command(arguments: &ServerArguments, choices: &Choices) -> Ended {
    if !arguments.names.is_empty() {
        let words = plan::shell_words(&[&arguments.names[..], &arguments.command[..]].concat());
        return Err(Refusal::usage(format!(
            "a server's command stands after `--`: scupper server -- {words}; without it, words are \
             names of servers in a file, which --config names"
        )));
    }
    let server = Server::plain(&arguments.command);
    let info = RunInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode: "server".to_owned(),
        subject: server.words.clone(),
        cases: choices.sweep.map_or_else(|| plan::planned(choices).unwrap_or(0), |_| 0),
        seed: arguments.common.seed,
        repeat: plan::server_command(None, &server, choices),
    };
    let mut session = Session::begin(&arguments.common, Mode::Verdicts, info)?;
    judge(&mut session, &server, choices);
    session.end()
}

fn judge_file(arguments: &ServerArguments, choices: &Choices, file: &Path) -> Ended {
    let names = &arguments.names;
    let path = file.display().to_string();
    let mut entries =
        config::read(&path, &text_of(file)?, &Surroundings::of(file)).map_err(Refusal::usage)?;
    let known: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(Refusal::usage(match nearest(unknown, &known) {
            Some(near) => format!("{path} has no server `{unknown}`; did you mean `{near}`?"),
            None => {
                let known = known.iter().take(12).copied().collect::<Vec<_>>().join(", ");
                format!("{path} has no server `{unknown}`; it has {known}")
            }
        }));
    }
    entries.retain(|entry| names.is_empty() || names.contains(&entry.name));
    if entries.is_empty() {
        return Err(Refusal {
            message: format!("{path} has no servers, so there is nothing to judge"),
            code: crate::report::event::codes::NOT_JUDGED,
        });
    }
    let judged =
        |entry: &&config::Entry| entry.server.is_ok() && !(names.is_empty() && entry.disabled);
    let info = RunInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode: "server".to_owned(),
        subject: plan::shell_words(&[&["--config".to_owned(), path.clone()], &names[..]].concat()),
        cases: plan::planned(choices).unwrap_or(0) * entries.iter().filter(judged).count(),
        seed: arguments.common.seed,
        repeat: plan::config_command(&path, names, choices),
    };
    let mut session = Session::begin(&arguments.common, Mode::Verdicts, info)?;
    for entry in entries {
        let name = entry.name.clone();
        let info = |command, not_judged| ServerInfo { name: name.clone(), command, not_judged };
        // What the user names is judged, whatever hosts do with it.
        let asked = !names.is_empty();
        let leave_out = |why| Err(Obstacle { why, for_now: true });
        let described = match entry.server {
            _ if session.runner.interrupted() => leave_out("interrupted".to_owned()),
            _ if entry.disabled && !asked => leave_out(format!(
                "it is disabled in the file; name it to judge it: {}",
                plan::config_command(&path, std::slice::from_ref(&name), choices)
            )),
            server => server,
        };
        match described {
            Ok(described) => {
                let words = plan::shell_words(&described.written);
                session.hide(&described.secrets);
                session.begin_server(info(Some(words.clone()), None));
                described.notes.into_iter().for_each(|note| session.on(Event::Note(note)));
                let entry = Some(plan::Entry { file: path.clone(), name });
                judge(&mut session, &Server { launch: described.launch, words, entry }, choices);
                session.end_server(false);
            }
            Err(obstacle) => {
                session.begin_server(info(None, Some(obstacle.why)));
                session.end_server(obstacle.for_now && !asked);
            }
        }
    }
    session.end()
}

/// The text of a file of servers.
fn text_of(file: &Path) -> Result<String, Refusal> {
    let cannot = |cause: String| {
        Refusal::usage(format!(
            "--config {}: {cause}; name a file such as .mcp.json, .vscode/mcp.json or \
             claude_desktop_config.json",
            file.display()
        ))
    };
    let size = std::fs::metadata(file).map_err(|error| cannot(error.to_string()))?.len();
    if size > config::FILE_LIMIT {
        return Err(cannot(format!("{size} bytes, and at most {} are read", config::FILE_LIMIT)));
    }
    std::fs::read_to_string(file).map_err(|error| cannot(error.to_string()))
}

/// Judges one server: the first look, then the battery made from what it learned.
fn judge(session: &mut Session, server: &Server, choices: &Choices) {
    let era = match choices.era {
        EraChoice::Modern => Era::Modern,
        EraChoice::Auto | EraChoice::Legacy => Era::Legacy,
    };
    if choices.sweep.is_some() {
        session.looks_first_by(false);
    }
    let mut first = plan::first_look(server, choices, era);
    let mut learned = session.judge_first(&first);
    if learned.is_none() && choices.era == EraChoice::Auto && session.speaks_other_era() {
        first = plan::first_look(server, choices, Era::Modern);
        session.forget_first();
        learned = session.judge_first(&first);
    }
    let Some(learned) = learned else {
        // Without a first answer there is nothing to judge; the report says why.
        return;
    };
    let era = first.order.era;
    session.on(Event::SubjectSeen(introduce(&learned)));
    if choices.wants("stdio/churn")
        && let Some(note) = uncalled(choices, &learned)
    {
        session.on(Event::Note(note));
    }
    let mut choices = choices.clone();
    let unlisted = unlisted(&choices, &learned);
    if server.entry.is_none() && !unlisted.is_empty() {
        return session.end_early(unlisted);
    }
    for (call, cause) in unlisted {
        // Of the servers of a file, one may have the tool and another not.
        choices.calls.retain(|chosen| *chosen != call);
        session.on(Event::Note(cause));
    }
    let choices = &choices;
    if let Some(extent) = choices.sweep {
        session.forget_first();
        let plan = OfServer { server, choices, learned: &learned, era };
        sweep::judge(session, &plan, &Canary::of_servers(choices), extent);
        return;
    }
    if !choices.wants(FIRST_LOOK) {
        session.forget_first();
    }
    let cases = plan::battery(server, choices, &learned, era);
    for note in left_out(&cases, server, choices, &learned) {
        session.on(Event::Note(note));
    }
    if server.entry.is_none() {
        session.on(Event::Planned(cases.len() + usize::from(choices.wants(FIRST_LOOK))));
    }
    session.judge(1, cases, choices);
}

/// What to say where no tool may be called unasked, and none was named.
pub(super) fn uncalled(choices: &Choices, learned: &Learned) -> Option<String> {
    let may_call = learned.tools.iter().any(|tool| tool.callable) || !choices.calls.is_empty();
    let says = !may_call && !learned.tools.is_empty() && choices.sweep.is_none();
    says.then(|| {
        format!(
            "no tool is marked read-only and closed-world, so only lists were asked for; name tools that \
             may be called with --call TOOL=JSON: {}",
            listed(learned)
        )
    })
}

/// Calls that the user named of tools that the server does not list, and what to say of each.
pub(super) fn unlisted(choices: &Choices, learned: &Learned) -> Vec<(Call, String)> {
    if learned.lists_more_tools {
        return Vec::new();
    }
    let names: Vec<&str> = learned.tools.iter().map(|tool| tool.name.as_str()).collect();
    let told = |call: &Call| {
        let near = nearest(&call.tool, &names);
        let near = near.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
        let tool = &call.tool;
        (call.clone(), format!("the server lists no tool `{tool}`{near}; {}", listed(learned)))
    };
    let named = choices.calls.iter().filter(|call| !names.contains(&call.tool.as_str()));
    named.map(told).collect()
}

/// The tools of a server, or the first of them.
fn listed(learned: &Learned) -> String {
    let names: Vec<&str> = learned.tools.iter().map(|tool| tool.name.as_str()).collect();
    match names.len() {
        0 => "it lists none".to_owned(),
        1..=NAMES => format!("it lists {}", names.join(", ")),
        number => format!("it lists {number}, such as {}", names[..NAMES].join(", ")),
    }
}

/// What was wanted and cannot be played on this server, and why.
fn left_out(cases: &[Case], server: &Server, choices: &Choices, learned: &Learned) -> Vec<String> {
    let played = |id: &str| {
        let case_id = server.case_id(id);
        id == FIRST_LOOK || cases.iter().any(|case| case.order.id == case_id)
    };
    let whole = plan::whole_battery();
    let missing = whole.iter().map(|lifecycle| lifecycle.id.as_str());
    let missing = missing.filter(|id| choices.wants(id) && !played(id));
    // What a server need not do is worth a word only to those who asked for it.
    let asked_for = !choices.only.is_empty();
    let legacy_alone = learned.eras == [Era::Legacy];
    let silent =
        "the server does not answer initialize after server/discover on the same connection";
    missing
        .filter_map(|id| match id {
            "stdio/discover-first" if legacy_alone => {
                Some(format!("{id} left out: {silent}; a client of both eras has to start it anew"))
            }
            "stdio/discover-first" if asked_for => Some(format!("{id} left out: {silent}")),
            "stdio/both-eras" if asked_for => {
                Some(format!("{id} left out: one era was chosen, or the server speaks one alone"))
            }
            _ => None,
        })
        .collect()
}

pub(super) fn introduce(learned: &Learned) -> SubjectInfo {
    let callable = learned.tools.iter().filter(|tool| tool.callable);
    SubjectInfo {
        name: learned.name.clone(),
        version: learned.version.clone(),
        eras: learned.eras.iter().map(|era| era.revision().to_owned()).collect(),
        tools: learned.tools.iter().map(|tool| tool.name.clone()).collect(),
        callable: callable.map(|tool| tool.name.clone()).collect(),
        launchers: learned.launchers.clone(),
        start_ms: learned.start_ms,
        exit_ms: learned.exit_ms,
    }
}
