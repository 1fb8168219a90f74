//! What is answered to a message, apart from how it is brought.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use super::{
    super::message::{INVALID_PARAMS, METHOD_NOT_FOUND, Request},
    Shared,
};
use crate::lifecycle::step::Era;

/// The longest sleep of the tool of that name.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Why a request is not served, as the status and the body of the response.
pub(super) fn refusal(shared: &Shared, request: &Request) -> Option<(&'static str, Vec<u8>)> {
    let era = request.era();
    let only = shared.script.era?;
    if era == only {
        return None;
    }
    Some(match era {
        Era::Modern => ("400 Bad Request", request.error(METHOD_NOT_FOUND, "method not found")),
        Era::Legacy => ("400 Bad Request", request.unsupported_version(&[Era::Modern.revision()])),
    })
}

/// The answer to a request of whichever era.
pub(super) fn answer(request: &Request) -> Vec<u8> {
    match (request.era(), request.method.as_str()) {
        (Era::Legacy, "initialize") => request.initialize_result(),
        (Era::Legacy, "ping") => request.result(json!({})),
        (Era::Modern, "server/discover") => request.discover_result(json!({})),
        (_, "tools/list") => request.tools_result(),
        (_, "tools/call") => call(request),
        _ => request.error(METHOD_NOT_FOUND, "method not found"),
    }
}

fn call(request: &Request) -> Vec<u8> {
    let arguments = request.params.get("arguments");
    let argument = |name| arguments.and_then(|given: &Value| given.get(name));
    match request.params.get("name").and_then(Value::as_str) {
        Some("echo") => match argument("text").and_then(Value::as_str) {
            Some(text) => request.tool_result(text, false),
            None => request.tool_result("`text` must be a string", true),
        },
        Some("sleep") => match argument("ms").and_then(Value::as_u64) {
            Some(ms) => {
                thread::sleep(Duration::from_millis(ms).min(LONGEST_SLEEP));
                request.tool_result(&format!("slept {ms} ms"), false)
            }
            None => request.tool_result("`ms` must be a whole number", true),
        },
        _ => request.error(INVALID_PARAMS, "unknown tool"),
    }
}
