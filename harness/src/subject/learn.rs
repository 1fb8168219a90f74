//! What the first look asks a server about itself: who it is, and which tools may be called.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::server::Play;
use super::waits::CALL_TIMEOUT;
use crate::cell::protocol::Tool;
use crate::ledger::sdk::Sdk;
use crate::ledger::verdict::StepRef;
use crate::lifecycle::step::{Action, Era, Step};

/// How long the first look waits for an answer in the other era.
const OTHER_ERA: Duration = Duration::from_secs(5);
/// Most pages of `tools/list` that are read.
const PAGES: usize = 20;

/// Most tools that are taken in.
const TOOLS_LIMIT: usize = 500;
/// How long a call lasts that is meant to be in flight, and one that is not, where its tool takes a
/// time as an argument.
const LASTING: Duration = Duration::from_secs(3);
const BRIEF: Duration = Duration::from_millis(10);
/// Names of arguments that say how long a call takes, without their unit.
const TIME_WORDS: [&str; 5] = ["duration", "delay", "sleep", "wait", "runtime"];
/// Most values that are made for the arguments of one tool.
const VALUES_LIMIT: usize = 1_000;
/// Deepest nesting of a schema that arguments are made for.
const DEPTH_LIMIT: usize = 6;

impl Play<'_> {
    /// With which SDK the server of a connection was written, once it is known which process it is.
    pub(super) fn recognise(&mut self, name: &str, result: &Value) {
        let server = self.connections.get(name).and_then(|connection| connection.roles.server);
        let Some(server) = server else { return };
        self.played.sdk = Sdk::recognise(result, &program(self.ledger.command(server)));
    }

    pub(super) fn learn(&mut self, name: &str, era: Era, result: &Value) {
        let Some(connection) = self.connections.get(name) else { return };
        let info = match era {
            Era::Legacy => &result["serverInfo"],
            Era::Modern => result
                .get("serverInfo")
                .unwrap_or(&result["_meta"]["io.modelcontextprotocol/serverInfo"]),
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().chars().take(200).collect();
        self.learned.name = text(&info["name"]);
        self.learned.version = text(&info["version"]);
        self.learned.eras = vec![era];
        self.learned.start_ms = connection.started.elapsed().as_millis() as u64;
        self.learned.launchers = connection
            .roles
            .launchers
            .iter()
            .map(|id| self.ledger.command(*id).unwrap_or_default().join(" "))
            .collect();
    }

    /// All tools, from the first page of the list on.
    pub(super) fn learn_tools(&mut self, name: &str, first: Value) {
        let mut page = first;
        for number in 1..=PAGES {
            let listed = tools(&page);
            let room = TOOLS_LIMIT - self.learned.tools.len();
            let whole = listed.len() <= room;
            self.learned.tools.extend(listed.into_iter().take(room));
            let cursor = page["nextCursor"].clone();
            if whole && !cursor.is_string() {
                return;
            }
            self.learned.lists_more_tools = !whole || number == PAGES;
            let Some(connection) = self.connections.get_mut(name) else { return };
            if self.learned.lists_more_tools {
                self.played.notes.push(format!(
                    "the server lists more than {TOOLS_LIMIT} tools, or more than {PAGES} pages of \
                     them: those beyond were not looked at"
                ));
                return;
            }
            let id = connection.request("tools/list", json!({ "cursor": cursor }));
            let answer = connection.answer(id, Instant::now() + CALL_TIMEOUT);
            let Ok(Ok(next)) = answer else {
                self.learned.lists_more_tools = true;
                self.played.notes.push(format!(
                    "page {} of the list of tools did not come, so the tools on it were not looked \
                     at",
                    number + 1
                ));
                return;
            };
            page = next;
        }
    }

    /// A life of its own, not judged: does the server speak the stateless era, too, and if not, does
    /// it answer `initialize` after it was asked?
    pub(super) fn learn_discover(&mut self) {
        let at = StepRef { place: "0".into(), name: "the other era".into(), cycle: None };
        let step = Step::new(Action::Open).on("other-era");
        if self.open(&step, &at).is_err() {
            return;
        }
        // It was seen how long this server takes to start.
        let start = Duration::from_millis(self.learned.start_ms);
        let deadline = Instant::now() + OTHER_ERA + start;
        if self.await_start(&step.connection, &at, deadline).is_ok()
            && let Some(connection) = self.connections.get_mut(&step.connection)
        {
            let mut ask = |era| {
                connection.era = era;
                let (id, bytes) = connection.first_request(true);
                connection.send(bytes);
                connection.answer(id, Instant::now() + OTHER_ERA + start)
            };
            let discovered = ask(Era::Modern);
            // A server that answers whatever it is asked says nothing by an answer.
            if matches!(&discovered, Ok(Ok(result)) if speaks(result, Era::Modern)) {
                self.learned.eras.push(Era::Modern);
            }
            self.learned.discover_is_answered = discovered.is_ok();
            self.learned.initialize_after_discover =
                matches!(ask(Era::Legacy), Ok(Ok(result)) if introduces(&result, Era::Legacy));
        }
        self.forget(&step.connection, &at);
    }
}

