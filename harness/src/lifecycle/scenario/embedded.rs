//! What a scenario of a host or a service may get wrong: steps of another sort of subject, names
//! and options that there are not, things used before they are up.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Embedded, Subject,
    check::{Checker, Part},
    flow::inside,
    mistake::{list, nearest},
    read::shortened,
    words::verb,
};
use crate::lifecycle::{
    embedded::{EmbeddedInfo, HOSTS, SERVICES, find},
    step::{Action, Condition, MAIN, Step, Whom},
};

/// What sort of subject a scenario is about: each has steps of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    /// A stdio server, or our core as a stdio client.
    #[default]
    Stdio,
    /// A host.
    Host,
    /// A service.
    Service,
    /// A client, whose steps are its own.
    Client,
}

impl Sort {
    pub(super) fn of(subject: &Subject) -> Self {
        match subject {
            Subject::Fake(_) | Subject::Command(_) | Subject::Core(_) => Sort::Stdio,
            Subject::Host(_) => Sort::Host,
            Subject::Service(_) => Sort::Service,
            Subject::Client(_) => Sort::Client,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Sort::Stdio => "a stdio server, and our core as its client",
            Sort::Host => "a host",
            Sort::Service => "a service",
            Sort::Client => "a client",
        }
    }

    fn verbs(self) -> &'static [&'static str] {
        match self {
            Sort::Stdio => &["open", "handshake", "call", "close", "drop", "kill"],
            Sort::Client => &[],
            Sort::Host => &[
                "start",
                "add",
                "call",
                "request",
                "remove",
                "health",
                "kill",
                "signal",
                "wait-for",
                "drop",
                "shutdown",
                "repeat",
                "concurrently",
            ],
            Sort::Service => &[
                "start",
                "open",
                "handshake",
                "call",
                "request",
                "list-all",
                "listen",
                "delete",
                "reset",
                "silence",
                "drop",
                "wait-for",
                "shutdown",
                "repeat",
                "concurrently",
            ],
        }
    }

    fn takes(self, action: &Action) -> bool {
        let is_embedded_only = matches!(
            action,
            Action::Start { .. }
                | Action::Add { .. }
                | Action::Remove
                | Action::Health
                | Action::Listen
                | Action::Delete
                | Action::Reset
                | Action::Silence
        );
        match self {
            Sort::Stdio => !is_embedded_only,
            Sort::Host | Sort::Service | Sort::Client => self.verbs().contains(&verb(action)),
        }
    }
}

/// Which host or service a name is about: `b` for `b.files`, the first one for a name without a dot.
pub(crate) fn keeper(connection: &str) -> &str {
    connection.split_once('.').map_or(MAIN, |(keeper, _)| keeper)
}

/// The step is about a whole host or service, not about a connection of it.
fn is_of_a_whole(sort: Sort, action: &Action) -> bool {
    matches!(action, Action::Start { .. } | Action::Shutdown | Action::Health)
        || (sort == Sort::Host && matches!(action, Action::Drop))
}

impl Checker {
    pub(super) fn embedded(&mut self, key: &'static str, embedded: &Embedded) {
        let all = if key == "host" { HOSTS } else { SERVICES };
        let Some(info) = find(all, &embedded.name) else {
            let names: Vec<&str> = all.iter().map(|info| info.name).collect();
            let guess = match nearest(&embedded.name, &names) {
                Some(near) => format!("did you mean `{near}`? "),
                None => String::new(),
            };
            return self.problem_at(
                key,
                format!("there is no {key} `{}`", shortened(&embedded.name)),
                format!(
                    "{guess}a {key} is one of {}; `scupper list subjects` says what each does",
                    list(&names)
                ),
            );
        };
        self.options_of(info, &embedded.options);
    }

    fn options_of(&mut self, info: &EmbeddedInfo, options: &BTreeMap<String, String>) {
        let known: Vec<&str> = info.options.iter().map(|(key, _, _)| *key).collect();
        for (name, value) in options {
            let Some((key, default, _)) = info.options.iter().find(|(key, _, _)| key == name)
            else {
                let guess = match nearest(name, &known) {
                    Some(near) => format!("did you mean `{near}`? "),
                    None => String::new(),
                };
                self.problem_at(
                    "options",
                    format!("`{}` has no option `{}`", info.name, shortened(name)),
                    format!("{guess}it has {}", list(&known)),
                );
                continue;
            };
            // What an option takes is what its default is: a duration, a number or a word.
            let is_duration = |text: &str| duration_ms(text).is_some();
            let is_number = |text: &str| text.parse::<u32>().is_ok();
            let fits = if is_duration(default) {
                is_duration(value)
            } else if is_number(default) {
                is_number(value)
            } else {
                words_of(key).contains(&value.as_str())
            };
            if !fits {
                self.problem_at(
                    "options",
                    format!("option `{key}` cannot be \"{}\"", shortened(value)),
                    format!("for example {key} = \"{default}\""),
                );
            }
        }
    }

