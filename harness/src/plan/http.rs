//! The cases of `scupper server --http`. Pure.

use std::time::Duration;

use super::{Call, Case, Choices, FakeSpec, Patience, case, chosen, fake_words, shell_words};
use crate::cell::protocol::{Header, HttpOrder, HttpTraits, Launch, Learned, SubjectOrder};
use crate::lifecycle::endpoint::{PORT, Wire};
use crate::lifecycle::http::{self, Knowledge};
use crate::lifecycle::scenario::duration_word;
use crate::lifecycle::step::{Era, EraChoice, Lifecycle};

/// A server that drains its clients on purpose may take as long as `docker stop` waits.
const FLOOR_MS: u64 = 10_000;
/// How long what the canary leaks on purpose is waited for.
const CANARY_PATIENCE_MS: u64 = 1_000;

/// An HTTP server to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// How it is started, with its placeholders.
    pub launch: Launch,
    /// Where it is reached, likewise.
    pub url: String,
    /// Headers of every request.
    pub headers: Vec<Header>,
    /// How long a session may live that no client uses.
    pub session_ttl_ms: Option<u64>,
}

impl Server {
    fn order(&self, wire: Option<Wire>, choices: &Choices) -> SubjectOrder {
        SubjectOrder::HttpServer(HttpOrder {
            launch: self.launch.clone(),
            url: self.url.clone(),
            headers: self.headers.clone(),
            session_ttl_ms: self.session_ttl_ms,
            wire,
            program: choices.program.clone(),
        })
    }

    /// Whether each life has a port of its own, so that several can be judged at once.
    pub fn takes_port(&self) -> bool {
        self.url.contains(PORT)
    }
}

/// The first look at a server, from which the rest of the battery is made.
pub fn first_look(server: &Server, choices: &Choices) -> Case {
    let mut case = server_case(http::first_look(), server, None, choices, only_era(choices));
    // Whether one was chosen, the cell has to know.
    case.order.lifecycle.era = choices.era;
    case.order.first_look = true;
    case
}

/// The rest of the battery.
pub fn battery(server: &Server, choices: &Choices, learned: &Learned) -> Vec<Case> {
    let traits = learned.http.unwrap_or_default();
    let era = era_of(learned);
    let known = knowledge(choices, learned, traits, era);
    http::http(&known)
        .into_iter()
        .filter(|lifecycle| lifecycle.id != http::FIRST_LOOK && choices.wants(&lifecycle.id))
        .map(|lifecycle| {
            let mut case = server_case(lifecycle, server, Some(traits.wire), choices, era);
            calibrate(&mut case, choices, learned);
            case
        })
        .collect()
}

/// A life of a server whose first look has learned so much.
pub(super) fn learned_case(
    lifecycle: Lifecycle,
    server: &Server,
    choices: &Choices,
    learned: &Learned,
) -> Case {
    let wire = learned.http.unwrap_or_default().wire;
    let mut case = server_case(lifecycle, server, Some(wire), choices, era_of(learned));
    calibrate(&mut case, choices, learned);
    case
}

/// The era that is spoken: the older one where a server speaks both.
pub(super) fn era_of(learned: &Learned) -> Era {
    learned.eras.first().copied().unwrap_or(Era::Legacy)
}

fn calibrate(case: &mut Case, choices: &Choices, learned: &Learned) {
    case.order.launchers = Some(learned.launchers.len());
    if choices.leak_timeout_ms.is_none() {
        let calibrated = Patience::calibrated(learned.exit_ms.unwrap_or(0));
        let bound_ms = calibrated.bound_ms.max(FLOOR_MS);
        case.order.patience = Patience { bound_ms, ..calibrated };
    }
}

fn knowledge(choices: &Choices, learned: &Learned, traits: HttpTraits, era: Era) -> Knowledge {
    let callable = || learned.tools.iter().filter(|tool| tool.callable);
    let mut calls: Vec<Call> = choices.calls.clone();
    for tool in callable() {
        if !calls.iter().any(|chosen| chosen.tool == tool.name) {
            calls.push(Call { tool: tool.name.clone(), arguments: tool.arguments.clone() });
        }
    }
    // The user's own call first, then one that surely lasts, then any.
    let lasting = callable()
        .find_map(|tool| Some(Call { tool: tool.name.clone(), arguments: tool.lasting.clone()? }));
    let in_flight = choices.calls.first().cloned().or(lasting).or(calls.first().cloned());
    Knowledge {
        era,
        wire: traits.wire,
        sessions: traits.sessions,
        listens: traits.listens,
        resumes: traits.resumes,
        heavy: traits.processes > 0,
        calls,
        in_flight,
        cycles: choices.cycles,
    }
}

/// Every lifecycle that some HTTP server can come to, for messages and lists.
pub fn whole_battery() -> Vec<Lifecycle> {
    http::http(&Knowledge::of_any(super::CYCLES))
}

/// The wanted lifecycles that do not apply to a server.
pub fn left_out(choices: &Choices, learned: &Learned) -> Vec<String> {
    let traits = learned.http.unwrap_or_default();
    let era = era_of(learned);
    let played = http::http(&knowledge(choices, learned, traits, era));
    let played: Vec<String> = played.into_iter().map(|lifecycle| lifecycle.id).collect();
    let whole = whole_battery().into_iter().map(|lifecycle| lifecycle.id);
    whole.filter(|id| choices.wants(id) && !played.contains(id)).collect()
}

