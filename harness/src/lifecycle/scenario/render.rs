//! A scenario as TOML that people like to read: defaults left out, nested steps indented.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use serde_json::Value;

use super::{
    Embedded, ExpectedFinding, FakeSpec, HttpServer, HttpStart, Scenario, Subject, words::verb,
};
use crate::{
    ledger::verdict::Class,
    lifecycle::step::{
        Action, Condition, EraChoice, HandshakePoint, MAIN, PAGES, Payload, Read, Step, Transport,
    },
};

/// The scenario as a file. What [`check`](super::check()) passes comes back the same from
/// [`parse`](super::parse()).
pub fn render(scenario: &Scenario) -> String {
    let lifecycle = &scenario.lifecycle;
    let mut page = Page::default();
    page.pair("id", &string(&lifecycle.id));
    page.pair("why", &string(&lifecycle.why));
    if let Some(rule) = &lifecycle.rule {
        page.pair("rule", &string(rule));
    }
    if lifecycle.era != EraChoice::default() {
        page.pair("era", &string(lifecycle.era.as_str()));
    }
    page.header("[subject]");
    match &scenario.subject {
        Subject::Fake(spec) => page.fake("fake", spec),
        Subject::Core(spec) => page.fake("core", spec),
        Subject::Host(embedded) => page.embedded("host", embedded),
        Subject::Service(embedded) => page.embedded("service", embedded),
        Subject::Client(spec) => {
            page.client(spec);
            page.script(&spec.script);
        }
        Subject::Command(words) => page.command(words),
        Subject::Http(server) => page.http(server),
    }
    page.steps("step", &lifecycle.steps);
    page.header("[expect]");
    page.pair("verdict", &string(scenario.expect.verdict.as_str()));
    for finding in &scenario.expect.findings {
        page.finding(finding);
    }
    page.text
}

/// An expected finding alone, as it stands in a file.
pub fn render_finding(finding: &ExpectedFinding) -> String {
    let mut page = Page::default();
    page.finding(finding);
    page.text.trim().to_owned()
}

#[derive(Default)]
pub(super) struct Page {
    text: String,
    indent: usize,
}

impl Page {
    fn line(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{:1$}{line}", "", self.indent * 2);
    }

    pub(super) fn header(&mut self, header: &str) {
        self.text.push('\n');
        self.line(header);
    }

    pub(super) fn pair(&mut self, key: &str, value: &str) {
        self.line(&format!("{key} = {value}"));
    }

    pub(super) fn fake(&mut self, key: &str, spec: &FakeSpec) {
        self.pair(key, &string(&spec.name));
        if spec.fixed {
            self.pair("fixed", "true");
        }
        self.options(&spec.options);
    }

    fn command(&mut self, words: &[String]) {
        self.pair("command", &array(words.iter().map(|word| string(word))));
    }

    fn http(&mut self, server: &HttpServer) {
        match &server.start {
            HttpStart::Command(words) => self.command(words),
            HttpStart::Fake(spec) => self.fake("fake", spec),
        }
        self.pair("url", &string(&server.url));
        if let Some(ttl) = server.session_ttl {
            self.pair("session-ttl", &duration(ttl));
        }
        if !server.headers.is_empty() {
            self.pair("headers", &array(server.headers.iter().map(|header| string(header))));
        }
    }

    fn embedded(&mut self, key: &str, embedded: &Embedded) {
        self.pair(key, &string(&embedded.name));
        self.options(&embedded.options);
    }

    fn options(&mut self, options: &BTreeMap<String, String>) {
        if !options.is_empty() {
            let pairs = options.iter().map(|(name, value)| (name, string(value)));
            self.pair("options", &table(pairs));
        }
    }

    fn steps(&mut self, path: &str, steps: &[Step]) {
        for step in steps {
            self.step(path, step);
        }
    }

