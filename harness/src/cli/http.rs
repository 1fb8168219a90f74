//! `scupper server --http`: the first look, then the battery made from what it learned.

use super::arguments::{Common, ServerArguments, no_such_lifecycle};
use super::canary::Canary;
use super::server::{introduce, unlisted};
use super::session::Session;
use super::{Ended, Refusal, headers};
use crate::gate::exit::Mode;
use crate::ledger::snapshot::Kind;
use crate::lifecycle::endpoint::{Endpoint, NoEndpoint, PORT};
use crate::lifecycle::http::FIRST_LOOK;
use crate::plan::Choices;
use crate::plan::http::{self, Server};
use crate::report::Secrets;
use crate::report::event::{Event, RunInfo};

/// What is judged in HTTP servers.
const JUDGED: [Kind; 6] =
    [Kind::Process, Kind::Zombie, Kind::Fd, Kind::Thread, Kind::File, Kind::Session];

/// Judges an HTTP server.
pub fn run(arguments: &ServerArguments, url: &str) -> Ended {
    let mut secrets = Secrets::default();
    let variable = |name: &str| std::env::var(name).ok();
    let server = Server {
        launch: crate::cell::protocol::Launch::plain(&arguments.command),
        url: url.to_owned(),
        headers: headers::headers(&arguments.headers, variable, &mut secrets)?,
        session_ttl_ms: arguments
            .session_ttl
            .map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
    };
    // Any port stands for the one that there will be.
    let endpoint = Endpoint::at(url, 1).map_err(|problem| {
        let problem = match problem {
            NoEndpoint::Tls(_) => NoEndpoint::Tls(url.to_owned()),
            other => other,
        };
        Refusal::usage(format!("--http: {problem}"))
    })?;
    let names_port = arguments.command.iter().any(|word| word.contains(PORT));
    if names_port && !server.takes_port() {
        return Err(Refusal::usage(format!(
            "--http {url}: COMMAND has {PORT} and the URL has not; write it in both, as in \
             http://{}:{PORT}{}",
            endpoint.host, endpoint.path
        )));
    }
    let choices = arguments.common.choices(&arguments.calls)?;
    if !JUDGED.iter().any(|kind| choices.kinds.contains(kind)) {
        let names = JUDGED.map(Kind::as_str).join(", ");
        return Err(Refusal::usage(format!(
            "--probe: of HTTP servers, {names} are judged; name one of them"
        )));
    }
    let lifecycles = http::whole_battery();
    let ids: Vec<&str> = lifecycles.iter().map(|lifecycle| lifecycle.id.as_str()).collect();
    let unmatched = choices.unmatched(&ids);
    if !unmatched.is_empty() {
        return Err(no_such_lifecycle(&unmatched, &ids));
    }
    let info = RunInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode: "http-server".to_owned(),
        subject: crate::plan::shell_words(&arguments.command),
        cases: 0,
        seed: arguments.common.seed,
        repeat: http::command(None, &server, &choices),
    };
    // Where the port is given, two lives at once would be in each other's way.
    let jobs = if server.takes_port() { arguments.common.jobs } else { Some(1) };
    let common = Common { jobs, ..arguments.common.clone() };
    let mut session = Session::begin(&common, Mode::Verdicts, info)?;
    session.hide(&secrets);
    session.looks_first_by(choices.wants(FIRST_LOOK));
    judge(&mut session, &server, &choices);
    session.end()
}

fn judge(session: &mut Session, server: &Server, choices: &Choices) {
    let Some(learned) = session.judge_first(&http::first_look(server, choices)) else {
        // Without a first answer there is nothing to judge; the report says why.
        return;
    };
    session.on(Event::SubjectSeen(introduce(&learned)));
    let mut choices = choices.clone();
    for (call, cause) in unlisted(&choices, &learned) {
        choices.calls.retain(|chosen| *chosen != call);
        session.not_judged(format!("--call {}", call.tool), cause);
    }
    if !choices.wants(FIRST_LOOK) {
        session.forget_first();
    }
    let cases = http::battery(server, &choices, &learned);
    let left_out = http::left_out(&choices, &learned);
    if !left_out.is_empty() {
        session.on(Event::Note(format!(
            "left out: {}. This server has no sessions, no stream of events or no ids of events",
            left_out.join(", ")
        )));
    }
    session.on(Event::Planned(cases.len() + usize::from(choices.wants(FIRST_LOOK))));
    session.judge_beside(&[Canary::of_http_servers(&choices)], 1, cases, &choices);
}
