//! Generated lifecycles as cases: on a host inside the cell, or on any stdio server.

use crate::cell::protocol::{Learned, Role};
use crate::lifecycle::battery::{self, Call};
use crate::lifecycle::enact::{self, on_a_host};
use crate::lifecycle::generate::Generated;
use crate::lifecycle::scenario::Embedded;
use crate::lifecycle::step::Era;

use super::{
    Case, Choices, Server, calibrate, case, embedded, knowledge, server_case, shell_words,
};

/// The id of a lifecycle that has no name yet.
const UNNAMED: &str = "generated";

/// On whom the lifecycles of a campaign are played with real processes.
#[derive(Debug, Clone)]
pub enum Player {
    /// A host that is played inside the cell, by its name.
    Host(String),
    /// Any server, which was looked at.
    Server {
        /// The server.
        server: Server,
        /// What the first look has shown.
        learned: Box<Learned>,
        /// The era that it speaks.
        era: Era,
    },
}

impl Player {
    /// The case of a lifecycle; none where nothing of it can be done to the subject.
    pub fn case(&self, generated: &Generated, choices: &Choices) -> Option<Case> {
        let repeat =
            || format!("scupper campaign --lifecycle {}{}", generated.code(), self.words(choices));
        match self {
            Player::Host(name) => {
                let lifecycle = on_a_host(generated, UNNAMED);
                let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
                let options = enact::OPTIONS.into_iter().map(own).collect();
                let host = Embedded { name: name.clone(), options };
                let (subject, words) = embedded(Role::Host, &host, &choices.program);
                Some(case(lifecycle, subject, words, choices, Era::Legacy, repeat()))
            }
            Player::Server { server, learned, era } => {
                let known = knowledge(choices, learned, *era);
                let lifecycle = battery::on_a_server(generated, &known, UNNAMED);
                if lifecycle.steps.is_empty() {
                    return None;
                }
                let mut case = server_case(lifecycle, server, choices, *era);
                calibrate(&mut case, choices, learned);
                case.order.repeat = repeat();
                Some(case)
            }
        }
    }

    /// The rest of a command that plays on it.
    pub fn words(&self, choices: &Choices) -> String {
        match self {
            Player::Host(name) if name == "core" => " --real".to_owned(),
            Player::Host(name) => format!(" --subject {name}"),
            Player::Server { server, .. } => {
                let call = |Call { tool, arguments }: &Call| format!("{tool}={arguments}");
                let calls = choices.calls.iter().map(call);
                let words: Vec<String> =
                    calls.flat_map(|call| ["--call".to_owned(), call]).collect();
                let gap = if words.is_empty() { "" } else { " " };
                format!("{gap}{} -- {}", shell_words(&words), server.words)
            }
        }
    }

    /// Who is judged.
    pub fn subject(&self) -> String {
        match self {
            Player::Host(name) => format!("host {name}, with real servers"),
            Player::Server { server, .. } => server.words.clone(),
        }
    }
}
