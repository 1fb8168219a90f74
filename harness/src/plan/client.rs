//! The cases of `scupper client`. Pure.

use super::{Case, Choices, FakeSpec, Patience, case, chosen, names_id, shell_words};
use crate::cell::protocol::{ClientOrder, Learned, SubjectOrder};
use crate::lifecycle::client::{self, ConfigStyle, Knowledge, RoundsBy, Script, Traits, http};
use crate::lifecycle::scenario::{ClientSpec, WhichClient};
use crate::lifecycle::step::{Era, EraChoice, Lifecycle};
use crate::lifecycle::sweep::Point;

/// The subcommand that is a fake client.
pub const FAKE_CLIENT: &str = "fake-client";
/// How long what the canary leaks on purpose is waited for: longer than its own waits, so that it is
/// at rest only when it has done its work.
const CANARY_PATIENCE_MS: u64 = 2_000;

/// A client to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Program and arguments, with their placeholders.
    pub command: Vec<String>,
    /// How it is told of its servers by a file.
    pub style: ConfigStyle,
    /// How it is told to do its work again, where it lives on.
    pub rounds_by: Option<RoundsBy>,
}

/// How a client and its server speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// The client starts the server.
    Stdio,
    /// The server is there, at a URL.
    Http,
}

impl Transport {
    /// How the client of a script speaks.
    pub fn of(script: &Script) -> Self {
        match script.service {
            Some(_) => Transport::Http,
            None => Transport::Stdio,
        }
    }

    /// Id of the lifecycle that is played first, alone.
    pub fn first_look(self) -> &'static str {
        match self {
            Transport::Stdio => client::FIRST_LOOK,
            Transport::Http => http::FIRST_LOOK,
        }
    }
}

impl Client {
    /// Whether it may come to know of two servers: by a file, or by a variable that names one.
    fn takes_two(&self) -> bool {
        self.names("{config}") || !self.names_a_server_to_start()
    }

    fn names(&self, place: &str) -> bool {
        self.command.iter().any(|word| word.contains(place))
    }

    fn names_a_server_to_start(&self) -> bool {
        ["{server}", "{command}", "{args}"].into_iter().any(|place| self.names(place))
    }

    /// How it speaks: by what its command names, and where that may stand for either, by what was
    /// asked for. None where lifecycles of both were.
    pub fn transport(&self, choices: &Choices) -> Option<Transport> {
        match (self.names("{url}"), self.names_a_server_to_start()) {
            (true, false) => return Some(Transport::Http),
            (false, true) => return Some(Transport::Stdio),
            _ => {}
        }
        let over_http = |name: &&String| names_id(http::FOLDER, name);
        match choices.only.iter().filter(over_http).count() {
            0 => Some(Transport::Stdio),
            all if all == choices.only.len() => Some(Transport::Http),
            _ => None,
        }
    }
}

/// The first look at a client, from which the rest of the battery is made.
pub fn first_look(client: &Client, transport: Transport, choices: &Choices) -> Case {
    let era = only_era(choices);
    let first = match transport {
        Transport::Stdio => client::first_look(era),
        Transport::Http => http::first_look(era),
    };
    let mut case = client_case(client, first, choices);
    case.order.first_look = true;
    case
}

fn lifecycles(transport: Transport, known: &Knowledge) -> Vec<(Lifecycle, Script)> {
    match transport {
        Transport::Stdio => client::battery(known),
        Transport::Http => http::battery(known),
    }
}

/// The rest of the battery.
pub fn battery(
    client: &Client,
    transport: Transport,
    choices: &Choices,
    learned: &Learned,
) -> Vec<Case> {
    let known = Knowledge {
        traits: learned.client.clone().unwrap_or_default(),
        takes_two: client.takes_two(),
        era: only_era(choices),
        rounds: client.rounds_by.is_some().then_some(choices.cycles),
    };
    let first = transport.first_look();
    lifecycles(transport, &known)
        .into_iter()
        .filter(|(lifecycle, _)| lifecycle.id != first && choices.wants(&lifecycle.id))
        .map(|life| calibrated(client, transport, life, choices, learned))
        .collect()
}

