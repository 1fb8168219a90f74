//! Messages of both eras, parsed from a line and built into one. Pure.

use serde_json::{Value, json};

use crate::lifecycle::step::Era;

/// JSON-RPC: the line is not JSON.
const PARSE_ERROR: i32 = -32700;
/// JSON-RPC: JSON, but no message.
pub(super) const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC: nobody here does that.
pub(super) const METHOD_NOT_FOUND: i32 = -32601;
/// JSON-RPC: the method is known, what it was given is not.
pub(super) const INVALID_PARAMS: i32 = -32602;
/// 2026-07-28: a revision this server does not speak.
const UNSUPPORTED_VERSION: i32 = -32022;

/// Where a request of the modern era names its revision, inside `_meta`.
const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";

/// Legacy revisions whose messages are the same for what a fake does. 2025-03-26 is left out: it
/// obliges a server to take batches.
const LEGACY_REVISIONS: [&str; 2] = ["2025-11-25", "2025-06-18"];

/// A message from the client, as far as a server tells them apart.
#[derive(Debug)]
pub(super) enum Incoming {
    /// Wants an answer.
    Request(Request),
    /// Wants none.
    Notification {
        /// JSON-RPC method.
        method: String,
        /// Its params, or null.
        params: Value,
    },
    /// A response to a request no fake ever sent, or an empty line.
    Ignored,
    /// No message; this line says so.
    Invalid(Vec<u8>),
}

impl Incoming {
    /// Reads one line, with or without its newline.
    pub(super) fn parse(line: &[u8]) -> Self {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Self::Ignored;
        }
        let Ok(mut message) = serde_json::from_slice::<Value>(line) else {
            return Self::Invalid(error(None, PARSE_ERROR, "not JSON", None));
        };
        let params = message.get_mut("params").map(Value::take).unwrap_or_default();
        let method = message.get("method").and_then(Value::as_str).map(str::to_owned);
        match (method, message.get("id")) {
            (Some(method), Some(id)) if id.is_string() || id.is_number() => {
                Self::Request(Request { id: id.clone(), method, params })
            }
            (Some(method), None) => Self::Notification { method, params },
            (None, Some(_)) if message.get("result").or(message.get("error")).is_some() => {
                Self::Ignored
            }
            _ => Self::Invalid(error(None, INVALID_REQUEST, "not a message", None)),
        }
    }
}

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    /// A string or a number.
    pub(super) id: Value,
    /// JSON-RPC method.
    pub(super) method: String,
    /// Its params, or null.
    pub(super) params: Value,
}

impl Request {
    /// The revision a modern request names for itself; legacy ones name none.
    pub(super) fn revision(&self) -> Option<&str> {
        self.params.get("_meta")?.get(VERSION_KEY)?.as_str()
    }

    /// The era it is in: a modern request says so in every message, and discovery exists in no other.
    pub(super) fn era(&self) -> Era {
        if self.revision().is_some() || self.method == "server/discover" {
            Era::Modern
        } else {
            Era::Legacy
        }
    }

    /// Its answer, as a line.
    pub(super) fn result(&self, mut result: Value) -> Vec<u8> {
        if self.era() == Era::Modern {
            result["resultType"] = "complete".into();
        }
        line(&json!({"jsonrpc": "2.0", "id": self.id, "result": result}))
    }

    /// A refusal, as a line.
    pub(super) fn error(&self, code: i32, message: &str) -> Vec<u8> {
        error(Some(&self.id), code, message, None)
    }

    /// What a tool said, as a line.
    pub(super) fn tool_result(&self, text: &str, is_error: bool) -> Vec<u8> {
        self.result(json!({"content": [{"type": "text", "text": text}], "isError": is_error}))
    }

    /// The answer to `initialize`. A server that does not know the wanted revision names its own.
    pub(super) fn initialize_result(&self) -> Vec<u8> {
        let wanted = self.params.get("protocolVersion").and_then(Value::as_str);
        let spoken = LEGACY_REVISIONS.into_iter().find(|known| Some(*known) == wanted);
        self.result(json!({
            "protocolVersion": spoken.unwrap_or(LEGACY_REVISIONS[0]),
            "capabilities": {"tools": {}},
            "serverInfo": server_info(),
        }))
    }

    /// The answer to `server/discover`, with what this server says of its tools.
    pub(super) fn discover_result(&self, tools: Value) -> Vec<u8> {
        self.result(json!({
            "supportedVersions": [Era::Modern.revision()],
            "capabilities": {"tools": tools},
            "ttlMs": 0,
            "cacheScope": "public",
            "_meta": {"io.modelcontextprotocol/serverInfo": server_info()},
        }))
    }

    /// The answer to `tools/list`.
    pub(super) fn tools_result(&self) -> Vec<u8> {
        let mut result = json!({"tools": [
            {
                "name": "echo",
                "description": "Answers with the text it was given.",
                "inputSchema": {
                    "type": "object",
                    "properties": {"text": {"type": "string"}},
                    "required": ["text"],
                },
                "annotations": {"readOnlyHint": true, "openWorldHint": false},
            },
            // Not marked read-only, so that nobody calls it unasked and waits.
            {
                "name": "sleep",
                "description": "Answers after so many milliseconds, other requests meanwhile.",
                "inputSchema": {
                    "type": "object",
                    "properties": {"ms": {"type": "integer", "minimum": 0}},
                    "required": ["ms"],
                },
            },
        ]});
        if self.era() == Era::Modern {
            result["ttlMs"] = 0.into();
            result["cacheScope"] = "public".into();
        }
        self.result(result)
    }

    /// The refusal of a modern revision, or of a whole era, with what is spoken instead.
    pub(super) fn unsupported_version(&self, supported: &[&str]) -> Vec<u8> {
        let requested =
            self.revision().or(self.params.get("protocolVersion").and_then(Value::as_str));
        let data = json!({"supported": supported, "requested": requested});
        error(Some(&self.id), UNSUPPORTED_VERSION, "unsupported protocol version", Some(data))
    }
}

fn server_info() -> Value {
    json!({"name": "scupper-fake", "version": env!("CARGO_PKG_VERSION")})
}

/// An error; without an id where the request's could not be read, as both eras have it.
fn error(id: Option<&Value>, code: i32, message: &str, data: Option<Value>) -> Vec<u8> {
    let mut answer = json!({"jsonrpc": "2.0", "error": {"code": code, "message": message}});
    if let Some(id) = id {
        answer["id"] = id.clone();
    }
    if let Some(data) = data {
        answer["error"]["data"] = data;
    }
    line(&answer)
}

fn line(message: &Value) -> Vec<u8> {
    let mut line = message.to_string().into_bytes();
    line.push(b'\n');
    line
}
