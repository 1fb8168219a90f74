//! What a well-formed scenario may still get wrong. Only what is certainly wrong is turned down:
//! where two branches run at once, or a server may have ended by itself, the benefit of the doubt
//! is given.

use std::{collections::BTreeSet, fmt};

use super::{
    FakeSpec, HttpStart, Scenario, Subject,
    embedded::Sort,
    flow::{Changes, Flow, changes, inside},
    read::shortened,
    render,
};
use crate::lifecycle::embedded::{EmbeddedInfo, HOSTS, SERVICES, find};
use crate::lifecycle::step::{Action, EraChoice, Step};

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
    /// Branches of a `concurrently`.
    pub const BRANCHES: usize = 256;
    /// Repetitions of a `repeat`.
    pub const TIMES: u32 = 10_000;
    /// Fewest repetitions over which growth is judged.
    pub const GROWTH: u32 = 6;
    /// Pages of a `list-all`.
    pub const PAGES: u32 = 10_000;
    /// Messages that a `read` waits for.
    pub const MESSAGES: u32 = 10_000;
    /// Bytes that `upto` may name.
    pub const UPTO: usize = 1 << 20;
    /// Bytes after which a cut may come.
    pub const CUT: u64 = 1 << 30;
    /// Longest `pause`.
    pub const PAUSE: Duration = Duration::from_secs(60);
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
    let mut checker = Checker { sort: Sort::of(&scenario.subject), ..Checker::default() };
    checker.info = match &scenario.subject {
        Subject::Host(host) => find(HOSTS, &host.name),
        Subject::Service(service) => find(SERVICES, &service.name),
        _ => None,
    };
    checker.head(scenario);
    checker.subject(&scenario.subject);
    if checker.sort == Sort::Client && scenario.lifecycle.era != EraChoice::Auto {
        checker.problem_at(
            "era",
            "a client chooses the era that it speaks",
            "take it out; `era` of a [[script.server]] or of [script.service] is the only one that this server speaks",
        );
    }
    checker.at(Part::Key("step"), |checker| {
        if scenario.lifecycle.steps.is_empty() && checker.sort != Sort::Client {
            checker
                .problem("a scenario needs at least one step", "add [[step]] with do = \"open\"");
        }
        checker.size(&scenario.lifecycle.steps);
    });
    // The rest walks down the steps and writes them out, which the limits make safe.
    if !checker.too_large {
        checker.at(Part::Key("expect"), |checker| checker.expectation(scenario));
        let mut flow = Flow::default();
        checker.steps("step", &scenario.lifecycle.steps, &mut flow);
        if checker.sort != Sort::Stdio && checker.problems.is_empty() {
            checker.at(Part::Key("step"), |checker| {
                checker.embedded_flow(&scenario.lifecycle.steps, &mut BTreeSet::new());
            });
        }
    }
    if checker.problems.is_empty() && render::render(scenario).len() > limits::FILE {
        checker.problem(
            format!("the scenario takes more than {} bytes as a file", limits::FILE),
            "make it shorter: repeat steps instead of listing them",
        );
    }
    checker.problems
}

/// The problems so far, and where it is looking.
#[derive(Default)]
pub(super) struct Checker {
    place: Vec<Part>,
    problems: Vec<Problem>,
    /// Too large to walk down.
    too_large: bool,
    /// What sort of subject the steps are for.
    pub(super) sort: Sort,
    /// The host or service, where it is one that is known.
    pub(super) info: Option<&'static EmbeddedInfo>,
    /// How many repeats around are in their second round.
    again: usize,
}

impl Checker {
    /// More are not worth looking for.
    const PROBLEMS: usize = 100;

    pub(super) fn problem(&mut self, message: impl Into<String>, help: impl Into<String>) {
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

    pub(super) fn at<T>(&mut self, part: Part, inside: impl FnOnce(&mut Self) -> T) -> T {
        self.place.push(part);
        let result = inside(self);
        self.place.pop();
        result
    }

    pub(super) fn problem_at(
        &mut self,
        key: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.at(Part::Key(key), |checker| checker.problem(message, help));
    }

    /// From 1 to `most` bytes.
    pub(super) fn text(&mut self, key: &'static str, text: &str, most: usize) {
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
                self.fake_spec(key, spec);
            }
            Subject::Host(host) => self.embedded("host", host),
            Subject::Service(service) => self.embedded("service", service),
            Subject::Http(server) => {
                match &server.start {
                    HttpStart::Command(words) => self.command("command", words),
                    HttpStart::Fake(spec) => self.fake_spec("fake", spec),
                }
                self.url(server);
            }
            Subject::Command(words) => self.command("command", words),
            Subject::Client(_) => {}
        }
        self.place.pop();
        if let Subject::Client(spec) = subject {
            self.client(spec);
        }
    }

    pub(super) fn command(&mut self, key: &'static str, words: &[String]) {
        if words.first().is_none_or(String::is_empty) {
            self.problem_at(
                key,
                format!("`{key}` names no program"),
                format!("for example {key} = [\"node\", \"{key}.js\"]"),
            );
        }
        if words.iter().any(|word| word.contains('\0')) {
            self.problem_at(
                key,
                format!("`{key}` has a NUL byte"),
                "no program can be given one; leave it out",
            );
        }
    }

    pub(super) fn fake_spec(&mut self, key: &'static str, spec: &FakeSpec) {
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
            let plain =
                !name.is_empty() && name.len() <= limits::NAME && name.chars().all(is_plain);
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
                    format!("the value of option `{}` cannot be passed on", shortened(name)),
                    format!(
                        "it is for a command line: at most {} bytes, none of them NUL",
                        limits::SENTENCE
                    ),
                );
            }
        }
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
            // More are turned down already, and take long.
            Action::Concurrently { branches } if branches.len() <= limits::BRANCHES => {
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
            Action::Concurrently { .. } => {}
            // Hosts and services have a flow of their own.
            _ if self.sort != Sort::Stdio => {}
            _ => {
                if let Some((message, help)) = flow.objection(step) {
                    self.problem_at("do", message, help);
                    flow.excuse(&step.connection);
                }
                flow.play(step);
            }
        }
    }
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

pub(super) fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}
