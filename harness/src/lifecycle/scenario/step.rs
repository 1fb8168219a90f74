//! What is wrong with a step wherever it stands.

use serde_json::Value;

use super::{
    check::{Checker, Part, is_plain, limits},
    embedded::Sort,
    read::shortened,
    render,
    words::verb,
};
use crate::lifecycle::step::{Action, Condition, MAIN, Payload, Read, Step, Stream};

impl Checker {
    /// What is wrong with a step wherever it stands.
    pub(super) fn step_alone(&mut self, step: &Step) {
        if let Some(within) = step.within {
            let whole = within.subsec_nanos().is_multiple_of(1_000_000);
            if within.is_zero() || within > limits::WITHIN || !whole {
                self.problem_at(
                    "within",
                    "`within` must be from \"1ms\" to \"10m\"",
                    "take it out for the default of this kind of step",
                );
            }
        }
        let connection = &step.connection;
        if connection.is_empty()
            || connection.len() > limits::CONNECTION
            || !connection.chars().all(is_plain)
        {
            self.problem_at(
                "connection",
                format!("`{}` is no name of a connection", shortened(connection)),
                format!(
                    "a name has letters, digits, `-`, `_` and `.` only, at most {} of them",
                    limits::CONNECTION
                ),
            );
        }
        self.sort_of_step(step);
        match &step.action {
            Action::Add { server, .. } => self.fake_spec("server", server),
            Action::Call { tool, arguments, .. } => {
                self.text("tool", tool, limits::NAME);
                if !arguments.is_object() {
                    self.problem_at(
                        "arguments",
                        "`arguments` must be an object",
                        "for example arguments = { text = \"hello\" }",
                    );
                }
                self.value("arguments", arguments);
            }
            Action::Request { method, params, .. } | Action::Notify { method, params } => {
                self.text("method", method, limits::NAME);
                if !(params.is_object() || params.is_array() || params.is_null()) {
                    self.problem_at(
                        "params",
                        "`params` must be an object or an array",
                        "for example params = { level = \"debug\" }; leave it out for none",
                    );
                }
                self.value("params", params);
            }
            Action::ListAll { method, pages } => {
                self.text("method", method, limits::NAME);
                if *pages == 0 || *pages > limits::PAGES {
                    self.problem_at(
                        "pages",
                        format!("`pages` must be from 1 to {}", limits::PAGES),
                        "take it out for the default",
                    );
                }
            }
            Action::Send { payload, upto } => {
                let (most, whole) = match payload {
                    Payload::Text(text) => (text.len().min(limits::UPTO), "bytes of the text"),
                    Payload::Handshake => (limits::UPTO, "bytes"),
                };
                if upto.is_some_and(|upto| upto == 0 || upto > most) && most > 0 {
                    self.problem_at(
                        "upto",
                        format!("`upto` must be from 1 to {most} {whole}"),
                        "take it out to send all of it",
                    );
                }
                if let Payload::Text(text) = payload
                    && text.is_empty()
                {
                    self.problem_at("text", "`text` is empty", "name the bytes to send");
                }
            }
            Action::Read { what: Read::Messages(count) }
                if *count == 0 || *count > limits::MESSAGES =>
            {
                self.problem_at(
                    "messages",
                    format!("`messages` must be from 1 to {}", limits::MESSAGES),
                    "what = \"answers\" waits for all answers",
                );
            }
            Action::Stall { stream: Stream::Stdin } => {
                self.problem_at(
                    "stream",
                    "a client does not read the server's stdin",
                    "stream is \"stdout\" or \"stderr\" here",
                );
            }
            Action::Cut { stream, bytes } => {
                if *stream == Stream::Stderr {
                    self.problem_at(
                        "stream",
                        "messages do not go through stderr",
                        "stream is \"stdin\" or \"stdout\" here",
                    );
                }
                if *bytes > limits::CUT {
                    self.problem_at(
                        "bytes",
                        format!("`bytes` must be at most {}", limits::CUT),
                        "a cut later than that is none of a handshake or a first call",
                    );
                }
            }
            Action::Pause { time } if *time > limits::PAUSE => {
                self.problem_at(
                    "time",
                    format!("`time` must be at most {} s", limits::PAUSE.as_secs()),
                    "for example time = \"50ms\"",
                );
            }
            Action::WaitFor { condition: Condition::Stderr(text) } => {
                self.text("stderr", text, limits::SENTENCE);
            }
            Action::Repeat { times, steps } => {
                if *times == 0 || *times > limits::TIMES {
                    self.problem_at(
                        "times",
                        format!("`times` must be from 1 to {}", limits::TIMES),
                        "for example times = 20",
                    );
                }
                if steps.is_empty() {
                    self.problem(
                        "nothing to repeat",
                        "put [[step.step]] below it, with do = \"…\"",
                    );
                }
            }
            Action::Concurrently { branches } => {
                if branches.is_empty() {
                    self.problem(
                        "no branches",
                        "put [[step.branch]] below it, and [[step.branch.step]] below that",
                    );
                }
                if branches.len() > limits::BRANCHES {
                    self.problem(
                        format!("{} branches are too many", branches.len()),
                        format!("at most {}", limits::BRANCHES),
                    );
                }
                for (index, branch) in branches.iter().enumerate() {
                    if branch.is_empty() {
                        self.at(Part::Key("branch"), |checker| {
                            checker.at(Part::Index(index), |checker| {
                                checker.problem(
                                    "a branch without steps",
                                    "put [[step.branch.step]] below it, with do = \"…\"",
                                );
                            });
                        });
                    }
                }
            }
            _ => {}
        }
        let is_keeper = self.sort != Sort::Stdio && matches!(step.action, Action::Shutdown);
        if is_of_no_connection(&step.action) && connection != MAIN && !is_keeper {
            self.problem_at(
                "connection",
                format!("`{}` is not about one connection", verb(&step.action)),
                "name the connection on the steps inside, or take it out",
            );
        }
    }

    /// That a JSON value comes back the same from a file.
    fn value(&mut self, key: &'static str, value: &Value) {
        if !is_shallow(value, limits::VALUE_DEPTH) {
            return self.problem_at(
                key,
                format!("`{key}` is nested too deep"),
                format!("at most {} levels", limits::VALUE_DEPTH),
            );
        }
        let json = || serde_json::from_str::<Value>(&value.to_string());
        if render::needs_json(value) && !json().is_ok_and(|again| again == *value) {
            self.problem_at(
                key,
                format!("`{key}` holds a number that does not survive being written as JSON"),
                "use fewer digits",
            );
        }
    }
}

fn is_shallow(value: &Value, most: usize) -> bool {
    most > 0
        && match value {
            Value::Array(values) => values.iter().all(|value| is_shallow(value, most - 1)),
            Value::Object(values) => values.values().all(|value| is_shallow(value, most - 1)),
            _ => true,
        }
}

fn is_of_no_connection(action: &Action) -> bool {
    matches!(action, Action::Repeat { .. } | Action::Concurrently { .. } | Action::Shutdown)
}
