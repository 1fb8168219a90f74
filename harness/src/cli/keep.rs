//! `--keep DIR`: a case as a scenario file, for `scupper replay` and for `scenarios/`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::headers::HIDDEN;
use crate::cell::protocol::{ClientOrder, Header, HttpOrder, Role, SubjectOrder};
use crate::ledger::verdict::Verdict;
use crate::lifecycle::client::RoundsBy;
use crate::lifecycle::scenario::{
    self, ClientSpec, Embedded, Expectation, HttpServer, HttpStart, Scenario, Subject, WhichClient,
};
use crate::lifecycle::step::{Action, Era, EraChoice, Lifecycle};
use crate::plan::{self, Case};

/// Writes a case below a folder and says where. A case without an expectation of its own expects to
/// be clean: its replay is red as long as the fault is there, and green once it is gone. A case that
/// no file can tell is not written, and why is said.
pub fn keep(folder: &Path, case: &Case) -> io::Result<Result<PathBuf, &'static str>> {
    let scenario = match scenario_of(case) {
        Ok(scenario) => scenario,
        Err(why) => return Ok(Err(why)),
    };
    let path = folder.join(format!("{}.toml", id_of(case)));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&path, scenario::render(&scenario))?;
    Ok(Ok(path))
}

/// The id of the lifecycle, and before it the name of the server where there are several: two files
/// that are played together have two ids. A name may be any text.
fn id_of(case: &Case) -> String {
    let lifecycle = &case.order.lifecycle.id;
    match server_name(case) {
        Some(name) => {
            let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
            format!("{}/{lifecycle}", name.chars().map(plain).collect::<String>())
        }
        None => lifecycle.clone(),
    }
}

/// The server's name in a file of servers, where it comes from one.
fn server_name(case: &Case) -> Option<&str> {
    case.order.id.strip_suffix(&case.order.lifecycle.id)?.strip_suffix('/')
}

/// A case with as many cycles as were played. The battery goes on where it suspects growth, and a
/// file says how many there are.
pub fn as_played(case: &Case, cycles: u32) -> Case {
    let mut case = case.clone();
    for step in &mut case.order.lifecycle.steps {
        if let Action::Repeat { times, .. } = &mut step.action
            && cycles >= *times
        {
            *times = cycles + 1;
            step.within = step.within.map(|within| within * 2);
        }
    }
    case
}

fn scenario_of(case: &Case) -> Result<Scenario, &'static str> {
    let launch = match &case.order.subject {
        SubjectOrder::Server(launch) => launch,
        SubjectOrder::HttpServer(http) => &http.launch,
        SubjectOrder::Client(order) => return client_scenario(case, order),
        SubjectOrder::Embedded { role: Role::Host, name, options, .. } => {
            let host = Embedded { name: name.clone(), options: options.clone() };
            return checked(case, case.order.lifecycle.clone(), Subject::Host(host));
        }
        _ => return Err("no scenario file can tell a case of the core with its peer"),
    };
    let written = plan::shell_words(&launch.command) == case.order.subject_words;
    if !launch.environment.is_empty()
        || launch.directory.is_some()
        || (server_name(case).is_some() && !written)
    {
        return Err("a scenario file has no environment, folder or variables for its command");
    }
    let mut lifecycle = case.order.lifecycle.clone();
    lifecycle.id = id_of(case);
    // The one that was spoken: a replay must not guess anew.
    lifecycle.era = match case.order.era {
        Era::Legacy => EraChoice::Legacy,
        Era::Modern => EraChoice::Modern,
    };
    let subject = match &case.order.subject {
        SubjectOrder::HttpServer(http) => Subject::Http(http_server(http)),
        _ => Subject::Command(launch.command.clone()),
    };
    checked(case, lifecycle, subject)
}

fn client_scenario(case: &Case, order: &ClientOrder) -> Result<Scenario, &'static str> {
    let client = ClientSpec {
        client: WhichClient::Command(order.command.clone()),
        style: order.style,
        rounds_by: order.script.rounds.and(order.rounds_by.clone()),
        script: order.script.clone(),
    };
    // Who is told of rounds by its own words needs no further ones.
    let rounds_by = client.rounds_by.clone().filter(|by| *by != RoundsBy::Words(Vec::new()));
    // It chooses the era itself.
    let lifecycle = Lifecycle { era: EraChoice::Auto, ..case.order.lifecycle.clone() };
    checked(case, lifecycle, Subject::Client(Box::new(ClientSpec { rounds_by, ..client })))
}

fn checked(case: &Case, lifecycle: Lifecycle, subject: Subject) -> Result<Scenario, &'static str> {
    let clean = Expectation { verdict: Verdict::Clean, findings: Vec::new() };
    let expect = case.expect.clone().unwrap_or(clean);
    let scenario = Scenario { lifecycle, subject, expect };
    match scenario::check(&scenario).is_empty() {
        true => Ok(scenario),
        false => Err("no scenario file can tell it"),
    }
}

