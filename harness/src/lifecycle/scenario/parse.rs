//! From TOML to a scenario, by hand along the spanned tree: serde knows neither all mistakes at
//! once nor the places of most of them.

use std::{ops::Range, time::Duration};

use serde_json::{Map, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Expectation, ExpectedFinding, Scenario, ScenarioError, Subject,
    check::{Part, Place, Problem, check, limits},
    mistake::{Mistake, list, nearest},
    nesting::too_deep,
    read::{FILE, Reader, TOP, Table, shortened},
    syntax,
    words::{COMMON, STEPS},
};
use crate::{
    ledger::{
        snapshot::Kind,
        verdict::{Class, Culprit, Verdict},
    },
    lifecycle::step::{
        Action, Condition, EraChoice, HandshakePoint, Lifecycle, MAIN, PAGES, Payload, Read,
        Signal, Step, Stream, Transport, Whom,
    },
};

/// Between one byte and the next of a `trickle` that names no pause.
const TRICKLE: Duration = Duration::from_millis(10);

/// Reads a scenario. `path` is for messages and, where the file has no `id`, the id: what follows
/// `scenarios/`, without `.toml`.
///
/// # Errors
/// Every mistake in the file, each with its place and what would be right.
pub fn parse(path: &str, text: &str) -> Result<Scenario, ScenarioError> {
    parse_with(path, text, |_| Vec::new())
}

/// As [`parse`], for a caller who knows more than a file can: what `unknown` finds wrong with a
/// scenario that is well-formed is a mistake in the file too.
///
/// # Errors
/// Every mistake in the file, each with its place and what would be right.
pub fn parse_with(
    path: &str,
    text: &str,
    unknown: impl Fn(&Scenario) -> Vec<Problem>,
) -> Result<Scenario, ScenarioError> {
    let fail = |mistakes| Err(ScenarioError::new(path, text, mistakes));
    if text.len() > limits::FILE {
        return fail(vec![Mistake::new(
            0..0,
            format!("the file has {} bytes", text.len()),
            "too large",
            format!("a scenario has at most {} bytes", limits::FILE),
        )]);
    }
    if let Some(at) = too_deep(text) {
        return fail(vec![Mistake::new(
            at..at,
            "the file is nested too deep",
            "too deep here",
            format!(
                "steps have at most {} levels, `arguments` and `params` at most {}",
                limits::DEPTH,
                limits::VALUE_DEPTH
            ),
        )]);
    }
    let root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(error) => {
            return fail(vec![syntax::mistake(text, &error)]);
        }
    };
    let mut reader = Reader::default();
    let scenario = reader.scenario(path, root.get_ref(), text.len());
    if reader.mistakes.is_empty() {
        for problem in check(&scenario).into_iter().chain(unknown(&scenario)) {
            let span = locate(root.get_ref(), &problem.place);
            reader.mistake(span, problem.message, "here", problem.help);
        }
    }
    if reader.mistakes.is_empty() { Ok(scenario) } else { fail(reader.mistakes) }
}

impl Reader {
    fn scenario(&mut self, path: &str, keys: &DeTable<'_>, end: usize) -> Scenario {
        let top = Table { keys, span: 0..0, name: FILE.to_owned() };
        // What comes last in a file is missing at its end.
        let bottom = Table { span: end..end, ..top.clone() };
        self.only(&top, TOP);
        let id = self.optional_string(&top, "id", "id = \"stdio/clean-close\"");
        let why = self.required_string(
            &top,
            "why",
            "why = \"one sentence: which moment of a life this is and why it matters\"",
        );
        let rule = self.optional_string(&top, "rule", "rule = \"2026-07-28 stdio N9\"");
        let era =
            top.get("era").map(|item| self.word(item, "era", words!(EraChoice), EraChoice::Auto));
        let subject = self.subject(&top);
        let steps = match &subject {
            Subject::Client(_) => self.no_steps(&top),
            _ => {
                self.no_script(&top);
                self.steps(&bottom, "step", "[[step]] with do = \"open\"")
            }
        };
        let expect = self.expectation(&bottom);
        let id = id.unwrap_or_else(|| id_of(path));
        let era = era.unwrap_or_default();
        Scenario { lifecycle: Lifecycle { id, why, rule, era, steps }, subject, expect }
    }

    /// A client's steps are its own.
    fn no_steps(&mut self, top: &Table<'_>) -> Vec<Step> {
        if let Some((key, _)) = top.keys.get_key_value("step") {
            self.mistake(
                key.span(),
                "a client has no [[step]]: its steps are its own",
                "not for a client",
                "what it is given, and what is done to it, stands in [script]",
            );
        }
        Vec::new()
    }

