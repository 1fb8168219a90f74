//! What a well-formed scenario may still get wrong. Only what is certainly wrong is turned down:
//! where two branches run at once, or a server may have ended by itself, the benefit of the doubt
//! is given.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value;

use super::{Scenario, Subject, read::shortened, render};
use crate::{
    ledger::{
        snapshot::Kind,
        verdict::{Class, Verdict},
    },
    lifecycle::step::{Action, Condition, MAIN, Payload, Read, Signal, Step, Stream, Whom},
};

/// How large a scenario may be.
pub mod limits {
    use std::time::Duration;

    /// Bytes of a file.
    pub const FILE: usize = 1 << 20;
    /// Steps of a scenario, nested ones too.
    pub const STEPS: usize = 10_000;
    /// Steps played when every repetition is counted.
    pub const PLAYED: u64 = 1_000_000;
    /// Levels of steps: 1 is a list without `repeat` or `concurrently`.
    pub const DEPTH: usize = 8;
    /// Repetitions of a `repeat`.
    pub const TIMES: u32 = 10_000;
    /// Messages that a `read` waits for.
    pub const MESSAGES: u32 = 10_000;
    /// Bytes that `upto` may name.
    pub const UPTO: usize = 1 << 20;
    /// Longest `within`.
    pub const WITHIN: Duration = Duration::from_secs(600);
    /// Levels of `arguments` and `params`.
    pub const VALUE_DEPTH: usize = 32;
    /// Bytes of the name of a tool, a method, a fake or an option.
    pub const NAME: usize = 256;
    /// Bytes of the name of a connection.
    pub const CONNECTION: usize = 64;
    /// Bytes of a sentence: `why`, a rule, an option's value, a text to wait for.
    pub const SENTENCE: usize = 2_000;
    /// Bytes of an id.
    pub const ID: usize = 200;
}

/// One thing that is wrong with a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.place, self.message, self.help)
    }
}

/// Where in a scenario: the way down from the top of its file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place(pub Vec<Part>);

/// One part of a way down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A key of a table.
    Key(&'static str),
    /// An element of an array, from 0.
    Index(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for part in &self.0 {
            match part {
                Part::Key(key) => write!(f, "{separator}{key}")?,
                Part::Index(index) => write!(f, " {}", index + 1)?,
            }
            separator = ", ";
        }
        Ok(())
    }
}

/// Everything that is certainly wrong with a scenario, in its order. What passes can be written to
/// a file and read again.
pub fn check(scenario: &Scenario) -> Vec<Problem> {
    let mut checker = Checker::default();
    checker.head(scenario);
    checker.subject(&scenario.subject);
    checker.at(Part::Key("step"), |checker| {
        if scenario.lifecycle.steps.is_empty() {
            checker
                .problem("a scenario needs at least one step", "add [[step]] with do = \"open\"");
        }
        checker.size(&scenario.lifecycle.steps);
    });
    checker.at(Part::Key("expect"), |checker| checker.expectation(scenario));
    // The rest walks down the steps and writes them out, which the limits make safe.
    if !checker.too_large {
        let mut flow = Flow::default();
        checker.steps("step", &scenario.lifecycle.steps, &mut flow);
    }
    if checker.problems.is_empty() && render::render(scenario).len() > limits::FILE {
        checker.problem(
            format!("the scenario takes more than {} bytes as a file", limits::FILE),
            "make it shorter: repeat steps instead of listing them",
        );
    }
    checker.problems
}

#[derive(Default)]
struct Checker {
    place: Vec<Part>,
    problems: Vec<Problem>,
    /// Too large to walk down.
    too_large: bool,
    /// How many repeats around are in their second round.
    again: usize,
}

impl Checker {
    /// More are not worth looking for.
    const PROBLEMS: usize = 100;