    /// Steps of another sort of subject.
    pub(super) fn sort_of_step(&mut self, step: &Step) {
        let sort = self.sort;
        let action = &step.action;
        if !sort.takes(action) {
            return self.problem_at(
                "do",
                format!("`{}` is no step of {}", verb(action), sort.words()),
                format!("such a scenario has {}", list(sort.verbs())),
            );
        }
        if step.fails && sort == Sort::Stdio {
            self.problem_at(
                "fails",
                "`fails` is for steps of a host or a service",
                "take it out; a server that refuses is an expectation: verdict = \"failed\"",
            );
        }
        if sort == Sort::Stdio {
            return;
        }
        match action {
            Action::Kill { whom } | Action::Signal { whom, .. } if *whom != Whom::Server => self
                .problem_at(
                    "whom",
                    "a host's clients are no processes of their own",
                    "whom = \"server\" is the process that the host started",
                ),
            Action::WaitFor { condition } if *condition != Condition::Gone => self.problem_at(
                "condition",
                format!("{} waits for `gone` only", sort.words()),
                "condition = \"gone\": until nothing of the connection is left",
            ),
            Action::Start { options } => {
                if let Some(info) = self.info {
                    self.options_of(info, options);
                }
            }
            _ => {}
        }
    }

    /// What is used before it is up, step by step. Where branches run at once, the benefit of the
    /// doubt is given.
    pub(super) fn embedded_flow(&mut self, steps: &[Step], known: &mut BTreeSet<String>) {
        let sort = self.sort;
        for (index, step) in steps.iter().enumerate() {
            self.at(Part::Index(index), |checker| {
                let name = &step.connection;
                if matches!(step.action, Action::Repeat { .. } | Action::Concurrently { .. }) {
                    return checker.embedded_inside(step, known);
                }
                if let Action::Start { .. } = step.action {
                    known.insert(format!("{name}."));
                    return;
                }
                let whole = is_of_a_whole(sort, &step.action);
                let keeper = if whole { name.as_str() } else { keeper(name) };
                if !known.contains(&format!("{keeper}.")) {
                    let which = match keeper == MAIN {
                        true => "{ do = \"start\" }".to_owned(),
                        false => format!("{{ do = \"start\", connection = \"{keeper}\" }}"),
                    };
                    // One problem is enough: from here on both get the benefit of the doubt.
                    known.extend([format!("{keeper}."), name.clone()]);
                    return checker.problem_at(
                        "do",
                        format!("{} `{keeper}` is not up here", &sort.words()[2..]),
                        format!("add a step {which} before"),
                    );
                }
                let begins = match sort {
                    Sort::Host => matches!(step.action, Action::Add { .. }),
                    _ => matches!(step.action, Action::Open),
                };
                if begins {
                    known.insert(name.clone());
                } else if !whole && !step.fails && !known.contains(name) {
                    let verb = if sort == Sort::Host { "add" } else { "open" };
                    known.insert(name.clone());
                    checker.problem_at(
                        "do",
                        format!("connection `{name}` is not there yet"),
                        format!("add a step {{ do = \"{verb}\", connection = \"{name}\" }} before"),
                    );
                }
            });
        }
    }

    fn embedded_inside(&mut self, step: &Step, known: &mut BTreeSet<String>) {
        match &step.action {
            Action::Repeat { steps, .. } => {
                self.at(Part::Key("step"), |checker| checker.embedded_flow(steps, known));
            }
            action => self.at(Part::Key("branch"), |checker| {
                let before = known.clone();
                for (index, branch) in inside(action).enumerate() {
                    let mut own = before.clone();
                    checker.at(Part::Index(index), |checker| {
                        checker.at(Part::Key("step"), |checker| {
                            checker.embedded_flow(branch, &mut own);
                        });
                    });
                    known.extend(own);
                }
            }),
        }
    }
}

/// The words that an option takes, where it takes words.
fn words_of(key: &str) -> &'static [&'static str] {
    match key {
        "cursors" => &["memory", "sqlite", "redis"],
        "scoped" | "restart" => &["no", "yes"],
        "failing-step" => &["none", "devtools", "cursors"],
        _ => &[],
    }
}

/// `500ms`, `2s`, `1m` in milliseconds.
pub(crate) fn duration_ms(text: &str) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(unit_at);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit_ms)
}
