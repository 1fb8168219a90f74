//! `scupper server --http`: the first look, then the battery made from what it learned.

use super::arguments::{ServerArguments, no_such_lifecycle};
use super::canary::Canary;
use super::common::Common;
use super::server::{introduce, uncalled, unlisted};
use super::session::Session;
use super::sweep;
use super::{Ended, Refusal, headers};
use crate::gate::exit::Mode;
use crate::ledger::snapshot::Kind;
use crate::lifecycle::endpoint::{Endpoint, NoEndpoint, PORT, Wire};
use crate::lifecycle::http::FIRST_LOOK;
use crate::lifecycle::sweep::Side;
use crate::plan::Choices;
use crate::plan::http::{self, Server};
use crate::plan::sweep::OfHttpServer;
use crate::probe::holder;
use crate::probe::socket::{self, Tcp};
use crate::report::Secrets;
use crate::report::event::{Event, RunInfo};

/// What is judged in HTTP servers.
const JUDGED: [Kind; 6] =
    [Kind::Process, Kind::Zombie, Kind::Fd, Kind::Thread, Kind::File, Kind::Session];

/// Why the older pair of HTTP and SSE is not swept.
const OF_THE_PAIR: &str = "the older pair of HTTP and SSE answers over two connections at once, whose bytes \
    come in no order that could be repeated; judge the server by its lifecycles, or its Streamable HTTP \
    endpoint by its bytes";

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
    if let Some(holder) = (!server.takes_port()).then(|| holder_of(endpoint.port)).flatten() {
        return Err(Refusal {
            message: format!(
                "--http {url}: {holder} listens on port {} already, and the server is to be started \
                 there; end it, or let each life have a free port: {{port}} in the URL and in COMMAND",
                endpoint.port
            ),
            code: crate::report::event::codes::NOT_JUDGED,
        });
    }
    let choices = arguments.common.choices(&arguments.calls)?;
    if !JUDGED.iter().any(|kind| choices.kinds.contains(kind)) {
        let names = JUDGED.map(Kind::as_str).join(", ");
        return Err(Refusal::usage(format!(
            "--probe: of HTTP servers, {names} are judged; name one of them"
        )));
    }
    let choices = Choices { sweep: arguments.sweep.extent(), ..choices };
    check_names(&choices)?;
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
    session.looks_first_by(choices.sweep.is_none() && choices.wants(FIRST_LOOK));
    judge(&mut session, &server, &choices);
    session.end()
}

/// Refuses names that no lifecycle of the battery has, and no point of the sweep.
fn check_names(choices: &Choices) -> Result<(), Refusal> {
    if choices.sweep.is_some() {
        return sweep::check_names(Side::HttpServer, choices);
    }
    let lifecycles = http::whole_battery();
    let ids: Vec<&str> = lifecycles.iter().map(|lifecycle| lifecycle.id.as_str()).collect();
    let unmatched = choices.unmatched(&ids);
    if unmatched.is_empty() { Ok(()) } else { Err(no_such_lifecycle(&unmatched, &ids)) }
}

/// Who listens on a port of this host.
fn holder_of(port: u16) -> Option<String> {
    let own = std::process::id().cast_signed();
    let listens = |one: &Tcp| one.listens() && one.local.port() == port;
    let inode = socket::tcp(own).into_iter().find(listens)?.inode;
    Some(match holder::of_socket(inode).holders.first() {
        Some(one) => format!("pid {} ({})", one.pid, one.command),
        None => "a process that could not be read".to_owned(),
    })
}

fn judge(session: &mut Session, server: &Server, choices: &Choices) {
    let Some(learned) = session.judge_first(&http::first_look(server, choices)) else {
        // Without a first answer there is nothing to judge; the report says why.
        return;
    };
    session.on(Event::SubjectSeen(introduce(&learned)));
    if choices.wants("http/abandon-churn")
        && let Some(note) = uncalled(choices, &learned)
    {
        session.on(Event::Note(note));
    }
    let unlisted = unlisted(choices, &learned);
    if !unlisted.is_empty() {
        return session.end_early(unlisted);
    }
    let canary = Canary::of_http_servers(choices);
    if let Some(extent) = choices.sweep {
        session.forget_first();
        if learned.http.unwrap_or_default().wire == Wire::Sse {
            session.not_judged("--torture".to_owned(), OF_THE_PAIR.to_owned());
            return;
        }
        let plan = OfHttpServer { server, choices, learned: &learned };
        sweep::judge(session, &plan, &canary, extent);
        return;
    }
    if !choices.wants(FIRST_LOOK) {
        session.forget_first();
    }
    let cases = http::battery(server, choices, &learned);
    let left_out = http::left_out(choices, &learned);
    if !left_out.is_empty() {
        session.on(Event::Note(format!(
            "left out: {}. This server has no sessions, no stream of events or no ids of events",
            left_out.join(", ")
        )));
    }
    session.on(Event::Planned(cases.len() + usize::from(choices.wants(FIRST_LOOK))));
    let canary = canary.with_memory(&cases, choices);
    session.judge_beside(&[canary], 1, cases, choices);
}
