//! What 2026-07-28 asks of the headers of a request. Pure.

use serde_json::Value;

use super::{super::message::Request, response::Response};
use crate::{lifecycle::step::Era, peer::http::message::Head};

/// 2026-07-28: a header says something else than the body.
const HEADER_MISMATCH: i32 = -32020;
/// Revisions of the other era, as its header names them.
const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Whether the headers alone make this a request of the modern era.
pub(super) fn is_modern(head: &Head) -> bool {
    head.header("mcp-protocol-version") == Some(Era::Modern.revision())
}

/// The refusal of a revision that neither era has.
pub(super) fn unknown_revision(head: &Head) -> Option<Response> {
    let named = head.header("mcp-protocol-version")?;
    let known = LEGACY.contains(&named) || named == Era::Modern.revision();
    (!known).then(|| Response::refusal("400 Bad Request", "unknown MCP-Protocol-Version"))
}

/// The refusal of a modern request whose headers and body differ.
pub(super) fn mismatch(head: &Head, request: &Request) -> Option<Response> {
    let named = matches!(request.method.as_str(), "tools/call" | "resources/read" | "prompts/get");
    let name = request.params.get("name").or(request.params.get("uri")).and_then(Value::as_str);
    let rows = [
        ("MCP-Protocol-Version", "mcp-protocol-version", request.revision()),
        ("Mcp-Method", "mcp-method", Some(request.method.as_str())),
        ("Mcp-Name", "mcp-name", name.filter(|_| named)),
    ];
    let (title, _, _) = rows
        .into_iter()
        .find(|(_, header, said)| said.is_some() && head.header(header) != *said)
        .or_else(|| {
            rows.into_iter().find(|(_, header, said)| {
                *header == "mcp-protocol-version" && said.is_none() && head.header(header).is_some()
            })
        })?;
    let body = request.error(HEADER_MISMATCH, &format!("{title} and the body differ"));
    Some(Response::with("400 Bad Request", body))
}
