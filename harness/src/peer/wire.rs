//! Messages as bytes. Our own code, so that malformed traffic is possible and no verdict depends
//! on an SDK that is being judged.

use serde_json::{Value, json};

use crate::lifecycle::step::Era;

/// Name under which the client introduces itself.
const CLIENT_NAME: &str = "scupper";

/// The first request of a handshake: `initialize`, or `server/discover` in the stateless era.
pub fn first_request(era: Era, id: u64) -> Value {
    match era {
        Era::Legacy => request(
            era,
            id,
            "initialize",
            json!({
                "protocolVersion": era.revision(),
                "capabilities": {},
                "clientInfo": client_info(),
            }),
        ),
        Era::Modern => request(era, id, "server/discover", json!({})),
    }
}

/// A request. In the stateless era its params carry `_meta` (2026-07-28 basic, versioning).
pub fn request(era: Era, id: u64, method: &str, params: Value) -> Value {
    let mut message = json!({ "jsonrpc": "2.0", "id": id, "method": method });
    if let Some(params) = params_for(era, params) {
        message["params"] = params;
    }
    message
}

/// The request whose response is a stream of what changes, for every kind of change; the newer era has
/// it in the place of GET.
pub fn subscription(id: u64) -> Value {
    let kinds = json!({
        "toolsListChanged": true,
        "promptsListChanged": true,
        "resourcesListChanged": true,
    });
    request(Era::Modern, id, "subscriptions/listen", json!({ "notifications": kinds }))
}

/// A notification.
pub fn notification(era: Era, method: &str, params: Value) -> Value {
    let mut message = json!({ "jsonrpc": "2.0", "method": method });
    if let Some(params) = params_for(era, params) {
        message["params"] = params;
    }
    message
}

/// The id of a request of ours, if these bytes are one.
pub fn request_id(bytes: &[u8]) -> Option<u64> {
    let message: Value = serde_json::from_slice(bytes).ok()?;
    message.get("method")?;
    message.get("id")?.as_u64()
}

/// One message as the bytes of one line.
pub fn line(message: &Value) -> Vec<u8> {
    let mut bytes = message.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

fn params_for(era: Era, mut params: Value) -> Option<Value> {
    match era {
        Era::Legacy => (!params.is_null()).then_some(params),
        Era::Modern => {
            if params.is_null() {
                params = json!({});
            }
            if let Some(object) = params.as_object_mut() {
                object.insert(
                    "_meta".to_owned(),
                    json!({
                        "io.modelcontextprotocol/protocolVersion": era.revision(),
                        "io.modelcontextprotocol/clientCapabilities": {},
                        "io.modelcontextprotocol/clientInfo": client_info(),
                    }),
                );
            }
            Some(params)
        }
    }
}

fn client_info() -> Value {
    json!({ "name": CLIENT_NAME, "version": env!("CARGO_PKG_VERSION") })
}

/// What a line of a server's output is.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// The answer to a request of ours.
    Answer {
        /// The request's id, if it is a number of ours.
        id: Option<u64>,
        /// Result or error, as it came.
        body: Result<Value, Value>,
    },
    /// A request from the server.
    Request {
        /// Its id, to be sent back.
        id: Value,
        /// Its method.
        method: String,
    },
    /// A notification.
    Notification {
        /// Its method.
        method: String,
    },
    /// Not a JSON-RPC message, though the protocol allows nothing else on stdout.
    Noise,
}

/// Classifies one line, without its newline.
pub fn classify(line: &[u8]) -> Incoming {
    let Ok(Value::Object(mut message)) = serde_json::from_slice::<Value>(line) else {
        return Incoming::Noise;
    };
    if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Incoming::Noise;
    }
    let id = message.remove("id");
    let method = message.remove("method").and_then(|method| method.as_str().map(str::to_owned));
    match (method, id) {
        (Some(method), Some(id)) => Incoming::Request { id, method },
        (Some(method), None) => Incoming::Notification { method },
        (None, Some(id)) => {
            let id = id.as_u64();
            match (message.remove("result"), message.remove("error")) {
                (Some(result), None) => Incoming::Answer { id, body: Ok(result) },
                (None, Some(error)) => Incoming::Answer { id, body: Err(error) },
                _ => Incoming::Noise,
            }
        }
        // An error without an id answers a line that could not be read.
        (None, None) => match message.remove("error") {
            Some(error) => Incoming::Answer { id: None, body: Err(error) },
            None => Incoming::Noise,
        },
    }
}

/// The polite answer to a request from the server: pong, or that we offer no such thing.
pub fn reply(id: &Value, method: &str) -> Value {
    match method {
        "ping" => json!({ "jsonrpc": "2.0", "id": id, "result": {} }),
        _ => json!({
            "jsonrpc": "2.0",
            "id": id,
            "error": { "code": -32601, "message": "this client declared no such capability" },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banner_is_noise() {
        assert_eq!(classify(b"My server v1 listening"), Incoming::Noise);
        assert_eq!(classify(b"{\"level\":\"info\"}"), Incoming::Noise);
    }

    #[test]
    fn answers_requests_and_notifications_are_told_apart() {
        assert_eq!(
            classify(br#"{"jsonrpc":"2.0","id":7,"result":{}}"#),
            Incoming::Answer { id: Some(7), body: Ok(json!({})) }
        );
        assert_eq!(
            classify(br#"{"jsonrpc":"2.0","error":{"code":-32700}}"#),
            Incoming::Answer { id: None, body: Err(json!({ "code": -32700 })) }
        );
        assert!(matches!(
            classify(br#"{"jsonrpc":"2.0","id":"s1","method":"ping"}"#),
            Incoming::Request { .. }
        ));
        assert!(matches!(
            classify(br#"{"jsonrpc":"2.0","method":"notifications/message"}"#),
            Incoming::Notification { .. }
        ));
    }

    #[test]
    fn modern_requests_carry_the_revision_and_legacy_ones_do_not() {
        let modern = first_request(Era::Modern, 1);
        assert_eq!(
            modern["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"],
            "2026-07-28"
        );
        let legacy = request(Era::Legacy, 1, "tools/list", Value::Null);
        assert!(legacy.get("params").is_none());
    }
}