/// The command that judges a server the same way again, of one lifecycle or all that were chosen.
pub fn command(only: Option<&str>, server: &Server, choices: &Choices) -> String {
    let mut words: Vec<String> =
        ["scupper", "server", "--http", &server.url].map(str::to_owned).into();
    for header in &server.headers {
        words.extend(["--header".to_owned(), format!("{}: {}", header.name, header.shown)]);
    }
    if let Some(ttl) = server.session_ttl_ms {
        words.extend(["--session-ttl".to_owned(), duration_word(Duration::from_millis(ttl))]);
    }
    words.extend(chosen(only, choices));
    format!("{} -- {}", shell_words(&words), shell_words(&server.launch.command))
}

/// The canary and its clean twin.
pub fn canary(choices: &Choices) -> [Case; 2] {
    [false, true].map(|fixed| {
        let fake = FakeSpec { name: "http-canary".into(), fixed, ..FakeSpec::default() };
        let server = of_fake(&fake, "http://127.0.0.1:{port}/mcp", choices);
        let lifecycle = http::canary();
        let mut case =
            server_case(lifecycle, &server, Some(Wire::Streamable), choices, Era::Legacy);
        case.order.for_any_server = false;
        case.order.subject_words = fake_words(&fake);
        case.order.repeat = String::new();
        // What leaks on purpose is not waited for; only the twin needs patience.
        case.order.patience = match fixed {
            true => Patience::calibrated(0),
            false => Patience::fixed(CANARY_PATIENCE_MS),
        };
        case
    })
}

/// One of our servers, over HTTP.
pub fn of_fake(fake: &FakeSpec, url: &str, choices: &Choices) -> Server {
    let mut command = super::fake_command(&choices.program, fake);
    command.splice(3..3, ["--http".to_owned(), PORT.to_owned()]);
    Server {
        launch: Launch::plain(&command),
        url: url.to_owned(),
        headers: Vec::new(),
        session_ttl_ms: None,
    }
}

fn only_era(choices: &Choices) -> Era {
    match choices.era {
        EraChoice::Modern => Era::Modern,
        EraChoice::Auto | EraChoice::Legacy => Era::Legacy,
    }
}

fn server_case(
    lifecycle: Lifecycle,
    server: &Server,
    wire: Option<Wire>,
    choices: &Choices,
    era: Era,
) -> Case {
    let repeat = command(Some(&lifecycle.id), server, choices);
    let words = shell_words(&server.launch.command);
    let mut case = case(lifecycle, server.order(wire, choices), words, choices, era, repeat);
    case.order.for_any_server = true;
    if choices.leak_timeout_ms.is_none() {
        case.order.patience = Patience { bound_ms: FLOOR_MS, ..case.order.patience };
    }
    case
}

/// A scenario's server as a case needs it.
pub(super) fn of_scenario(
    spec: &crate::lifecycle::scenario::HttpServer,
    choices: &Choices,
) -> (SubjectOrder, String) {
    use crate::lifecycle::scenario::HttpStart;
    let (launch, words) = match &spec.start {
        HttpStart::Command(command) => (Launch::plain(command), shell_words(command)),
        HttpStart::Fake(fake) => {
            (of_fake(fake, &spec.url, choices).launch, fake_words(fake) + " --http {port}")
        }
    };
    let headers = spec.headers.iter().filter_map(|text| {
        let (name, value) = crate::lifecycle::endpoint::header_parts(text).ok()?;
        // Its variables are put in by whoever has an environment.
        Some(Header { name: name.into(), value: value.into(), shown: value.into() })
    });
    let server = Server {
        launch,
        url: spec.url.clone(),
        headers: headers.collect(),
        session_ttl_ms: spec
            .session_ttl
            .map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
    };
    (server.order(None, choices), words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::snapshot::Kind;

    fn choices() -> Choices {
        Choices {
            only: Vec::new(),
            skip: Vec::new(),
            kinds: Kind::ALL.iter().copied().collect(),
            cycles: super::super::CYCLES,
            era: EraChoice::Auto,
            leak_timeout_ms: None,
            start_timeout_ms: super::super::START_TIMEOUT_MS,
            calls: Vec::new(),
            program: "scupper".to_owned(),
            sweep: None,
        }
    }

    #[test]
    fn the_command_that_repeats_a_case_shows_no_credential() {
        let server = Server {
            launch: Launch::plain(&["server".to_owned(), "{port}".to_owned()]),
            url: "http://127.0.0.1:{port}/mcp".into(),
            headers: vec![Header {
                name: "Authorization".into(),
                value: "Bearer abc123".into(),
                shown: "Bearer $TOKEN".into(),
            }],
            session_ttl_ms: Some(1_500),
        };
        let case = first_look(&server, &choices());
        assert_eq!(
            case.order.repeat,
            "scupper server --http 'http://127.0.0.1:{port}/mcp' --header 'Authorization: Bearer \
             $TOKEN' --session-ttl 1500ms --only http/clean-close -- server {port}"
        );
        assert!(case.order.patience.bound_ms >= FLOOR_MS && !case.order.patience.fixed);
    }

    #[test]
    fn a_fake_is_told_its_port() {
        let fake = FakeSpec { name: "plain".into(), fixed: true, ..FakeSpec::default() };
        let server = of_fake(&fake, "http://127.0.0.1:{port}/mcp", &choices());
        let words = ["scupper", "fake", "plain", "--http", "{port}", "--fixed"];
        assert_eq!(server.launch.command, words);
    }
}