    fn no_script(&mut self, top: &Table<'_>) {
        if let Some((key, _)) = top.keys.get_key_value("script") {
            self.mistake(
                key.span(),
                "[script] is for a client",
                "not for this subject",
                "write what is done as [[step]], or judge a client: [subject] with client = \
                 [\"python\", \"client.py\", \"{command}\", \"{args}\"]",
            );
        }
    }

    fn steps(&mut self, table: &Table<'_>, key: &str, example: &str) -> Vec<Step> {
        let Some(item) = self.required(table, key, example) else { return Vec::new() };
        let items = self.array(item, key, "a list of tables, written [[…]]", example);
        let tables = items.iter().filter_map(|item| self.table(item, key, example, "a step"));
        let tables: Vec<Table<'_>> = tables.collect();
        tables.into_iter().filter_map(|table| self.step(table)).collect()
    }

    fn step(&mut self, mut table: Table<'_>) -> Option<Step> {
        let names: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
        let item = self.required(&table, "do", "do = \"open\", or another step")?;
        let verb = self.string(item, "do", "do = \"open\"");
        let Some((verb, own)) = STEPS.iter().find(|(name, _)| *name == verb) else {
            if item.get_ref().is_str() {
                let label = match nearest(&verb, &names) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => "not known".to_owned(),
                };
                self.mistake(
                    item.span(),
                    format!("there is no step `{}`", shortened(&verb)),
                    label,
                    format!("the steps are {}", list(&names)),
                );
            }
            return None;
        };
        table.name = format!("step `{verb}`");
        // For most missing keys this is a better place than the header.
        table.span = item.span();
        self.only(&table, &[COMMON, own].concat());
        let connection = self.optional_string(&table, "connection", "connection = \"b\"");
        let within = self.duration(&table, "within");
        let fails = self.bool_or(&table, "fails", false);
        let action = self.action(verb, &table)?;
        let connection = connection.unwrap_or_else(|| MAIN.to_owned());
        Some(Step { connection, within, fails, action })
    }

    /// The action of a step whose name is in [`STEPS`].
    fn action(&mut self, verb: &str, table: &Table<'_>) -> Option<Action> {
        Some(match verb {
            "open" => Action::Open,
            "handshake" => Action::Handshake {
                until: table.get("until").map_or(HandshakePoint::default(), |item| {
                    self.word(item, "until", words!(HandshakePoint), HandshakePoint::Ready)
                }),
            },
            "call" => Action::Call {
                tool: self.required_string(table, "tool", "tool = \"echo\""),
                arguments: table
                    .get("arguments")
                    .map_or_else(|| Value::Object(Map::new()), |item| self.json(item, "arguments")),
                wait: self.bool_or(table, "wait", true),
            },
            "request" => Action::Request {
                method: self.required_string(table, "method", "method = \"tools/list\""),
                params: self.params(table),
                wait: self.bool_or(table, "wait", true),
            },
            "list-all" => Action::ListAll {
                method: self.required_string(table, "method", "method = \"tools/list\""),
                pages: table
                    .get("pages")
                    .map_or(PAGES, |item| self.number(item, "pages", "pages = 20")),
            },
            "notify" => Action::Notify {
                method: self.required_string(
                    table,
                    "method",
                    "method = \"notifications/roots/list_changed\"",
                ),
                params: self.params(table),
            },
            "send" => return self.send(table),
            "read" => return self.read(table),
            "half-close" => Action::HalfClose { stream: self.stream(table) },
            "close" => Action::Close,
            "drop" => Action::Drop,
            "cancel" => Action::Cancel,
            "kill" => Action::Kill { whom: self.whom(table) },
            "signal" => Action::Signal {
                signal: self.required_word(table, "signal", words!(Signal), Signal::Term),
                whom: self.whom(table),
            },
            "stall" => Action::Stall { stream: self.stream(table) },
            "resume" => Action::Resume { stream: self.stream(table) },
            "cut" => Action::Cut {
                stream: self.stream(table),
                bytes: self
                    .required(table, "bytes", "bytes = 37")
                    .map_or(0, |item| self.number(item, "bytes", "bytes = 37").into()),
            },
            "pause" => {
                self.required(table, "time", "time = \"50ms\"")?;
                Action::Pause { time: self.duration(table, "time")? }
            }
            "hold-stdin" => Action::HoldStdin,
            "release-stdin" => Action::ReleaseStdin,
            "wait-for" => return self.wait_for(table),
            "concurrently" => Action::Concurrently { branches: self.branches(table) },
            "repeat" => Action::Repeat {
                times: self
                    .required(table, "times", "times = 20")
                    .map_or(1, |item| self.number(item, "times", "times = 20")),
                steps: self.steps(table, "step", "[[step.step]] below it, with do = \"…\""),
            },
            "shutdown" => Action::Shutdown,
            "start" => Action::Start {
                options: table.get("options").map(|item| self.options(item)).unwrap_or_default(),
            },
            "add" => Action::Add {
                server: self.fake(table, "server"),
                transport: table.get("transport").map_or(Transport::default(), |item| {
                    self.word(item, "transport", words!(Transport), Transport::Stdio)
                }),
                replace: self.bool_or(table, "replace", false),
                wait: self.bool_or(table, "wait", true),
            },
            "remove" => Action::Remove,
            "health" => Action::Health,
            "listen" => Action::Listen,
            "delete" => Action::Delete,
            "reset" => Action::Reset,
            "silence" => Action::Silence,
            "abandon" => Action::Abandon,
            "join" => Action::Join {
                session_of: self.optional_string(table, "session-of", "session-of = \"a\""),
            },
            "flood" => Action::Flood {
                method: self.required_string(table, "method", "method = \"tools/list\""),
                times: self
                    .required(table, "times", "times = 100")
                    .map_or(1, |item| self.number(item, "times", "times = 100")),
            },
            "trickle" => Action::Trickle {
                payload: self.payload(table)?,
                pause: self.duration(table, "pause").unwrap_or(TRICKLE),
            },
            other => unreachable!("{other} is in the list of steps and not here"),
        })
    }

    fn params(&mut self, table: &Table<'_>) -> Value {
        let Some(item) = table.get("params") else { return Value::Null };
        let params = self.json(item, "params");
        if params.is_null() {
            self.mistake(item.span(), "`params` is null", "leave it out", "no params, no key");
        }
        params
    }

    fn send(&mut self, table: &Table<'_>) -> Option<Action> {
        let payload = self.payload(table)?;
        let upto = table.get("upto").map(|item| self.number(item, "upto", "upto = 37") as usize);
        Some(Action::Send { payload, upto })
    }

    fn payload(&mut self, table: &Table<'_>) -> Option<Payload> {
        Some(match self.one_of(table, &["text", "payload"], "text = \"{}\\n\"")? {
            "text" => Payload::Text(self.required_string(table, "text", "text = \"{}\\n\"")),
            _ => self
                .required_word(
                    table,
                    "payload",
                    &[("handshake", &Payload::Handshake)],
                    &Payload::Handshake,
                )
                .clone(),
        })
    }

    fn read(&mut self, table: &Table<'_>) -> Option<Action> {
        let what = match self.one_of(table, &["what", "messages"], "what = \"answers\"")? {
            "what" => {
                let words = &[("answers", Read::Answers), ("end", Read::End)];
                self.required_word(table, "what", words, Read::Answers)
            }
            key => {
                let item = self.required(table, key, "messages = 3")?;
                Read::Messages(self.number(item, key, "messages = 3"))
            }
        };
        Some(Action::Read { what })
    }

    fn wait_for(&mut self, table: &Table<'_>) -> Option<Action> {
        let condition =
            match self.one_of(table, &["condition", "stderr"], "condition = \"exited\"")? {
                "stderr" => {
                    Condition::Stderr(self.required_string(table, "stderr", "stderr = \"ready\""))
                }
                _ => {
                    let words = &[("exited", &Condition::Exited), ("gone", &Condition::Gone)];
                    self.required_word(table, "condition", words, &Condition::Exited).clone()
                }
            };
        Some(Action::WaitFor { condition })
    }

    fn branches(&mut self, table: &Table<'_>) -> Vec<Vec<Step>> {
        const EXAMPLE: &str = "[[step.branch]] below it, and [[step.branch.step]] below that";
        let Some(item) = self.required(table, "branch", EXAMPLE) else { return Vec::new() };
        let items = self.array(item, "branch", "a list of tables, written [[…]]", EXAMPLE);
        let mut branches = Vec::new();
        for item in items {
            let Some(branch) = self.table(item, "branch", EXAMPLE, "a branch") else { continue };
            if branch.has("do") && !branch.has("step") {
                // Whoever writes one branch so writes all of them so.
                self.mistake(
                    branch.span,
                    "a branch of `concurrently` is a list of steps, and this one is a step",
                    "its steps go one level deeper",
                    "[[step.branch]] begins a branch and has no keys of its own; below it, write \
                     [[step.branch.step]] with do = \"…\" for every step of the branch",
                );
                return branches;
            }
            self.only(&branch, &["step"]);
            branches.push(self.steps(&branch, "step", "[[step.branch.step]] below it"));
        }
        branches
    }

    fn expectation(&mut self, top: &Table<'_>) -> Expectation {
        const EXAMPLE: &str = "[expect] with verdict = \"clean\"";
        let mut expect = Expectation { verdict: Verdict::Clean, findings: Vec::new() };
        let Some(item) = self.required(top, "expect", EXAMPLE) else { return expect };
        let Some(table) = self.table(item, "expect", EXAMPLE, "[expect]") else { return expect };
        self.only(&table, &["verdict", "finding"]);
        let verdicts: Vec<(&str, Verdict)> = Verdict::ALL
            .iter()
            .filter(|verdict| **verdict != Verdict::Invalid)
            .map(|verdict| (verdict.as_str(), *verdict))
            .collect();
        expect.verdict = self.required_word(&table, "verdict", &verdicts, Verdict::Clean);
        if let Some(item) = table.get("finding") {
            const EXAMPLE: &str = "[[expect.finding]] with kind = \"process\"";
            let items = self.array(item, "finding", "a list of tables, written [[…]]", EXAMPLE);
            for item in items {
                if let Some(table) = self.table(item, "finding", EXAMPLE, "[[expect.finding]]") {
                    expect.findings.push(self.finding(&table));
                }
            }
        }
        expect
    }

    fn finding(&mut self, table: &Table<'_>) -> ExpectedFinding {
        self.only(table, &["class", "kind", "culprit", "birth-step", "due-step"]);
        let classes = &[("leak", Class::Leak), ("advisory", Class::Advisory)];
        ExpectedFinding {
            class: table
                .get("class")
                .map_or(Class::Leak, |item| self.word(item, "class", classes, Class::Leak)),
            kind: self.required_word(table, "kind", words!(Kind), Kind::Process),
            culprit: table
                .get("culprit")
                .map(|item| self.word(item, "culprit", words!(Culprit), Culprit::Server)),
            birth_step: self.optional_string(table, "birth-step", "birth-step = \"call echo\""),
            due_step: self.optional_string(table, "due-step", "due-step = \"half-close stdin\""),
        }
    }

    fn stream(&mut self, table: &Table<'_>) -> Stream {
        self.required_word(table, "stream", words!(Stream), Stream::Stdin)
    }

    fn whom(&mut self, table: &Table<'_>) -> Whom {
        self.required_word(table, "whom", words!(Whom), Whom::Server)
    }

    pub(super) fn required_word<T: Copy>(
        &mut self,
        table: &Table<'_>,
        key: &str,
        words: &[(&'static str, T)],
        stand_in: T,
    ) -> T {
        let spellings: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let example = format!("{key} = {}", spellings.join(" or "));
        match self.required(table, key, &example) {
            Some(item) => self.word(item, key, words, stand_in),
            None => stand_in,
        }
    }

    /// The one key that is there of several that exclude each other.
    pub(super) fn one_of(
        &mut self,
        table: &Table<'_>,
        keys: &[&'static str],
        example: &str,
    ) -> Option<&'static str> {
        let present: Vec<&'static str> =
            keys.iter().copied().filter(|key| table.has(key)).collect();
        match present[..] {
            [key] => return Some(key),
            [] => self.mistake(
                table.span.clone(),
                format!("{} has none of {}", table.name, list(keys)),
                "one of them is missing",
                format!("add one, for example {example}"),
            ),
            [.., last] => self.mistake(
                table.keys.get_key_value(last).map_or(table.span.clone(), |(key, _)| key.span()),
                format!("{} has {} at once", table.name, list(&present)),
                "one too many",
                format!("keep one of {}", list(keys)),
            ),
        }
        None
    }
}

/// Where in the file a problem is: as far down its place as the file goes.
fn locate(root: &DeTable<'_>, place: &Place) -> Range<usize> {
    let mut span = 0..0;
    let mut table = Some(root);
    let mut array: Option<&[Spanned<DeValue<'_>>]> = None;
    for part in &place.0 {
        let item = match part {
            Part::Key(key) => table.and_then(|table| table.get(*key)),
            Part::Index(index) => array.and_then(|array| array.get(*index)),
        };
        let Some(item) = item else { break };
        span = item.span();
        table = item.get_ref().as_table();
        array = item.get_ref().as_array().map(|array| &array[..]);
    }
    span
}

/// The path below `scenarios/` without `.toml`, or the name of the file; what an id cannot hold
/// becomes a dash.
fn id_of(path: &str) -> String {
    let path = path.replace('\\', "/");
    let below = match path.rsplit_once("scenarios/") {
        Some((before, below)) if before.is_empty() || before.ends_with('/') => below,
        _ => path.rsplit('/').next().unwrap_or_default(),
    };
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/') { c } else { '-' }
    };
    let id: String = below.strip_suffix(".toml").unwrap_or(below).chars().map(plain).collect();
    let parts = id.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
    let mut id = parts.collect::<Vec<_>>().join("/");
    id.truncate(limits::ID);
    let id = id.trim_end_matches(['/', '.']);
    if id.is_empty() { "scenario".to_owned() } else { id.to_owned() }
}
