//! The client process: how it is told of its servers, its own stdin, what it writes.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use serde_json::json;

use super::super::finding;
use super::super::output::Output;
use super::rounds::played;
use crate::cell::contain::{self, Exit, Handle};
use crate::cell::protocol::ClientOrder;
use crate::ledger::snapshot::ProcessId;
use crate::lifecycle::client::{ConfigStyle, ROUNDS, RoundsBy};
use crate::peer::fake::watched;
use crate::spelled::shell_words;

/// A client that was started.
pub struct Client {
    /// Which process.
    pub id: ProcessId,
    /// How it ended, once it was reaped.
    pub exit: Option<Exit>,
    stdin: Option<ChildStdin>,
    output: Output,
}

impl Client {
    /// Starts the client of an order, whose servers find the cell at `channel`.
    ///
    /// One over HTTP is told of the server at `url` instead.
    pub fn start(
        order: &ClientOrder,
        channel: &Path,
        directory: &Path,
        url: Option<&str>,
    ) -> Result<Self, String> {
        let broken =
            |error: io::Error| format!("could not tell the client of its servers: {error}");
        let places = Places::new(order, channel, directory, url).map_err(broken)?;
        let mut words = places.fill(&order.command);
        if let (Some(_), Some(RoundsBy::Words(more))) = (order.script.rounds, &order.rounds_by) {
            words.extend(more.iter().cloned());
        }
        // In every other case it does its work once.
        let rounds = order.script.rounds.map_or(1, played).to_string();
        let words: Vec<String> =
            words.into_iter().map(|word| word.replace(ROUNDS, &rounds)).collect();
        let Some((program, arguments)) = words.split_first() else {
            return Err("there is no command".to_owned());
        };
        let mut child = Command::new(program)
            .args(arguments)
            .envs(places.variables())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| finding::not_started(program, &error.to_string()))?;
        let pid = child.id().cast_signed();
        let output = Output::of(&mut child);
        // Not reaped yet, so it is there, dead or alive.
        let id = contain::identify(pid).ok_or("the client vanished when it was started")?;
        Ok(Self { id, exit: None, stdin: child.stdin.take(), output })
    }

    /// Tells it to do its work once more, by a line on its stdin. Lines are few, and fit the pipe.
    pub fn line(&mut self) {
        if let Some(stdin) = &mut self.stdin {
            // One that is gone shows in its exit.
            let _ = stdin.write_all(b"again\n");
        }
    }

    /// Ends its own stdin.
    pub fn end_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends it a signal; one that is gone by now is no error.
    pub fn signal(&self, signal: rustix::process::Signal) {
        if let (Some(handle), None) = (Handle::open(self.id), self.exit) {
            let _ = handle.signal(signal);
        }
    }

    /// The last lines that it has written.
    pub fn last_output(&self) -> Vec<String> {
        self.output.last()
    }
}

/// What stands for each placeholder.
struct Places {
    server: Vec<String>,
    url: String,
    config: String,
}

impl Places {
    fn new(
        order: &ClientOrder,
        channel: &Path,
        directory: &Path,
        url: Option<&str>,
    ) -> io::Result<Self> {
        let text = |path: &Path| {
            path.to_str()
                .map(str::to_owned)
                .ok_or_else(|| io::Error::other("the temporary directory's name is not UTF-8"))
        };
        let channel = text(channel)?;
        let servers: Vec<Vec<String>> = order
            .script
            .servers
            .iter()
            .enumerate()
            .map(|(number, server)| {
                let mut words = vec![order.program.clone()];
                words.extend(watched::arguments(&channel, number, server));
                words
            })
            .collect();
        let name = match order.style {
            ConfigStyle::Claude | ConfigStyle::Vscode => "servers.json",
            ConfigStyle::Codex => "servers.toml",
        };
        let path = directory.join(name);
        std::fs::write(&path, config(order.style, &servers, url)?)?;
        let server = servers.into_iter().next().unwrap_or_default();
        let url = url.unwrap_or_default().to_owned();
        Ok(Self { server, url, config: text(&path)? })
    }

