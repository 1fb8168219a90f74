//! The servers of an `mcpServers` file, as users of Claude, Cursor and other hosts have it.
//!
//! ```json
//! {"mcpServers": {
//!   "files": {"command": "npx", "args": ["-y", "some-server", "."], "env": {"KEY": "${KEY}"}},
//!   "remote": {"type": "http", "url": "https://example.com/mcp", "headers": {"X-Key": "${KEY:-none}"}}
//! }}
//! ```
//!
//! In every text `${NAME}`, `${env:NAME}` and `${NAME:-default}` stand for variables of the
//! environment. Keys that are not known here are left alone, and so is everything beside `mcpServers`. Strict
//! JSON: no comments, and no `servers` as VS Code has it.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::ServerSpec;
use crate::{process::Command, stdio::StdioServer};

/// The largest file that is read, in bytes.
const FILE_LIMIT_BYTES: u64 = 4 << 20;

/// A server of the file.
#[derive(Clone, Debug)]
pub struct Configured {
    /// Its name.
    pub name: String,
    /// What it is.
    pub spec: ServerSpec,
    /// The file says that hosts leave it out: `"disabled": true` or `"enabled": false`.
    pub is_disabled: bool,
}

/// What is wrong with an `mcpServers` file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be read.
    #[error("reading {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is larger than anybody writes one.
    #[error("{} has more than {limit_bytes} bytes; is it an mcpServers file?", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How many it may have.
        limit_bytes: u64,
    },
    /// It is no JSON.
    #[error("the mcpServers file is no JSON")]
    Json(#[from] serde_json::Error),
    /// It has no servers, not even an empty object of them.
    #[error(
        "there is no object `mcpServers` in the file; expected \
         {{\"mcpServers\": {{\"NAME\": {{\"command\": \"npx\", \"args\": [\"-y\", \"PACKAGE\"]}}}}}}"
    )]
    NoServers,
    /// Something is wrong with one server.
    #[error("server `{server}`: `{key}` {why}")]
    Server {
        /// Which one.
        server: String,
        /// Which of its keys.
        key: String,
        /// What is wrong, and what would be right.
        why: String,
    },
}

/// Reads the servers of a file, by name; variables come from the environment of this process.
///
/// # Errors
/// [`ConfigError`]; the first mistake that is found.
pub fn read(path: &Path) -> Result<Vec<Configured>, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_LIMIT_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned(), limit_bytes: FILE_LIMIT_BYTES });
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    parse(&text, |name| std::env::var(name).ok())
}

