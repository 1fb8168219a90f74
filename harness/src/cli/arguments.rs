//! What may be given on the command line. Raw arguments end here: the rest sees [`crate::plan::Choices`].

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::Refusal;
use super::campaign::{CampaignArguments, MergeArguments};
use super::common::{Common, duration};
use super::gate::GateArguments;
use super::init::InitArguments;
use super::sweep::SweepArguments;
use crate::lifecycle::client::{ConfigStyle, ROUNDS, RoundsBy};
use crate::lifecycle::scenario::nearest;
use crate::plan::client::Client;
use crate::plan::sweep::Extent;

/// The leak gate for the Model Context Protocol: sinks MCP connections on purpose and checks that
/// everything drains.
#[derive(Debug, Parser)]
#[command(name = "scupper", version, disable_help_subcommand = true)]
#[command(after_help = "Exit codes: 0 clean, 1 leak or unmet expectation, 2 usage or scenario \
                        error, 3 nothing judged or could not look, 4 invalid run, 130 interrupted.")]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Judge a stdio server, those of a file of servers, or an HTTP server (`--http`)
    ///
    /// Starts COMMAND again and again, ends its life at every moment that a host can end it, and
    /// looks whether processes, descriptors, threads, zombies or temporary files stay behind.
    Server(ServerArguments),
    /// Judge a client or host
    ///
    /// Starts COMMAND again and again, plays the servers that it starts, well-behaved and not, ends
    /// its life at every moment, and looks which servers stay behind. In COMMAND, `{server}` is a
    /// server's command line as one shell word list, `{command}` and `{args}` are its parts, and
    /// `{config}` is a file with `mcpServers`; the variables SCUPPER_SERVER, SCUPPER_COMMAND,
    /// SCUPPER_ARGS and SCUPPER_CONFIG hold the same.
    Client(ClientArguments),
    /// Judge scripted scenarios
    Run(RunArguments),
    /// Play generated lifecycles on our own core or on any stdio server
    ///
    /// The same seed is the same lifecycle on every machine. Without more the core is played on in
    /// memory, hundreds a second, beside a model that says after each step what must exist. With
    /// `--real` its host is given real servers, and with `-- COMMAND` that server is judged: each
    /// lifecycle in a cell of its own, by the kernel. A finding is made shorter, confirmed alone in a
    /// fresh cell, and written as a scenario file.
    Campaign(CampaignArguments),
    /// Put the reports of the shards of a campaign together
    Merge(MergeArguments),
    /// Judge reports against a baseline, thresholds or an older report
    ///
    /// What a run has written with `--json` is judged again, without a run. A baseline is strict both
    /// ways: a finding that it does not list is red, and so is an entry that is gone or has expired.
    Gate(GateArguments),
    /// Repeat one finding from its scenario file
    Replay(ReplayArguments),
    /// Be a misbehaving server, or its clean twin
    Fake(FakeArguments),
    /// Be a misbehaving client, or its clean twin
    FakeClient(FakeClientArguments),
    /// List lifecycles, fakes, fake clients, probes or rules, one line each
    List(ListArguments),
    /// Write a starter workflow and a baseline for the server that a folder holds
    ///
    /// The server is found by package.json, pyproject.toml, Cargo.toml or .mcp.json. A file that is there
    /// is left as it is.
    Init(InitArguments),
    /// Tell what this host can prove, tier by tier
    Doctor,
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write man pages, one for each subcommand, into a folder
    Man {
        /// The folder; it is made where there is none
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// Arguments of `scupper server`.
#[derive(Debug, Args)]
pub struct ServerArguments {
    /// Common options.
    #[command(flatten)]
    pub common: Common,
    /// The byte sweep.
    #[command(flatten)]
    pub sweep: SweepArguments,
    /// Also call this tool, with these arguments (repeatable; the first is the one that is in flight
    /// when an end comes); tools marked read-only and
    /// closed-world are called unasked
    #[arg(long = "call", value_name = "TOOL[=JSON]")]
    pub calls: Vec<String>,
    /// Judge an HTTP server: COMMAND starts it, and here it is reached. `{port}` in URL and COMMAND is a
    /// free port; many servers take theirs by `env PORT={port} COMMAND`
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "names"])]
    pub http: Option<String>,
    /// Send this header with every request to an HTTP server (repeatable); `$NAME` and `${NAME}` are
    /// variables of the environment, whose values are shown nowhere
    #[arg(long = "header", value_name = "K: V", requires = "http")]
    pub headers: Vec<String>,
    /// Of an HTTP server: a session that no client uses may live so long, and is a leak if it answers
    /// later. When not given, what abandoned sessions hold is told and counts for nothing
    #[arg(long, value_name = "DUR", value_parser = duration, requires = "http")]
    pub session_ttl: Option<Duration>,
    /// Judge the servers of this file, as hosts keep it: `mcpServers` or `servers`
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    pub config: Option<PathBuf>,
    /// Of the servers of that file, judge only these
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// The server's command line
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Arguments of `scupper client`.
#[derive(Debug, Args)]
pub struct ClientArguments {
    /// Common options.
    #[command(flatten)]
    pub common: Common,
    /// The byte sweep.
    #[command(flatten)]
    pub sweep: SweepArguments,
    /// How the file that `{config}` names is spelled
    #[arg(long, value_name = "STYLE", default_value = "claude", value_parser = config_style)]
    pub config_style: ConfigStyle,
    /// The client lives on and does its work once for each line on its stdin: judge also what grows in
    /// it, over `--cycles` rounds
    #[arg(long, conflicts_with = "rounds_arg")]
    pub long_lived: bool,
    /// The same of a client that is told how often to do its work: this word, or several (repeatable),
    /// come after COMMAND then; `{rounds}` is the number, in COMMAND as well
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub rounds_arg: Vec<String>,
    /// The client's command line
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Arguments of `scupper run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Common options.
    #[command(flatten)]
    pub common: Common,
    /// Drop at every poll.
    #[command(flatten)]
    pub polls: PollArguments,
    /// Scenario files, or folders of them
    #[arg(default_value = "scenarios", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// Options of drop at every poll.
#[derive(Debug, Args)]
pub struct PollArguments {
    /// Play the scenarios whose subject is the core again and again, the future of each step dropped
    /// after each of its polls
    #[arg(long)]
    pub torture: bool,
    /// Of the polls of each step only a sample of N, which always holds the first and the last
    #[arg(long, value_name = "N", requires = "torture")]
    pub shallow: Option<usize>,
    /// Only this part of the scenarios, from 1, of so many
    #[arg(long, value_name = "I/N", requires = "torture", value_parser = super::sweep::shard)]
    pub shard: Option<(usize, usize)>,
}

impl PollArguments {
    /// How much of it is wanted; none where it is not asked for.
    pub fn extent(&self) -> Option<Extent> {
        self.torture.then_some(Extent { shallow: self.shallow, shard: self.shard })
    }
}

/// Arguments of `scupper replay`.
#[derive(Debug, Args)]
pub struct ReplayArguments {
    /// Common options.
    #[command(flatten)]
    pub common: Common,
    /// The scenario file
    #[arg(value_name = "CASE.toml")]
    pub path: PathBuf,
}

/// Arguments of `scupper fake`.
#[derive(Debug, Args)]
pub struct FakeArguments {
    /// Name of the fake, or `reference`; see `scupper list fakes`
    pub name: String,
    /// Be its clean twin
    #[arg(long)]
    pub fixed: bool,
    /// Serve HTTP at this port of 127.0.0.1 (0: any), until SIGTERM or SIGINT; the address is the first
    /// line on stdout
    #[arg(long, value_name = "PORT")]
    pub http: Option<u16>,
    /// Options of the fake
    #[arg(value_name = "KEY=VALUE")]
    pub options: Vec<String>,
}

/// Arguments of `scupper fake-client`.
#[derive(Debug, Args)]
pub struct FakeClientArguments {
    /// Name of the fake; see `scupper list fake-clients`
    pub name: String,
    /// Be its clean twin
    #[arg(long)]
    pub fixed: bool,
    /// Start the servers of this file, `mcpServers` as JSON
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    pub config: Option<PathBuf>,
    /// Be a client over HTTP, of the server at this URL
    #[arg(long, value_name = "URL", conflicts_with_all = ["server", "config"])]
    pub url: Option<String>,
    /// Options of the fake
    #[arg(value_name = "KEY=VALUE")]
    pub options: Vec<String>,
    /// The server's command line
    #[arg(last = true, value_name = "SERVER")]
    pub server: Vec<String>,
}

/// Arguments of `scupper list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// What to list
    #[arg(default_value = "lifecycles")]
    pub what: Listed,
}

