//! `scupper client`: the first look, then the battery made from what it learned.

use super::arguments::{ClientArguments, no_such_lifecycle};
use super::canary::Canary;
use super::session::Session;
use super::sweep;
use super::{Ended, Refusal};
use crate::cell::protocol::Learned;
use crate::gate::exit::Mode;
use crate::ledger::snapshot::Kind;
use crate::lifecycle::sweep::Side;
use crate::plan::Choices;
use crate::plan::client::{self, Client, Transport};
use crate::plan::sweep::OfClient;
use crate::report::event::{Event, RunInfo, SubjectInfo};

/// What is judged in every client.
const JUDGED: [Kind; 3] = [Kind::Process, Kind::Zombie, Kind::Fd];

/// Judges a client or host.
pub fn run(arguments: &ClientArguments) -> Ended {
    let client = arguments.client()?;
    let choices = arguments.common.choices_of_any(&[])?;
    let choices = Choices { sweep: arguments.sweep.extent(), ..choices };
    if choices.sweep.is_some() {
        sweep::check_names(Side::Client, &choices)?;
    }
    let transport = client.transport(&choices).ok_or_else(|| {
        Refusal::usage(
            "--only names lifecycles of clients that start a stdio server, and of those over HTTP \
             (client-http): judge the one and the other in two runs",
        )
    })?;
    let judged = |kind: &Kind| choices.kinds.contains(kind);
    let is_session = transport == Transport::Http && judged(&Kind::Session);
    if !JUDGED.iter().any(judged) && !is_session {
        // A run that can find nothing is not green.
        return Err(Refusal::usage(match judged(&Kind::Session) {
            true => {
                "--probe session: sessions are judged in clients over HTTP, which are told of their \
                 server by {url}; in one that starts its servers, processes, zombies and descriptors \
                 are"
            }
            false => {
                "--probe: of clients, processes, zombies and descriptors are judged, and sessions \
                 over HTTP; name one of them"
            }
        }));
    }
    if transport == Transport::Http && choices.sweep.is_some() && arguments.common.keep.is_some() {
        return Err(Refusal::usage(
            "--keep with --torture: no scenario file can tell a point of the byte sweep of a client over \
             HTTP yet; each finding names the command that repeats it",
        ));
    }
    let lifecycles = client::whole_battery(transport);
    let ids: Vec<&str> = lifecycles.iter().map(|lifecycle| lifecycle.id.as_str()).collect();
    let unmatched = choices.unmatched(&ids);
    if choices.sweep.is_none() && !unmatched.is_empty() {
        return Err(no_such_lifecycle(&unmatched, &ids));
    }
    let info = RunInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode: "client".to_owned(),
        subject: crate::plan::shell_words(&client.command),
        cases: 0,
        seed: arguments.common.seed,
        repeat: client::command(None, &client, &choices),
    };
    let mut session = Session::begin(&arguments.common, Mode::Verdicts, info)?;
    let first = transport.first_look();
    session.looks_first_by(choices.sweep.is_none() && choices.wants(first));
    judge(&mut session, &client, transport, &choices);
    session.end()
}

fn judge(session: &mut Session, client: &Client, transport: Transport, choices: &Choices) {
    let first = client::first_look(client, transport, choices);
    let Some(learned) = session.judge_first(&first) else {
        // Without a server that it starts there is nothing to judge; the report says why.
        return;
    };
    session.on(Event::SubjectSeen(introduce(&learned)));
    if let Some(extent) = choices.sweep {
        session.forget_first();
        let plan = OfClient { client, transport, choices, learned: &learned };
        return sweep::judge(session, &plan, &Canary::of_clients(transport, choices), extent);
    }
    if !choices.wants(transport.first_look()) {
        session.forget_first();
    }
    let cases = client::battery(client, transport, choices, &learned);
    let traits = learned.client.clone().unwrap_or_default();
    let left_out = client::left_out(client, transport, choices, &traits);
    if !left_out.is_empty() {
        let how = match transport {
            Transport::Stdio => {
                "two servers take {config}, rounds take --long-lived or --rounds-arg"
            }
            Transport::Http => "rounds take --long-lived or --rounds-arg",
        };
        session.on(Event::Note(format!(
            "left out: {}. In the first look the client did not come to these moments, or its command \
             does not say how: {how}",
            left_out.join(", ")
        )));
    }
    session.on(Event::Planned(cases.len() + usize::from(choices.wants(transport.first_look()))));
    session.judge_beside(&[Canary::of_clients(transport, choices)], 1, cases, choices);
}

fn introduce(learned: &Learned) -> SubjectInfo {
    let traits = learned.client.clone().unwrap_or_default();
    SubjectInfo {
        name: learned.name.clone(),
        version: learned.version.clone(),
        eras: learned.eras.iter().map(|era| era.revision().to_owned()).collect(),
        tools: Vec::new(),
        callable: Vec::new(),
        launchers: Vec::new(),
        start_ms: learned.start_ms,
        exit_ms: learned.exit_ms.filter(|_| !traits.lives_on),
    }
}
