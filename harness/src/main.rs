//! The `scupper` program: parse, run, report, gate.

use std::process::ExitCode;

use clap::Parser;
use harness::cell;
use harness::cli::arguments::{
    Arguments, Command, FakeArguments, FakeClientArguments, fake_options,
};
use harness::cli::{
    Ended, REFERENCE, Refusal, campaign, client, gate, init, pages, run, server, show,
};
use harness::lifecycle::scenario::FakeSpec;
use harness::peer::{fake, fake_client};

fn main() -> ExitCode {
    let raw: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    // Cells, clients and sentinels are this very program; they parse nothing else.
    if let Some(ended) = cell::hidden_mode(&raw) {
        return code(ended.map_err(|error| Refusal::ours(error.to_string())));
    }
    code(match Arguments::parse().command {
        Command::Server(arguments) => server::run(&arguments),
        Command::Client(arguments) => client::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Campaign(arguments) => campaign::run(&arguments),
        Command::Merge(arguments) => campaign::merge(&arguments),
        Command::Gate(arguments) => gate::run(&arguments),
        Command::Replay(arguments) => run::replay(&arguments),
        Command::List(arguments) => show::list(arguments.what),
        Command::Init(arguments) => init::run(&arguments),
        Command::Doctor => show::doctor(),
        Command::Completions { shell } => pages::completions(shell),
        Command::Man { folder } => pages::man(&folder),
        Command::Fake(arguments) => be(&arguments),
        Command::FakeClient(arguments) => be_client(&arguments),
    })
}

/// Becomes a server of ours.
fn be(arguments: &FakeArguments) -> Ended {
    let options = fake_options(&arguments.options)?;
    if arguments.name == REFERENCE {
        #[cfg(feature = "core")]
        return arguments
            .http
            .map_or_else(harness::peer::reference::run, harness::peer::reference::run_http)
            .map_err(|error| Refusal::ours(format!("the reference server: {error}")));
        #[cfg(not(feature = "core"))]
        return Err(Refusal::usage(
            "this build has no reference server on rmcp (feature `core`); `plain` is our own",
        ));
    }
    let spec = FakeSpec { name: arguments.name.clone(), fixed: arguments.fixed, options };
    let wrong = |error: fake::FakeError| Refusal::usage(error.to_string());
    match arguments.http {
        None => fake::run(&spec).map_err(wrong),
        Some(port) => fake::run_http(&spec, port)
            .map_err(wrong)?
            .map_err(|error| Refusal::usage(format!("serving on 127.0.0.1:{port}: {error}"))),
    }
}

/// Becomes a client of ours.
fn be_client(arguments: &FakeClientArguments) -> Ended {
    let options = fake_options(&arguments.options)?;
    let spec = FakeSpec { name: arguments.name.clone(), fixed: arguments.fixed, options };
    let url = match (&arguments.url, &arguments.config) {
        (None, Some(file)) => fake_client::http::url_of(file)
            .map_err(|error| Refusal::usage(format!("{}: {error}", file.display())))?,
        (url, _) => url.clone(),
    };
    if let Some(url) = url {
        return fake_client::http::run(&spec, &url)
            .map_err(|error| Refusal::usage(error.to_string()));
    }
    let servers = match &arguments.config {
        Some(file) => fake_client::servers_of(file),
        None => Ok(vec![arguments.server.clone()]),
    };
    let servers = servers.map_err(|error| Refusal::usage(error.to_string()))?;
    fake_client::run(&spec, &servers).map_err(|error| Refusal::usage(error.to_string()))
}

fn code(ended: Ended) -> ExitCode {
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(refusal) => {
            eprintln!("scupper: {}", refusal.message);
            ExitCode::from(refusal.code)
        }
    }
}