/// Reads the servers of a text, by name; `variable` gives the value of a variable.
///
/// # Errors
/// [`ConfigError`]; the first mistake that is found.
pub fn parse(
    text: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Configured>, ConfigError> {
    let file: Value = serde_json::from_str(text)?;
    let servers = file.get("mcpServers").and_then(Value::as_object);
    servers
        .ok_or(ConfigError::NoServers)?
        .iter()
        .map(|(name, entry)| read_entry(name, entry, &variable))
        .collect()
}

/// One server of an admin request or a file: the value of a member of `mcpServers`.
///
/// # Errors
/// [`ConfigError::Server`].
pub fn read_entry(
    name: &str,
    entry: &Value,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Configured, ConfigError> {
    let Some(members) = entry.as_object() else {
        return Err(ConfigError::Server {
            server: name.to_owned(),
            key: name.to_owned(),
            why: "must be an object with a `command` or a `url`".to_owned(),
        });
    };
    let entry = Entry { name, members, variable };
    let spec = entry.spec()?;
    let is_disabled =
        entry.flag("disabled")? == Some(true) || entry.flag("enabled")? == Some(false);
    Ok(Configured { name: name.to_owned(), spec, is_disabled })
}

struct Entry<'a> {
    name: &'a str,
    members: &'a Map<String, Value>,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Entry<'_> {
    fn spec(&self) -> Result<ServerSpec, ConfigError> {
        let kind = self.text("type")?;
        match (kind.as_deref(), self.members.contains_key("command")) {
            (None | Some("stdio"), true) => self.stdio(),
            (Some("stdio"), false) => Err(self.wrong("command", "is missing; name the program")),
            (Some("http" | "streamable-http" | "streamableHttp"), _) => self.http(),
            (None, false) if self.members.contains_key("url") => self.http(),
            (Some("sse"), _) => Err(self.wrong(
                "type",
                "is `sse`, the HTTP+SSE transport that MCP has replaced in 2025-03-26; if the \
                 server speaks Streamable HTTP too, write `http` and its endpoint",
            )),
            (Some(_), _) => {
                Err(self.wrong("type", "is none of `stdio`, `http` and `streamable-http`"))
            }
            (None, false) => Err(self.wrong("command", "is missing, and so is `url`")),
        }
    }

    fn stdio(&self) -> Result<ServerSpec, ConfigError> {
        let program = self.text("command")?.filter(|program| !program.trim().is_empty());
        let program = program.ok_or_else(|| self.wrong("command", "is empty"))?;
        let mut command = Command::new(program);
        if let Some(arguments) = self.members.get("args") {
            let list = arguments.as_array();
            for argument in list.ok_or_else(|| self.wrong("args", "must be a list of texts"))? {
                let argument = argument.as_str();
                let text = argument.ok_or_else(|| self.wrong("args", "must be a list of texts"))?;
                command = command.arg(self.fill("args", text)?);
            }
        }
        for (name, value) in self.texts("env")? {
            command = command.env(name, value);
        }
        if let Some(directory) = self.text("cwd")? {
            command = command.current_dir(directory);
        }
        Ok(StdioServer::new(command).into())
    }

    #[cfg(feature = "http-client")]
    fn http(&self) -> Result<ServerSpec, ConfigError> {
        let url = self.text("url")?.ok_or_else(|| self.wrong("url", "is missing"))?;
        let wrong = |key, error: &dyn std::error::Error| {
            self.wrong(key, format!("cannot be used: {error}"))
        };
        let mut server =
            crate::http::HttpServer::new(&url).map_err(|error| wrong("url", &error))?;
        for (name, value) in self.texts("headers")? {
            server = server.with_header(&name, &value).map_err(|error| wrong("headers", &error))?;
        }
        Ok(server.into())
    }

    #[cfg(not(feature = "http-client"))]
    fn http(&self) -> Result<ServerSpec, ConfigError> {
        Err(self.wrong("url", "cannot be used: scupper-core was built without `http-client`"))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        let flag = self.members.get(key).map(|value| value.as_bool());
        flag.map(|flag| flag.ok_or_else(|| self.wrong(key, "must be true or false"))).transpose()
    }

    fn text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        let Some(value) = self.members.get(key) else {
            return Ok(None);
        };
        let text = value.as_str().ok_or_else(|| self.wrong(key, "must be a text"))?;
        self.fill(key, text).map(Some)
    }

    /// An object of texts; numbers and truth values are taken as they are written.
    fn texts(&self, key: &str) -> Result<Vec<(String, String)>, ConfigError> {
        let Some(value) = self.members.get(key) else {
            return Ok(Vec::new());
        };
        let members =
            value.as_object().ok_or_else(|| self.wrong(key, "must be an object of texts"))?;
        let mut texts = Vec::new();
        for (name, value) in members {
            let key = format!("{key}.{name}");
            let text = match value {
                Value::String(text) => self.fill(&key, text)?,
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => return Err(self.wrong(&key, "must be a text")),
            };
            texts.push((name.clone(), text));
        }
        Ok(texts)
    }

    /// Puts variables in. What has another shape stays as it is written.
    fn fill(&self, key: &str, text: &str) -> Result<String, ConfigError> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            filled.push_str(before);
            let Some((inner, behind)) = after.split_once('}') else {
                filled.push_str("${");
                rest = after;
                continue;
            };
            let (name, default) = match inner.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inner.strip_prefix("env:").unwrap_or(inner), None),
            };
            let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            match (is_name, (self.variable)(name), default) {
                (false, ..) => filled.push_str(&format!("${{{inner}}}")),
                (true, Some(value), _) => filled.push_str(&value),
                (true, None, Some(default)) => filled.push_str(default),
                (true, None, None) => {
                    return Err(self.wrong(
                        key,
                        format!(
                            "needs the variable {name}, which is not set; set it, or write \
                             ${{{name}:-a default}}"
                        ),
                    ));
                }
            }
            rest = behind;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn wrong(&self, key: &str, why: impl Into<String>) -> ConfigError {
        ConfigError::Server { server: self.name.to_owned(), key: key.to_owned(), why: why.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Configured>, ConfigError> {
        parse(text, |name| (name == "KEY").then(|| "k1".to_owned()))
    }

    fn entry(entry: &str) -> Result<Configured, ConfigError> {
        Ok(parsed(&format!(r#"{{"mcpServers": {{"it": {entry}}}}}"#))?.remove(0))
    }

    fn described(text: &str) -> String {
        format!("{:?}", entry(text).expect("a server").spec)
    }

    #[test]
    fn a_command_has_arguments_environment_and_directory() {
        let text = described(
            r#"{"command": "npx", "args": ["-y", "${KEY}", "${NONE:-d}", "${odd form}"],
                "env": {"A": "${env:KEY}", "PORT": 3000}, "cwd": "/srv", "autoApprove": []}"#,
        );
        for part in [r#""npx""#, r#""-y""#, r#""k1""#, r#""d""#, "${odd form}", "3000", "/srv"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[cfg(feature = "http-client")]
    #[test]
    fn a_url_has_headers_whose_values_are_shown_nowhere() {
        for kind in ["", r#""type": "http","#, r#""type": "streamable-http","#] {
            let text = described(&format!(
                r#"{{{kind} "url": "http://localhost:1/mcp", "headers": {{"X-Key": "${{KEY}}"}}}}"#
            ));
            assert!(text.contains("localhost:1") && text.contains("x-key"), "{text}");
            assert!(!text.contains("k1"), "{text}");
        }
    }

    #[test]
    fn disabled_servers_are_read_and_marked() {
        let command = r#""command": "true""#;
        let marks = [("", false), (r#", "disabled": true"#, true), (r#", "enabled": false"#, true)];
        for (mark, wanted) in marks {
            assert_eq!(entry(&format!("{{{command}{mark}}}")).unwrap().is_disabled, wanted);
        }
    }

    #[test]
    fn mistakes_name_server_and_key() {
        let cases = [
            ("7", "server `it`: `it` must be an object with a `command` or a `url`"),
            ("{}", "server `it`: `command` is missing, and so is `url`"),
            (r#"{"command": 7}"#, "server `it`: `command` must be a text"),
            (r#"{"command": " "}"#, "server `it`: `command` is empty"),
            (r#"{"command": "a", "args": "b"}"#, "server `it`: `args` must be a list of texts"),
            (r#"{"command": "a", "env": {"B": []}}"#, "server `it`: `env.B` must be a text"),
            (r#"{"command": "a", "disabled": 1}"#, "server `it`: `disabled` must be true or false"),
            (
                r#"{"command": "${NONE}"}"#,
                "server `it`: `command` needs the variable NONE, which is not set; set it, or \
                 write ${NONE:-a default}",
            ),
            (
                r#"{"type": "ws", "url": "ws://a"}"#,
                "server `it`: `type` is none of `stdio`, `http` and `streamable-http`",
            ),
        ];
        for (text, said) in cases {
            assert_eq!(entry(text).unwrap_err().to_string(), said);
        }
        let sse = entry(r#"{"type": "sse", "url": "http://localhost/sse"}"#).unwrap_err();
        assert!(sse.to_string().starts_with("server `it`: `type` is `sse`"), "{sse}");
        assert!(matches!(parsed("{}").unwrap_err(), ConfigError::NoServers));
        assert!(matches!(parsed("{").unwrap_err(), ConfigError::Json(_)));
        assert!(parsed(r#"{"mcpServers": {}, "theme": "dark"}"#).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("/no/such/file.json")).unwrap_err();
        assert_eq!(error.to_string(), "reading /no/such/file.json");
    }
}