/// What can be listed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Listed {
    /// The built-in lifecycles
    Lifecycles,
    /// The misbehaving servers
    Fakes,
    /// The hosts and services that scenarios can judge inside the cell
    Subjects,
    /// The misbehaving clients
    FakeClients,
    /// The kinds of things that are looked at
    Probes,
    /// The rules of the specification that findings rest on
    Rules,
}

impl ServerArguments {
    /// Refuses what names no server.
    pub fn check(&self) -> Result<(), Refusal> {
        let is_named = self.config.is_some() || !self.names.is_empty();
        if is_named || !self.command.is_empty() {
            return Ok(());
        }
        if let Some(url) = &self.http {
            return Err(Refusal::usage(format!(
                "--http {url}: which server? Give the COMMAND that starts it: scupper server --http \
                 http://127.0.0.1:{{port}}/mcp -- env PORT={{port}} node server.js; one that runs \
                 already cannot be judged: it has to be started in the cell to be looked into"
            )));
        }
        Err(Refusal::usage(
            "which server? Give the COMMAND that starts it: scupper server -- npx -y PACKAGE; or a \
             file of servers: scupper server --config .mcp.json",
        ))
    }
}

impl ClientArguments {
    /// The client to judge, or why there is none.
    pub fn client(&self) -> Result<Client, Refusal> {
        if self.command.is_empty() {
            return Err(Refusal::usage(
                "which client? Give the COMMAND that starts it, and in it the place of its server: \
                 scupper client -- python client.py {command} {args}",
            ));
        }
        let told = self.command.iter().chain(&self.rounds_arg).any(|word| word.contains(ROUNDS));
        let rounds_by = match (self.long_lived, self.rounds_arg.as_slice()) {
            (true, _) => Some(RoundsBy::Lines),
            (false, words) if told => Some(RoundsBy::Words(words.to_vec())),
            (false, []) => None,
            (false, words) => {
                return Err(Refusal::usage(format!(
                    "--rounds-arg {}: no word of it says how many; write {ROUNDS} for the number",
                    words.join(" ")
                )));
            }
        };
        Ok(Client { command: self.command.clone(), style: self.config_style, rounds_by })
    }
}