/// The program of a command line, without its folder.
pub(super) fn program(command: Option<&[String]>) -> String {
    let first = command.and_then(|words| words.first()).map_or("", String::as_str);
    first.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Whether the answer to the first request of a handshake is one: it names a revision.
pub fn introduces(result: &Value, era: Era) -> bool {
    match era {
        Era::Legacy => result["protocolVersion"].is_string(),
        Era::Modern => speaks(result, era),
    }
}

/// Whether the result of `server/discover` names this revision.
fn speaks(result: &Value, era: Era) -> bool {
    let versions = result["supportedVersions"].as_array().map(Vec::as_slice).unwrap_or_default();
    versions.iter().any(|version| version == era.revision())
}

/// Tools from the result of `tools/list`, one more than are taken in at most.
pub fn tools(result: &Value) -> Vec<Tool> {
    let listed = result["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    listed.iter().filter_map(tool).take(TOOLS_LIMIT + 1).collect()
}

fn tool(tool: &Value) -> Option<Tool> {
    let hints = &tool["annotations"];
    let schema = &tool["inputSchema"];
    let mut arguments = smallest(schema, 0, &mut VALUES_LIMIT.clone());
    let time = time_property(schema);
    let lasting = time.and_then(|(name, unit)| {
        let limits = &schema["properties"][name];
        let mut lasting = arguments.clone();
        lasting.as_object_mut()?.insert(name.clone(), fitting(LASTING, unit, limits)?);
        arguments.as_object_mut()?.insert(name.clone(), fitting(BRIEF, unit, limits)?);
        Some(lasting)
    });
    Some(Tool {
        name: tool["name"].as_str()?.to_owned(),
        // Nobody's destructive tools are called unasked, nor any that reach out of this host.
        callable: hints["readOnlyHint"] == json!(true) && hints["openWorldHint"] == json!(false),
        arguments,
        lasting,
    })
}

/// The property of a schema that says how long a call takes, and its unit.
fn time_property(schema: &Value) -> Option<(&String, Duration)> {
    schema["properties"].as_object()?.iter().find_map(|(name, property)| {
        let is_number = property["type"] == "number" || property["type"] == "integer";
        let plain = name.to_lowercase().replace(['_', '-'], "");
        let (noun, unit) = match ["milliseconds", "millis", "ms", "seconds", "secs", "sec", "s"]
            .into_iter()
            .find_map(|unit| plain.strip_suffix(unit).map(|noun| (noun, unit)))
        {
            Some((noun, unit)) if unit.starts_with('m') => (noun, Duration::from_millis(1)),
            Some((noun, _)) => (noun, Duration::from_secs(1)),
            None => (plain.as_str(), Duration::from_secs(1)),
        };
        let bare = noun.is_empty() && plain != "s";
        let is_time = bare || TIME_WORDS.contains(&noun.strip_suffix("in").unwrap_or(noun));
        (is_number && is_time).then_some((name, unit))
    })
}

/// A time in a unit, within the limits of its schema.
fn fitting(time: Duration, unit: Duration, limits: &Value) -> Option<Value> {
    let least = limits["minimum"].as_f64().unwrap_or(0.0);
    let most = limits["maximum"].as_f64().unwrap_or(f64::MAX);
    let number = (time.as_secs_f64() / unit.as_secs_f64()).min(most).max(least);
    if limits["type"] == "integer" {
        return Some(json!(number.ceil() as i64));
    }
    Some(json!(number))
}

/// The smallest value that a JSON Schema allows, as far as its common words tell. A tool that wants
/// more answers with an error, which is an answer too.
fn smallest(schema: &Value, depth: usize, budget: &mut usize) -> Value {
    // A schema that names one member a thousand times in each of its levels is no slip.
    let Some(left) = budget.checked_sub(1) else { return Value::Null };
    *budget = left;
    if depth > DEPTH_LIMIT {
        return Value::Null;
    }
    if let Some(value) = schema.get("const").or_else(|| schema.get("default")) {
        return value.clone();
    }
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    if let Some(example) = schema["examples"].as_array().and_then(|values| values.first()) {
        return example.clone();
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema[choice].as_array().and_then(|schemas| schemas.first()) {
            return smallest(first, depth + 1, budget);
        }
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str).unwrap_or_default(),
        kind => kind.as_str().unwrap_or_default(),
    };
    match kind {
        "string" => json!("scupper"),
        "integer" | "number" => schema.get("minimum").cloned().unwrap_or(json!(1)),
        "boolean" => json!(false),
        "array" => {
            let least = schema["minItems"].as_u64().unwrap_or(0).min(8) as usize;
            Value::Array(vec![smallest(&schema["items"], depth + 1, budget); least])
        }
        "null" => Value::Null,
        // A tool without a schema takes an object, too.
        _ => {
            let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
            let member = |name: &Value| {
                let name = name.as_str()?;
                Some((name.to_owned(), smallest(&schema["properties"][name], depth + 1, budget)))
            };
            Value::Object(required.iter().filter_map(member).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_discover_must_name_the_revision() {
        assert!(speaks(&json!({ "supportedVersions": ["2026-07-28"] }), Era::Modern));
        assert!(!speaks(&json!({ "content": [] }), Era::Modern));
    }

    #[test]
    fn only_read_only_closed_world_tools_are_callable() {
        let result = json!({ "tools": [
            { "name": "a", "annotations": { "readOnlyHint": true, "openWorldHint": false } },
            { "name": "b", "annotations": { "readOnlyHint": true } },
            { "name": "c" },
        ]});
        let callable: Vec<bool> = tools(&result).iter().map(|tool| tool.callable).collect();
        assert_eq!(callable, [true, false, false]);
    }

    #[test]
    fn arguments_are_the_smallest_that_the_schema_allows() {
        let schema = json!({
            "type": "object",
            "required": ["text", "count", "mode", "items"],
            "properties": {
                "text": { "type": "string" },
                "count": { "type": "integer", "minimum": 3 },
                "mode": { "enum": ["fast", "slow"] },
                "items": { "type": "array", "minItems": 1, "items": { "type": "boolean" } },
                "left_out": { "type": "string" },
            },
        });
        let expected = json!({ "text": "scupper", "count": 3, "mode": "fast", "items": [false] });
        assert_eq!(smallest(&schema, 0, &mut 1000), expected);
    }

    #[test]
    fn a_tool_that_takes_a_time_can_be_brief_or_lasting() {
        let tool = |name: &str, kind: &str| {
            let schema = json!({
                "type": "object",
                "required": [name],
                "properties": { name: { "type": kind, "default": 10 } },
            });
            let listed = json!({ "tools": [{ "name": "a", "inputSchema": schema }] });
            let tool = tools(&listed).remove(0);
            (tool.arguments[name].clone(), tool.lasting.map(|lasting| lasting[name].clone()))
        };
        assert_eq!(tool("duration", "number"), (json!(0.01), Some(json!(3.0))));
        assert_eq!(tool("delay_ms", "integer"), (json!(10), Some(json!(3000))));
        assert_eq!(tool("waitSeconds", "integer"), (json!(1), Some(json!(3))));
        for other in ["timeout", "items", "params", "s", "count"] {
            assert_eq!(tool(other, "integer"), (json!(10), None), "{other}");
        }
        assert_eq!(tool("duration", "string").1, None);
    }

    #[test]
    fn a_schema_that_nests_for_ever_ends() {
        let mut schema = json!({ "type": "string" });
        for _ in 0..100 {
            schema = json!({ "anyOf": [schema] });
        }
        assert_eq!(smallest(&schema, 0, &mut 1000), Value::Null);
    }
}