    fn problem(&mut self, message: impl Into<String>, help: impl Into<String>) {
        let problem = Problem {
            place: Place(self.place.clone()),
            message: message.into(),
            help: help.into(),
        };
        // The second round of a repeat finds the problems of the first again.
        if self.problems.len() < Self::PROBLEMS && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn at<T>(&mut self, part: Part, inside: impl FnOnce(&mut Self) -> T) -> T {
        self.place.push(part);
        let result = inside(self);
        self.place.pop();
        result
    }

    fn problem_at(
        &mut self,
        key: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.at(Part::Key(key), |checker| checker.problem(message, help));
    }

    /// From 1 to `most` bytes.
    fn text(&mut self, key: &'static str, text: &str, most: usize) {
        if text.is_empty() || text.len() > most {
            self.problem_at(
                key,
                format!("`{key}` must have from 1 to {most} bytes"),
                format!("it has {}", text.len()),
            );
        }
    }

    fn head(&mut self, scenario: &Scenario) {
        let lifecycle = &scenario.lifecycle;
        let parts_are_plain = lifecycle
            .id
            .split('/')
            .all(|part| !matches!(part, "" | "." | "..") && part.chars().all(is_plain));
        if !parts_are_plain || lifecycle.id.len() > limits::ID {
            self.problem_at(
                "id",
                format!("`{}` is no id", shortened(&lifecycle.id)),
                format!(
                    "an id is words of letters, digits, `-`, `_` and `.`, separated by slashes, such as \
                     \"stdio/clean-close\", at most {} bytes",
                    limits::ID
                ),
            );
        }
        if lifecycle.why.trim().is_empty() {
            self.problem_at(
                "why",
                "`why` is empty",
                "say in one sentence which moment of a life this is and why it matters",
            );
        } else {
            self.text("why", &lifecycle.why, limits::SENTENCE);
        }
        if let Some(rule) = &lifecycle.rule {
            self.text("rule", rule, limits::SENTENCE);
        }
    }

    fn subject(&mut self, subject: &Subject) {
        self.place.push(Part::Key("subject"));
        match subject {
            Subject::Fake(spec) | Subject::Core(spec) => {
                let key = if matches!(subject, Subject::Fake(_)) { "fake" } else { "core" };
                if spec.name.is_empty()
                    || spec.name.len() > limits::NAME
                    || !spec.name.chars().all(is_plain)
                {
                    self.problem_at(
                        key,
                        format!("`{key}` must name a fake"),
                        "for example \"ignores-eof\"; `scupper list fakes` names them all",
                    );
                }
                for (name, value) in &spec.options {
                    let plain = !name.is_empty()
                        && name.len() <= limits::NAME
                        && name.chars().all(is_plain);
                    if !plain {
                        self.problem_at(
                            "options",
                            format!("`{}` is no name of an option", shortened(name)),
                            "a name has letters, digits, `-`, `_` and `.` only",
                        );
                    }
                    if value.len() > limits::SENTENCE || value.contains('\0') {
                        self.problem_at(
                            "options",
                            format!(
                                "the value of option `{}` cannot be passed on",
                                shortened(name)
                            ),
                            format!(
                                "it is for a command line: at most {} bytes, none of them NUL",
                                limits::SENTENCE
                            ),
                        );
                    }
                }
            }
            Subject::Command(words) => {
                if words.first().is_none_or(String::is_empty) {
                    self.problem_at(
                        "command",
                        "`command` names no program",
                        "for example command = [\"node\", \"server.js\"]",
                    );
                }
                if words.iter().any(|word| word.contains('\0')) {
                    self.problem_at(
                        "command",
                        "`command` has a NUL byte",
                        "no program can be given one; leave it out",
                    );
                }
            }
        }
        self.place.pop();
    }

    /// Whether there are too many steps, nested too deep, or repeated too often.
    fn size(&mut self, steps: &[Step]) {
        if !is_flat(steps, limits::DEPTH) {
            self.too_large = true;
            return self.problem(
                "steps are nested too deep",
                format!("at most {} levels of repeat and concurrently", limits::DEPTH - 1),
            );
        }
        let (listed, played) = count(steps);
        if listed > limits::STEPS {
            self.too_large = true;
            self.problem(
                format!("{listed} steps are too many"),
                format!("at most {}; repeat steps instead of listing them", limits::STEPS),
            );
        } else if played > limits::PLAYED {
            self.problem(
                format!("with every repetition counted, {played} steps would be played"),
                format!("at most {}; lower `times`", limits::PLAYED),
            );
        }
    }

    fn expectation(&mut self, scenario: &Scenario) {
        let expect = &scenario.expect;
        let mut leaks = false;
        for (index, finding) in expect.findings.iter().enumerate() {
            self.at(Part::Key("finding"), |checker| {
                checker.at(Part::Index(index), |checker| {
                    for (key, name) in
                        [("birth-step", &finding.birth_step), ("due-step", &finding.due_step)]
                    {
                        if let Some(name) = name {
                            checker.text(key, name, limits::SENTENCE);
                        }
                    }
                    if finding.class == Class::Leak && finding.kind == Kind::Memory {
                        checker.problem_at(
                            "kind",
                            "memory is never a leak, only ever advisory",
                            "add class = \"advisory\" to this finding",
                        );
                    }
                    if finding.class == Class::Leak && expect.verdict == Verdict::Clean {
                        checker.problem_at(
                            "class",
                            "a clean verdict has no leaks",
                            "take the finding out, add class = \"advisory\", or expect verdict = \"leak\"",
                        );
                    }
                })
            });
            leaks |= finding.class == Class::Leak;
        }
        if expect.verdict == Verdict::Leak && !leaks {
            self.problem_at(
                "verdict",
                "a leak is expected, but none is listed",
                "add [[expect.finding]] with kind = \"process\", say, and culprit = \"server\"",
            );
        }
        if expect.verdict == Verdict::Invalid {
            self.problem_at(
                "verdict",
                "no scenario can expect `invalid`: it says that the harness cannot see",
                "expect `clean`, `leak`, `failed` or `unknown`",
            );
        }
    }

    fn steps(&mut self, key: &'static str, steps: &[Step], flow: &mut Flow) {
        self.place.push(Part::Key(key));
        for (index, step) in steps.iter().enumerate() {
            self.at(Part::Index(index), |checker| {
                if checker.again == 0 {
                    checker.step_alone(step);
                }
                checker.step_in_flow(step, flow);
            });
        }
        self.place.pop();
    }

    /// What is wrong with a step wherever it stands.
    fn step_alone(&mut self, step: &Step) {
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
        match &step.action {
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
            Action::Send { payload, upto } => {
                if upto.is_some_and(|upto| upto > limits::UPTO) {
                    self.problem_at(
                        "upto",
                        format!("`upto` must be from 0 to {}", limits::UPTO),
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
            Action::Stall { stream: Stream::Stdin } | Action::Resume { stream: Stream::Stdin } => {
                self.problem_at(
                    "stream",
                    "a client does not read the server's stdin",
                    "stream is \"stdout\" or \"stderr\" here",
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
        if is_of_no_connection(&step.action) && connection != MAIN {
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

    /// What is wrong with a step after those before it.
    fn step_in_flow(&mut self, step: &Step, flow: &mut Flow) {
        match &step.action {
            Action::Repeat { times, steps } => {
                // What a second round may find, every later one finds too.
                self.steps("step", steps, flow);
                if *times > 1 {
                    self.again += 1;
                    self.steps("step", steps, flow);
                    self.again -= 1;
                }
            }
            Action::Concurrently { branches } => {
                self.place.push(Part::Key("branch"));
                let before = flow.clone();
                let mut ends = Vec::new();
                let changes: Vec<Changes> = branches.iter().map(|steps| changes(steps)).collect();
                for (index, steps) in branches.iter().enumerate() {
                    let others = changes.iter().enumerate().filter(|(other, _)| *other != index);
                    let mut own = before.clone();
                    others.for_each(|(_, changes)| own.blur(changes));
                    self.at(Part::Index(index), |checker| checker.steps("step", steps, &mut own));
                    ends.push(own);
                }
                self.place.pop();
                flow.join(&changes, &ends);
            }
            _ => {
                if let Some((message, help)) = flow.objection(step) {
                    self.problem_at("do", message, help);
                    // One objection is enough for a connection.
                    flow.lives.insert(step.connection.clone(), Life::Unsure);
                }
                flow.play(step);
            }
        }
    }
}

/// How far the life of a connection has come, as far as is certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Life {
    #[default]
    Unopened,
    Open,
    /// Opened, and something has been done that may have ended it.
    Unsure,
    /// The client has let go of it.
    Ended,
}

/// What is certain of all connections at one step.
#[derive(Debug, Clone, Default)]
struct Flow {
    lives: BTreeMap<String, Life>,
    /// Connections whose stdin another process may hold.
    held: BTreeSet<String>,
}

impl Flow {
    fn life(&self, connection: &str) -> Life {
        self.lives.get(connection).copied().unwrap_or_default()
    }

    /// Why this step cannot stand here, and what would help.
    fn objection(&self, step: &Step) -> Option<(String, String)> {
        let name = &step.connection;
        let open = if name == MAIN {
            "{ do = \"open\" }".to_owned()
        } else {
            format!("{{ do = \"open\", connection = \"{name}\" }}")
        };
        if matches!(step.action, Action::Shutdown) {
            let none = self.lives.values().all(|life| *life == Life::Unopened);
            return none
                .then(|| ("nothing is open here".to_owned(), format!("add a step {open} before")));
        }
        let life = self.life(name);
        match (&step.action, life) {
            (Action::Open, Life::Open) => Some((
                format!("connection `{name}` is open already"),
                "end it before (close, drop or kill the client), or give this one another name: \
                 connection = \"b\""
                    .to_owned(),
            )),
            (Action::Open, _) => None,
            (_, Life::Unopened) => Some((
                format!("connection `{name}` is not open here"),
                format!("add a step {open} before"),
            )),
            (Action::ReleaseStdin, _) if !self.held.contains(name) => Some((
                format!("nobody holds the stdin of connection `{name}` here"),
                "add a step { do = \"hold-stdin\" } before".to_owned(),
            )),
            (
                Action::WaitFor { .. }
                | Action::Kill { .. }
                | Action::Signal { .. }
                | Action::ReleaseStdin,
                _,
            ) => None,
            (action, Life::Ended) => Some((
                format!("connection `{name}` has ended before this {}", verb(action)),
                format!(
                    "only open, wait-for, kill, signal, release-stdin and shutdown can follow; add a \
                     step {open} before"
                ),
            )),
            _ => None,
        }
    }

    fn play(&mut self, step: &Step) {
        if matches!(step.action, Action::Shutdown) {
            let opened = self.lives.values_mut().filter(|life| **life != Life::Unopened);
            opened.for_each(|life| *life = Life::Ended);
            return;
        }
        let name = &step.connection;
        match (&step.action, change(&step.action)) {
            (Action::HoldStdin, _) => {
                self.held.insert(name.clone());
            }
            (Action::ReleaseStdin, _) => {
                self.held.remove(name);
            }
            (_, Some(Life::Unsure)) if self.life(name) != Life::Open => {}
            (_, Some(life)) => {
                self.lives.insert(name.clone(), life);
            }
            (_, None) => {}
        }
    }

    /// Something else may do this at any moment.
    fn blur(&mut self, changes: &Changes) {
        if changes.shutdown {
            let opened = self.lives.values_mut().filter(|life| **life != Life::Unopened);
            opened.for_each(|life| *life = Life::Unsure);
        }
        for name in &changes.lives {
            self.lives.insert(name.clone(), Life::Unsure);
        }
        self.held.extend(changes.holds.iter().cloned());
    }

    /// All branches have come to their ends. What only one of them changed is as it left it.
    fn join(&mut self, changes: &[Changes], ends: &[Flow]) {
        let names: BTreeSet<&String> = ends.iter().flat_map(|end| end.lives.keys()).collect();
        for name in names {
            let changed =
                |changes: &Changes| changes.shutdown || changes.lives.contains(name.as_str());
            let mut changers = ends.iter().zip(changes).filter(|(_, changes)| changed(changes));
            let life = match (changers.next(), changers.next()) {
                (None, _) => continue,
                (Some((end, _)), None) => end.life(name),
                (Some(_), Some(_)) => Life::Unsure,
            };
            self.lives.insert(name.clone(), life);
        }
        for end in ends {
            self.held.extend(end.held.iter().cloned());
        }
    }
}

/// What a list of steps may change.
#[derive(Debug, Default)]
struct Changes {
    lives: BTreeSet<String>,
    holds: BTreeSet<String>,
    shutdown: bool,
}

fn changes(steps: &[Step]) -> Changes {
    let mut all = Changes::default();
    let mut add = |step: &Step| match &step.action {
        Action::Shutdown => all.shutdown = true,
        Action::HoldStdin => {
            all.holds.insert(step.connection.clone());
        }
        action if change(action).is_some() => {
            all.lives.insert(step.connection.clone());
        }
        _ => {}
    };
    each(steps, &mut add);
    all
}

/// What a step makes of the life of its connection.
fn change(action: &Action) -> Option<Life> {
    Some(match action {
        Action::Open => Life::Open,
        Action::Close | Action::Drop => Life::Ended,
        Action::Kill { whom: Whom::Client }
        | Action::Signal { whom: Whom::Client, signal: Signal::Kill } => Life::Ended,
        Action::Signal { signal: Signal::Stop | Signal::Cont, .. } => return None,
        Action::Kill { .. }
        | Action::Signal { .. }
        | Action::HalfClose { .. }
        | Action::WaitFor { .. }
        | Action::Read { what: Read::End } => Life::Unsure,
        _ => return None,
    })
}

fn each(steps: &[Step], visit: &mut impl FnMut(&Step)) {
    for step in steps {
        visit(step);
        inside(&step.action).for_each(|steps| each(steps, visit));
    }
}

/// The lists of steps inside a step.
fn inside(action: &Action) -> impl Iterator<Item = &[Step]> {
    let (repeated, branches): (Option<&[Step]>, &[Vec<Step>]) = match action {
        Action::Repeat { steps, .. } => (Some(steps), &[]),
        Action::Concurrently { branches } => (None, branches),
        _ => (None, &[]),
    };
    repeated.into_iter().chain(branches.iter().map(Vec::as_slice))
}

/// At most so many levels of steps.
fn is_flat(steps: &[Step], most: usize) -> bool {
    most > 0
        && steps.iter().flat_map(|step| inside(&step.action)).all(|steps| is_flat(steps, most - 1))
}

/// Steps listed, and steps played.
fn count(steps: &[Step]) -> (usize, u64) {
    let mut listed = steps.len();
    let mut played = steps.len() as u64;
    for step in steps {
        let times = match step.action {
            Action::Repeat { times, .. } => u64::from(times),
            _ => 1,
        };
        for (inner_listed, inner_played) in inside(&step.action).map(count) {
            listed += inner_listed;
            played = played.saturating_add(inner_played.saturating_mul(times));
        }
    }
    (listed, played)
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

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// What a step is called in the key `do`.
pub(super) fn verb(action: &Action) -> &'static str {
    match action {
        Action::Open => "open",
        Action::Handshake { .. } => "handshake",
        Action::Call { .. } => "call",
        Action::Request { .. } => "request",
        Action::Notify { .. } => "notify",
        Action::Send { .. } => "send",
        Action::Read { .. } => "read",
        Action::HalfClose { .. } => "half-close",
        Action::Close => "close",
        Action::Drop => "drop",
        Action::Cancel => "cancel",
        Action::Kill { .. } => "kill",
        Action::Signal { .. } => "signal",
        Action::Stall { .. } => "stall",
        Action::Resume { .. } => "resume",
        Action::HoldStdin => "hold-stdin",
        Action::ReleaseStdin => "release-stdin",
        Action::WaitFor { .. } => "wait-for",
        Action::Concurrently { .. } => "concurrently",
        Action::Repeat { .. } => "repeat",
        Action::Shutdown => "shutdown",
    }
}