/// The clean life of a byte sweep, of which every byte is counted.
pub fn counted(
    client: &Client,
    transport: Transport,
    choices: &Choices,
    learned: &Learned,
) -> Case {
    let life = match transport {
        Transport::Stdio => client::counted(only_era(choices)),
        Transport::Http => http::counted(only_era(choices)),
    };
    calibrated(client, transport, life, choices, learned)
}

/// One point of a byte sweep.
pub fn cut(
    client: &Client,
    transport: Transport,
    choices: &Choices,
    learned: &Learned,
    point: &Point,
) -> Case {
    let life = match transport {
        Transport::Stdio => client::cut(point, only_era(choices)),
        Transport::Http => http::cut(point, only_era(choices)),
    };
    calibrated(client, transport, life, choices, learned)
}

/// A case with what the first look has learned.
fn calibrated(
    client: &Client,
    transport: Transport,
    (mut lifecycle, script): (Lifecycle, Script),
    choices: &Choices,
    learned: &Learned,
) -> Case {
    if transport == Transport::Stdio {
        let era = learned.eras.first().copied().unwrap_or(Era::Legacy);
        lifecycle.rule = Some(client::rule(era).to_owned());
    }
    let mut case = client_case(client, (lifecycle, script), choices);
    calibrate(&mut case, choices, learned);
    case
}

/// Every lifecycle that some client can come to, for messages and lists.
pub fn whole_battery(transport: Transport) -> Vec<Lifecycle> {
    let all = lifecycles(transport, &Knowledge::of_any());
    all.into_iter().map(|(lifecycle, _)| lifecycle).collect()
}

/// The wanted lifecycles that a client with these traits does not come to.
pub fn left_out(
    client: &Client,
    transport: Transport,
    choices: &Choices,
    traits: &Traits,
) -> Vec<String> {
    let known = Knowledge {
        traits: traits.clone(),
        takes_two: client.takes_two(),
        era: None,
        rounds: client.rounds_by.is_some().then_some(choices.cycles),
    };
    let played: Vec<String> =
        lifecycles(transport, &known).into_iter().map(|(lifecycle, _)| lifecycle.id).collect();
    let whole = whole_battery(transport).into_iter().map(|lifecycle| lifecycle.id);
    whole.filter(|id| choices.wants(id) && !played.contains(id)).collect()
}

/// The client of a scenario.
pub fn of_spec(spec: &ClientSpec, program: &str) -> Client {
    let command = match &spec.client {
        WhichClient::Command(words) => words.clone(),
        WhichClient::Fake(fake) => fake_client(program, Transport::of(&spec.script), fake),
    };
    Client { command, style: spec.style, rounds_by: rounds_by(spec) }
}

/// A number among its words tells a client of rounds without further words.
fn rounds_by(spec: &ClientSpec) -> Option<RoundsBy> {
    spec.rounds_by.clone().or(spec.script.rounds.map(|_| RoundsBy::Words(Vec::new())))
}

/// The order of a scenario, and its subject in words.
pub(super) fn of_scenario(spec: &ClientSpec, program: &str) -> (SubjectOrder, String) {
    let client = of_spec(spec, program);
    let words = match &spec.client {
        WhichClient::Command(words) => shell_words(words),
        WhichClient::Fake(_) => {
            let words = client.command.iter().skip(1).cloned();
            shell_words(&["scupper".to_owned()].into_iter().chain(words).collect::<Vec<_>>())
        }
    };
    (order(&client, spec.script.clone(), program), words)
}

/// A client of ours, which is told of its servers by a file, or of a URL.
fn fake_client(program: &str, transport: Transport, fake: &FakeSpec) -> Vec<String> {
    let mut words = vec![program.to_owned(), FAKE_CLIENT.to_owned()];
    words.extend(fake.arguments().into_iter().skip(1));
    let told = match transport {
        Transport::Stdio => ["--config", "{config}"],
        Transport::Http => ["--url", "{url}"],
    };
    words.extend(told.map(str::to_owned));
    words
}

/// Gives a case what is known of its client: how it ends, which era it speaks, how long its end takes.
pub fn calibrate(case: &mut Case, choices: &Choices, learned: &Learned) {
    case.order.era = learned.eras.first().copied().unwrap_or(Era::Legacy);
    if let SubjectOrder::Client(order) = &mut case.order.subject {
        let traits = learned.client.as_ref();
        order.ends_with_stdin = traits.and_then(|traits| traits.ends_with_stdin);
        order.requests = traits.map_or(0, |traits| traits.requests);
    }
    if choices.leak_timeout_ms.is_none() {
        case.order.patience = Patience::calibrated(learned.exit_ms.unwrap_or(0));
    }
}