/// The refusal of ids that no lifecycle has, with those that were meant.
pub fn no_such_lifecycle(unknown: &[&str], known: &[&str]) -> Refusal {
    let meant: Vec<String> = unknown
        .iter()
        .filter_map(|unknown| {
            // Who writes the last part alone is told it alone.
            let last_parts = known.iter().filter_map(|id| id.rsplit('/').next());
            let last_parts: Vec<&str> = last_parts.collect();
            let near = nearest(unknown, if unknown.contains('/') { known } else { &last_parts });
            near.map(|near| format!("`{near}`"))
        })
        .collect();
    let hint = match meant.is_empty() {
        true => String::new(),
        false => format!("did you mean {}? ", meant.join(" and ")),
    };
    let unknown = unknown.join(" or ");
    Refusal::usage(format!("no lifecycle is called {unknown}; {hint}see `scupper list lifecycles`"))
}

fn config_style(text: &str) -> Result<ConfigStyle, String> {
    let known =
        || ConfigStyle::ALL.iter().map(|style| style.as_str()).collect::<Vec<_>>().join(", ");
    let found = ConfigStyle::ALL.iter().copied().find(|style| style.as_str() == text);
    found.ok_or_else(|| format!("known: {}", known()))
}

/// `KEY=VALUE` arguments of a fake.
pub fn fake_options(
    options: &[String],
) -> Result<std::collections::BTreeMap<String, String>, Refusal> {
    options
        .iter()
        .map(|option| match option.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(Refusal::usage(format!("{option:?} is no KEY=VALUE option of a fake"))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_id_that_is_nearly_right_is_named() {
        let known = ["stdio/churn", "stdio/clean-close"];
        let said = |unknown: &[&str]| no_such_lifecycle(unknown, &known).message;
        assert!(said(&["churm"]).contains("; did you mean `churn`? see"));
        assert!(said(&["stdio/churm"]).contains("; did you mean `stdio/churn`? see"));
        assert!(said(&["nothing"]).contains("called nothing; see `scupper list lifecycles`"));
    }
}