    /// The command with its placeholders filled in. An argument that is `{args}` and nothing else
    /// becomes as many arguments as there are.
    fn fill(&self, command: &[String]) -> Vec<String> {
        let mut words = Vec::new();
        for word in command {
            if word == "{args}" {
                words.extend(self.server.iter().skip(1).cloned());
                continue;
            }
            let filled = self.variables().into_iter().fold(word.clone(), |word, (name, value)| {
                let name = name.trim_start_matches("SCUPPER_").to_lowercase();
                word.replace(&format!("{{{name}}}"), &value)
            });
            words.push(filled);
        }
        words
    }

    /// Of a client over HTTP those that name a server to start are empty, of another the URL.
    fn variables(&self) -> [(&'static str, String); 5] {
        let (command, arguments) = match self.server.split_first() {
            Some((command, arguments)) => (command.clone(), arguments),
            None => (String::new(), &[][..]),
        };
        [
            ("SCUPPER_SERVER", shell_words(&self.server)),
            ("SCUPPER_COMMAND", command),
            ("SCUPPER_ARGS", shell_words(arguments)),
            ("SCUPPER_URL", self.url.clone()),
            ("SCUPPER_CONFIG", self.config.clone()),
        ]
    }
}

/// The text of a file of servers: those that are started, and the one that is reached at a URL.
fn config(style: ConfigStyle, servers: &[Vec<String>], url: Option<&str>) -> io::Result<String> {
    let mut entries = serde_json::Map::new();
    for (number, server) in servers.iter().enumerate() {
        let Some((command, arguments)) = server.split_first() else { continue };
        let mut entry = json!({ "command": command, "args": arguments });
        if style == ConfigStyle::Vscode {
            entry["type"] = "stdio".into();
        }
        entries.insert(format!("scupper-{}", number + 1), entry);
    }
    if let Some(url) = url {
        let entry = match style {
            ConfigStyle::Claude | ConfigStyle::Vscode => json!({ "type": "http", "url": url }),
            // Codex knows a server over HTTP by its URL alone.
            ConfigStyle::Codex => json!({ "url": url }),
        };
        entries.insert("scupper-1".to_owned(), entry);
    }
    match style {
        ConfigStyle::Claude => Ok(json!({ "mcpServers": entries }).to_string()),
        ConfigStyle::Vscode => Ok(json!({ "servers": entries }).to_string()),
        ConfigStyle::Codex => {
            toml::to_string(&json!({ "mcp_servers": entries })).map_err(io::Error::other)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        let server = ["/opt/my tools/scupper", "__peer", "/tmp/x", "0", "plain"].map(str::to_owned);
        Places { server: server.into(), url: String::new(), config: "/tmp/servers.json".into() }
    }

    #[test]
    fn placeholders_are_filled_in_whole_and_in_part() {
        let command = ["sh", "-c", "exec client {server}", "{command}", "{args}", "--c={config}"];
        let filled = places().fill(&command.map(str::to_owned));
        let expected = [
            "sh",
            "-c",
            "exec client '/opt/my tools/scupper' __peer /tmp/x 0 plain",
            "/opt/my tools/scupper",
            "__peer",
            "/tmp/x",
            "0",
            "plain",
            "--c=/tmp/servers.json",
        ];
        assert_eq!(filled, expected);
    }

    #[test]
    fn a_file_of_servers_is_spelled_as_each_host_has_it() {
        let servers = [vec!["a".to_owned(), "b c".to_owned()]];
        let text = |style| config(style, &servers, None).expect("it can be written");
        assert_eq!(
            text(ConfigStyle::Claude),
            r#"{"mcpServers":{"scupper-1":{"args":["b c"],"command":"a"}}}"#
        );
        assert!(text(ConfigStyle::Vscode).starts_with(r#"{"servers":{"scupper-1":{"#));
        let codex: toml::Table = text(ConfigStyle::Codex).parse().expect("it is TOML");
        assert_eq!(codex["mcp_servers"]["scupper-1"]["args"][0].as_str(), Some("b c"));
    }
}
