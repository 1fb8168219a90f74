//! The cases of `scupper client`. Pure.

use super::{Case, Choices, FakeSpec, Patience, case, chosen, shell_words};
use crate::cell::protocol::{ClientOrder, Learned, SubjectOrder};
use crate::lifecycle::client::{self, ConfigStyle, Knowledge, RoundsBy, Script, Traits};
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

impl Client {
    /// Whether it may come to know of two servers: by a file, or by a variable that names one.
    fn takes_two(&self) -> bool {
        let names = |place: &str| self.command.iter().any(|word| word.contains(place));
        names("{config}") || !["{server}", "{command}", "{args}"].into_iter().any(names)
    }
}

/// The first look at a client, from which the rest of the battery is made.
pub fn first_look(client: &Client, choices: &Choices) -> Case {
    let mut case = client_case(client, client::first_look(only_era(choices)), choices);
    case.order.first_look = true;
    case
}

/// The rest of the battery.
pub fn battery(client: &Client, choices: &Choices, learned: &Learned) -> Vec<Case> {
    let known = Knowledge {
        traits: learned.client.clone().unwrap_or_default(),
        takes_two: client.takes_two(),
        era: only_era(choices),
        rounds: client.rounds_by.is_some().then_some(choices.cycles),
    };
    client::battery(&known)
        .into_iter()
        .filter(|(lifecycle, _)| lifecycle.id != client::FIRST_LOOK && choices.wants(&lifecycle.id))
        .map(|life| calibrated(client, life, choices, learned))
        .collect()
}

/// The clean life of a byte sweep, of which every byte is counted.
pub fn counted(client: &Client, choices: &Choices, learned: &Learned) -> Case {
    calibrated(client, client::counted(only_era(choices)), choices, learned)
}

/// One point of a byte sweep.
pub fn cut(client: &Client, choices: &Choices, learned: &Learned, point: &Point) -> Case {
    calibrated(client, client::cut(point, only_era(choices)), choices, learned)
}

/// A case with what the first look has learned.
fn calibrated(
    client: &Client,
    (mut lifecycle, script): (Lifecycle, Script),
    choices: &Choices,
    learned: &Learned,
) -> Case {
    let era = learned.eras.first().copied().unwrap_or(Era::Legacy);
    lifecycle.rule = Some(client::rule(era).to_owned());
    let mut case = client_case(client, (lifecycle, script), choices);
    case.order.era = era;
    if let SubjectOrder::Client(order) = &mut case.order.subject {
        order.ends_with_stdin = learned.client.as_ref().and_then(|traits| traits.ends_with_stdin);
    }
    if choices.leak_timeout_ms.is_none() {
        case.order.patience = Patience::calibrated(learned.exit_ms.unwrap_or(0));
    }
    case
}

/// Every lifecycle that some client can come to, for messages and lists.
pub fn whole_battery() -> Vec<Lifecycle> {
    client::of_any().into_iter().map(|(lifecycle, _)| lifecycle).collect()
}

/// The wanted lifecycles that a client with these traits does not come to.
pub fn left_out(client: &Client, choices: &Choices, traits: &Traits) -> Vec<String> {
    let known = Knowledge {
        traits: traits.clone(),
        takes_two: client.takes_two(),
        era: None,
        rounds: client.rounds_by.is_some().then_some(choices.cycles),
    };
    let played: Vec<String> =
        client::battery(&known).into_iter().map(|(lifecycle, _)| lifecycle.id).collect();
    let whole = whole_battery().into_iter().map(|lifecycle| lifecycle.id);
    whole.filter(|id| choices.wants(id) && !played.contains(id)).collect()
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
pub fn canary(choices: &Choices) -> [Case; 2] {
    [false, true].map(|fixed| {
        let fake = FakeSpec { name: "canary".into(), fixed, ..FakeSpec::default() };
        let mut words = vec![choices.program.clone(), FAKE_CLIENT.to_owned()];
        words.extend(fake.arguments().into_iter().skip(1));
        words.extend(["--config", "{config}"].map(str::to_owned));
        let client = Client { command: words, style: ConfigStyle::Claude, rounds_by: None };
        let mut case = client_case(&client, client::canary(), choices);
        case.order.repeat = String::new();
        // What leaks on purpose is not waited for; only the twin needs patience, whatever the user's.
        case.order.patience = match fixed {
            true => Patience::calibrated(0),
            false => Patience::fixed(CANARY_PATIENCE_MS),
        };
        case
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
    let subject = SubjectOrder::Client(ClientOrder {
        command: client.command.clone(),
        style: client.style,
        script,
        ends_with_stdin: None,
        rounds_by: client.rounds_by.clone(),
        program: choices.program.clone(),
    });
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
}