/// The command that judges a client the same way again, of one lifecycle or all that were chosen.
pub fn command(only: Option<&str>, client: &Client, choices: &Choices) -> String {
    let mut words: Vec<String> = vec!["scupper".into(), "client".into()];
    if client.style != ConfigStyle::default() {
        words.extend(["--config-style".to_owned(), client.style.to_string()]);
    }
    match &client.rounds_by {
        Some(RoundsBy::Lines) => words.push("--long-lived".to_owned()),
        Some(RoundsBy::Words(given)) => {
            let option = |word: &String| format!("--rounds-arg={word}");
            words.extend(given.iter().map(option));
        }
        None => {}
    }
    words.extend(chosen(only, choices));
    format!("{} -- {}", shell_words(&words), shell_words(&client.command))
}

/// The canary and its clean twin.
pub fn canary(transport: Transport, choices: &Choices) -> [Case; 2] {
    [false, true].map(|fixed| {
        let fake = FakeSpec { name: "canary".into(), fixed, ..FakeSpec::default() };
        let command = fake_client(&choices.program, transport, &fake);
        let client = Client { command, style: ConfigStyle::Claude, rounds_by: None };
        let script = match transport {
            Transport::Stdio => client::canary(),
            Transport::Http => http::canary(),
        };
        let mut case = client_case(&client, script, choices);
        case.order.repeat = String::new();
        // What leaks on purpose is not waited for; only the twin needs patience, whatever the user's.
        case.order.patience = match fixed {
            true => Patience::calibrated(0),
            false => Patience::fixed(CANARY_PATIENCE_MS),
        };
        case
    })
}

fn order(client: &Client, script: Script, program: &str) -> SubjectOrder {
    SubjectOrder::Client(ClientOrder {
        command: client.command.clone(),
        style: client.style,
        script,
        ends_with_stdin: None,
        requests: 0,
        rounds_by: client.rounds_by.clone(),
        program: program.to_owned(),
    })
}

fn only_era(choices: &Choices) -> Option<Era> {
    match choices.era {
        EraChoice::Auto => None,
        EraChoice::Legacy => Some(Era::Legacy),
        EraChoice::Modern => Some(Era::Modern),
    }
}

fn client_case(
    client: &Client,
    (lifecycle, script): (Lifecycle, Script),
    choices: &Choices,
) -> Case {
    let repeat = command(Some(&lifecycle.id), client, choices);
    let subject = order(client, script, &choices.program);
    let words = shell_words(&client.command);
    let era = only_era(choices).unwrap_or(Era::Legacy);
    case(lifecycle, subject, words, choices, era, repeat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_are_for_clients_that_can_be_told_of_them() {
        let client = |words: &[&str]| Client {
            command: words.iter().map(|word| (*word).to_owned()).collect(),
            style: ConfigStyle::Claude,
            rounds_by: None,
        };
        assert!(client(&["host", "--config={config}"]).takes_two());
        assert!(client(&["host"]).takes_two());
        assert!(!client(&["client", "{server}"]).takes_two());
        assert!(!client(&["client", "{command}", "{args}"]).takes_two());
    }

    #[test]
    fn a_client_speaks_as_its_command_says_or_as_was_asked() {
        let transport = |words: &[&str], only: &[&str]| {
            let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
            let client =
                Client { command: text(words), style: ConfigStyle::Claude, rounds_by: None };
            client.transport(&Choices { only: text(only), ..super::super::tests::choices() })
        };
        assert_eq!(transport(&["client", "{server}"], &[]), Some(Transport::Stdio));
        assert_eq!(transport(&["client", "{url}"], &[]), Some(Transport::Http));
        for either in [&["host", "{config}"][..], &["host"], &["host", "{url}", "{server}"]] {
            assert_eq!(transport(either, &[]), Some(Transport::Stdio));
            assert_eq!(transport(either, &["client-http"]), Some(Transport::Http));
            let one = transport(either, &["client-http/redirect"]);
            assert_eq!(one, Some(Transport::Http));
            assert_eq!(transport(either, &["client-http", "clean-close"]), None);
        }
    }
}
