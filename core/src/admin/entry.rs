//! The body of a `POST`: an entry of an mcpServers file, with its name.

use std::sync::Arc;

use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::trouble::Trouble;
use crate::host::{OnDuplicate, ServerSpec, config};

const LONGEST_NAME_BYTES: usize = 128;

/// A server to be added. Not printable: it holds secrets.
pub(super) struct Wanted {
    pub(super) name: Arc<str>,
    pub(super) spec: ServerSpec,
    pub(super) on_duplicate: OnDuplicate,
}

/// Reads the body. No error repeats any of it but the names of members: it holds secrets.
pub(super) fn read(body: &[u8]) -> Result<Wanted, Trouble> {
    let body: Value = serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = format!("the body of the request is not JSON: line {line}, column {column}");
        let cause = "it is empty, cut short, or not UTF-8, or the shell took the quotes away";
        Trouble::new(StatusCode::BAD_REQUEST, what, cause, "send one JSON object")
    })?;
    let Value::Object(mut entry) = body else {
        return Err(malformed("the body of the request is no JSON object"));
    };
    if entry.contains_key("mcpServers") {
        return Err(malformed("the body is a whole mcpServers file, and one entry is wanted"));
    }
    let name: String = required(&mut entry, "name", "a string")?;
    check_name(&name)?;
    let on_duplicate =
        match &*optional(&mut entry, "on_duplicate", "a string")?.unwrap_or("refuse".to_owned()) {
            "refuse" => OnDuplicate::Refuse,
            "replace" => OnDuplicate::Replace,
            _ => return Err(malformed("\"on_duplicate\" is neither \"refuse\" nor \"replace\"")),
        };
    let spec = spec(&name, entry)?;
    Ok(Wanted { name: name.into(), spec, on_duplicate })
}

/// The error names the member and never its value.
fn spec(name: &str, entry: Map<String, Value>) -> Result<ServerSpec, Trouble> {
    let variable = |name: &str| std::env::var(name).ok();
    config::read_entry(name, &Value::Object(entry), &variable)
        .map(|configured| configured.spec)
        .map_err(|error| malformed(error.to_string()))
}

fn required<T: DeserializeOwned>(
    entry: &mut Map<String, Value>,
    member: &str,
    shape: &str,
) -> Result<T, Trouble> {
    optional(entry, member, shape)?
        .ok_or_else(|| malformed(format!("the entry has no \"{member}\", which is {shape}")))
}

fn optional<T: DeserializeOwned>(
    entry: &mut Map<String, Value>,
    member: &str,
    shape: &str,
) -> Result<Option<T>, Trouble> {
    match entry.remove(member) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value)
            .map(Some)
            .map_err(|_| malformed(format!("\"{member}\" of the entry is not {shape}"))),
    }
}

fn check_name(name: &str) -> Result<(), Trouble> {
    if name.is_empty() || name.len() > LONGEST_NAME_BYTES || name.contains(char::is_control) {
        return Err(malformed(format!(
            "\"name\" has {} bytes; it has 1 to {LONGEST_NAME_BYTES}, and no control characters",
            name.len()
        )));
    }
    Ok(())
}

fn malformed(what: impl Into<String>) -> Trouble {
    Trouble::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        what,
        "the entry was taken from a file of another program, or its name was left in the file",
        "send {\"name\": …, \"command\": …, \"args\": […], \"env\": {…}, \"cwd\": …} or {\"name\": …, \
         \"url\": …, \"headers\": {…}}, either with \"on_duplicate\": \"refuse\" or \"replace\"",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> (u16, String) {
        let trouble = read(body.as_bytes()).err().expect(body);
        (trouble.status.as_u16(), trouble.what)
    }

    #[test]
    fn an_entry_has_a_name_and_a_command() {
        let wanted = read(
            br#"{"name":"a","command":"sh","args":["-c","x"],"env":{"K":"v"},"cwd":"/","on_duplicate":"replace","disabled":false}"#,
        )
        .expect("an entry");
        assert_eq!((&*wanted.name, wanted.on_duplicate), ("a", OnDuplicate::Replace));
        assert!(read(br#"{"name":"a","command":"sh"}"#).is_ok());
    }

    #[test]
    fn what_is_no_entry_is_refused_without_being_repeated() {
        assert_eq!(refused("").0, 400);
        assert_eq!(refused("{\"name\":\"a\",").0, 400);
        for body in [
            "[]",
            r#"{"mcpServers":{}}"#,
            r#"{"command":"secret"}"#,
            r#"{"name":"a"}"#,
            r#"{"name":"","command":"secret"}"#,
            r#"{"name":"a\nb","command":"secret"}"#,
            r#"{"name":7,"command":"secret"}"#,
            r#"{"name":"a","command":["secret"]}"#,
            r#"{"name":"a","command":"sh","args":"secret"}"#,
            r#"{"name":"a","command":"sh","env":{"K":["secret"]}}"#,
            r#"{"name":"a","command":"sh","env":"secret"}"#,
            r#"{"name":"a","command":"sh","on_duplicate":"secret"}"#,
        ] {
            let (status, what) = refused(body);
            assert_eq!(status, 422, "{body}");
            assert!(!what.contains("secret"), "{what}");
        }
        assert_eq!(refused(&format!(r#"{{"name":"{}","command":"sh"}}"#, "n".repeat(129))).0, 422);
    }
}