/// An HTTP server as a file has it, without its credentials.
fn http_server(http: &HttpOrder) -> HttpServer {
    let header = |header: &Header| {
        let shown = match header.shown.as_str() {
            // Whoever plays it again has to say it, and is told by which variable.
            HIDDEN => format!("${}", header.name.to_uppercase().replace('-', "_")),
            shown => shown.to_owned(),
        };
        format!("{}: {shown}", header.name)
    };
    HttpServer {
        start: HttpStart::Command(http.launch.command.clone()),
        url: http.url.clone(),
        session_ttl: http.session_ttl_ms.map(Duration::from_millis),
        headers: http.headers.iter().map(header).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cell::protocol::Learned;
    use crate::lifecycle::client::{ConfigStyle, Traits};
    use crate::plan::Choices;
    use crate::plan::client::Transport;

    fn choices() -> Choices {
        Choices {
            only: Vec::new(),
            skip: Vec::new(),
            kinds: BTreeSet::new(),
            cycles: 20,
            era: EraChoice::Auto,
            leak_timeout_ms: None,
            start_timeout_ms: 30_000,
            calls: Vec::new(),
            program: "scupper".into(),
            sweep: None,
        }
    }

    #[test]
    fn every_case_of_the_battery_can_be_kept_and_read_again() {
        let choices = choices();
        let command = ["sh", "-c", "exec 'my server'"].map(str::to_owned);
        let server = plan::Server::plain(&command);
        let folder = tempfile::tempdir().unwrap();
        let mut cases = plan::battery(&server, &choices, &Learned::default(), Era::Modern);
        cases.push(plan::first_look(&server, &choices, Era::Modern));
        for case in &cases {
            let path = keep(folder.path(), case).unwrap().unwrap();
            assert_eq!(path, folder.path().join(format!("{}.toml", case.order.id)));
            let text = std::fs::read_to_string(&path).unwrap();
            let read = scenario::parse(&path.display().to_string(), &text).unwrap();
            assert_eq!(Ok(read), scenario_of(case));
        }
    }

    #[test]
    fn every_case_of_a_client_can_be_kept_and_read_again() {
        for transport in [Transport::Stdio, Transport::Http] {
            every_case_of_a_client(transport);
        }
    }

    fn every_case_of_a_client(transport: Transport) {
        let choices = choices();
        let client = plan::client::Client {
            command: ["sh", "-c", "exec 'my client' {config} {rounds}"].map(str::to_owned).into(),
            style: ConfigStyle::Codex,
            rounds_by: Some(RoundsBy::Words(Vec::new())),
        };
        let traits = Traits {
            busy_with: Some("tools/call".into()),
            lives_on: true,
            ends_with_stdin: Some(true),
            has_session: true,
            deletes: true,
            ..Traits::default()
        };
        let learned = Learned { client: Some(traits), ..Learned::default() };
        let folder = tempfile::tempdir().unwrap();
        let mut cases = plan::client::battery(&client, transport, &choices, &learned);
        cases.push(plan::client::first_look(&client, transport, &choices));
        assert_eq!(cases.len(), plan::client::whole_battery(transport).len());
        for case in &cases {
            let path = keep(folder.path(), case).unwrap().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            let read = scenario::parse(&path.display().to_string(), &text).unwrap();
            // What is played again is what was played.
            let again = plan::scenario(&read, plan::REPLAY, "x.toml", &choices).order.subject;
            let (SubjectOrder::Client(again), SubjectOrder::Client(order)) =
                (again, &case.order.subject)
            else {
                panic!("{text}")
            };
            assert_eq!((&again.command, &again.script), (&order.command, &order.script));
            assert_eq!(again.style, order.style);
            let rounds_by = order.script.rounds.and(order.rounds_by.clone());
            assert_eq!(again.rounds_by, rounds_by, "{text}");
            let rule = read.lifecycle.rule.as_deref();
            assert!(rule.is_none_or(|id| crate::ledger::rules::rule(id).is_some()), "{text}");
            assert_eq!(Ok(read), scenario_of(case));
        }
    }

    #[test]
    fn what_went_on_is_kept_with_all_its_cycles() {
        let choices = choices();
        let command = ["server".to_owned()];
        let cases = plan::battery(
            &plan::Server::plain(&command),
            &choices,
            &Learned::default(),
            Era::Modern,
        );
        let churn = cases.iter().find(|case| case.order.id == "stdio/churn").unwrap();
        let times = |case: &Case| {
            let mut steps = case.order.lifecycle.steps.iter();
            steps.find_map(|step| match step.action {
                Action::Repeat { times, .. } => Some(times),
                _ => None,
            })
        };
        assert_eq!(times(&as_played(churn, 20)), Some(21));
        assert_eq!(times(&as_played(churn, 15)), Some(21));
        assert_eq!(times(&as_played(churn, 100)), Some(101));
    }
}
