//! What a scenario of a host or a service may get wrong: steps of another sort of subject, names
//! and options that there are not, things used before they are up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{
    Embedded, HttpServer, Subject,
    check::{Checker, Part, limits},
    flow::inside,
    mistake::{list, nearest},
    read::shortened,
    words::verb,
};
use crate::lifecycle::{
    embedded::{EmbeddedInfo, HOSTS, SERVICES, find},
    endpoint::{Endpoint, header_parts},
    step::{Action, Condition, MAIN, Payload, Read, Step, Stream, Whom},
};

/// Longest pause between two bytes of a `trickle`.
const PAUSE: Duration = Duration::from_secs(1);

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
    /// An HTTP server that is started by its command.
    Http,
}

impl Sort {
    pub(super) fn of(subject: &Subject) -> Self {
        match subject {
            Subject::Fake(_) | Subject::Command(_) | Subject::Core(_) => Sort::Stdio,
            Subject::Host(_) => Sort::Host,
            Subject::Service(_) => Sort::Service,
            Subject::Client(_) => Sort::Client,
            Subject::Http(_) => Sort::Http,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Sort::Stdio => "a stdio server, and our core as its client",
            Sort::Host => "a host",
            Sort::Service => "a service",
            Sort::Client => "a client",
            Sort::Http => "an HTTP server",
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
            Sort::Http => HTTP_STEPS,
            Sort::Service => &[
                "start",
                "open",
                "handshake",
                "call",
                "request",
                "list-all",
                "listen",
                "cancel",
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
                | Action::Abandon
                | Action::Join { .. }
                | Action::Flood { .. }
                | Action::Trickle { .. }
        );
        match self {
            Sort::Stdio => !is_embedded_only,
            Sort::Host | Sort::Service | Sort::Http | Sort::Client => {
                self.verbs().contains(&verb(action))
            }
        }
    }
}

/// The steps of an HTTP server.
const HTTP_STEPS: &[&str] = &[
    "start",
    "open",
    "handshake",
    "call",
    "request",
    "list-all",
    "notify",
    "send",
    "trickle",
    "flood",
    "read",
    "listen",
    "join",
    "cancel",
    "abandon",
    "cut",
    "half-close",
    "pause",
    "stall",
    "resume",
    "silence",
    "delete",
    "close",
    "drop",
    "reset",
    "kill",
    "signal",
    "wait-for",
    "shutdown",
    "repeat",
    "concurrently",
];

/// Which host or service a name is about: `b` for `b.files`, the first one for a name without a dot.
pub(crate) fn keeper(connection: &str) -> &str {
    connection.split_once('.').map_or(MAIN, |(keeper, _)| keeper)
}

/// The step is about a whole host or service, not about a connection of it.
fn is_of_a_whole(sort: Sort, action: &Action) -> bool {
    matches!(action, Action::Start { .. } | Action::Shutdown | Action::Health)
        || (sort == Sort::Http
            && matches!(
                action,
                Action::WaitFor { .. }
                    | Action::Signal { .. }
                    | Action::Kill { whom: Whom::Server | Whom::Group }
            ))
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
        self.stream_of_step(action);
        if sort == Sort::Stdio {
            return;
        }
        if sort == Sort::Http {
            return self.http_step(step);
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

    /// Streams of another sort of subject.
    fn stream_of_step(&mut self, action: &Action) {
        let sort = self.sort;
        let (Action::HalfClose { stream }
        | Action::Stall { stream }
        | Action::Resume { stream }
        | Action::Cut { stream, .. }) = action
        else {
            return;
        };
        let (of_http, help): (&[Stream], &str) = match action {
            Action::Cut { .. } => (
                &[Stream::Requests, Stream::Responses],
                "stream is \"requests\", what the client sends, or \"responses\", what it reads",
            ),
            Action::HalfClose { .. } => {
                (&[Stream::Requests], "a client half-closes what it sends: stream = \"requests\"")
            }
            _ => (&[Stream::Events], "stream = \"events\" is what an HTTP server sends"),
        };
        let of_stdio = [Stream::Stdin, Stream::Stdout, Stream::Stderr];
        let (fits, help) = match sort {
            Sort::Http => (of_http.contains(stream), help),
            _ => (of_stdio.contains(stream), "stream is \"stdin\", \"stdout\" or \"stderr\" here"),
        };
        if !fits {
            self.problem_at("stream", format!("{} has no such stream", sort.words()), help);
        }
    }

    fn http_step(&mut self, step: &Step) {
        match &step.action {
            Action::Read { what: Read::Messages(_) } => self.problem_at(
                "messages",
                "messages of an HTTP server are not counted",
                "what = \"answers\" waits for all answers, what = \"end\" for the end of all streams",
            ),
            Action::Signal { whom: Whom::Client, .. } => self.problem_at(
                "whom",
                "a client of an HTTP server is signalled by no one",
                "{ do = \"kill\", whom = \"client\" } ends its process",
            ),
            Action::Start { options } if !options.is_empty() => self.problem_at(
                "options",
                "an HTTP server is started as [subject] says",
                "take `options` out",
            ),
            Action::Flood { method, times } => {
                self.text("method", method, limits::NAME);
                if *times == 0 || *times > limits::TIMES {
                    self.problem_at(
                        "times",
                        format!("`times` must be from 1 to {}", limits::TIMES),
                        "for example times = 100",
                    );
                }
            }
            Action::Trickle { payload, pause } => {
                let whole = pause.subsec_nanos().is_multiple_of(1_000_000);
                if pause.is_zero() || *pause > PAUSE || !whole {
                    self.problem_at(
                        "pause",
                        "`pause` must be from \"1ms\" to \"1s\"",
                        "take it out for 10 ms",
                    );
                }
                if *payload == Payload::Text(String::new()) {
                    self.problem_at("text", "`text` is empty", "name the bytes to send");
                }
            }
            _ => {}
        }
    }

    /// Where an HTTP server is reached.
    pub(super) fn url(&mut self, server: &HttpServer) {
        if let Err(problem) = Endpoint::at(&server.url, 1) {
            self.problem_at(
                "url",
                problem.to_string(),
                "for example \"http://127.0.0.1:{port}/mcp\"",
            );
        }
        let ttl = server.session_ttl;
        if ttl.is_some_and(|ttl| ttl.is_zero() || ttl > limits::WITHIN) {
            self.problem_at(
                "session-ttl",
                "`session-ttl` must be from \"1ms\" to \"10m\"",
                "take it out",
            );
        }
        for header in &server.headers {
            if let Err(problem) = header_parts(header) {
                self.problem_at("headers", problem, "for example \"Authorization: Bearer $TOKEN\"");
            }
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
                    let keeper = if sort == Sort::Http { MAIN } else { name };
                    known.insert(format!("{keeper}."));
                    return;
                }
                let whole = is_of_a_whole(sort, &step.action);
                let keeper = match sort {
                    // There is one, and its clients need not name it.
                    Sort::Http => MAIN,
                    _ if whole => name.as_str(),
                    _ => keeper(name),
                };
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
        "scoped" | "restart" | "strays" | "overstays" | "guard" | "admin" => &["no", "yes"],
        "era" => &["auto", "initialize"],
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
