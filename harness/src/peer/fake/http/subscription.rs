//! What is said on the stream of a subscription, which 2026-07-28 has in the place of GET. Pure.

use serde_json::{Value, json};

use super::super::message::Request;

/// The request whose response is the stream.
pub(super) const METHOD: &str = "subscriptions/listen";

/// By which every message of the stream names the request that asked for it.
const ID_KEY: &str = "io.modelcontextprotocol/subscriptionId";

/// What comes first: which of the wanted kinds of change will be told. None where nothing right was
/// asked for.
pub(super) fn acknowledgement(request: &Request) -> Option<Vec<u8>> {
    let wanted = request.params.get("notifications").filter(|wanted| wanted.is_object())?;
    // Tools are all that there is.
    let told = match wanted["toolsListChanged"] == true {
        true => json!({ "toolsListChanged": true }),
        false => json!({}),
    };
    let message = json!({
        "jsonrpc": "2.0",
        "method": "notifications/subscriptions/acknowledged",
        "params": { "notifications": told, "_meta": meta(request) },
    });
    Some(message.to_string().into_bytes())
}

/// What comes last where the server ends it.
pub(super) fn result(request: &Request) -> Vec<u8> {
    request.result(json!({ "_meta": meta(request) }))
}

fn meta(request: &Request) -> Value {
    json!({ ID_KEY: request.id })
}