    fn step(&mut self, path: &str, step: &Step) {
        self.header(&format!("[[{path}]]"));
        self.pair("do", &string(verb(&step.action)));
        if step.connection != MAIN {
            self.pair("connection", &string(&step.connection));
        }
        if let Some(within) = step.within {
            self.pair("within", &duration(within));
        }
        if step.fails {
            self.pair("fails", "true");
        }
        match &step.action {
            Action::Open
            | Action::Close
            | Action::Drop
            | Action::Cancel
            | Action::HoldStdin
            | Action::ReleaseStdin
            | Action::Shutdown
            | Action::Remove
            | Action::Health
            | Action::Listen
            | Action::Delete
            | Action::Reset
            | Action::Silence
            | Action::Abandon => {}
            Action::Start { options } => self.options(options),
            Action::Add { server, transport, replace, wait } => {
                self.fake("server", server);
                if *transport != Transport::default() {
                    self.pair("transport", &string(transport.as_str()));
                }
                if *replace {
                    self.pair("replace", "true");
                }
                self.wait(*wait);
            }
            Action::Handshake { until } => {
                if *until != HandshakePoint::default() {
                    self.pair("until", &string(until.as_str()));
                }
            }
            Action::Call { tool, arguments, wait } => {
                self.pair("tool", &string(tool));
                if arguments.as_object().is_none_or(|object| !object.is_empty()) {
                    self.pair("arguments", &json(arguments));
                }
                self.wait(*wait);
            }
            Action::Request { method, params, wait } => {
                self.request(method, params);
                self.wait(*wait);
            }
            Action::ListAll { method, pages } => {
                self.pair("method", &string(method));
                if *pages != PAGES {
                    self.pair("pages", &pages.to_string());
                }
            }
            Action::Notify { method, params } => self.request(method, params),
            Action::Join { session_of } => {
                if let Some(name) = session_of {
                    self.pair("session-of", &string(name));
                }
            }
            Action::Flood { method, times } => {
                self.pair("method", &string(method));
                self.pair("times", &times.to_string());
            }
            Action::Trickle { payload, pause } => {
                self.payload(payload);
                self.pair("pause", &duration(*pause));
            }
            Action::Send { payload, upto } => {
                self.payload(payload);
                if let Some(upto) = upto {
                    self.pair("upto", &upto.to_string());
                }
            }
            Action::Read { what } => match what {
                Read::Answers => self.pair("what", &string("answers")),
                Read::End => self.pair("what", &string("end")),
                Read::Messages(count) => self.pair("messages", &count.to_string()),
            },
            Action::HalfClose { stream } | Action::Stall { stream } | Action::Resume { stream } => {
                self.pair("stream", &string(stream.as_str()));
            }
            Action::Cut { stream, bytes } => {
                self.pair("stream", &string(stream.as_str()));
                self.pair("bytes", &bytes.to_string());
            }
            Action::Pause { time } => self.pair("time", &duration(*time)),
            Action::Kill { whom } => self.pair("whom", &string(whom.as_str())),
            Action::Signal { signal, whom } => {
                self.pair("signal", &string(signal.as_str()));
                self.pair("whom", &string(whom.as_str()));
            }
            Action::WaitFor { condition } => match condition {
                Condition::Exited => self.pair("condition", &string("exited")),
                Condition::Gone => self.pair("condition", &string("gone")),
                Condition::Stderr(text) => self.pair("stderr", &string(text)),
            },
            Action::Repeat { times, steps } => {
                self.pair("times", &times.to_string());
                self.indent += 1;
                self.steps(&format!("{path}.step"), steps);
                self.indent -= 1;
            }
            Action::Concurrently { branches } => {
                self.indent += 1;
                for branch in branches {
                    self.header(&format!("[[{path}.branch]]"));
                    self.indent += 1;
                    self.steps(&format!("{path}.branch.step"), branch);
                    self.indent -= 1;
                }
                self.indent -= 1;
            }
        }
    }

    fn request(&mut self, method: &str, params: &Value) {
        self.pair("method", &string(method));
        if !params.is_null() {
            self.pair("params", &json(params));
        }
    }

    fn payload(&mut self, payload: &Payload) {
        match payload {
            Payload::Handshake => self.pair("payload", &string("handshake")),
            Payload::Text(text) => self.pair("text", &string(text)),
        }
    }

    fn wait(&mut self, wait: bool) {
        if !wait {
            self.pair("wait", "false");
        }
    }

    fn finding(&mut self, finding: &ExpectedFinding) {
        self.header("[[expect.finding]]");
        if finding.class == Class::Advisory {
            self.pair("class", &string("advisory"));
        }
        self.pair("kind", &string(finding.kind.as_str()));
        if let Some(culprit) = finding.culprit {
            self.pair("culprit", &string(culprit.as_str()));
        }
        for (key, name) in [("birth-step", &finding.birth_step), ("due-step", &finding.due_step)] {
            if let Some(name) = name {
                self.pair(key, &string(name));
            }
        }
    }
}

fn duration(duration: Duration) -> String {
    string(&duration_word(duration))
}

/// A duration as scenarios and command lines have it: in the largest unit that leaves a whole number,
/// such as `2m`, `90s` or `1500ms`.
pub fn duration_word(duration: Duration) -> String {
    let millis = duration.as_millis();
    match (millis % 60_000, millis % 1_000) {
        (0, _) => format!("{}m", millis / 60_000),
        (_, 0) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}

/// Whether TOML cannot say it: null, and integers above 63 bits.
pub(super) fn needs_json(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Number(number) => number.is_u64() && !number.is_i64(),
        Value::Array(values) => values.iter().any(needs_json),
        Value::Object(values) => values.values().any(needs_json),
        Value::Bool(_) | Value::String(_) => false,
    }
}

fn json(value: &Value) -> String {
    if needs_json(value) { string(&value.to_string()) } else { inline(value) }
}

fn inline(value: &Value) -> String {
    match value {
        Value::Array(values) => array(values.iter().map(inline)),
        Value::Object(values) => table(values.iter().map(|(name, value)| (name, inline(value)))),
        Value::String(text) => string(text),
        Value::Bool(_) | Value::Number(_) | Value::Null => value.to_string(),
    }
}

pub(super) fn array(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}

fn table<'n>(pairs: impl Iterator<Item = (&'n String, String)>) -> String {
    let pairs: Vec<String> =
        pairs.map(|(name, value)| format!("{} = {value}", key(name))).collect();
    if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
}

fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}

/// A TOML string in the form that needs the fewest escapes.
pub(super) fn string(text: &str) -> String {
    let has_escapes = text.contains(['"', '\\', '\n']);
    let is_literal = !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
    if !has_escapes || !is_literal {
        quoted(text)
    } else if !text.contains(['\'', '\n']) {
        format!("'{text}'")
    } else if text.contains(['"', '\\']) && !text.contains("''") && !text.ends_with('\'') {
        // The newline after the opening quotes is not part of the string.
        format!("'''\n{text}'''")
    } else {
        quoted(text)
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
